"""How files are read where they can be read in more than one way, as the user chooses it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Orientation: TypeAlias = Literal["stored", "upright"]

RULES = 2
"""Number of the rules by which files become arrays; what was remembered under another is void."""


@dataclass(frozen=True)
class Reading:
    """What a data module's arguments say of the way its files are read.

    Attributes:
        orientation: `stored` takes the pixels of pictures as they lie in the file, `upright` turns
            them as the file's orientation tag says, images and masks alike.
        frame: Which frame is read of DICOM images that hold several, from 0. None: such
            files are refused.
    """

    orientation: Orientation = "stored"
    frame: int | None = None


AS_STORED = Reading()
"""Pixels as they are stored, of files with one frame."""
