"""What a rule found: who breaks it, what is wrong, what mends it, and where it says so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from federation.compliance.predicate import ABOUT, Match
from federation.compliance.rule import Language, Rule, Severity, Source
from privacy.errors import RefusedError

_BETWEEN: Final[Mapping[Language, str]] = {"en": "; ", "zh": "\uff1b"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One broken rule, about one thing.

    Attributes:
        rule: The rule's id.
        severity: `refuse` or `warn`.
        about: The contract, the run or the run's id.
        sentence, sentence_zh: What is wrong.
        mend, mend_zh: What to do.
        sources: Laws and standards.
    """

    rule: str
    severity: Severity
    about: str
    sentence: str
    sentence_zh: str
    mend: str
    mend_zh: str
    sources: tuple[Source, ...]

    def said(self, language: Language = "en") -> str:
        """What is wrong, for a person."""
        return self.sentence if language == "en" else self.sentence_zh

    def advice(self, language: Language = "en") -> str:
        """What to do, for a person."""
        return self.mend if language == "en" else self.mend_zh

    def source(self, language: Language = "en") -> str:
        """Its sources on one line."""
        return _BETWEEN[language].join(source.said(language) for source in self.sources)


def found(rule: Rule, match: Match) -> Finding:
    """A rule's sentences, filled."""
    values = {ABOUT: match.about, **match.values}
    return Finding(
        rule=rule.id,
        severity=rule.severity,
        about=match.about,
        sentence=rule.says.format(**values),
        sentence_zh=rule.says_zh.format(**values),
        mend=rule.mend.format(**values),
        mend_zh=rule.mend_zh.format(**values),
        sources=rule.sources,
    )


def refused(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Those that refuse."""
    return tuple(one for one in findings if one.severity == "refuse")


def warned(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Ids of the rules that warn, sorted, each once."""
    return tuple(sorted({one.rule for one in findings if one.severity == "warn"}))


def require_lawful(findings: Sequence[Finding], language: Language = "en") -> None:
    """Go on only where no rule refuses.

    Raises:
        RefusedError: One does; the first one's sentence, what mends it, and its source.
    """
    for one in refused(findings):
        said, advice, source = one.said(language), one.advice(language), one.source(language)
        raise RefusedError(f"{said} {advice} (rule {one.rule}; see {source})")


def findings_facts(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """For programs: plain values, in both languages."""
    return [
        {
            "rule": one.rule,
            "severity": one.severity,
            "about": one.about,
            "says": one.sentence,
            "says_zh": one.sentence_zh,
            "mend": one.mend,
            "mend_zh": one.mend_zh,
            "sources": [source.said("en") for source in one.sources],
            "sources_zh": [source.said("zh") for source in one.sources],
        }
        for one in findings
    ]
