"""The policy of a node on this machine: its own file, else the home's, else the usual terms."""

import time
from collections.abc import Sequence
from pathlib import Path

from clients.contract import DataContract
from clients.frozen import read_yaml
from clients.ledger_files import LEDGER
from clients.policy import NodePolicy, budget_terms
from privacy.budget import Budget
from privacy.errors import InputError, RefusedError
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.sqlite import SqliteLedger
from privacy.plan import PrivacyPlan
from privacy.receipt import Receipt

FILE = "policy.yaml"


def read_policy(home: Path, folder: Path) -> NodePolicy:
    """Read a node's terms.

    Args:
        home: The home's folder, whose `policy.yaml` stands for all nodes without their own.
        folder: The node's folder.

    Raises:
        InputError: The file cannot be used; says which key and why.
    """
    for path in (folder / FILE, home / FILE):
        if path.exists():
            return read_yaml(NodePolicy, path)
    return NodePolicy()


def over_budget(
    policy: NodePolicy,
    folder: Path,
    receipts: Sequence[Receipt],
    *,
    member: str,
    contract: DataContract,
    plan: PrivacyPlan | None,
) -> list[str]:
    """Why a node's budget would refuse releases, as one sentence; empty if it would not.

    The node's ledger is read, and nothing is written to it.
    """
    unit = contract.unit if plan is None else plan.unit
    terms = budget_terms(policy, member=member, dataset=contract.name, unit=unit)
    try:
        kept = SqliteLedger(folder / LEDGER)
        copy = MemoryLedger(kept.leaves() if kept.path.exists() else (), place=kept.place)
        Budget(copy, terms, now_ms=_now_ms).check(receipts)
    except (InputError, RefusedError) as refusal:
        return [str(refusal)]
    return []


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
