import hashlib
import random
from collections.abc import Mapping
from fractions import Fraction
from itertools import count
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import CohortError
from privacy.secure_sum.graph import (
    COMPLETE_UP_TO,
    CORRUPT,
    DROPPED,
    ETA_BITS,
    SIGMA_BITS,
    Conditions,
    _at_most,
    _tail,
    conditions,
    degree,
    most_colluders,
    neighbours,
    require_holding,
    ring_order,
    threshold,
)

SEED = bytes(range(32))
DEGREES = {33: 32, 100: 76, 300: 182, 1000: 530, 10_000: 1352, 100_000: 1682}


def names(members: int) -> list[str]:
    return [f"member-{i:05d}" for i in range(members)]


def connected(graph: Mapping[str, tuple[str, ...]], kept: set[str]) -> bool:
    start = min(kept)
    seen, waiting = {start}, [start]
    while waiting:
        near = kept.intersection(graph[waiting.pop()]) - seen
        seen |= near
        waiting += near
    return seen == kept


def ring(members: list[str], each: int) -> dict[str, tuple[str, ...]]:
    half, size = each // 2, len(members)
    steps = [step for step in range(-half, half + 1) if step]
    return {
        member: tuple(members[(at + step) % size] for step in steps)
        for at, member in enumerate(members)
    }


def tail(population: int, marked: int, drawn: int, least: int) -> Fraction:
    ways = (
        comb(marked, held) * comb(population - marked, drawn - held)
        for held in range(max(least, 0), min(marked, drawn) + 1)
    )
    return Fraction(sum(ways), comb(population, drawn))


@pytest.mark.parametrize("holders", range(1, 200))
def test_more_than_two_thirds_of_the_holders_must_answer_and_all_of_them_can(holders: int) -> None:
    needed = threshold(holders)
    assert 3 * needed > 2 * holders >= 3 * (needed - 1)
    assert needed <= holders


@pytest.mark.parametrize("members", [1, 2, 3, 12, COMPLETE_UP_TO])
def test_a_small_cohort_masks_with_everybody(members: int) -> None:
    group = names(members)
    assert degree(members) == members - 1
    graph = neighbours(group, SEED)
    assert list(graph) == group
    assert all(set(graph[member]) == set(group) - {member} for member in group)
    assert graph == neighbours(group, bytes(32))


@pytest.mark.parametrize(("members", "expected"), DEGREES.items())
def test_the_degree_is_the_published_one(members: int, expected: int) -> None:
    assert degree(members) == expected


def test_the_degree_grows_with_the_logarithm_of_the_cohort() -> None:
    sizes = [10**power for power in range(3, 7)]
    found = [degree(members) for members in sizes]
    steps = np.diff(found)
    assert (steps > 0).all()
    assert (np.diff(steps) < 0).all()  # towards a constant per factor of ten
    assert degree(100_000) < 0.02 * 100_000


def test_more_members_never_have_many_fewer_neighbours() -> None:
    # Shares are rounded to whole members and whole holders, so a few steps go down by a little.
    found = [degree(members) for members in range(COMPLETE_UP_TO + 1, 1000)]
    highest = np.maximum.accumulate(found)
    assert (highest - found).max() <= 6


@pytest.mark.parametrize("members", [100, 300, 1000, 10_000])
def test_every_condition_holds_at_the_degree_and_one_fails_just_below(members: int) -> None:
    least = degree(members)
    assert least < members - 1
    assert all(conditions(members, least))
    assert not all(conditions(members, least - 2))


