"""The map on a GPU: one Triton program a pixel, its joint densities never leave the registers.

Imported only where Triton is, by `local_mutual_information`.
"""

# What Triton compiles has its own types.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# mypy: disallow-untyped-decorators=False
# ruff: noqa: ANN001, ANN201

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

from meddiff.lmi.estimators import LEAST_ENTROPY, Estimator
from meddiff.lmi.windows import FLAT


def fused_map(
    x: Tensor, y: Tensor, patch_size: int, search_size: int, measure: Estimator
) -> Tensor:
    """`local_mutual_information` of images (B, 1, H, W), Parzen, without gradient."""
    x, y = x.float().contiguous(), y.float().contiguous()
    out = torch.empty_like(x)
    ends = (end for image in (x, y) for end in image.flatten(1).aminmax(dim=1))
    ranges = torch.stack([*ends], dim=1)
    height, width = x.shape[-2:]
    edge = max(16, triton.next_power_of_2(measure.bins + 1))
    with torch.cuda.device_of(x):
        largest_information[(x.numel(),)](
            *(x, y, ranges, out, height, width),
            *(measure.spacing, 0.5**0.5 / measure.bandwidth, FLAT * measure.bandwidth),
            PATCH=patch_size,
            SEARCH=search_size,
            BINS=measure.bins,
            EDGE=edge,
            SAMPLES=max(16, triton.next_power_of_2(patch_size**2)),
            NORMALIZED=measure.normalized,
            LEAST=LEAST_ENTROPY,
            PRECISION=precision(x.device),
            FAST=x.is_cuda and torch.version.hip is None,
            num_warps=edge**2 // 1024 or 1,
        )
    return out


def precision(device: torch.device) -> str:
    """Three passes of the tensor cores where there are any: as exact as float32 to 1e-6."""
    if (
        device.type != "cuda"
        or torch.version.hip
        or torch.cuda.get_device_capability(device) < (8,)
    ):
        return "ieee"
    return "tf32x3"


@triton.jit
def log2(x, FAST: tl.constexpr):
    """The GPU's own logarithm (2^-22), which the interpreter of tests lacks; finite at 0."""
    x = tl.maximum(x, 1e-30)
    return libdevice.fast_log2f(x) if FAST else tl.log2(x)


@triton.jit
def patch(image, low, high, row, column, height, width, PATCH: tl.constexpr, SAMPLES: tl.constexpr):
    """Grey levels of the patch around a pixel: 0 outside the image and past the last sample."""
    sample = tl.arange(0, SAMPLES)
    rows, columns = row + sample // PATCH - PATCH // 2, column + sample % PATCH - PATCH // 2
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    inside = inside & (sample < PATCH * PATCH)
    level = tl.load(image + rows * width + columns, mask=inside, other=low)
    return (level - low) / tl.where(high > low, high - low, 1.0) * 255


@triton.jit
def kernels(grey, centres, scale, used):
    """Parzen weights of each bin for each sample, 0 where a row or a sample is not used."""
    distance = (grey[None, :] - centres[:, None]) * scale
    return tl.where(used, tl.exp(-distance * distance), 0.0)


@triton.jit
def spread(grey, samples):
    """How far apart the grey levels of a patch are."""
    brightest = tl.max(tl.where(samples, grey, -float("inf")))
    return brightest - tl.min(tl.where(samples, grey, float("inf")))


@triton.jit
def entropy(masses, logs, chosen, FAST: tl.constexpr):
    """Bits of the chosen ones of non-negative masses m, with `logs` m log2 m."""
    total = tl.sum(tl.where(chosen, masses, 0.0))
    return log2(total, FAST) - tl.sum(tl.where(chosen, logs, 0.0)) / total


@triton.jit
def shared(joint, ones, hx, NORMALIZED: tl.constexpr, LEAST: tl.constexpr, FAST: tl.constexpr):
    """Mutual information of a joint density whose row of ones holds the marginal of y."""
    logs = joint * log2(joint, FAST)
    hy = entropy(joint, logs, ones, FAST)
    information = hx + hy - entropy(joint, logs, ones == 0, FAST)
    if NORMALIZED:
        both = hx + hy
        information = tl.where(both >= LEAST, 2 * information / tl.maximum(both, LEAST), 0.0)
        information = tl.minimum(information, 1.0)
    return information


@triton.jit
def largest_information(
    x,
    y,
    ranges,
    out,
    height,
    width,
    spacing,
    scale,
    flat,
    PATCH: tl.constexpr,
    SEARCH: tl.constexpr,
    BINS: tl.constexpr,
    EDGE: tl.constexpr,
    SAMPLES: tl.constexpr,
    NORMALIZED: tl.constexpr,
    LEAST: tl.constexpr,
    PRECISION: tl.constexpr,
    FAST: tl.constexpr,
):
    """Stores the map's value at the pixel of this program."""
    pixel = tl.program_id(0).to(tl.int64)
    image, place = pixel // (height * width), (pixel % (height * width)).to(tl.int32)
    row, column = place // width, place % width
    least_x, most_x = tl.load(ranges + 4 * image), tl.load(ranges + 4 * image + 1)
    least_y, most_y = tl.load(ranges + 4 * image + 2), tl.load(ranges + 4 * image + 3)
    x += image * height * width
    y += image * height * width
    bins, samples = tl.arange(0, EDGE), tl.arange(0, SAMPLES) < PATCH * PATCH
    used = (bins < BINS)[:, None] & samples[None, :]
    centres = bins * spacing

    grey_x = patch(x, least_x, most_x, row, column, height, width, PATCH, SAMPLES)
    kx = kernels(grey_x, centres, scale, used)
    marginal = tl.sum(kx, 1)
    hx = entropy(marginal, marginal * log2(marginal, FAST), bins < BINS, FAST)
    # A row of ones past the last bin: the product's row there is the marginal of y.
    ones = (bins == BINS)[:, None]
    kx = tl.where(ones & samples[None, :], 1.0, kx)
    # A patch of one grey level shares no information: nothing to search.
    candidates = tl.where(spread(grey_x, samples) < flat, 0, SEARCH * SEARCH)

    best = 0.0
    for candidate in range(candidates):
        r, c = row + candidate // SEARCH - SEARCH // 2, column + candidate % SEARCH - SEARCH // 2
        grey_y = patch(y, least_y, most_y, r, c, height, width, PATCH, SAMPLES)
        ky = kernels(grey_y, centres, scale, used)
        joint = tl.dot(kx, tl.trans(ky), input_precision=PRECISION)
        best = tl.maximum(best, shared(joint, ones, hx, NORMALIZED, LEAST, FAST))
    tl.store(out + pixel, best)
