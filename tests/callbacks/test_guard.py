from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy

from callbacks import (
    AtomicCheckpointIO,
    BestCheckpoint,
    EMACallback,
    LastCheckpoint,
    NonFiniteGuard,
    NonFiniteLossError,
)
from tests.callbacks.toys import ToyModule, loader, read, trainer_in


def stop(root: Path, guard: NonFiniteGuard, *others: Callback, **kwargs: Any) -> str:
    """Trains until the guard stops a bad sixth batch; returns what it said."""
    last = LastCheckpoint(kwargs.pop("save_every", 4))
    trainer = trainer_in(root, EMACallback(0.9), BestCheckpoint(), last, guard, *others, **kwargs)
    with pytest.raises(NonFiniteLossError) as stopped:
        trainer.fit(ToyModule(bad_batch=5), loader(), loader(4))
    return str(stopped.value)


@pytest.mark.parametrize("every", [1, 50])
def test_names_step_items_and_checkpoint(tmp_path: Path, every: int) -> None:
    said = stop(tmp_path, NonFiniteGuard(every))
    # Four batches of two items an epoch: the sixth batch holds items 2 and 3.
    assert "not finite at step 6, for the items with index [2, 3]" in said
    assert str(tmp_path / "checkpoints/last.ckpt") in said


def test_says_where_there_is_no_checkpoint(tmp_path: Path) -> None:
    said = stop(tmp_path, NonFiniteGuard(1), save_every=100, limit_val_batches=0)
    assert "No checkpoint was made yet" in said


# 2 saves in the very step, 7 in the next one; validation follows step 8.
@pytest.mark.parametrize("save_every", [2, 7])
@pytest.mark.parametrize("guard_every", [1, 50])
@pytest.mark.parametrize("validation", [0, 1.0])
def test_good_checkpoints_stay_as_they_were(
    tmp_path: Path, save_every: int, guard_every: int, validation: float
) -> None:
    stop(tmp_path, NonFiniteGuard(guard_every), save_every=save_every, limit_val_batches=validation)
    for path in (tmp_path / "checkpoints").glob("*.ckpt"):
        checkpoint = read(path)
        assert checkpoint["global_step"] == 4
        for part in ("state_dict", "current_model_state"):
            assert all(torch.isfinite(tensor).all() for tensor in checkpoint[part].values())
    names = {path.name for path in (tmp_path / "checkpoints").glob("*")}
    assert ("last.ckpt" in names) == (save_every == 2)
    assert ("best.ckpt" in names) == bool(validation)


def test_poisoned_weights_with_a_finite_loss_are_not_saved(tmp_path: Path) -> None:
    class Poison(Callback):
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, *args: Any
        ) -> None:
            if trainer.global_step == 6:
                torch.nn.init.constant_(pl_module.get_parameter("net.0.bias"), float("inf"))

    trainer = trainer_in(tmp_path, NonFiniteGuard(), Poison(), LastCheckpoint(3))
    with pytest.raises(NonFiniteLossError, match="weights are not finite after step 6"):
        trainer.fit(ToyModule(), loader(), loader())
    assert read(tmp_path / "checkpoints/last.ckpt")["global_step"] == 3


def test_bad_last_step_is_found(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, NonFiniteGuard(), max_steps=6)
    with pytest.raises(NonFiniteLossError, match="step 6"):
        trainer.fit(ToyModule(bad_batch=5), loader())


def test_good_run_is_left_alone_and_nothing_is_fetched_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    look = NonFiniteGuard._look

    def counted(self: NonFiniteGuard, trainer: Trainer) -> None:
        looks.append(trainer.global_step)
        look(self, trainer)

    monkeypatch.setattr(NonFiniteGuard, "_look", counted)
    trainer_in(tmp_path, NonFiniteGuard(5)).fit(ToyModule(), loader())
    assert looks == [5, 10, 12]


def test_both_processes_stop(tmp_path: Path) -> None:
    trainer = trainer_in(
        tmp_path,
        LastCheckpoint(4),
        NonFiniteGuard(3),
        devices=2,
        strategy=DDPStrategy(start_method="fork", process_group_backend="gloo"),
        plugins=[AtomicCheckpointIO()],
    )
    # Processes that did not stop together would wait for each other without end.
    with pytest.raises(
        Exception, match=r"not finite at step 6, for the items with index \[\d+, "
    ) as stopped:
        trainer.fit(ToyModule(bad_batch=5, bad_rank=1), loader(16))
    assert "NonFiniteLossError" in str(stopped.value)
    assert read(tmp_path / "checkpoints/last.ckpt")["global_step"] == 4


def test_interval_out_of_range() -> None:
    with pytest.raises(ValueError, match="every_n_steps: 0 given, expected a whole number >0"):
        NonFiniteGuard(0)
