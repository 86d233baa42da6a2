"""Watch a run to its end, over any number of connections: who loses the line asks from there on."""

import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from federation.channel import UnreachedError
from federation.runs.event import ENDS, Registered, Told

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 15.0
_BREATH_S: Final = 0.1


class Watched(Protocol):
    """What can be asked for events; `RunsClient` is one."""

    def watch(self, run: str, start: int) -> Iterator[Told]:
        """Yield what happened from a number on; end after a while, or raise `UnreachedError`."""
        ...


def follow(
    client: Watched,
    run: str,
    *,
    start: int = 0,
    lost: Callable[[str], None],
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Told]:
    """Yield every event of a run from a number on, once and in order, until the run ends.

    It ends with the run: finished, stopped or interrupted. While the coordinator does not answer,
    it asks again, each time after a longer wait of at most 15 seconds, for ever.

    Args:
        client: Whom to ask.
        run: The run.
        start: The number of the first event.
        lost: Told once, in a sentence, each time that the line is lost.
        pause: Waits so many seconds.

    Raises:
        TacitError: The coordinator says no, or what it says is no answer.
    """
    at, wait_s = start, FIRST_WAIT_S
    is_over = False
    while True:
        try:
            for told in client.watch(run, at):
                at, wait_s = told.number + 1, FIRST_WAIT_S
                if not isinstance(told.event, Registered):
                    is_over = isinstance(told.event, ENDS)
                yield told
        except UnreachedError as failure:
            if wait_s == FIRST_WAIT_S:
                lost(str(failure))
            pause(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        else:
            if is_over:
                return
            # whoever watches too many runs takes turns
            pause(_BREATH_S)
