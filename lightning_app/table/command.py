"""`lightning table`: plans a table, starts its workers, writes what came out."""

from __future__ import annotations

import os
import re
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_app.errors import UsageError
from lightning_app.run_directory import from_here
from lightning_app.tools import ToolParser, at_least, folder
from lightning_app.yaml_text import load

if TYPE_CHECKING:
    from lightning_app.table.definition import Args, Table
    from lightning_app.table.plan import Plan
    from lightning_app.table.records import Records

_RANKS = re.compile(r"SLURM_(NTASKS|NPROCS|PROCID|LOCALID|NODEID|STEP).*|(.+_)?RANK|WORLD_SIZE")
"""Variables by which Lightning would take the workers of a table for the processes of one run."""


def run(args: list[str]) -> int:
    """Runs a table, or one worker of it.

    Args:
        args: What follows `lightning table`.

    Returns:
        0, 1 if a job failed, 128 plus a signal's number if that stopped it.
    """
    options = _options(args)
    for name in [name for name in os.environ if _RANKS.fullmatch(name)]:
        del os.environ[name]
    since = options.since or time.time()
    plan = _plan(options)
    # Heavy, as is what follows; so after most mistakes are told.
    from lightning_app.table.launch import default_jobs, launch
    from lightning_app.table.records import Records
    from lightning_app.table.report import write_report
    from lightning_app.table.takeover import fit_again, take_finished

    records = Records(plan.asked.out / "jobs", "--out")
    records.check(plan.jobs.values())
    take_finished(plan, records)
    again = fit_again(plan, records)
    if options.worker:
        from lightning_app import cli
        from lightning_app.table.worker import Worker

        return Worker(plan, cli.main, since).run()
    jobs = default_jobs() if options.jobs is None else options.jobs
    _tell(plan, records, again, jobs)
    write_report(plan)
    code = launch(args, jobs, since) if jobs else 0
    write_report(plan)
    print(f"table: {from_here(plan.asked.out / 'table.md')} (and table.csv, table.json)")
    return code


def _options(args: list[str]) -> Namespace:
    parser = ToolParser("table", "Regenerates a paper's table: ours beside theirs.")
    parser.add_argument("table", metavar="CONFIG", help="e.g. configs/table/hybrid.yaml")
    parser.add_argument("--scale", required=True, help="a scale of the table, e.g. cpu_demo")
    parser.add_argument(
        "--data", type=folder, help="folder that holds the data sets; phantoms without it"
    )
    parser.add_argument("--seeds", type=at_least(1), default=3, help="seeds of fine-tuning (3)")
    parser.add_argument(
        "--jobs", type=at_least(0), help="workers (one a GPU, else 2); 0 only writes the table"
    )
    parser.add_argument(
        "--out", type=folder, help="folder of the table (runs/table/<table>-<scale>-<data>)"
    )
    parser.add_argument(
        "--from",
        dest="taken_from",
        type=folder,
        metavar="DIR",
        help="take finished jobs of another machine, e.g. from docs/results/hybrid_table/jobs",
    )
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
    return parser.parse_args(args)


def _plan(options: Namespace) -> Plan:
    from lightning_app.table.definition import known, read_table

    table = read_table(options.table)
    known(options.scale, table.scales, "--scale")
    columns = tuple(known(name, table.columns, "--columns") for name in _words(options.columns))
    numbers = [str(number + 1) for number, row in enumerate(table.all_rows()) if row.stages]
    rows = tuple(int(known(word, numbers, "--rows")) for word in _words(options.rows))
    sets = _sets(table, options.set)
    if options.taken_from is not None and not list(Path(options.taken_from).glob("*.json")):
        raise UsageError(
            f"--from {options.taken_from}: holds no record of a job; give a folder with a copy of "
            "jobs/*.json of another table's folder"
        )

    from lightning_app.table.data_root import data_root
    from lightning_app.table.plan import Asked, make_plan

    name = Path(options.data).absolute().name if options.data else "phantoms"
    out = Path(options.out or f"runs/table/{table.name}-{options.scale}-{name}").absolute()
    data = data_root(table, options.data, out, table.scales[options.scale].phantoms)
    asked = Asked(
        *(options.table, options.scale, options.seeds, data, out, columns, rows, sets),
        taken_from=options.taken_from,
    )
    return make_plan(table, asked)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _sets(table: Table, given: list[str]) -> dict[str, Args]:
    from lightning_app.table.definition import TAKERS, known

    sets: dict[str, Args] = {}
    for text in given:
        key, equals, value = text.partition("=")
        stage, dot, rest = key.partition(".")
        if not (equals and dot and rest):
            raise UsageError(f"--set {text}: expected STAGE.KEY=VALUE")
        known(stage, [*TAKERS, *table.stages], f"--set {text}")
        sets.setdefault(stage, {})[rest] = load(value, f"--set {key}")
    return sets


def _tell(plan: Plan, records: Records, again: list[str], jobs: int) -> None:
    """What will be run, what of it is there, and what is lacking."""
    from lightning_app.table.plan import LACKING

    done = [found for name in plan.jobs if (found := records.read(name))["state"] == "done"]
    taken = sum("taken" in record for record in done)
    print(
        f"table {plan.table.name}: {len(plan.jobs)} jobs, {len(done)} of them done"
        f"{f' ({taken} taken from other folders)' if taken else ''}, on {jobs} workers; "
        f"columns {', '.join(plan.columns)}; everything goes to {from_here(plan.asked.out)}"
    )
    if again:
        print(f"fitted again, as others need them and only records are here: {', '.join(again)}")
    if plan.absent:
        sources = {name: plan.table.columns[name].source for name in plan.absent}
        names = [f"{name} (source {of})" if of else name for name, of in sources.items()]
        print(f"not under {plan.asked.data.name}, or without the source: {', '.join(names)}")
    if any(job.settings[LACKING] and not records.is_done(job.name) for job in plan.jobs.values()):
        print("no ImageNet weights here: rows start from random ones instead (docs/tables.md)")
    sys.stdout.flush()
