"""Images with the outlines of their masks, and label maps, put together in a grid."""

import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.utils import make_grid

from callbacks.files import atomic_write
from meddiff.core.precision import require_finite

PALETTE = (
    (64, 255, 64),
    (255, 214, 0),
    (0, 208, 255),
    (255, 64, 200),
    (255, 128, 0),
    (140, 120, 255),
)
"""Colours of class 1, 2, ...; they repeat after the last."""

TRUTH = (255, 255, 255)
"""Colour of the true mask where a predicted one is drawn over it."""

_SMALLEST_TILE = 128
_OUTLINE = 2


def to_rgb(image: Tensor) -> Tensor:
    """Converts images to tiles large enough to draw on.

    Args:
        image: Shape (N, C, H, W) in [-1, 1]; one channel becomes grey, of more than three channels
            the first is shown.

    Returns:
        uint8, shape (N, 3, s H, s W), with the whole number s that makes a tile 128 pixels high at
        least.

    Raises:
        ValueError: If an image holds NaN or infinite values, which would look like some grey.
    """
    require_finite(image, "pictures")
    if image.shape[1] != 3:
        image = image[:, :1].expand(-1, 3, -1, -1)
    pixels = ((image.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return _enlarge(pixels)


def draw_outlines(
    tiles: Tensor, mask: Tensor, colour: tuple[int, int, int] | None = None
) -> Tensor:
    """Draws the inner edge of every foreground class.

    Args:
        tiles: From `to_rgb`, shape (N, 3, s H, s W).
        mask: Class ids, shape (N, H, W); 255 is not drawn.
        colour: One RGB colour for all classes; without it each class has its own.

    Returns:
        A copy of `tiles` with the outlines.
    """
    drawn = tiles.clone()
    large = _enlarge(mask[:, None])[:, 0]
    for k in torch.unique(mask).tolist():
        if k in (0, 255):
            continue
        inside = (large == k)[:, None].float()
        # A pixel of the class is on its edge where another class lies within the outline's width.
        outside_near = F.max_pool2d(1 - inside, 2 * _OUTLINE + 1, stride=1, padding=_OUTLINE)
        edge = ((inside * outside_near) > 0).expand_as(drawn)
        red_green_blue = colour or PALETTE[(k - 1) % len(PALETTE)]
        paint = torch.tensor(red_green_blue, dtype=torch.uint8, device=drawn.device)
        drawn = torch.where(edge, paint[:, None, None], drawn)
    return drawn


def prediction_over_truth(image: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
    """Draws predicted outlines, a colour a class, over the true ones, which are white.

    Args:
        image: Shape (N, C, H, W) in [-1, 1].
        predicted: Class ids, shape (N, H, W).
        mask: The true ones, shape (N, H, W); 255 is not drawn.

    Returns:
        Tiles like those of `to_rgb`.
    """
    return draw_outlines(draw_outlines(to_rgb(image), mask, TRUTH), predicted)


def to_colours(labels: Tensor) -> Tensor:
    """Paints label maps: 0 black, 1, 2, ... in the colours of `PALETTE`.

    Args:
        labels: Shape (N, H, W).

    Returns:
        Tiles like those of `to_rgb`.
    """
    paint = torch.tensor(PALETTE, dtype=torch.uint8, device=labels.device)
    pixels = paint[(labels.long() - 1) % len(PALETTE)] * (labels > 0)[..., None]
    return _enlarge(pixels.permute(0, 3, 1, 2))


def grid_of(tiles: Tensor) -> Tensor:
    """Puts tiles (N, 3, H, W) side by side in a grid as square as can be, uint8 (3, H', W')."""
    grid: Tensor = make_grid(tiles, nrow=math.ceil(math.sqrt(len(tiles))), padding=2, pad_value=32)
    return grid


def lines_of(tiles: Tensor) -> Tensor:
    """Puts tiles (N, M, 3, H, W) in N lines of M, uint8 (3, H', W')."""
    columns = tiles.shape[1]
    grid: Tensor = make_grid(tiles.flatten(0, 1), nrow=columns, padding=2, pad_value=32)
    return grid


def write_png(path: Path, picture: Tensor) -> None:
    """Writes a uint8 picture of shape (3, H, W), whole or not at all."""
    with atomic_write(path) as file:
        Image.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy()).save(file, "PNG")


def _enlarge(pixels: Tensor) -> Tensor:
    scale = math.ceil(_SMALLEST_TILE / pixels.shape[-2])
    return pixels.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1)
