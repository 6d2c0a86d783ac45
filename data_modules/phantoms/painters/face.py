"""Paints a portrait with a map of the parts of the face.

Nobody should take it for a person. A network must look at colour, shape and place: skin and hair
come in many tones, heads turn and tilt, hair, hats and glasses hide parts.
"""

from dataclasses import dataclass

import numpy as np

from data_modules.phantoms.painters.face_canvas import (
    Canvas,
    Colour,
    Face,
    Plane,
    between,
    both,
    ellipse,
)
from data_modules.phantoms.painters.lesion import smooth_noise

_SKIN = ((244, 208, 184), (230, 184, 152), (208, 158, 122), (176, 122, 86), (132, 88, 62))
_HAIR = ((36, 26, 22), (70, 44, 28), (112, 72, 40), (176, 132, 78), (150, 62, 34), (164, 160, 158))
_IRIS = ((92, 60, 34), (70, 110, 150), (88, 120, 74), (58, 40, 28))
_CLOTH = (
    (40, 60, 110),
    (140, 30, 40),
    (230, 226, 216),
    (34, 34, 40),
    (60, 110, 80),
    (196, 150, 60),
)
_WALL = (
    (120, 140, 160),
    (190, 180, 165),
    (70, 90, 70),
    (60, 60, 75),
    (205, 205, 210),
    (150, 110, 90),
)
_METAL = np.array((222, 190, 92), np.float32)
_DARK = np.array((34, 24, 24), np.float32)


@dataclass(frozen=True)
class _Person:
    """What makes one face unlike another; lengths in half widths of the face."""

    skin: Colour
    hair: Colour
    lips: Colour
    iris: Colour
    jaw: float
    length: float
    fringe: float
    volume: float
    gap: float
    smile: float
    gaze: float
    turn: float
    bearded: bool
    moustache: bool
    aged: bool
    hat: bool
    glasses: bool
    jewels: bool


def paint(rng: np.random.Generator, width: int, height: int, *, accessories: bool = True) -> Face:
    """Paints one portrait.

    Args:
        rng: Source of all that varies.
        width: Pixels.
        height: Pixels.
        accessories: Whether there may be hats, glasses and jewels.
    """
    person = _person(rng, accessories)
    canvas = Canvas(rng, width, height, person.turn)
    _wall(rng, canvas)
    _hair_behind(canvas, person)
    _body(rng, canvas, person)
    _ears(canvas, person)
    outline = _head(canvas, person)
    _zones(canvas, person, outline)
    _nose(canvas, person)
    _mouth(canvas, person)
    for side in (-1, 1):
        _eye(canvas, person, side)
    _hair_before(canvas, person, outline)
    glasses = _glasses(rng, canvas) if person.glasses else np.full_like(canvas.u, -1)
    if person.hat:
        _hat(rng, canvas)
    return canvas.finish(rng, outline > 0, glasses > 0)


def _person(rng: np.random.Generator, accessories: bool) -> _Person:
    skin = _pick(rng, _SKIN, 6)
    long_hair = rng.random() < 0.5
    bearded = not long_hair and rng.random() < 0.35
    return _Person(
        skin=skin,
        hair=_pick(rng, _HAIR, 5),
        lips=np.asarray(
            skin * 0.55 + np.array((196, 70, 82)) * 0.45 - rng.uniform(0, 20), np.float32
        ),
        iris=_pick(rng, _IRIS, 4),
        jaw=rng.uniform(2.0, 2.9),
        length=rng.uniform(1.2, 2.8) if long_hair else rng.uniform(-0.3, 0.15),
        fringe=rng.uniform(0.1, 0.55),
        volume=rng.uniform(1.16, 1.42),
        gap=rng.uniform(0.06, 0.16) if rng.random() < 0.6 else 0.0,
        smile=rng.uniform(0.0, 0.13),
        gaze=rng.uniform(-0.04, 0.04),
        turn=rng.uniform(-0.3, 0.3),
        bearded=bearded,
        moustache=bearded or (not long_hair and rng.random() < 0.25),
        aged=rng.random() < 0.4,
        hat=accessories and rng.random() < 0.2,
        glasses=accessories and rng.random() < 0.25,
        jewels=accessories and rng.random() < 0.5,
    )


