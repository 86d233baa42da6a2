"""A witness at a registry, a bundle or a home: what it cosigns, finds and keeps."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.certificates import Authority, save
from support.cli import ROOT
from support.registry import BANK, NOW_S, REGULATOR, Ledger, World, identity, made_world, spend

from federation.evidence import Evidence, bundled_evidence
from federation.registry.client import RegistrySource
from federation.registry.local import LocalSource
from federation.registry.source import LogInfo
from federation.registry.witness import LogWitness, Outcome
from privacy.errors import NotVerifiedError, RefusedError
from privacy.ledger.bundle import Bundle, read_bundle, write_bundle
from privacy.ledger.checkpoint import (
    Checkpoint,
    cosigners,
    open_checkpoint,
    parse_checkpoint_text,
    sign_checkpoint,
)
from privacy.ledger.keys import log_key
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.note import Note, parse_note
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import head_of
from privacy.ledger.trust import two_thirds


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create()


@pytest.fixture
def world(authority: Authority, tmp_path: Path) -> Iterator[World]:
    with made_world(authority, tmp_path) as made:
        yield made


# -- a witness's loop --


def only(outcomes: tuple[Outcome, ...], ledger: Ledger) -> Outcome:
    (one,) = (each for each in outcomes if each.origin == ledger.origin)
    return one


def fork(ledger: Ledger, at: int, size: int) -> Ledger:
    """The same log with another history after entry `at`."""
    store = MemoryLedger(list(ledger.store.leaves(0, at)))
    other = Ledger(store, ledger.owner, ledger.role, ledger.signer)
    assert other.origin == ledger.origin
    other.grow(size - at, "other")
    other.sign()
    return other


def test_a_witness_follows_honest_growth(world: World) -> None:
    at = world.serve()
    source = RegistrySource(world.client(at))
    watcher = world.watcher()
    first = watcher.look(source, time_s=NOW_S)
    assert [one.state for one in first] == ["cosigned"] * 3
    assert [one.pinned for one in first] == [one.key for one in (world.coordinator, *world.nodes)]
    key = world.witness_key(REGULATOR)
    for growth in (0, 1, 5, 64):
        before = world.coordinator.store.size()
        world.coordinator.grow(growth)
        world.coordinator.sign()
        # each time as after a restart
        one = only(world.watcher().look(source, time_s=NOW_S + growth), world.coordinator)
        assert (one.state, one.old, one.size) == ("cosigned", before, before + growth)
        assert one.pinned is None
        note = world.coordinator.store.checkpoints()[-1][1]
        assert cosigners(note, [key]) == {key.name: NOW_S + growth}
    kept = [parse_note(path.read_bytes()) for path in (world.folder / "memory").glob("*.note")]
    assert len(kept) == 3  # of each log its last one


def accused(world: World, shown: Ledger, watcher: LogWitness | None = None) -> dict[str, Any]:
    """The witness meets another history at another registry, and keeps what proves it."""
    before = (watcher or world.watcher())._witness.head(shown.origin)
    evidence = Evidence(federation="test", coordinator=shown.view, nodes=())
    source = RegistrySource(world.client(world.serve(evidence=lambda: evidence)))
    one = only((watcher or world.watcher()).look(source, time_s=NOW_S), shown)
    assert one.state == ("rolled back" if one.size < one.old else "two histories")
    assert one.is_accusation
    assert not one.is_well
    assert not one.line
    assert one.evidence is not None
    told: dict[str, Any] = json.loads(one.evidence.read_text())
    assert told["origin"] == shown.origin
    # both are signed by the log, for anybody to see
    assert before is not None
    remembered = open_checkpoint(told["remembered"]["note"].encode(), shown.key)
    assert remembered == before
    if told["shown"] is not None:
        open_checkpoint(told["shown"].encode(), shown.key)
    note = shown.store.checkpoints()[-1][1] if shown.store.checkpoints() else None
    assert note is None or not cosigners(note, [world.witness_key(REGULATOR)])
    # it stays so, and what was remembered stays remembered
    assert world.watcher()._witness.head(shown.origin) == before
    return told


@pytest.fixture
def watched(world: World) -> World:
    world.nodes.clear()
    source = RegistrySource(world.client(world.serve()))
    assert world.watcher().look(source, time_s=NOW_S)[0].state == "cosigned"
    return world


def test_a_rollback_is_found(watched: World) -> None:
    told = accused(watched, fork(watched.coordinator, 6, 6))
    assert "rolled back" in told["reason"]


def test_an_older_state_of_another_history_is_found(watched: World) -> None:
    other = fork(watched.coordinator, 3, 16)
    other.store._checkpoints.clear()  # type: ignore[attr-defined]
    other.sign(8)
    told = accused(watched, other)
    assert told["proof"]


def test_a_rollback_to_nothing_signed_is_found(watched: World) -> None:
    other = fork(watched.coordinator, 6, 6)
    other.store._checkpoints.clear()  # type: ignore[attr-defined]
    told = accused(watched, other)
    assert told["shown"] is None
    assert "rolled back" in told["reason"]


@pytest.mark.parametrize("size", [8, 10, 11, 16, 40])
@pytest.mark.parametrize("at", [1, 7])
def test_a_split_view_is_found_at_any_size(watched: World, at: int, size: int) -> None:
    accused(watched, fork(watched.coordinator, at, size))
    assert len(list((watched.folder / "memory").glob("*.note"))) == 1  # what is remembered


def test_a_log_that_cannot_prove_its_own_state_is_found(watched: World) -> None:
    ledger = watched.coordinator
    longer = fork(ledger, 10, 20)
    cut = MemoryLedger(list(ledger.store.leaves(0, 10)))
    cut.keep_checkpoint(20, longer.store.checkpoints()[-1][1])
    told = accused(watched, Ledger(cut, ledger.owner, ledger.role, ledger.signer))
    assert told["proof"] == []


def test_an_older_state_that_the_remembered_one_follows_is_no_accusation(watched: World) -> None:
    ledger = watched.coordinator
    # as after a crash that took the newest checkpoint, and no entries
    store = MemoryLedger(list(ledger.store.leaves()))
    crashed = Ledger(store, ledger.owner, ledger.role, ledger.signer)
    evidence = Evidence(federation="test", coordinator=crashed.view, nodes=())
    source = RegistrySource(watched.client(watched.serve(evidence=lambda: evidence)))
    one = only(watched.watcher().look(source, time_s=NOW_S), crashed)
    assert (one.state, one.old, one.size) == ("behind", 10, 0)
    crashed.sign(7)
    one = only(watched.watcher().look(source, time_s=NOW_S), crashed)
    assert (one.state, one.old, one.size, one.is_well) == ("behind", 10, 7, True)
    crashed.sign()
    assert only(watched.watcher().look(source, time_s=NOW_S), crashed).state == "cosigned"


def test_unsigned_words_accuse_nobody(watched: World) -> None:
    """Whoever stands between can say anything; only what the log signed counts against it."""
    ledger = watched.coordinator
    for size in (5, 10, 15):
        forger = Ledger(MemoryLedger(), ledger.owner, ledger.role, identity(77))
        forger.grow(size - 1, "x")
        checkpoint = Checkpoint(ledger.origin, size, bytes.fromhex(head_of(forger.store).root))
        key = log_key(ledger.origin, forger.signer.public)
        forger.origin = ledger.origin
        note = sign_checkpoint(checkpoint, key=key, sign=forger.signer.sign_note)
        forger.store.keep_checkpoint(size, note)
        evidence = Evidence(federation="test", coordinator=forger.view, nodes=())
        source = RegistrySource(watched.client(watched.serve(evidence=lambda e=evidence: e)))  # type: ignore[misc]
        one = only(watched.watcher().look(source, time_s=NOW_S), ledger)
        assert one.state == "refused", size
        assert one.evidence is None
    assert not list((watched.folder / "memory").glob("evidence-*"))
    assert len(list((watched.folder / "memory").glob("*.note"))) == 1


def test_a_note_that_nobody_signed_never_takes_the_place_of_a_signed_one(world: World) -> None:
    world.nodes.clear()
    ledger, memory = world.coordinator, world.folder / "memory"
    newest = ledger.sign()
    forged = Note(newest.text(), parse_note(ledger.store.checkpoints()[0][1]).signatures)

    class Forging(RegistrySource):
        def checkpoint(self, origin: str) -> bytes:
            assert origin == ledger.origin
            return forged.to_bytes()

    client = world.client(world.serve())
    honest, forging = RegistrySource(client), Forging(client)
    assert world.watcher().look(forging, time_s=NOW_S)[0].state == "refused"
    assert not list(memory.glob("*.note"))
    # left by a crash before it was found out
    path = world.watcher()._path(newest)
    path.write_bytes(forged.to_bytes())
    assert world.watcher().look(honest, time_s=NOW_S)[0].state == "cosigned"
    open_checkpoint(path.read_bytes(), ledger.key)
    assert world.watcher().look(forging, time_s=NOW_S)[0].state == "refused"
    open_checkpoint(path.read_bytes(), ledger.key)
    path.unlink()
    assert world.watcher().look(forging, time_s=NOW_S)[0].state == "refused"
    assert not path.exists()


def test_one_log_that_cannot_be_asked_hides_no_other(watched: World) -> None:
    other = fork(watched.coordinator, 4, 12)

    class Failing(RegistrySource):
        def logs(self) -> tuple[LogInfo, ...]:
            strange = [LogInfo(name, 1, None) for name in ("", "\x1b[2J", "\ud800", "gone")]
            return (*strange, *super().logs())

    evidence = Evidence(federation="test", coordinator=other.view, nodes=())
    source = Failing(watched.client(watched.serve(evidence=lambda: evidence)))
    states = [one.state for one in watched.watcher().look(source, time_s=NOW_S)]
    assert states == ["refused"] * 4 + ["two histories"]


def test_only_given_logs_are_witnessed_and_only_with_their_keys(world: World) -> None:
    source = RegistrySource(world.client(world.serve()))
    ledger = world.coordinator
    (one,) = world.watcher(logs={ledger.origin: ledger.key}).look(source, time_s=NOW_S)
    assert (one.origin, one.state, one.pinned) == (ledger.origin, "cosigned", None)
    other = log_key(ledger.origin, identity(55).public)
    with pytest.raises(NotVerifiedError, match="is pinned to"):
        world.watcher(logs={ledger.origin: other})
    (one,) = world.watcher("fresh", logs={ledger.origin: other}).look(source, time_s=NOW_S)
    assert (one.state, one.line) == ("refused", "")
    (one,) = world.watcher("third", logs={"tacit/x/1": log_key("tacit/x/1", b"1" * 32)}).look(
        source, time_s=NOW_S
    )
    assert (one.state, one.origin) == ("not shown", "tacit/x/1")


def test_a_cosignature_that_is_not_taken_is_said(world: World) -> None:
    del world.witnesses[BANK]
    at = world.serve()
    source = RegistrySource(world.client(at, "bank", "other"))
    outcomes = world.watcher().look(source, time_s=NOW_S)
    assert {one.state for one in outcomes} == {"not submitted"}
    assert all(one.line and "registered as no witness" in one.reason for one in outcomes)


class Killed(BaseException):
    pass


def test_a_witness_that_dies_before_it_submits_remembers(world: World) -> None:
    world.nodes.clear()

    class Dying(RegistrySource):
        def submit(self, origin: str, size: int, line: str) -> None:
            raise Killed(origin, size, line)

    client = world.client(world.serve())
    with pytest.raises(Killed):
        world.watcher().look(Dying(client), time_s=NOW_S)
    told = accused(world, fork(world.coordinator, 7, 12))
    assert parse_checkpoint_text(parse_note(told["remembered"]["note"].encode()).text).size == 10
    (one,) = world.watcher().look(RegistrySource(client), time_s=NOW_S)
    assert (one.state, one.old, one.size) == ("cosigned", 10, 10)


# -- the command line --

MAIN = (
    "import sys, typer\n"
    "from federation.cli.witness import witness\n"
    "from federation.cli.registry import app\n"
    "from privacy.errors import TacitError\n"
    "app.command('witness')(witness)\n"
    "try:\n"
    "    sys.exit(app(standalone_mode=False) or 0)\n"
    "except TacitError as error:\n"
    "    sys.exit(f'tacit: {error}')\n"
)


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", MAIN, *words]


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*words),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        # a home that is not given is nobody's, and not this machine's user's
        env={"TACIT_HOME": os.devnull, **os.environ, "PYTHONPATH": str(ROOT)},
    )


def options(world: World, at: str) -> list[str]:
    key = world.folder / "witness.pem"
    if not key.exists():
        world.witnesses[REGULATOR].save(key)
        save(world.authority.client("regulator", REGULATOR), world.folder / "tls")
    files = [str(world.folder / "tls" / f"{name}.pem") for name in ("cert", "key", "ca")]
    return [
        *("witness", "--registry", at, "--identity", str(key)),
        *("--cert", files[0], "--key", files[1], "--ca", files[2]),
        *("--state", str(world.folder / "memory")),
    ]


def test_a_witness_that_is_killed_at_any_time_signs_one_history(world: World) -> None:
    world.nodes.clear()
    ledger = world.coordinator
    at = world.serve(now_ms=lambda: time.time_ns() // 1_000_000)
    words = options(world, at)
    cosigned = 0
    for turn in range(4):
        # one more than the last had seen, whether or not it was quick enough to see all
        ledger.grow(1)
        ledger.sign()
        process = subprocess.Popen(
            command(*words, "--every", "0.01"),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stderr is not None
        assert "cosigned" in "".join(process.stderr.readline() for _ in range(3 if not turn else 2))
        for _ in range(20):
            ledger.grow(1)
            ledger.sign()
            time.sleep(0.005 * (turn + 1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        seen = world.watcher()._witness.seen(ledger.origin)
        assert cosigned < seen <= ledger.store.size()
        cosigned = seen
    told = accused(world, fork(ledger, 7, cosigned + 3))
    assert told["remembered"]["size"] == cosigned


def test_the_verb_says_what_it_did_and_ends_with_1_on_two_histories(world: World) -> None:
    world.nodes.clear()
    at = world.serve(now_ms=lambda: time.time_ns() // 1_000_000)
    words = options(world, at)
    found = run(*words, "--json")
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert told["witness"] == world.witness_key(REGULATOR).to_text()
    assert [(one["state"], one["old"], one["size"]) for one in told["logs"]] == [
        ("cosigned", 0, 10)
    ]
    assert told["logs"][0]["pinned"] == world.coordinator.key.to_text()
    world.coordinator = fork(world.coordinator, 5, 12)
    found = run(*words, "--every", "1")
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert "two histories" in found.stderr
    (path,) = (world.folder / "memory").glob("evidence-*.json")
    assert str(path) in found.stderr
    # status, by whoever has a certificate
    tls = [str(world.folder / "tls" / f"{name}.pem") for name in ("cert", "key", "ca")]
    found = run(
        *("status", "--registry", at, "--json"),
        *("--cert", tls[0], "--key", tls[1], "--ca", tls[2]),
    )
    assert found.returncode == 0, found.stderr
    (one,) = json.loads(found.stdout)["ledgers"]
    assert (one["entries"], one["signed"], one["cosigned"], one["unverified"]) == (12, 12, {}, [])
    assert json.loads(found.stdout)["ledgers"][0]["reason"] == ""


@pytest.fixture
def home(world: World) -> Path:
    """A home with the coordinator's ledger and one node's, each with a signed state."""
    root = world.folder / "home"
    for path, owner, role in (
        (root / "ledger.db", "coordinator", "coordinator"),
        (root / "nodes" / "loans" / "bank" / "ledger.db", "bank", "node"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        store = SqliteLedger(path)
        ledger = Ledger(store, owner, role, identity(60))
        if role == "node":
            spend(store, owner)
        ledger.sign()
        store.close()
    return root


@contextmanager
def served(world: World, home: Path, *words: str) -> Iterator[tuple[str, list[str]]]:
    """`tacit registry serve` in a process of its own: its address, and what it said at its end."""
    said: list[str] = []
    tls = save(world.authority.server(), world.folder / "server")
    process = subprocess.Popen(
        command("serve", "--listen", "127.0.0.1:0", "--json", *tls, *words),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TACIT_HOME": str(home)},
    )
    assert process.stdout is not None
    told = "".join(process.stdout.readline() for _ in range(3))
    try:
        yield json.loads(told)["address"], said
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
        said.append(err)
        assert (process.returncode, out) == (0, "")


def test_a_home_is_served_witnessed_and_looked_at(world: World, home: Path) -> None:
    policy = world.folder / "policy.txt"
    policy.write_text(
        two_thirds((), {"r": world.witness_key(REGULATOR)}).to_text(), encoding="utf-8"
    )
    with served(world, home, "--policy", str(policy)) as (address, said):
        found = run(*options(world, address))
        assert found.returncode == 0, found.stderr
        tls = [str(world.folder / "tls" / f"{name}.pem") for name in ("cert", "key", "ca")]
        words = ("status", "--registry", address, "--policy", str(policy))
        files = ("--cert", tls[0], "--key", tls[1], "--ca", tls[2])
        found = run(*words, *files, "--json")
        assert found.returncode == 0, found.stderr
        ledgers = json.loads(found.stdout)["ledgers"]
        assert [(one["owner"], one["role"]) for one in ledgers] == [
            ("coordinator", "coordinator"),
            ("bank", "node"),
        ]
        for one in ledgers:
            assert one["signed"] == one["entries"]
            assert list(one["cosigned"]) == ["r"]  # as the policy calls it
            assert one["unverified"] == []
        assert "coordinator" in run(*words, *files).stdout
        client = world.client(address)
        file = io.BytesIO()
        client.bundle(file)
        assert len(read_bundle(file.getvalue()).logs) == 2
        assert {one.member for one in client.budgets().budgets} == {"bank"}
        with pytest.raises(RefusedError, match="may not call Bundle"):
            world.client(address, "bank", "bank").bundle(file)
    (err,) = said
    assert f"answers at {address}" in err
    assert "connected spiffe://tacit/regulator/The%20Regulator by TLSv1.3" in err
    assert "key exchange X25519MLKEM768" in err
    assert "refused Bundle to spiffe://tacit/bank/bank" in err
    assert "Traceback" not in err


def test_the_homes_own_ledgers_are_witnessed(
    world: World, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TACIT_HOME", str(home))
    key = world.folder / "witness.pem"
    world.witnesses[REGULATOR].save(key)
    state = world.folder / "memory"
    found = run("witness", "--identity", str(key), "--name", "w", "--state", str(state))
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) == 2


def write(bundle: Bundle, path: Path) -> Path:
    with path.open("wb") as file:
        write_bundle(bundle, file)
    return path


def test_a_bundle_is_witnessed_without_a_network(world: World) -> None:
    key = world.folder / "witness.pem"
    world.witnesses[REGULATOR].save(key)
    words = [
        *("--identity", str(key), "--name", REGULATOR, "--state", str(world.folder / "memory"))
    ]
    path = write(world.bundle(), world.folder / "a.bundle")
    found = run("witness", str(path), *words)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines(keepends=True)
    assert len(lines) == 3
    # the registry takes them as they are
    at = world.serve(now_ms=lambda: time.time_ns() // 1_000_000)
    note = world.client(at).cosign(world.coordinator.origin, 10, lines[0])
    assert cosigners(note, [world.witness_key(REGULATOR)])
    world.coordinator.grow(3)
    world.coordinator.sign()
    out = world.folder / "lines"
    path = write(world.bundle(), world.folder / "b.bundle")
    found = run("witness", str(path), *words, "--out", str(out))
    assert found.returncode == 0, found.stderr
    assert "10 -> 13 entries" in found.stderr
    assert len(out.read_text().splitlines()) == 3
    world.coordinator = fork(world.coordinator, 8, 14)
    path = write(world.bundle(), world.folder / "c.bundle")
    found = run("witness", str(path), *words)
    assert found.returncode == 1
    assert "two histories" in found.stderr
    assert list((world.folder / "memory").glob("evidence-*.json"))


def test_a_bundle_whose_entries_are_not_those_that_were_signed_is_refused(world: World) -> None:
    world.nodes.clear()
    bundle = world.bundle()
    swapped = list(bundle.logs[0].leaves)
    swapped[3] = swapped[3].replace(b'"reason":"no"', b'"reason":"ye"')
    from dataclasses import replace

    changed = replace(bundle, logs=(replace(bundle.logs[0], leaves=swapped),))
    source = LocalSource(bundled_evidence(changed), place="c.bundle")
    (one,) = world.watcher().look(source, time_s=NOW_S)
    assert (one.state, one.line) == ("refused", "")
    assert "not those that its log signed" in one.reason
    source = LocalSource(bundled_evidence(bundle), place="a.bundle")
    assert world.watcher().look(source, time_s=NOW_S)[0].state == "cosigned"


def test_bad_options_end_in_a_sentence(world: World) -> None:
    key = world.folder / "witness.pem"
    world.witnesses[REGULATOR].save(key)
    base = ("witness", "--identity", str(key), "--state", str(world.folder / "m"))
    for words, match in (
        ((), "--name"),
        (("--registry", "127.0.0.1:1"), "--cert"),
        (("--every", "1"), "--every needs a registry"),
        (("x.bundle", "--name", "n"), "cannot read the bundle"),
        (("x.bundle", "--registry", "127.0.0.1:1"), "either"),
        (("x.bundle", "--name", "n", "--log", "z"), "verifier key"),
    ):
        found = run(*base, *words)
        assert found.returncode == 1  # of sys.exit with a sentence; `tacit` says 2
        assert match in found.stderr, found.stderr
        assert "Traceback" not in found.stderr
