"""What a file calls its columns is shown as text, whatever signs it holds."""

import json
from pathlib import Path

import pytest
from rich.panel import Panel
from rich.text import Text
from rich.tree import Tree
from support import tables
from typer.testing import CliRunner

from clients.describe import describe_table
from federation.cli.main import app
from federation.cli.output import print_plain, print_rich
from federation.tables import summary_facts, summary_table
from privacy.errors import InputError

HOSTILE = ["\x1b[31mred", "[/x]", "[bold]b[/bold]", "a\x9bb", "[link=file:///etc]here"]


def test_a_tables_own_names_are_no_orders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "\x1b[2J[i]rows.csv"
    path.write_text(",".join(HOSTILE) + "\n" + ",".join(["\x1b]0;title\x07", *HOSTILE[1:]]) + "\n")
    print_rich(summary_table(describe_table(path)))
    said = capsys.readouterr().out
    assert all(sign.isprintable() or sign == "\n" for sign in said)
    assert " [31mred" in said
    assert "[i]rows.csv" in said
    for name in ("[/x]", "[bold]b[/bold]", "a b", "[link=file:///etc]here"):
        assert name in said


def test_any_page_is_shown_so(capsys: pytest.CaptureFixture[str]) -> None:
    tree = Tree("a\x1b[5mb [/x]")
    tree.add(Text("c\x07d"))
    for page in (Panel(tree), Text("e\x1b]8;;x\x1b\\f"), "g\x1b[1mh [/x]"):
        print_rich(page)
        said = capsys.readouterr().out
        assert all(sign.isprintable() or sign == "\n" for sign in said)
        assert said.endswith("\n")


def test_lines_that_are_not_folded_are_shown_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_plain("a\x1b[2Jb [/x]\n" + "c" * 300)
    assert capsys.readouterr().out == "a [2Jb [/x]\n" + "c" * 300 + "\n"


def test_more_values_than_were_counted_are_not_said_to_be_so_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "rows.csv"
    path.write_text("few,many\n" + "".join(f"{n % 200},{n}\n" for n in range(900)))
    summary = describe_table(path)
    print_rich(summary_table(summary))
    assert "more than 200" in capsys.readouterr().out
    few, many = json.loads(json.dumps(summary_facts(summary)))["columns"]
    assert (few["distinct"], few["distinct_above"]) == (200, None)
    assert (many["distinct"], many["distinct_above"]) == (None, 200)


@pytest.mark.parametrize(
    "option", ["--label", "--id", "--time", "--task", "--exposure", "--members"]
)
def test_what_is_for_a_draft_is_not_passed_over(tmp_path: Path, option: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")
    done = CliRunner().invoke(app, ["data", "describe", str(path), option, "claims"])
    assert isinstance(done.exception, InputError)
    assert str(done.exception) == f"{option}: is for --draft; give that as well."


def test_a_contract_gets_no_draft(tmp_path: Path) -> None:
    path = str(tables.write(tmp_path).contract)
    assert CliRunner().invoke(app, ["data", "describe", path]).exit_code == 0
    done = CliRunner().invoke(app, ["data", "describe", path, "--draft"])
    assert isinstance(done.exception, InputError)
    assert "is a contract already" in str(done.exception)
