"""Gathering over the processes of a run."""

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors


def gather_rows(trainer: Trainer, rows: Tensor) -> Tensor:
    """Joins the rows that each process holds, in the order of the ranks, on every process.

    All processes must call it, also those without a row.

    Args:
        trainer: The trainer of the run.
        rows: A tensor whose first dimension may differ between processes, or be 0.
    """
    if trainer.world_size == 1:
        return rows
    gathered = gather_all_tensors(rows.to(trainer.strategy.root_device))
    # A process without rows may not even know how long a row is.
    filled = [part for part in gathered if len(part)]
    return torch.cat(filled).to(rows.device) if filled else rows
