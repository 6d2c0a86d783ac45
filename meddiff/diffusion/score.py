"""A score network of one modality, which translates images of another one (docs/papers/lmi.md 5a).

Eq. 2 is `ScoreModule.loss`, Eq. 3 the sampler `euler_maruyama`. What the network sees beside the
noisy image is the subclass's.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from meddiff.core.optimization import AdamWModule
from meddiff.core.precision import float32, require_finite
from meddiff.core.protocols import Generators
from meddiff.core.randomness import item_generators, item_noise, step_generator
from meddiff.core.ranges import (
    ClosedUnitInterval,
    NonNegativeNumber,
    PositiveInt,
    PositiveNumber,
    ShareBelowOne,
)
from meddiff.diffusion.preconditioning import Preconditioning, preconditioning_of
from meddiff.diffusion.presets import PRESETS
from meddiff.diffusion.samplers import SamplerName, sampler_of, unit_noise
from meddiff.diffusion.sde import SDE, VPSDE, SDEName, exploded, make_sde, perturbed
from meddiff.diffusion.timesteps import inference_timesteps
from meddiff.networks import ADMModule, adm_unet

Start: TypeAlias = Literal["noise", "source"]
Condition: TypeAlias = Callable[[Tensor], Tensor | None]
"""Maps a noisy image x_t (B, C, H, W) to what the network sees beside it (B, M, H, W), if any."""


class ScoreModule(ADMModule, AdamWModule):
    """A score network and its samplers.

    Public methods take and give [-1, 1]; inside images are in [0, 1], as in the paper.

    Args:
        sde: `ve` (Eqs. 2 and 3) or `vp` (LMIDiffusion's code).
        start: `noise`, or `source`: the source with the noise of `strength`.
        strength: Share of the diffusion that a source is perturbed by, for `start: source`; at 0
            the source comes back as it is.
        image_size: Height and width in pixels.
        in_channels: Channels of the images.
        sigma_min: sigma(0) of `ve`.
        sigma_max: sigma(1) of `ve`.
        vp_final_noise: Whether `vp`'s ancestral sampler adds noise at t = 0 too (5c-10).
        preconditioning: `none`: the network's output is epsilon (the paper). `edm`: with a share of
            x_t it makes up x_0, and all noise levels count alike for it (short runs).
        adam_betas: Betas of Adam.
        weight_decay: Weight decay; 0 makes AdamW Adam.
        sampler: `euler_maruyama`, `predictor_corrector` or `ode`; of `vp` `ancestral` or `ode`.
            None: the first, which is the paper's.
        num_inference_steps: Its steps from pure noise.
        **kwargs: As `ADMModule` and `AdamWModule`.

    Raises:
        ValueError: If an argument is unknown or out of its range, or sizes do not fit each other.
    """

    presets = PRESETS
    maps: ClassVar[int] = 0
    """Channels that the condition adds to the network's input."""

    def __init__(
        self,
        sde: SDEName = "ve",
        start: Start = "noise",
        strength: ClosedUnitInterval = 0.5,
        image_size: PositiveInt = 128,
        in_channels: PositiveInt = 1,
        sigma_min: PositiveNumber = 0.01,
        sigma_max: PositiveNumber = 50.0,
        vp_final_noise: bool = False,
        preconditioning: Preconditioning | None = None,
        adam_betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.999),
        weight_decay: NonNegativeNumber = 0.0,
        sampler: SamplerName | None = None,
        num_inference_steps: PositiveInt | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            image_size=image_size,
            in_channels=in_channels,
            adam_betas=adam_betas,
            weight_decay=weight_decay,
            **kwargs,
        )
        self.sde = make_sde(sde, sigma_min, sigma_max, vp_final_noise)
        self.output = preconditioning_of(self.hparams["preconditioning"])
        _check_translation(start, strength, self.hparams["num_inference_steps"], self.sde)
        sampler_of(sde, sampler)
        self.unet = adm_unet(
            in_channels=in_channels + self.maps,
            out_channels=in_channels,
            resblock_updown=False,
            use_scale_shift_norm=False,
            **self.network,
        )

    @abstractmethod
    def condition(self, clean: Tensor) -> Condition:
        """What tells the network of a clean image.

        Args:
            clean: In [0, 1], shape (B, C, H, W): in training the image itself, in translation the
                source.
        """

    def epsilon(self, x: Tensor, t: Tensor, maps: Tensor | None) -> Tensor:
        """The noise in x_t, float32; the score is `-epsilon / sigma_t`.

        Args:
            x: x_t, shape (B, C, H, W).
            t: Times (VE) or time indices (VP), shape (B,).
            maps: The condition, shape (B, M, H, W), if there is one.
        """
        noisy, level = exploded(x, t, self.sde)
        seen = self.output.network_input(noisy, level)
        seen = seen if maps is None else torch.cat([seen, maps], dim=1)
        return self.output.epsilon(self(seen, self.sde.time_feature(t)), noisy, level)

    def loss(self, clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Eq. 2 at given times and noise, the mean over the batch, a scalar.

        Args:
            clean: Images in [-1, 1], shape (B, C, H, W).
            t: Times, shape (B,).
            noise: Unit Gaussian, as `clean`.
        """
        x_0 = (clean.float() + 1) / 2
        x_t = perturbed(x_0, noise, t, self.sde)
        predicted = self.epsilon(x_t, t, self.condition(x_0)(x_t))
        return self._error(predicted, noise, t)

    @float32
    def _error(self, predicted: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (figure.view(-1, 1, 1, 1) for figure in self.sde.marginal(t))
        return (self.output.weight(sigma / alpha) * self.sde.loss(predicted, noise)).mean()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch of the target modality; draws are keyed by (seed, step, rank)."""
        generator = step_generator(self, self.hparams["seed"])
        clean = _target(batch)
        t = self.sde.sample_t(len(clean), generator)
        noise = torch.empty_like(clean, dtype=torch.float32).normal_(generator=generator)
        loss = self.loss(clean, t, noise)
        self.log("train/loss", loss, batch_size=len(clean))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The loss with t and noise fixed by `index`, so that runs and steps compare."""
        clean, index = _target(batch), batch["index"]
        noise = item_noise(self.hparams["seed"], index, clean.shape[1:]).to(clean.device)
        loss = self.loss(clean, self.sde.fixed_t(index), noise)
        self.log("val/loss", loss, batch_size=len(clean), sync_dist=True)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Translations `image` (B, C, H, W) of a batch of sources.

        Raises:
            ValueError: If the batch has no images.
        """
        source = batch["source"] if "source" in batch else batch.get("image")
        if source is None:
            raise ValueError(
                f"{type(self).__name__} translates images and makes none from nothing; "
                "give a data module with images, not NoiseDataModule"
            )
        index = batch["index"]
        generators = item_generators(self.hparams["seed"], index)
        return {"image": self.translate(source, generators), "index": index}

    @torch.no_grad()
    def translate(
        self,
        image: Tensor,
        generator: Generators = None,
        *,
        start: Start | None = None,
        strength: float | None = None,
        sampler: SamplerName | None = None,
        num_inference_steps: int | None = None,
    ) -> Tensor:
        """Makes target images of source images (Eq. 3).

        Args:
            image: Sources in [-1, 1], shape (B, C, H, W).
            generator: One generator, or one an item.
            start: None takes the module's; so do the other arguments.
            strength: As in the class.
            sampler: One of `meddiff.diffusion.samplers.SAMPLERS` for the SDE.
            num_inference_steps: Steps over all noise levels.

        Returns:
            In [-1, 1], float32, as `image`.

        Raises:
            ValueError: If an argument, or the size of the images, does not fit, or a translation
                is not finite.
        """
        start = self.hparams["start"] if start is None else start
        strength = self.hparams["strength"] if strength is None else strength
        sampler = self.hparams["sampler"] if sampler is None else sampler
        default = self.hparams["num_inference_steps"]
        steps = default if num_inference_steps is None else num_inference_steps
        _check_translation(start, strength, steps, self.sde)
        solve = sampler_of(self.hparams["sde"], sampler)
        _check_source(image, self.hparams["in_channels"], len(self.hparams["channel_mult"]))
        if start == "source" and strength == 0:
            return image.float()
        source = (image.float() + 1) / 2
        first = self.sde.start_t(strength if start == "source" else 1.0)
        clean = source if start == "source" else torch.zeros_like(source)
        t = torch.full((len(image),), first, device=image.device)
        x = perturbed(clean, unit_noise(clean, generator), t, self.sde)
        condition = self.condition(source)

        def epsilon(x: Tensor, t: Tensor) -> Tensor:
            return self.epsilon(x, t, condition(x))

        x_0: Tensor = solve(epsilon, x, self.sde, start=first, steps=steps, generator=generator)
        return require_finite(x_0, f"translate with {steps} steps").clamp(0, 1).mul(2).sub(1)

    @property
    def supports_fp16(self) -> bool:
        """The output counts alike at all noise levels: a gradient scaler can hold it in fp16."""
        return True


def _target(batch: dict[str, Tensor]) -> Tensor:
    return batch["target"] if "target" in batch else batch["image"]


def _check_translation(start: str, strength: float, steps: int, sde: SDE) -> None:
    if start not in get_args(Start):
        raise ValueError(f"start: {start!r} is not one of noise, source")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength: {strength} is not in [0, 1]")
    if isinstance(sde, VPSDE):
        inference_timesteps(sde.schedule.timesteps - 1, steps)
    elif steps < 1:
        raise ValueError(f"num_inference_steps: {steps} is not at least 1")


def _check_source(image: Tensor, channels: int, levels: int) -> None:
    if image.ndim != 4 or image.shape[1] != channels:
        raise ValueError(
            f"the source has the shape {tuple(image.shape)}; expected (B, {channels}, H, W)"
        )
    height, width = image.shape[-2:]
    multiple = 2 ** (levels - 1)
    if height % multiple or width % multiple:
        raise ValueError(
            f"the source has {height} x {width} pixels; the network takes sides that are "
            f"multiples of {multiple}: resize it, or give data.init_args.image_size"
        )
    # Maps of NaN are finite: what comes out would look like a translation.
    if not image.isfinite().all():
        raise ValueError("the source holds NaN or infinite pixels; set them to the background")
