import copy
import hashlib
import hmac
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import msgspec
import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from support.suites import skip_without, voice_in

from privacy.canonical import framed
from privacy.errors import CohortError, ProtocolError
from privacy.identity import Identity
from privacy.randomness import system_bytes
from privacy.secure_sum.keys import (
    OFFER_BYTES_MAX,
    ExchangeKey,
    KeptKey,
    KeyOffer,
    admit,
    directory_digest,
    offer_key,
    wrap_for,
)
from privacy.secure_sum.sealer import _box_key, mask_key, pair_secret, seed_commitment
from privacy.secure_sum.statements import share_commitment
from privacy.suites import SUITE_IDS, SUITES
from privacy.suites.voice import SEED_BYTES, Voice, require_signed

RUN = b"run-1"
IDENTITIES = {name: Identity.create(system_bytes) for name in ("bank", "insurer", "maker", "mill")}
DIRECTORY = {name: identity.public for name, identity in IDENTITIES.items()}


def _offer(name: str, run: bytes = RUN) -> tuple[ExchangeKey, KeyOffer]:
    return offer_key(IDENTITIES[name], name, run=run, directory=DIRECTORY, entropy=system_bytes)


OFFERS = {name: _offer(name)[1] for name in IDENTITIES}


def test_a_roster_does_not_depend_on_the_order_of_offers() -> None:
    there = admit(OFFERS.values(), run=RUN, directory=DIRECTORY, minimum=2)
    back = admit(reversed(OFFERS.values()), run=RUN, directory=DIRECTORY, minimum=2)
    assert there.members == ("bank", "insurer", "maker", "mill")
    assert there.digest == back.digest
    assert there.exchange_of("mill") == OFFERS["mill"].exchange
    with pytest.raises(ProtocolError, match="not in this run's roster"):
        there.exchange_of("spy")


def test_a_roster_may_be_a_part_of_the_directory_and_says_so() -> None:
    whole = admit(OFFERS.values(), run=RUN, directory=DIRECTORY, minimum=2)
    part = admit(list(OFFERS.values())[:3], run=RUN, directory=DIRECTORY, minimum=2)
    assert part.members == ("bank", "insurer", "maker")
    assert part.digest != whole.digest


@pytest.mark.parametrize(("count", "minimum"), [(0, 0), (1, 0), (1, 1), (2, 3), (4, 5)])
def test_too_few_members_are_refused_by_name(count: int, minimum: int) -> None:
    offers = list(OFFERS.values())[:count]
    with pytest.raises(CohortError, match="mill" if count < 4 else "more members"):
        admit(offers, run=RUN, directory=DIRECTORY, minimum=minimum)


def test_offers_that_do_not_belong_are_refused() -> None:
    spy = Identity.create(system_bytes)
    spied = offer_key(
        spy, "spy", run=RUN, directory={**DIRECTORY, "spy": spy.public}, entropy=system_bytes
    )[1]
    bank = OFFERS["bank"]
    signature = bank.signature[:-1] + bytes([bank.signature[-1] ^ 1])
    twin = offer_key(
        IDENTITIES["mill"], "mill", run=RUN, directory=DIRECTORY, entropy=lambda _: b"k" * 32
    )[1]
    other_twin = offer_key(
        IDENTITIES["bank"], "bank", run=RUN, directory=DIRECTORY, entropy=lambda _: b"k" * 32
    )[1]
    for offers, sentence in [
        ([*OFFERS.values(), spied], "spy is not in the directory"),
        ([*OFFERS.values(), _offer("bank")[1]], "bank offered two keys"),
        ([other_twin, OFFERS["maker"], twin], "bank and mill offered the same key"),
    ]:
        with pytest.raises(ProtocolError, match=sentence):
            admit(offers, run=RUN, directory=DIRECTORY, minimum=2)
    for wrong in (
        _offer("bank", run=b"run-2")[1],
        replace(bank, exchange=_offer("bank")[1].exchange),
        replace(bank, signature=signature),
        replace(OFFERS["mill"], member="bank"),
    ):
        with pytest.raises(ProtocolError, match="not signed"):
            admit([wrong, OFFERS["maker"]], run=RUN, directory=DIRECTORY, minimum=2)


