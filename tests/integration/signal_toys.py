"""A module and data whose every step counts, and a callback that sends signals into a fit."""

import os
import signal
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from data_modules.kinds.sampler import ResumableDataLoader, ResumableSampler, UnpaddedSampler


class Items:
    """Vectors that follow from their index and, as augmented images do, from the epoch."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Tensor]:
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        generator = torch.Generator().manual_seed(1000 * epoch + index)
        return {"x": torch.randn(4, generator=generator), "index": torch.tensor(index)}


class SignalDataModule(LightningDataModule):
    """Ten training batches of two items an epoch, in an order of their own each, and two batches
    to validate on; under two processes half of each."""

    def __init__(self, seed: int = 0, batches: int = 10) -> None:
        super().__init__()
        self.seed = seed
        self.batches = batches

    def _place(self) -> dict[str, int]:
        trainer: Any = self.trainer
        return {"num_replicas": trainer.world_size, "rank": trainer.global_rank}

    def _done(self) -> int:
        trainer: Any = self.trainer
        return int(trainer.fit_loop.epoch_loop.batch_progress.current.ready) * 2

    def train_dataloader(self) -> DataLoader[Any]:
        items: Any = Items(2 * self.batches)
        sampler = ResumableSampler(items, seed=self.seed, skip=self._done, **self._place())
        return ResumableDataLoader(items, batch_size=2, sampler=sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        items: Any = Items(4)
        return DataLoader(items, batch_size=2, sampler=UnpaddedSampler(items, **self._place()))


class SignalModule(LightningModule):
    """A small network with dropout, Adam and a falling rate.

    Args:
        optimizers: 2 for a module that takes its steps itself, two a batch.
        schedule: When the rate falls; `plateau` is after each epoch whose figure gained nothing.
        gain: Factor of the validation figure: with -1 it is never better than the first one.
    """

    def __init__(
        self,
        seed: int = 0,
        optimizers: int = 1,
        schedule: Literal["step", "epoch", "plateau"] | None = None,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = optimizers == 1
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 1))
        self.other = nn.Linear(4, 1)

    @property
    def supports_fp16(self) -> bool:
        return False

    def networks(self) -> list[nn.Module]:
        return [self.net, self.other]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        number = self.trainer.fit_loop.epoch_loop.total_batch_idx
        torch.manual_seed(100 * number + self.global_rank)
        x = F.dropout(batch["x"], 0.3)
        losses = [(self.net(x) - 1).square().mean(), (self.other(x) - 1).square().mean()]
        self.log("train/loss", losses[0])
        if not self.automatic_optimization:
            optimizers: Any = self.optimizers()
            for optimizer, loss in zip(optimizers, losses, strict=True):
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
        total: Tensor = losses[0] + losses[1]
        return total

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        loss = (self.net(batch["x"]) - 1).square().mean()
        self.log("val/loss", loss * float(self.hparams["gain"]), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        if self.hparams["optimizers"] == 2:
            return [torch.optim.Adam(net.parameters(), lr=0.02) for net in self.networks()]
        optimizer = torch.optim.Adam(self.parameters(), lr=0.02)
        if self.hparams["schedule"] is None:
            return optimizer
        if self.hparams["schedule"] == "plateau":
            plateau = ReduceLROnPlateau(optimizer, factor=0.9, patience=0)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": plateau, "monitor": "val/loss"},
            }
        scheduler = ExponentialLR(optimizer, 0.9)
        interval = self.hparams["schedule"]
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": interval},
        }


@dataclass
class Sent:
    """A signal, where it is sent, and how many batches of the run must be done before.

    Attributes:
        hook: A hook of Lightning's.
        batches: Batches of the run that are done or under way.
        number: The signal.
        times: How often it is sent at once.
    """

    hook: str
    batches: int
    number: signal.Signals = signal.SIGTERM
    times: int = 1


class Sends(Callback):
    """Sends this process the signals of `plan`, which a test sets, each once.

    In a process that a test starts, the first of several gets the one that `SIGNALLED_AT` names by
    its hook and batches.
    """

    plan: ClassVar[list[Sent]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        named = os.environ.get("SIGNALLED_AT", "").split()
        if named and trainer.is_global_zero:
            self.plan[:] = [Sent(named[0], int(named[1]))]
        self._pass("setup", trainer)

    def _pass(self, hook: str, trainer: Trainer) -> None:
        batches = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        for due in [due for due in self.plan if (due.hook, due.batches) == (hook, batches)]:
            self.plan.remove(due)
            for _ in range(due.times):
                os.kill(os.getpid(), due.number)


class Stops(Callback):
    """Ends the training at a batch, and keeps no state of it, as callbacks of users do.

    Args:
        batch: Counted from the start of the run.
    """

    def __init__(self, batch: int) -> None:
        self._batch = batch

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.total.ready == self._batch:
            trainer.should_stop = True


def _add_hooks() -> None:
    """Gives `Sends` all hooks that it may be asked to send a signal in."""
    hooks = (
        *("on_fit_start", "on_sanity_check_start", "on_sanity_check_end"),
        *("on_train_start", "on_train_epoch_start", "on_train_batch_start", "on_train_batch_end"),
        *("on_validation_start", "on_validation_batch_end", "on_validation_epoch_end"),
        *("on_validation_end", "on_save_checkpoint", "on_train_epoch_end", "on_train_end"),
    )
    for name in hooks:

        def hook(self: Sends, trainer: Trainer, *args: Any, _name: str = name, **kw: Any) -> None:
            self._pass(_name, trainer)

        setattr(Sends, name, hook)


_add_hooks()
