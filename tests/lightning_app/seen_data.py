"""Folders of images with masks, and runs of the command on them, for the tests of what was seen."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_modules import ImageMaskFolderDataModule
from lightning_app.cli import main
from tests.lightning_app.toys import HERE

PIXELS = 8
NAMES = [f"case{k:02d}" for k in range(20)]
FIT = ["--trainer.max_steps", "4", "--data.init_args.val_fraction", "0.25"]


@dataclass
class Runs:
    """Two fits, the second started from the first, and folders beside theirs."""

    folder: Path
    first: Path
    second: Path
    first_run: Path
    second_run: Path


def write_folder(root: Path, names: Iterable[str], seed: int) -> Path:
    """Images whose content follows from their name and a seed, with masks."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for name in names:
        draw = np.random.default_rng([seed, *name.encode()])
        Image.fromarray(draw.integers(0, 256, (PIXELS, PIXELS, 3), np.uint8)).save(
            root / "images" / f"{name}.png"
        )
        mask = (draw.random((PIXELS, PIXELS)) < 0.5).astype(np.uint8) * 255
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    return root


def folder_data(root: Path, stage: str, **arguments: Any) -> ImageMaskFolderDataModule:
    """A data module that is set up for a stage."""
    data = ImageMaskFolderDataModule(
        root=str(root), image_size=PIXELS, batch_size=4, num_workers=0, **arguments
    )
    data.setup(stage)
    return data


def command(subcommand: str, root: Path, runs: Path, *args: str) -> int:
    """Runs a subcommand of the pixel module on a folder."""
    return main(
        [
            *(subcommand, "--model", f"{HERE}.PixelModule"),
            *("--data", "ImageMaskFolderDataModule", "--data.init_args.root", str(root)),
            *("--data.init_args.image_size", str(PIXELS), "--data.init_args.batch_size", "4"),
            *("--data.init_args.num_workers", "0", "--run_root", str(runs)),
            *("--trainer.accelerator", "cpu", "--trainer.devices", "1"),
            *("--trainer.enable_progress_bar", "false", "--trainer.log_every_n_steps", "1"),
            *("--samples.num", "0", "--metrics.num", "0", "--metrics.bootstrap", "5"),
            *args,
        ]
    )


def newest(runs: Path) -> Path:
    """The run directory that was made last."""
    return max(runs.glob("*/*/run.json"), key=lambda file: file.stat().st_mtime_ns).parent


def record_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "run.json").read_text())
    return content


def splits_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "splits.json").read_text())
    return content


def make_runs(folder: Path) -> Runs:
    """Two fits, and copies and namesakes of the images of the first."""
    first = write_folder(folder / "first", NAMES, 1)
    second = write_folder(folder / "second", [f"other{k}" for k in range(12)], 2)
    assert command("fit", first, folder / "runs", *FIT) == 0
    first_run = newest(folder / "runs")
    start = ["--model.init_args.init_from", str(first_run), "--early_stopping.patience", "9"]
    assert (
        command(
            "fit", second, folder / "runs", *FIT, *start, "--early_stopping.monitor", "val/loss"
        )
        == 0
    )
    second_run = newest(folder / "runs")
    write_folder(folder / "renamed", [], 0)
    for name in NAMES:
        for part in ("images", "masks"):
            shutil.copy(first / part / f"{name}.png", folder / "renamed" / part / f"x{name}.png")
    write_folder(folder / "namesakes", NAMES, 3)
    write_folder(folder / "elsewhere", [f"new{k}" for k in range(8)], 4)
    return Runs(folder, first, second, first_run, second_run)
