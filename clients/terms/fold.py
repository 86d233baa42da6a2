"""A subject's terms, day by day: state and a day's values -> state and acts. Pure.

What holds:
    1. Equal days in order give equal states and acts.
    2. Worse values on any days, all else equal, never give a better grade or a higher limit.
    3. Limit and premium never cross their bounds.
    4. A day without a value is unknown: it counts as neither good nor bad, and ends days in a row.
    5. A day that is not after the last one changes nothing; it is told as late.

On one day restores come first, so what takes away has the last word.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from clients.terms.rule import GRADES, TermRule, TermRules

Values = Mapping[str, float | None]
_ORDER: Final = ("restore", "cap", "cut", "freeze", "lower_premium", "raise_premium")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Where a subject stands.

    Attributes:
        day: The last day, in days since 0001-01-01 as 1; 0: none yet.
        grade: 0 (A) to 4 (E); None until the first value.
        limit: Share of the agreed limit.
        premium: Factor on the agreed premium.
        frozen: Whether nothing may be drawn.
        seen: Rule -> its condition on the last days, the newest last.
        acted: Rule -> the day it acted last.
    """

    day: int = 0
    grade: int | None = None
    limit: float = 1.0
    premium: float = 1.0
    frozen: bool = False
    seen: Mapping[str, tuple[bool | None, ...]]
    acted: Mapping[str, int]

    @property
    def letter(self) -> str:
        """A to E; - where nothing is known."""
        return "-" if self.grade is None else GRADES[self.grade]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a rule did on a day, or what a day came to.

    Attributes:
        day: When.
        kind: `grade`, `limit`, `premium`, `frozen`; `review`: it waits for a person; `unknown`:
            signals without a value, and days without a row; `late`: a day too late to count.
        rule: Which; empty where none.
        before: As it was.
        after: As it is, or would be.
        says: Why.
        says_zh: Why, in Chinese.
    """

    day: int
    kind: Literal["grade", "limit", "premium", "frozen", "review", "unknown", "late"]
    rule: str
    before: str
    after: str
    says: str
    says_zh: str


BEGINNING: Final = Terms(seen={}, acted={})


def after_day(
    rules: TermRules, before: Terms, day: int, values: Values
) -> tuple[Terms, tuple[Act, ...]]:
    """Return where a subject stands after a day, and what happened.

    Args:
        rules: The rules.
        before: Where it stood.
        day: Which day, from 1.
        values: Signal -> its value; one that is missing or None is unknown.
    """
    if day <= before.day:
        late = _act(
            day, "late", said=("the day came too late and changes nothing", "数据迟到,不作变更")
        )
        return before, (late,)
    missed = day - before.day - 1 if before.day else 0
    acts = _unknown(rules, day, values, missed)
    grade = _grade(rules, before.grade, values.get(rules.grade.of))
    if grade != before.grade:
        acts.append(
            _act(
                day,
                "grade",
                span=(before.letter, "-" if grade is None else GRADES[grade]),
                said=(f"{rules.grade.of} moved to another band", "指标进入另一等级区间"),
            )
        )
    seen = {one.id: _seen(one, before, values, missed) for one in rules.rules}
    now = replace(before, day=day, grade=grade, seen=seen)
    for rule in sorted(rules.rules, key=lambda one: _ORDER.index(one.do.act)):
        if seen[rule.id].count(True) >= rule.when.days:
            now, done = _carry_out(rules, now, rule)
            acts += done
    return now, tuple(acts)


def _unknown(rules: TermRules, day: int, values: Values, missed: int) -> list[Act]:
    acts = []
    if missed:
        said = (f"{missed} days before have no row", f"此前{missed}天无数据")
        acts.append(_act(day, "unknown", said=said))
    absent = [one.name for one in rules.signals if values.get(one.name) is None]
    if absent:
        said = (f"no value of {', '.join(absent)}", f"缺少数值:{', '.join(absent)}")
        acts.append(_act(day, "unknown", said=said))
    return acts


def _grade(rules: TermRules, before: int | None, value: float | None) -> int | None:
    """Worse at once; better only past the edge by the hysteresis."""
    if value is None:
        return before
    risk = {one.name: one.riskier for one in rules.signals}[rules.grade.of]
    sign = 1.0 if risk == "up" else -1.0
    edges = [sign * edge for edge in rules.grade.edges]
    bare = sum(edge <= sign * value for edge in edges)
    if before is None:
        return bare
    return max(
        bare, min(before, sum(edge <= sign * value + rules.grade.hysteresis for edge in edges))
    )


def _seen(rule: TermRule, before: Terms, values: Values, missed: int) -> tuple[bool | None, ...]:
    window = rule.when.window
    gap: tuple[bool | None, ...] = (None,) * min(missed, window)
    now = rule.when.holds(values.get(rule.when.signal))
    return (*before.seen.get(rule.id, ()), *gap, now)[-window:]


def _carry_out(rules: TermRules, now: Terms, rule: TermRule) -> tuple[Terms, list[Act]]:
    last = now.acted.get(rule.id)
    if last is not None and now.day - last <= rule.cooling_days:
        return now, []
    return _changed(rules, now, rule, reviewed=False)


def after_review(rules: TermRules, before: Terms, rule: str) -> tuple[Terms, tuple[Act, ...]]:
    """Return where a subject stands once a person let a rule act that waited for it."""
    chosen = next(one for one in rules.rules if one.id == rule)
    now, acts = _changed(rules, before, chosen, reviewed=True)
    return now, tuple(acts)


def _changed(
    rules: TermRules, now: Terms, rule: TermRule, *, reviewed: bool
) -> tuple[Terms, list[Act]]:
    last = now.acted.get(rule.id)
    limit, premium, frozen = _wanted(rules, now, rule)
    kind, old, new = "limit", now.limit, limit
    if premium != now.premium:
        kind, old, new = "premium", now.premium, premium
    said = (rule.says, rule.says_zh)
    # rounding makes no change of 20 % one above 20 %
    moved = abs(new - old) / old * 100 if old else 100.0 * (new > 0)
    if moved > rules.bounds.review_above_percent + 1e-9 and not reviewed:
        span = (f"{kind} {old:.4g}", f"{kind} {new:.4g}")
        acted = {**now.acted, rule.id: now.day}
        # told once while the condition goes on, not every day
        rests = last is not None and now.day - last <= rule.when.window
        if rule.do.act == "restore" and rests:
            return now, []
        return replace(now, acted=acted), [_act(now.day, "review", rule.id, span, said)]
    acts = []
    if new != old:
        acts.append(
            _act(
                now.day,
                "limit" if kind == "limit" else "premium",
                rule.id,
                (f"{old:.4g}", f"{new:.4g}"),
                said,
            )
        )
    if frozen != now.frozen:
        span = (str(now.frozen).lower(), str(frozen).lower())
        acts.append(_act(now.day, "frozen", rule.id, span, said))
    acted = dict(now.acted)
    if rule.do.act == "restore":
        # after a restore whatever it undoes may act again: else a bad day long ago would spare from
        # a cut or a freeze now
        undone = {one.id for one in rules.rules if one.do.act in {"cut", "cap", "freeze"}}
        acted = {name: when for name, when in acted.items() if name not in undone}
    elif acts:
        acted[rule.id] = now.day
    return replace(now, limit=limit, premium=premium, frozen=frozen, acted=acted), acts


def _wanted(rules: TermRules, now: Terms, rule: TermRule) -> tuple[float, float, bool]:
    bounds, do = rules.bounds, rule.do
    share = (do.percent or 0.0) / 100
    limit, premium, frozen = now.limit, now.premium, now.frozen
    if do.act == "freeze":
        frozen = True
    elif do.act == "restore":
        limit, frozen = 1.0, False
    elif do.act == "cut":
        limit = max(limit * (1 - share), min(limit, bounds.limit_floor))
    elif do.act == "cap":
        limit = min(limit, max(do.to or 0.0, bounds.limit_floor))
    elif do.act == "raise_premium":
        premium = min(premium * (1 + share), bounds.premium_ceiling)
    else:
        premium = max(premium * (1 - share), bounds.premium_floor)
    return limit, premium, frozen


def _act(
    day: int,
    kind: Literal["grade", "limit", "premium", "frozen", "review", "unknown", "late"],
    rule: str = "",
    span: tuple[str, str] = ("", ""),
    said: tuple[str, str] = ("", ""),
) -> Act:
    return Act(
        day=day, kind=kind, rule=rule, before=span[0], after=span[1], says=said[0], says_zh=said[1]
    )
