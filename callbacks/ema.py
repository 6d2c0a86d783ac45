"""An exponential moving average of the trainable weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from callbacks.steps import Every
from meddiff.core.checkpoint import LIVE
from meddiff.core.protocols import HasNetworks
from meddiff.core.ranges import PositiveInt, ShareBelowOne, check_ranges


class EMACallback(Callback):
    """Averages the trainable weights and uses the average for everything but training.

    Validation, test, prediction and sample grids see the average; training goes on with the live
    weights, which are the same bit for bit with and without this callback. In a checkpoint
    `state_dict` is the average, so whatever reads a checkpoint gets the weights to use, and
    `current_model_state` is the live state, from which a resumed run continues. Buffers are not
    averaged: those of the live module are used.

    It may be turned on for a run that was begun without it (the average then starts from the
    weights at that point) and off again (training goes on from the live weights).

    Args:
        decay: Share of the old average kept at an optimiser step, in [0, 1). None: no average.
        warmup: Step s, counted from 1, keeps at most (1 + s) / (10 + s), so that the random
            weights of the start are soon forgotten.
        every_n_steps: Optimiser steps between two updates; an update then keeps the power
            `every_n_steps` of the share, so the average reaches equally far back.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        decay: ShareBelowOne | None = None,
        warmup: bool = True,
        every_n_steps: PositiveInt = 1,
    ) -> None:
        super().__init__()
        check_ranges(EMACallback, locals())
        self.decay = decay
        self.warmup = warmup
        self.every_n_steps = every_n_steps
        self._steps = 0
        self._stepped = Every(1)
        self._parameters: list[nn.Parameter] = []
        self._average: list[Tensor] = []
        self._live: list[Tensor] | None = None
        self._restored: Mapping[str, Tensor] = {}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Puts the live weights into the module where training goes on."""
        # The module now holds the loaded weights; an average of an earlier fit must not hide them.
        self._average = []
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if LIVE in checkpoint:
            pl_module.load_state_dict(checkpoint[LIVE], strict=pl_module.strict_loading)
            self._restored = checkpoint["state_dict"]
        if self.decay is None and LIVE in checkpoint:
            rank_zero_info("ema: off now; training goes on from the checkpoint's live weights")
        elif self.decay is not None and LIVE not in checkpoint:
            rank_zero_info("ema: the checkpoint holds no average; it starts from its weights")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the average from the checkpoint's, else from the weights as they are."""
        restored, self._restored = self._restored, {}
        if self.decay is None or self._average:
            return
        named = _trainable(pl_module)
        self._parameters = list(named.values())
        for name, parameter in named.items():
            # At least float32: bfloat16 would round small updates away.
            dtype = torch.promote_types(parameter.dtype, torch.float32)
            average = torch.empty_like(parameter, dtype=dtype, requires_grad=False)
            self._average.append(average.copy_(restored.get(name, parameter.detach())))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes where the run stands."""
        self._stepped.start(trainer)

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Updates the average once an optimiser step, not once a batch."""
        if not self._average or not self._stepped.crossed(trainer):
            return
        self._steps += 1
        if self._steps % self.every_n_steps == 0:
            live = [
                parameter.detach().to(average.dtype)
                for parameter, average in zip(self._parameters, self._average, strict=True)
            ]
            torch._foreach_lerp_(self._average, live, 1 - self._share_kept())

    def _share_kept(self) -> float:
        most = (1 + self._steps) / (10 + self._steps) if self.warmup else 1.0
        share = most if self.decay is None else min(self.decay, most)
        return float(share**self.every_n_steps)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The module has the averaged weights inside this context; nothing changes where off."""
        if not self._average or self._live is not None:
            yield
            return
        self._swap_in()
        try:
            yield
        finally:
            self._swap_out()

    @torch.no_grad()
    def _swap_in(self) -> None:
        if self._average and self._live is None:
            self._live = [parameter.detach().clone() for parameter in self._parameters]
            for parameter, average in zip(self._parameters, self._average, strict=True):
                parameter.copy_(average)

    @torch.no_grad()
    def _swap_out(self) -> None:
        if self._live is not None:
            for parameter, live in zip(self._parameters, self._live, strict=True):
                parameter.copy_(live)
            self._live = None

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Saves the average as `state_dict` and the live weights beside it."""
        if not self._average:
            return
        state: dict[str, Tensor] = checkpoint["state_dict"]
        live_of: dict[nn.Parameter, Tensor] = {}
        if self._live is not None:
            live_of = dict(zip(self._parameters, self._live, strict=True))
        average_of = dict(zip(self._parameters, self._average, strict=True))
        # Tied weights have several names, and all of them must agree.
        names = dict(pl_module.named_parameters(remove_duplicate=False))
        checkpoint[LIVE] = _replaced(state, names, live_of)
        checkpoint["state_dict"] = _replaced(state, names, average_of)

    def state_dict(self) -> dict[str, Any]:
        """The number of optimiser steps averaged so far; empty where off."""
        return {"steps": self._steps} if self._average else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues the count of steps."""
        self._steps = state_dict["steps"]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swaps the average in."""
        self._swap_in()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swaps the average out."""
        self._swap_out()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swaps the average in."""
        self._swap_in()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swaps the average out."""
        self._swap_out()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swaps the average in."""
        self._swap_in()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swaps the average out."""
        self._swap_out()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leaves the module with the live weights where a validation broke."""
        self._swap_out()


@contextmanager
def ema_weights(trainer: Trainer) -> Iterator[None]:
    """The module in training has its averaged weights inside this context.

    Nothing changes where there is no average or it is in already.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EMACallback):
            with callback.swapped_in():
                yield
            return
    yield


def _trainable(module: LightningModule) -> dict[str, nn.Parameter]:
    """The parameters to average, by their name in the module."""
    networks = module.networks() if isinstance(module, HasNetworks) else [module]
    wanted = {parameter for network in networks for parameter in network.parameters()}
    return {
        name: parameter
        for name, parameter in module.named_parameters()
        if parameter in wanted and parameter.requires_grad
    }


def _replaced(
    state: Mapping[str, Tensor],
    names: Mapping[str, nn.Parameter],
    values: Mapping[nn.Parameter, Tensor],
) -> dict[str, Tensor]:
    """A copy of `state` with other values for some parameters."""
    return {
        name: values.get(names[name], tensor) if name in names else tensor
        for name, tensor in state.items()
    }
