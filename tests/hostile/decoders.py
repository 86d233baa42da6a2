"""Every decoder of what comes from outside, with what it owes to wrong bytes.

None raises anything but the one family of errors. What is taken although it was changed is told by
`owes`: the only bytes that are taken are the right ones (`sealed`: signed, hashed or encrypted);
what is taken is written again exactly as it was read (`canonical`); or it is settings of a person,
where another text may be as right (`settings`).
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from hostile.corpus import (
    BITS,
    COUNT,
    KEY,
    LABEL,
    PARTIES,
    PEER,
    WRITER,
    approximate_key,
    exact_key,
)
from support import bundles, tables

from aggregator.plan import parse_plan
from aggregator.progress import parse_progress
from clients.contract import DataContract, load_contract
from clients.frozen import parse_settings
from clients.kept_session import read_kept
from clients.members import read_members
from clients.model_file import load_model
from clients.scoring.bundle_file import open_bundle
from clients.spec import parse_node_spec
from clients.terms.log import read_log
from clients.terms.rule import load_terms
from clients.vault import unseal
from federation import certificates
from federation.compliance.rule_set import load_rules
from federation.config import load_project
from federation.invitation import Token
from federation.node_policy import read_terms
from federation.runs.event import parse_event
from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import ProtocolError
from privacy.ledger.bundle import Bundle, read_bundle, write_bundle
from privacy.ledger.entry import parse_leaf
from privacy.ledger.note import parse_note
from privacy.ledger.proof import parse_proof
from privacy.ledger.trust import parse_policy
from privacy.manifest import Manifest
from privacy.messages import Parcel, pack, unpack_reply, unpack_request
from privacy.receipt import Receipt
from privacy.secure_sum.keys import KeyOffer
from privacy.secure_sum.lattice import (
    CKKS_SHALLOW,
    BfvAdder,
    BfvKey,
    BfvWrap,
    CkksAdder,
    CkksKey,
    CkksWrap,
)

Owes = Literal["sealed", "canonical", "settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """One.

    Attributes:
        name: As in the corpus.
        read: Bytes, and a folder to put them in, to what they stand for.
        owes: See the module.
        again: Of `canonical`: what was read, as bytes.
        bare: Bytes without what the decoder passes over on purpose.
        share: How many of a hundred mutants it gets, relative to the others; slow ones get few.
    """

    name: str
    read: Callable[[bytes, Path], Any]
    owes: Owes
    again: Callable[[Any], bytes] | None = None
    bare: Callable[[bytes], bytes] = bytes
    share: float = 4.0


def _bundle_bytes(bundle: Bundle) -> bytes:
    file = io.BytesIO()
    write_bundle(bundle, file)
    return file.getvalue()


def _file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes, Path], Any]:
    def from_file(data: bytes, folder: Path) -> Any:  # noqa: ANN401 - whatever it reads
        path = folder / name
        path.write_bytes(data)
        return read(path)

    return from_file


def _text(read: Callable[[str], Any]) -> Callable[[bytes, Path], Any]:
    def from_text(data: bytes, _: Path) -> Any:  # noqa: ANN401 - whatever it reads
        try:
            return read(data.decode())
        except UnicodeDecodeError:
            raise ProtocolError("text is UTF-8; whoever reads it looked at that before") from None

    return from_text


def _json(read: Callable[[Any], Any]) -> Callable[[bytes, Path], Any]:
    """Of what stands inside of a manifest or an entry, whose bytes were canonical before."""

    def from_json(data: bytes, _: Path) -> Any:  # noqa: ANN401 - whatever it reads
        value = parse_canonical(data)
        if not isinstance(value, dict):
            raise ProtocolError("no table of keys; whoever reads it looked at that before")
        return read(value)

    return from_json


def _config(path: Path) -> Any:  # noqa: ANN401 - a project
    # the contracts that shipped configs name lie beside them
    return load_project(path)


def _run_of(data: bytes) -> bytes:
    """The run that a state says it is of, as whoever reads it knows it from its manifest."""
    try:
        run = msgspec.msgpack.decode(data).get("run")
    except Exception:  # noqa: BLE001 - what is wrong with it is the decoder's to say
        return bytes(32)
    return run if isinstance(run, bytes) else bytes(32)


def _rows(name: str, form: str) -> Callable[[bytes, Path], Any]:
    said = tables.contract("binary", sources=[{"path": name, "format": form}])
    contract = parse_settings(DataContract, said, name)

    def read(data: bytes, folder: Path) -> Any:  # noqa: ANN401 - a member's rows
        (folder / name).write_bytes(data)
        return read_members(contract, folder)

    return read


def _terms_log(path: Path) -> Any:  # noqa: ANN401 - a log
    return read_log(path, keys={WRITER.public.hex()})


def _key(path: Path) -> Any:  # noqa: ANN401 - a private key
    path.chmod(0o600)
    return certificates.load_key(path)


def _added(data: bytes, _: Path) -> bytes:
    adder = BfvAdder(exact_key().public_context(), parties=PARTIES)
    adder.add(data)
    return adder.payload()


def _nearly_added(data: bytes, _: Path) -> bytes:
    adder = CkksAdder(approximate_key().public_context(), parameters=CKKS_SHALLOW)
    adder.add(data)
    return adder.payload()


DECODERS: Final = (
    Decoder(
        name="request message", owes="canonical", share=16,
        read=lambda data, _: unpack_request(Parcel(message=data, payload=b""))[0],
        again=lambda value: bytes(pack(value, b"").message),
    ),
    Decoder(
        name="reply message", owes="canonical", share=16,
        read=lambda data, _: unpack_reply(Parcel(message=data, payload=b""))[0],
        again=lambda value: bytes(pack(value, b"").message),
    ),
    Decoder(
        name="manifest", owes="canonical", share=8,
        read=lambda data, _: Manifest.from_bytes(data), again=Manifest.to_bytes,
    ),
    Decoder(name="node spec", owes="settings", read=_json(parse_node_spec)),
    Decoder(name="coordinator plan", owes="settings", read=_json(parse_plan)),
    Decoder(
        name="receipt", owes="canonical", read=_json(Receipt.from_json),
        again=lambda value: canonical_json(value.to_json()),
    ),
    Decoder(
        name="leaf", owes="canonical", share=8, read=lambda data, _: parse_leaf(data),
        again=lambda value: value.leaf(),
    ),
    Decoder(  # whoever can read it can make its checksum anew: what is in it is verified later
        name="bundle", owes="canonical", share=1, read=lambda data, _: read_bundle(data),
        again=_bundle_bytes,
    ),
    Decoder(name="trust policy", owes="settings", read=_text(parse_policy)),
    Decoder(
        name="note", owes="canonical", share=8, read=lambda data, _: parse_note(data),
        again=lambda value: value.to_bytes(),
    ),
    Decoder(
        name="proof", owes="canonical", read=lambda data, _: parse_proof(data),
        again=lambda value: value.to_bytes(),
    ),
    Decoder(
        name="event", owes="canonical", read=lambda data, _: parse_event(data),
        again=lambda value: value.to_bytes(),
    ),
    Decoder(
        name="kept session", owes="canonical", read=lambda data, _: read_kept(data),
        again=msgspec.msgpack.Encoder(order="deterministic").encode,
    ),
    Decoder(
        name="progress", owes="canonical",
        read=lambda data, _: parse_progress(data, run=_run_of(data)),
        again=lambda value: value.to_bytes(),
    ),
    Decoder(name="sealed", owes="sealed", read=lambda data, _: unseal(data, LABEL, KEY)),
    Decoder(
        name="edge bundle", owes="sealed", share=2,
        read=lambda data, _: open_bundle(data, frozenset({bundles.TRUSTED})),
    ),
    Decoder(
        name="token", owes="sealed", read=_text(Token.parse),
        bare=lambda data: "".join(data.decode().split()).encode(),
    ),
    Decoder(name="model", owes="settings", share=2, read=_file("model.safetensors", load_model)),
    Decoder(
        name="request", owes="settings",
        read=lambda data, _: certificates.read_request(data, PEER),
    ),
    Decoder(
        name="public", owes="settings", read=lambda data, _: certificates.load_public(data)
    ),
    Decoder(
        name="certificate", owes="settings",
        read=lambda data, _: certificates.read_certificate(data, "it"),
    ),
    Decoder(name="key", owes="settings", read=_file("tls.key", _key)),
    Decoder(
        name="key offer", owes="canonical", share=8, read=lambda data, _: KeyOffer.from_bytes(data),
        again=KeyOffer.to_bytes,
    ),
    Decoder(
        name="lattice key", owes="canonical", share=0.4,
        read=lambda data, _: BfvKey.from_bytes(data, PARTIES), again=BfvKey.secret_bytes,
    ),
    Decoder(
        name="approximate key", owes="canonical", share=0.4,
        read=lambda data, _: CkksKey.from_bytes(data, CKKS_SHALLOW), again=CkksKey.secret_bytes,
    ),
    Decoder(name="lattice payload", owes="canonical", share=0.4, read=_added, again=bytes),
    Decoder(name="approximate payload", owes="settings", share=0.4, read=_nearly_added),
    Decoder(
        name="lattice sum", owes="settings", share=0.4,
        read=lambda data, _: BfvWrap(exact_key()).open(data, count=COUNT, bits=BITS),
    ),
    Decoder(
        name="approximate sum", owes="settings", share=0.4,
        read=lambda data, _: CkksWrap(approximate_key()).open(data, count=COUNT, bits=BITS),
    ),
    Decoder(name="csv in gzip", owes="settings", share=0.3, read=_rows("rows.csv.gz", "csv")),
    Decoder(name="csv in xz", owes="settings", share=0.3, read=_rows("rows.csv.xz", "csv")),
    Decoder(name="csv in zip", owes="settings", share=0.3, read=_rows("rows.csv.zip", "csv")),
    Decoder(name="csv", owes="settings", share=0.4, read=_rows("rows.csv", "csv")),
    Decoder(name="parquet", owes="settings", share=0.4, read=_rows("rows.parquet", "parquet")),
    Decoder(name="terms log", owes="settings", share=1, read=_file("terms.jsonl", _terms_log)),
    Decoder(name="contract", owes="settings", share=0.3, read=_file("c.yaml", load_contract)),
    Decoder(name="config", owes="settings", share=0.3, read=_file("r.yaml", _config)),
    Decoder(name="rules", owes="settings", share=0.1, read=_file("rules.yaml", load_rules)),
    Decoder(name="terms", owes="settings", share=0.3, read=_file("terms.yaml", load_terms)),
    Decoder(name="policy", owes="settings", share=2, read=_file("policy.yaml", read_terms)),
)  # fmt: skip
