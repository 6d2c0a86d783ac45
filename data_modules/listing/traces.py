"""What tells an image again: in another run, in another folder, under another name."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Trace:
    """What tells an item of a split again.

    Attributes:
        path: What names it, relative to the root of its data set.
        group: What a split does not tear apart, where that is known: patient, lesion, slide.
        digests: SHA-256 of each file that it is read from, masks aside; none where not known.
    """

    path: str
    group: str | None = None
    digests: tuple[str, ...] = ()
