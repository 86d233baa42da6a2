"""Bundles of a small federation as a script, and what is signed in them worked out afterwards.

A `World` holds ledgers line by line. What is None in a line's body is computed by `settle` from all
that stands before it: documents, contexts, receipts, heads, signatures, each by whoever's key it
must be. What is given stays as it is. So a change before `settle` is a forgery by people who have
all keys, and a change after it one by people who have the ledgers' keys alone.
"""

import copy
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import Any

from privacy.canonical import canonical_json
from privacy.identity import Identity
from privacy.ledger.checkpoint import Checkpoint, cosign, sign_checkpoint, with_cosignatures
from privacy.ledger.entry import EVALUATIONS, FORMAT, STATISTICS, UPDATE
from privacy.ledger.grammar import CONSENT_DOMAIN, ROTATION_DOMAIN
from privacy.ledger.head import HEAD_DOMAIN, LedgerHead, head_message
from privacy.ledger.keys import cosigner_key, log_key, log_origin
from privacy.ledger.merkle import Frontier, consistency_proof, leaf_hash, new_nodes
from privacy.manifest import COUNTERSIGN_DOMAIN, SIGNING_DOMAIN, Manifest
from privacy.membership import MEMBERSHIP_DOMAIN, acts_digest, is_act, statement
from privacy.plan import PrivacyPlan, update_values, vector_length
from privacy.release import ABORT_DOMAIN, abort_message
from privacy.sum_context import (
    ACCEPTED_DOMAIN,
    SURVIVORS_DOMAIN,
    SumContext,
    extend_history,
    first_history,
    names_digest,
    survivors_message,
)

WATCH, TEST, PERSONAL = EVALUATIONS
COORDINATOR = "coordinator"
REGULATOR = "regulator"
FOUNDER = "olive-operator"
LAUNCHER = "launcher"
NAMES = ("amber-bank", "birch-credit", "cedar-leasing")
BEGUN_MS = 1_790_000_000_000
WEIGHTS = 70
DATASET = "leases"
NO_MODEL = "00" * 32
BY = "by "
"""In the place of a second signature under a manifest: whose key signs it, when all is settled."""
SIGNED_BY: Mapping[str, Mapping[str, str]] = {
    "federation.begun": {"signature": "key"},
    "member.invited": {"signature": "by"},
    "member.requested": {"signature": "key"},
    "member.approved": {"signature": "by"},
    "member.certified": {},
    "member.renewed": {"signature": "key", "proof": "new"},
    "member.revoked": {"signature": "by"},
}
"""Act of membership -> its signatures, each with the field that names whose it is."""
PLAN = PrivacyPlan(
    noise="distributed",
    mechanism="gaussian",
    unit="borrower",
    parts="apart",
    rate=0.05,
    rows_per_unit=1,
    clip=1.0,
    steps=1,
    watches=2,
    update_share=1.2,
    statistics_share=20.0,
    statistics_clip=1.0,
    watch_share=30.0,
    test_share=20.0,
    evaluation_clip=1.0,
    colluders=1,
    delta=1e-5,
    grid=2.0**-10,
)


def digest(*words: object) -> str:
    """Some hash."""
    return hashlib.sha256(repr(words).encode()).hexdigest()


_BY_PUBLIC: dict[str, Identity] = {}


@cache
def identity(name: str) -> Identity:
    """The key pair of that name; the same always."""
    made = Identity.create(lambda _: bytes.fromhex(digest("vector key", name)))
    _BY_PUBLIC[made.public.hex()] = made
    return made


def public(name: str) -> str:
    """The public key of that name."""
    return identity(name).public.hex()


@dataclass
class State:
    """A signed state: of how many entries, and who cosigns it under which key."""

    size: int
    cosigners: tuple[tuple[str, str], ...] = ()
    signer: str = ""
    origin: str = ""
    root: bytes = b""
    note: Callable[[bytes], bytes] | None = None


