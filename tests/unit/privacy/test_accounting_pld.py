import builtins
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Self

import pytest

from privacy.accounting import pld, rdp
from privacy.accounting.event import Event, event_of, solo_event_of
from privacy.accounting.pld import Loss, Report, has_loss, loss, proven, reported
from privacy.accounting.rdp import epsilon
from privacy.errors import InputError
from privacy.receipt import Receipt

DELTA = 1e-5
# `privacy.md` 2.1: multiplier, rate and steps; RDP (with fractional orders), PLD at 1e-3, and by
# how much integer orders may exceed that RDP figure. They cost most where the best order is near 2.
TABLE = [
    (Event(0.7, 0.01, 100), 3.148, 2.367, 1.07),
    (Event(1.0, 0.01, 1_000), 2.101, 1.829, 1.01),
    (Event(1.0, 0.01, 10_000), 6.713, 6.191, 1.01),
    (Event(2.0, 0.01, 1_000), 0.686, 0.624, 1.01),
    (Event(4.0, 0.01, 100), 0.090, 0.081, 1.01),
    (Event(1.0, 0.05, 100), 4.039, 3.502, 1.02),
    (Event(1.0, 0.05, 1_000), 12.02, 10.99, 1.01),
    (Event(2.0, 0.05, 1_000), 4.024, 3.700, 1.01),
    (Event(2.0, 0.05, 10_000), 15.42, 14.39, 1.015),
    (Event(4.0, 0.05, 10_000), 6.264, 5.811, 1.01),
    (Event(2.0, 0.1, 1_000), 8.947, 8.280, 1.02),
    (Event(4.0, 0.1, 1_000), 3.736, 3.445, 1.01),
    (Event(0.7, 0.1, 10_000), 508.5, 302.5, 1.30),
]
# `privacy.md` 2.2: epsilon, multiplier for rate 0.05 and 400 steps, true positives at 0.1 and 1 %.
MEANING = [
    (0.25, 13.46, 0.0013, 0.012),
    (1.0, 3.88, 0.0024, 0.020),
    (2.0, 2.19, 0.0047, 0.033),
    (4.0, 1.34, 0.014, 0.073),
    (8.0, 0.916, 0.057, 0.194),
    (16.0, 0.68, 0.235, 0.479),
]
SHARES = Receipt(
    kind="update",
    unit="borrower",
    cohort="training",
    mechanism="gaussian",
    share=0.9161,  # "0.92" in `privacy.md` 4
    clip=1.0,
    sampling="poisson",
    rate=0.05,
    steps=400,
    shares=12,
    values=1000,
    grid=0.0,
    purpose="test",
)


@pytest.mark.parametrize(("event", "by_rdp", "by_pld", "slack"), TABLE)
def test_the_reference_table_is_reproduced(
    event: Event, by_rdp: float, by_pld: float, slack: float
) -> None:
    rounding = 5e-4 * max(1.0, by_rdp)  # the table's digits
    assert by_rdp - rounding <= epsilon([event], DELTA)[0] <= slack * by_rdp + rounding
    found = reported([event], DELTA)
    assert found.method == "pld"
    assert found.epsilon == pytest.approx(by_pld, abs=0.0105, rel=5e-5)


def test_no_central_limit_theorem_understates_the_cost() -> None:
    # An accountant by Gaussian DP printed 0.96 here (`privacy.md` 2.1).
    assert proven([Event(0.7, 0.01, 100)], DELTA) >= 2.3


@pytest.mark.parametrize(("wanted", "multiplier", "at_permille", "at_percent"), MEANING)
def test_what_an_epsilon_means_is_reproduced(
    wanted: float, multiplier: float, at_permille: float, at_percent: float
) -> None:
    events = [Event(multiplier, 0.05, 400)]
    found = reported(events, DELTA)
    assert found.epsilon == pytest.approx(wanted, rel=0.02)
    assert found.true_positive_rate == pytest.approx(at_percent, rel=0.02, abs=5e-4)
    permille = loss(events).true_positive_rate(0.001)
    assert permille == pytest.approx(at_permille, rel=0.02, abs=5e-5)


@pytest.mark.parametrize(("members", "wanted"), [(12, 1.41), (24, 0.89), (50, 0.57)])
def test_one_share_has_two_epsilons(members: int, wanted: float) -> None:
    receipt = replace(SHARES, shares=members)
    assert proven([solo_event_of(receipt)], DELTA) == pytest.approx(8, rel=0.01)
    assert proven([event_of(receipt, colluders=2)], DELTA) == pytest.approx(wanted, abs=0.006)


