"""The contents of the files that MR slices are cut from."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_modules.kinds.slice_cuts import SliceItem
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
