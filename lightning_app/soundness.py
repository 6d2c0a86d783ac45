"""Whether what a run left is whole, before it is continued: each fault names its file."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from lightning_app.errors import UsageError
from lightning_app.holder import NAME as LOCK
from lightning_app.record import read_record
from lightning_app.splits_file import NAME as SPLITS
from lightning_app.splits_file import read_splits
from meddiff.core.checkpoint import (
    CheckpointError,
    check_training,
    check_weights,
    read_checkpoint,
)
from meddiff.core.torch_file import whole_sibling

_KINDS: dict[str, type] = {
    "subcommand": str,
    "state": str,
    "config": str,
    "wandb_id": str,
    "limits": dict,
    "earlier_launches": list,
    "resolved": dict,
}
_NEEDED = ("subcommand", "state")


def sound_record(directory: Path) -> dict[str, Any]:
    """The record of a run, with the kinds of values that a continuation needs.

    Raises:
        UsageError: If it cannot be read, or a value is of another kind.
    """
    path = directory / "run.json"
    try:
        record = read_record(directory)
        for key, kind in _KINDS.items():
            value = record.get(key)
            if not isinstance(value, kind) and (value is not None or key in _NEEDED):
                raise UsageError(f"{path}: its {key} is {value!r:.60}, not a {kind.__name__}")
        limits = record.get("limits") or {}
        if record["subcommand"] == "fit" and not (
            limits.keys() == {"steps", "epochs"} and all(type(v) is int for v in limits.values())
        ):
            raise UsageError(f"{path}: its limits are {limits!r:.60}, not steps and epochs")
    except UsageError as error:
        raise UsageError(f"{error}\n{_begin_from(directory)}") from error
    return record


def _begin_from(directory: Path) -> str:
    last = directory / "checkpoints" / "last.ckpt"
    return (
        f"Put the file back, or begin a new run from the state of this one: "
        f"--ckpt_path {last} --config {directory / 'config.yaml'}"
    )


def check_files(directory: Path, *, checkpoints: bool = True) -> None:
    """Checks what a fit reads when it goes on; the lock is looked at before, by `check_lock`.

    Args:
        directory: The run directory.
        checkpoints: Whether its checkpoints are looked at, of which another one may be named.

    Raises:
        UsageError: If a file is damaged; says how to go on.
    """
    if os.path.lexists(directory / SPLITS):
        read_splits(directory / SPLITS)
    _check_metrics(directory / "metrics.csv")
    if checkpoints:
        _check_last(directory)
        _check_best(directory)


def check_lock(directory: Path) -> None:
    """Checks that a run can be locked.

    Raises:
        UsageError: If something else has the place of the lock.
    """
    path = directory / LOCK
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UsageError(f"{path}: is no file, so that the run cannot be locked; remove it")


def _check_metrics(path: Path) -> None:
    if not os.path.lexists(path):
        return
    try:
        with path.open(newline="") as file:
            rows: csv.DictReader[Any] = csv.DictReader(file)
            if rows.fieldnames and "step" not in rows.fieldnames:
                raise ValueError("there is no column step")
            for row in rows:
                if None in row:
                    raise ValueError("a row has more fields than there are columns")
                if None not in row.values():  # else a crash has cut it short
                    float(row["step"] or 0)
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(
            f"{path}: is damaged ({error}); put it back, or move it away to go on without its rows"
        ) from error


def _check_last(directory: Path) -> None:
    last = directory / "checkpoints" / "last.ckpt"
    if not os.path.lexists(last):
        return
    try:
        checkpoint = read_checkpoint(last, mapped=True)
        check_weights(checkpoint, last)
        check_training(checkpoint, last)
    except CheckpointError as error:
        raise UsageError(f"{str(error).splitlines()[0]}\n{_from_best(directory, last)}") from error


def _from_best(directory: Path, last: Path) -> str:
    best = whole_sibling(last)
    if best is None:
        return f"The run has no other whole checkpoint; remove {last.name} to start again there"
    return (
        f"To go on from its best checkpoint, of step {best[1]}, and do again what came after: "
        f"--resume {directory} --ckpt_path {best[0]}"
    )


def _check_best(directory: Path) -> None:
    for name in ("best.ckpt", "best_scheduled.ckpt"):
        path = directory / "checkpoints" / name
        if not os.path.lexists(path):
            continue
        try:
            check_weights(read_checkpoint(path, mapped=True), path)
        except CheckpointError as error:
            raise UsageError(
                f"{str(error).splitlines()[0]}\n"
                "Put it back, or remove it: the best validation of what comes is then kept"
            ) from error
