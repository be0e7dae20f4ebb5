"""Whatever comes in: figures or a sentence, and nothing else; and the page is read as the usual parser reads it."""

import json
import math
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from schemas.workload import LARGEST_AMOUNT
from supervisor.sampling.counters import exposition, paths
from supervisor.sampling.counters.lines import performance_of_line
from supervisor.sampling.counters.source import Untold
from supervisor.selector import Selector, selector

KEY = st.text(max_size=5) | st.just("done")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=4),
    max_leaves=12,
)
METRIC = st.sampled_from(["done", "done_total", "do"])
LABEL = st.sampled_from(["a", "b", "le"])
#: What may be in a label: quotes, backslashes, line breaks and braces above all.
VALUE = st.text(st.sampled_from('ab"\\\n{},= #é'), max_size=6)


def are_figures(*tables: Mapping[str, float]) -> bool:
    """Whether they can stand in a sample."""
    return all(
        type(figure) is float and math.isfinite(figure) and abs(figure) <= LARGEST_AMOUNT
        for table in tables
        for figure in table.values()
    )


@given(st.binary(max_size=200) | JSON.map(lambda document: json.dumps(document).encode()), st.text(max_size=12))
def test_any_document_gives_figures_or_a_sentence(body: bytes, path: str) -> None:
    try:
        told = paths.figures(body, {"x": "done"}, {"y": path})
    except Untold as error:
        assert str(error).isprintable()
        return
    assert are_figures(told.tally.counts, told.tally.gauges)
    assert (len(told.tally.counts) + len(told.tally.gauges) == 2) == (told.missing == "")


@given(st.dictionaries(st.sampled_from(["type", "threads", "method_calls", "requests"]), JSON, max_size=4))
def test_any_performance_line_gives_figures_or_a_sentence(said: dict[str, Any]) -> None:
    try:
        performance = performance_of_line(json.dumps({**said, "type": "performance"}).encode())
    except ValueError as error:
        assert str(error).isprintable()
        return
    assert performance is not None
    assert are_figures(performance.tally.counts, performance.tally.gauges)


@given(st.binary(max_size=100))
def test_any_line_gives_figures_or_nothing(said: bytes) -> None:
    assert performance_of_line(said) is None


@given(st.text(st.sampled_from('done {}="ab\\,#\n\t\r1.e+-N'), max_size=60))
def test_any_page_gives_figures_or_a_sentence(page: str) -> None:
    try:
        told = exposition.figures(page.encode(), {"x": Selector("done")}, {"y": Selector("d")})
    except Untold as error:
        assert str(error).isprintable()
        return
    assert are_figures(told.tally.counts, told.tally.gauges)


@given(
    st.lists(
        st.tuples(METRIC, st.dictionaries(LABEL, VALUE, max_size=3), st.integers(0, 1000)), min_size=1, max_size=8
    ),
    METRIC,
    st.dictionaries(LABEL, VALUE, max_size=1),
)
def test_a_page_is_read_as_the_usual_parser_reads_it(
    series: list[tuple[str, dict[str, str], int]], metric: str, labels: dict[str, str]
) -> None:
    page = "".join(f"{name}{_labels(one)} {value}\n" for name, one, value in series)
    wanted = [
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == metric and labels.items() <= sample.labels.items()
    ]
    selected = selector(metric + _labels(labels))
    assert selected == Selector(metric, frozenset(labels.items()))
    try:
        told = exposition.figures(page.encode(), {"x": selected}, {})
    except Untold:
        assert not wanted
    else:
        assert wanted
        assert told.tally.counts == {"x": sum(wanted)}


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    escaped = {
        name: value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"') for name, value in labels.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"
