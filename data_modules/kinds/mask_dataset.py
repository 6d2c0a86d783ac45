"""Pairs of image and mask as a torch data set."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from data_modules.batch import Batch
from data_modules.kinds.augmentation import Augmentation
from data_modules.kinds.item_cache import ItemCache
from data_modules.kinds.placement import Placement
from data_modules.kinds.transforms import (
    PixelBox,
    cut,
    resize_image,
    resize_mask,
    to_channels,
    to_tensor,
)
from data_modules.listing.items import Item
from data_modules.reading.formats import ImageArray, Mask
from data_modules.reading.io import read_image, read_mask
from data_modules.reading.options import AS_STORED, Reading

Crop: TypeAlias = Callable[[ImageArray], PixelBox]
"""Takes an image (H, W, 1 or 3) as decoded and says which part of it is used."""

Preprocess: TypeAlias = Callable[[ImageArray], ImageArray]
"""Takes and gives an image (H, W, 1 or 3) of one height and width."""


class ImageMaskDataset(Dataset[Batch]):
    """Images in [-1, 1] with masks of class ids.

    8-bit images are `x / 127.5 - 1`; deeper ones are scaled to [0, 255] without rounding before.

    Args:
        root: Folder that the paths of the items are relative to.
        items: What to yield, in this order.
        image_size: Height and width after resizing.
        in_channels: 1 or 3.
        with_masks: Whether masks are read; every item must have one then.
        reading: How files are read.
        binary_masks: Whether 255 in a mask is class 1; else it means ignore.
        deep: Whether an image has more than 8 bits, or gets them from `preprocess`.
        crop: What of an image, and of its mask, is used, in the size that the files have.
        preprocess: Changes the pixels of an image, cropped and in the size that the files have.
        augmentation: Applied to image and mask together.
        cached: Whether decoded items are kept in memory.
        placed: Whether items say how a result is put back in the image's own place and size.
    """

    def __init__(
        self,
        root: Path,
        items: Sequence[Item],
        *,
        image_size: int,
        in_channels: int,
        with_masks: bool,
        reading: Reading = AS_STORED,
        binary_masks: bool = False,
        deep: bool = False,
        crop: Crop | None = None,
        preprocess: Preprocess | None = None,
        augmentation: Augmentation | None = None,
        cached: bool = False,
        placed: bool = False,
    ) -> None:
        self.root = root
        self.items = list(items)
        self.image_size = image_size
        self.in_channels = in_channels
        self.with_masks = with_masks
        self.reading = reading
        self.binary_masks = binary_masks
        self.crop = crop
        self.preprocess = preprocess
        self.placed = placed
        self.augmentation = augmentation
        self.cache = (
            ItemCache(len(self.items), image_size, in_channels, deep, with_masks)
            if cached
            else None
        )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: int | tuple[int, int]) -> Batch:
        """One item.

        Args:
            key: Its index, or (index, epoch): the epoch only enters the augmentation.

        Raises:
            CorruptImageError: If a file cannot be read.
        """
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        if self.placed:
            image, mask, placement = self._read(index)
            item = _item(image, mask, index)
            item.update(placement.as_item())
            return item
        image, mask = self.load(index)
        if self.augmentation is not None:
            image, mask = self.augmentation(image, mask, epoch, index)
        return _item(image, mask, index)

    def plain(self, index: int) -> Batch:
        """One item without augmentation.

        Raises:
            CorruptImageError: If a file cannot be read.
        """
        return _item(*self.load(index), index)

    def load(self, index: int) -> tuple[npt.NDArray[Any], Mask | None]:
        """Image (H, W, C) in [0, 255] and mask (H, W), resized and not augmented."""
        held = self.cache.get(index) if self.cache is not None else None
        if held is not None:
            return held
        image, mask, _ = self._read(index)
        if self.cache is not None:
            self.cache.put(index, image, mask)
        return image, mask

    def _read(self, index: int) -> tuple[npt.NDArray[Any], Mask | None, Placement]:
        """As `load`, from the files, and where that lies in them."""
        item = self.items[index]
        decoded = read_image(self.root / item.image, reading=self.reading)
        mask = self._paint(item) if self.with_masks else None
        height, width = decoded.shape[:2]
        box = None if self.crop is None else self.crop(decoded)
        if box is not None:
            decoded, mask = cut(decoded, mask, box)
        if self.preprocess is not None:
            decoded = self.preprocess(decoded)
        image = resize_image(to_channels(decoded, self.in_channels), self.image_size)
        mask = None if mask is None else resize_mask(mask, self.image_size)
        return image, mask, Placement.stretched((height, width), box, self.image_size)

    def _paint(self, item: Item) -> Mask | None:
        painted: Mask | None = None
        for part in item.masks:
            values = read_mask(self.root / part.path, reading=self.reading)
            if part.label is None:
                painted = ((values == 255) if self.binary_masks else values).astype(np.uint8)
                continue
            painted = np.zeros(values.shape, np.uint8) if painted is None else painted
            painted[values != 0] = part.label
        return painted

    def __getstate__(self) -> dict[str, Any]:
        # A worker that is not forked would get a copy of the whole cache.
        return self.__dict__ | {"cache": None}


def _item(image: npt.NDArray[Any], mask: Mask | None, index: int) -> Batch:
    item = Batch(image=to_tensor(image), index=torch.tensor(index))
    if mask is not None:
        item["mask"] = torch.from_numpy(mask.astype(np.int64))
    return item
