"""The handlers that ship with Flyball: each a pure policy, its effects, and the tie to the runtime."""
