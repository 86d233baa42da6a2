"""Points in time, as the page writes them: UTC, to the second."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc(time_ms: int) -> str:
    """Return `2026-11-27 02:44:10`; what no calendar holds stays a number of milliseconds."""
    try:
        return f"{_EPOCH + timedelta(milliseconds=time_ms):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError):
        return f"{time_ms} ms"


def iso(time_ms: int) -> str:
    """Return the same for programs: `2026-11-27T02:44:10Z`; empty where no calendar holds it."""
    try:
        return f"{_EPOCH + timedelta(milliseconds=time_ms):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError):
        return ""
