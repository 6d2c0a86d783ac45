"""`x_t = alpha_t x_0 + sigma_t epsilon` in two ways: VE and VP (docs/papers/lmi.md 5a, 5b)."""

import math
from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from meddiff.core.precision import float32
from meddiff.diffusion import NoiseSchedule
from meddiff.diffusion.timesteps import spread

SDEName: TypeAlias = Literal["ve", "vp"]


class VESDE:
    """Variance exploding (Eq. 2): `sigma(t) = sigma_min (sigma_max / sigma_min)^t`, alpha = 1.

    Args:
        sigma_min: sigma(0), on images in [0, 1].
        sigma_max: sigma(1); more than the largest distance of two images.
        epsilon: The smallest t.

    Raises:
        ValueError: If the range is empty.
    """

    def __init__(
        self, sigma_min: float = 0.01, sigma_max: float = 50.0, epsilon: float = 1e-5
    ) -> None:
        if not 0 < sigma_min < sigma_max:
            raise ValueError(
                f"sigma_min: {sigma_min} is not above 0 and below sigma_max {sigma_max}"
            )
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.epsilon = epsilon

    def sigma(self, t: Tensor) -> Tensor:
        """The standard deviation of the noise at t in [0, 1]."""
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def g(self, t: Tensor) -> Tensor:
        """The diffusion coefficient: `g^2 = d sigma^2 / dt = 2 sigma^2 ln(smax / smin)`."""
        return self.sigma(t) * math.sqrt(2 * math.log(self.sigma_max / self.sigma_min))

    def sample_t(self, num: int, generator: torch.Generator) -> Tensor:
        """Antithetic times in [epsilon, 1] (docs/papers/lmi.md 5b), shape (num,)."""
        draws = torch.rand(
            num // 2 + 1, generator=generator, device=generator.device, dtype=torch.float32
        )
        t = self.epsilon + (1 - self.epsilon) * draws
        return torch.cat([t, 1 + self.epsilon - t])[:num]

    def fixed_t(self, index: Tensor) -> Tensor:
        """The times that validation gives to items, shape (B,): evenly over [epsilon, 1]."""
        return self.epsilon + (1 - self.epsilon) * spread(index).float()

    def start_t(self, strength: float) -> float:
        """The share itself, as T = 1."""
        return strength

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """1 and sigma(t)."""
        return torch.ones_like(t), self.sigma(t)

    def time_feature(self, t: Tensor) -> Tensor:
        """`250 ln sigma` (docs/papers/lmi.md 5b, input scaling)."""
        return 250 * self.sigma(t).log()

    def loss(self, prediction: Tensor, noise: Tensor) -> Tensor:
        """Eq. 2 weighted by sigma^2 (5c-2), with `s = -prediction / sigma`.

        `0.5 sigma^2 ||s + epsilon / sigma||^2`, the mean over pixels.
        """
        return 0.5 * (prediction - noise).square().flatten(1).mean(1)


class VPSDE(nn.Module):
    """Variance preserving, as LMIDiffusion's code has it: a linear DDPM of 1000 steps.

    Time is an index 0..timesteps - 1.

    Args:
        final_noise: Whether the ancestral sampler adds noise at t = 0 too (docs/papers/lmi.md
            5c-10).
    """

    def __init__(self, final_noise: bool = False) -> None:
        super().__init__()
        self.schedule = NoiseSchedule()
        self.final_noise = final_noise

    def sample_t(self, num: int, generator: torch.Generator) -> Tensor:
        """Antithetic indices: draws and their mirrors T - 1 - t (docs/papers/lmi.md 5b)."""
        last = self.schedule.timesteps - 1
        t = torch.randint(last + 1, (num // 2 + 1,), generator=generator, device=generator.device)
        return torch.cat([t, last - t])[:num]

    def fixed_t(self, index: Tensor) -> Tensor:
        """The time indices that validation gives to items, shape (B,): evenly over all."""
        return (spread(index) * self.schedule.timesteps).long()

    def start_t(self, strength: float) -> float:
        """The index after this share of all steps: 499 for a half."""
        return max(round(strength * self.schedule.timesteps) - 1, 0)

    def marginal(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t and sigma_t of the schedule."""
        return self.schedule.alpha[t], self.schedule.sigma[t]

    def time_feature(self, t: Tensor) -> Tensor:
        """The index."""
        return t

    def loss(self, prediction: Tensor, noise: Tensor) -> Tensor:
        """The squared error of epsilon, summed over pixels (5b)."""
        return (prediction - noise).square().flatten(1).sum(1)


SDE: TypeAlias = VESDE | VPSDE

Predictor: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""epsilon (B, C, H, W), predicted from x_t (B, C, H, W) and t (B,)."""


def make_sde(name: str, sigma_min: float, sigma_max: float, vp_final_noise: bool) -> SDE:
    """The SDE of a name.

    Raises:
        ValueError: If there is none, or the range of sigma is empty.
    """
    if name not in get_args(SDEName):
        raise ValueError(f"sde: {name!r} is not one of {', '.join(get_args(SDEName))}")
    return VESDE(sigma_min, sigma_max) if name == "ve" else VPSDE(vp_final_noise)


@float32
def perturbed(x_0: Tensor, noise: Tensor, t: Tensor, sde: SDE) -> Tensor:
    """`x_t = alpha_t x_0 + sigma_t epsilon` of x_0 and noise (B, C, H, W) and t (B,)."""
    alpha, sigma = (figure.view(-1, 1, 1, 1) for figure in sde.marginal(t))
    return alpha * x_0 + sigma * noise


@float32
def exploded(x: Tensor, t: Tensor, sde: SDE) -> tuple[Tensor, Tensor]:
    """`x_t / alpha_t`, which is x_0 with noise, and that noise's sigma (B, 1, 1, 1)."""
    alpha, sigma = (figure.view(-1, 1, 1, 1) for figure in sde.marginal(t))
    return x / alpha, sigma / alpha
