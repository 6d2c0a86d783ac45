"""Which optimiser step a run is at, and when the next look is due."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Every:
    """Tells when a run reaches a multiple of N optimiser steps.

    Args:
        interval: Optimiser steps between two multiples, at least 1.
    """

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self._seen = 0

    def start(self, trainer: Trainer) -> None:
        """Begins at the step where the run stands, which a resumed run has not just reached."""
        self._seen = trainer.global_step

    def crossed(self, trainer: Trainer) -> bool:
        """Whether a multiple was reached since the last look."""
        # Crossed rather than hit: two optimisers count two steps a batch.
        before, self._seen = self._seen, trainer.global_step
        return self._seen // self.interval > before // self.interval


def is_last_batch_of_fit(trainer: Trainer) -> bool:
    """Whether training ends with the batch that was just trained on."""
    if _was_stopped(trainer):
        return True
    epochs = trainer.max_epochs
    last_epoch = epochs is not None and 0 <= epochs <= trainer.current_epoch + 1
    return last_epoch and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def fit_ends_here(trainer: Trainer) -> bool:
    """Whether training ends at the boundary where it stands."""
    epochs = trainer.max_epochs
    progress: Any = trainer.fit_loop.epoch_progress
    closed = progress.current.processed
    return _was_stopped(trainer) or (epochs is not None and 0 <= epochs <= closed)


def _was_stopped(trainer: Trainer) -> bool:
    """Whether the limit of steps is reached, or something stopped training and it does stop."""
    if 0 <= trainer.max_steps <= trainer.global_step:
        return True
    # Not before `min_steps` and `min_epochs`.
    return trainer.should_stop and trainer.fit_loop._can_stop_early


class KnowsLoadedStep(Callback):
    """A callback that knows the step of the weights that a test, validation or prediction uses.

    The Trainer restores its own count of steps in a fit alone.

    Attributes:
        loaded_step: Optimiser steps of the checkpoint that this run loaded; None without one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loaded_step: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forgets the checkpoint of an earlier run; this run's is loaded after this hook."""
        self.loaded_step = None

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Notes the step of the weights."""
        self.loaded_step = int(checkpoint["global_step"])

    def step_of_weights(self, trainer: Trainer) -> int:
        """The loaded step, or without a checkpoint the one that the trainer stands at."""
        return trainer.global_step if self.loaded_step is None else self.loaded_step
