"""LEDM finds its frozen network again, of which a checkpoint holds no absolute path."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from callbacks import AtomicCheckpointIO
from meddiff import LEDMModule, load
from meddiff.core.checkpoint import CheckpointError
from tests.meddiff.baselines.ledm.test_module import Labelled, trainer
from tests.meddiff.hybrid.test_finetune import TINY, pretrained

GIVE = "model.init_args.init_from"


def start_in(folder: Path) -> Path:
    """A pretraining run."""
    (folder / "checkpoints").mkdir(parents=True)
    _, file = pretrained(folder)
    Path(file).rename(folder / "checkpoints" / "last.ckpt")
    return folder


def fit_in(run: Path, start: Path, ckpt_path: Path | None = None, epochs: int = 1) -> Path:
    """A fit of the command: its checkpoint, its config, its way of writing."""
    run.mkdir(parents=True, exist_ok=True)
    module = LEDMModule(**{**TINY, "init_from": str(start)})
    fitting = trainer(run, max_epochs=epochs, plugins=[AtomicCheckpointIO()])
    fitting.fit(module, datamodule=Labelled(), ckpt_path=ckpt_path)
    file = run / "checkpoints" / "last.ckpt"
    fitting.save_checkpoint(file)
    config = {"model": {"init_args": {"init_from": str(start)}}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return file


def test_runs_that_are_moved_together_know_each_other(tmp_path: Path) -> None:
    start = start_in(tmp_path / "smith" / "runs" / "hybrid" / "20260101-120000")
    run = tmp_path / "smith" / "runs" / "ledm" / "20260102-120000"
    file = fit_in(run, start)
    assert b"smith" not in file.read_bytes()
    content = torch.load(file, weights_only=True)
    assert content["hyper_parameters"]["init_from"].startswith("20260101-120000@sha256:")
    assert content["ledm"]["start"] == "<run>/../../hybrid/20260101-120000"
    frozen = load(run)
    assert isinstance(frozen, LEDMModule)
    (tmp_path / "smith").rename(tmp_path / "moved")
    run = tmp_path / "moved" / "runs" / "ledm" / "20260102-120000"
    again = load(run)
    assert isinstance(again, LEDMModule)
    assert all(
        torch.equal(value, frozen.unet.state_dict()[key])
        for key, value in again.unet.state_dict().items()
    )
    # A resumed fit has a config that names what is not there any more.
    file = fit_in(run, start, run / "checkpoints" / "last.ckpt", epochs=2)
    assert torch.load(file, weights_only=True)["ledm"]["start"] == content["ledm"]["start"]
    # Of a run that went alone nothing is left but what is given.
    alone = Path(shutil.move(run, tmp_path / "alone"))
    with pytest.raises(CheckpointError, match=GIVE):
        load(alone)
    given = load(alone, init_from=tmp_path / "moved/runs/hybrid/20260101-120000")
    assert isinstance(given, LEDMModule)


def test_a_start_that_lies_far_away_is_found_by_the_runs_config(tmp_path: Path) -> None:
    start = start_in(tmp_path / "smith" / "20260101-120000")
    run = tmp_path / "runs" / "ledm" / "20260102-120000"
    file = fit_in(run, start)
    assert b"smith" not in file.read_bytes()
    assert torch.load(file, weights_only=True)["ledm"]["start"] is None
    assert isinstance(load(run), LEDMModule)
    copy = Path(shutil.copy(file, tmp_path / "copy.ckpt"))
    with pytest.raises(CheckpointError, match="frozen network") as raised:
        load(copy)
    assert GIVE in str(raised.value)
    assert isinstance(load(copy, init_from=start), LEDMModule)


def test_a_checkpoint_of_an_earlier_version_knows_the_path(tmp_path: Path) -> None:
    start = start_in(tmp_path / "smith" / "20260101-120000")
    file = fit_in(tmp_path / "run", start)
    content = torch.load(file, weights_only=True)
    content["hyper_parameters"]["init_from"] = str(start)
    for key in ("run", "start"):
        del content["ledm"][key]
    torch.save(content, tmp_path / "old.ckpt")
    assert isinstance(load(tmp_path / "old.ckpt"), LEDMModule)
