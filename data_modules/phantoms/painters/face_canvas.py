"""The canvas on which a portrait is painted together with the map of its parts."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from data_modules.phantoms.painters.lesion import smooth_noise

Plane: TypeAlias = npt.NDArray[np.float32]
Picture: TypeAlias = npt.NDArray[np.uint8]
Cover: TypeAlias = npt.NDArray[np.bool_]
Colour: TypeAlias = npt.NDArray[np.float32]

_SIDED = (
    "ear",
    "helix",
    "lobule",
    "brow",
    "top_lid",
    "bottom_lid",
    "lashes",
    "sclera",
    "iris",
    "pupil",
    "tear_duct",
)
REGIONS = (
    "background",
    "hair",
    "sideburns",
    "neck",
    "cloth",
    "necklace",
    "earring",
    "hat",
    "glasses",
    "head",
    "cheek",
    "chin",
    "forehead",
    "jaw",
    "temple",
    "frown",
    "wrinkles",
    "philtrum",
    "moustache",
    "nose",
    "ala",
    "bridge",
    "tip",
    "nostril",
    "upper_lip",
    "lower_lip",
    "commissure",
    "teeth",
    "What",
    "a",
    "pixel",
    "of",
    "`Face.owner`",
    "may",
    "show;",
    "`l_`",
    "is",
    "left",
    "in",
    "the",
    "picture.",
    *(f"{side}_{part}" for part in _SIDED for side in "lr"),
)
"""What a pixel of `Face.owner` may show; `l_` is left in the picture."""
_SCALE = 2  # drawn larger and averaged: smooth edges


@dataclass(frozen=True)
class Face:
    """One portrait.

    Attributes:
        image: (height, width, 3), uint8.
        owner: (height, width), uint8: which of `REGIONS` each pixel shows.
        skin: (height, width): the whole outline of the face, also where hair or features hide it.
        glasses: (height, width): frame and lenses, through which the eyes are seen.
    """

    image: Picture
    owner: Picture
    skin: Cover
    glasses: Cover

    def shows(self, *regions: str) -> Cover:
        """The pixels (height, width) that show one of the regions."""
        return np.isin(self.owner, [REGIONS.index(region) for region in regions])


class Canvas:
    """A picture under work.

    `u` and `v` are the place of each pixel in the face: the eyes lie on v = 0, the outline of
    the face reaches from u = -1 to 1. `fu` is `u` for what lies on the front of the face, which
    moves further than its outline where the head is turned.
    """

    def __init__(self, rng: np.random.Generator, width: int, height: int, turn: float) -> None:
        side = min(width, height) * _SCALE
        y, x = np.mgrid[: height * _SCALE, : width * _SCALE].astype(np.float32)
        unit = side * rng.uniform(0.215, 0.25)
        x -= (width * _SCALE) * 0.5 + side * rng.normal(0, 0.015)
        y -= (height * _SCALE) * 0.46 + side * rng.normal(0, 0.012)
        roll = rng.normal(0, 0.06)
        self.u = ((x * np.cos(roll) + y * np.sin(roll)) / unit).astype(np.float32)
        self.v = ((y * np.cos(roll) - x * np.sin(roll)) / unit).astype(np.float32)
        self.fu = self.u - turn * np.sqrt(np.clip(1 - self.u**2, 0, 1))
        self.edge = float(1 / unit)
        self.image: Plane = np.zeros((*self.u.shape, 3), np.float32)
        self.owner = np.zeros(self.u.shape, np.uint8)
        # Strands run down from the crown.
        angle = np.arctan2(self.u, self.v + 2.2)
        waves = smooth_noise(rng, self.u.shape[1], self.u.shape[0], 7)
        fine = smooth_noise(rng, self.u.shape[1], self.u.shape[0], 30)
        self.strands: Plane = np.sin(55 * angle + 2.5 * waves) + 0.5 * fine

    def add(
        self,
        region: str | None,
        shape: Plane,
        colour: Colour,
        opacity: float = 1.0,
        shade: Plane | float = 0.0,
    ) -> None:
        """Paints a shape; its pixels then show the region, or with None what they showed before.

        Args:
            region: One of `REGIONS`.
            shape: Above 0 inside; about the distance to the border.
            colour: RGB in 0..255.
            opacity: From 0 to 1.
            shade: Added to the colour.
        """
        near = shape > -2 * self.edge
        rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
        if not len(rows):
            return
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        cover = opacity * np.clip(shape[box] / self.edge / 2 + 0.5, 0, 1)[..., None]
        shading = np.broadcast_to(np.float32(shade), shape.shape)[box][..., None]
        self.image[box] += (colour + shading - self.image[box]) * cover
        if region is not None:
            self.owner[box][shape[box] > 0] = REGIONS.index(region)

    def mark(self, region: str, shape: Plane, within: str) -> None:
        """Names the part of another region that lies in a shape, without painting."""
        self.owner[(shape > 0) & (self.owner == REGIONS.index(within))] = REGIONS.index(region)

    def finish(self, rng: np.random.Generator, skin: Cover, glasses: Cover) -> Face:
        """The picture at its size, with light, noise and the maps."""
        light = 1 + rng.normal(0, 0.06) * self.u + rng.normal(0, 0.03) * self.v
        light = np.clip(light, 0.7, 1.3)[..., None]
        height, width = (side // _SCALE for side in self.owner.shape)
        image = (self.image * light).reshape(height, _SCALE, width, _SCALE, 3).mean((1, 3))
        image = image + rng.normal(0, 2.0, image.shape)
        every = (slice(_SCALE // 2, None, _SCALE),) * 2
        return Face(
            np.clip(image, 0, 255).astype(np.uint8), self.owner[every], skin[every], glasses[every]
        )


def ellipse(x: Plane, y: Plane, cx: float, cy: float, rx: float, ry: float) -> Plane:
    """Above 0 inside an ellipse with this centre and these radii; about the distance."""
    return np.asarray((1 - np.hypot((x - cx) / rx, (y - cy) / ry)) * min(rx, ry), np.float32)


def between(x: Plane, low: Plane | float, high: Plane | float) -> Plane:
    """Above 0 where x lies between the two."""
    return np.asarray(np.minimum(x - low, high - x), np.float32)


def both(*shapes: Plane) -> Plane:
    """Above 0 where all shapes are."""
    return np.asarray(np.minimum.reduce(shapes), np.float32)
