"""Folders to pairs of image and mask, and what is wrong with them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from data_modules.listing.exclusion import Exclusion
from data_modules.listing.files import find_files
from data_modules.listing.items import Item, MaskPart, Part, Problem
from data_modules.reading.formats import IMAGE_SUFFIXES


def pair_folders(
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

    `images/a/x.jpg` belongs to `masks/a/x<mask_suffix>.png`: the path inside the folder
    decides, without its suffix, and upper and lower case of `mask_suffix` do not.

    Args:
        root: Paths are given relative to it.
        images: Folder of images below the root.
        masks: Folder of masks below the root; it need not be there.
        mask_suffix: What a mask's name has more than its image's.
        exclusion: What the user leaves out.
        group_of: Gives the group of an image from its path inside the folder, without suffix.
        ignore: Tells by its stem whether a file is no image of the data set.
        mask_type: `.npy` where masks are arrays; else any kind of image is taken for a mask.
        label: As in `MaskPart`.
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
    if excluded := exclusion.names:
        part.problems = [p for p in part.problems if not excluded & _names(p.path, p.path)]
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
