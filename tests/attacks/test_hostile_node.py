"""What a hostile member tries against the coordinator and the other members.

Where it alone is at fault, it is left out by name and the others' sum is what it would have been.
Where that cannot be, nothing is opened or used, and the sentence says why.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pytest
from support.direct import Direct
from support.sums import (
    Group,
    federation,
    group,
    in_words,
    looks_random,
    random_words,
    watched,
    words_of,
)

from clients.node import Node
from federation.ledger_recorder import LedgerRecorder
from privacy.errors import CohortError, NotVerifiedError, ProtocolError, RefusedError
from privacy.identity import Identity
from privacy.keystream import shift_by_keystream
from privacy.ledger.checkpoint import Checkpoint, cosign, open_checkpoint
from privacy.ledger.grammar import CONSENT_DOMAIN
from privacy.ledger.head import HEAD_DOMAIN, LedgerHead, head_message
from privacy.ledger.keys import cosigner_key
from privacy.ledger.store import head_of
from privacy.messages import (
    Accepted,
    Cosigned,
    InitialModel,
    Joined,
    KeyHeld,
    KeyMade,
    Parcel,
    Ready,
    Refused,
    Reply,
    Request,
    Revealed,
    RevealRequest,
    Sealed,
    StateNotice,
    SumNotice,
    SurvivorsNotice,
    TrainRequest,
    Voted,
    pack,
    unpack_reply,
)
from privacy.randomness import system_bytes
from privacy.secure_sum import Answer, Release, SealedVector
from privacy.secure_sum.gathering import Gathering
from privacy.secure_sum.keys import KeyOffer
from privacy.secure_sum.sealer import Sealer, seed_commitment
from privacy.secure_sum.statements import (
    ANSWER_DOMAIN,
    RELEASE_DOMAIN,
    SEALED_DOMAIN,
    sealed_message,
    share_commitment,
    told_message,
)
from privacy.secure_sum.tag import append_tag, tag_key
from privacy.sum_context import (
    ACCEPTED_DOMAIN,
    SURVIVORS_DOMAIN,
    SumContext,
    survivors_message,
)
from privacy.verify import Verdict, verify_bundle

# Of seven, five are needed: one may be hostile while another is away.
MEMBERS = ("bank", "east", "farm", "mill", "north", "south", "west")
HOSTILE = "mill"
OTHERS = tuple(name for name in MEMBERS if name != HOSTILE)
Loose: TypeAlias = Any  # a message of some kind, an array, or pytest's own
Words = tuple[Reply, bytes]
Change = Callable[[Loose, bytes, "Hostile"], Words]


@dataclass
class Hostile:
    """What a hostile member knows: itself, and what it sent before."""

    node: Node
    run: bytes
    sent: dict[type, list[Words]] = field(default_factory=dict)
    asked: int = 0

    @property
    def identity(self) -> Identity:
        return self.node._settings.identity

    def earlier(self, kind: type) -> Words:
        """Its last honest reply of that kind."""
        return self.sent[kind][-1]

    def resealed(self, reply: Sealed, sent: bytes, **changes: Loose) -> Words:
        """Its vector, changed and signed anew."""
        vector = replace(SealedVector.from_wire(reply.header, sent), **changes)
        message = sealed_message("masked", vector)
        signed = replace(vector, signature=self.identity.sign(SEALED_DOMAIN, message))
        return msgspec.structs.replace(reply, header=signed.header()), signed.payload

    def state(self) -> Checkpoint:
        """The coordinator's ledger as it was shown with the sum under way."""
        session = self.node._sessions[self.run]
        (record,) = session.records.values()
        return open_checkpoint(record.state.checkpoint, session.manifest.log)

    def cosigned(self, identity: Identity, state: Checkpoint | None = None) -> bytes:
        """A cosignature under that state, or another one, by its key, or another one."""
        return cosign(
            state or self.state(),
            key=cosigner_key(HOSTILE, identity.public),
            sign=identity.sign_note,
            time_s=int(time.time()),
        ).signature

    def told(self, reply: Loose, head: LedgerHead) -> Loose:
        """Its vector with another head of its own ledger, signed by it for this sum."""
        step = self.node._sessions[self.run].step
        assert step is not None
        message = head_message(step.contexts[0].digest(), head)
        return changed(
            reply,
            leaves=head.leaves,
            root=bytes.fromhex(head.root),
            signature=self.identity.sign(HEAD_DOMAIN, message),
        )

    def answer(self, reply: Revealed, shares: Mapping[str, bytes]) -> Words:
        """Its shares, changed and signed anew."""
        step = self.node._sessions[self.run].step
        assert step is not None
        message = told_message(step.contexts[0].digest(), MEMBERS, shares)
        signature = self.identity.sign(ANSWER_DOMAIN, message)
        return Revealed(member=reply.member, shares=dict(shares), signature=signature), b""


@dataclass(frozen=True)
class Deviation:
    """What the hostile member does instead of one honest reply.

    Attributes:
        instead_of: The kind of reply.
        make: Makes the hostile one.
        sentence: With which the coordinator leaves it out; "" where there is nothing to say.
        summed: Whether its vector is in the sum all the same.
    """

    instead_of: type
    make: Change
    sentence: str
    summed: bool


DEVIATIONS: dict[str, Deviation] = {}


def deviation(
    instead_of: type, sentence: str, *, summed: bool = False
) -> Callable[[Change], Change]:
    def kept(make: Change) -> Change:
        name = make.__name__.removeprefix("_").replace("_", " ")
        DEVIATIONS[name] = Deviation(instead_of, make, sentence, summed)
        return make

    return kept


def changed(reply: Loose, **fields: object) -> Loose:
    return msgspec.structs.replace(reply, **fields)


# -- vectors ----------------------------------------------------------------------------------

UNSIGNED_HEAD = "a signature for ledger-head does not verify"


@deviation(Sealed, "mill sent a vector in the name of bank")
def _a_vector_in_anothers_name(reply: Loose, payload: bytes, by: Hostile) -> Words:
    return by.resealed(reply, payload, sender="bank")


@deviation(Sealed, "The node of mill answered as bank")
def _an_answer_as_somebody_else(reply: Loose, payload: bytes, _: Hostile) -> Words:
    return changed(reply, member="bank"), payload


@deviation(Sealed, "mill sealed its vector for another sum")
def _a_vector_of_an_earlier_round(reply: Loose, _: bytes, by: Hostile) -> Words:
    old, words = by.earlier(Sealed)
    now = {name: getattr(reply, name) for name in ("leaves", "root", "signature", "witnessed")}
    return changed(old, **now), words


@deviation(Sealed, UNSIGNED_HEAD)
def _a_whole_earlier_answer(_: Loose, __: bytes, by: Hostile) -> Words:
    return by.earlier(Sealed)


@deviation(Sealed, r"mill had \d+ entries in its own ledger and now says \d+; it was set back")
def _its_own_ledger_as_it_was_before(reply: Loose, payload: bytes, by: Hostile) -> Words:
    old, _ = by.earlier(Sealed)
    assert isinstance(old, Sealed)
    return by.told(reply, LedgerHead(old.leaves, old.root.hex())), payload


