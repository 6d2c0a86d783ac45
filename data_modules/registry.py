"""The data sets by short name, for the commands `check` and `phantom`."""

import difflib
import importlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_modules.errors import DataError
from data_modules.kinds.masks import ImageMaskDataModule
from data_modules.listing.inspection import assign_splits
from data_modules.listing.pairs import Item, Part, Problem
from data_modules.listing.splits import leaks
from data_modules.listing.verify import Records, files_of, mask_problems, verify
from data_modules.sets.ixi import IXIDataModule

_MARKER = ".meddiff-phantom.json"


@dataclass(frozen=True)
class DatasetEntry:
    """One data set.

    Attributes:
        module: Import path of its data module class.
        phantom: Import path of the function ``write(root, *, num, seed)`` that writes a phantom of
            it and returns the files.
        title: What it is, in a few words.
        counted: What ``num`` of the phantom counts.
    """

    module: str
    phantom: str
    title: str
    counted: str = "training images"

    def data_module(self) -> type[ImageMaskDataModule] | type[IXIDataModule]:
        """The data module class."""
        found: type[ImageMaskDataModule] | type[IXIDataModule] = _load(self.module)
        return found

    def phantom_writer(self) -> Callable[..., list[Path]]:
        """The phantom writer."""
        found: Callable[..., list[Path]] = _load(self.phantom)
        return found


DATASETS: dict[str, DatasetEntry] = {
    "isic": DatasetEntry(
        "data_modules.sets.isic.ISICDataModule",
        "data_modules.phantoms.isic.write",
        "ISIC skin lesions with masks (2016, 2017, 2018 task 1)",
    ),
    "ph2": DatasetEntry(
        "data_modules.sets.ph2.PH2DataModule",
        "data_modules.phantoms.ph2.write",
        "PH2 skin lesions with masks",
    ),
    "dermis": DatasetEntry(
        "data_modules.sets.dermis.DermISDataModule",
        "data_modules.phantoms.dermis.write",
        "DermIS photographs of skin lesions with masks",
    ),
    "ham10000": DatasetEntry(
        "data_modules.sets.ham10000.HAM10000DataModule",
        "data_modules.phantoms.ham10000.write",
        "HAM10000 skin lesions with masks, split by lesion",
    ),
    "shenzhen": DatasetEntry(
        "data_modules.sets.shenzhen.ShenzhenDataModule",
        "data_modules.phantoms.shenzhen.write",
        "Shenzhen chest radiographs with lung masks",
    ),
    "montgomery": DatasetEntry(
        "data_modules.sets.montgomery.MontgomeryDataModule",
        "data_modules.phantoms.montgomery.write",
        "Montgomery chest radiographs with lung masks",
    ),
    "nih": DatasetEntry(
        "data_modules.sets.nih.NIHDataModule",
        "data_modules.phantoms.nih.write",
        "NIH chest radiographs (ChestX-ray14) with the lung masks of XLSor",
    ),
    "celebamask_hq": DatasetEntry(
        "data_modules.sets.celebamask_hq.CelebAMaskHQDataModule",
        "data_modules.phantoms.celebamask_hq.write",
        "CelebAMask-HQ faces with 18 parts",
    ),
    "ffhq34": DatasetEntry(
        "data_modules.sets.ffhq34.FFHQ34DataModule",
        "data_modules.phantoms.ffhq34.write",
        "FFHQ-34: 40 faces with 33 fine parts",
    ),
    "ixi": DatasetEntry(
        "data_modules.sets.ixi.IXIDataModule",
        "data_modules.phantoms.ixi.write",
        "IXI brain MR in T1, T2 and PD, split by subject",
        counted="subjects",
    ),
    "image_mask_folder": DatasetEntry(
        "data_modules.sets.image_mask_folder.ImageMaskFolderDataModule",
        "data_modules.phantoms.image_mask_folder.write",
        "your own images and masks in two folders",
    ),
}


