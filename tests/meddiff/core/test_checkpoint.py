"""Checkpoints are read safely, and errors name the file."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

import meddiff
from meddiff import HybridDiffusionModule
from meddiff.core.checkpoint import (
    CheckpointError,
    check_identity,
    check_written_by,
    find_checkpoint,
    identity_of,
    public_name,
    read_checkpoint,
)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("open('owned', 'w').close()",))


def test_a_hostile_pickle_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "payload": Hostile()}, "bad.ckpt")
    Path("plain.ckpt").write_bytes(pickle.dumps(Hostile()))
    for name in ("bad.ckpt", "plain.ckpt"):
        with pytest.raises(CheckpointError, match=rf"{name}: refused.*no unsafe fallback"):
            read_checkpoint(name)
    assert not Path("owned").exists()


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cut.ckpt"
    torch.save({"a": torch.zeros(1000)}, file)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"cut\.ckpt.*damaged or cut short"):
        read_checkpoint(file)


def test_a_run_directory_stands_for_its_best_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    with pytest.raises(CheckpointError, match=r"holds no checkpoints/best\.ckpt"):
        find_checkpoint(tmp_path)
    (folder / "last.ckpt").touch()
    assert find_checkpoint(tmp_path) == folder / "last.ckpt"
    (folder / "best.ckpt").touch()
    assert find_checkpoint(tmp_path) == folder / "best.ckpt"
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        find_checkpoint(tmp_path / "other")


def test_checkpoints_of_others_are_named(tmp_path: Path) -> None:
    other = {"meddiff": {"class_path": "meddiff.DKDMModule", "version": "1"}}
    with pytest.raises(CheckpointError, match=r"written by DKDMModule.*HybridDiffusionModule"):
        check_identity(other, HybridDiffusionModule, "run")
    with pytest.raises(CheckpointError, match="not written by a module of meddiff"):
        check_identity({}, HybridDiffusionModule, "run")
    torch.save({"meddiff": {"class_path": "os.system", "version": "1"}}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"os\.system is not a module of this meddiff"):
        meddiff.load(tmp_path / "x.ckpt")


@pytest.mark.parametrize("place", ["meddiff.hybrid.module", "meddiff.hybrid"])
def test_a_checkpoint_of_an_earlier_place_of_a_class_says_so(place: str, tmp_path: Path) -> None:
    class_path = f"{place}.HybridDiffusionModule"
    old = {"meddiff": {"class_path": class_path, "version": "0.0.9"}, "state_dict": {}}
    torch.save(old, tmp_path / "old.ckpt")
    said = rf"earlier meddiff \(0\.0\.9\), which had this class as {class_path}"
    with pytest.raises(CheckpointError, match=said):
        check_identity(old, HybridDiffusionModule, "run")
    with pytest.raises(CheckpointError, match=said):
        check_written_by(old, ["meddiff.HybridDiffusionModule"], "run")
    with pytest.raises(CheckpointError, match=said):
        meddiff.load(tmp_path / "old.ckpt")


def test_classes_of_one_name_are_told_apart_by_their_modules() -> None:
    other = {"meddiff": {"class_path": "mine.HybridDiffusionModule", "version": "1"}}
    names = "mine.HybridDiffusionModule.*meddiff.HybridDiffusionModule"
    with pytest.raises(CheckpointError, match=names):
        check_identity(other, HybridDiffusionModule, "run")
    with pytest.raises(CheckpointError, match=names):
        check_written_by(other, ["meddiff.HybridDiffusionModule"], "run")


def test_the_run_of_a_test_holds_no_checkpoint_and_says_of_which_it_is(tmp_path: Path) -> None:
    record = {"subcommand": "test", "checkpoint": "runs/m/1/checkpoints/best.ckpt"}
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"run of test on runs/m/1/checkpoints/best\.ckpt"):
        find_checkpoint(tmp_path)
    for text in ("{", "[]", json.dumps({"subcommand": "fit"})):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(CheckpointError, match="the run directory of a fit"):
            find_checkpoint(tmp_path)


def test_an_argument_of_another_version_is_named(tmp_path: Path) -> None:
    identity = {"class_path": "meddiff.HybridDiffusionModule", "version": "0.0.9"}
    written = {"meddiff": identity, "hyper_parameters": {"preset": "tiny", "wings": 2}}
    torch.save(written | {"state_dict": {}}, tmp_path / "old.ckpt")
    with pytest.raises(CheckpointError, match=r"by meddiff 0\.0\.9, whose .* took wings"):
        meddiff.load(tmp_path / "old.ckpt")


def test_a_checkpoint_names_the_class_and_not_its_file() -> None:
    module = HybridDiffusionModule(preset="tiny", image_size=16)
    assert identity_of(module) == {
        "class_path": "meddiff.HybridDiffusionModule",
        "version": meddiff.__version__,
    }
    # The class of a user may be called like one of ours.
    assert public_name(Frozen) == f"{__name__}.Frozen"


class Frozen(LightningModule):
    """Keeps part of its weights out of its checkpoints, and brings them itself."""

    def __init__(self, strict: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.strict_loading = strict
        self.head = nn.Linear(2, 1)
        self.encoder = nn.Linear(2, 2)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        nn.init.constant_(self.encoder.weight, checkpoint["source"])


def test_a_module_brings_the_weights_that_its_checkpoint_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meddiff, "Frozen", Frozen, raising=False)
    trained = Frozen()
    state = {name: value for name, value in trained.state_dict().items() if "head" in name}
    written = {"meddiff": identity_of(trained), "source": 7.0, "state_dict": state}
    for strict in (False, True):
        hyper_parameters = {"hyper_parameters": {"strict": strict}}
        torch.save(written | hyper_parameters, tmp_path / f"{strict}.ckpt")
    loaded = meddiff.load(tmp_path / "False.ckpt")
    assert isinstance(loaded, Frozen)
    assert torch.equal(loaded.head.weight, trained.head.weight)
    assert loaded.encoder.weight.flatten().tolist() == [7.0] * 4
    assert not loaded.training
    with pytest.raises(CheckpointError, match=r"(?s)True\.ckpt.*Missing key"):
        meddiff.load(tmp_path / "True.ckpt")
