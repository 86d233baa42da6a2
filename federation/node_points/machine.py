"""This machine: the policy, disk and memory, the node's own ledger."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from clients.ledger_files import LEDGER
from clients.policy import NodePolicy
from federation.node_points.point import Point, Surroundings, sentence_of, why_of
from federation.node_policy import read_terms, remarks
from privacy.budget import read_ledger
from privacy.errors import NotVerifiedError, TacitError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.sqlite import SqliteLedger
from privacy.suites import SUITES

DISK_LEAST_MIB: Final = 64


def policy_points(path: Path) -> Iterator[Point]:
    """The node's terms."""
    try:
        policy, sha256 = read_terms(path)
    except TacitError as fault:
        yield Point(
            "policy",
            "failed",
            sentence_of(fault),
            "Correct it; a running node keeps its terms of before, and a new one does not start.",
        )
        return
    where = f"{path} (sha256 {sha256[:16]})" if path.exists() else "the usual terms, without a file"
    yield Point("policy", "ok", f"The policy can be used: {where}.")
    for remark in remarks(policy):
        yield Point(
            "policy", "warning", remark, "See docs/node-policy.md; leave it if you mean it."
        )


def suite_points(policy: NodePolicy) -> Iterator[Point]:
    """Which algorithms this machine has."""
    here = [one.id for one in SUITES.values() if not one.missing()]
    yield Point("suites", "ok", f"This machine can use the suites {', '.join(here)}.")
    for name in policy.suites:
        reason = SUITES[name].missing()
        if reason:
            yield Point("suites", "warning", reason, "Needed only where the federation chose it.")


def machine_points(folder: Path, policy: NodePolicy, around: Surroundings) -> Iterator[Point]:
    """Disk and memory."""
    wanted = policy.resources
    try:
        free = around.free_mib(folder)
    except OSError as fault:
        yield Point("disk", "failed", f"{folder}: {why_of(fault)}.", "See to the disk.")
    else:
        found = f"{free:,} MiB are free for {folder}."
        remedy = "Free some space; resources.disk_free_mib in the policy says how much runs need."
        if free < DISK_LEAST_MIB:
            yield Point("disk", "failed", found, remedy)
        elif free < wanted.disk_free_mib:
            yield Point(
                "disk", "warning", f"{found} Runs wait below {wanted.disk_free_mib}.", remedy
            )
        else:
            yield Point("disk", "ok", found)
    memory = around.memory_mib()
    if memory is None:
        yield Point("memory", "ok", "How much memory is free cannot be known on this system.")
    elif memory < wanted.memory_mib:
        yield Point(
            "memory",
            "warning",
            f"{memory:,} MiB of memory are free. Runs wait below {wanted.memory_mib}.",
            "End other programs, or set resources.memory_mib in the policy lower.",
        )
    else:
        yield Point("memory", "ok", f"{memory:,} MiB of memory are free.")


def ledger_point(folder: Path, identity: Identity, *, owner: str) -> Point:
    """Whether the node's own ledger holds, is this node's, and can be written."""
    name = "ledger"
    ledger = SqliteLedger(folder / LEDGER)
    fresh = not ledger.path.exists()
    try:
        if fresh:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = folder / ".check"
            probe.write_bytes(b"")
            probe.unlink()
            return Point(name, "ok", f"{folder} can be written; the node's ledger begins there.")
        _, entries = read_ledger(ledger)
        begin_ledger(
            ledger,
            identity,
            owner=owner,
            role="node",
            time_ms=entries[-1].time_ms if entries else 0,
        )
        with suppress(_Undone), ledger.turn() as turn:
            turn.append("policy.applied", {"policy": "0" * 64}, time_ms=0)
            raise _Undone
    except OSError as fault:
        return Point(
            name,
            "failed",
            f"{folder}: cannot be written ({why_of(fault)}).",
            "Let the node's user write it, or free some space.",
        )
    except NotVerifiedError as fault:
        return Point(
            name,
            "failed",
            sentence_of(fault),
            "Restore the ledger from its newest copy; nothing is released on one that is broken.",
        )
    except TacitError as fault:
        return Point(
            name, "failed", sentence_of(fault), "Let the node's user write it, or free some space."
        )
    return Point(name, "ok", f"The node's ledger holds: {len(entries):,} entries, and can grow.")


class _Undone(Exception):  # noqa: N818 - no error: it takes a turn back
    """Leaves a turn without a trace."""
