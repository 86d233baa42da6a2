"""What a coordinator holds against a launch before it asks anybody."""

from typing import Any

import pytest
from support.network_runs import (
    ACTS,
    DATA,
    MEMBERS,
    NOW_MS,
    RULES,
    bodies,
    manifest,
    membership,
    order,
    recorder,
    signed,
)
from support.registry import identity

from federation.config import RunConfig
from federation.registry.access import Role
from federation.registry.peer import Peer
from federation.runs.check import check_launch
from federation.runs.order import Order
from federation.runs.select import select_members
from privacy.canonical import canonical_json
from privacy.errors import CohortError, InputError, RefusedError
from privacy.manifest import Manifest
from privacy.membership import Membership

LEDGER = {"origin": recorder().origin, "key": identity(40).public.hex()}
SEEN = dict(manifest().ledger)


def check(
    document: Manifest | None = None,
    *,
    by: str = "Bank",
    peer: Peer | None = None,
    people: Membership | None = None,
    **changes: Any,  # noqa: ANN401 - arguments
) -> Order:
    asked = document or manifest()
    given: dict[str, Any] = {
        "document": asked.to_bytes(),
        "signature": signed(asked, by),
        **bodies(),
        "peer": peer or Peer(Role(MEMBERS[by][0]), by),
        "membership": people or membership(),
        "ledger": LEDGER,
        "now_ms": NOW_MS,
        **changes,
    }
    return check_launch(
        given.pop("document"),
        given.pop("signature"),
        **given,
    )


@pytest.mark.parametrize("by", ["Bank", "Insurer"])
def test_who_lends_or_insures_may_launch(by: str) -> None:
    assert check(by=by) == order(by=by)


def test_a_manufacturer_may_not() -> None:
    with pytest.raises(RefusedError, match="A manufacturer does not launch runs here"):
        check(by="Mill")


@pytest.mark.parametrize(
    ("peer", "revoked"),
    [
        (Peer(Role.BANK, "Stranger"), {}),
        (Peer(Role.INSURER, "Bank"), {}),
        (Peer(Role.BANK, "Bank"), {"Bank": True}),
    ],
)
def test_who_is_not_in_the_federation_as_that_may_not(peer: Peer, revoked: dict[str, bool]) -> None:
    with pytest.raises(RefusedError, match="is no active"):
        check(peer=peer, people=membership(**revoked))


def test_a_manifest_is_signed_by_whoever_sends_it() -> None:
    with pytest.raises(RefusedError, match="not signed by the key that Bank"):
        check(signature=signed(manifest(), "Insurer"))
    with pytest.raises(RefusedError, match="not signed by"):
        check(manifest("another"), signature=signed(manifest()))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"run": "../up"}, "The run's name is none"),
        ({"run": ""}, "The run's name is none"),
        (
            {"directory": {**manifest().directory, "Ghost": identity(9).public.hex()}},
            "Ghost is no active member",
        ),
        (
            {"directory": {**manifest().directory, "Regulator": identity(42).public.hex()}},
            "Regulator is no active member",
        ),
        (
            {"directory": {**manifest().directory, "Mill": identity(9).public.hex()}},
            "Mill is in the federation with another key",
        ),
        ({"ledger": {**SEEN, "key": "11" * 32}}, "another ledger"),
        ({"ledger": LEDGER}, "does not say which acts of membership"),
        ({"ledger": {**SEEN, "acts": "2"}}, "was shown another membership.* on both machines"),
        ({"ledger": {**SEEN, "acts": "4"}}, "was shown another membership"),
        ({"ledger": {**SEEN, "membership": "11" * 32}}, "was shown another membership"),
        ({"minimum_cohort": 4}, "asks 3 members, and its sums are opened over at least 4"),
        (
            {"coordinator_settings": {"rounds": 3, "statistics_stages": 1, "min_members": 4}},
            "at least 4 have to agree",
        ),
        ({"coordinator_settings": {"rounds": 0, "statistics_stages": 1}}, "refused at rounds"),
        ({"coordinator_settings": {"rounds": 3, "wish": 1}}, "refused at"),
        ({"contract": "ee" * 32}, "of another contract"),
        ({"name": "x" * 600}, "no place for such a run.started"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RefusedError, match=sentence):
        check(manifest(**changes))


def test_a_launcher_that_has_not_seen_the_newest_acts_may_launch() -> None:
    earlier = {**SEEN, "acts": "2", "membership": ACTS[1].hex()}
    assert check(manifest(ledger=earlier)).manifest.acts == 2


def test_a_revoked_member_is_left_out() -> None:
    with pytest.raises(RefusedError, match="Mill is no active member"):
        check(people=membership(Mill=True))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("data", b"{}"),
        ("data", b"no"),
        ("data", canonical_json({**DATA, "run": "a-run"})),
        ("data", canonical_json({**DATA, "rows": 3})),
        ("rules", canonical_json({**RULES, "warnings": "none"})),
        ("rules", canonical_json([])),
    ],
)
def test_the_ledger_is_told_nothing_that_it_does_not_take(part: str, value: bytes) -> None:
    changes: dict[str, Any] = {part: value}
    with pytest.raises(RefusedError):
        check(**changes)


# -- whom a config selects --


def config(**changes: Any) -> RunConfig:  # noqa: ANN401 - keys
    plain = {
        "name": "small",
        "task": "credit",
        "contract": "c.yaml",
        "minimum_cohort": 2,
        "model": {"kind": "mlp", "hidden": (4,)},
        "training": {"rounds": 1, "batch_rows": 8, "learning_rate": 0.1},
    }
    return RunConfig.model_validate({**plain, **changes})


@pytest.mark.parametrize(
    ("select", "chosen"),
    [
        ({}, ["Bank", "Forge", "Insurer", "Mill"]),
        ({"roles": ("manufacturer",)}, ["Forge", "Mill"]),
        ({"roles": ("bank", "insurer")}, ["Bank", "Insurer"]),
        ({"names": ("Mill", "Bank")}, ["Bank", "Mill"]),
    ],
)
def test_members_are_selected(select: dict[str, Any], chosen: list[str]) -> None:
    found = select_members(membership(), config(select={"attributes": {}, **select}))
    assert list(found) == chosen
    assert all(found[name] == MEMBERS[name][1].public for name in chosen)


def test_all_that_is_asked_for_has_to_hold() -> None:
    select = {"attributes": {"region": "north"}, "roles": ("manufacturer",)}
    with pytest.raises(CohortError, match=r"1 of the 4 active members of test fit .* \(Mill\)"):
        select_members(membership(), config(select=select))


def test_a_revoked_member_is_not_selected_and_no_name_of_nobody() -> None:
    people = membership(Mill=True)
    assert "Mill" not in select_members(people, config())
    for name in ("Mill", "Nobody", "Regulator"):
        with pytest.raises(InputError, match=f"{name} is no active member of test"):
            select_members(people, config(select={"attributes": {}, "names": (name,)}))


def test_enough_have_to_fit() -> None:
    with pytest.raises(CohortError, match="min_members is 5; select more, or lower it"):
        select_members(membership(), config(min_members=5))
    with pytest.raises(CohortError, match="minimum_cohort is 5"):
        select_members(membership(), config(minimum_cohort=5))
