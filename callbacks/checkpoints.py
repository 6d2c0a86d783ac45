"""The two checkpoints of a run: `checkpoints/best.ckpt` and `checkpoints/last.ckpt`.

They are two callbacks because Lightning's `save_last` refreshes the last checkpoint only when a
better one is saved. List `best` before `last`: the last checkpoint then holds the newest best
score. Each file is overwritten in place.
"""

import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.steps import Every


def checkpoint_path(trainer: Trainer, name: Literal["best", "last"]) -> Path:
    """Where a run keeps a checkpoint, whether it is there yet or not."""
    return Path(trainer.default_root_dir) / "checkpoints" / f"{name}.ckpt"


def check_logged(trainer: Trainer, monitor: str, argument: str) -> None:
    """Stops on a validation that did not log the figure that a callback follows.

    Raises:
        ValueError: If it did not; names the argument and the figures that there are.
    """
    if monitor not in trainer.callback_metrics:
        logged = sorted(name for name in trainer.callback_metrics if name.startswith("val/"))
        raise ValueError(
            f"{argument}: validation logged no {monitor!r}; "
            f"it logged {', '.join(logged) or 'nothing'}"
        )


class _RunCheckpoint(ModelCheckpoint):
    """A checkpoint of one fixed name in the run directory."""

    name: Literal["best", "last"]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            filename=self.name,
            save_top_k=1,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
            **kwargs,
        )

    @property
    def state_key(self) -> str:
        # Lightning's key holds the arguments, so that another interval would lose the state.
        return type(self).__qualname__

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.dirpath = str(checkpoint_path(trainer, self.name).parent)
        with warnings.catch_warnings():
            # A resumed run writes into its own folder again.
            warnings.filterwarnings("ignore", message=".*exists and is not empty")
            super().setup(trainer, pl_module, stage)


class BestCheckpoint(_RunCheckpoint):
    """Keeps the weights of the best validation so far as `checkpoints/best.ckpt`.

    A run without a validation set has no such file.

    Args:
        monitor: Name of a logged validation figure.
        mode: Whether the smallest or the largest value is the best.
    """

    name = "best"

    def __init__(self, monitor: str = "val/loss", mode: Literal["min", "max"] = "min") -> None:
        super().__init__(monitor=monitor, mode=mode)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves where the figure is better than before.

        Raises:
            ValueError: If validation did not log the figure.
        """
        if not (trainer.sanity_checking or self._should_skip_saving_checkpoint(trainer)):
            check_logged(trainer, str(self.monitor), "best.monitor")
        super().on_validation_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The best score; no paths, so that a run directory can be moved."""
        return {"monitor": self.monitor, "best_model_score": self.best_model_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from the best score, where its file is in this run's folder."""
        score: torch.Tensor | None = state_dict["best_model_score"]
        path = Path(str(self.dirpath)) / f"{self.name}.ckpt"
        if score is None or state_dict["monitor"] != self.monitor or not path.is_file():
            return
        self.best_model_score = self.current_score = self.kth_value = score
        self.best_model_path = self.kth_best_model_path = str(path)
        self.best_k_models = {str(path): score}


class LastCheckpoint(_RunCheckpoint):
    """Keeps the newest state as `checkpoints/last.ckpt`.

    It is saved every N optimiser steps and when training ends. Where a validation follows the step
    it is saved after that validation, so that a resumed run knows its result. The last step of a
    run is saved before Lightning closes the epoch, so that a run with a higher `max_steps`
    continues inside it.

    Args:
        every_n_steps: Optimiser steps between two saves.

    Raises:
        ValueError: If it is not at least 1.
    """

    name = "last"

    def __init__(self, every_n_steps: int = 1000) -> None:
        self._every = Every(every_n_steps, "last.every_n_steps")
        super().__init__(every_n_train_steps=every_n_steps)
        self._due = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the step that a resumed run starts from, which is saved already."""
        super().on_train_start(trainer, pl_module)
        self._every.start(trainer)
        self._last_global_step_saved = trainer.global_step
        self._due = False

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Saves where a multiple of N was reached, or the end."""
        crossed = self._every.crossed(trainer)
        self._due = self._due or crossed or _is_last_batch_of_fit(trainer)
        if self._due and not _validation_follows(trainer):
            self.save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves where it was put off until now, or where validation ended the run."""
        if not trainer.sanity_checking and (self._due or trainer.should_stop):
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves what no earlier hook saw as the end, such as an early stop between epochs."""
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Saves now, unless this step is saved already; to be called on all processes."""
        self._due = False
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_none_monitor_checkpoint(trainer, self._monitor_candidates(trainer))

    def state_dict(self) -> dict[str, Any]:
        """Nothing: there is one file of a fixed name."""
        return {}


def _is_last_batch_of_fit(trainer: Trainer) -> bool:
    if trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step:
        return True
    epochs = trainer.max_epochs
    last_epoch = epochs is not None and 0 <= epochs <= trainer.current_epoch + 1
    return last_epoch and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def _validation_follows(trainer: Trainer) -> bool:
    fit_loop = trainer.fit_loop
    fetcher = fit_loop._data_fetcher
    return fetcher is not None and fit_loop.epoch_loop._should_check_val_fx(fetcher)
