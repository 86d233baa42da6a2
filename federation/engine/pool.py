"""Ending a process pool at once, also in the middle of a task."""

from concurrent.futures import ProcessPoolExecutor


def end(pool: ProcessPoolExecutor) -> None:
    """End every worker; what was under way or waiting is lost.

    The workers are ended first, so that the pool's own thread finds them gone, fails what waited,
    and closes its queues: a queue that nobody reads any more would hold up the end of the process.
    Waiting tasks are not cancelled before, because that thread cannot fail a cancelled one.
    """
    processes = list((pool._processes or {}).values())  # noqa: SLF001 - there is no public way
    for process in processes:
        process.terminate()
    pool.shutdown(wait=False)
