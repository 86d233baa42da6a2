"""What a regulator should look at first: each alert has one cause, and a sentence in `words`."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

from federation.audit_page.account import Account, Figure, PartFigures
from federation.audit_page.checkpoint import CheckpointView
from federation.audit_page.instant import utc
from federation.audit_page.ledger_index import LedgerIndex
from federation.audit_page.member import MemberView
from federation.audit_page.run import RunView
from federation.audit_page.view import AuditView
from privacy.errors import NotVerifiedError
from privacy.ledger.store import head_of

Severity: TypeAlias = Literal["critical", "warning"]
CAP_NEAR: Final = 0.8
MISSED: Final = 3
"""Updates in a row without a member that was asked."""
SILENT_MS: Final = 15 * 60_000
"""A member is silent where its run went on for so long without it."""
RUN_SILENT_MS: Final = 24 * 3_600_000
UNCOVERED_MS: Final = 24 * 3_600_000
_ORDER: Final = {"critical": 0, "warning": 1}


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing to look at.

    Attributes:
        severity: `critical`: what is shown may be wrong, or a promise is broken; `warning`: look.
        cause: Which; `alert.<cause>` in the table of words is its sentence.
        facts: What the sentence names.
        path: Where the page shows it.
        query: With that path.
    """

    severity: Severity
    cause: str
    facts: Mapping[str, str]
    path: str
    query: Mapping[str, str]


def alerts_of(view: AuditView, *, now_ms: int) -> list[Alert]:
    """Return all alerts, the gravest first."""
    found = [
        *(alert for ledger in view.ledgers.values() for alert in _of_ledger(ledger, now_ms)),
        *(alert for member in view.members.values() for alert in _of_member(view, member)),
        *(alert for account in view.accounts for alert in _of_account(view, account, now_ms)),
        *(alert for slug in view.nodes for alert in _of_node(view, slug, now_ms)),
        *(alert for run in view.runs.values() for alert in _of_run(run, now_ms)),
    ]
    return sorted(found, key=lambda alert: _ORDER[alert.severity])


def _alert(
    severity: Severity,
    cause: str,
    path: str,
    facts: Mapping[str, object],
    query: Mapping[str, object] | None = None,
) -> Alert:
    return Alert(
        severity,
        cause,
        {name: str(value) for name, value in facts.items()},
        path,
        {name: str(value) for name, value in (query or {}).items()},
    )


def _of_ledger(ledger: LedgerIndex, now_ms: int) -> Iterator[Alert]:
    named = {"ledger": ledger.owner}
    where = "/entries"
    query = {"ledger": ledger.slug}
    if ledger.cut:
        yield _alert("critical", "ledger_cut", where, {**named, "count": ledger.cut}, query)
    if ledger.broken:
        first = ledger.broken[0]
        facts = {**named, "count": ledger.broken_total, "index": first.index, "why": first.reason}
        yield _alert("critical", "entry_broken", f"{where}/{ledger.slug}/{first.index}", facts)
    yield from _of_checkpoint(ledger, now_ms)


def _of_checkpoint(ledger: LedgerIndex, now_ms: int) -> Iterator[Alert]:
    named = {"ledger": ledger.owner}
    query = {"ledger": ledger.slug}
    where = "/entries"
    leads = ledger.view.role == "coordinator"
    if ledger.newest is None:
        if leads and ledger.size:
            yield _alert("warning", "checkpoint_none", where, named, query)
        return
    both = {one.size: one for one in (ledger.cosigned, ledger.newest) if one is not None}
    for one in both.values():
        yield from _wrong(one, named, query)
    if leads and ledger.cosigned is None:
        alone = {**named, "size": ledger.newest.size}
        yield _alert("warning", "checkpoint_alone", where, alone, query)
    elif leads and ledger.uncovered > 0 and now_ms - ledger.last_ms > UNCOVERED_MS:
        count = {**named, "count": ledger.uncovered, "time": utc(ledger.last_ms)}
        yield _alert("warning", "checkpoint_old", where, count, query)


