"""Who masks with whom: everybody in a small cohort, a few neighbours of each in a large one.

    degree(members)           -> k, how many neighbours each member has
    threshold(k + 1)          -> how many of a secret's holders must answer to open it
    neighbours(names, seed)   -> member -> its k neighbours; the same for everyone who computes it

Above `COMPLETE_UP_TO` members the graph is the one of Bell, Bonawitz, Gascon, Lepoint and Raykova
2020 (CCS, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead"): a Harary graph on a
ring in random order, so that costs grow with the logarithm of the cohort. The holders of a
member's secrets are the member and its neighbours.

What the degree answers for, each with a failure probability that is computed and not estimated
(`conditions`). A share `CORRUPT` of the members is with the coordinator, chosen before the ring is
known; a share `DROPPED` fails, at random for `answers`, in the worst way for `apart`.

    secret      A coordinator that shows different survivor sets to different honest holders cannot
                open both secrets of any honest member.
    connected   If members drop out at random, the masks between honest survivors connect them all,
                so that only the sum over all of them can be opened.
    apart       The same if the coordinator, knowing the ring, chooses who drops out, and shows
                different survivor sets to different members: cutting the ring in two places takes
                a third of the neighbours on either side, less those who may be missing, of the
                corrupt near each cut. This is an argument against the cuts that we know of, not a
                proof that there are no others.
    answers     Enough holders of every secret are left to open it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from math import comb
from types import MappingProxyType
from typing import NamedTuple

from privacy.canonical import framed
from privacy.errors import CohortError
from privacy.keystream import keystream_words

COMPLETE_UP_TO = 32
SEED_BYTES = 32
# A tenth with the coordinator: twice the share in the figure that the abstract of Bell et al.
# gives for 10^4 members. Costs rise steeply towards a third, at which no degree would do.
CORRUPT = (1, 10)
# Far enough below the third of the holders that may be missing for bad luck to be no concern.
DROPPED = (1, 10)
# 40 bits, and 40 more because the ring follows from the hash of all key offers and of who is asked:
# colluders who offer last can try 2^40 keys, and a coordinator as many cohorts, and keep the one
# whose ring suits them.
SIGMA_BITS = 80
# What fails here is a round that is run again, not a secret; no one gains by trying keys.
ETA_BITS = 30
_WORD_VALUES = 1 << 64
_WORDS_AT_FIRST = 1024


class Conditions(NamedTuple):
    """Which of the four promises above a degree keeps."""

    secret: bool
    connected: bool
    apart: bool
    answers: bool


def threshold(holders: int) -> int:
    """Return how many of a secret's `holders` must answer to open it: more than two thirds.

    Two openings that exclude each other then share more than a third of the holders.

    Raises:
        ValueError: `holders` is not positive.
    """
    if holders < 1:
        raise ValueError(f"need {holders=} >= 1")
    return 2 * holders // 3 + 1


def most_colluders(members: int) -> int:
    """Return how many members, with the coordinator, the promise of one sum holds against.

    Up to `COMPLETE_UP_TO` members it is proved for fewer than 2t - n (docs/adr/0008); above, it
    is argued for a tenth.
    """
    if members <= COMPLETE_UP_TO:
        return 2 * threshold(members) - members - 1
    return members * CORRUPT[0] // CORRUPT[1]


def require_holding(members: int, minimum: int, colluders: int) -> None:
    """Return if no sum over fewer honest members than `minimum` - `colluders` can be opened.

    With more colluders than `most_colluders`, two sets can be signed for, and then the smallest
    that opens has as many honest members as a threshold leaves, however large the minimum is.

    Raises:
        CohortError: One can.
    """
    if colluders <= most_colluders(members):
        return
    if members <= COMPLETE_UP_TO and minimum <= threshold(members):
        return
    raise CohortError(
        f"Against {colluders} colluders among {members} members no minimum_cohort of {minimum} can "
        f"be kept; lower the colluders to {most_colluders(members)}, or minimum_cohort to "
        f"{threshold(members)}."
    )


@lru_cache(maxsize=256)
def degree(members: int) -> int:
    """Return the number of neighbours of each of `members` members.

    Up to `COMPLETE_UP_TO` members it is all the others. Above, it is the least even number that
    meets all `conditions`, or all the others if none below that does.

    Raises:
        ValueError: `members` is not positive.
    """
    if members < 1:
        raise ValueError(f"need {members=} >= 1")
    others = members - 1
    if members <= COMPLETE_UP_TO:
        return others
    candidates = range(2, others, 2)
    return next((k for k in candidates if all(conditions(members, k))), others)


def conditions(members: int, neighbours_each: int) -> Conditions:
    """Return which promises a ring of `members` with an even number of neighbours each keeps.

    Exact integer arithmetic. The first three fail with probability at most 2^-`SIGMA_BITS` over
    the order of the ring, the last with at most 2^-`ETA_BITS`, each for any member at all.

    Raises:
        ValueError: the number of neighbours is odd, below 2, or not below `members` - 1.
    """
    k = neighbours_each
    if not 0 < k < members - 1 or k % 2:
        raise ValueError(f"need an even number of neighbours in 2..{members - 2}, not {k}")
    others = members - 1
    corrupt = _rounded_up(members, CORRUPT)
    dropped = _rounded_up(members, DROPPED)
    holders, half = k + 1, k // 2
    needed = threshold(holders)
    # Honest holders answer for one secret of a member, corrupt ones for both: opening both takes
    # 2 * needed <= holders + corrupt. One honest holder more may answer twice, after its state
    # was restored from a backup.
    open_both = 2 * needed - holders - 1
    # Two ends of an arc are cut off when `half` members in a row are missing. A survivor next to
    # them keeps `needed` holders, so at most `holders - needed` of them dropped out.
    cut = half - (holders - needed)
    # A ring falls apart only where `half` members in a row are missing. The power bounds that for a
    # fixed number of missing members and for members that are missing independently.
    missing = corrupt + dropped
    return Conditions(
        secret=_at_most(members, _tail(others, corrupt, k, open_both), comb(others, k), SIGMA_BITS),
        connected=_at_most(members, missing**half, members**half, SIGMA_BITS),
        # Counts in two places of the ring are negatively associated, so the probability of two
        # cuts is at most the square of that of one.
        apart=_at_most(members, _tail(others, corrupt, k, cut), comb(others, k), SIGMA_BITS // 2),
        answers=_at_most(
            members,
            _tail(others, dropped, k, holders - needed + 1),
            comb(others, k),
            ETA_BITS,
        ),
    )


def neighbours(members: Sequence[str], seed: bytes) -> Mapping[str, tuple[str, ...]]:
    """Return each member's neighbours, sorted: symmetric, `degree` of them, never itself.

    The same for all who call it with the same arguments, on every machine.

    Args:
        members: Names, sorted and unique.
        seed: 32 public bytes that nobody could choose alone, such as the hash of all key offers.

    Raises:
        ValueError: the names are not sorted and unique, or the seed has not 32 bytes.
    """
    return _neighbours(tuple(members), seed)


# A run in one group asks for the same graph twice, and so does every node of a process with many.
@lru_cache(maxsize=4)
def _neighbours(names: tuple[str, ...], seed: bytes) -> Mapping[str, tuple[str, ...]]:
    if any(first >= second for first, second in pairwise(names)):
        raise ValueError("need the members' names sorted and unique")
    if len(seed) != SEED_BYTES:
        raise ValueError(f"need a seed of {SEED_BYTES} bytes, not {len(seed)}")
    if not names:
        return MappingProxyType({})
    count, k = len(names), degree(len(names))
    if k == count - 1:
        return MappingProxyType(
            {name: names[:place] + names[place + 1 :] for place, name in enumerate(names)}
        )
    order = ring_order(count, _numbers(hashlib.sha256(framed(b"tacit/ring/v1", seed)).digest()))
    # Twice around, so that a slice never has to wrap.
    around = order + order
    half = k // 2
    found: dict[str, tuple[str, ...]] = {}
    for at, member in enumerate(order, start=count):
        near = around[at - half : at] + around[at - count + 1 : at - count + half + 1]
        found[names[member]] = tuple(names[other] for other in sorted(near))
    return MappingProxyType({name: found[name] for name in names})


def ring_order(count: int, numbers: Iterator[int]) -> list[int]:
    """Return 0..`count` - 1 in an order that is uniform if `numbers` are.

    Fisher and Yates's shuffle (Durstenfeld 1964). A number that would favour some places is
    skipped, so no order is likelier than another.

    Args:
        count: >= 0.
        numbers: Independent and uniform in 0..2^64 - 1.
    """
    order = list(range(count))
    for last in range(count - 1, 0, -1):
        choices = last + 1
        fair = _WORD_VALUES - _WORD_VALUES % choices
        drawn = next(number for number in numbers if number < fair) % choices
        order[last], order[drawn] = order[drawn], order[last]
    return order


def _numbers(key: bytes) -> Iterator[int]:
    start, stop = 0, _WORDS_AT_FIRST
    while True:
        yield from keystream_words(key, stop)[start:].tolist()
        start, stop = stop, 2 * stop


def _rounded_up(members: int, share: tuple[int, int]) -> int:
    above, below = share
    return -(-members * above // below)


def _tail(population: int, marked: int, drawn: int, least: int) -> int:
    """Count the `drawn`-subsets of `population` that hold at least `least` of `marked` members."""
    if least <= 0:
        return comb(population, drawn)
    held, most = least, min(marked, drawn)
    if held > most:
        return 0
    held = max(held, drawn - (population - marked))
    ways = comb(marked, held) * comb(population - marked, drawn - held)
    total = 0
    while held <= most:
        total += ways
        # Exact: the product is a multiple of the divisor, as the next term is a whole number.
        ways = ways * (marked - held) * (drawn - held)
        held += 1
        ways //= held * (population - marked - drawn + held)
    return total


def _at_most(members: int, ways: int, of: int, bits: int) -> bool:
    """Tell whether `members` times the probability `ways` / `of` is at most 2^-`bits`."""
    return members * ways << bits <= of
