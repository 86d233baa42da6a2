"""A coordinator that is gone at any moment, and another one that goes on with the run.

The nodes stay. The moments are every exchange with them, before it and after it, and every act that
is written: to the ledger and to the notebook, before and after.
"""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from support import tables
from support.direct import Direct, DirectTransport, assemble

from aggregator import coordinator
from aggregator.coordinator import RunResult
from aggregator.ports import Answer
from clients.policy import NodePolicy
from federation.declaration import declaration
from federation.ledger_recorder import LedgerRecorder
from federation.notebook import FolderNotebook
from privacy.errors import NotVerifiedError, RefusedError
from privacy.ledger.store import entries_of
from privacy.manifest import PROTECTIONS, SIGNING_DOMAIN
from privacy.messages import Request

ANY = NodePolicy(sums=PROTECTIONS)
FOUR = ("ash", "birch", "cedar", "elm")
TRAINING = {"rounds": 2, "batch_rows": 64, "learning_rate": 0.01}
NOISE = {"epsilon": 8.0, "delta": 1e-3, "noise": "distributed", "colluders": 1}


class Gone(BaseException):
    """The process is no more; nothing of it catches this."""


@dataclass
class Fuse:
    """Ends the coordinator at its n-th moment."""

    left: int
    moments: int = 0

    def tick(self) -> None:
        self.moments += 1
        if self.moments == self.left:
            raise Gone


@dataclass
class FusedTransport:
    inner: DirectTransport
    fuse: Fuse

    def nodes(self) -> tuple[int, ...]:
        return self.inner.nodes()

    def exchange(
        self,
        requests: Mapping[int, tuple[Request, bytes]],
        *,
        kind: str,
        deadline_s: float,
        needed: Collection[int],
        grace_s: float,
        enough: int = 0,
    ) -> Mapping[int, Answer]:
        self.fuse.tick()
        some = dict(list(requests.items())[: len(requests) // 2])
        rest = {node: one for node, one in requests.items() if node not in some}
        how: Any = {
            "kind": kind,
            "deadline_s": deadline_s,
            "needed": needed,
            "grace_s": grace_s,
            "enough": enough,
        }
        answers = dict(self.inner.exchange(some, **how))
        self.fuse.tick()  # some nodes have heard it, the others have not
        answers |= self.inner.exchange(rest, **how)
        self.fuse.tick()
        return answers


@dataclass
class FusedRecorder(LedgerRecorder):
    fuse: Fuse = field(default_factory=lambda: Fuse(0))

    def record(self, kind: str, body: Mapping[str, object]) -> None:
        self.fuse.tick()
        super().record(kind, body)
        self.fuse.tick()


@dataclass(frozen=True)
class FusedNotebook(FolderNotebook):
    fuse: Fuse = field(default_factory=lambda: Fuse(0))

    def write(self, state: bytes) -> None:
        self.fuse.tick()
        super().write(state)
        self.fuse.tick()


def federation(root: Path, **changes: object) -> Direct:
    rows = tables.table("binary", rows=400)
    rows["member"] = [FOUR[i % len(FOUR)] for i in range(len(rows))]
    where = tables.write(
        root, "binary", rows=rows, config_changes={"training": TRAINING, **changes}
    )
    return assemble(where.config, root, policy=ANY)


def attempt(direct: Direct, folder: Path, left: int) -> tuple[RunResult | None, int]:
    """One process of the coordinator; it ends at its moment `left`, or with the run."""
    fuse = Fuse(left)
    kept = direct.notes.recorder
    recorder = FusedRecorder(kept.store, kept.identity, fuse=fuse)
    try:
        result = coordinator.run(
            direct.manifest,
            direct.launcher.sign(SIGNING_DOMAIN, direct.manifest.to_bytes()),
            launcher=direct.launcher.public,
            data=declaration(direct.project.contract),
            transport=FusedTransport(direct.transport, fuse),
            ledger=recorder,
            observer=direct.notes,
            notebook=FusedNotebook(folder, fuse),
        )
    except Gone:
        return None, fuse.moments
    return result, fuse.moments


def moments(root: Path, **changes: object) -> int:
    _, count = attempt(federation(root, **changes), root / "progress", 0)
    return count


def require_whole(direct: Direct, result: RunResult) -> None:
    assert len(set(direct.models().values())) == 1
    assert set(direct.models()) == set(FOUR)
    entries = list(entries_of(direct.notes.recorder.store.leaves()))
    rounds = [one.body["round"] for one in entries if one.kind == "round.committed"]
    assert rounds == [1, 2]
    opened = [(one.body["step"], one.body["round"]) for one in entries if one.kind == "sum.opened"]
    assert len(opened) == len(set(opened))
    assert result.undone == 0
    assert direct.verdict().opened == len(opened)


@pytest.mark.slow
@pytest.mark.parametrize("protection", ["masked", "sealed"])
def test_a_run_goes_on_from_every_moment_at_which_its_coordinator_is_gone(
    tmp_path: Path, protection: str
) -> None:
    changes = {"protection": {"sum": protection}}
    count = moments(tmp_path / "count", **changes)
    assert count > 60
    # `make soak` takes every one
    step = 1 if os.environ.get("TACIT_LONG") else {"masked": 13, "sealed": 41}[protection]
    for left in range(1, count, step):
        root = tmp_path / str(left)
        direct = federation(root, **changes)
        result, _ = attempt(direct, root / "progress", left)
        assert result is None
        result, _ = attempt(direct, root / "progress", 0)
        assert result is not None
        require_whole(direct, result)


@pytest.mark.slow
def test_a_run_whose_coordinator_is_gone_again_and_again_comes_to_its_end(tmp_path: Path) -> None:
    direct = federation(tmp_path, privacy=NOISE, training={"rounds": 2})
    result: RunResult | None = None
    starts = 0
    while result is None:
        starts += 1
        # a little further each time, as a process that only starts gets nowhere
        result, _ = attempt(direct, tmp_path / "progress", 25 + 5 * starts)
        assert starts < 200
    assert starts > 3
    require_whole(direct, result)


def test_what_was_written_down_of_another_run_is_refused(tmp_path: Path) -> None:
    direct = federation(tmp_path)
    attempt(direct, tmp_path / "progress", 40)
    other = replace(direct, manifest=replace(direct.manifest, run="another"))
    with pytest.raises(NotVerifiedError, match="cannot be used"):
        attempt(other, tmp_path / "progress", 0)


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[:-1], lambda data: data + b"x", lambda _: b"", lambda _: b"\xc1"],
)
def test_what_was_written_down_and_changed_is_refused(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    direct = federation(tmp_path)
    attempt(direct, tmp_path / "progress", 60)
    path = tmp_path / "progress" / "progress" / "state"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(NotVerifiedError, match="cannot be used"):
        attempt(direct, tmp_path / "progress", 0)


def test_a_payload_that_was_changed_is_refused(tmp_path: Path) -> None:
    book = FolderNotebook(tmp_path)
    name = book.keep(b"a sum")
    assert book.kept(name) == b"a sum"
    (tmp_path / "progress" / name).write_bytes(b"another")
    with pytest.raises(NotVerifiedError, match="is not what was kept"):
        book.kept(name)
    book.keep_only(())
    assert list((tmp_path / "progress").iterdir()) == []


def test_without_a_notebook_a_second_coordinator_gets_nowhere(tmp_path: Path) -> None:
    """The twin: it is the notebook that lets a run go on."""
    direct = federation(tmp_path)
    attempt(direct, tmp_path / "one", 150)
    with pytest.raises((RefusedError, NotVerifiedError)):
        attempt(direct, tmp_path / "two", 0)
