from collections.abc import Mapping
from dataclasses import FrozenInstanceError, replace

import pytest

from privacy.canonical import canonical_json
from privacy.errors import NotVerifiedError
from privacy.ledger import EMPTY_ROOT, next_entry, parse_line, replay
from privacy.ledger.chain import head_of
from privacy.ledger.entry import KINDS, make_entry
from privacy.manifest import PROTECTIONS
from privacy.receipt import Receipt

HASH = "a" * 64
SIGNED = {"a": "b" * 128}
RECEIPT = Receipt(
    kind="update",
    unit="borrower",
    cohort="training",
    mechanism="gaussian",
    share=0.5,
    clip=1.0,
    sampling="poisson",
    rate=0.05,
    steps=1,
    shares=9,
    values=10,
    grid=0.0,
    purpose="run r, update of round 1",
).to_json()
BODIES: Mapping[str, Mapping[str, object]] = {
    "run.started": {
        "run": "r",
        "name": "demo",
        "task": "credit",
        "members": {"a": HASH, "b": "b" * 64},
        "minimum": 2,
        "group_size": 0,
        "manifest": HASH,
        "document": "{}\n",
        "protection": "masked",
    },
    "keys.agreed": {"run": "r", "roster": HASH, "fingerprint": HASH, "public_bytes": 0},
    "model.agreed": {"run": "r", "architecture": HASH, "model": HASH, "values": 10},
    "sum.opened": {
        "run": "r",
        "step": "update",
        "round": 1,
        "asked": ["a", "b"],
        "members": ["a", "b"],
        "schema": HASH,
        "model": HASH,
        "context": HASH,
        "aggregate": HASH,
        "payload_bytes": 8,
        "signatures": SIGNED,
    },
    "sum.accepted": {
        "run": "r",
        "step": "evaluate watch",
        "round": 1,
        "model": HASH,
        "kept": False,
        "signatures": SIGNED,
    },
    "receipt": {
        "run": "r",
        "step": "update",
        "round": 1,
        "protection": "clear",
        "members": ["a"],
        "receipt": RECEIPT,
    },
    "budget.terms": {
        "member": "a",
        "dataset": "loans",
        "unit": "borrower",
        "epsilon": 8.0,
        "delta": 1e-05,
        "order": 4,
        "colluders": 2,
        "period_days": None,
        "solo_epsilon": None,
        "solo_order": 4,
    },
    "budget.reserved": {
        "run": "r",
        "step": "update",
        "round": 1,
        "dataset": "loans",
        "receipt": RECEIPT,
    },
    "budget.committed": {"run": "r", "step": "update", "round": 1, "dataset": "loans"},
    "round.committed": {"run": "r", "round": 1, "model_before": HASH, "model_after": HASH},
    "run.finished": {"run": "r", "rounds": 0, "model": HASH},
    "run.stopped": {"run": "r", "reason": "by hand"},
}


def test_the_table_of_kinds_is_the_recorded_one() -> None:
    # A recorded meaning never changes: kinds may be added below, none may be altered.
    assert {kind: set(fields) for kind, fields in KINDS.items()} == {
        kind: set(body) for kind, body in BODIES.items()
    }


@pytest.mark.parametrize("kind", BODIES)
def test_an_entry_is_read_as_it_was_written(kind: str) -> None:
    entry = next_entry(None, kind, BODIES[kind], time_ms=5)
    assert parse_line(entry.line()) == entry
    assert entry.previous == EMPTY_ROOT
    assert (entry.index, entry.time_ms) == (0, 5)


def test_the_format_is_pinned() -> None:
    # A regulator's copy from years ago must still hold; this digest may never change.
    entry = next_entry(None, "run.stopped", BODIES["run.stopped"], time_ms=1)
    assert entry.line().startswith(b'{"body":{"reason":"by hand","run":"r"},"digest":"')
    assert EMPTY_ROOT == "3c2faabf0db98d1b6f6ac43459e79fe98e582ee8b0e384e84a465b928a6d7ebd"
    assert entry.digest == "a06471b8180e5af2dcea597876809906129f14006f7a583f421236de0a2e3505"


