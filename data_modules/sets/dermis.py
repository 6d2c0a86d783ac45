"""DermIS: photographs of skin lesions with masks, from the University of Waterloo's collection.

Layout, licence, citation and traps: docs/data/dermis.md.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from data_modules.kinds.masks import ImageMaskDataModule
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.files import find_files, subfolder
from data_modules.listing.items import Findings, Listing, MaskPart, Part, Problem
from data_modules.listing.pairs import by_key, pair_by_key

_SETS = {"melanoma": "Skin Image Data Set-1", "notmelanoma": "Skin Image Data Set-2"}
_IMAGE = "_orig"
_MASK = "_contour"


class DermISDataModule(ImageMaskDataModule):
    """69 photographs of skin with lesion masks (class 1), in the layout of the archives.

    `X_2_orig.jpg` is taken for a second picture of the lesion `X` and stays in one split with it.

    Args:
        root: Folder that holds `Skin Image Data Set-1/` and `Skin Image Data Set-2/`, or
            `skin_data/` with both halves.
        dermquest: Whether the 137 photographs from DermQuest beside them are used too.
        **kwargs: As `ImageMaskDataModule`.
    """

    short_name: ClassVar[str] = "dermis"
    title: ClassVar[str] = "DermIS photographs of skin lesions with masks"
    origin: ClassVar[str] = (
        "The photographs are free at https://uwaterloo.ca/vision-image-processing-lab/"
        "research-demos/skin-cancer-detection;\n"
        "unpack skin_image_data_set-1.zip and -2.zip into that folder."
    )
    citation: ClassVar[str] = (
        "Glaister, Wong, Clausi, Segmentation of skin lesions from digital images using joint "
        "statistical texture distinctiveness, 2014, doi:10.1109/TBME.2013.2297622"
    )

    def __init__(self, root: str | None = None, dermquest: bool = False, **kwargs: Any) -> None:
        super().__init__(root=root, **kwargs)
        self.dermquest = dermquest

    def listing(self, exclusion: Exclusion) -> Listing:
        """Lists photographs and masks, which lie in one folder.

        Raises:
            DataError: If none of the folders is there.
        """
        sources = ("dermis", "dermquest") if self.dermquest else ("dermis",)
        part = Part(labelled=True, folder="skin_data")
        for kind, archive in _SETS.items():
            for source in sources:
                folder = next(self._folders(kind, source), None)
                if folder is None:
                    path = f"{archive}/skin_data/{kind}/{source}/"
                    part.problems.append(Problem("missing", path, "missing folder of photographs"))
                    continue
                found = self._photographs(folder, f"{kind}/{source}", exclusion)
                part.items += found.items
                part.problems += found.problems
                part.met.add([found.met])
        if not part.items and all(problem.kind == "missing" for problem in part.problems):
            raise self.wrong_layout(
                f"DermIS needs {_SETS['melanoma']}/skin_data/melanoma/dermis/ and "
                f"{_SETS['notmelanoma']}/skin_data/notmelanoma/dermis/ in it"
            )
        return Listing(part)

    def _photographs(self, folder: str, name: str, exclusion: Exclusion) -> Part:
        met = Findings()
        files, endings = find_files(self.root, folder, met), (_IMAGE, _MASK)
        images, masks = (
            by_key(
                [file for file in files if Path(file).stem.lower().endswith(ending)],
                folder,
                ending,
                met.problems,
            )
            for ending in endings
        )
        met.left_out += [f for f in files if not Path(f).stem.lower().endswith(endings)]
        return pair_by_key(
            images,
            {key: (MaskPart(file, 1),) for key, file in masks.items()},
            images=folder,
            masks=folder,
            labelled=True,
            exclusion=exclusion,
            group_of=lambda key: f"{name}/" + re.sub(r"_\d+$", "", key),
            wanted=lambda key: f"{folder}/{key}{_MASK}.png",
            met=met,
        )

    def _folders(self, kind: str, source: str) -> Iterator[str]:
        """Where the photographs of one kind and source may lie, and do."""
        archive = _SETS[kind]
        zipped = archive.lower().replace(" ", "_")
        for names in ((), (archive,), (zipped, archive), (zipped,)):
            folder = subfolder(self.root, *names, "skin_data", kind, source)
            if folder is not None:
                yield folder.relative_to(self.root).as_posix()
