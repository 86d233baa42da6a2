"""Another key for the coordinator's ledger: what changes, what stays, and what a crash leaves."""

import io
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from support.budgets import raw
from support.cli import tacit
from support.federations import Federated
from support.network_runs import order

from federation import coordinator_key
from federation.coordinator_key import WAITING, Settled, rotate_key, settle_key
from federation.evidence import home_bundle
from federation.home import Home
from federation.ledger_recorder import LedgerRecorder, now_ms
from federation.runs.order import keep_order
from privacy import verify_alone
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.identity import Identity
from privacy.ledger.bundle import write_bundle
from privacy.ledger.checkpoint import open_checkpoint
from privacy.ledger.keys import log_key
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append, entries_of
from privacy.randomness import system_bytes
from privacy.verify import verify_bundle


@pytest.fixture
def federated(tmp_path: Path) -> Federated:
    made = Federated(tmp_path)
    made.add("Bank")
    made.sign()
    return made


def rotate(home: Home) -> coordinator_key.Rotated:
    return rotate_key(home, entropy=system_bytes, now_ms=now_ms)


def started(home: Home) -> LedgerRecorder:
    """What the coordinator does with its key when it starts."""
    settle_key(home)
    return LedgerRecorder(SqliteLedger(home.ledger), Identity.load(home.coordinator))


def verified(home: Home) -> None:
    bundle = home_bundle(home)
    file = io.BytesIO()
    write_bundle(bundle, file)
    assert verify_alone.verify(file.getvalue())["root"] == verify_bundle(bundle).root


def rotations(home: Home) -> list[str]:
    entries = entries_of(SqliteLedger(home.ledger).leaves())
    return [str(one.body["key"]) for one in entries if one.kind == "key.rotated"]


def test_the_new_key_signs_and_the_old_one_is_gone(federated: Federated) -> None:
    home = federated.home
    old = Identity.load(home.coordinator)
    before = SqliteLedger(home.ledger).size()
    found = rotate(home)
    new = Identity.load(home.coordinator)
    assert (found.old, found.new, found.finished) == (old.public, new.public, False)
    assert new.public != old.public
    assert found.entries == before + 1
    assert stat.S_IMODE(home.coordinator.stat().st_mode) == 0o600
    assert [path.name for path in home.root.iterdir() if path.suffix == ".pem"] == [
        "coordinator.pem"
    ]
    size, note = SqliteLedger(home.ledger).checkpoints()[-1]
    assert open_checkpoint(note, log_key(found.origin, new.public)).size == size == found.entries
    verified(home)
    recorder = started(home)
    assert recorder.origin == found.origin
    recorder.cosigned("", recorder.state(), {})
    # a copy of the old key signs nothing more
    with pytest.raises(RefusedError, match="has by now another key than this identity"):
        LedgerRecorder(SqliteLedger(home.ledger), old)
    again = rotate(home)
    assert again.old == new.public
    assert rotations(home) == [new.public.hex(), again.new.hex()]
    verified(home)


def test_it_is_refused_while_the_coordinator_runs(federated: Federated) -> None:
    home = federated.home
    before = home.coordinator.read_bytes()
    with home.exclusive(), pytest.raises(RefusedError, match=r"is running .* stop it, and"):
        rotate(home)
    assert home.coordinator.read_bytes() == before
    assert rotations(home) == []
    rotate(home)


def test_it_is_refused_while_a_run_can_go_on_that_names_the_old_key(federated: Federated) -> None:
    home = federated.home
    keep_order(order("a-run"), home.runs / "a-run")
    with pytest.raises(RefusedError, match="a-run has not ended and names the ledger's old key"):
        rotate(home)
    assert rotations(home) == []
    append(
        SqliteLedger(home.ledger), "run.stopped", {"run": "a-run", "reason": "so"}, time_ms=now_ms()
    )
    rotate(home)


