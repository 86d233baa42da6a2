"""What a home or a bundle holds as evidence, and how it is handed over."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.homes import MEMBERS, Household
from support.ledgers import (
    COORDINATOR,
    DATASET,
    ORIGIN,
    bundle_of,
    data_of,
    key_of,
    ledger_of,
    rotation,
    signed_state,
)

from federation.evidence import (
    POLICY,
    bundled_evidence,
    home_bundle,
    home_evidence,
    live_bundle,
    to_bundle,
)
from federation.home import LEDGER_VARIABLE, Home
from privacy.errors import InputError, NotVerifiedError
from privacy.ledger import parse_leaf
from privacy.ledger.checkpoint import Checkpoint, parse_checkpoint_text
from privacy.ledger.keys import cosigner_key, log_key, log_origin
from privacy.ledger.merkle import EMPTY_ROOT
from privacy.ledger.note import parse_note
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append
from privacy.ledger.trust import TrustPolicy, parse_policy
from privacy.verify import verify_bundle, verify_data


@pytest.fixture(autouse=True)
def _in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LEDGER_VARIABLE, raising=False)


@pytest.fixture
def household(tmp_path: Path) -> Household:
    found = Household(tmp_path / "north harbour")
    found.run()
    return found


def overwrite(path: Path, place: int, leaf: bytes) -> None:
    """As whoever owns the file can."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER IF EXISTS entry_stays")
        connection.execute("UPDATE entry SET leaf = ? WHERE place = ?", (leaf, place))


# --- of a home ---


def test_a_ledger_that_never_began_is_as_good_as_none(household: Household) -> None:
    before = [view.owner for view in home_evidence(household.home).nodes]
    folder = household.home.root / "nodes" / DATASET / "zeta"
    folder.mkdir(parents=True)
    (folder / "ledger.db").touch()  # a disk was full as it was begun
    assert [view.owner for view in home_evidence(household.home).nodes] == before


def test_a_homes_ledgers_are_found_with_their_owners(household: Household) -> None:
    evidence = home_evidence(household.home)
    assert evidence.federation == "north harbour"
    assert evidence.coordinator is not None
    assert (evidence.coordinator.origin, evidence.coordinator.owner) == (ORIGIN, COORDINATOR)
    assert (evidence.coordinator.role, evidence.coordinator.dataset) == ("coordinator", "")
    assert [(view.owner, view.role, view.dataset, view.origin) for view in evidence.nodes] == [
        (name, "node", DATASET, log_origin(name, key_of(name).public)) for name in sorted(MEMBERS)
    ]
    assert evidence.views == (evidence.coordinator, *evidence.nodes)
    assert evidence.coordinator.store.size() == household.recorder.store.size()


def test_nodes_come_in_the_order_of_their_names_and_data_sets(tmp_path: Path) -> None:
    home = Household(tmp_path).home
    more = home.root / "nodes" / "motor%20claims" / "bank"
    more.mkdir(parents=True)
    body = {"origin": "tacit/bank/0", "key": "a" * 64, "owner": "bank", "role": "node"}
    append(SqliteLedger(more / "ledger.db"), "ledger.begun", body, time_ms=0)
    found = [(view.owner, view.dataset) for view in home_evidence(home).nodes]
    with pytest.raises(InputError, match="cannot read the identity"):
        home_bundle(home)  # nobody signs for that folder
    assert found == [
        ("bank", DATASET), ("bank", "motor claims"), ("broker", DATASET), ("insurer", DATASET)
    ]  # fmt: skip


def test_a_node_without_a_ledger_is_no_evidence(household: Household) -> None:
    (household.home.node(DATASET, "maker")).mkdir()
    assert [view.owner for view in home_evidence(household.home).nodes] == sorted(MEMBERS)
    household.nodes.stores["broker"].close()  # type: ignore[attr-defined]  # it is a file's
    for path in household.ledger_of("broker").parent.glob("ledger.db*"):
        path.unlink()
    bundle = home_bundle(household.home)
    assert [log.owner for log in bundle.logs] == [COORDINATOR, "bank", "insurer"]
    assert verify_bundle(bundle).missing == ("broker",)


def test_a_home_may_hold_nodes_ledgers_alone(tmp_path: Path) -> None:
    whole = Household(tmp_path / "whole")
    whole.run()
    (tmp_path / "part").mkdir()
    (whole.home.root / "nodes").rename(tmp_path / "part" / "nodes")
    home = Home(tmp_path / "part")
    evidence = home_evidence(home)
    assert evidence.coordinator is None
    assert evidence.views == evidence.nodes
    bundle = home_bundle(home)
    assert bundle.policy == "quorum none\n"
    verdict = verify_bundle(bundle)
    assert (verdict.leaves, [node.releases for node in verdict.nodes]) == (0, [3, 3, 3])
    assert not home.ledger.exists()


