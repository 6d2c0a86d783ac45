"""Shenzhen: chest radiographs of a tuberculosis clinic with masks of the lungs.

Layout, licence, citation and traps: docs/data/shenzhen.md.
"""

import re
from dataclasses import replace
from typing import ClassVar

from data_modules.kinds.chest import ChestDataModule
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.items import Listing, Part
from data_modules.listing.pairs import pair_folders


class ShenzhenDataModule(ChestDataModule):
    """The images that have a mask: 566 of 662 in the official set.

    Each image is of a patient of its own, whose number is in the name.

    Args:
        root: Folder that holds `Shenzhen/` or `ChinaSet_AllFiles/`.
        **kwargs: As `ChestDataModule`.
    """

    short_name: ClassVar[str] = "shenzhen"
    title: ClassVar[str] = "Shenzhen chest radiographs with lung masks"
    origin: ClassVar[str] = (
        "The images (ChinaSet_AllFiles) are free at "
        "https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html, the masks at "
        "https://www.kaggle.com/datasets/yoctoman/shcxr-lung-mask; unpack them as "
        "docs/data/shenzhen.md says."
    )
    citation: ClassVar[str] = (
        "Jaeger et al., Two public chest X-ray datasets for computer-aided screening of pulmonary "
        "diseases, 2014, doi:10.3978/j.issn.2223-4292.2014.11.20; "
        "masks: Stirenko et al., 2018, arXiv:1803.01199"
    )
    folders: ClassVar[tuple[str, ...]] = ("Shenzhen", "ChinaSet_AllFiles")
    images: ClassVar[str] = "CXR_png"

    def listing(self, exclusion: Exclusion) -> Listing:
        """Lists the images with masks.

        Raises:
            DataError: If the folder of images is not there.
        """
        base = self.top_level()
        # The masks' archive unpacks into a folder in a folder.
        twice = (self.root / base / "mask/mask").is_dir()
        part = pair_folders(
            self.root,
            f"{base}/{self.images}",
            f"{base}/mask/mask" if twice else f"{base}/mask",
            mask_suffix="_mask",
            exclusion=exclusion,
            group_of=_patient,
        )
        return Listing(self._with_masks(part))

    def _with_masks(self, part: Part) -> Part:
        """Leaves out images without a mask, unless that is all of them."""
        unmasked = {item.image for item in part.items if not item.labelled}
        if not unmasked or len(unmasked) == len(part.items):
            return part
        self.tell([f"{len(unmasked)} of {len(part.items)} images have no mask and are left out"])
        return replace(
            part,
            items=[item for item in part.items if item.labelled],
            problems=[problem for problem in part.problems if problem.path not in unmasked],
        )


def _patient(key: str) -> str:
    match = re.search(r"CHNCXR_(\d+)_[01]$", key)
    return match.group(1) if match else key
