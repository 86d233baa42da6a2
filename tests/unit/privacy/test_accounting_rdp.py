import math
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext

import pytest
from support.own_time import own_time_s

from privacy.accounting.event import Event
from privacy.accounting.rdp import (
    ORDERS,
    added,
    best_order,
    capacity,
    epsilon,
    epsilon_at,
    renyi,
)
from privacy.errors import InputError

DIGITS = Context(prec=80, Emax=MAX_EMAX, Emin=MIN_EMIN)
RATES = (1e-9, 1e-4, 0.01, 0.05, 0.3, 0.9, 1 - 1e-9)
MULTIPLIERS = (0.1, 0.7, 1.0, 4.0, 200.0, 1e5)
SOME_ORDERS = (2, 3, 17, 128, 512)


def _exact(multiplier: float, rate: float, order: int, excess: float = 0.0) -> Decimal:
    """The sampled Gaussian's divergence with 80 digits; the formula as it is in the paper."""
    with localcontext(DIGITS):
        hit, variance = Decimal(rate), Decimal(multiplier) ** 2
        total = Decimal(0)
        for k in range(order + 1):
            weight = math.comb(order, k) * (1 - hit) ** (order - k) * hit**k
            # At orders 0 and 1 there is no divergence, and nothing that exceeds it.
            step = max(k - 1, 0) * (Decimal(k) / (2 * variance) + Decimal(excess))
            total += weight * step.exp()
        return total.ln() / (order - 1)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("multiplier", MULTIPLIERS)
def test_sampled_noise_costs_the_exact_divergence_rounded_upward(
    multiplier: float, rate: float
) -> None:
    for order in SOME_ORDERS:
        exact = _exact(multiplier, rate, order)
        found = Decimal(renyi(Event(multiplier, rate), order))
        assert exact <= found <= exact * (1 + Decimal("1e-10"))


@pytest.mark.parametrize("excess", [1e-6, 0.01, 1.0])
@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
def test_sampling_makes_an_excess_cheaper_and_never_a_discount(rate: float, excess: float) -> None:
    for order in SOME_ORDERS:
        exact = _exact(4.0, rate, order, excess)
        found = renyi(Event(4.0, rate, discrete=True, excess=excess), order)
        assert exact <= Decimal(found) <= exact * (1 + Decimal("1e-10"))
        assert renyi(Event(4.0, rate), order) < found
        assert found < renyi(Event(4.0, discrete=True, excess=excess), order)


@pytest.mark.parametrize("multiplier", [0.6, 0.608, 0.60816, 0.60817, 0.60818, 0.6082])
def test_large_logarithms_that_cancel_are_rounded_upward(multiplier: float) -> None:
    # 512 log(1e-300) is near -353,000, and the gain is as large: few digits are left of the sum.
    exact = _exact(multiplier, 1e-300, 512)
    assert exact <= Decimal(renyi(Event(multiplier, 1e-300), 512)) <= exact * (1 + Decimal("1e-8"))


@pytest.mark.parametrize("order", SOME_ORDERS)
def test_noise_without_sampling_costs_the_closed_form(order: int) -> None:
    for multiplier in MULTIPLIERS:
        exact = order / (2 * multiplier**2)
        assert exact <= renyi(Event(multiplier), order) <= exact * (1 + 1e-11)
        assert renyi(Event(multiplier, steps=70), order) == pytest.approx(70 * exact, rel=1e-11)


def test_excess_is_paid_at_every_order_and_step() -> None:
    plain, excess = Event(2.0, steps=3, discrete=True), 0.25
    charged = Event(2.0, steps=3, discrete=True, excess=excess)
    for order in SOME_ORDERS:
        assert renyi(charged, order) == pytest.approx(renyi(plain, order) + 3 * excess)


@pytest.mark.parametrize("event", [Event(0.0), Event(0.0, 0.01), Event(1e-200), Event(1e-200, 0.5)])
def test_no_noise_costs_infinity(event: Event) -> None:
    assert renyi(event, 2) == renyi(event, 512) == math.inf
    assert epsilon([event], 1e-5)[0] == math.inf


def test_extreme_parameters_give_numbers() -> None:
    assert 0 < renyi(Event(1e200, 1e-200), 512) < 1e-300
    assert renyi(Event(1.0, 1.0, discrete=True, excess=math.inf), 2) == math.inf
    assert math.isfinite(renyi(Event(1e-3, 1e-300), 512))


@pytest.mark.parametrize("order", [0, 1, 513, 2.0, True])
def test_other_orders_are_refused(order: int) -> None:
    with pytest.raises(ValueError, match="order"):
        renyi(Event(1.0), order)
    with pytest.raises(ValueError, match="order"):
        capacity(1.0, 1e-5, order)


