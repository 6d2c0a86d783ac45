"""What is said of the files that are not read."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from data_modules.listing.items import Findings
from data_modules.listing.walk import is_ending
from data_modules.names import one_line

_GROUPS = 6
_NAMED = 2
# What a file of each kind begins with, where in it, and the ending by which it is read.
_CONTENTS = (
    (128, b"DICM", "DICOM", ".dcm"),
    (0, b"\xff\xd8\xff", "JPEG", ".jpg"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG", ".png"),
    (0, b"II*\0", "TIFF", ".tif"),
    (0, b"MM\0*", "TIFF", ".tif"),
)


def notes_of(root: Path, mets: Iterable[Findings]) -> list[str]:
    """What is said of files and folders that are left out, a line each.

    Args:
        root: Folder of the data set.
        mets: What was met beside the files of its parts.
    """
    met = Findings()
    met.add(mets)
    line = left_out_line(root, met.left_out)
    repeated = (
        [
            f"{met.repeated[0]}"
            + (f" (and {len(met.repeated) - 1} more)" if met.repeated[1:] else "")
        ]
        if met.repeated
        else []
    )
    return ([] if line is None else [line]) + repeated


def left_out_line(root: Path, files: Sequence[str]) -> str | None:
    """Counts the files that are not read, by kind, and names some of each.

    The first of each kind is looked into, so that an image under another ending is told.

    Args:
        root: Folder that the paths are relative to.
        files: Those that are not read.

    Returns:
        One line; None where there are none.
    """
    if not files:
        return None
    groups: dict[str, list[str]] = {}
    for file in sorted(files):
        groups.setdefault(_ending(file), []).append(file)
    order = sorted(groups, key=lambda ending: (-len(groups[ending]), ending))
    shown = [_group(root, ending, groups[ending]) for ending in order[:_GROUPS]]
    rest = sum(len(groups[ending]) for ending in order[_GROUPS:])
    if rest:
        shown.append(f"{rest} of other endings")
    count = "1 file is" if len(files) == 1 else f"{len(files)} files are"
    return f"{count} left out, not being read by name or ending: {'; '.join(shown)}"


def _ending(file: str) -> str:
    name = PurePosixPath(file).name.lower()
    suffix = PurePosixPath(name).suffix
    if not is_ending(suffix) or name.startswith("."):
        return ""
    return ".nii.gz" if name.endswith(".nii.gz") else suffix


def _group(root: Path, ending: str, files: Sequence[str]) -> str:
    names = ", ".join(one_line(PurePosixPath(file).name) for file in files[:_NAMED])
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    content = _content(root / files[0])
    told = "" if content is None or content[1] == ending else f", {content[0]}: end in {content[1]}"
    return f"{len(files)} {ending or 'without ending'} ({names}{more}{told})"


def _content(path: Path) -> tuple[str, str] | None:
    """What a file holds, as far as its first bytes tell, and the ending that it should have."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return None
    fitting = (
        (kind, suffix) for at, magic, kind, suffix in _CONTENTS if start[at:].startswith(magic)
    )
    return next(fitting, None)
