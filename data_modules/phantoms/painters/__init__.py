"""What the phantoms show: drawn from random numbers, never from an image."""
