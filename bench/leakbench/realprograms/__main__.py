"""Runs one of the programs: its name, a seed, and how many seconds."""

import os
import random
import sys

from bench.leakbench.realprograms import PROGRAMS
from bench.leakbench.realprograms.work import run

chosen, seed, seconds = sys.argv[1:4]
run(PROGRAMS[chosen](random.Random(int(seed))), float(seconds))
sys.stdout.flush()
os._exit(0)  # what still runs is part of the program, and is not waited for
