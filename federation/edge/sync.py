"""A device's log, taken into a home: verified line by line, and never less than was seen before.

    <home>/edge/bundles/DIGEST.tacit       bundles that this home made
    <home>/edge/logs/DEVICE/000000000000   lines from that number on, as the device wrote them
    <home>/edge/logs/DEVICE/head.json      how far the log was seen, and the digest of its last line

A device is known by its key's fingerprint, which a person gives the first time: the key in a log
says of itself who it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from filelock import FileLock, Timeout

from clients.durable_file import make_folder
from clients.scoring.bundle import LAST_S
from clients.scoring.bundle_file import OpenedBundle, look_at_bundle, read_bundle_file
from clients.scoring.form import Form
from clients.scoring.link import linked
from clients.scoring.score_log import (
    LONGEST_LINE,
    LogBeginning,
    LoggedScore,
    LogHead,
    LogReader,
    line_digest,
)
from clients.scoring.trust import read_trust
from clients.scoring.words import SMALLEST
from federation.edge.kept_bundle import kept_bundle
from federation.home import Home, write_bytes
from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import InputError, NotVerifiedError, ProtocolError, RefusedError

SEGMENT_LINES: Final = 4096
TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """What a home now has of a log.

    Attributes:
        device: Fingerprint of its key.
        contract: Digest of what it scores.
        head: Where the log stands.
        new: Lines that were not seen before.
        scores: Of them, scores.
        bundles: Digest -> how many of the new scores it made.
    """

    device: str
    contract: str
    head: LogHead
    new: int
    scores: int
    bundles: dict[str, int]


def sync_log(home: Home, path: Path, told: str | None) -> Synced:
    """Verify a log and take in what is new of it; all of it, or nothing.

    Args:
        home: Where it is kept.
        path: The log, as the device has it or as it was copied.
        told: The device's fingerprint; needed the first time, and held whenever it is given.

    Raises:
        InputError: The file cannot be read, or the device is new and was not named.
        NotVerifiedError: A line was changed, left out or reordered, the log is shorter than it was
            or another than it was, or a score is none that its bundle gives.
        RefusedError: Another process takes logs in.
    """
    wanted = None if told is None else _one_fingerprint(told)
    device = _device(path)
    if wanted is not None and device != wanted:
        raise NotVerifiedError(
            f"{path}: is the log of {device[:16]}.., not of {wanted[:16]}..; ask whose it is."
        )
    folder = home.edge / "logs" / device
    if wanted is None and not (folder / "head.json").exists():
        raise InputError(
            f"{path}: is of a device that this home does not know; give its fingerprint with "
            f"--device, as tacit-edge log shows it on the device."
        )
    try:
        make_folder(folder, mode=0o700)
        with FileLock(home.edge / "lock", timeout=1):
            return _take_in(home, path, folder, device)
    except Timeout:
        raise RefusedError(f"Another process takes logs into {home.edge}; wait for it.") from None
    except OSError as failure:
        raise InputError(
            f"{failure.filename or path}: cannot be used ({failure.strerror}); free some space, or "
            f"check the path."
        ) from None


def seen_head(folder: Path) -> LogHead:
    """How far a device's log was seen.

    Raises:
        NotVerifiedError: What was kept is not as it was written.
    """
    path = folder / "head.json"
    if not path.exists():
        return LogHead()
    try:
        form = Form(parse_canonical(path.read_bytes().removesuffix(b"\n")), "head")
        head = LogHead(
            lines=form.whole("lines", low=1, high=2**40),
            digest=form.hexadecimal("digest"),
            time_s=form.whole("time_s", low=0, high=LAST_S),
        )
        form.done()
    except (ProtocolError, NotVerifiedError):
        raise NotVerifiedError(
            f"{path}: is not as it was written; restore it from a copy."
        ) from None
    return head


def synced_facts(synced: Synced) -> dict[str, Any]:
    """For programs."""
    return {
        "device": synced.device,
        "contract": synced.contract,
        "lines": synced.head.lines,
        "head": synced.head.digest,
        "last_s": synced.head.time_s,
        "new": synced.new,
        "scores": synced.scores,
        "bundles": synced.bundles,
    }


def _take_in(home: Home, path: Path, folder: Path, device: str) -> Synced:
    seen = seen_head(folder)
    reader, bundles, copy = LogReader(str(path)), _Bundles(home), _Copy(folder, seen.lines)
    used: dict[str, int] = {}
    for line in _lines(path):
        at = reader.head.lines
        score = reader.take(line)
        if at + 1 == seen.lines and line_digest(line) != seen.digest:
            raise NotVerifiedError(
                f"{path}: is another log than the one that was seen before, up to line "
                f"{seen.lines}; find out who wrote it anew."
            )
        if at < seen.lines:
            continue
        if score is not None and reader.beginning is not None:
            where = f"{path}: line {at + 1}"
            _require_score(bundles.get(score.bundle, where), score, reader.beginning, where)
            used[score.bundle] = used.get(score.bundle, 0) + 1
        copy.add(line)
    head = reader.head
    if head.lines < seen.lines:
        raise NotVerifiedError(
            f"{path}: has {head.lines} lines, and {seen.lines} were seen before; it was cut, or is "
            f"an old copy."
        )
    if reader.beginning is None or reader.beginning.device != device:
        raise NotVerifiedError(f"{path}: is no log of {device[:16]}..; fetch it again.")
    copy.finish(head)
    return Synced(
        device=device,
        contract=reader.beginning.contract,
        head=head,
        new=head.lines - seen.lines,
        scores=sum(used.values()),
        bundles=used,
    )


class _Copy:
    """Lines that go to the home's own copy; without `finish` they count for nothing."""

    def __init__(self, folder: Path, start: int) -> None:
        self._folder, self._start = folder, start
        self._lines: list[bytes] = []
        for path in folder.iterdir():
            # what an earlier try that failed left there
            if path.name.isdigit() and int(path.name) >= start:
                path.unlink()

    def add(self, line: bytes) -> None:
        self._lines.append(line + b"\n")
        if len(self._lines) == SEGMENT_LINES:
            self._write()

    def finish(self, head: LogHead) -> None:
        self._write()
        said = {"lines": head.lines, "digest": head.digest, "time_s": head.time_s}
        write_bytes(self._folder / "head.json", canonical_json(said) + b"\n")

    def _write(self) -> None:
        if self._lines:
            write_bytes(self._folder / f"{self._start:012d}", b"".join(self._lines))
            self._start += len(self._lines)
            self._lines = []


