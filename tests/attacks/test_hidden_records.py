"""What a coordinator that keeps a false ledger tries, and what a node then lets it open: nothing.

It holds its ledger's key, so whatever it shows is well signed where it likes. Real nodes and the
real coordinator run; before honest requests, each node is handed hostile ones, or the run goes on
over another ledger than before. Each test says how the honest exchange ends that is its twin.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.deviations import (
    MEMBERS,
    REMEMBERS,
    Attacked,
    Deviation,
    Deviations,
    Hostile,
    Loose,
    attack,
    check_refused,
    identity_of,
    other_than,
    replaced,
)
from support.direct import Direct, Notes, recorder
from support.records import (
    Hand,
    body_of,
    copied_hand,
    heads_of,
    own_hand,
    seen_by,
)
from support.sums import Exchange, federation, watched

from aggregator.showing import TRIES
from clients.node import Node
from clients.policy import NodePolicy
from federation.ledger_recorder import LedgerRecorder
from privacy.errors import CohortError, NotVerifiedError, ProtocolError, RefusedError
from privacy.identity import Identity, verify_signature
from privacy.ledger.bundle import Log
from privacy.ledger.checkpoint import Checkpoint, cosign, open_checkpoint
from privacy.ledger.entry import parse_leaf
from privacy.ledger.grammar import CONSENT_DOMAIN
from privacy.ledger.head import HEAD_DOMAIN, LedgerHead, head_message
from privacy.ledger.keys import cosigner_key, log_key, log_origin
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.note import Note, NoteSignature, parse_note
from privacy.ledger.store import append, entries_of
from privacy.manifest import SIGNING_DOMAIN
from privacy.messages import (
    Cosigned,
    Invite,
    Joined,
    RecordedSum,
    ReleaseRequest,
    Revealed,
    RevealRequest,
    Sealed,
    SignedState,
    StateNotice,
    SumNotice,
    SurvivorsNotice,
    TrainRequest,
    Voted,
    unpack_reply,
)
from privacy.randomness import system_bytes
from privacy.receipt import Receipt
from privacy.secure_sum import SealedVector
from privacy.verify import verify_bundle

deviation = Deviations()
NOT_THERE = "The sum is not in the coordinator's ledger"
OTHER_ENTRY = "The coordinator showed another entry than the sum's"
SAYS_ELSE = "The coordinator's ledger says something else of this sum"
DOES_NOT_FOLLOW = "The coordinator's ledger does not follow on what this node cosigned"
NEEDED = 5  # of six


# -- the sum is not on record ------------------------------------------------------------------


def shown(at: Exchange, record: RecordedSum) -> Hostile:
    return replaced(at.request, record=record), b""


def changed(at: Exchange, **changes: Loose) -> Hostile:
    """The honest record, changed."""
    return shown(at, msgspec.structs.replace(at.request.record, **changes))


def in_state(at: Exchange, state: SignedState) -> Hostile:
    return changed(at, state=state)


def before_it(at: Exchange, run: Direct) -> list[bytes]:
    """The coordinator's ledger without the sum."""
    return list(run.notes.recorder.store.leaves(0, at.request.record.index))


def body_at(at: Exchange) -> dict[str, Any]:
    return dict(parse_leaf(at.request.record.leaf).body)


def reworded(at: Exchange, fed: Direct, **changes: Loose) -> Hostile:
    """The sum in other words, in a ledger that is otherwise the one that the node knows."""
    hand = copied_hand(fed, before_it(at, fed))
    return shown(at, hand.recorded({**body_at(at), **changes}, old=seen_by(fed, at.node)))


@deviation(SurvivorsNotice, "statistics 0", f"{NOT_THERE}: the entry is not canonical JSON")
def _no_entry_at_all(at: Exchange, _: Direct) -> Hostile:
    return changed(at, leaf=b"")


@deviation(SurvivorsNotice, "update 1", f"{NOT_THERE}: the entry has not the fields of one")
def _an_entry_that_is_none(at: Exchange, _: Direct) -> Hostile:
    return changed(at, leaf=b"{}")


@deviation(SurvivorsNotice, "update 1", f"{NOT_THERE}")
def _an_entry_that_was_never_recorded(at: Exchange, run: Direct) -> Hostile:
    """The right words, and the proof of another entry."""
    hand = copied_hand(run, before_it(at, run))
    other = hand.recorded({**body_at(at), "context": "ab" * 32}, old=seen_by(run, at.node))
    return shown(at, msgspec.structs.replace(other, leaf=at.request.record.leaf))


@deviation(SurvivorsNotice, "update 1", f"{SAYS_ELSE}: step, round, schema, model, context, rec")
def _the_entry_of_the_sum_before(at: Exchange, run: Direct) -> Hostile:
    old = at.earlier(SurvivorsNotice, at.node.member)[-1][0].record
    return shown(at, own_hand(run).shown(old.index, old=seen_by(run, at.node)))


@deviation(SurvivorsNotice, "update 2", f"{SAYS_ELSE}: round, model, context, receipt, nodes")
def _the_entry_of_the_round_before(at: Exchange, run: Direct) -> Hostile:
    notices = [one for one, _ in at.earlier(SurvivorsNotice, at.node.member)]
    old = next(one for one in notices if parse_leaf(one.record.leaf).body["step"] == "update")
    return shown(at, own_hand(run).shown(old.record.index, old=seen_by(run, at.node)))


@deviation(SurvivorsNotice, "update 1", OTHER_ENTRY)
def _an_entry_of_another_kind(at: Exchange, run: Direct) -> Hostile:
    return shown(at, own_hand(run).shown(1, old=seen_by(run, at.node)))


@deviation(SurvivorsNotice, "update 1", OTHER_ENTRY)
def _the_first_entry_of_all(at: Exchange, run: Direct) -> Hostile:
    return shown(at, own_hand(run).shown(0, old=seen_by(run, at.node)))


@deviation(SurvivorsNotice, "update 1", OTHER_ENTRY)
def _an_entry_that_stands_in_anothers_place(at: Exchange, run: Direct) -> Hostile:
    moved = replace(parse_leaf(at.request.record.leaf), index=at.request.record.index + 1)
    hand = copied_hand(run, [*before_it(at, run), moved.leaf()])
    return shown(at, hand.shown(at.request.record.index, old=seen_by(run, at.node)))


