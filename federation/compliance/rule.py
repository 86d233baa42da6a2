"""A rule: data that chooses one predicate, and says in two languages what is wrong and what mends.

The keys of a rule file:

    format: 1                 the form's version
    name, title, title_zh     of the set
    builds_on: baseline       a shipped set whose rules come first; default: none
    severity: {ID: refuse}    another severity for rules of that set
    rules:
      - id                    lower case, with -
        title, title_zh       what holds where it is kept
        severity              refuse | warn
        applies_to            contract | manifest | ledger
        when                  a predicate of `federation.compliance.predicate` for that subject
        with                  its parameters, all of them
        says, says_zh         what is wrong; {placeholders} that the predicate gives
        mend, mend_zh         what to do
        sources:              one or more
          - name, name_zh     of the law or standard
            see, see_zh       where in it; leave out where only the whole is meant
"""

from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from clients.frozen import Frozen, nearest
from federation.compliance.predicate import ABOUT, CONTRACT, LEDGER, MANIFEST, Parameter, Predicate

Severity = Literal["refuse", "warn"]
AppliesTo = Literal["contract", "manifest", "ledger"]
Language = Literal["en", "zh"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "zh")
_TABLES: Final[Mapping[str, Mapping[str, Predicate[Any]]]] = {
    "contract": CONTRACT,
    "manifest": MANIFEST,
    "ledger": LEDGER,
}
_FIRST_HAN, _LAST_HAN = "\u4e00", "\u9fff"


def _chinese(text: str) -> str:
    if not any(_FIRST_HAN <= character <= _LAST_HAN for character in text):
        raise ValueError("expected Chinese text")
    return text


Line = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f]*$")]
ChineseLine = Annotated[Line, AfterValidator(_chinese)]
Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,63}$")]
SetName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Source(Frozen):
    """Where a rule comes from: a law or standard, and where in it."""

    name: Line
    name_zh: ChineseLine
    see: Line | None = None
    see_zh: ChineseLine | None = None

    @model_validator(mode="after")
    def _in_both(self) -> Self:
        if (self.see is None) != (self.see_zh is None):
            raise ValueError("give see and see_zh, or neither")
        return self

    def said(self, language: Language) -> str:
        """For a person."""
        if language == "zh":
            return f"{self.name_zh}{self.see_zh or ''}"
        return self.name if self.see is None else f"{self.name}, {self.see}"


class Rule(Frozen):
    """One rule; one that exists names a known predicate, and its sentences can be filled."""

    id: Id
    title: Line
    title_zh: ChineseLine
    severity: Severity
    applies_to: AppliesTo
    when: str
    parameters: dict[str, object] = Field(default_factory=dict, alias="with")
    says: Line
    says_zh: ChineseLine
    mend: Line
    mend_zh: ChineseLine
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _can_be_checked(self) -> Self:
        known = _TABLES[self.applies_to]
        if self.when not in known:
            guess = nearest(self.when, known)
            advice = f"did you mean {guess}" if guess else f"known are {', '.join(known)}"
            raise ValueError(f"when: no predicate {self.when} for a {self.applies_to}; {advice}")
        predicate = known[self.when]
        _check_parameters(self.parameters, predicate.parameters)
        for key in ("says", "mend"):
            english = _placeholders(key, getattr(self, key), predicate.gives)
            chinese = _placeholders(f"{key}_zh", getattr(self, f"{key}_zh"), predicate.gives)
            if english != chinese:
                odd = ", ".join(sorted(english ^ chinese))
                raise ValueError(f"{key}_zh: must have the placeholders of {key}; see {odd}")
        return self

    def text(self, key: Literal["title", "says", "mend"], language: Language) -> str:
        """One of its texts."""
        text: str = getattr(self, key if language == "en" else f"{key}_zh")
        return text


class RuleFile(Frozen):
    """A rule file; see the top of `federation/compliance/rule.py`."""

    format: Literal[1]
    name: SetName
    title: Line
    title_zh: ChineseLine
    builds_on: SetName | None = None
    severity: dict[str, Severity] = Field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if self.builds_on is None and not self.rules:
            raise ValueError("rules: is missing; add one rule or more, or builds_on: baseline")
        if self.builds_on is None and self.severity:
            raise ValueError("severity: is for the rules of a set; add builds_on, or remove it")
        return self


def _check_parameters(given: Mapping[str, object], wanted: Mapping[str, Parameter]) -> None:
    for name in given:
        if name not in wanted:
            known = ", ".join(wanted) or "none"
            raise ValueError(f"with.{name}: unknown key; known here are {known}")
    for name, parameter in wanted.items():
        if name not in given:
            raise ValueError(f"with.{name}: is missing; give {parameter.expected}")
        if not parameter.holds(given[name]):
            raise ValueError(f"with.{name}: expected {parameter.expected}")


def _placeholders(key: str, text: str, gives: frozenset[str]) -> set[str]:
    """The placeholders of a sentence; only plain names, so that no text can reach into a value."""
    known = {ABOUT, *gives}
    found: set[str] = set()
    try:
        parts = list(Formatter().parse(text))
    except ValueError:
        raise ValueError(f"{key}: a brace has no partner; write {{{{ for a brace") from None
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if name not in known or form or conversion:
            raise ValueError(
                f"{key}: unknown placeholder {{{name}}}; known here are {', '.join(sorted(known))}"
            )
        found.add(name)
    return found
