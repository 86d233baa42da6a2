"""The coordinator's half of one sum: it collects, and learns the sum's payload and nothing else.

    take ..    vectors arrive; after `close`, a vector is late and told so
    vote ..    every survivor signs who is left; who does not sign is left out, and all sign anew
    answer ..  survivors reveal shares of the survivors' own masks
    open       masks are taken away; the sum is there

It decides nothing that protects a member: each member checks every step by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from privacy.errors import CohortError, ProtocolError
from privacy.secure_sum import DIGEST_BYTES, Answer, SealedVector, Vote
from privacy.secure_sum.carrier import Adder
from privacy.secure_sum.cohort import Cohort
from privacy.secure_sum.sealer import seed_commitment
from privacy.secure_sum.statements import (
    check_answer,
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
        votes: Their signatures under that, without the seeds.
        payload: As the carrier gives it; members open it.
    """

    survivors: tuple[str, ...]
    votes: tuple[Vote, ...]
    payload: bytes


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
        self._answers: dict[str, Answer] = {}
        self._opened = False

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
        check_sealed(self._scheme, vector, self._cohort.roster.directory)
        commitments = len(peers) + 2 if self._masked else 0
        if set(vector.boxes) != set(peers if self._masked else ()):
            raise ProtocolError(
                f"{sender} did not share its mask among its neighbours; leave it out"
            )
        if len(vector.commitments) != commitments:
            raise ProtocolError(f"{sender} is not bound to its shares; leave it out")
        self._sealed[sender] = vector

    def close(self) -> tuple[str, ...]:
        """Take no more vectors; return whose are there, to be voted on.

        Raises:
            CohortError: too few; nothing can be opened and nothing was revealed.
        """
        self._settle(tuple(sorted(self._sealed)))
        return self.survivors

    def _settle(self, survivors: tuple[str, ...]) -> None:
        self._cohort.require_survivors(survivors)
        self._survivors = survivors
        self._votes.clear()

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
            ProtocolError: it is no survivor's, repeated, for other survivors, or without the seeds
                that are due.
        """
        survivors = self.survivors
        if vote.member in self._votes:
            raise ProtocolError(f"{vote.member} voted twice; the first one counts")
        check_vote(
            vote,
            context=self._context,
            survivors=survivors,
            directory=self._cohort.roster.directory,
        )
        if set(vote.seeds) != set(self._gone(vote.member)) or any(
            len(seed) != _SEED_BYTES for seed in vote.seeds.values()
        ):
            raise ProtocolError(f"{vote.member} did not give the masks that are due; leave it out")
        self._votes[vote.member] = vote

    def _gone(self, member: str) -> tuple[str, ...]:
        """Neighbours of a survivor that are none; their masks with it have to be taken away."""
        if not self._masked:
            return ()
        return tuple(p for p in self._cohort.peers(member) if p not in self.survivors)

    def shrink(self) -> bool:
        """After the votes: leave out who did not vote, if the sum needs that.

        Returns:
            Whether the survivors became fewer; then all of them vote anew.

        Raises:
            CohortError: too few are left; nothing was revealed but masks of those left out.
        """
        survivors = self.survivors
        needed = [member for member in survivors if self._gone(member)]
        enough = all(
            len([h for h in self._cohort.holders(member) if h in self._votes])
            >= self._cohort.threshold(member)
            for member in survivors
        )
        if enough and all(member in self._votes for member in needed):
            return False
        self._settle(tuple(member for member in survivors if member in self._votes))
        return True

    def votes_for(self, member: str) -> tuple[Vote, ...]:
        """Return the votes that `member` needs to see, without their seeds."""
        holders = set(self._cohort.holders(member))
        return tuple(
            Vote(name, vote.signature, {}) for name, vote in self._votes.items() if name in holders
        )

    def boxes_for(self, member: str) -> Mapping[str, bytes]:
        """Return what the survivors among `member`'s neighbours sealed for it."""
        return {
            peer: self._sealed[peer].boxes[member]
            for peer in self._cohort.peers(member)
            if peer in self.survivors
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
        """Keep a survivor's answer.

        Raises:
            ProtocolError: it is no survivor's, repeated, not signed for this sum, or holds a share
                that its dealer did not bind itself to.
        """
        if answer.member in self._answers:
            raise ProtocolError(f"{answer.member} answered twice; the first one counts")
        check_answer(
            answer,
            context=self._context,
            survivors=self.survivors,
            directory=self._cohort.roster.directory,
        )
        for dealer, share in answer.shares.items():
            self._require_share(answer.member, dealer, share)
        self._answers[answer.member] = answer

    def _require_share(self, holder: str, dealer: str, share: bytes) -> None:
        if dealer not in self.survivors or len(share) != SHARE_BYTES:
            raise ProtocolError(f"{holder} gave a share of no survivor; leave its answer out")
        holders = self._cohort.holders(dealer)
        if holder not in holders:
            raise ProtocolError(f"{holder} gave a share that it cannot hold; leave its answer out")
        bound = self._sealed[dealer].commitments[1 + holders.index(holder)]
        if share_commitment(self._context, dealer, holder, share) != bound:
            raise ProtocolError(
                f"{holder} gave another share than {dealer} dealt; one of them is at fault"
            )

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
            place: self._answers[holder].shares[dealer]
            for place, holder in enumerate(self._cohort.holders(dealer))
            if holder in self._answers and dealer in self._answers[holder].shares
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
        if missing := self.missing():
            raise CohortError(
                f"shares of the masks of {', '.join(missing)} are missing; the sum stays closed"
            )
        seeds = [self._seed_of(member) for member in survivors] if self._masked else []
        added: list[bytes] = []
        subtracted = seeds
        for member in survivors:
            for peer in self._gone(member):
                if member not in self._votes:
                    raise CohortError(f"{member} did not vote; the sum stays closed")
                # The survivor added where its name comes first; here it is taken away.
                (subtracted if member < peer else added).append(self._votes[member].seeds[peer])
        for member in survivors:
            try:
                self._adder.add(self._sealed[member].payload)
            except ProtocolError as fault:
                raise ProtocolError(f"{member}: {fault}") from None
        if added or subtracted:
            self._adder.correct(added=added, subtracted=subtracted)
        self._opened = True
        votes = tuple(Vote(m, vote.signature, {}) for m, vote in sorted(self._votes.items()))
        return OpenedSum(survivors, votes, self._adder.payload())

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
