"""A model card's facts by hand, for tests of what is made from them. For tests only."""

from typing import Any, Final

from federation.importance_shown import ImportanceFacts, Leaned
from federation.model_card.facts import (
    CalibrationBin,
    CardFacts,
    ColumnFacts,
    DataFacts,
    EmpiricalBound,
    EvaluationFacts,
    GroupStability,
    LineageFacts,
    Metric,
    PrivacyFacts,
    ProtectionFacts,
    Shape,
    ShapeFacts,
    Shift,
    SignatureFacts,
    StabilityFacts,
)
from federation.model_card.limits import limits_of

DIGEST: Final = "ab" * 32


def column(name: str, **changes: Any) -> ColumnFacts:  # noqa: ANN401 - any field
    """A column of a contract."""
    facts: dict[str, Any] = {
        "name": name,
        "data_class": "L3",
        "unit": None,
        "use": "input",
        "source": "unstated",
        "indicator": None,
        "low": 0.0,
        "high": 1.0,
        "levels": None,
        "note": None,
    }
    return ColumnFacts(**{**facts, **changes})


def evaluation(**changes: Any) -> EvaluationFacts:  # noqa: ANN401 - any field
    """A binary model's figures."""
    facts: dict[str, Any] = {
        "kind": "binary",
        "headline": "auc",
        "from_sum": True,
        "noise": 0.0,
        "fewest": 10,
        "metrics": (
            Metric(
                name="auc", group=None, value=0.75, low=0.7, high=0.8, method="delong", noise=0.0
            ),
            Metric(
                name="rows", group="north", value=None, low=None, high=None, method="withheld",
                noise=0.0,
            ),
        ),
        "calibration": (
            CalibrationBin(predicted=0.1, happened=0.12, low=0.08, high=0.17, rows=200),
            CalibrationBin(predicted=0.4, happened=0.37, low=0.31, high=0.44, rows=210),
        ),
        "no_calibration": None,
    }  # fmt: skip
    return EvaluationFacts(**{**facts, **changes})


def card(**changes: Any) -> CardFacts:  # noqa: ANN401 - any field
    """A card that has something in every section."""
    facts: dict[str, Any] = {
        "format": 1,
        "run": "20261006-090000-leases-19cd",
        "fold": None,
        "folds": 0,
        "made": "2026-10-06T09:30:00Z",
        "title": "Leases that fail",
        "task": "credit",
        "kind": "additive",
        "members": ("north", "south", "west"),
        "rounds": 3,
        "weights": 12,
        "data": DataFacts(
            name="leases",
            title="Leases of machines",
            digest=DIGEST,
            unit="borrower",
            label="binary",
            split="units",
            purposes=("credit",),
            kept_until="2027-01-01",
            place="CN",
            columns=(column("load"), column("code", levels=2, low=None, high=None)),
        ),
        "evaluation": evaluation(),
        "stability": StabilityFacts(
            by="member",
            fewest=100,
            groups=(
                GroupStability(
                    what="part",
                    group=None,
                    withheld=False,
                    shifts=(
                        Shift(column=None, psi=0.01, chance=0.03, band="stable"),
                        Shift(column="load", psi=0.3, chance=0.03, band="shifted"),
                    ),
                ),
                GroupStability(what="group", group="north", withheld=True, shifts=()),
            ),
        ),
        "importance": ImportanceFacts(
            members=3,
            rows=410,
            inputs=(
                Leaned(input="load", amount=0.5, share=0.8),
                Leaned(input="code", amount=0.125, share=0.2),
            ),
        ),
        "shapes": ShapeFacts(
            base=-1.5,
            reference="average",
            shapes=(
                Shape(
                    column="load", unit="h", weight=0.5, levels=(), of=0, at=(0.0, 0.5, 1.0),
                    amounts=(-0.5, 0.0, 0.7), missing=0.1,
                ),
                Shape(
                    column="code", unit=None, weight=0.2, levels=("a", "b", "other"), of=3, at=(),
                    amounts=(0.2, -0.1, 0.0), missing=None,
                ),
            ),
            none=None,
        ),
        "privacy": PrivacyFacts(
            noise="distributed",
            unit="borrower",
            epsilon=1.2,
            solo_epsilon=4.5,
            delta=1e-5,
            colluders=1,
            method="pld",
            true_positive_rate=0.05,
            multiplier=3.9,
            clip=1.0,
            rate=0.1,
            empirical=EmpiricalBound(
                canaries=1000, steps=3, confidence=0.95, epsilon_lower=0.2,
                epsilon_lower_gaussian=0.6, epsilon_claimed=1.1, multiplier=3.91,
                multiplier_claimed=3.9,
            ),
        ),
        "protection": ProtectionFacts(
            sum="masked", suite="intl", minimum_cohort=3, robust="none"
        ),
        "limits": limits_of(
            "credit", noise=True, drawn=True, purposes=True, network=False, explained=True
        ),
        "lineage": LineageFacts(
            model=DIGEST,
            manifest=DIGEST,
            contract=DIGEST,
            statistics=DIGEST,
            evaluation=DIGEST,
            rules=None,
            ledger_origin="tacit/coordinator/x",
            ledger_key=DIGEST,
            leaves=40,
            root=DIGEST,
            entry=41,
        ),
        "signed": SignatureFacts(name="launcher", key=DIGEST, countersigned=False),
    }  # fmt: skip
    return CardFacts(**{**facts, **changes})
