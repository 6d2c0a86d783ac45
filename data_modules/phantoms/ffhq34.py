"""A phantom of FFHQ-34 in the official folder layout."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.phantoms.painters.face import paint
from data_modules.phantoms.painters.face_canvas import REGIONS, Face, Picture
from data_modules.sets.ffhq34 import CLASSES, FOLDER

_OWN = 34  # so that no face is one of the CelebAMask-HQ phantom, on which networks pretrain
_NAMES = {
    "helix": "ear helix",
    "lobule": "ear lobule",
    "bottom_lid": "eye bottom lid",
    "top_lid": "eye top lid",
    "lashes": "eyelashes",
    "tear_duct": "tear duct",
    "brow": "eyebrow",
    "lower_lip": "inferior lip",
    "upper_lip": "superior lip",
    "commissure": "oral commissure",
    "ala": "ala of nose",
    "bridge": "nose bridge",
    "tip": "nose tip",
    "cloth": "background",
}
"""Regions that are called otherwise here; sides are not told apart."""


def _class_of(region: str) -> int:
    part = region[2:] if region.startswith(("l_", "r_")) else region
    name = _NAMES.get(part, part)
    # Hats, glasses and jewels are no classes, and the phantom has none.
    return CLASSES.index(name) if name in CLASSES else 0


_CLASS_OF = np.array([_class_of(region) for region in REGIONS], np.uint8)


def class_ids(face: Face) -> Picture:
    """The class id of each pixel (height, width)."""
    return np.asarray(_CLASS_OF[face.owner], np.uint8)


def write(root: Path, *, num: int, seed: int, size: tuple[int, int] = (128, 128)) -> list[Path]:
    """Writes training images with class ids, and as many test images (4 or more).

    Args:
        root: Folder that gets `ffhq_34/`.
        num: Number of training images.
        seed: The same seed gives the same pictures; picture k does not depend on `num`.
        size: Width and height in pixels.

    Returns:
        The files.
    """
    files = []
    for part, (folder, count) in enumerate((("train", num), ("test", max(4, num)))):
        target = root / FOLDER / folder
        target.mkdir(parents=True, exist_ok=True)
        for k in range(count):
            rng = np.random.default_rng([seed, k, _OWN + part])
            face = paint(rng, *size, accessories=False)
            files += [target / f"face_{k:05d}.png", target / f"face_{k:05d}.npy"]
            Image.fromarray(face.image).save(files[-2])
            np.save(files[-1], class_ids(face))
    return files
