"""Forgeries of steps 1 and 2: lines and entries that are not written as they must be."""

import json
import re
from collections.abc import Callable
from typing import Any

from vectors.builder import (
    World,
    digest,
)
from vectors.forging import A, B, C, add, forgery

from privacy.canonical import canonical_json


def _edit(line: int, old: bytes, new: bytes) -> Callable[[list[bytes]], None]:
    def change(lines: list[bytes]) -> None:
        assert old in lines[line], (line, old)
        lines[line] = lines[line].replace(old, new, 1)

    return change


def in_first_line(
    line: int, change: Callable[[dict[str, Any]], None]
) -> Callable[[list[bytes]], None]:
    def rewrite(lines: list[bytes]) -> None:
        value = json.loads(lines[line])
        change(value)
        lines[line] = canonical_json(value)

    return rewrite


def in_log(
    change: Callable[[dict[str, Any]], None], line: int = 1
) -> Callable[[list[bytes]], None]:
    return in_first_line(line, lambda value: change(value["log"]))


for _name, _about, _change in (
    ("nothing", "No bytes at all.", lambda _: b""),
    ("one-newline", "A newline alone.", lambda _: b"\n"),
    ("cut-in-the-middle", "The file ends in the middle of a line.", lambda d: d[: len(d) // 2]),
    ("cut-last-newline", "The last newline is missing.", lambda d: d[:-1]),
    ("cut-last-line", "The last line is missing.", lambda d: d[: d.rfind(b"\n", 0, -1) + 1]),
    (
        "bit-in-a-signature",
        "One bit of a signature changed on the way.",
        lambda d: d.replace(b'"signature":"', b'"signature":" ', 1),
    ),
    (
        "bit-in-the-end",
        "One bit of the last line changed on the way.",
        lambda d: d[:-10] + bytes([d[-10] ^ 1]) + d[-9:],
    ),
    ("trailing-newline", "An empty line follows the last one.", lambda d: d + b"\n"),
    ("trailing-data", "Something follows the last line.", lambda d: d + b"{}\n"),
    ("twice-the-file", "The whole file stands twice.", lambda d: d + d),
    ("byte-order-mark", "The file begins with a byte order mark.", lambda d: b"\xef\xbb\xbf" + d),
    ("crlf", "Lines end as on Windows.", lambda d: d.replace(b"\n", b"\r\n")),
    ("null-byte", "A NUL follows the last line.", lambda d: d + b"\0"),
    (
        "end-in-capitals",
        "The hash in the last line has capital letters.",
        lambda d: d[: d.rfind(b':"')] + d[d.rfind(b':"') :].upper(),
    ),
    (
        "end-of-other-hash",
        "The last line is the hash of nothing.",
        lambda d: d[: d.rfind(b':"')] + b':"' + digest("x").encode() + b'"}\n',
    ),
):
    add(1, "stopped", "bytes", _name, _about, _change)

for _name, _about, _change in (
    (
        "crlf-resealed",
        "Lines end as on Windows, and the last line fits.",
        lambda lines: [line + b"\r" for line in lines],
    ),
    (
        "byte-order-mark-resealed",
        "The first line begins with a byte order mark, and the last fits.",
        lambda lines: [b"\xef\xbb\xbf" + lines[0], *lines[1:]],
    ),
    ("empty-bundle", "There is nothing but a last line that fits.", lambda _: []),
    ("no-ledger", "There is a first line and no ledger.", lambda lines: lines[:1]),
    ("two-first-lines", "The first line stands twice.", lambda lines: [lines[0], *lines]),
    ("ledger-without-first-line", "The first line is missing.", lambda lines: lines[1:]),
    (
        "blank-line",
        "An empty line stands between two entries.",
        lambda lines: [*lines[:3], b"", *lines[3:]],
    ),
    (
        "one-entry-less-than-told",
        "The last entry is missing, and its ledger names as many as before.",
        lambda lines: lines[:-1],
    ),
    (
        "one-entry-more-than-told",
        "An entry more stands there than its ledger names.",
        lambda lines: [*lines, lines[-1]],
    ),
    ("format-2", "The bundle says that it is of format 2.", _edit(0, b'"bundle":1', b'"bundle":2')),
    ("format-as-text", "The bundle's format is a text.", _edit(0, b'"bundle":1', b'"bundle":"1"')),
    (
        "format-true",
        "The bundle's format is true, which some languages take for 1.",
        _edit(0, b'"bundle":1', b'"bundle":true'),
    ),
    ("format-as-float", "The bundle's format is 1.0.", _edit(0, b'"bundle":1', b'"bundle":1.0')),
    (
        "first-line-key-twice",
        "A key of the first line stands twice.",
        _edit(0, b'"bundle":1', b'"bundle":1,"bundle":1'),
    ),
    (
        "first-line-key-unknown",
        "The first line has a key that none has.",
        _edit(0, b'"federation"', b'"extra":0,"federation"'),
    ),
    (
        "first-line-spaces",
        "The first line has a space that the canonical form has not.",
        _edit(0, b'"bundle":1', b'"bundle": 1'),
    ),
    (
        "made-ms-is-nan",
        "The time is NaN, which is no JSON.",
        lambda lines: [re.sub(rb'"made_ms":[0-9]+', b'"made_ms":NaN', lines[0]), *lines[1:]],
    ),
    (
        "made-ms-is-huge",
        "The time has more digits than 64 bits hold.",
        _edit(0, b'"made_ms":', b'"made_ms":' + b"9" * 30),
    ),
    (
        "made-ms-has-5000-digits",
        "The time has so many digits that a reader may hang on it.",
        _edit(0, b'"made_ms":', b'"made_ms":' + b"9" * 5000),
    ),
    (
        "made-ms-as-float",
        "The time is a float.",
        in_first_line(0, lambda v: v.update(made_ms=float(v["made_ms"]))),
    ),
    ("policy-is-null", "The policy is null.", in_first_line(0, lambda v: v.update(policy=None))),
    (
        "lone-surrogate",
        "The federation's name is half of a surrogate pair.",
        _edit(0, b'"vectors"', b'"\\ud800"'),
    ),
    (
        "raw-utf-8",
        "The federation's name is raw UTF-8 where it must be escaped.",
        _edit(0, b'"vectors"', '"北"'.encode()),
    ),
    (
        "escape-in-capitals",
        "An escape has capital digits.",
        _edit(0, b'"vectors"', b'"\\u5317\\u00E9"'),
    ),
    (
        "escape-of-a-letter",
        "A letter is escaped that need not be.",
        _edit(0, b'"vectors"', b'"\\u0076ectors"'),
    ),
    (
        "nested-1000-deep",
        "The federation's name is a list that is nested 1000 deep.",
        _edit(0, b'"vectors"', b"[" * 1000 + b"]" * 1000),
    ),
    (
        "nested-100000-deep",
        "The same, so deep that a reader may run out of stack.",
        _edit(0, b'"vectors"', b"[" * 100_000 + b"]" * 100_000),
    ),
    (
        "ledger-key-unknown",
        "A ledger's line has a key that none has.",
        in_log(lambda log: log.update(extra=1)),
    ),
    ("ledger-key-missing", "A ledger's line has no proofs.", in_log(lambda log: log.pop("proofs"))),
    (
        "ledger-count-negative",
        "A ledger names -1 entries.",
        in_log(lambda log: log.update(leaves=-1)),
    ),
    (
        "ledger-count-true",
        "A ledger names true entries.",
        lambda lines: [lines[0], lines[1].replace(b'"leaves":11', b'"leaves":true'), *lines[2:]],
    ),
    (
        "ledger-origin-is-a-number",
        "A ledger's name is a number.",
        in_log(lambda log: log.update(origin=1)),
    ),
    (
        "ledger-role-unknown",
        "A ledger is a witness's.",
        in_log(lambda log: log.update(role="witness")),
    ),
    (
        "state-is-a-number",
        "A signed state is a number.",
        in_log(lambda log: log.update(checkpoints=[1])),
    ),
    (
        "proof-hash-short",
        "A hash of a proof has 31 bytes.",
        in_log(lambda log: log["proofs"][0]["hashes"].__setitem__(0, "00" * 31)),
    ),
    (
        "proof-hash-in-capitals",
        "A hash of a proof has capital letters.",
        in_log(
            lambda log: log["proofs"][0].update(
                hashes=[one.upper() for one in log["proofs"][0]["hashes"]]
            )
        ),
    ),
    (
        "proof-hashes-are-an-object",
        "The hashes of a proof are the keys of an object, which some readers take for a list.",
        in_log(
            lambda log: log["proofs"][0].update(hashes=dict.fromkeys(log["proofs"][0]["hashes"], 0))
        ),
    ),
    (
        "proof-hashes-are-a-text",
        "The hashes of a proof are a text, which some readers take for a list of letters.",
        in_log(lambda log: log["proofs"][0].update(hashes="")),
    ),
    (
        "proof-key-unknown",
        "A proof has a key that none has.",
        in_log(lambda log: log["proofs"][0].update(extra=1)),
    ),
    (
        "key-since-is-text",
        "A key's place is a text.",
        in_log(lambda log: log["keys"][0].update(since="0")),
    ),
    (
        "proofs-are-an-object",
        "The proofs of growth are an object.",
        in_log(lambda log: log.update(proofs={})),
    ),
    ("key-is-null", "A key of the history is null.", in_log(lambda log: log.update(keys=[None]))),
):
    add(1, "stopped", "lines", _name, _about, _change)


def at_log(lines: list[bytes], nth: int) -> int:
    return [at for at, line in enumerate(lines) if line.startswith(b'{"log"')][nth]


@forgery(1, "empty", "lines")
def ledger_twice(lines: list[bytes]) -> list[bytes]:
    """A node's ledger is in the bundle twice."""
    return [*lines, *lines[at_log(lines, 2) :]]


@forgery(1, "empty", "lines")
def coordinator_last(lines: list[bytes]) -> list[bytes]:
    """The coordinator's ledger comes last."""
    second = at_log(lines, 1)
    return [lines[0], *lines[second:], *lines[1:second]]


@forgery(1, "empty", "lines")
def two_coordinators(lines: list[bytes]) -> None:
    """A node's ledger says that it is a coordinator's."""
    in_log(lambda log: log.update(role="coordinator"), at_log(lines, 1))(lines)


@forgery(1, "plain", "settled")
def entry_of_a_megabyte(world: World) -> None:
    """An entry has more bytes than one may have."""
    line = world.main.find("run.started")
    line.leaf = lambda leaf: leaf.replace(b'"document":"', b'"document":"' + b"x" * (1 << 20))


def with_leaf(kind: str, change: Callable[[bytes], bytes]) -> Callable[[World], None]:
    def put(world: World) -> None:
        for book in world.books:
            for line in book.lines:
                if line.kind == kind:
                    line.leaf = change
                    return
        raise ValueError(kind)

    return put


def swapping(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(leaf: bytes) -> bytes:
        assert old in leaf, (old, leaf)
        return leaf.replace(old, new, 1)

    return change


for _name, _about, _kind, _old, _new in (
    (
        "kind-unknown",
        "An entry is of a kind that does not exist.",
        "run.consented",
        b'"run.consented"',
        b'"run.applauded"',
    ),
    ("kind-is-a-list", "An entry's kind is a list.", "run.consented", b'"run.consented"', b"[]"),
    (
        "field-unknown",
        "An entry has a field that its kind has not.",
        "run.consented",
        b'"run":',
        b'"role":"bank","run":',
    ),
    (
        "field-missing",
        "A consent names no member.",
        "run.consented",
        b'"member":"amber-bank",',
        b"",
    ),
    (
        "entry-key-unknown",
        "An entry has a key beside its six.",
        "run.consented",
        b'"index"',
        b'"hash":"","index"',
    ),
    (
        "entry-format-3",
        "An entry is of an older format.",
        "run.consented",
        b'"format":4',
        b'"format":3',
    ),
    (
        "entry-format-5",
        "An entry is of a format that is not known yet.",
        "run.consented",
        b'"format":4',
        b'"format":5',
    ),
    (
        "entry-format-as-float",
        "An entry's format is 4.0.",
        "run.consented",
        b'"format":4',
        b'"format":4.0',
    ),
    (
        "epoch-zero",
        "An entry is of the turn before the first.",
        "run.consented",
        b'"epoch":1',
        b'"epoch":0',
    ),
    (
        "time-negative",
        "An entry was written before 1970.",
        "run.consented",
        b'"time_ms":',
        b'"time_ms":-',
    ),
    ("index-as-text", "An entry's place is a text.", "run.started", b'"index":1,', b'"index":"1",'),
    (
        "entry-key-order",
        "An entry's keys are not in order.",
        "keys.agreed",
        b'"epoch":1,"format":4',
        b'"format":4,"epoch":1',
    ),
    ("entry-space", "An entry has a space too many.", "keys.agreed", b'"epoch":', b'"epoch": '),
    (
        "entry-key-twice",
        "A field stands twice with different values; readers disagree which holds.",
        "keys.agreed",
        b'"public_bytes":0',
        b'"public_bytes":0,"public_bytes":1',
    ),
    (
        "entry-escape",
        "A letter in an entry is escaped that need not be.",
        "keys.agreed",
        b'"run-1"',
        b'"\\u0072un-1"',
    ),
    (
        "entry-surrogate",
        "A name in an entry is half of a surrogate pair.",
        "run.consented",
        b'"amber-bank"',
        b'"\\udc00"',
    ),
    (
        "entry-control-character",
        "A name in an entry holds an escape sequence for a terminal.",
        "run.consented",
        b'"amber-bank"',
        b'"\\u001b[31m"',
    ),
    ("entry-empty-text", "A name in an entry is empty.", "run.consented", b'"amber-bank"', b'""'),
    (
        "number-plus-zero",
        "An integer is written 00.",
        "keys.agreed",
        b'"public_bytes":0',
        b'"public_bytes":00',
    ),
    (
        "number-exponent",
        "An integer is written 0e0.",
        "keys.agreed",
        b'"public_bytes":0',
        b'"public_bytes":0e0',
    ),
    ("flag-as-number", "A flag is 1.", "sum.accepted", b'"kept":true', b'"kept":1'),
    (
        "hash-in-capitals",
        "A hash has capital letters.",
        "run.joined",
        b'"manifest":"',
        b'"manifest":"A',
    ),
    (
        "step-unknown",
        "A sum is of a step that does not exist.",
        "sum.opened",
        b'"step":"statistics"',
        b'"step":"gradients"',
    ),
    (
        "step-is-a-list",
        "A sum's step is a list.",
        "sum.opened",
        b'"step":"statistics"',
        b'"step":[]',
    ),
    (
        "protection-unknown",
        "A sum is protected by a way that does not exist.",
        "sum.reserved",
        b'"protection":"masked"',
        b'"protection":"trusted"',
    ),
    (
        "amount-is-nan",
        "A cap is NaN, which no comparison exceeds.",
        "budget.terms",
        b'"epsilon":8.0',
        b'"epsilon":NaN',
    ),
    (
        "amount-is-infinite",
        "A cap is a number that no float holds.",
        "budget.terms",
        b'"epsilon":8.0',
        b'"epsilon":1e999',
    ),
    ("amount-negative", "A cap is below 0.", "budget.terms", b'"epsilon":8.0', b'"epsilon":-8.0'),
    ("amount-is-true", "A cap is true.", "budget.terms", b'"epsilon":8.0', b'"epsilon":true'),
    ("float-form", "A float is written 8.00.", "budget.terms", b'"epsilon":8.0', b'"epsilon":8.00'),
    (
        "float-exponent",
        "A float is written 8e0.",
        "budget.terms",
        b'"epsilon":8.0',
        b'"epsilon":8e0',
    ),
    (
        "float-digits",
        "A float has more digits than it needs.",
        "budget.terms",
        b'"delta":1e-05',
        b'"delta":1.00000000000000008e-05',
    ),
    (
        "receipt-format-2",
        "A receipt is of another format.",
        "budget.reserved",
        b'"cohort":"training","format":1',
        b'"cohort":"training","format":2',
    ),
    (
        "receipt-field-unknown",
        "A receipt holds an epsilon.",
        "budget.reserved",
        b'"format":1',
        b'"epsilon":0.1,"format":1',
    ),
    (
        "receipt-share-negative",
        "A receipt's noise is below 0.",
        "budget.reserved",
        b'"share":',
        b'"share":-',
    ),
    (
        "receipt-rate-zero",
        "A receipt's rate is 0.",
        "budget.reserved",
        b'"rate":1.0',
        b'"rate":0.0',
    ),
    (
        "receipt-rate-without-sampling",
        "A receipt has a rate, and no sampling.",
        "budget.reserved",
        b'"rate":1.0,"sampling":"none"',
        b'"rate":0.5,"sampling":"none"',
    ),
    (
        "receipt-noise-without-mechanism",
        "A receipt has a share of noise, and no mechanism.",
        "budget.reserved",
        b'"mechanism":"gaussian"',
        b'"mechanism":"none"',
    ),
    (
        "receipt-number-as-integer",
        "A receipt's clip is an integer.",
        "budget.reserved",
        b'"clip":1.0',
        b'"clip":1',
    ),
    (
        "joined-nowhere",
        "A node joined a run, and does not say in whose ledger it is.",
        "run.joined",
        b'"origin":',
        b'"place":',
    ),
    (
        "followed-key-short",
        "A node follows a ledger under a key of 31 bytes.",
        "ledger.followed",
        b'"key":"e4',
        b'"key":"',
    ),
    (
        "cosigned-size-as-float",
        "A node cosigned a state whose size is a float.",
        "ledger.cosigned",
        b',"origin"',
        b'.0,"origin"',
    ),
    (
        "cosigned-root-in-base64",
        "A node cosigned a state whose root is written as in its note.",
        "ledger.cosigned",
        b'"root":"',
        b'"root":"+',
    ),
    (
        "asked-twice",
        "A member is asked twice.",
        "sum.reserved",
        b'"asked":["amber-bank",',
        b'"asked":["amber-bank","amber-bank",',
    ),
    (
        "role-unknown",
        "A ledger begins in a role that does not exist.",
        "ledger.begun",
        b'"role":"coordinator"',
        b'"role":"auditor"',
    ),
):
    add(2, "full", "settled", _name, _about, with_leaf(_kind, swapping(_old, _new)))

add(
    2,
    "full",
    "settled",
    "entry-nested-deep",
    "An entry holds a list that is nested 40 deep.",
    with_leaf("rules.checked", swapping(b'["governance-stated"]', b"[" * 40 + b"]" * 40)),
)
add(
    2,
    "full",
    "settled",
    "entry-is-a-list",
    "An entry is a list.",
    with_leaf("keys.agreed", lambda leaf: b"[" + leaf + b"]"),
)
add(
    2,
    "full",
    "settled",
    "entry-is-empty",
    "An entry has no bytes.",
    with_leaf("keys.agreed", lambda _: b""),
)


def with_body(kind: str, **changes: object) -> Callable[[World], None]:
    return lambda world: world.main.find(kind).body.update(changes)


for _name, _about, _kind, _fields in (
    ("heads-empty", "A sum is reserved that no vector came for.", "sum.reserved", {"nodes": {}}),
    (
        "head-without-root",
        "A head has no root.",
        "sum.reserved",
        {"nodes": {A: {"leaves": 5, "signature": "00" * 64}}},
    ),
    (
        "head-size-negative",
        "A head has -1 entries.",
        "sum.reserved",
        {"nodes": {A: {"leaves": -1, "root": "00" * 32, "signature": "00" * 64}}},
    ),
    (
        "head-without-signature",
        "A head is told that nobody signed.",
        "sum.reserved",
        {"nodes": {A: {"leaves": 5, "root": "00" * 32}}},
    ),
    (
        "head-signature-null",
        "A head's signature is null.",
        "sum.reserved",
        {"nodes": {A: {"leaves": 5, "root": "00" * 32, "signature": None}}},
    ),
    (
        "head-signature-short",
        "A head's signature has 63 bytes.",
        "sum.reserved",
        {"nodes": {A: {"leaves": 5, "root": "00" * 32, "signature": "00" * 63}}},
    ),
    (
        "head-field-unknown",
        "A head names its ledger.",
        "sum.reserved",
        {"nodes": {A: {"leaves": 5, "root": "00" * 32, "signature": "00" * 64, "origin": "x"}}},
    ),
    (
        "class-unknown",
        "Data are of a class that does not exist.",
        "data.declared",
        {"classes": {"L5": 3}},
    ),
    ("signature-short", "A signature has 63 bytes.", "run.consented", {"signature": "00" * 63}),
    ("signature-null", "A signature is null.", "run.consented", {"signature": None}),
    ("votes-empty", "A sum is opened that nobody voted for.", "sum.opened", {"signatures": {}}),
    ("members-twice", "A member is in a sum twice.", "sum.opened", {"members": [A, A, B, C]}),
    ("members-empty", "A sum is over nobody.", "sum.opened", {"members": []}),
    ("round-negative", "A sum is of round -1.", "sum.opened", {"round": -1}),
    (
        "values-beyond-2-53",
        "A count is an integer that not every reader keeps.",
        "model.agreed",
        {"values": 2**53},
    ),
):
    add(2, "full", "settled", _name, _about, with_body(_kind, **_fields))


@forgery(2, "full", "settled")
def time_beyond_2_53(world: World) -> None:
    """A time is an integer that not every reader keeps."""
    world.main.lines[-1].time_ms = 2**53


@forgery(2, "full", "settled")
def text_of_513_characters(world: World) -> None:
    """A reason has 513 characters."""
    body = {"run": "run-1", "member": A, "reason": "n" * 513}
    world.main.after(world.main.find("run.consented"), "run.declined", body)
