"""Check a bundle of tacit's ledgers with this one file and the standard library alone.

    python verify_alone.py BUNDLE [--policy FILE] [--head ORIGIN:LEAVES:ROOT]... [--json] [--slow]

Exit code 0: it holds. 1: it does not, and the step and the entry are named. 2: wrong usage.

It was written apart from `privacy.verify`, from the formats' definition (docs/bundle.md), so that a
mistake in one of them shows as a difference: both give the same verdict on all of tests/vectors.
Copy it wherever Python 3.11 is. Where `cryptography` is installed, it verifies signatures; with
`--slow`, or without it, the Ed25519 of this file does (RFC 8032, some milliseconds each).
"""

import argparse
import base64
import binascii
import hashlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, TextIO
from urllib.parse import quote

_FastKey: Any
try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey as _FastKey
except ImportError:
    _FastKey = None

STEPS: Final = (
    "form",
    "entries",
    "order",
    "tree",
    "signed states",
    "runs",
    "witnesses",
    "nodes' ledgers",
    "both sides",
    "privacy",
)
"""Names of the steps; the first is step 1."""

Json = dict[str, Any]
Act = tuple[str, str, int]
Head = tuple[str, int, str]
"""A state of a ledger that somebody remembers: origin, number of entries, root in hexadecimal."""


class NotVerified(Exception):  # noqa: N818 - the verdict's name
    """The bundle does not hold what it claims.

    Attributes:
        step: Number of the step that found it, 1 to 10.
        message: One sentence, with the ledger and the entry where there is one.
    """

    def __init__(self, step: int, message: str) -> None:
        super().__init__(f"step {step} ({STEPS[step - 1]}): {message}")
        self.step = step
        self.message = message


class WrongUse(Exception):  # noqa: N818 - no error of the bundle
    """What was given beside the bundle cannot be used."""


class _Fault(Exception):  # noqa: N818 - becomes NotVerified where the step is known
    """What does not hold."""


class _Step:
    """Whatever is raised within it is a refusal at this step: nothing unforeseen lets pass."""

    def __init__(self, number: int, where: str = "") -> None:
        self.number, self.where = number, where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, NotVerified):
            what = str(error) if isinstance(error, _Fault) else f"it cannot be read: {error!r:.200}"
            raise NotVerified(self.number, f"{self.where}{what}") from None


def _fail(message: str) -> NoReturn:
    raise _Fault(message)


def _need(holds: object, otherwise: str) -> None:
    if not holds:
        raise _Fault(otherwise)


# ---------------------------------------------------------------- signatures: Ed25519 (RFC 8032)

