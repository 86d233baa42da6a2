from base64 import b64encode
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import InputError, NotVerifiedError, TacitError
from privacy.ledger.note import (
    COSIGNATURE_V1,
    ED25519,
    Note,
    NoteSignature,
    VerifierKey,
    from_base64,
    key_name,
    parse_note,
)
from privacy.verify_alone import _Note

UNHURRIED = settings(deadline=None)
# The example of c2sp.org/signed-note, "Verifier keys".
SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKu"
    "wHjG1Yu72IneyaQM=\n"
).encode()
# The poem of c2sp.org/signed-note, with an empty line in its text; its key is not published.
POEM = (
    "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n\n"
    "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU"
    "0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
).encode()
# golang.org/x/mod, sumdb/note/note_test.go.
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SEED = from_base64("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6"
    "KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WW"
    "d1RvMc+QQ=\n"
)
BOTH = (TEXT + "\n" + PETER_LINE + ENOCH_LINE).encode()
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


def _verified(data: bytes, key: str) -> Note:
    note = parse_note(data)
    verifier = VerifierKey.from_text(key)
    (signature,) = note.by(verifier)
    verifier.verify(note.text.encode(), signature.signature)
    return note


def test_the_examples_of_the_specification_and_of_go_verify() -> None:
    assert _verified(SPEC_NOTE, SPEC_KEY).text == "This is an example message.\n"
    assert _verified(BOTH, PETER).text == TEXT
    assert _verified(BOTH, ENOCH).signatures[1].name == "EnochRoot"
    assert parse_note(POEM).text.endswith("sole:\n\ned è subito sera.\n")


@pytest.mark.parametrize("data", [SPEC_NOTE, POEM, BOTH])
def test_a_note_is_written_as_it_was_read(data: bytes) -> None:
    assert parse_note(data).to_bytes() == data


def test_signing_gives_the_bytes_that_go_gives() -> None:
    key = VerifierKey.from_text(PETER)
    private = Ed25519PrivateKey.from_private_bytes(PETER_SEED)
    assert private.public_key().public_bytes_raw() == key.public
    signature = NoteSignature(key.name, key.key_id, private.sign(TEXT.encode()))
    assert Note(TEXT, (signature,)).to_bytes() == (TEXT + "\n" + PETER_LINE).encode()
    assert NoteSignature.from_line(PETER_LINE) == signature


def test_another_text_or_key_does_not_verify() -> None:
    key = VerifierKey.from_text(PETER)
    signature = parse_note(BOTH).by(key)[0].signature
    key.verify(TEXT.encode(), signature)
    for message, other in [
        (TEXT[:-1].encode(), signature),
        (TEXT.encode(), signature[:-1]),
        (TEXT.encode(), b""),
        (TEXT.encode(), bytes(64)),
        (TEXT.encode(), parse_note(BOTH).signatures[1].signature),
    ]:
        with pytest.raises(NotVerifiedError, match="PeterNeumann does not verify"):
            key.verify(message, other)
    with pytest.raises(NotVerifiedError, match="Other does not verify"):
        VerifierKey("Other", ED25519, bytes(31) + b"\xff").verify(TEXT.encode(), signature)


# --- keys ---


@pytest.mark.parametrize("text", [SPEC_KEY, PETER, ENOCH])
def test_a_key_is_written_as_it_was_read(text: str) -> None:
    key = VerifierKey.from_text(text)
    assert key.to_text() == text
    assert key.algorithm == ED25519


def test_the_purpose_is_part_of_the_id() -> None:
    key = VerifierKey.from_text(PETER)
    witness = VerifierKey(key.name, COSIGNATURE_V1, key.public)
    assert witness.key_id != key.key_id
    assert VerifierKey.from_text(witness.to_text()) == witness
    assert not parse_note(BOTH).by(witness)


def test_no_part_and_no_neighbour_of_a_key_is_one() -> None:
    # golang.org/x/mod, TestNewVerifier
    parts = [PETER[i:j] for i in range(len(PETER)) for j in range(i + 1, len(PETER) + 1)]
    parts.remove(PETER)
    bumped = [PETER[:i] + chr(ord(PETER[i]) + 1) + PETER[i + 1 :] for i in range(len(PETER))]
    for text in [*parts, *bumped, "", "++", PETER + "\n", PETER.replace("c74f20a3", "C74F20A3")]:
        with pytest.raises(InputError, match="verifier key"):
            VerifierKey.from_text(text)


@pytest.mark.parametrize(
    "text",
    [
        # the same source: a key of another length, and an unknown type, both with their own ids
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_keys_of_other_kinds_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="verifier key"):
        VerifierKey.from_text(text)


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a+b", "a\tb", "a\nb", "a\u00a0b", "a\u2028b", "a\u3000b", "a\x00", "\ud800"],
)
def test_names_that_would_break_a_line_are_refused(name: str) -> None:
    for attempt in (
        lambda: VerifierKey(name, ED25519, bytes(32)),
        lambda: NoteSignature(name, bytes(4), b"x"),
    ):
        with pytest.raises(ValueError, match=r"name|surrogates"):
            attempt()


@pytest.mark.parametrize(("algorithm", "public"), [(2, bytes(32)), (0, bytes(32)), (1, bytes(31))])
def test_a_key_that_is_none_cannot_be_made(algorithm: int, public: bytes) -> None:
    with pytest.raises(ValueError, match=r"type|bytes"):
        VerifierKey("name", algorithm, public)


# --- strictness ---


