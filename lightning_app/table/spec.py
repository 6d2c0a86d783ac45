"""The YAML of a table: its columns, rows, stages and scales."""

from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from lightning_app.config_files import find_config, read_yaml
from lightning_app.errors import UsageError, did_you_mean

Args = dict[str, Any]
"""Dotted keys of the command with their values."""

PLACES = ("source", "column")
"""What a stage trains on: the data set of pretraining, or that of the column."""

T = TypeVar("T")


@dataclass(frozen=True)
class Column:
    """A data set to fine-tune and test on.

    Args:
        title: As the table shows it.
        source: Short name of its pretraining data set.
        metric: The figure, a column of the test's ``metrics.csv``; a share, shown in %.
        args: For fine-tuning on it.
    """

    title: str
    source: str
    metric: str = "test/jaccard"
    args: Args = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A fit; the one before it in a row's chain is what it starts from.

    Args:
        config: Its config file; the data set's ``configs/data/<name>.yaml`` goes over it.
        data: ``source`` (once a source) or ``column`` (once a column and seed, then tested).
        args: What is given beside.
    """

    config: str
    data: str
    args: Args = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        pretraining: As the paper names it.
        model: Likewise.
        stages: Names of the stages, one after another; the last is on the column.
        paper: The paper's figures in %, as printed, by column; what it lacks stays out.
        encoder: The paper's encoder, where the model's name is to say which one was used instead.
        without_weights: What ``pretraining`` reads where the weights to start from are not held.
    """

    pretraining: str
    model: str
    stages: list[str]
    paper: dict[str, str] = field(default_factory=dict)
    encoder: str | None = None
    without_weights: str = "random"


@dataclass(frozen=True)
class Scale:
    """How large the runs are.

    Args:
        overlays: Config files over those of method and data.
        phantoms: Images of a phantom data set, where no real data is given.
        args: By place (``source``, ``column``) or stage.
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
        columns: By the short name of the data set.
        stages: By name.
        rows: The paper's, in its order.
        ours: Rows that the paper does not have.
        scales: By name.
        args: By place: for all its stages, under those of column and scale.
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
        return list(dict.fromkeys(column.source for column in self.columns.values()))


def read_table(name: str) -> Table:
    """Reads and checks the YAML of a table.

    Args:
        name: Its path, or that of one that comes along, e.g. ``configs/table/hybrid.yaml``.

    Raises:
        UsageError: Names the place in the file.
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
    for row in table.all_rows():
        where = f"{path}: row {row.pretraining!r}, {row.model!r}"
        for name in row.stages:
            known(name, table.stages, f"{where}: stage")
        for column in row.paper:
            known(column, table.columns, f"{where}: paper")
        if not row.stages or table.stages[row.stages[-1]].data != "column":
            raise UsageError(f"{where}: its last stage has to have data: column")
    given = {"args": table.args, **{f"scales.{n}.args": s.args for n, s in table.scales.items()}}
    for place, args in given.items():
        for key in args:
            known(key, [*PLACES, *table.stages], f"{path}: {place}")


def known(name: str, names: Iterable[str], where: str) -> str:
    """Returns a name that is one of these.

    Raises:
        UsageError: Where it is not.
    """
    names = list(names)
    if name not in names:
        listed = ", ".join(names)
        raise UsageError(f"{where}: no {name!r}{did_you_mean(name, names)}\nKnown: {listed}")
    return name
