"""A device's own folder: its key, the key of its pseudonyms, whom it trusts, and its log.

    device.pem       signs the log; made here, it never leaves
    units.key        makes pseudonyms of units
    trusted.txt      fingerprints of keys whose bundles may score here, one a line
    scores.log       what was scored (`clients.scoring.score_log`)
    scores.head      where the log stood when a score was last given out
    bundle.newest    when the newest bundle was made that scored here

A score is on disk before anybody sees it. The head is written after its lines: lines beyond it were
never shown, and are kept if they hold and cut if they are torn.
"""

import fcntl
import hashlib
import hmac
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from clients.durable_file import append_whole, make_folder, write_whole
from clients.scoring.bundle import LAST_S
from clients.scoring.bundle_file import clock_text
from clients.scoring.form import Form
from clients.scoring.score_log import (
    LONGEST_LINE,
    LogBeginning,
    LoggedScore,
    LogHead,
    LogReader,
    first_line,
    line_digest,
    score_line,
)
from clients.scoring.trust import read_trust
from privacy.canonical import canonical_json, framed, parse_canonical
from privacy.errors import InputError, NotVerifiedError, ProtocolError, RefusedError
from privacy.identity import Identity
from privacy.randomness import Entropy
from privacy.whole_file import write_first

SUITE: Final = "intl"
_KEY_BYTES: Final = 32
_UNIT_DOMAIN: Final = b"tacit/edge-unit/v1"


@dataclass(frozen=True, slots=True)
class DeviceFolder:
    """Where things lie."""

    root: Path

    @property
    def log(self) -> Path:
        """The log."""
        return self.root / "scores.log"

    @property
    def head(self) -> Path:
        """Where it stood."""
        return self.root / "scores.head"

    @property
    def trusted(self) -> Path:
        """Whose bundles may score here."""
        return self.root / "trusted.txt"

    def trust(self, fingerprints: Sequence[str]) -> frozenset[str]:
        """Keep fingerprints beside those that are there; returns all.

        Raises:
            InputError: The file cannot be read or written.
        """
        kept = self.known() | frozenset(fingerprints)
        self.make()
        text = "".join(f"{one}\n" for one in sorted(kept))
        try:
            write_whole(self.trusted, text.encode("ascii"), mode=0o644)
        except OSError as failure:
            raise _unwritable(self.trusted, failure) from None
        return kept

    def known(self) -> frozenset[str]:
        """Fingerprints that were kept.

        Raises:
            InputError: The file holds something else.
        """
        return read_trust([str(self.trusted)]) if self.trusted.exists() else frozenset()

    def take_bundle(self, made_s: int) -> None:
        """Return if no newer bundle scored here, and keep when this one was made.

        An old model cannot be put back in a new one's place; whoever wants it again exports it
        again.

        Raises:
            NotVerifiedError: A newer one did, or the file is not as it was written.
            InputError: It cannot be read or written.
        """
        path = self.root / "bundle.newest"
        try:
            newest = _newest(path) if path.exists() else 0
            if made_s < newest:
                raise NotVerifiedError(
                    f"it was made on {clock_text(made_s)}, and a newer one, of "
                    f"{clock_text(newest)}, scored here already; use that, or have this model "
                    f"exported again."
                )
            if made_s > newest:
                write_whole(path, canonical_json({"made_s": made_s}) + b"\n", mode=0o600)
        except OSError as failure:
            raise _unwritable(path, failure) from None

    def make(self) -> None:
        """Make the folder, the owner's alone.

        Raises:
            InputError: It cannot be made.
        """
        try:
            make_folder(self.root, mode=0o700)
        except OSError as failure:
            raise _unwritable(self.root, failure) from None

    def identity(self, entropy: Entropy) -> Identity:
        """The device's key, made the first time.

        Raises:
            InputError: It cannot be kept or read.
        """
        path = self.root / "device.pem"
        if not path.exists():
            self.make()
            Identity.create(entropy).save(path)
        return Identity.load(path)

    def unit_key(self, entropy: Entropy) -> bytes:
        """The key of pseudonyms, made the first time.

        Raises:
            InputError: It cannot be kept or read.
        """
        path = self.root / "units.key"
        try:
            if not path.exists():
                self.make()
                write_first(path, entropy(_KEY_BYTES))
            key = path.read_bytes()
        except OSError as failure:
            raise _unwritable(path, failure) from None
        if len(key) != _KEY_BYTES:
            raise InputError(f"{path}: is no key of {_KEY_BYTES} bytes; restore it from a copy.")
        return key

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the folder for one process.

        Raises:
            RefusedError: Another holds it.
            InputError: It cannot be used.
        """
        self.make()
        path = self.root / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as failure:
            raise _unwritable(path, failure) from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RefusedError(
                    f"Another process scores with {self.root}; wait for it, or give another --home."
                ) from None
            yield
        finally:
            os.close(descriptor)


def pseudonym(key: bytes, contract: str, unit: str) -> str:
    """A unit's name for the log: HMAC-SHA-256, hex; who has not the key can test no guess."""
    message = framed(_UNIT_DOMAIN, contract.encode("ascii"), unit.encode("utf-8", "surrogatepass"))
    return hmac.new(key, message, hashlib.sha256).hexdigest()