@deviation(Sealed, r"mill had \d+ entries in its own ledger and now says 1; it was set back")
def _an_own_ledger_that_was_begun_anew(reply: Loose, payload: bytes, by: Hostile) -> Words:
    return by.told(reply, LedgerHead(1, reply.root.hex())), payload


@deviation(Sealed, UNSIGNED_HEAD)
def _a_head_that_it_did_not_sign(reply: Loose, payload: bytes, _: Hostile) -> Words:
    return changed(reply, signature=bytes(64)), payload


@deviation(Sealed, UNSIGNED_HEAD)
def _another_root_under_its_signature(reply: Loose, payload: bytes, _: Hostile) -> Words:
    return changed(reply, root=bytes(32)), payload


@deviation(Sealed, UNSIGNED_HEAD)
def _another_size_under_its_signature(reply: Loose, payload: bytes, _: Hostile) -> Words:
    return changed(reply, leaves=reply.leaves + 1), payload


@deviation(Sealed, UNSIGNED_HEAD)
def _a_head_that_it_signed_for_another_sum(reply: Loose, payload: bytes, by: Hostile) -> Words:
    message = head_message(b"c" * 32, LedgerHead(reply.leaves, reply.root.hex()))
    return changed(reply, signature=by.identity.sign(HEAD_DOMAIN, message)), payload


# What it then signs is what its own ledger really is, and that is not on record.
@deviation(
    Sealed, "mill refused: The coordinator's ledger says something else .* nodes", summed=True
)
def _another_root_of_its_own_ledger(reply: Loose, payload: bytes, by: Hostile) -> Words:
    return by.told(reply, LedgerHead(reply.leaves, "00" * 32)), payload


@deviation(
    Sealed, "mill refused: The coordinator's ledger says something else .* nodes", summed=True
)
def _a_larger_own_ledger_than_it_has(reply: Loose, payload: bytes, by: Hostile) -> Words:
    return by.told(reply, LedgerHead(reply.leaves + 1, reply.root.hex())), payload


@deviation(Sealed, "mill refused: The coordinator's ledger does not follow on", summed=True)
def _a_memory_of_more_than_there_is(reply: Loose, payload: bytes, _: Hostile) -> Words:
    return changed(reply, witnessed=2**53 - 1), payload


@deviation(Sealed, "", summed=True)  # its own cosignature says better
def _a_memory_of_less_than_it_saw(reply: Loose, payload: bytes, _: Hostile) -> Words:
    return changed(reply, witnessed=0), payload


@deviation(Sealed, "mill sealed its vector for another sum")
def _a_vector_signed_for_another_context(reply: Loose, payload: bytes, by: Hostile) -> Words:
    return by.resealed(reply, payload, context=b"c" * 32)


@deviation(Sealed, "the vector of mill is not signed by it for this sum")
def _an_earlier_vector_under_the_context_of_this_sum(
    reply: Loose, payload: bytes, by: Hostile
) -> Words:
    now = SealedVector.from_wire(reply.header, payload)
    old, words = by.earlier(Sealed)
    assert isinstance(old, Sealed)
    relabelled = replace(SealedVector.from_wire(old.header, words), context=now.context)
    return changed(reply, header=relabelled.header()), words


