"""How long a piece of work takes by itself. For tests only."""

import gc
from collections.abc import Callable
from time import thread_time


def own_time_s(work: Callable[[], object]) -> float:
    """Processor time of this thread, without other threads and without Python's collector."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        start = thread_time()
        work()
        return thread_time() - start
    finally:
        if was_on:
            gc.enable()
