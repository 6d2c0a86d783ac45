"""Hybrid diffusion pretraining (Sauvalle & Salzmann; equations in papers/hybrid.md)."""

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from meddiff.diffusion import NoiseSchedule, TimestepSampler
from meddiff.diffusion.timesteps import TSampling
from meddiff.hybrid.gradients import term_gradient_norms
from meddiff.hybrid.loss import HybridLoss, hybrid_loss
from meddiff.hybrid.presets import PRESETS
from meddiff.hybrid.sampling import FinalSigma, Solver, solve
from meddiff.losses import cross_entropy
from meddiff.networks import NETWORK_KEYS, adm_unet
from meddiff.optimization import AdamWModule
from meddiff.presets import Preset, resolve_preset
from meddiff.protocols import Generators
from meddiff.randomness import item_generators, item_noise, step_generator

Objective: TypeAlias = Literal["hybrid", "diffusion", "supervised"]


class HybridDiffusionModule(AdamWModule):
    """One UNet sees a noisy image and predicts the clean image and its one-hot mask.

    ``L = E_{x,y,t,eps} SNR_t (mean (x - x_hat)^2 + lambda mean (y - y_hat)^2)``: it learns
    E[(x, y) | x_t], from which images with masks are sampled (Propositions 1 and 2) and, at t = 0,
    images are segmented.

    Args:
        preset: ``paper``, ``small`` (an hour on two cores) or ``tiny`` (tests and demos): what the
            arguments that are None stand for, see ``meddiff/hybrid/presets.py``.
        objective: ``hybrid``, or one of the paper's baselines on the same network: ``diffusion``
            (the image term alone) and ``supervised`` (cross-entropy at t = 0).
        image_size: Height and width in pixels.
        in_channels: Channels of the images.
        num_classes: K, background included.
        seed: Seed of noise, time indices and dropout.
        model_channels: C, the width of the first level.
        channel_mult: Width of each level as a multiple of C.
        num_res_blocks: Residual blocks a level.
        attention_resolutions: Feature map sizes, in pixels, that have attention.
        num_head_channels: Channels of an attention head.
        dropout: Dropout of the residual blocks.
        t_sampling: ``uniform`` (the paper) or ``importance`` (short runs).
        mask_weight: lambda, the weight of the mask term.
        learning_rate: Rate of AdamW after warm-up.
        adam_betas: Betas of AdamW.
        adam_eps: Epsilon of AdamW.
        weight_decay: Weight decay of AdamW.
        warmup_steps: Steps of linear warm-up; the rate is constant after.
        solver: ``ode`` (Proposition 2) or ``sde`` (Proposition 1) of ``sample``.
        num_inference_steps: Its steps.
        log_gradient_norms: Whether the gradient norms of the image and the mask term are logged
            apart wherever the Trainer logs; each time costs two extra passes.
    """

    def __init__(
        self,
        preset: Preset = "paper",
        objective: Objective = "hybrid",
        image_size: int = 256,
        in_channels: int = 3,
        num_classes: int = 2,
        seed: int = 0,
        model_channels: int | None = None,
        channel_mult: list[int] | None = None,
        num_res_blocks: int | None = None,
        attention_resolutions: list[int] | None = None,
        num_head_channels: int | None = None,
        dropout: float | None = None,
        t_sampling: TSampling | None = None,
        mask_weight: float | None = None,
        learning_rate: float | None = None,
        adam_betas: tuple[float, float] = (0.95, 0.99),
        adam_eps: float = 1e-8,
        weight_decay: float = 1e-6,
        warmup_steps: int | None = None,
        solver: Solver | None = None,
        num_inference_steps: int | None = None,
        log_gradient_norms: bool | None = None,
    ) -> None:
        super().__init__()
        if objective not in get_args(Objective):
            raise ValueError(f"objective: {objective!r} is not one of {get_args(Objective)}")
        if num_classes < 2:
            raise ValueError(f"num_classes: {num_classes}, but background and one more are needed")
        self.save_hyperparameters()
        # Resolved values are saved, so that a checkpoint outlives a change of the presets.
        self.hparams.update(resolve_preset(PRESETS, preset, dict(self.hparams)))
        self.objective = objective
        self.num_classes = num_classes
        self.schedule = NoiseSchedule()
        self.timesteps = TimestepSampler(self.schedule, self.hparams["t_sampling"])
        image_channels = 0 if objective == "supervised" else in_channels
        mask_channels = 0 if objective == "diffusion" else num_classes
        self.unet = adm_unet(
            in_channels=in_channels,
            out_channels=image_channels + mask_channels,
            **{key: self.hparams[key] for key in NETWORK_KEYS},
        )

    @property
    def samples(self) -> bool:
        """Whether the objective learns to generate."""
        return self.objective != "supervised"

    @property
    def segments(self) -> bool:
        """Whether the objective learns masks."""
        return self.objective != "diffusion"

    @property
    def supports_fp16(self) -> bool:
        """SNR weights span 4e-5 to 9999, more than fp16 gradients hold under one loss scale."""
        return self.objective == "supervised"

    def networks(self) -> list[nn.Module]:
        """The UNet."""
        return [self.unet]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """E[z | x_t] in float32, image then mask channels, of x_t (B, C, H, W) and t (B,)."""
        prediction: Tensor = self.unet(x.to(self.unet.dtype), t).sample
        return prediction.float()

    def loss(self, batch: dict[str, Tensor], t: Tensor, noise: Tensor) -> HybridLoss:
        """The loss of section 2a at given time indices and noise.

        Args:
            batch: ``image`` (B, C, H, W) in [-1, 1] and, but for ``diffusion``, ``mask`` (B, H, W).
            t: Time indices, shape (B,).
            noise: Unit Gaussian, as ``image``. ``supervised`` uses neither: it trains at t = 0.
        """
        image, mask = batch["image"], batch.get("mask") if self.segments else None
        if self.segments and mask is None:
            raise ValueError(f"objective {self.objective}: the batch has no `mask`; give labels")
        # Noise, targets and losses are float32 whatever the run's precision.
        if self.objective == "supervised":
            logits = self.segment(image)
            with torch.autocast(image.device.type, enabled=False):
                total = cross_entropy(logits, batch["mask"])
            return HybridLoss(total, torch.zeros_like(total), total)
        with torch.autocast(image.device.type, enabled=False):
            noisy = self.schedule.add_noise(image, noise, t)
        prediction = self(noisy, t)
        with torch.autocast(image.device.type, enabled=False):
            weight = self.timesteps.weights[t]
            return hybrid_loss(prediction, image, mask, weight, self.hparams["mask_weight"])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch; every draw is keyed by (seed, batches seen, rank)."""
        generator = step_generator(self, self.hparams["seed"])
        image = batch["image"]
        t = self.timesteps.sample(len(image), generator)
        noise = torch.empty_like(image, dtype=torch.float32).normal_(generator=generator)

        def loss() -> HybridLoss:
            # Seeded anew, so that dropout is the same whether the terms are measured or not.
            step_generator(self, self.hparams["seed"])
            return self.loss(batch, t, noise)

        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        logs = (self.global_step + 1) % every == 0
        if logs and self.hparams["log_gradient_norms"] and self.objective == "hybrid":
            norms = term_gradient_norms(loss, list(self.unet.parameters()))
            self.log("train/grad_norm_image", norms.image)
            self.log("train/grad_norm_mask", self.hparams["mask_weight"] * norms.mask)
        terms = loss()
        self._log_loss("train", terms, len(image))
        return terms.total

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The loss with t and noise fixed by ``index``, so that runs and steps compare."""
        image, index = batch["image"], batch["index"]
        noise = item_noise(self.hparams["seed"], index, image.shape[1:]).to(image.device)
        self._log_loss("val", self.loss(batch, self.timesteps.fixed(index), noise), len(image))

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Nothing of its own: the metrics callback calls ``segment``."""

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Masks for a batch of images; images (and masks) for a batch of bare indices."""
        index = batch["index"]
        if "image" in batch:
            return {"mask": self.segment(batch["image"]).argmax(1), "index": index}
        generators = item_generators(self.hparams["seed"], index)
        return {**self.sample(len(index), generators), "index": index}

    def segment(self, image: Tensor) -> Tensor:
        """Direct segmentation: the clean image at t = 0 (section 2a).

        Args:
            image: Clean images in [-1, 1], shape (B, C, H, W).

        Returns:
            Shape (B, K, H, W): expected one-hot values, or logits for ``supervised``.

        Raises:
            ValueError: For ``objective: diffusion``.
        """
        if not self.segments:
            raise ValueError("objective diffusion predicts no masks; use hybrid or supervised")
        t = torch.zeros(len(image), dtype=torch.long, device=image.device)
        return self.forward(image, t)[:, -self.num_classes :]

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
            solver: ``ode`` or ``sde``; likewise.
            mask_from: ``joint`` solves for it; ``direct`` segments the result at t = 0 (3.1).
            y_T: Where the mask part starts; only with ``sigma_min`` does it change the result.
            final_sigmas_type: See ``meddiff.hybrid.sampling.solve``.

        Returns:
            ``image`` (num, C, H, W) in [-1, 1]; but for ``diffusion`` also ``mask`` (num, H, W),
            int64 class ids.

        Raises:
            ValueError: For ``objective: supervised``.
        """
        from diffusers.utils.torch_utils import randn_tensor

        if not self.samples:
            raise ValueError("objective supervised generates no images; use hybrid or diffusion")
        if mask_from not in ("joint", "direct"):
            raise ValueError(f"mask_from: {mask_from!r} is not one of joint, direct")
        channels, size = self.hparams["in_channels"], self.hparams["image_size"]
        shape = (num, channels, size, size)
        x_T = randn_tensor(shape, generator, self.device, torch.float32)
        mask_channels = self.num_classes if self.segments else 0
        z = solve(
            self,
            x_T,
            torch.full((num, mask_channels, size, size), y_T, device=self.device),
            self.schedule,
            num_inference_steps=num_inference_steps or self.hparams["num_inference_steps"],
            solver=solver or self.hparams["solver"],
            final_sigmas_type=final_sigmas_type,
            generator=generator,
        )
        image = z[:, :channels].clamp(-1.0, 1.0)
        if not self.segments:
            return {"image": image}
        y = self.segment(image) if mask_from == "direct" else z[:, channels:]
        return {"image": image, "mask": y.argmax(1)}

    def _log_loss(self, stage: str, loss: HybridLoss, batch_size: int) -> None:
        terms = {f"{stage}/loss": loss.total}
        if self.objective == "hybrid":
            terms |= {f"{stage}/loss_image": loss.image, f"{stage}/loss_mask": loss.mask}
        self.log_dict(terms, batch_size=batch_size, sync_dist=stage != "train")
