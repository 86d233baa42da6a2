"""Tells whoever watches a run how it goes, and keeps that in its folder."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

from federation.record import RunFolder
from federation.runs.event import Answer, Note, Round, Step
from federation.runs.event_log import EventLog
from privacy.one_line import in_one_line

SENTENCE_CHARACTERS_MAX = 1_000


@dataclass(kw_only=True)
class RunObserver:
    """`aggregator.ports.Observer`.

    Attributes:
        folder: The run's.
        events: The run's.
        rounds: How many there are to be.
    """

    folder: RunFolder
    events: EventLog
    rounds: int
    _since_s: float = field(default_factory=time.perf_counter)

    def step(self, name: str) -> None:
        """See the port."""
        name = printable(name)
        self.folder.log(name)
        self.events.tell(Step(name=name))
        self._since_s = time.perf_counter()

    def answered(self, member: str, answer: str, reason: str) -> None:
        """See the port."""
        member, said = printable(member), printable(reason)
        self.folder.log(f"{member}: {answer} {said}".rstrip())
        known = cast("Literal['agreed', 'refused', 'pending', 'absent']", answer)
        self.events.tell(Answer(member=member, answer=known, reason=said))

    def round(self, index: int, *, watched: bool, facts: Mapping[str, float]) -> None:
        """See the port."""
        now_s = time.perf_counter()
        seconds, self._since_s = now_s - self._since_s, now_s
        # what was opened is in the members' hands alone, so there are no metrics here
        self.folder.round({"round": index, "metrics": {}, "seconds": seconds, **facts})
        self.folder.log(f"round {index} committed in {seconds:.2f} s")
        self.events.tell(
            Round(
                index=index,
                of=self.rounds,
                watched=watched,
                seconds=seconds,
                bytes_up=int(facts["bytes_up"]),
                bytes_down=int(facts["bytes_down"]),
            )
        )

    def note(self, sentence: str) -> None:
        """See the port."""
        said = printable(sentence)
        self.folder.log(said)
        self.events.tell(Note(sentence=said))


def printable(text: str) -> str:
    """One line of it that a terminal may be shown."""
    shown = " ".join(in_one_line(text).split())
    return shown[:SENTENCE_CHARACTERS_MAX]
