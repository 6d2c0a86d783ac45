import csv
import errno
import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
import wandb
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger

from callbacks.publishing import publish
from lightning_app.loggers import RunCSVLogger
from lightning_app.redaction import Redaction
from lightning_app.senders import RunWandbLogger, guarded
from tests.lightning_app.conftest import Command


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_columns_may_grow_and_rows_are_there_at_once(tmp_path: Path) -> None:
    logger = RunCSVLogger(tmp_path)
    logger.log_metrics({"train/loss": 1.5}, step=0)
    assert rows(tmp_path) == [{"train/loss": "1.5", "step": "0"}]
    logger.log_metrics({"val/loss": 2.5}, step=0)
    assert rows(tmp_path)[0] == {"train/loss": "1.5", "step": "0", "val/loss": ""}
    assert rows(tmp_path)[1] == {"train/loss": "", "step": "0", "val/loss": "2.5"}


def test_a_resumed_run_keeps_the_earlier_rows(tmp_path: Path) -> None:
    first = RunCSVLogger(tmp_path)
    for step in range(6):
        first.log_metrics({"train/loss": float(step)}, step=step)
    second = RunCSVLogger(tmp_path)
    second.continue_behind(4)
    second.log_metrics({"train/loss": 40.0, "new": 1.0}, step=4)
    assert [(row["step"], row["train/loss"]) for row in rows(tmp_path)] == [
        *(("0", "0.0"), ("1", "1.0"), ("2", "2.0"), ("3", "3.0")),
        ("4", "40.0"),
    ]


def test_a_row_cut_short_by_a_crash_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("train/loss,step\n0.5,0\n0.2")
    logger = RunCSVLogger(tmp_path)
    logger.continue_behind(5)
    logger.log_metrics({"train/loss": 0.1}, step=1)
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1"]


@pytest.mark.parametrize("left", ["", "train/l", "train/loss,step"])
def test_a_header_cut_short_is_written_anew(left: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(left)
    RunCSVLogger(tmp_path).log_metrics({"val/loss": 0.5}, step=3)
    assert rows(tmp_path) == [{"val/loss": "0.5", "step": "3"}]


def test_a_row_that_was_not_written_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = RunCSVLogger(tmp_path)
    logger.log_metrics({"loss": 0.5}, step=0)

    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("lightning_app.loggers.append_lines", full)
    with pytest.raises(OSError, match="No space left"):
        logger.log_metrics({"loss": 0.4}, step=1)
    logger.finalize("failed")
    assert rows(tmp_path) == [{"loss": "0.5", "step": "0"}]


def test_tensorboard_gets_the_config_without_paths(toy: Command, tmp_path: Path) -> None:
    secret = tmp_path / "patient-doe"
    given = ["--tensorboard.enabled", "true", "--data.init_args.root", str(secret)]
    assert toy("fit", "--trainer.max_steps", "2", *given) == 0
    (run,) = (tmp_path / "runs" / "ToyModule").iterdir()
    files = [path for path in (run / "tensorboard").rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    assert b"train/loss" in content
    assert b"learning_rate" in content
    assert b"patient-doe" not in content


@pytest.mark.slow
def test_wandb_gets_the_config_without_paths_and_one_id(
    toy: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    secret = tmp_path / "patient-doe"
    given = ["--wandb.enabled", "true", "--wandb.offline", "true"]
    given += ["--data.init_args.root", str(secret), "--model.init_args.init_from", str(secret)]
    assert toy("fit", "--trainer.max_steps", "2", *given) == 0
    assert toy("fit", "--trainer.max_steps", "4", "--resume", "auto", *given) == 0
    wandb.teardown()  # its process may still be writing
    (run,) = (tmp_path / "runs" / "ToyModule").iterdir()
    identity = json.loads((run / "run.json").read_text())["wandb_id"]
    files = [path for path in (run / "wandb").rglob("*.wandb") if not path.is_symlink()]
    assert len(files) == 2
    for path in files:
        assert path.name == f"run-{identity}.wandb"
        content = path.read_bytes()
        assert b"learning_rate" in content
        assert b"last.every_n_steps" in content or b"every_n_steps" in content
        assert b"patient-doe" not in content
        assert str(tmp_path).encode() not in content


@pytest.mark.parametrize("pictures", [True, False])
def test_one_switch_keeps_pictures_from_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: bool
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(WandbLogger, "log_image", lambda self, key, images, **_: sent.append(key))
    logger = RunWandbLogger(pictures, save_dir=tmp_path, offline=True)
    trainer = SimpleNamespace(is_global_zero=True, loggers=[logger], default_root_dir=str(tmp_path))
    publish(cast(Trainer, trainer), "samples", torch.zeros(3, 4, 4, dtype=torch.uint8), step=2)
    assert sent == (["samples"] if pictures else [])
    assert (tmp_path / "samples" / "step-00000002.png").is_file()


def test_paths_of_a_users_own_checkpoints_move_with_the_run(toy: Command, tmp_path: Path) -> None:
    own = '[{"class_path": "ModelCheckpoint", "init_args": {"monitor": "val/loss"}}]'
    given = ["--trainer.callbacks", own]
    assert toy("fit", "--trainer.max_steps", "4", *given) == 0
    (run,) = (tmp_path / "runs" / "ToyModule").iterdir()
    moved = run.rename(run.with_name("20260101-120000"))
    raw = torch.load(moved / "checkpoints" / "last.ckpt", weights_only=True)
    (key,) = [key for key in raw["callbacks"] if key.startswith("ModelCheckpoint")]
    assert raw["callbacks"][key]["dirpath"].startswith("<run>/")
    with warnings.catch_warnings():
        # Else Lightning forgets which one was the best.
        warnings.filterwarnings("error", message="The dirpath has changed")
        assert toy("fit", "--trainer.max_steps", "8", "--resume", str(moved), *given) == 0


def test_a_users_own_wandb_logger_tells_no_more_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lightning", "fit", "--config", "patient-doe.yaml"])
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    guarded(logger, Redaction(ArgumentParser(), ()))
    logger.experiment.log({"loss": 0.5})
    print("printed-doe")
    logger.experiment.finish()
    wandb.teardown()  # its process may still be writing
    (record,) = [path for path in tmp_path.rglob("*.wandb") if "latest" not in str(path)]
    assert b"loss" in record.read_bytes()
    files = [path for path in record.parent.rglob("*") if path.is_file() and path.suffix != ".log"]
    held = b"".join(path.read_bytes() for path in [*files, *record.parent.rglob("output.log")])
    for word in ("patient-doe", "printed-doe", str(tmp_path), sys.executable):
        assert word.encode() not in held


def test_a_setting_of_wandb_that_a_user_gives_is_kept(tmp_path: Path) -> None:
    logger = WandbLogger(save_dir=tmp_path, offline=True, settings={"console": "wrap"})
    guarded(logger, Redaction(ArgumentParser(), ()))
    settings = logger._wandb_init["settings"]
    assert (settings["console"], settings["x_disable_meta"]) == ("wrap", True)
