from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.errors import NotVerifiedError
from privacy.ledger.checkpoint import (
    Checkpoint,
    cosign,
    cosigners,
    merged,
    open_checkpoint,
    parse_checkpoint_text,
    sign_checkpoint,
    verify_cosignature,
    with_cosignatures,
    with_room,
)
from privacy.ledger.merkle import EMPTY_ROOT
from privacy.ledger.note import (
    COSIGNATURE_V1,
    ED25519,
    Note,
    NoteSignature,
    VerifierKey,
    from_base64,
    parse_note,
)

# Heads of the Go checksum database, as sum.golang.org signed them.
SUMDB = VerifierKey.from_text(
    "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
)
SUMDB_HEADS = [
    (
        "go.sum database tree\n65209736\n5+uGFjx6xBZG8ip1+wi77v+grwbhhukIrxEUS8PXvRo=\n\n"
        "— sum.golang.org Az3grnbssgK7ubgFX36gVETtNv0U23qxyAhAMai2QUfeGa3nB/akvkMdlUErfcZz"
        "7l/R3cVtYspg3dxXABkGZZKdsQ8=\n"
    ).encode(),
    (
        "go.sum database tree\n31700353\nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=\n\n"
        "— sum.golang.org Az3grnmrIUEDFqHzAElIQCPNoRFRAAdFo47fooyWKMHb89k11GJh5zHIfNCOBmwn"
        "/C3YI8oW9/C8DJ87F61QqspBYwM=\n"
    ).encode(),
]
# A checkpoint of the DNS-ID test network with the cosignature of its witness, by other software.
DNSID_LOG = VerifierKey.from_text(
    "registry.dev.dnsid.test+63709d10+ARwL6oG1DPOaYXpfGFYdSw26SwXFlXwg/4pSQkH+meO1"
)
DNSID_WITNESS = VerifierKey.from_text(
    "dnsid-testnet-witness+140f1588+BAsNEfLiOQ/CLTgTGutdjkXbl+Ur7aleRlda6PWY0lcW"
)
DNSID = (
    "registry.dev.dnsid.test\n1\nhoRk0hkPFzObCxDX9po81RS5jnJB3iXBewKTs061yX0=\n\n"
    "— registry.dev.dnsid.test Y3CdECgpKysQCRqhl6VHhpBNH1fVarM6rb7x1GEaTHLOm6N4EyO/wy+ZjAf"
    "3wU+zJeBzJZ0zs0DA+u/D9ooB6RFJtAA=\n"
    "— dnsid-testnet-witness FA8ViAAAAABqVT7r7JIYyN4uQ5HTMTos+yN1oxBaNRgxoLkpzkWDR3LhxYQ3u"
    "rhvCZ7hdbVNZU2OsUues3gpgSCrOrpSBmQAJOgDAg==\n"
).encode()
# The example of c2sp.org/tlog-cosignature; its keys are not published.
SPEC = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u"
    "5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dl"
    "rDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
LOG_PRIVATE, ONE_PRIVATE, TWO_PRIVATE = (
    Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in (1, 2, 3)
)
LOG = VerifierKey("tacit/log", ED25519, LOG_PRIVATE.public_key().public_bytes_raw())
ONE = VerifierKey("one", COSIGNATURE_V1, ONE_PRIVATE.public_key().public_bytes_raw())
TWO = VerifierKey("two", COSIGNATURE_V1, TWO_PRIVATE.public_key().public_bytes_raw())
HEAD = Checkpoint("tacit/log", 5, b"r" * 32)
NOTE = sign_checkpoint(HEAD, key=LOG, sign=LOG_PRIVATE.sign)
ROOT = "A" * 43 + "="


def _by_one(time_s: int, head: Checkpoint = HEAD) -> NoteSignature:
    return cosign(head, key=ONE, sign=ONE_PRIVATE.sign, time_s=time_s)


def _by_two(time_s: int) -> NoteSignature:
    return cosign(HEAD, key=TWO, sign=TWO_PRIVATE.sign, time_s=time_s)


# --- what others signed ---


