"""Each rule has a case that breaks it and a twin that does not; a rule file that is off is told."""

import copy
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType
from typer.testing import CliRunner

from clients.contract import DataContract, load_contract
from clients.frozen import parse_yaml
from federation.cli import rules as verb
from federation.compliance import (
    Finding,
    RunFacts,
    check_contract,
    check_ledger,
    check_run,
    facts_of_manifest,
    facts_of_project,
    findings_facts,
    findings_line,
    findings_table,
    load_rules,
    plan_findings,
    refused,
    require_lawful,
    rules_digest,
    rules_table,
    warned,
)
from federation.compliance.rule import RuleFile
from federation.compliance.rule_set import shipped_sets
from federation.config import load_project
from privacy.canonical import canonical_json
from privacy.errors import InputError, RefusedError, TacitError

ROOT = Path(__file__).parents[3]
SHIPPED = sorted(ROOT.glob("configs/*.yaml")) + sorted(ROOT.glob("federation/scenarios/*.yaml"))
AT = datetime(2026, 7, 1, 12, tzinfo=UTC)
BASELINE = load_rules("baseline")
FINANCE = load_rules("finance_cn")
FULL = {
    "purposes": ["credit", "claims"],
    "retention_days": 30,
    "collected": "2026-06-01",
    "place": "CN",
    "cross_border": False,
    "important": False,
}
CONTRACT: dict[str, Any] = {
    "contract": 1,
    "name": "loans",
    "unit": "borrower",
    "sources": [{"path": "loans.csv"}],
    "columns": [
        {"name": "who", "type": "integer", "role": "id", "class": "L3"},
        {"name": "income", "type": "number", "class": "L3", "range": [0, 100], "declared": True},
        {"name": "job", "type": "category", "class": "L2", "levels": ["a", "b"], "declared": True},
        {"name": "late", "type": "integer", "role": "label", "class": "L3"},
    ],
    "split": {"kind": "units", "seed": 0, "test_share": 0.5},
    "label": {"kind": "binary", "column": "late"},
    "governance": FULL,
}
RUN = RunFacts(
    name="nightly", task="credit", protection="masked", fewest=3, noise=True, model="additive"
)


def contract(**governance: object) -> DataContract:
    value = copy.deepcopy(CONTRACT)
    value["governance"].update(governance)
    value["governance"] = {k: v for k, v in value["governance"].items() if v is not None}
    return build(value)


def with_columns(**classes: str) -> DataContract:
    """The contract with other classes; `income_role` would be another role."""
    value = copy.deepcopy(CONTRACT)
    for column in value["columns"]:
        column["class"] = classes.get(column["name"], column["class"])
        if column["name"] == "income" and "income_role" in classes:
            column["role"] = classes["income_role"]
            del column["declared"]  # a sensor is measured
    return build(value)


def build(value: dict[str, Any]) -> DataContract:
    return parse_yaml(DataContract, yaml.safe_dump(value), "x.yaml")


@dataclass(frozen=True)
class Line:
    """An entry, without what chains it."""

    index: int
    time_ms: int
    kind: str
    body: Mapping[str, object]


@dataclass(frozen=True)
class Story:
    """A ledger of one run, with what went otherwise."""

    members: tuple[str, ...] = ("a", "b", "c")
    consented: tuple[str, ...] = ("a", "b", "c")
    mechanism: str = "gaussian"
    classes: Mapping[str, int] | None = field(default_factory=lambda: {"L3": 2, "L4": 0})
    stopped: str | None = None
    days_ago: int = 1
    retention_days: int | None = 30
    checked: bool = True

    def entries(self) -> list[Line]:
        told: list[tuple[str, dict[str, object]]] = []
        if self.checked:
            told.append(("rules.checked", {"rules": "00" * 32, "warnings": []}))
        if self.classes is not None:
            said = {"classes": dict(self.classes), "retention_days": self.retention_days}
            told.append(("data.declared", {"contract": "00" * 32, **said}))
        told.append(("run.started", {"task": "credit", "minimum": 3}))
        told += [("run.consented", {"member": member}) for member in self.consented]
        told.append(("sum.reserved", {"receipt": {"mechanism": self.mechanism}}))
        told.append(("sum.opened", {"members": list(self.members)}))
        if self.stopped is not None:
            told.append(("run.stopped", {"reason": self.stopped}))
        time_ms = int((AT - timedelta(days=self.days_ago)).timestamp() * 1000)
        lines = [
            Line(place + 1, time_ms, kind, {"run": "20260630-x", **body})
            for place, (kind, body) in enumerate(told)
        ]
        return [Line(0, time_ms, "ledger.begun", {"origin": "here"}), *lines]


