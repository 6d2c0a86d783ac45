"""Checkpoints without the paths of the machine that wrote them.

A start is kept as its name and a hash of its content, `20260101-120000@sha256:0123456789abcdef`;
what lies in the run directory, or beside it, as a path from there, `<run>/checkpoints/best.ckpt`.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

import yaml
from lightning.pytorch import Trainer

RUN = "<run>"
"""Stands in a checkpoint for the directory of the run that wrote it."""

_NAMED = re.compile(r"[^/\\]+@sha256:[0-9a-f]{16}")
_UP = 2  # from `runs/<config name>/<time>` to `runs`
_ARGUMENTS = "hyper_parameters"
# What Lightning keeps of a data module's arguments: the root and whatever else names the data.
_OF_DATA = ("datamodule_hyper_parameters", "datamodule_hparams_name", "datamodule_hparams_type")


def is_name(text: str) -> bool:
    """Whether a text is what a checkpoint keeps of a start, and no path."""
    return _NAMED.fullmatch(text) is not None


def name_of(file: Path) -> str:
    """What a checkpoint keeps of a start: the name of its run or file, and a hash of its content.

    Args:
        file: A file of weights; in `checkpoints/` of a run it goes by the directory's name.
    """
    place, now = file.resolve(), file.stat()
    name = place.parent.parent.name if place.parent.name == "checkpoints" else place.name
    return f"{name}@sha256:{_digest(place, now.st_mtime_ns, now.st_size)}"


@lru_cache(maxsize=8)
def _digest(file: Path, changed: int, size: int) -> str:
    """A hash of a file's content, read again only where the file is another one."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]


def run_of(file: Path) -> Path:
    """The run directory that a checkpoint lies in, or the folder of one that lies in none."""
    folder = file.absolute().parent
    return folder.parent if folder.name == "checkpoints" else folder


def run_of_trainer(trainer: Trainer) -> Path:
    """The run directory that a trainer's checkpoints will lie in."""
    root = Path(trainer.default_root_dir)
    folders = [getattr(callback, "dirpath", None) for callback in trainer.checkpoint_callbacks]
    there = [Path(folder) for folder in folders if folder]
    # A user's own callback may keep more of them elsewhere.
    return root if not there or root / "checkpoints" in there else run_of(there[0] / "any.ckpt")


def from_run(path: Path, run: Path) -> str | None:
    """A path as seen from a run directory; None where it lies beyond the folder of the runs.

    So far away it would be an absolute path in other words.
    """
    way = PurePath(os.path.relpath(path.absolute(), run.absolute()))
    return None if way.parts.count("..") > _UP else f"{RUN}/{way.as_posix()}"


def without_paths(checkpoint: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """A checkpoint as it may be handed on: what it says, without where it was said.

    An absolute path is kept from the run directory, or as its last part alone where it lies
    elsewhere; so is a relative one among the module's arguments, of which one that ends in `_from`
    becomes a name. Arguments of a data module are left out: nothing here reads them.

    Args:
        checkpoint: What is to be saved.
        file: Where.
    """
    run = run_of(file)

    def change(text: str) -> str:
        if not (os.path.isabs(text) or text.startswith("~")):
            return text
        path = Path(text).expanduser().resolve()
        inside = path.is_relative_to(run.resolve())
        return f"{RUN}/{path.relative_to(run.resolve())}" if inside else path.name or text

    kept = {key: value for key, value in checkpoint.items() if key not in _OF_DATA}
    arguments = kept.get(_ARGUMENTS)
    if isinstance(arguments, Mapping):
        kept[_ARGUMENTS] = {key: _each_text(own, _named(key)) for key, own in arguments.items()}
    return {key: _each_text(value, change) for key, value in kept.items()}


def _named(argument: Any) -> Callable[[str], str]:
    """Makes names of starts, and absolute paths of others, for one argument of a module."""
    of_start = str(argument).endswith("_from")

    def change(text: str) -> str:
        path = Path(text).expanduser()
        if is_name(text) or not (os.path.exists(path) or (of_start and "/" in text)):
            return text
        starts = [path, *(path / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))]
        file = next((start for start in starts if start.is_file()), None)
        if of_start:
            return path.name if file is None else name_of(file)
        return str(path.absolute()) if "/" in text else text

    return change


def with_paths(checkpoint: Any, file: Path) -> Any:
    """A checkpoint that was read, with the paths of its run where it lies now.

    Args:
        checkpoint: What was read.
        file: From where.
    """
    run = run_of(file)

    def change(text: str) -> str:
        if text != RUN and not text.startswith(f"{RUN}/"):
            return text
        return os.path.normpath(run / text.removeprefix(RUN).removeprefix("/"))

    return _each_text(checkpoint, change)


def start_in_config(run: Path, argument: str) -> Iterator[Path]:
    """What the configs of a run, which stay on its disk, give as a start; the newest first.

    Args:
        run: The run directory.
        argument: The argument of the model.
    """
    configs = sorted(run.glob("config*.yaml"), key=lambda path: path.stat().st_mtime, reverse=True)
    for file in configs:
        try:
            given = yaml.safe_load(file.read_text())["model"]["init_args"][argument]
        except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
            continue  # damaged, or of another model
        if isinstance(given, str):
            yield Path(given).expanduser()


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """A value with all texts in it changed; itself where none is."""
    if isinstance(value, str | PurePath):
        return change(str(value))
    if isinstance(value, Mapping):
        items = {_each_text(key, change): _each_text(own, change) for key, own in value.items()}
        same = all(key in items and items[key] is own for key, own in value.items())
        return value if same else items
    if type(value) in (list, tuple):
        changed = type(value)(_each_text(own, change) for own in value)
        same = all(one is other for one, other in zip(value, changed, strict=True))
        return value if same else changed
    return value
