"""Whom a node knows: anew before it matters, as remembered without a coordinator, else nobody."""

import threading
from pathlib import Path

import pytest
from support.federations import Federated

from clients.policy import Recognises
from federation.channel import UnreachedError
from federation.node_roster import FRESH_S, NodeRoster
from privacy.errors import NotVerifiedError, RefusedError, TacitError
from privacy.membership import Membership


class Coordinator:
    """It answers, or does not; and what was remembered of it."""

    def __init__(self, membership: Membership) -> None:
        self.membership = membership
        self.kept: Membership | None = None
        self.fault: TacitError | None = None
        self.asked = 0
        self.now_s = 100.0
        self.read_ms: int | None = None
        self.now_ms = 1_000_000_000
        self.good_h = 24.0

    def read(self) -> Membership:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return self.membership

    def roster(self) -> NodeRoster:
        return NodeRoster(
            self.read,
            lambda: self.kept,
            read_ms=lambda: self.read_ms,
            good_h=lambda: self.good_h,
            now_s=lambda: self.now_s,
            now_ms=lambda: self.now_ms,
        )


@pytest.fixture
def federated(tmp_path: Path) -> Federated:
    """One for each test, as some let somebody in or out."""
    made = Federated(tmp_path / "roster")
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
    coordinator.read_ms = coordinator.now_ms - 3_600_000
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


def test_after_what_did_not_hold_nothing_is_taken_from_memory(coordinator: Coordinator) -> None:
    roster = coordinator.roster()
    roster.known()
    coordinator.kept = coordinator.membership
    coordinator.now_s += FRESH_S
    coordinator.fault = NotVerifiedError("another history")
    with pytest.raises(NotVerifiedError):
        roster.known()
    # that nobody answers now makes what was shown before no better
    coordinator.fault = UnreachedError("nobody answers")
    for _ in range(2):
        coordinator.now_s += FRESH_S
        for ask in (roster.known, roster.membership, lambda: roster.seen(1)):
            with pytest.raises(NotVerifiedError, match="another history"):
                ask()
    coordinator.fault = None
    coordinator.now_s += FRESH_S
    assert "Mill" in roster.known()
    assert roster.fault == ""


def test_nothing_new_is_begun_on_what_was_read_long_ago(coordinator: Coordinator) -> None:
    roster = coordinator.roster()
    roster.known()
    coordinator.fault = UnreachedError("nobody answers")
    coordinator.good_h = 2.0
    coordinator.now_s += 2 * 3600
    assert "Mill" in roster.known()
    coordinator.now_s += 1
    for ask in (roster.known, roster.launchers, lambda: roster.role_of("Bank A")):
        with pytest.raises(RefusedError, match="for more than 2 hours, and begins nothing new"):
            ask()
    # what is under way goes on
    assert "Mill" in roster.membership().members()
    assert roster.recognised(Recognises(names=("Mill",))) == frozenset({"Mill"})
    coordinator.fault = None
    coordinator.now_s += FRESH_S
    assert "Mill" in roster.known()


@pytest.mark.parametrize(
    ("read_ago_ms", "holds"), [(7_200_000, True), (7_200_001, False), (None, False)]
)
def test_a_restart_makes_nothing_fresh(
    coordinator: Coordinator, read_ago_ms: int | None, holds: bool
) -> None:
    coordinator.fault = UnreachedError("nobody answers")
    coordinator.kept, coordinator.good_h = coordinator.membership, 2.0
    if read_ago_ms is not None:
        coordinator.read_ms = coordinator.now_ms - read_ago_ms
    if holds:
        assert "Mill" in coordinator.roster().known()
        return
    with pytest.raises(RefusedError, match="begins nothing new"):
        coordinator.roster().known()


def test_it_is_asked_anew_where_a_launcher_saw_more(
    coordinator: Coordinator, federated: Federated
) -> None:
    roster = coordinator.roster()
    known = len(roster.membership().digests)
    assert roster.seen(known) == coordinator.membership.told["membership"]
    assert roster.seen(known - 1) == coordinator.membership.digest_at(known - 1)
    assert coordinator.asked == 1
    federated.invite("New", "bank")
    coordinator.membership = federated.membership
    assert roster.seen(known + 1) == federated.membership.told["membership"]
    assert coordinator.asked == 2
    assert roster.seen(known + 2) == ""


def test_who_left_is_known_without_asking_anybody(
    coordinator: Coordinator, federated: Federated
) -> None:
    key = federated.identity("Mill").public
    # after a restart, from what is remembered, and however old that is
    coordinator.kept = coordinator.membership
    coordinator.fault = UnreachedError("nobody answers")
    roster = coordinator.roster()
    assert roster.left({key, b"k" * 32}) == {b"k" * 32}
    coordinator.now_s += 1_000_000
    assert roster.left({key}) == frozenset()
    assert coordinator.asked == 0
    # where nothing was ever read, it has to be asked
    coordinator.kept = None
    with pytest.raises(UnreachedError):
        coordinator.roster().left({key})


def test_a_run_does_not_wait_for_a_reading_that_takes_long(
    coordinator: Coordinator, federated: Federated
) -> None:
    key = federated.identity("Mill").public
    roster = coordinator.roster()
    roster.membership()
    found: list[frozenset[bytes]] = []
    run = threading.Thread(target=lambda: found.append(roster.left({key})), daemon=True)
    with roster._mutex:  # as while it asks
        run.start()
        run.join(60)
        assert found == [frozenset()]


def test_what_does_not_hold_says_nothing_of_who_left(
    coordinator: Coordinator, federated: Federated
) -> None:
    key = federated.identity("Mill").public
    roster = coordinator.roster()
    assert roster.left({key}) == frozenset()
    coordinator.kept, coordinator.fault = (
        coordinator.membership,
        NotVerifiedError("another history"),
    )
    coordinator.now_s += FRESH_S
    with pytest.raises(NotVerifiedError):
        roster.membership()
    with pytest.raises(NotVerifiedError, match="another history"):
        roster.left({key})


def test_whom_the_terms_recognise(coordinator: Coordinator) -> None:
    roster = coordinator.roster()
    assert roster.recognised(Recognises()) is None
    assert roster.recognised(Recognises(names=("Mill", "Nobody"))) == frozenset({"Mill"})
    by_operator = roster.recognised(Recognises(approved_by=("operator",)))
    assert by_operator is not None
    assert by_operator >= {"Mill", "Bank A"}
    assert roster.recognised(Recognises(approved_by=("Bank A",))) == frozenset()
