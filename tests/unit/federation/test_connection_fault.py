"""What a person at a node is told of a call that failed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from support.certificates import Authority

from federation.engine.connection_fault import sentence_of

FLEET = "coordinator:9444"
REQUEST = httpx.Request("POST", f"https://{FLEET}/")
OWN = Authority.create().client("bank", "one")


def refused(status: int, *, clock: timedelta = timedelta()) -> httpx.HTTPStatusError:
    date = format_datetime(datetime.now(UTC) - clock)
    response = httpx.Response(status, headers={"date": date}, request=REQUEST)
    return httpx.HTTPStatusError("", request=REQUEST, response=response)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (lambda: refused(401), "does not know this machine as a member, or no longer"),
        (lambda: refused(401, clock=timedelta(minutes=9)), "seconds ahead of the coordinator's"),
        (lambda: refused(401, clock=timedelta(minutes=-9)), "seconds behind the coordinator's"),
        (lambda: refused(409), "stop one of the two"),
        (lambda: refused(500), "failed inside (500)"),
        (lambda: refused(403), "refused the call (403)"),
        (lambda: httpx.ReadTimeout(""), "does not answer in time"),
        (lambda: httpx.ReadError(""), "certificate may be of another federation"),
        (lambda: ValueError("no message"), "broke, trying again"),
    ],
)
def test_it_is_one_sentence_with_the_address(fault: Callable[[], Exception], expected: str) -> None:
    said = sentence_of(fault(), FLEET, OWN)
    assert expected in said
    assert "\n" not in said
    assert FLEET in said or "clock" in said


def test_a_connection_that_worked_before_only_broke() -> None:
    assert "broke" in sentence_of(httpx.ReadError(""), FLEET, OWN, connected=True)


def test_whose_certificate_expired_is_told_that_whatever_failed() -> None:
    late = Authority.create().client("bank", "one", days=-1)
    for fault in (refused(401), httpx.ReadError("")):
        assert "this machine's certificate expired on" in sentence_of(fault, FLEET, late)
