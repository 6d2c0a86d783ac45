"""Entropies of few samples, from kernels at fixed grey levels (papers/lmi.md, section 5a)."""

import torch
from torch import Tensor

ESTIMATORS = ("parzen", "hist")
LEAST_ENTROPY = 1e-6
"""Bits of both patches below which they tell nothing."""
TINY = 1e-10


class Estimator:
    """Mutual information of sample pairs whose densities are taken at ``bins`` grey levels.

    Args:
        bins: at least 2, evenly from 0 to 255.
        bandwidth: of the Gaussian kernel, in grey levels.
        normalized: divides by the mean of the two entropies.
        estimator: ``parzen`` or ``hist``.

    Raises:
        ValueError: an argument out of its range, by name.
    """

    def __init__(self, bins: int, bandwidth: float, normalized: bool, estimator: str) -> None:
        if bins < 2:
            raise ValueError(f"bins must be at least 2; got {bins}")
        if not bandwidth > 0:
            raise ValueError(f"bandwidth must be positive; got {bandwidth}")
        if estimator not in ESTIMATORS:
            raise ValueError(f"estimator must be one of {ESTIMATORS}; got {estimator!r}")
        self.bins, self.bandwidth = bins, bandwidth
        self.normalized, self.estimator = normalized, estimator

    def kernels(self, grey: Tensor) -> Tensor:
        """(..., n) grey levels to (..., n, bins) weights."""
        if self.estimator == "hist":
            nearest = (grey * ((self.bins - 1) / 255)).round().clamp(0, self.bins - 1)
            return (nearest[..., None] == torch.arange(self.bins, device=grey.device)).float()
        centres = torch.linspace(0, 255, self.bins, device=grey.device)
        return torch.exp(-0.5 * ((grey[..., None] - centres) / self.bandwidth).square())

    def entropies(self, kernels: Tensor) -> Tensor:
        """(P, n, bins) kernels to (P,) bits."""
        return entropy(kernels.sum(1))

    def __call__(self, kx: Tensor, ky: Tensor, hx: Tensor, hy: Tensor) -> Tensor:
        """(P,) mutual information of (P, n, bins) kernels, with the entropies of each."""
        joint = (kx.transpose(1, 2) @ ky).flatten(1)
        information = (hx + hy - entropy(joint)).clamp(min=0)
        information = torch.where(joint.sum(1) > TINY, information, 0.0)
        if not self.normalized:
            return information
        both = hx + hy
        known = both > LEAST_ENTROPY
        return torch.where(known, 2 * information / torch.where(known, both, 1.0), 0.0).clamp(max=1)


def entropy(masses: Tensor) -> Tensor:
    """(P, N) non-negative masses to the bits of their distribution, (P,)."""
    p = masses / (masses.sum(1, keepdim=True) + TINY)
    return -(p * torch.log2(p + TINY)).sum(1)
