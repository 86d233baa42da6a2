"""Runs of a federation, in both verifiers: who may be in them and start them, who signs a manifest
beside the launcher, and that a run goes on with those who consented."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from support.ledgers import (
    LAUNCHER,
    NAMES,
    TEST,
    WATCH,
    Line,
    Script,
    begun,
    bundle_of,
    chained,
    data_of,
    key_of,
    whole_run,
)
from support.membership import FOUNDER, Acts

from privacy import verify_alone
from privacy.errors import NotVerifiedError
from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.manifest import COUNTERSIGN_DOMAIN
from privacy.verify import Verdict, verify_data

ROLES = {
    "bank": "bank",
    "broker": "insurer",
    "insurer": "insurer",
    "maker": "manufacturer",
    "mill": "manufacturer",
}


def holds(lines: Iterable[Line], states: Mapping[int, Iterable[str]] | None = None) -> Verdict:
    data = data_of(bundle_of(chained([begun(), *lines]), states=states))
    found = verify_data(data)
    assert verify_alone.verify(data)["signatures"] == found.signatures
    return found


def refused(
    lines: Iterable[Line],
    sentence: str,
    *,
    step: int = 6,
    states: Mapping[int, Iterable[str]] | None = None,
) -> None:
    data = data_of(bundle_of(chained([begun(), *lines]), states=states))
    with pytest.raises(NotVerifiedError, match=rf"^step {step} .*{sentence}"):
        verify_data(data)
    with pytest.raises(verify_alone.NotVerified) as other:
        verify_alone.verify(data)
    assert other.value.step == step


# -- those who consented --


def with_roster(*roster: str, **how: Any) -> Script:  # noqa: ANN401 - see `Script`
    """A run of all that goes on with some."""
    script = Script(**how).start().declare().check_rules().consent(roster)
    for name in set(script.names) - set(roster):
        script.decline(name)
    script.agree_on_keys()
    script.names = roster
    return script


def test_a_run_goes_on_with_those_who_consented() -> None:
    script = with_roster("bank", "insurer", "mill").statistics()
    script.train().evaluate(WATCH).train().evaluate(TEST).finish().register()
    found = holds(script.lines, {len(script.lines) + 1: ("bank", "insurer", "mill")})
    assert (found.runs, found.rounds, found.unfinished) == (1, 2, ())


def test_nobody_has_to_say_that_it_does_not_take_part() -> None:
    script = Script().start().declare().consent(NAMES[:3]).agree_on_keys()
    script.names = NAMES[:3]
    holds(script.statistics().lines)


def test_a_consent_is_not_undone_by_the_coordinator() -> None:
    script = Script().start().declare().consent().decline("mill").agree_on_keys()
    refused(script.copy().reserve(STATISTICS, 0, asked=NAMES[:4]).lines, "does not ask all members")
    holds(script.statistics().lines)


@pytest.mark.parametrize(("minimum", "consenting"), [(2, 1), (3, 2), (4, 3), (5, 4)])
def test_fewer_than_the_manifests_minimum_do_not_go_on(minimum: int, consenting: int) -> None:
    refused(
        with_roster(*NAMES[:consenting], minimum=minimum).lines,
        f"{consenting} members consented to the run, and its manifest asks for {minimum}",
    )
    holds(with_roster(*NAMES[:minimum], minimum=minimum).lines)


def test_sums_ask_those_who_consented_and_all_of_them() -> None:
    script = with_roster(*NAMES[:4])
    refused(script.copy().reserve(STATISTICS, 0, asked=NAMES).lines, "did not consent")
    refused(script.copy().reserve(STATISTICS, 0, asked=NAMES[:3]).lines, "does not ask all")


def test_groups_are_of_those_who_consented() -> None:
    names = [f"member {index}" for index in range(7)]
    script = Script("r", names, group_size=3).start().declare().consent(names[:6]).agree_on_keys()
    script.names = tuple(names[:6])
    script.statistics()
    good = script.copy()
    good.release(UPDATE, 1, asked=names[:3]).release(UPDATE, 1, asked=names[3:6]).accept().commit()
    holds(good.lines)
    refused(script.copy().release(UPDATE, 1, asked=names[3:]).lines, "did not consent")


def test_two_thirds_of_those_who_consented_accept() -> None:
    script = with_roster("bank", "insurer", "mill").release(STATISTICS, 0)
    refused(script.copy().accept(signers=("bank", "mill")).lines, "2 members signed")
    refused(script.copy().accept(signers=("bank", "mill", "maker")).lines, "maker signed")
    holds(script.accept().lines)


def test_two_thirds_of_those_who_consented_witness() -> None:
    script = with_roster("bank", "insurer", "mill").statistics(1)
    size = len(script.lines) + 1
    for witnesses in (("bank", "mill"), ("bank", "mill", "maker", "broker")):
        refused(script.lines, "2 of the 3 members", step=7, states={size: witnesses})
    holds(script.lines, {size: ("bank", "insurer", "mill")})


# -- a federation --


def federation() -> Acts:
    """All members of the runs here, a launcher with no rows, and a regulator."""
    acts = Acts().begin(approvals=1)
    for name, role in (*ROLES.items(), (LAUNCHER, "bank"), ("regula", "regulator")):
        acts.admit(name, role, by=[FOUNDER])
    return acts


def lines_of(*parts: Acts | Script) -> list[Line]:
    """The acts and runs, one after another."""
    lines: list[Line] = []
    for part in parts:
        if isinstance(part, Script):
            lines += part.lines
        else:
            lines += [(entry.kind, entry.body) for entry in part.entries]  # type: ignore[misc]
    return lines


def more(acts: Acts, change: Callable[[Acts], Acts]) -> Acts:
    """What is done after `acts`, alone."""
    after = change(acts.copy())
    after.entries = after.entries[len(acts.entries) :]
    return after


def test_a_run_of_participants_holds_and_the_founder_is_told() -> None:
    found = holds(lines_of(federation(), whole_run()))
    assert found.founder == key_of(FOUNDER).public.hex()
    assert holds(whole_run().lines).founder == ""


def test_a_run_before_the_beginning_is_of_a_home() -> None:
    holds(lines_of(whole_run(), federation()))


def test_members_of_a_run_take_part_when_it_starts() -> None:
    acts = federation()
    left = more(acts, lambda acts: acts.revoke("mill"))
    stranger = Script(names=(*NAMES, "mallory")).start()
    refused(lines_of(acts, stranger), "mallory took no part")
    refused(lines_of(acts, left, Script().start()), "mill took no part")
    # whoever leaves later was there when it started
    holds(lines_of(acts, whole_run(), left))
    fewer = whole_run(names=NAMES[:4])
    holds(lines_of(acts, left, fewer))


def test_members_of_a_run_have_the_keys_of_that_moment() -> None:
    acts = federation()
    renewed = more(acts, lambda acts: acts.renew("mill", "mill 2"))
    refused(lines_of(acts, renewed, Script().start()), "mill took no part .* with that key")


@pytest.mark.parametrize("name", [FOUNDER, "regula"])
def test_operators_and_regulators_have_no_rows(name: str) -> None:
    script = Script(names=(*NAMES, name)).start()
    refused(lines_of(federation(), script), f"{name} took no part")


def launched(by: str) -> Script:
    script = Script()
    signature = key_of(by).sign("manifest", script.manifest.to_bytes()).hex()
    return script.start(launcher=key_of(by).public.hex(), signature=signature)


@pytest.mark.parametrize("name", ["bank", "broker", LAUNCHER, FOUNDER])
def test_banks_insurers_and_operators_launch(name: str) -> None:
    holds(lines_of(federation(), launched(name)))


@pytest.mark.parametrize("name", ["mill", "regula", "mallory"])
def test_nobody_else_launches(name: str) -> None:
    refused(lines_of(federation(), launched(name)), "was no bank, insurer or operator")
    holds(launched(name).lines)


def test_who_was_revoked_launches_nothing() -> None:
    acts = federation().revoke(LAUNCHER)
    refused(lines_of(acts, Script().start()), "was no bank, insurer or operator")


def test_acts_of_membership_are_checked_with_the_ledger() -> None:
    acts = federation().candidate("echo", "bank")
    acts.forced("member.certified", acts.certified("echo"))
    refused(lines_of(acts), "0 of 1 participants approved echo")


# -- a second signature --


def countersigned(
    script: Script, member: str, *, key: str = "", domain: str = COUNTERSIGN_DOMAIN
) -> Script:
    told = script.manifest.digest()
    signature = key_of(key or member).sign(domain, told).hex()
    return script.add("run.countersigned", {}, member=member, signature=signature)


def test_a_member_of_the_run_signs_too_before_the_keys() -> None:
    script = Script().start().declare()
    plain = holds(script.copy().consent().agree_on_keys().lines).signatures
    countersigned(script, "mill").consent().agree_on_keys()
    assert holds(script.lines).signatures == plain + 1
    refused(
        countersigned(Script().start().declare().consent().agree_on_keys(), "mill").lines,
        "comes before the members' keys",
    )


def test_who_signs_too_need_not_take_part_in_the_run() -> None:
    script = countersigned(Script().start().declare(), "mill").consent(NAMES[:4])
    holds(script.agree_on_keys().lines)
    names = NAMES[:4]
    script = countersigned(Script(names=names).start(), "mill")
    holds(lines_of(federation(), script))
    refused(script.lines, "is no member of the run")
    left = federation().revoke("mill")
    refused(lines_of(left, script), "is no member of the run")


@pytest.mark.parametrize("name", [FOUNDER, "regula", "mallory"])
def test_operators_regulators_and_strangers_do_not_sign_too(name: str) -> None:
    refused(lines_of(federation(), countersigned(Script().start(), name)), "is no member")


def test_the_second_signature_is_of_this_manifest_in_its_domain() -> None:
    refused(countersigned(Script().start(), "mill", domain="consent").lines, "does not hold")
    refused(countersigned(Script().start(), "mill", key="bank").lines, "does not hold")
    other = Script("other")
    signature = key_of("mill").sign(COUNTERSIGN_DOMAIN, other.manifest.digest()).hex()
    script = Script().start().add("run.countersigned", {}, member="mill", signature=signature)
    refused(script.lines, "does not hold")


def test_the_launcher_is_no_second() -> None:
    refused(countersigned(launched("bank"), "bank").lines, "signed its own manifest twice")
    acts = federation()
    script = launched(LAUNCHER)
    refused(lines_of(acts, countersigned(script.copy(), LAUNCHER)), "signed its own manifest twice")
    # nor with the key that it has next
    renewed = more(acts, lambda acts: acts.renew(LAUNCHER, "launcher 2"))
    second = Script()
    countersigned(second, LAUNCHER, key="launcher 2")
    refused(lines_of(acts, script, renewed, second), "signed its own manifest twice")
