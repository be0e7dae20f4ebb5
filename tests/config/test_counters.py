"""`[[workload.counters]]` and what follows from a leak: what is accepted, and what is wrong with the rest."""

from pathlib import Path
from typing import Any

import pytest

from supervisor.config import Config
from supervisor.configuration.counters import CounterSection
from supervisor.configuration.layers import load
from supervisor.configuration.wording import displayed
from supervisor.errors import ConfigurationError

WORKLOAD = "[[workload]]\nname = 'search'\nmatch.pidfile = '/run/search.pid'\n"
JSON = "[[workload.counters]]\nkind = 'json'\nurl = 'http://localhost:1/rpc'\n"
PROMETHEUS = "[[workload.counters]]\nkind = 'prometheus'\nurl = 'http://localhost:1/metrics'\n"
COUNTS = "counts.done = 'result.done'\n"


def configured(place: Path, text: str) -> Config:
    file = place / "flyball.toml"
    file.write_text(text)
    return load(environ={}, path=file, sections={})


def problems(place: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        configured(place, text)
    assert str(place / "flyball.toml") in str(caught.value)
    return caught.value.problems


def test_sources_of_every_kind_are_read(tmp_path: Path) -> None:
    text = f"""
{WORKLOAD}
[[workload.counters]]
kind = "json"
url = "http://localhost:53567/rpc"
body = '{{"jsonrpc":"2.0","id":1,"method":"getIndexStatus"}}'
counts = {{"requests.completed" = "result.completedCount"}}
gauges = {{"requests.pending" = "result.pendingCount"}}
[[workload.counters]]
kind = "prometheus"
url = "http://localhost:8000/metrics"
counts.added = 'requests_total{{method="add"}}'
[[workload]]
name = "worker"
[[workload.counters]]
kind = "lines"
file = "/var/log/worker.jsonl"
every_s = 10
"""
    search, worker = configured(tmp_path, text).workload
    assert [source.kind for source in search.counters] == ["json", "prometheus"]
    assert search.counters[0].counts == {"requests.completed": "result.completedCount"}
    assert search.counters[0].gauges == {"requests.pending": "result.pendingCount"}
    assert search.counters[1].counts == {"added": 'requests_total{method="add"}'}
    assert worker.counters == (CounterSection(kind="lines", file="/var/log/worker.jsonl", every_s=10),)


@pytest.mark.parametrize(
    ("table", "key", "problem"),
    [
        (JSON.replace("localhost:1", "") + COUNTS, "url",
         "'http:///rpc' has no host, or no usable port; expected http://HOST:PORT/PATH"),
        (JSON.replace("localhost:1", "localhost:x") + COUNTS, "url",
         "'http://localhost:x/rpc' has no host, or no usable port; expected http://HOST:PORT/PATH"),
        (JSON.replace("http:", "ftp:") + COUNTS, "url",
         "'ftp://localhost:1/rpc' is not an address with http:// or https://"),
        ("[[workload.counters]]\nkind = 'json'\n" + COUNTS, "url", 'is missing; kind "json" needs it'),
        (JSON, "counts", 'is empty, and so is gauges; kind "json" needs one name at least'),
        (PROMETHEUS, "counts", 'is empty, and so is gauges; kind "prometheus" needs one name at least'),
        (JSON + COUNTS + "file = 'x'", "file", 'is of no use to kind "json"; remove it'),
        (JSON + COUNTS + "method = 'GET'\nbody = 'x'", "body",
         'is never sent with method "GET"; remove one of the two'),
        (JSON + COUNTS + "method = 'PUT'", "method", "'PUT' is not one of \"\", GET, POST"),
        (JSON.replace("//", "//me:secret@") + COUNTS + "authorization_file = '/etc/token'", "authorization_file",
         "comes on top of the name and password in url; keep one of the two"),
        (JSON + "counts.done = ''", "counts.done",
         "'' is no path; expected keys and indices, dots between: result.done"),
        (JSON + "counts.\"a.b\" = 'x..y'", "counts.a.b",
         "'x..y' is no path; expected keys and indices, dots between: result.done"),
        (JSON + "counts.'a b' = 'x'", "counts.'a b'", "'a b' is not a name of 1 to 64 of A-Z a-z 0-9 . _ -"),
        (JSON + "counts.done = 3", "counts.done", "3 is not text"),
        (JSON + COUNTS + "every_s = 0", "every_s", "0 is not a number from 0.2 to 3600"),
        (JSON + "".join(f"gauges.g{index} = 'x'\n" for index in range(33)), "gauges",
         "has 33 names; at most 32 are read from one source"),
        (PROMETHEUS + "gauges.x = '9lives'", "gauges.x",
         "'9lives' is no metric; expected a metric such as requests_total or requests_total{method=\"add\"}"),
        (PROMETHEUS + "gauges.x = 'a{b=c}'", "gauges.x",
         "'a{b=c}' is no metric; expected a metric such as requests_total or requests_total{method=\"add\"}"),
        ("[[workload.counters]]\nkind = 'lines'\n", "file", 'is missing; kind "lines" needs it'),
        ("[[workload.counters]]\nkind = 'lines'\nfile = '/x'\ncounts.done = 'x'", "counts",
         'is of no use to kind "lines"; remove it'),
        ("[[workload.counters]]\nkind = 'jsn'\n", "kind",
         "'jsn' is not one of json, lines, prometheus; did you mean json?"),
        (JSON + COUNTS + "evry_s = 1", "evry_s", "no such key; did you mean every_s?"),
    ],
)  # fmt: skip
def test_a_problem_names_the_source_and_its_key(tmp_path: Path, table: str, key: str, problem: str) -> None:
    """The one that is wrong is the second source, behind one that is well."""
    assert problems(tmp_path, f"{WORKLOAD}{JSON}{COUNTS}{table}") == [f"workload[0].counters[1].{key}: {problem}"]


@pytest.mark.parametrize("kind", ["counts", "gauges"])
def test_the_sources_of_one_workload_name_no_more_than_is_watched(tmp_path: Path, kind: str) -> None:
    """Each may name 32; of those of a whole workload 64 are watched, and the next workload has its own."""
    full = JSON + "".join(f"{kind}.c{index} = 'x'\n" for index in range(32))
    text = f"{WORKLOAD}{full}{full}{WORKLOAD.replace('search', 'worker')}{full}"
    assert len(configured(tmp_path, text).workload) == 2
    assert problems(tmp_path, f"{text}{full}{PROMETHEUS}{kind}.a = 'x'\n{kind}.b = 'x'") == [
        f"workload[1].counters: name 66 {kind} together, and no more than 64 of a workload are watched for leaks, so "
        "that 2 would never be seen; keep those that tell most"
    ]


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    text = f"{WORKLOAD}on_leak = 'restart'\n[[workload.counters]]\nkind = 'json'\nfile = 'x'\n{WORKLOAD}"
    found = [problem.partition(": ")[0] for problem in problems(tmp_path, text)]
    assert found == [
        *(f"workload[0].counters[0].{key}" for key in ("file", "url", "counts")), "workload[0].restart",
        "workload[0].may", "workload[1].name",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ("on_leak = 'throttle'", []),
        ("on_leak = 'restart'\nrestart = ['x']\nmay = ['restart']", []),
        ("restart = ['x']", []),
        ("on_leak = 'restart'\nmay = ['restart']",
         ['workload[0].restart: is empty, so on_leak = "restart" could not be done; expected an argument list such as '
          '["systemctl", "restart", "search"]']),
        ("on_leak = 'restart'\nrestart = ['x']",
         ['workload[0].may: lacks "restart", so on_leak = "restart" could not be done; add it']),
        ("on_leak = 'cleanup'\nmay = ['throttle']",
         ['workload[0].may: lacks "cleanup", so on_leak = "cleanup" could not be done; add it']),
        ("on_leak = 'throttle'\nmay = []",
         ['workload[0].may: lacks "throttle", so on_leak = "throttle" could not be done; add it']),
    ],
)  # fmt: skip
def test_a_reaction_to_leaks_must_be_possible(tmp_path: Path, keys: str, found: list[str]) -> None:
    text = f"{WORKLOAD}{keys}\n"
    if found:
        assert problems(tmp_path, text) == found
    else:
        assert configured(tmp_path, text).workload[0].name == "search"


