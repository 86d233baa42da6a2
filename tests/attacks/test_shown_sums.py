"""What a coordinator shows as a step's sums, and how often: real nodes, its own notices."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from support.direct import Direct
from support.sums import federation

from clients.node import Node
from clients.session import Session
from privacy.errors import ProtocolError, RefusedError
from privacy.messages import (
    Parcel,
    Request,
    RevealRequest,
    SumNotice,
    SumPart,
    TrainRequest,
)
from privacy.tally import metrics, tally_length

FIVE = ("ash", "birch", "cedar", "elm", "fir")
TWELVE = tuple(f"n{i:02d}" for i in range(12))


def node_of(run: Direct, member: str) -> Node:
    return next(node for node in run.nodes.values() if node.member == member)


@pytest.mark.parametrize("sum_", ["masked", "sealed"])
def test_of_each_step_one_payload_is_tried(tmp_path: Path, sum_: str) -> None:
    """Else each try would tell whether a changed ciphertext still holds: a way to the key."""
    run = federation(tmp_path, TWELVE, rows=40, protection={"sum": sum_, "robust": "groups"})
    refused: list[str] = []

    def two_groups_alone(member: str, request: Request, parcel: Parcel) -> Parcel:
        first = member == TWELVE[-1] and not refused
        if first and isinstance(request, SumNotice) and request.step == "update":
            given_up = SumPart(survivors=(), votes={}, length=0)
            parts = (*request.parts[:2], given_up, given_up)
            length = sum(part.length for part in parts)
            fewer = msgspec.structs.replace(request, parts=parts)
            node = node_of(run, member)
            for sentence in ("Too few of 4 groups", "has not joined that run"):
                with pytest.raises(ProtocolError, match=sentence):
                    node.handle(fewer, parcel.payload[:length])
                refused.append(sentence)
        return parcel

    run.transport.tamper_request = two_groups_alone
    run.run()
    # the node is out, and says so to every further request; the others go on without it
    assert refused == ["Too few of 4 groups", "has not joined that run"]
    assert TWELVE[-1] not in run.models()
    assert len(set(run.models().values())) == 1


def test_after_a_full_disk_the_same_sums_are_taken_and_no_others(tmp_path: Path) -> None:
    run = federation(tmp_path, TWELVE, rows=40, protection={"sum": "masked", "robust": "groups"})
    tried: list[str] = []

    def full_disk(member: str, request: Request, parcel: Parcel) -> Parcel:
        first = member == TWELVE[-1] and not tried
        if first and isinstance(request, SumNotice) and request.step == "update":
            node = node_of(run, member)
            write = node._write_down

            def full(session: Session, record: Mapping[str, object]) -> None:
                del session, record
                raise RefusedError("the disk is full")

            node._write_down = full  # type: ignore[method-assign]
            with pytest.raises(RefusedError, match="the disk is full"):
                node.handle(request, parcel.payload)
            node._write_down = write  # type: ignore[method-assign]
            given_up = SumPart(survivors=(), votes={}, length=0)
            three = msgspec.structs.replace(request, parts=(*request.parts[:3], given_up))
            length = sum(part.length for part in three.parts)
            with pytest.raises(ProtocolError, match="Other sums were shown as this step's before"):
                node.handle(three, parcel.payload[:length])
            tried.append(member)
        return parcel

    run.transport.tamper_request = full_disk
    run.run()
    assert tried == [TWELVE[-1]]
    # the same words were accepted afterwards, and the node stayed with the others
    assert len(run.models()) == len(TWELVE)
    assert len(set(run.models().values())) == 1


def test_a_sum_is_never_shown_as_one_over_members_who_were_left_out(tmp_path: Path) -> None:
    """The old votes on all five are valid, but this node signed four since."""
    run = federation(tmp_path, FIVE)
    run.transport.away = lambda member, request, _: (
        member == "fir" and isinstance(request, TrainRequest) and request.round == 1
    )
    refused: list[str] = []

    def all_five(member: str, request: Request, parcel: Parcel) -> Parcel:
        if isinstance(request, RevealRequest) and len(request.survivors) == 4:
            notice = SumNotice(
                run=request.run,
                step="update",
                round=1,
                parts=(SumPart(survivors=FIVE, votes={}, length=8),),
            )
            with pytest.raises(ProtocolError, match="other members than this node signed last"):
                node_of(run, member).handle(notice, bytes(8))
            refused.append(member)
        return parcel

    run.transport.tamper_request = all_five
    run.run()
    assert set(FIVE[:4]) <= set(refused)
    assert len(set(run.models().values())) == 1


def test_a_tally_of_absurd_numbers_gives_metrics_or_none_and_no_crash() -> None:
    import numpy as np

    for kind in ("life", "value", "binary", "count"):
        for value in (0.0, 2.0**40, -(2.0**40), 1e-9):
            total = np.full(tally_length(kind, ()), value)
            with np.errstate(all="ignore"):
                found = metrics(kind, total, ())
            assert all(np.isfinite(number) for number in found.values())
