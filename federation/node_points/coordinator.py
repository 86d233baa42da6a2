"""What the coordinator says: who this node is, the time, versions, the membership."""

import time
from collections.abc import Iterator
from importlib import metadata
from typing import Final

from federation.certificates import certificate_digest, read_certificate
from federation.node_points.exchange import exchange_point
from federation.node_points.point import Point, Surroundings, sentence_of
from federation.participant import TLS, Place
from privacy.errors import TacitError
from privacy.identity import Identity
from privacy.membership import Membership

CLOCK_WARNED_S: Final = 2.0
CLOCK_MOST_S: Final = 300.0
"""A signed request of a node that is older, or younger, is refused by Flower's authentication."""
_FLOWER: Final = "1.41"


def coordinator_points(
    place: Place, identity: Identity | None, around: Surroundings
) -> Iterator[Point]:
    """What the coordinator says: who this node is, the time, versions, the membership."""
    begun_s, before = time.monotonic(), around.now()
    try:
        told = around.me()
    except TacitError as fault:
        yield Point(
            "coordinator",
            "failed",
            sentence_of(fault),
            "See the points about the registry above, and ask the operator.",
        )
        return
    taken_s = time.monotonic() - begun_s
    if (told.name, told.role) != (place.name, place.role.value):
        yield Point(
            "coordinator",
            "failed",
            f"The coordinator takes this node for {told.role} {told.name}, and it is "
            f"{place.role.value} {place.name}.",
            "Restore the participant folder from a copy, or be invited again and join anew.",
        )
    else:
        yield Point(
            "coordinator", "ok", f"The coordinator knows this node: {told.role} {told.name}."
        )
    if told.key_exchange:
        hybrid = "MLKEM" in told.key_exchange
        yield exchange_point("registry keys", told.key_exchange, hybrid=hybrid)
    offset_s = before.timestamp() + taken_s / 2 - told.time_ms / 1000
    yield clock_point(offset_s, doubt_s=taken_s / 2)
    yield version_point(metadata.version("tacit-fl"), told.version)
    yield flower_point(metadata.version("flwr"))
    try:
        membership = around.membership()
    except TacitError as fault:
        yield Point(
            "membership",
            "failed",
            sentence_of(fault),
            "If it says that the ledger does not hold, tell the other members and the regulator.",
        )
        return
    yield membership_point(membership, place, None if identity is None else identity.public)


def clock_point(offset_s: float, *, doubt_s: float) -> Point:
    """This machine's clock against the coordinator's.

    Args:
        offset_s: How far this clock is ahead, in seconds.
        doubt_s: By how much the answer's way may have falsified that.
    """
    least = max(0.0, abs(offset_s) - doubt_s)
    side = "ahead of" if offset_s > 0 else "behind"
    found = f"This machine's clock is {abs(offset_s):.1f} s {side} the coordinator's."
    remedy = "Set this machine's clock by NTP; if it is right, tell the operator."
    if least > CLOCK_MOST_S:
        return Point(
            "clock", "failed", f"{found} Beyond {CLOCK_MOST_S:.0f} s nothing is accepted.", remedy
        )
    if least > CLOCK_WARNED_S:
        return Point("clock", "warning", found, remedy)
    return Point(
        "clock",
        "ok",
        f"This machine's clock is within {CLOCK_WARNED_S:.0f} s of the coordinator's.",
    )


def version_point(own: str, theirs: str) -> Point:
    """The versions of tacit at both ends."""
    if own == theirs:
        return Point("version", "ok", f"Both ends run tacit {own}.")
    found = f"This node runs tacit {own}, and the coordinator {theirs or 'an unknown version'}."
    remedy = "Update the older of the two: pip install --upgrade 'tacit-fl[node]'."
    alike = own.split(".")[:2] == theirs.split(".")[:2]
    return Point("version", "warning" if alike else "failed", found, remedy)


def flower_point(version: str) -> Point:
    """Flower's version: the adapter is written for one."""
    if version == _FLOWER or version.startswith(f"{_FLOWER}."):
        return Point("Flower", "ok", f"flwr {version} is what this version was made for.")
    return Point(
        "Flower",
        "failed",
        f"flwr {version} is installed, and this version of tacit needs {_FLOWER}.",
        f"Run pip install 'flwr=={_FLOWER}.*'.",
    )


def membership_point(membership: Membership, place: Place, key: bytes | None) -> Point:
    """Whether this node is who the federation has on record."""
    name, again = "membership", "Be invited again and join anew."
    found = membership.participants.get(place.name)
    if found is None:
        return Point(name, "failed", f"{place.name} is not in {membership.federation}.", again)
    if found.revoked:
        return Point(
            name,
            "failed",
            f"{place.name} is no participant of {membership.federation} any more.",
            "Ask the operator why; to come back, be invited again.",
        )
    if key is not None and found.key != key:
        return Point(
            name,
            "failed",
            f"The federation has another key on record for {place.name} than this node's identity.",
            "Restore the participant folder; if you renewed keys elsewhere, use that machine.",
        )
    own = certificate_digest(read_certificate((place.folder / TLS).read_bytes(), "tls.pem"))
    if own not in found.certificates:
        return Point(
            name,
            "failed",
            f"The federation has no record of the certificate that this node uses as {place.name}.",
            "Restore the participant folder; if the file is right, tell the other members: a "
            "certificate was given out that is on no record.",
        )
    others = len(membership.members())
    return Point(name, "ok", f"{place.name} is one of {others} members of {membership.federation}.")
