"""The checkpoint or run that a command names: looked for first, and the config that it brings."""

from pathlib import Path
from typing import Any

from lightning_app.behind import Start, find_start
from lightning_app.config_files import Given, read_given
from lightning_app.errors import UsageError, did_you_mean
from lightning_app.home import expand
from lightning_app.paths import check_path
from lightning_app.run_config import config_file_of, read_config
from lightning_app.run_directory import is_run_directory
from meddiff.core.checkpoint import find_checkpoint

CHECKPOINT, RESUME = "ckpt_path", "resume"


def with_run_config(given: Given) -> Given:
    """What was given, and where that is no config the one of the run that was named.

    Raises:
        UsageError: If a checkpoint or run was named that is not there, or holds no config.
    """
    run = resumed_run(given)
    named = _named(given, CHECKPOINT)
    if named is not None:
        start = find_start(Path(named), given.place(CHECKPOINT))
        run = run or start.run
    if given.files or run is None:
        return given
    read_config(run)  # says how to mend a damaged one
    subcommand, *rest = given.args
    return read_given([subcommand, "--config", str(config_file_of(run)), *rest])


def resumed_run(given: Given) -> Path | None:
    """The run directory that `--resume` names; None for `auto` and where it is not given.

    Raises:
        UsageError: If it is none.
    """
    named = _named(given, RESUME)
    if named is None or named == "auto":
        return None
    run, option = Path(named), given.place(RESUME)
    if is_run_directory(run):
        return run
    if run.exists():
        raise UsageError(f"{option} {named}: is no run directory (it has no run.json)")
    beside = [path.name for path in run.parent.iterdir()] if run.parent.is_dir() else []
    near = did_you_mean(named, ["auto"]) or did_you_mean(run.name, beside)
    raise UsageError(f"{option} {named}: is no run directory, there is nothing{near}")


def checkpoint_of(start: Start, subcommand: str) -> Path:
    """The checkpoint file that a subcommand takes.

    A fit goes on from the last one of a run, everything else takes the best; behind a test or a
    prediction it is the one that was tested.

    Raises:
        CheckpointError: If there is none.
    """
    prefer = ("last", "best") if subcommand == "fit" else ("best", "last")
    fit_behind = start.through and start.run not in (None, start.through[-1])
    if subcommand == "fit" and fit_behind:
        return find_checkpoint(str(start.run), prefer)
    return find_checkpoint(start.checkpoint, prefer)


def check_of_run(start: Start, resume: str) -> None:
    """Stops where a run is to go on from a checkpoint of another one.

    Args:
        start: What `--ckpt_path` names.
        resume: What `--resume` names.

    Raises:
        UsageError: If so.
    """
    if resume == "auto" or start.run is None or start.run.resolve() != Path(resume).resolve():
        raise UsageError(
            "--ckpt_path and --resume: give one of them, or a run directory as --resume and one of "
            "its own checkpoints as --ckpt_path"
        )


def _named(given: Given, key: str) -> str | None:
    """A path that was given, or None; `null` takes back what an earlier file says."""
    value: Any = given.option(key)
    if value is None:
        value = next((content[key] for content in reversed(given.contents) if key in content), None)
    if value in (None, "null"):
        return None
    check_path(given.place(key), str(value))
    return expand(str(value))
