"""Which sum a vector is for, and what its members sign; with the standard library alone.

Nodes bind masks and signatures to these digests, the ledger holds what they are made of, and a
regulator's verifier computes them again.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from privacy.canonical import framed

DIGEST_BYTES = 32
# Domains of the two statements that members sign; see `privacy.identity`.
SURVIVORS_DOMAIN = "survivors"
ACCEPTED_DOMAIN = "sum-accepted"
_NAME_BYTES_MAX = 64
_ROUND_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class SumContext:
    """Which sum this is. Two sums that differ in anything here share no mask and no signature.

    Attributes:
        run: The run's id, 1 to 64 bytes.
        step: What is summed in this round ("update", "evaluate test", ..), 1 to 64 ASCII
            characters.
        round: >= 0; 0 is what comes before the first round.
        schema: Hash of how vectors are written (`FixedPoint.schema`), 32 bytes.
        model: Hash of the model that the vectors were made from, as the node itself computed it,
            32 bytes; zeros before there is one.
        history: Hash over all sums that were accepted before (`extend_history`), 32 bytes.
        roster: `Roster.digest`, 32 bytes.
        cohort: `names_digest` of the members who are asked, 32 bytes.
        keys: Fingerprint of what the members share and the coordinator has not, 32 bytes.
    """

    run: bytes
    step: str
    round: int
    schema: bytes
    model: bytes
    history: bytes
    roster: bytes
    cohort: bytes
    keys: bytes

    def __post_init__(self) -> None:
        if not 0 < len(self.run) <= _NAME_BYTES_MAX:
            raise ValueError(f"a run's id has 1 to {_NAME_BYTES_MAX} bytes, not {len(self.run)}")
        if not 0 < len(self.step) <= _NAME_BYTES_MAX or not self.step.isascii():
            raise ValueError(f"a step has 1 to {_NAME_BYTES_MAX} ASCII characters: {self.step!r}")
        if not 0 <= self.round <= _ROUND_MAX:
            raise ValueError(f"need 0 <= round < 2^63, not {self.round}")
        for name in ("schema", "model", "history", "roster", "cohort", "keys"):
            if len(getattr(self, name)) != DIGEST_BYTES:
                raise ValueError(f"{name} is a hash of {DIGEST_BYTES} bytes")

    def digest(self) -> bytes:
        """Return 32 bytes; different contexts have different ones (SHA-256, injective input)."""
        parts = (
            b"tacit/sum-context/v2",
            self.run,
            self.step.encode("ascii"),
            self.round.to_bytes(8, "big"),
            self.schema,
            self.model,
            self.history,
            self.roster,
            self.cohort,
            self.keys,
        )
        return hashlib.sha256(framed(*parts)).digest()


def names_digest(names: Sequence[str]) -> bytes:
    """Return 32 bytes that differ for other names, or another order."""
    parts = [name.encode("utf-8") for name in names]
    return hashlib.sha256(framed(b"tacit/members/v1", *parts)).digest()


def survivors_message(context: bytes, survivors: Sequence[str]) -> bytes:
    """Return what a member signs in `SURVIVORS_DOMAIN`: that one sum is over these members."""
    return framed(context, names_digest(survivors))


def payload_digest(payload: bytes) -> bytes:
    """Return the SHA-256 of a sum as members were shown it; the ledger holds it."""
    return hashlib.sha256(payload).digest()


def first_history(roster: bytes, keys: bytes) -> bytes:
    """Return the history before any sum, of a run with this roster digest and fingerprint."""
    return hashlib.sha256(framed(b"tacit/history/v1", roster, keys)).digest()


def extend_history(
    history: bytes,
    opened: Iterable[tuple[bytes, Sequence[str], bytes]],
    *,
    model: bytes,
    kept: bool,
) -> bytes:
    """Return the history after a step, which a member signs in `ACCEPTED_DOMAIN`.

    Two members with the same history accepted the same sums over the same members in the same
    order, and hold the same model.

    Args:
        history: The one before, 32 bytes.
        opened: Of each sum of this step: context digest, survivors, hash of the sum.
        model: Hash of the model that the member holds now.
        kept: False where the step made the member go back to an earlier model.
    """
    parts = [b"tacit/accepted/v1", history, model, b"kept" if kept else b"rolled back"]
    for context, survivors, aggregate in opened:
        parts += [context, names_digest(survivors), aggregate]
    return hashlib.sha256(framed(*parts)).digest()
