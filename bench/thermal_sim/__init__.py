"""Simulated cards and the controllers that are tried on them; `bench/thermal.py` prints how they did."""
