"""`fit`, `validate`, `test` and `predict`: a LightningCLI with run directories."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info

import callbacks
import data_modules  # noqa: F401  (its classes can then be given by their short names)
import meddiff  # noqa: F401  (likewise)
from callbacks import AtomicCheckpointIO
from lightning_app.behind import find_start
from lightning_app.choice import Asked, run_to_resume
from lightning_app.closing import tell_end
from lightning_app.comparison import batch_of_run
from lightning_app.config_files import (
    LINKED,
    check_links,
    check_sections,
    check_values,
    read_given,
)
from lightning_app.errors import UsageError
from lightning_app.home import expand_config
from lightning_app.import_path import append_working_directory
from lightning_app.kept_rows import KeptRows
from lightning_app.launch_options import add_launch_options, add_run_options
from lightning_app.loggers import TensorBoardSettings, WandbSettings, make_loggers
from lightning_app.named_runs import check_of_run, checkpoint_of, with_run_config
from lightning_app.parser import (
    BASES,
    MedDiffParser,
    arguments_of,
    in_few_words,
    known_keys,
)
from lightning_app.preparation import Preparation
from lightning_app.process import left_as_found, this_launch
from lightning_app.quiet import quiet
from lightning_app.ranges import register_plain_numbers
from lightning_app.resolved import as_used
from lightning_app.restore import (
    GivenLearningRate,
    WholeCounters,
    check_arguments,
    check_network,
    lowest_config,
    read_for,
    remembered_config,
    restoring,
)
from lightning_app.resume import Limits, last_checkpoint
from lightning_app.run_directory import config_name, from_here
from lightning_app.session import Session, SessionCallback
from lightning_app.split_keeper import SplitKeeper
from lightning_app.standing import STANDING, sections_of_classes, users_callbacks, without_arguments
from lightning_app.stopping import Stopping
from lightning_app.total_batch import KeepTotalBatch, TotalBatch
from lightning_app.trainer_errors import require_one_process, told_of_trainer
from lightning_app.trainer_settings import as_list, check_trainer, fitted_settings


def run(args: list[str], *, in_process: bool = False) -> int:
    """Runs a training subcommand.

    Args:
        args: The subcommand and what follows it.
        in_process: Whether Python called, so that the command line is another one.

    Returns:
        The exit status.
    """
    with left_as_found(), quiet(), ExitStack() as stack, Preparation(args[0]) as preparation:
        append_working_directory()
        MedDiffCLI(args, stack, preparation, in_process=in_process)
    return 0


class MedDiffCLI(LightningCLI):
    """LightningCLI with standing callbacks, run directories, resuming and short errors.

    Args:
        args: The subcommand and what follows it.
        stack: Where the launch is entered, so that its end is recorded however it ends.
        preparation: What is around all until the Trainer begins.
        in_process: Whether Python called, so that the command line is another one.
    """

    def __init__(
        self, args: list[str], stack: ExitStack, preparation: Preparation, *, in_process: bool
    ) -> None:
        self._stack = stack
        self._preparation = preparation
        self._in_process = in_process
        self._launch = this_launch()
        self._args = args
        self._checkpoint: dict[str, Any] | None = None
        self._checkpoint_path: Path | None = None
        self._before: TotalBatch | None = None
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults={"enable_model_summary": False, "callbacks": without_arguments()},
            parser_class=MedDiffParser,
            args=args,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The subcommands; all have the same keys, so that a config fits each of them."""
        unused = {"model", "datamodule", "dataloaders", "weights_only", "verbose"}
        return {
            "fit": unused | {"train_dataloaders", "val_dataloaders"},
            "validate": unused,
            "test": unused,
            "predict": unused | {"return_predictions"},
        }

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds what is not of a class."""
        add_run_options(parser)

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        add_launch_options(parser, subcommand)
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the standing callbacks, the loggers and the links."""
        for key, name in STANDING.items():
            parser.add_lightning_class_args(getattr(callbacks, name), key)
        parser.add_class_arguments(TensorBoardSettings, "tensorboard")
        parser.add_class_arguments(WandbSettings, "wandb")
        for argument, source in LINKED.items():
            parser.link_arguments(source, f"model.init_args.{argument}")
        parser.link_arguments("seed_everything", "data.init_args.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses; a run directory given without a config brings its own."""
        given = with_run_config(read_given(list(args)))
        self._given, subcommand = given, given.args[0]
        self._preparation.given = lambda: ((key, value) for key, _, value in given.values())
        subparser = self._subcommand_parsers[subcommand]
        check_values(given, known_keys(subparser))
        self._parse(given.args)
        config = self.config[subcommand]
        self._preparation.sections = sections_of_classes(config)
        check_links(given, config)
        check_trainer(config.trainer)
        check_sections(
            given,
            known_keys(subparser),
            lambda section, name: arguments_of(name or config[section].class_path, BASES[section]),
        )

    def _parse(self, args: list[str]) -> None:
        keys = known_keys(self._subcommand_parsers[args[0]])
        register_plain_numbers()
        try:
            self.config = expand_config(self.parser.parse_args(args))
        except UsageError as error:
            raise UsageError(in_few_words(str(error), self._given, keys)) from error

    def _parse_ckpt_path(self) -> None:
        """Reads the checkpoint; what it remembers counts only where nothing was given.

        Lightning's own method, which this one replaces, does the reverse.
        """
        self.subcommand = self.config["subcommand"]
        config = self.config[self.subcommand]
        if config.ckpt_path is None:
            return
        start = find_start(Path(str(config.ckpt_path)), self._given.place("ckpt_path"))
        if config.get("resume") is not None and self.subcommand == "fit":
            check_of_run(start, str(config.resume))
        path = checkpoint_of(start, str(self.subcommand))
        checkpoint = self._read(path)
        if start.through:
            rank_zero_info(f"ckpt_path: {start.through[-1]} was done with {path}, which is taken")
        class_path = config.model.class_path
        base = remembered_config(
            checkpoint,
            class_path,
            arguments_of(class_path, LightningModule),
            self._given.value("model.init_args.preset"),
        )
        lowest = lowest_config(base, config.data)
        args = self._given.args
        self._parse([args[0], "--config", yaml.safe_dump(lowest), *args[1:]])

    def _read(self, path: Path) -> dict[str, Any]:
        class_path = self.config[self.subcommand].model.class_path
        self._checkpoint = read_for(str(self.subcommand), class_path, path)
        self._checkpoint_path = path
        return self._checkpoint

    def before_instantiate_classes(self) -> None:
        """Chooses the run to continue, if any, before anything is made.

        Raises:
            SystemExit: If no run of this config is unfinished, with 0.
        """
        config = self.config[self.subcommand]
        parent = Path(config.run_root, config_name(self._given.files, config.model.class_path))
        resumed = self._run_to_resume(parent)
        if resumed is not None and self.subcommand == "fit":
            self._before = batch_of_run(resumed)
            last = last_checkpoint(resumed)
            if self._checkpoint_path is not None:
                rank_zero_info(f"resume: {resumed} goes on from {self._checkpoint_path}")
            elif last is not None:
                self._read(last)
            else:
                rank_zero_info(f"resume: {resumed} has no checkpoint yet; it starts again there")
        self._session = self._stack.enter_context(
            Session(str(self.subcommand), self._args, parent, self._launch, resumed)
        )

    def _run_to_resume(self, parent: Path) -> Path | None:
        asked = self.config[self.subcommand].get("resume")
        if asked is None:
            return None
        if self._launch.run_dir is not None:
            return Path(self._launch.run_dir)
        name, given = str(self.subcommand), frozenset(dict(self._given.given_keys()))
        now = Asked(name, self._resolved(), self._launch, self._checkpoint_path, given)
        return run_to_resume(asked, parent, now)

    def instantiate_classes(self) -> None:
        """Instantiates model and data, then the run directory, then the Trainer."""
        register_plain_numbers()  # those of the user's modules, which parsing imported
        self.config_init = self.parser.instantiate(self.config)
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")
        if self.subcommand == "fit":
            check_arguments(self.model)
        if self._checkpoint is not None:
            check_network(self._checkpoint, self.model, str(self._checkpoint_path))
        config = self._resolved()
        self._fitted = fitted_settings(self.model, config["trainer"], tell=self.subcommand == "fit")
        text, used = as_used(self._dump(), self.model, self.datamodule, self._fitted)
        limits = Limits.of(config)
        self._session.begin(
            seed=self.config[self.subcommand].seed_everything,
            limits={"steps": limits.steps, "epochs": limits.epochs},
            checkpoint=self._checkpoint_path,
            config=text,
            resolved=used,
        )
        self.trainer = self.instantiate_trainer()
        self._session.trainer = self.trainer

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer in the run directory, with our loggers and plugins beside the user's."""
        directory = self._session.directory
        config = self.config_init[self.subcommand]
        trainer = config.trainer
        saved = self._checkpoint if self._session.resumed else None
        step = None if saved is None else int(saved["global_step"])
        loggers = make_loggers(
            directory,
            config,
            self._subcommand_parsers[str(self.subcommand)],
            (type(self.model), type(self.datamodule)),
            wandb_id=self._session.wandb_id,
            resumed_step=step,
        )
        watching, bar = users_callbacks(trainer)
        settings = {
            "default_root_dir": str(directory),
            **self._fitted,
            "logger": loggers,
            "plugins": [*as_list(trainer.get("plugins"), object), AtomicCheckpointIO()],
            "enable_progress_bar": bar,
            "callbacks": [
                *watching,
                WholeCounters(self._checkpoint_path),
                GivenLearningRate(),
                SplitKeeper(
                    self._session,
                    self._checkpoint_path,
                    self._checkpoint,
                    bool(config.get("allow_seen")),
                ),
                KeepTotalBatch(self._before, self._session.resumed),
                SessionCallback(self._session),
                KeptRows(self._session.resumed),
                Stopping(),
            ],
        }
        with told_of_trainer():
            return super().instantiate_trainer(**settings, **kwargs)

    def after_instantiate_classes(self) -> None:
        """Ends the preparation: what follows is the Trainer's work."""
        if self._in_process:
            require_one_process(self.trainer)
        self._preparation.over()

    def _run_subcommand(self, subcommand: str) -> None:
        with restoring(self._checkpoint_path):
            super()._run_subcommand(subcommand)

    def after_fit(self) -> None:
        """Tells how a fit ended, and what to do with it."""
        tell_end(self.trainer, self.model, from_here(self._session.directory))

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
        path = self._checkpoint_path
        kwargs["ckpt_path"] = None if path is None else str(path)
        kwargs["weights_only"] = True
        if subcommand == "predict":
            kwargs["return_predictions"] = False
        return kwargs

    def _dump(self) -> str:
        """The config; where keys are null what is used stands behind them, as a comment."""
        parser = self._subcommand_parsers[str(self.subcommand)]
        return str(parser.dump(self.config[self.subcommand], skip_unset=False))

    def _resolved(self) -> dict[str, Any]:
        return dict(yaml.safe_load(self._dump()))
