"""Folders to pairs of image and mask, and what is wrong with them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from data_modules.listing.exclusion import Exclusion
from data_modules.listing.files import find_files, in_form_of_disk, missing_folder
from data_modules.listing.items import Findings, Item, MaskPart, Part, Problem
from data_modules.names import comparable, form_alone
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
    images, masks = in_form_of_disk(root, images), in_form_of_disk(root, masks)
    labelled = (root / masks).is_dir()
    kinds = {".npy"} if mask_type == ".npy" else IMAGE_SUFFIXES
    met, met_masks = Findings(), Findings()
    of_images = _without(find_files(root, images, met, ignore), masks, images)
    of_masks = find_files(root, masks, met_masks, ignore, kinds) if labelled else []
    image_of = by_key(of_images, images, "", met.problems)
    mask_of = by_key(_without(of_masks, images, masks), masks, mask_suffix, met_masks.problems)
    return pair_by_key(
        image_of,
        {key: (MaskPart(file, label),) for key, file in mask_of.items()},
        images=images,
        masks=masks,
        labelled=labelled,
        exclusion=exclusion,
        group_of=group_of,
        wanted=lambda key: f"{masks}/{key}{mask_suffix}{mask_type}",
        met=met,
        met_masks=met_masks,
        missing="" if labelled else missing_folder(root / masks),
    )


def _without(files: list[str], inner: str, outer: str) -> list[str]:
    """Files of the folder `outer`, without those of `inner`, which may lie in it."""
    inner_path, outer_path = Path(inner), Path(outer)
    if inner_path == outer_path or not inner_path.is_relative_to(outer_path):
        return files
    return [file for file in files if not Path(file).is_relative_to(inner_path)]


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
    met: Findings,
    met_masks: Findings | None = None,
    missing: str = "missing folder",
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
        met: What lies beside the images; what is excluded is dropped.
        met_masks: The same of the masks, where those lie elsewhere.
        missing: Why there is no folder of masks.
    """
    part = Part(labelled=labelled, folder=images)
    for key in sorted(image_of.keys() | masks_of.keys()):
        image, parts = image_of.get(key), tuple(masks_of.get(key, ()))
        # Names are only made where some are excluded: there may be 400,000 files.
        if exclusion and exclusion.covers(*_names(key, image, *(mask.path for mask in parts))):
            continue
        if image is None:
            text = f"a mask without an image in {images}/"
            part.problems.append(Problem("unpaired", parts[0].path, text))
            continue
        part.items.append(Item(image, parts, group_of(key)))
        if not parts and labelled:
            text = f"an image without its mask {wanted(key)}"
            part.problems.append(Problem("unpaired", image, text))
    met = _kept(met, exclusion)
    of_masks = Findings() if met_masks is None else _kept(met_masks, exclusion)
    part.problems[:0] = dict.fromkeys(met.problems + of_masks.problems)
    read = {item.image for item in part.items} | {m.path for i in part.items for m in i.masks}
    told = read | {problem.path for problem in part.problems}
    part.met.add([met, Findings([], of_masks.left_out, of_masks.repeated)])
    # Of one folder of images and masks, each is left out by the other's search.
    part.met.left_out = [file for file in part.met.left_out if file not in told]
    if not labelled:
        text = f"{missing}: the masks of {len(part.items)} images in {images}/"
        part.problems.append(Problem("missing", f"{masks}/", text))
    return part


def _kept(met: Findings, exclusion: Exclusion) -> Findings:
    """What was met, without what the user leaves out."""
    if not exclusion:
        return met
    return Findings(
        [p for p in met.problems if not exclusion.covers(*_names(p.path, p.path))],
        [file for file in met.left_out if not exclusion.covers(*_names(file, file))],
        met.repeated,
    )


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

    Keys are `comparable`: a mask has its image's in any Unicode form.

    Args:
        files: Relative to the root.
        folder: All of them lie below it.
        suffix: What their names end in, before the file type; in any case.
        problems: Gets what cannot be keyed.
    """
    found: dict[str, str] = {}
    for file in files:
        key = comparable(Path(file).with_suffix("").relative_to(folder).as_posix())
        if suffix:
            if not key.lower().endswith(comparable(suffix).lower()):
                text = f"is no mask: the name does not end in {suffix!r}"
                problems.append(Problem("unpaired", file, text))
                continue
            key = key[: -len(comparable(suffix))]
        if key in found:
            problems.append(same_name(file, found[key]))
            continue
        found[key] = file
    return found


def same_name(file: str, other: str) -> Problem:
    """The problem that two files stand for the same."""
    text = form_alone(file, other) or f"has the same name as {other}"
    return Problem("duplicate", file, f"{text}; remove one of them")
