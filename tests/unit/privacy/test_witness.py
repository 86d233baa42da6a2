import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.errors import NotVerifiedError, RefusedError
from privacy.ledger.checkpoint import (
    TIME_MAX_S,
    Checkpoint,
    sign_checkpoint,
    verify_cosignature,
)
from privacy.ledger.merkle import EMPTY_ROOT, consistency_proof, leaf_hash, root_of
from privacy.ledger.note import COSIGNATURE_V1, ED25519, Note, NoteSignature, VerifierKey
from privacy.ledger.witness import (
    HASHES_MAX,
    BadSignatureError,
    ForkedError,
    InconsistentError,
    MalformedError,
    StaleError,
    UnknownOriginError,
    Witness,
    remembered_keys,
)

ROOT = Path(__file__).parents[3]
LOG_PRIVATE = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
LOG = VerifierKey("log", ED25519, LOG_PRIVATE.public_key().public_bytes_raw())
KEY = VerifierKey("witness", COSIGNATURE_V1, PRIVATE.public_key().public_bytes_raw())
LEAVES = [leaf_hash(bytes([number])) for number in range(20)]
FORK = [*LEAVES[:3], *(leaf_hash(b"fork%d" % number) for number in range(17))]


def _head(size: int, leaves: list[bytes] = LEAVES) -> Checkpoint:
    return Checkpoint("log", size, root_of(leaves[:size]))


def _note(size: int, leaves: list[bytes] = LEAVES) -> bytes:
    return sign_checkpoint(_head(size, leaves), key=LOG, sign=LOG_PRIVATE.sign)


def _proof(old: int, new: int, leaves: list[bytes] = LEAVES) -> tuple[bytes, ...]:
    return consistency_proof(
        lambda level, index: root_of(leaves[index << level : (index + 1) << level]), old, new
    )


def _witness(folder: Path, sign: Callable[[bytes], bytes] = PRIVATE.sign) -> Witness:
    witness = Witness(folder / "witness.db", key=KEY, sign=sign)
    witness.trust(LOG, origin="log")
    return witness


def _grow(witness: Witness, old: int, new: int, leaves: list[bytes] = LEAVES) -> NoteSignature:
    return witness.cosign(
        _note(new, leaves), old=old, proof=_proof(old, new, leaves), time_s=100 + new
    )


# --- what is cosigned ---


def test_a_log_that_grows_is_cosigned(tmp_path: Path) -> None:
    witness = _witness(tmp_path)
    assert witness.head("log") is None
    assert witness.seen("log") == 0
    for old, new in [(0, 1), (1, 4), (4, 7), (7, 20)]:
        signature = _grow(witness, old, new)
        assert verify_cosignature(_head(new), KEY, signature) == 100 + new
        assert witness.seen("log") == new
        assert witness.head("log") == _head(new)


def test_the_same_checkpoint_is_cosigned_again(tmp_path: Path) -> None:
    witness = _witness(tmp_path)
    _grow(witness, 0, 5)
    signature = witness.cosign(_note(5), old=5, proof=(), time_s=200)
    assert verify_cosignature(_head(5), KEY, signature) == 200
    assert witness.head("log") == _head(5)


def test_the_empty_log_is_cosigned_too(tmp_path: Path) -> None:
    witness = _witness(tmp_path)
    empty = Checkpoint("log", 0, EMPTY_ROOT)
    assert verify_cosignature(empty, KEY, _grow(witness, 0, 0)) == 100
    assert witness.head("log") == empty
    assert verify_cosignature(_head(3), KEY, _grow(witness, 0, 3)) == 103


def test_the_memory_is_kept(tmp_path: Path) -> None:
    _grow(_witness(tmp_path), 0, 5)
    again = _witness(tmp_path)
    assert again.head("log") == _head(5)
    with pytest.raises(StaleError):
        _grow(again, 0, 3)


def test_logs_are_remembered_apart(tmp_path: Path) -> None:
    witness = _witness(tmp_path)
    other = VerifierKey("other", ED25519, LOG.public)
    witness.trust(other, origin="other")
    _grow(witness, 0, 5)
    assert witness.seen("other") == 0
    note = sign_checkpoint(Checkpoint("other", 2, b"r" * 32), key=other, sign=LOG_PRIVATE.sign)
    witness.cosign(note, old=0, proof=(), time_s=1)
    assert (witness.seen("log"), witness.seen("other")) == (5, 2)
    witness.trust(replace(other, name="a-log"), origin="a-log")
    assert witness.origins() == ["a-log", "log", "other"]
    assert [witness.key_of(name) for name in ("log", "other")] == [LOG, other]
    assert witness.key_of("nobody's") is None
    assert Witness(tmp_path / "another.db", key=KEY, sign=PRIVATE.sign).origins() == []


