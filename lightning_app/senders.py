"""Loggers that hand on what they get: to Weights & Biases, to TensorBoard, to a user's own."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from callbacks.files import atomic_write
from lightning_app.redaction import Redaction


class _Ending:
    """Ends without hiding the error that ended the run."""

    def finalize(self, status: str) -> None:
        """Ends the logging; after an error, what cannot be written any more does not hide it."""
        with suppress(OSError) if status == "failed" else nullcontext():
            super().finalize(status)  # type: ignore[misc]


class RunTensorBoardLogger(_Ending, TensorBoardLogger):
    """TensorBoard, whose files are not named after the host."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of event files."""
        if self._experiment is None:
            with _host_unnamed():
                return super().experiment
        return self._experiment

    @rank_zero_only
    def save(self) -> None:
        """Writes what waits in memory, and `hparams.yaml` whole."""
        self.experiment.flush()
        path = Path(self.log_dir) / self.NAME_HPARAMS_FILE
        if not path.is_file():
            with atomic_write(path) as file:
                file.write(yaml.safe_dump(dict(self.hparams)).encode())


class RunWandbLogger(_Ending, WandbLogger):
    """Weights & Biases, with or without pictures.

    Args:
        pictures: Whether pictures are sent.
        **kwargs: As `WandbLogger`.
    """

    def __init__(self, pictures: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._pictures = pictures

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], *args: Any, **kwargs: Any) -> None:
        """Sends pictures, where they are to be sent."""
        if self._pictures:
            super().log_image(key, images, *args, **kwargs)


PRIVATE = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "host": "host",
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}
"""Settings of W&B's client: neither the command line, nor the printed text, nor the code's place
leaves the machine."""


@contextmanager
def _host_unnamed() -> Iterator[None]:
    """Hides the host's name from TensorBoard, which makes it a part of its files' names."""
    from tensorboard.summary.writer import event_file_writer

    there = event_file_writer.socket
    event_file_writer.socket = SimpleNamespace(gethostname=lambda: "host")
    try:
        yield
    finally:
        event_file_writer.socket = there


def guarded(logger: Logger, redaction: Redaction) -> Logger:
    """A logger that gets no settings but redacted ones, whoever sends them; changed in place.

    Where it is W&B's, its client tells no more of the machine than our own does.
    """
    # On the object: Lightning and a module's own code call this method too.
    if isinstance(logger, WandbLogger):
        _keep_private(logger)
    send = partial(_send_redacted, logger.log_hyperparams, redaction)
    logger.log_hyperparams = send  # type: ignore[method-assign]
    return logger


def _keep_private(logger: WandbLogger) -> None:
    """Has W&B's client, which is not started yet, keep to itself what it would add of its own."""
    # Read when its client starts: reports of the client's own errors hold paths and hosts.
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    given = logger._wandb_init.get("settings") or {}
    if isinstance(given, Mapping):  # a setting that a user gave is meant
        logger._wandb_init["settings"] = {**PRIVATE, **given}


def _send_redacted(
    send: Callable[..., None], redaction: Redaction, params: Any, *args: Any, **kwargs: Any
) -> None:
    send(redaction(params), *args, **kwargs)
