"""Trees against RFC 9162 word for word, changed proofs, and a witness that is lied to."""

import hashlib
import json
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from privacy.errors import NotVerifiedError
from privacy.ledger.checkpoint import Checkpoint, sign_checkpoint, verify_cosignature
from privacy.ledger.merkle import (
    Frontier,
    consistency_proof,
    frontier_at,
    inclusion_proof,
    leaf_hash,
    new_nodes,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from privacy.ledger.note import COSIGNATURE_V1, ED25519, VerifierKey
from privacy.ledger.witness import Witness

UNHURRIED = settings(deadline=None)  # a busy machine is no failure
ROOT = Path(__file__).parents[2]
MOST = 130
LEAVES = [b"leaf %d" % number for number in range(MOST)]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]

# --- RFC 9162, sections 2.1.1, 2.1.3.1 and 2.1.4.1, as they are written there ---


def _k(size: int) -> int:
    k = 1
    while 2 * k < size:
        k *= 2
    return k


@cache
def _mth(start: int, end: int) -> bytes:
    size = end - start
    if size == 0:
        return hashlib.sha256(b"").digest()
    if size == 1:
        return hashlib.sha256(b"\0" + LEAVES[start]).digest()
    middle = start + _k(size)
    return hashlib.sha256(b"\1" + _mth(start, middle) + _mth(middle, end)).digest()


def _path(m: int, start: int, end: int) -> list[bytes]:
    if end - start == 1:
        return []
    k = _k(end - start)
    if m < k:
        return [*_path(m, start, start + k), _mth(start + k, end)]
    return [*_path(m - k, start + k, end), _mth(start, start + k)]


def _subproof(m: int, start: int, end: int, *, whole: bool) -> list[bytes]:
    size = end - start
    if m == size:
        return [] if whole else [_mth(start, end)]
    k = _k(size)
    if m <= k:
        return [*_subproof(m, start, start + k, whole=whole), _mth(start + k, end)]
    return [*_subproof(m - k, start + k, end, whole=False), _mth(start, start + k)]


def _nodes(level: int, index: int) -> bytes:
    return _mth(index << level, (index + 1) << level)


# --- every size ---


def test_roots_and_frontiers_of_every_size() -> None:
    frontier = Frontier()
    kept: dict[tuple[int, int], bytes] = {}

    def nodes(level: int, index: int) -> bytes:
        return kept[level, index]

    for size in range(MOST + 1):
        assert root_of(HASHES[:size]) == _mth(0, size) == frontier.root()
        assert frontier_at(nodes, size) == frontier
        if size < MOST:
            frontier = frontier.append(HASHES[size])
            new = new_nodes(size, HASHES[size], nodes)
            kept |= {(level, index): value for level, index, value in new}
    assert all(value == _nodes(level, index) for (level, index), value in kept.items())


def test_inclusions_of_every_size() -> None:
    for size in range(1, MOST + 1):
        for index in range(size):
            proof = inclusion_proof(_nodes, index, size)
            assert list(proof) == _path(index, 0, size)
            verify_inclusion(HASHES[index], index, size, proof, _mth(0, size))


def test_consistencies_of_every_size() -> None:
    for new in range(1, MOST + 1):
        for old in range(1, new + 1):
            proof = consistency_proof(_nodes, old, new)
            assert list(proof) == _subproof(old, 0, new, whole=True)
            verify_consistency(old, _mth(0, old), new, _mth(0, new), proof)
        assert consistency_proof(_nodes, 0, new) == ()


def test_no_leaf_is_shown_in_another_place() -> None:
    for size in range(1, 34):
        for index in range(size):
            proof = inclusion_proof(_nodes, index, size)
            for other in range(size):
                if other != index:
                    for claim in ((HASHES[index], other), (HASHES[other], index)):
                        with pytest.raises(NotVerifiedError):
                            verify_inclusion(*claim, size, proof, _mth(0, size))


