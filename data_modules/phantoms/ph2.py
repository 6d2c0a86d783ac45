"""A phantom of PH2 in the official folder layout."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.phantoms.painters.lesion import Style, paint

# Large lesions on pale skin, seen through a lens whose rim is in most pictures.
_STYLE = Style(smallest=0.2, largest=0.48, hairs=0.35, ruler=0, rim=0.7, tint=(0.98, 1.0, 0.9))
_FIRST_CASE = 9001  # the real cases have three digits
_DRAW = 2  # sets the pictures of one seed apart from those of other data sets


def write(root: Path, *, num: int, seed: int, size: tuple[int, int] = (160, 120)) -> list[Path]:
    """Writes `PH2Dataset/PH2 Dataset images/IMD9001/` with image and mask, and so on.

    Args:
        root: Folder that gets `PH2Dataset/`.
        num: Number of images.
        seed: The same seed gives the same pictures; picture k does not depend on `num`.
        size: Width and height in pixels.

    Returns:
        The files.
    """
    files = []
    for k in range(num):
        case = f"IMD{_FIRST_CASE + k}"
        folder = root / "PH2Dataset" / "PH2 Dataset images" / case
        image, mask = paint(np.random.default_rng([seed, _DRAW, k]), *size, _STYLE)
        files += [
            folder / f"{case}_Dermoscopic_Image" / f"{case}.bmp",
            folder / f"{case}_lesion" / f"{case}_lesion.bmp",
        ]
        for file, pixels in zip(files[-2:], (image, mask), strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)
    return files
