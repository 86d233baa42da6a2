"""A secret for each pair of members, sent once a run, where key agreement alone does not hold.

ML-KEM makes no secret without a message. So of each two that mask with each other, the one whose
name comes first draws a secret and seals it to the other's exchange key, as the suite wraps
(`hybrid`: HPKE with ML-KEM-768 and X25519), and signs. It goes into the pair's secret beside what
the two agree on and the run's group key (`sealer.pair_secret`), so whoever recorded all messages
and breaks X25519 later knows no mask, whoever else gave its own keys away.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from privacy.canonical import framed
from privacy.errors import ProtocolError
from privacy.keystream import KEY_BYTES
from privacy.randomness import Entropy
from privacy.secure_sum.cohort import Cohort
from privacy.secure_sum.keys import ExchangeKey, Roster, wrap_for
from privacy.suites.voice import Voice

_DOMAIN = "pair-key"


@dataclass(frozen=True, slots=True)
class PairEnvelope:
    """A pair's secret on its way from one to the other.

    Attributes:
        secret: It, sealed to the other.
        signature: By who sealed it, over roster, both names and the above.
    """

    secret: bytes = field(repr=False)
    signature: bytes


def pairs_due(roster: Roster, *, masked: bool) -> bool:
    """Whether members of this roster send such secrets: for masks, where the suite needs them."""
    return masked and not roster.suite.static_holds


def neighbours_of(member: str, cohorts: Iterable[Cohort]) -> frozenset[str]:
    """Return with whom `member` masks in any of the run's cohorts."""
    return frozenset(
        peer for cohort in cohorts if member in cohort.members for peer in cohort.peers(member)
    )


def seal_pairs(
    member: str, voice: Voice, roster: Roster, peers: Iterable[str], entropy: Entropy
) -> tuple[Mapping[str, bytes], Mapping[str, PairEnvelope]]:
    """Draw a secret (32 bytes) for each of `peers` whose name comes after `member`, and seal it.

    Raises:
        ProtocolError: a peer is not in the roster.
    """
    secrets: dict[str, bytes] = {}
    envelopes: dict[str, PairEnvelope] = {}
    for peer in sorted(peers):
        if member < peer:
            secrets[peer] = entropy(KEY_BYTES)
            sealed = wrap_for(
                roster.exchange_of(peer),
                secrets[peer],
                info=_info(roster, member, peer),
                suite=roster.suite,
            )
            signature = voice.sign(_DOMAIN, _message(roster, member, peer, sealed))
            envelopes[peer] = PairEnvelope(sealed, signature)
    return secrets, envelopes


def open_pairs(
    member: str,
    key: ExchangeKey,
    roster: Roster,
    peers: Iterable[str],
    envelopes: Mapping[str, PairEnvelope],
) -> Mapping[str, bytes]:
    """Return the secrets that those of `peers` sealed whose names come before `member`.

    Raises:
        ProtocolError: one is missing, from somebody else, not signed by its sender for this run
            and pair, or does not open.
    """
    due = sorted(peer for peer in peers if peer < member)
    if sorted(envelopes) != due:
        raise ProtocolError("a secret of each neighbour before this member is due, and no other")
    secrets: dict[str, bytes] = {}
    for peer in due:
        one = envelopes[peer]
        message = _message(roster, peer, member, one.secret)
        try:
            roster.require_signed(peer, _DOMAIN, message, one.signature)
        except ProtocolError:
            raise ProtocolError(
                f"the secret of {peer} and {member} is not signed by {peer}; start a new run"
            ) from None
        secrets[peer] = key.unwrap(one.secret, info=_info(roster, peer, member))
        if len(secrets[peer]) != KEY_BYTES:
            raise ProtocolError(f"{peer} sealed what is no secret of a pair; start a new run")
    return secrets


def _info(roster: Roster, sender: str, receiver: str) -> bytes:
    names = (sender.encode("utf-8"), receiver.encode("utf-8"))
    return framed(b"tacit/pair-key/v1", roster.run, roster.digest, *names)


def _message(roster: Roster, sender: str, receiver: str, sealed: bytes) -> bytes:
    return framed(_info(roster, sender, receiver), hashlib.sha256(sealed).digest())
