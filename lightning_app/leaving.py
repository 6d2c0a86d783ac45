"""Leaving in good order, also where the disk fails in the midst of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger
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


def state_after(error: BaseException | None) -> str:
    """The state of a run that ended with an error, or without one."""
    if error is None:
        return "finished"
    return "failed" if isinstance(error, Exception) else "interrupted"


def finish_wandb(trainer: Trainer | None) -> None:
    """Ends the run at Weights & Biases, so that the next one in this process is its own."""
    for logger in trainer.loggers if trainer is not None else []:
        if isinstance(logger, WandbLogger) and logger._experiment is not None:
            logger.experiment.finish()