def test_an_offer_made_for_another_directory_is_refused() -> None:
    other = {**DIRECTORY, "mill": Identity.create(system_bytes).public}
    with pytest.raises(ProtocolError, match="not signed"):
        admit([OFFERS["bank"], OFFERS["maker"]], run=RUN, directory=other, minimum=2)


# RFC 7748, section 6.1, and the list in Bernstein 2006, of points that make any secret zero.
SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_key_that_shares_its_secrets_with_all_is_refused(point: bytes) -> None:
    with pytest.raises(ProtocolError, match="share its secrets"):
        admit([replace(OFFERS["bank"], exchange=point)], run=RUN, directory=DIRECTORY, minimum=2)
    with pytest.raises(ProtocolError, match="not usable"):
        _offer("bank")[0].agree(point)


def test_an_offer_has_one_form_on_the_wire() -> None:
    offer = OFFERS["bank"]
    data = offer.to_bytes()
    assert KeyOffer.from_bytes(data) == offer
    for wrong in (
        b"",
        data + b"\0",
        data[:-1],
        data.replace(b"\xa4bank", b"\xd9\x04bank"),
        data.replace(b"bank", b"ban\xff"),
        data.replace(b"bank", b"ban\n"),
        msgspec.msgpack.encode(("bank", b"k" * 31, b"s" * 64)),
        msgspec.msgpack.encode(("bank", b"k" * 32, b"s" * 63)),
        msgspec.msgpack.encode(("bank", b"k" * 2000, b"s" * 64)),
    ):
        with pytest.raises(ProtocolError):
            KeyOffer.from_bytes(wrong)


# --- by each suite ---


@cache
def _offered(suite: str, name: str) -> tuple[ExchangeKey, KeyOffer]:
    return offer_key(
        voice_in(suite, IDENTITIES[name]),
        name,
        run=RUN,
        directory=DIRECTORY,
        entropy=system_bytes,
        suite=SUITES[suite],
    )


@pytest.mark.parametrize("suite", SUITE_IDS)
def test_what_an_offer_and_a_roster_say_is_as_it_is_written(suite: str) -> None:
    """Field by field: one that is left out at both ends could be changed on the way."""
    skip_without(suite)
    offers = {name: _offered(suite, name)[1] for name in ("mill", "bank")}
    named = [] if suite == "intl" else [suite.encode()]
    parts = [part for name, key in DIRECTORY.items() for part in (name.encode(), key)]
    directory = hashlib.sha256(framed(b"tacit/directory/v1", *parts)).digest()
    assert directory_digest(DIRECTORY) == directory
    said = {
        name: [name.encode(), offer.exchange, *([offer.beside] if offer.beside else [])]
        for name, offer in offers.items()
    }
    for name, offer in offers.items():
        assert bool(offer.beside) == SUITES[suite].signs_beside
        require_signed(
            SUITES[suite],
            "key-offer",
            framed(RUN, directory, *said[name], *named),
            offer.signature,
            public=DIRECTORY[name],
            beside=offer.beside,
        )
    roster = admit(offers.values(), run=RUN, directory=DIRECTORY, minimum=2, suite=SUITES[suite])
    head = (b"tacit/roster/v1", RUN, directory, *named)
    whole = framed(*head, *said["bank"], *said["mill"])
    assert roster.digest == hashlib.sha256(whole).digest()
    assert roster.offers == (offers["bank"], offers["mill"])
    assert roster.beside_of("mill") == offers["mill"].beside


@pytest.mark.parametrize("suite", SUITE_IDS)
def test_an_offer_of_each_suite_survives_the_wire(suite: str) -> None:
    skip_without(suite)
    offer = _offered(suite, "bank")[1]
    fields = (offer.member, offer.exchange, offer.signature)
    data = offer.to_bytes()
    assert data == msgspec.msgpack.encode((*fields, offer.beside) if offer.beside else fields)
    assert KeyOffer.from_bytes(data) == offer
    # The key beside is there exactly where the suite has one.
    for beside in ((), (b"",), (b"b" * 31,), (offer.beside + b"b",)):
        if beside != ((offer.beside,) if offer.beside else ()):
            with pytest.raises(ProtocolError, match="a field of bank's key offer"):
                KeyOffer.from_bytes(msgspec.msgpack.encode((*fields, *beside)))


