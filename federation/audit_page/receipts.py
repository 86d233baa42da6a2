"""Receipts that cost the same, kept once: ten thousand rounds have a handful of them."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, Final

from privacy.accounting.event import Event, event_of, solo_event_of
from privacy.accounting.rdp import added, epsilon, epsilon_at, renyi
from privacy.receipt import Receipt

_PURPOSE: Final = "purpose"
_FACTS: Final = tuple(one.name for one in fields(Receipt) if one.name != _PURPOSE)


class Receipts:
    """A number for each receipt; equal in all but their purpose have the same."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, ...], int] = {}
        self._receipts: list[Receipt] = []

    def number(self, told: Mapping[str, Any]) -> int:
        """Return the number of a receipt as it stands in an entry."""
        facts = tuple(told[name] for name in _FACTS)
        number = self._numbers.get(facts)
        if number is None:
            number = self._numbers[facts] = len(self._receipts)
            self._receipts.append(Receipt.from_json(told))
        return number

    def __getitem__(self, number: int) -> Receipt:
        return self._receipts[number]


def seen(receipt: Receipt, colluders: int | None) -> Event:
    """Return a release as the coordinator sees it with so many members; None: with all others."""
    if colluders is None:
        return solo_event_of(receipt)
    return event_of(receipt, colluders=colluders)


def repeated(event: Event, count: int) -> Event:
    """Return the event of `count` releases, each like `event`."""
    return replace(event, steps=event.steps * count)


def epsilon_of(counts: Mapping[Event, int], *, order: int | None, delta: float) -> float:
    """Return the epsilon of so many releases of each event.

    Args:
        counts: Event -> how often, at least once.
        order: Where one is enforced; None takes the best.
        delta: For which it holds.

    Returns:
        0 of nothing, infinity where one of them had no noise.
    """
    if not counts:
        return 0.0
    events = [repeated(event, count) for event, count in counts.items()]
    if order is None:
        return epsilon_of_events(tuple(sorted(events)), delta)
    return epsilon_at(added(renyi(event, order) for event in events), order, delta)


@lru_cache(maxsize=512)
def epsilon_of_events(events: tuple[Event, ...], delta: float) -> float:
    """Return the epsilon of the best order."""
    return epsilon(events, delta)[0]


def losses(events: Iterable[Event], orders: Iterable[int]) -> list[list[float]]:
    """Return the Renyi loss of each event, once, at each order."""
    listed = tuple(orders)
    return [[renyi(event, order) for order in listed] for event in events]
