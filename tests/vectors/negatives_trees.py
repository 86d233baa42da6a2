"""Forgeries of steps 3 to 5: entries out of order, trees, and who signs their states."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from vectors.builder import (
    COORDINATOR,
    Line,
    World,
    digest,
    identity,
    public,
)
from vectors.forging import HOSTILE, A, B, D, add, forgery
from vectors.negatives_form import at_log, in_log

from privacy.canonical import canonical_json


@forgery(3, "full", "lines")
def entries_swapped(lines: list[bytes]) -> None:
    """Two consents changed places in the file."""
    lines[5], lines[6] = lines[6], lines[5]


@forgery(3, "full", "lines")
def entry_dropped_from_the_file(lines: list[bytes]) -> list[bytes]:
    """An entry was taken out of the file, and the ledger's line names one less."""
    in_log(lambda log: log.update(leaves=log["leaves"] - 1))(lines)
    return [*lines[:6], *lines[7:]]


@forgery(3, "full", "lines")
def entry_doubled_in_the_file(lines: list[bytes]) -> list[bytes]:
    """An entry stands twice in the file, and the ledger's line names one more."""
    in_log(lambda log: log.update(leaves=log["leaves"] + 1))(lines)
    return [*lines[:6], lines[5], *lines[6:]]


@forgery(3, "full", "settled")
def places_from_one(world: World) -> None:
    """Places are counted from 1."""
    for place, line in enumerate(world.main.lines):
        line.index = place + 1


@forgery(3, "full", "settled")
def place_left_out(world: World) -> None:
    """A place is left out, as if an entry had been there; the tree fits."""
    for place, line in enumerate(world.main.lines):
        line.index = place + (place > 9)


@forgery(3, "full", "settled")
def time_backwards(world: World) -> None:
    """An entry is a millisecond earlier than the one before it."""
    lines = world.main.lines
    lines[9].time_ms = lines[8].time_ms - 1


@forgery(3, "full", "settled")
def time_backwards_at_a_node(world: World) -> None:
    """A node's reservation is a day earlier than the one before, so that its period was over."""
    world.nodes[A].find("budget.reserved", 2).time_ms -= 86_400_000


@forgery(3, "rotated", "script")
def epoch_backwards(world: World) -> None:
    """A writer whose turn was over writes again after the one that took over."""
    world.main.find("run.started", 1).epoch = 1


def _repeat(kind: str, owner: str = COORDINATOR) -> Callable[[World], None]:
    def change(world: World) -> None:
        book = next(book for book in world.books if book.owner == owner)
        line = book.find(kind)
        body = {**line.body}
        for name in ("reason", "public_bytes", "file", "rows"):
            if name in body:
                body[name] = {"public_bytes": 1}.get(name, digest("other"))
        book.after(line, kind, body)

    return change


for _kind, _owner, _of in (
    ("run.started", COORDINATOR, "full"),
    ("run.consented", COORDINATOR, "full"),
    ("keys.agreed", COORDINATOR, "full"),
    ("model.agreed", COORDINATOR, "full"),
    ("sum.reserved", COORDINATOR, "full"),
    ("sum.opened", COORDINATOR, "full"),
    ("sum.accepted", COORDINATOR, "full"),
    ("round.committed", COORDINATOR, "full"),
    ("run.finished", COORDINATOR, "full"),
    ("model.registered", COORDINATOR, "full"),
    ("run.stopped", COORDINATOR, "stopped"),
    ("ledger.begun", COORDINATOR, "full"),
    ("run.joined", A, "full"),
    ("budget.reserved", A, "full"),
    ("budget.committed", A, "full"),
    ("budget.aborted", D, "unfinished"),
):
    add(
        3,
        _of,
        "settled",
        f"act-twice-{_kind.replace('.', '-')}",
        f"A second {_kind} about the same act stands in the ledger, and all is signed.",
        _repeat(_kind, _owner),
    )


@forgery(4, "full", "lines")
def rolled_back(lines: list[bytes]) -> list[bytes]:
    """The ledger's last entry is gone; the state that was signed with it is still there."""
    end = at_log(lines, 1)
    in_log(lambda log: log.update(leaves=log["leaves"] - 1))(lines)
    return [*lines[: end - 1], *lines[end:]]