@dataclass
class Line:
    """One entry; `leaf` changes its bytes after all was settled; `state` is what it cosigns."""

    kind: str
    body: dict[str, Any]
    time_ms: int
    epoch: int = 1
    index: int | None = None
    format: int = FORMAT
    leaf: Callable[[bytes], bytes] | None = None
    state: State | None = None

    def bytes_at(self, place: int) -> bytes:
        value = {
            "format": self.format,
            "epoch": self.epoch,
            "index": place if self.index is None else self.index,
            "time_ms": self.time_ms,
            "kind": self.kind,
            "body": self.body,
        }
        data = canonical_json(value)
        return data if self.leaf is None else self.leaf(data)


@dataclass
class Book:
    """A ledger as a script."""

    owner: str
    role: str
    keys: list[str]  # names of identities, in the order of their turn
    lines: list[Line] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    origin: str = ""
    header: Callable[[dict[str, Any]], object] | None = None

    def __post_init__(self) -> None:
        self.origin = self.origin or log_origin(self.owner, identity(self.keys[0]).public)

    def find(self, kind: str, nth: int = 0, **fields: object) -> Line:
        """The nth line of a kind whose body has these fields."""
        return [
            line
            for line in self.lines
            if line.kind == kind and all(line.body.get(k) == v for k, v in fields.items())
        ][nth]

    def place(self, line: Line) -> int:
        return next(place for place, one in enumerate(self.lines) if one is line)

    def drop(self, line: Line) -> None:
        """Take a line out, as if it had never been there."""
        place = self.place(line)
        del self.lines[place]
        for state in self.states:
            state.size -= state.size > place

    def put(self, place: int, line: Line) -> None:
        """Put a line in, before the one that is there."""
        last = place == len(self.lines)
        self.lines.insert(place, line)
        for state in self.states:
            state.size += state.size > place or (last and state.size == place)

    def after(self, line: Line, kind: str, body: dict[str, Any]) -> Line:
        made = Line(kind, body, line.time_ms, line.epoch)
        self.put(self.place(line) + 1, made)
        return made

    def leaves(self) -> list[bytes]:
        return [line.bytes_at(place) for place, line in enumerate(self.lines)]

    def signer_at(self, size: int) -> str:
        turns = [place + 1 for place, one in enumerate(self.lines) if one.kind == "key.rotated"]
        turn = sum(since <= size for since in turns)
        return self.keys[min(turn, len(self.keys) - 1)]


