import math
from collections.abc import Mapping

import pytest

from privacy.canonical import canonical_json, framed, parse_canonical
from privacy.errors import ProtocolError


def _nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 1, "a": [True, None]}, b'{"a":[true,null],"b":1}'),
        ("Île", b'"\\u00cele"'),
        (0.1, b"0.1"),
        ({}, b"{}"),
        (2**63 - 1, b"9223372036854775807"),
    ],
)
def test_a_value_has_one_encoding(value: object, expected: bytes) -> None:
    assert canonical_json(value) == expected
    assert parse_canonical(expected) == value


class _Number(int):
    pass


class _Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [
        {1: "a"},
        {_Name("a"): 1},
        (1, 2),
        b"a",
        math.nan,
        math.inf,
        _Number(1),
        2**63,
        "\ud800",
        {"\ud800": 1},
        [object()],
        _nested(40),
    ],
)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical_json(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" 1",
        b"1 ",
        b'{"b":1,"a":1}',
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b'"\\u0041"',
        b'"\\u00CE"',
        b'"\xc3\x8e"',
        b"\xff",
        b"1e400",
        b"NaN",
        b"1.0e0",
        b"-0",
        b"01",
        b'"\\ud800"',
        b"9223372036854775808",
        b"1" * 5000,
        b"[" * 100_000,
        b"[" * 40 + b"]" * 40,
    ],
)
def test_any_other_encoding_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_canonical(data)


def test_an_object_comes_back_as_it_was() -> None:
    value = {"n": -1, "x": 1.5, "s": 'a"\n', "l": [[], {}], "t": True, "z": None}
    again = parse_canonical(canonical_json(value))
    assert isinstance(again, Mapping)
    assert again == value


def test_frames_cannot_be_moved() -> None:
    assert framed(b"ab", b"c") != framed(b"a", b"bc")
    assert framed(b"a") != framed(b"a", b"")
    assert framed() == b""
