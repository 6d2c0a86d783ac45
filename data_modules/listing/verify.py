"""Reads every file of a data set once and remembers what it found.

A record is kept as long as size and modification time of the file stay the same. It lies in the
user's cache directory: a data root may be read-only.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from data_modules.errors import CorruptImageError, DataError
from data_modules.listing.pairs import Item, Problem
from data_modules.reading.io import exif_orientation, read_bytes, read_image, read_mask
from data_modules.reading.user_cache import cache_folder, keep

Role: TypeAlias = Literal["image", "mask"]
Records: TypeAlias = dict[str, "FileRecord"]
_FORMAT = 1  # of the remembered file; another number is read anew
_MAX_CLASS_ID = 64  # more distinct ids than any data set here: larger values are taken for greys


@dataclass(frozen=True)
class FileRecord:
    """What is known of a file that was read whole.

    Attributes:
        digest: SHA-256 of its bytes.
        height: Pixels.
        width: Pixels.
        deep: Whether its pixels have more than 8 bits.
        values: Values that occur, of a mask; empty for an image.
    """

    digest: str
    height: int
    width: int
    deep: bool
    values: tuple[int, ...]


def read_record(path: Path, role: Role) -> FileRecord:
    """Reads a file whole.

    Raises:
        DataError: If it cannot be read.
    """
    data = read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    if role == "mask":
        mask = read_mask(path, data)
        values = tuple(int(v) for v in np.unique(mask))
        height, width = mask.shape
        return FileRecord(digest, height, width, mask.dtype != np.uint8, values)
    image = read_image(path, data)
    height, width = image.shape[:2]
    return FileRecord(digest, height, width, image.dtype != np.uint8, ())


def verify(root: Path, files: Mapping[str, Role]) -> tuple[Records, list[Problem]]:
    """Reads all files that have not been read before, in threads.

    Args:
        root: Folder of the data set.
        files: Paths relative to it, and what they are.

    Returns:
        Records of the readable files, and a problem for each other one.
    """
    memory = _Memory(root)
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
        results = pool.map(lambda job: _attempt(root / job[0], job[1]), new.items())
        for (file, role), result in zip(new.items(), results, strict=True):
            if isinstance(result, FileRecord):
                found[file] = result
                memory.put(file, role, stamps[file], result)
            else:
                text = str(result).removeprefix(f"{root / file}: ")
                problems.append(Problem("unreadable", file, text))
    memory.save()
    return found, problems


def _attempt(path: Path, role: Role) -> FileRecord | DataError:
    try:
        return read_record(path, role)
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

    def __init__(self, root: Path) -> None:
        key = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:24]
        self.path = cache_folder() / f"verified-{key}.json"
        self.changed = False
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            self.files = dict(stored["files"]) if stored["format"] == _FORMAT else {}
        except (OSError, ValueError, KeyError, TypeError):
            self.files = {}

    def get(self, file: str, role: Role, stamp: tuple[int, int]) -> FileRecord | None:
        entry = self.files.get(f"{role}:{file}")
        if entry is None or entry["stamp"] != list(stamp):
            return None
        record = dict(entry["record"])
        return FileRecord(**{**record, "values": tuple(record["values"])})

    def put(self, file: str, role: Role, stamp: tuple[int, int], record: FileRecord) -> None:
        self.files[f"{role}:{file}"] = {"stamp": list(stamp), "record": asdict(record)}
        self.changed = True

    def save(self) -> None:
        if self.changed:
            text = json.dumps({"format": _FORMAT, "files": self.files})
            keep(self.path, lambda out: out.write(text.encode()))


def files_of(items: Iterable[Item], masks: bool = True) -> dict[str, Role]:
    """The files of some items, and what they are."""
    files: dict[str, Role] = {}
    for item in items:
        files[item.image] = "image"
        files |= {part.path: "mask" for part in item.masks if masks}
    return files


def mask_problems(
    root: Path, items: Iterable[Item], records: Records, *, num_classes: int, size_free: bool
) -> list[Problem]:
    """Masks that do not fit their images, or whose values are none that a mask has.

    Args:
        root: Folder of the data set.
        items: Where masks are missing or unreadable, nothing is said of them.
        records: Of their files.
        num_classes: Background included.
        size_free: Whether masks may have another size than their images.
    """
    items = list(items)
    return (
        size_problems(root, items, records, size_free)
        + value_problems(mask_values(items, records), num_classes)
        + _part_problems(items, records, num_classes)
    )


def size_problems(
    root: Path, items: Iterable[Item], records: Records, size_free: bool = False
) -> list[Problem]:
    """Pairs of which image and mask, or two parts of a mask, differ in size."""
    problems = []
    for item in items:
        parts = [part.path for part in item.masks if part.path in records]
        whole = item.image if not size_free else next(iter(parts), item.image)
        wrong = [
            m for m in parts if whole in records and _size(records[m]) != _size(records[whole])
        ]
        if not wrong:
            continue
        size, mask_size = _size(records[whole]), _size(records[wrong[0]])
        other = "another part of the mask," if size_free else "its mask"
        text = (
            f"is {size[0]}x{size[1]} pixels, but {other} {wrong[0]} is "
            f"{mask_size[0]}x{mask_size[1]}"
        )
        if not size_free and size == mask_size[::-1] and exif_orientation(root / item.image) > 4:
            text += " (the image has an EXIF orientation tag: save it upright, without the tag)"
        problems.append(Problem("size", whole, text))
    return problems


def _size(record: FileRecord) -> tuple[int, int]:
    return record.width, record.height


def mask_values(items: Iterable[Item], records: Records) -> dict[str, tuple[int, ...]]:
    """The values of each readable mask that says the class of each pixel itself."""
    paths = (part.path for item in items for part in item.masks if part.label is None)
    return {path: records[path].values for path in paths if path in records}


def _part_problems(items: Iterable[Item], records: Records, num_classes: int) -> list[Problem]:
    """Masks of one class that are not binary, or whose class does not fit ``num_classes``."""
    label_of = {
        part.path: part.label for item in items for part in item.masks if part.label is not None
    }
    problems = []
    for path in label_of:
        values = set(records[path].values) - {0} if path in records else set()
        if len(values) > 1:
            text = f"holds grey values ({_list(sorted(values))}); {_RESAVE_BINARY}"
            problems.append(Problem("values", path, text))
    labels = set(label_of.values())
    top = max(labels, default=0)
    if top >= num_classes or (labels == {1} and num_classes != 2):
        path = next(path for path, label in label_of.items() if label == top)
        text = f"marks class {top}, but data.init_args.num_classes is {num_classes}; set it to "
        problems.append(Problem("values", path, f"{text}{top + 1}"))
    return problems


def value_problems(masks: Mapping[str, tuple[int, ...]], num_classes: int) -> list[Problem]:
    """Masks whose values are neither 0 and 255 nor class ids 0..num_classes-1 (255 = ignore).

    Args:
        masks: The values that occur in each mask.
        num_classes: Background included.
    """
    allowed = {*range(num_classes), 255}
    grey = {m: v for m, v in masks.items() if any(_MAX_CLASS_ID <= x != 255 for x in v)}
    ids = {m: v for m, v in masks.items() if m not in grey and not allowed.issuperset(v)}
    problems = [
        Problem(
            "values",
            mask,
            f"holds grey values ({_list(sorted(set(values) - {0, 255}))}); {_RESAVE}",
        )
        for mask, values in grey.items()
    ]
    if ids:
        mask = max(ids, key=lambda m: max(set(ids[m]) - {255}))
        top = max(set(ids[mask]) - {255})
        problems.append(
            Problem(
                "values",
                mask,
                f"holds class {top}{_others(len(ids))}, but data.init_args.num_classes is "
                f"{num_classes}; set it to {top + 1}",
            )
        )
    return problems or _coding_problems(masks, num_classes)


_REMEDY = (
    "They come from JPEG or from smooth resizing: save the mask as PNG, each pixel above 127 as "
    "255 and the others as 0"
)
_RESAVE = f"expected 0 and 255, or class ids. {_REMEDY}"
_RESAVE_BINARY = f"expected 0 and one other value. {_REMEDY}"


def _coding_problems(masks: Mapping[str, tuple[int, ...]], num_classes: int) -> list[Problem]:
    """Where 255 is the foreground in some masks, it must be so in all of them."""
    binary = [m for m, v in masks.items() if 255 in v and {0, 255}.issuperset(v)]
    ids = [m for m, v in masks.items() if not {0, 255}.issuperset(v)]
    if not ids and binary and num_classes != 2:
        text = (
            f"holds 0 and 255 alone{_others(len(binary))}: one class besides the background, but "
            f"data.init_args.num_classes is {num_classes}; set it to 2"
        )
        return [Problem("values", binary[0], text)]
    if ids and binary and not any(255 in masks[m] for m in ids):
        text = (
            f"marks the foreground by 255, but {ids[0]} by class ids; save all masks with class ids"
        )
        return [Problem("values", binary[0], text)]
    return []


def foreground_is_255(masks: Iterable[tuple[int, ...]]) -> bool:
    """Whether the masks of a data set hold 0 and 255 alone, so that 255 is class 1, not ignore."""
    values = set().union(*masks)
    return 255 in values and values <= {0, 255}


def _others(count: int) -> str:
    return f" (so do {count - 1} other masks)" if count > 1 else ""


def _list(values: list[int]) -> str:
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
