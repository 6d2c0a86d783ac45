"""A phantom of the Shenzhen set in the official folder layout."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.phantoms.painters.chest import paint

_FIRST = 9001  # above every real number of the set
_UNMASKED = 7  # one image in seven more has no mask, as in the real set (96 beside 566)


def write(
    root: Path,
    *,
    num: int,
    seed: int,
    size: tuple[int, int] = (160, 160),
    folder: str = "Shenzhen",
) -> list[Path]:
    """Writes `CXR_png/CHNCXR_9001_0.png` with `mask/CHNCXR_9001_0_mask.png`, and a few without.

    Every second image is of a patient with opacities; its name ends in `_1`.

    Args:
        root: Folder that gets the top-level folder.
        num: Number of images with masks.
        seed: The same seed gives the same pictures; picture k does not depend on `num`.
        size: Width and height in pixels.
        folder: `Shenzhen`, or `ChinaSet_AllFiles` as the archive unpacks.

    Returns:
        The files.
    """
    images, masks = root / folder / "CXR_png", root / folder / "mask"
    for made in (images, masks):
        made.mkdir(parents=True, exist_ok=True)
    files = []
    for part, count in ((0, num), (1, max(1, num // _UNMASKED))):
        for k in range(count):
            rng = np.random.default_rng([seed, 1, part, k])
            image, left, right = paint(rng, *size, opacities=float(k % 2))
            # Numbers alternate with those of the other part, so that none depends on `num`.
            name = f"CHNCXR_{_FIRST + 2 * k + part:04d}_{k % 2}"
            files.append(images / f"{name}.png")
            Image.fromarray(image).save(files[-1])
            if part == 0:
                files.append(masks / f"{name}_mask.png")
                Image.fromarray(np.maximum(left, right)).save(files[-1])
    return files
