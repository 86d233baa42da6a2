from contextlib import suppress
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.errors import NotVerifiedError
from privacy.ledger.checkpoint import Checkpoint, cosign, sign_checkpoint, with_cosignatures
from privacy.ledger.merkle import inclusion_proof, leaf_hash, root_of
from privacy.ledger.note import COSIGNATURE_V1, ED25519, VerifierKey, to_base64
from privacy.ledger.proof import InclusionProof, parse_proof, verify_proof

UNHURRIED = settings(deadline=None)
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
LOG = VerifierKey("log", ED25519, PRIVATE.public_key().public_bytes_raw())
LEAVES = [bytes([number]) * number for number in range(7)]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
HEAD = Checkpoint("log", 7, root_of(HASHES))
NOTE = sign_checkpoint(HEAD, key=LOG, sign=PRIVATE.sign)


def _nodes(level: int, index: int) -> bytes:
    return root_of(HASHES[index << level : (index + 1) << level])


def _proof(index: int, extra: bytes | None = None) -> InclusionProof:
    return InclusionProof(index, inclusion_proof(_nodes, index, 7), NOTE, extra)


GOOD = _proof(4).to_bytes()
LINE = to_base64(HASHES[0])


def test_the_file_is_as_the_specification_says() -> None:
    lines = [
        "c2sp.org/tlog-proof@v1",
        "extra ZXh0cmE=",
        "index 4",
        to_base64(HASHES[5]),
        to_base64(HASHES[6]),
        to_base64(_nodes(2, 0)),
        "",
        *NOTE.decode().split("\n"),
    ]
    assert _proof(4, b"extra").to_bytes().decode() == "\n".join(lines)
    del lines[1]
    assert GOOD.decode() == "\n".join(lines)


@pytest.mark.parametrize("extra", [None, b"x", bytes(65536)])
@pytest.mark.parametrize("index", range(7))
def test_each_leaf_is_shown_to_be_in_the_log(index: int, extra: bytes | None) -> None:
    proof = _proof(index, extra)
    assert parse_proof(proof.to_bytes()) == proof
    assert verify_proof(proof, LEAVES[index], LOG) == HEAD


def test_a_log_of_one_leaf_needs_no_hashes() -> None:
    head = Checkpoint("log", 1, HASHES[0])
    proof = InclusionProof(0, (), sign_checkpoint(head, key=LOG, sign=PRIVATE.sign))
    assert parse_proof(proof.to_bytes()) == proof
    assert verify_proof(proof, LEAVES[0], LOG) == head


def test_a_proof_has_as_many_hashes_as_the_largest_log_needs() -> None:
    proof = InclusionProof(0, (bytes(32),) * 63, NOTE, bytes(65536))
    assert parse_proof(proof.to_bytes()) == proof


def test_a_cosigned_checkpoint_stays_byte_for_byte() -> None:
    witness = VerifierKey("w", COSIGNATURE_V1, LOG.public)
    cosignature = cosign(HEAD, key=witness, sign=PRIVATE.sign, time_s=1)
    note = with_cosignatures(NOTE, [cosignature])
    proof = replace(_proof(4), checkpoint_note=note)
    assert parse_proof(proof.to_bytes()).checkpoint_note == note
    assert verify_proof(proof, LEAVES[4], LOG) == HEAD


def test_what_is_not_in_the_log_is_refused() -> None:
    good = _proof(4)
    forged = sign_checkpoint(replace(HEAD, root=bytes(32)), key=LOG, sign=PRIVATE.sign)
    other = replace(LOG, name="other")
    for proof, leaf, key in [
        (good, LEAVES[3], LOG),
        (good, HASHES[4], LOG),
        (good, LEAVES[4], other),
        (replace(good, index=5), LEAVES[4], LOG),
        (replace(good, index=7), LEAVES[4], LOG),
        (replace(good, hashes=good.hashes[:-1]), LEAVES[4], LOG),
        (replace(good, hashes=(*good.hashes, bytes(32))), LEAVES[4], LOG),
        (replace(good, hashes=good.hashes[::-1]), LEAVES[4], LOG),
        (replace(good, checkpoint_note=forged), LEAVES[4], LOG),
        (replace(good, checkpoint_note=NOTE.replace(b"\n7\n", b"\n8\n")), LEAVES[4], LOG),
    ]:
        with pytest.raises(NotVerifiedError, match=r"nothing shows|no leaf|signed|verify"):
            verify_proof(proof, leaf, key)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD[:-1],
        b"c2sp.org/tlog-proof@v1\n\n" + NOTE,
        GOOD + b"\n",
        b"\n" + GOOD,
        GOOD.replace(b"@v1", b"@v2"),
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"index 4", b"index 04"),
        GOOD.replace(b"index 4", b"index -4"),
        GOOD.replace(b"index 4", b"index  4"),
        GOOD.replace(b"index 4", b"index"),
        GOOD.replace(b"index 4\n", b""),
        GOOD.replace(b"index 4\n", b"index 4\nindex 4\n"),
        GOOD.replace(b"index 4", b"index 9223372036854775808"),
        GOOD.replace(b"index 4", b"extra \nindex 4"),
        GOOD.replace(b"index 4", b"extra\nindex 4"),
        GOOD.replace(b"index 4", b"extra AAA\nindex 4"),
        GOOD.replace(b"index 4", b"extra AAAA\nextra AAAA\nindex 4"),
        GOOD.replace(b"index 4", b"index 4\nextra AAAA"),
        GOOD.replace(b"index 4", b"index 4\nAAAA"),
        GOOD.replace(b"index 4", b"index 4\n\n"),
        GOOD.replace(b"index 4", f"index 4\n{LINE[:-2]}B=".encode()),
        GOOD.replace(b"index 4", b"index 4" + f"\n{LINE}".encode() * 61),
        GOOD.replace(b"index 4", b"extra " + b"AAAA" * 30000 + b"\nindex 4"),
        GOOD.replace(b"index 4", b"extra " + b"AAAA" * 90000 + b"\nindex 4"),
        GOOD.replace(b"index 4", "index ٤".encode()),
    ],
)
def test_what_is_no_proof_is_refused(data: bytes) -> None:
    with pytest.raises(NotVerifiedError, match=r"no proof|no signed note|no checkpoint"):
        parse_proof(data)


@pytest.mark.parametrize(
    ("index", "hashes", "extra"),
    [
        (-1, (), None),
        (2**63, (), None),
        (0, (b"",), None),
        (0, (bytes(32),) * 64, None),
        (0, (), b""),
        (0, (), bytes(65537)),
    ],
)
def test_a_proof_that_could_not_be_read_cannot_be_made(
    index: int, hashes: tuple[bytes, ...], extra: bytes | None
) -> None:
    with pytest.raises(ValueError, match=r"number|hashes|extra"):
        InclusionProof(index, hashes, NOTE, extra)
    with pytest.raises(NotVerifiedError, match="no signed note"):
        InclusionProof(0, (), b"")


@UNHURRIED
@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=3))
def test_no_change_of_a_file_shows_another_leaf(place: int, change: bytes) -> None:
    changed = GOOD[:place] + change + GOOD[place + len(change) :]
    with suppress(NotVerifiedError):
        assert verify_proof(parse_proof(changed), LEAVES[4], LOG) == HEAD
        assert parse_proof(changed).to_bytes() == changed
    with pytest.raises(NotVerifiedError):
        verify_proof(parse_proof(changed), LEAVES[3], LOG)
