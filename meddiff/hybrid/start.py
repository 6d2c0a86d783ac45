"""The weights that a segmenter starts from (papers/hybrid.md 2a, 2c-3)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from meddiff.checkpoint import (
    IDENTITY,
    LIVE,
    CheckpointError,
    check_identity,
    find_checkpoint,
    read_checkpoint,
)
from meddiff.hybrid.module import HybridDiffusionModule
from meddiff.networks import NETWORK_KEYS, adm_unet, load_guided_diffusion
from meddiff.randomness import mix

if TYPE_CHECKING:
    from diffusers import UNet2DModel

Weights: TypeAlias = Literal["ema", "live"]
Head: TypeAlias = Literal["auto", "copy", "new"]

_HEAD = ("conv_out.weight", "conv_out.bias")
_GUIDED_DIFFUSION = "time_embed.0.weight"


class Start(NamedTuple):
    """A pretrained UNet.

    Attributes:
        state: Its weights, under diffusers' names.
        objective: ``hybrid``, ``diffusion`` or ``supervised``.
        num_classes: How many of the last output channels are a mask; 0 where none is.
        source: Where it was read.
    """

    state: dict[str, Tensor]
    objective: str
    num_classes: int
    source: str


def read_start(
    init_from: str | Path, network: Mapping[str, Any], in_channels: int, weights: Weights = "ema"
) -> Start:
    """Reads a pretrained UNet.

    Args:
        init_from: Run directory (its last checkpoint is taken: the paper's final weights) or
            checkpoint of ``HybridDiffusionModule``, or an ADM checkpoint of OpenAI's
            guided-diffusion.
        network: What it has to be: the arguments ``NETWORK_KEYS``.
        in_channels: Channels of its images.
        weights: ``ema`` takes averaged weights where the run has them, ``live`` never.

    Raises:
        CheckpointError: Where it is missing, damaged, of another method, of another architecture or
            of another image size; names what differs.
    """
    file = find_checkpoint(init_from, prefer=("last", "best"))
    checkpoint = read_checkpoint(file)
    if IDENTITY in checkpoint:
        return _from_run(checkpoint, file, network, in_channels, weights)
    if _GUIDED_DIFFUSION in checkpoint:
        return _from_guided_diffusion(checkpoint, file, network, in_channels)
    raise CheckpointError(
        f"{file}: is neither a checkpoint of HybridDiffusionModule nor of OpenAI's "
        "guided-diffusion; give one of them as model.init_args.init_from"
    )


def load_backbone(unet: UNet2DModel, start: Start) -> None:
    """Loads all weights but those of the last layer, in place."""
    state = {key: value for key, value in start.state.items() if key not in _HEAD}
    missing, unknown = unet.load_state_dict(state, strict=False)
    if unknown or set(missing) != set(_HEAD):
        names = [*unknown, *(key for key in missing if key not in _HEAD)]
        raise CheckpointError(f"{start.source}: does not fit the network at {', '.join(names[:5])}")


def load_head(unet: UNet2DModel, start: Start, head: Head, seed: int) -> None:
    """The head rule of papers/hybrid.md 2c-3, in place.

    ``auto``: a hybrid checkpoint with as many classes gives its last K rows (rows 3..3 + K), any
    other one a new head at PyTorch's default initialisation, which is not zero. ``copy`` also takes
    the rows of a supervised checkpoint, ``new`` takes none.

    Raises:
        CheckpointError: Where ``copy`` finds no mask channels, or of another number of classes.
    """
    num_classes = unet.conv_out.out_channels
    fits = start.num_classes == num_classes
    if head == "copy" and not fits:
        raise CheckpointError(
            f"{start.source}: predicts {start.num_classes} classes and {num_classes} are asked for;"
            " model.init_args.head: copy needs the same number, auto gives a new head"
        )
    if fits and (head == "copy" or (head == "auto" and start.objective == "hybrid")):
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
) -> Start:
    check_identity(checkpoint, HybridDiffusionModule, file)
    remembered = checkpoint["hyper_parameters"]
    wanted = {**network, "in_channels": in_channels}
    # Dropout has no weights.
    keys = [key for key in (*NETWORK_KEYS, "in_channels") if key != "dropout"]
    differing = [key for key in keys if _plain(remembered.get(key)) != _plain(wanted[key])]
    if differing:
        listed = "\n".join(
            f"  {key}: {remembered.get(key)!r} there, {wanted[key]!r} here" for key in differing
        )
        raise CheckpointError(
            f"{file}: is of another network or image size:\n{listed}\n"
            f"Give model.init_args.preset: {remembered.get('preset')} and the same arguments "
            "(image_size and in_channels are given as data.init_args)"
        )
    state = checkpoint.get(LIVE, checkpoint["state_dict"])
    state = checkpoint["state_dict"] if weights == "ema" else state
    objective = str(remembered["objective"])
    return Start(
        {k.removeprefix("unet."): v for k, v in state.items() if k.startswith("unet.")},
        objective,
        0 if objective == "diffusion" else int(remembered["num_classes"]),
        str(file),
    )


def _plain(value: Any) -> Any:
    """A tuple as the list that a checkpoint may have made of it."""
    return list(value) if isinstance(value, tuple) else value


def _from_guided_diffusion(
    checkpoint: dict[str, Any], file: Path, network: Mapping[str, Any], in_channels: int
) -> Start:
    out_channels = int(checkpoint["out.2.weight"].shape[0])
    unet = adm_unet(in_channels=in_channels, out_channels=out_channels, **network)
    try:
        load_guided_diffusion(unet, checkpoint)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from error
    return Start(dict(unet.state_dict()), "diffusion", 0, str(file))