def _load(path: str) -> Any:
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def find_dataset(name: str) -> DatasetEntry:
    """The data set of a short name.

    Raises:
        DataError: If there is none; gives the nearest right name.
    """
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(name.lower(), DATASETS, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise DataError(f"There is no data set {name!r}; there are {', '.join(DATASETS)}.{hint}")


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
        **arguments: Init arguments of the data module, as ``year`` or ``exclude_file``; without
            them every layout found under the root is looked at.

    Returns:
        The problems; none is a good sign.

    Raises:
        DataError: If there is no such data set, or an argument is wrong.
    """
    module = find_dataset(name).data_module()
    variants = [arguments] if arguments else module.variants(Path(root))
    found: list[Problem] = []
    for variant in variants:
        try:
            data = module(root=str(root), **variant)
        except TypeError as error:  # an argument that the data module does not have
            raise DataError(f"{name}: {str(error).rsplit('.', 1)[-1]}.") from error
        found += (
            _check_one(data) if isinstance(data, ImageMaskDataModule) else data.check_files(note)
        )
    return list(dict.fromkeys(found))  # two variants may read one file


def _check_one(data: ImageMaskDataModule) -> list[Problem]:
    try:
        listing = data.list_files()
    except DataError as error:
        return [Problem("missing", str(data.root), str(error))]
    parts = listing.parts
    items = [item for part in parts for item in part.items]
    records, unreadable = verify(data.root, files_of(items))
    problems = [problem for part in parts for problem in part.problems] + unreadable
    problems += mask_problems(
        data.root, items, records, num_classes=data.num_classes, size_free=data.mask_size_free
    )
    problems += _duplicates(items, records)
    readable = [Part([i for i in part.items if i.image in records]) for part in parts]
    pool = readable[0]
    official = {id(part): new for part, new in zip(parts, readable, strict=True)}
    try:
        splits = assign_splits(
            pool,
            official.get(id(listing.val)),
            official.get(id(listing.test)),
            records,
            data.split_plan(listing),
        )
    except DataError as error:
        return [*problems, Problem("split", str(data.root), str(error))]
    if pool.items and not splits["train"]:
        problems.append(Problem("split", str(data.root), "0 training samples after the split"))
    return problems + _leaks(splits, records)


def _duplicates(items: Iterable[Item], records: Records) -> list[Problem]:
    """Images of identical bytes, one problem for each set of them."""
    same: dict[str, list[str]] = {}
    for item in items:
        if item.image in records:
            same.setdefault(records[item.image].digest, []).append(item.image)
    return [
        Problem("duplicate", files[0], f"has the same content as {', '.join(files[1:])}")
        for files in same.values()
        if len(files) > 1
    ]


def _leaks(splits: dict[str, list[Item]], records: Records) -> list[Problem]:
    by_digest = {s: {i.image: records[i.image].digest for i in v} for s, v in splits.items()}
    by_group = {s: {i.image: i.group for i in v} for s, v in splits.items()}
    pairs = [(a, b, "the same content") for a, b in leaks(by_digest)]
    known = {(a, b) for a, b, _ in pairs}
    pairs += [(a, b, "the same group") for a, b in leaks(by_group) if (a, b) not in known]
    return [Problem("leak", b, f"is in another split than {a}, of {what}") for a, b, what in pairs]


def write_phantom(name: str, root: str | Path, *, num: int, seed: int, **options: Any) -> None:
    """Writes a phantom data set in the official layout.

    A folder that it made before is written anew: of its files, those of this data set are replaced
    and all others stay.

    Args:
        name: Short name of the data set.
        root: Folder to write into; made if it is not there.
        num: Number of training images; of subjects where a subject has several.
        seed: The same seed gives the same pictures.
        **options: Of the writer, as ``size``.

    Raises:
        DataError: If there is no such data set, or the folder holds files that are not phantoms.
    """
    write = find_dataset(name).phantom_writer()
    if num < 1:
        raise DataError(f"--num: {num} given, expected 1 or more.")
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
    marker.write_text(json.dumps({**made, name: []}))
    files = write(folder, num=num, seed=seed, **options)
    made[name] = [file.relative_to(folder).as_posix() for file in files]
    marker.write_text(json.dumps(made))


def _read_marker(marker: Path) -> dict[str, list[str]]:
    try:
        return {str(k): list(v) for k, v in json.loads(marker.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
