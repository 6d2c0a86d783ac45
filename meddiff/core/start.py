"""The weights of an earlier run that a fit starts from: when they are read, what is checked."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from torch import Tensor

from meddiff.core.checkpoint import LIVE, CheckpointError, find_checkpoint
from meddiff.core.module import MedDiffModule
from meddiff.core.portable import is_name, name_of

Weights: TypeAlias = Literal["ema", "live"]


class StartsFrom(MedDiffModule):
    """A module whose fit can start from the weights of an earlier run.

    They are read when a new fit begins; a resumed fit, test and predict do without. A checkpoint
    holds the name and a hash of what was read, not the path.

    Args:
        init_from: Run directory (its last checkpoint) or checkpoint to start from. None: from
            scratch.
        init_weights: `ema` takes averaged weights where the run has them, `live` never.
        **kwargs: As `MedDiffModule`.
    """

    starts: ClassVar[tuple[str, ...]] = ("init_from",)
    """The arguments that name weights by a path."""

    def __init__(
        self, init_from: str | None = None, init_weights: Weights = "ema", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._start_error: CheckpointError | None = None
        self._has_weights = False
        self._start_names: dict[str, str] = {}

    @abstractmethod
    def load_start(self) -> None:
        """Loads the weights that a new fit starts from; without any, training is from scratch.

        Raises:
            CheckpointError: If they are not there or do not fit.
        """

    def start_file(self, argument: str, value: str) -> Path | None:
        """The file that one of `starts` names; None where it names none of this disk.

        Raises:
            CheckpointError: If it is not there.
        """
        return find_checkpoint(Path(value).expanduser(), prefer=("last", "best"))

    def setup(self, stage: str) -> None:
        """Loads, once, what a new fit starts from; a restored module keeps its weights."""
        if stage != "fit" or self._has_weights:
            return
        try:
            self.load_start()
            self._has_weights = True
            # Now: the file may be written over, or gone, when a checkpoint is saved.
            self._start_names = self._names_of(self.hparams)
        except CheckpointError as error:
            # Where the run is resumed its checkpoint is read after this hook.
            self._start_error = error

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Notes that the weights are those of a checkpoint, and what these started from."""
        self._has_weights = True
        remembered = checkpoint.get("hyper_parameters", {})
        named = {key: remembered.get(key) for key in self.starts}
        self._start_names = {key: str(name) for key, name in named.items() if is_name(str(name))}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts names in the place of paths."""
        super().on_save_checkpoint(checkpoint)
        arguments = checkpoint.get("hyper_parameters", {})
        given = {key: value for key, value in arguments.items() if key in self.starts and value}
        missing = {key: value for key, value in given.items() if key not in self._start_names}
        self._start_names |= self._names_of(missing)
        if given:
            names = {key: self._start_names[key] for key in given}
            checkpoint["hyper_parameters"] = {**arguments, **names}

    def _names_of(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        """What a checkpoint keeps of those of `starts` that are given, by argument."""
        given = {key: arguments.get(key) for key in self.starts}
        return {key: self._start_name(key, str(value)) for key, value in given.items() if value}

    def _start_name(self, argument: str, value: str) -> str:
        if is_name(value):
            return value
        try:
            file = self.start_file(argument, value)
        except CheckpointError:
            return Path(value).name  # it is gone, and its hash is not known
        return value if file is None else name_of(file)

    def on_fit_start(self) -> None:
        """Stops a new fit whose start could not be loaded; a resumed one does not need it.

        Raises:
            CheckpointError: If loading raised it.
        """
        if self._start_error is not None and not self._has_weights:
            raise self._start_error


def weights_of(checkpoint: Mapping[str, Any], weights: Weights) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint, or those in training; the same where EMA was off."""
    averaged: dict[str, Tensor] = checkpoint["state_dict"]
    return averaged if weights == "ema" else dict(checkpoint.get(LIVE, averaged))


def check_same_network(
    remembered: Mapping[str, Any], wanted: Mapping[str, Any], file: object, advice: str
) -> None:
    """Checks that a checkpoint is of the network that is to start from it.

    Args:
        remembered: The hyper-parameters in the checkpoint.
        wanted: What must be alike, with the values here.
        file: The checkpoint, for the message.
        advice: What to do, for the message.

    Raises:
        CheckpointError: If it is of another; lists what differs.
    """
    differing = [
        f"  {key}: {remembered.get(key)!r} there, {value!r} here"
        for key, value in wanted.items()
        if _plain(remembered.get(key)) != _plain(value)
    ]
    if differing:
        listed = "\n".join(differing)
        raise CheckpointError(f"{file}: is of another network:\n{listed}\n{advice}")


def _plain(value: Any) -> Any:
    """A tuple as the list that a checkpoint may have made of it."""
    return list(value) if isinstance(value, tuple) else value
