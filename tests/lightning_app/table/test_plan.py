import json
from pathlib import Path

import pytest

from lightning_app.errors import UsageError
from lightning_app.table import plan
from lightning_app.table.definition import read_table
from lightning_app.table.plan import LACKING, Asked, make_plan, merged, present_columns
from tests.lightning_app.table.toys import option, plan_of


def test_chains_are_shared_and_seeded_only_on_a_column(folder: Path) -> None:
    jobs = plan_of(folder).jobs
    assert list(jobs) == [
        "large-pretrained",
        *("near-tuned-seed0", "near-pretrained-tuned-seed0", "near-pretrained-probed-seed0"),
        *("far-tuned-seed0", "far-pretrained-tuned-seed0", "far-pretrained-probed-seed0"),
        *("near-tuned-seed1", "near-pretrained-tuned-seed1", "near-pretrained-probed-seed1"),
        *("far-tuned-seed1", "far-pretrained-tuned-seed1", "far-pretrained-probed-seed1"),
    ]
    needed = {name: job.needs for name, job in jobs.items()}
    assert needed["near-tuned-seed0"] is None
    assert {needed[f"{c}-pretrained-probed-seed1"] for c in ("near", "far")} == {"large-pretrained"}
    assert jobs["large-pretrained"].metrics == ()
    assert jobs["far-tuned-seed0"].metrics == ("test/miou",)
    assert option(jobs["far-tuned-seed1"].args, "seed_everything") == "1"


def test_what_is_more_special_goes_over_what_is_less(folder: Path) -> None:
    jobs = plan_of(folder).jobs
    size = "data.init_args.batch_size"
    assert option(jobs["near-tuned-seed0"].args, size) == "2"
    assert option(jobs["far-tuned-seed0"].args, size) == "3"
    sets = {"column": {size: 4}, "probed": {size: 5}}
    jobs = plan_of(folder, args=sets).jobs
    assert option(jobs["far-tuned-seed0"].args, size) == "4"
    assert option(jobs["far-pretrained-probed-seed0"].args, size) == "5"
    assert option(jobs["far-pretrained-probed-seed0"].args, "model.init_args.probe") == "true"
    config = jobs["large-pretrained"].settings["config"]
    assert config["trainer"] == {"max_steps": 5, "accelerator": "cpu"}
    files = [
        w
        for k, w in zip(
            jobs["near-tuned-seed0"].args, jobs["near-tuned-seed0"].args[1:], strict=False
        )
        if k == "--config"
    ]
    assert files == ["configs/tune.yaml", "configs/data/near.yaml", "configs/small.yaml"]
    assert jobs["near-tuned-seed0"].settings["config"]["data"]["init_args"]["num"] == 7


def test_rows_and_columns_can_be_chosen(folder: Path) -> None:
    chosen = plan_of(folder, rows=(1,), columns=("far",), seeds=1)
    assert list(chosen.jobs) == ["far-tuned-seed0"]
    assert list(chosen.columns) == ["far"]


def test_columns_are_those_whose_data_is_there(folder: Path) -> None:
    table = read_table("toy.yaml")
    (folder / "data" / "far").rmdir()
    assert present_columns(table, folder / "data") == (["near"], ["far"])
    assert present_columns(table, folder / "data", ("near",)) == (["near"], [])
    (folder / "data" / "large").rmdir()
    with pytest.raises(UsageError, match=r"holds none of near, far .*\(large\)"):
        present_columns(table, folder / "data")


def test_merging_keeps_what_is_not_given_again(folder: Path) -> None:
    config = merged(["configs/tune.yaml", "configs/small.yaml"], {"trainer.max_epochs": None})
    assert config["trainer"] == {"max_epochs": None, "max_steps": 8, "accelerator": "cpu"}
    assert merged(["configs/tune.yaml"], {})["trainer"] == {"max_epochs": 9}


def test_the_command_in_the_report_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    asked = Asked(
        *("toy.yaml", "small", 3, tmp_path / "data", tmp_path / "out", ("near",), (1, 2)),
        args={"tuned": {"model.init_args.encoder_weights": str(tmp_path / "w.pth"), "a.b": 0.1}},
        taken_from=str(tmp_path / "jobs"),
    )
    assert asked.command() == (
        "lightning table toy.yaml --scale small --data data --seeds 3 --columns near --rows 1,2 "
        "--set tuned.model.init_args.encoder_weights=w.pth --set tuned.a.b=0.1 --from jobs"
    )


@pytest.mark.parametrize("available", [True, False])
def test_without_imagenet_weights_the_rivals_start_from_random_ones(
    available: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: set[tuple[str, str]] = set()

    def here(weights: str, encoder: str) -> bool:
        asked_for.add((weights, encoder))
        return available

    monkeypatch.setattr(plan, "pretrained_available", here)
    monkeypatch.setattr(plan, "present_columns", lambda *given: (["ph2"], []))
    table = read_table("configs/table/hybrid.yaml")
    jobs = make_plan(table, Asked("hybrid", "cpu", 1, tmp_path, tmp_path)).jobs
    assert asked_for == {("imagenet", "resnet18"), ("imagenet", "mit_b0")}
    direct = jobs["ph2-deeplabv3_imagenet-seed0"]
    chained = jobs["ph2-segformer_pretraining-segformer-seed0"]
    assert direct.settings[LACKING] == (None if available else "imagenet")
    assert chained.settings[LACKING] == direct.settings[LACKING]
    assert jobs["ph2-hybrid-vanilla-seed0"].settings[LACKING] is None
    given = option(direct.args, "model.init_args.encoder_weights")
    assert given == ("imagenet" if available else "null")
    # What was asked for is a setting of the job, whatever the machine has.
    assert direct.settings["config"]["model"]["init_args"]["encoder_weights"] == "imagenet"
    assert option(chained.args, "model.init_args.encoder_weights") == "null"


def test_a_path_to_weights_that_is_not_there_is_a_mistake_and_no_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "present_columns", lambda *given: (["ph2"], []))
    weights = tmp_path / "no.pth"
    local = {"deeplabv3_imagenet": {"model.init_args.encoder_weights": str(weights)}}
    table = read_table("configs/table/hybrid.yaml")
    asked = Asked("hybrid", "none", 1, tmp_path, tmp_path, rows=(2,), args=local)
    job = make_plan(table, asked).jobs["ph2-deeplabv3_imagenet-seed0"]
    assert job.settings[LACKING] is None
    assert option(job.args, "model.init_args.encoder_weights") == str(weights)


