"""What a dishonest coordinator, or whoever gets at its disk and key, tries against the ledger.

An insider here holds the key that signs the ledger. It can write any past, hash it and sign it. It
does not hold the keys of members, launchers and witnesses. `careless` witnesses sign what they are
shown; they are there to see what the rest still finds.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.ledgers import (
    COORDINATOR,
    COSIGNED_S,
    LAUNCHER,
    NAMES,
    NO_MODEL,
    ORIGIN,
    TEST,
    WATCH,
    Line,
    Nodes,
    Script,
    begun,
    bundle_of,
    chained,
    changed,
    coordinator_log,
    digest,
    head_of,
    key_of,
    ledger_of,
    rebuilt,
    rotation,
    started,
    told,
    without,
)

from federation.evidence import Evidence, LedgerView, to_bundle
from federation.ledger_recorder import LedgerRecorder
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.identity import Identity
from privacy.ledger import EMPTY_HEAD, Entry, LedgerHead, next_entry, parse_leaf
from privacy.ledger.bundle import Bundle, Log
from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.ledger.keys import cosigner_key, log_key
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.merkle import consistency_proof
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append
from privacy.ledger.trust import TrustPolicy
from privacy.ledger.witness import Witness
from privacy.randomness import system_bytes
from privacy.sum_context import ACCEPTED_DOMAIN, SURVIVORS_DOMAIN
from privacy.verify import Verdict, verify_bundle

MEMBERS = NAMES[:3]
NODES = Nodes(MEMBERS)


def script(nodes: Nodes | None = None) -> Script:
    """An honest run up to its first round."""
    return Script("r", MEMBERS, nodes=nodes).gather().statistics(1)


HONEST = ledger_of(script(NODES).train().finish().register(), ticks_ms=10)
SIZE = len(HONEST)
HEAD = head_of(HONEST)


def place_of(kind: str, **fields: object) -> int:
    """The place of the first honest entry that says this."""
    return next(
        one.index for one in HONEST if one.kind == kind and fields.items() <= dict(one.body).items()
    )


START, DECLARED = place_of("run.started"), place_of("data.declared")
CONSENTED, KEYS = place_of("run.consented"), place_of("keys.agreed")
FIRST, MODEL = place_of("sum.reserved"), place_of("model.agreed")
RESERVED, SUM = place_of("sum.reserved", step=UPDATE), place_of("sum.opened", step=UPDATE)
ACCEPTED, COMMITTED = place_of("sum.accepted", step=UPDATE), place_of("round.committed")
FINISHED, REGISTERED = place_of("run.finished"), place_of("model.registered")


def insiders(entries: Sequence[Entry]) -> Bundle:
    """What an insider shows: signed by the ledger's key, and cosigned by nobody."""
    return bundle_of(entries, NODES, states={len(entries): ()})


def careless(entries: Sequence[Entry]) -> Bundle:
    """The same, and every member cosigned it without having looked at what it saw before."""
    return bundle_of(entries, states={len(entries): MEMBERS})


def verify(
    bundle: Bundle, heads: Iterable[LedgerHead] = (), policy: TrustPolicy | None = None
) -> Verdict:
    return verify_bundle(bundle, heads={ORIGIN: list(heads)}, policy=policy)


def later(entries: Sequence[Entry], place: int) -> list[Entry]:
    """The ledger written anew with one entry, and all after it, a moment later."""
    rest = (replace(one, time_ms=one.time_ms + 1) for one in entries[place:])
    return rebuilt([*entries[:place], *rest])


def test_without_an_attack_the_same_entries_hold() -> None:
    verdict = verify(bundle_of(HONEST, NODES), [HEAD])
    assert (verdict.runs, verdict.rounds, verdict.releases, verdict.opened) == (1, 1, 2, 2)
    # the launcher's, each member's consent, and three for each of two sums
    assert verdict.signatures == 1 + (1 + 2 * 3) * len(MEMBERS)
    assert verdict.missing == ()
    assert rebuilt(HONEST) == HONEST
    assert verify(careless(HONEST)).root == verdict.root


# --- the insider ---

# What an insider can do to one entry, so that all of the rest still fits the table.
REWRITES: dict[str, Callable[[int], list[Entry]]] = {
    "changed": lambda place: later(HONEST, place),
    "dropped": lambda place: without(HONEST, place),
    "rolled back": lambda place: list(HONEST[:place]),
    "stuttered": lambda place: rebuilt([*HONEST[: place + 1], *HONEST[place:]]),
}
EVERY = [
    (how, place)
    for how in REWRITES
    for place in range(SIZE)
    if not (how == "rolled back" and place == 0)
]


