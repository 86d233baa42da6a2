"""Whoever fails and whenever: a sum is exactly its survivors', or nobody learns anything.

Each pattern is played with real sealers and a real gathering. What was said on the way is then
held against the only thing that may be learnt of it: `Played.bare` lists every set of members
whose vectors, added up, are no longer hidden by any mask.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations, count, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sums import Group, group, random_words

from privacy.errors import CohortError, ProtocolError
from privacy.keystream import Words
from privacy.secure_sum import Release, Vote
from privacy.secure_sum import graph as graphs
from privacy.secure_sum.cohort import Cohort
from privacy.sum_context import SURVIVORS_DOMAIN, survivors_message

# When a member fails: not at all, before it uploads, so that its vector comes late, before it
# votes, before it gives its masks with those who are gone, before it reveals.
FATES = ("never", "upload", "late", "vote", "release", "reveal")
NEVER, UPLOAD, LATE, VOTE, RELEASE, REVEAL = FATES
MINIMUM = 3
Names = tuple[str, ...]
_ROUNDS = count(1)


@cache
def made(members: int) -> tuple[Group, Cohort]:
    """Identities and keys are made once; sealers, and the sum, are new in each pattern."""
    names = tuple(f"m{index:02}" for index in range(members))
    together = group(names)
    return together, together.cohort


@dataclass
class Played:
    """One sum, and what whoever sees every message knows of it."""

    members: int
    words: dict[str, Words] = field(default_factory=dict)
    seeds: set[tuple[str, str]] = field(default_factory=set)
    shares: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.group, self.cohort = made(self.members)
        self.context = self.group.context(next(_ROUNDS))
        self.digest = self.context.digest()
        self.sealers = self.group.sealers()
        self.sum = self.group.gathering(self.context, self.cohort)
        self.boxes: dict[str, Mapping[str, bytes]] = {}

    def upload(self, names: Iterable[str], *, late: bool = False) -> None:
        for name in names:
            self.words[name] = random_words(2)
            vector = self.sealers[name].seal(
                self.words[name], bits=64, context=self.context, cohort=self.cohort
            )
            self.boxes[name] = vector.boxes
            if late:
                with pytest.raises(CohortError, match=f"{name} came late"):
                    self.sum.take(vector)
            else:
                self.sum.take(vector)

    def release(self, name: str, survivors: Names, votes: Iterable[Vote]) -> Release:
        release = self.sealers[name].release(self.digest, survivors, votes)
        self.seeds |= {(name, peer) for peer in release.seeds}
        return release

    def honest(self, fates: Mapping[str, str]) -> Words:
        """Let everybody do its part as far as it gets; return the sum."""
        self.upload(name for name, fate in fates.items() if fate not in (UPLOAD, LATE))
        try:
            self.sum.close()
        finally:
            if self.sum._survivors is not None:
                self.upload((name for name, fate in fates.items() if fate == LATE), late=True)
        self._settle(fates)
        for name in self.sum.voters:
            if fates[name] not in (RELEASE, REVEAL):
                answer = self.sealers[name].reveal(
                    self.digest,
                    self.sum.survivors,
                    self.sum.votes_for(name),
                    self.sum.boxes_for(name),
                )
                self.shares |= {(name, dealer) for dealer in answer.shares}
                self.sum.take_answer(answer)
        opened = self.sum.open()
        return np.frombuffer(opened.payload, "<u8").astype(np.uint64)

    def _settle(self, fates: Mapping[str, str]) -> None:
        while True:
            for name in self.sum.survivors:
                if fates[name] != VOTE:
                    self.sum.take_vote(self.sealers[name].vote(self.digest, self.sum.survivors))
            if self.sum.leave_silent_out():
                continue
            for name in self.sum.unreleased:
                if fates[name] not in (VOTE, RELEASE):
                    votes = self.sum.votes_for(name)
                    self.sum.take_release(self.release(name, self.sum.survivors, votes))
            if not self.sum.leave_unreleased_out():
                break

    def bare(self) -> list[Names]:
        """Every least set of members whose vectors' sum is not hidden any more.

        Two vectors belong together while the mask between them is unknown. A set is hidden while
        the own mask of one of them is, or its mask with one who uploaded nothing.
        """
        told = self.seeds | {(peer, member) for member, peer in self.seeds}
        left, found = set(self.words), []
        while left:
            reached: set[str] = set()
            edge = {min(left)}
            while edge:
                reached |= edge
                near = {(member, peer) for member in edge for peer in self.cohort.peers(member)}
                edge = {peer for _, peer in near - told if peer in left} - reached
            left -= reached
            if all(self._unmasked(member) for member in reached):
                found.append(tuple(sorted(reached)))
        return found

    def _unmasked(self, member: str) -> bool:
        holders = [h for h in self.cohort.holders(member) if (h, member) in self.shares]
        absent = [peer for peer in self.cohort.peers(member) if peer not in self.words]
        return len(holders) >= self.cohort.threshold(member) and all(
            {(member, peer), (peer, member)} & self.seeds for peer in absent
        )


def expected(cohort: Cohort, fates: Mapping[str, str]) -> Names | None:
    """Who survives, by the rules as they are told, in other words than the program's."""
    left = {name for name, fate in fates.items() if fate not in (UPLOAD, LATE)}

    def enough(member: str, among: set[str]) -> bool:
        circle = {*cohort.peers(member), member}
        return 3 * len(circle & among) > 2 * len(circle)

    while True:
        if len(left) < MINIMUM or not all(enough(member, left) for member in left):
            return None
        voters = {name for name in left if fates[name] != VOTE}
        if not all(enough(member, voters) for member in left):
            left = voters
            continue
        owing = {name for name in left if not set(cohort.peers(name)) <= left}
        failing = {name for name in owing if fates[name] in (VOTE, RELEASE)}
        if not failing:
            break
        left -= failing
    answering = {name for name in voters if fates[name] not in (RELEASE, REVEAL)}
    return tuple(sorted(left)) if all(enough(name, answering) for name in left) else None