@deviation(Sealed, "the vector of mill is not signed by it for this sum")
def _a_payload_that_it_did_not_sign(reply: Loose, payload: bytes, _: Hostile) -> Words:
    return reply, random_words(len(payload) // 8).tobytes()


@deviation(Sealed, r"mill sent 0 bytes where others sent \d+")
def _an_empty_payload(reply: Loose, _: bytes, __: Hostile) -> Words:
    return reply, b""


@deviation(Sealed, "a sealed vector's header is malformed")
def _a_header_that_is_none(reply: Loose, payload: bytes, _: Hostile) -> Words:
    return changed(reply, header=b"header"), payload


@deviation(Sealed, "a sealed vector's header is not in its one form")
def _a_header_in_a_second_encoding(reply: Loose, payload: bytes, _: Hostile) -> Words:
    header = reply.header
    assert header[:3] == b"\x96\x02\xa4"
    return changed(reply, header=header[:2] + b"\xd9\x04" + header[3:]), payload


@deviation(Sealed, "a sealed vector's header exceeds")
def _a_header_without_end(reply: Loose, payload: bytes, _: Hostile) -> Words:
    return changed(reply, header=bytes(2**18 + 1)), payload


@deviation(Sealed, "a sealed vector is of form 7")
def _a_header_of_another_form(reply: Loose, payload: bytes, _: Hostile) -> Words:
    return changed(reply, header=reply.header[:1] + b"\x07" + reply.header[2:]), payload


@deviation(Sealed, "mill did not share its mask among its neighbours")
def _boxes_for_all_but_one(reply: Loose, payload: bytes, by: Hostile) -> Words:
    boxes = dict(SealedVector.from_wire(reply.header, payload).boxes)
    del boxes["bank"]
    return by.resealed(reply, payload, boxes=boxes)


@deviation(Sealed, "mill did not share its mask among its neighbours")
def _a_box_for_a_stranger(reply: Loose, payload: bytes, by: Hostile) -> Words:
    boxes = dict(SealedVector.from_wire(reply.header, payload).boxes)
    return by.resealed(reply, payload, boxes={**boxes, "spy": b"b" * 49})


@deviation(Sealed, "a field of mill's header has a wrong length")
def _a_box_that_is_too_long(reply: Loose, payload: bytes, by: Hostile) -> Words:
    boxes = dict(SealedVector.from_wire(reply.header, payload).boxes)
    return by.resealed(reply, payload, boxes={**boxes, "bank": bytes(65)})


@deviation(Sealed, r"mill sent \d+ bytes where others sent \d+")
def _a_vector_that_is_a_word_longer(reply: Loose, payload: bytes, by: Hostile) -> Words:
    return by.resealed(reply, payload, payload=payload + bytes(8))


@deviation(Sealed, "mill is not bound to its shares")
def _a_commitment_that_is_missing(reply: Loose, payload: bytes, by: Hostile) -> Words:
    bound = SealedVector.from_wire(reply.header, payload).commitments
    return by.resealed(reply, payload, commitments=bound[:-1])


@deviation(Sealed, "mill is not bound to its shares")
def _no_commitments_at_all(reply: Loose, payload: bytes, by: Hostile) -> Words:
    return by.resealed(reply, payload, commitments=())


@deviation(Sealed, "mill refused: not today")
def _a_refusal(_: Loose, __: bytes, ___: Hostile) -> Words:
    return Refused(member=HOSTILE, reason="not today"), b""


@deviation(Sealed, "answered another question than it was asked")
def _an_answer_to_another_question(_: Loose, __: bytes, ___: Hostile) -> Words:
    return Ready(member=HOSTILE), b""


@deviation(Sealed, "", summed=True)
def _a_claim_of_another_schema_and_model(reply: Loose, payload: bytes, _: Hostile) -> Words:
    # Only a claim: most members say otherwise, and its vector is bound to the truth.
    return changed(reply, schema=b"s" * 32, model=b"m" * 32, length=1), payload


@deviation(Sealed, "A message cannot be read")
def _no_message_at_all(_: Loose, __: bytes, ___: Hostile) -> Words:
    raise _GarbledError


@deviation(Sealed, "")
def _silence(reply: Loose, payload: bytes, _: Hostile) -> Words:
    return reply, payload  # and the transport loses it


# -- votes ------------------------------------------------------------------------------------


@deviation(Voted, "mill did not sign these survivors of this sum", summed=True)
def _a_vote_that_nobody_signed(reply: Loose, _: bytes, __: Hostile) -> Words:
    return changed(reply, signature=bytes(64)), b""


@deviation(Voted, "mill did not sign these survivors of this sum", summed=True)
def _a_vote_of_an_earlier_sum(reply: Loose, _: bytes, by: Hostile) -> Words:
    old, __ = by.earlier(Voted)
    return changed(old, cosignature=reply.cosignature), b""


NOT_COSIGNED = "mill did not cosign the ledger that it was shown"


@deviation(Voted, NOT_COSIGNED, summed=True)
def _a_cosignature_that_nobody_made(reply: Loose, _: bytes, __: Hostile) -> Words:
    return changed(reply, cosignature=bytes(72)), b""


@deviation(Voted, NOT_COSIGNED, summed=True)
def _the_cosignature_of_an_earlier_state(reply: Loose, _: bytes, by: Hostile) -> Words:
    old, __ = by.earlier(Voted)
    assert isinstance(old, Voted)
    return changed(reply, cosignature=old.cosignature), b""


@deviation(Voted, NOT_COSIGNED, summed=True)
def _a_whole_earlier_vote(_: Loose, __: bytes, by: Hostile) -> Words:
    return by.earlier(Voted)


@deviation(Voted, NOT_COSIGNED, summed=True)
def _a_cosignature_by_another_key(reply: Loose, _: bytes, by: Hostile) -> Words:
    return changed(reply, cosignature=by.cosigned(Identity.create(system_bytes))), b""


@deviation(Voted, NOT_COSIGNED, summed=True)
def _a_cosignature_at_another_time_than_was_signed(reply: Loose, _: bytes, __: Hostile) -> Words:
    time, signature = reply.cosignature[:8], reply.cosignature[8:]
    later = int.from_bytes(time, "big") + 1
    return changed(reply, cosignature=later.to_bytes(8, "big") + signature), b""


@deviation(Voted, NOT_COSIGNED, summed=True)
def _a_logs_signature_in_place_of_a_cosignature(reply: Loose, _: bytes, by: Hostile) -> Words:
    # The bare text, without what tells a cosignature from a log's own signature.
    signature = by.identity.sign_note(by.state().text().encode())
    return changed(reply, cosignature=reply.cosignature[:8] + signature), b""


@deviation(Voted, NOT_COSIGNED, summed=True)
def _a_cosignature_under_another_root(reply: Loose, _: bytes, by: Hostile) -> Words:
    other = replace(by.state(), root=bytes(32))
    return changed(reply, cosignature=by.cosigned(by.identity, other)), b""


@deviation(Voted, "mill did not sign these survivors of this sum", summed=True)
def _a_vote_on_other_survivors(reply: Loose, _: bytes, by: Hostile) -> Words:
    step = by.node._sessions[by.run].step
    assert step is not None
    message = survivors_message(step.contexts[0].digest(), MEMBERS[1:])
    return changed(reply, signature=by.identity.sign(SURVIVORS_DOMAIN, message)), b""


@deviation(Voted, "mill refused: I do not vote", summed=True)
def _no_vote(_: Loose, __: bytes, ___: Hostile) -> Words:
    return Refused(member=HOSTILE, reason="I do not vote"), b""


@deviation(Voted, "The node of mill answered as bank", summed=True)
def _a_vote_as_somebody_else(reply: Loose, _: bytes, __: Hostile) -> Words:
    return changed(reply, member="bank"), b""


ANOTHER = "mill remembers another ledger; compare both copies"


@deviation(Voted, ANOTHER, summed=True)
def _more_remembered_than_there_is(_: Loose, __: bytes, by: Hostile) -> Words:
    return Cosigned(member=HOSTILE, witnessed=by.state().size + 1, cosignature=None), b""


@deviation(Voted, ANOTHER, summed=True)
def _nothing_remembered(_: Loose, __: bytes, ___: Hostile) -> Words:
    return Cosigned(member=HOSTILE, witnessed=0, cosignature=None), b""


@deviation(Voted, "mill remembers more of the ledger each time it is asked", summed=True)
def _more_remembered_each_time(_: Loose, __: bytes, by: Hostile) -> Words:
    by.asked += 1
    vector, _ = by.earlier(Sealed)
    assert isinstance(vector, Sealed)
    seen = vector.witnessed + by.asked
    return Cosigned(member=HOSTILE, witnessed=seen, cosignature=None), b""


@deviation(Voted, ANOTHER, summed=True)
def _a_cosignature_of_the_ledger_without_a_vote(_: Loose, __: bytes, by: Hostile) -> Words:
    cosignature = by.cosigned(by.identity)
    return Cosigned(member=HOSTILE, witnessed=by.state().size, cosignature=cosignature), b""


# -- shares -----------------------------------------------------------------------------------


@deviation(
    Revealed, "mill gave another share than bank dealt; one of them is at fault", summed=True
)
def _a_wrong_share(reply: Loose, _: bytes, by: Hostile) -> Words:
    return by.answer(reply, {**reply.shares, "bank": reply.shares["east"]})


@deviation(Revealed, "mill gave a share of no survivor", summed=True)
def _a_share_of_a_stranger(reply: Loose, _: bytes, by: Hostile) -> Words:
    return by.answer(reply, {**reply.shares, "spy": reply.shares["east"]})


@deviation(Revealed, "mill gave a share of no survivor", summed=True)
def _a_share_that_is_too_short(reply: Loose, _: bytes, by: Hostile) -> Words:
    return by.answer(reply, {**reply.shares, "bank": b"short"})


@deviation(Revealed, "the answer of mill is not signed by it for this sum", summed=True)
def _shares_that_nobody_signed(reply: Loose, _: bytes, __: Hostile) -> Words:
    return changed(reply, signature=bytes(64)), b""


@deviation(Revealed, "the answer of mill is not signed by it for this sum", summed=True)
def _the_shares_of_an_earlier_sum(_: Loose, __: bytes, by: Hostile) -> Words:
    return by.earlier(Revealed)


@deviation(Revealed, "", summed=True)
def _fewer_shares_than_it_holds(reply: Loose, _: bytes, by: Hostile) -> Words:
    return by.answer(reply, {HOSTILE: reply.shares[HOSTILE]})


@deviation(Revealed, "mill refused: I tell nothing", summed=True)
def _no_shares(_: Loose, __: bytes, ___: Hostile) -> Words:
    return Refused(member=HOSTILE, reason="I tell nothing"), b""


# -- one round for each ------------------------------------------------------------------------


class _GarbledError(Exception):
    """The reply is no message."""


@dataclass
class Harassed:
    """A run in which a member deviates once in every round, each time in another way."""

    run: Direct
    notes: dict[str, list[str]] = field(default_factory=dict)
    survivors: dict[str, tuple[str, ...]] = field(default_factory=dict)


def harass(folder: Path) -> Harassed:
    names = list(DEVIATIONS)
    # In the first round it is honest, so that it has something to replay.
    rounds = len(names) + 1
    run = federation(
        folder,
        MEMBERS,
        rows=40,
        training={"rounds": rounds, "batch_rows": 64, "learning_rate": 0.01},
        watch_every=rounds,
    )
    result = Harassed(run)
    node = next(one for one in run.nodes.values() if one.member == HOSTILE)
    by = Hostile(node, run.manifest.digest())
    state = {"round": 0, "said": 0}

    def hear(at: Loose) -> None:
        if isinstance(at.request, TrainRequest):
            state["round"] = at.request.round
        if isinstance(at.request, SumNotice) and at.request.step == "update":
            name = "honest" if at.request.round == 1 else names[at.request.round - 2]
            result.notes.setdefault(name, run.notes.sentences[state["said"] :])
            result.survivors[name] = at.request.parts[0].survivors
            if at.node.member == MEMBERS[-1]:
                state["said"] = len(run.notes.sentences)

    def tamper(member: str, request: Request, parcel: Parcel) -> Parcel:
        if member != HOSTILE or not isinstance(
            request, TrainRequest | SurvivorsNotice | RevealRequest
        ):
            return parcel
        reply, payload = unpack_reply(parcel)
        place = state["round"] - 2
        if 0 <= place < len(names) and isinstance(reply, DEVIATIONS[names[place]].instead_of):
            try:
                return pack(*DEVIATIONS[names[place]].make(reply, payload, by))
            except _GarbledError:
                return Parcel(b"\xc1 no message")
        by.sent.setdefault(type(reply), []).append((reply, payload))
        return parcel

    def away(member: str, request: Request, after: bool) -> bool:
        silent = isinstance(request, TrainRequest) and request.round - 2 == names.index("silence")
        return after and silent and member == HOSTILE

    watched(run).hostile = hear
    run.transport.tamper_reply = tamper
    run.transport.away = away
    # A deviation that is not caught may end the run; the tests below say which one it was.
    with suppress(Exception):
        run.run()
    return result


@pytest.fixture(name="harassed", scope="module")
def _harassed(tmp_path_factory: pytest.TempPathFactory) -> Harassed:
    return harass(tmp_path_factory.mktemp("harassed"))


@pytest.mark.parametrize("name", DEVIATIONS)
def test_a_hostile_member_is_left_out_and_the_others_go_on(harassed: Harassed, name: str) -> None:
    one = DEVIATIONS[name]
    assert harassed.survivors[name] == (MEMBERS if one.summed else OTHERS)
    if one.sentence:
        (note,) = harassed.notes[name]
        assert note.startswith("mill ")
        with pytest.raises(ProtocolError, match=one.sentence):
            raise ProtocolError(note)


def test_a_run_with_a_hostile_member_ends_with_one_model_for_all(harassed: Harassed) -> None:
    assert len(DEVIATIONS) >= 40
    assert harassed.survivors["honest"] == MEMBERS
    assert harassed.notes["honest"] == []
    assert len(set(harassed.run.models().values())) == 1
    assert set(harassed.run.models()) == set(MEMBERS)


def test_an_auditor_finds_the_hostile_members_ledger_by_name_and_all_others_whole(
    harassed: Harassed,
) -> None:
    """It told twice of heads that its own ledger never had, though it did not vote on them."""
    with pytest.raises(NotVerifiedError, match="ledger of mill"):
        harassed.run.verdict()
    verdict = without_its_ledger(harassed.run)
    assert verdict.opened == verdict.releases == len(DEVIATIONS) + 1 + 3
    assert {node.owner: node.compared for node in verdict.nodes} == dict.fromkeys(
        OTHERS, verdict.opened
    )


def without_its_ledger(run: Direct) -> Verdict:
    """What an auditor finds to whom the hostile member did not show its own ledger."""
    bundle = run.bundle()
    logs = tuple(log for log in bundle.logs if log.owner != HOSTILE)
    verdict = verify_bundle(replace(bundle, logs=logs))
    assert verdict.missing == (HOSTILE,)
    return verdict


# -- what ends a run ---------------------------------------------------------------------------


def deviate(run: Direct, instead_of: type, make: Change, *, step: str = "update 1") -> None:
    """Let the hostile member deviate at one sum."""
    node = next(one for one in run.nodes.values() if one.member == HOSTILE)
    by = Hostile(node, run.manifest.digest())

    def tamper(member: str, _: Request, parcel: Parcel) -> Parcel:
        reply, payload = unpack_reply(parcel)
        due = member == HOSTILE and watched(run).step == step and isinstance(reply, instead_of)
        return pack(*make(reply, payload, by)) if due else parcel

    run.transport.tamper_reply = tamper


def kinds(run: Direct, step: str) -> list[str]:
    """What the ledger holds of a step."""
    return [kind for kind, body in run.notes.entries if body.get("step") == step]


def redealt(
    reply: Sealed, payload: bytes, by: Hostile, shares: Mapping[str, bytes], spoilt: int = 0
) -> Words:
    """Its vector with other shares of its own mask, and boxes that do not open for some."""
    vector = SealedVector.from_wire(reply.header, payload)
    sealer: Sealer = by.node._sessions[by.run].agreed.sealer
    boxes = {peer: sealer._box(vector.context, peer, shares[peer]) for peer in OTHERS}
    boxes |= {peer: bytes(len(boxes[peer])) for peer in OTHERS[:spoilt]}
    bound = [share_commitment(vector.context, HOSTILE, name, shares[name]) for name in MEMBERS]
    assert sealer._pending is not None
    sealer._pending.own_share = shares[HOSTILE]
    commitments = (vector.commitments[0], *bound)
    return by.resealed(reply, payload, boxes=boxes, commitments=commitments)


def _shares_of_no_one_seed(reply: Loose, payload: bytes, by: Hostile) -> Words:
    return redealt(reply, payload, by, {n: b"\0" + system_bytes(32) for n in MEMBERS})


def _boxes_that_three_cannot_open(reply: Loose, payload: bytes, by: Hostile) -> Words:
    boxes = dict(SealedVector.from_wire(reply.header, payload).boxes)
    boxes |= {peer: bytes(49) for peer in OTHERS[:3]}
    return by.resealed(reply, payload, boxes=boxes)


def _a_commitment_to_another_seed(reply: Loose, payload: bytes, by: Hostile) -> Words:
    vector = SealedVector.from_wire(reply.header, payload)
    other = seed_commitment(vector.context, HOSTILE, system_bytes(32))
    return by.resealed(reply, payload, commitments=(other, *vector.commitments[1:]))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (_shares_of_no_one_seed, "mill dealt shares of no one seed; the sum stays closed"),
        (_a_commitment_to_another_seed, "mill dealt shares of no one seed; the sum stays closed"),
        (_boxes_that_three_cannot_open, "shares of the masks of mill are missing; the sum stays"),
    ],
)
def test_a_sum_that_a_member_spoils_stays_closed(
    tmp_path: Path, make: Change, sentence: str
) -> None:
    run = federation(tmp_path, MEMBERS, rows=40)
    deviate(run, Sealed, make)
    with pytest.raises(ProtocolError, match=sentence):
        run.run()
    assert kinds(run, "update") == ["sum.reserved"]  # it is spent all the same
    assert kinds(run, "statistics") == ["sum.reserved", "sum.opened", "sum.accepted"]


