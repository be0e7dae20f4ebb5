"""Families of invented programs: each adds to a program what it is about."""

from bench.leakbench.families import healthy, healthy_others, leaking, leaking_others
from bench.leakbench.families.parts import HEALTHY, LEAKING

__all__ = ["HEALTHY", "LEAKING", "healthy", "healthy_others", "leaking", "leaking_others"]
