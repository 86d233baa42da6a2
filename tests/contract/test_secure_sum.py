"""What every way to protect a sum promises, run over each of them."""

import pickle
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from privacy.errors import CohortError, ProtocolError
from privacy.fixed_point import FixedPoint, wide
from privacy.identity import Identity, verify_signature
from privacy.keystream import Words, keystream_words
from privacy.randomness import system_bytes
from privacy.secure_sum import Answer, Release, SealedVector, Vote
from privacy.secure_sum.cohort import Cohort
from privacy.secure_sum.gathering import Gathering, OpenedSum
from privacy.secure_sum.group_key import GroupKey, make_group_key, maker_of, open_group_key
from privacy.secure_sum.keys import ExchangeKey, Roster, admit, offer_key
from privacy.secure_sum.schemes import SCHEMES, Scheme
from privacy.secure_sum.sealer import KeptSum, Sealer
from privacy.secure_sum.statements import (
    ANSWER_DOMAIN,
    RELEASE_DOMAIN,
    SEALED_DOMAIN,
    sealed_message,
    share_commitment,
    told_message,
)
from privacy.secure_sum.tag import append_tag, check_tag, tag_key, tag_words
from privacy.sum_context import SURVIVORS_DOMAIN, SumContext, survivors_message

Floats = NDArray[np.float64]
MASKED = [name for name, scheme in SCHEMES.items() if scheme.masked]
UNMASKED = [name for name, scheme in SCHEMES.items() if not scheme.masked]
BITS = 42  # fits one number of every carrier, up to 48 members


@dataclass(frozen=True)
class Group:
    """The members of one run, and what each of them holds."""

    scheme: Scheme
    identities: Mapping[str, Identity]
    exchange: Mapping[str, ExchangeKey]
    roster: Roster
    keys: Mapping[str, GroupKey]
    sealers: Mapping[str, Sealer]
    cohort: Cohort

    @property
    def members(self) -> tuple[str, ...]:
        return self.roster.members

    def context(self, *, round_index: int = 1, step: str = "update") -> SumContext:
        return SumContext(
            run=self.roster.run,
            step=step,
            round=round_index,
            schema=b"s" * 32,
            model=b"m" * 32,
            history=b"h" * 32,
            roster=self.roster.digest,
            cohort=self.cohort.digest,
            keys=self.keys[self.members[0]].fingerprint,
        )

    def gathering(self, context: SumContext) -> Gathering:
        public = self.keys[self.members[0]].carrier.public
        adder = self.scheme.adder(public, len(self.members))
        return Gathering(
            context,
            self.cohort,
            scheme=self.scheme.name,
            adder=adder,
            masked=self.scheme.masked,
        )

    def seal(
        self, member: str, words: Words, context: SumContext, *, bits: int = BITS
    ) -> SealedVector:
        return self.sealers[member].seal(words, bits=bits, context=context, cohort=self.cohort)

    def opened(self, payload: bytes, *, count: int, bits: int = BITS) -> Words:
        found = [
            sealer.open(payload, count=count, bits=bits).tolist()
            for sealer in self.sealers.values()
        ]
        assert all(words == found[0] for words in found)  # alike at every member
        return np.array(found[0], np.uint64)


@cache
def people(size: int) -> Mapping[str, Identity]:
    return {f"member {index}": Identity.create(system_bytes) for index in range(size)}


def sealer_of(group: Group, of: str, **changes: object) -> Sealer:
    """A sealer as member `of` makes it, but for `changes`."""
    whole: dict[str, object] = {
        "member": of,
        "identity": group.identities[of],
        "key": group.exchange[of],
        "roster": group.roster,
        "scheme": group.scheme.name,
        "wrap": group.keys[of].carrier.wrap,
        "masked": group.scheme.masked,
        "entropy": system_bytes,
    }
    return Sealer(**{**whole, **changes})  # type: ignore[arg-type]


def group_of(
    name: str, *, size: int = 4, run: bytes = b"run-1", minimum: int = 2, each: bool = False
) -> Group:
    """A run's members; only if `each` does every one of them open its own group key."""
    identities = people(size)
    directory = {member: identity.public for member, identity in identities.items()}
    made = {
        member: offer_key(identity, member, run=run, directory=directory, entropy=system_bytes)
        for member, identity in identities.items()
    }
    roster = admit((offer for _, offer in made.values()), run=run, directory=directory, minimum=2)
    scheme = SCHEMES[name]
    maker = maker_of(roster)
    own, envelopes = make_group_key(maker, identities[maker], roster, scheme, system_bytes)
    keys = {maker: own}
    last = own
    for member, envelope in envelopes.items():
        if len(keys) < 2 or each:
            last = open_group_key(member, made[member][0], roster, scheme, envelope)
        keys[member] = last  # reading a key of an encryption takes a while, so others share it
    exchange = {member: key for member, (key, _) in made.items()}
    sealers: dict[str, Sealer] = {}
    group = Group(
        scheme, identities, exchange, roster, keys, sealers, Cohort(roster, roster.members, minimum)
    )
    sealers |= {member: sealer_of(group, member) for member in roster.members}
    return group


@pytest.fixture(name="name", params=SCHEMES)
def _name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def words_below(bound: int, count: int) -> Words:
    return keystream_words(system_bytes(32), count) % np.uint64(bound)


def vectors_of(group: Group, count: int = 5, *, bits: int = BITS) -> dict[str, Words]:
    most = (1 << bits) // len(group.members)
    return {member: words_below(most, count) for member in group.members}


def sealed_by_all(group: Group, context: SumContext, count: int = 5) -> dict[str, SealedVector]:
    return {
        member: group.seal(member, words, context)
        for member, words in vectors_of(group, count).items()
    }


def finished(
    group: Group,
    gathering: Gathering,
    *,
    silent: Collection[str] = (),
    stingy: Collection[str] = (),
    mute: Collection[str] = (),
    over: Sequence[str] | None = None,
    turned: bool = False,
) -> OpenedSum:
    """All that follows on the vectors.

    `silent` do nothing any more, `stingy` vote and do not release, `mute` do not reveal.
    """
    turn: Callable[[Iterable[str]], list[str]] = lambda names: sorted(names, reverse=turned)  # noqa: E731
    settle(group, gathering, turn, silent=silent, stingy={*silent, *stingy}, over=over)
    if gathering.needs_answers:
        for member in turn(gathering.voters):
            if member not in mute:
                gathering.take_answer(revealed(group, gathering, member))
    return gathering.open()


def settle(
    group: Group,
    gathering: Gathering,
    turn: Callable[[Iterable[str]], list[str]],
    *,
    silent: Collection[str],
    stingy: Collection[str],
    over: Sequence[str] | None = None,
) -> None:
    """Votes and releases, until those who are left gave all that is due."""
    gathering.close(over=over)
    while True:
        for member in turn(gathering.survivors):
            if member not in silent:
                vote = group.sealers[member].vote(gathering.context, gathering.survivors)
                gathering.take_vote(vote)
        if gathering.leave_silent_out():
            continue
        for member in turn(gathering.unreleased):
            if member not in stingy:
                gathering.take_release(released(group, gathering, member))
        if not gathering.leave_unreleased_out():
            return


def released(group: Group, gathering: Gathering, member: str) -> Release:
    return group.sealers[member].release(
        gathering.context, gathering.survivors, gathering.votes_for(member)
    )


def revealed(group: Group, gathering: Gathering, member: str) -> Answer:
    return group.sealers[member].reveal(
        gathering.context,
        gathering.survivors,
        gathering.votes_for(member),
        gathering.boxes_for(member),
    )


def summed(
    group: Group,
    vectors: Mapping[str, Words],
    *,
    bits: int = BITS,
    gone: Collection[str] = (),
    silent: Collection[str] = (),
    stingy: Collection[str] = (),
    mute: Collection[str] = (),
    round_index: int = 1,
) -> OpenedSum:
    context = group.context(round_index=round_index)
    gathering = group.gathering(context)
    for member, words in vectors.items():
        if member not in gone:
            sent = group.seal(member, words, context, bits=bits)
            gathering.take(SealedVector.from_wire(sent.header(), sent.payload))
    return finished(group, gathering, silent=silent, stingy=stingy, mute=mute)


def total_of(vectors: Mapping[str, Words], survivors: Iterable[str]) -> list[int]:
    columns = zip(*(vectors[member].tolist() for member in survivors), strict=True)
    return [sum(column) % 2**64 for column in columns]


# --- the sum ---


