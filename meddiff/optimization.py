"""Optimiser parts that every module uses."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from meddiff.checkpoint import IDENTITY, identity_of


class AdamWModule(LightningModule):
    """A module that AdamW trains, and whose checkpoints say what it is.

    Its hyper-parameters hold ``learning_rate``, ``adam_betas``, ``adam_eps``, ``weight_decay`` and
    ``warmup_steps``.
    """

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW at a constant rate, after a linear warm-up where one is asked for."""
        return adamw_with_warmup(
            self,
            learning_rate=self.hparams["learning_rate"],
            warmup_steps=self.hparams["warmup_steps"],
            betas=self.hparams["adam_betas"],
            eps=self.hparams["adam_eps"],
            weight_decay=self.hparams["weight_decay"],
        )

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips in every precision and logs the norm before it."""
        norm = clip_gradients(self, gradient_clip_val, gradient_clip_algorithm)
        self.log("train/grad_norm", norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Writes which class this is, for ``meddiff.load``."""
        checkpoint[IDENTITY] = identity_of(self)


def adamw_with_warmup(
    module: LightningModule,
    *,
    learning_rate: float,
    warmup_steps: int,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> OptimizerLRScheduler:
    """AdamW on the trainable weights; the rate rises linearly over ``warmup_steps``, then stays."""
    from diffusers.optimization import get_constant_schedule_with_warmup

    # Under a gradient scaler a fused step would unscale after the gradients were clipped.
    scaler = getattr(module.trainer.precision_plugin, "scaler", None)
    optimizer = torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad],
        lr=learning_rate,
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        fused=scaler is None and module.device.type in ("cpu", "cuda"),
    )
    scheduler = get_constant_schedule_with_warmup(optimizer, warmup_steps)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
    }


def clip_gradients(
    module: nn.Module, max_norm: int | float | None, algorithm: str | None
) -> Tensor:
    """Clips gradients in place, whatever the precision and the optimiser.

    Lightning's own clipping refuses fused optimisers under mixed precision, and waits for the
    device.

    Args:
        module: Owner of the parameters.
        max_norm: The limit; None or 0 only measures.
        algorithm: ``norm`` (also None) or ``value``.

    Returns:
        The gradient norm before clipping, a scalar on the device.
    """
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if max_norm and algorithm == "value":
        torch.nn.utils.clip_grad_value_(module.parameters(), max_norm)
    elif max_norm:
        torch.nn.utils.clip_grads_with_norm_(module.parameters(), float(max_norm), norm)
    return norm
