"""Paints a frontal chest radiograph with the masks of its two lungs.

Nobody should take it for a patient; a person who has seen chest films recognises what it stands
for. A threshold does not solve it: the air beside the body is as dark as the lungs, ribs and
vessels cross them, and some hold opacities that belong to the mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from data_modules.phantoms.painters.lesion import Picture, Plane, smooth_noise

Points: TypeAlias = npt.NDArray[np.float64]
Stroke: TypeAlias = tuple[Points, float, int]  # (n, 2) points, width in frame units, value 0..255

_SCALE = 3  # drawn larger and scaled down, for smooth edges

# Outlines as (distance from the midline, height) in a frame from -1 to 1, downwards, clockwise from
# the apex: the right lung ends above the liver, the left one leaves room for the heart.
_RIGHT = (
    *((0.28, -0.80), (0.46, -0.68), (0.60, -0.36), (0.68, 0.04), (0.71, 0.36), (0.68, 0.39)),
    *((0.54, 0.24), (0.38, 0.20), (0.23, 0.28), (0.19, 0.08), (0.15, -0.22), (0.15, -0.50)),
    (0.18, -0.72),
)
_LEFT = (
    *((0.28, -0.80), (0.46, -0.68), (0.60, -0.36), (0.68, 0.04), (0.71, 0.40), (0.68, 0.43)),
    *((0.56, 0.31), (0.47, 0.30), (0.42, 0.17), (0.31, 0.00), (0.19, -0.10), (0.18, -0.30)),
    *((0.14, -0.42), (0.18, -0.72)),
)
_HEART = slice(8, 11)  # the points of the left lung that the heart pushes aside
_BODY = (
    *((0.20, -1.30), (0.19, -0.92), (0.42, -0.84), (0.80, -0.76), (1.02, -0.55), (1.04, -0.20)),
    *((0.93, -0.16), (0.84, 0.00), (0.85, 0.50), (0.90, 1.30)),
)


@dataclass(frozen=True)
class _Frame:
    """Draws in coordinates of the thorax, which lies differently in each picture."""

    width: int
    height: int
    turn: float
    zoom: float
    shift: tuple[float, float]

    def polygon(self, points: Points, blur: float = 0.0) -> Plane:
        """Cover in [0, 1] of a closed outline; `blur` in frame units."""
        layer, draw = self._layer()
        draw.polygon(self._pixels(points), fill=255)
        return self._plane(layer, blur)

    def strokes(self, strokes: Sequence[Stroke], blur: float = 0.0) -> Plane:
        """Cover in [0, 1] of lines."""
        layer, draw = self._layer()
        for points, thickness, value in strokes:
            pixels = max(1, round(thickness * self._unit()))
            draw.line(self._pixels(points), fill=value, width=pixels, joint="curve")
        return self._plane(layer, blur)

    def text(self, text: str, at: tuple[float, float], size: float) -> Plane:
        """Cover in [0, 1] of a letter."""
        layer, draw = self._layer()
        font = ImageFont.load_default(size=max(4.0, size * self._unit()))
        draw.text(self._pixels(np.array([at]))[0], text, fill=255, font=font)
        return self._plane(layer, 0.0)

    def grid(self) -> tuple[Plane, Plane]:
        """The thorax's coordinates (x, y) of each pixel."""
        y, x = np.mgrid[: self.height, : self.width].astype(np.float32)
        x = (2 * x / self.width - 1 - self.shift[0]) / self.zoom
        y = (2 * y / self.height - 1 - self.shift[1]) / self.zoom
        c, s = np.cos(self.turn), np.sin(self.turn)
        return np.asarray(c * x + s * y), np.asarray(c * y - s * x)

    def _unit(self) -> float:
        return 0.5 * self.zoom * min(self.width, self.height) * _SCALE

    def _layer(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        layer = Image.new("L", (self.width * _SCALE, self.height * _SCALE))
        return layer, ImageDraw.Draw(layer)

    def _pixels(self, points: Points) -> list[tuple[float, float]]:
        c, s = np.cos(self.turn), np.sin(self.turn)
        turned = points @ np.array([[c, s], [-s, c]]) * self.zoom + self.shift
        pixels = (turned + 1) / 2 * (self.width * _SCALE, self.height * _SCALE)
        return [(float(x), float(y)) for x, y in pixels]

    def _plane(self, layer: Image.Image, blur: float) -> Plane:
        if blur > 0:
            layer = layer.filter(ImageFilter.GaussianBlur(blur * self._unit()))
        small = layer.resize((self.width, self.height), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float32) / np.float32(255)


def paint(
    rng: np.random.Generator,
    width: int,
    height: int,
    *,
    opacities: float = 0.3,
    haze: float = 0.2,
    border: float = 0.0,
) -> tuple[Picture, Picture, Picture]:
    """Paints one picture.

    Args:
        rng: Source of all that varies.
        width: Pixels.
        height: Pixels.
        opacities: Probability of cloudy opacities in the lungs.
        haze: How much of the lungs' contrast may be lost, in [0, 1].
        border: Probability of a black strip beside the film.

    Returns:
        Image, mask of the patient's left lung (on the right of the picture) and mask of the right
        one: (height, width) uint8, the masks of 0 and 255.
    """
    frame = _Frame(
        width,
        height,
        turn=rng.normal(0, 0.025),
        zoom=rng.uniform(0.93, 1.17),
        shift=(rng.normal(0, 0.04), rng.uniform(0.0, 0.14)),
    )
    sides = _outlines(rng)
    right, left = (frame.polygon(outline) for outline in sides)
    lungs = np.maximum(*(frame.polygon(outline, blur=0.012) for outline in sides))
    image = _soft_tissue(rng, frame, lungs, haze)
    image = image + _lung_markings(rng, frame, lungs)
    if rng.random() < opacities:
        image = image + _opacities(rng, frame, sides, lungs)
    image = image + _bones(rng, frame)
    film = _develop(rng, frame, np.asarray(image, dtype=np.float32), border)
    return film, _mask(left), _mask(right)


def _mask(cover: Plane) -> Picture:
    return (cover > 0.5).astype(np.uint8) * np.uint8(255)


def _curve(points: Points, closed: bool) -> Points:
    """A smooth line through points (Catmull and Rom)."""
    if closed:
        around = np.concatenate([points[-1:], points, points[:2]])
    else:
        around = np.concatenate([points[:1], points, points[-1:]])
    p0, p1, p2, p3 = around[:-3, None], around[1:-2, None], around[2:-1, None], around[3:, None]
    t = np.linspace(0, 1, 8, endpoint=False)[:, None]
    line = p1 + 0.5 * t * (
        p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0))
    )
    flat = line.reshape(-1, 2)
    return flat if closed else np.concatenate([flat, points[-1:]])


