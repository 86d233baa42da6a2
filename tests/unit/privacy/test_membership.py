"""Who takes part in a federation: each rule of the fold, and that the coordinator, which checks an
act before it writes it, goes by the same."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from support.membership import (
    DAY_MS,
    FEDERATION,
    FOUNDER,
    ROOT,
    Acts,
    digest,
    key_of,
    public,
    signed,
)

from privacy.canonical import canonical_json
from privacy.errors import NotVerifiedError, RefusedError
from privacy.ledger.entry import make_entry
from privacy.membership import (
    NAME_CHARACTERS_MAX,
    PERIOD_MS,
    RENEWALS_MAX,
    Membership,
    acts_digest,
    after,
    check_next,
    fold,
    is_act,
    statement,
)
from privacy.secure_sum import MEMBER_CHARACTERS_MAX

Body = Mapping[str, Any]
OPERATORS_ONLY = "let an operator sign this"


def settled() -> Acts:
    return Acts().settled()


def asking() -> Acts:
    """A federation with a candidate."""
    return settled().candidate("echo", "bank")


def refused(acts: Acts, kind: str, body: Body, sentence: str) -> None:
    """Both the check before writing and the fold after it say no, with the same words."""
    before = acts.known
    with pytest.raises(RefusedError, match=sentence) as check:
        check_next(before, kind, body, acts.now_ms + 1000)
    assert not isinstance(check.value, NotVerifiedError)
    place = len(acts.entries)
    with pytest.raises(NotVerifiedError, match=rf"^entry {place}: .*{sentence}"):
        fold(acts.copy().forced(kind, body).entries)


# -- what holds --


def test_a_founder_begins_and_is_an_operator() -> None:
    membership = Acts().begin().membership
    assert (membership.federation, membership.root) == (FEDERATION, ROOT)
    assert (membership.founder, membership.approvals) == (FOUNDER, 2)
    assert membership.founder_key == key_of(FOUNDER).public
    founder = membership.participants[FOUNDER]
    assert (founder.role, founder.key) == ("operator", key_of(FOUNDER).public)
    assert founder.tls.hex() == digest("tls", FOUNDER)
    assert founder.certificates == (digest("certificate", FOUNDER, 1),)
    assert membership.members() == membership.launchers() == {}


def test_everybody_takes_part_whom_enough_approved() -> None:
    membership = settled().membership
    assert list(membership.active()) == ["amber", "birch", "cedar", "delta", FOUNDER, "regula"]
    assert list(membership.active("bank")) == ["amber", "birch"]
    members = ("amber", "birch", "cedar", "delta")
    assert membership.members() == {name: key_of(name).public for name in members}
    assert list(membership.launchers()) == ["amber", "birch", "delta"]
    assert list(membership.approvers()) == [*members, FOUNDER]
    assert membership.participants["cedar"].attributes == {"region": "north"}
    assert not membership.candidates
    assert not membership.invitations


def test_a_candidate_says_how_many_must_approve_it() -> None:
    acts = Acts().begin(approvals=3).candidate("amber", "bank")
    candidate = acts.membership.candidates["amber"]
    assert (candidate.needed, candidate.approvals, candidate.admissible) == (1, frozenset(), False)
    assert (candidate.role, candidate.key) == ("bank", key_of("amber").public)
    assert candidate.requested_ms == acts.now_ms
    assert candidate.tls.hex() == digest("tls", "amber")
    acts.candidate("birch", "regulator").approve("amber", [FOUNDER])
    assert acts.membership.candidates["amber"].admissible
    acts.certify("amber")
    # there are two now who could approve
    assert acts.membership.candidates["birch"].needed == 2
    acts.approve("birch", [FOUNDER])
    assert acts.membership.candidates["birch"].approvals == {FOUNDER}
    acts.approve("birch", ["amber"]).certify("birch").candidate("cedar", "bank")
    # a regulator is nobody who could
    assert acts.membership.candidates["cedar"].needed == 2


def test_as_many_approve_as_the_beginning_says() -> None:
    acts = Acts().begin(approvals=1).admit("amber", "bank", by=[FOUNDER])
    acts.admit("birch", "bank", by=["amber"])
    assert acts.candidate("cedar", "bank").membership.candidates["cedar"].needed == 1


def test_open_invitations_are_listed_until_they_are_used() -> None:
    acts = settled().invite("echo", "bank")
    (invitation,) = acts.membership.invitations.values()
    assert (invitation.name, invitation.role, invitation.by) == ("echo", "bank", FOUNDER)
    assert invitation.attributes == {"region": "north"}
    assert acts.request("echo", "bank").membership.invitations == {}


def test_an_invitation_is_good_to_its_last_millisecond() -> None:
    acts = settled()
    acts.invite("echo", "bank", expires_ms=acts.now_ms + 2000)
    acts.request("echo", "bank")
    assert "echo" in acts.membership.candidates


def test_keys_are_renewed_and_certified() -> None:
    acts = settled().renew("amber", "amber 2")
    renewed = acts.membership.participants["amber"]
    assert (renewed.key, renewed.tls.hex()) == (key_of("amber 2").public, digest("tls", "amber 2"))
    acts.certify("amber")
    certificates = acts.membership.participants["amber"].certificates
    assert certificates == tuple(digest("certificate", key, 1) for key in ("amber", "amber 2"))
    # and the new key speaks for it
    acts.candidate("echo", "bank").approve("echo", ["amber"])
    assert acts.membership.candidates["echo"].approvals == {"amber"}


def test_a_tls_key_alone_is_renewed() -> None:
    body = {"name": "amber", "key": public("amber"), "new": public("amber"), "tls": digest("next")}
    acts = settled()
    acts.act("member.renewed", signed("member.renewed", body, "amber", also="amber"))
    renewed = acts.membership.participants["amber"]
    assert (renewed.key, renewed.tls.hex()) == (key_of("amber").public, digest("next"))


def test_a_signing_key_alone_is_renewed() -> None:
    acts = settled()
    acts.act("member.renewed", acts.renewed("amber", "amber 2", tls=digest("tls", "amber")))
    assert acts.membership.participants["amber"].key == key_of("amber 2").public


def test_more_certificates_are_given_for_the_same_keys() -> None:
    acts = settled().certify("amber", number=2)
    assert len(acts.membership.participants["amber"].certificates) == 2


def test_who_was_revoked_is_kept_and_takes_no_part() -> None:
    acts = settled().revoke("amber")
    membership = acts.membership
    assert membership.participants["amber"].revoked
    for table in (membership.active(), membership.members(), membership.launchers()):
        assert "amber" not in table
    assert not membership.may_launch(key_of("amber").public)


def test_whose_keys_are_of_nobody_any_more() -> None:
    """Whoever renewed its key is the same; a name that was given anew is another's."""
    first, other = key_of("amber").public, key_of("amber 2").public
    stranger = key_of("nobody").public
    acts = settled()
    assert acts.membership.left({first, other, stranger}) == {other, stranger}
    acts.renew("amber", "amber 2").renew("amber", "amber 3")
    assert acts.membership.left({first, other, key_of("amber 3").public}) == frozenset()
    acts.revoke("amber")
    gone = {first, other, key_of("amber 3").public}
    assert acts.membership.left({*gone, key_of("birch").public}) == gone
    acts.admit("amber", "bank", by=["birch", "cedar"], key="amber 4")
    assert acts.membership.left({*gone, key_of("amber 4").public}) == gone
    assert fold(acts.entries).left(gone) == gone


