import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy.canonical import framed
from privacy.errors import ProtocolError
from privacy.identity import Identity
from privacy.randomness import system_bytes
from privacy.secure_sum.group_key import (
    Envelope,
    GroupKey,
    _info,
    _message,
    _Secrets,
    make_group_key,
    maker_of,
    open_group_key,
    resume_group_key,
)
from privacy.secure_sum.keys import ExchangeKey, Roster, admit, offer_key, wrap_for
from privacy.secure_sum.schemes import SCHEMES, Scheme, scheme_of

NAMES = ("bank", "insurer", "maker", "mill")
IDENTITIES = {name: Identity.create(system_bytes) for name in NAMES}
DIRECTORY = {name: identity.public for name, identity in IDENTITIES.items()}
OPENS = b"o" * 32


@dataclass(frozen=True)
class Run:
    scheme: Scheme
    roster: Roster
    exchange: Mapping[str, ExchangeKey]
    key: GroupKey
    envelopes: Mapping[str, Envelope]

    @property
    def maker(self) -> str:
        return maker_of(self.roster)

    @property
    def peer(self) -> str:
        return next(iter(self.envelopes))

    def open(
        self, envelope: Envelope, *, member: str = "", scheme: Scheme | None = None
    ) -> GroupKey:
        member = member or self.peer
        return open_group_key(
            member, self.exchange[member], self.roster, scheme or self.scheme, envelope
        )

    def signed(self, envelope: Envelope, *, by: str = "") -> Envelope:
        """As the maker, or somebody else, signs what is in it."""
        message = _message(self.roster, self.peer, envelope)
        return replace(envelope, signature=IDENTITIES[by or self.maker].sign("group-key", message))

    def sealed(self, plain: bytes, **changes: bytes) -> Envelope:
        """An envelope of the maker with another content."""
        secret = wrap_for(
            self.roster.exchange_of(self.peer),
            plain,
            info=_info(self.roster, self.scheme, self.peer),
        )
        return self.signed(replace(self.envelopes[self.peer], secret=secret, **changes))

    def holding(self, tag: bytes, carrier: bytes) -> Envelope:
        """An envelope of the maker with these two secrets."""
        hidden = AESGCM(OPENS).encrypt(bytes(12), carrier, self.key.fingerprint)
        return self.sealed(msgspec.msgpack.encode(_Secrets(tag, OPENS)), carrier=hidden)


def run_of(name: str, run: bytes = b"run-1") -> Run:
    made = {
        member: offer_key(identity, member, run=run, directory=DIRECTORY, entropy=system_bytes)
        for member, identity in IDENTITIES.items()
    }
    offers = (offer for _, offer in made.values())
    roster = admit(offers, run=run, directory=DIRECTORY, minimum=2)
    scheme = scheme_of(name)
    maker = maker_of(roster)
    key, envelopes = make_group_key(maker, IDENTITIES[maker], roster, scheme, system_bytes)
    return Run(scheme, roster, {member: k for member, (k, _) in made.items()}, key, envelopes)


@pytest.fixture(name="run", params=SCHEMES)
def _run(request: pytest.FixtureRequest) -> Run:
    return run_of(str(request.param))


def test_every_member_opens_the_same_key(run: Run) -> None:
    assert set(run.envelopes) == set(NAMES) - {run.maker}
    for member, envelope in run.envelopes.items():
        opened = run.open(envelope, member=member)
        assert opened.fingerprint == run.key.fingerprint == envelope.fingerprint
        assert opened.tag_secret == run.key.tag_secret
        assert opened.carrier.secret == run.key.carrier.secret
        assert opened.carrier.public == run.key.carrier.public == envelope.public
        assert opened.scheme == run.scheme.name
    assert len(run.key.tag_secret) == 32
    assert bool(run.key.carrier.secret) == run.scheme.encrypted


def test_what_one_member_seals_another_opens(run: Run) -> None:
    words = np.array([1, 2, 3], np.uint64)
    there, back = run.key.carrier.wrap, run.open(run.envelopes[run.peer]).carrier.wrap
    adder = run.scheme.adder(run.key.carrier.public, 4)
    adder.add(there.close(there.prepare(words, bits=42)))
    adder.add(back.close(back.prepare(words, bits=42)))
    assert back.open(adder.payload(), count=3, bits=42).tolist() == [2, 4, 6]


