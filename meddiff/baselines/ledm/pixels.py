"""The features of all labelled pixels, in a memory-mapped fp16 cache.

Held are the block outputs at their own resolutions; a pixel's vector is interpolated when it is
asked for. For 20 images of 256 pixels that is 0.5 GB instead of the 11 GB of upsampled vectors.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from meddiff.core.losses import IGNORE

_ITERATIONS_AT_ONCE = 32


class PixelFeatures:
    """Features of the pixels of N images, by position.

    Args:
        folder: Where the files lie; one a block.
        num_images: N.
        maps: The first image's features (1, S, c, h, w) a block, for their shapes.
        size: Height and width of the images, to which features are interpolated.
    """

    def __init__(self, folder: Path, num_images: int, maps: Sequence[Tensor], size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.size = size
        self._blocks = []
        for number, block in enumerate(maps):
            _, steps, channels, height, width = block.shape
            shape = (num_images, height, width, steps, channels)
            file = folder / f"block-{number}.fp16"
            self._blocks.append(_allocated(file, shape))

    def put(self, number: int, maps: Sequence[Tensor]) -> None:
        """Stores one image's features.

        Args:
            number: Its position.
            maps: (1, S, c, h, w) a block.

        Raises:
            ValueError: If a feature is beyond the range of fp16.
        """
        for held, block in zip(self._blocks, maps, strict=True):
            values = block[0].permute(2, 3, 0, 1).cpu().numpy().astype(np.float16)
            if not np.isfinite(values).all():
                raise ValueError(
                    f"LEDM: the features of training image {number} are not finite in fp16; is "
                    "model.init_args.init_from a network that was trained to its end?"
                )
            held[number] = values

    def gather(self, image: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Bilinear features (align_corners=False), steps outer and blocks inner.

        Args:
            image: Positions of the images, shape (M,).
            row: Rows of the pixels, shape (M,).
            column: Columns of the pixels, shape (M,).

        Returns:
            Float32, shape (M, d).
        """
        parts = [self._interpolated(held, image, row, column) for held in self._blocks]
        return torch.cat(parts, dim=2).flatten(1)

    def _interpolated(self, held: np.memmap, image: Tensor, row: Tensor, column: Tensor) -> Tensor:
        _, height, width, steps, channels = held.shape
        top, bottom, down = _neighbours(row, height, self.size)
        left, right, along = _neighbours(column, width, self.size)
        cells = torch.from_numpy(held).view(-1, steps * channels)
        total = torch.zeros(len(row), steps * channels)
        for y, x, weight in (
            (top, left, (1 - down) * (1 - along)),
            (top, right, (1 - down) * along),
            (bottom, left, down * (1 - along)),
            (bottom, right, down * along),
        ):
            corner = cells.index_select(0, (image * height + y) * width + x).float()
            total.addcmul_(corner, weight[:, None])
        return total.view(-1, steps, channels)


def _neighbours(position: Tensor, length: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two cells that a pixel lies between, and how far it is on the way to the second."""
    place = ((position.float() + 0.5) * (length / size) - 0.5).clamp(min=0)
    first = place.long().clamp(max=length - 1)
    return first, (first + 1).clamp(max=length - 1), place - first


def _allocated(file: Path, shape: tuple[int, ...]) -> np.memmap:
    """A mapped fp16 file that has its space on the disk.

    Without it, a write to the map kills the process where the disk is full.
    """
    held = np.memmap(file, dtype=np.float16, mode="w+", shape=shape)
    try:
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, held.nbytes)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            error.filename = str(file)
            raise
    return held


class LabelledPixels:
    """All labelled pixels of the training images, in random order, in batches.

    Args:
        items: `image` (C, H, W) and `mask` (H, W) of each image.
        extract: Gives the features of images (1, C, H, W), see `DecoderFeatures`.
        folder: Where the cache lies.
        batch_size: Pixels of an iteration.
        min_class_pixels: A class with 0 < pixels < this in an image is ignored in that image.

    Raises:
        ValueError: If there are fewer labelled pixels than an iteration takes.
    """

    def __init__(
        self,
        items: Iterable[Mapping[str, Tensor]],
        extract: Callable[[Tensor], Sequence[Tensor]],
        folder: Path,
        *,
        batch_size: int,
        min_class_pixels: int,
    ) -> None:
        held = list(items)
        self.batch_size = batch_size
        self._labels = training_labels([item["mask"] for item in held], min_class_pixels)
        self._valid = (self._labels != IGNORE).flatten().nonzero().flatten()
        if len(self._valid) < batch_size:
            raise ValueError(
                f"LEDM: {len(self._valid)} labelled pixels in {len(held)} images, fewer than "
                f"model.init_args.pixel_batch_size {batch_size}"
            )
        first = extract(held[0]["image"][None])
        self.features = PixelFeatures(folder, len(held), first, self._labels.shape[-1])
        for number, item in enumerate(held):
            self.features.put(number, extract(item["image"][None]) if number else first)

    def share(self, number: int, of: int, key: int) -> Tensor:
        """One share of an epoch: positions among the labelled pixels.

        What does not fill an iteration is dropped. With fewer iterations than shares the last
        shares are empty.

        Args:
            number: Which share.
            of: Number of shares.
            key: The order of the epoch, 63 bits.

        Returns:
            Shape (iterations, batch_size).
        """
        # torch's CPU generator takes the lower 32 bits alone.
        generator = torch.Generator().manual_seed(key & 0xFFFFFFFF)
        order = torch.randperm(len(self._valid), generator=generator)
        iterations = len(order) // self.batch_size
        batches = order[: iterations * self.batch_size].view(iterations, self.batch_size)
        return batches.tensor_split(of)[number]

    def batches(self, share: Tensor, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Features (batch_size, d) float32 and class ids (batch_size,) of each iteration."""
        height, width = self._labels.shape[1:]
        # Many iterations' pixels are interpolated at once: a call for each would cost more.
        for start in range(0, len(share), _ITERATIONS_AT_ONCE):
            pixel = self._valid[share[start : start + _ITERATIONS_AT_ONCE].flatten()]
            image, row, column = pixel // (height * width), pixel // width % height, pixel % width
            x = self.features.gather(image, row, column).to(device)
            y = self._labels[image, row, column].to(device)
            yield from zip(x.split(self.batch_size), y.split(self.batch_size), strict=True)


def training_labels(masks: Sequence[Tensor], min_class_pixels: int) -> Tensor:
    """Masks as LEDM trains on them: a class with few pixels in an image is ignored there.

    Args:
        masks: Class ids (H, W) of each image.
        min_class_pixels: A class with 0 < pixels < this becomes 255 in that image.

    Returns:
        Class ids, int64, shape (N, H, W).
    """
    labels = torch.stack(list(masks))
    for mask in labels:
        ids, counts = mask.unique(return_counts=True)
        for rare in ids[counts < min_class_pixels]:
            mask[mask == rare] = IGNORE
    return labels
