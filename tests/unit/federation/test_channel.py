"""Who does not answer at once is asked again; who says no is not."""

import grpc
import pytest

from federation.channel import AGAIN_S, UnreachedError, patiently
from federation.proto import members_pb2 as wire
from privacy.errors import RefusedError, TacitError


class Fault(grpc.RpcError):
    """What gRPC raises of a call."""

    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


class Line:
    """A call that goes wrong as it is told, and then answers."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = list(faults)
        self.asked = 0
        self.waited: list[float] = []

    def call(self, request: wire.MeRequest, *, timeout: float) -> str:
        assert request == wire.MeRequest()
        assert timeout == 7
        self.asked += 1
        if self.faults:
            raise self.faults.pop(0)
        return "answer"

    def ask(self) -> str:
        found = patiently(
            self.call, wire.MeRequest(), where="there", deadline_s=7, pause=self.waited.append
        )
        return str(found)


AWAY = grpc.StatusCode.UNAVAILABLE


def test_who_is_busy_for_a_moment_is_asked_again() -> None:
    line = Line(*[Fault(AWAY)] * len(AGAIN_S))
    assert line.ask() == "answer"
    assert line.waited == list(AGAIN_S)


def test_who_does_not_come_back_is_given_up() -> None:
    line = Line(*[Fault(AWAY)] * 9)
    with pytest.raises(UnreachedError, match="there does not answer"):
        line.ask()
    assert line.asked == 1 + len(AGAIN_S)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(grpc.StatusCode.PERMISSION_DENIED, "no"), RefusedError),
        (Fault(grpc.StatusCode.UNAUTHENTICATED, "who"), RefusedError),
        (Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "wait"), UnreachedError),
        # it may have been done, or be under way
        (Fault(grpc.StatusCode.DEADLINE_EXCEEDED), UnreachedError),
        (Fault(AWAY, "Tls handshake failed"), RefusedError),
    ],
)
def test_an_answer_is_an_answer(fault: Fault, kind: type[TacitError]) -> None:
    line = Line(fault)
    with pytest.raises(kind) as found:
        line.ask()
    assert isinstance(found.value, UnreachedError) == (kind is UnreachedError)
    assert (line.asked, line.waited) == (1, [])
