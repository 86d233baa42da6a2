"""The coordinator's desk: runs side by side, and how each can end, be left and be gone on with."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.network_runs import (
    RESULT,
    Script,
    desk,
    order,
    recorder,
    started,
    until_stopped,
)

from aggregator.ports import Observer
from federation.history import history
from federation.home import Home
from federation.registry.source import AbsentError
from federation.runs import desk as desk_module
from federation.runs.desk import RUNS_OF_ONE_MAX, RunDesk
from federation.runs.event import (
    Answer,
    Event,
    Finished,
    Interrupted,
    Note,
    Registered,
    Round,
    Step,
    Stopped,
)
from federation.runs.event_log import FILE
from federation.runs.facts import home_facts
from federation.runs.order import Order, keep_order, read_order
from federation.runs.untold import keep_untold, read_untold
from privacy.errors import (
    CohortError,
    DamagedFileError,
    InputError,
    NotVerifiedError,
    RefusedError,
)
from privacy.ledger.store import entries_of

WAIT_S = 60.0


def wait(holds: Callable[[], object]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end_s, "it never held"
        time.sleep(0.005)


def settled(at: RunDesk, run: str = "a-run") -> list[Event]:
    """All events of a run, once it is over."""
    wait(lambda: at.events(run).is_over and at.facts(run).state != "running")
    return [told.event for told in at.events(run).since(0, wait_s=0)]


def kinds(engine: Script) -> list[str]:
    return [entry.kind for entry in entries_of(engine.book.store.leaves())]


def goes_well(asked: Order, observer: Observer, stop: threading.Event) -> None:
    del stop
    observer.answered("Mill", "pending", "a person\ndecides")
    for member in asked.manifest.members:
        observer.answered(member, "agreed", "")
    observer.step("training")
    for index in (1, 2, 3):
        observer.round(index, watched=index == 3, facts={"bytes_up": 80.0, "bytes_down": 90.0})
    observer.note("Mill is away")


def fails(error: Exception) -> Callable[[Order, Observer, threading.Event], None]:
    def fail(asked: Order, observer: Observer, stop: threading.Event) -> None:
        del asked, observer, stop
        raise error

    return fail


def test_a_run_is_carried_out_told_and_kept(tmp_path: Path) -> None:
    engine = Script(recorder(), goes_well)
    at = desk(tmp_path, engine)
    assert at.launch(order()).state in {"running", "finished"}
    events = settled(at)
    assert events[0] == Step(name="inviting the members")
    assert Answer(member="Mill", answer="pending", reason="a person decides") in events
    rounds = [one for one in events if isinstance(one, Round)]
    assert [(one.index, one.of, one.watched) for one in rounds] == [
        (1, 3, False),
        (2, 3, False),
        (3, 3, True),
    ]
    assert Note(sentence="Mill is away") in events
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.model, end.absences) == (RESULT.model.hex(), RESULT.absences)
    facts = at.facts("a-run")
    assert (facts.state, facts.rounds, facts.of, facts.launcher) == ("finished", 3, 3, "Bank")
    wait(lambda: engine.witnessed == ["a-run"])
    # what the command line shows of a coordinator's home is from its files alone
    assert home_facts(Home(tmp_path)) == [facts]
    (shown,) = history(Home(tmp_path))
    assert (shown["state"], shown["rounds"], shown["members"]) == ("finished", 3, 3)


def test_runs_go_side_by_side(tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=WAIT_S)

    def meet(asked: Order, observer: Observer, stop: threading.Event) -> None:
        del asked, observer, stop
        together.wait()

    engine = Script(recorder(), meet)
    at = desk(tmp_path, engine)
    for run in ("one", "two", "three"):
        at.launch(order(run))
    for run in ("one", "two", "three"):
        assert isinstance(settled(at, run)[-1], Finished)
    assert {one.run for one in at.runs()} == {"one", "two", "three"}


def test_the_same_order_again_begins_nothing_and_another_is_refused(tmp_path: Path) -> None:
    engine = Script(recorder(), until_stopped)
    at = desk(tmp_path, engine)
    at.launch(order())
    assert at.launch(order()).state == "running"
    with pytest.raises(RefusedError, match="a-run here already; choose another name"):
        at.launch(order(minimum_cohort=2))
    with pytest.raises(RefusedError, match="already"):
        at.launch(order(by="Insurer"))
    at.stop("a-run", by="Bank")
    assert engine.runs == ["a-run"]


def test_a_name_that_only_the_ledger_knows_is_taken_too(tmp_path: Path) -> None:
    engine = Script(recorder())
    started(engine.book, order())
    with pytest.raises(RefusedError, match="already"):
        desk(tmp_path, engine).launch(order())
    assert not (tmp_path / "runs").exists()


def test_there_are_only_so_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Script(recorder(), until_stopped)
    at = desk(tmp_path, engine)
    for index in range(RUNS_OF_ONE_MAX):
        at.launch(order(f"run-{index}"))
    with pytest.raises(RefusedError, match=f"{RUNS_OF_ONE_MAX} runs of Bank are under way"):
        at.launch(order("one-more"))
    # nobody takes all places: another launcher still has some
    assert at.launch(order("anothers", by="Insurer")).state == "running"
    monkeypatch.setattr(desk_module, "RUNS_MAX", RUNS_OF_ONE_MAX + 1)
    with pytest.raises(RefusedError, match=f"{RUNS_OF_ONE_MAX + 1} runs are under way"):
        at.launch(order("one-more", by="Insurer"))
    at.close()
    assert at.under_way == 0


def test_a_run_is_stopped_for_good_and_the_ledger_says_who_asked(tmp_path: Path) -> None:
    engine = Script(recorder(), until_stopped)
    at = desk(tmp_path, engine)
    at.launch(order())
    assert engine.begun.wait(WAIT_S)
    engine.there = {"Bank", "Mill"}
    assert at.stop("a-run", by="Bank").state == "stopped"
    assert settled(at)[-1] == Stopped(reason="stopped by Bank")
    assert dict(engine.book.recorded("run.stopped", {"run": "a-run"}) or {}) == {
        "run": "a-run",
        "reason": "stopped by Bank",
    }
    wait(lambda: engine.dismissed == ["a-run"])
    wait(lambda: read_untold(tmp_path / "runs" / "a-run") == {"Insurer"})
    with pytest.raises(RefusedError, match="stopped already"):
        at.stop("a-run", by="Bank")
    with pytest.raises(RefusedError, match="stopped for good"):
        at.resume("a-run", by="Bank")
    again = desk(tmp_path, engine)
    assert again.resume_all() == ()


@pytest.mark.parametrize(
    "error",
    [
        RefusedError("Mill refused: no."),
        CohortError("Mill did not answer; start the missing nodes and launch again."),
        NotVerifiedError("the ledger is another"),
    ],
)
def test_what_a_member_refuses_ends_a_run(tmp_path: Path, error: Exception) -> None:
    engine = Script(recorder(), fails(error))
    at = desk(tmp_path, engine)
    at.launch(order())
    assert settled(at)[-1] == Stopped(reason=str(error))
    assert kinds(engine)[-1] == "run.stopped"
    assert at.facts("a-run").reason == str(error)


def test_too_few_in_the_middle_interrupts_and_it_can_be_gone_on_with(tmp_path: Path) -> None:
    engine = Script(recorder())

    def too_few(asked: Order, observer: Observer, stop: threading.Event) -> None:
        del observer, stop
        body = {"run": asked.run, "roster": "00" * 32, "fingerprint": "00" * 32}
        engine.book.record("keys.agreed", {**body, "public_bytes": 0})
        raise CohortError("2 of 3 members are there")

    engine.then = too_few
    at = desk(tmp_path, engine)
    at.launch(order())
    assert settled(at)[-1] == Interrupted(reason="2 of 3 members are there")
    assert "run.stopped" not in kinds(engine)
    assert at.facts("a-run").state == "interrupted"
    engine.then = goes_well
    assert at.resume("a-run", by="Bank").state in {"running", "finished"}
    wait(lambda: isinstance(at.events("a-run").last, Finished))
    events = settled(at)
    assert Step(name="going on, as Bank asked") in events
    assert isinstance(events[-1], Finished)


def test_a_run_whose_end_was_just_told_can_be_gone_on_with_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever watches hears of the end before the run's own thread is over."""
    real = RunDesk._tell

    def tell(at: RunDesk, *told: Any) -> None:  # noqa: ANN401 - as there
        real(at, *told)
        time.sleep(0.5)

    monkeypatch.setattr(RunDesk, "_tell", tell)
    engine = Script(recorder(), fails(InputError("disk full")))
    at = desk(tmp_path, engine)
    at.launch(order())
    wait(lambda: isinstance(at.events("a-run").last, Interrupted))
    engine.then = goes_well
    assert at.resume("a-run", by="Bank").state in {"running", "finished"}
    assert isinstance(settled(at)[-1], Finished)


