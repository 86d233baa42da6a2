import hashlib
from collections.abc import Mapping
from functools import cache
from itertools import combinations

import pytest

from privacy.canonical import framed
from privacy.errors import CohortError, ProtocolError
from privacy.identity import Identity
from privacy.keystream import keystream_words
from privacy.randomness import system_bytes
from privacy.secure_sum.cohort import _WORDS_A_MEMBER, Cohort, groups_of
from privacy.secure_sum.graph import COMPLETE_UP_TO, degree, ring_order, threshold
from privacy.secure_sum.keys import Roster, admit, offer_key
from privacy.sum_context import names_digest


@cache
def people(size: int) -> Mapping[str, Identity]:
    return {f"member {index:03}": Identity.create(system_bytes) for index in range(size)}


@cache
def roster_of(size: int, run: bytes = b"run") -> Roster:
    identities = people(size)
    directory = {member: identity.public for member, identity in identities.items()}
    offers = [
        offer_key(identity, member, run=run, directory=directory, entropy=system_bytes)[1]
        for member, identity in identities.items()
    ]
    return admit(offers, run=run, directory=directory, minimum=2)


def whole(size: int, minimum: int = 2) -> Cohort:
    roster = roster_of(size)
    return Cohort(roster, roster.members, minimum)


def test_the_members_are_named_once_each_in_order() -> None:
    roster = roster_of(4)
    first, second, third, fourth = roster.members
    for wrong in ((second, first), (first, first, second), (fourth, third, second, first)):
        with pytest.raises(ProtocolError, match="once each, in order"):
            Cohort(roster, wrong, 2)
    with pytest.raises(ProtocolError, match="not in this run's roster"):
        Cohort(roster, (first, "spy"), 2)


@pytest.mark.parametrize(("members", "minimum"), [(0, 0), (1, 0), (1, 1), (2, 3), (4, 5)])
def test_fewer_members_than_this_side_insists_on_are_refused(members: int, minimum: int) -> None:
    roster = roster_of(4)
    with pytest.raises(CohortError, match=f"over {members} .* insists on {max(minimum, 2)}"):
        Cohort(roster, roster.members[:members], minimum)


def test_the_digest_is_that_of_the_names() -> None:
    roster = roster_of(4)
    cohorts = [Cohort(roster, part, 2) for part in combinations(roster.members, 3)]
    assert [cohort.digest for cohort in cohorts] == [names_digest(c.members) for c in cohorts]
    assert len({cohort.digest for cohort in cohorts}) == 4


@pytest.mark.parametrize("size", [2, 5, 40])
def test_peers_share_with_each_other_and_hold_each_others_shares(size: int) -> None:
    cohort = whole(size)
    for member in cohort.members:
        peers = cohort.peers(member)
        assert len(peers) == degree(size)
        assert member not in peers
        assert all(member in cohort.peers(peer) for peer in peers)
        assert cohort.holders(member) == tuple(sorted((*peers, member)))
        assert (
            cohort.threshold(member) == threshold(len(peers) + 1) == 2 * (len(peers) + 1) // 3 + 1
        )
    with pytest.raises(ProtocolError, match="spy is not asked"):
        cohort.peers("spy")


def test_who_masks_with_whom_follows_from_run_and_cohort_alone() -> None:
    def peers(cohort: Cohort) -> list[tuple[str, ...]]:
        return [cohort.peers(member) for member in cohort.members]

    size = 80
    assert degree(size) < size - 1  # so that there is something to choose
    cohort = whole(size)
    assert peers(whole(size, minimum=9)) == peers(cohort)  # each side's minimum is its own
    other_run = roster_of(size, b"run-2")
    assert peers(Cohort(other_run, other_run.members, 2)) != peers(cohort)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7, 12, COMPLETE_UP_TO])
