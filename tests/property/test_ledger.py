"""For any honest history the ledger holds, and for any change of it, it does not."""

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.ledgers import (
    ORIGIN,
    WATCH,
    Line,
    Nodes,
    Script,
    begun,
    bundle_of,
    chained,
    coordinator_log,
    data_of,
    head_of,
    ledger_of,
    members_of,
    rebuilt,
    small_run,
    taken_over,
    without,
)

from privacy.errors import NotVerifiedError
from privacy.ledger import EMPTY_HEAD, Entry, LedgerHead
from privacy.ledger.bundle import Bundle
from privacy.ledger.entry import UPDATE
from privacy.verify import verify_bundle, verify_data

# A busy machine is no failure.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
MEMBERS = ["bank", "insurer", "maker", "mill"]
SMALL = ledger_of(small_run())
DATA = data_of(bundle_of(SMALL))


class History:
    """Some runs, their entries interleaved, each at its own point of life."""

    def __init__(self) -> None:
        self.nodes = Nodes(MEMBERS)
        self.lines: list[Line] = [begun()]
        self.rounds: dict[str, int] = {}
        self.live: set[str] = set()
        self.dangling = 0

    @property
    def entries(self) -> list[Entry]:
        return chained(self.lines)

    def bundle(self) -> Bundle:
        return bundle_of(self.entries, self.nodes)


@st.composite
def histories(draw: st.DrawFn) -> History:
    found = History()
    names = draw(st.lists(st.sampled_from("pqrst"), max_size=4, unique=True))
    scripts = {name: Script(name, MEMBERS, nodes=found.nodes) for name in names}
    found.rounds = dict.fromkeys(names, 0)
    for _ in range(draw(st.integers(0, 12)) if names else 0):
        name = draw(st.sampled_from(names))
        script, written = scripts[name], len(scripts[name].lines)
        if not written:
            found.live.add(name)
            script.begin()
        elif name in found.live:
            match draw(st.integers(0, 10)):
                case 0:
                    script.finish()
                    found.live.remove(name)
                case 1:
                    script.stop()
                    found.live.remove(name)
                case 2:
                    script.reserve(UPDATE, found.rounds[name] + 1).stop()
                    found.live.remove(name)
                    found.dangling += 1
                case turn:
                    before, rest = script.model, MEMBERS[turn % 2 :]
                    found.rounds[name] += 1
                    script.release(UPDATE, found.rounds[name], signers=MEMBERS[1:])
                    script.accept(signers=rest).commit().release(WATCH, found.rounds[name])
                    if turn == 9:
                        script.accept(model=before, kept=False)
                    else:
                        script.accept()
        found.lines += script.lines[written:]
        if draw(st.integers(0, 5)) == 0:
            found.lines.append(taken_over(draw(st.sampled_from(["first", "second"]))))
    return found


def heads_of(entries: list[Entry]) -> list[LedgerHead]:
    return [head_of(entries, size) for size in range(len(entries) + 1)]


@UNHURRIED
@given(histories())
def test_every_honest_history_holds(history: History) -> None:
    entries = history.entries
    heads = heads_of(entries)
    verdict = verify_bundle(history.bundle(), heads={ORIGIN: heads})
    assert (verdict.leaves, verdict.root) == (heads[-1].leaves, heads[-1].root)
    assert verdict.rounds == sum(history.rounds.values())
    assert set(verdict.unfinished) == history.live
    assert verdict.missing == ()
    begun_runs = sum(entry.kind == "run.started" for entry in entries)
    assert verdict.runs == begun_runs
    assert verdict.opened == 2 * begun_runs + 2 * sum(history.rounds.values())
    assert verdict.releases == verdict.opened + history.dangling
    tables = [entry.body["signatures"] for entry in entries if "signatures" in entry.body]
    tables += [entry.body["nodes"] for entry in entries if "nodes" in entry.body]
    signed = sum(len(table) for table in tables if isinstance(table, dict))
    assert verdict.signatures == signed + begun_runs * (1 + len(MEMBERS))
    assert verdict.set_back == ()
    assert {node.compared for node in verdict.nodes} == {verdict.releases}
    assert verify_data(data_of(history.bundle()), heads={ORIGIN: heads}) == verdict


