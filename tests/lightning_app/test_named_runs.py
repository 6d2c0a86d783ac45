import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_app.behind import checkpoint_behind, find_start
from lightning_app.cli import main
from lightning_app.config_files import Given
from lightning_app.errors import UsageError
from lightning_app.named_runs import checkpoint_of, with_run_config
from tests.lightning_app.conftest import Command

Runs = Callable[[], list[Path]]
Captured = pytest.CaptureFixture[str]


def write_run(directory: Path, **record: Any) -> Path:
    """A run directory by hand; a fit gets two checkpoints and its config."""
    directory.mkdir(parents=True)
    (directory / "run.json").write_text(json.dumps(record))
    config = {"model": {}, "data": {}, "trainer": {}, "run_root": directory.name}
    (directory / "config.yaml").write_text(json.dumps(config))
    if record.get("subcommand") == "fit":
        (directory / "checkpoints").mkdir()
        for name in ("best", "last"):
            (directory / "checkpoints" / f"{name}.ckpt").write_text(name)
    return directory


@pytest.fixture
def fit(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "m" / "1", subcommand="fit", wandb_id="a1")


def test_of(fit: Path, name: str, checkpoint: str, **record: Any) -> Path:
    return write_run(fit.with_name(name), subcommand="test", checkpoint=checkpoint, **record)


