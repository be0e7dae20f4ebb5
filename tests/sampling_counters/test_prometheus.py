"""Figures from a Prometheus page: by name and labels, and only the wanted lines are looked at."""

import time
from typing import Any

import prometheus_client as prometheus
import pytest

from supervisor.configuration.counters import CounterSection
from supervisor.sampling.counters.exposition import MOST_SERIES
from supervisor.sampling.counters.source import Tally
from supervisor.selector import Selector, selector
from tests.sampling_counters.serving import Server, told, untold

PAGE = """\
# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000
http_requests_total_created 5
msdos_file_access_time_seconds{path="C:\\\\DIR\\\\FILE.TXT",error="Cannot find file:\\n\\"FILE.TXT\\""} 1.458e9
weird{text="} 5 \\"{"} 8
with_exemplar_total 7 # {trace_id="abc"} 1.0
something_weird{problem="division by zero"} +Inf
nothing NaN
below -3.5
tabs\t4
spaced { a = "1" , b="2", } 6
last 12"""


def section(url: str, counts: dict[str, str] | None = None, **gauges: str) -> CounterSection:
    return CounterSection(kind="prometheus", url=url, counts=counts or {}, gauges=gauges)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("http_requests_total", 1030.0),
        ('http_requests_total{code="400"}', 3.0),
        ('http_requests_total{code="200", method="post"}', 1027.0),
        (r'msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT"}', 1.458e9),
        (r'msdos_file_access_time_seconds{error="Cannot find file:\n\"FILE.TXT\""}', 1.458e9),
        (r'weird{text="} 5 \"{"}', 8.0),
        ("with_exemplar_total", 7.0),
        ("below", -3.5),
        ("tabs", 4.0),
        ('spaced{a="1",b="2"}', 6.0),
        ("last", 12.0),
    ],
)
async def test_a_metric_is_found_and_its_series_are_summed(server: Server, metric: str, value: float) -> None:
    server.says(PAGE, Content_Type="text/plain; version=0.0.4")
    assert (await told(section(server.url, x=metric))).tally == Tally(counts={}, gauges={"x": value})
    assert server.asked[0].headers["Accept"] == "text/plain;version=0.0.4"


@pytest.mark.parametrize(
    ("metric", "why"),
    [
        ("gone", "there is no metric gone"),
        ("http_requests", "there is no metric http_requests, but http_requests_total"),
        ("last_total", "there is no metric last_total, but last"),
        ('http_requests_total{code="500"}', "no series of http_requests_total has these labels"),
        ("something_weird", "something_weird is inf, not a finite number"),
        ("nothing", "nothing is nan, not a finite number"),
    ],
)
async def test_a_metric_that_is_no_figure_is_named(server: Server, metric: str, why: str) -> None:
    server.says(PAGE)
    assert await untold(section(server.url, x=metric)) == why


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("x{a=b} 3", "x is followed by something that is no series"),
        ('x{a="b" 3', "x is followed by something that is no series"),
        ("x ", "x is followed by something that is no series"),
        ("x 1_000", "x is '1_000', not a number"),
        ("x three", "x is 'three', not a number"),
        ("x 1e16", "x is beyond ±1e+15"),
        ("x -1", "x is -1, and what is counted is never below 0"),
        ("<html>\nx", "there is no metric x in an HTML page"),
    ],
)
async def test_a_broken_line_is_told(server: Server, line: str, why: str) -> None:
    server.says(line)
    assert await untold(section(server.url, {"x": "x"})) == why


async def test_one_bad_metric_does_not_cost_the_others(server: Server) -> None:
    server.says(PAGE)
    answer = await told(section(server.url, {"last": "last"}, gone="gone"))
    assert answer.tally == Tally(counts={"last": 12.0}, gauges={})
    assert answer.missing == f"prometheus {server.url}: there is no metric gone"


async def test_a_page_that_is_no_text_is_told(server: Server) -> None:
    server.says(b"last 1\nother \xff\n")
    assert await untold(section(server.url, x="last")) == "the answer is not UTF-8 at byte 13"


async def test_a_page_of_the_real_library_is_read(server: Server) -> None:
    """Counters, gauges and histograms as prometheus-client writes them."""
    registry = prometheus.CollectorRegistry()
    done = prometheus.Counter("done", "Done.", ["kind"], registry=registry)
    took = prometheus.Histogram("took_seconds", "Took.", registry=registry)
    done.labels('a "quoted"\nkind\\').inc(3)
    done.labels("b").inc(4)
    took.observe(0.3)
    server.says(prometheus.generate_latest(registry))
    answer = await told(
        section(
            server.url, {"all": "done_total", "a": r'done_total{kind="a \"quoted\"\nkind\\"}'},
            took="took_seconds_count", quick='took_seconds_bucket{le="0.5"}',
        )
    )  # fmt: skip
    assert answer.tally == Tally(counts={"all": 7.0, "a": 3.0}, gauges={"took": 1.0, "quick": 1.0})


async def test_a_large_page_is_read_in_milliseconds(server: Server) -> None:
    """1 MiB, 32 wanted metrics; the bound is twenty times what it takes here, and a tenth of a parser's time."""
    line = 'http_request_duration_seconds_bucket{{handler="/v1/completions",le="{}"}} {}\n'
    page = "".join(line.format(index, index) for index in range(13_000)) + "last 12\n"
    server.says(page)
    before = time.process_time()
    answer = await told(section(server.url, None, last="last", **{f"x{index}": "gone" for index in range(31)}))
    assert answer.tally.gauges == {"last": 12.0}
    assert time.process_time() - before < 0.5


async def test_too_many_series_are_not_added_up(server: Server) -> None:
    server.says("".join(f'x{{id="{index}"}} 1\n' for index in range(MOST_SERIES)))
    assert (await told(section(server.url, x="x"))).tally.gauges == {"x": float(MOST_SERIES)}
    server.says("".join(f'x{{id="{index}"}} 1\n' for index in range(MOST_SERIES + 1)))
    assert (
        await untold(section(server.url, x="x"))
        == "x is spread over more than 5000 series, too many to add up each time"
    )


@pytest.mark.parametrize(
    "hostile", ["x{" + " " * 500_000, "x{a=" + '"\\' * 250_000, "x{" + 'a="b",' * 80_000, "x " * 250_000]
)
async def test_a_hostile_line_takes_no_time(server: Server, hostile: str) -> None:
    server.says(hostile)
    before = time.process_time()
    assert (await untold(section(server.url, x="x"))).startswith("x is ")
    assert time.process_time() - before < 1


@pytest.mark.parametrize("text", ["", "9x", "x y", "x{", "x{a}", "x{a=b}", 'x{a="b"}y', "result.done", "x{a='b'}"])
def test_what_is_no_metric_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a metric such as"):
        selector(text)


@pytest.mark.parametrize(
    ("text", "metric", "labels"),
    [
        ("vllm:num_requests_running", "vllm:num_requests_running", {}),
        (" x ", "x", {}),
        ("x{}", "x", {}),
        ('x { a = "1", b="2", }', "x", {"a": "1", "b": "2"}),
    ],
)
def test_a_metric_is_understood(text: str, metric: str, labels: dict[str, Any]) -> None:
    assert selector(text) == Selector(metric, frozenset(labels.items()))
