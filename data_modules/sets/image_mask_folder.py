"""A user's own images and masks in two folders.

Layout and traps: docs/data/image_mask_folder.md.
"""

import os
import re
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from data_modules.errors import DataError
from data_modules.kinds.base import PredictSplit
from data_modules.kinds.masks import ImageMaskDataModule
from data_modules.kinds.told import Named
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.files import in_form_of_disk, missing_folder, names_in
from data_modules.listing.items import Listing
from data_modules.listing.pairs import pair_folders


class ImageMaskFolderDataModule(ImageMaskDataModule):
    """Pairs `images/a/x.jpg` with `masks/a/x.png`; folders inside the two may nest.

    `predict` needs no masks and by default goes over all images.

    Args:
        root: Folder that holds the two folders.
        images: Folder of images in the root; `.` where the images lie in the root itself.
        masks: Folder of masks in the root.
        mask_suffix: What a mask's name has more than its image's, as `_mask`.
        group_regex: Regular expression that finds the patient (lesion, slide) in the image's path
            below `images`, without suffix: its first group, or the whole match. Images of one
            patient never come into two splits. None: each image is a patient of its own.
        predict_split: What `predict` goes over.
        **kwargs: As `ImageMaskDataModule`.
    """

    short_name: ClassVar[str] = "image_mask_folder"
    title: ClassVar[str] = "your own images and masks in two folders"
    origin: ClassVar[str] = (
        "Your own data: images/ with png, jpg, bmp, tiff, gif or DICOM files, and masks/ with a "
        "png of the same name for each (0 and 255, or class ids)."
    )

    def __init__(
        self,
        root: str | None = None,
        images: str = "images",
        masks: str = "masks",
        mask_suffix: str = "",
        group_regex: str | None = None,
        predict_split: PredictSplit = "all",
        **kwargs: Any,
    ) -> None:
        super().__init__(root=root, predict_split=predict_split, **kwargs)
        self.images = images
        self.masks = masks
        self.mask_suffix = mask_suffix
        self.group_of = _grouping(group_regex)
        self._grouped = group_regex is not None

    @classmethod
    def has_official_names(cls, paths: Iterable[str]) -> bool:
        """Never: two folders may both hold `case01.png`."""
        return False

    def group_of_item(self, item: Named) -> str | None:
        """The patient; without `group_regex` the name alone, which another folder may have too."""
        return item.group if self._grouped else None

    def listing(self, exclusion: Exclusion) -> Listing:
        """Lists the two folders.

        Raises:
            DataError: If there is no folder of images.
        """
        images, masks = (in_form_of_disk(self.root, name) for name in (self.images, self.masks))
        folder = self.root / images
        if not folder.is_dir():
            there = [name for name in names_in(self.root) if not name.startswith(".")][:5]
            why = f"; {images} {missing_folder(folder)}" if os.path.lexists(folder) else ""
            raise DataError(
                f"data.init_args.images: there is no folder {images}/ in {self.root}, which "
                f"holds {', '.join(there) or 'nothing'}{why}.\n"
                f"Set data.init_args.images (and masks) to the right names.\n{self.advice()}"
            )
        return Listing(
            pair_folders(
                self.root,
                images,
                masks,
                mask_suffix=self.mask_suffix,
                exclusion=exclusion,
                group_of=self.group_of,
            )
        )


def _grouping(group_regex: str | None) -> Callable[[str], str]:
    if group_regex is None:
        return lambda key: key
    try:
        pattern = re.compile(group_regex)
    except re.error as error:
        raise DataError(
            f"data.init_args.group_regex: {group_regex!r} is no regular expression ({error})."
        ) from error

    def group_of(key: str) -> str:
        match = pattern.search(key)
        if match is None:
            raise DataError(
                f"data.init_args.group_regex: {group_regex!r} finds nothing in {key!r}; it must "
                "match the path of every image."
            )
        return match.group(1) if pattern.groups else match.group(0)

    return group_of
