"""`lightning runs`: which runs there are, how far they came, and what was tested on them."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning_app.errors import UsageError
from lightning_app.run_directory import is_run, is_run_directory
from lightning_app.run_summary import Summary, summary_of
from lightning_app.tools import ToolParser, folder

SHOWN = 6
"""Figures of a test that fit into its line."""


def run(args: list[str]) -> int:
    """Lists runs.

    Args:
        args: What follows `lightning runs`.

    Returns:
        The exit status.

    Raises:
        UsageError: If there is no such folder.
    """
    parser = ToolParser("runs", "Lists the runs below a folder, and what was tested on each.")
    parser.add_argument(
        "folder",
        metavar="DIR",
        nargs="?",
        type=folder,
        default="runs",
        help="a --run_root, or one run (runs)",
    )
    parser.add_argument("--json", action="store_true", help="all that is known, for a program")
    given = parser.parse_args(args)
    below = Path(given.folder)
    if not below.is_dir():
        raise UsageError(f"{below}: no such folder; give the one that --run_root named")
    one = is_run_directory(below)
    # What was tested on a run lies beside it.
    found = [summary_of(path) for path in find_runs(below.parent if one else below)]
    if one:
        found = _of_one(below, found)
    text = json.dumps(_as_json(found), indent=1) if given.json else _as_text(found, below)
    try:
        print(text, flush=True)
    except BrokenPipeError:  # `| head` has read enough; at its end Python would try again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def find_runs(folder: Path) -> Iterator[Path]:
    """Run directories below a folder, links followed, each once whatever the ways to it.

    Folders that cannot be read are told of on stderr.
    """

    def tell(error: OSError) -> None:
        print(f"{error.filename}: cannot be read ({error.strerror})", file=sys.stderr)

    visited: set[str] = set()
    for name, inside, files in os.walk(folder, onerror=tell, followlinks=True):
        real = os.path.realpath(name)
        if real in visited:
            inside.clear()
            continue
        visited.add(real)
        # One that was copied or removed in part is listed too, as broken.
        if is_run({*inside, *files}):
            inside.clear()
            yield Path(name)
        else:
            inside[:] = sorted(entry for entry in inside if not entry.startswith("."))


def _of_one(directory: Path, found: Sequence[Summary]) -> list[Summary]:
    """A run, and the runs on its checkpoints."""
    real = directory.resolve()
    return [
        run
        for run in found
        if run.directory.resolve() == real or (run.fit is not None and run.fit.resolve() == real)
    ]


def _grouped(found: Sequence[Summary]) -> list[tuple[Summary, list[Summary]]]:
    """The runs by the time of their start, each fit with the runs on its checkpoints."""
    ordered = sorted(found, key=lambda run: (run.started, str(run.directory)))
    places = {run.directory.resolve() for run in ordered}
    below: dict[Path, list[Summary]] = {}
    alone = []
    for run in ordered:
        fit = None if run.fit is None else run.fit.resolve()
        if fit in places and fit != run.directory.resolve():
            below.setdefault(fit, []).append(run)
        else:
            alone.append(run)
    return [(run, below.get(run.directory.resolve(), [])) for run in alone]


def _as_json(found: Sequence[Summary]) -> list[dict[str, Any]]:
    ordered = [run for first, others in _grouped(found) for run in (first, *others)]
    return [{key: _plain(value) for key, value in asdict(run).items()} for run in ordered]


def _plain(value: Any) -> Any:
    """A value that JSON has: it knows no paths and no numbers that are not finite."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _as_text(found: Sequence[Summary], folder: Path) -> str:
    if not found:
        return f"no runs in {folder}"
    rows: list[tuple[list[str], list[str]]] = [(["run", "kind", "state", "step", "figures"], [])]
    for run, others in _grouped(found):
        rows.append((_cells(run, str(run.directory)), _notes(run)))
        for other in others:
            beside = other.directory.parent.resolve() == run.directory.parent.resolve()
            name = other.directory.name if beside else str(other.directory)
            rows.append((_cells(other, f"  {name}"), _notes(other)))
    widths = [max(len(cells[n]) for cells, _ in rows) for n in range(4)]
    lines = []
    for cells, notes in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, [*widths, 0], strict=True)]
        lines.append("  ".join(padded).rstrip())
        lines.extend(f"      {note}" for note in notes)
    return "\n".join(lines)


def _cells(run: Summary, name: str) -> list[str]:
    return [name, run.subcommand, run.state, *_progress(run)]


def _progress(run: Summary) -> tuple[str, str]:
    """How far it came, and what it is worth."""
    if run.subcommand == "?":
        return "", ""
    if run.subcommand != "fit":
        return "", figures_text(run.figures, run.seen)
    of = f" of {run.max_steps}" if run.max_steps else ""
    step = "" if run.step is None else f"step {run.step}{of}"
    if run.best is None:
        return step, ""
    at = "" if run.best.step is None else f" at step {run.best.step}"
    return step, f"{run.best.monitor} {run.best.value:.4g}{at}"


def figures_text(figures: Mapping[str, float], seen: Any) -> str:
    """The figures of a test in a line, those with confidence limits together with them."""
    texts = []
    for name, value in figures.items():
        stem = name.removesuffix("_lo").removesuffix("_hi")
        if stem != name and stem in figures:
            continue
        low, high = figures.get(f"{name}_lo"), figures.get(f"{name}_hi")
        limits = "" if low is None or high is None else f" ({low:.4g} to {high:.4g})"
        texts.append(f"{name} {value:.4g}{limits}")
    more = f", {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    shown = f"{', '.join(texts[:SHOWN])}{more}; " if texts else ""
    return shown + _seen(seen)


def _seen(seen: Any) -> str:
    """What of the images was trained on."""
    if isinstance(seen, Mapping):
        seen = ", ".join(f"{count} of {split}" for split, count in seen.items()) or "none"
    return f"seen: {seen}"


def _notes(run: Summary) -> list[str]:
    notes = []
    if run.note:
        notes.append(f"held by {run.note}" if run.state == "running" else str(run.note))
    if run.subcommand != "fit" and run.checkpoint and run.fit is None:
        notes.append(f"checkpoint {run.checkpoint}")
    return notes
