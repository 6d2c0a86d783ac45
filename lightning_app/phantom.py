"""`lightning phantom`: a stand-in for a data set, in its official layout."""

from lightning_app.tools import ToolParser, folder


def run(args: list[str]) -> int:
    """Writes a phantom data set.

    Args:
        args: What follows `lightning phantom`.

    Returns:
        The exit status.
    """
    parser = ToolParser("phantom", "Writes phantom images in the official layout of a data set.")
    parser.add_argument("dataset", metavar="DATASET", help="short name, e.g. isic")
    parser.add_argument(
        "--root", type=folder, required=True, help="a new or empty folder to write into"
    )
    parser.add_argument("--num", type=int, default=200, help="training images, or subjects (200)")
    parser.add_argument("--seed", type=int, default=0, help="the same one draws the same (0)")
    given = parser.parse_args(args)

    from data_modules.names import escaped
    from data_modules.registry import find_dataset, write_phantom

    write_phantom(given.dataset, given.root, num=given.num, seed=given.seed)
    counted = find_dataset(given.dataset).counted
    print(f"{escaped(given.root)}: a phantom of {given.dataset}, {given.num} {counted}")
    return 0
