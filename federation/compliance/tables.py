"""Rules and findings, for people."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from federation.compliance.finding import Finding, refused, warned
from federation.compliance.rule import Language, Rule

_SHOWN: Final = 3
_WORDS: Final[Mapping[Language, Mapping[str, str]]] = {
    "en": {
        "refuse": "refuse",
        "warn": "warn",
        "contract": "contract",
        "manifest": "manifest",
        "ledger": "ledger",
        "source": "see",
        "none": "No rule is broken.",
    },
    "zh": {
        "refuse": "拒绝",
        "warn": "提醒",
        "contract": "数据契约",
        "manifest": "运行清单",
        "ledger": "账本",
        "source": "依据",
        "none": "未违反任何规则。",
    },
}


def findings_table(findings: Sequence[Finding], language: Language = "en") -> RenderableType:
    """Findings, rule by rule: where many runs break the same one, the first is told."""
    words = _WORDS[language]
    if not findings:
        return Text(words["none"])
    by_rule: dict[str, list[Finding]] = {}
    for one in findings:
        by_rule.setdefault(one.rule, []).append(one)
    # columns would be narrow on a terminal of 80 characters, and sentences are long
    parts: list[RenderableType] = []
    for rule, same in by_rule.items():
        first = same[0]
        about = [one.about for one in same]
        more = f" (+{len(about) - _SHOWN})" if len(about) > _SHOWN else ""
        head = f"{words[first.severity]}: {rule} ({', '.join(about[:_SHOWN])}{more})"
        said = f"{first.said(language)} {first.advice(language)}"
        parts += [
            Text(head, style="bold red" if first.severity == "refuse" else "bold yellow"),
            Padding(Text(said), (0, 0, 0, 2)),
            Padding(
                Text(f"{words['source']}: {first.source(language)}", style="dim"), (0, 0, 1, 2)
            ),
        ]
    return Group(*parts)


def findings_line(findings: Sequence[Finding]) -> str | None:
    """Findings in one sentence, for a log or a progress line; None where there are none."""
    if not findings:
        return None
    broken = sorted({one.rule for one in refused(findings)})
    parts = [f"refused by {', '.join(broken)}"] if broken else []
    warnings = warned(findings)
    parts += [f"warned by {', '.join(warnings)}"] if warnings else []
    return f"Rules: {'; '.join(parts)}. tacit rules check says what mends it."


def rules_table(rules: Sequence[Rule], digest: str, language: Language = "en") -> RenderableType:
    """A set of rules."""
    words = _WORDS[language]
    parts: list[RenderableType] = []
    for rule in rules:
        said = f"{words[rule.severity]}: {rule.id} ({words[rule.applies_to]})"
        sources = "; ".join(source.said(language) for source in rule.sources)
        parts += [
            Text(said, style="bold"),
            Padding(Text(rule.text("title", language)), (0, 0, 0, 2)),
            Padding(Text(f"{words['source']}: {sources}", style="dim"), (0, 0, 1, 2)),
        ]
    return Group(*parts, Text(digest))


def rules_facts(rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """For programs: a set of rules as read."""
    return [rule.model_dump(mode="json", by_alias=True) for rule in rules]
