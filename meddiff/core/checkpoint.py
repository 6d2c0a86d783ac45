"""Reading the checkpoints of earlier runs, safely and with errors that name the file."""

import json
import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule

from meddiff.core.parts import fault_in_training, fault_in_weights
from meddiff.core.portable import is_name, with_paths
from meddiff.core.torch_file import load_file, whole_sibling, why_unread

PACKAGE = "meddiff"

IDENTITY = "meddiff"
"""Key of a checkpoint under which a module of ours says what it is."""

LIVE = "current_model_state"
"""Key of a checkpoint for the weights in training where `state_dict` holds their average, as
Lightning's own weight averaging names it."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, broken, hostile or of another method."""


def version() -> str:
    """The version of meddiff; `0+unknown` in a source tree that was never installed."""
    try:
        return installed_version(PACKAGE)
    except PackageNotFoundError:
        return "0+unknown"


def public_name(kind: type) -> str:
    """The name that a class goes by in checkpoints: `meddiff.<Name>` for one of ours.

    It does not tell the file, so that a class can move to another one. A user's own class keeps its
    module.
    """
    ours = kind.__module__.split(".")[0] == PACKAGE
    return f"{PACKAGE if ours else kind.__module__}.{kind.__qualname__}"


def init_arguments(kind: type) -> frozenset[str]:
    """The arguments that a class takes, those that it passes on to its bases too."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    names = parser.add_class_arguments(kind, "of", fail_untyped=False)
    return frozenset(name.removeprefix("of.") for name in names)


def identity_of(module: LightningModule) -> dict[str, str]:
    """What a module writes under `IDENTITY` when it is saved."""
    return {"class_path": public_name(type(module)), "version": version()}


def find_checkpoint(path: str | Path, prefer: tuple[str, ...] = ("best", "last")) -> Path:
    """The checkpoint that a file or a run directory stands for.

    Args:
        path: A checkpoint, or a run directory with a `checkpoints` folder.
        prefer: Names looked for in a run directory, the first one there wins.

    Raises:
        CheckpointError: If there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.exists():
        named = "; it is the name that a checkpoint keeps of its start, give a path"
        raise CheckpointError(
            f"{path}: no such checkpoint or run directory{named if is_name(str(path)) else ''}"
        )
    candidates = [path / "checkpoints" / f"{name}.ckpt" for name in prefer]
    for candidate in candidates:
        if os.path.lexists(candidate):  # also one that is no file, which reading it then tells
            return candidate
    wanted = " or ".join(f"checkpoints/{name}.ckpt" for name in prefer)
    raise CheckpointError(
        f"{path}: holds no {wanted}; "
        + (_advice_on_run(path) or "give a checkpoint file or the run directory of a fit")
    )


def read_checkpoint(path: str | Path, *, mapped: bool = False) -> dict[str, Any]:
    """Reads a checkpoint without running any code that it may hold.

    Args:
        path: The file.
        mapped: Whether tensors stay on the disk until they are used, which may be gigabytes.

    Raises:
        CheckpointError: If the file is not a checkpoint, is cut short, or holds objects other
            than tensors and plain values. It names the other checkpoint of the run where that one
            is whole.
    """
    path = Path(path)
    try:
        checkpoint = load_file(path, mapped)
    except MemoryError:
        raise
    except Exception as error:  # whatever torch makes of other bytes
        raise CheckpointError(f"{path}: {why_unread(path, error)}{_or(path)}") from error
    if not isinstance(checkpoint, dict):
        kind = type(checkpoint).__name__
        raise CheckpointError(f"{path}: holds a {kind}, not a checkpoint{_or(path)}")
    found: dict[str, Any] = with_paths(checkpoint, path)
    return found


def _or(path: Path) -> str:
    sibling = whole_sibling(path)
    told = sibling and f"\n{sibling[0]}, of step {sibling[1]}, is whole: give that one"
    return told or ""


