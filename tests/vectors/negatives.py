"""All forgeries, each of a bundle that holds, and the step that must find it."""

from vectors import (
    negatives_form,
    negatives_members,
    negatives_nodes,
    negatives_runs,
    negatives_sides,
    negatives_trees,
    negatives_witnesses,
)
from vectors.forging import Forgery, recipes

__all__ = [
    "negatives_form",
    "negatives_members",
    "negatives_nodes",
    "negatives_runs",
    "negatives_sides",
    "negatives_trees",
    "negatives_witnesses",
]


def all_forgeries() -> list[Forgery]:
    """Every negative vector, in the order of steps."""
    return [one.make() for one in recipes()]
