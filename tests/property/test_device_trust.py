"""A trust score never rises when something about the device gets worse; its parts are all of it."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.device_trust import MOST, DeviceFacts, trust_score

amounts = st.floats(0, 1e6, allow_nan=False)
facts = st.builds(
    DeviceFacts,
    reporting=st.none() | st.floats(0, 1),
    restarts=st.none() | amounts,
    firmware_days=st.none() | amounts | st.just(math.inf),
    reviews=st.integers(0, 1000),
    rejections=st.integers(0, 1000),
)


def score(known: DeviceFacts) -> float:
    return trust_score(known).score


@given(facts, st.floats(0, 1))
def test_more_of_the_expected_readings_never_cost_trust(known: DeviceFacts, more: float) -> None:
    if known.reporting is not None:
        better = replace(known, reporting=min(1.0, known.reporting + more))
        assert score(better) >= score(known)


@given(facts, amounts)
def test_more_restarts_never_earn_trust(known: DeviceFacts, more: float) -> None:
    if known.restarts is not None:
        assert score(replace(known, restarts=known.restarts + more)) <= score(known)


@given(facts, amounts)
def test_older_firmware_never_earns_trust(known: DeviceFacts, more: float) -> None:
    if known.firmware_days is not None:
        older = replace(known, firmware_days=known.firmware_days + more)
        assert score(older) <= score(known)


@given(facts, st.integers(0, 50), st.integers(0, 50))
def test_reviews_and_rejections_never_earn_trust(
    known: DeviceFacts, reviews: int, rejections: int
) -> None:
    worse = replace(
        known, reviews=known.reviews + reviews, rejections=known.rejections + rejections
    )
    assert score(worse) <= score(known)


@given(facts)
def test_a_score_is_the_sum_of_its_parts_and_each_says_why(known: DeviceFacts) -> None:
    found = trust_score(known)
    assert 0 <= found.score <= MOST
    assert found.score == pytest.approx(sum(one.points for one in found.parts))
    assert sum(one.of for one in found.parts) == pytest.approx(MOST)
    assert all(0 <= one.points <= one.of and one.why for one in found.parts)
    # what nobody could know is no part, and costs no device anything
    asked = [known.reporting, known.restarts, known.firmware_days]
    assert len(found.parts) == 1 + sum(one is not None for one in asked)


def test_what_is_worse_in_each_way_costs_something() -> None:
    best = DeviceFacts(reporting=1.0, restarts=0.0, firmware_days=0.0, reviews=0, rejections=0)
    assert score(best) == MOST
    for worse in (
        replace(best, reporting=0.9),
        replace(best, restarts=0.5),
        replace(best, firmware_days=100.0),
        replace(best, reviews=1),
        replace(best, reviews=1, rejections=1),
    ):
        assert score(worse) < MOST - 0.5
    assert score(replace(best, reviews=1, rejections=1)) < score(replace(best, reviews=1))
    half = {one.part: one for one in trust_score(replace(best, firmware_days=730.0)).parts}
    assert half["firmware"].points == pytest.approx(half["firmware"].of / 2)
