"""Pretrained ADM UNets, ours and those of OpenAI (docs/papers/hybrid.md 2c-3)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from meddiff.core.checkpoint import (
    IDENTITY,
    CheckpointError,
    check_written_by,
    find_checkpoint,
    read_checkpoint,
)
from meddiff.core.randomness import mix
from meddiff.core.start import Weights, check_same_network, weights_of
from meddiff.networks.adm import adm_unet
from meddiff.networks.guided_diffusion import load_guided_diffusion

if TYPE_CHECKING:
    from diffusers import UNet2DModel

Head: TypeAlias = Literal["auto", "copy", "new"]

PRETRAINED_BY = ("meddiff.HybridDiffusionModule", "meddiff.HybridFinetuneModule")
"""Whose checkpoints hold a pretrained UNet; the second's, with `recipe: pretrain`, are told as
`supervised`."""

_HEAD = ("conv_out.weight", "conv_out.bias")
_GUIDED_DIFFUSION = "time_embed.0.weight"


class ADMStart(NamedTuple):
    """A pretrained UNet.

    Attributes:
        state: Its weights, under diffusers' names.
        objective: `hybrid`, `diffusion` or `supervised`.
        num_classes: How many of the last output channels are a mask; 0 where none is.
        source: Where it was read.
    """

    state: dict[str, Tensor]
    objective: str
    num_classes: int
    source: str


def read_start(
    init_from: str | Path, network: Mapping[str, Any], in_channels: int, weights: Weights = "ema"
) -> ADMStart:
    """Reads a pretrained UNet.

    Args:
        init_from: Run directory (its last checkpoint is taken: the paper's final weights) or
            checkpoint of one of `PRETRAINED_BY`, or an ADM checkpoint of OpenAI's guided-diffusion.
        network: What it has to be: the arguments `NETWORK_KEYS`.
        in_channels: Channels of its images.
        weights: `ema` takes averaged weights where the run has them, `live` never.

    Raises:
        CheckpointError: If it is missing, damaged, of another method, of another architecture or of
            another image size; names what differs.
    """
    file = find_checkpoint(init_from, prefer=("last", "best"))
    checkpoint = read_checkpoint(file)
    if IDENTITY in checkpoint:
        check_written_by(checkpoint, PRETRAINED_BY, file)
        return _from_run(checkpoint, file, network, in_channels, weights)
    if _GUIDED_DIFFUSION in checkpoint:
        return _from_guided_diffusion(checkpoint, file, network, in_channels)
    raise CheckpointError(
        f"{file}: is neither a checkpoint of HybridDiffusionModule nor of OpenAI's "
        "guided-diffusion; give one of them as model.init_args.init_from"
    )


def load_backbone(unet: UNet2DModel, start: ADMStart) -> None:
    """Loads all weights but those of the last layer, in place."""
    state = {key: value for key, value in start.state.items() if key not in _HEAD}
    missing, unknown = unet.load_state_dict(state, strict=False)
    if unknown or set(missing) != set(_HEAD):
        names = [*unknown, *(key for key in missing if key not in _HEAD)]
        raise CheckpointError(f"{start.source}: does not fit the network at {', '.join(names[:5])}")


def load_head(unet: UNet2DModel, start: ADMStart, head: Head, seed: int) -> None:
    """The head rule of docs/papers/hybrid.md 2c-3, in place.

    `auto`: a hybrid or supervised checkpoint with as many classes gives its last K rows (hybrid:
    rows 3..3 + K, supervised: all), any other one a new head at PyTorch's default initialisation,
    which is not zero. `copy` takes the rows or raises, `new` takes none.

    Raises:
        CheckpointError: If `copy` finds no mask channels, or of another number of classes.
    """
    num_classes = unet.conv_out.out_channels
    fits = start.num_classes == num_classes
    if head == "copy" and not fits:
        raise CheckpointError(
            f"{start.source}: predicts {start.num_classes} classes and {num_classes} are asked for;"
            " model.init_args.head: copy needs the same number, auto gives a new head"
        )
    if fits and head != "new":
        rows = {key: start.state[key][-num_classes:] for key in _HEAD}
    else:
        rows = _new_head(unet.conv_out, seed)
    with torch.no_grad():
        for key, value in rows.items():
            unet.get_parameter(key).copy_(value)


def _new_head(conv_out: nn.Conv2d, seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(seed))
        # On the CPU, so that it is the same on every device.
        fresh = copy.deepcopy(conv_out).cpu()
        fresh.reset_parameters()
    return {f"conv_out.{key}": value for key, value in fresh.state_dict().items()}


def _from_run(
    checkpoint: dict[str, Any],
    file: Path,
    network: Mapping[str, Any],
    in_channels: int,
    weights: Weights,
) -> ADMStart:
    remembered = checkpoint["hyper_parameters"]
    if remembered.get("recipe", "pretrain") != "pretrain":
        raise CheckpointError(
            f"{file}: was written by HybridFinetuneModule with recipe: {remembered['recipe']}; "
            "give a pretraining, of HybridDiffusionModule or with recipe: pretrain, as "
            "model.init_args.init_from"
        )
    # Dropout has no weights.
    wanted = {key: value for key, value in network.items() if key != "dropout"}
    check_same_network(
        remembered,
        wanted | {"in_channels": in_channels},
        file,
        f"Give model.init_args.preset: {remembered.get('preset')} and the same arguments "
        "(image_size and in_channels are given as data.init_args)",
    )
    state = weights_of(checkpoint, weights)
    objective = str(remembered.get("objective", "supervised"))
    return ADMStart(
        {k.removeprefix("unet."): v for k, v in state.items() if k.startswith("unet.")},
        objective,
        0 if objective == "diffusion" else int(remembered["num_classes"]),
        str(file),
    )


def _from_guided_diffusion(
    checkpoint: dict[str, Any], file: Path, network: Mapping[str, Any], in_channels: int
) -> ADMStart:
    out_channels = int(checkpoint["out.2.weight"].shape[0])
    unet = adm_unet(in_channels=in_channels, out_channels=out_channels, **network)
    try:
        load_guided_diffusion(unet, checkpoint)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from error
    return ADMStart(dict(unet.state_dict()), "diffusion", 0, str(file))
