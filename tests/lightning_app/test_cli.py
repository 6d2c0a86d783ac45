import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lightning_app
from lightning_app.cli import main
from tests.lightning_app.conftest import Command

REPOSITORY = Path(__file__).parents[2]


def test_the_package_is_ours() -> None:
    assert Path(str(lightning_app.__file__)).parent == REPOSITORY / "lightning_app"


@pytest.mark.parametrize("flag", ["--help", "-h", "--version"])
def test_help_and_version_import_nothing_heavy(flag: str) -> None:
    code = (
        "import sys; from lightning_app.cli import main; status = main(sys.argv[1:]); "
        "assert not {'torch', 'lightning', 'jsonargparse'} & set(sys.modules); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code, flag], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ("fit" in done.stdout) == (flag != "--version")


def test_python_m_is_the_same_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lightning_app", "fti"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'fit'?" in done.stderr


def test_a_subcommand_of_lightning_sdk_is_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "lightning_sdk" / "cli"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "entrypoint.py").write_text(
        "import sys\ndef main_cli():\n    print('sdk', sys.argv[1:])\n    return 5\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("lightning_sdk", "lightning_sdk.cli", "lightning_sdk.cli.entrypoint"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert main(["studio", "list"]) == 5
    assert "sdk ['studio', 'list']" in capsys.readouterr().out


@pytest.mark.parametrize("subcommand", ["fit", "validate", "test", "predict"])
def test_each_subcommand_explains_itself(
    subcommand: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([subcommand, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--ema.decay" in text
    assert ("--resume" in text) == (subcommand in ("fit", "predict"))


def test_phantom_then_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "isic"
    assert main(["phantom", "isic", "--root", str(root), "--num", "6", "--seed", "1"]) == 0
    assert main(["check", "isic", "--root", str(root)]) == 0
    masks = sorted(root.glob("*Training*GroundTruth*/*.png"))
    masks[0].unlink()
    masks[1].write_bytes(b"broken")
    assert main(["check", "isic", "--root", str(root)]) == 1
    text = capsys.readouterr().out
    assert masks[0].stem.removesuffix("_segmentation") in text
    assert masks[1].name in text


@pytest.mark.parametrize("tool", ["phantom", "check"])
def test_a_tool_names_the_nearest_data_set(
    tool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([tool, "isik", "--root", str(tmp_path / "new")]) == 2
    assert "Did you mean isic?" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_doctor_says_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert re.search(rf"torch +{re.escape(torch.__version__.split('+')[0])}", text)
    assert "wandb" in text


def test_doctor_lists_the_encoders_whose_weights_are_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, str | None]] = []

    def available(weights: str, encoder: str | None = None) -> bool:
        asked.append((weights, encoder))
        return encoder == "mit_b3"

    monkeypatch.setattr("meddiff.networks.pretrained.pretrained_available", available)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"mit_b3 +found +ImageNet, for segformer, preset paper", text)
    assert re.search(r"resnet50 +not found +ImageNet, for deeplabv3, preset paper", text)
    assert {weights for weights, _ in asked} == {"imagenet"}


def test_a_run_leaves_the_process_as_it_was(toy: Command) -> None:
    argv, environment, path = list(sys.argv), dict(os.environ), list(sys.path)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    handlers = [signal.getsignal(number) for number in numbers]
    assert toy("fit", "--trainer.max_steps", "1", "--trainer.deterministic", "true") == 0
    assert sys.argv == argv
    assert sys.path == path
    assert dict(os.environ) == environment
    assert [signal.getsignal(number) for number in numbers] == handlers
    assert not torch.are_deterministic_algorithms_enabled()


def test_several_processes_are_not_started_from_python(
    toy: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert toy("fit", "--trainer.devices", "2", "--trainer.strategy", "ddp") == 2
    assert "python -m lightning_app" in capsys.readouterr().err


@pytest.mark.parametrize("subcommand", ["fit", "predict"])
def test_a_name_that_no_config_can_hold_is_one_error(
    subcommand: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = os.fsdecode(b"data/caf\xe9")
    assert main([subcommand, "--data.init_args.root", root]) == 2
    told = capsys.readouterr().err
    assert told.startswith(r"error: data/caf\xe9: the name is no UTF-8")
    assert "ln -s" in told