class DeviceLog:
    """A device's log, open for one process (`DeviceFolder.exclusive`)."""

    def __init__(
        self, folder: DeviceFolder, identity: Identity, head: LogHead, clock: Callable[[], int]
    ) -> None:
        """As `open_log` found it."""
        self._folder, self._identity, self._clock = folder, identity, clock
        self.head = head

    def now_s(self) -> int:
        """The machine's clock.

        Raises:
            RefusedError: It is before the log's last entry.
        """
        now_s = self._clock()
        if now_s < self.head.time_s:
            raise RefusedError(
                f"This machine's clock says {clock_text(now_s)}, and the log's last entry is of "
                f"{clock_text(self.head.time_s)}: the clock ran backwards; set it."
            )
        return now_s

    def add(self, scores: Sequence[LoggedScore]) -> None:
        """Put scores in; they are on disk on return, all of them or none.

        Raises:
            InputError: The disk refuses.
        """
        head, lines = self.head, bytearray()
        for score in scores:
            line, head = score_line(score, head, self._identity)
            lines += line + b"\n"
        _append(self._folder, bytes(lines), head)
        self.head = head


def open_log(
    folder: DeviceFolder, identity: Identity, contract: str, clock: Callable[[], int]
) -> DeviceLog:
    """The device's log, or a new one; what was never shown of it is taken in or cut off.

    Args:
        folder: Held by this process.
        identity: The device's key.
        contract: Digest of the contract that is scored.
        clock: Seconds since 1970, UTC.

    Raises:
        NotVerifiedError: The log was cut or changed, or is another device's.
        RefusedError: It is for another contract, or the clock ran backwards.
        InputError: It cannot be read or written.
    """
    try:
        _drop_torn_beginning(folder)
        if not folder.log.exists() and not folder.head.exists():
            beginning = LogBeginning(
                suite=SUITE, key=identity.public, contract=contract, time_s=clock()
            )
            line, head = first_line(beginning, identity)
            _append(folder, line + b"\n", head)
        head = _stands(folder, identity, contract)
    except OSError as failure:
        raise _unwritable(folder.log, failure) from None
    log = DeviceLog(folder, identity, head, clock)
    log.now_s()
    return log


def _drop_torn_beginning(folder: DeviceFolder) -> None:
    """A first line that a crash cut in two says nothing, and nothing followed it."""
    if folder.log.exists() and not folder.head.exists():
        with folder.log.open("rb") as file:
            torn = b"\n" not in file.read(LONGEST_LINE)
        if torn:
            folder.log.unlink()


def read_head(folder: DeviceFolder) -> tuple[LogHead, int]:
    """Where the log stood when a score was last given out, and how many bytes it had.

    Raises:
        NotVerifiedError: The file is not as it was written.
        OSError: It cannot be read.
    """
    try:
        form = Form(parse_canonical(folder.head.read_bytes().removesuffix(b"\n")), "head")
        head = LogHead(
            lines=form.whole("lines", low=1, high=2**40),
            digest=form.hexadecimal("digest"),
            time_s=form.whole("time_s", low=0, high=LAST_S),
        )
        size = form.whole("bytes", low=1, high=2**60)
        form.done()
    except (ProtocolError, NotVerifiedError):
        raise NotVerifiedError(
            f"{folder.head}: is not as it was written; sync the log, and begin in another --home."
        ) from None
    return head, size


def _stands(folder: DeviceFolder, identity: Identity, contract: str) -> LogHead:
    if not folder.log.exists():
        raise NotVerifiedError(f"{folder.log}: is gone, its head is not; restore it from a copy.")
    with folder.log.open("rb") as file:
        reader = LogReader(str(folder.log))
        first = file.readline(LONGEST_LINE)
        reader.take(first.removesuffix(b"\n"))
        beginning = reader.beginning
        if beginning is None or beginning.key != identity.public:
            raise NotVerifiedError(f"{folder.log}: is another device's; give that one's --home.")
        if beginning.contract != contract:
            raise RefusedError(
                f"{folder.log}: was begun for the contract {beginning.contract[:16]}.., and the "
                f"bundle is for {contract[:16]}..; score another contract in another --home."
            )
        end = file.seek(0, os.SEEK_END)
        if folder.head.exists():
            head, size = read_head(folder)
        else:
            head, size = reader.head, len(first)  # it stopped between the two first writes
        if end < size or _last_line(file, size) != head.digest:
            raise NotVerifiedError(
                f"{folder.log}: was cut or changed since the last score; restore it from a copy."
            )
        file.seek(size)
        reader.head = head
        good = size
        for line in iter(lambda: file.readline(LONGEST_LINE), b""):
            if not line.endswith(b"\n"):
                break
            reader.take(line[:-1])
            good += len(line)
    if good != end:
        os.truncate(folder.log, good)
    if good != size or not folder.head.exists():
        _write_head(folder, reader.head, good)
    return reader.head


def _last_line(file: BinaryIO, size: int) -> str:
    """Digest of the line that ends at `size`."""
    start = max(0, size - LONGEST_LINE)
    file.seek(start)
    part = file.read(size - start)
    if not part.endswith(b"\n"):
        return ""
    return line_digest(part[:-1].rpartition(b"\n")[2])


def _append(folder: DeviceFolder, lines: bytes, head: LogHead) -> None:
    try:
        append_whole(folder.log, lines)
        _write_head(folder, head, folder.log.stat().st_size)
    except OSError as failure:
        raise _unwritable(folder.log, failure) from None


def _write_head(folder: DeviceFolder, head: LogHead, size: int) -> None:
    said = {"lines": head.lines, "digest": head.digest, "time_s": head.time_s, "bytes": size}
    write_whole(folder.head, canonical_json(said) + b"\n")


def _newest(path: Path) -> int:
    try:
        form = Form(parse_canonical(path.read_bytes().removesuffix(b"\n")), "newest bundle")
        made_s = form.whole("made_s", low=0, high=LAST_S)
        form.done()
    except (ProtocolError, NotVerifiedError):
        raise NotVerifiedError(
            f"{path} is not as it was written; sync the log, and begin in another --home."
        ) from None
    return made_s


def _unwritable(path: Path, failure: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be used ({failure.strerror}); free some space, or give another --home."
    )
