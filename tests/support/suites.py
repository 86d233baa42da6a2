"""Runs and voices of each suite. For tests only."""

from pathlib import Path

import pytest
from support import tables
from support.direct import Direct, assemble

from clients.policy import NodePolicy
from privacy.identity import Identity
from privacy.randomness import system_bytes
from privacy.suites import SUITES
from privacy.suites.voice import SEED_BYTES, Voice


def run_of(root: Path, suite: str, policy: NodePolicy | None = None, how: str = "masked") -> Direct:
    protection = {"sum": how, **({} if suite == "intl" else {"suite": suite})}
    where = tables.write(root, "binary", config_changes={"protection": protection})
    return assemble(where.config, root, policy=policy)


def skip_without(suite: str) -> None:
    if SUITES[suite].missing():
        pytest.skip(SUITES[suite].missing())


def voice_in(suite: str, identity: Identity) -> Voice:
    one = SUITES[suite]
    return Voice(identity, one, system_bytes(SEED_BYTES) if one.signs_beside else b"")
