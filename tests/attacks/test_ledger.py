"""What a dishonest coordinator, or whoever gets at its disk, tries against the ledger."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.ledgers import NAMES, TEST, WATCH, Script, chained, data_of, digest, key_of, started

from privacy.canonical import canonical_json
from privacy.errors import InputError, NotVerifiedError
from privacy.identity import Identity
from privacy.ledger import EMPTY_ROOT, Entry, LedgerHead, next_entry
from privacy.ledger.chain import head_of
from privacy.ledger.entry import DOMAIN, STATISTICS, UPDATE
from privacy.ledger.store import LedgerStore
from privacy.randomness import system_bytes
from privacy.sum_context import ACCEPTED_DOMAIN, SURVIVORS_DOMAIN
from privacy.verify import verify_ledger

MEMBERS = NAMES[:3]


def script() -> Script:
    """An honest run up to its first round."""
    return Script("r", MEMBERS).start().agree_on_keys().statistics(1)


HONEST = chained(script().train().finish().lines, ticks_ms=10)
HEAD = head_of(HONEST[-1])
LINES = [entry.line() for entry in HONEST]
SUM = next(i for i, entry in enumerate(HONEST) if entry.body.get("step") == UPDATE)
RECEIPT, ACCEPTED, COMMITTED = SUM + 1, SUM + 2, SUM + 3


def of(place: int, **changes: object) -> tuple[str, dict[str, object]]:
    """The kind and the body of an honest entry, with changes."""
    return HONEST[place].kind, {**HONEST[place].body, **changes}


def lines_of(entries: list[Entry]) -> list[bytes]:
    return [entry.line() for entry in entries]


def forge(line: bytes, **changes: object) -> bytes:
    """Edit a line, and give it a digest that fits."""
    content = {**json.loads(line), **changes}
    del content["digest"]
    digest = hashlib.sha256(DOMAIN + canonical_json(content)).hexdigest()
    return canonical_json({**content, "digest": digest}) + b"\n"


def body_of(line: bytes, **changes: object) -> dict[str, object]:
    body: dict[str, object] = json.loads(line)["body"]
    return {**body, **changes}


def test_without_an_attack_the_same_lines_hold() -> None:
    verdict = verify_ledger(b"".join(LINES), heads=[HEAD])
    assert (verdict.runs, verdict.rounds, verdict.receipts) == (1, 1, 2)
    assert verdict.signatures == 4 * len(MEMBERS)
    assert [forge(line) for line in LINES] == LINES


@pytest.mark.parametrize("index", range(len(LINES)))
def test_an_entry_edited_with_a_fitting_digest_breaks_the_next_one(index: int) -> None:
    lines = list(LINES)
    lines[index] = forge(lines[index], time_ms=1 + 10 * index)
    # The last one has none after it; only who remembers it can tell.
    caught = f"step 4 .*entry {index + 1} " if index < len(LINES) - 1 else "step 7 .*another ledger"
    with pytest.raises(NotVerifiedError, match=caught):
        verify_ledger(b"".join(lines), heads=[HEAD])


def test_a_receipt_cannot_be_made_smaller_afterwards() -> None:
    lines = list(LINES)
    lines[RECEIPT] = lines[RECEIPT].replace(b'"values":11', b'"values":1')
    with pytest.raises(NotVerifiedError, match=f"entry {RECEIPT}"):
        verify_ledger(b"".join(lines))
    smaller = {**HONEST[RECEIPT].body["receipt"], "values": 1}  # type: ignore[dict-item]
    lines[RECEIPT] = forge(LINES[RECEIPT], body=body_of(LINES[RECEIPT], receipt=smaller))
    with pytest.raises(NotVerifiedError, match=f"entry {RECEIPT + 1} does not follow"):
        verify_ledger(b"".join(lines))


def rewritten(place: int, **changes: object) -> bytes:
    """The whole ledger written anew after a change, as whoever has the disk can do."""
    bodies = [of(index, **(changes if index == place else {})) for index in range(len(HONEST))]
    return data_of(chained(bodies, ticks_ms=10))


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_cannot_be_written_into_or_out_of_a_sum(member: str) -> None:
    fewer = [name for name in MEMBERS if name != member]
    for members in (fewer, [*MEMBERS, "spy"], list(MEMBERS[::-1])):
        lines = list(LINES)
        lines[SUM] = forge(LINES[SUM], body=body_of(LINES[SUM], members=members))
        for data in (b"".join(lines), rewritten(SUM, members=members)):
            with pytest.raises(NotVerifiedError):
                verify_ledger(data)


@pytest.mark.parametrize(
    ("place", "changes", "sentence"),
    [
        (0, {"name": "harmless"}, "the manifest says something else of the run's name"),
        (0, {"task": "claims"}, "the manifest says something else of the run's task"),
        (0, {"minimum": 1}, "the manifest says something else of the run's minimum"),
        (0, {"minimum": 4}, "the manifest says something else of the run's minimum"),
        (0, {"group_size": 1}, "the manifest says something else of the run's group_size"),
        (0, {"protection": "clear"}, "the manifest says something else of the run's protection"),
        (0, {"manifest": "a" * 64}, "the manifest has another hash"),
        (0, {"document": "{}"}, "the run's document is no manifest"),
        (1, {"roster": "a" * 64}, "context"),
        (1, {"fingerprint": "a" * 64}, "context"),
        (5, {"model": "a" * 64}, "another model"),
        (SUM, {"asked": list(MEMBERS[:2])}, "members who were not asked"),
        (SUM, {"schema": "a" * 64}, "context"),
        (SUM, {"model": "a" * 64}, "another model"),
        (SUM, {"context": "a" * 64}, "context"),
        (SUM, {"aggregate": "a" * 64}, "signature of .* does not hold"),
        (ACCEPTED, {"model": "a" * 64}, "signature of .* does not hold"),
        (COMMITTED, {"model_before": "a" * 64}, "another model"),
        (COMMITTED, {"model_after": "a" * 64}, "another model"),
    ],
)
def test_without_the_members_keys_no_past_can_be_written_that_holds(
    place: int, changes: dict[str, object], sentence: str
) -> None:
    """Nobody remembers a head here: the signatures alone speak."""
    assert verify_ledger(rewritten(place)).leaves == len(HONEST)
    with pytest.raises(NotVerifiedError, match=sentence):
        verify_ledger(rewritten(place, **changes))


def with_manifest(**changes: object) -> bytes:
    """The whole ledger written anew under another manifest, with everything said as it says."""
    manifest = replace(Script("r", MEMBERS).manifest, **changes)  # type: ignore[arg-type]
    return rewritten(0, run=manifest.run, **started(manifest))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "harmless"},
        {"task": "claims"},
        {"unit": "policyholder"},
        {"contract": "a" * 64},
        {"minimum_cohort": 1},
        {"group_size": 1},
        {"protection": "clear"},
        {"node_settings": {}},
        {"coordinator_settings": {}},
    ],
)
def test_another_manifest_is_in_no_context_that_members_signed(changes: dict[str, object]) -> None:
    """Everything in the ledger fits the document, but for what the members sealed under."""
    with pytest.raises(NotVerifiedError, match=r"entry 2: .*context is not that of its place"):
        verify_ledger(with_manifest(**changes))
    verify_ledger(with_manifest())


def test_what_no_member_signs_can_be_rewritten_where_nobody_remembers_a_head() -> None:
    """The stated limit: sizes."""
    for place, changes in (
        (1, {"public_bytes": 1}),
        (SUM, {"payload_bytes": 1}),
    ):
        data = rewritten(place, **changes)
        verify_ledger(data)
        with pytest.raises(NotVerifiedError, match="another ledger"):
            verify_ledger(data, heads=[HEAD])


def test_a_coordinator_with_keys_of_its_own_cannot_sign_for_members() -> None:
    """It can name members with keys that it made; then their manifest is another."""
    made = {member: Identity.create(system_bytes).public.hex() for member in MEMBERS}
    honest = {member: key_of(member).public.hex() for member in MEMBERS}
    for members in (made, {**honest, MEMBERS[2]: made[MEMBERS[2]]}):
        with pytest.raises(NotVerifiedError, match="something else of the run's members"):
            verify_ledger(rewritten(0, members=members))
        with pytest.raises(NotVerifiedError, match="context is not that of its place"):
            verify_ledger(with_manifest(directory=members))


def test_the_contexts_of_another_manifest_are_not_what_members_signed() -> None:
    """The coordinator writes the first sum's context anew as well; then the signatures are old."""
    manifest = replace(Script("r", MEMBERS).manifest, protection="clear")
    forged = Script("r", MEMBERS)
    forged.manifest = manifest
    forged.start().agree_on_keys().open(STATISTICS, 0)
    verify_ledger(data_of(chained(forged.lines)))  # if members had signed it
    kind, body = forged.lines.pop()
    body = {**body, "signatures": signatures_of(2)}
    with pytest.raises(NotVerifiedError, match=r"signature of \w+ does not hold"):
        verify_ledger(data_of(chained([*forged.lines, (kind, body)])))


