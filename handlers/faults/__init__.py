"""Faults of the cards: what went wrong, what to do about it, and a pause where nothing can run until it is done."""