@pytest.mark.parametrize(("how", "place"), EVERY)
def test_one_witness_that_remembers_one_head_finds_any_rewriting(how: str, place: int) -> None:
    """All others may have signed it anew, all members among them: see `careless`."""
    anew = careless(REWRITES[how](place))
    for size in range(place + 1, SIZE + 1):
        with pytest.raises(NotVerifiedError):
            verify(anew, [head_of(HONEST, size)])


@pytest.mark.parametrize(("how", "place"), EVERY)
def test_one_witness_does_not_cosign_any_rewriting(how: str, place: int, tmp_path: Path) -> None:
    """Nor does a policy that asks for it pass, then."""
    rewritten = REWRITES[how](place)
    witness = witness_at(tmp_path / "seen", HONEST)
    cosigned = cosignature(witness, rewritten)
    # what only goes on from what it saw is no rewriting, and fails by itself
    assert cosigned is None or rewritten[:SIZE] == HONEST
    key = cosigner_key("witness", key_of("witness").public)
    policy = TrustPolicy(logs=(), witnesses={"witness": key}, quorum="witness")
    verify(bundle_of(HONEST, states={SIZE: (*MEMBERS, "witness")}), policy=policy)
    with pytest.raises(NotVerifiedError):
        verify(careless(rewritten), policy=policy)
    # a witness that never saw the ledger before cosigns whatever is signed
    assert cosignature(witness_at(tmp_path / "new", []), rewritten) is not None


def witness_at(path: Path, seen: Sequence[Entry]) -> Witness:
    """A witness that cosigned the honest ledger at its end, if at all."""
    key = cosigner_key("witness", key_of("witness").public)
    witness = Witness(path, key=key, sign=key_of("witness").sign_note)
    witness.trust(log_key(ORIGIN, key_of(COORDINATOR).public), origin=ORIGIN)
    if seen:
        note = coordinator_log(seen, {len(seen): ()}).checkpoints[0]
        witness.cosign(note, old=0, proof=(), time_s=COSIGNED_S)
    return witness


def cosignature(witness: Witness, entries: Sequence[Entry]) -> object | None:
    """What the witness signs when it is shown these entries, with the best proof there is."""
    note = coordinator_log(entries, {len(entries): ()}).checkpoints[0]
    seen = witness.seen(ORIGIN)
    tree = MemoryLedger(one.leaf() for one in entries)
    old = min(seen, len(entries))
    try:
        return witness.cosign(
            note, old=seen, proof=consistency_proof(tree.node, old, len(entries)), time_s=COSIGNED_S
        )
    except NotVerifiedError:
        return None


@pytest.mark.parametrize("place", range(SIZE))
def test_without_any_witness_a_rewriting_is_not_found(place: int) -> None:
    """The twin: this is why there are witnesses. No member signed when it was."""
    anew = careless(later(HONEST, place))
    assert verify(anew).leaves == SIZE
    assert verify(anew, [head_of(HONEST, size) for size in range(place + 1)]).leaves == SIZE


# Without these, nothing after them holds; nothing is built upon the others.
LOOSE = (place_of("rules.checked"), REGISTERED)


@pytest.mark.parametrize("place", range(SIZE))
def test_without_any_witness_the_grammar_still_finds_what_is_dropped(place: int) -> None:
    anew = careless(without(HONEST, place))
    if place in LOOSE:
        assert verify(anew).leaves == SIZE - 1
    else:
        with pytest.raises(NotVerifiedError, match=r"^step [56] "):
            verify(anew)


@pytest.mark.parametrize("place", range(1, SIZE))
def test_without_any_witness_a_ledger_rolled_back_is_not_found(place: int) -> None:
    assert verify(careless(HONEST[:place])).leaves == place


@pytest.mark.parametrize("how", REWRITES)
def test_members_that_cosign_nothing_else_stand_in_the_way_of_any_rewriting(how: str) -> None:
    """An insider alone shows no ledger in which a sum was opened: it needs two thirds anew."""
    for place in range(1, SIZE):
        anew = REWRITES[how](place)
        opened = any(one.kind == "sum.opened" for one in anew)
        if opened:
            with pytest.raises(NotVerifiedError):
                verify(insiders(anew))
            few = bundle_of(anew, NODES, states={len(anew): MEMBERS[:2]})
            with pytest.raises(NotVerifiedError):
                verify(few)


@pytest.mark.parametrize("how", REWRITES)
def test_the_honest_cosignatures_do_not_fit_any_rewriting(how: str) -> None:
    """The insider moves what members did cosign over to the ledger that they did not see."""
    honest = coordinator_log(HONEST)
    for place in range(1, SIZE):
        anew = REWRITES[how](place)
        log = replace(coordinator_log(anew), checkpoints=honest.checkpoints)
        with pytest.raises(NotVerifiedError):
            verify(replace(insiders(anew), logs=(log,)))


