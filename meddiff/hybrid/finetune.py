"""A UNet that segments clean images: fine-tuned, or the paper's supervised baseline.

Vanilla fine-tuning of docs/papers/hybrid.md 2a, 2b, 2c-3 and 2c-12; supervised pretraining of 2c-9.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from meddiff.core.optimization import AdamWModule
from meddiff.core.presets import PresetTable
from meddiff.core.segmenter import Segmenter
from meddiff.core.start import StartsFrom
from meddiff.hybrid.presets import SUPERVISED_PRESETS
from meddiff.networks import ADMModule, adm_unet, checkpoint_blocks
from meddiff.networks.adm_start import Head, load_backbone, load_head, read_start

Recipe: TypeAlias = Literal["finetune", "pretrain"]


class HybridFinetuneModule(StartsFrom, Segmenter, ADMModule, AdamWModule):
    """The UNet of hybrid diffusion as a segmenter: time frozen at index 0, all weights trained.

    It gives K logits of the clean image and is trained by cross-entropy. It starts from a
    pretraining run of any objective, from OpenAI's ADM or, without `init_from`, from nothing (all
    random, the original zero head): on 20 labels that is the paper's first row, on a large labelled
    set its supervised pretraining.

    Args:
        recipe: `finetune` or `pretrain`: whose learning rate and warm-up the preset stands for.
            With `pretrain` the run is a pretraining that others can start from.
        head: `auto` keeps the last layer of a hybrid or supervised checkpoint with as many classes
            and else begins a new one (2c-3); `copy` keeps it or raises; `new` begins a new one.
        gradient_checkpointing: Whether activations are computed again in the backward pass: slower,
            and a fraction of the memory.
        **kwargs: As `StartsFrom`, `Segmenter`, `ADMModule` and `AdamWModule`.
    """

    def __init__(
        self,
        recipe: Recipe = "finetune",
        head: Head = "auto",
        gradient_checkpointing: bool = False,
        **kwargs: Any,
    ) -> None:
        for name, given, known in (("recipe", recipe, Recipe), ("head", head, Head)):
            if given not in get_args(known):
                raise ValueError(f"{name}: {given!r} is not one of {', '.join(get_args(known))}")
        super().__init__(**kwargs)
        self.unet = adm_unet(
            in_channels=self.hparams["in_channels"],
            out_channels=self.hparams["num_classes"],
            **self.network,
        )
        if gradient_checkpointing:
            checkpoint_blocks(self.unet)

    @classmethod
    def preset_table(cls, given: Mapping[str, Any]) -> PresetTable:
        """That of the recipe."""
        return SUPERVISED_PRESETS[given["recipe"]]

    def segment(self, image: Tensor) -> Tensor:
        """Logits of clean images at time index 0.

        Args:
            image: In [-1, 1], shape (B, C, H, W).

        Returns:
            Float32, shape (B, K, H, W).
        """
        return self.at_index_zero(image)

    def load_start(self) -> None:
        """Loads the pretrained UNet and applies the head rule.

        Raises:
            CheckpointError: If it is not there or does not fit.
        """
        if self.hparams["init_from"] is None:
            return
        start = read_start(
            self.hparams["init_from"],
            self.network,
            self.hparams["in_channels"],
            self.hparams["init_weights"],
        )
        load_backbone(self.unet, start)
        load_head(self.unet, start, self.hparams["head"], self.hparams["seed"])
        rank_zero_info(f"starts from {start.source} ({start.objective})")