def _pick(rng: np.random.Generator, colours: tuple[tuple[int, ...], ...], spread: float) -> Colour:
    colour = np.array(colours[rng.integers(len(colours))]) + rng.normal(0, spread, 3)
    return np.clip(colour, 8, 250).astype(np.float32)


def _wall(rng: np.random.Generator, c: Canvas) -> None:
    height, width = c.u.shape
    blur = smooth_noise(rng, width, height, rng.uniform(2, 6))[..., None]
    other = _pick(rng, _WALL, 8)
    c.image[:] = _pick(rng, _WALL, 8) + np.clip(blur, -1.5, 1.5) * (other - 128) * 0.25


def _hair_shape(c: Canvas, p: _Person) -> Plane:
    dome = ellipse(c.u, c.v, 0, -0.25, p.volume, 1.1 + 0.3 * (p.volume - 1))
    wide = p.volume - 0.06 * (1 - np.cos(2.5 * (c.v + 0.25)))
    ends = p.length - 0.12 * np.abs(c.u) ** 4
    sides = both(between(c.v, -0.25, ends), wide - np.abs(c.u))
    return np.maximum(dome, sides)


def _hair_behind(c: Canvas, p: _Person) -> None:
    c.add("hair", _hair_shape(c, p), p.hair, shade=12 * c.strands - 8)


def _body(rng: np.random.Generator, c: Canvas, p: _Person) -> None:
    wide = rng.uniform(0.55, 0.72)
    throat = both(c.v - 0.8, wide + 0.25 * np.clip(c.v - 1.5, 0, None) - np.abs(c.u))
    shadow = -38 * np.clip(1.9 - c.v, 0, 0.6)
    shoulders = c.v - (1.78 + 0.1 * np.abs(c.u) ** 1.6)
    c.add("neck", np.maximum(throat, shoulders), p.skin, shade=shadow - 6)
    collar = rng.uniform(0.3, 0.62)
    neckline = ellipse(c.u, c.v, 0, 1.55, wide + 0.22, collar)
    stripes = 9 * np.sin(9 * c.u) if rng.random() < 0.4 else 4 * c.strands
    c.add("cloth", both(shoulders + 0.05, -neckline), _pick(rng, _CLOTH, 8), shade=stripes)
    if p.jewels and rng.random() < 0.6:
        ring = np.hypot(c.u / (wide + 0.08), (c.v - 1.5) / (collar - 0.02))
        chain = both(0.05 - np.abs(ring - 1) * 0.5, c.v - 1.62)
        c.add("necklace", chain, _METAL, shade=25 * np.sin(40 * c.u))


def _ears(c: Canvas, p: _Person) -> None:
    for side, name in ((-1, "l"), (1, "r")):
        x = side * c.u
        # The ear on the side that the head turns to goes behind the cheek.
        centre = 1.02 - 0.5 * max(0.0, side * p.turn)
        ear = ellipse(x, c.v, centre, 0.2, 0.19, 0.36)
        inner = ellipse(x, c.v, centre - 0.04, 0.18, 0.11, 0.24)
        c.add(f"{name}_ear", ear, p.skin, shade=-10)
        c.add(None, inner, p.skin * 0.78)
        c.mark(f"{name}_helix", both(-inner, 0.3 - c.v), f"{name}_ear")
        c.mark(f"{name}_lobule", c.v - 0.38, f"{name}_ear")
        if p.length > 1:
            strand = both(between(x, 0.82, 1.3), _hair_shape(c, p))
            c.add("hair", strand, p.hair, shade=12 * c.strands)
        elif p.jewels:
            c.add("earring", ellipse(x, c.v, centre + 0.03, 0.66, 0.085, 0.12), _METAL)


def _head(c: Canvas, p: _Person) -> Plane:
    """Paints the face without its features; returns its outline."""
    down = np.clip(c.v - 0.1, 0, None) / 1.5
    up = np.clip(0.1 - c.v, 0, None) / 1.3
    power = np.where(c.v > 0.1, p.jaw * 0.85, 2.0)
    radius = (np.abs(c.u) ** power + (down + up) ** power) ** (1 / power)
    outline = np.asarray(1 - radius, np.float32)
    cheeks = np.exp(-((np.abs(c.fu) - 0.55) ** 2 + (c.v - 0.5) ** 2) / 0.08)
    shade = 12 - 34 * np.clip(radius, 0, 1) ** 3 + 9 * p.turn * c.u
    c.add("head", outline, p.skin, shade=shade)
    c.image += ((outline > 0) * cheeks)[..., None] * np.array((5, -9, -8), np.float32)
    if p.bearded:
        stubble = both(outline, c.v - 0.62 - 0.35 * (1 - np.abs(c.fu)) ** 2)
        c.add(None, stubble, p.hair, 0.55, shade=7 * c.strands)
    return outline


