"""Rounding has the right mean; and each check is shown able to fail.

All draws come from fixed keys, so a result does not change from run to run. ALPHA is the chance
that a correct implementation would have failed on these keys.
"""

import math
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy.fixed_point import narrow, wide
from privacy.randomness import Entropy

ALPHA = 1e-6
DRAWS = 200_000  # finds a bias of 1 % of a step: the twin below shows it


def entropy(seed: str) -> Entropy:
    return random.Random(seed).randbytes


def mean_p_value(rounded: NDArray[np.float64], true: float, step: float) -> float:
    """Two-sided, normal approximation; one rounding varies by f (1 - f) steps squared."""
    remainder = (true / step) % 1.0
    deviation = step * math.sqrt(remainder * (1 - remainder) / len(rounded))
    return math.erfc(abs(float(rounded.mean()) - true) / deviation / math.sqrt(2))


@pytest.mark.parametrize("remainder", [0.5, 0.1, 0.93, 0.003])
@pytest.mark.parametrize("level", [-5, 0, 3])
@pytest.mark.parametrize("make", [narrow, wide])
def test_stochastic_rounding_is_unbiased(make: object, level: int, remainder: float) -> None:
    layout = narrow(12, 0.25) if make is narrow else wide(12)
    value = (level + remainder) * layout.step
    words = layout.encode(np.full(DRAWS, value), entropy(f"{level} {remainder}"))
    rounded = layout.decode_sum(words, DRAWS, 1)
    neighbours = {level * layout.step, (level + 1) * layout.step}
    assert set(np.unique(rounded)) == neighbours
    assert mean_p_value(rounded, value, layout.step) > ALPHA


@pytest.mark.parametrize("bias", [0.01, -0.01])
def test_the_check_finds_a_bias_of_a_hundredth_of_a_step(bias: float) -> None:
    layout = narrow(12, 0.25)
    words = layout.encode(np.full(DRAWS, (0.5 + bias) * layout.step), entropy("biased"))
    rounded = layout.decode_sum(words, DRAWS, 1)
    assert mean_p_value(rounded, 0.5 * layout.step, layout.step) < ALPHA


def test_the_check_finds_rounding_to_the_nearest() -> None:
    assert mean_p_value(np.full(DRAWS, 0.0), 0.3, 1.0) < ALPHA


def differ_p_value(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Of two unrelated even coins, half the draws differ."""
    return mean_p_value((one ^ other).astype(np.float64), 0.5, 1.0)


def test_roundings_of_two_coordinates_and_two_calls_are_unrelated() -> None:
    layout = narrow(12, 0.25)
    source = entropy("pairs")
    values = np.full(DRAWS, 0.5 * layout.step)
    first = layout.decode_sum(layout.encode(values, source), DRAWS, 1) > 0
    second = layout.decode_sum(layout.encode(values, source), DRAWS, 1) > 0
    for one, other in ((first[:-1], first[1:]), (first, second), (first[::-1], second)):
        assert differ_p_value(one, other) > ALPHA
    tied = np.where(np.arange(DRAWS) % 50, second, first)  # 2 % are the same draw
    assert differ_p_value(first, tied) < ALPHA
