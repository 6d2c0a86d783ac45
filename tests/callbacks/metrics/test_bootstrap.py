import tracemalloc

import numpy as np
import pytest

from callbacks.metrics.bootstrap import Bootstrap


def test_bootstrap_limits_are_those_of_the_seed_and_cover_the_mean() -> None:
    values = np.random.default_rng(1).random(400)
    limits = Bootstrap(1000, 0.95, seed=0).limits(values)
    assert limits == Bootstrap(1000, 0.95, seed=0).limits(values)
    assert limits != Bootstrap(1000, 0.95, seed=1).limits(values)
    # The normal approximation of the mean's limits.
    error = 1.96 * values.std() / np.sqrt(400)
    assert limits == pytest.approx((values.mean() - error, values.mean() + error), abs=0.1 * error)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [[0.3], [0.1] * 9, [0.0] * 4, [1.0] * 100])
def test_one_value_and_equal_values_are_their_own_limits(values: list[float]) -> None:
    low, high = Bootstrap(50, 0.95, seed=0).limits(np.array(values))
    assert (low, high) == (values[0], values[0])


def test_less_confidence_is_nearer() -> None:
    values = np.random.default_rng(1).random(50)
    wide, near = (Bootstrap(500, share, seed=0).limits(values) for share in (0.95, 0.5))
    assert wide[0] < near[0] < values.mean() < near[1] < wide[1]


def test_thousands_of_images_need_a_few_mebibytes() -> None:
    values = np.random.default_rng(1).random(10_000)
    tracemalloc.start()
    limits = Bootstrap(1000, 0.95, seed=0).limits(values)  # 80 MB of values, drawn at once
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 2**20
    # What is drawn does not depend on how much is drawn at once.
    draw = np.random.default_rng(0)
    means = [values[draw.integers(10_000, size=10_000)].mean() for _ in range(1000)]
    assert limits == pytest.approx(np.quantile(means, [0.025, 0.975]), rel=1e-12)
