"""Runs the handlers: groups, retries, dead letters, snapshots, the lease."""