@pytest.mark.parametrize("size", [2, 3, 7])
@pytest.mark.parametrize("bits", [20, 63, 64])
def test_the_sum_is_that_of_the_integers(name: str, size: int, bits: int) -> None:
    group = group_of(name, size=size)
    for round_index, count in enumerate((1, 5, 1300)):
        vectors = vectors_of(group, count, bits=bits)
        before = {member: words.tolist() for member, words in vectors.items()}
        opened = summed(group, vectors, bits=bits, round_index=round_index)
        assert opened.survivors == group.members
        found = group.opened(opened.payload, count=count, bits=bits)
        assert found.dtype == np.uint64
        assert found.tolist() == total_of(vectors, group.members)
        assert {member: words.tolist() for member, words in vectors.items()} == before


@pytest.mark.parametrize("name", ["masked", "clear"])
@pytest.mark.parametrize("count", [16_383, 40_000])
def test_long_vectors_of_any_words_add_up_modulo_two_to_the_64(name: str, count: int) -> None:
    group = group_of(name)
    vectors = {member: keystream_words(system_bytes(32), count) for member in group.members}
    opened = summed(group, vectors, bits=64)
    assert group.opened(opened.payload, count=count).tolist() == total_of(vectors, group.members)


def layouts(scheme: Scheme, parties: int) -> list[FixedPoint]:
    """Every layout that a run of this scheme may write in."""
    packed = [
        FixedPoint(parties=parties, fields=fields, field_bits=bits, clip=1.0)
        for fields, bits in scheme.packings(parties)
    ]
    return [*packed, wide(parties)]


def tagged_sum(
    group: Group,
    layout: FixedPoint,
    values: Mapping[str, Floats],
    *,
    gone: Collection[str] = (),
    round_index: int = 1,
) -> tuple[OpenedSum, bytes]:
    """A sum as nodes do it: encoded, tagged, sealed; and the key of its tag."""
    context = group.context(round_index=round_index)
    key = tag_key(group.keys[group.members[0]].tag_secret, context.digest())
    vectors = {
        member: append_tag(layout.encode(vector, system_bytes), layout=layout, key=key)
        for member, vector in values.items()
    }
    opened = summed(group, vectors, bits=layout.word_bits, gone=gone, round_index=round_index)
    return opened, key


def test_real_vectors_come_back_in_every_layout_with_their_tag(name: str) -> None:
    group = group_of(name, size=5)
    values = {
        member: np.linspace(-0.2, 0.2, 1000) * index for index, member in enumerate(group.members)
    }
    for round_index, layout in enumerate(layouts(group.scheme, 5)):
        gone = group.members[1:2] if round_index % 2 else ()
        opened, key = tagged_sum(group, layout, values, gone=gone, round_index=round_index)
        count = layout.words(1000) + tag_words(layout)
        words = group.opened(opened.payload, count=count, bits=layout.word_bits)
        body = check_tag(words, layout=layout, key=key, parties=len(opened.survivors))
        decoded = layout.decode_sum(body, 1000, len(opened.survivors))
        true = sum(values[member] for member in opened.survivors)
        assert np.abs(decoded - true).max() <= layout.worst_error(len(opened.survivors))


def test_the_order_of_arrival_does_not_matter(name: str) -> None:
    group = group_of(name)
    context = group.context()
    sealed = list(sealed_by_all(group, context).values())
    there, back = group.gathering(context), group.gathering(context)
    for one, other in zip(sealed, sealed[::-1], strict=True):
        there.take(one)
        back.take(other)
    assert there.arrived == back.arrived == group.members
    first = finished(group, there)
    second = finished(group, back, turned=True)
    assert first.survivors == second.survivors
    assert first.votes == second.votes
    found = [group.opened(sum_.payload, count=5).tolist() for sum_ in (first, second)]
    assert found[0] == found[1]


def test_the_opened_sum_is_the_same_for_every_member(name: str) -> None:
    group = group_of(name, size=5, each=True)
    vectors = vectors_of(group)
    opened = summed(group, vectors, gone=("member 1",))
    assert group.opened(opened.payload, count=5).tolist() == total_of(vectors, opened.survivors)
    message = survivors_message(group.context().digest(), opened.survivors)
    for vote in opened.votes:
        public = group.identities[vote.member].public
        verify_signature(public, SURVIVORS_DOMAIN, message, vote.signature)


# --- members who drop out ---


def voted(
    name: str, *, gone: Collection[str] = (), size: int = 7
) -> tuple[Group, dict[str, Words], Gathering]:
    """A sum on whose survivors all of them voted; nothing was told yet."""
    group = group_of(name, size=size)
    context, vectors = group.context(), vectors_of(group)
    gathering = group.gathering(context)
    for member, words in vectors.items():
        if member not in gone:
            gathering.take(group.seal(member, words, context))
    for member in gathering.close():
        gathering.take_vote(group.sealers[member].vote(gathering.context, gathering.survivors))
    return group, vectors, gathering


def some(group: Group, *places: int) -> tuple[str, ...]:
    return tuple(group.members[place] for place in places)


@pytest.mark.parametrize(
    ("gone", "silent", "stingy", "mute"),
    [
        ((), (), (), ()),
        ((0,), (), (), ()),
        ((2, 6), (), (), ()),
        ((), (3, 4), (), ()),  # their vectors are there, and nobody waits for them
        ((), (), (), (1, 5)),
        ((), (), (3, 4), ()),  # nothing is due from them
        ((6,), (0,), (), ()),  # one is missing, and one who should give its mask falls silent
        ((6,), (), (0,), ()),
        ((3,), (), (), (1,)),
        ((5,), (), (2,), (2,)),  # it fails for good, so its shares are needed from the others
    ],
)
def test_the_sum_of_those_who_stay_is_exact(
    name: str,
    gone: Sequence[int],
    silent: Sequence[int],
    stingy: Sequence[int],
    mute: Sequence[int],
) -> None:
    group = group_of(name, size=7)
    vectors = vectors_of(group)
    opened = summed(
        group,
        vectors,
        gone=some(group, *gone),
        silent=some(group, *silent),
        stingy=some(group, *stingy),
        mute=some(group, *mute),
    )
    # Who is silent is waited for only where it would have to give a mask.
    needed = gone and group.scheme.masked
    left = {*some(group, *gone), *(some(group, *silent, *stingy) if needed else ())}
    assert opened.survivors == tuple(m for m in group.members if m not in left)
    assert group.opened(opened.payload, count=5).tolist() == total_of(vectors, opened.survivors)


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize(
    ("gone", "silent", "stingy"), [((0, 1), (), (2,)), ((0,), (), (1, 2)), ((0,), (1,), (2,))]
)
def test_too_few_who_release_keep_the_sum_closed(
    name: str, gone: Sequence[int], silent: Sequence[int], stingy: Sequence[int]
) -> None:
    group = group_of(name, size=7)
    with pytest.raises(CohortError, match="member 0"):
        summed(
            group,
            vectors_of(group),
            gone=some(group, *gone),
            silent=some(group, *silent),
            stingy=some(group, *stingy),
        )


@pytest.mark.parametrize("name", MASKED)
def test_without_a_mask_with_one_who_left_the_sum_stays_closed_until_it_is_given(
    name: str,
) -> None:
    group, vectors, gathering = voted(name, gone=("member 3",))
    assert gathering.unreleased == gathering.survivors
    for member in gathering.survivors:
        gathering.take_answer(revealed(group, gathering, member))
        if member != "member 5":
            gathering.take_release(released(group, gathering, member))
    assert list(gathering.unreleased) == ["member 5"]
    with pytest.raises(CohortError, match=r"masks of member 5 with those who left are missing"):
        gathering.open()
    gathering.take_release(released(group, gathering, "member 5"))
    assert gathering.unreleased == ()
    opened = gathering.open()
    assert group.opened(opened.payload, count=5).tolist() == total_of(vectors, opened.survivors)


