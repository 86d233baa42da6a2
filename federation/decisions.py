"""What a node is asked for and waits with, and what people decided: `tacit node pending`.

    <node>/pending/<digest>.json      a run that waits: for a person, for its hour, for room
    <node>/decisions/<digest>.json    the same with what a person decided

What holds is the node's ledger (`run.decided`): a decision is there before any file says so, once
for each manifest, and any process that shares the ledger sees it.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from clients.consent import Decided
from clients.policy import NodePolicy
from clients.spec import parse_node_spec
from federation.home import read_json, write_json
from federation.registry.plain import plain
from privacy.errors import InputError, RefusedError, TacitError
from privacy.ledger.entry import is_hex64, key_of
from privacy.ledger.store import LedgerStore, append
from privacy.manifest import Manifest

KIND: Final = "run.decided"
PENDING: Final = "pending"
DECISIONS: Final = "decisions"
BY_HAND: Final = "by hand"
REASON_CHARACTERS_MAX: Final = 300
WAITING_MAX: Final = 200
"""Runs that wait at once, at most: nobody fills a node's disk by asking."""
WAITING_OF_ONE_MAX: Final = 50
"""Of one launcher: nobody takes all places."""
GIVEN_UP_MS: Final = 3_600_000
"""Whoever waits asks again within seconds; where there is no room, this long ago is given up."""
_REWRITTEN_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A run that waits: what a person needs to know of it.

    Attributes:
        manifest: The manifest's digest, 64 hexadecimal digits.
        run: The run.
        name: Its config's name.
        task: What it learns.
        launcher: Who started it.
        role: The launcher's role; empty where it is not known.
        members: Whom it names.
        protection: How its sums are protected.
        minimum_cohort: Fewest members in an opened sum.
        unit: Whom its noise protects.
        epsilon: What all its releases cost one unit, by the node's own colluders; None: without
            noise there is no bound.
        delta: For which epsilon need not hold; None without noise.
        rounds: Rounds of training; 0 where the manifest does not say it readably.
        explain: Whether it also sums what its model leans on, this node's test rows among them.
        on: Waits for a `person` or for `time` to pass.
        why: One sentence.
        asked_ms: When it was asked for first, milliseconds since 1970 UTC.
        seen_ms: When it was asked for last.
    """

    manifest: str
    run: str
    name: str
    task: str
    launcher: str
    role: str
    members: tuple[str, ...]
    protection: str
    minimum_cohort: int
    unit: str
    epsilon: float | None
    delta: float | None
    rounds: int
    explain: bool
    on: Literal["person", "time"]
    why: str
    asked_ms: int
    seen_ms: int

    def to_json(self) -> dict[str, Any]:
        """For programs, and as it is kept."""
        return {**asdict(self), "members": list(self.members)}


class NodeDecisions:
    """`clients.consent.Decisions` in a node's folder and ledger."""

    def __init__(
        self,
        folder: Path,
        ledger: LedgerStore,
        *,
        policy: Callable[[], NodePolicy] = NodePolicy,
        role_of: Callable[[str], str | None] = lambda _: None,
        told: Callable[[Waiting], None] = lambda _: None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Keep what waits below `folder`.

        Args:
            folder: The node's.
            ledger: The node's, which was begun.
            policy: The node's terms, for what a run would cost.
            role_of: A participant's role.
            told: Called once for each run that begins to wait, or waits for something else now.
            now_ms: Milliseconds since 1970 UTC.
        """
        self._folder = folder
        self._ledger = ledger
        self._policy = policy
        self._role_of = role_of
        self._told = told
        self._now_ms = now_ms

    def decided(self, manifest: Manifest) -> Decided | None:
        """See the Protocol."""
        return decided(self._ledger, manifest.digest().hex())

    def wait(
        self, manifest: Manifest, launcher: str, *, on: Literal["person", "time"], why: str
    ) -> bool:
        """See the Protocol."""
        path = self._path(manifest)
        now_ms = self._now_ms()
        before = _read(path) if path.exists() else None
        if before is None:
            if not self._has_room(launcher):
                forget_stale(self._folder, before_ms=now_ms - GIVEN_UP_MS)
                if not self._has_room(launcher):
                    return False
            found = self._describe(manifest, launcher, on=on, why=why, now_ms=now_ms)
        else:
            found = replace(before, on=on, why=why, seen_ms=now_ms)
        changed = before is None or (before.on, before.why) != (on, why)
        if not changed and before is not None and now_ms - before.seen_ms < _REWRITTEN_S * 1000:
            return True
        _keep(path, found.to_json())
        if changed:
            self._told(found)
        return True

    def _has_room(self, launcher: str) -> bool:
        paths, name = _files(self._folder / PENDING), plain(launcher)
        if len(paths) >= WAITING_MAX:
            return False
        own = 0
        for path in paths:
            with suppress(InputError):  # half of a file of an earlier version
                own += _read(path).launcher == name
        return own < WAITING_OF_ONE_MAX

    def settled(self, manifest: Manifest) -> None:
        """See the Protocol."""
        self._path(manifest).unlink(missing_ok=True)

    def _path(self, manifest: Manifest) -> Path:
        return self._folder / PENDING / f"{manifest.digest().hex()}.json"

    def _describe(
        self,
        manifest: Manifest,
        launcher: str,
        *,
        on: Literal["person", "time"],
        why: str,
        now_ms: int,
    ) -> Waiting:
        rounds, epsilon = _planned(manifest, self._policy())
        plan = manifest.privacy
        # words of another institution, on their way to a person's terminal
        return Waiting(
            manifest=manifest.digest().hex(),
            run=plain(manifest.run),
            name=plain(manifest.name),
            task=plain(manifest.task),
            launcher=plain(launcher),
            role=self._role_of(launcher) or "",
            members=tuple(plain(member) for member in manifest.members),
            protection=manifest.protection,
            minimum_cohort=manifest.minimum_cohort,
            unit=plain(manifest.unit if plan is None else plan.unit),
            epsilon=epsilon,
            delta=None if plan is None else plan.delta,
            rounds=rounds,
            explain=manifest.node_settings.get("explain", False) is not False,
            on=on,
            why=why,
            asked_ms=now_ms,
            seen_ms=now_ms,
        )


def decided(ledger: LedgerStore, manifest: str) -> Decided | None:
    """Return what a node's ledger holds of a person's decision about a manifest.

    Args:
        ledger: The node's.
        manifest: Its digest, 64 hexadecimal digits.

    Raises:
        InputError: The ledger cannot be read.
        NotVerifiedError: It is none.
    """
    with ledger.turn(durable=False) as turn:
        key = key_of(KIND, {"manifest": manifest})
        entry = None if key is None else turn.find(key)
    if entry is None:
        return None
    reason = str(entry.body["reason"])
    return Decided(entry.body["decision"] == "approved", "" if reason == BY_HAND else reason)


def waiting(folder: Path) -> tuple[Waiting, ...]:
    """Return the runs that wait, the longest-waiting first; none where the node never ran.

    Raises:
        InputError: A file of them cannot be read.
    """
    found: list[Waiting] = []
    for path in _files(folder / PENDING):
        one = _read(path)
        # a decision may have come in while the node was writing the file anew
        if one.on == "person" and (folder / DECISIONS / path.name).exists():
            continue
        found.append(one)
    return tuple(sorted(found, key=lambda one: (one.asked_ms, one.run)))


def find_waiting(folder: Path, run: str) -> Waiting:
    """Return the one run that waits and that `run` names: its id, a part of it, or its digest.

    Raises:
        InputError: None does, or several do.
    """
    known = waiting(folder)
    found = [one for one in known if run in {one.run, one.manifest}] or [
        one for one in known if run and (run in one.run or one.manifest.startswith(run))
    ]
    if len(found) != 1:
        what = "no run that waits here" if not found else f"any of {len(found)} runs that wait here"
        raise InputError(f"{run} names {what}; see tacit node pending.")
    return found[0]


def decide(
    folder: Path,
    ledger: LedgerStore,
    asked: Waiting,
    *,
    approved: bool,
    reason: str = "",
    now_ms: int,
) -> None:
    """Put a person's decision on record; the running node sees it when it is asked again.

    Args:
        folder: The node's.
        ledger: The node's, which was begun.
        asked: The run.
        approved: Yes or no.
        reason: For the launcher.
        now_ms: Milliseconds since 1970 UTC.

    Raises:
        InputError: The reason cannot be kept, or the ledger cannot be written.
        RefusedError: The other answer is on record already.
    """
    text = " ".join(reason.split())
    if len(text) > REASON_CHARACTERS_MAX or not text.isprintable():
        raise InputError(
            f"--reason: is printable text of at most {REASON_CHARACTERS_MAX} characters; "
            "write a shorter one."
        )
    before = decided(ledger, asked.manifest)
    word = "approved" if approved else "refused"
    if before is not None and before.approved is not approved:
        other = "approved" if before.approved else "refused"
        raise RefusedError(
            f"{asked.run} was {other} here before, and a decision stands; the launcher may start "
            "it anew."
        )
    if before is None:
        body = {"manifest": asked.manifest, "decision": word, "reason": text or BY_HAND}
        append(ledger, KIND, body, time_ms=now_ms)
    kept = {**asked.to_json(), "decision": word, "reason": text, "decided_ms": now_ms}
    _keep(folder / DECISIONS / f"{asked.manifest}.json", kept)
    (folder / PENDING / f"{asked.manifest}.json").unlink(missing_ok=True)


def forget_stale(folder: Path, *, before_ms: int) -> None:
    """Take out runs that nobody asked for since `before_ms`: their launcher gave up."""
    for path in _files(folder / PENDING):
        try:
            stale = _read(path).seen_ms < before_ms
        except InputError:
            stale = True  # half of a file of an earlier version
        if stale:
            path.unlink(missing_ok=True)


def _planned(manifest: Manifest, policy: NodePolicy) -> tuple[int, float | None]:
    """Rounds, and what all of a run's releases would cost a unit."""
    from federation.spending import costs

    try:
        spec = parse_node_spec(dict(manifest.node_settings))
        rounds = spec.training.rounds
        plan = manifest.privacy
        if plan is None:
            return rounds, None
        receipts = manifest.planned_receipts(stages=spec.features.stages, rounds=rounds)
        found = costs(receipts, colluders=policy.colluders, delta=plan.delta)
        worst = max(one.epsilon for one in found)
    except (TacitError, ValueError):
        return 0, None
    return rounds, worst if worst < float("inf") else None


def _files(folder: Path) -> Sequence[Path]:
    if not folder.is_dir():
        return ()
    return sorted(path for path in folder.glob("*.json") if is_hex64(path.stem))


def _keep(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(path, value)


def _read(path: Path) -> Waiting:
    value = {"explain": False, **read_json(path)}  # of a version that knew no such runs
    names = {field.name for field in fields(Waiting)}
    if not names <= value.keys():
        raise InputError(f"{path}: is of another version; remove it, and wait to be asked again.")
    chosen = {name: value[name] for name in names}
    return Waiting(**{**chosen, "members": tuple(chosen["members"])})
