"""Rules as data, each with its source, held against contracts, runs and ledgers.

`rule` says what a rule is, `predicate` what it can ask, `rule_set` where sets of rules lie,
`check` holds things against them. It needs pydantic and PyYAML: import it late where the core
alone must do. The rules help, and are no legal advice.
"""

from federation.compliance.check import check_contract, check_ledger, check_run, plan_findings
from federation.compliance.finding import (
    Finding,
    findings_facts,
    refused,
    require_lawful,
    warned,
)
from federation.compliance.rule import Rule
from federation.compliance.rule_set import load_rules, rules_digest
from federation.compliance.subject import RunFacts, facts_of_manifest, facts_of_project
from federation.compliance.tables import findings_line, findings_table, rules_facts, rules_table

__all__ = [
    "Finding",
    "Rule",
    "RunFacts",
    "check_contract",
    "check_ledger",
    "check_run",
    "facts_of_manifest",
    "facts_of_project",
    "findings_facts",
    "findings_line",
    "findings_table",
    "load_rules",
    "plan_findings",
    "refused",
    "require_lawful",
    "rules_digest",
    "rules_facts",
    "rules_table",
    "warned",
]
