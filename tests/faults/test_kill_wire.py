"""What goes wrong on the wire of a federation that is killed is told: the twins of each check."""

from pathlib import Path

import pytest
from faults.kill_wire import FIVE, Tally, Wire
from faults.killing import reserve

from clients.ledger_files import LEDGER
from federation.home import Home
from privacy.ledger.sqlite import SqliteLedger
from privacy.messages import (
    Released,
    ReleaseRequest,
    Revealed,
    RevealRequest,
    Sealed,
    StatisticsRequest,
    SumNotice,
    SurvivorsNotice,
    Voted,
)

RUN, SUM, SIGNED = b"r" * 32, b"s" * 32, b"x" * 64
ASKED = StatisticsRequest(run=RUN, accepted={}, stage=0)
VECTOR = Sealed("ash", b"head", RUN, RUN, 1, 1, RUN, SIGNED, 0)


def survivors(*names: str) -> SurvivorsNotice:
    return SurvivorsNotice(run=RUN, context=SUM, survivors=names, record=None)  # type: ignore[arg-type]


def test_a_second_vector_for_a_step_is_told_and_the_same_again_is_none() -> None:
    wire = Wire("run-0")
    wire.took("ash", ASKED, VECTOR, b"one")
    wire.took("ash", ASKED, VECTOR, b"one")
    assert not wire.wrong
    wire.took("ash", ASKED, VECTOR, b"two")
    assert wire.wrong == ["ash sent two vectors for ('run-0', 'statistics', 0)"]


def test_a_second_sum_for_a_step_is_told() -> None:
    wire = Wire("run-0")
    for payload in (b"one", b"one", b"two"):
        wire.gave("ash", SumNotice(run=RUN, step="update", round=1, parts=()), payload)
    assert wire.wrong == ["two sums were shown of ('run-0', 'update', 1)"]


def test_a_vote_for_somebody_who_was_left_out_is_told() -> None:
    wire, vote = Wire("run-0"), Voted("ash", SIGNED, b"")
    wire.took("ash", survivors(*FIVE), vote, b"")
    wire.took("ash", survivors(*FIVE[:4]), vote, b"")
    assert not wire.wrong
    wire.took("ash", survivors(*FIVE), vote, b"")
    assert wire.wrong == ["ash signed survivors who were gone in its last vote"]


@pytest.mark.parametrize("masks_first", [True, False])
def test_both_secrets_of_one_member_are_told(masks_first: bool) -> None:
    wire = Wire("run-0")
    masks = (
        ReleaseRequest(run=RUN, context=SUM, survivors=(), votes={}),
        Released("birch", {"ash": RUN}, SIGNED),
    )
    shares = (
        RevealRequest(run=RUN, context=SUM, survivors=(), votes={}, cosignatures={}, boxes={}),
        Revealed("cedar", {"ash": RUN}, SIGNED),
    )
    order = (masks, shares) if masks_first else (shares, masks)
    for asked, told in order:
        assert not wire.wrong
        wire.took("birch", asked, told, b"")
    assert wire.wrong == ["both secrets of ['ash'] were told of one sum"]


def test_what_left_without_a_record_and_a_ledger_that_lost_entries_are_told(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path)
    for member in FIVE:
        home.node("contract", member).mkdir(parents=True)
    ledger = SqliteLedger(home.node("contract", "ash") / LEDGER)
    reserve(ledger, "run-0")
    ledger.close()
    tally, wire = Tally(), Wire("run-0")
    wire.asked["ash"].add(("run-0", "update", 1))
    tally.hold_against(home, "contract", wire)
    assert not tally.faults
    assert tally.over == tally.over_allowed == 1
    wire.left["birch"].add(("run-0", "update", 1))
    wire.shown.add(("run-0", "update", 1))
    ledger.path.unlink()
    tally.hold_against(home, "contract", wire)
    told = " ".join(tally.faults)
    assert "1 entries are gone" in told
    assert "birch released without a record" in told
    assert "a sum was shown without a record" in told
