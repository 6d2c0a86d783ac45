"""What a data module says of the items of its splits: names, sources, what tells them again."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from data_modules.listing.traces import Trace


class Named(Protocol):
    """An item of a split."""

    @property
    def path(self) -> str:
        """What names it: its file relative to the root, or made from that."""
        ...

    @property
    def group(self) -> str:
        """What a split does not tear apart."""
        ...

    @property
    def source(self) -> tuple[str, int | None]:
        """The file it is read from, relative to the root, and the plane of it, where it has any."""
        ...


class Inspected(Protocol):
    """What a data module found when it read the files of a stage."""

    @property
    def splits(self) -> Mapping[str, Sequence[Named]]:
        """The items of each split."""
        ...


class ToldItems(ABC):
    """A data module, as far as it tells of its items."""

    _splits: Mapping[str, Sequence[Named]]

    @abstractmethod
    def digests_of(self, item: Any) -> tuple[str, ...]:
        """SHA-256 of each file that an item of a split is read from, masks aside."""

    @classmethod
    def has_official_names(cls, paths: Iterable[str]) -> bool:
        """Whether the paths of items mean the same images in every root.

        So it is where the data set names its files; where a user does, another root may hold other
        images of these names.
        """
        return True

    def split_table(self) -> dict[str, list[str]]:
        """The items of each split, as `item_path` names them, after `setup`."""
        return {split: [item.path for item in items] for split, items in self._splits.items()}

    def traces(self) -> dict[str, list[Trace]]:
        """What tells the items of each split again, after `setup`."""
        return {
            split: [
                Trace(item.path, self.group_of_item(item), self.digests_of(item)) for item in own
            ]
            for split, own in self._splits.items()
        }

    def group_of_item(self, item: Named) -> str | None:
        """What a split does not tear apart; None where that is but the name of the image."""
        return item.group

    def item_path(self, split: str, index: int) -> str:
        """What names an item: its file relative to the root, or a slice of that volume.

        Args:
            split: `train`, `val`, `test` or `predict`.
            index: As in the batch.
        """
        return self._splits[split][index].path

    def item_source(self, split: str, index: int) -> tuple[str, int | None]:
        """The file that an item is read from, relative to the root, and its plane in that file.

        Args:
            split: `train`, `val`, `test` or `predict`.
            index: As in the batch.

        Returns:
            Path, with forward slashes, and the axial plane from 0 upwards; None where the file is
            one image.
        """
        return self._splits[split][index].source
