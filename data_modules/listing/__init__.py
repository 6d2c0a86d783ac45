"""What files there are, what is wrong with them, and which split each is in."""
