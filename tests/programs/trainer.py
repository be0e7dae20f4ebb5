"""A program that obeys: it trains step by step, and tells when each step began and was done."""

import itertools
import signal
import sys
import time

import flyball

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
name, *gpus = sys.argv[1:]

with flyball.Workload(name, gpus=[int(gpu) for gpu in gpus], host_memory=False) as workload:
    workload.on_cleanup(lambda level: print("cleanup", level, flush=True))
    for _ in workload.pace(itertools.count()):
        began_s = time.monotonic()
        time.sleep(0.01)
        workload.count("steps")
        print("step", began_s, time.monotonic(), flush=True)