def test_anybody_leaves_by_itself() -> None:
    for name in ("amber", "regula", FOUNDER):
        assert settled().revoke(name, by=name).membership.participants[name].revoked
    assert asking().revoke("echo", by="echo").membership.candidates == {}


def test_an_operator_turns_a_candidate_away() -> None:
    acts = asking().revoke("echo")
    assert acts.membership.candidates == {}
    assert "echo" not in acts.membership.participants
    # and may invite somebody of this name again
    acts.candidate("echo", "bank", key="echo 2")
    assert acts.membership.candidates["echo"].key == key_of("echo 2").public


def test_a_name_comes_back_with_other_keys() -> None:
    acts = settled().revoke("amber")
    acts.admit("amber", "insurer", by=["birch", "cedar"], key="amber 2")
    back = acts.membership.participants["amber"]
    assert (back.role, back.key, back.revoked) == ("insurer", key_of("amber 2").public, False)


def test_who_may_launch_is_a_bank_an_insurer_or_an_operator() -> None:
    membership = settled().membership
    able = {name: membership.may_launch(key_of(name).public) for name in membership.active()}
    assert [name for name, found in able.items() if found] == ["amber", "birch", "delta", FOUNDER]
    assert all(found in {"", name} for name, found in able.items())


def test_other_kinds_are_passed_over() -> None:
    acts = settled()
    plain = acts.membership
    acts.forced("writer.began", {"writer": "host-b"})
    assert acts.membership == plain
    assert not is_act("writer.began")
    assert not is_act("run.countersigned")
    assert is_act("member.invited")
    with pytest.raises(RefusedError, match="no act of membership"):
        check_next(plain, "writer.began", {"writer": "host-b"}, acts.now_ms)


