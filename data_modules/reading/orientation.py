"""The eight orientations of EXIF and TIFF, as turns and flips of arrays."""

from typing import Any

import numpy as np
import numpy.typing as npt

UPRIGHT = 1


def oriented(array: npt.NDArray[Any], tag: int) -> npt.NDArray[Any]:
    """What is shown of stored pixels.

    Args:
        array: (H, W) or (H, W, C), as stored.
        tag: Orientation from 1 to 8: where row 0 and column 0 are in the scene (TIFF 6.0, tag 274).

    Returns:
        The pixels upright; rows and columns change places where the tag is above 4.
    """
    if tag in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if tag in (3, 4, 7, 8):
        array = array[::-1]
    if tag in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def inverse(tag: int) -> int:
    """The orientation that takes what is shown back to what was stored."""
    return {6: 8, 8: 6}.get(tag, tag)
