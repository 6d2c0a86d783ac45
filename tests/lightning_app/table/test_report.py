import csv
import json
import time
from pathlib import Path

import pytest
from PIL import Image

from lightning_app.table.pictures import draw_column
from lightning_app.table.plan import Plan
from lightning_app.table.records import Records
from lightning_app.table.report import Cell, write_report
from lightning_app.table.worker import Worker
from tests.lightning_app.table.toys import Command, plan_of


def rows_of(plan: Plan) -> list[dict[str, str]]:
    with (plan.asked.out / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_mean_and_sample_deviation() -> None:
    cell = Cell([50.0, 51.0, 54.0])
    assert cell.mean == pytest.approx(155 / 3)
    assert cell.std == pytest.approx(((25 + 4 + 49) / 9 / 2) ** 0.5)  # squares of -5/3, -2/3, 7/3
    assert str(cell) == "51.67±2.08"
    assert (Cell([50.0]).std, str(Cell([50.0]))) == (None, "50.00")
    assert (Cell([]).mean, str(Cell([]))) == (None, "-")


def test_the_table_before_and_after(folder: Path) -> None:
    plan = plan_of(folder)
    write_report(plan)
    assert [row["status"] for row in rows_of(plan)] == ["near, far: not run yet"] * 3
    Worker(plan, Command(folder), time.time(), poll=0.01).run()
    write_report(plan)
    first, second, third = rows_of(plan)
    assert list(first) == [
        *("pretraining", "model", "near_mean", "near_std", "near_paper"),
        *("far_mean", "far_std", "far_paper", "status"),
    ]
    assert list(first.values()) == [
        *("none", "Net", "50.50", "0.71", "50.12±0.34", "25.25", "0.35", "", "ok")
    ]
    assert second["near_paper"] == "61.50"
    assert (third["model"], third["near_paper"], third["near_mean"]) == ("Probe", "", "50.50")
    content = json.loads((folder / "out/table.json").read_text())
    assert (content["done"], content["jobs"], content["scale"]) == (13, 13, "small")
    assert content["rows"][0]["figures"]["near"] == pytest.approx([50.0, 51.0])
    assert content["rows"][0]["validation"]["near"] == [{"val/jaccard": s} for s in (0.25, 1.25)]


def test_ours_and_the_papers_stand_apart(folder: Path) -> None:
    plan = plan_of(folder)
    Worker(plan, Command(folder), time.time(), poll=0.01).run()
    text = (folder / "out/table.md").read_text()
    ours, theirs = text.split("## The paper's")
    assert "50.50±0.71" in ours
    assert "50.12±0.34" not in ours
    assert "50.50±0.71" not in theirs
    assert "| none | Net | 50.12±0.34 | - |" in theirs
    assert "Not in the paper: Far." in theirs
    assert "Not in the paper: the row own, Probe." in theirs
    assert "Probe | " not in theirs
    assert "Scale `small`, data `data`, seeds 2, commit" in ours
    for name in ("table.md", "table.csv", "table.json"):
        assert str(folder) not in (folder / "out" / name).read_text()


def test_what_is_missing_says_why(folder: Path) -> None:
    plan, records = plan_of(folder, rows=(1, 2)), Records(folder / "out/jobs")
    Worker(plan, Command(folder), time.time(), poll=0.01).run()
    failed = {"state": "failed", "reason": "a | b", "ended": 0.0, "host": "h", "device": "CPU"}
    for column in ("near", "far"):
        records.write(f"{column}-pretrained-tuned-seed1", {**failed, "commit": "c"})
    records.write("far-tuned-seed1", {"state": "interrupted"})
    write_report(plan)
    first, second, third = rows_of(plan)
    assert first["status"] == "far: some seeds are not run yet (1 of 2 seeds)"
    assert (first["far_mean"], first["far_std"]) == ("25.00", "")
    assert second["status"] == "near, far: failed: a | b (1 of 2 seeds)"
    assert third["status"] == "near, far: not asked for"
    assert "failed: a / b" in (folder / "out/table.md").read_text()


WEIGHTS = "model.init_args: {architecture: deeplabv3, encoder_weights: imagenet}"


def test_rows_whose_imagenet_weights_were_missing_say_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = (folder / "toy.yaml").read_text()
    (folder / "toy.yaml").write_text(
        table.replace(
            "pretrain.yaml, data: source}", f"pretrain.yaml, data: source, args: {{{WEIGHTS}}}}}"
        )
    )
    monkeypatch.setattr("lightning_app.table.plan.pretrained_available", lambda *given: False)
    plan = plan_of(folder, seeds=1)
    write_report(plan)
    assert "weights" not in (folder / "out/table.csv").read_text()
    Worker(plan, Command(folder), time.time(), poll=0.01).run()
    first, second, third = rows_of(plan)
    assert first["status"] == "ok"
    told = "ok: no ImageNet weights here, started from random ones"
    assert second["status"] == third["status"] == told
    # The paper's names stay.
    assert (second["pretraining"], second["model"]) == ("own", "Net")
    # It is so of the runs, whatever the machine has that writes the table.
    monkeypatch.setattr("lightning_app.table.plan.pretrained_available", lambda *given: True)
    plan = plan_of(folder, seeds=1)
    write_report(plan)
    assert rows_of(plan)[1]["status"] == told


def test_figures_with_the_spread_of_their_tests(figures: Path) -> None:
    plan = plan_of(figures)
    Worker(plan, Command(figures), time.time(), poll=0.01).run()
    net, probe, source, stronger = rows_of(plan)
    assert list(net) == [
        *("model", "share_mean", "share_spread", "share_std", "share_paper"),
        *("level_mean", "level_spread", "level_std", "level_paper"),
        *("other_mean", "other_std", "other_paper", "status"),
    ]
    # Seeds 0 and 1: 50 and 51 %, spread 25 and 25.5 %; 20 and 21, spread 1 and 3.
    assert list(net.values()) == [
        *("Net", "50.5", "25.2", "0.7", "60.0±2.0", "20.50", "2.00", "0.71", ""),
        *("50.50", "0.71", "", "ok"),
    ]
    assert probe["level_mean"] == source["level_mean"] == "20.50"
    assert stronger["level_mean"] == "21.50"
    ours, theirs = (figures / "out/table.md").read_text().split("## The paper's")
    assert "| model | Share | Level | Other | status |" in ours
    assert "| Net | 50.5±25.2 | 20.50±2.00 | 50.50±0.71 | ok |" in ours
    assert "Theirs" not in ours
    assert "| Theirs | 55.0±1.0 | 18.88±1.26 | - |" in theirs
    within = "± the standard deviation within the test set; means over 2 seeds of both."
    assert (
        f"`test/jaccard` in %, {within} `test/psnr`, {within} "
        "`test/jaccard` in %, mean ± sample standard deviation over 2 seeds." in ours
    )
    content = json.loads((figures / "out/table.json").read_text())
    assert content["rows"][0]["spreads"] == {"share": [25.0, 25.5], "level": [1.0, 3.0]}


def test_columns_that_share_tests_share_a_picture(figures: Path) -> None:
    plan = plan_of(figures, seeds=1)
    Worker(plan, Command(figures), time.time(), poll=0.01).run()
    for name in ("near-tuned-seed0", "near-tuned-seed0-test-start-source"):
        run = figures / "out" / Records(figures / "out/jobs").read(name)["test_run"]
        (run / "samples").mkdir()
        Image.new("RGB", (132, 132)).save(run / "samples/test-00000007.png")
    for _ in range(2):
        write_report(plan)
    assert [path.name for path in (figures / "out/pictures").iterdir()] == ["near.png"]
    with Image.open(figures / "out/pictures/near.png") as picture:
        assert picture.size == (300 + 132, 132 + 8 + 132)
    assert (figures / "out/table.md").read_text().count("](pictures/near.png)") == 1


def test_a_strip_for_each_row_that_has_a_picture(tmp_path: Path) -> None:
    for name, columns in (("a", 3), ("c", 1)):
        (tmp_path / name / "samples").mkdir(parents=True)
        size = (columns * 130 + 2, 2 * 130 + 2) if columns > 1 else (132, 132)
        Image.new("RGB", size, (columns, 0, 0)).save(tmp_path / name / "samples/test-00000007.png")
    strips = [(f"row {name}\nof the table", tmp_path / name) for name in "abc"]
    draw_column(tmp_path / "out" / "x.png", strips)
    with Image.open(tmp_path / "out" / "x.png") as picture:
        # Two lines of three tiles stand side by side.
        assert picture.size == (300 + 2 * 392, 132 + 8 + 132)
        assert picture.getpixel((300 + 2 * 392 - 1, 5)) == (3, 0, 0)
        assert picture.getpixel((300 + 5, 145)) == (1, 0, 0)
        assert picture.getpixel((300 + 200, 145)) == (255, 255, 255)
    draw_column(tmp_path / "out" / "none.png", [("row b", tmp_path / "b")])
    assert not (tmp_path / "out" / "none.png").exists()
