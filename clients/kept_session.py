"""What is kept of a run: all that cannot be computed again, and nothing else.

Rows, features and the step under way are made again from the node's own rows and the manifest;
whoever reads a state compares what comes out with what was kept (`Node.restore`).
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from clients.common_model import CommonModel
from clients.server_step import ServerState
from privacy.errors import NotVerifiedError
from privacy.ledger.head import LedgerHead
from privacy.messages import Joined, Parcel, RecordedSum, pack, unpack_reply
from privacy.secure_sum.keys import KeptKey
from privacy.secure_sum.sealer import KeptSum

if TYPE_CHECKING:
    from clients.session import Session

FORMAT: Final = 1
Data: TypeAlias = bytes | memoryview
Large: TypeAlias = bytes | NDArray[Any]
_Part: TypeAlias = Callable[[Large], bytes]
_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_NONE: Final = b""


class KeptGroupKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the members share.

    Attributes:
        fingerprint: See `GroupKey`.
        tag_secret: The same.
        carrier: Hash of the carrier's secret, which is a part of its own.
    """

    fingerprint: bytes
    tag_secret: bytes
    carrier: bytes

    def __repr__(self) -> str:
        return f"KeptGroupKey(fingerprint={self.fingerprint.hex()[:16]}..)"


class KeptState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server state; its arrays are parts."""

    model: bytes
    first: bytes
    second: bytes
    round: int


class KeptModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A common model; its arrays are parts."""

    state: KeptState
    recent: tuple[bytes, ...]
    best: float | None
    good: tuple[KeptState, tuple[bytes, ...]] | None
    undone: int


