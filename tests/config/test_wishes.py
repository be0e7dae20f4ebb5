"""What a request for other settings means, and what is said of one that means nothing."""

from typing import Any

import pytest
from msgspec import Struct

from supervisor.configuration.catalogue import Catalogue
from supervisor.configuration.wishes import Wishes


class Ladder(Struct, frozen=True):
    """A handler's section; `label` is a key of another one, too."""

    low: float = 65.0
    high: float = 85.0
    label: str = ""
    colours: dict[str, int] = {}


class Other(Struct, frozen=True):
    """Another one's."""

    label: str = ""


CATALOGUE = Catalogue({"ladder": Ladder, "other": Other}, live=["ladder"])
FILE_ONLY = "cannot be changed while Flyball runs; set it in the file and start again"


def wishes(body: dict[str, Any], kept: tuple[str, ...] = ()) -> Wishes:
    return Wishes(body, CATALOGUE, kept)


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ({"ladder": {"low": 60, "high": 80}}, {"ladder.low": 60, "ladder.high": 80}),
        ({"ladder.low": 60, "other": {"label": "x"}}, {"ladder.low": 60, "other.label": "x"}),
        ({"low": 60, "interval_s": 2}, {"ladder.low": 60, "sampling.interval_s": 2}),
        ({"ladder": {}}, {}),
        ({"low": "hot"}, {"ladder.low": "hot"}),
        ({"colours": {"red": 1}}, {"ladder.colours": {"red": 1}}),
        ({"ladder.colours": {}}, {"ladder.colours": {}}),
    ],
)
def test_tables_dotted_keys_and_bare_names_mean_the_same(body: dict[str, Any], values: dict[str, Any]) -> None:
    """Whether a value is right is not looked at here; a setting that is a table is one value."""
    found = wishes(body)
    assert (found.values, found.problems) == (values, [])


@pytest.mark.parametrize("body", [{"ladder": {"low": None}}, {"ladder.low": None}, {"low": None}, {"ladder": None}])
def test_null_takes_back_what_was_set(body: dict[str, Any]) -> None:
    assert wishes(body, ("ladder.low", "other.label")).values == {"ladder.low": None}
    found = wishes(body)
    assert (found.values, found.problems) == ({}, [])


@pytest.mark.parametrize("name", ["gone", "gone.low", "bus.url"])
def test_what_nobody_knows_any_more_can_be_taken_back(name: str) -> None:
    """A handler may be gone, and a key may have become one of the file; what is kept must not stay for ever."""
    found = wishes({name: None}, ("gone.low", "bus.url"))
    assert found.problems == []
    assert found.values == {("gone.low" if name == "gone" else name): None}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"ladder": {"lwo": 1}}, "ladder.lwo: no such key; did you mean low?"),
        ({"ladder.zzz": 1}, "ladder.zzz: no such key; known here: colours, high, label, low"),
        ({"lwo": 1}, "lwo: no such key; did you mean low?"),
        ({"laddr": {"low": 1}}, "laddr: no such key; did you mean ladder?"),
        ({"laddr": None}, "laddr: no such key; did you mean ladder?"),
        ({"qqq": 1}, "qqq: no such key; known here: api, bus, host, ladder, other, sampling"),
        ({"qqq.low": 1}, "qqq.low: no such key; known here: api, bus, host, ladder, other, sampling"),
        ({"ladder.low.x": 1}, "ladder.low.x: no such key; known here: api, bus, host, ladder, other, sampling"),
        ({"": 1}, "'': no such key; known here: api, bus, host, ladder, other, sampling"),
        ({"label": "x"}, "label: is a key of several tables; write it with its table: ladder.label, other.label"),
        ({"ladder": 5}, "ladder: 5 is not a table"),
        ({"ladder": {"low": 1}, "ladder.low": 2}, "ladder.low: is given twice; give it once"),
        ({"low": 1, "ladder": {"low": 1}}, "ladder.low: is given twice; give it once"),
        ({"bus": {"url": "redis://x"}}, f"bus.url: {FILE_ONLY}"),
        ({"dry_run": True}, f"dry_run: {FILE_ONLY}"),
        ({"workload": []}, f"workload: {FILE_ONLY}"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told(body: dict[str, Any], problem: str) -> None:
    assert wishes(body).problems == [problem]


def test_every_problem_is_told_at_once_and_the_rest_is_understood() -> None:
    found = wishes({"ladder": {"low": 60, "x": 1}, "api.port": 1, "nowhere": 3, "other.label": "y"})
    assert [problem.partition(": ")[0] for problem in found.problems] == ["ladder.x", "api.port", "nowhere"]
    assert found.values == {"ladder.low": 60, "other.label": "y"}


def test_noise_costs_little() -> None:
    """Of ten thousand unknown keys the first are told, and a long name is told by its beginning."""
    found = wishes({f"{index}{'x' * 100}": index for index in range(10_000)})
    assert len(found.problems) == 20
    assert all(len(problem) < 150 for problem in found.problems)


@pytest.mark.parametrize("prefix", ["", "ladder.", "nowhere."])
def test_after_so_many_unknown_keys_none_is_looked_at(prefix: str) -> None:
    """A body holds thousands, and each is compared with all that are known, on the loop."""
    looked: list[str] = []

    class Counting(Catalogue):
        def under(self, table: str) -> list[str]:
            looked.append(table)
            return super().under(table)

    keys = {f"{prefix}k{index}": index for index in range(7_000)}
    for body in (keys, {"ladder": {"low": 1, **keys}}):
        looked.clear()
        found = Wishes(body, Counting({"ladder": Ladder, "other": Other}), ())
        assert len(found.problems) == 20
        assert len(looked) < 100
