"""`python -m lightning_app`: the `lightning` command, whoever owns that name on PATH."""

import sys

from lightning_app.cli import main

if __name__ == "__main__":
    sys.exit(main())
