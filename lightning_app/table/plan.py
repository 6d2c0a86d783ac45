"""The jobs of a table at a scale: which fits there are, what they start from, who shares them."""

import copy
import json
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule

import data_modules  # noqa: F401  (its classes can then be given by their short names)
from lightning_app.config_files import find_config, read_yaml
from lightning_app.errors import UsageError
from lightning_app.parser import class_named
from lightning_app.table.definition import Args, Column, Row, Table
from meddiff.baselines.presets import default_encoder
from meddiff.networks.pretrained import hub_names, pretrained_available

ROOT = "data.init_args.root"
WEIGHTS = "model.init_args.encoder_weights"

LACKING = "lacking_weights"
"""Of a job's settings: weights of the hub that it, or what it starts from, had to do without."""


@dataclass(frozen=True, eq=False)
class Job:
    """One fit and, on a column, its test; or one more test of a fit.

    Args:
        name: Also that of its record, its log and the folder of its runs.
        args: Of `lightning fit`, but for paths; empty: the fit of `needs` is tested.
        settings: What decides its figure; a finished job counts only for the same settings.
        needs: The job whose weights it starts from, or tests.
        metrics: The figures to read from the test; none: there is no test.
        test: Of `lightning test`, but for paths.
        group: That of the columns whose figures they are.
    """

    name: str
    args: tuple[str, ...]
    settings: dict[str, Any]
    needs: str | None = None
    metrics: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    group: str | None = None


@dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    Args:
        table: The table's file.
        scale: Name of a scale.
        seeds: Seeds 0 to one less.
        data: The data root.
        out: Where everything is written.
        columns: Only these; empty: all.
        rows: Only these lines, from 1; empty: all.
        args: `--set`: dotted keys by taker or stage.
        taken_from: `--from`: a folder with records of finished jobs.
    """

    table: str
    scale: str
    seeds: int
    data: Path
    out: Path
    columns: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    args: dict[str, Args] = field(default_factory=dict)
    taken_from: str | None = None

    def command(self) -> str:
        """The command, without the folders of this machine."""
        words = ["lightning table", portable(self.table), "--scale", self.scale]
        words += ["--data", self.data.name, "--seeds", str(self.seeds)]
        words += ["--columns", ",".join(self.columns)] if self.columns else []
        words += ["--rows", ",".join(map(str, self.rows))] if self.rows else []
        for stage, args in self.args.items():
            for key, value in args.items():
                words += ["--set", f"{stage}.{key}={as_text(portable(value))}"]
        words += ["--from", portable(self.taken_from)] if self.taken_from else []
        return " ".join(words)


@dataclass
class Plan:
    """The jobs of a table.

    Args:
        table: The table.
        asked: What was asked for.
        columns: Those whose data is there, in the table's order.
        absent: Those asked for whose data, or that of their source, is not.
        jobs: By name; a job stands behind the one that it needs.
        cells: The job of (row, column, seed), rows counted from 0.
    """

    table: Table
    asked: Asked
    columns: dict[str, Column]
    absent: list[str]
    jobs: dict[str, Job] = field(default_factory=dict)
    cells: dict[tuple[int, str, int], str] = field(default_factory=dict)


def make_plan(table: Table, asked: Asked) -> Plan:
    """Lays out the jobs: pretraining first, then seed by seed."""
    names, absent = present_columns(table, asked.data, asked.columns)
    plan = Plan(table, asked, {name: table.columns[name] for name in names}, absent)
    rows = [(n, row) for n, row in enumerate(table.all_rows()) if row.stages]
    wanted = [(n, row) for n, row in rows if not asked.rows or n + 1 in asked.rows]
    for name in names:
        for _, row in wanted:
            before = [stage for stage in row.stages if table.stages[stage].data == "source"]
            if before:
                _add_fit(plan, tuple(before), name, 0)
    for seed in range(asked.seeds):
        for name in names:
            for n, row in wanted:
                job = _add_fit(plan, tuple(row.stages), name, seed)
                plan.cells[n, name, seed] = _add_test(plan, row, job, name) if row.test else job
    return plan


def present_columns(
    table: Table, data: Path, only: tuple[str, ...] = ()
) -> tuple[list[str], list[str]]:
    """Columns whose data is under the data root, source included, and those asked for that is not.

    Raises:
        UsageError: If there is none.
    """

    @cache
    def present(name: str) -> bool:
        class_path = str(_content(f"configs/data/{name}.yaml")["data"]["class_path"])
        kind: Any = class_named(class_path, LightningDataModule)
        if kind is None:
            raise UsageError(f"configs/data/{name}.yaml: no data module {class_path!r}")
        return bool(kind.present(data))

    def has_data(column: Column) -> bool:
        return present(column.data) and (column.source is None or present(column.source))

    wanted = [name for name in table.columns if not only or name in only]
    found = [name for name in wanted if has_data(table.columns[name])]
    if not found:
        names = dict.fromkeys(table.columns[name].data for name in wanted)
        sources = ", ".join(table.sources())
        pretraining = f" together with the data set of its pretraining ({sources})"
        raise UsageError(
            f"--data {data}: holds none of {', '.join(names)}{pretraining if sources else ''}\n"
            "Give the folder that holds the data sets' own folders; without --data, phantoms are "
            "written and used"
        )
    return found, [name for name in wanted if name not in found]


def _add_fit(plan: Plan, chain: tuple[str, ...], column: str, seed: int) -> str:
    """Adds the job of a chain of stages, and those before it; returns its name."""
    table, asked, stage = plan.table, plan.asked, plan.table.stages[chain[-1]]
    on_column, of_column = stage.data == "column", table.columns[column]
    seed = seed if on_column else 0
    named_after = table.group(column) if on_column else str(of_column.source)
    name = "-".join([named_after, *chain, *([f"seed{seed}"] if on_column else [])])
    if name in plan.jobs:
        return name
    needs = _add_fit(plan, chain[:-1], column, seed) if len(chain) > 1 else None
    scale = table.scales[asked.scale]
    data_set = of_column.data if on_column else of_column.source
    files = [stage.config, f"configs/data/{data_set}.yaml", *scale.overlays]
    args: Args = {"seed_everything": seed, **table.args.get(stage.data, {}), **stage.args}
    args |= of_column.args if on_column else {}
    for given in (scale.args, asked.args):
        args |= given.get(stage.data, {}) | given.get(chain[-1], {})
    config = merged(files, args)
    lacking = plan.jobs[needs].settings[LACKING] if needs else _lacking_weights(config)
    if lacking and not needs:
        args[WEIGHTS] = None
    config.get("data", {}).get("init_args", {}).pop("root", None)
    settings = {"data": asked.data.name, "needs": needs, LACKING: lacking}
    settings["config"] = portable(config)
    options = (*(word for file in files for word in ("--config", file)), *_options(args))
    job = Job(name, options, settings, needs)
    plan.jobs[name] = _with_test(plan, job, column, {}) if on_column else job
    return name


def _lacking_weights(config: dict[str, Any]) -> str | None:
    """The hub's name of the weights that an encoder is to start from, if they are not here."""
    model = config.get("model", {}).get("init_args", {})
    weights = model.get("encoder_weights")
    if weights is None or "architecture" not in model:
        return None
    preset = model.get("preset", "paper")
    encoder = model.get("encoder") or default_encoder(model["architecture"], preset)
    # A path that is not there is a mistake, which the job itself tells.
    if weights not in hub_names(encoder) or pretrained_available(weights, encoder):
        return None
    return str(weights)


