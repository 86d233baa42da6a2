"""Where a run stands, as its folder says it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aggregator.plan import parse_plan
from federation.home import Home
from federation.record import count_rounds, read_state
from federation.runs.order import FILE, Order, read_order
from privacy.errors import TacitError

RUNNING: Final = "running"
INTERRUPTED: Final = "interrupted"
STOPPED: Final = "stopped"
FINISHED: Final = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """One run, for whoever may see it.

    Attributes:
        run: Its name, unique at its coordinator.
        name: The config's name.
        task: `failure`, `claims` or `credit`.
        state: `running`, `interrupted`, `stopped` or `finished`.
        launcher: Who launched it.
        members: Whom it asks, in order.
        rounds: How many are committed.
        of: How many there are to be.
        launched_ms: When, in milliseconds since 1970 UTC.
        reason: Why it is stopped or interrupted; empty otherwise.
    """

    run: str
    name: str
    task: str
    state: str
    launcher: str
    members: tuple[str, ...]
    rounds: int
    of: int
    launched_ms: int
    reason: str

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "run": self.run,
            "name": self.name,
            "task": self.task,
            "state": self.state,
            "launcher": self.launcher,
            "members": list(self.members),
            "rounds": self.rounds,
            "of": self.of,
            "launched_ms": self.launched_ms,
            **({"reason": self.reason} if self.reason else {}),
        }


def facts_of(order: Order, folder: Path, *, is_carried_out: bool) -> RunFacts:
    """Return where a run stands.

    Args:
        order: What was asked for.
        folder: The run's.
        is_carried_out: Whether it is under way now; a run that says so and is not was cut off.
    """
    try:
        kept = read_state(folder)
    except TacitError:
        kept = {"state": RUNNING}  # it was cut off before it said anything
    state = str(kept["state"])
    if state == RUNNING and not is_carried_out:
        state = INTERRUPTED
    manifest = order.manifest
    return RunFacts(
        run=order.run,
        name=manifest.name,
        task=manifest.task,
        state=state,
        launcher=order.launcher,
        members=manifest.members,
        rounds=count_rounds(folder),
        of=parse_plan(dict(manifest.coordinator_settings)).rounds,
        launched_ms=order.launched_ms,
        reason=str(kept.get("reason", "")) if state in {STOPPED, INTERRUPTED} else "",
    )


def ordered_runs(home: Home) -> list[str]:
    """The runs of a coordinator's home that came over the network, oldest first."""
    return [run for run in home.run_ids() if (home.runs / run / FILE).exists()]


def home_facts(home: Home) -> list[RunFacts]:
    """All of them, read from disk; those that cannot be read are left out."""
    found: list[RunFacts] = []
    busy = home.is_busy()
    for run in ordered_runs(home):
        folder = home.runs / run
        try:
            order = read_order(folder)
            running = busy and read_state(folder)["state"] == RUNNING
        except TacitError:
            continue
        found.append(facts_of(order, folder, is_carried_out=running))
    return sorted(found, key=lambda one: (one.launched_ms, one.run))
