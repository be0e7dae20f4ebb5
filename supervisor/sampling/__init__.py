"""Reads the machine - NVML, host, processes, pressure - into one sample a tick."""
