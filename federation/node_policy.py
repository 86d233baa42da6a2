"""The policy of a node on this machine: its own file, else the home's, else the usual terms.

A deployed node reads its file anew with each use (`WatchedPolicy`): terms change without a restart,
and a file that cannot be used changes nothing.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import yaml

from clients.contract import DataContract
from clients.durable_file import make_folder
from clients.frozen import MAX_FILE_BYTES, parse_yaml, read_yaml
from clients.ledger_files import LEDGER
from clients.policy import HIGHEST_FLOOR, NodePolicy, budget_terms, names_order
from federation.home import write_bytes
from privacy.budget import Budget
from privacy.errors import InputError, RefusedError, TacitError
from privacy.ledger.entry import parse_leaf
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import LedgerStore
from privacy.plan import PrivacyPlan
from privacy.receipt import Receipt

FILE = "policy.yaml"
APPLIED: Final = "policy.applied"
NO_FILE: Final = hashlib.sha256(b"").hexdigest()
"""Stands for the usual terms, where there is no file."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms, and where they come from.

    Attributes:
        policy: What holds.
        sha256: Of the file's bytes, 64 hexadecimal digits; of nothing for the usual terms.
        fault: Why the file as it is now does not hold instead; empty where it does.
    """

    policy: NodePolicy
    sha256: str
    fault: str


class WatchedPolicy:
    """The terms in a file, as they are whenever they are asked for; may be used by many threads."""

    def __init__(
        self,
        path: Path,
        *,
        applied: Callable[[str], None] = lambda _: None,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Read the file.

        Args:
            path: The file; where there is none, the usual terms hold.
            applied: Told the SHA-256 (hex) of terms before they come into force; where it raises
                TacitError, they do not.
            told: Given one sentence when terms change, and when a file does not hold.

        Raises:
            InputError: The file cannot be used: there are no earlier terms to go on with.
            TacitError: Of `applied`.
        """
        self.path = path
        self._applied = applied
        self._told = told
        self._mutex = threading.Lock()
        data = _read(path)
        sha256 = NO_FILE if data is None else hashlib.sha256(data).hexdigest()
        policy = NodePolicy() if data is None else _parse(data, path)
        applied(sha256)
        self._terms = Terms(policy, sha256, "")

    def __call__(self) -> NodePolicy:
        """The terms in force."""
        return self.terms().policy

    def terms(self) -> Terms:
        """The terms in force, after a look at the file; never raises for what is in it."""
        fault = ""
        with self._mutex:
            try:
                self._renew()
            except TacitError as failure:
                fault = f"{str(failure).rstrip('.')}. The terms of before stay in force."
            before, now = self._terms, replace(self._terms, fault=fault)
            self._terms = now
        if fault and fault != before.fault:
            self._told(fault)
        return now

    def _renew(self) -> None:
        """Put the file's terms in force, if they are others; the mutex is held."""
        data = _read(self.path)
        if data is None and self._terms.sha256 != NO_FILE:
            raise InputError(f"{self.path}: is gone; put it back.")
        sha256 = NO_FILE if data is None else hashlib.sha256(data).hexdigest()
        if sha256 == self._terms.sha256:
            return
        policy = NodePolicy() if data is None else _parse(data, self.path)
        self._applied(sha256)
        self._terms = Terms(policy, sha256, "")
        self._told(f"the policy {self.path} is in force now (sha256 {sha256[:16]})")


def record_policy(ledger: LedgerStore, sha256: str, *, now_ms: int) -> None:
    """Record in a node's ledger, which was begun, that these terms are in force from here on.

    Where they were the last ones that it holds, nothing is written.

    Raises:
        InputError: The ledger cannot be written.
        NotVerifiedError: It is none.
    """
    with ledger.turn() as turn:
        last = None
        for leaf in turn.leaves(0):
            entry = parse_leaf(leaf)
            if entry.kind == APPLIED:
                last = entry.body["policy"]
        if last != sha256:
            turn.append(APPLIED, {"policy": sha256}, time_ms=now_ms)


def last_applied(ledger: LedgerStore) -> str:
    """Return the SHA-256 (hex) of the terms that a node's ledger says are in force; empty: none.

    Raises:
        InputError: The ledger cannot be read.
        NotVerifiedError: It is none.
    """
    last = ""
    for leaf in ledger.leaves():
        entry = parse_leaf(leaf)
        if entry.kind == APPLIED:
            last = str(entry.body["policy"])
    return last


def read_terms(path: Path) -> tuple[NodePolicy, str]:
    """Return the terms in a file and its SHA-256 (hex); the usual ones where there is none.

    Raises:
        InputError: The file cannot be used; says which key and why.
    """
    data = _read(path)
    if data is None:
        return NodePolicy(), NO_FILE
    return _parse(data, path), hashlib.sha256(data).hexdigest()


def set_terms(folder: Path, file: Path) -> tuple[str, list[str]]:
    """Make a file's terms those of a node's folder, whole or not at all.

    Returns:
        Their SHA-256 (hex), and what they leave open.

    Raises:
        InputError: They cannot be used, or the folder cannot be written; nothing is changed.
    """
    data = _read(file)
    if data is None:
        raise InputError(f"{file}: no such file; check the path.")
    policy = _parse(data, file)
    try:
        make_folder(folder, mode=0o700)
    except OSError as failure:
        raise InputError(
            f"{folder}: cannot be written ({failure.strerror}); give it to this user."
        ) from None
    write_bytes(folder / FILE, data)
    return hashlib.sha256(data).hexdigest(), remarks(policy)


def policy_text(policy: NodePolicy) -> str:
    """Return terms as YAML, every key with what holds for it."""
    value = json.loads(policy.model_dump_json(by_alias=True))
    hours = value["hours"]
    for key in ("from", "until"):
        hours[key] = f"{hours[key] // 60:02d}:{hours[key] % 60:02d}"
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def remarks(policy: NodePolicy) -> list[str]:
    """What a person should know of terms that are valid: what they leave open."""
    found: list[str] = []
    if all(one.epsilon is None and one.solo_epsilon is None for one in policy.budgets):
        found.append("No budget is capped: releases are counted, and none is refused for its cost.")
    if policy.recognises.everybody:
        found.append(
            "Every member is recognised: an operator alone can let in members that it made up, and "
            "be all others of a sum. Say whom you know under recognises."
        )
    if policy.minimum_cohort < HIGHEST_FLOOR:
        found.append("Sums of two members are opened: each of them can take its own part away.")
    if policy.minimum_protection.noise_from == "none":
        found.append("No run must add noise: without it, nothing bounds what a model tells.")
    if set(policy.sums) & {"clear", "ckks"}:
        found.append("Sums in the clear or by ckks show single vectors to the coordinator.")
    if not policy.initiators.roles or not policy.tasks or not policy.hours.ever:
        found.append("No run fits these terms.")
    return found


def _read(path: Path) -> bytes | None:
    """A file's bytes; None where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as failure:
        why = failure.strerror or "unknown reason"
        raise InputError(f"{path}: cannot be read ({why}); check the path.") from None


def _parse(data: bytes, path: Path) -> NodePolicy:
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{path}: is larger than a policy may be; make it smaller.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text; save it as UTF-8.") from None
    return parse_yaml(NodePolicy, text, str(path))


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
        meant = names_order(policy, dataset=contract.name, unit=unit)
        Budget(copy, terms, now_ms=_now_ms, order_is_meant=meant).check(receipts)
    except (InputError, RefusedError) as refusal:
        return [str(refusal)]
    return []


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
