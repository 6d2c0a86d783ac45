"""What LMIDiffusion and SDEdit share: a score network, its loss and its samplers."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from meddiff.lmi.preconditioning import PRECONDITIONINGS, EDMOutput, EpsilonOutput
from meddiff.lmi.presets import PRESETS
from meddiff.lmi.samplers import (
    SAMPLERS,
    Sampler,
    ancestral,
    euler_maruyama,
    ode,
    predictor_corrector,
    unit_noise,
)
from meddiff.lmi.sde import VESDE, VPSDE, SDEName
from meddiff.networks import NETWORK_KEYS, adm_unet
from meddiff.optimization import AdamWModule
from meddiff.presets import resolve_preset
from meddiff.protocols import Generators
from meddiff.randomness import item_generators, item_noise, step_generator

Start: TypeAlias = Literal["noise", "source"]
Condition: TypeAlias = Callable[[Tensor], Tensor | None]
"""Maps a noisy image x_t (B, C, H, W) to what the network sees beside it (B, M, H, W), if any."""


class ScoreModule(AdamWModule, ABC):
    """A score network of one modality, which translates images of another one.

    A subclass saves its hyper-parameters, calls :meth:`build` and gives ``condition``. Public
    methods take and give [-1, 1]; inside images are in [0, 1], as in the paper.
    """

    def build(self, maps: int) -> None:
        """Resolves the preset and makes the network.

        Args:
            maps: Channels that the condition adds to the input.

        Raises:
            ValueError: Where an argument is none that there is.
        """
        # Resolved values are saved, so that a checkpoint outlives a change of the presets.
        self.hparams.update(resolve_preset(PRESETS, self.hparams["preset"], dict(self.hparams)))
        name, strength = self.hparams["sde"], self.hparams["strength"]
        if name not in get_args(SDEName):
            raise ValueError(f"sde: {name!r} is not one of {', '.join(get_args(SDEName))}")
        if not 0 <= strength <= 1:
            raise ValueError(f"strength: {strength} is not in [0, 1]")
        if self.hparams["start"] not in get_args(Start):
            raise ValueError(f"start: {self.hparams['start']!r} is not one of noise, source")
        self.sde: VESDE | VPSDE = (
            VESDE(self.hparams["sigma_min"], self.hparams["sigma_max"]) if name == "ve" else VPSDE()
        )
        if self.hparams["preconditioning"] not in PRECONDITIONINGS:
            names = ", ".join(PRECONDITIONINGS)
            given = self.hparams["preconditioning"]
            raise ValueError(f"preconditioning: {given!r} is not one of {names}")
        self._output: EpsilonOutput | EDMOutput = PRECONDITIONINGS[self.hparams["preconditioning"]]
        self._sampler(self.hparams["sampler"])
        _check_steps(self.hparams["num_inference_steps"])
        channels = self.hparams["in_channels"]
        self.unet = adm_unet(
            in_channels=channels + maps,
            out_channels=channels,
            resblock_updown=False,
            use_scale_shift_norm=False,
            **{key: self.hparams[key] for key in NETWORK_KEYS},
        )

    @abstractmethod
    def condition(self, clean: Tensor) -> Condition:
        """What tells the network of a clean image.

        Args:
            clean: In [0, 1], shape (B, C, H, W): in training the image itself, in translation the
                source.
        """

    @property
    def supports_fp16(self) -> bool:
        """The output counts alike at all noise levels: fp16 with a gradient scaler bears it."""
        return True

    def networks(self) -> list[nn.Module]:
        """The score network."""
        return [self.unet]

    def epsilon(self, x: Tensor, t: Tensor, maps: Tensor | None) -> Tensor:
        """The noise in x_t, float32; the score is ``-epsilon / sigma_t``.

        Args:
            x: x_t, shape (B, C, H, W).
            t: Times (VE) or time indices (VP), shape (B,).
            maps: The condition, shape (B, M, H, W), if there is one.
        """
        # Noise levels are float32 whatever the run's precision.
        with torch.autocast(x.device.type, enabled=False):
            exploded, level = self._exploded(x.float(), t)
            given = self._output.network_input(exploded, level)
        given = given if maps is None else torch.cat([given, maps], dim=1)
        feature = self.sde.time_feature(t)
        output: Tensor = self.unet(given.to(self.unet.dtype), feature).sample
        with torch.autocast(x.device.type, enabled=False):
            return self._output.epsilon(output.float(), exploded, level)

    def _exploded(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """``x_t / alpha_t``, which is x_0 with noise, and that noise's sigma (B, 1, 1, 1)."""
        alpha, sigma = (figure.view(-1, 1, 1, 1) for figure in self.sde.marginal(t))
        return x / alpha, sigma / alpha

    def loss(self, clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Eq. 2 at given times and noise, the mean over the batch, a scalar.

        Args:
            clean: Images in [-1, 1], shape (B, C, H, W).
            t: Times, shape (B,).
            noise: Unit Gaussian, as ``clean``.
        """
        with torch.autocast(clean.device.type, enabled=False):
            x_0 = (clean.float() + 1) / 2
            alpha, sigma = (figure.view(-1, 1, 1, 1) for figure in self.sde.marginal(t))
            x_t = alpha * x_0 + sigma * noise
            maps = self.condition(x_0)(x_t)
        prediction = self.epsilon(x_t, t, maps)
        with torch.autocast(clean.device.type, enabled=False):
            weight = self._output.weight(sigma / alpha)
            return (weight * self.sde.loss(prediction, noise)).mean()

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
        """The loss with t and noise fixed by ``index``, so that runs and steps compare."""
        clean, index = _target(batch), batch["index"]
        noise = item_noise(self.hparams["seed"], index, clean.shape[1:]).to(clean.device)
        loss = self.loss(clean, self.sde.fixed_t(index), noise)
        self.log("val/loss", loss, batch_size=len(clean), sync_dist=True)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Nothing of its own: the metrics callback calls ``translate``."""

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Translations ``image`` (B, C, H, W) of a batch of sources.

        Raises:
            ValueError: Where the batch has no images.
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
        sampler: Sampler | None = None,
        num_inference_steps: int | None = None,
    ) -> Tensor:
        """Makes target images of source images (Eq. 3).

        Args:
            image: Sources in [-1, 1], shape (B, C, H, W).
            generator: One generator, or one an item.
            start: ``noise``: from pure noise. ``source``: from the source with the noise of time
                ``strength``. None takes the module's; so do the other arguments.
            strength: Share of the diffusion that a source is perturbed by, in [0, 1]; at 0 the
                source comes back as it is.
            sampler: One of ``meddiff.lmi.samplers.SAMPLERS`` for the SDE.
            num_inference_steps: Steps over all noise levels.

        Returns:
            In [-1, 1], float32, as ``image``.

        Raises:
            ValueError: Where an argument, or the size of the images, does not fit.
        """
        start = self.hparams["start"] if start is None else start
        strength = self.hparams["strength"] if strength is None else strength
        sampler = self._sampler(self.hparams["sampler"] if sampler is None else sampler)
        default = self.hparams["num_inference_steps"]
        steps = default if num_inference_steps is None else num_inference_steps
        _check_steps(steps)
        self._check(image)
        source = (image.float() + 1) / 2
        if start == "source" and strength == 0:
            return image.float()
        t = self.sde.start_t(strength if start == "source" else 1.0)
        clean = source if start == "source" else torch.zeros_like(source)
        x = self._perturbed(clean, t, generator)
        condition = self.condition(source)

        def epsilon(x: Tensor, t: Tensor) -> Tensor:
            return self.epsilon(x, t, condition(x))

        result = self._solve(sampler, epsilon, x, t, steps, generator)
        return result.clamp(0, 1).mul(2).sub(1)

    def _perturbed(self, clean: Tensor, t: float, generator: Generators) -> Tensor:
        """x_t of clean images in [0, 1]; of zeros, pure noise."""
        alpha, sigma = self.sde.marginal(torch.tensor(t, device=clean.device))
        return alpha * clean + sigma * unit_noise(clean, generator)

    def _solve(
        self,
        sampler: Sampler,
        epsilon: Callable[[Tensor, Tensor], Tensor],
        x: Tensor,
        start: float,
        steps: int,
        generator: Generators,
    ) -> Tensor:
        if sampler == "ode":
            return ode(epsilon, x, self.sde, start=start, steps=steps)
        if isinstance(self.sde, VPSDE):
            return ancestral(
                epsilon,
                x,
                self.sde,
                start=int(start),
                steps=steps,
                generator=generator,
                final_noise=self.hparams["vp_final_noise"],
            )
        solve = euler_maruyama if sampler == "euler_maruyama" else predictor_corrector
        return solve(epsilon, x, self.sde, start=start, steps=steps, generator=generator)

    def _sampler(self, given: str | None) -> Sampler:
        """The sampler of a name; None: the first of the SDE."""
        known = SAMPLERS[self.hparams["sde"]]
        for sampler in known:
            if given is None or sampler == given:
                return sampler
        raise ValueError(
            f"sampler: {given!r} is not one of {', '.join(known)}, those of "
            f"sde {self.hparams['sde']}"
        )

    def _check(self, image: Tensor) -> None:
        multiple = 2 ** (len(self.hparams["channel_mult"]) - 1)
        channels = self.hparams["in_channels"]
        if image.ndim != 4 or image.shape[1] != channels:
            raise ValueError(
                f"the source has the shape {tuple(image.shape)}; expected (B, {channels}, H, W)"
            )
        height, width = image.shape[-2:]
        if height % multiple or width % multiple:
            raise ValueError(
                f"the source has {height} x {width} pixels; the network takes sides that are "
                f"multiples of {multiple}: resize it, or give data.init_args.image_size"
            )
        # Maps of NaN are finite: what comes out would look like a translation.
        if not image.isfinite().all():
            raise ValueError("the source holds NaN or infinite pixels; set them to the background")


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"num_inference_steps: {steps} is not at least 1")


def _target(batch: dict[str, Tensor]) -> Tensor:
    return batch["target"] if "target" in batch else batch["image"]