def test_a_home_without_ledgers_is_said_to_be_one(tmp_path: Path) -> None:
    for home in (Home(tmp_path), Home(tmp_path / "nowhere")):
        for act in (home_evidence, home_bundle, live_bundle):
            with pytest.raises(InputError, match="there is no ledger yet"):
                act(home)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_ledger_is_refused(household: Household, tmp_path: Path) -> None:
    path = household.home.node(DATASET, "maker")
    path.mkdir()
    (path / "ledger.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(NotVerifiedError, match=r"^[^\n]+$"):
        home_evidence(household.home)
    other = Household(tmp_path / "other")
    folder = other.home.node(DATASET, "maker")
    folder.mkdir()
    joined = {"run": "r", "manifest": "a" * 64, "origin": ORIGIN}
    append(SqliteLedger(folder / "ledger.db"), "run.joined", joined, time_ms=0)
    with pytest.raises(NotVerifiedError, match="does not begin as a ledger does"):
        home_evidence(other.home)


def test_looking_writes_nothing(household: Household) -> None:
    for member in MEMBERS:
        household.nodes.stores[member].close()  # type: ignore[attr-defined]  # it is a file's
    household.recorder.store.close()  # type: ignore[attr-defined]

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in household.home.root.rglob("*.db")}

    before = files()
    live_bundle(household.home)
    home_bundle(household.home)
    assert files() == before


# --- the bundle ---


def test_what_a_home_hands_over_holds(household: Household) -> None:
    household.run("s")
    bundle = home_bundle(household.home)
    verdict = verify_bundle(bundle)
    assert (verdict.runs, verdict.rounds, verdict.missing) == (2, 2, ())
    assert {node.compared for node in verdict.nodes} == {6}
    assert len(verdict.cosigned) == len(MEMBERS)
    assert bundle.federation == "north harbour"
    assert bundle.made_ms > 1_700_000_000_000


def test_the_newest_state_of_each_ledger_is_signed_by_its_own_key(household: Household) -> None:
    household.start()
    bundle = home_bundle(household.home)
    for log, name in zip(bundle.logs, (COORDINATOR, *sorted(MEMBERS)), strict=True):
        note = parse_note(log.checkpoints[-1])
        state = parse_checkpoint_text(note.text)
        assert (state.origin, state.size) == (log.origin, len(log.leaves))
        assert note.by(log_key(log.origin, key_of(name).public))
    coordinator = bundle.logs[0]
    # what members cosigned before stays beside it, with the proof between both
    assert len(coordinator.checkpoints) == 2
    assert [(proof.old, proof.new) for proof in coordinator.proofs] == [
        (len(coordinator.leaves) - 1, len(coordinator.leaves))
    ]
    old = parse_note(coordinator.checkpoints[0])
    assert all(old.by(cosigner_key(name, key_of(name).public)) for name in MEMBERS)


def test_a_state_that_was_signed_is_not_signed_again(household: Household) -> None:
    (kept,) = household.recorder.store.checkpoints()
    log = home_bundle(household.home).logs[0]
    assert log.checkpoints == (kept[1],)
    assert log.proofs == ()


def test_without_an_identity_nothing_is_handed_over(household: Household) -> None:
    places = [household.home.coordinator]
    places += [household.ledger_of(name).with_name("identity.pem") for name in MEMBERS]
    for place in places:
        data = place.read_bytes()
        place.unlink()
        with pytest.raises(InputError, match="cannot read the identity"):
            home_bundle(household.home)
        live_bundle(household.home)  # that needs none
        place.write_bytes(b"no key")
        place.chmod(0o600)
        with pytest.raises(InputError, match="holds no private key"):
            home_bundle(household.home)
        place.write_bytes(data)
        place.chmod(0o644)
        with pytest.raises(InputError, match="others may read"):
            home_bundle(household.home)
        place.chmod(0o600)
    home_bundle(household.home)


def test_an_identity_of_another_signs_nothing_that_holds(household: Household) -> None:
    household.start()
    household.home.coordinator.unlink()
    key_of("second key").save(household.home.coordinator)
    with pytest.raises((InputError, NotVerifiedError)):
        verify_bundle(home_bundle(household.home))


def test_a_ledger_that_was_changed_on_disk_is_not_signed(household: Household) -> None:
    household.start()
    for path in (household.home.ledger, household.ledger_of("bank")):
        leaf = next(SqliteLedger(path).leaves(2, 3))
        for wrong in (leaf.replace(b'"index":2', b'"index":3'), later(leaf), leaf + b" "):
            overwrite(path, 2, wrong)
            with pytest.raises(NotVerifiedError):
                home_bundle(household.home)
            live_bundle(household.home)  # that is for the verifier to find
        overwrite(path, 2, leaf)
        home_bundle(household.home)


def later(leaf: bytes) -> bytes:
    """The same entry at another time."""
    entry = parse_leaf(leaf)
    return replace(entry, time_ms=entry.time_ms + 1).leaf()


