"""The newest signed state of a ledger, held against its entries and its signers' known keys."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from federation.evidence import LedgerView
from privacy.errors import NotVerifiedError
from privacy.ledger.checkpoint import parse_checkpoint_text, verify_cosignature
from privacy.ledger.merkle import frontier_at
from privacy.ledger.note import (
    COSIGNATURE_V1,
    ED25519,
    KEY_ID_BYTES,
    Note,
    NoteSignature,
    VerifierKey,
    parse_note,
)

_TIME_BYTES = 8
_COSIGNATURE_BYTES = _TIME_BYTES + 64


@dataclass(frozen=True, slots=True)
class Cosigner:
    """Who says to have cosigned.

    Attributes:
        name: The key's name.
        member: Whose key it is; empty where no ledger at hand names the key.
        time_ms: When, as it says.
        verified: Whether the signature holds; None where the key is not known here.
    """

    name: str
    member: str
    time_ms: int
    verified: bool | None


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """The newest checkpoint.

    Attributes:
        size: Entries below it.
        root: Their root, in hexadecimal.
        note: Its bytes.
        signed: Whether the ledger's key signed it; None where the ledger names no key.
        matches: Whether the entries at hand have this root.
        cosigners: Others who signed.
        fault: Why it cannot be read; empty where it can.
    """

    size: int
    root: str
    note: bytes
    signed: bool | None
    matches: bool
    cosigners: tuple[Cosigner, ...]
    fault: str = ""

    @property
    def cosigned(self) -> int:
        """How many cosignatures were verified."""
        return sum(one.verified is True for one in self.cosigners)


def is_cosigned(note: bytes) -> bool:
    """Whether anybody says in a note to have cosigned it."""
    try:
        return any(_is_cosignature(each) for each in parse_note(note).signatures)
    except NotVerifiedError:
        return False


def look_at(
    view: LedgerView,
    note: bytes,
    *,
    size: int,
    keys: Sequence[tuple[int, bytes]],
    members: Mapping[bytes, str],
) -> CheckpointView:
    """Return what a note says and which of it holds.

    Args:
        view: The ledger.
        note: As it is kept.
        size: Under which it is kept.
        keys: The ledger's own keys, each from an entry on.
        members: Public key -> member.
    """
    try:
        parsed = parse_note(note)
        told = parse_checkpoint_text(parsed.text)
    except NotVerifiedError as error:
        return CheckpointView(
            size=size,
            root="",
            note=note,
            signed=None,
            matches=False,
            cosigners=(),
            fault=str(error),
        )
    return CheckpointView(
        size=told.size,
        root=told.root.hex(),
        note=note,
        signed=_signed(parsed, told.origin, [key for since, key in keys if since < told.size]),
        matches=told.origin == view.origin and told.size == size and _holds(view, size, told.root),
        cosigners=tuple(
            _cosigner(parsed, each, members) for each in parsed.signatures if _is_cosignature(each)
        ),
    )


def _is_cosignature(signature: NoteSignature) -> bool:
    return len(signature.signature) == _COSIGNATURE_BYTES


def _holds(view: LedgerView, size: int, root: bytes) -> bool:
    try:
        return frontier_at(view.store.node, size).root() == root
    except NotVerifiedError:
        return False


def _signed(note: Note, origin: str, keys: Sequence[bytes]) -> bool | None:
    if not keys:
        return None
    try:
        key = VerifierKey(origin, ED25519, keys[-1])
    except ValueError:
        return None
    by_it = note.by(key)
    return bool(by_it) and all(_verifies(note, key, each) for each in by_it)


def _verifies(note: Note, key: VerifierKey, signature: NoteSignature) -> bool:
    try:
        key.verify(note.text.encode(), signature.signature)
    except NotVerifiedError:
        return False
    return True


def _cosigner(note: Note, signature: NoteSignature, members: Mapping[bytes, str]) -> Cosigner:
    time_ms = 1000 * int.from_bytes(signature.signature[:_TIME_BYTES], "big")
    for key in _candidates(signature.name, members):
        if signature.key_id == key.key_id[:KEY_ID_BYTES]:
            try:
                verify_cosignature(note.text, key, signature)
            except NotVerifiedError:
                return Cosigner(signature.name, members[key.public], time_ms, verified=False)
            return Cosigner(signature.name, members[key.public], time_ms, verified=True)
    return Cosigner(signature.name, "", time_ms, verified=None)


def _candidates(name: str, members: Mapping[bytes, str]) -> Iterable[VerifierKey]:
    return (VerifierKey(name, COSIGNATURE_V1, public) for public in members)
