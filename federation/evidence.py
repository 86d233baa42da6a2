"""What a home or a bundle holds as evidence: ledgers with their owners, and their export."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from clients.ledger_files import LEDGER
from federation.home import Home
from federation.ledger_place import open_store
from privacy.errors import InputError, NotVerifiedError
from privacy.identity import Identity
from privacy.ledger.bundle import Bundle, Growth, Key, Log
from privacy.ledger.checkpoint import Checkpoint, sign_checkpoint
from privacy.ledger.entry import parse_leaf
from privacy.ledger.grammar import rotated
from privacy.ledger.keys import log_key
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.merkle import Frontier, consistency_proof
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import LedgerStore, checked_frontier
from privacy.ledger.trust import TrustPolicy, parse_policy

POLICY = "trust-policy.txt"
"""Of a home: whom an auditor is to trust, in the form of C2SP tlog-policy. Without it, nobody has
to cosign beside two thirds of each run's members."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerView:
    """One ledger that can be read.

    Attributes:
        origin: Its name in checkpoints.
        owner: Whose it is: a member's name, or `coordinator`.
        role: `coordinator` or `node`.
        dataset: Of a node's: the folder's data contract; empty where that is not known.
        store: Its entries, hashes and checkpoints.
    """

    origin: str
    owner: str
    role: str
    dataset: str
    store: LedgerStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All ledgers at hand.

    Attributes:
        federation: Its name, for people.
        coordinator: None where only nodes' ledgers are at hand.
        nodes: In the order of their names.
    """

    federation: str
    coordinator: LedgerView | None
    nodes: tuple[LedgerView, ...]

    @property
    def views(self) -> tuple[LedgerView, ...]:
        """All of them, the coordinator's first."""
        return (*(() if self.coordinator is None else (self.coordinator,)), *self.nodes)


def home_evidence(home: Home) -> Evidence:
    """Return the ledgers of a home; nothing is checked or written.

    Raises:
        InputError: There is none yet.
        NotVerifiedError: A file is no ledger.
    """
    store = open_store(home.ledger_place)
    coordinator = _view(store, "") if store.size() else None
    places = [
        (path, path.parent.parent.name) for path in sorted(home.root.glob(f"nodes/*/*/{LEDGER}"))
    ]
    own = home.own_node / LEDGER
    if own.exists():
        places.append((own, ""))
    stores = [(SqliteLedger(path), dataset) for path, dataset in places]
    # a file in which nothing ever stood (a disk was full) is as good as none: whoever knows of
    # entries in it, as the coordinator's record does, misses them either way
    nodes = [_view(store, dataset) for store, dataset in stores if store.size()]
    if coordinator is None and not nodes:
        raise InputError(f"{home.root}: there is no ledger yet; launch a run first.")
    return Evidence(
        federation=home.root.name,
        coordinator=coordinator,
        nodes=tuple(sorted(nodes, key=lambda view: (view.owner, view.dataset))),
    )


def bundled_evidence(bundle: Bundle) -> Evidence:
    """Return what a bundle holds, as ledgers in memory; nothing is checked."""
    views = [
        LedgerView(
            origin=log.origin,
            owner=log.owner,
            role=log.role,
            dataset="",
            store=_in_memory(log),
        )
        for log in bundle.logs
    ]
    first = next((view for view in views if view.role == "coordinator"), None)
    return Evidence(
        federation=bundle.federation,
        coordinator=first,
        nodes=tuple(view for view in views if view.role == "node"),
    )


def home_bundle(home: Home) -> Bundle:
    """Return all evidence of a home as one bundle, each ledger's newest state signed by its key.

    Raises:
        InputError: There is none yet, an identity is missing, or the trust policy cannot be read.
        NotVerifiedError: A ledger is not what was written; it is not signed then.
    """
    evidence = home_evidence(home)
    identities = {view.origin: _identity(home, view) for view in evidence.views}
    return replace(to_bundle(evidence, identities), policy=_policy(home, evidence).to_text())


