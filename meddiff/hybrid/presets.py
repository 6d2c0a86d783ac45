"""Sizes of the hybrid method; a key given in YAML or on the command line beats them."""

from typing import Any

from meddiff.networks import NETWORK_KEYS

PRESETS: dict[str, dict[str, Any]] = {
    # docs/papers/hybrid.md 2b: 138 M parameters at 256 pixels.
    "paper": {
        "model_channels": 128,
        "channel_mult": [1, 1, 2, 2, 4, 4],
        "num_res_blocks": 2,
        "attention_resolutions": [32, 16, 8],
        "num_head_channels": 64,
        "dropout": 0.1,
        "t_sampling": "uniform",
        "mask_weight": 1e-4,
        "learning_rate": 1e-4,
        "warmup_steps": 2000,
        "solver": "ode",
        "num_inference_steps": 100,
        "log_gradient_norms": False,
    },
    # 3.4 M parameters; t_sampling and mask_weight as docs/papers/hybrid.md 2c-10 asks
    # of short runs, a rate that suits a small network, and the SDE: its noise washes out the errors
    # of a short run at large t, which the ODE carries along as grain.
    "small": {
        "model_channels": 32,
        "channel_mult": [1, 1, 2, 4],
        "num_res_blocks": 1,
        "attention_resolutions": [16, 8],
        "num_head_channels": 32,
        "dropout": 0.0,
        "t_sampling": "importance",
        "mask_weight": 1.0,
        "learning_rate": 3e-4,
        "warmup_steps": 50,
        "solver": "sde",
        "num_inference_steps": 100,
        "log_gradient_norms": True,
    },
    "tiny": {
        "model_channels": 32,
        "channel_mult": [1, 2],
        "num_res_blocks": 1,
        "attention_resolutions": [16],
        "num_head_channels": 32,
        "dropout": 0.0,
        "t_sampling": "importance",
        "mask_weight": 1.0,
        "learning_rate": 1e-3,
        "warmup_steps": 50,
        "solver": "sde",
        "num_inference_steps": 20,
        "log_gradient_norms": True,
    },
}

_TRAINED = ("learning_rate", "warmup_steps")
_FINETUNE_RATES = {"paper": 2e-4, "small": 5e-4, "tiny": 1e-3}
"""A small network can take a higher rate, as in pretraining."""


def _kept(keys: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """These keys of pretraining's presets."""
    return {
        name: {key: value for key, value in preset.items() if key in keys}
        for name, preset in PRESETS.items()
    }


NETWORKS = _kept(NETWORK_KEYS)
"""The networks of pretraining alone, without how they are trained."""

SUPERVISED_PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "pretrain": _kept((*NETWORK_KEYS, *_TRAINED)),
    "finetune": {
        name: {**network, "learning_rate": _FINETUNE_RATES[name], "warmup_steps": 0}
        for name, network in NETWORKS.items()
    },
}
"""Of `HybridFinetuneModule`, by `recipe`: the networks are those of pretraining, fine-tuning has a
rate of its own and no warm-up."""
