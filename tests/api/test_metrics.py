"""The figures for Prometheus: what is known, in the units of their names, and nothing that is not."""

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from msgspec.structs import replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from schemas.event import FaultKind
from schemas.sample import Gpu, GpuBackend, GpuProcess, Host, Pressure
from schemas.status import (
    BusStatus,
    FaultStatus,
    HandlerStatus,
    LeaseStatus,
    MemoryStatus,
    OverrideStatus,
    Status,
    TargetStatus,
    WorkloadStatus,
)
from supervisor.api import metrics
from supervisor.api.dcgm import DCGM_FAMILIES
from supervisor.api.families import FAMILIES
from supervisor.api.metricstable import TABLE, table

ROOT = Path(__file__).parents[2]
GIB = 1 << 30
STALE_AFTER_S = 3.0


def fault(kind: FaultKind, last: str, **more: Any) -> FaultStatus:
    """A fault of a card."""
    return FaultStatus(
        kind=kind, fault_class="gpu", action="reset_gpu", advice="reset it", count=1, since=last, last=last, **more
    )


FULL = Gpu(
    index=1, uuid="GPU-1", name='H100 "80GB"\\', pci_bus_id="00000000:01:00.0", temperature_celsius=61.5,
    temperature_margin_celsius=20.0, memory_total_bytes=80 * GIB, memory_used_bytes=20 * GIB,
    memory_reserved_bytes=GIB, utilization_ratio=0.5, memory_utilization_ratio=0.25, power_watts=412.5,
    power_limit_watts=700.0, clock_sm_mhz=1755, clock_memory_mhz=2619, fan_ratio=0.4,
    throttle_reasons=("sw_power_cap", "0x400"), violation_sw_thermal_ns=1_500_000_000, violation_hw_thermal_ns=0,
    violation_power_brake_ns=1, ecc_corrected_total=3, ecc_uncorrected_total=0, remapped_rows_corrected=1,
    remapped_rows_uncorrected=2, remapped_rows_pending=True, remapped_rows_failed=False,
    recovery_action="gpu_reset", processes=(GpuProcess(1), GpuProcess(2)),
)  # fmt: skip
#: what a card without fans and ECC tells
PLAIN = Gpu(index=0, uuid="GPU-0", name="T4", pci_bus_id="00000000:00:00.0", temperature_celsius=40.0)
BLIND = Gpu(index=2, uuid="GPU-2", name="H100", pci_bus_id="00000000:02:00.0", reading="blind", reason="it hangs")

STATUS = Status(
    host="box", time="2026-11-21T12:00:00.000Z", version="0.1.0", bus=BusStatus(url="", kind="redis", spooled=2),
    lease=LeaseStatus(3), sample_age_s=0.4, gpu_backend=GpuBackend("ok", xid_sources=("nvml",)),
    gpus=(PLAIN, FULL, BLIND),
    host_memory=Host(
        cpu_count=64, cpu_busy_ratio=0.1, load_1m=1.5, load_5m=2.0, load_15m=3.0, memory_total_bytes=512 * GIB,
        memory_available_bytes=128 * GIB, swap_total_bytes=0, swap_used_bytes=0,
        pressure=Pressure(cpu_some_ratio=0.2, memory_full_ratio=0.0),
    ),
    targets=(
        TargetStatus(target="gpu0", state="NORMAL", action="run", speed=0.8, reason="", seq=(3 << 32) + 1),
        TargetStatus(
            target="workload.a", state=None, action="pause", speed=0.0, reason="", seq=(3 << 32) + 7,
            override=OverrideStatus("alice", "2026-11-21T13:00:00Z", "pause", 0.0),
        ),
    ),
    memory=(
        MemoryStatus(
            target="gpu0", limit_bytes=80 * GIB, reserved_bytes=2 * GIB, available_bytes=70 * GIB,
            reservations=("a", "b"),
        ),
        MemoryStatus(target="host", limit_bytes=None, reserved_bytes=GIB, available_bytes=None, reservations=("a",)),
    ),
    workloads=(WorkloadStatus(name="a", state="joined", counts={"tokens": 12.0, "debt": -1.0}),),
    handlers=(
        HandlerStatus(name="throttle", state="running", lag=4, handled=100, results=7, failed=1, restarts=2),
        HandlerStatus(name="slow", state="stuck for 9 s"),
    ),
    faults={
        "gpu1": (
            fault("xid", "2026-11-21T11:00:00.000Z", xid=13),
            fault("xid", "2026-11-21T11:00:02.000Z", xid=79, standing=True),
            fault("power_brake", "2026-11-21T11:00:05.000Z"),
        ),
    },
    xids={"gpu1": {"13": 1, "79": 2}},
    problems=("something",),
)  # fmt: skip


