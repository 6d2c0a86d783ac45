"""CelebAMask-HQ: faces with 18 parts and background.

Layout, licence, citation and traps: docs/data/celebamask_hq.md.
"""

import os
from pathlib import Path
from typing import Any, ClassVar

from data_modules.errors import DataError
from data_modules.kinds.masks import ImageMaskDataModule
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.items import Listing, MaskPart, Problem
from data_modules.listing.pairs import pair_by_key
from data_modules.reading.formats import IMAGE_SUFFIXES

FOLDER = "CelebAMask-HQ"
IMAGES = "CelebA-HQ-img"
MASKS = "CelebAMask-HQ-mask-anno"

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
_DIGITS = 5  # of an image's number in the names of its part files


class CelebAMaskHQDataModule(ImageMaskDataModule):
    """Faces with 19 classes, in the official folder layout.

    Each part of a face has a binary file of its own, and a part that is not to be seen has none.
    They are painted in the order of the label list: skin first, so that all other parts lie over
    it (docs/papers/hybrid.md 2d).

    Args:
        root: Folder that holds `CelebAMask-HQ/`, or its two folders themselves.
        num_classes: 19: background and 18 parts.
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
        num_classes: int = len(PARTS) + 1,
        augment: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root=root, num_classes=num_classes, augment=augment, **kwargs)
        if num_classes != len(PARTS) + 1:
            raise DataError(
                f"data.init_args.num_classes: {num_classes} given, expected {len(PARTS) + 1}: "
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
            DataError: If there is no folder of images.
        """
        base = _base(self.root)
        if base is None:
            raise self.wrong_layout(self._needed())
        problems: list[Problem] = []
        part = pair_by_key(
            _images(self.root, f"{base}{IMAGES}", problems),
            _masks(self.root, f"{base}{MASKS}", problems),
            images=f"{base}{IMAGES}",
            masks=f"{base}{MASKS}",
            labelled=(self.root / base / MASKS).is_dir(),
            exclusion=exclusion,
            group_of=lambda key: key,
            wanted=lambda key: f"{base}{MASKS}/*/{key}_skin.png (or another part)",
            problems=problems,
        )
        return Listing(part)

    def _needed(self) -> str:
        hint = f"CelebAMask-HQ needs {FOLDER}/{IMAGES}/ and {FOLDER}/{MASKS}/ in it"
        if self.root.resolve().name in (IMAGES, MASKS):
            hint += f": give the folder above, {self.root.parent}"
        return hint


def _base(root: Path) -> str | None:
    """What comes before the name of the folder of images, below the root."""
    return next((base for base in (f"{FOLDER}/", "") if (root / base / IMAGES).is_dir()), None)


def _images(root: Path, folder: str, problems: list[Problem]) -> dict[str, str]:
    """The image of each key: its number with five digits."""
    found: dict[str, str] = {}
    for name in _names(root / folder):
        number, _, suffix = name.partition(".")
        if number.isdecimal() and f".{suffix.lower()}" in IMAGE_SUFFIXES:
            key, path = number.zfill(_DIGITS), f"{folder}/{name}"
            if found.setdefault(key, path) != path:
                problems.append(_twice(path, found[key]))
    return found


def _masks(root: Path, folder: str, problems: list[Problem]) -> dict[str, list[MaskPart]]:
    """The part files of each key, in the order of the label list."""
    found: dict[str, dict[int, str]] = {}
    for inside in _names(root / folder) if (root / folder).is_dir() else []:
        if not (root / folder / inside).is_dir():
            continue
        for name in _names(root / folder / inside):
            path = f"{folder}/{inside}/{name}"
            stem, _, suffix = name.rpartition(".")
            number, _, part = stem.partition("_")
            label = _LABELS.get(part)
            if suffix.lower() != "png":
                continue
            if label is None or not number.isdecimal():
                text = f"is no part of a face: expected NUMBER_PART.png, of {', '.join(PARTS)}"
                problems.append(Problem("unpaired", path, text))
                continue
            labels = found.setdefault(number.zfill(_DIGITS), {})
            if labels.setdefault(label, path) != path:
                problems.append(_twice(path, labels[label]))
    return {
        key: [MaskPart(labels[label], label) for label in sorted(labels)]
        for key, labels in found.items()
    }


def _names(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _twice(path: str, other: str) -> Problem:
    return Problem("duplicate", path, f"stands for the same as {other}; remove one of them")
