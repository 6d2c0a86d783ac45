"""Plants names, ids, dates and paths in data and settings, and looks for them in what may leave."""

import getpass
import gzip
import io
import socket
import sys
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import wandb
import yaml
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

import callbacks.files
import lightning_app.senders
from lightning_app.cli import main
from lightning_app.redaction import Redaction
from tests.lightning_app.leaks import LOCAL, found, may_leave
from tests.lightning_app.seen_data import newest

HOST, USER = "host-of-dr-house", "user-lannister"
IN_DATA = ("smithjohn", "muelleranna", "mrn4711007", "19631122", "kowalski", "subj0")
IN_SETTINGS = (
    *("subj0815", "20010203", "8150815", "exclude-dupont", "group-okafor"),
    *("site-lindqvist", "visit-tanaka", "reader-novak", "callback-herrera"),
)
IN_PATHS = ("ward-seven", "study-xanadu", "patient-garcia", "clinic_nakamura", "start-rossi")
FOR_WANDB = ("project-aspen", "entity-birch", "name-cedar", "group-dogwood", "tag-elm", "notes-fir")
IN_CODE = "layers-ibsen"  # of an optimiser's group; its state, which a checkpoint holds, names it
PLANTED = (*IN_DATA, *IN_SETTINGS, *IN_PATHS, HOST, USER)

MODULE = """
from typing import Any
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from lightning.pytorch import LightningModule


class Module(LightningModule):
    def __init__(self, image_size: int = 8, in_channels: int = 3, num_classes: int = 2,
                 seed: int = 0, site: str = "", visits: dict[str, float] | None = None,
                 born: Any = None, readers: list[str] | None = None,
                 segmenter_from: str | None = None) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["site", "visits", "born", "readers"])
        self.layer = nn.Conv2d(in_channels, num_classes, 1)

    def segment(self, image: Tensor) -> Tensor:
        return self.layer(image)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        pixels = batch["image"] if "image" in batch else batch["source"]
        loss = self.layer(pixels).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.training_step(batch, batch_idx))

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("test/loss", self.training_step(batch, batch_idx))

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"mask": self.layer(batch["image"]).argmax(1), "index": batch["index"]}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = [{"params": list(self.parameters()), "name": "layers-ibsen"}]
        return torch.optim.SGD(groups, lr=0.1)


class Note(Callback):
    def __init__(self, note: str, people: dict[str, int]) -> None:
        self.note, self.people = note, people
"""


def write_dicom(path: Path) -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.7")
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    dataset.PatientName, dataset.PatientID = "MuellerAnna", "MRN4711007"
    dataset.PatientBirthDate = dataset.StudyDate = "19631122"
    dataset.Rows = dataset.Columns = 8
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = np.random.default_rng(len(path.name)).bytes(64)
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path, enforce_file_format=True)


def write_data(folder: Path) -> None:
    """Pictures with masks, one in DICOM, and volumes of own names."""
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    draw = np.random.default_rng(0)
    for number in range(8):
        name = f"smithjohn-{number}"
        pixels = draw.integers(0, 256, (8, 8, 3), np.uint8)
        if number % 2:
            write_dicom(folder / "images" / f"{name}.dcm")
        else:
            Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
        Image.fromarray((pixels[..., 0] > 128).astype(np.uint8) * 255).save(
            folder / "masks" / f"{name}.png"
        )
    (folder / "exclude-dupont.txt").write_text("smithjohn-7\n")
    for modality in ("T1", "T2", "PD"):
        (folder / "volumes" / modality).mkdir(parents=True)
        for name in ("subj0815", "20010203", "8150815", "subj0", "subj02", "subj03"):
            volume = nib.Nifti1Image(draw.random((16, 16, 8)).astype(np.float32), np.eye(4))
            volume.header["descrip"] = b"Kowalski"
            nib.save(volume, folder / "volumes" / modality / f"{name}.nii.gz")


