"""The joining machine's side: keys made here, a request, and a certificate once others approved.

Whatever ends the process in between, the same command goes on: keys are kept, and the same request
again changes nothing at the coordinator. The place is whole once `federation.json` is written.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cryptography import x509

from federation.certificates import (
    key_pem,
    load_key,
    make_request,
    new_key,
    private_folder,
    read_certificate,
    require_issued,
    tls_digest,
    write_private,
)
from federation.channel import UnreachedError
from federation.door.client import DoorClient
from federation.home import Home, read_json, write_bytes, write_json
from federation.invitation import Token
from federation.kept_identity import kept_identity
from federation.participant import FEDERATION, IDENTITY, ROOT, TLS, TLS_KEY, Place
from federation.proto import door_pb2 as wire
from federation.registry.plain import plain
from privacy.errors import InputError, RefusedError
from privacy.identity import Identity
from privacy.membership import sign_act
from privacy.randomness import Entropy

JOINING: Final = "joining.json"
POLL_S: Final = 2.0


class Told(Protocol):
    """Shows how it stands."""

    def __call__(self, approved: tuple[str, ...], needed: int) -> None:
        """Say who approved so far, and how many are needed."""
        ...


@dataclass(frozen=True, slots=True)
class Waiting:
    """Asked, and not let in yet.

    Attributes:
        key: The identity's public key, to be read to who approves.
        approved: Who did.
        needed: How many have to.
    """

    key: bytes
    approved: tuple[str, ...]
    needed: int


def make_keys(home: Home, token: Token, entropy: Entropy, *, anew: bool = False) -> Identity:
    """Make this machine's keys for an invitation, or return those that were made for it.

    Args:
        home: Of this machine.
        token: The invitation.
        entropy: For the keys.
        anew: Whether keys that were made for another invitation, and never certified, may be
            replaced. A request is decided once for a key, and who waits with a key that is gone
            can be approved and never come in.

    Raises:
        InputError: the machine is in a federation already, or joining with another invitation, or
            the folder cannot be used.
    """
    folder = home.participant
    if (folder / FEDERATION).exists():
        place = Place.read(folder)
        raise InputError(
            f"this machine is in the federation {place.federation} as {place.name} already; use "
            "another home to join a second time"
        )
    private_folder(folder)
    begun = read_json(folder / JOINING) if (folder / JOINING).exists() else {}
    if begun.get("token") != token.digest:
        if begun and not anew:
            whose = f" as {begun['name']}" if "name" in begun else ""
            raise InputError(
                f"this home is joining{whose} already, with another invitation; use another home "
                "(TACIT_HOME) for this one, or give --anew if that one has ended or was turned "
                "away: the keys that were made for it are deleted then"
            )
        for name in (IDENTITY, TLS_KEY, TLS):
            (folder / name).unlink(missing_ok=True)
        write_json(folder / JOINING, {"token": token.digest, "name": token.name})
    identity = kept_identity(folder / IDENTITY, entropy)
    if not (folder / TLS_KEY).exists():
        write_private(folder / TLS_KEY, key_pem(new_key()))
    return identity


def join_federation(
    home: Home,
    token: Token,
    *,
    wait_s: float,
    entropy: Entropy,
    now_ms: Callable[[], int],
    told: Told | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Place | Waiting:
    """Ask to be let in, and wait for it.

    Args:
        home: Of this machine.
        token: The invitation.
        wait_s: How long to wait for approvals, in seconds; 0 asks once.
        entropy: For the keys.
        now_ms: Milliseconds since 1970 UTC.
        told: Is told how it stands, whenever that changed.
        sleep: Waits so many seconds.

    Returns:
        The place, or how it stands where the time was over first.

    Raises:
        UnreachedError: the coordinator cannot be reached.
        RefusedError: the invitation is not good, or the request was turned away.
        InputError: this machine is in a federation already.
        NotVerifiedError: the certificate is not what was asked for.
    """
    identity = make_keys(home, token, entropy)
    folder = home.participant
    with DoorClient(token.door, token.root_pem) as door:
        standing = _ask(door, token, identity, folder)
        shown: tuple[tuple[str, ...], int] | None = None
        end_s = time.monotonic() + wait_s
        while not standing.certificate:
            at = _approved(standing), standing.needed
            if at != shown and told is not None:
                told(*at)
            shown = at
            if time.monotonic() >= end_s:
                return Waiting(identity.public, *at)
            sleep(min(POLL_S, max(0.0, end_s - time.monotonic())))
            standing = _fetch(door, token, identity, now_ms, standing)
    return _take_place(folder, token, standing)


def _ask(door: DoorClient, token: Token, identity: Identity, folder: Path) -> wire.Standing:
    key = load_key(folder / TLS_KEY)
    body = sign_act(
        identity,
        "member.requested",
        token.federation,
        token.fingerprint,
        {
            "token": token.digest,
            "name": token.name,
            "role": token.role.value,
            "key": identity.public.hex(),
            "tls": tls_digest(key.public_key()),
        },
    )
    return door.ask(
        secret=token.secret,
        peer=token.peer,
        key=identity.public,
        request=make_request(key, token.peer),
        signature=bytes.fromhex(body["signature"]),
    )


def _fetch(
    door: DoorClient,
    token: Token,
    identity: Identity,
    now_ms: Callable[[], int],
    before: wire.Standing,
) -> wire.Standing:
    try:
        return door.fetch(identity, federation=token.federation, name=token.name, time_ms=now_ms())
    except UnreachedError:
        return before  # it was reached a moment ago, and is asked again


def _take_place(folder: Path, token: Token, standing: wire.Standing) -> Place:
    certificate = read_certificate(standing.certificate, "what the coordinator sent")
    key = load_key(folder / TLS_KEY).public_key()
    root = x509.load_der_x509_certificate(token.root)
    require_issued(certificate, root=root, key=key, peer=token.peer)
    if not standing.registry or not standing.fleet:
        raise RefusedError("the coordinator did not say where it is; update tacit there")
    write_bytes(folder / TLS, standing.certificate)
    write_bytes(folder / ROOT, token.root_pem)
    place = Place(
        folder=folder,
        federation=token.federation,
        name=token.name,
        role=token.role,
        door=token.door,
        registry=plain(standing.registry),
        fleet=plain(standing.fleet),
        root_fingerprint=token.fingerprint,
        founder_key=token.founder,
        ledger_origin=token.ledger.name,
        ledger_key=token.ledger.public,
    )
    place.write()
    (folder / JOINING).unlink(missing_ok=True)
    return place


def _approved(standing: wire.Standing) -> tuple[str, ...]:
    return tuple(plain(name) for name in standing.approved)
