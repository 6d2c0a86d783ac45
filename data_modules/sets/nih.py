"""NIH: 100 images of ChestX-ray14 with the masks of the lungs that came with XLSor.

Layout, licence, citation and traps: docs/data/nih.md.
"""

import re
from typing import ClassVar

from data_modules.kinds.chest import ChestDataModule
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.files import find_files
from data_modules.listing.items import Findings, Listing
from data_modules.listing.pairs import pair_folders


class NIHDataModule(ChestDataModule):
    """100 images, anterior-posterior or the other way; images of one patient stay in one split.

    Args:
        root: Folder that holds `XLSor_data/data/NIH/` as the archive unpacks, `data/NIH/` or
            `NIH/`.
        **kwargs: As `ChestDataModule`.
    """

    short_name: ClassVar[str] = "nih"
    title: ClassVar[str] = "NIH chest radiographs (ChestX-ray14) with the lung masks of XLSor"
    origin: ClassVar[str] = (
        "The images with masks are in the data of XLSor, free from "
        "https://github.com/rsummers11/CADLab/tree/master/Lung_Segmentation_XLSor; of it, NIH/ is "
        "needed."
    )
    citation: ClassVar[str] = (
        "Tang et al., XLSor: a robust and accurate lung segmentor on chest X-rays, MIDL 2019, "
        "arXiv:1904.09229; images: Wang et al., ChestX-ray8, CVPR 2017, arXiv:1705.02315"
    )
    folders: ClassVar[tuple[str, ...]] = ("NIH", "data/NIH", "XLSor_data/data/NIH")
    images: ClassVar[str] = "images"
    # Whoever takes the images from ChestX-ray14 has them larger than the masks.
    mask_size_free: ClassVar[bool] = True

    def listing(self, exclusion: Exclusion) -> Listing:
        """Lists the images with masks, whose names may end in `_mask` or not.

        Raises:
            DataError: If the folder of images is not there.
        """
        base = self.top_level()
        masks = find_files(self.root, f"{base}/masks", Findings())  # listed again below
        named = any(file.rsplit(".", 1)[0].lower().endswith("_mask") for file in masks)
        return Listing(
            pair_folders(
                self.root,
                f"{base}/{self.images}",
                f"{base}/masks",
                mask_suffix="_mask" if named or not masks else "",
                exclusion=exclusion,
                group_of=_patient,
            )
        )


def _patient(key: str) -> str:
    """The first eight digits of a name as 00000013_026; another name is its own patient."""
    match = re.search(r"(?:^|/)(\d{8})_\d{3}$", key)
    return match.group(1) if match else key