def test_the_fold_is_its_steps() -> None:
    membership: Membership | None = None
    entries = settled().revoke("amber").entries
    for entry in entries:
        membership = after(membership, entry)
    assert membership == fold(entries)


def test_a_membership_cannot_be_changed() -> None:
    membership = asking().membership
    for table in (membership.participants, membership.candidates, membership.invitations):
        with pytest.raises(TypeError):
            table["x"] = None  # type: ignore[index]


# -- the pins --


def test_the_founder_and_the_root_are_compared() -> None:
    entries = settled().entries
    fold(entries, founder=key_of(FOUNDER).public, root=ROOT)
    with pytest.raises(NotVerifiedError, match="another key began the federation"):
        fold(entries, founder=key_of("amber").public)
    with pytest.raises(NotVerifiedError, match="another root certificate"):
        fold(entries, root=digest("another root"))


def test_a_founder_who_renewed_its_key_is_known_by_its_first() -> None:
    entries = settled().renew(FOUNDER, "olive 2").entries
    assert fold(entries, founder=key_of(FOUNDER).public).participants[FOUNDER].key == (
        key_of("olive 2").public
    )


@pytest.mark.parametrize("entries", [[], Acts().forced("writer.began", {"writer": "a"}).entries])
def test_a_ledger_without_a_federation_is_said_to_have_none(entries: list[Any]) -> None:
    with pytest.raises(NotVerifiedError, match="no federation was begun"):
        fold(entries)


def test_a_time_that_goes_back_is_refused() -> None:
    acts = settled()
    acts.forced("writer.began", {"writer": "host-b"}, time_ms=acts.now_ms - 1)
    with pytest.raises(NotVerifiedError, match="its time is before"):
        fold(acts.entries)


def test_what_is_signed_names_the_act_the_federation_and_its_root() -> None:
    body = {"name": "a", "key": "k", "by": "b", "signature": "s", "proof": "p"}
    said = {"name": "a", "key": "k", "by": "b", "act": "member.approved", "federation": "north"}
    assert statement("member.approved", "north", "r", body) == canonical_json({**said, "root": "r"})


# -- what does not hold --


def test_nothing_comes_before_the_beginning() -> None:
    acts = Acts()
    refused(acts, "member.invited", acts.invited("amber", "bank"), "no federation was begun")


def test_a_federation_is_begun_once() -> None:
    acts = settled()
    refused(acts, "federation.begun", acts.begun(root=digest("other")), "was begun before")


def test_the_founder_signs_the_beginning() -> None:
    acts = Acts()
    body = {**acts.begun(), "approvals": 1}
    refused(acts, "federation.begun", body, "the signature of olive .* does not hold")


INVITATIONS: list[tuple[str, Callable[[Acts], Body]]] = [
    (OPERATORS_ONLY, lambda acts: acts.invited("echo", "bank", by="amber")),
    (OPERATORS_ONLY, lambda acts: acts.invited("echo", "bank", by="regula")),
    ("mallory is no participant", lambda acts: acts.invited("echo", "bank", by="mallory")),
    ("amber takes part already", lambda acts: acts.invited("amber", "bank", ticket="new")),
    (
        "signature of olive .* does not hold",
        lambda acts: {**acts.invited("echo", "bank"), "role": "operator"},
    ),
    (
        "signature of olive .* does not hold",
        lambda acts: {**acts.invited("echo", "bank"), "attributes": {}},
    ),
    ("in the ledger already", lambda acts: acts.invited("amber 2", "bank", ticket="amber")),
]


