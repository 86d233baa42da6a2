"""A home whose ledgers were changed, cut off, put back or begun anew: who finds it, and when.

Two runs are launched, and the home is kept as it was after each. Then files of it are changed in
every way that leaves them readable. `audit` is what `tacit audit verify` says of the home; `nodes`
are those of the next launch, who remember the coordinator's ledger in their own, and the
`coordinator` is that of the next launch, who remembers how far theirs had come.
"""

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import tables
from support.cli import assert_one_sentence, tacit

from federation.audit import verify_home
from federation.config import load_project
from federation.evidence import home_bundle
from federation.home import Home
from federation.launch import LaunchOptions, Silent, launch_local
from privacy.errors import CohortError, NotVerifiedError, RefusedError
from privacy.ledger.entry import parse_leaf
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append, entries_of, head_of
from privacy.verify import Verdict, verify_bundle

LEDGER = "ledger.db"
FIRST = tables.MEMBERS[0]


class Notes(Silent):
    """What a person was told of the run, beside what its rules say of every run."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def note(self, sentence: str) -> None:
        if not sentence.startswith("Rules: "):
            self.sentences.append(sentence)


@dataclass(frozen=True)
class Homes:
    """A home after its first run, and after its second."""

    where: tables.SmallFederation
    older: Path
    newer: Path

    def launch(self, home: Home) -> Notes:
        notes = Notes()
        options = LaunchOptions(data_root=self.where.root, workers=1, device="cpu")
        launch_local(load_project(self.where.config), home, options, notes)
        return notes


def copied(home: Path, to: Path) -> Home:
    """A home as a person copies it: each database whole, nothing that is only for the moment."""
    ignore = shutil.ignore_patterns("*.db", "*.db-*", "lock")
    shutil.copytree(home, to, ignore=ignore)
    for path in home.rglob("*.db"):
        with (
            closing(sqlite3.connect(path)) as source,
            closing(sqlite3.connect(to / path.relative_to(home))) as target,
        ):
            source.backup(target)
    return Home(to)


@pytest.fixture(name="homes", scope="module")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    root = tmp_path_factory.mktemp("homes")
    where = tables.write(root / "data", config_changes={"training": {"rounds": 2}})
    live = Home(root / "live")
    homes = Homes(where, root / "older", root / "newer")
    homes.launch(live)
    copied(live.root, homes.older)
    homes.launch(live)
    copied(live.root, homes.newer)
    return homes


@pytest.fixture(name="home")
def _home(homes: Homes, tmp_path: Path) -> Home:
    """The newer home, to be changed."""
    return copied(homes.newer, tmp_path / "home")


def node_folder(home: Home, member: str = FIRST) -> Path:
    return home.node("small_binary", member)


def put_back(homes: Homes, home: Home, *names: str) -> None:
    """Put files of the older home in the place of the newer ones."""
    for name in names:
        for path in homes.older.glob(name):
            shutil.copy(path, home.root / path.relative_to(homes.older))


NODES = f"nodes/small_binary/{FIRST}"
ALL_NODES = "nodes/small_binary/*"


def found_by_audit(home: Home, sentence: str) -> None:
    with pytest.raises(NotVerifiedError, match=sentence):
        verify_home(home)


def found_by_launch(homes: Homes, home: Home, sentence: str) -> None:
    """The next launch opens nothing, and says why."""
    before = home_sums(home)
    with pytest.raises((CohortError, RefusedError), match=sentence):
        homes.launch(home)
    assert home_sums(home) == before


def home_sums(home: Home) -> int:
    ledger = SqliteLedger(home.ledger)
    return sum(entry.kind == "sum.opened" for entry in entries_of(ledger.leaves()))


def whole(home: Home, *, runs: int) -> Verdict:
    verdict = verify_home(home).verdict
    assert verdict.runs == runs
    assert verdict == verify_home(home).verdict
    exported = verify_bundle(home_bundle(home))
    assert (exported.leaves, exported.root) == (verdict.leaves, verdict.root)
    return exported


FOLLOW = "does not follow on what this node cosigned"  # a node's words
SET_BACK = f"{FIRST} had .* entries in its own ledger and now says"  # the coordinator's


# -- as it is ----------------------------------------------------------------------------------


def test_a_home_after_two_runs_holds_on_both_sides(homes: Homes, home: Home) -> None:
    verdict = whole(home, runs=2)
    assert verdict.unfinished == ()
    assert verdict.releases == verdict.opened == 2 * (1 + 2 + 2 + 1)
    assert {node.owner: node.compared for node in verdict.nodes} == dict.fromkeys(
        tables.MEMBERS, verdict.opened
    )
    # the newest state has the registered model in it, and all members cosigned it
    assert len(verdict.cosigned) == len(tables.MEMBERS)
    last = list(entries_of(SqliteLedger(home.ledger).leaves()))[-1]
    assert last.kind == "model.registered"
    # a copy that was moved goes on like the original
    assert homes.launch(home).sentences == []
    whole(home, runs=3)


def test_a_run_that_was_refused_leaves_a_home_that_holds(homes: Homes, home: Home) -> None:
    (home.root / "policy.yaml").write_text("minimum_cohort: 9\n")
    with pytest.raises(RefusedError, match="insists on at least 9"):
        homes.launch(home)
    verdict = whole(home, runs=3)
    assert (verdict.rounds, verdict.unfinished) == (4, ())
    (home.root / "policy.yaml").unlink()
    homes.launch(home)
    whole(home, runs=4)


# -- the coordinator's ledger ------------------------------------------------------------------


def test_an_older_copy_of_the_coordinators_ledger(homes: Homes, home: Home) -> None:
    """Found by the audit, from what the runs' folders remember, and by the nodes."""
    put_back(homes, home, LEDGER)
    found_by_audit(home, r"step 7 .witnesses.: entry \d+: the ledger was cut off; somebody remem")
    found_by_launch(homes, home, FOLLOW)
    found_by_audit(home, "step 7")


