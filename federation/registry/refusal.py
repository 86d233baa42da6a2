"""How a call is refused: a status and one sentence, and nothing of what was asked for."""

from typing import Final

import grpc


class CallRefusedError(Exception):
    """Ends a call.

    Attributes:
        code: gRPC's.
        sentence: For whoever called; it names nothing that the caller may not know.
    """

    def __init__(self, code: grpc.StatusCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code: Final = code
        self.sentence: Final = sentence


def invalid(sentence: str) -> CallRefusedError:
    """The request makes no sense."""
    return CallRefusedError(grpc.StatusCode.INVALID_ARGUMENT, sentence)


def missing(sentence: str) -> CallRefusedError:
    """What it is about is not here."""
    return CallRefusedError(grpc.StatusCode.NOT_FOUND, sentence)


def denied(sentence: str) -> CallRefusedError:
    """The caller may not."""
    return CallRefusedError(grpc.StatusCode.PERMISSION_DENIED, sentence)
