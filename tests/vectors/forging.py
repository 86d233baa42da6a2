"""Forgeries, each of a bundle that holds, and the step that must find it.

Four ways, by who forges:
    script: everybody. The script changes, and then all is hashed and signed anew by whoever's key
        it must be, so that nothing is wrong but what the forgery is about.
    settled: whoever holds the ledgers' keys. Entries change after members signed; trees, signed
        states and the witnesses' cosignatures are made anew, unless the forgery is about them.
    lines: whoever exports. Lines of the bundle change, and its last line is made anew.
    bytes: nobody; the file was damaged.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from vectors import positives
from vectors.builder import World, digest, sealed
from vectors.positives import FOUR

from privacy.ledger.merkle import leaf_hash, root_of

How = Literal["script", "settled", "lines", "bytes"]
A, B, C, D = FOUR
HOSTILE = "mallory"


@dataclass(frozen=True)
class Forgery:
    """One negative vector.

    Attributes:
        name: Of the vector.
        about: What was done, in a sentence.
        of: The positive that it was made of.
        step: Which step must find it.
        data: The bundle.
        policy: What the auditor trusts, if it is not the bundle's own policy.
        heads: Origin, entries and root of states that somebody remembers.
    """

    name: str
    about: str
    of: str
    step: int
    data: bytes
    policy: str | None = None
    heads: list[tuple[str, int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Recipe:
    """How a forgery is made; see `Forgery` and the module."""

    name: str
    about: str
    of: str
    step: int
    how: How
    change: Callable[[Any], Any]
    policy: Callable[[World], str] | None
    heads: Callable[[World], list[tuple[str, int, str]]] | None

    def make(self) -> Forgery:
        script, honest = settled(self.of)
        policy = None if self.policy is None else self.policy(honest)
        heads = [] if self.heads is None else self.heads(honest)
        if self.how == "script":
            world = script.copy()
            self.change(world)
            data = world.settle().bundle()
        elif self.how == "settled":
            world = honest.copy()
            self.change(world)
            data = world.bundle()
        elif self.how == "lines":
            lines = honest.lines()
            made = self.change(lines)
            data = sealed(lines if made is None else made)
        else:
            data = self.change(honest.bundle())
        return Forgery(self.name, self.about, self.of, self.step, data, policy, heads)


@cache
def settled(of: str) -> tuple[World, World]:
    """A bundle that holds, as a script and settled; nobody changes them, only copies."""
    script = positives.POSITIVES[of]()
    return script, script.copy().settle()


_RECIPES: dict[str, Recipe] = {}


def add(  # noqa: PLR0917 - told like a row of a table
    step: int,
    of: str,
    how: How,
    name: str,
    about: str,
    change: Callable[[Any], Any],
    *,
    policy: Callable[[World], str] | None = None,
    heads: Callable[[World], list[tuple[str, int, str]]] | None = None,
) -> None:
    if name in _RECIPES:
        raise ValueError(f"two vectors are named {name}")
    _RECIPES[name] = Recipe(name, about, of, step, how, change, policy, heads)


def forgery(
    step: int,
    of: str,
    how: How,
    *,
    policy: Callable[[World], str] | None = None,
    heads: Callable[[World], list[tuple[str, int, str]]] | None = None,
) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Keep a function as a forgery: its name is the vector's, its docstring says what was done."""

    def keep(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
        name = change.__name__.strip("_").replace("_", "-")
        about = " ".join((change.__doc__ or "").split())
        add(step, of, how, name, about, change, policy=policy, heads=heads)
        return change

    return keep


def recipes() -> list[Recipe]:
    """How to make every negative vector that was told so far, in the order of steps."""
    return sorted(_RECIPES.values(), key=lambda one: one.step)


def flipped(text: str) -> str:
    """A hexadecimal text with its first bit turned over."""
    return f"{int(text[0], 16) ^ 8:x}{text[1:]}"


def heads_told(*names: str, first: int = 90) -> dict[str, dict[str, object]]:
    """Made-up heads of these members' own ledgers, each to be signed by the member itself."""
    return {
        name: {"leaves": first + n, "root": digest(name), "signature": None}
        for n, name in enumerate(names)
    }


def head_of(world: World, owner: str, size: int) -> tuple[str, int, str]:
    """A state of a ledger that somebody could remember."""
    book = next(book for book in world.books if book.owner == owner)
    hashes = [leaf_hash(leaf) for leaf in book.leaves()[:size]]
    return book.origin, size, root_of(hashes).hex()
