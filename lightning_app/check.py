"""`lightning check`: reads every file of a data set and lists all that is wrong with it."""

from typing import Any

import yaml

from lightning_app.tools import ToolParser


def run(args: list[str]) -> int:
    """Checks a data set.

    Args:
        args: What follows `lightning check`.

    Returns:
        The exit status: 1 where there is any problem.
    """
    parser = ToolParser("check", "Reads every file of a data set and lists all problems.")
    parser.add_argument("dataset", metavar="DATASET", help="short name, e.g. isic")
    parser.add_argument("--root", required=True, help="folder that holds the data set's folders")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an init argument of the data module, e.g. year=2016 or exclude_file=bad.txt",
    )
    given = parser.parse_args(args)
    arguments: dict[str, Any] = {}
    for pair in given.set:
        key, equals, value = pair.partition("=")
        if not equals:
            parser.error(f"--set {pair}: expected KEY=VALUE")
        arguments[key] = yaml.safe_load(value)

    from data_modules.names import escaped
    from data_modules.registry import check, find_dataset

    problems = check(given.dataset, given.root, note=print, **arguments)
    for problem in problems:
        print(f"{problem.kind}: {problem}")
    print(f"{given.dataset} in {escaped(given.root)}: {len(problems) or 'no'} problem(s)")
    if citation := find_dataset(given.dataset).citation:
        print(f"cite: {citation}")
    return 1 if problems else 0
