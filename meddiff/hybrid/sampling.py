"""Joint generation of an image and its mask (docs/papers/hybrid.md, Propositions 1 and 2)."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from meddiff.core.protocols import Generators
from meddiff.diffusion import NoiseSchedule
from meddiff.diffusion.solvers import Algorithm, FinalSigma, dpm_solver
from meddiff.diffusion.timesteps import inference_timesteps

Solver: TypeAlias = Literal["ode", "sde"]

_ALGORITHMS: dict[Solver, Algorithm] = {"ode": "dpmsolver++", "sde": "sde-dpmsolver++"}


def solve(
    predict: Callable[[Tensor, Tensor], Tensor],
    image_noise: Tensor,
    mask_start: Tensor,
    schedule: NoiseSchedule,
    *,
    num_inference_steps: int,
    solver: Solver = "ode",
    final_sigmas_type: FinalSigma = "zero",
    generator: Generators = None,
) -> Tensor:
    """Integrates z = (x, y) from pure noise with DPM-Solver++.

    Both parts follow the same linear equation, and the prediction E[z | x_t] depends on the image
    part alone, so one solver moves both and y_T may be anything.

    Args:
        predict: Maps x_t (B, C, H, W) and t (B,) to E[z | x_t], shape (B, C + K, H, W).
        image_noise: x_T, shape (B, C, H, W).
        mask_start: y_T, shape (B, K, H, W); K may be 0.
        schedule: The schedule of training.
        num_inference_steps: Calls of `predict`, at most as many as the schedule has indices.
        solver: `ode` for Proposition 2, `sde` for Proposition 1.
        final_sigmas_type: As in `dpm_solver`.
        generator: The noise of Proposition 1.

    Returns:
        z at the end, float32, shape (B, C + K, H, W).

    Raises:
        ValueError: If the solver is unknown, or the schedule has not so many steps.
    """
    if solver not in _ALGORITHMS:
        raise ValueError(f"solver: {solver!r} is not one of {', '.join(_ALGORITHMS)}")
    scheduler = dpm_solver(
        schedule.betas(),
        "sample",
        algorithm_type=_ALGORITHMS[solver],
        final_sigmas_type=final_sigmas_type,
    )
    last = schedule.timesteps - 1
    if final_sigmas_type == "sigma_min" and num_inference_steps > last:
        raise ValueError(
            f"num_inference_steps: {num_inference_steps} given, expected at most {last} with "
            "final_sigmas_type: sigma_min, which is the noise of index 0 itself"
        )
    timesteps = inference_timesteps(last, num_inference_steps)
    scheduler.set_timesteps(timesteps=timesteps, device=image_noise.device)
    channels = image_noise.shape[1]
    z = torch.cat([image_noise, mask_start], dim=1).float()
    for t in scheduler.timesteps:
        z_hat = predict(z[:, :channels], t.expand(len(z))).float()
        z = scheduler.step(z_hat, t, z, generator=generator, return_dict=False)[0]
    return z
