"""Reverse-time samplers: Eq. 3's Euler-Maruyama, and others that need fewer steps."""

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from meddiff.core.protocols import Generators
from meddiff.diffusion.sde import SDE, VESDE, VPSDE, Predictor
from meddiff.diffusion.solvers import dpm_solver
from meddiff.diffusion.timesteps import inference_timesteps

SamplerName: TypeAlias = Literal["euler_maruyama", "predictor_corrector", "ode", "ancestral"]


def euler_maruyama(
    epsilon: Predictor,
    x: Tensor,
    sde: VESDE,
    *,
    start: float,
    steps: int,
    generator: Generators = None,
) -> Tensor:
    """Eq. 3: `x_mean = x + g^2 s dt`, `x = x_mean + g sqrt(dt) z`, with dt = 1 / steps.

    Args:
        epsilon: Predicts the noise; the score is `s = -epsilon / sigma`.
        x: Where it starts, at time `start`, shape (B, C, H, W).
        sde: The noise.
        start: In (0, 1]; the share of the steps that is made.
        steps: Steps from 1 to 0; below 18 a step overshoots its own noise.
        generator: One generator, or one an item.

    Returns:
        The last x_mean, not clamped.
    """
    x_mean = x
    for t in _times(start, sde.epsilon, steps, x):
        sigma, g = sde.sigma(t), sde.g(t)
        x_mean = x - g**2 / sigma / steps * epsilon(x, t.expand(len(x)))
        x = x_mean + g * (1 / steps) ** 0.5 * unit_noise(x, generator)
    return x_mean


def predictor_corrector(
    epsilon: Predictor,
    x: Tensor,
    sde: VESDE,
    *,
    start: float,
    steps: int,
    generator: Generators = None,
    snr: float = 0.16,
) -> Tensor:
    """Langevin correction at each noise level, then a reverse diffusion step to the next one.

    Song et al., *Score-based generative modeling through SDEs*, algorithm 2; the step size follows
    the norms of each image alone and not of the batch, so that no image depends on its neighbours.
    Two predictions a step.

    Args:
        epsilon: Predicts the noise.
        x: As in `euler_maruyama`.
        sde: The noise.
        start: Likewise.
        steps: Likewise.
        generator: Likewise.
        snr: Signal to noise ratio r of the correction: step size `2 (r |z| / |s|)^2`.

    Returns:
        The last mean, not clamped.
    """
    times = _times(start, sde.epsilon, steps, x)
    sigmas = [*(sde.sigma(t) for t in times), torch.zeros_like(times[0])]
    x_mean = x
    for t, sigma, lower in zip(times, sigmas, sigmas[1:], strict=False):
        t = t.expand(len(x))
        score, noise = -epsilon(x, t) / sigma, unit_noise(x, generator)
        size = 2 * (snr * _norms(noise) / _norms(score).clamp_min(1e-12)) ** 2
        x = x + size * score + (2 * size).sqrt() * noise
        variance = sigma**2 - lower**2
        x_mean = x - variance / sigma * epsilon(x, t)
        x = x_mean + variance.sqrt() * unit_noise(x, generator)
    return x_mean


def ancestral(
    epsilon: Predictor,
    x: Tensor,
    sde: VPSDE,
    *,
    start: float,
    steps: int,
    generator: Generators = None,
) -> Tensor:
    """DDPM's ancestral sampling with variance beta (`fixed_large`), the authors' code.

    Args:
        epsilon: Predicts the noise.
        x: Where it starts, at index `start`, shape (B, C, H, W).
        sde: The noise. With its `final_noise` noise is added at t = 0 too, as the authors' code
            does (5c-10): that of the posterior one step before, which its `fixed_large` has there.
        start: Time index.
        steps: Steps from the last index to 0; from `start` a share of them.
        generator: One generator, or one an item.

    Returns:
        The sample, not clamped.
    """
    from diffusers import DDPMScheduler

    schedule = sde.schedule
    scheduler = DDPMScheduler(
        num_train_timesteps=schedule.timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule="linear",
        variance_type="fixed_large",
        clip_sample=False,
    )
    indices = _indices(start, steps, schedule.timesteps)
    scheduler.set_timesteps(timesteps=indices, device=x.device)
    for t in scheduler.timesteps:
        predicted = epsilon(x, t.expand(len(x)))
        x = scheduler.step(predicted, t, x, generator=generator).prev_sample
    if not sde.final_noise:
        return x
    first, before = scheduler.alphas_cumprod[[0, indices[-2] if len(indices) > 1 else 1]].tolist()
    posterior_variance = (1 - before / first) * (1 - first) / (1 - before)
    return x + math.sqrt(posterior_variance) * unit_noise(x, generator)


