"""A bundle's file: what is written is read again, and nothing else is read as one."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from support.ledgers import (
    NAMES,
    Nodes,
    bundle_of,
    data_of,
    digest,
    ledger_of,
    small_run,
)

from privacy.canonical import canonical_json
from privacy.errors import NotVerifiedError
from privacy.ledger import bundle
from privacy.ledger.bundle import Bundle, Growth, Key, Log, read_bundle, write_bundle
from privacy.ledger.entry import LEAF_BYTES_MAX

NODES = Nodes(NAMES[:3])
ENTRIES = ledger_of(small_run(nodes=NODES))
BUNDLE = bundle_of(ENTRIES, NODES, states={3: (), 9: (), len(ENTRIES): NAMES[:3]})
DATA = data_of(BUNDLE)
LINES = DATA.splitlines(keepends=True)
HEAD, LOG = json.loads(LINES[0]), json.loads(LINES[1])["log"]
HASH = digest()


def ended(*lines: bytes) -> bytes:
    """These lines with the end that belongs to them."""
    body = b"".join(lines)
    return body + canonical_json({"end": hashlib.sha256(body).hexdigest()}) + b"\n"


def line(value: object) -> bytes:
    return canonical_json(value) + b"\n"


def refused(data: bytes, sentence: str | None = None) -> None:
    with pytest.raises(NotVerifiedError, match=sentence):
        read_bundle(data)


# --- round trip ---


def test_what_is_written_is_read_again() -> None:
    assert read_bundle(DATA) == BUNDLE
    assert data_of(read_bundle(DATA)) == DATA
    assert ended(*LINES[:-1]) == DATA


@pytest.mark.parametrize(
    "made",
    [
        replace(BUNDLE, logs=()),
        replace(BUNDLE, logs=BUNDLE.logs[1:]),
        replace(BUNDLE, federation="", policy="", made_ms=0),
        replace(BUNDLE, federation="Île d'Yeu \N{SNOWMAN} \n\t\"'", policy="quorum none\n\n# x\n"),
        replace(BUNDLE, logs=(replace(BUNDLE.logs[0], leaves=[]),)),
        replace(BUNDLE, logs=(replace(BUNDLE.logs[0], leaves=[b"", b"", b"{}"]),)),
        replace(BUNDLE, logs=(replace(BUNDLE.logs[0], checkpoints=(b"", "\N{EM DASH}".encode())),)),
        replace(BUNDLE, logs=(replace(BUNDLE.logs[0], keys=(), checkpoints=(), proofs=()),)),
        replace(
            BUNDLE,
            logs=(
                replace(
                    BUNDLE.logs[0],
                    keys=(Key(-1, "x"), Key(2**53, "")),
                ),
            ),
        ),
        replace(BUNDLE, logs=(replace(BUNDLE.logs[0], proofs=(Growth(-1, 0, ()),)),)),
    ],
)
def test_a_bundle_says_what_it_was_made_of_whatever_that_is(made: Bundle) -> None:
    """Reading checks the form alone; what it says is for the verifier."""
    assert read_bundle(data_of(made)) == made


def test_a_line_that_looks_like_the_next_header_is_an_entry_where_one_is_due() -> None:
    leaves = [LINES[1][:-1], LINES[0][:-1], LINES[-1][:-1]]
    made = replace(BUNDLE, logs=(replace(BUNDLE.logs[0], leaves=leaves),))
    assert read_bundle(data_of(made)) == made


def test_it_is_written_line_by_line() -> None:
    class Counting(BytesIO):
        most = 0

        def write(self, data: Any) -> int:  # noqa: ANN401 - as in `BytesIO`
            self.most = max(self.most, len(data))
            return super().write(data)

    file = Counting()
    write_bundle(BUNDLE, file)
    assert file.getvalue() == DATA
    assert file.most == max(len(one) for one in LINES)


# --- the end ---


def test_a_bundle_cut_anywhere_is_refused() -> None:
    for cut in range(len(DATA)):
        refused(DATA[:cut])
    for place in range(len(LINES)):
        refused(b"".join(LINES[:place]), "cut off|line")
        refused(b"".join(LINES[:place] + LINES[place + 1 :]))


def test_a_bundle_with_any_byte_changed_is_refused() -> None:
    for place in range(len(DATA)):
        changed = bytearray(DATA)
        changed[place] ^= 1 << (place % 8)
        refused(bytes(changed))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "cut off"),
        (b"\n", "line 1 of the bundle"),
        (b"\n\n\n", "of the bundle"),
        (DATA + b"\n", "of the bundle"),
        (DATA[:-1], "cut off"),
        (DATA + DATA, "changed or cut off"),
        (DATA + LINES[-1], "changed or cut off"),
        (b"\n" + DATA, "changed or cut off"),
        (b"\xef\xbb\xbf" + DATA, "changed or cut off"),
        (DATA.replace(b"\n", b"\r\n"), "of the bundle"),
        (ended(), "is empty"),
        (b"".join(LINES[:-1]) + line({"end": "0" * 64}), "changed or cut off"),
        (b"".join(LINES[:-1]) + line({"end": 0}), "changed or cut off"),
        (b"".join(LINES[:-1]) + line({"end": None}), "changed or cut off"),
        (b"".join(LINES[:-1]) + line({"ends": "0" * 64}), "of the bundle"),
        (b"".join(LINES[:-1]) + line("end"), "of the bundle"),
        (DATA[:-2] + b"} \n", "of the bundle"),
    ],
)
def test_the_end_is_the_hash_of_all_lines_before(data: bytes, sentence: str) -> None:
    refused(data, sentence)


def test_an_end_that_is_none_is_named_by_its_line() -> None:
    refused(b"".join(LINES[:-1]) + line({"end": 1, "more": 2}), f"^line {len(LINES)} of the bundle")


def test_the_ends_hash_has_one_spelling() -> None:
    end = json.loads(LINES[-1])["end"]
    refused(b"".join(LINES[:-1]) + line({"end": end.upper()}), "changed or cut off")


# --- the first line ---

# Field -> what it may not be.
ANYTHING: tuple[object, ...] = (None, True, 1, 1.5, "x", [], {}, [1], {"a": 1})
FIRST: dict[str, tuple[object, ...]] = {
    "bundle": (None, True, 0, 2, 1.0, "1", [1]),
    "federation": tuple(one for one in ANYTHING if type(one) is not str),
    "made_ms": tuple(one for one in ANYTHING if type(one) is not int),
    "policy": tuple(one for one in ANYTHING if type(one) is not str),
}


@pytest.mark.parametrize(
    "value",
    [
        *({**HEAD, name: value} for name, values in FIRST.items() for value in values),
        *({key: value for key, value in HEAD.items() if key != name} for name in HEAD),
        {**HEAD, "more": 1},
        {},
        [],
        None,
        "bundle",
        [HEAD],
    ],
)
def test_a_first_line_that_is_none_is_refused(value: object) -> None:
    refused(ended(line(value), *LINES[1:-1]), r"line 1 of the bundle|format 1")


# --- the headers of ledgers ---

TEXTS = tuple(one for one in ANYTHING if type(one) is not str)
LISTS = tuple(one for one in ANYTHING if type(one) is not list)
NO_HASHES: tuple[object, ...] = (
    *(None, 1, True, HASH, [1], [None], [[]]),
    *("", {}, {"a": 1}, {HASH: 1}),  # what can be gone through as a list can
)
A_KEY, A_PROOF = LOG["keys"][0], LOG["proofs"][0]
WRONG: dict[str, tuple[object, ...]] = {
    "origin": TEXTS,
    "owner": TEXTS,
    "role": TEXTS,
    "leaves": tuple(one for one in ANYTHING if type(one) is not int),
    "keys": (
        *LISTS,
        *([one] for one in ANYTHING),
        [{**A_KEY, "since": True}],
        [{**A_KEY, "since": 0.0}],
        [{**A_KEY, "since": "0"}],
        [{**A_KEY, "public": 1}],
        [{**A_KEY, "public": None}],
        [{**A_KEY, "until": 1}],
        [{"since": 0}],
        [A_KEY, None],
    ),
    "checkpoints": (*LISTS, *([text] for text in TEXTS)),
    "proofs": (
        *LISTS,
        *([one] for one in ANYTHING),
        [{**A_PROOF, "old": "3"}],
        [{**A_PROOF, "old": True}],
        [{**A_PROOF, "new": 9.0}],
        [{**A_PROOF, "new": None}],
        [{**A_PROOF, "more": 1}],
        [{"old": 3, "new": 9}],
        *([{**A_PROOF, "hashes": one}] for one in NO_HASHES),
        *(
            [{**A_PROOF, "hashes": [one]}]
            for one in (
                "",
                HASH[:-2],
                HASH + "00",
                HASH.upper(),
                "x" * 64,
                f" {HASH[1:]}",
                f"{HASH[:32]} {HASH[32:]}",
            )
        ),
    ),
}


@pytest.mark.parametrize(
    "value",
    [
        *({"log": {**LOG, name: value}} for name, values in WRONG.items() for value in values),
        *({"log": {key: value for key, value in LOG.items() if key != name}} for name in LOG),
        {"log": {**LOG, "more": 1}},
        {"log": LOG, "more": 1},
        {"log": None},
        {"log": []},
        {"logs": LOG},
        LOG,
        {},
        [],
        None,
    ],
)
def test_a_header_that_is_none_is_refused(value: object) -> None:
    refused(ended(LINES[0], line(value), *LINES[2:-1]), "line 2 of the bundle")
    # and as another ledger's
    second = 2 + len(ENTRIES)
    assert LINES[second].startswith(b'{"log":')
    changed = ended(*LINES[:second], line(value), *LINES[second + 1 : -1])
    refused(changed, rf"line {second + 1} of the bundle")


@pytest.mark.parametrize("form", [lambda one: one + b" ", lambda one: b" " + one, bytes.upper])
def test_every_line_that_is_read_here_is_canonical(form: Callable[[bytes], bytes]) -> None:
    for place in (0, 1):
        lines = list(LINES[:-1])
        lines[place] = form(lines[place][:-1]) + b"\n"
        refused(ended(*lines), f"line {place + 1} of the bundle")


def with_count(count: object) -> bytes:
    return ended(LINES[0], line({"log": {**LOG, "leaves": count}}), *LINES[2:-1])


def test_a_count_of_entries_that_lies_is_refused() -> None:
    left = len(LINES) - 3  # neither first line, header nor end
    assert read_bundle(with_count(left)).logs[0].leaves == [one[:-1] for one in LINES[2:-1]]
    for count in (-1, left + 1, 2**53, 2**63 - 1, float(len(ENTRIES)), str(len(ENTRIES)), True):
        refused(with_count(count), "line 2 of the bundle")
    # one too many takes the next header for an entry, one too few takes an entry for a header
    refused(with_count(len(ENTRIES) + 1), f"line {len(ENTRIES) + 4} of the bundle")
    refused(with_count(len(ENTRIES) - 1), f"line {len(ENTRIES) + 2} of the bundle")
    refused(with_count(0), "line 3 of the bundle")


def test_more_entries_than_were_counted_or_fewer_are_refused() -> None:
    refused(ended(*LINES[:-1], LINES[2]), "of the bundle")
    refused(ended(*LINES[:-2]), "more entries than follow")
    refused(ended(*LINES[:2]), "more entries than follow")


def test_what_could_expand_is_refused() -> None:
    long = b"9" * (LEAF_BYTES_MAX + 1)
    log = replace(BUNDLE.logs[0], leaves=[b"{}", long])
    refused(data_of(replace(BUNDLE, logs=(log,))), "is too long")
    fits = replace(log, leaves=[long[1:]])
    assert read_bundle(data_of(replace(BUNDLE, logs=(fits,)))).logs[0] == fits
    for deep in (b"[" * 100_000 + b"\n", b'{"a":' * 100_000 + b"\n"):
        refused(ended(deep, *LINES[1:-1]), "line 1 of the bundle")
        refused(ended(LINES[0], deep, *LINES[2:-1]), "line 2 of the bundle")
        refused(b"".join(LINES[:-1]) + deep, "of the bundle")


def test_a_header_that_is_too_long_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = max(len(LINES[0]), len(LINES[1])) - 1  # without its newline
    monkeypatch.setattr(bundle, "_HEADER_BYTES_MAX", longest)
    assert read_bundle(DATA) == BUNDLE
    long = replace(BUNDLE.logs[0], origin="x" * longest)
    refused(data_of(replace(BUNDLE, logs=(long,))), "line 2 of the bundle")


def test_a_bundle_is_a_value() -> None:
    assert isinstance(BUNDLE.logs[0], Log)
    assert read_bundle(DATA).logs == BUNDLE.logs
    assert read_bundle(DATA) != replace(BUNDLE, made_ms=0)
