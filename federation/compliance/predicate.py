"""The closed table of what a rule can ask. A rule names one and gives its parameters."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar, get_args

from clients.contract import Governance, Role
from clients.spec import Task
from federation.compliance.subject import (
    CLASSES,
    UNKNOWN_CLASS,
    ContractSubject,
    LedgerSubject,
    RunSubject,
    highest_class,
)

Subject = TypeVar("Subject", ContractSubject, RunSubject, LedgerSubject)
Parameters = Mapping[str, Any]
ABOUT: Final = "about"
_SHOWN: Final = 3
_ASKABLE: Final = frozenset(Governance.model_fields)


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a rule may give.

    Attributes:
        holds: Whether a value will do.
        expected: The end of the sentence `expected ...`.
    """

    holds: Callable[[object], bool]
    expected: str


@dataclass(frozen=True, slots=True)
class Match:
    """One thing that breaks a rule.

    Attributes:
        about: The contract, run or run id.
        values: Placeholder -> text.
    """

    about: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Predicate(Generic[Subject]):
    """One thing that a rule can ask.

    Attributes:
        find: What breaks the rule; nothing where all is well.
        parameters: All that a rule must give, and all that it may.
        gives: Placeholders of its sentences, besides `about`.
    """

    find: Callable[[Subject, Parameters], Iterable[Match]]
    parameters: Mapping[str, Parameter]
    gives: frozenset[str]


def _words_of(*known: str) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, tuple)
        and bool(value)
        and all(isinstance(item, str) and (not known or item in known) for item in value)
        and len(set(value)) == len(value)
    )


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_country(value: object) -> bool:
    return isinstance(value, str) and len(value) == 2 and value.isascii() and value.isupper()  # noqa: PLR2004 - alpha-2


_CLASSES = Parameter(_words_of(*CLASSES), "a list of classes such as [L3, L4]")
_TASKS = Parameter(_words_of(*get_args(Task)), f"a list of tasks of {', '.join(get_args(Task))}")
_ROLES = Parameter(_words_of(*get_args(Role)), "a list of column roles such as [sensor]")
_SUMS = Parameter(
    _words_of("masked", "sealed", "ckks", "clear"), "a list of sums such as [clear, ckks]"
)
_KEYS = Parameter(_words_of(*_ASKABLE), f"a list of keys of {', '.join(sorted(_ASKABLE))}")
_WORDS = Parameter(_words_of(), "a list of texts")
_COUNT = Parameter(_is_count, "a whole number above 0")
_COUNTRY = Parameter(_is_country, "a country of two letters such as CN")


def named(words: Sequence[str]) -> str:
    """A list for a sentence in any language: the first few, and how many more."""
    more = f" (+{len(words) - _SHOWN})" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more


def _governance_unsaid(subject: ContractSubject, with_: Parameters) -> Iterator[Match]:
    said = subject.contract.governance
    unsaid = [key for key in with_["keys"] if getattr(said, key, None) is None]
    if unsaid:
        yield Match(subject.contract.name, {"keys": ", ".join(unsaid)})


def _declares_input(subject: ContractSubject, with_: Parameters) -> Iterator[Match]:
    columns = [c.name for c in subject.contract.inputs if c.data_class in with_["classes"]]
    if columns:
        yield Match(subject.contract.name, {"columns": named(columns)})


def _important_data_leaves(subject: ContractSubject, with_: Parameters) -> Iterator[Match]:
    said = subject.contract.governance
    if said is None or not said.important:
        return
    if said.cross_border or (said.place is not None and said.place != with_["home"]):
        yield Match(subject.contract.name, {"place": said.place or "?", "home": with_["home"]})


def _unit_leaves(subject: ContractSubject, with_: Parameters) -> Iterator[Match]:
    contract = subject.contract
    said = contract.governance
    if said is not None and said.cross_border and contract.unit in with_["units"]:
        yield Match(contract.name, {"unit": contract.unit})