def bounds(members: int, k: int) -> Conditions:
    """The promises of the module's docstring, in fractions."""
    others, half = members - 1, k // 2
    corrupt = -(-members * CORRUPT[0] // CORRUPT[1])
    dropped = -(-members * DROPPED[0] // DROPPED[1])
    spare = k + 1 - threshold(k + 1)
    rare = Fraction(1, 2**SIGMA_BITS)
    run = tail(members, corrupt + dropped, half, half)
    bound = Fraction(corrupt + dropped, members) ** half
    assert run <= bound
    return Conditions(
        secret=members * tail(others, corrupt, k, 2 * threshold(k + 1) - (k + 1) - 1) <= rare,
        connected=members * bound <= rare,
        apart=(members * tail(others, corrupt, k, half - spare)) ** 2 <= rare,
        answers=members * tail(others, dropped, k, spare + 1) <= Fraction(1, 2**ETA_BITS),
    )


# With 185 and 186, one member more or fewer to draw neighbours from would decide otherwise.
@pytest.mark.parametrize("members", [34, 61, 100, 150, 185, 186, 300])
def test_the_conditions_are_the_bounds_of_the_docstring(members: int) -> None:
    """At every number of neighbours, so also at the first that keeps each of the promises."""
    for k in range(2, members - 1, 2):
        assert conditions(members, k) == bounds(members, k)


@pytest.mark.parametrize("less", [0, 20, 40])
def test_the_conditions_of_a_thousand_are_the_bounds_of_the_docstring(less: int) -> None:
    k = degree(1000) - less
    assert conditions(1000, k) == bounds(1000, k)


def test_tails_are_counted_exactly() -> None:
    for population in range(9):
        for marked in range(population + 1):
            for drawn in range(population + 1):
                for least in range(-1, drawn + 3):
                    expected = tail(population, marked, drawn, least) * comb(population, drawn)
                    assert _tail(population, marked, drawn, least) == expected


def test_a_probability_may_be_as_high_as_its_bound() -> None:
    assert _at_most(3, 5, 15 << 7, 7)
    assert not _at_most(3, 5, (15 << 7) - 1, 7)


# --- how many may be with the coordinator ---


@pytest.mark.parametrize("members", [*range(1, 45), 99, 100, 1000])
def test_the_most_colluders_are_those_of_the_proof_and_above_it_a_tenth(members: int) -> None:
    most = most_colluders(members)
    assert type(most) is int
    if members <= COMPLETE_UP_TO:
        needed = next(votes for votes in count() if 3 * votes > 2 * members)
        assert most < 2 * needed - members <= most + 1
    else:
        assert 10 * most <= members < 10 * (most + 1)


@pytest.mark.parametrize("members", [2, 3, 12, COMPLETE_UP_TO, COMPLETE_UP_TO + 1, 200])
def test_more_colluders_than_that_are_refused_where_a_sum_over_fewer_could_be_opened(
    members: int,
) -> None:
    most, needed = most_colluders(members), threshold(members)
    for minimum in (1, needed, needed + 1, members):
        require_holding(members, minimum, 0)
        require_holding(members, minimum, most)
    # What a threshold opens has so many members, however many of them collude.
    said = f"lower the colluders to {most}, or minimum_cohort to {needed}"
    for colluders in (most + 1, members):
        for minimum in (1, needed, needed + 1, members):
            if members <= COMPLETE_UP_TO and minimum <= needed:
                require_holding(members, minimum, colluders)
            else:
                with pytest.raises(CohortError, match=rf"{said}\."):
                    require_holding(members, minimum, colluders)


@pytest.mark.parametrize("holders", [3, 33, 77, 255, 327])
def test_two_survivor_sets_cannot_open_both_secrets_of_a_member(holders: int) -> None:
    needed = threshold(holders)

    def both_open(corrupt: int, twice: int) -> bool:
        honest = holders - corrupt - twice  # each answers for one secret only
        return honest + 2 * (corrupt + twice) >= 2 * needed

    tolerated = 2 * needed - holders - 2  # the most corrupt holders that are no failure
    assert not both_open(tolerated, twice=1)
    assert both_open(tolerated + 1, twice=1)
    assert 3 * tolerated >= holders - 6


@settings(max_examples=25, deadline=None)
@given(st.integers(33, 700), st.binary(min_size=32, max_size=32))
def test_the_graph_is_symmetric_regular_and_without_loops(members: int, seed: bytes) -> None:
    group = names(members)
    graph = neighbours(group, seed)
    assert list(graph) == group
    for member, near in graph.items():
        assert len(near) == len(set(near)) == degree(members)
        assert list(near) == sorted(near)
        assert member not in near
        assert all(member in graph[other] for other in near)
    assert graph == neighbours(tuple(group), seed)


def test_another_seed_gives_another_graph() -> None:
    group = names(100)
    graphs = [neighbours(group, bytes([first]) + bytes(31)) for first in range(20)]
    assert all(graphs[i] != graphs[j] for i in range(20) for j in range(i))


def test_the_graph_of_a_seed_never_changes() -> None:
    # Two versions of this program that differ here would make masks that do not cancel.
    lines = [" ".join((member, *near)) for member, near in neighbours(names(100), SEED).items()]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == "319eaf6576700fcd"


@pytest.mark.parametrize("group", [["b", "a"], ["a", "a"], ["a", "b", "b"]])
def test_names_are_sorted_and_unique(group: list[str]) -> None:
    with pytest.raises(ValueError, match="sorted and unique"):
        neighbours(group, SEED)


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33)])
def test_a_seed_has_256_bits(seed: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        neighbours(names(3), seed)


def test_no_members_have_no_neighbours() -> None:
    assert neighbours([], SEED) == {}


@pytest.mark.parametrize("members", [0, -1])
def test_cohorts_and_holders_are_positive(members: int) -> None:
    with pytest.raises(ValueError, match="members"):
        degree(members)
    with pytest.raises(ValueError, match="holders"):
        threshold(members)


@pytest.mark.parametrize("each", [0, 3, 98, 99, 100])
def test_a_ring_has_an_even_number_of_neighbours_that_leaves_somebody_out(each: int) -> None:
    with pytest.raises(ValueError, match="even number"):
        conditions(99, each)


@pytest.mark.parametrize(("members", "each"), [(4, 2), (99, 2), (99, 96), (100, 98)])
def test_a_ring_may_leave_one_member_out(members: int, each: int) -> None:
    assert conditions(members, each) == bounds(members, each)


def missing_members(group: list[str], rng: random.Random) -> set[str]:
    share = Fraction(*CORRUPT) + Fraction(*DROPPED)
    return set(rng.sample(group, int(share * len(group))))


def test_honest_survivors_stay_connected_and_can_answer() -> None:
    group, rng = names(400), random.Random(1)
    needed = threshold(degree(len(group)) + 1)
    for trial in range(40):
        graph = neighbours(group, trial.to_bytes(32, "big"))
        kept = set(group) - missing_members(group, rng)
        assert connected(graph, kept)
        alive = set(group) - set(rng.sample(group, len(group) // 10))
        assert all(len(alive.intersection((*graph[m], m))) >= needed for m in alive)


def test_the_same_survivors_on_a_thin_ring_fall_apart() -> None:
    group, rng = names(400), random.Random(1)
    broken = sum(
        not connected(ring(group, 2), set(group) - missing_members(group, rng)) for _ in range(40)
    )
    assert broken == 40


def test_whoever_chooses_the_dropped_knowing_the_ring_cannot_cut_it_and_open_the_rest() -> None:
    # For each gap of k/2 places: the honest in it would have to drop out, and the survivor beside
    # the gap would then have too few holders left for its secret to be opened.
    members, rng = 1000, random.Random(2)
    k = degree(members)
    half, spare = k // 2, k + 1 - threshold(k + 1)

    def cuts(half_window: int, allowed: int) -> int:
        found = 0
        for _ in range(50):
            corrupt = np.zeros(members, dtype=np.int64)
            corrupt[rng.sample(range(members), members // 10)] = 1
            twice = np.concatenate([corrupt, corrupt[:half_window]])
            held = np.convolve(twice, np.ones(half_window, dtype=np.int64), mode="valid")
            found += int((half_window - held <= allowed).any())
        return found

    assert cuts(half, spare) == 0
    thin = 8
    assert cuts(thin // 2, thin + 1 - threshold(thin + 1)) == 50


def order_counts(numbers: random.Random, trials: int, *, biased: bool) -> np.ndarray:
    size = 6
    found = np.zeros((size, size))
    for _ in range(trials):
        if biased:  # the common mistake: every place swaps with any place
            order = list(range(size))
            for place in range(size):
                other = numbers.randrange(size)
                order[place], order[other] = order[other], order[place]
        else:
            order = ring_order(size, (numbers.getrandbits(64) for _ in count()))
        found[np.arange(size), order] += 1
    return found


@pytest.mark.parametrize("biased", [False, True])
def test_every_member_is_equally_likely_in_every_place(*, biased: bool) -> None:
    trials, size = 20_000, 6
    found = order_counts(random.Random(3), trials, biased=biased)
    expected = trials / size
    chi_squared = float(((found - expected) ** 2 / expected).sum())
    # 25 degrees of freedom: mean 25, one in a million above 79.
    assert (chi_squared > 79) == biased


def test_numbers_that_would_favour_some_places_are_skipped() -> None:
    # 2^64 is 1 modulo 3 and modulo 5, so the highest number would favour place 0.
    highest = 2**64 - 1
    plain = ring_order(5, iter([4, 3, 2, 1]))
    assert plain == [0, 1, 2, 3, 4]
    assert ring_order(5, iter([highest, 4, 3, highest, 2, 1])) == plain
    assert ring_order(4, iter([highest, 0, 1])) != [0, 1, 2, 3]


def test_a_ring_longer_than_the_first_words_is_ordered_too() -> None:
    graph = neighbours(names(3000), SEED)
    assert {len(near) for near in graph.values()} == {degree(3000)}
