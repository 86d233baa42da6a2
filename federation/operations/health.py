"""Whether a process does its work: a few named checks, each with a sentence on what to do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from privacy.errors import TacitError
from privacy.ledger.store import LedgerStore

Look: TypeAlias = Callable[[], str]
"""Returns nothing where all is well, else one sentence."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What, in one word.
        fault: What is wrong and what to do, in one sentence; empty where it holds.
    """

    name: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """How a process is.

    Attributes:
        since_ms: When it started, milliseconds since 1970 UTC.
        checks: All that was looked at.
    """

    since_ms: int
    checks: tuple[Check, ...]

    @property
    def status(self) -> Literal["ok", "failing"]:
        """Failing as soon as one check does not hold."""
        return "failing" if any(check.fault for check in self.checks) else "ok"

    def facts(self) -> dict[str, Any]:
        """For programs: what `GET /health` answers."""
        return {
            "status": self.status,
            "since_ms": self.since_ms,
            "checks": {check.name: check.fault or "ok" for check in self.checks},
        }


def examined(since_ms: int, looks: Mapping[str, Look]) -> Health:
    """Look at everything now; what cannot be looked at does not hold."""
    return Health(since_ms, tuple(Check(name, _looked(look)) for name, look in looks.items()))


def ledger_look(store: LedgerStore) -> Look:
    """Whether the ledger can be read."""

    def look() -> str:
        store.size()
        return ""

    return look


def certificate_look(seconds_left: Callable[[], float]) -> Look:
    """Whether the certificate is valid still."""

    def look() -> str:
        return "" if seconds_left() > 0 else "the certificate has expired; have it renewed"

    return look


def connection_look(seconds_since: Callable[[], float], *, most_s: float) -> Look:
    """Whether the other end was heard of within `most_s` seconds."""

    def look() -> str:
        if seconds_since() <= most_s:
            return ""
        return f"nothing was heard for {most_s:g} seconds; see whether the network lets it through"

    return look


def _looked(look: Look) -> str:
    try:
        return look()
    except TacitError as error:
        return str(error) or "it failed; see the log"
    except Exception as error:  # noqa: BLE001 - a check that breaks is one that does not hold
        # its message may quote what it choked on
        return f"it failed with {type(error).__name__}; see the log"
