"""Options that are of no class: those of every run, and those of a launch."""

from lightning.pytorch.cli import LightningArgumentParser

from meddiff.core.ranges import Seed

RESUME = ("fit", "predict")
ALLOW_SEEN = ("validate", "test")


def add_run_options(parser: LightningArgumentParser) -> None:
    """Adds those that every run has, and its config."""
    parser.add_argument(
        "--seed_everything", type=Seed, default=0, help="Seed of all randomness of the run."
    )
    parser.add_argument(
        "--run_root", type=str, default="runs", help="Folder of the run directories."
    )


def add_launch_options(parser: LightningArgumentParser, subcommand: str) -> None:
    """Adds those of a launch that a subcommand has; they are no part of the run's config."""
    if subcommand in RESUME:
        parser.add_argument(
            "--resume",
            type=str | None,
            default=None,
            help="`auto`: continue the newest unfinished run of this config and seed in its "
            "own directory, or begin one. A run directory: continue that run.",
        )
    if subcommand in ALLOW_SEEN:
        parser.add_argument(
            "--allow_seen",
            type=bool,
            default=False,
            help="Whether images that the weights were trained or chosen on are measured all "
            "the same; the figures are then named `seen_...`.",
        )