def _outlines(rng: np.random.Generator) -> tuple[Points, Points]:
    """Outlines of the lung on the left of the picture (the patient's right) and of the other."""
    breadth, depth = rng.uniform(0.92, 1.15), rng.normal(0.02, 0.09)
    heart = rng.uniform(0.85, 1.35)
    outlines = []
    for side, shape in ((-1, _RIGHT), (1, _LEFT)):
        points = np.array(shape)
        if side == 1:
            points[_HEART, 0] *= heart
        points = points + rng.normal(0, 0.012, points.shape)
        points[:, 0] *= side * breadth
        points[:, 1] += (depth + rng.normal(0, 0.025)) * np.clip(points[:, 1] + 0.5, 0, 1)
        outlines.append(_curve(points, closed=True))
    return outlines[0], outlines[1]


def _soft_tissue(rng: np.random.Generator, frame: _Frame, lungs: Plane, haze: float) -> Plane:
    """How much the body without bones weakens the beam, in [0, 1]."""
    x, y = frame.grid()
    half = np.array(_BODY) * (rng.uniform(0.94, 1.06), 1.0)
    half = half + rng.normal(0, 0.012, half.shape)
    outline = _curve(np.concatenate([half * (-1, 1), half[::-1]]), closed=True)
    body = frame.polygon(outline, blur=0.02) * (0.55 + 0.45 * frame.polygon(outline, blur=0.12))
    middle = np.exp(-((np.abs(x) / rng.uniform(0.24, 0.32)) ** 3))
    belly = 1 / (1 + np.exp(-(y - 0.38) / 0.08))
    fat = smooth_noise(rng, frame.width, frame.height, 4)
    solid = 0.55 + 0.2 * middle + rng.uniform(0.12, 0.24) * belly + 0.02 * fat
    air = rng.uniform(0.30, 0.40) * (1 - haze * rng.uniform(0, 0.75))
    # Lungs are darkest near the wall and above, where nothing lies before or behind them.
    depth = np.clip(1.0 - 0.35 * middle - 0.25 * np.clip(y, 0, 1), 0, 1)
    image = body * (solid - lungs * (air + solid - 0.55) * depth)
    if rng.random() < 0.5:  # gas in the stomach, under the left dome
        centre, size = rng.normal((0.44, 0.52), 0.03), rng.uniform(0.06, 0.12)
        gas = np.exp(-((np.hypot((x - centre[0]) / 1.4, y - centre[1]) / size) ** 4))
        image = image - 0.25 * gas * (1 - lungs)
    windpipe = np.exp(-(((x - rng.normal(0, 0.012)) / 0.045) ** 2)) / (1 + np.exp((y + 0.3) / 0.03))
    scatter = 0.05 * frame.polygon(outline, blur=0.25) * (1 - body)
    return np.asarray(image + scatter - 0.09 * windpipe * body, dtype=np.float32)


