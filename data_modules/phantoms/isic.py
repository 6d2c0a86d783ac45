"""A phantom of ISIC in the official folder layout."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.phantoms.painters.lesion import paint
from data_modules.sets.isic import LAYOUTS

_FIRST_ID = 9_000_000  # above every real ISIC id of these challenges
_JPEG_QUALITY = 92


def write(
    root: Path, *, num: int, seed: int, size: tuple[int, int] = (160, 120), year: int = 2018
) -> list[Path]:
    """Writes training images with masks, and a test set of a tenth of their number (4 or more).

    Args:
        root: Folder that gets the official folders.
        num: Number of training images.
        seed: The same seed gives the same pictures; picture k does not depend on `num`.
        size: Width and height in pixels.
        year: 2016, 2017 or 2018: whose layout.

    Returns:
        The files.
    """
    layout = LAYOUTS[year]
    ending = "_Segmentation" if year == 2016 else "_segmentation"
    files = []
    for part, folders, count in ((0, layout.train, num), (1, layout.test, max(4, num // 10))):
        for folder in (folders.images, folders.masks):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            name = f"ISIC_{_FIRST_ID + part * 500_000 + k:07d}"
            image, mask = paint(np.random.default_rng([seed, part, k]), *size)
            files += [
                root / folders.images / f"{name}.jpg",
                root / folders.masks / f"{name}{ending}.png",
            ]
            Image.fromarray(image).save(files[-2], quality=_JPEG_QUALITY)
            Image.fromarray(mask).save(files[-1])
    return files
