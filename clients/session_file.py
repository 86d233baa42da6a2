"""A run on its node's disk: whole or not at all, before anything that depends on it is told.

    <home>/sessions/<run's digest>/state    the newest state (`clients.kept_session`)
    <home>/sessions/<run's digest>/<hash>   large parts of it, each named by its own hash
    <home>/ledger.db                        beside its entries: which state is the newest; after the
                                            run, that it was finished or left

A node answers nothing before the state that the answer follows from is on disk here. A state names
the one before it, the pointer beside the ledger's entries names the newest, and whoever writes the
next one must have written or read that. So all that ever left a node lies on one line of states,
and a restart, at any point, goes on from the end of that line or from nothing. From this it follows
that a restart never makes a node

(a) seal two vectors under one mask. The state that says "this step is sealed here" is on disk
    before the step's cost is reserved, which is before the mask is drawn. A node that stops after
    it and before the vector is kept has no vector, makes no other, and is away for that sum. One
    that stops later sends the vector that was kept, the same bytes.
(b) sign two sets of survivors of which neither holds the other. Vote, survivors and the one sum
    under way are in the state before the vote leaves; and what can be signed after them is fewer.
(c) tell shares after mask keys of others, or for two sets. Shares are given once, for the set that
    was signed last; they are in the state before they leave, and after them no other set is signed.
    Mask keys are told for the set that was signed last alone, and both kinds of one member
    are never due in sets that follow each other as in (b); see `docs/adr/0008`.
(d) release what its ledger has not reserved. The reservation is on disk before the token that
    lets a vector be sealed; the vector is kept after it, and leaves after that. What lies between
    stays counted, and is never sent.
(e) try a second payload as a step's sums. Which one is tried is on disk before it is opened.

Two processes over one folder, and a process that was thought dead, are two writers of one line: the
second write is refused, and nothing is told on it.

What is put back from a copy. The pointer is in the ledger's own file, and a state says how large
that ledger was and its root. So `sessions` put back alone is not where the pointer says; the ledger
put back alone has fewer entries than the state that was written last, or a pointer to another
state; and the run is left. Who puts back both, as they were at one moment, undoes all of the above:
this machine cannot tell. It is found where others remember this node's ledger (the head that goes
with each vector). So a copy of one must never be put back with a copy of the other; take `sessions`
out of copies.

When a run is left or finished its keys and all else here are removed.
"""

import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec

from clients.durable_file import make_folder, write_whole
from clients.vault import Vault, is_sealed
from privacy.errors import (
    InputError,
    NotVerifiedError,
    OwnFileError,
    RefusedError,
    TacitError,
)
from privacy.ledger.head import LedgerHead
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import head_of
from privacy.whole_file import sync_folder

