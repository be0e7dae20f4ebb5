"""`flyball check`: the exit codes of Nagios, and unknown is never OK."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.sample import GpuBackend
from schemas.status import FaultStatus, HandlerStatus, TargetStatus
from supervisor.bus.keys import lease_key
from supervisor.cli.check import examine_gpus
from tests.busservers import BusServer, start_bus_server
from tests.cli.conftest import HOST, Flyball, Supervisor, a_status

CODES = {"OK": 0, "WARNING": 1, "CRITICAL": 2, "UNKNOWN": 3}


def target(state: Any, *, reason: str = "because", count: int = 1) -> tuple[TargetStatus, ...]:
    return tuple(
        TargetStatus(target=f"gpu{index}", state=state, action="pause", speed=0.0, reason=reason, seq=1)
        for index in range(count)
    )


def handler(**figures: Any) -> tuple[HandlerStatus, ...]:
    return (HandlerStatus(name="throttle", **figures),)


def fault(problem: str, *, fatal: bool) -> dict[str, Any]:
    one = FaultStatus(
        kind="lost", fault_class="host", action="reboot_host", advice="reboot the host", count=1,
        since="2026-11-21T11:00:00.000Z", last="2026-11-21T11:00:00.000Z", standing=True, fatal=fatal, problem=problem,
    )  # fmt: skip
    return {"faults": {"gpu0": (one,)}, "problems": (problem,)}


def test_everything_well(flyball: Flyball, supervisor: Supervisor) -> None:
    supervisor.report(a_status())
    shown = flyball.run("check")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[0].startswith("FLYBALL OK - ")
    document = flyball.json("check")
    assert (document["schema_version"], document["host"], document["level"]) == (1, HOST, "OK")
    names = [finding["name"] for finding in document["findings"]]
    assert names == ["bus", "lease", "sample", "handler throttle", "gpu backend", "target gpu0", "target host"]


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"targets": target("BLIND")}, "CRITICAL", "target gpu0: BLIND: because"),
        ({"targets": target("BLIND", reason="BLIND: the driver hangs")}, "CRITICAL", "gpu0: BLIND: the driver hangs"),
        (
            {"targets": target("BLIND", reason="SIMULATED: BLIND since 08:14:02 UTC: it hangs")},
            "CRITICAL",
            "target gpu0: SIMULATED: BLIND since 08:14:02 UTC: it hangs",
        ),
        ({"targets": target("BLIND", count=8)}, "CRITICAL", "CRITICAL - 8 targets BLIND: gpu0 gpu1 gpu2 …"),
        ({"targets": target("BLIND", count=2)}, "CRITICAL", "CRITICAL - 2 targets BLIND: gpu0 gpu1"),
        ({"targets": target("CRITICAL")}, "WARNING", "target gpu0: CRITICAL: because"),
        ({"targets": target("UNAVAILABLE")}, "UNKNOWN", "target gpu0: UNAVAILABLE"),
        ({"handlers": handler(state="restarting", last_error="boom")}, "CRITICAL", "last error: boom"),
        ({"handlers": ()}, "UNKNOWN", "handlers: the supervisor names none"),
        ({"sample_age_s": None}, "UNKNOWN", "sample: there has been none yet"),
        ({"sample_age_s": 3.1}, "CRITICAL", "expected 3 s at most"),
        ({"gpu_backend": GpuBackend("unavailable", "driver_hangs", "try: dmesg")}, "CRITICAL", "try: dmesg"),
        ({"gpu_backend": GpuBackend("unavailable", "starting")}, "UNKNOWN", "starting"),
        ({"gpu_backend": GpuBackend("unavailable", "no_gpu"), "gpus": ()}, "OK", "FLYBALL OK"),
        ({"problems": ("the disk is full",)}, "WARNING", "problem: the disk is full"),
        (fault("gpu0: it is lost", fatal=True), "CRITICAL", "problem: gpu0: it is lost"),
        (fault("gpu0: a row is broken", fatal=False), "WARNING", "problem: gpu0: a row is broken"),
    ],
)
def test_what_is_not_well_gives_its_level(
    flyball: Flyball, supervisor: Supervisor, changes: dict[str, Any], level: str, words: str
) -> None:
    supervisor.report(a_status(**changes))
    shown = flyball.run("check")
    assert shown.returncode == CODES[level]
    first = shown.stdout.splitlines()[0]
    assert first.startswith(f"FLYBALL {level} - ")
    assert words in first


def test_every_target_is_named_below_the_first_line(flyball: Flyball, supervisor: Supervisor) -> None:
    supervisor.report(a_status(targets=target("BLIND", count=8)))
    first, *rest = flyball.run("check").stdout.splitlines()
    assert "because" not in first
    assert sum("BLIND: because" in line for line in rest) == 8


@pytest.fixture
def pci(tmp_path: Path) -> Path:
    """A PCI bus with a bridge, another maker's display, and the sound of an NVIDIA card."""
    for name, vendor, kind in (
        ("0000:00:00.0", "0x8086", "0x060000"),
        ("0000:00:02.0", "0x8086", "0x030000"),
        ("0000:65:00.1", "0x10de", "0x040300"),
    ):
        device(tmp_path, name, vendor, kind)
    return tmp_path