def test_the_conversion_is_that_of_the_paper() -> None:
    # Canonne, Kamath, Steinke 2020, Proposition 12, solved for delta.
    for order in SOME_ORDERS:
        for total in (1e-3, 0.5, 30.0):
            found = epsilon_at(total, order, 1e-5)
            log_delta = (order - 1) * (total - found) - math.log(order - 1)
            log_delta += order * math.log1p(-1 / order)
            assert log_delta == pytest.approx(math.log(1e-5), abs=1e-6)


@pytest.mark.parametrize("delta", [1e-9, 1e-5, 0.9])
@pytest.mark.parametrize("order", SOME_ORDERS)
def test_there_and_back_every_digit_is_on_the_safe_side(order: int, delta: float) -> None:
    with localcontext(DIGITS):
        logs = Decimal(delta).ln() + Decimal(order).ln()
        extra = (1 - 1 / Decimal(order)).ln() - logs / (order - 1)
    for total in (0.0, 1e-3, 0.5, 30.0):
        found = epsilon_at(total, order, delta)
        assert found == 0 or Decimal(found) >= Decimal(total) + extra
        cap = float(max(extra, Decimal(0))) * 1.01 + total + 1e-6
        held = capacity(cap, delta, order)
        assert epsilon_at(held, order, delta) <= cap
        assert Decimal(held) <= Decimal(cap) - extra


def test_epsilon_is_never_negative_and_nothing_costs_nothing() -> None:
    assert epsilon_at(0.0, 512, 0.9) == 0
    assert epsilon([], 1e-5) == (0, ORDERS[0])
    assert added([]) == 0


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_delta_is_a_probability(delta: float) -> None:
    for call in (
        lambda: epsilon([], delta),
        lambda: epsilon_at(1.0, 2, delta),
        lambda: capacity(1.0, delta, 2),
    ):
        with pytest.raises(ValueError, match="delta"):
            call()


def test_an_order_with_room_for_nothing_at_all_holds_no_cap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("privacy.accounting.rdp._capacity", lambda *_: 0.0)
    with pytest.raises(InputError, match="no order up to 512 can hold"):
        best_order(0.125, 1e-5)  # of no other test: what it found is remembered


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_a_cap_is_a_finite_number_above_zero(wrong: float) -> None:
    with pytest.raises(ValueError, match="epsilon"):
        capacity(wrong, 1e-5, 8)
    with pytest.raises(ValueError, match="need a finite epsilon"):
        capacity(wrong, 0.9, 2)  # where even a cap of 0 would leave room
    with pytest.raises(ValueError, match="epsilon"):
        best_order(wrong, 1e-5)


def test_epsilon_is_the_best_over_the_orders() -> None:
    events = [Event(2.0, 0.05, 400), Event(10.0, steps=3)]
    found, order = epsilon(events, 1e-5)
    every = {at: epsilon_at(sum(renyi(e, at) for e in events), at, 1e-5) for at in ORDERS}
    assert found == pytest.approx(min(every.values()), rel=1e-9)
    assert found == pytest.approx(every[order], rel=1e-9)


def test_charges_add_up_upward_whatever_their_order() -> None:
    charges = [0.1] * 10 + [1e-17, 1e16]
    assert added(charges) == added(charges[::-1]) >= math.fsum(charges)
    assert added([1e308, 1e308]) == math.inf
    assert added([math.inf, 1.0]) == math.inf


def test_the_best_order_buys_the_most_releases() -> None:
    assert best_order(8.0, 1e-5) == 4  # the order of `privacy.md` 2.4
    for cap in (0.25, 1.0, 2.0, 8.0, 30.0):
        best = best_order(cap, 1e-5)
        worth = capacity(cap, 1e-5, best) / best
        for order in (best - 1, best + 1):
            if order >= 2:
                assert capacity(cap, 1e-5, order) / order <= worth


def test_the_largest_order_holds_the_smallest_cap() -> None:
    assert best_order(0.00837, 1e-5) == 512
    with pytest.raises(InputError, match="choose order 512"):
        capacity(0.00837, 1e-5, 511)


def test_an_order_that_cannot_hold_a_cap_is_refused_with_one_that_can() -> None:
    with pytest.raises(InputError, match=f"choose order {best_order(1.0, 1e-5)}"):
        capacity(1.0, 1e-5, 2)
    with pytest.raises(InputError, match="larger epsilon"):
        best_order(1e-4, 1e-5)


def test_a_divergence_takes_less_than_a_millisecond() -> None:
    renyi(Event(1.5, 0.05), 512)

    def twenty() -> None:
        for number in range(20):
            renyi(Event(1.6 + number / 1000, 0.05), 512)

    # Ten times what it takes, for slow machines; a numerical integration would take far more.
    assert own_time_s(twenty) / 20 < 5e-3