def check_pattern(fates: Mapping[str, str]) -> bool:
    """Play a pattern; return whether the sum was opened."""
    played = Played(len(fates))
    due = expected(played.cohort, fates)
    try:
        total = played.honest(fates)
    except CohortError:
        assert due is None
        assert played.bare() == []
    else:
        assert due == played.sum.survivors
        assert played.bare() == [due]
        words = [played.words[name] for name in due]
        np.testing.assert_array_equal(total, np.sum(words, axis=0, dtype=np.uint64))
        # Nothing of one outside was revealed, and masks of those outside alone.
        assert {dealer for _, dealer in played.shares} <= set(due)
        assert not {peer for _, peer in played.seeds} & set(due)
    assert not played.seeds & played.shares  # both secrets of one, told by one
    return due is not None


def patterns(members: int) -> Iterable[dict[str, str]]:
    names = made(members)[1].members
    return (dict(zip(names, fates, strict=True)) for fates in product(FATES, repeat=members))


@pytest.mark.parametrize("members", [3, 4])
def test_every_pattern_of_failures_opens_the_survivors_sum_or_nothing(members: int) -> None:
    opened = sum(check_pattern(fates) for fates in patterns(members))
    assert opened == (1 if members == 3 else 1 + 5 * members)  # one may fail, in five ways


@pytest.mark.slow
def test_every_pattern_of_failures_of_five_opens_the_survivors_sum_or_nothing() -> None:
    assert sum(check_pattern(fates) for fates in patterns(5)) == 1 + 5 * 5


def fates_of(members: int) -> st.SearchStrategy[dict[str, str]]:
    """Patterns in which a third fails or a little more, so that some sums are opened."""
    names = tuple(f"m{index:02}" for index in range(members))
    failing = st.dictionaries(
        st.sampled_from(names), st.sampled_from(FATES[1:]), max_size=members // 3 + 1
    )
    return failing.map(lambda some: dict.fromkeys(names, NEVER) | some)


@settings(max_examples=80, deadline=None)
@given(fates=st.integers(6, 9).flatmap(fates_of))
def test_any_pattern_of_failures_of_up_to_nine_does(fates: dict[str, str]) -> None:
    check_pattern(fates)