class _Bundles:
    """The bundles that a home made, each read once."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._read: dict[str, OpenedBundle] = {}

    def get(self, digest: str, where: str) -> OpenedBundle:
        """Raises NotVerifiedError where the home did not make it."""
        if digest in self._read:
            return self._read[digest]
        path = kept_bundle(self._home, digest)
        if not path.is_file():
            raise NotVerifiedError(
                f"{where} names the bundle {digest[:16]}.., which this home did not make; sync "
                f"where it was exported."
            )
        opened = look_at_bundle(read_bundle_file(path))
        if opened.digest != digest:
            raise NotVerifiedError(f"{path}: is another bundle; restore it from a copy.")
        self._read[digest] = opened
        return opened


def _require_score(
    opened: OpenedBundle, score: LoggedScore, beginning: LogBeginning, where: str
) -> None:
    """Return if a score is one that its bundle can give, at a time when it was valid."""
    bundle, scorer = opened.bundle, opened.bundle.scorer
    if bundle.contract.digest != beginning.contract:
        raise NotVerifiedError(f"{where} names a bundle of another contract; ask who wrote it.")
    if set(score.amounts) != set(scorer.columns) or score.base != scorer.base:
        raise NotVerifiedError(f"{where} holds a score that its bundle does not give.")
    raised = [one for one in scorer.columns if score.amounts[one] >= SMALLEST]
    if list(score.reasons) != sorted(raised, key=lambda one: -score.amounts[one]):
        raise NotVerifiedError(f"{where} holds reasons that do not follow from its amounts.")
    value = float(linked(scorer.link, np.array([score.output]), scale=scorer.scale)[0])
    if abs(value - score.value) > TOLERANCE * (1 + abs(score.value)):
        raise NotVerifiedError(f"{where} holds a value that does not follow from its output.")
    late = bundle.expires_s is not None and score.time_s >= bundle.expires_s
    if late or score.time_s < bundle.made_s:
        raise NotVerifiedError(f"{where} was scored when its bundle was not valid.")


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(LONGEST_LINE), b""):
            if not line.endswith(b"\n"):
                raise NotVerifiedError(
                    f"{path}: ends within a line; copy the log again while nothing scores."
                )
            yield line[:-1]


def _device(path: Path) -> str:
    """The fingerprint that a log's first line gives itself."""
    reader = LogReader(str(path))
    try:
        first = next(_lines(path), None)
    except OSError as failure:
        raise InputError(f"{path}: cannot be read ({failure.strerror}); check the path.") from None
    if first is None:
        raise NotVerifiedError(f"{path}: is empty; give a device's scores.log.")
    reader.take(first)
    if reader.beginning is None:
        raise NotVerifiedError(f"{path}: has no beginning; give a device's scores.log.")
    return reader.beginning.device


def _one_fingerprint(told: str) -> str:
    found = read_trust([told])
    if len(found) != 1:
        raise InputError(f"--device {told:.80}: give one fingerprint, as tacit-edge log shows it.")
    return next(iter(found))
