"""Runs over the network, for people: the list, one run's page, and who answered what."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from federation.runs.event import (
    Answer,
    Finished,
    Interrupted,
    Note,
    Registered,
    Round,
    Step,
    Stopped,
    Told,
)
from federation.runs.facts import RunFacts

NOTES_MAX = 10


def runs_table(title: str, runs: Sequence[RunFacts]) -> RenderableType:
    """The list."""
    if not runs:
        return f"{title}: none yet; start one with: tacit run launch CONFIG"
    table = Table(title=title)
    for name in ("run", "task", "launched by", "state", "rounds", "why"):
        table.add_column(name, overflow="fold")
    for one in runs:
        table.add_row(
            one.run,
            one.task,
            one.launcher,
            one.state,
            f"{one.rounds} of {one.of}",
            one.reason,
        )
    return table


def answers_table(answers: Mapping[str, tuple[str, str]]) -> RenderableType:
    """Who answered what to the invitation, and why."""
    table = Table(title="answers to the invitation")
    for name in ("member", "answer", "reason"):
        table.add_column(name, overflow="fold")
    for member, (answer, reason) in sorted(answers.items()):
        table.add_row(member, answer, reason)
    return table


def answers_of(events: Iterable[Told]) -> dict[str, tuple[str, str]]:
    """Member -> its newest answer, and why."""
    return {
        told.event.member: (told.event.answer, told.event.reason)
        for told in events
        if isinstance(told.event, Answer)
    }


def run_facts(facts: RunFacts, events: Sequence[Told]) -> dict[str, Any]:
    """One run, for programs."""
    answers = answers_of(events)
    return {
        **facts.to_json(),
        "answers": {
            member: {"answer": answer, "reason": reason}
            for member, (answer, reason) in sorted(answers.items())
        },
        "history": [
            {
                "round": told.event.index,
                "seconds": told.event.seconds,
                "bytes_up": told.event.bytes_up,
                "bytes_down": told.event.bytes_down,
            }
            for told in events
            if isinstance(told.event, Round)
        ],
        "notes": [told.event.sentence for told in events if isinstance(told.event, Note)],
    }


def run_page(facts: RunFacts, events: Sequence[Told]) -> RenderableType:
    """One run, for people."""
    launched = datetime.fromtimestamp(facts.launched_ms / 1000, UTC)
    parts: list[RenderableType] = [
        Text(f"{facts.run}: {facts.state}, {facts.rounds} of {facts.of} rounds", style="bold"),
        Text(f"launched by {facts.launcher} at {launched:%Y-%m-%d %H:%M} UTC, task {facts.task}"),
    ]
    if facts.reason:
        parts.append(Text(facts.reason))
    answers = answers_of(events)
    if answers:
        parts.append(answers_table(answers))
    notes = [told for told in events if isinstance(told.event, Note)]
    if len(notes) > NOTES_MAX:
        parts.append(Text(f"{len(notes) - NOTES_MAX} notes before these are left out"))
    parts += [Text(event_line(told)) for told in notes[-NOTES_MAX:]]
    return Group(*parts)


def event_line(told: Told) -> str:
    """One event as a line."""
    at = datetime.fromtimestamp(told.time_ms / 1000, UTC)
    return f"{at:%H:%M:%S} {_words(told)}"


def _words(told: Told) -> str:
    said: str
    match told.event:
        case Step(name):
            said = name
        case Note(sentence):
            said = sentence
        case Answer(member, answer, reason):
            said = f"{member}: {answer} {reason}".rstrip()
        case Round() as one:
            said = f"round {one.index} of {one.of} in {one.seconds:.2f} s"
        case Finished() as end:
            said = f"finished in {end.seconds:.1f} s; model {end.model[:16]}.."
        case Stopped(reason):
            said = f"stopped: {reason}"
        case Interrupted(reason):
            said = f"interrupted: {reason}"
        case Registered(file, card):
            said = f"model file {file[:16]}.. and card {card[:16]}.. are on record"
    return said
