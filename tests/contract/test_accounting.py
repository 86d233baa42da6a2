"""What every way of counting promises, run over each of them, and what others count."""

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant
from numpy.typing import NDArray

from privacy.accounting import pld, rdp
from privacy.accounting.event import Event

Floats = NDArray[np.float64]
Count = Callable[[Sequence[Event], float], float]
DELTA = 1e-5


def _by_rdp(events: Sequence[Event], delta: float) -> float:
    return rdp.epsilon(events, delta)[0]


def _by_pld(events: Sequence[Event], delta: float) -> float:
    return pld.loss(events).epsilon(delta)


WAYS: dict[str, Count] = {"rdp": _by_rdp, "pld": _by_pld, "reported": pld.proven}
CASES: dict[str, list[Event]] = {
    "one": [Event(2.0)],
    "loud": [Event(0.5)],
    "steps": [Event(5.0, steps=30)],
    "training": [Event(1.2, 0.05, 400)],
    "rare": [Event(0.7, 0.001, 2000)],
    "often": [Event(3.0, 0.7, 50)],
    "mixed": [Event(4.0), Event(3.0, 0.7, 50)],
    "run": [Event(12.0), Event(2.0, 0.05, 200), Event(30.0, steps=20)],
    "months": [Event(1.0 + n / 4, 0.02 * (n + 1), 100) for n in range(4)],
}
EVERY_WAY = pytest.mark.parametrize("count", WAYS.values(), ids=list(WAYS))
EVERY_CASE = pytest.mark.parametrize("events", CASES.values(), ids=list(CASES))


@EVERY_WAY
def test_nothing_costs_nothing(count: Count) -> None:
    assert count([], DELTA) == 0


@EVERY_WAY
@EVERY_CASE
def test_an_exact_release_makes_everything_infinite(count: Count, events: list[Event]) -> None:
    assert count([*events, Event(0.0, 0.001)], DELTA) == math.inf


@EVERY_WAY
@EVERY_CASE
def test_neither_order_nor_grouping_matters(count: Count, events: list[Event]) -> None:
    whole = count(events, DELTA)
    assert count(events[::-1], DELTA) == whole
    apart = [Event(e.multiplier, e.rate, 1) for e in events for _ in range(e.steps)]
    assert count(apart, DELTA) == whole


@EVERY_WAY
@EVERY_CASE
def test_each_part_costs_something_and_less_than_added_up(
    count: Count, events: list[Event]
) -> None:
    whole = count(events, DELTA)
    assert whole > 0
    alone = [count([event], DELTA / len(events)) for event in events]
    assert whole <= sum(alone) * (1 + 1e-9)
    if len(events) > 1:
        assert whole > max(count([event], DELTA) for event in events)
    assert count(events, DELTA / 100) > whole > count(events, DELTA * 100)


@EVERY_WAY
@EVERY_CASE
def test_more_noise_costs_less(count: Count, events: list[Event]) -> None:
    louder = [Event(e.multiplier * 1.1, e.rate, e.steps) for e in events]
    assert count(louder, DELTA) < count(events, DELTA)


@EVERY_CASE
def test_renyi_never_proves_more_than_losses(events: list[Event]) -> None:
    tight, loose = _by_pld(events, DELTA), _by_rdp(events, DELTA)
    assert tight < loose < 3 * tight
    assert pld.proven(events, DELTA) == tight


def _true_delta(events: Sequence[Event], at: float, *, cells: int = 20_000) -> float:
    """The hockey-stick divergence of one sampled step, by numerical integration, both ways."""
    (event,) = events
    assert event.steps == 1
    edge = 12 * event.multiplier + 1
    x = np.linspace(-edge, edge + 1, cells)
    without = np.exp(-(x**2) / (2 * event.multiplier**2))
    with_unit = np.exp(-((x - 1) ** 2) / (2 * event.multiplier**2))
    scale = (x[1] - x[0]) / (event.multiplier * math.sqrt(2 * math.pi))
    sampled = (1 - event.rate) * without + event.rate * with_unit

    def stick(upper: Floats, lower: Floats) -> float:
        return float(np.maximum(upper - math.exp(at) * lower, 0).sum() * scale)

    return max(stick(sampled, without), stick(without, sampled))


ONE_STEP = [Event(0.6, 0.1), Event(1.0, 0.02), Event(2.0, 0.5), Event(0.8)]


@EVERY_WAY
@pytest.mark.parametrize("event", ONE_STEP)
def test_no_way_states_less_than_the_truth(count: Count, event: Event) -> None:
    for delta in (1e-3, 1e-5):
        assert _true_delta([event], count([event], delta)) <= delta * (1 + 1e-6)


@pytest.mark.parametrize("event", ONE_STEP)
def test_the_check_against_the_truth_can_fail(event: Event) -> None:
    # 2 % less noise than claimed, or a rate 2 % higher, is told from the tight figure.
    claimed = _by_pld([event], DELTA)
    assert _true_delta([Event(event.multiplier / 1.02, event.rate)], claimed) > DELTA
    if event.rate < 1:
        assert _true_delta([Event(event.multiplier, event.rate * 1.02)], claimed) > DELTA


@pytest.mark.parametrize("order", [2, 3, 5, 8, 32, 64, 256, 512])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("multiplier", [0.5, 1.0, 2.0, 8.0])
def test_dp_accounting_finds_the_same_divergences(
    multiplier: float, rate: float, order: int
) -> None:
    theirs = RdpAccountant(orders=[order])
    theirs.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(multiplier)), 40)
    reference = float(theirs._rdp[0])
    found = rdp.renyi(Event(multiplier, rate, 40), order)
    assert reference - 1e-12 * max(1.0, reference) <= found <= reference * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("events", [CASES["training"], CASES["months"]], ids=["training", "months"])
def test_dp_accounting_converts_to_the_same_epsilon(events: list[Event]) -> None:
    theirs = RdpAccountant(orders=rdp.ORDERS)
    for event in events:
        sampled = PoissonSampledDpEvent(event.rate, GaussianDpEvent(event.multiplier))
        theirs.compose(sampled, event.steps)
    assert _by_rdp(events, DELTA) == pytest.approx(theirs.get_epsilon(DELTA), rel=1e-9)


def _opacus(accountant: str, event: Event) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, about itself
        from opacus.accountants import create_accountant

        theirs = create_accountant(accountant)
        theirs.history = [(event.multiplier, event.rate, event.steps)]
        return float(theirs.get_epsilon(DELTA))


SECOND_OPINIONS = [Event(0.7, 0.01, 100), Event(1.0, 0.05, 100), Event(2.0, 0.05, 1000)]


@pytest.mark.parametrize("event", SECOND_OPINIONS)
def test_a_second_implementation_of_losses_agrees(event: Event) -> None:
    assert _by_pld([event], DELTA) == pytest.approx(_opacus("prv", event), abs=0.05)


@pytest.mark.parametrize("event", SECOND_OPINIONS)
def test_the_central_limit_theorem_would_understate(event: Event) -> None:
    # Why there is no such accountant here: it states less than the truth.
    assert _opacus("gdp", event) < _by_pld([event], DELTA) - 0.09
