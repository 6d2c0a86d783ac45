"""Whether a run is of the config that is asked for now."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from lightning_app.errors import UsageError
from lightning_app.record import read_record
from lightning_app.run_config import read_config
from lightning_app.total_batch import (
    ACCUMULATED,
    SIZE,
    TotalBatch,
    processes_of,
    recorded_processes,
)

# What may differ between a run and its continuation: its end, paths and hardware.
ASIDE = (
    "config",
    "ckpt_path",
    "resume",
    "run_root",
    "performance",
    "progress",
    "throughput",
    "data.init_args.root",
    "data.init_args.exclude_file",
    "data.init_args.cache",
    "data.init_args.num_workers",
    "trainer.accelerator",
    "trainer.default_root_dir",
    "trainer.devices",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.num_nodes",
    "trainer.strategy",
)


def difference(
    config: Mapping[str, Any],
    run: Path,
    record: Mapping[str, Any],
    given: Set[str] = frozenset(),
) -> str | None:
    """What of a run differs from the config that is asked for, in words; None if it is the same.

    On another number of processes batches and accumulation may differ too, as long as they come to
    as many images a step. A key that the run's config lacks is of a later version, and differs only
    where it was given.

    Args:
        config: The resolved config.
        run: The run directory.
        record: Its record.
        given: The keys that were given now, by options or in files.

    Raises:
        UsageError: If the config of the run is damaged.
    """
    theirs = read_config(run)
    before, now = _batch(theirs, recorded_processes(record)), batch_of(config)
    aside: tuple[str, ...] = ASIDE
    found: list[str] = []
    if before is not None and now is not None and before.processes != now.processes:
        aside = (*ASIDE, SIZE, ACCUMULATED)
        if before.images != now.images:
            found.append(f"the images of a step, {before} before and {now} now")
    found += [
        key
        for key in differences(comparable(config, aside), comparable(theirs, aside))
        if _has(theirs, key) or _is_given(key, given)
    ]
    return ", ".join(found[:5]) or None


def _has(config: Mapping[str, Any], key: str) -> bool:
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _is_given(key: str, given: Set[str]) -> bool:
    """Whether a key was given, or its section, or a key in it."""
    return any(
        f"{name}.".startswith(f"{key}.") or f"{key}.".startswith(f"{name}.") for name in given
    )


def batch_of(config: Mapping[str, Any]) -> TotalBatch | None:
    """What makes a step of the config that is asked for; None where only the Trainer can tell."""
    return _batch(config, processes_of(config["trainer"]))


def batch_of_run(directory: Path) -> TotalBatch | None:
    """What made a step in the last launch of a run; None where that is not known."""
    try:
        return _batch(read_config(directory), recorded_processes(read_record(directory)))
    except UsageError:
        return None


def _batch(config: Mapping[str, Any], processes: int | None) -> TotalBatch | None:
    return None if processes is None else TotalBatch.of_config(config, processes)


def comparable(config: Mapping[str, Any], aside: tuple[str, ...] = ASIDE) -> dict[str, Any]:
    """A resolved config without what may differ between a run and its continuation."""
    kept = copy.deepcopy(dict(config))
    for key in aside:
        *parents, leaf = key.split(".")
        branch: Any = kept
        for parent in parents:
            branch = branch.get(parent) if isinstance(branch, dict) else None
        if isinstance(branch, dict):
            branch.pop(leaf, None)
    return kept


def differences(one: Any, other: Any, prefix: str = "") -> list[str]:
    """The keys whose values differ."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [prefix]
    keys = [*one, *(key for key in other if key not in one)]
    return [
        found
        for key in keys
        for found in differences(
            one.get(key), other.get(key), f"{prefix}.{key}" if prefix else str(key)
        )
    ]
