"""What every suite keeps, and what standards say that its algorithms give."""

import pickle

import pytest

from privacy.errors import ProtocolError, RefusedError
from privacy.identity import Identity
from privacy.randomness import system_bytes
from privacy.suites import SUITE_IDS, SUITES, require_here, sm2_library, suite_of
from privacy.suites.gm import sm4_open, sm4_seal
from privacy.suites.suite import Suite

KEY, NONCE = bytes(range(32)), bytes(12)


@pytest.fixture(params=SUITE_IDS)
def suite(request: pytest.FixtureRequest) -> Suite:
    one = SUITES[request.param]
    if one.missing():
        pytest.skip(one.missing())
    return one


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :]


def test_two_agree_and_a_third_does_not(suite: Suite) -> None:
    one, two, three = (suite.create_exchange(system_bytes) for _ in range(3))
    assert len(one.public) == suite.exchange_bytes
    assert one.agree(two.public) == two.agree(one.public) != three.agree(two.public)
    again = suite.restore_exchange(one.secret_bytes())
    assert again.public == one.public


def test_what_is_wrapped_opens_for_its_holder_and_purpose_alone(suite: Suite) -> None:
    holder, other = (suite.create_exchange(system_bytes) for _ in range(2))
    envelope = suite.wrap(holder.public, b"the secret", b"purpose")
    assert holder.unwrap(envelope, b"purpose") == b"the secret"
    assert b"the secret" not in envelope
    assert suite.wrap(holder.public, b"the secret", b"purpose") != envelope
    for key, data, info in (
        (other, envelope, b"purpose"),
        (holder, envelope, b"other"),
        (holder, envelope[:-1], b"purpose"),
        (holder, envelope + b"\0", b"purpose"),
        (holder, b"", b"purpose"),
        *((holder, flipped(envelope, at), b"purpose") for at in range(0, len(envelope), 13)),
    ):
        with pytest.raises(ProtocolError):
            key.unwrap(data, info)


def test_unusable_keys_are_refused(suite: Suite) -> None:
    size = suite.exchange_bytes
    good = suite.create_exchange(system_bytes)
    suite.require_exchange(good.public)
    small_order = bytes(32) + good.public[32:]
    for wrong in (b"", bytes(size), bytes(size - 1), bytes(size + 1), b"\4" + bytes(64)):
        with pytest.raises(ProtocolError):
            suite.require_exchange(wrong)
    with pytest.raises(ProtocolError):
        suite.require_exchange(small_order)
    with pytest.raises(ProtocolError):
        good.agree(small_order)
    with pytest.raises(ProtocolError):
        suite.restore_exchange(b"short")


def test_a_signature_holds_for_its_words_purpose_and_holder_alone(suite: Suite) -> None:
    signer, other = (suite.create_signer(system_bytes) for _ in range(2))
    signature = signer.sign("purpose", b"words")
    assert len(signer.public) == suite.signer_bytes
    assert len(signature) == suite.signature_bytes
    suite.verify(signer.public, "purpose", b"words", signature)
    for public, domain, words, signed in (
        (other.public, "purpose", b"words", signature),
        (signer.public, "other", b"words", signature),
        (signer.public, "purpose", b"others", signature),
        (signer.public, "purpose", b"words", signature[:-1]),
        (signer.public, "purpose", b"words", signature + b"\0"),
        (signer.public, "purpose", b"words", bytes(suite.signature_bytes)),
        (b"", "purpose", b"words", signature),
        *(
            (signer.public, "purpose", b"words", flipped(signature, at))
            for at in range(0, len(signature), 61)
        ),
    ):
        with pytest.raises(ProtocolError):
            suite.verify(public, domain, words, signed)


def test_a_hybrid_signature_with_one_half_is_none() -> None:
    suite = SUITES["hybrid"]
    one, two = (suite.create_signer(system_bytes) for _ in range(2))
    good, bad = one.sign("d", b"m"), two.sign("d", b"m")
    suite.verify(one.public, "d", b"m", good)
    for mixed in (good[:64] + bad[64:], bad[:64] + good[64:], good[:64], good[64:]):
        with pytest.raises(ProtocolError, match="both halves"):
            suite.verify(one.public, "d", b"m", mixed)


