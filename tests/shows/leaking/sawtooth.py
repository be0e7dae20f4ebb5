"""No leak: objects that refer to themselves wait for the collector, which runs every 20 to 30 s."""

import gc

import flyball
from tests.shows.leaking.life import Life


class Node:
    """Refers to itself."""

    def __init__(self, body: bytearray) -> None:
        self.body = body
        self.me = self


def main() -> None:
    """Work until stdin ends."""
    life, collected = Life(), 0
    gc.disable()
    next_s = life.chance.uniform(20, 30)
    with flyball.Workload(life.name) as workload:
        for _ in life.calls(8.0):
            workload.count("requests")
            Node(bytearray(50_000))
            if life.age_s >= next_s:
                next_s = life.age_s + life.chance.uniform(20, 30)
                collected += gc.collect()
    life.tell(leaked=0, calls=collected)


if __name__ == "__main__":
    main()
