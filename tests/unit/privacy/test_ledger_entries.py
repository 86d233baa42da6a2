import hashlib
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, replace
from itertools import combinations

import pytest

from privacy.canonical import canonical_json
from privacy.errors import NotVerifiedError
from privacy.ledger import EMPTY_HEAD, in_order, next_entry, parse_leaf
from privacy.ledger.entry import (
    FORMAT,
    KINDS,
    LEAF_BYTES_MAX,
    Entry,
    key_of,
    make_entry,
)
from privacy.ledger.merkle import leaf_hash
from privacy.manifest import PROTECTIONS
from privacy.receipt import Receipt

HASH = "a" * 64
SIGNATURE = "b" * 128
SIGNED = {"a": SIGNATURE}
HEAD = {"leaves": 7, "root": HASH, "signature": SIGNATURE}
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
REPEATED = ("budget.terms", "policy.applied", "writer.began")
A_SUM: Mapping[str, object] = {"run": "r", "step": "update", "round": 1}
A_REVIEW: Mapping[str, object] = {
    "dataset": "pumps",
    "device": HASH,
    "review": 1,
    "readings": HASH,
}
BODIES: Mapping[str, Mapping[str, object]] = {
    "ledger.begun": {"origin": "tacit/a", "key": HASH, "owner": "a", "role": "node"},
    "key.rotated": {"key": HASH, "signature": SIGNATURE},
    "writer.began": {"writer": "a second coordinator"},
    "rules.checked": {"run": "r", "rules": HASH, "warnings": ["retention is not said"]},
    "data.declared": {
        "run": "r",
        "contract": HASH,
        "dataset": "loans",
        "unit": "borrower",
        "classes": {"L1": 2, "L3": 4},
        "retention_days": None,
    },
    "rows.read": {"run": "r", "contract": HASH, "rows": HASH},
    "run.started": {
        "run": "r",
        "name": "demo",
        "task": "credit",
        "members": {"a": HASH, "b": "b" * 64},
        "minimum": 2,
        "group_size": 0,
        "manifest": HASH,
        "document": "{}\n",
        "signature": SIGNATURE,
        "launcher": HASH,
        "protection": "masked",
    },
    "federation.begun": {
        "federation": "north",
        "root": HASH,
        "approvals": 2,
        "founder": "olive",
        "key": HASH,
        "signature": SIGNATURE,
    },
    "member.invited": {
        "token": HASH,
        "role": "bank",
        "name": "a",
        "attributes": {"region": "north"},
        "expires_ms": 1,
        "by": "olive",
        "signature": SIGNATURE,
    },
    "member.requested": {
        "token": HASH,
        "name": "a",
        "role": "bank",
        "key": HASH,
        "tls": HASH,
        "signature": SIGNATURE,
    },
    "member.approved": {"name": "a", "key": HASH, "by": "olive", "signature": SIGNATURE},
    "member.certified": {
        "name": "a",
        "key": HASH,
        "tls": HASH,
        "certificate": HASH,
        "expires_ms": 1,
    },
    "member.renewed": {
        "name": "a",
        "key": HASH,
        "new": "b" * 64,
        "tls": HASH,
        "signature": SIGNATURE,
        "proof": SIGNATURE,
    },
    "member.revoked": {
        "name": "a",
        "key": HASH,
        "reason": "left",
        "by": "olive",
        "signature": SIGNATURE,
    },
    "run.countersigned": {"run": "r", "member": "a", "signature": SIGNATURE},
    "run.decided": {"manifest": HASH, "decision": "approved", "reason": "as planned"},
    "policy.applied": {"policy": HASH},
    "device.held": {**A_REVIEW, "reason": "too hot"},
    "device.released": {**A_REVIEW, "reason": "a test run", "by": "ann"},
    "device.rejected": {**A_REVIEW, "reason": "a broken sensor", "by": "ann"},
    "run.consented": {"run": "r", "member": "a", "signature": SIGNATURE},
    "run.declined": {"run": "r", "member": "a", "reason": "no budget left"},
    "keys.agreed": {"run": "r", "roster": HASH, "fingerprint": HASH, "public_bytes": 0},
    "model.agreed": {"run": "r", "architecture": HASH, "model": HASH, "values": 10},
    "sum.reserved": {
        **A_SUM,
        "asked": ["a", "b"],
        "schema": HASH,
        "model": HASH,
        "context": HASH,
        "protection": "clear",
        "receipt": RECEIPT,
        "nodes": {"a": HEAD},
    },
    "sum.opened": {
        **A_SUM,
        "context": HASH,
        "members": ["a", "b"],
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
    "round.committed": {"run": "r", "round": 1, "model_before": HASH, "model_after": HASH},
    "run.finished": {"run": "r", "rounds": 0, "model": HASH},
    "run.stopped": {"run": "r", "reason": "by hand"},
    "model.registered": {"run": "r", "model": HASH, "file": HASH, "card": HASH},
    "ledger.followed": {"origin": "tacit/coordinator/1", "key": HASH},
    "ledger.cosigned": {"origin": "tacit/coordinator/1", "leaves": 7, "root": HASH},
    "ledger.rekeyed": {"origin": "tacit/coordinator/1", "key": HASH, "leaves": 7},
    "run.joined": {"run": "r", "manifest": HASH, "origin": "tacit/coordinator/1"},
    "run.refused": {"manifest": HASH, "reason": "another task"},
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
    "budget.reserved": {**A_SUM, "dataset": "loans", "receipt": RECEIPT},
    "budget.committed": {**A_SUM, "dataset": "loans"},
    "budget.aborted": {**A_SUM, "dataset": "loans", "reason": "nobody", "signature": SIGNATURE},
}


def written(kind: str, body: Mapping[str, object] | None = None, time_ms: int = 0) -> Entry:
    return next_entry(None, kind, BODIES[kind] if body is None else body, time_ms=time_ms, epoch=1)


# -- the table --


def test_the_table_of_kinds_is_the_recorded_one() -> None:
    # A recorded meaning never changes: kinds may be added below, none may be altered.
    assert {kind: set(row.fields) for kind, row in KINDS.items()} == {
        kind: set(body) for kind, body in BODIES.items()
    }


def test_the_families_and_owners_of_kinds_are_the_recorded_ones() -> None:
    assert {kind: (row.family, row.owner) for kind, row in KINDS.items()} == {
        "ledger.begun": ("administration", "any"),
        "key.rotated": ("administration", "any"),
        "writer.began": ("administration", "coordinator"),
        "rules.checked": ("administration", "coordinator"),
        "data.declared": ("collection", "coordinator"),
        "rows.read": ("collection", "node"),
        "run.started": ("modelling", "coordinator"),
        "federation.begun": ("administration", "coordinator"),
        "member.invited": ("administration", "coordinator"),
        "member.requested": ("administration", "coordinator"),
        "member.approved": ("administration", "coordinator"),
        "member.certified": ("administration", "coordinator"),
        "member.renewed": ("administration", "coordinator"),
        "member.revoked": ("administration", "coordinator"),
        "run.countersigned": ("modelling", "coordinator"),
        "run.decided": ("modelling", "node"),
        "policy.applied": ("administration", "node"),
        "device.held": ("collection", "node"),
        "device.released": ("collection", "node"),
        "device.rejected": ("collection", "node"),
        "run.consented": ("modelling", "coordinator"),
        "run.declined": ("modelling", "coordinator"),
        "keys.agreed": ("modelling", "coordinator"),
        "model.agreed": ("modelling", "coordinator"),
        "sum.reserved": (None, "coordinator"),
        "sum.opened": (None, "coordinator"),
        "sum.accepted": (None, "coordinator"),
        "round.committed": ("modelling", "coordinator"),
        "run.finished": ("modelling", "coordinator"),
        "run.stopped": ("modelling", "coordinator"),
        "model.registered": ("output", "coordinator"),
        "ledger.followed": ("administration", "node"),
        "ledger.cosigned": ("administration", "node"),
        "ledger.rekeyed": ("administration", "node"),
        "run.joined": ("modelling", "node"),
        "run.refused": ("modelling", "node"),
        "budget.terms": ("administration", "node"),
        "budget.reserved": (None, "node"),
        "budget.committed": (None, "node"),
        "budget.aborted": (None, "node"),
    }


@pytest.mark.parametrize(
    ("step", "family"),
    [
        ("statistics", "deidentification"),
        ("update", "modelling"),
        ("evaluate watch", "output"),
        ("evaluate test", "output"),
        ("evaluate personal", "output"),
    ],
)
def test_of_a_release_the_step_says_the_family(step: str, family: str) -> None:
    kinds = [kind for kind, row in KINDS.items() if row.family is None]
    assert len(kinds) == 6
    for kind in kinds:
        assert written(kind, {**BODIES[kind], "step": step}).family == family


def test_every_entry_has_a_family() -> None:
    for kind, row in KINDS.items():
        assert row.family in {None, written(kind).family}


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        KINDS["run.paused"] = KINDS["run.stopped"]  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        KINDS["run.stopped"].key = ()  # type: ignore[misc]


# -- leaves --


@pytest.mark.parametrize("kind", BODIES)
def test_an_entry_is_read_as_it_was_written(kind: str) -> None:
    entry = written(kind, time_ms=5)
    again = parse_leaf(entry.leaf())
    assert again == entry
    assert again.leaf() == entry.leaf()
    assert (entry.index, entry.time_ms, entry.epoch) == (0, 5, 1)
    assert b"\n" not in entry.leaf()
    assert entry.leaf().isascii()


def test_the_format_is_pinned() -> None:
    # A regulator's copy from years ago must still hold; these bytes may never change.
    entry = written("run.stopped", time_ms=1)
    assert entry.leaf() == (
        b'{"body":{"reason":"by hand","run":"r"},"epoch":1,"format":4,"index":0,'
        b'"kind":"run.stopped","time_ms":1}'
    )
    assert leaf_hash(entry.leaf()) == hashlib.sha256(b"\0" + entry.leaf()).digest()
    assert (
        leaf_hash(entry.leaf()).hex()
        == "90667f0bdf535fe9b6379bc26b1aa5a2c368dd7722914e1f1cfbd5f3d120a9f0"
    )
    assert FORMAT == 4
    assert (EMPTY_HEAD.leaves, EMPTY_HEAD.root) == (0, hashlib.sha256(b"").hexdigest())


NOT_HASHES = ("A" * 64, "a" * 63, "a" * 65, "a" * 63 + "\n", "g" * 64, b"a" * 64, None, 7)
NOT_SIGNATURES = ("B" * 128, "b" * 127, "b" * 129, "b" * 64, "", 1, None, b"b" * 128)
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


def _wrong_values() -> dict[str, tuple[object, ...]]:
    return {
        "asked": NOT_MEMBERS,
        "members": NOT_MEMBERS,
        "step": ("", "Update", "evaluate", "evaluate train", None, 1, ["update"]),
        "kept": (0, 1, "True", None),
        "protection": ("none", "", "bfv", "Sealed", None),
        "role": ("auditor", "", "Node", "Bank", None, 1),
        "warnings": ("late", None, [""], ["a\n"], [1], ("a",), {"a": "b"}),
        "classes": (
            None,
            [],
            {"L5": 1},
            {"": 1},
            *({"L1": wrong} for wrong in NOT_NATURAL),
        ),
        "retention_days": (-1, 1.0, True, "1", 2**53),
        "nodes": (
            *NOT_TABLES,
            {"a": HASH},
            {"a": {}},
            {"a": {"leaves": 1}},
            {"a": {**HEAD, "size": 1}},
            *({"a": {**HEAD, "leaves": wrong}} for wrong in NOT_NATURAL),
            *({"a": {**HEAD, "root": wrong}} for wrong in NOT_HASHES),
            *({"a": {**HEAD, "signature": wrong}} for wrong in NOT_SIGNATURES),
        ),
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
        **dict.fromkeys(
            ("epsilon", "period_days", "solo_epsilon"),
            (-1.0, True, "1", [], float("nan"), float("inf")),
        ),
        "delta": (-1.0, True, "1", None, float("nan")),
        "document": ("", "d" * (2**19 + 1), b"{}", {}, 7, None),
        "signature": NOT_SIGNATURES,
        "proof": NOT_SIGNATURES,
        "approvals": (0, *NOT_NATURAL),
        "review": (0, *NOT_NATURAL),
        "attributes": ([], None, "x", {"": "x"}, {"x": ""}, {"x": 1}, {"x": "a\nb"}),
        "decision": ("", "pending", None, True, []),
        "signatures": (
            *NOT_TABLES,
            *({"a": wrong} for wrong in NOT_SIGNATURES),
            {"a": SIGNATURE, "c": ""},
        ),
        **dict.fromkeys(
            (
                *("run", "name", "task", "unit", "reason", "member", "dataset"),
                *("origin", "owner", "writer", "federation", "founder", "by"),
            ),
            NOT_NAMES,
        ),
        **dict.fromkeys(
            (
                *("round", "rounds", "values", "minimum", "group_size", "payload_bytes"),
                *("public_bytes", "order", "solo_order", "colluders", "leaves"),
                "expires_ms",
            ),
            NOT_NATURAL,
        ),
        **dict.fromkeys(
            (
                *("manifest", "roster", "fingerprint", "architecture", "model", "schema"),
                *("context", "aggregate", "model_before", "model_after", "key", "rules"),
                *("contract", "rows", "launcher", "file", "card", "root"),
                *("token", "tls", "certificate", "new", "policy", "device", "readings"),
            ),
            NOT_HASHES,
        ),
    }


def _wrong_bodies() -> list[tuple[str, dict[str, object]]]:
    cases: list[tuple[str, dict[str, object]]] = []
    wrong = _wrong_values()
    keys = (*NOT_TABLES, *({"a": wrong} for wrong in NOT_HASHES), {"a": HASH, "b": 1}, ["a", "b"])
    for kind, body in BODIES.items():
        for name in body:
            cases.append((kind, {key: value for key, value in body.items() if key != name}))
            others = keys if (kind, name) == ("run.started", "members") else wrong[name]
            cases += [(kind, {**body, name: value}) for value in others]
        cases.append((kind, {**body, "extra": 1}))
    return cases


@pytest.mark.parametrize(("kind", "body"), _wrong_bodies())
def test_other_fields_fail_closed_on_writing_and_on_reading(
    kind: str, body: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=kind):
        written(kind, body)
    try:
        leaf = replace(written(kind), body=body).leaf()
    except ValueError:
        return  # no JSON stands for it at all
    with pytest.raises(NotVerifiedError, match=f"{kind}|canonical"):
        parse_leaf(leaf)


# The least and the most that each field may say: an honest writer must not be refused.
OUTERMOST: tuple[tuple[str, Mapping[str, tuple[object, ...]]], ...] = (
    ("run.started", {"document": ("d", "d" * 2**19), "members": ({"a": HASH},)}),
    ("run.stopped", {"reason": ("x", "x" * 512)}),
    ("sum.opened", {"members": (["a"],), "payload_bytes": (0, 2**53 - 1)}),
    ("sum.opened", {"signatures": (dict.fromkeys("abc", SIGNATURE),)}),
    ("rules.checked", {"warnings": ([], ["a", "a"])}),
    ("member.invited", {"attributes": ({}, {"a": "x", "b": "y"})}),
    ("data.declared", {"classes": ({}, {"L1": 0, "L2": 1, "L3": 2, "L4": 3})}),
    ("data.declared", {"retention_days": (None, 0, 2**53 - 1)}),
    ("device.held", {"review": (1, 2**53 - 1)}),
    ("run.decided", {"decision": ("approved", "refused")}),
    ("federation.begun", {"suite": ("gm", "hybrid"), "approvals": (1,)}),
    ("ledger.begun", {"role": ("coordinator", "node")}),
    ("member.requested", {"role": ("operator", "manufacturer", "insurer", "bank", "regulator")}),
    (
        "budget.terms",
        {
            "epsilon": (None, 0, 0.0, 1e300),
            "delta": (0, 0.0, 1.0),
            "period_days": (0.5, None),
            "solo_epsilon": (0, 2.5),
        },
    ),
)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (kind, name, value)
        for kind, fields in OUTERMOST
        for name, values in fields.items()
        for value in values
    ],
)
def test_the_outermost_values_hold(kind: str, name: str, value: object) -> None:
    entry = written(kind, {**BODIES[kind], name: value})
    assert parse_leaf(entry.leaf()).body[name] == value


