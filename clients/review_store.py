"""Reviews of a node's devices: what holds is in its ledger, what only it may know in its folder.

    <node>/review/<data set>/<device>.json     a device's name, and its readings as last looked at
    <node>/review/<data set>/<readings>.json   the readings that a release is about

Both are named by keyed digests (HMAC-SHA256 under a key that stays in the node's folder), and so is
everything in the ledger: who reads that can test no guess of a device or a reading. A file that is
missing releases nothing: its device is held again. One that is there and is not what was written is
refused, and no row of the contract is used until somebody has seen to it: what it said is unknown,
and what it says now is somebody else's word.
"""

import hmac
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from clients.durable_file import make_folder
from clients.gate import Device, Watched
from clients.review import CLEAR, HELD, REJECTED, RELEASED, Standing, State, standings
from clients.rows_digest import rows_key
from clients.vault import KnownVault, Vault, is_sealed
from privacy.canonical import framed
from privacy.errors import DamagedFileError, InputError, NotVerifiedError, RefusedError
from privacy.json_value import json_value
from privacy.ledger.entry import parse_leaf
from privacy.ledger.store import LedgerStore, Turn
from privacy.randomness import Entropy
from privacy.whole_file import sync_folder

FOLDER: Final = "review"
BY_READINGS: Final = "three readings in a row or more lie outside their threshold"
AGAIN: Final = "a person looked at it again"
TEXT_MAX: Final = 300
FORMAT: Final = 1
Decision: TypeAlias = Literal["release", "reject"]
_DECISIONS: Final[Mapping[Decision, tuple[str, State]]] = {
    "release": (RELEASED, State.RELEASED),
    "reject": (REJECTED, State.REJECTED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a look at a member's devices came to.

    Attributes:
        standings: Where each device with any act stands, those without readings left aside.
        new: Devices that this look put under review.
    """

    standings: Mapping[Device, Standing]
    new: tuple[Device, ...]

    def state(self, device: Device) -> State:
        """Where a device stands."""
        return self.standings.get(device, CLEAR).state

    @property
    def left_out(self) -> frozenset[Device]:
        """Devices whose rows are used by nobody."""
        return frozenset(one for one, standing in self.standings.items() if standing.is_left_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A device that was under review, without a look at its rows.

    Attributes:
        digest: Its name in the ledger, 64 hexadecimal digits.
        device: Which; None where its file is gone.
        standing: Where it stands.
        out: Its readings outside a threshold at the last look.
        first: The time of the first of them, in units of its rows; None for none.
        last: The time of the last of them.
    """

    digest: str
    device: Device | None
    standing: Standing
    out: int
    first: float | None
    last: float | None

    @property
    def name(self) -> str:
        """What people call it here; the beginning of its digest where nobody knows."""
        return self.digest[:16] if self.device is None else self.device.name


class Reviews:
    """The reviews of one node and one contract. Any number of processes may have them open."""

    def __init__(
        self,
        *,
        home: Path,
        ledger: LedgerStore,
        dataset: str,
        entropy: Entropy,
        now_ms: Callable[[], int],
        vault: Vault | KnownVault | None = None,
    ) -> None:
        """Open them; nothing is written before something happens.

        Args:
            home: The node's folder.
            ledger: The node's own, which was begun.
            dataset: The contract's name.
            entropy: Makes the node's key, the first time.
            now_ms: Milliseconds since 1970 UTC.
            vault: Seals its files; None: they lie there as they are.
        """
        self._home = home
        self._ledger = ledger
        self._dataset = dataset
        self._entropy = entropy
        self._now_ms = now_ms
        self._vault = vault
        self._key: bytes | None = None

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self._home / FOLDER / self._dataset

    def device(self, device: Device) -> str:
        """The name of a device in the ledger, 64 hexadecimal digits."""
        part = b"test" if device.test else b""
        return self._digest(b"device", self._dataset.encode(), part, device.unit.encode())

    def look(
        self, seen: Mapping[Device, Watched], *, record: bool = True, whole: bool = True
    ) -> Looked:
        """Say where devices stand, and put those under review whose readings do.

        Args:
            seen: Each device's watched readings, all that there are.
            record: Whether that is put in the ledger and remembered; otherwise nothing is written,
                and devices that should be under review are only told.
            whole: Whether these are all rows that there are. If not, what is remembered of devices
                that stand on record stays as it was: a person decides on what the gate showed.

        Raises:
            InputError: The folder or the ledger cannot be read or written.
            NotVerifiedError: The ledger is none, its acts do not follow from each other, or a file
                is not what was written there.
        """
        now = self._standings()
        facts = [
            self._facts(device, one)
            for device, one in seen.items()
            if one.words or self.device(device) in now
        ]
        due = [one for one in facts if self._reasons(one, now.get(one.digest, CLEAR))]
        new = [one.device for one in due]
        if record:
            for one in facts:
                # before the ledger says so: who reads there must find the readings here
                if one in due or (whole and one.digest in now):
                    self._remember(one)
            if due:
                now, new = self._hold(due)
        return Looked(
            standings={one.device: now[one.digest] for one in facts if one.digest in now},
            new=tuple(sorted(new)),
        )

    def remembered(self) -> tuple[Remembered, ...]:
        """All devices that ever were under review, by name.

        Raises:
            InputError: The folder or the ledger cannot be read.
            NotVerifiedError: As `look`.
        """
        found = []
        for device, standing in self._standings().items():
            kept = self._read(device)
            times = [] if kept is None else [time for time, _ in kept.readings]
            found.append(
                Remembered(
                    digest=device,
                    device=None if kept is None else kept.device,
                    standing=standing,
                    out=len(times),
                    first=min(times, default=None),
                    last=max(times, default=None),
                )
            )
        return tuple(sorted(found, key=lambda one: (one.name, one.digest)))

    def decide(
        self, device: str, word: Decision, *, reason: str, by: str, seen: str = ""
    ) -> Standing:
        """Put a person's decision on record.

        A release is about all readings outside a threshold that the last look saw. A device that
        was rejected may still be released, and the other way round: that is a new review.

        Args:
            device: Its digest, 64 hexadecimal digits.
            word: What is decided.
            reason: For whoever reads the ledger.
            by: Who decided.
            seen: The beginning of the digest of the readings that the person saw; empty: whichever
                the last look saw.

        Raises:
            InputError: A text cannot be kept, the device was never looked at, or the folder or
                the ledger cannot be written.
            RefusedError: It was never under review, stands so already, or other readings came in.
        """
        said = {"reason": _text(reason, "--reason"), "by": _text(by, "--by")}
        kept = self._read(device)
        if kept is None:
            raise InputError(
                "what was read of this device is not remembered here any more; run tacit data "
                "gate, and decide then"
            )
        readings = sorted(word for _, word in kept.readings)
        digest = self._list_digest(device, readings)
        if not digest.startswith(seen):
            raise RefusedError(
                "other readings of this device came in since; look at it again with tacit data "
                "review show, and decide then"
            )
        kind, state = _DECISIONS[word]
        if kind == RELEASED:
            # before the ledger says so: a release without its readings would release nothing
            self._write(digest, {"format": FORMAT, "device": device, "readings": readings})
        with self._ledger.turn() as turn:
            standing = self._standing_in(turn, device)
            if standing.state is State.CLEAR:
                raise RefusedError("this device was never under review; see tacit data review list")
            if standing.state is state:
                raise RefusedError(f"this device is {state.value} already")
            act = _Body(self._dataset, device, standing.review, digest)
            if standing.state is not State.WAITING:
                act = replace(act, review=standing.review + 1)
                turn.append(HELD, act.with_words(reason=AGAIN), time_ms=self._now_ms())
            turn.append(kind, act.with_words(**said), time_ms=self._now_ms())
            return self._standing_in(turn, device)

    def shown(self, device: str) -> str:
        """Return the digest of a device's readings at the last look; empty where none is known."""
        kept = self._read(device)
        if kept is None:
            return ""
        return self._list_digest(device, sorted(word for _, word in kept.readings))

    def _hold(self, due: Sequence["_Facts"]) -> tuple[Mapping[str, Standing], list[Device]]:
        new: list[Device] = []
        with self._ledger.turn() as turn:
            # another process may have looked, or a person decided, since
            now = standings(map(parse_leaf, turn.leaves(0)), self._dataset)
            for one in sorted(due, key=lambda one: one.device):
                standing = now.get(one.digest, CLEAR)
                reasons = self._reasons(one, standing)
                if not reasons:
                    continue
                readings = self._list_digest(one.digest, sorted(reasons))
                act = _Body(self._dataset, one.digest, standing.review + 1, readings)
                turn.append(HELD, act.with_words(reason=BY_READINGS), time_ms=self._now_ms())
                new.append(one.device)
            return standings(map(parse_leaf, turn.leaves(0)), self._dataset), new

    def _reasons(self, facts: "_Facts", standing: Standing) -> list[str]:
        """Digests of the readings that put a device under review now; none where it is already."""
        if standing.is_left_out:
            return []
        released = self._released(facts.digest, standing)
        settled = [place for place, word in enumerate(facts.words) if word in released]
        return [facts.words[place] for place in facts.seen.puts_under_review(settled)]

    def _released(self, device: str, standing: Standing) -> frozenset[str]:
        """Readings that a person released.

        Raises:
            NotVerifiedError: A list of them is not what the ledger says.
        """
        found: set[str] = set()
        for digest in standing.releases:
            value = self._load(digest)
            if value is None:
                continue
            readings = _texts(value.get("readings"))
            listed = None if readings is None else self._list_digest(device, readings)
            if readings is None or listed is None or not hmac.compare_digest(listed, digest):
                raise self._damaged(digest)
            found.update(readings)
        return frozenset(found)

    def _standings(self) -> Mapping[str, Standing]:
        return standings(map(parse_leaf, self._ledger.leaves()), self._dataset)

    def _standing_in(self, turn: Turn, device: str) -> Standing:
        return standings(map(parse_leaf, turn.leaves(0)), self._dataset).get(device, CLEAR)

    def _facts(self, device: Device, seen: Watched) -> "_Facts":
        digest = self.device(device)
        words = [self._digest(b"reading", digest.encode(), word) for word in seen.words]
        return _Facts(device, digest, seen, tuple(words))

    def _list_digest(self, device: str, readings: Sequence[str]) -> str:
        return self._digest(b"readings", device.encode(), *(one.encode() for one in readings))

    def _digest(self, *parts: bytes) -> str:
        if self._key is None:
            # of its own, so that nothing here is ever a digest of rows for a run
            key = rows_key(self._home, self._entropy)
            self._key = hmac.digest(key, b"tacit/review/v1", "sha256")
        own = framed(self._dataset.encode(), *parts)
        return hmac.digest(self._key, own, "sha256").hex()

    # files

    def _remember(self, facts: "_Facts") -> None:
        times = facts.seen.times[facts.seen.out].tolist()
        kept = _Kept(facts.device, tuple(zip(times, facts.words, strict=True)))
        # one that is damaged is refused, not written over: somebody should know of it
        if self._read(facts.digest) != kept:
            value = {
                "format": FORMAT,
                "unit": facts.device.unit,
                "test": facts.device.test,
                "readings": [list(one) for one in kept.readings],
            }
            self._write(facts.digest, value)

    def _read(self, device: str) -> "_Kept | None":
        """What a device's file says; None where there is none."""
        value = self._load(device)
        if value is None:
            return None
        try:
            kept = _Kept(
                Device(value["unit"], value["test"]),
                tuple((float(time), str(word)) for time, word in value["readings"]),
            )
            # a file under another device's name says nothing of this one
            own = self.device(kept.device) == device
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._damaged(device) from None
        if not own:
            raise self._damaged(device)
        return kept

    def _load(self, name: str) -> dict[str, Any] | None:
        """A file as it is; None where there is none.

        Raises:
            InputError: It is there and cannot be read.
            NotVerifiedError: It is not what was written.
        """
        path = self.folder / f"{name}.json"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as failure:
            raise InputError(
                f"{path}: cannot be read ({failure.strerror}); give it to this user."
            ) from None
        try:
            opened = data
            if self._vault is not None:
                opened = self._vault.unseal("review", f"{self._dataset}/{name}", data)
            value = json_value(opened)
        except (ValueError, NotVerifiedError):
            raise self._damaged(name) from None
        if not isinstance(value, dict):
            raise self._damaged(name)
        if isinstance(self._vault, Vault) and not is_sealed(data):
            # an earlier version left it open; a disk that refuses leaves it as it is
            with suppress(InputError):
                self._write(name, value)
        return value

    def _damaged(self, name: str) -> NotVerifiedError:
        return DamagedFileError(
            f"{self.folder / name}.json: is damaged, belongs elsewhere, or was sealed with another "
            "key; restore it from a copy, or remove it, and what it released waits again."
        )

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        path = self.folder / f"{name}.json"
        part = path.with_name(f".{name}.{os.getpid()}.part")
        try:
            make_folder(self.folder, mode=0o700)
            data = json.dumps(value).encode()
            if self._vault is not None:
                data = self._vault.seal("review", f"{self._dataset}/{name}", data)
            part.unlink(missing_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            sync_folder(self.folder)
        except OSError as failure:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise InputError(
                f"{path}: cannot be written ({failure.strerror}); free some space."
            ) from None


@dataclass(frozen=True, slots=True, eq=False)
class _Facts:
    """A device's watched readings, and the digests of those that are out, in order of time."""

    device: Device
    digest: str
    seen: Watched
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Kept:
    device: Device
    readings: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class _Body:
    dataset: str
    device: str
    review: int
    readings: str

    def with_words(self, **words: str) -> dict[str, object]:
        return {**asdict(self), **words}


def _texts(value: object) -> list[str] | None:
    return [str(one) for one in value] if isinstance(value, list) else None


def _text(text: str, option: str) -> str:
    plain = " ".join(text.split())
    if not plain or len(plain) > TEXT_MAX or not plain.isprintable():
        raise InputError(
            f"{option}: is printable text of 1 to {TEXT_MAX} characters; write another one."
        )
    return plain
