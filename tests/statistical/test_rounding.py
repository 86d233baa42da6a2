"""Rounding has the right mean; and each check is shown able to fail.

All draws come from fixed keys, so a result does not change from run to run. ALPHA is the chance
that a correct implementation would have failed on these keys.
"""

import math
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy.fixed_point import PACKINGS, FixedPoint, narrow, packed, wide
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


LAYOUTS = [*(packed(12, 0.25, 1.0, [packing]) for packing in PACKINGS), wide(12)]


@pytest.mark.parametrize("remainder", [0.5, 0.1, 0.93, 0.003])
@pytest.mark.parametrize("level", [-5, 0, 3])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.field_bits}bits")
def test_stochastic_rounding_is_unbiased(layout: FixedPoint, level: int, remainder: float) -> None:
    value = (level + remainder) * layout.step
    words = layout.encode(np.full(DRAWS, value), entropy(f"{level} {remainder}"))
    rounded = layout.decode_sum(words, DRAWS, 1)
    neighbours = {level * layout.step, (level + 1) * layout.step}
    assert set(np.unique(rounded)) == neighbours
    assert mean_p_value(rounded, value, layout.step) > ALPHA


def test_a_sum_of_coarsely_rounded_vectors_has_the_right_mean() -> None:
    """Five coordinates a word round to steps of 1/170 of the clip, and nobody is biased."""
    layout = packed(12, 0.25, 1.0, PACKINGS[:1])
    values = [0.03 * index - 0.17 for index in range(12)]
    total = np.zeros(layout.words(DRAWS), np.uint64)
    for index, value in enumerate(values):
        total += layout.encode(np.full(DRAWS, value), entropy(f"party {index}"))
    mean = float(layout.decode_sum(total, DRAWS, 12).mean())
    variance = sum((value / layout.step % 1) * (1 - value / layout.step % 1) for value in values)
    deviation = layout.step * math.sqrt(variance / DRAWS)
    error = abs(mean - sum(values))
    assert math.erfc(error / deviation / math.sqrt(2)) > ALPHA
    nearest = sum(round(value / layout.step) * layout.step for value in values)
    assert math.erfc(abs(nearest - sum(values)) / deviation / math.sqrt(2)) < ALPHA


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