def ids(findings: tuple[Finding, ...]) -> set[str]:
    return {one.rule for one in findings}


def of_contract(one: DataContract) -> tuple[Finding, ...]:
    return check_contract(BASELINE, one, AT)


def of_run(one: DataContract | None = None, **facts: Any) -> tuple[Finding, ...]:  # noqa: ANN401 - any fact
    return check_run(BASELINE, one or contract(), replace(RUN, **facts))


def of_ledger(**story: Any) -> tuple[Finding, ...]:  # noqa: ANN401 - any part of a story
    return check_ledger(BASELINE, Story(**story).entries(), AT)


def stated(*names: str) -> DataContract:
    """The contract with these inputs declared, and no others."""
    value = copy.deepcopy(CONTRACT)
    for column in value["columns"]:
        column.pop("declared", None)
        if column["name"] in names:
            column["declared"] = True
    return build(value)


INCOME_L4 = with_columns(income="L4")
INTERNAL = with_columns(income="L2", late="L2")
SENSOR = with_columns(income_role="sensor")
Check = Callable[[], tuple[Finding, ...]]
# rule -> what breaks it, its twin that does not, and words of the sentence
CASES: dict[str, tuple[Check, Check, str]] = {
    "governance-stated": (
        lambda: of_contract(contract(place=None, collected=None)),
        lambda: of_contract(contract()),
        "collected, place",
    ),
    "secret-declared-as-input": (
        lambda: of_contract(INCOME_L4),
        lambda: of_contract(with_columns(who="L4")),
        "income",
    ),
    "important-data-stays": (
        lambda: of_contract(contract(important=True, cross_border=True)),
        lambda: of_contract(contract(important=True)),
        "border of CN",
    ),
    "people-across-the-border": (
        lambda: of_contract(contract(cross_border=True)),
        lambda: of_contract(contract(cross_border=False)),
        "each borrower",
    ),
    "retention-kept": (
        lambda: of_contract(contract(retention_days=29)),
        lambda: of_contract(contract(retention_days=30)),
        "until 2026-06-30",
    ),
    "purpose-consented": (
        lambda: of_run(contract(purposes=["claims", "failure"])),
        lambda: of_run(contract(purposes=["credit"])),
        "for credit; the contract loans was consented to for claims, failure alone",
    ),
    "secret-not-read": (
        lambda: of_run(INCOME_L4),
        lambda: of_run(INCOME_L4, without=("income",)),
        "class L4: income",
    ),
    "confidential-with-noise": (
        lambda: of_run(noise=False),
        lambda: of_run(noise=True),
        "class L3: income, late",
    ),
    "internal-with-noise": (
        lambda: of_run(INTERNAL, noise=False),
        lambda: of_run(contract(), noise=False),  # the stricter rule speaks alone
        "class L2: income, job, late",
    ),
    "confidential-sums-hidden": (
        lambda: of_run(protection="ckks"),
        lambda: of_run(INTERNAL, protection="ckks"),
        "by ckks alone",
    ),
    "three-in-a-sum": (
        lambda: of_run(fewest=2),
        lambda: of_run(fewest=3),
        "over 2 members, and 3 is the least",
    ),
    "no-raw-reading-in-a-score": (
        lambda: of_run(SENSOR),
        lambda: of_run(SENSOR, task="failure"),
        "a credit score: income",
    ),
    "indicators-stated": (
        lambda: of_run(stated()),
        lambda: of_run(stated("job")),
        "the contract loans says of no input",
    ),
    "score-reads-indicators": (
        lambda: of_run(stated("job")),
        lambda: of_run(stated("job"), without=("income",)),
        "nor declared: income",
    ),
    "score-explains-itself": (
        lambda: of_run(model="mlp"),
        lambda: of_run(model="mlp", task="failure"),
        "of kind mlp",
    ),
    "consent-on-record": (
        lambda: of_ledger(consented=("a",)),
        lambda: of_ledger(members=("a", "b", "c")),
        "b, c",
    ),
    "exact-release-on-record": (
        lambda: of_ledger(mechanism="none"),
        lambda: of_ledger(mechanism="none", classes={"L2": 9}),
        "1 releases without noise about data of class L3",
    ),
    "sums-kept-the-minimum": (
        lambda: of_ledger(members=("a", "b")),
        of_ledger,
        "Entry 8 of run 20260630-x opened a sum over 2 members",
    ),
    "stop-has-a-reason": (
        lambda: of_ledger(stopped="failed inside"),
        lambda: of_ledger(stopped="stopped by hand (Ctrl-C)"),
        "does not say why",
    ),
    "old-runs-are-gone": (
        lambda: of_ledger(days_ago=31),
        lambda: of_ledger(days_ago=29),
        "began on 2026-05-31",
    ),
    "rules-on-record": (
        lambda: of_ledger(checked=False),
        lambda: of_ledger(checked=True),
        "no record",
    ),
}


