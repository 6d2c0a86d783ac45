"""Mutual information of patches, and its map over two images (docs/papers/lmi.md 5a, Eq. 1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from meddiff.core.precision import full_precision
from meddiff.lmi.estimators import Estimator
from meddiff.lmi.windows import CACHE, windowed_map

MOST_BINS, MOST_PATCH = 63, 7
"""What the registers of a GPU hold of one pixel."""
ON_GPU = 2**26
"""Floats of joint densities at a time where the chunked form runs on a GPU."""


def mutual_information(
    px: Tensor,
    py: Tensor,
    *,
    bins: int = 27,
    bandwidth: float = 8.0,
    normalized: bool = True,
    estimator: str = "parzen",
) -> Tensor:
    """Mutual information of pairs of patches.

    Args:
        px: (P, n) grey levels in 0..255.
        py: (P, n) grey levels in 0..255.
        bins: grey levels at which the densities are taken, from 0 to 255.
        bandwidth: of the Gaussian kernel, in grey levels (8 is the paper's "sigma = 2").
        normalized: divides by the mean of the two entropies.
        estimator: `parzen`, or `hist`: each sample counts for its nearest bin.

    Returns:
        (P,) float32, bits; in [0, 1] where `normalized`.

    Raises:
        ValueError: If shapes differ, or an argument is out of its range.
    """
    if px.ndim != 2 or px.shape != py.shape:
        raise ValueError(f"px and py must be (P, n) alike; got {(*px.shape,)} and {(*py.shape,)}")
    measure = Estimator(bins, bandwidth, normalized, estimator)
    with recorded(px, py) as gradient:
        return in_chunks(px.float(), py.float(), measure, None, gradient)


def local_mutual_information(
    x: Tensor,
    y: Tensor,
    *,
    patch_size: int = 3,
    search_size: int = 3,
    bins: int = 27,
    bandwidth: float = 8.0,
    normalized: bool = True,
    estimator: str = "parzen",
    chunk_size: int | None = None,
) -> Tensor:
    """Map of the largest mutual information between a patch of x and those of y around it (Eq. 1).

    Each image is scaled to the grey levels 0..255 by its own minimum and maximum, so the map is
    the same for a x + b, a > 0; a constant image becomes zeros. Then both are padded with zeros.

    Args:
        x: (B, 1, H, W), any range.
        y: (B, 1, H, W), any range; the one that is searched.
        patch_size: odd edge of the patches.
        search_size: odd edge of the square of candidates around a pixel.
        bins: see `mutual_information`.
        bandwidth: see `mutual_information`.
        normalized: see `mutual_information`.
        estimator: see `mutual_information`.
        chunk_size: pixels worked on at a time; None chooses. The result does not depend on it.

    Returns:
        (B, 1, H, W) float32, in [0, 1] where `normalized`, else bits and at least 0.

    Raises:
        ValueError: If shapes differ, or an argument is out of its range.
    """
    check_images(x, y)
    check_sizes(patch_size, search_size, chunk_size)
    measure = Estimator(bins, bandwidth, normalized, estimator)
    with recorded(x, y) as gradient:
        # Kernels narrower than the bins are far apart vanish between them, which windows leave out.
        if measure.parzen and not gradient and bandwidth > measure.spacing / 4:
            if kernel_runs(x, patch_size, bins):
                from meddiff.lmi.kernel import fused_map

                return fused_map(x, y, patch_size, search_size, measure)
            if x.is_cpu:
                grey = grey_levels(x), grey_levels(y)
                return windowed_map(*grey, patch_size, search_size, measure, chunk_size)
        return direct_map(x, y, patch_size, search_size, measure, chunk_size, gradient)


def direct_map(
    x: Tensor,
    y: Tensor,
    patch_size: int,
    search_size: int,
    measure: Estimator,
    chunk_size: int | None,
    gradient: bool,
) -> Tensor:
    """The map by its definition, `chunk_size` pairs of patches at a time."""
    height, width = x.shape[-2:]
    px = patches(grey_levels(x), patch_size, 0).flatten(0, 2)
    py = patches(grey_levels(y), patch_size, search_size // 2)
    best = torch.zeros(len(px), device=x.device)
    for i in range(search_size):
        for j in range(search_size):
            candidate = py[:, i : i + height, j : j + width].flatten(0, 2)
            found = in_chunks(px, candidate, measure, chunk_size, gradient)
            best = torch.maximum(best, found)
    return best.view(x.shape)


def in_chunks(
    px: Tensor, py: Tensor, measure: Estimator, chunk_size: int | None, gradient: bool
) -> Tensor:
    """`measure` of (P, n) pairs; with a gradient the joint densities are computed again."""
    size = chunk_size or max(1, (CACHE if px.is_cpu else ON_GPU) // measure.bins**2)
    pairs = zip(px.split(size), py.split(size), strict=True)
    if gradient:
        return torch.cat([checkpoint(measure, *pair, use_reentrant=False) for pair in pairs])
    return torch.cat([measure(*pair) for pair in pairs])


def kernel_runs(x: Tensor, patch_size: int, bins: int) -> bool:
    """Whether the Triton kernel can be had for an image on this device."""
    small = bins <= MOST_BINS and patch_size <= MOST_PATCH
    return x.is_cuda and small and find_spec("triton") is not None


def check_images(x: Tensor, y: Tensor) -> None:
    """Raises ValueError unless both are (B, 1, H, W) alike."""
    if x.ndim != 4 or x.shape[1] != 1 or x.shape != y.shape:
        raise ValueError(f"x and y must be (B, 1, H, W) alike; got {(*x.shape,)} and {(*y.shape,)}")


def check_sizes(patch_size: int, search_size: int, chunk_size: int | None) -> None:
    """Raises ValueError unless patches and neighbourhoods have a middle, and chunks pixels."""
    for name, size in (("patch_size", patch_size), ("search_size", search_size)):
        if size < 1 or size % 2 == 0:
            raise ValueError(f"{name} must be odd and positive; got {size}")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be positive; got {chunk_size}")


def grey_levels(image: Tensor) -> Tensor:
    """Each image scaled to 0..255 by its minimum and maximum; zeros where it is constant."""
    image = image.float()
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    scale = torch.where(high > low, high - low, torch.ones_like(high))
    return (image - low) / scale * 255


def patches(grey: Tensor, size: int, reach: int) -> Tensor:
    """(B, H + 2 reach, W + 2 reach, size^2) values around each pixel and those beyond the edge."""
    padded = F.pad(grey[:, 0], [size // 2 + reach] * 4)
    return padded.unfold(1, size, 1).unfold(2, size, 1).flatten(3)


@contextmanager
def recorded(*inputs: Tensor) -> Iterator[bool]:
    """Float32 in every precision; says whether a gradient is asked for, and records only then."""
    gradient = torch.is_grad_enabled() and any(i.requires_grad for i in inputs)
    with torch.set_grad_enabled(gradient), full_precision(inputs[0].device):
        yield gradient
