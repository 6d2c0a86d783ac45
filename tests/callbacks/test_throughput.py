from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks import LastCheckpoint, Throughput
from tests.callbacks.toys import ToyData, ToyModule, loader, trainer_in


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("callbacks.clock.time.perf_counter", lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class SlowModule(ToyModule):
    clock: Clock

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.clock.sleep(0.3)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.clock.sleep(50)


class SlowData(ToyData):
    clock: Clock

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        self.clock.sleep(0.05)
        return super().__getitem__(index)


class SlowSave(Callback):
    clock: Clock

    def on_save_checkpoint(self, *args: Any) -> None:
        self.clock.sleep(70)


def rows(root: Path) -> list[dict[str, float]]:
    path = root / "lightning_logs" / "version_0" / "metrics.csv"
    header, *lines = [line.split(",") for line in path.read_text().splitlines()]
    found = [dict(zip(header, line, strict=True)) for line in lines]
    return [
        {key: float(value) for key, value in row.items() if value}
        for row in found
        if row["perf/images_per_s"]
    ]


def test_figures_are_those_of_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    module, data, save = SlowModule(), SlowData(8), SlowSave()
    module.clock = data.clock = save.clock = clock
    trainer = trainer_in(
        tmp_path,
        Throughput(5),
        LastCheckpoint(3),
        save,
        logger=CSVLogger(tmp_path),
        val_check_interval=2,
    )
    trainer.fit(module, DataLoader(data, 2), loader(4))
    found = rows(tmp_path)
    # The first of 12 batches does not count, the last one fills no window.
    assert [row["step"] for row in found] == [5, 10]
    for row in found:
        # Lightning fetches a batch ahead, so waits that a validation or a save swallowed are left
        # out: between 0.3 and 0.4 seconds for 2 images.
        assert 2 / 0.4 - 1e-6 <= row["perf/images_per_s"] <= 2 / 0.3 + 1e-6
        assert 0 < row["perf/data_wait"] <= 0.1 / 0.4 + 1e-6
        assert row["perf/memory_mb"] > 1


def test_without_validation_the_wait_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    module, data = SlowModule(), SlowData(64)
    module.clock = data.clock = clock
    trainer = trainer_in(tmp_path, Throughput(5), logger=CSVLogger(tmp_path))
    trainer.fit(module, DataLoader(data, 2))
    for row in rows(tmp_path):
        assert row["perf/images_per_s"] == pytest.approx(2 / 0.4)
        assert row["perf/data_wait"] == pytest.approx(0.25)


def test_interval_out_of_range() -> None:
    with pytest.raises(ValueError, match="every_n_steps: 0 given"):
        Throughput(0)
