"""The figures that a fit ends with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, Timer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.seed import isolate_rng

from callbacks.preemption import Preemption
from callbacks.validation import final


class FinalValidation(Checkpoint):
    """Validates once more where a fit ends later than its last validation.

    So every run that reaches its end, by steps, by epochs, by a callback or by its module's own
    rule, ends with figures of the weights that it ends with. It is a validation like any other, but
    it decides nothing that goes on: early stopping does not count it, `last.ckpt` is saved before
    it, and a run that is extended goes on with the `best` from before it. A run that was asked to
    stop, by a signal or by `trainer.max_time`, does not begin one, nor does one without a
    validation set.

    It is a `Checkpoint` because Lightning runs these after all other callbacks; list it after
    `LastCheckpoint`.

    Attributes:
        step: Optimiser steps of the weights that were validated last in this fit; None: none were.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self._validated = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the batch that a resumed run stands at: it is not validated anew."""
        self.step = None
        self._validated = trainer.fit_loop.total_batch_idx

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes what was validated."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self.step = trainer.global_step
            self._validated = trainer.fit_loop.total_batch_idx

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validates where batches were trained on since the last validation."""
        fresh = self._validated == trainer.fit_loop.total_batch_idx
        # Times and signals of processes differ, and all of them must validate or none.
        asked = trainer.strategy.reduce_boolean_decision(_was_asked_to_stop(trainer), all=False)
        if fresh or asked or not trainer.enable_validation or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        pl_module.zero_grad()  # makes room, as before every validation
        with isolate_rng(), final(trainer), _numbered_as_the_last_batch(trainer):
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True


def _was_asked_to_stop(trainer: Trainer) -> bool:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    if any(isinstance(callback, Preemption) and callback.has_signal for callback in callbacks):
        return True
    left = [callback.time_remaining() for callback in callbacks if isinstance(callback, Timer)]
    return trainer.should_stop and any(seconds is not None and seconds <= 0 for seconds in left)


@contextmanager
def _numbered_as_the_last_batch(trainer: Trainer) -> Iterator[None]:
    """The row of figures gets the step and the epoch of the last batch, not of the next."""
    loop, epochs = trainer.fit_loop.epoch_loop, trainer.fit_loop.epoch_progress.current
    before = loop._batches_that_stepped, epochs.completed
    loop._batches_that_stepped = max(before[0] - 1, 0)
    epochs.completed = max(before[1] - 1, 0)
    try:
        yield
    finally:
        loop._batches_that_stepped, epochs.completed = before
