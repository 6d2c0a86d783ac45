"""Splits by group (patient, lesion, slide), stable under added data.

Where a group goes depends on its own id and the seed alone, so that new data moves no old image
from one split to another. Identical files in two groups tie the groups together.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from data_modules.errors import DataError

Split: TypeAlias = Literal["train", "val", "test"]


def position(group: str, seed: int) -> float:
    """Where a group lies in [0, 1): a hash of its id and the seed, the same on every machine."""
    digest = hashlib.sha256(f"{seed}\0{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def tie_groups(groups: Sequence[str], digests: Sequence[str]) -> list[str]:
    """Joins groups that share a file.

    Args:
        groups: Group id of each item.
        digests: Content hash of each item.

    Returns:
        For each item the first id, in alphabetical order, of all groups tied to its own.
    """
    parent = {group: group for group in groups}

    def find(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    seen: dict[str, str] = {}
    for group, digest in zip(groups, digests, strict=True):
        low, high = sorted((find(group), find(seen.setdefault(digest, group))))
        parent[high] = low
    return [find(group) for group in groups]


def split_groups(
    groups: Sequence[str], *, val_fraction: float, test_fraction: float, seed: int
) -> list[Split]:
    """Assigns each item to a split.

    The test groups lie at the low end of :func:`position` and the validation groups at the high
    end, so that changing one fraction leaves the other split alone. The fractions hold on average.
    A split with a fraction above 0 that no group fell into takes the training group next to its
    end, as long as another one is left.

    Args:
        groups: Group id of each item.
        val_fraction: Share of groups for validation, in [0, 1).
        test_fraction: Share of groups for test, in [0, 1).
        seed: Fixes the split.

    Returns:
        The split of each item.

    Raises:
        DataError: If the fractions are not in [0, 1) or leave nothing for training.
    """
    for field, value in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 <= value < 1:
            raise DataError(f"data.init_args.{field}: {value} given, expected 0 <= {field} < 1.")
    if val_fraction + test_fraction >= 1:
        raise DataError(
            f"data.init_args: val_fraction {val_fraction} and test_fraction {test_fraction} leave "
            "nothing for training; their sum must be below 1."
        )
    places = {group: position(group, seed) for group in set(groups)}
    split = {group: _natural(place, val_fraction, test_fraction) for group, place in places.items()}
    ends: list[tuple[Split, float, Any]] = [
        ("test", test_fraction, min),
        ("val", val_fraction, max),
    ]
    for wanted, fraction, nearest in ends:
        training = [group for group in places if split[group] == "train"]
        if fraction > 0 and wanted not in split.values() and len(training) > 1:
            split[nearest(training, key=places.__getitem__)] = wanted
    return [split[group] for group in groups]


def _natural(place: float, val_fraction: float, test_fraction: float) -> Split:
    if place < test_fraction:
        return "test"
    return "val" if place >= 1 - val_fraction else "train"


def assert_disjoint(splits: Mapping[str, Mapping[str, str]], what: str) -> None:
    """Checks that no key is in two splits.

    Args:
        splits: For each split the items as file -> key (group id or content hash).
        what: What the key says of two files, for the error.

    Raises:
        DataError: If a key is in two splits; names up to ten pairs of files.
    """
    pairs = leaks(splits)
    if not pairs:
        return
    shown = [f"  - {a} and {b}" for a, b in pairs[:10]]
    if len(pairs) > 10:
        shown.append(f"  ... and {len(pairs) - 10} more")
    raise DataError(
        f"{len(pairs)} {what} in two splits:\n" + "\n".join(shown) + "\n"
        "List one file of each pair in a text file given as data.init_args.exclude_file."
    )


def leaks(splits: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str]]:
    """Pairs of files, of two splits, with the same key."""
    found: list[tuple[str, str]] = []
    first: dict[str, tuple[str, str]] = {}
    for split, files in splits.items():
        for file, key in files.items():
            other_split, other_file = first.setdefault(key, (split, file))
            if other_split != split:
                found.append((other_file, file))
    return found
