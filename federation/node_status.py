"""`tacit node status`: who this node is, whether it works, what it gave, what waits."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clients.ledger_files import LEDGER
from clients.policy import NodePolicy, budget_terms
from federation.budget import NodeBudget, budget_facts, budget_table
from federation.certificates import read_certificate
from federation.decisions import Waiting, waiting
from federation.home import Home, read_json
from federation.node_data import NodeData
from federation.node_points.point import Me
from federation.node_policy import FILE, last_applied, read_terms, remarks
from federation.node_service import STATE, is_running
from federation.participant import TLS, Place, load_participant
from privacy.budget import read_statements
from privacy.errors import TacitError
from privacy.ledger.sqlite import SqliteLedger
from privacy.membership import Membership

UNASKED_MS: Final = 300_000
"""A coordinator asks again within seconds about a run that waits; so long ago, it was given up."""
EXPLAINS: Final = "what the model leans on: a sum over the members' test rows, yours among them"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """How a node stands.

    Attributes:
        facts: For programs.
        budgets: Where its budgets stand.
        pending: What waits.
        now_ms: When it was looked at, milliseconds since 1970 UTC.
    """

    facts: dict[str, Any]
    budgets: NodeBudget
    pending: tuple[Waiting, ...]
    now_ms: int


def node_status(home: Home, me: Callable[[Place], Me], *, now: datetime) -> NodeStatus:
    """Return how a node stands; nothing is written.

    Args:
        home: Whose node.
        me: Asks the coordinator about this node; raises TacitError where it cannot.
        now: The time, with a time zone.

    Raises:
        InputError: This machine is in no federation.
    """
    place = load_participant(home)
    folder = home.own_node
    running = is_running(folder)
    state = _state(home)
    budgets = _budgets(home, now)
    pending = waiting(folder)
    now_ms = round(now.timestamp() * 1000)
    facts = {
        "federation": place.federation,
        "member": place.name,
        "role": place.role.value,
        "running": running,
        "since_ms": state.get("since_ms") if running else None,
        "said": state.get("said", "") if running else "",
        "coordinator": _coordinator(place, me, state),
        "runs": state.get("runs", {}) if running else {},
        "contracts": _contracts(home, place.name),
        **{key: value for key, value in budget_facts([budgets]).items() if key == "budgets"},
        "ledger": {"path": str(folder / LEDGER), "fault": budgets.fault},
        "pending": [{**one.to_json(), "unasked": unasked(one, now_ms)} for one in pending],
        "certificate": _certificate(place, now),
        "policy": _policy(home, state if running else {}),
    }
    return NodeStatus(facts=facts, budgets=budgets, pending=pending, now_ms=now_ms)


def status_page(status: NodeStatus) -> RenderableType:
    """For people."""
    facts = status.facts
    head = Table.grid(padding=(0, 2))
    head.add_column(style="bold")
    head.add_column()
    coordinator, policy = facts["coordinator"], facts["policy"]
    head.add_row("member", Text(f"{facts['member']} ({facts['role']}) of {facts['federation']}"))
    since = f" since {_time(facts['since_ms'])}" if facts["since_ms"] else ""
    head.add_row("node", Text(f"at work{since}" if facts["running"] else "not running"))
    if facts["said"]:
        head.add_row("", Text(facts["said"]))
    answer = "answers" if coordinator["reachable"] else f"does not answer: {coordinator['fault']}"
    head.add_row("coordinator", Text(f"{coordinator['registry']} {answer}"))
    if coordinator["seen_ms"]:
        head.add_row("", Text(f"seen by the node at {_time(coordinator['seen_ms'])}"))
    head.add_row("certificate", Text(f"until {facts['certificate']['until'] or 'unknown'}"))
    head.add_row("policy", Text(f"{policy['path']} (sha256 {policy['sha256'][:16]})"))
    if policy["fault"]:
        head.add_row("", Text(policy["fault"], style="bold red"))
    for remark in policy["remarks"]:
        head.add_row("", Text(remark, style="dim"))
    for one in facts["contracts"]:
        cap = one["fault"] or (
            "no cap" if one["epsilon"] is None else f"epsilon at most {one['epsilon']:g}"
        )
        head.add_row("data", Text(f"{one['name']}: {cap} per {one['unit'] or 'unit'}"))
    head.add_row("runs", Text(", ".join(facts["runs"].values()) or "none under way"))
    parts: list[RenderableType] = [head]
    if status.pending:
        parts.append(pending_table(status.pending, now_ms=status.now_ms))
    if status.budgets.fault:
        parts.append(Text(status.budgets.fault, style="bold red"))
    elif status.budgets.statements:
        parts.append(budget_table([status.budgets]))
    return Group(*parts)


def pending_table(
    pending: tuple[Waiting, ...], membership: Membership | None = None, *, now_ms: int
) -> RenderableType:
    """For people: what waits, and what a person needs to know before deciding.

    Args:
        pending: What waits.
        membership: As it was read last, which says who let each member in; None: not known.
        now_ms: Milliseconds since 1970 UTC.
    """
    if not pending:
        return Text("Nothing waits.")
    parts: list[RenderableType] = []
    for one in pending:
        noise = (
            "none: nothing bounds what the model tells"
            if one.delta is None
            else f"epsilon {'unknown' if one.epsilon is None else f'{one.epsilon:.3g}'} "
            f"(delta {one.delta:g}) per {one.unit}, all releases together"
        )
        facts = {
            "run": one.run,
            "from": f"{one.launcher} ({one.role})" if one.role else one.launcher,
            "task": f"{one.task} ({one.name}), {one.rounds or 'unknown'} rounds",
            "members": f"{len(one.members)}: {', '.join(one.members)}",
            "let in": "\n".join(let_in(one.members, membership)),
            "sums": f"{one.protection}, of {one.minimum_cohort} members or more",
            "noise": noise,
            **({"explains": EXPLAINS} if one.explain else {}),
            "waits": one.why,
            "asked": f"{_time(one.asked_ms)}, last {_time(one.seen_ms)}",
            **({"but": unasked(one, now_ms)} if unasked(one, now_ms) else {}),
        }
        block = Table.grid(padding=(0, 2))
        block.add_column(style="bold")
        block.add_column(overflow="fold")
        for name, value in facts.items():
            block.add_row(name, Text(value))  # as text: no name is markup
        parts += [block, Text()]
    hint = "Decide with tacit node approve RUN, or tacit node refuse RUN --reason TEXT."
    return Group(*parts, Text(hint))


def unasked(one: Waiting, now_ms: int) -> str:
    """Say that nobody asks about a run any more; empty where somebody did a moment ago.

    No stop is told to a node that only waits: nobody asks it again, and that is all it sees.
    """
    if now_ms - one.seen_ms < UNASKED_MS:
        return ""
    return (
        f"nobody has asked about it since {_time(one.seen_ms)}: it may have been stopped, or begun "
        "without this node, or the coordinator is away; see tacit run list"
    )


def let_in(members: Sequence[str], membership: Membership | None) -> list[str]:
    """Since when each member takes part, and who approved it: one line each."""
    if membership is None:
        return ["unknown, as this node has not read the membership yet"]
    lines: list[str] = []
    for name in members:
        one = membership.active().get(name)
        if one is None:
            lines.append(f"{name}: takes no part in the federation")
        else:
            by = ", ".join(one.approved_by) or "nobody"
            lines.append(f"{name}: since {_time(one.since_ms)}, approved by {by}")
    return lines


def _state(home: Home) -> dict[str, Any]:
    path = home.own_node / STATE
    try:
        return read_json(path) if path.exists() else {}
    except TacitError:
        return {}


def _coordinator(place: Place, me: Callable[[Place], Me], state: dict[str, Any]) -> dict[str, Any]:
    fault, clock_s = "", None
    try:
        begun_s = time.time()
        told = me(place)
        clock_s = round((begun_s + time.time()) / 2 - told.time_ms / 1000, 1)
    except TacitError as failure:
        fault = str(failure)
    return {
        "registry": place.registry,
        "fleet": place.fleet,
        "reachable": not fault,
        "fault": fault,
        "clock_ahead_s": clock_s,
        "seen_ms": state.get("seen_ms"),
    }


def _budgets(home: Home, now: datetime) -> NodeBudget:
    ledger = SqliteLedger(home.own_node / LEDGER)
    try:
        found = read_statements(ledger, now_ms=round(now.timestamp() * 1000))
    except TacitError as fault:
        return NodeBudget(ledger.path, (), str(fault))
    return NodeBudget(ledger.path, found, "")


def _contracts(home: Home, member: str) -> list[dict[str, Any]]:
    """What of each contract's units may be learned in all."""
    try:
        policy, _ = read_terms(home.own_node / FILE)
        data = NodeData.read(home.own_node)
        contracts = data.contracts()
    except TacitError as fault:
        return [{"name": "", "unit": "", "epsilon": None, "delta": None, "fault": str(fault)}]
    found = []
    for name, contract in contracts.items():
        terms = budget_terms(policy, member=member, dataset=name, unit=contract.unit)
        found.append(
            {
                "name": name,
                "unit": contract.unit,
                "contract": str(data.places[name].contract),
                "data": str(data.places[name].data),
                "epsilon": terms.epsilon,
                "delta": terms.delta,
                "solo_epsilon": terms.solo_epsilon,
                "period_days": terms.period_days,
                "fault": "",
            }
        )
    return found


def _certificate(place: Place, now: datetime) -> dict[str, Any]:
    try:
        own = read_certificate((place.folder / TLS).read_bytes(), str(place.folder / TLS))
    except (TacitError, OSError):
        return {"until": None, "days_left": None}
    end = own.not_valid_after_utc
    return {
        "until": f"{end:%Y-%m-%d %H:%M} UTC",
        "days_left": round((end - now).total_seconds() / 86_400, 1),
    }


def _policy(home: Home, state: dict[str, Any]) -> dict[str, Any]:
    path = home.own_node / FILE
    ledger = SqliteLedger(home.own_node / LEDGER)
    fault, policy = "", NodePolicy()
    try:
        policy, sha256 = read_terms(path)
    except TacitError as failure:
        fault, sha256 = str(failure), ""
    try:
        applied = last_applied(ledger)
    except TacitError:
        applied = ""
    running = state.get("policy", {})
    return {
        "path": str(path) if path.exists() or fault else "the usual terms",
        # what a running node put on record is what holds there
        "sha256": applied if running or fault else sha256,
        "file_sha256": sha256,
        "applied": applied,
        "fault": running.get("fault") or fault,
        "remarks": [] if fault else remarks(policy),
    }


def _time(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