def _add_test(plan: Plan, row: Row, fit: str, column: str) -> str:
    """Adds the test of a row that shares the fit of another; returns its name."""
    name = f"{fit}-test-{row.tag()}"
    if name not in plan.jobs:
        lacking = plan.jobs[fit].settings[LACKING]
        settings = {"data": plan.asked.data.name, "needs": fit, LACKING: lacking}
        plan.jobs[name] = _with_test(plan, Job(name, (), settings, fit), column, row.test)
    return name


def _with_test(plan: Plan, job: Job, column: str, own: Args) -> Job:
    """A job with its test, which yields the figures of all columns that share it."""
    table, asked = plan.table, plan.asked
    group = table.group(column)
    columns = [table.columns[name] for name in table.group_of(group)]
    metrics = [metric for c in columns for metric in (c.metric, c.spread) if metric is not None]
    args: Args = {}
    for given in (table.args, table.scales[asked.scale].args, asked.args, {"test": own}):
        args |= given.get("test", {})
    settings = {**job.settings, **({"test": portable(merged([], args))} if args else {})}
    test, names = tuple(_options(args)), tuple(dict.fromkeys(metrics))
    return replace(job, settings=settings, metrics=names, test=test, group=group)


def merged(files: list[str], args: Args) -> dict[str, Any]:
    """Config files and arguments, later ones over earlier ones; defaults are not filled in."""
    result: dict[str, Any] = {}
    for file in files:
        _lay_over(result, copy.deepcopy(_content(file)))
    for key, value in args.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        _lay_over(result, value)
    return result


def _lay_over(below: dict[str, Any], above: dict[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _lay_over(below[key], value)
        else:
            below[key] = value


@cache
def _content(file: str) -> dict[str, Any]:
    return read_yaml(find_config(file))


def _options(args: Args) -> list[str]:
    return [word for key, value in args.items() for word in (f"--{key}", as_text(value))]


def as_text(value: Any) -> str:
    """A value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def portable(value: Any) -> Any:
    """A value without the folders of this machine: of an absolute path the name is kept."""
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value