def config(data: dict[str, Any], start: Path | None) -> dict[str, Any]:
    model = {
        "site": "site-lindqvist",
        "visits": {"visit-tanaka": 1.5},
        "born": "1963-11-22",
        "readers": ["reader-novak"],
        "segmenter_from": None if start is None else str(start),
    }
    note = {"note": "callback-herrera", "people": {"callback-herrera": 3}}
    return {
        "model": {"class_path": "clinic_nakamura.Module", "init_args": model},
        "data": data,
        "run_root": "study-xanadu",
        "trainer": {
            **{"accelerator": "cpu", "devices": 1, "max_steps": 2, "log_every_n_steps": 1},
            "enable_progress_bar": False,
            "callbacks": [{"class_path": "clinic_nakamura.Note", "init_args": note}],
        },
        "best": {"monitor": "val/loss"},
        "metrics": {"num": 2, "bootstrap": 5},
        "samples": {"num": 0},
        "tensorboard": {"enabled": True},
        "wandb": {
            **{"enabled": True, "offline": True, "project": "project-aspen"},
            **{"entity": "entity-birch", "name": "name-cedar", "group": "group-dogwood"},
            **{"tags": ["tag-elm"], "notes": "notes-fir"},
        },
    }


@dataclass
class Clinic:
    """A working directory with planted data, and runs in it."""

    folder: Path
    runs: dict[str, Path] = field(default_factory=dict)

    def run(self, name: str, subcommand: str, *args: str) -> Path:
        assert main([subcommand, *args]) == 0
        self.runs[name] = newest(self.folder / "study-xanadu")
        return self.runs[name]

    def pictures(self) -> dict[str, Any]:
        own = {
            **{"root": str(self.folder / "ward-seven"), "image_size": 8, "batch_size": 2},
            **{"num_workers": 0, "val_fraction": 0.3, "test_fraction": 0.3, "in_channels": 3},
            **{"exclude_file": str(self.folder / "ward-seven" / "exclude-dupont.txt")},
            **{"group_regex": "smithjohn-(\\d)|group-okafor"},
        }
        return {"class_path": "ImageMaskFolderDataModule", "init_args": own}

    def volumes(self) -> dict[str, Any]:
        own = {
            **{"root": str(self.folder / "ward-seven" / "volumes"), "image_size": 8},
            **{"in_channels": 3, "batch_size": 2, "num_workers": 0, "registration": False},
            **{"val_fraction": 0.3, "test_subjects": ["subj0815", "20010203", "8150815"]},
        }
        return {"class_path": "IXIDataModule", "init_args": own}

    def write(self, stem: str, content: dict[str, Any]) -> str:
        file = self.folder / f"{stem}.yaml"
        file.write_text(yaml.safe_dump(content))
        return str(file)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """A start, a fit from it, a test, a prediction, and a fit on volumes."""
    folder = tmp_path_factory.mktemp("clinic")
    write_data(folder / "ward-seven")
    (folder / "clinic_nakamura.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.setattr(socket, "gethostname", lambda: HOST)
        for variable in ("USER", "LOGNAME", "LNAME", "USERNAME"):
            patch.setenv(variable, USER)
        assert getpass.getuser() == USER
        own = Clinic(folder)
        plain = ("--wandb.enabled", "false", "--tensorboard.enabled", "false")
        start = own.write("start-rossi", config(own.pictures(), None))
        own.run("start", "fit", "--config", start, *plain)
        fitted = own.write("patient-garcia", config(own.pictures(), own.runs["start"]))
        run = str(own.run("fit", "fit", "--config", fitted))
        own.run("test", "test", "--ckpt_path", run)
        own.run("predict", "predict", "--ckpt_path", run)
        slices = own.write("patient-garcia", config(own.volumes(), None))
        own.run("volumes", "fit", "--config", slices)
        wandb.teardown()  # its process may still be writing
        yield own
    sys.modules.pop("clinic_nakamura", None)


def test_the_words_are_planted_and_stand_where_they_may(clinic: Clinic) -> None:
    local = b"".join(
        path.read_bytes().lower()
        for run in clinic.runs.values()
        for pattern in LOCAL
        for path in run.glob(pattern)
        if path.is_file()
    )
    headers = {"muelleranna", "mrn4711007", "19631122", "kowalski"}  # which nothing writes
    for word in set(PLANTED) - headers - {USER}:
        assert word.encode() in local, word


@pytest.mark.parametrize("name", ["start", "fit", "test", "predict", "volumes"])
def test_no_planted_word_is_in_what_may_leave(clinic: Clinic, name: str) -> None:
    run = clinic.runs[name]
    assert not found([*PLANTED, str(clinic.folder), f"{Path.home()}/"], run)
    assert not [file for file in found([IN_CODE], run).get(IN_CODE, ()) if ".ckpt" not in file]
    kinds = {path.suffix for path in may_leave(run)}
    if name != "start":
        assert ".wandb" in kinds
        assert any("tfevents" in path.name for path in may_leave(run))
    assert (".ckpt" in kinds) == (name in ("start", "fit", "volumes"))


def test_what_was_typed_for_wandb_goes_there_once_and_nowhere_else(clinic: Clinic) -> None:
    found_there = found(FOR_WANDB, clinic.runs["fit"])
    # Offline nobody is asked who the entity is.
    assert set(found_there) >= set(FOR_WANDB) - {"project-aspen", "entity-birch"}
    for word, files in found_there.items():
        assert all(file.endswith(".wandb") for file in files), word


def test_a_checkpoint_names_its_start_and_keeps_no_path(clinic: Clinic) -> None:
    import torch

    file = clinic.runs["fit"] / "checkpoints" / "last.ckpt"
    name = torch.load(file, weights_only=True)["hyper_parameters"]["segmenter_from"]
    assert name.startswith(f"{clinic.runs['start'].name}@sha256:")


def let_params_through(self: Redaction, params: Any) -> Any:
    return params


def let_checkpoints_through(checkpoint: Any, file: Path) -> Any:
    return checkpoint


IDS = {"subj0815", "20010203", "8150815"}
RULES = {
    "settings": (
        (Redaction, "__call__", let_params_through),
        {*IN_SETTINGS, "ward-seven", "study-xanadu", "clinic_nakamura", "start-rossi", "smithjohn"}
        - IDS,
    ),
    "ids": (
        (Redaction, "__call__", let_params_through),
        {*IN_SETTINGS, "ward-seven", "study-xanadu", "clinic_nakamura"}
        - {"exclude-dupont", "group-okafor"},
    ),
    "checkpoints": (
        (callbacks.files, "without_paths", let_checkpoints_through),
        {"start-rossi", "study-xanadu"},
    ),
    "host": ((lightning_app.senders, "_host_unnamed", nullcontext), {HOST}),
}


@pytest.mark.parametrize("rule", list(RULES))
def test_the_search_finds_all_that_a_rule_lets_through_once_it_is_off(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    (place, name, off), expected = RULES[rule]
    monkeypatch.setattr(place, name, off)
    again = clinic.runs["volumes" if rule == "ids" else "fit"] / "config.yaml"
    run = clinic.run("off", "fit", "--config", str(again), "--wandb.enabled", "false")
    assert set(found(PLANTED, run)) == expected | ({"subj0"} if rule == "ids" else set())
    sent = [file for file in found([IN_CODE], run)[IN_CODE] if "tfevents" in file]
    assert bool(sent) == (rule in ("settings", "ids"))


def as_wandb(word: bytes) -> bytes:
    """A record that goes on in the next block, in the middle of the word."""
    first = b"x" * (32768 - 7 - 7 - 3) + word[:3]
    head = b":W&B" + bytes(3)
    return b"".join(
        [head, _part(1, first), _part(4, word[3:])],
    )


def _part(kind: int, data: bytes) -> bytes:
    return bytes(4) + len(data).to_bytes(2, "little") + bytes([kind]) + data


def as_zip(word: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", gzip.compress(word * 9))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.wandb", as_wandb(b"SmithJohn")),
        ("last.ckpt", as_zip(b"SmithJohn")),
        ("events", "x SMITHJOHN".encode("utf-16-le")),
        ("events", "SmithJohn".encode("utf-16-be")),
        ("of-smithjohn.png", b""),
        ("wandb/run/files/media/smithjohn.json", b""),
    ],
)
def test_the_search_looks_everywhere(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    assert set(found(["smithjohn", "other"], tmp_path)) == {"smithjohn"}
