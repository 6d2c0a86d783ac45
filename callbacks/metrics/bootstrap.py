"""Confidence limits of a mean."""

from dataclasses import dataclass

import numpy as np

_DRAWN_AT_ONCE = 1_000_000
"""Values that are drawn at once, so that thousands of images need a few MiB."""


@dataclass(frozen=True)
class Bootstrap:
    """Draws a set again and again from itself, with replacement.

    Attributes:
        resamples: How often it is drawn.
        confidence: Share of the means of what was drawn that lies between the limits.
        seed: Seed of the draws.
    """

    resamples: int
    confidence: float
    seed: int

    def limits(self, values: np.ndarray) -> tuple[float, float]:
        """Percentile limits of the mean of values, shape (N,); both are the value where N is 1."""
        from scipy.stats import bootstrap

        size = len(values)
        if size == 1:  # of which scipy estimates nothing
            return float(values[0]), float(values[0])
        found = bootstrap(
            (values,),
            np.mean,
            n_resamples=self.resamples,
            batch=max(1, _DRAWN_AT_ONCE // size),
            confidence_level=self.confidence,
            method="percentile",
            rng=np.random.default_rng(self.seed),
        ).confidence_interval
        return float(found.low), float(found.high)
