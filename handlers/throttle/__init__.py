"""The ladder: a card's and the host's figures in, a state and what throttle demands of that target out."""
