"""Options of a launch, which are no part of a run's config."""

from lightning.pytorch.cli import LightningArgumentParser

RESUME = ("fit", "predict")
ALLOW_SEEN = ("validate", "test")


def add_launch_options(parser: LightningArgumentParser, subcommand: str) -> None:
    """Adds those that a subcommand has."""
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
