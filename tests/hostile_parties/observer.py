"""Somebody who sees whatever leaves honest nodes, and judges what can be made of it.

It shares no code with those it judges: what opens a sum, and over whom, is worked out anew here
from the replies alone. The hostile are taken to tell the coordinator all that they know.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from simulation.broken import Broken
from support.wanted import Sum, sum_of

from privacy.ledger.checkpoint import parse_checkpoint_text
from privacy.ledger.entry import parse_leaf
from privacy.ledger.note import parse_note
from privacy.ledger.store import LedgerStore
from privacy.messages import (
    Accepted,
    Asked,
    Released,
    ReleaseRequest,
    Reply,
    Request,
    Revealed,
    RevealRequest,
    Sealed,
    SumNotice,
    SurvivorsNotice,
    Voted,
    pack,
)
from privacy.secure_sum import SealedVector

_read = lru_cache(maxsize=4096)(parse_leaf)


@dataclass
class _Told:
    """What honest members told of one sum.

    Attributes:
        run: Of which run it is.
        asked: Who could be in it.
        vectors: Whose vectors left.
        signed: Member -> sets of survivors that it signed, in order.
        shares: Member -> who told a share of its own mask.
        masks: Pairs whose common mask was told.
        open: Sets of honest members over which it was laid open.
        cosigned: Member -> size and root of each ledger that it cosigned for it, in order.
    """

    run: bytes = b""
    asked: frozenset[str] = frozenset()
    vectors: set[str] = field(default_factory=set)
    signed: dict[str, list[frozenset[str]]] = field(default_factory=lambda: defaultdict(list))
    shares: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    masks: set[frozenset[str]] = field(default_factory=set)
    open: set[frozenset[str]] = field(default_factory=set)
    cosigned: dict[str, list[tuple[int, bytes]]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class Observer:
    """See the module.

    Attributes:
        names: All members, in order.
        hostile: Those of them who work with the coordinator or against it.
        minimum: Fewest members of a sum.
        runs: Digest of a manifest -> its name.
        ledgers: Member -> its own ledger.
        opened: How many sums were opened and found right.
    """

    names: tuple[str, ...]
    hostile: frozenset[str]
    minimum: int
    runs: dict[bytes, str] = field(default_factory=dict)
    ledgers: dict[str, LedgerStore] = field(default_factory=dict)
    opened: int = 0
    _given: dict[tuple[str, Sum], NDArray[np.float64]] = field(default_factory=dict)
    _sent: dict[tuple[str, Sum], bytes] = field(default_factory=dict)
    _asked: set[tuple[str, bytes]] = field(default_factory=set)
    _sums: dict[bytes, _Told] = field(default_factory=lambda: defaultdict(_Told))
    _payloads: dict[bytes, tuple[frozenset[str], bytes]] = field(default_factory=dict)
    _histories: dict[tuple[str, bytes], list[bytes]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _accepted: dict[bytes, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    _sure: set[tuple[str, bytes]] = field(default_factory=set)

    # -- what members do ---------------------------------------------------------------------

    def gives(self, member: str, which: Sum, vector: NDArray[np.float64]) -> None:
        """A member is about to seal this for that sum."""
        self._given[member, which] = vector

    def asks(self, member: str, request: Request) -> None:
        """A node is asked: whether it may go on shows in who accepted the same sums as it did."""
        if not isinstance(request, Asked):
            return
        history = self._histories[member, request.run]
        same = self._accepted[history[-1]] if history else {}
        agreeing = {
            name
            for name, signature in request.accepted.items()
            if name in self.hostile or same.get(name) == signature
        }
        asked: frozenset[str] = next(
            (
                told.asked
                for told in self._sums.values()
                if told.run == request.run and member in told.asked
            ),
            frozenset(),
        )
        if not history or len(agreeing & asked) * 3 > len(asked) * 2:
            self._sure.add((member, request.run))

    def left(self, member: str, request: Request, reply: Reply, payload: bytes) -> None:
        """A node answered.

        Raises:
            Broken: It should not have.
        """
        if member in self.hostile:
            return
        asked = member, pack(request, payload if not payload else b"").message
        if asked in self._asked and not isinstance(reply, Sealed):
            return  # the same words once more, and nothing new is told
        self._asked.add(asked)
        if isinstance(request, Asked) and (member, request.run) not in self._sure:
            raise Broken(f"{member} goes on where too few accepted the same sums")
        if isinstance(reply, Sealed):
            self._sealed(member, request, reply, payload)
        elif isinstance(reply, Voted) and isinstance(request, SurvivorsNotice):
            self._voted(member, request)
        elif isinstance(reply, Released) and isinstance(request, ReleaseRequest):
            told = self._sums[request.context]
            told.masks |= {frozenset((member, peer)) for peer in reply.seeds}
            self._require_closed(told)
        elif isinstance(reply, Revealed) and isinstance(request, RevealRequest):
            told = self._sums[request.context]
            for dealer in reply.shares:
                told.shares[dealer].add(member)
            self._require_seen_by_most(told, member)
            self._require_closed(told)
        elif isinstance(reply, Accepted) and isinstance(request, SumNotice):
            self._histories[member, request.run].append(reply.history)
            self._accepted[reply.history][member] = reply.signature
            self._sure.discard((member, request.run))

    def _sealed(self, member: str, request: Request, reply: Sealed, payload: bytes) -> None:
        which = self._which(request)
        vector = SealedVector.from_wire(reply.header, payload)
        said = reply.header + payload
        if self._sent.setdefault((member, which), said) != said:
            raise Broken(f"{member} sent two vectors for {which}")
        self._require_reserved(member, which)
        told = self._sums[vector.context]
        told.run = request.run  # type: ignore[union-attr]
        told.vectors.add(member)
        told.asked |= {member, *vector.boxes}

    def _which(self, request: Request) -> Sum:
        which = sum_of(self.runs[request.run], request)  # type: ignore[union-attr]
        assert which is not None
        return which

    def _require_reserved(self, member: str, which: Sum) -> None:
        count = sum(
            one.kind == "budget.reserved"
            and (one.body["run"], one.body["step"], one.body["round"]) == which
            for one in map(_read, self.ledgers[member].leaves())
        )
        if count != 1:
            raise Broken(f"{member} sent a vector for {which}, reserved {count} times")

    def _voted(self, member: str, request: SurvivorsNotice) -> None:
        told, chosen = self._sums[request.context], frozenset(request.survivors)
        if member not in told.vectors:
            raise Broken(f"{member} signed a sum that it sealed nothing for")
        if member not in chosen or len(chosen) < self.minimum or len(chosen) * 3 <= len(
            told.asked
        ) * 2:  # fmt: skip
            raise Broken(f"{member} signed a sum over {sorted(chosen)}")
        before = told.signed[member]
        state = parse_checkpoint_text(parse_note(request.record.state.checkpoint).text)
        told.cosigned[member].append((state.size, state.root))
        if _read(request.record.leaf).body.get("context") != request.context.hex():
            raise Broken(f"{member} signed a sum that is not in the ledger it was shown")
        if chosen in before:
            return  # what it signed before, once more
        if any(not chosen <= one for one in before):
            raise Broken(f"{member} signed {sorted(chosen)} after {[sorted(b) for b in before]}")
        if member in {name for who in told.shares.values() for name in who} and (
            before and before[-1] != chosen
        ):
            raise Broken(f"{member} signed fewer after it told its shares")
        before.append(chosen)

    # -- what can be made of it --------------------------------------------------------------

    def _require_seen_by_most(self, told: _Told, member: str) -> None:
        """Who tells its shares knows that two thirds saw the same ledger."""
        own = told.cosigned[member]
        if not own:
            raise Broken(f"{member} told shares of a sum that it did not see on record")
        same = {name for name, states in told.cosigned.items() if own[-1] in states} | self.hostile
        if len(same & told.asked) * 3 <= len(told.asked) * 2:
            raise Broken(f"{member} told its shares where {sorted(same)} saw one ledger")

    def _require_closed(self, told: _Told) -> None:
        """Whatever can be opened of a sum is what its members signed, and no part of that."""
        for part in self.openable(told):
            signers = {
                name
                for name in part
                if any(one - self.hostile == part for one in told.signed[name])
            }
            most = len(signers | (self.hostile & told.asked)) * 3 > len(told.asked) * 2
            if not most:
                raise Broken(
                    f"the sum over {sorted(part)} alone is laid open, and {sorted(signers)} "
                    "signed that"
                )
            told.open.add(part)
        if len(told.open) > 1:
            raise Broken(f"two sums are laid open, over {sorted(map(sorted, told.open))}")

    def openable(self, told: _Told) -> list[frozenset[str]]:
        """Sets of honest members over which a sum can be opened with what is known.

        A set hangs together by masks that nobody told; what is left of its sum is then its members'
        own masks, each of which opens with the shares of more than two thirds.
        """
        honest = told.asked - self.hostile
        needed = 2 * len(told.asked) // 3 + 1
        helping = told.asked & self.hostile
        bare = {name for name in honest if len(told.shares[name] | helping) >= needed}
        left, found = set(honest), []
        while left:
            part, edge = set(), {left.pop()}
            while edge:
                name = edge.pop()
                part.add(name)
                # who sent nothing hangs together with the others until its masks are told
                edge |= {p for p in honest - part if frozenset((name, p)) not in told.masks}
            left -= part
            if part <= bare & told.vectors:
                found.append(frozenset(part))
        return found

    # -- what is opened ----------------------------------------------------------------------

    def opens(  # noqa: PLR0917 - as a node has it
        self,
        member: str,
        which: Sum,
        context: bytes,
        survivors: Sequence[str],
        total: NDArray[np.float64],
        slack: float,
    ) -> None:
        """A node opened a sum, and its tag held.

        Raises:
            Broken: It is not the sum of what the survivors gave, or another than others opened.
        """
        if member in self.hostile:
            return
        said = frozenset(survivors), total.tobytes()
        if self._payloads.setdefault(context, said) != said:
            raise Broken(f"two sums were opened of {which}")
        due = np.sum([self._given[name, which] for name in survivors], axis=0)
        if np.abs(total - due[: len(total)]).max() > slack:
            raise Broken(f"{member} opened another sum of {which} than {survivors} gave")
        for name in survivors:
            if name not in self.hostile:
                self._require_reserved(name, which)
        self.opened += 1

    def end(self, *, acts: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """A run is over.

        Args:
            acts: Of the coordinator's ledger: kind and body.
        """
        for run in self.runs:
            found = {name: steps for (name, of), steps in self._histories.items() if of == run}
            longest = max(found.values(), key=len, default=[])
            for member, history in found.items():
                if history != longest[: len(history)]:
                    raise Broken(f"{member} accepted other sums than the others")
        opened: dict[tuple[object, ...], int] = defaultdict(int)
        for kind, body in acts:
            if kind == "sum.opened":
                opened[body["run"], body["step"], body["round"]] += 1
        if any(count > 1 for count in opened.values()):
            raise Broken("a sum is on record twice")