def signatures_of(place: int) -> dict[str, str]:
    found = HONEST[place].body["signatures"]
    assert isinstance(found, dict)
    return dict(found)


def test_signatures_of_one_sum_do_not_hold_for_another() -> None:
    earlier = next(i for i, entry in enumerate(HONEST) if entry.kind == "sum.opened")
    for place, other in ((SUM, earlier), (SUM, ACCEPTED), (ACCEPTED, SUM), (ACCEPTED, earlier + 2)):
        with pytest.raises(NotVerifiedError, match="does not hold"):
            verify_ledger(rewritten(place, signatures=signatures_of(other)))
    swapped = dict(zip(MEMBERS, reversed(signatures_of(SUM).values()), strict=True))
    with pytest.raises(NotVerifiedError, match="does not hold"):
        verify_ledger(rewritten(SUM, signatures=swapped))
    for place in (SUM, ACCEPTED):
        fewer = dict(list(signatures_of(place).items())[:2])
        with pytest.raises(NotVerifiedError, match="2 members signed and more than two thirds, 3"):
            verify_ledger(rewritten(place, signatures=fewer))


def test_the_survivors_of_an_ungrown_sum_cannot_be_shown_as_those_of_another() -> None:
    """Two sets of survivors for one sum need two thirds of the signatures each."""
    names = NAMES
    first = Script("r", names).start().agree_on_keys().statistics(1)
    second = first.copy()
    first.open(UPDATE, 1, members=names[:4])
    second.open(UPDATE, 1, members=names[1:])
    for shown in (first, second):
        verify_ledger(data_of(chained(shown.lines)))
    # Both hold alone only because honest members 1 to 3 signed twice, which no node does.
    common = set(names[:4]) & set(names[1:])
    assert 3 * len(common) > len(names)
    mixed = first.copy()
    kind, body = mixed.lines.pop()
    signatures = second.lines[-1][1]["signatures"]
    with pytest.raises(NotVerifiedError, match=r"not one of those|does not hold"):
        verify_ledger(data_of(chained([*mixed.lines, (kind, {**body, "signatures": signatures})])))