def _lung_markings(rng: np.random.Generator, frame: _Frame, lungs: Plane) -> Plane:
    """Vessels that branch from the hila and get thinner outwards."""
    strokes: list[Stroke] = []
    for side in (-1, 1):
        hilum = np.array([side * 0.2, -0.08]) + rng.normal(0, 0.015, 2)
        for _ in range(rng.integers(12, 22)):
            angle, length = rng.uniform(-1.25, 1.35), rng.uniform(0.2, 0.5)
            tip = hilum + length * np.array([side * np.cos(angle), np.sin(angle)])
            bend = (hilum + tip) / 2 + rng.normal(0, 0.04, 2)
            line = _curve(np.stack([hilum, bend, tip]), closed=False)
            parts = (line[:6], line[5:11], line[10:])
            for part, width, value in zip(
                parts, (0.035, 0.022, 0.011), (235, 180, 120), strict=True
            ):
                strokes.append((part, width * rng.uniform(0.7, 1.2), value))
    texture = smooth_noise(rng, frame.width, frame.height, 50)
    vessels = frame.strokes(strokes, blur=0.009)
    return np.asarray(lungs * (rng.uniform(0.1, 0.22) * vessels + 0.008 * texture), np.float32)


def _opacities(
    rng: np.random.Generator, frame: _Frame, sides: Sequence[Points], lungs: Plane
) -> Plane:
    """Cloudy patches within the lungs, most of them high up, as tuberculosis makes them."""
    x, y = frame.grid()
    patches = np.zeros_like(lungs)
    for _ in range(rng.integers(1, 4)):
        outline = sides[int(rng.integers(2))]
        inner = outline.mean(axis=0)
        at = inner + rng.uniform(0.1, 0.6) * (outline[rng.integers(len(outline))] - inner)
        at[1] -= 0.15
        size = rng.uniform(0.08, 0.22)
        patches += np.exp(-(((x - at[0]) ** 2 + (y - at[1]) ** 2) / size**2))
    clouds = 0.7 + 0.5 * smooth_noise(rng, frame.width, frame.height, 14)
    strength = rng.uniform(0.08, 0.2)
    return np.asarray(lungs * np.clip(patches * clouds, 0, 1.2) * strength, np.float32)


def _bones(rng: np.random.Generator, frame: _Frame) -> Plane:
    """Ribs, collar bones, spine and upper arms."""
    spacing, droop = rng.uniform(0.118, 0.135), rng.uniform(0.16, 0.26)
    back: list[Stroke] = []
    front: list[Stroke] = []
    collar: list[Stroke] = []
    for side in (-1, 1):
        for k in range(10):
            y, wall = -0.80 + spacing * k, min(0.42 + 0.11 * k, 0.74)
            rib = [(0.06, y), (0.42 * wall, y - 0.045), (0.8 * wall, y + 0.3 * droop)]
            line = _curve(np.array([*rib, (wall, y + droop)]) * (side, 1), closed=False)
            back += [(line, 0.052, 200), (line, 0.026, 130)]
            tip = (0.3, y + droop + 0.28)
            rib = [(wall, y + droop), (0.8 * wall, y + droop + 0.14), tip]
            line = _curve(np.array(rib) * (side, 1), closed=False)
            front += [(line, 0.05, 110), (line, 0.026, 75)] if 0 < k < 7 else []
        rise = rng.normal(0.10, 0.03)
        bone = np.array([(0.07, -0.66), (0.3, -0.70), (0.55, -0.70 - rise), (0.82, -0.72 - rise)])
        line = _curve(bone * (side, 1), closed=False)
        collar += [(line, 0.075, 220), (line, 0.035, 150)]
        arm = np.array([(0.88, -0.66), (0.97, -0.35), (1.02, 0.1)]) * (side, 1)
        collar += [(arm, 0.13, 160), (arm, 0.07, 110)]
    discs = [
        (np.array([(-0.075, y), (0.075, y)]), 0.022, 90) for y in np.arange(-1.1, 1.2, spacing)
    ]
    spine = frame.strokes([(np.array([(0, -1.3), (0, 1.3)]), 0.16, 200), *discs], blur=0.012)
    ribs = frame.strokes(front, blur=0.008) + frame.strokes(back, blur=0.006)
    strength = rng.uniform(0.07, 0.15)
    image = strength * ribs + 0.13 * frame.strokes(collar, blur=0.008) + 0.13 * spine
    return np.asarray(image, dtype=np.float32)


def _develop(rng: np.random.Generator, frame: _Frame, image: Plane, border: float) -> Picture:
    """Exposure, grain, the side marker and the border of the film."""
    image = np.clip(0.03 + image * rng.uniform(1.0, 1.16), 0, 1.2) / 1.05
    image = np.clip(image, 0, 1) ** rng.uniform(0.75, 1.45)
    side, letter = (-1, "R") if rng.random() < 0.6 else (1, "L")
    at = (side * rng.uniform(0.7, 0.78) - 0.05, rng.uniform(-0.98, -0.88))
    image = np.maximum(image, 0.97 * frame.text(letter, at, 0.13))
    grain = rng.normal(0, 2.2, image.shape).astype(np.float32)
    image = image * 250 + grain * np.sqrt(image)
    if rng.random() < border:
        strip = rng.uniform(0.03, 0.12)
        if rng.random() < 0.5:
            image[round(frame.height * (1 - strip)) :] = 0
        else:
            image[:, : round(frame.width * strip)] = 0
    return np.clip(image, 0, 255).astype(np.uint8)
