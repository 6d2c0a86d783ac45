"""Decoded items in memory."""

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt


class ItemCache:
    """Decoded, resized items in memory that forked workers share, filled as items are first read.

    Images of 8 bits are held as uint8 and deeper ones as float32, so that the cache never costs
    precision.

    Args:
        length: Number of items.
        size: Height and width.
        channels: Channels of the images.
        deep: Whether images have more than 8 bits.
        masks: Whether there are masks.
    """

    def __init__(self, length: int, size: int, channels: int, deep: bool, masks: bool) -> None:
        dtype = np.float32 if deep else np.uint8
        self.images = _shared((length, size, size, channels), dtype)
        self.masks = _shared((length, size, size), np.uint8) if masks else None
        self.filled = _shared((length,), np.uint8)

    @staticmethod
    def bytes_an_item(size: int, channels: int, deep: bool, masks: bool) -> int:
        """Memory of one item, in bytes."""
        return size * size * (channels * (4 if deep else 1) + masks)

    def get(self, index: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8] | None] | None:
        """The item, or None if it has not been put yet."""
        if not self.filled[index]:
            return None
        return self.images[index], None if self.masks is None else self.masks[index]

    def put(self, index: int, image: npt.NDArray[Any], mask: npt.NDArray[np.uint8] | None) -> None:
        """Keeps an item."""
        self.images[index] = image
        if self.masks is not None:
            self.masks[index] = mask
        self.filled[index] = 1


def _shared(shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Zeros in an anonymous mapping: shared after a fork, and not bound by the size of /dev/shm."""
    count = int(np.prod(shape))
    buffer = mmap.mmap(-1, max(count * np.dtype(dtype).itemsize, 1))
    return np.frombuffer(buffer, dtype=dtype, count=count).reshape(shape)
