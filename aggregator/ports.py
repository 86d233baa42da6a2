"""What a coordinator needs from outside: a courier, a ledger, a clock and somebody who watches."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from privacy.messages import Reply, Request

Answer = tuple[Reply, bytes]


class Transport(Protocol):
    """Carries requests to nodes and their replies back."""

    @property
    def names(self) -> Mapping[int, str]:
        """Whose node is at an address, as far as the courier knows by itself."""
        ...

    def nodes(self) -> tuple[int, ...]:
        """Addresses of the nodes that can be reached now."""
        ...

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
        """Send one request to each node and return the replies that came.

        It waits for the nodes in `needed`, at most `deadline_s` seconds, and for the others
        `grace_s` longer. A node that cannot be reached for a while is not waited for, unless fewer
        than `enough` answered. A node that failed is not in what is returned; a reply that cannot
        be read is a `Refused` that says so; one that comes later is lost, and its node asked anew
        with the next request.
        """
        ...


@dataclass(frozen=True, slots=True)
class State:
    """The ledger at one size, signed by its key.

    Attributes:
        size: Entries.
        note: The checkpoint (C2SP tlog-checkpoint).
    """

    size: int
    note: bytes


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry, and that it is in a signed state.

    Attributes:
        leaf: The entry.
        index: Its place.
        path: The proof of inclusion.
        state: The state that has it.
    """

    leaf: bytes
    index: int
    path: tuple[bytes, ...]
    state: State


class Ledger(Protocol):
    """Where a run's acts are recorded, before their consequences leave."""

    def record(self, kind: str, body: Mapping[str, object]) -> None:
        """Append one entry, durably.

        Raises:
            InputError: It could not be written; then nothing may be released.
        """
        ...

    def reserve(self, bodies: Sequence[Mapping[str, object]]) -> Sequence[Recorded]:
        """Append a `sum.reserved` for each body, durably, and sign one state that has all of them.

        Raises:
            InputError: It could not be written; then nothing may be opened.
            NotVerifiedError: The ledger is not what was written; then nothing is signed.
        """
        ...

    def recorded(self, kind: str, about: Mapping[str, object]) -> Mapping[str, object] | None:
        """Return the body of an act that is on record; None where it is not.

        Args:
            kind: Of the act.
            about: At least the fields that name it.
        """
        ...

    def showing(self) -> AbstractContextManager[None]:
        """Hold the ledger's state while members are shown it.

        Runs side by side share a ledger; a member that was shown a later state cosigns no earlier
        one. So one run at a time reserves a sum and hears who cosigned that.
        """
        ...

    def witnessed(self, public: bytes) -> int:
        """Entries of the ledger when the holder of a key cosigned it last, as far as is known."""
        ...

    def note_witnessed(self, public: bytes, size: int) -> None:
        """The holder of a key says that it cosigned so many entries."""
        ...

    def heads(self) -> Mapping[bytes, int]:
        """Return a member's public key -> the most entries that its own ledger ever had here."""
        ...

    def state(self) -> State:
        """Sign the ledger as it is now.

        Raises:
            NotVerifiedError: It is not what was written; then nothing is signed.
        """
        ...

    def rotations(self, state: State) -> Sequence[Recorded]:
        """Return each change of the ledger's key, in order, with the proof that it is in `state`.

        Raises:
            InputError: The ledger cannot be read.
        """
        ...

    def growth(self, old: int, state: State) -> tuple[bytes, ...]:
        """Return the proof that `state` begins with the first `old` entries."""
        ...

    def cosigned(
        self, run: str, state: State, cosignatures: Mapping[str, tuple[bytes, bytes]]
    ) -> None:
        """Keep a run's newest state with who cosigned it.

        Args:
            run: The run. An earlier state that was kept for it is kept no longer where this one
                has as many cosignatures.
            state: As it was shown; cosignatures that were kept under it before stay.
            cosignatures: Member -> its public key, and the cosignature.

        Raises:
            NotVerifiedError: A cosignature does not hold.
        """
        ...


class Observer(Protocol):
    """Told of progress; never asked."""

    def step(self, name: str) -> None:
        """A step of the run began."""
        ...

    def answered(self, member: str, answer: str, reason: str) -> None:
        """A member answered to the invitation.

        Args:
            member: Who.
            answer: `agreed`, `refused`, `pending` or `absent`.
            reason: In its own words, printable; empty where there is none.
        """
        ...

    def round(self, index: int, *, watched: bool, facts: Mapping[str, float]) -> None:
        """A round was committed.

        Args:
            index: From 1.
            watched: Whether it was evaluated on the members' validation parts; members hold what
                was found.
            facts: `bytes_up` and `bytes_down` of one member.
        """
        ...

    def note(self, sentence: str) -> None:
        """Something that a person should know went otherwise: a member is away, a round undone."""
        ...


class Notebook(Protocol):
    """Where a coordinator writes down how far a run is, so that another process can go on."""

    def read(self) -> bytes | None:
        """Return what was written last; None where nothing was.

        Raises:
            InputError: It cannot be read.
        """
        ...

    def write(self, state: bytes) -> None:
        """Replace what was written, durably; whole or not at all.

        Raises:
            InputError: It could not be written; what was there stays.
        """
        ...

    def keep(self, payload: bytes) -> str:
        """Keep bytes, durably once `write` returned; return a name for them.

        Raises:
            InputError: They could not be written.
        """
        ...

    def kept(self, name: str) -> bytes:
        """Return what was kept under a name.

        Raises:
            NotVerifiedError: It is not there, or was changed.
        """
        ...

    def keep_only(self, names: Collection[str]) -> None:
        """Forget what was kept under other names."""
        ...
