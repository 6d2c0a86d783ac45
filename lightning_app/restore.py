"""What a checkpoint may say, and what it may not."""

import traceback
from collections.abc import Iterator, Set
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from lightning_app.config_files import LINKED
from lightning_app.errors import UsageError, describe
from lightning_app.parser import class_named
from meddiff.core.checkpoint import (
    CheckpointError,
    check_identity,
    check_training,
    check_weights,
    read_checkpoint,
)
from meddiff.core.portable import is_name, without_paths

RATE_NAMES = ("learning_rate", "lr")


def read_for(subcommand: str, class_path: str, path: Path) -> dict[str, Any]:
    """Reads a checkpoint that the module at hand could have written, with all that is needed.

    Args:
        subcommand: A fit needs more than the weights.
        class_path: The class of the model.
        path: The file.

    Raises:
        CheckpointError: If another module wrote it, or a part is missing or of another kind.
    """
    checkpoint = read_checkpoint(path)
    kind = class_named(class_path, LightningModule)
    if kind is not None and class_path.split(".")[0] == "meddiff":
        check_identity(checkpoint, kind, path)
    check_weights(checkpoint, path)
    if subcommand == "fit":
        check_training(checkpoint, path)
    return checkpoint


def remembered_config(
    checkpoint: dict[str, Any], class_path: str, accepted: Set[str], explicit_preset: str | None
) -> dict[str, Any]:
    """The arguments of the model that a checkpoint was made with.

    A preset stands for many arguments: where another one is given now, what the checkpoint
    remembers of them does not count.

    Args:
        checkpoint: The checkpoint.
        class_path: The class of the model.
        accepted: Arguments of that class.
        explicit_preset: The preset that was given now, if any.
    """
    remembered = dict(checkpoint.get("hyper_parameters", {}))
    if explicit_preset is not None and remembered.get("preset", explicit_preset) != explicit_preset:
        return {}
    arguments = {key: value for key, value in remembered.items() if key in accepted}
    return {"class_path": class_path, "init_args": arguments}


def check_arguments(module: LightningModule) -> None:
    """Stops a fit whose checkpoints would be refused when they are read.

    Raises:
        UsageError: If an argument is kept that is not of plain values and tensors; names it.
    """
    for name, value in module.hparams.items():
        file = BytesIO()
        try:
            torch.save(without_paths({"hyper_parameters": {name: value}}, Path()), file)
            file.seek(0)
            torch.load(file, weights_only=True)
        except Exception as error:
            # Whatever pickle met in an object of a user's own.
            raise UsageError(
                f"model.init_args.{name}: is of {type(value).__name__}, which a checkpoint cannot "
                "hold: tensors and plain values alone are read from one\n"
                f"Leave it out in the module: self.save_hyperparameters(ignore=[{name!r}])"
            ) from error


def lowest_config(remembered: dict[str, Any], data: Namespace) -> dict[str, Any]:
    """What a checkpoint remembers, as a config under all that was given.

    Args:
        remembered: Its model, as `remembered_config` gives it; loses what comes from other keys.
        data: The section `data` now asked for.
    """
    arguments = remembered.get("init_args", {})
    linked = {key: arguments.pop(key) for key in LINKED if key in arguments}
    seed = linked.pop("seed", None)
    taken = {key: value for key, value in linked.items() if key in data["init_args"]}
    lowest: dict[str, Any] = {"data": {"class_path": data["class_path"], "init_args": taken}}
    if remembered:
        lowest["model"] = remembered
    if seed is not None:
        lowest["seed_everything"] = seed
    return lowest


def check_network(checkpoint: dict[str, Any], module: LightningModule, path: str) -> None:
    """Stops on weights that do not fit the network, before any data is read.

    Raises:
        CheckpointError: If they do not; names the first tensor, and the arguments that differ.
    """
    saved = checkpoint.get("state_dict", {})
    own = module.state_dict()
    wrong = [
        f"{name} is {tuple(saved[name].shape)} there and {tuple(tensor.shape)} here"
        for name, tensor in own.items()
        if name in saved and saved[name].shape != tensor.shape
    ]
    if module.strict_loading:
        wrong += [f"{name} is missing there" for name in own if name not in saved]
        wrong += [f"{name} is only there" for name in saved if name not in own]
    if not wrong:
        return
    remembered = checkpoint.get("hyper_parameters", {})
    differing = [
        f"{key} {remembered[key]!r} there, {value!r} here"
        for key, value in module.hparams.items()
        if key in remembered and remembered[key] != value and not is_name(str(remembered[key]))
    ]
    more = f"\nArguments that differ: {'; '.join(differing)}" if differing else ""
    raise CheckpointError(
        f"{path}: its network is another one: {wrong[0]}"
        f"{f', and {len(wrong) - 1} more tensors' if len(wrong) > 1 else ''}{more}\n"
        "Give the arguments that the checkpoint was made with, or its run directory as --ckpt_path"
    )


@contextmanager
def restoring(path: Path | None) -> Iterator[None]:
    """Turns what Lightning and torch make of a checkpoint with odd parts into an error of its file.

    Args:
        path: The checkpoint, if any.

    Raises:
        CheckpointError: If restoring it fails inside of them.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        inside = any(Path(frame.filename).name == "checkpoint_connector.py" for frame in frames)
        if path is None or not inside or describe(error) is not None:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: cannot be restored, a part of it is damaged or of another kind "
            f"({type(error).__name__}: {reason})"
        ) from error


class WholeCounters(Callback):
    """Stops on a checkpoint whose loops do not count what these loops do."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Compares the state of the loops with that of the new ones, key by key.

        Raises:
            CheckpointError: If a key is missing or of another kind; names it.
        """
        if trainer.state.fn != TrainerFn.FITTING:
            return
        odd = _odd_key(trainer.fit_loop.state_dict(), checkpoint["loops"]["fit_loop"], "fit_loop")
        if odd is not None:
            raise CheckpointError(
                f"{self._path}: is not a whole checkpoint: its loops lack {odd}, or have another "
                "kind of value there"
            )


def _odd_key(expected: Any, found: Any, name: str) -> str | None:
    if isinstance(expected, dict) and isinstance(found, dict):
        odd = (_odd_key(value, found.get(key), f"{name}.{key}") for key, value in expected.items())
        return next((key for key in odd if key is not None), None)
    counts = type(expected) is int and type(found) is int
    fits = found >= 0 if counts else type(expected) is type(found)
    return None if fits else name


class GivenLearningRate(Callback):
    """Continues with the learning rate that was given, not with the one in the checkpoint.

    A restored optimiser and a restored schedule hold the rate of the checkpoint, whatever the
    module's argument says. The saved rates are scaled by the ratio of the two arguments before
    they are restored, so that a schedule keeps its shape.
    """

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Scales the rates in the checkpoint in memory, where they differ."""
        remembered = checkpoint.get("hyper_parameters", {})
        for name in RATE_NAMES:
            old, new = remembered.get(name), pl_module.hparams.get(name)
            if not (isinstance(old, float) and isinstance(new, float)) or old in (0.0, new):
                continue
            rank_zero_info(
                f"{name}: {new:g} was given, the checkpoint has {old:g}; {new:g} is used"
            )
            for optimizer in checkpoint.get("optimizer_states", []):
                for group in optimizer["param_groups"]:
                    for key in ("lr", "initial_lr"):
                        if key in group:
                            group[key] = group[key] * (new / old)
            for schedule in checkpoint.get("lr_schedulers", []):
                for key in ("base_lrs", "_last_lr"):
                    if key in schedule:
                        schedule[key] = [rate * (new / old) for rate in schedule[key]]
            return
