"""Right bytes of each kind: of a run and its ledger, what is kept of it, shipped files."""

import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from support import bundles, tables
from support.direct import assemble
from support.federations import Federated
from support.suites import voice_in
from support.sums import frame_of

from aggregator import coordinator
from clients.kept_session import Keeper
from clients.terms.log import Day, add_days, new_log, signed_by, write_log
from clients.terms.rule import load_terms
from clients.vault import Label, MasterKey, seal
from federation import certificates
from federation.declaration import declaration
from federation.notebook import FolderNotebook
from federation.registry.access import Role
from federation.registry.peer import Peer
from federation.runs.event import Note, Step, Told
from privacy.canonical import canonical_json
from privacy.identity import Identity
from privacy.ledger.bundle import Log, write_bundle
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.proof import InclusionProof
from privacy.ledger.store import prove_inclusion
from privacy.ledger.trust import TrustPolicy
from privacy.manifest import SIGNING_DOMAIN
from privacy.messages import Parcel, Request
from privacy.randomness import system_bytes
from privacy.secure_sum.keys import offer_key
from privacy.secure_sum.lattice import CKKS_SHALLOW, BfvKey, BfvWrap, CkksKey, CkksWrap
from privacy.suites import SUITES

ROOT: Final = Path(__file__).parents[2]
MEMBERS: Final = ("bank", "east", "mill", "north")
LABEL: Final = Label("session", "state", "L3")
PEER: Final = Peer(Role.BANK, "north")
KEY: Final = MasterKey(bytes(range(32)), bytes)
WRITER: Final = Identity.create(system_bytes)
PARTIES: Final = 3
COUNT, BITS = 7, 20
Corpus = Mapping[str, list[bytes]]


@cache
def exact_key() -> BfvKey:
    """One key of a process; SEAL draws it, so mutants of what it made are others each time."""
    return BfvKey.create(PARTIES)


@cache
def approximate_key() -> CkksKey:
    """As `exact_key`."""
    return CkksKey.create(CKKS_SHALLOW)


def shipped(pattern: str) -> list[bytes]:
    """Files of the project."""
    found = [path.read_bytes() for path in sorted(ROOT.glob(pattern))]
    assert found, pattern
    return found


def corpus(folder: Path) -> Corpus:
    """All of it; a few seconds' work."""
    found: dict[str, list[bytes]] = {
        "contract": shipped("configs/contracts/*.yaml"),
        "config": shipped("configs/*.yaml"),
        "rules": shipped("configs/rules/*.yaml"),
        "terms": shipped("configs/scenarios/*/terms.yaml"),
        "policy": [
            b"budgets: [{dataset: d, epsilon: 4.0, delta: 1.0e-5, period_days: 365}]\n",
            b"place: CN\nsuites: [gm]\nminimum_protection: {noise_from: none}\n",
        ],
        "event": [
            Told(number=3, time_ms=5, event=event).to_bytes()
            for event in (Step(name="update"), Note(sentence="a sentence"))
        ],
        "sealed": [
            seal(b"what is kept" * 9, LABEL, KEY, entropy=lambda count: bytes(range(count)))
        ],
    }
    key = certificates.new_key()
    found["request"] = [certificates.make_request(key, PEER)]
    found["public"] = [certificates.spki(key.public_key())]
    found["key"] = [certificates.key_pem(key)]
    log = new_log(load_terms(min(ROOT.glob("configs/scenarios/*/terms.yaml"))), signed_by(WRITER))
    add_days(log, [Day(subject="m", day=day, values={}) for day in range(1, 9)])
    write_log(log, folder / "terms.jsonl")
    found["terms log"] = [(folder / "terms.jsonl").read_bytes()]
    founded = Federated(folder / "federation")
    found["token"] = [founded.invite("north").reveal().encode()]
    found["certificate"] = [(founded.place().folder / "root.pem").read_bytes()]
    frame = frame_of(MEMBERS, rows=6)
    csv = frame.to_csv(index=False).encode()
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.csv", csv)
    found["csv"] = [csv]
    found["csv in gzip"] = [gzip.compress(csv), gzip.compress(csv[:99]) + gzip.compress(csv[99:])]
    found["csv in xz"] = [lzma.compress(csv)]
    found["csv in zip"] = [zipped.getvalue()]
    found["parquet"] = []
    for compression in (None, "snappy", "zstd", "gzip", "brotli", "lz4"):
        frame.to_parquet(folder / "rows.parquet", compression=compression)
        found["parquet"].append((folder / "rows.parquet").read_bytes())
    found["edge bundle"] = [bundles.signed(bundles.bundle())]
    return found | of_keys() | of_a_run(folder)


