"""What rules look at, as plain facts: a contract, a run as planned, runs as a ledger has them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from clients.contract import Column, DataContract
    from clients.spec import ModelSpec
    from federation.config import Project

CLASSES = ("L1", "L2", "L3", "L4")
UNKNOWN_CLASS = "?"
ADDITIVE = "additive"
_LABELS = ("label", "exposure", "event")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """A run, as far as rules ask.

    Attributes:
        name: How people call it.
        task: `failure`, `claims` or `credit`.
        protection: How its sums are protected.
        fewest: Fewest members in any sum that it opens.
        noise: Whether noise covers all that leaves.
        model: The model's kind; a network without hidden layers is `additive`.
        without: Columns of the contract that it leaves aside.
    """

    name: str
    task: str
    protection: str
    fewest: int
    noise: bool
    model: str
    without: tuple[str, ...] = ()


def facts_of_project(project: "Project") -> RunFacts:
    """The facts of a run config."""
    config = project.config
    return RunFacts(
        name=config.name,
        task=config.task,
        protection=config.protection.sum,
        fewest=_fewest(config.minimum_cohort, config.group_size),
        noise=config.privacy.noise != "none",
        model=_kind(config.model),
        without=config.features.without,
    )


class ManifestLike(Protocol):
    """What is asked of a manifest; `privacy.manifest.Manifest` is one."""

    @property
    def run(self) -> str:
        """The run's id."""

    @property
    def task(self) -> str:
        """Its task."""

    @property
    def protection(self) -> str:
        """How its sums are protected."""

    @property
    def minimum_cohort(self) -> int:
        """Fewest members in a sum."""

    @property
    def group_size(self) -> int:
        """Fewest members in a group; 0 without groups."""

    @property
    def privacy(self) -> object:
        """Its noise; None without."""

    @property
    def node_settings(self) -> Mapping[str, Any]:
        """The node's part."""


def facts_of_manifest(manifest: ManifestLike) -> RunFacts:
    """The facts of a manifest.

    Raises:
        ProtocolError: Its node settings are none.
    """
    from clients.spec import parse_node_spec

    spec = parse_node_spec(dict(manifest.node_settings))
    return RunFacts(
        name=manifest.run,
        task=manifest.task,
        protection=manifest.protection,
        fewest=_fewest(manifest.minimum_cohort, manifest.group_size),
        noise=manifest.privacy is not None,
        model=_kind(spec.model),
        without=spec.features.without,
    )


def _fewest(minimum: int, group_size: int) -> int:
    return min(minimum, group_size) if group_size else minimum


def _kind(model: "ModelSpec") -> str:
    # without a hidden layer each input adds its own term to the score
    return ADDITIVE if model.kind == "mlp" and not model.hidden else model.kind


@dataclass(frozen=True, slots=True)
class ContractSubject:
    """A contract on a day."""

    contract: "DataContract"
    at: datetime


@dataclass(frozen=True)
class RunSubject:
    """A run about the rows of a contract."""

    contract: "DataContract"
    facts: RunFacts

    @cached_property
    def inputs(self) -> "tuple[Column, ...]":
        """Columns that its model reads."""
        return tuple(
            column for column in self.contract.inputs if column.name not in self.facts.without
        )

    @cached_property
    def touched(self) -> "tuple[Column, ...]":
        """Columns on which what leaves a node depends: inputs, and what labels are made of."""
        roles = (*_LABELS, "time") if self.contract.is_telemetry else _LABELS
        return (*self.inputs, *self.contract.by_role(*roles))


