"""Which subjects are in which split."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from data_modules.errors import DataError
from data_modules.listing.splits import Split, position


def split_subjects(
    subjects: Iterable[str],
    *,
    test_subjects: Sequence[str] | None,
    num_train: int,
    num_test: int,
    val_fraction: float,
    seed: int,
) -> dict[str, Split]:
    """Shares subjects out; those beyond the limits are in no split.

    Without `test_subjects` the own `splits.position` of a subject says whether it can be
    test (low), training or validation (high), so that more subjects make no training subject one
    for test: a limit takes from the ends and leaves the others over. The shares therefore hold on
    average. Where there are two or more subjects, at least one is for test and one for training,
    and of two or more that are left by test one is for validation.

    Args:
        subjects: All with a file of the target modality, also those that are left out.
        test_subjects: Names of the test subjects; all others are for training, without a limit.
        num_train: Limit of the training subjects, validation included.
        num_test: Limit of the test subjects; with `num_train` it gives the share of test.
        val_fraction: Share of the training subjects, in [0, 1).
        seed: Fixes the positions.
    """
    places = {name: position(name, seed) for name in subjects}
    order = sorted(places, key=lambda name: (places[name], name))
    share = 0.0
    if test_subjects is not None:
        test = [name for name in order if name in test_subjects]
        rest = [name for name in order if name not in test_subjects]
    else:
        share = num_test / (num_train + num_test)
        tests = _number(sum(place < share for place in places.values()), share, len(order))
        test, rest = order[:tests][:num_test], order[tests:]
    high = 1 - val_fraction * (1 - share)
    held = _number(sum(places[name] >= high for name in rest), val_fraction, len(rest))
    train, val = rest[: len(rest) - held], rest[::-1][:held]
    if test_subjects is None:
        val = val[: min(max(round(val_fraction * num_train), 1), num_train - 1)]
        train = train[: num_train - len(val)]
    split: dict[str, Split] = dict.fromkeys(test, "test")
    return split | dict.fromkeys(train, "train") | dict.fromkeys(val, "val")


def _number(natural: int, share: float, subjects: int) -> int:
    """How many of some subjects go into a split: one at least, and one at least does not."""
    return min(max(natural, 1), subjects - 1) if share > 0 and subjects > 1 else 0


def warn_of_few(split: dict[str, Split], num_train: int, num_test: int) -> None:
    """Says that there are fewer subjects than the limits."""
    tests = sum(name == "test" for name in split.values())
    if len(split) < num_train + num_test:
        rank_zero_warn(
            f"{len(split)} subjects, and {num_train} for training and {num_test} for test were "
            f"asked for: {len(split) - tests} are for training (validation included) and {tests} "
            "for test. The name of each decides, so that the proportion holds on average."
        )


def require_known(names: Sequence[str], subjects: Iterable[str]) -> None:
    """Checks the names that a user gives.

    Raises:
        DataError: If no file is of one of them; gives the nearest.
    """
    known = sorted(set(subjects))
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known[:5])}."
            raise DataError(f"data.init_args.test_subjects: no file is of subject {name!r}. {hint}")


def nothing_found(
    root: Path, stage: str, split: str, source: str, target: str, subjects: int
) -> DataError:
    """The error that a stage has nothing to go over."""
    if stage == "predict":
        return DataError(
            f"0 {source} slices under {root} for predict_split {split}: {subjects} subjects have "
            f"{target} files, which decide the splits.\nSet data.init_args.predict_split to all, "
            "data.init_args.source to another modality, or give more data."
        )
    advice = {
        "train": "Change data.init_args.target or test_subjects, or give more subjects",
        "val": "Change data.init_args.val_fraction, or give more subjects, and train anew",
        # Other numbers or files could make training subjects of an earlier fit test subjects.
        "test": "Name subjects that were not trained on in data.init_args.test_subjects (the "
        "run's splits.json tells which were); or change data.init_args.num_test_subjects, or give "
        "more subjects, and train anew; or test a root that no fit saw with "
        "data.init_args.test_split: all",
    }[split]
    return DataError(
        f"0 {split} slices under {root}: {subjects} subjects have {target} files that are not "
        f"left out.\n{advice}: a split is by subject."
    )
