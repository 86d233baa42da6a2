"""Who takes part, as people and programs are shown it."""

from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console
from support.membership import DAY_MS, FOUNDER, Acts

from federation.fingerprint import fingerprint
from federation.listing import listing, listing_facts, listing_table


def shown(acts: Acts, width: int = 80) -> list[str]:
    membership = acts.membership
    lines = listing(membership, acts.entries, now_ms=acts.now_ms)
    file = StringIO()
    Console(width=width, file=file).print(listing_table(membership, lines))
    return file.getvalue().splitlines()


@pytest.fixture
def acts() -> Acts:
    found = Acts().settled()
    found.candidate("a bank whose name is far longer than a column", "bank")
    found.candidate("中国工商银行上海分行", "bank").approve("中国工商银行上海分行", ["amber"])
    found.invite("later", "manufacturer", expires_ms=found.now_ms + DAY_MS)
    return found.revoke("delta")


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_word_is_broken_at_80_columns(acts: Acts, width: int) -> None:
    lines = shown(acts, width)
    words = " ".join(lines).split()
    for name, one in acts.membership.participants.items():
        assert name in words
        assert one.role in words
        assert fingerprint(one.key)[:9] in words
    for state in ("active", "waiting", "invited", "revoked"):
        assert state in words
    assert any("a bank whose name is far longer than a column" in line for line in lines)
    assert any(line.startswith("中国工商银行上海分行 ") for line in lines)
    assert "manufacturer" in words
    assert any("approved by 1 of 2 (amber)" in line for line in lines)
    assert any("approved by birch, cedar; region=north" in line for line in lines)
    assert len(rows_of(lines)) == len(acts.membership.participants) + 3
    assert all(cell_len(line) <= 80 for line in rows_of(lines))


def rows_of(lines: list[str]) -> list[str]:
    """Of each participant the line with its state."""
    states = {"active", "waiting", "invited", "revoked"}
    return [line for line in lines if states & set(line.split())]


def test_columns_stand_below_each_other(acts: Acts) -> None:
    lines = shown(acts)
    head = next(line for line in lines if line.startswith("name "))
    for row in rows_of(lines):
        state = next(
            one for one in row.split() if one in ("active", "waiting", "invited", "revoked")
        )
        assert cell_len(row[: row.index(f" {state} ") + 1]) == head.index("state")


def test_programs_get_whole_keys(acts: Acts) -> None:
    membership = acts.membership
    facts = listing_facts(membership, listing(membership, acts.entries, now_ms=acts.now_ms))
    founder = next(one for one in facts["members"] if one["name"] == FOUNDER)
    assert founder["key"] == membership.founder_key.hex()
    assert founder["fingerprint"] == fingerprint(membership.founder_key)


def test_two_machines_compare_one_line(acts: Acts) -> None:
    membership = acts.membership
    facts = listing_facts(membership, listing(membership, acts.entries, now_ms=acts.now_ms))
    assert (str(facts["acts"]), facts["digest"]) == tuple(membership.told.values())
    assert shown(acts)[-1] == f"{facts['acts']} acts of membership, {facts['digest'][:32]}"
    other = acts.copy().revoke(next(iter(membership.members())))
    assert shown(other)[-1] != shown(acts)[-1]
