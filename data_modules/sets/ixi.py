"""IXI: T1, T2 and PD of the brains of healthy people, and other MR slices in folders.

Layouts, pairs, splits, licence and traps: docs/data/ixi.md.
"""

import re
from typing import ClassVar

from data_modules.kinds.slices import SliceDataModule
from data_modules.listing.scan_names import ScanNames

_NAMES = ScanNames(
    folder="IXI",
    volume=re.compile(r"IXI\d{3}-.*?-(T1|T2|PD)(?![0-9A-Za-z])"),
    subject=re.compile(r"(IXI\d{3})(?!\d)"),
)


class IXIDataModule(SliceDataModule):
    """The volumes of about 600 people in the official names, or slices and volumes of your own.

    Args:
        root: Folder that holds the volumes, or folders `T1`, `T2`, `PD`. None: `data/ixi`.
        **kwargs: As `SliceDataModule`.
    """

    short_name: ClassVar[str] = "ixi"
    title: ClassVar[str] = "IXI brain MR in T1, T2 and PD, split by subject"
    origin: ClassVar[str] = (
        "The volumes are free at https://brain-development.org/ixi-dataset/ (T1, T2 and PD "
        "images); unpack the archives into that folder."
    )
    citation: ClassVar[str] = (
        "IXI (Information eXtraction from Images), EPSRC GR/S21533/02, "
        "https://brain-development.org/ixi-dataset/"
    )
    needed: ClassVar[str] = (
        "IXI needs volumes like IXI012-HH-1211-T1.nii.gz below it, or folders T1/, T2/ or PD/ of "
        "NIfTI, png or npz files in it or in its folder IXI/"
    )

    @classmethod
    def names(cls) -> ScanNames:
        """Official names as `IXI012-HH-1211-T1.nii.gz`; `IXI###` is the subject."""
        return _NAMES