@pytest.mark.parametrize(("head", "size"), [(SUMDB_HEADS[0], 65209736), (SUMDB_HEADS[1], 31700353)])
def test_heads_of_the_go_checksum_database_verify(head: bytes, size: int) -> None:
    checkpoint = open_checkpoint(head, SUMDB)
    assert (checkpoint.origin, checkpoint.size) == ("go.sum database tree", size)
    with pytest.raises(NotVerifiedError, match="does not verify"):
        open_checkpoint(head.replace(b"tree\n6", b"tree\n7").replace(b"\n3", b"\n4"), SUMDB)


def test_a_cosignature_by_other_software_verifies() -> None:
    checkpoint = open_checkpoint(DNSID, DNSID_LOG)
    assert (checkpoint.origin, checkpoint.size) == ("registry.dev.dnsid.test", 1)
    assert cosigners(DNSID, [DNSID_WITNESS]) == {"dnsid-testnet-witness": 1783971563}
    assert cosigners(DNSID, [replace(DNSID_WITNESS, name="another"), ONE]) == {}
    with pytest.raises(NotVerifiedError, match="dnsid-testnet-witness does not verify"):
        cosigners(DNSID.replace(b"\n1\n", b"\n2\n"), [DNSID_WITNESS])


def test_the_example_of_the_specification_is_read() -> None:
    note = parse_note(SPEC.encode())
    assert parse_checkpoint_text(note.text) == Checkpoint(
        "example.com/behind-the-sofa",
        20852163,
        from_base64("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="),
    )
    assert note.signatures[1].key_id.hex() == "8d66cf3f"
    assert int.from_bytes(note.signatures[1].signature[:8], "big") == 1679315147


def test_what_a_witness_signs_is_what_the_specification_says() -> None:
    signed: list[bytes] = []

    def sign(message: bytes) -> bytes:
        signed.append(message)
        return ONE_PRIVATE.sign(message)

    head = parse_checkpoint_text(parse_note(SPEC.encode()).text)
    cosignature = cosign(head, key=ONE, sign=sign, time_s=1679315147)
    (message,) = signed
    assert message == (
        b"cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n"
        b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    )
    assert cosignature.signature == bytes.fromhex("00000000641850cb") + ONE_PRIVATE.sign(message)


# --- texts ---


@pytest.mark.parametrize("head", [HEAD, Checkpoint("o n", 2**63 - 1, bytes(32))])
def test_a_checkpoint_is_read_as_it_was_written(head: Checkpoint) -> None:
    assert parse_checkpoint_text(head.text()) == head
    empty = Checkpoint("o", 0, EMPTY_ROOT)
    assert parse_checkpoint_text(empty.text()) == empty


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "\n\n\n",
        f"\n5\n{ROOT}\n",
        f"o\n5\n{ROOT}",
        f"o\n5\n{ROOT}\n\n",
        f"o\n5\n{ROOT}\nextension\n",
        f"o\n5\n\n{ROOT}\n",
        f"o\n\n{ROOT}\n",
        f"o\n05\n{ROOT}\n",
        f"o\n00\n{ROOT}\n",
        f"o\n-5\n{ROOT}\n",
        f"o\n+5\n{ROOT}\n",
        f"o\n5 \n{ROOT}\n",
        f"o\n5_0\n{ROOT}\n",
        f"o\n\u0665\n{ROOT}\n",
        f"o\n0x5\n{ROOT}\n",
        f"o\n5.0\n{ROOT}\n",
        f"o\n9223372036854775808\n{ROOT}\n",
        f"o\n{'9' * 5000}\n{ROOT}\n",
        f"o\n0\n{ROOT}\n",
        f"o\r\n5\n{ROOT}\n",
        f"o\n5\n{ROOT[:-1]}\n",
        f"o\n5\n{ROOT[:-2]}B=\n",
        "o\n5\nAAAA\n",
        "o\n5\n\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NotVerifiedError, match="no checkpoint"):
        parse_checkpoint_text(text)


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        ("", 5, bytes(32)),
        ("a\nb", 5, bytes(32)),
        ("a\x1f", 5, bytes(32)),
        ("\ud800", 5, bytes(32)),
        ("o", -1, bytes(32)),
        ("o", 2**63, bytes(32)),
        ("o", 5, bytes(31)),
        ("o", 0, bytes(32)),
    ],
)
def test_a_checkpoint_that_is_none_cannot_be_made(origin: str, size: int, root: bytes) -> None:
    with pytest.raises(ValueError, match=r"origin|surrogates|size|root"):
        Checkpoint(origin, size, root)