def check_weights(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Stops on a checkpoint without weights, or whose weights are of another kind.

    Raises:
        CheckpointError: If it is one; names the part.
    """
    _stop_on(fault_in_weights(checkpoint), path)


def check_arguments(checkpoint: dict[str, Any], path: str | Path) -> None:
    """As `check_weights`, and stops where the arguments are missing that ours always hold.

    Raises:
        CheckpointError: If so; names the part.
    """
    check_weights(checkpoint, path)
    if "hyper_parameters" not in checkpoint:
        _stop_on("it lacks hyper_parameters, the arguments that its module was made with", path)


def check_training(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Stops on a checkpoint that training cannot go on from.

    Raises:
        CheckpointError: If it is one; names the part.
    """
    _stop_on(fault_in_training(checkpoint), path)


def _stop_on(fault: str | None, path: str | Path) -> None:
    if fault is not None:
        raise CheckpointError(f"{path}: is not a whole checkpoint: {fault}{_or(Path(path))}")


def class_path_of(checkpoint: dict[str, Any], path: str | Path) -> str:
    """The class that wrote a checkpoint.

    Raises:
        CheckpointError: If the checkpoint does not say.
    """
    identity = checkpoint.get(IDENTITY)
    if not isinstance(identity, dict) or "class_path" not in identity:
        fault = fault_in_weights(checkpoint)
        raise CheckpointError(
            f"{path}: was not written by a module of meddiff{f': {fault}' if fault else ''}"
        )
    return str(identity["class_path"])


def check_identity(checkpoint: dict[str, Any], expected: type, path: str | Path) -> None:
    """Stops on the checkpoint of another class.

    Raises:
        CheckpointError: If another wrote it; names that one and the one that was to read it.
    """
    written_by = class_path_of(checkpoint, path)
    if written_by != public_name(expected):
        check_not_earlier(checkpoint, [public_name(expected)], path)
        theirs, ours = _told_apart(written_by, [public_name(expected)])
        raise CheckpointError(
            f"{path}: was written by {theirs}, and the model given is {ours[0]}; "
            f"give a checkpoint of {ours[0]} or change model.class_path"
        )
    check_arguments(checkpoint, path)


def check_written_by(checkpoint: dict[str, Any], names: Sequence[str], path: str | Path) -> None:
    """Stops on a checkpoint that none of some classes wrote, to start from it.

    Args:
        checkpoint: The checkpoint.
        names: The classes, as `public_name` gives them.
        path: Its file, for the message.

    Raises:
        CheckpointError: If another wrote it; names that one and those that could have.
    """
    written_by = class_path_of(checkpoint, path)
    if written_by not in names:
        check_not_earlier(checkpoint, names, path)
        theirs, ours = _told_apart(written_by, names)
        raise CheckpointError(
            f"{path}: was written by {theirs}; "
            f"give a checkpoint of {' or '.join(ours)} as model.init_args.init_from"
        )
    check_arguments(checkpoint, path)


def check_not_earlier(checkpoint: dict[str, Any], names: Sequence[str], path: str | Path) -> None:
    """Stops on a checkpoint of an earlier state of this package, whose classes had other places."""
    identity = checkpoint[IDENTITY]
    written_by = str(identity["class_path"])
    places = {name.rpartition(".")[2]: name for name in names}
    now = places.get(written_by.rpartition(".")[2])
    if now is not None and written_by.split(".")[0] == now.split(".")[0] == PACKAGE:
        raise CheckpointError(
            f"{path}: was written by an earlier meddiff ({identity.get('version', 'unknown')}), "
            f"which had this class as {written_by}; this one, {version()}, does not read its "
            "checkpoints\nUse the version that wrote it, or fit again"
        )


def _told_apart(written_by: str, names: Sequence[str]) -> tuple[str, list[str]]:
    """Names of classes, short ones where these differ."""
    short = [name.rpartition(".")[2] for name in names]
    theirs = written_by.rpartition(".")[2]
    return (written_by, list(names)) if theirs in short else (theirs, short)


def _advice_on_run(directory: Path) -> str | None:
    """What to give in the place of the run of a test or a prediction; None for anything else."""
    try:
        record = json.loads((directory / "run.json").read_text())
        kind, checkpoint = str(record["subcommand"]), record.get("checkpoint")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if kind == "fit":
        return None
    of = f" on {checkpoint}" if checkpoint else ""
    return f"it is a run of {kind}{of}; give the run directory of the fit"