def _retention_over(subject: ContractSubject, _: Parameters) -> Iterator[Match]:
    said = subject.contract.governance
    until = None if said is None else said.kept_until
    if until is not None and subject.at.date() > until:
        yield Match(subject.contract.name, {"until": until.isoformat()})


def _reads_input(subject: RunSubject, with_: Parameters) -> Iterator[Match]:
    columns = [c.name for c in subject.inputs if c.data_class in with_["classes"]]
    if columns:
        yield Match(subject.facts.name, {"columns": named(columns)})


def _purpose_not_consented(subject: RunSubject, _: Parameters) -> Iterator[Match]:
    said = subject.contract.governance
    purposes = None if said is None else said.purposes
    task = subject.facts.task
    if purposes is not None and task not in purposes:
        yield Match(
            subject.facts.name,
            {"task": task, "purposes": ", ".join(purposes), "contract": subject.contract.name},
        )


def _class_without_noise(subject: RunSubject, with_: Parameters) -> Iterator[Match]:
    highest = highest_class(subject.touched)
    if not subject.facts.noise and highest in with_["classes"]:
        columns = [c.name for c in subject.touched if c.data_class == highest]
        yield Match(subject.facts.name, {"class": highest, "columns": named(columns)})


def _sum_of_class(subject: RunSubject, with_: Parameters) -> Iterator[Match]:
    highest, protection = highest_class(subject.touched), subject.facts.protection
    if protection in with_["sums"] and highest in with_["classes"]:
        yield Match(subject.facts.name, {"class": highest, "sum": protection})


def _cohort_below(subject: RunSubject, with_: Parameters) -> Iterator[Match]:
    fewest, minimum = subject.facts.fewest, with_["minimum"]
    if fewest < minimum:
        yield Match(subject.facts.name, {"fewest": str(fewest), "minimum": str(minimum)})


def _raw_reading(subject: RunSubject, with_: Parameters) -> Iterator[Match]:
    if subject.facts.task not in with_["tasks"]:
        return
    series = subject.contract.is_telemetry
    columns = [c.name for c in subject.inputs if series or c.role in with_["roles"]]
    if columns:
        yield Match(subject.facts.name, {"task": subject.facts.task, "columns": named(columns)})


def _inputs_unsaid(subject: RunSubject, with_: Parameters) -> Iterator[Match]:
    if subject.facts.task not in with_["tasks"] or subject.contract.is_telemetry:
        return
    if not any(c.is_stated for c in subject.contract.inputs):
        task, contract = subject.facts.task, subject.contract.name
        yield Match(subject.facts.name, {"task": task, "contract": contract})


def _raw_column(subject: RunSubject, with_: Parameters) -> Iterator[Match]:
    if subject.facts.task not in with_["tasks"]:
        return
    # a contract that says of no input what it is broke no word of its own: `_inputs_unsaid`
    if any(c.is_stated for c in subject.contract.inputs):
        columns = [c.name for c in subject.inputs if not c.is_stated]
        if columns:
            yield Match(subject.facts.name, {"task": subject.facts.task, "columns": named(columns)})


def _unexplained(subject: RunSubject, with_: Parameters) -> Iterator[Match]:
    facts = subject.facts
    if facts.task in with_["tasks"] and facts.model not in with_["explain"]:
        yield Match(facts.name, {"task": facts.task, "model": facts.model})


def _summed_without_consent(subject: LedgerSubject, _: Parameters) -> Iterator[Match]:
    for run in subject.runs:
        missing = sorted(run.summed - run.consented)
        if missing:
            yield Match(run.run, {"members": named(missing)})


def _exact_releases(subject: LedgerSubject, with_: Parameters) -> Iterator[Match]:
    for run in subject.runs:
        # of what no one declared, the worst is assumed
        if run.exact and run.data_class in {*with_["classes"], UNKNOWN_CLASS}:
            yield Match(run.run, {"count": str(run.exact), "class": run.data_class})


