"""What the base of all data modules of files does, on the two kinds that there are."""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from data_modules.kinds.base import DataModule
from data_modules.kinds.chest import ChestDataModule
from data_modules.kinds.masks import ImageMaskDataModule
from data_modules.kinds.slices import SliceDataModule
from data_modules.registry import DATASETS, AnyDataModule, find_dataset, write_phantom

pytestmark = pytest.mark.filterwarnings("ignore:.*subjects, and.*were asked for")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages whose files are read, one entry each time."""
    read: list[str] = []

    def count(kind: type[AnyDataModule]) -> Callable[[Any, str], Any]:
        original = kind.inspect

        def inspect(self: AnyDataModule, stage: str) -> Any:
            read.append(stage)
            return original(self, stage)

        return inspect

    for kind in (ImageMaskDataModule, SliceDataModule):
        monkeypatch.setattr(kind, "inspect", count(kind))
    return read


@pytest.fixture(params=[("isic", (32, 32)), ("ixi", (24, 24, 16))])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> AnyDataModule:
    """A small data module of each kind."""
    name, size = request.param
    write_phantom(name, tmp_path, num=5, seed=0, size=size)
    return find_dataset(name)(
        root=str(tmp_path), image_size=16, batch_size=1, num_workers=0, val_fraction=0.4
    )


def test_what_was_prepared_is_read_once(data: AnyDataModule, counted: list[str]) -> None:
    data.prepare_data()
    data.setup("fit")
    assert counted == ["fit"]
    assert len(data.train_dataloader()) == len(data.split_table()["train"]) > 0
    data.setup("fit")  # nothing is held longer than one setup needs it
    assert counted == ["fit", "fit"]


def test_another_stage_reads_its_own_files(data: AnyDataModule, counted: list[str]) -> None:
    data.prepare_data()
    data.setup("test")
    assert counted == ["fit", "test"]
    assert len(data.test_dataloader()) > 0


def test_other_processes_set_up_what_they_did_not_prepare(
    data: AnyDataModule, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data.setup("fit")
    alone = data.split_table()
    data.prepare_data()
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as a process that was forked since
    data.setup("fit")
    assert counted == ["fit", "fit", "fit"]
    assert data.split_table() == alone


def test_other_settings_are_read_anew(data: AnyDataModule, counted: list[str]) -> None:
    data.prepare_data()
    data.split_seed += 1
    data.setup("fit")
    assert counted == ["fit", "fit"]


@pytest.mark.parametrize(
    "kind", [DataModule, ImageMaskDataModule, ChestDataModule, SliceDataModule]
)
def test_a_kind_of_data_set_is_abstract(kind: type[AnyDataModule]) -> None:
    assert inspect.isabstract(kind)


@pytest.mark.parametrize("name", DATASETS)
def test_a_config_sees_the_arguments_of_the_bases(name: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    names = parser.add_class_arguments(find_dataset(name), "of", fail_untyped=False)
    assert {"of.root", "of.batch_size", "of.drop_last", "of.augment", "of.seed"} <= set(names)
    defaults = parser.get_defaults()
    slices = name == "ixi"
    assert ("of.num_classes" in names) is not slices
    assert (defaults["of.image_size"], defaults["of.in_channels"], defaults["of.batch_size"]) == (
        (128, 1, 4) if slices else (256, 3, 64)
    )
    given = parser.parse_args(["--of.batch_size", "3"])
    assert given.of.batch_size == 3
