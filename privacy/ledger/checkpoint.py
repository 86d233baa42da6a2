"""A log's state as it is signed and cosigned (C2SP tlog-checkpoint and tlog-cosignature).

A log signs a checkpoint: its origin, how many leaves it has, and their root. A witness that found
it consistent with all it saw before cosigns it, with the time. Extension lines are refused: nobody
could audit them, and ours have none.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from privacy.errors import NotVerifiedError
from privacy.ledger.merkle import EMPTY_ROOT, HASH_BYTES
from privacy.ledger.note import (
    COSIGNATURE_V1,
    ED25519,
    NOTE_BYTES_MAX,
    SIGNATURES_MAX,
    Note,
    NoteSignature,
    VerifierKey,
    from_base64,
    parse_note,
    to_base64,
)

# Returns the Ed25519 signature (64 bytes) over exactly the given bytes.
Signer = Callable[[bytes], bytes]
SIZE_MAX = 2**63 - 1
TIME_MAX_S = 2**63 - 1
_TIME_BYTES = 8
_COSIGNATURE_BYTES = _TIME_BYTES + 64
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_CONTROL = re.compile(r"[\x00-\x1f]")
_LINES = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log at one size.

    Attributes:
        origin: Which log, one line, not empty. Where policies are to name the log, the name of its
            key is the same, so that it has neither spaces nor plus signs.
        size: Number of leaves, 0 to 2^63 - 1.
        root: `merkle` root over them, 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not self.origin or _CONTROL.search(self.origin):
            raise ValueError(f"an origin is one line and not empty: {self.origin[:100]!r}")
        self.origin.encode("utf-8")
        if not 0 <= self.size <= SIZE_MAX:
            raise ValueError(f"need 0 <= size < 2^63, not {self.size}")
        if len(self.root) != HASH_BYTES:
            raise ValueError(f"a root has {HASH_BYTES} bytes, not {len(self.root)}")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise ValueError("a log without leaves has the root of none")

    def text(self) -> str:
        """Return the three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{to_base64(self.root)}\n"


def parse_checkpoint_text(text: str) -> Checkpoint:
    """Read what `Checkpoint.text` wrote.

    Raises:
        NotVerifiedError: it is no such text, or has extension lines.
    """
    try:
        return _parse_text(text)
    except ValueError as error:
        raise NotVerifiedError(f"this is no checkpoint: {error}; ask for it again") from None


def parse_size(text: str) -> int:
    """Return the size or index that a line holds: ASCII decimal without leading zeros.

    Raises:
        ValueError: it is none, or 2^63 or more.
    """
    if not _DECIMAL.fullmatch(text) or int(text) > SIZE_MAX:
        raise ValueError("a number is not in decimal, without leading zeros, below 2^63")
    return int(text)


def sign_checkpoint(checkpoint: Checkpoint, *, key: VerifierKey, sign: Signer) -> bytes:
    """Return the checkpoint as a note that the log signed.

    A log never signs two checkpoints of which one does not begin with the other; to see to that is
    the caller's part.

    Args:
        checkpoint: The log's state.
        key: Of type `ED25519`.
        sign: Signs with the private key of `key`.

    Raises:
        NotVerifiedError: what `sign` returned is no signature by `key`.
    """
    _check_type(key, ED25519)
    text = checkpoint.text()
    signature = sign(text.encode())
    key.verify(text.encode(), signature)
    return Note(text, (NoteSignature(key.name, key.key_id, signature),)).to_bytes()


def open_checkpoint(note: bytes, key: VerifierKey) -> Checkpoint:
    """Return the checkpoint in a note after verifying that the log with this key signed it.

    Signatures of other keys are ignored. The origin is the caller's to compare.

    Raises:
        NotVerifiedError: it is no signed checkpoint, or `key` did not sign it, or one of several
            signatures that say to be by `key` does not verify.
    """
    _check_type(key, ED25519)
    parsed = parse_note(note)
    signatures = parsed.by(key)
    if not signatures:
        raise NotVerifiedError(f"{key.name} has not signed this checkpoint; ask its log for it")
    for each in signatures:
        key.verify(parsed.text.encode(), each.signature)
    return parse_checkpoint_text(parsed.text)


def cosign(checkpoint: Checkpoint, *, key: VerifierKey, sign: Signer, time_s: int) -> NoteSignature:
    """Return a witness's cosignature (cosignature/v1).

    It says that, at this time, this is the largest consistent state of the log that the witness
    has seen; `privacy.ledger.witness` sees to its being true.

    Args:
        checkpoint: What was found consistent.
        key: Of type `COSIGNATURE_V1`.
        sign: Signs with the private key of `key`.
        time_s: Seconds since 1970 UTC, 0 to 2^63 - 1.

    Raises:
        NotVerifiedError: what `sign` returned is no signature by `key`.
    """
    _check_type(key, COSIGNATURE_V1)
    if not 0 <= time_s <= TIME_MAX_S:
        raise ValueError(f"need 0 <= time < 2^63 seconds, not {time_s}")
    message = _cosigned(checkpoint.text(), time_s)
    signature = sign(message)
    key.verify(message, signature)
    return NoteSignature(key.name, key.key_id, time_s.to_bytes(_TIME_BYTES, "big") + signature)


