"""A member's half of the sums of one run: it seals, votes, and reveals; and protects itself.

Double masking (Bonawitz et al. 2017, CCS, section 4) in a graph of neighbours (Bell et al. 2020,
CCS). Each vector carries a mask for each neighbour, which cancels against that neighbour's, and one
of the member's own, whose seed is shared among the neighbours. Two things differ from those papers,
and `docs/adr/0008` argues both. Exchange keys serve a whole run, and are never shared or rebuilt:
where a member is missing, each survivor gives the key of the one stream that this one sum had with
it. And nothing is told, neither these keys nor shares, but for a set of survivors that more than
two thirds of the member's holders signed; a set can only shrink, and is then signed anew.

Formal guarantee, for one sum of n members who all mask with each other (up to 32): whoever sees
everything but the keys of the honest members, and holds those of f < 2t - n members
(t = `threshold(n)` > 2n/3), learns of the honest members' vectors one sum, over one set of
survivors of at least the minimum size, and nothing else; as long as the suite's algorithms,
AES-256, SHA-256, BLAKE3 and Ed25519 are what they are taken for. In a graph of
neighbours the same is argued, not proved, for up to a tenth of the members chosen before the graph
is known (`graph`). With `hybrid` this holds against whoever breaks X25519 too: each pair has
a secret that one sent to the other under ML-KEM-768 (`pair_keys`).
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec
import numpy as np

from privacy.canonical import framed
from privacy.errors import CohortError, ProtocolError
from privacy.identity import Identity
from privacy.keystream import KEY_BYTES, Words
from privacy.randomness import Entropy
from privacy.secure_sum import Answer, Release, SealedVector, Vote
from privacy.secure_sum.carrier import Wrap
from privacy.secure_sum.cohort import Cohort
from privacy.secure_sum.keys import SMALLEST_ROSTER, ExchangeKey, Roster
from privacy.secure_sum.statements import (
    ANSWER_DOMAIN,
    RELEASE_DOMAIN,
    SEALED_DOMAIN,
    check_vote,
    check_votes,
    sealed_message,
    share_commitment,
    told_message,
)
from privacy.shamir import SHARE_BYTES, split
from privacy.suites import Suite
from privacy.suites.intl import INTL
from privacy.suites.voice import Voice, voice_of
from privacy.sum_context import SURVIVORS_DOMAIN, SumContext, survivors_message

# Each box has a key of its own, so its nonce may be fixed.
_NONCE = bytes(12)


class KeptSum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The one sum under way on its member's own disk; written before a vector, vote or share left.

    Attributes:
        context: Its digest.
        own_share: This member's share of its own seed; empty where nothing is masked.
        survivors: On whom it voted last; none before it did.
        vote: The signature of that vote; empty before.
        shares: What it revealed; None before it did.
        answer: The signature of that; empty before.
    """

    context: bytes
    own_share: bytes
    survivors: tuple[str, ...]
    vote: bytes
    shares: dict[str, bytes] | None
    answer: bytes

    def __repr__(self) -> str:
        return f"KeptSum(context={self.context.hex()[:16]}..)"


@dataclass(kw_only=True)
class _Pending:
    """The one sum that is under way.

    Attributes:
        context: Its digest.
        cohort: Who is asked.
        own_share: This member's share of its own seed.
        survivors: On whom it voted last.
        vote: That vote.
        answer: What it revealed; afterwards it votes and tells nothing else.
    """

    context: bytes
    cohort: Cohort
    own_share: bytes = field(repr=False)
    survivors: tuple[str, ...] | None = None
    vote: Vote | None = None
    answer: Answer | None = None


