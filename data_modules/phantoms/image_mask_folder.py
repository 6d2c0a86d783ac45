"""A phantom of a user's own data: images/ and masks/, two pictures a patient."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.phantoms.painters.lesion import paint


def write(root: Path, *, num: int, seed: int, size: tuple[int, int] = (160, 120)) -> list[Path]:
    """Writes `images/p0003_1.png` and `masks/p0003_1.png`: picture 1 of patient 3.

    The patient is found by `group_regex: "p[0-9]+"`.

    Args:
        root: Folder that gets the two folders.
        num: Number of images.
        seed: The same seed gives the same pictures.
        size: Width and height in pixels.

    Returns:
        The files.
    """
    files = []
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for k in range(num):
        name = f"p{k // 2:04d}_{k % 2}.png"
        image, mask = paint(np.random.default_rng([seed, k]), *size)
        files += [root / "images" / name, root / "masks" / name]
        Image.fromarray(image).save(files[-2])
        Image.fromarray(mask).save(files[-1])
    return files
