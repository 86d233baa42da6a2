"""What does a secure sum cost, next to what others use? All schemes side by side in one run.

    python experiments/secure_sum/run.py [--quick] [--json] [--out FOLDER]
    python experiments/secure_sum/run.py --scale [--quick] [--json]

CPU milliseconds (process_time, best of several) and bytes a parameter, 12 nodes. Writes result.json
and plot.png to FOLDER if one is given. Ratios carry over to other machines, milliseconds do not.
"""

import argparse
import gc
import json
import logging
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations, count
from pathlib import Path
from typing import Protocol

import numpy as np
import tenseal as ts
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.common import bytes_to_ndarray, ndarray_to_bytes
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from privacy.fixed_point import FixedPoint
from privacy.identity import Identity
from privacy.keystream import keystream_words, shift_by_keystream
from privacy.randomness import system_bytes
from privacy.secure_sum import SealedVector
from privacy.secure_sum.cohort import Cohort
from privacy.secure_sum.gathering import Gathering
from privacy.secure_sum.graph import neighbours, threshold
from privacy.secure_sum.keys import admit, offer_key
from privacy.secure_sum.schemes import scheme_of
from privacy.secure_sum.sealer import Sealer
from privacy.secure_sum.tag import append_tag, check_tag, tag_key, tag_words
from privacy.shamir import split
from privacy.sum_context import SumContext

NODES = 12
CLIP = 0.25
LENGTHS = (10_000, 100_000, 1_000_000, 10_000_000)
QUICK_LENGTHS = (10_000, 100_000)
REPEATS = 5
# A piece of work is repeated until it took this long, so that 10M parameters end before tea.
ENOUGH_S = 4.0
SCALE_NODES = (12, 100, 1000, 10_000)
SCALE_LENGTHS = (100_000, 1_000_000)
# With each vector go, for each neighbour, a sealed share and the hash that commits to it.
COMMITMENT_BYTES = 32
CLEAR, PROFILE = "clear fp32, Flower", "CKKS 8192 [60,40,40] symmetric"

Vector = NDArray[np.float32]
Mean = NDArray[np.float64]


class Scheme(Protocol):
    """One way to sum, with its keys, for one length. A turn is one sum; masks serve one."""

    def node(self, member: int, vector: Vector, turn: int) -> RecordDict:
        """Return what `member` uploads."""

    def coordinator(self, records: Sequence[RecordDict]) -> object:
        """Return, from what arrived, all that the coordinator can: the mean or a sealed sum."""

    def opened(self, result: object) -> Mean:
        """Return the mean; at a node, where only nodes can."""


@dataclass(frozen=True)
class Entry:
    """A scheme in the table.

    Attributes:
        make: Length -> the scheme, with keys; not timed.
        tolerance: Bound on the error of each coordinate of the mean.
        distinct: How many different members' payloads are summed; the others repeat them. A sum
            whose masks must cancel needs all of them, encryption does not.
        opens: Who reads the mean.
        longest: Most parameters that are measured.
    """

    make: Callable[[int], Scheme]
    tolerance: float
    distinct: int
    opens: str
    longest: int


# The wire: all schemes travel as Flower's records, in Flower's own serialisation -----------------


def sent(record: RecordDict) -> bytes:
    return recorddict_to_proto(record).SerializeToString()


def received(data: bytes) -> RecordDict:
    return recorddict_from_proto(ProtoRecordDict.FromString(data))


def record_of(parts: Sequence[bytes]) -> RecordDict:
    arrays = {
        f"{place:06d}": Array("uint8", (len(part),), "bytes", part)
        for place, part in enumerate(parts)
    }
    return RecordDict({"parts": ArrayRecord(arrays)})


def parts_of(record: RecordDict) -> list[bytes]:
    arrays = record.array_records["parts"]
    return [arrays[name].data for name in sorted(arrays)]


# Clear: FedAvg's own aggregation -----------------------------------------------------------------


