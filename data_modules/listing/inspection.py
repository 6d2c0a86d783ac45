"""From listed files to splits, and the errors on the way."""

from collections.abc import Sequence
from pathlib import Path

from data_modules.errors import DataError
from data_modules.listing.items import Item, Listing, Part, Problem
from data_modules.listing.records import Records
from data_modules.listing.splits import (
    Split,
    SplitPlan,
    assert_disjoint,
    halve_groups,
    position,
    split_groups,
    take_groups,
    tie_groups,
)

_SHOWN = 10
_ADVICE = {
    "test": "Test images have to be held out by the fit. Images that no fit saw, in a folder of "
    "their own:\n  --data.init_args.root DIR --data.init_args.test_split all\n"
    "The same folder: fit anew with --data.init_args.test_fraction 0.2 (or num_train_samples), and "
    "test that run.",
    "val": "Validation images have to be held out by the fit: fit anew with "
    "--data.init_args.val_fraction 0.1, and validate that run.",
    "predict": "Set data.init_args.predict_split to another split, or to all.",
}
_REPAIR = (
    "Repair the files, or list their names in a text file given as data.init_args.exclude_file."
)


def needed_parts(stage: str, listing: Listing, plan: SplitPlan, predict_split: str) -> list[Part]:
    """The parts whose files a stage reads.

    An official test set without masks does not keep a run from training.

    Args:
        stage: `fit`, `validate`, `test` or `predict`.
        listing: All parts.
        plan: How they are shared out.
        predict_split: What `predict` goes over.
    """
    pool, val, test = listing.pool, listing.val, listing.test
    wanted = predict_split if stage == "predict" else {"validate": "val"}.get(stage, stage)
    if wanted == "val" and plan.halves_test:
        wanted = "test"
    if wanted == "test":
        return [test] if test is not None else [pool]
    if wanted == "val":
        return [val] if val is not None else [pool]
    official = [part for part in (val, test) if part is not None]
    if wanted == "all":
        return [pool, *official]
    if wanted == "train":
        return [pool]
    return [pool, *(part for part in official if part.labelled)]


def labelled_parts(listing: Listing) -> list[Part]:
    """The parts that a test of all images reads: those with masks, or the pool where none has."""
    return [part for part in listing.parts if part.labelled] or [listing.pool]


def raise_problems(problems: Sequence[Problem], name: str, root: Path) -> None:
    """Raises one DataError for all problems, if there are any; shows the first ten."""
    if not problems:
        return
    lines = [f"  - {problem}" for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"  ... and {len(problems) - _SHOWN} more")
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise DataError(
        f"{count} in the data under {root}:\n" + "\n".join(lines) + "\n"
        f"All of them: lightning check {name} --root {root}"
        + ("" if all(problem.kind == "values" for problem in problems) else f"\n{_REPAIR}")
    )


def assign_splits(
    pool: Part, val: Part | None, test: Part | None, records: Records, plan: SplitPlan
) -> dict[str, list[Item]]:
    """Items of `train`, `val` and `test`.

    Args:
        pool: What is split.
        val: Official validation set.
        test: Official test set.
        records: Of the images.
        plan: How they are shared out.

    Raises:
        DataError: If the plan cannot be kept.
    """
    splits: dict[str, list[Item]] = {"train": [], "val": [], "test": []}
    for item, split in zip(pool.items, _split_pool(pool, records, plan), strict=True):
        if split is not None:
            splits[split].append(item)
    splits["val"] += val.items if val is not None else []
    if test is not None and plan.halves_test:
        halves = halve_groups(_tied(test.items, records), plan.seed)
        for item, half in zip(test.items, halves, strict=True):
            splits[half].append(item)
    elif test is not None:
        splits["test"] += test.items
    for name, num in (("val", plan.num_val), ("test", plan.num_test)):
        splits[name] = _first(splits[name], num, f"num_{name}_samples", plan)
    return splits


def whole_test(items: list[Item], plan: SplitPlan) -> dict[str, list[Item]]:
    """Splits in which all items are for test, up to the number that is asked for."""
    return {"train": [], "val": [], "test": _first(items, plan.num_test, "num_test_samples", plan)}


def _tied(items: Sequence[Item], records: Records) -> list[str]:
    return tie_groups([i.group for i in items], [records[i.image].digest for i in items])


def _split_pool(pool: Part, records: Records, plan: SplitPlan) -> Sequence[Split | None]:
    """The split of each item of the pool; None: of no split."""
    groups = _tied(pool.items, records)
    if plan.num_train is None:
        return split_groups(
            groups,
            val_fraction=plan.val_fraction,
            test_fraction=plan.test_fraction,
            seed=plan.seed,
        )
    if not groups:  # a stage that reads the official sets alone
        return []
    taken = take_groups(groups, plan.num_train, plan.seed)
    left = [group for group, is_taken in zip(groups, taken, strict=True) if not is_taken]
    rest: Sequence[Split | None]
    if plan.official_test:
        rest = [None] * len(left)
    elif plan.official_val:
        rest = ["test"] * len(left)
    else:
        rest = halve_groups(left, plan.seed)
    others = iter(rest)
    return ["train" if is_taken else next(others) for is_taken in taken]


def _first(items: list[Item], num: int | None, field: str, plan: SplitPlan) -> list[Item]:
    """The first items by the position of their groups, in the order that they had."""
    if num is None or not items:
        return items
    if num > len(items):
        raise DataError(
            f"data.init_args.{field}: {num} given, but there are {len(items)} images for it.\n"
            f"Give at most {len(items)}, or more data"
            + ("." if plan.num_train else ", or change the fraction that is held out.")
        )
    order = sorted(items, key=lambda item: (position(item.group, plan.seed), item.image))
    kept = set(order[:num])
    return [item for item in items if item in kept]


def require_items(
    stage: str,
    splits: dict[str, list[Item]],
    plan: SplitPlan,
    *,
    predict_split: str,
    root: Path,
) -> None:
    """Checks that no split that a stage goes over is empty.

    Raises:
        DataError: If one is; says how many images there are, and what to change.
    """
    wanted = [{"fit": "train", "validate": "val", "test": "test"}.get(stage, predict_split)]
    if stage == "fit" and plan.num_val is not None:
        wanted.append("val")
    empty = next((split for split in wanted if not splits[split]), None)
    if empty is None:
        return
    groups = {i.group for items in splits.values() for i in items}
    total = sum(map(len, splits.values()))
    samples = "training samples" if empty == "train" else f"images in the {empty} split"
    shares = f"val_fraction {plan.val_fraction} and test_fraction {plan.test_fraction}"
    fields = "val_fraction or test_fraction"
    if plan.num_train is not None:
        shares, fields = f"num_train_samples {plan.num_train}", "num_train_samples"
    advice = f"Change data.init_args.{fields}, or give more data."
    if stage != "fit":
        # Other shares of the same images would make test images of those that were trained on.
        advice = _ADVICE[empty if stage != "predict" else "predict"]
    raise DataError(
        f"0 {samples} under {root}: {total} images in {len(groups)} groups, with {shares}.\n"
        f"{advice}"
    )


def require_official_disjoint(splits: dict[str, list[Item]], records: Records) -> None:
    """Checks that no file is in two splits; the hash of its bytes decides.

    Raises:
        DataError: If one is; names the files.
    """
    assert_disjoint(
        {s: {i.image: records[i.image].digest for i in items} for s, items in splits.items()},
        "identical files",
    )
