"""`/api/gpu/config` and the switch for monitoring, asked without a server."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from msgspec import Struct

from schemas.config import Configuration, ConfigurationChanged
from schemas.event import MonitoringChanged
from supervisor.api import monitoring, settings
from supervisor.configuration.kept import FILE
from supervisor.route import Answered, Asked, Refusal, Route
from supervisor.runtime.monitoring import Monitoring, MonitoringState
from tests.config.test_live import Rig
from tests.sampling.doubles import Bench


class Client:
    """Asks `/api/gpu/config` of a rig."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.show, self.change = settings.routes(rig.live)

    def get(self) -> tuple[Configuration, str]:
        answered: Answered = self.show.call(Asked())
        return answered.body, answered.headers["ETag"]

    async def put(self, body: dict[str, Any], **headers: str) -> tuple[ConfigurationChanged, str]:
        answered: Answered = await self.change.call(
            Asked(body=body, who="api ::1", headers={name.replace("_", "-"): value for name, value in headers.items()})
        )
        return answered.body, answered.headers["ETag"]

    async def refused(self, body: dict[str, Any], **headers: str) -> Refusal:
        with pytest.raises(Refusal) as raised:
            await self.put(body, **headers)
        return raised.value


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(Rig(tmp_path, "[nimble]\nlow = 60\n"))


async def test_every_setting_is_there_with_its_origin_and_the_answer_to_a_change_is_the_same_document(
    client: Client,
) -> None:
    shown, etag = client.get()
    low = shown.settings["nimble.low"]
    assert (low.value, low.default, low.origin.layer, low.changes) == (60, 65, "file", "at once")
    assert low.origin.where == str(client.rig.place / "flyball.toml")
    url = shown.settings["bus.url"]
    assert (url.value, url.origin.layer, url.changes) == ("", "default", "in the file only")
    assert url.meaning.startswith("redis://, rediss:// or unix://")
    changed, new_etag = await client.put({"nimble": {"low": 50}})
    assert [change.key for change in changed.changed] == ["nimble.low"]
    again, its_etag = client.get()
    assert (again.settings, again.values, its_etag) == (changed.settings, changed.values, new_etag)
    assert again.settings["nimble.low"].origin.layer == "api"
    assert new_etag != etag


async def test_a_change_that_is_taken_back_leaves_what_was(client: Client) -> None:
    shown, etag = client.get()
    await client.put({"nimble": {"low": 50}})
    await client.put({"nimble": None})
    assert client.get() == (shown, etag)


async def test_only_who_has_seen_the_present_settings_changes_them(client: Client) -> None:
    _, seen = client.get()
    _, newer = await client.put({"nimble.low": None, "top_processes": 5}, If_Match=seen)
    refusal = await client.refused({"top_processes": 6}, If_Match=seen)
    assert (refusal.status, refusal.headers, refusal.members) == (412, {"ETag": newer}, {"etag": newer})
    assert "read them again" in refusal.detail
    for tag in (f"W/{newer}", newer.strip('"'), '""', "nonsense"):
        assert (await client.refused({"top_processes": 6}, If_Match=tag)).status == 412
    assert client.rig.value("sampling.top_processes") == 5
    await client.put({"top_processes": 6}, If_Match=f'"other", {newer}')
    await client.put({"top_processes": 7}, If_Match="*")
    assert client.rig.value("sampling.top_processes") == 7


@pytest.mark.parametrize(
    ("body", "details"),
    [
        ({"nimble": {"low": float("nan")}}, ["nimble.low: nan is not a finite number"]),
        ({"nimble": {"low": 90}}, ["nimble.low: 90 is not below high (85)"]),
        ({"interval_s": 0}, ["sampling.interval_s: 0 is not a number from 0.05 to 60"]),
        ({"fast_interval_s": 2}, ["sampling.fast_interval_s: 2 is not at most interval_s (1)"]),
        ({"nimble": [1]}, ["nimble: a list is not a table"]),
        ({"top_processes": True}, ["sampling.top_processes: true is not a whole number from 0 to 1000"]),
        ({"top_processes": 1.5}, ["sampling.top_processes: 1.5 is not a whole number from 0 to 1000"]),
        (
            {"intervall_s": 1, "nimble": {"label": 1}, "api.port": 5},
            [
                "intervall_s: no such key; did you mean interval_s?",
                "api.port: cannot be changed while Flyball runs; set it in the file and start again",
                "nimble.label: 1 is not text",
            ],
        ),
    ],
)
async def test_all_that_is_wrong_is_told_at_once(client: Client, body: dict[str, Any], details: list[str]) -> None:
    refusal = await client.refused(body)
    assert refusal.status == 422
    assert refusal.detail == f"nothing was changed: {'; '.join(details)}"
    assert [error["detail"] for error in msgspec.to_builtins(refusal.members["errors"])] == details
    assert client.rig.kept == {}