def test_a_sum_is_closed_over_the_members_of_an_earlier_one_where_all_are_there(
    name: str,
) -> None:
    group = group_of(name, size=7)
    context = group.context()
    vectors = vectors_of(group)
    sealed = {member: group.seal(member, words, context) for member, words in vectors.items()}
    whole, rest = group.members, group.members[:6]
    for there, over, wanted in (
        (whole, None, whole),
        (whole, rest, rest),
        (whole, rest[::-1], rest),
        (rest, rest, rest),
        (rest, whole, rest),  # one of them is not: members will say what they sign
        (whole[1:], rest, whole[1:]),
        (whole, (*rest, "spy"), whole),
    ):
        gathering = group.gathering(context)
        for member in there:
            gathering.take(sealed[member])
        assert gathering.close(over=over) == wanted
    gathering = group.gathering(context)
    for member in whole:
        gathering.take(sealed[member])
    with pytest.raises(CohortError, match="member 6"):
        gathering.close(over=whole[:4])
    # The one that is left out is as one who left.
    gathering.close(over=rest)
    for member in rest:
        gathering.take_vote(group.sealers[member].vote(gathering.context, rest))
        with pytest.raises(ProtocolError, match="member 6 votes on a sum"):
            gathering.take_vote(Vote("member 6", bytes(64)))
    for member in gathering.unreleased:
        gathering.take_release(released(group, gathering, member))
    for member in rest if gathering.needs_answers else ():
        gathering.take_answer(revealed(group, gathering, member))
    opened = gathering.open()
    assert group.opened(opened.payload, count=5).tolist() == total_of(vectors, rest)


@pytest.mark.parametrize(
    ("gone", "silent"), [((0, 1, 2), ()), ((0, 1), (2,)), ((0,), (1, 2)), ((), (0, 1, 2))]
)
def test_one_more_than_the_threshold_allows_keeps_the_sum_closed(
    name: str, gone: Sequence[int], silent: Sequence[int]
) -> None:
    group = group_of(name, size=7)
    with pytest.raises(CohortError, match="member 0"):
        summed(group, vectors_of(group), gone=some(group, *gone), silent=some(group, *silent))


@pytest.mark.parametrize("name", MASKED)
def test_too_few_shares_keep_the_sum_closed_until_more_arrive(name: str) -> None:
    group = group_of(name, size=7)
    vectors, context = vectors_of(group), group.context()
    gathering = group.gathering(context)
    for member, words in vectors.items():
        gathering.take(group.seal(member, words, context))
    with pytest.raises(CohortError, match=r"shares of the masks of member 0, member 1, .* missing"):
        finished(group, gathering, mute=group.members[4:])
    assert gathering.missing() == group.members
    gathering.take_answer(revealed(group, gathering, "member 5"))
    assert gathering.missing() == ()
    opened = gathering.open()
    assert group.opened(opened.payload, count=5).tolist() == total_of(vectors, group.members)
    with pytest.raises(ProtocolError, match="opened once"):
        gathering.open()


def test_below_the_minimum_nothing_opens(name: str) -> None:
    group = group_of(name, size=4, minimum=4)
    context = group.context()
    gathering = group.gathering(context)
    with pytest.raises(CohortError, match="member 0, member 1, member 2, member 3"):
        gathering.close()
    sealed = sealed_by_all(group, context)
    for vector in list(sealed.values())[:3]:
        gathering.take(vector)
    with pytest.raises(CohortError, match="at least 4; missing: member 3"):
        gathering.close()
    with pytest.raises(ProtocolError, match="close the sum first"):
        gathering.open()
    # Each member holds to the same, whatever the coordinator shows it.
    with pytest.raises(CohortError, match="at least 4"):
        group.sealers["member 0"].vote(context.digest(), group.members[:3])
    gathering.take(sealed["member 3"])
    assert finished(group, gathering).survivors == group.members


def test_nobody_is_alone_in_a_sum(name: str) -> None:
    group = group_of(name, size=2, minimum=1)
    context = group.context()
    sealed_by_all(group, context)
    with pytest.raises(CohortError):
        group.sealers["member 0"].vote(context.digest(), ("member 0",))
    with pytest.raises(CohortError, match="hides nothing"):
        sealer_of(group, "member 0", roster=replace(group.roster, offers=group.roster.offers[:1]))


# --- what the coordinator does not take ---


def test_a_member_counts_once(name: str) -> None:
    group = group_of(name)
    context = group.context()
    gathering = group.gathering(context)
    sealed = sealed_by_all(group, context)
    for vector in sealed.values():
        gathering.take(vector)
        with pytest.raises(ProtocolError, match=f"{vector.sender} sent two"):
            gathering.take(vector)
    vote = group.sealers["member 0"].vote(gathering.context, gathering.close())
    gathering.take_vote(vote)
    with pytest.raises(ProtocolError, match="member 0 voted twice"):
        gathering.take_vote(vote)


@pytest.mark.parametrize("name", MASKED)
def test_an_answer_counts_once_and_only_as_it_was_dealt(name: str) -> None:
    group = group_of(name)
    context = group.context()
    gathering = group.gathering(context)
    for vector in sealed_by_all(group, context).values():
        gathering.take(vector)
    gathering.close()
    for member in group.members:
        gathering.take_vote(group.sealers[member].vote(gathering.context, gathering.survivors))
    answer = revealed(group, gathering, "member 0")
    other = revealed(group, gathering, "member 1")
    for wrong, sentence in (
        (replace(answer, shares=other.shares), "not signed"),
        (replace(answer, signature=other.signature), "not signed"),
        (replace(answer, member="member 9"), "not part of"),
    ):
        with pytest.raises(ProtocolError, match=sentence):
            gathering.take_answer(wrong)
    gathering.take_answer(answer)
    with pytest.raises(ProtocolError, match="member 0 answered twice"):
        gathering.take_answer(answer)


def answering(group: Group, gathering: Gathering, answer: Answer, **shares: bytes) -> Answer:
    """The answer with other shares, as its dishonest holder signs it."""
    told = {**answer.shares, **{name.replace("_", " "): share for name, share in shares.items()}}
    message = told_message(gathering.context, gathering.survivors, told)
    signature = group.identities[answer.member].sign(ANSWER_DOMAIN, message)
    return Answer(answer.member, told, signature)


@pytest.mark.parametrize("name", MASKED)
def test_a_share_that_was_not_dealt_is_noted_and_the_others_of_its_answer_count(name: str) -> None:
    group, vectors, gathering = voted(name)
    for member in group.members:
        answer = revealed(group, gathering, member)
        if member in {"member 0", "member 1"}:
            answer = answering(group, gathering, answer, member_3=bytes(33), member_4=b"\1" * 33)
        gathering.take_answer(answer)
    assert gathering.faults == [
        f"{holder} gave another share than {dealer} dealt; one of them is at fault"
        for holder in ("member 0", "member 1")
        for dealer in ("member 3", "member 4")
    ]
    assert gathering.missing() == ()
    opened = gathering.open()
    assert opened.survivors == group.members
    assert group.opened(opened.payload, count=5).tolist() == total_of(vectors, group.members)


@pytest.mark.parametrize("name", MASKED)
def test_a_box_with_another_share_than_its_dealer_is_bound_to_is_noted(name: str) -> None:
    """Here the dealer is at fault, and nobody can tell that from outside."""
    group = group_of(name, size=7)
    context, vectors = group.context(), vectors_of(group)
    gathering = group.gathering(context)
    for member, words in vectors.items():
        vector = group.seal(member, words, context)
        if member == "member 2":
            bound = list(vector.commitments)
            bound[1] = bound[2] = b"c" * 32  # of members 0 and 1
            vector = resigned(group, replace(vector, commitments=tuple(bound)))
        gathering.take(vector)
    opened = finished(group, gathering)
    assert gathering.faults == [
        f"{holder} gave another share than member 2 dealt; one of them is at fault"
        for holder in ("member 0", "member 1")
    ]
    assert group.opened(opened.payload, count=5).tolist() == total_of(vectors, group.members)


@pytest.mark.parametrize("name", MASKED)
def test_more_bad_shares_than_the_threshold_allows_keep_the_sum_closed(name: str) -> None:
    group, vectors, gathering = voted(name)
    for member in group.members[:6]:
        answer = revealed(group, gathering, member)
        if member in {"member 0", "member 1"}:
            answer = answering(group, gathering, answer, member_3=bytes(33))
        gathering.take_answer(answer)
    assert gathering.missing() == ("member 3",)
    with pytest.raises(CohortError, match="shares of the masks of member 3 are missing"):
        gathering.open()
    gathering.take_answer(revealed(group, gathering, "member 6"))
    opened = gathering.open()
    assert group.opened(opened.payload, count=5).tolist() == total_of(vectors, group.members)


