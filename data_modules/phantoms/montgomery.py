"""A phantom of the Montgomery set in the official folder layout."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.phantoms.painters.chest import paint

_FIRST = 9001  # above every real number of the set


def write(root: Path, *, num: int, seed: int, size: tuple[int, int] = (160, 160)) -> list[Path]:
    """Writes `CXR_png/`, `ManualMask/leftMask/` and `ManualMask/rightMask/`.

    Every third image is of a patient with opacities; its name ends in `_1`. Some have the black
    strip that many real ones have.

    Args:
        root: Folder that gets `MontgomerySet/`.
        num: Number of images.
        seed: The same seed gives the same pictures; picture k does not depend on `num`.
        size: Width and height in pixels.

    Returns:
        The files.
    """
    base = root / "MontgomerySet"
    folders = (base / "CXR_png", base / "ManualMask/leftMask", base / "ManualMask/rightMask")
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    files = []
    for k in range(num):
        ill = int(k % 3 == 2)
        rng = np.random.default_rng([seed, 2, k])
        pictures = paint(rng, *size, opacities=float(ill), haze=0.0, border=0.5)
        for folder, picture in zip(folders, pictures, strict=True):
            files.append(folder / f"MCUCXR_{_FIRST + k:04d}_{ill}.png")
            Image.fromarray(picture).save(files[-1])
    return files
