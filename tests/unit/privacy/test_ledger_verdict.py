import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from privacy.errors import NotVerifiedError
from privacy.ledger import EMPTY_ROOT, Entry, LedgerHead, next_entry
from privacy.verify import Verdict, verify_ledger

Line: TypeAlias = tuple[str, dict[str, object]]
ROOT = Path(__file__).parents[3]


def model(number: int) -> str:
    return f"{number:064x}"


def started(run: str = "r", **changes: object) -> Line:
    body: dict[str, object] = {
        "run": run,
        "name": "demo",
        "task": "credit",
        "members": ["a", "b", "c"],
        "manifest": model(99),
        "protection": "masked",
    }
    return "run.started", {**body, **changes}


def opened(number: int = 1, step: str = "update", **changes: object) -> Line:
    body: dict[str, object] = {
        "run": "r",
        "step": step,
        "round": number,
        "context": model(98),
        "members": ["a", "b", "c"],
        "aggregate": model(97),
    }
    return "sum.opened", {**body, **changes}


def receipt(number: int = 1, step: str = "update", **changes: object) -> Line:
    body: dict[str, object] = {
        "run": "r",
        "step": step,
        "round": number,
        "unit": "borrower",
        "mechanism": "none",
        "protection": "masked",
        "values": 3,
        "members": ["a", "b", "c"],
    }
    return "receipt", {**body, **changes}


def committed(number: int = 1, **changes: object) -> Line:
    body: dict[str, object] = {
        "run": "r",
        "round": number,
        "model_before": model(number - 1),
        "model_after": model(number),
    }
    return "round.committed", {**body, **changes}


def finished(rounds: int = 1) -> Line:
    return "run.finished", {"run": "r", "rounds": rounds, "model": model(rounds)}


def stopped(run: str = "r") -> Line:
    return "run.stopped", {"run": run, "reason": "by hand"}


def ledger(*lines: Line) -> tuple[bytes, list[Entry]]:
    entries: list[Entry] = []
    for kind, body in lines:
        last = entries[-1] if entries else None
        entries.append(next_entry(last, kind, body, time_ms=1))
    return b"".join(entry.line() for entry in entries), entries


def release(number: int = 1, step: str = "update", **changes: object) -> tuple[Line, Line]:
    return opened(number, step, **changes), receipt(number, step, **changes)


def trained(number: int) -> tuple[Line, ...]:
    return (*release(number), committed(number))


ROUND = trained(1)
RUN = (started(), *ROUND, finished())
TWO_ROUNDS = (
    started(),
    *release(0, "statistics"),
    *release(1, "statistics"),
    *trained(1),
    *release(1, "evaluate watch"),
    *trained(2),
    *release(2, "evaluate watch"),
    *release(2, "evaluate test"),
    *release(2, "evaluate personal"),
    finished(2),
)


def test_the_empty_ledger_holds() -> None:
    verdict = verify_ledger(b"", heads=[LedgerHead(0, EMPTY_ROOT)])
    assert verdict == Verdict(0, EMPTY_ROOT, 0, 0, 0, (), ())


def test_a_whole_run_is_counted() -> None:
    data, entries = ledger(*TWO_ROUNDS, started("s"))
    assert verify_ledger(data) == Verdict(
        leaves=21,
        root=entries[-1].digest,
        runs=2,
        rounds=2,
        receipts=8,
        unfinished=("s",),
        without_receipt=(),
    )


def of_run(run: str, lines: tuple[Line, ...]) -> list[Line]:
    return [(kind, {**body, "run": run}) for kind, body in lines]


def test_runs_may_follow_each_other_or_be_interleaved() -> None:
    first, second = of_run("p", TWO_ROUNDS), of_run("q", TWO_ROUNDS)
    third = [*of_run("r", TWO_ROUNDS[:8]), stopped("r")]
    mixed = [line for lines in zip(first, second, strict=True) for line in lines]
    for lines in ([*first, *second, *third], [*mixed[:7], *third, *mixed[7:]]):
        verdict = verify_ledger(ledger(*lines)[0])
        assert (verdict.runs, verdict.rounds, verdict.receipts) == (3, 5, 19)
        assert verdict.unfinished == verdict.without_receipt == ()


@pytest.mark.parametrize("length", range(1, len(TWO_ROUNDS)))
def test_a_run_may_be_stopped_or_killed_at_any_entry(length: int) -> None:
    lines = TWO_ROUNDS[:length]
    waiting = ("r",) if lines[-1][0] == "sum.opened" else ()
    killed = verify_ledger(ledger(*lines)[0])
    assert (killed.unfinished, killed.without_receipt) == (("r",), waiting)
    ended = verify_ledger(ledger(*lines, stopped())[0])
    assert (ended.unfinished, ended.without_receipt) == ((), waiting)
    assert ended.receipts == sum(kind == "receipt" for kind, _ in lines)