NOT_HASHES = ("A" * 64, "a" * 63, "a" * 65, "a" * 63 + "\n", "g" * 64, b"a" * 64, None, 7)
NOT_NATURAL = (-1, 1.0, True, "1", 2**53, None)
NOT_NAMES = ("", "a\0", 7, "r" * 513, None)
NOT_MEMBERS: tuple[object, ...] = (
    [],
    ["a", "a"],
    ["a", 1],
    "ab",
    [""],
    ["a\nb"],
    ("a", "b"),
    {"a": HASH},
    None,
)
NOT_TABLES: tuple[object, ...] = ({}, ["a"], "a", None, {"": HASH}, {"a\nb": HASH})


def _wrong_bodies() -> list[tuple[str, dict[str, object]]]:
    cases: list[tuple[str, dict[str, object]]] = []
    wrong: Mapping[str, tuple[object, ...]] = {
        "asked": NOT_MEMBERS,
        "step": ("", "Update", "evaluate", "evaluate train", None, 1, ["update"]),
        "kept": (0, 1, "True", None),
        "protection": ("none", "", "bfv", "Sealed", None),
        "receipt": (
            None,
            [],
            "gaussian",
            {},
            {**RECEIPT, "format": 2},
            {**RECEIPT, "share": 0.0},
            {**RECEIPT, "rate": float("nan")},
            {**RECEIPT, "epsilon": 1.0},
        ),
        **dict.fromkeys(("epsilon", "period_days", "solo_epsilon"), (-1.0, True, "1", [])),
        "delta": (-1.0, True, "1", None),
        "document": ("", "d" * (2**19 + 1), b"{}", {}, 7, None),
        "signatures": (
            *NOT_TABLES,
            *({"a": wrong} for wrong in ("B" * 128, "b" * 127, "b" * 129, "b" * 64, 1, None)),
            {"a": "b" * 128, "c": ""},
        ),
        **dict.fromkeys(("run", "name", "task", "unit", "reason", "member", "dataset"), NOT_NAMES),
        **dict.fromkeys(
            (
                *("round", "rounds", "values", "minimum", "group_size", "payload_bytes"),
                *("public_bytes", "order", "solo_order", "colluders"),
            ),
            NOT_NATURAL,
        ),
        **dict.fromkeys(
            (
                *("manifest", "roster", "fingerprint", "architecture", "model", "schema"),
                *("context", "aggregate", "model_before", "model_after"),
            ),
            NOT_HASHES,
        ),
    }
    keys = (*NOT_TABLES, *({"a": wrong} for wrong in NOT_HASHES), {"a": HASH, "b": 1}, ["a", "b"])
    for kind, body in BODIES.items():
        for name in body:
            cases.append((kind, {key: value for key, value in body.items() if key != name}))
            if name == "members":
                others: tuple[object, ...] = keys if kind == "run.started" else NOT_MEMBERS
            else:
                others = wrong[name]
            cases += [(kind, {**body, name: value}) for value in others]
        cases.append((kind, {**body, "extra": 1}))
    return cases


@pytest.mark.parametrize(("kind", "body"), _wrong_bodies())
def test_other_fields_fail_closed_on_writing_and_on_reading(
    kind: str, body: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=kind):
        next_entry(None, kind, body, time_ms=0)
    honest = next_entry(None, kind, BODIES[kind], time_ms=0)
    try:
        line = replace(honest, body=body).line()
    except ValueError:
        return  # no JSON stands for it at all
    with pytest.raises(NotVerifiedError, match=f"{kind}|digest|canonical"):
        parse_line(line)


