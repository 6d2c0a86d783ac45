"""CelebAMask-HQ: faces with 18 parts and background.

Layout, licence, citation and traps: docs/data/celebamask_hq.md.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from data_modules.errors import DataError
from data_modules.kinds.masks import ImageMaskDataModule
from data_modules.kinds.ranges import MaskClasses
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.files import find_files, missing_folder
from data_modules.listing.items import Findings, Item, Listing, MaskPart, Part, Problem
from data_modules.listing.pairs import pair_by_key

FOLDER = "CelebAMask-HQ"
IMAGES = "CelebA-HQ-img"
MASKS = "CelebAMask-HQ-mask-anno"
SPELLINGS = (MASKS, "CelebAMaskHQ-mask-anno")
"""The folder of masks as the archive has it, and as the authors' scripts call it."""
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"

PARTS = (
    "skin",
    "nose",
    "eye_g",
    "l_eye",
    "r_eye",
    "l_brow",
    "r_brow",
    "l_ear",
    "r_ear",
    "mouth",
    "u_lip",
    "l_lip",
    "hair",
    "hat",
    "ear_r",
    "neck_l",
    "neck",
    "cloth",
)
"""The parts as files are named; part k is class k + 1 of the official label list."""

_LABELS = {part: label for label, part in enumerate(PARTS, start=1)}
_OFFICIAL = (162771, 182638)  # where validation and test begin, in the numbers of CelebA
_DIGITS = 5  # of an image's number in the names of its part files
_CLASSES = len(PARTS) + 1


class CelebAMaskHQDataModule(ImageMaskDataModule):
    """Faces with 19 classes, in the official folder layout.

    Each part of a face has a binary file of its own, and a part that is not to be seen has none.
    They are painted in the order of the label list: skin first, so that all other parts lie over
    it (docs/papers/hybrid.md 2d).

    Args:
        root: Folder that holds `CelebAMask-HQ/`, or its two folders themselves.
        num_classes: 19: background and 18 parts.
        official_split: Whether validation and test are those of the authors, by the numbers that
            the images have in CelebA (`CelebA-HQ-to-CelebA-mapping.txt`).
        augment: As `ImageMaskDataModule`, without `hflip`: it would leave left eyes, brows
            and ears on the right.
        **kwargs: As `ImageMaskDataModule`.
    """

    short_name: ClassVar[str] = "celebamask_hq"
    title: ClassVar[str] = "CelebAMask-HQ faces with 18 parts"
    origin: ClassVar[str] = (
        "The images are free for research at https://github.com/switchablenorms/CelebAMask-HQ "
        "(CelebAMask-HQ.zip); unpack it into that folder."
    )
    citation: ClassVar[str] = (
        "Lee, Liu, Wu, Luo, MaskGAN: towards diverse and interactive facial image manipulation, "
        "CVPR 2020, arXiv:1907.11922"
    )
    mask_size_free: ClassVar[bool] = True  # images have 1024 pixels a side, masks 512

    def __init__(
        self,
        root: str | None = None,
        num_classes: MaskClasses = _CLASSES,
        official_split: bool = False,
        augment: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root=root, num_classes=num_classes, augment=augment, **kwargs)
        self.official_split = official_split
        if num_classes != _CLASSES:
            raise DataError(
                f"data.init_args.num_classes: {num_classes} given, expected {_CLASSES}: "
                f"background and the {len(PARTS)} parts of CelebAMask-HQ."
            )
        if augment and "hflip" in augment:
            raise DataError(
                "data.init_args.augment: hflip would give left eyes, brows and ears the place of "
                "right ones, which are other classes here; remove it."
            )

    @classmethod
    def present(cls, root: Path) -> bool:
        """Whether the folder of images is there; lists no file."""
        return _base(root) is not None

    def listing(self, exclusion: Exclusion) -> Listing:
        """Lists the folder of images and each folder of part files once.

        Raises:
            DataError: If there is no folder of images, or no mapping for the official split.
        """
        base = _base(self.root)
        if base is None:
            raise self.wrong_layout(self._needed())
        spellings = [f"{base}{name}" for name in SPELLINGS if (self.root / base / name).is_dir()]
        masks = spellings[0] if spellings else f"{base}{MASKS}"
        met, met_masks = Findings(), Findings()
        part = pair_by_key(
            _images(self.root, f"{base}{IMAGES}", met),
            _masks(self.root, spellings, met_masks),
            images=f"{base}{IMAGES}",
            masks=masks,
            labelled=bool(spellings),
            exclusion=exclusion,
            group_of=lambda key: key,
            wanted=lambda key: f"{masks}/*/{key}_skin.png (or another part)",
            met=met,
            met_masks=met_masks,
            missing=missing_folder(self.root / masks),
        )
        if not self.official_split:
            return Listing(part)
        return _official_parts(part, _read_mapping(self.root / base / MAPPING))

    def _needed(self) -> str:
        hint = f"CelebAMask-HQ needs {FOLDER}/{IMAGES}/ and {FOLDER}/{MASKS}/ in it"
        if self.root.resolve().name in (IMAGES, MASKS):
            hint += f": give the folder above, {self.root.parent}"
        return hint


