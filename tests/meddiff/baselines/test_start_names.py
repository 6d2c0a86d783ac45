"""A checkpoint names what its module started from, and keeps no path."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from meddiff import HybridFinetuneModule
from meddiff.core.start import StartsFrom
from tests.meddiff.baselines.test_segmentation import make_module
from tests.meddiff.hybrid.test_finetune import TINY, pretrained


def start_in(folder: Path) -> Path:
    """A pretraining run; its checkpoint."""
    (folder / "checkpoints").mkdir(parents=True)
    _, file = pretrained(folder)
    return Path(file).rename(folder / "checkpoints" / "last.ckpt")


def sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def finetune(init_from: Path | str) -> HybridFinetuneModule:
    return HybridFinetuneModule(**{**TINY, "init_from": str(init_from)})


def saved(module: StartsFrom) -> dict[str, Any]:
    """A checkpoint's hyper-parameters, as Lightning hands them to the module."""
    checkpoint = {"hyper_parameters": dict(module.hparams)}
    module.on_save_checkpoint(checkpoint)
    return checkpoint["hyper_parameters"]


def resumed(given: Path | str, remembered: dict[str, Any]) -> dict[str, Any]:
    """What is saved after a resume, in Lightning's order of hooks."""
    module = finetune(given)
    module.setup("fit")
    module.on_load_checkpoint({"hyper_parameters": remembered})
    return saved(module)


def test_a_run_is_named_by_what_it_was_when_it_was_read(tmp_path: Path) -> None:
    file = start_in(tmp_path / "smith" / "20260101-120000")
    name = f"20260101-120000@sha256:{sha(file)}"
    run = file.parent.parent
    module = finetune(run)
    module.setup("fit")
    torch.save({}, file)
    first = saved(module)
    assert first["init_from"] == name
    assert {**first, "init_from": None} == {**module.hparams, "init_from": None}
    assert module.hparams["init_from"] == str(run), "as it was given, while the run goes on"
    # Resumed where the start is another one or gone, by the same config or by what is remembered.
    for _ in range(2):
        assert resumed(run, first)["init_from"] == name
        assert resumed(name, first)["init_from"] == name
        file.unlink(missing_ok=True)


def test_a_path_that_an_earlier_version_kept_is_not_handed_on(tmp_path: Path) -> None:
    file = start_in(tmp_path / "smith" / "20260101-120000")
    run = file.parent.parent
    old = dict(finetune(run).hparams)
    assert resumed(run, old)["init_from"] == f"20260101-120000@sha256:{sha(file)}"
    file.unlink()
    assert resumed(run, old)["init_from"] == "20260101-120000"


@pytest.mark.parametrize("folder", [True, False])
def test_weights_of_this_disk_are_named(tmp_path: Path, folder: bool) -> None:
    weights = tmp_path / "smith" / "model.safetensors"
    weights.parent.mkdir()
    save_file(make_module(seed=9).network.get_submodule("encoder").state_dict(), weights)
    module = make_module(encoder_weights=str(weights.parent if folder else weights))
    module.setup("fit")
    assert saved(module)["encoder_weights"] == f"model.safetensors@sha256:{sha(weights)}"


def test_weights_of_the_hub_keep_their_name() -> None:
    assert saved(make_module(encoder_weights="imagenet"))["encoder_weights"] == "imagenet"
