"""Leaving in good order where the disk fails in the midst of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from lightning_app.errors import describe


@contextmanager
def nothing_left(*made: Path) -> Iterator[None]:
    """Removes what was made for something that the system then refuses.

    Args:
        made: Files, and folders with all that is in them; they need not be there.
    """
    try:
        yield
    except OSError:
        for path in made:
            with suppress(OSError):
                path.unlink() if path.is_file() else shutil.rmtree(path)
        raise


@contextmanager
def not_hiding(error: BaseException | None) -> Iterator[None]:
    """Tells what fails after an error in a line of its own; without one it is raised.

    Args:
        error: What ended the run, if anything did.
    """
    try:
        yield
    except Exception as failure:
        if error is None:
            raise
        told = (describe(failure) or repr(failure)).splitlines()[0].removeprefix("error: ")
        rank_zero_info(f"and the end of the run could not be written down: {told}")
