"""A phantom of CelebAMask-HQ in the official folder layout."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.phantoms.painters.face import paint
from data_modules.phantoms.painters.face_canvas import Cover, Face
from data_modules.sets.celebamask_hq import FOLDER, IMAGES, MAPPING, MASKS, PARTS

_A_FOLDER = 2000  # images whose part files share one of the official folders
_JPEG_QUALITY = 92

_EYE = ("sclera", "iris", "pupil", "tear_duct")
_REGIONS: dict[str, tuple[str, ...]] = {
    "nose": ("nose", "ala", "bridge", "tip", "nostril"),
    "mouth": ("teeth",),
    "u_lip": ("upper_lip",),
    "l_lip": ("lower_lip", "commissure"),
    "hair": ("hair", "sideburns"),
    "hat": ("hat",),
    "ear_r": ("earring",),
    "neck_l": ("necklace",),
    "neck": ("neck",),
    "cloth": ("cloth",),
    **{f"{side}_eye": tuple(f"{side}_{part}" for part in _EYE) for side in "lr"},
    **{f"{side}_brow": (f"{side}_brow",) for side in "lr"},
    **{
        f"{side}_ear": tuple(f"{side}_{part}" for part in ("ear", "helix", "lobule"))
        for side in "lr"
    },
}


def part_of(face: Face, part: str) -> Cover:
    """Where a part is, as an annotator draws it: skin also below all that lies on it.

    Args:
        face: What was painted.
        part: One of `PARTS`.
    """
    if part == "skin":
        return face.skin
    if part == "eye_g":
        return face.glasses
    return face.shows(*_REGIONS[part])


def write(root: Path, *, num: int, seed: int, size: tuple[int, int] = (128, 128)) -> list[Path]:
    """Writes faces, a file of half their size for each part that is to be seen, and the table.

    By the table, which tells the official split, the last two of each ten faces are for validation
    and for test.

    Args:
        root: Folder that gets `CelebAMask-HQ/`.
        num: Number of images.
        seed: The same seed gives the same pictures; picture k does not depend on `num`.
        size: Width and height of the images in pixels.

    Returns:
        The files.
    """
    images = root / FOLDER / IMAGES
    images.mkdir(parents=True, exist_ok=True)
    files = [root / FOLDER / MAPPING]
    rows = [f"{k:<8}{_number_in_celeba(k):<12}{k:06d}.jpg" for k in range(num)]
    text = "\n".join(["idx     orig_idx    orig_file", *rows, ""])
    files[0].write_text(text, encoding="utf-8")
    for k in range(num):
        face = paint(np.random.default_rng([seed, k]), *size)
        masks = root / FOLDER / MASKS / str(k // _A_FOLDER)
        masks.mkdir(parents=True, exist_ok=True)
        files.append(images / f"{k}.jpg")
        Image.fromarray(face.image).save(files[-1], quality=_JPEG_QUALITY)
        for part in PARTS:
            mask = part_of(face, part)[::2, ::2]
            if mask.any():
                files.append(masks / f"{k:05d}_{part}.png")
                Image.fromarray(mask.astype(np.uint8) * 255).save(files[-1])
    return files


def _number_in_celeba(k: int) -> int:
    """Of each ten the last two are in the ranges of validation and of test."""
    return 1_000 + k if k % 10 < 8 else 170_000 + 20_000 * (k % 10 - 8) + k // 10
