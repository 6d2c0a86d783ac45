"""Settings that make a run faster and leave its results the same, up to rounding."""

import warnings
from typing import Literal
from weakref import WeakSet

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from meddiff.core.protocols import HasNetworks


class Performance(Callback):
    """Compiles the networks in place, chooses their memory format and the float32 precision.

    Compiling in place leaves the names of the weights as they are. Modules that do not name their
    networks (`HasNetworks`) are left alone.

    Args:
        compile: `on`, `off`, or `auto`: on where a trial shows that this machine can
            compile, else off with one warning.
        channels_last: Whether convolutions keep channels last, which is faster on GPUs with tensor
            cores and on most CPUs.
        matmul_precision: `high` lets float32 products use TF32, `medium` bfloat16.

    Raises:
        ValueError: If an argument is not one of its values.
    """

    def __init__(
        self,
        compile: Literal["auto", "on", "off"] = "off",
        channels_last: bool = False,
        matmul_precision: Literal["highest", "high", "medium"] = "highest",
    ) -> None:
        super().__init__()
        if compile not in ("auto", "on", "off"):
            raise ValueError(f"performance.compile: {compile!r} is not one of auto, on, off")
        if matmul_precision not in ("highest", "high", "medium"):
            raise ValueError(
                f"performance.matmul_precision: {matmul_precision!r} is not one of highest, high,"
                " medium"
            )
        self.compile = compile
        self.channels_last = channels_last
        self.matmul_precision = matmul_precision
        self._compiled: WeakSet[nn.Module] = WeakSet()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Applies the settings before weights are loaded and moved."""
        torch.set_float32_matmul_precision(self.matmul_precision)
        if not isinstance(pl_module, HasNetworks):
            return
        networks = [network for network in pl_module.networks() if network not in self._compiled]
        if self.channels_last:
            for network in networks:
                network.to(memory_format=torch.channels_last)
        if self.compile == "auto" and networks and not _can_compile(trainer.strategy.root_device):
            self.compile = "off"
        if self.compile != "off":
            for network in networks:
                network.compile()
                self._compiled.add(network)


def _can_compile(device: torch.device) -> bool:
    """Compiles something tiny: that alone finds a missing compiler, header or Triton."""
    try:
        compiled = torch.compile(lambda x: x * 2 + 1)
        compiled(torch.ones(8, device=device))
    except Exception as error:  # whatever a compiler raises, training works without it
        reason = str(error).strip().splitlines()
        warnings.warn(
            "performance.compile: auto runs without compilation, as this machine cannot compile "
            f"({type(error).__name__}: {reason[0] if reason else 'no reason given'})",
            stacklevel=2,
        )
        return False
    return True
