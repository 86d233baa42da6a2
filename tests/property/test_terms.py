"""Terms against a naive fold, and what holds whatever the values."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.frozen import parse_settings
from clients.terms.fold import BEGINNING, Terms, after_day
from clients.terms.log import Day, Decision, add_days, new_log, read_log, signed_by, write_log
from clients.terms.rule import TermRules, load_terms
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.identity import Identity
from privacy.randomness import system_bytes

RULES = load_terms(
    Path(__file__).parents[2] / "configs" / "scenarios" / "construction_lease" / "terms.yaml"
)
SHORT = RULES.model_copy(
    update={
        "rules": tuple(
            rule.model_copy(
                update={
                    "when": rule.when.model_copy(update={"days": 2, "within": 3}),
                    "cooling_days": 0 if rule.do.act == "restore" else 4,
                }
            )
            for rule in RULES.rules
        )
    }
)
LEVEL = st.one_of(st.none(), st.sampled_from([0.0, 0.05, 0.1, 0.12, 0.2, 0.3, 0.5]))
ROW = st.fixed_dictionaries(
    {"utilisation": LEVEL, "downtime_share": LEVEL, "default_probability": LEVEL}
)
HISTORY = st.lists(ROW, min_size=1, max_size=30)


def fold(rows: list[dict[str, float | None]], rules: TermRules = SHORT) -> list[Terms]:
    now, found = BEGINNING, []
    for day, row in enumerate(rows, 1):
        now, _ = after_day(rules, now, day, row)
        found.append(now)
    return found


def worse(row: dict[str, float | None], by: float) -> dict[str, float | None]:
    sign = {"utilisation": -1.0, "downtime_share": 1.0, "default_probability": 1.0}
    return {name: None if v is None else v + sign[name] * by for name, v in row.items()}


@settings(max_examples=150, deadline=None)
@given(HISTORY, st.lists(st.sampled_from([0.0, 0.05, 0.2]), min_size=30, max_size=30))
def test_worse_values_never_give_a_better_grade_or_a_higher_limit(
    rows: list[dict[str, float | None]], by: list[float]
) -> None:
    lower = fold([worse(row, step) for row, step in zip(rows, by, strict=False)])
    for good, bad in zip(fold(rows), lower, strict=True):
        assert (bad.grade or 0) >= (good.grade or 0)
        assert bad.limit <= good.limit + 1e-12
        assert bad.frozen >= good.frozen


@settings(max_examples=100, deadline=None)
@given(HISTORY)
def test_bounds_are_never_crossed_and_a_naive_grade_agrees(
    rows: list[dict[str, float | None]],
) -> None:
    grade: int | None = None
    for row, now in zip(rows, fold(rows), strict=True):
        assert 0.3 <= now.limit <= 1
        assert 0.8 <= now.premium <= 1.5
        value = row["default_probability"]
        if value is not None:
            bare = [e <= value for e in (0.05, 0.1, 0.2, 0.35)].count(True)
            late = [e <= value + 0.01 for e in (0.05, 0.1, 0.2, 0.35)].count(True)
            grade = bare if grade is None or bare > grade else min(grade, late)
        assert now.grade == grade


@settings(max_examples=60, deadline=None)
@given(HISTORY)
def test_conditions_are_those_of_a_naive_count(rows: list[dict[str, float | None]]) -> None:
    frozen = False
    for day, now in enumerate(fold(rows)):
        last = [row["utilisation"] for row in rows[max(0, day - 2) : day + 1]]
        back = sum(v is not None and v > 0.25 for v in last) >= 2
        if back and now.limit == 1:
            frozen = False
        if sum(v is not None and v < 0.1 for v in last) >= 2:
            frozen = True
        if not back:
            assert now.frozen == frozen
        frozen = now.frozen


OWN = Identity.create(system_bytes)
SIGN, KEYS = signed_by(OWN), {OWN.public.hex()}


@settings(max_examples=40, deadline=None)
@given(HISTORY, st.randoms())
def test_order_and_repeated_rows_do_not_matter(
    rows: list[dict[str, float | None]], chance: object
) -> None:
    days = [Day(subject="m", day=i, values=row) for i, row in enumerate(rows, 1)]
    mixed = days * 2
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    one, two = new_log(SHORT, SIGN), new_log(SHORT, SIGN)
    add_days(one, days)
    add_days(two, mixed)
    assert one.lines == two.lines


def test_unknown_days_are_neither_quiet_nor_bad() -> None:
    quiet: dict[str, float | None] = {
        "utilisation": 0.5,
        "downtime_share": 0.0,
        "default_probability": 0.01,
    }
    now, acts = after_day(RULES, BEGINNING, 1, quiet)
    for day in [*range(2, 30), 31]:
        now, acts = after_day(RULES, now, day, quiet)
    assert now.premium == 1.0
    assert acts[0].kind == "unknown"
    for day in range(32, 61):
        now, acts = after_day(RULES, now, day, quiet)
    assert now.premium == pytest.approx(0.95)
    again, acts = after_day(RULES, now, 40, quiet)
    assert (again, acts[0].kind) == (now, "late")
    for day in range(61, 90):
        now, _ = after_day(RULES, now, day, {})
    assert not now.frozen


def test_a_freeze_that_was_lifted_spares_nobody_from_the_next() -> None:
    used = [None] * 6 + [0.0, 0.3, 0.0, 0.3, 0.0]
    rows = [dict[str, float | None](utilisation=value) for value in used]
    assert [one.frozen for one in fold(rows)][-3:] == [True, False, True]


def test_seven_days_below_freeze() -> None:
    idle: dict[str, float | None] = {
        "utilisation": 0.0,
        "downtime_share": 0.1,
        "default_probability": 0.01,
    }
    states = fold([idle] * 7, RULES)
    assert [one.frozen for one in states] == [False] * 6 + [True]


def test_a_changed_log_is_seen(tmp_path: Path) -> None:
    log = new_log(RULES, SIGN)
    add_days(log, [Day(subject="m", day=d, values={"utilisation": 0.0}) for d in range(1, 9)])
    path = tmp_path / "log.jsonl"
    write_log(log, path)
    assert read_log(path, keys=KEYS, head=log.head).terms == log.terms
    whole = path.read_bytes()
    for old, new in ((b'"utilisation":0.0', b'"utilisation":0.9'), (b'"true"', b'"fals"')):
        path.write_bytes(whole.replace(old, new, 1))
        with pytest.raises(NotVerifiedError):
            read_log(path, keys=KEYS)
    path.write_bytes(b"\n".join(whole.splitlines()[:-1]) + b"\n")
    with pytest.raises(NotVerifiedError, match="cut"):
        read_log(path, keys=KEYS, head=log.head)


@pytest.mark.parametrize(
    "signal", [{"name": "vibration"}, {"name": "vibration", "indicator": "vibration"}]
)
def test_raw_readings_are_refused(signal: dict[str, str]) -> None:
    said = RULES.model_dump(mode="json")
    said["signals"] = [*said["signals"], {**signal, "riskier": "up"}]
    with pytest.raises(InputError, match=r"raw reading|no indicator"):
        parse_settings(TermRules, said, "terms.yaml")


def test_a_large_change_waits_for_a_person(tmp_path: Path) -> None:
    rules = RULES.model_copy(
        update={"bounds": RULES.bounds.model_copy(update={"review_above_percent": 5.0})}
    )
    log = new_log(rules, SIGN)
    bad: dict[str, float | None] = {"downtime_share": 0.5}
    add_days(log, [Day(subject="m", day=day, values=bad) for day in range(1, 8)])
    assert log.terms["m"].limit == 1.0
    assert log.waiting == {("m", "much-downtime")}
    said = Decision(subject="m", rule="much-downtime", approved=True, by="ann", reason="seen it")
    log.decide(said)
    assert log.terms["m"].limit == pytest.approx(0.9)
    with pytest.raises(RefusedError, match="waits for nobody"):
        log.decide(said)
    path = tmp_path / "log.jsonl"
    write_log(log, path)
    assert read_log(path, keys=KEYS).terms == log.terms
    path.write_bytes(path.read_bytes().replace(b'"by":"ann"', b'"by":"bob"'))
    with pytest.raises(NotVerifiedError):
        read_log(path, keys=KEYS, head=log.head)
