"""Hybrid diffusion pretraining (Sauvalle & Salzmann; equations in docs/papers/hybrid.md 2a)."""

from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from meddiff.core.optimization import AdamWModule
from meddiff.core.precision import require_finite
from meddiff.core.protocols import Generators
from meddiff.core.randomness import item_generators, item_noise, step_generator
from meddiff.core.ranges import ClassCount, NonNegativeNumber, PositiveInt
from meddiff.diffusion import NoiseSchedule, TimestepSampler
from meddiff.diffusion.solvers import FinalSigma
from meddiff.diffusion.timesteps import TSampling, inference_timesteps
from meddiff.hybrid.gradients import term_gradient_norms
from meddiff.hybrid.loss import HybridLoss, hybrid_loss
from meddiff.hybrid.presets import PRESETS
from meddiff.hybrid.sampling import Solver, solve
from meddiff.networks import ADMModule, adm_unet

Objective: TypeAlias = Literal["hybrid", "diffusion"]


class HybridDiffusionModule(ADMModule, AdamWModule):
    """One UNet sees a noisy image and predicts the clean image and its one-hot mask.

    With z = (x, y) it learns E[z | x_t], from which images with masks are sampled (Propositions 1
    and 2) and, at t = 0, images are segmented.

    Args:
        objective: `hybrid`, or `diffusion`: the paper's baseline with the image term alone.
        num_classes: K, background included.
        t_sampling: `uniform` (the paper) or `importance` (short runs).
        mask_weight: lambda, the weight of the mask term.
        solver: `ode` (Proposition 2) or `sde` (Proposition 1) of `sample`.
        num_inference_steps: Its steps.
        log_gradient_norms: Whether the gradient norms of the image and the mask term are logged
            apart wherever the Trainer logs; each time costs two extra passes.
        **kwargs: As `ADMModule` and `AdamWModule`.
    """

    presets = PRESETS

    def __init__(
        self,
        objective: Objective = "hybrid",
        num_classes: ClassCount = 2,
        t_sampling: TSampling | None = None,
        mask_weight: NonNegativeNumber | None = None,
        solver: Solver | None = None,
        num_inference_steps: PositiveInt | None = None,
        log_gradient_norms: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if objective not in get_args(Objective):
            raise ValueError(f"objective: {objective!r} is not one of {get_args(Objective)}")
        self.objective = objective
        self.channels: int = self.hparams["in_channels"]
        self.mask_channels = num_classes if objective == "hybrid" else 0
        self.schedule = NoiseSchedule()
        inference_timesteps(self.schedule.timesteps - 1, self.hparams["num_inference_steps"])
        self.timesteps = TimestepSampler(self.schedule, self.hparams["t_sampling"])
        self.unet = adm_unet(
            in_channels=self.channels,
            out_channels=self.channels + self.mask_channels,
            **self.network,
        )

    def loss(self, batch: dict[str, Tensor], t: Tensor, noise: Tensor) -> HybridLoss:
        """`SNR_t (mean (x - x_hat)^2 + lambda mean (y - y_hat)^2)`, the mean over the batch (2a).

        Args:
            batch: x, `image` (B, C, H, W) in [-1, 1], and, but for `diffusion`, y, `mask`
                (B, H, W).
            t: Time indices, shape (B,).
            noise: Unit Gaussian, as `image`.
        """
        x, y = batch["image"], batch.get("mask") if self.segments else None
        if self.segments and y is None:
            raise ValueError(f"objective {self.objective}: the batch has no `mask`; give labels")
        x_t = self.schedule.add_noise(x, noise, t)
        z_hat = self(x_t, t)
        snr = self.timesteps.weights[t]
        return hybrid_loss(z_hat, x, y, snr, self.hparams["mask_weight"])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch, at random t and noise."""
        loss = self.loss(batch, *self._drawn(batch["image"]))
        self._log_loss("train", loss, len(batch["image"]))
        return loss.total

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The loss with t and noise fixed by `index`, so that runs and steps compare."""
        image, index = batch["image"], batch["index"]
        noise = item_noise(self.hparams["seed"], index, image.shape[1:]).to(image.device)
        self._log_loss("val", self.loss(batch, self.timesteps.fixed(index), noise), len(image))

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Masks for a batch of images; images (and masks) for a batch of bare indices.

        With masks of images come `logits`, here expected one-hot values, that they are the argmax
        of.
        """
        index = batch["index"]
        if "image" in batch:
            logits = self.segment(batch["image"])
            return {"mask": logits.argmax(1), "logits": logits, "index": index}
        generators = item_generators(self.hparams["seed"], index)
        return {**self.sample(len(index), generators), "index": index}

    def segment(self, image: Tensor) -> Tensor:
        """Direct segmentation: y_hat of the clean image at t = 0 (2a).

        Args:
            image: Clean images in [-1, 1], shape (B, C, H, W).

        Returns:
            Expected one-hot values, shape (B, K, H, W).

        Raises:
            ValueError: If the objective is `diffusion`.
        """
        if not self.segments:
            raise ValueError("objective diffusion predicts no masks; use hybrid")
        return self.at_index_zero(image)[:, self.channels :]

    @torch.no_grad()
    def sample(
        self,
        num: int,
        generator: Generators = None,
        *,
        num_inference_steps: int | None = None,
        solver: Solver | None = None,
        mask_from: Literal["joint", "direct"] = "joint",
        y_T: float = 0.0,
        final_sigmas_type: FinalSigma = "zero",
    ) -> dict[str, Tensor]:
        """Generates images and their masks together (A.2).

        Args:
            num: How many.
            generator: One generator, or one an item.
            num_inference_steps: Solver steps; None takes the module's.
            solver: `ode` or `sde`; likewise.
            mask_from: `joint` solves for it; `direct` segments the result at t = 0 (3.1).
            y_T: Where the mask part starts; only with `sigma_min` does it change the result.
            final_sigmas_type: See `meddiff.hybrid.sampling.solve`.

        Returns:
            `image` (num, C, H, W) in [-1, 1]; but for `diffusion` also `mask` (num, H, W), int64
            class ids.

        Raises:
            ValueError: If an argument is unknown or out of its range, or a sample is not finite.
        """
        if mask_from not in ("joint", "direct"):
            raise ValueError(f"mask_from: {mask_from!r} is not one of joint, direct")
        default = self.hparams["num_inference_steps"]
        steps = default if num_inference_steps is None else num_inference_steps
        z = solve(
            self,
            *self._pure_noise(num, y_T, generator),
            self.schedule,
            num_inference_steps=steps,
            solver=self.hparams["solver"] if solver is None else solver,
            final_sigmas_type=final_sigmas_type,
            generator=generator,
        )
        z = require_finite(z, f"sample with {steps} steps")
        image, y = z[:, : self.channels].clamp(-1.0, 1.0), z[:, self.channels :]
        if not self.segments:
            return {"image": image}
        y = self.segment(image) if mask_from == "direct" else y
        return {"image": image, "mask": y.argmax(1)}

    @property
    def segments(self) -> bool:
        """Whether the objective learns masks."""
        return self.objective == "hybrid"

    @property
    def supports_fp16(self) -> bool:
        """SNR weights span 4e-5 to 9999, more than fp16 gradients hold under one loss scale."""
        return False

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Logs how strongly each term pulls, wherever the Trainer logs (2c-10)."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        logs = self.hparams["log_gradient_norms"] and every and (self.global_step + 1) % every == 0
        if not (logs and self.segments):
            return
        with self.trainer.precision_plugin.train_step_context():
            norms = term_gradient_norms(
                # Drawn anew for each term, so that both see the dropout of the step.
                lambda: self.loss(batch, *self._drawn(batch["image"])),
                list(self.unet.parameters()),
            )
        self.log("train/grad_norm_image", norms.image)
        self.log("train/grad_norm_mask", self.hparams["mask_weight"] * norms.mask)

    def _drawn(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """T and noise of this step, keyed by (seed, batches seen, rank); dropout likewise."""
        generator = step_generator(self, self.hparams["seed"])
        t = self.timesteps.sample(len(image), generator)
        return t, torch.empty_like(image, dtype=torch.float32).normal_(generator=generator)

    def _pure_noise(self, num: int, y_T: float, generator: Generators) -> tuple[Tensor, Tensor]:
        """x_T ~ N(0, I), shape (num, C, H, W), and the constant y_T, shape (num, K, H, W)."""
        from diffusers.utils.torch_utils import randn_tensor

        size = self.hparams["image_size"]
        x_T = randn_tensor((num, self.channels, size, size), generator, self.device, torch.float32)
        return x_T, torch.full((num, self.mask_channels, size, size), y_T, device=self.device)

    def _log_loss(self, stage: str, loss: HybridLoss, batch_size: int) -> None:
        terms = {f"{stage}/loss": loss.total}
        if self.segments:
            terms |= {f"{stage}/loss_image": loss.image, f"{stage}/loss_mask": loss.mask}
        self.log_dict(terms, batch_size=batch_size, sync_dist=stage != "train")