@pytest.mark.parametrize("removed", range(len(LINES)))
def test_a_removed_entry_shows_even_if_all_after_it_are_written_anew(removed: int) -> None:
    plain = LINES[:removed] + LINES[removed + 1 :]
    with pytest.raises(NotVerifiedError):
        verify_ledger(b"".join(plain), heads=[HEAD])
    kept = [entry for entry in HONEST if entry.index != removed]
    anew = chained((entry.kind, dict(entry.body)) for entry in kept)
    with pytest.raises(NotVerifiedError):
        verify_ledger(b"".join(lines_of(anew)), heads=[HEAD])


@pytest.mark.parametrize("first", range(len(LINES) - 1))
def test_two_entries_cannot_change_places(first: int) -> None:
    swapped = list(LINES)
    swapped[first], swapped[first + 1] = swapped[first + 1], swapped[first]
    with pytest.raises(NotVerifiedError, match=f"entry {first}"):
        verify_ledger(b"".join(swapped))
    order = list(HONEST)
    order[first], order[first + 1] = order[first + 1], order[first]
    anew = chained((entry.kind, dict(entry.body)) for entry in order)
    with pytest.raises(NotVerifiedError):
        verify_ledger(b"".join(lines_of(anew)), heads=[HEAD])


def test_a_ledger_rolled_back_to_before_a_release_is_caught_by_whoever_remembers() -> None:
    for kept in range(len(LINES)):
        short = b"".join(LINES[:kept])
        verify_ledger(short)
        with pytest.raises(NotVerifiedError, match=f"somebody remembers {len(LINES)} entries"):
            verify_ledger(short, heads=[head_of(None), HEAD])


def test_a_ledger_begun_anew_is_caught_by_whoever_remembers() -> None:
    other = chained((of(index) for index in range(len(HONEST))), ticks_ms=10, begun_ms=1)
    data = b"".join(lines_of(other))
    verify_ledger(data)
    for entry in HONEST:
        with pytest.raises(NotVerifiedError, match="another ledger"):
            verify_ledger(data, heads=[head_of(entry)])


