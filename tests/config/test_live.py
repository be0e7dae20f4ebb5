"""Other settings for what runs: who takes them up and who cannot, what is said of it, and that nothing is half done."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from msgspec import Struct

from schemas.config import SettingChange
from schemas.envelope import Event
from schemas.event import ConfigChanged, ConfigRefused
from supervisor.configuration.kept import FILE, Kept
from supervisor.configuration.layers import Sources
from supervisor.configuration.stack import Stack
from supervisor.errors import ConfigurationError
from supervisor.handler import Context, Decisions, Declared, Edge, Handler, Stream
from supervisor.runtime.live import Live, Stale, version_of
from tests.config.test_layers import Ladder
from tests.sampling.doubles import Bench


class Steady(Handler):
    """Takes up its settings at a start only."""

    name: ClassVar[str] = "steady"
    streams: ClassVar[tuple[Stream, ...]] = ("samples",)
    settings = Ladder

    def __init__(self, settings: Ladder, declared: Sequence[Declared]) -> None:
        self.taken = [settings]

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        return None

    def edges(self) -> Sequence[Edge]:
        return (Edge("temperature_celsius", self.taken[-1].high),)


class Nimble(Steady):
    """Takes them up at once; a label of `no` it refuses, and at `bang` it fails."""

    name: ClassVar[str] = "nimble"

    def reconfigure(self, settings: Ladder) -> bool:
        if settings.label == "bang":
            raise LookupError("no bang here")
        if settings.label == "no":
            return False
        self.taken.append(settings)
        return True


class Rig:
    """A `Live` on a sampler with fake sources; `said` is what it published."""

    def __init__(self, place: Path, text: str = "", environ: dict[str, str] | None = None) -> None:
        """With `environ`, the file is looked for as it says."""
        self.place = place
        self.write(text)
        self.steady, self.nimble = Steady(Ladder(), ()), Nimble(Ladder(), ())
        self.bench = Bench()
        self.said: list[tuple[str, str, Struct]] = []
        sections: dict[str, type[Struct]] = {"steady": Ladder, "nimble": Ladder}
        sources = Sources(environ=environ or {}, sections=sections, path=None if environ else place / "flyball.toml")
        self.live = Live(
            Stack.read(sources, Kept(place)), handlers=[self.steady, self.nimble], sampler=self.bench.sampler,
            say=lambda *event: self.said.append(event),
        )  # fmt: skip

    def write(self, text: str) -> None:
        (self.place / "flyball.toml").write_text(text)

    @property
    def kept(self) -> dict[str, Any]:
        return Kept(self.place).read()

    def value(self, key: str) -> Any:
        return self.live.document().settings[key].value


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_a_handler_takes_it_up_at_once_and_it_is_kept_and_said(rig: Rig) -> None:
    changed = await rig.live.change({"nimble": {"low": 60, "high": 80}}, "api 127.0.0.1")
    assert rig.nimble.taken == [Ladder(), Ladder(low=60, high=80)]
    assert changed == (
        SettingChange(key="nimble.low", old=65, new=60, holds="now"),
        SettingChange(key="nimble.high", old=85, new=80, holds="now"),
    )
    assert rig.kept == {"nimble.low": 60, "nimble.high": 80}
    assert rig.live.settings["nimble"] == Ladder(low=60, high=80)
    ((kind, text, data),) = rig.said
    assert kind == "flyball.config.changed"
    assert text == "api 127.0.0.1 changed nimble.low from 65 to 60; nimble.high from 85 to 80"
    assert data == ConfigChanged(changes=changed, origin="api", who="api 127.0.0.1", cause="")


async def test_a_start_brings_it_back(rig: Rig) -> None:
    await rig.live.change({"nimble": {"low": 60}}, "api")
    again = Rig(rig.place)
    assert again.live.settings["nimble"] == Ladder(low=60)
    assert again.live.document().settings["nimble.low"].origin.layer == "api"


async def test_who_cannot_take_it_up_keeps_what_he_has_until_the_next_start(rig: Rig) -> None:
    (change,) = await rig.live.change({"steady.low": 60}, "api")
    assert (change.holds, change.why) == ("at the next start", "the handler takes it up when it starts")
    assert rig.live.settings["steady"] == Ladder()
    shown = rig.live.document().settings["steady.low"]
    assert (shown.value, shown.at_next_start, shown.changes) == (65, 60, "at the next start")
    assert rig.said[0][1] == "api changed steady.low from 65 to 60 (takes effect at the next start)"
    (back,) = await rig.live.change({"steady.low": None}, "api")
    assert back.holds == "now"


@pytest.mark.parametrize(
    ("label", "why"),
    [("no", "the handler takes it up when it starts"), ("bang", "the handler failed: LookupError: no bang here")],
)
async def test_a_refusal_and_a_failure_are_told_and_do_not_keep_the_others_back(rig: Rig, label: str, why: str) -> None:
    changed = await rig.live.change({"nimble": {"label": label, "low": 1}, "interval_s": 2}, "api")
    assert {change.key: (change.holds, change.why) for change in changed} == {
        "sampling.interval_s": ("now", ""),
        "nimble.low": ("at the next start", why),
        "nimble.label": ("at the next start", why),
    }
    assert rig.live.settings["nimble"] == Ladder()
    assert rig.live.config.sampling.interval_s == 2
    (mended, _) = await rig.live.change({"nimble": {"label": "yes", "low": 2}}, "api")
    assert mended.holds == "now"
    assert rig.live.settings["nimble"] == Ladder(low=2, label="yes")


async def test_the_sampler_follows_with_edges_and_interval(rig: Rig) -> None:
    sampler = rig.bench.sampler
    await rig.live.change({"nimble": {"low": 40, "high": 50}, "interval_s": 0.5, "top_processes": 7}, "api")
    samples = []

    def deliver(sample: Any) -> None:
        samples.append(sample)
        if len(samples) == 3:
            sampler.stop()

    await sampler.run(deliver)  # the card is at 50 °C: near the edge now
    assert [(sample.scope, sample.interval_s) for sample in samples] == [("full", 0.5), ("fast", 0.1), ("fast", 0.1)]
    assert rig.bench.processes.top == 7


async def test_where_anything_is_wrong_nothing_changes(rig: Rig) -> None:
    with pytest.raises(ConfigurationError) as raised:
        await rig.live.change({"nimble": {"low": 90}, "interval_s": 2, "bus.url": "x", "no": 1}, "api")
    assert [problem.partition(": ")[0] for problem in raised.value.problems] == ["bus.url", "no", "nimble.low"]
    assert (rig.nimble.taken, rig.said, rig.kept) == ([Ladder()], [], {})
    assert rig.live.config.sampling.interval_s == 1


async def test_what_cannot_be_kept_does_not_hold_either(rig: Rig) -> None:
    (rig.place / f".{FILE}").mkdir()
    with pytest.raises(OSError):
        await rig.live.change({"nimble": {"low": 60}}, "api")
    assert (rig.nimble.taken, rig.said) == ([Ladder()], [])
    assert rig.value("nimble.low") == 65


async def test_what_is_so_already_is_no_change(rig: Rig) -> None:
    assert await rig.live.change({"nimble": {"low": 65}}, "api") == ()
    assert (rig.nimble.taken, rig.said) == ([Ladder()], [])
    assert rig.live.document().settings["nimble.low"].origin.layer == "api"


async def test_two_at_once_are_one_after_the_other(rig: Rig) -> None:
    await asyncio.gather(*(rig.live.change({key: 50}, "api") for key in ("nimble.low", "steady.low", "top_processes")))
    assert rig.kept == {"nimble.low": 50, "steady.low": 50, "sampling.top_processes": 50}


async def test_of_two_who_saw_the_same_only_one_changes_it(rig: Rig) -> None:
    seen = version_of(rig.live.document())
    asked = [rig.live.change({"nimble.low": low}, "api", lambda version: version == seen) for low in (50, 60)]
    first, second = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(first, tuple)
    assert isinstance(second, Stale)
    assert second.version == version_of(rig.live.document()) != seen
    assert rig.value("nimble.low") == 50


async def test_a_secret_is_never_shown(rig: Rig) -> None:
    await rig.live.change({"nimble.token": "hunter2", "nimble.label": "redis://u:hunter2@box"}, "api")
    workload = "[[workload]]\nname = 'w'\ncommand = ['train', '--key', 'hunter2']\n"
    rig.write(f"[bus]\nurl = 'redis://u:hunter2@box'\n[steady]\ntoken = 'hunter2'\n{workload}")
    await rig.live.reload("SIGHUP")
    assert "hunter2" not in repr(rig.said)
    assert "hunter2" not in repr(rig.live.document())
    assert rig.value("nimble.token") == "***"
    assert rig.value("nimble.label") == "redis://***@box"
    assert rig.live.document().settings["bus.url"].at_next_start == "redis://***@box"
    (declared,) = cast(list[Any], rig.live.document().settings["workload"].at_next_start)
    assert declared["command"] == ["train", "***"]
    assert rig.live.settings["nimble"] == Ladder(token="hunter2", label="redis://u:hunter2@box")


async def test_the_file_is_read_again(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    await rig.live.change({"nimble.high": 99}, "api")
    rig.write("[nimble]\nlow = 70\nhigh = 80\n[bus]\nmemory_mib = 300\n[sampling]\ninterval_s = 2\nproc_root = '/x'\n")
    with caplog.at_level("INFO"):
        await rig.live.reload("SIGHUP")
    assert rig.live.settings["nimble"] == Ladder(low=70, high=99)
    assert (rig.live.config.sampling.interval_s, rig.live.config.sampling.proc_root) == (2, "/proc")
    _, text, data = rig.said[-1]
    assert isinstance(data, ConfigChanged)
    assert (data.origin, data.who) == ("file", "SIGHUP")
    assert [(change.key, change.holds) for change in data.changes] == [
        ("bus.memory_mib", "at the next start"), ("sampling.interval_s", "now"),
        ("sampling.proc_root", "at the next start"), ("nimble.low", "now"),
    ]  # fmt: skip
    assert text.startswith("SIGHUP changed bus.memory_mib from 256 to 300 (takes effect at the next start); ")
    assert "bus.memory_mib takes effect at the next start" in caplog.text
    assert "SIGHUP: what was set through the API stays: nimble.high" in caplog.text


async def test_a_file_that_cannot_be_used_changes_nothing_and_every_problem_is_told(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.write("[nimble]\nlow = 90\n[sampling]\ninterval_s = 2\nintervall_s = 3\n")
    await rig.live.reload("SIGHUP")
    assert rig.nimble.taken == [Ladder()]
    assert rig.live.config.sampling.interval_s == 1
    problems = (
        "sampling.intervall_s: no such key; did you mean interval_s?", "nimble.low: 90 is not below high (85)",
    )  # fmt: skip
    ((kind, text, data),) = rig.said
    assert (kind, data) == ("flyball.config.refused", ConfigRefused(problems=problems, who="SIGHUP", cause=""))
    for problem in problems:
        assert problem in caplog.text
        assert problem in text
    rig.write("[nimble]\nlow = 50\n")
    await rig.live.reload("SIGHUP")
    assert rig.live.settings["nimble"] == Ladder(low=50)


async def test_a_file_that_cannot_be_looked_for_changes_nothing_either(tmp_path: Path) -> None:
    rig = Rig(tmp_path, environ={"XDG_CONFIG_HOME": str(tmp_path)})
    (tmp_path / "flyball").symlink_to("x" * 300)  # cannot be looked into, not even by root
    await rig.live.reload("SIGHUP")
    ((kind, text, _),) = rig.said
    assert kind == "flyball.config.refused"
    assert f"{tmp_path}/flyball/flyball.toml: cannot be looked for: File name too long" in text
    (tmp_path / "flyball").unlink()
    (tmp_path / "flyball").mkdir()
    (tmp_path / "flyball" / "flyball.toml").write_text("[nimble]\nlow = 50\n")
    await rig.live.reload("SIGHUP")
    assert rig.live.settings["nimble"] == Ladder(low=50)


async def test_many_changes_are_counted_in_the_sentence_and_all_in_the_event(rig: Rig) -> None:
    every = {"interval_s": 2, "fast_interval_s": 0.2, "top_processes": 1}
    await rig.live.change({**every, "nimble": {"low": 1, "high": 2, "label": "x"}, "steady": {"low": 1}}, "api")
    _, text, data = rig.said[0]
    assert isinstance(data, ConfigChanged)
    assert len(data.changes) == 7
    assert text.endswith("; 2 more")
