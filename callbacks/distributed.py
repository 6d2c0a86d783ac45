"""Gathering over the processes of a run."""

from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors


def gather_rows(trainer: Trainer, rows: Tensor) -> Tensor:
    """Joins the rows that each process holds, in the order of the ranks, on every process.

    All processes must call it.

    Args:
        trainer: The trainer of the run.
        rows: A tensor whose first dimension may differ between processes.
    """
    if trainer.world_size == 1:
        return rows
    gathered = gather_all_tensors(rows.to(trainer.strategy.root_device))
    return torch.cat(gathered).to(rows.device)


def gather_objects(trainer: Trainer, own: Any) -> list[Any]:
    """Lists what each process has, in the order of the ranks, on every process.

    All processes must call it; it waits for the device.

    Args:
        trainer: The trainer of the run.
        own: Anything that can be pickled.
    """
    if trainer.world_size == 1:
        return [own]
    gathered: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(gathered, own)
    return gathered