class Clear:
    def __init__(self, length: int) -> None:
        del length
        # Flower sets these where it starts an app; a message cannot be made without them.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        logging.getLogger("flwr").setLevel(logging.ERROR)
        self.strategy = FedAvg()

    def node(self, member: int, vector: Vector, turn: int) -> RecordDict:
        del member, turn
        return RecordDict(
            {
                "arrays": ArrayRecord({"all": Array(vector)}),
                "metrics": MetricRecord({"num-examples": 1}),
            }
        )

    def coordinator(self, records: Sequence[RecordDict]) -> object:
        replies = [
            Message(record, dst_node_id=node, message_type="train")
            for node, record in enumerate(records, start=1)
        ]
        record, _ = self.strategy.aggregate_train(1, replies)
        return record

    def opened(self, result: ArrayRecord) -> Mean:
        return result["all"].numpy().astype(np.float64)


# TenSEAL: vectors in chunks of one ciphertext, so that it warns of nothing -----------------------


def public_half(context: ts.Context) -> ts.Context:
    """What a coordinator is given: enough to add, and no key that opens anything."""
    return ts.context_from(
        context.serialize(
            save_public_key=True,
            save_secret_key=False,
            save_galois_keys=False,
            save_relin_keys=False,
        )
    )


def add_up(records: Sequence[RecordDict], context: ts.Context, read: Callable) -> list[bytes]:
    total: list = []
    for record in records:
        vectors = [read(context, part) for part in parts_of(record)]
        if not total:
            total = vectors
        else:
            for sum_so_far, vector in zip(total, vectors, strict=True):
                sum_so_far.add_(vector)
    return [vector.serialize() for vector in total]


class Ckks:
    def __init__(self, length: int, bits: list[int], kind: ts.ENCRYPTION_TYPE) -> None:
        del length
        self.slots = 4096
        self.context = ts.context(
            ts.SCHEME_TYPE.CKKS, 2 * self.slots, coeff_mod_bit_sizes=bits, encryption_type=kind
        )
        self.context.global_scale = 2.0**40
        self.public = public_half(self.context)

    def node(self, member: int, vector: Vector, turn: int) -> RecordDict:
        del member, turn
        # A list once, as TenSEAL would make one of each chunk anyway, only slower.
        values = vector.tolist()
        return record_of(
            [
                ts.ckks_vector(self.context, values[at : at + self.slots]).serialize()
                for at in range(0, len(values), self.slots)
            ]
        )

    def coordinator(self, records: Sequence[RecordDict]) -> object:
        return add_up(records, self.public, ts.ckks_vector_from)

    def opened(self, result: list[bytes]) -> Mean:
        parts = [ts.ckks_vector_from(self.context, part).decrypt() for part in result]
        return np.concatenate([np.asarray(part) for part in parts]) / NODES