FOLDER: Final = "sessions"
RUN_NAME: Final = re.compile("[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
"""A run's name also names the folder of what it leaves."""
_MAGIC: Final = b"tacit session 2\n"
_NOTE: Final = "session/"
_STATE: Final = "state"
_LOCK: Final = ".lock"
_HEX_DIGITS: Final = 64
_DIGEST_BYTES: Final = 32
_COUNT_BYTES: Final = 8
_OURS: Final = 0o600
_OLD: Final = "what this node kept of the run is not the newest; the run is left"
_DAMAGED: Final = "what this node kept of the run is damaged"
_OTHER: Final = "another process went on with this run; let one node at a time use this folder"


class Pointer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a run of this node stands.

    Attributes:
        run: Its name.
        contract: Digest of the contract that it is about.
        state: Hash of the newest state; empty where the run is over here.
        heard_ms: When that was written, milliseconds since 1970 UTC.
        left: Why the run was left, where somebody is to be told; empty where it was finished.
    """

    run: str
    contract: str
    state: str
    heard_ms: int
    left: str = ""


@dataclass(kw_only=True)
class SessionFile:
    """One run of one node on disk; see the module.

    Attributes:
        home: The node's folder.
        ledger: Its own ledger, which is in there.
        run: The digest of the run's manifest.
        name: The run's name.
        contract: Digest of the contract that the run is about.
        vault: Seals what is kept; None: it lies there as it is.
    """

    home: Path
    ledger: SqliteLedger
    run: bytes
    name: str
    contract: str
    vault: Vault | None = None
    _newest: str = ""
    _seen: str = ""

    @cached_property
    def folder(self) -> Path:
        """Where the state is."""
        return self.home / FOLDER / self.run.hex()

    def save(self, body: bytes, parts: Mapping[bytes, bytes | memoryview]) -> None:
        """Write the next state.

        Args:
            body: The state.
            parts: SHA-256 -> the large part with that hash; all that the state names.

        Raises:
            NotVerifiedError: Another writer went on from the state that was written or read here.
            RefusedError: It could not be written; the one before, or this one, is the newest.
        """
        before = bytes.fromhex(self._newest) if self._newest else bytes(_DIGEST_BYTES)
        try:
            with self._alone():
                self._require_newest()
                head = head_of(self.ledger)
                # a state must not name entries that a power cut may still take away
                self.ledger.sync()
                data = _sealed(before, head, body)
                state = hashlib.sha256(data).hexdigest()
                make_folder(self.folder, mode=0o700)
                there = {path.name for path in self.folder.iterdir()}
                for digest, part in parts.items():
                    name = digest.hex()
                    if name not in there or not self._is_as_it_has_to_be(name):
                        self._write(name, part)
                self._write(_STATE, data)
                self._point(state)
                self._newest = self._seen = state
                self._tidy({digest.hex() for digest in parts})
        except OSError as failure:
            raise RefusedError(
                f"This node cannot keep its run ({failure.strerror}); make room in its folder."
            ) from None
        except InputError as failure:
            raise OwnFileError(f"This node cannot keep its run: {failure}") from None

    def load(self) -> bytes:
        """Read the newest state; the next one is written after it.

        Raises:
            NotVerifiedError: It is damaged, or is not the newest, or goes with another ledger.
            InputError: It cannot be read now.
        """
        try:
            with self._alone():
                pointer = read_pointer(self.ledger, self.run)
                self._seen = "" if pointer is None else pointer.state
                data = self._read(_STATE)
                before, head, body = _opened(data)
                self._seal_plain(_STATE, data)
                state = hashlib.sha256(data).hexdigest()
                if pointer is None or not pointer.state:
                    raise NotVerifiedError(_OLD)
                # one that was stopped between the two has written the state alone
                if pointer.state not in {state, before.hex()}:
                    raise NotVerifiedError(_OLD)
                self._require_ledger(head)
                if pointer.state != state:
                    self._point(state)
                self._newest = self._seen = state
        except FileNotFoundError:
            raise NotVerifiedError("what this node kept of the run is gone") from None
        except OSError as failure:
            raise InputError(f"{self.folder}: cannot be read ({failure.strerror}).") from None
        return body

    def part(self, digest: bytes) -> bytes:
        """Read a large part.

        Raises:
            NotVerifiedError: It is gone or damaged.
            InputError: It cannot be read now.
        """
        try:
            data = self._read(digest.hex())
        except FileNotFoundError:
            raise NotVerifiedError("a part of what this node kept of the run is gone") from None
        except OSError as failure:
            raise InputError(f"{self.folder}: cannot be read ({failure.strerror}).") from None
        if hashlib.sha256(data).digest() != digest:
            raise NotVerifiedError("a part of what this node kept of the run is damaged")
        self._seal_plain(digest.hex(), data)
        return data

    def _write(self, name: str, data: bytes | memoryview) -> None:
        if self.vault is not None:
            data = self.vault.seal("session", f"{self.run.hex()}/{name}", data)
        write_whole(self.folder / name, data, mode=_OURS)

    def _read(self, name: str) -> bytes:
        data = (self.folder / name).read_bytes()
        if self.vault is not None:
            return self.vault.unseal("session", f"{self.run.hex()}/{name}", data)
        if is_sealed(data):
            raise NotVerifiedError("what this node kept of the run is sealed, and its key is gone")
        return data

    def _seal_plain(self, name: str, data: bytes) -> None:
        """Seal a file that an earlier version left open, once it is known to be what it was.

        A disk that refuses leaves it as it is: it is sealed when it is written next.
        """
        with suppress(OSError):
            if not self._is_as_it_has_to_be(name):
                self._write(name, data)

    def _is_as_it_has_to_be(self, name: str) -> bool:
        """Whether a file that is there is sealed, where there is a key."""
        if self.vault is None:
            return True
        with (self.folder / name).open("rb") as file:
            return is_sealed(file.read(64))

    def finish(self) -> None:
        """Remove all but that the run was finished; what cannot be removed is left.

        Nothing depends on it: what is left says nothing new when it is gone on from.
        """
        self._end("")

    def leave(self, why: str = "") -> None:
        """Remove everything, whatever is there; what cannot be removed is left.

        Args:
            why: Kept, for who asks about the run later; empty: nothing is.
        """
        self._end(why or None)

    def abandon(self) -> bool:
        """Remove everything, unless another process went on since this was read; whether it was.

        Parts are read while others may write; what looks damaged then may be of two states.
        """
        try:
            with self._alone():
                pointer = read_pointer(self.ledger, self.run)
                if pointer is not None and pointer.state != self._seen:
                    return False
                self._remove()
                self.ledger.keep_note(_name(self.run), None)
        except (OSError, TacitError):
            return False
        return True

    def sweep(self) -> None:
        """Remove what no pointer is to, or one of a run that is over: a stop left it."""
        with suppress(OSError, TacitError), self._alone():
            pointer = read_pointer(self.ledger, self.run)
            if self.folder.exists() and (pointer is None or not pointer.state):
                self._remove()

    def _end(self, why: str | None) -> None:
        with suppress(OSError, TacitError), self._alone():
            if why is None:
                self._remove()
                self.ledger.keep_note(_name(self.run), None)
            else:
                self._point("", left=why)
                self._remove()
        if self.folder.exists():
            self._remove()  # keys go, also where no lock can be had or the ledger not be written

    def _remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            sync_folder(self.folder.parent)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other writers out, in this process and in others."""
        folder = self.home / FOLDER
        make_folder(folder, mode=0o700)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, _OURS)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _require_newest(self) -> None:
        pointer = read_pointer(self.ledger, self.run)
        if ("" if pointer is None else pointer.state or "over") != self._newest:
            raise NotVerifiedError(_OTHER)

    def _require_ledger(self, head: LedgerHead) -> None:
        """Return if the ledger begins as the one beside which a state was written."""
        if self.ledger.size() < head.leaves or head_of(self.ledger, head.leaves) != head:
            raise NotVerifiedError(
                "this node's own ledger is older than what it kept of the run, or another one; "
                "the run is left"
            )

    def _point(self, state: str, *, left: str = "") -> None:
        now_ms = time.time_ns() // 1_000_000
        pointer = Pointer(self.name, self.contract, state, now_ms, left)
        self.ledger.keep_note(_name(self.run), msgspec.json.encode(pointer))

    def _tidy(self, named: set[str]) -> None:
        """Remove parts that the newest state does not name, and what a stop left half-written."""
        for path in self.folder.iterdir():
            if path.name != _STATE and path.name not in named:
                path.unlink(missing_ok=True)


