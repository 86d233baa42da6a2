"""What an entry of a ledger is: canonical JSON, one leaf of a Merkle tree, of a closed table.

The table may grow; the meaning of what it holds never changes. Unknown kinds, and fields that are
missing, unknown or of a wrong type, fail closed on writing and on reading. That nothing was
changed or taken out shows in the root of the tree (`privacy.ledger.merkle`), not in an entry.
"""

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, cast

from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import NotVerifiedError, ProtocolError
from privacy.receipt import Receipt

FORMAT: Final = 4
"""Of a leaf's bytes. Formats 1 to 3 were chains of digests, before the first release."""
LEAF_BYTES_MAX: Final = 1 << 20
_TEXT_CHARACTERS_MAX = 512
_DOCUMENT_CHARACTERS_MAX = 1 << 19
_NATURAL_MAX = 2**53 - 1
_HEX64 = re.compile("[0-9a-f]{64}")
_HEX128 = re.compile("[0-9a-f]{128}")
_FIELDS = frozenset({"format", "epoch", "index", "time_ms", "kind", "body"})

Body: TypeAlias = Mapping[str, object]
Family: TypeAlias = Literal[
    "collection", "deidentification", "modelling", "output", "administration"
]
_Check: TypeAlias = Callable[[object], bool]


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


def _is_count(value: object) -> bool:
    return is_natural(value) and value != 0


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


def _is_none_or(check: _Check, value: object) -> bool:
    return value is None or check(value)


def _is_one_of(names: tuple[str, ...], value: object) -> bool:
    return value in names


def _is_by_member(check: _Check, value: object) -> bool:
    """Whether `value` is a table of members, with such a thing for each."""
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(_is_text(member) and check(thing) for member, thing in value.items())
    )


_PROTECTION = partial(_is_one_of, ("masked", "sealed", "ckks", "clear"))
_SIGNATURES = partial(_is_by_member, is_hex128)
_ROLE = partial(_is_one_of, ("coordinator", "node"))
ROLES: Final = ("operator", "manufacturer", "insurer", "bank", "regulator")
"""What a participant of a federation may be."""
_PARTICIPANT = partial(_is_one_of, ROLES)
_NO_KEY = ("no key",)
# What a run may sum. `privacy.verify` says when each of them has its place.
STATISTICS = "statistics"
UPDATE = "update"
EVALUATIONS = ("evaluate watch", "evaluate test", "evaluate personal")
_STEP = partial(_is_one_of, (STATISTICS, UPDATE, *EVALUATIONS))
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


def _is_head(value: object) -> bool:
    """Whether `value` is a node's own ledger as it said itself: size, root, and its signature."""
    return (
        isinstance(value, dict)
        and value.keys() == {"leaves", "root", "signature"}
        and is_natural(value["leaves"])
        and is_hex64(value["root"])
        and is_hex128(value["signature"])
    )


def _is_classes(value: object) -> bool:
    return isinstance(value, dict) and all(
        name in {"L1", "L2", "L3", "L4"} and is_natural(count) for name, count in value.items()
    )


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(_is_text(name) for name in value)


