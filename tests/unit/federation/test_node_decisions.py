"""What waits for a person, and what a person said: on record, for these very words, once."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
from rich.console import Console
from support.asked import PLAN, asked
from support.membership import Acts

from clients.consent import Decided
from federation.decisions import (
    GIVEN_UP_MS,
    NodeDecisions,
    Waiting,
    decide,
    decided,
    find_waiting,
    forget_stale,
    waiting,
)
from federation.node_status import UNASKED_MS, let_in, pending_table, unasked
from privacy.budget import read_ledger
from privacy.errors import InputError, RefusedError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.sqlite import SqliteLedger
from privacy.manifest import Manifest
from privacy.randomness import system_bytes

WHY = "A person at this node decides about this run."


class House:
    """A node's folder, with a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = SqliteLedger(folder / "ledger.db")
        begin_ledger(
            self.ledger, Identity.create(system_bytes), owner="mill", role="node", time_ms=1
        )
        self.now_ms = 1_000_000
        self.told: list[Waiting] = []
        self.decisions = NodeDecisions(
            folder,
            self.ledger,
            role_of={"Bank A": "bank"}.get,
            told=self.told.append,
            now_ms=lambda: self.now_ms,
        )

    def wait(
        self,
        manifest: Manifest,
        on: Literal["person", "time"] = "person",
        why: str = WHY,
        launcher: str = "Bank A",
    ) -> bool:
        return self.decisions.wait(manifest, launcher, on=on, why=why)

    def decide(self, run: str, *, approved: bool, reason: str = "") -> None:
        one = find_waiting(self.folder, run)
        decide(self.folder, self.ledger, one, approved=approved, reason=reason, now_ms=self.now_ms)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_person_is_shown_what_it_is_about(house: House) -> None:
    house.wait(asked(privacy=PLAN))
    (one,) = waiting(house.folder)
    assert (one.run, one.name, one.task) == ("20260102-demo-1a2b", "demo", "credit")
    assert (one.launcher, one.role) == ("Bank A", "bank")
    assert one.members == tuple(f"member {n}" for n in range(5))
    assert (one.protection, one.minimum_cohort, one.rounds) == ("masked", 3, 7)
    assert (one.unit, one.delta, one.on, one.why) == ("borrower", 1e-5, "person", WHY)
    assert one.epsilon is not None
    assert 0.01 < one.epsilon < 10
    assert json.loads(json.dumps(one.to_json()))["epsilon"] == one.epsilon


def test_without_noise_there_is_no_figure_to_show(house: House) -> None:
    house.wait(asked())
    (one,) = waiting(house.folder)
    assert (one.epsilon, one.delta) == (None, None)


def test_a_manifest_that_cannot_be_read_is_still_shown(house: House) -> None:
    house.wait(asked(node_settings={"task": "credit"}))
    (one,) = waiting(house.folder)
    assert (one.rounds, one.epsilon) == (0, None)


def test_a_decision_is_in_the_ledger_and_seen_by_another_process(house: House) -> None:
    house.wait(asked())
    assert house.decisions.decided(asked()) is None
    house.decide("demo", approved=True)
    assert waiting(house.folder) == ()
    assert house.decisions.decided(asked()) == Decided(approved=True, reason="")
    again = SqliteLedger(house.folder / "ledger.db")
    assert decided(again, asked().digest().hex()) == Decided(approved=True, reason="")
    _, entries = read_ledger(again)
    assert dict(entries[-1].body) == {
        "manifest": asked().digest().hex(),
        "decision": "approved",
        "reason": "by hand",
    }
    kept = json.loads((house.folder / "decisions" / f"{asked().digest().hex()}.json").read_text())
    assert (kept["decision"], kept["run"]) == ("approved", asked().run)


def test_a_refusal_keeps_its_reason(house: House) -> None:
    house.wait(asked())
    house.decide(asked().run, approved=False, reason="  not\nthis quarter ")
    found = house.decisions.decided(asked())
    assert found == Decided(approved=False, reason="not this quarter")


def test_a_decision_is_about_one_manifest(house: House) -> None:
    house.wait(asked())
    house.decide("demo", approved=True)
    assert house.decisions.decided(asked(minimum_cohort=4)) is None


def test_a_decision_stands(house: House) -> None:
    house.wait(asked())
    one = find_waiting(house.folder, "demo")
    house.decide("demo", approved=True)
    house.wait(asked(), on="time", why="It is outside of this node's hours.")
    size = house.ledger.size()
    decide(house.folder, house.ledger, one, approved=True, now_ms=1)  # the same again is none
    assert house.ledger.size() == size
    with pytest.raises(RefusedError, match="was approved here before, and a decision stands"):
        decide(house.folder, house.ledger, one, approved=False, reason="no", now_ms=1)


def test_what_was_cut_short_after_the_ledger_is_finished_by_the_same_word(house: House) -> None:
    house.wait(asked())
    one = find_waiting(house.folder, "demo")
    house.decide("demo", approved=True)
    (house.folder / "decisions" / f"{one.manifest}.json").unlink()
    house.wait(asked())
    house.decide("demo", approved=True)
    assert waiting(house.folder) == ()


def test_a_node_that_writes_a_moment_late_does_not_ask_twice(house: House) -> None:
    house.wait(asked())
    house.decide("demo", approved=True)
    house.wait(asked())  # it asked the ledger before the person decided
    assert waiting(house.folder) == ()
    house.wait(asked(), on="time", why="It is outside of this node's hours.")
    assert [one.on for one in waiting(house.folder)] == ["time"]
    house.decisions.settled(asked())
    assert waiting(house.folder) == ()


def test_a_person_is_told_once_and_again_when_it_waits_for_something_else(house: House) -> None:
    for _ in range(3):
        house.wait(asked())
    house.wait(asked(), on="time", why="It is outside of this node's hours.")
    assert [one.on for one in house.told] == ["person", "time"]


