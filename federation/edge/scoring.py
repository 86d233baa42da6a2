"""Scoring at the edge, whole: open the bundle, take rows, log each score, then give it out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clients.scoring.bundle_file import (
    OpenedBundle,
    open_bundle,
    read_bundle_file,
    require_contract,
    require_current,
)
from clients.scoring.device import DeviceFolder, DeviceLog, open_log, pseudonym
from clients.scoring.edge import Edge, EdgeScore, edge_score_facts, logged, stated_of
from clients.scoring.rows import Form
from clients.scoring.trust import read_trust
from federation.edge.intake import Intake, Pause
from privacy.errors import DataError, InputError, NotVerifiedError
from privacy.randomness import system_bytes

BATCH: Final = 256
MOST_STATED: Final = 1_000_000
Clock = Callable[[], int]
Give = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeJob:
    """What to score, and how.

    Attributes:
        bundle: The file.
        places: Where rows are: files, folders, or `-`.
        home: The device's own folder.
        trust: Fingerprints, or files of them, beside those that the folder keeps.
        contract: Name or digest of the contract that the bundle must be for; None: any.
        stated: A table of the inputs that no reading gives.
        form: Of the rows; None: as their first line looks.
        each_reading: Whether each reading gives a score, and not each device at the end.
        follow: Whether to go on with what files and folders get.
    """

    bundle: Path
    places: Sequence[str]
    home: Path
    trust: Sequence[str] = ()
    contract: str | None = None
    stated: Path | None = None
    form: Form | None = None
    each_reading: bool = False
    follow: bool = False


def machine_clock() -> int:
    """Seconds since 1970, UTC, as this machine has them."""
    return int(time.time())


def trusted_bundle(path: Path, trusted: frozenset[str], contract: str | None) -> OpenedBundle:
    """A file's bundle, if a trusted key signed it and it is for the contract that was asked for.

    Raises:
        InputError: It cannot be read.
        NotVerifiedError: It is not; the sentence names the file.
    """
    data = read_bundle_file(path)
    try:
        opened = open_bundle(data, trusted)
        if contract is not None:
            require_contract(opened.bundle, contract)
    except NotVerifiedError as failure:
        raise NotVerifiedError(f"{path}: {failure}") from None
    return opened


def score_all(
    job: EdgeJob,
    give: Give,
    *,
    clock: Clock = machine_clock,
    wait: Callable[[], bool] | None = None,
) -> int:
    """Score what there is; each score is in the log on disk before `give` gets it.

    Returns:
        How many scores there were.

    Raises:
        TacitError: The bundle is refused, or a row cannot be read.
    """
    folder = DeviceFolder(job.home)
    with folder.exclusive():
        opened = trusted_bundle(job.bundle, read_trust(job.trust) | folder.known(), job.contract)
        _require_current(job.bundle, opened, clock())
        edge = Edge(opened, _stated(opened, job.stated))
        identity = folder.identity(system_bytes)
        log = open_log(folder, identity, opened.bundle.contract.digest, clock)
        try:
            folder.take_bundle(opened.bundle.made_s)
        except NotVerifiedError as failure:
            raise NotVerifiedError(f"{job.bundle}: {failure}") from None
        batch = _Batch(job.bundle, opened, log, folder.unit_key(system_bytes), give)
        every = job.each_reading or opened.bundle.readings is None
        waiting: dict[str, None] = {}
        intake = Intake(job.places, form=job.form, follow=job.follow)
        if wait is not None:
            intake.wait = wait
        try:
            for one in intake:
                if isinstance(one, Pause):
                    if one.whole:
                        for unit in waiting:
                            batch.add(edge.score(unit))
                        waiting.clear()
                    batch.flush()
                    continue
                unit = edge.take(*one)
                if every:
                    batch.add(edge.score(unit))
                else:
                    waiting[unit] = None
        except DataError:
            batch.flush()  # what was scored before the bad row stands
            raise
        return batch.count


@dataclass(slots=True)
class _Batch:
    """Scores that are logged together."""

    path: Path
    opened: OpenedBundle
    log: DeviceLog
    unit_key: bytes
    give: Give
    scores: list[EdgeScore]
    count: int

    def __init__(
        self, path: Path, opened: OpenedBundle, log: DeviceLog, unit_key: bytes, give: Give
    ) -> None:
        self.path, self.opened, self.log = path, opened, log
        self.unit_key, self.give = unit_key, give
        self.scores, self.count = [], 0

    def add(self, score: EdgeScore) -> None:
        """Take one; they are logged and given out when there are enough."""
        self.scores.append(score)
        if len(self.scores) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Log what there is, then give it out.

        Raises:
            NotVerifiedError: The bundle has expired meanwhile.
            RefusedError: The clock ran backwards.
        """
        if not self.scores:
            return
        now_s = self.log.now_s()
        _require_current(self.path, self.opened, now_s)
        contract = self.opened.bundle.contract.digest
        self.log.add(
            [
                logged(
                    self.opened,
                    one,
                    unit=pseudonym(self.unit_key, contract, one.unit),
                    now_s=now_s,
                )
                for one in self.scores
            ]
        )
        scores, self.scores = self.scores, []
        for one in scores:
            self.count += 1
            self.give(edge_score_facts(self.opened, one))


def _require_current(path: Path, opened: OpenedBundle, now_s: int) -> None:
    try:
        require_current(opened.bundle, now_s)
    except NotVerifiedError as failure:
        raise NotVerifiedError(f"{path}: {failure}") from None


def _stated(opened: OpenedBundle, path: Path | None) -> dict[str, dict[str, float]]:
    if path is None:
        return {}
    if opened.bundle.readings is None or not opened.bundle.stated:
        raise InputError(f"{path}: this bundle needs no table beside its rows; leave --stated out.")
    found: dict[str, dict[str, float]] = {}
    for one in Intake([str(path)]):
        if isinstance(one, Pause):
            continue
        unit, values = stated_of(opened, *one)
        if unit in found:
            raise DataError(f"{one[1]}: {unit:.80} is there twice; keep one row.")
        found[unit] = values
        if len(found) > MOST_STATED:
            raise DataError(f"{path}: has more than {MOST_STATED} units; give a smaller table.")
    return found
