"""A message with one field changed, in every way that says something else: what no table forgets.

A change is named after the message, the field and what was done to it, so that it can be counted:
"Voted.signature: a bit". Sources are messages of the same kind that went before, or to others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from privacy.messages import Reply, Request

Message = Request | Reply
Words = tuple[Any, bytes]
"""A message and the payload beside it."""
MOST = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change; `make` makes it of an honest message.

    Attributes:
        name: Of the change.
        make: Returns message and payload.
    """

    name: str
    make: Callable[[], Words]


def mutants(  # noqa: C901 - one way after the other
    message: Message, payload: bytes, others: Mapping[str, Sequence[Words]], draw: Random
) -> list[Mutant]:
    """All that can be made of it.

    Args:
        message: What an honest party sends.
        payload: Beside it.
        others: How they are called -> messages of the same kind: of another member at the same
            time, or of before.
        draw: Picks the bit, the entry, the other message.
    """
    kind = type(message).__name__
    found: list[Mutant] = []
    for place in msgspec.structs.fields(type(message)):
        value = getattr(message, place.name)
        for what, changed in _values(value, draw):
            found.append(_with((message, payload), place.name, what, changed))
        for name, source in others.items():
            if source:
                one = draw.choice(source)[0]
                taken = getattr(one, place.name)
                if taken != value:
                    found.append(_with((message, payload), place.name, f"of {name}", taken))
    for what, data in _bytes(payload, draw) if payload else [("made up", b"payload!")]:
        found.append(_fixed(f"{kind} beside it: {what}", (message, data)))
    for name, source in others.items():
        if source:
            whole = draw.choice(source)
            if whole != (message, payload):
                found.append(_fixed(f"{kind}: all of it of {name}", whole))
                if whole[1] and whole[1] != payload:
                    found.append(_fixed(f"{kind} beside it: of {name}", (message, whole[1])))
    return found


def _fixed(name: str, words: Words) -> Mutant:
    return Mutant(name, lambda: words)


def _with(words: Words, place: str, what: str, value: object) -> Mutant:
    message, payload = words
    return Mutant(
        f"{type(message).__name__}.{place}: {what}",
        lambda: (msgspec.structs.replace(message, **{place: value}), payload),
    )


def _values(value: Any, draw: Random) -> Iterator[tuple[str, Any]]:  # noqa: ANN401, C901 - any field
    if isinstance(value, bool):
        yield "the other", not value
    elif isinstance(value, int):
        for what, number in (("one more", value + 1), ("none", 0), ("the most", MOST)):
            if number != value:
                yield what, number
        if value > 1:
            yield "one less", value - 1
    elif isinstance(value, str):
        yield from ((w, t) for w, t in (("a stranger", "spy"), ("nothing", "")) if t != value)
    elif isinstance(value, bytes):
        yield from _bytes(value, draw)
    elif isinstance(value, tuple):
        yield from _list(value, draw)
    elif isinstance(value, dict):
        yield from _dict(value, draw)
    elif isinstance(value, msgspec.Struct):
        for place in msgspec.structs.fields(type(value)):
            for what, changed in _values(getattr(value, place.name), draw):
                yield (
                    f"{place.name}, {what}",
                    msgspec.structs.replace(value, **{place.name: changed}),
                )


def _bytes(value: bytes, draw: Random) -> Iterator[tuple[str, bytes]]:
    if not value:
        yield "made up", b"m" * 32
        return
    at = draw.randrange(len(value))
    yield "a bit", value[:at] + bytes((value[at] ^ (1 << draw.randrange(8)),)) + value[at + 1 :]
    yield "empty", b""
    yield "zeros", bytes(len(value))
    yield "cut off", value[:-1]
    yield "too long", value + b"\0"
    if len(value) > 8:
        yield "a word less", value[:-8]


def _list(value: tuple[Any, ...], draw: Random) -> Iterator[tuple[str, Any]]:
    if not value:
        yield "made up", (b"m" * 32,)
        return
    at = draw.randrange(len(value))
    yield "one left out", value[:at] + value[at + 1 :]
    yield "none", ()
    yield "one twice", (*value, value[at])
    if len(value) > 1:
        yield "in another order", tuple(reversed(value))
    if isinstance(value[0], str):
        yield "a stranger too", (*value, "spy")
    for what, changed in _values(value[at], draw):
        yield f"one, {what}", (*value[:at], changed, *value[at + 1 :])


def _dict(value: dict[str, Any], draw: Random) -> Iterator[tuple[str, Any]]:
    if not value:
        return
    names = list(value)
    one = draw.choice(names)
    yield "one left out", {name: it for name, it in value.items() if name != one}
    yield "none", {}
    yield "a stranger too", {**value, "spy": value[one]}
    yield "a stranger for one", {("spy" if n == one else n): it for n, it in value.items()}
    if len(names) > 1:
        yield "exchanged", dict(zip(names, reversed(list(value.values())), strict=True))
        yield "too few", {name: value[name] for name in names[: len(names) // 3]}
    for what, changed in _values(value[one], draw):
        yield f"one, {what}", {**value, one: changed}
