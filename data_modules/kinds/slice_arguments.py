"""What arguments a data module of MR slices takes."""

from collections.abc import Sequence

from data_modules.errors import DataError
from data_modules.listing.scans import MODALITIES


def check_modalities(source: str, target: str) -> None:
    """Raises DataError unless these are two different modalities."""
    for field, value in (("source", source), ("target", target)):
        if value not in MODALITIES:
            raise DataError(f"data.init_args.{field}: {value} given, expected T1, T2 or PD.")
    if source == target:
        raise DataError(
            f"data.init_args.source: {source} given, as data.init_args.target; expected two "
            "modalities, of T1, T2 and PD."
        )


def check_cuts(slices: Sequence[float], percentiles: Sequence[float]) -> None:
    """Raises DataError where there is no place in a volume, or no range of intensities."""
    if not slices:
        raise DataError("data.init_args.slices: [] given, expected fractions from 0 to 1.")
    if len(percentiles) != 2 or not percentiles[0] < percentiles[1]:
        raise DataError(
            f"data.init_args.percentiles: {list(percentiles)} given, expected two, with "
            "0 <= low < high <= 100."
        )
