"""What a card takes from a run's `result.json`, parsed once at the edge; other keys are ignored."""

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict

from clients.frozen import Frozen, parse_settings
from federation.home import read_json
from federation.importance_shown import ImportanceFacts
from federation.model_card.facts import Hex
from privacy.empirical import Finding


class Audit(Frozen):
    """A `privacy.empirical.Finding`, as it was kept."""

    epsilon_claimed: float
    delta: float
    epsilon_lower: float
    epsilon_lower_gaussian: float
    confidence: float
    epsilon_refuted: float
    rate_beyond: float | None
    multiplier_claimed: float
    multiplier: float
    multiplier_interval: tuple[float, float]
    rate_claimed: float
    rate: float
    rate_interval: tuple[float, float]
    canaries: int
    steps: int

    def finding(self) -> Finding:
        """The finding itself."""
        return Finding(**self.model_dump())


class Privacy(Frozen):
    """The part of a result that `federation.spending.account` made, and the audit."""

    model_config = ConfigDict(extra="ignore")

    noise: Literal["none", "distributed", "local"]
    unit: str
    epsilon: float | None
    solo_epsilon: float | None
    delta: float | None
    colluders: int | None = None
    method: str | None = None
    true_positive_rate: float | None = None
    multiplier: float | None = None
    clip: float | None = None
    rate: float | None = None
    audit: Audit | None = None


class Rules(Frozen):
    """What the run was held against."""

    model_config = ConfigDict(extra="ignore")

    digest: Hex


class Ledger(Frozen):
    """Where the ledger stood at the run's end."""

    leaves: int
    root: Hex


class Result(Frozen):
    """See the module."""

    model_config = ConfigDict(extra="ignore")

    title: str
    members: tuple[str, ...]
    rounds: int
    robust: str = "none"
    metrics: dict[str, float]
    folds: tuple[dict[str, float], ...] = ()
    importance: ImportanceFacts | None = None
    importance_folds: tuple[ImportanceFacts | None, ...] = ()
    privacy: Privacy
    rules: Rules | None = None
    ledger: Ledger


def read_result(folder: Path) -> Result:
    """Read the result of a run's folder.

    Raises:
        InputError: The run did not finish, or its result is damaged.
    """
    path = folder / "result.json"
    return parse_settings(Result, read_json(path), str(path))
