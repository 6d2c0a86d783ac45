"""The `lightning` command: what was asked for, and who answers it.

Nothing heavy is imported here; `MedDiffCLI` and with it Lightning and torch come when a
subcommand needs them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lightning_app import signals

if TYPE_CHECKING:
    from lightning_app.training import MedDiffCLI as MedDiffCLI

TRAINING = ("fit", "validate", "test", "predict")
TOOLS = ("phantom", "check", "doctor", "runs", "table")

HELP = """\
usage: lightning SUBCOMMAND ...     (also: meddiff, python -m lightning_app)

Diffusion models for medical images on PyTorch Lightning.

  fit        train:     lightning fit --config configs/hybrid_isic.yaml --data.init_args.root DIR
  validate   measure a checkpoint on the validation set
  test       measure a checkpoint on the test set:  lightning test --ckpt_path RUN_DIR
  predict    write a checkpoint's masks or samples: lightning predict --ckpt_path RUN_DIR
  phantom    write a stand-in for a data set:       lightning phantom isic --root DIR
  check      read every file of a data set and list what is wrong with it
  doctor     print versions, accelerators and what optional parts are found
  runs       list runs: state, step, best figure, what was tested on each:  lightning runs [DIR]
  table      regenerate a table of a paper:         lightning table configs/table/hybrid.yaml

  --config NAME.yaml may be given several times; later files and --key value go over earlier ones.
  --resume auto continues an interrupted fit.  lightning SUBCOMMAND --help lists all keys.
  --version prints the version.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command; may be called again and again in one process.

    Args:
        args: What would follow `lightning` on the command line; None takes it from there.

    Returns:
        The exit status: 0, or 2 for a mistake in what was given (it is printed, in a few lines),
        75 if other live processes hold what was to be continued (it may do later),
        1 if `check` found problems or a job of `table` failed, 128 plus the signal's number if it
        was told to stop. Errors that are nobody's mistake but ours are raised.
    """
    given = list(sys.argv[1:] if args is None else args)
    trains = given[:1] and given[0] in TRAINING  # the tools have their own ways to stop
    with (
        signals.handled() if trains else contextlib.nullcontext(),
        _argv(given, replaced=args is not None),
    ):
        try:
            signals.release()
            return _dispatch(given, in_process=args is not None)
        except signals.Stopped as stopped:
            return signals.leave(stopped, _rank())
        except SystemExit as exit_:
            if isinstance(exit_.code, str):
                print(exit_.code, file=sys.stderr)
                return 1
            return exit_.code or 0
        except KeyboardInterrupt:
            print("SIGINT: stopped", file=sys.stderr)
            return 130
        except BaseException as error:
            from lightning_app.errors import UsageError, describe

            text = describe(error)
            if text is None:
                raise
            if _rank() > 0:  # the first process tells it in full
                text = f"rank {_rank()}: {text.splitlines()[0]}"
            with contextlib.suppress(OSError):  # where the log is on the full disk
                print(text, file=sys.stderr)
            return error.exit_status if isinstance(error, UsageError) else 2


def _dispatch(args: list[str], *, in_process: bool) -> int:
    command = args[0] if args else "--help"
    if command in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if command == "--version":
        from importlib.metadata import version

        print(f"meddiff {version('meddiff')}")
        return 0
    if command in (*TRAINING, *TOOLS):
        from lightning_app.import_path import require_own_packages

        require_own_packages()
    if command in TRAINING:
        _require_text(args)
        from lightning_app.training import run

        return run(args, in_process=in_process)
    if command in TOOLS:
        tool: Any = importlib.import_module(f"lightning_app.{command}")
        from lightning_app.preparation import Preparation

        with Preparation(command):
            return int(tool.run(args[1:]))
    if importlib.util.find_spec("lightning_sdk") is not None:
        # Installed beside meddiff, lightning-sdk may have lost its script to ours: pass it on.
        from lightning_sdk.cli.entrypoint import main_cli

        return int(main_cli() or 0)
    from lightning_app.errors import UsageError, did_you_mean

    known = [*TRAINING, *TOOLS]
    raise UsageError(
        f"lightning: no subcommand {command!r}{did_you_mean(command, known)}\n"
        f"The subcommand comes first; it is one of {', '.join(known)}"
    )


def _require_text(args: Sequence[str]) -> None:
    """Refuses names that no config can hold, since a config is text in UTF-8."""
    from data_modules.names import escaped
    from lightning_app.errors import UsageError

    odd = next((arg for arg in args if escaped(arg) != arg), None)
    if odd is not None:
        raise UsageError(
            f"{escaped(odd)}: the name is no UTF-8, and a config cannot hold it\n"
            "Rename it, or make a link to it under another name: ln -s THAT NAME"
        )


def _rank() -> int:
    """The number of this process among those that were started together."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return next((int(rank) for rank in ranks if rank is not None), 0)


@contextlib.contextmanager
def _argv(args: list[str], *, replaced: bool) -> Iterator[None]:
    """`sys.argv` as if `args` had been typed, for what reads it; put back afterwards."""
    before = sys.argv
    if replaced:
        sys.argv = ["lightning", *args]
    try:
        yield
    finally:
        sys.argv = before


def __getattr__(name: str) -> Any:
    if name == "MedDiffCLI":
        from lightning_app.training import MedDiffCLI

        return MedDiffCLI
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
