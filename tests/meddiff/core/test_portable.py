"""What checkpoints hold of the machine that wrote them: names, and paths from their run."""

import hashlib
import os
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule

import meddiff
from callbacks import AtomicCheckpointIO
from meddiff.core.checkpoint import CheckpointError, find_checkpoint, read_checkpoint
from meddiff.core.portable import from_run, is_name, name_of, start_in_config, without_paths
from meddiff.core.start import StartsFrom

HASH = hashlib.sha256(b"weights").hexdigest()[:16]


def run_with(folder: Path, content: Any = b"weights") -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").write_bytes(content)
    return folder


def test_a_name_is_that_of_the_run_or_file_and_of_its_content(tmp_path: Path) -> None:
    run = run_with(tmp_path / "smith" / "20260101-120000")
    name = name_of(run / "checkpoints" / "last.ckpt")
    assert name == f"20260101-120000@sha256:{HASH}"
    (tmp_path / "link").symlink_to(run)
    assert name_of(tmp_path / "link" / "checkpoints" / "last.ckpt") == name
    file = tmp_path / "adm.pt"
    file.write_bytes(b"weights")
    assert name_of(file) == f"adm.pt@sha256:{HASH}"
    file.write_bytes(b"other weights")
    assert name_of(file) != f"adm.pt@sha256:{HASH}"
    assert is_name(name)
    assert not is_name(str(run))
    with pytest.raises(CheckpointError, match="name that a checkpoint keeps of its start"):
        find_checkpoint(name)


def test_paths_of_the_run_move_with_it_and_others_are_left_behind(tmp_path: Path) -> None:
    run = tmp_path / "smith" / "run"
    weights = torch.zeros(2)
    state = {"w": weights}
    content = {
        "state_dict": state,
        "callbacks": {
            "ModelCheckpoint": {
                "dirpath": str(run / "checkpoints"),
                "best_model_path": str(run / "checkpoints" / "best.ckpt"),
                "best_k_models": {str(run / "checkpoints" / "best.ckpt"): weights},
            }
        },
        "hyper_parameters": {
            **{"atlas": str(tmp_path / "smith" / "atlas.nii"), "widths": [1, 2], "name": "x/y"},
            **{"table": Path("/data/smith/t.csv"), "lists": ["/data/smith/a.txt"], "home": "~/a/b"},
        },
        "datamodule_hyper_parameters": {"root": "smith"},
        "datamodule_hparams_name": "smith",
        "loops": {"position": (1, 2)},
    }
    io = AtomicCheckpointIO()
    io.save_checkpoint(content, run / "checkpoints" / "last.ckpt")
    raw = (run / "checkpoints" / "last.ckpt").read_bytes()
    assert b"smith" not in raw
    assert str(tmp_path).encode() not in raw
    moved = tmp_path / "elsewhere" / "run"
    moved.parent.mkdir()
    run.rename(moved)
    for read in (
        io.load_checkpoint(moved / "checkpoints" / "last.ckpt", weights_only=True),
        read_checkpoint(moved / "checkpoints" / "last.ckpt"),
    ):
        best = str(moved / "checkpoints" / "best.ckpt")
        kept = read["callbacks"]["ModelCheckpoint"]
        assert kept["dirpath"] == str(moved / "checkpoints")
        assert kept["best_model_path"] == best
        assert list(kept["best_k_models"]) == [best]
        assert read["hyper_parameters"] == {
            **{"atlas": "atlas.nii", "widths": [1, 2], "name": "x/y", "table": "t.csv"},
            **{"lists": ["a.txt"], "home": "b"},
        }
        assert read["loops"] == {"position": (1, 2)}
        assert "datamodule_hparams_name" not in read


def test_what_holds_no_path_is_saved_as_it_is(tmp_path: Path) -> None:
    content = {"state_dict": {"w": torch.zeros(1)}, "callbacks": {"X": {"monitor": "val/loss"}}}
    kept = without_paths(content, tmp_path / "last.ckpt")
    assert all(kept[key] is content[key] for key in content)


def test_starts_of_any_module_become_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of one that is not ours, and where a path is relative."""
    monkeypatch.chdir(tmp_path)
    run_with(tmp_path / "smith" / "20260101-120000")
    arguments = {
        **{"init_from": "smith/20260101-120000", "judge_from": "smith/gone", "mask_from": "joint"},
        "teacher_from": str(tmp_path / "smith" / "20260101-120000"),
        "folder": "smith/20260101-120000",
    }
    kept = without_paths({"hyper_parameters": arguments}, tmp_path / "r" / "last.ckpt")
    name = f"20260101-120000@sha256:{HASH}"
    assert kept["hyper_parameters"] == {
        **{"init_from": name, "judge_from": "gone", "mask_from": "joint"},
        **{"teacher_from": name, "folder": "20260101-120000"},
    }
    again = without_paths(kept, tmp_path / "r" / "last.ckpt")
    assert again["hyper_parameters"] == kept["hyper_parameters"]


@pytest.mark.parametrize(
    ("start", "seen"),
    [
        ("runs/a/1", "<run>/../../a/1"),
        ("runs/b/1/checkpoints/last.ckpt", "<run>/../1/checkpoints/last.ckpt"),
        ("weights/smith/adm.pt", None),
    ],
)
def test_what_lies_beyond_the_runs_is_not_told_by_its_path(
    tmp_path: Path, start: str, seen: str | None
) -> None:
    assert from_run(tmp_path / start, tmp_path / "runs" / "b" / "2") == seen


def test_a_config_of_the_run_tells_where_its_start_was(tmp_path: Path) -> None:
    for number, (name, start) in enumerate((("config", "old"), ("config.2", "new"))):
        file = tmp_path / f"{name}.yaml"
        file.write_text(f"model: {{init_args: {{init_from: {start}}}}}\n")
        os.utime(file, (number, number))
    (tmp_path / "config.3.yaml").write_text("model: [")
    (tmp_path / "config.4.yaml").write_text("")
    assert list(start_in_config(tmp_path, "init_from")) == [Path("new"), Path("old")]


def test_every_argument_that_names_weights_is_known_as_such() -> None:
    kinds = [
        kind
        for kind in vars(meddiff).values()
        if isinstance(kind, type) and issubclass(kind, LightningModule)
    ]
    assert any(issubclass(kind, StartsFrom) for kind in kinds)
    for kind in kinds:
        parser = ArgumentParser()
        parser.add_class_arguments(kind, "of", fail_untyped=False)
        paths = {
            action.dest.removeprefix("of.")
            for action in parser._actions
            if action.dest.endswith(("_from", "_weights"))
            and str in (*get_args(getattr(action, "_typehint", None)), action.type)
        }
        assert paths == set(getattr(kind, "starts", ())), kind
