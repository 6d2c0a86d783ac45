"""Folders to pairs of image and mask, and what is wrong with them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from data_modules.errors import DataError
from data_modules.reading.io import IMAGE_SUFFIXES

Kind: TypeAlias = Literal[
    "missing", "unreadable", "unpaired", "size", "values", "duplicate", "leak", "split"
]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a data set.

    Attributes:
        kind: What sort of problem it is.
        path: File or folder, relative to the root.
        text: What is wrong, and how to fix it where that is not plain.
    """

    kind: Kind
    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


@dataclass(frozen=True)
class MaskPart:
    """One file of a mask.

    Attributes:
        path: Relative to the root, with forward slashes.
        label: The class of every non-zero pixel of a binary file. None: the file says the class of
            each pixel itself, as class ids or as 0 and 255.
    """

    path: str
    label: int | None = None


@dataclass(frozen=True)
class Item:
    """One image and, where there is one, its mask.

    Attributes:
        image: Path relative to the root, with forward slashes.
        masks: The files of its mask, painted in this order, later ones over earlier ones; none
            where the image has no mask.
        group: What must not be torn apart by a split: patient, lesion or slide, else the image.
    """

    image: str
    masks: tuple[MaskPart, ...]
    group: str

    @property
    def path(self) -> str:
        """What names it: the path of its image."""
        return self.image

    @property
    def labelled(self) -> bool:
        """Whether there is a mask."""
        return bool(self.masks)


@dataclass
class Part:
    """The items of one image folder.

    Attributes:
        items: In alphabetical order.
        problems: Unpaired files, missing folder of masks.
        labelled: Whether there is a folder of masks.
    """

    items: list[Item] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    labelled: bool = False


@dataclass
class Listing:
    """Where the items of a data set are.

    Attributes:
        pool: What is split into training, validation and test.
        val: Official validation set, where one is used.
        test: Official test set, where there is one.
    """

    pool: Part
    val: Part | None = None
    test: Part | None = None

    @property
    def parts(self) -> list[Part]:
        """Those that there are."""
        return [part for part in (self.pool, self.val, self.test) if part is not None]


class Exclusion:
    """The names that a user leaves out.

    Args:
        file: Text file with a relative path or a stem a line; ``#`` starts a comment. None: nothing
            is left out.

    Raises:
        DataError: If the file cannot be read.
    """

    def __init__(self, file: str | None) -> None:
        self.file = file
        self.names: set[str] = set()
        self._used: set[str] = set()
        if file is None:
            return
        try:
            lines = Path(file).expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"data.init_args.exclude_file: {file} cannot be read ({error}); expected a text "
                "file with one image name a line."
            ) from error
        stripped = (line.split("#", 1)[0].strip().replace("\\", "/") for line in lines)
        self.names = {name.removeprefix("./") for name in stripped if name}

    def covers(self, *candidates: str) -> bool:
        """Whether one of the names of a file (paths with or without suffix, stems) is listed."""
        hit = self.names.intersection(candidates)
        self._used |= hit
        return bool(hit)

    def require_all_used(self) -> None:
        """Raises DataError for names that no file has: a typing error would hide a bad file."""
        unused = sorted(self.names - self._used)
        if unused:
            more = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
            raise DataError(
                f"data.init_args.exclude_file: {self.file} lists {', '.join(unused[:3])}{more}, "
                "which match no file. Expected paths relative to root, or names without suffix."
            )


def wrong_layout(root: Path, needed: str, advice: str) -> DataError:
    """The error that a root does not hold the data set.

    Args:
        root: Given by the user; it is there.
        needed: What the data module looks for in it.
        advice: How the data set is had.
    """
    there = sorted(p.name for p in root.iterdir() if not p.name.startswith("."))[:5]
    holds = ", ".join(there) or "nothing"
    return DataError(f"data.init_args.root: {root} holds {holds}.\n{needed}.\n{advice}")


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


