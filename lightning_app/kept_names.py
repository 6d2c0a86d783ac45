"""Types of the few arguments that enumerate names, and whose annotations cannot say so.

The names are those of a library, hundreds of encoders among them, or are checked in words of our
own. Each list is the one that the argument is checked against. See `redaction.py`.
"""

from __future__ import annotations

from typing import Any, Literal

from lightning.pytorch.utilities.enums import GradClipAlgorithmType

from data_modules.kinds.augmentation import AUGMENTATIONS
from data_modules.kinds.base import DataModule
from meddiff.baselines import SegmentationModule

OF_TRAINER: dict[str, Any] = {
    "gradient_clip_algorithm": Literal[tuple(kind.value for kind in GradClipAlgorithmType)]
}
"""By the argument of the Trainer."""


def kept_types(kind: type) -> dict[str, Any]:
    """By argument of a class; empty for most."""
    if issubclass(kind, DataModule):
        return {"augment": list[Literal[AUGMENTATIONS]]}  # type: ignore[valid-type]
    if issubclass(kind, SegmentationModule):
        return _of_segmenters()
    return {}


def _of_segmenters() -> dict[str, Any]:
    import segmentation_models_pytorch as smp
    import timm
    from segmentation_models_pytorch.encoders import encoders

    settings = [encoder["pretrained_settings"] for encoder in encoders.values()]
    weights = {"imagenet", *(name for own in settings for name in own)}
    names = [*encoders, *(f"tu-{name}" for name in timm.list_models())]
    return {
        "architecture": Literal[tuple(smp.MODEL_ARCHITECTURES_MAPPING)],
        "encoder": Literal[tuple(names)],
        "encoder_weights": Literal[tuple(weights)],
    }
