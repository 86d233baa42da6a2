"""Under which names logs and witnesses sign: one key pair of a member serves for both."""

from privacy.ledger.note import COSIGNATURE_V1, ED25519, VerifierKey, key_name

_SHORT = 16


def log_origin(owner: str, public: bytes) -> str:
    """Return the name of the ledger that `owner` begins with this key; it has no spaces.

    Two owners, or one with two ledgers under two keys, never share a name.
    """
    return f"tacit/{key_name(owner)}/{public.hex()[:_SHORT]}"


def log_key(origin: str, public: bytes) -> VerifierKey:
    """Return the key under which a ledger signs its checkpoints."""
    return VerifierKey(origin, ED25519, public)


def cosigner_key(member: str, public: bytes) -> VerifierKey:
    """Return the key under which a member, or a regulator, cosigns other ledgers' checkpoints."""
    return VerifierKey(f"{key_name(member)}/{public.hex()[:_SHORT]}", COSIGNATURE_V1, public)
