"""What was set through the API outlives the process, and a damaged file of it is told in words."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.configuration.kept import FILE, Kept
from supervisor.errors import ConfigurationError


def test_what_was_written_is_read_by_its_owner_alone(tmp_path: Path) -> None:
    Kept(tmp_path).write({"throttle.temp_normal": 70, "a.list": ["x"]})
    Kept(tmp_path).write({"throttle.temp_normal": 71.5, "a.list": ["x", "y"], "a.table": {"k": True}})
    assert Kept(tmp_path).read() == {"throttle.temp_normal": 71.5, "a.list": ["x", "y"], "a.table": {"k": True}}
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_nothing_is_kept_at_first(tmp_path: Path) -> None:
    assert Kept(tmp_path).read() == {}
    assert list(tmp_path.iterdir()) == []


def test_a_draft_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    draft = tmp_path / f".{FILE}"
    draft.write_text("half")
    draft.chmod(0o666)
    Kept(tmp_path).write({"a.b": 1})
    assert Kept(tmp_path).read() == {"a.b": 1}
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_what_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.write({"a.b": 1})
    (tmp_path / f".{FILE}").mkdir()
    with pytest.raises(OSError):
        kept.write({"a.b": 2})
    assert kept.read() == {"a.b": 1}


#: Writes more than there is room for.
_WRITE_TOO_MUCH = """
import resource, sys
from pathlib import Path
from supervisor.configuration.kept import Kept

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    Kept(Path(sys.argv[1])).write({"a.b": "x" * 10_000})
except OSError as error:
    sys.exit(str(error))
"""


def test_what_finds_no_room_changes_nothing(tmp_path: Path) -> None:
    """The kernel then writes a part, and says so in a number only."""
    kept = Kept(tmp_path)
    kept.write({"a.b": 1})
    command = [sys.executable, "-c", _WRITE_TOO_MUCH, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (ended.returncode, "File too large" in ended.stderr) == (1, True)
    assert kept.read() == {"a.b": 1}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is damaged: "),
        (b'{"a.b": 1', "is damaged: "),
        (b"[1]", "is damaged: Expected `object`, got `array`"),
        (b"\xff\x00", "is damaged: "),
        (b'{"a": ' + b"[" * 100_000, "is damaged: "),
        (b'{"a.b": NaN}', "is damaged: "),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ConfigurationError) as raised:
        Kept(tmp_path).read()
    assert raised.value.exit_code == 2
    (problem,) = raised.value.problems
    assert problem.startswith(f"{tmp_path / FILE}: {why}")
    assert problem.endswith("; mend it, or remove it, which takes back what was set through the API")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(ConfigurationError, match=r"api\.json: cannot be read: Is a directory"):
        Kept(tmp_path).read()
