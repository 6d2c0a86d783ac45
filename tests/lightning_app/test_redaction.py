"""What leaves of a value follows from the type that its argument was declared with."""

import datetime
import enum
import pickle
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from jsonargparse.typing import PositiveInt
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import Strategy

from data_modules import IXIDataModule
from lightning_app.declared import argument_types
from lightning_app.loggers import run_title
from lightning_app.redaction import REDACTED, Redaction, redact
from lightning_app.senders import guarded
from meddiff import SegmentationModule
from tests.lightning_app.toys import ToyDataModule, ToyModule


class Colour(enum.Enum):
    RED = "a secret word"


@dataclass
class Site:
    name: str
    kind: Literal["clinic", "lab"]
    beds: int


class Visit(TypedDict):
    day: str
    hours: float


Kind = Literal["mild", "severe"]
DATE = datetime.date(1963, 11, 22)
ANY_STOP = {"class_path": "EarlyStopping", "init_args": REDACTED}
STR_CLASS = "lightning.pytorch.callbacks.EarlyStopping"


@pytest.mark.parametrize(
    ("value", "hint", "left"),
    [
        # Scalars.
        (None, str, None),
        (3, int, 3),
        (0.5, float | None, 0.5),
        (True, bool, True),
        (7, PositiveInt, 7),
        (3, Any, 3),
        (101, str, REDACTED),
        (101, str | None, REDACTED),
        (1, int | str, 1),
        (20010203, Path, REDACTED),
        ("", str, ""),
        ("smith", str, REDACTED),
        ("smith", Any, REDACTED),
        ("mild", Any, REDACTED),
        (DATE, Any, REDACTED),
        (datetime.datetime(1963, 11, 22, tzinfo=datetime.UTC), str, REDACTED),
        (datetime.timedelta(1), Any, REDACTED),
        (Path("x"), Path, REDACTED),
        (b"smith", Any, REDACTED),
        (object(), Any, REDACTED),
        # What is enumerated.
        ("mild", Kind, "mild"),
        ("mild", Kind | None, "mild"),
        ("smith", Kind, REDACTED),
        ("auto", Literal["auto"] | str, "auto"),
        ("smith", Literal["auto"] | str, REDACTED),
        ("mild", Annotated[Kind, "of disease"], "mild"),
        (32, Literal[64, 32] | Literal["bf16"], 32),
        (33, Literal[64, 32] | Literal["bf16"], REDACTED),
        ("RED", Colour, "RED"),
        (Colour.RED, Any, "RED"),
        ("a secret word", Colour, REDACTED),
        # Collections.
        (["mild", "smith"], list[Kind], ["mild", REDACTED]),
        (["smith", 101, 2.5, True, DATE, None], list[str], [REDACTED] * 5 + [None]),
        ([101], list[str | int], [REDACTED]),
        ([101], Sequence[str] | None, [REDACTED]),
        ([0.9, 0.99], tuple[float, float], [0.9, 0.99]),
        ([0.9, "x"], Any, [REDACTED, REDACTED]),
        ([101], object, [REDACTED]),
        ([101], list, [REDACTED]),
        ({"age": 41}, dict, {REDACTED: REDACTED}),
        ((1, 2), tuple[int, ...] | str, [1, 2]),
        ({"smith"}, set[str], [REDACTED]),
        ([0, 1], list[int] | str | int, [0, 1]),
        ([["smith", 5]], list[list[str]], [[REDACTED, REDACTED]]),
        # Mappings: keys are somebody's own words, but those of declared fields.
        ({"smith": 1.5}, dict[str, float], {REDACTED: 1.5}),
        ({"smith": 1, "doe": 2}, dict[str, int], {REDACTED: 1, "<redacted 2>": 2}),
        ({101: 1.5}, dict[str, float], {REDACTED: 1.5}),
        ({3: 1.5}, dict[int, float], {3: 1.5}),
        ({"mild": "doe"}, Mapping[Kind, str], {"mild": REDACTED}),
        ({"a": 101}, dict[str, str], {REDACTED: REDACTED}),
        (
            {"name": "x", "kind": "lab", "beds": 3},
            Site | None,
            {"name": REDACTED, "kind": "lab", "beds": 3},
        ),
        (Site("x", "lab", 3), Any, {"name": REDACTED, "kind": "lab", "beds": 3}),
        ({"day": "x", "hours": 2.0}, Visit, {"day": REDACTED, "hours": 2.0}),
        ({"smith": 2.0}, Visit, {REDACTED: 2.0}),
        ({"class_path": STR_CLASS, "init_args": ["smith"]}, Any, ANY_STOP),
        ({"class_path": 3}, Any, {"class_path": REDACTED}),
        (Namespace(smith=1), dict[str, int], {REDACTED: 1}),
        # Arrays and tensors.
        (np.float32(0.5), float, 0.5),
        (np.int64(101), str, REDACTED),
        (torch.tensor(0.5), Any, 0.5),
        (torch.zeros(3), Any, REDACTED),
        (np.str_("smith"), Any, REDACTED),
        # Classes.
        (Callback, Any, "Callback"),
        ("cpu", str | Accelerator, "cpu"),
        ("auto", str | Strategy, "auto"),
        ("ddp_find_unused_parameters_true", str | Strategy, "ddp_find_unused_parameters_true"),
        ("SingleDeviceStrategy", str | Strategy, "SingleDeviceStrategy"),
        ("smith", str | Strategy, REDACTED),
        (STR_CLASS, type[Callback], "EarlyStopping"),
        (STR_CLASS, Callback | None, "EarlyStopping"),
        (STR_CLASS, str, REDACTED),
        (STR_CLASS, Strategy, REDACTED),
        ("smith.clinic.Net", Callback, REDACTED),
        ("EarlyStopping", object, REDACTED),
        (
            {"class_path": "smith.Net", "init_args": {"x": "y"}},
            Any,
            {"class_path": REDACTED, "init_args": {REDACTED: REDACTED}},
        ),
        (
            [
                {
                    "class_path": STR_CLASS,
                    "init_args": {"monitor": "smith", "mode": "min", "patience": 3},
                }
            ],
            list[Callback] | Callback | None,
            [
                {
                    "class_path": "EarlyStopping",
                    "init_args": {"monitor": REDACTED, "mode": REDACTED, "patience": 3},
                }
            ],
        ),
        (
            {
                "class_path": "IXIDataModule",
                "init_args": {"root": "x", "test_subjects": [101], "source": "T1"},
            },
            dict[str, Any],
            {
                "class_path": "IXIDataModule",
                "init_args": {"root": REDACTED, "test_subjects": [REDACTED], "source": "T1"},
            },
        ),
        (
            {"class_path": STR_CLASS, "dict_kwargs": {"smith": 1}},
            Any,
            {"class_path": "EarlyStopping", "dict_kwargs": {REDACTED: 1}},
        ),
        (
            {"class_path": STR_CLASS, "smith": 1},
            Any,
            {REDACTED: REDACTED, "<redacted 2>": REDACTED},
        ),
    ],
)
def test_what_leaves_of_a_value(value: Any, hint: Any, left: Any) -> None:
    sent = redact(value, hint)
    assert sent == left
    assert type(sent) is type(left)


