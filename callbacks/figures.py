"""The newest figures of a run, for what looks at them after a resume."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

KEY = "figures"
"""Key of a checkpoint for the newest figure of each name."""


class NewestFigures(Callback):
    """A resumed run knows the figures that were logged before, as one that was left alone does.

    A schedule such as `ReduceLROnPlateau` looks at them at each of its steps, also where nothing
    was validated since the last one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._restored: dict[str, Tensor] = {}

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Writes them down."""
        figures = trainer.callback_metrics
        checkpoint[KEY] = {name: value.detach().cpu().clone() for name, value in figures.items()}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Reads them; a checkpoint of an earlier version has none."""
        self._restored = dict(checkpoint.get(KEY, {}))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts them back, behind the sanity check, after which Lightning forgets all figures."""
        trainer.callback_metrics.update(self._restored)
        self._restored = {}
