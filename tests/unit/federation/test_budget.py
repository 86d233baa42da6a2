import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import support.budgets
from rich.console import Console
from support.budgets import TERMS
from typer.testing import CliRunner

from clients.frozen import parse_yaml, read_yaml
from clients.policy import BudgetPolicy, NodePolicy, budget_terms
from federation.budget import budget_facts, budget_table, read_budgets
from federation.cli.main import app
from federation.home import Home
from privacy.accounting.event import Event
from privacy.accounting.pld import Report, reported
from privacy.accounting.rdp import best_order
from privacy.budget import Budget, BudgetTerms, _report
from privacy.errors import InputError
from privacy.ledger.store import LedgerStore
from privacy.receipt import Receipt

NOW_MS = 1_700_000_000_000
RECEIPT = replace(support.budgets.RECEIPT, share=4.0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("TACIT_HOME", str(tmp_path))
    return Home(tmp_path)


def spend(home: Home, terms: BudgetTerms = TERMS, receipt: Receipt = RECEIPT) -> Path:
    folder = home.node(terms.dataset, terms.member)
    folder.mkdir(parents=True)
    path = folder / "budget.jsonl"
    budget = Budget(LedgerStore(path), terms, now_ms=lambda: NOW_MS)
    budget.reserve("20260101-loans", "update", 1, receipt)
    budget.reserve("20260101-loans", "update", 2, receipt)
    budget.commit("20260101-loans", "update", 1)
    return path


def shown(*arguments: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["budget", "show", *arguments], terminal_width=200)
    return found.exit_code, found.stdout, found.stderr


def table(home: Home, width: int = 100) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(budget_table(read_budgets(home, now_ms=NOW_MS)))
    return console.export_text()


# -- tacit budget show --


def test_a_home_without_budgets_says_so(home: Home) -> None:
    code, out, _ = shown()
    assert code == 0
    assert "No budgets in" in out
    code, out, _ = shown("--json")
    assert (code, json.loads(out)) == (0, {"budgets": [], "broken": []})
    assert list(home.root.iterdir()) == []


def test_each_member_is_shown_with_what_is_spent_and_what_is_left(home: Home) -> None:
    spend(home)
    spend(home, replace(TERMS, member="broker", epsilon=None))
    spend(
        home,
        replace(TERMS, member="mill", solo_epsilon=12.0, period_days=365.0),
        replace(RECEIPT, cohort="all"),
    )
    text = table(home)
    lines = text.splitlines()
    (bank,) = (place for place, line in enumerate(lines) if " bank " in line)
    (broker,) = (line for line in lines if " broker " in line)
    assert len([line for line in lines if " mill " in line]) == 2
    (statement,) = read_budgets(home, now_ms=NOW_MS)[0].statements
    training = statement.cohorts[0]
    for line, name, found in (
        (lines[bank], "eps_coord", training.coordinator),
        (lines[bank + 1], "eps_solo", training.solo),
    ):
        assert name in line
        figures = (found.spent, found.pending, found.cap, found.left, found.epsilon)
        shown_figures = [f"{figure:.2f}" for figure in figures if figure is not None]
        assert [word for word in line.split() if word in shown_figures] == shown_figures
    assert "last run: 20260101-loans" in text
    assert " 8.00 " not in broker
    assert "12.00" in text
    assert "loans: borrower, training" in text
    assert "loans: borrower, test, the last 365 days" in text
    assert "against all others together" in text


def test_no_figure_is_cut_short_on_a_narrow_screen(home: Home) -> None:
    spend(home, replace(TERMS, member="a bank with a long name", solo_epsilon=12.0))
    figures = [word for word in table(home, 200).split() if word.replace(".", "").isdigit()]
    text = table(home, 80)
    assert len(figures) > 8
    assert "…" not in text
    assert all(figure in text.split() for figure in figures)


def test_programs_get_one_object_with_every_figure(home: Home) -> None:
    path = spend(home)
    spend(
        home,
        replace(TERMS, member="broker", epsilon=None),
        replace(RECEIPT, mechanism="none", share=0.0),
    )
    code, out, err = shown("--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["broken"] == []
    bank, broker = found["budgets"]
    assert bank["path"] == str(path)
    assert bank["terms"]["epsilon"] == 8.0
    assert bank["last_run"] == "20260101-loans"
    training, test = bank["cohorts"]
    assert (training["releases"], test["releases"]) == (2, 0)
    assert 0 < training["coordinator"]["epsilon"] < training["coordinator"]["spent"] < 8.0
    assert training["solo"]["epsilon"] > training["coordinator"]["epsilon"]
    assert training["solo"]["cap"] is None
    assert broker["cohorts"][0]["coordinator"]["spent"] == "infinite"
    assert " inf " in table(home)


def test_a_broken_budget_is_named_and_the_others_are_still_shown(home: Home) -> None:
    spend(home)
    broken = spend(home, replace(TERMS, member="broker"))
    data = bytearray(broken.read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(data)
    code, out, err = shown()
    assert code == 1
    assert "bank" in out
    assert str(broken) in err
    assert "restore it" in err
    assert err.count("\n") == 1
    code, out, err = shown("--json")
    assert code == 1
    found = json.loads(out)
    assert [one["terms"]["member"] for one in found["budgets"]] == ["bank"]
    assert [one["path"] for one in found["broken"]] == [str(broken)]
    assert broken.read_bytes() == data


def test_a_home_whose_only_budget_is_broken_does_not_say_that_there_is_none(home: Home) -> None:
    spend(home).write_bytes(b"not a ledger\n")
    code, out, err = shown()
    assert (code, out) == (1, "")
    assert "does not hold" in err


def test_showing_writes_nothing(home: Home) -> None:
    path = spend(home)
    before = {one: one.stat().st_mtime_ns for one in home.root.rglob("*")}
    data = path.read_bytes()
    assert shown()[0] == shown("--json")[0] == 0
    assert {one: one.stat().st_mtime_ns for one in home.root.rglob("*")} == before
    assert path.read_bytes() == data


def test_members_who_released_the_same_are_counted_once(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dozen members of one run must not cost a dozen times the accountant's second."""
    calls: list[object] = []

    def counted(events: tuple[Event, ...], delta: float) -> Report:
        calls.append(events)
        return reported(events, delta)

    _report.cache_clear()
    monkeypatch.setattr("privacy.budget.reported", counted)
    for member in ("bank", "broker", "mill"):
        spend(home, replace(TERMS, member=member))
    facts = budget_facts(read_budgets(home, now_ms=NOW_MS))
    _report.cache_clear()
    assert len(facts["budgets"]) == 3
    assert len(calls) == 3  # the coordinator's, solo, and of no release at all


# -- the node's policy --


def policy(text: str) -> NodePolicy:
    return parse_yaml(NodePolicy, text, "node.yaml")


def terms_of(found: NodePolicy, dataset: str = "loans", unit: str = "borrower") -> BudgetTerms:
    return budget_terms(found, member="bank", dataset=dataset, unit=unit)


def test_without_budgets_releases_are_counted_and_not_capped() -> None:
    found = terms_of(NodePolicy())
    assert (found.epsilon, found.solo_epsilon, found.period_days) == (None, None, None)
    assert (found.order, found.delta, found.colluders) == (8, 1e-5, 2)
    assert (found.member, found.dataset, found.unit) == ("bank", "loans", "borrower")


def test_the_first_budget_that_matches_holds(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(
        """
colluders: 1
budgets:
  - dataset: loans
    unit: borrower
    epsilon: 4
    delta: 1.0e-6
    period_days: 365
    solo_epsilon: 20
  - dataset: loans
    epsilon: 2
    order: 12
  - epsilon: 1
""",
        encoding="utf-8",
    )
    found = read_yaml(NodePolicy, path)
    first = terms_of(found)
    assert (first.epsilon, first.delta, first.period_days) == (4.0, 1e-6, 365.0)
    assert (first.solo_epsilon, first.order, first.colluders) == (20.0, best_order(4.0, 1e-6), 1)
    assert terms_of(found, unit="row").order == 12
    assert terms_of(found, dataset="cars").epsilon == 1.0
    assert policy("budgets: []") == NodePolicy()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("budgets: [{epsilon: 0}]", "budgets[0].epsilon: should be greater than 0"),
        ("budgets: [{epsilon: -1}]", "budgets[0].epsilon: should be greater than 0"),
        ("budgets: [{epsilon: .inf}]", "budgets[0].epsilon: expected a finite number"),
        ("budgets: [{epsilon: .nan}]", "budgets[0].epsilon"),
        ("budgets: [{epsilon: eight}]", "budgets[0].epsilon: expected a number"),
        ("budgets: [{epsilon: true}]", "budgets[0].epsilon: expected a number"),
        ("budgets: [{epsilon: 8, delta: 1e-5}]", "budgets[0].delta: expected a number; YAML reads"),
        ("budgets: [{epsilon: 8, delta: 0.01}]", "budgets[0].delta: should be less than 0.001"),
        ("budgets: [{epsilon: 8, delta: 0}]", "budgets[0].delta: should be greater than 0"),
        ("budgets: [{epsilon: 8, order: 1}]", "budgets[0].order: should be greater than"),
        ("budgets: [{epsilon: 8, order: 8.5}]", "budgets[0].order: expected a whole number"),
        ("budgets: [{epsilon: 0.5, order: 5}]", "order 5 cannot hold a cap of epsilon 0.5"),
        ("budgets: [{epsilon: 0.001}]", "no order up to 512 can hold a cap of epsilon 0.001"),
        ("budgets: [{solo_epsilon: 0.001}]", "no order up to 512 can hold"),
        ("budgets: [{period_days: 0}]", "budgets[0].period_days: should be greater than 0"),
        ("budgets: [{dataset: ''}]", "budgets[0].dataset"),
        ("budgets: [{epsilonn: 8}]", "unknown key epsilonn; did you mean epsilon?"),
        ("budgets: {epsilon: 8}", "budgets: expected a list"),
        ("colluders: -1", "colluders: should be greater than or equal to 0"),
        ("colluders: two", "colluders: expected a whole number"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused_by_its_key(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as failure:
        policy(text)
    assert sentence in str(failure.value)
    assert str(failure.value).startswith("node.yaml: ")
    assert "\n" not in str(failure.value)


def test_every_budget_of_a_policy_makes_terms_that_can_be_kept(tmp_path: Path) -> None:
    for epsilon in (0.1, 0.5, 1.0, 8.0, 100.0):
        found = NodePolicy(budgets=(BudgetPolicy(epsilon=epsilon, solo_epsilon=epsilon),))
        path = tmp_path / f"{epsilon}"
        Budget(LedgerStore(path), terms_of(found), now_ms=lambda: 0).check([])
        assert path.exists()
