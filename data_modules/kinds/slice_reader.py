"""Slices of MR scans: what to cut from which file, reading it once, and the torch data set."""

import hashlib
import io
import json
import os
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from data_modules.errors import CorruptImageError, DataError
from data_modules.kinds.slice_cuts import Cut, SliceItem, Stack
from data_modules.listing.items import Problem
from data_modules.listing.scans import Scan
from data_modules.reading.io import read_bytes, read_image
from data_modules.reading.memory import lacking_memory
from data_modules.reading.nifti import files_of, read_volume, turned
from data_modules.reading.options import AS_STORED, Reading
from data_modules.reading.registration import register_rigid
from data_modules.reading.user_cache import cache_folder, keep
from data_modules.reading.volumes import (
    Plane,
    Spacing,
    axial_plane,
    to_square,
)

_FORMAT = 2  # of the remembered slices, and of the way they are made; another number is made anew
_THREADS = 8  # each may hold some volumes of 40 MB
# What NumPy and zipfile raise on a damaged file, or one whose header declares too much.
_DAMAGED_ARRAYS = (
    *(OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error),
    *(MemoryError, OverflowError, NotImplementedError, RuntimeError),
)
_REGISTERING = threading.Lock()  # SimpleITK's number of threads is one for the whole process


@dataclass
class SliceReader:
    """Reads planes and keeps them, in memory and in the user's cache directory.

    Volumes are clipped at two percentiles of all their voxels, single slices of NumPy or NIfTI
    files at their own, and 8- and 16-bit pictures taken over the full range of their type.

    Attributes:
        root: Paths are relative to it.
        image_size: Height and width of the slices.
        percentiles: Of the clip, from 0 to 100.
        reading: How pictures are read.
    """

    root: Path
    image_size: int
    percentiles: tuple[float, float]
    reading: Reading = AS_STORED
    _known: dict[Cut, Stack] = field(default_factory=dict)

    def read(self, items: Iterable[SliceItem]) -> tuple[dict[Cut, Stack], list[Problem]]:
        """The planes of some items, and what cannot be used."""
        cuts = list(dict.fromkeys(cut for item in items for cut in item.cuts.values()))
        problems: list[Problem] = []
        found: dict[Cut, Stack] = {}
        with ThreadPoolExecutor(min(os.cpu_count() or 1, _THREADS)) as pool:
            for cut, result in zip(cuts, pool.map(self._attempt, cuts), strict=True):
                if isinstance(result, Problem):
                    problems.append(result)
                else:
                    found[cut] = result
        return found, problems

    def _attempt(self, cut: Cut) -> Stack | Problem:
        try:
            return self._read(cut)
        except DataError as error:
            text = str(error).removeprefix(f"{self.root / cut.scan.path}: ")
            kind: Literal["unreadable", "values"] = (
                "unreadable" if isinstance(error, CorruptImageError) else "values"
            )
            return Problem(kind, cut.scan.path, f"subject {cut.scan.subject}: {text}")

    def _read(self, cut: Cut) -> Stack:
        path = self.root / cut.scan.path
        if cut.scan.problem is not None:
            raise CorruptImageError(path, cut.scan.problem)
        if cut in self._known:
            return self._known[cut]
        kept = None if cut.scan.flat else self._cache_file(cut)
        stack = None if kept is None else _recall(kept)
        if stack is None:
            stack = self._single(path, cut.scan) if cut.scan.flat else self._planes(path, cut)
            if kept is not None:
                _remember(kept, stack)
        self._known[cut] = stack
        return stack

    def _single(self, path: Path, scan: Scan) -> Stack:
        plane, spacing = _read_single(path, scan, self.reading)
        if path.suffix.lower() != ".png":
            plane = _scaled(plane, *self._range(plane))
        return self._stack([plane], spacing, lambda _: "the slice")

    def _planes(self, path: Path, cut: Cut) -> Stack:
        volume, grid = read_volume(path), cut.scan.grid
        low, high = self._range(volume)
        if cut.onto is not None:
            fixed = self.root / cut.onto.path
            with _REGISTERING:
                moved, affine = register_rigid(fixed, path)
            volume, grid = turned(moved, affine), cut.onto.grid
        if grid is None:
            raise CorruptImageError(path, "is no volume")
        found = [axial_plane(volume, grid, index) for index in cut.indices]
        return self._stack(
            [_scaled(plane, low, high) for plane, _ in found],
            found[0][1],
            lambda row: f"axial slice {cut.indices[row]}",
        )

    def _range(self, values: Plane) -> tuple[float, float]:
        low, high = np.percentile(values, self.percentiles).tolist()
        if low >= high:
            raise DataError(
                f"is constant: its percentiles {self.percentiles[0]:g} and "
                f"{self.percentiles[1]:g} are both {low:g}; leave the file out "
                "(data.init_args.exclude_file), or change data.init_args.percentiles"
            )
        return low, high

    def _stack(self, planes: list[Plane], spacing: Spacing, name: Callable[[int], str]) -> Stack:
        for row, plane in enumerate(planes):
            if plane.min() == plane.max():
                raise DataError(
                    f"{name(row)} is constant; leave the file out (data.init_args.exclude_file), "
                    "or change data.init_args.slices where it is of a volume"
                )
        squares = [to_square(plane, spacing, self.image_size) for plane in planes]
        images = np.clip(np.stack(squares), 0, 1) * np.float32(255)
        return Stack(images, planes[0].shape, spacing)

    def _cache_file(self, cut: Cut) -> Path:
        files = [cut.scan] if cut.onto is None else [cut.scan, cut.onto]
        stamps = []
        for path in (file for scan in files for file in files_of(self.root / scan.path)):
            try:
                status = path.stat()
            except OSError as error:
                raise CorruptImageError(path, f"cannot be read ({error.strerror})") from error
            stamps.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
        settings = [_FORMAT, stamps, cut.indices, self.image_size, self.percentiles]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:32]
        return cache_folder() / "slices" / f"{key}.npz"


