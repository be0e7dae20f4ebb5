"""Benchmarks: our figure, the floor and the peers, all measured in the same run."""
