"""The log: one line an event, for people or for programs, without any data.

A line holds the time, a level, who speaks, a sentence and its fields. What keeps data out:
    1. Of an error that is not one of ours only the kind is told, and where it arose: file, line and
       function. Its own sentence may quote a value; no variable and no source text is shown.
    2. What a sentence is filled in with is a text, a number, a path, a time or one of our errors.
       Of anything else (a table, an array, bytes) only the type is told.
    3. Of other packages only warnings are told, and only who warns and where, not the words: they
       were put together by code that does not know what is secret.
    4. Control characters, line ends among them, become a sign that shows; long texts are cut.
Our own sentences name files, columns and members, never values (privacy/errors.py).
"""

import json
import logging
import math
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from traceback import extract_tb
from types import TracebackType
from typing import Any, Final, Literal, TextIO

from privacy.errors import TacitError

Form = Literal["text", "json"]
CHARACTERS_MAX: Final = 2000
FRAMES_MAX: Final = 12
_OURS: Final = ("tacit", "federation", "clients", "aggregator", "privacy")
_KNOWN: Final = (*_OURS, "uvicorn")
"""Whose words are shown; uvicorn's are constant and filled in with addresses."""
_QUIET: Final[Mapping[str, int]] = {
    "uvicorn": logging.WARNING,
    "uvicorn.access": logging.CRITICAL,
    "flwr": logging.ERROR,
    "httpx": logging.WARNING,
    "grpc": logging.ERROR,
}
_PLAIN = (str, int, float, bool, type(None), Path, datetime)
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def log_to(stream: TextIO, *, form: Form = "text") -> logging.Handler:
    """Send the whole process's log to `stream`, in place of wherever it went; see the module.

    Args:
        stream: Standard error, as a rule; a service's manager keeps it.
        form: `text` for people; `json` for programs, one object a line.

    Returns:
        The handler; closing the stream is the caller's.
    """
    handler = _Lines(stream)
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    for name, level in _QUIET.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        for old in list(logger.handlers):
            logger.removeHandler(old)
    _take_from_flower(handler)
    logging.captureWarnings(capture=True)
    threading.excepthook = _of_thread
    return handler


def _take_from_flower(handler: logging.Handler) -> None:
    """Keep Flower's own console still; it is added when Flower is imported, and that may be later.

    A logger's filter is asked before its handlers, so this one passes errors on and lets none by.
    """

    def divert(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            handler.handle(record)
        return False

    logger = logging.getLogger("flwr")
    for old in list(logger.filters):
        if getattr(old, "__name__", "") == divert.__name__:
            logger.removeFilter(old)
    logger.addFilter(divert)


def _of_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        logging.getLogger("federation").error(
            "a thread failed", exc_info=(args.exc_type, args.exc_value, args.exc_traceback)
        )


class _Lines(logging.StreamHandler[TextIO]):
    """A handler that never shows what it could not write."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Say that a line is missing; the library's own answer would print its parts."""
        with suppress(OSError, ValueError):
            self.stream.write(f"a line of {_shown(record.name)} could not be written\n")


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = facts_of(record)
        fields = "".join(f" {name}={_word(value)}" for name, value in facts["fields"].items())
        head = f"{facts['time']} {facts['level']} {facts['logger']}"
        return f"{head} {facts['message']}{fields}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(facts_of(record), allow_nan=False)


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a line says: time, level, logger, message, fields."""
    at = datetime.fromtimestamp(record.created, UTC)
    known = record.name.split(".", 1)[0] in _KNOWN
    fields = {
        _shown(name): _field(value)
        for name, value in record.__dict__.items()
        if known and name not in _STANDARD
    }
    if record.exc_info and record.exc_info[1] is not None:
        _, error, trace = record.exc_info
        fields["error"] = _shown(_safe(error))
        fields["at"] = _places(trace)
    if not known:
        fields["at"] = fields.get("at") or f"{Path(record.pathname).name}:{record.lineno}"
    return {
        "time": at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z",
        "level": record.levelname.lower(),
        "logger": _shown(record.name),
        "message": _message(record) if known else "warned; its words are not shown",
        "fields": fields,
    }


def _message(record: logging.LogRecord) -> str:
    template = str(_safe(record.msg))
    args = record.args
    if not args:
        return _shown(template)
    try:
        if isinstance(args, Mapping) and "%(" not in template:
            return _shown(template % _safe(args))
        if isinstance(args, Mapping):
            return _shown(template % {name: _safe(value) for name, value in args.items()})
        return _shown(template % tuple(_safe(value) for value in args))
    except (TypeError, ValueError, KeyError):
        return _shown(template)


def _safe(value: object) -> Any:  # noqa: ANN401 - numbers stay numbers, for %d
    """What may be shown of a value; rules 1 and 2."""
    if isinstance(value, TacitError):
        return str(value)
    if isinstance(value, BaseException):
        return type(value).__name__
    # a subclass may show itself as it likes
    if type(value) in _PLAIN or isinstance(value, Path):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    return f"<{type(value).__name__}>"


def _field(value: object) -> Any:  # noqa: ANN401 - what JSON can hold
    safe = _safe(value)
    if safe is None or isinstance(safe, bool | int):
        return safe
    return safe if isinstance(safe, float) and math.isfinite(safe) else _shown(safe)


def _places(trace: TracebackType | None) -> str:
    frames = extract_tb(trace)[-FRAMES_MAX:]
    return " > ".join(_shown(f"{Path(f.filename).name}:{f.lineno} {f.name}") for f in frames)


def _word(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or '"' in text else text


def _shown(value: object) -> str:
    text = str(value)
    if len(text) > CHARACTERS_MAX:
        text = text[:CHARACTERS_MAX] + "…"
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