# --- what is refused, and that nothing changes ---


@contextmanager
def _unchanged(witness: Witness) -> Iterator[None]:
    before = witness.head("log")
    yield
    assert witness.head("log") == before


def test_an_unknown_log_is_refused(tmp_path: Path) -> None:
    witness = Witness(tmp_path / "witness.db", key=KEY, sign=PRIVATE.sign)
    with pytest.raises(UnknownOriginError) as refusal:
        _grow(witness, 0, 5)
    assert refusal.value.status == 404
    assert witness.seen("log") == 0


def test_a_checkpoint_of_another_key_is_refused(tmp_path: Path) -> None:
    witness = _witness(tmp_path)
    head = _head(5)
    stranger = replace(LOG, public=KEY.public)
    bad = NoteSignature(LOG.name, LOG.key_id, bytes(64))
    for note in (
        sign_checkpoint(head, key=stranger, sign=PRIVATE.sign),
        sign_checkpoint(head, key=replace(LOG, name="x"), sign=LOG_PRIVATE.sign),
        Note(head.text(), (bad,)).to_bytes(),
        _note(5).replace(b"\n5\n", b"\n6\n"),
    ):
        with _unchanged(witness), pytest.raises(BadSignatureError) as refusal:
            witness.cosign(note, old=0, proof=(), time_s=1)
        assert refusal.value.status == 403


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    witness = _witness(tmp_path)
    _grow(witness, 0, 5)
    for note, old, proof in [
        (b"", 5, ()),
        (b"poem\n\n" + _note(6).split(b"\n\n")[1], 5, ()),
        (_note(6), 7, ()),
        (_note(6), -1, ()),
        (_note(4), 5, ()),
        (_note(6), 5, (bytes(32),) * 64),
    ]:
        with _unchanged(witness), pytest.raises(MalformedError) as refusal:
            witness.cosign(note, old=old, proof=proof, time_s=1)
        assert refusal.value.status == 400
    for time_s in (-1, 2**63):
        with _unchanged(witness), pytest.raises(ValueError, match="time"):
            witness.cosign(_note(6), old=5, proof=_proof(5, 6), time_s=time_s)


def test_another_old_size_is_refused_with_the_remembered_one(tmp_path: Path) -> None:
    witness = _witness(tmp_path)
    _grow(witness, 0, 5)
    for old, new in [(0, 5), (0, 3), (3, 4), (4, 7), (6, 7), (7, 7)]:
        with _unchanged(witness), pytest.raises(StaleError, match="remembers 5") as refusal:
            _grow(witness, old, new)
        assert (refusal.value.status, refusal.value.size) == (409, 5)


def test_another_root_of_the_same_size_is_refused(tmp_path: Path) -> None:
    witness = _witness(tmp_path)
    _grow(witness, 0, 5)
    with _unchanged(witness), pytest.raises(ForkedError) as refusal:
        _grow(witness, 5, 5, FORK)
    assert refusal.value.status == 409


def test_a_proof_that_does_not_hold_is_refused(tmp_path: Path) -> None:
    witness = _witness(tmp_path)
    with _unchanged(witness), pytest.raises(InconsistentError):
        witness.cosign(_note(5), old=0, proof=(LEAVES[0],), time_s=1)
    _grow(witness, 0, 5)
    good = _proof(5, 9)
    for note, proof in [
        (_note(9, FORK), good),
        (_note(9, FORK), _proof(5, 9, FORK)),
        (_note(9), ()),
        (_note(9), good[:-1]),
        (_note(9), (*good, bytes(32))),
        (_note(9), (*good[:-1], bytes(31))),
        (_note(9), (bytes(32),) * HASHES_MAX),
    ]:
        with _unchanged(witness), pytest.raises(InconsistentError) as refusal:
            witness.cosign(note, old=5, proof=proof, time_s=1)
        assert refusal.value.status == 422
    _grow(witness, 5, 9)


