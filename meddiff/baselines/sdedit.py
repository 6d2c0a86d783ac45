"""SDEdit (Meng et al., arXiv 2108.01073), LMIDiffusion's rival (docs/papers/lmi.md 5a)."""

from typing import Any

from torch import Tensor

from meddiff.diffusion.score import Condition, ScoreModule, Start


class SDEditModule(ScoreModule):
    """The score network of LMIDiffusion without its maps, started from the perturbed source.

    The source with the noise of half the diffusion, sigma 0.707 under VE, is denoised as if it were
    a target image.

    Args:
        start: `source`, or `noise`: from pure noise, which makes images of the target modality that
            know nothing of the source.
        **kwargs: As `ScoreModule`.
    """

    def __init__(self, start: Start = "source", **kwargs: Any) -> None:
        super().__init__(start=start, **kwargs)

    def condition(self, clean: Tensor) -> Condition:
        """None: the network sees the noisy image alone."""
        return lambda noisy: None
