"""The data sets by short name: `data_modules.sets.<name>` and `data_modules.phantoms.<name>`."""

import difflib
import importlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from data_modules.errors import DataError
from data_modules.kinds.base import DataModule
from data_modules.kinds.ranges import PositiveInt, Seed, check_number
from data_modules.listing.items import Problem
from data_modules.reading.user_cache import write_whole

DATASETS = (
    "isic",
    "ph2",
    "dermis",
    "ham10000",
    "shenzhen",
    "montgomery",
    "nih",
    "celebamask_hq",
    "ffhq34",
    "ixi",
    "image_mask_folder",
)

AnyDataModule: TypeAlias = DataModule[Any, Any]

_MARKER = ".meddiff-phantom.json"


def find_dataset(name: str) -> type[AnyDataModule]:
    """The data module of a short name.

    Raises:
        DataError: If there is none; gives the nearest right name.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name.lower(), DATASETS, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise DataError(f"There is no data set {name!r}; there are {', '.join(DATASETS)}.{hint}")
    module = importlib.import_module(f"data_modules.sets.{name}")
    kinds: list[Any] = [kind for kind in vars(module).values() if inspect.isclass(kind)]
    found: type[AnyDataModule]
    (found,) = (kind for kind in kinds if getattr(kind, "short_name", None) == name)
    return found


def check(
    name: str,
    root: str | Path,
    *,
    note: Callable[[str], None] = lambda text: None,
    **arguments: Any,
) -> list[Problem]:
    """Reads every file of a data set and lists all that is wrong with it.

    Args:
        name: Short name of the data set.
        root: Folder that holds its folders.
        note: Gets what is worth knowing and no problem, as which files are pairs.
        **arguments: Init arguments of the data module, as `year` or `exclude_file`; without them
            every layout found under the root is looked at.

    Returns:
        The problems; none is a good sign.

    Raises:
        DataError: If there is no such data set, or an argument is wrong.
    """
    module = find_dataset(name)
    variants = [arguments] if arguments else module.variants(Path(root))
    found: list[Problem] = []
    for variant in variants:
        try:
            data = module(root=str(root), **variant)
        except TypeError as error:  # an argument that the data module does not have
            raise DataError(f"{name}: {str(error).rsplit('.', 1)[-1]}.") from error
        found += data.check_files(note)
    return list(dict.fromkeys(found))  # two variants may read one file


def write_phantom(name: str, root: str | Path, *, num: int, seed: int, **options: Any) -> None:
    """Writes a phantom data set in the official layout.

    A folder that it made before is written anew: of its files, those of this data set are replaced
    and all others stay.

    Args:
        name: Short name of the data set.
        root: Folder to write into; made if it is not there.
        num: Number of training images; of subjects where a subject has several.
        seed: The same seed gives the same pictures.
        **options: Of the writer, as `size`.

    Raises:
        DataError: If there is no such data set, or the folder holds files that are not phantoms.
    """
    find_dataset(name)
    write: Callable[..., list[Path]] = importlib.import_module(
        f"data_modules.phantoms.{name}"
    ).write
    check_number("--num", num, PositiveInt)
    check_number("--seed", seed, Seed)
    folder = Path(root)
    marker = folder / _MARKER
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--root: {folder} is a file; give a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not marker.is_file():
        raise DataError(
            f"--root: {folder} is not empty and was not made by `lightning phantom`.\n"
            "Give a new folder: phantoms are never mixed with other files."
        )
    folder.mkdir(parents=True, exist_ok=True)
    made = _read_marker(marker)
    for file in made.pop(name, []):
        (folder / file).unlink(missing_ok=True)
    # Before the first picture, so that a killed command can be given again.
    _write_marker(marker, {**made, name: []})
    try:
        files = write(folder, num=num, seed=seed, **options)
    except OSError as error:
        if error.errno is not None:
            error.filename = error.filename or str(folder)
            raise
        raise DataError(  # Pillow and NumPy do not say what failed
            f"--root: {folder} cannot be written to ({error}). Look whether there is space "
            f"(df -h {folder}), and give the command again: the files are written anew."
        ) from error
    made[name] = [file.relative_to(folder).as_posix() for file in files]
    _write_marker(marker, made)


def _write_marker(marker: Path, made: dict[str, list[str]]) -> None:
    write_whole(marker, lambda out: out.write(json.dumps(made).encode()))


def _read_marker(marker: Path) -> dict[str, list[str]]:
    try:
        return {str(k): list(v) for k, v in json.loads(marker.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