@pytest.mark.parametrize("name", MASKED)
def test_a_dealer_of_shares_that_no_secret_has_is_named(name: str) -> None:
    """Bound to what it dealt, and what it dealt can be put together to nothing."""
    group = group_of(name)
    context, share = group.context(), b"\xff" * 33
    digest, dealer = context.digest(), "member 2"
    gathering = group.gathering(context)
    for member, vector in sealed_by_all(group, context).items():
        if member == dealer:
            sealer = group.sealers[dealer]
            assert sealer._pending is not None
            sealer._pending.own_share = share
            boxes = {peer: sealer._box(digest, peer, share) for peer in vector.boxes}
            bound = tuple(
                share_commitment(digest, dealer, holder, share)
                for holder in group.cohort.holders(dealer)
            )
            changed = replace(vector, boxes=boxes, commitments=(vector.commitments[0], *bound))
            vector = resigned(group, changed)  # noqa: PLW2901
        gathering.take(vector)
    with pytest.raises(ProtocolError, match="member 2 dealt shares of no one seed"):
        finished(group, gathering)


@pytest.mark.parametrize("name", MASKED)
def test_a_dealer_that_is_bound_to_another_seed_is_named(name: str) -> None:
    group = group_of(name)
    context = group.context()
    gathering = group.gathering(context)
    for member, vector in sealed_by_all(group, context).items():
        bound = (b"c" * 32, *vector.commitments[1:])
        taken = resigned(group, replace(vector, commitments=bound))
        gathering.take(taken if member == "member 2" else vector)
    with pytest.raises(ProtocolError, match="member 2 dealt shares of no one seed"):
        finished(group, gathering)


@pytest.mark.parametrize("name", MASKED)
def test_what_no_honest_holder_answers_is_refused_whole(name: str) -> None:
    group, _, gathering = voted(name, gone=("member 3",))
    answer = revealed(group, gathering, "member 0")
    for wrong in (
        {"member_3": bytes(33)},  # it left
        {"spy": bytes(33)},
        {"member_1": bytes(32)},
        {"member_1": bytes(34)},
        {"member_1": b""},
    ):
        with pytest.raises(ProtocolError, match="member 0 gave a share of no survivor"):
            gathering.take_answer(answering(group, gathering, answer, **wrong))
    assert gathering.faults == []
    gathering.take_answer(answer)


@pytest.mark.parametrize("name", MASKED)
def test_a_release_is_taken_whole_and_only_from_its_member(name: str) -> None:
    group, _, gathering = voted(name, gone=("member 3", "member 5"))
    release = released(group, gathering, "member 0")
    assert set(release.seeds) == {"member 3", "member 5"}
    other = released(group, gathering, "member 1")
    assert not set(release.seeds.values()) & set(other.seeds.values())

    def signed(seeds: Mapping[str, bytes], *, of: Sequence[str] = gathering.survivors) -> Release:
        message = told_message(gathering.context, of, seeds)
        signature = group.identities["member 0"].sign(RELEASE_DOMAIN, message)
        return Release("member 0", seeds, signature)

    seeds = dict(release.seeds)
    for wrong, sentence in (
        (replace(release, seeds=other.seeds), "not signed"),
        (replace(release, signature=other.signature), "not signed"),
        (replace(release, member="member 1"), "not signed"),
        (replace(release, member="member 3"), "not part of"),
        (replace(release, member="spy"), "not part of"),
        (signed(seeds, of=gathering.survivors[:4]), "not signed"),
        (signed({}), "member 0 did not give the masks that are due"),
        (signed({"member 3": seeds["member 3"]}), "did not give the masks that are due"),
        (signed({**seeds, "member 1": bytes(32)}), "did not give the masks that are due"),
        (signed({**seeds, "spy": bytes(32)}), "did not give the masks that are due"),
        (signed({**seeds, "member 3": bytes(31)}), "did not give the masks that are due"),
        (signed({**seeds, "member 3": b""}), "did not give the masks that are due"),
    ):
        with pytest.raises(ProtocolError, match=sentence):
            gathering.take_release(wrong)
    assert "member 0" in gathering.unreleased
    gathering.take_release(release)
    assert "member 0" not in gathering.unreleased


@pytest.mark.parametrize("name", MASKED)
def test_a_release_for_survivors_who_are_not_those_any_more_is_refused(name: str) -> None:
    group, vectors, gathering = voted(name, gone=("member 6",))
    old = {member: released(group, gathering, member) for member in gathering.survivors}
    for member in gathering.survivors[1:]:
        gathering.take_release(old[member])
    assert gathering.leave_unreleased_out()
    assert gathering.survivors == group.members[1:6]
    assert gathering.voters == ()  # all vote anew
    for member in gathering.survivors:
        with pytest.raises(ProtocolError, match=f"the masks that {member} tells are not signed"):
            gathering.take_release(old[member])
        gathering.take_vote(group.sealers[member].vote(gathering.context, gathering.survivors))
    assert gathering.unreleased == gathering.survivors  # with member 0
    for member in gathering.survivors:
        release = released(group, gathering, member)
        assert set(release.seeds) == {"member 0", "member 6"}
        assert release.seeds["member 6"] == old[member].seeds["member 6"]
        gathering.take_release(release)
    assert not gathering.leave_unreleased_out()
    for member in gathering.survivors:
        gathering.take_answer(revealed(group, gathering, member))
    opened = gathering.open()
    assert group.opened(opened.payload, count=5).tolist() == total_of(vectors, opened.survivors)


def test_a_late_vector_is_told_so(name: str) -> None:
    group = group_of(name)
    context = group.context()
    gathering = group.gathering(context)
    sealed = sealed_by_all(group, context)
    for vector in list(sealed.values())[:3]:
        gathering.take(vector)
    gathering.close()
    with pytest.raises(CohortError, match="member 3 came late"):
        gathering.take(sealed["member 3"])


def test_nothing_opens_before_members_signed_who_it_is_over(name: str) -> None:
    group = group_of(name)
    context = group.context()
    gathering = group.gathering(context)
    for vector in sealed_by_all(group, context).values():
        gathering.take(vector)
    gathering.close()
    with pytest.raises(CohortError, match="too few members signed"):
        gathering.open()
    if not group.scheme.masked:
        answer = Answer("member 0", {"member 1": bytes(33)}, bytes(64))
        with pytest.raises(ProtocolError, match="no answer is due"):
            gathering.take_answer(answer)


def test_an_unknown_member_is_refused(name: str) -> None:
    group, other = group_of(name), group_of(name, size=5)
    stranger = other.seal("member 4", words_below(9, 5), other.context())
    with pytest.raises(ProtocolError, match="member 4 is not asked"):
        group.gathering(group.context()).take(stranger)


def resigned(group: Group, vector: SealedVector, *, scheme: str | None = None) -> SealedVector:
    """As a dishonest sender signs it."""
    message = sealed_message(scheme or group.scheme.name, vector)
    signature = group.identities[vector.sender].sign(SEALED_DOMAIN, message)
    return replace(vector, signature=signature)


@pytest.mark.parametrize(
    "part", ["payload", "signature", "sender", "context", "boxes", "commitments"]
)
def test_a_forged_vector_is_refused_by_name(name: str, part: str) -> None:
    group = group_of(name)
    context = group.context()
    vector, other = list(sealed_by_all(group, context).values())[:2]
    forged = {
        "payload": replace(vector, payload=vector.payload[:-1] + b"?"),
        "signature": replace(vector, signature=other.signature),
        "sender": replace(vector, sender="member 1"),
        "context": replace(vector, context=bytes(32)),
        "boxes": replace(vector, boxes={**vector.boxes, "member 1": b"b" * 49}),
        "commitments": replace(vector, commitments=(b"c" * 32, *vector.commitments[1:])),
    }[part]
    with pytest.raises(ProtocolError, match=forged.sender) as caught:
        group.gathering(context).take(forged)
    assert not isinstance(caught.value, CohortError)


@pytest.mark.parametrize("name", MASKED)
def test_a_member_that_shares_its_mask_with_too_few_or_too_many_is_left_out(name: str) -> None:
    group = group_of(name)
    context = group.context()
    vector = sealed_by_all(group, context)["member 0"]
    fewer = {peer: box for peer, box in vector.boxes.items() if peer != "member 2"}
    for boxes in ({}, fewer, {**vector.boxes, "spy": b"b"}, {**vector.boxes, "member 0": b"b"}):
        with pytest.raises(ProtocolError, match="member 0 did not share"):
            group.gathering(context).take(resigned(group, replace(vector, boxes=boxes)))
    for commitments in ((), vector.commitments[1:], (*vector.commitments, b"c" * 32)):
        with pytest.raises(ProtocolError, match="member 0 is not bound"):
            group.gathering(context).take(resigned(group, replace(vector, commitments=commitments)))


