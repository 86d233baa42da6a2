"""Events: kept with numbers, read again after a crash, and followed over lines that break."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.network_runs import membership

from federation.channel import UnreachedError
from federation.runs.admission import Admission
from federation.runs.event import (
    EVENT_BYTES_MAX,
    Answer,
    Event,
    Finished,
    Interrupted,
    Note,
    Registered,
    Step,
    Stopped,
    Told,
    parse_event,
)
from federation.runs.event_log import FILE, EventLog, read_events
from federation.runs.follow import FIRST_WAIT_S, LONGEST_WAIT_S, follow
from federation.runs.pages import event_line
from privacy.errors import InputError, NotVerifiedError, RefusedError

END = Finished(
    model="00" * 32,
    architecture="00" * 32,
    values=1,
    bytes_up=1,
    bytes_down=1,
    bytes_total=1,
    undone=0,
    absences={"Mill": 0},
    seconds=1.5,
)


def log(folder: Path) -> EventLog:
    return EventLog(folder, now_ms=lambda: 5)


def events(found: list[Told]) -> list[Event]:
    return [one.event for one in found]


def test_an_event_is_read_as_it_was_written() -> None:
    for event in (Step(name="é"), Note(sentence="s"), END, Stopped(reason="r")):
        told = Told(number=3, time_ms=5, event=event)
        assert parse_event(told.to_bytes()) == told
        assert event_line(told)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"number":0,"time_ms":0,"event":{"type":"coffee"}}',
        b'{"number":-1,"time_ms":0,"event":{"type":"note","sentence":"x"}}',
        b'{"number":0,"time_ms":0,"event":{"type":"note","sentence":"x","more":1}}',
        b'{"number":0,"time_ms":0,"event":{"type":"note","sentence":"' + b"x" * EVENT_BYTES_MAX,
        b"[" * 5000,
    ],
)
def test_what_is_no_event_is_refused(data: bytes) -> None:
    with pytest.raises(NotVerifiedError, match="update tacit"):
        parse_event(data)


def test_a_log_goes_on_where_a_crash_cut_it_off(tmp_path: Path) -> None:
    first = log(tmp_path)
    first.tell(Step(name="a"))
    first.tell(Step(name="b"))
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"number":2,"time_ms":5,"ev')
    assert events(read_events(tmp_path)) == [Step(name="a"), Step(name="b")]
    again = log(tmp_path)
    again.tell(Step(name="c"))
    assert [one.number for one in read_events(tmp_path)] == [0, 1, 2]
    assert events(log(tmp_path).since(1, wait_s=0)) == [Step(name="b"), Step(name="c")]


def test_a_log_that_cannot_be_written_tells_nobody(tmp_path: Path) -> None:
    kept = log(tmp_path)
    (tmp_path / FILE).mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        kept.tell(Step(name="a"))
    assert kept.since(0, wait_s=0) == []


@pytest.mark.parametrize("fault", ["half of it", "no word for it", "it stays"])
def test_an_event_that_the_disk_refused_is_told_to_nobody_and_takes_none_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    kept = log(tmp_path)
    kept.tell(Step(name="a"))
    real, calls = os.write, list[int]()

    def half(descriptor: int, data: bytes) -> int:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[:20])

    def unsure(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        if fault == "half of it":
            patch.setattr(os, "write", half)
        else:
            patch.setattr(os, "fsync", unsure)
        with pytest.raises(InputError, match="cannot be written"):
            kept.tell(Step(name="b"))
    if fault == "it stays":
        with (tmp_path / FILE).open("ab") as file:
            file.write(Told(number=1, time_ms=5, event=Step(name="b")).to_bytes() + b"\n")
    kept.tell(Step(name="c"))
    kept.tell(END)
    told = kept.since(0, wait_s=0)
    assert events(told) == [Step(name="a"), Step(name="c"), END]
    # a coordinator that starts again says the same by the same numbers, and the end is there
    assert log(tmp_path).since(0, wait_s=0) == told == read_events(tmp_path)
    assert log(tmp_path).is_over


def test_who_waits_is_woken(tmp_path: Path) -> None:
    kept = log(tmp_path)
    found: list[Told] = []
    thread = threading.Thread(target=lambda: found.extend(kept.since(0, wait_s=120)))
    thread.start()
    kept.tell(Step(name="a"))
    thread.join(60)
    assert events(found) == [Step(name="a")]
    assert kept.since(1, wait_s=0.01) == []


def test_a_log_knows_whether_the_run_is_over(tmp_path: Path) -> None:
    kept = log(tmp_path)
    assert not kept.is_over
    for event, over in (
        (Interrupted(reason="r"), True),
        (Step(name="going on"), False),
        (END, True),
        (Registered(file="00" * 32, card="00" * 32), True),
    ):
        kept.tell(event)
        assert kept.is_over is over


# -- following --


class Line:
    """A coordinator whose line breaks where a test says."""

    def __init__(self, *parts: list[Event] | None) -> None:
        self.parts = list(parts)
        self.asked: list[int] = []

    def watch(self, run: str, start: int) -> Iterator[Told]:
        assert run == "a-run"
        self.asked.append(start)
        part = self.parts.pop(0)
        if part is None:
            raise UnreachedError("gone")
        for number, event in enumerate(part, start):
            yield Told(number=number, time_ms=0, event=event)
        if self.parts and self.parts[0] is None and part:
            self.parts.pop(0)
            raise UnreachedError("gone in the middle")


def followed(line: Line) -> tuple[list[Event], list[float], list[str]]:
    waits: list[float] = []
    lost: list[str] = []
    found = follow(line, "a-run", lost=lost.append, pause=waits.append)
    return [told.event for told in found], waits, lost


def test_a_line_that_breaks_is_taken_up_where_it_broke() -> None:
    line = Line([Step(name="a"), Step(name="b")], None, None, None, [Step(name="c")], [END])
    found, waits, lost = followed(line)
    assert found == [Step(name="a"), Step(name="b"), Step(name="c"), END]
    assert line.asked == [0, 2, 2, 2, 3]
    assert lost == ["gone in the middle"]
    assert waits[:3] == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S]


def test_waits_grow_to_a_bound_and_begin_anew() -> None:
    line = Line(*[None] * 10, [Step(name="a")], None, [END])
    _, waits, lost = followed(line)
    assert max(waits) == LONGEST_WAIT_S
    assert lost == ["gone", "gone in the middle"]
    assert waits[-1] == FIRST_WAIT_S


def test_a_run_that_was_gone_on_with_is_watched_past_its_interruption() -> None:
    line = Line([Interrupted(reason="r"), Step(name="going on")], [END])
    assert followed(line)[0][-1] == END
    assert followed(Line([Interrupted(reason="r")]))[0] == [Interrupted(reason="r")]
    after: list[Event] = [END, Registered(file="00" * 32, card="00" * 32)]
    assert followed(Line(list(after)))[0] == after


def test_what_the_coordinator_refuses_ends_the_watch() -> None:
    class Closed:
        def watch(self, run: str, start: int) -> Iterator[Told]:
            raise RefusedError(f"no {run} from {start}")

    with pytest.raises(RefusedError, match="no a-run from 0"):
        list(follow(Closed(), "a-run", lost=lambda _: None))


# -- admission --


class Gate:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.refuses = ""

    def admit(self, name: str, certificate_pem: bytes) -> None:
        if name == self.refuses:
            raise RefusedError(f"the key of {name} was expelled")
        self.told.append((name, certificate_pem.decode()))

    def expel(self, name: str) -> None:
        self.told.append((name, "out"))


def test_nodes_of_members_are_let_in_and_out_as_the_ledger_says() -> None:
    gate = Gate()
    people = membership()
    held = dict.fromkeys(("Bank", "Forge", "Mill", "Operator", "Regulator"), b"1")
    admission = Admission(gate, membership=lambda: people, certificates=lambda: held)
    admission.look()
    admission.look()
    assert gate.told == [("Bank", "1"), ("Forge", "1"), ("Mill", "1")]
    gate.told.clear()
    held["Mill"] = b"2"
    people = membership(Bank=True)
    admission.look()
    assert gate.told == [("Bank", "out"), ("Mill", "2")]


def test_one_members_fault_keeps_nobody_else_out() -> None:
    gate = Gate()
    gate.refuses = "Bank"
    held = {"Bank": b"1", "Mill": b"1"}
    admission = Admission(gate, membership=membership, certificates=lambda: held)
    with pytest.raises(RefusedError, match="Bank was expelled"):
        admission.look()
    assert gate.told == [("Mill", "1")]
    gate.refuses = ""
    admission.look()
    assert gate.told == [("Mill", "1"), ("Bank", "1")]


@pytest.mark.parametrize(
    "event",
    [
        Step(name="\x1b]0;x\x07"),
        Answer(member="m\x1b[2J", answer="pending", reason=""),
        Answer(member="m", answer="refused", reason="a\nb"),
        Note(sentence="\u202e"),
        Stopped(reason="\x9b"),
    ],
)
def test_words_that_could_steer_a_terminal_are_no_event(event: Event) -> None:
    with pytest.raises(NotVerifiedError, match="cannot be read"):
        parse_event(Told(number=0, time_ms=0, event=event).to_bytes())
