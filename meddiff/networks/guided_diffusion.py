"""Weights of OpenAI's guided-diffusion for `meddiff.networks.adm_unet`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from meddiff.core.checkpoint import read_checkpoint
from meddiff.networks.adm import decoder_blocks, res_blocks

if TYPE_CHECKING:
    from diffusers import UNet2DModel

_SHOWN = 5


class _Layer(NamedTuple):
    """One of their layers, and the layers of ours that share its rows."""

    name: str
    ours: list[nn.Module]
    heads: int = 1


def load_guided_diffusion(
    unet: UNet2DModel, state_dict_or_path: Mapping[str, Tensor] | str | Path
) -> UNet2DModel:
    """Loads weights with OpenAI's parameter names into a network of `adm_unet`, in place.

    Args:
        unet: What `adm_unet` built with the settings of the checkpoint.
        state_dict_or_path: The state dict, or a `.pt` file that holds it (read without running
            any code it may hold).

    Returns:
        The same `unet`. On an error it is as it was.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the weights do not fit: names the keys that are missing, unknown or of
            another shape. Also for a file that is damaged, holds code or is class-conditional.
    """
    source, given = _read(state_dict_or_path)
    wanted = {
        f"{layer.name}.{kind}": (layer, [getattr(ours, kind) for ours in layer.ours])
        for layer in _layers(unet)
        for kind in ("weight", "bias")
    }
    _check(source, given, {key: _packed_shape(ours) for key, (_, ours) in wanted.items()})
    with torch.no_grad():
        for key, (layer, parameters) in wanted.items():
            # The legacy layout of q, k, v: heads first, then q, k and v inside each head.
            parts = given[key].reshape(layer.heads, len(parameters), -1).unbind(1)
            for parameter, part in zip(parameters, parts, strict=True):
                parameter.copy_(part.reshape(parameter.shape))
    return unet


def _read(
    state_dict_or_path: Mapping[str, Tensor] | str | Path,
) -> tuple[str, Mapping[str, Tensor]]:
    if isinstance(state_dict_or_path, Mapping):
        return "state dict", state_dict_or_path
    if not Path(state_dict_or_path).is_file():
        raise FileNotFoundError(f"{state_dict_or_path}: no such file of guided-diffusion weights")
    return str(state_dict_or_path), read_checkpoint(state_dict_or_path)


def _check(source: str, given: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    if "label_emb.weight" in given:
        raise ValueError(
            f"{source}: is class-conditional (it has label_emb.weight) and this network takes no "
            "classes; use an unconditional checkpoint, such as 256x256_diffusion_uncond.pt"
        )
    shared = [key for key in wanted if key in given]
    misfits = [
        f"{key} {tuple(given[key].shape)}, the network has {wanted[key]}"
        for key in shared
        if _without_trailing_ones(given[key].shape) != _without_trailing_ones(wanted[key])
    ]
    problems = {
        "missing": [key for key in wanted if key not in given],
        "unknown": [key for key in given if key not in wanted],
        "of another shape": misfits,
    }
    lines = [f"  {what}: {_some(keys)}" for what, keys in problems.items() if keys]
    if lines:
        raise ValueError(
            f"{source}: does not fit this network; build it with the checkpoint's own settings\n"
            + "\n".join(lines)
        )


def _layers(unet: UNet2DModel) -> Iterator[_Layer]:
    """Every layer under its name in guided-diffusion (docs/papers/shared.md 0.3.3)."""
    yield _Layer("time_embed.0", [unet.time_embedding.linear_1])
    yield _Layer("time_embed.2", [unet.time_embedding.linear_2])
    yield _Layer("input_blocks.0.0", [unet.conv_in])
    for number, block in enumerate(_input_blocks(unet), start=1):
        yield from _sequence(f"input_blocks.{number}", block)
    middle = unet.mid_block
    yield from _sequence("middle_block", [middle.resnets[0], *middle.attentions, middle.resnets[1]])
    for number, block in enumerate(decoder_blocks(unet)):
        yield from _sequence(f"output_blocks.{number}", block)
    yield _Layer("out.0", [unet.conv_norm_out])
    yield _Layer("out.2", [unet.conv_out])


def _input_blocks(unet: UNet2DModel) -> Iterator[list[nn.Module]]:
    for level in unet.down_blocks:
        yield from res_blocks(level)
        if level.downsamplers is not None:
            yield list(level.downsamplers)


def _sequence(name: str, modules: Iterable[nn.Module]) -> Iterator[_Layer]:
    for position, module in enumerate(modules):
        yield from _module(f"{name}.{position}", module)


def _module(name: str, module: nn.Module) -> Iterator[_Layer]:
    from diffusers.models.attention_processor import Attention
    from diffusers.models.downsampling import Downsample2D
    from diffusers.models.resnet import ResnetBlock2D

    if isinstance(module, Attention):
        yield _Layer(f"{name}.norm", [module.group_norm])
        yield _Layer(f"{name}.qkv", [module.to_q, module.to_k, module.to_v], module.heads)
        yield _Layer(f"{name}.proj_out", [module.to_out[0]])
    elif isinstance(module, ResnetBlock2D):
        yield _Layer(f"{name}.in_layers.0", [module.norm1])
        yield _Layer(f"{name}.in_layers.2", [module.conv1])
        yield _Layer(f"{name}.emb_layers.1", [module.time_emb_proj])
        yield _Layer(f"{name}.out_layers.0", [module.norm2])
        yield _Layer(f"{name}.out_layers.3", [module.conv2])
        if module.conv_shortcut is not None:
            yield _Layer(f"{name}.skip_connection", [module.conv_shortcut])
    else:
        operation = "op" if isinstance(module, Downsample2D) else "conv"
        yield _Layer(f"{name}.{operation}", [module.get_submodule("conv")])


def _packed_shape(parameters: list[Tensor]) -> tuple[int, ...]:
    first = parameters[0].shape
    return (len(parameters) * first[0], *first[1:])


def _without_trailing_ones(shape: Iterable[int]) -> tuple[int, ...]:
    """A 1x1 convolution and a linear layer have the same weights."""
    sizes = list(shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)


def _some(keys: list[str]) -> str:
    rest = len(keys) - _SHOWN
    return ", ".join(keys[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
