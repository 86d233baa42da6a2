"""The coordinator's file for auditors, over the network: downloaded whole, and then held.

What it is held against came to this machine another way: with the invitation (the founder's key,
the root, the ledger's name and key), and with what it saw itself before (acts of membership that it
read, states of the ledger that it cosigned as a witness).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federation.audit import Audit, verify_loaded
from federation.cosigned import cosigned_heads
from federation.participant import Place
from federation.registry.access import MEMBERS, Method, Role, Scope, scope_of
from federation.registry.client import RegistryClient
from federation.roster import cached_membership
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.ledger.bundle import Bundle, read_bundle
from privacy.ledger.checkpoint import parse_checkpoint_text
from privacy.ledger.note import parse_note
from privacy.ledger.trust import TrustPolicy
from privacy.whole_file import part_for

REJECTED: Final = ".rejected"
"""After the name of a file that did not hold; it is kept, as it shows what was sent."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that holds.

    Attributes:
        bundle: What is in it.
        audit: What was found.
        unsigned: Entries of the coordinator's ledger after the newest state that it signed.
    """

    bundle: Bundle
    audit: Audit
    unsigned: int


def require_auditor(role: Role) -> None:
    """Return if a role may have the whole file.

    Raises:
        RefusedError: it may not; the sentence says what it may have.
    """
    if scope_of(role, Method.BUNDLE) is Scope.ALL:
        return
    if role in MEMBERS:
        raise RefusedError(
            f"the whole record is for regulators, and this machine takes part as {role.value}; "
            "export your own ledger with tacit audit export, and see what is spent with tacit "
            "budget show --federation"
        )
    raise RefusedError(
        f"the whole record is for regulators, and this machine takes part as {role.value}; export "
        "it where the ledger is, with tacit audit export"
    )


def fetch(
    client: RegistryClient,
    path: Path,
    *,
    place: Place | None,
    policy: TrustPolicy | None,
    rules: str | None = None,
) -> Fetched:
    """Download the coordinator's file and verify it; `path` is written if it holds.

    Args:
        client: Whom to ask.
        path: Of the file. One that does not hold is kept beside it, as `*.rejected`.
        place: This machine's in the federation; its pins count beside any policy.
        policy: Whom the auditor trusts; the ledger that the invitation named, where None.
        rules: A set's name or a file; None: the usual ones.

    Raises:
        TacitError: the registry cannot be asked, or refuses.
        NotVerifiedError: what it sent does not hold.
        InputError: neither a policy nor a place is given, or the file cannot be written.
    """
    if policy is None:
        if place is None:
            raise InputError("nothing says whom you trust; give a trust policy as --policy")
        policy = TrustPolicy(logs=(place.log_key,))
    try:
        with part_for(path, mode=0o666) as (part, file):
            client.bundle(file)
            file.flush()
            os.fsync(file.fileno())
            try:
                found = _verified(part.read_bytes(), place=place, policy=policy, rules=rules)
            except NotVerifiedError as error:
                kept = path.with_name(path.name + REJECTED)
                part.replace(kept)
                raise NotVerifiedError(f"{error}; what was sent is in {kept}") from None
            part.replace(path)
    except OSError as failure:
        raise InputError(
            f"{path}: cannot be written ({failure.strerror}); choose another folder"
        ) from None
    return found


def _verified(
    data: bytes, *, place: Place | None, policy: TrustPolicy, rules: str | None
) -> Fetched:
    bundle = read_bundle(data)
    ledger = next((log for log in bundle.logs if log.role == "coordinator"), None)
    if ledger is None:
        raise NotVerifiedError("the coordinator's ledger is not in what was sent")
    signed = max((_size(note) for note in ledger.checkpoints), default=0)
    unsigned = len(ledger.leaves) - signed
    heads = [] if place is None else cosigned_heads(place)
    audit = verify_loaded(
        bundle,
        policy=policy,
        heads={ledger.origin: heads} if heads else {},
        live=unsigned > 0,
        rules=rules,
    )
    if place is not None:
        _require_pins(place, ledger.origin, audit)
    return Fetched(bundle, audit, unsigned)


def _require_pins(place: Place, origin: str, audit: Audit) -> None:
    """Require that it is the federation that this machine joined, with all that it saw of it."""
    if origin != place.ledger_origin:
        raise NotVerifiedError(
            f"it is the ledger {origin}, and this machine's invitation names {place.ledger_origin}"
        )
    found = audit.membership
    if found is None:
        raise NotVerifiedError("no federation was begun in it, and this machine joined one")
    if found.founder_key != place.founder_key:
        raise NotVerifiedError("another key began that federation than the invitation names")
    if (found.root, found.federation) != (place.root_fingerprint, place.federation):
        raise NotVerifiedError("that federation has another root or name than the invitation says")
    seen = cached_membership(place)
    if seen is not None and not seen.acts <= found.acts:
        raise NotVerifiedError(
            f"{len(seen.acts - found.acts)} acts of membership that this machine has seen are not "
            "in it"
        )


def _size(note: bytes) -> int:
    return parse_checkpoint_text(parse_note(note).text).size
