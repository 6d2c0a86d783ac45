"""Sizes of LMIDiffusion and of SDEdit, which share the score network."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # docs/papers/lmi.md 5a and 5b: 21,423,169 parameters with the two maps.
    "paper": {
        "model_channels": 64,
        "channel_mult": [1, 1, 2, 3, 4],
        "num_res_blocks": 2,
        "attention_resolutions": [16],
        "num_head_channels": None,
        "dropout": 0.0,
        "preconditioning": "none",
        "learning_rate": 3e-4,
        "warmup_steps": 0,
        "num_inference_steps": 1000,
    },
    # An hour on two cores. A short run needs the preconditioning: see docs/methods/lmi.md.
    "small": {
        "model_channels": 32,
        "channel_mult": [1, 2, 3],
        "num_res_blocks": 1,
        "attention_resolutions": [16],
        "num_head_channels": None,
        "dropout": 0.0,
        "preconditioning": "edm",
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "num_inference_steps": 100,
    },
    "tiny": {
        "model_channels": 32,
        "channel_mult": [1, 2],
        "num_res_blocks": 1,
        "attention_resolutions": [16],
        "num_head_channels": None,
        "dropout": 0.0,
        "preconditioning": "edm",
        "learning_rate": 1e-3,
        "warmup_steps": 0,
        "num_inference_steps": 20,
    },
}