@pytest.mark.parametrize("kind", ["", "run.paused", "receipt ", "__class__"])
def test_unknown_kinds_fail_closed(kind: str) -> None:
    with pytest.raises(ValueError, match="unknown"):
        next_entry(None, kind, BODIES["run.stopped"], time_ms=0)
    entry = next_entry(None, "run.stopped", BODIES["run.stopped"], time_ms=0)
    with pytest.raises(NotVerifiedError, match="unknown"):
        parse_line(replace(entry, kind=kind).line())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"1\n",
        b'{"index":0}\n',
        b"\xff\n",
        b"{}",
        b" " * 2**21 + b"\n",
    ],
)
def test_what_is_no_line_is_refused(line: bytes) -> None:
    with pytest.raises(NotVerifiedError):
        parse_line(line)


def test_a_line_with_more_or_wrong_fields_is_refused() -> None:
    entry = next_entry(None, "run.stopped", BODIES["run.stopped"], time_ms=0)
    fields = {
        "index": 0,
        "time_ms": 0,
        "kind": entry.kind,
        "body": dict(entry.body),
        "previous": entry.previous,
        "digest": entry.digest,
    }
    parse_line(canonical_json(fields) + b"\n")
    changes: tuple[dict[str, object], ...] = (
        {"more": 1},
        {"index": -1},
        {"index": True},
        {"time_ms": 1.5},
        {"previous": "x"},
        {"digest": "0" * 64},
        {"digest": None},
        {"body": []},
        {"kind": 1},
    )
    for change in changes:
        with pytest.raises(NotVerifiedError):
            parse_line(canonical_json({**fields, **change}) + b"\n")


@pytest.mark.parametrize("kind", BODIES)
def test_an_entry_cannot_be_changed(kind: str) -> None:
    body = {
        key: value.copy() if isinstance(value, list | dict) else value
        for key, value in BODIES[kind].items()
    }
    entry = next_entry(None, kind, body, time_ms=0)
    line = entry.line()
    for value in body.values():
        if isinstance(value, list):
            value.append("spy")
        if isinstance(value, dict):
            value["spy"] = HASH
    body["run"] = "other"
    assert entry.line() == line
    with pytest.raises(FrozenInstanceError):
        entry.index = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        entry.body["run"] = "other"  # type: ignore[index]


@pytest.mark.parametrize("name", ["evaluate watch", "evaluate test", "evaluate personal"])
def test_the_steps_are_those_that_nodes_take(name: str) -> None:
    for kind in ("sum.opened", "sum.accepted", "receipt"):
        for step in ("statistics", "update", name):
            entry = next_entry(None, kind, {**BODIES[kind], "step": step}, time_ms=0)
            assert parse_line(entry.line()) == entry


def test_the_protections_are_those_of_the_manifest() -> None:
    for kind in ("run.started", "receipt"):
        for protection in PROTECTIONS:
            next_entry(None, kind, {**BODIES[kind], "protection": protection}, time_ms=0)


def test_an_entry_of_unbounded_size_is_refused() -> None:
    members = {f"{index:0400}": HASH for index in range(3000)}
    with pytest.raises(ValueError, match="exceeds"):
        next_entry(None, "run.started", {**BODIES["run.started"], "members": members}, time_ms=0)


def test_a_clock_set_back_does_not_set_the_ledger_back() -> None:
    first = next_entry(None, "run.stopped", BODIES["run.stopped"], time_ms=100)
    second = next_entry(first, "run.stopped", BODIES["run.stopped"], time_ms=50)
    third = next_entry(second, "run.stopped", BODIES["run.stopped"], time_ms=101)
    assert [second.time_ms, third.time_ms] == [100, 101]
    assert list(replay([first, second, third])) == [first, second, third]


def test_replay_names_the_entry_that_does_not_follow() -> None:
    body = BODIES["run.stopped"]
    first = next_entry(None, "run.stopped", body, time_ms=100)
    head = head_of(first)
    for index, previous, time_ms in [
        (2, head.root, 100),
        (0, head.root, 100),
        (1, EMPTY_ROOT, 100),
        (1, head.root, 99),
    ]:
        wrong = make_entry(
            index=index, time_ms=time_ms, kind="run.stopped", body=body, previous=previous
        )
        with pytest.raises(NotVerifiedError, match="entry 1"):
            list(replay([first, wrong]))
