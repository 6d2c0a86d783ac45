"""What a data set lists: images, their masks, and what is wrong with them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from data_modules.names import escaped, one_line

Kind: TypeAlias = Literal[
    "missing", "file", "unreadable", "unpaired", "size", "values", "duplicate", "leak", "split"
]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a data set.

    Attributes:
        kind: What sort of problem it is; `file` is what is no file where one is expected.
        path: File or folder, relative to the root.
        text: What is wrong, and how to fix it where that is not plain.
    """

    kind: Kind
    path: str
    text: str

    def __str__(self) -> str:
        return f"{one_line(self.path)}: {escaped(self.text)}"


@dataclass(frozen=True)
class MaskPart:
    """One file of a mask.

    Attributes:
        path: Relative to the root, with forward slashes.
        label: The class of every non-zero pixel of a binary file. None: the file says the class of
            each pixel itself, as class ids or as 0 and 255.
    """

    path: str
    label: int | None = None


@dataclass(frozen=True)
class Item:
    """One image and, where there is one, its mask.

    Attributes:
        image: Path relative to the root, with forward slashes.
        masks: The files of its mask, painted in this order, later ones over earlier ones; none
            where the image has no mask.
        group: What must not be torn apart by a split: patient, lesion or slide, else the image.
    """

    image: str
    masks: tuple[MaskPart, ...]
    group: str

    @property
    def path(self) -> str:
        """What names it: the path of its image, `escaped` where that is no UTF-8."""
        return escaped(self.image)

    @property
    def source(self) -> tuple[str, int | None]:
        """The file that the image is read from; it has no planes."""
        return self.image, None

    @property
    def labelled(self) -> bool:
        """Whether there is a mask."""
        return bool(self.masks)


@dataclass
class Findings:
    """What was met beside the files of a data set.

    Attributes:
        problems: What is no file where one is expected, and files of one name.
        left_out: Files that are not read, relative to the root.
        repeated: Links to folders that are listed elsewhere, and what they lead to.
    """

    problems: list[Problem] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def add(self, others: Iterable["Findings"]) -> None:
        """Takes over what was met elsewhere, each thing once."""
        for other in others:
            for own, new in zip(vars(self).values(), vars(other).values(), strict=True):
                own[:] = dict.fromkeys([*own, *new])


@dataclass
class Part:
    """The items of one image folder.

    Attributes:
        items: In alphabetical order.
        problems: Unpaired files, missing folder of masks, and what `met` holds.
        labelled: Whether there is a folder of masks.
        folder: Where its images lie; empty where there is no such folder.
        met: What lies beside the files; its problems are those of images, which concern a run that
            reads no masks too.
    """

    items: list[Item] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    labelled: bool = False
    folder: str = ""
    met: Findings = field(default_factory=Findings)


@dataclass
class Listing:
    """Where the items of a data set are.

    Attributes:
        pool: What is split into training, validation and test.
        val: Official validation set, where one is used.
        test: Official test set, where there is one.
    """

    pool: Part
    val: Part | None = None
    test: Part | None = None

    @property
    def parts(self) -> list[Part]:
        """Those that there are."""
        return [part for part in (self.pool, self.val, self.test) if part is not None]
