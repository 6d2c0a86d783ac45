"""SDEdit (Meng et al., arXiv 2108.01073), what LMIDiffusion is compared with."""

from torch import Tensor

from meddiff.lmi.preconditioning import Preconditioning
from meddiff.lmi.samplers import Sampler
from meddiff.lmi.score import Condition, ScoreModule, Start
from meddiff.lmi.sde import SDEName
from meddiff.presets import Preset


class SDEditModule(ScoreModule):
    """The score network of LMIDiffusion without its maps, started from the perturbed source.

    The source with the noise of half the diffusion is denoised as if it were a target image
    (papers/lmi.md 5a).

    Args:
        preset: ``paper``, ``small`` or ``tiny``: what the arguments that are None stand for, see
            ``meddiff/lmi/presets.py``.
        sde: ``ve`` or ``vp``.
        start: ``source``, or ``noise``: from pure noise, which makes images of the target modality
            that know nothing of the source.
        strength: Share of the diffusion that the source is perturbed by: 0.5, sigma 0.707 under VE.
            At 0 the source comes back as it is.
        image_size: Height and width in pixels.
        in_channels: Channels of the images.
        seed: Seed of noise, times and dropout.
        model_channels: C, the width of the first level.
        channel_mult: Width of each level as a multiple of C.
        num_res_blocks: Residual blocks a level.
        attention_resolutions: Feature map sizes, in pixels, that have attention.
        num_head_channels: Channels of an attention head; None: one head over all.
        dropout: Dropout of the residual blocks.
        sigma_min: sigma(0) of ``ve``.
        sigma_max: sigma(1) of ``ve``.
        vp_final_noise: Whether ``vp``'s ancestral sampler adds noise at t = 0 too.
        preconditioning: ``none``: the network's output is epsilon (the paper). ``edm``: with a
            share of x_t it makes up x_0, and all noise levels count alike for it (short runs).
        learning_rate: Rate of Adam.
        adam_betas: Betas of Adam.
        adam_eps: Epsilon of Adam.
        weight_decay: Weight decay; 0 makes AdamW Adam.
        warmup_steps: Steps of linear warm-up.
        sampler: As in ``LMIDiffusionModule``.
        num_inference_steps: Its steps over all noise levels; from the source a share of them.

    Raises:
        ValueError: Where an argument is none that there is, or sizes do not fit each other.
    """

    def __init__(
        self,
        preset: Preset = "paper",
        sde: SDEName = "ve",
        start: Start = "source",
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
        self.save_hyperparameters()
        self.build(maps=0)

    def condition(self, clean: Tensor) -> Condition:
        """None: the network sees the noisy image alone."""
        return lambda noisy: None
