"""What Flyball is compared with; `.venv-bench` runs the programs in here, so they import nothing of ours."""
