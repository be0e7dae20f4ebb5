"""All layers, the API's on top: which one wins, where a value came from, and what a change does to the rest."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from schemas.config import Origin
from supervisor.configuration.kept import FILE, Kept
from supervisor.configuration.layers import Sources
from supervisor.configuration.stack import Stack
from supervisor.errors import ConfigurationError
from tests.config.test_layers import Ladder


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """A handler's section with a setting that is a table."""

    colours: dict[str, int] = {}


def stack(
    place: Path,
    text: str = "",
    environ: dict[str, str] | None = None,
    flags: dict[str, Any] | None = None,
    api: dict[str, Any] | None = None,
) -> Stack:
    (place / "flyball.toml").write_text(text)
    if api is not None:
        (place / FILE).write_bytes(msgspec.json.encode(api))
    sections: dict[str, type[Struct]] = {"ladder": Ladder, "table": Table}
    sources = Sources(environ=environ or {}, sections=sections, path=place / "flyball.toml", flags=flags or {})
    return Stack.read(sources, Kept(place))


def ladder(stack: Stack) -> Ladder:
    section = stack.config.handlers["ladder"]
    assert isinstance(section, Ladder)
    return section


def test_the_api_wins_over_flags_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    text = "[sampling]\ninterval_s = 2\ntop_processes = 2\nnvml_deadline_s = 2\n[ladder]\nlow = 2\n"
    environ = {
        "FLYBALL_SAMPLING__TOP_PROCESSES": "3",
        "FLYBALL_SAMPLING__NVML_DEADLINE_S": "3",
        "FLYBALL_LADDER__LOW": "3",
    }
    flags = {"sampling.nvml_deadline_s": "4", "ladder.low": "4"}
    found = stack(tmp_path, text, environ, flags, {"ladder.low": 5})
    sampling = found.config.sampling
    assert (sampling.interval_s, sampling.top_processes, sampling.nvml_deadline_s, ladder(found).low) == (2, 3, 4, 5)
    file = str(tmp_path / "flyball.toml")
    assert {key: found.origin(key) for key in (
        "sampling.proc_root", "sampling.interval_s", "sampling.top_processes", "sampling.nvml_deadline_s", "ladder.low",
        "ladder.high", "workload",
    )} == {
        "sampling.proc_root": Origin("default"),
        "sampling.interval_s": Origin("file", file),
        "sampling.top_processes": Origin("environment", "FLYBALL_SAMPLING__TOP_PROCESSES"),
        "sampling.nvml_deadline_s": Origin("command line"),
        "ladder.low": Origin("api", str(tmp_path / FILE)),
        "ladder.high": Origin("default"),
        "workload": Origin("default"),
    }  # fmt: skip


def test_a_setting_that_is_a_table_comes_from_the_highest_layer_that_has_a_part_in_it(tmp_path: Path) -> None:
    text = "[table.colours]\nred = 1\ngreen = 2\n"
    of_two = stack(tmp_path, text, {"FLYBALL_TABLE__COLOURS__RED": "3"})
    assert of_two.config.handlers["table"] == Table({"red": 3, "green": 2})
    assert of_two.origin("table.colours").layer == "environment"
    of_api = of_two.asked({"table.colours": {"blue": 4}})
    assert of_api.config.handlers["table"] == Table({"blue": 4})
    assert of_api.origin("table.colours").layer == "api"


def test_a_table_given_whole_on_the_command_line_is_its_origin(tmp_path: Path) -> None:
    found = stack(tmp_path, "[ladder]\nhigh = 99\n", flags={"ladder": "{low = 1}"})
    assert (ladder(found).low, ladder(found).high) == (1, 85)
    assert (found.origin("ladder.low").layer, found.origin("ladder.high").layer) == ("command line", "default")


def test_what_is_asked_for_leaves_the_rest_and_can_be_taken_back(tmp_path: Path) -> None:
    first = stack(tmp_path, "[ladder]\nlow = 50\n", api={"ladder.high": 90})
    second = first.asked({"ladder.low": 60})
    assert (ladder(second).low, ladder(second).high, second.values) == (60, 90, {"ladder.high": 90, "ladder.low": 60})
    assert (ladder(first).low, first.values) == (50, {"ladder.high": 90})
    third = second.asked({"ladder.low": None, "ladder.high": None})
    assert (ladder(third).low, ladder(third).high, third.values) == (50, 85, {})
    assert third.origin("ladder.low").layer == "file"


def test_what_is_asked_for_is_checked_with_the_file_and_changes_nothing_where_it_is_wrong(tmp_path: Path) -> None:
    first = stack(tmp_path, "[ladder]\nhigh = 70\n")
    with pytest.raises(ConfigurationError) as raised:
        first.asked({"ladder.low": 80, "sampling.interval_s": float("nan"), "ladder.label": 3})
    assert raised.value.problems == [
        "sampling.interval_s: nan is not a finite number",
        "ladder.label: 3 is not text",
        "ladder.low: 80 is not below high (70)",
    ]
    assert first.values == {}


def test_text_from_the_api_is_no_toml(tmp_path: Path) -> None:
    """`"5"` is a text in JSON; only what comes through the environment has to be read as something else."""
    with pytest.raises(ConfigurationError, match=r"sampling\.interval_s: '5' is not a number"):
        stack(tmp_path).asked({"sampling.interval_s": "5"})
    assert ladder(stack(tmp_path).asked({"ladder.label": "5"})).label == "5"


def test_the_file_is_read_again_and_what_was_set_stays(tmp_path: Path) -> None:
    environ = {"FLYBALL_LADDER__LOW": "40"}
    first = stack(tmp_path, "[ladder]\nlabel = 'a'\n", environ, {"sampling.interval_s": 3}).asked({"ladder.high": 88})
    (tmp_path / "flyball.toml").write_text("[ladder]\nlow = 1\nhigh = 2\nlabel = 'b'\n[sampling]\ninterval_s = 9\n")
    assert ladder(first).label == "a"
    second = first.reread()
    assert ladder(second) == Ladder(low=40, high=88, label="b")
    assert second.config.sampling.interval_s == 3
    assert second.values == {"ladder.high": 88}


def test_a_change_does_not_read_the_file_again(tmp_path: Path) -> None:
    first = stack(tmp_path, "[ladder]\nlabel = 'a'\n")
    (tmp_path / "flyball.toml").write_text("[ladder]\nlabel = 'b'\nlow = 'x'")
    assert ladder(first.asked({"ladder.low": 1})) == Ladder(low=1, label="a")
    with pytest.raises(ConfigurationError, match=r"ladder\.low: 'x' is not a number"):
        first.reread()


def test_what_was_set_and_does_not_fit_any_more_says_where_it_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        stack(tmp_path, "[ladder]\nhigh = 60\n", api={"ladder.low": 70, "gone.key": 1})
    told = f"(from the API, kept in {tmp_path / FILE})"
    unknown, order = raised.value.problems
    assert unknown.startswith("gone: no such key; known here: ")
    assert unknown.endswith(told)
    assert order == f"ladder.low: 70 is not below high (60) {told}"
