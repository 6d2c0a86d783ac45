from pathlib import Path

import pytest

from lightning_app.errors import UsageError
from lightning_app.table.spec import read_table
from tests.lightning_app.table.toys import TABLE


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
    # papers/hybrid.md 2c-12, at any scale
    assert table.args["column"]["data.init_args.num_train_samples"] == 20
    assert table.args["column"]["data.init_args.batch_size"] == 12
