"""An operator that lets in members which it made up, or shows two memberships: at the node.

The operator holds all that it needs to admit whom it likes, and to launch with the bank that it
invented; the coordinator shows each machine what it likes. A node whose terms say whom it knows
gives its vectors to no sum of strangers, and no node joins a run whose launcher saw other acts.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.direct import Direct
from support.sums import federation

from clients.node import Node
from clients.policy import NodePolicy, Recognises
from privacy.errors import CohortError, ProtocolError, RefusedError
from privacy.identity import Identity
from privacy.manifest import COUNTERSIGN_DOMAIN, SIGNING_DOMAIN
from privacy.messages import Invite, Joined, Request, RosterNotice, TrainRequest
from privacy.randomness import system_bytes

NAMES = ("east", "mill", "north", "p1", "p2", "p3", "p4", "p5", "p6")
ACTS = "ab" * 32


@pytest.fixture(name="direct")
def _direct(tmp_path: Path) -> Direct:
    made = federation(tmp_path, NAMES, minimum_cohort=3)
    ledger = {**made.manifest.ledger, "acts": "7", "membership": ACTS}
    made.manifest = replace(made.manifest, ledger=ledger)
    return made


def node_of(direct: Direct, member: str = "north", **changes: object) -> Node:
    """A member's node, with some of its settings replaced, in its place."""
    place = next(at for at, node in direct.nodes.items() if node.member == member)
    node = Node(replace(direct.nodes[place]._settings, **changes))  # type: ignore[arg-type]
    direct.nodes[place] = node
    return node


def invite(direct: Direct, **changes: object) -> Invite:
    data = replace(direct.manifest, **changes).to_bytes()  # type: ignore[arg-type]
    return Invite(manifest=data, signature=direct.launcher.sign(SIGNING_DOMAIN, data))


def roster(direct: Direct, members: Collection[str]) -> RosterNotice:
    """What is shown once these have joined."""
    replies = [node.handle(invite(direct))[0] for node in direct.nodes.values()]
    offers = [one.offer for one in replies if isinstance(one, Joined) and one.member in members]
    return RosterNotice(run=direct.manifest.digest(), offers=tuple(offers))


def knowing(*names: str) -> dict[str, Any]:
    """Terms of a node that recognises these, beside itself."""
    return {"recognised": lambda: frozenset(names), "policy": NodePolicy(minimum_cohort=3)}


def test_terms_recognise_by_name_or_by_who_approved() -> None:
    approved = {
        "Mill": ("operator",),
        "Bank": ("Mill", "operator"),
        "P1": ("operator",),
        "P2": ("P1", "operator"),
    }
    assert Recognises().of(approved) == approved.keys()
    assert Recognises(names=("P1", "Nobody")).of(approved) == {"P1"}
    assert Recognises(approved_by=("Mill",)).of(approved) == {"Bank"}
    assert Recognises(names=("Mill",), approved_by=("Mill",)).of(approved) == {"Mill", "Bank"}


def test_a_run_with_too_few_known_members_is_not_joined(direct: Direct) -> None:
    strangers = node_of(direct, **knowing("east"))
    with pytest.raises(RefusedError, match="recognises 2 of the run's 9 members, and wants at"):
        strangers.handle(invite(direct))
    assert isinstance(node_of(direct, **knowing("east", "mill")).handle(invite(direct))[0], Joined)


def test_a_second_signature_of_a_stranger_is_none(direct: Direct) -> None:
    node = node_of(direct, countersigned=True, **knowing("east", "mill"))
    asked = invite(direct)

    def by(member: str) -> Invite:
        identity = next(n for n in direct.nodes.values() if n.member == member)._settings.identity
        signature = identity.sign(COUNTERSIGN_DOMAIN, direct.manifest.digest())
        return msgspec.structs.replace(asked, countersigner=member, countersignature=signature)

    with pytest.raises(RefusedError, match="by p1, whom this node's policy does not recognise"):
        node.handle(by("p1"))
    assert isinstance(node.handle(by("mill"))[0], Joined)


def test_strangers_are_not_left_alone_with_a_node_when_the_others_do_not_join(
    direct: Direct,
) -> None:
    settings = {**direct.manifest.coordinator_settings, "min_members": 3}
    direct.manifest = replace(direct.manifest, coordinator_settings=settings)
    node = node_of(direct, **knowing("east", "mill"))
    shown = roster(direct, [name for name in NAMES if name != "mill"])
    with pytest.raises(RefusedError, match="recognises 2 of the run's 8 members"):
        node.handle(shown)


def test_strangers_are_not_enough_to_open_a_sum_among_themselves(direct: Direct) -> None:
    # of nine, seven have to hold shares; two and itself are known, so six are not
    node = node_of(direct, **knowing("east", "mill"))
    node.handle(roster(direct, NAMES))
    terms = {**knowing("east"), "policy": NodePolicy(minimum_cohort=2)}
    again = node_of(direct, "north", home=node.home / "other", **terms)
    with pytest.raises(RefusedError, match="7 members whom this node's policy does not recognise"):
        again.handle(roster(direct, NAMES))


