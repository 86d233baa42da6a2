"""What a run of gm and hybrid makes of one half of a signature: taken away, or forged."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.direct import Direct
from support.suites import run_of, skip_without, voice_in

from clients.signing_keys import SigningKeys
from privacy.errors import ProtocolError, RefusedError, TacitError
from privacy.identity import SIGNATURE_BYTES, Identity
from privacy.ledger.sqlite import SqliteLedger
from privacy.messages import (
    Accepted,
    InitialModelRequest,
    Joined,
    KeyMade,
    Parcel,
    Reply,
    Request,
    Revealed,
    RevealRequest,
    Sealed,
    SumNotice,
    Voted,
    pack,
    unpack_reply,
    unpack_request,
)
from privacy.randomness import system_bytes
from privacy.secure_sum import SealedVector
from privacy.secure_sum.keys import KeyOffer, Roster, admit, offer_key
from privacy.suites import SUITES
from privacy.suites.voice import (
    SEED_BYTES,
    Voice,
    identity_half,
    require_signed,
    signature_bytes,
    voice_of,
)

LONG = ("gm", "hybrid")
Half = Callable[[bytes], bytes]


def stripped(signature: bytes) -> bytes:
    """As if the run were of `intl`."""
    return identity_half(signature)


def forged(signature: bytes) -> bytes:
    """With an Ed25519 half that holds, and of the other nothing but its length."""
    return identity_half(signature) + bytes(len(signature) - SIGNATURE_BYTES)


def header_with(half: Half, sealed: Sealed, payload: bytes) -> Sealed:
    vector = SealedVector.from_wire(sealed.header, payload)
    header = replace(vector, signature=half(vector.signature)).header()
    return msgspec.structs.replace(sealed, header=header)


def keys_with(half: Half, made: KeyMade) -> KeyMade:
    keys = {
        name: msgspec.structs.replace(one, signature=half(one.signature))
        for name, one in made.keys.items()
    }
    return msgspec.structs.replace(made, keys=keys)


def reply_with(half: Half, reply: Reply, payload: bytes, what: str) -> Reply:
    if what == "vector":
        return header_with(half, reply, payload) if isinstance(reply, Sealed) else reply
    if what == "group key":
        return keys_with(half, reply) if isinstance(reply, KeyMade) else reply
    kind = {"head": "Sealed", "vote": "Voted", "shares": "Revealed", "history": "Accepted"}[what]
    if not isinstance(reply, Sealed | Voted | Revealed | Accepted) or type(reply).__name__ != kind:
        return reply
    return msgspec.structs.replace(reply, signature=half(reply.signature))


@pytest.mark.parametrize("suite", LONG)
@pytest.mark.parametrize("half", [stripped, forged])
@pytest.mark.parametrize("what", ["group key", "vector", "head", "vote", "shares", "history"])
def test_what_a_member_says_needs_both_halves(
    tmp_path: Path, suite: str, half: Half, what: str
) -> None:
    skip_without(suite)
    direct = run_of(tmp_path, suite)
    changed = 0

    def tamper(_: str, __: Request, parcel: Parcel) -> Parcel:
        nonlocal changed
        reply, payload = unpack_reply(parcel)
        other = reply_with(half, reply, payload, what)
        changed += other is not reply
        return pack(other, payload)

    direct.transport.tamper_reply = tamper
    with pytest.raises(TacitError):
        direct.run()
    assert changed
    assert "sum.accepted" not in [kind for kind, _ in direct.notes.entries]


def asked_with(half: Half, request: Request) -> Request:
    def all_of(signatures: dict[str, bytes]) -> dict[str, bytes]:
        return {name: half(one) for name, one in signatures.items()}

    if isinstance(request, InitialModelRequest):
        return msgspec.structs.replace(request, accepted=all_of(request.accepted))
    if isinstance(request, RevealRequest):
        return msgspec.structs.replace(request, votes=all_of(request.votes))
    if isinstance(request, SumNotice):
        parts = [msgspec.structs.replace(one, votes=all_of(one.votes)) for one in request.parts]
        return msgspec.structs.replace(request, parts=tuple(parts))
    return request


@pytest.mark.parametrize("suite", LONG)
@pytest.mark.parametrize("half", [stripped, forged])
@pytest.mark.parametrize("kind", [RevealRequest, SumNotice, InitialModelRequest])
def test_a_coordinator_cannot_show_members_less_than_both_halves(
    tmp_path: Path, suite: str, half: Half, kind: type
) -> None:
    skip_without(suite)
    direct = run_of(tmp_path, suite)

    def tamper(_: str, __: Request, parcel: Parcel) -> Parcel:
        request, payload = unpack_request(parcel)
        other = asked_with(half, request) if isinstance(request, kind) else request
        return pack(other, payload)

    direct.transport.tamper_request = tamper
    with pytest.raises(TacitError, match=r"did not sign these survivors|did not accept the sums"):
        direct.run()
    assert "model.agreed" not in [kind for kind, _ in direct.notes.entries]


@pytest.mark.parametrize("suite", LONG)
def test_an_offer_without_the_suites_key_ends_the_run(tmp_path: Path, suite: str) -> None:
    """Who forges Ed25519 signatures joins as if it knew no suites."""
    skip_without(suite)
    direct = run_of(tmp_path, suite)

    def tamper(member: str, _: Request, parcel: Parcel) -> Parcel:
        reply, payload = unpack_reply(parcel)
        if isinstance(reply, Joined) and member == "south":
            offer = KeyOffer.from_bytes(reply.offer)
            weaker = msgspec.msgpack.encode((offer.member, offer.exchange, offer.signature[:64]))
            return pack(msgspec.structs.replace(reply, offer=weaker), payload)
        return parcel

    direct.transport.tamper_reply = tamper
    with pytest.raises(TacitError):
        direct.run()
    assert "keys.agreed" not in [kind for kind, _ in direct.notes.entries]


def offered_by_a_forger(direct: Direct, member: str) -> Callable[[str, Request, Parcel], Parcel]:
    """Put a key of one's own into a member's offer, with an Ed25519 signature that holds."""
    manifest = direct.manifest
    node = next(one for one in direct.nodes.values() if one.member == member)
    voice = voice_in(manifest.suite, node._settings.identity)

    def tamper(name: str, _: Request, parcel: Parcel) -> Parcel:
        reply, payload = unpack_reply(parcel)
        if not isinstance(reply, Joined) or name != member:
            return parcel
        offer = offer_key(
            voice,
            member,
            run=manifest.digest(),
            directory=manifest.directory_keys(),
            entropy=system_bytes,
            suite=SUITES[manifest.suite],
        )[1]
        return pack(msgspec.structs.replace(reply, offer=offer.to_bytes()), payload)

    return tamper


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("suite", LONG)
def test_whoever_met_a_member_before_knows_a_forger(
    tmp_path: Path, suite: str, restarted: bool
) -> None:
    skip_without(suite)
    first = run_of(tmp_path, suite)
    first.run()
    second = first.again("second", restarted=restarted)
    second.transport.tamper_reply = offered_by_a_forger(second, "south")
    with pytest.raises(RefusedError, match="south signs by another key of the suite"):
        second.run()
    assert "keys.agreed" not in [
        k for k, body in second.notes.entries if body.get("run") == "second"
    ]
    third = second.again("third")
    third.run()


@pytest.mark.parametrize("suite", LONG)
def test_what_is_signed_beside_is_no_part_of_the_ledger(tmp_path: Path, suite: str) -> None:
    skip_without(suite)
    direct = run_of(tmp_path, suite)
    direct.run()
    told = [reply for _, _, parcel in direct.transport.seen for reply in [unpack_reply(parcel)[0]]]
    signed = [
        one.signature for one in told if isinstance(one, Sealed | Voted | Revealed | Accepted)
    ]
    assert {len(one) for one in signed} == {signature_bytes(SUITES[suite])}
    assert direct.verdict().signatures > 0


@pytest.mark.parametrize("name", SUITES)
def test_a_voice_signs_by_both_and_each_half_is_needed(name: str) -> None:
    skip_without(name)
    suite = SUITES[name]
    one, other = (voice_in(name, Identity.create(system_bytes)) for _ in range(2))
    good, bad = (voice.sign("purpose", b"words") for voice in (one, other))

    def check(signature: bytes, domain: str = "purpose", words: bytes = b"words") -> None:
        keys = {"public": one.public, "beside": one.beside}
        require_signed(suite, domain, words, signature, **keys)

    check(good)
    wrong = [bad, bad[:64] + good[64:], good[:63], good + b"\0", b""]
    wrong += [good[:64] + bad[64:], good[:64]] if suite.signs_beside else []
    for signature in {*wrong} - {good}:
        with pytest.raises(ProtocolError):
            check(signature)
    for domain, words in (("other", b"words"), ("purpose", b"other")):
        with pytest.raises(ProtocolError):
            check(good, domain, words)
    with pytest.raises(TypeError):
        pickle.dumps(one)


def test_a_voice_is_of_one_suite() -> None:
    with pytest.raises(ProtocolError, match="another seed"):
        voice_of(Identity.create(system_bytes), SUITES["hybrid"])
    with pytest.raises(ProtocolError, match="its run is of hybrid"):
        voice_of(voice_in("intl", Identity.create(system_bytes)), SUITES["hybrid"])


def test_two_members_cannot_sign_by_one_key() -> None:
    seed, suite = system_bytes(SEED_BYTES), SUITES["hybrid"]
    voices = {name: Voice(Identity.create(system_bytes), suite, seed) for name in ("ash", "birch")}
    directory = {name: one.public for name, one in voices.items()}
    offers = [
        offer_key(one, name, run=b"r", directory=directory, entropy=system_bytes, suite=suite)[1]
        for name, one in voices.items()
    ]
    with pytest.raises(ProtocolError, match="ash and birch sign by the same key"):
        admit(offers, run=b"r", directory=directory, minimum=2, suite=suite)


def roster_of(*voices: Voice) -> Roster:
    directory = {f"m{place}": voice.public for place, voice in enumerate(voices)}
    how: dict[str, Any] = {"run": b"r", "directory": directory, "suite": voices[0].suite}
    offers = [
        offer_key(voice, name, entropy=system_bytes, **how)[1]
        for name, voice in zip(directory, voices, strict=True)
    ]
    return admit(offers, minimum=2, **how)


def test_a_nodes_signing_key_stays_the_same_and_its_own(tmp_path: Path) -> None:
    identity, ledger = Identity.create(system_bytes), SqliteLedger(tmp_path / "ledger.db")

    def keys(whose: Identity = identity) -> SigningKeys:
        return SigningKeys(tmp_path, whose, ledger, system_bytes)

    first = keys().voice("hybrid")
    assert keys().voice("hybrid").beside == first.beside
    assert keys(Identity.create(system_bytes)).voice("hybrid").beside != first.beside
    assert keys().voice("intl").beside == b""
    files = sorted(path.name for path in tmp_path.glob("*signing*"))
    assert len(files) == 2
    path = tmp_path / f"signing-hybrid-{identity.public.hex()[:16]}"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(RefusedError, match="chmod 600"):
        keys().voice("hybrid")
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(RefusedError, match="is damaged"):
        keys().voice("hybrid")


def test_one_identity_states_one_key_of_a_suite(tmp_path: Path) -> None:
    keys = SigningKeys(
        tmp_path, Identity.create(system_bytes), SqliteLedger(tmp_path / "l.db"), system_bytes
    )
    one, two = (Identity.create(system_bytes) for _ in range(2))
    met = roster_of(voice_in("hybrid", one), voice_in("hybrid", two))
    keys.require_known(met)
    keys.require_known(met)
    renewed = roster_of(*(voice_in("hybrid", Identity.create(system_bytes)) for _ in range(2)))
    keys.require_known(renewed)
    with pytest.raises(ProtocolError, match="m0 signs by another key of the suite hybrid"):
        keys.require_known(roster_of(voice_in("hybrid", one), voice_in("hybrid", two)))
    keys.require_known(roster_of(voice_in("intl", one), voice_in("intl", two)))
