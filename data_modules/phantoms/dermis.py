"""A phantom of DermIS in the layout that the University of Waterloo's archives unpack to."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.phantoms.painters.lesion import Style, paint

# Photographs without a lens on the skin: small lesions, uneven light, an edge of the body.
_STYLE = Style(
    smallest=0.1,
    largest=0.3,
    hairs=0.2,
    ruler=0,
    rim=0,
    backdrop=0.5,
    shade=2.2,
    tint=(1.0, 0.95, 0.9),
)
_DRAW = 3  # sets the pictures of one seed apart from those of other data sets
_JPEG_QUALITY = 92


def write(root: Path, *, num: int, seed: int, size: tuple[int, int] = (160, 120)) -> list[Path]:
    """Writes `Skin Image Data Set-1/skin_data/melanoma/dermis/P1_orig.jpg` and so on.

    Photographs 1, 3, ... go to the melanomas and 2, 4, ... to the others; both folders are there.

    Args:
        root: Folder that gets `Skin Image Data Set-1/` and `Skin Image Data Set-2/`.
        num: Number of photographs.
        seed: The same seed gives the same pictures; picture k does not depend on `num`.
        size: Width and height in pixels.

    Returns:
        The files.
    """
    folders = [
        root / f"Skin Image Data Set-{number}" / "skin_data" / kind / "dermis"
        for number, kind in ((1, "melanoma"), (2, "notmelanoma"))
    ]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    files = []
    for k in range(num):
        image, mask = paint(np.random.default_rng([seed, _DRAW, k]), *size, _STYLE)
        folder, name = folders[k % 2], f"P{k + 1}"
        files += [folder / f"{name}_orig.jpg", folder / f"{name}_contour.png"]
        Image.fromarray(image).save(files[-2], quality=_JPEG_QUALITY)
        Image.fromarray(mask).save(files[-1])
    return files