def ode(
    epsilon: Predictor,
    x: Tensor,
    sde: SDE,
    *,
    start: float,
    steps: int,
    generator: Generators = None,
) -> Tensor:
    """The probability-flow ODE by DPM-Solver++ of second order, multistep, data prediction.

    It runs where the noisy image has unit scale, `x / sqrt(1 + sigma^2)` under VE: there both
    SDEs are of the kind that diffusers' solver takes. The last step ends at sigma = 0.

    Args:
        epsilon: Predicts the noise.
        x: Where it starts, shape (B, C, H, W).
        sde: The noise.
        start: t, or the time index under VP.
        steps: Steps over all noise levels, equally spaced in t; from `start` a share of them.
        generator: Not used, there is no noise to draw; every sampler is called alike.

    Returns:
        The sample, not clamped.
    """
    if isinstance(sde, VPSDE):
        timesteps = sde.schedule.timesteps
        number = max(round(steps * (int(start) + 1) / timesteps), 1)
        indices = inference_timesteps(int(start), number)
        noise_to_signal = 1 / np.cumprod(1 - sde.schedule.betas())[indices] - 1
        return _solve(epsilon, x, np.sqrt(noise_to_signal), indices, timesteps)
    number = max(round(steps * start), 1)
    times = torch.linspace(start, 0, number + 1, device=x.device, dtype=torch.float32)[:-1]
    sigmas = sde.sigma(times)
    scales = (1 + sigmas**2).sqrt()

    def at_unit_scale(scaled: Tensor, level: Tensor) -> Tensor:
        place = number - 1 - level
        return epsilon(scaled * scales[place].view(-1, 1, 1, 1), times[place])

    levels = list(reversed(range(number)))
    return _solve(at_unit_scale, x / scales[0], sigmas.double().cpu().numpy(), levels, number)


def _solve(
    epsilon: Predictor,
    x: Tensor,
    sigmas: npt.NDArray[np.float64],
    indices: list[int],
    timesteps: int,
) -> Tensor:
    """Solves along the noise levels sigma / alpha of some indices out of `timesteps`."""
    solver = dpm_solver(np.full(timesteps, 1e-3), "epsilon")
    solver.set_timesteps(timesteps=indices, device=x.device)
    # Its own noise levels come from a cumulative product in float32, where those below 2e-4 are 0.
    solver.sigmas = torch.tensor([*sigmas, 0.0], dtype=torch.float32)
    for t in solver.timesteps:
        x = solver.step(epsilon(x, t.expand(len(x))), t, x, return_dict=False)[0]
    return x


SAMPLERS: dict[str, dict[str, Callable[..., Tensor]]] = {
    "ve": {
        "euler_maruyama": euler_maruyama,
        "predictor_corrector": predictor_corrector,
        "ode": ode,
    },
    "vp": {"ancestral": ancestral, "ode": ode},
}
"""The samplers of each SDE, called alike; the first is the paper's or its code's."""


def sampler_of(sde: str, name: str | None) -> Callable[..., Tensor]:
    """The sampler of a name; None: the first of the SDE.

    Raises:
        ValueError: If the SDE has none of this name.
    """
    known = SAMPLERS[sde]
    name = next(iter(known)) if name is None else name
    if name not in known:
        raise ValueError(f"sampler: {name!r} is not one of {', '.join(known)}, those of sde {sde}")
    return known[name]


def _times(start: float, end: float, steps: int, like: Tensor) -> list[Tensor]:
    """Times from start to end, both included: the share of all steps that is left."""
    number = max(round(steps * start), 1)
    return list(
        torch.linspace(start, end, number, device=like.device, dtype=torch.float32).unbind()
    )


def _indices(start: float, steps: int, timesteps: int) -> list[int]:
    """Time indices from start down to 0, each once: the share of all steps, two at least."""
    first = int(start)
    number = max(round(steps * (first + 1) / timesteps), 2)
    indices: list[int] = np.linspace(first, 0, min(number, first + 1)).round().astype(int).tolist()
    return indices


def unit_noise(like: Tensor, generator: Generators) -> Tensor:
    """Unit Gaussian noise in float32, of the shape and on the device of a tensor."""
    from diffusers.utils.torch_utils import randn_tensor

    noise: Tensor = randn_tensor(like.shape, generator, like.device, torch.float32)
    return noise


def _norms(x: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True)
    return norms