_P: Final = 2**255 - 19
_L: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_1: Final = pow(2, (_P - 1) // 4, _P)
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_Point = tuple[int, int, int, int]  # x = X / Z, y = Y / Z, xy = T / Z
_NEUTRAL: Final[_Point] = (0, 1, 1, 0)
_WINDOW: Final = 4
_WINDOWS: Final = 256 // _WINDOW


def _plus(left: _Point, right: _Point) -> _Point:
    # Section 5.1.4; complete, so it doubles as well.
    x1, y1, z1, t1 = left
    x2, y2, z2, t2 = right
    a = (y1 - x1) * (y2 - x2) % _P
    b = (y1 + x1) * (y2 + x2) % _P
    c = 2 * t1 * t2 * _D % _P
    d = 2 * z1 * z2 % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _point(encoded: bytes) -> _Point | None:
    """Return the point that 32 bytes stand for, section 5.1.3; None where they are none.

    As OpenSSL reads keys: y is taken modulo p, and a zero x may have either sign. No key that
    anybody made is so written, and both verifiers must agree about those that are.
    """
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, (number & (2**255 - 1)) % _P
    over, under = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = over * pow(under, 3, _P) * pow(over * pow(under, 7, _P), (_P - 5) // 8, _P) % _P
    if (under * x * x - over) % _P:
        x = x * _ROOT_OF_MINUS_1 % _P
    if (under * x * x - over) % _P:
        return None
    if x & 1 != sign:
        x = -x % _P
    return x, y, 1, x * y % _P


def _bytes_of(point: _Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, _P)
    x, y = x * inverse % _P, y * inverse % _P
    return (y | (x & 1) << 255).to_bytes(_KEY_BYTES, "little")


class _Multiples:
    """All j * 16^i * point: 64 additions then multiply it by any number of 256 bits."""

    def __init__(self, point: _Point) -> None:
        self._rows: list[list[_Point]] = []
        for _ in range(_WINDOWS):
            row = [_NEUTRAL]
            for _ in range((1 << _WINDOW) - 1):
                row.append(_plus(row[-1], point))
            self._rows.append(row)
            point = _plus(row[-1], point)

    def times(self, number: int, start: _Point) -> _Point:
        for row in self._rows:
            digit = number & ((1 << _WINDOW) - 1)
            if digit:
                start = _plus(start, row[digit])
            number >>= _WINDOW
        return start


_multiples: dict[bytes, _Multiples | None] = {}
_MULTIPLES_MAX: Final = 512  # tables kept at a time; each has a thousand points
_BASE: Final = (4 * pow(5, -1, _P) % _P).to_bytes(_KEY_BYTES, "little")


def _multiples_of(encoded: bytes, *, negated: bool) -> _Multiples | None:
    if encoded not in _multiples:
        if len(_multiples) >= _MULTIPLES_MAX:
            _multiples.clear()
        point = _point(encoded)
        if point is not None and negated:
            x, y, z, t = point
            point = -x % _P, y, z, -t % _P
        _multiples[encoded] = None if point is None else _Multiples(point)
    return _multiples[encoded]


_base: list[_Multiples] = []


def ed25519_holds(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` over `message` is by the holder of `public`, with nothing but integers.

    Section 5.1.7 without the cofactor: S < L, and S B - k A encodes to exactly the bytes of R.
    """
    if len(public) != _KEY_BYTES or len(signature) != _SIGNATURE_BYTES:
        return False
    r, s = signature[:_KEY_BYTES], int.from_bytes(signature[_KEY_BYTES:], "little")
    minus = _multiples_of(public, negated=True)
    if s >= _L or minus is None:
        return False
    if not _base:
        point = _point(_BASE)
        _base.append(_Multiples(point if point is not None else _NEUTRAL))
    k = int.from_bytes(hashlib.sha512(r + public + message).digest(), "little") % _L
    return _bytes_of(minus.times(k, _base[0].times(s, _NEUTRAL))) == r


def _fast_holds(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        _FastKey.from_public_bytes(public).verify(signature, message)
    except Exception:  # noqa: BLE001 - its errors are its own; whatever it says, it is no yes
        return False
    return True


class _Signatures:
    """Checks signatures, and counts those of members and launchers."""

    def __init__(self, *, slow: bool) -> None:
        self.holds: Callable[[bytes, bytes, bytes], bool] = (
            ed25519_holds if slow or _FastKey is None else _fast_holds
        )

    def said(self, public: str, domain: str, message: bytes, signature: str) -> bool:
        """Whether the key (hexadecimal) signed a message for one purpose."""
        bound = b"tacit/v1/" + domain.encode() + b"\0" + message
        return self.holds(bytes.fromhex(public), bound, bytes.fromhex(signature))


# ---------------------------------------------------------------- canonical JSON

_LINE_MAX: Final = 64 << 20
_DEPTH_MAX: Final = 32
_INTEGER_MAX: Final = 2**63 - 1
_NATURAL_MAX: Final = 2**53 - 1


def _written(value: object) -> bytes:
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def _pairs(pairs: list[tuple[str, object]]) -> Json:
    table = dict(pairs)
    _need(len(table) == len(pairs), "a key stands twice")
    return table


def _no_constant(name: str) -> NoReturn:
    raise _Fault(f"{name} is no number")


def _canonical(data: bytes) -> object:
    """Return the value that has exactly these bytes."""
    _need(len(data) <= _LINE_MAX, "a line is too long")
    try:
        value: object = json.loads(
            data.decode("ascii"), object_pairs_hook=_pairs, parse_constant=_no_constant
        )
        left: list[tuple[object, int]] = [(value, 0)]
        while left:
            item, depth = left.pop()
            _need(depth <= _DEPTH_MAX, "it is nested too deep")
            if isinstance(item, dict):
                left += [(key, 0) for key in item]
                left += [(one, depth + 1) for one in item.values()]
            elif isinstance(item, list):
                left += [(one, depth + 1) for one in item]
            elif isinstance(item, str):
                item.encode("utf-8")  # fails for half of a surrogate pair
            elif isinstance(item, int):
                _need(abs(item) <= _INTEGER_MAX, "an integer is too large")
        again = _written(value)
    except (ValueError, RecursionError):
        raise _Fault("it is no JSON as it must be written") from None
    _need(again == data, "it is not written in the one canonical form")
    return value


def _table(value: object, names: Iterable[str], what: str) -> Json:
    """Return `value`, a table with exactly these keys."""
    if not isinstance(value, dict) or set(value) != set(names):
        raise _Fault(f"{what} has not the fields that it must have")
    return value


# ---------------------------------------------------------------- the closed table of kinds

_HEX: Final = re.compile("[0-9a-f]*")
_UPDATE, _STATISTICS = "update", "statistics"
_WATCH, _TEST, _PERSONAL = "evaluate watch", "evaluate test", "evaluate personal"
_PROTECTIONS: Final = ("masked", "sealed", "ckks", "clear")
_MEMBERS: Final = ("manufacturer", "insurer", "bank")
_ROLES: Final = ("operator", *_MEMBERS, "regulator")
_TEXT_MAX: Final = 512
_DOCUMENT_MAX: Final = 1 << 19
_LEAF_MAX: Final = 1 << 20
_LEAF_FORMAT: Final = 4
_SUITES: Final = ("gm", "hybrid")  # besides intl, which is left out


def _hex(digits: int) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, str) and len(value) == digits and bool(_HEX.fullmatch(value))
    )


def _natural(value: object) -> bool:
    return type(value) is int and 0 <= value <= _NATURAL_MAX


def _text(value: object, most: int = _TEXT_MAX) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= most and value.isprintable()


def _amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value < math.inf


def _names(value: object) -> bool:
    return isinstance(value, list) and all(_text(name) for name in value)


def _by_member(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, dict)
        and value != {}
        and all(_text(name) and check(thing) for name, thing in value.items())
    )


def _optional(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


def _one_of(*names: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in names


def _head(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"leaves", "root", "signature"}
        and _natural(value["leaves"])
        and _hex(64)(value["root"])
        and _hex(128)(value["signature"])
    )


def _count(value: object) -> bool:
    return _natural(value) and value != 0


def _size(value: object) -> bool:
    return type(value) is float and (value == 0 or 1e-15 <= value <= 1e15)  # noqa: PLR2004 - the format's


_RECEIPT: Final[Mapping[str, Callable[[object], bool]]] = {
    "format": lambda value: type(value) is int and value == 1,
    "kind": _one_of("statistics", "update", "evaluation"),
    "unit": lambda value: _text(value, 64),
    "cohort": _one_of("training", "test", "all"),
    "mechanism": _one_of("none", "gaussian", "discrete_gaussian"),
    "share": _size,
    "clip": _size,
    "sampling": _one_of("none", "poisson"),
    "rate": lambda value: type(value) is float and _size(value) and 0 < value <= 1,
    "steps": _count,
    "shares": _count,
    "values": _count,
    "grid": _size,
    "purpose": _text,
}


def _receipt(value: object) -> bool:
    if not isinstance(value, dict) or set(value) != set(_RECEIPT):
        return False
    if not all(check(value[name]) for name, check in _RECEIPT.items()):
        return False
    noisy, discrete = value["mechanism"] != "none", value["mechanism"] == "discrete_gaussian"
    return all(
        (
            noisy == (value["share"] != 0),
            not noisy or value["clip"] != 0,
            discrete == (value["grid"] != 0),
            value["sampling"] == "poisson" or value["rate"] == 1,
        )
    )


TYPES: Final[Mapping[str, Callable[[object], bool]]] = {
    "text": _text,
    "document": lambda value: isinstance(value, str) and 1 <= len(value) <= _DOCUMENT_MAX,
    "natural": _natural,
    "natural?": _optional(_natural),
    "amount": _amount,
    "amount?": _optional(_amount),
    "flag": lambda value: isinstance(value, bool),
    "hash": _hex(64),
    "signature": _hex(128),
    "count": _count,
    "role": _one_of("coordinator", "node"),
    "participant": _one_of(*_ROLES),
    "decision": _one_of("approved", "refused"),
    "attributes": lambda value: (
        isinstance(value, dict) and all(_text(name) and _text(said) for name, said in value.items())
    ),
    "protection": _one_of(*_PROTECTIONS),
    "step": _one_of(_STATISTICS, _UPDATE, _WATCH, _TEST, _PERSONAL),
    "names": _names,
    "members": lambda value: (
        isinstance(value, list) and _names(value) and 0 < len(value) == len(set(value))
    ),
    "classes": lambda value: (
        isinstance(value, dict)
        and all(name in ("L1", "L2", "L3", "L4") and _natural(n) for name, n in value.items())
    ),
    "receipt": _receipt,
    "hashes": _by_member(_hex(64)),
    "signatures": _by_member(_hex(128)),
    "heads": _by_member(_head),
}
"""Name of a type -> whether a value is of it."""

_KINDS_TEXT: Final = """
ledger.begun     any     :                 origin=text key=hash owner=text role=role
key.rotated      any     : key             key=hash signature=signature
writer.began     coordinator *             writer=text
rules.checked    coordinator : run         run=text rules=hash warnings=names
federation.begun coordinator :             federation=text root=hash approvals=count founder=text \
 key=hash signature=signature
member.invited   coordinator : token       token=hash role=participant name=text \
 attributes=attributes expires_ms=natural by=text signature=signature
member.requested coordinator : token       token=hash name=text role=participant key=hash \
 tls=hash signature=signature
member.approved  coordinator : key by      name=text key=hash by=text signature=signature
member.certified coordinator : certificate name=text key=hash tls=hash certificate=hash \
 expires_ms=natural
member.renewed   coordinator : name tls    name=text key=hash new=hash tls=hash \
 signature=signature proof=signature
member.revoked   coordinator : key         name=text key=hash reason=text by=text \
 signature=signature
data.declared    coordinator : run         run=text contract=hash dataset=text unit=text \
 classes=classes retention_days=natural?
rows.read        node    : run             run=text contract=hash rows=hash
run.started      coordinator : run         run=text name=text task=text members=hashes \
 minimum=natural group_size=natural manifest=hash document=document signature=signature \
 launcher=hash protection=protection
run.countersigned coordinator : run        run=text member=text signature=signature
run.consented    coordinator : run member  run=text member=text signature=signature
run.declined     coordinator : run member  run=text member=text reason=text
keys.agreed      coordinator : run         run=text roster=hash fingerprint=hash \
 public_bytes=natural
model.agreed     coordinator : run         run=text architecture=hash model=hash values=natural
sum.reserved     coordinator : run context run=text step=step round=natural asked=members \
 schema=hash model=hash context=hash protection=protection receipt=receipt nodes=heads
sum.opened       coordinator : run context run=text step=step round=natural context=hash \
 members=members aggregate=hash payload_bytes=natural signatures=signatures
sum.accepted     coordinator : run step round  run=text step=step round=natural model=hash \
 kept=flag signatures=signatures
round.committed  coordinator : run round   run=text round=natural model_before=hash model_after=hash
run.finished     coordinator : run         run=text rounds=natural model=hash
run.stopped      coordinator : run         run=text reason=text
model.registered coordinator : run         run=text model=hash file=hash card=hash
ledger.followed  node    : origin          origin=text key=hash
ledger.cosigned  node    : origin leaves   origin=text leaves=natural root=hash
ledger.rekeyed   node    : origin leaves   origin=text key=hash leaves=natural
run.joined       node    : manifest        run=text manifest=hash origin=text
run.refused      node    : manifest        manifest=hash reason=text
run.decided      node    : manifest        manifest=hash decision=decision reason=text
policy.applied   node    *                 policy=hash
device.held      node    : dataset device review  dataset=text device=hash review=count \
 readings=hash reason=text
device.released  node    : dataset device review  dataset=text device=hash review=count \
 readings=hash reason=text by=text
device.rejected  node    : dataset device review  dataset=text device=hash review=count \
 readings=hash reason=text by=text
budget.terms     node    *                 member=text dataset=text unit=text epsilon=amount? \
 delta=amount order=natural colluders=natural period_days=amount? solo_epsilon=amount? \
 solo_order=natural
budget.reserved  node    : run step round  run=text step=step round=natural dataset=text \
 receipt=receipt
budget.committed node    : run step round  run=text step=step round=natural dataset=text
budget.aborted   node    : run step round  run=text step=step round=natural dataset=text \
 reason=text signature=signature
"""


class _Kind:
    """Whose ledgers it stands in, what names the act (None: it may be repeated), its fields."""

    def __init__(self, line: str) -> None:
        left, _, right = line.replace("*", "* :").partition(":")
        self.name, self.place, *star = left.split()
        words = right.split()
        self.key = None if star else tuple(word for word in words if "=" not in word)
        pairs = (word.partition("=") for word in words)
        self.fields = {name: form for name, _, form in pairs if form}


KINDS: Final = {
    kind.name: kind for kind in (_Kind(line) for line in _KINDS_TEXT.split("\n") if line)
}


class _Entry:
    """One entry as its bytes say."""

    def __init__(self, leaf: bytes) -> None:
        _need(len(leaf) <= _LEAF_MAX, "the entry is too long")
        names = ("format", "epoch", "index", "time_ms", "kind", "body")
        value = _table(_canonical(leaf), names, "the entry")
        _need(
            type(value["format"]) is int and value["format"] == _LEAF_FORMAT,
            f"the entry is not of format {_LEAF_FORMAT}",
        )
        places = (value["index"], value["time_ms"], value["epoch"])
        _need(
            all(_natural(one) for one in places) and value["epoch"] > 0,
            "index, time_ms or epoch is of a wrong type",
        )
        self.index, self.time_ms, self.epoch = places
        self.kind = value["kind"]
        _need(isinstance(self.kind, str) and self.kind in KINDS, "the entry's kind is unknown")
        kind = KINDS[self.kind]
        body = value["body"]
        fields = dict(kind.fields)
        if self.kind == "federation.begun" and isinstance(body, dict) and "suite" in body:
            _need(body["suite"] in _SUITES, "the federation has no such suite")
            fields["suite"] = "text"
        self.body = _table(body, fields, self.kind)
        for name, form in fields.items():
            _need(TYPES[form](self.body[name]), f"{self.kind} has a wrong value in {name}")

    @property
    def act(self) -> bytes | None:
        """What no other entry of the ledger may have."""
        names = KINDS[self.kind].key
        return None if names is None else _written([self.kind, *(self.body[n] for n in names)])


# ---------------------------------------------------------------- Merkle trees (RFC 9162, 2.1)


def _sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


_EMPTY: Final = _sha(b"")


def _above(left: bytes, right: bytes) -> bytes:
    return _sha(b"\x01" + left + right)


def _roots(hashes: Sequence[bytes], sizes: Iterable[int]) -> dict[int, bytes]:
    """Return the roots of the first so many leaves, for many sizes in one pass."""
    wanted = sorted(set(sizes))
    peaks: list[tuple[int, bytes]] = []  # of the complete subtrees: leaves, hash
    found: dict[int, bytes] = {}
    done = 0
    for size in wanted:
        for leaf in hashes[done:size]:
            peaks.append((1, leaf))
            while len(peaks) > 1 and peaks[-1][0] == peaks[-2][0]:
                count, right = peaks.pop()
                _, left = peaks.pop()
                peaks.append((2 * count, _above(left, right)))
        done = size
        root = peaks[-1][1] if peaks else _EMPTY
        for _, left in reversed(peaks[:-1]):
            root = _above(left, root)
        found[size] = root
    return found


def _require_growth(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: list[bytes]
) -> None:
    """Check that the tree of `new` leaves begins with that of `old`, by the recursion of 2.1.4."""
    wrong = f"the proof of growth from {old} to {new} entries does not hold"
    if old in (0, new):
        _need(not proof and (old == 0 or old_root == new_root), wrong)
        return
    left = list(proof)

    def both(size: int, total: int, *, whole: bool) -> tuple[bytes, bytes]:
        # the roots of the first `size` and of all `total` leaves of a subtree
        if size == total:
            if whole:
                return old_root, old_root
            _need(left, wrong)
            one = left.pop(0)
            return one, one
        split = 1 << ((total - 1).bit_length() - 1)
        if size <= split:
            before, after = both(size, split, whole=whole)
            _need(left, wrong)
            return before, _above(after, left.pop(0))
        before, after = both(size - split, total - split, whole=False)
        _need(left, wrong)
        beside = left.pop(0)
        return _above(beside, before), _above(beside, after)

    before, after = both(old, new, whole=True)
    _need(not left and before == old_root and after == new_root, wrong)


# ---------------------------------------------------------------- C2SP notes and checkpoints

_NOTE_MAX: Final = 1024 * 1024
_LINES_MAX: Final = 4096
_LOG, _WITNESS = 1, 4  # types of keys
_CONTROL: Final = re.compile("[\x00-\x09\x0b-\x1f]")
_TIME_BYTES: Final = 8


def _base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _Fault("what should be base64 is not") from None
    _need(base64.b64encode(data).decode() == text, "base64 is written in another way than usual")
    return data


def _key_name(name: str) -> str:
    spaced = any(one.isspace() for one in name)
    _need(name and "+" not in name and not spaced and not _CONTROL.search(name), "no key's name")
    return name


def _key_id(name: str, form: int, public: bytes) -> bytes:
    return _sha(_key_name(name).encode() + b"\n" + bytes([form]) + public)[:4]


def _cosigner(member: str, public: str) -> tuple[str, bytes]:
    """Return under which name a member cosigns, and its key."""
    return f"{quote(member, safe='')}/{public[:16]}", bytes.fromhex(public)


class _Note:
    """A signed state of a ledger: three lines, and who says to have signed them."""

    def __init__(self, data: str) -> None:
        raw = data.encode("utf-8")
        _need(len(raw) <= _NOTE_MAX, "a signed state is too long")
        head, blank, tail = data.rpartition("\n\n")
        _need(blank and tail.endswith("\n"), "a signed state has no signature")
        self.text = head + "\n"
        _need(not _CONTROL.search(self.text), "a signed state holds control characters")
        rows = tail[:-1].split("\n")
        _need(len(rows) <= _LINES_MAX, "a signed state has too many signatures")
        self.lines = [self._line(row) for row in rows]
        parts = self.text.split("\n")
        _need(len(parts) == 4 and parts[0], "a signed state has three lines")  # noqa: PLR2004 - and none after
        self.origin = parts[0]
        _need(re.fullmatch("0|[1-9][0-9]{0,18}", parts[1]), "a signed state has no size")
        self.size = int(parts[1])
        self.root = _base64(parts[2])
        _need(
            self.size <= _INTEGER_MAX
            and len(self.root) == len(_EMPTY)
            and (self.size > 0 or self.root == _EMPTY),
            "a signed state has no size or no root",
        )

    @staticmethod
    def _line(row: str) -> tuple[str, bytes, bytes]:
        dash, name, encoded = [*row.split(" "), "", ""][:3]
        _need(dash == "—" and row.count(" ") == 2, "a line of a signature is malformed")  # noqa: PLR2004 - dash, name, bytes
        data = _base64(encoded)
        _need(len(data) > 4, "a signature is empty")  # noqa: PLR2004 - the key's id
        return _key_name(name), data[:4], data[4:]

    def by(self, name: str, form: int, public: bytes) -> list[bytes]:
        """Return what says to be by this key, unverified."""
        key_id = _key_id(name, form, public)
        return [sig for who, which, sig in self.lines if (who, which) == (name, key_id)]

    def require_log(self, origin: str, public: bytes, signed: _Signatures) -> None:
        lines = self.by(origin, _LOG, public)
        _need(lines, f"the state of {self.size} entries is not signed by the ledger's key")
        for one in lines:
            _need(
                signed.holds(public, self.text.encode(), one),
                f"the signature of the state of {self.size} entries does not hold",
            )
        _need(self.origin == origin, f"the state of {self.size} entries is of another ledger")

    def cosigned(self, name: str, public: bytes, signed: _Signatures) -> int | None:
        """Return when the witness cosigned it, in seconds; None if it did not."""
        times = []
        for one in self.by(name, _WITNESS, public):
            _need(len(one) == _TIME_BYTES + _SIGNATURE_BYTES, f"{name} sent no cosignature")
            time_s = int.from_bytes(one[:_TIME_BYTES], "big")
            message = f"cosignature/v1\ntime {time_s}\n{self.text}".encode()
            _need(
                time_s <= _INTEGER_MAX and signed.holds(public, message, one[_TIME_BYTES:]),
                f"the cosignature of {name} does not hold",
            )
            times.append(time_s)
        return max(times, default=None)


# ---------------------------------------------------------------- trust policies (C2SP tlog-policy)


class _Policy:
    """Which logs and witnesses a person trusts."""

    def __init__(self, text: str) -> None:
        self.logs: list[tuple[str, bytes]] = []
        self.witnesses: dict[str, tuple[str, bytes]] = {}
        self.groups: dict[str, tuple[int, list[str]]] = {}
        self.quorum: str | None = None
        self._grouped: set[str] = set()
        _need(len(text) <= 1 << 20 and text.endswith("\n"), "the policy does not end in a newline")
        _need(
            not re.search("[\x00-\x08\x0b-\x1f\x7f]", text), "the policy holds control characters"
        )
        for number, line in enumerate(text[:-1].split("\n"), 1):
            words = [word for word in re.split("[ \t]+", line) if word]
            if words and not words[0].startswith("#"):
                take = {"log": self._log, "witness": self._witness, "group": self._group}
                take["quorum"] = self._quorum
                _need(words[0] in take, f"line {number} of the policy is of no known kind")
                take[words[0]](words[1:], f"line {number} of the policy cannot be used: {line:.80}")
        _need(self.quorum is not None, "the policy names no quorum")

    @staticmethod
    def _key(text: str, form: int, wrong: str) -> tuple[str, bytes]:
        name, told, encoded = [*text.split("+", 2), "", ""][:3]
        data = _base64(encoded)
        _need(len(data) == 1 + _KEY_BYTES and data[0] == form, wrong)
        _need(_key_id(name, form, data[1:]).hex() == told, wrong)
        return name, data[1:]

    def _log(self, words: list[str], wrong: str) -> None:
        _need(len(words) in (1, 2), wrong)
        key = self._key(words[0], _LOG, wrong)
        _need(key[1] not in [public for _, public in self.logs], f"{wrong}: a key stands twice")
        self.logs.append(key)

    def _witness(self, words: list[str], wrong: str) -> None:
        _need(len(words) in (2, 3), wrong)
        key = self._key(words[1], _WITNESS, wrong)
        known = [public for _, public in self.witnesses.values()]
        _need(key[1] not in known, f"{wrong}: a key stands twice")
        self.witnesses[self._new(words[0], wrong)] = key

    def _group(self, words: list[str], wrong: str) -> None:
        _need(len(words) >= 3, wrong)  # noqa: PLR2004 - name, number, a member
        name, count, *members = words
        for member in members:
            _need(member in self.witnesses or member in self.groups, f"{wrong}: {member}")
            _need(member not in self._grouped, f"{wrong}: {member} counts twice")
            self._grouped.add(member)
        if count in ("all", "any"):
            needed = len(members) if count == "all" else 1
        else:
            _need(re.fullmatch("[1-9][0-9]{0,8}", count), wrong)
            needed = int(count)
        _need(needed <= len(members), wrong)
        self.groups[self._new(name, wrong)] = (needed, members)

    def _quorum(self, words: list[str], wrong: str) -> None:
        _need(len(words) == 1 and self.quorum is None, wrong)
        name = words[0]
        _need(name == "none" or name in self.witnesses or name in self.groups, wrong)
        self.quorum = name

    def _new(self, name: str, wrong: str) -> str:
        _need(name != "none" and name not in self.witnesses and name not in self.groups, wrong)
        return name

    def require(self, note: _Note, signed: _Signatures) -> dict[str, int]:
        """Return which witnesses cosigned, if they are enough."""
        times: dict[str, int] = {}
        for name, (key, public) in self.witnesses.items():
            time_s = note.cosigned(key, public, signed)
            if time_s is not None:
                times[name] = time_s
        there = {"none", *times}
        for name, (needed, members) in self.groups.items():
            if sum(member in there for member in members) >= needed:
                there.add(name)
        _need(self.quorum in there, "too few of the policy's witnesses cosigned the newest state")
        return times


# ---------------------------------------------------------------- step 1: a bundle's lines


class _Log:
    """One ledger of a bundle."""

    def __init__(self, told: object, leaves: list[bytes]) -> None:
        names = ("origin", "owner", "role", "leaves", "keys", "checkpoints", "proofs")
        told = _table(told, names, "a ledger")
        self.origin, self.owner, self.role = told["origin"], told["owner"], told["role"]
        _need(
            all(isinstance(one, str) for one in (self.origin, self.owner, self.role)),
            "a ledger's name, owner or role is no text",
        )
        _need(
            all(isinstance(told[name], list) for name in names[4:]),
            "a ledger's keys, states or proofs are no list",
        )
        self.told_keys: list[tuple[int, str]] = []
        for one in told["keys"]:
            key = _table(one, ("since", "public"), "a key")
            _need(type(key["since"]) is int and isinstance(key["public"], str), "a key is none")
            self.told_keys.append((key["since"], key["public"]))
        _need(all(isinstance(one, str) for one in told["checkpoints"]), "a state is no text")
        self.states: list[str] = told["checkpoints"]
        self.proofs: list[tuple[int, int, list[bytes]]] = []
        for one in told["proofs"]:
            proof = _table(one, ("old", "new", "hashes"), "a proof")
            _need(
                type(proof["old"]) is int
                and type(proof["new"]) is int
                and isinstance(proof["hashes"], list)
                and all(_hex(64)(each) for each in proof["hashes"]),
                "a proof is none",
            )
            hashes = [bytes.fromhex(each) for each in proof["hashes"]]
            self.proofs.append((proof["old"], proof["new"], hashes))
        self.leaves = leaves
        self.entries: list[_Entry] = []
        self.hashes = [_sha(b"\0" + leaf) for leaf in leaves]
        self.notes: list[_Note] = []
        self.keys: list[tuple[int, str]] = []

    @property
    def size(self) -> int:
        return len(self.leaves)


def _read(data: bytes) -> tuple[str, list[_Log]]:
    """Return the policy and the ledgers of a bundle whose form is right."""
    lines = data.split(b"\n")
    _need(lines.pop() == b"" and len(lines) > 1, "the bundle was cut off; get it again")
    end = _table(_canonical(lines.pop()), ("end",), "the bundle's last line")
    whole = b"".join(line + b"\n" for line in lines)
    _need(end["end"] == _sha(whole).hex(), "the bundle was changed or cut off on its way")
    names = ("bundle", "federation", "made_ms", "policy")
    head = _table(_canonical(lines[0]), names, "the bundle's first line")
    _need(type(head["bundle"]) is int and head["bundle"] == 1, "this is no bundle of format 1")
    _need(
        isinstance(head["federation"], str)
        and type(head["made_ms"]) is int
        and isinstance(head["policy"], str),
        "the bundle's first line has a value of a wrong type",
    )
    logs = []
    at = 1
    while at < len(lines):
        told = _table(_canonical(lines[at]), ("log",), f"line {at + 1}")["log"]
        count = told.get("leaves") if isinstance(told, dict) else None
        if type(count) is not int or not 0 <= count < len(lines) - at:
            raise _Fault(f"line {at + 1} names more entries than follow")
        leaves = lines[at + 1 : at + 1 + count]
        _need(all(len(leaf) <= _LEAF_MAX for leaf in leaves), "an entry is too long")
        logs.append(_Log(told, leaves))
        at += 1 + count
    _need(logs, "there is no ledger in it")
    roles = [log.role for log in logs]
    _need(
        set(roles) <= {"coordinator", "node"} and "coordinator" not in roles[1:],
        "one coordinator's ledger comes first, and then nodes' ledgers",
    )
    _need(len({log.origin for log in logs}) == len(logs), "a ledger is in it twice")
    return head["policy"], logs


# ---------------------------------------------------------------- steps 2 to 5: one ledger


def _parse(log: _Log) -> None:
    for place, leaf in enumerate(log.leaves):
        with _Step(2, f"ledger of {log.owner}, entry {place}: "):
            log.entries.append(_Entry(leaf))


def _require_order(log: _Log) -> None:
    acts: set[bytes] = set()
    time_ms, epoch = 0, 0
    for place, entry in enumerate(log.entries):
        _need(entry.index == place, f"entry {place} is missing or out of place")
        _need(entry.time_ms >= time_ms, f"entry {place} is earlier than the one before it")
        _need(entry.epoch >= epoch, f"entry {place} is of a writer whose turn was over")
        time_ms, epoch = entry.time_ms, entry.epoch
        act = entry.act
        _need(act is None or act not in acts, f"entry {place} says again what was said before")
        if act is not None:
            acts.add(act)


def _require_tree(log: _Log) -> None:
    log.notes = [_Note(state) for state in log.states]
    sizes = [note.size for note in log.notes]
    _need(max(sizes, default=0) <= log.size, f"entry {log.size}: the ledger was cut off")
    roots = _roots(log.hashes, sizes)
    for note in log.notes:
        _need(
            note.root == roots[note.size],
            f"the signed state of {note.size} entries has another root than these entries",
        )
    steps = list(pairwise(sizes))
    _need(all(old < new for old, new in steps), "the signed states are not in order")
    _need(
        [(old, new) for old, new, _ in log.proofs] == steps,
        "there is not one proof of growth from each state to the next",
    )
    for old, new, hashes in log.proofs:
        _require_growth(old, new, roots[old], roots[new], hashes)


def _require_signed(log: _Log, signed: _Signatures) -> None:
    _need(
        log.entries and log.entries[0].kind == "ledger.begun",
        "entry 0: a ledger begins with ledger.begun",
    )
    begun = log.entries[0].body
    said = (begun["origin"], begun["owner"], begun["role"])
    _need(said == (log.origin, log.owner, log.role), "entry 0: it begins as another ledger")
    log.keys = [(0, begun["key"])]
    for entry in log.entries:
        if entry.kind == "key.rotated":
            key, last = entry.body["key"], log.keys[-1][1]
            _need(
                signed.said(last, "key-rotation", bytes.fromhex(key), entry.body["signature"]),
                f"entry {entry.index}: the key before did not sign the new one",
            )
            log.keys.append((entry.index + 1, key))
    _need(log.keys == log.told_keys, "the key history is not what the entries say")
    _need(log.notes, "no state of it is signed")
    for note in log.notes:
        key = [public for since, public in log.keys if since <= note.size][-1]
        note.require_log(log.origin, bytes.fromhex(key), signed)
    last_size = log.notes[-1].size
    _need(last_size == log.size, f"entry {last_size}: no signed state has it")


# ---------------------------------------------------------------- manifests and receipts


def _has_seen(ledger: Json) -> bool:
    """Whether a manifest says, besides its ledger, which acts of membership its launcher saw."""
    return (
        set(ledger) == {"origin", "key", "acts", "membership"}
        and isinstance(ledger["acts"], str)
        and re.fullmatch("[1-9][0-9]{0,14}", ledger["acts"]) is not None
        and _hex(64)(ledger["membership"])
    )


_MANIFEST: Final[Mapping[str, Callable[[object], bool]]] = {
    "format": lambda value: type(value) is int and value == 4,  # noqa: PLR2004 - the format
    **dict.fromkeys(
        ("run", "name", "task", "unit", "contract"), lambda value: isinstance(value, str)
    ),
    "protection": _one_of(*_PROTECTIONS),
    **dict.fromkeys(
        ("node_settings", "coordinator_settings"), lambda value: isinstance(value, dict)
    ),
    "directory": lambda value: (
        isinstance(value, dict) and all(isinstance(key, str) for key in value.values())
    ),
    "minimum_cohort": lambda value: type(value) is int and value >= 1,
    "group_size": lambda value: type(value) is int and value >= 0,
    "ledger": lambda value: (
        isinstance(value, dict)
        and (set(value) == {"origin", "key"} or _has_seen(value))
        and _hex(64)(value["key"])
        and isinstance(value["origin"], str)
        and bool(_key_name(value["origin"]))
    ),
    "privacy": lambda value: value is None or _plan(value),
}


def _between(low: float, high: float) -> Callable[[object], bool]:
    return lambda value: (
        (type(value) is int or type(value) is float) and low < value <= high  # false for NaN
    )


def _whole(low: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and low <= value <= 100_000  # noqa: PLR2004 - the format's


_PLAN: Final[Mapping[str, Callable[[object], bool]]] = {
    "noise": _one_of("distributed", "local"),
    "mechanism": _one_of("gaussian", "discrete_gaussian"),
    "unit": lambda value: isinstance(value, str) and value != "",
    "parts": _one_of("apart", "together"),
    "rate": _between(1e-6, 1),
    "rows_per_unit": _whole(1),
    "clip": _between(1e-6, 1e12),
    "steps": _whole(1),
    "watches": _whole(0),
    "update_share": _between(1e-6, 1e6),
    "statistics_share": _between(1e-6, 1e6),
    "statistics_clip": _between(1e-6, 1e12),
    "watch_share": _between(1e-6, 1e6),
    "test_share": _between(1e-6, 1e6),
    "evaluation_clip": _between(1e-6, 1e12),
    "colluders": _whole(0),
    "delta": lambda value: type(value) is float and 0 < value < 1,
    "grid": _between(2.0**-26, 1),
}


def _plan(value: object) -> bool:
    """Whether a privacy plan can be kept."""
    if not isinstance(value, dict) or set(value) != set(_PLAN):
        return False
    if not all(check(value[name]) for name, check in _PLAN.items()):
        return False
    powers = ["grid"]
    if value["mechanism"] == "discrete_gaussian":
        powers += ["clip", "statistics_clip", "evaluation_clip"]
    return (
        (value["noise"] == "local" or value["steps"] == 1)
        and (value["unit"] != "organisation" or value["rate"] == 1)
        and (value["mechanism"] == "gaussian" or value["noise"] == "distributed")
        and all(math.frexp(value[name])[0] == 0.5 for name in powers)  # noqa: PLR2004 - powers of two
    )


def _manifest(document: str) -> Json:
    """Return what a run's document says."""
    value = _canonical(document.encode("utf-8"))
    # It is named since there are others than the first, and left out for that one.
    suite = value.pop("suite", None) if isinstance(value, dict) else None
    _need(suite in (None, *_SUITES), "the run's manifest has a wrong value in suite")
    manifest = _table(value, _MANIFEST, "the run's manifest")
    for name, check in _MANIFEST.items():
        _need(check(manifest[name]), f"the run's manifest has a wrong value in {name}")
    return {**manifest, "suite": suite or "intl"}


def _due_receipt(manifest: Json, step: str, number: int, values: int) -> Json:
    """Return what a release of a run must say that it costs."""
    plan = manifest["privacy"]
    training = step in (_STATISTICS, _UPDATE, _WATCH)
    receipt: Json = {
        "format": 1,
        "kind": step if step in (_STATISTICS, _UPDATE) else "evaluation",
        "unit": manifest["unit"],
        "cohort": "training" if training else "test",
        "mechanism": "none",
        "share": 0.0,
        "clip": 0.0,
        "sampling": "none",
        "rate": 1.0,
        "steps": 1,
        "shares": 1,
        "values": values,
        "grid": 0.0,
        "purpose": f"run {manifest['run']}, {step} of round {number}",
    }
    if plan is None:
        return receipt
    share, clip = {
        _UPDATE: ("update_share", "clip"),
        _STATISTICS: ("statistics_share", "statistics_clip"),
        _WATCH: ("watch_share", "evaluation_clip"),
    }.get(step, ("test_share", "evaluation_clip"))
    receipt["unit"] = plan["unit"]
    if plan["parts"] == "together" or plan["unit"] == "organisation":
        receipt["cohort"] = "all"
    receipt["mechanism"] = plan["mechanism"]
    receipt["share"], receipt["clip"] = float(plan[share]), float(plan[clip])
    if plan["mechanism"] == "discrete_gaussian":
        receipt["grid"] = float(plan["grid"])
    if step == _UPDATE:
        receipt["steps"] = plan["steps"]
        if plan["rate"] < 1:
            receipt["sampling"], receipt["rate"] = "poisson", float(plan["rate"])
    if plan["noise"] == "distributed" and manifest["protection"] in ("masked", "sealed"):
        receipt["shares"] = manifest["minimum_cohort"]
    return receipt


def _update_length(manifest: Json, weights: int) -> int:
    """Return how many numbers a member's update has."""
    plan = manifest["privacy"]
    if plan is not None and plan["noise"] == "distributed":
        return max(weights, 64)  # filled up with noise
    return weights + 1  # and the member's weight


# ---------------------------------------------------------------- step 6: the coordinator's runs


def _framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def _names_digest(names: Sequence[str]) -> bytes:
    return _sha(_framed(b"tacit/members/v1", *(name.encode() for name in names)))


def _head_message(context: bytes, head: Json) -> bytes:
    return _framed(context, head["leaves"].to_bytes(8, "big"), bytes.fromhex(head["root"]))


def _most(count: int) -> int:
    return 2 * count // 3 + 1


class _Told:
    """That a member sent a vector, with its own ledger as it was then, signed by the member."""

    def __init__(self, time_ms: int, member: str, act: Act, receipt: Json, head: Json) -> None:
        self.time_ms, self.member, self.act, self.receipt = time_ms, member, act, receipt
        self.leaves: int = head["leaves"]
        self.root: str = head["root"]


class _Run:
    """One run, entry by entry."""

    def __init__(
        self, manifest: Json, digest: str, launcher: str, federation: "_Federation"
    ) -> None:
        self.manifest = manifest
        self.digest = digest
        self.launcher = launcher
        self.federation = federation
        self.launched_by = federation.launcher(launcher)
        self.signed = federation.signed
        self.keys: dict[str, str] = manifest["directory"]
        self.members: dict[str, str] = {}  # of these, who takes part, once keys are agreed on
        self.dataset: str | None = None
        self.consents: set[str] = set()
        self.setup: tuple[bytes, bytes] | None = None
        self.history = b""
        self.model: str | None = None
        self.before: str | None = None
        self.weights = 0
        self.stages = self.rounds = self.watches = 0
        self.trained = False
        self.over = ""
        self.reserved: dict[str, Json] = {}
        self.places: dict[str, int] = {}
        self.now: tuple[str, int] | None = None
        self.sums: list[bytes] = []
        self.busy: set[str] = set()
        self.done: set[tuple[str, int]] = set()
        self.groups: list[set[str]] = []
        self.audiences: dict[str, list[str]] = {}
        self.due = -1
        self.count = 1
        self.releases = self.opened = 0
        self.costs: list[tuple[list[str], Json]] = []

    # -- before the keys --

    def data_declared(self, entry: _Entry) -> None:
        _need(self.setup is None, "data.declared comes before the members' keys")
        for name in ("contract", "unit"):
            _need(entry.body[name] == self.manifest[name], f"the run is about another {name}")
        self.dataset = entry.body["dataset"]

    def rules_checked(self, _: _Entry) -> None:
        _need(self.setup is None, "rules.checked comes before the members' keys")

    def run_countersigned(self, entry: _Entry) -> None:
        _need(self.setup is None, "run.countersigned comes before the members' keys")
        member = entry.body["member"]
        key = self.keys.get(member) or self.federation.members().get(member)
        if key is None:
            raise _Fault("whoever signed too is no member of the run or of the federation")
        _need(
            key != self.launcher and (self.launched_by is None or member != self.launched_by),
            "the launcher signed its own run twice",
        )
        message = bytes.fromhex(self.digest)
        _need(
            self.signed.said(key, "countersign", message, entry.body["signature"]),
            "the second signature under the manifest does not hold",
        )
        self.count += 1

    def run_consented(self, entry: _Entry) -> None:
        _need(self.setup is None, "run.consented comes before the members' keys")
        member = entry.body["member"]
        message = bytes.fromhex(self.digest)
        self._signed_by([member], {member: entry.body["signature"]}, "consent", message, 1)
        self.consents.add(member)

    def run_declined(self, entry: _Entry) -> None:
        _need(self.setup is None, "run.declined comes before the members' keys")
        _need(entry.body["member"] in self.keys, "whoever declined is no member of the run")

    def keys_agreed(self, entry: _Entry) -> None:
        _need(self.setup is None, "the members' keys were agreed on before")
        _need(self.dataset is not None, "the run's data set was not declared before")
        fewest = self.manifest["minimum_cohort"]
        _need(len(self.consents) >= fewest, f"fewer than {fewest} members consented to the run")
        self.members = {name: key for name, key in self.keys.items() if name in self.consents}
        roster, fingerprint = (bytes.fromhex(entry.body[n]) for n in ("roster", "fingerprint"))
        self.setup = roster, fingerprint
        self.history = _sha(_framed(b"tacit/history/v1", roster, fingerprint))

    # -- steps --

    def model_agreed(self, entry: _Entry) -> None:
        self._after_setup()
        _need(
            self.model is None and self.stages > 0 and self.now is None,
            "the initial model is agreed on out of place",
        )
        self._hold(entry.body["model"])
        self.weights = entry.body["values"]

    def _hold(self, model: str) -> None:
        self.model = None if model == "0" * 64 else model

    def _after_setup(self) -> tuple[bytes, bytes]:
        if self.setup is None:
            raise _Fault("the members' keys were not agreed on before")
        return self.setup

    def _require_turn(self, step: str, number: int) -> None:
        if step == _STATISTICS:
            right = self.model is None and number == self.stages
        else:
            ready = self.model is not None and not self.trained
            right = ready and number == self.rounds + (step == _UPDATE)
        _need(right, f"the {step} of round {number} is out of place")
        _need(self.now in (None, (step, number)), "the step before it was not accepted")

    def sum_reserved(self, entry: _Entry) -> list[_Told]:
        """Take a sum that will cost something; return who says to have sent a vector."""
        roster, fingerprint = self._after_setup()
        body, manifest = entry.body, self.manifest
        step, number, asked, nodes = body["step"], body["round"], body["asked"], body["nodes"]
        self._require_turn(step, number)
        _need((step, number) not in self.done, "this step was accepted before")
        plan = manifest["privacy"]
        _need(
            step != _WATCH or plan is None or self.watches < plan["watches"],
            "there are more validations than the run's privacy plan has",
        )
        self._require_asked(step, asked)
        _need(set(nodes) <= set(asked), "a node answered that was not asked")
        model = self.model or "0" * 64
        _need(
            step not in (_STATISTICS, _UPDATE) or body["model"] == model,
            "the sum starts from another model than its members held",
        )
        _need(body["protection"] == manifest["protection"], "the sum is protected otherwise")
        hashes = [bytes.fromhex(body[name]) for name in ("schema", "model")]
        context = _framed(
            b"tacit/sum-context/v2",
            bytes.fromhex(self.digest),
            step.encode(),
            number.to_bytes(8, "big"),
            *hashes,
            self.history,
            roster,
            _names_digest(asked),
            fingerprint,
        )
        _need(_sha(context).hex() == body["context"], "the sum's context is not that of its place")
        values = body["receipt"]["values"]
        if step == _UPDATE:
            values = _update_length(manifest, self.weights)
        receipt = _due_receipt(manifest, step, number, values)
        _need(body["receipt"] == receipt, "the receipt is not what the run's manifest makes it")
        for name, head in nodes.items():
            said = _head_message(_sha(context), head)
            self._signed_by([name], {name: head["signature"]}, "ledger-head", said, 1)
        self.reserved[body["context"]] = body
        self.places[body["context"]] = entry.index
        self.costs.append((list(nodes), receipt))
        self.releases += 1
        act = manifest["run"], step, number
        return [_Told(entry.time_ms, name, act, receipt, head) for name, head in nodes.items()]

    def _require_asked(self, step: str, asked: list[str]) -> None:
        _need(asked == sorted(asked), "the members who are asked are not in order")
        _need(set(asked) <= set(self.members), "the sum asks who did not consent to the run")
        size = self.manifest["group_size"]
        if step != _UPDATE or not size:
            _need(len(asked) == len(self.members), "the sum does not ask all members")
            return
        _need(len(asked) >= size, "a group is smaller than the run's groups")
        mine = set(asked)
        _need(
            all(group == mine or not group & mine for group in self.groups),
            "a group is not what it was before",
        )
        self.groups.append(mine)

    def sum_opened(self, entry: _Entry) -> None:
        self._after_setup()
        body = entry.body
        step, number, members = body["step"], body["round"], body["members"]
        reserved = self.reserved.pop(body["context"], None)
        if reserved is None:
            raise _Fault("the sum was not reserved before it was opened")
        asked = reserved["asked"]
        _need((reserved["step"], reserved["round"]) == (step, number), "it was another step's")
        self._require_turn(step, number)
        _need(members == sorted(members), "the sum's members are not in order")
        _need(set(members) <= set(asked), "the sum has members who were not asked")
        _need(set(members) <= set(reserved["nodes"]), "a member's vector did not come")
        grouped = step == _UPDATE and self.manifest["group_size"]
        _need(not self.busy & set(asked) if grouped else not self.sums, "it is summed twice")
        least = max(2, self.manifest["minimum_cohort"])
        _need(len(members) >= least, "the sum has fewer members than the run's minimum")
        rows = "test" if step in (_TEST, _PERSONAL) else step
        if step != _UPDATE:
            _need(
                self.audiences.setdefault(rows, members) == members,
                "with an earlier sum about the same rows it shows a few members alone",
            )
        context = bytes.fromhex(body["context"])
        voters = len(asked) if len(asked) <= 32 else len(members)  # noqa: PLR2004 - complete up to there
        message = _framed(context, _names_digest(members))
        self._signed_by(members, body["signatures"], "survivors", message, _most(voters))
        self.now = step, number
        self.sums += [context, _names_digest(members), bytes.fromhex(body["aggregate"])]
        self.busy |= set(asked)
        self.due = max(self.due, self.places[body["context"]])
        self.opened += 1

    def sum_accepted(self, entry: _Entry) -> None:
        self._after_setup()
        body = entry.body
        step, kept = body["step"], body["kept"]
        _need(self.now == (step, body["round"]), "it accepts no sum that was opened just before")
        _need(kept or step == _WATCH, "a round is undone by a validation, by nothing else")
        same = step == _STATISTICS or (step != _UPDATE and kept)
        _need(
            not same or body["model"] == (self.model or "0" * 64),
            "members hold another model than before",
        )
        self.history = _sha(
            _framed(
                b"tacit/accepted/v1",
                self.history,
                bytes.fromhex(body["model"]),
                b"kept" if kept else b"rolled back",
                *self.sums,
            )
        )
        self._signed_by(
            self.members, body["signatures"], "sum-accepted", self.history, _most(len(self.members))
        )
        self.stages += step == _STATISTICS
        self.watches += step == _WATCH
        if step == _UPDATE:
            self.trained, self.before = True, self.model
        self._hold(body["model"])
        self.done.add((step, body["round"]))
        self.now = None
        self.sums = []
        self.busy = set()
        self.reserved = {}

    def round_committed(self, entry: _Entry) -> None:
        self._after_setup()
        body = entry.body
        _need(body["round"] == self.rounds + 1, "the round does not follow on the one before")
        _need(self.trained, "the round has no sum of updates that was accepted")
        models = [body[name] for name in ("model_before", "model_after")]
        held = [model or "0" * 64 for model in (self.before, self.model)]
        _need(models == held, "the round goes between other models than members held")
        self.rounds += 1
        self.trained = False

    def run_finished(self, entry: _Entry) -> None:
        self._after_setup()
        _need(self.now is None, "a sum that was opened was not accepted")
        _need(not self.trained, "a round was summed and not committed")
        _need(entry.body["rounds"] == self.rounds, "the run ends with another round")
        _need(entry.body["model"] == (self.model or "0" * 64), "it ends with another model")
        self.over = "finished"

    def run_stopped(self, _: _Entry) -> None:
        self.over = "stopped"

    def model_registered(self, entry: _Entry) -> None:
        _need(self.over == "finished", "a model is registered after its run has finished")
        _need(entry.body["model"] == (self.model or "0" * 64), "another model is registered")

    def _signed_by(
        self,
        allowed: Iterable[str],
        signatures: Mapping[str, str],
        domain: str,
        message: bytes,
        needed: int,
    ) -> None:
        known = set(allowed) & set(self.keys)
        for member, signature in signatures.items():
            _need(member in known, f"{member} signed, and is not one of those who may")
            _need(
                self.signed.said(self.keys[member], domain, message, signature),
                f"the signature of {member} does not hold",
            )
        _need(len(signatures) >= needed, f"{needed} members must sign, more than two thirds")
        self.count += len(signatures)


_NAME_MAX: Final = 64
_RENEWALS_MAX: Final = 8  # of one name, within a period
_INVITATIONS_MAX: Final = 256  # of one operator, unused, and good still or not a period old
_PERIOD_MS: Final = 30 * 86_400_000


class _Federation:
    """Who takes part, act by act. That no act comes twice was seen in step 3."""

    def __init__(self, signed: _Signatures) -> None:
        self.signed = signed
        self.name: str | None = None
        self.founder = ""
        self.approvals = 0
        self.suite = "intl"
        self.root = ""
        self.acts: list[str] = []  # after each act, the digest over it and all before
        self.renewals: dict[str, list[int]] = {}
        self.people: dict[str, Json] = {}
        self.asking: dict[str, Json] = {}
        self.open: dict[str, Json] = {}
        self.used: set[tuple[str, str]] = set()  # every key that was ever named, with its sort

    def take(self, entry: _Entry) -> None:
        body = entry.body
        if entry.kind == "federation.begun":
            self._require_short(body["founder"])
            self.root = body["root"]
            self._signed_by(body["key"], entry.kind, body, body["federation"])
            self.name, self.founder = body["federation"], body["key"]
            self.approvals = body["approvals"]
            self.suite = body.get("suite", "intl")
            self.people[body["founder"]] = {
                "role": "operator", "key": body["key"], "tls": None, "gone": False,
            }  # fmt: skip
            self.used.add(("key", body["key"]))
            return
        _need(self.name is not None, "no federation was begun before")
        acts = {
            "member.invited": self._invited,
            "member.requested": self._requested,
            "member.approved": self._approved,
            "member.certified": self._certified,
            "member.renewed": self._renewed,
            "member.revoked": self._revoked,
        }
        acts[entry.kind](entry)

    def note(self, leaf: bytes) -> None:
        """Put an act, by its leaf's hash, into the digest over all of them."""
        before = bytes.fromhex(self.acts[-1]) if self.acts else _sha(b"tacit/acts/v1\0")
        self.acts.append(_sha(before + leaf).hex())

    def active(self, *roles: str) -> dict[str, str]:
        """Name -> key of those who take part now in one of these roles."""
        return {
            name: one["key"]
            for name, one in self.people.items()
            if one["role"] in roles and not one["gone"]
        }

    def members(self) -> dict[str, str]:
        return self.active(*_MEMBERS)

    def launcher(self, key: str) -> str | None:
        """Return who may launch runs and has this key."""
        able = self.active("operator", "insurer", "bank")
        return next((name for name, held in able.items() if held == key), None)

    def _invited(self, entry: _Entry) -> None:
        body, now = entry.body, entry.time_ms
        self._require_short(body["name"])
        self._by(entry, "operator")
        self._require_free(body["name"])
        waiting = [
            one
            for one in self.open.values()
            if one["by"] == body["by"]
            and (now <= one["expires_ms"] or now - one["invited_ms"] < _PERIOD_MS)
        ]
        _need(len(waiting) < _INVITATIONS_MAX, f"{body['by']} has too many open invitations")
        self.open[body["token"]] = {**body, "invited_ms": now}

    def _requested(self, entry: _Entry) -> None:
        body = entry.body
        invited = self.open.pop(body["token"], None)
        if invited is None:
            raise _Fault("no open invitation has this token")
        _need(entry.time_ms <= invited["expires_ms"], "the invitation had expired")
        told = (body["name"], body["role"])
        _need(told == (invited["name"], invited["role"]), "the invitation is for somebody else")
        self._require_free(body["name"])
        _need(body["name"] not in self.asking, "somebody of this name has asked before")
        self._name_key("key", body["key"])
        self._name_key("tls", body["tls"])
        self._signed_by(body["key"], entry.kind, body, self.name)
        self.asking[body["name"]] = {**body, "yes": set()}

    def _approved(self, entry: _Entry) -> None:
        asking = self.asking.get(entry.body["name"])
        if asking is None:
            raise _Fault("it approves somebody who did not ask")
        self._require_key(asking, entry.body)
        self._by(entry, "operator", *_MEMBERS)
        asking["yes"].add(entry.body["by"])

    def _certified(self, entry: _Entry) -> None:
        body = entry.body
        name, tls = body["name"], body["tls"]
        one = self.asking.pop(name, None)
        if one is not None:
            able = len(self.active("operator", *_MEMBERS))
            needed = max(1, min(self.approvals, able))
            _need(len(one["yes"]) >= needed, f"fewer than {needed} approved this participant")
            self.people[name] = one = {**one, "gone": False}
        else:
            one = self._holder(name)
        self._require_key(one, body)
        if one["tls"] is None:  # the founder's first one
            self._name_key("tls", tls)
            one["tls"] = tls
        _need(one["tls"] == tls, "the certificate is for another TLS key")

    def _renewed(self, entry: _Entry) -> None:
        body = entry.body
        one = self._holder(body["name"])
        self._require_key(one, body)
        times = self.renewals.setdefault(body["name"], [])
        lately = [then for then in times if entry.time_ms - then < _PERIOD_MS]
        _need(len(lately) < _RENEWALS_MAX, f"{body['name']} renews its keys too often")
        if body["new"] != body["key"]:
            self._name_key("key", body["new"])
        if body["tls"] != one["tls"]:
            self._name_key("tls", body["tls"])
        self._signed_by(body["key"], entry.kind, body, self.name)
        self._signed_by(body["new"], entry.kind, body, self.name, "proof")
        one["key"], one["tls"] = body["new"], body["tls"]
        self.renewals[body["name"]] = [*lately, entry.time_ms]

    def _revoked(self, entry: _Entry) -> None:
        body = entry.body
        name = body["name"]
        asking = self.asking.get(name)
        one = self._holder(name) if asking is None else asking
        self._require_key(one, body)
        if body["by"] == name:
            self._signed_by(body["key"], entry.kind, body, self.name)
        else:
            self._by(entry, "operator")
        if asking is not None:
            del self.asking[name]
            return
        one["gone"] = True
        # neither what it said for others nor whom it invited counts any more
        for other in self.asking.values():
            other["yes"].discard(name)
        self.open = {token: each for token, each in self.open.items() if each["by"] != name}

    def _holder(self, name: str) -> Json:
        one = self.people.get(name)
        if one is None or one["gone"]:
            raise _Fault(f"{name} does not take part")
        return one

    def _by(self, entry: _Entry, *roles: str) -> None:
        key = self.active(*roles).get(entry.body["by"])
        if key is None:
            raise _Fault(f"{entry.body['by']} may not sign {entry.kind}")
        self._signed_by(key, entry.kind, entry.body, self.name)

    def _signed_by(
        self, key: str, kind: str, body: Json, federation: str | None, field: str = "signature"
    ) -> None:
        said = {name: value for name, value in body.items() if name not in ("signature", "proof")}
        message = _written({**said, "act": kind, "federation": federation, "root": self.root})
        _need(
            self.signed.said(key, "membership", message, body[field]),
            f"the {field} of {kind} does not hold",
        )

    @staticmethod
    def _require_short(name: str) -> None:
        _need(len(name) <= _NAME_MAX, f"a name has more than {_NAME_MAX} characters")

    def _require_free(self, name: str) -> None:
        one = self.people.get(name)
        _need(one is None or one["gone"], f"{name} takes part already")

    def _name_key(self, sort: str, key: str) -> None:
        _need((sort, key) not in self.used, "a key was named before")
        self.used.add((sort, key))

    @staticmethod
    def _require_key(one: Json, body: Json) -> None:
        _need(one["key"] == body["key"], f"{body['name']} has another key")


class _Coordinator:
    """The coordinator's ledger, entry by entry."""

    def __init__(self, log: _Log | None, signed: _Signatures) -> None:
        self.log = log
        self.signed = signed
        self.runs: dict[str, _Run] = {}
        self.told: dict[str, list[_Told]] = {}
        self.set_back: set[str] = set()
        self.federation = _Federation(signed)
        self._sizes: set[tuple[str, int]] = set()
        self._epoch = 1
        for entry in [] if log is None else log.entries:
            with _Step(6, f"ledger of {'' if log is None else log.owner}, entry {entry.index}: "):
                self._take(entry)

    def _take(self, entry: _Entry) -> None:
        kind = entry.kind
        _need(KINDS[kind].place != "node", f"{kind} is for a node's own ledger")
        _need((entry.index == 0) == (kind == "ledger.begun"), "a ledger begins once")
        _need(
            (entry.epoch != self._epoch) == (kind == "writer.began"),
            "another writer says that it took over, and nobody else does",
        )
        self._epoch = entry.epoch
        if kind.startswith(("federation.", "member.")):
            self.federation.take(entry)
            if self.log is not None:
                self.federation.note(self.log.hashes[entry.index])
        if "run" not in entry.body:
            return
        name = entry.body["run"]
        if kind == "run.started":
            _need(name not in self.runs, "the run was started before")
            self.runs[name] = self._started(entry)
            return
        run = self.runs.get(name)
        if run is None:
            raise _Fault(f"run {name} was never started")
        _need(kind == "model.registered" or not run.over, f"run {name} had ended")
        if kind == "sum.reserved":
            for told in run.sum_reserved(entry):
                key = run.keys[told.member]
                self.told.setdefault(key, []).append(told)
                # each release is an entry of its own there, so no size comes twice
                if (key, told.leaves) in self._sizes:
                    self.set_back.add(told.member)
                self._sizes.add((key, told.leaves))
        else:
            getattr(run, kind.replace(".", "_"))(entry)

    def _started(self, entry: _Entry) -> _Run:
        body = entry.body
        manifest = _manifest(body["document"])
        document = body["document"].encode()
        digest = _sha(b"tacit/manifest/v1\0" + document).hex()
        _need(digest == body["manifest"], "the manifest has another hash")
        pairs = {"members": "directory", "minimum": "minimum_cohort"}
        for name in ("run", "name", "task", "members", "minimum", "group_size", "protection"):
            _need(
                body[name] == manifest[pairs.get(name, name)],
                f"the manifest says something else of the run's {name}",
            )
        keys = list(body["members"].values())
        _need(len(set(keys)) == len(keys), "two members have one key")
        if self.log is not None:
            now = [key for since, key in self.log.keys if since <= entry.index][-1]
            here = {"origin": self.log.origin, "key": now}
            named = {name: manifest["ledger"][name] for name in here}
            _need(named == here, "the run's manifest names another ledger than this")
        _need(
            self.signed.said(body["launcher"], "manifest", document, body["signature"]),
            "the launcher did not sign the run's manifest",
        )
        run = _Run(manifest, digest, body["launcher"], self.federation)
        if self.federation.name is not None:
            _need(
                run.keys.items() <= self.federation.members().items(),
                "the run has members that take no part in the federation with these keys",
            )
            _need(run.launched_by is not None, "who launched it was no bank, insurer or operator")
            _need(
                manifest["suite"] == self.federation.suite,
                "the run uses another suite than the federation's founder signed",
            )
        if "acts" in manifest["ledger"]:
            place, acts = int(manifest["ledger"]["acts"]) - 1, self.federation.acts
            _need(
                place < len(acts) and acts[place] == manifest["ledger"]["membership"],
                "the launcher saw other acts of membership than are here",
            )
        return run


# ---------------------------------------------------------------- step 7: witnesses


def _require_witnesses(
    coordinator: _Coordinator, policy: _Policy, signed: _Signatures, *, asked: bool
) -> dict[str, int]:
    log = coordinator.log
    if log is None:
        wanted = asked and (policy.logs or policy.quorum != "none")
        _need(not wanted, "the policy is about a coordinator's ledger, and there is none")
        return {}
    keys = {_cosigner(*member) for run in coordinator.runs.values() for member in run.keys.items()}
    found: list[dict[str, int]] = []  # of each state: who cosigned it, and when
    for note in log.notes:
        times = {name: note.cosigned(name, public, signed) for name, public in sorted(keys)}
        found.append({name: time_s for name, time_s in times.items() if time_s is not None})
    for name, run in coordinator.runs.items():
        if run.due < 0:
            continue
        members = {_cosigner(*member)[0] for member in run.members.items()}
        counts = [
            len(members & times.keys())
            for note, times in zip(log.notes, found, strict=True)
            if note.size > run.due
        ]
        most, needed = max(counts, default=0), _most(len(run.members))
        _need(
            most >= needed,
            f"entry {run.due}: {most} members of run {name} cosigned a state that has this "
            f"sum on record, and {needed} are needed",
        )
    known = [(log.origin, bytes.fromhex(key)) for _, key in log.keys]
    _need(
        not policy.logs or any(key in policy.logs for key in known),
        "the policy knows none of the ledger's keys",
    )
    return policy.require(log.notes[-1], signed) | found[-1]


def _require_heads(logs: Sequence[_Log], heads: Sequence[Head]) -> None:
    known = {log.origin: log for log in logs}
    for origin, leaves, root in heads:
        _need(origin in known, f"somebody remembers the ledger {origin}, and it is not here")
        log = known[origin]
        _need(0 <= leaves <= log.size, f"entry {log.size}: the ledger {origin} was cut off")
        _need(
            _roots(log.hashes, [leaves])[leaves].hex() == root,
            f"somebody remembers another ledger {origin} of {leaves} entries",
        )


# ---------------------------------------------------------------- accounting (step 8 and step 10)

# multiplier, rate, steps, excess of one release
_Cost = tuple[float, float, int, float]
_ORDERS: Final = [*range(2, 65), 72, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 512]


def _cost(receipt: Json, colluders: int | None) -> _Cost:
    """Return what others see of a release; `colluders` None: all others together."""
    honest = 1 if colluders is None else max(1, receipt["shares"] - colluders)
    share, rate, steps = receipt["share"], receipt["rate"], receipt["steps"]
    if receipt["mechanism"] != "discrete_gaussian":
        return share * math.sqrt(honest), rate, steps, 0.0
    one = share / (1 + math.sqrt(receipt["values"]) * receipt["grid"])
    width = share / receipt["grid"]
    if honest > 1 and width >= 0.5:  # noqa: PLR2004 - where the bound holds
        excess = 10 * (honest - 1) * receipt["values"] * math.exp(-((math.pi * width) ** 2))
        if 1 / (2 * one * one * honest) + excess < 1 / (2 * one * one):
            return one * math.sqrt(honest), rate, steps, excess
    return one, rate, steps, 0.0


_renyi_known: dict[tuple[float, float, float, int], float] = {}


def _renyi(multiplier: float, rate: float, excess: float, order: int) -> float:
    """Return the Renyi divergence of one application at an integer order.

    Without sampling, order / (2 m^2) + excess; with it, log(1 + sum w_k (e^x_k - 1)) / (order - 1)
    over k = 2 .. order, w_k = C(order, k) (1 - rate)^(order - k) rate^k, x_k = (k - 1) D(k).
    """
    variance = multiplier * multiplier
    if variance == 0:
        return math.inf
    if rate == 1:
        return order / (2 * variance) + excess
    key = (multiplier, rate, excess, order)
    if key not in _renyi_known:
        logs = []
        for k in range(2, order + 1):
            x = (k - 1) * (k / (2 * variance) + excess)
            if x > 0:
                gain = x + math.log1p(-math.exp(-x)) if x > 1 else math.log(math.expm1(x))
                weight = math.log(math.comb(order, k)) + (order - k) * math.log1p(-rate)
                logs.append(weight + k * math.log(rate) + gain)
        top = max(logs, default=-math.inf)
        if math.isinf(top):
            _renyi_known[key] = math.inf if top > 0 else 0.0
        else:
            total = top + math.log(math.fsum(math.exp(one - top) for one in logs))
            beyond = (
                total + math.log1p(math.exp(-total)) if total > 0 else math.log1p(math.exp(total))
            )
            _renyi_known[key] = beyond / (order - 1)
    return _renyi_known[key]


def _added(costs: Mapping[tuple[float, float, float], int], order: int) -> float:
    """Return the divergence of so many steps of each mechanism together."""
    return math.fsum(steps * _renyi(*one, order) for one, steps in costs.items())


def _extra(order: int, delta: float) -> float:
    # Canonne, Kamath, Steinke 2020, Proposition 12
    return math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


def _gathered(costs: Iterable[_Cost]) -> dict[tuple[float, float, float], int]:
    steps: dict[tuple[float, float, float], int] = {}
    for multiplier, rate, count, excess in costs:
        key = (multiplier, rate, excess)
        steps[key] = steps.get(key, 0) + count
    return steps


def _epsilon(costs: Iterable[_Cost], delta: float, known: dict[object, float]) -> float:
    steps = _gathered(costs)
    key = frozenset(steps.items())
    if key not in known:
        known[key] = min(max(0.0, _added(steps, a) + _extra(a, delta)) for a in _ORDERS)
    return known[key]


def _cohorts(receipt: Json) -> tuple[str, ...]:
    return ("training", "test") if receipt["cohort"] == "all" else (receipt["cohort"],)


# ---------------------------------------------------------------- step 8: a node's own ledger


class _Account:
    """One data set and unit of a node."""

    def __init__(self, terms: Json) -> None:
        self.terms = terms
        self.releases: dict[Act, tuple[int, Json]] = {}
        self.pending: set[Act] = set()

    def require_caps(self, act: Act, wrong: str) -> None:
        """Check that what was reserved last kept the caps that hold now."""
        terms, (now_ms, last) = self.terms, self.releases[act]
        days = terms["period_days"]
        since_ms = 0 if days is None else now_ms - math.ceil(days * 86_400_000)
        for cap, order, colluders in (
            (terms["epsilon"], terms["order"], terms["colluders"]),
            (terms["solo_epsilon"], terms["solo_order"], None),
        ):
            if cap is None:
                continue
            extra = _extra(order, terms["delta"])
            most = cap - extra - 3e-12 * (cap + abs(extra))
            _need(most > 0, f"{wrong}: its order cannot hold its cap")
            for cohort in _cohorts(last):
                counted = [
                    _cost(receipt, colluders)
                    for time_ms, receipt in self.releases.values()
                    if time_ms >= since_ms and cohort in _cohorts(receipt)
                ]
                loss = _added(_gathered(counted), order)
                _need(loss <= most * (1 + 1e-9), f"{wrong}: more than its cap of {cap:g} holds")


class _Node:
    """A node's own ledger, entry by entry."""

    def __init__(self, log: _Log, signed: _Signatures) -> None:
        self.log = log
        self.signed = signed
        self.accounts: dict[tuple[str, str], _Account] = {}
        self.reserved: dict[Act, _Entry] = {}
        self.account_of: dict[Act, _Account] = {}
        self.aborted: set[Act] = set()
        self.committed: list[_Entry] = []
        self.cosigned: list[_Entry] = []
        self.rekeyed: list[_Entry] = []
        self.terms = 0
        self._joined: dict[str, str] = {}
        self.origins: dict[Act, str | None] = {}
        takes = {
            "run.joined": self._join,
            "ledger.cosigned": self.cosigned.append,
            "ledger.rekeyed": self.rekeyed.append,
            "budget.terms": self._allow,
            "budget.reserved": self._reserve,
            "budget.committed": self._commit,
            "budget.aborted": self._abort,
        }
        for entry in log.entries:
            with _Step(8, f"ledger of {log.owner}, entry {entry.index}: "):
                _need(KINDS[entry.kind].place != "coordinator", "it is no entry of a node's ledger")
                if entry.kind in takes:
                    takes[entry.kind](entry)

    def _join(self, entry: _Entry) -> None:
        self._joined[entry.body["run"]] = entry.body["origin"]

    def _allow(self, entry: _Entry) -> None:
        terms = entry.body
        caps = (terms["epsilon"], terms["solo_epsilon"], terms["period_days"])
        _need(all(cap is None or cap > 0 for cap in caps), "a cap or the period is not above 0")
        orders = (terms["order"], terms["solo_order"])
        _need(all(2 <= order <= 512 for order in orders), "an order is out of range")  # noqa: PLR2004 - the format's
        _need(0 < terms["delta"] < 1, "delta is out of range")
        _need(terms["member"] == self.log.owner, f"it is the budget of {terms['member']}")
        key = (terms["dataset"], terms["unit"])
        account = self.accounts.setdefault(key, _Account(terms))
        before = (account.terms["order"], account.terms["solo_order"])
        _need(before == orders, "the filter's order changed, which is fixed")
        account.terms = terms
        self.terms += 1

    def _reserve(self, entry: _Entry) -> None:
        body = entry.body
        account = self.accounts.get((body["dataset"], body["receipt"]["unit"]))
        if account is None:
            raise _Fault("it reserves before any terms")
        act = _act(entry)
        self.origins[act] = self._joined.get(_run_of(act))
        self.reserved[act] = entry
        self.account_of[act] = account
        account.releases[act] = entry.time_ms, body["receipt"]
        account.pending.add(act)
        account.require_caps(act, "it reserves too much")

    def _settle(self, entry: _Entry) -> _Account:
        act = _act(entry)
        account = self.account_of.get(act)
        if account is None or account.terms["dataset"] != entry.body["dataset"]:
            raise _Fault("it settles what was never reserved")
        _need(act in account.pending, "it settles what was settled before")
        account.pending.remove(act)
        return account

    def _commit(self, entry: _Entry) -> None:
        self._settle(entry)
        self.committed.append(entry)

    def _abort(self, entry: _Entry) -> None:
        body = entry.body
        said = ["nothing left", body["run"], body["step"], body["round"], body["dataset"]]
        key = [key for since, key in self.log.keys if since <= entry.index][-1]
        _need(
            self.signed.said(key, "abort", _written(said), body["signature"]),
            "it takes a release back without the node's own signature",
        )
        self._settle(entry).releases.pop(_act(entry))
        self.aborted.add(_act(entry))


def _act(entry: _Entry) -> Act:
    return entry.body["run"], entry.body["step"], entry.body["round"]


def _run_of(act: Act) -> str:
    """The run of a release; those about single units have a name of their own."""
    return act[0].removesuffix(" (units)")


def _require_apart(nodes: Sequence[_Node]) -> None:
    """No key signs two ledgers, and no owner has two budgets for the same units."""
    keys: set[str] = set()
    budgets: set[tuple[str, str, str]] = set()
    for node in nodes:
        with _Step(8, f"ledger of {node.log.owner}: "):
            mine = {key for _, key in node.log.keys}
            _need(not keys & mine, "another ledger here has the same key")
            owned = {(node.log.owner, *account) for account in node.accounts}
            _need(not budgets & owned, "another ledger here has a budget of the same units")
            keys |= mine
            budgets |= owned


# ---------------------------------------------------------------- step 9: both sides


def _compared(node: _Node, coordinator: _Coordinator) -> Json:
    log = node.log
    main = "" if coordinator.log is None else coordinator.log.origin
    elsewhere = {act for act, origin in node.origins.items() if origin not in (None, main)}
    told = [one for _, key in log.keys for one in coordinator.told.get(key, [])]
    clocks_ms = _require_told(node, coordinator, told, elsewhere)
    witnessed = 0
    if coordinator.log is not None:
        _require_own_name(node, coordinator)
        witnessed = _require_cosigned(node, coordinator.log)
        _require_rekeyed(node, coordinator.log)
        _require_known(node, coordinator, elsewhere)
    releases = [act for account in node.accounts.values() for act in account.releases]
    return {
        "owner": log.owner,
        "leaves": log.size,
        "releases": len(releases),
        "pending": sum(len(account.pending) for account in node.accounts.values()),
        "compared": len(told),
        "witnessed": witnessed,
        "elsewhere": sum(act in elsewhere for act in releases),
        "terms": node.terms,
        "clocks_s": clocks_ms // 1000,
    }


def _require_told(
    node: _Node, coordinator: _Coordinator, told: Sequence[_Told], elsewhere: set[Act]
) -> int:
    """Find what the node signed with its vectors; return by how much both clocks differed."""
    log, clocks_ms = node.log, 0
    sizes = {one.leaves for one in told}
    _need(max(sizes, default=0) <= log.size, f"entry {log.size}: it was cut off")
    roots = _roots(log.hashes, sizes)
    for one in told:
        run, step, number = one.act
        what = f"the {step} of round {number} of run {run}"
        _need(one.member == log.owner, f"{what}: its key is that of {one.member}")
        _need(roots[one.leaves].hex() == one.root, f"{what}: it had another root then")
        entry = node.reserved.get(one.act)
        if entry is None or entry.index >= one.leaves:
            raise _Fault(f"{what} was sent, and not reserved here before")
        _need(entry.body["receipt"] == one.receipt, f"{what} costs something else there")
        _need(one.act not in node.aborted, f"{what} was sent, and taken back here")
        dataset = coordinator.runs[run].dataset
        _need(dataset == entry.body["dataset"], f"{what} is of another data set there")
        _need(one.act not in elsewhere, f"{what} is said to be on record elsewhere")
        clocks_ms = max(clocks_ms, abs(one.time_ms - entry.time_ms))
    return clocks_ms


def _require_own_name(node: _Node, coordinator: _Coordinator) -> None:
    """Check that no other key went by the owner's name where its data sets were used."""
    mine = {key for _, key in node.log.keys}
    datasets = {dataset for dataset, _ in node.accounts}
    for name, run in coordinator.runs.items():
        _need(
            run.dataset not in datasets or run.keys.get(node.log.owner) in {None, *mine},
            f"run {name} has a key for {node.log.owner} that is not its own",
        )


def _require_cosigned(node: _Node, main: _Log) -> int:
    """Find each state of the coordinator's ledger that the node cosigned; return how many."""
    mine = [entry for entry in node.cosigned if entry.body["origin"] == main.origin]
    for entry in mine:
        _need(
            entry.body["leaves"] <= main.size,
            f"entry {entry.index}: the coordinator's ledger was cut off after it was cosigned",
        )
    roots = _roots(main.hashes, [entry.body["leaves"] for entry in mine])
    for entry in mine:
        _need(
            roots[entry.body["leaves"]].hex() == entry.body["root"],
            f"entry {entry.index}: it cosigned another ledger of the coordinator's",
        )
    return len(mine)


def _require_rekeyed(node: _Node, main: _Log) -> None:
    """Find each key of the coordinator's ledger that the node was shown, where it was shown."""
    for entry in node.rekeyed:
        body = entry.body
        _need(
            body["origin"] != main.origin or (body["leaves"], body["key"]) in main.keys[1:],
            f"entry {entry.index}: it was shown a change of the coordinator's key that is not here",
        )


def _require_known(node: _Node, coordinator: _Coordinator, elsewhere: set[Act]) -> None:
    keys = {key for _, key in node.log.keys}
    for entry in node.committed:
        act = _act(entry)
        if act in elsewhere:
            continue
        name, step, number = act
        run = coordinator.runs.get(_run_of(act))
        _need(
            run is not None
            and ((step, number) in run.done or (step, number) == run.now)
            and run.members.get(node.log.owner) in keys,
            f"entry {entry.index}: {step} of round {number} of run {name} was accepted here, and "
            "the coordinator's ledger does not have it",
        )


# ---------------------------------------------------------------- step 10: what it all cost


def _privacy(runs: Iterable[_Run], nodes: Iterable[_Node]) -> list[Json]:
    first = {key: node.log.keys[0][1] for node in nodes for _, key in node.log.keys}
    found: dict[tuple[str, str, str], dict[tuple[str, str], list[Json]]] = {}
    plans = []
    for run in runs:
        if run.manifest["privacy"] is not None:
            plans.append(run.manifest["privacy"])
        for members, receipt in run.costs:
            for cohort in _cohorts(receipt):
                key = (run.dataset or "", receipt["unit"], cohort)
                table = found.setdefault(key, {})
                for member in members:
                    # one name may be two members; one member may have had two keys
                    who = member, first.get(run.keys[member], run.keys[member])
                    table.setdefault(who, []).append(receipt)
    colluders = max((plan["colluders"] for plan in plans), default=0)
    delta = min((plan["delta"] for plan in plans), default=1e-5)
    known: dict[object, float] = {}
    rows = []
    for (dataset, unit, cohort), table in sorted(found.items()):
        figures = {
            member: [
                _epsilon((_cost(one, others) for one in receipts), delta, known)
                for others in (colluders, None)
            ]
            for member, receipts in table.items()
        }
        worst = max(sorted(figures), key=lambda member: figures[member])
        both = [None if math.isinf(one) else one for one in figures[worst]]
        rows.append(
            {
                "dataset": dataset,
                "unit": unit,
                "cohort": cohort,
                "member": worst[0],
                "releases": len(table[worst]),
                "epsilon": both[0],
                "solo_epsilon": both[1],
                "colluders": colluders,
                "delta": delta,
            }
        )
    return rows


# ---------------------------------------------------------------- all of it


def verify(
    data: bytes, policy: str | None = None, heads: Iterable[Head] = (), *, slow: bool = False
) -> Json:
    """Return what a bundle holds, if it holds what it claims; the ten steps of docs/bundle.md.

    Args:
        data: The bundle's bytes.
        policy: A C2SP tlog-policy, as the auditor knows it; None: the bundle's own is taken, which
            shows no ledger that was made up as a whole.
        heads: States that were remembered elsewhere.
        slow: Verify signatures with this file alone.

    Raises:
        NotVerified: it does not hold.
        WrongUse: the policy cannot be read.
    """
    signed = _Signatures(slow=slow)
    if policy is not None:
        try:
            given: _Policy | None = _Policy(policy)
        except _Fault as fault:
            raise WrongUse(str(fault)) from None
    else:
        given = None
    remembered = list(heads)
    with _Step(1):
        own_policy, logs = _read(data)
    for log in logs:
        where = f"ledger of {log.owner}: "
        _parse(log)
        with _Step(3, where):
            _require_order(log)
        with _Step(4, where):
            _require_tree(log)
        with _Step(5, where):
            _require_signed(log, signed)
    main_log = logs[0] if logs[0].role == "coordinator" else None
    coordinator = _Coordinator(main_log, signed)
    with _Step(7):
        chosen = _Policy(own_policy) if given is None else given
        cosigned = _require_witnesses(coordinator, chosen, signed, asked=given is not None)
        _require_heads(logs, remembered)
    nodes = [_Node(log, signed) for log in logs if log.role == "node"]
    _require_apart(nodes)
    compared = []
    for node in nodes:
        with _Step(9, f"ledger of {node.log.owner}: "):
            compared.append(_compared(node, coordinator))
    here = {key for node in nodes for _, key in node.log.keys}
    missing = sorted({t[0].member for key, t in coordinator.told.items() if key not in here})
    runs = list(coordinator.runs.values())
    with _Step(10):
        privacy = _privacy(runs, nodes)
        root = ""
        if main_log is not None:
            root = _roots(main_log.hashes, [main_log.size])[main_log.size].hex()
    found = {
        "verified": True,
        "leaves": 0 if main_log is None else main_log.size,
        "root": root,
        "runs": len(runs),
        "rounds": sum(run.rounds for run in runs),
        "releases": sum(run.releases for run in runs),
        "opened": sum(run.opened for run in runs),
        "signatures": sum(run.count for run in runs),
        "cosigned": cosigned,
        "unfinished": [name for name, run in coordinator.runs.items() if not run.over],
        "nodes": compared,
        "missing": missing,
        "set_back": sorted(coordinator.set_back),
        "launchers": sorted({run.launcher for run in runs}),
        "privacy": privacy,
        "founder": coordinator.federation.founder,
    }
    found["steps"] = _steps(found, logs, remembered)
    return found


def _steps(found: Json, logs: Sequence[_Log], heads: Sequence[Head]) -> list[str]:
    return [
        f"{len(logs)} ledgers, whole as they were exported",
        f"{sum(log.size for log in logs)} entries, all of known kinds",
        "nothing out of place and nothing twice",
        f"{sum(len(log.notes) for log in logs)} signed states have the roots of these entries",
        "each is signed by its ledger's key, and the newest are about all entries",
        f"{found['runs']} runs keep the protocol; {found['signatures']} signatures hold",
        (
            f"the witnesses that are needed cosigned; {len(found['cosigned'])} cosigned the newest "
            f"state; {len(heads)} remembered states found"
        ),
        f"{len(found['nodes'])} nodes' own ledgers; none reserved more than its caps",
        f"{sum(node['compared'] for node in found['nodes'])} releases are the same on both sides",
        f"{len(found['privacy'])} totals computed again from {found['releases']} receipts",
    ]


# ---------------------------------------------------------------- for people


def _plain(text: object) -> str:
    return "".join(one if one.isprintable() else "?" for one in str(text))


def _say(text: str, *, to: TextIO) -> None:
    """Write a line, whatever the terminal can show."""
    encoding = to.encoding or "ascii"
    to.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


_CLOCKS_S: Final = 86_400  # from which on caps of a period may have counted other days


def _lines(found: Json) -> Iterator[str]:
    for number, (name, said) in enumerate(zip(STEPS, found["steps"], strict=True), 1):
        yield f"{number:>2} {name:<15} {said}"
    yield ""
    yield (
        f"It holds: {found['leaves']} entries, {found['runs']} runs, {found['rounds']} rounds, "
        f"{found['releases']} releases, of which {found['opened']} were opened."
    )
    yield f"root {found['root'] or '(none, as the coordinator is not in it)'}"
    for title in ("unfinished", "missing", "set_back", "launchers"):
        if found[title]:
            yield f"{title.replace('_', ' ')}: {_plain(', '.join(found[title]))}"
    if found["founder"]:
        yield f"founder: {found['founder']}"
    for node in found["nodes"]:
        if node["elsewhere"]:
            yield f"{_plain(node['owner'])}: {node['elsewhere']} releases are on record elsewhere"
        if node["clocks_s"] > _CLOCKS_S:
            yield f"{_plain(node['owner'])}: its clock was off by up to {node['clocks_s']} seconds"
    for one in found["privacy"]:
        both = [
            "no bound" if one[name] is None else f"{one[name]:.4f}"
            for name in ("epsilon", "solo_epsilon")
        ]
        yield (
            f"{_plain(one['dataset'])}, {_plain(one['unit'])}, {one['cohort']}: "
            f"epsilon {both[0]} against the coordinator with {one['colluders']} others, {both[1]} "
            f"against all others, delta {one['delta']:g}; {one['releases']} releases of "
            f"{_plain(one['member'])}"
        )


def _head_of(text: str) -> Head:
    origin, leaves, root = ["", "", *text.rsplit(":", 2)][-3:]
    if not origin or not re.fullmatch("[0-9]{1,18}", leaves) or not _hex(64)(root):
        raise argparse.ArgumentTypeError("a head is ORIGIN:LEAVES:ROOT")
    return origin, int(leaves), root


def main(arguments: Sequence[str] | None = None) -> Literal[0, 1, 2]:
    """Verify one file, say so, and return the exit code."""
    parser = argparse.ArgumentParser(description="Check a bundle of tacit's ledgers, offline.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--policy", type=Path, help="whom you trust (C2SP tlog-policy)")
    parser.add_argument(
        "--head",
        type=_head_of,
        action="append",
        default=[],
        metavar="ORIGIN:LEAVES:ROOT",
        help="a state of a ledger that you remember",
    )
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    parser.add_argument("--slow", action="store_true", help="use this file's own Ed25519")
    given = parser.parse_args(arguments)
    try:
        policy = None if given.policy is None else given.policy.read_text(encoding="utf-8")
        data = given.bundle.read_bytes()
    except (OSError, ValueError) as error:
        _say(f"cannot be read: {_plain(error)}", to=sys.stderr)
        return 2
    try:
        found = verify(data, policy, given.head, slow=given.slow)
    except WrongUse as error:
        _say(_plain(error), to=sys.stderr)
        return 2
    except NotVerified as error:
        if given.json:
            said = {"verified": False, "step": error.step, "message": error.message}
            _say(json.dumps(said, sort_keys=True), to=sys.stdout)
        else:
            _say(f"It does not hold. {_plain(error)}", to=sys.stdout)
        return 1
    text = json.dumps(found, sort_keys=True) if given.json else "\n".join(_lines(found))
    _say(text, to=sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
