"""What a model must not be used for, and what no figure of its card covers; keys of `words`."""

from collections.abc import Mapping, Sequence
from typing import Final

from clients.spec import Task

_EVERY: Final = ("limit.population", "limit.range", "limit.cause", "limit.members")
_TASK: Final[Mapping[Task, Sequence[str]]] = {
    "credit": ("limit.credit.alone", "limit.credit.other"),
    "claims": ("limit.claims.single", "limit.claims.alone"),
    "failure": ("limit.failure.safety", "limit.failure.person"),
}
_NEVER: Final = (
    "uncovered.selection",
    "uncovered.contract",
    "uncovered.units",
    "uncovered.channels",
)


def limits_of(
    task: Task,
    *,
    noise: bool,
    drawn: bool,
    purposes: bool,
    network: bool,
    explained: bool,
) -> tuple[str, ...]:
    """The limits of one model.

    Args:
        task: What it is for.
        noise: Whether its run added any.
        drawn: Whether test rows were drawn at random, not from a later time.
        purposes: Whether the contract says what the rows may serve.
        network: Whether its members' nodes were on machines of their own.
        explained: Whether its scores have exact reasons.
    """
    found = [*_TASK[task]]
    if not explained:
        found.append("limit.unexplained")
    found += _EVERY
    if drawn:
        found.append("limit.time")
    if not noise:
        found.append("limit.noise")
    if not purposes:
        found.append("limit.purposes")
    if not network:
        found.append("limit.one_machine")
    return (*found, *_NEVER)