@pytest.mark.parametrize("rule", sorted(CASES))
def test_a_rule_finds_what_breaks_it_and_lets_its_twin_pass(rule: str) -> None:
    breaks, holds, words = CASES[rule]
    found = [one for one in breaks() if one.rule == rule]
    assert len(found) == 1
    assert words in found[0].sentence
    assert "{" not in found[0].sentence + found[0].sentence_zh
    assert found[0].about in {"loans", "nightly", "20260630-x"}
    assert rule not in ids(holds())


def test_every_shipped_rule_has_a_case() -> None:
    assert {rule.id for rule in (*BASELINE, *FINANCE)} == set(CASES)


def test_a_lawful_run_breaks_nothing() -> None:
    assert of_contract(contract()) == of_run() == of_ledger() == ()


def test_a_contract_that_says_nothing_is_warned_once_and_not_refused() -> None:
    value = copy.deepcopy(CONTRACT)
    del value["governance"]
    silent = build(value)
    found = (*of_contract(silent), *of_run(silent))
    assert ids(found) == {"governance-stated"}
    assert not refused(found)
    assert all(key in found[0].sentence for key in FULL)


def test_what_a_ledger_does_not_declare_counts_as_confidential() -> None:
    found = of_ledger(mechanism="none", classes=None)
    assert "exact-release-on-record" in ids(found)
    assert "class ?" in found[0].sentence


def test_a_release_that_does_not_name_its_noise_has_none() -> None:
    lines = [
        replace(line, body={"run": "20260630-x"}) if line.kind == "sum.reserved" else line
        for line in Story().entries()
    ]
    assert "exact-release-on-record" in ids(check_ledger(BASELINE, lines, AT))


def test_important_data_elsewhere_are_refused_even_if_they_do_not_move() -> None:
    assert "important-data-stays" in ids(of_contract(contract(important=True, place="SG")))
    assert "important-data-stays" not in ids(of_contract(contract(place="SG")))


