"""Who may start runs here, who must have signed them too, who decides; and several contracts."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from support import tables
from support.direct import Direct, DirectTransport, assemble

from clients.app import client_app
from clients.consent import Consent
from clients.desk import Desk
from clients.node import Node
from clients.policy import BudgetPolicy, NodePolicy
from privacy.errors import CohortError, InputError, ProtocolError, RefusedError
from privacy.identity import Identity
from privacy.ledger.store import entries_of
from privacy.manifest import COUNTERSIGN_DOMAIN, SIGNING_DOMAIN, Manifest
from privacy.messages import (
    Countersigned,
    CountersignRequest,
    Invite,
    Joined,
    Pending,
    TrainRequest,
)
from privacy.randomness import system_bytes

BANK = Identity.create(system_bytes)


@pytest.fixture(name="direct")
def _direct(tmp_path: Path) -> Direct:
    return assemble(tables.write(tmp_path).config, tmp_path)


def node_with(direct: Direct, **changes: object) -> Node:
    """The first member's node, with some of its settings replaced; started by whoever is BANK."""
    first = direct.nodes[100]._settings
    usual = {"launcher": b"", "launchers": lambda: {"first-bank": BANK.public}}
    return Node(replace(first, **{**usual, **changes}))  # type: ignore[arg-type]


def invite(direct: Direct, *, by: Identity = BANK, **changes: object) -> Invite:
    data = replace(direct.manifest, **changes).to_bytes()  # type: ignore[arg-type]
    return Invite(manifest=data, signature=by.sign(SIGNING_DOMAIN, data), launcher=by.public)


def countersigned(asked: Invite, member: str, identity: Identity) -> Invite:
    digest = Manifest.from_bytes(asked.manifest).digest()
    signature = identity.sign(COUNTERSIGN_DOMAIN, digest)
    return msgspec.structs.replace(asked, countersigner=member, countersignature=signature)


def kinds(node: Node) -> list[str]:
    return [entry.kind for entry in entries_of(node._ledger.leaves())]


def test_only_who_may_start_runs_now_starts_one(direct: Direct) -> None:
    allowed: dict[str, bytes] = {}
    node = node_with(direct, launchers=lambda: allowed)
    stranger = Identity.create(system_bytes)
    for asked in (invite(direct), invite(direct, by=stranger)):
        with pytest.raises(RefusedError, match="by somebody who may start none here"):
            node.handle(asked)
    # strangers do not fill this node's ledger
    assert node._ledger.size() == 0
    allowed["first-bank"] = BANK.public
    with pytest.raises(ProtocolError, match="a signature for manifest does not verify"):
        node.handle(msgspec.structs.replace(invite(direct, by=stranger), launcher=BANK.public))
    with pytest.raises(RefusedError, match="by somebody who may start none here"):
        node.handle(msgspec.structs.replace(invite(direct), launcher=b""))
    reply, _ = node.handle(invite(direct))
    assert isinstance(reply, Joined)
    allowed.clear()
    with pytest.raises(RefusedError, match="by somebody who may start none here"):
        node.handle(invite(direct, run="next-run"))


def test_a_pinned_launcher_is_the_only_one(direct: Direct) -> None:
    node = node_with(direct, launcher=BANK.public, launchers=None)
    with pytest.raises(RefusedError, match="by somebody who may start none here"):
        node.handle(invite(direct, by=direct.launcher))
    reply, _ = node.handle(msgspec.structs.replace(invite(direct), launcher=b""))
    assert isinstance(reply, Joined)


def test_a_second_member_must_have_signed_the_run_where_the_node_says_so(direct: Direct) -> None:
    node, asked = node_with(direct, countersigned=True), invite(direct)
    south = direct.nodes[101]._settings.identity
    wrong = [
        (asked, "signed by its launcher alone"),
        (countersigned(asked, "nobody", south), "by nobody whom this node knows"),
        (countersigned(asked, "west", south), "countersign does not verify"),
        (countersigned(invite(direct, run="other"), "south", south), "countersign does not"),
        (msgspec.structs.replace(asked, countersigner="south"), "countersign does not verify"),
    ]
    for request, sentence in wrong:
        moved = msgspec.structs.replace(request, manifest=asked.manifest, signature=asked.signature)
        with pytest.raises(RefusedError, match=sentence):
            node.handle(moved)
    reply, _ = node.handle(countersigned(asked, "south", south))
    assert isinstance(reply, Joined)


