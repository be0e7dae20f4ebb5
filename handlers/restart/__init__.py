"""Starts a declared workload anew when a command asks for it, within a budget, and says what came of it."""
