"""Participants as witnesses: who has no node may cosign with the key that it joined with.

A member's node cosigns with that key in each run, from a memory of its own. A second memory under
one key could sign a second history.
"""

from collections.abc import Callable, Iterator, Mapping

from privacy.ledger.keys import cosigner_key
from privacy.ledger.note import VerifierKey
from privacy.membership import MEMBERS, Membership


class ParticipantWitnesses(Mapping[str, VerifierKey]):
    """Name of a caller -> the key that it cosigns with, as the acts on record have it now."""

    def __init__(
        self, membership: Callable[[], Membership], given: Mapping[str, VerifierKey]
    ) -> None:
        """Look at who takes part with each question.

        Args:
            membership: Returns who takes part now.
            given: Witnesses whom the operator named itself; they come first.
        """
        self._membership = membership
        self._given = dict(given)

    def __getitem__(self, name: str) -> VerifierKey:
        """Return the key of whoever has the name.

        Raises:
            KeyError: nobody takes part under it, or a member does.
        """
        given = self._given.get(name)
        return given or cosigner_key(name, self._keys()[name])

    def __iter__(self) -> Iterator[str]:
        return iter({**self._given, **self._keys()})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _keys(self) -> Mapping[str, bytes]:
        active = self._membership().active()
        return {name: one.key for name, one in active.items() if one.role not in MEMBERS}