def test_names_of_libraries_leave_and_others_under_the_same_argument_do_not() -> None:
    types = argument_types(SegmentationModule)
    for argument, known in (
        ("architecture", "deeplabv3"),
        *(("encoder", name) for name in ("resnet50", "tu-resnet18")),
        ("encoder_weights", "imagenet"),
        ("preset", "tiny"),
    ):
        assert redact(known, types[argument]) == known
        assert redact("smith", types[argument]) == REDACTED
    assert redact(["hflip", "smith"], argument_types(IXIDataModule)["augment"]) == [
        *("hflip", REDACTED)
    ]


def test_a_class_that_nobody_understands_sends_no_string() -> None:
    class Odd:
        def __init__(self, kind: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
            self.kind = kind

    assert redact("smith", argument_types(Odd).get("kind", Any)) == REDACTED


def redaction() -> Redaction:
    parser = ArgumentParser()
    parser.add_class_arguments(Trainer, "trainer")
    parser.add_class_arguments(Site, "site")
    return Redaction(parser, (ToyModule, ToyDataModule))


def test_every_way_to_a_logger_is_the_same_one() -> None:
    """Settings by section, optimisers, hyper-parameters, and what nobody declared."""
    sent = redaction()(
        {
            "config": {
                "trainer": {
                    "precision": "bf16-mixed",
                    "profiler": "x",
                    "gradient_clip_algorithm": "norm",
                },
                "site": {"name": "smith", "kind": "lab", "beds": 2},
                "smith": {"doe": "x"},
            },
            "optimizers": {
                "0": {"class": torch.optim.AdamW, "lr": 0.1, "betas": [0.9, 0.99], "note": "x"},
                "1": {"class": torch.optim.SGD, "groups": [{"lr": 0.1, "name": "smith"}]},
            },
            "learning_rate": 0.1,
            "root": "smith",
            "preset": "paper",
            "smith": 3,
        }
    )
    assert sent == {
        "config": {
            "trainer": {
                "precision": "bf16-mixed",
                "profiler": REDACTED,
                "gradient_clip_algorithm": "norm",
            },
            "site": {"name": REDACTED, "kind": "lab", "beds": 2},
            REDACTED: {REDACTED: REDACTED},
        },
        "optimizers": {
            "0": {"class": "AdamW", "lr": 0.1, "betas": [0.9, 0.99], "note": REDACTED},
            "1": {"class": "SGD", "groups": [{"lr": 0.1, "name": REDACTED}]},
        },
        "learning_rate": 0.1,
        "root": REDACTED,
        "preset": REDACTED,  # a plain string in this module
        REDACTED: 3,
    }


class Own(ToyModule):
    """Has arguments that are named like sections."""

    def __init__(
        self, config: str = "", optimizers: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)


@pytest.mark.parametrize(
    ("params", "left"),
    [
        ({"config": "smith"}, {"config": REDACTED}),
        ({"config": {"smith": "x"}}, {"config": {REDACTED: REDACTED}}),
        ({"optimizers": {"smith": 0.1}}, {"optimizers": {REDACTED: 0.1}}),
        (Namespace(root="smith", seed=3), {"root": REDACTED, "seed": 3}),
        (Site("x", "lab", 3), {REDACTED: REDACTED, "<redacted 2>": REDACTED, "<redacted 3>": 3}),
        (None, {}),
        ("smith", {}),
    ],
)
def test_what_a_users_code_sends_is_redacted_in_any_form(params: Any, left: Any) -> None:
    assert Redaction(ArgumentParser(), (Own, ToyDataModule))(params) == left


def test_a_loggers_own_way_is_closed_for_everybody_who_knows_it(tmp_path: Path) -> None:
    logger = guarded(CSVLogger(tmp_path), redaction())
    logger.log_hyperparams({"root": "smith", "seed": 3})
    assert dict(logger.experiment.hparams) == {"root": REDACTED, "seed": 3}  # type: ignore[attr-defined]
    # A strategy that starts processes by pickling takes the loggers along.
    sent = pickle.dumps(guarded(CSVLogger(tmp_path / "b"), redaction()))
    copy: Any = pickle.loads(sent)  # noqa: S301
    copy.log_hyperparams({"root": "smith"})
    assert dict(copy.experiment.hparams) == {"root": REDACTED}


@pytest.mark.parametrize(
    ("run", "title"),
    [
        ("hybrid_isic/20260101-120000", "hybrid_isic-20260101-120000"),
        ("hybrid_isic/20260101-120000-2", "hybrid_isic-20260101-120000-2"),
        ("hybrid_isic/slurm-17.0-r1", "hybrid_isic-slurm-17.0-r1"),
        ("patient_smith/20260101-120000", "ToyModule-20260101-120000"),
        ("hybrid_isic/smith", "hybrid_isic"),
        ("hybrid_isic/torchrun-smith-r0", "hybrid_isic"),
    ],
)
def test_a_run_is_called_by_no_word_of_the_users(run: str, title: str) -> None:
    assert run_title(Path("runs") / run, "ToyModule") == title
