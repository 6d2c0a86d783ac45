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
    it, and a run that is extended goes on with the `best` from before it. A run at its limit that
    was asked to stop by a signal leaves before it, and begins with it when it is resumed, though no
    batch is left to train on. Where something else ended the training, a callback of the user's
    say, it is made first: nobody would end the resumed run at the same batch. One that
    `trainer.max_time` ended makes none, nor does one without a validation set.

    It is a `Checkpoint` because Lightning runs these after all other callbacks; list it after
    `LastCheckpoint`.

    Attributes:
        step: Optimiser steps of the weights that were validated last in this fit; None: none were.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self._validated = -1
        self._restored: int | None = None
        self._began = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets a run come to its end that was stopped between its last batch and its end."""
        self._began = False
        loop: Any = trainer.fit_loop
        run = loop.run

        def run_to_the_end() -> None:
            del loop.run
            run()
            if not self._began and loop.is_resuming and loop.max_batches > 0:
                _end(trainer)

        loop.run = run_to_the_end

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the batch that a resumed run was validated at."""
        self._began = True
        self.step = None
        here = trainer.fit_loop.total_batch_idx
        self._validated = here if self._restored is None else self._restored
        self._restored = None

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes what was validated, before `best` is saved."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self.step = trainer.global_step
            self._validated = trainer.fit_loop.total_batch_idx

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validates where batches were trained on since the last validation.

        Raises:
            SystemExit: If a signal asked to stop before.
        """
        fresh = self._validated == trainer.fit_loop.total_batch_idx
        if fresh or not trainer.enable_validation or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, Preemption) and not trainer.should_stop:
                callback.leave_if_asked(trainer)
        # Times of processes differ, and all of them must validate or none.
        if not trainer.strategy.reduce_boolean_decision(_is_out_of_time(trainer), all=False):
            self.validate_last(trainer)

    def validate_last(self, trainer: Trainer) -> None:
        """Validates, on nobody's schedule."""
        trainer.lightning_module.zero_grad()  # makes room, as before every validation
        with isolate_rng(), final(trainer), _numbered_as_the_last_batch(trainer):
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True

    def state_dict(self) -> dict[str, Any]:
        """The batch that was validated last, counted from the start of the run."""
        return {"validated": self._validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        self._restored = state_dict["validated"]


def _end(trainer: Trainer) -> None:
    """What Lightning leaves out where a limit is reached before the first batch: a fit's end."""
    loop = trainer.fit_loop
    loop.reset()
    loop.on_run_start()
    epochs = loop.epoch_progress.current
    if epochs.ready > epochs.completed:
        loop.on_advance_end()  # closes the epoch that the fit ends in
    for done in (loop, loop.epoch_loop, loop.epoch_loop.val_loop):
        done.on_iteration_done()  # nothing that follows is a part done before
    loop.on_run_end()


def _is_out_of_time(trainer: Trainer) -> bool:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
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
