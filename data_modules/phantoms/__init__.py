"""Writers of phantom data sets."""
