"""The first entry of a ledger: whose it is, under which name and key its states are signed."""

from typing import Literal

from privacy.errors import OwnFileError
from privacy.identity import Identity
from privacy.ledger.entry import parse_leaf
from privacy.ledger.keys import log_origin
from privacy.ledger.rotation import rotations_among
from privacy.ledger.store import LedgerStore


def begin_ledger(
    store: LedgerStore,
    identity: Identity,
    *,
    owner: str,
    role: Literal["coordinator", "node"],
    time_ms: int,
) -> str:
    """Return the origin of a ledger, which is begun where it is new.

    The name stays that of the first key where `key.rotated` brought in another since; then the
    newest key alone may sign on. Readers verify rotations.

    Args:
        store: The ledger.
        identity: Whose key signs its states.
        owner: A member's name, or `coordinator`.
        role: What it is a ledger of.
        time_ms: Milliseconds since 1970 UTC.

    Raises:
        RefusedError: it was begun by another, or with another key.
        InputError: it cannot be read or written.
        NotVerifiedError: what is there is no ledger.
    """
    with store.turn() as turn:
        first = next(iter(turn.leaves(0, 1)), None)
        if first is None:
            origin = log_origin(owner, identity.public)
            key = identity.public.hex()
            body = {"origin": origin, "key": key, "owner": owner, "role": role}
            turn.append("ledger.begun", body, time_ms=time_ms)
            return origin
        entry = parse_leaf(first)
        rotations = rotations_among(turn.leaves(1), 1)
    if entry.kind != "ledger.begun" or (entry.body["owner"], entry.body["role"]) != (owner, role):
        raise OwnFileError(f"{store.place} is the ledger of another; use a folder of its own")
    newest = entry if not rotations else parse_leaf(rotations[-1][1])
    if newest.body["key"] != identity.public.hex():
        raise OwnFileError(
            f"{store.place} {'was begun with' if newest is entry else 'has by now'} another key "
            "than this identity; restore the identity, or keep the ledger and use another folder"
        )
    return str(entry.body["origin"])
