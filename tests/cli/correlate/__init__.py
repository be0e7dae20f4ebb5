"""`flyball correlate`, as a process and its parts."""