@forgery(4, "full", "lines")
def entry_rewritten(lines: list[bytes]) -> None:
    """An entry was rewritten well; the states were signed over the one before."""
    at = next(at for at, line in enumerate(lines) if b'"run.finished"' in line)
    entry = json.loads(lines[at])
    entry["kind"] = "run.stopped"
    entry["body"] = {"run": "run-1", "reason": "by hand"}
    lines[at] = canonical_json(entry)


@forgery(4, "full", "lines")
def entry_dropped_and_renumbered(lines: list[bytes]) -> list[bytes]:
    """A validation was taken out with all that belongs to it, and the rest was numbered anew."""
    end = at_log(lines, 1)
    kept = [line for line in lines[2:end] if b'"evaluate watch"' not in line]
    for place, line in enumerate(kept):
        entry = json.loads(line)
        entry["index"] = place
        kept[place] = canonical_json(entry)

    # three entries less, and nothing that was signed after them is handed out
    def cut(log: dict[str, Any]) -> None:
        log["leaves"] = len(kept)

    in_log(cut)(lines)
    return [*lines[:2], *kept, *lines[end:]]


@forgery(4, "full", "lines")
def nodes_entry_rewritten(lines: list[bytes]) -> None:
    """A node's own reservation was rewritten to cost less, without its key."""
    at = [at for at, line in enumerate(lines) if b'"budget.reserved"' in line][1]
    lines[at] = lines[at].replace(b'"share":1.2', b'"share":9.9')


