"""Which file an item of the data came from."""

from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol, runtime_checkable

import numpy.typing as npt
from lightning.pytorch import Trainer


@runtime_checkable
class NamesItems(Protocol):
    """A data module that knows which file an item came from."""

    def item_path(self, split: str, index: int) -> str:
        """Returns what names an item: its path relative to the data root, or made from that."""
        ...


@runtime_checkable
class NamesSources(Protocol):
    """A data module whose items may be planes of a file."""

    def item_source(self, split: str, index: int) -> tuple[str, int | None]:
        """Returns the file, relative to the data root, and the plane, where it has any."""
        ...


@runtime_checkable
class WritesVolumes(Protocol):
    """A data module that puts planes together to volumes."""

    def is_volume(self, source: str) -> bool:
        """Returns whether a file, relative to the data root, is one whose planes items are."""
        ...

    def write_volume(
        self, source: str, planes: Mapping[int | None, npt.NDArray[Any]], out: BinaryIO
    ) -> None:
        """Writes planes (rows, columns) as NIfTI on the grid of the volume that they are of."""
        ...


def source_of(trainer: Trainer, split: str, index: int) -> str | None:
    """An item's path relative to the data root; None where the data module names none."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    return data.item_path(split, index) if isinstance(data, NamesItems) else None
