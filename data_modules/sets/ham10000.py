"""HAM10000: dermoscopic images of pigmented lesions with masks, several images of some lesions.

Layout, licence, citation and traps: docs/data/ham10000.md.
"""

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from data_modules.kinds.masks import ImageMaskDataModule
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.files import find_files, subfolder
from data_modules.listing.items import Findings, Listing, MaskPart, Problem
from data_modules.listing.pairs import by_key, pair_by_key, same_name
from data_modules.names import comparable

_IMAGES = ("HAM10000_images_part_1", "HAM10000_images_part_2")
_MASKS = "HAM10000_segmentations_lesion_tschandl"
_METADATA = ("HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata")
_SUFFIX = "_segmentation"
_EXPECTED = "expected lesion_id and image_id, with commas or tabs between"
_LOOSE = re.compile(r"ISIC_\d+")


class HAM10000DataModule(ImageMaskDataModule):
    """10015 dermoscopic images with lesion masks (class 1), in the official folder layout.

    The metadata tell which images show one lesion; these never come into two splits. Images and
    masks may also lie in `HAM10000/` itself, as archives without a folder unpack.

    Args:
        root: Folder that holds `HAM10000/`, or what is in that.
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
            DataError: If there are no images where they are expected.
        """
        base = subfolder(self.root, "HAM10000") or self.root
        met, met_masks = Findings(), Findings()
        folders = [self._inside(f) for name in _IMAGES if (f := subfolder(base, name))]
        masks = self._inside(subfolder(base, _MASKS) or base / _MASKS)
        loose = self._loose(base, met)
        if not folders and not any(not _is_mask(file) for file in loose):
            raise self.wrong_layout(
                f"HAM10000 needs HAM10000/{_IMAGES[0]}/, {_IMAGES[1]}/, {_MASKS}/ and "
                f"{_METADATA[0]}"
            )
        found = [file for folder in folders for file in find_files(self.root, folder, met)]
        images = _by_name([*found, *(file for file in loose if not _is_mask(file))], met)
        drawn = find_files(self.root, masks, met_masks)
        keyed = by_key(drawn, masks, _SUFFIX, met_masks.problems)
        mask_of = _by_name([*keyed.values(), *filter(_is_mask, loose)], met_masks, _SUFFIX)
        lesions = self._lesions(base, met_masks.problems)
        where = folders or [self._inside(base)]
        part = pair_by_key(
            images,
            {name: (MaskPart(file, 1),) for name, file in mask_of.items()},
            images=" and ".join(where),
            masks=masks,
            labelled=bool(mask_of) or (self.root / masks).is_dir(),
            exclusion=exclusion,
            group_of=lambda name: lesions.get(name, name),
            wanted=lambda name: f"{masks}/{name}{_SUFFIX}.png",
            met=met,
            met_masks=met_masks,
        )
        part.problems += [
            Problem("unpaired", item.image, f"has no lesion in {_METADATA[0]}")
            for item in part.items
            if lesions and Path(item.image).stem not in lesions
        ]
        return Listing(part)

    def _loose(self, base: Path, met: Findings) -> list[str]:
        """Images and masks that lie in the data set's folder itself.

        The root itself is only searched where the table or the masks are there too: any folder
        may hold images of ISIC.
        """
        if base == self.root and not (_tables(base) or subfolder(base, _MASKS)):
            return []
        aside = Findings()  # a folder that holds all kinds of things
        files = find_files(self.root, self._inside(base), aside, deep=False)
        named = [file for file in files if _LOOSE.match(Path(file).name)]
        met.problems += [p for p in aside.problems if _LOOSE.match(Path(p.path).name)]
        met.left_out += [file for file in aside.left_out if _LOOSE.match(Path(file).name)]
        return named

    def _inside(self, folder: Path) -> str:
        return folder.relative_to(self.root).as_posix()

    def _lesions(self, base: Path, problems: list[Problem]) -> dict[str, str]:
        """The lesion of each image; without the metadata none, and a problem."""
        tables = _tables(base)
        if not tables:
            text = "missing: it tells which images show one lesion, so that no split parts them"
            problems.append(Problem("missing", self._inside(base / _METADATA[0]), text))
            return {}
        lesions: dict[str, str] = {}
        for path in tables:
            try:
                read = _read_table(path)
            except KeyError as error:
                text = f"has no column {error.args[0]}; {_EXPECTED}"
            except (OSError, UnicodeDecodeError, csv.Error) as error:
                text = f"cannot be read as a table with commas or tabs ({error})"
            else:
                if not lesions or lesions == read:
                    lesions = read
                    continue
                text = f"tells other lesions than {tables[0].name}; remove one of them"
            problems.append(Problem("unreadable", self._inside(path), text))
        return lesions


def _by_name(files: Iterable[str], met: Findings, suffix: str = "") -> dict[str, str]:
    """Files by their names without ending and suffix, whatever folder they lie in."""
    found: dict[str, str] = {}
    for file in files:
        stem = comparable(Path(file).stem)
        name = stem[: len(stem) - len(suffix)]
        if name in found:
            met.problems.append(same_name(file, found[name]))
        else:
            found[name] = file
    return found


def _is_mask(file: str) -> bool:
    return Path(file).stem.lower().endswith(_SUFFIX)


def _tables(base: Path) -> list[Path]:
    """The metadata, under each of the names that the archive offers."""
    return [base / name for name in _METADATA if (base / name).is_file()]


def _read_table(path: Path) -> dict[str, str]:
    """The lesion of each image that has one.

    Raises:
        KeyError: If a column is missing.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        file.seek(0)
        rows = csv.DictReader(file, delimiter="\t" if "\t" in header else ",")
        for column in ("lesion_id", "image_id"):
            if column not in (rows.fieldnames or ()):
                raise KeyError(column)
        return {row["image_id"]: row["lesion_id"] for row in rows if row["lesion_id"]}
