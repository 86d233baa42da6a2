"""What every implementation of the seam promises, run over each of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pytest

from privacy.errors import CohortError, ProtocolError
from privacy.fixed_point import narrow, wide
from privacy.identity import Identity
from privacy.keystream import keystream_words
from privacy.randomness import system_bytes
from privacy.secure_sum import Opener, SealedVector, Sealer, SumContext, UnmaskAnswer, Words
from privacy.secure_sum.clear import ClearOpener, ClearSealer
from privacy.secure_sum.keys import ExchangeKey, Roster, admit, offer_key
from privacy.secure_sum.masked import MaskedOpener, MaskedSealer

MakeSealer: TypeAlias = Callable[[str, Identity, ExchangeKey, Roster], Sealer]
MakeOpener: TypeAlias = Callable[[Roster], Opener]
Pair: TypeAlias = tuple[MakeSealer, MakeOpener]

IMPLEMENTATIONS: Mapping[str, Pair] = {
    "masked": (MaskedSealer, MaskedOpener),
    "clear": (
        lambda member, identity, _, roster: ClearSealer(member, identity, roster),
        ClearOpener,
    ),
}


@dataclass(frozen=True)
class Cohort:
    identities: Mapping[str, Identity]
    keys: Mapping[str, ExchangeKey]
    roster: Roster
    sealers: Mapping[str, Sealer]
    opener: Opener

    def context(self, *, round_index: int = 1, step: str = "update") -> SumContext:
        return SumContext(
            self.roster.run, step, round_index, b"s" * 32, b"m" * 32, self.roster.digest
        )


def cohort(
    pair: Pair, *, size: int = 4, run: bytes = b"run-1", known: Mapping[str, Identity] | None = None
) -> Cohort:
    names = [f"member {index}" for index in range(size)]
    identities = dict(known or {name: Identity.create(system_bytes) for name in names})
    directory = {name: identity.public for name, identity in identities.items()}
    made = {
        name: offer_key(identity, name, run=run, directory=directory, entropy=system_bytes)
        for name, identity in identities.items()
    }
    keys = {name: key for name, (key, _) in made.items()}
    roster = admit((offer for _, offer in made.values()), run=run, directory=directory, minimum=2)
    make_sealer, make_opener = pair
    sealers = {
        name: make_sealer(name, identity, keys[name], roster)
        for name, identity in identities.items()
    }
    return Cohort(identities, keys, roster, sealers, make_opener(roster))


@pytest.fixture(name="pair", params=IMPLEMENTATIONS)
def _pair(request: pytest.FixtureRequest) -> Pair:
    return IMPLEMENTATIONS[str(request.param)]


def random_words(count: int) -> Words:
    return keystream_words(system_bytes(32), count)


def sealed_by_all(group: Cohort, context: SumContext, count: int = 5) -> dict[str, SealedVector]:
    return {
        name: sealer.seal(random_words(count), context=context)
        for name, sealer in group.sealers.items()
    }


@pytest.mark.parametrize("size", [2, 3, 7])
@pytest.mark.parametrize("count", [1, 5, 40_000])
def test_the_sum_is_that_of_the_integers(pair: Pair, size: int, count: int) -> None:
    group = cohort(pair, size=size)
    vectors = {name: random_words(count) for name in group.sealers}
    before = {name: words.copy() for name, words in vectors.items()}
    context = group.context()
    sealed = [group.sealers[name].seal(words, context=context) for name, words in vectors.items()]
    opened = group.opener.open_sum(sealed, context=context)
    assert opened.dtype == np.uint64
    np.testing.assert_array_equal(opened, sum(vectors.values(), np.zeros(count, np.uint64)))
    for name, words in vectors.items():
        np.testing.assert_array_equal(words, before[name])  # sealing changes no argument


def test_real_vectors_come_back_over_the_wire(pair: Pair) -> None:
    group = cohort(pair, size=5)
    values = [np.linspace(-0.2, 0.2, 1000) * index for index in range(5)]
    for round_index, layout in enumerate((narrow(5, clip=1.0), wide(5))):
        context = replace(group.context(round_index=round_index), schema=layout.schema(1000))
        sealed = []
        for sealer, vector in zip(group.sealers.values(), values, strict=True):
            sent = sealer.seal(layout.encode(vector, system_bytes), context=context)
            sealed.append(SealedVector.from_wire(sent.header(), sent.payload))
        opened = layout.decode_sum(group.opener.open_sum(sealed, context=context), 1000, 5)
        assert np.abs(opened - sum(values)).max() <= layout.worst_error(5)


def test_the_order_of_arrival_does_not_matter(pair: Pair) -> None:
    group = cohort(pair)
    context = group.context()
    sealed = list(sealed_by_all(group, context).values())
    there = group.opener.open_sum(sealed, context=context)
    back = group.opener.open_sum(iter(sealed[::-1]), context=context)
    np.testing.assert_array_equal(there, back)


def test_a_missing_member_is_named(pair: Pair) -> None:
    group = cohort(pair)
    context = group.context()
    sealed = sealed_by_all(group, context)
    for name in sealed:
        rest = [vector for sender, vector in sealed.items() if sender != name]
        with pytest.raises(CohortError, match=name):
            group.opener.open_sum(rest, context=context)
    with pytest.raises(CohortError, match="member 0, member 1, member 2, member 3"):
        group.opener.open_sum([], context=context)


def test_a_member_counts_once(pair: Pair) -> None:
    group = cohort(pair)
    context = group.context()
    sealed = list(sealed_by_all(group, context).values())
    with pytest.raises(ProtocolError, match="member 0 sent two"):
        group.opener.open_sum([*sealed, sealed[0]], context=context)
    with pytest.raises(ProtocolError, match="member 0 sent two"):
        group.opener.open_sum([sealed[0], sealed[0], *sealed[2:]], context=context)


def test_an_unknown_member_is_refused(pair: Pair) -> None:
    group, other = cohort(pair), cohort(pair, size=5)
    context = group.context()
    sealed = list(sealed_by_all(group, context).values())
    stranger = other.sealers["member 4"].seal(random_words(5), context=other.context())
    with pytest.raises(ProtocolError, match="not in the roster"):
        group.opener.open_sum([*sealed, stranger], context=context)


@pytest.mark.parametrize("part", ["payload", "signature", "sender", "context"])
def test_a_forged_vector_is_refused(pair: Pair, part: str) -> None:
    group = cohort(pair)
    context = group.context()
    sealed = list(sealed_by_all(group, context).values())
    vector = sealed[0]
    forged = {
        "payload": replace(vector, payload=vector.payload[:-1] + b"?"),
        "signature": replace(vector, signature=sealed[1].signature),
        "sender": replace(vector, sender="member 1"),
        "context": replace(vector, context=bytes(32)),
    }[part]
    with pytest.raises(ProtocolError, match=f"{forged.sender}") as caught:
        group.opener.open_sum([forged, *sealed[1:]], context=context)
    assert not isinstance(caught.value, CohortError)


@pytest.mark.parametrize("payload", [b"", b"1234567", b"123456789"])
def test_bytes_that_are_no_words_are_refused(pair: Pair, payload: bytes) -> None:
    group = cohort(pair)
    context = group.context()
    sealed = list(sealed_by_all(group, context).values())
    for place in range(len(sealed)):
        wrong = list(sealed)
        wrong[place] = replace(sealed[place], payload=payload)
        with pytest.raises(ProtocolError, match=f"payload of member {place}"):
            group.opener.open_sum(wrong, context=context)


def test_another_length_is_refused(pair: Pair) -> None:
    group = cohort(pair)
    context = group.context()
    sealed = [
        sealer.seal(random_words(5 if name != "member 2" else 6), context=context)
        for name, sealer in group.sealers.items()
    ]
    with pytest.raises(ProtocolError, match="member 2 has another length"):
        group.opener.open_sum(sealed, context=context)


def test_vectors_of_another_sum_are_refused(pair: Pair) -> None:
    group = cohort(pair)
    first = group.context()
    sealed = sealed_by_all(group, first)
    for other in (
        replace(first, round=2),
        replace(first, step="evaluate"),
        replace(first, schema=b"t" * 32),
        replace(first, model=b"n" * 32),
    ):
        with pytest.raises(ProtocolError, match="another sum"):
            group.opener.open_sum(sealed.values(), context=other)


def test_contexts_of_another_run_or_roster_are_refused(pair: Pair) -> None:
    group = cohort(pair)
    context = group.context()
    sealed = sealed_by_all(group, context)
    for other, sentence in (
        (replace(context, run=b"run-2"), "another run"),
        (replace(context, roster=bytes(32)), "another roster"),
    ):
        with pytest.raises(ProtocolError, match=sentence):
            group.sealers["member 0"].seal(random_words(5), context=other)
        with pytest.raises(ProtocolError, match=sentence):
            group.opener.open_sum(sealed.values(), context=other)


def test_vectors_of_another_run_of_the_same_members_are_refused(pair: Pair) -> None:
    group = cohort(pair)
    later = cohort(pair, run=b"run-2", known=group.identities)
    old = sealed_by_all(group, group.context())
    new = sealed_by_all(later, later.context())
    mixed = [old["member 0"], *(new[name] for name in new if name != "member 0")]
    with pytest.raises(ProtocolError, match="member 0 sealed its vector for another sum"):
        later.opener.open_sum(mixed, context=later.context())


def test_a_lost_reply_is_repeated_and_another_vector_is_not(pair: Pair) -> None:
    group = cohort(pair)
    sealer, context = group.sealers["member 0"], group.context()
    words = random_words(5)
    once = sealer.seal(words, context=context)
    assert sealer.seal(words.copy(), context=context) == once
    words[3] += np.uint64(1)
    with pytest.raises(ProtocolError, match="already sealed"):
        sealer.seal(words, context=context)
    sealer.seal(words, context=group.context(round_index=2))


@pytest.mark.parametrize(
    "words", [np.zeros(0, np.uint64), np.zeros((2, 2), np.uint64), np.zeros(2, np.int64)]
)
def test_only_words_are_sealed(pair: Pair, words: Words) -> None:
    group = cohort(pair)
    with pytest.raises(ValueError, match="uint64"):
        group.sealers["member 0"].seal(words, context=group.context())


def test_no_answers_are_taken(pair: Pair) -> None:
    group = cohort(pair)
    context = group.context()
    sealed = sealed_by_all(group, context)
    answer = UnmaskAnswer("member 0", context.digest(), {}, bytes(64))
    with pytest.raises(ProtocolError, match="answers"):
        group.opener.open_sum(sealed.values(), context=context, answers=[answer])


def test_a_sealer_needs_its_own_place_in_the_roster(pair: Pair) -> None:
    make_sealer, _ = pair
    group = cohort(pair)
    first, second = group.identities["member 0"], group.identities["member 1"]
    key = group.keys["member 0"]
    with pytest.raises(ProtocolError, match="not in this run's roster"):
        make_sealer("spy", first, key, group.roster)
    with pytest.raises(ProtocolError, match="another key"):
        make_sealer("member 0", second, key, group.roster)


def test_printing_shows_no_secret(pair: Pair) -> None:
    group = cohort(pair)
    assert repr(group.sealers["member 0"]).endswith("Sealer(member='member 0')")