def insiders(history: History, entries: list[Entry]) -> Bundle:
    """What whoever holds the coordinator's key can show: no cosignature of a member is new."""
    return bundle_of(entries, history.nodes, states={len(entries): ()})


@UNHURRIED
@given(histories(), st.data())
def test_an_entry_taken_out_doubled_or_moved_is_caught(
    history: History, data: st.DataObject
) -> None:
    """Not even signed anew, and cosigned by all: the places in the entries tell."""
    entries = history.entries
    if len(entries) < 2:
        return
    index = data.draw(st.integers(0, len(entries) - 1))
    other = data.draw(st.integers(0, len(entries) - 1).filter(lambda place: place != index))
    moved = list(entries)
    moved[index], moved[other] = moved[other], moved[index]
    for changed in (
        entries[:index] + entries[index + 1 :],
        [*entries[:index], entries[index], *entries[index:]],
        moved,
        entries[:index],
    ):
        bundle = bundle_of(changed, history.nodes, states={len(changed): members_of(entries)})
        with pytest.raises(NotVerifiedError):
            verify_bundle(bundle, heads={ORIGIN: [head_of(entries)]})
        with pytest.raises(NotVerifiedError):
            verify_bundle(
                replace(history.bundle(), logs=(bundle.logs[0], *history.nodes.logs())),
                heads={ORIGIN: [head_of(entries)]},
            )


@UNHURRIED
@given(histories(), st.data())
def test_an_entry_cannot_be_left_out_of_a_history_that_is_written_anew(
    history: History, data: st.DataObject
) -> None:
    """Nobody remembers a head, no state is cosigned, and no node's ledger is there.

    What is left is grammar and signatures. Unnoticed goes only what nothing is built upon: the end
    of a run, a writer who wrote nothing, and what says nothing of the sums.
    """
    entries = history.entries
    index = data.draw(st.integers(0, len(entries) - 1))
    gone = entries[index]
    kept = without(entries, index)
    run = gone.body.get("run")
    later = [one for one in entries[index + 1 :] if one.body.get("run") == run]
    loose = {"rules.checked"}
    unbuilt = run is not None and all(one.kind == "run.stopped" for one in later)
    silent = gone.kind == "writer.began" and all(
        one.kind == "writer.began" for one in entries[index + 1 : index + 2]
    )
    passing = (
        gone.kind in loose or silent or (unbuilt and not (gone.kind == "run.started" and later))
    )
    # entries of a later run never depend on those of an earlier one
    bundle = bundle_of(kept, states={len(kept): members_of(entries)})
    if passing:
        verify_bundle(bundle)
    else:
        with pytest.raises(NotVerifiedError, match=r"^step [56] "):
            verify_bundle(bundle)
    # whoever remembers one head from there on finds every one of them
    with pytest.raises(NotVerifiedError):
        verify_bundle(bundle, heads={ORIGIN: [head_of(entries)]})


@UNHURRIED
@given(histories(), st.data())
def test_a_change_by_whoever_holds_the_key_needs_every_member_to_sign_anew(
    history: History, data: st.DataObject
) -> None:
    """Any entry's time, moved a little: nobody signs that by itself."""
    entries = history.entries
    index = data.draw(st.integers(0, len(entries) - 1))
    anew = rebuilt(
        [*entries[:index], *(replace(one, time_ms=one.time_ms + 1) for one in entries[index:])]
    )
    opened = any(one.kind == "sum.opened" for one in entries)
    if opened:
        with pytest.raises(NotVerifiedError, match=r"^step 7 "):
            verify_bundle(insiders(history, anew))
        # the members' honest cosignature is of another root
        honest = coordinator_log(entries).checkpoints
        stolen = replace(
            bundle_of(anew), logs=(replace(coordinator_log(anew), checkpoints=honest),)
        )
        with pytest.raises(NotVerifiedError, match=r"^step 4 "):
            verify_bundle(stolen)
    # and if all of them do, whoever remembers one head finds it
    all_sign = bundle_of(anew, history.nodes)
    verify_bundle(all_sign)
    remembered = data.draw(st.integers(index + 1, len(entries)))
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*somebody remembers another"):
        verify_bundle(all_sign, heads={ORIGIN: [head_of(entries, remembered)]})
    verify_bundle(all_sign, heads={ORIGIN: heads_of(entries)[: index + 1]})