def test_boxes_that_two_of_seven_cannot_open_spoil_nothing(tmp_path: Path) -> None:
    run = federation(tmp_path, MEMBERS, rows=40)

    def spoilt(reply: Loose, payload: bytes, by: Hostile) -> Words:
        boxes = dict(SealedVector.from_wire(reply.header, payload).boxes)
        boxes |= {peer: bytes(49) for peer in OTHERS[:2]}
        return by.resealed(reply, payload, boxes=boxes)

    deviate(run, Sealed, spoilt)
    run.run()
    assert run.notes.sentences == []
    assert len(set(run.models().values())) == 1


def _a_wrong_tag(reply: Loose, payload: bytes, by: Hostile) -> Words:
    words = np.frombuffer(payload, "<u8").copy()
    words[0] += np.uint64(1)
    return by.resealed(reply, payload, payload=words.tobytes())


def _noise(reply: Loose, payload: bytes, by: Hostile) -> Words:
    noise = random_words(len(payload) // 8).tobytes()
    return by.resealed(reply, payload, payload=noise)


def test_a_vector_with_a_wrong_tag_is_found_by_every_member(tmp_path: Path) -> None:
    for place, make in enumerate((_a_wrong_tag, _noise)):
        run = federation(tmp_path / str(place), MEMBERS, rows=40)
        deviate(run, Sealed, make)
        with pytest.raises(CohortError, match="No member accepted the update sum") as ended:
            run.run()
        for name in MEMBERS:
            refusal = f"{name} refused: an opened sum does not carry its members' tag"
            assert refusal in str(ended.value)
        assert "sum.accepted" not in kinds(run, "update")
        # Each leaves the run, without another model than before.
        assert not any(run.manifest.digest() in node._sessions for node in run.nodes.values())


@pytest.mark.parametrize(
    ("times", "sentence"),
    [(9, "an opened sum is out of range"), (7, "The opened mean is beyond every member's clip")],
)
def test_a_huge_vector_with_a_right_tag_is_found_by_every_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, sentence: str
) -> None:
    run = federation(tmp_path, MEMBERS, rows=40)
    node = next(one for one in run.nodes.values() if one.member == HOSTILE)
    honest = Sealer.seal

    def seal(sealer: Sealer, words: Loose, *, context: SumContext, **how: Loose) -> SealedVector:
        if sealer.member == HOSTILE and context.step == "update":
            session = node._sessions[run.manifest.digest()]
            step = session.plan("update", 1)
            fields = np.full(step.length, times * step.layout.levels, np.uint64)
            fields[-1] = step.layout.levels  # a weight of nothing
            key = tag_key(session.agreed.key.tag_secret, context.digest())
            words = append_tag(in_words(step.layout, fields), layout=step.layout, key=key)
        return honest(sealer, words, context=context, **how)

    monkeypatch.setattr(Sealer, "seal", seal)
    with pytest.raises(CohortError, match="No member accepted the update sum") as ended:
        run.run()
    for name in OTHERS:
        assert f"{name} refused: {sentence}" in str(ended.value)
    assert "sum.accepted" not in kinds(run, "update")


