"""A federation with a registry of its ledgers, on this machine's loopback. For tests only."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.budgets import RECEIPT, TERMS
from support.certificates import Authority

from federation.evidence import Evidence, LedgerView
from federation.registry.client import RegistryClient
from federation.registry.credentials import Credentials
from federation.registry.rate import Rate
from federation.registry.registered import registered_witnesses
from federation.registry.server import listening
from federation.registry.service import RegistryService
from federation.registry.witness import LogWitness
from privacy.budget import Budget
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.bundle import Bundle, Key, Log
from privacy.ledger.checkpoint import (
    Checkpoint,
    cosign,
    sign_checkpoint,
)
from privacy.ledger.keys import cosigner_key, log_key
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.note import VerifierKey
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import LedgerStore, append, head_of

NOW_MS = 1_800_000_000_000
NOW_S = NOW_MS // 1000
REGULATOR, BANK = "The Regulator", "bank"


def identity(seed: int) -> Identity:
    return Identity.create(lambda size: bytes([seed]) * size)


@dataclass
class Ledger:
    """A ledger, with the key that signs it."""

    store: LedgerStore
    owner: str
    role: Any = "node"
    signer: Identity = field(default_factory=lambda: identity(1))

    def __post_init__(self) -> None:
        self.origin = begin_ledger(
            self.store, self.signer, owner=self.owner, role=self.role, time_ms=0
        )

    def grow(self, count: int, word: str = "r") -> None:
        """Append entries that differ by `word`."""
        for _ in range(count):
            run = f"{word}{self.store.size()}"
            body = {"run": run, "member": "m", "reason": "no"}
            append(self.store, "run.declined", body, time_ms=0)

    def sign(self, size: int | None = None) -> Checkpoint:
        """Sign the newest state, or an earlier one, and keep it."""
        head = head_of(self.store, size)
        checkpoint = Checkpoint(self.origin, head.leaves, bytes.fromhex(head.root))
        note = sign_checkpoint(checkpoint, key=self.key, sign=self.signer.sign_note)
        self.store.keep_checkpoint(head.leaves, note)
        return checkpoint

    @property
    def key(self) -> VerifierKey:
        return log_key(self.origin, self.signer.public)

    @property
    def view(self) -> LedgerView:
        return LedgerView(
            origin=self.origin, owner=self.owner, role=self.role, dataset="loans", store=self.store
        )

    def log(self) -> Log:
        return Log(
            origin=self.origin,
            owner=self.owner,
            role=self.role,
            keys=(Key(0, self.signer.public.hex()),),
            checkpoints=tuple(note for _, note in self.store.checkpoints()),
            proofs=(),
            leaves=list(self.store.leaves()),
        )


@dataclass
class World:
    """A federation's root, its ledgers, and a registry of them."""

    authority: Authority
    coordinator: Ledger
    nodes: list[Ledger]
    folder: Path
    stack: ExitStack
    witnesses: dict[str, Identity] = field(
        default_factory=lambda: {REGULATOR: identity(21), BANK: identity(22)}
    )

    @property
    def evidence(self) -> Evidence:
        return Evidence(
            federation="test",
            coordinator=self.coordinator.view,
            nodes=tuple(node.view for node in self.nodes),
        )

    def bundle(self) -> Bundle:
        logs = tuple(ledger.log() for ledger in (self.coordinator, *self.nodes))
        return Bundle(federation="test", made_ms=NOW_MS, policy="quorum none\n", logs=logs)

    def serve(
        self,
        *,
        rate: Rate | None = None,
        evidence: Callable[[], Evidence] | None = None,
        server: Credentials | None = None,
        now_ms: Callable[[], int] = lambda: NOW_MS,
    ) -> str:
        keys = [f"{name}={self.witness_key(name).to_text()}" for name in self.witnesses]
        service = RegistryService(
            evidence or (lambda: self.evidence),
            bundle=self.bundle,
            witnesses=registered_witnesses(keys, None),
            now_ms=now_ms,
        )
        credentials = server or self.authority.server()
        at = listening(service, "127.0.0.1:0", credentials, rate=rate)
        return self.stack.enter_context(at).address

    def client(self, at: str, role: str = "regulator", name: str = REGULATOR) -> RegistryClient:
        return self.stack.enter_context(
            RegistryClient(at, self.authority.client(role, name), deadline_s=60)
        )

    def witness_key(self, name: str) -> VerifierKey:
        return cosigner_key(name, self.witnesses[name].public)

    def line(self, name: str, checkpoint: Checkpoint, time_s: int = NOW_S) -> str:
        key, signer = self.witness_key(name), self.witnesses[name]
        return cosign(checkpoint, key=key, sign=signer.sign_note, time_s=time_s).to_line()

    def watcher(
        self, folder: str = "memory", *, logs: dict[str, VerifierKey] | None = None
    ) -> LogWitness:
        return LogWitness(
            self.folder / folder,
            key=self.witness_key(REGULATOR),
            sign=self.witnesses[REGULATOR].sign_note,
            logs=logs,
        )


@contextmanager
def made_world(authority: Authority, folder: Path) -> Iterator[World]:
    """A coordinator's ledger and two members', each with a signed state."""
    coordinator = Ledger(MemoryLedger(), "coordinator", "coordinator")
    coordinator.grow(9)
    coordinator.sign(4)
    coordinator.sign()
    nodes: list[Ledger] = []
    with ExitStack() as stack:
        for place, member in enumerate(("bank", "mill")):
            store = SqliteLedger(folder / f"{member}.sqlite")
            stack.callback(store.close)
            node = Ledger(store, member, signer=identity(10 + place))
            spend(store, member)
            node.sign()
            nodes.append(node)
        yield World(authority, coordinator, nodes, folder, stack)


def spend(store: LedgerStore, member: str) -> None:
    from dataclasses import replace

    budget = Budget(store, replace(TERMS, member=member), now_ms=lambda: NOW_MS)
    budget.reserve("a", "update", 1, RECEIPT)
    budget.reserve("a", "update", 2, RECEIPT)
    budget.commit("a", "update", 1)