def test_what_is_sealed_opens_unchanged_or_not_at_all(suite: Suite) -> None:
    closed = suite.seal(KEY, NONCE, b"plain words", b"about")
    assert suite.open(KEY, NONCE, closed, b"about") == b"plain words"
    assert b"plain" not in closed
    for key, nonce, data, about in (
        (KEY[::-1], NONCE, closed, b"about"),
        (KEY, b"\1" * 12, closed, b"about"),
        (KEY, NONCE, closed, b"other"),
        (KEY, NONCE, closed[:-1], b"about"),
        (KEY, NONCE, b"", b"about"),
        *((KEY, NONCE, flipped(closed, at), b"about") for at in range(len(closed))),
    ):
        with pytest.raises(ProtocolError):
            suite.open(key, nonce, data, about)


def test_secrets_are_neither_printed_nor_pickled(suite: Suite) -> None:
    key = suite.create_exchange(system_bytes)
    assert key.secret_bytes().hex()[:16] not in repr(key)
    for secret in (key, suite.create_signer(system_bytes)):
        with pytest.raises(TypeError):
            pickle.dumps(secret)


def test_derived_keys_differ_by_all_that_goes_in(suite: Suite) -> None:
    keys = {
        suite.derive(b"a", b"b", b"c"),
        suite.derive(b"x", b"b", b"c"),
        suite.derive(b"a", b"x", b"c"),
        suite.derive(b"a", b"b", b"x"),
        suite.mac(b"a", b"b"),
        suite.mac(b"b", b"a"),
        suite.digest(b"a"),
    }
    assert len(keys) == 7
    assert {len(key) for key in keys} == {32}


def test_no_other_suite_can_be_named() -> None:
    with pytest.raises(ProtocolError, match="choose one of intl, gm, hybrid"):
        suite_of("none")


def test_a_machine_without_sm2_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    sm2_library._library.cache_clear()
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    try:
        with pytest.raises(RefusedError, match="This machine has no SM2"):
            require_here("gm")
        with pytest.raises(ProtocolError, match="This machine has no SM2"):
            SUITES["gm"].create_exchange(system_bytes)
        assert require_here("hybrid").id == "hybrid"
    finally:
        monkeypatch.undo()
        sm2_library._library.cache_clear()


# -- what standards print ---------------------------------------------------------------------


def test_sm2_verifies_the_signature_of_gb_t_32918_5() -> None:
    """GB/T 32918.5 (GM/T 0003.5), annex A.2, on the recommended curve."""
    if sm2_library.missing():
        pytest.skip(sm2_library.missing())
    scalar = bytes.fromhex("3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8")
    public = bytes.fromhex(
        "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
        "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
    )
    signature = bytes.fromhex(
        "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3"
        "b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa"
    )
    assert sm2_library.public_of(scalar) == public
    sm2_library.verify(public, b"message digest", signature)
    with pytest.raises(ProtocolError):
        sm2_library.verify(public, b"message digest", signature, identity=b"another")
    with pytest.raises(ProtocolError):
        sm2_library.verify(public, b"message digesu", signature)


def test_sm3_gives_the_hashes_of_gb_t_32905() -> None:
    """GB/T 32905, annex A."""
    digest = SUITES["gm"].digest
    assert digest(b"abc").hex() == (
        "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    )
    assert digest(b"abcd" * 16).hex() == (
        "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"
    )


def test_sm4_gcm_gives_the_ciphertext_of_rfc_8998() -> None:
    """RFC 8998, appendix A.1."""
    key = bytes.fromhex("0123456789abcdeffedcba9876543210")
    nonce = bytes.fromhex("00001234567800000000abcd")
    about = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    plain = b"".join(bytes((byte,)) * 8 for byte in b"\xaa\xbb\xcc\xdd\xee\xff\xee\xaa")
    closed = bytes.fromhex(
        "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"
        "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
        "83de3541e4c2b58177e065a9bf7b62ec"
    )
    assert sm4_seal(key, nonce, plain, about) == closed
    assert sm4_open(key, nonce, closed, about) == plain


def test_x25519_gives_the_secret_of_rfc_7748() -> None:
    """RFC 7748, section 6.1."""
    bob = SUITES["intl"].restore_exchange(
        bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    )
    alice = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    assert bob.public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert bob.agree(alice).hex() == (
        "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    )


def test_ed25519_gives_the_key_and_signature_of_rfc_8032() -> None:
    """RFC 8032, section 7.1, test 1."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    identity = Identity.create(lambda _: seed)
    assert identity.public.hex() == (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )
    assert identity.sign_note(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bac"
        "c61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
