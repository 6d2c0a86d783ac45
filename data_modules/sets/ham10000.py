"""HAM10000: dermoscopic images of pigmented lesions with masks, several images of some lesions.

Layout, licence, citation and traps: docs/data/ham10000.md.
"""

import csv
from pathlib import Path
from typing import ClassVar

from data_modules.kinds.masks import ImageMaskDataModule
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.files import find_files, subfolder
from data_modules.listing.items import Listing, MaskPart, Problem
from data_modules.listing.pairs import by_key, pair_by_key

_IMAGES = ("HAM10000_images_part_1", "HAM10000_images_part_2")
_MASKS = "HAM10000_segmentations_lesion_tschandl"
_METADATA = "HAM10000_metadata.csv"
_SUFFIX = "_segmentation"


class HAM10000DataModule(ImageMaskDataModule):
    """10015 dermoscopic images with lesion masks (class 1), in the official folder layout.

    The metadata tell which images show one lesion; these never come into two splits.

    Args:
        root: Folder that holds `HAM10000/`, or the official folders themselves.
        **kwargs: As `ImageMaskDataModule`.
    """

    short_name: ClassVar[str] = "ham10000"
    title: ClassVar[str] = "HAM10000 skin lesions with masks, split by lesion"
    origin: ClassVar[str] = (
        "The images, masks and metadata are free at https://doi.org/10.7910/DVN/DBW86T; unpack the "
        "archives into HAM10000/ in that folder."
    )
    citation: ClassVar[str] = (
        "Tschandl, Rosendahl, Kittler, The HAM10000 dataset, a large collection of multi-source "
        "dermatoscopic images of common pigmented skin lesions, 2018, doi:10.1038/sdata.2018.161"
    )

    def listing(self, exclusion: Exclusion) -> Listing:
        """Lists the official folders and reads which images show one lesion.

        Raises:
            DataError: If neither folder of images is there.
        """
        base = subfolder(self.root, "HAM10000") or self.root
        folders = [f for name in _IMAGES if (f := subfolder(base, name)) is not None]
        if not folders:
            raise self.wrong_layout(
                f"HAM10000 needs HAM10000/{_IMAGES[0]}/, {_IMAGES[1]}/, {_MASKS}/ and {_METADATA}"
            )
        problems: list[Problem] = []
        images: dict[str, str] = {}
        for folder in map(self._inside, folders):
            for file in find_files(self.root, folder):
                name = Path(file).stem
                if name in images:
                    text = f"has the same name as {images[name]}; remove one of them"
                    problems.append(Problem("duplicate", file, text))
                    continue
                images[name] = file
        masks = self._inside(subfolder(base, _MASKS) or base / _MASKS)
        masks_by_key = by_key(find_files(self.root, masks), masks, _SUFFIX, problems)
        lesions = self._lesions(base, problems)
        part = pair_by_key(
            images,
            {Path(key).name: (MaskPart(file, 1),) for key, file in masks_by_key.items()},
            images=" and ".join(map(self._inside, folders)),
            masks=masks,
            labelled=(self.root / masks).is_dir(),
            exclusion=exclusion,
            group_of=lambda name: lesions.get(name, name),
            wanted=lambda name: f"{masks}/{name}{_SUFFIX}.png",
            problems=problems,
        )
        part.problems += [
            Problem("unpaired", item.image, f"is not in {_METADATA}, which tells its lesion")
            for item in part.items
            if lesions and Path(item.image).stem not in lesions
        ]
        return Listing(part)

    def _inside(self, folder: Path) -> str:
        return folder.relative_to(self.root).as_posix()

    def _lesions(self, base: Path, problems: list[Problem]) -> dict[str, str]:
        """The lesion of each image; without the metadata none, and a problem."""
        # The archive also offers the file without its ending.
        paths = (base / _METADATA, base / _METADATA.removesuffix(".csv"))
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            text = "missing: it tells which images show one lesion, so that no split parts them"
            problems.append(Problem("missing", self._inside(paths[0]), text))
            return {}
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                return {row["image_id"]: row["lesion_id"] for row in csv.DictReader(file)}
        except KeyError as error:
            text = f"has no column {error.args[0]}; expected lesion_id and image_id, with commas"
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            text = f"cannot be read as a table with commas ({error})"
        problems.append(Problem("unreadable", self._inside(path), text))
        return {}
