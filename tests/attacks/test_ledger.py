"""What a dishonest coordinator, or whoever gets at its disk, tries against the ledger."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from privacy.canonical import canonical_json
from privacy.errors import InputError, NotVerifiedError
from privacy.ledger import EMPTY_ROOT, Entry, LedgerHead, next_entry
from privacy.ledger.chain import head_of
from privacy.ledger.entry import DOMAIN, Body
from privacy.ledger.store import LedgerStore
from privacy.verify import verify_ledger

MEMBERS = ["bank", "insurer", "mill"]


def of(kind: str, run: str = "r", **changes: object) -> tuple[str, Body]:
    """One honest entry's kind and body."""
    bodies: dict[str, dict[str, object]] = {
        "run.started": {
            "name": "demo",
            "task": "failure",
            "members": MEMBERS,
            "manifest": "a" * 64,
            "protection": "masked",
        },
        "sum.opened": {
            "step": "update",
            "round": 1,
            "context": "b" * 64,
            "members": MEMBERS,
            "aggregate": "c" * 64,
        },
        "receipt": {
            "step": "update",
            "round": 1,
            "unit": "device",
            "mechanism": "none",
            "protection": "masked",
            "values": 10,
            "members": MEMBERS,
        },
        "round.committed": {"round": 1, "model_before": "0" * 64, "model_after": "1" * 64},
        "run.finished": {"rounds": 1, "model": "1" * 64},
    }
    return kind, {"run": run, **bodies[kind], **changes}


def chained(*bodies: tuple[str, Body]) -> list[Entry]:
    entries: list[Entry] = []
    for kind, body in bodies:
        last = entries[-1] if entries else None
        entries.append(next_entry(last, kind, body, time_ms=1000 + 10 * len(entries)))
    return entries


def lines_of(entries: list[Entry]) -> list[bytes]:
    return [entry.line() for entry in entries]


HONEST = chained(
    of("run.started"),
    of("sum.opened"),
    of("receipt"),
    of("round.committed"),
    of("run.finished"),
)
HEAD = head_of(HONEST[-1])
LINES = lines_of(HONEST)


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
    assert (verdict.runs, verdict.rounds, verdict.receipts) == (1, 1, 1)
    assert [forge(line) for line in LINES] == LINES


@pytest.mark.parametrize("index", range(len(LINES)))
def test_an_entry_edited_with_a_fitting_digest_breaks_the_next_one(index: int) -> None:
    lines = list(LINES)
    lines[index] = forge(lines[index], time_ms=1001 + 10 * index)
    # The last one has none after it; only who remembers it can tell.
    caught = f"step 4 .*entry {index + 1} " if index < len(LINES) - 1 else "step 6 .*another ledger"
    with pytest.raises(NotVerifiedError, match=caught):
        verify_ledger(b"".join(lines), heads=[HEAD])


def test_a_receipt_cannot_be_made_smaller_afterwards() -> None:
    lines = list(LINES)
    lines[2] = lines[2].replace(b'"values":10', b'"values":1')
    with pytest.raises(NotVerifiedError, match="entry 2"):
        verify_ledger(b"".join(lines))
    lines[2] = forge(LINES[2], body=body_of(LINES[2], values=1))
    with pytest.raises(NotVerifiedError, match="entry 3 does not follow"):
        verify_ledger(b"".join(lines))


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_cannot_be_written_into_or_out_of_a_sum(member: str) -> None:
    fewer = [name for name in MEMBERS if name != member]
    for members in (fewer, [*MEMBERS, "spy"], MEMBERS[::-1]):
        lines = list(LINES)
        lines[1] = forge(LINES[1], body=body_of(LINES[1], members=members))
        with pytest.raises(NotVerifiedError):
            verify_ledger(b"".join(lines))


@pytest.mark.parametrize("removed", range(len(LINES)))
def test_a_removed_entry_shows_even_if_all_after_it_are_written_anew(removed: int) -> None:
    plain = LINES[:removed] + LINES[removed + 1 :]
    with pytest.raises(NotVerifiedError):
        verify_ledger(b"".join(plain), heads=[HEAD])
    kept = [entry for entry in HONEST if entry.index != removed]
    anew = chained(*((entry.kind, entry.body) for entry in kept))
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
    anew = chained(*((entry.kind, entry.body) for entry in order))
    with pytest.raises(NotVerifiedError):
        verify_ledger(b"".join(lines_of(anew)), heads=[HEAD])


