"""Files of several MR modalities: which there are, whose they are, and which belong together."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

from lightning.pytorch.utilities import rank_zero_warn

from data_modules.errors import DataError
from data_modules.layout import Exclusion, Problem, find_files, subfolder
from data_modules.splits import Split, position
from data_modules.volumes import Grid, read_grid

Modality: TypeAlias = Literal["T1", "T2", "PD"]
MODALITIES: tuple[Modality, ...] = ("T1", "T2", "PD")

_SUFFIXES = (".nii.gz", ".nii", ".png", ".npz")
_KINDS = frozenset({".gz", ".nii", ".png", ".npz"})
_OFFICIAL = re.compile(r"(IXI\d{3})-.*?-(T1|T2|PD)(?![0-9A-Za-z])")
_SUBJECT = re.compile(r"(IXI\d{3})(?!\d)")
_WORD = re.compile(r"[-_. ](?:T1|T2|PD)w?(?=$|[-_. ])", re.IGNORECASE)
_NUMBER = re.compile(r"(?:[-_. /]?slice[-_ ]?|[-_. /])\d+$", re.IGNORECASE)


@dataclass(frozen=True)
class Scan:
    """One file of one modality.

    Attributes:
        path: Relative to the root, with forward slashes.
        subject: Whose it is.
        key: Equal for the files of one subject and slice in all modalities.
        grid: Of a NIfTI file that can be read; None for png and npz.
        problem: Why it cannot be used, as far as its header tells.
    """

    path: str
    subject: str
    key: str
    grid: Grid | None = None
    problem: str | None = None

    @property
    def flat(self) -> bool:
        """Whether it is a single slice."""
        return self.grid is None or self.grid.flat


def stem_of(path: str) -> str:
    """A path without what tells the kind of file."""
    suffix = next((s for s in _SUFFIXES if path.lower().endswith(s)), "")
    return path[: len(path) - len(suffix)]


def find_modalities(root: Path) -> dict[Modality, dict[str, str]]:
    """The files of each modality: path relative to the root -> path inside its folder, no suffix.

    Folders `T1`, `T2` and `PD` (in the root, or in `IXI` in it) come first; where there is none,
    files with official names, wherever they are below the root.
    """
    base = next((b for b in (root, subfolder(root, "IXI")) if b and _folders(b)), None)
    if base is not None:
        return {
            modality: {
                file: stem_of(PurePosixPath(file).relative_to(_inside(root, folder)).as_posix())
                for file in _files(root, _inside(root, folder))
            }
            for modality, folder in _folders(base).items()
        }
    found: dict[Modality, dict[str, str]] = {}
    for file in _files(root, ""):
        name = _OFFICIAL.match(PurePosixPath(file).name)
        for modality in MODALITIES:
            if name and name[2] == modality:
                found.setdefault(modality, {})[file] = stem_of(PurePosixPath(file).name)
    return found


def _folders(base: Path) -> dict[Modality, Path]:
    folders = {modality: subfolder(base, modality) for modality in MODALITIES}
    return {modality: folder for modality, folder in folders.items() if folder is not None}


def _inside(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix()


def _files(root: Path, folder: str) -> list[str]:
    found = find_files(root, folder, suffixes=_KINDS)
    return [file for file in found if file.lower().endswith(_SUFFIXES)]


def list_scans(
    root: Path, files: dict[str, str], exclusion: Exclusion
) -> tuple[list[Scan], list[Problem]]:
    """The scans of one modality, and those that stand for the same.

    Args:
        root: Paths are relative to it.
        files: As :func:`find_modalities` gives them.
        exclusion: What the user leaves out.
    """
    scans: list[Scan] = []
    problems: list[Problem] = []
    path_of: dict[str, str] = {}
    for file, inside in files.items():
        scan = _scan(root, file, inside)
        if exclusion.covers(scan.subject, *names_of(file, inside)):
            continue
        other = path_of.setdefault(scan.key, file)
        if other != file:
            text = f"subject {scan.subject}: stands for the same as {other}; remove one of them"
            problems.append(Problem("duplicate", file, text))
            continue
        scans.append(scan)
    return scans, problems


def names_of(file: str, inside: str) -> set[str]:
    """What a user may call a file: its path or name, with or without suffix, or its key."""
    name = PurePosixPath(file).name
    return {file, stem_of(file), name, stem_of(name), _without_word(inside)}


def loose_names(file: str, inside: str) -> set[str]:
    """As :func:`names_of`, with the subject, for a file that is not opened."""
    return {*names_of(file, inside), subject_of(inside, True), subject_of(inside, False)}


def _scan(root: Path, file: str, inside: str) -> Scan:
    grid, problem = None, None
    if file.lower().endswith((".nii", ".gz")):
        try:
            grid = read_grid(root / file)
        except DataError as error:
            problem = str(error).removeprefix(f"{root / file}: ")
    flat = problem is None and (grid is None or grid.flat)
    subject = subject_of(inside, flat)
    official = _SUBJECT.match(PurePosixPath(inside).name)
    # An official volume is the only one of its subject, whatever site and number its name tells.
    key = subject if official and not flat else _without_word(inside)
    return Scan(file, subject, key, grid, problem)


def subject_of(inside: str, flat: bool) -> str:
    """The subject of a file.

    Args:
        inside: Its path inside the folder of the modality, without suffix.
        flat: Whether it is a single slice: then a slice number at the end is not of the subject.
    """
    official = _SUBJECT.match(PurePosixPath(inside).name)
    if official:
        return official[1]
    name = _without_word(inside)
    return (_NUMBER.sub("", name).rstrip("/") or name) if flat else name


def _without_word(inside: str) -> str:
    """Drops what names the modality behind a separator: `x-T1_slice9` to `x_slice9`."""
    folder, slash, name = inside.rpartition("/")
    return folder + slash + _WORD.sub("", name)


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

    Without ``test_subjects`` the subjects in the order of :func:`splits.position` are test, then
    training. Fewer than both limits together are shared out in their proportion. Validation is the
    share of the training subjects at the end of the order: at least one where two are left.

    Args:
        subjects: Those with a file of the target modality.
        test_subjects: Names of the test subjects; all others are for training.
        num_train: Limit of the training subjects, validation included.
        num_test: Limit of the test subjects.
        val_fraction: Share of the training subjects, in [0, 1).
        seed: Fixes the order.
    """
    order = sorted(set(subjects), key=lambda name: (position(name, seed), name))
    if test_subjects is not None:
        test = [name for name in order if name in set(test_subjects)]
        train = [name for name in order if name not in set(test_subjects)]
    else:
        tests = _shared_out(len(order), num_train, num_test)
        test, train = order[:tests], order[tests : tests + num_train]
    held = round(val_fraction * len(train))
    if val_fraction > 0 and len(train) > 1:
        held = min(max(held, 1), len(train) - 1)
    split: dict[str, Split] = dict.fromkeys(test, "test")
    split |= dict.fromkeys(train[: len(train) - held], "train")
    return split | dict.fromkeys(train[len(train) - held :], "val")


def _shared_out(subjects: int, num_train: int, num_test: int) -> int:
    """The number of test subjects."""
    if subjects >= num_train + num_test:
        return num_test
    tests = round(subjects * num_test / (num_train + num_test))
    return max(tests, 1) if num_test and subjects > 1 else tests


def warn_of_few(split: dict[str, Split], num_train: int, num_test: int) -> None:
    """Says that there are fewer subjects than the limits."""
    tests = sum(name == "test" for name in split.values())
    if len(split) < num_train + num_test:
        rank_zero_warn(
            f"{len(split)} subjects, and {num_train} for training and {num_test} for test were "
            f"asked for: {len(split) - tests} are for training (validation included) and {tests} "
            "for test, in the same proportion."
        )


def require_known(names: Sequence[str], subjects: Iterable[str]) -> None:
    """Checks the names that a user gives.

    Raises:
        DataError: For the first one that no file has; gives the nearest.
    """
    known = sorted(set(subjects))
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known[:5])}."
            raise DataError(f"data.init_args.test_subjects: no file is of subject {name!r}. {hint}")
