import hashlib
from dataclasses import replace
from functools import partial
from typing import Self

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.canonical import framed
from privacy.errors import ProtocolError
from privacy.identity import Identity
from privacy.randomness import system_bytes
from privacy.secure_sum import (
    BOX_BYTES_MAX,
    HEADER_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    Answer,
    Release,
    SealedVector,
    Vote,
    read_form,
    require_member_name,
)
from privacy.secure_sum.keys import admit, offer_key
from privacy.secure_sum.statements import (
    ANSWER_DOMAIN,
    RELEASE_DOMAIN,
    SEALED_DOMAIN,
    check_answer,
    check_release,
    check_sealed,
    check_vote,
    sealed_message,
    share_commitment,
    told_message,
)
from privacy.sum_context import ACCEPTED_DOMAIN, SURVIVORS_DOMAIN, survivors_message

UNHURRIED = settings(deadline=None)  # a busy machine is no failure
VECTOR = SealedVector(
    sender="bank",
    context=b"c" * 32,
    payload=b"p" * 16,
    boxes={"insurer": b"i" * 49, "mill": b"m" * 49},
    commitments=(b"1" * 32, b"2" * 32, b"3" * 32, b"4" * 32),
    signature=b"s" * 64,
)
BARE = replace(VECTOR, boxes={}, commitments=())
HASHES = st.binary(min_size=32, max_size=32)
NAMES = st.text(min_size=1, max_size=8).filter(str.isprintable)


@UNHURRIED
@given(
    NAMES,
    HASHES,
    st.binary(min_size=1, max_size=40),
    st.dictionaries(NAMES, st.binary(min_size=1, max_size=BOX_BYTES_MAX), max_size=5),
    st.lists(HASHES, max_size=5).map(tuple),
)
def test_a_vector_survives_the_wire(
    sender: str,
    context: bytes,
    payload: bytes,
    boxes: dict[str, bytes],
    commitments: tuple[bytes, ...],
) -> None:
    vector = SealedVector(sender, context, payload, boxes, commitments, b"s" * 64)
    again = SealedVector.from_wire(vector.header(), vector.payload)
    assert again == vector
    shuffled = replace(vector, boxes=dict(reversed(boxes.items())))
    assert shuffled.header() == again.header()


def test_secrets_are_not_printed() -> None:
    release = Release("bank", {"mill": b"t" * 32}, b"s" * 64)
    answer = Answer("bank", {"mill": b"t" * 33}, b"s" * 64)
    shown = f"{VECTOR!r} {release!r} {answer!r}"
    for secret in ("pppp", "iiii", "tttt", "1111"):
        assert secret not in shown
    assert "bank" in shown


def test_what_was_read_cannot_be_changed() -> None:
    vector = SealedVector.from_wire(VECTOR.header(), VECTOR.payload)
    with pytest.raises(TypeError):
        vector.boxes["mill"] = b"x"  # type: ignore[index]


def _packed(*fields: object) -> bytes:
    return msgspec.msgpack.encode(fields)


HEAD = (2, "bank", b"c" * 32)
REST: tuple[object, ...] = ({"mill": b"m"}, (b"1" * 32,), b"s" * 64)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xc1",
        VECTOR.header() + b"\0",
        VECTOR.header()[:-1],
        VECTOR.header().replace(b"bank", b"ban\xff"),
        VECTOR.header().replace(b"\xa4bank", b"\xd9\x04bank"),
        _packed(*HEAD, *REST, 0),
        _packed(*HEAD, *REST[:2]),
        _packed("2", *HEAD[1:], *REST),
        _packed(1, *HEAD[1:], *REST),
        _packed(3, *HEAD[1:], *REST),
        _packed(2, "", HEAD[2], *REST),
        _packed(2, "b" * 65, HEAD[2], *REST),
        _packed(2, "a\nb", HEAD[2], *REST),
        _packed(2, "bank", b"c" * 31, *REST),
        _packed(2, "bank", b"c" * 33, *REST),
        _packed(*HEAD, {"mill": b""}, *REST[1:]),
        _packed(*HEAD, {"mill": b"m" * (BOX_BYTES_MAX + 1)}, *REST[1:]),
        _packed(*HEAD, {"mill": "text"}, *REST[1:]),
        _packed(*HEAD, {7: b"m"}, *REST[1:]),
        _packed(*HEAD, [("mill", b"m")], *REST[1:]),
        _packed(*HEAD, {"mill": b"m", "bank": b"b"}, *REST[1:]),  # not in order
        _packed(*HEAD, REST[0], (b"1" * 31,), REST[2]),
        _packed(*HEAD, REST[0], b"1" * 32, REST[2]),
        _packed(*HEAD, REST[0], REST[1], b"s" * 65),
        _packed(*HEAD, REST[0], REST[1], b"s" * 63),
        _packed(*HEAD, {}, (b"1" * 32,) * (HEADER_BYTES_MAX // 32), REST[2]),
        msgspec.msgpack.encode({"form": 2}),
        b"\x91" * 1000,
    ],
)
def test_a_header_has_one_form(header: bytes) -> None:
    with pytest.raises(ProtocolError):
        SealedVector.from_wire(header, VECTOR.payload)
    SealedVector.from_wire(_packed(*HEAD, *REST), VECTOR.payload)


