"""The acts that a machine has seen: each checked once, only ever more, and nothing that is none."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from filelock import FileLock
from support.federations import Federated

from federation.channel import UnreachedError
from federation.members.client import MembersClient
from federation.participant import Place
from federation.roster import (
    CACHE,
    LOCK,
    READ,
    SeenActs,
    cached_membership,
    read_acts,
    read_membership,
    read_ms,
)
from privacy.errors import InputError, NotVerifiedError
from privacy.identity import verify_signature
from privacy.ledger.entry import make_entry


class Coordinator:
    """Shows the acts of a federation, or whatever a test puts in their place."""

    def __init__(self, federated: Federated) -> None:
        self.federated = federated
        self.shown: list[bytes] | None = None
        self.meanwhile: Callable[[], object] = lambda: None
        self.yielded = 0

    @property
    def leaves(self) -> list[bytes]:
        return [entry.leaf() for entry in self.federated.enrolment.acts()]

    def acts(self, skip: int = 0) -> Iterator[bytes]:
        self.meanwhile()
        leaves = self.leaves if self.shown is None else self.shown
        if skip > len(leaves):
            raise InputError("there are not so many acts")
        for leaf in leaves[skip:]:
            self.yielded += 1
            yield leaf

    @property
    def client(self) -> MembersClient:
        return cast("MembersClient", self)


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    made = Federated(tmp_path)
    made.add("Mill", "manufacturer")
    made.add("Bank", "bank")
    return Coordinator(made)


@pytest.fixture
def place(coordinator: Coordinator) -> Place:
    return coordinator.federated.place("Mill")


def test_only_new_acts_are_checked(
    coordinator: Coordinator, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[bytes] = []
    verify = verify_signature

    def counted(key: bytes, domain: str, message: bytes, signature: bytes) -> None:
        checked.append(message)
        verify(key, domain, message, signature)

    seen = SeenActs(place)
    seen.read(coordinator.client)
    monkeypatch.setattr("privacy.membership.verify_signature", counted)
    seen.read(coordinator.client)
    assert checked == []
    coordinator.federated.invite("Insurer", "insurer")
    checked.clear()
    expected = coordinator.federated.membership
    checked.clear()
    assert seen.read(coordinator.client) == expected
    assert len(checked) == 1


def test_what_is_no_act_is_refused_with_the_first_leaf(
    coordinator: Coordinator, place: Place
) -> None:
    leaves = coordinator.leaves
    filler = [
        make_entry(
            index=100 + n, time_ms=2**52, epoch=1, kind="writer.began", body={"writer": "w"}
        ).leaf()
        for n in range(50)
    ]
    coordinator.shown = [*leaves, *filler]
    with pytest.raises(NotVerifiedError, match=r"writer\.began among the acts.*it is none"):
        read_acts(place, coordinator.client)
    assert coordinator.yielded == len(leaves) + 1
    assert not (place.folder / CACHE).exists()


def test_no_more_bytes_are_taken_than_there_may_be(
    coordinator: Coordinator, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.roster.BYTES_MAX", sum(map(len, coordinator.leaves[:3])))
    with pytest.raises(NotVerifiedError, match="MiB of acts"):
        read_membership(place, coordinator.client)
    assert coordinator.yielded == 4


def test_two_processes_keep_what_either_has_seen(coordinator: Coordinator, place: Place) -> None:
    node, desk = SeenActs(place), SeenActs(place)
    node.read(coordinator.client)
    early = coordinator.leaves
    coordinator.federated.invite("Insurer", "insurer")
    late = coordinator.leaves

    def other() -> None:
        coordinator.meanwhile = lambda: None
        coordinator.shown = late
        desk.read(coordinator.client)
        coordinator.shown = early

    # the node is shown the earlier acts, while the desk reads one more
    coordinator.meanwhile = other
    found = node.read(coordinator.client)
    assert len(found.digests) == len(late)
    known = cached_membership(place)
    assert known is not None
    assert len(known.digests) == len(late)


def test_two_histories_in_two_processes_are_told(coordinator: Coordinator, place: Place) -> None:
    node, desk = SeenActs(place), SeenActs(place)
    node.read(coordinator.client)
    leaves = coordinator.leaves
    coordinator.federated.invite("Insurer", "insurer")
    one = coordinator.leaves
    coordinator.shown = leaves
    other = [*leaves, one[-1].replace(b"Insurer", b"Insurex")]

    def forked() -> None:
        coordinator.meanwhile = lambda: None
        coordinator.shown = one
        desk.read(coordinator.client)
        coordinator.shown = other

    coordinator.meanwhile = forked
    with pytest.raises(NotVerifiedError):
        node.read(coordinator.client)
    assert kept(place) == one


def kept(place: Place) -> list[bytes]:
    return [leaf.encode() for leaf in json.loads((place.folder / CACHE).read_bytes())]


def test_the_file_is_held_while_it_is_used(
    coordinator: Coordinator, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.participant.LOCK_S", 0.05)
    with (
        FileLock(place.folder / LOCK),
        pytest.raises(InputError, match="another process holds"),
    ):
        read_membership(place, coordinator.client)
    read_membership(place, coordinator.client)


def test_a_file_that_is_older_takes_nothing_back(coordinator: Coordinator, place: Place) -> None:
    seen = SeenActs(place)
    seen.read(coordinator.client)
    earlier = (place.folder / CACHE).read_bytes()
    coordinator.federated.invite("Insurer", "insurer")
    seen.read(coordinator.client)
    (place.folder / CACHE).write_bytes(earlier)
    os.utime(place.folder / CACHE, ns=(1, 1))
    coordinator.shown = coordinator.leaves[:-1]
    with pytest.raises(NotVerifiedError, match="another history"):
        seen.read(coordinator.client)
    coordinator.shown = None
    seen.read(coordinator.client)
    assert kept(place) == coordinator.leaves


def test_what_did_not_hold_is_kept_until_it_does_again(
    coordinator: Coordinator, place: Place
) -> None:
    now_ms = [1_000_000]
    seen = SeenActs(place, now_ms=lambda: now_ms[0])
    assert read_ms(place) is None
    seen.read(coordinator.client)
    assert read_ms(place) == 1_000_000
    now_ms[0] += 3_600_000
    coordinator.shown = coordinator.leaves[:-1]
    with pytest.raises(NotVerifiedError, match="another history"):
        seen.read(coordinator.client)
    # also for whoever asks after a restart, and while nobody answers
    assert read_ms(place) == 1_000_000
    for _ in range(2):
        with pytest.raises(NotVerifiedError, match="another history"):
            cached_membership(place)

    def silent() -> None:
        raise UnreachedError("nobody answers")

    coordinator.meanwhile = silent
    with pytest.raises(UnreachedError):
        seen.read(coordinator.client)
    with pytest.raises(NotVerifiedError, match="another history"):
        cached_membership(place)
    coordinator.meanwhile, coordinator.shown = lambda: None, None
    seen.read(coordinator.client)
    assert cached_membership(place) == coordinator.federated.membership
    assert read_ms(place) == now_ms[0]


def test_a_good_read_is_not_written_down_each_time(coordinator: Coordinator, place: Place) -> None:
    now_ms = [1_000_000]
    seen = SeenActs(place, now_ms=lambda: now_ms[0])
    seen.read(coordinator.client)
    written = (place.folder / READ).stat().st_mtime_ns, (place.folder / CACHE).stat().st_mtime_ns
    now_ms[0] += 59_999
    seen.read(coordinator.client)
    again = (place.folder / READ).stat().st_mtime_ns, (place.folder / CACHE).stat().st_mtime_ns
    assert again == written
    now_ms[0] += 1
    seen.read(coordinator.client)
    assert read_ms(place) == 1_060_000
