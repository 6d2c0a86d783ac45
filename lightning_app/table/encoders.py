"""Encoders that start from the weights of others: which one it is, whether they are held."""

import re
from functools import cache
from typing import Any

from meddiff.baselines.presets import default_encoder
from meddiff.networks.pretrained import hub_names, pretrained_available

WEIGHTS = "model.init_args.encoder_weights"


def encoder_of(config: dict[str, Any]) -> str | None:
    """The encoder that a model with these keys has, None where it has none by name."""
    model = config.get("model", {}).get("init_args", {})
    if "architecture" not in model:
        return None
    given = model.get("encoder")
    return str(given or default_encoder(model["architecture"], model.get("preset", "paper")))


def held(config: dict[str, Any]) -> bool:
    """Whether the weights that a config names are on this machine.

    Only what has a name on the hub can be lacking: a path that is not there is a mistake, which the
    job itself tells.
    """
    weights = config["model"]["init_args"]["encoder_weights"]
    return _held(str(weights), encoder_of(config))


@cache
def _held(weights: str, encoder: str | None) -> bool:
    if encoder is None or weights not in hub_names(encoder):
        return True
    return pretrained_available(weights, encoder)


def shown(encoder: str) -> str:
    """An encoder as papers write it: ``ResNet-18``, ``MiT-B0``."""
    if match := re.fullmatch(r"resnet(\d+)", encoder):
        return f"ResNet-{match.group(1)}"
    if match := re.fullmatch(r"mit_b(\d)", encoder):
        return f"MiT-B{match.group(1)}"
    return encoder


def in_short(encoder: str) -> str:
    """An encoder as the tables of papers write it: ``R18``, ``B0``."""
    return shown(encoder).replace("ResNet-", "R").replace("MiT-", "")