def test_when_it_was_asked_last_is_kept_now_and_then(house: House) -> None:
    house.wait(asked())
    house.now_ms += 1000
    house.wait(asked())
    assert waiting(house.folder)[0].seen_ms == 1_000_000
    house.now_ms += 60_000
    house.wait(asked())
    assert waiting(house.folder)[0].seen_ms == 1_061_000
    assert waiting(house.folder)[0].asked_ms == 1_000_000


def test_runs_are_found_by_a_part_or_by_their_digest(house: House) -> None:
    house.wait(asked())
    house.wait(asked(run="20260103-other-ffff"))
    assert find_waiting(house.folder, "other").run == "20260103-other-ffff"
    assert find_waiting(house.folder, asked().digest().hex()[:12]).run == asked().run
    with pytest.raises(InputError, match="any of 2 runs that wait here"):
        find_waiting(house.folder, "2026")
    with pytest.raises(InputError, match="no run that waits here; see tacit node pending"):
        find_waiting(house.folder, "nothing")
    with pytest.raises(InputError, match="no run that waits here"):
        find_waiting(house.folder, "")


@pytest.mark.parametrize("reason", ["x" * 301, "bell\a"])
def test_a_reason_that_cannot_be_kept_is_told(house: House, reason: str) -> None:
    house.wait(asked())
    with pytest.raises(InputError, match="--reason"):
        house.decide("demo", approved=False, reason=reason)
    assert house.decisions.decided(asked()) is None
    assert len(waiting(house.folder)) == 1


def test_what_nobody_asks_for_any_more_is_forgotten(house: House) -> None:
    house.wait(asked())
    house.now_ms += 10_000
    house.wait(asked(run="20260103-other-ffff"))
    forget_stale(house.folder, before_ms=1_005_000)
    assert [one.run for one in waiting(house.folder)] == ["20260103-other-ffff"]


def test_a_file_of_another_version_is_named(house: House) -> None:
    house.wait(asked())
    path = next((house.folder / "pending").iterdir())
    path.write_text("{}")
    with pytest.raises(InputError, match="is of another version; remove it"):
        waiting(house.folder)
    forget_stale(house.folder, before_ms=0)
    assert waiting(house.folder) == ()


def test_a_folder_that_no_node_used_has_nothing_that_waits(tmp_path: Path) -> None:
    assert waiting(tmp_path / "none") == ()


def test_words_of_others_reach_a_terminal_as_text(house: House) -> None:
    house.wait(asked(name="a\x1b[2Jb", task="[bold]credit"))
    (one,) = waiting(house.folder)
    assert "\x1b" not in one.name
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(pending_table((one,), now_ms=0))
    assert "[bold]credit" in console.export_text()


def test_a_run_that_nobody_asks_about_any_more_is_shown_as_such(house: House) -> None:
    """Who stopped it tells no node that only waits."""
    house.wait(asked())
    (one,) = waiting(house.folder)
    last = one.seen_ms + UNASKED_MS
    for now_ms, late in ((one.seen_ms, False), (last - 1, False), (last, True)):
        console = Console(width=300, record=True, file=io.StringIO())
        console.print(pending_table((one,), now_ms=now_ms))
        assert ("it may have been stopped, or begun without" in console.export_text()) is late
        assert bool(unasked(one, now_ms)) is late


def test_nobody_fills_a_disk_by_asking(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.decisions.WAITING_MAX", 2)
    for run in ("a", "b"):
        house.wait(asked(run=run))
    assert not house.wait(asked(run="c"))
    assert house.wait(asked(run="b"))
    assert [one.run for one in waiting(house.folder)] == ["a", "b"]


def test_runs_that_were_given_up_make_room(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.decisions.WAITING_MAX", 2)
    house.wait(asked(run="a"))
    house.now_ms += GIVEN_UP_MS
    house.wait(asked(run="b"))
    assert not house.wait(asked(run="c"))
    house.now_ms += 1
    assert house.wait(asked(run="c"))
    assert [one.run for one in waiting(house.folder)] == ["b", "c"]
    # who is back is asked about again, once there is room
    assert not house.wait(asked(run="a"))


def test_one_launcher_does_not_take_all_places(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.decisions.WAITING_OF_ONE_MAX", 2)
    assert house.wait(asked(run="a"))
    assert house.wait(asked(run="b"))
    assert not house.wait(asked(run="c"))
    assert house.wait(asked(run="d"), launcher="Bank B")
    (house.folder / "pending" / f"{'ab' * 32}.json").write_text("{}")
    assert not house.wait(asked(run="c"))
    assert house.wait(asked(run="e"), launcher="Bank B")
    house.decide("b", approved=True)
    assert house.wait(asked(run="c"))


def test_it_says_who_let_each_member_in_and_since_when(house: House) -> None:
    acts = Acts().settled().revoke("cedar")
    house.wait(asked(directory=dict.fromkeys(("delta", "cedar", "nobody"), "00" * 32)))
    (one,) = waiting(house.folder)
    lines = let_in(one.members, acts.membership)
    since = acts.membership.participants["delta"].since_ms
    day = f"{datetime.fromtimestamp(since / 1000, UTC):%Y-%m-%d}"
    assert lines[0] == "cedar: takes no part in the federation"
    assert lines[1].startswith(f"delta: since {day}")
    assert lines[1].endswith("approved by amber, birch")
    assert lines[2] == "nobody: takes no part in the federation"
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(pending_table((one,), acts.membership, now_ms=0))
    console.print(pending_table((one,), now_ms=0))
    shown = console.export_text()
    assert "approved by amber, birch" in shown
    assert "unknown, as this node has not read the membership yet" in shown