async def test_a_disk_that_takes_nothing_is_no_fault_of_the_caller(client: Client) -> None:
    (client.rig.place / f".{FILE}").mkdir()
    refusal = await client.refused({"nimble": {"low": 50}})
    assert refusal.status == 503
    assert refusal.detail.endswith("nothing was changed, see to the disk of the state directory")


@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        ({"nimble": {"low": 50, "label": None}}, True),
        ({"nimble.low": 50}, True),
        ({"nimble": None}, True),
        ({"sampling": {"interval_s": 2}}, True),
        ({}, False),
        ({"sampling": {"interval_s": 0.01}}, False),
        ({"sampling": {"proc_root": "/x"}}, False),
        ({"bus.url": ""}, False),
        ({"nimble": {"low": "50"}}, False),
        ({"nimble": {"lwo": 1}}, False),
    ],
)
async def test_the_schema_of_a_request_is_what_is_taken(client: Client, body: dict[str, Any], accepted: bool) -> None:
    schema = msgspec.json.schema(client.change.body)
    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid(body) == accepted
    if accepted:
        await client.put(body)
    elif body:
        assert (await client.refused(body)).status == 422


class Switch:
    """Turns monitoring on a fake sampler on and off."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.said: list[tuple[str, str, Struct]] = []
        switch = Monitoring(self.bench.sampler, self.bench.time, lambda *event: self.said.append(event))
        self.routes = {route.path.rpartition("/")[2]: route for route in monitoring.routes(switch)}

    def ask(self, what: str, who: str, reason: str = "") -> MonitoringState:
        route: Route = self.routes[what]
        state: MonitoringState = route.call(Asked(body=msgspec.convert({"reason": reason}, route.body), who=who))
        return state


def test_the_first_who_stops_it_is_told_to_everybody_until_it_is_started() -> None:
    switch = Switch()
    assert switch.ask("start", "api 1").who == "flyball run"
    stopped = switch.ask("stop", "api 1", "driver update")
    assert (stopped.state, stopped.since, stopped.who, stopped.reason) == (
        "stopped", "2023-11-14T22:30:00.000Z", "api 1", "driver update",
    )  # fmt: skip
    switch.bench.time.monotonic_s += 5
    assert switch.ask("stop", "api 2") == stopped
    started = switch.ask("start", "api 3")
    assert (started.state, started.since, started.who) == ("running", "2023-11-14T22:30:05.000Z", "api 3")
    assert switch.ask("start", "api 4") == started
    assert [text for _, text, _ in switch.said] == [
        "api 1 stopped monitoring: no GPU is read (driver update)", "api 3 started monitoring: GPUs are read again",
    ]  # fmt: skip
    assert switch.said[0][2] == MonitoringChanged(state="stopped", who="api 1", reason="driver update", cause="")


async def test_the_samples_say_who_stopped_it_and_how_to_go_on() -> None:
    switch = Switch()
    switch.ask("stop", "api 1", "driver update")
    sample = await switch.bench.sampler.once()
    assert (sample.gpu_backend.state, sample.gpu_backend.reason) == (
        "stopped", "api 1 stopped monitoring at 2023-11-14T22:30:00.000Z: driver update",
    )  # fmt: skip
    assert "POST /api/gpu/monitoring/start" in sample.gpu_backend.hint
    assert switch.bench.gpus.asked == []


@pytest.mark.parametrize("reason", ["two\nlines", "\x1b[31mred", "x" * 201])
def test_a_reason_is_one_plain_line(reason: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        Switch().ask("stop", "api", reason)
