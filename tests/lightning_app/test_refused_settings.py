"""Settings that cannot be meant are refused when they are parsed: no data, no weights, no Trainer.

Each row is what is given, and words of the error. What depends on two arguments is refused by the
class when it is made, which is before data are read too.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_app.cli import main
from lightning_app.errors import UsageError
from lightning_app.preparation import Preparation
from lightning_app.training import MedDiffCLI
from tests.lightning_app.conftest import Command
from tests.lightning_app.toys import ARGS

Parse = Callable[..., Any]

HYBRID = ("--model", "HybridDiffusionModule", "--data", "ISICDataModule")
LEDM = ("--model", "LEDMModule", "--data", "ISICDataModule")
SCORE = ("--model", "LMIDiffusionModule", "--data", "IXIDataModule")
NOISE = ("--model", "HybridDiffusionModule", "--data", "NoiseDataModule")

WHOLE, FROM_0, FROM_2 = "whole number >0", "whole number >=0", "whole number >=2"
POSITIVE, NOT_NEGATIVE = "number >0, finite", "number >=0, finite"
BELOW_1, UNIT = "number >=0 and <1", "number >=0 and <=1"
LIMIT = f"{FROM_0} or a {UNIT}"
SEED = "whole number >=0 and <=4294967295"

MODEL: list[tuple[tuple[str, ...], str, list[str], str]] = [
    (HYBRID, "learning_rate", ["-1", "nan", ".nan", ".inf", "-.inf", "x", "true"], NOT_NEGATIVE),
    (HYBRID, "weight_decay", ["-1e-6", ".nan", ".inf"], NOT_NEGATIVE),
    (HYBRID, "adam_betas", ["[-0.1, 0.9]", "[0.9, 1.0]", "[.nan, 0.9]"], BELOW_1),
    (HYBRID, "adam_eps", ["0", "-1", ".nan", ".inf"], POSITIVE),
    (HYBRID, "warmup_steps", ["-1", "1.5", ".inf"], FROM_0),
    (HYBRID, "mask_weight", ["-0.1", ".nan", ".inf"], NOT_NEGATIVE),
    (HYBRID, "num_inference_steps", ["0", "-5", "2.5"], WHOLE),
    (HYBRID, "dropout", ["-0.1", "1", "1.5", ".nan"], BELOW_1),
    (HYBRID, "model_channels", ["0", "1", "-32"], FROM_2),
    (HYBRID, "channel_mult", ["[1, 0]", "[1, -2]", "[1, 1.5]"], WHOLE),
    (HYBRID, "num_res_blocks", ["0", "-1"], WHOLE),
    (HYBRID, "attention_resolutions", ["[0]", "[-16]"], WHOLE),
    (HYBRID, "num_head_channels", ["0", "-32"], WHOLE),
    (LEDM, "blocks", ["[18]", "[-1]"], "whole number >=0 and <=17"),
    (LEDM, "noise_timesteps", ["[1000]", "[-1]"], "whole number >=0 and <=999"),
    (LEDM, "noise_seed", ["-1", "4294967296"], SEED),
    (LEDM, "min_class_pixels", ["-1"], FROM_0),
    (LEDM, "pixel_batch_size", ["0", "1", "-64"], FROM_2),
    (LEDM, "learning_rate", ["-1", ".nan"], NOT_NEGATIVE),
    (LEDM, "patience", ["-1"], FROM_0),
    (SCORE, "strength", ["-0.1", "1.1", ".nan"], UNIT),
    (SCORE, "sigma_min", ["0", "-1", ".nan"], POSITIVE),
    (SCORE, "sigma_max", ["0", ".inf", ".nan"], POSITIVE),
    (SCORE, "num_inference_steps", ["0"], WHOLE),
    (SCORE, "patch_size", ["0", "-3"], WHOLE),
    (SCORE, "search_size", ["0", "-3"], WHOLE),
    (SCORE, "bins", ["1", "0", "-27"], FROM_2),
    (SCORE, "bandwidth", ["0", "-8", ".nan", ".inf"], POSITIVE),
]
DATA: list[tuple[tuple[str, ...], str, list[str], str]] = [
    (HYBRID, "image_size", ["0", "-64", "64.5"], WHOLE),
    (HYBRID, "in_channels", ["0", "-3"], WHOLE),
    (HYBRID, "batch_size", ["0", "-1", ".inf"], WHOLE),
    (HYBRID, "num_workers", ["-1"], FROM_0),
    (HYBRID, "val_fraction", ["-0.1", "1", "1.5", ".nan", ".inf"], BELOW_1),
    (HYBRID, "split_seed", ["-1", "4294967296"], SEED),
    (HYBRID, "num_classes", ["1", "0", "65"], "whole number >=2 and <=64"),
    (HYBRID, "test_fraction", ["-0.1", "1.5", ".nan"], UNIT),
    (HYBRID, "num_train_samples", ["0", "-1"], WHOLE),
    (HYBRID, "num_val_samples", ["0"], WHOLE),
    (HYBRID, "num_test_samples", ["0"], WHOLE),
    (HYBRID, "frame", ["-1"], FROM_0),
    (SCORE, "num_train_subjects", ["0", "-1"], WHOLE),
    (SCORE, "num_test_subjects", ["-1"], FROM_0),
    (SCORE, "slices", ["[1.5]", "[-0.1]", "[.nan]"], UNIT),
    (SCORE, "percentiles", ["[-1, 50]", "[50, 101]"], "number >=0 and <=100"),
    (NOISE, "num_samples", ["0", "-1"], WHOLE),
    (NOISE, "num_classes", ["1"], "whole number >=2 and <=64"),
]
OTHERS: list[tuple[str, list[str], str]] = [
    ("seed_everything", ["-1", "4294967296", "1.5", "x"], SEED),
    ("ema.decay", ["1", "-0.1", ".nan"], BELOW_1),
    ("ema.every_n_steps", ["0", "-1"], WHOLE),
    ("guard.every_n_steps", ["0"], WHOLE),
    ("throughput.every_n_steps", ["0"], WHOLE),
    ("samples.every_n_steps", ["0"], WHOLE),
    ("samples.num", ["-1"], FROM_0),
    ("samples.seed", ["-1"], SEED),
    ("metrics.bootstrap", ["-1"], FROM_0),
    ("metrics.confidence", ["0", "1", ".nan"], "number >0 and <1"),
    ("metrics.num", ["-1"], FROM_0),
    ("metrics.seed", ["-1"], SEED),
    ("translation.clusters", ["1", "-5"], FROM_2),
    ("translation.seed", ["4294967296"], SEED),
    ("translation.num", ["-1"], FROM_0),
    ("progress.every_n_seconds", ["0", "-1", ".nan", ".inf"], POSITIVE),
    ("early_stopping.patience", ["0", "-1", "1.5"], WHOLE),
    ("early_stopping.min_delta", ["-0.1", ".nan", ".inf"], NOT_NEGATIVE),
    ("last.every_n_steps", ["0"], WHOLE),
    ("preemption.every_n_steps", ["0", "-1"], WHOLE),
    ("trainer.max_steps", ["-5", "-2"], "whole number >=-1"),
    ("trainer.max_epochs", ["-2"], "whole number >=-1"),
    ("trainer.min_steps", ["-1"], FROM_0),
    ("trainer.min_epochs", ["-1"], FROM_0),
    ("trainer.accumulate_grad_batches", ["0", "-1"], WHOLE),
    ("trainer.gradient_clip_val", ["-1", ".nan", ".inf"], NOT_NEGATIVE),
    ("trainer.log_every_n_steps", ["-1"], FROM_0),
    ("trainer.val_check_interval", ["0", "-1", "1.5", ".nan"], f"{WHOLE} or a number >0 and <=1"),
    ("trainer.val_check_interval", ["soon", "{days: -1}"], "DD:HH:MM:SS"),
    ("trainer.check_val_every_n_epoch", ["0", "-1"], WHOLE),
    ("trainer.limit_train_batches", ["-1", "1.5", ".inf"], LIMIT),
    ("trainer.limit_val_batches", ["-0.5"], LIMIT),
    ("trainer.limit_test_batches", ["-1"], LIMIT),
    ("trainer.limit_predict_batches", [".nan"], LIMIT),
    ("trainer.overfit_batches", ["-1", ".nan"], LIMIT),
    ("trainer.num_sanity_val_steps", ["-2"], "whole number >=-1"),
    ("trainer.reload_dataloaders_every_n_epochs", ["-1"], FROM_0),
    ("trainer.fast_dev_run", ["-1"], FROM_0),
    ("trainer.num_nodes", ["0", "-1"], WHOLE),
    ("trainer.devices", ["0", "-2", "[-1]"], "whole number"),
    ("trainer.devices", ["[]"], "one or more"),
    ("trainer.max_time", ["soon", "00:00:00:00", "1:2", "{days: -1}", "{years: 1}"], "DD:HH:MM:SS"),
]
ROWS = [
    *((*given, f"--{part}.init_args.{name}={value}", expected)
      for part, rows in (("model", MODEL), ("data", DATA))
      for given, name, values, expected in rows for value in values),
    *((*ARGS, f"--{key}={value}", expected)
      for key, values, expected in OTHERS for value in values),
]  # fmt: skip

ACCEPTED = [  # several at a time: a parse takes a while
    (HYBRID, "model.init_args.", [
        "learning_rate=0", "weight_decay=0", "adam_betas=[0, 0.999]", "warmup_steps=0",
        "mask_weight=0", "dropout=0", "num_inference_steps=1", "attention_resolutions=[]",
        "num_head_channels=null", "model_channels=2",
    ]),
    (HYBRID, "data.init_args.", [
        "val_fraction=0", "num_workers=0", "batch_size=1", "test_fraction=1", "frame=0",
        "split_seed=4294967295", "num_classes=64", "num_train_samples=null", "image_size=1",
    ]),
    (ARGS, "", [
        "seed_everything=4294967295", "ema.decay=0", "early_stopping.patience=null",
        "early_stopping.min_delta=0", "metrics.bootstrap=0", "samples.num=0",
        "progress.every_n_seconds=null",
    ]),
    (ARGS, "trainer.", [
        "max_steps=-1", "max_epochs=-1", "limit_val_batches=0", "limit_train_batches=0.5",
        "val_check_interval=1", "check_val_every_n_epoch=null", "gradient_clip_val=0",
        "log_every_n_steps=0", "num_sanity_val_steps=-1", "fast_dev_run=true", "devices=-1",
        "max_time=00:01:30:00",
    ]),
    (ARGS, "trainer.", [
        "max_steps=0", "max_epochs=0", "limit_val_batches=7", "val_check_interval=1.0",
        "gradient_clip_val=null", "fast_dev_run=0", "devices=[0]", "max_time={hours: 3}",
    ]),
    (ARGS, "trainer.", [
        "val_check_interval=00:01:00:00", "devices=auto", "max_time=null", "max_epochs=null",
    ]),
    (ARGS, "trainer.", ["devices=0,", "limit_val_batches=1.0"]),
]  # fmt: skip


class _Parsed(Exception):
    """Everything after parsing is left out."""


class ParserOnly(MedDiffCLI):
    """The command up to its parsed config."""

    def parse_arguments(self, parser: Any, args: Any) -> None:
        super().parse_arguments(parser, args)
        raise _Parsed

    def again(self, *args: str) -> Any:
        with pytest.raises(_Parsed):
            self.parse_arguments(self.parser, ["fit", *args])
        return self.config["fit"]


@pytest.fixture(scope="module")
def parse() -> Parse:
    """Parses a fit with one parser for all."""
    cli = ParserOnly.__new__(ParserOnly)
    with pytest.raises(_Parsed):
        cli.__init__(  # type: ignore[misc]
            ["fit", *ARGS], ExitStack(), Preparation("fit"), in_process=True
        )
    return cli.again


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[-2])
def test_refused(row: tuple[str, ...], parse: Parse) -> None:
    *given, expected = row
    key, value = given[-1].removeprefix("--").split("=")
    with pytest.raises(UsageError) as refused:
        parse(*given)
    message = str(refused.value)
    assert message.startswith(f"{key}: ")
    assert expected in message
    number = yaml.safe_load(value)
    shown = number if isinstance(number, list) and number else [value, number]
    assert any(str(item) in message for item in shown)
    assert len(message.splitlines()) <= 4


@pytest.mark.parametrize("unit", ["steps", "epochs"])
def test_a_least_end_beyond_the_last_is_refused(unit: str, parse: Parse) -> None:
    with pytest.raises(UsageError, match=rf"trainer\.min_{unit}: 9 given, and max_{unit} is 8"):
        parse(*ARGS, f"--trainer.min_{unit}=9", f"--trainer.max_{unit}=8")
    parse(*ARGS, f"--trainer.min_{unit}=9", f"--trainer.max_{unit}=-1")


def test_there_are_enough() -> None:
    assert len(ROWS) >= 150


@pytest.mark.parametrize(("given", "section", "edges"), ACCEPTED)
def test_the_edges_are_accepted(
    given: tuple[str, ...], section: str, edges: list[str], parse: Parse
) -> None:
    config = parse(*given, *(f"--{section}{edge}" for edge in edges))
    for edge in edges:
        key, value = edge.split("=")
        number = yaml.safe_load(value)
        taken = config[f"{section}{key}"]
        taken = list(taken) if isinstance(taken, tuple) else taken
        assert taken == number or taken == str(number)


def test_refused_by_the_command_before_anything_is_made(
    toy: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for given in ("--ema.decay=2", "--seed_everything=-1", "--trainer.max_steps=-5"):
        assert toy("fit", given) == 2
        assert capsys.readouterr().err.startswith(f"error: {given[2:].split('=')[0]}: ")
    tiny = ("--model.init_args.preset=tiny", "--data.init_args.root=not_there")
    assert main(["fit", *HYBRID, *tiny, "--data.init_args.image_size=33"]) == 2
    assert "image_size: 33 cannot be halved 1 times" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["phantom", "isic", "--root", "made", "--num", "-1"], "--num: -1 given, expected"),
        (["phantom", "isic", "--root", "made", "--num", "0"], "--num: 0 given, expected"),
        (["phantom", "isic", "--root", "made", "--seed", "-1"], "--seed: -1 given, expected"),
        (["table", "hybrid", "--scale", "cpu_demo", "--seeds", "0"], "--seeds"),
        (["table", "hybrid", "--scale", "cpu_demo", "--jobs", "-1"], "--jobs"),
        (["check", "isic", "--root", ".", "--set", "batch_size=0"], "batch_size: expected"),
        (["check", "isic", "--root", ".", "--set", "val_fraction=.nan"], "val_fraction: expected"),
    ],
)
def test_refused_by_the_tools(
    command: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
