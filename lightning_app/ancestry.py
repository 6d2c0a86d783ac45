"""What the weights of a checkpoint were trained on: its run, and the runs that one started from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import LightningDataModule

from lightning_app.errors import UsageError
from lightning_app.parser import class_named
from lightning_app.run_config import read_config
from lightning_app.run_directory import is_run_directory
from lightning_app.splits_file import NAME, Known, SplitsFile, Used, data_set_of, read_splits
from meddiff.core.checkpoint import CheckpointError, find_checkpoint, read_checkpoint
from meddiff.core.portable import is_name

ID = "splits"
"""Key of a checkpoint for the id of its run's `splits.json`."""

_LAST = "last.ckpt"  # the one checkpoint that no validation chose


def known_behind(
    path: Path, checkpoint: Mapping[str, Any] | None = None, passed: Set[Path] = frozenset()
) -> Known:
    """What is known of the images behind a checkpoint.

    Args:
        path: The checkpoint.
        checkpoint: What it holds, where it was read already.
        passed: Checkpoints on the way to this one.
    """
    content = _without_weights(path) if checkpoint is None else checkpoint
    found = splits_beside(path, content.get(ID))
    if found is not None and found[1].id is not None:
        return _known(path, found[1])
    # Of no run, or of one of an earlier version, whose file says nothing of its start.
    known = Known() if found is None else _known(path, _completed(*found))
    if found is None:
        known.unknown.append(f"{path}: there is no {NAME} of its run beside it")
    arguments = content.get("hyper_parameters", {})
    start = known_starts(arguments if isinstance(arguments, Mapping) else {}, {*passed, path})
    return Known(known.used + start.used, known.unknown + start.unknown, known.own)


def known_starts(arguments: Mapping[str, Any], passed: Set[Path] = frozenset()) -> Known:
    """What is known of the images behind the weights that a module's arguments name.

    Args:
        arguments: Those of the module; `init_from`, and others that end in `_from` and name a
            checkpoint or a run directory.
        passed: Checkpoints on the way to this one.
    """
    known = Known()
    for argument, file in _start_files(arguments):
        if file is None:
            given = str(arguments[argument])
            why = "a checkpoint holds no more of it" if is_name(given) else "is not there any more"
            known.unknown.append(f"{argument} {given}: {why}")
        elif file not in passed:
            start = known_behind(file, None, passed)
            known.used += start.used
            known.unknown += start.unknown
    return known


def _start_files(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Path | None]]:
    for key, value in arguments.items():
        if not (str(key).endswith("_from") and isinstance(value, str)):
            continue
        try:
            # As the modules themselves choose.
            yield key, find_checkpoint(Path(value).expanduser(), prefer=("last", "best"))
        except CheckpointError:
            if key == "init_from":
                yield key, None


def splits_beside(path: Path, wanted: Any) -> tuple[Path, SplitsFile] | None:
    """The `splits.json` of the run that wrote a checkpoint, wherever the two lie together.

    Args:
        path: The checkpoint: in `checkpoints/` of its run, or in a folder with a copy of the file.
        wanted: The id that the checkpoint holds; None of an earlier version, which has none.

    Returns:
        The file and what it holds; None where there is none, or only that of another run.
    """
    for place in dict.fromkeys((path.absolute(), path.resolve())):
        folders = [place.parent]
        if place.parent.name == "checkpoints":
            folders.insert(0, place.parent.parent)
        for folder in folders:
            if (folder / NAME).is_file():
                content = read_splits(folder / NAME)
                if wanted is None or content.id == wanted:
                    return folder / NAME, content
    return None


def _known(path: Path, content: SplitsFile) -> Known:
    counts = content.stops or path.name != _LAST
    own = replace(content.own, val_counts=counts)
    return Known([own, *content.behind], list(content.unknown), own=True)


def _completed(path: Path, content: SplitsFile) -> SplitsFile:
    """The file of an earlier version, with what the config of its run adds."""
    if content.own.data_set is not None or not is_run_directory(path.parent):
        return content
    try:
        config = read_config(path.parent)
        arguments = config["data"].get("init_args") or {}
        kind = class_named(str(config["data"]["class_path"]), LightningDataModule)
        patience = (config.get("early_stopping") or {}).get("patience")
    except (UsageError, OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return content
    if kind is None:
        return content
    root = arguments.get("root") or f"data/{getattr(kind, 'short_name', '')}"
    used = replace(content.own, data_set=data_set_of(kind, root, content.own.splits))
    return replace(content, own=used, stops=patience is not None)


def _without_weights(path: Path) -> Mapping[str, Any]:
    """What a checkpoint says of itself; its tensors, which may be gigabytes, stay on the disk."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:
        # Of a format that cannot be mapped; what is wrong with others is told by who loads them.
        try:
            content = read_checkpoint(path)
        except CheckpointError:
            return {}
    return content if isinstance(content, Mapping) else {}


def merged(known: Known, before: Used | None = None) -> Known:
    """What a fit writes down of its start: without what counts for nothing, and nothing twice.

    Args:
        known: Of the start.
        before: The images of an earlier launch of the same run.
    """
    kept: list[Used] = []
    for used in [*([] if before is None else [before]), *known.used]:
        splits = {"train": used.splits.get("train", [])}
        if used.val_counts:
            splits["val"] = used.splits.get("val", [])
        bare = replace(used, splits=splits)
        if bare not in kept and any(splits.values()):
            kept.append(bare)
    return Known(kept, list(dict.fromkeys(known.unknown)))