# -- before the first sum ---------------------------------------------------------------------


def test_two_nodes_that_say_they_are_one_member_start_no_run(tmp_path: Path) -> None:
    run = federation(tmp_path, MEMBERS, rows=40)
    first: dict[str, Joined] = {}

    def tamper(member: str, _: Request, parcel: Parcel) -> Parcel:
        reply, __ = unpack_reply(parcel)
        if not isinstance(reply, Joined):
            return parcel
        first[member] = reply
        bank = first["bank"]
        copied = changed(reply, offer=bank.offer, consent=bank.consent)
        return pack(copied) if member == HOSTILE else parcel

    run.transport.tamper_reply = tamper
    with pytest.raises(ProtocolError, match="Two nodes say that they are bank; keep one"):
        run.run()


@pytest.mark.parametrize("stolen", [True, False])
def test_an_offer_in_the_name_of_another_starts_no_run(tmp_path: Path, *, stolen: bool) -> None:
    run = federation(tmp_path, MEMBERS, rows=40)
    south = next(node for node in run.nodes.values() if node.member == "south")
    consent = south._settings.identity.sign(CONSENT_DOMAIN, run.manifest.digest())

    def forged(reply: Loose, _: bytes, __: Hostile) -> Words:
        offer = replace(KeyOffer.from_bytes(reply.offer), member="south").to_bytes()
        return changed(reply, offer=offer, consent=consent if stolen else reply.consent), b""

    run.transport.away = lambda member, _, __: member == "south"
    deviate(run, Joined, forged, step="")
    absent = "mill" if stolen else "mill, south"
    with pytest.raises(CohortError, match=f"^{absent} did not answer"):
        run.run()
    assert any("is ignored" in note for note in run.notes.sentences) == (not stolen)


def _consent_to_another_run(reply: Loose, _: bytes, by: Hostile) -> Words:
    return changed(reply, consent=by.identity.sign(CONSENT_DOMAIN, b"another run")), b""


def _consent_for_another_purpose(reply: Loose, _: bytes, by: Hostile) -> Words:
    return changed(reply, consent=by.identity.sign("manifest", by.run)), b""


def _consent_of_another_key(reply: Loose, _: bytes, by: Hostile) -> Words:
    stranger = Identity.create(system_bytes)
    return changed(reply, consent=stranger.sign(CONSENT_DOMAIN, by.run)), b""


@pytest.mark.parametrize(
    "make", [_consent_to_another_run, _consent_for_another_purpose, _consent_of_another_key]
)
def test_a_consent_that_does_not_hold_starts_no_run_and_is_not_recorded(
    tmp_path: Path, make: Change
) -> None:
    run = federation(tmp_path, MEMBERS, rows=40)
    deviate(run, Joined, make, step="")
    with pytest.raises(CohortError, match=r"^mill did not answer"):
        run.run()
    assert any("a signature for consent does not verify" in n for n in run.notes.sentences)
    entries = [kind for kind, _ in run.notes.entries]
    assert entries == ["ledger.begun", "run.started", "data.declared"]


def test_an_exchange_key_that_is_not_its_own_starts_no_run(tmp_path: Path) -> None:
    run = federation(tmp_path, MEMBERS, rows=40)

    def forged(reply: Loose, _: bytes, __: Hostile) -> Words:
        offer = replace(KeyOffer.from_bytes(reply.offer), exchange=system_bytes(32))
        return changed(reply, offer=offer.to_bytes()), b""

    deviate(run, Joined, forged, step="")
    with pytest.raises(ProtocolError, match="the key offer of mill is not signed by it"):
        run.run()


def _another_fingerprint(reply: Loose) -> Reply:
    return KeyHeld(member=reply.member, fingerprint=bytes(32))


def _a_second_maker(reply: Loose) -> Reply:
    return KeyMade(member=reply.member, fingerprint=bytes(32), public=b"", carrier=b"", keys={})


def _a_key_for_all_but_one(reply: Loose) -> Reply:
    return changed(reply, keys=dict(list(reply.keys.items())[1:]))  # type: ignore[no-any-return]