@pytest.mark.parametrize(
    ("match", "enough"),
    [
        ("match.pidfile = '/run/x.pid'", True),
        ("match.cgroup = '/search'", True),
        ("match = {cmdline = 'search', user = 'alice'}", True),
        ("match.cmdline = 'search'", False),
        ("", False),
    ],
)
def test_what_may_be_restarted_cannot_be_imitated(tmp_path: Path, match: str, enough: bool) -> None:
    keys = f"[[workload]]\nname = 'search'\n{match}\nrestart = ['x']\nmay = ['restart']\n"
    text = f"{keys}on_leak = 'restart'\n"
    if enough:
        assert configured(tmp_path, text).workload[0].on_leak == "restart"
    else:
        assert problems(tmp_path, text) == [
            "workload[0].match: anybody can join by a name or imitate a command line, and would have the workload "
            'restarted; on_leak = "restart" needs at least one of pidfile, cgroup, user'
        ]
        configured(tmp_path, keys)  # by hand it may still be restarted


def test_secrets_are_shown_to_nobody(tmp_path: Path) -> None:
    """Neither in the configuration that the API shows, nor in a log, nor in an error."""
    text = f"""{WORKLOAD}restart = ["run", "--password", "hunter2"]
[[workload.counters]]
kind = "json"
url = "http://me:hunter2@localhost/rpc?api_key=hunter2&token=hunter2&page=1"
body = "hunter2"
{COUNTS}"""
    config = configured(tmp_path, text)
    shown: Any = displayed(config.workload, "workload")
    assert shown[0]["counters"][0]["url"].endswith("api_key=***&token=***&page=1")
    assert "hunter2" not in f"{shown}{config.workload[0].counters[0]!r}"
    assert "hunter2" not in "".join(problems(tmp_path, text.replace("localhost", "localhost:x")))
