"""The order of the data: over ranks, over epochs, and over a stop and a resume."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from data_modules.kinds.sampler import ResumableSampler, UnpaddedSampler
from data_modules.sets.image_mask_folder import ImageMaskFolderDataModule

NUMBERS = list(range(11))


def _epoch(rank: int, world: int, epoch: int = 0, **kwargs: Any) -> list[int]:
    sampler = ResumableSampler(NUMBERS, num_replicas=world, rank=rank, **kwargs)  # type: ignore[arg-type]
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert len(sampler) == len(order) + kwargs.get("skip", lambda: 0)()
    assert {e for _, e in order} == {epoch}
    return [index for index, _ in order]


def test_two_ranks_share_an_epoch() -> None:
    dropped = [_epoch(rank, 2, multiple=1) for rank in (0, 1)]
    assert [len(share) for share in dropped] == [5, 5]
    assert len(set(dropped[0] + dropped[1])) == 10  # disjoint
    padded = [_epoch(rank, 2) for rank in (0, 1)]
    assert [len(share) for share in padded] == [6, 6]
    assert set(padded[0]) | set(padded[1]) == set(NUMBERS)


def test_a_share_is_cut_to_whole_optimiser_steps() -> None:
    shares = [_epoch(rank, 2, multiple=4) for rank in (0, 1)]
    assert [len(share) for share in shares] == [4, 4]
    assert len(set(shares[0] + shares[1])) == 8


def test_more_ranks_than_items_get_an_equal_number() -> None:
    assert [len(_epoch(rank, 30)) for rank in range(30)] == [1] * 30


def test_order_follows_seed_and_epoch() -> None:
    orders = {tuple(_epoch(0, 1, epoch, seed=seed)) for epoch in range(4) for seed in range(4)}
    assert len(orders) == 16
    assert _epoch(0, 1, 3, seed=7) == _epoch(0, 1, 3, seed=7)


@pytest.mark.parametrize("rank", [0, 1])
def test_skip_continues_the_same_order(rank: int) -> None:
    whole = _epoch(rank, 2, 5)
    assert _epoch(rank, 2, 5, skip=lambda: 4) == whole[4:]


@pytest.mark.parametrize("world", [1, 2, 3, 16])
def test_nothing_is_padded_for_evaluation(world: int) -> None:
    samplers = [
        UnpaddedSampler(NUMBERS, num_replicas=world, rank=rank)  # type: ignore[arg-type]
        for rank in range(world)
    ]
    seen = [index for sampler in samplers for index in sampler]
    assert sorted(seen) == NUMBERS
    assert [len(s) for s in samplers] == [len(list(s)) for s in samplers]


class Watch(LightningModule):
    """Notes what it is given: the indices and the sum of the (augmented) images."""

    def __init__(self, ask_steps: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.ask_steps = ask_steps
        self.seen: list[tuple[list[int], float]] = []

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        weights = torch.linspace(0, 1, batch["image"][0].numel()).reshape(batch["image"][0].shape)
        self.seen.append((batch["index"].tolist(), float((batch["image"] * weights).sum())))
        return self.layer(torch.ones(1, 1)).sum()  # type: ignore[no-any-return]

    def validation_step(self, batch: dict[str, Tensor]) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.ask_steps:  # makes Lightning build the loaders before it restores its counters
            _ = self.trainer.estimated_stepping_batches
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step and not self.path.exists():
            trainer.save_checkpoint(self.path)


def _fit(
    root: Path,
    steps: int,
    *,
    resume: Path | None = None,
    save: SaveAt | None = None,
    workers: int = 0,
    ask_steps: bool = False,
    drop_last: bool = True,
    **trainer: Any,
) -> list[tuple[list[int], float]]:
    data = ImageMaskFolderDataModule(
        root=str(root),
        image_size=8,
        batch_size=3,
        num_workers=workers,
        val_fraction=0.05,
        augment=["hflip", "vflip"],
        seed=5,
        drop_last=drop_last,
    )
    module = Watch(ask_steps)
    Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[save] if save else [],
        **trainer,
    ).fit(module, data, ckpt_path=resume, weights_only=True)
    return module.seen


@pytest.fixture
def root(write_pairs: Callable[..., Path]) -> Path:
    """14 images, of which 13 are for training: 4 batches of 3 an epoch."""
    return write_pairs(*(f"x{k}" for k in range(14)))


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 8, 11])
@pytest.mark.filterwarnings("error:.*dataloader is not resumable.*")
def test_a_resumed_run_sees_what_the_whole_run_saw(root: Path, tmp_path: Path, stop: int) -> None:
    save = SaveAt(stop, tmp_path / "stop.ckpt")
    whole = _fit(root, 12, save=save)
    assert len(whole) == 12
    assert _fit(root, 12, resume=save.path) == whole[stop:]


@pytest.mark.parametrize(
    "settings",
    [
        {"workers": 2},
        {"workers": 2, "ask_steps": True},
        {"accumulate_grad_batches": 2, "max_batches": 24},
        {"accumulate_grad_batches": 2, "max_batches": 24, "workers": 2},
        {"check_val_every_n_epoch": None, "val_check_interval": 5, "workers": 2},
        {"limit_train_batches": 3, "workers": 2},
        {"drop_last": False, "max_batches": 12},
        {"drop_last": False, "workers": 2, "accumulate_grad_batches": 5, "max_batches": 60},
    ],
)
def test_it_does_so_with_workers_accumulation_and_validation(
    root: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    settings = dict(settings)
    batches = settings.pop("max_batches", 12)
    save = SaveAt(5, tmp_path / "stop.ckpt")
    whole = _fit(root, 12, save=save, **settings)
    assert len(whole) == batches
    assert _fit(root, 12, resume=save.path, **settings) == whole[5 * batches // 12 :]


def test_lightning_predicts_every_item_in_order(root: Path) -> None:
    class Echo(Watch):
        def predict_step(self, batch: dict[str, Tensor]) -> Tensor:
            return batch["index"]

    data = ImageMaskFolderDataModule(root=str(root), image_size=8, batch_size=4, num_workers=0)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    predicted = trainer.predict(Echo(False), data)
    assert torch.cat(predicted).tolist() == list(range(14))  # type: ignore[arg-type]


def test_workers_change_nothing(root: Path) -> None:
    alone = _fit(root, 9)
    assert _fit(root, 9, workers=2) == alone
    sums = [total for _, total in alone]
    assert len(set(sums)) == len(sums)  # augmentations and orders differ between steps


def test_a_partial_batch_is_kept_where_it_is_wanted(root: Path) -> None:
    seen = _fit(root, 10, drop_last=False)  # 13 images in batches of 3: 5 an epoch
    assert [len(indices) for indices, _ in seen] == [3, 3, 3, 3, 1] * 2
    for epoch in (seen[:5], seen[5:]):
        assert sorted(index for indices, _ in epoch for index in indices) == list(range(13))


def test_two_processes_keep_every_image_too(root: Path) -> None:
    data = ImageMaskFolderDataModule(
        root=str(root), image_size=8, batch_size=3, num_workers=0, drop_last=False
    )
    data.setup("fit")
    shares = []
    for rank in (0, 1):
        data._place = lambda rank=rank: (2, rank)  # type: ignore[misc, method-assign]
        shares.append([batch["index"].tolist() for batch in data.train_dataloader()])
    assert [[len(batch) for batch in share] for share in shares] == [[3, 3, 1], [3, 3, 1]]
    assert {i for share in shares for batch in share for i in batch} == set(range(13))
