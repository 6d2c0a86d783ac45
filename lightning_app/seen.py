"""Images that weights were trained or chosen on, among those that a stage goes over."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from data_modules.listing.traces import Trace
from lightning_app.errors import UsageError
from lightning_app.splits_file import DataSet, Known, Used

_SHOWN = 3
_WORDS = {"train": "trained on", "val": "validated on (which chose the weights or ended the fit)"}


@dataclass
class Seen:
    """What was found.

    Attributes:
        of: How many items were compared.
        splits: By index, the split in which the weights saw an item: `train` or `val`.
        examples: Some of these items' paths with the split.
        starts: How many were seen by a run that the weights' own one started from, and not by it.
        unknown: What nothing is known of, in words.
    """

    of: int = 0
    splits: dict[int, str] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    starts: int = 0
    unknown: list[str] = field(default_factory=list)

    @property
    def record(self) -> str | dict[str, int]:
        """For `run.json`: a count by split, else `unknown` or `none`."""
        if self.splits:
            return dict(Counter(self.splits.values()))
        return "unknown" if self.unknown else "none"

    @property
    def marks(self) -> dict[int, str] | None:
        """By index, the split or `unknown`; None where nothing is known of any item."""
        if not self.unknown:
            return self.splits
        marks = {index: self.splits.get(index, "unknown") for index in range(self.of)}
        return None if not self.splits else marks

    @property
    def counts(self) -> str:
        """How many were seen in which way, in words."""
        counts = Counter(self.splits.values())
        return ", ".join(f"{counts[split]} {_WORDS[split]}" for split in _WORDS if counts[split])


def find_seen(images: Used, split: str, known: Known) -> Seen:
    """Compares the items of a split with what is known of some weights.

    An item was seen if a file of it has the content of one that was, whatever its name; in the same
    data set also if it has the path or the group (patient, lesion) of one. Training counts before
    validation. Where `split` is `val`, validation images of the weights' own run are left aside.

    Args:
        images: What is gone over.
        split: Which of its splits.
        known: Of the weights.
    """
    items = images.splits.get(split, [])
    hashed = all(trace.digests for trace in items)
    found = Seen(len(items), unknown=list(known.unknown))
    for used in known.used:
        if not (used.hashed and hashed) and (
            used.data_set is None or used.data_set != images.data_set
        ):
            found.unknown.append("paths alone were kept, and they are of another data set")
    trained = [_keys(used, "train") for used in known.used]
    chosen = [_keys(used, "val") if used.val_counts else set() for used in known.used]
    aside = _keys(known.used[0], "val") if split == "val" and known.own else set()
    for index, trace in enumerate(items):
        keys = set(_keys_of(trace, images.data_set))
        by = {"train": [not keys.isdisjoint(own) for own in trained]}
        by["val"] = [keys.isdisjoint(aside) and not keys.isdisjoint(own) for own in chosen]
        seen = next((name for name, runs in by.items() if any(runs)), None)
        if seen is not None:
            found.splits[index] = seen
            found.starts += not (known.own and by[seen][0])
            if len(found.examples) < _SHOWN:
                found.examples.append(f"{trace.path} ({seen})")
    found.unknown = list(dict.fromkeys(found.unknown))
    return found


def _keys(used: Used, split: str) -> set[tuple[Any, ...]]:
    return {key for trace in used.splits.get(split, ()) for key in _keys_of(trace, used.data_set)}


def _keys_of(trace: Trace, data_set: DataSet | None) -> Iterator[tuple[Any, ...]]:
    """What is equal for items of which one was seen if the other was."""
    for digest in trace.digests:
        yield "content", digest
    if data_set is not None:
        # A folder that was copied to another system may have its names in another form.
        yield "path", data_set, unicodedata.normalize("NFC", trace.path)
        if trace.group is not None:
            yield "group", data_set, unicodedata.normalize("NFC", trace.group)


def refusal(subcommand: str, seen: Seen, known: Known) -> UsageError:
    """The error that figures would be of images that the weights know.

    Args:
        subcommand: `test` or `validate`.
        seen: What was found.
        known: Of the weights.
    """
    split = "val" if subcommand == "validate" else "test"
    by = (
        f" ({seen.starts} of them by what the run started from)"
        if known.own and seen.starts
        else ""
    )
    return UsageError(
        f"{subcommand}: {len(seen.splits)} of {seen.of} images were seen by these weights: "
        f"{seen.counts}{by}\n"
        f"  {', '.join(seen.examples)}{', ...' if len(seen.splits) > len(seen.examples) else ''}\n"
        "A figure on them tells nothing of new images. Instead:\n"
        f"{_advice(subcommand, seen, known)}\n"
        "--allow_seen true measures them anyway; the figures are then called "
        f"{split}/{MARK}..., and run.json says so"
    )


def _advice(subcommand: str, seen: Seen, known: Known) -> str:
    own = known.used[0].splits if known.own else {}
    split = "val" if subcommand == "validate" else "test"
    held_out = len(own.get(split, ()))
    words = {"val": "for validation", "test": "for test"}[split]
    whole = " (with `lightning test`)" if subcommand == "validate" else ""
    lines = [
        "- images that no fit saw, in a folder of their own: --data.init_args.root DIR "
        f"--data.init_args.test_split all{whole}"
    ]
    if held_out and not seen.starts:
        lines.append(
            f"- the {held_out} that the fit held out {words}: `lightning {subcommand} --ckpt_path "
            "RUN_DIR` without other data arguments"
        )
    else:
        start = ", and from a start that did not see them" if seen.starts else ""
        lines.append(
            f"- the same folder: fit anew with some held out (data.init_args.{split}_fraction, "
            f"num_train_samples, test_subjects){start}; {subcommand} that run without other data "
            "arguments"
        )
    return "\n".join(lines)


MARK = "seen_"
"""What the names of figures begin with, behind the stage, that are measured on seen images."""


def mark_figures(trainer: Trainer, module: LightningModule) -> Callable[[], None]:
    """Has all figures of a test or a validation logged under marked names: `test/seen_dice`.

    Returns:
        What puts back the names.
    """
    log = module.log

    def marked(name: str, *args: Any, **kwargs: Any) -> None:
        log(marked_name(name), *args, **kwargs)

    callbacks: Sequence[Any] = trainer.callbacks  # type: ignore[attr-defined]
    loggers = [callback for callback in callbacks if vars(callback).get("log") == log]
    module.log = marked  # type: ignore[method-assign]
    for callback in loggers:
        callback.log = marked

    def put_back() -> None:
        del module.log
        for callback in loggers:
            callback.log = log

    return put_back


def marked_name(name: str) -> str:
    """`test/dice` as `test/seen_dice`; a name without a stage as `seen_<name>`."""
    stage, slash, figure = name.rpartition("/")
    return f"{stage}{slash}{MARK}{figure}"