def _a_key_under_another_fingerprint(reply: Loose) -> Reply:
    return changed(reply, fingerprint=bytes(32))  # type: ignore[no-any-return]


def _another_initial_model(reply: Loose) -> Reply:
    return changed(reply, digest=bytes(32))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("instead_of", "make", "sentence"),
    [
        (KeyHeld, _another_fingerprint, r"holds another key than \w+ told of; one of them"),
        (Ready, _a_second_maker, "not made by one member for all the others"),
        (KeyMade, _a_key_for_all_but_one, "not made by one member for all the others"),
        (KeyMade, _a_key_under_another_fingerprint, "is not signed by .*, whose turn it is"),
        (InitialModel, _another_initial_model, "do not start from one model"),
    ],
)
def test_members_who_do_not_agree_before_the_first_round_train_nothing(
    tmp_path: Path, instead_of: type, make: Callable[[Loose], Reply], sentence: str
) -> None:
    run = federation(tmp_path, MEMBERS, rows=40)
    deviated: list[str] = []

    def tamper(member: str, _: Request, parcel: Parcel) -> Parcel:
        reply, payload = unpack_reply(parcel)
        if not isinstance(reply, instead_of) or deviated:
            return parcel
        deviated.append(member)
        return pack(make(reply), payload)

    run.transport.tamper_reply = tamper
    with pytest.raises(RefusedError, match=sentence):
        run.run()
    assert kinds(run, "update") == []


def _another_model(reply: Loose, _: bytes, by: Hostile) -> Words:
    session = by.node._sessions[by.run]
    signature = by.identity.sign(ACCEPTED_DOMAIN, session.history)
    return changed(reply, model=bytes(32), signature=signature), b""


def _another_history(reply: Loose, _: bytes, by: Hostile) -> Words:
    signature = by.identity.sign(ACCEPTED_DOMAIN, bytes(32))
    return changed(reply, history=bytes(32), signature=signature), b""


def _a_signature_that_does_not_hold(reply: Loose, _: bytes, __: Hostile) -> Words:
    return changed(reply, signature=bytes(64)), b""


@pytest.mark.parametrize(
    "make", [_another_model, _another_history, _a_signature_that_does_not_hold]
)
def test_a_member_that_accepts_something_else_is_left_out_and_the_others_go_on(
    tmp_path: Path, make: Change
) -> None:
    run = federation(tmp_path, MEMBERS, rows=40)
    deviate(run, Accepted, make)
    run.run()
    assert all(note.startswith("mill is left out") for note in run.notes.sentences)
    models = run.models()
    assert {models[name] for name in OTHERS} == {models["bank"]}
    assert all(
        "mill" not in body["signatures"]
        for kind, body in run.notes.entries
        if kind == "sum.accepted" and (body["step"], body["round"]) == ("update", 1)
        if isinstance(body["signatures"], dict)
    )


def test_a_dealer_who_spoils_a_sum_spoils_its_group_alone(tmp_path: Path) -> None:
    names = tuple(f"m{index:02}" for index in range(12))
    run = federation(tmp_path, names, rows=40, protection={"robust": "groups", "group_size": 3})
    node = run.nodes[100]

    def tamper(member: str, _: Request, parcel: Parcel) -> Parcel:
        reply, payload = unpack_reply(parcel)
        late = watched(run).step != "update 1"
        if member != node.member or not isinstance(reply, Sealed) or late:
            return parcel
        by = Hostile(node, run.manifest.digest())
        bound = SealedVector.from_wire(reply.header, payload).commitments
        return pack(*by.resealed(reply, payload, commitments=(bytes(32), *bound[1:])))

    run.transport.tamper_reply = tamper
    run.run()
    (note,) = run.notes.sentences
    assert f"{node.member} dealt shares of no one seed" in note
    assert len(set(run.models().values())) == 1


# -- records ----------------------------------------------------------------------------------


def test_a_sum_that_too_many_do_not_cosign_stays_closed(tmp_path: Path) -> None:
    run = federation(tmp_path, MEMBERS, rows=40)
    asked: list[str] = []

    def tamper(member: str, request: Request, parcel: Parcel) -> Parcel:
        reply, _ = unpack_reply(parcel)
        update = watched(run).step == "update 1"
        if update and isinstance(request, RevealRequest):
            asked.append(member)
        if update and isinstance(reply, Voted) and member in MEMBERS[:3]:
            return pack(changed(reply, cosignature=bytes(72)))
        return parcel

    run.transport.tamper_reply = tamper
    with pytest.raises(CohortError, match="more than a third of those who hold shares"):
        run.run()
    assert asked == []
    assert kinds(run, "update") == ["sum.reserved"]


def test_a_member_that_does_not_cosign_is_shown_what_it_missed_with_the_next_sum(
    tmp_path: Path,
) -> None:
    run = federation(tmp_path, MEMBERS, rows=40)
    deviate(run, Voted, lambda *_: (Refused(member=HOSTILE, reason="not now"), b""))
    run.run()
    assert run.notes.sentences == ["mill is left out of this step: mill refused: not now"]
    assert len(set(run.models().values())) == 1
    # Its node remembers what it cosigned, whether or not that arrived.
    voted = [
        (body["step"], body["round"])
        for kind, body in run.notes.entries
        if kind == "sum.opened" and HOSTILE in body["signatures"]
    ]
    assert ("update", 1) not in voted
    assert ("evaluate watch", 1) in voted
    assert run.verdict().opened == len(voted) + 1


def told(reply: Sealed, by: Hostile, head: LedgerHead) -> Sealed:
    """Its vector with another head of its own ledger, which it stands by when it votes."""
    by.node._sessions[by.run].head = head
    return by.told(reply, head)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (0, "step 9 .both sides., ledger of mill: .* it had another root; it was rewritten"),
        (-1, "step 9 .both sides., ledger of mill: .* it had another root; it was rewritten"),
        (99, "step 9 .both sides., ledger of mill: .* it was cut off; with the update of round 1"),
    ],
)
def test_a_member_that_votes_on_a_false_head_of_its_own_ledger_is_found_by_an_auditor(
    tmp_path: Path, more: int, sentence: str
) -> None:
    run = federation(tmp_path, MEMBERS, rows=40)

    def lying(reply: Sealed, payload: bytes, by: Hostile) -> Words:
        return told(reply, by, LedgerHead(reply.leaves + more, "ab" * 32)), payload

    deviate(run, Sealed, lying)
    run.run()
    with pytest.raises(NotVerifiedError, match=sentence):
        run.verdict()
    # Where its own ledger is not at hand, nothing can be said of it, and that is said.
    without_its_ledger(run)


