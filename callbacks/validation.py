"""Which validations belong to the schedule of a run, and which only to its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable
from weakref import WeakSet

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn

_IN_FINAL: WeakSet[Trainer] = WeakSet()


@runtime_checkable
class ValidatesLast(Protocol):
    """A callback that makes the validation that a fit ends with."""

    def validate_last(self, trainer: Trainer) -> None:
        """Validates, on nobody's schedule."""


def final_follows(trainer: Trainer) -> bool:
    """Whether a callback validates where the fit ends, so that Lightning need not."""
    return any(isinstance(callback, ValidatesLast) for callback in trainer.callbacks)  # type: ignore[attr-defined]


def is_scheduled(trainer: Trainer) -> bool:
    """Whether the validation that is running is one that a longer run would have as well.

    The final one of `FinalValidation` is not, nor is the one that Lightning adds, in a fit without
    that callback, where training was told to stop between two validations.
    """
    if trainer.state.fn != TrainerFn.FITTING:
        return True
    return trainer not in _IN_FINAL and is_due(trainer)


def is_due(trainer: Trainer) -> bool:
    """Whether a validation follows the current batch by the Trainer's intervals."""
    fetcher = trainer.fit_loop._data_fetcher
    stopping, trainer.should_stop = trainer.should_stop, False
    try:
        return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)
    finally:
        trainer.should_stop = stopping


@contextmanager
def final(trainer: Trainer) -> Iterator[None]:
    """Validations inside this context are on nobody's schedule."""
    _IN_FINAL.add(trainer)
    try:
        yield
    finally:
        _IN_FINAL.discard(trainer)
