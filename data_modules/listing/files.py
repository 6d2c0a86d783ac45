"""Which image files lie below a folder."""

from collections.abc import Callable, Collection
from pathlib import Path

from data_modules.reading.formats import IMAGE_SUFFIXES


def find_files(
    root: Path,
    folder: str,
    ignore: Callable[[str], bool] = lambda stem: False,
    suffixes: Collection[str] = IMAGE_SUFFIXES,
) -> list[str]:
    """Image files below a folder, relative to the root, sorted, without hidden and ignored ones.

    Args:
        root: Paths are given relative to it.
        folder: Folder below the root; it need not be there.
        ignore: Tells by its stem whether a file is no file of the data set.
        suffixes: In lower case, with the dot: the files that count.
    """
    base = root / folder
    found = []
    for path in base.rglob("*"):
        inside = path.relative_to(base)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.suffix.lower() not in suffixes or hidden or ignore(path.stem):
            continue
        if path.is_file():
            found.append(path.relative_to(root).as_posix())
    return sorted(found)


def subfolder(base: Path, *names: str) -> Path | None:
    """The folder of these names below another, in upper or lower case; None if there is none."""
    for name in names:
        exact = base / name
        if not exact.is_dir():
            others = sorted(base.iterdir()) if base.is_dir() else []
            fitting = (p for p in others if p.name.lower() == name.lower() and p.is_dir())
            other = next(fitting, None)
            if other is None:
                return None
            exact = other
        base = exact
    return base
