"""Where the SDK looks for the bus, and whom it does not believe."""

import os
import socket
from pathlib import Path

import pytest

from flyball import bus
from flyball.bus import BusLost, candidates, check, described
from flyball.identity import host_name


def test_the_places_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "SYSTEM_SOCKET", Path("/run/flyball/bus.sock"))
    assert candidates({"FLYBALL_STATE_DIR": "/srv/state", "XDG_STATE_HOME": "/home/me/xdg", "HOME": "/home/me"}) == [
        "unix:///srv/state/bus.sock",
        "unix:///home/me/xdg/flyball/bus.sock",
        "unix:///run/flyball/bus.sock",
    ]


@pytest.mark.parametrize("xdg", [{}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "relative"}])
def test_the_xdg_default(xdg: dict[str, str]) -> None:
    assert candidates({"HOME": "/home/me", **xdg})[0] == "unix:///home/me/.local/state/flyball/bus.sock"


def test_a_named_bus_is_the_only_one() -> None:
    assert candidates({"FLYBALL_URL": "rediss://box:6380", "FLYBALL_STATE_DIR": "/srv"}) == ["rediss://box:6380"]


def test_tcp_where_it_is_named() -> None:
    check("redis://box")
    check("rediss://box")


@pytest.mark.parametrize("url", ["http://box", "box:6379", "redis//box", "unix://[x"])
def test_what_is_no_bus(url: str) -> None:
    with pytest.raises(BusLost, match="FLYBALL_URL"):
        check(url)


def test_own_sockets_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bus.sock"
    with pytest.raises(BusLost, match="No such file"):
        check(f"unix://{path}")
    path.write_text("")
    with pytest.raises(BusLost, match="is not a socket"):
        check(f"unix://{path}")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        check(f"unix://{path}")
        owner = path.stat().st_uid
        monkeypatch.setattr("os.getuid", lambda: owner + 1)
        if owner == 0:
            check(f"unix://{path}")
            os.chown(path, 4711, -1)
        with pytest.raises(BusLost, match="neither this user nor root"):
            check(f"unix://{path}")


def test_passwords_are_not_described() -> None:
    assert described("redis://workload:secret@box:6379/0") == "redis://box:6379/0"
    assert described("unix://workload:secret@/run/bus.sock") == "unix:///run/bus.sock"


@pytest.mark.parametrize(
    ("name", "usable"), [("box", "box"), ("gpu box/1", "gpu-box-1"), ("é" * 70, "-" * 64), ("a.b-c_d", "a.b-c_d")]
)
def test_the_host_name_is_the_supervisors(name: str, usable: str) -> None:
    from supervisor.identity import host_name as supervisors

    assert host_name({"FLYBALL_HOST": name}) == usable == supervisors(name)
    assert host_name({}) == supervisors()