class _Long(bytes):
    """So many bytes, as it says."""

    def __new__(cls, length: int) -> Self:
        made = super().__new__(cls)
        made.length = length
        return made

    length: int

    def __len__(self) -> int:
        return self.length


class _Read(msgspec.Struct, array_like=True, frozen=True):
    text: str


def test_a_form_has_as_many_bytes_as_are_allowed_and_no_more() -> None:
    data = msgspec.msgpack.encode(_Read("abc"))
    assert read_form(data, _Read, what="it", most=len(data)) == _Read("abc")
    with pytest.raises(ProtocolError, match=rf"^it exceeds {len(data) - 1} bytes"):
        read_form(data, _Read, what="it", most=len(data) - 1)


def test_boxes_and_payloads_and_names_may_be_as_long_as_they_are_allowed_to_be() -> None:
    longest = replace(VECTOR, sender="n" * 64, boxes={"mill": b"m" * BOX_BYTES_MAX})
    assert SealedVector.from_wire(longest.header(), longest.payload) == longest
    payload = _Long(PAYLOAD_BYTES_MAX)
    assert SealedVector.from_wire(VECTOR.header(), payload).payload is payload
    require_member_name("n" * 64)


def test_a_header_that_cannot_be_read_is_called_a_header() -> None:
    with pytest.raises(ProtocolError, match=r"^a sealed vector's header is malformed"):
        SealedVector.from_wire(VECTOR.header()[:-1], VECTOR.payload)


def test_a_box_that_is_there_twice_is_refused() -> None:
    once = _packed(*HEAD, {"mill": b"m"}, *REST[1:])
    twice = once.replace(b"\x81\xa4mill\xc4\x01m", b"\x82\xa4mill\xc4\x01m\xa4mill\xc4\x01m")
    assert twice != once
    with pytest.raises(ProtocolError, match="one form"):
        SealedVector.from_wire(twice, VECTOR.payload)


@pytest.mark.parametrize("vector", [VECTOR, BARE])
def test_every_cut_and_every_flipped_bit_is_refused_or_says_something_else(
    vector: SealedVector,
) -> None:
    header = vector.header()
    for length in range(len(header)):
        with pytest.raises(ProtocolError):
            SealedVector.from_wire(header[:length], vector.payload)
    for bit in range(8 * len(header)):
        flipped = bytearray(header)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert SealedVector.from_wire(bytes(flipped), vector.payload) != vector
        except ProtocolError:
            continue


@pytest.mark.parametrize("payload", [b"", _Long(PAYLOAD_BYTES_MAX + 1)])
def test_a_payload_has_an_acceptable_size(payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="bank's payload"):
        SealedVector.from_wire(VECTOR.header(), payload)


@pytest.mark.parametrize("name", ["", "a\nb", "a\0", "\u202e", "n" * 65])
def test_what_cannot_name_a_member_is_refused(name: str) -> None:
    with pytest.raises(ProtocolError, match="1 to 64 printable"):
        require_member_name(name)


# --- what is signed ---

KEYS = {name: Identity.create(system_bytes) for name in ("bank", "insurer", "mill")}
DIRECTORY = {name: key.public for name, key in KEYS.items()}
ROSTER = admit(
    [
        offer_key(key, name, run=b"run", directory=DIRECTORY, entropy=system_bytes)[1]
        for name, key in KEYS.items()
    ],
    run=b"run",
    directory=DIRECTORY,
    minimum=2,
)
CONTEXT = b"c" * 32
SURVIVORS = ("bank", "insurer", "mill")


