"""Reading the checkpoints of earlier runs, safely and with errors that name the file."""

import importlib
import json
import pickle
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule

from meddiff.core.portable import is_name, with_paths

_PACKAGE = "meddiff"

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
        return installed_version(_PACKAGE)
    except PackageNotFoundError:
        return "0+unknown"


def public_name(kind: type) -> str:
    """The name that a class goes by in checkpoints: `meddiff.<Name>` for one of ours.

    It does not tell the file, so that a class can move to another one. A user's own class keeps its
    module.
    """
    ours = kind.__module__.split(".")[0] == _PACKAGE
    return f"{_PACKAGE if ours else kind.__module__}.{kind.__qualname__}"


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
        if candidate.is_file():
            return candidate
    wanted = " or ".join(f"checkpoints/{name}.ckpt" for name in prefer)
    raise CheckpointError(
        f"{path}: holds no {wanted}; "
        + (_advice_on_run(path) or "give a checkpoint file or the run directory of a fit")
    )


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint without running any code that it may hold.

    Raises:
        CheckpointError: If the file is not a checkpoint, is cut short, or holds objects other
            than tensors and plain values.
    """
    path = Path(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = _first_line_with(str(error), "Unsupported", "GLOBAL", "Weights only")
        raise CheckpointError(
            f"{path}: refused, it is not a file of tensors and plain values ({reason}). "
            "Loading it could run code; there is no unsafe fallback. "
            "Use a checkpoint that meddiff wrote, or a state dict saved with torch.save"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: cannot be read, it is damaged or cut short ({reason})"
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{path}: holds a {type(checkpoint).__name__}, not a checkpoint")
    found: dict[str, Any] = with_paths(checkpoint, path)
    return found


def class_path_of(checkpoint: dict[str, Any], path: str | Path) -> str:
    """The class that wrote a checkpoint.

    Raises:
        CheckpointError: If the checkpoint does not say.
    """
    identity = checkpoint.get(IDENTITY)
    if not isinstance(identity, dict) or "class_path" not in identity:
        raise CheckpointError(f"{path}: was not written by a module of meddiff")
    return str(identity["class_path"])


def check_identity(checkpoint: dict[str, Any], expected: type, path: str | Path) -> None:
    """Stops on the checkpoint of another class.

    Raises:
        CheckpointError: If another wrote it; names that one and the one that was to read it.
    """
    written_by = class_path_of(checkpoint, path)
    if written_by != public_name(expected):
        _check_not_earlier(checkpoint, [public_name(expected)], path)
        theirs, ours = _told_apart(written_by, [public_name(expected)])
        raise CheckpointError(
            f"{path}: was written by {theirs}, and the model given is {ours[0]}; "
            f"give a checkpoint of {ours[0]} or change model.class_path"
        )


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
        _check_not_earlier(checkpoint, names, path)
        theirs, ours = _told_apart(written_by, names)
        raise CheckpointError(
            f"{path}: was written by {theirs}; "
            f"give a checkpoint of {' or '.join(ours)} as model.init_args.init_from"
        )


def load(
    path: str | Path,
    map_location: str | torch.device = "cpu",
    *,
    init_from: str | Path | None = None,
) -> LightningModule:
    """Loads a finished run, ready for `sample`, `segment` and the like.

    The weights are those to use: of the best checkpoint where the run kept one, else of the last,
    and averaged ones where EMA was on.

    Args:
        path: A run directory or a checkpoint.
        map_location: Where the weights go.
        init_from: The run directory or checkpoint that it started from, for a module that needs it
            again (`LEDMModule`) and does not find it where it was.

    Returns:
        The module in evaluation mode.

    Raises:
        CheckpointError: If there is no checkpoint, or it does not fit this version's modules.
    """
    file = find_checkpoint(path)
    checkpoint = read_checkpoint(file)
    class_path = class_path_of(checkpoint, file)
    # Only our own classes: a checkpoint must not name what is imported. By importlib, since the
    # methods stand on this module and not the other way round.
    known = {
        public_name(kind): kind
        for kind in vars(importlib.import_module(_PACKAGE)).values()
        if isinstance(kind, type) and issubclass(kind, LightningModule)
    }
    if class_path not in known:
        _check_not_earlier(checkpoint, list(known), file)
        raise CheckpointError(f"{file}: {class_path} is not a module of this meddiff")
    arguments = {
        key: value
        for key, value in checkpoint["hyper_parameters"].items()
        if key not in {"_class_path", "_instantiator"}
    }
    if init_from is not None:
        arguments["init_from"] = str(init_from)
    unknown = sorted(arguments.keys() - init_arguments(known[class_path]))
    if unknown:
        raise CheckpointError(
            f"{file}: was written by meddiff {checkpoint[IDENTITY]['version']}, whose "
            f"{known[class_path].__name__} took {', '.join(unknown)}; this one does not"
        )
    module: LightningModule = known[class_path](**arguments)
    # As Lightning does: a module may bring weights that its checkpoints leave out.
    module.on_load_checkpoint(checkpoint)
    try:
        module.load_state_dict(checkpoint["state_dict"], strict=module.strict_loading)
    except RuntimeError as error:
        raise CheckpointError(f"{file}: {error}") from error
    return module.to(map_location).eval()


def _check_not_earlier(checkpoint: dict[str, Any], names: Sequence[str], path: str | Path) -> None:
    """Stops on a checkpoint of an earlier state of this package, whose classes had other places."""
    identity = checkpoint[IDENTITY]
    written_by = str(identity["class_path"])
    places = {name.rpartition(".")[2]: name for name in names}
    now = places.get(written_by.rpartition(".")[2])
    if now is not None and written_by.split(".")[0] == now.split(".")[0] == _PACKAGE:
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


def _first_line_with(text: str, *words: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if any(word in line for word in words)), lines[0])
