"""What is wrong with how the files of a data set are split, for `lightning check`."""

from collections.abc import Iterable
from pathlib import Path

from data_modules.errors import DataError
from data_modules.listing.inspection import assign_splits
from data_modules.listing.items import Item, Listing, Part, Problem
from data_modules.listing.records import Records
from data_modules.listing.splits import SplitPlan, leaks


def split_problems(
    root: Path, listing: Listing, records: Records, plan: SplitPlan
) -> list[Problem]:
    """Files of the same content or group that are in two splits, and splits that cannot be made.

    Args:
        root: Folder of the data set.
        listing: Its items; those that cannot be read are left out.
        records: Of the readable files.
        plan: How the images are shared out.
    """
    items = [item for part in listing.parts for item in part.items]
    problems = _duplicates(items, records)
    pool = _readable(listing.pool, records)
    try:
        splits = assign_splits(
            pool,
            None if listing.val is None else _readable(listing.val, records),
            None if listing.test is None else _readable(listing.test, records),
            records,
            plan,
        )
    except DataError as error:
        return [*problems, Problem("split", str(root), str(error))]
    if pool.items and not splits["train"]:
        problems.append(Problem("split", str(root), "0 training samples after the split"))
    return problems + _leaks(splits, records)


def _readable(part: Part, records: Records) -> Part:
    return Part([item for item in part.items if item.image in records])


def _duplicates(items: Iterable[Item], records: Records) -> list[Problem]:
    """Images of identical bytes, one problem for each set of them."""
    same: dict[str, list[str]] = {}
    for item in items:
        if item.image in records:
            same.setdefault(records[item.image].digest, []).append(item.image)
    return [
        Problem("duplicate", files[0], f"has the same content as {', '.join(files[1:])}")
        for files in same.values()
        if len(files) > 1
    ]


def _leaks(splits: dict[str, list[Item]], records: Records) -> list[Problem]:
    by_digest = {s: {i.image: records[i.image].digest for i in v} for s, v in splits.items()}
    by_group = {s: {i.image: i.group for i in v} for s, v in splits.items()}
    pairs = [(a, b, "the same content") for a, b in leaks(by_digest)]
    known = {(a, b) for a, b, _ in pairs}
    pairs += [(a, b, "the same group") for a, b in leaks(by_group) if (a, b) not in known]
    return [Problem("leak", b, f"is in another split than {a}, of {what}") for a, b, what in pairs]
