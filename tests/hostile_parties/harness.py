"""One seed: a federation, who in it is hostile, and what they try, message by message."""

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from attacks.test_hostile_node import Hostile
from hostile_parties.answered import reason, unnamed
from hostile_parties.federation import NAMES, Options, assembled, options_of, stood_in
from hostile_parties.mutants import Words, mutants
from hostile_parties.observer import Observer
from hostile_parties.tables import other_answers, out_of_turn, replies, requests
from simulation.broken import Broken
from support.direct import Direct
from support.sums import Exchange, watched

import aggregator.coordinator
from clients.node import Node
from federation.declaration import declaration
from privacy.errors import TacitError
from privacy.manifest import SIGNING_DOMAIN
from privacy.messages import (
    EvaluateRequest,
    Parcel,
    ReleaseRequest,
    Request,
    RevealRequest,
    RosterNotice,
    Sealed,
    StopNotice,
    SumNotice,
    SurvivorsNotice,
    TrainRequest,
    Voted,
    pack,
    unpack_reply,
    unpack_request,
)
from privacy.secure_sum import SealedVector
from privacy.sum_context import SURVIVORS_DOMAIN, survivors_message

COORDINATOR, NODE = "coordinator", "node"
EARLY = "before the first sum"
SENTENCE_MAX = 4000
"""Characters of a refusal that gives the reasons of seven members."""
EARLIER = 0.2
"""Share of seeds with a run before."""
STRIKES = 2
"""Hostile requests before each honest one."""
Key = tuple[str, str, str, str, str]
"""Party, kind of message, step, deviation, what became of it."""
_requests, _replies = cache(requests), cache(replies)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Who is hostile, and how; drawn from the seed.

    Attributes:
        coordinator: Whether the coordinator is.
        hostile: Which members are.
        instead: How many hostile requests are sent in place of honest ones, at most.
        withheld: How many honest requests are not sent; they come later, or never.
        greedy: At which sum the coordinator asks for all it can, in any order; 0 for none.
        rate: Share of a hostile member's replies that deviate.
        poison: What a hostile member adds in place of its vector; "" for its own.
        away: An honest member that is not there for updates and evaluations; "" for none.
        earlier: Whether there was a run before, whose messages are at hand.
        single: A kind of message and a step, at which `mill` or the coordinator deviates once, and
            nowhere else; empty: wherever chance has it.
    """

    coordinator: bool = False
    hostile: tuple[str, ...] = ()
    instead: int = 0
    withheld: int = 0
    greedy: int = 0
    rate: float = 0.0
    poison: str = ""
    away: str = ""
    earlier: bool = False
    single: tuple[str, ...] = ()


def plan_of(draw: Random, members: Sequence[str]) -> Plan:
    """What chance has it be."""
    who = draw.choice((COORDINATOR, NODE, "both"))
    # so many may be hostile where sums need more than two thirds
    few = (len(members) - 1) // 3
    hostile: tuple[str, ...] = ()
    if who != COORDINATOR:
        others = [name for name in members if name != "mill"]
        hostile = ("mill", *draw.sample(others, draw.randint(1, few) - 1))
    honest = [name for name in members if name not in hostile]
    coordinator = who != NODE
    return Plan(
        coordinator=coordinator,
        hostile=hostile,
        instead=draw.choice((0, 0, 1, 3)) if coordinator else 0,
        withheld=draw.choice((0, 0, 2)) if coordinator else 0,
        greedy=draw.choice((0, 0, 1, 2, 3, 4)) if coordinator else 0,
        rate=draw.choice((0.05, 0.15, 0.4)) if hostile else 0.0,
        poison=draw.choice(("", "", "minus", "most", "anothers")) if hostile else "",
        away=draw.choice((*honest, "", "")),
        earlier=draw.random() < EARLIER,
    )


@dataclass(slots=True)
class Found:
    """What a seed showed.

    Attributes:
        options: Of the federation.
        plan: Who was hostile.
        tried: How often what was tried, and what became of it.
        honest: Party, kind and step of each message that somebody sent to one who is honest, or
            that a hostile member could have sent otherwise.
        ended: `finished`, or the sentence.
        opened: Sums that nodes opened, each found right.
        sentences: What the coordinator's observer was told.
    """

    options: Options
    plan: Plan
    tried: Counter[Key] = field(default_factory=Counter)
    honest: set[tuple[str, str, str]] = field(default_factory=set)
    ended: str = ""
    opened: int = 0
    sentences: list[str] = field(default_factory=list)


@dataclass
class Attack:
    """See the module. `run` makes it happen, once.

    Attributes:
        seed: Of everything.
        options: Of the federation; None: as the seed says.
        plan: The same of who is hostile.
        plant: Changes the product, for twins that plant a fault.
    """

    seed: int
    options: Options | None = None
    plan: Plan | None = None
    plant: Callable[[ExitStack], None] | None = None
    _delivered: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    _heard: list[tuple[str, Words]] = field(default_factory=list)
    _before_this: list[tuple[str, Request, bytes]] = field(default_factory=list)
    _withheld: list[tuple[str, Words]] = field(default_factory=list)
    _deviated: list[tuple[str, str]] = field(default_factory=list)
    _left: set[str] = field(default_factory=set)
    _in_place: tuple[str, Parcel] | None = None
    _spoiled: bool = False
    _replaced: int = 0
    _sums: int = 0

    @property
    def place(self) -> tuple[str, str, str]:
        """Party, kind and step of a single deviation."""
        if self.plan is None or len(self.plan.single) != 2:
            raise ValueError("not one deviation, but many")
        kind, step = self.plan.single
        return NODE if self.plan.hostile else COORDINATOR, kind, step

    def run(self) -> Found:
        """Let it happen.

        Raises:
            Broken: A promise did not hold.
        """
        self._draw = Random(f"hostile {self.seed}")
        options = self.options or options_of(self._draw)
        names = tuple(sorted(NAMES[: options.members]))
        self._plan = self.plan or plan_of(self._draw, names)
        self._found = Found(options, self._plan)
        self._observer = Observer(names, frozenset(self._plan.hostile), minimum=3)
        shm = Path("/dev/shm")  # noqa: S108 - a folder of its own below it
        with (
            tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder,
            stood_in(self._observer, self._poisoned, self.plant),
        ):
            run = assembled(options, seed=self.seed, root=Path(folder))
            if self._plan.earlier and not options.noise:  # a budget holds one run
                run = self._after_another(run)
            self._happen(run)
        return self._found

    def _after_another(self, run: Direct) -> Direct:
        """The same members after a run in which nobody deviated."""
        self._observer.runs[run.manifest.digest()] = run.manifest.run
        require_sentence(self._carried_out(run))
        self._before_this = watched(run).asked
        return run.again("run-1")

    def _happen(self, run: Direct) -> None:
        self._direct, self._run = run, run.manifest.digest()
        self._observer.runs[self._run] = run.manifest.run
        self._bys = {
            node.member: Hostile(node, self._run)
            for node in run.nodes.values()
            if node.member in self._plan.hostile
        }
        transport = watched(run)
        transport.hostile = self._before
        transport.tamper_request = self._asked_instead
        transport.tamper_reply = self._answered_instead
        transport.away = self._away
        self._found.ended = self._carried_out(run)
        self._found.sentences = list(run.notes.sentences)
        self._found.opened = self._observer.opened
        self._judge(run)

    def _carried_out(self, run: Direct) -> str:
        with _Traceless("the coordinator"):
            try:
                aggregator.coordinator.run(
                    run.manifest,
                    run.launcher.sign(SIGNING_DOMAIN, run.manifest.to_bytes()),
                    launcher=run.launcher.public,
                    data=declaration(run.project.contract),
                    transport=run.transport,
                    ledger=run.notes.recorder,
                    observer=run.notes,
                )
                run.witness()
            except TacitError as fault:
                require_sentence(str(fault))
                aggregator.coordinator.dismiss(run.manifest, transport=run.transport)
                return str(fault)
        return "finished"

    # -- the coordinator ---------------------------------------------------------------------

    def _before(self, at: Exchange) -> None:
        """Hostile requests, before an honest one is delivered."""
        self._in_place = None
        voting = isinstance(at.request, SurvivorsNotice) and len(at.batch) > 1
        # who is shown the ledger from elsewhere is asked once more, alone
        if voting and next(iter(at.batch)) == at.node.member:
            self._sums += 1
            if self._sums == self._plan.greedy:
                self._spoiled = True
                self._ask_for_all(at)
        if at.node.member in self._plan.hostile:
            return
        here = COORDINATOR, type(at.request).__name__, step_of(at.step)
        self._found.honest.add(here)
        if not self._plan.coordinator:
            return
        if self._plan.single:
            if here[1:] == self._plan.single and not self._replaced:
                self._replace(at)
            return
        # who took another roster is of no use to the rest of the run
        early = isinstance(at.request, RosterNotice) and self._draw.random() < 0.8
        for _ in range(0 if early else STRIKES):
            tried = self._picked(at)
            if tried is not None:
                self._strike(at, *tried)
        rare = 0.05 if self._sums else 0.004
        if self._plan.instead > self._replaced and self._draw.random() < rare:
            self._replace(at)

    def _replace(self, at: Exchange) -> None:
        """Send a hostile request in place of the honest one."""
        tried = self._picked(at, eager=True)
        with suppress(Exception):  # it may not be made here
            if tried is not None:
                self._in_place = tried[0], pack(*tried[1]())
                self._replaced += 1
                self._spoiled = True

    def _picked(
        self, at: Exchange, *, eager: bool = False
    ) -> tuple[str, Callable[[], Words]] | None:
        """One of all deviations that can be tried here; None where it is left alone."""
        run, draw = self._direct, self._draw
        # who is shown a sum that does not hold leaves the run: not all should, and not at once
        patient = (
            not eager
            and isinstance(at.request, SumNotice)
            and (bool(self._left) or draw.random() < 0.9)
        )
        way = draw.random()
        if way < 0.3 and not patient:
            # who works with a member knows the tags' key, and with it an evaluation can be made
            # up; what is checked of an update beside its tag is tried at updates
            made_up = at.step.startswith("update") and not self._found.options.noise
            fits = [
                one
                for one in _requests()
                if isinstance(at.request, one.kind)
                and (made_up or not one.name.endswith("with a members tag"))
            ]
            if fits:
                one = draw.choice(fits)
                return one.name, lambda: one.make(at, run)
        if way < 0.5:
            stops = not self._left and draw.random() < 0.01
            name, words = draw.choice(
                [
                    one
                    for one in out_of_turn(at, run, draw)
                    if stops or one[1][0] != StopNotice(run=self._run)
                ]
            )
            return name, lambda: words
        if way < 0.6:
            before = [
                words
                for words in (
                    *at.transport.asked,
                    *((n, *w) for n, w in self._withheld),
                    *self._before_this,
                )
                if not (self._left and isinstance(words[1], SumNotice))
            ]
            if before:
                _, request, payload = draw.choice(before)
                return f"{type(request).__name__} of before", lambda: (request, payload)
        if patient:
            return None
        others = {
            "another member": [w for n, w in at.batch.items() if n != at.node.member],
            "before": at.earlier(type(at.request)),
            "another run": [
                (request, payload)
                for _, request, payload in self._before_this
                if type(request) is type(at.request)
            ],
        }
        mutant = draw.choice(mutants(at.request, at.payload, others, draw))
        return mutant.name, mutant.make

    def _strike(self, at: Exchange, name: str, make: Callable[[], Words]) -> None:
        try:
            words = make()
            parcel = pack(*words)
        except Exception:  # noqa: BLE001 - it cannot be made here
            return
        if parcel == pack(at.request, at.payload):
            return
        sent = [*at.transport.asked, *((n, *w) for n, w in self._withheld)]
        if (at.node.member, *words) in sent:
            # what it did not get, or refused where something hostile had come before
            name = f"{type(words[0]).__name__} of before"
        there = self._run in at.node._sessions
        became = self._delivered_to(at.node, parcel)
        if there and self._run not in at.node._sessions:
            self._left.add(at.node.member)
            became = "left"
        if became in {"left", "answered"}:
            self._spoiled = True
            session = at.node._sessions.get(self._run)
            roster = (
                at.batch if session is None or session.roster is None else session.roster.members
            )
            shows = isinstance(words[0], SumNotice) and " where " not in name
            if not (became == "left" and shows) and not reason(name, len(roster)):
                raise Broken(f"{at.node.member} answers at {at.step!r}: {name}")
        self._count(COORDINATOR, at.request, at.step, name, became)

    def _delivered_to(self, node: Node, parcel: Parcel) -> str:
        """What an honest node says to that."""
        with _Traceless(node.member):
            try:
                reply, payload = node.handle(*unpack_request(parcel))
            except TacitError as fault:
                require_sentence(str(fault))
                return "refused"
        key = node.member, _joined(parcel)
        told = _joined(pack(reply, payload))
        # an honest request is known before its answer is
        before = self._delivered.get(key)
        self._delivered[key] = told
        return "repeated" if before in {b"", told} else "answered"

    def _asked_instead(self, member: str, request: Request, parcel: Parcel) -> Parcel:
        if self._in_place is not None:
            name, parcel = self._in_place
            self._in_place = None
            self._count(COORDINATOR, request, watched(self._direct).step, name, "in its place")
        elif member not in self._plan.hostile:
            self._delivered.setdefault((member, _joined(parcel)), b"")
        return parcel

    def _ask_for_all(self, at: Exchange) -> None:
        """Ask for votes, masks and shares over any survivors, in any order, of everybody."""
        draw, names = self._draw, list(at.batch)
        nodes = {node.member: node for node in self._direct.nodes.values()}
        honest = [name for name in names if name not in self._plan.hostile]
        context = at.request.context
        votes: dict[tuple[str, ...], dict[str, bytes]] = {}
        cosigned: dict[str, bytes] = {}
        boxes = self._boxes(context)
        sets = [tuple(names)]
        for _ in range(4):
            sets.append(tuple(sorted(draw.sample(names, draw.randint(2, len(names))))))
            without = draw.choice(names)
            sets.append(tuple(name for name in names if name != without))
        for _ in range(12 * len(names)):
            over, member = draw.choice(sets), draw.choice(honest)
            signed = dict(votes.get(over, {}))
            # a hostile member signs any survivors
            signed |= {spy: self._any_vote(nodes[spy], context, over) for spy in self._plan.hostile}
            given: dict[str, Any] = {"run": self._run, "context": context, "survivors": over}
            kind = draw.choice((SurvivorsNotice, SurvivorsNotice, ReleaseRequest, RevealRequest))
            request: Any
            if kind is SurvivorsNotice:
                request = msgspec.structs.replace(at.batch[member][0], survivors=over)
            elif kind is ReleaseRequest:
                request = ReleaseRequest(**given, votes=signed)
            else:
                dealt = {
                    peer: theirs[member]
                    for peer, theirs in boxes.items()
                    if peer in over and member in theirs
                }
                request = RevealRequest(**given, votes=signed, cosignatures=cosigned, boxes=dealt)
            became = "refused"
            with _Traceless(member), suppress(TacitError):
                reply, _ = nodes[member].handle(*unpack_request(pack(request)))
                became = "answered"
                if isinstance(reply, Voted):
                    votes.setdefault(over, {})[member] = reply.signature
                    cosigned[member] = reply.cosignature
            name = f"{kind.__name__} over any, at any time"
            self._count(COORDINATOR, request, at.step, name, became)

    def _boxes(self, context: bytes) -> dict[str, dict[str, bytes]]:
        """What members sealed to each other for that sum."""
        found: dict[str, dict[str, bytes]] = {}
        for member, (reply, payload) in self._heard:
            if isinstance(reply, Sealed):
                with suppress(TacitError):
                    sealed = SealedVector.from_wire(reply.header, payload)
                    if sealed.context == context:
                        found[member] = dict(sealed.boxes)
        return found

    def _any_vote(self, spy: Node, context: bytes, over: tuple[str, ...]) -> bytes:
        voice = spy._signing.voice(self._direct.manifest.suite)
        return voice.sign(SURVIVORS_DOMAIN, survivors_message(context, over))

    # -- members -----------------------------------------------------------------------------

    def _away(self, member: str, request: Request, after: bool) -> bool:
        plan, draw = self._plan, self._draw
        step = watched(self._direct).step
        if after:
            rate = plan.rate / (4 if self._sums else 40)
            if member not in plan.hostile or plan.single or draw.random() >= rate:
                return False
            self._deviated.append((member, "silence"))
            self._count(NODE, request, step, "silence", "in its place")
            return True
        if member == plan.away and isinstance(request, TrainRequest | EvaluateRequest):
            return bool(plan.single) or draw.random() < 0.5
        if (
            self._sums
            and len(self._withheld) < plan.withheld
            and member not in plan.hostile
            and draw.random() < 0.04
        ):
            self._withheld.append((member, (request, b"")))
            self._spoiled = True
            self._count(COORDINATOR, request, step, "not sent", "in its place")
            return True
        return False

    def _answered_instead(self, member: str, request: Request, parcel: Parcel) -> Parcel:
        """A hostile member's reply, in place of its honest one."""
        del request
        reply, payload = unpack_reply(parcel)
        self._heard.append((member, (reply, payload)))
        by = self._bys.get(member)
        if by is None:
            return parcel
        step = watched(self._direct).step
        here = type(reply).__name__, step_of(step)
        self._found.honest.add((NODE, *here))
        if self._plan.single:
            due = here == self._plan.single and not self._deviated
        else:
            due = self._draw.random() < self._plan.rate * (1.0 if self._sums else 0.1)
        changed = self._other_reply(reply, payload, by) if due else None
        by.sent.setdefault(type(reply), []).append((reply, payload))
        if changed is None or changed[1] == parcel:
            return parcel
        self._deviated.append((member, changed[0]))
        self._count(NODE, reply, step, changed[0], "in its place")
        return changed[1]

    def _other_reply(
        self,
        reply: Any,  # noqa: ANN401 - any kind
        payload: bytes,
        by: Hostile,
    ) -> tuple[str, Parcel] | None:
        draw = self._draw
        way = draw.random()
        if way < 0.06:
            return "no message at all", Parcel(b"\xc1 no message")
        if way < 0.2:
            name, words = draw.choice(other_answers(reply))
            return name, pack(*words)
        fits = [one for one in _replies() if isinstance(reply, one.kind)]
        if way < 0.6 and fits and by.node.member == "mill":
            one = draw.choice(fits)
            with suppress(Exception):  # it may not be made here
                return one.name, pack(*one.make(reply, payload, by))
        others = {
            "another member": [
                words
                for name, words in self._heard[-30:]
                if type(words[0]) is type(reply) and name != by.node.member
            ],
            "before": by.sent.get(type(reply), []),
        }
        mutant = draw.choice(mutants(reply, payload, others, draw))
        with suppress(Exception):
            return mutant.name, pack(*mutant.make())
        return None

    def _poisoned(self, member: str, vector: Any) -> Any:  # noqa: ANN401 - an array
        if member not in self._plan.hostile or not self._plan.poison:
            return vector
        if self._plan.poison == "minus":
            return -vector
        if self._plan.poison == "most":
            return vector * 0 + vector.max()
        others = vector.copy()
        others[:-1] = vector[:-1][::-1]
        return others

    # -- what is promised --------------------------------------------------------------------

    def _count(self, party: str, message: object, step: str, name: str, became: str) -> None:
        self._found.tried[party, type(message).__name__, step_of(step), name, became] += 1

    def _judge(self, run: Direct) -> None:
        for sentence in run.notes.sentences:
            require_sentence(sentence)
        self._observer.end(acts=run.notes.entries)
        if not self._plan.coordinator and self._deviated:
            self._require_right_names(run.notes.sentences)
        quiet = not self._deviated and not self._spoiled and not self._plan.poison
        if quiet and self._found.ended != "finished":
            raise Broken(f"nothing that was tried was taken, and yet: {self._found.ended}")

    def _require_right_names(self, sentences: Sequence[str]) -> None:
        """Who deviates is named where that costs something, and nobody who is honest is alone."""
        plan, ended = self._plan, self._found.ended
        tried = [name for _, name in self._deviated]
        gone = {*plan.hostile, plan.away}
        said = [*sentences, ended] if ended != "finished" else [*sentences]
        for sentence in said:
            named = {name for name in self._observer.names if re.search(rf"\b{name}\b", sentence)}
            if named and not named & gone and not unnamed(sentence, tried):
                raise Broken(f"honest members alone are named: {sentence}")
        named_at_all = any(name in " ".join(said) for name in plan.hostile)
        if ended != "finished" and not named_at_all and not unnamed(ended, tried):
            raise Broken(f"who deviated ({', '.join(tried)}) is not named: {ended}")


@dataclass
class _Traceless:
    """Whatever is no refusal is a fault of ours."""

    who: str

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, fault: BaseException | None, __: object) -> None:
        if isinstance(fault, Exception) and not isinstance(fault, TacitError | Broken):
            raise Broken(f"{self.who} fell: {type(fault).__name__}: {fault}") from fault


def require_sentence(text: str) -> None:
    """Return if that is something to say to a person.

    Raises:
        Broken: It is not.
    """
    if not text or len(text) > SENTENCE_MAX or not text.isprintable() or "Traceback" in text:
        raise Broken(f"a refusal is not in words: {text!r}")


def step_of(step: str) -> str:
    """A step without its round."""
    return re.sub(r" \d+$", "", step) or EARLY


def _joined(parcel: Parcel) -> bytes:
    return parcel.message + b"\0" + parcel.payload
