"""The data root of a table: what was given, or phantoms of all its data sets."""

import json
from pathlib import Path

from data_modules.registry import write_phantom
from lightning_app.errors import UsageError
from lightning_app.table.definition import Table
from lightning_app.table.records import exclusive, write_text


def data_root(table: Table, given: str | None, out: Path, num: int) -> Path:
    """The folder that holds the data sets.

    Args:
        table: The table.
        given: What was given; None writes phantoms into `out`, or takes those that are there.
        out: The table's folder.
        num: Size of each phantom data set, as `lightning phantom --num` takes it.

    Raises:
        UsageError: If the given folder does not exist.
    """
    if given is not None:
        root = Path(given).absolute()
        if not root.is_dir():
            raise UsageError(f"--data {given}: is no folder; give the one that holds the data sets")
        return root
    root, marker = out / "phantoms", out / "phantoms.json"
    names = sorted({*(column.data for column in table.columns.values()), *table.sources()})
    wanted = {"num": num, "names": names}
    with exclusive(out):
        if not marker.is_file() or json.loads(marker.read_text()) != wanted:
            print(f"no --data: phantoms of {', '.join(names)} are written", flush=True)
            for name in names:
                write_phantom(name, root, num=num, seed=0)
            write_text(marker, json.dumps(wanted) + "\n")
    return root
