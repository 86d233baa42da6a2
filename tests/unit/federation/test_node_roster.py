"""Whom a node knows: anew before it matters, as remembered without a coordinator, else nobody."""

from pathlib import Path

import pytest
from support.federations import Federated

from federation.channel import UnreachedError
from federation.node_roster import FRESH_S, NodeRoster
from privacy.errors import NotVerifiedError, TacitError
from privacy.membership import Membership


class Coordinator:
    """It answers, or does not; and what was remembered of it."""

    def __init__(self, membership: Membership) -> None:
        self.membership = membership
        self.kept: Membership | None = None
        self.fault: TacitError | None = None
        self.asked = 0
        self.now_s = 100.0

    def read(self) -> Membership:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return self.membership

    def roster(self) -> NodeRoster:
        return NodeRoster(self.read, lambda: self.kept, now_s=lambda: self.now_s)


@pytest.fixture(scope="module")
def federated(tmp_path_factory: pytest.TempPathFactory) -> Federated:
    made = Federated(tmp_path_factory.mktemp("roster"))
    made.add("Mill", "manufacturer")
    made.add("Bank A", "bank")
    return made


@pytest.fixture
def coordinator(federated: Federated) -> Coordinator:
    return Coordinator(federated.membership)


def test_members_launchers_and_roles(coordinator: Coordinator) -> None:
    roster = coordinator.roster()
    assert set(roster.known()) == {"Mill", "Bank A"}
    assert set(roster.launchers()) == {"Bank A"}
    assert roster.role_of("Bank A") == "bank"
    assert roster.role_of("Mill") is None
    assert roster.role_of("operator") is None
    assert roster.role_of("Mallory") is None


def test_it_is_asked_anew_once_it_is_not_fresh(
    coordinator: Coordinator, federated: Federated, tmp_path: Path
) -> None:
    del tmp_path
    roster = coordinator.roster()
    for _ in range(3):
        roster.known()
    assert coordinator.asked == 1
    coordinator.now_s += FRESH_S
    federated.add("Insurer", "insurer")
    coordinator.membership = federated.membership
    assert "Insurer" in roster.known()
    assert coordinator.asked == 2


@pytest.mark.parametrize("remembered", [True, False])
def test_without_a_coordinator_what_is_remembered_holds(
    coordinator: Coordinator, remembered: bool
) -> None:
    coordinator.fault = UnreachedError("nobody answers")
    coordinator.kept = coordinator.membership if remembered else None
    roster = coordinator.roster()
    if not remembered:
        with pytest.raises(UnreachedError):
            roster.known()
        return
    assert "Mill" in roster.known()
    assert roster.fault == "nobody answers"
    assert roster.seen_s() is None
    coordinator.now_s += FRESH_S
    coordinator.fault = None
    roster.known()
    assert roster.fault == ""
    coordinator.now_s += 2
    assert roster.seen_s() == 2


def test_a_membership_that_does_not_hold_is_believed_by_nobody(coordinator: Coordinator) -> None:
    roster = coordinator.roster()
    roster.known()
    coordinator.now_s += FRESH_S
    coordinator.fault = NotVerifiedError("another history")
    coordinator.kept = coordinator.membership
    for ask in (roster.known, roster.launchers, lambda: roster.role_of("Bank A")):
        # not within the time for which an answer is fresh either
        with pytest.raises(NotVerifiedError):
            ask()