def test_a_member_that_tells_the_head_from_before_its_release_is_found_by_an_auditor(
    tmp_path: Path,
) -> None:
    """That head is true; but what was told with the vector was not on record in it."""
    run = federation(tmp_path, MEMBERS, rows=40)

    def early(reply: Sealed, payload: bytes, by: Hostile) -> Words:
        head = head_of(by.node._ledger, reply.leaves - 1)
        return told(reply, by, head), payload

    deviate(run, Sealed, early)
    run.run()
    with pytest.raises(NotVerifiedError, match=r"ledger of mill: .* not reserved here before"):
        run.verdict()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_member_that_tells_in_the_next_run_what_it_told_before_is_left_out(
    tmp_path: Path, *, restarted: bool
) -> None:
    """The coordinator's ledger remembers how far each member's own had come, also after a restart.

    With three members gone no sum would be; it is told apart from one that is away.
    """
    first = federation(tmp_path, MEMBERS, rows=40)
    heads: list[LedgerHead] = []

    def heard(reply: Sealed, payload: bytes, _: Hostile) -> Words:
        heads.append(LedgerHead(reply.leaves, reply.root.hex()))
        return reply, payload

    deviate(first, Sealed, heard, step="update 2")
    first.run()
    first.verdict()
    second = first.again("second-run", restarted=restarted)
    kept = first.notes.recorder
    second.notes.recorder = LedgerRecorder(kept.store, kept.identity)
    deviate(
        second,
        Sealed,
        lambda reply, payload, by: (told(reply, by, heads[0]), payload),
        step="statistics 0",
    )
    second.run()
    assert any(
        f"now says {heads[0].leaves}; it was set back, and has to be restored" in note
        for note in second.notes.sentences
    )
    sums = [
        body["members"]
        for kind, body in second.notes.entries
        if kind == "sum.opened" and body["run"] == "second-run" and body["step"] == "statistics"
    ]
    assert sums == [list(OTHERS)]
    verdict = second.verdict()
    assert verdict.set_back == ()
    assert verdict.missing == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cosignature": bytes(72)}, "mill did not cosign the ledger that it was shown"),
        ({"cosignature": None, "witnessed": 0}, "mill remembers another ledger; compare both"),
        ({"cosignature": None, "witnessed": 2**53 - 1}, "mill remembers another ledger"),
        ({"member": "bank"}, "bank did not cosign the ledger that it was shown"),
        (None, "The node of mill refused"),
    ],
)
def test_who_cosigns_wrongly_at_the_end_is_left_out_by_name_and_the_others_count(
    tmp_path: Path, change: dict[str, Loose] | None, said: str
) -> None:
    run = federation(tmp_path, MEMBERS, rows=40)
    run.run()
    asked: list[str] = []

    def tamper(member: str, request: Request, parcel: Parcel) -> Parcel:
        reply, _ = unpack_reply(parcel)
        if member != HOSTILE or not isinstance(request, StateNotice):
            return parcel
        asked.append(member)
        if change is None:
            return pack(Refused(member=HOSTILE, reason="The node of mill refused"))
        return pack(changed(reply, **change))

    run.transport.tamper_reply = tamper
    assert run.witness() == len(OTHERS)
    (note,) = run.notes.sentences
    assert said in note
    assert len(asked) <= 2
    assert len(run.verdict().cosigned) == len(OTHERS)


def test_who_says_each_time_that_it_remembers_more_is_asked_thrice_and_no_more(
    tmp_path: Path,
) -> None:
    run = federation(tmp_path, MEMBERS, rows=40)
    run.run()
    asked: list[str] = []

    def tamper(member: str, request: Request, parcel: Parcel) -> Parcel:
        if member != HOSTILE or not isinstance(request, StateNotice):
            return parcel
        asked.append(member)
        return pack(Cosigned(member=HOSTILE, witnessed=len(asked), cosignature=None))

    run.transport.tamper_reply = tamper
    assert run.witness() == len(OTHERS)
    assert len(asked) == 3


# -- with a member away -----------------------------------------------------------------------

GONE = "south"
STAYING = tuple(name for name in MEMBERS if name != GONE)
WITHOUT_BOTH = tuple(name for name in OTHERS if name != GONE)


@dataclass
class Open:
    """A sum of seven, of whom one is away; so its masks with the others are due."""

    group: Group
    sealers: dict[str, Sealer]
    total: Gathering
    context: SumContext

    def vote(self, *names: str) -> None:
        for name in names:
            if name not in self.total.voters:
                vote = self.sealers[name].vote(self.total.context, self.total.survivors)
                self.total.take_vote(vote)

    def release(self, name: str) -> Release:
        return self.sealers[name].release(
            self.total.context, self.total.survivors, self.total.votes_for(name)
        )

    def reveal(self, name: str) -> Answer:
        return self.sealers[name].reveal(
            self.total.context,
            self.total.survivors,
            self.total.votes_for(name),
            self.total.boxes_for(name),
        )

    def settle(self, *mute: str) -> None:
        """Let everybody vote and release, but for those who are mute."""
        while True:
            self.vote(*(name for name in self.total.survivors if name not in mute))
            if self.total.leave_silent_out():
                continue
            for name in self.total.unreleased:
                if name not in mute:
                    self.total.take_release(self.release(name))
            if not self.total.leave_unreleased_out():
                break

    def finish(self, *mute: str) -> float:
        """Do what is left to do; return the sum's mean."""
        self.settle(*mute)
        for name in self.total.voters:
            if name not in mute:
                self.total.take_answer(self.reveal(name))
        opened = self.total.open()
        return self.group.total(opened.payload, self.context, len(opened.survivors))


def opening() -> Open:
    made = group(MEMBERS)
    context = made.context()
    total = made.gathering(context)
    sealers = made.sealers()
    for name in STAYING:
        total.take(made.seal(sealers[name], context))
    total.close()
    return Open(made, sealers, total, context)


def mean_of(names: tuple[str, ...]) -> Loose:
    return pytest.approx(sum(0.1 * MEMBERS.index(name) for name in names), abs=1e-4)


RELEASES: dict[str, Callable[[Mapping[str, bytes]], Mapping[str, bytes]]] = {
    "without the mask": lambda _: {},
    "with a mask too many": lambda seeds: {**seeds, "bank": bytes(32)},
    "with a mask with a stranger": lambda seeds: {**seeds, "spy": bytes(32)},
    "with a short mask": lambda seeds: {GONE: seeds[GONE][:-1]},
    "with another's mask": lambda seeds: {"bank": seeds[GONE]},
}


def released(on: Open, seeds: Mapping[str, bytes], **changes: Loose) -> Release:
    """Masks of the hostile member, signed by it."""
    message = told_message(on.total.context, on.total.survivors, seeds)
    signature = on.group.identities[HOSTILE].sign(RELEASE_DOMAIN, message)
    return replace(Release(HOSTILE, seeds, signature), **changes)


@pytest.mark.parametrize("how", RELEASES)
def test_who_does_not_give_the_masks_that_are_due_is_left_out(how: str) -> None:
    on = opening()
    on.vote(*STAYING)
    seeds = RELEASES[how](on.release(HOSTILE).seeds)
    with pytest.raises(ProtocolError, match="mill did not give the masks that are due"):
        on.total.take_release(released(on, seeds))
    assert on.finish(HOSTILE) == mean_of(WITHOUT_BOTH)
    assert on.total.survivors == WITHOUT_BOTH


