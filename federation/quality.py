"""What the quality gate says of members' rows on this machine, for people and for programs.

It names devices, so it stays with the member whose they are.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clients.contract import DataContract, FoldSplit, load_contract
from clients.device_trust import TrustScore, device_facts, trust_score
from clients.gate import Device, DeviceFindings, devices, findings, totals
from clients.judgement import judged
from clients.members import MemberRows, member_names, read_members
from clients.review import Standing, State
from clients.review_store import Looked, Remembered
from federation.counted import counted
from federation.home import Home
from federation.review_places import ReviewPlace, own_member, place_of
from privacy.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SHOWN_MAX: Final = 40
_FIELDS: Final = (
    *("rows", "readings", "repeats", "conflicts", "late", "out_of_range", "out_of_threshold"),
    *("longest_run", "gaps", "longest_gap", "drift", "drifts", "clock_off", "is_off"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberGate:
    """What was found at one member.

    Attributes:
        member: Whose rows.
        findings: One entry a device, by name.
        looked: Where devices stand.
        trust: Each device's score.
        left_out: Rows that no run uses.
        rows: All rows.
    """

    member: str
    findings: tuple[DeviceFindings, ...]
    looked: Looked
    trust: Mapping[Device, TrustScore]
    left_out: int
    rows: int

    @property
    def waiting(self) -> tuple[Device, ...]:
        """Devices that wait for a person, or will once it is put on record."""
        held = {one for one in self.trust if self.looked.state(one) is State.WAITING}
        return tuple(sorted(held | set(self.looked.new)))

    @property
    def to_be_held(self) -> tuple[Device, ...]:
        """Devices that will wait once it is put on record; none where it was."""
        return tuple(one for one in self.looked.new if self.looked.state(one) is not State.WAITING)


def gate_members(
    home: Home, path: Path, data: Path, *, member: str | None, record: bool = True
) -> tuple[DataContract, tuple[MemberGate, ...]]:
    """Hold members' rows against the gate of their contract.

    Args:
        home: Where the members' nodes are.
        path: The contract's file.
        data: Where its sources begin.
        member: Whose rows; None: this machine's own node's, else all members'.
        record: Whether devices are put under review where their readings ask for it.

    Raises:
        TacitError: The rows do not keep the contract, or a node's folder cannot be used.
    """
    contract = load_contract(path)
    if contract.time_column is None or not contract.unit_columns:
        raise InputError(
            f"{path}: is not about devices over time, and the quality gate is; check such rows "
            "with tacit data check."
        )
    found = []
    for name, rows in member_rows(home, contract, data, member=member).items():
        place = place_of(home, contract, name)
        found.append(_gated(place, rows, contract, record=record))
        if record and contract.is_gated:
            place.remember(path, data)
    return contract, tuple(found)


def member_rows(
    home: Home, contract: DataContract, data: Path, *, member: str | None
) -> dict[str, MemberRows]:
    """Read the rows of one member, or of all whose nodes this machine has.

    Raises:
        TacitError: They cannot be read, or there is no such member.
    """
    own = own_member(home, contract)
    sole = own or member if contract.members is None else None
    chosen = member or own
    names = member_names(contract, data, sole_member=sole)
    only = frozenset(names if chosen is None else (chosen,))
    fold = 0 if isinstance(contract.split, FoldSplit) else None
    return read_members(contract, data, only=only, fold=fold, sole_member=sole)


def gate_facts(contract: DataContract, found: Sequence[MemberGate]) -> dict[str, Any]:
    """For programs."""
    return {
        "contract": contract.name,
        "waiting": sum(len(one.waiting) for one in found),
        "members": [
            {
                "member": one.member,
                "rows": one.rows,
                "left_out": one.left_out,
                "new": [device.name for device in one.looked.new],
                "totals": totals(one.findings),
                "devices": [_device_facts(one, each) for each in one.findings],
            }
            for one in found
        ],
    }


def gate_table(contract: DataContract, found: Sequence[MemberGate]) -> RenderableType:
    """For people: what is not as it should be."""
    parts: list[RenderableType] = []
    for one in found:
        sums = totals(one.findings)
        table = Table(
            title=f"{one.member}: {sums['devices']} devices, {one.rows:,} rows, "
            f"{one.left_out:,} left out"
        )
        for name in ("device", "state", "trust", "what was found"):
            table.add_column(name)
        told = [each for each in one.findings if not each.is_clean or _state(one, each) != "clear"]
        for each in told[:SHOWN_MAX]:
            score = f"{one.trust[each.device].score:.0f}"
            table.add_row(each.device.name, _state(one, each), score, "; ".join(_words(each)))
        parts.append(table)
        if len(told) > SHOWN_MAX:
            parts.append(Text(f"and {len(told) - SHOWN_MAX} more; see --json."))
        if not told:
            parts.append(Text("Nothing to look at."))
    later = sum(len(one.to_be_held) for one in found)
    waiting = sum(len(one.waiting) for one in found) - later
    if waiting:
        verb = "waits" if waiting == 1 else "wait"
        many = counted(waiting, "device")
        said = f"{many} of {contract.name} {verb} for a person: tacit data review list"
        parts.append(Text(said, style="bold"))
    if later:
        many = counted(later, "device")
        said = f"{many} of {contract.name} would be put under review without --look-only"
        parts.append(Text(said, style="bold"))
    if not waiting and not later and not contract.is_gated:
        parts.append(Text("The contract has no thresholds and no gate: nothing is left out."))
    return Group(*parts)


def trust_facts(contract: DataContract, found: Sequence[MemberGate]) -> dict[str, Any]:
    """For programs."""
    return {
        "contract": contract.name,
        "least_trust": None if contract.gate is None else contract.gate.least_trust,
        "members": [
            {
                "member": one.member,
                "devices": [
                    {"device": device.name, **_trust(score)} for device, score in _by_trust(one)
                ],
            }
            for one in found
        ],
    }


def trust_table(contract: DataContract, found: Sequence[MemberGate]) -> RenderableType:
    """For people, the least trusted first."""
    least = None if contract.gate is None else contract.gate.least_trust
    parts: list[RenderableType] = []
    for one in found:
        table = Table(title=f"{one.member}: trust in its devices, 0 to 100")
        for name in ("device", "trust", "points lost for"):
            table.add_column(name)
        for device, score in _by_trust(one)[:SHOWN_MAX]:
            lost = sorted(score.parts, key=lambda part: part.points - part.of)
            words = [f"{part.of - part.points:.1f}: {part.why}" for part in lost]
            left_out = " (left out)" if least is not None and score.score < least else ""
            table.add_row(device.name, f"{score.score:.1f}{left_out}", "; ".join(words))
        parts.append(table)
    return Group(*parts)


def review_facts(places: Sequence[tuple[ReviewPlace, Remembered]]) -> dict[str, Any]:
    """For programs: devices that ever were under review."""
    return {
        "devices": [
            {
                "member": place.member,
                "dataset": place.dataset,
                **remembered_facts(one),
            }
            for place, one in places
        ]
    }


def remembered_facts(one: Remembered) -> dict[str, Any]:
    """For programs: one device that was under review."""
    return {
        "device": one.name,
        "digest": one.digest,
        "state": one.standing.state.value,
        "review": one.standing.review,
        "out_of_threshold": one.out,
        "first": one.first,
        "last": one.last,
        "acts": [
            {
                "act": act.kind.partition(".")[2],
                "review": act.review,
                "reason": act.reason,
                "by": act.by,
                "readings": act.readings,
                "time_ms": act.time_ms,
            }
            for act in one.standing.acts
        ],
    }


def review_table(places: Sequence[tuple[ReviewPlace, Remembered]]) -> RenderableType:
    """For people: devices that ever were under review, those that wait first."""
    if not places:
        return Text("No device was ever under review here.")
    table = Table(title="devices under review")
    for name in ("device", "member", "data", "state", "since", "readings out", "why"):
        table.add_column(name)
    waiting_first = sorted(places, key=lambda pair: pair[1].standing.state is not State.WAITING)
    for place, one in waiting_first:
        last = one.standing.acts[-1]
        table.add_row(
            *(one.name, place.member, place.dataset, one.standing.state.value, _day(last.time_ms)),
            f"{one.out}",
            f"{last.reason} ({last.by})" if last.by else last.reason,
        )
    return table


def history_table(one: Remembered) -> RenderableType:
    """For people: all acts about a device."""
    table = Table(title=f"{one.name}: {one.standing.state.value}")
    for name in ("review", "act", "when", "why", "who"):
        table.add_column(name)
    for act in one.standing.acts:
        said = act.kind.partition(".")[2]
        table.add_row(f"{act.review}", said, _day(act.time_ms), act.reason, act.by)
    return table


def shown_frame(
    home: Home, place: ReviewPlace, device: Device, contract: DataContract, data: Path
) -> "pd.DataFrame":
    """All rows of one device, in order of time.

    Raises:
        InputError: The rows have no such device.
    """
    rows = member_rows(home, contract, data, member=place.member)[place.member]
    found = devices(rows, contract).get(device)
    if found is None:
        raise InputError(f"{data}: holds no rows of {device.name} any more; give another --data.")
    return found


def files_mark(root: Path) -> frozenset[tuple[str, int, int]]:
    """What tells whether any file below a folder came, went or changed; hidden ones aside."""
    found = set()
    for path in root.rglob("*"):
        with suppress(OSError):  # it may go while it is looked at
            if path.is_file() and not path.name.startswith("."):
                kept = path.stat()
                found.add((str(path), kept.st_size, kept.st_mtime_ns))
    return frozenset(found)


def _gated(
    place: ReviewPlace, rows: MemberRows, contract: DataContract, *, record: bool
) -> MemberGate:
    by_device = devices(rows, contract)
    looked, left_out = Looked(standings={}, new=()), 0
    if contract.is_gated:
        look = place.open(contract).look if record else place.looks(contract)
        judgement, looked = judged(rows, contract, look)
        left_out = sum(len(by_device[one]) for one in judgement.left_out if one in by_device)
    facts = device_facts(by_device, contract, looked.standings)
    return MemberGate(
        member=rows.member,
        findings=tuple(findings(one, frame, contract) for one, frame in by_device.items()),
        looked=looked,
        trust={device: trust_score(known) for device, known in facts.items()},
        left_out=left_out,
        rows=len(rows.train) + len(rows.test),
    )


def _by_trust(one: MemberGate) -> list[tuple[Device, TrustScore]]:
    return sorted(one.trust.items(), key=lambda item: (item[1].score, item[0]))


def _device_facts(one: MemberGate, each: DeviceFindings) -> dict[str, Any]:
    return {
        "device": each.device.name,
        "state": _state(one, each),
        "clean": each.is_clean,
        **{name: getattr(each, name) for name in _FIELDS},
        "stuck": list(each.stuck),
        "looks_like": dict(each.looks_like),
        "trust": round(one.trust[each.device].score, 2),
    }


def _trust(score: TrustScore) -> dict[str, Any]:
    return {
        "trust": round(score.score, 2),
        "parts": [
            {
                "part": one.part,
                "points": round(one.points, 2),
                "of": round(one.of, 2),
                "why": one.why,
            }
            for one in score.parts
        ],
    }


def _state(one: MemberGate, each: DeviceFindings) -> str:
    if each.device in one.looked.new and one.looked.state(each.device) is not State.WAITING:
        return "to be held"
    return one.looked.state(each.device).value


def _words(each: DeviceFindings) -> list[str]:
    counted = {
        "repeated rows": each.repeats,
        "contradicting rows": each.conflicts,
        "late rows": each.late,
        "cells out of range": each.out_of_range,
        "readings out of threshold": each.out_of_threshold,
        "gaps": each.gaps,
    }
    found = [f"{count} {what}" for what, count in counted.items() if count]
    if each.longest_run:
        found.append(f"{each.longest_run} of them in a row at most")
    if each.stuck:
        found.append(f"stuck: {', '.join(each.stuck)}")
    if each.drifts and each.drift is not None:
        found.append(f"its clock runs {abs(each.drift):.1%} {'fast' if each.drift > 0 else 'slow'}")
    if each.is_off and each.clock_off is not None:
        found.append(f"its clock is {abs(each.clock_off):g} off")
    found += [f"{column} looks like {unit}" for column, unit in each.looks_like.items()]
    return found


def _day(time_ms: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M}"


def standing_line(device: str, standing: Standing) -> str:
    """What became of a device, as one sentence."""
    return f"{device} is {standing.state.value}, and stands so in this node's ledger."
