"""Which noise levels a training step sees, and how its losses are weighted."""

from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from meddiff.core.precision import Float32Buffers
from meddiff.diffusion.schedule import NoiseSchedule

TSampling: TypeAlias = Literal["uniform", "importance"]


def inference_timesteps(start: int, steps: int) -> list[int]:
    """Time indices at which a solver that ends at sigma = 0 looks, falling from `start`.

    `linspace(start, 0, steps + 1)` without its end: between index 0 and sigma = 0 lies infinitely
    much of lambda, and a step that begins at 0 leaves too little of them for the others. Only all
    `start + 1` indices include it.

    Args:
        start: The first index.
        steps: How many, each once.

    Raises:
        ValueError: If there are not so many, or none is asked for.
    """
    if not 1 <= steps <= start + 1:
        raise ValueError(
            f"num_inference_steps: {steps} given, expected 1 to {start + 1}: a step is made at a "
            "time index, each once"
        )
    if steps == start + 1:
        return list(range(start, -1, -1))
    indices: list[int] = np.linspace(start, 0, steps + 1)[:-1].round().astype(int).tolist()
    return indices


def spread(index: Tensor) -> Tensor:
    """Multiples of the golden ratio modulo 1, float64: any run of indices is spread evenly."""
    return (index.double() * 0.6180339887498949) % 1.0


class TimestepSampler(Float32Buffers):
    """Draws t and weighs the loss so that its expectation is that of uniform t with SNR weights.

    `uniform`: p(t) = 1/T and weight SNR_t (the papers' way). `importance`:
    p(t) = 0.5/T + 0.5 SNR_t / sum(SNR) and weight SNR_t / (T p(t)), at most twice the mean SNR
    (docs/papers/hybrid.md 2c-10); it is for short runs, since SNR weights leave less than one draw
    in a hundred effective under uniform t.

    Attributes:
        probabilities: p(t), shape (T,).
        weights: The weight of the loss at t, shape (T,).
    """

    probabilities: Tensor
    weights: Tensor
    cdf: Tensor

    def __init__(self, schedule: NoiseSchedule, t_sampling: TSampling = "uniform") -> None:
        super().__init__()
        if t_sampling not in ("uniform", "importance"):
            raise ValueError(f"t_sampling: {t_sampling!r} is not one of uniform, importance")
        snr = schedule.snr.double()
        uniform = torch.full_like(snr, 1.0 / schedule.timesteps)
        p = uniform if t_sampling == "uniform" else 0.5 * uniform + 0.5 * snr / snr.sum()
        values = {
            "probabilities": p,
            "weights": snr / (schedule.timesteps * p),
            "cdf": p.cumsum(0),
        }
        for name, value in values.items():
            self.register_buffer(name, value.float(), persistent=False)

    def sample(self, num: int, generator: torch.Generator) -> Tensor:
        """Draws time indices, shape (num,), on the generator's device."""
        # The default type is bfloat16 in the steps of some precisions.
        quantile = torch.rand(
            num, generator=generator, device=generator.device, dtype=torch.float32
        )
        return self.at(quantile)

    def at(self, quantile: Tensor) -> Tensor:
        """The time indices at quantiles of p(t) in [0, 1), shape (num,)."""
        # Inverse transform: torch.multinomial would make the host wait for the device.
        t = torch.searchsorted(self.cdf, quantile, right=True)
        return t.clamp(max=len(self.cdf) - 1)

    def fixed(self, index: Tensor) -> Tensor:
        """The time indices that validation gives to items, shape (B,) as `index`.

        Multiples of the golden ratio spread any run of indices evenly over the quantiles of p(t),
        which weights of 4e-5 to 9999 need more than independent draws.
        """
        return self.at(spread(index).float())
