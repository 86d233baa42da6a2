"""What members agree on before the first sum: everybody's keys, and what they share."""

from clients.admission import require_safe, require_still_members
from clients.installation import Installation
from clients.session import Session, Setup
from privacy.errors import ProtocolError
from privacy.messages import (
    KeyHeld,
    KeyMade,
    KeyNotice,
    PairNotice,
    PairsMade,
    Ready,
    RosterNotice,
    SealedKey,
)
from privacy.secure_sum.cohort import Cohort, groups_of
from privacy.secure_sum.group_key import (
    Envelope,
    GroupKey,
    make_group_key,
    maker_of,
    open_group_key,
)
from privacy.secure_sum.keys import KeyOffer, Roster, admit
from privacy.secure_sum.pair_keys import (
    PairEnvelope,
    neighbours_of,
    open_pairs,
    pairs_due,
    seal_pairs,
)
from privacy.secure_sum.schemes import scheme_of
from privacy.secure_sum.sealer import Sealer
from privacy.suites import suite_of
from privacy.sum_context import first_history


def accept_roster(here: Installation, session: Session, request: RosterNotice) -> Ready | KeyMade:
    """Take the members' keys; whose turn it is makes the group's key and seals it to the others.

    Raises:
        RefusedError: Somebody of them is known here no more, or too few are recognised.
        ProtocolError: The keys are not what was agreed on, or too few for the run.
    """
    if session.roster is not None:
        raise ProtocolError("The members' keys of a run are agreed on once.")
    manifest = session.manifest
    minimum = max(session.minimum, here.settings.terms().minimum_cohort)
    roster = admit(
        [KeyOffer.from_bytes(offer) for offer in request.offers],
        run=session.run,
        directory=manifest.directory_keys(),
        minimum=minimum,
        suite=suite_of(manifest.suite),
    )
    require_safe(here.settings, session, roster, minimum)
    require_still_members(here.settings, session, roster, minimum)
    with here.lock:
        here.signing.require_known(roster)
    session.roster, session.minimum = roster, minimum
    if maker_of(roster) != here.member:
        return Ready(member=here.member)
    key, envelopes = make_group_key(
        here.member,
        here.signing.voice(manifest.suite),
        roster,
        scheme_of(manifest.protection),
        here.entropy,
    )
    set_up(here, session, roster, key)
    return KeyMade(
        member=here.member,
        fingerprint=key.fingerprint,
        public=key.carrier.public,
        carrier=next(iter(envelopes.values())).carrier,
        keys={
            member: SealedKey(envelope.secret, envelope.signature)
            for member, envelope in envelopes.items()
        },
    )


def accept_key(here: Installation, session: Session, request: KeyNotice) -> KeyHeld:
    """Open the group's key.

    Raises:
        ProtocolError: It is not signed by whose turn it is, or not meant for this member.
    """
    roster = session.roster
    if roster is None or session.setup is not None:
        raise ProtocolError("A run's group key is opened once, after the members' keys.")
    envelope = Envelope(
        request.fingerprint,
        request.public,
        request.carrier,
        request.secret,
        request.signature,
    )
    scheme = scheme_of(session.manifest.protection)
    key = open_group_key(here.member, session.key, roster, scheme, envelope)
    set_up(here, session, roster, key)
    return KeyHeld(member=here.member, fingerprint=key.fingerprint)


def make_pairs(here: Installation, session: Session) -> PairsMade:
    """Make this member's half of its pairs' secrets, and seal each to its neighbour.

    Raises:
        ProtocolError: They were made before, or this run has none.
    """
    setup, peers = session.agreed, _pair_peers(here, session)
    if session.pair_keys:
        raise ProtocolError("The secrets of a run's pairs are made once.")
    voice = here.signing.voice(session.manifest.suite)
    secrets, envelopes = seal_pairs(here.member, voice, setup.roster, peers, here.entropy)
    session.pair_keys.update(secrets)
    return PairsMade(
        member=here.member,
        keys={peer: SealedKey(one.secret, one.signature) for peer, one in envelopes.items()},
    )


def accept_pairs(here: Installation, session: Session, request: PairNotice) -> Ready:
    """Open the neighbours' half.

    Raises:
        ProtocolError: It was opened before, does not open, or this run has none.
    """
    setup, peers = session.agreed, _pair_peers(here, session)
    made = {peer for peer in peers if here.member < peer}
    if session.sealed or set(session.pair_keys) != made:
        raise ProtocolError("The secrets of a run's pairs are opened once, after its own.")
    envelopes = {
        peer: PairEnvelope(one.secret, one.signature) for peer, one in request.keys.items()
    }
    opened = open_pairs(here.member, session.key, setup.roster, peers, envelopes)
    session.pair_keys.update(opened)
    # nothing was sealed yet: without them it would have been refused
    set_up(here, session, setup.roster, setup.key)
    return Ready(member=here.member)


def _pair_peers(here: Installation, session: Session) -> frozenset[str]:
    setup = session.agreed
    if not pairs_due(setup.roster, masked=setup.scheme.masked):
        raise ProtocolError("This run's pairs of members send each other no secrets.")
    return neighbours_of(here.member, (setup.everyone, *setup.groups))


def set_up(here: Installation, session: Session, roster: Roster, key: GroupKey) -> None:
    """Get this node's half of the sums ready, once the group's key is there."""
    scheme = scheme_of(session.manifest.protection)
    minimum = session.minimum
    sealer = Sealer(
        here.member,
        here.signing.voice(session.manifest.suite),
        session.key,
        roster,
        scheme=scheme.name,
        wrap=key.carrier.wrap,
        masked=scheme.masked,
        entropy=here.entropy,
        shared=key.tag_secret,
        pair_keys=session.pair_keys,
    )
    session.setup = Setup(
        roster=roster,
        everyone=Cohort(roster, roster.members, minimum),
        groups=tuple(
            Cohort(roster, members, minimum)
            for members in groups_of(roster, session.manifest.group_size)
        ),
        scheme=scheme,
        key=key,
        sealer=sealer,
    )
    session.history = first_history(roster.digest, key.fingerprint)
