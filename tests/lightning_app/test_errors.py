import re
from pathlib import Path

import pytest

from callbacks import NonFiniteLossError
from data_modules.errors import CorruptImageError, DataError
from lightning_app.cli import main
from lightning_app.errors import MAX_LINES, describe, did_you_mean
from tests.lightning_app.conftest import Command
from tests.lightning_app.toys import HERE

Captured = pytest.CaptureFixture[str]

GIVEN = [
    (["--model", "ToyModul"], ["model: no class 'ToyModul'", "'ToyModule'"]),
    (["--data", "ToyDataModul"], ["data: no class", "'ToyDataModule'"]),
    (["--model.init_args.learn_rate", "1"], ["model.init_args.learning_rate"]),
    (["--trainer.max_step", "3"], ["trainer.max_step (", "'trainer.max_steps'"]),
    (["--emma.decay", "0.9"], ["emma.decay", "'ema.decay'"]),
    (["--trainer.max_steps", "x"], ["trainer.max_steps: expected int", "x"]),
    (["--model.init_args.learning_rate", "x"], ["model.init_args.learning_rate: expected float"]),
    (["--ema.decay", "2"], ["ema.decay: expected number >=0 and <1, or null", "2"]),
    (["--model.init_args.image_size", "8"], ["comes from data.init_args.image_size"]),
    (["--model.seed", "8"], ["comes from seed_everything"]),
    (["--data.init_args.seed", "8"], ["comes from seed_everything"]),
    (["--trainer.devices", "foo"], ["trainer:", "devices"]),
    (["--trainer.default_root_dir", "here"], ["--run_root"]),
    (["--ckpt_path", "nowhere.ckpt"], ["nowhere.ckpt: no such checkpoint"]),
    (["--trainer.precision", "bf16-true"], ["trainer.precision: bf16-true", "give bf16-mixed"]),
    (["--resume", "nowhere"], ["nowhere: is no run directory"]),
    (["--config", "configs/hybrid_isik.yaml"], ["configs/hybrid_isic.yaml"]),
    (["--config"], ["--config: give a file"]),
]


@pytest.mark.parametrize(("given", "expected"), GIVEN)
def test_a_mistake_is_told_in_a_few_lines(
    given: list[str], expected: list[str], toy: Command, tmp_path: Path, capsys: Captured
) -> None:
    assert toy("fit", *given) == 2
    captured = capsys.readouterr()
    for words in expected:
        assert words in captured.err
    assert "Traceback" not in captured.err
    assert "usage" not in captured.err
    assert len((captured.out + captured.err).splitlines()) <= 25
    assert not list(tmp_path.rglob("run.json")), "a mistake leaves no run directory"


def test_a_run_directory_that_is_removed_is_said_to_be(
    toy: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert toy("fit", "--trainer.devices", "foo") == 2
    announced = re.findall(r"run directory: (\S+)", caplog.text)
    assert len(announced) == 1
    assert f"nothing was done in it: {announced[0]} is removed again" in caplog.text
    assert not (tmp_path / announced[0]).exists()


FILES = [
    ("ema:\n  decay: 0.9\n  decay: 0.8\n", ["c.yaml:3: ema.decay is given twice", "line 2"]),
    ("optimiser: {}\n", ["optimiser (in c.yaml): no such key"]),
    ("optimiser:\nrun_root: runs\n", ["optimiser (in c.yaml): no such key"]),
    ("samples:\nrun_root: runs\n", ["samples (in c.yaml): holds no keys"]),
    ("sampels:\n  num: 3\n", ["sampels.num (in c.yaml)", "'samples.num'"]),
    ("trainer:\n max_steps: 3\n  x: 4\n", ["c.yaml:3: is not YAML"]),
    ("- 3\n", ["c.yaml: holds a list"]),
    (
        f"model:\n  class_path: {HERE}.ToyModule\n  init_args: {{widht: {{}}}}\n",
        ["model.init_args.widht (in c.yaml)", "'width'"],
    ),
    (
        f"model:\n  class_path: {HERE}.ToyModule\n  init_args: {{image_size: 3}}\n",
        ["model.init_args.image_size (in c.yaml)", "data.init_args.image_size"],
    ),
]


@pytest.mark.parametrize(("text", "expected"), FILES)
def test_a_mistake_in_a_file_is_named(
    text: str, expected: list[str], toy: Command, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert toy("fit", "--config", "c.yaml") == 2
    error = capsys.readouterr().err
    for words in expected:
        assert words in error


def test_nothing_given_says_what_to_give(capsys: Captured) -> None:
    assert main(["fit"]) == 2
    assert "--config configs/hybrid_isic.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("--data.init_args.source", "T1"), "data.init_args.source: T1 given, as data.init_args.t"),
        (("--model.init_args.sampler", "ancestral"), "sampler: 'ancestral' is not one of euler"),
        (("--data.init_args.image_size", "120"), "image_size: 120 cannot be halved 4 times"),
    ],
)
def test_a_mistake_that_a_class_finds_is_told_alone(
    given: tuple[str, str], expected: str, capsys: Captured
) -> None:
    assert main(["fit", "--config", "configs/lmi_ixi_t1.yaml", *given]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "Union" not in error
    assert len(error.strip().splitlines()) == 1


def test_a_bug_keeps_its_traceback(toy: Command) -> None:
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        toy("fit", "--trainer.callbacks", f"{HERE}.Bug")


def test_a_full_memory_says_what_to_lower(toy: Command, capsys: Captured) -> None:
    assert toy("fit", "--trainer.callbacks", f"{HERE}.OutOfMemory") == 2
    assert "data.init_args.batch_size" in capsys.readouterr().err


def test_what_is_a_mistake_and_what_is_a_bug() -> None:
    assert describe(NonFiniteLossError("at step 3")) == "error: at step 3"
    assert describe(CorruptImageError("a.jpg", "cut short")) == "error: a.jpg: cut short"
    assert describe(ValueError("of a library")) is None
    assert describe(KeyError("x")) is None


def test_an_error_from_a_worker_loses_its_traceback() -> None:
    text = (
        "Caught CorruptImageError in DataLoader worker process 0.\n"
        "Original Traceback (most recent call last):\n"
        '  File "x.py", line 3, in __getitem__\n    raise\n'
        "data_modules.errors.CorruptImageError: a.jpg: cut short\n"
    )
    assert describe(CorruptImageError(text)) == "error: a.jpg: cut short"


def test_a_long_error_is_cut() -> None:
    text = describe(CorruptImageError("\n".join(f"file {n}" for n in range(100))))
    assert text is not None
    assert len(text.splitlines()) == MAX_LINES + 1
    assert text.endswith(f"{100 - MAX_LINES} more lines")


def test_only_a_near_name_is_offered() -> None:
    assert did_you_mean("Samples", ["samples", "ema"]) == "; did you mean 'samples'?"
    assert did_you_mean("xyz", ["samples", "ema"]) == ""


def test_names_that_are_no_utf_8_are_escaped() -> None:
    told = describe(CorruptImageError("data/caf\udce9.png", "is torn"))
    assert told == r"error: data/caf\xe9.png: is torn"
    assert describe(DataError("läsion.png: is torn")) == "error: läsion.png: is torn"
