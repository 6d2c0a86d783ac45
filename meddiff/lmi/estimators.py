"""Mutual information of few samples, from kernels at fixed grey levels (docs/papers/lmi.md, 5a)."""

import torch
from torch import Tensor

ESTIMATORS = ("parzen", "hist")
LEAST_ENTROPY = 1e-6
"""Bits of both patches together below which they tell nothing."""
TINY = 1e-10
"""What the authors add to sums and inside logarithms."""


class Estimator:
    """Mutual information of sample pairs whose densities are taken at `bins` grey levels.

    Args:
        bins: at least 2, evenly from 0 to 255.
        bandwidth: of the Gaussian kernel, in grey levels.
        normalized: divides by the mean of the two entropies.
        estimator: `parzen` or `hist`.

    Raises:
        ValueError: If an argument is out of its range; names it.
    """

    def __init__(self, bins: int, bandwidth: float, normalized: bool, estimator: str) -> None:
        if bins < 2:
            raise ValueError(f"bins must be at least 2; got {bins}")
        if not 0 < bandwidth < float("inf"):
            raise ValueError(f"bandwidth must be positive and finite; got {bandwidth}")
        if estimator not in ESTIMATORS:
            raise ValueError(f"estimator must be one of {ESTIMATORS}; got {estimator!r}")
        self.bins, self.bandwidth = bins, bandwidth
        self.normalized, self.parzen = normalized, estimator == "parzen"

    @property
    def spacing(self) -> float:
        """Grey levels between two bins."""
        return 255 / (self.bins - 1)

    def __call__(self, px: Tensor, py: Tensor) -> Tensor:
        """(P,) mutual information of (P, n) pairs of patches."""
        if not self.parzen:
            same_x, same_y = self.shared(px), self.shared(py)
            hx, hy = entropy_of_counts(same_x), entropy_of_counts(same_y)
            return self.scaled(hx, hy, hx + hy - entropy_of_counts(same_x & same_y))
        kx, ky = self.kernels(px), self.kernels(py)
        hx, hy = entropy(kx.sum(1)), entropy(ky.sum(1))
        joint = (kx.transpose(1, 2) @ ky).flatten(1)
        information = hx + hy - entropy(joint)
        # Samples far out of range weigh nothing; what has no joint density shares no information.
        return self.scaled(hx, hy, torch.where(joint.sum(1) > TINY, information, 0.0))

    def kernels(self, grey: Tensor) -> Tensor:
        """(..., n) grey levels to (..., n, bins) weights."""
        centres = torch.linspace(0, 255, self.bins, device=grey.device)
        return torch.exp(-0.5 * ((grey[..., None] - centres) / self.bandwidth).square())

    def shared(self, grey: Tensor) -> Tensor:
        """(P, n) grey levels to (P, n, n): whether two samples count for the same bin."""
        nearest = (grey / self.spacing).round().clamp(0, self.bins - 1)
        return nearest[:, :, None] == nearest[:, None]

    def scaled(self, hx: Tensor, hy: Tensor, information: Tensor) -> Tensor:
        """The information, clamped at 0, or its share of the entropies, clamped to [0, 1]."""
        information = information.clamp(min=0)
        if not self.normalized:
            return information
        both = hx + hy
        known = both >= LEAST_ENTROPY
        return torch.where(known, 2 * information / both.where(known, 1.0), 0.0).clamp(max=1)


def entropy(masses: Tensor) -> Tensor:
    """(P, N) non-negative masses to the bits of their distribution, (P,)."""
    p = masses / (masses.sum(1, keepdim=True) + TINY)
    return -(p * torch.log2(p + TINY)).sum(1)


def entropy_of_counts(same: Tensor) -> Tensor:
    """(P, n, n), which samples share a bin, to the bits of the histogram, (P,)."""
    return torch.log2(same.shape[1] / same.sum(2)).mean(1)
