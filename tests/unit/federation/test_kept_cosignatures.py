"""A run, the registry and a witness write one state at once: nobody's signature gets lost."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.direct import recorder

from aggregator.ports import State
from federation.evidence import Evidence, LedgerView
from federation.ledger_recorder import LedgerRecorder
from federation.proto import registry_pb2 as wire
from federation.registry.access import Role
from federation.registry.newest import sign_newest
from federation.registry.peer import Peer
from federation.registry.service import RegistryService
from privacy.errors import InputError
from privacy.identity import Identity
from privacy.ledger.checkpoint import cosign, cosigners, open_checkpoint, parse_checkpoint_text
from privacy.ledger.keys import cosigner_key
from privacy.ledger.note import NoteSignature, parse_note
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append
from privacy.randomness import system_bytes

TIME_S = 7
MEMBERS = ("bank", "east", "mill")
REGULATOR = "The Regulator"
PEOPLE = {name: Identity.create(system_bytes) for name in (*MEMBERS, REGULATOR)}
KEYS = {name: cosigner_key(name, one.public) for name, one in PEOPLE.items()}


class Interrupted(SqliteLedger):
    """A store that has another writer come in just before it keeps a state."""

    between: Callable[[], object] | None = None

    def keep_checkpoint(self, size: int, note: bytes) -> bytes:
        between, self.between = self.between, None
        if between is not None:
            between()
        return super().keep_checkpoint(size, note)


class Desk:
    """Three who keep one state of one ledger, each over a store of its own."""

    def __init__(self, path: Path) -> None:
        self.identity = Identity.create(system_bytes)
        recorder(SqliteLedger(path), self.identity)
        self.store = SqliteLedger(path)
        self.stores = {name: Interrupted(path) for name in ("members", "registry", "witness")}
        self.recorders = {
            name: recorder(self.stores[name], self.identity) for name in ("members", "registry")
        }
        self.state = self.recorders["members"].state()

    def write(self, who: str) -> None:
        if who == "members":
            run_ends(self.recorders[who], self.state)
        elif who == "registry":
            assert sign_newest(self.recorders[who])
        else:
            self._witness()

    def keep(self) -> None:
        """As the registry does where nothing is kept yet."""
        self.store.keep_checkpoint(self.state.size, self.state.note)

    def kept(self) -> dict[str, int]:
        """Who cosigned the one state that is kept, which the ledger signed."""
        ((size, note),) = self.store.checkpoints()
        assert open_checkpoint(note, self.recorders["members"].key).size == size == self.state.size
        return cosigners(note, KEYS.values())

    def _witness(self) -> None:
        origin = self.recorders["members"].origin
        view = LedgerView(
            origin=origin,
            owner="coordinator",
            role="coordinator",
            dataset="",
            store=self.stores["witness"],
        )
        service = RegistryService(
            lambda: Evidence(federation="test", coordinator=view, nodes=()),
            bundle=lambda: pytest.fail("nobody asks for a file"),
            witnesses={REGULATOR: KEYS[REGULATOR]},
            now_ms=lambda: 1000 * TIME_S,
        )
        uri = Peer(Role.REGULATOR, REGULATOR).uri.encode()
        auth = {"transport_security_type": [b"ssl"], "peer_uri": [uri]}
        reply = service.Cosign(
            wire.CosignRequest(
                origin=origin, size=self.state.size, line=line(self.state, REGULATOR).to_line()
            ),
            cast("Any", SimpleNamespace(auth_context=lambda: auth)),
        )
        # it is told what is kept, and not only what it sent
        assert reply.note == self.store.checkpoints()[-1][1]


def line(state: State, name: str) -> NoteSignature:
    checkpoint = parse_checkpoint_text(parse_note(state.note).text)
    return cosign(checkpoint, key=KEYS[name], sign=PEOPLE[name].sign_note, time_s=TIME_S)


def run_ends(ledger: LedgerRecorder, state: State) -> None:
    ledger.cosigned(
        "run-1",
        state,
        {name: (PEOPLE[name].public, line(state, name).signature) for name in MEMBERS},
    )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "ledger.db")


SIGNED = {"members": MEMBERS, "registry": (), "witness": (REGULATOR,)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("members", "registry"),
        ("registry", "members"),
        ("members", "witness"),
        ("witness", "members"),
        ("registry", "witness"),
    ],
)
def test_who_writes_a_state_while_another_does_takes_no_signature_away(
    desk: Desk, one: str, other: str
) -> None:
    if one == "witness":
        desk.keep()

    def between() -> None:
        if other == "witness":
            desk.keep()  # it cosigns what is kept
        desk.write(other)

    desk.stores[one].between = between
    desk.write(one)
    names = {KEYS[name].name for who in (one, other) for name in SIGNED[who]}
    assert desk.kept() == dict.fromkeys(names, TIME_S)


def test_the_registry_that_waits_for_a_run_keeps_its_cosignatures(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One recorder: the registry looked, and waits for its mutex while cosignatures come in."""
    ledger, signed = desk.recorders["registry"], LedgerRecorder.state

    def late(self: LedgerRecorder) -> State:
        run_ends(self, desk.state)
        return signed(self)

    monkeypatch.setattr(LedgerRecorder, "state", late)
    assert sign_newest(ledger)
    assert desk.kept() == {KEYS[name].name: TIME_S for name in MEMBERS}


def test_a_witness_that_says_the_same_again_is_answered_and_writes_nothing(desk: Desk) -> None:
    desk.keep()
    desk.write("witness")
    desk.stores["witness"].between = lambda: pytest.fail("it writes")
    desk.write("witness")
    assert desk.kept() == {KEYS[REGULATOR].name: TIME_S}


def test_an_older_state_goes_only_once_the_newer_one_is_kept(desk: Desk) -> None:
    ledger, store = desk.recorders["members"], desk.stores["members"]
    run_ends(ledger, desk.state)
    append(store, "writer.began", {"writer": "x"}, time_ms=1)
    newer = ledger.state()

    def full() -> None:
        raise InputError("the disk is full")

    store.between = full
    with pytest.raises(InputError, match="the disk is full"):
        run_ends(ledger, newer)
    assert desk.kept() == {KEYS[name].name: TIME_S for name in MEMBERS}
    run_ends(ledger, newer)
    assert [size for size, _ in desk.store.checkpoints()] == [newer.size]