def test_discrete_noise_is_counted_by_renyi_without_the_generic_factor() -> None:
    # `privacy.md` 4: PLD 2.25, RDP 2.46, and 3.45 with the generic bound for sampled mechanisms.
    events = [Event(2.0, 0.05, 400)]
    assert proven(events, DELTA) == pytest.approx(2.25, abs=0.01)
    discrete = [replace(events[0], discrete=True)]
    found = reported(discrete, DELTA)
    assert found.method == "rdp"
    assert found.true_positive_rate is None
    assert found.epsilon == epsilon(events, DELTA)[0] == pytest.approx(2.46, abs=0.01)


def test_discrete_noise_has_no_loss_distribution() -> None:
    events = [Event(2.0), Event(2.0, discrete=True)]
    assert not has_loss(events)
    with pytest.raises(ValueError, match="RDP"):
        loss(events)
    assert reported(events, DELTA).epsilon == proven(events, DELTA) == epsilon(events, DELTA)[0]


@pytest.mark.parametrize("multiplier", [0.02, 2.0])
def test_a_loss_of_exactly_the_most_is_counted(
    monkeypatch: pytest.MonkeyPatch, multiplier: float
) -> None:
    for most, counted in [(1000.0, True), (math.nextafter(1000.0, math.inf), False)]:
        monkeypatch.setattr(rdp, "epsilon", lambda *_, most=most: (most, 2))
        assert has_loss([Event(multiplier)]) is counted


def _gaussian_delta(multiplier: float, at: float) -> float:
    """Balle and Wang 2018, theorem 8: the exact curve of one Gaussian release."""

    def below(point: float) -> float:
        return math.erfc(-point / math.sqrt(2)) / 2

    half = 1 / (2 * multiplier)
    return below(half - at * multiplier) - math.exp(at) * below(-half - at * multiplier)


@pytest.mark.parametrize(("multiplier", "steps"), [(1.0, 1), (10.0, 100), (1000.0, 1_000_000)])
def test_many_gaussians_are_exactly_one(multiplier: float, steps: int) -> None:
    found = loss([Event(multiplier, steps=steps)])
    for at in (0.0, 1.0, 3.0, 5.0):
        exact = _gaussian_delta(1.0, at)
        assert exact <= found.delta(at) <= exact * 1.001 + 2e-9


def test_different_gaussians_join_into_one() -> None:
    events = [Event(2.0, steps=2), Event(4.0), Event(3.0, steps=9)]
    together = Event(1 / math.sqrt(2 / 4 + 1 / 16 + 9 / 9))
    assert proven(events, DELTA) == pytest.approx(proven([together], DELTA), rel=1e-9)


def test_one_gaussian_for_many_has_never_more_noise_than_they() -> None:
    # In exact numbers: 1 / m^2 is the sum of theirs, and m is rounded downward.
    for number in range(1, 400):
        events = (Event(number / 97, steps=1 + number % 5), Event(3.1 * number / 97))
        (one,) = pld._joined(events)
        wanted = sum(each.steps / Fraction(each.multiplier) ** 2 for each in events)
        assert 1 - 3e-15 < Fraction(one.multiplier) ** 2 * wanted <= 1
    sampled = Event(0.3, 0.5, 7)
    assert pld._joined((sampled,)) == (sampled,)
    assert pld._joined((Event(0.2), sampled))[1:] == (sampled,)


def test_attacks_on_one_gaussian_reach_the_known_curve() -> None:
    # Dong, Roth, Su 2022: power = Phi(Phi^-1(rate) + 1 / multiplier); at 1 %, Phi^-1 is -2.32635.
    exact = math.erfc(-(-2.3263478740408408 + 1) / math.sqrt(2)) / 2
    found = loss([Event(1.0)]).true_positive_rate(0.01)
    assert exact <= found <= exact * 1.001


def test_nothing_released_means_nothing_learnt() -> None:
    assert reported([], DELTA) == Report(0.0, "pld", 0.01)
    empty = loss([])
    assert empty.epsilon(DELTA) == 0
    assert empty.delta(0.0) < 1e-11
    assert empty.true_positive_rate(0.2) == pytest.approx(0.2, abs=1e-9)


