"""What lies below a folder: files, and all that cannot be taken for one."""

import errno
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

_Identity: TypeAlias = tuple[int, int]
_LITTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})  # of Windows, in any folder


@dataclass
class Tree:
    """What lies below a folder; paths are relative to it.

    Attributes:
        files: Those of the suffixes that were asked for.
        others: All other files, hidden ones without a suffix that was asked for aside.
        problems: What is no file or cannot be opened, and why.
        repeated: Links to folders that are not followed, and why nothing is lost.
    """

    files: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    repeated: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Folder:
    """A folder to be listed.

    Attributes:
        path: To open it.
        inside: Relative to where the walk began; empty for that folder itself.
        above: The real folders that hold it, by any way that led here.
    """

    path: str
    inside: str
    above: frozenset[_Identity]


def walk(base: Path, suffixes: Collection[str], deep: bool = True) -> Tree:
    """Lists a folder, with the folders that links in it lead to.

    Each real folder is listed once: under its own place where it has one below `base`, else
    under the first link to it.

    Args:
        base: Where to begin; it need not be there.
        suffixes: In lower case, with the dot: the files that count.
        deep: Whether folders inside are listed too.
    """
    return _Walk(frozenset(suffixes), deep).over(base)


class _Walk:
    def __init__(self, suffixes: frozenset[str], deep: bool) -> None:
        self.suffixes = suffixes
        self.deep = deep
        self.tree = Tree()
        self._first: dict[_Identity, str] = {}
        self._links: list[_Folder] = []

    def over(self, base: Path) -> Tree:
        try:
            above = _holders(base)
        except FileNotFoundError:
            return self.tree
        except OSError as error:
            self.tree.problems.append(("", f"cannot be opened ({error.strerror})"))
            return self.tree
        self._level(_Folder(str(base), "", above))
        # Links wait until the folders that lie here themselves are listed.
        while self._links:
            waiting, self._links = self._links, []
            for link in sorted(waiting, key=lambda folder: folder.inside):
                self._follow(link)
        for found in vars(self.tree).values():
            found.sort()
        return self.tree

    def _follow(self, link: _Folder) -> None:
        try:
            if _identity(link.path) in link.above:
                reason = "is a link to a folder that holds it; it is not followed"
                self.tree.repeated.append((link.inside, reason))
                return
            above = link.above | _holders(Path(link.path))
        except OSError as error:
            self.tree.problems.append((link.inside, f"cannot be opened ({error.strerror})"))
            return
        self._level(_Folder(link.path, link.inside, above))

    def _level(self, top: _Folder) -> None:
        """Lists a folder and those in it that are no links."""
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            try:
                identity = _identity(folder.path)
                first = self._first.setdefault(identity, folder.inside)
                if first != folder.inside:
                    reason = f"is the folder {first or '.'} once more; its files are listed once"
                    self.tree.repeated.append((folder.inside, reason))
                    continue
                with os.scandir(folder.path) as entries:
                    listed = list(entries)
            except OSError as error:
                self.tree.problems.append((folder.inside, f"cannot be opened ({error.strerror})"))
                continue
            inner = folder.above | {identity}
            for entry in listed:
                inside = f"{folder.inside}/{entry.name}" if folder.inside else entry.name
                below = _Folder(entry.path, inside, inner)
                try:
                    waiting += self._take(entry, below)
                except OSError as error:
                    self._fail(entry, inside, error)

    def _take(self, entry: os.DirEntry[str], below: _Folder) -> Iterator[_Folder]:
        """Puts one entry where it belongs; gives it back where it is a folder to list."""
        counted = _suffix(entry.name) in self.suffixes
        if entry.name.startswith("."):
            # `._x.png` is a Mac's note about x.png, in folders that other systems see.
            if counted and not entry.name.startswith("._") and entry.is_file():
                self.tree.others.append(below.inside)
        elif entry.is_file(follow_symlinks=False) or _links_to_file(entry):
            if counted:
                self.tree.files.append(below.inside)
            elif entry.name.lower() not in _LITTER:
                self.tree.others.append(below.inside)
        elif entry.is_dir():
            if counted:
                reason = "is a folder with the name of a file; rename it"
                self.tree.problems.append((below.inside, reason))
            elif self.deep and entry.is_symlink():
                self._links.append(below)
            elif self.deep:
                yield below
        else:
            reason = f"is {_kind(entry.stat().st_mode)} and no file; remove it"
            self.tree.problems.append((below.inside, reason))

    def _fail(self, entry: os.DirEntry[str], inside: str, error: OSError) -> None:
        """An entry that cannot be looked at: mostly a link to nothing."""
        suffix = _suffix(entry.name)
        if entry.name.startswith("."):
            return
        # A link without an ending may have led to a folder of images.
        if suffix in self.suffixes or not is_ending(suffix):
            self.tree.problems.append((inside, _broken(entry, error)))
        else:
            self.tree.others.append(inside)


def is_ending(suffix: str) -> bool:
    """Whether it is the ending of a kind of file; the last number of a DICOM UID is none."""
    letters = suffix.removeprefix(".")
    return 0 < len(letters) <= 8 and letters.isalnum() and not letters.isdigit()


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _links_to_file(entry: os.DirEntry[str]) -> bool:
    """Raises OSError for a link to nothing, which `DirEntry.is_file` takes for no file."""
    return entry.is_symlink() and stat.S_ISREG(entry.stat().st_mode)


def _identity(path: str) -> _Identity:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _holders(folder: Path) -> frozenset[_Identity]:
    """The real folders that a folder lies in."""
    return frozenset(_identity(str(parent)) for parent in folder.resolve(strict=True).parents)


def _broken(entry: os.DirEntry[str], error: OSError) -> str:
    if not entry.is_symlink():
        return f"cannot be read ({error.strerror})"
    target = os.readlink(entry.path)
    if error.errno == errno.ELOOP:
        return f"is a link that leads back to itself ({target}); remove it"
    if error.errno != errno.ENOENT:
        return f"is a link to {target}, which cannot be read ({error.strerror})"
    if "annex/objects/" in target.replace(os.sep, "/"):
        return "content not fetched: a link of git-annex to what is not here; run `git annex get`"
    return f"is a broken link: {target} is not there"


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISFIFO, "a pipe (fifo)"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISCHR, "a device"),
    )
    return next((name for holds, name in kinds if holds(mode)), "something else")