def test_a_log_key_is_pinned_with_first_use(tmp_path: Path) -> None:
    witness = _witness(tmp_path)
    _grow(witness, 0, 5)
    witness.trust(LOG, origin="log")
    assert witness.seen("log") == 5
    for other in (replace(LOG, public=KEY.public), replace(LOG, name="x")):
        with _unchanged(witness), pytest.raises(NotVerifiedError, match="pinned"):
            witness.trust(other, origin="log")
    _grow(witness, 5, 6)


def test_keys_serve_one_purpose(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="type"):
        Witness(tmp_path / "other.db", key=LOG, sign=LOG_PRIVATE.sign)
    assert not (tmp_path / "other.db").exists()
    with pytest.raises(ValueError, match="type"):
        _witness(tmp_path).trust(KEY, origin="log")
    with pytest.raises(ValueError, match="origin"):
        _witness(tmp_path).trust(LOG, origin="")


# --- time ---


def test_time_never_goes_back(tmp_path: Path) -> None:
    times = []
    for time_s, size in [(100, 1), (50, 2), (0, 2), (101, 3)]:
        witness = _witness(tmp_path)
        old = witness.seen("log")
        signature = witness.cosign(_note(size), old=old, proof=_proof(old, size), time_s=time_s)
        times.append(verify_cosignature(_head(size), KEY, signature))
    assert times == [100, 100, 100, 101]


def test_the_first_and_the_last_second_are_times(tmp_path: Path) -> None:
    witness = _witness(tmp_path)
    for time_s in (0, TIME_MAX_S):
        old = witness.seen("log")
        signature = witness.cosign(_note(5), old=old, proof=_proof(old, 5), time_s=time_s)
        assert verify_cosignature(_head(5), KEY, signature) == time_s


# --- the keys that a log had ---


def test_the_keys_that_are_remembered_are_those_of_one_log(tmp_path: Path) -> None:
    path = tmp_path / "witness.db"
    assert remembered_keys(path, "log") == ()
    assert not path.exists()
    first, second, strange = (replace(LOG, public=bytes([number]) * 32) for number in range(3))
    _witness(tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = [("log", first), ("log", second), ("other", strange)]
        connection.executemany(
            "INSERT INTO earlier VALUES (?, ?)", [(name, key.to_text()) for name, key in rows]
        )
        connection.execute("CREATE TABLE another (origin TEXT, key TEXT)")
    keys = remembered_keys(path, "log")
    assert (len(keys), set(keys)) == (3, {LOG, first, second})
    assert remembered_keys(path, "other") == (strange,)
    assert remembered_keys(path, "nobody's") == ()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE earlier")  # as in a memory of an earlier version
    assert remembered_keys(path, "log") == (LOG,)


def test_keys_of_a_broken_memory_are_refused(tmp_path: Path) -> None:
    path = _witness(tmp_path).path
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE log SET key = 'no key'")
    with pytest.raises(RefusedError, match="cannot use"):
        remembered_keys(path, "log")
    (tmp_path / "none.db").write_bytes(b"no database" * 100)
    with pytest.raises(RefusedError, match="cannot use"):
        remembered_keys(tmp_path / "none.db", "log")


def test_who_asks_for_keys_waits_for_who_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(sqlite3.Connection):
        def close(self) -> None:
            waits_ms.append(self.execute("PRAGMA busy_timeout").fetchone()[0])
            super().close()

    waits_ms: list[int] = []
    path = _witness(tmp_path).path
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Asked))
    assert remembered_keys(path, "log") == (LOG,)
    assert waits_ms == [60000]


# --- disk, crashes, threads, processes ---


def test_a_checkpoint_is_on_disk_before_it_is_cosigned(tmp_path: Path) -> None:
    seen: list[Checkpoint | None] = []

    def sign(message: bytes) -> bytes:
        seen.append(_witness(tmp_path).head("log"))
        return PRIVATE.sign(message)

    _grow(_witness(tmp_path, sign), 0, 5)
    assert seen == [_head(5)]


def test_a_crash_while_signing_leaves_a_memory_that_binds(tmp_path: Path) -> None:
    def crash(_: bytes) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _grow(_witness(tmp_path, crash), 0, 5)
    witness = _witness(tmp_path)
    with pytest.raises(ForkedError):
        _grow(witness, 5, 5, FORK)
    assert verify_cosignature(_head(5), KEY, _grow(witness, 5, 5)) == 105