@pytest.mark.parametrize("name", UNMASKED)
def test_a_scheme_without_masks_takes_no_shares(name: str) -> None:
    group = group_of(name)
    context = group.context()
    vector = sealed_by_all(group, context)["member 0"]
    assert (dict(vector.boxes), vector.commitments) == ({}, ())
    for wrong in (
        replace(vector, boxes={"member 1": b"b"}),
        replace(vector, commitments=(b"c" * 32,)),
    ):
        with pytest.raises(ProtocolError, match="member 0"):
            group.gathering(context).take(resigned(group, wrong))
    for member in group.members:
        with pytest.raises(ProtocolError, match="nothing to tell"):
            group.sealers[member].reveal(context.digest(), group.members, (), {})
        with pytest.raises(ProtocolError, match="nothing to tell"):
            group.sealers[member].release(context.digest(), group.members, ())


def test_a_vector_of_another_scheme_is_never_taken(name: str) -> None:
    group = group_of(name)
    context = group.context()
    vector = sealed_by_all(group, context)["member 0"]
    for other in SCHEMES:
        if other != name:
            with pytest.raises(ProtocolError, match="not signed"):
                group.gathering(context).take(resigned(group, vector, scheme=other))
    group.gathering(context).take(resigned(group, vector))


@pytest.mark.parametrize("payload", [b"1", b"1234567", b"123456789", bytes(64), b"\xff" * 4000])
def test_bytes_that_are_no_payload_of_this_length_are_refused_by_name(
    name: str, payload: bytes
) -> None:
    group = group_of(name)
    context = group.context()
    for place, wrong in enumerate(group.members):
        gathering = group.gathering(replace(context, round=place))
        for member, vector in sealed_by_all(group, replace(context, round=place)).items():
            forged = resigned(group, replace(vector, payload=payload))
            gathering.take(forged if member == wrong else vector)
        # The first vector sets the length, so the second is the one that differs from it.
        blamed = wrong if place or len(payload) % 8 or name in {"sealed", "ckks"} else "member 1"
        with pytest.raises(ProtocolError, match=f"^{blamed}: a"):
            finished(group, gathering)


def test_another_length_is_refused(name: str) -> None:
    group = group_of(name)
    context = group.context()
    gathering = group.gathering(context)
    for member in group.members:
        count = 6 if member == "member 2" else 5
        gathering.take(group.seal(member, words_below(9, count), context))
    with pytest.raises(ProtocolError, match=r"member 2: .*another length"):
        finished(group, gathering)


def others(context: SumContext) -> list[SumContext]:
    """Contexts of other sums of the same run, roster and cohort."""
    return [
        replace(context, round=2),
        replace(context, step="evaluate test"),
        replace(context, schema=b"t" * 32),
        replace(context, model=b"n" * 32),
        replace(context, history=b"g" * 32),
        replace(context, keys=b"k" * 32),
    ]


def test_vectors_of_another_sum_are_refused(name: str) -> None:
    group = group_of(name)
    first = group.context()
    sealed = sealed_by_all(group, first)
    for other in others(first):
        for vector in sealed.values():
            with pytest.raises(ProtocolError, match=f"{vector.sender} sealed .*another sum"):
                group.gathering(other).take(vector)


def test_contexts_of_another_run_roster_or_cohort_are_refused(name: str) -> None:
    group = group_of(name)
    context = group.context()
    sealer = group.sealers["member 0"]
    part = Cohort(group.roster, group.members[:3], 2)
    later = group_of(name, run=b"run-2")
    for other, cohort, sentence in (
        (replace(context, run=b"run-2"), group.cohort, "another run"),
        (replace(context, roster=bytes(32)), group.cohort, "another roster"),
        (context, later.cohort, "another roster"),
        (context, part, "another cohort"),
        (replace(context, cohort=bytes(32)), group.cohort, "another cohort"),
    ):
        with pytest.raises(ProtocolError, match=sentence):
            sealer.seal(words_below(9, 5), bits=BITS, context=other, cohort=cohort)
    for other in (replace(context, roster=bytes(32)), replace(context, cohort=part.digest)):
        with pytest.raises(ProtocolError, match="another cohort"):
            group.gathering(other)
    # A refused context leaves no trace: the honest one can still be sealed.
    group.seal("member 0", words_below(9, 5), context)


def test_a_cohort_without_this_member_is_refused(name: str) -> None:
    group = group_of(name)
    part = Cohort(group.roster, group.members[:3], 2)
    context = replace(group.context(), cohort=part.digest)
    with pytest.raises(ProtocolError, match="member 3 is not asked"):
        group.sealers["member 3"].seal(words_below(9, 5), bits=BITS, context=context, cohort=part)


def test_a_part_of_the_roster_sums_on_its_own(name: str) -> None:
    whole = group_of(name, size=6)
    part = replace(whole, cohort=Cohort(whole.roster, whole.members[::2], 3))
    vectors = {member: words_below(1000, 5) for member in part.cohort.members}
    opened = summed(part, vectors)
    assert opened.survivors == ("member 0", "member 2", "member 4")
    assert whole.opened(opened.payload, count=5).tolist() == total_of(vectors, opened.survivors)


def test_vectors_of_another_run_of_the_same_members_are_refused(name: str) -> None:
    group, later = group_of(name), group_of(name, run=b"run-2")
    old = sealed_by_all(group, group.context())
    for vector in old.values():
        with pytest.raises(ProtocolError, match=f"{vector.sender} sealed its vector for another"):
            later.gathering(later.context()).take(vector)


# --- what a member does not do ---


def test_no_two_vectors_are_sealed_for_one_sum(name: str) -> None:
    group = group_of(name)
    context = group.context()
    words = words_below(9, 5)
    group.seal("member 0", words, context)
    for again in (words.copy(), words + np.uint64(1)):
        with pytest.raises(ProtocolError, match="already sealed"):
            group.seal("member 0", again, context)
    for other in others(context):
        group.seal("member 0", words, other)
    # A second sealer with the same exchange key remembers the same sums.
    twin = sealer_of(group, "member 0")
    with pytest.raises(ProtocolError, match="already sealed"):
        twin.seal(words, bits=BITS, context=context, cohort=group.cohort)


@pytest.mark.parametrize("name", MASKED)
def test_one_vector_sealed_for_two_sums_looks_unrelated(name: str) -> None:
    group = group_of(name)
    zeros = np.zeros(5, np.uint64)
    first = group.seal("member 0", zeros, group.context())
    second = group.seal("member 0", zeros, group.context(round_index=2))
    assert first.payload != second.payload
    assert not set(first.boxes.values()).intersection(second.boxes.values())
    assert not set(first.commitments).intersection(second.commitments)


@pytest.mark.parametrize(
    "words", [np.zeros(0, np.uint64), np.zeros((2, 2), np.uint64), np.zeros(2, np.int64)]
)
def test_only_words_are_sealed(name: str, words: Words) -> None:
    group = group_of(name)
    with pytest.raises(ValueError, match="uint64"):
        group.seal("member 0", words, group.context())


@pytest.mark.parametrize("name", ["sealed"])
def test_a_word_wider_than_it_says_is_not_sealed(name: str) -> None:
    group = group_of(name)
    with pytest.raises(ValueError, match="does not fit"):
        group.seal("member 0", np.array([1 << 63], np.uint64), group.context())


def test_survivors_are_signed_in_one_direction_only(name: str) -> None:
    group = group_of(name, size=7)
    context = group.context()
    sealed_by_all(group, context)
    digest, sealer = context.digest(), group.sealers["member 0"]
    vote = sealer.vote(digest, group.members[:6])
    assert sealer.vote(digest, group.members[:6]) == vote  # a lost reply is repeated
    for survivors, kind, sentence in (
        (group.members, ProtocolError, "only become fewer"),
        ((*group.members[:5], "member 6"), ProtocolError, "only become fewer"),
        (group.members[1:6], ProtocolError, "without itself"),
        (group.members[:4], CohortError, "member"),
        (group.members[:6][::-1], ProtocolError, "in order"),
        ((*group.members[:6], "spy"), ProtocolError, "spy"),
        (("member 0", *group.members[:6]), ProtocolError, "once each"),
    ):
        with pytest.raises(kind, match=sentence):
            sealer.vote(digest, survivors)
    fewer = sealer.vote(digest, group.members[:5])
    assert fewer.signature != vote.signature
    with pytest.raises(ProtocolError, match="only become fewer"):
        sealer.vote(digest, group.members[:6])


