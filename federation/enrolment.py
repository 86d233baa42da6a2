"""The coordinator's side of joining: what was asked and approved goes on record, then certificates.

Over the coordinator's ledger alone. The operator's command line and the running coordinator use it
side by side, on one machine: a turn of the ledger holds a check and what follows from it together.
Whatever is asked twice in the same words changes nothing, so whoever got no answer may ask again.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec

from federation.authority import Authority
from federation.certificates import (
    at,
    certificate_digest,
    expires_ms,
    pem_of,
    read_request,
    tls_digest,
)
from federation.invitation import secret_digest
from federation.registry.access import Role
from federation.registry.peer import Peer
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.ledger.entry import KINDS, Entry, parse_leaf
from privacy.ledger.store import LedgerStore, Turn
from privacy.membership import OPERATOR, Membership, Participant, after, check_next, is_act

ACTS: Final = ("member.invited", "member.approved", "member.revoked")
"""What a participant may put on record with its signature alone."""
_SIGNER: Final = "by"


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with somebody who asked.

    Attributes:
        approved: Who approved so far, in order of their names.
        needed: How many are needed.
        certificate: In PEM; empty until enough approved.
    """

    approved: tuple[str, ...]
    needed: int
    certificate: bytes = b""


@dataclass(frozen=True, slots=True)
class Acted:
    """What became of an act.

    Attributes:
        index: Of its entry.
        admitted: Whether it made its candidate a participant.
    """

    index: int
    admitted: bool