def _read_single(path: Path, scan: Scan, reading: Reading) -> tuple[Plane, Spacing]:
    """A plane in its own units, or in [0, 1] for pictures."""
    if scan.grid is not None:
        return axial_plane(read_volume(path), scan.grid, None)
    if path.suffix.lower() == ".npz":
        return _read_npz(path), (1.0, 1.0)
    picture = read_image(path, reading=reading)
    if any(not np.array_equal(picture[..., 0], picture[..., k]) for k in range(picture.shape[-1])):
        raise CorruptImageError(path, "is a colour image; MR slices are grey: save one channel")
    top = 255 if picture.dtype == np.uint8 else 65535
    return picture[..., 0].astype(np.float32) / np.float32(top), (1.0, 1.0)


def _read_npz(path: Path) -> Plane:
    data = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as members:
            sizes = [member.file_size for member in members.infolist()]
        if lack := lacking_memory(sum(sizes) + max(sizes, default=0)):
            raise CorruptImageError(path, f"declares arrays whose content {lack}")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = [arrays[name] for name in arrays.files]
    except _DAMAGED_ARRAYS as error:
        raise CorruptImageError(path, f"cannot be read as NumPy arrays ({error})") from error
    if len(found) != 1:
        raise CorruptImageError(path, f"holds {len(found)} arrays; save one slice a file")
    array = found[0]
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "iufb":
        reason = f"holds {array.dtype} numbers of shape {array.shape}; expected (height, width)"
        raise CorruptImageError(path, reason)
    plane: Plane = array.astype(np.float32)
    bad = int(plane.size - np.isfinite(plane).sum())
    if bad:
        raise CorruptImageError(path, f"holds {bad} pixels that are NaN or infinite; set them to 0")
    return plane


def _scaled(plane: Plane, low: float, high: float) -> Plane:
    """Clips to a range and maps it to [0, 1]."""
    scaled: Plane = np.clip((plane - np.float32(low)) / np.float32(high - low), 0, 1)
    return scaled


def _recall(file: Path) -> Stack | None:
    try:
        with np.load(file, allow_pickle=False) as held:
            rows, columns = held["spacing"].tolist()
            return Stack(held["images"], tuple(held["shape"].tolist()), (rows, columns))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _remember(file: Path, stack: Stack) -> None:
    keep(
        file,
        lambda out: np.savez(out, images=stack.images, shape=stack.shape, spacing=stack.spacing),
    )
