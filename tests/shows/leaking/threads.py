"""Indexes documents with a thread each and answers searches; the bug: the thread waits for an end that nobody sends."""

import hashlib
import threading

import flyball
from tests.shows.leaking.life import Life


def index(document: bytes, done: threading.Event) -> None:
    """What a thread does with a document."""
    for _ in range(20):
        document = hashlib.sha256(document).digest() * 100
    done.wait()


def main() -> None:
    """Work until stdin ends."""
    life, leaked, calls = Life(), 0, 0
    with flyball.Workload(life.name) as workload:
        workload.count("index", 0)
        workload.count("search", 0)
        for _ in life.calls(2.0):
            if life.chance.random() < 0.5:
                workload.count("search")
                sorted(life.chance.random() for _ in range(2000))
                continue
            bug = life.has_bug()
            done = threading.Event()
            worker = threading.Thread(target=index, args=(life.chance.randbytes(1000), done), name="index-worker")
            worker.daemon = True
            worker.start()
            workload.count("index")
            if bug:
                leaked, calls = leaked + 1, calls + 1
            else:
                done.set()
                worker.join()
    life.tell(leaked=leaked, calls=calls)


if __name__ == "__main__":
    main()