def test_an_older_copy_of_the_coordinators_ledger_without_the_second_runs_folder(
    homes: Homes, home: Home
) -> None:
    """Found by the audit, from what the nodes' own ledgers hold, and by the nodes."""
    put_back(homes, home, LEDGER)
    shutil.rmtree(home.runs / home.run_ids()[-1])
    found_by_audit(home, "step 9 .both sides.*it cosigned .* of the coordinator's ledger, of which")
    found_by_launch(homes, home, FOLLOW)


def test_an_older_copy_of_all_ledgers_but_one_nodes(homes: Homes, home: Home) -> None:
    """One node's own ledger that was kept is enough for the audit, and for that node."""
    kept = tables.MEMBERS[2]
    put_back(homes, home, LEDGER, *(f"nodes/small_binary/{m}/{LEDGER}" for m in tables.MEMBERS[:2]))
    shutil.rmtree(home.runs / home.run_ids()[-1])
    found_by_audit(home, f"step 9 .both sides., ledger of {kept}: .* it cosigned")
    found_by_launch(homes, home, f"{kept} refused: .*{FOLLOW}")


def test_an_older_copy_of_all_ledgers_is_found_by_copies_elsewhere_alone(
    homes: Homes, home: Home
) -> None:
    """The limit: where nobody remembers the second run, nobody can miss it."""
    remembered = head_of(SqliteLedger(home.ledger))
    put_back(homes, home, LEDGER, f"{ALL_NODES}/{LEDGER}")
    shutil.rmtree(home.runs / home.run_ids()[-1])
    whole(home, runs=1)
    homes.launch(home)
    whole(home, runs=2)
    bundle = home_bundle(home)
    with pytest.raises(NotVerifiedError, match=r"step 7 .witnesses.*somebody remembers"):
        verify_bundle(bundle, heads={bundle.logs[0].origin: [remembered]})


def test_a_coordinators_ledger_without_its_last_entries(homes: Homes, home: Home) -> None:
    """Found by the audit, from who cosigned what, and by the coordinator's own program."""
    cut(home.ledger, 3)
    found_by_audit(home, "cosigned a state that has this sum on record|the ledger was cut off")
    found_by_launch(homes, home, "restore|cut off|not what was|has not")


def test_a_coordinators_ledger_without_its_last_entry_and_the_states_that_had_it(
    homes: Homes, home: Home
) -> None:
    """The run's result was written before its model was registered: the nodes remember more."""
    cut(home.ledger, 1, states=True)
    found_by_audit(home, "cosigned a state that has this sum on record")
    found_by_launch(homes, home, FOLLOW)


def test_a_coordinators_ledger_that_was_begun_anew(homes: Homes, home: Home) -> None:
    home.ledger.unlink()
    found_by_audit(home, "step 7 .witnesses.: the coordinator's ledger is gone")
    found_by_launch(homes, home, FOLLOW)
    found_by_audit(home, "step 7")


def test_a_coordinators_ledger_that_was_begun_anew_under_a_new_key(
    homes: Homes, home: Home
) -> None:
    """Found by the nodes before they read a row, unless their owners allow it."""
    home.ledger.unlink()
    home.coordinator.unlink()
    found_by_launch(homes, home, "This node follows the ledger tacit/coordinator/")
    with pytest.raises(NotVerifiedError):
        verify_home(home)
    for member in tables.MEMBERS:
        own = SqliteLedger(node_folder(home, member) / LEDGER)
        kinds = [entry.kind for entry in entries_of(own.leaves())]
        assert kinds[-1] == "run.refused"
    # The twin: the new one's name is in the policy.
    first = parse_leaf(next(iter(SqliteLedger(home.ledger).leaves())))
    (home.root / "policy.yaml").write_text(f"ledgers: [{first.body['origin']}]\n")
    assert homes.launch(home).sentences == []


def test_an_entry_of_the_coordinators_ledger_in_other_words(home: Home) -> None:
    reword(home.ledger, b'"round":2', b'"round":3')
    found_by_audit(home, r"step \d+ .*, ledger of coordinator")
    with pytest.raises(NotVerifiedError, match="ledger of coordinator"):
        verify_bundle(home_bundle(home))


