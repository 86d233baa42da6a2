"""What leaves a node is clipped, whatever training made of it."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from clients.protect import weight_of, weighted_change
from clients.spec import UpdateSpec
from clients.statistics import Overview

anything = arrays.arrays(
    np.float32, st.integers(1, 30), elements=st.floats(width=32, allow_nan=True)
)


@given(anything, st.floats(0.001, 1.0), st.floats(0.001, 100.0), st.floats(0.01, 50.0))
def test_every_coordinate_and_the_norm_are_bounded(
    after: np.ndarray, weight: float, clip: float, clip_l2: float
) -> None:
    before = np.zeros_like(after)
    update = UpdateSpec(clip=clip, clip_l2=clip_l2)
    sent = weighted_change(before, after, weight, update)
    assert sent.shape == (after.size + 1,)
    assert np.isfinite(sent).all()
    assert np.abs(sent).max() <= clip * (1 + 1e-9)
    assert np.linalg.norm(sent[:-1]) <= clip_l2 * weight * (1 + 1e-6)
    assert sent[-1] == pytest.approx(weight * clip)


def test_a_change_that_is_not_finite_becomes_zero_and_spoils_nobodys_sum() -> None:
    before = np.zeros(3, dtype=np.float32)
    after = np.array([1e6, np.nan, 0.0], dtype=np.float32)
    assert (weighted_change(before, after, 1.0, UpdateSpec())[:-1] == 0).all()


def test_a_small_change_passes_unchanged() -> None:
    before = np.array([1.0, 2.0], dtype=np.float32)
    after = np.array([1.25, 1.5], dtype=np.float32)
    sent = weighted_change(before, after, 0.5, UpdateSpec(clip_l2=10.0))
    np.testing.assert_allclose(sent, [0.125, -0.25, 0.5])


@given(st.integers(1, 10**7), st.floats(1, 10**8), st.integers(1, 100))
def test_a_weight_is_in_the_unit_interval_and_hides_who_is_largest(
    rows: int, total: float, members: int
) -> None:
    overview = Overview(total, total, 0, 0, 1, members)
    kinds: tuple[Literal["rows", "root_rows", "units", "members"], ...] = (
        "rows",
        "root_rows",
        "units",
        "members",
    )
    for kind in kinds:
        weight = weight_of(rows, rows, overview, UpdateSpec(weigh_by=kind))
        assert 0 < weight <= 1
    cap = UpdateSpec().weight_cap
    if rows > cap * total / members:
        assert weight_of(rows, 1, overview, UpdateSpec()) == 1.0
