"""The same signed form without masks: for tests, and for L1 data only.

Whoever receives such a vector reads it. A node's policy must allow it by name, and a masked
opener never takes one.
"""

from collections.abc import Iterable

from privacy.errors import ProtocolError
from privacy.identity import Identity
from privacy.keystream import Words
from privacy.secure_sum import SealedVector, SumContext, UnmaskAnswer
from privacy.secure_sum.keys import Roster
from privacy.secure_sum.signed import require_own, sign_payload, sum_signed, words_digest

_PURPOSE = "sealed-vector/clear"


class ClearSealer:
    """A member's half: it signs, and hides nothing."""

    __slots__ = ("_identity", "_roster", "_sealed", "member")

    def __init__(self, member: str, identity: Identity, roster: Roster) -> None:
        """Take part in the sums of `roster`.

        Raises:
            ProtocolError: the roster does not hold this member with this identity.
        """
        roster.exchange_of(member)
        if roster.directory[member] != identity.public:
            raise ProtocolError(f"the directory has another key for {member}; get the current one")
        self.member = member
        self._identity = identity
        self._roster = roster
        self._sealed: dict[bytes, bytes] = {}

    def __repr__(self) -> str:
        return f"ClearSealer(member={self.member!r})"

    def seal(self, words: Words, *, context: SumContext) -> SealedVector:
        """Sign `words` for the sum `context`; see `Sealer.seal`.

        Raises:
            ProtocolError: the context is of another run or roster, or was already sealed with
                other words.
            ValueError: these are no words (uint64, shape (w,), w >= 1).
        """
        require_own(context, self._roster)
        digest = context.digest()
        hashed = words_digest(words)
        if self._sealed.setdefault(digest, hashed) != hashed:
            raise ProtocolError("this sum was already sealed with another vector; seal none again")
        return sign_payload(
            words.tobytes(),
            member=self.member,
            identity=self._identity,
            context=digest,
            purpose=_PURPOSE,
        )


class ClearOpener:
    """The coordinator's half: it reads every vector, and returns their sum."""

    __slots__ = ("_roster",)

    def __init__(self, roster: Roster) -> None:
        self._roster = roster

    def open_sum(
        self,
        sealed: Iterable[SealedVector],
        *,
        context: SumContext,
        answers: Iterable[UnmaskAnswer] = (),
    ) -> Words:
        """Return the sum over exactly the roster; see `Opener.open_sum`.

        Raises:
            CohortError: a member is missing.
            ProtocolError: a vector does not belong, or there are answers.
        """
        if tuple(answers):
            raise ProtocolError("this form of sum takes no unmasking answers; send none")
        return sum_signed(sealed, roster=self._roster, context=context, purpose=_PURPOSE)