@pytest.mark.parametrize(
    "error",
    [
        InputError("/secret/place: disk full"),
        DamagedFileError("the last entry of /secret/place is broken"),
        RuntimeError("a bug"),
    ],
)
def test_what_is_wrong_with_the_machine_is_not_told_to_members(
    tmp_path: Path, error: Exception
) -> None:
    engine = Script(recorder(), fails(error))
    at = desk(tmp_path, engine)
    at.launch(order())
    end = settled(at)[-1]
    assert isinstance(end, Interrupted)
    assert "operator" in end.reason
    assert "secret" not in end.reason
    assert "bug" not in end.reason
    assert "run.stopped" not in kinds(engine)


def test_a_service_that_ends_leaves_its_runs_and_goes_on_with_them(tmp_path: Path) -> None:
    engine = Script(recorder(), until_stopped)
    at = desk(tmp_path, engine)
    at.launch(order())
    assert engine.begun.wait(WAIT_S)
    at.close()
    assert "run.stopped" not in kinds(engine)
    with pytest.raises(RefusedError, match="ending"):
        at.launch(order("another"))
    # another process, over the same home and ledger
    later = Script(engine.book, goes_well)
    again = desk(tmp_path, later)
    assert again.facts("a-run").state == "interrupted"
    assert again.resume_all() == ("a-run",)
    events = settled(again)
    assert Step(name="going on after the coordinator's restart") in events
    assert isinstance(events[-1], Finished)
    assert [told.number for told in again.events("a-run").since(0, wait_s=0)] == list(
        range(len(events))
    )
    assert desk(tmp_path, later).resume_all() == ()


