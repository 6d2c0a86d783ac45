import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from callbacks import (
    BestCheckpoint,
    EarlyStopping,
    EMACallback,
    FinalValidation,
    LastCheckpoint,
    Preemption,
    best_of,
)
from callbacks.checkpoints import Best
from tests.callbacks.test_checkpoints import Saves, Scripted
from tests.callbacks.toys import ToyModule, TwoSteps, assert_same, loader, read, trainer_in

FALLING = {step: 20.0 - step for step in range(21)}
RISING = {step: float(step) for step in range(21)}
BY_BATCHES = {"check_val_every_n_epoch": None}


class StopsAt(Callback):
    """Tells training to stop after a step, in one hook or another."""

    def __init__(self, step: int, hook: str) -> None:
        def stop(trainer: Trainer, *args: Any) -> None:
            trainer.should_stop = trainer.should_stop or trainer.global_step == step

        setattr(self, hook, stop)


def fit(
    root: Path,
    figures: dict[int, float],
    *more: Callback,
    resume: bool = False,
    module: LightningModule | None = None,
    **kwargs: Any,
) -> tuple[Trainer, list[int]]:
    script = Scripted(figures)
    callbacks = [script, EMACallback(0.9), *more, EarlyStopping("val/figure", "min", patience=9)]
    callbacks += [BestCheckpoint("val/figure"), LastCheckpoint(4), FinalValidation()]
    trainer = trainer_in(root, *callbacks, **kwargs)
    last = root / "checkpoints/last.ckpt" if resume else None
    trainer.fit(module or ToyModule(), loader(), loader(4), ckpt_path=last)
    return trainer, script.validated


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "checkpoints").iterdir())


def assert_same_run(left: Path, right: Path) -> None:
    for name in ("best", "last"):
        ours, theirs = (read(root / "checkpoints" / f"{name}.ckpt") for root in (left, right))
        assert ours["global_step"] == theirs["global_step"]
        assert_same(ours["state_dict"], theirs["state_dict"])
        assert_same(ours["current_model_state"], theirs["current_model_state"])
        for callback in ("BestCheckpoint", "EarlyStopping"):
            assert ours["callbacks"][callback] == theirs["callbacks"][callback]
        moments = [run["optimizer_states"][0]["state"][0] for run in (ours, theirs)]
        assert_same(*moments)


# Each ends between two validations; where it ends its figure is the best, or the worst.
ENDS: list[tuple[dict[str, Any], dict[str, Any], int]] = [
    ({"max_steps": 7}, {"max_steps": 12}, 7),
    ({"max_steps": 7, "val_check_interval": 2}, {"max_steps": 12, "val_check_interval": 2}, 7),
    ({"max_steps": 2}, {"max_steps": 12}, 2),
    (
        {"max_steps": 3, "accumulate_grad_batches": 2, "val_check_interval": 4},
        {"max_steps": 8, "accumulate_grad_batches": 2, "val_check_interval": 4},
        3,
    ),
    (
        {"max_steps": 7, "val_check_interval": 5, **BY_BATCHES},
        {"max_steps": 12, "val_check_interval": 5, **BY_BATCHES},
        7,
    ),
    (
        {"max_steps": -1, "max_epochs": 3, "check_val_every_n_epoch": 2},
        {"max_steps": -1, "max_epochs": 5, "check_val_every_n_epoch": 2},
        12,
    ),
]


