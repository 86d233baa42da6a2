"""The signed form that all sealed vectors share: who, for which sum, which bytes.

Signing and collecting are the same whether a vector is masked or not; the purpose in the
signature differs, so that a vector in the clear is never taken for a masked one.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

from privacy.canonical import framed
from privacy.errors import CohortError, ProtocolError
from privacy.identity import Identity, verify_signature
from privacy.keystream import WORD_BYTES, Words
from privacy.secure_sum import SealedVector, SumContext
from privacy.secure_sum.keys import Roster


def require_own(context: SumContext, roster: Roster) -> None:
    """Return if `context` is of this roster and its run.

    Raises:
        ProtocolError: it is of another; masks for it would cancel with nobody's.
    """
    if context.run != roster.run:
        raise ProtocolError("the sum is of another run; take part in your own run only")
    if context.roster != roster.digest:
        raise ProtocolError("the sum is over another roster; start a new run for other members")


def words_digest(words: Words) -> bytes:
    """Return the SHA-256 of the words as they travel.

    Raises:
        ValueError: these are no words (uint64, shape (w,), w >= 1).
    """
    if words.dtype != np.uint64 or words.ndim != 1 or not len(words):
        raise ValueError(f"need uint64 of shape (w,), not {words.dtype} {words.shape}")
    return hashlib.sha256(np.ascontiguousarray(words).data).digest()


def sign_payload(
    payload: bytes, *, member: str, identity: Identity, context: bytes, purpose: str
) -> SealedVector:
    """Return `payload` as `member`'s sealed vector for the sum with the digest `context`."""
    message = _message(context, member, payload)
    return SealedVector(member, context, payload, identity.sign(purpose, message))


def sum_signed(
    sealed: Iterable[SealedVector], *, roster: Roster, context: SumContext, purpose: str
) -> Words:
    """Return the sum modulo 2^64 of one vector of each member of the roster.

    Vectors are taken one at a time, so memory holds one besides the sum.

    Raises:
        CohortError: a member is missing.
        ProtocolError: a vector is from outside the roster, repeated, malformed, of another
            context or length, or its signature does not verify.
    """
    require_own(context, roster)
    digest = context.digest()
    missing = set(roster.members)
    total: Words | None = None
    for vector in sealed:
        sender = vector.sender
        if sender not in missing:
            known = sender in roster.members
            fault = "sent two vectors" if known else "is not in the roster"
            raise ProtocolError(f"{sender} {fault}; discard this sum")
        if not vector.payload or len(vector.payload) % WORD_BYTES:
            raise ProtocolError(f"the payload of {sender} is no vector of words; ask it again")
        if vector.context != digest:
            raise ProtocolError(f"{sender} sealed its vector for another sum; ask it again")
        try:
            message = _message(digest, sender, vector.payload)
            verify_signature(roster.directory[sender], purpose, message, vector.signature)
        except ProtocolError:
            raise ProtocolError(
                f"the vector of {sender} is not signed by it; ask it again"
            ) from None
        words = np.frombuffer(vector.payload, dtype="<u8")
        if total is None:
            total = words.astype(np.uint64)
        elif len(words) != len(total):
            raise ProtocolError(f"the vector of {sender} has another length; compare the schema")
        else:
            total += words
        missing.remove(sender)
    if total is None or missing:
        raise CohortError(f"no sum without {', '.join(sorted(missing))}; wait for the whole roster")
    return total


def _message(context: bytes, sender: str, payload: bytes) -> bytes:
    return framed(context, sender.encode("utf-8"), hashlib.sha256(payload).digest())
