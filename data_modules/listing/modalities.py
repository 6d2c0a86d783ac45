"""Files of several MR modalities: which there are, whose they are, and which belong together."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_modules.errors import DataError
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.files import find_files, subfolder
from data_modules.listing.items import Findings, Problem
from data_modules.listing.left_out import notes_of
from data_modules.listing.scan_names import (
    SCAN_SUFFIXES,
    ScanNames,
    file_names,
    is_nifti,
    stem_of,
    without_headers,
)
from data_modules.listing.scans import MODALITIES, Modality, Scan
from data_modules.listing.walk import is_ending
from data_modules.names import comparable, form_alone
from data_modules.reading.nifti import read_grid
from data_modules.reading.pointers import unfetched_file

_LAST_SUFFIXES = frozenset(PurePosixPath("x" + suffix).suffix for suffix in SCAN_SUFFIXES)


@dataclass(frozen=True)
class ScanListing:
    """What is in a root.

    Attributes:
        scans: Of each modality that was asked for, without what the user leaves out.
        subjects: Of every modality, also those left out; of one not asked for, as names tell.
        problems: The files that stand for the same, and what is no file where one is expected.
        notes: What is said of files and folders that are left out, a line each.
    """

    scans: dict[Modality, list[Scan]]
    subjects: dict[Modality, set[str]]
    problems: list[Problem]
    notes: list[str]


def find_modalities(
    root: Path, names: ScanNames, met: Findings | None = None
) -> dict[Modality, dict[str, str]]:
    """The files of each modality: path relative to the root -> path inside its folder, no suffix.

    Folders `T1`, `T2` and `PD` (in the root, or in the data set's folder in it) come first; where
    there is none, files with official names, wherever they are below the root.

    Args:
        root: Paths are relative to it.
        names: How the data set names its files.
        met: Gets what is no such file.
    """
    met = Findings() if met is None else met
    bases = (root, subfolder(root, names.folder))
    base = next((b for b in bases if b and _folders(b)), None)
    if base is not None:
        return {
            modality: {
                file: _key(PurePosixPath(file).relative_to(_inside(root, folder)).as_posix())
                for file in _files(root, _inside(root, folder), met)
            }
            for modality, folder in _folders(base).items()
        }
    found: dict[Modality, dict[str, str]] = {}
    aside = Findings()  # the root may hold other data sets too
    for file in _files(root, "", aside):
        official = names.volume.match(PurePosixPath(file).name)
        if official is None and is_nifti(file):
            met.left_out.append(file)
        for modality in MODALITIES:
            if official and official[1] == modality:
                found.setdefault(modality, {})[file] = _key(PurePosixPath(file).name)
    met.problems += [p for p in aside.problems if _may_hold(p.path, names)]
    met.left_out += [f for f in aside.left_out if names.volume.match(PurePosixPath(f).name)]
    met.repeated += aside.repeated
    return found


def _may_hold(path: str, names: ScanNames) -> bool:
    """Whether what cannot be opened may have been a volume, or a folder of some."""
    name = PurePosixPath(path).name
    return names.volume.match(name) is not None or not is_ending(PurePosixPath(name).suffix)


def _key(inside: str) -> str:
    return comparable(stem_of(inside))


def _folders(base: Path) -> dict[Modality, Path]:
    folders = {modality: subfolder(base, modality) for modality in MODALITIES}
    return {modality: folder for modality, folder in folders.items() if folder is not None}


def _inside(root: Path, folder: Path) -> str:
    return folder.relative_to(root).as_posix()


def _files(root: Path, folder: str, met: Findings) -> list[str]:
    found = find_files(root, folder, met, suffixes=_LAST_SUFFIXES)
    met.left_out += [file for file in found if not file.lower().endswith(SCAN_SUFFIXES)]
    return without_headers(file for file in found if file.lower().endswith(SCAN_SUFFIXES))


def list_scans(
    root: Path,
    files: dict[Modality, dict[str, str]],
    modalities: Iterable[Modality],
    names: ScanNames,
    exclusion: Exclusion,
    met: Findings,
) -> ScanListing:
    """Lists modalities; no file of the others is opened.

    Subjects that are left out count too: a split over all of them moves nobody when some are.

    Args:
        root: Paths are relative to it.
        files: As `find_modalities` gives them.
        modalities: Those to list; one that has no file gets an empty list.
        names: How the data set names its files.
        exclusion: What the user leaves out, of any modality.
        met: What lies beside the files, as `find_modalities` gives it.

    Raises:
        DataError: If an excluded name matches nothing.
    """

    def excluded(file: str) -> bool:
        name = PurePosixPath(file).name
        likely = names.likely_subjects(file, _key(name))
        return bool(exclusion) and exclusion.covers(*likely, *file_names(file, name))

    left_out = [file for file in met.left_out if not excluded(file)]
    notes = notes_of(root, [Findings([], left_out, met.repeated)])
    found = ScanListing({}, {}, [p for p in met.problems if not excluded(p.path)], notes)
    for modality in modalities:
        insides = files.get(modality, {})
        scans = [_scan(root, file, inside, names) for file, inside in insides.items()]
        kept = [
            scan
            for scan in scans
            if not exclusion.covers(scan.subject, *file_names(scan.path, insides[scan.path]))
        ]
        found.subjects[modality] = {scan.subject for scan in scans}
        found.scans[modality], twice = _without_doubles(kept)
        found.problems.extend(twice)
    for modality in files.keys() - found.scans.keys():
        found.subjects[modality] = set()
        for file, inside in files[modality].items():
            likely = names.likely_subjects(file, inside)
            exclusion.covers(*likely, *file_names(file, inside))
            found.subjects[modality] |= likely
    exclusion.require_all_used()
    return found


def _scan(root: Path, file: str, inside: str, names: ScanNames) -> Scan:
    grid, problem = None, None
    if is_nifti(file):
        try:
            grid = read_grid(root / file)
        except DataError as error:
            told = str(error).removeprefix(f"{root / file}: ")
            problem = unfetched_file(root / file) or told
    flat = problem is None and (grid is None or grid.flat)
    return Scan(file, names.subject_of(inside, flat), names.key_of(inside, flat), grid, problem)


def _without_doubles(scans: Iterable[Scan]) -> tuple[list[Scan], list[Problem]]:
    """The first scan of each key, and the others as problems."""
    first: dict[str, Scan] = {}
    problems = []
    for scan in scans:
        other = first.setdefault(scan.key, scan)
        if other is not scan:
            text = form_alone(scan.path, other.path) or f"stands for the same as {other.path}"
            text = f"subject {scan.subject}: {text}; remove one of them"
            problems.append(Problem("duplicate", scan.path, text))
    return list(first.values()), problems
