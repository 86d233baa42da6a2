"""All that a card says, as one frozen value; page and JSON are made from it and from nothing else.

What is said in words is a key of `words`; a key's meaning never changes.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from clients.frozen import Frozen
from federation.importance_shown import ImportanceFacts

FORMAT: Final = 1
FEWEST: Final = 10
"""Rows below which nothing is said of them: the threshold rule of output checking (Handbook on
Statistical Disclosure Control for Outputs, Safe Data Access Professionals Working Group, 2019)."""

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Source = Literal["indicator", "declared", "unstated"]
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class ColumnFacts(Frozen):
    """A column, as the contract has it; no value of any row.

    Attributes:
        name: How the product calls it.
        data_class: L1 to L4.
        unit: Physical unit; None without.
        use: What it is for: `input`, `label`, `id`, `time`, ...; `unused`: an input that this
            model leaves aside.
        source: `indicator`, `declared` or `unstated`.
        indicator: Which; None without.
        low: Of its range; None without.
        high: Of its range.
        levels: How many it has; None for numbers.
        note: The contract's.
    """

    name: str
    data_class: Literal["L1", "L2", "L3", "L4"]
    unit: str | None
    use: str
    source: Source
    indicator: str | None
    low: float | None
    high: float | None
    levels: int | None
    note: str | None


class DataFacts(Frozen):
    """What rows mean.

    Attributes:
        name: The contract's.
        title: Its line for people.
        digest: Of the contract.
        unit: Whom privacy protects.
        label: Kind of the label.
        split: How test rows were drawn; None where files say so.
        purposes: That the rows may serve; None where the contract does not say.
        kept_until: Last day on which rows may be kept; None where it does not say.
        place: Where they lie; None where it does not say.
        columns: In the contract's order.
    """

    name: str
    title: str
    digest: Hex
    unit: str
    label: str
    split: str | None
    purposes: tuple[str, ...] | None
    kept_until: str | None
    place: str | None
    columns: tuple[ColumnFacts, ...]


class Metric(Frozen):
    """One figure of a model on test rows.

    Attributes:
        name: As in a run's result.
        group: The group it is about; None for all rows.
        value: None where it is withheld.
        low: Of its 95 % interval; None without one.
        high: The same.
        method: How the interval was made, or why there is none.
        noise: Standard deviation that noise in the sums gives it; 0 for none, None if not known.
    """

    name: str
    group: str | None
    value: float | None
    low: float | None
    high: float | None
    method: str
    noise: float | None


class CalibrationBin(Frozen):
    """Rows of neighbouring scores.

    Attributes:
        predicted: Their mean score, a chance.
        happened: Share that it happened to.
        low: Of the 95 % interval of that share.
        high: The same.
        rows: How many, rounded.
    """

    predicted: float
    happened: float
    low: float
    high: float
    rows: int


class EvaluationFacts(Frozen):
    """What the members' test rows together say.

    Attributes:
        kind: Metric family.
        headline: The metric to quote.
        from_sum: Whether the opened sum was at hand; without it there are no intervals.
        noise: Standard deviation of the noise in each number of the sum; 0 for none.
        fewest: Rows below which nothing is said.
        metrics: Of all rows, then of each group.
        calibration: Lowest scores first.
        no_calibration: Why there is none.
    """

    kind: Literal["life", "value", "binary", "count"]
    headline: str
    from_sum: bool
    noise: float
    fewest: int
    metrics: tuple[Metric, ...]
    calibration: tuple[CalibrationBin, ...]
    no_calibration: str | None


class Shift(Frozen):
    """How far rows of one kind lie from others in one column, or in the score.

    Attributes:
        column: None for the score.
        psi: Population stability index, to three digits.
        chance: What it stays below 95 times in 100 where nothing differs, for so many rows.
        band: `stable`, `watch` or `shifted`.
    """

    column: str | None
    psi: float
    chance: float
    band: Literal["stable", "watch", "shifted"]


class GroupStability(Frozen):
    """One comparison.

    Attributes:
        what: `part` (test against training rows) or `group` (a group against all others).
        group: Its name; None for parts.
        withheld: Whether it has too few rows to be spoken of.
        shifts: The score's first.
    """

    what: Literal["part", "group"]
    group: str | None
    withheld: bool
    shifts: tuple[Shift, ...]


class StabilityFacts(Frozen):
    """What rows at hand say; they are those of whoever made the card, and are sent nowhere.

    Attributes:
        by: What makes a group: `member`, or a column's name.
        fewest: Rows below which nothing is compared.
        groups: Parts first.
    """

    by: str
    fewest: int
    groups: tuple[GroupStability, ...]


class Shape(Frozen):
    """What one column adds to an additive model's output.

    Attributes:
        column: Its name.
        unit: Physical unit; None without.
        weight: How much it matters.
        levels: Of a category, or of very many those that add or take most; empty for a number.
        of: How many levels there are.
        at: Where a number's amounts are, over its range in the contract and even in the scale in
            which the model sees it; empty for a category.
        amounts: As many.
        missing: What a missing number adds; None for a category.
    """

    column: str
    unit: str | None
    weight: float
    levels: tuple[str, ...]
    of: int
    at: tuple[float, ...]
    amounts: tuple[float, ...]
    missing: float | None


class ShapeFacts(Frozen):
    """A whole additive model.

    Attributes:
        base: Output where every column is at its reference.
        reference: `average` or `range`.
        shapes: Those that matter most first.
        none: Why there are none; None where there are.
    """

    base: float | None
    reference: Literal["average", "range"] | None
    shapes: tuple[Shape, ...]
    none: str | None


class EmpiricalBound(Frozen):
    """What an attack on the run's own noise found; see `privacy.empirical.Finding`."""

    canaries: int
    steps: int
    confidence: float
    epsilon_lower: float
    epsilon_lower_gaussian: float
    epsilon_claimed: float
    multiplier: float
    multiplier_claimed: float


