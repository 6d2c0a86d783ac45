"""The parser knows what classes take, whoever declares it, and offers only what can be made."""

import inspect
import re
from pathlib import Path

import pytest
from lightning.pytorch import LightningDataModule, LightningModule

import data_modules
import meddiff
from lightning_app.cli import main
from lightning_app.config_files import Given
from lightning_app.parser import BASES, arguments_of, in_few_words, subclasses

DATA = sorted(subclasses(LightningDataModule).keys() & set(data_modules.__all__))


@pytest.mark.parametrize("name", DATA)
def test_a_misspelt_argument_of_a_data_module_is_put_right(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["fit", "--model", "HybridDiffusionModule", "--data", name]
    assert main([*given, "--data.init_args.image_sze", "64"]) == 2
    assert "did you mean 'data.init_args.image_size'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["HybridDiffusionModule", "HybridFinetuneModule", "LMIDiffusionModule", "LEDMModule"]
)
def test_a_misspelt_argument_of_a_module_is_put_right(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["fit", "--model", name, "--data", "ISICDataModule"]
    assert main([*given, "--model.init_args.model_chanels", "64"]) == 2
    assert "did you mean 'model.init_args.model_channels'?" in capsys.readouterr().err


def test_arguments_that_a_class_passes_on_are_known() -> None:
    arguments = arguments_of("ISICDataModule", LightningDataModule)
    assert {"year", "root", "image_size", "batch_size", "seed"} <= arguments
    assert arguments_of("no.Such", LightningDataModule) == set()


@pytest.mark.parametrize("section", sorted(BASES))
def test_what_cannot_be_made_is_no_choice(section: str, capsys: pytest.CaptureFixture[str]) -> None:
    known = subclasses(BASES[section])
    ours = {"model": meddiff, "data": data_modules}[section]
    own = {name for name, kind in known.items() if kind.__module__.startswith(ours.__name__)}
    assert own == {name for name in ours.__all__ if name in known}
    assert not [name for name, kind in known.items() if inspect.isabstract(kind)]
    assert main(["fit", "--help"]) == 0
    listed = re.findall(r"known:([\w\s,]+)\)", capsys.readouterr().out)
    shown = [word.strip() for word in listed[section == "data"].split(",")]
    assert shown == sorted(known)
    assert BASES[section].__name__ not in shown


def test_every_public_module_is_a_choice() -> None:
    public = {
        name
        for name, kind in vars(meddiff).items()
        if isinstance(kind, type) and issubclass(kind, LightningModule)
    }
    assert public <= subclasses(LightningModule).keys()


def test_an_unknown_class_is_answered_with_those_that_can_be_made(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["fit", "--model", "NoSuchModule", "--data", "ISICDataModule"]) == 2
    text = capsys.readouterr().err
    assert "HybridDiffusionModule" in text
    for base in ("AdamWModule", "Segmenter", "ScoreModule", "LightningModule,"):
        assert base not in text


def test_a_wrong_value_is_named_where_it_stands() -> None:
    callback = {"class_path": "EarlyStopping", "init_args": {"monitor": 7}}
    config = {"best": {"monitor": "val/loss"}, "trainer": {"callbacks": [callback]}}
    given = Given([], [Path("c.yaml")], [config])
    said = "Parser key \"monitor\": Expected a <class 'str'>. Got value: 7"
    place = "trainer.callbacks[0].init_args.monitor"
    assert in_few_words(said, given, []) == f"{place}: expected str. Got value: 7"
    said = said.replace("7", "val/loss")
    assert in_few_words(said, given, []).startswith("best.monitor: ")


@pytest.mark.parametrize("section", ["model", "data"])
def test_a_class_of_the_other_section_is_told_under_its_own(
    section: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = {"model": "ISICDataModule", "data": "HybridDiffusionModule"}[section]
    assert main(["fit", "--model", name, "--data", name]) == 2
    text = capsys.readouterr().err
    assert text.startswith(("error: model: no class", "error: data: no class"))
    assert f"did you mean {name!r}" not in text