@pytest.mark.parametrize("place", range(RESERVED, SIZE))
def test_a_rewriting_after_what_members_cosigned_is_the_ledgers_stated_limit(place: int) -> None:
    """They cosign each sum before it is opened; what comes after is cosigned with the next."""
    anew = later(HONEST, place)
    known = {RESERVED + 1: MEMBERS, len(anew): ()}
    if place > RESERVED:
        assert verify(bundle_of(anew, states=known)).leaves == SIZE
    honest = coordinator_log(HONEST, known).checkpoints[0]
    assert (coordinator_log(anew, known).checkpoints[0] == honest) == (place > RESERVED)


def test_nodes_own_ledgers_find_a_sum_that_was_left_out() -> None:
    """No witness, and careless members: what the nodes wrote down themselves is left."""
    for kept in range(1, SIZE):
        rolled_back = HONEST[:kept]
        bundle = bundle_of(rolled_back, NODES, states={kept: MEMBERS})
        opened = any(one.index == SUM for one in rolled_back)
        if opened:
            assert verify(bundle).leaves == kept
        else:
            with pytest.raises(NotVerifiedError, match=r"^step 9 .*accepted here, and"):
                verify(bundle)


def heads_told() -> dict[str, dict[str, object]]:
    found = HONEST[RESERVED].body["nodes"]
    assert isinstance(found, dict)
    return {member: dict(head) for member, head in found.items()}


def test_what_a_node_said_of_its_ledger_cannot_be_changed_without_its_key() -> None:
    heads = heads_told()
    size, root = int(str(heads["bank"]["leaves"])), str(heads["bank"]["root"])
    context = bytes.fromhex(str(HONEST[RESERVED].body["context"]))
    for other in (
        LedgerHead(size, "a" * 64),
        LedgerHead(size - 1, root),
        LedgerHead(size + 1000, root),
    ):
        forged = {**heads["bank"], "leaves": other.leaves, "root": other.root}
        with pytest.raises(NotVerifiedError, match=r"^step 6 .*signature of bank does not hold"):
            verify(rewritten(RESERVED, nodes={**heads, "bank": forged}))
        # with the bank's own key, it is still not what the bank's ledger was
        signed = {**heads, "bank": told("bank", context, other)}
        anew = changed(HONEST, RESERVED, nodes=signed)
        with pytest.raises(NotVerifiedError, match=r"^step 9 .*ledger of bank"):
            verify(bundle_of(anew, NODES, states={SIZE: MEMBERS}))
        assert verify(careless(anew)).missing == tuple(MEMBERS)
    # nor does the head of another sum, or of another member, do for this one
    earlier = HONEST[FIRST].body["nodes"]
    assert isinstance(earlier, dict)
    for moved in (earlier["bank"], heads["broker"]):
        with pytest.raises(NotVerifiedError, match=r"^step 6 .*signature of bank does not hold"):
            verify(rewritten(RESERVED, nodes={**heads, "bank": moved}))


@pytest.mark.parametrize("how", REWRITES)
def test_one_node_that_cosigned_finds_any_rewriting_by_its_own_ledger(how: str) -> None:
    """What it cosigned is an entry there; nobody else remembers anything, and all sign anew."""
    for place in range(SIZE):
        if how == "rolled back" and place == 0:
            continue
        anew = REWRITES[how](place)
        for size in (place + 1, SIZE):
            nodes = cosigning(size)
            with pytest.raises(NotVerifiedError):
                verify(bundle_of(anew, nodes, states={len(anew): MEMBERS}))
    # and the honest ledger is what it cosigned
    for size in range(1, SIZE + 1):
        verdict = verify(bundle_of(HONEST, cosigning(size), states={SIZE: MEMBERS}))
        assert [node.witnessed for node in verdict.nodes] == [1]


def cosigning(size: int) -> list[Log]:
    """The ledger of one node that took part in nothing, and cosigned the honest ledger once."""
    nodes = Nodes(["witness"])
    nodes.cosign("witness", head_of(HONEST, size))
    return nodes.logs()


@pytest.mark.parametrize("place", range(SIZE - 1))
def test_a_node_that_cosigned_something_older_does_not_find_it(place: int) -> None:
    """The twin."""
    anew = later(HONEST, place + 1)
    verify(bundle_of(anew, cosigning(place + 1), states={SIZE: MEMBERS}))


# --- the members' signatures ---


def rewritten(place: int, **changes: object) -> Bundle:
    """The whole ledger written anew after a change, as whoever has the disk and the key can do.

    The members cosign it, as if they remembered nothing; all that is left is what they signed then.
    """
    return careless(changed(HONEST, place, **changes))