@dataclass
class World:
    """A federation, from its beginning."""

    coordinator: Book | None = None
    nodes: dict[str, Book] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    datasets: dict[str, str] = field(default_factory=dict)
    rosters: dict[str, tuple[str, ...]] = field(default_factory=dict)
    federation: str = "vectors"
    root: str = field(default_factory=lambda: digest("root"))
    policy: str = "quorum none\n"
    now_ms: int = BEGUN_MS
    epoch: int = 1

    # -- writing --

    def begin(self, members: Sequence[str] = NAMES, *, keys: str = "") -> "World":
        """Begin all ledgers; `keys` stands before the name of each key."""
        self.coordinator = Book(COORDINATOR, "coordinator", [keys + COORDINATOR])
        for book in (self.coordinator, *(self.join(name, keys + name) for name in members)):
            body = {
                "origin": book.origin,
                "key": public(book.keys[0]),
                "owner": book.owner,
                "role": book.role,
            }
            self.add(book, "ledger.begun", body)
        return self

    def join(self, name: str, key: str = "") -> Book:
        self.nodes[name] = Book(name, "node", [key or name])
        return self.nodes[name]

    @property
    def main(self) -> Book:
        assert self.coordinator is not None
        return self.coordinator

    @property
    def acts(self) -> int:
        """How many acts of membership there are."""
        return sum(is_act(line.kind) for line in self.main.lines)

    @property
    def books(self) -> list[Book]:
        first = [] if self.coordinator is None else [self.coordinator]
        return [*first, *self.nodes.values()]

    def add(self, book: Book, kind: str, body: dict[str, Any]) -> Line:
        self.now_ms += 1000
        epoch = self.epoch if book is self.coordinator else 1
        book.lines.append(Line(kind, body, self.now_ms, epoch))
        return book.lines[-1]

    def book(self, run: str, member: str) -> Book:
        """The ledger of whoever goes by that name in that run."""
        key = self.manifests[run].directory.get(member)
        books = self.nodes.values()
        mine = [book for book in books if key in {public(name) for name in book.keys}]
        return mine[0] if mine else self.nodes[member]

    def terms(self, *names: str, **changes: Any) -> "World":  # noqa: ANN401 - any of the terms
        for book in [self.nodes[name] for name in names or self.nodes]:
            terms: dict[str, Any] = {
                "member": book.owner,
                "dataset": DATASET,
                "unit": "borrower",
                "epsilon": 8.0,
                "delta": 1e-5,
                "order": 8,
                "colluders": 1,
                "period_days": None,
                "solo_epsilon": 16.0,
                "solo_order": 4,
            }
            self.add(book, "budget.terms", {**terms, **changes})
        return self

    def federate(self, approvals: int = 2) -> "World":
        """Begin the federation, by its founder, who has a certificate then."""
        body = {
            "federation": self.federation,
            "root": self.root,
            "approvals": approvals,
            "founder": FOUNDER,
            "key": public(FOUNDER),
        }
        self.act("federation.begun", **body)
        return self.certify(FOUNDER)

    def act(self, kind: str, **body: Any) -> Line:  # noqa: ANN401 - any field
        """An act of membership, signed when all is settled by whoever must."""
        return self.add(self.main, kind, {**body, **dict.fromkeys(SIGNED_BY[kind])})

    def invite(self, name: str, role: str, *, key: str = "", **changes: Any) -> "World":  # noqa: ANN401 - any field
        key = key or name
        body = {
            "token": digest("token", key),
            "role": role,
            "name": name,
            "attributes": {"region": "nord"},
            "expires_ms": self.now_ms + 86_400_000,
            "by": FOUNDER,
        }
        self.act("member.invited", **{**body, **changes})
        return self

    def request(self, name: str, role: str, *, key: str = "") -> "World":
        key = key or name
        told = {"key": public(key), "tls": digest("tls", key)}
        self.act("member.requested", token=digest("token", key), name=name, role=role, **told)
        return self

    def approve(self, name: str, *by: str, key: str = "") -> "World":
        for other in by:
            self.act("member.approved", name=name, key=public(key or name), by=other)
        return self

    def certify(self, name: str, *, key: str = "", tls: str = "", number: int = 1) -> "World":
        key = key or name
        body = {
            "name": name,
            "key": public(key),
            "tls": tls or digest("tls", key),
            "certificate": digest("certificate", key, number),
            "expires_ms": self.now_ms + 90 * 86_400_000,
        }
        self.act("member.certified", **body)
        return self

    def admit(self, name: str, role: str, *by: str, key: str = "") -> "World":
        """A participant from its invitation to its first certificate."""
        self.invite(name, role, key=key).request(name, role, key=key)
        return self.approve(name, *by, key=key).certify(name, key=key)

    def revoke(self, name: str, *, key: str = "", by: str = FOUNDER) -> "World":
        self.act("member.revoked", name=name, key=public(key or name), reason="left", by=by)
        return self

    def start(
        self,
        run: str,
        *,
        members: Sequence[str] = NAMES,
        declining: Sequence[str] = (),
        countersigned: str = "",
        dataset: str = DATASET,
        seen: int | None = None,
        **changes: Any,  # noqa: ANN401 - any field
    ) -> "World":
        """The start of a run up to its keys; `seen`: how many acts its launcher saw."""
        self.datasets[run] = dataset
        self.rosters[run] = tuple(sorted(name for name in members if name not in declining))
        directory = {name: public(self.nodes[name].keys[-1]) for name in members}
        ledger = {"origin": self.main.origin, "key": public(self.main.keys[-1])}
        if seen is not None:
            ledger |= {"acts": str(seen), "membership": ""}
        values: dict[str, Any] = {
            "run": run,
            "name": "default of leases",
            "task": "credit",
            "unit": "borrower",
            "contract": digest("contract"),
            "directory": directory,
            "minimum_cohort": 2,
            "protection": "masked",
            "group_size": 0,
            "privacy": None,
            "ledger": ledger,
            "node_settings": {"rounds": 2},
            "coordinator_settings": {},
        }
        self.manifests[run] = manifest = Manifest(**{**values, **changes})
        names = (
            "name task members minimum group_size manifest document signature launcher protection"
        )
        self.add(self.main, "run.started", {"run": run, **dict.fromkeys(names.split())})
        declared = {
            "run": run,
            "contract": manifest.contract,
            "dataset": dataset,
            "unit": manifest.unit,
            "classes": {"L2": 3, "L3": 4},
            "retention_days": 180,
        }
        self.add(self.main, "data.declared", declared)
        checked = {"run": run, "rules": digest("rules"), "warnings": ["governance-stated"]}
        self.add(self.main, "rules.checked", checked)
        if countersigned:
            second = {"run": run, "member": countersigned, "signature": None}
            self.add(self.main, "run.countersigned", second)
        for name in declining:
            refused = {"run": run, "member": name, "reason": "not this month"}
            self.add(self.main, "run.declined", refused)
        for name in [name for name in members if name not in declining]:
            book = self.book(run, name)
            self.follow(book)
            joined = {"run": run, "manifest": None, "origin": manifest.ledger["origin"]}
            self.add(book, "run.joined", joined)
            rows = {"run": run, "contract": manifest.contract, "rows": digest("rows", name)}
            self.add(book, "rows.read", rows)
            consent = {"run": run, "member": name, "signature": None}
            self.add(self.main, "run.consented", consent)
        agreed = {
            "run": run,
            "roster": digest("roster", run),
            "fingerprint": digest("fingerprint", run),
            "public_bytes": 0,
        }
        self.add(self.main, "keys.agreed", agreed)
        return self

    def follow(self, book: Book) -> None:
        """Let a node follow the coordinator's ledger, if it does not yet."""
        told = {"origin": self.main.origin, "key": public(self.main.keys[-1])}
        known = [line.body["origin"] for line in book.lines if line.kind == "ledger.followed"]
        if told["origin"] not in known:
            self.add(book, "ledger.followed", told)

    def release(
        self,
        run: str,
        step: str,
        number: int,
        *,
        asked: Sequence[str] | None = None,
        arrived: Sequence[str] | None = None,
        survivors: Sequence[str] | None = None,
        signers: Sequence[str] | None = None,
        opened: bool = True,
        accepted: bool = True,
        kept: bool = True,
        aborting: Sequence[str] = (),
        witnesses: Iterable[str] | None = None,
    ) -> "World":
        """A sum from its reservation on."""
        asked = list(self.rosters[run]) if asked is None else list(asked)
        arrived = [n for n in asked if n not in aborting] if arrived is None else list(arrived)
        survivors = list(arrived) if survivors is None else list(survivors)
        signers = survivors if signers is None else signers
        act = {"run": run, "step": step, "round": number}
        kept_by = {**act, "dataset": self.datasets[run]}
        for name in asked:
            self.add(self.book(run, name), "budget.reserved", {**kept_by, "receipt": None})
        for name in aborting:
            body = {**kept_by, "reason": "not sealed", "signature": None}
            self.add(self.book(run, name), "budget.aborted", body)
        computed = dict.fromkeys(("model", "context", "protection", "receipt"))
        reserved = {
            **act,
            "asked": asked,
            "schema": digest("schema", step),
            **computed,
            "nodes": dict.fromkeys(arrived),
        }
        self.add(self.main, "sum.reserved", reserved)
        if witnesses is not None:
            self.state(witnesses)
        if not opened:
            return self
        body = {
            **act,
            "context": None,
            "members": survivors,
            "aggregate": digest("sum", run, step, number, survivors),
            "payload_bytes": 576,
            "signatures": dict.fromkeys(signers),
        }
        self.add(self.main, "sum.opened", body)
        if accepted:
            self.accept(run, step, number, kept=kept)
        return self

    def accept(self, run: str, step: str, number: int, *, kept: bool = True) -> "World":
        act = {"run": run, "step": step, "round": number}
        members = list(self.rosters[run])
        model = digest("model", run, number) if step == UPDATE else None
        body = {**act, "model": model, "kept": kept, "signatures": dict.fromkeys(members)}
        self.add(self.main, "sum.accepted", body)
        for name in members:
            mine = self.book(run, name)
            keys = [line.body for line in mine.lines if line.kind == "budget.reserved"]
            gone = [line.body for line in mine.lines if line.kind == "budget.aborted"]
            same = [all(body[k] == v for k, v in act.items()) for body in keys]
            back = [all(body[k] == v for k, v in act.items()) for body in gone]
            if any(same) and not any(back):
                self.add(mine, "budget.committed", {**act, "dataset": self.datasets[run]})
        return self

    def model(self, run: str) -> "World":
        body = {
            "run": run,
            "architecture": digest("network"),
            "model": digest("model", run, 0),
            "values": WEIGHTS,
        }
        self.add(self.main, "model.agreed", body)
        return self

    def commit(self, run: str, number: int) -> "World":
        body = {"run": run, "round": number, "model_before": None, "model_after": None}
        self.add(self.main, "round.committed", body)
        return self

    def train(self, run: str, number: int, **how: Any) -> "World":  # noqa: ANN401 - see `release`
        return self.release(run, UPDATE, number, **how).commit(run, number)

    def finish(self, run: str, rounds: int) -> "World":
        self.add(self.main, "run.finished", {"run": run, "rounds": rounds, "model": None})
        body = {"run": run, "model": None, "file": digest("file"), "card": digest("card")}
        self.add(self.main, "model.registered", body)
        return self

    def stop(self, run: str) -> "World":
        self.add(self.main, "run.stopped", {"run": run, "reason": "stopped by hand"})
        return self

    def state(self, cosigners: Iterable[str] | None = None) -> "World":
        """Sign the coordinator's ledger as it is; all members cosign unless others are named.

        A member notes in its own ledger what it cosigns.
        """
        names = list(self.nodes) if cosigners is None else list(cosigners)
        pairs = [
            (name, self.nodes[name].keys[-1] if name in self.nodes else name) for name in names
        ]
        state = State(len(self.main.lines), tuple(pairs))
        self.main.states.append(state)
        for book in [self.nodes[name] for name in names if name in self.nodes]:
            self.follow(book)
            body = {"origin": self.main.origin, "leaves": None, "root": None}
            self.add(book, "ledger.cosigned", body).state = state
        return self

    def rotate(self, book: Book, key: str) -> "World":
        book.keys.append(key)
        self.add(book, "key.rotated", {"key": public(key), "signature": None})
        return self

    def end(self) -> "World":
        """Sign the newest state of every ledger that has none."""
        for book in self.books:
            if not book.states or book.states[-1].size != len(book.lines):
                book.states.append(State(len(book.lines)))
        return self

    # -- settling --

    def copy(self) -> "World":
        return copy.deepcopy(self)

    def settle(self) -> "World":
        """Work out all that is None."""
        if self.coordinator is not None:
            self._settle_manifests()
        weights = {
            line.body["run"]: line.body["values"]
            for line in (self.main.lines if self.coordinator else [])
            if line.kind == "model.agreed"
        }
        for book in self.nodes.values():
            self._settle_node(book, weights)
        if self.coordinator is not None:
            trees = self._settle_coordinator(weights)
            for book in self.nodes.values():
                for line in book.lines:
                    _settle_cosigned(line, trees)
        return self

    def _receipt(self, body: Mapping[str, Any], weights: Mapping[str, int]) -> dict[str, object]:
        run, step, number = body["run"], body["step"], body["round"]
        manifest = self.manifests[run]
        length = 12
        if step == UPDATE:
            length = update_values(manifest.privacy, weights.get(run, WEIGHTS))
        length = vector_length(manifest.privacy, step, length)
        return manifest.receipt(step, number, length).to_json()

    def _settle_node(self, book: Book, weights: Mapping[str, int]) -> None:
        turn = 0
        for line in book.lines:
            body = line.body
            if line.kind == "run.joined" and body["manifest"] is None:
                body["manifest"] = self.manifests[body["run"]].digest().hex()
            if line.kind == "budget.reserved" and body["receipt"] is None:
                body["receipt"] = self._receipt(body, weights)
            if line.kind == "budget.aborted" and body["signature"] is None:
                message = abort_message(
                    body["run"], body["step"], body["round"], dataset=body["dataset"]
                )
                signer = identity(book.keys[turn])
                body["signature"] = signer.sign(ABORT_DOMAIN, message).hex()
            turn += self._rotated(book, line, turn)

    def _rotated(self, book: Book, line: Line, turn: int) -> bool:
        if line.kind == "key.rotated" and line.body["signature"] is None:
            key = bytes.fromhex(line.body["key"])
            line.body["signature"] = identity(book.keys[turn]).sign(ROTATION_DOMAIN, key).hex()
        return line.kind == "key.rotated"

    def _said(self, member: str, sent: Line, trees: Sequence[Frontier]) -> dict[str, object]:
        """What a node says of its own ledger with a vector, not signed yet."""
        book = self.book(sent.body["run"], member)
        tree = Frontier()
        for place, line in enumerate(book.lines):
            if line.time_ms > sent.time_ms:
                break
            _settle_cosigned(line, trees)
            tree = tree.append(leaf_hash(line.bytes_at(place)))
            if line.kind == "budget.reserved" and all(
                line.body[name] == sent.body[name] for name in ("run", "step", "round")
            ):
                break
        return {"leaves": tree.size, "root": tree.root().hex(), "signature": None}

    def _settle_manifests(self) -> None:
        """Let each manifest say which acts its launcher saw, where it says how many."""
        people: dict[str, str] = {}
        leaves: list[bytes] = []
        for place, line in enumerate(self.main.lines):
            if is_act(line.kind):
                self._settle_act(line, people)
                leaves.append(line.bytes_at(place))
            manifest = self.manifests.get(line.body.get("run", ""))
            if line.kind != "run.started" or manifest is None:
                continue
            if manifest.ledger.get("membership") == "":
                digest_of = acts_digest(leaves[: int(manifest.ledger["acts"])])
                self.manifests[line.body["run"]] = replace(
                    manifest, ledger={**manifest.ledger, "membership": digest_of}
                )

    def _settle_coordinator(self, weights: Mapping[str, int]) -> list[Frontier]:
        runs: dict[str, _Progress] = {}
        turn = 0
        trees = [Frontier()]
        people: dict[str, str] = {}
        for place, line in enumerate(self.main.lines):
            turn += self._rotated(self.main, line, turn)
            if is_act(line.kind):
                self._settle_act(line, people)
            run = line.body.get("run")
            if run is not None:
                if run not in runs:
                    runs[run] = _Progress(self.manifests[run])
                if line.kind == "sum.reserved" and line.body["receipt"] is None:
                    line.body["receipt"] = self._receipt(line.body, weights)
                runs[run].settle(line.kind, line.body)
            if line.kind == "sum.reserved":
                nodes = line.body["nodes"]
                for name, said in nodes.items():
                    if said is None:
                        nodes[name] = self._said(name, line, trees)
                runs[line.body["run"]].sign_heads(line.body)
            trees.append(trees[-1].append(leaf_hash(line.bytes_at(place))))
        return trees

    def _settle_act(self, line: Line, people: dict[str, str]) -> None:
        """Sign an act of membership by the keys that its signers have by then."""
        body = line.body
        for where, by in SIGNED_BY[line.kind].items():
            key = people.get(body["by"], public(body["by"])) if by == "by" else body[by]
            if body[where] is None:
                told = statement(line.kind, self.federation, body.get("root", self.root), body)
                body[where] = _BY_PUBLIC[key].sign(MEMBERSHIP_DOMAIN, told).hex()
        if line.kind in {"federation.begun", "member.requested", "member.renewed"}:
            name = body["founder"] if line.kind == "federation.begun" else body["name"]
            people[name] = body["new" if line.kind == "member.renewed" else "key"]

    # -- bundles --

    def lines(self) -> list[bytes]:
        """All lines of the bundle but the last, without line ends."""
        head = {
            "bundle": 1,
            "federation": self.federation,
            "made_ms": self.now_ms,
            "policy": self.policy,
        }
        lines = [canonical_json(head)]
        for book in self.books:
            leaves = book.leaves()
            told = _header(book, leaves)
            if book.header is not None:
                book.header(told)
            lines += [canonical_json({"log": told}), *leaves]
        return lines

    def bundle(self) -> bytes:
        return sealed(self.lines())