@pytest.mark.parametrize("figures", [FALLING, RISING], ids=["best", "worst"])
@pytest.mark.parametrize(("short", "long", "end"), ENDS, ids=str)
def test_an_extended_run_is_one_that_was_as_long_from_the_start(
    tmp_path: Path,
    figures: dict[int, float],
    short: dict[str, Any],
    long: dict[str, Any],
    end: int,
) -> None:
    whole, validated = fit(tmp_path / "whole", figures, **long)
    part, first = fit(tmp_path / "part", figures, **short)
    assert first == [step for step in validated if step < end] + [end]
    best = best_of(part)
    assert best is not None
    assert (best.step, best.value) == min(((s, figures[s]) for s in first), key=lambda b: b[1])
    kept = read(tmp_path / "part/checkpoints/best.ckpt")
    assert kept["global_step"] == best.step
    of_itself = {"monitor": "val/figure", "best_model_score": best.value, "step": best.step}
    assert kept["callbacks"]["BestCheckpoint"] == of_itself
    moved = best.step == end and len(first) > 1
    assert names(tmp_path / "part") == ["best.ckpt", *["best_scheduled.ckpt"] * moved, "last.ckpt"]

    extended, second = fit(tmp_path / "part", figures, resume=True, **long)
    assert first[:-1] + second == validated
    assert_same_run(tmp_path / "part", tmp_path / "whole")
    assert best_of(extended) == best_of(whole)
    assert names(tmp_path / "part") == names(tmp_path / "whole")


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_train_epoch_end"])
@pytest.mark.parametrize("figures", [FALLING, RISING], ids=["best", "worst"])
def test_a_run_that_was_told_to_stop_ends_with_figures_and_can_be_extended(
    tmp_path: Path, hook: str, figures: dict[int, float]
) -> None:
    """Lightning itself validates where training stops inside an epoch; that counts no more."""
    stop = 6 if hook == "on_train_batch_end" else 4
    every: dict[str, Any] = {"val_check_interval": 5, **BY_BATCHES}
    _, validated = fit(tmp_path / "whole", figures, **every)
    _, first = fit(tmp_path / "part", figures, StopsAt(stop, hook), **every)
    assert first == [step for step in validated if step < stop] + [stop]
    assert read(tmp_path / "part/checkpoints/last.ckpt")["global_step"] == stop
    _, second = fit(tmp_path / "part", figures, resume=True, **every)
    assert first[:-1] + second == validated
    assert_same_run(tmp_path / "part", tmp_path / "whole")


def test_an_extended_run_that_is_killed_at_once_goes_on_alike(tmp_path: Path) -> None:
    class Dies(Callback):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            raise KeyError("killed")

    fit(tmp_path / "whole", FALLING)
    fit(tmp_path / "part", FALLING, max_steps=7)
    with pytest.raises(KeyError):
        fit(tmp_path / "part", FALLING, Dies(), resume=True)
    fit(tmp_path / "part", FALLING, resume=True)
    assert_same_run(tmp_path / "part", tmp_path / "whole")


def test_a_run_that_validated_last_or_did_nothing_validates_no_more(tmp_path: Path) -> None:
    _, validated = fit(tmp_path, FALLING, max_steps=8)
    assert validated == [4, 8]
    best = read(tmp_path / "checkpoints/best.ckpt")
    _, again = fit(tmp_path, FALLING, resume=True, max_steps=8)
    assert again == []
    assert read(tmp_path / "checkpoints/best.ckpt")["global_step"] == best["global_step"]


def test_early_stopping_does_not_count_it(tmp_path: Path) -> None:
    stops = EarlyStopping("val/figure", "min", patience=2)
    script = Scripted({4: 1.0, 8: 2.0, 11: 3.0})
    trainer = trainer_in(tmp_path, script, stops, LastCheckpoint(), FinalValidation(), max_steps=11)
    trainer.fit(ToyModule(), loader(), loader(4))
    assert script.validated == [4, 8, 11]
    assert stops.wait_count == 1
    assert not trainer.should_stop


def test_last_is_saved_before_it(tmp_path: Path) -> None:
    saves = Saves()
    fit(tmp_path, FALLING, max_steps=7, plugins=[saves])
    expected = [("best.ckpt", 4), ("last.ckpt", 4), ("last.ckpt", 7), ("best.ckpt", 7)]
    assert saves.done == expected


class Signalled(Callback):
    """Gets a signal after the last batch."""

    def on_train_end(self, *args: Any) -> None:
        signal.raise_signal(signal.SIGTERM)


class Fails(Callback):
    def on_train_epoch_end(self, *args: Any) -> None:
        raise KeyError("fails")


@pytest.mark.parametrize(
    "given", [Timer(timedelta(microseconds=1)), Fails()], ids=["max_time", "failed"]
)
def test_a_run_that_is_out_of_time_or_failed_does_not_begin_one(
    tmp_path: Path, given: Callback
) -> None:
    script = Scripted(FALLING)
    trainer = trainer_in(
        tmp_path, script, given, FinalValidation(), check_val_every_n_epoch=5, max_steps=3
    )
    try:
        trainer.fit(ToyModule(), loader(), loader(4))
    except KeyError:
        assert isinstance(given, Fails)
    assert script.validated == []