def _wrong(
    one: CheckpointView, named: Mapping[str, object], query: Mapping[str, object]
) -> Iterator[Alert]:
    where = "/entries"
    facts = {**named, "size": one.size}
    if one.fault:
        yield _alert("critical", "checkpoint_broken", where, {**facts, "why": one.fault}, query)
        return
    if not one.matches:
        yield _alert("critical", "checkpoint_wrong", where, facts, query)
    if one.signed is False:
        yield _alert("critical", "checkpoint_unsigned", where, facts, query)
    for other in one.cosigners:
        if other.verified is False:
            who = {**facts, "member": other.member or other.name}
            yield _alert("critical", "cosignature_wrong", where, who, query)


def _of_member(view: AuditView, member: MemberView) -> Iterator[Alert]:
    said = member.said
    ledgers = [view.ledgers[slug] for slug in member.ledgers]
    if said is None or not ledgers:
        return
    facts = {"member": member.name, "said": said.leaves, "index": said.entry}
    where = f"/entries/coordinator/{said.entry}"
    longest = max(ledger.size for ledger in ledgers)
    if longest < said.leaves:
        yield _alert("critical", "node_short", where, {**facts, "held": longest})
    elif not any(_had(ledger, said.leaves, said.root) for ledger in ledgers):
        yield _alert("critical", "node_other", where, facts)


def _had(ledger: LedgerIndex, leaves: int, root: str) -> bool:
    if leaves > ledger.size:
        return False
    try:
        return head_of(ledger.view.store, leaves).root == root
    except NotVerifiedError:
        return False


def _of_account(view: AuditView, account: Account, now_ms: int) -> Iterator[Alert]:
    for part in account.figures(now_ms):
        both = (part.coordinator, part.solo)
        if any(one.cap is not None and math.isinf(one.spent) for one in both):
            facts = {**_about(view, account), "part": part.part}
            yield _alert("critical", "cap_unbounded", f"/budgets/{account.number}", facts)
            continue
        for against in ("coordinator", "solo"):
            figure = part.coordinator if against == "coordinator" else part.solo
            if figure.cap is not None and figure.spent >= CAP_NEAR * figure.cap:
                yield _near(view, account, part, figure, against)


def _near(
    view: AuditView, account: Account, part: PartFigures, figure: Figure, against: str
) -> Alert:
    cap = figure.cap or 0.0
    reached = figure.spent > cap
    return _alert(
        "critical" if reached else "warning",
        f"cap_{'passed' if reached else 'near'}_{against}",
        f"/budgets/{account.number}",
        {
            **_about(view, account),
            "part": part.part,
            "spent": f"{figure.spent:.2f}",
            "cap": f"{cap:.4g}",
        },
    )


def _about(view: AuditView, account: Account) -> dict[str, str]:
    return {
        "member": view.ledgers[account.ledger].owner,
        "dataset": account.terms.dataset,
        "unit": account.terms.unit,
    }


def _of_node(view: AuditView, slug: str, now_ms: int) -> Iterator[Alert]:
    owner = view.ledgers[slug].owner
    dangling = view.dangling(slug, now_ms)
    for account in dict.fromkeys(account for account, _ in dangling):
        places = [place for one, place in dangling if one is account]
        facts = {
            "member": owner,
            "dataset": account.terms.dataset,
            "count": len(places),
            "run": account.reserved(places[0]).run,
        }
        yield _alert("warning", "node_dangling", f"/budgets/{account.number}", facts)
    for index in view.nodes[slug].unsigned:
        facts = {"member": owner, "index": index}
        yield _alert("critical", "abort_unsigned", f"/entries/{slug}/{index}", facts)


def _of_run(run: RunView, now_ms: int) -> Iterator[Alert]:
    where = f"/runs/{quote(run.run, safe='')}"
    named = {"run": run.run}
    dangling = run.dangling(now_ms)
    if dangling:
        facts = {**named, "count": len(dangling), "time": utc(dangling[0].time_ms)}
        yield _alert("warning", "reserve_dangling", where, facts)
    if run.state != "running":
        return
    if now_ms - run.last_ms > RUN_SILENT_MS:
        yield _alert("warning", "run_silent", where, {**named, "time": utc(run.last_ms)})
    for party in run.parties.values():
        since_ms = max(party.last_ms, run.started_ms)
        if party.key and (party.missed >= MISSED or run.last_ms - since_ms > SILENT_MS):
            facts = {**named, "member": party.name, "time": utc(since_ms)}
            yield _alert("warning", "node_silent", where, facts)
