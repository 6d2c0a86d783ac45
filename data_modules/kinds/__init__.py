"""Kinds of data set: what several share, up to the batch."""