@pytest.mark.parametrize(("sentence", "body"), INVITATIONS)
def test_invitations_are_operators(sentence: str, body: Callable[[Acts], Body]) -> None:
    acts = settled()
    refused(acts, "member.invited", body(acts), sentence)


def test_a_revoked_operator_invites_nobody() -> None:
    acts = settled().admit("gull", "operator", by=["amber", "birch"]).revoke("gull")
    refused(acts, "member.invited", acts.invited("echo", "bank", by="gull"), "gull was revoked")


def test_invitations_of_a_revoked_operator_are_void() -> None:
    acts = settled().admit("gull", "operator", by=["amber", "birch"])
    acts.invite("echo", "bank", by="gull").invite("fir", "bank").revoke("gull")
    refused(acts, "member.requested", acts.requested("echo", "bank"), "no open invitation")
    acts.request("fir", "bank")


REQUESTS: list[tuple[str, Callable[[Acts], Body]]] = [
    ("no open invitation", lambda acts: acts.requested("echo", "bank", ticket="nobody's")),
    ("for the name echo, not fir", lambda acts: acts.requested("fir", "bank", ticket="echo")),
    ("for the role bank, not insurer", lambda acts: acts.requested("echo", "insurer")),
    (
        "signing key was named before",
        lambda acts: signed(
            "member.requested", {**acts.requested("echo", "bank"), "key": public("amber")}, "amber"
        ),
    ),
    (
        "TLS key was named before",
        lambda acts: acts.requested("echo", "bank", tls=digest("tls", "amber")),
    ),
    (
        "signature of echo .* does not hold",
        lambda acts: {**acts.requested("echo", "bank"), "tls": digest("other")},
    ),
    (
        "signature of echo .* does not hold",
        lambda acts: signed("member.requested", acts.requested("echo", "bank"), "amber"),
    ),
    (
        "signature of echo .* does not hold",
        lambda acts: signed(
            "member.requested", acts.requested("echo", "bank"), "echo", federation="south"
        ),
    ),
]


@pytest.mark.parametrize(("sentence", "body"), REQUESTS)
def test_requests_are_what_the_invitation_says(sentence: str, body: Callable[[Acts], Body]) -> None:
    acts = settled().invite("echo", "bank")
    refused(acts, "member.requested", body(acts), sentence)


def test_the_founders_key_is_nobody_elses() -> None:
    acts = settled().invite("echo", "bank")
    body = acts.requested("echo", "bank", key=FOUNDER, ticket="echo", tls=digest("new"))
    refused(acts, "member.requested", body, "signing key was named before")


def test_keys_that_were_renewed_are_nobodys() -> None:
    acts = settled().renew("amber", "amber 2").renew("amber", "amber 3").invite("echo", "bank")
    for key in ("amber", "amber 2", "amber 3"):
        body = acts.requested("echo", "bank", key=key, ticket="echo", tls=digest("new"))
        refused(acts, "member.requested", body, "signing key was named before")
        body = acts.requested("echo", "bank", tls=digest("tls", key))
        refused(acts, "member.requested", body, "TLS key was named before")


def test_a_token_is_good_once() -> None:
    acts = settled().invite("echo", "bank").request("echo", "bank").revoke("echo")
    body = acts.requested("echo", "bank", key="echo 2", ticket="echo")
    refused(acts, "member.requested", body, "in the ledger already")


def test_a_token_expires() -> None:
    acts = settled()
    acts.invite("echo", "bank", expires_ms=acts.now_ms + 1999)
    refused(acts, "member.requested", acts.requested("echo", "bank"), "has expired")


def test_one_name_is_one_candidate() -> None:
    acts = asking().invite("echo", "bank", ticket="echo 2")
    body = acts.requested("echo", "bank", ticket="echo 2", key="echo 2")
    refused(acts, "member.requested", body, "has asked before")


