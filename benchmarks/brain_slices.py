"""Assembles the real brain images at hand into folders of aligned slices.

    python benchmarks/brain_slices.py --data $DATA --out DIR

Reads `IXI`, `MNI_avg152` and `chris_T1_PD` below `--data` and writes 16-bit grey PNG slices
into `DIR/T1`, `DIR/PD` and `DIR/T2`, the folder layout of `IXIDataModule`: equal names are
aligned pairs, and a subject is a name without `_slice` and its number.

- T1 to train on: `IXI002`, `syndiff` (IXI slices of people who are not named: one subject),
  `colin27` (one person, sharp) and `spm152` (an average of 152 people, without skull).
- For testing only, as `test_subjects: [chris, avg152]`: `chris`, one person with T1 and PD, and
  `avg152`, blurred averages in T1, PD and T2 (of the people that `spm152` averages too).
- `IXI002`, `IXI040` and `syndiff` have T2 or PD slices too. Those of `syndiff` are no
  pairs, so their numbers start at 100, where no T1 slice has one.

Every picture has anterior up, square pixels and a square frame; those cut from volumes have the
patient's right at the right. Volumes are clipped at their 0.5 and 99.5 percentiles
(docs/papers/lmi.md, 5d), single slices each at its own. Prints how many slices each subject has in
each folder.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_modules.reading.nifti import read_grid, read_volume
from data_modules.reading.volumes import Plane, Spacing, axial_plane, to_square

IXI_T1_SPACING = (0.9375, 1.2)
"""Distance in mm of the rows and of the columns of the IXI T1 slices."""


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


def slices(data: Path) -> Iterator[tuple[str, str, int, Plane]]:
    """All slices: modality, subject, number and picture in [0, 1]."""
    for volume in VOLUMES:
        file = data / volume.file
        voxels, grid = clipped(read_volume(file)), read_grid(file)
        count = volume.count or volume.last - volume.first + 1
        for number in np.linspace(volume.first, volume.last, count).round().astype(int).tolist():
            plane = axial_plane(voxels, grid, number)
            yield volume.modality, volume.subject, number, squared(*plane)
    for modality in ("T1", "T2"):
        file = data / "IXI" / f"IXI002-Guys-0828-{modality}_slice90.nii.gz"
        plane = axial_plane(clipped(read_volume(file)), read_grid(file), None)
        yield modality, "IXI002", 90, squared(*plane)
    for modality in ("PD", "T2"):
        # Its affine is the identity, and its rows run from front to back already.
        file = data / "IXI" / f"IXI040-Guys-0724-{modality}_slice69.nii.gz"
        yield modality, "IXI040", 69, squared(clipped(read_volume(file)[..., 0]), (1.0, 1.0))
    for modality, shift in (("T1", 0), ("T2", 100)):
        folder = data / "IXI" / "SynDiff_sample_unpaired" / modality
        for file in sorted(folder.glob("*.png")):
            with Image.open(file, formats=("PNG",)) as picture:
                pixels = clipped(np.asarray(picture, dtype=np.float32))
            number = shift + int(file.stem.rpartition("_")[2])
            yield modality, "syndiff", number, squared(pixels, IXI_T1_SPACING)


def clipped(values: Plane) -> Plane:
    """Clips at the 0.5 and 99.5 percentiles and maps to [0, 1]."""
    low, high = np.percentile(values, (0.5, 99.5))
    return np.asarray(np.clip((values - low) / (high - low), 0, 1), dtype=np.float32)


def squared(picture: Plane, spacing: Spacing) -> Plane:
    """Makes pixels square at the finer spacing of rows and columns and pads to a square with 0."""
    sides = (n * mm / min(spacing) for n, mm in zip(picture.shape, spacing, strict=True))
    return to_square(picture, spacing, round(max(sides)))


def save(picture: Plane, file: Path) -> None:
    """Writes a picture in [0, 1] as a 16-bit PNG."""
    Image.fromarray((picture * 65535).round().astype(np.uint16)).save(file)


if __name__ == "__main__":
    main()
