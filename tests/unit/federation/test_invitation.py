"""The line that an operator hands out: whole or refused, and never shown by accident."""

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from support.federations import Federated

from federation.fingerprint import fingerprint, require_fingerprint
from federation.invitation import PREFIX, Token, read_token
from privacy.errors import InputError, RefusedError


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Token:
    return Federated(tmp_path_factory.mktemp("f")).invite("Bank Ä/1", "bank")


def test_it_is_read_back(token: Token, tmp_path: Path) -> None:
    line = token.reveal()
    assert line.startswith(PREFIX)
    assert line.isascii()
    assert Token.parse(line) == token
    assert Token.parse(f"  {line[:60]}\n {line[60:]}\r\n") == token
    (tmp_path / "t").write_text(line + "\n")
    assert read_token(str(tmp_path / "t")) == read_token(line) == token


def test_its_secret_is_not_printed(token: Token) -> None:
    for shown in (repr(token), str(token), f"{token}", repr([token])):
        assert token.secret.hex() not in shown
        assert repr(token.secret) not in shown
        assert token.reveal() not in shown


def test_every_changed_or_missing_character_is_found(token: Token) -> None:
    line = token.reveal()
    for at in range(0, len(line), 7):
        other = "A" if line[at] != "A" else "B"
        for damaged in (line[:at] + other + line[at + 1 :], line[:at] + line[at + 1 :], line[:at]):
            with pytest.raises(InputError):
                Token.parse(damaged)


@pytest.mark.parametrize(
    "text", ["", "x", "tacit1.", "tacit2.AAAA", "tacit1.????", "\0", "a" * 300]
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="invitation"):
        read_token(text)


def test_a_token_of_other_fields_is_refused(token: Token) -> None:
    for damaged in (
        replace(token, door="nowhere"),
        replace(token, name="a\nb"),
        replace(token, founder=b"1" * 31),
        replace(token, secret=b"1" * 31),
        replace(token, root=b"no certificate"),
    ):
        with pytest.raises(InputError, match="cut or changed"):
            Token.parse(damaged.reveal())
    whole = base64.urlsafe_b64decode(token.reveal()[len(PREFIX) :] + "===")
    with pytest.raises(InputError, match="cut or changed"):
        Token.parse(PREFIX + base64.urlsafe_b64encode(whole[8:]).decode())


def test_a_fingerprint_is_compared_whole() -> None:
    key = bytes(range(32))
    assert fingerprint(key) == "0001-0203-0405-0607-0809-0a0b-0c0d-0e0f"
    for told in (fingerprint(key), fingerprint(key).upper(), key.hex(), key.hex()[:16]):
        require_fingerprint(key, told)
    with pytest.raises(RefusedError, match="approve nothing"):
        require_fingerprint(bytes(32), fingerprint(key))
    for told in ("", "0001", "0001-0203-0405-060", "0001 0203 0405 060g"):
        with pytest.raises(InputError, match="32 hexadecimal digits"):
            require_fingerprint(key, told)