def test_every_flipped_bit_is_caught() -> None:
    verify_data(DATA)
    for place in range(len(DATA)):
        for bit in range(8) if place % 8 == 0 else (place % 8,):
            changed = bytearray(DATA)
            changed[place] ^= 1 << bit
            with pytest.raises(NotVerifiedError, match=r"^step 1 "):
                verify_data(bytes(changed))


def test_every_flipped_bit_is_caught_though_the_end_line_fits() -> None:
    """The end line is no secret: whoever changes a byte writes it anew."""
    lines = DATA.splitlines(keepends=True)
    body = b"".join(lines[:-1])
    bundle = bundle_of(SMALL)
    for place in range(len(lines[0]), len(body)):
        changed = bytearray(body)
        changed[place] ^= 1 << (place % 8)
        with pytest.raises(NotVerifiedError, match=r"^step \d"):
            verify_data(ended(bytes(changed)))
    # the first line is for people, but for the policy
    verify_data(ended(body.replace(b'"federation":"test"', b'"federation":"tess"')))
    assert verify_data(data_of(replace(bundle, made_ms=0))) == verify_bundle(bundle)


def ended(body: bytes) -> bytes:
    return body + b'{"end":"' + sha256(body).hexdigest().encode() + b'"}\n'


@UNHURRIED
@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_hold_or_be_refused(data: bytes) -> None:
    first = DATA.index(b"\n") + 1
    for changed in (
        data,
        data + b"\n",
        DATA + data,
        DATA + data + b"\n",
        ended(data + b"\n"),
        ended(DATA[:first] + data + b"\n"),
        ended(DATA[: DATA.rindex(b"\n", 0, -1) + 1] + data + b"\n"),
    ):
        try:
            assert verify_data(changed).leaves in (0, len(SMALL))
        except NotVerifiedError:
            continue


def test_a_cut_off_tail_is_caught_by_a_remembered_head_or_a_cosigned_state() -> None:
    head = head_of(SMALL)
    honest = bundle_of(SMALL).logs[0].checkpoints
    for kept in range(1, len(SMALL)):
        cut = SMALL[:kept]
        # what is signed anew in the rolled-back state, and cosigned by nobody
        bundle = bundle_of(cut, states={kept: ()})
        opened = any(one.kind == "sum.opened" for one in cut)
        if opened:
            with pytest.raises(NotVerifiedError, match=r"^step 7 .*0 of the 3 members"):
                verify_bundle(bundle)
        else:
            assert verify_bundle(bundle).leaves == kept  # a tree alone cannot know
        with pytest.raises(NotVerifiedError, match=r"^step 7 "):
            verify_bundle(bundle, heads={ORIGIN: [EMPTY_HEAD, head]})
        kept_state = replace(bundle.logs[0], checkpoints=honest)
        with pytest.raises(NotVerifiedError, match=r"^step 4 .*cut off"):
            verify_bundle(replace(bundle, logs=(kept_state,)))


def test_a_history_written_anew_by_all_members_is_caught_by_a_remembered_head() -> None:
    """If every member signs anew, nothing but a head that somebody kept can tell."""
    honest = ledger_of(Script("r", MEMBERS).begin().train().finish())
    longer = bundle_of(ledger_of(Script("r", MEMBERS).begin().train().evaluate(WATCH).finish()))
    heads = heads_of(honest)
    verify_bundle(longer, heads={ORIGIN: heads[:-1]})
    with pytest.raises(NotVerifiedError, match="somebody remembers another"):
        verify_bundle(longer, heads={ORIGIN: [heads[-1]]})
    begun_anew = bundle_of(ledger_of(Script("r", MEMBERS, minimum=3).begin().train().finish()))
    verify_bundle(begun_anew, heads={ORIGIN: heads[:2]})
    for head in heads[2:]:
        with pytest.raises(NotVerifiedError, match="somebody remembers another"):
            verify_bundle(begun_anew, heads={ORIGIN: [head]})
