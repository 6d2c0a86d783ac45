"""`splits.json`: which images a run used for what, and those of the runs that it started from.

`train`, `val` and `test` are lists of paths, as `item_path` names them; `groups` and `sha256` say
of a path what tells the image again elsewhere, `set` which data set it is of. `behind` holds the
same of every run that this one started from, however many runs ago, so that nothing but this file
is needed. It stays on the local disk: checkpoints hold its `id` alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from callbacks.files import atomic_write
from data_modules.listing.traces import Trace
from lightning_app.errors import UsageError

NAME = "splits.json"
_FORMAT = 2  # 1, which does not say so, has the lists of paths alone
_SPLITS = ("train", "val", "test")


@runtime_checkable
class HasSplits(Protocol):
    """A data module that knows which file is in which split."""

    def split_table(self) -> dict[str, list[str]]:
        """Returns the paths of each split, relative to the data root."""
        ...


@runtime_checkable
class TellsItems(Protocol):
    """A data module that knows what tells its items again."""

    def traces(self) -> dict[str, list[Trace]]:
        """Returns what tells the items of each split again."""
        ...

    def has_official_names(self, paths: Iterable[str]) -> bool:
        """Returns whether these paths mean the same images in every root."""
        ...


@dataclass(frozen=True)
class DataSet:
    """Which data set paths are of; those of equal ones can be compared.

    Attributes:
        kind: Its data module.
        folder: A hash of its root, where another root may hold other images of the same names.
    """

    kind: str
    folder: str | None = None


@dataclass(frozen=True)
class Used:
    """The images of a run.

    Attributes:
        data_set: Which set they are of; None where that is not known.
        splits: By split; other splits than `train`, `val` and `test` are nobody's business.
        val_counts: Whether validation images chose the weights, or when training ended.
    """

    data_set: DataSet | None
    splits: dict[str, list[Trace]]
    val_counts: bool = True

    @property
    def hashed(self) -> bool:
        """Whether contents are known, and not paths alone."""
        return all(trace.digests for own in self.splits.values() for trace in own)

    def holds(self, other: Used) -> bool:
        """Whether all that another one was trained and validated on is here in the same role."""

        def names(used: Used, split: str) -> set[Trace | str]:
            own = used.splits.get(split, ())
            return {trace if other.hashed else trace.path for trace in own}

        return self.data_set == other.data_set and all(
            names(other, split) <= names(self, split) for split in ("train", "val")
        )


@dataclass
class Known:
    """What is known of the images behind weights.

    Attributes:
        used: Of each run; the one that wrote the weights first, where it is known.
        unknown: What nothing is known of, in words.
        own: Whether the first of `used` is the run that wrote the weights.
    """

    used: list[Used] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    own: bool = False


@dataclass
class SplitsFile:
    """What `splits.json` of a run holds.

    Attributes:
        own: The run's own images.
        behind: Those of all runs that it started from.
        unknown: Starts that nothing is known of.
        stops: Whether validation images could end the training.
        id: That of the run, which its checkpoints hold; None in files of earlier versions.
    """

    own: Used
    behind: list[Used] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    stops: bool = False
    id: str | None = field(default_factory=lambda: secrets.token_hex(8))

    def write(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        content = {
            "format": _FORMAT,
            "id": self.id,
            **_content(self.own),
            "validation_ends_training": self.stops,
            "behind": [_content(used) for used in self.behind],
            "unknown": self.unknown,
        }
        with atomic_write(path) as file:
            file.write((json.dumps(content, indent=1) + "\n").encode())


def read_splits(path: Path) -> SplitsFile:
    """Reads the file of a run, also of an earlier version.

    Raises:
        UsageError: If it is damaged.
    """
    try:
        content = json.loads(path.read_text())
        return SplitsFile(
            _used(content),
            [_used(entry) for entry in content.get("behind", [])],
            [str(text) for text in content.get("unknown", [])],
            bool(content.get("validation_ends_training", False)),
            content.get("id"),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{path}: cannot be read ({error}), so that nobody knows what was trained on; put it "
            "back, or remove it to go on without"
        ) from error


def images_of(data: Any) -> Used | None:
    """What a data module goes over, after its `setup`; None where it does not say."""
    if isinstance(data, TellsItems):
        splits = data.traces()
    elif isinstance(data, HasSplits):
        splits = {
            split: [Trace(path) for path in paths] for split, paths in data.split_table().items()
        }
    else:
        return None
    return Used(data_set_of(type(data), getattr(data, "root", None), splits), splits)


def data_set_of(kind: type, root: Any, splits: Mapping[str, Iterable[Trace]]) -> DataSet:
    """Which data set the items of a data module are of."""
    paths = [trace.path for own in splits.values() for trace in own]
    official = getattr(kind, "has_official_names", lambda paths: False)(paths)
    top = kind.__module__.split(".")[0]
    # A class of ours may move to another file.
    name = f"{top if top == 'data_modules' else kind.__module__}.{kind.__qualname__}"
    return DataSet(name, None if official or root is None else _hashed(Path(root)))


def _hashed(root: Path) -> str:
    return hashlib.sha256(os.fsencode(root.expanduser().resolve())).hexdigest()[:16]


def _content(used: Used) -> dict[str, Any]:
    traces = [trace for own in used.splits.values() for trace in own]
    of = used.data_set
    return {
        "set": None if of is None else {"class": of.kind, "folder": of.folder},
        **{split: [trace.path for trace in own] for split, own in used.splits.items()},
        "val_counts": used.val_counts,
        "groups": {t.path: t.group for t in traces if t.group is not None},
        "sha256": {t.path: list(t.digests) for t in traces if t.digests},
    }


def _used(content: Mapping[str, Any]) -> Used:
    of, groups, digests = (content.get(key) for key in ("set", "groups", "sha256"))

    def trace(path: str) -> Trace:
        return Trace(path, (groups or {}).get(path), tuple((digests or {}).get(path, ())))

    return Used(
        None if of is None else DataSet(of["class"], of["folder"]),
        {s: [trace(path) for path in content[s]] for s in (*_SPLITS, "predict") if s in content},
        bool(content.get("val_counts", True)),
    )
