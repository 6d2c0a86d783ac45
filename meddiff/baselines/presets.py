"""Sizes of the baselines; a key given in YAML or on the command line beats them."""

from typing import Any

SEGMENTATION_PRESETS: dict[str, dict[str, Any]] = {
    # docs/papers/hybrid.md 2b and 2c-12: the rivals are trained as fine-tuning is.
    "paper": {"learning_rate": 2e-4, "warmup_steps": 0},
    "small": {"learning_rate": 5e-4, "warmup_steps": 0},
    "tiny": {"learning_rate": 1e-3, "warmup_steps": 0},
}

_RESNETS = {"paper": "resnet50", "small": "resnet18", "tiny": "resnet18"}
_ENCODERS = {
    "segformer": {"paper": "mit_b3", "small": "mit_b0", "tiny": "mit_b0"},
    # The one architecture that takes vision transformers alone.
    "dpt": {
        "paper": "tu-vit_base_patch16_224",
        "small": "tu-vit_tiny_patch16_224",
        "tiny": "tu-vit_tiny_patch16_224",
    },
}


def default_encoder(architecture: str, preset: str) -> str:
    """The encoder of an architecture where none is given (docs/papers/hybrid.md 2e)."""
    return _ENCODERS.get(architecture, _RESNETS)[preset]
