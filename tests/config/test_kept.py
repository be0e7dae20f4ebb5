"""What was set through the API outlives the process, and a damaged file of it is told in words."""

import stat
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
