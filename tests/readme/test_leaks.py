"""The guide to leaks shows what can be used as it stands."""

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
import pytest

from handlers.leak.commands.correlate import command as correlate
from handlers.leak.commands.trace import command as trace
from handlers.leak.settings import Settings
from schemas.leak import LeakReport, Stage
from supervisor.config import Config
from supervisor.configuration.layers import load
from supervisor.sampling.counters.lines import performance_of_line

GUIDE = Path(__file__).parents[2] / "docs" / "leaks.md"
TEXT = GUIDE.read_text("utf-8")


def block(mark: str) -> str:
    """The code block behind the mark `tested: <mark>`."""
    found = re.search(rf"<!-- tested: {mark} -->\n```\w+\n(.*?)```", TEXT, re.DOTALL)
    assert found, f"the guide has no block marked {mark}"
    return found[1]


def test_the_configuration_is_one(tmp_path: Path) -> None:
    file = tmp_path / "flyball.toml"
    file.write_text(block("configuration"))
    config: Config = load(environ={}, path=file, sections={"leak": Settings})
    (workload,) = config.workload
    assert (workload.name, workload.on_leak) == ("search-docs", "restart")
    assert [source.kind for source in workload.counters] == ["json", "prometheus", "lines"]


def test_the_line_is_counted() -> None:
    performance = performance_of_line(block("line").encode())
    assert performance is not None
    assert performance.tally.counts == {"add_sections": 31.0, "requests.completed": 30.0}
    assert performance.tally.gauges == {"requests.processing": 1.0, "requests.pending": 2.0}
    assert (performance.threads, performance.rss_mb, performance.missing) == (97.0, 4321.5, "")


def test_the_report_has_the_fields_of_a_report() -> None:
    said = json.loads(block("report"))
    assert msgspec.to_builtins(msgspec.convert(said, LeakReport)) == {**said, **_lists_of(said)}


def _lists_of(said: dict[str, Any]) -> dict[str, Any]:
    """Lists are tuples in a report."""
    return {key: tuple(value) for key, value in said.items() if isinstance(value, list)}


def test_every_stage_is_explained() -> None:
    stages = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    assert stages == {*get_args(Stage), "cleared"} - {"unknown"}


@pytest.mark.parametrize(("name", "command"), [("trace", trace), ("correlate", correlate)])
def test_the_commands_take_what_is_shown(name: str, command: click.Command) -> None:
    lines = [line for line in TEXT.splitlines() if line.startswith(f"./flyball {name} ")]
    assert lines
    for line in lines:
        words = [str(GUIDE) if word.endswith(".csv") else word for word in shlex.split(line, comments=True)[2:]]
        assert command.make_context(name, words).params


def test_settings_that_are_named_exist() -> None:
    for line in re.findall(r"`\[leak\] (.+?)`", TEXT):
        msgspec.convert(tomllib.loads(line), Settings)


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT)
    assert len(links) > 5
    assert [link for link in links if not (GUIDE.parent / link).exists()] == []
