"""What could be reserved, read from the supervisor's status on a real bus."""

import msgspec
import pytest

import flyball
from schemas.status import MemoryStatus
from supervisor.bus.keys import status_key
from tests.busservers import BusServer
from tests.sdk.supervision import HOST, WORKLOAD_RIGHTS, Lines, Supervisor

MIB = 2**20


def say(supervisor: Supervisor, available: dict[str, int | None], host: str = HOST) -> None:
    """A status in which this stands, as the supervisor writes it."""
    memory = [
        MemoryStatus(target=target, limit_bytes=None, reserved_bytes=0, available_bytes=size)
        for target, size in available.items()
    ]
    rows = msgspec.to_builtins(memory)
    supervisor.client.set(status_key(host), msgspec.json.encode({"host": host, "gpus": [], "memory": rows}))


def test_whole_mebibytes_of_a_card(supervisor: Supervisor) -> None:
    say(supervisor, {"gpu0": 2048 * MIB + MIB - 1, "gpu1": 0, "gpu3": None, "host": 16384 * MIB})
    say(supervisor, {"gpu0": 5 * MIB}, "other-box")
    assert flyball.available() == 2048
    assert flyball.available(gpu=1) == 0
    assert flyball.available(2) is None
    assert flyball.available(3) is None
    assert flyball.available(host="other-box") == 5


@pytest.mark.parametrize("text", ["", "{}", "[", '{"memory": []}', '{"memory": null}', '{"memory": [{}]}'])
def test_unknown_is_not_nothing(supervisor: Supervisor, lines: Lines, text: str) -> None:
    supervisor.client.set(status_key(HOST), text)
    assert flyball.available() is None
    assert lines.warnings == []


def test_no_status_and_no_bus(supervisor: Supervisor, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    assert flyball.available() is None
    monkeypatch.setenv("FLYBALL_URL", "unix:///nowhere")
    assert flyball.available() is None
    monkeypatch.setenv("FLYBALL_SHARD", "east")
    assert flyball.available() is None
    assert lines.warnings == []


def test_with_the_rights_of_a_workload(
    server: BusServer, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(supervisor, {"gpu0": 7 * MIB})
    supervisor.client.execute_command("ACL", "SETUSER", "workload", *WORKLOAD_RIGHTS)
    monkeypatch.setenv("FLYBALL_URL", f"unix://workload:secret@{server.path}")
    assert flyball.available() == 7
    supervisor.client.execute_command("ACL", "SETUSER", "workload", "-get")
    assert flyball.available() is None


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="-1 is not the index of a GPU, 0 to 9999"):
        flyball.available(-1)
    with pytest.raises(ValueError, match="not a usable name"):
        flyball.available(host="a/b")
