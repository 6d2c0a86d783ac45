"""What a run directory tells of its run, whatever state it is in; nothing is written.

A directory may be of a run that is writing now, that was killed, that was copied in part or that an
earlier version wrote: what cannot be read is left out, and what cannot do without says so.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_app.behind import checkpoint_behind, run_of
from lightning_app.errors import UsageError
from lightning_app.holder import holder_of
from lightning_app.record import read_record
from lightning_app.run_directory import config_files_of
from lightning_app.yaml_text import load, read_text

STATES = ("running", "finished", "interrupted", "failed", "stale", "broken")
"""`stale`: it was killed, or its machine was; no live process holds it and it says of no end.
`broken`: its `run.json` cannot be read."""


@dataclass(frozen=True)
class Best:
    """The best figure of a fit.

    Args:
        monitor: Its name.
        value: Its value.
        step: The step after which it was measured; None where no row of `metrics.csv` has it.
    """

    monitor: str
    value: float
    step: int | None


@dataclass(frozen=True)
class Summary:
    """A run at a glance.

    Args:
        directory: Its run directory.
        name: The config it is named after.
        subcommand: `fit`, `validate`, `test`, `predict`, or `?` where it is not known.
        state: One of `STATES`.
        note: Who holds it, or why it failed or cannot be read.
        started: When, as text in ISO format; empty where it is not known.
        step: Of a fit: the last one.
        max_steps: Of a fit: where it ends; None where it does not end by steps.
        best: Of a fit: its best figure.
        checkpoint: Of what is no fit: the checkpoint, where it is now; as recorded where it is
            nowhere.
        fit: The run that the checkpoint lies in.
        figures: Of a test or a validation: what it measured.
        seen: Of what is no fit: what of its images was trained on: `none`, `unknown`, or a count
            by split.
    """

    directory: Path
    name: str
    subcommand: str = "?"
    state: str = "broken"
    note: str | None = None
    started: str = ""
    step: int | None = None
    max_steps: int | None = None
    best: Best | None = None
    checkpoint: str | None = None
    fit: Path | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    seen: Any = None


def summary_of(directory: Path) -> Summary:
    """Reads what a run directory tells."""
    name = directory.absolute().parent.name
    try:
        record = read_record(directory)
    except UsageError as error:
        return Summary(directory, name, note=str(error))
    holder = holder_of(directory, None)
    state = str(record.get("state", "running"))
    state = "running" if holder else "stale" if state == "running" else state
    common: dict[str, Any] = {
        "name": str(record.get("name") or name),
        "subcommand": str(record.get("subcommand", "?")),
        "state": state if state in STATES else "broken",
        "note": holder or record.get("error"),
        "started": str(record.get("started", "")),
    }
    if common["subcommand"] == "fit":
        return Summary(directory, **common, **_of_fit(directory, record))
    return Summary(directory, **common, **_of_others(directory, record))


def _of_fit(directory: Path, record: dict[str, Any]) -> dict[str, Any]:
    limits = record.get("limits")
    steps = limits.get("steps") if isinstance(limits, dict) else None
    monitor, lower = _followed(directory, record)
    rows = list(_rows(directory, ("step", monitor)))
    logged = [step for row in rows if (step := _step(row)) is not None]
    last = record.get("last_step")
    return {
        "step": last if isinstance(last, int) else max(logged, default=None),
        "max_steps": steps if isinstance(steps, int) and steps > 0 else None,
        "best": _best(record, rows, monitor, lower),
    }


def _of_others(directory: Path, record: dict[str, Any]) -> dict[str, Any]:
    found = checkpoint_behind(directory, record)
    figures: dict[str, float] = {}
    for row in _rows(directory, None):
        figures |= {key: value for key, value in row.items() if key not in ("epoch", "step")}
    recorded = record.get("checkpoint")
    return {
        "checkpoint": str(found) if found is not None else recorded,
        "fit": None if found is None else run_of(found),
        "figures": figures,
        "seen": record.get("seen", "unknown"),
    }


def _best(
    record: dict[str, Any], rows: list[dict[str, float]], monitor: str, lower: bool
) -> Best | None:
    """What the checkpoint `best` holds, or else the best of the rows, the first one where equal."""
    measured = [(row[monitor], row) for row in rows if not math.isnan(row.get(monitor, math.nan))]
    kept = record.get("best")
    value = kept.get("value") if isinstance(kept, dict) and kept.get("figure") == monitor else None
    if isinstance(kept, dict) and isinstance(value, int | float):
        same = [row for other, row in measured if math.isclose(other, value, rel_tol=1e-5)]
        step = kept.get("step")
        found = _step(same[0]) if same else None
        return Best(monitor, float(value), step if isinstance(step, int) else found)
    if not measured:
        return None
    best, row = (min if lower else max)(measured, key=lambda pair: pair[0])
    return Best(monitor, best, _step(row))


def _step(row: dict[str, float]) -> int | None:
    step = row.get("step", math.nan)
    return int(step) + 1 if math.isfinite(step) else None


def _followed(directory: Path, record: dict[str, Any]) -> tuple[str, bool]:
    """The figure that `best` follows, and whether lower ones are better."""
    resolved = record.get("resolved")
    settings = resolved.get("best") if isinstance(resolved, dict) else None
    if not isinstance(settings, dict):
        settings = _config_of(directory).get("best")
    if not isinstance(settings, dict):
        settings = {}
    return str(settings.get("monitor", "val/loss")), settings.get("mode", "min") == "min"


def _config_of(directory: Path) -> dict[str, Any]:
    try:
        file = config_files_of(directory)[-1]
        content = load(read_text(file, str(file)), str(file))
    except (IndexError, UsageError):
        return {}
    return content if isinstance(content, dict) else {}


def _rows(directory: Path, columns: tuple[str, ...] | None) -> Iterator[dict[str, float]]:
    """The numbers in the rows of `metrics.csv`; what is no number, or cut short, is left out."""
    try:
        with (directory / "metrics.csv").open(newline="", errors="replace") as file:
            lines = csv.reader(line.replace("\0", "") for line in file)
            header = next(lines, [])
            wanted = [n for n, key in enumerate(header) if columns is None or key in columns]
            for line in lines:
                if len(line) == len(header):
                    yield {
                        header[n]: number
                        for n in wanted
                        if line[n] and (number := _number(line[n])) is not None
                    }
    except (OSError, csv.Error):
        return


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