def test_a_launcher_does_not_countersign_its_own_run(direct: Direct) -> None:
    south = direct.nodes[101]._settings.identity
    launchers = {"south": south.public}
    node = node_with(direct, countersigned=True, launchers=lambda: launchers)
    asked = invite(direct, by=south)
    with pytest.raises(RefusedError, match="by another member than its launcher"):
        node.handle(countersigned(asked, "south", south))
    itself = Node(replace(direct.nodes[101]._settings, launchers=lambda: launchers))
    with pytest.raises(RefusedError, match="by another member than its launcher"):
        itself.handle(countersign(asked))


def countersign(asked: Invite) -> CountersignRequest:
    return CountersignRequest(
        manifest=asked.manifest, signature=asked.signature, launcher=asked.launcher
    )


def test_a_countersignature_is_given_for_what_would_be_joined_and_joins_nothing(
    direct: Direct,
) -> None:
    asked, node = invite(direct), node_with(direct)
    reply, _ = node.handle(countersign(asked))
    assert isinstance(reply, Countersigned)
    assert reply.member == node.member
    other = node_with(direct, home=node.home / "other", countersigned=True)
    signed = msgspec.structs.replace(
        asked, countersigner=reply.member, countersignature=reply.signature
    )
    assert isinstance(other.handle(signed)[0], Joined)
    assert not set(kinds(node)) & {"run.joined", "rows.read", "ledger.followed"}
    assert isinstance(node.handle(signed)[0], Joined)


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (NodePolicy(countersigns=False), "countersigns no runs"),
        (NodePolicy(minimum_cohort=5), "insists on at least 5"),
        (NodePolicy(budgets=(BudgetPolicy(epsilon=1.0),)), "has no noise"),
    ],
)
def test_no_countersignature_for_what_would_be_refused(
    direct: Direct, policy: NodePolicy, sentence: str
) -> None:
    node = node_with(direct, policy=policy)
    with pytest.raises(RefusedError, match=sentence):
        node.handle(countersign(invite(direct)))
    # a node that only never signs for others refuses no run by that, and may join it
    assert kinds(node)[-1:] == (["run.refused"] if policy.countersigns else [])


def test_while_somebody_decides_nothing_is_remembered_and_nothing_spent(direct: Direct) -> None:
    said: list[Consent] = []
    asked: list[str] = []

    def consent(manifest: Manifest, launcher: str) -> Consent:
        asked.append(f"{launcher} {manifest.run}")
        return said[-1] if said else Consent.WAITING

    node = node_with(direct, consent=consent)
    for request in (invite(direct), invite(direct), countersign(invite(direct))):
        reply, _ = node.handle(request)
        assert isinstance(reply, Pending)
        assert reply.member == node.member
    assert asked == ["first-bank test-run"] * 3
    assert not set(kinds(node)) & {"run.joined", "rows.read", "ledger.followed", "run.refused"}
    said.append(Consent.GIVEN)
    reply, _ = node.handle(invite(direct))
    assert isinstance(reply, Joined)
    # the very same invitation is answered with the same words, and nobody is asked again
    assert node.handle(invite(direct))[0] == reply
    assert len(asked) == 4


def test_nobody_is_asked_about_a_run_that_does_not_fit(direct: Direct) -> None:
    def consent(_: Manifest, __: str) -> Consent:
        raise AssertionError

    node = node_with(direct, consent=consent, policy=NodePolicy(minimum_cohort=5))
    with pytest.raises(RefusedError, match="insists on at least 5"):
        node.handle(invite(direct))


def test_members_and_terms_are_those_of_the_moment(direct: Direct) -> None:
    known = dict(direct.nodes[100]._settings.members())
    gone = known.pop("west")
    policies = [NodePolicy(minimum_cohort=5)]
    node = node_with(direct, known=lambda: known, policy=lambda: policies[-1])
    with pytest.raises(RefusedError, match="names west with a key"):
        node.handle(invite(direct))
    known["west"] = gone
    with pytest.raises(RefusedError, match="insists on at least 5"):
        node.handle(invite(direct))
    policies.append(NodePolicy())
    assert isinstance(node.handle(invite(direct))[0], Joined)


@pytest.mark.parametrize("run", ["../other", "a/b", "", ".hidden", "a" * 129, "x (units)", "a\n"])
def test_a_runs_name_is_a_folders(direct: Direct, run: str) -> None:
    with pytest.raises(RefusedError, match="A run's name has"):
        node_with(direct).handle(invite(direct, run=run))