def _never(_: bytes) -> bytes:
    raise AssertionError("signed what was not written")


@contextmanager
def _full_disk() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_nothing_is_cosigned_where_nothing_can_be_written(tmp_path: Path) -> None:
    witness = _witness(tmp_path)
    _grow(witness, 0, 5)
    with _full_disk(), pytest.raises(RefusedError, match="nothing was cosigned"):
        _grow(Witness(witness.path, key=KEY, sign=_never), 5, 6)
    assert witness.head("log") == _head(5)
    _grow(witness, 5, 6)


def _break(
    patch: pytest.MonkeyPatch, statement: str, code: int, *, when: Callable[[], bool] = lambda: True
) -> None:
    class Broken(sqlite3.Connection):
        def execute(self, sql: str, /, *parameters: object) -> sqlite3.Cursor:
            if sql == statement and when():
                error = sqlite3.OperationalError("broken on purpose")
                error.sqlite_errorcode = code
                raise error
            return super().execute(sql, *parameters)  # type: ignore[arg-type]

    patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Broken))


def test_nothing_is_cosigned_where_the_commit_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = _witness(tmp_path, _never)
    with monkeypatch.context() as patch:
        _break(patch, "COMMIT", sqlite3.SQLITE_FULL)
        with pytest.raises(RefusedError, match="broken on purpose"):
            _grow(witness, 0, 5)
    assert witness.head("log") is None


def test_a_broken_memory_is_refused(tmp_path: Path) -> None:
    witness = _witness(tmp_path)
    _grow(witness, 0, 5)
    with closing(sqlite3.connect(witness.path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE log SET root = x'00'")
    for attempt in (lambda: witness.seen("log"), lambda: _grow(witness, 5, 6)):
        with pytest.raises(RefusedError, match="broken"):
            attempt()
    witness.path.with_name("witness.db-wal").unlink(missing_ok=True)
    witness.path.write_bytes(b"no database" * 100)
    for attempt in (lambda: witness.seen("log"), lambda: _grow(witness, 5, 6)):
        with pytest.raises(RefusedError, match="cannot use"):
            attempt()
    with pytest.raises(RefusedError, match="cannot use"):
        Witness(tmp_path / "none" / "witness.db", key=KEY, sign=PRIVATE.sign)


def test_the_memory_is_written_through(tmp_path: Path) -> None:
    witness = _witness(tmp_path)
    with witness._opened() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (60000,)
        assert connection.isolation_level is None  # a turn begins and ends where it says so


def test_of_two_histories_at_once_one_is_cosigned(tmp_path: Path) -> None:
    witness = _witness(tmp_path)

    def attempt(number: int) -> bool:
        try:
            _grow(witness, 3, 4, FORK if number % 2 else LEAVES)
        except NotVerifiedError:
            return False
        return True

    _grow(witness, 0, 3)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(attempt, range(16))).count(True) == 1
    assert witness.head("log") in (_head(4), _head(4, FORK))


def test_a_memory_that_another_process_is_beginning_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals: list[str] = []

    def busy() -> bool:
        refusals.append("busy")
        return len(refusals) <= 3

    # SQLite says so at once, and 2 of 100 times where four processes begin a file together.
    _break(monkeypatch, "PRAGMA journal_mode = WAL", sqlite3.SQLITE_BUSY, when=busy)
    assert _witness(tmp_path).seen("log") == 0
    assert len(refusals) == 4
    for code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):
        _break(monkeypatch, "PRAGMA journal_mode = WAL", code)
        with pytest.raises(RefusedError, match="cannot use"):
            _witness(tmp_path)


FORKED = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_witness import _grow, _witness
witness = _witness(Path(sys.argv[1]))
_grow(witness, 0, 3)
child = os.fork()
if child == 0:
    _grow(witness, 3, 4)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
_grow(witness, 4, 5)
"""


def test_a_witness_lives_on_after_a_fork(tmp_path: Path) -> None:
    folders = [str(tmp_path), str(Path(__file__).parent), str(ROOT)]
    subprocess.run([sys.executable, "-c", FORKED, *folders], check=True, timeout=240)
    assert _witness(tmp_path).head("log") == _head(5)