def test_nothing_is_opened_over_too_few_known_members(direct: Direct) -> None:
    """Known members are said to have dropped out, so that a vector is left with strangers'."""
    terms = knowing("east", "mill")
    for member in ("east", "mill", "north"):
        others = {"east", "mill", "north"} - {member}
        node_of(direct, member, **{**terms, "recognised": lambda o=others: frozenset(o)})
    direct.transport.members = direct.nodes

    def away(member: str, request: Request, after: bool) -> bool:
        del after
        return member == "mill" and isinstance(request, TrainRequest)

    direct.transport.away = away
    with pytest.raises((CohortError, RefusedError), match="recognises 2 of the run's 8 members"):
        direct.run()


def test_who_was_revoked_since_is_found_when_the_roster_is_shown(direct: Direct) -> None:
    known = dict(direct.nodes[100]._settings.members())
    node = node_of(direct, known=lambda: known)
    shown = roster(direct, NAMES)
    gone = known.pop("p1")
    with pytest.raises(RefusedError, match="p1 takes part in the federation no more"):
        node.handle(shown)
    known["p1"] = Identity.create(system_bytes).public
    with pytest.raises(RefusedError, match=r"p1 takes part .* or with another key"):
        node.handle(shown)
    known["p1"] = gone
    node.handle(shown)


def test_a_launcher_that_was_revoked_since_is_found_too(direct: Direct) -> None:
    allowed = {"bank": direct.launcher.public}
    node = node_of(direct, launcher=b"", launchers=lambda: allowed, sessions=True)
    data = direct.manifest.to_bytes()
    signature = direct.launcher.sign(SIGNING_DOMAIN, data)
    asked = Invite(manifest=data, signature=signature, launcher=direct.launcher.public)
    joined = node.handle(asked)[0]
    offers = [
        other.handle(invite(direct))[0].offer  # type: ignore[union-attr]
        for other in direct.nodes.values()
        if other is not node
    ]
    shown = RosterNotice(
        run=direct.manifest.digest(),
        offers=(*offers, joined.offer),  # type: ignore[union-attr]
    )
    allowed.clear()
    # also by a node that was started anew meanwhile
    for one in (node, Node(node._settings)):
        # the same words once more are no new agreement
        assert one.handle(asked)[0] == joined
        with pytest.raises(RefusedError, match="by somebody who may start none here"):
            one.handle(shown)


def test_a_member_that_joined_a_moment_ago_is_no_stranger(direct: Direct) -> None:
    """A node that has not heard of it looks at the acts first that the launcher saw."""
    everybody = {name: bytes.fromhex(key) for name, key in direct.manifest.directory.items()}
    heard = {"north": everybody["north"]}

    def seen(count: int) -> str:
        heard.update(everybody)
        return {7: ACTS}.get(count, "")

    node = node_of(direct, known=lambda: dict(heard), seen=seen)
    assert isinstance(node.handle(invite(direct))[0], Joined)


def test_a_launcher_that_joined_a_moment_ago_is_no_stranger(direct: Direct) -> None:
    allowed: dict[str, bytes] = {}

    def seen(count: int) -> str:
        allowed["bank"] = direct.launcher.public
        return {7: ACTS}.get(count, "")

    node = node_of(direct, launcher=b"", launchers=lambda: allowed, seen=seen)
    asked = msgspec.structs.replace(invite(direct), launcher=direct.launcher.public)
    forged = Identity.create(system_bytes).sign(SIGNING_DOMAIN, asked.manifest)
    with pytest.raises(ProtocolError, match="a signature for manifest does not verify"):
        node.handle(msgspec.structs.replace(asked, signature=forged))
    assert isinstance(node.handle(asked)[0], Joined)


def test_a_launcher_sees_the_membership_that_a_node_sees(direct: Direct) -> None:
    acts = {7: ACTS}
    node = node_of(direct, seen=lambda count: acts.get(count, ""))
    bare = {name: direct.manifest.ledger[name] for name in ("origin", "key")}
    with pytest.raises(RefusedError, match="does not say which acts of membership"):
        node.handle(invite(direct, ledger=bare))
    for changed in ({"acts": "6"}, {"acts": "8"}, {"membership": "ac" * 32}):
        with pytest.raises(RefusedError, match="compare tacit federation members on both"):
            node.handle(invite(direct, ledger={**direct.manifest.ledger, **changed}))
    assert isinstance(node.handle(invite(direct))[0], Joined)
    # a node of a home that keeps all of them has no federation to compare
    home = node_of(direct, "mill", seen=None)
    assert isinstance(home.handle(invite(direct, ledger=bare))[0], Joined)