def _text(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(note: bytes) -> bytes:
        assert old in note, (old, note)
        return note.replace(old, new, 1)

    return change


def in_state(change: Callable[[bytes], bytes], nth: int = -1) -> Callable[[World], None]:
    def put(world: World) -> None:
        world.main.states[nth].note = change

    return put


def rows_of(note: bytes) -> tuple[list[bytes], list[bytes]]:
    text, _, signatures = note.rpartition(b"\n\n")
    return text.split(b"\n"), signatures[:-1].split(b"\n")


def note_of(text: list[bytes], signatures: list[bytes]) -> bytes:
    return b"\n".join(text) + b"\n\n" + b"\n".join(signatures) + b"\n"


def _in_text(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[World], None]:
    def rewrite(note: bytes) -> bytes:
        text, signatures = rows_of(note)
        return note_of(change(text), signatures)

    return in_state(rewrite)


def _odd(encoded: bytes) -> bytes:
    """The same bytes in base64, but for bits that nobody reads."""
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = letters[letters.index(encoded[-2:-1]) | 1]
    return encoded[:-2] + bytes([last]) + b"="


def in_signatures(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    def rewrite(note: bytes) -> bytes:
        text, signatures = rows_of(note)
        return note_of(text, change(signatures))

    return rewrite


for _name, _about, _change in (
    (
        "state-without-signatures",
        "A signed state has no signature.",
        in_state(lambda note: note.rpartition(b"\n\n")[0] + b"\n\n"),
    ),
    (
        "state-with-extension",
        "A signed state has a fourth line.",
        _in_text(lambda text: [*text, b"more"]),
    ),
    (
        "state-size-with-zero",
        "A signed state's size begins with 0.",
        _in_text(lambda text: [text[0], b"0" + text[1], text[2]]),
    ),
    (
        "state-size-negative",
        "A signed state's size is below 0.",
        _in_text(lambda text: [text[0], b"-1", text[2]]),
    ),
    (
        "state-size-not-ascii",
        "A signed state's size has digits of another script.",
        _in_text(lambda text: [text[0], "٣".encode(), text[2]]),
    ),
    (
        "state-size-2-64",
        "A signed state's size is beyond 2^63.",
        _in_text(lambda text: [text[0], b"18446744073709551616", text[2]]),
    ),
    (
        "state-root-unpadded",
        "A signed state's root is base64 without padding.",
        _in_text(lambda text: [text[0], text[1], text[2].rstrip(b"=")]),
    ),
    (
        "state-root-url-safe",
        "A signed state's root is base64 for addresses.",
        _in_text(lambda text: [text[0], text[1], b"-" + text[2][1:]]),
    ),
    (
        "state-root-odd-bits",
        "A signed state's root is base64 whose last bits are not zero.",
        _in_text(lambda text: [text[0], text[1], _odd(text[2])]),
    ),
    (
        "state-root-short",
        "A signed state's root has 31 bytes.",
        _in_text(lambda text: [text[0], text[1], base64.b64encode(bytes(31))]),
    ),
    (
        "state-control-character",
        "A signed state's first line holds a control character.",
        _in_text(lambda text: [text[0] + b"\x07", text[1], text[2]]),
    ),
    (
        "state-without-origin",
        "A signed state has no origin.",
        _in_text(lambda text: [b"", text[1], text[2]]),
    ),
    (
        "state-line-without-dash",
        "A line of a signature has a hyphen for the dash.",
        in_state(in_signatures(lambda rows: [rows[0].replace("—".encode(), b"-"), *rows[1:]])),
    ),
    (
        "state-line-without-anything-before-it",
        "A line of a signature begins with the key's name.",
        in_state(in_signatures(lambda rows: [*rows, b"x AAAAAAA="])),
    ),
    (
        "state-line-empty-signature",
        "A line of a signature holds a key's id and nothing.",
        in_state(in_signatures(lambda rows: [*rows, "— x AAAAAA==".encode()])),
    ),
    (
        "state-line-name-with-plus",
        "A line of a signature is by a name that no key has.",
        in_state(in_signatures(lambda rows: [*rows, "— a+b AAAAAAA=".encode()])),
    ),
    (
        "state-4097-signatures",
        "A signed state has 4097 signatures.",
        in_state(in_signatures(lambda rows: rows + ["— x AAAAAAA=".encode()] * (4097 - len(rows)))),
    ),
    (
        "state-over-a-mib",
        "A signed state has more than 1 MiB.",
        in_state(
            in_signatures(lambda rows: [*rows, "— x ".encode() + base64.b64encode(bytes(800_000))])
        ),
    ),
):
    add(4, "full", "settled", _name, _about, _change)


@forgery(4, "full", "settled")
def split_view(world: World) -> None:
    """The ledger's key signed another root of the same size, for somebody else."""
    world.main.states[-1].root = bytes.fromhex(digest("another view"))


@forgery(4, "full", "settled")
def earlier_split_view(world: World) -> None:
    """An earlier signed state, which members cosigned, has another root than these entries."""
    world.main.states[0].root = bytes.fromhex(digest("another view"))


@forgery(4, "full", "settled")
def state_beyond_the_end(world: World) -> None:
    """The newest signed state has an entry more than there are."""
    world.main.states[-1].size += 1


@forgery(4, "full", "settled")
def states_out_of_order(world: World) -> None:
    """Signed states are not in the order of their sizes."""
    world.main.states.reverse()


@forgery(4, "full", "settled")
def state_twice(world: World) -> None:
    """A signed state stands twice."""
    world.main.states.insert(1, replace(world.main.states[0]))


def _proofs(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[World], None]:
    def put(world: World) -> None:
        world.main.header = lambda told: change(told["proofs"])

    return put


for _name, _about, _change in (
    ("proof-missing", "A proof of growth is missing.", _proofs(lambda proofs: proofs.pop())),
    (
        "proof-too-many",
        "A proof of growth stands twice.",
        _proofs(lambda proofs: proofs.append(proofs[-1])),
    ),
    (
        "proof-of-other-sizes",
        "A proof of growth is from another size.",
        _proofs(lambda proofs: proofs[0].update(old=proofs[0]["old"] - 1)),
    ),
    (
        "proof-hash-changed",
        "A hash of a proof of growth changed.",
        _proofs(lambda proofs: proofs[0]["hashes"].__setitem__(0, digest("x"))),
    ),
    (
        "proof-hash-missing",
        "A hash of a proof of growth is missing.",
        _proofs(lambda proofs: proofs[0]["hashes"].pop()),
    ),
    (
        "proof-hash-too-many",
        "A proof of growth has a hash too many.",
        _proofs(lambda proofs: proofs[0]["hashes"].append(digest("x"))),
    ),
    (
        "proof-hashes-reversed",
        "The hashes of a proof of growth are in the other order.",
        _proofs(lambda proofs: proofs[0]["hashes"].reverse()),
    ),
    (
        "proof-empty",
        "A proof of growth has no hashes.",
        _proofs(lambda proofs: proofs[0]["hashes"].clear()),
    ),
):
    add(4, "full", "settled", _name, _about, _change)


@forgery(4, "empty", "settled")
def state_of_nothing_with_a_root(world: World) -> None:
    """A signed state of no entries has another root than that of none."""
    root = base64.b64encode(bytes(32))
    world.main.states[0].note = lambda note: note_of(
        [*rows_of(note)[0][:2], root], rows_of(note)[1]
    )


@forgery(4, "empty", "settled")
def proof_from_nothing(world: World) -> None:
    """A proof of growth from no entries has a hash, where none is needed."""
    _proofs(lambda proofs: proofs[0]["hashes"].append(digest("x")))(world)


@forgery(5, "full", "settled")
def no_signed_state(world: World) -> None:
    """No state of the coordinator's ledger is signed."""
    world.main.states.clear()


@forgery(5, "full", "settled")
def no_signed_state_of_a_node(world: World) -> None:
    """No state of a node's ledger is signed, so it could be another one tomorrow."""
    world.nodes[B].states.clear()


@forgery(5, "full", "settled")
def newest_entries_unsigned(world: World) -> None:
    """No signed state has the last entry."""
    world.main.states.pop()


@forgery(5, "full", "settled")
def signed_by_another_key(world: World) -> None:
    """The newest state is signed by another key, under the ledger's name."""
    world.main.states[-1].signer = HOSTILE


@forgery(5, "full", "settled")
def nodes_state_signed_by_the_coordinator(world: World) -> None:
    """A node's ledger was rewritten by the coordinator, which signed it with its own key."""
    world.nodes[A].states[-1].signer = COORDINATOR


@forgery(5, "rotated", "settled")
def signed_by_the_key_before(world: World) -> None:
    """The newest state is signed by the key that was given up."""
    world.main.states[-1].signer = COORDINATOR


@forgery(5, "rotated", "settled")
def signed_too_early_by_the_new_key(world: World) -> None:
    """An early state is signed by a key that the ledger got later."""
    world.main.states[0].signer = "coordinator 2"


def _signature_of(note: bytes, change: Callable[[bytes], bytes]) -> bytes:
    def rewrite(rows: list[bytes]) -> list[bytes]:
        dash, name, encoded = rows[0].split(b" ")
        data = base64.b64decode(encoded)
        made = base64.b64encode(data[:4] + change(data[4:]))
        return [b" ".join((dash, name, made)), *rows[1:]]

    return in_signatures(rewrite)(note)


for _name, _about, _bytes in (
    (
        "state-signature-flipped",
        "One bit of the signature under the newest state is wrong.",
        lambda sig: bytes([sig[0] ^ 1]) + sig[1:],
    ),
    (
        "state-signature-zero",
        "The signature under the newest state is all zeros.",
        lambda sig: bytes(len(sig)),
    ),
    (
        "state-signature-short",
        "The signature under the newest state has 63 bytes.",
        lambda sig: sig[:-1],
    ),
    (
        "state-signature-s-plus-l",
        "The signature's S is larger by the group's order, which lax readers take for the same.",
        lambda sig: (
            sig[:32]
            + (
                int.from_bytes(sig[32:], "little") + 2**252 + 27742317777372353535851937790883648493
            ).to_bytes(32, "little")
        ),
    ),
    (
        "state-signature-neutral",
        "The signature is the neutral element and 0.",
        lambda _: b"\1" + bytes(63),
    ),
):
    add(
        5,
        "full",
        "settled",
        _name,
        _about,
        in_state(partial(_signature_of, change=_bytes)),
    )


@forgery(5, "full", "settled")
def one_good_signature_and_a_bad_one(world: World) -> None:
    """Two lines say to be by the ledger's key, and one of them does not hold."""
    world.main.states[-1].note = lambda note: in_signatures(
        lambda rows: [*rows, *rows_of(_signature_of(note, lambda sig: bytes(len(sig))))[1][:1]]
    )(note)


@forgery(5, "full", "settled")
def state_of_another_origin(world: World) -> None:
    """The newest state is one of another ledger with the same key and the same entries."""
    world.main.states[-1].origin = "tacit/elsewhere"


def _told(**changes: object) -> Callable[[World], None]:
    def put(world: World) -> None:
        world.main.header = lambda told: told.update(changes)

    return put


add(
    5,
    "full",
    "settled",
    "told-owner-differs",
    "The ledger is handed out as somebody else's.",
    _told(owner="another"),
)
add(
    5,
    "full",
    "settled",
    "told-origin-differs",
    "The ledger is handed out under another name.",
    _told(origin="tacit/another"),
)
add(
    5,
    "full",
    "settled",
    "told-role-differs",
    "The coordinator's ledger is handed out as a node's.",
    _told(role="node"),
)
add(5, "full", "settled", "told-keys-missing", "The key history is empty.", _told(keys=[]))
add(
    5,
    "full",
    "settled",
    "told-key-differs",
    "The key history has another key.",
    _told(keys=[{"since": 0, "public": "00" * 32}]),
)
add(
    5,
    "full",
    "settled",
    "told-key-later",
    "The key history says that the key came later.",
    _told(keys=[{"since": 3, "public": public(COORDINATOR)}]),
)
add(
    5,
    "full",
    "settled",
    "told-key-too-many",
    "The key history has a key that no entry has.",
    _told(
        keys=[{"since": 0, "public": public(COORDINATOR)}, {"since": 9, "public": public(HOSTILE)}]
    ),
)


@forgery(5, "rotated", "settled")
def rotation_left_out_of_the_history(world: World) -> None:
    """The key history does not name the second key."""
    world.main.header = lambda told: told["keys"].pop()


@forgery(5, "rotated", "script")
def rotation_by_nobody(world: World) -> None:
    """The second key of the ledger was not signed by the first one, but by itself."""
    line = world.main.find("key.rotated")
    key = bytes.fromhex(line.body["key"])
    line.body["signature"] = identity("coordinator 2").sign("key-rotation", key).hex()


@forgery(5, "rotated", "script")
def rotation_to_a_thief(world: World) -> None:
    """A node's key was exchanged by somebody who has not the key before."""
    book = world.nodes[A]
    book.keys[-1] = HOSTILE
    line = book.find("key.rotated")
    line.body["key"] = public(HOSTILE)
    line.body["signature"] = identity(HOSTILE).sign("key-rotation", identity(HOSTILE).public).hex()


@forgery(5, "rotated", "settled")
def rotation_signature_for_another_key(world: World) -> None:
    """What the first key signed was another second key."""
    line = world.main.find("key.rotated")
    line.body["signature"] = identity(COORDINATOR).sign("key-rotation", bytes(32)).hex()


@forgery(5, "empty", "settled")
def not_begun(world: World) -> None:
    """A node's ledger begins with something else."""
    body = {"run": "run-1", "manifest": digest("m"), "origin": "tacit/x"}
    world.nodes[A].lines[0] = Line("run.joined", body, world.now_ms)


@forgery(5, "empty", "settled")
def no_entries(world: World) -> None:
    """A ledger without entries, whose state of 0 entries is signed."""
    world.nodes[A].lines.clear()
    world.nodes[A].states[0].size = 0
    world.nodes[A].header = lambda told: told.update(keys=[])


@forgery(5, "empty", "script")
def origin_with_a_space(world: World) -> None:
    """A ledger has a name that no key can have."""
    book = world.nodes[A]
    book.origin = book.lines[0].body["origin"] = "tacit/amber bank"
    book.states[0].origin = "tacit/x"
