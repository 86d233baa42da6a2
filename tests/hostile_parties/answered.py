"""Hostile requests that an honest node answers or follows, each with why that is right.

Any other that is answered is a fault. The observer looks at these answers like at all others.
"""

import re
from collections.abc import Iterable
from typing import Final

REASONS: Final[tuple[tuple[str, str], ...]] = (
    (
        r"StopNotice",
        "who is told that a run was stopped leaves it: that asks for less than silence would",
    ),
    (
        r"StateNotice",
        "it cosigns its ledger where that grew, and else says what it remembers",
    ),
    (
        r"\.accepted: |going on although|^going on with too few|^the acceptances? of",
        "who has seen that most accepted its history does not look again, and enough are enough",
    ),
    (
        (
            r"SurvivorsNotice\.survivors: one left out|a validation that differs"
            r"|^SurvivorsNotice where|^both secrets of one member"
        ),
        (
            "members sign fewer survivors, down to two thirds, as long as they told no share; "
            "and the same again"
        ),
    ),
    (
        (
            r"^a ledger |^a longer ledger |^a proof of growth|^no proof of growth"
            r"|SurvivorsNotice\.record: state, "
        ),
        (
            "a node that saw no state follows the first, and asks no proof of the one that it "
            "cosigned; shares are told where two thirds saw the same"
        ),
    ),
    (
        r"RevealRequest\.boxes: (one, |exchanged|of another run)|^a box of",
        "a box that does not open gives no share, and no other box is opened after it",
    ),
    (
        (
            r"\.(votes|cosignatures): one left out|votes, one left out"
            r"|^a sum without one who"
        ),
        "as long as more than two thirds are left",
    ),
    (
        r"ReleaseRequest|^masks of a sum that was accepted",
        "masks with those who are gone, for the survivors that were signed, of what is under way",
    ),
    (
        r"RosterNotice\.offers: ",
        "fewer members, if they are enough, or the same in another order; no second roster",
    ),
    (r"\.launcher: empty", "the one launcher that a node is pinned to needs no name"),
    (
        (
            r"^(Statistics|InitialModel|Train|Evaluate|Pair)Request where|^PairNotice where"
            r"|^the initial model after a round|^statistics before the roster"
            r"|^EvaluateRequest\.part: of another run"
        ),
        "it is what was due next here, or may be left out; a sum needs most to hold the same",
    ),
    (r"^FinishNotice where", "a run may end once its last round is over, without its evaluation"),
    (
        (
            r"^FinishNotice beside it|^FinishNotice(\.run: |: all of it )of another run"
            r"|^the test rows twice|^a round watched twice"
        ),
        "who has finished says so once more; who was not asked for these rows yet is asked once",
    ),
    (
        r"^an entry with another (step|round|asked)$",
        "where that is what is under way: a step, a round, fewer members of a smaller roster",
    ),
    (
        r"^CountersignRequest: all of it of another run",
        "the same run is signed once more; nobody joins it again",
    ),
    (r" of before$", "it was sent to others, and not yet to this one"),
    (r"of another member$", "what is the same for all, or what reached this one later"),
)
OF_SIX: Final = (
    r"too few|fewer cosignatures|less than two thirds|below two thirds|four of six"
    r"|below the minimum|^a mask with one who is there"
)
UNNAMED: Final[tuple[tuple[str, str, str], ...]] = (
    (
        r"does not carry its members' tag|an opened sum is out of range|weights are out of range",
        r"^noise$|^a wrong tag$",
        "who signs words that spoil a sum of masked vectors cannot be told; masks are for that",
    ),
    (
        r"do not start from one model",
        r"^InitialModel",
        "hashes differ, and which of them is right is for people to say",
    ),
    (
        (
            r"not made by one member for all the others|whose turn it is"
            r"|holds another key than|fingerprint|sealed another key|a sealed key does not open"
            r"|has a secret of a wrong length|a key was given to a scheme that has none"
        ),
        r"^Key(Made|Held)|in place of Key|in place of Ready",
        "maker and receiver of a key differ, and which of them is right is for people to say",
    ),
    (
        r"the secret of \w+|a secret of each",
        r"^PairsMade",
        "the one who opens it names who sealed it, and that may be its own lie",
    ),
    (
        r"gave another share than .* dealt; one of them is at fault",
        r"",
        "one of two is at fault, and both are named",
    ),
    (
        r"^a node that calls itself \w+ does not cosign",
        r"^Cosigned(\.member: |: all of it )of another member",
        "over a transport that vouches for no address, what a node calls itself is all there is",
    ),
    (
        r"Two nodes say that they are",
        r"of another member$",
        "before members are known, an address is nobody's; which of two is right is for people",
    ),
)
"""Sentence, deviation, and why it cannot say who is at fault."""
_UNNAMED = tuple((re.compile(said), re.compile(tried)) for said, tried, _ in UNNAMED)
_PATTERNS = tuple((re.compile(pattern), why) for pattern, why in REASONS)


def reason(name: str, members: int) -> str:
    """Why that deviation may be answered by one of so many; empty where it may not."""
    # the tables' numbers are those of six members, of whom five are more than two thirds
    if members != 6 and re.search(OF_SIX, name):
        return "of another number of members they may be enough"
    return next((why for pattern, why in _PATTERNS if pattern.search(name)), "")


def unnamed(sentence: str, tried: Iterable[str]) -> bool:
    """Whether, after those deviations, that sentence cannot say who is at fault."""
    return any(
        said.search(sentence) is not None and any(how.search(one) for one in tried)
        for said, how in _UNNAMED
    )
