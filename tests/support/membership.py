"""A federation's acts as a script: whoever must sign each of them does.

    acts = Acts().begin().admit("amber", "bank", by=["olive"])
    acts.membership, acts.entries

`act` signs and appends what the rules allow, and `forced` whatever is given, as a coordinator can
that writes its own ledger.
"""

import copy
import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from privacy.identity import Identity
from privacy.ledger.entry import Entry, make_entry
from privacy.membership import Membership, check_next, fold, sign_act

FEDERATION = "north"
FOUNDER = "olive"
ROOT = hashlib.sha256(b"root certificate").hexdigest()
BEGUN_MS = 1_790_000_000_000
DAY_MS = 86_400_000


def digest(*words: object) -> str:
    """Some hash."""
    return hashlib.sha256(repr(words).encode()).hexdigest()


@cache
def key_of(name: str) -> Identity:
    """The key pair of that name; the same always."""
    return Identity.create(lambda _: bytes.fromhex(digest("key", name)))


def public(name: str) -> str:
    """The public key of that name, hexadecimal."""
    return key_of(name).public.hex()


def signed(
    kind: str,
    body: Mapping[str, Any],
    by: str,
    *,
    also: str = "",
    federation: str = FEDERATION,
    root: str = ROOT,
) -> dict[str, Any]:
    """The body with the signature of the key named `by`, and the proof of the one named `also`."""
    told = sign_act(key_of(by), kind, federation, root, body)
    return told if not also else sign_act(key_of(also), kind, federation, root, told, field="proof")