test_of.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--ckpt_path", "nope.ckpt"], "--ckpt_path nope.ckpt: no such checkpoint"),
        (["--ckpt_path=runs/m/11"], "no such checkpoint or run directory; did you mean '1'?"),
        (["--ckpt_path", "runs/m"], "is no run directory; it holds 1, the last is runs/m/1"),
        (["--ckpt_path", "runs/m/1/checkpoints"], "give runs/m/1, or a checkpoint file"),
        (["--ckpt_path", "runs/m/1/run.json"], "a file of the run runs/m/1; give that directory"),
        (["--ckpt_path", "empty"], "empty: is no run directory (it has no run.json)"),
        (["--config", "over.yaml"], "ckpt_path (in over.yaml) gone.ckpt: no such checkpoint"),
        (["--config", "runs"], "--config runs: is a folder; give a file"),
        (["--config", "runs/m/1"], "is a folder; give a file; it holds config.yaml"),
        (["--config", "nope.yaml"], "--config nope.yaml: no such file"),
    ],
)
def test_what_is_not_there_is_the_error(
    given: list[str],
    expected: str,
    subcommand: str,
    fit: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lightning_app.config_files import read_given

    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "over.yaml").write_text("ckpt_path: gone.ckpt\n")
    with pytest.raises(UsageError) as error:
        with_run_config(read_given([subcommand, *given]))
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("nope", "--resume nope: is no run directory, there is nothing"),
        ("aut", "did you mean 'auto'?"),
        ("runs/m/11", "did you mean '1'?"),
        ("runs/m", "is no run directory (it has no run.json)"),
    ],
)
def test_a_run_to_resume_that_is_not_there_is_the_error(
    given: str, expected: str, fit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        with_run_config(Given(["fit", "--resume", given]))
    assert expected in str(error.value)


def test_a_missing_checkpoint_is_told_by_the_command_itself(capsys: Captured) -> None:
    assert main(["test", "--ckpt_path", "nope.ckpt"]) == 2
    assert "nope.ckpt: no such checkpoint" in capsys.readouterr().err


def test_null_takes_back_what_an_earlier_file_says(fit: Path) -> None:
    contents: list[dict[str, Any]] = [{"ckpt_path": "gone.ckpt"}, {"ckpt_path": None}]
    given = Given(["fit"], [Path("a.yaml"), Path("b.yaml")], contents)
    assert with_run_config(given) is given


@pytest.mark.parametrize("name", ["", "checkpoints/last.ckpt"])
def test_a_run_and_its_checkpoint_bring_their_config(fit: Path, name: str) -> None:
    given = with_run_config(Given(["test", "--ckpt_path", str(fit / name)]))
    assert given.files == [fit / "config.yaml"]


def test_behind_a_test_is_its_fit(fit: Path) -> None:
    last = fit / "checkpoints" / "last.ckpt"
    tested = test_of(fit, "2", str(last), checkpoint_run="a1")
    start = find_start(tested, "--ckpt_path")
    assert (start.checkpoint, start.run, start.through) == (last, fit, (tested,))
    assert checkpoint_of(start, "predict") == last
    assert with_run_config(Given(["predict", "--ckpt_path", str(tested)])).files == [
        fit / "config.yaml"
    ]


def test_a_fit_goes_on_from_the_last_checkpoint_of_the_fit_behind_a_test(fit: Path) -> None:
    tested = test_of(fit, "2", str(fit / "checkpoints" / "best.ckpt"))
    start = find_start(tested, "--ckpt_path")
    assert checkpoint_of(start, "test").name == "best.ckpt"
    assert checkpoint_of(start, "fit") == fit / "checkpoints" / "last.ckpt"


def test_a_chain_of_runs_is_followed_and_a_circle_is_told(fit: Path) -> None:
    first = test_of(fit, "2", str(fit))
    second = test_of(fit, "3", str(first))
    assert find_start(second, "--ckpt_path").run == fit
    circle = test_of(fit, "4", str(fit.with_name("5")))
    test_of(fit, "5", str(circle))
    with pytest.raises(UsageError, match="leads back to itself"):
        find_start(circle, "--ckpt_path")


@pytest.mark.parametrize("relative", [False, True])
def test_folders_that_were_moved_together(fit: Path, tmp_path: Path, relative: bool) -> None:
    checkpoint = fit / "checkpoints" / "best.ckpt"
    recorded = str(checkpoint.relative_to(tmp_path) if relative else checkpoint)
    test_of(fit, "2", recorded, checkpoint_run="a1", working_directory=str(tmp_path))
    moved = tmp_path / "elsewhere" / "results"
    shutil.move(tmp_path / "runs", moved)
    assert find_start(moved / "m" / "2", "--ckpt_path").run == moved / "m" / "1"


def test_a_relative_path_is_seen_from_where_the_command_ran(
    fit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = test_of(fit, "2", "runs/m/1/checkpoints/best.ckpt", working_directory=str(tmp_path))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert find_start(tested, "--ckpt_path").run == fit
    # An earlier version did not write down where it ran.
    old = test_of(fit, "3", "runs/m/1/checkpoints/best.ckpt")
    assert find_start(old, "--ckpt_path").run == fit


def test_another_run_of_the_same_name_is_not_taken(fit: Path, tmp_path: Path) -> None:
    gone = "/gone/runs/m/1/checkpoints/best.ckpt"
    tested = test_of(fit, "2", gone, checkpoint_run="b2")
    record = json.loads((tested / "run.json").read_text())
    assert checkpoint_behind(tested, record) is None
    with pytest.raises(UsageError) as error:
        find_start(tested, "--ckpt_path")
    assert f"{tested} is a run of test on {gone}, which is not there any more" in str(error.value)
    assert checkpoint_behind(tested, record | {"checkpoint_run": "a1"}) is not None


def test_a_test_without_a_checkpoint_says_so(fit: Path) -> None:
    tested = write_run(fit.with_name("2"), subcommand="test", checkpoint=None)
    with pytest.raises(UsageError, match="is a run of test without a checkpoint"):
        find_start(tested, "--ckpt_path")


@pytest.mark.parametrize("content", ["{", "[1]", "\udcff"])
def test_a_broken_record_is_named(fit: Path, content: str) -> None:
    broken = fit.with_name("2")
    broken.mkdir()
    (broken / "run.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=r"2/run\.json: "):
        find_start(broken, "--ckpt_path")


def test_a_prediction_of_a_test_of_a_fit(
    toy: Command, toy_runs: Runs, tmp_path: Path, capsys: Captured
) -> None:
    assert toy("fit", "--trainer.max_steps", "2", "--model.init_args.width", "2") == 0
    assert main(["test", "--ckpt_path", str(toy_runs()[0])]) == 0
    fitted, tested = toy_runs()
    assert main(["test", "--ckpt_path", str(tested)]) == 0
    again = json.loads((toy_runs()[2] / "run.json").read_text())
    before = json.loads((tested / "run.json").read_text())
    assert again["checkpoint"] == before["checkpoint"]
    identity = json.loads((fitted / "run.json").read_text())["wandb_id"]
    assert again["checkpoint_run"] == before["checkpoint_run"] == identity
    loose = tmp_path / "loose.ckpt"
    shutil.copy(fitted / "checkpoints" / "last.ckpt", loose)
    capsys.readouterr()
    assert main(["test", "--ckpt_path", str(loose)]) == 2
    assert f"{loose} lies in no run, which would bring its own" in capsys.readouterr().err
    assert toy("test", "--ckpt_path", str(loose)) == 0, "a class and a checkpoint are enough"
    assert torch.load(loose)["hyper_parameters"]["width"] == 2
