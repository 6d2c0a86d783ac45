"""ISIC skin lesion segmentation: 2018 task 1, and the challenges of 2016 and 2017.

Layout, licence, citation and traps: docs/data/isic.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from data_modules.errors import DataError
from data_modules.kinds.masks import ImageMaskDataModule
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.items import Listing, Part
from data_modules.listing.pairs import pair_folders

Year: TypeAlias = Literal[2016, 2017, 2018]


@dataclass(frozen=True)
class _Folders:
    images: str
    masks: str


@dataclass(frozen=True)
class _Layout:
    train: _Folders
    val: _Folders | None
    test: _Folders


LAYOUTS: dict[int, _Layout] = {
    2016: _Layout(
        _Folders("ISBI2016_ISIC_Part1_Training_Data", "ISBI2016_ISIC_Part1_Training_GroundTruth"),
        None,
        _Folders("ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"),
    ),
    2017: _Layout(
        _Folders("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"),
        _Folders("ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth"),
        _Folders("ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth"),
    ),
    2018: _Layout(
        _Folders("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"),
        _Folders("ISIC2018_Task1-2_Validation_Input", "ISIC2018_Task1_Validation_GroundTruth"),
        _Folders("ISIC2018_Task1-2_Test_Input", "ISIC2018_Task1_Test_GroundTruth"),
    ),
}
"""The official folder names, as the archives unpack."""


class ISICDataModule(ImageMaskDataModule):
    """Dermoscopic images with lesion masks (class 1), in the official folder layouts.

    The official test set, where it is there, is `test`. Neither patient nor lesion is known in
    these challenges, so each image is a group of its own; identical files stay together.

    Args:
        root: Folder that holds the official folders, or `ISIC-<year>/` that holds them.
        year: The challenge: 2016, 2017 or 2018 (task 1).
        official_val: Whether the official validation folder is `val`, and nothing is held out of
            the training folder.
        **kwargs: As `ImageMaskDataModule`.
    """

    short_name: ClassVar[str] = "isic"
    title: ClassVar[str] = "ISIC skin lesions with masks (2016, 2017, 2018 task 1)"
    origin: ClassVar[str] = (
        "The images are free at https://challenge.isic-archive.com/data/ (task 1: training input "
        "and ground truth); unpack the archives into that folder."
    )
    citation: ClassVar[str] = (
        "Codella et al., Skin lesion analysis toward melanoma detection 2018, arXiv:1902.03368; "
        "of 2017: Codella et al., arXiv:1710.05006; of 2016: Gutman et al., arXiv:1605.01397"
    )

    def __init__(
        self,
        root: str | None = None,
        year: Year = 2018,
        official_val: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(root=root, **kwargs)
        if year not in LAYOUTS:
            raise DataError(f"data.init_args.year: {year} given, expected 2016, 2017 or 2018.")
        self.year = year
        self.official_val = official_val

    @classmethod
    def variants(cls, root: Path) -> list[dict[str, Any]]:
        """One for each year whose training or test images are there; 2018 if none is."""
        found = [
            {"year": year}
            for year, layout in LAYOUTS.items()
            if _base(root, year, layout.train) or _base(root, year, layout.test)
        ]
        return found or [{"year": 2018}]

    def listing(self, exclusion: Exclusion) -> Listing:
        """Lists the official folders of the year.

        Raises:
            DataError: If neither training nor test images are there, or the asked validation images
                are not.
        """
        layout = LAYOUTS[self.year]
        pool = self._part(layout.train, exclusion)
        test = self._part(layout.test, exclusion)
        if pool is None and test is None:
            raise self.wrong_layout(self._needed(layout.train))
        val = self._part(layout.val, exclusion) if self.official_val and layout.val else None
        if self.official_val and val is None:
            wanted = f"no folder {layout.val.images}" if layout.val else f"none in {self.year}"
            raise DataError(
                f"data.init_args.official_val: {wanted} under {self.root}; set it to false and "
                "val_fraction above 0."
            )
        return Listing(pool or Part(), val, test)

    def _part(self, folders: _Folders, exclusion: Exclusion) -> Part | None:
        base = _base(self.root, self.year, folders)
        if base is None:
            return None
        inside = "" if base == self.root else f"{base.name}/"
        return pair_folders(
            self.root,
            inside + folders.images,
            inside + folders.masks,
            mask_suffix="_segmentation",
            exclusion=exclusion,
            group_of=lambda key: key,
            ignore=lambda stem: stem.endswith("_superpixels"),
        )

    def _needed(self, train: _Folders) -> str:
        hint = f"ISIC {self.year} needs {train.images}/ and {train.masks}/ in it"
        if self.root.resolve().name in (train.images, train.masks):
            hint += f": give the folder above, {self.root.parent}"
        years = [v["year"] for v in self.variants(self.root) if v["year"] != self.year]
        if years:
            hint += f"; the folders of {years[0]} are there: set data.init_args.year: {years[0]}"
        return hint


def _base(root: Path, year: int, folders: _Folders) -> Path | None:
    """The folder that holds the image folder: the root, or `ISIC-<year>` in it."""
    bases = (root, root / f"ISIC-{year}", root / f"ISIC{year}", root / f"ISIC_{year}")
    return next((base for base in bases if (base / folders.images).is_dir()), None)
