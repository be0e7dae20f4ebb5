"""A mock `libnvidia-ml.so.1`: built by `build.py`, driven through `control.py`, loaded by the real pynvml."""
