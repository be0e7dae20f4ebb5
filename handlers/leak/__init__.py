"""Finds growth that does not end, while it happens: in memory, threads, handles and VRAM, and says what drives it."""
