"""Ledgers of a small federation, written act by act as coordinator and nodes would write them.

Entries are of the table, budgets add up and checkpoints are signed; members' signatures in the
coordinator's entries are not, as whatever reads evidence without verifying it does not need them.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.evidence import Evidence, LedgerView
from privacy.identity import Identity
from privacy.ledger.bundle import Bundle, Key, Log
from privacy.ledger.checkpoint import Checkpoint, cosign, sign_checkpoint, with_cosignatures
from privacy.ledger.entry import EVALUATIONS, UPDATE, Entry
from privacy.ledger.keys import cosigner_key, log_key, log_origin
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.merkle import Frontier, leaf_hash
from privacy.ledger.note import VerifierKey
from privacy.ledger.store import LedgerStore, Turn
from privacy.manifest import Manifest
from privacy.plan import PrivacyPlan
from privacy.release import ABORT_DOMAIN, abort_message

MEMBERS = ("amber-bank", "birch-credit", "cedar-leasing", "delta-finance")
COORDINATOR = "coordinator"
BEGUN_MS = 1_790_000_000_000
MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
NO_SIGNATURE = "00" * 64
WATCH, TEST, _ = EVALUATIONS
PLAN = PrivacyPlan(
    noise="distributed",
    mechanism="gaussian",
    unit="borrower",
    parts="apart",
    rate=0.01,
    rows_per_unit=1,
    clip=1.0,
    steps=1,
    watches=2,
    update_share=2.0,
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


def seed_of(name: str) -> bytes:
    return bytes.fromhex(digest("seed", name))


def public_of(name: str) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed_of(name)).public_key().public_bytes_raw()


def _in_memory(_: str) -> LedgerStore:
    return MemoryLedger()


class Story:
    """What happened in a federation, from its beginning; `now_ms` moves on with each act."""

    def __init__(
        self,
        members: Sequence[str] = MEMBERS,
        *,
        federation: str = "north harbour",
        cap: float | None = 4.0,
        solo_cap: float | None = None,
        period_days: float | None = 365.0,
        tick_ms: int = 1000,
        store: Callable[[str], LedgerStore] = _in_memory,
    ) -> None:
        self.members = tuple(members)
        self.federation = federation
        self.cap, self.solo_cap, self.period_days = cap, solo_cap, period_days
        self.now_ms = BEGUN_MS
        self.tick_ms = tick_ms
        self.stores: dict[str, LedgerStore] = {
            name: store(name) for name in (COORDINATOR, *self.members)
        }
        self.trees = dict.fromkeys(self.stores, Frontier())
        self.manifests: dict[str, Manifest] = {}
        self.sums: Counter[str] = Counter()
        self.model = digest("model", 0)
        self._turns: dict[str, Turn] = {}
        for name in self.stores:
            self._begin(name)
        for name in self.members:
            self.terms(name)

    # -- single acts --

    def add(self, ledger: str, kind: str, **body: Any) -> Entry:  # noqa: ANN401 - any field of an entry
        """One entry, a moment later."""
        self.now_ms += self.tick_ms
        turn = self._turns.get(ledger)
        if turn is not None:
            entry = turn.append(kind, body, time_ms=self.now_ms)
        else:
            with self.stores[ledger].turn() as one:
                entry = one.append(kind, body, time_ms=self.now_ms)
        self.trees[ledger] = self.trees[ledger].append(leaf_hash(entry.leaf()))
        return entry

    def in_bulk(self) -> ExitStack:
        """Hold every ledger, so that many acts are one transaction."""
        stack = ExitStack()
        for name, store in self.stores.items():
            self._turns[name] = stack.enter_context(store.turn(durable=False))
        stack.callback(self._turns.clear)
        return stack

    def terms(self, member: str, **changes: Any) -> Entry:  # noqa: ANN401 - any field of an entry
        terms: dict[str, Any] = {
            "member": member,
            "dataset": "leases",
            "unit": "borrower",
            "epsilon": self.cap,
            "delta": 1e-5,
            "order": 16,
            "colluders": 1,
            "period_days": self.period_days,
            "solo_epsilon": self.solo_cap,
            "solo_order": 8,
        }
        return self.add(member, "budget.terms", **{**terms, **changes})

    def start(
        self,
        run: str,
        *,
        members: Sequence[str] | None = None,
        declined: Mapping[str, str] | None = None,
        plan: PrivacyPlan | None = PLAN,
        task: str = "credit",
    ) -> None:
        """Consents, the start, the keys; whoever declines has its own word for it, too."""
        declined = declined or {}
        names = [name for name in members or self.members if name not in declined]
        manifest = Manifest(
            run=run,
            name="default of leases",
            task=task,
            unit="borrower",
            contract=digest("contract"),
            directory={name: public_of(name).hex() for name in names},
            minimum_cohort=3,
            protection="masked",
            group_size=0,
            privacy=plan,
            ledger={"origin": self.origin(COORDINATOR), "key": public_of(COORDINATOR).hex()},
            node_settings={"training": {"rounds": 2}},
            coordinator_settings={"deadline_s": 60},
        )
        self.manifests[run] = manifest
        told = manifest.digest().hex()
        for name, reason in declined.items():
            if name in self.stores:
                self.add(name, "run.refused", manifest=told, reason=reason)
            self.add(COORDINATOR, "run.declined", run=run, member=name, reason=reason)
        self.add(
            COORDINATOR,
            "data.declared",
            run=run,
            contract=manifest.contract,
            dataset="leases",
            unit="borrower",
            classes={"L1": 2, "L2": 5, "L3": 11},
            retention_days=180,
        )
        self.add(
            COORDINATOR,
            "run.started",
            run=run,
            name=manifest.name,
            task=task,
            members=dict(manifest.directory),
            minimum=3,
            group_size=0,
            manifest=told,
            document=manifest.to_bytes().decode(),
            signature=NO_SIGNATURE,
            launcher=digest("launcher"),
            protection="masked",
        )
        for name in names:
            self.add(name, "run.joined", run=run, manifest=told, origin=self.origin(COORDINATOR))
            self.add(COORDINATOR, "run.consented", run=run, member=name, signature=NO_SIGNATURE)
        self.add(
            COORDINATOR,
            "keys.agreed",
            run=run,
            roster=digest("roster", run),
            fingerprint=digest("keys", run),
            public_bytes=4096,
        )

    def release(
        self,
        run: str,
        step: str,
        number: int,
        *,
        without: Iterable[str] = (),
        opened: bool = True,
        settled: bool = True,
        kept: bool = True,
    ) -> None:
        """A sum: reserved by the nodes and the coordinator, opened, accepted, and settled."""
        manifest = self.manifests[run]
        asked = list(manifest.members)
        there = [name for name in asked if name not in set(without)]
        receipt = manifest.receipt(step, number, 500).to_json()
        about: dict[str, Any] = {"run": run, "step": step, "round": number}
        for name in there:
            self.add(name, "budget.reserved", **about, dataset="leases", receipt=receipt)
        self.sums[run] += 1
        context = digest(run, step, number, self.sums[run])
        self.add(
            COORDINATOR,
            "sum.reserved",
            **about,
            asked=asked,
            schema=digest("schema"),
            model=self.model,
            context=context,
            protection="masked",
            receipt=receipt,
            nodes={name: self.said(name) for name in there},
        )
        if opened:
            signatures = dict.fromkeys(there, NO_SIGNATURE)
            self.add(
                COORDINATOR,
                "sum.opened",
                **about,
                context=context,
                members=there,
                aggregate=digest("sum", context),
                payload_bytes=41_900,
                signatures=signatures,
            )
            self.add(
                COORDINATOR,
                "sum.accepted",
                **about,
                model=self.model,
                kept=kept,
                signatures=signatures,
            )
        if opened and settled:
            for name in there:
                self.add(name, "budget.committed", **about, dataset="leases")

    def round(self, run: str, number: int, **how: Any) -> None:  # noqa: ANN401 - see `release`
        """One round of training."""
        self.release(run, UPDATE, number, **how)
        before, self.model = self.model, digest("model", run, number)
        self.add(
            COORDINATOR,
            "round.committed",
            run=run,
            round=number,
            model_before=before,
            model_after=self.model,
        )

    def take_back(self, member: str, run: str, number: int, *, signed: bool = True) -> None:
        """A reservation of which nothing left."""
        about: dict[str, Any] = {"run": run, "step": UPDATE, "round": number}
        receipt = self.manifests[run].receipt(UPDATE, number, 500).to_json()
        self.add(member, "budget.reserved", **about, dataset="leases", receipt=receipt)
        word = abort_message(run, UPDATE, number, dataset="leases")
        identity = Identity.create(lambda _: seed_of(member))
        self.add(
            member,
            "budget.aborted",
            **about,
            dataset="leases",
            reason="the deadline had passed before anything was sent",
            signature=identity.sign(ABORT_DOMAIN, word).hex() if signed else NO_SIGNATURE,
        )

    def finish(self, run: str, rounds: int) -> None:
        self.add(COORDINATOR, "run.finished", run=run, rounds=rounds, model=self.model)

    def stop(self, run: str, reason: str = "stopped by hand") -> None:
        self.add(COORDINATOR, "run.stopped", run=run, reason=reason)

    def whole_run(self, run: str, rounds: int = 2, **how: Any) -> None:  # noqa: ANN401 - see `start`
        """Statistics, rounds with a validation, the end."""
        self.start(run, **how)
        self.release(run, "statistics", 0)
        self.add(
            COORDINATOR,
            "model.agreed",
            run=run,
            architecture=digest("architecture"),
            model=self.model,
            values=500,
        )
        for number in range(1, rounds + 1):
            self.round(run, number)
        self.release(run, WATCH, rounds)
        self.release(run, TEST, rounds)
        self.finish(run, rounds)

    def said(self, member: str) -> dict[str, object]:
        """What a node says of its own ledger."""
        tree = self.trees[member]
        return {"leaves": tree.size, "root": tree.root().hex(), "signature": NO_SIGNATURE}

    def checkpoint(
        self, cosigners: Iterable[str] | None = None, *, ledger: str = COORDINATOR, signer: str = ""
    ) -> bytes:
        """A signed state of a ledger; all members cosign unless others are named."""
        origin = self.origin(ledger)
        key = log_key(origin, public_of(ledger))
        signing = Ed25519PrivateKey.from_private_bytes(seed_of(ledger))
        tree = self.trees[ledger]
        told = Checkpoint(origin, tree.size, tree.root())
        note = sign_checkpoint(told, key=key, sign=signing.sign)
        names = self.members if cosigners is None else tuple(cosigners)
        note = with_cosignatures(
            note,
            [
                cosign(
                    told,
                    key=cosigner_key(name, public_of(name)),
                    sign=Ed25519PrivateKey.from_private_bytes(seed_of(name)).sign,
                    time_s=self.now_ms // 1000,
                )
                for name in names
            ],
        )
        if signer:
            note = note.replace(key.to_text().split("+")[0].encode(), signer.encode(), 1)
        self.stores[ledger].keep_checkpoint(tree.size, note)
        return note

    # -- all of it --

    def origin(self, ledger: str) -> str:
        return log_origin(ledger, public_of(ledger))

    def log_key(self, ledger: str = COORDINATOR) -> VerifierKey:
        return log_key(self.origin(ledger), public_of(ledger))

    def evidence(self) -> Evidence:
        return Evidence(
            federation=self.federation,
            coordinator=self._view(COORDINATOR),
            nodes=tuple(self._view(name) for name in sorted(self.members)),
        )

    def bundle(self) -> Bundle:
        """The same as a bundle, without proofs between checkpoints."""
        return Bundle(
            federation=self.federation,
            made_ms=self.now_ms,
            policy="quorum none\n",
            logs=tuple(
                Log(
                    origin=self.origin(name),
                    owner=name,
                    role=COORDINATOR if name == COORDINATOR else "node",
                    keys=(Key(0, public_of(name).hex()),),
                    checkpoints=tuple(note for _, note in store.checkpoints()),
                    proofs=(),
                    leaves=list(store.leaves()),
                )
                for name, store in self.stores.items()
            ),
        )

    def _view(self, name: str) -> LedgerView:
        return LedgerView(
            origin=self.origin(name),
            owner=name,
            role=COORDINATOR if name == COORDINATOR else "node",
            dataset="" if name == COORDINATOR else digest("contract"),
            store=self.stores[name],
        )

    def _begin(self, name: str) -> None:
        self.add(
            name,
            "ledger.begun",
            origin=self.origin(name),
            key=public_of(name).hex(),
            owner=name,
            role=COORDINATOR if name == COORDINATOR else "node",
        )


def sound(*, rounds: int = 3) -> Story:
    """Two finished runs, of which nothing is to be said."""
    story = Story()
    story.whole_run("2026-11-credit-a1b2", rounds)
    story.whole_run("2026-11-credit-c3d4", rounds)
    story.checkpoint()
    return story
