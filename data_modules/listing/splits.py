"""Splits by group (patient, lesion, slide), stable under added data.

Where a group goes depends on its own id and the seed alone, so that new data moves no old image
from one split to another. Identical files in two groups tie the groups together.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from data_modules.errors import DataError

Split: TypeAlias = Literal["train", "val", "test"]


@dataclass(frozen=True)
class SplitPlan:
    """How the images of a data set are shared out.

    Attributes:
        val_fraction: Share of the groups for validation, where `num_train` is not given.
        test_fraction: Share of the groups for test, where `num_train` is not given.
        num_train: Number of training images; the others are for validation and test.
        num_val: Number of validation images; None keeps all.
        num_test: Number of test images; None keeps all.
        seed: Fixes the split.
        official_val: Whether there is an official validation set.
        official_test: Whether there is an official test set.
    """

    val_fraction: float = 0.0
    test_fraction: float = 0.0
    num_train: int | None = None
    num_val: int | None = None
    num_test: int | None = None
    seed: int = 0
    official_val: bool = False
    official_test: bool = False

    @property
    def halves_test(self) -> bool:
        """Whether the official test set is halved into validation and test."""
        return self.num_train is not None and self.official_test and not self.official_val


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


def require_training(val_fraction: float, test_fraction: float) -> None:
    """Raises DataError where fractions leave nothing for training, unless all is for test."""
    if test_fraction < 1 <= val_fraction + test_fraction:
        raise DataError(
            f"data.init_args: val_fraction {val_fraction} and test_fraction {test_fraction} leave "
            "nothing for training; their sum must be below 1 (test_fraction 1: all is for test)."
        )


def split_groups(
    groups: Sequence[str], *, val_fraction: float, test_fraction: float, seed: int
) -> list[Split]:
    """Assigns each item to a split.

    The test groups lie at the low end of `position` and the validation groups at the high
    end, so that changing one fraction leaves the other split alone. The fractions hold on average.
    A split with a fraction above 0 that no group fell into takes the training group next to its
    end, as long as another one is left.

    Args:
        groups: Group id of each item.
        val_fraction: Share of groups for validation, in [0, 1).
        test_fraction: Share of groups for test, in [0, 1]; 1 leaves none to the others.
        seed: Fixes the split.

    Returns:
        The split of each item.
    """
    if test_fraction == 1:
        return ["test"] * len(groups)
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


def take_groups(groups: Sequence[str], num: int, seed: int) -> list[bool]:
    """Takes whole groups, in the order of `position`, until they make up `num` items.

    A group that would make them more is passed over.

    Args:
        groups: Group id of each item.
        num: Number of training images.
        seed: Fixes the choice.

    Returns:
        Whether each item is taken.

    Raises:
        DataError: If there are fewer items, or whole groups do not make up that number.
    """
    field = "data.init_args.num_train_samples"
    if num > len(groups):
        raise DataError(
            f"{field}: {num} given, but there are {len(groups)} images to take them from.\n"
            f"Give at most {len(groups)}, or more data."
        )
    taken: set[str] = set()
    count = 0
    for group, size in _in_order(groups, seed):
        if count + size <= num:
            taken.add(group)
            count += size
    if count < num:
        raise DataError(
            f"{field}: {num} given, but whole groups make up {count} images: images of one patient "
            f"or lesion stay together.\nGive {count}, or another data.init_args.split_seed."
        )
    return [group in taken for group in groups]


def halve_groups(groups: Sequence[str], seed: int) -> list[Split]:
    """Shares groups out between validation and test so that both get as many items.

    In the order of `position` each group goes where there are fewer items so far, first to
    test; an odd item is therefore a test item.

    Args:
        groups: Group id of each item.
        seed: Fixes the halves.

    Returns:
        The split of each item.
    """
    split: dict[str, Split] = {}
    counts: dict[Split, int] = {"val": 0, "test": 0}
    for group, size in _in_order(groups, seed):
        split[group] = "val" if counts["val"] < counts["test"] else "test"
        counts[split[group]] += size
    return [split[group] for group in groups]


def _in_order(groups: Iterable[str], seed: int) -> list[tuple[str, int]]:
    """Groups and their sizes in the order of `position`."""
    return sorted(Counter(groups).items(), key=lambda item: (position(item[0], seed), item[0]))


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
