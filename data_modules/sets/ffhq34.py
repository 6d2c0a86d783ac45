"""FFHQ-34: 40 faces with 33 fine parts and background, 20 for training and 20 for test.

Layout, licence, citation and traps: docs/data/ffhq34.md.
"""

from pathlib import Path
from typing import Any, ClassVar

from data_modules.kinds.masks import ImageMaskDataModule
from data_modules.kinds.ranges import MaskClasses
from data_modules.listing.exclusion import Exclusion
from data_modules.listing.items import Listing, Part
from data_modules.listing.pairs import pair_folders

FOLDER = "ffhq_34/real"

CLASSES = (
    "background",
    "head",
    "cheek",
    "chin",
    "ear",
    "ear helix",
    "ear lobule",
    "eye bottom lid",
    "eyelashes",
    "iris",
    "pupil",
    "sclera",
    "tear duct",
    "eye top lid",
    "eyebrow",
    "forehead",
    "frown",
    "hair",
    "sideburns",
    "jaw",
    "moustache",
    "inferior lip",
    "oral commissure",
    "superior lip",
    "teeth",
    "neck",
    "nose",
    "ala of nose",
    "nose bridge",
    "nose tip",
    "nostril",
    "philtrum",
    "temple",
    "wrinkles",
)
"""What each class id stands for, as in `ffhq_class` of the authors' code."""
_COUNT = len(CLASSES)


class FFHQ34DataModule(ImageMaskDataModule):
    """Faces with 34 classes, in the layout of the label-efficient segmentation benchmark.

    The official test images are `test`; with `num_train_samples` they are halved into `val` and
    `test` (docs/papers/hybrid.md 2c-8: 20 / 10 / 10).

    Args:
        root: Folder that holds `ffhq_34/`, or `datasets/ffhq_34/`.
        num_classes: 34, background included.
        **kwargs: As `ImageMaskDataModule`.
    """

    short_name: ClassVar[str] = "ffhq34"
    title: ClassVar[str] = "FFHQ-34: 40 faces with 33 fine parts"
    origin: ClassVar[str] = (
        "The images are free for research: datasets.tar.gz of "
        "https://github.com/yandex-research/ddpm-segmentation holds ffhq_34/; unpack it into that "
        "folder."
    )
    citation: ClassVar[str] = (
        "Baranchuk et al., Label-efficient semantic segmentation with diffusion models, ICLR 2022, "
        "arXiv:2112.03126; images: Karras, Laine, Aila, CVPR 2019, arXiv:1812.04948"
    )

    def __init__(
        self, root: str | None = None, num_classes: MaskClasses = _COUNT, **kwargs: Any
    ) -> None:
        super().__init__(root=root, num_classes=num_classes, **kwargs)

    @classmethod
    def present(cls, root: Path) -> bool:
        """Whether there is a folder of training or test images; lists no file."""
        return _base(root) is not None

    def listing(self, exclusion: Exclusion) -> Listing:
        """Lists the two folders; an image and its class ids lie side by side.

        Raises:
            DataError: If neither training nor test images are there.
        """
        base = _base(self.root)
        if base is None:
            raise self.wrong_layout(
                f"FFHQ-34 needs {FOLDER}/train/ and {FOLDER}/test/ in it, each with images and an "
                "npy file of the same name for each"
            )
        train = self._part(f"{base}/train", exclusion)
        return Listing(train or Part(), None, self._part(f"{base}/test", exclusion))

    def _part(self, folder: str, exclusion: Exclusion) -> Part | None:
        if not (self.root / folder).is_dir():
            return None
        return pair_folders(
            self.root,
            folder,
            folder,
            mask_suffix="",
            mask_type=".npy",
            exclusion=exclusion,
            group_of=lambda key: f"{folder}/{key}",
        )


def _base(root: Path) -> str | None:
    """The folder below the root that holds `train/` and `test/`."""
    bases = (FOLDER, f"datasets/{FOLDER}")
    parts = ("train", "test")
    return next((b for b in bases if any((root / b / part).is_dir() for part in parts)), None)