def test_masks_that_their_member_did_not_sign_are_not_taken() -> None:
    on = opening()
    on.vote(*STAYING)
    honest = on.release(HOSTILE)
    with pytest.raises(ProtocolError, match="the masks that mill tells are not signed by it"):
        on.total.take_release(replace(honest, signature=bytes(64)))
    with pytest.raises(ProtocolError, match="the masks that bank tells are not signed by it"):
        on.total.take_release(replace(honest, member="bank"))
    with pytest.raises(ProtocolError, match="south tells of a sum that it is not part of"):
        on.total.take_release(replace(honest, member=GONE))
    assert on.finish() == mean_of(STAYING)


def test_masks_of_survivors_as_they_were_before_are_not_taken() -> None:
    on = opening()
    on.vote(*STAYING)
    early = on.release(HOSTILE)
    for name in STAYING[1:]:
        on.total.take_release(on.release(name))
    assert on.total.leave_unreleased_out()
    assert on.total.survivors == STAYING[1:]
    with pytest.raises(ProtocolError, match="the masks that mill tells are not signed by it"):
        on.total.take_release(early)
    assert on.finish() == mean_of(STAYING[1:])


def test_a_false_mask_is_found_by_the_tag() -> None:
    on = opening()
    on.vote(*STAYING)
    on.total.take_release(released(on, {GONE: system_bytes(32)}))
    with pytest.raises(ProtocolError, match="does not carry its members' tag"):
        on.finish()


def test_a_second_vote_does_not_count() -> None:
    on = opening()
    on.vote(*STAYING)
    again = on.sealers[HOSTILE].vote(on.total.context, STAYING)
    with pytest.raises(ProtocolError, match="mill voted twice; the first one counts"):
        on.total.take_vote(again)
    assert on.finish() == mean_of(STAYING)


def test_a_vote_of_one_who_is_away_does_not_count() -> None:
    on = opening()
    made = on.group.seal(on.sealers[GONE], on.context)
    vote = on.sealers[GONE].vote(made.context, MEMBERS)
    with pytest.raises(ProtocolError, match="south votes on a sum that it is not part of"):
        on.total.take_vote(vote)
    assert on.finish() == mean_of(STAYING)


def test_a_second_vector_does_not_count() -> None:
    made = group(MEMBERS)
    context = made.context()
    total, sealers = made.gathering(context), made.sealers()
    vectors = {name: made.seal(sealers[name], context) for name in MEMBERS}
    for vector in vectors.values():
        total.take(vector)
    with pytest.raises(ProtocolError, match="mill sent two vectors; the first one counts"):
        total.take(vectors[HOSTILE])
    total.close()
    assert Open(made, sealers, total, context).finish() == mean_of(MEMBERS)


def test_swapped_payloads_are_refused() -> None:
    made = group(MEMBERS)
    context = made.context()
    bank, east = (made.seal(made.sealer(name), context) for name in MEMBERS[:2])
    total = made.gathering(context)
    for own, other in ((bank, east), (east, bank)):
        with pytest.raises(ProtocolError, match=f"the vector of {own.sender} is not signed by it"):
            total.take(replace(own, payload=other.payload))


def test_a_vector_of_a_stranger_is_refused() -> None:
    made = group(MEMBERS)
    context = made.context()
    vector = made.seal(made.sealer(HOSTILE), context)
    with pytest.raises(ProtocolError, match="spy is not asked for this sum; leave it out"):
        made.gathering(context).take(replace(vector, sender="spy"))


def test_a_vector_in_the_clear_is_never_taken_for_a_masked_one() -> None:
    made = group(MEMBERS)
    context = made.context()
    clear = Sealer(
        HOSTILE,
        made.identities[HOSTILE],
        made.keys[HOSTILE],
        made.roster,
        scheme="clear",
        wrap=made.group_keys[HOSTILE].carrier.wrap,
        masked=False,
        entropy=system_bytes,
    )
    with pytest.raises(ProtocolError, match="the vector of mill is not signed by it"):
        made.gathering(context).take(made.seal(clear, context))


def test_a_second_answer_and_a_strangers_do_not_count() -> None:
    on = opening()
    on.settle()
    answer = on.reveal(HOSTILE)
    on.total.take_answer(answer)
    with pytest.raises(ProtocolError, match="mill answered twice; the first one counts"):
        on.total.take_answer(answer)
    with pytest.raises(ProtocolError, match="spy answers for a sum that it is not part of"):
        on.total.take_answer(replace(answer, member="spy"))
    with pytest.raises(ProtocolError, match="south answers for a sum that it is not part of"):
        on.total.take_answer(replace(answer, member=GONE))
    with pytest.raises(ProtocolError, match="the answer of bank is not signed by it"):
        on.total.take_answer(replace(answer, member="bank"))


def test_a_share_of_one_who_is_away_is_not_taken() -> None:
    on = opening()
    on.settle()
    answer = on.reveal(HOSTILE)
    shares = {**answer.shares, GONE: answer.shares["bank"]}
    message = told_message(on.total.context, STAYING, shares)
    signature = on.group.identities[HOSTILE].sign(ANSWER_DOMAIN, message)
    with pytest.raises(ProtocolError, match="mill gave a share of no survivor"):
        on.total.take_answer(Answer(HOSTILE, shares, signature))
    assert on.finish(HOSTILE) == mean_of(STAYING)


def test_a_late_vector_stays_unread_and_is_told_to_come_with_the_next_sum() -> None:
    on = opening()
    late = on.group.seal(on.sealers[GONE], on.context)
    with pytest.raises(CohortError, match=r"south came late .* it sends with the next sum"):
        on.total.take(late)
    assert on.finish() == mean_of(STAYING)
    with pytest.raises(CohortError, match="south came late"):
        on.total.take(late)


def test_a_late_vector_is_garbage_to_who_knows_everything_that_was_revealed() -> None:
    made = group(MEMBERS)
    context = made.context()
    zeros = np.zeros(400, np.uint64)
    total, sealers = made.gathering(context), made.sealers()
    for name in STAYING:
        total.take(made.seal(sealers[name], context, zeros))
    late = made.seal(sealers[GONE], context, zeros)
    total.close()
    on = Open(made, sealers, total, context)
    on.settle()
    mine = {name: on.release(name).seeds[GONE] for name in STAYING}
    answers = [on.reveal(name) for name in STAYING]
    assert all(GONE not in answer.shares for answer in answers)
    words = words_of(late)
    shift_by_keystream(
        words,
        [seed for name, seed in mine.items() if name < GONE],
        [seed for name, seed in mine.items() if name > GONE],
    )
    # All masks with the others are gone, and the own one is as good as any.
    assert looks_random(words)


def test_too_many_who_are_hostile_open_nothing() -> None:
    on = opening()
    on.settle()
    for name in STAYING[:4]:
        on.total.take_answer(on.reveal(name))
    with pytest.raises(CohortError, match=r"shares of the masks of .* are missing; the sum stays"):
        on.total.open()
    on.total.take_answer(on.reveal(STAYING[4]))
    on.total.open()
    with pytest.raises(ProtocolError, match="this sum was opened; it is opened once"):
        on.total.open()


def test_a_sum_that_too_many_leave_is_given_up_and_nothing_was_told() -> None:
    on = opening()
    on.vote(*STAYING[:4])
    with pytest.raises(CohortError, match="more than a third of those who hold shares"):
        on.total.leave_silent_out()
    for name in STAYING:
        with pytest.raises(ProtocolError):
            on.release(name)
