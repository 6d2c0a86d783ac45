"""The map on a CPU: joint densities only where a patch has any, in pieces that stay in the cache.

A kernel is short-ranged: a few bandwidths from its sample it is zero to float32's eye. So a patch
touches a window of bins, narrow where the image is smooth; a patch of one grey level shares no
information at all. Pixels are sorted by the widths of their windows in both images, and one small
matrix product gives the joint densities of a pixel's patch with all its candidates.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from meddiff.lmi.estimators import Estimator

REACH = 5.6
"""In bandwidths: the kernel has fallen to 1.5e-7 of the nearest bin's."""
FLAT = 2e-3
"""Share of the bandwidth: grey levels closer than this carry less than 1e-5 bits."""
STEP = 2
"""Widths of windows are rounded up to a multiple, so that fewer groups are worked on."""
LOWEST = -28.0
"""Exponent of the least weight, 7e-13: joint densities stay normal numbers, which are fast."""
CACHE = 2**18
"""Floats of joint densities at a time for a thread."""
PIXELS = 2**16
"""Pixels whose patches are held at a time."""


def windowed_map(
    x: Tensor, y: Tensor, patch_size: int, search_size: int, measure: Estimator, chunk: int | None
) -> Tensor:
    """`local_mutual_information` of grey levels (B, 1, H, W), Parzen, without gradient."""
    margin = patch_size // 2 + search_size // 2
    flat_x, flat_y = (F.pad(image, [margin] * 4).flatten() for image in (x, y))
    height, width = (size + 2 * margin for size in x.shape[-2:])
    grid = torch.arange(len(x) * height * width).view(-1, height, width)
    pixels = grid[:, margin : height - margin, margin : width - margin].flatten()
    around_x = square(patch_size, width)
    around_y = square(patch_size + search_size - 1, width)
    group = Group(patch_size, search_size, measure)
    parts = [
        group(flat_x[part[:, None] + around_x], flat_y[part[:, None] + around_y])
        for part in pixels.split(chunk or PIXELS)
    ]
    return torch.cat(parts).view(x.shape)


def square(size: int, width: int) -> Tensor:
    """(size^2,) steps in memory from a pixel to the square around it, rows `width` apart."""
    steps = torch.arange(size) - size // 2
    return (steps[:, None] * width + steps).flatten()


class Group:
    """Largest information of many pixels, their grey levels given by patch and neighbourhood."""

    def __init__(self, patch_size: int, search_size: int, measure: Estimator) -> None:
        self.measure = measure
        self.candidates = search_size**2
        edge = patch_size + search_size - 1
        samples, candidates = square(patch_size, edge), square(search_size, edge)
        self.taken = (samples[:, None] + candidates + edge**2 // 2).flatten()

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """(P, n) patches of x and (P, m) neighbourhoods of y to (P,)."""
        found = x.new_zeros(len(x))
        (start_x, width_x, flat_x), (start_y, width_y, flat_y) = self.windows(x), self.windows(y)
        key = torch.where(flat_x | flat_y, -1, width_x * (self.measure.bins + 1) + width_y)
        key, order = key.sort()
        kinds, counts = torch.unique_consecutive(key, return_counts=True)
        for kind, members in zip(kinds.tolist(), order.split(counts.tolist()), strict=True):
            if kind < 0:
                continue
            wide_x, wide_y = divmod(kind, self.measure.bins + 1)
            size = CACHE * min(16, torch.get_num_threads()) // (wide_x * wide_y * self.candidates)
            for part in members.split(max(1, size)):
                kx = self.kernels(x[part], start_x[part], wide_x)
                ky = self.kernels(y[part], start_y[part], wide_y)
                found[part] = self.largest(kx, ky)
        return found

    def windows(self, grey: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """First bin and width of each row's window, and whether the row has but one grey level."""
        bins, spacing = self.measure.bins, 255 / (self.measure.bins - 1)
        low, high = grey.aminmax(dim=1)
        reach = ((REACH * self.measure.bandwidth) ** 2 + (spacing / 2) ** 2) ** 0.5
        start = ((low - reach) / spacing).ceil().long().clamp(0, bins - 1)
        stop = ((high + reach) / spacing).floor().long().clamp(0, bins - 1) + 1
        width = ((stop - start + STEP - 1) // STEP * STEP).clamp(max=bins)
        return torch.minimum(start, bins - width), width, high - low < FLAT * self.measure.bandwidth

    def kernels(self, grey: Tensor, start: Tensor, width: int) -> Tensor:
        """(P, n, width) weights of the bins from `start` (P,) on."""
        spacing, scale = 255 / (self.measure.bins - 1), self.measure.bandwidth * 2**0.5
        centres = (start[:, None] + torch.arange(width)) * (spacing / scale)
        distance = (grey / scale)[:, :, None] - centres[:, None]
        return distance.square_().neg_().clamp_min_(LOWEST).exp_()

    def largest(self, kx: Tensor, ky: Tensor) -> Tensor:
        """(P,) from the weights of patches (P, n, v) and neighbourhoods (P, m, w)."""
        pixels, samples, _ = kx.shape
        shape = (pixels, self.candidates, ky.shape[2])
        ky = ky.index_select(1, self.taken).view(pixels, samples, -1)
        joint = kx.transpose(1, 2) @ ky
        log = joint.log()
        total = joint.sum(1).view(shape).sum(2)
        hxy = entropy(total, log.mul_(joint).sum(1).view(shape).sum(2))
        hx, hy = marginal(kx.sum(1)), marginal(ky.sum(1).view(shape))
        return self.measure.scaled(hx[:, None], hy, hx[:, None] + hy - hxy).amax(1)


def marginal(masses: Tensor) -> Tensor:
    """Bits of the distribution of (..., N) positive masses."""
    return entropy(masses.sum(-1), masses.log().mul_(masses).sum(-1))


def entropy(total: Tensor, self_information: Tensor) -> Tensor:
    """Bits of masses of which the sum of m and of m ln m are given."""
    return (total.log() - self_information / total) * 1.4426950408889634
