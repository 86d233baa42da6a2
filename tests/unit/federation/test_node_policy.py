"""A node's terms in a file: they change without a restart, and a broken file changes nothing."""

import hashlib
from pathlib import Path

import pytest

from clients.policy import NodePolicy
from federation.node_policy import (
    APPLIED,
    NO_FILE,
    WatchedPolicy,
    last_applied,
    policy_text,
    read_policy,
    read_terms,
    record_policy,
    remarks,
    set_terms,
)
from privacy.errors import InputError, RefusedError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import entries_of
from privacy.randomness import system_bytes


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def ledger(path: Path) -> SqliteLedger:
    kept = SqliteLedger(path)
    begin_ledger(kept, Identity.create(system_bytes), owner="mill", role="node", time_ms=1)
    return kept


def test_terms_change_without_a_restart_and_each_change_is_on_record(tmp_path: Path) -> None:
    path, kept = tmp_path / "policy.yaml", ledger(tmp_path / "ledger.db")
    terms = WatchedPolicy(path, applied=lambda found: record_policy(kept, found, now_ms=2))
    assert terms() == NodePolicy()
    for text in ("minimum_cohort: 4\n", "minimum_cohort: 5\n", "minimum_cohort: 4\n"):
        path.write_text(text)
        assert terms().minimum_cohort == int(text.split()[1])
        assert terms().minimum_cohort == int(text.split()[1])  # a second look records nothing
    on_record = [one.body["policy"] for one in entries_of(kept.leaves()) if one.kind == APPLIED]
    four, five = sha256("minimum_cohort: 4\n"), sha256("minimum_cohort: 5\n")
    assert on_record == [NO_FILE, four, five, four]
    assert last_applied(kept) == four
    # a restart under the same terms is no change
    WatchedPolicy(path, applied=lambda found: record_policy(kept, found, now_ms=3))
    assert kept.size() == 1 + 4


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (b"minimum_cohort: many\n", "minimum_cohort: expected a whole number"),
        (b"minimum_cohort: [\n", "is not YAML"),
        (b"", "expected `key: value` lines"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"tasks: []\n" * 200_000, "is larger than a policy may be"),
        (None, "is gone; put it back"),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing_and_is_told_once(
    tmp_path: Path, broken: bytes | None, why: str
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("minimum_cohort: 4\n")
    seen: list[str] = []
    told: list[str] = []
    terms = WatchedPolicy(path, applied=seen.append, told=told.append)
    if broken is None:
        path.unlink()
    else:
        path.write_bytes(broken)
    for _ in range(3):
        assert terms().minimum_cohort == 4
    found = terms.terms()
    assert told == [found.fault]
    assert why in found.fault
    assert found.fault.endswith("The terms of before stay in force.")
    assert found.sha256 == sha256("minimum_cohort: 4\n")
    assert seen == [found.sha256]
    path.write_text("minimum_cohort: 6\n")
    assert terms().minimum_cohort == 6
    assert terms.terms().fault == ""
    assert [one for one in told[1:] if "is in force now" in one] == told[1:]
    path.write_bytes(broken or b"")
    assert terms().minimum_cohort == 6
    assert len(told) == 3


def test_a_node_does_not_start_on_terms_that_it_cannot_use(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("minimum_cohort: 1\n")
    with pytest.raises(InputError, match="minimum_cohort"):
        WatchedPolicy(tmp_path / "policy.yaml")


def test_terms_that_cannot_be_recorded_are_not_in_force(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    full = False

    def applied(found: str) -> None:
        if full:
            raise InputError(f"the disk is full: {found[:1] and 'no room'}")

    terms = WatchedPolicy(path, applied=applied)
    full = True
    path.write_text("minimum_cohort: 4\n")
    assert terms().minimum_cohort == 3
    assert "no room" in terms.terms().fault
    full = False
    assert terms().minimum_cohort == 4


def test_set_puts_terms_in_whole_or_not_at_all(tmp_path: Path) -> None:
    good, bad, folder = tmp_path / "good.yaml", tmp_path / "bad.yaml", tmp_path / "node"
    good.write_text("# ours\nminimum_cohort: 5\n")
    bad.write_text("minimum: 5\n")
    found, left_open = set_terms(folder, good)
    assert found == sha256("# ours\nminimum_cohort: 5\n")
    assert any("No budget is capped" in one for one in left_open)
    with pytest.raises(InputError, match="unknown key minimum"):
        set_terms(folder, bad)
    with pytest.raises(InputError, match="no such file"):
        set_terms(folder, tmp_path / "none.yaml")
    assert (folder / "policy.yaml").read_bytes() == good.read_bytes()
    assert read_policy(tmp_path, folder).minimum_cohort == 5


def test_what_show_prints_can_be_set_again(tmp_path: Path) -> None:
    first = tmp_path / "first.yaml"
    first.write_text(
        "hours: {days: [mon], from: 20:00, until: '06:00', zone: Asia/Shanghai}\n"
        "decide: {tasks: {credit: by_hand}}\n"
        "minimum_protection: {L3: sealed}\n"
        "budgets: [{epsilon: 2.0, delta: 1.0e-6}]\n"
    )
    policy, _ = read_terms(first)
    again = tmp_path / "again.yaml"
    again.write_text(policy_text(policy))
    assert read_terms(again)[0] == policy
    again.write_text(policy_text(NodePolicy()))
    assert read_terms(again)[0] == NodePolicy()


def test_remarks_say_what_terms_leave_open(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "budgets: [{epsilon: 2.0}]\nminimum_protection: {noise_from: L1}\nsums: [masked]\n"
        "recognises: {approved_by: [Bank A]}\n"
    )
    assert remarks(read_terms(path)[0]) == []
    path.write_text(
        "sums: [clear]\ninitiators: {roles: []}\nminimum_protection: {noise_from: none}\n"
        "minimum_cohort: 2\n"
    )
    text = " ".join(remarks(read_terms(path)[0]))
    for part in (
        "No budget is capped",
        "Every member is recognised",
        "No run must add noise",
        "Sums of two members",
        "single vectors",
        "No run fits",
    ):
        assert part in text


def test_the_ledger_of_another_is_not_written(tmp_path: Path) -> None:
    kept = ledger(tmp_path / "ledger.db")
    with pytest.raises(RefusedError, match="the ledger of another"):
        begin_ledger(kept, Identity.create(system_bytes), owner="else", role="node", time_ms=2)
