"""Made-up configurations: accepted exactly when nothing is wrong with them, otherwise every planted error is named.

The oracle is the list of errors that the test itself planted, and, for arbitrary values, the schema as a whole.
"""

import math
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from supervisor.config import CORE_SECTIONS, Config, WorkloadSection
from supervisor.configuration.layers import load
from supervisor.errors import ConfigurationError
from tests.config.test_layers import SECTIONS, Ladder
from tests.config.toml_text import as_toml, value

pytestmark = pytest.mark.timeout(600)  # 1,000 examples and more, on a busy machine
fuzz: Final = settings(
    max_examples=int(os.environ.get("FLYBALL_FUZZ_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

TEXT = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=20)
NAME = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
NO_NUMBER: st.SearchStrategy[Any] = st.one_of(TEXT, st.booleans(), st.just([]), st.just({}), st.dates())
NO_TEXT = st.one_of(st.integers(), st.booleans(), st.floats(), st.dates(), st.lists(TEXT, max_size=2))
HUGE = st.integers(min_value=10**6, max_value=10**30)

#: What each key takes, and what it does not, written by hand and not read from the Structs.
RIGHT: dict[str, st.SearchStrategy[Any]] = {
    "host.name": st.one_of(NAME, st.just("")),
    "bus.url": st.sampled_from(["", "redis://box", "rediss://u:p@box:6380/1", "unix:///run/bus.sock"]),
    "bus.password_file": TEXT,
    "bus.shard": st.integers(0, 10**9),
    "bus.memory_mib": st.integers(16, 10**9),
    "bus.timeout_s": st.one_of(st.floats(0.001, 1e9), st.integers(1, 100)),
    "sampling.interval_s": st.floats(0.1, 60),
    "sampling.fast_interval_s": st.floats(0.02, 0.1),
    "sampling.top_processes": st.integers(0, 1000),
    "sampling.proc_root": TEXT,
    "api.enabled": st.booleans(),
    "api.host": st.sampled_from(["127.0.0.1", "127.9.9.9", "::1", "localhost", "LocalHost", "0.0.0.0", "::", "box"]),
    "api.auth": st.sampled_from(["changes", "all"]),
    "api.names": st.lists(st.sampled_from(["box", "gpu.example", "192.0.2.1"]), max_size=2),
    "api.port": st.integers(0, 65535),
    "ladder.low": st.floats(0, 84),
    "ladder.high": st.floats(85, 100),
    "ladder.label": TEXT,
}
WRONG: dict[str, st.SearchStrategy[Any]] = {
    "host.name": st.one_of(
        NO_TEXT, st.from_regex(r"[a-z]{0,9}[ /:*][a-z]{0,9}", fullmatch=True), st.just("a" * 65), st.just("a\n")
    ),
    "bus.url": st.one_of(NO_TEXT, st.sampled_from(["http://box", "box:6379", "redis://", "unix://", "redis://b:x"])),
    "bus.shard": st.one_of(NO_NUMBER, st.floats(), st.integers(max_value=-1)),
    "bus.memory_mib": st.one_of(NO_NUMBER, st.integers(max_value=15)),
    "bus.timeout_s": st.one_of(NO_NUMBER, st.floats(max_value=0), st.just(math.nan), st.just(math.inf)),
    "sampling.top_processes": st.one_of(NO_NUMBER, HUGE, st.integers(max_value=-1)),
    "api.enabled": st.one_of(TEXT, st.integers(), st.floats(), st.just([])),
    "api.host": st.one_of(NO_TEXT, st.sampled_from(["", "http://box", "a b", "a" * 256, "box\n"])),
    "api.auth": st.one_of(NO_TEXT, st.sampled_from(["", "some", "ALL"])),
    "api.names": st.one_of(TEXT, st.booleans(), st.integers()),
    "api.port": st.one_of(NO_NUMBER, HUGE, st.integers(max_value=-1)),
    "ladder.label": NO_TEXT,
}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A document with nothing wrong: some keys of some sections, and workloads that need only those before them."""
    document: dict[str, Any] = {}
    for path in draw(st.lists(st.sampled_from(sorted(RIGHT)), unique=True)):
        section, key = path.split(".")
        document.setdefault(section, {})[key] = draw(RIGHT[path])
    names = draw(st.lists(NAME, unique=True, max_size=4))
    document["workload"] = [_workload(draw, name, names[:index]) for index, name in enumerate(names)]
    return document


def _workload(draw: st.DrawFn, name: str, earlier: list[str]) -> dict[str, Any]:
    optional: dict[str, st.SearchStrategy[Any]] = {
        "match": st.sampled_from(
            [{"pidfile": "/run/x.pid"}, {"cmdline": r"train\.py$", "user": "u"}, {"cgroup": "/x"}]
        ),
        "gpus": st.lists(st.integers(0, 9999), max_size=3),
        "priority": st.integers(-(2**63), 2**63 - 1),
        "command": st.lists(TEXT, max_size=3),
        "may": st.lists(st.sampled_from(["throttle", "pause", "cleanup", "freeze", "terminate", "kill"]), max_size=3),
        "restart": st.lists(TEXT, max_size=3),
        "counters": st.lists(
            st.sampled_from(
                [
                    {"kind": "lines", "file": "/x", "every_s": 10},
                    {"kind": "json", "url": "http://box/rpc", "body": "{}", "counts": {"a.b": "result.done"}},
                    {"kind": "prometheus", "url": "https://u:p@box:1/metrics", "gauges": {"a": 'b{c="d"}'}},
                ]
            ),
            max_size=3,
        ),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(optional)), unique=True))
    needs = draw(st.lists(st.sampled_from(earlier), max_size=2)) if earlier else []
    return {"name": name, "depends_on": needs} | {key: draw(optional[key]) for key in chosen}


Draw = Callable[[st.SearchStrategy[Any]], Any]
Sabotage = Callable[[Draw, dict[str, Any]], set[str]]


def _wrong_values(draw: Draw, document: dict[str, Any]) -> set[str]:
    paths: set[str] = draw(st.sets(st.sampled_from(sorted(WRONG)), min_size=1))
    for path in paths:
        section, key = path.split(".")
        document.setdefault(section, {})[key] = draw(WRONG[path])
    return paths


def _unknown_section(draw: Draw, document: dict[str, Any]) -> set[str]:
    name = draw(st.from_regex(r"x_[a-z]{1,9}", fullmatch=True))
    document[name] = draw(st.sampled_from([{}, {"port": 1}, 5, "text", [{}]]))
    return {name}


def _unknown_key(draw: Draw, document: dict[str, Any]) -> set[str]:
    section = draw(st.sampled_from(["host", "bus", "sampling", "api", "ladder"]))
    document.setdefault(section, {})["x_key"] = draw(st.sampled_from([1, "x", [], {}]))
    return {f"{section}.x_key"}


def _wrong_order(draw: Draw, document: dict[str, Any]) -> set[str]:
    ladder = document.setdefault("ladder", {})
    ladder["low"], ladder["high"] = 90, draw(st.floats(0, 90))
    sampling = document.setdefault("sampling", {})
    sampling["interval_s"], sampling["fast_interval_s"] = 1, draw(st.floats(1.01, 60))
    return {"ladder.low", "sampling.fast_interval_s"}


def _twin(draw: Draw, document: dict[str, Any]) -> set[str]:
    workloads = document["workload"]
    workloads += [{"name": "twin"}, {"name": "twin"}]
    return {f"workload[{len(workloads) - 1}].name"}


def _lost(draw: Draw, document: dict[str, Any]) -> set[str]:
    workloads = document["workload"]
    workloads.append({"name": "lonely", "depends_on": ["of nobody's name"]})
    return {f"workload[{len(workloads) - 1}].depends_on[0]"}


def _circle(draw: Draw, document: dict[str, Any]) -> set[str]:
    workloads = document["workload"]
    workloads.append({"name": "narcissus", "depends_on": ["narcissus"]})
    return {f"workload[{len(workloads) - 1}].depends_on"}


def _matches_anything(draw: Draw, document: dict[str, Any]) -> set[str]:
    workloads = document["workload"]
    workloads.append({"name": "greedy", "match": draw(st.sampled_from([{}, {"cmdline": ""}, {"user": "root"}]))})
    return {f"workload[{len(workloads) - 1}].match"}


def _bad_pattern(draw: Draw, document: dict[str, Any]) -> set[str]:
    workloads = document["workload"]
    workloads.append({"name": "pattern", "match": {"cmdline": draw(st.sampled_from(["(", "*", "[z-a]", "a{2,1}"]))}})
    return {f"workload[{len(workloads) - 1}].match.cmdline"}


def _nameless(draw: Draw, document: dict[str, Any]) -> set[str]:
    workloads = document["workload"]
    workloads.append({"gpus": [-1], "may": ["dance"], "match": {"pidfile": 3}})
    last = f"workload[{len(workloads) - 1}]"
    return {f"{last}.name", f"{last}.gpus[0]", f"{last}.may[0]", f"{last}.match.pidfile"}


def _bad_source(draw: Draw, document: dict[str, Any]) -> set[str]:
    source, keys = draw(
        st.sampled_from(
            [
                ({"kind": "lines"}, ["file"]),
                ({"kind": "json", "counts": {"a": ""}}, ["url", "counts.a"]),
                ({"kind": "json", "url": "http://box:x/", "file": "x"}, ["url", "counts", "file"]),
                (
                    {"kind": "prometheus", "url": "http://box", "body": "x", "gauges": {"a": "b c"}},
                    ["body", "gauges.a"],
                ),
                ({"kind": "jason", "every_s": 0, "x_key": 1}, ["kind", "every_s", "x_key"]),
            ]
        )
    )
    workloads = document["workload"]
    workloads.append({"name": "teller", "counters": [{"kind": "lines", "file": "x"}, source]})
    return {f"workload[{len(workloads) - 1}].counters[1].{key}" for key in keys}


def _impossible_reaction(draw: Draw, document: dict[str, Any]) -> set[str]:
    workloads = document["workload"]
    workloads.append({"name": "leaker", "on_leak": "restart"})
    return {f"workload[{len(workloads) - 1}].{key}" for key in ("restart", "may", "match")}


SABOTAGES: list[Sabotage] = [
    _wrong_values, _unknown_section, _unknown_key, _wrong_order, _twin, _lost, _circle, _matches_anything,
    _bad_pattern, _nameless, _bad_source, _impossible_reaction,
]  # fmt: skip


def outcome(text: str | bytes, environ: Mapping[str, str], path: Path) -> Config | ConfigurationError:
    """What loading gives; any other exception fails the test."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        return load(environ=environ, path=path, sections=SECTIONS)
    except ConfigurationError as error:
        return error


@fuzz
@given(st.data())
def test_exactly_the_planted_errors_are_named(tmp_path: Path, data: st.DataObject) -> None:
    document = data.draw(documents())
    planted: set[str] = set()
    for sabotage in data.draw(st.lists(st.sampled_from(SABOTAGES), unique=True, max_size=4)):
        planted |= sabotage(data.draw, document)
    result = outcome(as_toml(document), {}, tmp_path / "flyball.toml")
    event("accepted" if not planted else f"{len(planted)} errors")
    if planted:
        assert isinstance(result, ConfigurationError)
        assert {problem.partition(": ")[0] for problem in result.problems} == planted
        assert str(result).startswith(str(tmp_path))
    else:
        assert isinstance(result, Config)
        _holds(result, document)


def _holds(config: Config, document: Mapping[str, Any]) -> None:
    """What was written is what was read."""
    for section, keys in document.items():
        if section == "workload":
            assert [one.name for one in config.workload] == [one["name"] for one in keys]
            continue
        read = config.handlers[section] if section == "ladder" else getattr(config, section)
        values = {key: getattr(read, key) for key in keys}
        assert {key: [*value] if isinstance(value, tuple) else value for key, value in values.items()} == keys


@fuzz
@given(st.data())
def test_the_environment_hides_whatever_the_file_says(tmp_path: Path, data: st.DataObject) -> None:
    """Wrong values in the file do not matter where a right one stands in the environment."""
    document: dict[str, Any] = {}
    environ: dict[str, str] = {}
    expected: dict[str, dict[str, Any]] = {}
    for path in data.draw(st.sets(st.sampled_from(sorted(WRONG)), min_size=1)):
        section, key = path.split(".")
        document.setdefault(section, {})[key] = data.draw(WRONG[path])
        right = data.draw(RIGHT[path])
        environ[f"FLYBALL_{section}__{key}".upper()] = value(right)
        expected.setdefault(section, {})[key] = right
    result = outcome(as_toml(document), environ, tmp_path / "flyball.toml")
    assert isinstance(result, Config), result
    _holds(result, expected)


ANYTHING = st.recursive(
    st.one_of(st.none().map(lambda _: 0), st.booleans(), st.integers(), st.floats(), TEXT, st.dates()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
KEYS: Final = {name: list(kind.__struct_fields__) for name, kind in {**CORE_SECTIONS, **SECTIONS}.items()}
#: The schema as one piece, as msgspec itself checks it.
WHOLE: Final = msgspec.defstruct(
    "Whole",
    [
        *((name, kind, kind()) for name, kind in {**CORE_SECTIONS, **SECTIONS}.items()),
        ("workload", tuple[WorkloadSection, ...], ()),
        ("dry_run", bool, False),
    ],
    forbid_unknown_fields=True,
)


@st.composite
def arbitrary(draw: st.DrawFn) -> dict[str, Any]:
    """Known keys with any value, and any key."""
    document: dict[str, Any] = draw(st.sampled_from([{}, {}, {"x": 1}, {"": {}}]))
    for section in draw(st.lists(st.sampled_from(sorted(KEYS)), unique=True, max_size=3)):
        keys = draw(st.lists(st.sampled_from(KEYS[section]), unique=True, max_size=3))
        document[section] = {
            key: draw(st.one_of([RIGHT.get(f"{section}.{key}", ANYTHING)] * 3 + [ANYTHING])) for key in keys
        }
    if draw(st.booleans()):
        known = st.sampled_from(WorkloadSection.__struct_fields__)
        document["workload"] = draw(st.lists(st.dictionaries(known, ANYTHING), max_size=2))
    return document


def schema_accepts(document: Mapping[str, Any]) -> bool:
    """The schema as a whole, then the rules across fields, written a second time."""
    try:
        whole: Any = msgspec.convert(document, type=WHOLE)
    except (msgspec.ValidationError, OverflowError):
        return False
    return (
        _finite(whole)
        and whole.ladder.low < whole.ladder.high
        and whole.sampling.fast_interval_s <= whole.sampling.interval_s
        and whole.bus.url in ("", "redis://box", "rediss://u:p@box:6380/1", "unix:///run/bus.sock")
        and _workloads_accepted(whole.workload, document.get("workload", []))
    )


def _finite(one: Any) -> bool:
    if isinstance(one, Struct):
        return all(_finite(getattr(one, name)) for name in one.__struct_fields__)
    return not isinstance(one, float) or math.isfinite(one)


def _workloads_accepted(workloads: tuple[WorkloadSection, ...], raw: list[dict[str, Any]]) -> bool:
    names = [one.name for one in workloads]
    if len(set(names)) < len(names) or any(set(one.depends_on) - set(names) for one in workloads):
        return False
    done: set[str] = set()
    while ready := {one.name for one in workloads if one.name not in done and set(one.depends_on) <= done}:
        done |= ready
    matches = [one.match for one, table in zip(workloads, raw, strict=True) if "match" in table]
    return (
        done == set(names)
        and all(match.pidfile or match.cgroup or match.cmdline for match in matches)
        and all(_is_pattern(match.cmdline) for match in matches)
    )


def _is_pattern(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(text)
    except (re.error, OverflowError):
        return False
    return True


@fuzz
@given(arbitrary())
def test_any_values_are_accepted_exactly_when_the_schema_accepts_them(tmp_path: Path, document: dict[str, Any]) -> None:
    result = outcome(as_toml(document), {}, tmp_path / "flyball.toml")
    event("accepted" if isinstance(result, Config) else "refused")
    assert isinstance(result, Config) == schema_accepts(document), result


@fuzz
@given(st.binary(max_size=200) | TEXT.map(str.encode) | st.just(b"[api]\nport = 1\n"), st.dictionaries(NAME, TEXT))
def test_any_bytes_and_any_environment_are_read_or_refused(
    tmp_path: Path, content: bytes, words: dict[str, str]
) -> None:
    environ = {f"FLYBALL_{key.upper()}": text for key, text in words.items()}
    assert isinstance(outcome(content, environ, tmp_path / "flyball.toml"), Config | ConfigurationError)


def test_the_oracle_itself_refuses_and_accepts() -> None:
    """An oracle that always said the same would prove nothing."""
    assert schema_accepts({"ladder": {"low": 1.0}})
    assert not schema_accepts({"ladder": {"low": 99.0}})
    assert not schema_accepts({"workload": [{"name": "a", "depends_on": ["a"]}]})
    assert Ladder().problems() == []
