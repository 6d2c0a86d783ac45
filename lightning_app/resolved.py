"""What the keys of a config that are null stand for: as comments behind them, and as values.

A config keeps its nulls: a value in their place would beat a preset that is laid over the file.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.optim import Optimizer

from data_modules.kinds.base import DataModule
from lightning_app.config_files import LINKED
from lightning_app.trainer_settings import defaults_for
from meddiff.core.module import MedDiffModule


@dataclass(frozen=True)
class Used:
    """What is used for a key.

    Args:
        value: A plain value.
        origin: Where it comes from: `preset small`, `default`, `used` where it replaces another.
    """

    value: Any
    origin: str


def used_for_nulls(config: Mapping[str, Any], kinds: Mapping[str, type | None]) -> dict[str, Used]:
    """What the null keys of a config stand for, as far as the classes alone tell.

    Args:
        config: A config as plain values.
        kinds: The classes of `model` and `data`, where there are such.

    Returns:
        By dotted key.
    """
    found: dict[str, Used] = {}
    model, data, trainer = kinds.get("model"), kinds.get("data"), config.get("trainer")
    if model is not None and issubclass(model, MedDiffModule):
        given = _arguments(config, "model") | _linked(config)
        found |= _of_model(given, model.filled(given), model.preset_table(given))
    root_given = _arguments(config, "data").get("root", "elsewhere")
    if data is not None and issubclass(data, DataModule) and root_given is None:
        found["data.init_args.root"] = Used(str(data.default_root()), "default")
    for key, value in defaults_for(trainer if isinstance(trainer, dict) else {}).items():
        found[f"trainer.{key}"] = Used(value, "default")
    return found


def as_used(
    text: str,
    module: LightningModule,
    datamodule: LightningDataModule,
    fitted: Mapping[str, Any],
) -> tuple[str, dict[str, Any]]:
    """A run's config, with what takes the objects themselves to tell.

    Args:
        text: The config, with what is used for its nulls as far as the classes tell.
        module: The module of the run, whose hyper-parameters may fill arguments.
        datamodule: Its data module, likewise.
        fitted: Settings of the Trainer, fitted to the module.

    Returns:
        The text with these comments too, and the config with the values in their places.
    """
    config: dict[str, Any] = yaml.safe_load(text)
    used = used_for_nulls(config, {"model": type(module), "data": type(datamodule)})
    told: dict[str, Used] = {}
    for section, holder in (("model", module), ("data", datamodule)):
        for key, value in _arguments(config, section).items():
            filled = holder.hparams.get(key)
            if value is None and filled is not None and _is_plain(filled):
                told[f"{section}.init_args.{key}"] = Used(filled, "default")
    for key, value in fitted.items():
        if value not in (config["trainer"].get(key), None):
            told[f"trainer.{key}"] = Used(value, "used")
    told = {key: item for key, item in told.items() if key not in used}
    values = with_values(config, used | told)
    linked = {key: value for key, value in _linked(config).items() if key in module.hparams}
    values["model"].setdefault("init_args", {}).update(linked)
    return annotated(text, told), values


def trainer_values(trainer: Trainer) -> dict[str, Any]:
    """What the Trainer has come to, where a config may say `auto` or nothing."""
    return {
        "accelerator": trainer.accelerator.name(),
        "devices": trainer.num_devices,
        "strategy": type(trainer.strategy).__name__,
        "precision": trainer.precision,
        "max_epochs": trainer.max_epochs,
        "max_steps": trainer.max_steps,
        "limit_train_batches": trainer.limit_train_batches,
        "limit_val_batches": trainer.limit_val_batches,
        "limit_test_batches": trainer.limit_test_batches,
        "limit_predict_batches": trainer.limit_predict_batches,
        "num_sanity_val_steps": trainer.num_sanity_val_steps,
        "val_check_interval": trainer.val_check_interval,
        "check_val_every_n_epoch": trainer.check_val_every_n_epoch,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
    }


def optimizer_values(optimizer: Optimizer) -> dict[str, Any]:
    """The class and settings of an optimiser, those of its groups in a list where they differ.

    The rate is the one that a schedule begins from.
    """
    groups = [_group_values(group) for group in optimizer.param_groups]
    same = groups[:1] if all(group == groups[0] for group in groups) else []
    name = {"class": type(optimizer).__name__}
    return name | same[0] if same else name | {"groups": groups}


def _group_values(group: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in group.items() if key not in ("params", "initial_lr")}
    kept["lr"] = group.get("initial_lr", group.get("lr"))
    return {key: value for key, value in kept.items() if _is_plain(value)}


def annotated(text: str, used: Mapping[str, Used]) -> str:
    """A config in YAML with what is used as comments behind its keys.

    Args:
        text: YAML whose values of these keys take one line each.
        used: By dotted key; one that is not in the text is left out.
    """
    tree = yaml.compose(text, Loader=yaml.SafeLoader)
    lines = text.splitlines()
    for key, node in _scalars(tree, ""):
        if key in used:
            comment = f"  # {used[key].origin}: {_shown(used[key].value)}"
            lines[node.end_mark.line] += comment
    return "".join(f"{line}\n" for line in lines)


def with_values(config: Mapping[str, Any], used: Mapping[str, Used]) -> dict[str, Any]:
    """A copy of a config with what is used in the place of its nulls."""
    values: dict[str, Any] = copy.deepcopy(dict(config))
    for key, item in used.items():
        *parents, leaf = key.split(".")
        branch: Any = values
        for parent in parents:
            branch = branch.get(parent) if isinstance(branch, dict) else None
        if isinstance(branch, dict) and leaf in branch:
            branch[leaf] = item.value
    return values


def _of_model(
    given: Mapping[str, Any], filled: Mapping[str, Any], table: Mapping[str, Mapping[str, Any]]
) -> dict[str, Used]:
    preset = str(given.get("preset"))
    return {
        f"model.init_args.{key}": Used(
            filled[key], f"preset {preset}" if key in table.get(preset, {}) else "default"
        )
        for key, value in given.items()
        if value is None and filled.get(key) is not None
    }


def _arguments(config: Mapping[str, Any], section: str) -> dict[str, Any]:
    part = config.get(section)
    arguments = part.get("init_args") if isinstance(part, Mapping) else None
    return dict(arguments) if isinstance(arguments, Mapping) else {}


def _linked(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the model that other keys hold, where those have a value."""
    found: dict[str, Any] = {}
    for argument, source in LINKED.items():
        value: Any = config
        for key in source.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            found[argument] = value
    return found


def _scalars(node: Any, prefix: str) -> list[tuple[str, yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        return [(prefix, node)]
    if not isinstance(node, yaml.MappingNode):
        return []
    return [
        found
        for key, value in node.value
        for found in _scalars(value, f"{prefix}.{key.value}" if prefix else str(key.value))
    ]


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)
