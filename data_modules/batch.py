"""What a data module yields."""

from typing import TypedDict

from torch import Tensor


class Batch(TypedDict, total=False):
    """A batch; a data module yields the keys it has. Names, paths and patient ids never enter one.

    Attributes:
        image: (B, C, H, W) float32 in [-1, 1].
        mask: (B, H, W) int64, class ids 0..K-1, 255 = ignore.
        label: (B,) int64, or (B, L) float32 multi-hot with NaN = unknown.
        source: As `image`, the domain that is translated from.
        target: As `image`, the domain that is translated to.
        index: (B,) int64, position in the split.
        original_size: (B, 2) int64, height and width of each item's own image. This key and the
            next two say how a result is put back in place, and come together, in `predict` alone.
        original_box: (B, 4) int64, what of it `image` or `source` shows: first row and column, and
            those behind the last ones.
        network_box: (B, 4) int64, where in `image` or `source` that lies; around it is padding.
    """

    image: Tensor
    mask: Tensor
    label: Tensor
    source: Tensor
    target: Tensor
    index: Tensor
    original_size: Tensor
    original_box: Tensor
    network_box: Tensor
