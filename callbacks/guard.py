"""A stop on a loss that is not finite, before anything good is overwritten."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from callbacks.checkpoints import checkpoint_path
from callbacks.distributed import gather_objects
from meddiff.core.ranges import PositiveInt, check_ranges


class NonFiniteLossError(RuntimeError):
    """The loss or the weights became infinite or not a number."""


@dataclass(frozen=True)
class _Step:
    """A training step whose loss is still on the device."""

    number: int
    finite: Tensor
    index: Tensor | None


class NonFiniteGuard(Callback):
    """Stops all processes of a run where the loss is infinite or not a number.

    Whether each loss is finite is noted on the device and fetched every N batches, so that no step
    waits for the device. It is fetched before every checkpoint as well, and the weights are looked
    at then, so that no checkpoint is ever made of a broken state.

    Args:
        every_n_steps: Batches between two looks.

    Raises:
        ValueError: If it is not at least 1.
    """

    def __init__(self, every_n_steps: PositiveInt = 50) -> None:
        super().__init__()
        check_ranges(NonFiniteGuard, locals())
        self.every_n_steps = every_n_steps
        self._steps: list[_Step] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier fit."""
        self._steps = []

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Notes the loss and, every N batches, looks at the notes."""
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        index = batch.get("index") if isinstance(batch, Mapping) else None
        # A step without a loss is noted too: the processes must count alike.
        finite = torch.isfinite(loss.detach()).all() if isinstance(loss, Tensor) else None
        if finite is None:
            finite = torch.ones((), dtype=torch.bool, device=pl_module.device)
        self._steps.append(_Step(trainer.global_step, finite, index))
        if len(self._steps) >= self.every_n_steps:
            self._look(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks before time is spent on validating broken weights."""
        self._look(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the last steps."""
        self._look(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuses to make a checkpoint of a broken state."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        self._look(trainer)
        trained = [p.detach() for p in pl_module.parameters() if p.requires_grad]
        if trained and not _all_finite(trained):
            raise NonFiniteLossError(
                f"the weights are not finite after step {trainer.global_step}, though the loss was."
                f" {_way_out(trainer)}"
            )

    def _look(self, trainer: Trainer) -> None:
        """Fetches the notes; raises on all processes where any loss of any process was bad."""
        steps, self._steps = self._steps, []
        if not steps:
            return
        finite = torch.stack([step.finite for step in steps]).tolist()
        bad = next((step for step, good in zip(steps, finite, strict=True) if not good), None)
        if not trainer.strategy.reduce_boolean_decision(bad is not None, all=False):
            return
        own = None if bad is None else (bad.number, _indices(bad))
        found = [report for report in gather_objects(trainer, own) if report is not None]
        number = min(step for step, _ in found)
        indices = [index for step, items in found if step == number for index in items]
        items = f"the items with index {indices}" if indices else "a batch without index"
        raise NonFiniteLossError(
            f"train/loss is not finite at step {number}, for {items}. {_way_out(trainer)}"
        )


def _indices(step: _Step) -> list[int]:
    return [] if step.index is None else [int(index) for index in step.index.tolist()]


def _all_finite(tensors: list[Tensor]) -> bool:
    """Whether all entries are finite, by the largest magnitude of each tensor, which keeps NaN."""
    largest = torch._foreach_norm(tensors, float("inf"))
    return bool(torch.isfinite(torch.stack([value.float() for value in largest])).all())


def _way_out(trainer: Trainer) -> str:
    last = checkpoint_path(trainer, "last")
    kept = f"The last good checkpoint is {last}" if last.is_file() else "No checkpoint was made yet"
    return f"{kept}. Look at these items, lower the learning rate, or use precision 32-true"
