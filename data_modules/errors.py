"""Errors about data: the user can act on each of them, so each says how."""

from pathlib import Path


class DataError(ValueError):
    """Data or settings that cannot be used; the message names the file or field, and the fix."""


class CorruptImageError(DataError):
    """An image file that cannot be read.

    Args:
        path: The file. A whole message also goes here, with no reason: so a data loader raises it
            again in the main process.
        reason: What is wrong with it.
    """

    def __init__(self, path: Path | str, reason: str = "") -> None:
        super().__init__(f"{path}: {reason}" if reason else str(path))
