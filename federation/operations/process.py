"""What a process takes of its machine."""

import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from federation.operations.metric import Metric, Sample, counter, gauge


def process_metrics(*, role: str, version: str, since_ms: int) -> Iterator[Metric]:
    """Yield who this is, since when, and its memory, time and files."""
    yield Metric(
        "tacit_info",
        "Always 1; which program answers.",
        "gauge",
        (Sample(1, {"role": role, "version": version}),),
    )
    yield gauge(
        "tacit_process_start_seconds",
        "When the process started, in seconds since 1970 UTC.",
        since_ms / 1000,
    )
    yield gauge("tacit_process_memory_bytes", "Memory that is held now.", resident_bytes())
    yield counter("tacit_process_cpu_seconds_total", "Processor time used.", time.process_time())
    files = _open_files()
    if files is not None:
        yield gauge("tacit_process_open_files", "Files and connections that are open.", files)


def resident_bytes() -> int:
    """Return the memory that is held now; where that is not told, the most there ever was."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


def _open_files() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only counted
    except OSError:
        return None
