"""What the sets of chest radiographs share: folders, equalisation with gamma, blank borders.

The preprocessing of docs/papers/hybrid.md 2d: contrast of chest films depends on the machine and
the exposure, and equalisation takes most of that away before an image is resized.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from data_modules.errors import DataError
from data_modules.kinds.mask_dataset import Crop, Preprocess
from data_modules.kinds.masks import ImageMaskDataModule
from data_modules.kinds.transforms import PixelBox, to_channels
from data_modules.listing.files import names_in
from data_modules.reading.formats import ImageArray

_GAMMA = 0.5
_BLANK = 0.02  # of the range of the image: a line that varies less shows nothing


def equalize(image: ImageArray) -> npt.NDArray[np.float32]:
    """Histogram equalisation followed by gamma 0.5, over one image.

    `v' = 255 * sqrt((cdf(v) - cdf(v_min)) / (N - cdf(v_min)))` with cdf(v) the number of pixels
    of at most v, v_min the smallest value present and N the number of pixels. Colour becomes
    luminance first. A change of the pixel values that keeps their order changes nothing.

    Args:
        image: (H, W, 1) or (H, W, 3): uint8, uint16 or float32.

    Returns:
        (H, W, 1) float32 in [0, 255], not rounded. An image of one value becomes 0.
    """
    grey = to_channels(image, 1)
    level: npt.NDArray[np.intp]
    if grey.dtype == np.float32:
        values, counts = np.unique(grey, return_counts=True)
        level = np.searchsorted(values, grey)
    else:
        level = grey.astype(np.intp)
        counts = np.bincount(level.ravel())
    darkest = counts[counts > 0][0]
    above = np.clip(np.cumsum(counts) - darkest, 0, None)
    table = 255.0 * (above / max(grey.size - darkest, 1)) ** _GAMMA
    return np.asarray(table, dtype=np.float32)[level]


def without_blank_borders(image: ImageArray) -> PixelBox:
    """What is left without the rows and columns at the borders in which nothing is seen.

    A row or column is blank if its values differ by less than 2 % of the range of the image.

    Args:
        image: (H, W, C); one that is blank all over stays whole.
    """
    whole = (0, 0, *image.shape[:2])
    grey = to_channels(image, 1)[..., 0].astype(np.float32)
    tolerance = _BLANK * float(np.ptp(grey))
    rows = np.flatnonzero(np.ptp(grey, axis=1) > tolerance)
    if rows.size == 0:
        return whole
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(np.ptp(grey[top:bottom], axis=0) > tolerance)
    if columns.size == 0:
        return whole
    return top, int(columns[0]), bottom, int(columns[-1]) + 1


class ChestDataModule(ImageMaskDataModule):
    """Chest radiographs with masks of the lungs (class 1).

    Args:
        root: Folder that holds the data set's top-level folder.
        equalize: Whether each image is equalised (`equalize`) at its own size before it is
            resized, as the paper does (docs/papers/hybrid.md 2d).
        crop_borders: Whether blank borders are cut first (`without_blank_borders`).
        **kwargs: As `ImageMaskDataModule`.
    """

    folders: ClassVar[tuple[str, ...]]
    """Names that the top-level folder goes by."""
    images: ClassVar[str]
    """Folder of the images in it."""

    def __init__(
        self,
        root: str | None = None,
        equalize: bool = True,
        crop_borders: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(root=root, **kwargs)
        self.equalize = equalize
        self.crop_borders = crop_borders

    @classmethod
    def present(cls, root: Path) -> bool:
        """Whether the folder of images is under this root."""
        return cls._top_level(root) is not None

    def cropping(self) -> Crop | None:
        """`without_blank_borders` where that is asked for."""
        return without_blank_borders if self.crop_borders else None

    def preprocessing(self) -> Preprocess | None:
        """`equalize` where that is asked for."""
        return equalize if self.equalize else None

    def top_level(self) -> str:
        """The top-level folder that is there, relative to the root.

        Raises:
            DataError: If there is none.
        """
        found = self._top_level(self.root)
        if found is not None:
            return found
        there = [name for name in names_in(self.root) if not name.startswith(".")][:5]
        hint = f"expected {' or '.join(f'{name}/{self.images}/' for name in self.folders)} in it"
        if self.root.resolve().name in self.folders:
            hint += f": give the folder above, {self.root.parent}"
        raise DataError(
            f"data.init_args.root: {self.root} holds {', '.join(there) or 'nothing'}; {hint}.\n"
            f"{self.advice()}"
        )

    @classmethod
    def _top_level(cls, root: Path) -> str | None:
        return next((name for name in cls.folders if (root / name / cls.images).is_dir()), None)
