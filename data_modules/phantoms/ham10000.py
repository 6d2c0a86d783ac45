"""A phantom of HAM10000 in the official folder layout, with several images of some lesions."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.phantoms.painters.lesion import Style, paint

_STYLE = Style(smallest=0.14, largest=0.42, hairs=0.4, ruler=0.1, rim=0.05, tint=(1.02, 0.93, 0.99))
_FIRST_ID = 9_800_000  # above every real ISIC id, and the phantoms of ISIC
_DRAW = 4  # sets the pictures of one seed apart from those of other data sets
_JPEG_QUALITY = 92
_COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")


def write(
    root: Path,
    *,
    num: int,
    seed: int,
    size: tuple[int, int] = (160, 120),
    loose: bool = False,
    tabs: bool = False,
) -> list[Path]:
    """Writes `HAM10000/`: two folders of images, one of masks, and the metadata.

    Of each three images the last two show one lesion: the second time it is turned upside down.

    Args:
        root: Folder that gets `HAM10000/`.
        num: Number of images.
        seed: The same seed gives the same pictures; picture k does not depend on `num`.
        size: Width and height in pixels.
        loose: Whether images and masks lie in `HAM10000/` itself, as archives without a folder
            unpack.
        tabs: Whether the metadata are the table with tabs that Dataverse makes of them.

    Returns:
        The files.
    """
    base = root / "HAM10000"
    images = [base / f"HAM10000_images_part_{part}" for part in (1, 2)]
    masks = base / "HAM10000_segmentations_lesion_tschandl"
    if loose:
        images, masks = [base, base], base
    for folder in (*images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    files = [base / f"HAM10000_metadata.{'tab' if tabs else 'csv'}"]
    rows = []
    for k in range(num):
        name = f"ISIC_{_FIRST_ID + k}"
        again = k % 3 == 2
        lesion = k - again
        image, mask = paint(np.random.default_rng([seed, _DRAW, lesion]), *size, _STYLE)
        if again:
            image, mask = image[::-1], mask[::-1]
        files += [images[k % 2] / f"{name}.jpg", masks / f"{name}_segmentation.png"]
        Image.fromarray(image).save(files[-2], quality=_JPEG_QUALITY)
        Image.fromarray(mask).save(files[-1])
        rows.append((f"HAM_{_FIRST_ID + lesion}", name, "nv", "histo", "", "unknown", "unknown"))
    with files[0].open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t" if tabs else ",").writerows([_COLUMNS, *rows])
    return files