def test_the_next_sum_closes_the_one_before(name: str) -> None:
    group = group_of(name)
    first, second = group.context(), group.context(round_index=2)
    sealed_by_all(group, first)
    sealed_by_all(group, second)
    sealer = group.sealers["member 0"]
    for act in (
        lambda: sealer.vote(first.digest(), group.members),
        lambda: sealer.reveal(first.digest(), group.members, (), {}),
        lambda: sealer.release(first.digest(), group.members, ()),
        lambda: sealer.vote(bytes(32), group.members),
    ):
        with pytest.raises(ProtocolError, match="not under way"):
            act()
    sealer.vote(second.digest(), group.members)


@pytest.mark.parametrize("name", MASKED)
def test_a_sum_that_could_not_be_sealed_closes_the_one_before_as_well(name: str) -> None:
    group = group_of(name)
    first, second = group.context(), group.context(round_index=2)
    broken: list[bool] = []

    def entropy(count: int) -> bytes:
        if broken:
            raise OSError("no entropy")
        return system_bytes(count)

    sealer = sealer_of(group, "member 0", entropy=entropy)
    words = words_below(9, 5)
    sealer.seal(words, bits=BITS, context=first, cohort=group.cohort)
    sealer.vote(first.digest(), group.members)
    broken.append(True)
    with pytest.raises(OSError, match="no entropy"):
        sealer.seal(words, bits=BITS, context=second, cohort=group.cohort)
    for context in (first, second):
        with pytest.raises(ProtocolError, match="not under way"):
            sealer.vote(context.digest(), group.members)
    broken.clear()
    with pytest.raises(ProtocolError, match="already sealed"):
        sealer.seal(words, bits=BITS, context=second, cohort=group.cohort)


def test_before_anything_was_sealed_nothing_is_told(name: str) -> None:
    group = group_of(name)
    digest = group.context().digest()
    sealer = group.sealers["member 0"]
    for act in (
        lambda: sealer.vote(digest, group.members),
        lambda: sealer.release(digest, group.members, ()),
        lambda: sealer.reveal(digest, group.members, (), {}),
    ):
        with pytest.raises(ProtocolError, match="not under way"):
            act()


@pytest.mark.parametrize("name", MASKED)
def test_shares_are_revealed_once_for_the_survivors_that_were_signed(name: str) -> None:
    group = group_of(name, size=7)
    context = group.context()
    gathering = group.gathering(context)
    for vector in sealed_by_all(group, context).values():
        gathering.take(vector)
    survivors = gathering.close()
    for member in survivors:
        gathering.take_vote(group.sealers[member].vote(gathering.context, survivors))
    sealer, digest = group.sealers["member 0"], context.digest()
    votes, boxes = gathering.votes_for("member 0"), gathering.boxes_for("member 0")
    fewer_boxes = {peer: box for peer, box in boxes.items() if peer != "member 3"}
    wrong: list[tuple[tuple[str, ...], tuple[Vote, ...], Mapping[str, bytes], str]] = [
        (survivors[:6], votes, boxes, "that were signed"),
        (survivors, votes[:4], boxes, "4 of those .* 5 are needed"),
        (survivors, (*votes[:4], votes[0]), boxes, "counted twice"),
        (survivors, (*votes[:6], replace(votes[6], signature=votes[0].signature)), boxes, "sign"),
        (survivors, (*votes[:6], replace(votes[6], member="spy")), boxes, "spy is not asked"),
        (survivors, votes, fewer_boxes, "is due"),
        (survivors, votes, {**boxes, "member 0": b"b"}, "is due"),
    ]
    for shown, given, held, sentence in wrong:
        with pytest.raises(ProtocolError, match=sentence):
            sealer.reveal(digest, shown, given, held)
    answer = sealer.reveal(digest, survivors, votes, boxes)
    assert sealer.reveal(digest, survivors, votes, boxes) == answer
    for fewer in (survivors[:6], survivors[:5]):
        with pytest.raises(ProtocolError, match="settled"):
            sealer.vote(digest, fewer)
        with pytest.raises(ProtocolError, match="that were signed; no others"):
            sealer.release(digest, fewer, votes_on(group, digest, fewer))
    assert dict(sealer.release(digest, survivors, votes).seeds) == {}
    with pytest.raises(ProtocolError, match="revealed before"):
        sealer.reveal(digest, survivors, votes, {**boxes, "member 1": b"another box"})


def votes_on(group: Group, context: bytes, survivors: tuple[str, ...]) -> tuple[Vote, ...]:
    """Votes of all of them, whatever they signed before: as if they were the coordinator's."""
    message = survivors_message(context, survivors)
    return tuple(
        Vote(member, group.identities[member].sign(SURVIVORS_DOMAIN, message))
        for member in survivors
    )


@pytest.mark.parametrize("name", MASKED)
def test_masks_and_shares_are_told_with_more_than_two_thirds_of_votes_on_that_very_set(
    name: str,
) -> None:
    group, _, gathering = voted(name, gone=("member 6",))
    sealer, digest, survivors = group.sealers["member 0"], gathering.context, gathering.survivors
    votes, boxes = gathering.votes_for("member 0"), gathering.boxes_for("member 0")
    assert len(votes) == 6
    others = votes_on(group, digest, group.members)
    fewer = votes_on(group, digest, survivors[:5])
    elsewhere = votes_on(group, bytes(32), survivors)
    wrong: list[tuple[tuple[str, ...], tuple[Vote, ...], str]] = [
        (survivors, (), "0 of those .* 5 are needed"),
        (survivors, votes[:1], "1 of those .* 5 are needed"),
        (survivors, votes[:4], "4 of those who hold shares of member 0 .* 5 are needed"),
        (survivors, votes[2:], "4 of those .* 5 are needed"),
        (survivors, (*votes[:4], votes[0]), "member 0 is counted twice"),
        (survivors, (*votes[:4], others[4], others[5]), "member 4 did not sign these"),
        (survivors, (*votes[:4], others[6]), "member 6 votes on a sum that it is not part of"),
        (survivors, (*votes[:4], replace(votes[4], member="member 5")), "member 5 did not sign"),
        (survivors, (*votes[:4], Vote("spy", votes[4].signature)), "spy is not asked"),
        (survivors, others, "did not sign these"),
        (survivors, fewer, "did not sign these"),
        (survivors, elsewhere, "did not sign these"),
        # with votes enough, and not what this member signed
        (group.members, others, "that were signed; no others"),
        (survivors[:5], fewer, "that were signed; no others"),
        (survivors[::-1], votes, "that were signed; no others"),
        ((), (), "that were signed; no others"),
    ]
    for shown, given, sentence in wrong:
        with pytest.raises(ProtocolError, match=sentence):
            sealer.release(digest, shown, given)
        with pytest.raises(ProtocolError, match=sentence):
            sealer.reveal(digest, shown, given, boxes)
    release = sealer.release(digest, survivors, votes[:5])
    assert set(release.seeds) == {"member 6"}
    assert sealer.release(digest, survivors, votes) == release  # a lost reply is repeated
    # It releases for fewer once it signed fewer, and then for no others any more.
    sealer.vote(digest, survivors[:5])
    for shown, given in ((survivors, votes), (group.members, others)):
        with pytest.raises(ProtocolError, match="that were signed; no others"):
            sealer.release(digest, shown, given)
        with pytest.raises(ProtocolError, match="that were signed; no others"):
            sealer.reveal(digest, shown, given, boxes)
    assert set(sealer.release(digest, survivors[:5], fewer).seeds) == {"member 5", "member 6"}
    assert sealer._pending is not None
    assert sealer._pending.answer is None


@pytest.mark.parametrize("name", MASKED)
def test_before_its_own_vote_a_member_tells_nothing(name: str) -> None:
    group = group_of(name, size=7)
    context = group.context()
    sealed = sealed_by_all(group, context)
    digest, sealer = context.digest(), group.sealers["member 0"]
    for survivors in (group.members, group.members[:6]):
        votes = votes_on(group, digest, survivors)
        boxes = {peer: sealed[peer].boxes["member 0"] for peer in survivors[1:]}
        with pytest.raises(ProtocolError, match="that were signed; no others"):
            sealer.release(digest, survivors, votes)
        with pytest.raises(ProtocolError, match="that were signed; no others"):
            sealer.reveal(digest, survivors, votes, boxes)


