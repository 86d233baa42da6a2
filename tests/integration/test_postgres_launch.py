"""A coordinator whose ledger is in PostgreSQL, as a user meets it on the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import tables
from support.cli import assert_one_sentence, tacit
from support.postgres import PASSWORD, Server, postgres_server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres_server() as running:
        yield running


@pytest.mark.slow
def test_two_coordinators_share_a_ledger_and_one_at_a_time_writes(
    server: Server, tmp_path: Path
) -> None:
    url = server.url_with_password(server.empty_database())
    home = tmp_path / "home"
    where = tables.write(tmp_path / "data")
    words = ("run", "launch", str(where.config), "--local", "--data", str(where.root), "--json")
    first = tacit(*words, home=home, ledger=url)
    assert first.returncode == 0, first.stderr
    second = tacit(*words, home=home, ledger=url)
    assert second.returncode == 0, second.stderr
    assert not (home / "ledger.db").exists()
    leaves = [json.loads(one.stdout)["ledger"]["leaves"] for one in (first, second)]
    assert leaves[0] < leaves[1]
    bundle = tmp_path / "evidence.bundle"
    exported = tacit("audit", "export", str(bundle), home=home, ledger=url)
    assert exported.returncode == 0, exported.stderr
    # each launch is a writer of its own, and fences off the one before
    assert bundle.read_bytes().count(b'"kind":"writer.began"') == 2
    assert b'"epoch":3' in bundle.read_bytes()
    for verdict in (
        tacit("audit", "verify", "--json", home=home, ledger=url),
        tacit("audit", "verify", str(bundle), "--json", home=tmp_path / "nobody"),
    ):
        assert verdict.returncode == 0, verdict.stderr
        found = json.loads(verdict.stdout)
        assert (found["runs"], found["unfinished"]) == (2, [])
    for told in (first, second, exported):
        assert PASSWORD not in told.stdout + told.stderr


def test_a_database_that_is_not_there_is_one_sentence_without_its_password(tmp_path: Path) -> None:
    where = tables.write(tmp_path / "data")
    found = tacit(
        "run", "launch", str(where.config), "--local", "--data", str(where.root),
        home=tmp_path / "home",
        ledger="postgresql://tacit:hidden-word@127.0.0.1:1/none",
    )  # fmt: skip
    assert "hidden-word" not in assert_one_sentence(found, 2) + found.stdout