def with_cosignatures(note: bytes, cosignatures: Iterable[NoteSignature]) -> bytes:
    """Return the note with these cosignatures, one of each key: the one with the latest time.

    Nothing is verified here; verify what others sent before, or the whole note may be refused.

    Raises:
        NotVerifiedError: `note` is no signed note, or would be too large.
        ValueError: one of `cosignatures` is none.
    """
    parsed = parse_note(note)
    kept = {(each.name, each.key_id): each for each in parsed.signatures}
    if len(kept) != len(parsed.signatures):
        raise NotVerifiedError("a key has signed this note twice; ask its log for it again")
    for each in cosignatures:
        if len(each.signature) != _COSIGNATURE_BYTES:
            raise ValueError(f"a cosignature has {_COSIGNATURE_BYTES} bytes")
        before = kept.get((each.name, each.key_id), each)
        if len(before.signature) != _COSIGNATURE_BYTES:
            raise ValueError(f"{each.name} has signed this note as a log, not as a witness")
        if each.signature[:_TIME_BYTES] >= before.signature[:_TIME_BYTES]:
            kept[each.name, each.key_id] = each
    try:
        return Note(parsed.text, tuple(kept.values())).to_bytes()
    except ValueError as error:
        raise NotVerifiedError(f"the cosignatures do not fit into the note: {error}") from None


def merged(kept: bytes | None, note: bytes) -> bytes:
    """Return what to keep where a note comes to one that is kept: the signatures of both.

    Nothing is verified here.

    Args:
        kept: The note that is kept, whose signatures stay; None: none is.
        note: Another over the same checkpoint; `with_room` says what of it is taken.

    Raises:
        NotVerifiedError: they are not over the same checkpoint, or one of them is no signed note.
    """
    if kept is None or kept == note:
        return note
    other = parse_note(note)
    if other.text != parse_note(kept).text:
        raise NotVerifiedError(
            "a signed state is to be kept in place of another of the same size; restore the "
            "ledger from a copy"
        )
    return with_room(kept, other.signatures)


def with_room(note: bytes, signatures: Iterable[NoteSignature]) -> bytes:
    """Return the note with as many of these signatures as it has room for, one of each key.

    Whoever signed it stays, a witness with its latest time. Two thirds of 6,000 members fit.
    Nothing is verified here.

    Raises:
        NotVerifiedError: `note` is no signed note.
    """
    parsed = parse_note(note)
    there = {(each.name, each.key_id): each for each in parsed.signatures}
    if len(there) != len(parsed.signatures):
        raise NotVerifiedError("a key has signed this note twice; ask its log for it again")
    size_bytes = len(note)
    for each in signatures:
        before = there.get((each.name, each.key_id))
        if before is not None:
            if _is_later(each, before):
                there[each.name, each.key_id] = each
            continue
        line_bytes = len(each.to_line().encode())
        if len(there) < SIGNATURES_MAX and size_bytes + line_bytes <= NOTE_BYTES_MAX:
            there[each.name, each.key_id] = each
            size_bytes += line_bytes
    return Note(parsed.text, tuple(there.values())).to_bytes()


def verify_cosignature(
    checkpoint: Checkpoint | str, key: VerifierKey, signature: NoteSignature
) -> int:
    """Return the time of a cosignature, in seconds since 1970 UTC, after verifying it.

    Args:
        checkpoint: What was cosigned, or its whole text.
        key: The witness's, of type `COSIGNATURE_V1`.
        signature: What it sent.

    Raises:
        NotVerifiedError: it is not by `key`, or not over this checkpoint.
    """
    _check_type(key, COSIGNATURE_V1)
    if not signature.is_by(key):
        raise NotVerifiedError(f"a cosignature by {signature.name} is not by {key.to_text()}")
    if len(signature.signature) != _COSIGNATURE_BYTES:
        raise NotVerifiedError(f"the cosignature of {key.name} has not {_COSIGNATURE_BYTES} bytes")
    time_s = int.from_bytes(signature.signature[:_TIME_BYTES], "big")
    if time_s > TIME_MAX_S:
        raise NotVerifiedError(f"the cosignature of {key.name} has an impossible time")
    text = checkpoint if isinstance(checkpoint, str) else checkpoint.text()
    key.verify(_cosigned(text, time_s), signature.signature[_TIME_BYTES:])
    return time_s


def cosigned_at(note: Note, key: VerifierKey) -> int | None:
    """Return when the witness with this key cosigned the note, None if it did not.

    Raises:
        NotVerifiedError: a signature that says to be by `key` does not verify.
    """
    times = [verify_cosignature(note.text, key, each) for each in note.by(key)]
    return max(times, default=None)


def cosigners(note: bytes, keys: Iterable[VerifierKey]) -> dict[str, int]:
    """Return which of these witnesses cosigned a note, and when.

    Args:
        note: A checkpoint as a note.
        keys: Of type `COSIGNATURE_V1`.

    Returns:
        Name of the key -> seconds since 1970 UTC.

    Raises:
        NotVerifiedError: it is no signed note, or a signature that says to be by one of the keys
            does not verify.
    """
    parsed = parse_note(note)
    times: dict[str, int] = {}
    for key in keys:
        time_s = cosigned_at(parsed, key)
        if time_s is not None:
            times[key.name] = max(time_s, times.get(key.name, 0))
    return times


def _is_later(each: NoteSignature, before: NoteSignature) -> bool:
    """Whether both are cosignatures, and the one is of a later time than the other."""
    both = {len(each.signature), len(before.signature)} == {_COSIGNATURE_BYTES}
    return both and each.signature[:_TIME_BYTES] > before.signature[:_TIME_BYTES]


def _parse_text(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != _LINES + 1 or lines[_LINES]:
        raise ValueError("it has other lines than an origin, a size and a root")
    return Checkpoint(lines[0], parse_size(lines[1]), from_base64(lines[2]))


def _cosigned(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def _check_type(key: VerifierKey, algorithm: int) -> None:
    if key.algorithm != algorithm:
        raise ValueError(f"the key of {key.name} has type {key.algorithm}, and needs {algorithm}")
