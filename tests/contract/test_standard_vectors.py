"""What standards print of ML-KEM-768, ML-DSA-44 and HPKE, and what the library gives.

HPKE is written down here once more, from RFC 9180, and held against that RFC's own vector; what it
seals and opens is then held against what the suite seals and opens, whose API has no associated
data and so cannot be given the vector itself.
"""

import hashlib
import hmac
from base64 import b64decode

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from support.suites import voice_in

from privacy.identity import Identity
from privacy.randomness import system_bytes
from privacy.suites import SUITES
from privacy.suites.voice import SEED_BYTES, Voice

HPKE_VERSION = b"HPKE-v1"
X25519_HKDF_SHA256, X_WING = b"\x00\x20", b"\x64\x7a"
HKDF_SHA256 = b"\x00\x01"
AES_128_GCM, AES_256_GCM = b"\x00\x01", b"\x00\x02"
KEY_BYTES = {AES_128_GCM: 16, AES_256_GCM: 32}
ML_KEM_CIPHERTEXT = b64decode(
    "aW7xaZ1awqqaASpkxgxsIU3O3sdf+H+zpYUARCAqeQv9qm+1F6jHFKZoWx7qisAdKOLx5zUOebE3GyqrmHI/QKwa24CX"
    "URGKU+tW8Tz5+t9pjHoq4Sd0a7Zh9nctgid3fCLTiOKg9jX5eRMZEDPTxIep0oIjSL4ZcQ5fR9K3QMBE853a6Dhpn2Kh"
    "BW28QzZARtNqly9xEMiOkAyjfa7GQDmwyWMZzvjqAdWXTF2ik5IiK4OOfD0ZiSqnDzojK2T5Sucv8gMpQacN1x4uJMmH"
    "/kwvUCf9Q1YYKI9Q6NJI++AJ2Tr4sN6kUUFPLLrO2lGzp6q/8frtJCk+DV1X2omGhjDhsJprJ6A0vV2kDWIuC5UH5k2B"
    "ZpoQdLX2dyip+ttgC8V9VdnDoP43b979MqMLGTExUhC9hiL/CyrZv20AdJlC4HqQVy0EaNX1qVqmwziy5eUXXdj0vRGO"
    "iEm+gp4/sIYoEBozsSlbHH7j6RWNS+rqIDoiwbl69q1/wATw+YlaUdoMJqe0ZzTEGK/pjduq2j//zUZCB1vSPgRBVM/h"
    "mgtqBeJOg8VQV6UNJPlWYXU038+Z8TS7xTmx58nD0A9Z3kNR6ez77D9mN07Opqty0P0A4PkUYdsKdPxatjswosr0Vf6j"
    "OYeLpmWu7uC1LUJ6TkzK2FJjhpUfWx1hd4pW36JD0/YYaqT4/ZUxJ1mbwU2j6OkYqqW0GCqb3ktbsYcaly71Jrn0QXNz"
    "ABhC8rPq4f4NRpMiC4Q78mXFmmR5MJRr3XKqVKGvGNqjhkMn2RuAYRwwvB4WqJ9x3cUc9vzkoXkjnQ8hoLzojIZJnvnK"
    "EhkDm+CHZkw2UUmzaDuU/LBtyFjeovW7ftsy/cCc2Rx0v+KWCLSNDbKQYQmWcfbPjfu6Kx20VuyhyGV95emC8R2pwxc6"
    "Yzun7ABmpxe8bq3eJC8+A83ascQt7zX5zC1vovQiK/oJbTId1QTWyN1ubRiTcVEzC+ib8qIYdSRC+KUN8wdUY0dtseCl"
    "J1/XlY97ZQoRo224Cc7nB0vHY9A1JFw8baf8yTQlF14Ms/dAcAD7bAt6dFCtoowFw0+IOvLNCWWCbOxxQ12H6M0ZITfj"
    "q65AUNaL4dl/o68Ico2qS6Bap/Ybin9ScB1slpsl/S/RpopbIJijSCczN3guxSFD4fUeWlEukfJGnaE26Nj5avfMb+If"
    "kpIDvNEt5oJruhnP5aabwsPT9QOhTKtZBZHNE0s3X+qudsdkyV2uZkRVHG1bziZl+cHdTDNpQQDYj8xOMoLrjBdmkXlW"
    "GZJz8PgMZ9w+lEpEmrLtnVhVTGLuQ73C0UCNeE8IwMcdYXEXbKbJEmJsResfoSkndIhac71hSugzeXochK/uGn58EF7K"
    "gnOzBMvESsqwMFq6Tva6Zxc50fgNCcdkCs6pgmVbMpTuA3EBmxNFWb45HCnZkPgvih3UpxU="
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- ML-KEM-768 --------------------------------------------------------------------------------


def test_ml_kem_768_gives_the_key_of_rfc_9935() -> None:
    """RFC 9935, appendix C: the public key of the seed 00 01 .. 3f, by its hash."""
    key = MLKEM768PrivateKey.from_seed_bytes(bytes(range(64)))
    public = key.public_key().public_bytes_raw()
    assert public[:16].hex() == "298aa10d423c8dda069d02bc59e6cdf0"
    assert public[-12:].hex() == "e2cb32da8bc342fa4dea0578"
    assert sha256(public) == "0b7934c83125c788995e2ba6bd761e33046b3e40571be53e023309a29f398cc9"
    whole = SUITES["hybrid"].restore_exchange(bytes(range(1, 33)) + bytes(range(64)))
    assert whole.public[32:] == public


def test_ml_kem_768_opens_what_c2sp_prints() -> None:
    """C2SP/CCTV, ML-KEM-768, the unlucky sample: d, z, ek (by its hash), c and K of FIPS 203."""
    seed = bytes.fromhex(
        "82c4a361586b9715c2375a45fb85c32d04be7fe6e26acd820ec5d4080093afe1"
        "8476013560151d986dc7834dcb57c75f845f8d7ee71558d0955f3f4feb723cf2"
    )
    key = MLKEM768PrivateKey.from_seed_bytes(seed)
    public = key.public_key().public_bytes_raw()
    assert public[:20].hex() == "ad568015b87690ebbe1fb438ee8a22b9ac4379a1"
    assert public[-20:].hex() == "cf1893c6441a1b78f1bdd9b13626b9f21b7c6161"
    assert key.decapsulate(ML_KEM_CIPHERTEXT).hex() == (
        "4f7cc64c040fc4e335a539691f4638caf8b1bf5da6455754afe699e41813801b"
    )
    # FIPS 203, algorithm 18, lines 7 and 10: what was changed opens to a secret of z and itself
    changed = bytes((ML_KEM_CIPHERTEXT[0] ^ 1,)) + ML_KEM_CIPHERTEXT[1:]
    for wrong in (changed, bytes(len(changed))):
        rejected = hashlib.shake_256(seed[32:] + wrong).digest(32)
        assert key.decapsulate(wrong) == rejected


# -- ML-DSA-44 ---------------------------------------------------------------------------------


def test_ml_dsa_44_gives_the_key_of_rfc_9881() -> None:
    """RFC 9881, appendix C: the public key of the seed 00 01 .. 1f, by its hash."""
    public = MLDSA44PrivateKey.from_seed_bytes(bytes(range(32))).public_key().public_bytes_raw()
    assert public[:12].hex() == "d7b2b47254aae0db45e7930d"
    assert public[-12:].hex() == "db9784cf05c830b3242c8312"
    assert sha256(public) == "9f107644c1084526af3bc8098680b05499a2325a644e388fb4f970e058d19d46"


def test_a_voice_of_hybrid_signs_by_the_key_of_rfc_9881() -> None:
    """The second 32 bytes of a seed are ML-DSA-44's own (FIPS 204, algorithm 6)."""
    assert SEED_BYTES == 64
    seed = bytes(32) + bytes(range(32))
    voice = Voice(Identity.create(system_bytes), SUITES["hybrid"], seed)
    again = Voice(Identity.create(system_bytes), SUITES["hybrid"], seed)
    assert sha256(voice.beside[32:]) == (
        "9f107644c1084526af3bc8098680b05499a2325a644e388fb4f970e058d19d46"
    )
    assert voice.beside == again.beside
    assert voice_in("hybrid", Identity.create(system_bytes)).beside != voice.beside


# -- HPKE --------------------------------------------------------------------------------------


def extracted(salt: bytes, suite: bytes, label: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), HPKE_VERSION + suite + label + secret, "sha256")


