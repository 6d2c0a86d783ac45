"""Files of several MR modalities: which there are, whose they are, and which belong together."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

from lightning.pytorch.utilities import rank_zero_warn

from data_modules.errors import DataError
from data_modules.listing.pairs import Exclusion, Problem, find_files, subfolder
from data_modules.listing.splits import Split, position
from data_modules.reading.volumes import Grid, read_grid

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
) -> tuple[list[Scan], set[str], list[Problem]]:
    """The scans of one modality, all its subjects, and the scans that stand for the same.

    Subjects that are left out count too: a split over all of them moves nobody when some are.

    Args:
        root: Paths are relative to it.
        files: As :func:`find_modalities` gives them.
        exclusion: What the user leaves out.
    """
    scans: list[Scan] = []
    subjects: set[str] = set()
    problems: list[Problem] = []
    path_of: dict[str, str] = {}
    for file, inside in files.items():
        scan = _scan(root, file, inside)
        subjects.add(scan.subject)
        if exclusion.covers(scan.subject, *names_of(file, inside)):
            continue
        other = path_of.setdefault(scan.key, file)
        if other != file:
            text = f"subject {scan.subject}: stands for the same as {other}; remove one of them"
            problems.append(Problem("duplicate", file, text))
            continue
        scans.append(scan)
    return scans, subjects, problems


def names_of(file: str, inside: str) -> set[str]:
    """What a user may call a file: its path or name, with or without suffix, or its key."""
    name = PurePosixPath(file).name
    return {file, stem_of(file), name, stem_of(name), _without_word(inside)}


def loose_names(file: str, inside: str) -> set[str]:
    """As :func:`names_of`, with the subject, for a file that is not opened."""
    return names_of(file, inside) | likely_subjects(file, inside)


def likely_subjects(file: str, inside: str) -> set[str]:
    """Whose a file that is not opened may be: only its header tells a volume from a slice."""
    kinds = (True, False) if _is_nifti(file) else (True,)
    return {subject_of(inside, flat) for flat in kinds}


def _scan(root: Path, file: str, inside: str) -> Scan:
    grid, problem = None, None
    if _is_nifti(file):
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


def _is_nifti(file: str) -> bool:
    return file.lower().endswith((".nii", ".gz"))


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

    Without ``test_subjects`` the own :func:`splits.position` of a subject says whether it can be
    test (low), training or validation (high), so that more subjects make no training subject one
    for test: a limit takes from the ends and leaves the others over. The shares therefore hold on
    average. Where there are two or more subjects, at least one is for test and one for training,
    and of two or more that are left by test one is for validation.

    Args:
        subjects: All with a file of the target modality, also those that are left out.
        test_subjects: Names of the test subjects; all others are for training, without a limit.
        num_train: Limit of the training subjects, validation included.
        num_test: Limit of the test subjects; with ``num_train`` it gives the share of test.
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
        DataError: For the first one that no file has; gives the nearest.
    """
    known = sorted(set(subjects))
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known[:5])}."
            raise DataError(f"data.init_args.test_subjects: no file is of subject {name!r}. {hint}")
