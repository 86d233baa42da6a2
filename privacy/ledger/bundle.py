"""All that an auditor needs, in one file: ledgers with their entries, signed states, proofs, keys.

    {"bundle":1,"federation":..,"made_ms":..,"policy":..}
    {"log":{"origin":..,"owner":..,"role":..,"leaves":n,"keys":[..],"checkpoints":[..],"proofs":[..]}}
    ... n lines, each one entry as it was hashed
    {"log":..}  and so on
    {"end":"<SHA-256 of all lines before>"}

Each line is canonical JSON in ASCII, ended by a newline, so that any language reads it line by line
and nothing in it can expand. The last line finds accidents; what finds intent are the signatures.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import NotVerifiedError, ProtocolError
from privacy.ledger.entry import LEAF_BYTES_MAX

FORMAT: Final = 1
_HEADER_BYTES_MAX: Final = 64 << 20
_LOG_FIELDS: Final = frozenset(
    {"origin", "owner", "role", "leaves", "keys", "checkpoints", "proofs"}
)


@dataclass(frozen=True, slots=True)
class Key:
    """A log's key from an entry on.

    Attributes:
        since: Checkpoints of so many leaves or more are signed by it; 0 for the first.
        public: Ed25519, 64 hexadecimal digits.
    """

    since: int
    public: str


@dataclass(frozen=True, slots=True)
class Growth:
    """That one state of a log begins with an earlier one (RFC 9162, section 2.1.4).

    Attributes:
        old: Leaves of the earlier state.
        new: Leaves of the later one.
        hashes: The consistency proof, 32 bytes each.
    """

    old: int
    new: int
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One ledger in a bundle, as it was handed over; nothing of it is checked.

    Attributes:
        origin: Its name in checkpoints.
        owner: Whose it is: a member's name, or the coordinator's.
        role: `coordinator` or `node`.
        keys: Its key history, the first key first.
        checkpoints: Signed and perhaps cosigned notes (C2SP), smallest first.
        proofs: From each checkpoint to the next.
        leaves: Its entries.
    """

    origin: str
    owner: str
    role: str
    keys: tuple[Key, ...]
    checkpoints: tuple[bytes, ...]
    proofs: tuple[Growth, ...]
    leaves: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Ledgers, and the policy by which whoever exported them would have them checked.

    Attributes:
        federation: Its name, for people.
        made_ms: When it was exported, milliseconds since 1970 UTC.
        policy: C2SP tlog-policy for the coordinator's log; an auditor may have one of its own.
        logs: The coordinator's first.
    """

    federation: str
    made_ms: int
    policy: str
    logs: tuple[Log, ...]


def write_bundle(bundle: Bundle, file: BinaryIO) -> None:
    """Write a bundle, line by line."""
    digest = hashlib.sha256()
    for line in _lines(bundle):
        digest.update(line)
        file.write(line)
    file.write(canonical_json({"end": digest.hexdigest()}) + b"\n")


def read_bundle(data: bytes) -> Bundle:
    """Return the bundle that `data` holds; its entries and signatures are not checked.

    Raises:
        NotVerifiedError: it is none, was cut off or was changed; says at which line.
    """
    if not data.endswith(b"\n"):
        raise NotVerifiedError("the bundle was cut off; get it again")
    cut = data.rfind(b"\n", 0, -1) + 1
    end = _object(data[cut:-1], data.count(b"\n", 0, cut), "end")
    if end != hashlib.sha256(data[:cut]).hexdigest():
        raise NotVerifiedError("the bundle was changed or cut off on its way; get it again")
    lines = data[:cut].split(b"\n")
    lines.pop()
    if not lines:
        raise NotVerifiedError("the bundle is empty; get it again")
    head = _fields(lines[0], 0, {"bundle", "federation", "made_ms", "policy"})
    if type(head["bundle"]) is not int or head["bundle"] != FORMAT:
        raise NotVerifiedError(f"this is no bundle of format {FORMAT}; update tacit")
    if (
        not isinstance(head["federation"], str)
        or type(head["made_ms"]) is not int
        or not isinstance(head["policy"], str)
    ):
        raise NotVerifiedError("line 1 of the bundle has a value of a wrong type")
    return Bundle(
        federation=head["federation"],
        made_ms=head["made_ms"],
        policy=head["policy"],
        logs=tuple(_logs(lines)),
    )


def _lines(bundle: Bundle) -> Iterator[bytes]:
    yield _line(
        {
            "bundle": FORMAT,
            "federation": bundle.federation,
            "made_ms": bundle.made_ms,
            "policy": bundle.policy,
        }
    )
    for log in bundle.logs:
        yield _line(
            {
                "log": {
                    "origin": log.origin,
                    "owner": log.owner,
                    "role": log.role,
                    "leaves": len(log.leaves),
                    "keys": [{"since": one.since, "public": one.public} for one in log.keys],
                    "checkpoints": [note.decode("utf-8") for note in log.checkpoints],
                    "proofs": [
                        {"old": p.old, "new": p.new, "hashes": [one.hex() for one in p.hashes]}
                        for p in log.proofs
                    ],
                }
            }
        )
        for leaf in log.leaves:
            yield leaf + b"\n"


def _line(value: object) -> bytes:
    return canonical_json(value) + b"\n"


def _logs(lines: Sequence[bytes]) -> Iterator[Log]:
    at = 1
    while at < len(lines):
        told = _object(lines[at], at, "log")
        if not isinstance(told, dict) or told.keys() != _LOG_FIELDS:
            raise _wrong(at)
        count = told["leaves"]
        if type(count) is not int or not 0 <= count <= len(lines) - at - 1:
            raise NotVerifiedError(f"line {at + 1} of the bundle names more entries than follow")
        leaves = lines[at + 1 : at + 1 + count]
        if any(len(leaf) > LEAF_BYTES_MAX for leaf in leaves):
            raise NotVerifiedError(f"an entry after line {at + 1} of the bundle is too long")
        yield _log(told, leaves, at)
        at += 1 + count


def _log(told: dict[str, Any], leaves: Sequence[bytes], at: int) -> Log:
    texts = ("origin", "owner", "role")
    lists = ("keys", "checkpoints", "proofs")
    if not all(isinstance(told[name], str) for name in texts) or not all(
        isinstance(told[name], list) for name in lists
    ):
        raise _wrong(at)
    try:
        return Log(
            origin=told["origin"],
            owner=told["owner"],
            role=told["role"],
            keys=tuple(_key(one) for one in told["keys"]),
            checkpoints=tuple(one.encode("utf-8") for one in told["checkpoints"]),
            proofs=tuple(_growth(one) for one in told["proofs"]),
            leaves=leaves,
        )
    except (AttributeError, TypeError, ValueError, KeyError):
        raise _wrong(at) from None


def _key(value: dict[str, Any]) -> Key:
    _exactly(value, {"since", "public"})
    if type(value["since"]) is not int or not isinstance(value["public"], str):
        raise TypeError
    return Key(value["since"], value["public"])


def _growth(value: dict[str, Any]) -> Growth:
    _exactly(value, {"old", "new", "hashes"})
    if type(value["old"]) is not int or type(value["new"]) is not int:
        raise TypeError
    if not isinstance(value["hashes"], list):
        raise TypeError
    return Growth(value["old"], value["new"], tuple(_hash(one) for one in value["hashes"]))


def _hash(text: str) -> bytes:
    digest = bytes.fromhex(text)
    # one hash has one spelling
    if digest.hex() != text or len(digest) != hashlib.sha256().digest_size:
        raise ValueError
    return digest


def _exactly(value: dict[str, Any], names: set[str]) -> None:
    if value.keys() != names:
        raise KeyError


def _object(line: bytes, at: int, name: str) -> object:
    return _fields(line, at, {name})[name]


def _fields(line: bytes, at: int, names: Iterable[str]) -> dict[str, Any]:
    if len(line) > _HEADER_BYTES_MAX:
        raise _wrong(at)
    try:
        value = parse_canonical(line)
    except ProtocolError:
        raise _wrong(at) from None
    if not isinstance(value, dict) or value.keys() != set(names):
        raise _wrong(at)
    return value


def _wrong(at: int) -> NotVerifiedError:
    return NotVerifiedError(f"line {at + 1} of the bundle is not what stands there; get it again")