def expanded(key: bytes, suite: bytes, label: bytes, info: bytes, count: int) -> bytes:
    said = count.to_bytes(2, "big") + HPKE_VERSION + suite + label + info
    found, block = b"", b""
    while len(found) < count:
        block = hmac.digest(key, block + said + bytes((len(found) // 32 + 1,)), "sha256")
        found += block
    return found[:count]


def shared(agreed: bytes, fresh: bytes, public: bytes) -> bytes:
    """RFC 9180, section 4.1: ExtractAndExpand of DHKEM(X25519, HKDF-SHA256)."""
    suite = b"KEM" + X25519_HKDF_SHA256
    key = extracted(b"", suite, b"eae_prk", agreed)
    return expanded(key, suite, b"shared_secret", fresh + public, 32)


def scheduled(
    secret: bytes, info: bytes, cipher: bytes, *, kem: bytes = X25519_HKDF_SHA256
) -> tuple[bytes, bytes]:
    """RFC 9180, section 5.1, base mode: key and nonce of the first message."""
    suite = b"HPKE" + kem + HKDF_SHA256 + cipher
    context = b"\0" + extracted(b"", suite, b"psk_id_hash", b"")
    context += extracted(b"", suite, b"info_hash", info)
    main = extracted(secret, suite, b"secret", b"")
    key = expanded(main, suite, b"key", context, KEY_BYTES[cipher])
    return key, expanded(main, suite, b"base_nonce", context, 12)


def test_hpke_as_it_is_written_here_gives_what_rfc_9180_prints() -> None:
    """RFC 9180, appendix A.1.1, sequence number 0."""
    mine = X25519PrivateKey.from_private_bytes(
        bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
    )
    fresh = bytes.fromhex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431")
    public = mine.public_key().public_bytes_raw()
    assert public.hex() == "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d"
    secret = shared(mine.exchange(X25519PublicKey.from_public_bytes(fresh)), fresh, public)
    assert secret.hex() == "fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc"
    key, nonce = scheduled(secret, b"Ode on a Grecian Urn", AES_128_GCM)
    assert (key.hex(), nonce.hex()) == (
        "4531685d41d65f03dc48f6b8302c05b0",
        "56d890e5accaaf011cff4b7d",
    )
    closed = bytes.fromhex(
        "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"
    )
    opened = AESGCM(key).decrypt(nonce, closed, b"Count-0")
    assert opened == b"Beauty is truth, truth beauty"


def test_what_intl_wraps_is_hpke_as_it_is_written_here() -> None:
    suite, info = SUITES["intl"], b"purpose"
    mine = suite.create_exchange(system_bytes)
    envelope = suite.wrap(mine.public, b"a secret", info)
    fresh, closed = envelope[:32], envelope[32:]
    key, nonce = scheduled(shared(mine.agree(fresh), fresh, mine.public), info, AES_256_GCM)
    assert AESGCM(key).decrypt(nonce, closed, b"") == b"a secret"
    other, _ = scheduled(shared(mine.agree(fresh), fresh, mine.public), b"other", AES_256_GCM)
    with pytest.raises(InvalidTag):
        AESGCM(other).decrypt(nonce, closed, b"")
    once = suite.create_exchange(system_bytes)
    key, nonce = scheduled(
        shared(once.agree(mine.public), once.public, mine.public), info, AES_256_GCM
    )
    sealed = once.public + AESGCM(key).encrypt(nonce, b"another", b"")
    assert mine.unwrap(sealed, info) == b"another"


def test_what_hybrid_wraps_is_hpke_over_ml_kem_768_and_x25519() -> None:
    """X-Wing (draft-connolly-cfrg-xwing-kem): SHA3-256 of both secrets, one side, and a label."""
    suite, info = SUITES["hybrid"], b"purpose"
    mine = suite.create_exchange(system_bytes)
    classic, lattice = mine.secret_bytes()[:32], mine.secret_bytes()[32:]
    envelope = suite.wrap(mine.public, b"a secret", info)
    of_lattice, fresh, closed = envelope[:1088], envelope[1088:1120], envelope[1120:]
    both = (
        MLKEM768PrivateKey.from_seed_bytes(lattice).decapsulate(of_lattice),
        SUITES["intl"].restore_exchange(classic).agree(fresh),
    )

    def opened(one: bytes, other: bytes) -> bytes:
        said = one + other + fresh + mine.public[:32] + rb"\.//^" + b"\\"
        key, nonce = scheduled(hashlib.sha3_256(said).digest(), info, AES_256_GCM, kem=X_WING)
        return AESGCM(key).decrypt(nonce, closed, b"")

    assert opened(*both) == b"a secret"
    for half in ((bytes(32), both[1]), (both[0], bytes(32))):
        with pytest.raises(InvalidTag):
            opened(*half)
