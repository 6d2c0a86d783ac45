"""Paints a dermoscopic picture of a pigmented lesion, with its mask.

Nobody should take it for a patient; a person who has seen dermoscopy recognises what it stands for,
and a segmenter must look at colour and shape, since hairs, rulers and dark corners are no lesion.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Plane: TypeAlias = npt.NDArray[np.float32]
Picture: TypeAlias = npt.NDArray[np.uint8]

# Colours as real pictures have them, RGB in 0..255.
_SKIN = ((222, 178, 170), (208, 160, 140), (229, 199, 186), (180, 142, 130), (215, 172, 128))
_PIGMENT = ((156, 88, 50), (128, 70, 42), (106, 54, 32), (176, 112, 76), (182, 92, 80))
_DARK = ((58, 34, 30), (70, 40, 28), (52, 46, 60), (40, 28, 30))
_CLOTH = ((62, 98, 132), (70, 116, 98), (36, 36, 42), (188, 192, 198))
_HAIR = ((40, 28, 26), (76, 50, 38), (24, 20, 22))


@dataclass(frozen=True)
class Style:
    """How the pictures of a data set differ from those of others.

    Attributes:
        smallest: Radius of the smallest lesion, as a share of the shorter side.
        largest: The same of the largest.
        hairs: Probability of hairs.
        ruler: Probability of the scale of a dermatoscope.
        rim: Probability of the black rim of a lens.
        backdrop: Probability of a cloth behind an edge of the body.
        shade: Strength of uneven light.
        tint: Factors of red, green and blue.
    """

    smallest: float = 0.13
    largest: float = 0.46
    hairs: float = 0.45
    ruler: float = 0.3
    rim: float = 0.12
    backdrop: float = 0.0
    shade: float = 1.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)


DERMOSCOPY = Style()


def paint(
    rng: np.random.Generator, width: int, height: int, style: Style = DERMOSCOPY
) -> tuple[Picture, Picture]:
    """Paints one picture.

    Args:
        rng: Source of all that varies.
        width: Pixels.
        height: Pixels.
        style: What the pictures of one data set have in common.

    Returns:
        Image (height, width, 3) and mask (height, width) of 0 and 255, both uint8.
    """
    image = _skin(rng, width, height)
    outline, ragged = _shape(rng, width, height, style)
    image = _pigment(rng, image, ragged)
    if rng.random() < style.hairs:
        image = _hairs(rng, image)
    if rng.random() < style.ruler:
        image = _ruler(rng, image)
    image = _light(rng, image, style)
    if style.backdrop and rng.random() < style.backdrop:
        image = _backdrop(rng, image, outline)
    noise = rng.normal(0, 2.0, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), (outline < 1).astype(np.uint8) * 255


def smooth_noise(rng: np.random.Generator, width: int, height: int, cells: float) -> Plane:
    """Smooth noise, about N(0, 1), with `cells` blobs along the longer side."""
    longer = max(width, height)
    grid = rng.normal(size=(int(height / longer * cells) + 2, int(width / longer * cells) + 2))
    small = Image.fromarray(grid.astype(np.float32))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)


def _step(x: Plane, width: float) -> Plane:
    """A soft step: 0 far below x = 0, 1 far above."""
    return np.asarray(0.5 + 0.5 * np.tanh(x / (2 * width)), dtype=np.float32)


def _skin(rng: np.random.Generator, width: int, height: int) -> Plane:
    tone = np.array(_SKIN[rng.integers(len(_SKIN))], dtype=np.float32) + rng.normal(0, 7, 3)
    image = np.broadcast_to(tone, (height, width, 3)).astype(np.float32)
    mottle = smooth_noise(rng, width, height, 5) + 0.5 * smooth_noise(rng, width, height, 14)
    creases = smooth_noise(rng, width, height, 45) + 0.6 * smooth_noise(rng, width, height, 80)
    # Redness varies over large spots, brightness over fine creases.
    redness = np.array([0.5, 2.2, 2.0], dtype=np.float32) * rng.uniform(0.5, 1.6)
    image = image - mottle[..., None] * redness + creases[..., None] * rng.uniform(0.8, 2.2)
    return np.asarray(image, dtype=np.float32)


def _shape(rng: np.random.Generator, width: int, height: int, style: Style) -> tuple[Plane, Plane]:
    """Distance from the centre in units of the border: as an annotator draws it, and as it is."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    centre = np.array([width, height]) * rng.normal(0.5, 0.06, 2)
    # Sizes as in ISIC: from a few percent of the picture to most of it.
    radius = min(width, height) * np.exp(rng.uniform(np.log(style.smallest), np.log(style.largest)))
    turn, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.3)
    dx, dy = x - centre[0], y - centre[1]
    u = (dx * np.cos(turn) + dy * np.sin(turn)) / stretch
    v = (dy * np.cos(turn) - dx * np.sin(turn)) * stretch
    angle = np.arctan2(v, u)
    lobes = np.zeros_like(angle)
    for k in range(2, 7):
        lobes += rng.normal(0, 0.11 / (k - 0.5)) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    outline = np.hypot(u, v) / (radius * (1 + lobes))
    rough = smooth_noise(rng, width, height, 12) + 0.7 * smooth_noise(rng, width, height, 28)
    ragged = outline * rng.uniform(1.03, 1.12) + rough * rng.uniform(0.02, 0.09)
    return outline.astype(np.float32), ragged.astype(np.float32)