def test_a_live_bundle_signs_nothing(household: Household) -> None:
    bundle = live_bundle(household.home)
    assert all(log.checkpoints == () for log in bundle.logs[1:])
    assert len(bundle.logs[0].checkpoints) == 1
    assert verify_bundle(bundle, live=True).rounds == 1
    with pytest.raises(NotVerifiedError, match=r"^step 5 .*no state of it is signed"):
        verify_bundle(bundle)


def test_a_live_bundle_may_be_ahead_of_what_was_signed(household: Household) -> None:
    household.start()
    bundle = live_bundle(household.home)
    assert len(bundle.logs[0].leaves) == household.recorder.store.size()
    assert verify_bundle(bundle, live=True).unfinished == ("s",)


# --- the policy ---


def test_without_a_policy_the_ledger_names_itself_and_nobody_has_to_cosign(
    household: Household,
) -> None:
    policy = parse_policy(home_bundle(household.home).policy)
    assert policy == TrustPolicy(logs=(log_key(ORIGIN, key_of(COORDINATOR).public),))
    assert live_bundle(household.home).policy == policy.to_text()


def test_a_homes_policy_goes_along(household: Household) -> None:
    regulator = cosigner_key("regulator", key_of("regulator").public)
    text = (
        f"# our regulator\nlog {log_key(ORIGIN, key_of(COORDINATOR).public).to_text()}\n"
        f"witness regulator {regulator.to_text()}\nquorum regulator\n"
    )
    (household.home.root / POLICY).write_text(text)
    for bundle, live in ((home_bundle(household.home), False), (live_bundle(household.home), True)):
        assert parse_policy(bundle.policy) == parse_policy(text)
        with pytest.raises(NotVerifiedError, match=r"^step 7 .*too few witnesses.*regulator"):
            verify_bundle(bundle, live=live)
        assert verify_bundle(bundle, policy=TrustPolicy(logs=()), live=live).runs == 1


@pytest.mark.parametrize("data", [b"", b"quorum none", b"quorum x\n", b"\xff\n", b"log x\n"])
def test_a_policy_that_cannot_be_read_is_one_sentence(household: Household, data: bytes) -> None:
    (household.home.root / POLICY).write_bytes(data)
    for act in (home_bundle, live_bundle):
        with pytest.raises(InputError, match=r"^[^\n]+$"):
            act(household.home)


# --- of a bundle ---


def test_what_a_bundle_holds_can_be_handed_on(household: Household) -> None:
    household.start()
    bundle = home_bundle(household.home)
    evidence = bundled_evidence(bundle)
    assert evidence.federation == bundle.federation
    assert [view.origin for view in evidence.views] == [log.origin for log in bundle.logs]
    assert evidence.coordinator is not None
    assert [view.owner for view in evidence.nodes] == sorted(MEMBERS)
    again = to_bundle(evidence, {})
    assert again.logs == bundle.logs
    verify_bundle(again)


def test_what_a_bundle_holds_is_not_checked_by_looking_at_it() -> None:
    """Whoever looks at it first verifies it; but what cannot be read at all is said."""
    bundle = bundle_of(ledger_of())
    log = bundle.logs[0]
    bare = replace(bundle, logs=(replace(log, checkpoints=(), proofs=()),))
    assert bundled_evidence(bare).views[0].store.checkpoints() == []
    alone = replace(bundle, logs=(replace(log, role="node"),))
    assert bundled_evidence(alone).coordinator is None
    assert bundled_evidence(replace(bundle, logs=())).views == ()
    for note in (b"", b"x", b"x\ny\nz", b"x\n\n"):
        with pytest.raises(NotVerifiedError, match="cannot be read"):
            bundled_evidence(replace(bundle, logs=(replace(log, checkpoints=(note,)),)))
    empty = signed_state(Checkpoint(ORIGIN, 0, EMPTY_ROOT), key_of(COORDINATOR))
    kept = bundled_evidence(replace(bundle, logs=(replace(log, checkpoints=(empty,)),)))
    assert kept.views[0].store.checkpoints() == [(0, empty)]
    # two of one size are no reason to show nothing; of a bundle that is verified there are none
    two = replace(log, checkpoints=(b"x\n0\n", empty))
    assert bundled_evidence(replace(bundle, logs=(two,))).views[0].store.checkpoints() == [
        (0, empty)
    ]


def test_a_key_history_is_told_as_the_entries_say(household: Household) -> None:
    kind, body = rotation(COORDINATOR, "second key")
    household.recorder.record(kind, body)
    household.home.coordinator.unlink()
    key_of("second key").save(household.home.coordinator)
    bundle = home_bundle(household.home)
    size = len(bundle.logs[0].leaves)
    keys = [(key.since, key.public) for key in bundle.logs[0].keys]
    assert keys == [
        (0, key_of(COORDINATOR).public.hex()),
        (size, key_of("second key").public.hex()),
    ]
    assert verify_bundle(bundle).rounds == 1


def test_a_home_is_verified_from_the_file_that_it_hands_over(household: Household) -> None:
    bundle = home_bundle(household.home)
    assert verify_data(data_of(bundle)) == verify_bundle(bundle)
