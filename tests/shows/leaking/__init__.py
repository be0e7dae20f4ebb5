"""Programs that leak after a while of ordinary work, and programs that only look as if they did."""
