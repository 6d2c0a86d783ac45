from pathlib import Path

import pytest

from lightning_app.errors import UsageError
from lightning_app.table.definition import read_table
from tests.lightning_app.table.toys import FIGURES, TABLE


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("source: large}", "sorce: large}", r"columns.near.sorce: no such key; did you mean 's"),
        ("title: Near, ", "", r"columns.near.title: not given"),
        ("data: source}", "data: sauce}", r"stages.pretrained.data: 'sauce'; expected source or"),
        ("stages: [tuned]", "stages: [tined]", r"row 'none', 'Net': stage: no 'tined'; did you"),
        ("stages: [tuned]", "stages: [pretrained]", r"row 'none', 'Net': its last stage has to"),
        ("paper: {near: 50", "paper: {nar: 50", r"row 'none', 'Net': paper: no 'nar'; did you me"),
        ("args: {source: {tr", "args: {sauce: {tr", r"scales.small.args: no 'sauce'"),
        ("title: A toy table", "titel: A toy table", r"toy.yaml.titel: no such key"),
        ("stages:\n", "stage:\n", r"stages: not given"),
    ],
)
def test_a_mistake_in_the_file_is_named(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    assert before in TABLE
    path = tmp_path / "toy.yaml"
    path.write_text(TABLE.replace(before, after, 1))
    with pytest.raises(UsageError, match=message):
        read_table(str(path))


def test_the_hybrid_table_is_that_of_the_paper() -> None:
    table = read_table("configs/table/hybrid.yaml")
    assert list(table.columns) == ["ph2", "dermis", "ham10000", "nih", "montgomery", "ffhq34"]
    assert table.sources() == ["isic", "shenzhen", "celebamask_hq"]
    assert len(table.rows) == 11
    assert [row.pretraining for row in table.rows] == [
        *("none", "ImageNet", "ImageNet", "unsupervised", "unsupervised", "supervised"),
        *("supervised", "hybrid", "hybrid", "I1K + supervised", "I1K + supervised"),
    ]
    assert table.rows[8].paper["ph2"] == "88.23±0.21"
    assert table.rows[3].paper["dermis"] == "81.83"
    assert "dermis" not in table.rows[2].paper
    assert not any("ham10000" in row.paper for row in table.rows)
    assert all(isinstance(text, str) for row in table.rows for text in row.paper.values())
    # docs/papers/hybrid.md 2c-12, at any scale
    assert table.args["column"]["data.init_args.num_train_samples"] == 20
    assert table.args["column"]["data.init_args.batch_size"] == 12


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "stages: [], paper: {share: 55.0±1.0, level: 18.88±1.26}",
            "stages: []",
            r"row 'Theirs': i",
        ),
        (
            "Probe, stages: [probed]",
            "Probe, stages: []",
            r"row 'Probe': its last stage has to have",
        ),
        (
            "model.init_args.start: source, model.init_args.strength: 0.5",
            "data.init_args.start: source",
            r"row 'Net at 0.5': test: 'start-source' .* that of 'Net from the source'",
        ),
        ("args:\n  test", "args:\n  tset", r"args: no 'tset'; did you mean 'test'"),
    ],
)
def test_a_mistake_in_rows_that_share_fits_is_named(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    assert before in FIGURES
    path = tmp_path / "toy.yaml"
    path.write_text(FIGURES.replace(before, after, 1))
    with pytest.raises(UsageError, match=message):
        read_table(str(path))


def test_a_stage_on_the_source_needs_a_source(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(TABLE.replace("title: Far, source: large", "title: Far"))
    with pytest.raises(UsageError, match=r"row 'own', 'Net': .*columns.far has none"):
        read_table(str(path))


def test_the_lmi_table_is_that_of_the_paper() -> None:
    table = read_table("configs/table/lmi.yaml")
    assert {row.model: list(row.paper.values()) for row in table.rows} == {
        "CycleGAN": [".85±.07", "18.88±1.26", ".27±.04"],
        "StyleGAN inversion": [".66±.10", "10.15±1.49", ".06±.03"],
        "SDEdit": [".82±.06", "15.96±1.54", ".50±.06"],
        "LMIDiffusion": [".88±.05", "20.22±1.43", ".69±.06"],
    }
    assert {name: column.data for name, column in table.columns.items()} == {
        "dice": "ixi",
        "psnr": "ixi",
        "ssim": "ixi",
    }
    assert not any(column.percent for column in table.columns.values())
    assert table.sources() == []
