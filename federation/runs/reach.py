"""A participant's connections to its federation's coordinator."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from federation.home import Home
from federation.ledger_pin import newest_state, read_pin
from federation.participant import Place, load_participant
from federation.registry.client import RegistryClient
from federation.registry.source import AbsentError
from federation.runs.client import RunsClient
from privacy.errors import NotVerifiedError
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.store import head_of

if TYPE_CHECKING:
    from privacy.membership import Membership


@dataclass(frozen=True, slots=True)
class Reach:
    """What a participant can ask.

    Attributes:
        place: Its own place in the federation.
        runs: About runs.
        registry: About ledgers.
    """

    place: Place
    runs: RunsClient
    registry: RegistryClient

    def membership(self) -> "Membership":
        """Return who is in the federation, verified back to its founder.

        Raises:
            TacitError: The coordinator cannot be asked, or what it tells does not hold.
        """
        from federation.members.client import MembersClient
        from federation.roster import read_membership

        with MembersClient(self.place.registry, self.place.credentials()) as client:
            return read_membership(self.place, client)

    def ledger_key(self) -> bytes:
        """Return the key that the coordinator's ledger has now: the first, or what it led to.

        Raises:
            TacitError: The coordinator cannot be asked.
            NotVerifiedError: Nothing shows that the key which is known led to the one it has.
        """
        try:
            pin, _ = newest_state(self.place, self.registry)
        except AbsentError:
            pin = read_pin(self.place)  # nothing of it is signed yet
        return pin.key.public

    def ledger(self) -> MemoryLedger:
        """Return a copy of the coordinator's ledger, held against its newest signed state.

        Raises:
            TacitError: The coordinator cannot be asked.
            NotVerifiedError: What it sends is not what it signed.
        """
        origin = self.place.ledger_origin
        _, state = newest_state(self.place, self.registry)
        size = next(
            (one.size for one in self.registry.ledgers().ledgers if one.origin == origin), 0
        )
        copy = MemoryLedger(
            self.registry.entries(origin, 0, max(size, state.size)),
            place=f"the ledger of {self.place.registry}",
        )
        if head_of(copy, state.size).root != state.root.hex():
            raise NotVerifiedError(
                f"the coordinator {self.place.registry} sends another ledger than it signed; "
                "tell the other members"
            )
        return copy


@contextmanager
def reached(home: Home) -> Iterator[Reach]:
    """Connect as this machine's participant; nothing is asked yet.

    Raises:
        InputError: This machine is in no federation, or its keys cannot be used.
    """
    place = load_participant(home)
    credentials = place.credentials()
    with ExitStack() as stack:
        runs = stack.enter_context(RunsClient(place.registry, credentials))
        registry = stack.enter_context(RegistryClient(place.registry, credentials))
        yield Reach(place, runs, registry)
