"""Names of users by uid, without ever waiting for a directory service."""

import pwd
import threading
from pathlib import Path

from supervisor.sampling.files import printable


class UserNames:
    """Looks in the passwd file first; any other uid (LDAP, sssd) is asked for in a thread, and is a number until then.

    A name service that hangs must not stop the sampler: `getpwuid` may take minutes when a directory is away.
    """

    def __init__(self, passwd: Path = Path("/etc/passwd")) -> None:
        """Reads `passwd` once."""
        self._names: dict[int, str] = {}
        try:
            lines = printable(passwd.read_bytes()).split("\n")
        except OSError:
            lines = []
        for line in lines:
            name, _, rest = line.partition(":")
            uid = rest.split(":")[1:2]
            if uid and uid[0].isdigit():
                self._names.setdefault(int(uid[0]), name)

    def __getitem__(self, uid: int) -> str:
        """The name, or the number as text where there is none (yet)."""
        name = self._names.get(uid)
        if name is None:
            self._names[uid] = name = str(uid)
            # A daemon thread: one that hangs in the name service must not hold up our exit.
            threading.Thread(target=self._ask, args=(uid,), name=f"user-name-{uid}", daemon=True).start()
        return name

    def _ask(self, uid: int) -> None:
        try:
            self._names[uid] = printable(pwd.getpwuid(uid).pw_name)
        except KeyError:
            return  # it has no name; the number stands