def _pigment(rng: np.random.Generator, skin: Plane, ragged: Plane) -> Plane:
    height, width = ragged.shape
    light = np.array(_PIGMENT[rng.integers(len(_PIGMENT))], dtype=np.float32)
    dark = np.array(_DARK[rng.integers(len(_DARK))], dtype=np.float32)
    blotches = smooth_noise(rng, width, height, rng.uniform(4, 9))
    network = smooth_noise(rng, width, height, 34) + 0.8 * smooth_noise(rng, width, height, 60)
    centre = np.clip(1 - ragged, 0, 1) * rng.uniform(-0.2, 0.9)
    depth = rng.uniform(-0.15, 0.35) + centre + 0.22 * blotches + rng.uniform(0.04, 0.16) * network
    if rng.random() < 0.35:  # globules: dark dots, most of them near the border
        dots = smooth_noise(rng, width, height, 30)
        depth = depth + 0.6 * ((dots > 1.1) & (ragged > 0.4))
    depth = np.clip(depth, 0, 1)[..., None]
    colour = light * (1 - depth) + dark * depth
    border = _step(1 - ragged, rng.uniform(0.02, 0.1))
    opacity = border * rng.uniform(0.6, 0.97) * np.clip(1 + 0.12 * blotches, 0.5, 1)
    halo = np.exp(-np.clip(ragged - 1, 0, None) * 6) * rng.uniform(0, 0.12)
    opacity = np.clip(np.maximum(opacity, halo), 0, 1)[..., None]
    return np.asarray(skin * (1 - opacity) + colour * opacity, dtype=np.float32)


def _hairs(rng: np.random.Generator, image: Plane) -> Plane:
    """Dark, bent, tapering lines that lie in one main direction."""
    height, width = image.shape[:2]
    scale = 4  # drawn larger and scaled down: smooth lines thinner than a pixel
    layer = Image.new("L", (width * scale, height * scale))
    draw = ImageDraw.Draw(layer)
    main, longer = rng.uniform(0, np.pi), max(width, height) * scale
    steps = np.linspace(0, 1, 24)[:, None]
    for _ in range(rng.integers(4, 26)):
        start = rng.uniform(-0.1, 1.1, 2) * (width * scale, height * scale)
        angle = main + rng.normal(0, 0.5)
        along = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-along[1], along[0]])
        length = longer * rng.uniform(0.2, 0.8)
        end, bend = start + along * length, rng.normal(0, 0.2) * length
        middle = (start + end) / 2 + across * bend
        curve = (1 - steps) ** 2 * start + 2 * steps * (1 - steps) * middle + steps**2 * end
        thickness = max(1, round(longer / 160 * rng.uniform(0.5, 1.2)))
        draw.line(
            [(float(x), float(y)) for x, y in curve],
            fill=int(rng.integers(130, 245)),
            width=thickness,
        )
    cover = np.asarray(layer.resize((width, height), Image.Resampling.BOX), dtype=np.float32)
    opacity = cover[..., None] / 255
    colour = np.array(_HAIR[rng.integers(len(_HAIR))], dtype=np.float32)
    return np.asarray(image * (1 - opacity) + colour * opacity, dtype=np.float32)


def _ruler(rng: np.random.Generator, image: Plane) -> Plane:
    """The scale that a dermatoscope shows near the lower edge."""
    height, width = image.shape[:2]
    layer = Image.new("L", (width, height))
    draw = ImageDraw.Draw(layer)
    x0, x1 = width * rng.uniform(0.06, 0.3), width * rng.uniform(0.6, 0.94)
    y, tilt = height * rng.uniform(0.84, 0.95), rng.normal(0, 0.03)
    draw.line([(x0, y), (x1, y + tilt * (x1 - x0))], fill=200, width=1)
    for k, x in enumerate(np.arange(x0, x1, width / 40)):
        tick = height * (0.035 if k % 5 == 0 else 0.018)
        foot = y + tilt * (x - x0)
        draw.line([(x, foot), (x, foot - tick)], fill=200, width=1)
    opacity = np.asarray(layer, dtype=np.float32)[..., None] / 255
    return np.asarray(image * (1 - opacity) + 35 * opacity, dtype=np.float32)


def _light(rng: np.random.Generator, image: Plane, style: Style) -> Plane:
    """Uneven light, darker corners, and now and then the black rim of the lens."""
    height, width = image.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    radius = np.hypot(x, y * height / width)
    fall = style.shade * rng.uniform(0.02, 0.22)
    right, down = style.shade * rng.normal(0, 0.03), style.shade * rng.normal(0, 0.03)
    shade = 1 - fall * radius**2 + right * x + down * y
    image = (
        image * np.clip(shade, 0, None)[..., None] * np.array(style.tint, dtype=np.float32)
    ).astype(np.float32)
    if rng.random() < style.rim:
        rim = _step(rng.uniform(0.92, 1.08) - radius, 0.015)
        image = image * rim[..., None] + 8 * (1 - rim[..., None])
    return np.asarray(image, dtype=np.float32)


def _backdrop(rng: np.random.Generator, image: Plane, outline: Plane) -> Plane:
    """The cloth behind an arm or a leg, on one side of the picture and away from the lesion."""
    height, width = image.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    turn, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.12)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    depth = along + bend * across**2 - rng.uniform(0.6, 0.85)
    depth = depth - max(0.0, float(depth[outline < 1.3].max(initial=-1)))
    cloth = np.array(_CLOTH[rng.integers(len(_CLOTH))], dtype=np.float32)
    weave = 6 * smooth_noise(rng, width, height, 6)[..., None]
    body = np.clip(1 + 0.5 * np.clip(depth + 0.35, 0, 0.35) / -0.35, 0, 1)[..., None]
    cover = _step(depth, 0.012)[..., None]
    return np.asarray(image * body * (1 - cover) + (cloth + weave) * cover, dtype=np.float32)