# -- a node's ledger ---------------------------------------------------------------------------


def test_an_older_copy_of_one_nodes_ledger(homes: Homes, home: Home) -> None:
    """Found by the audit, and by the coordinator with the first vector; the audit finds it on."""
    put_back(homes, home, f"{NODES}/{LEDGER}")
    found_by_audit(home, rf"step 9 .both sides., ledger of {FIRST}: entry \d+: it was cut off")
    found_by_launch(homes, home, SET_BACK)
    found_by_audit(home, rf"step 9 .both sides., ledger of {FIRST}: ")


def test_a_nodes_ledger_that_is_gone(homes: Homes, home: Home) -> None:
    """The audit says that it is not there to compare; begun anew, it is found like an older one."""
    (node_folder(home) / LEDGER).unlink()
    audit = verify_home(home)
    assert audit.verdict.missing == (FIRST,)
    assert f"Not compared, as not at hand: {FIRST}" in audit.sentence()
    found_by_launch(homes, home, SET_BACK)
    found_by_audit(home, rf"step 9 .both sides., ledger of {FIRST}: ")


def test_a_nodes_ledger_that_was_begun_anew_and_grew_is_found_by_the_audit(
    homes: Homes, home: Home
) -> None:
    """Whoever makes it as long as it was is let in; what is in it is other than was told."""
    longest = SqliteLedger(node_folder(home) / LEDGER).size()
    (node_folder(home) / LEDGER).unlink()
    found_by_launch(homes, home, SET_BACK)
    own = SqliteLedger(node_folder(home) / LEDGER)
    for place in range(longest):
        reason = {"manifest": f"{place:064x}", "reason": "to be longer"}
        append(own, "run.refused", reason, time_ms=0)
    own.close()
    assert homes.launch(home).sentences == []
    found_by_audit(home, rf"step 9 .both sides., ledger of {FIRST}: .*it was rewritten")


def test_an_entry_of_a_nodes_ledger_in_other_words(home: Home) -> None:
    """A receipt that costs less: the head that the coordinator's ledger has is another."""
    path = node_folder(home) / LEDGER
    reword(path, b'"step":"statistics"', b'"step":"update"')
    found_by_audit(home, rf"ledger of {FIRST}")


def test_a_nodes_ledger_of_another_member(homes: Homes, home: Home) -> None:
    del homes
    other = node_folder(home, tables.MEMBERS[1]) / LEDGER
    shutil.copy(other, node_folder(home) / LEDGER)
    found_by_audit(home, r"step \d+ ")


# -- as a person types it ----------------------------------------------------------------------


def test_the_command_says_in_one_sentence_what_it_found(homes: Homes, home: Home) -> None:
    assert tacit("audit", "verify", home=home.root).returncode == 0
    put_back(homes, home, f"{NODES}/{LEDGER}")
    sentence = assert_one_sentence(tacit("audit", "verify", home=home.root), 1)
    assert f"ledger of {FIRST}" in sentence
    words = ("audit", "export", str(home.root / "bundle"))
    assert tacit(*words, home=home.root).returncode == 0
    found = tacit("audit", "verify", str(home.root / "bundle"), home=home.root)
    assert f"ledger of {FIRST}" in assert_one_sentence(found, 1)


def edit(path: Path, statements: Sequence[tuple[str, tuple[object, ...]]]) -> None:
    """Change a ledger's file as its owner can."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement, values in statements:
            connection.execute(statement, values)


def cut(path: Path, count: int, *, states: bool = False) -> None:
    """Take the last entries out, with the tree over them, and the states that had them."""
    leaves = list(SqliteLedger(path).leaves())
    size = len(leaves) - count
    statements: list[tuple[str, tuple[object, ...]]] = [
        ("DELETE FROM entry WHERE place >= ?", (size,)),
        ("DELETE FROM node WHERE (place + 1) << level > ?", (size,)),
    ]
    if states:
        statements.append(("DELETE FROM checkpoint WHERE size > ?", (size,)))
    edit(path, statements)
    assert head_of(SqliteLedger(path)) == head_of(MemoryLedger(leaves[:size]))


def reword(path: Path, old: bytes, new: bytes) -> None:
    """Write the first entry that has these words in others, with the tree over all of them."""
    leaves = list(SqliteLedger(path).leaves())
    place = next(place for place, leaf in enumerate(leaves) if old in leaf)
    leaves[place] = leaves[place].replace(old, new)
    parse_leaf(leaves[place])
    made = MemoryLedger(leaves)
    with closing(sqlite3.connect(path)) as connection:
        nodes = connection.execute("SELECT level, place FROM node").fetchall()
    change: Callable[[int, int], tuple[str, tuple[object, ...]]] = lambda level, at: (  # noqa: E731
        "UPDATE node SET hash = ? WHERE level = ? AND place = ?",
        (made.node(level, at), level, at),
    )
    edit(
        path,
        [
            ("UPDATE entry SET leaf = ? WHERE place = ?", (leaves[place], place)),
            *(change(level, at) for level, at in nodes),
        ],
    )