def test_every_part_of_a_vector_and_its_scheme_are_signed() -> None:
    signature = KEYS["bank"].sign(SEALED_DOMAIN, sealed_message("masked", VECTOR))
    signed = replace(VECTOR, signature=signature)
    check_sealed("masked", signed, ROSTER)
    check_sealed(
        "masked", replace(signed, boxes=dict(reversed(list(signed.boxes.items())))), ROSTER
    )
    wrong = [
        replace(signed, sender="mill"),
        replace(signed, context=b"d" * 32),
        replace(signed, payload=b"p" * 15 + b"q"),
        replace(signed, payload=b"p" * 15),
        replace(signed, boxes={}),
        replace(signed, boxes={"insurer": b"m" * 49, "mill": b"i" * 49}),
        replace(signed, boxes={**signed.boxes, "spy": b"b"}),
        replace(signed, commitments=signed.commitments[::-1]),
        replace(signed, commitments=()),
        replace(signed, signature=bytes(64)),
    ]
    for vector in wrong:
        with pytest.raises(ProtocolError, match=f"the vector of {vector.sender} is not signed"):
            check_sealed("masked", vector, ROSTER)
    for scheme in ("clear", "sealed", "ckks", "mask"):
        with pytest.raises(ProtocolError, match="not signed"):
            check_sealed(scheme, signed, ROSTER)


def test_what_a_sender_signs_is_as_it_is_written() -> None:
    boxes = framed(b"insurer", b"i" * 49, b"mill", b"m" * 49)
    assert sealed_message("masked", VECTOR) == framed(
        b"masked",
        VECTOR.context,
        b"bank",
        blake3(VECTOR.payload).digest(),
        boxes,
        framed(*VECTOR.commitments),
    )


def test_boxes_cannot_be_taken_for_commitments_nor_moved_between_members() -> None:
    vectors = [
        replace(VECTOR, boxes={"a": b"bc"}, commitments=()),
        replace(VECTOR, boxes={"ab": b"c"}, commitments=()),
        replace(VECTOR, boxes={}, commitments=(b"a", b"bc")),
        replace(VECTOR, boxes={"a": b"bc"}, commitments=(b"d",)),
        replace(VECTOR, boxes={"a": b"bc", "d": b""}, commitments=()),
        BARE,
    ]
    assert len({sealed_message("masked", vector) for vector in vectors}) == len(vectors)
    assert sealed_message("masked", VECTOR) != sealed_message("clear", VECTOR)


def test_a_vote_is_for_one_sum_and_its_survivors() -> None:
    message = survivors_message(CONTEXT, SURVIVORS)
    vote = Vote("bank", KEYS["bank"].sign(SURVIVORS_DOMAIN, message))

    def check(vote: Vote, *, context: bytes = CONTEXT, of: tuple[str, ...] = SURVIVORS) -> None:
        check_vote(vote, context=context, survivors=of, roster=ROSTER)

    check(vote)
    for of in (SURVIVORS[:2], SURVIVORS[::-1], (*SURVIVORS, "spy")):
        with pytest.raises(ProtocolError, match="bank did not sign these survivors"):
            check(vote, of=of)
    with pytest.raises(ProtocolError, match="bank did not sign"):
        check(vote, context=b"d" * 32)
    with pytest.raises(ProtocolError, match="mill did not sign"):
        check(replace(vote, member="mill"))
    with pytest.raises(ProtocolError, match="not part of"):
        check(vote, of=SURVIVORS[1:])


def test_an_answer_is_signed_share_by_share() -> None:
    shares = {"bank": b"b" * 33, "mill": b"m" * 33}
    signature = KEYS["bank"].sign(ANSWER_DOMAIN, told_message(CONTEXT, SURVIVORS, shares))
    answer = Answer("bank", shares, signature)

    def check(answer: Answer, *, context: bytes = CONTEXT, of: tuple[str, ...] = SURVIVORS) -> None:
        check_answer(answer, context=context, survivors=of, roster=ROSTER)

    check(answer)
    check(replace(answer, shares=dict(reversed(shares.items()))))
    for wrong in (
        {},
        {"bank": shares["bank"]},
        {"bank": shares["mill"], "mill": shares["bank"]},
        {**shares, "insurer": b"i" * 33},
    ):
        with pytest.raises(ProtocolError, match="the answer of bank is not signed"):
            check(replace(answer, shares=wrong))
    with pytest.raises(ProtocolError, match="not signed"):
        check(answer, context=b"d" * 32)
    with pytest.raises(ProtocolError, match="not signed"):
        check(answer, of=SURVIVORS[:2])
    with pytest.raises(ProtocolError, match="not part of"):
        check(replace(answer, member="spy"))


