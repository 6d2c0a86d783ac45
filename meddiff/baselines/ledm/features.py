"""Pixel features of a frozen denoising UNet (LEDM; docs/papers/hybrid.md 2a)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from meddiff.core.precision import full_precision
from meddiff.diffusion import NoiseSchedule
from meddiff.networks import decoder_blocks

if TYPE_CHECKING:
    from diffusers import UNet2DModel

_PAPER_BLOCKS = 18  # decoder blocks of the paper's network, to which its block numbers refer


def scaled_blocks(blocks: Sequence[int], depth: int) -> list[int]:
    """Block numbers of the paper's 18 decoder blocks in a network of another depth.

    Block b becomes round(b (n - 1) / 17), n the number of decoder blocks; duplicates are dropped.

    Args:
        blocks: Numbers out of 0..17.
        depth: Decoder blocks of the network.
    """
    places = [round(block * (depth - 1) / (_PAPER_BLOCKS - 1)) for block in blocks]
    return list(dict.fromkeys(places))


class DecoderFeatures:
    """Outputs of chosen decoder blocks at chosen noise levels, one shared noise for all.

    Args:
        unet: The network of `adm_unet`; it is used as it is, so it should be in evaluation mode.
        blocks: Block numbers of the paper's network, see `scaled_blocks`.
        timesteps: Time indices.
        noise: The shared noise, shape (C, H, W).
        clean: Whether images are given without noise, whatever the time index.

    Raises:
        ValueError: If there is no block or no time index.

    Attributes:
        length: Length of a pixel's vector: 4224 for the paper's network and three time indices.
    """

    def __init__(
        self,
        unet: UNet2DModel,
        blocks: Sequence[int],
        timesteps: Sequence[int],
        noise: Tensor,
        clean: bool = False,
    ) -> None:
        for name, numbers in (("blocks", blocks), ("noise_timesteps", timesteps)):
            if not numbers:
                raise ValueError(f"{name}: [] given, expected one or more")
        every = decoder_blocks(unet)
        self.unet = unet
        self.blocks = scaled_blocks(blocks, len(every))
        self.timesteps = list(timesteps)
        self.noise = noise
        self.clean = clean
        self._schedule = NoiseSchedule()
        self._last: list[nn.Module] = [every[block][-1] for block in self.blocks]
        widths = [int(every[block][0].conv2.weight.shape[0]) for block in self.blocks]  # type: ignore[union-attr,index]
        self.length = len(self.timesteps) * sum(widths)

    @torch.no_grad()
    def __call__(self, image: Tensor) -> list[Tensor]:
        """The features of images.

        Args:
            image: In [-1, 1], shape (B, C, H, W).

        Returns:
            One tensor a block, float32, shape (B, S, c, h, w): S time indices, c channels of the
            block at its own resolution.
        """
        steps = [self._outputs(image, t) for t in self.timesteps]
        return [torch.stack(maps, dim=1).float() for maps in zip(*steps, strict=True)]

    def _outputs(self, image: Tensor, timestep: int) -> list[Tensor]:
        t = torch.full((len(image),), timestep, device=image.device)
        schedule = self._schedule.to(image.device)
        noise = self.noise.to(image.device).expand_as(image)
        x_t = image.float() if self.clean else schedule.add_noise(image, noise, t)
        caught: dict[nn.Module, Tensor] = {}
        handles = [
            module.register_forward_hook(lambda m, _, output: caught.__setitem__(m, output))
            for module in self._last
        ]
        try:
            # In float32 in every precision: the cache and what is segmented later must agree.
            with full_precision(image.device):
                self.unet(x_t.to(self.unet.dtype), t)
        finally:
            for handle in handles:
                handle.remove()
        return [caught[module] for module in self._last]


def upsampled(maps: Sequence[Tensor], size: int) -> Tensor:
    """Features of all pixels: bilinear (align_corners=False), steps outer and blocks inner.

    Args:
        maps: From `DecoderFeatures`, (B, S, c, h, w) each.
        size: Height and width of the result.

    Returns:
        Shape (B, d, size, size). At 256 pixels an image takes 1.1 GB.
    """
    return torch.cat(
        [
            F.interpolate(block[:, step], size=(size, size), mode="bilinear", align_corners=False)
            for step in range(maps[0].shape[1])
            for block in maps
        ],
        dim=1,
    )


def fingerprint(unet: nn.Module) -> str:
    """SHA-256 of all weights but the last layer's, which features do not depend on."""
    digest = hashlib.sha256()
    for name, value in unet.state_dict().items():
        if not name.startswith("conv_out."):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
