"""What is known of files that were read whole."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["image", "mask"]
Records: TypeAlias = dict[str, "FileRecord"]


@dataclass(frozen=True)
class FileRecord:
    """What is known of a file that was read whole.

    Attributes:
        digest: SHA-256 of its bytes.
        height: Pixels.
        width: Pixels.
        deep: Whether its pixels have more than 8 bits.
        values: Values that occur, of a mask; empty for an image.
    """

    digest: str
    height: int
    width: int
    deep: bool
    values: tuple[int, ...]
