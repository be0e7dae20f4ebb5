"""The whole of Flyball: the real daemon, real programs, a mock driver."""
