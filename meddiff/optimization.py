"""Optimiser parts that every module uses."""

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn


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
