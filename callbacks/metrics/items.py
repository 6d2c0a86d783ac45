"""Metrics that measure items one by one: the hooks, the gathering, the table and the pictures."""

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from callbacks.distributed import gather_rows
from callbacks.files import atomic_write
from callbacks.metrics.bootstrap import Bootstrap
from callbacks.pictures import grid_of, lines_of
from callbacks.publishing import Kind, first_loader, publish, spread_items
from callbacks.sources import source_of
from callbacks.steps import KnowsLoadedStep
from meddiff.core.ranges import NonNegativeInt, check_ranges

Stage: TypeAlias = Literal["val", "test"]


@dataclass(frozen=True)
class Measured:
    """What was found of the items of a batch.

    Attributes:
        rows: Numbers that the figures are computed from, shape (B, R).
        finite: Whether what the module made of an item is, bool, shape (B,).
        draw: Makes the tiles of some items, chosen by a bool tensor of shape (B,) on the CPU:
            uint8, (n, 3, H, W) for a grid, (n, M, 3, H, W) for a line an item. None: no pictures.
    """

    rows: Tensor
    finite: Tensor
    draw: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Figures:
    """What the rows of a set of N items come to.

    Attributes:
        logged: Figures of the set by their names without the stage.
        columns: What the table of a test says of each item, by the name of the column, shape (N,).
        limited: Values an item, shape (N,), of whose means a test logs confidence limits.
    """

    logged: Mapping[str, float]
    columns: Mapping[str, np.ndarray]
    limited: Mapping[str, np.ndarray] = field(default_factory=dict)