def test_a_name_that_was_taken_meanwhile_is_not_asked_for() -> None:
    acts = settled().invite("echo", "bank", ticket="echo 2")
    acts.admit("echo", "bank", by=["amber", "birch"])
    body = acts.requested("echo", "bank", ticket="echo 2", key="echo 2")
    refused(acts, "member.requested", body, "echo takes part already")


def test_a_revoked_key_never_comes_back() -> None:
    acts = settled().revoke("amber").invite("amber", "bank", ticket="again")
    body = acts.requested("amber", "bank", ticket="again", tls=digest("new"))
    refused(acts, "member.requested", body, "signing key was named before")


def test_a_candidates_key_never_comes_back() -> None:
    acts = asking().revoke("echo").invite("echo", "bank", ticket="again")
    body = acts.requested("echo", "bank", ticket="again", tls=digest("new"))
    refused(acts, "member.requested", body, "signing key was named before")


APPROVALS: list[tuple[str, Callable[[Acts], Body]]] = [
    ("regula has the role regulator", lambda acts: acts.approved("echo", "regula")),
    ("mallory is no participant", lambda acts: acts.approved("echo", "mallory")),
    ("echo is no participant", lambda acts: acts.approved("echo", "echo")),
    ("fir has not asked", lambda acts: acts.approved("fir", "amber")),
    ("amber has not asked", lambda acts: acts.approved("amber", "birch")),
    ("another signing key", lambda acts: acts.approved("echo", "amber", key=public("mallory"))),
    (
        "signature of amber .* does not hold",
        lambda acts: signed("member.approved", acts.approved("echo", "amber"), "mallory"),
    ),
    (
        "signature of amber .* does not hold",
        lambda acts: {**acts.approved("echo", "birch"), "by": "amber"},
    ),
    (
        "signature of amber .* does not hold",
        lambda acts: signed(
            "member.approved", acts.approved("echo", "amber"), "amber", federation="south"
        ),
    ),
]


@pytest.mark.parametrize(("sentence", "body"), APPROVALS)
def test_approvals_are_of_who_may(sentence: str, body: Callable[[Acts], Body]) -> None:
    acts = asking()
    refused(acts, "member.approved", body(acts), sentence)


def test_an_approval_counts_once() -> None:
    acts = asking().approve("echo", ["amber"])
    refused(acts, "member.approved", acts.approved("echo", "amber"), "in the ledger already")


def test_a_revoked_participant_approves_nobody() -> None:
    acts = asking().revoke("amber")
    refused(acts, "member.approved", acts.approved("echo", "amber"), "amber was revoked")


def test_a_key_that_was_renewed_approves_nobody() -> None:
    acts = asking()
    body = acts.approved("echo", "amber")
    acts.renew("amber", "amber 2")
    refused(acts, "member.approved", body, "signature of amber .* does not hold")


def test_approvals_of_who_was_revoked_count_no_more() -> None:
    acts = asking().approve("echo", ["amber", "birch"])
    assert acts.membership.candidates["echo"].admissible
    acts.revoke("amber")
    assert acts.membership.candidates["echo"].approvals == {"birch"}
    refused(acts, "member.certified", acts.certified("echo"), "1 of 2 participants approved echo")


def test_a_name_that_came_back_has_not_approved_what_the_one_before_it_did() -> None:
    acts = asking().approve("echo", ["amber"]).revoke("amber")
    acts.admit("amber", "bank", by=["birch", "cedar"], key="amber 2")
    assert acts.membership.candidates["echo"].approvals == frozenset()
    # nor can it: one approval of a candidate by a name is all that a ledger holds
    refused(acts, "member.approved", acts.approved("echo", "amber"), "in the ledger already")


def test_nobody_is_admitted_where_nobody_is_left_to_approve() -> None:
    acts = Acts().begin().candidate("echo", "bank").revoke(FOUNDER)
    assert acts.membership.candidates["echo"].needed == 1
    refused(acts, "member.certified", acts.certified("echo"), "0 of 1 participants approved")


