"""What the subcommands without a Trainer share."""

import argparse
from typing import NoReturn

from lightning_app.errors import UsageError


class ToolParser(argparse.ArgumentParser):
    """A parser whose errors are short.

    Args:
        name: The subcommand.
        description: What it does.
    """

    def __init__(self, name: str, description: str) -> None:
        super().__init__(prog=f"lightning {name}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises what argparse found wrong.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{self.prog}: {message}\n{self.format_usage().strip()}")