class Sealer:
    """See the module. It belongs to one member, one run, one roster and one scheme."""

    __slots__ = (
        "_entropy",
        "_key",
        "_masked",
        "_pair_keys",
        "_pairs",
        "_pending",
        "_roster",
        "_scheme",
        "_shared",
        "_voice",
        "_wrap",
        "member",
    )

    def __init__(
        self,
        member: str,
        identity: Identity | Voice,
        key: ExchangeKey,
        roster: Roster,
        *,
        scheme: str,
        wrap: Wrap,
        masked: bool,
        entropy: Entropy,
        shared: bytes = b"",
        pair_keys: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """Take part in the sums of `roster`.

        `shared` is the secret of the run's group key (`GroupKey.tag_secret`), `pair_keys` what
        each neighbour and this member sent each other (`pair_keys`). Pair secrets need both where
        the suite's own agreement does not hold alone (`Suite.static_holds`).

        Raises:
            CohortError: there is no other member, so nothing would hide this one's vectors.
            ProtocolError: the roster does not hold this member with this identity and this key,
                or the key serves another roster.
        """
        if len(roster.offers) < SMALLEST_ROSTER:
            raise CohortError("a sum over one member hides nothing; wait for others to join")
        if roster.exchange_of(member) != key.public:
            raise ProtocolError(f"the roster holds another exchange key for {member}; offer anew")
        if roster.directory[member] != identity.public:
            raise ProtocolError(f"the directory has another key for {member}; get the current one")
        voice = voice_of(identity, roster.suite)
        if roster.beside_of(member) != voice.beside:
            raise ProtocolError(f"the roster holds another signing key for {member}; offer anew")
        if masked and not roster.suite.static_holds and len(shared) != KEY_BYTES:
            raise ProtocolError(
                f"the suite {roster.suite.id} needs the run's group key; open it first"
            )
        key.bind(roster.digest)
        self._pair_keys = dict(pair_keys)
        self._shared = b"" if roster.suite.static_holds else shared
        self.member = member
        self._voice = voice
        self._key = key
        self._roster = roster
        self._scheme = scheme
        self._wrap = wrap
        self._masked = masked
        self._entropy = entropy
        self._pairs: dict[str, bytes] = {}
        self._pending: _Pending | None = None

    def __repr__(self) -> str:
        return f"Sealer(member={self.member!r}, scheme={self._scheme!r})"

    def require_pairs(self, cohort: Cohort) -> None:
        """Return if this member has what it shares with each neighbour, where sums are masked.

        Raises:
            ProtocolError: a secret was not sent yet; `seal` would fail.
        """
        for peer in cohort.peers(self.member) if self._masked else ():
            self._pair(peer)

    def seal(self, words: Words, *, bits: int, context: SumContext, cohort: Cohort) -> SealedVector:
        """Hide and sign `words` for the sum `context` over `cohort`.

        A sum that was under way before is closed for ever: nothing is revealed for it any more.

        Args:
            words: uint64, shape (w,), w >= 1, each below 2^bits, and so is the sum over the cohort.
            bits: 1 to 64.
            context: Of this run, roster and cohort.
            cohort: Who is asked; this member among them.

        Raises:
            ProtocolError: the context is of another run, roster or cohort, or was sealed before.
            ValueError: these are no such words.
        """
        if words.dtype != np.uint64 or words.ndim != 1 or not len(words):
            raise ValueError(f"need uint64 of shape (w,), not {words.dtype} {words.shape}")
        require_own(context, cohort, self._roster)
        digest = context.digest()
        peers = cohort.peers(self.member)
        self._key.use_for(digest)
        self._pending = None
        numbers = self._wrap.prepare(words, bits=bits)
        boxes: dict[str, bytes] = {}
        commitments: tuple[bytes, ...] = ()
        own_share = b""
        if self._masked:
            seed = self._entropy(KEY_BYTES)
            numbers = self._masked_numbers(numbers, digest, peers, seed)
            holders = cohort.holders(self.member)
            shares = split(
                seed,
                holders=len(holders),
                threshold=cohort.threshold(self.member),
                entropy=self._entropy,
            )
            dealt = dict(zip(holders, shares, strict=True))
            own_share = dealt[self.member]
            boxes = {peer: self._box(digest, peer, dealt[peer]) for peer in peers}
            commitments = (
                seed_commitment(digest, self.member, seed),
                *(share_commitment(digest, self.member, h, share) for h, share in dealt.items()),
            )
        self._pending = _Pending(context=digest, cohort=cohort, own_share=own_share)
        unsigned = SealedVector(
            self.member, digest, self._wrap.close(numbers), boxes, commitments, b""
        )
        message = sealed_message(self._scheme, unsigned)
        return SealedVector(
            self.member,
            digest,
            unsigned.payload,
            boxes,
            commitments,
            self._voice.sign(SEALED_DOMAIN, message),
        )

    def _masked_numbers(
        self, numbers: Words, context: bytes, peers: Iterable[str], seed: bytes
    ) -> Words:
        added: list[bytes] = [seed]
        subtracted: list[bytes] = []
        for peer in peers:
            # The one whose name comes first adds, the other subtracts.
            keys = added if self.member < peer else subtracted
            keys.append(mask_key(self._pair(peer), context, self._roster.suite))
        return self._wrap.shift(numbers, added=added, subtracted=subtracted)

    def vote(self, context: bytes, survivors: tuple[str, ...]) -> Vote:
        """Sign that the sum under way is over `survivors`.

        The same survivors may be asked for again; others only if they are fewer, and never after
        this member revealed its shares.

        Raises:
            CohortError: too few survivors.
            ProtocolError: another sum is under way, this member or the order is missing, the
                survivors grew, or shares were revealed.
        """
        self.require_vote(context, survivors)
        pending = self._under_way(context)
        if pending.vote is not None and survivors == pending.survivors:
            return pending.vote
        message = survivors_message(context, survivors)
        pending.survivors = survivors
        pending.vote = Vote(self.member, self._voice.sign(SURVIVORS_DOMAIN, message))
        return pending.vote

    def require_vote(self, context: bytes, survivors: tuple[str, ...]) -> None:
        """Return if `vote` would sign that; nothing is signed.

        Raises:
            CohortError: see `vote`.
            ProtocolError: the same.
        """
        pending = self._under_way(context)
        if pending.vote is not None and survivors == pending.survivors:
            return
        pending.cohort.require_survivors(survivors)
        if self.member not in survivors:
            raise ProtocolError(
                f"{self.member} is asked to sign a sum without itself; leave it out"
            )
        if pending.answer is not None:
            raise ProtocolError("this sum's survivors are settled; they cannot be changed now")
        if pending.survivors is not None and not set(survivors) < set(pending.survivors):
            raise ProtocolError("survivors of a sum can only become fewer; start the next sum")

    def release(self, context: bytes, survivors: tuple[str, ...], votes: Iterable[Vote]) -> Release:
        """Give the keys of this sum's masks with the neighbours who are no survivors.

        Args:
            context: Digest of the sum.
            survivors: As this member signed them last.
            votes: Of more than two thirds of those who hold this member's shares, itself counted.

        Raises:
            CohortError: too few votes.
            ProtocolError: another sum is under way, others signed other survivors, or this scheme
                has nothing to release.
        """
        pending = self._certified(context, survivors, votes)
        gone = [peer for peer in pending.cohort.peers(self.member) if peer not in survivors]
        suite = self._roster.suite
        seeds = {peer: mask_key(self._pair(peer), context, suite) for peer in gone}
        message = told_message(context, survivors, seeds)
        return Release(self.member, seeds, self._voice.sign(RELEASE_DOMAIN, message))

    def reveal(
        self,
        context: bytes,
        survivors: tuple[str, ...],
        votes: Iterable[Vote],
        boxes: Mapping[str, bytes],
    ) -> Answer:
        """Give this member's shares of the survivors' own masks: once for each sum.

        Args:
            context: Digest of the sum.
            survivors: As this member signed them last.
            votes: Of more than two thirds of those who hold this member's shares, itself counted.
            boxes: Survivor among its peers -> the box that it sealed for this member.

        Raises:
            CohortError: too few votes.
            ProtocolError: another sum is under way, others signed other survivors, boxes are
                missing or too many, or this scheme has nothing to reveal.
        """
        pending = self._certified(context, survivors, votes)
        due = {peer for peer in pending.cohort.peers(self.member) if peer in survivors}
        if boxes.keys() != due:
            raise ProtocolError("a share's box of each surviving neighbour is due, and no other")
        opened = {peer: self._unbox(context, peer, box) for peer, box in boxes.items()}
        # A box that does not open is one dealer's fault, and the others' sum must not fall with it.
        shares = {peer: share for peer, share in opened.items() if share is not None}
        shares[self.member] = pending.own_share
        if pending.answer is not None:
            if pending.answer.shares != shares:
                raise ProtocolError("shares of this sum were revealed before; none are again")
            return pending.answer
        message = told_message(context, survivors, shares)
        pending.answer = Answer(self.member, shares, self._voice.sign(ANSWER_DOMAIN, message))
        return pending.answer

    def kept(self) -> KeptSum | None:
        """Return what the member's own disk keeps of the sum under way; None where there is none.

        Whoever goes on from it, and from the key as it was then, says nothing but what was or could
        have been said there: the same vote or one on fewer, the same shares, no second vector.
        """
        pending = self._pending
        if pending is None:
            return None
        return KeptSum(
            context=pending.context,
            own_share=pending.own_share,
            survivors=pending.survivors or (),
            vote=b"" if pending.vote is None else pending.vote.signature,
            shares=None if pending.answer is None else dict(pending.answer.shares),
            answer=b"" if pending.answer is None else pending.answer.signature,
        )

    def resume(self, kept: KeptSum, cohort: Cohort) -> None:
        """Go on with a sum that was kept; once, before anything else is done.

        Raises:
            ProtocolError: a sum is under way, the key was not used for this one, or what was kept
                is not this member's own.
        """
        if self._pending is not None or kept.context not in self._key.kept().sealed:
            raise ProtocolError("a kept sum does not go with its key; leave this run")
        if len(kept.own_share) != (SHARE_BYTES if self._masked else 0):
            raise ProtocolError("a kept sum has no share of its own; leave this run")
        cohort.peers(self.member)
        pending = _Pending(context=kept.context, cohort=cohort, own_share=kept.own_share)
        if kept.vote:
            pending.survivors = kept.survivors
            pending.vote = Vote(self.member, kept.vote)
            check_vote(
                pending.vote,
                context=kept.context,
                survivors=kept.survivors,
                roster=self._roster,
            )
        if kept.shares is not None:
            message = told_message(kept.context, kept.survivors, kept.shares)
            self._roster.require_signed(self.member, ANSWER_DOMAIN, message, kept.answer)
            pending.answer = Answer(self.member, kept.shares, kept.answer)
        self._pending = pending

    def open(self, payload: bytes, *, count: int, bits: int) -> Words:
        """Return the `count` words of a sum's payload; see `Wrap.open`."""
        return self._wrap.open(payload, count=count, bits=bits)

    def _certified(
        self, context: bytes, survivors: tuple[str, ...], votes: Iterable[Vote]
    ) -> _Pending:
        """Return the sum under way, if it may be told of for these survivors."""
        pending = self._under_way(context)
        if not self._masked:
            raise ProtocolError("this run's sums have no masks; there is nothing to tell")
        if survivors != pending.survivors:
            raise ProtocolError("masks are told for the survivors that were signed; no others")
        require_votes(
            votes, member=self.member, context=context, survivors=survivors, cohort=pending.cohort
        )
        return pending

    def _under_way(self, context: bytes) -> _Pending:
        if self._pending is None or self._pending.context != context:
            raise ProtocolError("that sum is not under way here; nothing is told of another")
        return self._pending

    def _pair(self, peer: str) -> bytes:
        if peer not in self._pairs:
            sent = b""
            if not self._roster.suite.static_holds:
                sent = self._pair_keys.get(peer, b"")
                if len(sent) != KEY_BYTES:
                    raise ProtocolError(
                        f"{self.member} and {peer} sent each other no secret; start a new run"
                    )
            self._pairs[peer] = pair_secret(
                self._key, self.member, peer, self._roster, shared=self._shared, sent=sent
            )
        return self._pairs[peer]

    def _box(self, context: bytes, peer: str, share: bytes) -> bytes:
        suite = self._roster.suite
        key = _box_key(self._pair(peer), context, self.member, suite)
        return suite.seal(key, _NONCE, share, b"")

    def _unbox(self, context: bytes, dealer: str, box: bytes) -> bytes | None:
        suite = self._roster.suite
        key = _box_key(self._pair(dealer), context, dealer, suite)
        try:
            share = suite.open(key, _NONCE, box, b"")
        except ProtocolError:
            return None
        return share if len(share) == SHARE_BYTES else None


def require_votes(
    votes: Iterable[Vote],
    *,
    member: str,
    context: bytes,
    survivors: tuple[str, ...],
    cohort: Cohort,
) -> None:
    """Return if more than two thirds of the holders of `member`'s shares signed the survivors.

    Raises:
        CohortError: fewer did.
        ProtocolError: one voted twice, is no survivor, or signed something else.
    """
    holders, asked = cohort.holders(member), frozenset(cohort.members)
    given = tuple(votes)
    counted: set[str] = set()
    for vote in given:
        if vote.member in counted:
            raise ProtocolError(f"{vote.member} is counted twice; give each vote once")
        if vote.member not in asked:
            raise ProtocolError(f"{vote.member} is not asked for this sum; leave it out")
        counted.add(vote.member)
    check_votes(given, context=context, survivors=survivors, roster=cohort.roster)
    held = len(counted.intersection(holders))
    needed = cohort.threshold(member)
    if held < needed:
        raise CohortError(
            f"{held} of those who hold shares of {member} signed the survivors and {needed} are "
            "needed; wait for more"
        )


def require_own(context: SumContext, cohort: Cohort, roster: Roster) -> None:
    """Return if `context` is of this cohort and roster, and its run.

    Raises:
        ProtocolError: it is of another; masks for it would cancel with nobody's.
    """
    if context.run != roster.run:
        raise ProtocolError("the sum is of another run; take part in your own run only")
    if context.roster != roster.digest or cohort.roster.digest != roster.digest:
        raise ProtocolError("the sum is over another roster; start a new run for other members")
    if context.cohort != cohort.digest:
        raise ProtocolError("the sum is over another cohort; compare who is asked")


def pair_secret(
    key: ExchangeKey,
    member: str,
    peer: str,
    roster: Roster,
    *,
    shared: bytes = b"",
    sent: bytes = b"",
) -> bytes:
    """Return what `member`, who holds `key`, and `peer` share in this run and nobody else.

    The suite's key agreement, then its HKDF (RFC 5869) over roster and names. With `shared`, which
    all members of the run hold and nobody else, and `sent`, which these two hold and nobody else,
    all of them must be broken.
    """
    first, second = sorted((member, peer))
    names = (first.encode("utf-8"), second.encode("utf-8"))
    info = framed(b"tacit/pair-secret/v1", roster.digest, *names)
    agreed = key.agree(roster.exchange_of(peer))
    if shared:
        agreed = framed(agreed, roster.suite.mac(shared, b"tacit/pair-secret/v1"), sent)
    return roster.suite.derive(agreed, roster.run, info)


def mask_key(secret: bytes, context: bytes, suite: Suite = INTL) -> bytes:
    """Return the key of one pair's mask in one sum: other context, other mask."""
    return suite.mac(secret, framed(b"mask", context))


def seed_commitment(context: bytes, dealer: str, seed: bytes) -> bytes:
    """Return the hash by which a member binds itself to its own mask's seed; it hides the seed."""
    parts = (b"tacit/seed/v1", context, dealer.encode("utf-8"), seed)
    return hashlib.sha256(framed(*parts)).digest()


def _box_key(secret: bytes, context: bytes, dealer: str, suite: Suite) -> bytes:
    # The dealer's name gives each direction a key of its own.
    return suite.mac(secret, framed(b"box", context, dealer.encode("utf-8")))
