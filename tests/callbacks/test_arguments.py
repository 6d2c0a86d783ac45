import subprocess
import sys

import pytest
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback

import callbacks

# They take no arguments of a config.
WITHOUT_KEY = {"FinalValidation", "NewestFigures", "RunProgressBar", "TrainingRows"}
STANDING = sorted(
    name
    for name in set(callbacks.__all__) - WITHOUT_KEY
    if isinstance(kind := getattr(callbacks, name), type) and issubclass(kind, Callback)
)


def test_all_thirteen_are_there() -> None:
    assert len(STANDING) == 13


@pytest.mark.parametrize("name", STANDING)
def test_defaults_survive_yaml(name: str) -> None:
    kind = getattr(callbacks, name)
    parser = ArgumentParser()
    parser.add_class_arguments(kind, "key")
    dumped = parser.dump(parser.get_defaults())
    assert set(yaml.safe_load(dumped)) == {"key"}
    assert all(
        value is None or isinstance(value, bool | int | float | str)
        for value in yaml.safe_load(dumped)["key"].values()
    )
    again = parser.parse_string(dumped)
    assert again == parser.get_defaults()
    assert isinstance(parser.instantiate_classes(again).key, kind)


@pytest.mark.parametrize("name", STANDING)
def test_every_argument_is_documented(name: str) -> None:
    kind = getattr(callbacks, name)
    parser = ArgumentParser()
    parser.add_class_arguments(kind, "key")
    for action in parser._actions:
        if action.dest.startswith("key."):
            assert action.help, f"{name}: {action.dest}"


def test_import_is_light() -> None:
    heavy = ["diffusers", "wandb", "albumentations", "sklearn"]
    code = f"import callbacks, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
