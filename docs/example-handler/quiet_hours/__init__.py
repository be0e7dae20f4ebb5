"""Quiet hours: cards run slower, and so quieter, between two times of the day."""