def test_two_faces_cannot_both_hold_the_same_heads() -> None:
    """The coordinator shows the regulator one ledger and the members another."""
    base = HONEST[:SUM]
    one, other = (
        next_entry(base[-1], *of(SUM, payload_bytes=count), time_ms=2000) for count in (1, 2)
    )
    shown = [b"".join(lines_of([*base, last])) for last in (one, other)]
    heads = [head_of(one), head_of(other)]
    for data in shown:
        verify_ledger(data, heads=[head_of(base[-1])])
        with pytest.raises(NotVerifiedError, match="another ledger"):
            verify_ledger(data, heads=heads)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        # An unrecorded release: a sum whose receipt never comes.
        (lambda: script().open(UPDATE, 1).accept(), "has no receipt"),
        (lambda: script().open(WATCH, 0).open(TEST, 0), "has no receipt"),
        # Members never saw it, so they could not have refused it.
        (lambda: script().release(UPDATE, 1).commit(), "was accepted"),
        (lambda: script().release(WATCH, 0).open(TEST, 0), "was not accepted"),
        # The same round opened twice, over other vectors.
        (lambda: script().release(UPDATE, 1).accept().open(UPDATE, 1), "opened before"),
        (lambda: script().release(UPDATE, 1).open(UPDATE, 1), "two sums"),
        # One member alone, or all but one the second time.
        (lambda: script().open(UPDATE, 1, members=MEMBERS[:1]), "minimum"),
        (
            lambda: (
                Script()
                .start()
                .agree_on_keys()
                .release(STATISTICS, 0)
                .accept()
                .open(STATISTICS, 1, members=NAMES[1:])
            ),
            "a few members alone",
        ),
        # A receipt that says masked for what went in the clear, and the other way round.
        (lambda: script().open(UPDATE, 1).receipt(protection="clear"), "another protection"),
        # A receipt in the name of others.
        (lambda: script().open(UPDATE, 1).receipt(members=["bank", "spy"]), "other members"),
        # Somebody else's run.
        (lambda: script().open(UPDATE, 1, run="q"), "never started"),
        # Less than the members agreed on, asked of a part of them.
        (lambda: script().open(UPDATE, 1, asked=MEMBERS[:2]), "does not ask all"),
        # A model that nobody trained.
        (lambda: script().open(UPDATE, 1, model=digest("mine")), "another model"),
        (lambda: script().release(TEST, 0).accept(model=digest("mine")), "another model"),
        # What was signed for one purpose, shown for another.
        (lambda: script().open(UPDATE, 1, domain=ACCEPTED_DOMAIN), "does not hold"),
        (lambda: script().release(UPDATE, 1).accept(domain=SURVIVORS_DOMAIN), "does not hold"),
        (lambda: script().open(UPDATE, 1, domain="sealed-vector"), "does not hold"),
    ],
)
def test_an_entry_that_was_never_due_is_named_though_the_chain_holds(
    make: Callable[[], Script], sentence: str
) -> None:
    entries = chained(make().lines)
    verify_ledger(b"".join(lines_of(entries[:-1])))
    with pytest.raises(NotVerifiedError, match=rf"entry {len(entries) - 1}: .*{sentence}"):
        verify_ledger(b"".join(lines_of(entries)))


@pytest.mark.parametrize(
    "smuggle",
    [
        lambda line: line.replace(b'"kind"', b'"kind" ', 1),
        lambda line: line.replace(b'{"body"', b'{"body":{},"body"', 1),
        lambda line: line.replace(b'"index":0', b'"index":0.0', 1),
        lambda line: line.replace(b'"index":0', b'"index":-0', 1),
        lambda line: line.replace(b"demo", b"d\\u0065mo", 1),
        lambda line: line.replace(b"demo", "d\N{CYRILLIC SMALL LETTER IE}mo".encode(), 1),
        lambda line: b"\xef\xbb\xbf" + line,
        lambda line: line[:-1] + b" \n",
        lambda line: line[:-2] + b',"note":"approved"}\n',
        lambda line: line + b"\n",
        lambda line: b"# approved\n" + line,
    ],
)
def test_nothing_can_be_smuggled_in_that_another_reader_takes_otherwise(
    smuggle: Callable[[bytes], bytes],
) -> None:
    changed = smuggle(LINES[0])
    assert changed != LINES[0]
    with pytest.raises(NotVerifiedError, match=r"entry [01]:"):
        verify_ledger(changed + b"".join(LINES[1:]))


def test_a_head_of_an_impossible_size_is_refused() -> None:
    data = b"".join(LINES)
    size = len(LINES)
    for leaves, root in ((-1, HEAD.root), (0, HEAD.root), (size, EMPTY_ROOT), (10**30, HEAD.root)):
        with pytest.raises(NotVerifiedError, match="step 7"):
            verify_ledger(data, heads=[LedgerHead(leaves, root)])


def test_a_writer_does_not_build_on_a_forged_end(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    for wrong in (
        LINES[-1].replace(b'"rounds":1', b'"rounds":2'),
        LINES[-1][:-1] + b" \n",
        b"{}\n",
    ):
        data = b"".join(LINES[:-1]) + wrong
        path.write_bytes(data)
        with pytest.raises(NotVerifiedError, match="broken"):
            LedgerStore(path).append(*of(0, run="next"), time_ms=5000)
        assert path.read_bytes() == data


def test_a_middle_that_was_edited_is_found_after_more_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(b"".join(LINES).replace(b'"values":10', b'"values":99'))
    LedgerStore(path).append(*of(0, run="next"), time_ms=5000)
    with pytest.raises(NotVerifiedError, match="entry 3: the entry was changed"):
        verify_ledger(path.read_bytes())


def test_a_place_given_to_something_else_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    folder.mkdir()
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "gone" / "ledger")
    for path in (folder, dangling):
        with pytest.raises(InputError, match=r"^[^\n]+$"):
            LedgerStore(path).append(*of(0), time_ms=0)