def test_who_makes_the_key_follows_from_the_roster() -> None:
    makers = {run_of("masked", f"run {index}".encode()).maker for index in range(100)}
    assert makers == set(NAMES)  # one of four is missed with a chance of 4 (3/4)^100 = 1.3e-12
    run = run_of("masked")
    for member in set(NAMES) - {run.maker}:
        with pytest.raises(ProtocolError, match=f"{run.maker} makes this run's key, not {member}"):
            make_group_key(member, IDENTITIES[member], run.roster, run.scheme, system_bytes)


def test_an_envelope_of_the_wrong_maker_is_refused(run: Run) -> None:
    envelope = run.envelopes[run.peer]
    for other in set(NAMES) - {run.maker}:
        with pytest.raises(ProtocolError, match=f"not signed by {run.maker}, whose turn it is"):
            run.open(run.signed(envelope, by=other))


def test_an_envelope_for_another_member_is_refused(run: Run) -> None:
    one, other, *_ = run.envelopes
    with pytest.raises(ProtocolError, match="not signed"):
        run.open(run.envelopes[other], member=one)
    with pytest.raises(ProtocolError, match="does not open"):
        run.open(run.signed(replace(run.envelopes[one], secret=run.envelopes[other].secret)))


def flipped(data: bytes, place: int = -1) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda envelope: replace(envelope, fingerprint=flipped(envelope.fingerprint)),
        lambda envelope: replace(envelope, public=envelope.public + b"\0"),
        lambda envelope: replace(envelope, secret=flipped(envelope.secret)),
        lambda envelope: replace(envelope, secret=flipped(envelope.secret, 0)),
        lambda envelope: replace(envelope, secret=envelope.secret[:-1]),
        lambda envelope: replace(envelope, signature=flipped(envelope.signature)),
        lambda envelope: replace(envelope, signature=b""),
    ],
)
def test_a_changed_envelope_is_refused(run: Run, tamper: Callable[[Envelope], Envelope]) -> None:
    with pytest.raises(ProtocolError, match="not signed"):
        run.open(tamper(run.envelopes[run.peer]))


def test_a_maker_that_seals_something_else_than_it_tells_is_refused(run: Run) -> None:
    envelope = run.envelopes[run.peer]
    other = run_of(run.scheme.name)
    tag, carrier = run.key.tag_secret, run.key.carrier.secret
    honest = msgspec.msgpack.encode(_Secrets(tag, OPENS))
    assert run.open(run.holding(tag, carrier)).fingerprint == run.key.fingerprint
    cases: list[tuple[Envelope, str]] = [
        (run.signed(replace(envelope, fingerprint=bytes(32))), "changed on its way"),
        (run.signed(replace(envelope, carrier=b"")), "changed on its way"),
        (run.signed(replace(envelope, carrier=flipped(envelope.carrier))), "changed on its way"),
        (run.signed(replace(envelope, public=envelope.public + b"x")), "sealed another key"),
        (run.holding(bytes(32), carrier), "sealed another key"),
        (run.holding(tag[:31], carrier), "wrong length"),
        (run.holding(b"", carrier), "wrong length"),
        (run.sealed(msgspec.msgpack.encode(_Secrets(tag, b"o"))), "wrong length"),
        (run.sealed(honest + b"\0"), "malformed"),
        (run.sealed(b""), "malformed"),
        (run.sealed(msgspec.msgpack.encode([tag])), "malformed"),
        (run.holding(tag, b"x" * 40), r"key"),
        (run.sealed(b"x" * (1 << 21)), "exceeds"),
        (run.signed(replace(envelope, secret=b"")), "does not open"),
        (run.signed(replace(envelope, secret=b"x" * 5)), "does not open"),
        (run.signed(replace(envelope, secret=flipped(envelope.secret))), "does not open"),
    ]
    if run.scheme.encrypted:
        cases.append((run.holding(tag, other.key.carrier.secret), "sealed another key"))
    for wrong, sentence in cases:
        with pytest.raises(ProtocolError, match=sentence):
            run.open(wrong)