PAIR = ["a", "b"]
BROKEN: list[tuple[str, tuple[Line, ...]]] = [
    ("never started", ROUND),
    ("was started before", (*RUN, started())),
    ("was started before", (*RUN[:-1], stopped(), started())),
    ("had ended", (*RUN, opened(2))),
    ("had ended", (started(), stopped(), stopped())),
    ("had ended", (started(), opened(), stopped(), receipt())),
    ("out of place", (started(), opened(2))),
    ("out of place", (started(), opened(0))),
    ("out of place", (started(), opened(1, "statistics"))),
    ("out of place", (*RUN[:-1], opened(0, "statistics"))),
    ("out of place", (started(), *release(), opened(0, "statistics"))),
    ("out of place", (started(), opened(1, "evaluate watch"))),
    ("out of place", (*RUN[:-1], *trained(2), opened(1, "evaluate watch"))),
    ("out of place", (*RUN[:-1], *release(2), opened(1, "evaluate test"))),
    ("was opened before", (started(), *release(), opened())),
    ("was opened before", (*RUN[:-1], *release(1, "evaluate test"), opened(1, "evaluate test"))),
    ("members that the run has not", (started(), opened(members=["a", "b", "spy"]))),
    ("one member", (started(), opened(members=["a"]))),
    (
        "not the members of the first",
        (
            started(),
            *release(0, "statistics"),
            opened(members=PAIR),
        ),
    ),
    ("belongs to no sum", (started(), receipt())),
    ("belongs to no sum", (started(), *release(), receipt())),
    ("belongs to no sum", (started(), opened(), receipt(1, "evaluate test"))),
    ("belongs to no sum", (started(), opened(), receipt(2))),
    ("other members than its sum", (started(), opened(), receipt(members=PAIR))),
    ("other members than its sum", (started(), opened(members=PAIR), receipt())),
    ("another protection", (started(), opened(), receipt(protection="clear"))),
    ("follows on round", (started(), *release(), committed(2))),
    ("follows on round", (*RUN[:-1], *release(2), committed(1))),
    ("has no receipt", (started(), opened(), committed())),
    ("has no receipt", (*RUN[:-1], opened(1, "evaluate test"), finished())),
    ("has no receipt", (started(), opened(0, "statistics"), opened(1, "statistics"))),
    ("opened no sum", (*RUN[:-1], committed(2))),
    ("opened no sum", (started(), *release(0, "statistics"), committed())),
    (
        "opened no sum",
        (
            started(),
            *release(0, "statistics"),
            *release(1, "statistics"),
            committed(),
        ),
    ),
    ("another model", (*RUN[:-1], *release(2), committed(2, model_before=model(7)))),
    ("another round", (*RUN[:-1], finished(2))),
    ("not committed", (*RUN[:-1], *release(2), finished(1))),
]


@pytest.mark.parametrize(("sentence", "lines"), BROKEN)
def test_a_run_against_the_grammar_is_refused_at_its_entry(
    sentence: str, lines: tuple[Line, ...]
) -> None:
    data, _ = ledger(*lines)
    at = 0 if sentence == "never started" else len(lines) - 1
    with pytest.raises(NotVerifiedError, match=rf"^step 5 \(runs\), entry {at}: .*{sentence}"):
        verify_ledger(data)
    if at:
        verify_ledger(ledger(*lines[:-1])[0])  # it is the last entry that breaks it


@pytest.mark.parametrize(
    ("change", "step"),
    [
        (lambda data: data[:-1], "step 1"),
        (lambda data: data + b"{", "step 1"),
        (lambda data: b"\n" + data, "steps 2 and 3 .*entry 0"),
        (lambda data: data.replace(b'"body":', b'"body": ', 1), "steps 2 and 3 .*entry 0"),
        (lambda data: data.replace(b"\n", b"\r\n"), "steps 2 and 3 .*entry 0"),
        (lambda data: data.replace(b"receipt", b"receipz"), "steps 2 and 3 .*entry 2"),
        (lambda data: data.replace(b'"values":3', b'"values":4'), "steps 2 and 3 .*entry 2"),
        (lambda data: data[data.index(b"\n") + 1 :], "step 4 .*entry 0"),
        (lambda data: data + data[: data.index(b"\n") + 1], "step 4 .*entry 5"),
    ],
)
def test_the_step_that_fails_is_named(change: Callable[[bytes], bytes], step: str) -> None:
    data, _ = ledger(*RUN)
    verify_ledger(data)
    with pytest.raises(NotVerifiedError, match=f"^{step}"):
        verify_ledger(change(data))


def test_heads_must_be_found_at_their_size() -> None:
    data, entries = ledger(*RUN)
    heads = [LedgerHead(entry.index + 1, entry.digest) for entry in entries]
    verify_ledger(data, heads=heads)
    for head in (
        LedgerHead(6, entries[-1].digest),
        LedgerHead(5, entries[0].digest),
        LedgerHead(0, entries[0].digest),
        LedgerHead(-1, entries[-2].digest),
    ):
        with pytest.raises(NotVerifiedError, match="step 6"):
            verify_ledger(data, heads=[*heads, head])


def test_a_regulator_needs_the_standard_library_alone() -> None:
    script = (
        "import sys, privacy.verify\n"
        "heavy = {'numpy', 'msgspec', 'filelock', 'cryptography', 'torch', 'pydantic'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