def test_where_there_is_no_ledger_there_is_no_key(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(InputError, match="is no coordinator's home"):
        rotate(home)
    Identity.create(system_bytes).save(home.coordinator)
    with pytest.raises(InputError, match="no ledger yet"):
        rotate(home)


def test_a_ledger_that_is_not_what_was_signed_gets_no_key(federated: Federated) -> None:
    home = federated.home
    before = home.coordinator.read_bytes()
    with raw(home.ledger) as connection:
        connection.execute(
            "UPDATE entry SET leaf = CAST(replace(CAST(leaf AS TEXT), 'Bank', 'Bonk') AS BLOB)"
        )
    with pytest.raises(NotVerifiedError):
        rotate(home)
    assert home.coordinator.read_bytes() == before
    assert not (home.root / WAITING).exists()


# -- what a crash leaves --------------------------------------------------------------------------


class Crash(Exception):  # noqa: N818 - it is none of ours
    """The power went."""


def crash(*_: object, **__: object) -> None:
    raise Crash


def after(function: Callable[..., object]) -> Callable[..., None]:
    """It is done, and then the power goes."""

    def done(*args: object, **kwargs: object) -> None:
        function(*args, **kwargs)
        raise Crash

    return done


POINTS: list[tuple[str, bool, Settled]] = [
    # where, whether it was done by then, what the next start does
    ("_wait", False, Settled.NOTHING),
    ("_wait", True, Settled.DROPPED),
    ("append", False, Settled.DROPPED),
    ("append", True, Settled.FINISHED),
    ("_take_its_place", False, Settled.FINISHED),
    ("_take_its_place", True, Settled.NOTHING),
    ("_sign_state", False, Settled.NOTHING),
]


@pytest.mark.parametrize("at", POINTS)
@pytest.mark.parametrize("by", ["start", "rotation"])
def test_a_crash_at_any_point_leaves_a_ledger_that_goes_on(
    federated: Federated,
    monkeypatch: pytest.MonkeyPatch,
    at: tuple[str, bool, Settled],
    by: str,
) -> None:
    (point, done, settled), home = at, federated.home
    old = Identity.load(home.coordinator).public
    with monkeypatch.context() as patched:
        real = getattr(coordinator_key, point)
        patched.setattr(coordinator_key, point, after(real) if done else crash)
        with pytest.raises(Crash):
            rotate(home)
    on_record = rotations(home)
    if by == "start":
        assert settle_key(home) is settled
        assert settle_key(home) is Settled.NOTHING
    else:
        found = rotate(home)
        assert found.finished is (settled is Settled.FINISHED)
        # one that was cut short is finished, and only then is another one another one
        begun_anew = settled is not Settled.FINISHED
        assert len(rotations(home)) == len(on_record) + begun_anew
        on_record = rotations(home)
    assert not (home.root / WAITING).exists()
    recorder = started(home)
    expected = on_record[-1] if on_record else old.hex()
    assert recorder.identity.public.hex() == expected
    recorder.cosigned("", recorder.state(), {})
    verified(home)


def test_half_a_key_stands_in_nobodys_way(federated: Federated) -> None:
    (federated.home.root / f".{WAITING}.part").write_bytes(b"-----BEGIN")
    assert settle_key(federated.home) is Settled.NOTHING
    rotate(federated.home)


# -- the verb -------------------------------------------------------------------------------------


def test_the_verb_says_what_was_done_and_that_members_have_nothing_to_do(
    federated: Federated,
) -> None:
    home = federated.home
    told = tacit("coordinator", "rotate-key", home=home.root)
    assert told.returncode == 0, told.stderr
    assert "Members have nothing to do" in told.stdout
    assert Identity.load(home.coordinator).public.hex() in told.stdout
    found = json.loads(tacit("coordinator", "rotate-key", "--json", home=home.root).stdout)
    assert found["key"] == Identity.load(home.coordinator).public.hex() == rotations(home)[-1]
    with home.exclusive():
        refused = tacit("coordinator", "rotate-key", home=home.root)
    assert refused.returncode != 0
    assert "stop it, and rotate again" in refused.stderr
    assert "Traceback" not in refused.stderr
