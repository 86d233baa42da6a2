"""Signatures that hold may be remembered; what is remembered never changes an answer."""

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy import signature
from privacy.signature import holds, remember

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()


@pytest.fixture(params=[0, 1, 100])
def _memory(request: pytest.FixtureRequest) -> Iterator[None]:
    remember(request.param)
    yield
    remember(0)


@pytest.mark.usefixtures("_memory")
def test_only_what_was_signed_holds_the_first_time_and_the_second() -> None:
    good = KEY.sign(b"one")
    for _ in range(2):
        assert holds(PUBLIC, b"one", good)
        assert not holds(PUBLIC, b"two", good)
        assert not holds(PUBLIC, b"one", good[:-1] + bytes([good[-1] ^ 1]))
        assert not holds(bytes(32), b"one", good)
        assert not holds(PUBLIC, good + b"one", b"")
        assert not holds(b"", b"one", good)


def test_a_process_remembers_none_unless_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def verifies(_: bytes, message: bytes, __: bytes) -> bool:
        asked.append(message)
        return message != b"wrong"

    monkeypatch.setattr(signature, "_verifies", verifies)
    for _ in range(2):
        assert holds(PUBLIC, b"one", b"s")
    assert len(asked) == 2
    remember(2)
    try:
        for _ in range(2):
            assert holds(PUBLIC, b"one", b"s")
            assert not holds(PUBLIC, b"wrong", b"s")
        # what does not hold is asked for each time
        assert asked[2:] == [b"one", b"wrong", b"wrong"]
        for message in (b"two", b"three", b"four"):
            assert holds(PUBLIC, message, b"s")
        assert len(signature._MEMORY.held) <= 2
    finally:
        remember(0)
    with pytest.raises(ValueError, match="count"):
        remember(-1)