class ItemMetrics(KnowsLoadedStep, ABC):
    """Measures each item of validation and test once, and all of them together.

    A subclass says what is measured of a batch and which figures the rows of a set come to. They
    are gathered over the processes and sorted by index, an item that came twice counting once, so
    that several processes give exactly the figures of one. A test writes a table with one row an
    item; what is drawn is what was measured, of items evenly spread over the set.

    Args:
        num: Items in a picture, or all where a set has fewer; 0 draws none.
        bootstrap: How the limits of a test are found; None leaves them out.

    Attributes:
        seen: By index, the split in which the weights have seen an item, for the table of a test
            where that was allowed.

    Raises:
        ValueError: If `num` is negative.
    """

    key: ClassVar[str]
    """Its place in a config, for errors."""

    table: ClassVar[str]
    """Name of the file with the table of a test."""

    pictures: ClassVar[Mapping[Stage, Kind]]
    """What `test` and `validate` draw; a validation within a fit draws nothing."""

    def __init__(self, num: NonNegativeInt, bootstrap: Bootstrap | None = None) -> None:
        super().__init__()
        check_ranges(ItemMetrics, locals())
        self.num = num
        self.bootstrap = bootstrap
        self.seen: Mapping[int, str] | None = None
        self._parts: list[tuple[Tensor, Tensor]] = []
        self._drawn = torch.empty(0, dtype=torch.int64)
        self._tiles: list[tuple[Tensor, Tensor]] = []

    @abstractmethod
    def measure(
        self, trainer: Trainer, module: LightningModule, batch: Mapping[str, Any]
    ) -> Measured | None:
        """Measures a batch; None where the module or the batch has not what it takes."""

    @abstractmethod
    def figures(self, rows: np.ndarray) -> Figures:
        """Computes the figures from the rows of all items, shape (N, R), in order of the index."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a new set of items."""
        self._begin(trainer, "val", trainer.val_dataloaders, trainer.num_val_batches)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a new set of items."""
        self._begin(trainer, "test", trainer.test_dataloaders, trainer.num_test_batches)

    def _begin(self, trainer: Trainer, stage: Stage, loaders: Any, batches: Any) -> None:
        self._parts, self._tiles = [], []
        draws = stage in self.pictures and trainer.state.fn != TrainerFn.FITTING
        loader = first_loader(loaders) if draws else None
        size = 0
        if loader is not None:
            size = len(loader.dataset)  # type: ignore[arg-type]
            # With `limit_test_batches` the items are spread over those that are measured.
            if loader.batch_size is not None:
                size = min(size, int(batches[0]) * loader.batch_size * trainer.world_size)
        self._drawn = torch.tensor(spread_items(self.num, size), dtype=torch.int64)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measures a batch."""
        if not trainer.sanity_checking:
            self._add(trainer, pl_module, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measures a batch."""
        self._add(trainer, pl_module, batch)

    def _add(self, trainer: Trainer, module: LightningModule, batch: Mapping[str, Any]) -> None:
        measured = self.measure(trainer, module, batch)
        if measured is None:
            return
        index = batch["index"]
        # Looked at when all is gathered, so that no batch waits for the device.
        finite = measured.finite.to(measured.rows)[:, None]
        rows = torch.cat([measured.rows, finite], dim=1)
        self._parts.append((index.to(rows.device), rows))
        if measured.draw is not None and len(self._drawn):
            index = index.cpu()
            wanted = torch.isin(index, self._drawn) & measured.finite.cpu()
            self._tiles.append((index[wanted], measured.draw(wanted).cpu()))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the figures and, in `validate`, draws."""
        if not trainer.sanity_checking:
            self._end(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the figures with their limits, writes the table of items and draws."""
        self._end(trainer, pl_module, "test")

    def _end(self, trainer: Trainer, module: LightningModule, stage: Stage) -> None:
        parts, self._parts = self._parts, []
        # All processes or none have rows: Lightning calls no hook where a process has no batch.
        if not parts:
            return
        index, rows = _each_once(trainer, parts)
        _check_finite(trainer, stage, index[rows[:, -1].numpy() == 0], len(index))
        figures = self.figures(rows[:, :-1].numpy())
        logged = dict(figures.logged)
        if stage == "test":
            logged |= self._limits(figures.limited)
            if trainer.is_global_zero:
                _write_table(
                    trainer, self.table, index, {**figures.columns, **self._seen_column(index)}
                )
        # Every process logs the same values: they were computed from the same rows.
        values = {f"{stage}/{name}": float(value) for name, value in logged.items()}
        module.log_dict(values, batch_size=1)
        self._draw(trainer, stage)

    def _seen_column(self, index: np.ndarray) -> dict[str, np.ndarray]:
        if not self.seen:
            return {}
        return {"seen": np.array([self.seen.get(item, "") for item in index.tolist()])}

    def _limits(self, limited: Mapping[str, np.ndarray]) -> dict[str, float]:
        limits = {}
        if self.bootstrap is not None:
            for name, values in limited.items():
                limits[f"{name}_lo"], limits[f"{name}_hi"] = self.bootstrap.limits(values)
        return limits

    def _draw(self, trainer: Trainer, stage: Stage) -> None:
        parts, self._tiles = self._tiles, []
        if not parts:
            return
        _, tiles = _each_once(trainer, parts)
        if len(tiles):
            picture = grid_of(tiles) if tiles.ndim == 4 else lines_of(tiles)
            publish(trainer, self.pictures[stage], picture, self.step_of_weights(trainer))


def _each_once(trainer: Trainer, parts: list[tuple[Tensor, Tensor]]) -> tuple[np.ndarray, Tensor]:
    """The indices of all processes, ascending, and what belongs to each of them.

    Args:
        trainer: The trainer of the run.
        parts: Indices, shape (B,), and as many rows, of this process; a padded sampler gives some
            items twice.
    """
    indices, rows = (
        gather_rows(trainer, torch.cat(part)).cpu() for part in zip(*parts, strict=True)
    )
    index, first = np.unique(indices.numpy(), return_index=True)
    return index, rows[torch.from_numpy(first)]


def _check_finite(trainer: Trainer, stage: Stage, bad: np.ndarray, items: int) -> None:
    """Stops on results that are NaN or infinite: a class or a distance computed of them is none.

    Raises:
        ValueError: If there are any; names the first.
    """
    if len(bad):
        first = source_of(trainer, stage, int(bad[0])) or f"the item with index {bad[0]}"
        raise ValueError(
            f"{stage}: what the module makes of {len(bad)} of {items} items is NaN or infinite, "
            f"first of {first}. The weights may be broken, or the precision too low: try "
            "trainer.precision: 32-true"
        )


def _write_table(
    trainer: Trainer, name: str, index: np.ndarray, columns: Mapping[str, np.ndarray]
) -> None:
    """Writes one row an item of the test split: index, source file (empty without one), figures."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["index", "source", *columns])
    by_item = zip(*(values.tolist() for values in columns.values()), strict=True)
    for item, values in zip(index.tolist(), by_item, strict=True):
        writer.writerow([item, source_of(trainer, "test", item) or "", *values])
    with atomic_write(Path(trainer.default_root_dir) / name) as file:
        file.write(text.getvalue().encode())
