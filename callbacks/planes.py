"""Predicted planes, kept until the last one is there and then written as volumes."""

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks.files import atomic_write
from callbacks.manifest import PredictedItem, read_lines
from callbacks.sources import WritesVolumes

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Planes:
    """The planes of volumes in a folder of predictions.

    Any process writes planes; they lie in a hidden folder until all processes are done, so that an
    interrupted run has those that it need not make again.

    Attributes:
        folder: The folder of predictions.
        items: Of the data set.
    """

    folder: Path
    items: Sequence[PredictedItem]

    def keep(self, index: int, key: str, plane: npt.NDArray[Any]) -> str:
        """Keeps a plane (rows, columns) of an item, and says which volume file it goes into."""
        with atomic_write(self._file(index, key), flush=False) as file:
            np.save(file, plane)
        return f"{self.items[index].volume}_{key}.nii.gz"

    def held(self) -> set[int]:
        """The items that are listed and whose files, planes or whole volumes are there."""
        lines = read_lines(self.folder)
        listed = {line["index"] for line in lines}
        missing = {
            item.volume for index, item in enumerate(self.items) if index not in listed
        }  # a volume file that lacks planes is made anew, with all of them
        return {
            line["index"]
            for line in lines
            if all((self.folder / file).is_file() for file in line["files"])
            and all(self._has(line, volume, missing) for volume in line["volumes"])
        }

    def _has(self, line: Line, volume: str, missing: set[str | None]) -> bool:
        if self._file(line["index"], _key(volume)).is_file():
            return True
        whole = self.items[line["index"]].volume not in missing
        return whole and (self.folder / volume).is_file()

    def write_volumes(self, data: object, rank: int, world: int) -> None:
        """Writes this process's share of the volumes; all processes have written their planes.

        Args:
            data: The data module.
            rank: Number of this process.
            world: How many there are.
        """
        if not isinstance(data, WritesVolumes):
            return
        members: dict[str, list[Line]] = defaultdict(list)
        for line in read_lines(self.folder):
            for volume in line["volumes"]:
                members[volume].append(line)
        for volume in sorted(members)[rank::world]:
            files = {
                line["plane"]: self._file(line["index"], _key(volume)) for line in members[volume]
            }
            planes = {plane: np.load(file) for plane, file in files.items() if file.is_file()}
            if not planes:  # the volume was written by the run that is continued
                continue
            with atomic_write(self.folder / volume) as out:
                data.write_volume(members[volume][0]["source"], planes, out)

    def clear(self) -> None:
        """Removes the planes, which are in the volumes now."""
        shutil.rmtree(self.folder / ".planes", ignore_errors=True)

    def _file(self, index: int, key: str) -> Path:
        return self.folder / ".planes" / f"{index:06d}_{key}.npy"


def _key(volume: str) -> str:
    """What a volume file holds, by its name."""
    return volume.removesuffix(".nii.gz").rpartition("_")[2]
