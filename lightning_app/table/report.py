"""What the records of a table's jobs amount to: CSV, markdown and JSON."""

from __future__ import annotations

import csv
import io
import json
import socket
import statistics
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lightning_app.table.encoders import in_short, shown
from lightning_app.table.pictures import draw_column
from lightning_app.table.plan import Job, Plan
from lightning_app.table.records import Record, Records, held, write_text
from lightning_app.table.spec import Row

_WITHOUT = "no ImageNet weights held, started from random ones"


@dataclass(frozen=True)
class Cell:
    """The figures of a row on a column.

    Args:
        values: In %, one a seed that has it.
        problem: Why some are missing, else empty.
    """

    values: list[float]
    problem: str = ""

    @property
    def mean(self) -> float | None:
        """The mean over the seeds, None without any."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation over the seeds, None below two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        text = f"{self.mean:.2f}" if self.mean is not None else "-"
        return text if self.std is None else f"{text}±{self.std:.2f}"


@dataclass(frozen=True)
class Line:
    """A row with its figures.

    Args:
        row: The row.
        pretraining: What its runs started from in fact.
        model: The model that was used in fact.
        cells: By column.
        status: ``ok``, or what is missing and why.
    """

    row: Row
    pretraining: str
    model: str
    cells: dict[str, Cell]
    status: str


def write_report(plan: Plan, column: str | None = None) -> None:
    """Writes ``table.csv``, ``table.md``, ``table.json`` and the pictures, from what there is.

    Args:
        plan: The jobs.
        column: The only column whose picture is drawn anew; None: all of them.
    """
    out, records = plan.asked.out, Records(plan.asked.out)
    with held(out):
        done = {name: records.read(name) for name in plan.jobs}
        lines = [_line(plan, number, done) for number in range(len(plan.table.all_rows()))]
        facts = _facts(plan, list(done.values()))
        write_text(out / "table.csv", _csv(plan, lines), flush=False)
        write_text(out / "table.md", _markdown(plan, lines, facts), flush=False)
        write_text(out / "table.json", _json(plan, lines, facts), flush=False)
        for name in [column] if column else plan.columns:
            strips = []
            for number, line in enumerate(lines):
                record = done.get(plan.cells.get((number, name, 0), ""), {"state": "new"})
                if record["state"] == "done":
                    test_run = out / record["test_run"]
                    strips.append((f"{line.pretraining}\n{line.model}", test_run))
            draw_column(out / "pictures" / f"{name}.png", strips)


def _line(plan: Plan, number: int, done: dict[str, Record]) -> Line:
    row, jobs = plan.table.all_rows()[number], _jobs_of(plan, number)
    cells = {name: _cell(plan, number, name, done) for name in plan.columns}
    without = any(job.without_weights for job in jobs)
    model = row.model
    encoder = next((job.encoder for job in jobs if job.encoder), None)
    if row.encoder and encoder and in_short(encoder) != row.encoder:
        name = model.removesuffix(f" {row.encoder}")
        model = f"{name} {shown(encoder)} (paper: {row.encoder})"
    by_problem: dict[str, list[str]] = {}
    for name, cell in cells.items():
        if cell.problem:
            by_problem.setdefault(cell.problem, []).append(name)
    status = "; ".join(f"{', '.join(names)}: {text}" for text, names in by_problem.items())
    if not status:
        status = f"ok: {_WITHOUT}" if without else "ok"
    return Line(row, row.without_weights if without else row.pretraining, model, cells, status)


def _jobs_of(plan: Plan, number: int) -> list[Job]:
    return [plan.jobs[job] for (n, _, _), job in plan.cells.items() if n == number]


def _cell(plan: Plan, number: int, column: str, done: dict[str, Record]) -> Cell:
    names = [plan.cells.get((number, column, seed)) for seed in range(plan.asked.seeds)]
    records = [done[name] for name in names if name is not None]
    if not records:
        return Cell([], "not asked for")
    values = [100 * record["figure"] for record in records if record["state"] == "done"]
    failed = [record["reason"] for record in records if record["state"] == "failed"]
    if failed:
        problem = f"failed: {failed[0]}"
    elif not values:
        problem = "not run yet"
    else:
        problem = "" if len(values) == len(records) else "some seeds are not run yet"
    if values and problem:
        problem += f" ({len(values)} of {len(records)} seeds)"
    return Cell(values, problem)


def _facts(plan: Plan, records: list[Record]) -> dict[str, Any]:
    """What was run where; without the folders of this machine."""
    asked = plan.asked
    run = [record for record in records if record["state"] in ("done", "failed")]
    hosts = {f"{record['host']} ({record['device']})" for record in run}
    commits = {str(record["commit"]) for record in run}
    return {
        "table": plan.table.name,
        "scale": asked.scale,
        "seeds": asked.seeds,
        "data": asked.data.name,
        "columns": list(plan.columns),
        "set": asked.args,
        "command": asked.command(),
        "commit": ", ".join(sorted(commits)) or None,
        "machine": ", ".join(sorted(hosts)) or socket.gethostname(),
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "hours": round(sum(record.get("seconds", 0.0) for record in records) / 3600, 2),
        "jobs": len(records),
        "done": sum(record["state"] == "done" for record in records),
        "failed": sum(record["state"] == "failed" for record in records),
    }


def _csv(plan: Plan, lines: list[Line]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = ("mean", "std", "paper")
    figures = [f"{name}_{key}" for name in plan.columns for key in keys]
    writer.writerow(["pretraining", "model", *figures, "status"])
    for line in lines:
        cells = []
        for name, cell in line.cells.items():
            cells += ["" if v is None else f"{v:.2f}" for v in (cell.mean, cell.std)]
            cells.append(line.row.paper.get(name, ""))
        writer.writerow([line.pretraining, line.model, *cells, line.status])
    return text.getvalue()


def _markdown(plan: Plan, lines: list[Line], facts: dict[str, Any]) -> str:
    titles = [column.title for column in plan.columns.values()]
    metrics = dict.fromkeys(column.metric for column in plan.columns.values())
    count, several = facts["seeds"], facts["seeds"] > 1
    spread = f", mean ± sample standard deviation over {count} seeds" if several else ", one seed"
    parts = [
        f"# {plan.table.title}\n",
        f"Scale `{facts['scale']}`, data `{facts['data']}`, seeds {count}, commit "
        f"{facts['commit']}, on {facts['machine']}, {facts['date']}; {facts['hours']} hours of "
        f"computing in {facts['done']} of {facts['jobs']} jobs, {facts['failed']} failed.\n",
        f"```\n{facts['command']}\n```\n",
        f"## Ours\n\n{' and '.join(f'`{metric}`' for metric in metrics)} in %{spread}.\n",
        _rows(
            ["pretraining", "model", *titles, "status"],
            [
                [line.pretraining, line.model, *map(str, line.cells.values()), line.status]
                for line in lines
            ],
        ),
        "## The paper's\n\nAs printed there, at its own size; not what was run here.\n",
        _rows(
            ["pretraining", "model", *titles],
            [
                [row.pretraining, row.model, *(row.paper.get(name, "-") for name in plan.columns)]
                for row in plan.table.rows
            ],
        ),
    ]
    own = [
        c.title for n, c in plan.columns.items() if not any(n in r.paper for r in plan.table.rows)
    ]
    notes = [f"Not in the paper: {', '.join(own)}."] if own else []
    notes += [f"Not in the paper: the row {r.pretraining}, {r.model}." for r in plan.table.ours]
    notes += plan.table.notes
    parts.append("\n".join(f"- {note}" for note in notes) + "\n")
    for name in plan.columns:
        if (plan.asked.out / "pictures" / f"{name}.png").is_file():
            parts.append(f"![{plan.columns[name].title}, a strip a row](pictures/{name}.png)\n")
    return "\n".join(parts)


def _rows(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(c.replace('|', '/') for c in line)} |\n" for line in lines)


def _json(plan: Plan, lines: list[Line], facts: dict[str, Any]) -> str:
    rows = [
        {
            "pretraining": line.pretraining,
            "model": line.model,
            "figures": {name: cell.values for name, cell in line.cells.items()},
            "status": line.status,
        }
        for line in lines
    ]
    return json.dumps({**facts, "rows": rows}, indent=1) + "\n"
