"""Slices of MR scans as a torch data set."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import Dataset

from data_modules.batch import Batch
from data_modules.kinds.augmentation import Augmentation
from data_modules.kinds.placement import Placement
from data_modules.kinds.slice_cuts import Cut, SliceItem, Stack
from data_modules.kinds.transforms import to_tensor


class SliceDataset(Dataset[Batch]):
    """Slices in [-1, 1]: `image` alone, `source` alone, or `source` and `target`.

    Args:
        items: What to yield, in this order.
        stacks: The planes of all their cuts.
        in_channels: 1, or 3 that are equal.
        augmentation: Applied to `image`.
        placed: Whether items say how a result is put back in the plane's own place and size.
    """

    def __init__(
        self,
        items: Sequence[SliceItem],
        stacks: Mapping[Cut, Stack],
        *,
        in_channels: int,
        augmentation: Augmentation | None = None,
        placed: bool = False,
    ) -> None:
        self.items = list(items)
        self.in_channels = in_channels
        self.augmentation = augmentation
        # Views, not copies: forked workers share them.
        self._planes = [
            {key: stacks[cut].images[item.row] for key, cut in item.cuts.items()} for item in items
        ]
        firsts = [stacks[next(iter(item.cuts.values()))] for item in items] if placed else []
        self._places = [
            Placement.padded(stack.shape, stack.spacing, stack.images.shape[-1]) for stack in firsts
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: int | tuple[int, int]) -> Batch:
        """One item.

        Args:
            key: Its index, or (index, epoch): the epoch only enters the augmentation.
        """
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        batch: dict[str, Any] = {"index": torch.tensor(index)}
        if self._places:
            batch.update(self._places[index].as_item())
        for name, plane in self._planes[index].items():
            image = np.repeat(plane[..., None], self.in_channels, axis=-1)
            if self.augmentation is not None:
                image, _ = self.augmentation(image, None, epoch, index)
            batch[name] = to_tensor(image)
        return cast(Batch, batch)
