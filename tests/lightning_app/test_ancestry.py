"""What is known of the images behind a checkpoint, wherever it went and however old it is."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer

from data_modules.registry import find_dataset, write_phantom
from lightning_app.ancestry import ID, known_behind
from lightning_app.errors import UsageError
from lightning_app.seen import Seen, find_seen
from lightning_app.session import Session
from lightning_app.split_keeper import SplitKeeper
from lightning_app.splits_file import SplitsFile, Used, images_of
from tests.lightning_app.seen_data import (
    FIT,
    Runs,
    command,
    folder_data,
    newest,
    record_of,
    splits_of,
    write_folder,
)

BEST = Path("checkpoints/best.ckpt")


def whole(root: Path) -> Used:
    images = images_of(folder_data(root, "test", test_split="all"))
    assert images is not None
    return images


def seen_of(root: Path, checkpoint: Path) -> Seen:
    return find_seen(whole(root), "test", known_behind(checkpoint))


def copied(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    return to


def as_before(run: Path) -> Path:
    """A run of an earlier version: lists of paths, and its checkpoints know its start's alone."""
    splits = splits_of(run)
    old = {split: splits[split] for split in ("train", "val", "test")}
    (run / "splits.json").write_text(json.dumps(old))
    for file in (run / "checkpoints").glob("*.ckpt"):
        content = torch.load(file, weights_only=True)
        del content[ID]
        given = yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]
        content["hyper_parameters"]["init_from"] = given["init_from"]
        torch.save(content, file)
    return run


def test_a_checkpoint_says_whose_splits_it_is_of_and_names_no_image(runs: Runs) -> None:
    for name in ("best", "last"):
        file = runs.second_run / "checkpoints" / f"{name}.ckpt"
        content = torch.load(file, weights_only=True)
        assert content[ID] == splits_of(runs.second_run)["id"] != splits_of(runs.first_run)["id"]
        bytes_ = file.read_bytes()
        assert b"case0" not in bytes_
        assert b"other0" not in bytes_


def test_a_run_knows_its_whole_chain_without_the_other_folders(runs: Runs, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "third", [f"third{k}" for k in range(8)], 8)
    start = ["--model.init_args.init_from", str(runs.second_run)]
    assert command("fit", root, tmp_path / "runs", *FIT, *start) == 0
    run = newest(tmp_path / "runs")
    moved = {path: tmp_path / path.name for path in (runs.first_run, runs.second_run)}
    for path, away in moved.items():
        path.rename(away)
    try:
        for folder, behind in (("first", runs.first_run), ("second", runs.second_run)):
            seen = seen_of(runs.folder / folder, run / BEST)
            splits = splits_of(moved[behind])
            # Of both starts the last weights were taken; of the second, validation could end it.
            counted = splits["train"] + (splits["val"] if folder == "second" else [])
            assert len(seen.splits) == len(counted) == seen.starts
            assert not seen.unknown
    finally:
        for path, away in moved.items():
            away.rename(path)
    content = splits_of(run)
    assert [entry["set"]["class"] for entry in content["behind"]] == [
        "data_modules.ImageMaskFolderDataModule"
    ] * 2
    assert all(entry["sha256"] for entry in content["behind"])
    assert str(runs.folder) not in json.dumps(content), "of a root a hash is kept"


def test_a_checkpoint_that_was_moved_takes_its_splits_along_or_is_unknown(
    runs: Runs, tmp_path: Path
) -> None:
    alone = Path(shutil.copy(runs.first_run / BEST, tmp_path / "best.ckpt"))
    seen = seen_of(runs.first, alone)
    assert (seen.record, seen.marks) == ("unknown", None)
    assert "no splits.json" in seen.unknown[0]
    shutil.copy(runs.first_run / "splits.json", tmp_path)
    assert len(seen_of(runs.first, alone).splits) == 20
    # Beside the splits of another run it is as unknown as alone.
    shutil.copy(runs.second_run / "splits.json", tmp_path)
    assert seen_of(runs.first, alone).record == "unknown"
    inside = copied(runs.second_run, tmp_path / "run") / "checkpoints" / "other.ckpt"
    shutil.copy(runs.first_run / BEST, inside)
    assert seen_of(runs.first, inside).record == "unknown"
    # A run directory is moved whole.
    run = copied(runs.first_run, tmp_path / "whole")
    assert len(seen_of(runs.first, run / BEST).splits) == 20


