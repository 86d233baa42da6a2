"""What is signed in a sum, in one place for those who sign and those who check."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from blake3 import blake3

from privacy.canonical import framed
from privacy.errors import ProtocolError
from privacy.secure_sum import Answer, Release, SealedVector, Vote
from privacy.secure_sum.keys import Roster
from privacy.sum_context import SURVIVORS_DOMAIN, survivors_message

SEALED_DOMAIN = "sealed-vector"
ANSWER_DOMAIN = "unmask-answer"
RELEASE_DOMAIN = "mask-release"


def sealed_message(scheme: str, sealed: SealedVector) -> bytes:
    """Return what the sender of a sealed vector signs in `SEALED_DOMAIN`.

    The scheme is in it, so that a vector in the clear is never taken for a masked one.
    """
    boxes = [part for peer, box in sorted(sealed.boxes.items()) for part in (_utf8(peer), box)]
    return framed(
        scheme.encode("ascii"),
        sealed.context,
        _utf8(sealed.sender),
        # BLAKE3 keeps a coordinator with many members from spending its time on hashing.
        blake3(sealed.payload).digest(),
        framed(*boxes),
        framed(*sealed.commitments),
    )


def told_message(context: bytes, survivors: Sequence[str], told: Mapping[str, bytes]) -> bytes:
    """Return what a survivor signs in `ANSWER_DOMAIN` of shares, in `RELEASE_DOMAIN` of seeds."""
    parts = [part for member, value in sorted(told.items()) for part in (_utf8(member), value)]
    return framed(survivors_message(context, survivors), framed(*parts))


def share_commitment(context: bytes, dealer: str, holder: str, share: bytes) -> bytes:
    """Return the hash by which a dealer binds itself to a holder's share; it hides the share."""
    parts = (b"tacit/share/v1", context, _utf8(dealer), _utf8(holder), share)
    return hashlib.sha256(framed(*parts)).digest()


def check_sealed(scheme: str, sealed: SealedVector, roster: Roster) -> None:
    """Return if the sender signed this vector.

    Raises:
        ProtocolError: it did not.
    """
    _check(
        roster,
        sealed.sender,
        SEALED_DOMAIN,
        sealed_message(scheme, sealed),
        sealed.signature,
        otherwise=f"the vector of {sealed.sender} is not signed by it for this sum; ask it again",
    )


def check_vote(vote: Vote, *, context: bytes, survivors: Sequence[str], roster: Roster) -> None:
    """Return if the member signed that this sum is over these survivors.

    Raises:
        ProtocolError: it did not: it was shown others, or another sum before this one.
    """
    check_votes([vote], context=context, survivors=survivors, roster=roster)


def check_votes(
    votes: Iterable[Vote], *, context: bytes, survivors: Sequence[str], roster: Roster
) -> None:
    """Return if each member signed that this sum is over these survivors; see `check_vote`.

    The survivors are hashed once: a vote of each of n members, each with the hash of n names, would
    take a node longer than its signatures from some hundred members on.
    """
    alive, message = frozenset(survivors), survivors_message(context, survivors)
    for vote in votes:
        if vote.member not in alive:
            raise ProtocolError(f"{vote.member} votes on a sum that it is not part of; ignore it")
        _check(
            roster,
            vote.member,
            SURVIVORS_DOMAIN,
            message,
            vote.signature,
            otherwise=f"{vote.member} did not sign these survivors of this sum; the coordinator "
            "may show members different ones",
        )


def check_answer(
    answer: Answer, *, context: bytes, survivors: Sequence[str], roster: Roster
) -> None:
    """Return if the member signed these shares for this sum and these survivors.

    Raises:
        ProtocolError: it did not.
    """
    if answer.member not in survivors:
        raise ProtocolError(f"{answer.member} answers for a sum that it is not part of; ignore it")
    _check(
        roster,
        answer.member,
        ANSWER_DOMAIN,
        told_message(context, survivors, answer.shares),
        answer.signature,
        otherwise=f"the answer of {answer.member} is not signed by it for this sum; ask it again",
    )


def check_release(
    release: Release, *, context: bytes, survivors: Sequence[str], roster: Roster
) -> None:
    """Return if the member signed these masks' keys for this sum and these survivors.

    Raises:
        ProtocolError: it did not.
    """
    if release.member not in survivors:
        raise ProtocolError(f"{release.member} tells of a sum that it is not part of; ignore it")
    _check(
        roster,
        release.member,
        RELEASE_DOMAIN,
        told_message(context, survivors, release.seeds),
        release.signature,
        otherwise=f"the masks that {release.member} tells are not signed by it for this sum; ask "
        "it again",
    )


def _check(
    roster: Roster, member: str, domain: str, message: bytes, signature: bytes, *, otherwise: str
) -> None:
    try:
        roster.require_signed(member, domain, message, signature)
    except ProtocolError:
        raise ProtocolError(otherwise) from None


def _utf8(name: str) -> bytes:
    return name.encode("utf-8")
