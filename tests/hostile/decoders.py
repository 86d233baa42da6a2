"""Every decoder of what comes from outside, with bytes that it takes.

`decode` returns what the bytes mean, and `encode` the only bytes that mean it, where there is one
such form: then nothing else may be taken. Valid bytes come from a simulated run.
"""

import io
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import yaml
from simulation import world
from simulation.disk import SimNotebook
from simulation.options import options_of
from support import tables

import federation.evidence
from aggregator import progress
from clients.contract import DataContract
from clients.frozen import parse_yaml
from clients.kept_session import read_kept
from clients.model_file import load_model, model_bytes
from clients.policy import NodePolicy
from clients.session_file import SessionFile
from clients.source import TableFile, read_header, read_tables
from clients.vault import Label, MasterKey, seal, unseal
from federation.config import RunConfig
from federation.invitation import read_token
from federation.runs.event import parse_event
from privacy.canonical import canonical_json, parse_canonical
from privacy.ledger.bundle import read_bundle, write_bundle
from privacy.ledger.checkpoint import parse_checkpoint_text
from privacy.ledger.entry import parse_leaf
from privacy.ledger.note import VerifierKey, parse_note
from privacy.ledger.proof import InclusionProof, parse_proof
from privacy.ledger.trust import parse_policy
from privacy.manifest import Manifest
from privacy.messages import Parcel, pack, unpack_reply, unpack_request
from privacy.plan import PrivacyPlan
from privacy.receipt import Receipt
from privacy.secure_sum import SealedVector
from privacy.secure_sum.keys import KeyOffer

Decode = Callable[[bytes], Any]
KEY = MasterKey(bytes(32), lambda size: bytes(range(size)))
LABEL = Label("session", "one", "L3")


@dataclass(frozen=True, slots=True)
class Decoder:
    """One row of the table.

    Attributes:
        name: As a person finds it: module and function.
        decode: Bytes -> what they mean, or an error of `privacy.errors`.
        encode: Its inverse; None: several bytes may mean the same.
        valid: Bytes that it takes.
        weight: How many mutants it gets, beside others.
        taken: Whether `valid` is taken; some only look so.
    """

    name: str
    decode: Decode
    encode: Callable[[Any], bytes] | None
    valid: tuple[bytes, ...]
    weight: float = 1.0
    taken: bool = True


@dataclass
class Found:
    """What a run leaves on the wire, in ledgers and on disks."""

    requests: list[bytes]
    replies: list[bytes]
    headers: list[bytes]
    offers: list[bytes]
    manifests: list[bytes]
    leaves: list[bytes]
    notes: list[bytes]
    states: list[bytes]
    progress: list[bytes]
    bundle: bytes = b""


@cache
def found() -> Found:
    """Live one quiet world, with noise, and keep what was said in it."""
    kept = Found([], [], [], [], [], [], [], [], [])
    quiet: dict[str, Any] = dict.fromkeys(
        ("loss", "twice", "slow", "cut", "node_stops", "power"), 0.0
    )
    quiet |= {"coordinator_stops": 0.0, "unwritten": 0.0}
    has = replace(options_of(0), members=3, least=3, rounds=1, watch_every=1, noise=True,
                        runs=1, kept=True, skew_s=0, **quiet)  # fmt: skip
    one = world.World(0, has)
    send, handled, audit = one._send, one._handled, federation.evidence.to_bundle

    def sent(mine: int, machine: Any, parcel: Parcel, request: Any) -> None:  # noqa: ANN401
        kept.requests.append(parcel.message)
        send(mine, machine, parcel, request)
        if hasattr(request, "manifest"):
            kept.manifests.append(request.manifest)
        kept.offers.extend(getattr(request, "offers", ()))

    def answered(machine: Any, parcel: Parcel) -> Parcel | None:  # noqa: ANN401
        told = handled(machine, parcel)
        if told is not None:
            kept.replies.append(told.message)
            kept.headers.extend(
                [getattr(unpack_reply(told)[0], "header", b"")] if told.payload else []
            )
        return told

    def bundled(*about: Any) -> Any:  # noqa: ANN401
        made = audit(*about)
        out = io.BytesIO()
        write_bundle(made, out)
        kept.bundle = out.getvalue()
        return made

    save = SessionFile.save

    def saved(self: SessionFile, body: bytes, parts: Mapping[bytes, Any]) -> None:
        kept.states.append(body)
        save(self, body, parts)

    write = SimNotebook.write

    def written(self: SimNotebook, state: bytes) -> None:
        kept.progress.append(state)
        write(self, state)

    one._send, one._handled = sent, answered  # type: ignore[method-assign]
    with (
        mock.patch.object(world, "to_bundle", bundled),
        mock.patch.object(SessionFile, "save", saved),
        mock.patch.object(SimNotebook, "write", written),
    ):
        one.live()
    for ledger in (one.store, *(machine.ledger for machine in one.machines.values())):
        kept.leaves.extend(ledger.leaves())
    kept.notes.extend(note for _, note in one.store.checkpoints())
    return kept


def _of_file(read: Callable[[Path], Any], suffix: str) -> Decode:
    def decode(data: bytes) -> Any:  # noqa: ANN401
        with tempfile.NamedTemporaryFile(suffix=suffix) as file:
            file.write(data)
            file.flush()
            return read(Path(file.name))

    return decode


def _table(path: Path) -> int:
    kind = "parquet" if path.suffix == ".parquet" else "csv"
    file = TableFile(path, "rows", kind, ",", None, frozenset({""}))  # type: ignore[arg-type]
    names = read_header(file)
    return sum(one.num_rows for one in read_tables(file, {names[0]: (names[0], "number")}))