def test_a_receipt_cannot_be_made_smaller_afterwards() -> None:
    receipt = HONEST[RESERVED].body["receipt"]
    assert isinstance(receipt, dict)
    for smaller in (
        {"values": 1},
        {"mechanism": "gaussian", "share": 100.0, "clip": 1.0},
        {"cohort": "test"},
        {"purpose": "nothing"},
    ):
        with pytest.raises(NotVerifiedError, match=f"^step 6 .*entry {RESERVED}: the receipt is"):
            verify(rewritten(RESERVED, receipt={**receipt, **smaller}))


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_cannot_be_written_into_or_out_of_a_sum(member: str) -> None:
    fewer = [name for name in MEMBERS if name != member]
    for members in (fewer, [*MEMBERS, "spy"], list(MEMBERS[::-1])):
        with pytest.raises(NotVerifiedError, match=f"^step 6 .*entry {SUM}: "):
            verify(rewritten(SUM, members=members))
    nodes = HONEST[RESERVED].body["nodes"]
    assert isinstance(nodes, dict)
    left = {name: head for name, head in nodes.items() if name != member}
    with pytest.raises(NotVerifiedError, match=f"^step 6 .*entry {SUM}: .*did not come"):
        verify(rewritten(RESERVED, nodes=left))


@pytest.mark.parametrize(
    ("place", "changes", "sentence"),
    [
        (START, {"name": "harmless"}, "the manifest says something else of the run's name"),
        (START, {"task": "claims"}, "the manifest says something else of the run's task"),
        (START, {"minimum": 1}, "the manifest says something else of the run's minimum"),
        (START, {"minimum": 4}, "the manifest says something else of the run's minimum"),
        (START, {"group_size": 1}, "the manifest says something else of the run's group_size"),
        (
            START,
            {"protection": "clear"},
            "the manifest says something else of the run's protection",
        ),
        (START, {"manifest": "a" * 64}, "the manifest has another hash"),
        (START, {"document": "{}"}, "the run's document is no manifest"),
        (START, {"launcher": "a" * 64}, "the launcher did not sign"),
        (START, {"launcher": key_of(COORDINATOR).public.hex()}, "the launcher did not sign"),
        (START, {"signature": "a" * 128}, "the launcher did not sign"),
        (DECLARED, {"contract": "a" * 64}, "another data contract"),
        (DECLARED, {"unit": "window"}, "protects another unit"),
        (CONSENTED, {"member": "spy"}, "spy is no member"),
        (CONSENTED, {"signature": "a" * 128}, "signature of .* does not hold"),
        (KEYS, {"roster": "a" * 64}, "context"),
        (KEYS, {"fingerprint": "a" * 64}, "context"),
        (MODEL, {"model": "a" * 64}, "another model"),
        (MODEL, {"values": 11}, "another number of values"),
        (RESERVED, {"asked": list(MEMBERS[:2])}, "a node answered that was not asked"),
        (RESERVED, {"schema": "a" * 64}, "context"),
        (RESERVED, {"model": "a" * 64}, "another model"),
        (RESERVED, {"context": "a" * 64}, "context"),
        (RESERVED, {"protection": "clear"}, "another protection"),
        (RESERVED, {"step": TEST}, "out of place"),
        (RESERVED, {"step": WATCH, "round": 0}, "context"),
        (SUM, {"context": "a" * 64}, "not reserved"),
        (SUM, {"aggregate": "a" * 64}, "signature of .* does not hold"),
        (ACCEPTED, {"model": "a" * 64}, "signature of .* does not hold"),
        (COMMITTED, {"model_before": "a" * 64}, "another model"),
        (COMMITTED, {"model_after": "a" * 64}, "another model"),
        (FINISHED, {"rounds": 0}, "another round"),
        (FINISHED, {"model": NO_MODEL}, "another model"),
        (REGISTERED, {"model": "a" * 64}, "another model"),
    ],
)
def test_without_the_members_keys_no_past_can_be_written_that_holds(
    place: int, changes: dict[str, object], sentence: str
) -> None:
    """Nobody remembers a head here: the signatures alone speak."""
    assert verify(rewritten(place)).leaves == SIZE
    with pytest.raises(NotVerifiedError, match=f"^step 6 .*{sentence}"):
        verify(rewritten(place, **changes))


def with_manifest(launcher: Identity, **changes: object) -> list[Entry]:
    """The whole ledger under another manifest that somebody signed, all of it said as that says."""
    manifest = replace(Script("r", MEMBERS).manifest, **changes)  # type: ignore[arg-type]
    said = {"run": manifest.run, **started(manifest, launcher)}
    anew = changed(HONEST, START, **said)
    return changed(anew, DECLARED, contract=manifest.contract, unit=manifest.unit)


OTHERS: list[dict[str, object]] = [
    {"name": "harmless"},
    {"task": "claims"},
    {"unit": "policyholder"},
    {"contract": "a" * 64},
    {"minimum_cohort": 1},
    {"group_size": 1},
    {"protection": "clear"},
    {"node_settings": {}},
    {"coordinator_settings": {}},
]