def test_machines_may_cross_a_border_and_series_may_not_enter_a_score() -> None:
    machines = build(CONTRACT | {"unit": "machine", "governance": {**FULL, "cross_border": True}})
    assert of_contract(machines) == ()
    engines = load_contract(ROOT / "configs" / "contracts" / "cmapss.yaml")
    without = tuple(column.name for column in engines.by_role("sensor"))
    found = of_run(engines, without=without)  # what is left is no sensor, but a series still
    assert [one.rule for one in refused(found)] == ["no-raw-reading-in-a-score"]


def test_an_empty_reason_is_none() -> None:
    assert ids(of_ledger(stopped=" ")) == ids(of_ledger(stopped="")) == {"stop-has-a-reason"}


def test_a_nodes_own_ledger_and_unknown_kinds_say_nothing_about_runs() -> None:
    lines = [
        Line(0, 0, "budget.reserved", {"run": "x", "receipt": {"mechanism": "none"}}),
        Line(1, 0, "something.new", {"run": "x"}),
        Line(2, 0, "something.newer", {"run": 3}),
    ]
    assert check_ledger(BASELINE, lines, AT) == ()


def test_refusals_come_first_and_the_first_one_is_raised() -> None:
    found = of_run(INCOME_L4, noise=False, fewest=2)
    assert [one.severity for one in found] == ["refuse", "refuse", "warn"]
    with pytest.raises(
        RefusedError, match=r"L4: income\. Name them .* \(rule secret-not-read; see"
    ):
        require_lawful(found)
    with pytest.raises(RefusedError, match=r"features\.without 中列出.*个人金融信息保护"):
        require_lawful(found, "zh")
    require_lawful(of_run(noise=False))  # a warning stops nobody
    assert warned(found) == ("confidential-with-noise",)
    assert findings_line(found) == (
        "Rules: refused by secret-not-read, three-in-a-sum; warned by confidential-with-noise. "
        "tacit rules check says what mends it."
    )
    assert findings_line(()) is None


# ---- sets of rules -------------------------------------------------------------------------------


def test_every_rule_has_a_source_and_chinese_text() -> None:
    for rule in FINANCE:
        assert rule.sources
        texts = [rule.title_zh, rule.says_zh, rule.mend_zh]
        texts += [source.said("zh") for source in rule.sources]
        assert all(any("一" <= character <= "鿿" for character in text) for text in texts)


def test_shipped_files_bear_their_own_names() -> None:
    assert shipped_sets() == ("baseline", "finance_cn")
    for name in shipped_sets():
        text = (ROOT / "configs" / "rules" / f"{name}.yaml").read_text(encoding="utf-8")
        assert parse_yaml(RuleFile, text, name).name == name


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_baseline_refuses_nothing_shipped_and_finance_no_noise_and_unstated_inputs(
    path: Path,
) -> None:
    project = load_project(path)
    assert not refused(plan_findings(project, BASELINE, at=AT))
    found = refused(plan_findings(project, FINANCE, at=AT))
    exact = project.config.privacy.noise == "none"
    inputs = [column for column in project.contract.columns if column.is_input]
    silent = not any(column.is_stated for column in inputs)
    scored = project.config.task in {"credit", "claims"}
    wanted = {"confidential-with-noise": exact, "indicators-stated": scored and silent}
    assert ids(found) == {name for name, due in wanted.items() if due}


def test_the_strict_set_differs_in_severity_alone() -> None:
    strict = {rule.id: rule for rule in FINANCE}
    for rule in BASELINE:
        assert strict[rule.id].model_copy(update={"severity": rule.severity}) == rule
        assert (rule.severity, strict[rule.id].severity) != ("refuse", "warn")


def test_the_digest_follows_the_rules_and_not_their_order() -> None:
    digest = rules_digest(BASELINE)
    assert len(digest) == 64
    assert rules_digest(load_rules("baseline")) == digest
    assert rules_digest(tuple(reversed(BASELINE))) == digest
    assert rules_digest(FINANCE) != digest
    assert rules_digest(BASELINE[1:]) != digest