def test_an_envelope_of_another_run_is_refused(run: Run) -> None:
    later = run_of(run.scheme.name, b"run-2")
    shared = next(iter(set(run.envelopes) & set(later.envelopes)))
    with pytest.raises(ProtocolError, match="not signed"):
        later.open(run.envelopes[shared], member=shared)


def test_an_envelope_of_another_scheme_is_refused(run: Run) -> None:
    for other in SCHEMES.values():
        if other.name != run.scheme.name:
            with pytest.raises(ProtocolError, match="does not open"):
                run.open(run.envelopes[run.peer], scheme=other)


def test_the_fingerprint_tells_runs_schemes_and_secrets_apart() -> None:
    fingerprints = {
        run_of(name, run).key.fingerprint
        for name in SCHEMES
        for run in (b"run-1", b"run-1", b"run-2")
    }
    assert len(fingerprints) == 3 * len(SCHEMES)


def test_a_key_that_was_kept_is_gone_on_with_only_as_it_was(run: Run) -> None:
    key = run.key
    kept = {"tag_secret": key.tag_secret, "carrier": key.carrier.secret}
    resumed = resume_group_key(run.roster, run.scheme, **kept, fingerprint=key.fingerprint)
    assert (resumed.scheme, resumed.tag_secret) == (key.scheme, key.tag_secret)
    assert resumed.carrier.secret == key.carrier.secret
    assert resumed.carrier.public == key.carrier.public
    assert resumed.fingerprint == key.fingerprint
    later = run_of(run.scheme.name, b"run-2")
    for roster, wrong in (
        (run.roster, {"fingerprint": bytes(32)}),
        (run.roster, {"tag_secret": bytes(32)}),
        (later.roster, {}),
    ):
        known = {**kept, "fingerprint": key.fingerprint, **wrong}
        with pytest.raises(ProtocolError, match="not the one of its run"):
            resume_group_key(roster, run.scheme, **known)


def test_fingerprint_purpose_and_signed_words_are_these_and_never_change(run: Run) -> None:
    """Two versions of this program that differ here would refuse each other."""
    key, envelope = run.key, run.envelopes[run.peer]
    name, digest, peer = run.scheme.name.encode(), run.roster.digest, run.peer.encode()
    secrets = (b"tag" + key.tag_secret, b"carrier" + key.carrier.secret)
    hashes = [hashlib.sha256(secret).digest() for secret in secrets]
    said = framed(b"tacit/group-key/v1", name, digest, *hashes, key.carrier.public)
    assert key.fingerprint == hashlib.sha256(said).digest()
    info = framed(b"tacit/group-key/v1", run.roster.run, digest, name, peer)
    assert _info(run.roster, run.scheme, run.peer) == info
    hashes = [hashlib.sha256(part).digest() for part in (envelope.carrier, envelope.secret)]
    signed = framed(digest, peer, envelope.fingerprint, envelope.public, *hashes)
    assert _message(run.roster, run.peer, envelope) == signed


def test_the_envelopes_and_the_key_show_no_secret(run: Run) -> None:
    opened = run.open(run.envelopes[run.peer])
    envelope = run.envelopes[run.peer]
    shown = f"{opened!r} {opened.carrier!r} {envelope!r} {run.key!r}"
    for secret in (opened.tag_secret, opened.carrier.secret):
        if secret:  # its middle, as an encryption's key begins with the public parameters
            part = secret[len(secret) // 2 :][:12]
            assert repr(part)[2:-1] not in shown
            assert part.hex() not in shown
            assert part not in envelope.secret
            assert part not in envelope.public
    for kept in (opened, opened.carrier):
        with pytest.raises(TypeError, match="leaves no process"):
            pickle.dumps(kept)


@pytest.mark.parametrize("name", ["", "none", "Masked", "masked "])
def test_an_unknown_scheme_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ProtocolError, match="choose one of masked, sealed, ckks, clear"):
        scheme_of(name)


@pytest.mark.parametrize("name", ["masked", "clear"])
def test_a_scheme_without_a_key_takes_none(name: str) -> None:
    scheme = scheme_of(name)
    with pytest.raises(ProtocolError, match="scheme that has none"):
        scheme.restore(b"key", 4)
    with pytest.raises(ProtocolError, match="scheme that has none"):
        scheme.adder(b"key", 4)
