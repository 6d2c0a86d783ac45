import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule

from data_modules import ISICDataModule
from lightning_app.cli import main
from lightning_app.resolved import (
    Used,
    annotated,
    as_used,
    optimizer_values,
    used_for_nulls,
    with_values,
)
from lightning_app.trainer_settings import DEFAULTS, defaults_for
from meddiff import HybridDiffusionModule, HybridFinetuneModule, LEDMModule, SegmentationModule
from meddiff.hybrid.presets import PRESETS
from tests.lightning_app.conftest import Command

Runs = Callable[[], list[Path]]
Captured = pytest.CaptureFixture[str]


def printed(capsys: Captured, subcommand: str, *args: str) -> str:
    assert main([subcommand, *args, "--print_config"]) == 0
    return capsys.readouterr().out


def lines_of(text: str, section: str) -> list[str]:
    """The lines with a comment of a section of a config."""
    inside, found = False, []
    for line in text.splitlines():
        inside = line == f"{section}:" or (inside and line.startswith(" "))
        if inside and "#" in line:
            found.append(line.strip())
    return found


def test_a_printed_config_says_what_its_nulls_stand_for(capsys: Captured, tmp_path: Path) -> None:
    given = ["--config", "hybrid_isic", "--config", "hardware/cpu.yaml"]
    given += ["--model.init_args.dropout", "0.2"]
    text = printed(capsys, "fit", *given)
    model = lines_of(text, "model")
    small = {key: value for key, value in PRESETS["small"].items() if key != "dropout"}
    assert sorted(model) == sorted(
        f"{key}: null  # preset small: {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in small.items()
    )
    assert lines_of(text, "data")[:1] == ["root: null  # default: data/isic"]
    assert "max_epochs: null  # default: -1" in lines_of(text, "trainer")
    # Comments change nothing: it reads back to itself, by each subcommand, and a preset laid over
    # it is not beaten by the values that it tells.
    (tmp_path / "c.yaml").write_text(text)
    for subcommand in ("fit", "validate", "test", "predict"):
        assert printed(capsys, subcommand, "--config", str(tmp_path / "c.yaml")) == text
    tiny = ["--config", str(tmp_path / "c.yaml"), "--model.init_args.preset", "tiny"]
    over = lines_of(printed(capsys, "fit", *tiny), "model")
    assert f"mask_weight: null  # preset tiny: {PRESETS['tiny']['mask_weight']}" in over
    assert len(over) == len(small)


def test_only_what_differs_is_printed_with_its_comment(capsys: Captured) -> None:
    given = ["--config", "segmentation_ph2", "--print_config=skip_default"]
    assert main(["fit", *given]) == 0
    content = yaml.safe_load(capsys.readouterr().out)
    assert content["model"]["class_path"] == "meddiff.SegmentationModule"


ARGUMENTS: list[tuple[type[LightningModule], dict[str, Any]]] = [
    (HybridDiffusionModule, {}),
    (HybridFinetuneModule, {"recipe": "pretrain"}),
    (HybridFinetuneModule, {"recipe": "finetune", "dropout": 0.5}),
    (SegmentationModule, {"architecture": "segformer"}),
    (LEDMModule, {}),
    (LEDMModule, {"min_class_pixels": 7}),
]


@pytest.mark.parametrize(("kind", "given"), ARGUMENTS)
def test_the_class_tells_what_its_module_takes(
    kind: type[LightningModule], given: dict[str, Any]
) -> None:
    module = kind(preset="tiny", image_size=64, num_classes=2, **given)
    names = [name for name in module.hparams if not name.startswith("_")]
    config = {
        "model": {"init_args": dict.fromkeys(names) | {"preset": "tiny"} | given},
        "data": {"init_args": {"image_size": 64}},
        "trainer": {},
    }
    config["model"]["init_args"].setdefault("recipe", "finetune")
    config["model"]["init_args"].setdefault("architecture", "deeplabv3")
    used = used_for_nulls(config, {"model": kind, "data": None})
    told = {key.rpartition(".")[2]: item.value for key, item in used.items()}
    assert told, "a preset fills something"
    assert {key: module.hparams[key] for key in told} == told
    assert not told.keys() & given.keys()
    assert dict(module.hparams_initial) == dict(module.hparams), "loggers get what is used"


def test_what_the_trainer_takes_for_a_null() -> None:
    assert defaults_for({"precision": None, "max_steps": 5, "max_epochs": None}) == {
        "precision": "32-true",
        "max_epochs": -1,
    }
    assert defaults_for({"max_epochs": None, "max_steps": -1}) == {"max_epochs": 1000}
    assert defaults_for({"max_epochs": None, "max_time": "00:01:00:00"}) == {"max_epochs": -1}
    assert defaults_for({"precision": "bf16-mixed", "max_epochs": 3}) == {}
    assert defaults_for({"max_epochs": None, "fast_dev_run": True}) == {}


def test_the_defaults_are_those_of_lightning() -> None:
    from lightning.pytorch import Trainer

    trainer = Trainer(accelerator="cpu", logger=False, max_steps=1)
    for key, value in DEFAULTS.items():
        if hasattr(trainer, key):
            assert getattr(trainer, key) == value, key
    assert trainer.log_every_n_steps == DEFAULTS["log_every_n_steps"]  # type: ignore[attr-defined]
    assert trainer.progress_bar_callback is not None
    assert trainer.checkpoint_callback is not None


