"""Networks that two or more papers share."""
