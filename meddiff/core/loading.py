"""Loading a finished run from Python."""

import importlib
from pathlib import Path

import torch
from lightning.pytorch import LightningModule

from meddiff.core.checkpoint import (
    IDENTITY,
    PACKAGE,
    CheckpointError,
    check_arguments,
    check_not_earlier,
    class_path_of,
    find_checkpoint,
    init_arguments,
    public_name,
    read_checkpoint,
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
        for kind in vars(importlib.import_module(PACKAGE)).values()
        if isinstance(kind, type) and issubclass(kind, LightningModule)
    }
    if class_path not in known:
        check_not_earlier(checkpoint, list(known), file)
        raise CheckpointError(f"{file}: {class_path} is not a module of this meddiff")
    check_arguments(checkpoint, file)
    arguments = {
        key: value
        for key, value in checkpoint["hyper_parameters"].items()
        if key not in {"_class_path", "_instantiator"}
    }
    if init_from is not None:
        arguments["init_from"] = str(init_from)
    unknown = sorted(arguments.keys() - init_arguments(known[class_path]))
    if unknown:
        version = checkpoint[IDENTITY].get("version", "unknown")
        raise CheckpointError(
            f"{file}: was written by meddiff {version}, whose "
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