def test_comments_stand_behind_scalars_alone() -> None:
    text = "a:\n  b: null\n  c: 3\n  d:\n  - 1\ne: 'x: y'\n"
    used = {"a.b": Used([1, 2], "preset small"), "a.d": Used(1, "default"), "e": Used("z", "used")}
    expected = "a:\n  b: null  # preset small: [1, 2]\n  c: 3\n  d:\n  - 1\ne: 'x: y'  # used: z\n"
    assert annotated(text, used) == expected
    assert yaml.safe_load(expected) == yaml.safe_load(text)
    lines = annotated("a: null\n", {"a": Used("x\ny: 3", "default")})
    assert yaml.safe_load(lines) == {"a": None}
    assert with_values({"a": {"b": None}}, used) == {"a": {"b": [1, 2]}}


def test_a_users_module_tells_by_its_hyper_parameters() -> None:
    class Mine(LightningModule):
        def __init__(self, width: int | None = None, depth: int | None = None) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.hparams["width"] = 64

    text = (
        "model:\n  init_args:\n    width: null\n    depth: null\ntrainer:\n  precision: 16-mixed\n"
    )
    fitted = {"precision": "32-true", "val_check_interval": None}
    annotated_text, values = as_used(text, Mine(), LightningDataModule(), fitted)
    assert "    width: null  # default: 64\n    depth: null\n" in annotated_text
    assert "precision: 16-mixed  # used: 32-true" in annotated_text
    assert values["model"]["init_args"] == {"width": 64, "depth": None}
    assert values["trainer"]["precision"] == "32-true"


def test_what_an_optimiser_is_set_to() -> None:
    one, other = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    adam = torch.optim.AdamW([one], lr=0.5)
    torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 0.1)
    values = optimizer_values(adam)
    assert values["class"] == "AdamW"
    assert (values["lr"], list(values["betas"]), values["eps"]) == (0.5, [0.9, 0.999], 1e-8)
    assert "params" not in values
    groups: list[dict[str, Any]] = [{"params": [one], "lr": 0.25}, {"params": [other]}]
    values = optimizer_values(torch.optim.SGD(groups, lr=0.5))
    assert [group["lr"] for group in values["groups"]] == [0.25, 0.5]
    json.dumps(values)


def test_run_json_and_tensorboard_hold_values(toy: Command, toy_runs: Runs) -> None:
    given = ["--trainer.precision", "16-mixed", "--tensorboard.enabled", "true"]
    assert toy("fit", "--trainer.max_steps", "2", *given) == 0
    (run,) = toy_runs()
    text = (run / "config.yaml").read_text()
    assert "precision: 16-mixed  # used: 32-true" in text
    record = json.loads((run / "run.json").read_text())
    resolved = record["resolved"]
    assert resolved["trainer"]["precision"] == "32-true"
    assert resolved["trainer"]["limit_val_batches"] == 1.0
    assert (resolved["trainer"]["accelerator"], resolved["trainer"]["devices"]) == ("cpu", 1)
    assert resolved["trainer"]["max_epochs"] == -1
    assert resolved["model"]["init_args"]["image_size"] == 16, "which the data has"
    assert resolved["optimizers"][0]["class"] == "SGD"
    assert resolved["optimizers"][0]["momentum"] == 0
    sent = yaml.safe_load((run / "tensorboard" / "hparams.yaml").read_text())
    assert sent["config"]["trainer"]["precision"] == "32-true"
    events = b"".join(path.read_bytes() for path in (run / "tensorboard").glob("events*"))
    assert b"optimizers/0/momentum" in events
    assert toy("fit", "--trainer.max_steps", "3", *given, "--resume", "auto") == 0
    record = json.loads((run / "run.json").read_text())
    assert record["resolved"]["trainer"]["max_steps"] == 3
    assert "resolved" not in record["earlier_launches"][0], "its config file holds it"


def test_the_best_figure_is_recorded(toy: Command, toy_runs: Runs) -> None:
    steps = ["--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval", "1"]
    assert toy("fit", "--trainer.max_steps", "2", *steps) == 0
    assert toy("fit", "--trainer.max_steps", "2", "--trainer.limit_val_batches", "0") == 0
    first, second = (json.loads((run / "run.json").read_text()) for run in toy_runs())
    saved = torch.load(toy_runs()[0] / "checkpoints" / "best.ckpt")
    score = saved["callbacks"]["BestCheckpoint"]["best_model_score"]
    assert first["best"] == {
        "figure": "val/loss",
        "value": pytest.approx(float(score)),
        "step": saved["global_step"],
    }
    assert second["best"] is None


def test_a_data_set_has_its_own_place() -> None:
    assert ISICDataModule().root == Path("data/isic")
    used = used_for_nulls({"data": {"init_args": {"root": "elsewhere"}}}, {"data": ISICDataModule})
    assert used == {}


class Silent(LightningModule):
    """Has a test and a validation, and logs nothing in either."""

    def __init__(self, sees: bool = False, image_size: int = 8, seed: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, 1)

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        if self.hparams["sees"]:
            self.log("test/mean", batch.mean())

    validation_step = test_step


@pytest.mark.parametrize("subcommand", ["test", "validate"])
def test_a_test_that_measures_nothing_is_an_error(
    subcommand: str, toy: Command, tmp_path: Path, capsys: Captured
) -> None:
    module = ["--model", f"{__name__}.Silent"]
    assert toy(subcommand, *module) == 2
    error = capsys.readouterr().err
    assert f"{subcommand}: nothing was measured. Silent" in error
    assert ("`lightning validate` gives" in error) == (subcommand == "test")
    assert not list(tmp_path.rglob("run.json"))
    if subcommand == "test":
        assert toy(subcommand, *module, "--model.init_args.sees", "true") == 0
        assert toy(subcommand, *module, "--trainer.limit_test_batches", "0") == 0
