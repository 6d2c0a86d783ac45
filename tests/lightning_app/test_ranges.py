"""Every number says its range, and is a plain number where it is used."""

import math
from io import BytesIO
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeAlias, get_args, get_type_hints

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from jsonargparse.typing import restricted_number_type
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

import callbacks
import data_modules  # noqa: F401  (its classes are found as subclasses)
import meddiff  # noqa: F401  (likewise)
from lightning_app.errors import UsageError
from lightning_app.parser import subclasses
from lightning_app.ranges import check_number, register_plain_numbers
from lightning_app.standing import STANDING
from lightning_app.trainer_settings import RANGES
from meddiff.core.ranges import ClosedUnitInterval, NonNegativeInt, PositiveInt, range_in

if TYPE_CHECKING:
    SHARE: TypeAlias = float
else:
    SHARE = restricted_number_type("UsersShare", float, [(">", 0.1), ("<", 0.9)])

PUBLIC = [
    *subclasses(LightningModule).values(),
    *subclasses(LightningDataModule).values(),
    *(getattr(callbacks, name) for name in STANDING.values()),
]
OURS = sorted(
    {
        owner
        for kind in PUBLIC
        for owner in kind.__mro__
        if "__init__" in vars(owner)
        and owner.__module__.split(".")[0] in ("meddiff", "data_modules", "callbacks")
    },
    key=lambda kind: kind.__qualname__,
)
UNRESTRICTED: dict[str, str] = {}
"""Numeric arguments of ours that may be any number, as `Class.argument`, with the reason."""


def _numeric(hint: Any) -> bool:
    if isinstance(hint, type) and not get_args(hint):
        return issubclass(hint, int | float) and hint is not bool
    # The values of a Literal are no types.
    return any(_numeric(part) for part in get_args(hint))


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_numeric_argument_says_its_range(kind: type) -> None:
    hints = get_type_hints(vars(kind)["__init__"])
    numeric = {name for name, hint in hints.items() if _numeric(hint)}
    free = {name for name in numeric if range_in(hints[name]) is None}
    assert {f"{kind.__name__}.{name}" for name in free} <= set(UNRESTRICTED)
    for name in numeric - free:
        allowed = range_in(hints[name])
        for wrong in (math.nan, math.inf, -math.inf, True, "x"):
            with pytest.raises((ValueError, OverflowError)):
                allowed(wrong)


def test_every_numeric_argument_of_the_trainer_has_a_range() -> None:
    hints = get_type_hints(Trainer.__init__)
    checked_apart = {"devices", "max_time"}
    choices = {"precision", "plugins"}  # names, and objects that have numbers of their own
    numeric = {name for name, hint in hints.items() if _numeric(hint)}
    assert numeric - checked_apart - choices == set(RANGES) - choices


class Users(LightningModule):
    """With a range of its own."""

    def __init__(self, share: SHARE = 0.5, sizes: list[PositiveInt] | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()


@pytest.mark.parametrize(
    ("name", "given"),
    [
        (
            "meddiff.HybridDiffusionModule",
            {"preset": "tiny", "image_size": 16, "attention_resolutions": [8], "dropout": 0}
            | {"learning_rate": 1, "adam_betas": [0, 0.9], "channel_mult": [1, 2], "seed": 3},
        ),
        (f"{__name__}.Users", {"share": 0.25, "sizes": [1, 2]}),
    ],
)
def test_numbers_are_plain_where_they_are_used(name: str, given: dict[str, Any]) -> None:
    register_plain_numbers()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "model")
    config = parser.parse_object({"model": {"class_path": name, "init_args": given}})
    hparams = dict(parser.instantiate(config).model.hparams)
    leaves = [x for v in hparams.values() for x in (v if isinstance(v, list | tuple) else [v])]
    assert {type(leaf) for leaf in leaves} <= {int, float, bool, str, NoneType}
    for key, value in given.items():
        assert list(hparams[key]) == value if isinstance(value, list) else hparams[key] == value
    file = BytesIO()
    torch.save(hparams, file)
    file.seek(0)
    assert torch.load(file, weights_only=True) == hparams
    written = yaml.safe_load(parser.dump(config))["model"]["init_args"]
    assert {key: written[key] for key in given} == given


def test_one_of_several_ranges() -> None:
    for value in (0, 7, 0.5, 1.0, None):
        check_number("share", value, NonNegativeInt, ClosedUnitInterval)
    with pytest.raises(UsageError, match=r"share: 1.5 given, expected a whole number >=0 or a num"):
        check_number("share", 1.5, NonNegativeInt, ClosedUnitInterval)