def test_an_unknown_checkpoint_is_warned_of_and_recorded(
    runs: Runs, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    alone = Path(shutil.copy(runs.first_run / BEST, tmp_path / "best.ckpt"))
    given = ["--ckpt_path", str(alone), "--data.init_args.test_split", "all"]
    assert command("test", runs.first, tmp_path / "runs", *given) == 0
    assert any("is not known" in str(warning.message) for warning in recwarn)
    assert record_of(newest(tmp_path / "runs"))["seen"] == "unknown"
    assert "test/dice" in (newest(tmp_path / "runs") / "metrics.csv").read_text()
    assert command("predict", runs.first, tmp_path / "runs", *given[:2]) == 0
    run = newest(tmp_path / "runs")
    assert record_of(run)["seen"] == "unknown"
    lines = (run / "predictions/manifest.jsonl").read_text().splitlines()
    assert {json.loads(line)["seen"] for line in lines} == {"unknown"}


def test_splits_of_an_earlier_version_are_compared_by_path(runs: Runs, tmp_path: Path) -> None:
    run = as_before(copied(runs.first_run, tmp_path / "first"))
    splits = splits_of(run)
    seen = seen_of(runs.first, run / BEST)
    assert seen.record == {"train": len(splits["train"]), "val": len(splits["val"])}
    # Of another folder its paths say nothing, neither way.
    for other in ("renamed", "namesakes", "elsewhere"):
        assert seen_of(runs.folder / other, run / BEST).record == "unknown"
    # The start of such a run is looked for where it was.
    second = as_before(copied(runs.second_run, tmp_path / "second"))
    seen = seen_of(runs.first, second / BEST)
    assert seen.record == {"train": len(splits_of(runs.first_run)["train"])}
    content = torch.load(second / BEST, weights_only=True)
    content["hyper_parameters"]["init_from"] = str(tmp_path / "gone")
    torch.save(content, second / BEST)
    seen = seen_of(runs.second, second / BEST)
    assert seen.splits
    assert "gone: is not there any more" in seen.unknown[0]


def test_weights_from_elsewhere_make_what_starts_from_them_unknown(
    runs: Runs, tmp_path: Path
) -> None:
    foreign = Path(shutil.copy(runs.first_run / BEST, tmp_path / "adm.pt"))
    start = ["--model.init_args.init_from", str(foreign)]
    with pytest.warns(UserWarning, match="not known what its start was trained on"):
        assert command("fit", runs.second, tmp_path / "runs", *FIT, *start) == 0
    run = newest(tmp_path / "runs")
    assert seen_of(runs.folder / "elsewhere", run / BEST).record == "unknown"
    seen = seen_of(runs.second, run / BEST)
    assert set(seen.splits.values()) == {"train", "val"}
    assert seen.marks is not None
    assert len(seen.marks) == seen.of


def test_a_fit_from_a_checkpoint_has_that_run_behind_it(runs: Runs, tmp_path: Path) -> None:
    given = ["--ckpt_path", str(runs.first_run), "--trainer.max_steps", "8"]
    assert command("fit", runs.second, tmp_path / "runs", *given) == 0
    seen = seen_of(runs.first, newest(tmp_path / "runs") / BEST)
    assert seen.record == {"train": len(splits_of(runs.first_run)["train"])}


def test_a_fit_that_goes_on_keeps_what_it_saw_before(runs: Runs, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    assert command("fit", runs.first, root, *FIT) == 0
    run = newest(root)
    before = (run / "splits.json").read_bytes()
    on = ["--resume", str(run), "--data.init_args.val_fraction", "0.25", "--trainer.max_steps"]
    assert command("fit", runs.first, root, *on, "6") == 0
    assert (run / "splits.json").read_bytes() == before
    # Of another folder, as a resume may be: both were trained on.
    assert command("fit", runs.second, root, *on, "8") == 0
    content = splits_of(run)
    assert content["id"] == json.loads(before)["id"]
    assert [entry["train"] for entry in content["behind"]] == [json.loads(before)["train"]]
    for folder in (runs.first, runs.second):
        assert set(seen_of(folder, run / "checkpoints/last.ckpt").splits.values()) == {
            "train",
            *(["val"] if folder == runs.first else []),
        }
    # A run of an earlier version that goes on is written down anew, and loses nothing.
    as_before(run)
    assert command("fit", runs.second, root, *on, "10") == 0
    assert splits_of(run)["sha256"]
    assert "train" in seen_of(runs.second, run / BEST).splits.values()


def test_a_fit_says_what_its_start_has_seen_of_its_own_test_images(
    runs: Runs, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    start = ["--model.init_args.init_from", str(runs.first_run)]
    start += ["--data.init_args.split_seed", "5", "--data.init_args.test_fraction", "0.3"]
    assert command("fit", runs.first, tmp_path, *FIT, *start) == 0
    texts = [str(warning.message) for warning in recwarn]
    for words in ("validation", "test"):
        assert any(
            f"{words} images (" in t and "the start of this run has seen" in t for t in texts
        )


def test_names_of_an_official_set_mean_the_same_image_everywhere(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_phantom("isic", tmp_path / str(seed), num=6, seed=seed, size=(32, 32))
    kind = find_dataset("isic")

    def images(root: Path, stage: str, **arguments: Any) -> Used:
        data = kind(root=str(root), image_size=16, num_workers=0, val_fraction=0.0, **arguments)
        data.setup(stage)
        found = images_of(data)
        assert found is not None
        return found

    run = tmp_path / "run"
    fake_run(run, images(tmp_path / "0", "fit"))
    assert not find_seen(images(tmp_path / "0", "test"), "test", known_behind(run / BEST)).splits
    other = images(tmp_path / "1", "test", test_split="all")
    seen = find_seen(other, "test", known_behind(run / BEST))
    assert (seen.of, seen.record) == (10, {"train": 6})
    # In a folder of its own below the root, the paths are others; the lesion is the same.
    below = tmp_path / "2" / "ISIC-2018"
    below.parent.mkdir()
    (tmp_path / "1").rename(below)
    other = images(below.parent, "test", test_split="all")
    assert find_seen(other, "test", known_behind(run / BEST)).record == {"train": 6}


def fake_run(run: Path, images: Used) -> None:
    content = SplitsFile(images)
    content.write(run / "splits.json")
    (run / "checkpoints").mkdir()
    torch.save({ID: content.id, "hyper_parameters": {}}, run / BEST)


@pytest.mark.filterwarnings("ignore:.*subjects, and.*were asked for")
@pytest.mark.parametrize("official", [True, False])
def test_slices_of_a_volume_that_was_trained_on_were_seen(tmp_path: Path, official: bool) -> None:
    root = tmp_path / "data"
    write_phantom("ixi", root, num=6, seed=0, size=(24, 24, 16))
    if not official:  # names of one's own, in the folders of the modalities
        for file in sorted(root.rglob("*.nii.gz")):
            modality = next(m for m in ("T1", "T2", "PD") if f"-{m}" in file.name)
            (tmp_path / "own" / modality).mkdir(parents=True, exist_ok=True)
            name = f"p{file.name[3:6]}.nii.gz"
            file.rename(tmp_path / "own" / modality / name)
        root = tmp_path / "own"
    kind = find_dataset("ixi")

    def images(root: Path, stage: str, **arguments: Any) -> Used:
        data = kind(root=str(root), image_size=16, num_workers=0, **arguments)
        data.setup(stage)
        found = images_of(data)
        assert found is not None
        return found

    fitted = images(root, "fit")
    run = tmp_path / "run"
    fake_run(run, fitted)
    known = known_behind(run / BEST)
    trained = {trace.group for trace in fitted.splits["train"]}
    tested = images(root, "test")
    assert tested.splits["test"]
    assert not find_seen(tested, "test", known).splits
    # Other slices of the same volumes, and slices of another modality of the same people.
    for arguments in ({"slices": [0.3]}, {"source": "T2", "target": "PD"}):
        every = images(root, "test", test_split="all", **arguments)
        seen = find_seen(every, "test", known)
        groups = [trace.group for trace in every.splits["test"]]
        assert {groups[i] for i, s in seen.splits.items() if s == "train"} == trained
    predicted = images(root, "predict", predict_split="all")
    seen = find_seen(predicted, "predict", known)
    groups = [trace.group for trace in predicted.splits["predict"]]
    assert {groups[i] for i, s in seen.splits.items() if s == "train"} == trained
    # Another root with the same volumes is known by their contents.
    shutil.copytree(root, tmp_path / "copy")
    seen = find_seen(images(tmp_path / "copy", "test", test_split="all"), "test", known)
    assert "train" in seen.splits.values()


class Broadcast:
    """Stands for a strategy of two processes: what the first sends, the second gets."""

    def __init__(self) -> None:
        self.sent: Any = None

    def broadcast(self, value: Any) -> Any:
        self.sent = value if value is not None else self.sent
        return self.sent


def test_the_first_process_decides_and_all_stop(runs: Runs, tmp_path: Path) -> None:
    strategy = Broadcast()
    noted: list[Any] = []
    session = SimpleNamespace(resumed=False, note=lambda **found: noted.append(found))
    checkpoint = runs.first_run / BEST

    def setup(rank: int, data: object) -> None:
        trainer = SimpleNamespace(
            is_global_zero=rank == 0,
            strategy=strategy,
            datamodule=data,
            default_root_dir=str(tmp_path),
            callbacks=[],
        )
        keeper = SplitKeeper(cast(Session, session), checkpoint, None, allow_seen=False)
        keeper.setup(cast(Trainer, trainer), cast(LightningModule, None), "test")

    with pytest.raises(UsageError, match="20 of 20 images were seen"):
        setup(0, folder_data(runs.first, "test", test_split="all"))
    # The second compares nothing: its data module is not asked.
    with pytest.raises(UsageError, match="20 of 20 images were seen"):
        setup(1, object())
    assert noted == [{"seen": {"train": 14, "val": 6}}]
    strategy.sent = None
    setup(0, folder_data(runs.folder / "elsewhere", "test", test_split="all"))
    setup(1, object())


@pytest.mark.parametrize("damage", ["", "[]", '{"train": 3}', '{"train": ["a"'])
def test_damaged_splits_are_an_error_that_names_the_file(
    runs: Runs, tmp_path: Path, damage: str
) -> None:
    run = copied(runs.first_run, tmp_path / "run")
    (run / "splits.json").write_text(damage)
    with pytest.raises(UsageError, match=r"run/splits.json: cannot be read"):
        known_behind(run / BEST)
