"""Vanilla fine-tuning of a pretrained ADM UNet (papers/hybrid.md 2a, 2b, 2c-3, 2c-12)."""

from typing import get_args

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from meddiff.hybrid.presets import FINETUNE_PRESETS
from meddiff.hybrid.start import Head, Weights, load_backbone, load_head, read_start
from meddiff.networks import NETWORK_KEYS, adm_unet, checkpoint_blocks
from meddiff.presets import Preset, resolve_preset
from meddiff.segmenter import Segmenter


class HybridFinetuneModule(Segmenter):
    """A pretrained UNet becomes a segmenter: time frozen at index 0, all weights trained.

    The network gives K logits of the clean image and is trained by cross-entropy. It starts from a
    pretraining run of any objective, from OpenAI's ADM or, without ``init_from``, from nothing (the
    paper's first row: all random, the original zero head).

    Args:
        preset: ``paper``, ``small`` or ``tiny``, as in pretraining: what the arguments that are
            None stand for, see ``meddiff/hybrid/presets.py``.
        init_from: Run directory (its last checkpoint) or checkpoint to start from. Read when a
            new fit begins; a resumed fit, test and predict do without.
        init_weights: ``ema`` takes averaged weights where the run has them, ``live`` never.
        head: ``auto`` keeps a hybrid checkpoint's mask channels where it has as many classes and
            else begins a new head (2c-3); ``copy`` also keeps a supervised checkpoint's; ``new``
            begins a new one.
        image_size: Height and width in pixels.
        in_channels: Channels of the images.
        num_classes: K, background included.
        seed: Seed of a new head and of dropout.
        model_channels: C, the width of the first level.
        channel_mult: Width of each level as a multiple of C.
        num_res_blocks: Residual blocks a level.
        attention_resolutions: Feature map sizes, in pixels, that have attention.
        num_head_channels: Channels of an attention head.
        dropout: Dropout of the residual blocks.
        gradient_checkpointing: Whether activations are computed again in the backward pass: slower,
            and a fraction of the memory.
        learning_rate: Rate of AdamW.
        adam_betas: Betas of AdamW.
        adam_eps: Epsilon of AdamW.
        weight_decay: Weight decay of AdamW.
        warmup_steps: Steps of linear warm-up.
    """

    def __init__(
        self,
        preset: Preset = "paper",
        init_from: str | None = None,
        init_weights: Weights = "ema",
        head: Head = "auto",
        image_size: int = 256,
        in_channels: int = 3,
        num_classes: int = 2,
        seed: int = 0,
        model_channels: int | None = None,
        channel_mult: list[int] | None = None,
        num_res_blocks: int | None = None,
        attention_resolutions: list[int] | None = None,
        num_head_channels: int | None = None,
        dropout: float | None = None,
        gradient_checkpointing: bool = False,
        learning_rate: float | None = None,
        adam_betas: tuple[float, float] = (0.95, 0.99),
        adam_eps: float = 1e-8,
        weight_decay: float = 1e-6,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes: {num_classes}, but background and one more are needed")
        if head not in get_args(Head):
            raise ValueError(f"head: {head!r} is not one of {', '.join(get_args(Head))}")
        self.save_hyperparameters()
        # Resolved values are saved, so that a checkpoint outlives a change of the presets.
        self.hparams.update(resolve_preset(FINETUNE_PRESETS, preset, dict(self.hparams)))
        self.network = {key: self.hparams[key] for key in NETWORK_KEYS}
        self.unet = adm_unet(in_channels=in_channels, out_channels=num_classes, **self.network)
        if gradient_checkpointing:
            checkpoint_blocks(self.unet)

    def networks(self) -> list[nn.Module]:
        """The UNet."""
        return [self.unet]

    def load_start(self) -> None:
        """Loads the pretrained UNet and applies the head rule.

        Raises:
            CheckpointError: Where it is not there or does not fit.
        """
        init_from = self.hparams["init_from"]
        if init_from is None:
            return
        start = read_start(
            init_from, self.network, self.hparams["in_channels"], self.hparams["init_weights"]
        )
        load_backbone(self.unet, start)
        load_head(self.unet, start, self.hparams["head"], self.hparams["seed"])
        rank_zero_info(f"starts from {start.source} ({start.objective})")

    def segment(self, image: Tensor) -> Tensor:
        """Logits of clean images at time index 0.

        Args:
            image: In [-1, 1], shape (B, C, H, W).

        Returns:
            Float32, shape (B, K, H, W).
        """
        t = torch.zeros(len(image), dtype=torch.long, device=image.device)
        logits: Tensor = self.unet(image.to(self.unet.dtype), t).sample
        return logits.float()
