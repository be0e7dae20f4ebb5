"""What each card was like lately: its history, the trend of its temperature and memory, and a forecast of them."""
