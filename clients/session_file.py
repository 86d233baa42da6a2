"""A run on its node's disk: whole or not at all, before anything that depends on it is told.

    <home>/sessions/<run's digest>     which state is the newest; after the run, that it finished
    <home>/runs/<run>/session/state    the newest state (`clients.kept_session`)
    <home>/runs/<run>/session/<hash>   large parts of it, each named by its own hash

A node answers nothing before the state that the answer follows from is on disk here. A state names
the one before it, and the pointer beside the ledger names the newest; whoever writes the next one
must have written or read that. So all that ever left a node lies on one line of states, and a
restart, at any point, goes on from the end of that line or from nothing. From this it follows that
a restart never makes a node

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
second write is refused, and nothing is told on it. A folder that was put back from a copy is not
where the pointer says, and the run is left. The node's own ledger is asked too: a release there
that the state does not know, or one that was accepted and here was not, means that this state is an
old one. Who puts back everything, ledger included, undoes all of that; it is found where
the ledger was set back (the next vector's head), and must be told to remove `sessions` as well.

When a run is left or finished its keys and all else here are removed.
"""

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from privacy.errors import InputError, NotVerifiedError, RefusedError

POINTERS: Final = "sessions"
RUN_NAME: Final = re.compile("[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
"""A run's name also names its folder."""
_MAGIC: Final = b"tacit session 1\n"
_STATE: Final = "state"
_HEX_DIGITS: Final = 64
_DIGEST_BYTES: Final = 32
_OLD: Final = "what this node kept of the run is not the newest; the run is left"


class Pointer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a run of this node stands.

    Attributes:
        run: Its name.
        contract: Digest of the contract that it is about.
        state: Hash of the newest state; empty where the run was finished here.
    """

    run: str
    contract: str
    state: str


@dataclass(kw_only=True)
class SessionFile:
    """One run of one node on disk; see the module.

    Attributes:
        home: The node's folder.
        run: The digest of the run's manifest.
        name: The run's name, which is a folder's.
        contract: Digest of the contract that the run is about.
    """

    home: Path
    run: bytes
    name: str
    contract: str
    _newest: str = ""

    @property
    def folder(self) -> Path:
        """Where the state is."""
        return self.home / "runs" / self.name / "session"

    @property
    def _pointer(self) -> Path:
        return self.home / POINTERS / self.run.hex()

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
        data = _MAGIC + before + hashlib.sha256(before + body).digest() + body
        state = hashlib.sha256(data).hexdigest()
        try:
            with self._alone():
                self._require_newest()
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                for digest, part in parts.items():
                    if not (self.folder / digest.hex()).exists():
                        _write(self.folder / digest.hex(), part)
                _write(self.folder / _STATE, data)
                self._point(state)
                self._newest = state
                self._tidy({digest.hex() for digest in parts})
        except OSError as failure:
            raise RefusedError(
                f"This node cannot keep its run ({failure.strerror}); make room in its folder."
            ) from None

    def load(self) -> bytes:
        """Read the newest state; the next one is written after it.

        Raises:
            NotVerifiedError: It is damaged, or is not the newest.
            InputError: It cannot be read now.
        """
        try:
            with self._alone():
                pointer = read_pointer(self._pointer)
                data = (self.folder / _STATE).read_bytes()
                before, body = _opened(data)
                state = hashlib.sha256(data).hexdigest()
                if pointer is None or not pointer.state:
                    raise NotVerifiedError(_OLD)
                if pointer.state != state:
                    # one that was stopped between the two has written the state alone
                    if pointer.state != before.hex():
                        raise NotVerifiedError(_OLD)
                    self._point(state)
                self._newest = state
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
            data = (self.folder / digest.hex()).read_bytes()
        except FileNotFoundError:
            raise NotVerifiedError("a part of what this node kept of the run is gone") from None
        except OSError as failure:
            raise InputError(f"{self.folder}: cannot be read ({failure.strerror}).") from None
        if hashlib.sha256(data).digest() != digest:
            raise NotVerifiedError("a part of what this node kept of the run is damaged")
        return data

    def finish(self) -> None:
        """Remove all but that the run was finished; what cannot be removed is left.

        Nothing depends on it: what is left says nothing new when it is gone on from.
        """
        with suppress(OSError), self._alone():
            self._point("")
        self._remove()

    def leave(self) -> None:
        """Remove everything; what cannot be removed is left."""
        self._remove()
        with suppress(OSError), self._alone():
            self._pointer.unlink(missing_ok=True)
            _sync(self._pointer.parent)

    def _remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            _sync(self.folder.parent)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other writers out, in this process and in others."""
        folder = self.home / POINTERS
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _require_newest(self) -> None:
        pointer = read_pointer(self._pointer)
        if ("" if pointer is None else pointer.state or "finished") != self._newest:
            raise NotVerifiedError(
                "another process went on with this run; let one node at a time use this folder"
            )

    def _point(self, state: str) -> None:
        pointer = Pointer(run=self.name, contract=self.contract, state=state)
        _write(self._pointer, msgspec.json.encode(pointer))

    def _tidy(self, named: set[str]) -> None:
        """Remove parts that the newest state does not name, and what a stop left half-written."""
        for path in self.folder.iterdir():
            if path.name != _STATE and path.name not in named:
                path.unlink(missing_ok=True)


def read_pointer(path: Path) -> Pointer | None:
    """Read where a run stands; None where this node has nothing of it.

    Raises:
        NotVerifiedError: It is damaged.
        OSError: It cannot be read now.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        pointer = msgspec.json.decode(data, type=Pointer)
    except (msgspec.MsgspecError, ValueError):
        raise NotVerifiedError("what this node kept of a run is damaged") from None
    if msgspec.json.encode(pointer) != data:
        raise NotVerifiedError("what this node kept of a run is damaged")
    return pointer


def kept_file(home: Path, run: bytes) -> tuple[Pointer, SessionFile] | None:
    """What a node has of a run on its disk; None where that is nothing.

    Raises:
        NotVerifiedError: It is damaged.
        InputError: It cannot be read now.
    """
    try:
        pointer = read_pointer(home / POINTERS / run.hex())
    except OSError as failure:
        raise InputError(f"{home}: cannot be read ({failure.strerror}).") from None
    if pointer is None:
        return None
    if not RUN_NAME.fullmatch(pointer.run):
        raise NotVerifiedError("what this node kept of a run is damaged")
    return pointer, SessionFile(home=home, run=run, name=pointer.run, contract=pointer.contract)


def kept_runs(home: Path) -> tuple[bytes, ...]:
    """The runs of which a node has something on its disk, the finished ones included."""
    try:
        names = sorted(path.name for path in (home / POINTERS).iterdir())
    except OSError:
        return ()
    return tuple(bytes.fromhex(name) for name in names if _is_digest(name))


def _is_digest(name: str) -> bool:
    return len(name) == _HEX_DIGITS and not set(name) - set("0123456789abcdef")


def _opened(data: bytes) -> tuple[bytes, bytes]:
    """The hash of the state before, and the state."""
    start = len(_MAGIC)
    before = data[start : start + _DIGEST_BYTES]
    told = data[start + _DIGEST_BYTES : start + 2 * _DIGEST_BYTES]
    body = data[start + 2 * _DIGEST_BYTES :]
    if not data.startswith(_MAGIC) or hashlib.sha256(before + body).digest() != told:
        raise NotVerifiedError("what this node kept of the run is damaged")
    return before, body


def _write(path: Path, data: bytes | memoryview) -> None:
    """Write a file that nobody else may read, whole or not at all, and on disk on return."""
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