RULE: dict[str, Any] = {
    "id": "few",
    "title": "Enough members",
    "title_zh": "成员充足",
    "severity": "refuse",
    "applies_to": "manifest",
    "when": "cohort_below",
    "with": {"minimum": 5},
    "says": "{about} has {fewest}, not {minimum}.",
    "says_zh": "{about} 仅 {fewest} 个 {minimum}",
    "mend": "Ask more members.",
    "mend_zh": "请增加成员",
    "sources": [{"name": "Our house rules", "name_zh": "内部规定"}],
}


def rule_file(**changes: object) -> str:
    rule = {key: value for key, value in (RULE | changes).items() if value is not None}
    head = {"format": 1, "name": "ours", "title": "Ours", "title_zh": "自有"}
    return yaml.safe_dump(head | {"rules": [rule]}, allow_unicode=True)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"when": "cohort_belo"}, "rules[0]: when: no predicate cohort_belo for a manifest; did"),
        ({"when": "retention_over"}, "rules[0]: when: no predicate retention_over for a manifest"),
        ({"when": 3}, "rules[0].when: expected text"),
        ({"extra": 1}, "rules[0]: unknown key extra"),
        ({"mend_zh": None}, "rules[0].mend_zh: is missing; add it."),
        ({"sources": []}, "rules[0].sources: "),
        ({"sources": None}, "rules[0].sources: is missing; add it."),
        ({"severity": "maybe"}, "rules[0].severity: expected refuse or warn."),
        ({"applies_to": "model"}, "rules[0].applies_to: expected contract, manifest or ledger."),
        ({"with": {}}, "rules[0]: with.minimum: is missing; give a whole number above 0."),
        ({"with": {"minimum": "5"}}, "rules[0]: with.minimum: expected a whole number above 0."),
        ({"with": {"minimum": True}}, "rules[0]: with.minimum: expected a whole number above 0."),
        ({"with": {"minimum": 5, "most": 6}}, "rules[0]: with.most: unknown key; known here are"),
        (
            {"says": "{who} is few"},
            "rules[0]: says: unknown placeholder {who}; known here are abou",
        ),
        ({"says": "{about.__class__}"}, "rules[0]: says: unknown placeholder {about.__class__}"),
        ({"says": "{about!r}"}, "rules[0]: says: unknown placeholder {about}"),
        ({"says": "{about:>999999999}"}, "rules[0]: says: unknown placeholder {about}"),
        ({"says": "{0}"}, "rules[0]: says: unknown placeholder {0}"),
        ({"mend": "{"}, "rules[0]: mend: a brace has no partner"),
        (
            {"says_zh": "{about} 仅 {fewest}"},
            "says_zh: must have the placeholders of says; see min",
        ),
        ({"mend_zh": "ask more"}, "rules[0].mend_zh: expected Chinese text."),
        ({"id": "Few"}, "rules[0].id: "),
        (
            {"sources": [{"name": "Law", "name_zh": "法", "see": "Article 1"}]},
            "rules[0].sources[0]: give see and see_zh, or neither.",
        ),
        (
            {"when": "class_without_noise", "with": {"classes": ["L9"]}},
            "rules[0]: with.classes: expected a list of classes such as [L3, L4].",
        ),
        (
            {"when": "class_without_noise", "with": {"classes": [{"L3": 1}]}},
            "rules[0]: with.classes: expected a list of classes such as [L3, L4].",
        ),
        (
            {"when": "class_without_noise", "with": {"classes": "L3"}},
            "rules[0]: with.classes: expected a list of classes such as [L3, L4].",
        ),
    ],
)
def test_a_rule_that_is_off_is_told_in_one_sentence(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(rule_file(**changes), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_rules(path)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_rule_of_ones_own_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(rule_file(), encoding="utf-8")
    for chosen in (path, str(path)):
        found = check_run(load_rules(chosen), contract(), replace(RUN, fewest=4))
        assert [one.sentence for one in found] == ["nightly has 4, not 5."]
    assert check_run(load_rules(path), contract(), replace(RUN, fewest=5)) == ()


@given(st.text(alphabet="ab{}.!:0[]", max_size=12))
def test_no_sentence_that_loads_fails_to_be_filled(text: str) -> None:
    head = {"format": 1, "name": "ours", "title": "Ours", "title_zh": "自有"}
    rule = RULE | {"says": text, "says_zh": f"请{text}"}
    try:
        file = parse_yaml(RuleFile, yaml.safe_dump(head | {"rules": [rule]}), "x.yaml")
    except InputError:
        return
    assert len(check_run(file.rules, contract(), replace(RUN, fewest=1))) == 1


HOME = {"format": 1, "name": "ours", "title": "Ours", "title_zh": "自有"}


def test_the_home_chooses_and_a_command_chooses_before_it(tmp_path: Path) -> None:
    assert load_rules(home=tmp_path) == BASELINE
    mine = HOME | {"builds_on": "finance_cn", "severity": {"governance-stated": "refuse"}}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(mine), encoding="utf-8")
    chosen = {rule.id: rule.severity for rule in load_rules(home=tmp_path)}
    assert chosen["governance-stated"] == chosen["confidential-with-noise"] == "refuse"
    assert load_rules("baseline", home=tmp_path) == BASELINE


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "rules: is missing; add one rule or more, or builds_on: baseline."),
        ({"builds_on": "finance"}, "builds_on: there is no set of rules finance; did you mean fin"),
        (
            {"severity": {"few": "warn"}, "rules": [RULE]},
            "severity: is for the rules of a set; add builds_on",
        ),
        (
            {"builds_on": "baseline", "severity": {"three-in-sum": "warn"}},
            "severity: baseline has no rule three-in-sum; did you mean three-in-a-sum?",
        ),
        (
            {"builds_on": "baseline", "severity": {"three-in-a-sum": "off"}},
            "severity.three-in-a-sum: expected refuse or warn.",
        ),
        (
            {"builds_on": "baseline", "rules": [RULE | {"id": "three-in-a-sum"}]},
            "rules: three-in-a-sum is there twice; give one another id.",
        ),
    ],
)
def test_a_set_that_does_not_hold_together_is_told(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(HOME | changes), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_rules(home=tmp_path)
    assert sentence in str(caught.value)


def test_sets_that_build_on_each_other_and_unknown_names_are_refused(tmp_path: Path) -> None:
    for name, below in (("baseline", "other"), ("other", "baseline")):
        text = yaml.safe_dump(HOME | {"name": name, "builds_on": below})
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"builds_on: .* builds on this; remove one"):
        load_rules("baseline", folder=tmp_path)
    with pytest.raises(InputError, match="no set of rules strict; choose baseline, finance_cn or"):
        load_rules("strict")
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        load_rules("none.yaml")


