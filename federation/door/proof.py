"""How whoever fetches shows that it holds the key: a signature over its name and the time."""

from typing import Final

from privacy.canonical import canonical_json
from privacy.errors import ProtocolError, RefusedError
from privacy.identity import Identity, verify_signature

DOMAIN: Final = "door"
FRESH_MS: Final = 600_000
_MINUTE_MS: Final = 60_000


def sign_fetch(identity: Identity, federation: str, name: str, time_ms: int) -> bytes:
    """Return the signature for one fetch."""
    return identity.sign(DOMAIN, _message(federation, name, identity.public, time_ms))


def require_fetch(
    signature: bytes, *, federation: str, name: str, key: bytes, time_ms: int, now_ms: int
) -> None:
    """Return if the holder of `key` asked just now.

    Raises:
        RefusedError: it did not, or its clock is wrong.
    """
    try:
        verify_signature(key, DOMAIN, _message(federation, name, key, time_ms), signature)
    except ProtocolError:
        raise RefusedError("whoever asks does not hold the key; join again") from None
    if abs(now_ms - time_ms) > FRESH_MS:
        apart = abs(now_ms - time_ms) // _MINUTE_MS
        raise RefusedError(
            f"the clocks of the coordinator and of this machine are {apart} minutes apart; set the "
            "wrong one"
        )


def _message(federation: str, name: str, key: bytes, time_ms: int) -> bytes:
    return canonical_json(
        {"federation": federation, "key": key.hex(), "name": name, "time_ms": time_ms}
    )
