"""What an entry of the ledger is: one line of canonical JSON, of a closed table of kinds.

The table may grow; the meaning of what it holds never changes. Unknown kinds, and fields that are
missing, unknown or of a wrong type, fail closed on writing and on reading.
"""

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import NotVerifiedError, ProtocolError
from privacy.receipt import Receipt

DOMAIN = b"tacit/ledger/v3\0"
LINE_BYTES_MAX = 1 << 20
_TEXT_CHARACTERS_MAX = 512
_DOCUMENT_CHARACTERS_MAX = 1 << 19
_NATURAL_MAX = 2**53 - 1
_HEX64 = re.compile("[0-9a-f]{64}")
_HEX128 = re.compile("[0-9a-f]{128}")
_FIELDS = frozenset({"index", "time_ms", "kind", "body", "previous", "digest"})

Body = Mapping[str, object]
_Check = Callable[[object], bool]


def is_natural(value: object) -> bool:
    """Whether `value` is an integer that any JSON reader keeps exactly: 0 <= n < 2^53."""
    return type(value) is int and 0 <= value <= _NATURAL_MAX


def is_hex64(value: object) -> bool:
    """Whether `value` is a SHA-256 in lower-case hexadecimal."""
    return isinstance(value, str) and _HEX64.fullmatch(value) is not None


def is_hex128(value: object) -> bool:
    """Whether `value` is an Ed25519 signature in lower-case hexadecimal."""
    return isinstance(value, str) and _HEX128.fullmatch(value) is not None


def _is_document(value: object) -> bool:
    """Whether `value` is a manifest's canonical text, of an acceptable length."""
    return isinstance(value, str) and 0 < len(value) <= _DOCUMENT_CHARACTERS_MAX


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _TEXT_CHARACTERS_MAX and value.isprintable()


