"""Where agreement alone does not hold, a pair's secret needs the group's and the pair's own.

And what a sealer says in a run of another suite than `intl` is by that suite.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pytest
from support.suites import skip_without, voice_in

from privacy.canonical import framed
from privacy.errors import ProtocolError
from privacy.identity import Identity
from privacy.randomness import system_bytes
from privacy.secure_sum.carrier import Wrap
from privacy.secure_sum.cohort import Cohort
from privacy.secure_sum.group_key import make_group_key, maker_of, open_group_key
from privacy.secure_sum.keys import ExchangeKey, Roster, admit, offer_key
from privacy.secure_sum.pair_keys import (
    _info,
    _message,
    neighbours_of,
    open_pairs,
    seal_pairs,
)
from privacy.secure_sum.schemes import SCHEMES
from privacy.secure_sum.sealer import Sealer, pair_secret
from privacy.suites import SUITES
from privacy.suites.voice import Voice
from privacy.sum_context import SumContext

NAMES = ("ash", "birch", "coal")
SHARED = bytes(range(32))


@dataclass
class Group:
    roster: Roster
    voices: dict[str, Voice]
    keys: dict[str, ExchangeKey]
    sent: dict[str, dict[str, bytes]]

    def sealer(
        self,
        member: str,
        *,
        shared: bytes = SHARED,
        sent: dict[str, bytes] | None = None,
        wrap: Wrap | None = None,
        masked: bool = True,
    ) -> Sealer:
        return Sealer(
            member,
            self.voices[member],
            self.keys[member],
            self.roster,
            scheme="masked",
            wrap=wrap or SCHEMES["masked"].create(3).wrap,
            masked=masked,
            entropy=system_bytes,
            shared=shared,
            pair_keys=self.sent[member] if sent is None else sent,
        )


@pytest.fixture(scope="module")
def trio() -> Group:
    return group_of("hybrid", NAMES)


def group_of(of: str, names: tuple[str, ...]) -> Group:
    suite = SUITES[of]
    voices = {name: voice_in(of, Identity.create(system_bytes)) for name in names}
    directory = {name: one.public for name, one in voices.items()}
    made = {
        name: offer_key(
            voice, name, run=b"one", directory=directory, entropy=system_bytes, suite=suite
        )
        for name, voice in voices.items()
    }
    offers = [offer for _, offer in made.values()]
    roster = admit(offers, run=b"one", directory=directory, minimum=3, suite=suite)
    keys = {name: key for name, (key, _) in made.items()}
    others = {name: frozenset(names) - {name} for name in names}
    made_by = {
        name: seal_pairs(name, voices[name], roster, others[name], system_bytes) for name in names
    }
    sent = {}
    for name in names:
        given = {peer: made_by[peer][1][name] for peer in names if name in made_by[peer][1]}
        opened = open_pairs(name, keys[name], roster, others[name], given)
        sent[name] = {**made_by[name][0], **opened}
    return Group(roster, voices, keys, sent)


@pytest.mark.parametrize("member", NAMES)
def test_both_ends_of_a_pair_derive_one_secret_of_all_three_parts(trio: Group, member: str) -> None:
    for peer in sorted(set(NAMES) - {member}):
        known = (trio.keys[member], member, peer, trio.roster)
        both = trio.sent[member][peer]
        held = trio.sealer(member)._pair(peer)
        assert held == pair_secret(*known, shared=SHARED, sent=both)
        assert held == trio.sealer(peer)._pair(member)
        others = {
            pair_secret(*known),
            pair_secret(*known, shared=SHARED),
            pair_secret(*known, shared=SHARED, sent=bytes(32)),
            pair_secret(*known, shared=bytes(32), sent=both),
        }
        assert len(others | {held}) == 5


@pytest.mark.parametrize("secret", [None, b"", bytes(31), bytes(33)])
def test_without_what_a_pair_sent_each_other_nothing_is_masked(
    trio: Group, secret: bytes | None
) -> None:
    kept = {} if secret is None else {"birch": secret}
    with pytest.raises(ProtocolError, match="ash and birch sent each other no secret"):
        trio.sealer("ash", sent={**kept, "coal": bytes(32)})._pair("birch")


def test_a_member_knows_before_a_sum_whether_it_shares_a_secret_with_each_neighbour(
    trio: Group,
) -> None:
    two, all_three = (Cohort(trio.roster, names, minimum=2) for names in (NAMES[:2], NAMES))
    sent = trio.sent["ash"]
    trio.sealer("ash").require_pairs(all_three)
    partly = trio.sealer("ash", sent={"birch": sent["birch"]})
    partly.require_pairs(two)
    with pytest.raises(ProtocolError, match="ash and coal sent each other no secret"):
        partly.require_pairs(all_three)
    # who masks nothing needs none
    trio.sealer("ash", sent={}, masked=False).require_pairs(all_three)


@pytest.mark.parametrize("shared", [b"", bytes(31), bytes(33)])
def test_without_the_groups_key_there_is_no_sealer(trio: Group, shared: bytes) -> None:
    with pytest.raises(ProtocolError, match="needs the run's group key"):
        trio.sealer("ash", shared=shared)


def test_masks_of_pairs_cancel_in_the_sum_and_only_there(trio: Group) -> None:
    cohort = Cohort(trio.roster, NAMES, minimum=3)
    context = bytes(range(32))
    words = {name: np.arange(5, dtype=np.uint64) + np.uint64(at) for at, name in enumerate(NAMES)}
    masked = {}
    for name in NAMES:
        sealer, peers = trio.sealer(name), cohort.peers(name)
        masked[name] = sealer._masked_numbers(words[name].copy(), context, peers, bytes(32))
        assert (masked[name] != words[name]).all()
    # Each member's own mask has the same key here: three times it is left.
    own = trio.sealer("ash")._wrap.shift(np.zeros(5, np.uint64), added=[bytes(32)], subtracted=[])
    total = sum(masked.values(), np.zeros(5, np.uint64)) - np.uint64(3) * own
    np.testing.assert_array_equal(total, sum(words.values(), np.zeros(5, np.uint64)))


@pytest.mark.parametrize("bits", [20, 64])
def test_a_sum_of_encrypted_words_is_opened_as_wide_as_it_was_sealed(
    trio: Group, bits: int
) -> None:
    key = SCHEMES["sealed"].create(3)
    words = np.array([1, (1 << bits) - 1, 7], np.uint64)
    adder = SCHEMES["sealed"].adder(key.public, 3)
    adder.add(key.wrap.close(key.wrap.prepare(words, bits=bits)))
    opened = trio.sealer("ash", wrap=key.wrap).open(adder.payload(), count=3, bits=bits)
    assert opened.tolist() == words.tolist()


def test_what_seals_and_signs_a_pairs_secret_is_of_run_roster_and_both_names(trio: Group) -> None:
    info = framed(b"tacit/pair-key/v1", b"one", trio.roster.digest, b"ash", b"birch")
    assert _info(trio.roster, "ash", "birch") == info
    signed = framed(info, hashlib.sha256(b"sealed").digest())
    assert _message(trio.roster, "ash", "birch", b"sealed") == signed


def test_neighbours_are_those_of_a_members_own_cohorts(trio: Group) -> None:
    two = [Cohort(trio.roster, pair, minimum=2) for pair in (("ash", "birch"), ("birch", "coal"))]
    assert neighbours_of("ash", two) == {"birch"}
    assert neighbours_of("birch", two) == {"ash", "coal"}
    assert neighbours_of("coal", two[:1]) == frozenset()


@pytest.mark.parametrize("suite", ["gm", "hybrid"])
def test_a_runs_key_is_sealed_by_the_runs_own_suite(suite: str) -> None:
    skip_without(suite)
    group = group_of(suite, NAMES)
    maker = maker_of(group.roster)
    key, envelopes = make_group_key(
        maker, group.voices[maker], group.roster, SCHEMES["masked"], system_bytes
    )
    assert set(envelopes) == set(NAMES) - {maker}
    for name, envelope in envelopes.items():
        own = group.keys[name]
        opened = open_group_key(name, own, group.roster, SCHEMES["masked"], envelope)
        assert (opened.tag_secret, opened.fingerprint) == (key.tag_secret, key.fingerprint)


def test_masks_and_votes_of_a_gm_run_are_by_its_own_algorithms() -> None:
    skip_without("gm")
    group = group_of("gm", (*NAMES, "dune"))
    cohort = Cohort(group.roster, group.roster.members, minimum=3)
    context = SumContext(
        run=b"one", step="update", round=1, schema=bytes(32), model=bytes(32), history=bytes(32),
        roster=group.roster.digest, cohort=cohort.digest, keys=bytes(32),
    )  # fmt: skip
    digest, words = context.digest(), np.arange(5, dtype=np.uint64)
    sealers = {name: group.sealer(name) for name in group.roster.members}
    for one in sealers.values():
        one.seal(words, bits=60, context=context, cohort=cohort)
    birch, seed = sealers["birch"], bytes(range(32))
    keys = {
        peer: SUITES["gm"].mac(birch._pair(peer), framed(b"mask", digest))
        for peer in ("ash", "coal", "dune")
    }
    for peer in keys:  # agreement holds alone there, so the group's key is no part of it
        known = (group.keys["birch"], "birch", peer, group.roster)
        assert birch._pair(peer) == pair_secret(*known)
    # The one whose name comes first adds.
    masks = {"added": [seed, keys["coal"], keys["dune"]], "subtracted": [keys["ash"]]}
    masked = birch._masked_numbers(words.copy(), digest, cohort.peers("birch"), seed)
    np.testing.assert_array_equal(masked, birch._wrap.shift(words.copy(), **masks))
    votes = [sealers[name].vote(digest, NAMES) for name in NAMES]
    assert birch.vote(digest, NAMES) == votes[1]  # SM2 would sign it otherwise a second time
    assert birch.release(digest, NAMES, votes).seeds == {"dune": keys["dune"]}
