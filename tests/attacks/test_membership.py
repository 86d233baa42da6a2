"""What a dishonest coordinator tries against the membership of its federation.

It keeps the ledger, its keys and its clock, so it writes any act it likes and the tree of a bundle
fits. It does not hold the keys of the founder and the participants, and an auditor or a node knows
the founder's key from an invitation. Both verifiers and the fold must find each try.
"""

import hashlib
from collections.abc import Callable

import pytest
from support.ledgers import begun, bundle_of, chained, data_of, head_of
from support.membership import DAY_MS, FOUNDER, ROOT, Acts, digest, key_of, public, signed

from privacy import verify_alone
from privacy.errors import NotVerifiedError
from privacy.ledger.entry import Entry, make_entry
from privacy.membership import fold
from privacy.verify import verify_data

SPY = "spy"  # the coordinator's own key under any name


def ledger(acts: Acts) -> list[Entry]:
    """The coordinator's ledger with these acts, at their times."""
    first = chained([begun()], begun_ms=acts.entries[0].time_ms)
    return [
        *first,
        *(
            make_entry(
                index=entry.index + 1,
                time_ms=entry.time_ms,
                epoch=1,
                kind=entry.kind,
                body=entry.body,
            )
            for entry in acts.entries
        ),
    ]


def found(acts: Acts, sentence: str, *, step: int = 6) -> None:
    """Nodes that fold the ledger, and both verifiers of a bundle, find it."""
    with pytest.raises(NotVerifiedError, match=sentence):
        fold(acts.entries, founder=key_of(FOUNDER).public, root=ROOT)
    data = data_of(bundle_of(ledger(acts)))
    with pytest.raises(NotVerifiedError, match=f"^step {step} "):
        verify_data(data)
    with pytest.raises(verify_alone.NotVerified) as other:
        verify_alone.verify(data)
    assert other.value.step == step


def honest() -> Acts:
    acts = Acts().settled()
    fold(acts.entries, founder=key_of(FOUNDER).public, root=ROOT)
    data = data_of(bundle_of(ledger(acts)))
    verify_data(data)
    verify_alone.verify(data)
    return acts


def with_spy() -> Acts:
    """The operator invited somebody, and the coordinator used the token first."""
    return honest().candidate(SPY, "bank")


# -- admitting --


@pytest.mark.parametrize("approvers", [[], ["amber"]])
def test_it_admits_without_enough_approvals(approvers: list[str]) -> None:
    acts = with_spy().approve(SPY, approvers)
    found(acts.forced("member.certified", acts.certified(SPY)), "of 2 participants approved spy")


def test_it_admits_whom_nobody_invited() -> None:
    acts = honest()
    found(acts.forced("member.certified", acts.certified(SPY)), "spy is no participant")
    acts = honest()
    body = acts.requested(SPY, "bank", ticket="made up")
    found(acts.forced("member.requested", body), "no open invitation")


def test_it_invites_by_itself() -> None:
    acts = honest()
    body = signed("member.invited", acts.invited(SPY, "bank"), SPY)
    found(acts.forced("member.invited", body), "signature of olive under member.invited")


def test_it_invents_an_approver() -> None:
    acts = with_spy().approve(SPY, ["amber"])
    found(acts.copy().forced("member.approved", acts.approved(SPY, "nobody")), "is no participant")
    # or signs in the name of one
    body = signed("member.approved", acts.approved(SPY, "birch"), SPY)
    found(acts.copy().forced("member.approved", body), "signature of birch under member.approved")
    # or shows what one signed for somebody else
    other = acts.copy().candidate("fir", "bank")
    moved = {**other.approved("fir", "birch"), "name": SPY, "key": public(SPY)}
    found(other.forced("member.approved", moved), "signature of birch under member.approved")
    # or lets the candidate count for itself
    found(acts.copy().forced("member.approved", acts.approved(SPY, SPY)), "is no participant")


def test_it_counts_one_approval_twice() -> None:
    acts = with_spy().approve(SPY, ["amber"])
    found(acts.forced("member.approved", acts.approved(SPY, "amber")), "already", step=3)


def test_it_lets_the_regulator_approve() -> None:
    acts = with_spy().approve(SPY, ["amber"])
    found(acts.forced("member.approved", acts.approved(SPY, "regula")), "the role regulator")


def test_it_lowers_how_many_must_approve() -> None:
    acts = with_spy().approve(SPY, ["amber"])
    acts.forced("member.certified", acts.certified(SPY))
    lowered = acts.changed("federation.begun", lambda body: body.update(approvals=1))
    found(lowered, "signature of olive under federation.begun")


def test_it_revokes_approvers_until_one_is_enough() -> None:
    acts = with_spy().approve(SPY, ["amber"])
    body = signed("member.revoked", acts.revoked("birch"), SPY)
    found(acts.forced("member.revoked", body), "signature of olive under member.revoked")


# -- tokens --


def test_it_reuses_a_token() -> None:
    acts = honest()
    body = acts.requested("amber", "bank", ticket="amber", key=SPY)
    found(acts.forced("member.requested", body), "already", step=3)