OTHER_WORDS: Mapping[str, Loose] = {
    "run": "another-run",
    "step": "evaluate watch",
    "round": 2,
    "asked": list(MEMBERS[1:]),
    "schema": "ab" * 32,
    "model": "ab" * 32,
    "context": "ab" * 32,
    "protection": "clear",
}
for word, value in OTHER_WORDS.items():
    deviation.all[f"an entry with another {word}"] = Deviation(
        SurvivorsNotice,
        "update 1",
        lambda at, run, word=word, value=value: reworded(at, run, **{word: value}),  # type: ignore[misc]
        f"{SAYS_ELSE}: {word}\\.$",
    )


# -- the nodes' own heads ----------------------------------------------------------------------


def with_head(at: Exchange, run: Direct, change: Callable[[dict[str, Any]], Loose]) -> Hostile:
    """The entry with something else said of the node's own ledger; None leaves it out."""
    nodes = dict(body_at(at)["nodes"])
    nodes[at.node.member] = change(dict(nodes[at.node.member]))
    kept = {name: head for name, head in nodes.items() if head is not None}
    return reworded(at, run, nodes=kept)


@deviation(SurvivorsNotice, "update 1", f"{SAYS_ELSE}: nodes\\.$")
def _another_root_of_the_nodes_own_ledger(at: Exchange, run: Direct) -> Hostile:
    return with_head(at, run, lambda head: {**head, "root": "ab" * 32})


@deviation(SurvivorsNotice, "update 1", f"{SAYS_ELSE}: nodes\\.$")
def _another_size_of_the_nodes_own_ledger(at: Exchange, run: Direct) -> Hostile:
    return with_head(at, run, lambda head: {**head, "leaves": head["leaves"] - 1})


@deviation(SurvivorsNotice, "update 1", f"{SAYS_ELSE}: nodes\\.$")
def _a_head_that_the_node_did_not_sign(at: Exchange, run: Direct) -> Hostile:
    return with_head(at, run, lambda head: {**head, "signature": "ab" * 64})


@deviation(SurvivorsNotice, "update 2", f"{SAYS_ELSE}: nodes\\.$")
def _a_head_that_the_node_signed_for_another_sum(at: Exchange, run: Direct) -> Hostile:
    signature = identity_of(run, at.node.member).sign(
        HEAD_DOMAIN, head_message(b"c" * 32, heads_at(at))
    )
    return with_head(at, run, lambda head: {**head, "signature": signature.hex()})


def heads_at(at: Exchange) -> LedgerHead:
    head = at.session().head
    assert isinstance(head, LedgerHead)
    return head


@deviation(SurvivorsNotice, "update 2", f"{SAYS_ELSE}: nodes\\.$")
def _the_nodes_own_ledger_as_it_told_it_before(at: Exchange, run: Direct) -> Hostile:
    old = at.earlier(SurvivorsNotice, at.node.member)[0][0].record
    told = parse_leaf(old.leaf).body["nodes"]
    assert isinstance(told, dict)
    assert told[at.node.member] != body_at(at)["nodes"][at.node.member]  # at the first sum
    return with_head(at, run, lambda _: told[at.node.member])


@deviation(SurvivorsNotice, "update 1", f"{SAYS_ELSE}: nodes\\.$")
def _an_entry_without_the_node(at: Exchange, run: Direct) -> Hostile:
    return with_head(at, run, lambda _: None)


@deviation(SurvivorsNotice, "update 1", f"{SAYS_ELSE}: nodes\\.$")
def _an_entry_without_another_whose_vector_is_in_the_sum(at: Exchange, run: Direct) -> Hostile:
    """What that one spent would be on no record."""
    nodes = dict(body_at(at)["nodes"])
    del nodes[other_than(at.node.member)]
    return reworded(at, run, nodes=nodes)


# -- proofs and states -------------------------------------------------------------------------


@deviation(SurvivorsNotice, "update 1", NOT_THERE)
def _a_proof_that_was_changed(at: Exchange, _: Direct) -> Hostile:
    first, *rest = at.request.record.path
    return changed(at, path=(bytes([first[0] ^ 1]) + first[1:], *rest))


@deviation(SurvivorsNotice, "update 1", NOT_THERE)
def _a_proof_that_is_too_short(at: Exchange, _: Direct) -> Hostile:
    return changed(at, path=at.request.record.path[1:])


@deviation(SurvivorsNotice, "update 1", NOT_THERE)
def _a_proof_that_is_too_long(at: Exchange, _: Direct) -> Hostile:
    return changed(at, path=(*at.request.record.path, bytes(32)))


@deviation(SurvivorsNotice, "update 1", NOT_THERE)
def _no_proof(at: Exchange, _: Direct) -> Hostile:
    return changed(at, path=())


@deviation(SurvivorsNotice, "update 1", NOT_THERE)
def _a_proof_for_another_place(at: Exchange, _: Direct) -> Hostile:
    return changed(at, index=at.request.record.index - 1)


@deviation(SurvivorsNotice, "update 1", NOT_THERE)
def _a_place_that_the_state_has_not(at: Exchange, _: Direct) -> Hostile:
    return changed(at, index=2**53 - 1)


@deviation(SurvivorsNotice, "update 1", NOT_THERE)
def _a_state_from_before_the_sum(at: Exchange, run: Direct) -> Hostile:
    size = at.request.record.index
    return in_state(at, own_hand(run).state(size, old=seen_by(run, at.node)))


@deviation(SurvivorsNotice, "update 1", f"{NOT_THERE}: .* has not signed this checkpoint")
def _a_state_that_another_key_signed(at: Exchange, run: Direct) -> Hostile:
    hand = replace(own_hand(run), identity=Identity.create(system_bytes))
    return in_state(at, hand.state(old=seen_by(run, at.node)))


@deviation(SurvivorsNotice, "update 1", f"{NOT_THERE}: a signature of .* does not verify")
def _a_state_under_the_signature_of_another(at: Exchange, run: Direct) -> Hostile:
    note = parse_note(at.request.record.state.checkpoint)
    other = own_hand(run).state(at.request.record.index)
    forged = Note(note.text, parse_note(other.checkpoint).signatures).to_bytes()
    return in_state(at, msgspec.structs.replace(at.request.record.state, checkpoint=forged))


