"""What the Trainer refuses, as errors of the key `trainer`, and what we refuse of a Trainer."""

from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from lightning_app.errors import UsageError


@contextmanager
def told_of_trainer() -> Iterator[None]:
    """Names the section where Lightning's Trainer cannot be made of what was asked for.

    Raises:
        UsageError: If it cannot.
    """
    try:
        yield
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise UsageError(f"trainer: {error}") from error
    except RuntimeError as error:
        if "SLURM" not in str(error):
            raise
        raise UsageError(f"trainer: {error}") from error  # tasks that do not fit the devices


def require_one_process(trainer: Trainer) -> None:
    """Stops where Lightning would start more processes of another command line than ours.

    Raises:
        UsageError: If it would.
    """
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        environment = launcher.cluster_environment
        if launcher.num_processes > 1 and not environment.creates_processes_externally:
            raise UsageError(
                "several devices: start the run with `python -m lightning_app`, not from Python"
            )
