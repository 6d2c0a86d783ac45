"""What the modules on the ADM UNet share: its arguments, and its output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from meddiff.core.module import MedDiffModule
from meddiff.core.ranges import PositiveInt, ShareBelowOne, TwoOrMore
from meddiff.networks.adm import NETWORK_KEYS

if TYPE_CHECKING:
    from diffusers import UNet2DModel


class ADMModule(MedDiffModule):
    """A module whose network is a UNet of `meddiff.networks.adm_unet`, kept as `unet`.

    Args:
        model_channels: C, the width of the first level.
        channel_mult: Width of each level as a multiple of C.
        num_res_blocks: Residual blocks a level.
        attention_resolutions: Feature map sizes, in pixels, that have attention.
        num_head_channels: Channels of an attention head. None: the preset's, where None stands for
            one head over all channels.
        dropout: Dropout of the residual blocks.
        **kwargs: As `MedDiffModule`.
    """

    unet: UNet2DModel

    def __init__(
        self,
        model_channels: TwoOrMore | None = None,
        channel_mult: list[PositiveInt] | None = None,
        num_res_blocks: PositiveInt | None = None,
        attention_resolutions: list[PositiveInt] | None = None,
        num_head_channels: PositiveInt | None = None,
        dropout: ShareBelowOne | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

    @property
    def network(self) -> dict[str, Any]:
        """The arguments of `adm_unet` that are hyper-parameters."""
        return {key: self.hparams[key] for key in NETWORK_KEYS if key in self.hparams}

    def networks(self) -> list[nn.Module]:
        """The UNet."""
        return [self.unet]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The UNet's output for x_t and t, float32.

        Args:
            x: Shape (B, C, H, W).
            t: Raw time indices, or what stands for them, shape (B,).
        """
        output: Tensor = self.unet(x.to(self.unet.dtype), t).sample
        return output.float()

    def at_index_zero(self, image: Tensor) -> Tensor:
        """The output for clean images (B, C, H, W) at time index 0."""
        t = torch.zeros(len(image), dtype=torch.long, device=image.device)
        return self.forward(image, t)