@pytest.mark.parametrize("changes", OTHERS)
def test_another_manifest_is_none_that_members_consented_to(changes: dict[str, object]) -> None:
    """Everything fits the document, and a launcher signed it; the members signed another."""
    verify(careless(with_manifest(key_of(LAUNCHER))))
    for launcher in (key_of(LAUNCHER), key_of(COORDINATOR)):
        with pytest.raises(
            NotVerifiedError, match=rf"^step 6 .*entry {CONSENTED}: the signature of bank does not"
        ):
            verify(careless(with_manifest(launcher, **changes)))


@pytest.mark.parametrize("changes", OTHERS)
def test_another_manifest_is_in_no_context_that_members_signed(changes: dict[str, object]) -> None:
    """Even if all of them consented to both."""
    manifest = replace(Script("r", MEMBERS).manifest, **changes)  # type: ignore[arg-type]
    anew = with_manifest(key_of(LAUNCHER), **changes)
    for place in range(CONSENTED, CONSENTED + len(MEMBERS)):
        member = str(HONEST[place].body["member"])
        signature = key_of(member).sign("consent", manifest.digest()).hex()
        anew = changed(anew, place, signature=signature)
    with pytest.raises(NotVerifiedError, match=rf"^step 6 .*entry {FIRST}: .*(protection|context)"):
        verify(careless(anew))


def test_what_no_member_signs_can_be_rewritten_where_nobody_remembers_a_head() -> None:
    """The stated limit: sizes, times, and what is declared beside the manifest."""
    for place, changes in (
        (DECLARED, {"classes": {}}),
        (DECLARED, {"retention_days": None}),
        (place_of("rules.checked"), {"rules": "a" * 64}),
        (place_of("rules.checked"), {"warnings": ["none"]}),
        (KEYS, {"public_bytes": 1}),
        (MODEL, {"architecture": "a" * 64}),
        (SUM, {"payload_bytes": 1}),
        (REGISTERED, {"file": "a" * 64}),
        (REGISTERED, {"card": "a" * 64}),
    ):
        bundle = rewritten(place, **changes)
        verify(bundle)
        for size in (place + 1, SIZE):
            with pytest.raises(NotVerifiedError, match="another ledger"):
                verify(bundle, [head_of(HONEST, size)])


def test_which_data_a_run_was_about_is_found_by_the_nodes_that_it_asked() -> None:
    """No member signs it, and each has reserved of its own data set."""
    anew = changed(HONEST, DECLARED, dataset="harmless")
    verify(careless(anew))
    with pytest.raises(NotVerifiedError, match=r"^step 9 .*is of another data set"):
        verify(bundle_of(anew, NODES, states={SIZE: MEMBERS}))


def test_a_coordinator_with_keys_of_its_own_cannot_sign_for_members() -> None:
    """It can name members with keys that it made; then their manifest is another."""
    made = {member: Identity.create(system_bytes).public.hex() for member in MEMBERS}
    honest = {member: key_of(member).public.hex() for member in MEMBERS}
    for members in (made, {**honest, MEMBERS[2]: made[MEMBERS[2]]}):
        with pytest.raises(NotVerifiedError, match="something else of the run's members"):
            verify(rewritten(START, members=members))
        with pytest.raises(NotVerifiedError, match=r"signature of \w+ does not hold"):
            verify(careless(with_manifest(key_of(LAUNCHER), directory=members)))


def test_a_ledger_that_was_made_up_as_a_whole_is_found_by_who_knows_its_key() -> None:
    """It holds by itself, whoever made up all keys in it: an auditor's policy names the ledger."""
    verify(careless(HONEST))
    known = log_key(ORIGIN, key_of(COORDINATOR).public)
    verify(careless(HONEST), policy=TrustPolicy(logs=(known,)))
    real = log_key(ORIGIN, key_of("second key").public)
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*knows none of this ledger's keys"):
        verify(careless(HONEST), policy=TrustPolicy(logs=(real,)))


def test_a_thief_of_an_old_key_does_not_write_what_the_new_one_signs() -> None:
    lines: list[Line] = [(one.kind, dict(one.body)) for one in HONEST]
    entries = chained([*lines, rotation(COORDINATOR, "second key")])
    verify(bundle_of(entries, states={SIZE: MEMBERS, SIZE + 1: ()}))
    # signed on with the old one, as if nothing had been rotated
    longer = chained([*lines, ("writer.began", {"writer": "thief"})])
    seen = head_of(entries)
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*another ledger"):
        verify(careless(longer), [seen])
    # or in the rotated ledger
    log = replace(
        coordinator_log(entries), checkpoints=coordinator_log(longer).checkpoints, proofs=()
    )
    with pytest.raises(NotVerifiedError, match=r"^step [45] "):
        verify(replace(careless(entries), logs=(log,)))


