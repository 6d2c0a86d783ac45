"""A head with a brain, as a function of the place, and what an MR scanner makes of it.

Nobody should take it for a patient; a person who has seen MR recognises a brain, and T1, T2 and PD
order the tissues as real scans do. Anatomy is evaluated at any places, so that two scans of one
person may lie on different grids.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Field: TypeAlias = npt.NDArray[np.float32]

TISSUES = ("air", "scalp", "skull", "csf", "grey", "white", "nuclei")
"""Order of the maps of `Head.tissues`; csf is cerebrospinal fluid."""

# Signal of each tissue. Fat is bright in T1, fluid in T2; PD shows little but the dark bone.
_SIGNAL = {
    "T1": (0.0, 0.95, 0.1, 0.17, 0.47, 0.74, 0.58),
    "T2": (0.0, 0.42, 0.06, 1.0, 0.54, 0.37, 0.44),
    "PD": (0.0, 0.62, 0.14, 0.74, 0.86, 0.68, 0.77),
}
MODALITIES = tuple(_SIGNAL)


class Head:
    """The anatomy of one person; all lengths in mm, x to the right, y to the front, z up.

    Args:
        rng: Source of all that varies.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._radii = np.array([76.0, 96.0, 84.0]) * rng.normal(1, 0.035, 3)
        self._taper = rng.uniform(0.06, 0.16)  # the forehead is narrower than the back
        self._bumps = Waves(rng, 110, 8)
        self._scalp, self._skull = rng.uniform(4.5, 8.0), rng.uniform(5.5, 8.0)
        self._gap, self._cortex = rng.uniform(1.0, 3.0), rng.uniform(3.0, 4.0)
        self._folds = Waves(rng, rng.uniform(28, 34), 14)
        self._fold_depth, self._fold_width = rng.uniform(14, 19), rng.uniform(0.4, 1.1)
        self._midline = Waves(rng, 120, 4)
        self._ventricles = _ventricles(rng)
        self._nuclei = _nuclei(rng)

    def tissues(self, places: Field, blur: float) -> Field:
        """The share of each tissue at some places.

        Args:
            places: (..., 3), mm from the middle of the head.
            blur: Width of the border between two tissues: about the size of a voxel.

        Returns:
            (7, ...), in the order of `TISSUES`; sums to 1.
        """
        depth = self._depth(places)
        inside = depth - self._scalp - self._skull
        pia = self._from_pia(places, inside - self._gap)
        fluid = np.minimum.reduce([shape.distance(places) for shape in self._ventricles])
        core = np.minimum.reduce([shape.distance(places) for shape in self._nuclei])
        maps = np.zeros((len(TISSUES), *depth.shape), np.float32)
        maps[0] = 1
        for tissue, shape in (
            ("scalp", depth),
            ("skull", depth - self._scalp),
            ("csf", inside),
            ("grey", pia),
            ("white", pia - self._cortex),
            ("nuclei", np.minimum(-core, inside)),
            ("csf", np.minimum(-fluid, inside)),
        ):
            share = np.clip(shape / blur + 0.5, 0, 1)
            maps *= 1 - share
            maps[TISSUES.index(tissue)] += share
        return maps

    def _depth(self, places: Field) -> Field:
        """About the distance from the skin, above 0 inside."""
        x, y, z = np.moveaxis(places / self._radii.astype(np.float32), -1, 0)
        x = x * (1 + self._taper * y)
        radius = np.sqrt(x**2 + y**2 + z**2)
        return np.asarray(82 * (1 - radius) + 1.2 * self._bumps(places), np.float32)

    def _from_pia(self, places: Field, depth: Field) -> Field:
        """About the distance from the folded surface of the brain, above 0 inside."""
        sulci = np.abs(self._folds(places)) * self._folds.wavelength / (2 * np.pi)
        sulci = np.maximum(sulci - self._fold_width, depth - self._fold_depth)
        fissure = np.abs(places[..., 0] + 1.5 * self._midline(places)) - 1.2
        fissure = np.maximum(fissure, depth - 30)
        return np.asarray(np.minimum.reduce([depth, sulci, fissure]), np.float32)