def _yaml(model: Any) -> Decode:  # noqa: ANN401
    return lambda data: parse_yaml(model, data.decode(errors="surrogateescape"), "a file")


def _text(read: Callable[[str], Any]) -> Decode:
    return lambda data: read(data.decode("latin-1"))


def _parquet() -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    out = io.BytesIO()
    parquet.write_table(pa.table({"a": [1.0, 2.0, None], "b": ["x", "y", "z"]}), out)
    return out.getvalue()


def some(many: Iterable[bytes]) -> tuple[bytes, ...]:
    """Some of them, each once."""
    return tuple(dict.fromkeys(many))[:40]


@cache
def table() -> tuple[Decoder, ...]:
    """All of them."""
    seen = found()
    run = Manifest.from_bytes(seen.manifests[0])
    note = seen.notes[-1]
    state = parse_note(note)
    model = model_bytes(np.ones(4, np.float32), [np.ones(3)], run, bytes(32))
    proof = InclusionProof(2, (bytes(32), bytes(range(32))), note, None)
    receipts = [
        canonical_json(leaf.body["receipt"])
        for leaf in map(parse_leaf, seen.leaves)
        if "receipt" in leaf.body
    ]
    plan = b"" if run.privacy is None else canonical_json(run.privacy.to_json())
    digest = run.digest()

    config = yaml.safe_dump(tables.config("binary")).encode()
    contract = yaml.safe_dump(tables.contract("binary")).encode()
    return (
        Decoder("privacy.messages.unpack_request", lambda d: unpack_request(Parcel(d))[0],
                lambda m: pack(m).message, some(seen.requests), 3),
        Decoder("privacy.messages.unpack_reply", lambda d: unpack_reply(Parcel(d))[0],
                lambda m: pack(m).message, some(seen.replies), 3),
        Decoder("privacy.manifest.Manifest.from_bytes", Manifest.from_bytes,
                Manifest.to_bytes, some(seen.manifests), 2),
        Decoder("privacy.secure_sum.keys.KeyOffer.from_bytes", KeyOffer.from_bytes,
                KeyOffer.to_bytes, some(seen.offers)),
        Decoder("privacy.secure_sum.SealedVector.from_wire",
                lambda d: SealedVector.from_wire(d, b"x"), lambda v: v.header(),
                some(seen.headers)),
        Decoder("privacy.ledger.entry.parse_leaf", parse_leaf, lambda e: e.leaf(),
                some(seen.leaves), 2),
        Decoder("privacy.canonical.parse_canonical", parse_canonical, canonical_json,
                some(seen.leaves)),
        Decoder("privacy.receipt.Receipt.from_json",
                lambda d: Receipt.from_json(parse_canonical(d)),
                lambda r: canonical_json(r.to_json()), some(receipts)),
        Decoder("privacy.plan.PrivacyPlan.from_json",
                lambda d: PrivacyPlan.from_json(parse_canonical(d)),
                lambda p: canonical_json(p.to_json()), (plan,)),
        Decoder("privacy.ledger.note.parse_note", parse_note, lambda n: n.to_bytes(),
                some(seen.notes)),
        Decoder("privacy.ledger.checkpoint.parse_checkpoint_text", _text(parse_checkpoint_text),
                None, (state.text.encode(),)),
        Decoder("privacy.ledger.proof.parse_proof", parse_proof, lambda p: p.to_bytes(),
                (proof.to_bytes(),)),
        Decoder("privacy.ledger.bundle.read_bundle", read_bundle, None, (seen.bundle,), 0.3),
        Decoder("privacy.ledger.trust.parse_policy", _text(parse_policy), None,
                (f"log {run.log.to_text()}\nquorum none\n".encode(),)),
        Decoder("privacy.ledger.note.VerifierKey.from_text", _text(VerifierKey.from_text), None,
                (run.log.to_text().encode(),)),
        Decoder("clients.kept_session.read_kept", read_kept, None, some(seen.states[-40:])),
        Decoder("aggregator.progress.parse_progress",
                lambda d: progress.parse_progress(d, run=digest), lambda p: p.to_bytes(),
                some(seen.progress)),
        Decoder("clients.vault.unseal", lambda d: unseal(d, LABEL, KEY), None,
                (seal(b"x" * 50, LABEL, KEY, entropy=bytes),)),
        Decoder("clients.frozen.parse_yaml (DataContract)",
                _yaml(DataContract), None, (contract,), 0.1),
        Decoder("clients.frozen.parse_yaml (RunConfig)", _yaml(RunConfig), None, (config,), 0.1),
        Decoder("clients.frozen.parse_yaml (NodePolicy)", _yaml(NodePolicy), None,
                (b"minimum_cohort: 3\ntasks: [credit]\nsums: [masked]\n",), 0.2),
        Decoder("federation.invitation.read_token", _text(read_token), None,
                (b"tacit1." + b"A" * 200,), 0.5, taken=False),
        Decoder("federation.runs.event.parse_event",
                parse_event, None,  # its own people's words: neither hashed nor signed

                (b'{"number":0,"time_ms":1,"event":{"type":"step","name":"training"}}',)),
        Decoder("clients.model_file.load_model", _of_file(load_model, ".safetensors"), None,
                (model,), 0.5),
        Decoder("clients.source.read_tables (csv)", _of_file(_table, ".csv"), None,
                (b"a,b\n1,x\n2,y\n3,\n", b'a,b\r\n"1","x\n"\n'), 0.2),
        Decoder("clients.source.read_header (parquet)", _of_file(_table, ".parquet"), None,
                (_parquet(),), 0.2),
    )  # fmt: skip
