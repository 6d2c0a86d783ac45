"""What a checkpoint may say, and what it may not."""

from collections.abc import Set
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from meddiff.core.checkpoint import CheckpointError
from meddiff.core.portable import is_name

RATE_NAMES = ("learning_rate", "lr")


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
