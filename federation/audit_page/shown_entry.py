"""One entry as the page shows it: its words, its hash, and the way from there to a signed root."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from federation.audit_page.ledger_index import LedgerIndex
from privacy.errors import NotVerifiedError
from privacy.json_value import json_value
from privacy.ledger.entry import Entry, parse_leaf
from privacy.ledger.merkle import leaf_hash, node_hash
from privacy.ledger.proof import EXTRA_BYTES_MAX, InclusionProof
from privacy.ledger.store import head_of, prove_inclusion

_DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class Step:
    """One step towards the root.

    Attributes:
        on_left: Whether the hash beside the path stands on the left.
        sibling: That hash, in hexadecimal.
        result: The hash above both.
    """

    on_left: bool
    sibling: str
    result: str


@dataclass(frozen=True, slots=True)
class ShownEntry:
    """One entry.

    Attributes:
        index: Its place.
        entry: What it says; None where it cannot be read.
        fault: Why it cannot be read.
        body: Its fields, as JSON over several lines.
        document: A manifest in it, the same way; empty without one.
        leaf_bytes: Its length.
        leaf: Its hash, in hexadecimal.
        steps: From its hash to the root.
        size: Entries below that root.
        root: The root of the checkpoint, or of all entries at hand.
        signed: Whether it is a checkpoint's root; otherwise nobody has signed it.
        cosigners: Others whose cosignature of that checkpoint was verified.
        holds: Whether the last step ends in the root.
    """

    index: int
    entry: Entry | None
    fault: str
    body: str
    document: str
    leaf_bytes: int
    leaf: str
    steps: tuple[Step, ...]
    size: int
    root: str
    signed: bool
    cosigners: int
    holds: bool


def leaf_at(ledger: LedgerIndex, index: int) -> bytes:
    """Return an entry's bytes.

    Raises:
        LookupError: there is no such entry.
    """
    if not 0 <= index < ledger.size:
        raise LookupError(f"there is no entry {index}")
    leaf = next(iter(ledger.view.store.leaves(index, index + 1)), None)
    if leaf is None:
        raise LookupError(f"entry {index} is no more")
    return leaf


def show(ledger: LedgerIndex, index: int) -> ShownEntry:
    """Return an entry with its proof: against the newest checkpoint that covers and has cosigners.

    Raises:
        LookupError: there is no such entry.
        NotVerifiedError: the ledger does not hold the hashes that a proof needs.
    """
    leaf = leaf_at(ledger, index)
    checkpoint = ledger.covering(index)
    if checkpoint is not None:
        size, root = checkpoint.size, checkpoint.root
    else:
        size = ledger.size
        root = head_of(ledger.view.store, size).root
    path = prove_inclusion(ledger.view.store, index, size)
    steps = _steps(leaf_hash(leaf), index, size, path)
    last = steps[-1].result if steps else leaf_hash(leaf).hex()
    entry, fault, body = _read(leaf)
    document = body.get(_DOCUMENT)
    if isinstance(document, str):
        body = {**body, _DOCUMENT: "..."}
    return ShownEntry(
        index=index,
        entry=entry,
        fault=fault,
        body=_pretty(body) if entry is not None else _visible(leaf.decode("utf-8", "replace")),
        document=_pretty_document(document) if isinstance(document, str) else "",
        leaf_bytes=len(leaf),
        leaf=leaf_hash(leaf).hex(),
        steps=steps,
        size=size,
        root=root,
        signed=checkpoint is not None,
        cosigners=0 if checkpoint is None else checkpoint.cosigned,
        holds=last == root,
    )


def proof_of(ledger: LedgerIndex, index: int) -> bytes:
    """Return the proof as a file (C2SP tlog-proof), with the entry in it unless it is long.

    Raises:
        LookupError: there is no such entry, or no checkpoint covers it.
    """
    checkpoint = ledger.covering(index)
    if checkpoint is None:
        raise LookupError(f"no checkpoint covers entry {index}")
    path = prove_inclusion(ledger.view.store, index, checkpoint.size)
    leaf = next(iter(ledger.view.store.leaves(index, index + 1)))
    extra = leaf if len(leaf) <= EXTRA_BYTES_MAX else None
    return InclusionProof(index, path, checkpoint.note, extra).to_bytes()


def _steps(leaf: bytes, index: int, size: int, path: tuple[bytes, ...]) -> tuple[Step, ...]:
    steps: list[Step] = []
    for on_left, sibling in zip(_sides(index, size), path, strict=True):
        leaf = node_hash(sibling, leaf) if on_left else node_hash(leaf, sibling)
        steps.append(Step(on_left, sibling.hex(), leaf.hex()))
    return tuple(steps)


def _sides(index: int, size: int) -> list[bool]:
    """Whether each hash of an inclusion proof stands on the left, from the leaf upwards."""
    sides: list[bool] = []
    start, end = 0, size
    while end - start > 1:
        # RFC 9162, section 2.1: the left part is the largest power of two below the size
        middle = start + (1 << ((end - start - 1).bit_length() - 1))
        sides.append(index >= middle)
        start, end = (middle, end) if index >= middle else (start, middle)
    return sides[::-1]


def _read(leaf: bytes) -> tuple[Entry | None, str, Mapping[str, Any]]:
    try:
        entry = parse_leaf(leaf)
    except NotVerifiedError as error:
        return None, str(error), {}
    return entry, "", dict(entry.body)


def _pretty(value: object) -> str:
    return _visible(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True))


def _pretty_document(text: str) -> str:
    try:
        return _pretty(json_value(text))
    except ValueError:
        return _visible(text)


def _visible(text: str) -> str:
    """Write what would not show, or turn the line around, as its number."""
    return "".join(
        each if each == "\n" or each.isprintable() else f"\\u{ord(each):04x}" for each in text
    )
