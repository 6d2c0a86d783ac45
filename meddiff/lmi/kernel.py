"""The map on a GPU: one Triton program a pixel, its joint densities never leave the registers.

Imported only where Triton is, by ``local_mutual_information``.
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
    """``local_mutual_information`` of images (B, 1, H, W), Parzen, without gradient."""
    x, y = x.float().contiguous(), y.float().contiguous()
    out = torch.empty_like(x)
    (low_x, high_x), (low_y, high_y) = x.flatten(1).aminmax(dim=1), y.flatten(1).aminmax(dim=1)
    height, width = x.shape[-2:]
    edge = max(16, triton.next_power_of_2(measure.bins + 1))
    with torch.cuda.device_of(x):
        largest_information[(x.numel(),)](
            *(x, y, low_x, high_x, low_y, high_y, out, height, width),
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
def largest_information(
    x,
    y,
    low_x,
    high_x,
    low_y,
    high_y,
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
    least_x, most_x = tl.load(low_x + image), tl.load(high_x + image)
    least_y, most_y = tl.load(low_y + image), tl.load(high_y + image)
    x += image * height * width
    y += image * height * width
    bins, samples = tl.arange(0, EDGE), tl.arange(0, SAMPLES) < PATCH * PATCH
    used = (bins < BINS)[:, None] & samples[None, :]
    centres = bins * spacing

    grey_x = patch(x, least_x, most_x, row, column, height, width, PATCH, SAMPLES)
    distance = (grey_x[None, :] - centres[:, None]) * scale
    kx = tl.where(used, tl.exp(-distance * distance), 0.0)
    marginal = tl.sum(kx, 1)
    total = tl.sum(marginal)
    hx = log2(total, FAST) - tl.sum(marginal * log2(marginal, FAST)) / total
    # A row of ones past the last bin: the product's row there is the marginal of y.
    ones = (bins == BINS)[:, None]
    kx = tl.where(ones & samples[None, :], 1.0, kx)
    darkest = tl.min(tl.where(samples, grey_x, float("inf")))
    brightest = tl.max(tl.where(samples, grey_x, -float("inf")))
    # A patch of one grey level shares no information: nothing to search.
    candidates = tl.where(brightest - darkest < flat, 0, SEARCH * SEARCH)

    best = 0.0
    for candidate in range(candidates):
        r, c = row + candidate // SEARCH - SEARCH // 2, column + candidate % SEARCH - SEARCH // 2
        grey_y = patch(y, least_y, most_y, r, c, height, width, PATCH, SAMPLES)
        distance = (grey_y[None, :] - centres[:, None]) * scale
        ky = tl.where(used, tl.exp(-distance * distance), 0.0)
        joint = tl.dot(kx, tl.trans(ky), input_precision=PRECISION)
        logs = joint * log2(joint, FAST)
        all_y, all_xy = tl.sum(tl.where(ones, joint, 0.0)), tl.sum(tl.where(ones, 0.0, joint))
        hy = log2(all_y, FAST) - tl.sum(tl.where(ones, logs, 0.0)) / all_y
        hxy = log2(all_xy, FAST) - tl.sum(tl.where(ones, 0.0, logs)) / all_xy
        information = hx + hy - hxy
        if NORMALIZED:
            both = hx + hy
            information = tl.where(both >= LEAST, 2 * information / tl.maximum(both, LEAST), 0.0)
            information = tl.minimum(information, 1.0)
        best = tl.maximum(best, information)
    tl.store(out + pixel, best)
