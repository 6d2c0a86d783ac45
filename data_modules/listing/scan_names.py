"""What the name of an MR file tells: whose it is, and which files of other modalities it fits."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from data_modules.reading.formats import NIFTI_SUFFIXES, PAIRED_SUFFIXES

SCAN_SUFFIXES = (*NIFTI_SUFFIXES, ".png", ".npz")
_WORD = re.compile(r"[-_. ](?:T1|T2|PD)w?(?=$|[-_. ])", re.IGNORECASE)
_NUMBER = re.compile(r"(?:[-_. /]?slice[-_ ]?|[-_. /])\d+$", re.IGNORECASE)


@dataclass(frozen=True)
class ScanNames:
    """How a data set names its files.

    Attributes:
        folder: Folder in the root that may hold the folders of the modalities.
        volume: Matches the start of the official name of a volume; its group is the modality.
        subject: Matches the start of the name of a volume or slice; its group is the subject.
    """

    folder: str
    volume: re.Pattern[str]
    subject: re.Pattern[str]

    def subject_of(self, inside: str, flat: bool) -> str:
        """The subject of a file.

        Args:
            inside: Its path inside the folder of the modality, without suffix.
            flat: Whether it is a single slice: then a slice number at the end is not of the
                subject.
        """
        official = self._official(inside)
        if official is not None:
            return official
        name = _without_word(inside)
        return (_NUMBER.sub("", name).rstrip("/") or name) if flat else name

    def key_of(self, inside: str, flat: bool) -> str:
        """What is equal for the files of one subject and slice in all modalities.

        Args:
            inside: As in `subject_of`.
            flat: As in `subject_of`.
        """
        official = self._official(inside)
        # An official volume is the only one of its subject, whatever else its name tells.
        return official if official is not None and not flat else _without_word(inside)

    def likely_subjects(self, file: str, inside: str) -> set[str]:
        """Whose a file that is not opened may be: only its header tells a volume from a slice."""
        kinds = (True, False) if is_nifti(file) else (True,)
        return {self.subject_of(inside, flat) for flat in kinds}

    def _official(self, inside: str) -> str | None:
        found = self.subject.match(PurePosixPath(inside).name)
        return None if found is None else found[1]


def is_nifti(file: str) -> bool:
    """Whether a scan is a NIfTI file."""
    return file.lower().endswith(NIFTI_SUFFIXES)


def without_headers(files: Iterable[str]) -> list[str]:
    """Drops the header of each pair of header and voxels: the file of the voxels names both."""
    files = list(files)
    voxels = {stem_of(file) for file in files if file.lower().endswith((".img", ".img.gz"))}
    headers = (".hdr", ".hdr.gz")
    return [f for f in files if not (f.lower().endswith(headers) and stem_of(f) in voxels)]


def stem_of(path: str) -> str:
    """A path without what tells the kind of file."""
    suffix = next((s for s in SCAN_SUFFIXES if path.lower().endswith(s)), "")
    return path[: len(path) - len(suffix)]


def file_names(file: str, inside: str) -> set[str]:
    """What a user may call a file: its path or name, with or without suffix, or its key."""
    name = PurePosixPath(file).name
    names = {file, stem_of(file), name, stem_of(name), _without_word(inside)}
    if file.lower().endswith(PAIRED_SUFFIXES):
        names |= {
            f"{stem}{end}" for stem in (stem_of(file), stem_of(name)) for end in PAIRED_SUFFIXES
        }
    return names


def _without_word(inside: str) -> str:
    """Drops what names the modality behind a separator: `x-T1_slice9` to `x_slice9`."""
    folder, slash, name = inside.rpartition("/")
    return folder + slash + _WORD.sub("", name)