def test_the_contexts_of_another_manifest_are_not_what_members_signed() -> None:
    """The coordinator writes the first sum's context anew as well; then the signatures are old."""
    forged = Script("r", MEMBERS)
    forged.manifest = replace(forged.manifest, protection="clear")
    forged.gather().reserve(STATISTICS, 0).open()
    verify(careless(ledger_of(forged)))  # if members had signed it
    kind, body = forged.lines.pop()
    opened = place_of("sum.opened")
    forged.lines.append((kind, {**body, "signatures": signatures_of(opened)}))
    with pytest.raises(NotVerifiedError, match=r"signature of \w+ does not hold"):
        verify(careless(ledger_of(forged)))


def signatures_of(place: int) -> dict[str, str]:
    found = HONEST[place].body["signatures"]
    assert isinstance(found, dict)
    return dict(found)


def test_signatures_of_one_sum_do_not_hold_for_another() -> None:
    earlier, accepted = place_of("sum.opened"), place_of("sum.accepted")
    for place, other in ((SUM, earlier), (SUM, ACCEPTED), (ACCEPTED, SUM), (ACCEPTED, accepted)):
        with pytest.raises(NotVerifiedError, match="does not hold"):
            verify(rewritten(place, signatures=signatures_of(other)))
    swapped = dict(zip(MEMBERS, reversed(signatures_of(SUM).values()), strict=True))
    with pytest.raises(NotVerifiedError, match="does not hold"):
        verify(rewritten(SUM, signatures=swapped))
    for place in (SUM, ACCEPTED):
        fewer = dict(list(signatures_of(place).items())[:2])
        with pytest.raises(NotVerifiedError, match="2 members signed and more than two thirds, 3"):
            verify(rewritten(place, signatures=fewer))
    consents = [str(HONEST[CONSENTED + index].body["signature"]) for index in range(2)]
    with pytest.raises(NotVerifiedError, match="does not hold"):
        verify(rewritten(CONSENTED, signature=consents[1]))


def test_the_survivors_of_an_ungrown_sum_cannot_be_shown_as_those_of_another() -> None:
    """Two sets of survivors for one sum need two thirds of the signatures each."""
    names = NAMES
    first = Script("r", names).gather().statistics(1).reserve(UPDATE, 1)
    second = first.copy()
    first.open(members=names[:4])
    second.open(members=names[1:])
    for shown in (first, second):
        verify_bundle(bundle_of(ledger_of(shown)))
    # Both hold alone only because honest members 1 to 3 signed twice, which no node does.
    common = set(names[:4]) & set(names[1:])
    assert 3 * len(common) > len(names)
    mixed = first.copy()
    kind, body = mixed.lines.pop()
    mixed.lines.append((kind, {**body, "signatures": second.lines[-1][1]["signatures"]}))
    with pytest.raises(NotVerifiedError, match=r"not one of those|does not hold"):
        verify_bundle(bundle_of(ledger_of(mixed)))


# --- order, and what is missing ---


@pytest.mark.parametrize("first", range(SIZE - 1))
def test_two_entries_cannot_change_places(first: int) -> None:
    swapped = list(HONEST)
    swapped[first], swapped[first + 1] = swapped[first + 1], swapped[first]
    with pytest.raises(NotVerifiedError, match=rf"^step [34] .*entry {first}|^step 4"):
        verify(careless(swapped))
    with pytest.raises(NotVerifiedError):
        verify(careless(rebuilt_in_order(swapped)), [HEAD])


def rebuilt_in_order(entries: Sequence[Entry]) -> list[Entry]:
    """Written anew in this order, with the times that belong to it."""
    times = sorted(one.time_ms for one in entries)
    return rebuilt(
        replace(one, time_ms=time_ms) for one, time_ms in zip(entries, times, strict=True)
    )


def test_a_ledger_rolled_back_to_before_a_release_is_caught_by_whoever_remembers() -> None:
    for kept in range(1, SIZE):
        short = careless(HONEST[:kept])
        verify(short)
        with pytest.raises(NotVerifiedError, match=f"somebody remembers {SIZE} entries"):
            verify(short, [EMPTY_HEAD, HEAD])


def test_a_ledger_begun_anew_is_caught_by_whoever_remembers() -> None:
    other = careless(later(HONEST, 0))
    verify(other, [EMPTY_HEAD])
    for size in range(1, SIZE + 1):
        with pytest.raises(NotVerifiedError, match="another ledger"):
            verify(other, [head_of(HONEST, size)])


