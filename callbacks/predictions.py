"""What `lightning predict` writes."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.files import atomic_write
from callbacks.sources import NamesItems, source_of
from callbacks.steps import KnowsLoadedStep

_LONGEST_STEM = 160  # bytes; a file's name has at most 255, and ours end in an index and a key


class PredictionWriter(KnowsLoadedStep):
    """Writes each predicted item to `predictions/` and lists it in `manifest.jsonl`.

    An item is named after its source file, else after its index (both, where two source files have
    one name), and what it is:

    - `<name>_image.png`: 8 bits, from [-1, 1]; one channel is grey, three are RGB. Other numbers
      of channels, and all images with `image_format: npy`, are `.npy` files in [-1, 1];
    - `<name>_mask.png`: 0 and 255 where the module has two classes, else class ids;
    - `<name>_<key>.npy`: any other tensor that `predict_step` returns, one row an item.

    A line of the manifest holds `index`, `files`, `source` (relative to the data root, null
    where there is none), `seed`, `checkpoint` and `step` of the weights.

    Nothing is overwritten. Where `predictions/` holds items of the same checkpoint, step and
    seed, as an interrupted run leaves them, those listed and there are kept and the rest is added;
    where it holds anything else, `predictions-2/` is used, and so on.

    Args:
        image_format: `png` or, for exact values, `npy`.

    Raises:
        ValueError: If it is neither.
    """

    def __init__(self, image_format: Literal["png", "npy"] = "png") -> None:
        super().__init__()
        if image_format not in ("png", "npy"):
            raise ValueError(f"predictions.image_format: {image_format!r} is neither png nor npy")
        self.image_format = image_format
        self._origin: dict[str, Any] = {}
        self._folder = Path()
        self._names: list[str] = []
        self._kept: set[int] = set()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Chooses the folder and finds what is there already."""
        run = Path(trainer.default_root_dir)
        self._origin = {
            "seed": pl_module.hparams.get("seed"),
            "checkpoint": _name_of(trainer.ckpt_path, run),
            "step": self.loaded_step,
        }
        chosen = _choose_folder(run, self._origin) if trainer.is_global_zero else run
        self._folder = trainer.strategy.broadcast(chosen)
        self._kept = {
            line["index"]
            for line in _read_lines(self._folder)
            if all((self._folder / file).is_file() for file in line["files"])
        }
        self._names = _unique_stems(trainer)
        trainer.strategy.barrier("predictions")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes the items of a batch and then their lines.

        Raises:
            ValueError: If `predict_step` gives no index or nothing to write.
        """
        values = {k: v for k, v in outputs.items() if isinstance(v, Tensor) and k != "index"}
        if "index" not in outputs or not values:
            raise ValueError(
                "predict_step must return a dict with `index` and tensors to write, "
                f"and gave {sorted(outputs)}"
            )
        on_host = {key: value.detach().cpu() for key, value in values.items()}
        binary = pl_module.hparams.get("num_classes") == 2
        lines = []
        for row, index in enumerate(outputs["index"].tolist()):
            if index in self._kept:
                continue
            files = [
                self._write(f"{self._name(index)}_{key}", key, value[row], binary)
                for key, value in on_host.items()
            ]
            source = source_of(trainer, "predict", index)
            lines.append({"index": index, "files": files, "source": source, **self._origin})
        # The lines come after their files, so that what is listed is whole.
        with (self._folder / f"manifest.rank{trainer.global_rank}.jsonl").open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def _name(self, index: int) -> str:
        return self._names[index] if index < len(self._names) else f"{index:06d}"

    def _write(self, name: str, key: str, value: Tensor, binary: bool) -> str:
        """Writes one tensor of one item and returns the file's name."""
        as_png = key == "mask" or (
            key == "image" and self.image_format == "png" and value.shape[0] in (1, 3)
        )
        file_name = f"{name}.png" if as_png else f"{name}.npy"
        with atomic_write(self._folder / file_name, flush=False) as file:
            if not as_png:
                np.save(file, value.float().numpy() if value.is_floating_point() else value.numpy())
            elif key == "mask":
                grey = (value == 1) * 255 if binary else value
                Image.fromarray(grey.to(torch.uint8).numpy()).save(file, "PNG")
            else:
                pixels = ((value.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
                array = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
                Image.fromarray(array.contiguous().numpy()).save(file, "PNG")
        return file_name

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Joins the manifests of the processes, each item once, in the order of the split."""
        trainer.strategy.barrier("predictions")
        if trainer.is_global_zero:
            by_index = {line["index"]: line for line in _read_lines(self._folder)}
            with atomic_write(self._folder / "manifest.jsonl") as file:
                for index in sorted(by_index):
                    file.write((json.dumps(by_index[index]) + "\n").encode())
            for part in self._folder.glob("manifest.rank*.jsonl"):
                part.unlink()
        trainer.strategy.barrier("manifest")


def _name_of(checkpoint: Any, run: Path) -> str | None:
    """A checkpoint's path, relative to the run directory where it lies inside."""
    if checkpoint is None:
        return None
    path = Path(checkpoint).absolute()
    inside = path.is_relative_to(run.absolute())
    return str(path.relative_to(run.absolute()) if inside else path)


def _choose_folder(run: Path, origin: Mapping[str, Any]) -> Path:
    """The first folder that is new, or that an interrupted run of the same origin left."""
    number = 1
    while True:
        folder = run / ("predictions" if number == 1 else f"predictions-{number}")
        lines = _read_lines(folder)
        same = bool(lines) and all(
            all(line[key] == value for key, value in origin.items()) for line in lines
        )
        if same or not folder.is_dir() or not any(folder.iterdir()):
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        number += 1


def _read_lines(folder: Path) -> list[dict[str, Any]]:
    """All lines of the manifest and of its parts; a line cut short by a crash is left out."""
    lines = []
    for part in sorted(folder.glob("manifest*.jsonl")):
        for text in part.read_text().splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                continue
    return lines


def _unique_stems(trainer: Trainer) -> list[str]:
    """The name of each item of the data set; empty where items have no source file."""
    loader = trainer.predict_dataloaders
    data = trainer.datamodule  # type: ignore[attr-defined]
    if not isinstance(data, NamesItems) or not isinstance(loader, DataLoader):
        return []
    items = len(loader.dataset)  # type: ignore[arg-type]
    paths = [data.item_path("predict", index) for index in range(items)]
    stems = [_safe(PurePosixPath(path).stem.removesuffix(".nii")) for path in paths]
    # Some file systems do not tell upper from lower case.
    times = Counter(stem.lower() for stem in stems)
    return [
        stem if times[stem.lower()] == 1 else f"{stem}-{index:06d}"
        for index, stem in enumerate(stems)
    ]


def _safe(stem: str) -> str:
    """A name that every file system takes: composed, of word characters, not too long."""
    name = re.sub(r"[^\w.-]", "_", unicodedata.normalize("NFC", stem))
    return name.encode()[:_LONGEST_STEM].decode("utf-8", "ignore")