class KeptSession(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """A session; see `clients.session.Session` for what is named as there.

    Attributes:
        format: Of this table.
        member: Whose.
        rows: `rows_digest` of the rows that it is about.
        offers: Of the roster; empty before there is one.
        group: After the group key was opened.
        step: Name and round of the step under way.
        head: Its entries and root.
        pending: The sum under way.
        answered: `asked_digest`, reply, and the hash of its payload, which is a part.
    """

    format: int
    member: str
    manifest: bytes
    rows: bytes
    invited: bytes
    launcher: bytes
    joined: Joined
    minimum: int
    key: KeptKey
    offers: tuple[bytes, ...]
    group: KeptGroupKey | None
    released: tuple[bytes, ...]
    common: KeptModel | None
    architecture: bytes
    round: int
    sealed: tuple[tuple[str, int], ...]
    accepted: tuple[tuple[str, int], ...]
    history: bytes
    confirmed: bool
    voted: tuple[tuple[bytes, tuple[str, ...]], ...]
    tried: tuple[tuple[str, int, bytes], ...]
    signed: dict[str, tuple[tuple[bytes, tuple[tuple[str, ...], ...]], ...]]
    step: tuple[str, int] | None
    head: tuple[int, str] | None
    pending: KeptSum | None
    records: tuple[tuple[bytes, RecordedSum], ...]
    answered: tuple[tuple[bytes, bytes, bytes], ...]
    own: dict[str, dict[str, float]]
    # left out where there are none, as it was before there were any
    pair_keys: dict[str, bytes] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"KeptSession(member={self.member!r}, round={self.round})"


@dataclass(kw_only=True)
class Keeper:
    """Turns a session into what is kept of it; what does not change is encoded and hashed once."""

    _hashed: dict[int, tuple[Large, bytes]] = field(default_factory=dict)
    _manifest: bytes = _NONE

    def keep(self, session: "Session") -> tuple[bytes, Mapping[bytes, Data]]:
        """A session's state and its large parts."""
        before, self._hashed = self._hashed, {}
        parts: dict[bytes, Data] = {}

        def part(value: Large) -> bytes:
            data = value if isinstance(value, bytes) else _data_of(value)
            # the value is held, so nothing else has its id
            digest = before.get(id(value), (None, _NONE))[1] or hashlib.sha256(data).digest()
            self._hashed[id(value)] = value, digest
            parts[digest] = data
            return digest

        # the run is named by the digest of its manifest: a session never has another
        self._manifest = self._manifest or session.manifest.to_bytes()
        return _ENCODER.encode(_kept(session, self._manifest, part)), parts


def read_kept(body: bytes) -> KeptSession:
    """Read the only encoding of a state.

    Raises:
        NotVerifiedError: It is anything else, or of another version.
    """
    try:
        kept = msgspec.msgpack.decode(body, type=KeptSession)
        again = _ENCODER.encode(kept)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise NotVerifiedError("what this node kept of the run is of another version") from None
    if again != body or kept.format != FORMAT:
        raise NotVerifiedError("what this node kept of the run is of another version")
    return kept


def put_back(kept: KeptSession, session: "Session", part: Callable[[bytes], bytes]) -> None:
    """Give a session what was kept of it, but for the step under way and what the members share.

    Args:
        kept: The state.
        session: With manifest, key and rows; nothing happened in it yet.
        part: Reads a large part by its hash.

    Raises:
        NotVerifiedError: A part is gone or damaged.
    """

    def doubles(digest: bytes) -> NDArray[np.float64]:
        return np.frombuffer(part(digest), dtype="<f8").astype(np.float64)

    def singles(digest: bytes) -> NDArray[np.float32]:
        return np.frombuffer(part(digest), dtype="<f4").astype(np.float32)

    def state(one: KeptState) -> ServerState:
        return ServerState(
            doubles(one.model), doubles(one.first), doubles(one.second), round=one.round
        )

    session.released = [doubles(digest) for digest in kept.released]
    if kept.common is not None:
        good = kept.common.good
        session.common = CommonModel(
            state=state(kept.common.state),
            recent=tuple(singles(one) for one in kept.common.recent),
            best=kept.common.best,
            good=None if good is None else (state(good[0]), tuple(singles(o) for o in good[1])),
            undone=kept.common.undone,
        )
    session.round = kept.round
    session.sealed = set(kept.sealed)
    session.accepted = set(kept.accepted)
    session.confirmed = kept.confirmed
    session.voted = {context: frozenset(names) for context, names in kept.voted}
    session.tried = {(name, at): shown for name, at, shown in kept.tried}
    session.signed = {
        rows: {context: {frozenset(one) for one in sets} for context, sets in sums}
        for rows, sums in kept.signed.items()
    }
    session.head = None if kept.head is None else LedgerHead(*kept.head)
    session.records = dict(kept.records)
    session.answered = {}
    for asked, message, payload in kept.answered:
        told = part(payload) if payload else b""
        session.answered[asked] = unpack_reply(Parcel(message, told))
    session.pair_keys = dict(kept.pair_keys)
    session.own = {name: dict(values) for name, values in kept.own.items()}


def _kept(session: "Session", manifest: bytes, part: _Part) -> KeptSession:
    setup, roster, common, step = session.setup, session.roster, session.common, session.step
    return KeptSession(
        format=FORMAT,
        member=session.rows.member,
        manifest=manifest,
        rows=session.rows_read,
        invited=session.invited,
        launcher=session.launcher,
        joined=session.joined,
        minimum=session.minimum,
        key=session.key.kept(),
        offers=() if roster is None else tuple(offer.to_bytes() for offer in roster.offers),
        group=None
        if setup is None
        else KeptGroupKey(
            fingerprint=setup.key.fingerprint,
            tag_secret=setup.key.tag_secret,
            carrier=part(setup.key.carrier.secret),
        ),
        released=tuple(part(one) for one in session.released),
        common=None if common is None else _kept_model(common, part),
        architecture=session.architecture,
        round=session.round,
        sealed=tuple(sorted(session.sealed)),
        accepted=tuple(sorted(session.accepted)),
        history=session.history,
        confirmed=session.confirmed,
        voted=tuple(sorted((of, tuple(sorted(names))) for of, names in session.voted.items())),
        tried=tuple(sorted((name, at, shown) for (name, at), shown in session.tried.items())),
        signed={
            rows: tuple(
                sorted(
                    (context, tuple(sorted(tuple(sorted(one)) for one in sets)))
                    for context, sets in sums.items()
                )
            )
            for rows, sums in session.signed.items()
        },
        step=None if step is None else (step.name, step.round),
        head=None if session.head is None else (session.head.leaves, session.head.root),
        pending=None if setup is None or step is None else setup.sealer.kept(),
        records=tuple(sorted(session.records.items(), key=lambda item: item[0])),
        answered=tuple(
            (asked, pack(reply).message, part(payload) if payload else _NONE)
            for asked, (reply, payload) in sorted(
                session.answered.items(), key=lambda item: item[0]
            )
        ),
        own=session.own,
        pair_keys=session.pair_keys,
    )


def _kept_model(common: CommonModel, part: _Part) -> KeptModel:
    def state(one: ServerState) -> KeptState:
        return KeptState(part(one.model), part(one.first), part(one.second), one.round)

    return KeptModel(
        state=state(common.state),
        recent=tuple(part(one) for one in common.recent),
        best=common.best,
        good=None
        if common.good is None
        else (state(common.good[0]), tuple(part(one) for one in common.good[1])),
        undone=common.undone,
    )


def _data_of(values: NDArray[Any]) -> Data:
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return little.data.cast("B") if little.size else b""
