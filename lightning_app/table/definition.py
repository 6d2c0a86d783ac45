"""The YAML of a table: its columns, rows, stages and scales."""

import re
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from lightning_app.config_files import find_config, read_yaml
from lightning_app.errors import UsageError, did_you_mean

Args = dict[str, Any]
"""Dotted keys of the command with their values."""

PLACES = ("source", "column")
"""What a stage trains on: the data set of pretraining, or that of the column."""

TAKERS = (*PLACES, "test")
"""What is given arguments beside single stages: the fits on either data set, and all tests."""

T = TypeVar("T")


@dataclass(frozen=True)
class Column:
    """A figure, of the tests on a data set.

    Args:
        title: As the table shows it.
        data: Short name of the data set; by default the column's own name.
        source: Short name of its pretraining data set, where stages are on one.
        metric: The figure, a column of the test's `metrics.csv`.
        spread: The column there that stands behind the ±; without it that is over the seeds.
        percent: Whether the figure is a share, shown in %.
        digits: Decimals that are shown.
        args: For fits on its data set.
    """

    title: str
    data: str = ""
    source: str | None = None
    metric: str = "test/jaccard"
    spread: str | None = None
    percent: bool = True
    digits: int = 2
    args: Args = field(default_factory=dict)

    def scaled(self, measured: float) -> float:
        """A measured figure in the unit of the column."""
        return 100 * measured if self.percent else measured

    def shown(self, value: float) -> str:
        """A scaled figure with the column's decimals."""
        return f"{value:.{self.digits}f}"


@dataclass(frozen=True)
class Stage:
    """A fit; the one before it in a row's chain is what it starts from.

    Args:
        config: Its config file; the data set's `configs/data/<name>.yaml` goes over it.
        data: `source` (once a source) or `column` (once a column and seed, then tested).
        args: What is given beside.
    """

    config: str
    data: str
    args: Args = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        model: As the paper names it.
        stages: Names of the stages, one after another; the last is on the column. Without any the
            row is the paper's alone.
        pretraining: As the paper names it; no row of a table need have one.
        test: Given to the test of the last stage. Rows that differ in this alone share their fits.
        paper: The paper's figures, as printed, by column; what it lacks stays out.
    """

    model: str
    stages: list[str]
    pretraining: str = ""
    test: Args = field(default_factory=dict)
    paper: dict[str, str] = field(default_factory=dict)

    def tag(self) -> str:
        """What `test` gives, in short, for names of jobs: `start-source`; empty without it."""
        words = [f"{key.rpartition('.')[2]}-{value}" for key, value in self.test.items()]
        return re.sub(r"[^\w.]+", "-", "-".join(words)).strip("-")

    def label(self, between: str = ", ") -> str:
        """Pretraining and model."""
        return between.join(text for text in (self.pretraining, self.model) if text)


@dataclass(frozen=True)
class Scale:
    """How large the runs are.

    Args:
        overlays: Config files over those of method and data.
        phantoms: Size of the phantom data sets, where no real data is given: images, or subjects.
        args: By taker (`source`, `column`, `test`) or stage.
    """

    overlays: list[str] = field(default_factory=list)
    phantoms: int = 440
    args: dict[str, Args] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A paper's table.

    Args:
        name: Stem of its file.
        title: Heading of the report.
        columns: By name.
        stages: By name.
        rows: The paper's, in its order.
        ours: Rows that the paper does not have.
        scales: By name.
        args: By taker: for all its stages or all tests, under those of column and scale.
        notes: Sentences for the report.
    """

    name: str
    title: str
    columns: dict[str, Column]
    stages: dict[str, Stage]
    rows: list[Row]
    scales: dict[str, Scale]
    ours: list[Row] = field(default_factory=list)
    args: dict[str, Args] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def all_rows(self) -> list[Row]:
        """The paper's rows, then ours."""
        return [*self.rows, *self.ours]

    def sources(self) -> list[str]:
        """The pretraining data sets."""
        sources = [column.source for column in self.columns.values() if column.source]
        return list(dict.fromkeys(sources))

    def group(self, name: str) -> str:
        """What the jobs of a column, and of all that share them, are named after.

        Columns of one data set with equal source and arguments share their jobs. The first of a
        data set are named after it, others after the first of their own too.
        """
        data = self.columns[name].data
        of_data = [other for other, column in self.columns.items() if column.data == data]
        first = next(other for other in of_data if self._share_jobs(name, other))
        return data if first == of_data[0] else f"{data}-{first}"

    def group_of(self, group: str) -> list[str]:
        """The columns of a group."""
        return [name for name in self.columns if self.group(name) == group]

    def _share_jobs(self, one: str, other: str) -> bool:
        a, b = self.columns[one], self.columns[other]
        return (a.data, a.source, a.args) == (b.data, b.source, b.args)