def _zones(c: Canvas, p: _Person, outline: Plane) -> None:
    """Names the zones of bare skin, which colour hardly tells apart."""
    x = np.abs(c.fu)
    c.mark("jaw", both(c.v - 0.7, x - 0.2), "head")
    c.mark("chin", ellipse(c.fu, c.v, 0, 1.42, 0.36, 0.2), "jaw")
    c.mark("chin", ellipse(c.fu, c.v, 0, 1.42, 0.36, 0.2), "head")
    for zone in ("head", "jaw"):
        c.mark("cheek", ellipse(x, c.v, 0.58, 0.52, 0.32, 0.36), zone)
    c.mark("forehead", -0.4 - c.v, "head")
    c.mark("temple", both(x - 0.7, 0.1 - c.v), "forehead")
    c.mark("temple", both(x - 0.7, 0.1 - c.v), "head")
    c.mark("philtrum", both(0.08 - np.abs(c.fu), between(c.v, 0.68, 0.9)), "head")
    if p.aged:
        lines = 0.02 - np.abs(np.sin(14 * c.v + 0.8 * np.cos(2 * c.fu))) / 14
        creases = both(lines, between(c.v, -0.85, -0.42), 0.55 - x, outline)
        c.add("wrinkles", creases, p.skin * 0.8)
        folds = 0.025 - np.abs(x - 0.28 - 0.35 * (c.v - 0.6))
        c.add("wrinkles", both(folds, between(c.v, 0.55, 0.95)), p.skin * 0.82)
        c.add("frown", both(0.03 - np.abs(x - 0.06), between(c.v, -0.36, -0.1)), p.skin * 0.8)


def _nose(c: Canvas, p: _Person) -> None:
    x, v = np.abs(c.fu), c.v
    body = both(between(v, -0.12, 0.66), 0.09 + 0.15 * np.clip(v, 0, 1) - x)
    lit = -14 * np.sign(p.turn) * np.clip(c.fu * 5, -1, 1)
    c.add("nose", body, p.skin, 0.7, shade=lit + 2)
    c.add("bridge", both(between(v, -0.08, 0.38), 0.075 - x), p.skin, 0.8, shade=12)
    c.add("ala", ellipse(x, v, 0.19, 0.57, 0.075, 0.09), p.skin * 0.88)
    c.add("tip", ellipse(x, v, 0, 0.54, 0.14, 0.12), p.skin, shade=9)
    c.add("nostril", ellipse(x, v, 0.085, 0.655, 0.055, 0.035), p.skin * 0.35)
    if p.moustache:
        line = 0.8 + 0.22 * x**2
        hairs = both(0.4 - x, between(v, line - 0.1 + 0.05 * x, line + 0.09))
        c.add("moustache", hairs, p.hair, 0.9, shade=12 * c.strands)


def _mouth(c: Canvas, p: _Person) -> None:
    half = 0.36 + p.smile * 0.8
    t = np.clip(np.abs(c.fu) / half, 0, 1.2)
    bulge = np.clip(1 - t**2, 0, 1)
    v = c.v - 1.03 + p.smile * t**2
    bow = 0.1 * bulge - 0.025 * np.exp(-((t / 0.15) ** 2))
    opening = p.gap * bulge
    within = half - np.abs(c.fu)
    if p.gap:
        c.add("teeth", both(opening - np.abs(v), within), np.array((120, 40, 44), np.float32))
        teeth = both(between(v, -opening, opening * 0.55), within - 0.04)
        c.add("teeth", teeth, np.array((240, 236, 226), np.float32), shade=-6 * np.sin(60 * c.fu))
    c.add("upper_lip", both(between(v, -opening - bow, -opening), within), p.lips * 0.9)
    c.add("lower_lip", both(between(v, opening, opening + 0.13 * bulge), within), p.lips)
    if not p.gap:
        c.add(None, both(0.012 - np.abs(v), within), p.lips * 0.5)
    c.add("commissure", ellipse(np.abs(c.fu), v, half, 0, 0.05, 0.04), p.lips * 0.6)


