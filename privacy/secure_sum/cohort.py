"""Who takes part in one sum, who masks with whom, and how many must stay.

Both sides compute this from the roster alone, so that nobody takes another's word for it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from privacy.canonical import framed
from privacy.errors import CohortError, ProtocolError
from privacy.keystream import keystream_words
from privacy.secure_sum.graph import neighbours, ring_order, threshold
from privacy.secure_sum.keys import SMALLEST_ROSTER, Roster
from privacy.sum_context import names_digest

# Fewer members make too few groups for a median that a wrong one cannot move.
SMALLEST_GROUPED = 12
# One is used up each time, but for a chance below 2^-50.
_WORDS_A_MEMBER = 4


@dataclass(frozen=True)
class Cohort:
    """The members who are asked for one sum; all of the roster, or one group of it.

    Attributes:
        roster: The run's.
        members: Their names, sorted.
        minimum: The fewest members that whoever holds this accepts in an opened sum, >= 2.
    """

    roster: Roster
    members: tuple[str, ...]
    minimum: int

    def __post_init__(self) -> None:
        if list(self.members) != sorted(set(self.members)):
            raise ProtocolError("a sum's members are given once each, in order; compare the roster")
        for member in self.members:
            self.roster.exchange_of(member)
        if len(self.members) < self.smallest:
            raise CohortError(
                f"a sum over {len(self.members)} members is asked for and this side insists on "
                f"{self.smallest}; wait for others to join"
            )

    @property
    def smallest(self) -> int:
        """The fewest survivors, whatever their neighbours."""
        return max(self.minimum, SMALLEST_ROSTER)

    @cached_property
    def digest(self) -> bytes:
        """`names_digest` of the members."""
        return names_digest(self.members)

    @cached_property
    def _neighbours(self) -> Mapping[str, tuple[str, ...]]:
        seed = hashlib.sha256(framed(b"tacit/graph/v1", self.roster.digest, self.digest)).digest()
        return neighbours(self.members, seed)

    def peers(self, member: str) -> tuple[str, ...]:
        """Return with whom `member` shares masks and secrets, sorted.

        Raises:
            ProtocolError: it is not of this cohort.
        """
        try:
            return self._neighbours[member]
        except KeyError:
            raise ProtocolError(f"{member} is not asked for this sum; leave it out") from None

    def holders(self, member: str) -> tuple[str, ...]:
        """Return who holds a share of `member`'s own mask: its peers and itself, sorted."""
        return tuple(sorted((*self.peers(member), member)))

    def threshold(self, member: str) -> int:
        """Return how many holders it takes: more than two thirds of them."""
        return threshold(len(self.holders(member)))

    def require_survivors(self, survivors: Sequence[str]) -> None:
        """Return if a sum over `survivors` may be opened.

        Raises:
            CohortError: they are fewer than the minimum, or leave a survivor without more than two
                thirds of those who hold its shares.
            ProtocolError: they are not in order, repeated, or not of this cohort.
        """
        if list(survivors) != sorted(set(survivors)):
            raise ProtocolError("survivors are given once each, in order; give them so")
        strangers = sorted(set(survivors) - set(self.members))
        if strangers:
            raise ProtocolError(f"{strangers[0]} is not asked for this sum; leave it out")
        if len(survivors) < self.smallest:
            raise CohortError(
                f"{len(survivors)} members are left and sums are opened over at least "
                f"{self.smallest}; missing: {', '.join(sorted(set(self.members) - set(survivors)))}"
            )
        alive = set(survivors)
        if len(alive) == len(self.members):
            return  # nobody is missing
        for member in survivors:
            holders = self.holders(member)
            if len(alive.intersection(holders)) < threshold(len(holders)):
                raise CohortError(
                    f"more than a third of those who hold shares of {member} are missing: "
                    f"{', '.join(name for name in holders if name not in alive)}"
                )


def groups_of(roster: Roster, size: int) -> tuple[tuple[str, ...], ...]:
    """Return the roster's members in groups of `size` members or a few more, the same for all.

    Which members are together follows from the run's id, so that no member can choose its own
    group by the key that it offers. It stays so for the whole run: groups that changed from round
    to round would show single members as differences. Everybody is shown each group's sum, so a
    member is hidden among the honest members of its group alone.

    Args:
        roster: Of at least `size` members.
        size: The fewest members of a group; 0 for one group of all.
    """
    if size == 0:
        return (roster.members,)
    seed = hashlib.sha256(
        framed(b"tacit/groups/v1", roster.run, names_digest(roster.members))
    ).digest()
    order = ring_order(
        len(roster.members),
        iter(keystream_words(seed, _WORDS_A_MEMBER * len(roster.members)).tolist()),
    )
    names = [roster.members[place] for place in order]
    count = max(1, len(names) // size)
    return tuple(tuple(sorted(names[place::count])) for place in range(count))