class Bfv:
    """Two fields of 20 bits a slot; no masks, so whoever holds the key reads every vector."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.slots = 4096
        self.fields = FixedPoint(parties=NODES, fields=2, field_bits=20, clip=CLIP)
        self.context = ts.context(
            ts.SCHEME_TYPE.BFV,
            self.slots,
            plain_modulus=4398046486529,
            coeff_mod_bit_sizes=[54, 54],
        )
        self.public = public_half(self.context)

    def node(self, member: int, vector: Vector, turn: int) -> RecordDict:
        del member, turn
        # 40 bits are less than half of the modulus, so no number has to be made negative.
        numbers = self.fields.encode(vector.astype(np.float64), system_bytes).tolist()
        return record_of(
            [
                ts.bfv_vector(self.context, numbers[at : at + self.slots]).serialize()
                for at in range(0, len(numbers), self.slots)
            ]
        )

    def coordinator(self, records: Sequence[RecordDict]) -> object:
        return add_up(records, self.public, ts.bfv_vector_from)

    def opened(self, result: list[bytes]) -> Mean:
        parts = [ts.bfv_vector_from(self.context, part).decrypt() for part in result]
        words = np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])
        return self.fields.decode_sum(words.view(np.uint64), self.length, NODES) / NODES


# Flower's SecAgg+: its functions in its order, with its defaults ---------------------------------


class SecAggPlus:
    """Masks of 11 peers and the own one; no key agreement and no shares, in its favour."""

    clip, levels, modulus = 8.0, 1 << 22, 1 << 32

    def __init__(self, length: int) -> None:
        del length
        self.own = [system_bytes(32) for _ in range(NODES)]
        self.pairs = {pair: system_bytes(32) for pair in combinations(range(NODES), 2)}

    def node(self, member: int, vector: Vector, turn: int) -> RecordDict:
        del turn  # fresh seeds cost it a key agreement, which is left out
        # As `secaggplus_mod._collect_masked_vectors` does, for the highest weight.
        numbers = quantize(parameters_multiply([vector], 1.0), self.clip, self.levels)
        numbers = factor_combine(self.levels, numbers)
        shapes = [array.shape for array in numbers]
        numbers = parameters_addition(
            numbers, pseudo_rand_gen(self.own[member], self.modulus, shapes)
        )
        for peer in range(NODES):
            if peer == member:
                continue
            seed = self.pairs[min(member, peer), max(member, peer)]
            mask = pseudo_rand_gen(seed, self.modulus, shapes)
            shift = parameters_addition if member > peer else parameters_subtraction
            numbers = shift(numbers, mask)
        numbers = parameters_mod(numbers, self.modulus)
        return record_of([ndarray_to_bytes(array) for array in numbers])

    def coordinator(self, records: Sequence[RecordDict]) -> object:
        # As `SecAggPlusWorkflow.collect_masked_vectors_stage` and `unmask_stage`; nobody dropped.
        total: list = []
        for record in records:
            numbers = [bytes_to_ndarray(part) for part in parts_of(record)]
            total = parameters_addition(total, numbers) if total else numbers
        total = parameters_mod(total, self.modulus)
        for seed in self.own:
            mask = pseudo_rand_gen(seed, self.modulus, get_parameters_shape(total))
            total = parameters_subtraction(total, mask)
        weight, total = factor_extract(parameters_mod(total, self.modulus))
        (mean,) = dequantize(total, self.clip, self.levels)
        mean += -(NODES - 1) * self.clip
        mean *= self.levels / weight
        return mean

    def opened(self, result: Mean) -> Mean:
        return result


# Our own two: all that a member and a coordinator do, signatures and shares included --------------


class Ours:
    """All steps of one sum. A round's history and model are zeros here; they change no cost."""

    def __init__(self, length: int, name: str, layout: FixedPoint, bits: int) -> None:
        self.length, self.layout, self.bits = length, layout, bits
        self.scheme = scheme_of(name)
        self.names = [f"member-{member:02d}" for member in range(NODES)]
        identities = {name: Identity.create(system_bytes) for name in self.names}
        self.run = system_bytes(32)
        directory = {name: identity.public for name, identity in identities.items()}
        keys, offers = {}, []
        for member, identity in identities.items():
            keys[member], offer = offer_key(
                identity, member, run=self.run, directory=directory, entropy=system_bytes
            )
            offers.append(offer)
        roster = admit(offers, run=self.run, directory=directory, minimum=NODES)
        self.cohort = Cohort(roster, roster.members, minimum=3)
        self.tag_secret = system_bytes(32)
        self.carrier = self.scheme.create(NODES)
        self.sealers = [
            Sealer(
                member,
                identities[member],
                keys[member],
                roster,
                scheme=name,
                wrap=self.carrier.wrap,
                masked=self.scheme.masked,
                entropy=system_bytes,
            )
            for member in self.names
        ]
        self.turn = 0
        self.answers: list = []

    def context(self, turn: int) -> SumContext:
        return SumContext(
            run=self.run,
            step="update",
            round=turn,
            schema=self.layout.schema(self.length),
            model=bytes(32),
            history=bytes(32),
            roster=self.cohort.roster.digest,
            cohort=self.cohort.digest,
            keys=bytes(32),
        )

    def node(self, member: int, vector: Vector, turn: int) -> RecordDict:
        context = self.context(turn)
        words = self.layout.encode(vector.astype(np.float64), system_bytes)
        key = tag_key(self.tag_secret, context.digest())
        words = append_tag(words, layout=self.layout, key=key)
        sealed = self.sealers[member].seal(
            words, bits=self.bits, context=context, cohort=self.cohort
        )
        self.turn, self.answers = turn, []
        return record_of([sealed.header(), sealed.payload])

    def gathering(self, records: Sequence[RecordDict]) -> Gathering:
        gathering = Gathering(
            self.context(self.turn),
            self.cohort,
            scheme=self.scheme.name,
            adder=self.scheme.adder(self.carrier.public, NODES),
            masked=self.scheme.masked,
        )
        for record in records:
            gathering.take(SealedVector.from_wire(*parts_of(record)))
        gathering.close()
        return gathering

    def ask(self, records: Sequence[RecordDict]) -> float:
        """Have all nodes vote and answer; return CPU milliseconds of one node."""
        gathering = self.gathering(records)
        context, survivors = gathering.context, gathering.survivors
        started = time.process_time()
        left = [sealer for sealer in self.sealers if sealer.member in survivors]
        votes = [sealer.vote(context, survivors) for sealer in left]
        took = time.process_time() - started
        for vote in votes:
            gathering.take_vote(vote)
        gone = set(gathering.unreleased)
        started = time.process_time()
        releases = [
            sealer.release(context, survivors, gathering.votes_for(sealer.member))
            for sealer in left
            if sealer.member in gone
        ]
        took += time.process_time() - started
        asked = [
            (sealer, gathering.votes_for(sealer.member), gathering.boxes_for(sealer.member))
            for sealer in left
        ]
        started = time.process_time()
        answers = [s.reveal(context, survivors, votes, boxes) for s, votes, boxes in asked]
        took += time.process_time() - started
        self.answers = [votes, releases, answers]
        return 1000 * took / len(left)

    def coordinator(self, records: Sequence[RecordDict]) -> object:
        gathering = self.gathering(records)
        votes, releases, answers = self.answers
        for vote in votes:
            gathering.take_vote(vote)
        gathering.leave_silent_out()
        for release in releases:
            gathering.take_release(release)
        gathering.leave_unreleased_out()
        for answer in answers:
            gathering.take_answer(answer)
        return gathering.open().payload

    def opened(self, result: bytes) -> Mean:
        count = self.layout.words(self.length) + tag_words(self.layout)
        words = self.sealers[0].open(result, count=count, bits=self.bits)
        key = tag_key(self.tag_secret, self.context(self.turn).digest())
        words = check_tag(words, layout=self.layout, key=key, parties=NODES)
        return self.layout.decode_sum(words, self.length, NODES) / NODES


