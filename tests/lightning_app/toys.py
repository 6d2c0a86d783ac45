"""A module and data that are as small as they can be."""

import signal
import time
from collections.abc import Callable as Function
from datetime import timedelta
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

HERE = "tests.lightning_app.toys"
ARGS = (
    *("--model", f"{HERE}.ToyModule", "--data", f"{HERE}.ToyDataModule"),
    *("--trainer.accelerator", "cpu", "--trainer.devices", "1"),
    *("--trainer.log_every_n_steps", "1", "--trainer.enable_progress_bar", "false"),
    *("--last.every_n_steps", "1"),
)


class ToyModule(LightningModule):
    """One weight vector; `preset` and `width` stand for those of a real module."""

    def __init__(
        self,
        image_size: int = 8,
        seed: int = 0,
        learning_rate: float = 0.1,
        width: int = 3,
        preset: str = "paper",
        schedule: bool = False,
        init_from: str | None = None,
        seconds: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(width, 1)

    @property
    def supports_fp16(self) -> bool:
        return False

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        time.sleep(self.hparams["seconds"])
        loss: Tensor = self.layer(batch[:, : self.hparams["width"]]).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/loss", self.layer(batch[:, : self.hparams["width"]]).square().mean())

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("test/loss", self.layer(batch[:, : self.hparams["width"]]).square().mean())

    def predict_step(self, batch: Tensor, batch_idx: int) -> dict[str, Tensor]:
        return {"index": torch.arange(len(batch))}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams["learning_rate"])
        if not self.hparams["schedule"]:
            return optimizer
        schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class OtherModule(ToyModule):
    """Another method."""


class OwnBatches(ToyModule):
    """Trains on what depends on the number of the batch alone, and so resumes inside an epoch."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        number = self.trainer.fit_loop.epoch_loop.total_batch_idx
        own = torch.randn(2, 4, generator=torch.Generator().manual_seed(number))
        return super().training_step(own, batch_idx)


class ToyDataModule(LightningDataModule):
    """Eight rows of numbers."""

    def __init__(self, root: str | None = None, image_size: int = 16, seed: int = 0) -> None:
        super().__init__()
        self.rows = torch.linspace(-1, 1, 32).reshape(8, 4)

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(self.rows, batch_size=2)  # type: ignore[arg-type]

    val_dataloader = train_dataloader
    test_dataloader = train_dataloader
    predict_dataloader = train_dataloader

    def split_table(self) -> dict[str, list[str]]:
        return {"train": ["a.png", "b.png"], "val": ["c.png"]}


class Rates(Callback):
    """Keeps the learning rate of every step, on the class, for the test to read."""

    seen: ClassVar[list[float]] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Tensor, batch_idx: int
    ) -> None:
        Rates.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


class Bug(Callback):
    """Fails as a library would on a bug."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch.zeros(2) @ torch.zeros(3)


class OutOfMemory(Callback):
    """Fails as a full GPU does."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class PixelModule(LightningModule):
    """Segments by one 1 x 1 convolution, and can start from an earlier run."""

    def __init__(
        self,
        image_size: int = 8,
        in_channels: int = 3,
        num_classes: int = 2,
        seed: int = 0,
        init_from: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Conv2d(in_channels, num_classes, 1)

    def segment(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layer(image)
        return logits

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.segment(batch["image"]), batch["mask"])

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.training_step(batch, batch_idx))

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("test/loss", self.training_step(batch, batch_idx))

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"mask": self.segment(batch["image"]).argmax(1), "index": batch["index"]}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class OutOfTime(Timer):
    """Has a day, until the ninth step is done."""

    def __init__(self) -> None:
        super().__init__(timedelta(days=1))

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.global_step == 9:
            self._duration = 0.0
        super().on_train_batch_end(trainer, *args, **kwargs)


class AtStep(Callback):
    """Does something before a step, on the class, so that a config does not tell of it."""

    step: ClassVar[int] = 0
    does: ClassVar[Function[[], None] | None] = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Tensor, batch_idx: int
    ) -> None:
        if AtStep.does is not None and trainer.global_step == AtStep.step:
            AtStep.does()


class Sends(Callback):
    """Gets a signal at a hook, and another one while it leaves.

    Args:
        hook: Its name.
        number: The signal's name.
        again: That of the second one.
    """

    def __init__(self, hook: str, number: str, again: str | None = None) -> None:
        self._again = again
        setattr(self, hook, lambda *args, **kwargs: signal.raise_signal(signal.Signals[number]))

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if self._again is not None:
            signal.raise_signal(signal.Signals[self._again])


class FirstIsStopped(Callback):
    """The first process gets a signal in a test, which the others would wait for.

    Args:
        number: The signal's name.
    """

    def __init__(self, number: str) -> None:
        self._number = signal.Signals[number]

    def on_test_batch_start(self, trainer: Trainer, *args: Any) -> None:
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            signal.raise_signal(self._number)
        time.sleep(120)
