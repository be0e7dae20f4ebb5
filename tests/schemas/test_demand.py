"""The directive that follows from all demands: the slowest, with the strongest cleanup, whoever came first."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.demand import Demand, standing

CLEANUPS = ("none", "soft", "hard", "emergency")

demands = st.lists(
    st.builds(
        Demand,
        issuer=st.sampled_from(["alert", "leak", "operator", "restart", "throttle"]),
        target=st.just("gpu0"),
        action=st.sampled_from(["run", "throttle", "pause"]),
        speed=st.sampled_from([0.0, 0.5, 0.8, 1.0]) | st.floats(0, 1),
        cleanup=st.sampled_from(CLEANUPS),
        reason=st.text(max_size=5),
    ),
    max_size=5,
    unique_by=lambda demand: demand.issuer,
)


def test_nobody_demands_anything() -> None:
    assert standing([]) is None


@given(demands=demands.filter(bool))
def test_the_slowest_stands_with_the_strongest_cleanup(demands: list[Demand]) -> None:
    found = standing(demands)
    assert found is not None
    assert found.speed == min(demand.speed for demand in demands)
    assert CLEANUPS.index(found.cleanup) == max(CLEANUPS.index(demand.cleanup) for demand in demands)
    (issuer,) = [demand for demand in demands if demand.issuer == found.issuer]
    assert (issuer.speed, issuer.action, issuer.reason) == (found.speed, found.action, found.reason)
    assert found.issuer == min(demand.issuer for demand in demands if demand.speed == found.speed)


@given(demands=demands, data=st.data())
def test_the_order_of_arrival_does_not_matter(demands: list[Demand], data: st.DataObject) -> None:
    assert standing(data.draw(st.permutations(demands))) == standing(demands)


@given(demands=demands.filter(bool))
def test_standing_is_its_own_standing(demands: list[Demand]) -> None:
    found = standing(demands)
    assert found is not None
    assert standing([found]) == found


@given(demands=demands, more=demands)
def test_one_more_demand_never_speeds_up(demands: list[Demand], more: list[Demand]) -> None:
    before, after = standing(demands), standing([*demands, *more])
    if before is not None:
        assert after is not None
        assert after.speed <= before.speed
        assert CLEANUPS.index(after.cleanup) >= CLEANUPS.index(before.cleanup)
