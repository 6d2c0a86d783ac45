"""Which items a folder of predictions holds, what they are called and what they were made of."""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from callbacks.files import append_lines, atomic_write
from callbacks.sources import NamesItems, NamesSources, WritesVolumes

_LONGEST = 150  # bytes of a stem: file systems take names of 255, and endings come after it


@dataclass(frozen=True)
class PredictedItem:
    """An item of the data set that is gone over.

    Attributes:
        name: What its files are called, without what they hold.
        source: The file that it is read from, relative to the data root.
        plane: Its axial plane in that file, where it has any.
        volume: What the volume is called that it is a plane of, where it is of one.
    """

    name: str
    source: str | None = None
    plane: int | None = None
    volume: str | None = None


def predicted_items(trainer: Trainer) -> list[PredictedItem]:
    """The items of the data set; none where they have no files."""
    loader = trainer.predict_dataloaders
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, NamesItems) or not isinstance(loader, DataLoader):
        return []
    if not isinstance(loader.dataset, Sized):
        return []
    items = range(len(loader.dataset))
    paths = [data.item_path("predict", index) for index in items]
    sources: list[tuple[str, int | None]] = [
        data.item_source("predict", i) if isinstance(data, NamesSources) else (paths[i], None)
        for i in items
    ]
    files = list(dict.fromkeys(file for file, _ in sources))
    volumes = [file for file in files if isinstance(data, WritesVolumes) and data.is_volume(file)]
    called = dict(zip(volumes, unique_stems(volumes), strict=True))
    return [
        PredictedItem(name, file, plane, called.get(file))
        for name, (file, plane) in zip(unique_stems(paths), sources, strict=True)
    ]


def unique_stems(paths: Sequence[str]) -> list[str]:
    """Names after files, for files: the stem, with its number where another one has it too."""
    stems = [_stem(path) for path in paths]
    # Some file systems do not tell upper from lower case, nor the two ways to write an accent.
    folded = [unicodedata.normalize("NFC", stem).casefold() for stem in stems]
    times = Counter(folded)
    alone = {stem for stem in folded if times[stem] == 1}
    names = []
    for index, (stem, key) in enumerate(zip(stems, folded, strict=True)):
        if times[key] == 1:
            names.append(stem)
            continue
        ending = f"-{index:06d}"
        while key + ending in alone:
            ending += "_"
        names.append(stem + ending)
    return names


def _stem(path: str) -> str:
    composed = unicodedata.normalize("NFC", PurePosixPath(path).stem.removesuffix(".nii"))
    stem = re.sub(r"[^\w.-]", "_", composed)
    return stem.encode()[:_LONGEST].decode(errors="ignore")


def sha256_of(checkpoint: Any) -> str | None:
    """The hash of a checkpoint's file; None where there is none, or it is a folder."""
    if checkpoint is None or not Path(checkpoint).is_file():
        return None
    with Path(checkpoint).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def name_of(checkpoint: Any, run: Path) -> str | None:
    """A checkpoint's path, relative to the run directory where it lies inside."""
    if checkpoint is None:
        return None
    path = Path(checkpoint).absolute()
    inside = path.is_relative_to(run.absolute())
    return str(path.relative_to(run.absolute()) if inside else path)


def choose_folder(run: Path, origin: Mapping[str, Any], items: Sequence[PredictedItem]) -> Path:
    """The first folder that is new, or that an interrupted run left of the same.

    Args:
        run: The run directory.
        origin: What every line must hold.
        items: Of the data set; a line must be of the item that has its index now.
    """
    number = 1
    while True:
        folder = run / ("predictions" if number == 1 else f"predictions-{number}")
        lines = read_lines(folder)
        same = bool(lines) and all(_continues(line, origin, items) for line in lines)
        if same or not folder.is_dir() or not any(folder.iterdir()):
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        number += 1


def _continues(
    line: Mapping[str, Any], origin: Mapping[str, Any], items: Sequence[PredictedItem]
) -> bool:
    if any(key not in line or line[key] != value for key, value in origin.items()):
        return False
    if not items:
        return line.get("source") is None
    if not 0 <= line["index"] < len(items):
        return False
    item = items[line["index"]]
    return (line["source"], line["plane"]) == (item.source, item.plane)


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """All lines of the manifest and of its parts; a line cut short by a crash is left out."""
    lines = []
    for part in sorted(folder.glob("manifest*.jsonl")):
        for text in part.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                continue
    return lines


def add_lines(folder: Path, rank: int, lines: Iterable[Mapping[str, Any]]) -> None:
    """Adds lines to the part of one process."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    append_lines(folder / f"manifest.rank{rank}.jsonl", text)


def join_parts(folder: Path) -> None:
    """Makes one manifest of the parts: each item once, in the order of the split."""
    by_index = {line["index"]: line for line in read_lines(folder)}
    with atomic_write(folder / "manifest.jsonl") as file:
        for index in sorted(by_index):
            file.write((json.dumps(by_index[index]) + "\n").encode())
    for part in folder.glob("manifest.rank*.jsonl"):
        part.unlink()