# --- the log's signature ---


def test_a_signed_checkpoint_is_opened() -> None:
    assert open_checkpoint(NOTE, LOG) == HEAD
    assert NOTE.startswith(HEAD.text().encode() + "\n— tacit/log ".encode())


def test_a_checkpoint_of_another_key_or_text_is_not_opened() -> None:
    other = replace(LOG, public=ONE.public)
    renamed = replace(LOG, name="other")
    for key in (other, renamed):
        with pytest.raises(NotVerifiedError, match="has not signed"):
            open_checkpoint(NOTE, key)
    with pytest.raises(NotVerifiedError, match="does not verify"):
        open_checkpoint(NOTE.replace(b"\n5\n", b"\n6\n"), LOG)
    signature = NoteSignature(LOG.name, LOG.key_id, LOG_PRIVATE.sign(b"a poem\n"))
    poem = Note("a poem\n", (signature,)).to_bytes()
    with pytest.raises(NotVerifiedError, match="no checkpoint"):
        open_checkpoint(poem, LOG)


def test_one_bad_signature_of_a_known_key_spoils_the_note() -> None:
    note = parse_note(NOTE)
    bad = NoteSignature(LOG.name, LOG.key_id, bytes(64))
    unknown = NoteSignature("x", bytes(4), bytes(64))
    for signatures in ((*note.signatures, bad), (bad, *note.signatures)):
        with pytest.raises(NotVerifiedError, match="does not verify"):
            open_checkpoint(Note(note.text, signatures).to_bytes(), LOG)
    assert open_checkpoint(Note(note.text, (unknown, *note.signatures)).to_bytes(), LOG) == HEAD


def test_a_signer_with_another_key_is_found_out() -> None:
    with pytest.raises(NotVerifiedError, match="does not verify"):
        sign_checkpoint(HEAD, key=LOG, sign=ONE_PRIVATE.sign)
    with pytest.raises(NotVerifiedError, match="does not verify"):
        cosign(HEAD, key=ONE, sign=TWO_PRIVATE.sign, time_s=1)


def test_keys_serve_one_purpose() -> None:
    for attempt in (
        lambda: sign_checkpoint(HEAD, key=ONE, sign=ONE_PRIVATE.sign),
        lambda: open_checkpoint(NOTE, ONE),
        lambda: cosign(HEAD, key=LOG, sign=LOG_PRIVATE.sign, time_s=1),
        lambda: verify_cosignature(HEAD, LOG, _by_one(1)),
    ):
        with pytest.raises(ValueError, match="type"):
            attempt()


# --- cosignatures ---


@pytest.mark.parametrize("time_s", [0, 1, 1679315147, 2**63 - 1])
def test_a_cosignature_gives_its_time(time_s: int) -> None:
    signature = _by_one(time_s)
    assert verify_cosignature(HEAD, ONE, signature) == time_s
    assert verify_cosignature(HEAD.text(), ONE, signature) == time_s
    assert len(signature.signature) == 72


@pytest.mark.parametrize("time_s", [-1, 2**63])
def test_impossible_times_are_refused(time_s: int) -> None:
    with pytest.raises(ValueError, match="time"):
        _by_one(time_s)


def test_a_time_after_all_times_is_refused_though_it_is_signed() -> None:
    message = f"cosignature/v1\ntime {2**63}\n{HEAD.text()}".encode()
    signature = (2**63).to_bytes(8, "big") + ONE_PRIVATE.sign(message)
    with pytest.raises(NotVerifiedError, match="impossible time"):
        verify_cosignature(HEAD, ONE, NoteSignature("one", ONE.key_id, signature))


