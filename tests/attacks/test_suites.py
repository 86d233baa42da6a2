"""Runs by each suite: what goes over the wire, and what a coordinator or launcher cannot change."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.suites import run_of, skip_without, voice_in

from clients.policy import NodePolicy
from privacy.errors import ProtocolError, RefusedError
from privacy.identity import Identity
from privacy.manifest import SIGNING_DOMAIN, Manifest
from privacy.messages import Invite
from privacy.randomness import system_bytes
from privacy.secure_sum.keys import KeyOffer, admit, offer_key
from privacy.secure_sum.sealer import pair_secret
from privacy.suites import SUITE_IDS, SUITES, sm2_library


@pytest.mark.parametrize("suite", SUITE_IDS)
@pytest.mark.parametrize("how", ["masked", "sealed"])
def test_a_run_ends_with_each_suite_and_no_secret_goes_over_the_wire(
    tmp_path: Path, suite: str, how: str
) -> None:
    skip_without(suite)
    direct = run_of(tmp_path, suite, how=how)
    secrets: list[bytes] = []

    def look(_: str, __: object, parcel: object) -> object:
        for node in direct.nodes.values():
            for session in node._sessions.values():
                secrets.append(session.key.kept().private[:32])
                secrets.extend(session.pair_keys.values())
                if session.setup is not None:
                    secrets.append(session.setup.key.tag_secret)
                    secrets.extend(session.setup.sealer._pairs.values())
        return parcel

    direct.transport.tamper_reply = look  # type: ignore[assignment]
    assert direct.manifest.suite == suite
    direct.run()
    wire = b"".join(parcel.message + parcel.payload for _, _, parcel in direct.transport.seen)
    assert len(set(secrets)) > 6
    assert not any(secret in wire for secret in set(secrets))


def test_a_manifest_says_its_suite_and_an_old_one_is_intl() -> None:
    base = Manifest(
        run="r",
        name="n",
        task="credit",
        unit="borrower",
        contract="c" * 64,
        directory={},
        minimum_cohort=3,
        protection="masked",
        group_size=0,
        privacy=None,
        ledger={"origin": "tacit/coordinator/0f0f", "key": "0e" * 32},
        node_settings={},
        coordinator_settings={},
    )
    assert b"suite" not in base.to_bytes()
    assert Manifest.from_bytes(base.to_bytes()).suite == "intl"
    for suite in ("gm", "hybrid"):
        other = replace(base, suite=suite)
        assert Manifest.from_bytes(other.to_bytes()) == other
        assert other.digest() != base.digest()
    for wrong in (b'"suite":"intl"', b'"suite":"none"', b'"suite":1'):
        data = replace(base, suite="gm").to_bytes().replace(b'"suite":"gm"', wrong)
        with pytest.raises(ProtocolError):
            Manifest.from_bytes(data)


def test_a_coordinator_cannot_offer_another_suite_than_was_signed(tmp_path: Path) -> None:
    direct = run_of(tmp_path, "hybrid")
    weaker = replace(direct.manifest, suite="intl")
    node = next(iter(direct.nodes.values()))
    signature = direct.launcher.sign(SIGNING_DOMAIN, direct.manifest.to_bytes())
    with pytest.raises(ProtocolError, match="does not verify"):
        node.handle(Invite(weaker.to_bytes(), signature), b"")


def test_a_launcher_cannot_weaken_what_the_federation_chose(tmp_path: Path) -> None:
    direct = run_of(tmp_path, "intl")
    for node in direct.nodes.values():
        node._settings = replace(node._settings, suite=lambda: "hybrid")
    with pytest.raises(RefusedError, match="founder signed hybrid"):
        direct.run()


def test_a_node_refuses_a_suite_that_its_policy_does_not_name(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="policy allows gm, hybrid"):
        run_of(tmp_path, "intl", NodePolicy(suites=("gm", "hybrid"))).run()


def test_a_node_without_sm2_refuses_a_gm_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = run_of(tmp_path, "gm")
    sm2_library._library.cache_clear()
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    try:
        with pytest.raises(RefusedError, match="This machine has no SM2"):
            direct.run()
    finally:
        monkeypatch.undo()
        sm2_library._library.cache_clear()


@pytest.mark.parametrize("suite", SUITE_IDS)
def test_an_offer_of_one_suite_is_none_of_another(suite: str) -> None:
    skip_without(suite)
    identities = {name: Identity.create(system_bytes) for name in ("ash", "birch")}
    directory = {name: one.public for name, one in identities.items()}
    made = {
        name: offer_key(
            voice_in(suite, one),
            name,
            run=b"run",
            directory=directory,
            entropy=system_bytes,
            suite=SUITES[suite],
        )
        for name, one in identities.items()
    }
    offers = [KeyOffer.from_bytes(offer.to_bytes()) for _, offer in made.values()]
    how = {"run": b"run", "directory": directory, "minimum": 2}
    roster = admit(offers, suite=SUITES[suite], **how)  # type: ignore[arg-type]
    for other in set(SUITE_IDS) - {suite}:
        with pytest.raises(ProtocolError):
            admit(offers, suite=SUITES[other], **how)  # type: ignore[arg-type]
    key = {name: one for name, (one, _) in made.items()}
    mine = pair_secret(key["ash"], "ash", "birch", roster, shared=b"s" * 32)
    assert mine == pair_secret(key["birch"], "birch", "ash", roster, shared=b"s" * 32)
    assert mine != pair_secret(key["ash"], "ash", "birch", roster, shared=b"t" * 32)