@pytest.mark.parametrize("end", [7, 8], ids=["inside an epoch", "at the end of one"])
def test_a_run_that_was_signalled_before_it_begins_with_it(tmp_path: Path, end: int) -> None:
    every: dict[str, Any] = {"check_val_every_n_epoch": 5, "max_steps": end}
    fit(tmp_path / "whole", FALLING, **every)
    with pytest.raises(SystemExit) as left:
        fit(tmp_path / "part", FALLING, Signalled(), Preemption(), **every)
    assert left.value.code == 143
    assert names(tmp_path / "part") == ["last.ckpt"]
    resumed, validated = fit(tmp_path / "part", FALLING, resume=True, **every)
    assert validated == [end]
    assert_same_run(tmp_path / "part", tmp_path / "whole")
    assert best_of(resumed) == Best("val/figure", FALLING[end], end)


@pytest.mark.parametrize("kwargs", [{"limit_val_batches": 0}, {"fast_dev_run": 2}, {}], ids=str)
def test_nothing_is_validated_without_a_validation_set(
    tmp_path: Path, kwargs: dict[str, Any]
) -> None:
    script = Scripted(dict.fromkeys(range(9), 1.0))
    trainer = trainer_in(tmp_path, script, FinalValidation(), **({"max_steps": 3} | kwargs))
    validation: Any = [] if not kwargs else loader(4)
    trainer.fit(ToyModule(), loader(), validation)
    # A fast_dev_run validates by itself.
    assert script.validated == ([2] if "fast_dev_run" in kwargs else [])


class Draws(ToyModule):
    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        assert not self.training
        torch.rand(3)
        super().validation_step(batch, batch_idx)


class KeepsState(Callback):
    state = torch.empty(0)

    def on_train_end(self, *args: Any) -> None:
        self.state = torch.get_rng_state()


def test_it_measures_the_average_and_draws_no_random_number_of_the_run(tmp_path: Path) -> None:
    keeps, module = KeepsState(), Draws()
    trainer, _ = fit(tmp_path, FALLING, keeps, module=module, max_steps=6)
    assert torch.equal(keeps.state, torch.get_rng_state())
    assert module.training
    averaged = ToyModule()
    last = read(tmp_path / "checkpoints/last.ckpt")
    averaged.load_state_dict(last["state_dict"])
    with torch.no_grad():
        losses = [(averaged.net(batch["image"]) - 1).square().mean() for batch in loader(4)]
    assert trainer.callback_metrics["val/loss"] == pytest.approx(float(sum(losses)) / 2, rel=1e-6)
    assert_same(last["current_model_state"], {k: v.cpu() for k, v in module.state_dict().items()})


def test_a_module_that_takes_its_steps_itself(tmp_path: Path) -> None:
    class Odd(TwoSteps):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.net.parameters(), lr=0.0)

    script = Scripted(RISING)
    trainer = trainer_in(tmp_path, script, LastCheckpoint(), FinalValidation(), max_steps=6)
    trainer.fit(Odd(), loader(), loader(4))
    assert script.validated == [6]


def test_a_missing_figure_does_not_fail_a_run_that_has_ended(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, BestCheckpoint("val/none"), FinalValidation(), max_steps=2)
    trainer.fit(ToyModule(), loader(), loader(4))
    assert best_of(trainer) is None


def test_two_processes_end_alike(tmp_path: Path) -> None:
    class End(Callback):
        def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            best = best_of(trainer)
            assert best is not None
            assert best.step == 3

    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    given: dict[str, Any] = {"devices": 2, "strategy": strategy}
    fit(tmp_path, FALLING, End(), max_steps=3, **given)  # an epoch has 2 batches a process
    assert names(tmp_path) == ["best.ckpt", "best_scheduled.ckpt", "last.ckpt"]
    assert read(tmp_path / "checkpoints/best.ckpt")["global_step"] == 3
