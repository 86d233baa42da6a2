"""The log holds no value of a row, no variable, no control character, whatever is thrown at it."""

import json
import logging
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import tables

from clients.contract import load_contract
from clients.members import read_members
from federation.operations.logs import CHARACTERS_MAX, Form, log_to
from federation.operations.refusals import Refusals, refusal_class
from privacy.errors import (
    BudgetError,
    CohortError,
    DataError,
    InputError,
    NotVerifiedError,
    ProtocolError,
    RefusedError,
    TacitError,
)

CANARY = "canary-7f3e"
NUMBER = 271828.182845


def fails_with(error: Exception, cause: Exception | None = None) -> None:
    raise error from cause


@dataclass
class Log:
    stream: StringIO
    handler: logging.Handler
    form: Form = "json"

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture(params=["json", "text"])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    names = [None, "tacit", "federation", "clients", "aggregator", "privacy", "uvicorn"]
    names += ["uvicorn.access", "flwr", "httpx", "grpc"]
    loggers = [logging.getLogger(name) for name in names]
    before = [(list(one.handlers), list(one.filters), one.level, one.propagate) for one in loggers]
    hook = threading.excepthook
    stream = StringIO()
    found = Log(stream, log_to(stream, form=request.param), request.param)
    try:
        yield found
    finally:
        found.handler.close()
        threading.excepthook = hook
        logging.captureWarnings(capture=False)
        for one, (handlers, filters, level, propagate) in zip(loggers, before, strict=True):
            one.handlers[:], one.filters[:] = handlers, filters
            one.setLevel(level)
            one.propagate = propagate


def test_a_line_holds_time_level_logger_message_and_fields(log: Log) -> None:
    logging.getLogger("tacit.node.ash").info("round %d: %s", 3, "sent", extra={"run": "r 1"})
    if log.form == "json":
        (line,) = log.lines()
        assert set(line) == {"time", "level", "logger", "message", "fields"}
        assert line["level"] == "info"
        assert line["logger"] == "tacit.node.ash"
        assert line["message"] == "round 3: sent"
        assert line["fields"] == {"run": "r 1"}
        assert str(line["time"]).endswith("Z")
    else:
        assert log.text.endswith(' info tacit.node.ash round 3: sent run="r 1"\n')


def test_of_a_foreign_error_only_kind_and_place_are_told(log: Log) -> None:
    secret_of_a_row = CANARY

    def fails() -> None:
        local = secret_of_a_row * 2
        float(local)

    try:
        fails()
    except ValueError as error:
        logging.getLogger("tacit.node.ash").exception("failed")
        logging.getLogger("tacit.node.ash").warning("refused: %s", error)
        logging.getLogger("tacit.node.ash").exception("refused", extra={"why": error})
        try:
            fails_with(RuntimeError(CANARY), error)
        except RuntimeError:
            logging.getLogger("federation.runs").exception("failed %s", "again")
    assert CANARY not in log.text
    assert "ValueError" in log.text
    assert "test_operations_logs.py" in log.text
    assert "fails" in log.text
    assert len(log.text.splitlines()) == 4


def test_our_own_sentences_are_told(log: Log) -> None:
    try:
        fails_with(RefusedError("the launcher is not one of ours; add it to the policy"))
    except RefusedError as error:
        logging.getLogger("tacit.node.ash").info("refused: %s", error)
        logging.getLogger("tacit.node.ash").exception("failed")
    assert log.text.count("add it to the policy") == 2


def test_of_a_table_only_the_type_is_told(log: Log) -> None:
    frame = pd.DataFrame({"amount": [NUMBER], "name": [CANARY]})
    node = logging.getLogger("tacit.node.ash")
    for value in (frame, frame["name"], np.array([NUMBER]), np.float64(NUMBER), [CANARY]):
        node.info("read %s", value)
        node.info("read", extra={"rows": value})
    node.info("read %s", {"name": CANARY})
    node.info("%(a)s", {"a": frame})
    node.info(frame)
    node.info("read %s", CANARY.encode())
    # a sentence that is filled in wrongly; the test runner's own handler would not bear it
    wrong = {"name": "tacit.node.ash", "msg": "read %d", "args": (frame,)}
    log.handler.handle(logging.makeLogRecord(wrong))
    assert CANARY not in log.text
    assert "271828" not in log.text
    assert "DataFrame" in log.text


