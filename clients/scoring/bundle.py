"""What an edge bundle says: a model, what its rows are, thresholds, a short card, until when."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from clients.scoring.additive import KIND as ADDITIVE
from clients.scoring.additive import read_additive
from clients.scoring.column import InputColumn, read_column
from clients.scoring.form import Form
from clients.scoring.readings_plan import ReadingsPlan, UnitColumn, read_plan, read_units
from clients.scoring.scorer import Scorer
from clients.scoring.words import Language, reason_text

FORMAT: Final = 1
MOST_INPUTS: Final = 5_000
MOST_THRESHOLDS: Final = 50
LAST_S: Final = 253_402_300_799  # the end of the year 9999

ReadScorer = Callable[[Form, Sequence[InputColumn]], Scorer]
SCORERS: Final[Mapping[str, ReadScorer]] = MappingProxyType({ADDITIVE: read_additive})
"""Kind of a model -> what reads its plain form. A further kind is one more line here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractName:
    """Which contract the model's rows keep."""

    name: str
    digest: str
    unit: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortCard:
    """What a person should know of the model before its scores count for anything.

    Attributes:
        run: Its run's id.
        manifest: Digest of what the run's members agreed on.
        weights: Digest of the weights.
        members: How many trained it.
        metrics: On the members' test rows together.
        privacy: What it cost, one sentence each.
    """

    run: str
    manifest: str
    weights: str
    members: int
    metrics: Mapping[str, float]
    privacy: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """See the module.

    Attributes:
        task: What the model is for.
        made_s: When it was made, seconds since 1970, UTC.
        expires_s: From when on it is refused; None: never.
        contract: Of the model's rows.
        units: What names a row's unit; none where every row is one of its own.
        missing: Texts that mean missing.
        inputs: What the model reads.
        scorer: The model.
        readings: How a device's readings become its indicators; None where rows bring all inputs.
        thresholds: Name -> the value from which a score is said to be above it.
        card: Of the model.
    """

    task: str
    made_s: int
    expires_s: int | None
    contract: ContractName
    units: tuple[UnitColumn, ...]
    missing: tuple[str, ...]
    inputs: tuple[InputColumn, ...]
    scorer: Scorer
    readings: ReadingsPlan | None
    thresholds: Mapping[str, float]
    card: ShortCard

    @property
    def stated(self) -> tuple[InputColumn, ...]:
        """Inputs that no reading gives: rows bring them, or beside readings a table of them."""
        if self.readings is None:
            return self.inputs
        made = {one.key for one in self.readings.indicators}
        return tuple(one for one in self.inputs if one.indicator not in made)

    def reason(
        self, column: InputColumn, value: float | str | None, amount: float, language: Language
    ) -> str:
        """One reason in plain words."""
        return reason_text(
            column.words,
            value,
            amount,
            kind=self.scorer.link,
            reference=self.scorer.reference,
            language=language,
        )

    def plain(self) -> dict[str, object]:
        """For canonical JSON."""
        contract, card = self.contract, self.card
        return {
            "format": FORMAT,
            "task": self.task,
            "made_s": self.made_s,
            "expires_s": self.expires_s,
            "contract": {
                "name": contract.name,
                "digest": contract.digest,
                "unit": contract.unit,
                "title": contract.title,
            },
            "units": [one.plain() for one in self.units],
            "missing": list(self.missing),
            "inputs": [one.plain() for one in self.inputs],
            "model": self.scorer.plain(),
            "readings": None if self.readings is None else self.readings.plain(),
            "thresholds": dict(self.thresholds),
            "card": {
                "run": card.run,
                "manifest": card.manifest,
                "weights": card.weights,
                "members": card.members,
                "metrics": dict(card.metrics),
                "privacy": list(card.privacy),
            },
        }


def read_bundle(value: object) -> Bundle:
    """Read what `Bundle.plain` gave; every number is held.

    Raises:
        NotVerifiedError: It is not as it must be; the sentence names the key.
    """
    form = Form(value, "bundle")
    form.whole("format", low=FORMAT, high=FORMAT)
    inputs = tuple(read_column(one) for one in form.forms("inputs", least=1, most=MOST_INPUTS))
    if len({one.name for one in inputs}) != len(inputs):
        raise form.fault("inputs", "has one twice")
    model = form.form("model")
    kind = model.choice("kind", *SCORERS)
    plan = form.form_or_none("readings")
    bundle = Bundle(
        task=form.text("task"),
        made_s=form.whole("made_s", low=0, high=LAST_S),
        expires_s=form.whole_or_none("expires_s", low=0, high=LAST_S),
        contract=_contract(form.form("contract")),
        units=read_units(form, least=0),
        missing=form.texts("missing", most=100),
        inputs=inputs,
        scorer=SCORERS[kind](model, inputs),
        readings=None if plan is None else read_plan(plan),
        thresholds=_figures(form, "thresholds", MOST_THRESHOLDS),
        card=_card(form.form("card")),
    )
    made = set() if bundle.readings is None else {one.key for one in bundle.readings.indicators}
    if not made <= {one.indicator for one in inputs}:
        raise form.fault("readings", "gives an indicator that the model does not read")
    if bundle.readings is not None and not bundle.units:
        raise form.fault("units", "names nobody whose readings these are")
    form.done()
    return bundle


def _contract(form: Form) -> ContractName:
    found = ContractName(
        name=form.text("name"),
        digest=form.hexadecimal("digest"),
        unit=form.text("unit"),
        title=form.text("title", least=0),
    )
    form.done()
    return found


def _card(form: Form) -> ShortCard:
    found = ShortCard(
        run=form.text("run"),
        manifest=form.hexadecimal("manifest"),
        weights=form.hexadecimal("weights"),
        members=form.whole("members", low=0, high=1_000_000),
        metrics=_figures(form, "metrics", 200),
        privacy=form.texts("privacy", most=50),
    )
    form.done()
    return found


def _figures(form: Form, key: str, most: int) -> Mapping[str, float]:
    inner = form.form(key)
    names = inner.keys()
    if len(names) > most:
        raise form.fault(key, f"has more than {most} keys")
    return MappingProxyType({name: inner.number(name) for name in names})