@deviation(SurvivorsNotice, "update 1", f"{NOT_THERE}: this is no signed note")
def _a_state_that_is_none(at: Exchange, _: Direct) -> Hostile:
    state = at.request.record.state
    return in_state(at, msgspec.structs.replace(state, checkpoint=b"state"))


@deviation(SurvivorsNotice, "update 1", f"{NOT_THERE}: .* has not signed this checkpoint")
def _a_state_of_another_ledger_of_the_same_key(at: Exchange, run: Direct) -> Hostile:
    hand = replace(own_hand(run), origin="tacit/coordinator/another")
    return in_state(at, hand.state(old=0))


@deviation(SurvivorsNotice, "update 1", "a state of another ledger than the run's")
def _a_state_of_another_ledger_signed_under_both_names(at: Exchange, run: Direct) -> Hostile:
    """As if one entry were in two ledgers, of which the node follows one."""
    own = own_hand(run)
    state = open_checkpoint(at.request.record.state.checkpoint, run.manifest.log)
    text = Checkpoint("tacit/coordinator/another", state.size, state.root).text()
    names = (own.origin, "tacit/coordinator/another")
    note = Note(text, tuple(signed_as(own, name, text) for name in names)).to_bytes()
    return in_state(at, SignedState(checkpoint=note, old=0, growth=()))


def signed_as(hand: Hand, name: str, text: str) -> NoteSignature:
    key = log_key(name, hand.identity.public)
    return NoteSignature(key.name, key.key_id, hand.identity.sign_note(text.encode()))


# -- the ledger was set back or forked ---------------------------------------------------------


def on_top_of(
    at: Exchange, run: Direct, kept: int, *, old: int | None = None, more: int = 0
) -> Hostile:
    """The sum in a ledger with the first `kept` entries alone, and then so many others."""
    hand = copied_hand(run, list(run.notes.recorder.store.leaves(0, kept)))
    record = hand.recorded(body_at(at), old=0)
    for place in range(more):
        hand.recorded({**body_at(at), "context": f"{place:064x}"}, old=0)
    seen = seen_by(run, at.node) if old is None else old
    return shown(at, hand.shown(record.index, old=seen))


@deviation(SurvivorsNotice, "update 2", DOES_NOT_FOLLOW)
def _a_ledger_that_was_set_back(at: Exchange, run: Direct) -> Hostile:
    return on_top_of(at, run, seen_by(run, at.node) - 3)


@deviation(SurvivorsNotice, "update 2", REMEMBERS)
def _a_ledger_that_was_set_back_as_one_that_was_never_seen(at: Exchange, run: Direct) -> Hostile:
    return on_top_of(at, run, seen_by(run, at.node) - 3, old=0)


@deviation(SurvivorsNotice, "update 2", f"{DOES_NOT_FOLLOW}: .* shows two roots")
def _a_ledger_of_the_same_size_with_another_root(at: Exchange, run: Direct) -> Hostile:
    return on_top_of(at, run, seen_by(run, at.node) - 1)


@deviation(SurvivorsNotice, "update 2", DOES_NOT_FOLLOW)
def _a_longer_ledger_that_left_the_nodes_last_entry_out(at: Exchange, run: Direct) -> Hostile:
    return on_top_of(at, run, seen_by(run, at.node) - 1, more=20)


@deviation(SurvivorsNotice, "update 2", DOES_NOT_FOLLOW)
def _a_longer_ledger_that_was_begun_anew(at: Exchange, run: Direct) -> Hostile:
    return on_top_of(at, run, 1, more=40)


@deviation(SurvivorsNotice, "update 2", DOES_NOT_FOLLOW)
def _a_proof_of_growth_that_was_changed(at: Exchange, _: Direct) -> Hostile:
    state = at.request.record.state
    growth = (bytes(32), *state.growth[1:])
    return in_state(at, msgspec.structs.replace(state, growth=growth))


@deviation(SurvivorsNotice, "update 2", DOES_NOT_FOLLOW)
def _no_proof_of_growth(at: Exchange, _: Direct) -> Hostile:
    return in_state(at, msgspec.structs.replace(at.request.record.state, growth=()))


@deviation(SurvivorsNotice, "update 2", REMEMBERS)
def _a_proof_of_growth_from_nothing(at: Exchange, _: Direct) -> Hostile:
    state = at.request.record.state
    return in_state(at, msgspec.structs.replace(state, old=0, growth=()))


@deviation(SurvivorsNotice, "update 2", REMEMBERS)
def _a_proof_of_growth_from_another_size(at: Exchange, run: Direct) -> Hostile:
    return in_state(at, own_hand(run).state(old=seen_by(run, at.node) - 1))


@deviation(SurvivorsNotice, "update 2", DOES_NOT_FOLLOW)
def _a_proof_of_growth_from_more_than_there_is(at: Exchange, _: Direct) -> Hostile:
    return in_state(at, msgspec.structs.replace(at.request.record.state, old=2**53 - 1))


# -- who cosigned ------------------------------------------------------------------------------


def cosigned(at: Exchange, cosignatures: Mapping[str, bytes]) -> Hostile:
    return replaced(at.request, cosignatures=dict(cosignatures)), b""


def forged_by(at: Exchange, run: Direct, identity: Identity, name: str, **change: Loose) -> bytes:
    """A cosignature under the state that has the sum."""
    record = at.earlier(SurvivorsNotice, at.node.member)[-1][0].record
    state = open_checkpoint(record.state.checkpoint, run.manifest.log)
    key = cosigner_key(name, identity.public)
    changed = replace(state, **change)
    return cosign(changed, key=key, sign=identity.sign_note, time_s=1).signature


@deviation(RevealRequest, "update 1", f"0 members cosigned .* {NEEDED} are needed", CohortError)
def _no_cosignatures(at: Exchange, _: Direct) -> Hostile:
    return cosigned(at, {})


@deviation(RevealRequest, "update 1", f"1 members cosigned .* {NEEDED} are needed", CohortError)
def _the_nodes_own_cosignature_alone(at: Exchange, _: Direct) -> Hostile:
    own = at.node.member
    return cosigned(at, {own: at.request.cosignatures[own]})