def of_keys() -> dict[str, list[bytes]]:
    """Offers of each suite, and keys and payloads of homomorphic encryption."""
    names = {"mill": Identity.create(system_bytes), "north": Identity.create(system_bytes)}
    directory = {name: identity.public for name, identity in names.items()}
    offers = [
        offer_key(
            voice_in(suite, identity), name,
            run=bytes(32), directory=directory, entropy=system_bytes, suite=SUITES[suite],
        )[1]
        for suite in SUITES if not SUITES[suite].missing()
        for name, identity in names.items()
    ]  # fmt: skip
    words = np.arange(COUNT, dtype=np.uint64)
    exact, approximate = BfvWrap(exact_key()), CkksWrap(approximate_key())
    sealed = exact.close(exact.prepare(words, bits=BITS))
    near = approximate.close(approximate.prepare(words, bits=BITS))
    return {
        "key offer": [offer.to_bytes() for offer in offers],
        "lattice key": [exact_key().secret_bytes()],
        "approximate key": [approximate_key().secret_bytes()],
        "lattice payload": [sealed],
        "lattice sum": [sealed],
        "approximate payload": [near],
        "approximate sum": [near],
    }


def of_a_run(folder: Path) -> dict[str, list[bytes]]:
    """Messages, manifest, ledgers, models, and what both sides keep of a run under way."""
    where = tables.write(
        folder / "run",
        rows=frame_of(MEMBERS, rows=30),
        config_changes={
            "training": {"rounds": 1, "batch_rows": 32, "learning_rate": 0.02},
            "model": {"hidden": [], "linear": True},
        },
    )
    direct = assemble(where.config, folder / "run")
    requests: list[bytes] = []
    replies: list[bytes] = []
    kept: list[bytes] = []

    def asked(_: str, __: Request, parcel: Parcel) -> Parcel:
        requests.append(bytes(parcel.message))
        return parcel

    def answered(member: str, _: Request, parcel: Parcel) -> Parcel:
        replies.append(bytes(parcel.message))
        if member == MEMBERS[0]:
            node = next(one for one in direct.nodes.values() if one.member == member)
            agreed = [one for one in node._sessions.values() if one.setup is not None]
            kept.extend(Keeper().keep(session)[0] for session in agreed)
        return parcel

    direct.transport.tamper_request = asked
    direct.transport.tamper_reply = answered
    coordinator.run(
        direct.manifest,
        direct.launcher.sign(SIGNING_DOMAIN, direct.manifest.to_bytes()),
        launcher=direct.launcher.public,
        data=declaration(direct.project.contract),
        transport=direct.transport,
        ledger=direct.notes.recorder,
        observer=direct.notes,
        notebook=FolderNotebook(folder / "progress"),
    )
    bundle = direct.bundle()
    whole = io.BytesIO()
    write_bundle(bundle, whole)
    policy = TrustPolicy(logs=(direct.notes.recorder.key,))
    model = next((folder / "run").glob("nodes/*/runs/*/model.safetensors"))
    leaves = [leaf for log in bundle.logs for leaf in log.leaves]
    manifest = json.loads(direct.manifest.to_bytes())
    receipts = [
        canonical_json(receipt) for leaf in leaves if (receipt := _receipt(json.loads(leaf)))
    ]
    return {
        "request message": distinct(requests),
        "reply message": distinct(replies),
        "manifest": [direct.manifest.to_bytes()],
        "node spec": [canonical_json(manifest["node_settings"])],
        "coordinator plan": [canonical_json(manifest["coordinator_settings"])],
        "receipt": distinct(receipts),
        "leaf": distinct(leaves),
        "bundle": [whole.getvalue()],
        "trust policy": [policy.to_text().encode()],
        "note": [note for log in bundle.logs for note in log.checkpoints],
        "proof": [proof_of(bundle.logs[0])],
        "model": [model.read_bytes()],
        "kept session": distinct(kept),
        "progress": [(folder / "progress" / "progress" / "state").read_bytes()],
    }


def proof_of(log: Log) -> bytes:
    """One entry's."""
    size = len(log.leaves)
    store = MemoryLedger(log.leaves)
    return InclusionProof(
        index=1, hashes=prove_inclusion(store, 1, size), checkpoint_note=log.checkpoints[-1]
    ).to_bytes()


def distinct(found: list[bytes], most: int = 40) -> list[bytes]:
    """Each once, and not too many."""
    return list(dict.fromkeys(found))[:most]


def _receipt(leaf: Any) -> Any:  # noqa: ANN401 - JSON
    body = leaf.get("body", {}) if isinstance(leaf, dict) else {}
    return body.get("receipt") if isinstance(body, dict) else None