def _sum_below_minimum(subject: LedgerSubject, _: Parameters) -> Iterator[Match]:
    for run in subject.runs:
        if run.small is not None and run.small < run.minimum:
            values = {
                "entry": str(run.small_at),
                "members": str(run.small),
                "minimum": str(run.minimum),
            }
            yield Match(run.run, values)


def _stopped_without_reason(subject: LedgerSubject, with_: Parameters) -> Iterator[Match]:
    for run in subject.runs:
        if run.stopped is not None and (not run.stopped.strip() or run.stopped in with_["empty"]):
            yield Match(run.run, {})


def _past_retention(subject: LedgerSubject, _: Parameters) -> Iterator[Match]:
    for run in subject.runs:
        days = run.retention_days
        if days is not None and subject.at > run.started + timedelta(days=days):
            yield Match(run.run, {"days": str(days), "started": run.started.date().isoformat()})


def _not_checked(subject: LedgerSubject, _: Parameters) -> Iterator[Match]:
    for run in subject.runs:
        if not run.checked:
            yield Match(run.run, {})


CONTRACT: Final[Mapping[str, Predicate[ContractSubject]]] = MappingProxyType(
    {
        "governance_unsaid": Predicate(_governance_unsaid, {"keys": _KEYS}, frozenset({"keys"})),
        "declares_input": Predicate(_declares_input, {"classes": _CLASSES}, frozenset({"columns"})),
        "important_data_leaves": Predicate(
            _important_data_leaves, {"home": _COUNTRY}, frozenset({"place", "home"})
        ),
        "unit_leaves": Predicate(_unit_leaves, {"units": _WORDS}, frozenset({"unit"})),
        "retention_over": Predicate(_retention_over, {}, frozenset({"until"})),
    }
)
MANIFEST: Final[Mapping[str, Predicate[RunSubject]]] = MappingProxyType(
    {
        "reads_input": Predicate(_reads_input, {"classes": _CLASSES}, frozenset({"columns"})),
        "purpose_not_consented": Predicate(
            _purpose_not_consented, {}, frozenset({"task", "purposes", "contract"})
        ),
        "class_without_noise": Predicate(
            _class_without_noise, {"classes": _CLASSES}, frozenset({"class", "columns"})
        ),
        "sum_of_class": Predicate(
            _sum_of_class, {"classes": _CLASSES, "sums": _SUMS}, frozenset({"class", "sum"})
        ),
        "cohort_below": Predicate(
            _cohort_below, {"minimum": _COUNT}, frozenset({"fewest", "minimum"})
        ),
        "raw_reading": Predicate(
            _raw_reading, {"tasks": _TASKS, "roles": _ROLES}, frozenset({"task", "columns"})
        ),
        "inputs_unsaid": Predicate(
            _inputs_unsaid, {"tasks": _TASKS}, frozenset({"task", "contract"})
        ),
        "raw_column": Predicate(_raw_column, {"tasks": _TASKS}, frozenset({"task", "columns"})),
        "unexplained": Predicate(
            _unexplained, {"tasks": _TASKS, "explain": _WORDS}, frozenset({"task", "model"})
        ),
    }
)
LEDGER: Final[Mapping[str, Predicate[LedgerSubject]]] = MappingProxyType(
    {
        "summed_without_consent": Predicate(_summed_without_consent, {}, frozenset({"members"})),
        "exact_releases": Predicate(
            _exact_releases, {"classes": _CLASSES}, frozenset({"count", "class"})
        ),
        "sum_below_minimum": Predicate(
            _sum_below_minimum, {}, frozenset({"entry", "members", "minimum"})
        ),
        "stopped_without_reason": Predicate(
            _stopped_without_reason, {"empty": _WORDS}, frozenset()
        ),
        "past_retention": Predicate(_past_retention, {}, frozenset({"days", "started"})),
        "not_checked": Predicate(_not_checked, {}, frozenset()),
    }
)
