"""The coordinator's half of one sum: it collects, and learns the sum's payload and nothing else.

    take ..    vectors arrive; after `close`, a vector is late and told so
    vote ..    survivors sign who is left
    release .. they give the masks with those who are not; who does not give them is left out, and
               all sign anew
    answer ..  they reveal shares of the survivors' own masks
    open       masks are taken away; the sum is there

It decides nothing that protects a member: each member checks every step by itself.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from privacy.errors import CohortError, ProtocolError
from privacy.secure_sum import DIGEST_BYTES, Answer, Release, SealedVector, Vote
from privacy.secure_sum.carrier import Adder
from privacy.secure_sum.cohort import Cohort
from privacy.secure_sum.sealer import seed_commitment
from privacy.secure_sum.statements import (
    check_answer,
    check_release,
    check_sealed,
    check_vote,
    share_commitment,
)
from privacy.shamir import SHARE_BYTES, combine
from privacy.sum_context import SumContext

_SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class OpenedSum:
    """A sum as it goes back to the members.

    Attributes:
        survivors: Whose vectors are in it.
        votes: Their signatures under that.
        payload: As the carrier gives it; members open it.
    """

    survivors: tuple[str, ...]
    votes: tuple[Vote, ...]
    payload: bytes = field(repr=False)


class Gathering:
    """One sum at the coordinator; see the module."""

    def __init__(
        self, context: SumContext, cohort: Cohort, *, scheme: str, adder: Adder, masked: bool
    ) -> None:
        """Begin to collect.

        Raises:
            ProtocolError: the context is of another roster or cohort.
        """
        if context.roster != cohort.roster.digest or context.cohort != cohort.digest:
            raise ProtocolError("the sum is over another cohort; compare who is asked")
        self._context = context.digest()
        self._cohort = cohort
        self._scheme = scheme
        self._adder = adder
        self._masked = masked
        self._sealed: dict[str, SealedVector] = {}
        self._survivors: tuple[str, ...] | None = None
        self._votes: dict[str, Vote] = {}
        self._seeds: dict[tuple[str, str], bytes] = {}
        self._shares: dict[str, dict[str, bytes]] = {}
        self._opened = False
        self.faults: list[str] = []

    @property
    def context(self) -> bytes:
        """Digest of the sum's context."""
        return self._context

    def take(self, vector: SealedVector) -> None:
        """Keep a member's vector.

        Raises:
            CohortError: it is late; its member sends with the next sum.
            ProtocolError: it is from outside the cohort, repeated, malformed, of another sum, or
                its signature does not verify.
        """
        sender = vector.sender
        peers = self._cohort.peers(sender)
        if self._survivors is not None:
            raise CohortError(
                f"the vector of {sender} came late and stays unread; it sends with the next sum"
            )
        if sender in self._sealed:
            raise ProtocolError(f"{sender} sent two vectors; the first one counts")
        if vector.context != self._context:
            raise ProtocolError(f"{sender} sealed its vector for another sum; ask it again")
        check_sealed(self._scheme, vector, self._cohort.roster)
        commitments = len(peers) + 2 if self._masked else 0
        if set(vector.boxes) != set(peers if self._masked else ()):
            raise ProtocolError(
                f"{sender} did not share its mask among its neighbours; leave it out"
            )
        if len(vector.commitments) != commitments:
            raise ProtocolError(f"{sender} is not bound to its shares; leave it out")
        self._sealed[sender] = vector

    def close(self, *, over: Sequence[str] | None = None) -> tuple[str, ...]:
        """Take no more vectors; return whose are there, to be voted on.

        Args:
            over: Whom the sum is over, where all of them are there: members sign no second sum
                about the same rows over others.

        Raises:
            CohortError: too few; nothing can be opened and nothing was revealed.
        """
        wanted = set(self._sealed if over is None else over)
        # sets are ordered by inclusion: this is `wanted` where all of them are there
        chosen = wanted if wanted.issubset(self._sealed) else set(self._sealed)
        self._settle(tuple(sorted(chosen)))
        return self.survivors

    def _settle(self, survivors: tuple[str, ...]) -> None:
        self._cohort.require_survivors(survivors)
        self._survivors = survivors
        self._votes.clear()

    @property
    def arrived(self) -> tuple[str, ...]:
        """Whose vectors are here, survivors or not, sorted."""
        return tuple(sorted(self._sealed))

    @property
    def survivors(self) -> tuple[str, ...]:
        """Who is left, sorted.

        Raises:
            ProtocolError: vectors are still taken.
        """
        if self._survivors is None:
            raise ProtocolError("vectors are still taken; close the sum first")
        return self._survivors

    def take_vote(self, vote: Vote) -> None:
        """Keep a survivor's vote.

        Raises:
            ProtocolError: it is no survivor's, repeated, or for other survivors.
        """
        if vote.member in self._votes:
            raise ProtocolError(f"{vote.member} voted twice; the first one counts")
        check_vote(
            vote,
            context=self._context,
            survivors=self.survivors,
            roster=self._cohort.roster,
        )
        self._votes[vote.member] = vote

    def leave_silent_out(self, here: Collection[str] = ()) -> bool:
        """After the votes: leave out who did not vote, where too few did.

        Args:
            here: Who answered, a vote or not. Who refused over somebody that is gone is asked anew
                without that one, before it is left out itself.

        Returns:
            Whether the survivors became fewer; then all of them vote anew.

        Raises:
            CohortError: too few are left; nothing was told.
        """
        if self._has_votes:
            return False
        silent = {member for member in self.survivors if member not in self._votes}
        away = silent.difference(here)
        self._settle(tuple(m for m in self.survivors if m not in (away or silent)))
        return True

    @property
    def _has_votes(self) -> bool:
        """Whether more than two thirds of each survivor's holders voted."""
        return all(
            len([h for h in self._cohort.holders(member) if h in self._votes])
            >= self._cohort.threshold(member)
            for member in self.survivors
        )

    def _unknown(self, member: str) -> tuple[str, ...]:
        """Neighbours that are gone, and whose mask with a survivor is not known yet."""
        if not self._masked:
            return ()
        alive = frozenset(self.survivors)
        return tuple(
            peer
            for peer in self._cohort.peers(member)
            if peer not in alive and (member, peer) not in self._seeds
        )

    @property
    def unreleased(self) -> tuple[str, ...]:
        """Survivors whose masks with those who are gone are not known yet, sorted."""
        return tuple(member for member in self.survivors if self._unknown(member))

    def take_release(self, release: Release) -> None:
        """Keep the masks that a survivor gave.

        Raises:
            ProtocolError: it is no survivor's, not signed for this sum and these survivors, or
                without the masks that are due.
        """
        check_release(
            release,
            context=self._context,
            survivors=self.survivors,
            roster=self._cohort.roster,
        )
        member = release.member
        gone = {peer for peer in self._cohort.peers(member) if peer not in self.survivors}
        if release.seeds.keys() != gone or any(
            len(seed) != _SEED_BYTES for seed in release.seeds.values()
        ):
            raise ProtocolError(f"{member} did not give the masks that are due; leave it out")
        for peer, seed in release.seeds.items():
            self._seeds[(member, peer)] = seed

    def leave_unreleased_out(self) -> bool:
        """After the releases: leave out who did not give its masks.

        Returns:
            Whether the survivors became fewer; then all of them vote and release anew.

        Raises:
            CohortError: too few are left; nothing was told but masks with those left out.
        """
        missing = self.unreleased
        if missing:
            self._settle(tuple(member for member in self.survivors if member not in missing))
        return bool(missing)

    def votes_for(self, member: str) -> tuple[Vote, ...]:
        """Return the votes that `member` needs to see."""
        holders = set(self._cohort.holders(member))
        return tuple(vote for name, vote in self._votes.items() if name in holders)

    def boxes_for(self, member: str) -> Mapping[str, bytes]:
        """Return what the survivors among `member`'s neighbours sealed for it."""
        alive = frozenset(self.survivors)
        return {
            peer: self._sealed[peer].boxes[member]
            for peer in self._cohort.peers(member)
            if peer in alive
        }

    @property
    def voters(self) -> tuple[str, ...]:
        """Who voted on the survivors as they are, sorted."""
        return tuple(sorted(self._votes))

    @property
    def needs_answers(self) -> bool:
        """Whether this scheme has masks that survivors have to take away."""
        return self._masked

    def take_answer(self, answer: Answer) -> None:
        """Keep the shares of a survivor's answer that their dealers bound themselves to.

        Where a share is another than was dealt, holder or dealer is at fault, and it cannot be
        told which; that share is left out, the others count. `faults` says so.

        Raises:
            ProtocolError: it is no survivor's, repeated, not signed for this sum, or holds what is
                no share of a survivor.
        """
        if not self._masked:
            raise ProtocolError("sums of this scheme have no masks; no answer is due")
        if answer.member in self._shares:
            raise ProtocolError(f"{answer.member} answered twice; the first one counts")
        check_answer(
            answer,
            context=self._context,
            survivors=self.survivors,
            roster=self._cohort.roster,
        )
        holder, alive = answer.member, frozenset(self.survivors)
        kept: dict[str, bytes] = {}
        for dealer, share in answer.shares.items():
            if dealer not in alive or len(share) != SHARE_BYTES:
                raise ProtocolError(f"{holder} gave a share of no survivor; leave its answer out")
            holders = self._cohort.holders(dealer)
            if holder not in holders:
                raise ProtocolError(f"{holder} gave a share that it cannot hold; leave it out")
            bound = self._sealed[dealer].commitments[1 + holders.index(holder)]
            if share_commitment(self._context, dealer, holder, share) == bound:
                kept[dealer] = share
            else:
                self.faults.append(
                    f"{holder} gave another share than {dealer} dealt; one of them is at fault"
                )
        self._shares[holder] = kept

    def missing(self) -> tuple[str, ...]:
        """Return the survivors whose masks cannot be taken away yet, sorted."""
        if not self._masked:
            return ()
        return tuple(
            member
            for member in self.survivors
            if len(self._shares_of(member)) < self._cohort.threshold(member)
        )

    def _shares_of(self, dealer: str) -> dict[int, bytes]:
        return {
            place: self._shares[holder][dealer]
            for place, holder in enumerate(self._cohort.holders(dealer))
            if dealer in self._shares.get(holder, {})
        }

    def open(self) -> OpenedSum:
        """Take the masks away and return the sum.

        Raises:
            CohortError: votes or shares are missing; they are named.
            ProtocolError: a payload is malformed or of another length, or a dealer's shares are of
                no seed that it bound itself to; it is named.
        """
        survivors = self.survivors
        if self._opened:
            raise ProtocolError("this sum was opened; it is opened once")
        if not self._has_votes:
            raise CohortError("too few members signed who this sum is over; it stays closed")
        if self.unreleased:
            raise CohortError(
                f"masks of {', '.join(self.unreleased)} with those who left are missing; the sum "
                "stays closed"
            )
        if missing := self.missing():
            raise CohortError(
                f"shares of the masks of {', '.join(missing)} are missing; the sum stays closed"
            )
        added, subtracted = self._corrections()
        self._opened = True
        for member in survivors:
            try:
                self._adder.add(self._sealed[member].payload)
            except ProtocolError as fault:
                raise ProtocolError(f"{member}: {fault}") from None
        if added or subtracted:
            self._adder.correct(added=added, subtracted=subtracted)
        votes = tuple(vote for _, vote in sorted(self._votes.items()))
        return OpenedSum(survivors, votes, self._adder.payload())

    def _corrections(self) -> tuple[list[bytes], list[bytes]]:
        """Keys of the streams to add to the sum, and to subtract, so that no mask is left."""
        added: list[bytes] = []
        subtracted: list[bytes] = []
        if not self._masked:
            return added, subtracted
        alive = frozenset(self.survivors)
        for member in self.survivors:
            subtracted.append(self._seed_of(member))
            for peer in self._cohort.peers(member):
                if peer not in alive:
                    # The survivor added where its name comes first; here it is taken away.
                    keys = subtracted if member < peer else added
                    keys.append(self._seeds[(member, peer)])
        return added, subtracted

    def _seed_of(self, dealer: str) -> bytes:
        bound = self._sealed[dealer].commitments[0]
        try:
            seed = combine(self._shares_of(dealer), threshold=self._cohort.threshold(dealer))
        except CohortError:
            raise
        except ProtocolError:
            seed = b""
        if len(bound) != DIGEST_BYTES or seed_commitment(self._context, dealer, seed) != bound:
            raise ProtocolError(
                f"{dealer} dealt shares of no one seed; the sum stays closed, and it is at fault"
            )
        return seed
