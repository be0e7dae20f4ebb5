"""The NVML room, with real reader processes and the real pynvml over a mock driver."""
