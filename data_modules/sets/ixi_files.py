"""The files of a root with MR modalities, and the errors that there are none."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from data_modules.errors import DataError
from data_modules.listing.modalities import (
    MODALITIES,
    Modality,
    Scan,
    find_modalities,
    likely_subjects,
    list_scans,
    loose_names,
)
from data_modules.listing.pairs import Exclusion, Problem, wrong_layout

Scans: TypeAlias = dict[Modality, list[Scan]]

_SOURCE = (
    "The volumes are free at https://brain-development.org/ixi-dataset/ (T1, T2 and PD images); "
    "unpack the archives into that folder."
)


@dataclass(frozen=True)
class Found:
    """What is in a root.

    Attributes:
        scans: Of each modality that was asked for, without what the user leaves out.
        subjects: Of every modality, also those left out; of one not asked for, as names tell.
        problems: The files that stand for the same.
    """

    scans: Scans
    subjects: dict[Modality, set[str]]
    problems: list[Problem]


def list_root(root: Path, modalities: Iterable[Modality], exclude_file: str | None) -> Found:
    """Lists modalities; no file of the others is opened.

    Args:
        root: Folder that holds the files.
        modalities: Those to list; one that has no file gets an empty list.
        exclude_file: What the user leaves out, of any modality.

    Raises:
        DataError: If the root or all files are missing, or an excluded name matches nothing.
    """
    if not root.is_dir():
        raise DataError(f"data.init_args.root: there is no folder {root}.\n{_advice(root)}")
    files = find_modalities(root)
    if not files:
        raise wrong_layout(root, _needed(root), _advice(root))
    exclusion = Exclusion(exclude_file)
    found = Found({}, {}, [])
    for modality in modalities:
        scans, subjects, twice = list_scans(root, files.get(modality, {}), exclusion)
        found.scans[modality], found.subjects[modality] = scans, subjects
        found.problems.extend(twice)
    for modality in files.keys() - found.scans.keys():
        found.subjects[modality] = set()
        for file, inside in files[modality].items():
            exclusion.covers(*loose_names(file, inside))
            found.subjects[modality] |= likely_subjects(file, inside)
    exclusion.require_all_used()
    return found


def nothing_predicted(root: Path, source: str, split: str, target: str, subjects: int) -> DataError:
    """The error that `predict` has nothing to go over."""
    return DataError(
        f"0 {source} slices under {root} for predict_split {split}: {subjects} subjects have "
        f"{target} files, which decide the splits.\nSet data.init_args.predict_split to all, "
        "data.init_args.source to another modality, or give more data."
    )


def nothing_split(root: Path, split: str, target: str, subjects: int) -> DataError:
    """The error that another stage has nothing to go over."""
    advice = {
        "train": "Change data.init_args.target or test_subjects, or give more subjects",
        "val": "Change data.init_args.val_fraction, or give more subjects, and train anew",
        # Other numbers or files could make training subjects of an earlier fit test subjects.
        "test": "Name subjects that were not trained on in data.init_args.test_subjects (the "
        "run's splits.json tells which were); or change data.init_args.num_test_subjects, or give "
        "more subjects, and train anew",
    }[split]
    return DataError(
        f"0 {split} slices under {root}: {subjects} subjects have {target} files that are not "
        f"left out.\n{advice}: a split is by subject."
    )


def _advice(root: Path) -> str:
    folder = "DIR" if root.exists() else root  # phantoms only go into a new folder
    return f"{_SOURCE}\nA stand-in: lightning phantom ixi --root {folder} --num 30 --seed 0"


def _needed(root: Path) -> str:
    hint = (
        "IXI needs volumes like IXI012-HH-1211-T1.nii.gz below it, or folders T1/, T2/ or PD/ of "
        "NIfTI, png or npz files in it or in its folder IXI/"
    )
    if root.resolve().name in MODALITIES:
        hint += f": give the folder above, {root.resolve().parent}"
    return hint
