"""A program that starts a thread at each call and never ends it; it counts its calls and ends with its stdin.

`python -m tests.programs.forgetful NAME CALLS_A_SECOND FIRST CALM_S [CALLS]`: FIRST threads are started at once, as a
pool would, and after a calm the calls come in a fixed but uneven rhythm, CALLS of them.
"""

import random
import sys
import threading

import flyball


def main() -> None:
    """Call until stdin ends."""
    name, rate_hz, first, calm_s = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    left = int(sys.argv[5]) if len(sys.argv) > 5 else -1
    over, ended = threading.Event(), threading.Event()

    def end_with_stdin() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=end_with_stdin, daemon=True).start()
    rhythm = random.Random(5)
    with flyball.Workload(name) as workload:
        for _ in range(first):
            threading.Thread(target=over.wait, name="pool", daemon=True).start()
        workload.count("add_sections", 0)
        ended.wait(calm_s)
        while not ended.wait(rhythm.expovariate(rate_hz)):
            if not left:
                ended.wait()
                break
            left -= 1
            threading.Thread(target=over.wait, name="reader", daemon=True).start()
            workload.count("add_sections")
    over.set()


if __name__ == "__main__":
    main()
