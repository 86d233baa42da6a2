"""What a hostile coordinator, alone, with the launcher or with a member, tries against a node.

One run of real nodes and the real coordinator is attacked at every message: before an honest
request is delivered, its node is handed hostile ones instead. Each must be refused in a sentence of
its own, and the run must still end as if nothing had been. What cannot be tried without spoiling
the run is tried against sealers, or in runs of its own.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from support.deviations import (
    MEMBERS,
    Attacked,
    Deviations,
    Hostile,
    Loose,
    attack_run,
    check_refused,
    identity_of,
    other_than,
    replaced,
)
from support.direct import Direct
from support.records import body_of, heads_of, own_hand, seen_by
from support.sums import (
    RUN,
    Exchange,
    Group,
    federation,
    group,
    in_words,
    looks_random,
    random_words,
    votes_of,
    watched,
    with_tag_of_sum,
    words_of,
)

from clients.node import Node
from clients.policy import NodePolicy
from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import CohortError, ProtocolError, RefusedError
from privacy.identity import Identity
from privacy.keystream import shift_by_keystream
from privacy.ledger.store import entries_of
from privacy.manifest import SIGNING_DOMAIN
from privacy.messages import (
    Accepted,
    CountersignRequest,
    EvaluateRequest,
    FinishNotice,
    InitialModelRequest,
    Invite,
    KeyNotice,
    Ready,
    RecordedSum,
    ReleaseRequest,
    Request,
    RevealRequest,
    RosterNotice,
    Sealed,
    ShownRotation,
    SignedState,
    StatisticsRequest,
    StopNotice,
    SumNotice,
    SumPart,
    SurvivorsNotice,
    TrainRequest,
    Voted,
)
from privacy.randomness import system_bytes
from privacy.secure_sum import SealedVector, Vote
from privacy.secure_sum.cohort import Cohort
from privacy.secure_sum.group_key import _DOMAIN as KEY_DOMAIN
from privacy.secure_sum.group_key import (
    Envelope,
    _message,
    _Secrets,
    make_group_key,
    maker_of,
    open_group_key,
)
from privacy.secure_sum.group_key import _info as key_info
from privacy.secure_sum.keys import KeyOffer, Roster, admit, offer_key, wrap_for
from privacy.secure_sum.schemes import SCHEMES, scheme_of
from privacy.secure_sum.sealer import Sealer, mask_key, pair_secret
from privacy.secure_sum.tag import tag_key, tag_words
from privacy.sum_context import (
    ACCEPTED_DOMAIN,
    SURVIVORS_DOMAIN,
    survivors_message,
)

deviation = Deviations()
DEVIATIONS = deviation.all


# -- the invitation ---------------------------------------------------------------------------


def invited(fed: Direct, signer: Identity | None = None, **changes: Loose) -> Hostile:
    """An invitation to a changed run, signed by the launcher unless another signer is given."""
    data = replace(fed.manifest, **changes).to_bytes()
    return Invite(manifest=data, signature=(signer or fed.launcher).sign(SIGNING_DOMAIN, data)), b""


def invited_by_bytes(run: Direct, **changes: object) -> Hostile:
    """The same for what no manifest of this program could hold."""
    value = parse_canonical(run.manifest.to_bytes())
    assert isinstance(value, dict)
    data = canonical_json({**value, **changes})
    return Invite(manifest=data, signature=run.launcher.sign(SIGNING_DOMAIN, data)), b""


@deviation(Invite, "", "a signature for manifest does not verify")
def _a_run_of_another_launcher(_: Exchange, run: Direct) -> Hostile:
    return invited(run, Identity.create(system_bytes))


@deviation(Invite, "", "a signature for manifest does not verify")
def _a_manifest_that_was_changed_after_it_was_signed(at: Exchange, run: Direct) -> Hostile:
    changed = replace(run.manifest, minimum_cohort=4).to_bytes()
    return Invite(manifest=changed, signature=at.request.signature), b""


@deviation(Invite, "", "a signature for manifest does not verify")
def _a_manifest_signed_for_another_purpose(_: Exchange, run: Direct) -> Hostile:
    data = run.manifest.to_bytes()
    return Invite(manifest=data, signature=run.launcher.sign("key-offer", data)), b""


@deviation(Invite, "", "does not hold this node with its own key", RefusedError)
def _a_run_with_another_key_for_the_node_itself(at: Exchange, run: Direct) -> Hostile:
    spy = Identity.create(system_bytes).public.hex()
    return invited(run, directory={**run.manifest.directory, at.node.member: spy})


@deviation(Invite, "", "does not hold this node with its own key", RefusedError)
def _a_run_without_the_node(at: Exchange, run: Direct) -> Hostile:
    directory = {n: key for n, key in run.manifest.directory.items() if n != at.node.member}
    return invited(run, directory=directory)


@deviation(Invite, "", "The run names spy with a key that this node was not told of", RefusedError)
def _a_member_that_the_launcher_made_up(_: Exchange, run: Direct) -> Hostile:
    spy = Identity.create(system_bytes).public.hex()
    return invited(run, directory={**run.manifest.directory, "spy": spy})


@deviation(Invite, "", "The run names {other} with a key that this node was not", RefusedError)
def _a_known_member_with_a_key_of_the_launcher(at: Exchange, run: Direct) -> Hostile:
    spy = Identity.create(system_bytes).public.hex()
    return invited(run, directory={**run.manifest.directory, other_than(at.node.member): spy})


@deviation(Invite, "", "no usable key for member {other}")
def _a_key_in_a_second_spelling(at: Exchange, run: Direct) -> Hostile:
    other = other_than(at.node.member)
    spelled = run.manifest.directory[other].upper()
    return invited(run, directory={**run.manifest.directory, other: f" {spelled[1:]}"})


@deviation(Invite, "", "opens sums of 2 members; this node insists on at least 3", RefusedError)
def _a_lower_minimum(_: Exchange, run: Direct) -> Hostile:
    return invited(run, minimum_cohort=2)


@deviation(Invite, "", "asks for 'clear' sums of data above class L1", RefusedError)
def _sums_in_the_clear(_: Exchange, run: Direct) -> Hostile:
    return invited(run, protection="clear")


@deviation(Invite, "", "asks for 'ckks' sums of data above class L1", RefusedError)
def _sums_that_one_member_could_read(_: Exchange, run: Direct) -> Hostile:
    return invited(run, protection="ckks")


@deviation(Invite, "", "has a value of the wrong type")
def _a_way_to_protect_a_sum_that_there_is_not(_: Exchange, run: Direct) -> Hostile:
    return invited_by_bytes(run, protection="aggregate")


@deviation(Invite, "", "planned for another data contract", RefusedError)
def _another_contract(_: Exchange, run: Direct) -> Hostile:
    return invited(run, contract="0" * 64)


@deviation(Invite, "", "allows no task 'gossip'", RefusedError)
def _a_task_that_the_node_takes_no_part_in(_: Exchange, run: Direct) -> Hostile:
    return invited(run, task="gossip")


@deviation(Invite, "", "names two different tasks", RefusedError)
def _another_task_than_the_one_that_is_trained(_: Exchange, run: Direct) -> Hostile:
    return invited(run, task="claims")


@deviation(Invite, "", "protects 'row' where the contract names 'customer'", RefusedError)
def _another_unit(_: Exchange, run: Direct) -> Hostile:
    return invited(run, unit="row")


@deviation(Invite, "", "opens sums of groups of 2 members", RefusedError)
def _groups_that_are_too_small(_: Exchange, run: Direct) -> Hostile:
    return invited(run, group_size=2)


@deviation(Invite, "", "Sums in groups need 12 members and this run has 6", RefusedError)
def _groups_of_too_few_members(_: Exchange, run: Direct) -> Hostile:
    return invited(run, group_size=3)


@deviation(Invite, "", "node settings are refused at steal")
def _a_setting_that_there_is_not(_: Exchange, run: Direct) -> Hostile:
    return invited(run, node_settings={**run.manifest.node_settings, "steal": True})


@deviation(Invite, "", "no run manifest of format")
def _a_manifest_of_another_format(_: Exchange, run: Direct) -> Hostile:
    return invited_by_bytes(run, format=1)


@deviation(Invite, "", "A payload came with a request that has none")
def _an_invitation_with_a_model_beside_it(at: Exchange, _: Direct) -> Hostile:
    return at.request, b"model"


@deviation(Invite, "", "has not joined that run")
def _work_before_the_invitation(_: Exchange, run: Direct) -> Hostile:
    return TrainRequest(run=run.manifest.digest(), accepted={}, round=1), b""


@deviation(RosterNotice, "", "joined that run already; launch a new one")
def _another_invitation_to_the_same_run(at: Exchange, run: Direct) -> Hostile:
    request, payload = invited(run)
    named = at.earlier(Invite)[0][0].launcher
    return replaced(request, launcher=b"" if named else run.launcher.public), payload


# -- the roster -------------------------------------------------------------------------------


def with_offer(at: Exchange, planted: KeyOffer) -> Hostile:
    """The honest roster with the offer of one member replaced."""
    offers = [KeyOffer.from_bytes(offer) for offer in at.request.offers]
    kept = [planted if offer.member == planted.member else offer for offer in offers]
    return replaced(at.request, offers=tuple(offer.to_bytes() for offer in kept)), b""


def fresh_offer(run: Direct, name: str, identity: Identity, *, of_run: bytes) -> KeyOffer:
    directory = {**run.manifest.directory_keys(), name: identity.public}
    return offer_key(identity, name, run=of_run, directory=directory, entropy=system_bytes)[1]


@deviation(RosterNotice, "", "the key offer of {other} is not signed by it")
def _an_exchange_key_of_the_coordinator_under_a_members_name(at: Exchange, run: Direct) -> Hostile:
    other = other_than(at.node.member)
    spy = Identity.create(system_bytes)
    return with_offer(at, fresh_offer(run, other, spy, of_run=run.manifest.digest()))


@deviation(RosterNotice, "", "the key offer of {other} is not signed by it")
def _an_exchange_key_replaced_under_its_signature(at: Exchange, run: Direct) -> Hostile:
    other = other_than(at.node.member)
    spy = fresh_offer(run, other, Identity.create(system_bytes), of_run=b"any")
    offers = {o.member: o for o in map(KeyOffer.from_bytes, at.request.offers)}
    return with_offer(at, replace(offers[other], exchange=spy.exchange))


@deviation(RosterNotice, "", "the key offer of {other} is not signed by it for this run")
def _an_offer_of_an_earlier_run(at: Exchange, run: Direct) -> Hostile:
    other = other_than(at.node.member)
    return with_offer(at, fresh_offer(run, other, identity_of(run, other), of_run=b"earlier"))


@deviation(RosterNotice, "", "the key offer of {other} is not signed .* and directory")
def _an_offer_made_for_another_list_of_members(at: Exchange, run: Direct) -> Hostile:
    other = other_than(at.node.member)
    directory = {other: run.manifest.directory_keys()[other], at.node.member: b"k" * 32}
    _, offer = offer_key(
        identity_of(run, other),
        other,
        run=run.manifest.digest(),
        directory=directory,
        entropy=system_bytes,
    )
    return with_offer(at, offer)


@deviation(RosterNotice, "", "the exchange key of {other} would share its secrets with all")
def _an_exchange_key_of_small_order(at: Exchange, run: Direct) -> Hostile:
    del run
    return with_offer(at, KeyOffer(other_than(at.node.member), bytes(32), bytes(64)))


@deviation(RosterNotice, "", "do not hold the one that this node offered")
def _a_roster_without_the_node_itself(at: Exchange, _: Direct) -> Hostile:
    own = at.node.member
    kept = [o for o in at.request.offers if KeyOffer.from_bytes(o).member != own]
    return replaced(at.request, offers=tuple(kept)), b""


@deviation(RosterNotice, "", "2 members offered keys and 3 are needed", CohortError)
def _a_roster_of_two(at: Exchange, _: Direct) -> Hostile:
    return replaced(at.request, offers=at.request.offers[:2]), b""


@deviation(RosterNotice, "", "offered two keys for this run")
def _a_member_twice_in_a_roster(at: Exchange, _: Direct) -> Hostile:
    return replaced(at.request, offers=(*at.request.offers, at.request.offers[0])), b""


@deviation(RosterNotice, "", "spy is not in the directory")
def _a_stranger_in_a_roster(at: Exchange, run: Direct) -> Hostile:
    spy = fresh_offer(run, "spy", Identity.create(system_bytes), of_run=run.manifest.digest())
    return replaced(at.request, offers=(*at.request.offers, spy.to_bytes())), b""


@deviation(RosterNotice, "", "a key offer is malformed")
def _an_offer_that_is_none(at: Exchange, _: Direct) -> Hostile:
    return replaced(at.request, offers=(*at.request.offers[1:], b"offer")), b""


@deviation(RosterNotice, "", "a key offer is not in its one form")
def _an_offer_in_a_second_encoding(at: Exchange, _: Direct) -> Hostile:
    offer = KeyOffer.from_bytes(at.request.offers[0])
    # The name's length in two bytes, where one would do.
    fields = msgspec.msgpack.encode((offer.member, offer.exchange, offer.signature))
    name = offer.member.encode()
    longer = fields[:1] + b"\xd9" + bytes([len(name)]) + fields[2:]
    return replaced(at.request, offers=(longer, *at.request.offers[1:])), b""


@deviation(RosterNotice, "", "The members' keys are not agreed on yet")
def _statistics_before_the_roster(at: Exchange, _: Direct) -> Hostile:
    return StatisticsRequest(run=at.request.run, accepted={}, stage=0), b""


# -- the group key ----------------------------------------------------------------------------


def envelope_from(
    at: Exchange, run: Direct, *, signer: str | None = None, scheme: str = "masked", **how: bytes
) -> Hostile:
    """A group key that was made to order, together with the member who signs it."""
    roster: Roster = at.session().roster
    way, name = SCHEMES[scheme], at.node.member
    maker = maker_of(roster)
    secret = _Secrets(how.get("tag", bytes(32)), bytes(32))
    _, envelopes = make_group_key(
        maker, identity_of(run, maker), roster, scheme_of("masked"), bytes
    )
    fingerprint = how.get("fingerprint", envelopes[name].fingerprint)
    plain = msgspec.msgpack.encode(secret)
    sealed = wrap_for(roster.exchange_of(name), plain, info=key_info(roster, way, name))
    carrier = AESGCM(bytes(32)).encrypt(bytes(12), how.get("carrier", b""), fingerprint)
    message = _message(roster, name, Envelope(fingerprint, b"", carrier, sealed, b""))
    signature = identity_of(run, signer or maker).sign(KEY_DOMAIN, message)
    return KeyNotice(
        run=run.manifest.digest(),
        fingerprint=fingerprint,
        public=b"",
        carrier=carrier,
        secret=sealed,
        signature=signature,
    ), b""


@deviation(RosterNotice, "", "opened once, after the members' keys")
def _a_group_key_before_the_roster(at: Exchange, _: Direct) -> Hostile:
    notice = KeyNotice(
        run=at.request.run,
        fingerprint=b"f" * 32,
        public=b"",
        carrier=b"c",
        secret=b"s",
        signature=b"g" * 64,
    )
    return notice, b""


@deviation(KeyNotice, "", "not signed by {maker}, whose turn it is")
def _a_group_key_of_a_member_whose_turn_it_is_not(at: Exchange, run: Direct) -> Hostile:
    maker = maker_of(at.session().roster)
    return envelope_from(at, run, signer=other_than(at.node.member, maker))


@deviation(KeyNotice, "", "not signed by {maker}, whose turn it is")
def _a_group_key_for_another_member(at: Exchange, _: Direct) -> Hostile:
    return next(words for name, words in at.batch.items() if name != at.node.member)


@deviation(KeyNotice, "", "not signed by {maker}, whose turn it is")
def _a_group_key_that_was_changed(at: Exchange, _: Direct) -> Hostile:
    secret = bytearray(at.request.secret)
    secret[-1] ^= 1
    return replaced(at.request, secret=bytes(secret)), b""


@deviation(KeyNotice, "", "not signed by {maker}, whose turn it is")
def _a_group_key_under_another_fingerprint(at: Exchange, _: Direct) -> Hostile:
    return replaced(at.request, fingerprint=bytes(32)), b""


@deviation(KeyNotice, "", "{maker} sealed another key to {node} than it told of")
def _a_group_key_that_its_maker_gave_this_member_alone(at: Exchange, run: Direct) -> Hostile:
    return envelope_from(at, run, tag=b"a" * 32)


@deviation(KeyNotice, "", "a sealed key does not open")
def _a_group_key_of_another_scheme(at: Exchange, run: Direct) -> Hostile:
    return envelope_from(at, run, scheme="clear")


@deviation(KeyNotice, "", "has a secret of a wrong length")
def _a_group_key_with_a_short_secret(at: Exchange, run: Direct) -> Hostile:
    return envelope_from(at, run, tag=b"short")


@deviation(KeyNotice, "", "a key was given to a scheme that has none")
def _a_group_key_with_a_carriers_key_too_many(at: Exchange, run: Direct) -> Hostile:
    return envelope_from(at, run, carrier=b"key")


@deviation(KeyNotice, "", "agreed on once")
def _a_second_roster(at: Exchange, run: Direct) -> Hostile:
    first = at.earlier(RosterNotice)[0][0]
    other = other_than(at.node.member)
    offer = fresh_offer(run, other, identity_of(run, other), of_run=first.run)
    kept = [o for o in first.offers if KeyOffer.from_bytes(o).member != other]
    return replaced(first, offers=(*kept, offer.to_bytes())), b""


@deviation(StatisticsRequest, "statistics 0", "opened once, after the members' keys")
def _a_second_group_key(at: Exchange, _: Direct) -> Hostile:
    notice = at.earlier(KeyNotice)[0][0]
    return replaced(notice, fingerprint=bytes(32)), b""


# -- the order of steps -----------------------------------------------------------------------


def asked(at: Exchange, kind: type, **fields: object) -> Hostile:
    """A request for something new, with the honest signatures of this moment."""
    accepted = getattr(at.request, "accepted", {})
    request: Request = kind(run=at.request.run, accepted=accepted, **fields)
    return request, b""


@deviation(StatisticsRequest, "statistics 0", "statistics are asked for out of order")
def _statistics_in_another_order(at: Exchange, _: Direct) -> Hostile:
    return asked(at, StatisticsRequest, stage=1)


@deviation(StatisticsRequest, "statistics 0", "The model is asked for after the statistics")
def _training_before_the_statistics(at: Exchange, _: Direct) -> Hostile:
    return asked(at, TrainRequest, round=1)


@deviation(StatisticsRequest, "statistics 0", "finished before its last round")
def _an_end_before_the_first_round(at: Exchange, _: Direct) -> Hostile:
    return asked(at, FinishNotice)


@deviation(TrainRequest, "update 1", "statistics are asked for out of order")
def _statistics_once_more_than_agreed(at: Exchange, _: Direct) -> Hostile:
    return asked(at, StatisticsRequest, stage=1)


@deviation(TrainRequest, "update 1", "Rounds are trained one after the other")
def _a_round_that_is_skipped(at: Exchange, _: Direct) -> Hostile:
    return asked(at, TrainRequest, round=2)


@deviation(TrainRequest, "update 1", "A model is evaluated once, after the round that made it")
def _an_evaluation_before_the_first_round(at: Exchange, _: Direct) -> Hostile:
    return asked(at, EvaluateRequest, round=0, part="watch")


@deviation(TrainRequest, "update 1", "Only statistics, updates and evaluations are summed")
def _the_training_rows_asked_for(at: Exchange, _: Direct) -> Hostile:
    return asked(at, EvaluateRequest, round=1, part="train")


@deviation(TrainRequest, "update 1", "A payload came with a request that has none")
def _a_model_beside_a_request_to_train(at: Exchange, _: Direct) -> Hostile:
    return at.request, np.full(33, 1e6, np.float32).tobytes()


@deviation(SurvivorsNotice, "update 1", "already sealed; it is not made again")
def _the_same_round_in_other_words(at: Exchange, _: Direct) -> Hostile:
    return TrainRequest(run=at.request.run, accepted={}, round=1), b""


@deviation(SurvivorsNotice, "update 1", "A model is evaluated once, after the round that made it")
def _an_evaluation_of_a_round_that_is_under_way(at: Exchange, _: Direct) -> Hostile:
    return EvaluateRequest(run=at.request.run, accepted={}, round=1, part="watch"), b""


@deviation(SurvivorsNotice, "evaluate watch 1", "already sealed; it is not made again")
def _the_same_evaluation_in_other_words(at: Exchange, _: Direct) -> Hostile:
    return EvaluateRequest(run=at.request.run, accepted={}, round=1, part="watch"), b""


@deviation(TrainRequest, "update 2", "Test rows are asked about the final model alone")
def _test_rows_before_the_last_round(at: Exchange, _: Direct) -> Hostile:
    return asked(at, EvaluateRequest, round=1, part="test")


@deviation(TrainRequest, "update 2", "A model is evaluated once")
def _a_round_watched_twice(at: Exchange, _: Direct) -> Hostile:
    return asked(at, EvaluateRequest, round=1, part="watch")


@deviation(TrainRequest, "update 2", "asked for before the first round")
def _the_initial_model_after_a_round(at: Exchange, _: Direct) -> Hostile:
    return asked(at, InitialModelRequest)


@deviation(TrainRequest, "update 2", "Rounds are trained one after the other")
def _an_earlier_round_again(at: Exchange, _: Direct) -> Hostile:
    return asked(at, TrainRequest, round=1)


@deviation(EvaluateRequest, "evaluate test 2", "has no personalisation")
def _a_personalisation_that_was_not_agreed(at: Exchange, _: Direct) -> Hostile:
    return asked(at, EvaluateRequest, round=2, part="personal")


@deviation(EvaluateRequest, "evaluate test 2", "as many as agreed")
def _a_round_beyond_the_plan(at: Exchange, _: Direct) -> Hostile:
    return asked(at, TrainRequest, round=3)


@deviation(FinishNotice, "evaluate test 2", "A model is evaluated once")
def _the_test_rows_twice(at: Exchange, _: Direct) -> Hostile:
    return asked(at, EvaluateRequest, round=2, part="test")


# -- who goes on ------------------------------------------------------------------------------


@deviation(
    InitialModelRequest, "statistics 0", "0 members accepted the same sums and 5 are", CohortError
)
def _going_on_although_nobody_accepted(at: Exchange, _: Direct) -> Hostile:
    return replaced(at.request, accepted={}), b""


@deviation(
    InitialModelRequest, "statistics 0", "4 members accepted the same sums and 5 are", CohortError
)
def _going_on_with_too_few(at: Exchange, _: Direct) -> Hostile:
    return replaced(at.request, accepted=dict(list(at.request.accepted.items())[:4])), b""


@deviation(InitialModelRequest, "statistics 0", "spy is no member of this run, and accepts nothing")
def _the_acceptance_of_a_stranger(at: Exchange, _: Direct) -> Hostile:
    spy = Identity.create(system_bytes).sign(ACCEPTED_DOMAIN, at.session().history)
    return replaced(at.request, accepted={**at.request.accepted, "spy": spy}), b""


@deviation(
    InitialModelRequest, "statistics 0", "{other} did not accept the sums that this node was shown"
)
def _the_acceptance_of_one_under_anothers_name(at: Exchange, _: Direct) -> Hostile:
    accepted, other = at.request.accepted, other_than(at.node.member)
    return replaced(
        at.request, accepted={**accepted, other: accepted[other_than(at.node.member, other)]}
    ), b""


@deviation(InitialModelRequest, "statistics 0", "{other} did not accept .* may have shown two")
def _the_acceptance_of_another_sum(at: Exchange, run: Direct) -> Hostile:
    other = other_than(at.node.member)
    sign = identity_of(run, other).sign(ACCEPTED_DOMAIN, bytes(32))
    return replaced(at.request, accepted={**at.request.accepted, other: sign}), b""


@deviation(EvaluateRequest, "evaluate watch 2", "did not accept the sums that this node was shown")
def _the_acceptances_of_an_earlier_step(at: Exchange, _: Direct) -> Hostile:
    return replaced(at.request, accepted=at.earlier(TrainRequest)[-1][0].accepted), b""


# -- survivors --------------------------------------------------------------------------------


NO_RECORD = RecordedSum(
    leaf=b"{}", index=0, path=(), state=SignedState(checkpoint=b"", old=0, growth=())
)


def over(at: Exchange, survivors: Iterable[str]) -> Hostile:
    return replaced(at.request, survivors=tuple(survivors)), b""


@deviation(StatisticsRequest, "statistics 0", "not under way here; nothing is told of another")
def _survivors_before_a_vector_was_sealed(at: Exchange, _: Direct) -> Hostile:
    return SurvivorsNotice(
        run=at.request.run, context=bytes(32), survivors=MEMBERS, record=NO_RECORD
    ), b""


@deviation(SurvivorsNotice, "statistics 0", "not under way here; nothing is told of another")
def _survivors_of_a_sum_that_is_not_under_way(at: Exchange, _: Direct) -> Hostile:
    return replaced(at.request, context=b"c" * 32), b""


@deviation(SurvivorsNotice, "update 1", "not under way here; nothing is told of another")
def _survivors_of_the_sum_before(at: Exchange, _: Direct) -> Hostile:
    return at.earlier(SurvivorsNotice, at.node.member)[0]


@deviation(SurvivorsNotice, "update 1", "{node} is asked to sign a sum without itself")
def _survivors_without_the_node(at: Exchange, _: Direct) -> Hostile:
    return over(at, [name for name in MEMBERS if name != at.node.member])


@deviation(SurvivorsNotice, "update 1", "survivors are given once each, in order")
def _survivors_in_another_order(at: Exchange, _: Direct) -> Hostile:
    return over(at, reversed(MEMBERS))


@deviation(SurvivorsNotice, "update 1", "survivors are given once each, in order")
def _a_survivor_twice(at: Exchange, _: Direct) -> Hostile:
    return over(at, sorted((*MEMBERS, at.node.member)))


@deviation(SurvivorsNotice, "update 1", "spy is not asked for this sum")
def _a_survivor_who_is_no_member(at: Exchange, _: Direct) -> Hostile:
    return over(at, sorted((*MEMBERS, "spy")))


@deviation(SurvivorsNotice, "update 1", "2 members are left and sums are .* 3", CohortError)
def _survivors_below_the_minimum(at: Exchange, _: Direct) -> Hostile:
    return over(at, sorted((at.node.member, other_than(at.node.member))))


@deviation(SurvivorsNotice, "update 1", "0 members are left and sums are .* 3", CohortError)
def _no_survivors(at: Exchange, _: Direct) -> Hostile:
    return over(at, ())


@deviation(SurvivorsNotice, "update 1", "more than a third of those who hold shares", CohortError)
def _survivors_below_two_thirds(at: Exchange, _: Direct) -> Hostile:
    gone = [name for name in MEMBERS if name != at.node.member][:2]
    return over(at, [name for name in MEMBERS if name not in gone])


@deviation(
    SurvivorsNotice, "evaluate watch 2", "this one would show {other} alone; it is not", CohortError
)
def _a_validation_that_differs_from_another_by_one_member(at: Exchange, _: Direct) -> Hostile:
    other = other_than(at.node.member)
    return over(at, [name for name in MEMBERS if name != other])


# -- shares -----------------------------------------------------------------------------------


@deviation(SurvivorsNotice, "update 1", "has not seen that sum in the coordinator's ledger")
def _shares_before_the_vote(at: Exchange, _: Direct) -> Hostile:
    reveal = RevealRequest(
        run=at.request.run,
        context=at.request.context,
        survivors=at.request.survivors,
        votes={},
        cosignatures={},
        boxes={},
    )
    return reveal, b""


@deviation(
    RevealRequest, "update 1", "masks are told for the survivors that were signed; no others"
)
def _shares_for_fewer_survivors_than_were_signed(at: Exchange, _: Direct) -> Hostile:
    other = other_than(at.node.member)
    return over(at, [name for name in MEMBERS if name != other])


@deviation(RevealRequest, "update 1", "4 of those who hold shares of {node} signed", CohortError)
def _shares_for_too_few_votes(at: Exchange, _: Direct) -> Hostile:
    return replaced(at.request, votes=dict(list(at.request.votes.items())[:4])), b""


@deviation(RevealRequest, "update 1", "{other} did not sign these survivors of this sum")
def _votes_on_other_survivors(at: Exchange, run: Direct) -> Hostile:
    other = other_than(at.node.member)
    shown = tuple(name for name in MEMBERS if name != at.node.member)
    message = survivors_message(at.request.context, shown)
    sign = identity_of(run, other).sign(SURVIVORS_DOMAIN, message)
    return replaced(at.request, votes={**at.request.votes, other: sign}), b""


@deviation(RevealRequest, "update 1", "{other} did not sign these survivors of this sum")
def _a_forged_vote(at: Exchange, run: Direct) -> Hostile:
    del run
    other = other_than(at.node.member)
    message = survivors_message(at.request.context, at.request.survivors)
    sign = Identity.create(system_bytes).sign(SURVIVORS_DOMAIN, message)
    return replaced(at.request, votes={**at.request.votes, other: sign}), b""


@deviation(RevealRequest, "update 2", "did not sign these survivors of this sum")
def _the_votes_of_an_earlier_sum(at: Exchange, _: Direct) -> Hostile:
    votes = at.earlier(RevealRequest, at.node.member)[0][0].votes
    return replaced(at.request, votes=votes), b""


@deviation(RevealRequest, "update 1", "spy is not asked for this sum")
def _the_vote_of_a_stranger(at: Exchange, _: Direct) -> Hostile:
    message = survivors_message(at.request.context, at.request.survivors)
    sign = Identity.create(system_bytes).sign(SURVIVORS_DOMAIN, message)
    return replaced(at.request, votes={**at.request.votes, "spy": sign}), b""


@deviation(RevealRequest, "update 1", "box of each surviving neighbour is due, and no other")
def _a_box_that_is_missing(at: Exchange, _: Direct) -> Hostile:
    return replaced(at.request, boxes=dict(list(at.request.boxes.items())[1:])), b""


@deviation(RevealRequest, "update 1", "box of each surviving neighbour is due, and no other")
def _a_box_of_a_stranger(at: Exchange, _: Direct) -> Hostile:
    return replaced(at.request, boxes={**at.request.boxes, "spy": b"b" * 49}), b""


@deviation(SumNotice, "update 1", "shares of this sum were revealed before; none are again")
def _shares_a_second_time_with_other_boxes(at: Exchange, _: Direct) -> Hostile:
    honest = at.earlier(RevealRequest, at.node.member)[-1][0]
    names = sorted(honest.boxes)
    turned = dict(zip(names, [honest.boxes[n] for n in (*names[1:], names[0])], strict=True))
    return replaced(honest, boxes=turned), b""


@deviation(SumNotice, "update 1", "survivors are settled; they cannot be changed now")
def _both_secrets_of_one_member(at: Exchange, run: Direct) -> Hostile:
    # Its own mask's shares were given; now the masks that it shares with the node are asked for.
    honest = at.earlier(SurvivorsNotice, at.node.member)[-1][0]
    other = other_than(at.node.member)
    # the ledger is shown as the node remembers it, so that nothing else is wrong
    size = seen_by(run, at.node)
    state = msgspec.structs.replace(honest.record.state, old=size, growth=())
    record = msgspec.structs.replace(honest.record, state=state)
    survivors = tuple(name for name in MEMBERS if name != other)
    return replaced(honest, survivors=survivors, record=record), b""


@deviation(RevealRequest, "update 2", "not under way here; nothing is told of another")
def _shares_of_a_sum_after_the_next_began(at: Exchange, _: Direct) -> Hostile:
    return at.earlier(RevealRequest, at.node.member)[-1]


@deviation(TrainRequest, "update 2", "not under way here; nothing is told of another")
def _shares_of_a_sum_that_was_accepted(at: Exchange, _: Direct) -> Hostile:
    return at.earlier(RevealRequest, at.node.member)[-1]


# -- masks with those who are gone ------------------------------------------------------------


def masks_for(at: Exchange, survivors: Iterable[str], votes: Mapping[str, bytes]) -> Hostile:
    request = ReleaseRequest(
        run=at.request.run,
        context=at.request.context,
        survivors=tuple(survivors),
        votes=dict(votes),
    )
    return request, b""


@deviation(SurvivorsNotice, "update 1", "has not seen that sum in the coordinator's ledger")
def _masks_before_the_vote(at: Exchange, _: Direct) -> Hostile:
    return masks_for(at, at.request.survivors, {})


@deviation(RevealRequest, "update 1", "masks are told for the survivors that were signed; no")
def _a_mask_with_one_who_is_there(at: Exchange, _: Direct) -> Hostile:
    other = other_than(at.node.member)
    return masks_for(at, [name for name in MEMBERS if name != other], at.request.votes)


@deviation(RevealRequest, "update 1", "3 of those who hold shares of {node} signed", CohortError)
def _masks_for_too_few_votes(at: Exchange, _: Direct) -> Hostile:
    return masks_for(at, MEMBERS, dict(list(at.request.votes.items())[:3]))


@deviation(RevealRequest, "update 2", "{other} did not sign these survivors of this sum")
def _masks_for_a_forged_vote(at: Exchange, _: Direct) -> Hostile:
    return masks_for(at, MEMBERS, {**at.request.votes, other_than(at.node.member): bytes(64)})


@deviation(TrainRequest, "update 2", "not under way here; nothing is told of another")
def _masks_of_a_sum_that_was_accepted(at: Exchange, _: Direct) -> Hostile:
    honest = at.earlier(RevealRequest, at.node.member)[-1][0]
    request = ReleaseRequest(
        run=honest.run, context=honest.context, survivors=honest.survivors, votes=honest.votes
    )
    return request, b""


# -- the sum ----------------------------------------------------------------------------------


def shown(at: Exchange, payload: bytes | None = None, **changes: object) -> Hostile:
    """The honest notice with its one part changed."""
    part: SumPart = msgspec.structs.replace(at.request.parts[0], **changes)
    return replaced(at.request, parts=(part,)), at.payload if payload is None else payload


def colluding(at: Exchange, values: Callable[[Loose], Loose]) -> Hostile:
    """A sum that a coordinator made up together with a member, who knows the tags' key."""
    session = at.session()
    step = session.plan(at.request.step, at.request.round)
    layout = step.layout
    honest = np.frombuffer(at.payload, "<u8").astype(np.uint64)[: -tag_words(layout)]
    total = layout.decode_sum(honest, step.length, len(MEMBERS))
    wanted = np.rint(values(total.copy()) / layout.step).astype(np.int64)
    fields = (wanted + layout.levels * len(MEMBERS)).astype(np.uint64)
    words = in_words(layout, fields)
    key = tag_key(session.agreed.key.tag_secret, step.contexts[0].digest())
    forged = with_tag_of_sum(words, layout=layout, key=key, parties=len(MEMBERS))
    return at.request, forged.tobytes()


