import io
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import support.budgets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from support.budgets import IDENTITY, TERMS, begin, raw
from support.cli import assert_one_sentence, tacit
from typer.testing import CliRunner

from clients.frozen import parse_yaml, read_yaml
from clients.policy import BudgetPolicy, NodePolicy, budget_terms
from federation.budget import (
    budget_facts,
    budget_table,
    chosen,
    history_facts,
    history_table,
    read_budgets,
    read_histories,
)
from federation.budget_history import BudgetHistory
from federation.budget_plot import draw, format_of
from federation.cli.main import app
from federation.home import Home
from privacy.accounting.event import Event
from privacy.accounting.pld import Report, reported
from privacy.accounting.rdp import best_order
from privacy.budget import Budget, _report
from privacy.budget_record import BudgetTerms
from privacy.errors import InputError, RefusedError
from privacy.ledger.sqlite import SqliteLedger
from privacy.receipt import Receipt

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
RECEIPT = replace(support.budgets.RECEIPT, share=4.0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("TACIT_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return Home(tmp_path)


def spend(
    home: Home,
    terms: BudgetTerms = TERMS,
    receipt: Receipt = RECEIPT,
    *,
    run: str = "20260101-loans",
    time_ms: int = NOW_MS,
) -> Path:
    """Two releases, of which one is committed, and one that was taken back."""
    path = home.node(terms.dataset, terms.member) / "ledger.db"
    if not path.exists():
        path.parent.mkdir(parents=True)
        begin(path)
    with closing(SqliteLedger(path)) as store:
        budget = Budget(store, terms, now_ms=lambda: time_ms)
        budget.reserve(run, "update", 1, receipt)
        budget.reserve(run, "update", 2, receipt)
        token = budget.reserve(run, "update", 3, receipt)
        budget.abort(token, reason="nobody asked", sign=IDENTITY.sign)
        budget.commit(run, "update", 1)
    return path


def break_ledger(path: Path) -> list[object]:
    """Change one letter of an entry; return the rows."""
    with raw(path) as connection:
        connection.execute(
            "UPDATE entry SET leaf = CAST(replace(CAST(leaf AS TEXT), 'loans', 'l0ans') AS BLOB)"
            " WHERE place = 2"
        )
        return connection.execute("SELECT * FROM entry").fetchall()


def shown(*arguments: str) -> tuple[int, str, str]:
    return said("show", *arguments)


def said(*arguments: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["budget", *arguments], terminal_width=200)
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
    assert "against all others together" in " ".join(text.split())


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


def test_a_machine_that_is_one_node_shows_its_own(home: Home) -> None:
    path = spend(home)
    home.own_node.mkdir()
    path.rename(home.own_node / "ledger.db")
    (found,) = read_budgets(home, now_ms=NOW_MS)
    assert found.path == home.own_node / "ledger.db"
    assert found.statements
    (history,) = read_histories(home, now_ms=NOW_MS)
    assert history.histories


def test_a_broken_budget_is_named_and_the_others_are_still_shown(home: Home) -> None:
    spend(home)
    broken = spend(home, replace(TERMS, member="broker"))
    rows = break_ledger(broken)
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
    with raw(broken) as connection:
        assert connection.execute("SELECT * FROM entry").fetchall() == rows


def test_a_home_whose_only_budget_is_broken_does_not_say_that_there_is_none(home: Home) -> None:
    spend(home).write_bytes(b"not a ledger\n")
    code, out, err = shown()
    assert (code, out) == (1, "")
    assert "does not hold" in err


def test_a_ledger_without_releases_is_no_budget(home: Home) -> None:
    folder = home.node("loans", "bank")
    folder.mkdir(parents=True)
    begin(folder / "ledger.db")
    for verb in ("show", "history", "plot"):
        code, out, err = said(verb)
        assert (code, err) == (0, "")
        assert "No budgets in" in out


def test_looking_writes_nothing(home: Home, tmp_path: Path) -> None:
    path = spend(home)
    before = {one: one.stat().st_mtime_ns for one in home.root.rglob("*") if one.is_file()}
    data = path.read_bytes()
    picture = str(tmp_path / "out.png")
    for words in (
        ["show"],
        ["show", "--json"],
        ["history"],
        ["history", "--json"],
        ["plot", "-o", picture],
    ):
        assert said(*words)[0] == 0
    Path(picture).unlink()
    assert {one: one.stat().st_mtime_ns for one in home.root.rglob("*") if one.is_file()} == before
    assert path.read_bytes() == data


def test_the_old_form_of_a_budget_is_not_read(home: Home) -> None:
    folder = home.node("loans", "bank")
    folder.mkdir(parents=True)
    (folder / "budget.jsonl").write_bytes(b"{}\n")
    assert "No budgets in" in shown()[1]


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


# -- tacit budget history --


def story(home: Home, width: int = 100) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    found = chosen(read_histories(home, now_ms=NOW_MS), member=None, dataset=None)
    console.print(history_table(found, now_ms=NOW_MS))
    return console.export_text()


def test_a_home_without_budgets_has_no_history(home: Home, tmp_path: Path) -> None:
    code, out, _ = said("history")
    assert (code, "No budgets in" in out) == (0, True)
    code, out, _ = said("history", "--json")
    assert (code, json.loads(out)) == (0, {"histories": [], "broken": []})
    code, out, _ = said("plot", "-o", str(tmp_path / "p.png"))
    assert (code, "No budgets in" in out) == (0, True)
    assert list(home.root.iterdir()) == []


def test_each_run_is_told_with_what_it_took(home: Home) -> None:
    spend(home, run="first", time_ms=NOW_MS - 2 * DAY_MS)
    spend(home, run="second", time_ms=NOW_MS - DAY_MS)
    text = story(home)
    first, second = (
        next(line for line in text.splitlines() if f" {run} " in line)
        for run in ("first", "second")
    )
    (history,) = read_histories(home, now_ms=NOW_MS)[0].histories
    for line, run in ((first, history.runs[0]), (second, history.runs[1])):
        assert f"{run.coordinator.before:.2f} -> {run.coordinator.after:.2f}" in line
        assert f"{run.solo.before:.2f} -> {run.solo.after:.2f}" in line
        assert line.split()[3:6] == ["3", "1", "1"]  # reserved, not committed, taken back
    assert "2023-11-12 22:13" in first
    assert history.runs[0].coordinator.after == history.runs[1].coordinator.before
    assert f"eps_coord {history.spent('coordinator'):.2f} of 8.00; at the pace of" in text
    assert "the cap is reached on 20" in " ".join(text.split())
    assert f"eps_solo {history.spent('solo'):.2f}, without a cap" in text


def test_history_and_show_say_the_same_of_what_is_spent(home: Home) -> None:
    terms = replace(TERMS, solo_epsilon=40.0, period_days=30.0)
    spend(home, terms, run="old", time_ms=NOW_MS - 40 * DAY_MS)
    spend(home, terms, replace(RECEIPT, cohort="all"), run="new", time_ms=NOW_MS - DAY_MS)
    spend(home, replace(TERMS, member="mill", epsilon=None), time_ms=NOW_MS)
    shown_facts = json.loads(said("show", "--json")[1])["budgets"]
    for statement in budget_facts(read_budgets(home, now_ms=NOW_MS))["budgets"]:
        assert statement["terms"] in [one["terms"] for one in shown_facts]
        for cohort in statement["cohorts"]:
            told = [
                one
                for one in history_facts(
                    chosen(read_histories(home, now_ms=NOW_MS), member=None, dataset=None),
                    (),
                    now_ms=NOW_MS,
                )["histories"]
                if (one["terms"], one["cohort"]) == (statement["terms"], cohort["cohort"])
            ]
            assert len(told) == (1 if cohort["releases"] else 0)
            for one in told:
                for against in ("coordinator", "solo"):
                    assert one[against]["spent"] == pytest.approx(cohort[against]["spent"])
                    assert one[against]["cap"] == cohort[against]["cap"]


def test_members_of_whom_the_same_is_to_be_said_share_a_table(home: Home) -> None:
    for member in ("bank", "broker"):
        spend(home, replace(TERMS, member=member))
    spend(home, replace(TERMS, member="mill", epsilon=9.0))
    text = story(home)
    assert "bank, broker:" in text
    assert text.count("eps_coord  ") == 2
    assert "\nmill:" in text


def test_no_figure_of_a_history_is_cut_short_on_a_narrow_screen(home: Home) -> None:
    spend(home, replace(TERMS, epsilon=200.0), replace(RECEIPT, share=0.5), run="a-run" * 12)
    wide = [word for word in story(home, 200).split() if word.replace(".", "").isdigit()]
    narrow = story(home, 80)
    assert "…" not in narrow
    assert [word for word in narrow.split() if word in wide] == wide


def test_programs_get_the_history_as_one_object(home: Home) -> None:
    spend(home)
    spend(
        home,
        replace(TERMS, member="broker", epsilon=None),
        replace(RECEIPT, mechanism="none", share=0.0),
    )
    code, out, err = said("history", "--json")
    assert (code, err) == (0, "")
    bank, broker = json.loads(out)["histories"]
    assert (bank["terms"]["member"], bank["cohort"], bank["releases"]) == ("bank", "training", 3)
    (run,) = bank["runs"]
    assert (run["releases"], run["pending"], run["aborted"]) == (3, 1, 1)
    assert run["coordinator"]["before"] == 0.0
    assert bank["coordinator"]["spent"] == run["coordinator"]["after"]
    # long ago: nothing was spent in the last days
    assert (bank["coordinator"]["pace"], bank["coordinator"]["reached_ms"]) == (0.0, None)
    assert broker["coordinator"]["spent"] == broker["runs"][0]["solo"]["after"] == "infinite"


def test_one_member_or_data_set_is_chosen(home: Home) -> None:
    for member in ("bank", "broker"):
        for dataset in ("loans", "cars"):
            spend(home, replace(TERMS, member=member, dataset=dataset))

    def told(*words: str) -> list[tuple[str, str]]:
        found = json.loads(said("history", "--json", *words)[1])["histories"]
        return sorted((one["terms"]["member"], one["terms"]["dataset"]) for one in found)

    assert told("--member", "bank") == [("bank", "cars"), ("bank", "loans")]
    assert told("--dataset", "cars") == [("bank", "cars"), ("broker", "cars")]
    assert told("--dataset", "cars", "--member", "broker") == [("broker", "cars")]


def test_an_unknown_member_is_one_sentence(home: Home) -> None:
    spend(home)
    for verb in ("history", "plot"):
        for words in (["--member", "nobody"], ["--dataset", "cars", "--member", "bank"]):
            found = tacit("budget", verb, *words, home=home.root)
            sentence = assert_one_sentence(found, 2)
            assert words[1] in sentence
            assert "there are bank (loans)" in sentence
            assert found.stdout == ""


def test_a_broken_ledger_is_named_and_the_other_histories_are_still_shown(
    home: Home, tmp_path: Path
) -> None:
    spend(home)
    broken = spend(home, replace(TERMS, member="broker"))
    break_ledger(broken)
    picture = tmp_path / "p.png"
    for words in (["history"], ["history", "--json"], ["plot", "-o", str(picture)]):
        code, out, err = said(*words)
        assert code == 1
        assert str(broken) in err
        assert "restore it" in err
        assert err.count("\n") == 1
        assert out
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, out, _ = said("history", "--json")
    found = json.loads(out)
    assert [one["terms"]["member"] for one in found["histories"]] == ["bank"]
    assert [one["path"] for one in found["broken"]] == [str(broken)]
    # whose it is cannot be known, so nobody says that there is no such member
    code, out, err = said("history", "--member", "broker")
    assert (code, out, str(broken) in err) == (1, "", True)


# -- tacit budget plot --


def histories_of(home: Home, now_ms: int = NOW_MS) -> tuple[BudgetHistory, ...]:
    return chosen(read_histories(home, now_ms=now_ms), member=None, dataset=None)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn."""
    figures: list[Figure] = []
    real = Figure.savefig

    def savefig(figure: Figure, *words: Any, **named: Any) -> None:  # noqa: ANN401
        figures.append(figure)
        real(figure, *words, **named)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def lines_of(axes: Axes) -> list[tuple[list[float], list[float]]]:
    return [
        (list(line.get_xdata()), list(line.get_ydata()))  # type: ignore[arg-type]
        for line in axes.get_lines()
        if line.get_drawstyle() == "steps-post"
    ]


def test_a_curve_rises_from_nothing_and_ends_where_it_stands(
    home: Home, drawn: list[Figure]
) -> None:
    spend(home, replace(TERMS, solo_epsilon=40.0), run="a", time_ms=NOW_MS - 9 * DAY_MS)
    spend(home, replace(TERMS, solo_epsilon=40.0), run="b", time_ms=NOW_MS - 4 * DAY_MS)
    assert draw(histories_of(home), form="png").startswith(b"\x89PNG")
    (figure,) = drawn
    assert len(figure.axes) == 2
    (history,) = histories_of(home)
    for axes, against, cap in (
        (figure.axes[0], "coordinator", 8.0),
        (figure.axes[1], "solo", 40.0),
    ):
        ((days, values),) = lines_of(axes)
        assert values[0] == 0
        assert values[-1] == pytest.approx(getattr(history.curve[-1], against))
        assert min(values) == 0
        assert days == sorted(days)
        assert days[-1] == pytest.approx(NOW_MS / DAY_MS)
        low, high = axes.get_ylim()
        assert low == 0
        assert high > max(cap, *values)
        assert f"cap {cap:g}" in [one.get_text() for one in axes.texts]
        assert {"a", "b"} <= {one.get_text() for one in axes.texts}


def test_twelve_members_with_one_curve_are_one_line_and_others_their_own(
    home: Home, drawn: list[Figure]
) -> None:
    for number in range(12):
        # each answers a little later than the one before
        time_ms = NOW_MS - DAY_MS + 700 * number
        spend(home, replace(TERMS, member=f"bank-{number:02d}"), time_ms=time_ms)
        receipt = replace(RECEIPT, share=4.0 + number)
        spend(home, replace(TERMS, member=f"bank-{number:02d}", dataset="cars"), receipt)
    draw(histories_of(home), form="png")
    cars, _, loans, _ = drawn[0].axes
    assert len(lines_of(loans)) == 1
    assert len(lines_of(cars)) == 12
    assert len({line.get_color() for line in cars.get_lines()[::2]}) >= 12

    def named(axes: Axes) -> list[str]:
        legend = axes.get_legend()
        assert legend is not None
        return [one.get_text() for one in legend.get_texts()]

    (label,) = named(loans)
    assert label.startswith("bank-00 and 11 more: ")
    assert label.endswith(" of 8")
    assert len(named(cars)) == 12


@pytest.mark.parametrize("until_ms", [NOW_MS, NOW_MS + 1, NOW_MS + 4000 * DAY_MS])
@pytest.mark.parametrize("epsilon", [None, 8.0])
def test_one_release_is_drawn_at_any_distance(
    home: Home, drawn: list[Figure], epsilon: float | None, until_ms: int
) -> None:
    spend(home, replace(TERMS, epsilon=epsilon))
    draw(histories_of(home, until_ms), form="png")
    for axes in drawn[0].axes:
        ((_, values),) = lines_of(axes)
        assert max(values) > 0
        assert axes.get_ylim()[0] == 0
        assert axes.get_xlim()[0] < axes.get_xlim()[1]
    assert ("no cap" in drawn[0].axes[0].get_ylabel()) is (epsilon is None)


def test_what_left_its_period_goes_down_and_not_below_nothing(
    home: Home, drawn: list[Figure]
) -> None:
    terms = replace(TERMS, period_days=30.0)
    spend(home, terms, run="a", time_ms=NOW_MS - 90 * DAY_MS)
    spend(home, terms, run="b", time_ms=NOW_MS - 50 * DAY_MS)
    draw(histories_of(home), form="png")
    ((_, values),) = lines_of(drawn[0].axes[0])
    assert values[-1] == 0
    assert min(values) == 0
    assert sum(1 for one in values if one > 0) > 2


def test_where_nothing_bounds_it_no_line_is_drawn_and_that_is_said(
    home: Home, drawn: list[Figure]
) -> None:
    bare = replace(RECEIPT, mechanism="none", share=0.0)
    spend(home, replace(TERMS, epsilon=None), bare)
    with pytest.raises(RefusedError, match="no curve to draw"):
        draw(histories_of(home), form="png")
    spend(home, replace(TERMS, member="mill"))
    draw(histories_of(home), form="png")
    legend = drawn[0].axes[0].get_legend()
    assert legend is not None
    assert "bank: no bound" in [one.get_text() for one in legend.get_texts()]
    assert max(drawn[0].axes[0].get_ylim()) < 20


def test_many_runs_are_drawn_without_a_crowd_of_names(home: Home, drawn: list[Figure]) -> None:
    for number in range(50):
        receipt = replace(RECEIPT, share=40.0)
        spend(home, receipt=receipt, run=f"run-{number}", time_ms=NOW_MS - (50 - number) * DAY_MS)
    draw(histories_of(home), form="png")
    assert len(drawn[0].axes[0].texts) == 1  # the cap's
    assert len(drawn[0].axes[0].get_lines()) == 2  # the curve and the cap


@pytest.mark.parametrize(
    ("name", "start"), [("b.png", b"\x89PNG"), ("b.SVG", b"<?xml"), ("b.pdf", b"%PDF")]
)
def test_a_plot_is_written_in_the_form_that_its_name_says(
    home: Home, tmp_path: Path, name: str, start: bytes
) -> None:
    spend(home)
    code, out, err = said("plot", "-o", str(tmp_path / name))
    assert (code, err) == (0, "")
    assert "what 1 member spent" in out
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize("name", ["b.jpg", "b", ".png", "b.png.txt"])
def test_another_form_is_one_sentence_and_no_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.png"):
        format_of(tmp_path / name)


def test_a_plot_that_cannot_be_written_is_one_sentence(home: Home, tmp_path: Path) -> None:
    spend(home)
    found = tacit("budget", "plot", "-o", str(tmp_path / "no" / "p.png"), home=home.root)
    assert_one_sentence(found, 2)
    assert not (tmp_path / "no").exists()


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
        Budget(SqliteLedger(path), terms_of(found), now_ms=lambda: 0).check([])
        assert path.exists()