@deviation(RevealRequest, "update 1", f"4 members cosigned .* {NEEDED} are needed", CohortError)
def _cosignatures_of_less_than_two_thirds(at: Exchange, _: Direct) -> Hostile:
    return cosigned(at, dict(list(at.request.cosignatures.items())[: NEEDED - 1]))


@deviation(RevealRequest, "update 1", "{other} did not cosign the ledger that this node was shown")
def _one_cosignature_counted_under_two_names(at: Exchange, _: Direct) -> Hostile:
    other = other_than(at.node.member)
    own = at.request.cosignatures[at.node.member]
    return cosigned(at, {**at.request.cosignatures, other: own})


@deviation(RevealRequest, "update 1", "spy is not asked for this sum, and cosigns nothing")
def _the_cosignature_of_a_stranger(at: Exchange, run: Direct) -> Hostile:
    four = dict(list(at.request.cosignatures.items())[: NEEDED - 1])
    spy = forged_by(at, run, Identity.create(system_bytes), "spy")
    return cosigned(at, {**four, "spy": spy})


@deviation(RevealRequest, "update 1", "{other} did not cosign the ledger that this node was shown")
def _a_cosignature_of_another_key_under_a_members_name(at: Exchange, run: Direct) -> Hostile:
    other = other_than(at.node.member)
    forged = forged_by(at, run, Identity.create(system_bytes), other)
    return cosigned(at, {**at.request.cosignatures, other: forged})


@deviation(RevealRequest, "update 2", "did not cosign the ledger that this node was shown")
def _the_cosignatures_of_the_sum_before(at: Exchange, _: Direct) -> Hostile:
    return cosigned(at, at.earlier(RevealRequest, at.node.member)[-1][0].cosignatures)


@deviation(RevealRequest, "update 1", "{other} did not cosign .* may have shown two")
def _a_cosignature_of_another_root(at: Exchange, run: Direct) -> Hostile:
    other = other_than(at.node.member)
    forged = forged_by(at, run, identity_of(run, other), other, root=bytes(32))
    return cosigned(at, {**at.request.cosignatures, other: forged})


@deviation(RevealRequest, "update 1", "{other} did not cosign .* may have shown two")
def _a_cosignature_of_a_larger_state(at: Exchange, run: Direct) -> Hostile:
    other = other_than(at.node.member)
    record = at.earlier(SurvivorsNotice, at.node.member)[-1][0].record
    size = open_checkpoint(record.state.checkpoint, run.manifest.log).size
    forged = forged_by(at, run, identity_of(run, other), other, size=size + 1)
    return cosigned(at, {**at.request.cosignatures, other: forged})


@deviation(RevealRequest, "update 1", "{other} did not cosign the ledger that this node was shown")
def _a_cosignature_of_nobody(at: Exchange, _: Direct) -> Hostile:
    return cosigned(at, {**at.request.cosignatures, other_than(at.node.member): bytes(72)})


@deviation(RevealRequest, "update 1", "{other} did not cosign the ledger that this node was shown")
def _a_vote_in_place_of_a_cosignature(at: Exchange, _: Direct) -> Hostile:
    other = other_than(at.node.member)
    vote = bytes(8) + at.request.votes[other]
    return cosigned(at, {**at.request.cosignatures, other: vote})


@deviation(SumNotice, "update 1", f"4 members cosigned .* {NEEDED} are needed", CohortError)
def _shares_once_more_for_fewer_cosignatures(at: Exchange, _: Direct) -> Hostile:
    honest = at.earlier(RevealRequest, at.node.member)[-1][0]
    fewer = dict(list(honest.cosignatures.items())[: NEEDED - 1])
    return replaced(honest, cosignatures=fewer), b""


@deviation(TrainRequest, "update 2", "not under way here; nothing is told of another")
def _a_vote_once_more_after_the_sum_was_accepted(at: Exchange, _: Direct) -> Hostile:
    return at.earlier(SurvivorsNotice, at.node.member)[-1]


# -- the run that is attacked ------------------------------------------------------------------


def nothing_was_told(at: Exchange) -> None:
    """After a false record, a node gives neither shares nor masks of that sum."""
    if not isinstance(at.request, SurvivorsNotice):
        return
    about: dict[str, Loose] = {
        "run": at.request.run,
        "context": at.request.context,
        "survivors": at.request.survivors,
        "votes": {},
    }
    asks = (ReleaseRequest(**about), RevealRequest(**about, cosignatures={}, boxes={}))
    for ask in asks:
        with pytest.raises(ProtocolError, match="has not seen that sum in the coordinator's led"):
            at.node.handle(ask)


def honest_to_the_end(run: Direct, rounds: int = 2) -> None:
    """The run ended as if nothing had been, and an auditor finds all ledgers whole."""
    assert [index for index, _ in run.notes.rounds] == list(range(1, rounds + 1))
    assert run.notes.sentences == []
    assert set(run.models()) == set(MEMBERS)
    assert len(set(run.models().values())) == 1
    verdict = run.verdict()
    assert verdict.missing == ()
    assert {node.compared for node in verdict.nodes} == {verdict.opened}


