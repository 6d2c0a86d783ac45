"""Where in a file's own image lies what the network gets of it."""

from dataclasses import dataclass

import torch

from data_modules.batch import Batch
from data_modules.kinds.transforms import PixelBox
from data_modules.reading.volumes import Spacing, square_window


@dataclass(frozen=True)
class Placement:
    """Where in a file's own image lies what the network gets of it.

    Attributes:
        original: Height and width of the image as it is read.
        box: What is taken of it.
        inner: Where in the network's square that lies; around it is padding.
    """

    original: tuple[int, int]
    box: PixelBox
    inner: PixelBox

    @classmethod
    def stretched(cls, original: tuple[int, int], box: PixelBox | None, size: int) -> "Placement":
        """A part of an image (None: all of it) that fills a square of `size`."""
        return cls(original, box or (0, 0, *original), (0, 0, size, size))

    @classmethod
    def padded(cls, shape: tuple[int, ...], spacing: Spacing, size: int) -> "Placement":
        """A whole plane in the middle of a square of `size`, as `to_square` lays it."""
        rows, columns = shape
        whole = (0, 0, rows, columns)
        return cls((rows, columns), whole, square_window(shape, spacing, size))

    def as_item(self) -> Batch:
        """What an item of a batch has of it."""
        return Batch(
            original_size=torch.tensor(self.original),
            original_box=torch.tensor(self.box),
            network_box=torch.tensor(self.inner),
        )