@pytest.mark.parametrize("name", MASKED)
def test_after_a_reveal_nothing_is_told_of_others(name: str) -> None:
    group, _, gathering = voted(name, gone=("member 6",))
    digest, survivors = gathering.context, gathering.survivors
    fewer = survivors[:5]
    for member in survivors:
        sealer = group.sealers[member]
        vote = sealer.vote(digest, survivors)
        release, answer = released(group, gathering, member), revealed(group, gathering, member)
        assert not set(release.seeds) & set(answer.shares)  # never both secrets of one
        with pytest.raises(ProtocolError, match=r"settled|without itself"):
            sealer.vote(digest, fewer)
        for act in (sealer.release, partial(sealer.reveal, boxes={})):
            with pytest.raises(ProtocolError, match="that were signed; no others"):
                act(digest, fewer, votes_on(group, digest, fewer))
        # What was lost on its way is told again, and nothing new.
        assert sealer.vote(digest, survivors) == vote
        assert released(group, gathering, member) == release
        assert revealed(group, gathering, member) == answer


@pytest.mark.parametrize("name", MASKED)
def test_a_box_that_does_not_open_costs_its_dealer_alone(name: str) -> None:
    group = group_of(name, size=7)
    context = group.context()
    gathering = group.gathering(context)
    for vector in sealed_by_all(group, context).values():
        gathering.take(vector)
    survivors = gathering.close()
    for member in survivors:
        gathering.take_vote(group.sealers[member].vote(gathering.context, survivors))
    votes, boxes = gathering.votes_for("member 0"), gathering.boxes_for("member 0")
    bad = {"member 1": b"", "member 2": b"x", "member 3": b"x" * 16, "member 4": b"x" * 49}
    bad["member 5"] = boxes["member 6"]  # of another dealer
    # sealed as it should be, and no share: passed on, it would cost the holder its answer
    bad["member 4"] = group.sealers["member 4"]._box(context.digest(), "member 0", bytes(32))
    answer = group.sealers["member 0"].reveal(context.digest(), survivors, votes, {**boxes, **bad})
    assert set(answer.shares) == {"member 0", "member 6"}
    gathering.take_answer(answer)


def with_two_silent(name: str) -> tuple[Group, dict[str, Words], Gathering]:
    """A sum in a graph with few neighbours: the first two do not vote, and no other misses both."""
    group = group_of(name, size=10)
    names = group.members
    group.cohort.__dict__["_neighbours"] = {
        member: tuple(sorted(names[(at + step) % 10] for step in (-3, -1, 1, 3)))
        for at, member in enumerate(names)
    }
    vectors = vectors_of(group)
    gathering = group.gathering(group.context())
    for member, words in vectors.items():
        gathering.take(group.seal(member, words, group.context()))
    gathering.close()
    for member in names[2:]:
        gathering.take_vote(group.sealers[member].vote(gathering.context, names))
    return group, vectors, gathering


def test_who_refuses_is_asked_anew_without_who_is_away(name: str) -> None:
    """It may have refused for that one's sake; where all are there, who did not vote goes."""
    for away, left in ((1, (0,)), (0, (1,)), (None, ())):
        group, _, gathering = with_two_silent(name)
        names = group.members
        here = [member for at, member in enumerate(names) if at != away]
        assert gathering.leave_silent_out(here)
        assert gathering.survivors == (*(names[at] for at in left), *names[2:])
        assert gathering.voters == ()


def test_who_is_silent_beside_another_is_left_out_and_all_vote_anew(name: str) -> None:
    group, vectors, gathering = with_two_silent(name)
    names = group.members
    assert gathering.leave_silent_out()
    assert gathering.survivors == names[2:]
    assert gathering.voters == ()
    opened = finished(group, gathering, silent=names[:2], over=names[2:])
    assert opened.survivors == names[2:]
    assert group.opened(opened.payload, count=5).tolist() == total_of(vectors, names[2:])


# --- a member that was restarted in the middle of a sum ---


def restarted(group: Group, member: str) -> tuple[Sealer, KeptSum]:
    """A sealer made anew over the key as it was kept, and the sum that was kept with it."""
    kept = group.sealers[member].kept()
    assert kept is not None
    key = ExchangeKey.resumed(group.exchange[member].kept())
    return sealer_of(group, member, key=key), kept


def test_members_that_are_restarted_at_every_step_end_the_same_sum(name: str) -> None:
    group, sealers = group_of(name), {}
    context, vectors = group.context(), vectors_of(group)
    gathering = group.gathering(context)
    assert group.sealers["member 0"].kept() is None
    for member, words in vectors.items():
        if member != "member 3":
            gathering.take(group.seal(member, words, context))
    survivors, digest = gathering.close(), context.digest()

    def restart() -> None:
        for member in survivors:
            sealers[member], kept = restarted(group, member)
            sealers[member].resume(kept, group.cohort)
            assert sealers[member].kept() == kept
            group.sealers[member] = sealers[member]  # type: ignore[index]

    restart()
    for member in survivors:
        gathering.take_vote(sealers[member].vote(digest, survivors))
    restart()
    if group.scheme.masked:
        for member in survivors:
            gathering.take_release(released(group, gathering, member))
            gathering.take_answer(revealed(group, gathering, member))
        before = {member: revealed(group, gathering, member) for member in survivors}
        restart()
        assert before == {member: revealed(group, gathering, member) for member in survivors}
    opened = gathering.open()
    assert group.opened(opened.payload, count=5).tolist() == total_of(vectors, survivors)
    with pytest.raises(ProtocolError, match="already sealed"):
        group.seal("member 0", vectors["member 0"], context)
    assert re.fullmatch(r"KeptSum\(context=[0-9a-f]{16}\.\.\)", repr(sealers["member 0"].kept()))


def test_what_was_kept_binds_a_restarted_member(name: str) -> None:
    group = group_of(name)
    context = group.context()
    digest = context.digest()
    sealed_by_all(group, context)
    fewer = group.members[:3]
    vote = group.sealers["member 0"].vote(digest, fewer)
    sealer, kept = restarted(group, "member 0")
    assert (kept.survivors, kept.shares, kept.answer) == (fewer, None, b"")
    sealer.resume(kept, group.cohort)
    assert sealer.vote(digest, fewer) == vote
    with pytest.raises(ProtocolError, match="only become fewer"):
        sealer.vote(digest, group.members)
    with pytest.raises(ProtocolError, match="does not go with its key"):
        sealer.resume(kept, group.cohort)  # once


def test_what_was_not_kept_by_this_member_is_refused(name: str) -> None:
    group, _, gathering = voted(name, size=4)
    digest, survivors = gathering.context, gathering.survivors
    sealer, kept = restarted(group, "member 0")
    other = group.sealers["member 1"].kept()
    assert other is not None
    wrong = [
        (msgspec.structs.replace(kept, context=bytes(32)), "does not go with its key"),
        (msgspec.structs.replace(kept, own_share=kept.own_share + b"x"), "no share of its own"),
        (msgspec.structs.replace(kept, vote=other.vote), "did not sign"),
        (msgspec.structs.replace(kept, survivors=survivors[:3]), "did not sign"),
        (msgspec.structs.replace(kept, shares={}, answer=bytes(64)), "verify"),
    ]
    for forged, said in wrong:
        with pytest.raises(ProtocolError, match=said):
            sealer.resume(forged, group.cohort)
        assert sealer.kept() is None
    sealer.resume(kept, group.cohort)
    assert sealer.vote(digest, survivors).signature == kept.vote


ODD_NAMES = ("", "member 9", "spy", "é\0")
ODD_BYTES = (b"", b"x", bytes(31), bytes(32), bytes(33), bytes(64), b"\xff" * 64)
SENTENCE = r"^[^\n]+$"


def test_whatever_is_wrong_with_a_vector_nothing_but_a_refusal_is_raised(name: str) -> None:
    group = group_of(name)
    context = group.context()
    gathering = group.gathering(context)
    vector = sealed_by_all(group, context)["member 0"]
    wrong = [replace(vector, sender=odd) for odd in ODD_NAMES]
    for odd in ODD_BYTES:
        wrong += [
            replace(vector, context=odd),
            replace(vector, payload=odd),
            replace(vector, signature=odd),
            replace(vector, boxes={"member 1": odd}),
            replace(vector, commitments=(odd,)),
        ]
    for forged in wrong:
        with pytest.raises(ProtocolError, match=SENTENCE):
            gathering.take(forged)
    gathering.take(vector)