def _line(blob: str, name: str = "n") -> str:
    return f"— {name} {blob}\n"


GOOD = b64encode(bytes(5)).decode()


@pytest.mark.parametrize(
    "data",
    [
        # golang.org/x/mod, TestOpen
        TEXT,
        TEXT + "\n",
        TEXT + "\n" + PETER_LINE[:-1],
        "\x01" + TEXT + "\n" + PETER_LINE,
        TEXT + "\n" + PETER_LINE.replace("PeterNeumann", "Bad Name"),
        TEXT + "\n" + PETER_LINE + "Unexpected line.\n",
        # ours
        "",
        "\n",
        "\n\n",
        TEXT + "\n" + PETER_LINE[:-1] + "x",  # a last line that does not end
        TEXT + PETER_LINE,
        PETER_LINE,  # signatures of nothing
        TEXT + "\n\n",
        TEXT + "\n" + PETER_LINE + "\n",
        TEXT + "\n" + PETER_LINE + "\n\n" + "— n\n",
        TEXT + "\n" + PETER_LINE.replace("—", "-"),
        TEXT + "\n" + PETER_LINE.replace("—", "\N{EN DASH}"),
        TEXT + "\n" + PETER_LINE.replace("— ", "—  "),
        TEXT + "\n" + PETER_LINE.replace("\n", " \n"),
        TEXT + "\n" + PETER_LINE.replace("\n", "\r\n"),
        TEXT.replace("\n", "\r\n") + "\n" + PETER_LINE,
        "a\tb\n\n" + _line(GOOD),
        "a\n\n" + _line(GOOD, name="a+b"),
        "a\n\n" + _line(GOOD, name="a\u3000b"),
        "a\n\n" + _line(GOOD, name=""),
        "a\n\n" + _line(""),
        "a\n\n" + _line("AAAA"),
        "a\n\n" + _line("AAAAAA=="),  # an id without a signature
        "a\n\n" + _line("AAAAAAA"),  # without its padding
        "a\n\n" + _line("AAAAAAA=="),
        "a\n\n" + _line("AAAAAAB="),  # bits that say nothing
        "a\n\n" + _line("AAAA AAA="),
        "a\n\n" + _line("AAAAAA-="),
        "a\n\n" + _line("AAAA\u00e4AA="),
        "a\n\n" + _line(GOOD) * 4097,
        "a" * 1048576 + "\n\n" + _line(GOOD),
    ],
)
def test_what_is_no_note_is_refused(data: str) -> None:
    with pytest.raises(NotVerifiedError, match="no signed note"):
        parse_note(data.encode())


def test_bytes_that_are_no_text_are_refused() -> None:
    for wrong in (b"\xff", b"\xed\xa0\x80", b"\xc0\x80"):
        with pytest.raises(NotVerifiedError, match="no signed note"):
            parse_note(wrong + TEXT.encode() + b"\n" + PETER_LINE.encode())


def test_limits_are_met_exactly() -> None:
    most = ("a\n\n" + _line(GOOD) * 4096).encode()
    assert len(parse_note(most).signatures) == 4096
    tail = len("\n\n" + _line(GOOD)) + 2  # the dash has three bytes
    largest = ("a" * (1048576 - tail) + "\n\n" + _line(GOOD)).encode()
    assert len(largest) == 1048576
    assert parse_note(largest).to_bytes() == largest
    with pytest.raises(NotVerifiedError, match="1048576 bytes"):
        parse_note(b"a" + largest)


def test_both_verifiers_read_a_state_that_two_thousand_cosigned() -> None:
    lines = "".join(
        NoteSignature(f"plant-{i:04d}/{i:016x}", bytes(4), bytes(72)).to_line() for i in range(2000)
    )
    note = "o\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n" + lines
    assert len(parse_note(note.encode()).signatures) == len(_Note(note).lines) == 2000


@pytest.mark.parametrize("text", ["", "a", "a\x00\n", "a\x1f\n", "\ud800\n", "a" * 1048576 + "\n"])
def test_a_note_that_could_not_be_read_cannot_be_made(text: str) -> None:
    with pytest.raises(ValueError, match=r"note|surrogates"):
        Note(text, (NoteSignature("n", bytes(4), b"x"),))
    with pytest.raises(ValueError, match="signatures"):
        Note("a\n", ())


@pytest.mark.parametrize("line", ["", "\n", PETER_LINE[:-1], PETER_LINE * 2, "x" + PETER_LINE])
def test_a_line_is_one_line(line: str) -> None:
    with pytest.raises(NotVerifiedError, match="no line"):
        NoteSignature.from_line(line)


@UNHURRIED
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8")))
def test_reading_never_fails_otherwise(data: bytes) -> None:
    for whole in (data, b"a\n\n" + data, BOTH[:100] + data + BOTH[100:]):
        with suppress(TacitError):
            assert parse_note(whole).to_bytes() == whole


# --- names ---


def test_names_of_members_become_names_of_keys() -> None:
    assert key_name("bank") == "bank"
    assert key_name("First Bank + 中") == "First%20Bank%20%2B%20%E4%B8%AD"
    assert key_name("a/b%20") == "a%2Fb%2520"
    with pytest.raises(ValueError, match="empty"):
        key_name("")


@UNHURRIED
@given(NAMES, NAMES)
def test_different_members_have_different_names_of_keys(one: str, other: str) -> None:
    assert VerifierKey(key_name(one), ED25519, bytes(32)).name.isascii()
    assert (key_name(one) == key_name(other)) == (one == other)
