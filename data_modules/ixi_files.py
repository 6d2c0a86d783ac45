"""The files of a root with MR modalities, and the errors that there are none."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from data_modules.errors import DataError
from data_modules.layout import Exclusion, Problem
from data_modules.modality_listing import (
    MODALITIES,
    Modality,
    Scan,
    find_modalities,
    list_scans,
    loose_names,
)

Scans: TypeAlias = dict[Modality, list[Scan]]

_SOURCE = (
    "The volumes are free at https://brain-development.org/ixi-dataset/ (T1, T2 and PD images); "
    "unpack the archives into that folder."
)


def list_root(
    root: Path, modalities: Iterable[Modality], exclude_file: str | None
) -> tuple[Scans, list[Problem]]:
    """Lists modalities; of the others the names alone are looked at.

    Args:
        root: Folder that holds the files.
        modalities: Those to list; one that has no file gets an empty list.
        exclude_file: What the user leaves out, of any modality.

    Returns:
        The scans of each modality, and the files that stand for the same.

    Raises:
        DataError: If the root or all files are missing, or an excluded name matches nothing.
    """
    if not root.is_dir():
        raise DataError(f"data.init_args.root: there is no folder {root}.\n{_advice(root)}")
    files = find_modalities(root)
    if not files:
        raise DataError(_wrong_layout(root))
    exclusion = Exclusion(exclude_file)
    scans: Scans = {}
    problems: list[Problem] = []
    for modality in modalities:
        scans[modality], twice = list_scans(root, files.get(modality, {}), exclusion)
        problems += twice
    for modality in files.keys() - scans.keys():
        for file, inside in files[modality].items():
            exclusion.covers(*loose_names(file, inside))
    exclusion.require_all_used()
    return scans, problems


def _advice(root: Path) -> str:
    folder = "DIR" if root.exists() else root  # phantoms only go into a new folder
    return f"{_SOURCE}\nA stand-in: lightning phantom ixi --root {folder} --num 30 --seed 0"


def _wrong_layout(root: Path) -> str:
    there = sorted(p.name for p in root.iterdir() if not p.name.startswith("."))[:5]
    hint = (
        "IXI needs volumes like IXI012-HH-1211-T1.nii.gz below it, or folders T1/, T2/ or PD/ of "
        "NIfTI, png or npz files in it or in its folder IXI/"
    )
    if root.resolve().name in MODALITIES:
        hint += f": give the folder above, {root.resolve().parent}"
    return (
        f"data.init_args.root: {root} holds {', '.join(there) or 'nothing'}.\n"
        f"{hint}.\n{_advice(root)}"
    )