def test_whatever_is_said_after_the_vectors_nothing_but_a_refusal_is_raised(name: str) -> None:
    group = group_of(name)
    context = group.context()
    gathering = group.gathering(context)
    for vector in sealed_by_all(group, context).values():
        gathering.take(vector)
    survivors, digest = gathering.close(), context.digest()
    sealer = group.sealers["member 0"]
    vote = sealer.vote(digest, survivors)
    answer = Answer("member 0", {"member 1": bytes(33)}, bytes(64))
    votes = [replace(vote, signature=odd) for odd in ODD_BYTES]
    votes += [replace(vote, member=odd) for odd in ODD_NAMES]
    release = Release("member 0", {"member 1": bytes(32)}, bytes(64))
    releases = [replace(release, signature=odd) for odd in ODD_BYTES]
    releases += [replace(release, member=odd) for odd in ODD_NAMES]
    releases += [replace(release, seeds={"member 1": odd}) for odd in ODD_BYTES]
    releases += [replace(release, seeds={odd: bytes(32)}) for odd in ODD_NAMES]
    answers = [replace(answer, signature=odd) for odd in ODD_BYTES]
    answers += [replace(answer, member=odd) for odd in ODD_NAMES]
    answers += [replace(answer, shares={odd: bytes(33)}) for odd in ODD_NAMES]
    for forged in votes:
        with pytest.raises(ProtocolError, match=SENTENCE):
            gathering.take_vote(forged)
        with pytest.raises(ProtocolError, match=SENTENCE):
            sealer.reveal(digest, survivors, (forged,), {})
        with pytest.raises(ProtocolError, match=SENTENCE):
            sealer.release(digest, survivors, (forged,))
    for told in releases:
        with pytest.raises(ProtocolError, match=SENTENCE):
            gathering.take_release(told)
    for said in answers:
        with pytest.raises(ProtocolError, match=SENTENCE):
            gathering.take_answer(said)
    for shown in ((), *((odd,) for odd in ODD_NAMES), *((*survivors, odd) for odd in ODD_NAMES)):
        with pytest.raises(ProtocolError, match=SENTENCE):
            sealer.vote(digest, shown)
    for data in ODD_BYTES:
        with pytest.raises(ProtocolError, match=SENTENCE):
            sealer.vote(data, survivors)
        with pytest.raises(ProtocolError, match=SENTENCE):
            sealer.open(data, count=5, bits=BITS)
    gathering.take_vote(vote)
    assert sealer.vote(digest, survivors) == vote


def test_a_sealer_needs_its_own_place_in_the_roster(name: str) -> None:
    group, later = group_of(name), group_of(name, run=b"run-2")
    mine = group.identities["member 0"]
    with pytest.raises(ProtocolError, match="not in this run's roster"):
        sealer_of(group, "member 0", member="spy")
    with pytest.raises(ProtocolError, match="directory has another key"):
        sealer_of(group, "member 1", identity=mine)
    with pytest.raises(ProtocolError, match="another exchange key"):
        sealer_of(group, "member 0", key=group.exchange["member 1"])
    with pytest.raises(ProtocolError, match="another exchange key"):
        sealer_of(group, "member 0", roster=later.roster)


def test_an_exchange_key_serves_one_roster(name: str) -> None:
    group = group_of(name)
    part = replace(group.roster, offers=group.roster.offers[:3])
    with pytest.raises(ProtocolError, match="one roster"):
        sealer_of(group, "member 0", roster=part)


# --- the opened sum ---


def test_an_opened_sum_of_another_length_is_refused(name: str) -> None:
    group = group_of(name)
    opened = summed(group, vectors_of(group))
    for count in (1, 4, 6, 5000):
        for sealer in group.sealers.values():
            with pytest.raises(ProtocolError, match="another length"):
                sealer.open(opened.payload, count=count, bits=BITS)


def test_a_changed_payload_never_passes_the_tag(name: str) -> None:
    group = group_of(name)
    layout = group.scheme.update_layout(4, 1.0, 2.0**-6)
    values = {member: np.linspace(-0.5, 0.5, 50) for member in group.members}
    opened, key = tagged_sum(group, layout, values)
    earlier, _ = tagged_sum(group, layout, values, round_index=2)
    count = layout.words(50) + tag_words(layout)
    sealer = group.sealers["member 0"]
    alone = group.seal("member 1", words_below(9, count), group.context(round_index=3)).payload
    honest = sealer.open(opened.payload, count=count, bits=layout.word_bits)
    assert len(check_tag(honest, layout=layout, key=key, parties=4)) == layout.words(50)
    for parties in (1, 2, 3, 5):
        with pytest.raises(ProtocolError, match="tag"):
            check_tag(honest, layout=layout, key=key, parties=parties)
    wrong = [earlier.payload, alone, b"", b"x", opened.payload[:-8], opened.payload + bytes(8)]
    for payload in wrong:
        with pytest.raises(ProtocolError):
            check_tag(
                sealer.open(payload, count=count, bits=layout.word_bits),
                layout=layout,
                key=key,
                parties=4,
            )
    refused = 0
    for place in range(0, len(opened.payload), max(1, len(opened.payload) // 60)):
        changed = bytearray(opened.payload)
        changed[place] ^= 1 << place % 8
        try:
            words = sealer.open(bytes(changed), count=count, bits=layout.word_bits)
            check_tag(words, layout=layout, key=key, parties=4)
        except ProtocolError:
            refused += 1
        else:  # only the noise of a ciphertext was changed
            assert group.scheme.encrypted
            assert words.tolist() == honest.tolist()
    assert refused > 20


def test_a_sum_short_of_one_member_does_not_open(name: str) -> None:
    """What a coordinator gets that adds up by itself, over others than were signed."""
    group = group_of(name)
    layout = wide(4)
    context = group.context()
    key = tag_key(group.keys["member 0"].tag_secret, context.digest())
    sealed = []
    for member in group.members:
        words = append_tag(layout.encode(np.ones(5), system_bytes), layout=layout, key=key)
        sealed.append(group.seal(member, words, context, bits=layout.word_bits))
    adder = group.scheme.adder(group.keys["member 0"].carrier.public, 4)
    for vector in sealed[:3]:
        adder.add(vector.payload)
    count = layout.words(5) + tag_words(layout)
    found = group.opened(adder.payload(), count=count, bits=layout.word_bits)
    with pytest.raises(ProtocolError, match="tag"):
        check_tag(found, layout=layout, key=key, parties=4)
    if group.scheme.masked:
        with pytest.raises(ProtocolError, match="tag"):
            check_tag(found, layout=layout, key=key, parties=3)
    else:  # without masks nothing but the votes says who the three are
        body = check_tag(found, layout=layout, key=key, parties=3)
        assert layout.decode_sum(body, 5, 3).tolist() == [3.0] * 5


# --- what is written down ---


def test_a_vector_survives_the_wire(name: str) -> None:
    group = group_of(name)
    for vector in sealed_by_all(group, group.context()).values():
        again = SealedVector.from_wire(vector.header(), vector.payload)
        assert again == vector
        assert again.header() == vector.header()


def test_printing_and_pickling_show_no_secret(name: str) -> None:
    group = group_of(name)
    context = group.context()
    gathering = group.gathering(context)
    sealed = sealed_by_all(group, context)
    for vector in list(sealed.values())[:3]:
        gathering.take(vector)
    finished(group, gathering)
    sealer, key = group.sealers["member 0"], group.keys["member 0"]
    told = [released(group, gathering, "member 0")] if group.scheme.masked else []
    pending = sealer._pending
    assert pending is not None
    assert pending.vote is not None
    secrets = [key.tag_secret, sealed["member 0"].payload, *sealed["member 0"].boxes.values()]
    secrets += [key.carrier.secret, pending.own_share]
    secrets += [seed for release in told for seed in release.seeds.values()]
    assert len(told) == sum(len(release.seeds) for release in told)
    secrets += pending.answer.shares.values() if pending.answer else []
    shown = [sealer, key, key.carrier, pending, pending.vote, pending.answer, sealed["member 0"]]
    shown += told
    text = " ".join(repr(thing) for thing in shown)
    assert repr(sealer) == f"Sealer(member='member 0', scheme='{name}')"
    for secret in secrets:
        part = secret[len(secret) // 2 :][:12]
        assert not part or repr(part)[2:-1] not in text
        assert not part or part.hex() not in text
    for kept in (sealer, key, key.carrier, group.exchange["member 0"]):
        with pytest.raises(TypeError):
            pickle.dumps(kept)