def test_terms_that_change_in_mid_run_hold_from_then_on(direct: Direct) -> None:
    policies = [NodePolicy()]
    settings = direct.nodes[100]._settings
    direct.nodes[100] = Node(replace(settings, policy=lambda: policies[-1]))
    direct.transport = DirectTransport(direct.nodes)

    def away(member: str, request: object, after: bool) -> bool:
        del member, after
        if isinstance(request, TrainRequest) and request.round == 2:
            policies.append(NodePolicy(budgets=(BudgetPolicy(epsilon=8.0, order=8),)))
        return False

    direct.transport.away = away
    # from round 2 on its vectors would have to have noise, and the others are too few
    with pytest.raises(CohortError, match="this release has no noise"):
        direct.run()
    terms = [e for e in entries_of(direct.nodes[100]._ledger.leaves()) if e.kind == "budget.terms"]
    assert [entry.body["epsilon"] for entry in terms] == [None, 8.0]


# -- several contracts ------------------------------------------------------------------------


def two_contracts(folder: Path) -> tuple[Direct, Direct, Mapping[int, Desk]]:
    """Two federations of the same members, each about another contract, one desk a member."""
    one = assemble(tables.write(folder / "one").config, folder / "one")
    two = assemble(
        tables.write(folder / "two", contract_changes={"name": "others"}).config,
        folder / "two",
        notes=replace(one.notes),
    )
    directory = one.manifest.directory
    two.manifest = replace(two.manifest, directory=directory, run="second-run")
    two.launcher = one.launcher
    desks: dict[int, Desk] = {}
    for place, node in one.nodes.items():
        first = replace(node._settings, sessions=True)
        second = replace(
            two.nodes[place]._settings,
            identity=first.identity,
            known=first.known,
            launcher=first.launcher,
            home=first.home,
            sessions=True,
        )
        desks[place] = Desk([Node(first), Node(second)])
    return one, two, desks


def test_one_member_serves_runs_about_two_contracts_at_once(tmp_path: Path) -> None:
    one, two, desks = two_contracts(tmp_path)
    failed: list[BaseException] = []

    def run(direct: Direct) -> None:
        direct.transport = DirectTransport(desks)  # type: ignore[arg-type]
        try:
            direct.run()
        except InputError:
            pass  # the second run's files lie in the first one's folders
        except BaseException as fault:  # noqa: BLE001 - told below
            failed.append(fault)

    run(one)
    run(two)
    assert failed == []
    for place, desk in desks.items():
        home = one.nodes[place].home
        assert {path.name for path in (home / "runs").iterdir()} == {"test-run", "second-run"}
        assert (home / "runs" / "second-run" / "model.safetensors").exists()
        assert desk.runs == {}
        entries = list(entries_of(one.nodes[place]._ledger.leaves()))
        datasets = {e.body["dataset"] for e in entries if e.kind == "budget.reserved"}
        assert datasets == {"small_binary", "others"}


def test_each_run_goes_to_the_contract_that_it_is_about(tmp_path: Path) -> None:
    one, two, desks = two_contracts(tmp_path)
    desk = desks[100]
    client_app(desk)
    assert (desk.member, desk.tells_data_errors) == ("north", False)
    for direct in (one, two):
        data = direct.manifest.to_bytes()
        asked = Invite(manifest=data, signature=direct.launcher.sign(SIGNING_DOMAIN, data))
        assert isinstance(desk.handle(asked)[0], Joined)
    assert set(desk.runs.values()) == {"test-run", "second-run"}
    # also after a restart, whoever is asked first
    again = Desk([Node(node._settings) for node in desk._nodes.values()])
    late = TrainRequest(run=two.manifest.digest(), accepted={}, round=1)
    for held in (desk, again):
        with pytest.raises(ProtocolError, match="asked for after the statistics"):
            held.handle(late)
    assert set(again.restore()) | {"second-run"} == {"test-run", "second-run"}
    data = replace(one.manifest, contract="0" * 64).to_bytes()
    stranger = Invite(manifest=data, signature=one.launcher.sign(SIGNING_DOMAIN, data))
    with pytest.raises(RefusedError, match="this node holds others, small_binary: agree"):
        desk.handle(stranger)
    with pytest.raises(ProtocolError, match="has not joined that run"):
        desk.handle(msgspec.structs.replace(late, run=bytes(32)))


def test_a_desk_is_of_one_member_and_one_folder(tmp_path: Path) -> None:
    one, _, desks = two_contracts(tmp_path)
    north, south = one.nodes[100], one.nodes[101]
    for wrong in ([], [north, south], [north, north]):
        with pytest.raises(InputError):
            Desk(wrong)
    assert desks[100].contracts == ("others", "small_binary")