def _settle_cosigned(line: Line, trees: Sequence[Frontier]) -> None:
    """What a node cosigned is the coordinator's ledger as it was; `trees` has it at each size."""
    if line.kind == "ledger.cosigned" and line.state is not None:
        size = line.state.size
        _fill(line.body, {"leaves": size})
        if line.body["root"] is None:
            line.body["root"] = trees[size].root().hex()


def sealed(lines: Iterable[bytes]) -> bytes:
    """A bundle of these lines, with the last one that belongs to them."""
    data = b"".join(line + b"\n" for line in lines)
    return data + canonical_json({"end": hashlib.sha256(data).hexdigest()}) + b"\n"


class _Progress:
    """What a run's entries say, as far as the next one needs it."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.roster = self.fingerprint = self.history = b"\0" * 32
        self.model = self.before = NO_MODEL
        self.opened: list[tuple[bytes, tuple[str, ...], bytes]] = []
        self.contexts: dict[tuple[str, int], list[str]] = {}

    def settle(self, kind: str, body: dict[str, Any]) -> None:
        fill = getattr(self, "_" + kind.replace(".", "_"), None)
        if fill is not None:
            fill(body)

    def _run_started(self, body: dict[str, Any]) -> None:
        manifest = self.manifest
        said = {
            "name": manifest.name,
            "task": manifest.task,
            "members": dict(manifest.directory),
            "minimum": manifest.minimum_cohort,
            "group_size": manifest.group_size,
            "manifest": manifest.digest().hex(),
            "document": manifest.to_bytes().decode(),
            "protection": manifest.protection,
            "launcher": public("launcher"),
        }
        _fill(body, said)
        if body["signature"] is None:
            text = body["document"].encode()
            body["signature"] = _BY_PUBLIC[body["launcher"]].sign(SIGNING_DOMAIN, text).hex()

    def _run_consented(self, body: dict[str, Any]) -> None:
        if body["signature"] is None:
            body["signature"] = self._sign(body["member"], CONSENT_DOMAIN, self.manifest.digest())

    def _run_countersigned(self, body: dict[str, Any]) -> None:
        if body["signature"] is None:
            told = self.manifest.digest()
            body["signature"] = self._sign(body["member"], COUNTERSIGN_DOMAIN, told)
        elif body["signature"].startswith(BY):
            signer = identity(body["signature"].removeprefix(BY))
            body["signature"] = signer.sign(COUNTERSIGN_DOMAIN, self.manifest.digest()).hex()

    def _keys_agreed(self, body: dict[str, Any]) -> None:
        self.roster = bytes.fromhex(body["roster"])
        self.fingerprint = bytes.fromhex(body["fingerprint"])
        self.history = first_history(self.roster, self.fingerprint)

    def _model_agreed(self, body: dict[str, Any]) -> None:
        self.model = body["model"]

    def _sum_reserved(self, body: dict[str, Any]) -> None:
        model = NO_MODEL if body["step"] == STATISTICS else self.model
        _fill(body, {"model": model, "protection": self.manifest.protection})
        if body["context"] is None:
            body["context"] = self.context(body).hex()
        self.contexts.setdefault((body["step"], body["round"]), []).append(body["context"])

    def sign_heads(self, body: Mapping[str, Any]) -> None:
        for member, said in body["nodes"].items():
            if said["signature"] is None:
                said["signature"] = self._sign(member, HEAD_DOMAIN, head_told(body, said))

    def context(self, body: Mapping[str, Any]) -> bytes:
        return SumContext(
            run=self.manifest.digest(),
            step=body["step"],
            round=body["round"],
            schema=bytes.fromhex(body["schema"]),
            model=bytes.fromhex(body["model"]),
            history=self.history,
            roster=self.roster,
            cohort=names_digest(body["asked"]),
            keys=self.fingerprint,
        ).digest()

    def _sum_opened(self, body: dict[str, Any]) -> None:
        if body["context"] is None:
            body["context"] = self.contexts[body["step"], body["round"]].pop(0)
        context = bytes.fromhex(body["context"])
        message = survivors_message(context, body["members"])
        for member, signature in body["signatures"].items():
            if signature is None:
                body["signatures"][member] = self._sign(member, SURVIVORS_DOMAIN, message)
        self.opened.append((context, tuple(body["members"]), bytes.fromhex(body["aggregate"])))

    def _sum_accepted(self, body: dict[str, Any]) -> None:
        _fill(body, {"model": self.model})
        if body["step"] == UPDATE:
            self.before = self.model
        self.model = body["model"]
        self.history = extend_history(
            self.history, self.opened, model=bytes.fromhex(self.model), kept=body["kept"]
        )
        self.opened = []
        for member, signature in body["signatures"].items():
            if signature is None:
                body["signatures"][member] = self._sign(member, ACCEPTED_DOMAIN, self.history)

    def _round_committed(self, body: dict[str, Any]) -> None:
        _fill(body, {"model_before": self.before, "model_after": self.model})

    def _run_finished(self, body: dict[str, Any]) -> None:
        _fill(body, {"model": self.model})

    def _model_registered(self, body: dict[str, Any]) -> None:
        _fill(body, {"model": self.model})

    def _sign(self, member: str, domain: str, message: bytes) -> str:
        key = self.manifest.directory.get(member, public(member))
        return _BY_PUBLIC[key].sign(domain, message).hex()


def head_told(body: Mapping[str, Any], said: Mapping[str, Any]) -> bytes:
    """What a node signs with its vector for the sum that `body` reserves."""
    head = LedgerHead(said["leaves"], said["root"])
    return head_message(bytes.fromhex(body["context"]), head)


def _fill(body: dict[str, Any], said: Mapping[str, object]) -> None:
    for name, value in said.items():
        if body[name] is None:
            body[name] = value


def _header(book: Book, leaves: Sequence[bytes]) -> dict[str, Any]:
    nodes: dict[tuple[int, int], bytes] = {}

    def read(level: int, place: int) -> bytes:
        return nodes[level, place]

    trees = [Frontier()]
    for place, leaf in enumerate(leaves):
        for level, at, hashed in new_nodes(place, leaf_hash(leaf), read):
            nodes[level, at] = hashed
        trees.append(trees[-1].append(leaf_hash(leaf)))
    notes = []
    for state in book.states:
        tree = trees[min(state.size, len(leaves))]
        signer = identity(state.signer or book.signer_at(state.size))
        origin = state.origin or book.origin
        told = Checkpoint(origin, state.size, state.root or tree.root())
        key = log_key(book.origin if " " not in book.origin else "x", signer.public)
        note = sign_checkpoint(told, key=key, sign=signer.sign_note)
        note = with_cosignatures(note, [_cosignature(told, *pair) for pair in state.cosigners])
        notes.append((note if state.note is None else state.note(note)).decode())
    sizes = [state.size for state in book.states]
    turns = [place + 1 for place, one in enumerate(book.lines) if one.kind == "key.rotated"]
    return {
        "origin": book.origin,
        "owner": book.owner,
        "role": book.role,
        "leaves": len(leaves),
        "keys": [
            {"since": since, "public": public(name)}
            for since, name in zip([0, *turns], book.keys, strict=False)
        ],
        "checkpoints": notes,
        "proofs": [
            {
                "old": old,
                "new": new,
                "hashes": [
                    one.hex()
                    for one in (
                        consistency_proof(read, old, new) if old <= new <= len(leaves) else ()
                    )
                ],
            }
            for old, new in pairwise(sizes)
        ],
    }


def _cosignature(told: Checkpoint, name: str, key: str) -> Any:  # noqa: ANN401 - a NoteSignature
    signer = identity(key)
    return cosign(
        told,
        key=cosigner_key(name, signer.public),
        sign=signer.sign_note,
        time_s=BEGUN_MS // 1000 + told.size,
    )


def without(plan: PrivacyPlan, **changes: Any) -> PrivacyPlan:  # noqa: ANN401 - any field
    """The plan with other values."""
    return replace(plan, **changes)