class Acts:
    """A ledger of acts, and who takes part by them.

    Attributes:
        entries: As the coordinator wrote them.
        now_ms: Its clock.
        keys: Participant or candidate -> the name of the key that it has now.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.now_ms = BEGUN_MS
        self.keys: dict[str, str] = {}

    def copy(self) -> "Acts":
        """A ledger of its own, the same so far."""
        other = Acts()
        other.entries, other.now_ms = list(self.entries), self.now_ms
        other.keys = copy.copy(self.keys)
        return other

    @property
    def membership(self) -> Membership:
        """Who takes part by now."""
        return fold(self.entries)

    @property
    def known(self) -> Membership | None:
        """Who takes part by now; None before the beginning."""
        return self.membership if self.entries else None

    # -- writing --

    def forced(self, kind: str, body: Mapping[str, Any], *, time_ms: int | None = None) -> "Acts":
        """Append it, whatever the rules say."""
        self.now_ms += 1000
        self.entries.append(
            make_entry(
                index=len(self.entries),
                time_ms=self.now_ms if time_ms is None else time_ms,
                epoch=1,
                kind=kind,
                body=body,
            )
        )
        return self

    def act(self, kind: str, body: Mapping[str, Any]) -> "Acts":
        """Append it as an honest coordinator does.

        Raises:
            RefusedError: It may not come now.
        """
        check_next(self.known, kind, body, self.now_ms + 1000)
        return self.forced(kind, body)

    def changed(
        self, kind: str, change: Callable[[dict[str, Any]], object], nth: int = 0
    ) -> "Acts":
        """The ledger with one act's body changed, by who does not hold the keys."""
        other = self.copy()
        place = [n for n, entry in enumerate(self.entries) if entry.kind == kind][nth]
        body = copy.deepcopy(dict(self.entries[place].body))
        change(body)
        entry = self.entries[place]
        other.entries[place] = make_entry(
            index=entry.index, time_ms=entry.time_ms, epoch=1, kind=kind, body=body
        )
        return other

    # -- bodies, each signed by whoever must --

    def begun(self, *, approvals: int = 2, **changes: object) -> dict[str, Any]:
        body = {
            "federation": FEDERATION,
            "root": ROOT,
            "approvals": approvals,
            "founder": FOUNDER,
            "key": public(FOUNDER),
        }
        told = {**body, **changes}
        return signed("federation.begun", told, FOUNDER, root=str(told["root"]))

    def invited(
        self, name: str, role: str, *, ticket: str = "", by: str = FOUNDER, **changes: object
    ) -> dict[str, Any]:
        body = {
            "token": digest("token", ticket or name),
            "role": role,
            "name": name,
            "attributes": {"region": "north"},
            "expires_ms": self.now_ms + DAY_MS,
            "by": by,
        }
        return signed("member.invited", {**body, **changes}, self.keys.get(by, by))

    def requested(
        self, name: str, role: str, *, ticket: str = "", key: str = "", **changes: object
    ) -> dict[str, Any]:
        key = key or name
        body = {
            "token": digest("token", ticket or name),
            "name": name,
            "role": role,
            "key": public(key),
            "tls": digest("tls", key),
        }
        return signed("member.requested", {**body, **changes}, key)

    def approved(self, name: str, by: str, **changes: object) -> dict[str, Any]:
        body = {"name": name, "key": public(self.keys.get(name, name)), "by": by}
        return signed("member.approved", {**body, **changes}, self.keys.get(by, by))

    def certified(self, name: str, *, number: int = 1, **changes: object) -> dict[str, Any]:
        key = self.keys.get(name, name)
        body = {
            "name": name,
            "key": public(key),
            "tls": digest("tls", key),
            "certificate": digest("certificate", key, number),
            "expires_ms": self.now_ms + 90 * DAY_MS,
        }
        return {**body, **changes}

    def renewed(self, name: str, new: str, **changes: object) -> dict[str, Any]:
        key = self.keys.get(name, name)
        body = {
            "name": name,
            "key": public(key),
            "new": public(new),
            "tls": digest("tls", new),
        }
        return signed("member.renewed", {**body, **changes}, key, also=new)

    def revoked(self, name: str, by: str = FOUNDER, **changes: object) -> dict[str, Any]:
        key = self.keys.get(name, name)
        body = {"name": name, "key": public(key), "reason": "left", "by": by}
        return signed("member.revoked", {**body, **changes}, self.keys.get(by, by))

    # -- what usually happens --

    def begin(self, *, approvals: int = 2) -> "Acts":
        self.keys[FOUNDER] = FOUNDER
        self.act("federation.begun", self.begun(approvals=approvals))
        return self.act("member.certified", self.certified(FOUNDER))

    def invite(self, name: str, role: str, **changes: Any) -> "Acts":  # noqa: ANN401 - see `invited`
        return self.act("member.invited", self.invited(name, role, **changes))

    def request(self, name: str, role: str, *, ticket: str = "", key: str = "") -> "Acts":
        body = self.requested(name, role, ticket=ticket, key=key)
        self.act("member.requested", body)
        self.keys[name] = key or name
        return self

    def approve(self, name: str, by: Iterable[str]) -> "Acts":
        for other in by:
            self.act("member.approved", self.approved(name, other))
        return self

    def certify(self, name: str, **changes: Any) -> "Acts":  # noqa: ANN401 - see `certified`
        return self.act("member.certified", self.certified(name, **changes))

    def candidate(self, name: str, role: str, *, key: str = "") -> "Acts":
        """Who asked, with an invitation of the founder's."""
        self.invite(name, role, ticket=key or name)
        return self.request(name, role, ticket=key or name, key=key)

    def admit(self, name: str, role: str, *, by: Iterable[str], key: str = "") -> "Acts":
        """A participant, from its invitation to its first certificate."""
        return self.candidate(name, role, key=key).approve(name, by).certify(name)

    def renew(self, name: str, new: str) -> "Acts":
        self.act("member.renewed", self.renewed(name, new))
        self.keys[name] = new
        return self

    def revoke(self, name: str, by: str = FOUNDER) -> "Acts":
        return self.act("member.revoked", self.revoked(name, by))

    def settled(self) -> "Acts":
        """A founder, two banks, a manufacturer, an insurer and a regulator; two must approve."""
        self.begin().admit("amber", "bank", by=[FOUNDER])
        self.admit("birch", "bank", by=[FOUNDER, "amber"])
        self.admit("cedar", "manufacturer", by=[FOUNDER, "amber"])
        self.admit("delta", "insurer", by=["amber", "birch"])
        return self.admit("regula", "regulator", by=["birch", "cedar"])
