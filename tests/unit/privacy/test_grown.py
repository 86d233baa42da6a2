"""A set that only grows: in order, shared along one history, and never what another one put in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.grown import Grown


def test_it_has_its_items_once_and_in_order() -> None:
    grown = Grown(["b", "a", "b"]).plus("c").plus("a")
    assert list(grown) == ["b", "a", "c"]
    assert (len(grown), grown[2]) == (3, "c")
    assert "c" in grown
    assert "d" not in grown
    assert set(grown) == {"a", "b", "c"}
    assert not Grown()
    with pytest.raises(IndexError):
        _ = Grown()[0]
    assert repr(grown) == "Grown(3 items)"


def test_what_was_before_stays_and_shares_its_table() -> None:
    first = Grown(["a"])
    second = first.plus("b")
    assert (list(first), "b" in first) == (["a"], False)
    assert second._order is first._order
    # the same step once more is the same history
    assert first.plus("b")._order is first._order


def test_another_history_has_a_table_of_its_own() -> None:
    first = Grown(["a"])
    ours, theirs = first.plus("b").plus("c"), first.plus("x").plus("c")
    assert (list(ours), list(theirs)) == (["a", "b", "c"], ["a", "x", "c"])
    assert "x" not in ours
    assert ours - theirs == {"b"}
    assert not ours <= theirs


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20)), max_size=60))
def test_it_is_as_a_set_that_is_copied(steps: list[tuple[int, int]]) -> None:
    """Steps from any state so far, as a fold goes on from what it kept."""
    states: list[tuple[Grown[int], tuple[int, ...]]] = [(Grown(), ())]
    for place, item in steps:
        grown, plain = states[place % len(states)]
        more = plain if item in plain else (*plain, item)
        states.append((grown.plus(item), more))
        for one, other in states:
            assert tuple(one) == other
            assert all((n in one) == (n in other) for n in range(21))
