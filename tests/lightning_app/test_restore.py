import copy
import inspect
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningCLI

from lightning_app.cli import MedDiffCLI, main
from lightning_app.errors import UsageError
from lightning_app.restore import check_arguments, remembered_config
from tests.lightning_app.conftest import Command
from tests.lightning_app.toys import HERE, Rates

Runs = Callable[[], list[Path]]
Captured = pytest.CaptureFixture[str]
RATES = ["--trainer.callbacks", f"{HERE}.Rates"]


@pytest.fixture(autouse=True)
def _no_rates() -> Iterator[None]:
    Rates.seen = []
    yield
    Rates.seen = []


@dataclass
class Site:
    """A type of a user's own."""

    beds: int


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize("value", [Site(3), Colour.RED, [Site(3)], {"a": Colour.RED}, print])
def test_a_fit_whose_checkpoints_could_not_be_read_is_refused(value: Any) -> None:
    module = LightningModule()
    module.save_hyperparameters({"width": 3, "odd": value})
    with pytest.raises(UsageError, match=r"^model\.init_args\.odd: .*cannot hold") as caught:
        check_arguments(module)
    assert "self.save_hyperparameters(ignore=['odd'])" in str(caught.value)


def test_plain_arguments_of_a_users_module_are_kept() -> None:
    module = LightningModule()
    plain = {"a": None, "b": [1, (2.5, "x")], "c": {"d": True}, "e": Path("x"), "f": torch.zeros(2)}
    module.save_hyperparameters(plain)
    check_arguments(module)


def test_the_private_method_that_is_replaced_is_still_called() -> None:
    assert "self._parse_ckpt_path()" in inspect.getsource(LightningCLI.__init__)
    assert "_parse_ckpt_path" in vars(MedDiffCLI)


@pytest.mark.parametrize(("schedule", "divisors"), [("false", (1, 1)), ("true", (3, 4))])
def test_a_given_learning_rate_beats_the_checkpoint(
    schedule: str, divisors: tuple[int, int], toy: Command, toy_runs: Runs
) -> None:
    fixed = ["--model.init_args.schedule", schedule, *RATES]
    assert toy("fit", "--trainer.max_steps", "2", *fixed) == 0
    (run,) = toy_runs()
    Rates.seen = []
    given = ["--ckpt_path", str(run), "--model.init_args.learning_rate", "0.6"]
    assert toy("fit", "--trainer.max_steps", "4", *fixed, *given) == 0
    assert Rates.seen == pytest.approx([0.6 / divisor for divisor in divisors])


def test_what_was_not_given_comes_from_the_checkpoint(toy: Command, toy_runs: Runs) -> None:
    made = ["--model.init_args.learning_rate", "0.7", "--model.init_args.width", "2"]
    made += ["--data.init_args.image_size", "32", "--seed_everything", "5"]
    assert toy("fit", "--trainer.max_steps", "2", *made) == 0
    last = toy_runs()[0] / "checkpoints" / "last.ckpt"
    assert toy("fit", "--trainer.max_steps", "3", "--ckpt_path", str(last)) == 0
    hparams = torch.load(toy_runs()[1] / "checkpoints" / "last.ckpt")["hyper_parameters"]
    assert hparams["learning_rate"] == 0.7
    assert (hparams["width"], hparams["image_size"], hparams["seed"]) == (2, 32, 5)


def test_another_preset_forgets_what_the_old_one_stood_for() -> None:
    checkpoint = {"hyper_parameters": {"preset": "small", "width": 3, "unknown": 1}}
    accepted = {"preset", "width"}
    kept = {"class_path": "M", "init_args": {"preset": "small", "width": 3}}
    assert remembered_config(checkpoint, "M", accepted, None) == kept
    assert remembered_config(checkpoint, "M", accepted, "small") == kept
    assert remembered_config(checkpoint, "M", accepted, "paper") == {}


def test_a_run_directory_alone_is_enough_to_test(toy: Command, toy_runs: Runs) -> None:
    assert toy("fit", "--trainer.max_steps", "2", "--model.init_args.width", "2") == 0
    assert main(["test", "--ckpt_path", str(toy_runs()[0])]) == 0
    tested = toy_runs()[1]
    assert "test/loss" in (tested / "metrics.csv").read_text()


def test_another_shape_is_told_before_the_run(
    toy: Command, toy_runs: Runs, capsys: Captured
) -> None:
    assert toy("fit", "--trainer.max_steps", "2") == 0
    (run,) = toy_runs()
    assert toy("test", "--ckpt_path", str(run), "--model.init_args.width", "2") == 2
    error = capsys.readouterr().err
    assert "layer.weight is (1, 3) there and (1, 2) here" in error
    assert "width 3 there, 2 here" in error
    assert toy_runs() == [run]


def test_a_hostile_pickle_is_refused(toy: Command, tmp_path: Path, capsys: Captured) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "touched",))

    path = tmp_path / "bad.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": Hostile()}))
    assert toy("fit", "--ckpt_path", str(path)) == 2
    assert "bad.ckpt: refused" in capsys.readouterr().err
    assert not (tmp_path / "touched").exists()


def test_a_checkpoint_of_another_method_is_named(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "other.ckpt"
    torch.save({"meddiff": {"class_path": "meddiff.LMIModule"}, "state_dict": {}}, path)
    given = ["--config", "configs/hybrid_isic.yaml", "--ckpt_path", str(path)]
    assert main(["fit", *given]) == 2
    error = capsys.readouterr().err
    assert "LMIModule" in error
    assert "HybridDiffusionModule" in error


def test_ckpt_path_and_resume_exclude_each_other(
    toy: Command, toy_runs: Runs, capsys: Captured
) -> None:
    assert toy("fit", "--trainer.max_steps", "1") == 0
    assert toy("fit", "--ckpt_path", str(toy_runs()[0]), "--resume", "auto") == 2
    assert "give one of them" in capsys.readouterr().err


def _edited(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of a checkpoint with another value somewhere; None takes it out."""
    edited = copy.deepcopy(content)
    place = edited
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return edited


_PROGRESS = "epoch_loop.automatic_optimization.optim_progress"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("state_dict",), None, "it lacks state_dict"),
        (("optimizer_states",), None, "it lacks optimizer_states"),
        (("global_step",), "x", "its global_step is a str"),
        (("loops", "fit_loop", "epoch_progress"), None, "its loops lack fit_loop.epoch_progress"),
        (("loops", "fit_loop", _PROGRESS, "optimizer", "step", "total", "ready"), "x", "ready"),
        (("optimizer_states", 0, "param_groups"), [], "cannot be restored"),
        (("lr_schedulers", 0), 7, "cannot be restored"),
        (("callbacks", "BestCheckpoint"), 7, "cannot be restored"),
    ],
)
def test_a_checkpoint_with_an_odd_part_is_a_short_error(
    toy: Command,
    toy_runs: Runs,
    tmp_path: Path,
    capsys: Captured,
    path: tuple[Any, ...],
    value: Any,
    words: str,
) -> None:
    schedule = ("--model.init_args.schedule", "true")
    assert toy("fit", *schedule, "--trainer.max_steps", "1") == 0
    content = torch.load(toy_runs()[0] / "checkpoints" / "last.ckpt")
    file = tmp_path / "odd.ckpt"
    torch.save(_edited(content, path, value), file)
    assert toy("fit", *schedule, "--trainer.max_steps", "2", "--ckpt_path", str(file)) == 2
    error = capsys.readouterr().err.split("error: ")[1]
    assert "odd.ckpt: " in error
    assert words in error
    assert len(error.splitlines()) <= 3