@pytest.fixture(name="attacked", scope="module")
def _attacked(tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    run = federation(tmp_path_factory.mktemp("attacked"), MEMBERS)
    return attack(Attacked(run, deviation.all, everyone=True, after=nothing_was_told))


@pytest.mark.parametrize("name", deviation.all)
def test_every_node_refuses(attacked: Attacked, name: str) -> None:
    assert len(attacked.struck[name]) == len(MEMBERS)
    for outcome in attacked.struck[name]:
        check_refused(deviation.all[name], outcome)


def test_the_run_ends_as_an_honest_one_and_so_does_the_next(attacked: Attacked) -> None:
    assert len(deviation.all) > 50
    honest_to_the_end(attacked.run)
    following = attacked.run.again("the-next-run")
    following.run()
    honest_to_the_end(following)


# -- what a sum costs --------------------------------------------------------------------------

NOISE: Mapping[str, Mapping[str, Loose]] = {
    "distributed": {
        "privacy": {"noise": "distributed", "multiplier": 1.0, "rate": 0.25},
        "training": {"rounds": 2},
        "server": {"kind": "fedavgm", "learning_rate": 1.0},
    },
    "local": {
        "privacy": {"noise": "local", "multiplier": 1.0, "rate": 0.25, "steps": 5},
        "training": {"rounds": 2, "optimiser": "sgd", "learning_rate": 0.5},
    },
    "none": {},
}
# What would make a release look cheaper than it is, or like another one.
CHEAPER: Mapping[str, Mapping[str, Mapping[str, Loose]]] = {
    "distributed": {
        "more noise of each": {"share": 100.0},
        "a smaller part of one unit": {"clip": 1e-6},
        "a smaller sample": {"rate": 1e-6},
        "more who add noise": {"shares": 6},
        "fewer values": {"values": 1},
        "other units": {"cohort": "test"},
        "another unit": {"unit": "row"},
        "another sampler": {"mechanism": "discrete_gaussian", "grid": 2.0**-13},
        "another kind": {"kind": "statistics"},
        "another purpose": {"purpose": "run test-run, update of round 7"},
    },
    "local": {"fewer steps": {"steps": 1}, "more noise of each": {"share": 100.0}},
    "none": {
        "noise that there is not": {"mechanism": "gaussian", "share": 1.0, "clip": 1.0},
        "fewer values": {"values": 1},
        "test units": {"cohort": "test"},
        "another unit": {"unit": "row"},
    },
}


def cheaper(at: Exchange, run: Direct, changes: Mapping[str, Loose]) -> Hostile:
    receipt = replace(Receipt.from_json(body_at(at)["receipt"]), **changes)
    return reworded(at, run, receipt=receipt.to_json())


@pytest.mark.parametrize("noise", CHEAPER)
def test_every_node_refuses_a_sum_whose_record_costs_something_else(
    tmp_path: Path, noise: str
) -> None:
    settings = {"validation_share": 0.0, **NOISE[noise]} if noise != "none" else {}
    run = federation(tmp_path, MEMBERS, **settings)
    tried = {
        f"{name} {step}": Deviation(
            SurvivorsNotice,
            step,
            lambda at, run, changes=changes: cheaper(at, run, changes),  # type: ignore[misc]
            f"{SAYS_ELSE}: receipt\\.$",
        )
        for name, changes in CHEAPER[noise].items()
        for step in ("update 1", "update 2")
    }
    attacked = attack(Attacked(run, tried, everyone=True, after=nothing_was_told))
    for name, one in tried.items():
        assert len(attacked.struck[name]) == len(MEMBERS)
        for outcome in attacked.struck[name]:
            check_refused(one, outcome)
    honest_to_the_end(run)
    # The twin: what is on record is what the nodes themselves reserved, number by number.
    own = next(iter(run.nodes.values()))._ledger
    reserved = [e.body["receipt"] for e in entries_of(own.leaves()) if e.kind == "budget.reserved"]
    recorded = [body["receipt"] for kind, body in run.notes.entries if kind == "sum.reserved"]
    assert recorded == reserved


# -- two ledgers -------------------------------------------------------------------------------


class _EnoughError(Exception):
    """The hostile coordinator has what it wanted, and ends the run."""


@dataclass
class Split:
    """One sum on record in two ledgers of the same size, shown to two parts of the members."""

    run: Direct
    first: tuple[str, ...]
    revealed: dict[str, object] = field(default_factory=dict)
    refused: dict[str, ProtocolError] = field(default_factory=dict)

    def strike(self, at: Exchange) -> None:
        if not isinstance(at.request, SurvivorsNotice) or at.step != "update 1":
            return
        nodes = {node.member: node for node in self.run.nodes.values()}
        about, survivors = at.request, at.request.survivors
        # In the other ledger, one more member is said to have spent something else: the same size,
        # and whoever is shown it finds its own head there.
        body = body_at(at)
        wrong = {**body["nodes"][self.first[0]], "root": "ab" * 32}  # no signature holds over it
        forked = copied_hand(self.run, before_it(at, self.run))
        index = forked.recorded(
            {**body, "nodes": {**body["nodes"], self.first[0]: wrong}}, old=0
        ).index
        votes: dict[str, bytes] = {}
        cosignatures: dict[str, bytes] = {}
        for name, node in nodes.items():
            hand = own_hand(self.run) if name in self.first else forked
            record = hand.shown(index, old=seen_by(self.run, node))
            vote, _ = node.handle(replaced(about, record=record))
            assert isinstance(vote, Voted)  # alone, none of them can know
            votes[name], cosignatures[name] = vote.signature, vote.cosignature
        vectors = {
            member: SealedVector.from_wire(reply.header, payload)
            for member, _, parcel in self.run.transport.seen[-len(MEMBERS) :]
            for reply, payload in [unpack_reply(parcel)]
            if isinstance(reply, Sealed)
        }
        for name, node in nodes.items():
            ask = RevealRequest(
                run=about.run,
                context=about.context,
                survivors=survivors,
                votes=votes,
                cosignatures=cosignatures,
                boxes={peer: vectors[peer].boxes[name] for peer in survivors if peer != name},
            )
            mine = self.first if name in self.first else tuple(set(MEMBERS) - set(self.first))
            same = {peer: cosignatures[peer] for peer in mine}
            with pytest.raises(ProtocolError, match="may have shown two"):
                node.handle(ask)
            try:
                self.revealed[name] = node.handle(replaced(ask, cosignatures=same))[0]
            except ProtocolError as fault:
                self.refused[name] = fault
        raise _EnoughError


def split(folder: Path, count: int) -> Split:
    made = Split(federation(folder, MEMBERS), MEMBERS[:count])
    watched(made.run).hostile = made.strike
    with pytest.raises(_EnoughError):
        made.run.run()
    return made


@pytest.mark.parametrize("count", [2, 3, 4])
def test_two_members_who_were_shown_two_ledgers_open_nothing_together(
    tmp_path: Path, count: int
) -> None:
    made = split(tmp_path, count)
    assert made.revealed == {}
    for name, fault in made.refused.items():
        held = count if name in made.first else len(MEMBERS) - count
        with pytest.raises(CohortError, match=f"^{held} members cosigned the ledger"):
            raise fault


def test_where_more_than_two_thirds_saw_one_ledger_the_other_reveals_nothing(
    tmp_path: Path,
) -> None:
    """The twin: five of six have the sum on one record, and that is what it takes."""
    made = split(tmp_path, NEEDED)
    assert set(made.revealed) == set(MEMBERS[:NEEDED])
    assert set(made.refused) == {MEMBERS[-1]}
    assert all(isinstance(reply, Revealed) for reply in made.revealed.values())


@pytest.mark.parametrize("restarted", [False, True])
def test_who_was_shown_the_other_ledger_never_follows_the_first_again(
    tmp_path: Path, *, restarted: bool
) -> None:
    """It has a proof that there were two, and says so; the others go on without it."""
    made = split(tmp_path, NEEDED)
    following = made.run.again("the-next-run", restarted=restarted)
    following.run()
    odd = MEMBERS[-1]
    assert any(f"{odd} refused: {DOES_NOT_FOLLOW}" in one for one in following.notes.sentences)
    opened = [
        body
        for kind, body in following.notes.entries
        if kind == "sum.opened" and body["run"] == "the-next-run"
    ]
    assert len(opened) == 6
    assert all(odd not in body["signatures"] for body in opened)
    assert following.witness() == NEEDED
    # What it cosigned is in its own ledger, and so an auditor who has that finds the fork.
    with pytest.raises(
        NotVerifiedError, match=f"ledger of {odd}: .* cosigned another ledger of the coordinator"
    ):
        following.verdict()


# -- the ledger of the next run ----------------------------------------------------------------


def over(run: Direct, ledger: LedgerRecorder, name: str, *, restarted: bool = False) -> Direct:
    """The same installations, ready for a run over another ledger."""
    made = run.again(name, restarted=restarted)
    names = {"origin": ledger.origin, "key": ledger.identity.public.hex()}
    return replace(made, manifest=replace(made.manifest, ledger=names), notes=Notes(ledger))


def set_back(run: Direct, count: int) -> LedgerRecorder:
    """The coordinator's ledger as it was before its last entries, kept by an honest program."""
    kept = run.notes.recorder
    leaves = list(kept.store.leaves())
    return LedgerRecorder(MemoryLedger(leaves[: len(leaves) - count]), kept.identity)


def without_runs(run: Direct) -> Log:
    """The coordinator's ledger up to its first run, as if there had been none."""
    leaves = list(run.notes.recorder.store.leaves(0, 1))
    made = LedgerRecorder(MemoryLedger(leaves), run.notes.recorder.identity)
    return replace(run.bundle().logs[0], leaves=leaves, checkpoints=(made.state().note,), proofs=())


def opens_nothing(run: Direct, sentence: str) -> None:
    """No member votes, so nobody is even asked for shares."""
    with pytest.raises(CohortError, match="missing"):
        run.run()
    replies = [unpack_reply(parcel)[0] for _, _, parcel in run.transport.seen]
    assert any(isinstance(reply, Sealed) for reply in replies)
    assert not any(isinstance(reply, Voted | Revealed) for reply in replies)
    for name in MEMBERS:
        assert any(f"{name} refused: {sentence}" in one for one in run.notes.sentences)
    kinds = [kind for kind, body in run.notes.entries if body.get("run") == run.manifest.run]
    assert "sum.reserved" in kinds
    assert "sum.opened" not in kinds


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("count", [1, 3, 12])
def test_a_ledger_that_was_set_back_between_runs_opens_nothing(
    tmp_path: Path, count: int, *, restarted: bool
) -> None:
    first = federation(tmp_path, MEMBERS)
    first.run()
    first.witness()
    second = over(first, set_back(first, count), "second-run", restarted=restarted)
    opens_nothing(second, DOES_NOT_FOLLOW)
    # An auditor finds it too: nobody cosigned what is there, and the nodes cosigned something else.
    with pytest.raises(NotVerifiedError, match=r"step [79] "):
        second.verdict()
    bundle = second.bundle()
    with pytest.raises(NotVerifiedError, match=r"step 9 .*, ledger of bank: .*(cosigned|accepted)"):
        verify_bundle(replace(bundle, logs=(without_runs(second), *bundle.logs[1:])))
    # The twin: the ledger as it was goes on.
    third = over(first, first.notes.recorder, "third-run", restarted=restarted)
    third.run()
    assert third.notes.sentences == []
    assert third.witness() == len(MEMBERS)
    # What the second run spent at the nodes is nowhere on the coordinator's side, and pending.
    assert {node.pending for node in third.verdict().nodes} == {1}


@pytest.mark.parametrize("tries", [TRIES, 1])
def test_who_cosigned_meanwhile_is_shown_what_grew_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    """As for another run that ended before the coordinator heard of it.

    Asked once alone, as it was before, it does not vote.
    """
    monkeypatch.setattr("aggregator.opening.TRIES", tries)
    run = federation(tmp_path, MEMBERS)
    shown: set[tuple[str, str]] = set()

    def strike(at: Exchange) -> None:
        about = at.node.member, at.step
        if isinstance(at.request, SurvivorsNotice) and about[0] == MEMBERS[0]:
            if about in shown:
                return  # it is asked again
            shown.add(about)
            hand = own_hand(run)
            state = hand.state(old=seen_by(run, at.node), size=at.request.record.index)
            reply, _ = at.node.handle(StateNotice(origin=hand.origin, state=state))
            assert isinstance(reply, Cosigned)
            assert reply.cosignature is not None

    watched(run).hostile = strike
    run.run()
    opened = [body["signatures"] for kind, body in run.notes.entries if kind == "sum.opened"]
    assert len(shown) == len(opened)
    if tries > 1:
        honest_to_the_end(run)
        assert all(set(signed) == set(MEMBERS) for signed in opened)
    else:
        assert all(set(signed) == set(MEMBERS[1:]) for signed in opened)
        assert f"{MEMBERS[0]} remembers more of the ledger each time" in run.notes.sentences[0]


def test_a_ledger_that_is_shown_smaller_than_it_was_is_not_cosigned(tmp_path: Path) -> None:
    """A true state, which has the sum, and is smaller than one that the node cosigned since."""
    run = federation(tmp_path, MEMBERS)
    tried: list[str] = []

    def strike(at: Exchange) -> None:
        if not isinstance(at.request, SurvivorsNotice) or at.step != "update 1":
            return
        if at.node.member != MEMBERS[0]:
            return
        hand = own_hand(run)
        run.notes.recorder.record("writer.began", {"writer": "another"})
        old = seen_by(run, at.node)
        larger = StateNotice(origin=hand.origin, state=hand.state(old=old))
        reply, _ = at.node.handle(larger)
        assert isinstance(reply, Cosigned)
        assert reply.witnessed == hand.store.size()
        index, size = at.request.record.index, hand.store.size() - 1
        asked = [
            replaced(at.request, record=hand.shown(index, size=size, old=claimed))
            for claimed in (old, reply.witnessed)
        ]
        told, _ = at.node.handle(asked[0])
        assert told == Cosigned(member=at.node.member, witnessed=reply.witnessed, cosignature=None)
        nothing_was_told(at)
        with pytest.raises(ProtocolError, match=DOES_NOT_FOLLOW):
            at.node.handle(asked[1])
        nothing_was_told(at)
        tried.append(at.node.member)

    watched(run).hostile = strike
    run.run()
    assert tried == [MEMBERS[0]]
    # It helped with no vote to that sum, and with all others.
    signed = [
        MEMBERS[0] in body["signatures"] for kind, body in run.notes.entries if kind == "sum.opened"
    ]
    assert signed.count(False) == 1


def test_a_node_that_cannot_remember_a_state_neither_votes_nor_cosigns(tmp_path: Path) -> None:
    run = federation(tmp_path, MEMBERS)
    refused: list[str] = []

    def strike(at: Exchange) -> None:
        if at.node.member != "mill" or at.step != "update 1":
            return
        if not isinstance(at.request, SurvivorsNotice):
            return
        connection = at.node._ledger._connection
        assert connection is not None
        connection.execute("PRAGMA query_only = ON")
        with pytest.raises(RefusedError, match="nothing was cosigned"):
            at.node.handle(at.request)
        nothing_was_told(at)
        connection.execute("PRAGMA query_only = OFF")
        refused.append(at.node.member)

    watched(run).hostile = strike
    run.run()
    assert refused == ["mill"]
    # once there is room again, the same notice is answered as if nothing had been
    honest_to_the_end(run)


TWELVE = tuple(f"member-{index:02}" for index in range(12))


def test_a_group_alone_opens_nothing_of_its_sum(tmp_path: Path) -> None:
    """Else each group could be shown a ledger of its own, with its own sum and no other."""
    run = federation(tmp_path, TWELVE, rows=40, protection={"robust": "groups", "group_size": 3})
    refused: list[str] = []

    def strike(at: Exchange) -> None:
        if not isinstance(at.request, RevealRequest) or at.step != "update 1":
            return
        group = at.session().step.cohorts[at.session().step.of(at.node.member)].members
        assert at.node.member in group
        own = {name: at.request.cosignatures[name] for name in group}
        with pytest.raises(CohortError, match=r"3 members cosigned .* and 9 are needed"):
            at.node.handle(replaced(at.request, cosignatures=own))
        refused.append(at.node.member)

    watched(run).hostile = strike
    run.run()
    assert sorted(refused) == list(TWELVE)
    assert run.notes.sentences == []
    verdict = run.verdict()
    assert {node.compared for node in verdict.nodes} == {1 + 2 + 2 + 1}


# -- another ledger ----------------------------------------------------------------------------


def invited_over(run: Direct, ledger: LedgerRecorder, name: str) -> Invite:
    made = over(run, ledger, name)
    data = made.manifest.to_bytes()
    return Invite(manifest=data, signature=run.launcher.sign(SIGNING_DOMAIN, data))


@pytest.mark.parametrize("restarted", [False, True])
def test_a_new_ledger_is_followed_where_the_nodes_policy_names_it_and_nowhere_else(
    tmp_path: Path, *, restarted: bool
) -> None:
    first = federation(tmp_path, MEMBERS)
    first.run()
    own = first.notes.recorder.origin
    other = recorder()  # another key, and so another origin
    second = over(first, other, "second-run", restarted=restarted)
    with pytest.raises(RefusedError, match=f"follows the ledger {own}, and"):
        second.run()
    for node in second.nodes.values():
        with pytest.raises(RefusedError, match="add it to ledgers in the node's policy"):
            node.handle(invited_over(first, other, "third-run"))
        # nothing of its rows was read, and the run is on record as refused
        kinds = [entry.kind for entry in entries_of(node._ledger.leaves())]
        assert kinds[-1] == "run.refused"
        assert node._books.watch().seen(other.origin) == 0
    # The twin: their owners wrote it down.
    told = NodePolicy(ledgers=(other.origin,))
    nodes = {
        place: Node(replace(node._settings, policy=told)) for place, node in first.nodes.items()
    }
    fourth = over(replace(first, nodes=nodes), other, "fourth-run")
    fourth.run()
    assert fourth.notes.sentences == []
    assert fourth.witness() == len(MEMBERS)
    # And the first one is still followed, from where it was.
    fifth = over(replace(first, nodes=nodes), first.notes.recorder, "fifth-run")
    fifth.run()
    assert fifth.notes.sentences == []


@pytest.mark.parametrize("named", [False, True])
def test_the_same_ledger_under_another_key_is_never_followed(
    tmp_path: Path, *, named: bool
) -> None:
    origin = "tacit/coordinator/kept"
    policy = NodePolicy(ledgers=(origin,) if named else ())
    first = federation(tmp_path, MEMBERS, policy=policy)
    first = replace(
        first, manifest=replace(first.manifest, ledger={**first.manifest.ledger, "origin": origin})
    )
    first.notes.recorder.origin = origin
    first.run()
    second = first.again("second-run")
    key = Identity.create(system_bytes).public.hex()
    ledger = {"origin": origin, "key": key}
    second = replace(second, manifest=replace(second.manifest, ledger=ledger))
    for nodes in (second.nodes, second.again("", restarted=True).nodes):
        second.transport.members = nodes
        with pytest.raises(RefusedError, match="another key than the one that this node follows"):
            second.run()


def test_a_run_that_is_refused_for_its_ledger_leaves_the_node_free_for_the_next(
    tmp_path: Path,
) -> None:
    first = federation(tmp_path, MEMBERS)
    first.run()
    invite = invited_over(first, recorder(), "second-run")
    for node in first.nodes.values():
        with pytest.raises(RefusedError, match="follows the ledger"):
            node.handle(invite)
    third = first.again("third-run")
    third.run()
    honest_to_the_end(third)


def test_a_manifest_whose_ledger_is_none_is_refused(tmp_path: Path) -> None:
    run = federation(tmp_path, MEMBERS)
    node = next(iter(run.nodes.values()))
    for ledger in (
        {},
        {"origin": "x"},
        {"origin": "two words", "key": "0f" * 32},
        {"origin": "x", "key": "0F" * 32},
    ):
        data = replace(run.manifest, ledger=ledger).to_bytes()
        signature = run.launcher.sign(SIGNING_DOMAIN, data)
        with pytest.raises(ProtocolError, match="a value of the wrong type"):
            node.handle(Invite(manifest=data, signature=signature))


# -- outside of runs ---------------------------------------------------------------------------


def test_outside_of_runs_a_node_cosigns_only_what_follows_on_what_it_cosigned(
    tmp_path: Path,
) -> None:
    run = federation(tmp_path, MEMBERS)
    run.run()
    run.witness()
    node = next(iter(run.nodes.values()))
    hand, seen = own_hand(run), seen_by(run, node)
    assert seen == hand.store.size()
    fork = copied_hand(run, list(hand.store.leaves(0, seen - 1)))
    append(fork.store, "writer.began", {"writer": "a"}, time_ms=0)
    longer = copied_hand(run, list(fork.store.leaves()))
    append(longer.store, "writer.began", {"writer": "b"}, time_ms=0)
    stranger = replace(hand, identity=Identity.create(system_bytes))
    elsewhere = replace(hand, origin="tacit/coordinator/another")
    unknown = replace(stranger, origin=log_origin("coordinator", stranger.identity.public))
    for state, sentence in (
        (hand.state(seen - 1, old=seen), "did not grow"),
        (fork.state(old=seen), "shows two roots"),
        (longer.state(old=seen), "nothing shows that the log of .* begins with"),
        (msgspec.structs.replace(hand.state(old=seen), old=2**53 - 1), "did not grow"),
        (stranger.state(old=seen), "has not signed this checkpoint"),
        (elsewhere.state(old=0), "does not follow the ledger"),
        (unknown.state(old=0), "does not follow the ledger"),
        (msgspec.structs.replace(hand.state(old=seen), checkpoint=b"state"), "no signed note"),
    ):
        with pytest.raises(NotVerifiedError, match=sentence):
            node.handle(StateNotice(origin=hand.origin, state=state))
        assert seen_by(run, node) == seen
    # Who shows a smaller state as if from nothing is told what the node remembers, and no more.
    for size in (0, 1, seen - 1):
        reply, _ = node.handle(StateNotice(origin=hand.origin, state=hand.state(size)))
        assert reply == Cosigned(member=node.member, witnessed=seen, cosignature=None)
    # The twins: the same state again, and a larger one.
    for more in (0, 1):
        if more:
            append(hand.store, "writer.began", {"writer": "c"}, time_ms=0)
        reply, _ = node.handle(
            StateNotice(origin=hand.origin, state=hand.state(old=seen_by(run, node)))
        )
        assert isinstance(reply, Cosigned)
        assert reply.cosignature is not None
        assert reply.witnessed == seen + more


def test_a_node_that_joined_no_run_since_it_started_cosigns_nothing(tmp_path: Path) -> None:
    run = federation(tmp_path, MEMBERS)
    run.run()
    node = next(iter(run.again("second-run", restarted=True).nodes.values()))
    notice = StateNotice(origin=run.notes.recorder.origin, state=own_hand(run).state())
    with pytest.raises(ProtocolError, match="has joined no run yet"):
        node.handle(notice)


# -- where the record is whole, and what it binds ----------------------------------------------


def test_a_sum_is_on_record_with_every_head_that_nodes_told(tmp_path: Path) -> None:
    run = federation(tmp_path, MEMBERS)
    nodes = {node.member: node for node in run.nodes.values()}
    checked: list[str] = []

    def look(at: Exchange) -> None:
        if isinstance(at.request, SurvivorsNotice):
            heads = heads_of(nodes, at.request.run)
            assert body_at(at) == body_of(at.node, at.request.run, heads)
            checked.append(at.step)

    watched(run).hostile = look
    run.run()
    assert len(checked) == 6 * len(MEMBERS)
    honest_to_the_end(run)


def test_a_joined_node_consents_to_this_run_alone(tmp_path: Path) -> None:
    run = federation(tmp_path, MEMBERS)
    node = next(iter(run.nodes.values()))
    data = run.manifest.to_bytes()
    signature = run.launcher.sign(SIGNING_DOMAIN, data)
    reply, _ = node.handle(Invite(manifest=data, signature=signature))
    assert isinstance(reply, Joined)
    public = node._settings.identity.public
    digest = run.manifest.digest()
    verify_signature(public, CONSENT_DOMAIN, digest, reply.consent)
    other = replace(run.manifest, run="another-run").digest()
    for domain, message in ((CONSENT_DOMAIN, other), (SIGNING_DOMAIN, digest)):
        with pytest.raises(ProtocolError):
            verify_signature(public, domain, message, reply.consent)


def test_a_name_that_cannot_be_printed_breaks_no_node(tmp_path: Path) -> None:
    """The refusal of such a run is on record like any other."""
    run = federation(tmp_path, MEMBERS)
    node = next(iter(run.nodes.values()))
    spy = Identity.create(system_bytes).public.hex()
    manifest = replace(run.manifest, directory={**run.manifest.directory, "spy\x07\u200b": spy})
    data = manifest.to_bytes()
    with pytest.raises(RefusedError, match="not told of at its enrolment"):
        node.handle(Invite(manifest=data, signature=run.launcher.sign(SIGNING_DOMAIN, data)))
    last = list(entries_of(node._ledger.leaves()))[-1]
    assert last.kind == "run.refused"
    assert str(last.body["reason"]).startswith("The run names spy with a key")