CERTIFICATES: list[tuple[str, Callable[[Acts], Body]]] = [
    ("1 of 2 participants approved echo", lambda acts: acts.certified("echo")),
    ("mallory is no participant", lambda acts: acts.certified("mallory")),
    ("another signing key", lambda acts: acts.certified("echo", key=public("mallory"))),
    ("another TLS key", lambda acts: acts.certified("echo", tls=digest("tls", "mallory"))),
    ("another signing key", lambda acts: acts.certified("amber", key=public("mallory"), number=2)),
    ("another TLS key", lambda acts: acts.certified("amber", tls=digest("x"), number=2)),
    ("in the ledger already", lambda acts: acts.certified("amber")),
    ("another TLS key", lambda acts: acts.certified(FOUNDER, tls=digest("x"), number=2)),
]


@pytest.mark.parametrize(("sentence", "body"), CERTIFICATES)
def test_certificates_are_for_keys_that_are_known(
    sentence: str, body: Callable[[Acts], Body]
) -> None:
    acts = asking().approve("echo", ["amber"])
    refused(acts, "member.certified", body(acts), sentence)


def test_a_candidate_that_was_approved_is_certified_for_its_own_keys() -> None:
    acts = asking().approve("echo", ["amber", "birch"])
    for body, sentence in (
        (acts.certified("echo", key=public("mallory")), "another signing key"),
        (acts.certified("echo", tls=digest("tls", "mallory")), "another TLS key"),
    ):
        refused(acts, "member.certified", body, sentence)
    acts.certify("echo")


def test_who_was_revoked_is_certified_no_more() -> None:
    acts = settled().revoke("amber")
    body = acts.certified("amber", number=2)
    refused(acts, "member.certified", body, "amber was revoked")


def test_a_founders_first_certificate_is_for_a_new_tls_key() -> None:
    acts = Acts()
    acts.keys[FOUNDER] = FOUNDER
    acts.act("federation.begun", acts.begun()).admit("amber", "bank", by=[FOUNDER])
    body = acts.certified(FOUNDER, tls=digest("tls", "amber"))
    refused(acts, "member.certified", body, "TLS key was named before")
    acts.certify(FOUNDER)


RENEWALS: list[tuple[str, Callable[[Acts], Body]]] = [
    ("mallory is no participant", lambda acts: acts.renewed("mallory", "mallory 2")),
    ("echo is no participant", lambda acts: acts.renewed("echo", "echo 2")),
    ("another signing key", lambda acts: acts.renewed("amber", "amber 2", key=public("birch"))),
    ("signing key was named before", lambda acts: acts.renewed("amber", "birch", tls=digest("n"))),
    (
        "TLS key was named before",
        lambda acts: acts.renewed("amber", "amber 2", tls=digest("tls", "birch")),
    ),
    (
        "TLS key was named before",
        lambda acts: acts.renewed("amber", "amber 2", tls=digest("tls", "echo")),
    ),
    (
        "signature of amber .* does not hold",
        lambda acts: signed(
            "member.renewed", acts.renewed("amber", "amber 2"), "amber 2", also="amber 2"
        ),
    ),
    (
        "signature of amber with its new key .* does not hold",
        lambda acts: signed(
            "member.renewed", acts.renewed("amber", "amber 2"), "amber", also="amber"
        ),
    ),
    (
        "signature of amber .* does not hold",
        lambda acts: {**acts.renewed("amber", "amber 2"), "tls": digest("other")},
    ),
]


@pytest.mark.parametrize(("sentence", "body"), RENEWALS)
def test_renewals_are_of_both_keys(sentence: str, body: Callable[[Acts], Body]) -> None:
    acts = asking()
    refused(acts, "member.renewed", body(acts), sentence)


def test_who_was_revoked_renews_nothing() -> None:
    acts = settled().revoke("amber")
    refused(acts, "member.renewed", acts.renewed("amber", "amber 2"), "amber was revoked")


def test_a_key_of_before_renews_nothing() -> None:
    acts = settled()
    body = acts.renewed("amber", "mallory")
    acts.renew("amber", "amber 2")
    refused(acts, "member.renewed", body, "another signing key")