def test_a_release_is_signed_mask_by_mask() -> None:
    seeds = {"maker": b"a" * 32, "broker": b"b" * 32}
    signature = KEYS["bank"].sign(RELEASE_DOMAIN, told_message(CONTEXT, SURVIVORS, seeds))
    release = Release("bank", seeds, signature)

    def check(
        release: Release, *, context: bytes = CONTEXT, of: tuple[str, ...] = SURVIVORS
    ) -> None:
        check_release(release, context=context, survivors=of, roster=ROSTER)

    check(release)
    check(replace(release, seeds=dict(reversed(seeds.items()))))
    for wrong in (
        {},
        {"maker": seeds["maker"]},
        {"maker": seeds["broker"], "broker": seeds["maker"]},
        {**seeds, "mill": b"m" * 32},
        {"makerbroker": b"a" * 32},
    ):
        with pytest.raises(ProtocolError, match="the masks that bank tells are not signed"):
            check(replace(release, seeds=wrong))
    with pytest.raises(ProtocolError, match="not signed"):
        check(replace(release, member="mill"))
    with pytest.raises(ProtocolError, match="not signed"):
        check(release, context=b"d" * 32)
    for of in (SURVIVORS[:2], SURVIVORS[::-1]):
        with pytest.raises(ProtocolError, match="not signed"):
            check(release, of=of)
    for stranger in ("spy", "maker", ""):
        with pytest.raises(ProtocolError, match="not part of"):
            check(replace(release, member=stranger))


def test_what_was_signed_as_one_thing_is_never_taken_for_another() -> None:
    told = {"mill": b"t" * 32}
    identity = KEYS["bank"]
    vote = survivors_message(CONTEXT, SURVIVORS)
    message = told_message(CONTEXT, SURVIVORS, told)
    answered = partial(check_answer, context=CONTEXT, survivors=SURVIVORS, roster=ROSTER)
    released = partial(check_release, context=CONTEXT, survivors=SURVIVORS, roster=ROSTER)
    voted = partial(check_vote, context=CONTEXT, survivors=SURVIVORS, roster=ROSTER)
    domains = (ANSWER_DOMAIN, RELEASE_DOMAIN, SURVIVORS_DOMAIN, ACCEPTED_DOMAIN, SEALED_DOMAIN)
    assert len(set(domains)) == len(domains)
    for domain in domains:
        checks = {
            ANSWER_DOMAIN: partial(answered, Answer("bank", told, identity.sign(domain, message))),
            RELEASE_DOMAIN: partial(
                released, Release("bank", told, identity.sign(domain, message))
            ),
            SURVIVORS_DOMAIN: partial(voted, Vote("bank", identity.sign(domain, vote))),
        }
        for due, check in checks.items():
            if due == domain:
                check()
            else:
                with pytest.raises(ProtocolError, match="sign"):
                    check()
    assert message != vote
    assert told_message(CONTEXT, SURVIVORS, {}) != vote


def test_a_commitment_binds_sum_dealer_holder_and_share_and_shows_none() -> None:
    share = b"s" * 33
    commitments = {
        share_commitment(CONTEXT, "bank", "mill", share),
        share_commitment(b"d" * 32, "bank", "mill", share),
        share_commitment(CONTEXT, "mill", "bank", share),
        share_commitment(CONTEXT, "bank", "insurer", share),
        share_commitment(CONTEXT, "bankm", "ill", share),
        share_commitment(CONTEXT, "bank", "mill", b"t" * 33),
    }
    assert len(commitments) == 6
    assert all(len(commitment) == 32 for commitment in commitments)
    words = framed(b"tacit/share/v1", CONTEXT, b"bank", b"mill", share)
    assert hashlib.sha256(words).digest() in commitments
