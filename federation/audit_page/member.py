"""A member, as all ledgers together tell of it."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Said:
    """What a node said last of its own ledger.

    Attributes:
        entry: Of the coordinator's ledger, where it is noted.
        leaves: Entries, as it said.
        root: Their root, in hexadecimal.
    """

    entry: int
    leaves: int
    root: str


@dataclass(slots=True)
class MemberView:
    """One member.

    Attributes:
        name: Its name.
        last_ms: When a ledger heard of it last; 0: never.
        runs: Runs that name it, the first first.
        keys: Its public keys in hexadecimal, the first first.
        ledgers: Slugs of its own ledgers at hand.
        said: What it said last of its own ledger; None: nothing.
    """

    name: str
    last_ms: int = 0
    runs: dict[str, None] = field(default_factory=dict)
    keys: dict[str, None] = field(default_factory=dict)
    ledgers: list[str] = field(default_factory=list)
    said: Said | None = None

    def heard(self, time_ms: int) -> None:
        """Take a sign of life."""
        self.last_ms = max(self.last_ms, time_ms)
