"""What the records of a table's jobs amount to: CSV, markdown and JSON."""

from __future__ import annotations

import csv
import io
import json
import socket
import statistics
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lightning_app.table.definition import Row
from lightning_app.table.pictures import draw_column
from lightning_app.table.plan import LACKING, Plan, portable
from lightning_app.table.records import Record, Records, exclusive, write_text

_HEAD = Row(pretraining="pretraining", model="model", stages=[])


@dataclass(frozen=True)
class Cell:
    """The figures of a row in a column.

    Args:
        values: In the column's unit, one a seed that has it.
        problem: Why some are missing, else empty.
        spreads: What the column shows behind the ±, one a seed; None: the deviation over the seeds.
        digits: Decimals that are shown.
        validation: The best figure of each fit on its validation images, as its callback logs it.
    """

    values: list[float]
    problem: str = ""
    spreads: list[float] | None = None
    digits: int = 2
    validation: list[dict[str, float]] = field(default_factory=list)

    @property
    def mean(self) -> float | None:
        """The mean over the seeds, None without any."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation over the seeds, None below two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def spread(self) -> float | None:
        """What stands behind the ±."""
        if self.spreads is None:
            return self.std
        return statistics.fmean(self.spreads) if self.spreads else None

    def shown(self, value: float | None, without: str = "") -> str:
        """One of its numbers as text."""
        return without if value is None else f"{value:.{self.digits}f}"

    def __str__(self) -> str:
        text = self.shown(self.mean, "-")
        return text if self.spread is None else f"{text}±{self.shown(self.spread)}"


@dataclass(frozen=True)
class Line:
    """A row with its figures.

    Args:
        row: The row.
        cells: By column.
        status: `ok`, or what is missing and why.
    """

    row: Row
    cells: dict[str, Cell]
    status: str


def write_report(plan: Plan, group: str | None = None) -> None:
    """Writes `table.csv`, `table.md`, `table.json` and the pictures, from what there is.

    Args:
        plan: The jobs.
        group: The only group of columns whose picture is drawn anew; None: all of them.
    """
    out, records = plan.asked.out, Records(plan.asked.out / "jobs")
    with exclusive(out):
        done = {name: records.read(name) for name in plan.jobs}
        rows = enumerate(plan.table.all_rows())
        lines = {number: _line(plan, number, done) for number, row in rows if row.stages}
        facts = _facts(plan, list(done.values()))
        shown = list(lines.values())
        write_text(out / "table.csv", _csv(plan, shown), flush=False)
        write_text(out / "table.md", _markdown(plan, shown, facts), flush=False)
        write_text(out / "table.json", _json(plan, shown, facts), flush=False)
        for name, columns in _groups(plan).items():
            if group in (None, name):
                strips = []
                for number, line in lines.items():
                    record = done.get(plan.cells.get((number, columns[0], 0), ""), {"state": "new"})
                    if record["state"] == "done":
                        strips.append((line.row.label("\n"), out / record["test_run"]))
                draw_column(out / "pictures" / f"{name}.png", strips)


def _groups(plan: Plan) -> dict[str, list[str]]:
    """The columns of the plan that share their jobs, and so a picture."""
    groups: dict[str, list[str]] = {}
    for name in plan.columns:
        groups.setdefault(plan.table.group(name), []).append(name)
    return groups


def _line(plan: Plan, number: int, done: dict[str, Record]) -> Line:
    cells = {name: _cell(plan, number, name, done) for name in plan.columns}
    by_problem: dict[str, list[str]] = {}
    for name, cell in cells.items():
        if cell.problem:
            by_problem.setdefault(cell.problem, []).append(name)
    problems = [f"{', '.join(names)}: {text}" for text, names in by_problem.items()]
    status = "; ".join(problems) or ": ".join(["ok", *_remarks(plan, number, done)])
    return Line(plan.table.all_rows()[number], cells, status)


def _remarks(plan: Plan, number: int, done: dict[str, Record]) -> list[str]:
    """What is to be known of the runs of a row, from the records of where they were done."""
    records = [done[job] for (row, _, _), job in plan.cells.items() if row == number]
    lacking = {record.get("settings", {}).get(LACKING) for record in records} - {None}
    names = sorted(str(name).replace("imagenet", "ImageNet") for name in lacking)
    remarks = [f"no {name} weights here, started from random ones" for name in names]
    if any(record.get("seen") == "unknown" for record in records):
        remarks.append("whether the weights had seen the test images is not known")
    return remarks


def _cell(plan: Plan, number: int, column: str, done: dict[str, Record]) -> Cell:
    names = [plan.cells.get((number, column, seed)) for seed in range(plan.asked.seeds)]
    records = [done[name] for name in names if name is not None]
    if not records:
        return Cell([], "not asked for")
    shown = plan.columns[column]
    finished = [record for record in records if record["state"] == "done"]
    figures = [record["figures"] for record in finished]
    values = [shown.scaled(measured[shown.metric]) for measured in figures]
    spreads = None
    if shown.spread is not None:
        spreads = [shown.scaled(measured[shown.spread]) for measured in figures]
    failed = [record["reason"] for record in records if record["state"] == "failed"]
    if failed:
        problem = f"failed: {failed[0]}"
    elif not values:
        problem = "not run yet"
    else:
        problem = "" if len(values) == len(records) else "some seeds are not run yet"
    if values and problem:
        problem += f" ({len(values)} of {len(records)} seeds)"
    validation = [record.get("validation", {}) for record in finished]
    return Cell(values, problem, spreads, shown.digits, validation)


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
        "set": portable(asked.args),
        "command": asked.command(),
        "commit": ", ".join(sorted(commits)) or None,
        "machine": ", ".join(sorted(hosts)) or socket.gethostname(),
        "date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "hours": round(sum(record.get("seconds", 0.0) for record in records) / 3600, 2),
        "jobs": len(records),
        "done": sum(record["state"] == "done" for record in records),
        "taken": sum("taken" in record for record in records),
        "failed": sum(record["state"] == "failed" for record in records),
        "notes": plan.table.notes,
    }


def _csv(plan: Plan, lines: list[Line]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = _names(plan, _HEAD)
    for name, column in plan.columns.items():
        spread = [f"{name}_spread"] if column.spread else []
        head += [f"{name}_mean", *spread, f"{name}_std", f"{name}_paper"]
    writer.writerow([*head, "status"])
    for line in lines:
        cells = _names(plan, line.row)
        for name, cell in line.cells.items():
            spread = [cell.shown(cell.spread)] if plan.columns[name].spread else []
            cells += [cell.shown(cell.mean), *spread, cell.shown(cell.std)]
            cells.append(line.row.paper.get(name, ""))
        writer.writerow([*cells, line.status])
    return text.getvalue()


def _names(plan: Plan, row: Row) -> list[str]:
    """What a row is called: its model, and its pretraining if rows of the table name one."""
    named = any(other.pretraining for other in plan.table.all_rows())
    return [row.pretraining, row.model] if named else [row.model]


def _markdown(plan: Plan, lines: list[Line], facts: dict[str, Any]) -> str:
    table, titles = plan.table, [column.title for column in plan.columns.values()]
    head = _names(plan, _HEAD)
    ours = [
        [*_names(plan, line.row), *map(str, line.cells.values()), line.status] for line in lines
    ]
    theirs = [[*_names(plan, r), *(r.paper.get(c, "-") for c in plan.columns)] for r in table.rows]
    taken = f" ({facts['taken']} taken from other folders)" if facts["taken"] else ""
    parts = [
        f"# {table.title}\n",
        f"Scale `{facts['scale']}`, data `{facts['data']}`, seeds {facts['seeds']}, commit "
        f"{facts['commit']}, on {facts['machine']}, {facts['date']}; {facts['hours']} hours of "
        f"computing in {facts['done']} of {facts['jobs']} jobs{taken}, {facts['failed']} failed.\n",
        f"```\n{facts['command']}\n```\n",
        f"## Ours\n\n{_legend(plan)}\n",
        _rows([*head, *titles, "status"], ours),
        "## The paper's\n\nAs printed there, at its own size; not what was run here.\n",
        _rows([*head, *titles], theirs),
    ]
    own = [c.title for n, c in plan.columns.items() if not any(n in r.paper for r in table.rows)]
    notes = [f"Not in the paper: {', '.join(own)}."] if own else []
    notes += [f"Not in the paper: the row {row.label()}." for row in table.ours]
    notes += table.notes
    parts.append("\n".join(f"- {note}" for note in notes) + "\n")
    for group, columns in _groups(plan).items():
        if (plan.asked.out / "pictures" / f"{group}.png").is_file():
            title = plan.columns[columns[0]].title if len(columns) == 1 else group
            parts.append(f"![{title}, a strip a row](pictures/{group}.png)\n")
    return "\n".join(parts)


def _legend(plan: Plan) -> str:
    """What the figures are, in which unit, and what the ± is."""
    count = plan.asked.seeds
    legends: dict[str, list[str]] = {}
    for column in plan.columns.values():
        if column.spread is not None:
            seeds = f"means over {count} seeds of both" if count > 1 else "one seed"
            ends = f", ± the standard deviation within the test set; {seeds}"
        elif count > 1:
            ends = f", mean ± sample standard deviation over {count} seeds"
        else:
            ends = ", one seed"
        metrics = legends.setdefault(f"{' in %' if column.percent else ''}{ends}.", [])
        if f"`{column.metric}`" not in metrics:
            metrics.append(f"`{column.metric}`")
    return " ".join(f"{_listed(metrics)}{ends}" for ends, metrics in legends.items())


def _listed(words: list[str]) -> str:
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), words[-1]])


def _rows(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(c.replace('|', '/') for c in line)} |\n" for line in lines)


def _json(plan: Plan, lines: list[Line], facts: dict[str, Any]) -> str:
    rows: list[dict[str, Any]] = []
    for line in lines:
        figures = {name: cell.values for name, cell in line.cells.items()}
        spreads = {n: cell.spreads for n, cell in line.cells.items() if cell.spreads is not None}
        validation = {name: cell.validation for name, cell in line.cells.items()}
        row = {"pretraining": line.row.pretraining, "model": line.row.model, "figures": figures}
        row |= {"spreads": spreads} if spreads else {}
        rows.append(row | {"validation": validation, "status": line.status})
    return json.dumps({**facts, "rows": rows}, indent=1) + "\n"
