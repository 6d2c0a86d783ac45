"""Ending a run whose validation gains no more."""

from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping
from lightning.pytorch.utilities import rank_zero_info

from callbacks.checkpoints import check_logged
from callbacks.validation import is_scheduled
from meddiff.core.ranges import NonNegativeNumber, PositiveInt, check_ranges


class EarlyStopping(LightningEarlyStopping):
    """Ends training after a number of validations without gain, or never.

    It ends the run after the validation itself, so that `last` holds the state it stopped in. The
    count goes on where a run is resumed; a run that had stopped stops again at once, unless
    `patience` was raised. Another `monitor` or `mode` begins the count anew. A figure that is
    NaN is no gain.

    Args:
        monitor: Name of a logged validation figure.
        mode: Whether the smallest or the largest value is the best.
        patience: Validations without gain after which training ends; None never ends it.
        min_delta: What a validation must gain, beyond the best before it, to count.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        monitor: str = "val/jaccard",
        mode: Literal["min", "max"] = "max",
        patience: PositiveInt | None = None,
        min_delta: NonNegativeNumber = 0.0,
    ) -> None:
        check_ranges(EarlyStopping, locals())
        super().__init__(
            monitor,
            min_delta=min_delta,
            patience=patience or 0,
            mode=mode,
            check_finite=False,
            check_on_train_epoch_end=False,
        )
        self.enabled = patience is not None

    @property
    def state_key(self) -> str:
        """The same whatever the arguments, so that a change of them keeps the state."""
        return type(self).__qualname__

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends a run at once that was killed, or extended, after it had stopped."""
        if self.enabled and self.wait_count >= self.patience:
            self._tell(trainer, "raise early_stopping.patience to go on")
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts a validation of the schedule, and ends the run where the count is full.

        Raises:
            ValueError: If validation did not log the figure.
        """
        if not self.enabled or self._should_skip_check(trainer) or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if not is_scheduled(trainer):  # a run that is extended has no validation here
            return
        check_logged(trainer, self.monitor, "early_stopping.monitor")
        super().on_validation_end(trainer, pl_module)
        if self.wait_count >= self.patience:
            self._tell(trainer, "training ends")

    def _tell(self, trainer: Trainer, consequence: str) -> None:
        rank_zero_info(
            f"early_stopping: {self.wait_count} validations without gain in {self.monitor} (best "
            f"{float(self.best_score):.4g}) at step {trainer.global_step}; {consequence}"
        )

    def state_dict(self) -> dict[str, Any]:
        """The best figure and the validations since; empty where off."""
        if not self.enabled:
            return {}
        return {
            "monitor": self.monitor,
            "mode": self.mode,
            "best_score": self.best_score,
            "wait_count": self.wait_count,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues the count, where it is of the same figure."""
        if (state_dict["monitor"], state_dict["mode"]) == (self.monitor, self.mode):
            self.best_score = state_dict["best_score"]
            self.wait_count = state_dict["wait_count"]
