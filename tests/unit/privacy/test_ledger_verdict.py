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


ROUND = (opened(), receipt(), committed())
RUN = (started(), *ROUND, finished())


def test_the_empty_ledger_holds() -> None:
    verdict = verify_ledger(b"", heads=[LedgerHead(0, EMPTY_ROOT)])
    assert verdict == Verdict(0, EMPTY_ROOT, 0, 0, 0, (), ())


def test_a_whole_run_is_counted() -> None:
    data, entries = ledger(
        started(),
        opened(0, "statistics"),
        receipt(0, "statistics"),
        opened(1, "statistics"),
        receipt(1, "statistics"),
        *ROUND,
        opened(1, "evaluate"),
        receipt(1, "evaluate"),
        opened(2),
        receipt(2),
        committed(2),
        finished(2),
        started("s"),
    )
    verdict = verify_ledger(data)
    assert verdict == Verdict(
        leaves=15,
        root=entries[-1].digest,
        runs=2,
        rounds=2,
        receipts=5,
        unfinished=("s",),
        without_receipt=(),
    )


def test_a_run_that_broke_off_before_a_receipt_is_named() -> None:
    for lines in ((started(), opened()), (started(), opened(), stopped())):
        assert verify_ledger(ledger(*lines)[0]).without_receipt == ("r",)


BROKEN: dict[str, tuple[Line, ...]] = {
    "never started": ROUND,
    "was started before": (*RUN, started()),
    "had ended": (*RUN, opened(2)),
    "had ended ": (started(), stopped(), stopped()),
    "rounds were committed": (started(), opened(2)),
    "rounds were committed ": (*RUN[:-1], opened(2), receipt(2), committed(2), opened(1, "late")),
    "was opened before": (started(), opened(), receipt(), opened()),
    "members that the run has not": (started(), opened(members=["a", "b", "spy"])),
    "belongs to no sum": (started(), receipt()),
    "belongs to no sum ": (started(), opened(), receipt(), receipt()),
    "belongs to no sum  ": (started(), opened(), receipt(step="other")),
    "other members than its sum": (started(), opened(), receipt(members=["a", "b"])),
    "another protection": (started(), opened(), receipt(protection="clear")),
    "follows on round": (started(), opened(), receipt(), committed(2)),
    "follows on round ": (*RUN[:-1], opened(2), receipt(2), committed(1)),
    "has no receipt": (started(), opened(), committed()),
    "has no receipt ": (*RUN[:-1], opened(1, "evaluate"), finished()),
    "opened no sum": (*RUN[:-1], committed(2)),
    "opened no sum ": (started(), opened(0, "statistics"), receipt(0, "statistics"), committed()),
    "another model": (*RUN[:-1], opened(2), receipt(2), committed(2, model_before=model(7))),
    "another round": (*RUN[:-1], finished(2)),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_a_run_against_the_grammar_is_refused_at_its_entry(sentence: str) -> None:
    lines = BROKEN[sentence]
    data, _ = ledger(*lines)
    at = 0 if sentence == "never started" else len(lines) - 1
    with pytest.raises(
        NotVerifiedError, match=rf"^step 5 \(runs\), entry {at}: .*{sentence.strip()}"
    ):
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