def test_two_faces_cannot_both_hold_the_same_heads() -> None:
    """The coordinator shows the regulator one ledger and the members another."""
    base = HONEST[:SUM]
    body = dict(HONEST[SUM].body)
    faces = [
        [
            *base,
            next_entry(
                base[-1], "sum.opened", {**body, "payload_bytes": count}, time_ms=2000, epoch=1
            ),
        ]
        for count in (1, 2)
    ]
    heads = [head_of(face) for face in faces]
    for face, head in zip(faces, heads, strict=True):
        verify(careless(face), [head_of(base), head])
        with pytest.raises(NotVerifiedError, match="another ledger"):
            verify(careless(face), heads)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        # An unrecorded release: a sum that is on record only once it is open, or not at all.
        (lambda: unreserved(script(), UPDATE, 1), "was not reserved"),
        (lambda: script().release(WATCH, 0).reserve(TEST, 0), "was not accepted"),
        # Members never saw it, so they could not have refused it.
        (lambda: script().release(UPDATE, 1).commit(), "was accepted"),
        # The same round opened twice, over other vectors.
        (lambda: script().release(UPDATE, 1).accept().reserve(UPDATE, 1), "opened before"),
        (
            lambda: script().reserve(UPDATE, 1).reserve(UPDATE, 1, schema="a" * 64).open().open(),
            "two sums",
        ),
        # One member alone, or all but one the second time.
        (lambda: script().reserve(UPDATE, 1).open(members=MEMBERS[:1]), "minimum"),
        (
            lambda: (
                Script()
                .gather()
                .release(STATISTICS, 0)
                .accept()
                .release(STATISTICS, 1, members=NAMES[1:])
            ),
            "a few members alone",
        ),
        # On record as masked what went in the clear, and the other way round.
        (lambda: script().reserve(UPDATE, 1, protection="clear"), "another protection"),
        # In the name of others, who never sent a vector.
        (
            lambda: script().reserve(UPDATE, 1, arrived=MEMBERS[:2]).open(members=MEMBERS),
            "did not come",
        ),
        # Somebody else's run.
        (lambda: script().reserve(UPDATE, 1, run="q"), "never started"),
        # Less than the members agreed on, asked of a part of them.
        (lambda: script().reserve(UPDATE, 1, asked=MEMBERS[:2]), "does not ask all"),
        # A model that nobody trained, and one that nobody accepted handed out.
        (lambda: script().reserve(UPDATE, 1, model=digest("mine")), "another model"),
        (lambda: script().release(TEST, 0).accept(model=digest("mine")), "another model"),
        (lambda: script().train().finish().register(model=digest("mine")), "another model"),
        (lambda: script().train().register(), "after its run has finished"),
        # A member that never agreed to take part.
        (
            lambda: (
                Script("r", MEMBERS)
                .start()
                .declare()
                .consent(MEMBERS[:2])
                .agree_on_keys()
                .reserve(STATISTICS, 0)
            ),
            "did not consent",
        ),
        # What a node said of its ledger with an earlier sum.
        (lambda: stale_head(script().reserve(UPDATE, 1)), "does not hold"),
        # What was signed for one purpose, shown for another.
        (lambda: script().release(UPDATE, 1, domain=ACCEPTED_DOMAIN), "does not hold"),
        (lambda: script().release(UPDATE, 1).accept(domain=SURVIVORS_DOMAIN), "does not hold"),
        (lambda: script().release(UPDATE, 1, domain="sealed-vector"), "does not hold"),
    ],
)
def test_an_entry_that_was_never_due_is_named_though_the_tree_holds(
    make: Callable[[], Script], sentence: str
) -> None:
    entries = ledger_of(make())
    verify_bundle(bundle_of(entries[:-1]))
    with pytest.raises(NotVerifiedError, match=rf"entry {len(entries) - 1}: .*{sentence}"):
        verify_bundle(bundle_of(entries))


def unreserved(one: Script, step: str, number: int) -> Script:
    return one.open(of=one.copy().reserve(step, number).pending[-1])


def stale_head(one: Script) -> Script:
    """With the update stands what the bank told with the statistics."""
    first = next(body for kind, body in one.lines if kind == "sum.reserved")["nodes"]
    kind, body = one.lines.pop()
    nodes = body["nodes"]
    assert isinstance(first, dict)
    assert isinstance(nodes, dict)
    one.lines.append((kind, {**body, "nodes": {**nodes, "bank": first["bank"]}}))
    return one