def test_in_a_small_cohort_more_than_two_thirds_must_stay(size: int) -> None:
    cohort = whole(size)
    needed = max(2, 2 * size // 3 + 1)
    for count in range(size + 1):
        survivors = cohort.members[:count]
        if count >= needed:
            cohort.require_survivors(survivors)
        else:
            with pytest.raises(CohortError, match=cohort.members[-1]):
                cohort.require_survivors(survivors)


@pytest.mark.parametrize("minimum", [3, 5, 6])
def test_fewer_survivors_than_the_minimum_are_refused_with_the_missing_named(minimum: int) -> None:
    cohort = whole(6, minimum=minimum)
    sentence = f"{minimum - 1} members are left .* at least {minimum}; missing: .*member 005"
    with pytest.raises(CohortError, match=sentence):
        cohort.require_survivors(cohort.members[: minimum - 1])


def test_survivors_are_members_once_each_and_in_order() -> None:
    cohort = whole(6)
    for wrong in (cohort.members[::-1], (*cohort.members, cohort.members[-1])):
        with pytest.raises(ProtocolError, match="once each, in order"):
            cohort.require_survivors(wrong)
    roster = cohort.roster
    part = Cohort(roster, roster.members[:5], 2)
    with pytest.raises(ProtocolError, match="member 005 is not asked"):
        part.require_survivors(roster.members)


def test_in_a_large_cohort_each_survivor_keeps_enough_of_its_own_holders() -> None:
    cohort = whole(80)
    lonely = cohort.members[7]
    holders = cohort.holders(lonely)
    peers = [peer for peer in holders if peer != lonely]
    spare = len(holders) - threshold(len(holders))

    def without(gone: list[str]) -> tuple[str, ...]:
        return tuple(member for member in cohort.members if member not in gone)

    # One more is missing than it can spare: it is named with them, or must go itself.
    with pytest.raises(CohortError, match="more than a third of those who hold shares of"):
        cohort.require_survivors(without(peers[: spare + 1]))
    # Many others may be missing: whoever is left with too few is noticed for itself.
    few = without(peers[: len(peers) - 2])
    with pytest.raises(CohortError, match="hold shares of"):
        cohort.require_survivors(few)
    cohort.require_survivors(cohort.members)


# --- groups ---


@pytest.mark.parametrize(("size", "least"), [(12, 3), (12, 4), (12, 5), (13, 3), (40, 7), (6, 6)])
def test_groups_hold_everybody_once_and_differ_by_one_member_at_most(size: int, least: int) -> None:
    roster = roster_of(size)
    groups = groups_of(roster, least)
    assert len(groups) == size // least
    assert sorted(member for group in groups for member in group) == list(roster.members)
    assert all(list(group) == sorted(group) for group in groups)
    sizes = {len(group) for group in groups}
    assert min(sizes) >= least
    assert max(sizes) - min(sizes) <= 1
    assert groups_of(roster, least) == groups
    for group in groups:
        Cohort(roster, group, least)


def test_without_a_size_there_is_one_group_of_all() -> None:
    roster = roster_of(12)
    assert groups_of(roster, 0) == (roster.members,)
    assert groups_of(roster, 7) == (roster.members,)  # no second group of seven


def test_who_is_together_follows_from_the_run_and_not_from_the_names() -> None:
    rosters = [roster_of(12, f"run {index}".encode()) for index in range(30)]
    found = {groups_of(roster, 3) for roster in rosters}
    assert len(found) == 30
    # Each pair is together about as often as by chance: 3 in 11 of 30 runs, far from none or all.
    together = [
        sum(any({a, b} <= set(group) for group in groups) for groups in found)
        for a, b in combinations(rosters[0].members, 2)
    ]
    assert 4 <= sum(together) / len(together) <= 12
    assert max(together) < 30


def test_a_stranger_in_a_members_place_is_no_survivor() -> None:
    """As many as were asked, and one of them was not."""
    cohort = whole(6)
    with pytest.raises(ProtocolError, match=r"^spy is not asked for this sum"):
        cohort.require_survivors((*cohort.members[:5], "spy"))


def test_groups_follow_from_the_run_and_all_names_as_it_is_written() -> None:
    roster = roster_of(12)
    names = names_digest(roster.members)
    seed = hashlib.sha256(framed(b"tacit/groups/v1", b"run", names)).digest()
    words = keystream_words(seed, 12 * _WORDS_A_MEMBER).tolist()
    order = [roster.members[place] for place in ring_order(12, iter(words))]
    assert groups_of(roster, 4) == tuple(tuple(sorted(order[at::3])) for at in range(3))
