"""Labelled traces of programs that leak and that do not, and what feeds and scores a detector of leaks."""
