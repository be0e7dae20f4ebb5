"""What `flyball correlate` is made of: reads a recording, finds what moves with what, and draws it."""
