"""What only a real NVIDIA GPU can show; skipped by name elsewhere."""
