"""Verifying a home's ledger against every head that its runs remember."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from federation.home import Home, read_json
from federation.spending import epsilon_text
from privacy.errors import InputError, NotVerifiedError, TacitError
from privacy.ledger import LedgerHead
from privacy.ledger.store import LedgerStore
from privacy.verify import Verdict, verify_ledger


@dataclass(frozen=True, slots=True)
class Audit:
    """A verdict, and how many remembered heads it was held against."""

    verdict: Verdict
    heads: int

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {"verified": True, **asdict(self.verdict), "heads_checked": self.heads}

    def sentence(self) -> str:
        """For people."""
        found = self.verdict
        open_ones = f" Not finished: {', '.join(found.unfinished)}." if found.unfinished else ""
        broken = (
            f" Broken off between a sum and its receipt, which counts as released: "
            f"{', '.join(found.without_receipt)}."
            if found.without_receipt
            else ""
        )
        return (
            f"Ledger verified: {found.leaves} entries, {found.runs} runs, {found.rounds} rounds, "
            f"{found.receipts} receipts, {found.signatures} signatures of members, held against "
            f"{self.heads} remembered heads; root "
            f"{found.root[:16]}...{open_ones}{broken}"
        )

    def costs(self) -> RenderableType | None:
        """What the receipts add up to, for people; None where there are none."""
        if not self.verdict.privacy:
            return None
        table = Table(title="privacy, computed again from the receipts (add or remove one unit)")
        for name in ("unit", "contract", "cohort", "releases", "epsilon", "if all others collude"):
            table.add_column(name)
        for one in self.verdict.privacy:
            table.add_row(
                one.unit,
                f"{one.contract[:12]}..",
                one.cohort,
                str(one.releases),
                epsilon_text(one.epsilon),
                epsilon_text(one.solo_epsilon),
            )
        first = self.verdict.privacy[0]
        table.caption = (
            f"delta {first.delta:g}; epsilon against the coordinator with {first.colluders} other "
            "members, at the member whose units it cost most"
        )
        return table


def verify_file(path: Path) -> Audit:
    """Verify one ledger file by itself; a cut-off end cannot show without remembered heads.

    Raises:
        NotVerifiedError: It does not hold.
        InputError: It cannot be read.
    """
    return Audit(verify_ledger(_read(path)), 0)


def verify_home(home: Home) -> Audit:
    """Verify a home's ledger against the heads in its runs' folders.

    Raises:
        NotVerifiedError: It does not hold.
        InputError: There is none.
    """
    heads: list[LedgerHead] = []
    for run in home.run_ids():
        for name in ("result.json", "state.json"):
            try:
                kept = read_json(home.runs / run / name).get("ledger")
            except TacitError:
                continue
            if isinstance(kept, dict):
                heads.append(_head(kept, home.runs / run / name))
    if not home.ledger.exists():
        raise InputError(f"{home.ledger}: there is no ledger yet; launch a run first.")
    # a last line that a crash tore off was never acknowledged, so it is no entry
    data = LedgerStore(home.ledger).read()
    return Audit(verify_ledger(data, heads=heads), len(heads))


def _head(kept: dict[str, Any], path: Path) -> LedgerHead:
    leaves, root = kept.get("leaves"), kept.get("root")
    if type(leaves) is not int or not isinstance(root, str):
        raise NotVerifiedError(f"{path}: what it remembers of the ledger was changed.")
    return LedgerHead(leaves=leaves, root=root)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as failure:
        raise InputError(f"{path}: cannot be read ({failure.strerror}).") from None
