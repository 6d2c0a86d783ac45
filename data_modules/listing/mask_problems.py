"""Masks that do not fit their images, or whose values are none that a mask has."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from data_modules.listing.items import Item, Problem
from data_modules.listing.records import FileRecord, Records
from data_modules.reading.io import exif_orientation
from data_modules.reading.options import Orientation

_MAX_CLASS_ID = 64  # more distinct ids than any data set here: larger values are taken for greys
_REMEDY = (
    "They come from JPEG or from smooth resizing: save the mask as PNG, each pixel above 127 as "
    "255 and the others as 0"
)
_RESAVE = f"expected 0 and 255, or class ids. {_REMEDY}"
_RESAVE_BINARY = f"expected 0 and one other value. {_REMEDY}"


def mask_problems(
    root: Path,
    items: Iterable[Item],
    records: Records,
    *,
    num_classes: int,
    size_free: bool,
    orientation: Orientation = "stored",
) -> list[Problem]:
    """Masks that do not fit their images, or whose values are none that a mask has.

    Args:
        root: Folder of the data set.
        items: Where masks are missing or unreadable, nothing is said of them.
        records: Of their files.
        num_classes: Background included.
        size_free: Whether masks may have another size than their images.
        orientation: As in `Reading`.
    """
    items = list(items)
    return (
        _unequal_sizes(root, items, records, size_free, orientation)
        + _value_problems(mask_values(items, records), num_classes)
        + _part_problems(items, records, num_classes)
    )


def _unequal_sizes(
    root: Path,
    items: Iterable[Item],
    records: Records,
    size_free: bool,
    orientation: Orientation,
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
        if not size_free and size == mask_size[::-1]:
            text += _of_tags(root / whole, root / wrong[0], orientation)
        problems.append(Problem("size", whole, text))
    return problems


def _of_tags(image: Path, mask: Path, orientation: Orientation) -> str:
    """What orientation tags have to do with it that a mask lies across its image."""
    turned = [
        f"the {what} has EXIF orientation {tag}"
        for what, tag in (("image", exif_orientation(image)), ("mask", exif_orientation(mask)))
        if tag > 4
    ]
    if not turned:
        return ""
    other = "upright" if orientation == "stored" else "stored"
    done = "which is not applied" if orientation == "stored" else "which is applied"
    return (
        f" ({' and '.join(turned)}, {done}: set data.init_args.orientation to {other}, or save "
        "both upright, without the tag)"
    )


def _size(record: FileRecord) -> tuple[int, int]:
    return record.width, record.height


def mask_values(items: Iterable[Item], records: Records) -> dict[str, tuple[int, ...]]:
    """The values of each readable mask that says the class of each pixel itself."""
    paths = (part.path for item in items for part in item.masks if part.label is None)
    return {path: records[path].values for path in paths if path in records}


def _part_problems(items: Iterable[Item], records: Records, num_classes: int) -> list[Problem]:
    """Masks of one class that are not binary, or whose class does not fit `num_classes`."""
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


def _value_problems(masks: Mapping[str, tuple[int, ...]], num_classes: int) -> list[Problem]:
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
        two = num_classes == 2 and set().union(*masks.values()) <= {0, top}
        white = f", or, where {top} is white, save the masks with 0 and 255" if two else ""
        problems.append(
            Problem(
                "values",
                mask,
                f"holds class {top}{_others(len(ids))}, but data.init_args.num_classes is "
                f"{num_classes}; set it to {top + 1}{white}",
            )
        )
    return problems or _coding_problems(masks, num_classes)


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