@pytest.mark.parametrize("beside", [(), (b"b" * 32,)])
def test_an_offer_that_cannot_be_read_is_called_an_offer(beside: tuple[bytes, ...]) -> None:
    long = msgspec.msgpack.encode(("bank", b"k" * OFFER_BYTES_MAX, b"s" * 64, *beside))
    with pytest.raises(ProtocolError, match=f"a key offer exceeds {OFFER_BYTES_MAX} bytes"):
        KeyOffer.from_bytes(long)
    with pytest.raises(ProtocolError, match="a key offer is malformed"):
        KeyOffer.from_bytes(long[:90])


@pytest.mark.parametrize("suite", ["gm", "hybrid"])
def test_two_members_that_sign_by_one_key_are_refused_by_name(suite: str) -> None:
    skip_without(suite)
    seed = system_bytes(SEED_BYTES)
    offers = [
        offer_key(
            Voice(IDENTITIES[name], SUITES[suite], seed),
            name,
            run=RUN,
            directory=DIRECTORY,
            entropy=system_bytes,
            suite=SUITES[suite],
        )[1]
        for name in ("mill", "bank")
    ]
    with pytest.raises(ProtocolError, match="mill and bank sign by the same key"):
        admit(offers, run=RUN, directory=DIRECTORY, minimum=2, suite=SUITES[suite])


@pytest.mark.parametrize("suite", SUITE_IDS)
def test_a_key_that_was_kept_goes_on_where_it_was(suite: str) -> None:
    skip_without(suite)
    key, offer = _offered(suite, "bank")
    other = _offered(suite, "mill")[0]
    fresh = key.kept()
    assert (fresh.roster, fresh.sealed) == (b"", ())
    again = ExchangeKey.resumed(fresh, SUITES[suite])
    again.bind(b"roster")
    again.use_for(b"sum")
    again.use_for(b"next sum")
    kept = again.kept()
    assert kept == KeptKey(private=fresh.private, roster=b"roster", sealed=(b"sum", b"next sum"))
    assert repr(kept) == "KeptKey(sealed=2)"
    for bound in (again, ExchangeKey.resumed(kept, SUITES[suite])):
        assert bound.kept() == kept
        assert bound.public == offer.exchange
        assert bound.agree(other.public) == other.agree(offer.exchange)
        bound.bind(b"roster")
        with pytest.raises(ProtocolError, match="one roster"):
            bound.bind(b"other")
        for context in kept.sealed:
            with pytest.raises(ProtocolError, match="already sealed"):
                bound.use_for(context)
    with pytest.raises(ProtocolError):
        ExchangeKey.resumed(msgspec.structs.replace(kept, private=b"short"), SUITES[suite])


def test_the_directory_is_bound_as_a_whole() -> None:
    digest = directory_digest(DIRECTORY)
    assert digest == directory_digest(dict(reversed(DIRECTORY.items())))
    swapped = {**DIRECTORY, "bank": DIRECTORY["mill"], "mill": DIRECTORY["bank"]}
    fewer = {name: key for name, key in DIRECTORY.items() if name != "mill"}
    assert len({digest, directory_digest(swapped), directory_digest(fewer)}) == 3
    for wrong in (
        {**DIRECTORY, "bank": DIRECTORY["mill"]},
        {**DIRECTORY, "bank": b"short"},
        {**DIRECTORY, "": system_bytes(32)},
    ):
        with pytest.raises(ProtocolError):
            directory_digest(wrong)


def test_a_member_offers_under_its_pinned_identity_only() -> None:
    for name in ("insurer", "spy"):
        with pytest.raises(ProtocolError, match="another key"):
            offer_key(IDENTITIES["bank"], name, run=RUN, directory=DIRECTORY, entropy=system_bytes)


def test_an_exchange_key_stays_where_it_is() -> None:
    secret = bytes(range(100, 132))  # one whose public key has no eight signs in common with it
    key, offer = offer_key(
        IDENTITIES["bank"], "bank", run=RUN, directory=DIRECTORY, entropy=lambda _: secret
    )
    assert secret.hex()[:8] not in repr(key)
    assert key.public == offer.exchange
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="kept by its member alone"):
            leave(key)


