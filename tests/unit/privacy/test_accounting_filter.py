import math

import pytest

from privacy.accounting.event import Event
from privacy.accounting.filter import Terms, admit, charge, fitting, growth, room, spent
from privacy.accounting.pld import proven
from privacy.accounting.rdp import added, best_order, epsilon_at
from privacy.errors import InputError, RefusedError

TERMS = Terms(epsilon=8.0, delta=1e-5, order=4)
STEP = Event(2.0, 0.05)


def test_one_device_lifetime_buys_eight_models_where_adding_epsilons_buys_three() -> None:
    # `privacy.md` 2.4, found there with another conversion: 3,340 rounds.
    rounds = fitting(TERMS, [], [STEP] * 5000)
    assert 3340 <= rounds <= 1.01 * 3340
    assert rounds // 400 == 8
    model = Event(2.0, 0.05, 400)
    admit(TERMS, [], [model] * 8)
    with pytest.raises(RefusedError):
        admit(TERMS, [], [model] * 9)
    assert TERMS.epsilon // proven([model], 1e-5) == 3


def test_the_last_release_that_fits_is_admitted_and_the_next_is_not() -> None:
    fits = fitting(TERMS, [], [STEP] * 5000)
    charges = [charge(TERMS, STEP)] * (fits - 1)
    admit(TERMS, charges, [STEP])
    charges.append(charge(TERMS, STEP))
    assert epsilon_at(added(charges), TERMS.order, TERMS.delta) <= TERMS.epsilon
    with pytest.raises(RefusedError):
        admit(TERMS, charges, [STEP])
    admit(TERMS, charges, [])  # nothing always fits


def test_the_refusal_says_the_numbers() -> None:
    charges = [charge(TERMS, STEP)] * 3000
    events = [STEP] * 400
    fits = fitting(TERMS, charges, events)
    with pytest.raises(RefusedError) as refused:
        admit(TERMS, charges, events)
    said = str(refused.value)
    after = spent(TERMS, charges + [charge(TERMS, STEP)] * 400)
    assert "cap is epsilon 8 at delta 1e-05 (order 4)" in said
    assert f"{spent(TERMS, charges):.4g} is spent" in said
    assert f"it would be {after:.4g};" in said
    assert f"{fits} of 400 would still fit" in said
    assert "1.05 times the noise" in said
    assert "\n" not in said


@pytest.mark.parametrize("charges", [[], [0.5], [1e9], [math.inf]])
def test_an_exact_release_is_always_refused(charges: list[float]) -> None:
    for event in (Event(0.0), Event(0.0, 1e-6)):
        with pytest.raises(RefusedError, match="none of it would fit, and no amount of noise"):
            admit(TERMS, charges, [event])
    assert growth(TERMS, charges, [Event(0.0)]) == math.inf


def test_a_spent_budget_has_no_room_and_no_advice_of_more_noise() -> None:
    charges = [TERMS.capacity]
    assert room(TERMS, charges) == 0
    assert room(TERMS, [math.inf]) == 0
    with pytest.raises(RefusedError, match="no amount of noise"):
        admit(TERMS, charges, [Event(1e3)])


def test_room_is_what_is_left() -> None:
    assert room(TERMS, []) == pytest.approx(TERMS.capacity)
    assert room(TERMS, [1.0, 0.5]) == pytest.approx(TERMS.capacity - 1.5)
    assert room(TERMS, [1.0, 0.5]) <= TERMS.capacity - 1.5
    assert room(TERMS, [0.0]) == room(TERMS, [])  # what costs nothing is a charge as well
    assert spent(TERMS, []) == 0


def test_spent_is_the_epsilon_of_the_sum() -> None:
    for charges in ([0.25], [1.0, 0.5], [1.0, 0.0]):
        assert spent(TERMS, charges) == epsilon_at(added(charges), TERMS.order, TERMS.delta) > 0


def test_a_cap_is_filled_to_its_last_bit() -> None:
    cost = charge(TERMS, STEP)

    def once(before: float) -> float:
        return added([before, cost])

    def twice(before: float) -> float:  # as `growth` adds up
        return added([added([before]), cost])

    found = []
    for way in (once, twice):
        before = TERMS.capacity - cost
        while way(before) >= TERMS.capacity:
            before = math.nextafter(before, 0.0)
        while way(before) < TERMS.capacity:
            before = math.nextafter(before, math.inf)
        assert way(before) == TERMS.capacity
        found.append(before)
    assert fitting(TERMS, [found[0]], [STEP]) == 1
    assert growth(TERMS, [found[1]], [STEP]) == 1.0


def test_the_advised_noise_is_enough_and_not_much_too_large() -> None:
    events = [Event(1.0, 0.05, 400), Event(3.0), Event(2.0, 0.2, 10)]
    charges = [1.0]
    factor = growth(TERMS, charges, events)
    assert factor > 1

    def grown(by: float) -> list[Event]:
        return [Event(event.multiplier * by, event.rate, event.steps) for event in events]

    admit(TERMS, charges, grown(factor))
    with pytest.raises(RefusedError):
        admit(TERMS, charges, grown(factor / 1.002))
    assert growth(TERMS, charges, grown(factor)) == 1


@pytest.mark.parametrize("wrong", [-1e-9, math.nan])
def test_a_negative_charge_gives_nothing_back(wrong: float) -> None:
    for call in (
        lambda: room(TERMS, [1.0, wrong]),
        lambda: admit(TERMS, [wrong], [STEP]),
        lambda: spent(TERMS, [wrong]),
    ):
        with pytest.raises(ValueError, match="negative"):
            call()


def test_terms_that_cannot_hold_are_refused_when_they_are_made() -> None:
    with pytest.raises(InputError, match=f"choose order {best_order(0.5, 1e-5)}"):
        Terms(0.5, 1e-5, 4)
    for epsilon, delta, order in ((0.0, 1e-5, 4), (8.0, 0.0, 4), (8.0, 1e-5, 1)):
        with pytest.raises(ValueError, match="need"):
            Terms(epsilon, delta, order)


def test_deciding_about_a_long_history_is_quick() -> None:
    # A wrong algorithm (adding up anew for each event) would take minutes.
    charges = [charge(TERMS, STEP)] * 100_000
    with pytest.raises(RefusedError):
        admit(TERMS, charges, [STEP] * 10_000)
