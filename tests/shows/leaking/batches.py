"""No leak: gathers a batch for half a minute, writes it out and lets it go, again and again."""

import flyball
from tests.shows.leaking.life import Life

GROWS_S = 25.0
EVERY_S = 45.0


def main() -> None:
    """Work until stdin ends."""
    life = Life()
    batch: list[bytes] = []
    with flyball.Workload(life.name) as workload:
        for _ in life.calls(8.0):
            workload.count("requests")
            if not life.has_bug():
                continue
            if (life.age_s - life.calm_s) % EVERY_S < GROWS_S:
                batch.append(life.chance.randbytes(40_000))
                workload.count("rows")
            else:
                batch.clear()
    life.tell(leaked=0, calls=0)


if __name__ == "__main__":
    main()