def device(pci: Path, name: str, vendor: str, kind: str) -> None:
    (pci / name).mkdir()
    (pci / name / "vendor").write_text(f"{vendor}\n")
    (pci / name / "class").write_text(f"{kind}\n")


@pytest.mark.parametrize("kind", ["0x030000", "0x030200"])
def test_a_missing_library_is_well_only_where_no_card_is_in_the_machine(pci: Path, kind: str) -> None:
    status = a_status(gpu_backend=GpuBackend("unavailable", "nvml_library_not_found", "install it"), gpus=())
    assert examine_gpus(status, pci).level == "OK"
    assert examine_gpus(status, pci / "nowhere").level == "OK"
    device(pci, "0000:65:00.0", "0x10de", kind)
    finding = examine_gpus(status, pci)
    assert finding.level == "CRITICAL"
    assert finding.text == (
        "1 NVIDIA card is in this machine (0000:65:00.0), not looked after: "
        "unavailable: nvml_library_not_found: install it"
    )


def test_without_a_report_it_is_unknown_even_where_the_bus_is_well(flyball: Flyball, supervisor: Supervisor) -> None:
    supervisor.hold_lease(for_s=15)
    shown = flyball.run("check")
    assert shown.returncode == 3
    assert "no supervisor has reported" in shown.stdout


def test_a_lost_lease_is_critical(flyball: Flyball, supervisor: Supervisor) -> None:
    """Given up, run out, and never held."""
    supervisor.report(a_status())
    for lose in (
        lambda: supervisor.client.hset(lease_key(HOST), "expires_ms", "0"),
        lambda: supervisor.hold_lease(for_s=-1),
        lambda: supervisor.client.delete(lease_key(HOST)),
    ):
        lose()
        shown = flyball.run("check")
        assert shown.returncode == 2
        assert "lease: no supervisor holds the lease" in shown.stdout


def test_an_away_bus_is_critical_even_with_a_fresh_file(flyball: Flyball, bus: BusServer) -> None:
    (bus.directory / "status.json").write_bytes(msgspec.json.encode(a_status()))
    bus.kill()
    shown = flyball.run("check")
    assert shown.returncode == 2
    assert "FLYBALL CRITICAL - bus: nothing answers" in shown.stdout


def test_a_bus_that_refuses_us_is_critical(alone: Flyball) -> None:
    with start_bus_server("embedded", ["--requirepass", "hunter2"]) as server:
        shown = alone.run("check", "--json", FLYBALL_BUS__URL=server.url)
    assert shown.returncode == 2
    assert "NOAUTH" in shown.stdout


def test_a_broken_configuration_is_critical(alone: Flyball) -> None:
    shown = alone.run("check", FLYBALL_API__PORT="x")
    assert (shown.returncode, shown.stderr) == (2, "")
    assert "api.port: 'x' is not a whole number" in shown.stdout