# ---- facts ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What is asked of a manifest."""

    run: str
    task: str
    protection: str
    minimum_cohort: int
    group_size: int
    privacy: object
    node_settings: Mapping[str, Any]


def test_a_manifest_and_its_config_give_the_same_facts() -> None:
    for name in ("credit_uci_private", "failure_cmapss_window", "claims_fremtpl2"):
        project = load_project(ROOT / "configs" / f"{name}.yaml")
        config = project.config
        manifest = Promise(
            run=config.name,
            task=config.task,
            protection=config.protection.sum,
            minimum_cohort=config.minimum_cohort,
            group_size=config.group_size,
            privacy=project.privacy_plan(),
            node_settings=config.node_settings(seed=0, fold=None),
        )
        assert facts_of_manifest(manifest) == facts_of_project(project)
        with pytest.raises(TacitError):
            facts_of_manifest(replace(manifest, node_settings={"task": "credit"}))


def test_the_smallest_group_is_what_a_sum_is_over() -> None:
    project = load_project(ROOT / "configs" / "credit_uci.yaml")
    protection = project.config.protection.model_copy(update={"robust": "groups", "group_size": 4})
    config = project.config.model_copy(update={"protection": protection, "minimum_cohort": 5})
    assert facts_of_project(project.model_copy(update={"config": config})).fewest == 4


