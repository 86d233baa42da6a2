"""What one release cost: the facts from which any accountant computes epsilon again.

A receipt holds no epsilon, as accountants improve and assumptions about who colludes differ. It is
written once, into ledgers and beside budgets, and read for ever: the meaning of a field never
changes, and a new meaning gets a new `FORMAT`. It needs the standard library alone.

Neighbours are two data sets that differ by all that one unit owns, added or removed (add/remove).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Literal, TypeAlias, cast, get_args

from privacy.errors import ProtocolError

FORMAT = 1
_UNIT_CHARACTERS_MAX = 64
_PURPOSE_CHARACTERS_MAX = 512
_COUNT_MAX = 2**53 - 1
# Far beyond any use, and its square is still a finite float.
_NUMBER_MAX = 1e15
_NUMBER_MIN = 1e-15

Kind: TypeAlias = Literal["statistics", "update", "evaluation"]
Mechanism: TypeAlias = Literal["none", "gaussian", "discrete_gaussian"]
Sampling: TypeAlias = Literal["none", "poisson"]
Cohort: TypeAlias = Literal["training", "test", "all"]

Part: TypeAlias = Literal["training", "test"]
COHORTS: tuple[Part, Part] = ("training", "test")
"""What is about "all" units counts against each of them."""

_Check: TypeAlias = Callable[[object], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One release of one vector, or of one node's own training. A receipt that exists is valid.

    Attributes:
        kind: What was released.
        unit: Whose privacy this counts ("device", "borrower", ..), 1 to 64 printable characters.
        cohort: Which of the units it is about; "all" are training and test units.
        mechanism: How it was protected. "none" is an exact release: its loss is infinite.
            "gaussian" is added in float64 and then rounded; "discrete_gaussian" is integer noise
            on a vector that was rounded first.
        share: Standard deviation of the noise of ONE member, in units of `clip`, in each
            coordinate; 0 for mechanism none.
        clip: L2 bound on what one unit adds to the released sum; 0 only for mechanism none, where
            nothing was clipped. A unit's rows are with one member.
        sampling: "poisson" only where each unit was really drawn by itself, with probability
            `rate`, in secret, anew for each step.
        rate: That probability, in (0, 1]; 1 for sampling none.
        steps: Applications of the mechanism within this release, >= 1.
        shares: Members whose noise the opened sum surely has (the fewest survivors allowed), >= 1;
            1 where each member's own noise stands for itself.
        values: Coordinates that are released in one step, >= 1.
        grid: Distance of the integers of discrete_gaussian, in units of `clip`; 0 for the others.
        purpose: What it was for ("run X, update of round 3"), 1 to 512 printable characters.

    Raises:
        ValueError: a value is out of its range, or does not go with another; the sentence names it.
    """

    kind: Kind
    unit: str
    cohort: Cohort
    mechanism: Mechanism
    share: float
    clip: float
    sampling: Sampling
    rate: float
    steps: int
    shares: int
    values: int
    grid: float
    purpose: str

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            value: object = getattr(self, name)
            # An integer or a NumPy scalar would have other canonical bytes for the same number.
            if isinstance(value, int | float) and not isinstance(value, bool):
                object.__setattr__(self, name, float(value))
        fault = _fault({field.name: getattr(self, field.name) for field in fields(self)})
        if fault:
            raise ValueError(fault)

    @property
    def cohorts(self) -> tuple[Part, ...]:
        """Against which of `COHORTS` it counts."""
        return COHORTS if self.cohort == "all" else (self.cohort,)

    def to_json(self) -> dict[str, object]:
        """Return the plain values that `from_json` reads, with the format's number."""
        body: dict[str, object] = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"format": FORMAT, **body}

    @staticmethod
    def from_json(value: object) -> "Receipt":
        """Return the receipt that `value` holds; its `to_json` is equal to `value`.

        Raises:
            ProtocolError: a key is missing, unknown, of a wrong type, out of its range, or does
                not go with another; the sentence names it.
        """
        if not isinstance(value, Mapping):
            raise ProtocolError("a receipt is a table of keys; ask its writer for it again")
        keys = {"format", *_CHECKS}
        odd = sorted(f"{key!s:.40}" for key in value.keys() ^ keys)
        if odd:
            raise ProtocolError(f"a receipt has a missing or unknown key: {', '.join(odd[:5])}")
        if type(value["format"]) is not int or value["format"] != FORMAT:
            raise ProtocolError(
                f"a receipt's format is {FORMAT} here; a newer version may read this one"
            )
        body = {name: value[name] for name in _CHECKS}
        fault = _fault(body)
        if fault:
            raise ProtocolError(f"{fault}; ask its writer for a valid one")
        # `_fault` has checked every type that the casts claim.
        return Receipt(
            kind=cast("Kind", body["kind"]),
            unit=cast("str", body["unit"]),
            cohort=cast("Cohort", body["cohort"]),
            mechanism=cast("Mechanism", body["mechanism"]),
            share=cast("float", body["share"]),
            clip=cast("float", body["clip"]),
            sampling=cast("Sampling", body["sampling"]),
            rate=cast("float", body["rate"]),
            steps=cast("int", body["steps"]),
            shares=cast("int", body["shares"]),
            values=cast("int", body["values"]),
            grid=cast("float", body["grid"]),
            purpose=cast("str", body["purpose"]),
        )


def _is_number(value: object) -> bool:
    """Whether `value` is a float that is 0 or of a magnitude with which one can compute."""
    # Not a number, as it compares with nothing, is neither.
    return type(value) is float and (value == 0 or _NUMBER_MIN <= value <= _NUMBER_MAX)


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= _COUNT_MAX


def _is_rate(value: object) -> bool:
    return _is_number(value) and 0 < cast("float", value) <= 1


def _is_text(characters_max: int) -> _Check:
    return lambda value: (
        type(value) is str and 0 < len(value) <= characters_max and value.isprintable()
    )


def _one_of(names: object) -> _Check:
    allowed = get_args(names)
    return lambda value: type(value) is str and value in allowed


_NUMBERS = ("share", "clip", "rate", "grid")
_CHECKS: Mapping[str, _Check] = MappingProxyType(
    {
        "kind": _one_of(Kind),
        "unit": _is_text(_UNIT_CHARACTERS_MAX),
        "cohort": _one_of(Cohort),
        "mechanism": _one_of(Mechanism),
        "share": _is_number,
        "clip": _is_number,
        "sampling": _one_of(Sampling),
        "rate": _is_rate,
        "steps": _is_count,
        "shares": _is_count,
        "values": _is_count,
        "grid": _is_number,
        "purpose": _is_text(_PURPOSE_CHARACTERS_MAX),
    }
)


def _fault(body: Mapping[str, object]) -> str:
    """Return what is wrong, or nothing: making and reading ask the same question."""
    wrong = [name for name, check in _CHECKS.items() if not check(body[name])]
    if wrong:
        return f"a receipt has a wrong value in {', '.join(wrong)}"
    noisy = body["mechanism"] != "none"
    if noisy != (body["share"] != 0):
        return "a receipt's share is above 0 exactly where its mechanism adds noise"
    if noisy and body["clip"] == 0:
        return "a receipt's clip must be above 0 where its mechanism adds noise"
    if (body["mechanism"] == "discrete_gaussian") != (body["grid"] != 0):
        return "a receipt's grid is above 0 exactly where its mechanism is discrete_gaussian"
    if body["sampling"] == "none" and body["rate"] != 1:
        return "a receipt's rate is 1 where its sampling is none"
    return ""