REVOCATIONS: list[tuple[str, Callable[[Acts], Body]]] = [
    ("birch has the role bank", lambda acts: acts.revoked("amber", by="birch")),
    ("regula has the role regulator", lambda acts: acts.revoked("amber", by="regula")),
    ("mallory is no participant", lambda acts: acts.revoked("amber", by="mallory")),
    ("mallory is no participant", lambda acts: acts.revoked("mallory")),
    ("another signing key", lambda acts: acts.revoked("amber", key=public("birch"))),
    ("another signing key", lambda acts: acts.revoked("echo", key=public("birch"))),
    (
        "signature of olive .* does not hold",
        lambda acts: {**acts.revoked("amber"), "reason": "another"},
    ),
    (
        "signature of amber .* does not hold",
        lambda acts: signed("member.revoked", acts.revoked("amber", by="amber"), "mallory"),
    ),
    (
        "signature of echo .* does not hold",
        lambda acts: signed("member.revoked", acts.revoked("echo", by="echo"), "mallory"),
    ),
]


@pytest.mark.parametrize(("sentence", "body"), REVOCATIONS)
def test_revocations_are_of_operators_or_of_the_participant(
    sentence: str, body: Callable[[Acts], Body]
) -> None:
    acts = asking()
    refused(acts, "member.revoked", body(acts), sentence)


def test_nobody_is_revoked_twice() -> None:
    acts = settled().revoke("amber")
    refused(acts, "member.revoked", acts.revoked("amber"), "in the ledger already")
    acts = settled().renew("birch", "birch 2").revoke("birch")
    acts.keys["birch"] = "birch"
    refused(acts, "member.revoked", acts.revoked("birch"), "birch was revoked")


# -- the check before writing --


@pytest.mark.parametrize(
    "change",
    [
        lambda body: {**body, "extra": 1},
        lambda body: {name: value for name, value in body.items() if name != "signature"},
        lambda body: {**body, "role": "auditor"},
        lambda body: {**body, "expires_ms": "soon"},
        lambda body: {**body, "attributes": {"region": ["north"]}},
        lambda body: {**body, "signature": ""},
    ],
)
def test_what_has_not_its_fields_is_refused_before_it_is_written(
    change: Callable[[dict[str, Any]], Body],
) -> None:
    acts = settled()
    body = change(acts.invited("echo", "bank"))
    with pytest.raises(RefusedError, match="missing, unknown or wrong field"):
        check_next(acts.membership, "member.invited", body, acts.now_ms)


def test_the_check_goes_by_the_time_it_is_given() -> None:
    acts = settled().invite("echo", "bank")
    body = acts.requested("echo", "bank")
    check_next(acts.membership, "member.requested", body, acts.now_ms)
    with pytest.raises(RefusedError, match="has expired"):
        check_next(acts.membership, "member.requested", body, acts.now_ms + DAY_MS + 1)


def test_an_entry_of_another_kind_is_no_step() -> None:
    entry = make_entry(index=0, time_ms=0, epoch=1, kind="writer.began", body={"writer": "a"})
    with pytest.raises(KeyError):
        after(settled().membership, entry)


# -- nobody makes everybody's fold long --


def renewing(acts: Acts, times: int) -> Acts:
    for number in range(times):
        acts.renew("amber", f"amber {len(acts.entries)} {number}")
    return acts


def test_one_name_renews_its_keys_eight_times_in_thirty_days() -> None:
    acts = settled()
    first_ms = acts.now_ms + 1000
    renewing(acts, RENEWALS_MAX)
    again = acts.renewed("amber", "amber again")
    refused(acts, "member.renewed", again, "renewed its keys 8 times within 30 days")
    # others may, and it may once the first of them is 30 days ago: not a millisecond before
    acts.copy().renew("birch", "birch 2")
    acts.now_ms = first_ms + PERIOD_MS - 1001
    refused(acts, "member.renewed", again, "8 times within 30 days")
    acts.now_ms += 1
    acts.act("member.renewed", again)
    acts.keys["amber"] = "amber again"
    # now the second one counts
    acts.now_ms -= 999
    refused(acts, "member.renewed", acts.renewed("amber", "once more"), "8 times within 30 days")


