"""What `flyball trace` is made of: the process, its counters, the rows, and what is said of them."""