def test_a_field_that_may_be_left_out_is_looked_at_where_it_stands() -> None:
    assert "suite" not in written("federation.begun").body
    for wrong in ("", "GM", "sm2", None, True, ["gm"]):
        with pytest.raises(ValueError, match=r"wrong value in suite$"):
            written("federation.begun", {**BODIES["federation.begun"], "suite": wrong})


@pytest.mark.parametrize("kind", ["", "run.paused", "receipt", "run.stopped ", "__class__"])
def test_unknown_kinds_fail_closed(kind: str) -> None:
    with pytest.raises(ValueError, match="unknown"):
        written(kind, BODIES["run.stopped"])
    with pytest.raises(NotVerifiedError, match="unknown"):
        parse_leaf(replace(written("run.stopped"), kind=kind).leaf())


@pytest.mark.parametrize(
    "leaf",
    [
        b"",
        b"\n",
        b"{}",
        b"[]",
        b"1",
        b"null",
        b'{"index":0}',
        b"\xff",
        written("run.stopped").leaf() + b"\n",
        b" " + written("run.stopped").leaf(),
        written("run.stopped").leaf()[:-1],
        written("run.stopped").leaf() * 2,
        b" " * (LEAF_BYTES_MAX + 1),
        b"[" * 5000,
    ],
)
def test_what_is_no_leaf_is_refused(leaf: bytes) -> None:
    with pytest.raises(NotVerifiedError):
        parse_leaf(leaf)