def test_an_exchange_key_serves_one_roster_and_one_vector_a_sum() -> None:
    key, _ = _offer("bank")
    key.bind(b"roster")
    key.bind(b"roster")
    with pytest.raises(ProtocolError, match="one roster"):
        key.bind(b"other")
    key.bind(b"roster")
    key.use_for(b"sum")
    key.use_for(b"next sum")
    for context in (b"sum", b"next sum", b"sum"):
        with pytest.raises(ProtocolError, match="already sealed"):
            key.use_for(context)


def test_of_many_threads_one_alone_seals_a_sum() -> None:
    key, _ = _offer("bank")

    def seals(_: int) -> bool:
        try:
            key.use_for(b"sum")
        except ProtocolError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(seals, range(200))) == 1


def test_two_members_agree_and_a_third_does_not() -> None:
    bank, mill, spy = (_offer(name)[0] for name in ("bank", "mill", "maker"))
    assert bank.agree(mill.public) == mill.agree(bank.public)
    assert len({bank.agree(mill.public), spy.agree(mill.public), spy.agree(bank.public)}) == 3


def test_what_is_sealed_to_a_key_opens_with_it_and_for_its_purpose_alone() -> None:
    bank, mill = (_offer(name)[0] for name in ("bank", "mill"))
    envelope = wrap_for(bank.public, b"secret", info=b"purpose")
    assert bank.unwrap(envelope, info=b"purpose") == b"secret"
    assert b"secret" not in envelope
    assert wrap_for(bank.public, b"secret", info=b"purpose") != envelope
    wrong = [(bank, envelope, b"other"), (mill, envelope, b"purpose"), (bank, b"", b"purpose")]
    wrong += [(bank, envelope[:cut], b"purpose") for cut in range(len(envelope))]
    for bit in range(8 * len(envelope)):
        changed = bytearray(envelope)
        changed[bit // 8] ^= 1 << bit % 8
        wrong.append((bank, bytes(changed), b"purpose"))
    for key, data, info in wrong:
        with pytest.raises(ProtocolError, match="does not open"):
            key.unwrap(data, info=info)


def test_a_point_written_in_a_second_way_opens_nothing() -> None:
    # RFC 7748 has the top bit of a point ignored; RFC 9180 binds the key to the bytes as sent.
    bank, _ = _offer("bank")
    envelope = bytearray(wrap_for(bank.public, b"secret", info=b"purpose"))
    envelope[31] ^= 0x80
    with pytest.raises(ProtocolError, match="does not open"):
        bank.unwrap(bytes(envelope), info=b"purpose")


def test_what_two_members_derive_is_as_it_is_written() -> None:
    """Against HKDF (RFC 5869) and HMAC themselves: a label or a name left out is another key."""
    made = {name: _offer(name) for name in IDENTITIES}
    roster = admit((offer for _, offer in made.values()), run=RUN, directory=DIRECTORY, minimum=2)
    bank, mill = made["bank"][0], made["mill"][0]
    agreed = bank.agree(roster.exchange_of("mill"))
    label, context = b"tacit/pair-secret/v1", b"c" * 32
    info = framed(label, roster.digest, b"bank", b"mill")

    def derived(secret: bytes) -> bytes:
        return HKDF(SHA256(), 32, salt=RUN, info=info).derive(secret)

    secret = pair_secret(bank, "bank", "mill", roster)
    assert secret == pair_secret(mill, "mill", "bank", roster) == derived(agreed)
    shared = hmac.digest(b"s" * 32, label, "sha256")
    assert pair_secret(bank, "bank", "mill", roster, shared=b"s" * 32, sent=b"t" * 32) == derived(
        framed(agreed, shared, b"t" * 32)
    )
    assert mask_key(secret, context) == hmac.digest(secret, framed(b"mask", context), "sha256")
    box = framed(b"box", context, b"bank")
    assert _box_key(secret, context, "bank", roster.suite) == hmac.digest(secret, box, "sha256")
    assert (
        share_commitment(context, "bank", "mill", b"x" * 33)
        == hashlib.sha256(framed(b"tacit/share/v1", context, b"bank", b"mill", b"x" * 33)).digest()
    )
    assert (
        seed_commitment(context, "bank", b"x" * 32)
        == hashlib.sha256(framed(b"tacit/seed/v1", context, b"bank", b"x" * 32)).digest()
    )
