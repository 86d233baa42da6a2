"""Reviews as they are kept: what a broken or a foreign file may not do, and who may read what."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clients.gate import Device, Watched, watched
from clients.review import HELD, REJECTED, RELEASED, State
from clients.review_store import AGAIN, BY_READINGS, Reviews
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.entry import parse_leaf
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append
from privacy.randomness import system_bytes

PUMP, FAN = Device("pump-1"), Device("fan-1")
BOUNDS = np.array([[20.0, 90.0]])


def read(*heat: float) -> Watched:
    return watched(np.arange(float(len(heat))), np.array(heat).reshape(-1, 1), BOUNDS)


HOT = read(50, 95, 95, 95, 50)
FINE = read(50, 50, 50)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Reviews]:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    identity = Identity.create(system_bytes)
    begin_ledger(ledger, identity, owner="north", role="node", time_ms=1)

    def again(dataset: str = "pumps") -> Reviews:
        return Reviews(
            home=tmp_path,
            ledger=SqliteLedger(tmp_path / "ledger.db"),
            dataset=dataset,
            entropy=system_bytes,
            now_ms=lambda: 7,
        )

    return again


def acts(reviews: Reviews) -> list[str]:
    return [
        one.kind
        for one in map(parse_leaf, reviews._ledger.leaves())
        if one.kind.startswith("device.")
    ]


def test_a_device_is_held_once_and_stays_so_in_any_process(
    opened: Callable[..., Reviews],
) -> None:
    first = opened().look({PUMP: HOT, FAN: FINE})
    assert (first.new, first.left_out) == ((PUMP,), frozenset({PUMP}))
    again = opened().look({PUMP: HOT, FAN: FINE})
    assert (again.new, again.left_out) == ((), frozenset({PUMP}))
    # no later reading lets go of it, not even one that breaks the row
    assert opened().look({PUMP: read(50, 95, 50, 95), FAN: FINE}).left_out == {PUMP}
    assert acts(opened()) == [HELD]


def test_a_release_is_about_what_was_seen_and_three_more_hold_it_again(
    opened: Callable[..., Reviews],
) -> None:
    reviews = opened()
    reviews.look({PUMP: HOT})
    standing = reviews.decide(reviews.device(PUMP), "release", reason="a test bench", by="ann")
    assert (standing.state, standing.review) == (State.RELEASED, 1)
    assert not opened().look({PUMP: HOT}).left_out
    # two more in the same row, then a third
    assert not opened().look({PUMP: read(50, 95, 95, 95, 96, 96)}).left_out
    held = opened().look({PUMP: read(50, 95, 95, 95, 96, 96, 96)})
    assert held.new == (PUMP,)
    assert held.standings[PUMP].review == 2
    assert acts(reviews) == [HELD, RELEASED, HELD]


def test_a_reading_that_was_corrected_is_another_reading(opened: Callable[..., Reviews]) -> None:
    reviews = opened()
    reviews.look({PUMP: HOT})
    reviews.decide(reviews.device(PUMP), "release", reason="fine", by="ann")
    assert opened().look({PUMP: read(50, 96, 97, 98, 50)}).new == (PUMP,)


def test_a_rejected_device_stays_out_until_a_person_looks_again(
    opened: Callable[..., Reviews],
) -> None:
    reviews = opened()
    reviews.look({PUMP: HOT})
    digest = reviews.device(PUMP)
    reviews.decide(digest, "reject", reason="a broken sensor", by="ann")
    assert opened().look({PUMP: FINE}).left_out == {PUMP}
    with pytest.raises(RefusedError, match="rejected already"):
        opened().decide(digest, "reject", reason="again", by="ann")
    standing = opened().decide(digest, "release", reason="repaired", by="bob")
    assert (standing.state, standing.review) == (State.RELEASED, 2)
    assert [act.reason for act in standing.acts][2:] == [AGAIN, "repaired"]
    held, rejected, again, released = (act.readings for act in standing.acts)
    assert held == rejected != again == released
    assert (standing.rejections, standing.releases) == (1, (released,))
    look = opened().look({PUMP: FINE})
    assert not look.left_out
    assert [(act.kind, act.review, act.reason, act.by) for act in look.standings[PUMP].acts] == [
        (HELD, 1, BY_READINGS, ""),
        (REJECTED, 1, "a broken sensor", "ann"),
        (HELD, 2, AGAIN, ""),
        (RELEASED, 2, "repaired", "bob"),
    ]
    assert {act.time_ms for act in look.standings[PUMP].acts} == {7}
    assert acts(reviews) == [HELD, REJECTED, HELD, RELEASED]


def test_a_release_whose_readings_are_gone_releases_nothing(
    opened: Callable[..., Reviews],
) -> None:
    reviews = opened()
    reviews.look({PUMP: HOT})
    standing = reviews.decide(reviews.device(PUMP), "release", reason="fine", by="ann")
    (reviews.folder / f"{standing.releases[0]}.json").unlink()
    assert opened().look({PUMP: HOT}).new == (PUMP,)


@pytest.mark.parametrize(
    ("whose", "how"),
    [
        *(("device", how) for how in ("cut", "noise", "list", "other", "no list", "folder")),
        *(("release", how) for how in ("cut", "noise", "list", "other", "no list", "folder")),
        # of a device, these would be what the next look sees anyway
        *(("release", how) for how in ("emptied", "more")),
    ],
)
def test_a_file_that_is_not_what_was_written_is_refused(
    opened: Callable[..., Reviews], how: str, whose: str
) -> None:
    reviews = opened()
    reviews.look({PUMP: HOT, FAN: HOT})
    digest = reviews.device(PUMP)
    standing = reviews.decide(digest, "release", reason="fine", by="ann")
    other = reviews.decide(reviews.device(FAN), "release", reason="fine", by="ann").releases[0]
    path = reviews.folder / f"{digest if whose == 'device' else standing.releases[0]}.json"
    value = json.loads(path.read_text())
    if how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "other":
        name = reviews.device(FAN) if whose == "device" else other
        path.write_bytes((reviews.folder / f"{name}.json").read_bytes())
    elif how in {"cut", "noise", "list"}:
        bad = {"cut": path.read_bytes()[:-3], "noise": b"\xff\x00", "list": b"[]"}
        path.write_bytes(bad[how])
    else:
        more = reviews._facts(PUMP, read(50, 96, 96, 96, 50)).words
        lists = {"emptied": [], "more": [*value["readings"], *more], "no list": 7}
        path.write_text(json.dumps({**value, "readings": lists[how]}))
    before = path.read_bytes() if path.is_file() else b""
    kind = InputError if how == "folder" else NotVerifiedError
    with pytest.raises(kind, match=r"\.json: (is damaged|cannot be read)") as said:
        opened().look({PUMP: HOT, FAN: HOT})
    assert "\n" not in str(said.value)
    if whose == "release":
        with pytest.raises(kind):
            opened().look({PUMP: HOT}, record=False)
    assert acts(opened()).count(HELD) == 2
    assert (path.read_bytes() if path.is_file() else b"") == before  # nothing is mended unseen
    if whose == "device":
        with pytest.raises(kind):
            opened().remembered()
        with pytest.raises(kind):
            opened().decide(digest, "reject", reason="no", by="ann")


def test_nothing_is_decided_about_a_device_that_nobody_looked_at(
    opened: Callable[..., Reviews],
) -> None:
    reviews = opened()
    with pytest.raises(InputError, match="not remembered"):
        reviews.decide(reviews.device(PUMP), "release", reason="fine", by="ann")
    reviews.look({PUMP: HOT, FAN: FINE})
    with pytest.raises(InputError, match="not remembered"):
        reviews.decide(reviews.device(FAN), "reject", reason="no", by="ann")
    # another device's file under this one's name says nothing of it
    own = reviews.folder / f"{reviews.device(PUMP)}.json"
    own.rename(reviews.folder / f"{reviews.device(FAN)}.json")
    with pytest.raises(NotVerifiedError, match="belongs elsewhere"):
        reviews.decide(reviews.device(FAN), "release", reason="fine", by="ann")
    assert acts(reviews) == [HELD]


def test_a_person_decides_on_what_they_saw(opened: Callable[..., Reviews]) -> None:
    reviews = opened()
    reviews.look({PUMP: HOT})
    digest = reviews.device(PUMP)
    seen = reviews.shown(digest)
    opened().look({PUMP: read(50, 95, 95, 95, 95)})
    with pytest.raises(RefusedError, match="other readings"):
        reviews.decide(digest, "release", reason="fine", by="ann", seen=seen[:12])
    reviews.decide(digest, "release", reason="fine", by="ann", seen=reviews.shown(digest)[:12])


@pytest.mark.parametrize("text", ["", "  ", "x" * 301, "a\x07b"])
def test_a_reason_is_text_that_can_be_kept(opened: Callable[..., Reviews], text: str) -> None:
    reviews = opened()
    reviews.look({PUMP: HOT})
    for words in ({"reason": text, "by": "ann"}, {"reason": "fine", "by": text}):
        with pytest.raises(InputError, match="printable text"):
            reviews.decide(reviews.device(PUMP), "release", **words)
    assert acts(reviews) == [HELD]


def test_a_look_that_is_not_recorded_writes_nothing(
    opened: Callable[..., Reviews], tmp_path: Path
) -> None:
    assert opened().look({PUMP: HOT}, record=False).new == (PUMP,)
    assert acts(opened()) == []
    assert not (tmp_path / "review").exists()


def test_names_and_readings_are_in_no_entry_and_differ_by_data_set_part_and_node(
    opened: Callable[..., Reviews], tmp_path: Path
) -> None:
    reviews = opened()
    reviews.look({PUMP: HOT, Device("pump-1", test=True): HOT})
    opened("fans").look({PUMP: HOT})
    entries = [one for one in map(parse_leaf, reviews._ledger.leaves()) if one.kind == HELD]
    assert len({one.body["device"] for one in entries}) == 3
    assert len({one.body["readings"] for one in entries}) == 3
    assert all(b"pump" not in one.leaf().replace(b'"pumps"', b"") for one in entries)
    other = Reviews(
        home=tmp_path / "other",
        ledger=reviews._ledger,
        dataset="pumps",
        entropy=system_bytes,
        now_ms=lambda: 7,
    )
    (tmp_path / "other").mkdir()
    assert other.device(PUMP) != reviews.device(PUMP)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (HELD, {"review": 2}),
        (HELD, {"review": 3}),
        (RELEASED, {"review": 2, "by": "ann"}),
        (REJECTED, {"review": 3, "by": "ann"}),
    ],
)
def test_acts_that_do_not_follow_from_each_other_are_found(
    opened: Callable[..., Reviews], kind: str, more: dict[str, object]
) -> None:
    reviews = opened()
    reviews.look({PUMP: HOT})
    body = {"dataset": "pumps", "device": reviews.device(PUMP), "readings": "0" * 64}
    append(reviews._ledger, kind, {**body, "reason": "x", **more}, time_ms=9)
    with pytest.raises(NotVerifiedError, match="does not follow"):
        opened().look({PUMP: HOT})
