"""Step 7: who must have cosigned, and what somebody remembers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.ledgers import (
    COORDINATOR,
    NAMES,
    NO_POLICY,
    ORIGIN,
    WATCH,
    Nodes,
    Script,
    begun,
    bundle_of,
    chained,
    data_of,
    digest,
    head_of,
    key_of,
    ledger_of,
    rotation,
    small_run,
    whole_run,
)

from privacy.errors import NotVerifiedError
from privacy.ledger import EMPTY_HEAD, Entry, LedgerHead
from privacy.ledger.bundle import Bundle
from privacy.ledger.checkpoint import with_cosignatures
from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.ledger.keys import cosigner_key, log_key, log_origin
from privacy.ledger.note import Note, NoteSignature, parse_note
from privacy.ledger.trust import TrustPolicy, two_thirds
from privacy.verify import verify_bundle, verify_data

ENTRIES = ledger_of(small_run(names=NAMES))
SIZE = len(ENTRIES)
LAST = max(one.index for one in ENTRIES if one.kind == "sum.reserved")
ENOUGH = NAMES[:4]  # more than two thirds of five


def key_named(name: str) -> str:
    return f"{name}/{key_of(name).public.hex()[:16]}"


# --- members ---


def test_every_opened_sum_is_in_a_state_that_two_thirds_of_its_members_cosigned() -> None:
    for cosigners in (NAMES, ENOUGH, NAMES[1:]):
        verdict = verify_bundle(bundle_of(ENTRIES, states={SIZE: cosigners}))
        assert set(verdict.cosigned) == {key_named(name) for name in cosigners}
    for names in (NAMES[:2], NAMES[:3], [f"m{index:02}" for index in range(12)]):
        entries = ledger_of(small_run(names=names))
        needed = 2 * len(names) // 3 + 1
        verify_bundle(bundle_of(entries, states={len(entries): names[-needed:]}))
        with pytest.raises(
            NotVerifiedError, match=rf"step 7 .*: {needed - 1} of the {len(names)} .*, and {needed}"
        ):
            verify_bundle(bundle_of(entries, states={len(entries): names[1 - needed :]}))


@pytest.mark.parametrize("cosigners", [(), NAMES[:1], NAMES[:3], ("spy", *NAMES[:3])])
@pytest.mark.parametrize("live", [False, True])
def test_fewer_are_too_few(cosigners: Sequence[str], live: bool) -> None:
    count = sum(name in NAMES for name in cosigners)
    with pytest.raises(
        NotVerifiedError,
        match=rf"^step 7 \(witnesses\): entry {LAST}: {count} of the 5 members of run r ",
    ):
        verify_bundle(bundle_of(ENTRIES, states={SIZE: cosigners}), live=live)


def test_who_is_no_member_does_not_count() -> None:
    spies = tuple(f"spy {index}" for index in range(20))
    for cosigners in (spies, (*NAMES[:3], *spies), (COORDINATOR, "launcher", *NAMES[:3])):
        with pytest.raises(NotVerifiedError, match=r"step 7 .*and 4 are needed"):
            verify_bundle(bundle_of(ENTRIES, states={SIZE: cosigners}))
    verdict = verify_bundle(bundle_of(ENTRIES, states={SIZE: (*ENOUGH, *spies)}))
    assert set(verdict.cosigned) == {key_named(name) for name in ENOUGH}


def test_a_member_of_another_run_does_not_count() -> None:
    entries = ledger_of(small_run("p", NAMES[:3]), small_run("q", NAMES[2:]))
    verify_bundle(bundle_of(entries))
    for cosigners, run in ((NAMES[:3], "q"), (NAMES[2:], "p"), (NAMES[1:4], "p")):
        with pytest.raises(NotVerifiedError, match=rf"step 7 .* of the 3 members of run {run} "):
            verify_bundle(bundle_of(entries, states={len(entries): cosigners}))


def test_two_thirds_are_needed_at_one_state_and_not_over_several() -> None:
    """Each of them saw a ledger of its own otherwise."""
    apart = {SIZE - 1: NAMES[:3], SIZE: NAMES[2:]}
    with pytest.raises(NotVerifiedError, match=r"step 7 .*: 3 of the 5 "):
        verify_bundle(bundle_of(ENTRIES, states=apart))
    # and the newest need not be the one
    verify_bundle(bundle_of(ENTRIES, states={SIZE - 1: ENOUGH, SIZE: NAMES[:1]}))
    verify_bundle(bundle_of(ENTRIES, states={SIZE - 1: ENOUGH, SIZE: ()}))


def test_the_state_must_have_the_last_opened_sum_on_record() -> None:
    for size in range(1, SIZE + 1):
        bundle = bundle_of(ENTRIES, states={size: NAMES, SIZE: NAMES if size == SIZE else ()})
        if size > LAST:
            verify_bundle(bundle)
        else:
            with pytest.raises(NotVerifiedError, match=rf"step 7 .*entry {LAST}: 0 of the 5 "):
                verify_bundle(bundle)


@pytest.mark.parametrize("order", [(0, 0), (1, 0)])
def test_in_whatever_order_groups_are_opened_the_last_reservation_counts(
    order: tuple[int, int],
) -> None:
    names = tuple(f"m{place}" for place in range(6))
    script = Script("r", names, group_size=3, minimum=2).begin()
    for group in (names[:3], names[3:]):
        script.reserve(UPDATE, 1, asked=group)
    for which in order:
        script.open(which=which)
    entries = ledger_of(script.accept().commit().stop())
    due = max(one.index for one in entries if one.kind == "sum.reserved")
    verify_bundle(bundle_of(entries, states={due + 1: names, len(entries): ()}))
    with pytest.raises(NotVerifiedError, match=rf"step 7 .*entry {due}: 0 of the 6 "):
        verify_bundle(bundle_of(entries, states={due: names, len(entries): ()}))


def test_a_sum_that_was_reserved_only_needs_no_cosignature() -> None:
    """Nobody helped to open it."""
    script = Script().begin().train()
    script.reserve(UPDATE, 2).stop()
    entries = ledger_of(script)
    opened = max(
        one.index for one in entries if one.kind == "sum.reserved" and one.body["round"] == 1
    )
    verify_bundle(bundle_of(entries, states={opened + 1: NAMES, len(entries): ()}))
    never = ledger_of(Script().gather().reserve(STATISTICS, 0).stop())
    verify_bundle(bundle_of(never, states={len(never): ()}))


def test_each_run_needs_its_own_members_word_whatever_came_after() -> None:
    """Two runs of one coordinator at once: each keeps the state that its members cosigned."""
    first, second = small_run("p", NAMES[:3]), small_run("q", NAMES[2:])
    mixed = [line for pair in zip(first.lines, second.lines, strict=True) for line in pair]
    lines = Script("none")
    lines.lines = mixed
    entries = ledger_of(lines)
    due = {
        run: max(
            one.index for one in entries if one.kind == "sum.reserved" and one.body["run"] == run
        )
        for run in "pq"
    }
    assert due["p"] < due["q"]
    states: dict[int, Sequence[str]] = {due["p"] + 1: NAMES[:3], due["q"] + 1: NAMES[2:]}
    verify_bundle(bundle_of(entries, states={**states, len(entries): ()}))
    for missing, run in ((due["p"] + 1, "p"), (due["q"] + 1, "q")):
        left = {size: names for size, names in states.items() if size != missing}
        with pytest.raises(NotVerifiedError, match=rf"step 7 .*members of run {run} "):
            verify_bundle(bundle_of(entries, states={**left, len(entries): ()}))


def with_line(bundle: Bundle, line: NoteSignature, *, instead: bool = False) -> Bundle:
    """The bundle with one more cosignature under its newest state, or with that one alone."""
    log = bundle.logs[0]
    note = parse_note(log.checkpoints[-1])
    kept = note.signatures[:1] if instead else note.signatures
    changed = Note(note.text, (*kept, line)).to_bytes()
    return replace(bundle, logs=(replace(log, checkpoints=(*log.checkpoints[:-1], changed)),))


def test_a_cosignature_that_does_not_hold_is_refused_and_not_left_out() -> None:
    bundle = bundle_of(ENTRIES, states={SIZE: ENOUGH})
    key = cosigner_key("mill", key_of("mill").public)
    text = parse_note(bundle.logs[0].checkpoints[-1]).text
    time = (1_700_000_000).to_bytes(8, "big")
    good = key_of("mill").sign_note(f"cosignature/v1\ntime 1700000000\n{text}".encode())
    verify_bundle(with_line(bundle, NoteSignature(key.name, key.key_id, time + good)))
    bad = (
        time + bytes(64),
        time + key_of("bank").sign_note(f"cosignature/v1\ntime 1700000000\n{text}".encode()),
        time + key_of("mill").sign_note(text.encode()),  # signed as a log signs
        (1_700_000_001).to_bytes(8, "big") + good,  # at another time
        time + good + b"x",
        good,
    )
    for signature in bad:
        line = NoteSignature(key.name, key.key_id, signature)
        with pytest.raises(NotVerifiedError, match=r"^step 7"):
            verify_bundle(with_line(bundle, line))


def test_a_cosignature_of_an_older_state_is_none_of_a_newer_one() -> None:
    older = bundle_of(ENTRIES, states={SIZE - 1: NAMES, SIZE: ()})
    lines = parse_note(older.logs[0].checkpoints[0]).signatures[1:]
    moved = with_cosignatures(older.logs[0].checkpoints[1], lines)
    log = replace(older.logs[0], checkpoints=(moved,), proofs=())
    with pytest.raises(NotVerifiedError, match=r"^step 7"):
        verify_bundle(replace(older, logs=(log,)))


# --- the policy ---

REGULATOR = cosigner_key("regulator", key_of("regulator").public)
LOG_KEY = log_key(ORIGIN, key_of(COORDINATOR).public)
INSTITUTIONS = {name: cosigner_key(name, key_of(name).public) for name in NAMES}


def strict(also: Sequence[str] = ("regulator",)) -> TrustPolicy:
    """Two thirds of the institutions, and the regulator."""
    return two_thirds([LOG_KEY], {**INSTITUTIONS, "regulator": REGULATOR}, also)


def test_a_policy_may_ask_for_a_regulators_word() -> None:
    seen = bundle_of(ENTRIES, states={SIZE: (*ENOUGH, "regulator")})
    verdict = verify_bundle(seen, policy=strict())
    assert {"regulator", *ENOUGH} <= set(verdict.cosigned)
    unseen = bundle_of(ENTRIES, states={SIZE: NAMES})
    verify_bundle(unseen)
    for live in (False, True):
        with pytest.raises(NotVerifiedError, match=r"^step 7 .*too few witnesses.*regulator"):
            verify_bundle(unseen, policy=strict(), live=live)
    # its word alone is not enough either
    alone = bundle_of(ENTRIES, states={SIZE - 1: NAMES, SIZE: ("regulator", *NAMES[:3])})
    verify_bundle(alone)
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*too few witnesses"):
        verify_bundle(alone, policy=strict())


def test_the_policy_is_about_the_newest_state() -> None:
    old = bundle_of(ENTRIES, states={SIZE - 1: (*NAMES, "regulator"), SIZE: NAMES})
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*regulator"):
        verify_bundle(old, policy=strict())


def test_the_auditors_policy_stands_and_not_the_bundles() -> None:
    unseen = bundle_of(ENTRIES, policy=strict().to_text())
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*regulator"):
        verify_bundle(unseen)
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*regulator"):
        verify_data(data_of(unseen))
    assert verify_bundle(unseen, policy=TrustPolicy(logs=())).leaves == SIZE
    lenient = bundle_of(ENTRIES, policy=NO_POLICY)
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*regulator"):
        verify_data(data_of(lenient), policy=strict())


def test_a_policy_that_knows_another_log_is_not_met() -> None:
    bundle = bundle_of(ENTRIES)
    verify_bundle(bundle, policy=TrustPolicy(logs=(LOG_KEY,)))
    for known in (
        log_key(ORIGIN, key_of("second key").public),
        log_key(log_origin("other", key_of("other").public), key_of("other").public),
        log_key(log_origin("other", key_of(COORDINATOR).public), key_of(COORDINATOR).public),
    ):
        with pytest.raises(NotVerifiedError, match=r"^step 7 .*knows none of this ledger's keys"):
            verify_bundle(bundle, policy=TrustPolicy(logs=(known,)))


def test_a_policy_may_know_many_logs() -> None:
    other = log_key(log_origin("other", key_of("other").public), key_of("other").public)
    verify_bundle(bundle_of(ENTRIES), policy=TrustPolicy(logs=(other, LOG_KEY)))


def test_a_policy_may_know_the_ledger_by_any_key_of_its_history() -> None:
    """Each key signed the one after it, so whoever trusts one trusts the rest."""
    lines = [begun(), *small_run().lines, rotation(COORDINATOR, "second key")]
    entries = chained([*lines, rotation("second key", "third key")])
    keys = [log_key(ORIGIN, key_of(name).public) for name in _KEYS]
    for key in keys:
        verify_bundle(bundle_of(entries), policy=TrustPolicy(logs=(key,)))
    before = chained(lines)
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*knows none"):
        verify_bundle(bundle_of(before), policy=TrustPolicy(logs=(keys[2],)))


_KEYS = (COORDINATOR, "second key", "third key")


@pytest.mark.parametrize(
    "text", ["", "quorum none", "quorum x\n", "quorum none\nquorum none\n", "x\n"]
)
def test_a_bundles_policy_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*the bundle's own policy"):
        verify_bundle(bundle_of(ENTRIES, policy=text))


def test_a_policy_is_not_met_by_a_ledger_without_signed_states() -> None:
    """Live ledgers need none, and whoever deletes them gets around no witness."""
    entries = ledger_of(Script().start())
    bare = bundle_of(entries, states={})
    verify_bundle(bare, live=True)
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*nobody of the policy"):
        verify_bundle(bare, policy=strict(), live=True)


def test_without_the_coordinators_ledger_nobody_has_to_cosign() -> None:
    nodes = Nodes(NAMES[:2])
    small_run(names=NAMES[:2], nodes=nodes)
    bundle = replace(bundle_of(ENTRIES), logs=tuple(nodes.logs()))
    verdict = verify_bundle(bundle)
    assert (verdict.leaves, verdict.root, verdict.runs, verdict.cosigned) == (0, "", 0, {})
    assert [(node.owner, node.releases) for node in verdict.nodes] == [("bank", 2), ("broker", 2)]
    # but an auditor who asks for somebody's word of it does not get it
    for policy in (strict(), TrustPolicy(logs=(LOG_KEY,))):
        with pytest.raises(NotVerifiedError, match=r"^step 7 .*there is none"):
            verify_bundle(bundle, policy=policy)


# --- what somebody remembers ---


def test_heads_must_be_found_at_their_size() -> None:
    heads = [head_of(ENTRIES, size) for size in range(SIZE + 1)]
    assert heads[0] == EMPTY_HEAD
    bundle = bundle_of(ENTRIES)
    verdict = verify_bundle(bundle, heads={ORIGIN: heads})
    assert f"{SIZE + 1} remembered states found" in verdict.steps[6]
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*fewer entries than none"):
        verify_bundle(bundle, heads={ORIGIN: [LedgerHead(-1, heads[-2].root)]})
    for head in (
        LedgerHead(SIZE + 1, heads[-1].root),
        LedgerHead(SIZE, heads[1].root),
        LedgerHead(SIZE - 1, heads[-1].root),
        LedgerHead(0, heads[1].root),
        LedgerHead(-1, heads[-2].root),
        LedgerHead(-SIZE, EMPTY_HEAD.root),
        LedgerHead(10**30, heads[-1].root),
        LedgerHead(SIZE, heads[-1].root.upper()),
        LedgerHead(SIZE, ""),
    ):
        for live in (False, True):
            with pytest.raises(NotVerifiedError, match=r"^step 7"):
                verify_bundle(bundle, heads={ORIGIN: [*heads, head]}, live=live)


def test_a_ledger_that_somebody_remembers_must_be_there() -> None:
    bundle = bundle_of(ENTRIES)
    verify_bundle(bundle, heads={"tacit/x/0": []})
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*tacit/x/0, and it is not here"):
        verify_bundle(bundle, heads={"tacit/x/0": [EMPTY_HEAD]})


def test_heads_of_nodes_ledgers_are_found_as_well() -> None:
    nodes = Nodes()
    bundle = bundle_of(ledger_of(whole_run(nodes=nodes)), nodes)
    heads: dict[str, list[LedgerHead]] = {}
    for log in bundle.logs[1:]:
        heads[log.origin] = [_head_of(log.leaves, size) for size in (0, 1, 7, len(log.leaves))]
    verify_bundle(bundle, heads=heads)
    origin = bundle.logs[2].origin
    wrong = replace(heads[origin][2], root=digest("other"))
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*entry 6: somebody remembers another"):
        verify_bundle(bundle, heads={**heads, origin: [wrong]})


def _head_of(leaves: Sequence[bytes], size: int) -> LedgerHead:
    from privacy.ledger.merkle import leaf_hash, root_of

    return LedgerHead(size, root_of(leaf_hash(leaf) for leaf in leaves[:size]).hex())


def test_the_order_of_witnesses_does_not_change_the_verdict() -> None:
    one = verify_bundle(bundle_of(ENTRIES, states={SIZE: NAMES}))
    other = verify_bundle(bundle_of(ENTRIES, states={SIZE: NAMES[::-1]}))
    assert list(one.cosigned.items()) == list(other.cosigned.items())
    assert one == other


def of(entries: Sequence[Entry], **fields: Any) -> int:  # noqa: ANN401 - any field of an entry
    """The place of the one entry that says this."""
    (place,) = (
        one.index for one in entries if fields.items() <= {**one.body, "kind": one.kind}.items()
    )
    return place


def test_many_runs_kept_many_states_and_each_is_looked_at_once() -> None:
    """Ten runs and eleven states; one that is missing is noticed."""
    scripts = [small_run(f"r{index}", NAMES[:3]) for index in range(10)]
    entries = ledger_of(*scripts)
    due = {
        of(entries, kind="sum.reserved", step=UPDATE, run=f"r{index}") + 1: NAMES[:3]
        for index in range(10)
    }
    verdict = verify_bundle(bundle_of(entries, states={**due, len(entries): ()}))
    assert verdict.runs == 10
    last = max(due)
    with pytest.raises(NotVerifiedError, match=r"step 7 .*members of run r9 "):
        verify_bundle(bundle_of(entries, states={**due, last: (), len(entries): ()}))


def test_a_validation_undone_is_due_as_well() -> None:
    script = Script().begin()
    model = script.model
    script.train().release(WATCH, 1).accept(model=model, kept=False)
    entries = ledger_of(script)
    due = of(entries, kind="sum.reserved", step=WATCH)
    verify_bundle(bundle_of(entries, states={due + 1: NAMES, len(entries): ()}))
    with pytest.raises(NotVerifiedError, match=rf"step 7 .*entry {due}: "):
        verify_bundle(bundle_of(entries, states={due: NAMES, len(entries): ()}))
