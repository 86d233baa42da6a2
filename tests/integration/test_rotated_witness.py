"""A witness of a log whose key changes: at a registry and at a home, honest and not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.certificates import Authority
from support.federations import Federated
from support.registry import BANK, NOW_S, REGULATOR, Ledger, World, identity, made_world
from support.rotations import rotate

from federation.coordinator_key import rotate_key
from federation.cosigned import MEMORY, cosigned_heads
from federation.evidence import Evidence, home_evidence
from federation.ledger_recorder import now_ms
from federation.registry.client import RegistrySource
from federation.registry.local import LocalSource
from federation.registry.witness import LogWitness, Outcome
from privacy.ledger.checkpoint import cosigners, open_checkpoint
from privacy.ledger.keys import cosigner_key
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.sqlite import SqliteLedger
from privacy.randomness import system_bytes


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create()


@pytest.fixture
def world(authority: Authority, tmp_path: Path) -> Iterator[World]:
    with made_world(authority, tmp_path) as made:
        made.nodes.clear()
        yield made


def changed(ledger: Ledger, seed: int) -> None:
    """Another key signs the ledger, and its newest state."""
    ledger.signer = rotate(ledger.store, ledger.signer, identity(seed))
    ledger.sign()


def look(world: World, shown: Ledger, *, memory: str = "memory", by: str = REGULATOR) -> Outcome:
    """At a registry that shows this ledger, as after a restart of both."""
    evidence = Evidence(federation="test", coordinator=shown.view, nodes=())
    role = "regulator" if by == REGULATOR else "bank"
    source = RegistrySource(world.client(world.serve(evidence=lambda: evidence), role, by))
    watcher = LogWitness(
        world.folder / memory,
        key=world.witness_key(by),
        sign=world.witnesses[by].sign_note,
        logs=None,
    )
    (one,) = watcher.look(source, time_s=NOW_S)
    return one


def copy(ledger: Ledger, count: int | None = None) -> Ledger:
    return Ledger(
        MemoryLedger(list(ledger.store.leaves(0, count))), ledger.owner, ledger.role, ledger.signer
    )


@pytest.mark.parametrize("by", [REGULATOR, BANK])
def test_a_witness_follows_to_new_keys_by_itself(world: World, by: str) -> None:
    ledger = world.coordinator
    first = ledger.key
    assert look(world, ledger, by=by).state == "cosigned"
    ledger.grow(3)
    changed(ledger, 30)
    ledger.grow(2)
    changed(ledger, 31)
    one = look(world, ledger, by=by)
    assert (one.state, one.old, one.pinned, one.reason) == ("cosigned", 10, None, "")
    key = world.witness_key(by)
    assert cosigners(ledger.store.checkpoints()[-1][1], [key]) == {key.name: NOW_S}
    # another entry needs no other key, and the first key still names the log
    ledger.grow(1)
    ledger.sign()
    watcher = LogWitness(
        world.folder / "memory",
        key=key,
        sign=world.witnesses[by].sign_note,
        logs={ledger.origin: first},
    )
    (again,) = watcher.look(LocalSource(world.evidence, place="here"), time_s=NOW_S)
    assert again.state == "cosigned"


def test_a_log_that_changed_before_it_was_met_is_met_with_its_first_key(world: World) -> None:
    ledger = world.coordinator
    first = ledger.key
    changed(ledger, 30)
    changed(ledger, 31)
    one = look(world, ledger)
    assert (one.state, one.pinned) == ("cosigned", first)
    assert look(world, ledger).pinned is None


def test_what_no_rotation_led_to_is_refused_and_accuses_nobody(world: World) -> None:
    ledger = world.coordinator
    thief = copy(ledger)
    look(world, ledger)
    thief.grow(1)
    thief.signer = identity(66)
    thief.sign()
    one = look(world, thief)
    assert (one.state, one.is_accusation) == ("refused", False)
    forged = copy(ledger)
    rotate(forged.store, identity(66), identity(66))
    forged.signer = identity(66)
    forged.sign()
    one = look(world, forged)
    assert (one.state, one.is_accusation) == ("refused", False)
    assert "did not sign the new one" in one.reason
    changed(ledger, 30)
    assert look(world, ledger).state == "cosigned"


def test_the_old_key_signs_no_second_history(world: World) -> None:
    """Who has the old key still, and another ledger, is refused or accused; never followed."""
    ledger = world.coordinator
    look(world, ledger)
    rival, shorter = copy(ledger), copy(ledger, 8)
    changed(ledger, 30)
    assert look(world, ledger).state == "cosigned"
    rival.grow(4, "other")
    rival.sign()
    assert look(world, rival).state == "refused"
    rival.signer = rotate(rival.store, rival.signer, identity(67))
    rival.sign()
    assert look(world, rival).state == "refused"
    shorter.grow(1, "other")
    shorter.sign()
    one = look(world, shorter)
    assert (one.state, one.is_accusation) == ("rolled back", True)
    assert look(world, ledger).state == "cosigned"


def test_a_fork_with_a_rotation_is_two_histories(world: World) -> None:
    ledger = world.coordinator
    rival = copy(ledger, 8)
    look(world, ledger)
    rival.grow(4, "other")
    changed(rival, 68)
    one = look(world, rival)
    assert (one.state, one.is_accusation) == ("two histories", True)


def test_a_registry_that_lost_the_state_after_the_rotation_is_behind(world: World) -> None:
    ledger = world.coordinator
    look(world, ledger)
    changed(ledger, 30)
    look(world, ledger)
    lost = copy(ledger)
    lost.signer = identity(1)
    lost.sign(10)
    assert look(world, lost).state == "behind"


def test_a_home_is_witnessed_on_and_what_was_cosigned_counts_for_an_auditor(
    tmp_path: Path,
) -> None:
    federated = Federated(tmp_path)
    place = federated.add("Bank")
    federated.sign()
    folder = place.home.root / MEMORY
    key = cosigner_key("Bank", place.identity().public)
    for rotations in range(3):
        if rotations:
            rotate_key(federated.home, entropy=system_bytes, now_ms=now_ms)
        source = LocalSource(home_evidence(federated.home), place="home")
        pins = {place.log_key.name: place.log_key}
        watcher = LogWitness(folder, key=key, sign=place.identity().sign_note, logs=pins)
        (one,) = watcher.look(source, time_s=NOW_S)
        assert one.state == "cosigned"
        store = SqliteLedger(federated.home.ledger)
        (head,) = cosigned_heads(place)
        assert head.leaves == store.size() == one.size
        newest = watcher._witness.key_of(place.ledger_origin)
        assert newest is not None
        assert open_checkpoint(store.checkpoints()[-1][1], newest).size == one.size
