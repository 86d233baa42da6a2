"""Which members a run asks: those of a federation whom its config selects."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from federation.config import RunConfig
from privacy.errors import CohortError, InputError

if TYPE_CHECKING:
    from privacy.membership import Membership


def select_members(membership: "Membership", config: RunConfig) -> Mapping[str, bytes]:
    """Return name -> key of the active members that fit all that a config selects by.

    Raises:
        InputError: A name is no active member's.
        CohortError: They are too few for the run.
    """
    wish, keys = config.select, membership.members()
    for name in wish.names:
        if name not in keys:
            raise InputError(
                f"select.names: {name} is no active member of {membership.federation}; its members "
                f"are {', '.join(sorted(keys)) or 'none yet'}."
            )
    chosen = {
        name: key
        for name, key in sorted(keys.items())
        if (not wish.names or name in wish.names)
        and (not wish.roles or membership.participants[name].role in wish.roles)
        and all(
            membership.participants[name].attributes.get(what) == said
            for what, said in wish.attributes.items()
        )
    }
    fewest = max(config.minimum_cohort, config.min_members or 0)
    if len(chosen) < fewest:
        which = "minimum_cohort" if fewest == config.minimum_cohort else "min_members"
        raise CohortError(
            f"{len(chosen)} of the {len(keys)} active members of {membership.federation} fit what "
            f"the config selects{_named(chosen)}, and {which} is {fewest}; select more, or lower "
            "it."
        )
    return chosen


def _named(chosen: Mapping[str, bytes]) -> str:
    return f" ({', '.join(chosen)})" if chosen else ""
