"""Which validations belong to the schedule of a run, and which only to its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn

_IN_FINAL: WeakSet[Trainer] = WeakSet()


def is_scheduled(trainer: Trainer) -> bool:
    """Whether the validation that is running is one that a longer run would have as well.

    The final one of `FinalValidation` is not, nor is the one that Lightning adds where training
    was told to stop between two validations.
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
