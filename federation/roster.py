"""Who takes part, as this machine sees it: acts from the coordinator, each checked here.

    <home>/participant/membership.json        the acts that were read, as they stand in the ledger
    <home>/participant/membership-read.json   when they were read last, or why that did not hold

The acts' signatures go back to the founder's key, which came with the invitation, so the
coordinator can invent none. What was read once stays: a list that does not begin with it is refused
as another history, so an act that this machine has seen, a revocation above all, cannot be taken
back. The newest act can be kept from it; that every run names the acts that its launcher saw, and
cosigned states of the ledger, are against that.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from federation.home import read_json, write_bytes, write_json
from federation.members.client import MembersClient
from federation.participant import Place, alone
from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import InputError, NotVerifiedError, ProtocolError
from privacy.ledger.entry import Entry, parse_leaf
from privacy.membership import Membership, Roll, fold, is_act

CACHE: Final = "membership.json"
READ: Final = "membership-read.json"
LOCK: Final = "membership.lock"
BYTES_MAX: Final = 64 << 20
"""Of all acts: some hundred thousand."""
READ_EVERY_MS: Final = 60_000
"""How much later a good read is, at least, to be written down anew."""
_OTHER: Final = (
    "the coordinator shows another history of the federation than before; trust nothing of it, and "
    "ask the operator"
)


class SeenActs:
    """The acts that this machine has seen, folded once; only new ones are checked.

    May be asked by several threads, and beside other processes of the same machine.
    """

    def __init__(self, place: Place, *, now_ms: Callable[[], int] | None = None) -> None:
        """Read nothing yet.

        Args:
            place: Whose machine.
            now_ms: Milliseconds since 1970 UTC.
        """
        self._place = place
        self._now_ms = now_ms or _now_ms
        self._mutex = threading.Lock()
        self._leaves: list[bytes] = []
        self._last: Entry | None = None
        self._membership: Membership | None = None
        self._stamp: tuple[int, ...] = ()
        self._is_unwritten = False

    def read(self, client: MembersClient) -> Membership:
        """Ask for new acts; return who takes part now, and remember it.

        Raises:
            TacitError: the coordinator cannot be asked.
            NotVerifiedError: an act does not hold, or the acts are not those that were seen before.
        """
        with self._mutex:
            with alone(self._place.folder, LOCK):
                self._load()
            try:
                known = len(self._leaves)
                reading, fresh = self._fetched(client)
                shown = [*self._leaves, *fresh]
                with alone(self._place.folder, LOCK):
                    self._load()  # another process may have read them, or more, meanwhile
                    self._grow(shown, reading)
                    if self._is_unwritten:
                        self._keep()
            except NotVerifiedError as fault:
                _note(self._place, self._now_ms(), str(fault))
                raise
            _note(self._place, self._now_ms(), "", anew=len(self._leaves) != known)
            return self._known()

    def cached(self) -> Membership | None:
        """Return who took part when that was read last; None where it never was.

        Raises:
            NotVerifiedError: what is remembered does not hold, or what was read last did not.
        """
        fault = str(_said(self._place).get("fault", ""))
        if fault:
            raise NotVerifiedError(fault)
        with self._mutex:
            with alone(self._place.folder, LOCK):
                self._load()
            return self._membership

    def entries(self) -> list[Entry]:
        """Return the acts that were seen."""
        with self._mutex:
            return [parse_leaf(leaf) for leaf in self._leaves]

    # -- the mutex is held --

    def _known(self) -> Membership:
        if self._membership is None:
            raise NotVerifiedError(
                "no federation was begun in this ledger; ask its operator for it"
            )
        return self._membership

    def _fetched(self, client: MembersClient) -> "tuple[_Reading, list[bytes]]":
        """Return what the coordinator shows after the acts that are known; each of it holds."""
        # the last one that is known is asked for again, so that another history shows
        overlap = max(0, len(self._leaves) - 1)
        reading, begins = _Reading(self._membership, self._last), not self._leaves
        size = sum(map(len, self._leaves))
        fresh: list[bytes] = []
        try:
            for leaf in client.acts(overlap):
                if not begins:
                    if leaf != self._leaves[-1]:
                        raise NotVerifiedError(_OTHER)
                    begins = True
                    continue
                size += len(leaf)
                if size > BYTES_MAX:
                    raise NotVerifiedError(
                        f"the coordinator shows more than {BYTES_MAX >> 20} MiB of acts; ask the "
                        "operator"
                    )
                reading.take(leaf)
                fresh.append(leaf)
        except InputError:
            pass  # it says that there are not so many
        if not begins:
            raise NotVerifiedError(_OTHER)
        return reading, fresh

    def _grow(self, leaves: Sequence[bytes], reading: "_Reading | None" = None) -> None:
        """Know these acts too, if what is known and these begin alike.

        Args:
            leaves: From the first one on.
            reading: Has read all of them after what was known; None: nobody has.
        """
        common = min(len(leaves), len(self._leaves))
        if leaves[:common] != self._leaves[:common]:
            raise NotVerifiedError(_OTHER)
        if len(leaves) == common:
            return
        if reading is None or reading.before is not self._membership:
            reading = _Reading(self._membership, self._last)
            for leaf in leaves[common:]:
                reading.take(leaf)
        membership = reading.roll.known()
        _require_ours(self._place, membership)
        self._membership, self._last = membership, reading.last
        self._leaves = list(leaves)
        self._is_unwritten = True

    def _load(self) -> None:
        """Take in what the file has, if another process wrote it."""
        stamp = _stamp(self._place.folder / CACHE)
        if stamp == self._stamp:
            return
        kept = _cached(self._place)
        self._grow(kept)
        self._stamp, self._is_unwritten = stamp, len(kept) < len(self._leaves)

    def _keep(self) -> None:
        path = self._place.folder / CACHE
        write_bytes(path, canonical_json([leaf.decode("ascii") for leaf in self._leaves]))
        self._stamp, self._is_unwritten = _stamp(path), False


class _Reading:
    """Acts, leaf by leaf."""

    def __init__(self, before: Membership | None, last: Entry | None) -> None:
        self.before, self.roll, self.last = before, Roll(before), last

    def take(self, leaf: bytes) -> None:
        entry = parse_leaf(leaf)
        if not is_act(entry.kind):
            raise NotVerifiedError(
                f"the coordinator shows {entry.kind} among the acts of the federation, and it is "
                "none; ask the operator"
            )
        before = self.last
        if before is not None and (entry.index <= before.index or entry.time_ms < before.time_ms):
            raise NotVerifiedError("acts of the federation are out of place; ask the operator")
        try:
            self.roll.take(entry)
        except NotVerifiedError as error:
            raise NotVerifiedError(f"entry {entry.index}: {error}") from None
        self.last = entry


def read_membership(place: Place, client: MembersClient) -> Membership:
    """Return who takes part now, and remember it; see `SeenActs.read`.

    Raises:
        TacitError: the coordinator cannot be asked.
        NotVerifiedError: an act does not hold, or the acts are not those that were seen before.
    """
    return SeenActs(place).read(client)


def read_acts(place: Place, client: MembersClient) -> list[Entry]:
    """Return all acts, those that are new from the coordinator; they fold, and are remembered.

    Raises:
        TacitError: the coordinator cannot be asked.
        NotVerifiedError: an act does not hold, or the acts are not those that were seen before.
    """
    seen = SeenActs(place)
    seen.read(client)
    return seen.entries()


def cached_membership(place: Place) -> Membership | None:
    """Return who took part when that was read last; None where it never was.

    Raises:
        NotVerifiedError: what is remembered does not hold, or what was read last did not.
    """
    return SeenActs(place).cached()


def read_ms(place: Place) -> int | None:
    """Return when the membership was read well last, milliseconds since 1970 UTC; None: never."""
    found = _said(place).get("read_ms")
    return found if type(found) is int else None


def fold_pinned(place: Place, entries: Iterable[Entry]) -> Membership:
    """Fold acts, held to the founder, the root and the name that came with the invitation.

    Raises:
        NotVerifiedError: they are another's.
    """
    membership = fold(entries, founder=place.founder_key, root=place.root_fingerprint)
    _require_ours(place, membership)
    return membership


def _require_ours(place: Place, found: Membership) -> None:
    """Require that it is the federation of the invitation."""
    if found.founder_key != place.founder_key:
        raise NotVerifiedError(
            "another key began the federation than the invitation names; ask who invited you"
        )
    if found.root != place.root_fingerprint:
        raise NotVerifiedError(
            "the federation has another root certificate than the invitation names; ask who "
            "invited you"
        )
    if found.federation != place.federation:
        raise NotVerifiedError("that is another federation than this machine joined")


def _cached(place: Place) -> list[bytes]:
    path = place.folder / CACHE
    try:
        value = parse_canonical(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ProtocolError):
        value = None
    if not isinstance(value, list) or not all(isinstance(leaf, str) for leaf in value):
        raise InputError(f"{path} is damaged; delete it, and it is read anew")
    return [leaf.encode() for leaf in value]


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes with a file; nothing where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _said(place: Place) -> dict[str, Any]:
    """What was written down of the last reading; nothing where there was none."""
    try:
        return read_json(place.folder / READ)
    except InputError:
        return {}


def _note(place: Place, now_ms: int, fault: str, *, anew: bool = False) -> None:
    """Write down that the acts were read, or why they did not hold."""
    before = _said(place)
    at_ms = before.get("read_ms")
    told = {"read_ms": at_ms if fault else now_ms, "fault": fault}
    recent = type(at_ms) is int and 0 <= now_ms - at_ms < READ_EVERY_MS
    if fault or anew or before.get("fault") or not recent:
        write_json(place.folder / READ, told)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
