"""Where a participant's own acts are signed and handed in.

On the operator's machine they go into the coordinator's ledger at once, whether or not the
coordinator is running; from any other machine, to the running coordinator.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.hazmat.primitives.serialization import Encoding

from federation.authority import Authority
from federation.certificates import read_certificate
from federation.enrolment import Acted, Enrolment, open_enrolment
from federation.fingerprint import require_fingerprint
from federation.founding import require_name
from federation.home import Home
from federation.invitation import SECRET_BYTES, Token, secret_digest
from federation.ledger_place import open_store
from federation.look_alike import look_alike
from federation.members.client import MembersClient
from federation.participant import FEDERATION, ROOT, Place, load_participant
from federation.registry.access import Role
from federation.roster import fold_pinned, read_acts
from privacy.errors import InputError, RefusedError
from privacy.ledger.entry import Entry
from privacy.membership import Candidate, Membership, Participant, check_next, sign_act
from privacy.randomness import Entropy

REASON_CHARACTERS_MAX: Final = 300


class Office(Protocol):
    """Whatever holds the acts and takes more."""

    def acts(self) -> Sequence[Entry]:
        """Return the acts so far; they fold."""
        ...

    def hand_in(self, kind: str, body: Mapping[str, object]) -> Acted:
        """Put an act of this machine's participant on record."""
        ...


@dataclass(frozen=True, slots=True)
class Local:
    """The coordinator's ledger itself."""

    enrolment: Enrolment
    place: Place

    def acts(self) -> Sequence[Entry]:
        """See the Protocol."""
        return self.enrolment.acts()

    def hand_in(self, kind: str, body: Mapping[str, object]) -> Acted:
        """See the Protocol."""
        return self.enrolment.act(kind, body, by=self.place.name)


@dataclass(frozen=True, slots=True)
class Remote:
    """A coordinator that is running elsewhere."""

    client: MembersClient
    place: Place

    def acts(self) -> Sequence[Entry]:
        """See the Protocol."""
        return read_acts(self.place, self.client)

    def hand_in(self, kind: str, body: Mapping[str, object]) -> Acted:
        """See the Protocol."""
        reply = self.client.act(kind, body)
        return Acted(reply.index, reply.admitted)


@dataclass(frozen=True, slots=True)
class Desk:
    """One participant's: what it sees, and what it signs."""

    place: Place
    office: Office
    now_ms: Callable[[], int]

    def membership(self) -> Membership:
        """Return who takes part now, checked back to the founder."""
        return fold_pinned(self.place, self.office.acts())

    def invite(
        self,
        *,
        role: Role,
        name: str,
        days: float,
        attributes: Mapping[str, str],
        entropy: Entropy,
    ) -> Token:
        """Put an invitation on record, and return it.

        Raises:
            RefusedError: this participant may not invite, or the name is taken, or is taken for
                another's by whoever reads it.
            InputError: the name or the time is none.
        """
        require_name(name)
        if {"", ".", ".."} & set(re.split(r"[/\\]", name)):
            # no name leads anywhere here, but people and their scripts name files by them
            raise InputError(f"{name} reads as a path; choose a name that does not")
        if not 0 < days <= 366:  # noqa: PLR2004 - a year
            raise InputError("an invitation is good for more than 0 and at most 366 days")
        known, now_ms = self.membership(), self.now_ms()
        invited = (one.name for one in known.invitations.values() if now_ms <= one.expires_ms)
        other = look_alike(name, (*known.active(), *known.candidates, *invited))
        if other:
            raise RefusedError(
                f"{name} is easily taken for {other}, who takes part or is invited; choose another "
                "name"
            )
        root = read_certificate((self.place.folder / ROOT).read_bytes(), "the root")
        token = Token(
            door=self.place.door,
            federation=self.place.federation,
            name=name,
            role=role,
            expires_ms=self.now_ms() + int(days * 86_400_000),
            founder=self.place.founder_key,
            ledger=self.place.log_key,
            root=root.public_bytes(Encoding.DER),
            secret=entropy(SECRET_BYTES),
        )
        self._act(
            "member.invited",
            {
                "token": secret_digest(token.secret),
                "role": role.value,
                "name": name,
                "attributes": dict(attributes),
                "expires_ms": token.expires_ms,
                "by": self.place.name,
            },
        )
        return token

    def candidate(self, name: str, fingerprint: str | None = None) -> Candidate:
        """Return who waits under this name.

        Raises:
            RefusedError: nobody does, or its key has another fingerprint.
            InputError: the fingerprint is none.
        """
        membership = self.membership()
        found = membership.candidates.get(name)
        if found is None:
            raise RefusedError(_nobody(membership, name))
        if fingerprint is not None:
            require_fingerprint(found.key, fingerprint)
        return found

    def approve(self, candidate: Candidate) -> Acted:
        """Sign for a candidate's key.

        Raises:
            RefusedError: this participant may not, or did before.
        """
        return self._act(
            "member.approved",
            {"name": candidate.name, "key": candidate.key.hex(), "by": self.place.name},
        )

    def revoke(self, name: str, reason: str) -> Participant | Candidate:
        """End a participation, or turn a candidate away; return whose.

        Raises:
            RefusedError: there is nobody, or this participant may not.
            InputError: the reason cannot be put on record.
        """
        if not reason.isprintable() or not 0 < len(reason) <= REASON_CHARACTERS_MAX:
            raise InputError(
                f"a reason has 1 to {REASON_CHARACTERS_MAX} printable characters; give another"
            )
        membership = self.membership()
        found = membership.candidates.get(name) or membership.active().get(name)
        if found is None:
            raise RefusedError(
                f"nobody takes part or waits as {name}; see tacit federation members"
            )
        self._act(
            "member.revoked",
            {"name": name, "key": found.key.hex(), "reason": reason, "by": self.place.name},
        )
        return found

    def _act(self, kind: str, body: Mapping[str, object]) -> Acted:
        place = self.place
        signed = sign_act(place.identity(), kind, place.federation, place.root_fingerprint, body)
        if kind != "member.invited":
            # said here in our own words, before anybody else is asked
            check_next(self.membership(), kind, signed, self.now_ms())
        return self.office.hand_in(kind, signed)


@contextmanager
def open_desk(home: Home, *, now_ms: Callable[[], int]) -> Iterator[Desk]:
    """Open this machine's desk.

    Raises:
        InputError: the machine is in no federation.
        TacitError: its coordinator cannot be reached.
    """
    place = load_participant(home)
    if (home.authority / FEDERATION).exists():
        yield Desk(place, Local(local_enrolment(home, now_ms=now_ms), place), now_ms)
        return
    with MembersClient(place.registry, place.credentials()) as client:
        yield Desk(place, Remote(client, place), now_ms)


def local_enrolment(home: Home, *, now_ms: Callable[[], int]) -> Enrolment:
    """Return the enrolment of the federation that this home keeps.

    Raises:
        InputError: it keeps none.
    """
    authority = Authority.load(home.authority)
    return open_enrolment(open_store(home.ledger_place), authority, now_ms=now_ms)


def _nobody(membership: Membership, name: str) -> str:
    if name in membership.active():
        return f"{name} takes part already; there is nothing to approve"
    if any(one.name == name for one in membership.invitations.values()):
        return f"{name} is invited and has not joined yet; let it run tacit node join first"
    return f"nobody waits as {name}; see tacit federation members"
