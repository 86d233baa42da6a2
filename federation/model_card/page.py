"""A card's page: one HTML file that loads nothing and runs nothing, made from the facts alone.

It is well-formed XML too, so that any parser can hold it against what it should say. Everything
that others named is escaped, and cannot turn the words around it.
"""

import hashlib
import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from clients.reasons import Language
from federation.fingerprint import fingerprint
from federation.model_card import drawing
from federation.model_card.facts import CardFacts, Metric, Shift, StabilityFacts
from federation.model_card.words import WORDS
from privacy.canonical import canonical_json

SECTIONS: Final = (
    "limits",
    "data",
    "evaluation",
    "calibration",
    "stability",
    "importance",
    "shapes",
    "privacy",
    "protection",
    "lineage",
    "signatures",
)
"""Ids of the page's sections, in their order."""
_DIGITS: Final = 4


def make_page(facts: CardFacts, language: Language) -> bytes:
    """Return the page in one language, UTF-8."""

    def say(key: str, /, **values: object) -> Markup:
        return Markup.escape(WORDS[language][key]).format(
            **{
                name: Markup("<bdi>{}</bdi>").format(value) if isinstance(value, str) else value
                for name, value in values.items()
            }
        )

    bins = facts.evaluation.calibration
    page = _ENVIRONMENT.get_template("card.html").render(
        card=facts,
        t=say,
        title=WORDS[language]["page.title"].format(title=facts.title),
        language="zh-Hans" if language == "zh" else "en",
        style=Markup(_STYLE),  # noqa: S704 - the file is ours
        sections=SECTIONS,
        plot=drawing.calibration_plot(bins) if bins else None,
        leaning=() if facts.importance is None else drawing.leaning(facts.importance),
        panels=[(shape, drawing.panel(shape)) for shape in facts.shapes.shapes],
        moved=() if facts.stability is None else _by_column(facts.stability),
        facts_digest=facts_digest(facts),
        drawing=drawing,
    )
    return page.encode("utf-8")


def facts_digest(facts: CardFacts) -> str:
    """SHA-256, hexadecimal, of the facts' canonical JSON."""
    return hashlib.sha256(canonical_json(facts.model_dump(mode="json"))).hexdigest()


def _by_column(found: StabilityFacts) -> list[tuple[str, Shift | None, Shift | None, str | None]]:
    """Each input: test against training, and the most of any group with the group's name."""
    names: list[str] = []
    for one in found.groups:
        names += [s.column for s in one.shifts if s.column is not None and s.column not in names]
    rows: list[tuple[str, Shift | None, Shift | None, str | None]] = []
    for name in names:
        part = most = None
        where = None
        for one in found.groups:
            for shift in one.shifts:
                if shift.column != name:
                    continue
                if one.what == "part":
                    part = shift
                elif most is None or shift.psi > most.psi:
                    most, where = shift, one.group
        rows.append((name, part, most, where))
    return sorted(rows, key=lambda row: -max(s.psi for s in row[1:3] if s is not None))


def _figure(value: float | None) -> str:
    """A figure with four digits; whole numbers as they are."""
    if value is None:
        return ""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 10**_DIGITS:
        return f"{value:,.0f}"
    return f"{value:.{_DIGITS}g}"


def _value(metric: Metric) -> str:
    if metric.value is None:
        return ""
    return f"{metric.value:,.0f}" if metric.name == "rows" else _figure(metric.value)


def _share(value: float) -> str:
    return f"{100 * value:.1f}"


def _percent(value: float) -> str:
    return f"{100 * value:.3g}%"


def _index(value: float) -> str:
    return f"{value:.3f}"


def _whole(value: int) -> str:
    return f"{value:,}"


def _worst(shifts: Sequence[Shift]) -> Shift | None:
    inputs = [one for one in shifts if one.column is not None]
    return max(inputs, key=lambda one: one.psi) if inputs else None


def _count(shifts: Sequence[Shift], band: str) -> int:
    return sum(one.column is not None and one.band == band for one in shifts)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("federation.model_card", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=_figure,
        value=_value,
        share=_share,
        percent=_percent,
        index=_index,
        whole=_whole,
        worst=_worst,
        moved=_count,
        fingerprint=fingerprint,
        short=drawing.value_text,
    )
    return environment


_STYLE: Final = files("federation.model_card").joinpath("style.css").read_text(encoding="utf-8")
_ENVIRONMENT: Final = _environment()