def test_a_name_that_was_let_in_again_has_renewed_as_often() -> None:
    acts = renewing(settled(), RENEWALS_MAX).revoke("amber")
    acts.admit("amber", "bank", by=[FOUNDER, "birch"], key="amber anew")
    refused(acts, "member.renewed", acts.renewed("amber", "another"), "8 times within 30 days")


def test_one_operator_has_so_many_invitations_that_nobody_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("privacy.membership.INVITATIONS_MAX", 3)
    acts = settled()
    begun_ms = acts.now_ms
    for number in range(3):
        acts.invite(f"n{number}", "bank")
    body = acts.invited("late", "bank")
    refused(acts, "member.invited", body, "has 3 invitations that nobody used")
    # one that is used makes room, and so does one that is over and old
    acts.copy().request("n1", "bank").invite("late", "bank")
    acts.now_ms = begun_ms + 2 * DAY_MS
    refused(acts, "member.invited", body, "has 3 invitations")
    acts.now_ms = begun_ms + PERIOD_MS
    acts.invite("late", "bank")


def test_another_operator_has_room_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privacy.membership.INVITATIONS_MAX", 1)
    acts = settled().admit("gull", "operator", by=[FOUNDER, "amber"])
    acts.invite("echo", "bank").invite("fox", "bank", by="gull")
    refused(acts, "member.invited", acts.invited("hen", "bank"), "has 1 invitations")


@pytest.mark.parametrize("length", [64, 65])
def test_a_name_has_room_in_every_run(length: int) -> None:
    acts, name = settled(), "n" * length
    assert NAME_CHARACTERS_MAX == MEMBER_CHARACTERS_MAX
    if length > NAME_CHARACTERS_MAX:
        refused(acts, "member.invited", acts.invited(name, "bank"), "at most 64 characters")
        refused(Acts(), "federation.begun", acts.begun(founder=name), "at most 64 characters")
        return
    assert name in acts.admit(name, "bank", by=[FOUNDER, "amber"]).membership.members()


def test_a_fold_costs_as_much_for_each_act_as_for_the_one_before() -> None:
    acts = renewing(settled(), RENEWALS_MAX)
    before = acts.membership
    entry = acts.copy().renew("birch", "birch 2").entries[-1]
    found = after(before, entry)
    for name in ("keys", "tls", "acts", "digests"):
        old, new = getattr(before, name), getattr(found, name)
        assert new._order is old._order, name
        assert len(new) == len(old) + 1
    assert before.members()["birch"] == key_of("birch").public


# -- what the members are held to --


def test_it_says_who_approved_whom() -> None:
    people = settled().membership.participants
    assert people[FOUNDER].approved_by == ()
    assert people["amber"].approved_by == (FOUNDER,)
    assert people["delta"].approved_by == ("amber", "birch")
    # who was revoked before somebody was let in has not let it in
    acts = settled().candidate("echo", "bank").approve("echo", ["amber", "birch"])
    acts.revoke("amber").approve("echo", ["cedar"]).certify("echo")
    assert acts.membership.participants["echo"].approved_by == ("birch", "cedar")


def test_the_digest_is_over_all_acts_in_order() -> None:
    acts = settled()
    acts.forced("writer.began", {"writer": "host-b"})
    acts.invite("echo", "bank")
    membership = acts.membership
    leaves = [entry.leaf() for entry in acts.entries if is_act(entry.kind)]
    assert membership.told == {"acts": str(len(leaves)), "membership": acts_digest(leaves)}
    for count in range(1, len(leaves) + 1):
        assert membership.digest_at(count) == acts_digest(leaves[:count])
    assert membership.digest_at(0) == membership.digest_at(len(leaves) + 1) == ""
    swapped = [*leaves[:-2], leaves[-1], leaves[-2]]
    assert acts_digest(swapped) != acts_digest(leaves)
    assert acts_digest([b"".join(leaves)]) != acts_digest(leaves)
    # whoever goes on act by act comes to the same
    step: Membership | None = None
    for entry in acts.entries:
        step = after(step, entry) if is_act(entry.kind) else step
    assert step == membership
