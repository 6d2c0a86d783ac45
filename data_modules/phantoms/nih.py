"""A phantom of the NIH images with XLSor masks in the layout of their archive."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.phantoms.painters.chest import paint

_FIRST = 90_000_001  # above every real patient number of ChestX-ray14


def write(
    root: Path,
    *,
    num: int,
    seed: int,
    size: tuple[int, int] = (160, 160),
    folder: str = "NIH",
) -> list[Path]:
    """Writes `NIH/images/90000001_000.png` with `NIH/masks/90000001_000_mask.png`.

    Every fifth image is a second one of the patient before it. Films are hazy, as those taken in
    bed are.

    Args:
        root: Folder that gets the top-level folder.
        num: Number of images.
        seed: The same seed gives the same pictures; picture k does not depend on `num`.
        size: Width and height in pixels.
        folder: `NIH`, or `XLSor_data/data/NIH` as the archive unpacks.

    Returns:
        The files.
    """
    images, masks = root / folder / "images", root / folder / "masks"
    for made in (images, masks):
        made.mkdir(parents=True, exist_ok=True)
    files = []
    for k in range(num):
        again = int(k % 5 == 4)
        rng = np.random.default_rng([seed, 3, k])
        image, left, right = paint(rng, *size, opacities=0.6, haze=0.9)
        name = f"{_FIRST + k - again:08d}_{again:03d}"
        files += [images / f"{name}.png", masks / f"{name}_mask.png"]
        Image.fromarray(image).save(files[-2])
        Image.fromarray(np.maximum(left, right)).save(files[-1])
    return files