@deviation(SumNotice, "update 1", "does not carry its members' tag", ends=True)
def _a_sum_that_was_changed_by_the_least(at: Exchange, _: Direct) -> Hostile:
    words = np.frombuffer(at.payload, "<u8").copy()
    words[0] += np.uint64(1)
    return at.request, words.tobytes()


@deviation(SumNotice, "update 1", "does not carry its members' tag", ends=True)
def _a_sum_whose_tag_was_changed(at: Exchange, _: Direct) -> Hostile:
    words = np.frombuffer(at.payload, "<u8").copy()
    words[-1] += np.uint64(1)
    return at.request, words.tobytes()


@deviation(SumNotice, "update 1", "does not carry its members' tag", ends=True)
def _a_sum_that_was_made_up(at: Exchange, _: Direct) -> Hostile:
    return at.request, random_words(len(at.payload) // 8).tobytes()


@deviation(SumNotice, "evaluate watch 1", "does not carry its members' tag", ends=True)
def _a_sum_of_nothing(at: Exchange, _: Direct) -> Hostile:
    # A tag without a constant would be nothing as well.
    return at.request, bytes(len(at.payload))


@deviation(SumNotice, "update 1", "does not carry its members' tag", ends=True)
def _a_sum_of_nothing_in_place_of_an_update(at: Exchange, _: Direct) -> Hostile:
    return at.request, bytes(len(at.payload))


@deviation(SumNotice, "update 1", "does not carry its members' tag", ends=True)
def _a_sum_that_was_doubled(at: Exchange, _: Direct) -> Hostile:
    return at.request, (2 * np.frombuffer(at.payload, "<u8")).tobytes()


@deviation(SumNotice, "update 2", "does not carry its members' tag", ends=True)
def _the_sum_of_an_earlier_round_under_the_votes_of_this(at: Exchange, _: Direct) -> Hostile:
    notices = at.earlier(SumNotice, at.node.member)
    earlier = next(payload for notice, payload in notices if notice.step == "update")
    return at.request, earlier


@deviation(TrainRequest, "update 2", "did not sign these survivors of this sum")
def _the_sum_of_an_earlier_round_as_the_next(at: Exchange, _: Direct) -> Hostile:
    notices = at.earlier(SumNotice, at.node.member)
    notice, payload = next(words for words in notices if words[0].step == "update")
    return replaced(notice, round=2), payload


@deviation(TrainRequest, "update 2", "Rounds are trained one after the other")
def _the_same_sum_twice(at: Exchange, _: Direct) -> Hostile:
    notices = at.earlier(SumNotice, at.node.member)
    return next(words for words in notices if words[0].step == "update")


def shown_early(at: Exchange, survivors: tuple[str, ...], votes: Mapping[str, bytes]) -> Hostile:
    """A sum of round 2, of which the node has not revealed anything yet."""
    payload = bytes(64)
    part = SumPart(survivors=survivors, votes=dict(votes), length=len(payload))
    return SumNotice(run=at.request.run, step="update", round=2, parts=(part,)), payload


@deviation(RevealRequest, "update 2", "did not sign these survivors of this sum")
def _a_sum_over_survivors_who_were_not_signed(at: Exchange, _: Direct) -> Hostile:
    votes = {n: sign for n, sign in at.request.votes.items() if n != MEMBERS[-1]}
    return shown_early(at, MEMBERS[:-1], votes)


@deviation(RevealRequest, "update 2", "{last} votes on a sum that it is not part of")
def _a_sum_signed_by_one_who_is_not_in_it(at: Exchange, _: Direct) -> Hostile:
    last = MEMBERS[-1]
    return shown_early(at, MEMBERS[:-1], {last: at.request.votes[last]})


@deviation(SumNotice, "update 1", "{first} did not sign these survivors of this sum")
def _a_sum_without_one_whose_share_was_revealed(at: Exchange, _: Direct) -> Hostile:
    return shown(at, survivors=MEMBERS[:-1])


@deviation(SumNotice, "update 1", "4 of those who hold shares of {node} signed", CohortError)
def _a_sum_with_too_few_votes(at: Exchange, _: Direct) -> Hostile:
    return shown(at, votes=dict(list(at.request.parts[0].votes.items())[:4]))


@deviation(SumNotice, "update 1", "0 members are left", CohortError)
def _a_sum_over_nobody(at: Exchange, _: Direct) -> Hostile:
    return shown(at, b"", survivors=(), votes={}, length=0)


@deviation(SumNotice, "update 1", "more than a third of those who hold shares", CohortError)
def _a_sum_over_four_of_six(at: Exchange, _: Direct) -> Hostile:
    return shown(at, survivors=MEMBERS[:4])


@deviation(SumNotice, "update 1", "has another length than was announced")
def _a_payload_that_was_cut_off(at: Exchange, _: Direct) -> Hostile:
    return at.request, at.payload[:-8]


@deviation(SumNotice, "update 1", "has another length than was sealed", ends=True)
def _a_sum_that_is_a_word_short(at: Exchange, _: Direct) -> Hostile:
    return shown(at, at.payload[:-8], length=len(at.payload) - 8)


@deviation(SumNotice, "update 1", "shown all at once, one for each group")
def _two_sums_where_one_is_due(at: Exchange, _: Direct) -> Hostile:
    part = at.request.parts[0]
    return replaced(at.request, parts=(part, part)), 2 * at.payload


@deviation(SumNotice, "update 1", "shown all at once, one for each group")
def _no_sum_where_one_is_due(at: Exchange, _: Direct) -> Hostile:
    return replaced(at.request, parts=()), b""


@deviation(SumNotice, "update 1", "statistics are asked for out of order")
def _statistics_shown_a_second_time(at: Exchange, _: Direct) -> Hostile:
    return at.earlier(SumNotice, at.node.member)[0]


@deviation(SumNotice, "statistics 0", "The model is asked for after the statistics")
def _an_update_in_place_of_statistics(at: Exchange, _: Direct) -> Hostile:
    return replaced(at.request, step="update", round=1), at.payload


@deviation(SumNotice, "update 1", "Only statistics, updates and evaluations are summed")
def _a_sum_of_something_else(at: Exchange, _: Direct) -> Hostile:
    return replaced(at.request, step="model"), at.payload


@deviation(SumNotice, "update 1", "an opened sum is out of range", ends=True)
def _a_sum_out_of_range_with_a_members_tag(at: Exchange, _: Direct) -> Hostile:
    session = at.session()
    step = session.plan("update", 1)
    words = np.full(step.layout.words(step.length), 2**step.layout.word_bits - 1, np.uint64)
    key = tag_key(session.agreed.key.tag_secret, step.contexts[0].digest())
    forged = with_tag_of_sum(words, layout=step.layout, key=key, parties=len(MEMBERS))
    return at.request, forged.tobytes()


@deviation(SumNotice, "update 1", "The members' weights are out of range", ends=True)
def _weights_of_nothing_with_a_members_tag(at: Exchange, _: Direct) -> Hostile:
    def weightless(total: Loose) -> Loose:
        total[-1] = 0.0
        return total

    return colluding(at, weightless)


@deviation(SumNotice, "update 1", "The opened mean is beyond every member's clip", ends=True)
def _a_mean_beyond_the_clip_with_a_members_tag(at: Exchange, _: Direct) -> Hostile:
    def enormous(total: Loose) -> Loose:
        total[:-1] = 5.0
        total[-1] = 0.5
        return total

    return colluding(at, enormous)


@deviation(SumNotice, "update 1", "longer than any member's change may be", ends=True)
def _a_mean_longer_than_allowed_with_a_members_tag(at: Exchange, _: Direct) -> Hostile:
    def long(total: Loose) -> Loose:
        total[:-1] = 0.9 * total[-1]
        return total

    return colluding(at, long)


# -- the run that is attacked -----------------------------------------------------------------


GOING_ON = [name for name, one in DEVIATIONS.items() if not one.ends]
ENDING = [name for name, one in DEVIATIONS.items() if one.ends]


@pytest.fixture(name="attacked", scope="module")
def _attacked(tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    return attack_run(tmp_path_factory.mktemp("attacked"), deviation, GOING_ON)


@pytest.mark.parametrize("name", GOING_ON)
def test_a_node_refuses(attacked: Attacked, name: str) -> None:
    check_refused(DEVIATIONS[name], attacked.outcomes[name])


def test_a_run_that_was_attacked_at_every_message_ends_as_an_honest_one(attacked: Attacked) -> None:
    assert len(GOING_ON) == len(attacked.outcomes) >= 40
    run = attacked.run
    assert run.notes.rounds == [(1, True), (2, True)]
    assert run.notes.sentences == []
    assert set(run.models()) == set(MEMBERS)
    assert len(set(run.models().values())) == 1


@pytest.mark.parametrize("name", ENDING)
def test_a_node_that_was_shown_a_sum_that_does_not_hold_leaves_the_run(
    tmp_path: Path, name: str
) -> None:
    attacked = attack_run(tmp_path, deviation, [name])
    outcome = attacked.outcomes[name]
    check_refused(DEVIATIONS[name], outcome)
    run = attacked.run
    node = next(one for one in run.nodes.values() if one.member == outcome.node)
    # It is not asked which sums hold, one after the other: it tells nothing of this run any more.
    for member, request, payload in watched(run).asked:
        if member == outcome.node:
            with pytest.raises(ProtocolError, match="joined"):
                node.handle(request, payload)
    # The others were shown the right one, and come to the end.
    assert set(run.models()) == set(MEMBERS) - {outcome.node}
    assert len(set(run.models().values())) == 1


# -- runs of their own ------------------------------------------------------------------------


class _EnoughError(Exception):
    """The hostile coordinator has what it wanted, and ends the run."""


def request_kinds() -> list[type]:
    return list(get_args(Request))


def test_there_is_no_message_in_which_a_model_could_be_sent() -> None:
    # Whatever a request holds is a name, a digest, a signature, a number of steps, an envelope, or
    # an entry of the ledger with its proof.
    known = {"run", "accepted", "stage", "round", "part", "context", "survivors", "votes", "boxes"}
    known |= {"step", "parts", "manifest", "signature", "offers", "fingerprint", "public"}
    known |= {"carrier", "secret", "keys", "record", "cosignatures", "origin", "state"}
    known |= {"launcher", "countersigner", "countersignature", "rotations"}
    for kind in request_kinds():
        assert {one.name for one in msgspec.structs.fields(kind)} <= known, kind
    assert {one.name for one in msgspec.structs.fields(SumPart)} == {"survivors", "votes", "length"}
    record = {one.name for one in msgspec.structs.fields(RecordedSum)}
    assert record == {"leaf", "index", "path", "state"}
    assert {one.name for one in msgspec.structs.fields(ShownRotation)} == {"leaf", "index", "path"}
    assert {one.name for one in msgspec.structs.fields(SignedState)} == {
        "checkpoint",
        "old",
        "growth",
    }


def test_nothing_but_a_sum_has_a_payload(tmp_path: Path) -> None:
    run = federation(tmp_path, MEMBERS, personal={"epochs": 1})
    run.transport.away = lambda member, request, _: (
        member == "west" and isinstance(request, TrainRequest) and request.round == 1
    )
    refused: set[str] = set()

    def strike(at: Exchange) -> None:
        if not isinstance(at.request, SumNotice):
            with pytest.raises(ProtocolError, match="A payload came with a request that has none"):
                at.node.handle(at.request, b"model")
            refused.add(type(at.request).__name__)

    watched(run).hostile = strike
    run.run()
    run.witness()
    invite, _ = invited(run, run="next-run")
    assert isinstance(invite, Invite)
    asked = CountersignRequest(manifest=invite.manifest, signature=invite.signature)
    for node in run.nodes.values():
        with pytest.raises(ProtocolError, match="A payload came with a request that has none"):
            node.handle(asked, b"model")
        with pytest.raises(ProtocolError, match="A payload came with a request that has none"):
            node.handle(StopNotice(run=run.manifest.digest()), b"model")
    # asked in runs whose suite has pairs exchange secrets (tests/attacks/test_pair_keys.py)
    refused |= {"CountersignRequest", "StopNotice", "PairRequest", "PairNotice"}
    assert refused == {kind.__name__ for kind in request_kinds()} - {"SumNotice"}


def test_a_node_that_was_started_again_refuses_every_request_of_the_run(tmp_path: Path) -> None:
    run = federation(tmp_path, MEMBERS)
    run.run()
    asked_before = watched(run).asked
    again = {node.member: Node(node._settings) for node in run.nodes.values()}
    for member, request, payload in asked_before:
        expected = "joined that run already" if isinstance(request, Invite) else "has not joined"
        with pytest.raises(ProtocolError, match=expected):
            again[member].handle(request, payload)
    # It forgot no more than the run: it joins the next one.
    for node in again.values():
        node.handle(*invited(run, run="next-run"))


def test_a_node_that_was_started_again_within_a_sum_tells_nothing_of_it(tmp_path: Path) -> None:
    run = federation(tmp_path, MEMBERS)
    tried: list[str] = []

    def strike(at: Exchange) -> None:
        if isinstance(at.request, SurvivorsNotice | RevealRequest | SumNotice):
            with pytest.raises(ProtocolError, match="has not joined that run"):
                Node(at.node._settings).handle(at.request, at.payload)
            tried.append(at.step)

    watched(run).hostile = strike
    run.run()
    assert len(tried) == 3 * 6 * 6  # messages, members, sums


def test_a_finished_run_is_asked_nothing_more(tmp_path: Path) -> None:
    run = federation(tmp_path, MEMBERS)
    run.run()
    nodes = {node.member: node for node in run.nodes.values()}
    for member, request, payload in watched(run).asked:
        if isinstance(request, FinishNotice):
            # the answer may have been lost, and says nothing
            assert nodes[member].handle(request, payload) == (Ready(member=member), b"")
        elif not isinstance(request, Invite):
            with pytest.raises(ProtocolError, match="has not joined that run"):
                nodes[member].handle(request, payload)


def test_validation_rows_are_not_watched_after_the_test(tmp_path: Path) -> None:
    run = federation(tmp_path, MEMBERS)
    # The last validation is withheld, so that it could still be had after the test.
    run.transport.away = lambda _, request, __: (
        isinstance(request, EvaluateRequest) and request.part == "watch" and request.round == 2
    )
    refused: list[str] = []

    def strike(at: Exchange) -> None:
        if isinstance(at.request, FinishNotice):
            late = EvaluateRequest(
                run=at.request.run, accepted=at.request.accepted, round=2, part="watch"
            )
            with pytest.raises(ProtocolError, match="nothing is watched after its test"):
                at.node.handle(late)
            refused.append(at.node.member)

    watched(run).hostile = strike
    run.run()
    assert refused == list(MEMBERS)
    assert run.notes.rounds == [(1, True), (2, False)]


def test_the_initial_model_is_not_remembered_for_each_way_to_ask_for_it(tmp_path: Path) -> None:
    """Once it goes on, a node looks at nobody's acceptance; words without end would fill it."""
    run = federation(tmp_path, MEMBERS)
    kept: set[tuple[int, int]] = set()

    def strike(at: Exchange) -> None:
        if not isinstance(at.request, TrainRequest) or at.request.round != 1:
            return
        before = len(at.session().answered)
        told = {
            at.node.handle(InitialModelRequest(run=at.request.run, accepted={"spy": bytes([word])}))
            for word in range(20)
        }
        kept.add((len(told), len(at.session().answered) - before))

    watched(run).hostile = strike
    run.run()
    assert kept == {(1, 0)}


# Seven lines of three points, of which any two meet in one: seven equations for seven unknowns.
FANO = ((1, 2, 3), (1, 4, 5), (1, 6, 7), (2, 4, 6), (2, 5, 7), (3, 4, 7), (3, 5, 6))


def test_a_coordinator_that_chooses_who_is_missing_learns_no_member_from_many_sums(
    tmp_path: Path,
) -> None:
    """Any two of these validations differ by three members or four; all of them, by one."""
    names = tuple(f"m{index:02}" for index in range(10))
    training = {"rounds": 1 + len(FANO), "batch_rows": 64, "learning_rate": 0.01}
    run = federation(tmp_path, names, rows=40, training=training)
    missing = {place: {names[i] for i in line} for place, line in enumerate(FANO, start=2)}
    run.transport.away = lambda member, request, _: (
        isinstance(request, EvaluateRequest)
        and request.part == "watch"
        and member in missing.get(request.round, ())
    )
    run.run()
    opened = [
        tuple(body["members"])
        for kind, body in run.notes.entries
        if kind == "sum.opened" and body["step"] == "evaluate watch"
        if isinstance(body["members"], list)
    ]
    assert opened == [names]


def test_an_evaluation_that_a_node_missed_is_not_asked_of_it_once_its_sum_is_there(
    tmp_path: Path,
) -> None:
    """It would be the one vector that the opened sum is without."""
    run = federation(tmp_path, MEMBERS)
    run.transport.away = lambda member, request, _: (
        member == "mill" and isinstance(request, EvaluateRequest) and request.round == 1
    )
    refused: list[str] = []

    def strike(at: Exchange) -> None:
        if isinstance(at.request, TrainRequest) and at.request.round == 2:
            late = EvaluateRequest(
                run=at.request.run, accepted=at.request.accepted, round=1, part="watch"
            )
            with pytest.raises(ProtocolError, match="A model is evaluated once"):
                at.node.handle(late)
            refused.append(at.node.member)

    watched(run).hostile = strike
    run.run()
    assert refused == list(MEMBERS)
    assert (1, True) in run.notes.rounds


def test_two_members_who_were_shown_two_sums_do_not_go_on_together(tmp_path: Path) -> None:
    """The coordinator has a member's tag key, and shows one node a sum of its own making."""
    run = federation(tmp_path, MEMBERS)
    nodes = {node.member: node for node in run.nodes.values()}
    victim, *others = MEMBERS

    def shifted(total: Loose) -> Loose:
        total[:-1] = -total[:-1]
        return total

    def strike(at: Exchange) -> None:
        if not isinstance(at.request, SumNotice) or at.step != "update 1":
            return
        assert at.node.member == victim
        lied, _ = at.node.handle(*colluding(at, shifted))
        told = {name: nodes[name].handle(at.request, at.payload)[0] for name in others}
        assert isinstance(lied, Accepted)
        accepted = {n: r.signature for n, r in told.items() if isinstance(r, Accepted)}
        ask = EvaluateRequest(run=at.request.run, accepted=accepted, round=1, part="watch")
        with pytest.raises(ProtocolError, match=r"east did not accept .* may have shown two"):
            nodes[victim].handle(ask)
        with pytest.raises(CohortError, match="1 members accepted the same sums and 5 are needed"):
            nodes[victim].handle(replaced(ask, accepted={victim: lied.signature}))
        both = replaced(ask, accepted={**accepted, victim: lied.signature})
        for name in others:
            with pytest.raises(ProtocolError, match=f"{victim} did not accept"):
                nodes[name].handle(both)
        # Those who were shown the same sum are enough, and go on without it.
        for name in others:
            reply, _ = nodes[name].handle(ask)
            assert isinstance(reply, Sealed)
        raise _EnoughError

    watched(run).hostile = strike
    with pytest.raises(_EnoughError):
        run.run()


def test_members_who_hold_two_models_cancel_no_masks(tmp_path: Path) -> None:
    """Even if the rule on who goes on were not there, the vectors are for different sums."""
    run = federation(tmp_path, MEMBERS)
    nodes = {node.member: node for node in run.nodes.values()}
    victim, *others = MEMBERS

    def strike(at: Exchange) -> None:
        if not isinstance(at.request, SumNotice) or at.step != "update 1":
            return
        at.node.handle(*colluding(at, lambda total: total * 0.5))
        for name in others:
            nodes[name].handle(at.request, at.payload)
        sealed = {}
        for name, node in nodes.items():
            node._sessions[at.request.run].confirmed = True  # the defence taken away
            ask = TrainRequest(run=at.request.run, accepted={}, round=2)
            reply, payload = node.handle(ask)
            assert isinstance(reply, Sealed)
            sealed[name] = SealedVector.from_wire(reply.header, payload)
        assert len({vector.context for vector in sealed.values()}) == 2
        total = np.sum([words_of(vector) for vector in sealed.values()], axis=0, dtype=np.uint64)
        assert looks_random(np.asarray(total))
        # Nobody votes with the victim, and it takes five.
        hand, ours = own_hand(run), at.request.run
        heads = heads_of(nodes, ours)
        notice = SurvivorsNotice(
            run=ours,
            context=sealed[victim].context,
            survivors=MEMBERS,
            record=hand.recorded(
                body_of(nodes[victim], ours, heads), old=seen_by(run, nodes[victim])
            ),
        )
        vote, _ = nodes[victim].handle(notice)
        assert isinstance(vote, Voted)
        for name in others:
            with pytest.raises(ProtocolError, match="not under way here"):
                nodes[name].handle(notice)
        raise _EnoughError

    watched(run).hostile = strike
    with pytest.raises(_EnoughError):
        run.run()


TWELVE = tuple(f"member-{index:02}" for index in range(12))


def test_a_group_that_is_hidden_from_one_member_parts_it_from_the_others(tmp_path: Path) -> None:
    run = federation(tmp_path, TWELVE, rows=40, protection={"robust": "groups", "group_size": 3})
    nodes = {node.member: node for node in run.nodes.values()}
    victim, *others = TWELVE

    def strike(at: Exchange) -> None:
        if not isinstance(at.request, SumNotice) or at.step != "update 1":
            return
        parts, start, kept, payload = at.request.parts, 0, [], b""
        hidden = next(place for place, part in enumerate(parts) if victim not in part.survivors)
        for place, part in enumerate(parts):
            piece = at.payload[start : start + part.length]
            start += part.length
            kept.append(SumPart(survivors=(), votes={}, length=0) if place == hidden else part)
            payload += b"" if place == hidden else piece
        shorter = replaced(at.request, parts=tuple(kept))
        with pytest.raises(ProtocolError, match="has another length than was announced"):
            nodes[victim].handle(at.request, payload)
        turned = replaced(shorter, parts=tuple(reversed(kept)))
        with pytest.raises(ProtocolError, match="is not asked for this sum"):
            nodes[victim].handle(turned, payload)
        lied, _ = nodes[victim].handle(shorter, payload)
        assert isinstance(lied, Accepted)
        told = {name: nodes[name].handle(at.request, at.payload)[0] for name in others}
        accepted = {n: r.signature for n, r in told.items() if isinstance(r, Accepted)}
        ask = EvaluateRequest(run=at.request.run, accepted=accepted, round=1, part="watch")
        with pytest.raises(ProtocolError, match="member-01 did not accept the sums that this node"):
            nodes[victim].handle(ask)
        for name in others:
            assert isinstance(nodes[name].handle(ask)[0], Sealed)
        raise _EnoughError

    watched(run).hostile = strike
    with pytest.raises(_EnoughError):
        run.run()


def test_a_member_is_not_asked_for_a_sum_of_another_group(tmp_path: Path) -> None:
    run = federation(tmp_path, TWELVE, rows=40, protection={"robust": "groups", "group_size": 3})
    refused: list[str] = []

    def strike(at: Exchange) -> None:
        if not isinstance(at.request, SurvivorsNotice) or not at.step.startswith("update"):
            return
        mine = at.request.survivors
        stranger = next(name for name in TWELVE if name not in mine)
        wider = replaced(at.request, survivors=tuple(sorted((*mine, stranger))))
        with pytest.raises(ProtocolError, match=f"{stranger} is not asked for this sum"):
            at.node.handle(wider)
        everyone = at.session().agreed.everyone
        context = replace(at.session().step.contexts[0], cohort=everyone.digest).digest()
        with pytest.raises(ProtocolError, match="not under way here"):
            at.node.handle(replaced(at.request, context=context, survivors=TWELVE))
        refused.append(at.node.member)

    watched(run).hostile = strike
    run.run()
    assert sorted(refused) == sorted(2 * TWELVE)


def test_the_policy_of_a_node_is_stricter_than_any_launcher(tmp_path: Path) -> None:
    policy = NodePolicy(minimum_cohort=4, tasks=("failure",), sums=("sealed",))
    run = federation(tmp_path, MEMBERS, policy=policy)
    node = next(iter(run.nodes.values()))
    for changes, sentence in (
        ({"minimum_cohort": 3}, "no task 'credit'"),
        ({"task": "failure"}, "opens sums of 3 members; this node insists on at least 4"),
        ({"task": "failure", "minimum_cohort": 4}, "names two different tasks"),
        (
            {
                "task": "failure",
                "minimum_cohort": 4,
                "node_settings": {**run.manifest.node_settings, "task": "failure"},
            },
            "asks for 'masked' sums of data above class L1; this node's policy allows sealed",
        ),
    ):
        with pytest.raises(RefusedError, match=sentence):
            node.handle(*invited(run, **changes))
    kinds = [entry.kind for entry in entries_of(node._ledger.leaves())]
    assert kinds == ["ledger.begun", *["run.refused"] * 4]


# -- sealers ----------------------------------------------------------------------------------


@dataclass
class Underway:
    """A sum of six sealers that all sealed their vectors."""

    group: Group
    sealers: dict[str, Sealer]
    vectors: dict[str, SealedVector]
    context: bytes

    def vote(self, survivors: tuple[str, ...], *names: str) -> list[Vote]:
        return votes_of(
            [self.sealers[name] for name in names or survivors], self.context, survivors
        )

    def boxes(self, name: str, survivors: tuple[str, ...]) -> dict[str, bytes]:
        return {peer: self.vectors[peer].boxes[name] for peer in survivors if peer != name}


def underway(*, scheme: str = "masked") -> Underway:
    made = group(MEMBERS, scheme=scheme)
    sealers, context = made.sealers(), made.context()
    vectors = {name: made.seal(sealer, context) for name, sealer in sealers.items()}
    return Underway(made, sealers, vectors, context.digest())


FIVE, OTHER_FIVE = MEMBERS[:5], (*MEMBERS[:4], MEMBERS[5])
Attack = Callable[[Underway], object]
ATTACKS: dict[str, tuple[Attack, str, type[ProtocolError]]] = {}


def attack(sentence: str, error: type[ProtocolError] = ProtocolError) -> Callable[[Attack], Attack]:
    def kept(tried: Attack) -> Attack:
        name = tried.__name__.removeprefix("_").replace("_", " ")
        ATTACKS[name] = tried, sentence, error
        return tried

    return kept


@attack("survivors of a sum can only become fewer")
def _survivors_that_grow(on: Underway) -> object:
    on.vote(FIVE, "bank")
    return on.sealers["bank"].vote(on.context, MEMBERS)


@attack("survivors of a sum can only become fewer")
def _survivors_of_whom_one_is_exchanged(on: Underway) -> object:
    on.vote(FIVE, "bank")
    return on.sealers["bank"].vote(on.context, OTHER_FIVE)


@attack("survivors are settled; they cannot be changed now")
def _fewer_survivors_after_the_shares_were_revealed(on: Underway) -> object:
    votes = on.vote(MEMBERS)
    on.sealers["bank"].reveal(on.context, MEMBERS, votes, on.boxes("bank", MEMBERS))
    return on.sealers["bank"].vote(on.context, FIVE)


@attack("masks are told for the survivors that were signed; no others")
def _shares_for_all_after_one_was_given_up(on: Underway) -> object:
    votes = on.vote(MEMBERS)
    on.vote(FIVE, "bank")  # gives the mask that it shares with the sixth
    return on.sealers["bank"].reveal(on.context, MEMBERS, votes, on.boxes("bank", MEMBERS))


@attack("4 of those who hold shares of bank signed", CohortError)
def _the_mask_with_one_whom_too_few_gave_up(on: Underway) -> object:
    votes = on.vote(FIVE, *FIVE[:4])
    return on.sealers["bank"].release(on.context, FIVE, votes)


@attack("masks are told for the survivors that were signed; no others")
def _the_mask_with_one_whose_share_was_revealed(on: Underway) -> object:
    votes = on.vote(MEMBERS)
    on.sealers["bank"].reveal(on.context, MEMBERS, votes, on.boxes("bank", MEMBERS))
    return on.sealers["bank"].release(on.context, FIVE, on.vote(FIVE, *FIVE[1:]))


@attack("masks are told for the survivors that were signed; no others")
def _the_share_of_one_with_whom_the_mask_was_told(on: Underway) -> object:
    votes = on.vote(MEMBERS)
    on.sealers["bank"].release(on.context, FIVE, on.vote(FIVE))
    return on.sealers["bank"].reveal(on.context, MEMBERS, votes, on.boxes("bank", MEMBERS))


@attack("a share's box of each surviving neighbour is due, and no other")
def _the_share_of_one_who_was_given_up(on: Underway) -> object:
    votes = on.vote(FIVE)
    return on.sealers["bank"].reveal(on.context, FIVE, votes, on.boxes("bank", MEMBERS))


@attack("east is counted twice; give each vote once")
def _one_vote_counted_twice(on: Underway) -> object:
    votes = on.vote(MEMBERS)
    twice = [*votes[:4], votes[1]]
    return on.sealers["bank"].reveal(on.context, MEMBERS, twice, on.boxes("bank", MEMBERS))


@attack("west votes on a sum that it is not part of")
def _the_vote_of_one_who_was_left_out(on: Underway) -> object:
    early = on.vote(MEMBERS, "west")
    votes = on.vote(FIVE)
    return on.sealers["bank"].reveal(on.context, FIVE, [*votes[:4], *early], on.boxes("bank", FIVE))


@attack("did not sign these survivors of this sum")
def _votes_on_more_survivors_than_are_revealed_for(on: Underway) -> object:
    votes = on.vote(MEMBERS)
    on.vote(FIVE, "bank")
    return on.sealers["bank"].reveal(on.context, FIVE, votes[:5], on.boxes("bank", FIVE))


@attack("3 of those who hold shares of bank signed", CohortError)
def _two_sets_of_survivors_shown_to_two_halves(on: Underway) -> object:
    on.vote(MEMBERS)
    on.vote(FIVE, "north", "mill", "south")
    votes = on.vote(FIVE, "bank", "east") + on.vote(FIVE, "north")
    return on.sealers["bank"].reveal(on.context, FIVE, votes, on.boxes("bank", FIVE))


@attack("not under way here; nothing is told of another")
def _a_vote_on_a_sum_after_the_next_was_sealed(on: Underway) -> object:
    on.group.seal(on.sealers["bank"], on.group.context(2))
    return on.sealers["bank"].vote(on.context, MEMBERS)


@attack("not under way here; nothing is told of another")
def _shares_of_a_sum_after_the_next_was_sealed(on: Underway) -> object:
    votes = on.vote(MEMBERS)
    on.group.seal(on.sealers["bank"], on.group.context(2))
    return on.sealers["bank"].reveal(on.context, MEMBERS, votes, on.boxes("bank", MEMBERS))


@attack("this sum was already sealed; no mask hides two vectors")
def _a_second_vector_under_one_mask(on: Underway) -> object:
    return on.group.seal(on.sealers["bank"], on.group.context())


@attack("this sum was already sealed; no mask hides two vectors")
def _a_second_vector_after_the_sealer_was_made_again(on: Underway) -> object:
    # The memory belongs to the key, which is lost with it.
    return on.group.seal(on.group.sealer("bank"), on.group.context())


@attack("not under way here; nothing is told of another")
def _a_vote_of_a_sealer_that_was_made_again(on: Underway) -> object:
    return on.group.sealer("bank").vote(on.context, MEMBERS)


@attack("the sum is of another run")
def _a_vector_for_another_run(on: Underway) -> object:
    return on.group.seal(on.sealers["bank"], on.group.context(2, run=b"run-2"))


@attack("the sum is over another roster")
def _a_vector_for_another_roster(on: Underway) -> object:
    return on.group.seal(on.sealers["bank"], on.group.context(2, roster=bytes(32)))


@attack("the sum is over another cohort")
def _a_vector_for_another_cohort(on: Underway) -> object:
    return on.group.seal(on.sealers["bank"], on.group.context(2, cohort=bytes(32)))


@attack("bank is not asked for this sum; leave it out")
def _a_vector_for_a_cohort_that_the_member_is_not_in(on: Underway) -> object:
    cohort = Cohort(on.group.roster, MEMBERS[1:], 3)
    return on.sealers["bank"].seal(
        random_words(2), bits=63, context=on.group.context(2, cohort=cohort.digest), cohort=cohort
    )


@attack("2 members is asked for and this side insists on 3", CohortError)
def _a_cohort_of_two(on: Underway) -> object:
    return Cohort(on.group.roster, MEMBERS[:2], 3)


@attack("members are given once each, in order")
def _a_cohort_with_a_member_twice(on: Underway) -> object:
    return Cohort(on.group.roster, ("bank", "bank", "east", "mill"), 3)


@attack("spy is not in this run's roster")
def _a_cohort_with_a_stranger(on: Underway) -> object:
    return Cohort(on.group.roster, ("bank", "east", "spy"), 3)


def _part_of(on: Underway) -> Roster:
    offers = [offer for name, offer in on.group.offers.items() if name != "west"]
    return admit(offers, run=RUN, directory=on.group.directory, minimum=3)


def _sealer_for(on: Underway, roster: Roster, **changes: Loose) -> Sealer:
    how: dict[str, Loose] = {
        "identity": on.group.identities["bank"],
        "key": on.group.keys["bank"],
        "scheme": "masked",
        "wrap": on.group.group_keys["bank"].carrier.wrap,
        "masked": True,
        "entropy": system_bytes,
    }
    return Sealer("bank", roster=roster, **{**how, **changes})


@attack("an exchange key serves one roster; offer a new key for this one")
def _one_key_for_a_second_roster(on: Underway) -> object:
    return _sealer_for(on, _part_of(on))


@attack("the roster holds another exchange key for bank")
def _a_roster_with_an_old_key_of_the_member(on: Underway) -> object:
    key, _ = offer_key(
        on.group.identities["bank"],
        "bank",
        run=RUN,
        directory=on.group.directory,
        entropy=system_bytes,
    )
    return _sealer_for(on, on.group.roster, key=key)


@attack("the directory has another key for bank")
def _a_directory_with_another_identity_of_the_member(on: Underway) -> object:
    return _sealer_for(on, on.group.roster, identity=Identity.create(system_bytes))


@attack("a sum over one member hides nothing", CohortError)
def _a_roster_of_one(on: Underway) -> object:
    return _sealer_for(on, Roster(RUN, on.group.directory, (on.group.offers["bank"],)))


@attack("bank and east share a key; enrol each anew")
def _one_identity_under_two_names(on: Underway) -> object:
    directory = {**on.group.directory, "east": on.group.directory["bank"]}
    return admit(on.group.offers.values(), run=RUN, directory=directory, minimum=3)


@attack("bank and east offered the same key; start a new run")
def _one_exchange_key_under_two_names(on: Underway) -> object:
    copied = replace(on.group.offers["east"], exchange=on.group.offers["bank"].exchange)
    offers = {**on.group.offers, "east": copied}
    return admit(offers.values(), run=RUN, directory=on.group.directory, minimum=3)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_sealer_refuses(name: str) -> None:
    tried, sentence, error = ATTACKS[name]
    on = underway()
    with pytest.raises(error, match=sentence) as refused:
        tried(on)
    if error is not CohortError:
        assert not isinstance(refused.value, CohortError)
    # Whatever was tried, the next sum is as good as any.
    context = on.group.context(9)
    total = on.group.gathering(context)
    for sealer in on.sealers.values():
        total.take(on.group.seal(sealer, context))
    survivors = total.close()
    for sealer in on.sealers.values():
        total.take_vote(sealer.vote(total.context, survivors))
    for name_, sealer in on.sealers.items():
        total.take_answer(
            sealer.reveal(total.context, survivors, total.votes_for(name_), total.boxes_for(name_))
        )
    assert on.group.total(total.open().payload, context, 6) == pytest.approx(1.5, abs=1e-4)


def test_a_run_without_masks_has_nothing_to_reveal() -> None:
    on = underway(scheme="clear")
    with pytest.raises(ProtocolError, match="no masks; there is nothing to tell"):
        on.sealers["bank"].reveal(on.context, MEMBERS, on.vote(MEMBERS), {})


def test_the_same_words_are_answered_in_the_same_words() -> None:
    on = underway()
    bank, votes = on.sealers["bank"], on.vote(MEMBERS)
    assert bank.vote(on.context, MEMBERS) is bank.vote(on.context, MEMBERS)
    first = bank.reveal(on.context, MEMBERS, votes, on.boxes("bank", MEMBERS))
    assert bank.reveal(on.context, MEMBERS, votes, on.boxes("bank", MEMBERS)) is first
    assert bank.release(on.context, MEMBERS, votes).seeds == {}


def test_boxes_that_were_exchanged_give_no_share() -> None:
    on = underway()
    boxes = on.boxes("bank", MEMBERS)
    boxes["east"], boxes["mill"] = boxes["mill"], boxes["east"]
    answer = on.sealers["bank"].reveal(on.context, MEMBERS, on.vote(MEMBERS), boxes)
    assert set(answer.shares) == {"bank", "north", "south", "west"}


def test_a_box_of_another_sum_or_another_holder_gives_no_share() -> None:
    on = underway()
    later = on.group.context(2)
    vectors = {name: on.group.seal(sealer, later) for name, sealer in on.sealers.items()}
    votes = votes_of(on.sealers.values(), later.digest(), MEMBERS)
    boxes = {peer: vectors[peer].boxes["bank"] for peer in MEMBERS[1:]}
    boxes["east"] = on.vectors["east"].boxes["bank"]  # of the sum before
    boxes["mill"] = vectors["mill"].boxes["north"]  # for another
    boxes["north"] = vectors["bank"].boxes["north"]  # its own, sent back
    answer = on.sealers["bank"].reveal(later.digest(), MEMBERS, votes, boxes)
    assert set(answer.shares) == {"bank", "south", "west"}


# -- what is of no use, were it not refused ---------------------------------------------------


def added(vectors: Iterable[SealedVector], count: int) -> Loose:
    """What a coordinator computes that checks nothing."""
    return sum((words_of(vector) for vector in vectors), np.zeros(count, np.uint64))


def sealed_wide(
    made: Group,
    names: Iterable[str] = MEMBERS,
    **changes: Loose,
) -> dict[str, SealedVector]:
    """Zeros, sealed by fresh sealers: 400 words, so that chance does not look like a pattern."""
    context = made.context(**changes)
    zeros = np.zeros(400, np.uint64)
    return {name: made.seal(made.sealer(name), context, zeros) for name in names}


def test_one_sealed_vector_says_nothing() -> None:
    made = group(MEMBERS)
    for vector in sealed_wide(made).values():
        assert looks_random(words_of(vector))


def test_a_sum_that_nobody_unmasked_says_nothing() -> None:
    assert looks_random(added(sealed_wide(group(MEMBERS)).values(), 400))


@pytest.mark.parametrize("changed", ["model", "history", "schema", "keys"])
def test_members_who_differ_in_what_they_hold_cancel_no_masks(changed: str) -> None:
    made = group(MEMBERS)
    context = made.context()
    changes: dict[str, Loose] = {changed: b"x" * 32}
    other = replace(context, **changes)
    total = made.gathering(context)
    victim, *rest = MEMBERS
    zeros = np.zeros(400, np.uint64)
    vectors = [made.seal(made.sealer(name), context, zeros) for name in rest]
    odd = made.seal(made.sealer(victim), other, zeros)
    with pytest.raises(ProtocolError, match="bank sealed its vector for another sum"):
        total.take(odd)
    assert looks_random(added([odd, *vectors], 400))


def test_members_who_hold_different_rosters_cancel_no_masks() -> None:
    made = group(MEMBERS)
    offers = [offer for name, offer in made.offers.items() if name != "west"]
    part = replace(made, roster=admit(offers, run=RUN, directory=made.directory, minimum=3))
    for key in made.keys.values():
        key._roster.clear()  # the defence taken away
    odd = sealed_wide(made, ["bank"])["bank"]
    for key in made.keys.values():
        key._roster.clear()
    rest = sealed_wide(part, MEMBERS[1:5])
    with pytest.raises(ProtocolError, match="bank sealed its vector for another sum"):
        part.gathering(part.context()).take(odd)
    assert looks_random(added([odd, *rest.values()], 400))


def test_masks_of_two_sums_have_nothing_in_common() -> None:
    made = group(MEMBERS)
    first = words_of(sealed_wide(made)["bank"])
    assert looks_random(first - words_of(sealed_wide(made, round_index=2)["bank"]))
    assert looks_random(first - words_of(sealed_wide(made, step="evaluate watch")["bank"]))


def test_a_repeated_mask_would_show_the_difference() -> None:
    made = group(MEMBERS)
    zeros = np.zeros(400, np.uint64)
    sealer = made.sealer("bank")
    first = made.seal(sealer, made.context(), zeros)
    made.keys["bank"]._sealed.clear()  # the defence taken away
    second = made.seal(sealer, made.context(), zeros)
    # Masks with neighbours repeat; the own one, drawn anew each time, does not.
    assert looks_random(words_of(first) - words_of(second))


def test_a_coordinator_with_all_but_two_members_learns_the_sum_of_those_two_only() -> None:
    made = group(MEMBERS)
    context = made.context()
    vectors = {name: random_words(400) for name in MEMBERS}
    sealers = made.sealers()
    sealed = {name: made.seal(sealers[name], context, vectors[name]) for name in MEMBERS}
    total = made.gathering(context)
    for vector in sealed.values():
        total.take(vector)
    total.close()
    for sealer in sealers.values():
        total.take_vote(sealer.vote(total.context, MEMBERS))
    for name, sealer in sealers.items():
        total.take_answer(
            sealer.reveal(total.context, MEMBERS, total.votes_for(name), total.boxes_for(name))
        )
    honest, spies = ("bank", "west"), MEMBERS[1:-1]
    stripped = {}
    for name in honest:
        words = words_of(sealed[name])
        shift_by_keystream(words, [], [total._seed_of(name)])
        for spy in spies:
            secret = pair_secret(made.keys[spy], spy, name, made.roster)
            mask = [mask_key(secret, context.digest())]
            shift_by_keystream(words, [] if name < spy else mask, mask if name < spy else [])
        stripped[name] = words
    assert looks_random(stripped["bank"] - vectors["bank"])
    assert looks_random(stripped["west"] - vectors["west"])
    np.testing.assert_array_equal(
        stripped["bank"] + stripped["west"], vectors["bank"] + vectors["west"]
    )


def test_a_pair_secret_serves_one_pair_one_run_and_one_roster() -> None:
    made = group(MEMBERS)
    key = made.keys["bank"]
    part = replace(made.roster, offers=made.roster.offers[:4])
    later = replace(made.roster, run=b"run-2")
    secrets = {
        pair_secret(key, "bank", peer, roster)
        for peer in ("east", "mill")
        for roster in (made.roster, part, later)
    }
    assert len(secrets) == 6
    # The salt alone tells runs apart as well, should a roster ever not.
    later.__dict__["digest"] = made.roster.digest
    own = pair_secret(key, "bank", "east", made.roster)
    assert pair_secret(key, "bank", "east", later) != own
    assert pair_secret(made.keys["east"], "east", "bank", made.roster) == own


def test_a_group_key_of_one_run_opens_in_no_other() -> None:
    made, later = group(MEMBERS), group(MEMBERS, run=b"run-2")
    maker = maker_of(made.roster)
    _, envelopes = make_group_key(
        maker, made.identities[maker], made.roster, made.scheme, system_bytes
    )
    name = next(iter(envelopes))
    opened = open_group_key(name, made.keys[name], made.roster, made.scheme, envelopes[name])
    assert opened.tag_secret != made.group_keys[name].tag_secret  # each is made anew
    with pytest.raises(ProtocolError, match="not signed by"):
        open_group_key(name, later.keys[name], later.roster, later.scheme, envelopes[name])
    turned = replace(envelopes[name], fingerprint=b"f" * 32)
    with pytest.raises(ProtocolError, match=f"not signed by {maker}"):
        open_group_key(name, made.keys[name], made.roster, made.scheme, turned)
    another = next(member for member in MEMBERS if member != maker)
    with pytest.raises(ProtocolError, match=f"{maker} makes this run's key, not {another}"):
        make_group_key(another, made.identities[another], made.roster, made.scheme, system_bytes)


def test_every_deviation_was_tried() -> None:
    assert len(DEVIATIONS) + len(ATTACKS) > 100


def test_a_round_that_was_summed_in_secret_is_not_summed_again_without_one_member(
    tmp_path: Path,
) -> None:
    """Round 2 is summed before round 1 is watched, and asked for again after it."""
    run = federation(tmp_path, MEMBERS)
    nodes = {node.member: node for node in run.nodes.values()}
    refused: list[str] = []

    def sum_in_secret(request: EvaluateRequest) -> None:
        ask = TrainRequest(run=request.run, accepted=request.accepted, round=2)
        vectors = {}
        for name, node in nodes.items():
            reply, payload = node.handle(ask)
            assert isinstance(reply, Sealed)
            vectors[name] = SealedVector.from_wire(reply.header, payload)
        context = vectors["bank"].context
        body = body_of(nodes["bank"], request.run, heads_of(nodes, request.run))
        index = own_hand(run).recorded(body, old=0).index
        votes: dict[str, bytes] = {}
        cosignatures: dict[str, bytes] = {}
        for name, node in nodes.items():
            record = own_hand(run).shown(index, old=seen_by(run, node))
            vote, _ = node.handle(
                SurvivorsNotice(run=request.run, context=context, survivors=MEMBERS, record=record)
            )
            assert isinstance(vote, Voted)
            votes[name], cosignatures[name] = vote.signature, vote.cosignature
        for name, node in nodes.items():
            boxes = {peer: vectors[peer].boxes[name] for peer in MEMBERS if peer != name}
            node.handle(
                RevealRequest(
                    run=request.run,
                    context=context,
                    survivors=MEMBERS,
                    votes=votes,
                    cosignatures=cosignatures,
                    boxes=boxes,
                )
            )

    def strike(at: Exchange) -> None:
        if (
            isinstance(at.request, EvaluateRequest)
            and at.step == "evaluate watch 1"
            and at.node.member == MEMBERS[0]
        ):
            sum_in_secret(at.request)
        elif isinstance(at.request, TrainRequest) and at.request.round == 2:
            # the first round's validation was shown meanwhile: another history, another context
            with pytest.raises(ProtocolError, match="already sealed; it is not made again"):
                at.node.handle(at.request)
            refused.append(at.node.member)

    watched(run).hostile = strike
    with pytest.raises(CohortError, match="No member sent its update of round 2"):
        run.run()
    assert refused == list(MEMBERS)
