"""Names of users, with a name service that may be slow."""

import pwd
import threading
from pathlib import Path

import pytest

from supervisor.sampling.users import UserNames


def answered() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("user-name-"):
            thread.join()


def test_the_file_comes_first(tmp_path: Path) -> None:
    passwd = tmp_path / "passwd"
    passwd.write_text("ml:x:1001:1001::/home/ml:/bin/sh\n\nbroken\n+::::::\nalso:x:1001:1::/:/bin/sh\n")
    assert UserNames(passwd)[1001] == "ml"


def test_a_name_that_is_not_utf8_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passwd = tmp_path / "passwd"
    passwd.write_bytes(b"m\xfcller:x:1001:1001::/:/bin/sh\n")
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd(("m\udcfcller", "x", uid, uid, "", "/", "")))
    users = UserNames(passwd)
    assert users[1001] == r"m\xfcller"
    assert users[4711] in ("4711", r"m\xfcller")
    answered()
    assert users[4711] == r"m\xfcller"


def test_another_uid_is_a_number_until_the_name_service_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def slow(uid: int) -> pwd.struct_passwd:
        asked.wait()
        return pwd.struct_passwd(("ldap-user", "x", uid, uid, "", "/", ""))

    monkeypatch.setattr(pwd, "getpwuid", slow)
    users = UserNames(tmp_path / "missing")
    assert [users[4711], users[4711]] == ["4711", "4711"]
    asked.set()
    answered()
    assert users[4711] == "ldap-user"


def test_a_uid_without_a_name_stays_a_number(tmp_path: Path) -> None:
    users = UserNames(tmp_path / "missing")
    assert users[3_999_999_999] == "3999999999"
    answered()
    assert users[3_999_999_999] == "3999999999"