def read_pointer(ledger: SqliteLedger, run: bytes) -> Pointer | None:
    """Read where a run stands; None where this node has nothing of it.

    Raises:
        NotVerifiedError: It is damaged.
        InputError: It cannot be read now.
    """
    data = ledger.note(_name(run))
    if data is None:
        return None
    try:
        pointer = msgspec.json.decode(data, type=Pointer)
    except (msgspec.MsgspecError, ValueError):
        raise NotVerifiedError(_DAMAGED) from None
    if msgspec.json.encode(pointer) != data or not RUN_NAME.fullmatch(pointer.run):
        raise NotVerifiedError(_DAMAGED)
    return pointer


def kept_file(
    home: Path, ledger: SqliteLedger, run: bytes, vault: Vault | None = None
) -> tuple[Pointer, SessionFile] | None:
    """What a node has of a run on its disk; None where that is nothing.

    Raises:
        NotVerifiedError: It is damaged.
        InputError: It cannot be read now.
    """
    pointer = read_pointer(ledger, run)
    if pointer is None:
        return None
    return pointer, SessionFile(
        home=home,
        ledger=ledger,
        run=run,
        name=pointer.run,
        contract=pointer.contract,
        vault=vault,
    )


def leave_run(home: Path, ledger: SqliteLedger, run: bytes, why: str = "") -> None:
    """Remove all that a node has of a run, whatever state that is in; see `SessionFile.leave`."""
    try:
        found = kept_file(home, ledger, run)
    except TacitError:
        found = None
        why = ""  # there is no name to say it of
    if found is not None:
        found[1].leave(why)
    else:
        SessionFile(home=home, ledger=ledger, run=run, name="", contract="").leave()


