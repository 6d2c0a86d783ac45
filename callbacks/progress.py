"""Where a run is, for a log that somebody reads while it runs."""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from callbacks.clock import TrainingClock, images_in
from meddiff.core.ranges import PositiveNumber, check_ranges

_BAR_SECONDS = 1.0


class Progress(Callback):
    """Says where a run is: the step, of how many, the loss, images a second, the time left.

    Without a progress bar a line is printed at most every N seconds, the first one after the first
    batch; with one the same stands in the bar, anew every second. The loss is that of the newest
    batch of the first process, and it is fetched from the device for a line alone, so that
    no step waits for it. The time left is that of the whole run, with its validations and pictures
    as far as there were some: until `trainer.max_steps`, `max_epochs` or `max_time`, whichever is
    the nearest; early stopping may end it before.

    Validation, test and prediction, also a validation within a fit, say at which batch of how many
    they are.

    Args:
        every_n_seconds: Seconds between two lines; None prints none.

    Attributes:
        in_bar: Whether a bar shows what would be printed.
        texts: What it shows of `fit` and of any other `loop`.

    Raises:
        ValueError: If it is not above 0.
    """

    def __init__(self, every_n_seconds: PositiveNumber | None = 30.0) -> None:
        super().__init__()
        check_ranges(Progress, locals())
        self.every_n_seconds = every_n_seconds
        self.in_bar = False
        self.texts: dict[str, str] = {}
        self._due = 0.0
        self._clock = TrainingClock()
        self._first: _Place | None = None
        self._loop = _Loop()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins anew."""
        self.texts = {}
        self._due = 0.0

    def _tells(self, trainer: Trainer) -> bool:
        """Whether it is time to say something."""
        if not trainer.is_global_zero or (self.every_n_seconds is None and not self.in_bar):
            return False
        return time.monotonic() >= self._due

    def _tell(self, loop: str, text: str) -> None:
        wait = _BAR_SECONDS if self.in_bar else self.every_n_seconds
        self._due = time.monotonic() + (wait or 0.0)
        self.texts[loop] = text
        if not self.in_bar:
            rank_zero_info(text)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to measure."""
        self._clock.begin()
        self._first = None

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Leaves the saving out of the images a second."""
        self._clock.interrupt()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Counts the wait for this batch."""
        self._clock.batch_started()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Says where the training is."""
        self._clock.batch_ended(batch)
        here = _Place.of(trainer)
        self._first = self._first or here
        if not self._tells(trainer):
            return
        parts = [_step_of(trainer), *_losses(trainer, outputs)]
        if self._clock.images and self._clock.seconds > 0:
            parts.append(_speed(self._clock.images * trainer.world_size / self._clock.seconds))
            self._clock.restart()
        left = _seconds_left(trainer, self._first, here)
        if math.isfinite(left):
            parts.append(_left(left))
        self._tell("fit", ", ".join(parts))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to count its batches."""
        self._clock.interrupt()
        within = trainer.state.fn == TrainerFn.FITTING
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else None
        self._loop = _Loop(
            f"validation at step {trainer.global_step}" if within else "validate",
            trainer.num_val_batches if batches is None else batches,
        )

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to count its batches."""
        self._loop = _Loop("test", trainer.num_test_batches)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to count its batches."""
        self._loop = _Loop("predict", trainer.num_predict_batches)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Says where the validation is."""
        self._count(trainer, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Says where the test is."""
        self._count(trainer, batch)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Says where the prediction is."""
        self._count(trainer, batch)

    def _count(self, trainer: Trainer, batch: Any) -> None:
        self._loop.count(batch)
        ends = self._loop.done >= self._loop.of or trainer.sanity_checking
        if self._tells(trainer) and (self.in_bar or not ends):
            self._tell("loop", self._loop.text(trainer.world_size))


@dataclass(frozen=True)
class _Place:
    """A batch of a fit, and when it ended."""

    time: float
    batches: int
    steps: int

    @classmethod
    def of(cls, trainer: Trainer) -> Self:
        batches = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        return cls(time.monotonic(), batches, trainer.global_step)


class _Loop:
    """Batches and images of a loop that trains nothing."""

    def __init__(self, name: str = "", batches: Iterable[int | float] | int | float = 0) -> None:
        self.name = name
        self.of = sum(batches) if isinstance(batches, Iterable) else batches
        self.done = self.images = 0
        self.began = time.monotonic()

    def count(self, batch: Any) -> None:
        self.done += 1
        self.images += images_in(batch)

    def text(self, world_size: int) -> str:
        seconds = time.monotonic() - self.began
        known = math.isfinite(self.of)
        parts = [f"{self.name}: batch {self.done}" + (f" of {int(self.of)}" if known else "")]
        if self.images and seconds > 0:
            parts.append(_speed(self.images * world_size / seconds))
        if known:
            parts.append(_left(max(self.of - self.done, 0) * seconds / self.done))
        return ", ".join(parts)


def _step_of(trainer: Trainer) -> str:
    """The step, of how many, and the epoch."""
    epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
    step, total = trainer.global_step, _total_steps(trainer, epochs)
    text = f"step {step} of {total}" if total is not None else f"step {step}"
    return f"{text}, epoch {trainer.current_epoch + 1}" + (f" of {epochs}" if epochs else "")


def _total_steps(trainer: Trainer, epochs: int | None) -> int | None:
    limits: list[float] = [trainer.max_steps] if trainer.max_steps >= 0 else []
    batches = trainer.num_training_batches
    if epochs is not None and math.isfinite(batches):
        if trainer.lightning_module.automatic_optimization:
            limits.append(epochs * math.ceil(batches / trainer.accumulate_grad_batches))
        elif trainer.global_step:  # such a module says by itself what a step is
            done = trainer.fit_loop.epoch_loop.batch_progress.total.ready
            limits.append(epochs * batches * trainer.global_step / done)
    return round(min(limits)) if limits else None


def _seconds_left(trainer: Trainer, first: _Place, here: _Place) -> float:
    """Seconds until the nearest of the limits, at the pace since the first batch."""
    timers = [c for c in trainer.callbacks if isinstance(c, Timer)]  # type: ignore[attr-defined]
    left = [seconds for timer in timers if (seconds := timer.time_remaining()) is not None]
    batches, steps = here.batches - first.batches, here.steps - first.steps
    elapsed = here.time - first.time
    if trainer.max_steps >= 0 and steps:
        left.append((trainer.max_steps - here.steps) * elapsed / steps)
    an_epoch = trainer.num_training_batches
    if trainer.max_epochs and trainer.max_epochs > 0 and batches and math.isfinite(an_epoch):
        current = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        epochs = trainer.max_epochs - trainer.current_epoch
        left.append((epochs * an_epoch - current) * elapsed / batches)
    return max(min(left, default=math.inf), 0.0)


def _losses(trainer: Trainer, outputs: Any) -> list[str]:
    """The training loss as logged, or each of several, or else what the step returned."""
    metrics = trainer.callback_metrics
    names = [name for name in metrics if name.startswith("train/") and "loss" in name]
    if "train/loss" in names:
        names = ["train/loss"]
    if names:
        return [f"{name} {float(metrics[name]):.4g}" for name in names]
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    if not isinstance(loss, Tensor):
        return []
    # Lightning returns the share of an accumulated step.
    return [f"loss {float(loss.mean()) * trainer.accumulate_grad_batches:.4g}"]


def _speed(images: float) -> str:
    return f"{images:.{0 if images >= 100 else 1 if images >= 1 else 2}f} images/s"


def _left(seconds: float) -> str:
    return f"{timedelta(seconds=round(seconds))} left"