class Enrolment:
    """See the module; safe for any number of threads, and of processes over one ledger."""

    def __init__(
        self, store: LedgerStore, authority: Authority, *, now_ms: Callable[[], int]
    ) -> None:
        """Work over a ledger in which the federation was begun, or will be.

        Args:
            store: The coordinator's.
            authority: Whose root issues.
            now_ms: Milliseconds since 1970 UTC.
        """
        self.store = store
        self.authority = authority
        self._now_ms = now_ms
        self._mutex = threading.Lock()
        self._size = 0
        self._membership: Membership | None = None
        self._acts: list[Entry] = []
        self._tls_of: dict[str, str] = {}  # certificate -> its TLS key

    # -- what is on record --

    def membership(self) -> Membership:
        """Return who takes part now.

        Raises:
            NotVerifiedError: the ledger holds no federation, or acts that do not hold.
        """
        with self._mutex:
            if self.store.size() != self._size:
                self._take(self.store.leaves(self._size))
            return self._begun()

    def acts(self) -> tuple[Entry, ...]:
        """Return the acts so far, in order."""
        self.membership()
        with self._mutex:
            return tuple(self._acts)

    def is_out(self, peer: Peer, certificate: str | None = None) -> bool:
        """Whether a caller whose certificate holds takes part no more, or never did.

        Args:
            peer: Who it is, as its certificate says.
            certificate: SHA-256 of the certificate (DER), hexadecimal, where it is known. Then one
                of keys that were replaced since is out too.
        """
        one = self.membership().active(peer.role.value).get(peer.name)
        if one is None:
            return True
        # one of a TLS key that was replaced is as good as one that was lost
        return certificate is not None and (
            certificate not in one.certificates or self._tls_of.get(certificate) != one.tls.hex()
        )

    def certificates(self) -> Mapping[str, bytes]:
        """Return the newest certificate of each active participant, in PEM, by name."""
        active = self.membership().active()
        with self._mutex:
            found = {name: self._newest(one) for name, one in active.items()}
        return {name: pem for name, pem in found.items() if pem is not None}

    # -- acts --

    def begin(self, body: Mapping[str, object]) -> Entry:
        """Put `federation.begun` on record, signed by its founder.

        Raises:
            RefusedError: the ledger holds a federation already, or the signature does not hold.
        """
        with self._turn() as turn:
            return self._again("federation.begun", body) or self._append(
                turn, "federation.begun", body
            )

    def ask(
        self,
        *,
        secret: bytes,
        peer: Peer,
        key: bytes,
        request: bytes,
        signature: bytes,
    ) -> Standing:
        """Use an invitation.

        Args:
            secret: Of the invitation.
            peer: Whom it is for.
            key: Public key of the identity.
            request: PKCS #10, DER.
            signature: By the identity, over the statement of `member.requested`.

        Raises:
            RefusedError: the invitation is not known, was used by another key, has expired or is
                for another name or role; or what is asked for does not fit together.
        """
        tls = read_request(request, peer)
        body = {
            "token": secret_digest(secret),
            "name": peer.name,
            "role": peer.role.value,
            "key": key.hex(),
            "tls": tls_digest(tls),
            "signature": signature.hex(),
        }
        with self._turn() as turn:
            before = self._find(body["token"])
            if before is None:
                self._require_invited(body)
                self._require_next(turn, "member.requested", body)
                self.authority.keep_request(tls)
                self._append(turn, "member.requested", body)
            elif dict(before.body) != body:
                raise RefusedError(
                    "the invitation was used already, with another key; if that was not you, tell "
                    "the operator, who can revoke that key, and ask for a new one"
                )
            self._settle(turn, peer.name)
            return self._standing(peer.name, key)

    def standing(self, name: str, key: bytes) -> Standing:
        """Return how it stands with whoever holds this key; the certificate is the newest.

        Raises:
            RefusedError: nobody of that name and key asked, or it was turned away or revoked.
        """
        candidate = self.membership().candidates.get(name)
        if candidate is not None and candidate.key == key and candidate.admissible:
            with self._turn() as turn:
                self._settle(turn, name)
        with self._mutex:
            return self._standing(name, key)

    def act(self, kind: str, body: Mapping[str, object], *, by: str) -> Acted:
        """Put an act on record that its doer signed; whoever has enough approvals is admitted.

        Args:
            kind: One of `ACTS`.
            body: Whole, with the signature.
            by: Who hands it in; an act of another is refused.

        Raises:
            RefusedError: the act may not be done, or not by this participant; or it would leave no
                operator.
        """
        if kind not in ACTS:
            raise RefusedError(f"{kind:.80} is no act that a participant does")
        if body.get(_SIGNER) != by:
            raise RefusedError("an act is handed in by whoever signed it; sign it yourself")
        with self._turn() as turn:
            again = self._again(kind, body)
            if again is None and kind == "member.revoked":
                self._require_next(turn, kind, body)
                self._require_operator_left(str(body["name"]))
            entry = again or self._append(turn, kind, body)
            name = str(body["name"])
            admitted = self._settle(turn, name) if kind == "member.approved" else False
            return Acted(entry.index, admitted)

    def renew(self, body: Mapping[str, object], request: bytes, *, by: str) -> bytes:
        """Put other keys of a participant on record; return their certificate in PEM.

        Args:
            body: Of `member.renewed`, with signature and proof.
            request: PKCS #10, DER, of the new TLS key.
            by: Who hands it in.

        Raises:
            RefusedError: they are another's, or what is asked for does not fit together.
        """
        if body.get("name") != by:
            raise RefusedError("keys are replaced by whom they belong to; ask for your own")
        with self._turn() as turn:
            holder = self._begun().active().get(by)
            if holder is None:
                raise RefusedError(f"{by} takes part no more; ask the operator")
            tls = read_request(request, Peer(Role(holder.role), by))
            if body.get("tls") != tls_digest(tls):
                raise RefusedError("the certificate request is for another TLS key; renew again")
            if self._again("member.renewed", body) is None:
                self._require_next(turn, "member.renewed", body)
                self.authority.keep_request(tls)
                self._append(turn, "member.renewed", body)
                self._take(turn.leaves(self._size))
            one = self._begun().active()[by]
            if one.tls.hex() != body["tls"]:
                raise RefusedError("these keys were replaced since; renew with new ones")
            kept = self._newest(one)
            return self._issue(turn, one, one.tls.hex()) if kept is None else kept

    def certify_founder(self, tls: ec.EllipticCurvePublicKey) -> bytes:
        """Give the founder its first certificate, in PEM."""
        with self._turn() as turn:
            membership = self._begun()
            founder = membership.participants[membership.founder]
            if founder.tls:
                kept = self._newest(founder) if founder.tls.hex() == tls_digest(tls) else None
                if kept is None:
                    raise RefusedError(f"{founder.name} has another key; renew it")
                return kept
            return self._issue(turn, founder, self.authority.keep_request(tls))

    # -- within a turn --

    @contextmanager
    def _turn(self) -> Iterator[Turn]:
        """Hold the ledger, and know all that is in it; what is not kept is forgotten here too."""
        with self._mutex:
            before = self._size, self._membership, len(self._acts)
            try:
                with self.store.turn() as turn:
                    self._take(turn.leaves(self._size))
                    yield turn
            except BaseException:
                self._size, self._membership, count = before
                del self._acts[count:]
                raise

    def _take(self, leaves: Iterable[bytes]) -> None:
        for leaf in leaves:
            entry = parse_leaf(leaf)
            if entry.index != self._size:
                raise NotVerifiedError(f"entry {self._size} of {self.store.place} is missing")
            self._follow(entry)

    def _follow(self, entry: Entry) -> None:
        if is_act(entry.kind):
            self._membership = after(self._membership, entry)
            self._acts.append(entry)
        if entry.kind == "member.certified":
            self._tls_of[str(entry.body["certificate"])] = str(entry.body["tls"])
        self._size = entry.index + 1

    def _begun(self) -> Membership:
        if self._membership is None:
            raise NotVerifiedError(
                f"{self.store.place} holds no federation; begin one with tacit federation init"
            )
        return self._membership

    def _time_ms(self, turn: Turn) -> int:
        """As the store will have it: never before the last entry."""
        last = next(iter(turn.leaves(turn.size - 1)), None) if turn.size else None
        return self._now_ms() if last is None else max(self._now_ms(), parse_leaf(last).time_ms)

    def _require_next(self, turn: Turn, kind: str, body: Mapping[str, object]) -> None:
        check_next(self._membership, kind, body, self._time_ms(turn))

    def _append(self, turn: Turn, kind: str, body: Mapping[str, object]) -> Entry:
        time_ms = self._time_ms(turn)
        check_next(self._membership, kind, body, time_ms)
        return turn.append(kind, body, time_ms=time_ms)

    def _require_operator_left(self, name: str) -> None:
        """Require that somebody can invite and revoke once `name` takes part no more.

        Ledgers may hold the end of a last operator, from before this was asked.
        """
        if set(self._begun().active(OPERATOR)) == {name}:
            raise RefusedError(
                f"{name} is the only operator, and without one nobody can ever be invited or "
                "revoked here, as the founder's key does no more than any operator's; let another "
                "join first (tacit federation invite --role operator), or replace keys that "
                "leaked with tacit federation rotate --identity"
            )

    def _require_invited(self, body: Mapping[str, Any]) -> None:
        membership = self._begun()
        invitation = membership.invitations.get(body["token"])
        if invitation is not None:
            return
        if any(one.kind == "member.invited" and one.body["token"] == body["token"]
               for one in self._acts):  # fmt: skip
            raise RefusedError(
                f"the invitation of {body['name']} was withdrawn, as the operator who made it was "
                "revoked; ask for a new one"
            )
        raise RefusedError(
            "this invitation is not known here; copy the whole line again, or ask the operator for "
            "a new one"
        )

    def _find(self, token: str) -> Entry | None:
        for entry in self._acts:
            if entry.kind == "member.requested" and entry.body["token"] == token:
                return entry
        return None

    def _again(self, kind: str, body: Mapping[str, object]) -> Entry | None:
        """Return the act where it is on record, in the very same words."""
        names = KINDS[kind].key
        for entry in self._acts:
            if entry.kind == kind and all(entry.body[name] == body.get(name) for name in names):
                if dict(entry.body) == dict(body):
                    return entry
                raise RefusedError(f"this {kind} is on record in other words; nothing was changed")
        return None

    def _settle(self, turn: Turn, name: str) -> bool:
        """Admit `name` if enough have approved it; say whether that was so just now."""
        self._take(turn.leaves(self._size))
        candidate = self._begun().candidates.get(name)
        if candidate is None or not candidate.admissible:
            return False
        admitted = Participant(name, candidate.role, candidate.key, tls=candidate.tls)
        self._issue(turn, admitted, candidate.tls.hex())
        return True

    def _issue(self, turn: Turn, one: Participant, tls: str) -> bytes:
        peer = Peer(Role(one.role), one.name)
        certificate = self.authority.issue(tls, peer, at(self._now_ms()))
        body = {
            "name": one.name,
            "key": one.key.hex(),
            "tls": tls,
            "certificate": certificate_digest(certificate),
            "expires_ms": expires_ms(certificate),
        }
        self._append(turn, "member.certified", body)
        self._take(turn.leaves(self._size))
        return pem_of(certificate)

    def _newest(self, one: Participant) -> bytes | None:
        found = [each for each in one.certificates if self._tls_of.get(each) == one.tls.hex()]
        return self.authority.issued(found[-1]) if found else None

    def _standing(self, name: str, key: bytes) -> Standing:
        membership = self._begun()
        candidate = membership.candidates.get(name)
        if candidate is not None and candidate.key == key:
            return Standing(tuple(sorted(candidate.approvals)), candidate.needed)
        one = membership.participants.get(name)
        if one is not None and one.key == key and not one.revoked:
            certificate = self._newest(one)
            if certificate is not None:
                return Standing((), 0, certificate)
        raise RefusedError(
            f"{name} with this key was turned away or revoked, or never asked; ask the operator "
            "for an invitation"
        )


def open_enrolment(
    store: LedgerStore, authority: Authority, *, now_ms: Callable[[], int]
) -> Enrolment:
    """Return the enrolment of a federation that was begun, held to its own root.

    Raises:
        NotVerifiedError: the ledger holds no federation.
        InputError: it holds one with another root.
    """
    enrolment = Enrolment(store, authority, now_ms=now_ms)
    if enrolment.membership().root != authority.fingerprint:
        raise InputError(
            f"{store.place} is the ledger of another federation than {authority.folder}; use the "
            "two that belong together"
        )
    return enrolment