def _is_attributes(value: object) -> bool:
    return isinstance(value, dict) and all(
        _is_text(name) and _is_text(said) for name, said in value.items()
    )


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table.

    Attributes:
        family: Which of the families of acts it belongs to; None: the step says it.
        fields: Field -> what its value must be. Every field is required, and no other is allowed.
        key: Fields that name the act. Two entries of a ledger never have the same.
        owner: Whose ledger it is for.
        optional: Fields that may be left out, likewise.
    """

    family: Family | None
    fields: Mapping[str, _Check]
    key: tuple[str, ...]
    owner: Literal["coordinator", "node", "any"]
    optional: Mapping[str, _Check] = field(default_factory=dict)

    def wrong(self, body: Mapping[str, object]) -> list[str]:
        """Return the fields that are missing, unknown or of a wrong value."""
        known = {**self.fields, **{n: c for n, c in self.optional.items() if n in body}}
        odd = sorted(body.keys() - known.keys())
        return [n for n, check in known.items() if n not in body or not check(body[n])] + odd


_A_SUM: Mapping[str, _Check] = MappingProxyType(
    {"run": _is_text, "step": _STEP, "round": is_natural}
)

# A device and its readings by digests under a key of the node's, reviews of it counted from 1.
_A_REVIEW: Mapping[str, _Check] = MappingProxyType(
    {"dataset": _is_text, "device": is_hex64, "review": _is_count, "readings": is_hex64}
)
_REVIEW: Final = ("dataset", "device", "review")

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        # Acts of administration.
        "ledger.begun": Kind(
            "administration",
            {"origin": _is_text, "key": is_hex64, "owner": _is_text, "role": _ROLE},
            (),
            "any",
        ),
        "key.rotated": Kind(
            "administration",
            {"key": is_hex64, "signature": is_hex128},
            ("key",),
            "any",
        ),
        "writer.began": Kind("administration", {"writer": _is_text}, _NO_KEY, "coordinator"),
        "rules.checked": Kind(
            "administration",
            {"run": _is_text, "rules": is_hex64, "warnings": _is_names},
            ("run",),
            "coordinator",
        ),
        # Who takes part; `privacy.membership` says when each of them has its place.
        "federation.begun": Kind(
            "administration",
            {
                "federation": _is_text,
                "root": is_hex64,
                "approvals": _is_count,
                "founder": _is_text,
                "key": is_hex64,
                "signature": is_hex128,
            },
            (),
            "coordinator",
            # of the first suite where it is left out, as in all federations before there were more
            MappingProxyType({"suite": partial(_is_one_of, ("gm", "hybrid"))}),
        ),
        "member.invited": Kind(
            "administration",
            {
                "token": is_hex64,
                "role": _PARTICIPANT,
                "name": _is_text,
                "attributes": _is_attributes,
                "expires_ms": is_natural,
                "by": _is_text,
                "signature": is_hex128,
            },
            ("token",),
            "coordinator",
        ),
        "member.requested": Kind(
            "administration",
            {
                "token": is_hex64,
                "name": _is_text,
                "role": _PARTICIPANT,
                "key": is_hex64,
                "tls": is_hex64,
                "signature": is_hex128,
            },
            ("token",),
            "coordinator",
        ),
        "member.approved": Kind(
            "administration",
            {"name": _is_text, "key": is_hex64, "by": _is_text, "signature": is_hex128},
            ("key", "by"),
            "coordinator",
        ),
        "member.certified": Kind(
            "administration",
            {
                "name": _is_text,
                "key": is_hex64,
                "tls": is_hex64,
                "certificate": is_hex64,
                "expires_ms": is_natural,
            },
            ("certificate",),
            "coordinator",
        ),
        "member.renewed": Kind(
            "administration",
            {
                "name": _is_text,
                "key": is_hex64,
                "new": is_hex64,
                "tls": is_hex64,
                "signature": is_hex128,
                "proof": is_hex128,
            },
            ("name", "tls"),
            "coordinator",
        ),
        "member.revoked": Kind(
            "administration",
            {
                "name": _is_text,
                "key": is_hex64,
                "reason": _is_text,
                "by": _is_text,
                "signature": is_hex128,
            },
            ("key",),
            "coordinator",
        ),
        # What data a run is about, and what of it a node read.
        "data.declared": Kind(
            "collection",
            {
                "run": _is_text,
                "contract": is_hex64,
                "dataset": _is_text,
                "unit": _is_text,
                "classes": _is_classes,
                "retention_days": partial(_is_none_or, is_natural),
            },
            ("run",),
            "coordinator",
        ),
        "rows.read": Kind(
            "collection",
            {"run": _is_text, "contract": is_hex64, "rows": is_hex64},
            ("run",),
            "node",
        ),
        # Runs.
        "run.started": Kind(
            "modelling",
            {
                "run": _is_text,
                "name": _is_text,
                "task": _is_text,
                "members": partial(_is_by_member, is_hex64),
                "minimum": is_natural,
                "group_size": is_natural,
                "manifest": is_hex64,
                "document": _is_document,
                "signature": is_hex128,
                "launcher": is_hex64,
                "protection": _PROTECTION,
            },
            ("run",),
            "coordinator",
        ),
        "run.countersigned": Kind(
            "modelling",
            {"run": _is_text, "member": _is_text, "signature": is_hex128},
            ("run",),
            "coordinator",
        ),
        "run.consented": Kind(
            "modelling",
            {"run": _is_text, "member": _is_text, "signature": is_hex128},
            ("run", "member"),
            "coordinator",
        ),
        "run.declined": Kind(
            "modelling",
            {"run": _is_text, "member": _is_text, "reason": _is_text},
            ("run", "member"),
            "coordinator",
        ),
        "keys.agreed": Kind(
            "modelling",
            {
                "run": _is_text,
                "roster": is_hex64,
                "fingerprint": is_hex64,
                "public_bytes": is_natural,
            },
            ("run",),
            "coordinator",
        ),
        "model.agreed": Kind(
            "modelling",
            {"run": _is_text, "architecture": is_hex64, "model": is_hex64, "values": is_natural},
            ("run",),
            "coordinator",
        ),
        "sum.reserved": Kind(
            None,
            {
                **_A_SUM,
                "asked": _is_members,
                "schema": is_hex64,
                "model": is_hex64,
                "context": is_hex64,
                "protection": _PROTECTION,
                "receipt": _is_receipt,
                "nodes": partial(_is_by_member, _is_head),
            },
            ("run", "context"),
            "coordinator",
        ),
        "sum.opened": Kind(
            None,
            {
                **_A_SUM,
                "context": is_hex64,
                "members": _is_members,
                "aggregate": is_hex64,
                "payload_bytes": is_natural,
                "signatures": _SIGNATURES,
            },
            ("run", "context"),
            "coordinator",
        ),
        "sum.accepted": Kind(
            None,
            {**_A_SUM, "model": is_hex64, "kept": _is_flag, "signatures": _SIGNATURES},
            ("run", "step", "round"),
            "coordinator",
        ),
        "round.committed": Kind(
            "modelling",
            {
                "run": _is_text,
                "round": is_natural,
                "model_before": is_hex64,
                "model_after": is_hex64,
            },
            ("run", "round"),
            "coordinator",
        ),
        "run.finished": Kind(
            "modelling",
            {"run": _is_text, "rounds": is_natural, "model": is_hex64},
            ("run",),
            "coordinator",
        ),
        "run.stopped": Kind(
            "modelling", {"run": _is_text, "reason": _is_text}, ("run",), "coordinator"
        ),
        # What is handed out.
        "model.registered": Kind(
            "output",
            {"run": _is_text, "model": is_hex64, "file": is_hex64, "card": is_hex64},
            ("run",),
            "coordinator",
        ),
        # Of a node's own ledger.
        "ledger.followed": Kind(
            "administration", {"origin": _is_text, "key": is_hex64}, ("origin",), "node"
        ),
        "ledger.cosigned": Kind(
            "administration",
            {"origin": _is_text, "leaves": is_natural, "root": is_hex64},
            ("origin", "leaves"),
            "node",
        ),
        "ledger.rekeyed": Kind(
            "administration",
            {"origin": _is_text, "key": is_hex64, "leaves": is_natural},
            ("origin", "leaves"),
            "node",
        ),
        "run.joined": Kind(
            "modelling",
            {"run": _is_text, "manifest": is_hex64, "origin": _is_text},
            ("manifest",),
            "node",
        ),
        "run.refused": Kind(
            "modelling", {"manifest": is_hex64, "reason": _is_text}, ("manifest",), "node"
        ),
        # What a person decided about a manifest, and the terms in force from here on.
        "run.decided": Kind(
            "modelling",
            {
                "manifest": is_hex64,
                "decision": partial(_is_one_of, ("approved", "refused")),
                "reason": _is_text,
            },
            ("manifest",),
            "node",
        ),
        "policy.applied": Kind("administration", {"policy": is_hex64}, _NO_KEY, "node"),
        # Which devices' rows wait for a person, and what it decided: `clients.review`.
        "device.held": Kind("collection", {**_A_REVIEW, "reason": _is_text}, _REVIEW, "node"),
        "device.released": Kind(
            "collection", {**_A_REVIEW, "reason": _is_text, "by": _is_text}, _REVIEW, "node"
        ),
        "device.rejected": Kind(
            "collection", {**_A_REVIEW, "reason": _is_text, "by": _is_text}, _REVIEW, "node"
        ),
        "budget.terms": Kind(
            "administration",
            {
                "member": _is_text,
                "dataset": _is_text,
                "unit": _is_text,
                "epsilon": partial(_is_none_or, _is_amount),
                "delta": _is_amount,
                "order": is_natural,
                "colluders": is_natural,
                "period_days": partial(_is_none_or, _is_amount),
                "solo_epsilon": partial(_is_none_or, _is_amount),
                "solo_order": is_natural,
            },
            _NO_KEY,
            "node",
        ),
        "budget.reserved": Kind(
            None,
            {**_A_SUM, "dataset": _is_text, "receipt": _is_receipt},
            ("run", "step", "round"),
            "node",
        ),
        "budget.committed": Kind(
            None, {**_A_SUM, "dataset": _is_text}, ("run", "step", "round"), "node"
        ),
        "budget.aborted": Kind(
            None,
            {**_A_SUM, "dataset": _is_text, "reason": _is_text, "signature": is_hex128},
            ("run", "step", "round"),
            "node",
        ),
    }
)
"""The closed table. `budget.terms`, `policy.applied` and `writer.began` alone may stand twice with
the same words: terms, policies and writers come and go."""


@dataclass(frozen=True)
class Entry:
    """One entry; one that exists is of the table.

    Attributes:
        index: Its place, from 0.
        time_ms: Milliseconds since 1970 UTC by the writer's clock, never less than the one before.
        epoch: Which writer's turn it was, from 1; where several may write, later ones fence off
            earlier ones. Never less than the one before.
        kind: One of `KINDS`.
        body: What this kind says.
    """

    index: int
    time_ms: int
    epoch: int
    kind: str
    body: Body

    def leaf(self) -> bytes:
        """Return the bytes that the tree hashes: canonical JSON in ASCII, without a line end."""
        return canonical_json(
            {
                "format": FORMAT,
                "epoch": self.epoch,
                "index": self.index,
                "time_ms": self.time_ms,
                "kind": self.kind,
                "body": dict(self.body),
            }
        )

    @property
    def key(self) -> bytes | None:
        """What names the act in its ledger, 32 bytes; None where it may be repeated."""
        return key_of(self.kind, self.body)

    @property
    def act(self) -> tuple[object, ...] | None:
        """What names the act, as values: quicker to compare than its `key`, and as good."""
        fields = KINDS[self.kind].key
        return None if fields is _NO_KEY else (self.kind, *(self.body[name] for name in fields))

    @property
    def family(self) -> Family:
        """Which family of acts it belongs to."""
        family = KINDS[self.kind].family
        if family is not None:
            return family
        step = self.body["step"]
        if step == STATISTICS:
            return "deidentification"
        return "modelling" if step == UPDATE else "output"


def key_of(kind: str, body: Body) -> bytes | None:
    """Return what names an act of this kind in its ledger, 32 bytes; None where it may be repeated.

    Raises:
        KeyError: the kind is unknown, or a field of its key is missing.
    """
    fields = KINDS[kind].key
    if fields is _NO_KEY:
        return None
    return hashlib.sha256(canonical_json([kind, *(body[name] for name in fields)])).digest()


def make_entry(*, index: int, time_ms: int, epoch: int, kind: str, body: Body) -> Entry:
    """Return the entry.

    Raises:
        ValueError: the kind is unknown, or a field is missing, unknown or of a wrong type.
    """
    fault = _fault(index=index, time_ms=time_ms, epoch=epoch, kind=kind, body=body)
    if fault:
        raise ValueError(fault)
    frozen = {
        name: value.copy() if isinstance(value, list | dict) else value
        for name, value in body.items()
    }
    entry = Entry(index, time_ms, epoch, kind, MappingProxyType(frozen))
    if len(entry.leaf()) > LEAF_BYTES_MAX:
        raise ValueError(f"an entry of kind {kind} exceeds {LEAF_BYTES_MAX} bytes")
    return entry


def parse_leaf(leaf: bytes) -> Entry:
    """Return the entry that `leaf` holds. Its place is not checked.

    Raises:
        NotVerifiedError: it is nothing that `Entry.leaf` returns.
    """
    if len(leaf) > LEAF_BYTES_MAX:
        raise NotVerifiedError("the entry is too long")
    try:
        value = parse_canonical(leaf)
    except ProtocolError:
        raise NotVerifiedError("the entry is not canonical JSON") from None
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise NotVerifiedError("the entry has not the fields of one")
    form = value.pop("format")
    if type(form) is not int or form != FORMAT:
        raise NotVerifiedError(f"the entry is not of format {FORMAT}; a newer version may read it")
    fault = _fault(**value)
    if fault:
        raise NotVerifiedError(fault)
    return Entry(
        index=value["index"],
        time_ms=value["time_ms"],
        epoch=value["epoch"],
        kind=value["kind"],
        body=MappingProxyType(cast("dict[str, object]", value["body"])),
    )


def _fault(*, index: object, time_ms: object, epoch: object, kind: object, body: object) -> str:
    """Return what is wrong, or nothing: writing and reading ask the same question."""
    if not is_natural(index) or not is_natural(time_ms) or not is_natural(epoch) or epoch == 0:
        return "index, time_ms or epoch is of a wrong type"
    if not isinstance(kind, str) or kind not in KINDS:
        return f"the kind {kind!r:.80} is unknown; a newer version may know it"
    fields, optional = KINDS[kind].fields, KINDS[kind].optional
    if not isinstance(body, Mapping) or body.keys() - optional.keys() != fields.keys():
        return f"{kind} has the fields {', '.join(fields)}, all of them and no other"
    wrong = KINDS[kind].wrong(body)
    return f"{kind} has a wrong value in {', '.join(wrong)}" if wrong else ""
