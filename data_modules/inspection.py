"""From listed files to splits, and the errors on the way."""

from collections.abc import Sequence
from pathlib import Path

from data_modules.errors import DataError
from data_modules.layout import Item, Part, Problem
from data_modules.splits import assert_disjoint, split_groups, tie_groups
from data_modules.verify import Records

_SHOWN = 10
_REPAIR = (
    "Repair the files, or list their names in a text file given as data.init_args.exclude_file."
)


def needed_parts(
    stage: str, pool: Part, val: Part | None, test: Part | None, predict_split: str
) -> list[Part]:
    """The parts whose files a stage reads.

    An official test set without masks does not keep a run from training.

    Args:
        stage: `fit`, `validate`, `test` or `predict`.
        pool: What is split.
        val: Official validation set.
        test: Official test set.
        predict_split: What `predict` goes over.
    """
    wanted = predict_split if stage == "predict" else {"validate": "val"}.get(stage, stage)
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
    pool: Part,
    val: Part | None,
    test: Part | None,
    records: Records,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> dict[str, list[Item]]:
    """Items of `train`, `val` and `test`.

    Args:
        pool: What is split.
        val: Official validation set.
        test: Official test set.
        records: Of the images in the pool.
        val_fraction: Share of the groups in the pool for validation.
        test_fraction: Share of the groups in the pool for test.
        seed: Fixes the split.
    """
    groups = tie_groups(
        [item.group for item in pool.items], [records[item.image].digest for item in pool.items]
    )
    assigned = split_groups(
        groups,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
    )
    splits: dict[str, list[Item]] = {"train": [], "val": [], "test": []}
    for item, split in zip(pool.items, assigned, strict=True):
        splits[split].append(item)
    splits["val"] += val.items if val is not None else []
    splits["test"] += test.items if test is not None else []
    return splits


def require_official_disjoint(splits: dict[str, list[Item]], records: Records) -> None:
    """Checks that no file is in two splits; the hash of its bytes decides.

    Raises:
        DataError: Names the files.
    """
    assert_disjoint(
        {s: {i.image: records[i.image].digest for i in items} for s, items in splits.items()},
        "identical files",
    )
