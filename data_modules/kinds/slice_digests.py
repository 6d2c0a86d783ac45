"""The contents of the files that MR slices are cut from."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from data_modules.kinds.slice_cuts import SliceItem
from data_modules.kinds.told import ToldItems
from data_modules.listing.scan_names import ScanNames
from data_modules.reading.io import read_bytes


class FileDigests:
    """SHA-256 of files, each read once.

    Args:
        root: Paths are relative to it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, str] = {}

    def of(self, path: str) -> str:
        """That of a file."""
        if path not in self._known:
            self._known[path] = hashlib.sha256(read_bytes(self._root / path)).hexdigest()
        return self._known[path]

    def of_item(self, item: SliceItem) -> tuple[str, ...]:
        """Those of each file that a slice is cut from."""
        return tuple(self.of(cut.scan.path) for cut in item.cuts.values())

    def of_splits(self, splits: Mapping[str, Sequence[SliceItem]]) -> dict[str, dict[str, str]]:
        """Those of each file of each split."""
        return {
            name: {
                path: self.of(path)
                for path in sorted({c.scan.path for item in own for c in item.cuts.values()})
            }
            for name, own in splits.items()
        }


class TellsSlices(ToldItems):
    """A data module of slices, as far as it tells of them by subject and file."""

    _digests: FileDigests

    @classmethod
    @abstractmethod
    def names(cls) -> ScanNames:
        """How the files of the data set are named."""

    def digests_of(self, item: SliceItem) -> tuple[str, ...]:
        """SHA-256 of each file that a slice is cut from."""
        return self._digests.of_item(item)

    @classmethod
    def has_official_names(cls, paths: Iterable[str]) -> bool:
        """Whether all are of official subjects."""
        return all(cls.names().subject.match(PurePosixPath(path).name) for path in paths)
