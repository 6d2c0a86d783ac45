"""Writes down what a fit sees, and keeps figures off what weights have seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from callbacks import PredictionWriter
from callbacks.metrics.items import ItemMetrics
from data_modules import NoiseDataModule
from lightning_app.ancestry import ID, known_behind, known_starts, merged
from lightning_app.seen import Seen, find_seen, mark_figures, refusal
from lightning_app.session import Session
from lightning_app.splits_file import NAME, Known, SplitsFile, Used, images_of, read_splits

_SPLITS = {"validate": "val", "test": "test", "predict": "predict"}


class SplitKeeper(Callback):
    """Writes `splits.json`, and compares what is gone over with those behind the checkpoint.

    Args:
        session: The launch.
        path: The checkpoint that was given or is resumed from.
        checkpoint: What it holds.
        allow_seen: Whether seen images are measured all the same, under marked names.
    """

    def __init__(
        self,
        session: Session,
        path: Path | None,
        checkpoint: Mapping[str, Any] | None,
        allow_seen: bool,
    ) -> None:
        self._session = session
        self._path = path
        self._checkpoint = checkpoint
        self._allow_seen = allow_seen
        self._id: str | None = None
        self._put_back: Callable[[], None] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes down the splits of a fit; else compares, and stops before anything is measured.

        The first process decides for all.

        Raises:
            UsageError: If figures would be of images that the weights have seen.
        """
        stage = str(TrainerFn(stage).value)
        found: Seen | Exception | None = None
        if trainer.is_global_zero:
            try:
                found = self._first(trainer, pl_module, stage)
            except (ValueError, OSError) as error:  # the others would wait for it
                found = error
        found = trainer.strategy.broadcast(found)
        if isinstance(found, Exception):
            raise found
        if found is not None:
            self._mark(trainer, pl_module, found, stage)

    def _first(self, trainer: Trainer, module: LightningModule, stage: str) -> Seen | None:
        """What the first process does: reads, compares, writes."""
        images = images_of(trainer.datamodule)  # type: ignore[attr-defined]
        path = Path(trainer.default_root_dir) / NAME
        if stage == "fit":
            if images is not None:
                self._id = self._keep(path, images, trainer, module)
            return None
        if images is not None and not path.exists():
            SplitsFile(images).write(path)
        # Weights of no checkpoint saw nothing.
        known = Known() if self._path is None else known_behind(self._path, self._checkpoint)
        return self._compared(trainer, images, known, stage)

    def _compared(
        self, trainer: Trainer, images: Used | None, known: Known, stage: str
    ) -> Seen | None:
        split = _SPLITS[stage]
        if images is not None and split in images.splits:
            seen = find_seen(images, split, known)
        elif split == "predict" and not _has_images(trainer):
            seen = Seen()
        else:
            told = f"{type(trainer.datamodule).__name__} does not tell its images"  # type: ignore[attr-defined]
            seen = Seen(unknown=[told] if self._path is not None else [])
        self._session.note(seen=seen.record)
        if seen.unknown:
            rank_zero_warn(
                f"{stage}: whether these weights have seen the images is not known: "
                f"{'; '.join(seen.unknown[:3])}"
            )
        by_path = [used for used in known.used if not used.hashed]
        if by_path:
            rank_zero_warn(
                f"{stage}: a {NAME} behind the checkpoint holds no contents; images were compared "
                "by path alone"
            )
        if not seen.splits:
            return seen
        if stage == "predict":
            rank_zero_info(
                f"predict: of {seen.of} images the weights have seen {len(seen.splits)}: "
                f"{seen.counts}; `seen` in manifest.jsonl says which"
            )
        elif not self._allow_seen:
            raise refusal(stage, seen, known)
        else:
            rank_zero_warn(
                f"{stage}: of {seen.of} images the weights have seen {len(seen.splits)}: "
                f"{seen.counts}; the figures are named seen_... for it"
            )
        return seen

    def _mark(self, trainer: Trainer, module: LightningModule, seen: Seen, stage: str) -> None:
        """Tells those who write it down, in every process."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, PredictionWriter | ItemMetrics):
                callback.seen = seen.marks
        if seen.splits and stage != "predict":
            self._put_back = mark_figures(trainer, module)

    def _keep(
        self, path: Path, images: Used, trainer: Trainer, module: LightningModule
    ) -> str | None:
        """Writes the splits of a fit, those behind its start included; returns their id."""
        stops = any(
            isinstance(callback, EarlyStopping) and getattr(callback, "enabled", True)
            for callback in trainer.callbacks  # type: ignore[attr-defined]
        )
        if self._session.resumed and path.exists():
            content = self._continued(path, images, stops)
        else:
            if self._path is None:
                known = known_starts(module.hparams)
            elif self._session.resumed:
                known = Known(unknown=[f"{path}: is not there, of what was done before"])
            else:
                known = known_behind(self._path, self._checkpoint)
            start = merged(known)
            content = SplitsFile(images, start.used, start.unknown, stops)
            for text in start.unknown:
                rank_zero_warn(f"fit: it is not known what its start was trained on: {text}")
        content.write(path)
        _warn_of_seen(content)
        return content.id

    def _continued(self, path: Path, images: Used, stops: bool) -> SplitsFile:
        """The file of a run that goes on, perhaps with other images than before."""
        before = read_splits(path)
        own, known = before.own, Known(before.behind, before.unknown)
        if before.id is None and self._path is not None:
            # A file of an earlier version says nothing of the start.
            known = known_behind(self._path, self._checkpoint)
            own = known.used.pop(0)
        if not images.holds(own):
            known.used.insert(0, replace(own, val_counts=True))
        start = merged(known)
        run_id = before.id or SplitsFile(images).id
        return SplitsFile(images, start.used, start.unknown, stops or before.stops, run_id)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Writes whose splits these weights are of; no name of an image."""
        if self._id is not None:
            checkpoint[ID] = self._id

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Puts back the names of the figures."""
        if self._put_back is not None:
            self._put_back()
            self._put_back = None


def _has_images(trainer: Trainer) -> bool:
    """Whether a data module without splits reads images, as one of noise does not."""
    return not isinstance(trainer.datamodule, NoiseDataModule)  # type: ignore[attr-defined]


def _warn_of_seen(content: SplitsFile) -> None:
    """Says at once what a later test will refuse, and which validation means little."""
    known = Known(content.behind)
    for split, words in (("val", "validation"), ("test", "test")):
        seen = find_seen(content.own, split, known)
        counted = [own for own in seen.splits.values() if own == "train" or split == "test"]
        if counted:
            rank_zero_warn(
                f"fit: the start of this run has seen {len(counted)} of its {seen.of} {words} "
                f"images ({', '.join(seen.examples)}); figures on them tell nothing of new images"
            )
