"""The one message of a call, taken once it is known that the call may be made.

gRPC gives a call a thread before its message came, and waits for that for ever. Here it is waited
for a moment. On the wire a method of one message looks like any other.
"""

import threading
from collections.abc import Iterator
from typing import Final, TypeVar

import grpc

from federation.registry.refusal import CallRefusedError, invalid

MESSAGE_S: Final = 5.0
_Message = TypeVar("_Message")


def first_message(
    messages: Iterator[_Message], context: grpc.ServicerContext, *, within_s: float = MESSAGE_S
) -> _Message:
    """Return the first message; what comes after it is not read.

    Args:
        messages: gRPC's, of a handler for a stream of requests.
        context: Of the call; it is cancelled where no message comes.
        within_s: How long it is waited for.

    Raises:
        CallRefusedError: None came.
    """
    late = threading.Event()

    def give_up() -> None:
        late.set()
        context.cancel()

    timer = threading.Timer(within_s, give_up)
    timer.daemon = True
    timer.start()
    try:
        return next(messages)
    except StopIteration:
        raise invalid("a call has one message; update your client") from None
    except grpc.RpcError:
        said = f"no message came within {within_s:.0f} seconds" if late.is_set() else "it is over"
        raise CallRefusedError(grpc.StatusCode.CANCELLED, said) from None
    finally:
        timer.cancel()