class PrivacyFacts(Frozen):
    """What the run can tell of one unit.

    Attributes:
        noise: none, distributed or local.
        unit: Whom it protects.
        epsilon: Proven, against the coordinator with `colluders`; None: without bound.
        solo_epsilon: The same with all others together.
        delta: For which they need not hold; None without noise.
        colluders: Members with the coordinator.
        method: How epsilon was worked out.
        true_positive_rate: Best of any membership attack at one false positive in a hundred.
        multiplier: Noise of a step, in clips.
        clip: Longest gradient of a unit.
        rate: Of a unit to be in a step.
        empirical: None where no audit was made.
    """

    noise: Literal["none", "distributed", "local"]
    unit: str
    epsilon: float | None
    solo_epsilon: float | None
    delta: float | None
    colluders: int | None
    method: str | None
    true_positive_rate: float | None
    multiplier: float | None
    clip: float | None
    rate: float | None
    empirical: EmpiricalBound | None


class ProtectionFacts(Frozen):
    """How sums were protected: the kind, the suite of algorithms, the fewest members in a sum."""

    sum: Literal["masked", "sealed", "ckks", "clear"]
    suite: str
    minimum_cohort: int
    robust: str


class LineageFacts(Frozen):
    """Where the model came from.

    Attributes:
        model: Digest of the weights.
        manifest: Digest of what the members agreed on.
        contract: Digest of what rows mean.
        statistics: Digest of the opened feature statistics.
        evaluation: Digest of the opened test sum; None where it is not at hand.
        rules: Digest of the rules it was held against; None without.
        ledger_origin: Name of the ledger.
        ledger_key: Its public key.
        leaves: Entries of the ledger at the run's end.
        root: Over them.
        entry: Index of the entry that registered this model; None where the ledger is not at hand.
    """

    model: Hex
    manifest: Hex
    contract: Hex
    statistics: Hex
    evaluation: Hex | None
    rules: Hex | None
    ledger_origin: str
    ledger_key: Hex
    leaves: int
    root: Hex
    entry: int | None


class SignatureFacts(Frozen):
    """Who signed what the members agreed on.

    Attributes:
        name: `launcher`, or under which name it is in the federation.
        key: Its public key; the signature over the manifest holds under it.
        countersigned: Whether a second member had to sign too.
    """

    name: str
    key: Hex
    countersigned: bool


class CardFacts(Frozen):
    """See the module.

    Attributes:
        format: Of this form.
        run: The run's id.
        fold: Which model of a run with folds, from 1; None without folds.
        folds: How many; 0 without.
        made: When the card was made, UTC.
        title: One line for people.
        task: failure, claims or credit.
        kind: additive, mlp or cnn.
        members: Their names.
        rounds: How many.
        weights: How many.
        data: What rows mean.
        evaluation: How good it is.
        stability: None where no rows were at hand.
        importance: What the model leans on, over all members' test rows; None where the run did
            not ask, or too few answered.
        shapes: What each column adds.
        privacy: What it can tell of a unit.
        protection: How sums were protected.
        limits: What it is not for, and what is not covered; keys of `words`.
        lineage: Where it came from.
        signed: Who signed the manifest.
    """

    format: Literal[1]
    run: str
    fold: int | None
    folds: int
    made: str
    title: str
    task: Literal["failure", "claims", "credit"]
    kind: Literal["additive", "mlp", "cnn"]
    members: tuple[str, ...]
    rounds: int
    weights: int
    data: DataFacts
    evaluation: EvaluationFacts
    stability: StabilityFacts | None
    importance: ImportanceFacts | None = None
    shapes: ShapeFacts
    privacy: PrivacyFacts
    protection: ProtectionFacts
    limits: tuple[str, ...]
    lineage: LineageFacts
    signed: SignatureFacts
