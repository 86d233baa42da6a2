"""For any releases: more noise never costs more, order never matters, and no cap is exceeded."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from privacy.accounting.event import Event, event_of, merged, solo_event_of
from privacy.accounting.filter import Terms, admit, charge, fitting, room
from privacy.accounting.pld import has_loss, loss, proven
from privacy.accounting.rdp import (
    ORDERS,
    best_order,
    capacity,
    epsilon,
    epsilon_at,
    renyi,
)
from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import ProtocolError, RefusedError
from privacy.receipt import Mechanism, Receipt

UNHURRIED = settings(deadline=None)  # a busy machine is no failure
FEW = settings(deadline=None, max_examples=12)  # each composes distributions
UP = 1 + 1e-11  # the slack of figures that are rounded upward
MULTIPLIERS = st.floats(0.3, 1e3)
RATES = st.floats(1e-6, 1)
STEPS = st.integers(1, 100_000)
ORDER = st.sampled_from(ORDERS)
DELTAS = st.sampled_from([1e-3, 1e-5, 1e-8])
MORE = st.floats(1, 10)
EVENTS = st.builds(Event, MULTIPLIERS, RATES, STEPS)
# Small enough that their loss distributions are quick.
LIGHT = st.builds(
    Event, st.sampled_from([1.0, 2.0, 3.5]), st.sampled_from([0.02, 0.1, 1.0]), st.integers(1, 9)
)
NAMES = st.text("abc xyz-0129 é", min_size=1, max_size=64)
NOISE = st.floats(1e-3, 1e6)
MECHANISMS: tuple[Mechanism, ...] = ("none", "gaussian", "discrete_gaussian")


@st.composite
def receipts(draw: st.DrawFn, mechanisms: tuple[Mechanism, ...] = MECHANISMS) -> Receipt:
    mechanism = draw(st.sampled_from(mechanisms))
    noisy, sampled = mechanism != "none", draw(st.booleans())
    return Receipt(
        kind=draw(st.sampled_from(["statistics", "update", "evaluation"])),
        unit=draw(NAMES),
        cohort=draw(st.sampled_from(["training", "test", "all"])),
        mechanism=mechanism,
        share=draw(NOISE) if noisy else 0.0,
        clip=draw(NOISE if noisy else st.just(0.0) | NOISE),
        sampling="poisson" if sampled else "none",
        rate=draw(RATES) if sampled else 1.0,
        steps=draw(STEPS),
        shares=draw(st.integers(1, 100)),
        values=draw(st.integers(1, 10**6)),
        grid=draw(st.floats(1e-9, 1)) if mechanism == "discrete_gaussian" else 0.0,
        purpose=draw(NAMES),
    )


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@UNHURRIED
@given(event=EVENTS, order=ORDER, more=MORE)
def test_more_noise_never_costs_more(event: Event, order: int, more: float) -> None:
    quieter = replace(event, multiplier=event.multiplier * more)
    assert renyi(quieter, order) <= renyi(event, order) * UP


@UNHURRIED
@given(event=EVENTS, order=ORDER, less=st.floats(0.01, 1))
def test_rarer_sampling_never_costs_more(event: Event, order: int, less: float) -> None:
    rarer = replace(event, rate=event.rate * less)
    assert renyi(rarer, order) <= renyi(event, order) * UP


@UNHURRIED
@given(event=EVENTS, order=ORDER, more=st.integers(0, 1000))
def test_more_steps_never_cost_less(event: Event, order: int, more: int) -> None:
    longer = replace(event, steps=event.steps + more)
    assert renyi(longer, order) >= renyi(event, order)
    share = renyi(event, order) / event.steps * longer.steps
    assert renyi(longer, order) == pytest.approx(share, rel=1e-9)


@UNHURRIED
@given(event=EVENTS, order=st.integers(2, 511))
def test_divergence_grows_with_the_order(event: Event, order: int) -> None:
    assert renyi(event, order) <= renyi(event, order + 1) * UP


@FEW
@given(event=LIGHT, more=MORE, less=st.floats(0.1, 1), longer=st.integers(0, 20))
def test_the_loss_distribution_is_monotone_too(
    event: Event, more: float, less: float, longer: int
) -> None:
    grid = 1e-3 * event.steps  # what rounding losses to the grid may move
    cost = proven([event], 1e-5)
    assert proven([replace(event, multiplier=event.multiplier * more)], 1e-5) <= cost + grid
    assert proven([replace(event, rate=event.rate * less)], 1e-5) <= cost + grid
    assert proven([replace(event, steps=event.steps + longer)], 1e-5) >= cost - grid


@UNHURRIED
@given(data=st.data(), events=st.lists(EVENTS, max_size=8), delta=DELTAS)
def test_the_order_of_releases_does_not_matter(
    data: st.DataObject, events: list[Event], delta: float
) -> None:
    mixed = data.draw(st.permutations(events))
    assert merged(mixed) == merged(events)
    assert epsilon(mixed, delta) == epsilon(events, delta)


@FEW
@given(data=st.data(), events=st.lists(LIGHT, min_size=2, max_size=4))
def test_the_order_of_releases_does_not_matter_for_losses(
    data: st.DataObject, events: list[Event]
) -> None:
    mixed = data.draw(st.permutations(events))
    for delta in (1e-3, 1e-6):
        assert loss(mixed).epsilon(delta) == loss(events).epsilon(delta)
    assert loss(mixed).true_positive_rate(0.01) == loss(events).true_positive_rate(0.01)


@FEW
@given(events=st.lists(LIGHT, min_size=1, max_size=3))
def test_losses_prove_at_least_as_much_as_renyi(events: list[Event]) -> None:
    assert has_loss(events)
    grid = 1e-3 * sum(event.steps for event in events)
    assert loss(events).epsilon(1e-5) <= epsilon(events, 1e-5)[0] + grid


@UNHURRIED
@given(total=st.floats(0, 1e4), order=ORDER, delta=DELTAS)
def test_capacity_is_the_inverse_of_epsilon(total: float, order: int, delta: float) -> None:
    cost = epsilon_at(total, order, delta)
    assume(total > 1e-9 and cost > 0)
    assert capacity(cost, delta, order) == pytest.approx(total, rel=1e-9, abs=1e-9)


@UNHURRIED
@given(cap=st.floats(0.05, 50), delta=DELTAS)
def test_a_full_capacity_keeps_the_cap(cap: float, delta: float) -> None:
    order = best_order(cap, delta)
    assert epsilon_at(capacity(cap, delta, order), order, delta) <= cap


@UNHURRIED
@given(
    cap=st.floats(0.5, 20),
    delta=DELTAS,
    wishes=st.lists(st.lists(st.builds(Event, st.floats(0.5, 50), RATES, st.integers(1, 50)))),
)
def test_the_filter_never_admits_beyond_its_capacity(
    cap: float, delta: float, wishes: list[list[Event]]
) -> None:
    terms = Terms(cap, delta, best_order(cap, delta))
    charges: list[float] = []
    for events in wishes:
        fits = fitting(terms, charges, events)
        try:
            admit(terms, charges, events)
        except RefusedError:
            # Refused for a reason; what is said to fit does, and not one more.
            assert fits < len(events)
            admit(terms, charges, events[:fits])
            with pytest.raises(RefusedError):
                admit(terms, charges, events[: fits + 1])
            continue
        assert fits == len(events)
        charges += [charge(terms, event) for event in events]
        exact = sum((Fraction(one) for one in charges), Fraction(0))
        assert exact <= Fraction(terms.capacity)
        assert Fraction(room(terms, charges)) <= Fraction(terms.capacity) - exact
        assert epsilon_at(float(exact), terms.order, delta) <= cap * UP


@UNHURRIED
@given(receipt=receipts())
def test_a_receipt_says_the_same_after_its_way_through_bytes(receipt: Receipt) -> None:
    data = canonical_json(receipt.to_json())
    assert Receipt.from_json(parse_canonical(data)) == receipt


@UNHURRIED
@given(receipt=receipts(), data=st.data())
def test_what_is_read_is_valid_or_refused(receipt: Receipt, data: st.DataObject) -> None:
    body = receipt.to_json()
    for key in data.draw(st.lists(st.sampled_from(sorted(body)), min_size=1, max_size=3)):
        body[key] = data.draw(JUNK)
    try:
        read = Receipt.from_json(body)
    except ProtocolError:
        return
    assert canonical_json(read.to_json()) == canonical_json(body)


@UNHURRIED
@given(receipt=receipts(), colluders=st.integers(0, 200), order=ORDER)
def test_more_colluders_never_make_it_cheaper(receipt: Receipt, colluders: int, order: int) -> None:
    cost = renyi(event_of(receipt, colluders=colluders), order)
    assert cost <= renyi(solo_event_of(receipt), order) * UP
    if receipt.mechanism != "discrete_gaussian":
        assert cost <= renyi(event_of(receipt, colluders=colluders + 1), order) * UP
    assert (cost == math.inf) == (receipt.mechanism == "none")


@UNHURRIED
@given(receipt=receipts(("discrete_gaussian",)), colluders=st.integers(0, 200), order=ORDER)
def test_discrete_noise_is_never_cheaper_than_continuous(
    receipt: Receipt, colluders: int, order: int
) -> None:
    continuous = replace(receipt, mechanism="gaussian", grid=0.0)
    strict = event_of(receipt, colluders=colluders)
    assert strict.discrete
    assert renyi(strict, order) * UP >= renyi(event_of(continuous, colluders=colluders), order)
