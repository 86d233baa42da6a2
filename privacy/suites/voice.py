"""How a member signs what it says in a run: by its identity, and by the run's suite beside it.

    signature = Ed25519 by the identity | the suite's, by a key of its own

Both are over the same words for the same purpose, and both must hold. `intl` has no second half:
what it signs is what identities sign. The first half is what ledgers keep, whose formats fix
Ed25519; the second is what whoever forges Ed25519 signatures cannot make. Its key is stated in the
member's offer for the run (`secure_sum.keys`), signed in both halves. One identity has one such key
for each suite, for as long as the identity lasts, so that whoever met it before knows another.
"""

from typing import Final, NoReturn

from privacy.errors import ProtocolError
from privacy.identity import SIGNATURE_BYTES, Identity, bound_message, verify_signature
from privacy.signature import holds
from privacy.suites.suite import Signer, Suite

SEED_BYTES: Final = 64
"""What a suite's signing key is made of; its member's own disk keeps it."""


class Voice:
    """A member in the runs of one suite. It signs; it cannot be printed or pickled."""

    __slots__ = ("_beside", "_identity", "suite")

    def __init__(self, identity: Identity, suite: Suite, seed: bytes = b"") -> None:
        """Speak for `identity`.

        Args:
            identity: The member's.
            suite: Of its runs.
            seed: `SEED_BYTES` secret bytes, always the same for this identity and suite; none
                where the suite signs nothing beside identities.

        Raises:
            ProtocolError: the seed has another length, or this machine has no such suite.
        """
        if len(seed) != (SEED_BYTES if suite.signs_beside else 0):
            raise ProtocolError(f"the suite {suite.id} makes its signing key of another seed")
        self._identity = identity
        self._beside = _signer(suite, seed) if suite.signs_beside else None
        self.suite = suite

    @property
    def public(self) -> bytes:
        """The identity's public key, pinned by others at enrolment."""
        return self._identity.public

    @property
    def beside(self) -> bytes:
        """The public key of the suite's half; empty where there is none."""
        return b"" if self._beside is None else self._beside.public

    def sign(self, domain: str, message: bytes) -> bytes:
        """Return the signature of `message` for the one purpose `domain`, both halves."""
        first = self._identity.sign(domain, message)
        return first if self._beside is None else first + self._beside.sign(domain, message)

    def __repr__(self) -> str:
        return f"Voice(public={self.public.hex()[:16]}.., suite={self.suite.id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a voice stays where it is; make it of identity and seed")


def voice_of(identity: Identity | Voice, suite: Suite) -> Voice:
    """Return who speaks in a run of `suite`; an identity alone does where nothing is beside it.

    Raises:
        ProtocolError: a suite's key is needed and there is none, or it is another suite's.
    """
    voice = identity if isinstance(identity, Voice) else Voice(identity, suite)
    if voice.suite is not suite:
        raise ProtocolError(f"a member signs by {voice.suite.id}, and its run is of {suite.id}")
    return voice


def beside_bytes(suite: Suite) -> int:
    """Return the length of `Voice.beside`."""
    return suite.signer_bytes if suite.signs_beside else 0


def signature_bytes(suite: Suite) -> int:
    """Return the length of what `Voice.sign` returns."""
    return SIGNATURE_BYTES + (suite.signature_bytes if suite.signs_beside else 0)


def identity_half(signature: bytes) -> bytes:
    """Return the half that ledgers keep: Ed25519 by the identity."""
    return signature[:SIGNATURE_BYTES]


def require_signed(
    suite: Suite, domain: str, message: bytes, signature: bytes, *, public: bytes, beside: bytes
) -> None:
    """Return if both halves of `signature` hold; where the suite has one half, if that does.

    Args:
        suite: Of the run, as its manifest says it: never as the signature's length suggests.
        domain: The one purpose.
        message: What was signed.
        signature: All of it.
        public: The identity's key.
        beside: The key of the suite's half.

    Raises:
        ProtocolError: a half is missing, too much, or does not hold.
    """
    if len(signature) != signature_bytes(suite) or len(beside) != beside_bytes(suite):
        raise ProtocolError(
            f"a signature for {domain} is not of the suite {suite.id}; update tacit at its sender"
        )
    verify_signature(public, domain, message, identity_half(signature))
    if not suite.signs_beside:
        return

    def verifies(key: bytes, _: bytes, half: bytes) -> bool:
        try:
            suite.verify(key, domain, message, half)
        except ProtocolError:
            return False
        return True

    half = signature[SIGNATURE_BYTES:]
    if not holds(beside, bound_message(domain, message), half, verifies):
        raise ProtocolError(
            f"a signature for {domain} does not verify by the suite {suite.id}; compare the "
            "sender's keys"
        )


def _signer(suite: Suite, seed: bytes) -> Signer:
    left = bytearray(seed)

    def read(count: int) -> bytes:
        if count > len(left):
            raise ProtocolError("no key can be made of this seed; make a new one")
        part = bytes(left[:count])
        del left[:count]
        return part

    return suite.create_signer(read)
