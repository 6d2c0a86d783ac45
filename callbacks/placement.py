"""Results of a network, put back into the place and the size of the image that it saw."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

Box: TypeAlias = tuple[int, int, int, int]
"""First row and column, and those behind the last ones."""


@dataclass(frozen=True)
class Place:
    """Where in an image lies what the network saw of it.

    Attributes:
        size: Height and width of the image.
        box: What of it the network saw.
        inner: Where in its input that was; around it was padding.
    """

    size: tuple[int, int]
    box: Box
    inner: Box

    def image(self, values: Tensor) -> Tensor:
        """An image in its own place, bilinear (antialiased where it becomes smaller).

        Args:
            values: (C, h, w) in [-1, 1], at the network's size.

        Returns:
            (C, H, W) float32; -1 where the network saw nothing.
        """
        whole = torch.full((len(values), *self.size), -1.0)
        self._of(whole)[...] = self._resized(values)
        return whole

    def classes(self, logits: Tensor) -> Tensor:
        """The class of each pixel of the image, from logits that are resized first.

        Args:
            logits: (K, h, w) at the network's size.

        Returns:
            (H, W) int32; 0, the background, where the network saw nothing.
        """
        best = self._resized(logits[:1])[0]
        ids = torch.zeros_like(best, dtype=torch.int32)
        # One class at a time: K planes of a large photograph would fill the memory.
        for number in range(1, len(logits)):
            other = self._resized(logits[number : number + 1])[0]
            ids[other > best] = number
            torch.maximum(best, other, out=best)
        return self._on_background(ids)

    def nearest(self, ids: Tensor) -> Tensor:
        """As `classes`, of class ids (h, w) alone: each pixel takes the nearest."""
        top, left, bottom, right = self.inner
        height, width = self._of(torch.empty(self.size, device="meta")).shape
        rows, columns = (
            first + ((torch.arange(new) + 0.5) * (last - first) / new).long()
            for first, last, new in ((top, bottom, height), (left, right, width))
        )
        return self._on_background(ids[rows][:, columns])

    def _of(self, whole: Tensor) -> Tensor:
        """The part of an image (..., H, W) that the network saw."""
        top, left, bottom, right = self.box
        return whole[..., top:bottom, left:right]

    def _resized(self, values: Tensor) -> Tensor:
        top, left, bottom, right = self.inner
        size = self._of(torch.empty(self.size, device="meta")).shape
        inside = values[:, top:bottom, left:right].float()
        return F.interpolate(inside[None], tuple(size), mode="bilinear", antialias=True)[0]

    def _on_background(self, ids: Tensor) -> Tensor:
        whole = torch.zeros(self.size, dtype=ids.dtype)
        self._of(whole)[...] = ids
        return whole


@dataclass(frozen=True)
class Placed:
    """What a batch says of its items.

    Attributes:
        input: Height and width of what the network saw; None where that was no image.
        places: A place an item; none where the batch does not tell them.
    """

    input: tuple[int, int] | None
    places: list[Place]

    @classmethod
    def of(cls, batch: Any) -> "Placed":
        """That of a batch with `image` or `source` and the keys that say where it lies."""
        if not isinstance(batch, Mapping):
            return cls(None, [])
        seen = batch.get("image", batch.get("source"))
        size = (seen.shape[-2], seen.shape[-1]) if isinstance(seen, Tensor) else None
        keys = ("original_size", "original_box", "network_box")
        if size is None or not all(key in batch for key in keys):
            return cls(size, [])
        rows = zip(*(batch[key].tolist() for key in keys), strict=True)
        return cls(size, [Place(*map(tuple, row)) for row in rows])

    def fits(self, value: Tensor) -> bool:
        """Whether a result has the size of what the network saw, so that it can be put back."""
        return tuple(value.shape[-2:]) == self.input
