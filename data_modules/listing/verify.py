"""Reads every file of a data set once and remembers what it found.

A record is kept as long as size and modification time of the file stay the same. It lies in the
user's cache directory: a data root may be read-only.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np

from data_modules.errors import CorruptImageError, DataError
from data_modules.listing.items import Item, Problem
from data_modules.listing.records import FileRecord, Records, Role
from data_modules.reading.io import read_bytes, read_image, read_mask
from data_modules.reading.options import AS_STORED, RULES, Reading
from data_modules.reading.user_cache import cache_folder, keep

_FORMAT = 2  # of the remembered file; another number is read anew


def read_whole(path: Path, role: Role, reading: Reading = AS_STORED) -> FileRecord:
    """Reads a file whole.

    Args:
        path: The file.
        role: What it is.
        reading: How it is read.

    Raises:
        DataError: If it cannot be read.
    """
    data = read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    if role == "mask":
        mask = read_mask(path, data, reading=reading)
        values = tuple(int(v) for v in np.unique(mask))
        height, width = mask.shape
        return FileRecord(digest, height, width, mask.dtype != np.uint8, values)
    image = read_image(path, data, reading=reading)
    height, width = image.shape[:2]
    return FileRecord(digest, height, width, image.dtype != np.uint8, ())


def verify(
    root: Path, files: Mapping[str, Role], reading: Reading = AS_STORED
) -> tuple[Records, list[Problem]]:
    """Reads all files that have not been read before, in threads.

    Args:
        root: Folder of the data set.
        files: Paths relative to it, and what they are.
        reading: How they are read; what was found under another is not remembered for it.

    Returns:
        Records of the readable files, and a problem for each other one.
    """
    memory = _Memory(root, reading)
    found: Records = {}
    new: dict[str, Role] = {}
    stamps: dict[str, tuple[int, int]] = {}
    for file, role in files.items():
        stamps[file] = _stamp(root / file)
        known = memory.get(file, role, stamps[file])
        if known is None:
            new[file] = role
        else:
            found[file] = known
    problems = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = pool.map(lambda job: _attempt(root / job[0], job[1], reading), new.items())
        for (file, role), result in zip(new.items(), results, strict=True):
            if isinstance(result, FileRecord):
                found[file] = result
                memory.put(file, role, stamps[file], result)
            else:
                text = str(result).removeprefix(f"{root / file}: ")
                problems.append(Problem("unreadable", file, text))
    memory.save()
    return found, problems


def _attempt(path: Path, role: Role, reading: Reading) -> FileRecord | DataError:
    try:
        return read_whole(path, role, reading)
    except DataError as error:
        return error
    except Exception as error:
        return CorruptImageError(path, f"cannot be decoded ({type(error).__name__}: {error})")


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (-1, -1)
    return status.st_size, status.st_mtime_ns


class _Memory:
    """Records of earlier runs, one JSON file a root."""

    def __init__(self, root: Path, reading: Reading) -> None:
        self.way = f"{reading.orientation}:{reading.frame}"
        key = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:24]
        self.path = cache_folder() / f"verified-{key}.json"
        self.format = [_FORMAT, RULES]
        self.changed = False
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            self.files = dict(stored["files"]) if stored["format"] == self.format else {}
        except (OSError, ValueError, KeyError, TypeError):
            self.files = {}

    def get(self, file: str, role: Role, stamp: tuple[int, int]) -> FileRecord | None:
        entry = self.files.get(f"{role}:{self.way}:{file}")
        if entry is None or entry["stamp"] != list(stamp):
            return None
        record = dict(entry["record"])
        return FileRecord(**{**record, "values": tuple(record["values"])})

    def put(self, file: str, role: Role, stamp: tuple[int, int], record: FileRecord) -> None:
        self.files[f"{role}:{self.way}:{file}"] = {"stamp": list(stamp), "record": asdict(record)}
        self.changed = True

    def save(self) -> None:
        if self.changed:
            text = json.dumps({"format": self.format, "files": self.files})
            keep(self.path, lambda out: out.write(text.encode()))


def files_of(items: Iterable[Item], masks: bool = True) -> dict[str, Role]:
    """The files of some items, and what they are."""
    files: dict[str, Role] = {}
    for item in items:
        files[item.image] = "image"
        files |= {part.path: "mask" for part in item.masks if masks}
    return files