def test_settings_name_no_folder_of_this_machine(folder: Path) -> None:
    sets = {
        "column": {"model.init_args.encoder_weights": str(folder / "w.pth"), "a.b": ["x", "/y/z"]},
        "test": {"model.init_args.maps": str(folder / "maps")},
    }
    jobs = plan_of(folder, args=sets).jobs
    assert str(folder) not in json.dumps([job.settings for job in jobs.values()])
    settings = jobs["near-tuned-seed0"].settings
    assert settings["config"]["model"]["init_args"]["encoder_weights"] == "w.pth"
    assert settings["config"]["a"]["b"] == ["x", "z"]
    assert settings["test"]["model"]["init_args"]["maps"] == "maps"
    assert option(jobs["near-tuned-seed0"].test, "model.init_args.maps") == str(folder / "maps")


def test_columns_of_one_data_set_share_their_jobs_and_rows_their_fits(figures: Path) -> None:
    plan = plan_of(figures, seeds=1)
    first = ("near-tuned-seed0", "near-probed-seed0")
    more = ("start-source", "start-source-strength-0.5")
    assert list(plan.jobs) == [
        *first,
        *(f"near-tuned-seed0-test-{tag}" for tag in more),
        *("near-other-tuned-seed0", "near-other-probed-seed0"),
        *(f"near-other-tuned-seed0-test-{tag}" for tag in more),
    ]
    assert {row for row, _, _ in plan.cells} == {1, 2, 3, 4}  # the first one is the paper's alone
    for row in range(1, 5):
        assert plan.cells[row, "share", 0] == plan.cells[row, "level", 0]
        assert plan.cells[row, "share", 0] != plan.cells[row, "other", 0]
    fit, test = plan.jobs["near-tuned-seed0"], plan.jobs["near-tuned-seed0-test-start-source"]
    assert fit.metrics == test.metrics
    assert fit.metrics == ("test/jaccard", "test/miou", "test/psnr", "test/psnr_sd")
    assert (test.args, test.needs, test.group, fit.needs) == ((), fit.name, "near", None)
    assert plan.jobs["near-other-tuned-seed0"].metrics == ("test/jaccard",)
    assert "configs/data/near.yaml" in fit.args
    assert "--model.init_args.start" not in (*fit.args, *fit.test)
    assert option(test.test, "model.init_args.start") == "source"
    assert [option(job.test, "metrics.num") for job in (fit, test)] == ["2", "2"]
    # Chosen columns change neither the names nor the figures of their jobs.
    chosen = plan_of(figures, seeds=1, columns=("level",), rows=(4,)).jobs
    assert list(chosen) == [fit.name, test.name]
    assert [job.metrics for job in chosen.values()] == [fit.metrics, fit.metrics]


def test_what_a_test_is_given_belongs_to_its_settings(figures: Path) -> None:
    name = "near-tuned-seed0-test-start-source-strength-0.5"
    sets = {"test": {"data.init_args.batch_size": 8, "model.init_args.strength": 0.7}}
    jobs = plan_of(figures, seeds=1, args=sets).jobs
    # The row's own arguments are what the row is: nothing goes over them.
    assert option(jobs[name].test, "model.init_args.strength") == "0.5"
    assert option(jobs["near-tuned-seed0"].test, "model.init_args.strength") == "0.7"
    assert jobs[name].settings["test"] == {
        "metrics": {"num": 2},
        "data": {"init_args": {"batch_size": 8}},
        "model": {"init_args": {"start": "source", "strength": 0.5}},
    }


def test_a_table_without_pretraining_needs_only_the_data_of_its_columns(figures: Path) -> None:
    table = read_table("toy.yaml")
    assert present_columns(table, figures / "data") == (["share", "level", "other"], [])
    (figures / "data" / "near").rmdir()
    with pytest.raises(UsageError, match=r"holds none of near\nGive the folder"):
        present_columns(table, figures / "data")


def test_the_table_of_lmi_has_two_fits_and_tests_each_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "present_columns", lambda table, *given: (list(table.columns), []))
    table = read_table("configs/table/lmi.yaml")
    for scale in table.scales:
        made = make_plan(table, Asked("lmi", scale, 1, tmp_path, tmp_path))
        assert list(made.jobs) == [
            *("ixi-sdedit-seed0", "ixi-lmi-seed0", "ixi-lmi-seed0-test-start-source"),
            "ixi-sdedit-seed0-test-start-noise",
            "ixi-lmi-seed0-test-guidance-zeros",
            "ixi-lmi-seed0-test-guidance-zeros-start-source",
            "ixi-sdedit-seed0-test-strength-0.0",
        ]
        assert {option(job.test, "translation.num") for job in made.jobs.values()} == {"3"}