def figures(status: Status = STATUS, *, dcgm: bool = False) -> dict[str, float]:
    """Name with labels → figure, as they stand in the text."""
    families = FAMILIES + DCGM_FAMILIES if dcgm else FAMILIES
    body, _ = metrics.exposition(metrics.without_stale(status, STALE_AFTER_S), families, "")
    lines = [line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#")]
    found = {name.removeprefix("flyball_"): float(value) for name, _, value in lines}
    assert len(found) == len(lines)
    return found


def about(subject: str, found: dict[str, float]) -> dict[str, float]:
    """The figures with that label."""
    return {name: value for name, value in found.items() if subject in name}


@asynccontextmanager
async def server(**options: Any) -> AsyncIterator[str]:
    application = web.Application()
    application.add_routes(metrics.routes(lambda: STATUS, lambda: STALE_AFTER_S, **options))
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
    finally:
        await runner.cleanup()


def test_a_card_has_its_figures_in_the_units_of_their_names() -> None:
    card = 'gpu="1",uuid="GPU-1"'
    assert about('uuid="GPU-1"', figures()) == {
        r'gpu_info{gpu="1",name="H100 \"80GB\"\\",pci_bus_id="00000000:01:00.0",uuid="GPU-1"}': 1,
        f"gpu_up{{{card}}}": 1,
        f"gpu_temperature_celsius{{{card}}}": 61.5,
        f"gpu_temperature_margin_celsius{{{card}}}": 20,
        f"gpu_memory_total_bytes{{{card}}}": 80 * GIB,
        f"gpu_memory_used_bytes{{{card}}}": 20 * GIB,
        f"gpu_memory_driver_reserved_bytes{{{card}}}": GIB,
        f"gpu_utilization_ratio{{{card}}}": 0.5,
        f"gpu_memory_utilization_ratio{{{card}}}": 0.25,
        f"gpu_power_watts{{{card}}}": 412.5,
        f"gpu_power_limit_watts{{{card}}}": 700,
        f"gpu_clock_sm_hertz{{{card}}}": 1.755e9,
        f"gpu_clock_memory_hertz{{{card}}}": 2.619e9,
        f"gpu_fan_ratio{{{card}}}": 0.4,
        f"gpu_processes{{{card}}}": 2,
        'gpu_throttle_reason{gpu="1",reason="sw_power_cap",uuid="GPU-1"}': 1,
        'gpu_throttle_reason{gpu="1",reason="0x400",uuid="GPU-1"}': 1,
        'gpu_violation_seconds_total{gpu="1",reason="sw_thermal",uuid="GPU-1"}': 1.5,
        'gpu_violation_seconds_total{gpu="1",reason="hw_thermal",uuid="GPU-1"}': 0,
        'gpu_violation_seconds_total{gpu="1",reason="power_brake",uuid="GPU-1"}': 1e-9,
        'gpu_ecc_errors_total{gpu="1",kind="corrected",uuid="GPU-1"}': 3,
        'gpu_ecc_errors_total{gpu="1",kind="uncorrected",uuid="GPU-1"}': 0,
        'gpu_remapped_rows_total{gpu="1",kind="corrected",uuid="GPU-1"}': 1,
        'gpu_remapped_rows_total{gpu="1",kind="uncorrected",uuid="GPU-1"}': 2,
        'gpu_fault{gpu="1",kind="xid",uuid="GPU-1"}': 1,
        'gpu_fault{gpu="1",kind="power_brake",uuid="GPU-1"}': 0,
        'gpu_xid_errors_total{gpu="1",uuid="GPU-1",xid="13"}': 1,
        'gpu_xid_errors_total{gpu="1",uuid="GPU-1",xid="79"}': 2,
        'gpu_recovery_action{action="gpu_reset",gpu="1",uuid="GPU-1"}': 1,
        f"gpu_remapped_rows_pending{{{card}}}": 1,
        f"gpu_remapped_rows_failed{{{card}}}": 0,
    }


def test_what_a_card_does_not_tell_is_not_there() -> None:
    assert about('uuid="GPU-0"', figures()) == {
        'gpu_info{gpu="0",name="T4",pci_bus_id="00000000:00:00.0",uuid="GPU-0"}': 1,
        'gpu_up{gpu="0",uuid="GPU-0"}': 1,
        'gpu_temperature_celsius{gpu="0",uuid="GPU-0"}': 40,
        'gpu_processes{gpu="0",uuid="GPU-0"}': 0,
    }


@pytest.mark.parametrize("reading", ["blind", "lost"])
def test_of_a_card_that_cannot_be_read_nothing_is_known_but_that(reading: Any) -> None:
    status = replace(STATUS, gpus=(PLAIN, replace(BLIND, reading=reading)))
    assert about('uuid="GPU-2"', figures(status)) == {
        'gpu_info{gpu="2",name="H100",pci_bus_id="00000000:02:00.0",uuid="GPU-2"}': 1,
        'gpu_up{gpu="2",uuid="GPU-2"}': 0,
    }
    assert not about('UUID="GPU-2"', figures(status, dcgm=True))


@pytest.mark.parametrize("age_s", [None, STALE_AFTER_S + 0.1])
def test_no_figure_is_older_than_it_may_be(age_s: float | None) -> None:
    found = figures(replace(STATUS, sample_age_s=age_s, faults={}, xids={}), dcgm=True)
    assert {name: value for name, value in found.items() if name.startswith(("gpu_", "host_", "DCGM"))} == {
        'gpu_backend_state{state="ok"}': 1,
        'gpu_backend_state{state="unavailable"}': 0,
        'gpu_backend_state{state="stopped"}': 0,
        **{name: value for name, value in figures().items() if name.startswith("gpu_info")},
        **{f'gpu_up{{gpu="{index}",uuid="GPU-{index}"}}': 0 for index in range(3)},
    }
    assert found.get("sample_age_seconds") == age_s


def test_the_rest_of_the_host() -> None:
    assert {name: value for name, value in figures().items() if "uuid" not in name} == {
        'info{host="box",simulated="false",version="0.1.0"}': 1,
        "bus_up": 1,
        "bus_spooled_entries": 2,
        "lease_epoch": 3,
        "problems": 1,
        "sample_age_seconds": 0.4,
        'gpu_backend_state{state="ok"}': 1,
        'gpu_backend_state{state="unavailable"}': 0,
        'gpu_backend_state{state="stopped"}': 0,
        "host_cpus": 64,
        "host_cpu_busy_ratio": 0.1,
        'host_load_average{window="1m"}': 1.5,
        'host_load_average{window="5m"}': 2,
        'host_load_average{window="15m"}': 3,
        "host_memory_total_bytes": 512 * GIB,
        "host_memory_available_bytes": 128 * GIB,
        "host_swap_total_bytes": 0,
        "host_swap_used_bytes": 0,
        'host_pressure_ratio{resource="cpu",tasks="some"}': 0.2,
        'host_pressure_ratio{resource="memory",tasks="full"}': 0,
        'memory_limit_bytes{target="gpu0"}': 80 * GIB,
        'memory_reserved_bytes{target="gpu0"}': 2 * GIB,
        'memory_reserved_bytes{target="host"}': GIB,
        'memory_available_bytes{target="gpu0"}': 70 * GIB,
        'memory_reservations{target="gpu0"}': 2,
        'memory_reservations{target="host"}': 1,
        'target_state{state="OPTIMAL",target="gpu0"}': 0,
        'target_state{state="NORMAL",target="gpu0"}': 1,
        'target_state{state="THROTTLED",target="gpu0"}': 0,
        'target_state{state="CRITICAL",target="gpu0"}': 0,
        'target_state{state="UNAVAILABLE",target="gpu0"}': 0,
        'target_state{state="BLIND",target="gpu0"}': 0,
        'target_speed_ratio{target="gpu0"}': 0.8,
        'target_speed_ratio{target="workload.a"}': 0,
        'target_directive_seq{target="gpu0"}': (3 << 32) + 1,
        'target_directive_seq{target="workload.a"}': (3 << 32) + 7,
        'target_overridden{target="gpu0"}': 0,
        'target_overridden{target="workload.a"}': 1,
        'workload_state{state="joined",workload="a"}': 1,
        'workload_counted_total{counter="tokens",workload="a"}': 12,
        'handler_running{handler="throttle"}': 1,
        'handler_running{handler="slow"}': 0,
        'handler_lag_entries{handler="throttle"}': 4,
        'handler_handled_total{handler="throttle"}': 100,
        'handler_handled_total{handler="slow"}': 0,
        'handler_results_total{handler="throttle"}': 7,
        'handler_results_total{handler="slow"}': 0,
        'handler_failures_total{handler="throttle"}': 1,
        'handler_failures_total{handler="slow"}': 0,
        'handler_restarts_total{handler="throttle"}': 2,
        'handler_restarts_total{handler="slow"}': 0,
    }


def test_a_bus_that_is_away_is_down() -> None:
    assert figures(replace(STATUS, bus=BusStatus(url="", kind="redis", state="away")))["bus_up"] == 0


def test_the_names_of_dcgm_have_its_labels_and_units() -> None:
    card = r'UUID="GPU-1",device="nvidia1",gpu="1",modelName="H100 \"80GB\"\\",pci_bus_id="00000000:01:00.0"'
    labels = f'{{Hostname="box",{card}}}'
    assert {
        name.removesuffix(labels).removeprefix("DCGM_FI_DEV_"): value
        for name, value in about('UUID="GPU-1"', figures(dcgm=True)).items()
    } == {
        "SM_CLOCK": 1755, "MEM_CLOCK": 2619, "GPU_TEMP": 61.5, "POWER_USAGE": 412.5, "GPU_UTIL": 50,
        "MEM_COPY_UTIL": 25, "FB_FREE": 59 * 1024, "FB_USED": 20 * 1024,
        "XID_ERRORS": 79,
    }  # fmt: skip


def test_what_went_wrong_with_a_card_is_known_even_where_it_cannot_be_read() -> None:
    status = replace(STATUS, gpus=(PLAIN, replace(BLIND, index=1, reading="lost")))
    found = figures(status, dcgm=True)
    assert found['gpu_xid_errors_total{gpu="1",uuid="GPU-2",xid="79"}'] == 2
    assert found['gpu_fault{gpu="1",kind="xid",uuid="GPU-2"}'] == 1
    last = {name: value for name, value in found.items() if name.startswith("DCGM_FI_DEV_XID_ERRORS")}
    assert list(last.values()) == [0, 79]
    assert not any(
        "XID" in name for name in figures(replace(STATUS, gpu_backend=GpuBackend("ok"), faults={}), dcgm=True)
    )


async def test_they_come_in_the_format_that_is_asked_for() -> None:
    openmetrics = (
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;q=0.5"
    )
    async with server() as url, aiohttp.ClientSession() as session:
        for accept, media_type, read in (
            (openmetrics, "application/openmetrics-text", read_openmetrics),
            ("application/openmetrics-text;version=x", "text/plain", read_text),
            ("text/html, */*", "text/plain", read_text),
            ("", "text/plain", read_text),
        ):
            async with session.get(url, headers={"Accept": accept}) as response:
                assert (response.status, response.content_type) == (200, media_type)
                families = {family.name: family for family in read(await response.text())}
            assert families["flyball_gpu_temperature_celsius"].type == "gauge"
            assert len(families["flyball_gpu_temperature_celsius"].samples) == 2
            assert all(name.startswith("flyball") for name in families)


async def test_the_names_of_dcgm_are_there_where_they_are_wanted() -> None:
    async with server(dcgm_names=True) as url, aiohttp.ClientSession() as session, session.get(url) as response:
        text = await response.text()
    assert "\nDCGM_FI_DEV_GPU_TEMP{" in text
    assert "\nflyball_gpu_temperature_celsius{" in text


def test_every_family_says_what_it_means_and_no_name_is_there_twice() -> None:
    names = [family.name for family in FAMILIES + DCGM_FAMILIES]
    assert len(names) == len(set(names))
    assert [family.name for family in FAMILIES if not re.fullmatch(r"[A-Z1].*\.", family.help)] == []


def test_nothing_is_imported_before_somebody_asks() -> None:
    script = "import sys, supervisor.api.metrics; print('prometheus_client' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_the_page_is_up_to_date() -> None:
    stale = f"{TABLE} is stale; run `python -m supervisor.api.metricstable --write`"
    assert (ROOT / TABLE).read_text("utf-8") == table(), stale


def test_the_alerts_know_the_names() -> None:
    text = (ROOT / "deploy/prometheus/alerts.yml").read_text("utf-8")
    used = set(re.findall(r"\bflyball_[a-z_]+", text))
    assert len(used) > 5
    assert used <= {family.name for family in FAMILIES}
