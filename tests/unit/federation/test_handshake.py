"""The key exchange of a connection, read from what a server says in the clear."""

import pytest

from federation.handshake import GROUPS, HYBRID, group_of


def hello(group: int, *, session: bytes = b"s" * 32, before: bytes = b"") -> bytes:
    """A ServerHello as in RFC 8446, section 4.1.3."""
    share = group.to_bytes(2) + (3).to_bytes(2) + b"key"
    extensions = before + (51).to_bytes(2) + len(share).to_bytes(2) + share
    body = (
        b"\x03\x03"
        + b"r" * 32
        + bytes([len(session)])
        + session
        + b"\x13\x01\x00"
        + len(extensions).to_bytes(2)
        + extensions
    )
    return b"\x02" + len(body).to_bytes(3) + body


def record(data: bytes, kind: int = 22) -> bytes:
    return bytes([kind]) + b"\x03\x03" + len(data).to_bytes(2) + data


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_every_group_is_found(group: int) -> None:
    assert group_of(record(hello(group))) == group
    assert group_of(record(hello(group, session=b""))) == group
    version = (43).to_bytes(2) + (2).to_bytes(2) + b"\x03\x04"
    assert group_of(record(hello(group, before=version)) + record(b"x", 23)) == group


def test_a_hello_in_several_records_is_put_together() -> None:
    whole = hello(0x11EC)
    heard = b"".join(record(whole[at : at + 7]) for at in range(0, len(whole), 7))
    assert group_of(heard) == 0x11EC


def test_what_is_no_hello_says_nothing() -> None:
    whole = record(hello(0x1D))
    assert group_of(b"") is None
    assert group_of(b"HTTP/1.1 400 no\r\n\r\n") is None
    assert group_of(record(b"\x01" + hello(0x1D)[1:])) is None
    assert group_of(record(hello(0x1D)[:50])) is None
    assert all(group_of(whole[:end]) in {None, 0x1D} for end in range(len(whole)))


def test_hybrid_groups_are_those_with_a_lattice() -> None:
    assert {GROUPS[one] for one in HYBRID} == {name for name in GROUPS.values() if "MLKEM" in name}
