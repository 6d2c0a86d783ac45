"""Training by AdamW, for the modules that want it."""

from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from meddiff.core.module import MedDiffModule
from meddiff.core.ranges import NonNegativeInt, NonNegativeNumber, PositiveNumber, ShareBelowOne


class AdamWModule(MedDiffModule):
    """A module that AdamW trains at a constant rate, after a linear warm-up.

    Args:
        learning_rate: Rate after warm-up. None: the preset's.
        adam_betas: Betas of AdamW.
        adam_eps: Epsilon of AdamW.
        weight_decay: Weight decay; 0 makes AdamW Adam.
        warmup_steps: Steps of linear warm-up. None: the preset's.
        **kwargs: As `MedDiffModule`.
    """

    def __init__(
        self,
        learning_rate: NonNegativeNumber | None = None,
        adam_betas: tuple[ShareBelowOne, ShareBelowOne] = (0.95, 0.99),
        adam_eps: PositiveNumber = 1e-8,
        weight_decay: NonNegativeNumber = 1e-6,
        warmup_steps: NonNegativeInt | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW on the trainable weights; the rate rises linearly over the warm-up, then stays."""
        from diffusers.optimization import get_constant_schedule_with_warmup

        # Under a gradient scaler a fused step would unscale after the gradients were clipped.
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        optimizer = torch.optim.AdamW(
            [p for p in self.parameters() if p.requires_grad],
            lr=self.hparams["learning_rate"],
            betas=self.hparams["adam_betas"],
            eps=self.hparams["adam_eps"],
            weight_decay=self.hparams["weight_decay"],
            fused=scaler is None and self.device.type in ("cpu", "cuda"),
        )
        scheduler = get_constant_schedule_with_warmup(optimizer, self.hparams["warmup_steps"])
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