def _eye(c: Canvas, p: _Person, side: int) -> None:
    name = "l" if side < 0 else "r"
    x = side * c.fu - 0.45  # grows to the ear
    arch = 1 - (x / 0.21) ** 2
    eye = np.asarray(np.where(c.v < 0, 0.11, 0.08) * arch - np.abs(c.v), np.float32)
    outer = 1 - (x / 0.25) ** 2
    c.add(f"{name}_top_lid", both(0.19 * outer + c.v, -c.v), p.skin * 0.84)
    c.add(f"{name}_bottom_lid", both(0.15 * outer - c.v, c.v), p.skin * 0.9)
    c.add(f"{name}_sclera", eye, np.array((236, 234, 232), np.float32), shade=-40 * np.abs(x))
    c.add(f"{name}_tear_duct", both(eye, -0.13 - x), np.array((214, 140, 134), np.float32))
    look = side * p.gaze
    for part, radius, colour in (("iris", 0.098, p.iris), ("pupil", 0.047, _DARK * 0.5)):
        c.add(f"{name}_{part}", both(eye, ellipse(x, c.v, look, -0.01, radius, radius)), colour)
    glint = ellipse(side * x, c.v, side * look - 0.035, -0.045, 0.022, 0.022)
    c.add(None, glint, np.full(3, 250, np.float32))
    lashes = both(0.032 - np.abs(0.115 * arch + c.v), 0.06 - c.v, 0.24 - np.abs(x))
    c.add(f"{name}_lashes", lashes, _DARK)
    curve = -0.33 - 0.07 * np.cos(4.5 * (x - 0.06))
    thick = 0.062 - 0.05 * np.clip(x + 0.05, 0, None)
    brow = both(thick - np.abs(c.v - curve), between(x, -0.25, 0.3))
    c.add(f"{name}_brow", brow, p.hair * 0.85, 0.9, shade=8 * c.strands)


def _hair_before(c: Canvas, p: _Person, outline: Plane) -> None:
    parting = 0.35 * np.sin(1.3 * c.u + 100 * p.gaze)
    hairline = -1.25 + p.fringe + 0.12 * parting + 0.35 * c.u**2
    fringe = both(_hair_shape(c, p), hairline - c.v + 0.03 * c.strands)
    c.add("hair", fringe, p.hair, shade=12 * c.strands + 3)
    if p.length < 1:
        burns = both(np.abs(c.u) - 0.86, between(c.v, -0.6, 0.3), outline + 0.04)
        c.add("sideburns", burns, p.hair, 0.95, shade=12 * c.strands)


def _glasses(rng: np.random.Generator, c: Canvas) -> Plane:
    """Paints glasses; returns frame and lenses together."""
    x = np.abs(c.fu)
    power = rng.uniform(2.0, 4.0)
    lens_radius = ((np.abs(x - 0.46) / 0.36) ** power + (np.abs(c.v - 0.06) / 0.29) ** power) ** (
        1 / power
    )
    lens = np.asarray((1 - lens_radius) * 0.29, np.float32)
    bar = both(0.03 - np.abs(c.v + 0.03), 0.14 - x)
    arm = both(0.03 - np.abs(c.v + 0.03), between(np.abs(c.u), 0.78, 1.02))
    frame = np.maximum(np.maximum(0.035 - np.abs(lens), bar), arm)
    c.add(None, lens, np.array((70, 80, 90), np.float32), rng.uniform(0.05, 0.3))
    c.add("glasses", frame, _pick(rng, ((28, 26, 28), (110, 64, 36), (150, 150, 156)), 6))
    return np.asarray(np.maximum(frame, lens), np.float32)


def _hat(rng: np.random.Generator, c: Canvas) -> None:
    colour = _pick(rng, _CLOTH, 10)
    low = rng.uniform(-0.75, -0.55)
    line = low - 0.18 * (1 - np.clip(c.u, -1.2, 1.2) ** 2)
    crown = both(ellipse(c.u, c.v, 0, low, rng.uniform(1.3, 1.45), 1.25), line - c.v)
    knit = 7 * np.sin(28 * c.u) if rng.random() < 0.5 else 3 * c.strands
    c.add("hat", crown, colour, shade=knit)
    wide = rng.uniform(1.4, 1.9)
    brim = both(0.1 - np.abs(c.v - line + 0.04), wide - np.abs(c.u))
    c.add("hat", brim, colour * 0.75)
