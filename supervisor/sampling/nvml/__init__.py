"""Reads NVIDIA cards through NVML in child processes, because a call into a sick driver may never return.

The child imports this package, so nothing is imported here. `source.NvmlSource` is the way in.
"""
