"""What was refused, counted by a class of reasons; reasons themselves stay in the log."""

import logging
import threading
from collections import Counter
from typing import Final

import grpc

from federation.operations.metric import Metric, labelled
from privacy.errors import (
    BudgetError,
    CohortError,
    DataError,
    InputError,
    NotVerifiedError,
    ProtocolError,
    TacitError,
)

_CLASSES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (BudgetError, "budget"),
    (DataError, "data"),
    (CohortError, "cohort"),
    (NotVerifiedError, "not_verified"),
    (ProtocolError, "protocol"),
    (InputError, "input"),
    (TacitError, "policy"),
)
_CODES: Final = frozenset(code.name for code in grpc.StatusCode)
_BEGINS: Final = "refused"


def refusal_class(error: BaseException) -> str:
    """Return one of few words; `failed` is of no refusal of ours."""
    return next((name for kind, name in _CLASSES if isinstance(error, kind)), "failed")


class Refusals(logging.Handler):
    """Counts as it listens to the log: of nodes ("refused: ..."), and of the registry's guard.

    A logger that is given it keeps its own handlers.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._counts: Counter[str] = Counter()
        self._mutex = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Count a line that says that something was refused, or that something failed."""
        if record.exc_info and record.exc_info[1] is not None:
            self.count("failed")
        elif isinstance(record.msg, str) and record.msg.startswith(_BEGINS):
            last = record.args[-1] if isinstance(record.args, tuple) and record.args else None
            self.count(_class_of(last))

    def count(self, name: str) -> None:
        """Count one of this class."""
        with self._mutex:
            self._counts[name] += 1

    def counts(self) -> dict[str, int]:
        """Return how many there were of each class."""
        with self._mutex:
            return dict(self._counts)

    def metric(self) -> Metric:
        """Return the figure."""
        return labelled(
            "tacit_refusals_total",
            "What was refused since the start, by class of the reason.",
            "counter",
            "reason",
            dict(sorted(self.counts().items())),
        )


def _class_of(last: object) -> str:
    if isinstance(last, BaseException):
        return refusal_class(last)
    if isinstance(last, str) and last in _CODES:
        return last.lower()
    return "other"