def test_a_run_whose_end_nobody_was_told_is_brought_to_it_again(tmp_path: Path) -> None:
    """The coordinator ended between the run's state and its last event."""
    engine = Script(recorder(), goes_well)
    at = desk(tmp_path, engine)
    at.launch(order())
    events = settled(at)
    wait(lambda: engine.witnessed == ["a-run"])
    at.close()
    log = tmp_path / "runs" / "a-run" / FILE
    lines = log.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(events)
    log.write_bytes(b"".join(lines[:-1]))
    later = Script(engine.book, goes_well)
    again = desk(tmp_path, later)
    assert again.facts("a-run").state == "finished"
    assert again.resume_all() == ("a-run",)
    assert isinstance(settled(again)[-1], Finished)
    wait(lambda: later.witnessed == ["a-run"])
    assert desk(tmp_path, later).resume_all() == ()


def test_a_run_whose_end_only_the_ledger_knows_is_not_begun_again(tmp_path: Path) -> None:
    engine = Script(recorder(), until_stopped)
    at = desk(tmp_path, engine)
    at.launch(order())
    assert engine.begun.wait(WAIT_S)
    at.close()
    engine.book.stop("a-run", "stopped by hand")
    again = desk(tmp_path, engine)
    assert again.resume_all() == ()
    assert (again.facts("a-run").state, again.facts("a-run").reason) == (
        "stopped",
        "stopped by hand",
    )