def live_bundle(home: Home) -> Bundle:
    """Return all evidence of a home as it is; what came after signed states is unsigned."""
    evidence = home_evidence(home)
    return replace(to_bundle(evidence, {}), policy=_policy(home, evidence).to_text())


def to_bundle(evidence: Evidence, identities: Mapping[str, Identity]) -> Bundle:
    """Return evidence as a bundle, without a policy.

    Ledgers may be written to meanwhile. What a node knows to be accepted was on the coordinator's
    record before, so nodes are looked at first; and what the coordinator's record says of a node
    was in that node's ledger before, so each is read as far as the coordinator knows it.

    Args:
        evidence: The ledgers.
        identities: Origin -> who signs its newest state; a ledger without one is not signed.

    Raises:
        InputError: An identity is not the one whose key the ledger has.
        NotVerifiedError: A ledger is not what was written, or was cut off; it is not signed then.
    """
    sizes = {view.origin: view.store.size() for view in evidence.nodes}
    first = evidence.coordinator
    logs = [] if first is None else [_log(first, identities.get(first.origin), None)]
    known = told_heads(logs[0].leaves) if logs else {}
    for view in evidence.nodes:
        own = parse_leaf(next(iter(view.store.leaves(0, 1)))).body
        told = known.get(bytes.fromhex(str(own["key"])), 0)
        stop = max(sizes[view.origin], told)
        logs.append(_log(view, identities.get(view.origin), stop))
    return Bundle(
        federation=evidence.federation,
        made_ms=time.time_ns() // 1_000_000,
        policy="quorum none\n",
        logs=tuple(logs),
    )


def merged(bundles: Sequence[Bundle]) -> Bundle:
    """Return what several homes exported as one bundle; nothing of it is checked but this.

    Of a ledger that is in several of them, the longest is taken. Policy and name are those of the
    bundle that has the coordinator's ledger.

    Raises:
        InputError: There is nothing to put together, or two coordinators' ledgers.
        NotVerifiedError: Two copies of a ledger differ in what both have.
    """
    logs: dict[str, Log] = {}
    for log in (log for bundle in bundles for log in bundle.logs):
        other = logs.setdefault(log.origin, log)
        shorter, longer = sorted((log, other), key=lambda one: len(one.leaves))
        if list(longer.leaves[: len(shorter.leaves)]) != list(shorter.leaves):
            raise NotVerifiedError(
                f"there are two histories of {log.origin}; ask {log.owner} which copy is changed"
            )
        logs[log.origin] = longer
    first = [log for log in logs.values() if log.role == "coordinator"]
    if len(first) > 1:
        raise InputError("These bundles are of two coordinators; verify them one by one.")
    whole = next(
        (one for one in bundles if any(log.role == "coordinator" for log in one.logs)),
        next(iter(bundles), None),
    )
    if whole is None:
        raise InputError("There is no bundle to put together; give at least one.")
    nodes = sorted(
        (log for log in logs.values() if log.role != "coordinator"), key=lambda log: log.owner
    )
    made_ms = max(bundle.made_ms for bundle in bundles)
    return replace(whole, made_ms=made_ms, logs=(*first, *nodes))


def told_heads(leaves: Iterable[bytes]) -> dict[bytes, int]:
    """Return a member's public key -> the most entries that it ever had, by a coordinator's."""
    keys: dict[str, Mapping[str, str]] = {}
    found: dict[bytes, int] = {}
    for leaf in leaves:
        # a look at the bytes spares parsing every entry
        if b'"kind":"run.started"' not in leaf and b'"kind":"sum.reserved"' not in leaf:
            continue
        body: dict[str, Any] = dict(parse_leaf(leaf).body)
        if "members" in body and "nodes" not in body:
            keys[body["run"]] = body["members"]
        for member, head in body.get("nodes", {}).items():
            public = bytes.fromhex(keys[body["run"]][member])
            found[public] = max(found.get(public, 0), head["leaves"])
    return found