def pair(
    root: Path,
    images: str,
    masks: str,
    *,
    mask_suffix: str,
    exclusion: Exclusion,
    group_of: Callable[[str], str],
    ignore: Callable[[str], bool] = lambda stem: False,
    mask_type: str = ".png",
    label: int | None = None,
) -> Part:
    """Pairs the images of one folder with the masks of another.

    ``images/a/x.jpg`` belongs to ``masks/a/x<mask_suffix>.png``: the path inside the folder
    decides, without its suffix, and upper and lower case of ``mask_suffix`` do not.

    Args:
        root: Paths are given relative to it.
        images: Folder of images below the root.
        masks: Folder of masks below the root; it need not be there.
        mask_suffix: What a mask's name has more than its image's.
        exclusion: What the user leaves out.
        group_of: Gives the group of an image from its path inside the folder, without suffix.
        ignore: Tells by its stem whether a file is no image of the data set.
        mask_type: ``.npy`` where masks are arrays; else any kind of image is taken for a mask.
        label: As in :class:`MaskPart`.
    """
    labelled = (root / masks).is_dir()
    problems: list[Problem] = []
    kinds = {".npy"} if mask_type == ".npy" else IMAGE_SUFFIXES
    found = find_files(root, masks, ignore, kinds) if labelled else []
    return pair_by_key(
        by_key(find_files(root, images, ignore), images, "", problems),
        {
            key: (MaskPart(file, label),)
            for key, file in by_key(found, masks, mask_suffix, problems).items()
        },
        images=images,
        masks=masks,
        labelled=labelled,
        exclusion=exclusion,
        group_of=group_of,
        wanted=lambda key: f"{masks}/{key}{mask_suffix}{mask_type}",
        problems=problems,
    )


def pair_by_key(
    image_of: Mapping[str, str],
    masks_of: Mapping[str, Sequence[MaskPart]],
    *,
    images: str,
    masks: str,
    labelled: bool,
    exclusion: Exclusion,
    group_of: Callable[[str], str],
    wanted: Callable[[str], str],
    problems: Sequence[Problem] = (),
) -> Part:
    """Pairs images and masks of one key, in any layout.

    Args:
        image_of: The image of each key.
        masks_of: The parts of the mask of each key.
        images: Folder of the images, for messages.
        masks: Folder of the masks, for messages.
        labelled: Whether there is a folder of masks.
        exclusion: What the user leaves out.
        group_of: Gives the group of a key.
        wanted: The mask file that a key needs, for the message that it is missing.
        problems: Found before; those of excluded files are dropped.
    """
    part = Part(problems=list(problems), labelled=labelled)
    for key in sorted(image_of.keys() | masks_of.keys()):
        image, parts = image_of.get(key), tuple(masks_of.get(key, ()))
        # Names are only made where some are excluded: there may be 400,000 files.
        if exclusion.names and exclusion.covers(
            *_names(key, image, *(mask.path for mask in parts))
        ):
            continue
        if image is None:
            text = f"a mask without an image in {images}/"
            part.problems.append(Problem("unpaired", parts[0].path, text))
            continue
        part.items.append(Item(image, parts, group_of(key)))
        if not parts and labelled:
            text = f"an image without its mask {wanted(key)}"
            part.problems.append(Problem("unpaired", image, text))
    excluded = exclusion.names
    if excluded:
        part.problems = [
            p for p in part.problems if not excluded.intersection(_names(p.path, p.path))
        ]
    if not labelled:
        text = f"missing folder: the masks of {len(part.items)} images in {images}/"
        part.problems.append(Problem("missing", f"{masks}/", text))
    return part


def _names(key: str, *files: str | None) -> set[str]:
    """What a user may call an item: its key or stem, and its files with or without suffix."""
    names = {key, key.rsplit("/", 1)[-1]}
    for file in files:
        if file is not None:
            path = Path(file)
            names |= {file, path.with_suffix("").as_posix(), path.name, path.stem}
    return names


def by_key(
    files: Iterable[str], folder: str, suffix: str, problems: list[Problem]
) -> dict[str, str]:
    """Files by their path inside the folder without suffixes; two of one key are a problem.

    Args:
        files: Relative to the root.
        folder: All of them lie below it.
        suffix: What their names end in, before the file type; in any case.
        problems: Gets what cannot be keyed.
    """
    found: dict[str, str] = {}
    for file in files:
        key = Path(file).with_suffix("").relative_to(folder).as_posix()
        if suffix:
            if not key.lower().endswith(suffix.lower()):
                text = f"is no mask: the name does not end in {suffix!r}"
                problems.append(Problem("unpaired", file, text))
                continue
            key = key[: -len(suffix)]
        if key in found:
            text = f"has the same name as {found[key]}; remove one of them"
            problems.append(Problem("duplicate", file, text))
            continue
        found[key] = file
    return found
