"""No leak: imports modules and builds tables while it already serves, for 40 s, and then only serves."""

import importlib

import flyball
from tests.shows.leaking.life import Life

WARM_S = 40.0
MODULES = ("asyncio", "decimal", "email.message", "http.client", "sqlite3", "unittest", "xml.dom.minidom", "tarfile")


def main() -> None:
    """Work until stdin ends."""
    life, modules = Life(), list(MODULES)
    tables: dict[int, tuple[int, ...]] = {}
    with flyball.Workload(life.name) as workload:
        for number in life.calls(6.0):
            workload.count("requests")
            if life.age_s < WARM_S:
                if modules and number % 5 == 0:
                    importlib.import_module(modules.pop())
                for _ in range(20):
                    row = len(tables)
                    tables[row] = tuple(row * 1000 + n for n in range(150))
            else:
                tables[life.chance.randrange(len(tables))]
    life.tell(leaked=0, calls=len(tables))


if __name__ == "__main__":
    main()
