"""A whole coordinator in a process that may open few files. For tests only.

    python few_files.py HOME FILES

It prints its three addresses, and answers until its standard input ends.
"""

import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from federation.collector import spare_what_is_loaded
from federation.coordinator_service import Listen, coordinating
from federation.home import Home

LOCAL = "127.0.0.1:0"


def main() -> None:
    files = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files // 2, files))
    where = Listen(door=LOCAL, registry=LOCAL, fleet=LOCAL, operations="")
    with coordinating(Home(Path(sys.argv[1])), where) as one:
        at = one.listens
        spare_what_is_loaded()
        sys.stdout.write(f"{at.door} {at.registry} {at.fleet}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
