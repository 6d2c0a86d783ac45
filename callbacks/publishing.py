"""Where pictures of a run go: into its folder and to its loggers."""

from pathlib import Path
from typing import Any, Literal, TypeAlias

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.pictures import write_png

Kind: TypeAlias = Literal[
    "samples",
    "segmentations",
    "translations",
    "test_segmentations",
    "test_translations",
    "validation_translations",
]
"""A kind of picture, by its name in TensorBoard and Weights & Biases."""

_FILES: dict[Kind, str] = {
    "samples": "step",
    "segmentations": "segment",
    "translations": "translate",
    "test_segmentations": "test",
    "test_translations": "test",
    "validation_translations": "validate",
}


def is_missing(trainer: Trainer, kind: Kind, step: int) -> bool:
    """Whether the first process has no such picture; the same answer on all."""
    return not trainer.strategy.broadcast(_file(trainer, kind, step).is_file())


def publish(trainer: Trainer, kind: Kind, picture: Tensor, step: int) -> None:
    """Writes `samples/<kind>-<step>.png` and hands the picture to the loggers, on one process.

    Args:
        trainer: The trainer of the run.
        kind: What it shows.
        picture: uint8, shape (3, H, W).
        step: Optimiser steps of the weights that it shows.
    """
    if not trainer.is_global_zero:
        return
    picture = picture.cpu()
    write_png(_file(trainer, kind, step), picture)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(kind, picture, step)
        elif isinstance(logger, WandbLogger):
            logger.log_image(kind, [picture.permute(1, 2, 0).numpy()], step=step)


def first_loader(loaders: Any) -> DataLoader[Any] | None:
    """The first of a trainer's loaders, where it has items."""
    first = loaders[0] if isinstance(loaders, list) and loaders else loaders
    return first if isinstance(first, DataLoader) and len(first) else None


def spread_items(num: int, size: int) -> list[int]:
    """At most `num` positions, evenly spread over a set of `size`."""
    num = min(num, size)
    return [item * size // num for item in range(num)]


def _file(trainer: Trainer, kind: Kind, step: int) -> Path:
    return Path(trainer.default_root_dir) / "samples" / f"{_FILES[kind]}-{step:08d}.png"
