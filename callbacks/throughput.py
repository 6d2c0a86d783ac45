"""How fast a run trains, and what it waits for."""

from typing import Any

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.clock import TrainingClock
from callbacks.steps import Every
from meddiff.core.ranges import PositiveInt, check_ranges


class Throughput(Callback):
    """Logs speed, time lost to waiting for data, and memory, every N optimiser steps.

    - `perf/images_per_s`: training images of all processes a second. Validation and the saving of
      checkpoints do not count, nor does the first batch of a launch; a row of which that is the
      only batch has neither this nor the next figure.
    - `perf/data_wait`: share of that time, 0 to 1, from the end of a batch to the start of the
      next.
    - `perf/memory_mb`: on a GPU the peak that tensors took, on a CPU the memory of the process,
      in MiB.

    Nothing waits for the device; the averages over N steps are right because a GPU runs only a
    few steps behind. A resumed run has its rows at the steps of one that was never stopped.

    Args:
        every_n_steps: Optimiser steps between two rows.

    Raises:
        ValueError: If it is not at least 1.
    """

    def __init__(self, every_n_steps: PositiveInt = 50) -> None:
        super().__init__()
        check_ranges(Throughput, locals())
        self._every = Every(every_n_steps)
        self._clock = TrainingClock()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins anew."""
        self._clock.begin()
        self._every.start(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the validation out of the wait for data."""
        self._clock.interrupt()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Leaves the saving out of the wait for data."""
        self._clock.interrupt()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Counts the wait for this batch."""
        self._clock.batch_started()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Counts the batch and, every N steps, logs."""
        clock = self._clock
        clock.batch_ended(batch)
        if not self._every.crossed(trainer):
            return
        figures = {"perf/memory_mb": _memory(pl_module.device) / 2**20}
        if clock.seconds:
            figures["perf/images_per_s"] = clock.images * trainer.world_size / clock.seconds
            figures["perf/data_wait"] = clock.waited / clock.seconds
        clock.restart()
        for logger in trainer.loggers:
            # Lightning numbers the row of the first step 0.
            logger.log_metrics(figures, step=trainer.global_step - 1)


def _memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(psutil.Process().memory_info().rss)
