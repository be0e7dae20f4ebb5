"""Small real programs that leak, or that only look like it.

`python -m bench.leakbench.realprograms NAME SEED SECONDS` runs one, which prints its counters eight times a second.
"""

from bench.leakbench.realprograms import healthy, leaking
from bench.leakbench.realprograms.work import Work

PROGRAMS: dict[str, type[Work]] = {work.__name__: work for work in Work.__subclasses__()}

__all__ = ["PROGRAMS", "healthy", "leaking"]
