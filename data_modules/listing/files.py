"""Which image files lie below a folder."""

import os
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath

from data_modules.errors import DataError
from data_modules.listing.items import Findings, Problem
from data_modules.listing.walk import walk
from data_modules.names import comparable, one_line
from data_modules.reading.formats import IMAGE_SUFFIXES


def find_files(
    root: Path,
    folder: str,
    met: Findings,
    ignore: Callable[[str], bool] = lambda stem: False,
    suffixes: Collection[str] = IMAGE_SUFFIXES,
    *,
    deep: bool = True,
) -> list[str]:
    """Image files below a folder, relative to the root, sorted, without hidden and ignored ones.

    Links are followed. What cannot be listed, and files of other kinds, go into `met`.

    Args:
        root: Paths are given relative to it.
        folder: Folder below the root; it need not be there.
        met: Gets what is no such file.
        ignore: Tells by its stem whether a file is no file of the data set.
        suffixes: In lower case, with the dot: the files that count.
        deep: Whether folders inside are listed too.
    """
    tree = walk(root / folder, suffixes, deep)
    name = PurePosixPath(folder).as_posix()

    def of_root(inside: str) -> str:
        return "/".join(part for part in (name, inside) if part not in ("", ".")) or "."

    met.problems += [
        Problem("file", of_root(inside), reason)
        for inside, reason in tree.problems
        if not ignore(PurePosixPath(inside).stem)
    ]
    met.left_out += map(of_root, tree.others)
    met.repeated += [f"{one_line(of_root(inside))} {reason}" for inside, reason in tree.repeated]
    return [of_root(file) for file in tree.files if not ignore(PurePosixPath(file).stem)]


def names_in(folder: Path) -> list[str]:
    """The names in a folder, sorted.

    Raises:
        DataError: If it cannot be opened.
    """
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{folder}: cannot be opened ({error.strerror}).") from error


def missing_folder(folder: Path) -> str:
    """Why a path is no folder."""
    if folder.is_symlink():
        return f"is a broken link: {os.readlink(folder)} is not there"
    return "is a file and no folder" if folder.exists() else "missing folder"


def subfolder(base: Path, *names: str) -> Path | None:
    """The folder of these names below another, in upper or lower case; None if there is none."""
    for name in names:
        exact = base / name
        if not exact.is_dir():
            wanted = comparable(name).lower()
            others = names_in(base) if base.is_dir() else []
            fitting = (n for n in others if comparable(n).lower() == wanted and (base / n).is_dir())
            other = next(fitting, None)
            if other is None:
                return None
            exact = base / other
        base = exact
    return base


def in_form_of_disk(root: Path, folder: str) -> str:
    """A folder as it is called below the root, where that differs in the Unicode form alone."""
    found = PurePosixPath()
    for wanted in PurePosixPath(folder).parts:
        base, name = root / found, wanted
        if not wanted.isascii() and not (base / wanted).is_dir() and base.is_dir():
            alike = (n for n in names_in(base) if comparable(n) == comparable(wanted))
            name = next(alike, wanted)
        found /= name
    return found.as_posix()