@contextmanager
def sparse() -> Iterator[None]:
    """Each of forty members masks with eight, and no longer than one pattern is played.

    The members of other tests are made when they are needed first, each masking with all others.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "degree", lambda _: 8)
        _, cohort = made(40)
        assert {len(cohort.peers(member)) for member in cohort.members} == {8}
        yield


@settings(max_examples=25, deadline=None)
@given(
    failing=st.dictionaries(st.integers(0, 39), st.sampled_from(FATES[1:]), max_size=5),
    neighbour=st.integers(0, 39),
    run=st.lists(st.sampled_from(FATES[1:]), max_size=3),
)
def test_any_pattern_of_failures_does_where_members_have_few_neighbours(
    failing: dict[int, str], neighbour: int, run: list[str]
) -> None:
    with sparse():
        _, cohort = made(40)
        fates = dict.fromkeys(cohort.members, NEVER)
        fates |= {cohort.members[place]: fate for place, fate in failing.items()}
        # Some of them next to each other, so that a member loses more than it may.
        fates |= dict(zip(cohort.peers(cohort.members[neighbour]), run, strict=False))
        check_pattern(fates)


# -- a coordinator that shows different survivors to different members ------------------------


class Hostile(Played):
    """A sum whose coordinator shows what it likes, and forgets nothing; some members help it."""

    def begin(self, uploaded: Names, sets: Iterable[Names], spies: Names) -> None:
        self.upload(uploaded)
        self.honest_ones = [name for name in uploaded if name not in spies]
        self.votes: dict[Names, dict[str, Vote]] = {}
        for survivors in sets:
            message = survivors_message(self.digest, survivors)
            self.votes[survivors] = {
                spy: Vote(spy, self.group.identities[spy].sign(SURVIVORS_DOMAIN, message))
                for spy in spies
                if spy in survivors
            }

    def show(self, names: Iterable[str], survivors: Names) -> None:
        """Ask for votes; whoever may not, refuses."""
        for name in names:
            if name in self.honest_ones:
                with suppress(ProtocolError):
                    vote = self.sealers[name].vote(self.digest, survivors)
                    self.votes[survivors][name] = vote

    def ask_masks(self, names: Iterable[str], survivors: Names) -> None:
        """Ask for masks with those who are gone, with all votes that there are."""
        for name in names:
            if name in self.honest_ones:
                with suppress(ProtocolError):
                    self.release(name, survivors, self.votes[survivors].values())

    def ask_shares(self, names: Iterable[str], survivors: Names) -> None:
        """Ask for shares, with all votes that there are; whoever may not, refuses."""
        for name in names:
            if name in self.honest_ones:
                peers = [peer for peer in self.cohort.peers(name) if peer in survivors]
                # For one who uploaded nothing it makes a box up.
                boxes = {peer: self.boxes.get(peer, {}).get(name, bytes(49)) for peer in peers}
                votes = self.votes[survivors].values()
                with suppress(ProtocolError):
                    answer = self.sealers[name].reveal(self.digest, survivors, votes, boxes)
                    self.shares |= {(name, dealer) for dealer in answer.shares}

    def betray(self, spies: Names) -> None:
        """Add what spies know: their masks with all, and all shares that they were dealt."""
        for spy in spies:
            self.words.pop(spy, None)  # known anyway
            self.seeds |= {(spy, peer) for peer in self.cohort.peers(spy)}
            self.shares |= {(spy, dealer) for dealer in self.boxes}


@dataclass(frozen=True)
class View:
    """Two sets of survivors, who is asked early to reveal for the first, and who to vote again."""

    first: Names
    second: Names
    early: Names
    again: Names


def shown(members: int, uploaded: Names, view: View, spies: Names = ()) -> list[Names]:
    """Show two sets in the order that gives most; return which sets of vectors are bare then."""
    played = Hostile(members)
    played.begin(uploaded, {view.first, view.second}, spies)
    played.show(uploaded, view.first)
    played.ask_masks(uploaded, view.first)
    played.ask_shares(view.early, view.first)
    played.show(view.again, view.second)
    for survivors in (view.second, view.first):
        played.ask_masks(uploaded, survivors)
        played.ask_shares(uploaded, survivors)
    assert not played.seeds & played.shares
    played.betray(spies)
    return played.bare()


def check_view(members: int, uploaded: Names, view: View, spies: Names = ()) -> list[Names]:
    """At most one of the two is bare, whole but for the spies."""
    bare = shown(members, uploaded, view, spies)
    assert len(bare) <= 1
    for names in bare:
        assert {*names} in ({*view.first} - {*spies}, {*view.second} - {*spies})
        assert len(names) >= MINIMUM - len(spies)
    return bare


def subsets(names: Sequence[str]) -> list[Names]:
    return [some for size in range(len(names) + 1) for some in combinations(names, size)]


def test_two_sets_of_survivors_shown_to_four_members_in_every_way_open_at_most_one_sum() -> None:
    names = made(4)[1].members
    opened = set()
    for fewer in (names[1:], names[:1] + names[2:]):
        for first, second in ((names, fewer), (fewer, names)):
            for early, again in product(subsets(names), repeat=2):
                opened |= set(check_view(4, names, View(first, second, early, again)))
    assert opened == {names, names[1:], names[:1] + names[2:]}


@pytest.mark.parametrize("spies", [1, 2])
def test_members_who_help_the_coordinator_do_not_open_a_second_sum(spies: int) -> None:
    # Of five it takes four: fewer than three spies are too few for two sums.
    names = made(5)[1].members
    fewer, honest = names[:4], names[spies:]
    opened = set()
    for early, again in product(subsets(honest), subsets(honest[:-1])):
        for first, second in ((names, fewer), (fewer, names)):
            view = View(first, second, early, again)
            opened |= set(check_view(5, names, view, names[:spies]))
    assert opened == {honest, honest[:-1]}


def test_as_many_spies_as_the_guarantee_excludes_do_open_a_second_sum() -> None:
    # Three of five, where it takes four: the bound that `privacy.secure_sum.sealer` states.
    names = made(5)[1].members
    view = View(names, names[:4], early=names[4:], again=names[:4])
    assert shown(5, names, view, names[:3]) == [names[3:4], names[4:]]


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_two_sets_of_survivors_shown_to_more_members_open_at_most_one_sum(
    data: st.DataObject,
) -> None:
    members = data.draw(st.integers(4, 7))
    names = made(members)[1].members

    def some(least: int) -> Names:
        chosen = st.lists(st.sampled_from(names), min_size=least, unique=True)
        return tuple(sorted(data.draw(chosen)))

    excluded = 2 * (2 * members // 3 + 1) - members
    spies = names[: data.draw(st.integers(0, excluded - 1))]
    view = View(some(members - 2), some(members - 2), some(0), some(0))
    check_view(members, some(members - 1), view, spies)