def test_a_cosignature_is_of_one_checkpoint_key_and_time() -> None:
    good = _by_one(7)
    later = replace(good, signature=(8).to_bytes(8, "big") + good.signature[8:])
    never = replace(good, signature=b"\xff" * 8 + good.signature[8:])
    bare = replace(good, signature=good.signature[8:])
    for head, key, signature in [
        (replace(HEAD, size=6), ONE, good),
        (replace(HEAD, root=b"s" * 32), ONE, good),
        (replace(HEAD, origin="o"), ONE, good),
        (HEAD, TWO, good),
        (HEAD, TWO, replace(good, name="two", key_id=TWO.key_id)),
        (HEAD, ONE, later),
        (HEAD, ONE, never),
        (HEAD, ONE, bare),
        (HEAD, ONE, replace(good, key_id=bytes(4))),
        (HEAD, ONE, replace(good, name="x")),
    ]:
        with pytest.raises(NotVerifiedError, match=r"cosignature|does not verify"):
            verify_cosignature(head, key, signature)


def test_a_log_signature_is_no_cosignature_and_the_other_way_round() -> None:
    # One private key in both roles: what it signed in one must not serve in the other.
    both_witness = VerifierKey("both", COSIGNATURE_V1, LOG.public)
    both_log = VerifierKey("both", ED25519, LOG.public)
    signed = LOG_PRIVATE.sign(HEAD.text().encode())
    forged = NoteSignature("both", both_witness.key_id, (7).to_bytes(8, "big") + signed)
    with pytest.raises(NotVerifiedError, match="does not verify"):
        verify_cosignature(HEAD, both_witness, forged)
    cosigned = cosign(HEAD, key=both_witness, sign=LOG_PRIVATE.sign, time_s=7)
    as_log = NoteSignature("both", both_log.key_id, cosigned.signature[8:])
    with pytest.raises(NotVerifiedError, match="does not verify"):
        open_checkpoint(Note(HEAD.text(), (as_log,)).to_bytes(), both_log)


def test_cosignatures_are_added_once_for_each_key() -> None:
    note = with_cosignatures(NOTE, [_by_one(7), _by_two(9)])
    assert note.startswith(NOTE)
    assert open_checkpoint(note, LOG) == HEAD
    assert cosigners(note, [ONE, TWO]) == {"one": 7, "two": 9}
    assert cosigners(note, [TWO]) == {"two": 9}
    again = with_cosignatures(note, [_by_one(8), _by_two(8), _by_one(7)])
    assert cosigners(again, [ONE, TWO]) == {"one": 8, "two": 9}
    assert len(parse_note(again).signatures) == 3
    assert with_cosignatures(again, [_by_one(8)]) == again
    assert with_cosignatures(again, []) == again


def test_only_cosignatures_are_added() -> None:
    for wrong in (
        NoteSignature("one", ONE.key_id, bytes(64)),
        NoteSignature(LOG.name, LOG.key_id, bytes(72)),
    ):
        with pytest.raises(ValueError, match=r"72 bytes|as a log"):
            with_cosignatures(NOTE, [wrong])
    note = parse_note(NOTE)
    twice = Note(note.text, note.signatures * 2).to_bytes()
    with pytest.raises(NotVerifiedError, match="twice"):
        with_cosignatures(twice, [])
    many = [NoteSignature(f"w{i}", bytes(4), bytes(72)) for i in range(4096)]
    assert len(parse_note(with_cosignatures(NOTE, many[:-1])).signatures) == 4096
    with pytest.raises(NotVerifiedError, match="do not fit"):
        with_cosignatures(NOTE, many)


def test_what_is_kept_twice_has_the_signatures_of_both() -> None:
    one, two = with_cosignatures(NOTE, [_by_one(7)]), with_cosignatures(NOTE, [_by_two(9)])
    both = with_cosignatures(NOTE, [_by_one(7), _by_two(9)])
    assert merged(None, one) == merged(one, one) == merged(one, NOTE) == one
    assert merged(NOTE, one) == one
    assert merged(one, two) == both
    assert merged(both, with_cosignatures(NOTE, [_by_one(8), _by_two(8)])) == with_cosignatures(
        NOTE, [_by_one(8), _by_two(9)]
    )
    # another key of the log, as after a change of keys
    new = replace(LOG, public=TWO.public)
    by_new = sign_checkpoint(HEAD, key=new, sign=TWO_PRIVATE.sign)
    assert open_checkpoint(merged(one, by_new), LOG) == open_checkpoint(merged(one, by_new), new)
    assert cosigners(merged(one, by_new), [ONE]) == {"one": 7}
    assert merged(b"none at all", b"none at all") == b"none at all"


