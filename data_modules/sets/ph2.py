"""PH2: dermoscopic images of melanocytic lesions with masks.

Layout, licence, citation and traps: docs/data/ph2.md.
"""

from pathlib import Path
from typing import ClassVar

from data_modules.kinds.masks import ImageMaskDataModule
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.files import find_files, subfolder
from data_modules.listing.items import Findings, Listing, MaskPart, Problem
from data_modules.listing.pairs import pair_by_key
from data_modules.names import comparable

_IMAGES = "_dermoscopic_image"
_MASKS = "_lesion"
_REGIONS = "_roi"  # coloured parts of some lesions, which are not asked for here


class PH2DataModule(ImageMaskDataModule):
    """200 dermoscopic images with lesion masks (class 1), in the official folder layout.

    There is one image of each lesion and nothing that tells patients apart, so each image is a
    group of its own; identical files stay together.

    Args:
        root: Folder that holds `PH2Dataset/`, or `PH2 Dataset images/` itself.
        **kwargs: As `ImageMaskDataModule`.
    """

    short_name: ClassVar[str] = "ph2"
    title: ClassVar[str] = "PH2 skin lesions with masks"
    origin: ClassVar[str] = (
        "The images are sent on request: https://www.fc.up.pt/addi/ph2%20database.html; unpack "
        "PH2Dataset into that folder."
    )
    citation: ClassVar[str] = (
        "Mendonça et al., PH2: a dermoscopic image database for research and benchmarking, "
        "EMBC 2013, doi:10.1109/EMBC.2013.6610779"
    )

    def listing(self, exclusion: Exclusion) -> Listing:
        """Lists the cases, a folder each.

        Raises:
            DataError: If the folder of the cases is not there.
        """
        base = subfolder(self.root, "PH2Dataset") or self.root
        cases = subfolder(base, "PH2 Dataset images")
        if cases is None:
            raise self.wrong_layout("PH2 needs PH2Dataset/PH2 Dataset images/IMD002/ ... in it")
        folder = cases.relative_to(self.root).as_posix()
        met = Findings()
        files = find_files(self.root, folder, met)
        masks = _of_cases(files, _MASKS, met.problems)
        images = _of_cases(files, _IMAGES, met.problems)
        known = (_MASKS, _IMAGES, _REGIONS)
        met.left_out += [f for f in files if not Path(f).parent.name.lower().endswith(known)]
        part = pair_by_key(
            images,
            {case: (MaskPart(file, 1),) for case, file in masks.items()},
            images=folder,
            masks=f"{folder}/*/*{_MASKS}",
            labelled=bool(masks),
            exclusion=exclusion,
            group_of=lambda case: case,
            wanted=lambda case: f"{folder}/{case}/{case}{_MASKS}/{case}{_MASKS}.bmp",
            met=met,
        )
        return Listing(part)


def _of_cases(files: list[str], ending: str, problems: list[Problem]) -> dict[str, str]:
    """The file of each case: the one in its folder of that ending."""
    found: dict[str, str] = {}
    for file in files:
        folder = Path(file).parent.name
        if not folder.lower().endswith(ending):
            continue
        case = comparable(folder[: -len(ending)])
        if case in found:
            text = f"is in one folder with {found[case]}; remove one of them"
            problems.append(Problem("duplicate", file, text))
            continue
        found[case] = file
    return found
