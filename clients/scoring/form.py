"""One object of a bundle, read key by key; whatever is not as it must be is refused by name.

The bytes were signed by somebody who is trusted, and may still be wrong: a count that would fill
the memory, a curve that goes back, a number without end. Every list has a bound, every number is
finite and within its own bounds, and a key that nobody reads is refused.
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.errors import NotVerifiedError

Floats = NDArray[np.float64]
LONGEST_TEXT: Final = 2000
MOST_ITEMS: Final = 10_000
LARGEST: Final = 1e300


class Form:
    """See the module. Every method raises NotVerifiedError where the key is not as asked."""

    def __init__(self, value: object, where: str) -> None:
        """Take an object that canonical JSON gave, and what sentences call it.

        Raises:
            NotVerifiedError: It is none.
        """
        if type(value) is not dict or len(value) > MOST_ITEMS:
            raise NotVerifiedError(f"{where} is no object of a bundle; export it again.")
        self.value: dict[str, object] = value
        self._left = dict(value)
        self._where = where

    def fault(self, key: str, what: str) -> NotVerifiedError:
        """The error for a key that is not as it must be."""
        return NotVerifiedError(f"{self._where}.{key} {what}; export the bundle again.")

    def done(self) -> None:
        """Return if every key was read."""
        for key in self._left:
            raise self.fault(f"{key:.40}", "is a key that this version does not know")

    def text(self, key: str, *, least: int = 1, longest: int = LONGEST_TEXT) -> str:
        """A text of `least` to `longest` characters."""
        value = self._take(key)
        if type(value) is not str or not least <= len(value) <= longest:
            raise self.fault(key, "is no text of a fit length")
        return value

    def text_or_none(self, key: str) -> str | None:
        """A text, or null."""
        if self._is_null(key):
            return None
        return self.text(key)

    def hexadecimal(self, key: str) -> str:
        """64 hexadecimal digits."""
        value = self.text(key)
        if len(value) != 64 or set(value) - set("0123456789abcdef"):  # noqa: PLR2004 - SHA-256
            raise self.fault(key, "is no SHA-256")
        return value

    def choice(self, key: str, *known: str) -> str:
        """One of the known words."""
        value = self.text(key)
        if value not in known:
            raise self.fault(key, f"is none of {', '.join(known)}")
        return value

    def truth(self, key: str) -> bool:
        """True or false."""
        value = self._take(key)
        if type(value) is not bool:
            raise self.fault(key, "is neither true nor false")
        return value

    def whole(self, key: str, *, low: int, high: int) -> int:
        """A whole number within bounds."""
        value = self._take(key)
        if type(value) is not int or not low <= value <= high:
            raise self.fault(key, f"is no whole number from {low} to {high}")
        return value

    def whole_or_none(self, key: str, *, low: int, high: int) -> int | None:
        """A whole number within bounds, or null."""
        if self._is_null(key):
            return None
        return self.whole(key, low=low, high=high)

    def number(self, key: str, *, low: float = -LARGEST, high: float = LARGEST) -> float:
        """A finite number within bounds."""
        return _number(self._take(key), low, high, lambda what: self.fault(key, what))

    def number_or_none(self, key: str, *, low: float, high: float = LARGEST) -> float | None:
        """A finite number within bounds, or null."""
        if self._is_null(key):
            return None
        return self.number(key, low=low, high=high)

    def numbers(self, key: str, *, least: int, most: int) -> Floats:
        """Finite numbers, `least` to `most` of them."""
        values = self._list(key, least=least, most=most)
        return np.array(
            [_number(one, -LARGEST, LARGEST, lambda what: self.fault(key, what)) for one in values]
        )

    def bounds(self, key: str) -> tuple[float, float]:
        """Two numbers, the lower one first."""
        low, high = self.numbers(key, least=2, most=2).tolist()
        if not low < high:
            raise self.fault(key, "does not rise")
        return low, high

    def bounds_or_none(self, key: str) -> tuple[float, float] | None:
        """Two numbers, the lower one first, or null."""
        if self._is_null(key):
            return None
        return self.bounds(key)

    def texts(self, key: str, *, least: int = 0, most: int = MOST_ITEMS) -> tuple[str, ...]:
        """Texts, no two alike."""
        values = self._list(key, least=least, most=most)
        found = tuple(one for one in values if type(one) is str and len(one) <= LONGEST_TEXT)
        if len(found) != len(values) or len(set(found)) != len(found):
            raise self.fault(key, "holds what is no text, or one twice")
        return found

    def form(self, key: str) -> "Form":
        """The object below a key."""
        return Form(self._take(key), f"{self._where}.{key}")

    def form_or_none(self, key: str) -> "Form | None":
        """The object below a key, or null."""
        if self._is_null(key):
            return None
        return self.form(key)

    def forms(self, key: str, *, least: int = 0, most: int = MOST_ITEMS) -> "tuple[Form, ...]":
        """Objects of a list."""
        values = self._list(key, least=least, most=most)
        return tuple(Form(one, f"{self._where}.{key}[{at}]") for at, one in enumerate(values))

    def keys(self) -> tuple[str, ...]:
        """What is left unread."""
        return tuple(self._left)

    def _list(self, key: str, *, least: int, most: int) -> list[object]:
        value = self._take(key)
        if type(value) is not list or not least <= len(value) <= most:
            raise self.fault(key, f"is no list of {least} to {most}")
        return value

    def _take(self, key: str) -> object:
        try:
            return self._left.pop(key)
        except KeyError:
            raise self.fault(key, "is missing") from None

    def _is_null(self, key: str) -> bool:
        null = key in self._left and self._left[key] is None
        if null:
            del self._left[key]
        return null


def _number(
    value: object, low: float, high: float, fault: Callable[[str], NotVerifiedError]
) -> float:
    if type(value) not in {int, float}:
        raise fault("is no number")
    number = float(value)  # type: ignore[arg-type] # an int or a float
    if not math.isfinite(number) or not low <= number <= high:
        raise fault(f"is not from {low:g} to {high:g}")
    return number