@pytest.mark.parametrize("error", [RuntimeError("a bug"), RefusedError("the run was stopped")])
def test_a_run_that_was_stopped_and_then_fails_inside_ends_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It takes longer to end than whoever stops it waits, and then fails."""
    monkeypatch.setattr(desk_module, "STOPPING_S", 0.0)
    told = threading.Event()

    def fail_late(asked: Order, observer: Observer, stop: threading.Event) -> None:
        del asked, observer
        assert stop.wait(WAIT_S)
        assert told.wait(WAIT_S)
        raise error

    engine = Script(recorder(), fail_late)
    at = desk(tmp_path, engine)
    at.launch(order())
    assert engine.begun.wait(WAIT_S)
    at.stop("a-run", by="Bank")
    assert "run.stopped" not in kinds(engine)
    told.set()
    assert settled(at)[-1] == Stopped(reason="stopped by Bank")
    assert at.facts("a-run").state == "stopped"
    assert kinds(engine)[-1] == "run.stopped"
    assert desk(tmp_path, engine).resume_all() == ()


def test_an_interrupted_run_can_be_stopped(tmp_path: Path) -> None:
    engine = Script(recorder(), until_stopped)
    at = desk(tmp_path, engine)
    at.launch(order())
    assert engine.begun.wait(WAIT_S)
    at.close()
    again = desk(tmp_path, engine)
    assert again.stop("a-run", by="Operator").reason == "stopped by Operator"
    assert kinds(engine)[-1] == "run.stopped"


def test_a_folder_that_was_changed_is_passed_over(tmp_path: Path) -> None:
    engine = Script(recorder())
    for run in ("good", "bad"):
        keep_order(order(run), tmp_path / "runs" / run)
    (tmp_path / "runs" / "bad" / "manifest.json").write_bytes(b"{}")
    at = desk(tmp_path, engine)
    assert at.resume_all() == ("good",)
    assert [one.run for one in at.runs()] == ["good"]
    with pytest.raises(NotVerifiedError, match="does not hold what was launched"):
        at.facts("bad")


def test_a_model_is_reported_once(tmp_path: Path) -> None:
    engine = Script(recorder(), goes_well)
    at = desk(tmp_path, engine)
    at.launch(order())
    settled(at)
    for _ in range(2):
        at.report("a-run", file=b"\5" * 32, card=b"\6" * 32)
    assert kinds(engine).count("model.registered") == 1
    body = engine.book.recorded("model.registered", {"run": "a-run", "file": "05" * 32})
    assert body is not None
    assert body["model"] == RESULT.model.hex()
    with pytest.raises(RefusedError, match="on record already"):
        at.report("a-run", file=b"\7" * 32, card=b"\6" * 32)
    wait(lambda: engine.witnessed == ["a-run", "a-run"])
    events = [told.event for told in at.events("a-run").since(0, wait_s=0)]
    assert events[-1] == Registered(file="05" * 32, card="06" * 32)
    assert at.events("a-run").is_over


def test_no_model_is_reported_of_a_run_that_is_not_finished(tmp_path: Path) -> None:
    engine = Script(recorder(), until_stopped)
    at = desk(tmp_path, engine)
    at.launch(order())
    with pytest.raises(RefusedError, match="not finished"):
        at.report("a-run", file=b"\5" * 32, card=b"\6" * 32)
    at.close()


def test_there_is_no_run_that_there_is_not(tmp_path: Path) -> None:
    at = desk(tmp_path, Script(recorder()))
    for ask in (
        lambda: at.facts("x"),
        lambda: at.events("x"),
        lambda: at.stop("x", by="Bank"),
        lambda: at.resume("x", by="Bank"),
        lambda: at.report("x", file=b"", card=b""),
    ):
        with pytest.raises(AbsentError, match="no such run"):
            ask()


def test_an_order_is_read_as_it_was_kept(tmp_path: Path) -> None:
    asked = order()
    keep_order(asked, tmp_path / "runs" / "a-run")
    assert read_order(tmp_path / "runs" / "a-run") == asked
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a-run"]
    kept = tmp_path / "runs" / "a-run" / "order.json"
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "key": "no"}))
    with pytest.raises(NotVerifiedError):
        read_order(tmp_path / "runs" / "a-run")


def told_later(at: RunDesk, seen: Callable[[], bool]) -> None:
    over = threading.Event()
    teller = threading.Thread(target=at.tell_ends, args=(over,))
    teller.start()
    try:
        wait(seen)
    finally:
        over.set()
        teller.join(WAIT_S)


def test_who_missed_the_end_of_a_stopped_run_is_told_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "LATER_S", 0.01)
    engine = Script(recorder(), until_stopped)
    at = desk(tmp_path, engine)
    at.launch(order())
    assert engine.begun.wait(WAIT_S)
    at.stop("a-run", by="Bank")
    folder = tmp_path / "runs" / "a-run"
    wait(lambda: read_untold(folder) == {"Bank", "Insurer", "Mill"})
    engine.there = {"Mill"}
    # another process of the coordinator knows it from the folder
    told_later(desk(tmp_path, engine), lambda: read_untold(folder) == {"Bank", "Insurer"})
    engine.there = {"Bank", "Insurer"}
    told_later(desk(tmp_path, engine), lambda: not (folder / "untold.json").exists())


def test_who_cannot_come_to_the_end_of_a_run_is_told_that_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses a sum that it missed, and would hold the run's keys for days."""
    monkeypatch.setattr(desk_module, "LATER_S", 0.01)
    engine = Script(recorder(), behind=("Mill",))
    at = desk(tmp_path, engine)
    at.launch(order())
    settled(at)
    folder = tmp_path / "runs" / "a-run"
    wait(lambda: read_untold(folder) == {"Mill"})
    engine.there = {"Mill"}
    told_later(at, lambda: not read_untold(folder))
    assert engine.dismissed == ["a-run"]


def test_who_missed_the_end_of_a_finished_run_is_brought_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "LATER_S", 0.01)
    engine = Script(recorder())
    at = desk(tmp_path, engine)
    at.launch(order())
    settled(at)
    folder = tmp_path / "runs" / "a-run"
    keep_untold(folder, ["Mill"])
    engine.there = {"Mill"}
    runs = len(engine.runs)
    told_later(desk(tmp_path, engine), lambda: not read_untold(folder))
    assert engine.runs[runs:] == ["a-run"]
    assert engine.dismissed == []


@pytest.mark.parametrize("kept", ["", "{", "{}", "[1]", "null"])
def test_what_cannot_be_read_of_it_is_nobody(tmp_path: Path, kept: str) -> None:
    (tmp_path / "untold.json").write_text(kept)
    assert read_untold(tmp_path) == frozenset()