def test_of_other_packages_no_word_is_told(log: Log) -> None:
    logging.getLogger("pandas.core").warning("bad value '%s'", CANARY)
    logging.getLogger("anything").error("bad value " + CANARY, extra={"x": CANARY})  # noqa: G003
    logging.getLogger("anything").info("quiet")
    flower = logging.getLogger("flwr")
    own = logging.StreamHandler(log.stream)  # Flower adds one when it is imported
    flower.addHandler(own)
    flower.warning("quiet too %s", CANARY)
    flower.error("ClientApp raised %s", CANARY)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"bad value {CANARY}", stacklevel=1)
    assert CANARY not in log.text
    assert len(log.text.splitlines()) == 4
    assert "quiet" not in log.text
    assert "test_operations_logs.py:" in log.text


def test_one_event_is_one_line_whatever_is_in_it(log: Log) -> None:
    node = logging.getLogger("tacit.node.a\nb")
    node.info("refused: %s", "a\nINFO forged\r\x1b[2J\u2028\x00 end", extra={"x\ny": "1\n2"})
    assert len(log.text.splitlines()) == 1
    assert "\x1b" not in log.text
    assert "\x00" not in log.text
    node.info("%s", "x" * (3 * CHARACTERS_MAX))
    assert len(log.text.splitlines()[1]) < 2 * CHARACTERS_MAX


def test_what_cannot_be_written_is_not_shown_another_way(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    log.stream.close()
    logging.getLogger("tacit.node.ash").error("refused: %s", CANARY)
    shown = capsys.readouterr()
    assert CANARY not in shown.err + shown.out
    log.stream = StringIO()


def test_a_thread_that_dies_shows_no_value(log: Log, capsys: pytest.CaptureFixture[str]) -> None:
    def die() -> None:
        raise ValueError(CANARY)

    thread = threading.Thread(target=die)
    thread.start()
    thread.join()
    assert CANARY not in log.text
    assert CANARY not in capsys.readouterr().err
    assert "ValueError" in log.text


def test_rows_that_break_their_contract_leave_no_value_in_the_log(log: Log, tmp_path: Path) -> None:
    changes: list[tuple[str, str | float]] = [
        ("load", CANARY),
        ("label", NUMBER),
        ("amount", "4711.4711x"),
        ("exposure", CANARY),
    ]
    for column, value in changes:
        rows = tables.table("count").astype(object)
        rows[column] = value
        where = tables.write(tmp_path / column, "count", rows=rows)
        try:
            read_members(load_contract(where.contract), where.root)
        except TacitError as fault:
            logging.getLogger("tacit.node.ash").info("refused: %s", fault)
            logging.getLogger("tacit.node.ash").exception("failed")
    assert log.text.count("refused: ") >= 3
    for value in (CANARY, "271828", "4711"):
        assert value not in log.text


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (BudgetError(""), "budget"),
        (DataError(""), "data"),
        (CohortError(""), "cohort"),
        (NotVerifiedError(""), "not_verified"),
        (ProtocolError(""), "protocol"),
        (InputError(""), "input"),
        (RefusedError(""), "policy"),
        (ValueError(""), "failed"),
    ],
)
def test_every_error_has_a_class(error: Exception, name: str) -> None:
    assert refusal_class(error) == name


def test_refusals_are_counted_from_the_log(log: Log) -> None:
    refusals = Refusals()
    node, guard = logging.getLogger("tacit.node.x"), logging.getLogger("federation.registry.guard")
    for logger in (node, guard):
        logger.addHandler(refusals)
    try:
        node.info("refused: %s", BudgetError("spent"))
        node.info("refused: %s", ProtocolError("forged"))
        node.info("refused: %s", BudgetError("spent"))
        node.info("late")
        guard.warning("refused %s to %s at %s: %s", "Act", "u", "p", "PERMISSION_DENIED")
        guard.warning("refused %s to %s at %s: %s", "Act", "u", "p", CANARY)
        try:
            fails_with(ValueError(CANARY))
        except ValueError:
            node.exception("failed")
    finally:
        for logger in (node, guard):
            logger.removeHandler(refusals)
    assert refusals.counts() == {
        "budget": 2,
        "protocol": 1,
        "permission_denied": 1,
        "other": 1,
        "failed": 1,
    }
    assert {one.labels["reason"] for one in refusals.metric().samples} == set(refusals.counts())
    assert log.text
