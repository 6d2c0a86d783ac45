"""No figure is of images that the weights were trained or chosen on, unless it says so."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lightning_app.ancestry import known_behind
from lightning_app.seen import find_seen, marked_name
from lightning_app.splits_file import images_of
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

Captured = pytest.CaptureFixture[str]
SPLIT = {"validate": "val", "test": "test", "predict": "predict"}


KINDS = {
    "the same set with other splits": ("first", {"split_seed": 5, "test_fraction": 0.5}),
    "another folder of the same content": ("renamed", {"split_seed": 5, "test_fraction": 0.5}),
    "another folder of the same names": ("namesakes", {"split_seed": 5, "test_fraction": 0.5}),
    "another set": ("elsewhere", {"split_seed": 1, "test_fraction": 0.5}),
}


@pytest.mark.parametrize("behind", ["own run", "its start"])
@pytest.mark.parametrize("stage", list(SPLIT))
@pytest.mark.parametrize("kind", list(KINDS))
def test_what_was_seen_is_found(runs: Runs, kind: str, stage: str, behind: str) -> None:
    folder, arguments = KINDS[kind]
    data = folder_data(runs.folder / folder, stage, val_fraction=0.3, **arguments)
    own = behind == "own run"
    run = runs.first_run if own else runs.second_run
    # Independently: by the names in the first run's splits, which a copy has with an x before.
    splits = splits_of(runs.first_run)
    where = {Path(p).stem: s for s in ("train", "val") for p in splits[s]}
    expected = {}
    for index, path in enumerate(data.split_table()[SPLIT[stage]]):
        split = where.get(Path(path).stem.removeprefix("x"))
        if folder in ("namesakes", "elsewhere") or split is None:
            continue
        # The start is its last checkpoint, which no validation chose; own validation is aside.
        if split == "train" or (own and stage != "validate"):
            expected[index] = split
    images = images_of(data)
    assert images is not None
    seen = find_seen(images, SPLIT[stage], known_behind(run / "checkpoints" / "best.ckpt"))
    assert seen.splits == expected
    assert bool(expected) == (folder in ("first", "renamed"))
    assert seen.record == (
        {s: list(expected.values()).count(s) for s in dict.fromkeys(expected.values())} or "none"
    )
    assert seen.starts == (0 if own else len(expected))


def seen_in(runs: Runs, run: Path, folder: str, checkpoint: str = "best", **arguments: Any) -> Any:
    data = folder_data(runs.folder / folder, "test", test_split="all", **arguments)
    images = images_of(data)
    assert images is not None
    return find_seen(images, "test", known_behind(run / "checkpoints" / f"{checkpoint}.ckpt"))


def test_validation_counts_where_it_chose_the_weights_or_ended_the_fit(runs: Runs) -> None:
    held_out = len(splits_of(runs.first_run)["val"])
    assert list(seen_in(runs, runs.first_run, "first").splits.values()).count("val") == held_out
    # Nothing chose the last weights of a run that does not stop by itself, ...
    assert "val" not in seen_in(runs, runs.first_run, "first", "last").splits.values()
    # ... and of one that may, validation did.
    assert "val" in seen_in(runs, runs.second_run, "second", "last").splits.values()


def test_a_path_or_a_patient_of_the_same_folder_is_enough(runs: Runs, tmp_path: Path) -> None:
    root = tmp_path / "mine"
    names = [f"p{k // 2}_{k}" for k in range(16)]
    write_folder(root, names, 6)
    grouped = {"data.init_args.group_regex": "^(p[0-9]+)_"}
    given = [word for key, value in grouped.items() for word in (f"--{key}", value)]
    assert command("fit", root, tmp_path / "runs", *FIT, *given) == 0
    run = newest(tmp_path / "runs")
    splits = splits_of(run)
    # All images are saved anew, so that no content is what it was; one of a patient is new.
    shutil.rmtree(root)
    trained = Path(splits["train"][0]).stem.partition("_")[0]
    write_folder(root, [*names, f"{trained}_99", "p77_1"], 7)
    data = folder_data(root, "test", test_split="all", group_regex="^(p[0-9]+)_")
    images = images_of(data)
    assert images is not None
    seen = find_seen(images, "test", known_behind(run / "checkpoints" / "best.ckpt"))
    by_path = dict(zip(data.split_table()["test"], range(seen.of), strict=True))
    assert {i for i, s in seen.splits.items() if s == "train"} == {
        by_path[path] for path in [*splits["train"], f"images/{trained}_99.png"]
    }
    assert by_path["images/p77_1.png"] not in seen.splits
    # Without a patient a group is only a name, which a folder beside may have too.
    ungrouped = folder_data(root, "test", test_split="all", images="masks")
    images = images_of(ungrouped)
    assert images is not None
    assert not find_seen(images, "test", known_behind(run / "checkpoints/best.ckpt")).splits


def test_a_test_on_trained_images_stops_and_says_what_to_do(
    runs: Runs, tmp_path: Path, capsys: Captured
) -> None:
    path = ["--ckpt_path", str(runs.first_run)]
    assert command("test", runs.first, tmp_path, *path) == 2
    plain = capsys.readouterr().err
    assert "0 images in the test split" in plain
    assert "--data.init_args.test_split all" in plain
    assert "fit anew with --data.init_args.test_fraction" in plain
    other = ["--data.init_args.test_fraction", "0.5"]
    assert command("test", runs.first, tmp_path, *path, *other) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("error: test: ")
    assert " images were seen by these weights: " in told[0]
    assert "trained on" in told[0]
    assert any("--allow_seen true" in line for line in told)
    assert len(told) <= 16
    assert not list(tmp_path.glob("*/*")), "a refused test leaves no run"


def test_seen_images_are_measured_under_names_that_say_so(
    runs: Runs, tmp_path: Path, capsys: Captured
) -> None:
    given = ["--ckpt_path", str(runs.first_run), "--allow_seen", "true"]
    given += ["--data.init_args.test_split", "all"]
    assert command("test", runs.first, tmp_path, *given) == 0
    run = newest(tmp_path)
    splits = splits_of(runs.first_run)
    counts = {split: len(splits[split]) for split in ("train", "val")}
    assert record_of(run)["seen"] == counts
    with (run / "metrics.csv").open() as file:
        columns = set(next(csv.reader(file)))
    assert {"test/seen_dice", "test/seen_dice_lo", "test/seen_loss"} <= columns
    assert not {name for name in columns if "test/" in name and "seen_" not in name}
    with (run / "test_metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert row["source"] in splits[row["seen"]]
    assert "test/seen_dice" in capsys.readouterr().out
    # The same words change nothing where nothing was seen.
    assert command("test", runs.folder / "elsewhere", tmp_path, *given) == 0
    run = newest(tmp_path)
    assert record_of(run)["seen"] == "none"
    assert "test/dice" in (run / "metrics.csv").read_text()
    assert "seen" not in (run / "test_metrics.csv").read_text()
    assert "allow_seen" not in (run / "config.yaml").read_text()


def test_a_run_validates_on_its_own_validation_images_and_on_no_others(
    runs: Runs, tmp_path: Path, capsys: Captured
) -> None:
    assert (
        command("validate", runs.first, tmp_path, "--ckpt_path", str(runs.first_run), *FIT[2:]) == 0
    )
    assert record_of(newest(tmp_path))["seen"] == "none"
    assert "val/dice" in (newest(tmp_path) / "metrics.csv").read_text()
    other = ["--data.init_args.split_seed", "5", *FIT[2:]]
    assert (
        command("validate", runs.first, tmp_path, "--ckpt_path", str(runs.second_run), *other) == 2
    )
    assert "by what the run started from" in capsys.readouterr().err


def test_predict_goes_on_and_marks_what_was_seen(
    runs: Runs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert command("predict", runs.first, tmp_path, "--ckpt_path", str(runs.first_run)) == 0
    run = newest(tmp_path)
    splits = splits_of(runs.first_run)
    counts = {split: len(splits[split]) for split in ("train", "val")}
    assert record_of(run)["seen"] == counts
    assert f"of 20 images the weights have seen {sum(counts.values())}" in caplog.text
    lines = (run / "predictions/manifest.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        assert line["source"] in splits[line["seen"]]
    assert len(lines) == 20


def test_figures_keep_their_stage_in_front() -> None:
    assert marked_name("test/dice") == "test/seen_dice"
    assert marked_name("loss") == "seen_loss"
