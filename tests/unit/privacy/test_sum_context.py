import hashlib
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.canonical import framed
from privacy.errors import ProtocolError
from privacy.identity import Identity, verify_signature
from privacy.randomness import system_bytes
from privacy.sum_context import (
    ACCEPTED_DOMAIN,
    SURVIVORS_DOMAIN,
    SumContext,
    extend_history,
    first_history,
    names_digest,
    payload_digest,
    survivors_message,
)

UNHURRIED = settings(deadline=None)  # a busy machine is no failure
CONTEXT = SumContext(
    run=b"run",
    step="update",
    round=1,
    schema=b"s" * 32,
    model=b"m" * 32,
    history=b"h" * 32,
    roster=b"r" * 32,
    cohort=b"c" * 32,
    keys=b"k" * 32,
)
HASHES = ("schema", "model", "history", "roster", "cohort", "keys")
NAMES = st.lists(st.text(max_size=4), max_size=4)


def test_every_field_is_bound() -> None:
    changes: dict[str, object] = {"run": b"ru", "step": "updatf", "round": 2}
    changes |= dict.fromkeys(HASHES, b"x" * 32)
    assert set(changes) == {field.name for field in fields(SumContext)}
    digests = {replace(CONTEXT, **{name: value}).digest() for name, value in changes.items()}  # type: ignore[arg-type]
    assert len({CONTEXT.digest(), *digests}) == len(changes) + 1
    assert {len(digest) for digest in digests} == {32}
    assert replace(CONTEXT).digest() == CONTEXT.digest()


def test_no_field_can_be_taken_for_another() -> None:
    digests = {CONTEXT.digest()}
    for first, second in product(HASHES, HASHES):
        swapped = {first: getattr(CONTEXT, second), second: getattr(CONTEXT, first)}
        digests.add(replace(CONTEXT, **swapped).digest())
    assert len(digests) == 1 + len(HASHES) * (len(HASHES) - 1) // 2
    assert replace(CONTEXT, run=b"runu", step="pdate").digest() not in digests


@UNHURRIED
@given(
    st.lists(
        st.builds(
            SumContext,
            run=st.sampled_from([b"a", b"aa", b"a" * 64, b"\0"]),
            step=st.sampled_from(["a", "aa", "update", "evaluate test"]),
            round=st.sampled_from([0, 1, 255, 256, 2**63 - 1]),
            **{
                name: st.sampled_from([bytes(32), b"\1" * 32, bytes(31) + b"\1"]) for name in HASHES
            },
        ),
        min_size=2,
        max_size=2,
    )
)
def test_equal_digests_are_of_equal_contexts(pair: list[SumContext]) -> None:
    one, other = pair
    assert (one.digest() == other.digest()) == (one == other)


def _other(**changes: object) -> Callable[[], SumContext]:
    return lambda: replace(CONTEXT, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        _other(run=b""),
        _other(run=b"r" * 65),
        _other(step=""),
        _other(step="é"),
        _other(step="s" * 65),
        _other(round=-1),
        _other(round=2**63),
        *(_other(**{name: wrong}) for name in HASHES for wrong in (b"", b"x" * 31, b"x" * 33)),
    ],
)
def test_a_context_that_is_none_cannot_be_made(make: Callable[[], SumContext]) -> None:
    with pytest.raises(ValueError, match=r"has|need|hash"):
        make()


@UNHURRIED
@given(NAMES, NAMES)
def test_names_are_told_apart_with_their_order(one: list[str], other: list[str]) -> None:
    assert (names_digest(one) == names_digest(other)) == (one == other)


def test_the_boundaries_of_names_cannot_be_moved() -> None:
    lists = [["ab"], ["a", "b"], ["b", "a"], ["", "ab"], ["ab", ""], []]
    assert len({names_digest(names) for names in lists}) == len(lists)


def test_survivors_are_signed_for_one_sum_and_in_one_domain() -> None:
    identity = Identity.create(system_bytes)
    context = CONTEXT.digest()
    message = survivors_message(context, ("a", "b"))
    signature = identity.sign(SURVIVORS_DOMAIN, message)
    verify_signature(identity.public, SURVIVORS_DOMAIN, message, signature)
    others = [
        survivors_message(context, ("a", "b", "c")),
        survivors_message(context, ("a",)),
        survivors_message(replace(CONTEXT, round=2).digest(), ("a", "b")),
    ]
    for domain, wrong in [
        *((SURVIVORS_DOMAIN, other) for other in others),
        (ACCEPTED_DOMAIN, message),
    ]:
        with pytest.raises(ProtocolError, match="does not verify"):
            verify_signature(identity.public, domain, wrong, signature)


# --- histories ---

OPENED = [(b"c" * 32, ("a", "b"), b"g" * 32), (b"d" * 32, ("c",), b"f" * 32)]
START = first_history(b"r" * 32, b"k" * 32)


def test_a_history_begins_with_roster_and_keys() -> None:
    starts = {
        START,
        first_history(b"k" * 32, b"r" * 32),
        first_history(b"r" * 32, b"l" * 32),
        first_history(b"q" * 32, b"k" * 32),
    }
    assert len(starts) == 4
    assert len(START) == 32


def test_a_history_tells_everything_apart_that_was_accepted() -> None:
    first, second = OPENED
    model = b"m" * 32
    histories = [
        extend_history(START, opened, model=model, kept=True)
        for opened in (
            OPENED,
            OPENED[::-1],
            OPENED[:1],
            [],
            [first, first],
            [first, (second[0], ("c", "d"), second[2])],
            [first, (second[0], (), second[2])],
            [first, (second[0], second[1], b"e" * 32)],
            [first, (b"e" * 32, second[1], second[2])],
        )
    ]
    histories += [
        extend_history(START, OPENED, model=b"n" * 32, kept=True),
        extend_history(START, OPENED, model=model, kept=False),
        extend_history(b"h" * 32, OPENED, model=model, kept=True),
        extend_history(histories[2], OPENED[1:], model=model, kept=True),  # two steps, not one
    ]
    assert len(set(histories)) == len(histories)
    assert extend_history(START, iter(OPENED), model=model, kept=True) == histories[0]


def test_what_was_shown_to_members_has_its_hash() -> None:
    # SHA-256 of "abc", FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert payload_digest(b"abc").hex() == expected


def test_digests_are_as_they_are_written() -> None:
    """Against SHA-256 over the parts: a member that leaves one out signs another sum."""

    def over(*parts: bytes) -> bytes:
        return hashlib.sha256(framed(*parts)).digest()

    hashes = [getattr(CONTEXT, name) for name in HASHES]
    head = (b"tacit/sum-context/v2", b"run", b"update", bytes(7) + b"\1")
    assert CONTEXT.digest() == over(*head, *hashes)
    assert replace(CONTEXT, step="u" * 64).digest() != CONTEXT.digest()
    names = over(b"tacit/members/v1", b"bank", "é".encode())
    assert names_digest(["bank", "é"]) == names
    assert survivors_message(b"c" * 32, ["bank", "é"]) == framed(b"c" * 32, names)
    before = first_history(b"r" * 32, b"k" * 32)
    assert before == over(b"tacit/history/v1", b"r" * 32, b"k" * 32)
    opened = [(b"c" * 32, ["bank", "é"], b"a" * 32)]
    for kept, word in ((True, b"kept"), (False, b"rolled back")):
        after = extend_history(before, opened, model=b"m" * 32, kept=kept)
        sums = (b"c" * 32, names, b"a" * 32)
        assert after == over(b"tacit/accepted/v1", before, b"m" * 32, word, *sums)
