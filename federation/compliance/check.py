"""Holding contracts, runs and ledgers against rules. Pure: time is an argument, nothing is read."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from federation.compliance.finding import Finding, found
from federation.compliance.predicate import CONTRACT, LEDGER, MANIFEST, Predicate, Subject
from federation.compliance.subject import (
    ContractSubject,
    EntryLike,
    LedgerSubject,
    RunFacts,
    RunSubject,
    facts_of_project,
    read_runs,
)

if TYPE_CHECKING:
    from clients.contract import DataContract
    from federation.compliance.rule import AppliesTo, Rule
    from federation.config import Project


def check_contract(
    rules: "Iterable[Rule]", contract: "DataContract", at: datetime
) -> tuple[Finding, ...]:
    """What a contract breaks; refusals first, else in the rules' order.

    Args:
        rules: Of any kind; those about contracts are asked.
        contract: The contract.
        at: The day, with its time zone.
    """
    return _ask(rules, "contract", CONTRACT, ContractSubject(contract, at))


def check_run(
    rules: "Iterable[Rule]", contract: "DataContract", facts: RunFacts
) -> tuple[Finding, ...]:
    """What a run about a contract's rows breaks; refusals first.

    Args:
        rules: Of any kind; those about manifests are asked.
        contract: Its contract.
        facts: Of its config or its manifest.
    """
    return _ask(rules, "manifest", MANIFEST, RunSubject(contract, facts))


def check_ledger(
    rules: "Iterable[Rule]", entries: Iterable[EntryLike], at: datetime
) -> tuple[Finding, ...]:
    """What the runs of a ledger break; refusals first.

    Args:
        rules: Of any kind; those about ledgers are asked.
        entries: Verified, in order.
        at: The day, with its time zone.
    """
    return _ask(rules, "ledger", LEDGER, LedgerSubject(read_runs(entries), at))


def plan_findings(
    project: "Project", rules: "Sequence[Rule]", *, at: datetime
) -> tuple[Finding, ...]:
    """What a run config and its contract break before anything runs; refusals first."""
    of_contract = check_contract(rules, project.contract, at)
    of_run = check_run(rules, project.contract, facts_of_project(project))
    return _refusals_first((*of_contract, *of_run))


def _ask(
    rules: "Iterable[Rule]",
    kind: "AppliesTo",
    table: Mapping[str, Predicate[Subject]],
    subject: Subject,
) -> tuple[Finding, ...]:
    return _refusals_first(
        found(rule, match)
        for rule in rules
        if rule.applies_to == kind
        for match in table[rule.when].find(subject, rule.parameters)
    )


def _refusals_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda one: one.severity != "refuse"))
