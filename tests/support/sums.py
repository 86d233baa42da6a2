"""Sums without data: members with keys, sealers and gatherings; and runs of tiny members.

For tests only.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from support import tables
from support.direct import Direct, DirectTransport, assemble

from aggregator.ports import Answer
from clients.node import Node
from clients.policy import NodePolicy
from privacy.fixed_point import FixedPoint, narrow
from privacy.identity import Identity
from privacy.keystream import Words, keystream_words
from privacy.messages import (
    EvaluateRequest,
    Request,
    StatisticsRequest,
    TrainRequest,
    unpack_reply,
)
from privacy.randomness import system_bytes
from privacy.secure_sum import SealedVector, Vote
from privacy.secure_sum.cohort import Cohort
from privacy.secure_sum.gathering import Gathering
from privacy.secure_sum.group_key import GroupKey, make_group_key, maker_of, open_group_key
from privacy.secure_sum.keys import ExchangeKey, KeyOffer, Roster, admit, offer_key
from privacy.secure_sum.schemes import Scheme, scheme_of
from privacy.secure_sum.sealer import Sealer
from privacy.secure_sum.tag import _parts, _tags, append_tag, check_tag, tag_key, tag_words
from privacy.sum_context import SumContext

Loose: TypeAlias = Any  # a field, a setting or a message of some type
RUN = b"run-1"
LENGTH = 6  # values of a vector, in two words
NO_MODEL = bytes(32)


@dataclass
class Group:
    """Members who agreed on keys; sealers are made anew for each use."""

    scheme: Scheme
    identities: Mapping[str, Identity]
    directory: Mapping[str, bytes]
    keys: Mapping[str, ExchangeKey]
    offers: Mapping[str, KeyOffer]
    roster: Roster
    group_keys: Mapping[str, GroupKey]
    layout: FixedPoint
    minimum: int = 3

    @property
    def names(self) -> tuple[str, ...]:
        return self.roster.members

    @property
    def cohort(self) -> Cohort:
        return Cohort(self.roster, self.roster.members, self.minimum)

    @property
    def count(self) -> int:
        """Words of a tagged vector."""
        return self.layout.words(LENGTH) + tag_words(self.layout)

    def sealer(self, name: str) -> Sealer:
        return Sealer(
            name,
            self.identities[name],
            self.keys[name],
            self.roster,
            scheme=self.scheme.name,
            wrap=self.group_keys[name].carrier.wrap,
            masked=self.scheme.masked,
            entropy=system_bytes,
        )

    def sealers(self) -> dict[str, Sealer]:
        return {name: self.sealer(name) for name in self.names}

    def context(self, round_index: int = 1, **changes: Loose) -> SumContext:
        fields: dict[str, Loose] = {
            "run": self.roster.run,
            "step": "update",
            "round": round_index,
            "schema": self.layout.schema(LENGTH),
            "model": b"m" * 32,
            "history": b"h" * 32,
            "roster": self.roster.digest,
            "cohort": self.cohort.digest,
            "keys": self.group_keys[self.names[0]].fingerprint,
        }
        return SumContext(**{**fields, **changes})

    def gathering(self, context: SumContext, cohort: Cohort | None = None) -> Gathering:
        public = self.group_keys[self.names[0]].carrier.public
        return Gathering(
            context,
            cohort or self.cohort,
            scheme=self.scheme.name,
            adder=self.scheme.adder(public, len(self.names)),
            masked=self.scheme.masked,
        )

    def tagged(self, name: str, context: SumContext) -> Words:
        """What an honest member seals: a tenth of its place in every coordinate, and the tag."""
        values = np.full(LENGTH, 0.1 * self.names.index(name))
        key = tag_key(self.group_keys[name].tag_secret, context.digest())
        return append_tag(self.layout.encode(values, system_bytes), layout=self.layout, key=key)

    def seal(self, sealer: Sealer, context: SumContext, words: Words | None = None) -> SealedVector:
        return sealer.seal(
            self.tagged(sealer.member, context) if words is None else words,
            bits=self.layout.word_bits,
            context=context,
            cohort=self.cohort,
        )

    def opened(self, payload: bytes, context: SumContext, parties: int) -> Words:
        """The words of a sum of so many, if its tag holds."""
        name = self.names[0]
        words = self.sealer(name).open(payload, count=self.count, bits=self.layout.word_bits)
        key = tag_key(self.group_keys[name].tag_secret, context.digest())
        return check_tag(words, layout=self.layout, key=key, parties=parties)

    def total(self, payload: bytes, context: SumContext, parties: int) -> float:
        """The mean coordinate of a sum, if tag and range hold."""
        words = self.opened(payload, context, parties)
        return float(self.layout.decode_sum(words, LENGTH, parties).mean())


def group(names: Sequence[str], *, scheme: str = "masked", run: bytes = RUN) -> Group:
    """Members who agreed on keys for one run."""
    identities = {name: Identity.create(system_bytes) for name in names}
    directory = {name: identity.public for name, identity in identities.items()}
    made = {
        name: offer_key(identity, name, run=run, directory=directory, entropy=system_bytes)
        for name, identity in identities.items()
    }
    keys = {name: key for name, (key, _) in made.items()}
    offers = {name: offer for name, (_, offer) in made.items()}
    roster = admit(offers.values(), run=run, directory=directory, minimum=2)
    way = scheme_of(scheme)
    maker = maker_of(roster)
    own, envelopes = make_group_key(maker, identities[maker], roster, way, system_bytes)
    group_keys = {maker: own} | {
        name: open_group_key(name, keys[name], roster, way, envelope)
        for name, envelope in envelopes.items()
    }
    layout = narrow(len(names), clip=1.0)
    return Group(way, identities, directory, keys, offers, roster, group_keys, layout)


def in_words(layout: FixedPoint, fields: Words) -> Words:
    """Numbers as a layout writes them, whatever they are."""
    words = np.zeros(layout.words(len(fields)), np.uint64)
    for place in range(layout.fields):
        part = fields[place * len(words) : (place + 1) * len(words)]
        words[: len(part)] |= part << np.uint64(place * layout.field_bits)
    return words


def with_tag_of_sum(words: Words, *, layout: FixedPoint, key: bytes, parties: int) -> Words:
    """What passes for a sum of so many with whoever does not ask who signed it."""
    tags = _tags(words, layout, key, parties=parties)
    each = tag_words(layout) // len(tags)
    parts = [part for value in tags for part in _parts(value, each)]
    return np.concatenate([words, np.array(parts, np.uint64)])


def words_of(sealed: SealedVector) -> Words:
    return np.frombuffer(sealed.payload, "<u8").astype(np.uint64)


def random_words(count: int) -> Words:
    return keystream_words(system_bytes(32), count)


def looks_random(words: Words) -> bool:
    """Whether about half of the bits are set: seven standard deviations either way.

    Of random ones no more are once in 2e10 times, by Hoeffding: 2 exp(-2 * 3.5^2) = 5e-11.
    """
    bits = np.unpackbits(words.view(np.uint8))
    return bool(abs(bits.mean() - 0.5) < 3.5 / np.sqrt(bits.size))


def votes_of(sealers: Iterable[Sealer], context: bytes, survivors: tuple[str, ...]) -> list[Vote]:
    return [sealer.vote(context, survivors) for sealer in sealers]


def frame_of(members: Sequence[str], *, rows: int) -> Loose:
    """A small table in which every member has as many rows."""
    frame = tables.table("binary", rows=rows * len(members))
    frame["member"] = np.resize(np.array(members), len(frame))
    return frame


def federation(
    folder: Path,
    members: Sequence[str],
    *,
    rows: int = 60,
    policy: NodePolicy | None = None,
    **changes: Loose,
) -> Direct:
    """A run of tiny members, ready to start; its transport remembers whole batches."""
    settings: dict[str, Loose] = {
        "training": {"rounds": 2, "batch_rows": 32, "learning_rate": 0.02},
        "model": {"hidden": [], "linear": True},
        **changes,
    }
    where = tables.write(folder, rows=frame_of(members, rows=rows), config_changes=settings)
    direct = assemble(where.config, folder, policy=policy)
    direct.transport = WatchedTransport(direct.nodes)
    return direct


@dataclass
class Exchange:
    """One request on its way to one member, seen by a hostile coordinator.

    Attributes:
        node: To whom.
        request: What an honest coordinator sends.
        payload: Beside it.
        step: The sum that is under way: "statistics 0", "update 1", "evaluate watch 2".
        batch: What goes to every member at the same time.
        transport: What went before.
    """

    node: Node
    request: Loose
    payload: bytes
    step: str
    batch: Mapping[str, tuple[Loose, bytes]]
    transport: "WatchedTransport"

    def earlier(self, kind: type, member: str | None = None) -> list[tuple[Loose, bytes]]:
        """Requests of that kind that went before, to one member or to any."""
        return [
            (request, payload)
            for name, request, payload in self.transport.asked
            if isinstance(request, kind) and name == (member or name)
        ]

    def replies(self, kind: type) -> list[tuple[Loose, bytes]]:
        """Replies of that kind that came before."""
        unpacked = [unpack_reply(parcel) for _, _, parcel in self.transport.seen]
        return [(reply, payload) for reply, payload in unpacked if isinstance(reply, kind)]

    def session(self) -> Loose:
        """What the node knows; for attacks together with a member."""
        return self.node._sessions[self.request.run]


@dataclass
class WatchedTransport(DirectTransport):
    """A transport that shows each request, in its batch, to a hostile coordinator.

    Attributes:
        hostile: Called with each request before it is delivered; may raise.
        asked: Member, request and payload of everything that was sent.
        step: See `Exchange`.
    """

    hostile: Callable[[Exchange], None] | None = None
    asked: list[tuple[str, Request, bytes]] = field(default_factory=list)
    step: str = ""

    def exchange(
        self,
        requests: Mapping[int, tuple[Request, bytes]],
        *,
        kind: str,
        deadline_s: float,
        needed: Collection[int],
        grace_s: float,
        enough: int = 0,
    ) -> Mapping[int, Answer]:
        batch = {self.members[place].member: words for place, words in requests.items()}
        answers: dict[int, Answer] = {}
        for place, (request, payload) in requests.items():
            node = self.members[place]
            self.step = _step_of(request) or self.step
            if self.hostile is not None:
                self.hostile(Exchange(node, request, payload, self.step, batch, self))
            self.asked.append((node.member, request, payload))
            one = {place: (request, payload)}
            answers |= super().exchange(
                one, kind=kind, deadline_s=deadline_s, needed=needed, grace_s=grace_s, enough=enough
            )
        return answers


def _step_of(request: Request) -> str:
    if isinstance(request, StatisticsRequest):
        return f"statistics {request.stage}"
    if isinstance(request, TrainRequest):
        return f"update {request.round}"
    if isinstance(request, EvaluateRequest):
        return f"evaluate {request.part} {request.round}"
    return ""


def watched(direct: Direct) -> WatchedTransport:
    """Its transport, as what it is."""
    if not isinstance(direct.transport, WatchedTransport):
        raise TypeError("make the run with federation()")
    return direct.transport
