import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import callbacks
from lightning_app.cli import main
from lightning_app.standing import STANDING
from tests.lightning_app.conftest import Command
from tests.lightning_app.test_loggers import rows
from tests.lightning_app.toys import ARGS, HERE

Runs = Callable[[], list[Path]]
Captured = pytest.CaptureFixture[str]
EVERY_2_EPOCHS = ["--trainer.check_val_every_n_epoch", "2"]
HALF_AN_EPOCH = ["--trainer.val_check_interval", "0.5"]


def printed(capsys: Captured, *args: str) -> dict[str, Any]:
    assert main(["fit", *args, "--print_config"]) == 0
    content: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return content


def every_batches(number: int) -> list[str]:
    """Validation after so many batches, whatever the epoch."""
    steps = ["--trainer.check_val_every_n_epoch", "null"]
    return [*steps, "--trainer.val_check_interval", str(number)]


def test_a_printed_config_reads_back_to_itself(tmp_path: Path, capsys: Captured) -> None:
    first = printed(capsys, *ARGS, "--ema.decay", "0.9", "--seed_everything", "3")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(first))
    assert printed(capsys, "--config", str(tmp_path / "c.yaml")) == first


def test_every_standing_callback_is_a_key_with_plain_defaults(capsys: Captured) -> None:
    config = printed(capsys, *ARGS)
    for key, name in STANDING.items():
        assert isinstance(config[key], dict), key
        assert hasattr(callbacks, name)
        assert getattr(callbacks, name)(**config[key])


def test_a_run_directory_tells_what_ran(toy: Command, toy_runs: Runs) -> None:
    given = ["--trainer.max_steps", "2", *every_batches(1)]
    assert toy("fit", *given, "--seed_everything", "7") == 0
    (run,) = toy_runs()
    record = json.loads((run / "run.json").read_text())
    assert record["seed"] == 7
    assert record["command"].startswith("lightning fit --model")
    assert record["state"] == "finished"
    assert record["versions"]["lightning"].startswith("2.6")
    assert record["hardware"]["cpus"] >= 1
    assert record["started"] < record["ended"]
    assert record["git"] is None or len(record["git"]["commit"]) == 40
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["trainer"]["max_steps"] == 2
    assert "image_size" not in config["model"]["init_args"]
    assert json.loads((run / "splits.json").read_text())["val"] == ["c.png"]
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert (run / "checkpoints" / "last.ckpt").is_file()


def test_a_run_config_fits_every_subcommand(toy: Command, toy_runs: Runs) -> None:
    assert toy("fit", "--trainer.max_steps", "1") == 0
    config = str(toy_runs()[0] / "config.yaml")
    for subcommand in ("validate", "test", "fit"):
        assert main([subcommand, "--config", config]) == 0
    last = toy_runs()[-1]
    assert last.parent.name == "ToyModule", "a run's config keeps the name of its run"
    for subcommand in ("fit", "validate", "test", "predict"):
        assert main([subcommand, "--config", str(last / "config.yaml"), "--print_config"]) == 0


def test_the_name_of_a_carried_config_is_enough(capsys: Captured, tmp_path: Path) -> None:
    names = ["hybrid_isic", "configs/hybrid_isic.yaml", "hybrid_isic.yaml"]
    configs = [printed(capsys, "--config", name) for name in names]
    assert configs[0] == configs[1] == configs[2]


def test_a_failed_run_keeps_what_it_wrote(toy: Command, toy_runs: Runs) -> None:
    given = ["--best.monitor", "val/none", *every_batches(2)]
    assert toy("fit", "--trainer.max_steps", "4", *given) == 2
    (run,) = toy_runs()
    record = json.loads((run / "run.json").read_text())
    assert record["state"] == "failed"
    assert "val/none" in record["error"]
    assert (run / "metrics.csv").is_file()
    assert not (run / "run.lock").exists()


def test_validation_by_epochs_leaves_an_interval_in_batches_aside(
    toy: Command, toy_runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    # An epoch has 4 batches: Lightning refuses 250, and 3 is not what "every 2 epochs" says.
    for interval in ("250", "3"):
        caplog.clear()
        given = ["--trainer.val_check_interval", interval]
        assert toy("fit", "--trainer.max_steps", "9", *given, *EVERY_2_EPOCHS) == 0
        assert caplog.text.count(f"val_check_interval: {interval} batches is not used") == 1
        run = toy_runs()[-1]
        assert [row["step"] for row in rows(run) if row["val/loss"]] == ["7", "8"]
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert config["trainer"]["val_check_interval"] == int(interval)


def test_other_validation_intervals_stay(
    toy: Command, toy_runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    # The last step is validated whatever the interval.
    for given, steps in ((every_batches(3), list("258")), (HALF_AN_EPOCH, list("13578"))):
        assert toy("fit", "--trainer.max_steps", "9", *given) == 0
        assert [row["step"] for row in rows(toy_runs()[-1]) if row["val/loss"]] == steps
    assert "is not used" not in caplog.text


def test_fp16_is_replaced_where_the_module_cannot_bear_it(
    toy: Command, caplog: pytest.LogCaptureFixture
) -> None:
    # On a CPU 16-mixed itself would be an error.
    assert toy("fit", "--trainer.max_steps", "1", "--trainer.precision", "16-mixed") == 0
    assert caplog.text.count("ToyModule cannot take 16-mixed; 32-true is used") == 1


def test_a_users_own_callback_and_logger_go_along(toy: Command, toy_runs: Runs) -> None:
    logger = '{"class_path": "CSVLogger", "init_args": {"save_dir": "mine"}}'
    given = ["--trainer.callbacks", f"{HERE}.Rates", "--trainer.logger", logger]
    assert toy("fit", "--trainer.max_steps", "1", *given) == 0
    assert list(Path("mine").rglob("metrics.csv"))
    assert (toy_runs()[0] / "metrics.csv").is_file()


def test_run_root_moves_the_runs(toy: Command, tmp_path: Path) -> None:
    assert toy("fit", "--trainer.max_steps", "1", "--run_root", "elsewhere") == 0
    assert len(list((tmp_path / "elsewhere" / "ToyModule").iterdir())) == 1
    assert not (tmp_path / "runs").exists()


def test_a_timer_of_lightning_can_be_given(
    toy: Command, toy_runs: Callable[[], list[Path]]
) -> None:
    timer = '[{"class_path": "Timer", "init_args": {"duration": "00:01:00:00"}}]'
    assert toy("fit", "--trainer.max_steps", "1", "--trainer.callbacks", timer) == 0
    (run,) = toy_runs()
    (kept,) = yaml.safe_load((run / "config.yaml").read_text())["trainer"]["callbacks"]
    assert kept["init_args"]["interval"] == "step"
    assert toy("test", "--ckpt_path", str(run)) == 0
