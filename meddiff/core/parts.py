"""What a checkpoint is made of: which part is missing, or is of another kind than it has to be."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_OF_TRAINING: dict[str, tuple[type, str]] = {
    "pytorch-lightning_version": (str, "a text"),
    "global_step": (int, "a number of steps"),
    "epoch": (int, "a number of epochs"),
    "callbacks": (dict, "the states of callbacks"),
    "loops": (dict, "the counters of loops"),
    "optimizer_states": (list, "a list of the optimisers' states"),
    "lr_schedulers": (list, "a list of the schedules' states"),
}
"""What Lightning restores for training to go on, beside the weights."""

_COUNTERS = ("ready", "started", "processed", "completed")
_SHOWN = 4
_VERSION = re.compile(r"\d+\.\d+")


def fault_in_weights(checkpoint: Mapping[str, Any]) -> str | None:
    """What is wrong with the weights of a checkpoint and the arguments beside them, or None."""
    if "state_dict" not in checkpoint:
        return f"it lacks state_dict, the weights; {_told(checkpoint)}"
    state = checkpoint["state_dict"]
    if not isinstance(state, Mapping):
        return f"its state_dict is a {type(state).__name__}, not weights by name"
    for name, value in state.items():
        if not isinstance(name, str):
            return f"its state_dict has the key {name!r}, which is no name"
        # What a module keeps by `get_extra_state` may be of any kind.
        if not (isinstance(value, Tensor) or name.endswith("_extra_state")):
            return f"its state_dict holds a {type(value).__name__} as {name}, not a tensor"
        if isinstance(value, Tensor) and value.is_floating_point() and bool(value.isnan().any()):
            return f"its weights {name} are not finite"
    arguments = checkpoint.get("hyper_parameters", {})
    if not isinstance(arguments, Mapping):
        return f"its hyper_parameters are a {type(arguments).__name__}, not arguments by name"
    return None


def fault_in_training(checkpoint: Mapping[str, Any]) -> str | None:
    """What keeps training from going on from a checkpoint, beside its weights, or None."""
    lacking = [key for key in _OF_TRAINING if key not in checkpoint]
    if lacking:
        return f"it lacks {', '.join(lacking)}, without which training cannot go on"
    for key, (kind, words) in _OF_TRAINING.items():
        value = checkpoint[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            return f"its {key} is a {type(value).__name__}, not {words}"
    for key in ("global_step", "epoch"):
        if checkpoint[key] < 0:
            return f"its {key} is {checkpoint[key]}, less than 0"
    if not _VERSION.match(checkpoint["pytorch-lightning_version"]):
        return "its pytorch-lightning_version is no version"
    if checkpoint["global_step"] > 0 and not checkpoint["optimizer_states"]:
        return "its optimizer_states are empty"
    for number, state in enumerate(checkpoint["optimizer_states"]):
        fault = _fault_in_optimizer(state)
        if fault is not None:
            return f"its optimizer_states[{number}] {fault}"
    return _fault_in_loops(checkpoint["loops"])


def _fault_in_optimizer(state: Any) -> str | None:
    if not isinstance(state, Mapping):
        return f"is a {type(state).__name__}, not the state of an optimiser"
    for key, kind in (("state", Mapping), ("param_groups", list)):
        if not isinstance(state.get(key), kind):
            return f"lacks {key}, or has another kind there"
    groups = state["param_groups"]
    if not all(isinstance(group, Mapping) and "params" in group for group in groups):
        return "has parameter groups without params"
    return None


def _fault_in_loops(loops: Mapping[str, Any]) -> str | None:
    fit = loops.get("fit_loop")
    if not isinstance(fit, Mapping):
        return "its loops lack fit_loop: it is of no training"
    progress = fit.get("epoch_loop.batch_progress")
    for span in ("total", "current"):
        counts = progress.get(span) if isinstance(progress, Mapping) else None
        if not isinstance(counts, Mapping) or not all(
            isinstance(counts.get(key), int) and counts[key] >= 0 for key in _COUNTERS
        ):
            return f"its loops lack the count of batches ({span})"
    return None


def _told(checkpoint: Mapping[str, Any]) -> str:
    """What a dictionary holds, in a few words."""
    if not checkpoint:
        return "it is empty"
    if all(isinstance(value, Tensor) for value in checkpoint.values()):
        return "it is a state dict of tensors alone, as other libraries save their weights"
    names = [str(key)[:40] for key in checkpoint]
    return f"it holds {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
