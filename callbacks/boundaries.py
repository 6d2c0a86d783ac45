"""The moments of a fit at which all that belongs to its batches so far is done.

Lightning has no hook there. After `on_train_batch_end` it still writes the row of the step,
validates, lets schedules follow the figures and, behind the last batch of an epoch, closes the
epoch. A checkpoint from before that knows a part of it, and a run that leaves there never does the
rest. So what saves or leaves waits for the boundary behind the batch.
"""

from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import Trainer

from callbacks.validation import final_follows, is_due


@runtime_checkable
class SeesBoundaries(Protocol):
    """A callback that is called at the boundaries that `watch` sees."""

    def on_boundary(self, trainer: Trainer) -> None:
        """Called when a batch is done, and behind the last one of an epoch the epoch too."""


def watch(trainer: Trainer) -> None:
    """Calls `on_boundary` of all callbacks that have it; for `on_train_start`, once or oftener.

    A run that was saved at a boundary goes on there: nothing of the batch before it is done anew.
    """
    fit_loop: Any = trainer.fit_loop
    epoch_loop = fit_loop.epoch_loop
    epochs = fit_loop.epoch_progress.current
    if epochs.ready == epochs.completed and not epoch_loop.restarted_on_train_batch_end:
        # No epoch is under way, but Lightning would go on behind the last batch of the last one.
        for loop in (fit_loop, epoch_loop, epoch_loop.val_loop):
            loop.on_iteration_done()
    if "on_advance_end" not in vars(fit_loop):
        fit_loop.on_advance_end = _after_epoch(trainer, fit_loop.on_advance_end)
        epoch_loop.on_advance_end = _after_batch(trainer, epoch_loop.on_advance_end)


def _after_batch(trainer: Trainer, advance_end: Any) -> Any:
    loop: Any = trainer.fit_loop.epoch_loop

    def on_advance_end(fetcher: Any) -> None:
        if loop._skip_next_val:
            # A resumed run stands behind this validation, and behind all that follows it.
            loop._skip_next_val = False
            return
        # A batch was trained on: Lightning would still take the end of its epoch for one made
        # before, where a `ReduceLROnPlateau` is not to follow a figure again.
        trainer.fit_loop._restarting = False
        stopping = trainer.should_stop
        if stopping and final_follows(trainer) and not is_due(trainer):
            trainer.should_stop = False  # Lightning would validate, which is left to the end
        advance_end(fetcher)
        trainer.should_stop = trainer.should_stop or stopping
        if not loop._num_ready_batches_reached():
            _call(trainer)

    return on_advance_end


def _after_epoch(trainer: Trainer, advance_end: Any) -> Any:
    def on_advance_end() -> None:
        whole = trainer.fit_loop.epoch_loop._num_ready_batches_reached()
        advance_end()
        if whole:  # else the fit ends inside it, at a boundary that was seen already
            _call(trainer)

    return on_advance_end


def _call(trainer: Trainer) -> None:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, SeesBoundaries):
            callback.on_boundary(trainer)


def number_as_done(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    """Gives a checkpoint that is saved in a validation the count of batches of the boundary.

    Lightning counts the batch only after the validation that follows it.
    """
    loop: Any = trainer.fit_loop.epoch_loop
    if trainer.validating and not trainer.sanity_checking and not loop._should_accumulate():
        checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
