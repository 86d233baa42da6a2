"""Which witnesses a registry knows: the name of a caller, and the key that it cosigns with."""

from collections.abc import Iterable
from urllib.parse import unquote

from privacy.errors import InputError
from privacy.ledger.keys import cosigner_key
from privacy.ledger.note import COSIGNATURE_V1, VerifierKey
from privacy.ledger.trust import TrustPolicy


def registered_witnesses(
    given: Iterable[str], policy: TrustPolicy | None
) -> dict[str, VerifierKey]:
    """Return name -> key of all witnesses that are given, one by one or in a policy.

    Args:
        given: Each `NAME=VKEY`, for a caller whose certificate has this name.
        policy: Its keys are for the callers that they are named after (`keys.cosigner_key`).

    Raises:
        InputError: one is no such text, has a key of another type, or has two keys.
    """
    found: dict[str, VerifierKey] = {}
    for text in given:
        name, equals, vkey = text.partition("=")
        if not name or not equals:
            raise InputError(f"--witness {text[:200]}: give it as NAME=VKEY")
        _register(found, name, VerifierKey.from_text(vkey))
    for key in () if policy is None else policy.witnesses.values():
        _register(found, _named_after(key), key)
    return found


def _register(found: dict[str, VerifierKey], name: str, key: VerifierKey) -> None:
    if key.algorithm != COSIGNATURE_V1:
        raise InputError(f"{key.to_text()} is the key of a log, not of a witness; give another")
    if found.setdefault(name, key) != key:
        raise InputError(f"the witness {name} has two keys; give the one that it uses")


def _named_after(key: VerifierKey) -> str:
    name = unquote(key.name.rpartition("/")[0])
    if name and cosigner_key(name, key.public) == key:
        return name
    return unquote(key.name)
