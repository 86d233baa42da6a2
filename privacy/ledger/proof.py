"""That one leaf is in a log, in one file that is verified offline (C2SP tlog-proof)."""

from dataclasses import dataclass

from privacy.errors import NotVerifiedError
from privacy.ledger.checkpoint import (
    Checkpoint,
    open_checkpoint,
    parse_checkpoint_text,
    parse_size,
)
from privacy.ledger.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from privacy.ledger.note import NOTE_BYTES_MAX, VerifierKey, from_base64, parse_note, to_base64

HASHES_MAX = 63
EXTRA_BYTES_MAX = 64 * 1024
_FIRST = "c2sp.org/tlog-proof@v1"
PROOF_HEADER = _FIRST.encode()
"""What such a file begins with."""
_PROOF_BYTES_MAX = NOTE_BYTES_MAX + 2 * EXTRA_BYTES_MAX


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """Where a leaf is, the hashes from there to the root, and the signed checkpoint above them.

    Attributes:
        index: Of the leaf, from 0.
        hashes: `merkle.inclusion_proof`, at most 63 of 32 bytes.
        checkpoint_note: The checkpoint with its signatures, byte for byte.
        extra: What the application adds; nobody vouches for it. Not empty, at most 64 KiB.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint_note: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        parse_size(str(self.index))
        if len(self.hashes) > HASHES_MAX or any(len(each) != HASH_BYTES for each in self.hashes):
            raise ValueError(f"a proof has at most {HASHES_MAX} hashes of {HASH_BYTES} bytes")
        if self.extra is not None and not 0 < len(self.extra) <= EXTRA_BYTES_MAX:
            raise ValueError(f"extra data has 1 to {EXTRA_BYTES_MAX} bytes")
        parse_checkpoint_text(parse_note(self.checkpoint_note).text)

    def to_bytes(self) -> bytes:
        """Return the file (`.tlog-proof`)."""
        lines = [_FIRST]
        if self.extra is not None:
            lines.append(f"extra {to_base64(self.extra)}")
        lines.append(f"index {self.index}")
        lines += [to_base64(each) for each in self.hashes]
        return ("\n".join(lines) + "\n\n").encode() + self.checkpoint_note


def parse_proof(data: bytes) -> InclusionProof:
    """Read what `InclusionProof.to_bytes` wrote; nothing is verified yet.

    Raises:
        NotVerifiedError: `data` is no such file.
    """
    try:
        return _parse(data)
    except ValueError as error:
        raise NotVerifiedError(f"this is no proof of inclusion: {error}") from None


def verify_proof(proof: InclusionProof, leaf: bytes, log: VerifierKey) -> Checkpoint:
    """Return the checkpoint whose tree holds a leaf, after verifying that it does.

    Who cosigned it is another question: `TrustPolicy.require_quorum` of the proof's note.

    Args:
        proof: As it was sent.
        leaf: The leaf itself, not its hash.
        log: The key that must have signed the checkpoint.

    Raises:
        NotVerifiedError: the log did not sign it, or the leaf is not there.
    """
    checkpoint = open_checkpoint(proof.checkpoint_note, log)
    verify_inclusion(leaf_hash(leaf), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return checkpoint


def _parse(data: bytes) -> InclusionProof:
    if len(data) > _PROOF_BYTES_MAX:
        raise ValueError(f"it has more than {_PROOF_BYTES_MAX} bytes")
    head, _, note = data.partition(b"\n\n")
    first, *lines = head.decode("ascii").split("\n")
    extra: bytes | None = None
    if lines and lines[0].startswith("extra "):
        extra = from_base64(lines.pop(0).removeprefix("extra "))
    if first != _FIRST or not lines or not lines[0].startswith("index "):
        raise ValueError("its first lines are not those of a proof")
    index = parse_size(lines.pop(0).removeprefix("index "))
    return InclusionProof(index, tuple(from_base64(line) for line in lines), note, extra)
