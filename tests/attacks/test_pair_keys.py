"""The secrets that pairs of a hybrid run send each other: who needs them, who can change them."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support.direct import Direct
from support.suites import run_of, skip_without, voice_in

from clients.kept_session import Keeper, read_kept
from privacy.errors import ProtocolError, TacitError
from privacy.identity import Identity
from privacy.messages import (
    PairNotice,
    PairRequest,
    Parcel,
    Request,
    SealedKey,
    StatisticsRequest,
    TrainRequest,
    pack,
    unpack_request,
)
from privacy.randomness import system_bytes
from privacy.secure_sum.keys import ExchangeKey, Roster, admit, offer_key
from privacy.secure_sum.pair_keys import PairEnvelope, open_pairs, pairs_due, seal_pairs
from privacy.secure_sum.sealer import pair_secret
from privacy.suites import SUITES

Keys = dict[str, SealedKey]
NAMES = ("ash", "birch", "coal")


@pytest.mark.parametrize("how", ["masked", "sealed"])
def test_agreement_and_group_key_together_are_no_pairs_secret(tmp_path: Path, how: str) -> None:
    """Who breaks X25519, and was given the group key by a third member, knows no mask."""
    direct = run_of(tmp_path, "hybrid", how=how)
    checked: set[tuple[str, str]] = set()

    def look(member: str, request: Request, parcel: Parcel) -> Parcel:
        if not isinstance(request, TrainRequest):
            return parcel
        node = next(one for one in direct.nodes.values() if one.member == member)
        session = next(iter(node._sessions.values()))
        setup = session.agreed
        for peer, held in setup.sealer._pairs.items():
            known = (session.key, member, peer, setup.roster)
            shared = setup.key.tag_secret
            assert pair_secret(*known, shared=shared) != held
            assert pair_secret(*known, sent=session.pair_keys[peer]) != held
            assert pair_secret(*known, shared=shared, sent=session.pair_keys[peer]) == held
            checked.add((member, peer))
        return parcel

    direct.transport.tamper_reply = look
    direct.run()
    assert len(checked) == 6


def dropped(keys: Keys) -> Keys:
    return dict(list(keys.items())[1:])


def unsigned(keys: Keys) -> Keys:
    return {
        name: msgspec.structs.replace(one, signature=one.signature[:64])
        for name, one in keys.items()
    }


def flipped(keys: Keys) -> Keys:
    return {
        name: msgspec.structs.replace(one, secret=one.secret[:-1] + bytes((one.secret[-1] ^ 1,)))
        for name, one in keys.items()
    }


def moved(keys: Keys) -> Keys:
    return dict(zip(keys, reversed(keys.values()), strict=True))


def added(keys: Keys) -> Keys:
    return {**keys, "nobody": next(iter(keys.values()))}


@pytest.mark.parametrize("change", [dropped, unsigned, flipped, moved, added])
def test_a_coordinator_cannot_change_what_pairs_send(
    tmp_path: Path, change: Callable[[Keys], Keys]
) -> None:
    direct = run_of(tmp_path, "hybrid")

    def tamper(member: str, __: Request, parcel: Parcel) -> Parcel:
        request, payload = unpack_request(parcel)
        if isinstance(request, PairNotice) and member == "west":
            assert len(request.keys) == 2
            request = PairNotice(run=request.run, keys=change(request.keys))
        return pack(request, payload)

    direct.transport.tamper_request = tamper
    with pytest.raises(TacitError, match=r"west refused: (a secret of each|the secret of north)"):
        direct.run()
    assert "keys.agreed" not in [kind for kind, _ in direct.notes.entries]


@pytest.mark.parametrize("suite", ["intl", "gm"])
def test_no_secrets_are_sent_where_agreement_holds_alone(tmp_path: Path, suite: str) -> None:
    skip_without(suite)
    asked = once_while_training(run_of(tmp_path, suite), lambda run: PairRequest(run=run))
    assert "send each other no secrets" in asked


@pytest.mark.parametrize("notice", [PairRequest, lambda run: PairNotice(run=run, keys={})])
def test_a_sum_under_way_is_not_begun_anew_by_new_secrets(
    tmp_path: Path, notice: Callable[[bytes], Request]
) -> None:
    asked = once_while_training(run_of(tmp_path, "hybrid"), notice)
    assert "made once" in asked or "opened once" in asked


def test_a_sum_that_is_asked_for_before_the_secrets_changes_nothing(tmp_path: Path) -> None:
    """It was refused, and so were the secrets afterwards: the step was noted as sealed."""
    direct = run_of(tmp_path, "hybrid")
    refused: list[str] = []

    def slip_in(member: str, request: Request, parcel: Parcel) -> Parcel:
        if isinstance(request, PairRequest | PairNotice):
            node = next(one for one in direct.nodes.values() if one.member == member)
            with pytest.raises(ProtocolError, match="sent each other no secret"):
                node.handle(StatisticsRequest(run=request.run, accepted={}, stage=0))
            refused.append(member)
        return parcel

    direct.transport.tamper_request = slip_in
    direct.run()
    assert sorted(refused) == sorted([*direct.models()] * 2)
    assert direct.notes.sentences == []


def once_while_training(direct: Direct, ask: Callable[[bytes], Request]) -> str:
    """What a member says to a request while a round is under way; the run ends as if not."""
    said: list[str] = []

    def slip_in(member: str, request: Request, parcel: Parcel) -> Parcel:
        if isinstance(request, TrainRequest) and member == "north" and not said:
            node = next(one for one in direct.nodes.values() if one.member == member)
            with pytest.raises(ProtocolError) as refusal:
                node.handle(ask(request.run))
            said.append(str(refusal.value))
        return parcel

    direct.transport.tamper_reply = slip_in
    direct.run()
    return said[0]


def test_a_secret_is_of_one_pair_direction_and_run() -> None:
    suite = SUITES["hybrid"]
    voices = {name: voice_in("hybrid", Identity.create(system_bytes)) for name in NAMES}
    directory = {name: one.public for name, one in voices.items()}

    def rostered(run: bytes) -> tuple[Roster, dict[str, ExchangeKey]]:
        made = {
            name: offer_key(
                voice, name, run=run, directory=directory, entropy=system_bytes, suite=suite
            )
            for name, voice in voices.items()
        }
        offers = [offer for _, offer in made.values()]
        roster = admit(offers, run=run, directory=directory, minimum=3, suite=suite)
        return roster, {name: key for name, (key, _) in made.items()}

    roster, keys = rostered(b"one")
    assert pairs_due(roster, masked=True)
    assert not pairs_due(roster, masked=False)
    others = {name: frozenset(NAMES) - {name} for name in NAMES}
    sealed = {
        name: seal_pairs(name, voices[name], roster, others[name], system_bytes) for name in NAMES
    }
    assert [sorted(secrets) for secrets, _ in sealed.values()] == [["birch", "coal"], ["coal"], []]
    for_coal = {name: sealed[name][1]["coal"] for name in ("ash", "birch")}
    opened = open_pairs("coal", keys["coal"], roster, others["coal"], for_coal)
    assert opened == {name: sealed[name][0]["coal"] for name in ("ash", "birch")}
    other_roster, other_keys = rostered(b"two")
    to_birch = {"ash": sealed["ash"][1]["birch"]}
    for member, key, where, given in (
        ("coal", keys["coal"], roster, {"ash": for_coal["birch"], "birch": for_coal["ash"]}),
        ("coal", other_keys["coal"], other_roster, for_coal),
        ("coal", keys["coal"], roster, {**for_coal, "ash": to_birch["ash"]}),
        ("birch", keys["birch"], roster, {"ash": for_coal["ash"]}),
        ("birch", keys["birch"], roster, {"ash": PairEnvelope(b"", for_coal["ash"].signature)}),
    ):
        with pytest.raises(ProtocolError):
            open_pairs(member, key, where, others[member], given)


def test_what_a_node_keeps_of_other_runs_has_no_word_of_pairs(tmp_path: Path) -> None:
    """So a state that was written before there were such secrets is read as it was."""
    bodies: list[bytes] = []
    for suite in ("intl", "hybrid"):
        direct = run_of(tmp_path / suite, suite)

        def look(member: str, request: Request, parcel: Parcel, direct: Direct = direct) -> Parcel:
            node = next(one for one in direct.nodes.values() if one.member == member)
            if isinstance(request, TrainRequest) and member == "west":
                bodies.append(Keeper().keep(next(iter(node._sessions.values())))[0])
            return parcel

        direct.transport.tamper_reply = look
        direct.run()
    before, now = bodies[0], bodies[-1]
    assert b"pair_keys" not in before
    assert read_kept(before).pair_keys == {}
    assert set(read_kept(now).pair_keys) == {"north", "south"}