def ours(name: str, fields: int, bits: int) -> Entry:
    layout = FixedPoint(parties=NODES, fields=fields, field_bits=21, clip=CLIP)
    return Entry(
        lambda length: Ours(length, name, layout, bits),
        tolerance=layout.worst_error(NODES) / NODES,
        distinct=NODES,
        opens="nodes",
        longest=10_000_000,
    )


SCHEMES: dict[str, Entry] = {
    CLEAR: Entry(Clear, tolerance=1e-6, distinct=12, opens="coordinator", longest=10_000_000),
    "CKKS 8192 [60,40,40,60]": Entry(
        lambda length: Ckks(length, [60, 40, 40, 60], ts.ENCRYPTION_TYPE.ASYMMETRIC),
        tolerance=1e-6,
        distinct=3,
        opens="nodes",
        longest=10_000_000,
    ),
    PROFILE: Entry(
        lambda length: Ckks(length, [60, 40, 40], ts.ENCRYPTION_TYPE.SYMMETRIC),
        tolerance=1e-6,
        distinct=3,
        opens="nodes",
        longest=10_000_000,
    ),
    "BFV 4096 packed": Entry(
        Bfv, tolerance=2.0**-17, distinct=3, opens="nodes", longest=10_000_000
    ),
    "SecAgg+ (flwr 1.41)": Entry(
        SecAggPlus, tolerance=16 / 2**22, distinct=12, opens="coordinator", longest=10_000_000
    ),
    "masked (tacit)": ours("masked", fields=3, bits=64),
    "sealed (tacit)": ours("sealed", fields=2, bits=42),
}


