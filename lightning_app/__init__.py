"""The `lightning` command. It imports nothing heavy, so that help and version answer at once."""
