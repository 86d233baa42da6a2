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
from support.suites import skip_without

from aggregator import coordinator, returning
from aggregator.coordinator import RunResult
from aggregator.ports import Answer
from aggregator.progress import parse_progress
from clients.policy import NodePolicy
from federation.declaration import declaration
from federation.ledger_recorder import LedgerRecorder
from federation.notebook import FolderNotebook
from privacy.errors import CohortError, NotVerifiedError, ProtocolError, RefusedError
from privacy.ledger.store import entries_of
from privacy.manifest import PROTECTIONS, SIGNING_DOMAIN
from privacy.messages import (
    SEALED_BEFORE,
    FinishNotice,
    Invite,
    PairNotice,
    PairRequest,
    Refused,
    Request,
    RevealRequest,
    SumNotice,
    SurvivorsNotice,
    TrainRequest,
)

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

    @property
    def names(self) -> Mapping[int, str]:
        return self.inner.names

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


@dataclass
class GoneAt(DirectTransport):
    """Ends the coordinator when half of the members have heard the first request of a kind."""

    ends_at: type = Invite
    done: bool = False

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
        ends = not self.done and any(isinstance(one, self.ends_at) for one, _ in requests.values())
        answers = super().exchange(
            dict(list(requests.items())[: len(requests) // 2]) if ends else requests,
            kind=kind,
            deadline_s=deadline_s,
            needed=needed,
            grace_s=grace_s,
            enough=enough,
        )
        if ends:
            self.done = True
            raise Gone
        return answers


@pytest.mark.parametrize(
    ("suite", "kind"),
    [
        ("gm", TrainRequest),
        ("hybrid", PairRequest),
        ("hybrid", PairNotice),
    ],
)
def test_a_run_of_each_suite_goes_on_where_its_coordinator_is_gone(
    tmp_path: Path, suite: str, kind: type
) -> None:
    skip_without(suite)
    direct = federation(tmp_path, protection={"sum": "masked", "suite": suite})
    direct.transport = GoneAt(direct.nodes, ends_at=kind)
    result, _ = attempt(direct, tmp_path / "progress", 0)
    assert result is None
    result, _ = attempt(direct, tmp_path / "progress", 0)
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


def gone_at(kind: type, *, after: bool = False, skip: int = 0) -> Callable[..., None]:
    """Ends the coordinator when it asks so for the first time, or once `skip` others were asked."""
    left = [skip]

    def look(request: Request, *, answered: bool) -> None:
        if isinstance(request, kind) and answered is after:
            if not left[0]:
                raise Gone
            left[0] -= 1

    return look


@dataclass
class WatchedTransport(FusedTransport):
    """Ends the coordinator at one request, or lets members be away."""

    look: Callable[..., None] = lambda *_, **__: None
    away: frozenset[str] = frozenset()

    def nodes(self) -> tuple[int, ...]:
        members = self.inner.members
        return tuple(node for node in self.inner.nodes() if members[node].member not in self.away)

    def exchange(
        self,
        requests: Mapping[int, tuple[Request, bytes]],
        **how: Any,  # noqa: ANN401 - as it comes
    ) -> Mapping[int, Answer]:
        answers: dict[int, Answer] = {}
        for node, one in requests.items():
            self.look(one[0], answered=False)
            if node in self.nodes():
                answers |= self.inner.exchange({node: one}, **how)
            self.look(one[0], answered=True)
        return answers


def process(
    direct: Direct,
    folder: Path,
    look: Callable[..., None] = lambda *_, **__: None,
    away: tuple[str, ...] = (),
) -> RunResult | None:
    """One process of the coordinator."""
    try:
        return coordinator.run(
            direct.manifest,
            direct.launcher.sign(SIGNING_DOMAIN, direct.manifest.to_bytes()),
            launcher=direct.launcher.public,
            data=declaration(direct.project.contract),
            transport=WatchedTransport(direct.transport, Fuse(0), look, frozenset(away)),
            ledger=LedgerRecorder(direct.notes.recorder.store, direct.notes.recorder.identity),
            observer=direct.notes,
            notebook=FolderNotebook(folder),
        )
    except Gone:
        return None


def test_a_sum_that_somebody_told_of_already_waits_for_all_of_its_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(returning, "RETURN_S", 0.05)
    direct = federation(tmp_path)
    folder = tmp_path / "progress"
    # one member has revealed for all four when the coordinator is gone, and then one is away
    assert process(direct, folder, gone_at(RevealRequest, after=True)) is None
    with pytest.raises(CohortError, match="elm must come back first"):
        process(direct, folder, away=("elm",))
    result = process(direct, folder)
    assert result is not None
    require_whole(direct, result)


@pytest.mark.parametrize("skip", [0, 2, 3])
def test_a_run_whose_members_have_heard_of_its_end_is_finished(tmp_path: Path, skip: int) -> None:
    direct = federation(tmp_path)
    assert process(direct, tmp_path / "p", gone_at(FinishNotice, after=True, skip=skip)) is None
    result = process(direct, tmp_path / "p")
    assert result is not None
    assert "run.finished" in [kind for kind, _ in direct.notes.entries]
    require_whole(direct, result)


def test_who_was_away_at_the_end_hears_of_it_when_it_is_back(tmp_path: Path) -> None:
    direct = federation(tmp_path)
    folder = tmp_path / "progress"
    assert process(direct, folder, gone_at(FinishNotice)) is None
    first = process(direct, folder, away=("elm",))
    assert first is not None
    assert first.untold == ("elm",)
    assert set(direct.models()) == set(FOUR) - {"elm"}
    again = process(direct, folder)
    assert again is not None
    assert "elm" not in again.untold
    require_whole(direct, again)


def test_who_refuses_a_sum_that_it_missed_is_told_that_the_run_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = federation(tmp_path)
    elm = next(node for node in direct.nodes.values() if node.member == "elm")
    plainly = elm.handle

    def handle(request: Any, payload: bytes) -> Any:  # noqa: ANN401 - any message
        if isinstance(request, SumNotice) and request.step == "evaluate test":
            raise RefusedError("This one would show another alone.")
        return plainly(request, payload)

    monkeypatch.setattr(elm, "handle", handle)
    result = process(direct, tmp_path / "progress")
    assert result is not None
    assert (result.untold, result.behind) == ((), ("elm",))
    assert set(direct.models()) == set(FOUR) - {"elm"}
    assert elm._sessions
    assert "elm" not in coordinator.dismiss(direct.manifest, transport=direct.transport)
    assert not elm._sessions


def test_other_runs_meanwhile_set_nobody_back(tmp_path: Path) -> None:
    direct = federation(tmp_path)
    assert process(direct, tmp_path / "one", gone_at(SurvivorsNotice)) is None
    beside = direct.again("beside")
    beside.run()
    result = process(direct, tmp_path / "one")
    assert result is not None
    assert set(result.absences.values()) == {0}


def test_consents_are_on_record_only_of_those_who_take_part(tmp_path: Path) -> None:
    direct = federation(tmp_path, min_members=3)
    folder = tmp_path / "progress"
    book = FusedNotebook(folder, Fuse(1))
    with pytest.raises(Gone):
        coordinator.run(
            direct.manifest,
            direct.launcher.sign(SIGNING_DOMAIN, direct.manifest.to_bytes()),
            launcher=direct.launcher.public,
            data=declaration(direct.project.contract),
            transport=direct.transport,
            ledger=direct.notes.recorder,
            observer=direct.notes,
            notebook=book,
        )
    assert process(direct, folder, away=("elm",)) is not None
    consented = {body["member"] for kind, body in direct.notes.entries if kind == "run.consented"}
    assert consented == set(FOUR) - {"elm"}
    direct.verdict()


def test_whoever_answers_in_anothers_name_is_not_heard(tmp_path: Path) -> None:
    direct = federation(tmp_path)
    nodes = {node.member: place for place, node in direct.nodes.items()}

    @dataclass
    class Named(WatchedTransport):
        @property
        def names(self) -> Mapping[int, str]:
            return {place: name for name, place in nodes.items()}

        def exchange(
            self,
            requests: Mapping[int, tuple[Request, bytes]],
            **how: Any,  # noqa: ANN401 - as it comes
        ) -> Mapping[int, Answer]:
            answers = dict(super().exchange(requests, **how))
            if nodes["ash"] in answers and isinstance(requests[nodes["ash"]][0], Invite):
                answers[nodes["ash"]] = (Refused(member="elm", reason="I am elm"), b"")
            return answers

    with pytest.raises(CohortError, match="ash did not answer"):
        coordinator.run(
            direct.manifest,
            direct.launcher.sign(SIGNING_DOMAIN, direct.manifest.to_bytes()),
            launcher=direct.launcher.public,
            data=declaration(direct.project.contract),
            transport=Named(direct.transport, Fuse(0)),
            ledger=direct.notes.recorder,
            observer=direct.notes,
        )
    assert "run.declined" not in [kind for kind, _ in direct.notes.entries]


def test_a_sum_whose_vectors_are_lost_for_good_ends_the_run_and_says_so(tmp_path: Path) -> None:
    """No resuming helps: a node makes no second vector for a sum."""
    direct = federation(tmp_path)
    lost = {place for place, node in direct.nodes.items() if node.member in {"ash", "elm"}}

    @dataclass
    class Lossy(WatchedTransport):
        def exchange(
            self,
            requests: Mapping[int, tuple[Request, bytes]],
            **how: Any,  # noqa: ANN401 - as it comes
        ) -> Mapping[int, Answer]:
            answers = dict(super().exchange(requests, **how))
            for node, (request, _) in requests.items():
                if node in lost and isinstance(request, TrainRequest) and request.round == 2:
                    name = direct.nodes[node].member
                    answers[node] = (Refused(member=name, reason=SEALED_BEFORE), b"")
            return answers

    with pytest.raises(ProtocolError, match="ash, elm lost the vector of this sum") as failure:
        coordinator.run(
            direct.manifest,
            direct.launcher.sign(SIGNING_DOMAIN, direct.manifest.to_bytes()),
            launcher=direct.launcher.public,
            data=declaration(direct.project.contract),
            transport=Lossy(direct.transport, Fuse(0)),
            ledger=direct.notes.recorder,
            observer=direct.notes,
            notebook=FolderNotebook(tmp_path / "progress"),
        )
    assert not isinstance(failure.value, CohortError)  # which a desk would wait for


def test_what_is_written_down_does_not_grow_with_the_rounds(tmp_path: Path) -> None:
    """It is written several times a step, so what all members have seen is not in it any more."""
    direct = federation(tmp_path)
    result = process(direct, tmp_path / "p")
    assert result is not None
    state = (tmp_path / "p" / "progress" / "state").read_bytes()
    progress = parse_progress(state, run=direct.manifest.digest())
    accepted = [kind for kind, _ in direct.notes.entries].count("sum.accepted")
    assert progress.seen + len(progress.notices) == accepted > 4
    assert len(progress.notices) == 1  # the newest: who has seen it is known with the next step
