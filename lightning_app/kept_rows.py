"""Which rows of `metrics.csv` a resumed run keeps."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_app.loggers import RunCSVLogger


class KeptRows(Callback):
    """A checkpoint knows how many rows there are; a resumed run drops the later ones.

    They are of steps that it takes again, or of an end that it makes again.

    Args:
        resumed: Whether the run goes on in the directory of the checkpoint.
    """

    def __init__(self, resumed: bool) -> None:
        self._resumed = resumed
        self._trainer: Trainer | None = None
        self._rows: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Notes whose rows are counted."""
        self._trainer = trainer

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drops the rows past the restored state."""
        if not self._resumed:
            return
        rank_zero_info(f"resumed at step {trainer.global_step}")
        # A checkpoint from before rows were counted does not know; without one, none count.
        rows = self._rows if trainer.global_step else 0
        for logger in _tables(trainer):
            logger.continue_behind(rows)

    def state_dict(self) -> dict[str, Any]:
        """The rows that a checkpoint knows of; they are the first process's to count."""
        if self._trainer is None or not self._trainer.is_global_zero:
            return {}
        return {"rows": sum(logger.rows for logger in _tables(self._trainer))}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores their number."""
        self._rows = state_dict["rows"]


def _tables(trainer: Trainer) -> list[RunCSVLogger]:
    """The one table of a run."""
    return [logger for logger in trainer.loggers if isinstance(logger, RunCSVLogger)]