def test_findings_are_plain_values_in_both_languages() -> None:
    facts = findings_facts(of_run(noise=False))
    assert canonical_json(facts)
    assert facts[0]["rule"] == "confidential-with-noise"
    assert facts[0]["sources_zh"][0] == "《个人信息保护法》第五十一条"
    assert facts[0]["sources"][0] == "Personal Information Protection Law, Article 51"


def shown(renderable: RenderableType) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_tables_are_for_people_and_tell_a_rule_once() -> None:
    many = [
        replace(line, body={**line.body, "run": f"run-{place}"})
        for place in range(5)
        for line in Story(checked=False).entries()
    ]
    found = check_ledger(BASELINE, many, AT)
    assert len(found) == 5
    page = shown(findings_table(found))
    assert page.count("rules-on-record") == 1
    assert "(+2)" in page
    assert "提醒" in shown(findings_table(found, "zh"))
    assert "未违反" in shown(findings_table((), "zh"))
    assert all(rule.id in shown(rules_table(BASELINE, "d")) for rule in BASELINE)


# ---- the verb ------------------------------------------------------------------------------------


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    monkeypatch.setenv("TACIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> tuple[int, str]:
        found = CliRunner().invoke(verb.app, list(words))
        if isinstance(found.exception, TacitError):
            raise found.exception
        return found.exit_code, found.stdout

    return run


def test_list_names_each_rule_with_its_source(said: Callable[..., tuple[int, str]]) -> None:
    code, out = said("list", "--json")
    listed = json.loads(out)
    assert code == 0
    assert listed["digest"] == rules_digest(BASELINE)
    assert [one["id"] for one in listed["rules"]] == [rule.id for rule in BASELINE]
    assert all(one["sources"] for one in listed["rules"])
    code, out = said("list", "--lang", "zh", "--rules", "finance_cn")
    assert code == 0
    assert "JR/T 0197-2020" in out
    with pytest.raises(InputError, match="--lang de: choose en or zh"):
        said("list", "--lang", "de")


def test_check_takes_a_contract_or_a_run_config(said: Callable[..., tuple[int, str]]) -> None:
    config = str(ROOT / "configs" / "credit_uci.yaml")
    code, out = said("check", config, "--json")
    assert code == 0
    assert json.loads(out)["refused"] is False
    code, out = said("check", config, "--rules", "finance_cn", "--json")
    assert code == 1
    refusals = [one for one in json.loads(out)["findings"] if one["severity"] == "refuse"]
    assert [one["rule"] for one in refusals] == ["confidential-with-noise"]
    private = str(ROOT / "configs" / "credit_uci_private.yaml")
    code, out = said("check", private, "--rules", "finance_cn", "--json")
    assert code == 0
    assert json.loads(out)["refused"] is False
    code, out = said("check", str(ROOT / "configs" / "contracts" / "uci_credit.yaml"))
    assert code == 0
    assert "governance-stated" in out
    with pytest.raises(InputError, match="no such file"):
        said("check", "nowhere.yaml")
    with pytest.raises(InputError, match="contract: is missing; add it"):
        said("check", str(ROOT / "configs" / "rules" / "baseline.yaml"))


def test_the_page_says_what_each_set_does() -> None:
    page = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    told = {
        cells[1].strip(" `"): (cells[-3].strip(), cells[-2].strip())
        for cells in (line.split("|") for line in page.splitlines() if line.startswith("| `"))
    }
    strict = {rule.id: rule.severity for rule in FINANCE}
    assert told == {rule.id: (rule.severity, strict[rule.id]) for rule in BASELINE}
