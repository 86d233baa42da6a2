"""Other keys for a participant: the TLS key before its certificate ends, the identity on demand.

New keys are made here and wait as `next.*` beside the old ones; the coordinator puts them on
record, signed by the old identity and the new one, and certifies them; then they take the place of
the old ones. Whatever ends the process in between, renewing again goes on with the same new keys.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

from filelock import FileLock, Timeout

from federation.certificates import (
    NEXT,
    at,
    key_pem,
    load_key,
    make_request,
    new_key,
    read_certificate,
    require_issued,
    tls_digest,
    write_private,
)
from federation.channel import UnknownCallerError
from federation.desk import local_enrolment
from federation.door.client import DoorClient
from federation.home import Home, write_bytes
from federation.kept_identity import kept_identity
from federation.members.client import MembersClient
from federation.participant import (
    FEDERATION,
    IDENTITY,
    ROOT,
    TLS,
    TLS_KEY,
    Place,
    settle,
)
from privacy.errors import RefusedError
from privacy.identity import Identity
from privacy.ledger.grammar import ROTATION_DOMAIN
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append
from privacy.membership import sign_act
from privacy.randomness import Entropy

LEFT: Final = 1 / 3
"""A certificate is renewed when less of its time is left."""


def is_due(place: Place, now: datetime) -> bool:
    """Whether the certificate should be renewed.

    Args:
        place: Whose.
        now: With a time zone.

    Raises:
        NotVerifiedError: it is none.
    """
    return _time_left(place, now)[1] < LEFT


def time_left(place: Place, now: datetime) -> timedelta:
    """Return how long the certificate is still good; below zero where it has ended."""
    return _time_left(place, now)[0]


def renew_if_due(place: Place, *, now_ms: Callable[[], int]) -> bool:
    """Renew the TLS key where it is time; then open connections are to be made anew.

    Args:
        place: Whose.
        now_ms: Milliseconds since 1970 UTC.

    Returns:
        Whether the credentials are others now.

    Raises:
        TacitError: the coordinator cannot be asked, or says no.
    """
    settle(place.folder)
    if not is_due(place, at(now_ms())):
        return False
    renew(place, now_ms=now_ms)
    return True


def renew(place: Place, *, now_ms: Callable[[], int], identity: Entropy | None = None) -> None:
    """Replace the TLS key, and the identity where `identity` makes a new one.

    Args:
        place: Whose. A node that is running keeps its identity; stop it before that is replaced.
        now_ms: Milliseconds since 1970 UTC.
        identity: For a new identity; None keeps the one there is, unless replacing it was begun.

    Raises:
        InputError: the certificate has ended, or the folder cannot be used.
        RefusedError: the identity is in use by a node.
        TacitError: the coordinator cannot be asked, or says no.
    """
    settle(place.folder)
    if identity is None and not (place.folder / (NEXT + IDENTITY)).exists():
        _renew(place, None, now_ms)
        return
    with _stopped_node(place.home):
        _renew(place, identity, now_ms)


def _renew(place: Place, identity: Entropy | None, now_ms: Callable[[], int]) -> None:
    folder = place.folder
    old = place.identity()
    waiting = folder / (NEXT + IDENTITY)
    if identity is not None:
        kept_identity(waiting, identity)
    new = Identity.load(waiting) if waiting.exists() else old
    if not (folder / (NEXT + TLS_KEY)).exists():
        write_private(folder / (NEXT + TLS_KEY), key_pem(new_key()))
    key = load_key(folder / (NEXT + TLS_KEY))
    body: dict[str, object] = {
        "name": place.name,
        "key": old.public.hex(),
        "new": new.public.hex(),
        "tls": tls_digest(key.public_key()),
    }
    for signer, field in ((old, "signature"), (new, "proof")):
        body = sign_act(
            signer,
            "member.renewed",
            place.federation,
            place.root_fingerprint,
            body,
            field=field,
        )
    certificate = _certified(place, body, make_request(key, place.peer), new, now_ms)
    require_issued(
        read_certificate(certificate, "what the coordinator sent"),
        root=read_certificate((folder / ROOT).read_bytes(), "the root"),
        key=key.public_key(),
        peer=place.peer,
    )
    if new is not old:
        _rotate_ledger(place.home, old, new)
    write_bytes(folder / (NEXT + TLS), certificate)
    settle(folder)


def _certified(
    place: Place,
    body: dict[str, object],
    request: bytes,
    new: Identity,
    now_ms: Callable[[], int],
) -> bytes:
    if (place.home.authority / FEDERATION).exists():
        return local_enrolment(place.home, now_ms=now_ms).renew(body, request, by=place.name)
    try:
        with MembersClient(place.registry, place.credentials()) as client:
            return client.renew(body, request)
    except UnknownCallerError:
        # the new keys may be on record, and only the answer was lost: the door knows the new one
        root = (place.folder / ROOT).read_bytes()
        with DoorClient(place.door, root) as door:
            standing = door.fetch(
                new, federation=place.federation, name=place.name, time_ms=now_ms()
            )
        return standing.certificate


@contextmanager
def _stopped_node(home: Home) -> Iterator[None]:
    """Hold the node's folder, if there is one: a node that is running signs with what it loaded."""
    if not home.own_node.is_dir():
        yield
        return
    try:
        with FileLock(home.own_node / "lock", timeout=1):
            yield
    except Timeout:
        raise RefusedError(
            "the node of this home is running and would go on with its old key; stop it, and "
            "rotate again"
        ) from None


def _rotate_ledger(home: Home, old: Identity, new: Identity) -> None:
    """Let the old key say in the node's own ledger which key signs it from here on."""
    path = home.own_node / "ledger.db"
    if not path.exists():
        return
    body = {"key": new.public.hex(), "signature": old.sign(ROTATION_DOMAIN, new.public).hex()}
    append(SqliteLedger(path), "key.rotated", body, time_ms=0)


def _time_left(place: Place, now: datetime) -> tuple[timedelta, float]:
    certificate = read_certificate((place.folder / TLS).read_bytes(), "the certificate")
    begun, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return ends - now, (ends - now) / (ends - begun)