def test_a_ledger_rolled_back_to_before_a_release_is_caught_by_whoever_remembers() -> None:
    for kept in range(len(LINES)):
        short = b"".join(LINES[:kept])
        verify_ledger(short)
        with pytest.raises(NotVerifiedError, match=f"somebody remembers {len(LINES)} entries"):
            verify_ledger(short, heads=[head_of(None), HEAD])


def test_a_ledger_begun_anew_is_caught_by_whoever_remembers() -> None:
    other = chained(
        of("run.started", name="harmless"),
        *((entry.kind, entry.body) for entry in HONEST[1:]),
    )
    data = b"".join(lines_of(other))
    verify_ledger(data)
    for entry in HONEST:
        with pytest.raises(NotVerifiedError, match="another ledger"):
            verify_ledger(data, heads=[head_of(entry)])


def test_two_faces_cannot_both_hold_the_same_heads() -> None:
    """The coordinator shows the regulator one ledger and the members another."""
    base = HONEST[:3]
    one, other = (
        next_entry(base[-1], *of("round.committed", model_after=digit * 64), time_ms=2000)
        for digit in "12"
    )
    shown = [b"".join(lines_of([*base, last])) for last in (one, other)]
    heads = [head_of(one), head_of(other)]
    for data in shown:
        verify_ledger(data, heads=[head_of(base[-1])])
        with pytest.raises(NotVerifiedError, match="another ledger"):
            verify_ledger(data, heads=heads)


@pytest.mark.parametrize(
    ("bodies", "sentence"),
    [
        # An unrecorded release: a sum whose receipt never comes.
        ((of("sum.opened"), of("round.committed")), "has no receipt"),
        ((of("sum.opened"), of("sum.opened", step="evaluate test", round=0)), "has no receipt"),
        # The same round opened twice, over other vectors.
        ((of("sum.opened"), of("receipt"), of("sum.opened", context="d" * 64)), "opened before"),
        # One member alone, or all but one the second time.
        ((of("sum.opened", members=["bank"]),), "one member"),
        (
            (
                of("sum.opened"),
                of("receipt"),
                of("round.committed"),
                of("sum.opened", round=2, members=MEMBERS[:2]),
            ),
            "members of the first",
        ),
        # A receipt that says masked for what went in the clear, and the other way round.
        ((of("sum.opened"), of("receipt", protection="clear")), "another protection"),
        # A receipt in the name of others.
        ((of("sum.opened"), of("receipt", members=["bank", "insurer", "spy"])), "other members"),
        # Somebody else's run.
        ((of("sum.opened", run="q"),), "never started"),
    ],
)
def test_an_entry_that_was_never_due_is_named_though_the_chain_holds(
    bodies: tuple[tuple[str, Body], ...], sentence: str
) -> None:
    entries = chained(of("run.started"), *bodies)
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
    for leaves, root in ((-1, HEAD.root), (0, HEAD.root), (5, EMPTY_ROOT), (10**30, HEAD.root)):
        with pytest.raises(NotVerifiedError, match="step 6"):
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
            LedgerStore(path).append(*of("run.started", run="next"), time_ms=5000)
        assert path.read_bytes() == data


def test_a_middle_that_was_edited_is_found_after_more_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(b"".join(LINES).replace(b'"values":10', b'"values":99'))
    LedgerStore(path).append(*of("run.started", run="next"), time_ms=5000)
    with pytest.raises(NotVerifiedError, match="entry 2: the entry was changed"):
        verify_ledger(path.read_bytes())


def test_a_place_given_to_something_else_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    folder.mkdir()
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "gone" / "ledger")
    for path in (folder, dangling):
        with pytest.raises(InputError, match=r"^[^\n]+$"):
            LedgerStore(path).append(*of("run.started"), time_ms=0)
