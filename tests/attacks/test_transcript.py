"""All that passes between nodes and coordinator, searched for what must not be in it."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from support import tables
from support.canaries import CODE, with_canaries
from support.direct import Direct, assemble

from clients.policy import NodePolicy
from privacy.ledger.store import entries_of
from privacy.manifest import PROTECTIONS, Protection
from privacy.messages import (
    KeyMade,
    KeyNotice,
    Parcel,
    Request,
    SumNotice,
    TrainRequest,
    unpack_reply,
)
from privacy.secure_sum.schemes import SCHEMES

if TYPE_CHECKING:
    from clients.session import Session

PIECE = 48


class Tap:
    """Everything that went over the wire of a run, and what the nodes held meanwhile."""

    def __init__(self, direct: Direct) -> None:
        self.direct = direct
        self.sent: list[bytes] = []
        self.received: list[tuple[Request, Parcel]] = []
        self.sessions: dict[str, Session] = {}
        self.models: list[np.ndarray] = []
        direct.transport.tamper_request = self._request
        direct.transport.tamper_reply = self._reply

    def _request(self, member: str, request: Request, parcel: Parcel) -> Parcel:
        self.received.append((request, parcel))
        if isinstance(request, TrainRequest):
            node = next(n for n in self.direct.nodes.values() if n.member == member)
            session = node._sessions[request.run]
            self.sessions[member] = session
            self.models.append(session.model.current)
        return parcel

    def _reply(self, _: str, __: Request, parcel: Parcel) -> Parcel:
        self.sent.append(parcel.message + parcel.payload)
        return parcel

    def everything(self) -> bytes:
        """All bytes, in both directions."""
        return b"".join([*self.sent, *(p.message + p.payload for _, p in self.received)])


def tapped(root: Path, protection: Protection, rows: pd.DataFrame | None = None) -> Tap:
    where = tables.write(
        root, "binary", rows=rows, config_changes={"protection": {"sum": protection}}
    )
    tap = Tap(assemble(where.config, root, policy=NodePolicy(sums=PROTECTIONS)))
    tap.direct.run()
    return tap


def found_in(everything: bytes, secrets: list[bytes]) -> list[bytes]:
    """Which secrets stand anywhere in a long text; each has eight bytes or more."""
    heads = np.unique(np.frombuffer(b"".join(one[:8] for one in secrets), dtype="<u8"))
    seen: set[int] = set()
    for shift in range(8):
        count = (len(everything) - shift) // 8
        words = np.frombuffer(everything, dtype="<u8", count=count, offset=shift)
        seen.update(words[np.isin(words, heads)].tolist())
    maybe = {one for one in secrets if int.from_bytes(one[:8], "little") in seen}
    return [one for one in maybe if one in everything]


def test_the_search_finds_what_is_there_at_any_place() -> None:
    text = bytes(range(256)) * 3
    for at in range(20):
        assert found_in(text, [text[at : at + 16], b"nowhere here...."]) == [text[at : at + 16]]


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_no_secret_of_a_run_leaves_a_node_in_the_clear(
    tmp_path: Path, protection: Protection
) -> None:
    tap = tapped(tmp_path, protection)
    everything = tap.everything()
    secrets: list[bytes] = []
    for node in tap.direct.nodes.values():
        # what binds a node to its rows, and the key without which it tells nothing of them
        key = (node._settings.home / "rows.key").read_bytes()
        (digest,) = (
            str(entry.body["rows"])
            for entry in entries_of(node._ledger.leaves())
            if entry.kind == "rows.read"
        )
        secrets += [key, key.hex().encode(), bytes.fromhex(digest), digest.encode()]
    for session in tap.sessions.values():
        setup = session.agreed
        secrets.append(setup.key.tag_secret)
        secrets += list(setup.sealer._pairs.values())
        secrets.append(session.key._private.secret_bytes())
        carrier = setup.key.carrier.secret
        # any stretch of the carrier's key, after the parameters that everybody knows
        secrets += [carrier[at : at + PIECE] for at in range(256, len(carrier) - PIECE, 97)]
    assert len(set(secrets)) > (500 if protection in {"sealed", "ckks"} else 15)
    everything += b"".join(tap.direct.notes.recorder.store.leaves())
    assert found_in(everything, secrets) == []
    # the twin: what may be known is found by the same search
    public = tap.sessions["north"].key.public
    assert found_in(everything, [public]) == [public]


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_no_model_and_no_row_passes_the_coordinator(tmp_path: Path, protection: Protection) -> None:
    # a thousand texts of ten signs or more: forty million random bytes have one by chance once in
    # 10^13 times
    rows = with_canaries(tables.table("binary"))
    digits = np.arange(1, len(rows) + 1) * 1e-9
    rows["load"] = (rows["load"] * 0.99 + digits).round(10)
    rows["amount"] = (rows["amount"].round(2) + digits).round(9)
    tap = tapped(tmp_path, protection, rows)
    everything = tap.everything()
    for model in tap.models:
        assert model[:8].tobytes() not in everything
    values = {str(value).encode() for name in ("load", "amount") for value in rows[name].dropna()}
    values = {value for value in values if len(value) >= 10} | {CODE.encode()}
    assert len(values) > 1000
    assert found_in(everything, list(values)) == []
    # the twin: the same search finds them where they are
    assert set(found_in((tmp_path / "table.csv").read_bytes(), list(values))) == values


@pytest.mark.parametrize("protection", ["sealed", "ckks"])
def test_the_coordinator_is_given_parameters_and_no_key(
    tmp_path: Path, protection: Protection
) -> None:
    tap = tapped(tmp_path, protection)
    made = [
        reply
        for data in tap.direct.transport.seen
        if isinstance(reply := unpack_reply(data[2])[0], KeyMade)
    ]
    assert len(made) == 1
    # a public, Galois or relinearisation key would take tens of kilobytes
    assert len(made[0].public) < 200
    key = next(iter(tap.sessions.values())).agreed.key
    assert made[0].fingerprint == key.fingerprint
    # each other member gets its own envelope, and no two are alike
    notices = {p.message for r, p in tap.received if isinstance(r, KeyNotice)}
    assert len(notices) == len(tables.MEMBERS) - 1
    fingerprints = {s.agreed.key.fingerprint for s in tap.sessions.values()}
    assert len(fingerprints) == 1


def test_a_sealed_sum_is_no_plainer_than_an_upload(tmp_path: Path) -> None:
    tap = tapped(tmp_path, "sealed")
    sums = [p.payload for r, p in tap.received if isinstance(r, SumNotice) and r.step == "update"]
    bits = np.unpackbits(np.frombuffer(b"".join(sums), dtype=np.uint8))
    assert abs(bits.mean() - 0.5) < 0.05
    session = tap.sessions["north"]
    layout = SCHEMES["sealed"].update_layout(3, session.spec.update.clip, 2.0**-14)
    assert layout.word_bits <= 42
    # the twin: a masked run's opened sum is words that decode to the sum
    twin = tapped(tmp_path / "twin", "masked")
    notice, parcel = next(
        (r, p) for r, p in twin.received if isinstance(r, SumNotice) and r.step == "update"
    )
    words = np.frombuffer(parcel.payload, dtype="<u8")[:-4].astype(np.uint64)
    layout = SCHEMES["masked"].update_layout(3, session.spec.update.clip, 2.0**-14)
    length = session.model.current.size + 1
    assert len(notice.parts[0].survivors) == 3
    assert np.isfinite(layout.decode_sum(words, length, 3)).all()


def test_every_run_has_keys_of_its_own(tmp_path: Path) -> None:
    first, second = tapped(tmp_path / "a", "sealed"), tapped(tmp_path / "b", "sealed")
    one, other = (t.sessions["north"].agreed.key for t in (first, second))
    assert one.fingerprint != other.fingerprint
    assert one.tag_secret != other.tag_secret
    assert one.carrier.secret != other.carrier.secret
