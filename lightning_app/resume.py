"""`--resume auto`: which run goes on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from lightning_app.errors import UsageError
from lightning_app.lock import holder_of
from lightning_app.process import Launch
from lightning_app.record import read_record
from lightning_app.run_directory import is_run_directory, read_config

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


@dataclass(frozen=True)
class Limits:
    """Where a fit ends; -1 is never.

    Args:
        steps: `trainer.max_steps`.
        epochs: `trainer.max_epochs`.
    """

    steps: int
    epochs: int

    @classmethod
    def of(cls, config: dict[str, Any]) -> Limits:
        """The limits that a resolved config asks for."""
        trainer = config["trainer"]
        steps, epochs = trainer.get("max_steps", -1), trainer.get("max_epochs")
        if epochs is None:
            epochs = -1 if steps != -1 else 1000  # the default of Lightning
        return cls(steps, epochs)

    def beyond(self, other: Limits) -> bool:
        """Whether either limit lies further than the other's."""

        def further(mine: int, theirs: int) -> bool:
            return theirs != -1 and (mine == -1 or mine > theirs)

        return further(self.steps, other.steps) or further(self.epochs, other.epochs)


def last_checkpoint(directory: Path) -> Path | None:
    """The newest state of a run, or None where it has none yet."""
    path = directory / "checkpoints" / "last.ckpt"
    return path if path.is_file() else None


def is_finished(directory: Path, limits: Limits) -> bool:
    """Whether a run has come to its end, and that lies not before the limits now asked for.

    One that was stopped between its last batch and its end lacks the figures that it ends with.
    """
    record = read_record(directory)
    if record.get("state") != "finished":
        return False
    return record.get("subcommand") != "fit" or not limits.beyond(Limits(**record["limits"]))


def choose_run(
    parent: Path, subcommand: str, config: dict[str, Any], launch: Launch
) -> tuple[Path | None, bool]:
    """The newest unfinished run of the same config and seed that no live process holds.

    Args:
        parent: The folder of the runs of one config name.
        subcommand: Only runs of this one.
        config: The resolved config now asked for.
        launch: The launch that this process belongs to.

    Returns:
        The run's directory, or None; and whether there are runs of this config at all.
    """
    records = dict(_records_in(parent))
    runs = [path for path, record in records.items() if record.get("subcommand") == subcommand]
    runs.sort(key=lambda path: str(records[path].get("started")), reverse=True)
    wanted = comparable(config)
    same = [path for path in runs if comparable(read_config(path)) == wanted]
    if runs and not same:
        differing = ", ".join(differences(wanted, comparable(read_config(runs[0])))[:5])
        rank_zero_info(f"resume: the newest run, {runs[0]}, differs in {differing}")
    limits = Limits.of(config)
    for path in same:
        holder = holder_of(path, launch)
        if is_finished(path, limits):
            rank_zero_info(f"resume: {path} is finished")
        elif holder is not None:
            rank_zero_info(f"resume: {path} is held by {holder}")
        else:
            return path, True
    return None, bool(same)


def _records_in(parent: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in parent.glob("*"):
        if is_run_directory(path):
            try:
                yield path, read_record(path)
            except UsageError as error:
                rank_zero_info(f"resume: {error}; it is left aside")


def run_to_resume(
    asked: str, parent: Path, subcommand: str, config: dict[str, Any], launch: Launch
) -> Path | None:
    """The run directory to continue in, or None where a new run begins.

    Args:
        asked: `auto`, or a run directory.
        parent: The folder of the runs of this config name.
        subcommand: What is done.
        config: The resolved config now asked for.
        launch: The launch that this process belongs to.

    Raises:
        UsageError: If the directory that was named cannot be continued.
        SystemExit: If there is nothing left to do, with 0.
    """
    if asked == "auto":
        found, known = choose_run(parent, subcommand, config, launch)
        if found is None and known:
            rank_zero_info("resume: no run of this config is unfinished; nothing to do")
            raise SystemExit(0)
        if found is None:
            rank_zero_info(f"resume: no run of this config in {parent}; a new one begins")
        return found
    directory = Path(asked)
    check_resumable(directory, subcommand, launch)
    if is_finished(directory, Limits.of(config)):
        rank_zero_info(f"resume: {directory} is finished; raise trainer.max_steps to extend it")
        raise SystemExit(0)
    return directory


def check_resumable(directory: Path, subcommand: str, launch: Launch) -> None:
    """Checks a run directory that was named.

    Raises:
        UsageError: If it is no run of this subcommand, or a live process holds it.
    """
    if not is_run_directory(directory):
        raise UsageError(f"--resume {directory}: is no run directory (it has no run.json)")
    recorded = read_record(directory).get("subcommand")
    if recorded != subcommand:
        raise UsageError(f"--resume {directory}: is a run of {recorded}, not of {subcommand}")
    holder = holder_of(directory, launch)
    if holder is not None:
        raise UsageError(f"--resume {directory}: held by {holder}; wait for it or end it")


def comparable(config: dict[str, Any]) -> dict[str, Any]:
    """A resolved config without what may differ between a run and its continuation."""
    kept = copy.deepcopy(config)
    for key in ASIDE:
        *parents, leaf = key.split(".")
        branch: Any = kept
        for parent in parents:
            branch = branch.get(parent) or {}
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
