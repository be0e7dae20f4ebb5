"""The ladder and the forecast: a card's and the host's figures in, a state and what throttle demands out."""
