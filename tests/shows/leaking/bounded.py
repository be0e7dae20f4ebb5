"""No leak: a cache of 700 rows fills within minutes and then throws out as much as it takes in."""

from functools import lru_cache

import flyball
from tests.shows.leaking.cache import row_of
from tests.shows.leaking.life import Life


def main() -> None:
    """Work until stdin ends."""
    life = Life()
    lookup = lru_cache(maxsize=700)(row_of)
    with flyball.Workload(life.name) as workload:
        for _ in life.calls(10.0):
            workload.count("lookup")
            lookup(int(life.chance.expovariate(1 / 2000)))
    life.tell(leaked=0, calls=lookup.cache_info().misses)


if __name__ == "__main__":
    main()