class EntryLike(Protocol):
    """An entry of a ledger."""

    @property
    def index(self) -> int:
        """Its place."""

    @property
    def time_ms(self) -> int:
        """Milliseconds since 1970 UTC."""

    @property
    def kind(self) -> str:
        """What it is."""

    @property
    def body(self) -> Mapping[str, object]:
        """What it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOnRecord:
    """One run, as a ledger has it.

    Attributes:
        run: Its id.
        started: When.
        minimum: Fewest members in a sum, by its manifest.
        data_class: Highest class of its data with a column; `?` where the ledger does not say.
        retention_days: Of its data; None where the ledger does not say.
        consented: Members who agreed.
        summed: Members who are in an opened sum.
        small: Fewest members in an opened sum; None without one.
        small_at: That entry's place.
        exact: Sums without noise, opened or reserved.
        checked: Whether rules were checked when it was launched.
        stopped: The reason why it was stopped; None if it was not.
    """

    run: str
    started: datetime
    minimum: int
    data_class: str
    retention_days: int | None
    consented: frozenset[str]
    summed: frozenset[str]
    small: int | None
    small_at: int
    exact: int
    checked: bool
    stopped: str | None


@dataclass(frozen=True, slots=True)
class LedgerSubject:
    """The runs of a ledger on a day."""

    runs: tuple[RunOnRecord, ...]
    at: datetime


@dataclass(slots=True)
class _Reading:
    run: str
    started_ms: int
    minimum: int = 0
    data_class: str = UNKNOWN_CLASS
    retention_days: int | None = None
    consented: set[str] = field(default_factory=set)
    summed: set[str] = field(default_factory=set)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    exact: int = 0
    checked: bool = False
    stopped: str | None = None

    def take(self, entry: EntryLike) -> None:
        body = entry.body
        match entry.kind:
            case "run.started":
                self.started_ms = entry.time_ms
                self.minimum = _natural(body.get("minimum")) or 0
            case "rules.checked":
                self.checked = True
            case "data.declared":
                self.data_class = _highest(body.get("classes"))
                self.retention_days = _natural(body.get("retention_days"))
            case "run.consented":
                self.consented.add(str(body.get("member")))
            case "sum.opened":
                members = [str(member) for member in _list(body.get("members"))]
                self.summed |= set(members)
                self.sizes.append((len(members), entry.index))
            case "sum.reserved" | "receipt":
                receipt = body.get("receipt")
                # what says nothing of its noise has none
                mechanism = receipt.get("mechanism") if isinstance(receipt, Mapping) else None
                self.exact += mechanism in {None, "none"}
            case "run.stopped":
                self.stopped = str(body.get("reason") or "")
            case _:
                pass

    def done(self) -> RunOnRecord:
        small, small_at = min(self.sizes, default=(None, 0))
        return RunOnRecord(
            run=self.run,
            started=datetime.fromtimestamp(self.started_ms / 1000, UTC),
            minimum=self.minimum,
            data_class=self.data_class,
            retention_days=self.retention_days,
            consented=frozenset(self.consented),
            summed=frozenset(self.summed),
            small=small,
            small_at=small_at,
            exact=self.exact,
            checked=self.checked,
            stopped=self.stopped,
        )


def read_runs(entries: Iterable[EntryLike]) -> tuple[RunOnRecord, ...]:
    """The runs of a ledger in the order of their first entry.

    Only a run whose start is on record counts: a node's own ledger has none. The entries are taken
    as they are; whether they hold together is `privacy.verify`'s question.
    """
    found: dict[str, _Reading] = {}
    started: set[str] = set()
    for entry in entries:
        run = entry.body.get("run")
        if not isinstance(run, str):
            continue
        found.setdefault(run, _Reading(run, entry.time_ms)).take(entry)
        if entry.kind == "run.started":
            started.add(run)
    return tuple(reading.done() for run, reading in found.items() if run in started)


def highest_class(columns: "Iterable[Column]") -> str:
    """The highest class among columns; L1 without any."""
    return max((column.data_class for column in columns), default=CLASSES[0])


def _highest(classes: object) -> str:
    if not isinstance(classes, Mapping):
        return UNKNOWN_CLASS
    return max((name for name in CLASSES if classes.get(name)), default=UNKNOWN_CLASS)


def _natural(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()
