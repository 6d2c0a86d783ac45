from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy

from callbacks import BestCheckpoint, EarlyStopping, LastCheckpoint
from tests.callbacks.toys import ToyModule, assert_same, loader, read, trainer_in, weights_of


class Figures(Callback):
    """Logs one figure a validation, and counts them by step."""

    def __init__(self, *figures: float, name: str = "val/figure") -> None:
        self.figures = figures
        self.name = name
        self.steps: list[int] = []

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            number = trainer.global_step // 4 - 1  # an epoch has 4 batches
            self.steps.append(trainer.global_step)
            pl_module.log(self.name, self.figures[number])


def fit(
    root: Path, figures: Figures, *callbacks: Callback, resume: Path | None = None, **kwargs: Any
) -> ToyModule:
    module = ToyModule()
    trainer = trainer_in(root, figures, *callbacks, **({"max_steps": 32} | kwargs))
    trainer.fit(module, loader(), loader(4), ckpt_path=resume)
    return module


def stopping(patience: int | None, **kwargs: Any) -> EarlyStopping:
    return EarlyStopping("val/figure", patience=patience, **kwargs)


RISING_ONCE = (0.1, 0.5, 0.4, 0.5, 0.3, 0.6, 0.7, 0.8)


@pytest.mark.parametrize(
    ("patience", "figures", "kwargs", "validations"),
    [
        (None, RISING_ONCE, {}, 8),
        (1, RISING_ONCE, {}, 3),
        (3, RISING_ONCE, {}, 5),  # equal is no gain
        (4, RISING_ONCE, {}, 8),
        (1, RISING_ONCE, {"mode": "min"}, 2),
        (2, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), {"min_delta": 0.15}, 8),
        (2, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), {"min_delta": 0.25}, 3),
        (2, (0.1, float("nan"), 0.2, float("nan"), float("nan"), 1, 1, 1), {}, 5),
    ],
)
def test_ends_after_so_many_validations_without_gain(
    tmp_path: Path,
    patience: int | None,
    figures: tuple[float, ...],
    kwargs: dict[str, Any],
    validations: int,
) -> None:
    log = Figures(*figures)
    fit(tmp_path, log, stopping(patience, **kwargs))
    assert log.steps == [4 * number for number in range(1, validations + 1)]


def test_best_and_last_are_saved_where_it_stops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    order = [stopping(2), BestCheckpoint("val/figure", mode="max"), LastCheckpoint(1000)]
    with caplog.at_level("INFO"):
        module = fit(tmp_path, Figures(*RISING_ONCE), *order)
    assert read(tmp_path / "checkpoints/best.ckpt")["global_step"] == 8
    last = read(tmp_path / "checkpoints/last.ckpt")
    assert last["global_step"] == 16
    assert last["callbacks"]["EarlyStopping"]["wait_count"] == 2
    assert_same(last["state_dict"], weights_of(module))
    said = "2 validations without gain in val/figure (best 0.5) at step 16; training ends"
    assert caplog.text.count(said) == 1


@pytest.mark.parametrize("stop", [8, 11, 12])
def test_a_resumed_run_stops_where_the_whole_one_does(tmp_path: Path, stop: int) -> None:
    whole, first, second = (Figures(*RISING_ONCE) for _ in range(3))
    one = fit(tmp_path / "whole", whole, stopping(3), LastCheckpoint())
    fit(tmp_path, first, stopping(3), LastCheckpoint(), max_steps=stop)
    last = tmp_path / "checkpoints/last.ckpt"
    two = fit(tmp_path, second, stopping(3), LastCheckpoint(), resume=last)
    assert first.steps + second.steps == whole.steps
    assert_same(weights_of(one), weights_of(two))


def test_a_stopped_run_that_is_resumed_trains_on_only_with_more_patience(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last = tmp_path / "checkpoints/last.ckpt"
    stopped = fit(tmp_path, Figures(*RISING_ONCE), stopping(1), LastCheckpoint())
    again = Figures(*RISING_ONCE)
    with caplog.at_level("INFO"):
        resumed = fit(tmp_path, again, stopping(1), LastCheckpoint(), resume=last)
    assert again.steps == []
    assert_same(weights_of(stopped), weights_of(resumed))
    assert "at step 12; raise early_stopping.patience to go on" in caplog.text
    fit(tmp_path, again, stopping(3), LastCheckpoint(), resume=last)
    assert again.steps == [16, 20]


@pytest.mark.parametrize(
    "other", [{"mode": "min"}, {"monitor": "val/loss"}, {"patience": None}], ids=str
)
def test_the_count_of_another_figure_does_not_count(tmp_path: Path, other: dict[str, Any]) -> None:
    fit(tmp_path, Figures(*RISING_ONCE), stopping(2), LastCheckpoint(), max_steps=12)
    again = Figures(*RISING_ONCE)
    arguments: dict[str, Any] = {"monitor": "val/figure", "patience": 2} | other
    callback = EarlyStopping(**arguments)
    last = tmp_path / "checkpoints/last.ckpt"
    fit(tmp_path, again, callback, LastCheckpoint(), resume=last, max_steps=16)
    assert again.steps == [16]


def test_off_asks_for_no_figure_and_saves_nothing(tmp_path: Path) -> None:
    fit(tmp_path, Figures(*RISING_ONCE), EarlyStopping("val/none"), LastCheckpoint(), max_steps=4)
    assert "EarlyStopping" not in read(tmp_path / "checkpoints/last.ckpt")["callbacks"]


def test_a_missing_figure_names_what_was_logged(tmp_path: Path) -> None:
    message = r"early_stopping\.monitor: validation logged no 'val/none'; it logged val/figure"
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, Figures(*RISING_ONCE), EarlyStopping("val/none", patience=2))


def test_the_sanity_check_is_no_validation(tmp_path: Path) -> None:
    callback = EarlyStopping("val/loss", "min", patience=2)
    log = Figures(*RISING_ONCE)
    fit(tmp_path, log, callback, num_sanity_val_steps=2, max_steps=4)
    assert callback.wait_count == 0


def test_two_processes_stop_together(tmp_path: Path) -> None:
    class End(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            assert trainer.strategy.all_gather(torch.tensor(trainer.global_step)).tolist() == [4, 4]

    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo")
    log = Figures(*[0.5] * 16)  # an epoch has 2 batches a process
    fit(tmp_path, log, stopping(1), LastCheckpoint(), End(), devices=2, strategy=strategy)
    assert read(tmp_path / "checkpoints/last.ckpt")["global_step"] == 4


@pytest.mark.parametrize(
    ("kwargs", "word"), [({"patience": 0}, "patience"), ({"min_delta": -0.1}, "min_delta")]
)
def test_arguments_out_of_range(kwargs: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=rf"{word}: .* given"):
        EarlyStopping(**kwargs)