def _base(root: Path) -> str | None:
    """What comes before the name of the folder of images, below the root."""
    return next((base for base in (f"{FOLDER}/", "") if (root / base / IMAGES).is_dir()), None)


def _images(root: Path, folder: str, met: Findings) -> dict[str, str]:
    """The image of each key: its number with five digits."""
    found: dict[str, str] = {}
    for path in find_files(root, folder, met):
        number = PurePosixPath(path).stem
        if not (number.isascii() and number.isdecimal()):
            text = "is no face: expected NUMBER.jpg"
            met.problems.append(Problem("unpaired", path, text))
            continue
        key = number.zfill(_DIGITS)
        if found.setdefault(key, path) != path:
            met.problems.append(_twice(path, found[key]))
    return found


def _masks(root: Path, folders: Iterable[str], met: Findings) -> dict[str, list[MaskPart]]:
    """The part files of each key, in the order of the label list."""
    found: dict[str, dict[int, str]] = {}
    for folder in folders:
        for path in find_files(root, folder, met, suffixes=frozenset({".png"})):
            number, _, part = PurePosixPath(path).stem.partition("_")
            label = _LABELS.get(part)
            if label is None or not (number.isascii() and number.isdecimal()):
                text = f"is no part of a face: expected NUMBER_PART.png, of {', '.join(PARTS)}"
                met.problems.append(Problem("unpaired", path, text))
                continue
            labels = found.setdefault(number.zfill(_DIGITS), {})
            if labels.setdefault(label, path) != path:
                met.problems.append(_twice(path, labels[label]))
    return {
        key: [MaskPart(labels[label], label) for label in sorted(labels)]
        for key, labels in found.items()
    }


def _read_mapping(path: Path) -> dict[str, int]:
    """The number in CelebA of each key.

    Raises:
        DataError: If the file cannot be read as two columns of numbers.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()[1:]
        rows = [line.split() for line in lines if line.strip()]
        return {row[0].zfill(_DIGITS): int(row[1]) for row in rows}
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except (ValueError, IndexError) as error:
        reason = f"is no table with the numbers in CelebA-HQ and in CelebA ({error})"
    raise DataError(
        f"data.init_args.official_split: {path} {reason}.\n"
        f"{MAPPING} is in CelebAMask-HQ.zip; without it set official_split to false."
    )


def _official_parts(part: Part, numbers: Mapping[str, int]) -> Listing:
    """Training, validation and test as the authors' script tells them apart."""
    shares: tuple[list[Item], list[Item], list[Item]] = ([], [], [])
    problems = list(part.problems)  # of the whole set, whichever share is read
    for item in part.items:
        number = numbers.get(item.group)
        if number is None:
            text = f"is not in {MAPPING}, which tells its official split"
            problems.append(Problem("unpaired", item.image, text))
            continue
        shares[bisect_right(_OFFICIAL, number)].append(item)
    return Listing(*(replace(part, items=items, problems=problems) for items in shares))


def _twice(path: str, other: str) -> Problem:
    return Problem("duplicate", path, f"stands for the same as {other}; remove one of them")
