import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule, LightningModule

from data_modules import IXIDataModule, PH2DataModule
from lightning_app.cli import main
from lightning_app.closing import next_command
from tests.lightning_app.conftest import Command
from tests.lightning_app.test_loggers import rows
from tests.lightning_app.toys import ToyDataModule, ToyModule

Runs = Callable[[], list[Path]]
Log = pytest.LogCaptureFixture


@pytest.fixture(autouse=True)
def _listening(caplog: Log) -> None:
    caplog.set_level("INFO")


def test_a_short_fit_ends_with_figures_and_the_next_command(
    toy: Command, toy_runs: Runs, caplog: Log
) -> None:
    every = ["--trainer.log_every_n_steps", "50", "--trainer.val_check_interval", "1000"]
    every += ["--trainer.check_val_every_n_epoch", "null"]
    assert toy("fit", "--trainer.max_steps", "20", *every) == 0
    (run,) = toy_runs()
    trained, validated = rows(run)
    assert (trained["step"], validated["step"]) == ("19", "19")
    assert float(trained["lr"]) == pytest.approx(0.1)
    assert validated["epoch"] == trained["epoch"] == "4"
    loss, best = (
        float(row[key]) for row, key in ((trained, "train/loss"), (validated, "val/loss"))
    )
    path = f"runs/ToyModule/{run.name}"
    told = caplog.messages[-4:]
    assert told == [
        f"ended at step 20: train/loss {loss:.4g}, val/loss {best:.4g}",
        f"best: val/loss {best:.4g} at step 20 ({path}/checkpoints/best.ckpt)",
        f"run directory: {path}",
        f"next: lightning test --ckpt_path {path}",
    ]
    record = json.loads((run / "run.json").read_text())["best"]
    assert record == {"figure": "val/loss", "value": pytest.approx(best), "step": 20}
    assert main(shlex.split(told[-1])[2:]) == 0
    assert [line for line in caplog.messages if line.startswith("step 1 of 20, epoch 1, ")]


def test_without_validation_there_is_no_best_and_the_losses_are_told(
    toy: Command, caplog: Log
) -> None:
    assert toy("fit", "--trainer.max_steps", "3", "--trainer.limit_val_batches", "0") == 0
    assert re.fullmatch(r"ended at step 3: train/loss [\d.e-]+", caplog.messages[-3])
    assert not [line for line in caplog.messages if line.startswith("best:")]


def test_figures_of_an_earlier_step_say_so(toy: Command, caplog: Log) -> None:
    """A run that is out of time does not validate once more."""
    given = ["--trainer.callbacks", "tests.lightning_app.toys.OutOfTime"]
    given += ["--trainer.check_val_every_n_epoch", "2", "--trainer.max_steps", "12"]
    assert toy("fit", *given) == 0
    number = r"[\d.e-]+"
    (told,) = (line for line in caplog.messages if line.startswith("ended at step"))
    pattern = f"ended at step 9: train/loss {number}, at step 8 val/loss {number}"
    assert re.fullmatch(pattern, told)


def test_a_failed_fit_tells_no_end(toy: Command, caplog: Log) -> None:
    assert toy("fit", "--trainer.callbacks", "tests.lightning_app.toys.OutOfMemory") == 2
    assert "next:" not in caplog.text


def test_a_directory_with_a_blank_is_quoted(toy: Command, caplog: Log) -> None:
    assert toy("fit", "--trainer.max_steps", "1", "--run_root", "my runs") == 0
    command = caplog.messages[-1].removeprefix("next: lightning ")
    assert main([*shlex.split(command), "--print_config"]) == 0


def module_with(*methods: str) -> LightningModule:
    """A module that can do what it has a method for."""
    return type("Some", (ToyModule,), dict.fromkeys(methods, lambda self, *args: None))()  # type: ignore[no-any-return]


class Sees:
    """A stand-in for a data module that knows what is ahead."""

    predict_split = "test"

    def __init__(self, truths: set[str], split: str | None) -> None:
        self._ahead = frozenset(truths), split

    def ahead(self) -> tuple[frozenset[str], str | None]:
        return self._ahead


PREDICT = "lightning predict --ckpt_path RUN"


@pytest.mark.parametrize(
    ("methods", "data", "expected"),
    [
        (("segment",), Sees({"mask"}, "test"), "lightning test --ckpt_path RUN"),
        (("segment", "sample"), Sees({"mask"}, "test"), "lightning test --ckpt_path RUN"),
        (("segment",), Sees(set(), "val"), f"{PREDICT} --data.init_args.predict_split val"),
        (("segment",), Sees(set(), "all"), f"{PREDICT} --data.init_args.predict_split all"),
        (("translate",), Sees({"target"}, "test"), "lightning test --ckpt_path RUN"),
        (("translate",), Sees({"mask"}, "test"), PREDICT),
        (("translate",), Sees(set(), None), None),
        (("classify",), Sees({"label"}, "test"), "lightning test --ckpt_path RUN"),
        (
            ("sample",),
            Sees({"mask"}, "test"),
            f"{PREDICT} --data NoiseDataModule --data.init_args.num_samples 16",
        ),
        ((), ToyDataModule(), "lightning test --ckpt_path RUN"),
        ((), LightningDataModule(), None),
        ((), None, None),
    ],
)
def test_what_is_next_is_right_for_module_and_data(
    methods: tuple[str, ...], data: Any, expected: str | None
) -> None:
    assert next_command(module_with(*methods), data, "RUN") == expected


def ahead_of(data: Any) -> tuple[set[str], str | None]:
    data.prepare_data()
    data.setup("fit")
    truths, split = data.ahead()
    return set(truths), split


def test_data_modules_know_what_can_be_tested(phantom_root: Path, tmp_path: Path) -> None:
    images: dict[str, Any] = {"root": str(phantom_root), "image_size": 32, "num_workers": 0}
    twenty = PH2DataModule(num_train_samples=4, **images)
    assert ahead_of(twenty) == ({"mask"}, "test")
    assert ahead_of(PH2DataModule(val_fraction=0.2, **images)) == (set(), "val")
    assert ahead_of(PH2DataModule(val_fraction=0, **images)) == (set(), "all")
    assert ahead_of(IXIDataModule(**images)) == ({"target"}, "test")
    nobody = IXIDataModule(num_test_subjects=0, **images)
    assert ahead_of(nobody) == (set(), "all")


def test_nothing_can_be_translated_without_files_of_the_source(
    phantom_root: Path, tmp_path: Path
) -> None:
    for scan in phantom_root.rglob("*T1*.nii.gz"):
        (tmp_path / scan.name).symlink_to(scan)
    data = IXIDataModule(root=str(tmp_path), image_size=32, num_workers=0)
    assert ahead_of(data) == (set(), None)
