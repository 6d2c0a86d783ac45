"""The discrete variance-preserving noise schedule (docs/papers/shared.md 0.2 and 0.3.1)."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from meddiff.core.precision import Float32Buffers, float32


class NoiseSchedule(Float32Buffers):
    """Linear DDPM schedule: `x_t = alpha_t x_0 + sigma_t epsilon`, t = 0 .. timesteps - 1.

    Coefficients are made in float64 and held in float32, also in a module that was cast.

    Attributes:
        alphas_cumprod: Cumulative product of 1 - beta, shape (timesteps,).
        alpha: sqrt(alphas_cumprod), shape (timesteps,).
        sigma: sqrt(1 - alphas_cumprod), shape (timesteps,).
        snr: alpha^2 / sigma^2, shape (timesteps,).
    """

    alphas_cumprod: Tensor
    alpha: Tensor
    sigma: Tensor
    snr: Tensor

    def __init__(
        self, timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
    ) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.beta_start = beta_start
        self.beta_end = beta_end
        abar = np.cumprod(1.0 - self.betas())
        values = {
            "alphas_cumprod": abar,
            "alpha": np.sqrt(abar),
            "sigma": np.sqrt(1.0 - abar),
            "snr": abar / (1.0 - abar),
        }
        for name, value in values.items():
            self.register_buffer(name, torch.from_numpy(value).to(torch.float32), persistent=False)

    def betas(self) -> npt.NDArray[np.float64]:
        """beta_t, shape (timesteps,)."""
        return np.linspace(self.beta_start, self.beta_end, self.timesteps, dtype=np.float64)

    @float32
    def add_noise(self, image: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Draws from q(x_t | x_0).

        Args:
            image: Clean images x_0, shape (B, C, H, W).
            noise: Unit Gaussian epsilon of the same shape.
            t: Time indices, shape (B,).

        Returns:
            x_t, float32, shape (B, C, H, W).
        """
        alpha = self.alpha[t].view(-1, 1, 1, 1)
        sigma = self.sigma[t].view(-1, 1, 1, 1)
        return alpha * image + sigma * noise
