"""The commands that the detector of leaks brings."""