@pytest.mark.parametrize(
    "smuggle",
    [
        lambda leaf: leaf.replace(b'"kind"', b'"kind" ', 1),
        lambda leaf: leaf.replace(b'{"body"', b'{"body":{},"body"', 1),
        lambda leaf: leaf.replace(b'"index":1', b'"index":1.0', 1),
        lambda leaf: leaf.replace(b'"index":1', b'"index":01', 1),
        lambda leaf: leaf.replace(b'"format":4', b'"format":4.0', 1),
        lambda leaf: leaf.replace(b"demo", b"d\\u0065mo", 1),
        lambda leaf: leaf.replace(b"demo", "d\N{CYRILLIC SMALL LETTER IE}mo".encode(), 1),
        lambda leaf: b"\xef\xbb\xbf" + leaf,
        lambda leaf: leaf + b" ",
        lambda leaf: b" " + leaf,
        lambda leaf: leaf[:-1] + b',"note":"approved"}',
        lambda leaf: leaf + b"\r",
        lambda leaf: b"# approved " + leaf,
        lambda leaf: leaf + leaf,
    ],
)
def test_nothing_can_be_smuggled_in_that_another_reader_takes_otherwise(
    smuggle: Callable[[bytes], bytes],
) -> None:
    """Hashed and signed as it is smuggled in."""
    leaves = [one.leaf() for one in HONEST]
    smuggled = smuggle(leaves[START])
    assert smuggled != leaves[START]
    leaves[START] = smuggled
    anew = [Smuggled(one, leaf) for one, leaf in zip(HONEST, leaves, strict=True)]
    with pytest.raises(NotVerifiedError, match=rf"^step 2 .*entry {START}:"):
        verify(careless(anew))  # type: ignore[arg-type]  # its leaves are all that is asked for


class Smuggled:
    """An entry that is hashed as other bytes."""

    def __init__(self, entry: Entry, leaf: bytes) -> None:
        self.kind, self.body, self.index = entry.kind, entry.body, entry.index
        self._leaf = leaf

    def leaf(self) -> bytes:
        return self._leaf


def test_a_head_of_an_impossible_size_is_refused() -> None:
    bundle = careless(HONEST)
    for leaves, root in (
        (-1, HEAD.root),
        (0, HEAD.root),
        (SIZE, EMPTY_HEAD.root),
        (10**30, HEAD.root),
    ):
        with pytest.raises(NotVerifiedError, match="step 7"):
            verify(bundle, [LedgerHead(leaves, root)])


# --- the disk ---


def recorder(path: Path) -> LedgerRecorder:
    return LedgerRecorder(SqliteLedger(path), key_of(COORDINATOR))


def overwrite(path: Path, place: int, leaf: bytes) -> None:
    """As whoever owns the file can."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER IF EXISTS entry_stays")
        connection.execute("UPDATE entry SET leaf = ? WHERE place = ?", (leaf, place))


def written(path: Path) -> LedgerRecorder:
    """The honest ledger in a file."""
    found = recorder(path)
    for one in HONEST[1:]:
        append(found.store, one.kind, one.body, time_ms=one.time_ms)
    return found


@pytest.mark.parametrize("place", range(1, SIZE))
def test_a_coordinator_signs_no_leaf_that_was_edited_on_its_disk(
    place: int, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.db"
    honest = written(path)
    leaf = list(honest.store.leaves())[place]
    later_leaf = replace(parse_leaf(leaf), time_ms=2**50).leaf()
    for wrong in (later_leaf, leaf + b" ", b"{}", list(honest.store.leaves())[place - 1]):
        overwrite(path, place, wrong)
        with pytest.raises(NotVerifiedError):
            recorder(path).state()
        with pytest.raises(NotVerifiedError):
            honest.state()
    overwrite(path, place, leaf)
    assert honest.state().size == SIZE


def test_a_leaf_that_was_edited_after_it_was_signed_is_found_whatever_was_appended(
    tmp_path: Path,
) -> None:
    """Who signs looks at what is new; what is old is in every later root as it was."""
    path = tmp_path / "ledger.db"
    honest = written(path)
    honest.state()
    leaf = list(honest.store.leaves())[DECLARED]
    edited = leaf.replace(b'"L1":2', b'"L1":0')
    assert edited != leaf
    overwrite(path, DECLARED, edited)
    append(honest.store, "writer.began", {"writer": "another"}, time_ms=2**51)
    state = honest.state()
    honest.store.keep_checkpoint(state.size, state.note)
    view = LedgerView(
        origin=ORIGIN, owner=COORDINATOR, role=COORDINATOR, dataset="", store=honest.store
    )
    evidence = Evidence(federation="x", coordinator=view, nodes=())
    with pytest.raises(NotVerifiedError, match=r"^step 4 .*another root"):
        verify_bundle(to_bundle(evidence, {}))
    # and where it is handed out, all of it is read and hashed anew
    honest.store.drop_checkpoint(state.size)
    with pytest.raises(NotVerifiedError, match="was changed: its entries have other hashes"):
        to_bundle(evidence, {ORIGIN: key_of(COORDINATOR)})


def test_a_ledger_of_another_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    recorder(path)
    with pytest.raises(RefusedError, match="was begun with another key"):
        LedgerRecorder(SqliteLedger(path), key_of("second key"))


def test_a_place_given_to_something_else_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    folder.mkdir()
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "gone" / "ledger")
    kind, body = begun()
    for path in (folder, dangling):
        with pytest.raises(InputError, match=r"^[^\n]+$"):
            append(SqliteLedger(path), kind, body, time_ms=0)
