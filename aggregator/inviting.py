"""Who takes part in a run: a second signature under its manifest, and each member's own answer."""

import math
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from aggregator.plan import CoordinatorPlan
from aggregator.ports import Answer, Ledger, Observer, Transport
from aggregator.showing import clean, show_rotations, speaks_for
from privacy.errors import CohortError, ProtocolError, RefusedError
from privacy.identity import verify_signature
from privacy.ledger.grammar import CONSENT_DOMAIN
from privacy.manifest import COUNTERSIGN_DOMAIN, Manifest
from privacy.messages import (
    Countersigned,
    CountersignRequest,
    Invite,
    Joined,
    Pending,
    Refused,
    Reply,
    Request,
)
from privacy.secure_sum.keys import KeyOffer

ASK_AGAIN_S: Final = 2.0
SIGN_S: Final = 30.0
"""Longest that a node has for a second signature, before the others' answers are looked at."""
TOLD_MAX: Final = 20
"""How often it is told that a member waits, for another reason each time."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """A member that takes part.

    Attributes:
        node: Its address.
        offer: Its signed key for this run.
        consent: Its signature under the run's digest.
    """

    node: int
    offer: KeyOffer
    consent: bytes


@dataclass(frozen=True, slots=True)
class Invitation:
    """What members are asked.

    Attributes:
        manifest: What was agreed.
        signature: The launcher's.
        launcher: The launcher's public key.
        plan: The coordinator's part of the manifest.
    """

    manifest: Manifest
    signature: bytes
    launcher: bytes
    plan: CoordinatorPlan

    @property
    def needed(self) -> int:
        """Fewest members that have to agree."""
        return self.plan.min_members or len(self.manifest.members)


def countersignature(
    about: Invitation, *, transport: Transport, ledger: Ledger, observer: Observer
) -> tuple[str, bytes] | None:
    """Let a member other than the launcher sign the manifest; put that on record.

    All are asked, and the first of those who sign counts. None where the manifest asks for none.

    Raises:
        RefusedError: Nobody does; the reasons.
    """
    manifest = about.manifest
    if not about.plan.countersigned:
        return None
    known = ledger.recorded("run.countersigned", {"run": manifest.run})
    if known is not None:
        return str(known["member"]), bytes.fromhex(str(known["signature"]))
    request = CountersignRequest(
        manifest=manifest.to_bytes(), signature=about.signature, launcher=about.launcher
    )
    keys = _KeyShown(about, transport, ledger, observer)
    pending = _Waiting(observer)
    started = time.monotonic()
    refused: dict[int, str] = {}
    while True:
        asked = {node: request for node in transport.nodes() if node not in refused}
        keys.show(asked)
        answers = _asked(about, transport, asked, within_s=SIGN_S)
        for node, (reply, _) in sorted(answers.items()):
            if isinstance(reply, Pending):
                if _is_asked(about, transport, node, reply.member):
                    pending.tell(reply)
                continue
            try:
                member, signature = _signed(about, reply)
                _require_own_word(transport, node, member)
            except RefusedError as fault:
                refused[node] = str(fault)
                continue
            ledger.record(
                "run.countersigned",
                {"run": manifest.run, "member": member, "signature": signature.hex()},
            )
            return member, signature
        everybody = len(refused) == len(manifest.members)
        if everybody or time.monotonic() - started >= about.plan.consent_s:
            reasons = " ".join(sorted(set(refused.values()))) or "None of them answered."
            raise RefusedError(f"No second member signs this run. {reasons}")
        time.sleep(ASK_AGAIN_S)


def _is_asked(about: Invitation, transport: Transport, node: int, member: str) -> bool:
    """Whether a member is asked for this run, and its own node says so."""
    return member in about.manifest.directory and speaks_for(transport, node, member)


def _require_own_word(transport: Transport, node: int, member: str) -> None:
    if not speaks_for(transport, node, member):
        raise ProtocolError(f"{transport.names[node]} answers in the name of {clean(member)}")


@dataclass(slots=True)
class _Waiting:
    """Tells who waits, and why, when that changes, and not for ever."""

    observer: Observer
    said: dict[str, tuple[str, int]] = field(default_factory=dict)

    def tell(self, reply: Pending) -> None:
        reason, times = self.said.get(reply.member, ("", 0))
        if (reply.reason != reason or not times) and times < TOLD_MAX:
            self.observer.answered(clean(reply.member), "pending", clean(reply.reason))
            self.said[reply.member] = reply.reason, times + 1

    def reason(self, member: str) -> str:
        return self.said.get(member, ("it did not answer", 0))[0]


def _signed(about: Invitation, reply: Reply) -> tuple[str, bytes]:
    if isinstance(reply, Refused):
        raise RefusedError(f"{clean(reply.member)}: {clean(reply.reason)}")
    if not isinstance(reply, Countersigned):
        raise ProtocolError("A node answered another question than it was asked.")
    public = about.manifest.directory_keys().get(reply.member)
    if public is None or public == about.launcher:
        raise ProtocolError(f"{clean(reply.member)} cannot sign it: a member other than who asks.")
    verify_signature(public, COUNTERSIGN_DOMAIN, about.manifest.digest(), reply.signature)
    return reply.member, reply.signature


@dataclass(slots=True)
class _KeyShown:
    """Shows each node, once, how the ledger came to the key that the manifest names."""

    about: Invitation
    transport: Transport
    ledger: Ledger
    observer: Observer
    done: set[int] = field(default_factory=set)

    def show(self, nodes: Collection[int]) -> None:
        due = [node for node in nodes if node not in self.done]
        self.done.update(due)
        if due:
            show_rotations(
                self.about.manifest,
                due,
                transport=self.transport,
                ledger=self.ledger,
                observer=self.observer,
            )


@dataclass(slots=True)
class _Answers:
    """What members said so far."""

    about: Invitation
    transport: Transport
    ledger: Ledger
    observer: Observer
    pending: _Waiting
    agreed: dict[str, Agreed] = field(default_factory=dict)
    declined: dict[str, Refused] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)

    def take(self, node: int, reply: Reply) -> None:
        if isinstance(reply, Refused | Pending):
            if not _is_asked(self.about, self.transport, node, reply.member):
                return  # a node that is online, but not asked for; or another's word
            if isinstance(reply, Pending):
                self.pending.tell(reply)
                return
        self.done.add(node)
        if isinstance(reply, Refused):
            _decline(self.about, reply, self.ledger, self.observer)
            self.declined[reply.member] = reply
            return
        try:
            found = _agreed(self.about, node, reply)
            _require_own_word(self.transport, node, found.offer.member)
        except ProtocolError as fault:
            self.observer.note(f"node {node} is ignored: {fault}")
            return
        if found.offer.member in self.agreed:
            raise ProtocolError(f"Two nodes say that they are {found.offer.member}; keep one.")
        self.agreed[found.offer.member] = found
        self.observer.answered(found.offer.member, "agreed", "")

    @property
    def settled(self) -> bool:
        """Whether no further answer can change who takes part."""
        asked = len(self.about.manifest.members)
        possible = asked - len(self.declined)
        return len(self.agreed) == possible or possible < self.about.needed

    def require_enough(self) -> None:
        absent = sorted({*self.about.manifest.members} - {*self.agreed} - {*self.declined})
        for member in absent:
            self.observer.answered(member, "absent", clean(self.pending.reason(member)))
        if len(self.agreed) >= self.about.needed:
            return
        for refusal in self.declined.values():
            raise RefusedError(f"{clean(refusal.member)} refused: {clean(refusal.reason)}")
        raise CohortError(
            f"{', '.join(absent)} did not answer; start the missing nodes and launch again."
        )


def invite(
    about: Invitation,
    countersigned: tuple[str, bytes] | None,
    *,
    transport: Transport,
    ledger: Ledger,
    observer: Observer,
) -> dict[str, Agreed]:
    """Ask every member, put refusals on record, and return who takes part.

    Members that are away, or whose people decide, are asked again while the plan lets them.

    Raises:
        RefusedError: A member refused, and too few are left; the first one's words.
        CohortError: Too few answered.
        ProtocolError: Two nodes say that they are one member.
    """
    manifest = about.manifest
    request = invitation(about, countersigned)
    answers = _Answers(about, transport, ledger, observer, _Waiting(observer))
    keys = _KeyShown(about, transport, ledger, observer)
    started = time.monotonic()
    while True:
        asked = {node: request for node in transport.nodes() if node not in answers.done}
        keys.show(asked)
        for node, (reply, _) in _asked(about, transport, asked).items():
            answers.take(node, reply)
        if answers.settled or time.monotonic() - started >= about.plan.consent_s:
            break
        time.sleep(ASK_AGAIN_S)
    answers.require_enough()
    if len(answers.agreed) < len(manifest.members):
        away = ", ".join(sorted(set(manifest.members) - answers.agreed.keys()))
        observer.note(
            f"{len(answers.agreed)} of {len(manifest.members)} members take part, without {away}"
        )
    return dict(sorted(answers.agreed.items()))


def locate(
    about: Invitation,
    countersigned: tuple[str, bytes] | None,
    offers: Mapping[str, bytes],
    nodes: tuple[int, ...],
    *,
    transport: Transport,
) -> dict[str, int]:
    """Find where members of a run that goes on are now; they say again what they said.

    Args:
        about: As they were asked.
        countersigned: As they were shown.
        offers: Member -> the key that it offered. Who offers another one is not in the run.
        nodes: Addresses that are not known to be anybody's.
        transport: Reaches them.
    """
    request = invitation(about, countersigned)
    found: dict[str, int] = {}
    for node, (reply, _) in _asked(about, transport, dict.fromkeys(nodes, request)).items():
        if not isinstance(reply, Joined) or offers.get(reply.member) != reply.offer:
            continue
        with suppress(ProtocolError):  # the offer is known to all members; the consent is its own
            agreed = _agreed(about, node, reply)
            _require_own_word(transport, node, agreed.offer.member)
            found[agreed.offer.member] = node
    return found


def invitation(about: Invitation, countersigned: tuple[str, bytes] | None) -> Invite:
    """The request; the same words each time."""
    member, signature = countersigned or ("", b"")
    return Invite(
        manifest=about.manifest.to_bytes(),
        signature=about.signature,
        launcher=about.launcher,
        countersigner=member,
        countersignature=signature,
    )


def _asked(
    about: Invitation,
    transport: Transport,
    requests: Mapping[int, Request],
    *,
    within_s: float = math.inf,
) -> Mapping[int, Answer]:
    return transport.exchange(
        {node: (request, b"") for node, request in requests.items()},
        kind="query",
        deadline_s=min(within_s, about.plan.deadline_s),
        needed=list(requests),
        grace_s=0.0,
    )


def _agreed(about: Invitation, node: int, reply: Reply) -> Agreed:
    if not isinstance(reply, Joined):
        raise ProtocolError("A node answered another question than it was asked.")
    offer = KeyOffer.from_bytes(reply.offer)
    public = about.manifest.directory_keys().get(offer.member)
    if public is None:
        raise ProtocolError(f"{offer.member} is no member of this run.")
    verify_signature(public, CONSENT_DOMAIN, about.manifest.digest(), reply.consent)
    return Agreed(node, offer, reply.consent)


def _decline(about: Invitation, reply: Refused, ledger: Ledger, observer: Observer) -> None:
    body = {"run": about.manifest.run, "member": reply.member, "reason": clean(reply.reason) or "-"}
    if ledger.recorded("run.declined", body) is None:
        ledger.record("run.declined", body)
    observer.answered(reply.member, "refused", clean(reply.reason))