def test_no_log_is_shown_to_begin_with_another() -> None:
    for new in range(1, 26):
        proofs = [consistency_proof(_nodes, old, new) for old in range(new + 1)]
        for old in range(1, new + 1):
            for proof in proofs:
                for claimed in range(1, new + 1):
                    if claimed != old:
                        with pytest.raises(NotVerifiedError):
                            verify_consistency(old, _mth(0, claimed), new, _mth(0, new), proof)


# --- changed proofs ---


@st.composite
def changed(draw: st.DrawFn, proof: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Other hashes than `proof`."""
    hashes = list(proof)
    ways = ["add"] + (["flip", "drop", "swap", "replace"] if hashes else [])
    place = draw(st.integers(0, max(len(hashes) - 1, 0)))
    match draw(st.sampled_from(ways)):
        case "add":
            hashes.insert(draw(st.integers(0, len(hashes))), draw(st.binary(max_size=33)))
        case "flip":
            bit = draw(st.integers(0, 255))
            value = bytearray(hashes[place])
            value[bit // 8] ^= 1 << bit % 8
            hashes[place] = bytes(value)
        case "drop":
            del hashes[place]
        case "swap":
            other = draw(st.integers(0, len(hashes) - 1))
            hashes[place], hashes[other] = hashes[other], hashes[place]
        case _:
            hashes[place] = draw(st.sampled_from(HASHES) | st.binary(min_size=32, max_size=32))
    if hashes == list(proof):
        hashes.append(bytes(32))
    return tuple(hashes)


@UNHURRIED
@given(st.data(), st.integers(1, MOST))
def test_a_changed_inclusion_is_never_accepted(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(_nodes, index, size)
    with pytest.raises(NotVerifiedError):
        verify_inclusion(HASHES[index], index, size, data.draw(changed(proof)), _mth(0, size))


@UNHURRIED
@given(st.data(), st.integers(1, MOST))
def test_a_changed_consistency_is_never_accepted(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(0, new))
    proof = consistency_proof(_nodes, old, new)
    with pytest.raises(NotVerifiedError):
        verify_consistency(old, _mth(0, old), new, _mth(0, new), data.draw(changed(proof)))


@UNHURRIED
@given(st.data(), st.integers(2, MOST), st.lists(st.binary(max_size=33), max_size=9))
def test_no_hashes_at_all_show_a_changed_leaf(
    data: st.DataObject, size: int, hashes: list[bytes]
) -> None:
    place = data.draw(st.integers(0, size - 1))
    other = root_of([*HASHES[:place], leaf_hash(b"changed"), *HASHES[place + 1 : size]])
    old = data.draw(st.integers(place + 1, size))
    index = data.draw(st.integers(0, size - 1))
    honest = consistency_proof(_nodes, old, size)
    for proof in (tuple(hashes), honest, (*honest, *hashes)):
        with pytest.raises(NotVerifiedError):
            verify_consistency(old, _mth(0, old), size, other, proof)
    for path in (tuple(hashes), inclusion_proof(_nodes, index, size)):
        with pytest.raises(NotVerifiedError):
            verify_inclusion(HASHES[index], index, size, path, other)


# --- a witness that is lied to ---

LOG_PRIVATE = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
LOG = VerifierKey("log", ED25519, LOG_PRIVATE.public_key().public_bytes_raw())
KEY = VerifierKey("witness", COSIGNATURE_V1, PRIVATE.public_key().public_bytes_raw())
# Histories that part after 0, 3 and 8 leaves.
BRANCHES = [
    HASHES[:24],
    *(
        HASHES[:at] + [leaf_hash(b"fork at %d" % at + leaf) for leaf in LEAVES[at:24]]
        for at in (0, 3, 8)
    ),
]
SIZES = st.integers(0, 24)
BRANCH = st.sampled_from(range(len(BRANCHES)))


def _prove(branch: int, old: int, new: int) -> tuple[bytes, ...]:
    leaves = BRANCHES[branch]
    return consistency_proof(
        lambda level, index: root_of(leaves[index << level : (index + 1) << level]), old, new
    )


class LyingLog(RuleBasedStateMachine):
    """A log with several histories that wants one witness to sign two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.open()
        self.witness.trust(LOG, origin="log")
        self.signed: list[bytes] = []
        self.time_s = 0

    def teardown(self) -> None:
        self.folder.cleanup()

    @rule()
    def open(self) -> None:
        """Start the witness anew over its memory."""
        self.witness = Witness(Path(self.folder.name) / "witness.db", key=KEY, sign=PRIVATE.sign)

    @rule(branch=BRANCH, grow=st.integers(0, 6), time_s=st.integers(0, 9))
    def honest(self, branch: int, grow: int, time_s: int) -> None:
        old = len(self.signed)
        new = min(old + grow, 24)
        self.ask(branch, new, old, _prove(branch, old, new), time_s)

    @rule(branch=BRANCH, new=SIZES, old=SIZES, other=BRANCH, time_s=st.integers(0, 9))
    def lie(self, branch: int, new: int, old: int, other: int, time_s: int) -> None:
        proof = _prove(other, min(old, new), new)
        self.ask(branch, new, old, proof, time_s)

    @rule(data=st.data(), branch=BRANCH, grow=st.integers(0, 6))
    def forge(self, data: st.DataObject, branch: int, grow: int) -> None:
        old = len(self.signed)
        new = min(old + grow, 24)
        self.ask(branch, new, old, data.draw(changed(_prove(branch, old, new))), 0)

    def ask(self, branch: int, new: int, old: int, proof: tuple[bytes, ...], time_s: int) -> None:
        leaves = BRANCHES[branch][:new]
        head = Checkpoint("log", new, root_of(leaves))
        follows = leaves[: len(self.signed)] == self.signed
        right = old == len(self.signed) <= new and follows and proof == _prove(branch, old, new)
        note = sign_checkpoint(head, key=LOG, sign=LOG_PRIVATE.sign)
        if not right:
            with pytest.raises(NotVerifiedError):
                self.witness.cosign(note, old=old, proof=proof, time_s=time_s)
            return
        signature = self.witness.cosign(note, old=old, proof=proof, time_s=time_s)
        self.time_s = max(time_s, self.time_s)
        assert verify_cosignature(head, KEY, signature) == self.time_s
        self.signed = leaves

    @invariant()
    def the_memory_is_what_was_signed(self) -> None:
        assert self.witness.seen("log") == len(self.signed)
        head = self.witness.head("log")
        assert head is None or head.root == root_of(self.signed)


def test_a_witness_signs_one_history() -> None:
    run_state_machine_as_test(
        LyingLog,
        settings=settings(
            deadline=None,
            max_examples=30,
            stateful_step_count=25,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


RACER = """
import json, sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from privacy.errors import NotVerifiedError
from privacy.ledger.checkpoint import Checkpoint, sign_checkpoint
from privacy.ledger.note import VerifierKey
from privacy.ledger.witness import Witness
private = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
path, key, log, mine, count = sys.argv[1:]
log = VerifierKey.from_text(log)
witness = Witness(Path(path), key=VerifierKey.from_text(key), sign=private.sign)
sign = Ed25519PrivateKey.from_private_bytes(b"l" * 32).sign
won = []
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(count)):
    origin = f"log{number}"
    head = Checkpoint(origin, 1, mine.encode() * 32)
    witness.trust(log, origin=origin)
    try:
        witness.cosign(sign_checkpoint(head, key=log, sign=sign), old=0, proof=(), time_s=1)
    except NotVerifiedError:
        continue
    won.append(number)
print(json.dumps(won))
"""


def test_two_processes_never_make_a_witness_sign_two_histories(tmp_path: Path) -> None:
    count = 100
    path = tmp_path / "witness.db"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, path, KEY.to_text(), LOG.to_text(), mine, str(count)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for mine in "ab"
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    won: list[int] = []
    for racer in racers:
        output, _ = racer.communicate(timeout=400)
        assert racer.returncode == 0
        won += json.loads(output)
    assert sorted(won) == list(range(count))
