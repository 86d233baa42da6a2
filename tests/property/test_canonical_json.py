"""The canonical form is one form: the quick check of it is the slow one, for any value and bytes.

The slow one stands here as it was first written, and is not to be changed.
"""

import json
import math

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.ledgers import Nodes, ledger_of, whole_run

from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import ProtocolError

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
MAX_DEPTH = 32
MAX_INTEGER = 2**63 - 1


def slow_canonical_json(value: object) -> bytes:
    slow_check(value, depth=0)
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def slow_parse_canonical(data: bytes) -> object:
    try:
        value: object = json.loads(data.decode("ascii"))
        again = slow_canonical_json(value)
    except (ValueError, RecursionError):
        raise ProtocolError("the bytes are not canonical JSON; ask for them again") from None
    if again != data:
        raise ProtocolError("the JSON is not in its canonical form; ask for it again")
    return value


def slow_check(value: object, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"a value may be nested {MAX_DEPTH} deep, not more")
    kind = type(value)
    if isinstance(value, dict) and kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise ValueError(f"keys are str, not {type(key).__name__}")
            slow_check_leaf(key)
            slow_check(item, depth=depth + 1)
    elif isinstance(value, list) and kind is list:
        for item in value:
            slow_check(item, depth=depth + 1)
    else:
        slow_check_leaf(value)


def slow_check_leaf(value: object) -> None:
    kind = type(value)
    if isinstance(value, str) and kind is str:
        value.encode("utf-8")
    elif isinstance(value, int) and kind is int:
        if abs(value) > MAX_INTEGER:
            raise ValueError("an integer needs more than 64 bits")
    elif kind not in (bool, float, type(None)):
        raise ValueError(f"{kind.__name__} has no canonical form")


def outcome(act: object, given: object) -> tuple[str, str]:
    """What came of it, types and all: 1, 1.0 and True are three values."""
    assert callable(act)
    try:
        return "", repr(act(given))
    except (ValueError, ProtocolError) as error:
        # how a lone surrogate is refused names the place where it stands
        return type(error).__name__, str(error)


def same_value(value: object) -> None:
    assert outcome(canonical_json, value) == outcome(slow_canonical_json, value)


def same_bytes(data: bytes) -> None:
    assert outcome(parse_canonical, data) == outcome(slow_parse_canonical, data)


def nested(depth: int, innermost: object, *, tables: bool = False) -> object:
    value = innermost
    for _ in range(depth):
        value = {"a": value} if tables else [value]
    return value


INNERMOST: tuple[object, ...] = (1, "x", [], {}, [1, [2]], "\ud800", 2**63)


class Number(int):
    pass


class Name(str):
    __slots__ = ()


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(MAX_INTEGER - 2, MAX_INTEGER + 2),
    st.integers(-MAX_INTEGER - 3, -MAX_INTEGER + 2),
    st.floats(),
    st.text(),
    # with surrogates, which `text` leaves out
    st.text(st.characters(codec=None, categories=None)),
    st.sampled_from([Number(1), Name("a"), b"a", (1,), 1j, object]),
)
KEYS = st.one_of(st.text(max_size=3), st.sampled_from([1, None, Name("a"), "\ud800"]))
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)


@UNHURRIED
@given(VALUES)
@example({1: "\ud800"})
@example({"\ud800": 1, 2: 3})
@example([math.nan])
def test_any_value_is_encoded_or_refused_as_it_always_was(value: object) -> None:
    same_value(value)


def test_any_depth_is_encoded_or_refused_as_it_always_was() -> None:
    for tables in (False, True):
        for depth in (*range(28, 40), 500, 5000):
            for innermost in INNERMOST:
                value = nested(depth, innermost, tables=tables)
                if depth < 100:
                    same_value(value)
                    same_value([1, value, {"b": value}])
                inner = json.dumps(innermost)
                ends = ('{"a":', "}") if tables else ("[", "]")
                same_bytes((ends[0] * depth + inner + ends[1] * depth).encode())


def test_a_value_that_holds_itself_is_refused_as_it_always_was() -> None:
    loop: list[object] = []
    loop.append(loop)
    table: dict[str, object] = {}
    table["a"] = [table]
    for value in (loop, table, [1, loop]):
        same_value(value)


# Text that is JSON or nearly so, in this form and in others.
TOKENS = st.sampled_from(
    [
        *'[]{},:" \n\\-+.eE0123456789',
        "\\u0041",
        "\\ud83d",
        "\\ude00",
        "\\uD83D",
        "\\u00ce",
        "\\n",
        "\\/",
        "\\\\",
        '"a"',
        '"a":',
        '{"a":',
        '{"b":1,"a":2}',
        '{"a":1,"a":1}',
        '{"a":1,"b":2}',
        "true",
        "null",
        "NaN",
        "Infinity",
        "-Infinity",
        "-0",
        "0.1",
        "1.0",
        "1e5",
        "1E5",
        "1e400",
        "100000.0",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "0" * 20,
        "[" * 33,
        "]" * 33,
        "\x7f",
        "\N{SNOWMAN}",
        "\ufeff",
    ]
)


@UNHURRIED
@given(st.lists(TOKENS, max_size=12).map("".join))
@example('{"a":"[{[{[{[{[{[{[{[{[{[{[{[{[{[{[{[{[{[{[{["}')
@example('"\\\\ud800"')
@example('"\\ud800"')
@example('"\\ud83d\\ude00"')
@example("1" * 5000)
@example("-" + "9" * 4301)
def test_any_text_is_read_or_refused_as_it_always_was(text: str) -> None:
    same_bytes(text.encode("utf-8", "surrogatepass"))


@UNHURRIED
@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused_as_they_always_were(data: bytes) -> None:
    same_bytes(data)


@UNHURRIED
@given(VALUES, st.data())
def test_what_is_nearly_canonical_is_read_or_refused_as_it_always_was(
    value: object, data: st.DataObject
) -> None:
    try:
        encoded = bytearray(slow_canonical_json(value))
    except ValueError:
        return
    same_bytes(bytes(encoded))
    assert parse_canonical(canonical_json(value)) == value
    for _ in range(3):
        place = data.draw(st.integers(0, len(encoded) - 1))
        encoded[place] = data.draw(st.sampled_from(b'[]{},:" \\ud0189abcdefDx.e-\n'))
        same_bytes(bytes(encoded))


def test_every_entry_of_a_run_is_read_as_it_always_was() -> None:
    nodes = Nodes()
    leaves = [entry.leaf() for entry in ledger_of(whole_run(nodes=nodes))]
    for leaf in (*leaves, *nodes.leaves("bank")):
        assert outcome(parse_canonical, leaf)[0] == ""
        same_bytes(leaf)
        for place in range(0, len(leaf), 5):
            same_bytes(leaf[:place] + leaf[place + 1 :])
            same_bytes(leaf[:place] + b" " + leaf[place:])
