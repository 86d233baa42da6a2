"""Six members, each failing at one of five points or at none: what becomes of 46,656 sums?

    python experiments/secure_sum/dropouts.py [--members N]

Played with the real sealers and the real gathering. Every opened sum is compared with the sum of
its survivors' vectors, and every share and mask that was told with who is in it.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from itertools import product
from typing import TypeAlias

import numpy as np

from privacy.errors import CohortError
from privacy.identity import Identity
from privacy.keystream import keystream_words
from privacy.randomness import system_bytes
from privacy.secure_sum.carrier import WordAdder, WordWrap
from privacy.secure_sum.cohort import Cohort
from privacy.secure_sum.gathering import Gathering
from privacy.secure_sum.keys import admit, offer_key
from privacy.secure_sum.sealer import Sealer
from privacy.sum_context import SumContext

Told: TypeAlias = tuple[str, str]
RUN, MINIMUM = b"dropouts", 3
FATES = ("never", "upload", "late", "vote", "release", "reveal")
NEVER, UPLOAD, LATE, VOTE, RELEASE, REVEAL = FATES


class Federation:
    """Members whose keys serve every case; each case is another sum."""

    def __init__(self, members: int) -> None:
        names = [f"m{index}" for index in range(members)]
        self.identities = {name: Identity.create(system_bytes) for name in names}
        directory = {name: identity.public for name, identity in self.identities.items()}
        made = {
            name: offer_key(one, name, run=RUN, directory=directory, entropy=system_bytes)
            for name, one in self.identities.items()
        }
        self.keys = {name: key for name, (key, _) in made.items()}
        self.roster = admit((o for _, o in made.values()), run=RUN, directory=directory, minimum=2)
        self.cohort = Cohort(self.roster, self.roster.members, MINIMUM)

    def play(self, case: int, fates: dict[str, str]) -> bool:
        """Play a case; return whether the sum was opened.

        Raises:
            AssertionError: it was wrong, or more was told than may be.
        """
        cohort, zeros = self.cohort, bytes(32)
        context = SumContext(
            RUN, "update", case, zeros, zeros, zeros, self.roster.digest, cohort.digest, zeros
        )
        total = Gathering(context, cohort, scheme="masked", adder=WordAdder(), masked=True)
        sealers = {
            name: Sealer(
                name,
                self.identities[name],
                self.keys[name],
                self.roster,
                scheme="masked",
                wrap=WordWrap(),
                masked=True,
                entropy=system_bytes,
            )
            for name in fates
        }
        words = {name: keystream_words(system_bytes(32), 2) for name in fates}
        sealed = {
            name: sealers[name].seal(words[name], bits=64, context=context, cohort=cohort)
            for name, fate in fates.items()
            if fate != UPLOAD
        }
        for name, vector in sealed.items():
            if fates[name] != LATE:
                total.take(vector)
        masks: set[Told] = set()
        shares: set[Told] = set()
        try:
            talk(total, sealers, fates, masks, shares)
            opened = total.open()
        except CohortError:
            opened = None
        require(not masks & shares, "one member gave both secrets of another")
        if opened is not None:
            inside = set(opened.survivors)
            due = np.sum([words[name] for name in sorted(inside)], axis=0, dtype=np.uint64)
            found = np.frombuffer(opened.payload, "<u8")
            require(np.array_equal(found, due), "a wrong sum was opened")
            require({dealer for _, dealer in shares} <= inside, "a share of one outside was told")
            require(not {peer for _, peer in masks} & inside, "a mask of one inside was told")
        return opened is not None


def talk(
    total: Gathering,
    sealers: Mapping[str, Sealer],
    fates: Mapping[str, str],
    masks: set[Told],
    shares: set[Told],
) -> None:
    """Vote, release and reveal as far as members get; note who told what of whom."""
    total.close()
    while True:
        for name in total.survivors:
            if fates[name] != VOTE:
                total.take_vote(sealers[name].vote(total.context, total.survivors))
        if total.leave_silent_out():
            continue
        for name in total.unreleased:
            if fates[name] not in (VOTE, RELEASE):
                votes = total.votes_for(name)
                release = sealers[name].release(total.context, total.survivors, votes)
                masks |= {(name, peer) for peer in release.seeds}
                total.take_release(release)
        if not total.leave_unreleased_out():
            break
    for name in total.voters:
        if fates[name] not in (RELEASE, REVEAL):
            seen = total.votes_for(name), total.boxes_for(name)
            answer = sealers[name].reveal(total.context, total.survivors, *seen)
            shares |= {(name, dealer) for dealer in answer.shares}
            total.take_answer(answer)


def require(holds: bool, otherwise: str) -> None:  # noqa: FBT001
    """Also without assertions."""
    if not holds:
        raise AssertionError(otherwise)


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description="Play every pattern of failures.")
    parser.add_argument("--members", type=int, default=6)
    members = parser.parse_args().members
    federation = Federation(members)
    found: Counter[bool] = Counter()
    for case, fates in enumerate(product(FATES, repeat=members)):
        named = dict(zip(federation.cohort.members, fates, strict=True))
        found[federation.play(case, named)] += 1
        if sys.stderr.isatty() and case % 500 == 0:
            print(f"\r{case}", end="", file=sys.stderr)
    print(
        f"{members} members, {found.total()} patterns of failures: {found[True]} sums opened, each "
        f"its survivors' and exact; {found[False]} given up; no share or mask told that may not be"
    )


if __name__ == "__main__":
    main()
