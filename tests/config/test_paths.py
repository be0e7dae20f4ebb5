"""Where files lie, and what makes a state directory unusable."""

import os
from pathlib import Path

import pytest

from supervisor.errors import ConfigurationError, StateDirectoryError
from supervisor.paths import bus_socket, configuration_file, prepared_state_directory, state_directory


def test_the_state_directory_follows_the_variable_then_xdg_then_home(tmp_path: Path) -> None:
    environ = {"FLYBALL_STATE_DIR": str(tmp_path / "own"), "XDG_STATE_HOME": str(tmp_path / "xdg"), "HOME": "/h"}
    assert state_directory(environ) == tmp_path / "own"
    del environ["FLYBALL_STATE_DIR"]
    assert state_directory(environ) == tmp_path / "xdg" / "flyball"
    environ["XDG_STATE_HOME"] = "relative/is/ignored"
    assert state_directory(environ) == Path("/h/.local/state/flyball")


def test_a_relative_state_directory_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert state_directory({"FLYBALL_STATE_DIR": "state"}) == tmp_path / "state"


def test_a_missing_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    made = prepared_state_directory({"FLYBALL_STATE_DIR": str(tmp_path / "a" / "b")})
    assert made.stat().st_mode & 0o777 == 0o700
    assert list(made.iterdir()) == []


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    """A service shares its socket with a group; that is the administrator's choice."""
    tmp_path.chmod(0o750)
    assert prepared_state_directory({"FLYBALL_STATE_DIR": str(tmp_path)}).stat().st_mode & 0o777 == 0o750


def test_a_directory_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StateDirectoryError, match="every user may write") as raised:
        prepared_state_directory({"FLYBALL_STATE_DIR": str(tmp_path)})
    assert "chmod 0700" in raised.value.hint
    assert raised.value.exit_code == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
def test_another_users_directory_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(StateDirectoryError, match="belongs to another user"):
        prepared_state_directory({"FLYBALL_STATE_DIR": str(tmp_path)})


@pytest.mark.parametrize("place", ["file/state", "file"])
def test_what_cannot_be_a_directory_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StateDirectoryError, match="cannot be used") as raised:
        prepared_state_directory({"FLYBALL_STATE_DIR": str(tmp_path / place)})
    assert raised.value.why


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is where even root cannot make a directory")
def test_a_place_where_nothing_can_be_written_is_refused() -> None:
    with pytest.raises(StateDirectoryError, match="cannot be used"):
        prepared_state_directory({"FLYBALL_STATE_DIR": "/proc/flyball"})


def test_a_socket_path_may_have_100_bytes_and_no_more() -> None:
    fits = Path("/" + "x" * (100 - len("/" + "/bus.sock")))
    assert len(os.fsencode(bus_socket(fits))) == 100
    with pytest.raises(StateDirectoryError, match="too deep for a socket") as raised:
        bus_socket(Path(f"{fits}é"))
    assert "FLYBALL_STATE_DIR" in raised.value.hint


def test_a_named_configuration_is_returned_even_if_it_is_missing(tmp_path: Path) -> None:
    assert configuration_file({"FLYBALL_CONFIG": str(tmp_path / "no.toml")}) == tmp_path / "no.toml"
    assert configuration_file({"XDG_CONFIG_HOME": str(tmp_path)}) in (None, Path("/etc/flyball/flyball.toml"))


def test_a_configuration_that_cannot_be_looked_for_is_no_missing_one(tmp_path: Path) -> None:
    (tmp_path / "flyball").symlink_to("x" * 300)  # cannot be looked into, not even by root
    with pytest.raises(ConfigurationError) as raised:
        configuration_file({"XDG_CONFIG_HOME": str(tmp_path)})
    (problem,) = raised.value.problems
    assert problem == (
        f"{tmp_path}/flyball/flyball.toml: cannot be looked for: File name too long; open its directory to this user, "
        "or set FLYBALL_CONFIG to a file"
    )
