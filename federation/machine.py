"""What is free of this machine."""

import shutil
from pathlib import Path
from typing import Final

from clients.policy import NodePolicy

_MIB: Final = 1 << 20


def free_mib(path: Path) -> int:
    """Return the MiB that are free on the disk of a path, or of what it will be in.

    Raises:
        OSError: The disk does not say.
    """
    there = next((one for one in (path, *path.parents) if one.exists()), path)
    return shutil.disk_usage(there).free // _MIB


def memory_mib() -> int | None:
    """Return the MiB of memory that programs can have without swapping; None where unknown."""
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) // 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def too_little(policy: NodePolicy, *, disk_mib: int, memory_mib: int | None) -> str:
    """Why there is too little for one more run, as one sentence; empty where there is enough."""
    wanted = policy.resources
    if disk_mib < wanted.disk_free_mib:
        return "This node's disk has too little room; the run waits until there is more."
    if memory_mib is not None and memory_mib < wanted.memory_mib:
        return "This node has too little free memory; the run waits until there is more."
    return ""