def test_what_is_kept_is_of_one_checkpoint() -> None:
    other = sign_checkpoint(replace(HEAD, root=bytes(32)), key=LOG, sign=LOG_PRIVATE.sign)
    for kept, note in ((NOTE, other), (NOTE, b"none"), (b"none", NOTE)):
        with pytest.raises(NotVerifiedError, match=r"another of the same size|no signed note"):
            merged(kept, note)


def test_who_signed_stays_though_others_find_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    first = NoteSignature(LOG.name, LOG.key_id, bytes(72))
    kept = parse_note(NOTE).signatures[0]
    assert (
        with_room(NOTE, [first, NoteSignature("one", ONE.key_id, bytes(64))])
        == Note(HEAD.text(), (kept, NoteSignature("one", ONE.key_id, bytes(64)))).to_bytes()
    )
    witnessed = with_room(NOTE, [_by_one(7)])
    assert with_room(witnessed, [NoteSignature("one", ONE.key_id, bytes(64))]) == witnessed
    # of the same second, the first stays
    same_s = replace(_by_one(7), signature=_by_one(7).signature[:8] + bytes(64))
    assert with_room(witnessed, [same_s]) == witnessed
    many = [NoteSignature(f"w{i}", bytes(4), bytes(72)) for i in range(4096)]
    full = with_room(witnessed, [*many, _by_one(9)])
    assert parse_note(full).signatures == (kept, _by_one(9), *many[:4094])
    monkeypatch.setattr("privacy.ledger.checkpoint.NOTE_BYTES_MAX", len(witnessed) + 120)
    long, short = NoteSignature("w" * 90, bytes(4), bytes(72)), many[0]
    assert len(short.to_line().encode()) <= 120 < len(long.to_line().encode())
    assert parse_note(with_room(witnessed, [long, short, many[1]])).signatures == (
        kept,
        _by_one(7),
        short,
    )
    exact = len(witnessed) + len(short.to_line().encode())
    for room, there in ((exact, True), (exact - 1, False)):
        monkeypatch.setattr("privacy.ledger.checkpoint.NOTE_BYTES_MAX", room)
        assert (short in parse_note(with_room(witnessed, [short])).signatures) is there
    twice = Note(HEAD.text(), (kept, kept)).to_bytes()
    with pytest.raises(NotVerifiedError, match="twice"):
        with_room(twice, [])


def test_a_bad_cosignature_of_a_known_witness_spoils_the_note() -> None:
    bad = replace(_by_one(7), signature=_by_one(7, replace(HEAD, size=6)).signature)
    note = with_cosignatures(NOTE, [bad, _by_two(9)])
    with pytest.raises(NotVerifiedError, match="one does not verify"):
        cosigners(note, [ONE, TWO])
    assert cosigners(note, [TWO]) == {"two": 9}
    parsed = parse_note(note)
    mixed = Note(parsed.text, (*parsed.signatures, _by_one(9))).to_bytes()
    with pytest.raises(NotVerifiedError, match="one does not verify"):
        cosigners(mixed, [ONE])


def test_of_several_cosignatures_the_latest_counts() -> None:
    parsed = parse_note(NOTE)
    for order in ((7, 9), (9, 7)):
        signatures = (*parsed.signatures, *(_by_one(time_s) for time_s in order))
        assert cosigners(Note(parsed.text, signatures).to_bytes(), [ONE]) == {"one": 9}
    at_zero = Note(parsed.text, (*parsed.signatures, _by_one(0))).to_bytes()
    assert cosigners(at_zero, [ONE]) == {"one": 0}
    # two keys of one name, as after a change of keys
    new = replace(ONE, public=TWO.public)
    by_new = cosign(HEAD, key=new, sign=TWO_PRIVATE.sign, time_s=3)
    assert cosigners(with_cosignatures(NOTE, [_by_one(7), by_new]), [ONE, new]) == {"one": 7}
