"""Who takes part, as this machine sees it: acts from the coordinator, each checked here.

The acts' signatures go back to the founder's key, which came with the invitation, so the
coordinator can invent none. What was read once stays: a list that does not begin with it is refused
as another history, so an act that this machine has seen, a revocation above all, cannot be taken
back. The newest act can be kept from it; cosigned states of the ledger are against that.
"""

from collections.abc import Iterable
from itertools import pairwise

from federation.home import write_bytes
from federation.members.client import MembersClient
from federation.participant import Place
from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import InputError, NotVerifiedError, ProtocolError
from privacy.ledger.entry import Entry, parse_leaf
from privacy.membership import Membership, fold

CACHE = "membership.json"


def read_membership(place: Place, client: MembersClient) -> Membership:
    """Return who takes part now, and remember it.

    Raises:
        TacitError: the coordinator cannot be asked.
        NotVerifiedError: an act does not hold, or the acts are not those that were seen before.
    """
    return fold_pinned(place, read_acts(place, client))


def read_acts(place: Place, client: MembersClient) -> list[Entry]:
    """Return all acts, those that are new from the coordinator; they fold, and are remembered.

    Raises:
        TacitError: the coordinator cannot be asked.
        NotVerifiedError: an act does not hold, or the acts are not those that were seen before.
    """
    known = _cached(place)
    # the last one that is known is asked for again, so that another history shows
    overlap = max(0, len(known) - 1)
    try:
        fresh = list(client.acts(overlap))
    except InputError:
        fresh = []  # it says that there are not so many
    if known and (not fresh or fresh[0] != known[-1]):
        raise NotVerifiedError(
            "the coordinator shows another history of the federation than before; trust nothing "
            "of it, and ask the operator"
        )
    leaves = [*known[:overlap], *fresh]
    entries = _entries(leaves)
    fold_pinned(place, entries)
    if len(leaves) != len(known):
        _keep(place, leaves)
    return entries


def cached_membership(place: Place) -> Membership | None:
    """Return who took part when that was read last; None where it never was.

    Raises:
        NotVerifiedError: what is remembered does not hold.
    """
    known = _cached(place)
    return fold_pinned(place, _entries(known)) if known else None


def fold_pinned(place: Place, entries: Iterable[Entry]) -> Membership:
    """Fold acts, held to the founder, the root and the name that came with the invitation.

    Raises:
        NotVerifiedError: they are another's.
    """
    membership = fold(entries, founder=place.founder_key, root=place.root_fingerprint)
    if membership.federation != place.federation:
        raise NotVerifiedError("that is another federation than this machine joined")
    return membership


def _entries(leaves: Iterable[bytes]) -> list[Entry]:
    entries = [parse_leaf(leaf) for leaf in leaves]
    for before, after in pairwise(entries):
        if after.index <= before.index:
            raise NotVerifiedError("acts of the federation are out of place; ask the operator")
    return entries


def _cached(place: Place) -> list[bytes]:
    path = place.folder / CACHE
    try:
        value = parse_canonical(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ProtocolError):
        value = None
    if not isinstance(value, list) or not all(isinstance(leaf, str) for leaf in value):
        raise InputError(f"{path} is damaged; delete it, and it is read anew")
    return [leaf.encode() for leaf in value]


def _keep(place: Place, leaves: Iterable[bytes]) -> None:
    write_bytes(place.folder / CACHE, canonical_json([leaf.decode("ascii") for leaf in leaves]))
