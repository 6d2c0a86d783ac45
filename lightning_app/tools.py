"""What the subcommands without a Trainer share."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from lightning_app.errors import UsageError
from lightning_app.home import expand_arguments
from lightning_app.paths import check_path


def folder(text: str) -> str:
    """A folder of the command line: `type=` of an option; one that is not there yet passes.

    Raises:
        ArgumentTypeError: If there cannot be one of that path.
    """
    try:
        check_path("folder", text, folder=True)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def at_least(least: int) -> Callable[[str], int]:
    """`type=` of an option that is a whole number, `least` or more."""

    def number(text: str) -> int:
        try:
            if int(text) >= least:
                return int(text)
        except ValueError:
            pass
        shown = text if len(text) <= 20 else f"{text[:20]}..."
        raise argparse.ArgumentTypeError(f"{shown!r} given, expected a number of at least {least}")

    return number


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

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Parses, with the home directory for `~` behind `=`, where a shell leaves it."""
        given = sys.argv[1:] if args is None else args
        return super().parse_known_args(expand_arguments(given), namespace)