def _log(view: LedgerView, identity: Identity | None, stop: int | None) -> Log:
    store = view.store
    # a state is signed after its entries, so they are there when it is
    notes = dict(store.checkpoints())
    leaves = list(store.leaves(0, stop))
    keys = _keys(leaves)
    if identity is not None and len(leaves) not in notes:
        if notes and max(notes) > len(leaves):
            raise NotVerifiedError(
                f"{store.place} was cut off: a signed state has {max(notes)} entries and "
                f"{len(leaves)} are here; restore it from a copy"
            )
        if keys and keys[-1].public != identity.public.hex():
            raise InputError(
                f"{store.place} has another key than the identity beside it; restore the identity."
            )
        # read from disk and hashed anew, all of them: what is handed out is what is signed
        tree = checked_frontier(store, since=Frontier(), size=len(leaves))
        notes[len(leaves)] = sign_checkpoint(
            Checkpoint(view.origin, tree.size, tree.root()),
            key=log_key(view.origin, identity.public),
            sign=identity.sign_note,
        )
    sizes = sorted(notes)
    return Log(
        origin=view.origin,
        owner=view.owner,
        role=view.role,
        keys=keys,
        checkpoints=tuple(notes[size] for size in sizes),
        proofs=tuple(_growth(store, old, new) for old, new in pairwise(sizes)),
        leaves=leaves,
    )


def _growth(store: LedgerStore, old: int, new: int) -> Growth:
    try:
        return Growth(old, new, consistency_proof(store.node, old, new))
    except NotVerifiedError:
        # entries are gone; an empty proof says so to whoever verifies
        return Growth(old, new, ())


def _keys(leaves: Sequence[bytes]) -> tuple[Key, ...]:
    if not leaves:
        return ()
    keys = [(0, bytes.fromhex(str(parse_leaf(leaves[0]).body.get("key", ""))))]
    for leaf in leaves:
        # a look at the bytes spares parsing every entry
        if b'"kind":"key.rotated"' in leaf:
            keys.append(rotated(parse_leaf(leaf), keys[-1][1]))
    return tuple(Key(since, public.hex()) for since, public in keys)


def _policy(home: Home, evidence: Evidence) -> TrustPolicy:
    path = home.root / POLICY
    if path.exists():
        try:
            return parse_policy(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError(f"{path}: cannot be read; write it as C2SP tlog-policy.") from None
    view = evidence.coordinator
    if view is None:
        return TrustPolicy(logs=(), witnesses={}, groups={}, quorum=None)
    first = parse_leaf(next(iter(view.store.leaves(0, 1))))
    key = log_key(view.origin, bytes.fromhex(str(first.body["key"])))
    return TrustPolicy(logs=(key,), witnesses={}, groups={}, quorum=None)


def _view(store: LedgerStore, dataset: str) -> LedgerView:
    first = next(iter(store.leaves(0, 1)), None)
    if first is None:
        raise NotVerifiedError(f"{store.place} holds no entries; restore it from a copy")
    body = parse_leaf(first).body
    try:
        return LedgerView(
            origin=str(body["origin"]),
            owner=str(body["owner"]),
            role=str(body["role"]),
            dataset=unquote(dataset),
            store=store,
        )
    except KeyError:
        raise NotVerifiedError(
            f"{store.place} does not begin as a ledger does; restore it from a copy"
        ) from None


def _identity(home: Home, view: LedgerView) -> Identity:
    place = Path(view.store.place)
    if view.role == "coordinator":
        return Identity.load(home.coordinator)
    if place.parent == home.own_node:
        return Identity.load(home.participant / "identity.pem")
    return Identity.load(place.with_name("identity.pem"))


def _in_memory(log: Log) -> MemoryLedger:
    ledger = MemoryLedger(log.leaves, place=f"the bundle's {log.origin}")
    notes: dict[int, bytes] = {}
    for note in log.checkpoints:
        try:
            notes[int(note.split(b"\n", 2)[1])] = note
        except (IndexError, ValueError):
            raise NotVerifiedError("a signed state in the bundle cannot be read") from None
    for size, note in notes.items():
        ledger.keep_checkpoint(size, note)
    return ledger
