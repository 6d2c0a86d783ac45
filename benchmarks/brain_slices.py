"""Assembles the real brain images at hand into folders of aligned slices.

    python benchmarks/brain_slices.py --data ../shared/data/sample --out DIR

Reads ``IXI``, ``MNI_avg152`` and ``chris_T1_PD`` below ``--data`` and writes 16-bit grey PNG slices
into ``DIR/T1``, ``DIR/PD`` and ``DIR/T2``, the folder layout of ``IXIDataModule``: equal names are
aligned pairs, and a subject is a name without ``_slice`` and its number.

- T1 to train on: ``IXI002``, ``syndiff`` (IXI slices of people who are not named: one subject),
  ``colin27`` (one person, sharp) and ``spm152`` (an average of 152 people, without skull).
- For testing only, as ``test_subjects: [chris, avg152]``: ``chris``, one person with T1 and PD, and
  ``avg152``, blurred averages in T1, PD and T2 (of the people that ``spm152`` averages too).
- ``IXI002``, ``IXI040`` and ``syndiff`` have T2 or PD slices too. Those of ``syndiff`` are no
  pairs, so their numbers start at 100, where no T1 slice has one.

Every picture has anterior up, square pixels and a square frame; those cut from volumes have the
patient's right at the right. Volumes are clipped at their 0.5 and 99.5 percentiles (papers/lmi.md,
5d), single slices each at its own. Prints how many slices each subject has in each folder.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import nibabel
import numpy as np
import numpy.typing as npt
from PIL import Image

Array: TypeAlias = npt.NDArray[np.float32]

IXI_T1_SPACING = (1.2, 0.9375)
"""Millimetres of a pixel of the IXI T1 slices, left to right and back to front."""


@dataclass(frozen=True)
class Volume:
    """A volume to cut.

    Attributes:
        file: Below the data folder.
        modality: Folder to write to.
        subject: Start of the names.
        first: First slice, in the axial order of the closest canonical orientation.
        last: Last slice.
        count: Slices between the two, evenly spread; None takes all.
    """

    file: str
    modality: str
    subject: str
    first: int
    last: int
    count: int | None = None


# The limits were chosen by eye: 30 to 75 % of the height of the brain, of `chris` 25 to 80 %.
VOLUMES = (
    Volume("MNI_avg152/single_subj_T1.nii", "T1", "colin27", 27, 58),
    Volume("MNI_avg152/spm152_T1.nii.gz", "T1", "spm152", 72, 156, 60),
    Volume("chris_T1_PD/chris_t1_on_PD_grid.nii.gz", "T1", "chris", 15, 44),
    Volume("chris_T1_PD/chris_PD.nii.gz", "PD", "chris", 15, 44),
    Volume("MNI_avg152/avg152T1.nii", "T1", "avg152", 27, 58, 7),
    Volume("MNI_avg152/avg152PD.nii", "PD", "avg152", 27, 58, 7),
    Volume("MNI_avg152/avg152T2.nii", "T2", "avg152", 27, 58, 7),
)


def main() -> None:
    """Writes the slices and prints their counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with IXI, MNI_avg152, ...")
    parser.add_argument("--out", type=Path, required=True, help="folder to write T1, PD, T2 into")
    options = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    for modality, subject, number, picture in slices(options.data):
        folder = options.out / modality
        folder.mkdir(parents=True, exist_ok=True)
        save(picture, folder / f"{subject}_slice{number:03d}.png")
        counts[modality, subject] += 1
    for (modality, subject), count in sorted(counts.items()):
        print(f"{modality} {subject}: {count}")
    for modality in sorted({modality for modality, _ in counts}):
        print(f"{modality}: {sum(c for (m, _), c in counts.items() if m == modality)}")


def slices(data: Path) -> Iterator[tuple[str, str, int, Array]]:
    """All slices: modality, subject, number and picture in [0, 1]."""
    for volume in VOLUMES:
        yield from cut(data, volume)
    for modality in ("T1", "T2"):
        file = data / "IXI" / f"IXI002-Guys-0828-{modality}_slice90.nii.gz"
        flat = load(file)
        yield modality, "IXI002", 90, upright(clipped(flat[0]), flat[1])[0]
    for modality in ("PD", "T2"):
        # Its affine is the identity, and its rows run from front to back already.
        file = data / "IXI" / f"IXI040-Guys-0724-{modality}_slice69.nii.gz"
        yield modality, "IXI040", 69, squared(clipped(load(file)[0][..., 0]), (1.0, 1.0))
    for modality, shift in (("T1", 0), ("T2", 100)):
        folder = data / "IXI" / "SynDiff_sample_unpaired" / modality
        for file in sorted(folder.glob("*.png")):
            with Image.open(file) as picture:
                pixels = clipped(np.asarray(picture, dtype=np.float32))
            number = shift + int(file.stem.rpartition("_")[2])
            yield modality, "syndiff", number, squared(pixels, IXI_T1_SPACING)


def cut(data: Path, volume: Volume) -> Iterator[tuple[str, str, int, Array]]:
    """The slices of a volume."""
    values, affine = load(data / volume.file)
    pictures = upright(clipped(values), affine)
    count = volume.count or volume.last - volume.first + 1
    for number in np.linspace(volume.first, volume.last, count).round().astype(int):
        yield volume.modality, volume.subject, int(number), pictures[number]


def load(file: Path) -> tuple[Array, npt.NDArray[np.float64]]:
    """A volume (X, Y, Z), one slice having Z = 1, and its affine."""
    image: Any = nibabel.load(file)  # its type depends on the file's
    values = image.get_fdata(dtype=np.float32)
    return values.reshape(*values.shape[:2], -1), image.affine


def clipped(values: Array) -> Array:
    """Clips at the 0.5 and 99.5 percentiles and maps to [0, 1]."""
    low, high = np.percentile(values, (0.5, 99.5))
    return np.asarray(np.clip((values - low) / (high - low), 0, 1), dtype=np.float32)


def upright(values: Array, affine: npt.NDArray[np.float64]) -> list[Array]:
    """The axial slices from below, each with anterior up, square pixels and a square frame."""
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(values, affine))
    spacing = image.header.get_zooms()
    canonical = image.get_fdata(dtype=np.float32)
    pictures = canonical[:, ::-1].transpose(2, 1, 0)
    return [squared(picture, (float(spacing[0]), float(spacing[1]))) for picture in pictures]


def squared(picture: Array, spacing: tuple[float, float]) -> Array:
    """Makes pixels square at the finer spacing (columns, rows) and pads to a square with 0."""
    height, width = picture.shape
    finest = min(spacing)
    size = (round(width * spacing[0] / finest), round(height * spacing[1] / finest))
    resized = Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)
    side = max(size)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    frame = np.zeros((side, side), np.float32)
    frame[top : top + size[1], left : left + size[0]] = np.asarray(resized)
    return frame


def save(picture: Array, file: Path) -> None:
    """Writes a picture in [0, 1] as a 16-bit PNG."""
    Image.fromarray((picture * 65535).round().astype(np.uint16)).save(file)


if __name__ == "__main__":
    main()
