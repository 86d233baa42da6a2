"""Runs over the network without members: orders, an engine that does as it is told. Tests only."""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from support.registry import identity

from aggregator.coordinator import RunResult
from aggregator.ports import Observer
from federation.home import Home
from federation.ledger_recorder import LedgerRecorder
from federation.runs.desk import RunDesk
from federation.runs.order import Order
from privacy.canonical import canonical_json
from privacy.errors import RefusedError
from privacy.grown import Grown
from privacy.identity import Identity
from privacy.ledger.memory import MemoryLedger
from privacy.manifest import SIGNING_DOMAIN, Manifest
from privacy.membership import Membership, Participant

NOW_MS = 1_800_000_000_000
MEMBERS: Mapping[str, tuple[str, Identity]] = {
    "Bank": ("bank", identity(31)),
    "Insurer": ("insurer", identity(32)),
    "Mill": ("manufacturer", identity(33)),
    "Forge": ("manufacturer", identity(34)),
}
ACTS = (b"\1" * 32, b"\2" * 32, b"\3" * 32)
"""Digests of the acts of membership, which nobody looks behind here."""
DATA = {
    "contract": "ab" * 32,
    "dataset": "loans",
    "unit": "borrower",
    "classes": {"L2": 3},
    "retention_days": None,
}
RULES = {"rules": "cd" * 32, "warnings": []}
RESULT = RunResult(
    model=b"\1" * 32,
    architecture=b"\2" * 32,
    values=10,
    bytes_up=80,
    bytes_down=80,
    bytes_total=300,
    undone=0,
    absences={"Bank": 0, "Insurer": 0, "Mill": 1},
)


def membership(**revoked: bool) -> Membership:
    """Everybody of `MEMBERS`, an operator and a regulator."""
    people = {
        name: Participant(name, role, one.public, revoked=revoked.get(name, False))
        for name, (role, one) in MEMBERS.items()
    }
    people["Mill"] = replace(people["Mill"], attributes={"region": "north"})
    people["Operator"] = Participant("Operator", "operator", identity(41).public)
    people["Regulator"] = Participant("Regulator", "regulator", identity(42).public)
    return Membership(
        federation="test",
        root="00" * 32,
        approvals=1,
        founder="Operator",
        founder_key=identity(41).public,
        participants=people,
        digests=Grown(ACTS),
    )


def recorder() -> LedgerRecorder:
    """A coordinator's ledger in memory, with the same key each time."""
    return LedgerRecorder(MemoryLedger(), identity(40))


def manifest(run: str = "a-run", **changes: Any) -> Manifest:  # noqa: ANN401 - fields
    """A run of three members."""
    ledger = {
        "origin": recorder().origin,
        "key": identity(40).public.hex(),
        **membership().told,
    }
    plain = Manifest(
        run=run,
        name="small",
        task="credit",
        unit="borrower",
        contract=str(DATA["contract"]),
        directory={name: MEMBERS[name][1].public.hex() for name in ("Bank", "Insurer", "Mill")},
        minimum_cohort=3,
        protection="masked",
        group_size=0,
        privacy=None,
        ledger=ledger,
        node_settings={},
        coordinator_settings={"rounds": 3, "statistics_stages": 1},
    )
    return replace(plain, **changes)


def signed(document: Manifest, by: str = "Bank") -> bytes:
    """A launcher's signature."""
    return MEMBERS[by][1].sign(SIGNING_DOMAIN, document.to_bytes())


def order(run: str = "a-run", by: str = "Bank", **changes: Any) -> Order:  # noqa: ANN401 - fields
    """What a launcher asks for."""
    document = manifest(run, **changes)
    return Order(
        manifest=document,
        signature=signed(document, by),
        launcher=by,
        key=MEMBERS[by][1].public,
        data=DATA,
        rules=RULES,
        launched_ms=NOW_MS,
    )


def bodies() -> dict[str, bytes]:
    """What goes beside a manifest."""
    return {"data": canonical_json(DATA), "rules": canonical_json(RULES)}


def started(book: LedgerRecorder, asked: Order) -> None:
    """Put a run's beginning on record, as a coordinator does."""
    document = asked.manifest
    body = {
        "run": document.run,
        "name": document.name,
        "task": document.task,
        "members": dict(document.directory),
        "minimum": document.minimum_cohort,
        "group_size": document.group_size,
        "manifest": document.digest().hex(),
        "document": document.to_bytes().decode(),
        "signature": asked.signature.hex(),
        "launcher": asked.key.hex(),
        "protection": document.protection,
    }
    book.record("run.started", body)


@dataclass
class Script:
    """`federation.runs.engine.Engine` that does what a test says.

    Attributes:
        book: Where it records.
        then: What it does once a run is on record; it may wait for `stop`.
        begun: Set when a run began.
        runs: What was carried out, in order.
        witnessed: What members cosigned after.
        dismissed: What members were told the end of.
        there: Members that can be reached.
        behind: Members that cannot come to the end.
    """

    book: LedgerRecorder
    then: Callable[[Order, Observer, threading.Event], None] = lambda *_: None
    begun: threading.Event = field(default_factory=threading.Event)
    runs: list[str] = field(default_factory=list)
    witnessed: list[str] = field(default_factory=list)
    dismissed: list[str] = field(default_factory=list)
    there: set[str] = field(default_factory=set)
    behind: tuple[str, ...] = ()

    def carry_out(
        self, order: Order, folder: Path, *, stop: threading.Event, observer: Observer
    ) -> RunResult:
        assert folder.is_dir()
        self.runs.append(order.run)
        started(self.book, order)
        observer.step("inviting the members")
        self.begun.set()
        self.then(order, observer, stop)
        if stop.is_set():
            raise RefusedError("the run was stopped")
        self.book.record(
            "run.finished", {"run": order.run, "rounds": 3, "model": RESULT.model.hex()}
        )
        return replace(RESULT, behind=self.behind)

    def witness(self, manifest: Manifest, *, stop: threading.Event, observer: Observer) -> int:
        del stop, observer
        self.witnessed.append(manifest.run)
        return 3

    def dismiss(self, manifest: Manifest, members: Collection[str]) -> tuple[str, ...]:
        self.dismissed.append(manifest.run)
        return tuple(sorted(set(members) - self.there))

    def online(self, manifest: Manifest) -> frozenset[str]:
        del manifest
        return frozenset(self.there)


def until_stopped(asked: Order, observer: Observer, stop: threading.Event) -> None:
    """Wait, as a run that nobody answers."""
    del asked, observer
    assert stop.wait(60)


def desk(home: Path, engine: Script) -> RunDesk:
    """A desk in a home."""
    return RunDesk(Home(home), engine.book, engine, now_ms=lambda: NOW_MS)