def kept_runs(ledger: SqliteLedger) -> tuple[bytes, ...]:
    """The runs of which a node has something on its disk, the ones that are over included.

    Raises:
        InputError: It cannot be read now.
        NotVerifiedError: What is there is no ledger.
    """
    names = [name.removeprefix(_NOTE) for name in ledger.notes() if name.startswith(_NOTE)]
    return tuple(bytes.fromhex(name) for name in names if _is_digest(name))


def sweep(home: Path, ledger: SqliteLedger) -> None:
    """Remove what is on disk of runs that a node's ledger knows nothing of, or as over."""
    try:
        names = sorted(path.name for path in (home / FOLDER).iterdir())
    except OSError:
        return
    for name in names:
        if _is_digest(name):
            sweep_run(home, ledger, bytes.fromhex(name))


def sweep_run(home: Path, ledger: SqliteLedger, run: bytes) -> None:
    """As `sweep`, of one run."""
    SessionFile(home=home, ledger=ledger, run=run, name="", contract="").sweep()


def _name(run: bytes) -> str:
    return f"{_NOTE}{run.hex()}"


def _is_digest(name: str) -> bool:
    return len(name) == _HEX_DIGITS and not set(name) - set("0123456789abcdef")


def _sealed(before: bytes, head: LedgerHead, body: bytes) -> bytes:
    """A state as it is on disk."""
    told = before + head.leaves.to_bytes(_COUNT_BYTES, "big") + bytes.fromhex(head.root)
    return _MAGIC + told + hashlib.sha256(told + body).digest() + body


def _opened(data: bytes) -> tuple[bytes, LedgerHead, bytes]:
    """The hash of the state before, the ledger beside which it was written, and the state."""
    start = len(_MAGIC)
    size = start + _DIGEST_BYTES + _COUNT_BYTES + _DIGEST_BYTES
    told, check, body = (
        data[start:size],
        data[size : size + _DIGEST_BYTES],
        data[size + _DIGEST_BYTES :],
    )
    if not data.startswith(_MAGIC) or hashlib.sha256(told + body).digest() != check:
        raise NotVerifiedError(_DAMAGED)
    before, rest = told[:_DIGEST_BYTES], told[_DIGEST_BYTES:]
    head = LedgerHead(int.from_bytes(rest[:_COUNT_BYTES], "big"), rest[_COUNT_BYTES:].hex())
    return before, head, body