# Measuring ---------------------------------------------------------------------------------------


def best_ms(work: Callable[[], object], repeats: int) -> tuple[float, int]:
    """Return CPU milliseconds, the best, and of how many runs."""
    times: list[float] = []
    while len(times) < repeats and sum(times) < ENOUGH_S:
        gc.collect()
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return 1000 * min(times), len(times)


def measure(name: str, length: int, repeats: int) -> dict[str, float]:
    entry = SCHEMES[name]
    rng = np.random.default_rng(length)
    vectors = [
        np.clip(rng.normal(0, 0.05, length), -CLIP, CLIP).astype(np.float32)
        for _ in range(entry.distinct)
    ]
    scheme = entry.make(length)
    turns = count(1)
    node_ms, node_runs = best_ms(lambda: scheme.node(0, vectors[0], next(turns)), repeats)
    record = scheme.node(0, vectors[0], next(turns))
    node_wire_ms, _ = best_ms(lambda: sent(record), repeats)
    turn = next(turns)
    made = [sent(scheme.node(member, vector, turn)) for member, vector in enumerate(vectors)]
    used = [member % entry.distinct for member in range(NODES)]
    payloads = [made[member] for member in used]

    def arrive() -> None:
        # one after the other: a dozen of the largest would fill the memory
        for payload in payloads:
            received(payload)

    wire_ms, _ = best_ms(arrive, repeats)
    parsed = [received(payload) for payload in made]
    records = [parsed[member] for member in used]
    answer_ms = scheme.ask(records) if isinstance(scheme, Ours) else 0.0
    results: list[object] = []

    def add_all() -> None:
        results[:] = [scheme.coordinator(records)]

    coordinator_ms, coordinator_runs = best_ms(add_all, repeats)
    (result,) = results
    open_ms, _ = best_ms(lambda: scheme.opened(result), repeats)
    truth = np.zeros(length)
    for member in used:
        truth += vectors[member]
    error = float(np.abs(scheme.opened(result) - truth / NODES).max())
    if not error <= entry.tolerance:
        raise RuntimeError(f"{name} errs by {error} and may by {entry.tolerance}; fix it first")
    dropped_ms = 0.0
    if isinstance(scheme, Ours):
        turn = next(turns)
        rest = [scheme.node(member, vector, turn) for member, vector in enumerate(vectors)][1:]
        scheme.ask(rest)
        dropped_ms, _ = best_ms(lambda: scheme.coordinator(rest), repeats)
    return {
        "node_ms": node_ms,
        "node_wire_ms": node_wire_ms,
        "answer_ms": answer_ms,
        "coordinator_ms": coordinator_ms,
        "coordinator_wire_ms": wire_ms,
        "coordinator_one_dropped_ms": dropped_ms,
        "open_ms": open_ms if entry.opens == "nodes" else 0.0,
        "bytes_a_parameter": len(payloads[0]) / length,
        "error": error,
        "tolerance": entry.tolerance,
        "node_runs": node_runs,
        "coordinator_runs": coordinator_runs,
    }


SIDES = ("node_ms", "coordinator_ms", "node_all_ms", "coordinator_all_ms", "bytes_a_parameter")


def cost(row: Mapping[str, float], side: str) -> float:
    """The scheme's own, or with `_all_` that and Flower's wire."""
    if "_all_" in side:
        own = side.replace("_all_", "_")
        return row[own] + row[own.replace("_ms", "_wire_ms")]
    return row[side]


