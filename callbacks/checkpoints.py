"""The two checkpoints of a run: `checkpoints/best.ckpt` and `checkpoints/last.ckpt`.

They are two callbacks because Lightning's `save_last` refreshes the last checkpoint only when a
better one is saved. List `best` before `last`: the last checkpoint then holds the newest best
score. Each file is overwritten in place.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from callbacks.boundaries import number_as_done, watch
from callbacks.steps import Every, is_last_batch_of_fit
from callbacks.validation import is_scheduled
from meddiff.core.ranges import PositiveInt, check_ranges


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


@dataclass(frozen=True)
class Best:
    """The best validation of a run.

    Attributes:
        figure: Name of the figure that says so.
        value: Its value.
        step: Optimiser steps of the weights; None where the run does not know it.
    """

    figure: str
    value: float
    step: int | None


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

    A run without a validation set has no such file. Where the final validation of a run is its
    best, the best of those before it is kept as `best_scheduled.ckpt`, and a run that is extended
    goes on with that: it has the `best` of a run that was as long from the start.

    Args:
        monitor: Name of a logged validation figure.
        mode: Whether the smallest or the largest value is the best.
    """

    name = "best"

    def __init__(self, monitor: str = "val/loss", mode: Literal["min", "max"] = "min") -> None:
        super().__init__(monitor=monitor, mode=mode)
        self._step: int | None = None
        self._final: Best | None = None
        self._to_put_back = False

    @property
    def best(self) -> Best | None:
        """What `best.ckpt` is of; None where there is none."""
        score = self.best_model_score
        if self._final is not None or score is None:
            return self._final
        return Best(str(self.monitor), float(score), self._step)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks whether a run that had ended is extended."""
        super().on_train_start(trainer, pl_module)
        self._final = None
        self._to_put_back = self._scheduled_file.is_file()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Takes the final validation back where training does go on."""
        if self._to_put_back and trainer.is_global_zero:
            self._scheduled_file.replace(self._file)
        self._to_put_back = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves where the figure is better than before.

        Raises:
            ValueError: If a validation of the schedule did not log the figure.
        """
        if self._should_skip_saving_checkpoint(trainer):
            return
        if not is_scheduled(trainer):
            self._save_final(trainer)
            return
        check_logged(trainer, str(self.monitor), "best.monitor")
        super().on_validation_end(trainer, pl_module)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        self._step = trainer.global_step  # before the state is saved
        super()._save_checkpoint(trainer, filepath)

    def _save_final(self, trainer: Trainer) -> None:
        """Saves the end of a run where it is the best, and leaves the state of the run alone."""
        figure = trainer.callback_metrics.get(str(self.monitor))
        if figure is None or figure.isnan() or not self.check_monitor_top_k(trainer, figure):
            return
        # Where it lies aside already, the end is made again: the run was killed in it.
        known = bool(self.best_k_models) and not self._scheduled_file.is_file()
        aside = known and trainer.is_global_zero and self._file.is_file()
        if aside:
            self._file.replace(self._scheduled_file)
        # Before the file is written: it tells of itself, whereas `last` was saved before.
        self._final = Best(str(self.monitor), float(figure), trainer.global_step)
        try:
            trainer.save_checkpoint(self._file)
        except BaseException:  # such as a full disk
            if aside:
                self._scheduled_file.replace(self._file)
            raise

    @property
    def _file(self) -> Path:
        return Path(str(self.dirpath)) / f"{self.name}.ckpt"

    @property
    def _scheduled_file(self) -> Path:
        return self._file.with_name(f"{self.name}_scheduled.ckpt")

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Counts the batch that the validation follows, so that a run can go on from `best`."""
        if trainer.state.fn == TrainerFn.FITTING:
            number_as_done(trainer, checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """The best score and its step; no paths, so that a run directory can be moved."""
        score, step = self.best_model_score, self._step
        if self._final is not None:
            score, step = torch.tensor(self._final.value), self._final.step
        return {"monitor": self.monitor, "best_model_score": score, "step": step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from the best score, where its file is in this run's folder."""
        score: torch.Tensor | None = state_dict["best_model_score"]
        if score is None or state_dict["monitor"] != self.monitor:
            return
        if not (self._file.is_file() or self._scheduled_file.is_file()):
            return
        self.best_model_score = self.current_score = self.kth_value = score
        self.best_model_path = self.kth_best_model_path = str(self._file)
        self.best_k_models = {str(self._file): score}
        self._step = state_dict.get("step")  # unknown in older runs


def best_of(trainer: Trainer) -> Best | None:
    """The best validation of the fit that a trainer did, where it kept one."""
    callbacks = [c for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint)]
    return callbacks[0].best if callbacks else None


class LastCheckpoint(_RunCheckpoint):
    """Keeps the newest state as `checkpoints/last.ckpt`.

    It is saved every N optimiser steps and when training ends, at the boundary behind the batch: it
    knows the validation of the schedule that follows the step, and the row of the step is written.
    A validation that is only made because the run ends comes after the save, and the run can be
    extended as if it had not been made. Where a run ends inside an epoch it is saved before
    Lightning closes the epoch, so that a run with a higher `max_steps` continues inside it.

    Args:
        every_n_steps: Optimiser steps between two saves.

    Raises:
        ValueError: If it is not at least 1.
    """

    name = "last"

    def __init__(self, every_n_steps: PositiveInt = 1000) -> None:
        check_ranges(LastCheckpoint, locals())
        self._every = Every(every_n_steps)
        super().__init__(every_n_train_steps=every_n_steps)
        self._due = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the step that a resumed run starts from, which is saved already."""
        super().on_train_start(trainer, pl_module)
        watch(trainer)
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
        """Notes whether a multiple of N was reached, or the end."""
        crossed = self._every.crossed(trainer)
        self._due = self._due or crossed or is_last_batch_of_fit(trainer)

    def on_boundary(self, trainer: Trainer) -> None:
        """Saves where that was so, or where validation ended the run."""
        if self._due or trainer.should_stop:
            self.save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: Lightning's would save here."""

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
