"""Montgomery: chest radiographs of a tuberculosis screening with masks of the lungs.

Layout, licence, citation and traps: docs/data/montgomery.md.
"""

import re
from typing import ClassVar

from data_modules.kinds.chest import ChestDataModule
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.items import Item, Listing, Part
from data_modules.listing.pairs import pair_folders


class MontgomeryDataModule(ChestDataModule):
    """138 images; the masks of the left and the right lung are united.

    Each image is of a patient of its own, whose number is in the name.

    Args:
        root: Folder that holds `MontgomerySet/`.
        **kwargs: As `ChestDataModule`.
    """

    short_name: ClassVar[str] = "montgomery"
    title: ClassVar[str] = "Montgomery chest radiographs with lung masks"
    origin: ClassVar[str] = (
        "The set (NLM-MontgomeryCXRSet) is free at "
        "https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html; unpack it into that folder."
    )
    citation: ClassVar[str] = (
        "Jaeger et al., Two public chest X-ray datasets for computer-aided screening of pulmonary "
        "diseases, 2014, doi:10.3978/j.issn.2223-4292.2014.11.20"
    )
    folders: ClassVar[tuple[str, ...]] = ("MontgomerySet",)
    images: ClassVar[str] = "CXR_png"

    def listing(self, exclusion: Exclusion) -> Listing:
        """Lists the images, each with the masks of both lungs.

        Raises:
            DataError: If the folder of images is not there.
        """
        base = self.top_level()
        left, right = (
            pair_folders(
                self.root,
                f"{base}/{self.images}",
                f"{base}/ManualMask/{side}",
                mask_suffix="",
                exclusion=exclusion,
                group_of=_patient,
                label=1,
            )
            for side in ("leftMask", "rightMask")
        )
        items = [
            Item(one.image, one.masks + other.masks, one.group)
            for one, other in zip(left.items, right.items, strict=True)
        ]
        # Both list the images, and say the same about them.
        problems = list(dict.fromkeys(left.problems + right.problems))
        part = Part(items, problems, left.labelled or right.labelled, left.folder)
        part.met.add([left.met, right.met])
        return Listing(part)


def _patient(key: str) -> str:
    match = re.search(r"MCUCXR_(\d+)_[01]$", key)
    return match.group(1) if match else key