def test_a_leaf_with_more_or_wrong_fields_is_refused() -> None:
    entry = written("run.stopped")
    fields: dict[str, object] = {
        "format": FORMAT,
        "epoch": 1,
        "index": 0,
        "time_ms": 0,
        "kind": entry.kind,
        "body": dict(entry.body),
    }
    assert canonical_json(fields) == entry.leaf()
    for name in fields:
        with pytest.raises(NotVerifiedError):
            parse_leaf(canonical_json({key: fields[key] for key in fields if key != name}))
    wrong: Mapping[str, tuple[object, ...]] = {
        "more": (1,),
        "format": (3, 5, 4.0, True, "4", None),
        "epoch": (0, *NOT_NATURAL),
        "index": NOT_NATURAL,
        "time_ms": (1.5, *NOT_NATURAL),
        "body": ([], None, "x"),
        "kind": (1, None, []),
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(NotVerifiedError):
                parse_leaf(canonical_json({**fields, name: value}))


def test_the_same_facts_have_one_leaf() -> None:
    entry = written("budget.committed")
    shuffled = dict(reversed(list(entry.body.items())))
    assert written("budget.committed", shuffled).leaf() == entry.leaf()
    spaced = entry.leaf().replace(b",", b", ", 1)
    doubled = entry.leaf().replace(b'"epoch":1,', b'"epoch":1,"epoch":1,')
    for leaf in (spaced, doubled, entry.leaf().replace(b"loans", b"l\\u006fans")):
        with pytest.raises(NotVerifiedError, match="canonical"):
            parse_leaf(leaf)


@pytest.mark.parametrize("kind", BODIES)
def test_an_entry_cannot_be_changed(kind: str) -> None:
    body = {
        key: value.copy() if isinstance(value, list | dict) else value
        for key, value in BODIES[kind].items()
    }
    entry = written(kind, body)
    leaf = entry.leaf()
    for value in body.values():
        if isinstance(value, list):
            value.append("spy")
        if isinstance(value, dict):
            value["spy"] = HASH
    body["run"] = "other"
    assert entry.leaf() == leaf
    with pytest.raises(FrozenInstanceError):
        entry.index = 1  # type: ignore[misc]
    for one in (entry, parse_leaf(leaf)):
        with pytest.raises(TypeError):
            one.body["run"] = "other"  # type: ignore[index]


@pytest.mark.parametrize("name", ["evaluate watch", "evaluate test", "evaluate personal"])
def test_the_steps_are_those_that_nodes_take(name: str) -> None:
    for kind, row in KINDS.items():
        if "step" not in row.fields:
            continue
        for step in ("statistics", "update", name):
            entry = written(kind, {**BODIES[kind], "step": step})
            assert parse_leaf(entry.leaf()) == entry


def test_the_protections_are_those_of_the_manifest() -> None:
    for kind in ("run.started", "sum.reserved"):
        for protection in PROTECTIONS:
            written(kind, {**BODIES[kind], "protection": protection})


def test_an_entry_of_unbounded_size_is_refused() -> None:
    members = {f"{index:0400}": HASH for index in range(3000)}
    with pytest.raises(ValueError, match="exceeds"):
        written("run.started", {**BODIES["run.started"], "members": members})


def test_the_longest_leaf_is_written_and_read() -> None:
    """One byte more is refused by both, and by no other check."""
    warnings = ["w" * 512] * 2000
    body = {**BODIES["rules.checked"], "warnings": warnings}
    left = LEAF_BYTES_MAX - len(written("rules.checked", body).leaf())
    last = [*warnings, *["w" * 512] * ((left - 3) // 515)]
    left = LEAF_BYTES_MAX - len(written("rules.checked", {**body, "warnings": last}).leaf())
    longest = [*last, "w" * (left - 3)]
    entry = written("rules.checked", {**body, "warnings": longest})
    assert len(entry.leaf()) == LEAF_BYTES_MAX == 2**20
    assert parse_leaf(entry.leaf()) == entry
    longer = {**body, "warnings": [*last, "w" * (left - 2)]}
    with pytest.raises(ValueError, match="exceeds"):
        written("rules.checked", longer)
    with pytest.raises(NotVerifiedError, match="too long"):
        parse_leaf(replace(entry, body=longer).leaf())


# -- the names of acts --


def test_the_fields_that_name_an_act_are_the_recorded_ones() -> None:
    assert {kind: row.key for kind, row in KINDS.items()} == {
        "ledger.begun": (),
        "key.rotated": ("key",),
        "writer.began": ("no key",),
        "rules.checked": ("run",),
        "data.declared": ("run",),
        "rows.read": ("run",),
        "run.started": ("run",),
        "run.consented": ("run", "member"),
        "run.declined": ("run", "member"),
        "keys.agreed": ("run",),
        "model.agreed": ("run",),
        "sum.reserved": ("run", "context"),
        "sum.opened": ("run", "context"),
        "sum.accepted": ("run", "step", "round"),
        "round.committed": ("run", "round"),
        "run.finished": ("run",),
        "run.stopped": ("run",),
        "model.registered": ("run",),
        "ledger.followed": ("origin",),
        "ledger.cosigned": ("origin", "leaves"),
        "ledger.rekeyed": ("origin", "leaves"),
        "run.joined": ("manifest",),
        "run.refused": ("manifest",),
        "budget.terms": ("no key",),
        "federation.begun": (),
        "member.invited": ("token",),
        "member.requested": ("token",),
        "member.approved": ("key", "by"),
        "member.certified": ("certificate",),
        "member.renewed": ("name", "tls"),
        "member.revoked": ("key",),
        "run.countersigned": ("run",),
        "run.decided": ("manifest",),
        "policy.applied": ("no key",),
        "device.held": ("dataset", "device", "review"),
        "device.released": ("dataset", "device", "review"),
        "device.rejected": ("dataset", "device", "review"),
        "budget.reserved": ("run", "step", "round"),
        "budget.committed": ("run", "step", "round"),
        "budget.aborted": ("run", "step", "round"),
    }


def test_a_key_is_pinned() -> None:
    # Stores keep them, so another way to make them would let acts stand twice.
    key = written("budget.reserved").key
    assert key == hashlib.sha256(b'["budget.reserved","r","update",1]').digest()
    assert written("ledger.begun").key == hashlib.sha256(b'["ledger.begun"]').digest()


@pytest.mark.parametrize("kind", BODIES)
def test_two_acts_have_one_key_where_the_fields_that_name_them_agree(kind: str) -> None:
    entry, body = written(kind), BODIES[kind]
    if kind in REPEATED:
        assert entry.key is None
        return
    assert entry.key == key_of(kind, body) == parse_leaf(entry.leaf()).key
    others: Mapping[str, object] = {
        **dict.fromkeys(("run", "member", "origin", "by", "name", "dataset"), "other"),
        **dict.fromkeys(("context", "manifest", "key", "token", "certificate", "tls"), "c" * 64),
        "device": "c" * 64,
        "review": 2,
        "step": "statistics",
        "round": 2,
        "leaves": 8,
    }
    for name in KINDS[kind].key:
        assert key_of(kind, {**body, name: others[name]}) != entry.key
    for name in body.keys() - set(KINDS[kind].key):
        assert key_of(kind, {**body, name: "whatever it says"}) == entry.key


def test_acts_of_different_kinds_have_different_keys() -> None:
    keys = [key for key in (written(kind).key for kind in KINDS) if key is not None]
    assert all(len(key) == 32 for key in keys)
    assert all(one != other for one, other in combinations(keys, 2))


def test_a_key_needs_a_kind_and_its_fields() -> None:
    asks: tuple[Callable[[], object], ...] = (
        lambda: key_of("run.paused", {}),
        lambda: key_of("budget.reserved", {"run": "r"}),
    )
    for ask in asks:
        with pytest.raises(KeyError):
            ask()


# -- one after the other --


def test_a_clock_set_back_does_not_set_the_ledger_back() -> None:
    def stopped(last: Entry | None, run: str, time_ms: int) -> Entry:
        body = {"run": run, "reason": "by hand"}
        return next_entry(last, "run.stopped", body, time_ms=time_ms, epoch=1)

    first = stopped(None, "r", 100)
    second = stopped(first, "s", 50)
    third = stopped(second, "t", 101)
    assert [second.time_ms, third.time_ms] == [100, 101]
    assert list(in_order([first, second, third])) == [first, second, third]


def test_a_writer_whose_turn_is_over_writes_nothing() -> None:
    first = next_entry(None, "run.stopped", BODIES["run.stopped"], time_ms=0, epoch=2)
    body = {"run": "s", "reason": "x"}
    with pytest.raises(ValueError, match="epoch 1 is over"):
        next_entry(first, "run.stopped", body, time_ms=0, epoch=1)
    assert next_entry(first, "run.stopped", body, time_ms=0, epoch=3).epoch == 3


def test_the_entry_that_does_not_follow_is_named() -> None:
    body = BODIES["run.stopped"]
    first = make_entry(index=0, time_ms=100, epoch=2, kind="run.stopped", body=body)
    for index, time_ms, epoch, run in [
        (2, 100, 2, "s"),
        (0, 100, 2, "s"),
        (1, 99, 2, "s"),
        (1, 100, 1, "s"),
        (1, 100, 2, "r"),
    ]:
        wrong = make_entry(
            index=index, time_ms=time_ms, epoch=epoch, kind="run.stopped", body={**body, "run": run}
        )
        with pytest.raises(NotVerifiedError, match="entry 1"):
            list(in_order([first, wrong]))
    with pytest.raises(NotVerifiedError, match="entry 0"):
        list(in_order([replace(first, index=1)]))


@pytest.mark.parametrize("kind", KINDS)
def test_only_terms_policies_and_writers_may_come_again_in_the_same_words(kind: str) -> None:
    first = written(kind)
    again = next_entry(first, kind, BODIES[kind], time_ms=0, epoch=1)
    if kind in REPEATED:
        assert list(in_order([first, again])) == [first, again]
    else:
        with pytest.raises(NotVerifiedError, match="entry 1 says again"):
            list(in_order([first, again]))
