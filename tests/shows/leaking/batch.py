"""No leak: serves, gathers a batch for 70 s, writes it out and lets it go, and serves again."""

import flyball
from tests.shows.leaking.life import Life

GROWS_S = 70.0


def main() -> None:
    """Work until stdin ends."""
    life = Life()
    batch: list[bytes] = []
    done = False
    with flyball.Workload(life.name) as workload:
        for _ in life.calls(8.0):
            workload.count("requests")
            if life.tells:
                workload.gauge("batch", len(batch))
            if done or not life.has_bug():
                continue
            batch.append(life.chance.randbytes(40_000))
            workload.count("rows")
            if life.age_s >= life.calm_s + GROWS_S:
                life.tell(freed=sum(map(len, batch)))
                batch.clear()
                done = True
    life.tell(leaked=0, calls=0)


if __name__ == "__main__":
    main()
