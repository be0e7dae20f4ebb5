"""Numbers in a Prometheus page, found by the metric's name and labels: `requests_total{method="add"}`.

Only the lines of wanted metrics are looked at: to parse a page of 1 MB as a whole takes a quarter of a second
(prometheus-client), in which the sampler would stand still; this takes some milliseconds.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from schemas.workload import LARGEST_AMOUNT
from supervisor.sampling.counters.paths import partly
from supervisor.sampling.counters.source import Tally, Told, Untold, amount, shown
from supervisor.selector import LABELS, Selector, pairs

_REST: Final = re.compile(rf"[ \t]*+(?:{LABELS})?+[ \t]*+(?P<value>[^ \t\r\n{{]++)(?:[ \t][^\n]*+)?+")
#: The most series of one metric that are looked at; as many take some 10 ms.
MOST_SERIES: Final = 5000


def figures(body: bytes, counts: Mapping[str, Selector], gauges: Mapping[str, Selector]) -> Told:
    """The numbers of a page that `counts` and `gauges` select (name → metric); several series are summed.

    :raises Untold: it is no such page, or none of the metrics is in it.
    """
    try:
        page = "\n" + body.decode()
    except UnicodeDecodeError as error:
        raise Untold(f"the answer is not UTF-8 at byte {error.start}") from None
    wrong: list[str] = []

    def read(wanted: Mapping[str, Selector], least: float) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, one in wanted.items():
            try:
                found[name] = amount(_sum(page, one), least=least)
            except LookupError as error:
                wrong.append(error.args[0])
            except ValueError as error:
                wrong.append(f"{one.metric} is {error}")
        return found

    tally = Tally(counts=read(counts, 0), gauges=read(gauges, -LARGEST_AMOUNT))
    return partly(tally, wrong)


def _sum(page: str, wanted: Selector) -> float:
    """The sum of the series that are wanted.

    :raises LookupError: there is none; its text is a sentence.
    :raises ValueError: they are no numbers, or too many.
    """
    total, series = 0.0, 0
    for labels, value in _series(page, wanted.metric):
        if wanted.labels and not wanted.labels <= set(pairs(labels)):
            continue
        series += 1
        total += value
    if not series:
        raise LookupError(_absent(page, wanted))
    return total


def _series(page: str, metric: str) -> Iterator[tuple[str, float]]:
    """Labels and value of each series of a metric."""
    start, seen = page.find("\n" + metric), 0
    while start >= 0:
        after = start + 1 + len(metric)
        if page[after : after + 1] in {" ", "\t", "{"}:
            match = _REST.match(page, after)
            if match is None:
                raise ValueError("followed by something that is no series")
            seen += 1
            if seen > MOST_SERIES:
                raise ValueError(f"spread over more than {MOST_SERIES} series, too many to add up each time")
            yield match["labels"] or "", _number(match["value"])
        start = page.find("\n" + metric, after)


def _absent(page: str, wanted: Selector) -> str:
    if next(_series(page, wanted.metric), None) is not None:
        return f"no series of {wanted.metric} has these labels"
    for meant in (f"{wanted.metric}_total", wanted.metric.removesuffix("_total"), f"{wanted.metric}_count"):
        if meant != wanted.metric and next(_series(page, meant), None) is not None:
            return f"there is no metric {wanted.metric}, but {meant}"
    return f"there is no metric {wanted.metric}" + (" in an HTML page" if page.lstrip().startswith("<") else "")


def _number(text: str) -> float:
    try:
        if "_" not in text:  # to Python, 1_000 is a number
            return float(text)
    except ValueError:
        pass
    raise ValueError(f"{shown(text)}, not a number")
