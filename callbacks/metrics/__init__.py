"""Figures of what a module makes, beside the truth, in validation and test."""
