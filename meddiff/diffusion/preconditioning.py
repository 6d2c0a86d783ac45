"""What the network is fed, and how its output stands for epsilon."""

from typing import Literal, TypeAlias

from torch import Tensor

from meddiff.core.precision import float32

Preconditioning: TypeAlias = Literal["none", "edm"]

SIGMA_DATA = 0.5
"""Spread of the data that `edm` assumes, of images in [0, 1] about 0."""


class EpsilonOutput:
    """`none`: the output is epsilon (docs/papers/lmi.md 5a), and each noise level counts alike.

    All methods are of `x = x_0 + sigma epsilon`, float32, with sigma of shape (B, 1, 1, 1).
    """

    @float32
    def network_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        """`x / sqrt(1 + sigma^2)` (5b, input scaling)."""
        return x * (1 + sigma**2).rsqrt()

    @float32
    def epsilon(self, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """Epsilon of the network's output, shape (B, C, H, W)."""
        return output

    def weight(self, sigma: Tensor) -> Tensor:
        """The weight of each image's loss of epsilon, shape (B,)."""
        return sigma.new_ones(len(sigma))


class EDMOutput:
    """`edm`: a share of x and the output make up x_0 (Karras et al., arXiv 2206.00364).

    `x_0 = c_skip x + c_out output`, with each noise level's loss of the output at weight 1. An
    epsilon that is off by a percent puts x_0 off by half of its range at sigma 50, which a short
    run does not get below; here the network only has to know x_0. The minimiser is that of Eq. 2.
    """

    @float32
    def network_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        """`c_in x`: unit variance."""
        return x * (SIGMA_DATA**2 + sigma**2).rsqrt()

    @float32
    def epsilon(self, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """`(x - c_skip x - c_out output) / sigma`, written without the difference."""
        variance = SIGMA_DATA**2 + sigma**2
        return x * sigma / variance - output * SIGMA_DATA * variance.rsqrt()

    def weight(self, sigma: Tensor) -> Tensor:
        """`1 + sigma^2 / sigma_data^2`: the output's loss then counts alike at all levels."""
        return (1 + (sigma / SIGMA_DATA) ** 2).flatten()


PRECONDITIONINGS: dict[str, EpsilonOutput | EDMOutput] = {
    "none": EpsilonOutput(),
    "edm": EDMOutput(),
}


def preconditioning_of(name: str) -> EpsilonOutput | EDMOutput:
    """The preconditioning of a name.

    Raises:
        ValueError: If there is none.
    """
    if name not in PRECONDITIONINGS:
        names = ", ".join(PRECONDITIONINGS)
        raise ValueError(f"preconditioning: {name!r} is not one of {names}")
    return PRECONDITIONINGS[name]