def read_table(name: str) -> Table:
    """Reads and checks the YAML of a table.

    Args:
        name: Its path, or that of one that comes along, e.g. `configs/table/hybrid.yaml`.

    Raises:
        UsageError: If it is wrong; names the place in the file.
    """
    path = find_config(name)
    content = {"name": path.stem, **read_yaml(path)}
    for key, kind in (("columns", Column), ("stages", Stage), ("scales", Scale)):
        if not isinstance(content.get(key), dict):
            raise UsageError(f"{path}: {key}: not given; expected names with their keys")
        content[key] = {
            name: _build(kind, value, f"{path}: {key}.{name}")
            for name, value in content[key].items()
        }
    content["columns"] = {
        name: replace(column, data=column.data or name)
        for name, column in content["columns"].items()
    }
    for key in ("rows", "ours"):
        content[key] = [
            _build(Row, row, f"{path}: {key}[{place}]")
            for place, row in enumerate(content.get(key) or [])
        ]
    table = _build(Table, content, str(path))
    _check(table, path)
    return table


def _build(kind: type[T], content: Any, where: str) -> T:
    names = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise UsageError(f"{where}: expected keys, one of {', '.join(names)}")
    for key in content:
        if key not in names:
            raise UsageError(f"{where}.{key}: no such key{did_you_mean(str(key), names)}")
    for name, f in names.items():
        if f.default is MISSING and f.default_factory is MISSING and name not in content:
            raise UsageError(f"{where}.{name}: not given")
    return kind(**content)


def _check(table: Table, path: Path) -> None:
    for name, stage in table.stages.items():
        if stage.data not in PLACES:
            raise UsageError(
                f"{path}: stages.{name}.data: {stage.data!r}; expected source or column"
            )
    tags: dict[tuple[str, ...], Row] = {}
    for number, row in enumerate(table.all_rows()):
        where = f"{path}: row {_named(row)}"
        _check_row(table, row, where, number < len(table.rows))
        same = tags.setdefault((*row.stages, row.tag()), row)
        if same.test != row.test:
            raise UsageError(
                f"{where}: test: {row.tag()!r} would name its job and that of {_named(same)}; "
                "write one of them in another way"
            )
    given = {"args": table.args, **{f"scales.{n}.args": s.args for n, s in table.scales.items()}}
    for place, args in given.items():
        for key in args:
            known(key, [*TAKERS, *table.stages], f"{path}: {place}")


def _named(row: Row) -> str:
    return ", ".join(repr(text) for text in (row.pretraining, row.model) if text)


def _check_row(table: Table, row: Row, where: str, in_paper: bool) -> None:
    for name in row.paper:
        known(name, table.columns, f"{where}: paper")
    if not row.stages and in_paper and row.paper and not row.test:
        return
    for name in row.stages:
        known(name, table.stages, f"{where}: stage")
    if not row.stages or table.stages[row.stages[-1]].data != "column":
        raise UsageError(
            f"{where}: its last stage has to have data: column (only a row of the paper, with its "
            "figures, may have no stages)"
        )
    without = [name for name, column in table.columns.items() if column.source is None]
    if without and any(table.stages[name].data == "source" for name in row.stages):
        raise UsageError(f"{where}: a stage is on the source, and columns.{without[0]} has none")


def known(name: str, names: Iterable[str], where: str) -> str:
    """Returns a name that is one of these.

    Raises:
        UsageError: If it is not.
    """
    names = list(names)
    if name not in names:
        listed = ", ".join(names)
        raise UsageError(f"{where}: no {name!r}{did_you_mean(name, names)}\nKnown: {listed}")
    return name
