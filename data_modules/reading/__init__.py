"""Files to arrays, and what of that is remembered."""