def compare(lengths: Sequence[int], repeats: int) -> dict:
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in SCHEMES}
    skipped: list[str] = []
    # Each in a fresh process: what an allocator kept of the one before decides how much of the next
    # one's time goes to fresh pages, for the clear by a factor of four.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as processes:
        for length in lengths:
            for name, entry in SCHEMES.items():
                if length > entry.longest:
                    skipped.append(f"{name} at {length}")
                    continue
                row = processes.submit(measure, name, length, repeats).result()
                found[name][str(length)] = row
    for per_length in found.values():
        for length, row in per_length.items():
            for label, other in (("clear", CLEAR), ("profile", PROFILE)):
                if length in found[other]:
                    for side in SIDES:
                        row[f"{side}_to_{label}"] = cost(row, side) / cost(
                            found[other][length], side
                        )
    return {"nodes": NODES, "schemes": found, "skipped": skipped}


# Scale: one node in a cohort of n, with the graph's own degree -----------------------------------


def scale_of(members: int, lengths: Sequence[int], repeats: int) -> dict:
    """Cost of one node, with real masks in one neighbourhood of the real graph."""
    names = [f"member-{i:06d}" for i in range(members)]
    seed = system_bytes(32)
    graph_ms, _ = best_ms(lambda: neighbours(names, seed), repeats)
    member = names[members // 2]
    near = neighbours(names, seed)[member]
    holders = len(near) + 1
    own, message = X25519PrivateKey.generate(), system_bytes(192)
    exchange = {peer: X25519PrivateKey.generate().public_key() for peer in near}
    signer = Ed25519PrivateKey.generate()
    public, signature = signer.public_key(), signer.sign(message)

    def agree() -> dict[str, bytes]:
        return {
            peer: HKDF(hashes.SHA256(), 32, salt=seed, info=peer.encode()).derive(own.exchange(key))
            for peer, key in exchange.items()
        }

    def keyed(pairs: Mapping[str, bytes], purpose: bytes) -> dict[str, bytes]:
        keys = {}
        for peer, secret in pairs.items():
            mac = HMAC(secret, hashes.SHA256())
            mac.update(purpose)
            keys[peer] = mac.finalize()
        return keys

    def share() -> tuple[bytes, ...]:
        return split(
            system_bytes(32), holders=holders, threshold=threshold(holders), entropy=system_bytes
        )

    def verify() -> None:
        for _ in near:
            public.verify(signature, message)

    pairs, shares = agree(), share()
    masks, boxes = keyed(pairs, b"mask"), keyed(pairs, b"box")

    def seal_boxes() -> list[bytes]:
        return [
            AESGCM(key).encrypt(bytes(12), part, None)
            for key, part in zip(boxes.values(), shares, strict=False)
        ]

    def milliseconds(work: Callable[[], object]) -> float:
        return best_ms(work, repeats)[0]

    out: dict[str, float] = {
        "members": members,
        "degree": len(near),
        "once: graph of all": graph_ms,
        "once: agreements": milliseconds(agree),
        "once: offers of neighbours": milliseconds(verify),
        "round: keys of masks and boxes": 2 * milliseconds(lambda: keyed(pairs, b"mask")),
        "round: shares": milliseconds(share),
        "round: boxes sealed and opened": 2 * milliseconds(seal_boxes),
        "round: votes verified": milliseconds(verify),
        "round: header bytes": sum(len(box) + COMMITMENT_BYTES for box in seal_boxes()),
    }
    added = [masks[peer] for peer in near if member < peer]
    subtracted = [masks[peer] for peer in near if member > peer]
    for length in lengths:
        out[f"round: masks of {length}"] = masks_ms(length, added, subtracted, repeats)
    return out


def masks_ms(
    length: int, added: Sequence[bytes], subtracted: Sequence[bytes], repeats: int
) -> float:
    """CPU of all masks of one member, which its neighbours' masks must cancel."""
    own = system_bytes(32)
    plain = keystream_words(system_bytes(32), -(-length // 3))
    words = plain.copy()
    found, _ = best_ms(lambda: shift_by_keystream(words, [own, *added], subtracted), repeats)
    sealed = plain.copy()
    shift_by_keystream(sealed, [own, *added], subtracted)
    for key in added:
        shift_by_keystream(sealed, [], [key])
    for key in subtracted:
        shift_by_keystream(sealed, [key])
    shift_by_keystream(sealed, [], [own])
    if (sealed != plain).any():
        raise SystemExit("the masks of a neighbourhood do not cancel; fix them first")
    return found


# Output ------------------------------------------------------------------------------------------


COLUMNS = {
    "node ms": ("node_ms", "10.2f"),
    "(its wire)": ("node_wire_ms", "11.2f"),
    "coord ms": ("coordinator_ms", "10.2f"),
    "(its wire) ": ("coordinator_wire_ms", "12.2f"),
    "1 dropped": ("coordinator_one_dropped_ms", "10.2f"),
    "open ms": ("open_ms", "10.2f"),
    "answer ms": ("answer_ms", "10.2f"),
    "B/param": ("bytes_a_parameter", "10.2f"),
    "error": ("error", "10.1e"),
    "node/clear": ("node_all_ms_to_clear", "12.3g"),
    "coord/clear": ("coordinator_all_ms_to_clear", "12.3g"),
    "node/NVF": ("node_ms_to_profile", "12.3g"),
    "coord/NVF": ("coordinator_ms_to_profile", "12.3g"),
}


def print_comparison(result: dict) -> None:
    widths = {title: int(form.split(".")[0]) for title, (_, form) in COLUMNS.items()}
    heads = "".join(f"{title:>{width}}" for title, width in widths.items())
    print(f"{'scheme':32}{'parameters':>11}{heads}")
    for name, per_length in result["schemes"].items():
        for length, row in per_length.items():
            cells = [
                f"{row[key]:{form}}" if key in row else f"{'-':>{widths[title]}}"
                for title, (key, form) in COLUMNS.items()
            ]
            print(f"{name:32}{int(length):11,}{''.join(cells)}")
    for line in result["skipped"]:
        print(f"skipped: {line}")


def print_scale(rows: Sequence[Mapping[str, float]]) -> None:
    for name in rows[0]:
        print(f"{name:34}" + "".join(f"{row[name]:12,.2f}" for row in rows))


def draw(result: dict, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (node, coordinator, size) = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
    for axis, key, title in (
        (node, "node_ms", "node"),
        (coordinator, "coordinator_ms", f"coordinator, {NODES} nodes"),
    ):
        for name, per_length in result["schemes"].items():
            lengths = [int(length) for length in per_length]
            axis.loglog(lengths, [row[key] for row in per_length.values()], "o-", label=name)
        axis.set(title=title, xlabel="parameters", ylabel="CPU ms")
        axis.grid(visible=True, which="major", alpha=0.3)
    figure.legend(*node.get_legend_handles_labels(), loc="outside lower center", ncols=7)
    names = list(result["schemes"])
    longest = [list(per_length.values())[-1] for per_length in result["schemes"].values()]
    bars = size.barh(names[::-1], [row["bytes_a_parameter"] for row in longest][::-1])
    size.bar_label(bars, fmt="%.2f", padding=3)
    size.set(title="upload", xlabel="bytes a parameter")
    size.margins(x=0.15)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="10k and 100k parameters, two runs")
    parser.add_argument("--scale", action="store_true", help="one node among up to 10 000")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--out", type=Path, help="also write result.json and plot.png there")
    asked = parser.parse_args()
    repeats = 2 if asked.quick else REPEATS
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    if asked.scale:
        lengths = SCALE_LENGTHS[:1] if asked.quick else SCALE_LENGTHS
        rows = [scale_of(members, lengths, repeats) for members in SCALE_NODES]
        kept, name = {"date": date, "scale": rows}, "scale.json"
    else:
        kept = {"date": date, **compare(QUICK_LENGTHS if asked.quick else LENGTHS, repeats)}
        name = "result.json"
    if asked.json:
        print(json.dumps(kept, indent=1))
    elif asked.scale:
        print_scale(kept["scale"])
    else:
        print_comparison(kept)
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / name).write_text(json.dumps(kept, indent=1) + "\n")
        if not asked.scale:
            draw(kept, asked.out / "plot.png")


if __name__ == "__main__":
    main()
