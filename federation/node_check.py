"""`tacit node check`: what is wrong with a node before it matters, and what to do about it.

Each look is a function of what it looks at (`federation.node_points`), so every sentence can be
provoked; here they are done in an order in which the first that fails causes those after it.
"""

from collections.abc import Callable, Iterator

from clients.policy import NodePolicy
from federation.home import Home
from federation.node_points.budgets import budget_points
from federation.node_points.coordinator import coordinator_points
from federation.node_points.files import certificate_point, file_points
from federation.node_points.machine import (
    ledger_point,
    machine_points,
    policy_points,
    suite_points,
)
from federation.node_points.point import Point, Surroundings, sentence_of
from federation.node_points.reach import connection_points
from federation.node_points.rest import rest_points
from federation.node_points.rows import remembered_points
from federation.node_policy import FILE, read_terms
from federation.participant import Place, load_participant
from privacy.errors import TacitError
from privacy.identity import Identity


def check_node(
    home: Home, surroundings: Callable[[Place], Surroundings], *, data: bool = True
) -> Iterator[Point]:
    """Look at everything, and yield each point as it is found; nothing here raises TacitError.

    Args:
        home: Whose node.
        surroundings: Given the node's place, what is outside of it.
        data: Whether to look at rows, which can take a while.
    """
    try:
        place = load_participant(home)
    except TacitError as fault:
        yield Point(
            "participant", "failed", sentence_of(fault), "Join a federation with tacit node join."
        )
        return
    around = surroundings(place)
    now = around.now()
    files = list(file_points(place.folder))
    yield from files
    identity = _identity(place)
    try:
        policy, _ = read_terms(home.own_node / FILE)
    except TacitError:
        policy = NodePolicy()
    if all(point.level != "failed" for point in files):
        yield certificate_point(place, now)
        yield from connection_points(place, around)
        yield from coordinator_points(place, identity, around)
    yield from policy_points(home.own_node / FILE)
    yield from suite_points(policy)
    yield from machine_points(home.own_node, policy, around)
    yield from rest_points(home.own_node)
    if identity is not None:
        point = ledger_point(home.own_node, identity, owner=place.name)
        yield point
        if point.level != "failed":
            yield from budget_points(home.own_node, place.name, policy)
    yield from remembered_points(home.own_node, place.name, rows=data)


def _identity(place: Place) -> Identity | None:
    try:
        return place.identity()
    except TacitError:
        return None  # the files' own point says it
