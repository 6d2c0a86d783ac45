"""``python -m lightning_app.table``: plans a table, starts its workers, writes what came out."""

from __future__ import annotations

import os
import re
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lightning_app.errors import UsageError, describe
from lightning_app.table.definition import TAKERS, Args, Table, known, read_table
from lightning_app.tools import ToolParser

if TYPE_CHECKING:
    from lightning_app.table.plan import Plan

_RANKS = re.compile(r"SLURM_(NTASKS|NPROCS|PROCID|LOCALID|NODEID|STEP).*|(.+_)?RANK|WORLD_SIZE")
"""Variables by which Lightning would take the workers of a table for the processes of one run."""


def main(args: Sequence[str] | None = None) -> int:
    """Runs a table, or one worker of it.

    Args:
        args: What follows ``python -m lightning_app.table``; None takes it from the command line.

    Returns:
        0, 1 where a job failed, 2 for a mistake in what was given, 128 plus a signal's number where
        that stopped it.
    """
    given = list(sys.argv[1:] if args is None else args)
    try:
        return _run(given, _options(given))
    except Exception as error:
        text = describe(error)
        if text is None:
            raise
        print(text, file=sys.stderr)
        return 2


def _run(given: list[str], options: Namespace) -> int:
    for name in [name for name in os.environ if _RANKS.fullmatch(name)]:
        del os.environ[name]
    since = options.since or time.time()
    plan = _plan(options)
    # Heavy, as is what follows; so after most mistakes are told.
    from lightning_app.table.launch import default_jobs, launch
    from lightning_app.table.records import Records
    from lightning_app.table.report import write_report

    records = Records(plan.asked.out)
    records.check(plan)
    if options.worker:
        from lightning_app import cli
        from lightning_app.table.worker import Worker

        return Worker(plan, cli.main, since).run()
    jobs = default_jobs() if options.jobs is None else options.jobs
    _tell(plan, records, jobs)
    write_report(plan)
    code = launch(given, jobs, since) if jobs else 0
    write_report(plan)
    print(f"table: {_relative(plan.asked.out / 'table.md')} (and table.csv, table.json)")
    return code


def _plan(options: Namespace) -> Plan:
    table = read_table(options.table)
    known(options.scale, table.scales, "--scale")
    columns = tuple(known(name, table.columns, "--columns") for name in _words(options.columns))
    numbers = [str(number + 1) for number, row in enumerate(table.all_rows()) if row.stages]
    rows = tuple(int(known(word, numbers, "--rows")) for word in _words(options.rows))
    sets = _sets(table, options.set)

    from lightning_app.table.data_root import data_root
    from lightning_app.table.plan import Asked, make_plan

    name = Path(options.data).absolute().name if options.data else "phantoms"
    out = Path(options.out or f"runs/table/{table.name}-{options.scale}-{name}").absolute()
    data = data_root(table, options.data, out, table.scales[options.scale].phantoms)
    asked = Asked(options.table, options.scale, options.seeds, data, out, columns, rows, sets)
    return make_plan(table, asked)


def _tell(plan: Plan, records: Any, jobs: int) -> None:
    """What will be run, what of it is there, and what is lacking."""
    from lightning_app.table.plan import present_columns

    done = sum(records.read(name)["state"] == "done" for name in plan.jobs)
    print(
        f"table {plan.table.name}: {len(plan.jobs)} jobs, {done} of them done, on {jobs} workers; "
        f"columns {', '.join(plan.columns)}; everything goes to {_relative(plan.asked.out)}"
    )
    _, absent = present_columns(plan.table, plan.asked.data, plan.asked.columns)
    if absent:
        sources = {name: plan.table.columns[name].source for name in absent}
        names = [
            f"{name} (source {source})" if source else name for name, source in sources.items()
        ]
        print(f"not under {plan.asked.data.name}, or without the source: {', '.join(names)}")
    lacking = sorted({str(job.encoder) for job in plan.jobs.values() if job.without_weights})
    if lacking:
        print(
            f"no ImageNet weights held for {', '.join(lacking)}: these rows start from random ones "
            "(docs/tables.md says how to give them)"
        )
    sys.stdout.flush()


def _options(given: list[str]) -> Namespace:
    parser = ToolParser("table", "Regenerates a paper's table: ours beside theirs.")
    parser.prog = "python -m lightning_app.table"
    parser.add_argument("table", metavar="TABLE", help="e.g. configs/table/hybrid.yaml")
    parser.add_argument("--scale", required=True, help="a scale of the table, e.g. cpu_demo")
    parser.add_argument("--data", help="folder that holds the data sets; phantoms without it")
    parser.add_argument("--seeds", type=_at_least(1), default=3, help="seeds of fine-tuning (3)")
    parser.add_argument(
        "--jobs", type=_at_least(0), help="workers (one a GPU, else 2); 0 only writes the table"
    )
    parser.add_argument("--out", help="folder of the table (runs/table/<table>-<scale>-<data>)")
    parser.add_argument("--columns", default="", help="only these, e.g. ham10000,montgomery")
    parser.add_argument("--rows", default="", help="only these lines, from 1, e.g. 5,7,9")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="STAGE.KEY=VALUE",
        help="a key of the command for a stage, for all on `source` or `column`, or for each "
        "`test`; e.g. hybrid.model.init_args.mask_weight=0.01",
    )
    parser.add_argument(
        "--worker", action="store_true", help="be one more worker on the same --out, and end"
    )
    parser.add_argument(
        "--since", type=float, help="of a worker: try jobs again that failed before this time"
    )
    return parser.parse_args(given)


def _at_least(least: int) -> Any:
    def number(text: str) -> int:
        if int(text) < least:
            raise ValueError
        return int(text)

    number.__name__ = f"number of at least {least}"
    return number


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _sets(table: Table, given: list[str]) -> dict[str, Args]:
    sets: dict[str, Args] = {}
    for text in given:
        key, equals, value = text.partition("=")
        stage, dot, rest = key.partition(".")
        if not (equals and dot and rest):
            raise UsageError(f"--set {text}: expected STAGE.KEY=VALUE")
        known(stage, [*TAKERS, *table.stages], f"--set {text}")
        sets.setdefault(stage, {})[rest] = yaml.safe_load(value)
    return sets


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main())
