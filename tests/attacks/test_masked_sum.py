"""What a dishonest coordinator, alone or with a member, tries against the masked sum."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

from privacy.errors import CohortError, ProtocolError
from privacy.fixed_point import narrow
from privacy.identity import Identity
from privacy.keystream import Words, keystream_words, shift_by_keystream
from privacy.randomness import system_bytes
from privacy.secure_sum import SealedVector, SumContext
from privacy.secure_sum.clear import ClearSealer
from privacy.secure_sum.keys import ExchangeKey, KeyOffer, Roster, admit, offer_key
from privacy.secure_sum.masked import MaskedOpener, MaskedSealer, _mask_key, _pair_secret

RUN = b"run-1"
NAMES = ("bank", "insurer", "maker", "mill")
LAYOUT = narrow(len(NAMES), clip=1.0)
LENGTH = 900
SCHEMA = LAYOUT.schema(LENGTH)


@dataclass(frozen=True)
class Federation:
    identities: Mapping[str, Identity]
    directory: Mapping[str, bytes]
    keys: Mapping[str, ExchangeKey]
    offers: Mapping[str, KeyOffer]
    roster: Roster
    sealers: Mapping[str, MaskedSealer]


def federation() -> Federation:
    identities = {name: Identity.create(system_bytes) for name in NAMES}
    directory = {name: identity.public for name, identity in identities.items()}
    made = {
        name: offer_key(identity, name, run=RUN, directory=directory, entropy=system_bytes)
        for name, identity in identities.items()
    }
    keys = {name: key for name, (key, _) in made.items()}
    offers = {name: offer for name, (_, offer) in made.items()}
    roster = admit(offers.values(), run=RUN, directory=directory, minimum=3)
    sealers = {name: MaskedSealer(name, identities[name], keys[name], roster) for name in NAMES}
    return Federation(identities, directory, keys, offers, roster, sealers)


def context_of(roster: Roster, *, round_index: int = 1, model: bytes = b"m" * 32) -> SumContext:
    return SumContext(roster.run, "update", round_index, SCHEMA, model, roster.digest)


def updates() -> dict[str, Words]:
    return {
        name: LAYOUT.encode(np.full(LENGTH, 0.1 * index), system_bytes)
        for index, name in enumerate(NAMES)
    }


def words_of(sealed: SealedVector) -> Words:
    return np.frombuffer(sealed.payload, "<u8").astype(np.uint64)


def added(sealed: Iterable[SealedVector]) -> Words:
    """What a coordinator computes that checks nothing."""
    return sum((words_of(vector) for vector in sealed), np.zeros(LENGTH // 3, np.uint64))


def assert_garbage(words: Words, parties: int = len(NAMES)) -> None:
    with pytest.raises(ProtocolError, match="range"):
        LAYOUT.decode_sum(words, LENGTH, parties)
    assert 0.4 < np.unpackbits(words.view(np.uint8)).mean() < 0.6


def test_without_an_attack_the_same_steps_give_the_sum() -> None:
    group = federation()
    context, vectors = context_of(group.roster), updates()
    sealed = [group.sealers[name].seal(vectors[name], context=context) for name in NAMES]
    np.testing.assert_array_equal(
        added(sealed), MaskedOpener(group.roster).open_sum(sealed, context=context)
    )
    total = LAYOUT.decode_sum(added(sealed), LENGTH, len(NAMES))
    assert np.abs(total - 0.6).max() <= LAYOUT.worst_error(len(NAMES))


def test_one_sealed_vector_says_nothing() -> None:
    group = federation()
    for name in NAMES:
        vector = group.sealers[name].seal(updates()[name], context=context_of(group.roster))
        assert_garbage(words_of(vector), parties=1)


def test_a_vector_replayed_into_another_round_is_refused() -> None:
    group = federation()
    first, second = context_of(group.roster), context_of(group.roster, round_index=2)
    vectors = updates()
    old = group.sealers["bank"].seal(vectors["bank"], context=first)
    new = [group.sealers[n].seal(vectors[n], context=second) for n in NAMES if n != "bank"]
    opener = MaskedOpener(group.roster)
    with pytest.raises(ProtocolError, match="bank sealed its vector for another sum"):
        opener.open_sum([old, *new], context=second)
    relabelled = replace(old, context=second.digest())
    with pytest.raises(ProtocolError, match="bank is not signed"):
        opener.open_sum([relabelled, *new], context=second)
    assert_garbage(added([old, *new]))  # and unchecked it is of no use


def test_a_substituted_exchange_key_is_refused_by_every_member() -> None:
    group = federation()
    # The coordinator puts itself in the middle: its own key under a member's name.
    spy = Identity.create(system_bytes)
    _, own = offer_key(
        spy,
        "bank",
        run=RUN,
        directory={**group.directory, "bank": spy.public},
        entropy=system_bytes,
    )
    honest = [offer for name, offer in group.offers.items() if name != "bank"]
    for planted in (own, replace(group.offers["bank"], exchange=own.exchange)):
        with pytest.raises(ProtocolError, match="bank is not signed"):
            admit([planted, *honest], run=RUN, directory=group.directory, minimum=3)


def test_an_offer_of_an_earlier_run_is_refused() -> None:
    group = federation()
    with pytest.raises(ProtocolError, match="not signed"):
        admit(group.offers.values(), run=b"run-2", directory=group.directory, minimum=3)


def test_a_roster_with_another_key_of_ones_own_is_refused() -> None:
    group = federation()
    key, _ = offer_key(
        group.identities["bank"], "bank", run=RUN, directory=group.directory, entropy=system_bytes
    )
    with pytest.raises(ProtocolError, match="another exchange key for bank"):
        MaskedSealer("bank", group.identities["bank"], key, group.roster)


def test_no_mask_hides_two_vectors() -> None:
    group = federation()
    context, vectors = context_of(group.roster), updates()
    group.sealers["mill"].seal(vectors["mill"], context=context)
    other = LAYOUT.encode(np.zeros(LENGTH), system_bytes)
    with pytest.raises(ProtocolError, match="already sealed"):
        group.sealers["mill"].seal(other, context=context)
    # A sealer that was made again does not forget: the memory belongs to the key.
    again = MaskedSealer("mill", group.identities["mill"], group.keys["mill"], group.roster)
    with pytest.raises(ProtocolError, match="already sealed"):
        again.seal(other, context=context)
    # The words are those of the first call, so they may be sent again.
    again.seal(vectors["mill"], context=context)


def test_a_repeated_mask_would_show_the_difference() -> None:
    group = federation()
    context, vectors = context_of(group.roster), updates()
    first = group.sealers["mill"].seal(vectors["mill"], context=context)
    group.keys["mill"]._sealed.clear()  # the defence taken away
    other = vectors["bank"]
    second = group.sealers["mill"].seal(other, context=context)
    np.testing.assert_array_equal(words_of(first) - words_of(second), vectors["mill"] - other)


@pytest.mark.parametrize("minimum", [0, 1, 2, 3])
def test_a_member_is_never_alone_in_a_roster(minimum: int) -> None:
    group = federation()
    with pytest.raises(CohortError, match="1 members offered"):
        admit([group.offers["bank"]], run=RUN, directory=group.directory, minimum=minimum)
    # Nor if somebody made the roster without admitting anyone.
    alone = Roster(RUN, group.directory, (group.offers["bank"],))
    key, _ = offer_key(
        group.identities["bank"], "bank", run=RUN, directory=group.directory, entropy=system_bytes
    )
    for own in (group.keys["bank"], key):
        with pytest.raises(CohortError, match="one member"):
            MaskedSealer("bank", group.identities["bank"], own, alone)


def test_members_that_were_shown_different_keys_of_one_member_cancel_nothing() -> None:
    group = federation()
    # The mill restarted and offered anew; the coordinator shows the bank its old offer.
    mill, anew = offer_key(
        group.identities["mill"], "mill", run=RUN, directory=group.directory, entropy=system_bytes
    )
    offers = {**group.offers, "mill": anew}
    fresh = admit(offers.values(), run=RUN, directory=group.directory, minimum=3)
    keys = {**group.keys, "mill": mill}
    for key in keys.values():
        key._roster.clear()
    vectors = updates()
    sealed = []
    for name in NAMES:
        roster = group.roster if name == "bank" else fresh
        sealer = MaskedSealer(name, group.identities[name], keys[name], roster)
        sealed.append(sealer.seal(vectors[name], context=context_of(roster)))
    with pytest.raises(ProtocolError, match="bank sealed its vector for another sum"):
        MaskedOpener(fresh).open_sum(sealed, context=context_of(fresh))
    assert_garbage(added(sealed))


def test_a_key_does_not_serve_a_second_roster_without_one_member() -> None:
    group = federation()
    part = admit(
        [offer for name, offer in group.offers.items() if name != "mill"],
        run=RUN,
        directory=group.directory,
        minimum=3,
    )
    with pytest.raises(ProtocolError, match="serves one roster"):
        MaskedSealer("bank", group.identities["bank"], group.keys["bank"], part)
    with pytest.raises(ProtocolError, match="another roster"):
        group.sealers["bank"].seal(updates()["bank"], context=context_of(part))


def test_members_that_hold_different_rosters_cancel_nothing() -> None:
    group = federation()
    part = admit(
        [offer for name, offer in group.offers.items() if name != "mill"],
        run=RUN,
        directory=group.directory,
        minimum=3,
    )
    for key in group.keys.values():
        key._roster.clear()
    vectors = updates()
    sealed = []
    for name in ("bank", "insurer", "maker"):
        roster = group.roster if name == "bank" else part
        sealer = MaskedSealer(name, group.identities[name], group.keys[name], roster)
        sealed.append(sealer.seal(vectors[name], context=context_of(roster)))
    with pytest.raises(ProtocolError, match="another sum"):
        MaskedOpener(part).open_sum(sealed, context=context_of(part))
    assert_garbage(added(sealed))


def test_members_that_were_given_different_models_cancel_nothing() -> None:
    group = federation()
    vectors = updates()
    honest, marked = context_of(group.roster), context_of(group.roster, model=b"x" * 32)
    sealed = [
        group.sealers[name].seal(vectors[name], context=marked if name == "bank" else honest)
        for name in NAMES
    ]
    with pytest.raises(ProtocolError, match="bank sealed its vector for another sum"):
        MaskedOpener(group.roster).open_sum(sealed, context=honest)
    assert_garbage(added(sealed))


def test_swapped_payloads_are_refused() -> None:
    group = federation()
    context, vectors = context_of(group.roster), updates()
    bank, insurer, *rest = (group.sealers[n].seal(vectors[n], context=context) for n in NAMES)
    swapped = [
        replace(bank, payload=insurer.payload),
        replace(insurer, payload=bank.payload),
        *rest,
    ]
    with pytest.raises(ProtocolError, match="bank is not signed"):
        MaskedOpener(group.roster).open_sum(swapped, context=context)


@pytest.mark.parametrize("dropped", NAMES)
def test_the_sum_without_one_member_cannot_be_opened(dropped: str) -> None:
    group = federation()
    context, vectors = context_of(group.roster), updates()
    sealed = [
        group.sealers[name].seal(vectors[name], context=context)
        for name in NAMES
        if name != dropped
    ]
    with pytest.raises(CohortError, match=dropped):
        MaskedOpener(group.roster).open_sum(sealed, context=context)
    assert_garbage(added(sealed))


def test_a_coordinator_with_all_but_two_members_learns_the_sum_of_those_two_only() -> None:
    group = federation()
    context, vectors = context_of(group.roster), updates()
    sealed = {name: group.sealers[name].seal(vectors[name], context=context) for name in NAMES}
    stripped = {}
    for name in ("bank", "mill"):
        words = words_of(sealed[name])
        for spy in ("insurer", "maker"):
            secret = _pair_secret(
                group.keys[spy], group.offers[name].exchange, spy, name, group.roster
            )
            shift_by_keystream(words, _mask_key(secret, context.digest()), subtract=name < spy)
        stripped[name] = words
    assert_garbage(stripped["bank"], parties=1)
    assert_garbage(stripped["mill"], parties=1)
    np.testing.assert_array_equal(
        stripped["bank"] + stripped["mill"], vectors["bank"] + vectors["mill"]
    )


def test_a_vector_in_the_clear_is_never_taken_for_a_masked_one() -> None:
    group = federation()
    context, vectors = context_of(group.roster), updates()
    clear = [
        ClearSealer(name, group.identities[name], group.roster).seal(vectors[name], context=context)
        for name in NAMES
    ]
    with pytest.raises(ProtocolError, match="not signed"):
        MaskedOpener(group.roster).open_sum(clear, context=context)


def test_masks_of_two_rounds_have_nothing_in_common() -> None:
    group = federation()
    zeros = np.zeros(LENGTH // 3, np.uint64)
    first = group.sealers["bank"].seal(zeros, context=context_of(group.roster))
    second = group.sealers["bank"].seal(zeros, context=context_of(group.roster, round_index=2))
    assert_garbage(words_of(first) - words_of(second), parties=1)


def test_a_member_that_sends_what_it_likes_cannot_pass_the_range_check_unseen() -> None:
    group = federation()
    context, vectors = context_of(group.roster), updates()
    vectors["mill"] = keystream_words(system_bytes(32), LENGTH // 3)
    sealed = [group.sealers[name].seal(vectors[name], context=context) for name in NAMES]
    assert_garbage(MaskedOpener(group.roster).open_sum(sealed, context=context))


def test_a_pair_secret_serves_one_pair_one_run_and_one_roster() -> None:
    group = federation()
    key, other = group.keys["bank"], group.offers["mill"].exchange
    part = replace(group.roster, offers=group.roster.offers[:3])
    later = replace(group.roster, run=b"run-2")
    secrets = {
        _pair_secret(key, other, member, peer, roster)
        for member, peer in (("bank", "mill"), ("bank", "maker"))
        for roster in (group.roster, part, later)
    }
    assert len(secrets) == 6
    # The salt alone tells runs apart as well, should a roster ever not.
    later.__dict__["digest"] = group.roster.digest
    own = _pair_secret(key, other, "bank", "mill", group.roster)
    assert _pair_secret(key, other, "bank", "mill", later) != own
    mirrored = _pair_secret(
        group.keys["mill"], group.offers["bank"].exchange, "mill", "bank", group.roster
    )
    assert mirrored == own
