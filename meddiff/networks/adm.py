"""The ADM UNet (Dhariwal & Nichol, guided-diffusion) as diffusers' `UNet2DModel`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import gcd, lcm
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from diffusers import UNet2DModel

NETWORK_KEYS = (
    "image_size",
    "model_channels",
    "channel_mult",
    "num_res_blocks",
    "attention_resolutions",
    "num_head_channels",
    "dropout",
)
"""Arguments of `adm_unet` that are hyper-parameters of every module with this network."""


def adm_unet(
    *,
    image_size: int,
    in_channels: int,
    out_channels: int,
    model_channels: int,
    channel_mult: Sequence[int],
    num_res_blocks: int,
    attention_resolutions: Sequence[int],
    num_head_channels: int | None = None,
    dropout: float = 0.0,
    resblock_updown: bool = True,
    use_scale_shift_norm: bool = True,
) -> UNet2DModel:
    """Builds a UNet that computes the same function as guided-diffusion's.

    Call it as `unet(x, t).sample`: x has shape (B, in_channels, image_size, image_size), t holds
    raw time indices 0..999 (float or int) of shape (B,), the result has `out_channels`. At the
    start it is exactly 0: the head, the second convolution of each residual block and each
    attention's projection start at zero.

    Args, beside those of `ADMModule`:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        resblock_updown: Resample inside residual blocks; else by strided convolutions on the way
            down, nearest and a convolution on the way up.
        use_scale_shift_norm: Time scales and shifts the second normalisation; else it is added.

    Raises:
        ValueError: If sizes do not fit each other.
    """
    from diffusers import UNet2DModel

    widths, attends = _levels(
        image_size, model_channels, channel_mult, attention_resolutions, num_head_channels
    )
    unet = UNet2DModel(
        sample_size=image_size,
        in_channels=in_channels,
        out_channels=out_channels,
        block_out_channels=widths,
        layers_per_block=num_res_blocks,
        attention_head_dim=num_head_channels,
        dropout=dropout,
        **_blocks(attends, resblock_updown),
        **_conditioning(model_channels, use_scale_shift_norm),
    )
    _zero_residual_branches(unet)
    return unet


def _blocks(attends: Sequence[bool], resblock_updown: bool) -> dict[str, Any]:
    """The kinds of blocks of the levels; one with attention has it behind each residual block."""
    down = "ResnetDownsampleBlock2D" if resblock_updown else "DownBlock2D"
    up = "ResnetUpsampleBlock2D" if resblock_updown else "UpBlock2D"
    resample = "resnet" if resblock_updown else "conv"
    return {
        "down_block_types": tuple("AttnDownBlock2D" if a else down for a in attends),
        "up_block_types": tuple("AttnUpBlock2D" if a else up for a in reversed(attends)),
        "downsample_type": resample,
        "upsample_type": resample,
    }


def _conditioning(model_channels: int, use_scale_shift_norm: bool) -> dict[str, Any]:
    """How time enters, and the group normalisation that it enters through."""
    # All widths, concatenated ones too, are multiples of C: so what divides C divides them all.
    groups = gcd(32, model_channels)
    return {
        "resnet_time_scale_shift": "scale_shift" if use_scale_shift_norm else "default",
        "norm_num_groups": groups,
        # Without it the middle's attention has no normalisation under scale-shift.
        "attn_norm_num_groups": groups,
        "norm_eps": 1e-5,
        # Cosines come first and the frequencies' divisor is C/2.
        "flip_sin_to_cos": True,
        "freq_shift": 0,
    }


def decoder_blocks(unet: UNet2DModel) -> list[list[nn.Module]]:
    """The decoder's blocks as guided-diffusion counts them, each the modules that it runs in turn.

    The last module's output is the block's; a level has `num_res_blocks + 1` of them.
    """
    blocks = []
    for level in unet.up_blocks:
        *first, last = res_blocks(level)
        blocks += [*first, [*last, *(level.upsamplers or [])]]
    return blocks


def res_blocks(level: nn.Module) -> list[list[nn.Module]]:
    """Residual blocks of a level, each with the attention that follows it, if any."""
    columns = [level.resnets, *([level.attentions] if hasattr(level, "attentions") else [])]
    return [list(block) for block in zip(*columns, strict=True)]


def checkpoint_blocks(unet: UNet2DModel) -> None:
    """Makes every residual block and attention compute its activations again in the backward pass.

    diffusers' own switch leaves out the resampling blocks and the attentions, and with them half of
    the memory (benchmarks/finetune_memory.py).
    """
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D

    for module in unet.modules():
        if isinstance(module, ResnetBlock2D | Attention):
            module.forward = partial(_recomputed, module.forward)


def _recomputed(forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    output: Tensor = checkpoint(forward, *args, use_reentrant=False, **kwargs)
    return output


def _levels(
    image_size: int,
    model_channels: int,
    channel_mult: Sequence[int],
    attention_resolutions: Sequence[int],
    num_head_channels: int | None,
) -> tuple[tuple[int, ...], list[bool]]:
    """Width of each level, and whether it has attention.

    A resolution that no level has is without effect, as in guided-diffusion; the middle always has
    attention.
    """
    widths = [model_channels * multiple for multiple in channel_mult]
    sizes = _feature_map_sizes(image_size, channel_mult)
    attends = _attention_levels(image_size, sizes, attention_resolutions)
    _check_heads(widths, attends, num_head_channels)
    return tuple(widths), attends


def _feature_map_sizes(image_size: int, channel_mult: Sequence[int]) -> list[int]:
    if not channel_mult or channel_mult[0] != 1:
        raise ValueError(
            f"channel_mult: {list(channel_mult)} does not start with 1; "
            "give the width of the first level as model_channels"
        )
    coarsest = 2 ** (len(channel_mult) - 1)
    if image_size % coarsest:
        raise ValueError(
            f"image_size: {image_size} cannot be halved {len(channel_mult) - 1} times, once for "
            f"each of the {len(channel_mult)} levels of channel_mult; give "
            f"{_nearest(image_size, coarsest)}, or another multiple of {coarsest}"
        )
    return [image_size // 2**level for level in range(len(channel_mult))]


def _attention_levels(
    image_size: int, sizes: list[int], attention_resolutions: Sequence[int]
) -> list[bool]:
    for resolution in attention_resolutions:
        if image_size % resolution:
            multiple = lcm(resolution, image_size // sizes[-1])
            raise ValueError(
                f"attention_resolutions: {resolution} does not divide image_size {image_size}; "
                f"give image_size {_nearest(image_size, multiple)}, or feature map sizes in "
                f"pixels, out of {sizes}"
            )
    return [size in attention_resolutions for size in sizes]


def _nearest(size: int, multiple: int) -> str:
    """The multiples below and above a size."""
    below = size // multiple * multiple
    return " or ".join(str(near) for near in (below, below + multiple) if near)


def _check_heads(widths: list[int], attends: list[bool], num_head_channels: int | None) -> None:
    if num_head_channels is None:
        return
    attended = {width for width, attend in zip(widths, attends, strict=True) if attend}
    for width in sorted(attended | {widths[-1]}):
        if width % num_head_channels:
            raise ValueError(
                f"num_head_channels: {num_head_channels} does not divide the width {width} of a "
                "level with attention; give a divisor, or None for one head over all channels"
            )


def _zero_residual_branches(unet: UNet2DModel) -> None:
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D

    last: list[nn.Module] = [unet.conv_out]
    for module in unet.modules():
        if isinstance(module, ResnetBlock2D):
            last.append(module.conv2)
        elif isinstance(module, Attention):
            last.append(module.to_out[0])
    for layer in last:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