class Waves:
    """A smooth random field, about N(0, 1), that can be evaluated anywhere.

    Args:
        rng: Source of directions and phases.
        wavelength: mm.
        count: Number of plane waves that are added up.
    """

    def __init__(self, rng: np.random.Generator, wavelength: float, count: int) -> None:
        self.wavelength = wavelength
        ways = rng.normal(size=(3, count))
        ways *= 2 * np.pi / wavelength / np.linalg.norm(ways, axis=0)
        self._ways = ways.astype(np.float32)
        self._phases = rng.uniform(0, 2 * np.pi, count).astype(np.float32)

    def __call__(self, places: Field) -> Field:
        """The field (...) at places (..., 3)."""
        waves = np.cos(places @ self._ways + self._phases).sum(-1)
        return np.asarray(waves * np.sqrt(2 / len(self._phases)), np.float32)


class _Capsule:
    """All places within some distance of a line from one point to another."""

    def __init__(self, start: npt.ArrayLike, end: npt.ArrayLike, radius: float) -> None:
        self._start = np.asarray(start, np.float32)
        self._way = np.asarray(end, np.float32) - self._start
        self._radius = radius

    def distance(self, places: Field) -> Field:
        """Distance from the surface, below 0 inside."""
        off = places - self._start
        along = np.clip(off @ self._way / (self._way @ self._way), 0, 1)
        off -= along[..., None] * self._way
        return np.asarray(np.sqrt(np.einsum("...i,...i", off, off)) - self._radius, np.float32)


def _ventricles(rng: np.random.Generator) -> list[_Capsule]:
    """Front horn, body and back horn of each side, and the third ventricle between the thalami."""
    width, shift = rng.uniform(2.8, 6.0), rng.normal(0, 1.5, 3)
    shapes = []
    for side in (-1, 1):
        size = width * rng.uniform(0.85, 1.15)
        path = np.array([(9, 33, 3), (6.5, 14, 12), (11, -12, 17), (23, -38, 8), (20, -50, 2)])
        path = path * (side, 1, 1) + shift + rng.normal(0, 1.2, path.shape)
        radii = (1.0, 0.9, 1.0, 0.75)
        shapes += [
            _Capsule(start, end, size * radius)
            for start, end, radius in zip(path[:-1], path[1:], radii, strict=True)
        ]
    third = np.array([(0, 2, -4), (0, -20, -1)]) + shift
    return [*shapes, _Capsule(third[0], third[1], width * 0.45)]


def _nuclei(rng: np.random.Generator) -> list[_Capsule]:
    """Thalamus, lentiform nucleus and head of the caudate of each side."""
    shapes = []
    for side in (-1, 1):
        for start, end, radius in (
            ((9, -9, 3), (14, -22, 5), 7.5),
            ((20, 14, 0), (29, -10, 1), 5.5),
            ((15, 24, 4), (16, 10, 12), 4.5),
        ):
            line = np.array([start, end]) * (side, 1, 1) + rng.normal(0, 1.0, (2, 3))
            shapes.append(_Capsule(line[0], line[1], radius * rng.uniform(0.9, 1.1)))
    return shapes


def scan(
    rng: np.random.Generator, tissues: Field, places: Field, modality: str
) -> npt.NDArray[np.int16]:
    """Scans a head: contrast, uneven sensitivity of the coil, texture and Rician noise.

    Args:
        rng: Source of what differs between two scans of one person.
        tissues: (7, ...), as `Head.tissues` gives them.
        places: (..., 3) of the voxels, mm from the middle of the head.
        modality: One of `MODALITIES`.

    Returns:
        (...), in the arbitrary units of a scanner, about 0 to 1200.
    """
    signal = np.array(_SIGNAL[modality]) * rng.normal(1, 0.02, len(TISSUES))
    clean = np.tensordot(signal.astype(np.float32), tissues, axes=1)
    sensitivity = 1 + 0.06 * Waves(rng, 260, 3)(places)
    texture = 1 + 0.02 * Waves(rng, 17, 8)(places)
    noise = rng.normal(0, 0.018, (2, *clean.shape)).astype(np.float32)
    noisy = np.hypot(clean * sensitivity * texture + noise[0], noise[1])
    return np.asarray(np.round(noisy * rng.uniform(800, 1200)), dtype=np.int16)
