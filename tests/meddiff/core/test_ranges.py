"""A module made in Python checks its arguments by their annotations."""

import math
from typing import TYPE_CHECKING, Any

import pytest
from lightning.pytorch import LightningModule

import meddiff

if TYPE_CHECKING:
    from pathlib import Path as OnlyForTypeCheckers

TINY: dict[str, Any] = {"preset": "tiny", "image_size": 32}


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (meddiff.HybridDiffusionModule, {"learning_rate": -1.0}, "learning_rate: -1.0 given"),
        (meddiff.HybridDiffusionModule, {"adam_betas": (0.9, 1)}, "adam_betas: 1 given"),
        (meddiff.HybridDiffusionModule, {"dropout": math.nan}, "dropout: nan given"),
        (meddiff.HybridDiffusionModule, {"num_classes": 1}, "num_classes: 1 given"),
        (meddiff.HybridDiffusionModule, {"seed": 2**32}, "seed: 4294967296 given"),
        (meddiff.HybridDiffusionModule, {"num_inference_steps": 1001}, "expected 1 to 1000"),
        (meddiff.HybridDiffusionModule, {"image_size": 33}, "give 32 or 34, or another multiple"),
        (meddiff.HybridDiffusionModule, {"image_size": 1}, "give 2, or another multiple of 2"),
        (meddiff.HybridDiffusionModule, {"image_size": 40}, "give image_size 32 or 48"),
        (meddiff.HybridDiffusionModule, {"channel_mult": []}, "channel_mult: [] does not start"),
        (meddiff.LEDMModule, {"blocks": []}, "blocks: [] given"),
        (meddiff.LEDMModule, {"noise_timesteps": []}, "noise_timesteps: [] given"),
        (meddiff.LMIDiffusionModule, {"sigma_min": 5.0, "sigma_max": 1.0}, "sigma_min: 5.0"),
        (meddiff.LMIDiffusionModule, {"patch_size": 2}, "patch_size must be odd"),
        (meddiff.SDEditModule, {"strength": 2}, "strength: 2 given"),
    ],
)
def test_refused_by_a_module(
    kind: type[LightningModule], given: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        kind(**TINY | given)
    assert words in str(refused.value)


def test_a_class_whose_annotations_cannot_be_read_is_checked_by_its_bases() -> None:
    class Users(meddiff.SDEditModule):
        def __init__(self, file: "OnlyForTypeCheckers | None" = None, **kwargs: Any) -> None:
            super().__init__(**kwargs)

    with pytest.raises(ValueError, match="strength: 2 given"):
        Users(**TINY, strength=2)
    assert Users(**TINY).hparams["strength"] == 0.5
