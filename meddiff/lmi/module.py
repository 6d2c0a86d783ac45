"""LMIDiffusion (Wang et al., arXiv 2404.01102; equations in papers/lmi.md)."""

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from meddiff.lmi.mutual_information import local_mutual_information
from meddiff.lmi.preconditioning import Preconditioning
from meddiff.lmi.samplers import Sampler
from meddiff.lmi.score import Condition, ScoreModule, Start
from meddiff.lmi.sde import SDEName
from meddiff.presets import Preset

Guidance: TypeAlias = Literal["lmi", "zeros"]


class LMIDiffusionModule(ScoreModule):
    """Translates images of a modality that it has never seen, by a score model of the target's.

    The network sees a noisy target image and two maps of local mutual information (Eq. 1), that of
    the clean image with the noisy one and that of the clean image with itself. In translation the
    clean image is the source: its grey levels never reach the network, only what they tell of the
    noisy image.

    Args:
        preset: ``paper``, ``small`` (an hour on two cores) or ``tiny`` (tests and demos): what the
            arguments that are None stand for, see ``meddiff/lmi/presets.py``.
        sde: ``ve`` (Eqs. 2 and 3) or ``vp`` (the authors' code).
        guidance: ``lmi``, or ``zeros``: both maps are zero, to measure what they do.
        start: ``noise`` (the paper), or ``source``: the source with the noise of ``strength``.
        strength: Share of the diffusion that a source is perturbed by; for ``start: source``.
        image_size: Height and width in pixels.
        in_channels: 1; mutual information is of grey images.
        seed: Seed of noise, times and dropout.
        model_channels: C, the width of the first level.
        channel_mult: Width of each level as a multiple of C.
        num_res_blocks: Residual blocks a level.
        attention_resolutions: Feature map sizes, in pixels, that have attention.
        num_head_channels: Channels of an attention head; None: one head over all.
        dropout: Dropout of the residual blocks.
        patch_size: Side of a patch of Eq. 1, in pixels.
        search_size: Side of the neighbourhood that is searched in the noisy image, in pixels.
        bins: Bins of the grey levels.
        bandwidth: Width of the Parzen kernels, in grey levels of 256.
        normalized: Whether mutual information is divided by the mean of the entropies.
        sigma_min: sigma(0) of ``ve``.
        sigma_max: sigma(1) of ``ve``.
        vp_final_noise: Whether ``vp``'s ancestral sampler adds noise at t = 0 too (5c-10).
        preconditioning: ``none``: the network's output is epsilon (the paper). ``edm``: with a
            share of x_t it makes up x_0, and all noise levels count alike for it (short runs).
        learning_rate: Rate of Adam.
        adam_betas: Betas of Adam.
        adam_eps: Epsilon of Adam.
        weight_decay: Weight decay; 0 makes AdamW Adam.
        warmup_steps: Steps of linear warm-up.
        sampler: ``euler_maruyama``, ``predictor_corrector`` or ``ode``; of ``vp`` ``ancestral`` or
            ``ode``. None: the first, which is the paper's.
        num_inference_steps: Its steps from pure noise.

    Raises:
        ValueError: Where an argument is none that there is, or sizes do not fit each other.
    """

    def __init__(
        self,
        preset: Preset = "paper",
        sde: SDEName = "ve",
        guidance: Guidance = "lmi",
        start: Start = "noise",
        strength: float = 0.5,
        image_size: int = 128,
        in_channels: int = 1,
        seed: int = 0,
        model_channels: int | None = None,
        channel_mult: list[int] | None = None,
        num_res_blocks: int | None = None,
        attention_resolutions: list[int] | None = None,
        num_head_channels: int | None = None,
        dropout: float | None = None,
        patch_size: int = 3,
        search_size: int = 3,
        bins: int = 27,
        bandwidth: float = 8.0,
        normalized: bool = True,
        sigma_min: float = 0.01,
        sigma_max: float = 50.0,
        vp_final_noise: bool = False,
        preconditioning: Preconditioning | None = None,
        learning_rate: float | None = None,
        adam_betas: tuple[float, float] = (0.9, 0.999),
        adam_eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        sampler: Sampler | None = None,
        num_inference_steps: int | None = None,
    ) -> None:
        super().__init__()
        if guidance not in get_args(Guidance):
            raise ValueError(f"guidance: {guidance!r} is not one of lmi, zeros")
        if in_channels != 1:
            raise ValueError(
                f"in_channels: {in_channels}, but mutual information is of grey images; "
                "give data.init_args.in_channels: 1"
            )
        self.save_hyperparameters()
        self.build(maps=2)
        self.local_mutual_information(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))

    def local_mutual_information(self, x: Tensor, y: Tensor) -> Tensor:
        """Eq. 1 with the module's patches, bins and bandwidth; see the function of this name."""
        names = ("patch_size", "search_size", "bins", "bandwidth", "normalized")
        return local_mutual_information(x, y, **{name: self.hparams[name] for name in names})

    def condition(self, clean: Tensor) -> Condition:
        """``[LMI(clean, x_t), LMI(clean, clean)]``, the second one computed once."""
        if self.hparams["guidance"] == "zeros":
            return lambda noisy: torch.zeros_like(noisy).repeat(1, 2, 1, 1)
        itself = self.local_mutual_information(clean, clean)
        return lambda noisy: torch.cat([self.local_mutual_information(clean, noisy), itself], dim=1)
