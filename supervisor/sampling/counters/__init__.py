"""What workloads tell of themselves, asked for in the background: JSON and Prometheus over HTTP, lines of a file."""
