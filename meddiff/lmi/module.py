"""LMIDiffusion (Wang et al., arXiv 2404.01102; equations in docs/papers/lmi.md 5a).

Eq. 1, what the network sees, is here; Eq. 2, the loss, and Eq. 3, the reverse SDE, are
`ScoreModule`'s.
"""

from typing import Any, ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from meddiff.core.ranges import PositiveInt, PositiveNumber, TwoOrMore
from meddiff.diffusion.score import Condition, ScoreModule
from meddiff.lmi.mutual_information import local_mutual_information

Guidance: TypeAlias = Literal["lmi", "zeros"]


class LMIDiffusionModule(ScoreModule):
    """Translates images of a modality that it has never seen, by a score model of the target's.

    The network sees a noisy target image and two maps of local mutual information (Eq. 1), that of
    the clean image with the noisy one and that of the clean image with itself. In translation the
    clean image is the source: its grey levels never reach the network, only what they tell of the
    noisy image.

    Args:
        guidance: `lmi`, or `zeros`: both maps are zero, to measure what they do.
        patch_size: Side of a patch of Eq. 1, in pixels.
        search_size: Side of the neighbourhood that is searched in the noisy image, in pixels.
        bins: Bins of the grey levels.
        bandwidth: Width of the Parzen kernels, in grey levels of 256.
        normalized: Whether mutual information is divided by the mean of the entropies.
        **kwargs: As `ScoreModule`, with `in_channels: 1`: mutual information is of grey images.
    """

    maps: ClassVar[int] = 2

    def __init__(
        self,
        guidance: Guidance = "lmi",
        patch_size: PositiveInt = 3,
        search_size: PositiveInt = 3,
        bins: TwoOrMore = 27,
        bandwidth: PositiveNumber = 8.0,
        normalized: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if guidance not in get_args(Guidance):
            raise ValueError(f"guidance: {guidance!r} is not one of lmi, zeros")
        if (channels := self.hparams["in_channels"]) != 1:
            raise ValueError(
                f"in_channels: {channels}, but mutual information is of grey images; "
                "give data.init_args.in_channels: 1"
            )
        # Says at once which argument is out of its range.
        self.local_mutual_information(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))

    def local_mutual_information(self, x: Tensor, y: Tensor) -> Tensor:
        """Eq. 1 with the module's patches, bins and bandwidth; see the function of this name."""
        names = ("patch_size", "search_size", "bins", "bandwidth", "normalized")
        return local_mutual_information(x, y, **{name: self.hparams[name] for name in names})

    def condition(self, clean: Tensor) -> Condition:
        """`[LMI(clean, x_t), LMI(clean, clean)]`, the second one computed once."""
        if self.hparams["guidance"] == "zeros":
            return lambda noisy: torch.zeros_like(noisy).repeat(1, 2, 1, 1)
        itself = self.local_mutual_information(clean, clean)
        return lambda noisy: torch.cat([self.local_mutual_information(clean, noisy), itself], dim=1)