def _is_amount(value: object) -> bool:
    """Whether `value` is a finite number of at least 0; a flag is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0


def _is_receipt(value: object) -> bool:
    try:
        Receipt.from_json(value)
    except ProtocolError:
        return False
    return True


def _is_members(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(_is_text(member) for member in value)
        and len(set(value)) == len(value)
    )


def _or_none(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


def _one_of(*names: str) -> _Check:
    return lambda value: value in names


def _is_by_member(check: _Check) -> _Check:
    """Whether a value is a table of members, with such a thing for each."""
    return lambda value: (
        isinstance(value, dict)
        and len(value) > 0
        and all(_is_text(member) and check(thing) for member, thing in value.items())
    )


_PROTECTION = _one_of("masked", "sealed", "ckks", "clear")
_SIGNATURES = _is_by_member(is_hex128)
# What a run may sum. `privacy.verify` says when each of them has its place.
STATISTICS = "statistics"
UPDATE = "update"
EVALUATIONS = ("evaluate watch", "evaluate test", "evaluate personal")
_STEP = _one_of(STATISTICS, UPDATE, *EVALUATIONS)
_WATCH, _TEST, _PERSONAL = EVALUATIONS
ROWS: Mapping[str, str] = MappingProxyType(
    {
        STATISTICS: "statistics",
        _WATCH: "validation rows",
        _TEST: "test rows",
        _PERSONAL: "test rows",
    }
)
"""Step -> the rows that it counts. All sums of a run about the same rows are over the same members:
over others, they would show single members as differences. Updates of each round are made from
another model, by another shuffle of the rows, and are not in the table."""

KINDS: Mapping[str, Mapping[str, _Check]] = MappingProxyType(
    {
        "run.started": {
            "run": _is_text,
            "name": _is_text,
            "task": _is_text,
            "members": _is_by_member(is_hex64),
            "minimum": is_natural,
            "group_size": is_natural,
            "manifest": is_hex64,
            "document": _is_document,
            "protection": _PROTECTION,
        },
        "keys.agreed": {
            "run": _is_text,
            "roster": is_hex64,
            "fingerprint": is_hex64,
            "public_bytes": is_natural,
        },
        "model.agreed": {
            "run": _is_text,
            "architecture": is_hex64,
            "model": is_hex64,
            "values": is_natural,
        },
        "sum.opened": {
            "run": _is_text,
            "step": _STEP,
            "round": is_natural,
            "asked": _is_members,
            "members": _is_members,
            "schema": is_hex64,
            "model": is_hex64,
            "context": is_hex64,
            "aggregate": is_hex64,
            "payload_bytes": is_natural,
            "signatures": _SIGNATURES,
        },
        "sum.accepted": {
            "run": _is_text,
            "step": _STEP,
            "round": is_natural,
            "model": is_hex64,
            "kept": _is_flag,
            "signatures": _SIGNATURES,
        },
        "receipt": {
            "run": _is_text,
            "step": _STEP,
            "round": is_natural,
            "protection": _PROTECTION,
            "members": _is_members,
            "receipt": _is_receipt,
        },
        "round.committed": {
            "run": _is_text,
            "round": is_natural,
            "model_before": is_hex64,
            "model_after": is_hex64,
        },
        "run.finished": {"run": _is_text, "rounds": is_natural, "model": is_hex64},
        "run.stopped": {"run": _is_text, "reason": _is_text},
        # Of a node's own ledger, which `privacy.budget` keeps: these and no other.
        "budget.terms": {
            "member": _is_text,
            "dataset": _is_text,
            "unit": _is_text,
            "epsilon": _or_none(_is_amount),
            "delta": _is_amount,
            "order": is_natural,
            "colluders": is_natural,
            "period_days": _or_none(_is_amount),
            "solo_epsilon": _or_none(_is_amount),
            "solo_order": is_natural,
        },
        "budget.reserved": {
            "run": _is_text,
            "step": _STEP,
            "round": is_natural,
            "dataset": _is_text,
            "receipt": _is_receipt,
        },
        "budget.committed": {
            "run": _is_text,
            "step": _STEP,
            "round": is_natural,
            "dataset": _is_text,
        },
    }
)
"""Kind -> field -> what its value must be. Every field is required, and no other is allowed."""


@dataclass(frozen=True)
class Entry:
    """One entry. `digest` is over all else, so an entry that exists is consistent.

    Attributes:
        index: Its place, from 0.
        time_ms: Milliseconds since 1970 UTC by the writer's clock, never less than the one before.
        kind: One of `KINDS`.
        body: What this kind says.
        previous: Digest of the entry before, or `chain.EMPTY_ROOT`; 64 hexadecimal digits.
        digest: SHA-256 of the domain and the canonical bytes of the rest; 64 hexadecimal digits.
    """

    index: int
    time_ms: int
    kind: str
    body: Body
    previous: str
    digest: str

    def line(self) -> bytes:
        """Return the entry as it stands in the file: canonical JSON and a newline."""
        content = _content(self.index, self.time_ms, self.kind, self.body, self.previous)
        return canonical_json({**content, "digest": self.digest}) + b"\n"


def make_entry(*, index: int, time_ms: int, kind: str, body: Body, previous: str) -> Entry:
    """Return the entry with its digest.

    Raises:
        ValueError: the kind is unknown, or a field is missing, unknown or of a wrong type.
    """
    fault = _fault(index=index, time_ms=time_ms, kind=kind, body=body, previous=previous)
    if fault:
        raise ValueError(fault)
    frozen = {
        name: value.copy() if isinstance(value, list | dict) else value
        for name, value in body.items()
    }
    digest = _digest(_content(index, time_ms, kind, frozen, previous))
    entry = Entry(index, time_ms, kind, MappingProxyType(frozen), previous, digest)
    if len(entry.line()) > LINE_BYTES_MAX:
        raise ValueError(f"an entry of kind {kind} exceeds {LINE_BYTES_MAX} bytes")
    return entry


def parse_line(line: bytes) -> Entry:
    """Return the entry that `line`, with its newline, holds. Its place is not checked.

    Raises:
        NotVerifiedError: it is no line that `Entry.line` wrote, or its digest is not its own.
    """
    if not line.endswith(b"\n") or len(line) > LINE_BYTES_MAX:
        raise NotVerifiedError("the line has no end, or is too long")
    try:
        value = parse_canonical(line[:-1])
    except ProtocolError:
        raise NotVerifiedError("the line is not canonical JSON") from None
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise NotVerifiedError("the line has not the fields of an entry")
    content = {name: item for name, item in value.items() if name != "digest"}
    fault = _fault(**content)
    if fault:
        raise NotVerifiedError(fault)
    if value["digest"] != _digest(content):
        raise NotVerifiedError("the entry was changed: its digest does not fit")
    body = MappingProxyType(content["body"])
    return Entry(**{**content, "body": body, "digest": value["digest"]})


def _content(index: int, time_ms: int, kind: str, body: Body, previous: str) -> dict[str, object]:
    return {
        "index": index,
        "time_ms": time_ms,
        "kind": kind,
        "body": dict(body),
        "previous": previous,
    }


def _digest(content: Mapping[str, object]) -> str:
    return hashlib.sha256(DOMAIN + canonical_json(dict(content))).hexdigest()


def _fault(*, index: object, time_ms: object, kind: object, body: object, previous: object) -> str:
    """Return what is wrong, or nothing: writing and reading ask the same question."""
    if not is_natural(index) or not is_natural(time_ms) or not is_hex64(previous):
        return "index, time_ms or previous is of a wrong type"
    if not isinstance(kind, str) or kind not in KINDS:
        return f"the kind {kind!r:.80} is unknown; a newer version may know it"
    fields = KINDS[kind]
    if not isinstance(body, Mapping) or body.keys() != fields.keys():
        return f"{kind} has the fields {', '.join(fields)}, all of them and no other"
    wrong = [name for name, check in fields.items() if not check(body[name])]
    return f"{kind} has a wrong value in {', '.join(wrong)}" if wrong else ""
