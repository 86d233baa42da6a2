"""Who wants one member's importance: on the wire, on any disk, by a restart."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.deviations import replaced
from support.direct import Direct
from support.sums import federation, watched

from clients.learner import Learner
from clients.node import Node
from clients.policy import NodePolicy
from privacy.errors import ProtocolError
from privacy.fixed_point import wide
from privacy.manifest import PROTECTIONS
from privacy.messages import EvaluateRequest, Sealed, SurvivorsNotice, pack
from privacy.tally import TALLY_CLIP, tally_length

FOUR = ("bank", "east", "mill", "north")
LAYOUT = wide(len(FOUR), clip=TALLY_CLIP)
ONE_ROUND = {"rounds": 1, "batch_rows": 32, "learning_rate": 0.02}


@dataclass
class Own:
    """What each member added, in the order in which they were asked; the attacker's answer key."""

    tallies: list[NDArray[np.float64]] = field(default_factory=list)

    def said(self) -> list[str]:
        """Each member's sums, means and shares, as JSON begins to say them.

        A number is said to its fifteenth decimal, so that no other one is taken for it: of the
        numbers in the files three lie within 1e-3 of one of these, and where they move by 1e-4
        from run to run, one agrees that far with a chance below 1e-10. Shares are computed as a
        node does it: another order could end in another last digit, and that could carry.
        """
        numbers: list[float] = []
        for one in self.tallies:
            sizes = one[2:].tolist()
            means = [size / one[1] for size in sizes]
            numbers += [*sizes, *means, *(mean / sum(means) for mean in means)]
        return [json.dumps(float(number))[:17] for number in numbers]

    def packed(self) -> list[bytes]:
        """The same as float64."""
        return [float(number).hex().encode() for one in self.tallies for number in one[2:]] + [
            np.float64(number).tobytes() for one in self.tallies for number in one[2:]
        ]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Own:
    """What is added stands on the sum's own steps, so that rounding at random changes none of it.

    Otherwise a search for a member's exact numbers would miss the ones that were sealed.
    """
    found, whole = Own(), Learner.importance

    def watching(self: Learner, *given: Any) -> NDArray[np.float64]:  # noqa: ANN401
        told = np.round(whole(self, *given) / LAYOUT.step) * LAYOUT.step
        found.tallies.append(told)
        return told

    monkeypatch.setattr(Learner, "importance", watching)
    return found


def kept(folder: Path, protection: str = "masked") -> Direct:
    """A run of four whose nodes keep their sessions, asked what the model leans on."""
    run = federation(
        folder, FOUR, policy=NodePolicy(sums=PROTECTIONS), explain=True, training=ONE_ROUND,
        protection={"sum": protection},
    )  # fmt: skip
    for place, node in list(run.nodes.items()):
        run.nodes[place] = Node(replace(node._settings, sessions=True))
    run.transport.members = run.nodes
    return run


def found_in(places: Sequence[tuple[str, bytes]], own: Own) -> list[str]:
    """Where any member's own stands."""
    needles = [text.encode() for text in own.said()] + own.packed()
    return sorted({name for name, data in places for one in needles if one in data})


def on_disk(root: Path) -> list[tuple[str, bytes]]:
    return [(one.name, one.read_bytes()) for one in root.rglob("*") if one.is_file()]


@pytest.mark.parametrize("protection", ["masked", "sealed"])
def test_no_members_own_is_on_the_wire_on_a_disk_or_in_a_ledger(
    tmp_path: Path, own: Own, protection: str
) -> None:
    direct = kept(tmp_path, protection)
    direct.run()
    assert len(own.tallies) == len(FOUR)
    assert len({one.tobytes() for one in own.tallies}) == len(FOUR)
    wire = [("reply", one.message + one.payload) for _, _, one in direct.transport.seen]
    for _, request, payload in watched(direct).asked:
        parcel = pack(request, payload)
        wire.append(("request", parcel.message + parcel.payload))
    ledger = [("ledger", json.dumps(direct.notes.entries).encode())]
    assert found_in([*wire, *on_disk(tmp_path / "nodes"), *ledger], own) == []
    # the same search over what was opened finds that, so it would have found the others
    total = Own([np.sum(own.tallies, axis=0)])
    opened = b"".join(data for name, data in on_disk(tmp_path / "nodes") if name == "sums.jsonl")
    means_and_shares = total.said()[own.tallies[0].size - 2 :]
    assert len(means_and_shares) == 2 * (own.tallies[0].size - 2)
    assert [text for text in means_and_shares if text.encode() not in opened] == []
    # and had one member's been returned, it would be seen
    mill = own.tallies[2]
    leak = tmp_path / "nodes" / "bank" / "report.json"
    leak.write_text(json.dumps({"importance": (mill[2:] / mill[1]).tolist()}))
    assert found_in(on_disk(tmp_path / "nodes"), own) == ["report.json"]


def read_tests(direct: Direct, length: int) -> list[NDArray[np.float64]]:
    """Each member's vector for the final test, read as if nothing hid it."""
    asked = [request for _, request, _ in watched(direct).asked]
    replies = [parcel for *_, parcel in direct.transport.seen]
    return [
        LAYOUT.decode_sum(np.frombuffer(parcel.payload, "<u8")[:length], length, 1)
        for request, parcel in zip(asked, replies, strict=True)
        if isinstance(request, EvaluateRequest) and request.part == "test"
    ]


def test_a_vector_does_not_decode_to_its_members_own(tmp_path: Path, own: Own) -> None:
    bare = kept(tmp_path / "clear", "clear")
    bare.run()
    size = own.tallies[0].size
    length = tally_length("binary", ()) + size
    found = read_tests(bare, length)
    assert len(found) == len(FOUR)
    for one, told in zip(found, own.tallies, strict=True):
        # `clear` says so of itself: the attack is one that works where nothing hides a vector
        np.testing.assert_allclose(one[-size:], told, atol=1e-4)
    masked = kept(tmp_path / "masked")
    masked.run()
    with pytest.raises(ProtocolError, match="out of range"):
        read_tests(masked, length)


class EnoughError(Exception):
    """The attack is over."""


def test_a_restart_repeats_the_same_bytes_and_seals_no_second_vector(tmp_path: Path) -> None:
    direct = kept(tmp_path)

    def hostile(at: Any) -> None:  # noqa: ANN401 - an Exchange
        if not (isinstance(at.request, SurvivorsNotice) and at.step == "evaluate test 1"):
            return
        if at.node.member != "bank":
            return
        asked = at.earlier(EvaluateRequest, "bank")[-1][0]
        assert asked.part == "test"
        told = at.node.handle(asked)
        assert isinstance(told[0], Sealed)
        fewer = dict(list(asked.accepted.items())[1:])
        for _ in range(2):
            node = Node(at.node._settings)
            assert node.handle(asked) == told
            with pytest.raises(ProtocolError, match="already sealed"):
                node.handle(replaced(asked, accepted=fewer))
        raise EnoughError

    watched(direct).hostile = hostile
    with pytest.raises(EnoughError):
        direct.run()
