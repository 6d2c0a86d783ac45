from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_app.cli import main
from lightning_app.home import expand_arguments, expand_config, expand_value
from tests.lightning_app.conftest import Command

Runs = Any
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("data.init_args.root", "~/x", "{home}/x"),
        ("data.init_args.root", "~", "{home}"),
        ("ckpt_path", "~/runs/a", "{home}/runs/a"),
        ("config", "~", "{home}"),
        ("model.init_args.weights", "~/w.pt", "{home}/w.pt"),
        ("model.init_args.learning_rate", "~", "~"),  # null, as YAML has it
        ("data.init_args.root", "~nobody-of-this-name/x", "~nobody-of-this-name/x"),
        ("data.init_args.root", "a~/x", "a~/x"),
        ("wandb.notes", "~/x is slow", "~/x is slow"),
        ("data.init_args.group_regex", "~/(.*)", "~/(.*)"),
    ],
)
def test_a_value_behind_an_equals_sign(key: str, given: str, expected: str, tmp_path: Path) -> None:
    assert expand_value(key, given) == expected.format(home=tmp_path)


def test_values_of_a_config_at_any_depth(tmp_path: Path) -> None:
    config = {
        "data": {"init_args": {"root": "~/x", "parts": [{"root": "~/y"}, ("~/z", 3, None)]}},
        "wandb": {"notes": "~/x"},
    }
    assert expand_config(config) == {
        "data": {
            "init_args": {
                "root": f"{tmp_path}/x",
                "parts": [{"root": f"{tmp_path}/y"}, (f"{tmp_path}/z", 3, None)],
            }
        },
        "wandb": {"notes": "~/x"},
    }


def test_arguments_of_a_tool(tmp_path: Path) -> None:
    given = ["isic", "--root=~/x", "--set", "exclude_file=~/bad.txt", "--set=a=~/b", "x~"]
    home = str(tmp_path)
    expected = ["isic", f"--root={home}/x", "--set", f"exclude_file={home}/bad.txt"]
    assert expand_arguments(given) == [*expected, f"--set=a={home}/b", "x~"]


def test_a_tool_and_a_run_know_home(
    toy: Command, toy_runs: Runs, tmp_path: Path, capsys: Captured
) -> None:
    assert main(["phantom", "isic", "--root=~/isic", "--num", "3"]) == 0
    assert (tmp_path / "isic").is_dir()
    assert toy("fit", "--trainer.max_steps", "1", "--data.init_args.root=~/x") == 0
    (run,) = toy_runs()
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["init_args"]["root"] == f"{tmp_path}/x"
    (tmp_path / "over.yaml").write_text("data:\n  init_args:\n    root: ~/y\nrun_root: ~/others\n")
    assert toy("fit", "--trainer.max_steps", "1", "--config=~/over.yaml") == 0
    (other,) = (tmp_path / "others" / "over").iterdir()
    config = yaml.safe_load((other / "config.yaml").read_text())
    assert config["data"]["init_args"]["root"] == f"{tmp_path}/y"
    capsys.readouterr()
    assert main(["test", f"--ckpt_path=~/{run.relative_to(tmp_path)}"]) == 0
    assert main(["test", "--ckpt_path=~/nowhere"]) == 2
    assert f"--ckpt_path {tmp_path}/nowhere: no such" in capsys.readouterr().err