@pytest.mark.parametrize("others", [[], [Event(5.0, 0.1, 100)]])
def test_an_exact_release_costs_infinity(others: list[Event]) -> None:
    events = [*others, Event(0.0)]
    assert proven(events, DELTA) == math.inf
    assert reported(events, DELTA) == Report(math.inf, "rdp", 1.0)
    endless = loss(events)
    assert endless.noise == 0
    assert endless.epsilon(0.5) == math.inf
    assert endless.delta(100.0) == 1
    assert endless.true_positive_rate(0.01) == 1


@pytest.mark.parametrize("event", [Event(0.01), Event(0.3, 0.5, 10_000), Event(1e-30)])
def test_losses_too_large_for_memory_are_counted_by_renyi(event: Event) -> None:
    assert not has_loss([event])
    found = reported([event], DELTA)
    assert found.method == "rdp"
    assert found.epsilon > 1000


def test_a_delta_below_the_noise_of_the_transforms_is_counted_by_renyi() -> None:
    events = [Event(2.0, 0.05, 400)]
    assert loss(events).epsilon(1e-13) == math.inf
    by_rdp, _ = epsilon(events, 1e-13)
    assert proven(events, 1e-13) == by_rdp
    rate = loss(events).true_positive_rate(0.01)
    assert reported(events, 1e-13) == Report(by_rdp, "rdp", rate)


def test_of_two_ways_that_prove_the_same_the_tighter_one_is_named() -> None:
    events = [Event(1000.0)]
    assert epsilon(events, 0.5)[0] == 0
    assert reported(events, 0.5) == Report(0.0, "pld", loss(events).true_positive_rate(0.01))


class _Known:
    """A distribution whose figures say what it was asked, or lie on a curve."""

    def __init__(self, curve: Callable[[float], float] = lambda epsilon: epsilon) -> None:
        self._curve = curve

    def get_epsilon_for_delta(self, delta: float) -> float:
        return delta

    def get_delta_for_epsilon(self, epsilon: float) -> float:
        return self._curve(epsilon)

    def compose(self, privacy_loss_distribution: Self) -> Self:
        return privacy_loss_distribution

    def self_compose(self, num_times: int) -> Self:
        del num_times
        return self


def test_what_rounding_may_have_changed_is_given_away() -> None:
    known = Loss(_Known(), noise=0.25)
    assert known.epsilon(0.75) == 0.5
    assert known.epsilon(0.25) == math.inf
    assert known.delta(0.5) == 0.75
    assert known.delta(0.9) == 1
    assert loss([Event(1.0, 0.1, 10)]).noise == pytest.approx(1.01e-12, rel=1e-9, abs=0)


@pytest.mark.parametrize("higher", [True, False], ids=["after it", "before it"])
def test_the_best_attack_is_found_next_to_a_jump(*, higher: bool) -> None:
    best = 1 / 3

    def curve(at: float) -> float:
        jump = 0.5 if (at >= best) is higher else 0.0
        return max(0.0, best - at) / 50 + jump

    found = Loss(_Known(curve), noise=0.0).true_positive_rate(0.01)
    assert found == pytest.approx(0.01 * math.exp(best), abs=1e-12)


def test_a_search_that_goes_astray_still_gives_a_bound() -> None:
    # No distribution has such curves: they have a hole, and the search passes it.
    one_hole = Loss(_Known(lambda at: 0.0 if at == 0 else 1.0), noise=0.0)
    assert one_hole.true_positive_rate(0.01) == 0.01
    led_on = Loss(_Known(lambda at: 0.0 if -11 < at < -9 else 1.0), noise=0.0)
    assert led_on.true_positive_rate(0.01) == 1.0


@pytest.mark.parametrize("wrong", [0.0, 1.0, -1.0, math.nan])
def test_probabilities_are_between_zero_and_one(wrong: float) -> None:
    some = loss([Event(2.0)])
    with pytest.raises(ValueError, match="delta"):
        some.epsilon(wrong)
    with pytest.raises(ValueError, match="delta"):
        reported([], wrong)
    with pytest.raises(ValueError, match="false_positive_rate"):
        some.true_positive_rate(wrong)
    with pytest.raises(ValueError, match="finite"):
        some.delta(math.inf)


def test_a_regulator_without_the_package_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "dp_accounting"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.partition(".")[0] == "dp_accounting":
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'tacit-fl\[node\]'"):
        reported([Event(2.25, 0.07, 3)], DELTA)
    assert reported([], DELTA).epsilon == 0
    assert reported([Event(0.0)], DELTA).epsilon == math.inf
    assert pld.has_loss([Event(2.0)])