def test_it_uses_a_token_for_another_name_or_role() -> None:
    acts = honest().invite("echo", "regulator")
    other = acts.requested(SPY, "regulator", ticket="echo")
    found(acts.copy().forced("member.requested", other), "for the name echo")
    other = acts.requested("echo", "bank", key=SPY)
    found(acts.copy().forced("member.requested", other), "for the role regulator")


def test_it_uses_a_token_whose_time_is_over() -> None:
    acts = honest().invite("echo", "bank")
    acts.now_ms += DAY_MS + 1
    late = acts.copy().forced("member.requested", acts.requested("echo", "bank"))
    found(late, "has expired")
    # and moves the end of its time
    moved = late.changed("member.invited", lambda body: body.update(expires_ms=2**52), nth=-1)
    found(moved, "signature of olive under member.invited")


def test_it_backdates_what_came_too_late() -> None:
    acts = honest().invite("echo", "bank")
    time_ms = acts.now_ms
    acts.now_ms += DAY_MS + 1
    acts.forced("writer.began", {"writer": "host-b"})
    acts.forced("member.requested", acts.requested("echo", "bank"), time_ms=time_ms)
    found(acts, "its time is before", step=3)


# -- keys --


def test_it_lets_a_revoked_member_in_again() -> None:
    acts = honest().revoke("amber")
    found(
        acts.copy().forced("member.certified", acts.certified("amber", number=2)),
        "amber was revoked",
    )
    again = acts.copy().invite("amber", "bank", ticket="again")
    body = again.requested("amber", "bank", ticket="again", tls=digest("other"))
    found(again.forced("member.requested", body), "signing key was named before")
    renewed = acts.renewed("amber", "amber 2")
    found(acts.copy().forced("member.renewed", renewed), "amber was revoked")


def test_it_swaps_a_candidates_key_after_people_compared_it() -> None:
    acts = honest().candidate("echo", "bank").approve("echo", ["amber", "birch"])
    swapped = acts.changed(
        "member.requested",
        lambda body: body.update(
            signed("member.requested", {**body, "key": public(SPY), "tls": digest(SPY)}, SPY)
        ),
        nth=-1,
    )
    found(swapped, "another signing key")
    certified = acts.certified("echo", key=public(SPY), tls=digest(SPY))
    found(acts.copy().forced("member.certified", certified), "another signing key")
    certified = acts.certified("echo", tls=digest(SPY))
    found(acts.copy().forced("member.certified", certified), "another TLS key")


def test_it_swaps_a_participants_key() -> None:
    acts = honest()
    body = signed("member.renewed", acts.renewed("amber", SPY), SPY, also=SPY)
    found(acts.copy().forced("member.renewed", body), "signature of amber under member.renewed")
    found(
        acts.copy().forced("member.certified", acts.certified("amber", tls=digest(SPY), number=2)),
        "another TLS key",
    )


def test_it_gives_a_participant_the_key_of_another_one() -> None:
    """Who renews proves to hold the new key: nobody can be made to look like somebody else."""
    acts = honest()
    body = signed("member.renewed", acts.renewed("amber", "echo"), "amber", also="amber")
    found(acts.forced("member.renewed", body), "signature of amber with its new key")


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(role="operator"),
        lambda body: body.update(attributes={"region": "south"}),
        lambda body: body.update(name=SPY),
        lambda body: body.update(by="amber"),
    ],
)
def test_it_changes_what_an_operator_signed(change: Callable[[dict[str, object]], None]) -> None:
    acts = honest().invite("echo", "bank")
    found(acts.changed("member.invited", change, nth=-1), "under member.invited|let an operator")


# -- the whole of it --


def test_it_makes_a_federation_of_its_own() -> None:
    """All signatures hold, by keys that it made: the founder's key is another."""
    acts = Acts()
    begun_by = signed("federation.begun", acts.begun(key=public(SPY)), SPY)
    acts.act("federation.begun", begun_by)
    fold(acts.entries)
    with pytest.raises(NotVerifiedError, match="another key began the federation"):
        fold(acts.entries, founder=key_of(FOUNDER).public)
    data = data_of(bundle_of(ledger(acts)))
    assert verify_data(data).founder == public(SPY) != public(FOUNDER)
    assert verify_alone.verify(data)["founder"] == public(SPY)


def test_it_brings_another_root() -> None:
    acts = Acts()
    acts.act("federation.begun", acts.begun(root=hashlib.sha256(b"mine").hexdigest()))
    with pytest.raises(NotVerifiedError, match="another root certificate"):
        fold(acts.entries, founder=key_of(FOUNDER).public, root=ROOT)


def test_it_leaves_out_that_somebody_was_revoked() -> None:
    """No signature is missed where an act is missing; the tree that somebody saw shows it."""
    acts = honest()
    seen = ledger(acts.copy().revoke("amber"))
    entries = ledger(acts)
    fold(acts.entries, founder=key_of(FOUNDER).public, root=ROOT)
    data = data_of(bundle_of(entries))
    head = head_of(seen)
    origin = str(entries[0].body["origin"])
    with pytest.raises(NotVerifiedError, match=r"^step 7 .*cut off"):
        verify_data(data, heads={origin: [head]})
    with pytest.raises(verify_alone.NotVerified, match="cut off"):
        verify_alone.verify(data, heads=[(origin, head.leaves, head.root)])
