"""Whole runs over real nodes and the real coordinator, without an engine."""

import json
from pathlib import Path

import numpy as np
import pytest
from support import tables
from support.direct import Direct, assemble

from clients.node import Node
from clients.policy import NodePolicy
from privacy.errors import CohortError, ProtocolError, RefusedError
from privacy.manifest import Manifest
from privacy.messages import (
    EvaluateRequest,
    InitialModelRequest,
    Parcel,
    Request,
    RosterNotice,
    Sealed,
    StatisticsRequest,
    TrainRequest,
    pack,
    unpack_reply,
)
from privacy.secure_sum.keys import KeyOffer

CHANCE_AUC = 0.7


@pytest.mark.parametrize("kind", ["binary", "count", "value"])
def test_a_users_own_table_is_learnt_without_code(tmp_path: Path, kind: str) -> None:
    where = tables.write(tmp_path, kind)
    direct = assemble(where.config, tmp_path)
    found = direct.run().metrics
    if kind == "binary":
        assert found["auc"] > CHANCE_AUC
        assert found["auc_error"] < 0.01
    elif kind == "count":
        assert found["deviance_x100"] < found["null_deviance_x100"]
    else:
        assert found["r2"] > 0.5


@pytest.mark.parametrize("server", ["fedavg", "fedavgm", "fedadam"])
def test_every_server_step_learns(tmp_path: Path, server: str) -> None:
    step = {"kind": server}
    if server == "fedadam":
        step |= {"learning_rate": 0.05, "adaptivity": 0.01}  # type: ignore[dict-item]
    if server == "fedavgm":
        step |= {"momentum": 0.5}  # type: ignore[dict-item]
    changes = {
        "server": step,
        "training": {
            "rounds": 6,
            "batch_rows": 32,
            "learning_rate": 0.01,
            "proximal": 0.01,
            "schedule": "cosine",
        },
    }
    where = tables.write(tmp_path, "binary", config_changes=changes)
    assert assemble(where.config, tmp_path).run().metrics["auc"] > CHANCE_AUC


def test_masked_gives_the_model_of_clear_up_to_quantisation(tmp_path: Path) -> None:
    models: dict[str, np.ndarray] = {}
    for protection in ("masked", "clear"):
        where = tables.write(
            tmp_path / protection, "binary", config_changes={"protection": protection}
        )
        policy = NodePolicy(clear_allowed=True)
        models[protection] = (
            assemble(where.config, tmp_path / protection, policy=policy).run().model
        )
    difference = np.abs(models["masked"] - models["clear"]).max()
    # three rounds, three members: each rounding is below a step of 2^-17, and training on
    # slightly different models moves them apart a little further
    assert difference < 2e-3
    # the twin: another seed is another model by far more than that
    other = tables.write(tmp_path / "other", "binary")
    assert (
        np.abs(
            models["masked"] - assemble(other.config, tmp_path / "other", seed=1).run().model
        ).max()
        > 0.05
    )


def test_one_member_alone_knows_statistics_only_as_sums(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    result = direct.run()
    pooled = tables.table("binary")
    rows = result.statistics[0][0]
    assert rows == len(_training(direct))
    assert rows < len(pooled)
    assert result.statistics[0][5] == len(tables.MEMBERS)


def _training(direct: Direct) -> list[int]:
    from clients.members import read_members

    rows = read_members(direct.project.contract, direct.project.config_path.parent)
    return [i for one in rows.values() for i in range(len(one.train))]


def test_the_sum_of_statistics_is_that_of_pooled_rows(tmp_path: Path) -> None:
    import pandas as pd

    from clients.members import read_members
    from clients.spec import parse_node_spec
    from clients.table_features import TableFeatures

    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    opened = direct.run().statistics[0]
    rows = read_members(direct.project.contract, tmp_path)
    pooled = pd.concat([one.train for one in rows.values()], ignore_index=True)
    spec = parse_node_spec(direct.project.config.node_settings(seed=0, fold=None))
    expected = TableFeatures(direct.project.contract, spec).tally(pooled, [])
    expected[5] = len(rows)  # the overview's last entry counts members
    np.testing.assert_allclose(opened, expected, atol=1e-6)


def test_a_node_below_its_cohort_refuses(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path, policy=NodePolicy(minimum_cohort=4))
    with pytest.raises(RefusedError, match="insists on at least 4"):
        direct.run()


def test_clear_sums_are_refused_above_l1(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary", config_changes={"protection": "clear"})
    with pytest.raises(RefusedError, match="unprotected sums"):
        assemble(where.config, tmp_path).run()


def test_a_manifest_that_the_launcher_did_not_sign_is_refused(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    stranger = assemble(where.config, tmp_path)
    direct.launcher = stranger.launcher
    with pytest.raises(RefusedError, match="signature"):
        direct.run()


def test_a_manifest_for_another_contract_is_refused(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    body = json.loads(direct.manifest.to_bytes())
    body["contract"] = "00" * 32
    from privacy.canonical import canonical_json

    direct.manifest = Manifest.from_bytes(canonical_json(body))
    with pytest.raises(RefusedError, match="another data contract"):
        direct.run()


def test_different_models_for_two_members_open_nothing(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)

    def another_model(member: str, request: Request, parcel: Parcel) -> Parcel:
        if member == "north" and isinstance(request, TrainRequest) and request.round == 2:
            model = np.frombuffer(parcel.data, dtype="<f4").copy()
            model[0] += 1
            return pack(request, model)
        return parcel

    direct.transport.tamper_request = another_model
    with pytest.raises(ProtocolError):
        direct.run()
    committed = [body["round"] for kind, body in direct.notes.entries if kind == "round.committed"]
    assert committed == [1]


def test_two_rosters_open_nothing(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    del direct.nodes[100]
    with pytest.raises(CohortError, match="did not answer"):
        direct.run()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_model_that_is_not_finite_is_refused(tmp_path: Path, bad: float) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)

    def poisoned(member: str, request: Request, parcel: Parcel) -> Parcel:
        if member == "south" and isinstance(request, TrainRequest):
            model = np.frombuffer(parcel.data, dtype="<f4").copy()
            model[3] = bad
            return pack(request, model)
        return parcel

    direct.transport.tamper_request = poisoned
    with pytest.raises(RefusedError, match="not finite"):
        direct.run()


def test_rounds_cannot_be_repeated(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)

    def again(_: str, request: Request, parcel: Parcel) -> Parcel:
        if isinstance(request, TrainRequest) and request.round > 1:
            model = np.frombuffer(parcel.data, dtype="<f4")
            return pack(TrainRequest(run=request.run, round=1), model)
        return parcel

    direct.transport.tamper_request = again
    with pytest.raises(RefusedError, match="one after the other"):
        direct.run()


def test_statistics_cannot_be_asked_for_out_of_order(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)

    def later(_: str, request: Request, parcel: Parcel) -> Parcel:
        if isinstance(request, StatisticsRequest):
            return pack(StatisticsRequest(run=request.run, stage=1), np.zeros(3))
        return parcel

    direct.transport.tamper_request = later
    with pytest.raises(RefusedError, match="out of order"):
        direct.run()


def test_a_forged_upload_is_refused(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)

    def forged(member: str, request: Request, parcel: Parcel) -> Parcel:
        if member == "west" and isinstance(request, TrainRequest):
            reply, payload = unpack_reply(parcel)
            assert payload is not None
            words = np.array(payload, dtype="<u8")
            words[0] += 1
            return pack(reply, words)
        return parcel

    direct.transport.tamper_reply = forged
    with pytest.raises(ProtocolError, match="west"):
        direct.run()


def test_a_member_that_starts_elsewhere_is_found(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)

    def elsewhere(member: str, request: Request, parcel: Parcel) -> Parcel:
        if member == "west" and isinstance(request, InitialModelRequest):
            statistics = np.frombuffer(parcel.data, dtype="<f8").copy()
            statistics[2] += 5  # another base rate gives another first model
            return pack(request, statistics)
        return parcel

    direct.transport.tamper_request = elsewhere
    with pytest.raises(ProtocolError, match="do not start from one model"):
        direct.run()


def test_every_release_has_its_receipt_before_it_is_used(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    direct.run()
    kinds = [kind for kind, _ in direct.notes.entries]
    assert kinds[0] == "run.started"
    assert kinds[-1] == "run.finished"
    opened = [i for i, kind in enumerate(kinds) if kind == "sum.opened"]
    assert all(kinds[i + 1] == "receipt" for i in opened)
    uploads = [r for _, r, _ in direct.transport.seen if isinstance(r, TrainRequest)]
    assert len(uploads) == 3 * len(tables.MEMBERS)


def test_what_leaves_a_node_never_repeats_and_looks_like_noise(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    direct.run()
    sealed = [
        p.data
        for _, r, p in direct.transport.seen
        if isinstance(unpack_reply(p)[0], Sealed) and isinstance(r, TrainRequest)
    ]
    assert len(set(sealed)) == len(sealed)
    bits = np.unpackbits(np.frombuffer(b"".join(sealed), dtype=np.uint8))
    assert abs(bits.mean() - 0.5) < 0.02


def test_a_member_that_the_launcher_made_up_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from privacy.identity import Identity
    from privacy.randomness import system_bytes

    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    invented = Identity.create(system_bytes).public.hex()
    directory = {**direct.manifest.directory, "south": invented}
    direct.manifest = replace(direct.manifest, directory=directory)
    with pytest.raises(RefusedError, match="not told of at its enrolment"):
        direct.run()


def test_a_prepared_first_model_is_refused(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)

    def prepared(_: str, request: Request, parcel: Parcel) -> Parcel:
        if isinstance(request, TrainRequest) and request.round == 1:
            model = np.frombuffer(parcel.data, dtype="<f4").copy()
            model[:] = 0.5
            return pack(request, model)
        return parcel

    direct.transport.tamper_request = prepared
    with pytest.raises(RefusedError, match="agreed initial model"):
        direct.run()


@pytest.mark.parametrize(
    ("part", "round_index", "says"),
    [
        ("test", 1, "final model alone"),
        ("watch", 2, "once, after the round"),
        ("everything", 3, "watch, test and personal"),
    ],
)
def test_a_node_answers_no_more_about_its_rows_than_was_agreed(
    tmp_path: Path, part: str, round_index: int, says: str
) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)

    def other(_: str, request: Request, parcel: Parcel) -> Parcel:
        if not isinstance(request, EvaluateRequest):
            return parcel
        model = np.frombuffer(parcel.data, dtype="<f4")
        due = request.round == (3 if part == "everything" else 1)
        if due:
            return pack(EvaluateRequest(run=request.run, round=round_index, part=part), model)
        return parcel

    direct.transport.tamper_request = other
    with pytest.raises(RefusedError, match=says):
        direct.run()


def test_a_second_evaluation_of_another_model_is_refused(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    first: list[Request] = []

    def again(_: str, request: Request, parcel: Parcel) -> Parcel:
        if isinstance(request, EvaluateRequest) and request.round == 1:
            first.append(request)
        if isinstance(request, TrainRequest) and request.round == 2:
            model = np.frombuffer(parcel.data, dtype="<f4")
            return pack(first[0], model * np.float32(0.5))
        return parcel

    direct.transport.tamper_request = again
    with pytest.raises(RefusedError, match="evaluated once"):
        direct.run()


def test_regression_is_measured_right_where_the_range_is_far_wider_than_the_labels(
    tmp_path: Path,
) -> None:
    columns = tables.columns("value")
    columns[-1]["range"] = [-1e9, 1e9]
    where = tables.write(tmp_path, "value", contract_changes={"columns": columns})
    narrow = tables.write(tmp_path / "narrow", "value")
    wide = assemble(where.config, tmp_path).run().metrics
    expected = assemble(narrow.config, tmp_path / "narrow").run().metrics
    assert wide["rmse"] == pytest.approx(expected["rmse"], rel=0.2)
    assert wide["rmse"] > 50


def test_a_roster_without_one_of_the_runs_members_is_refused(tmp_path: Path) -> None:
    rows = tables.table("binary")
    rows.loc[rows["id"] % 4 == 0, "member"] = "east"
    where = tables.write(tmp_path, "binary", rows=rows)
    direct = assemble(where.config, tmp_path)

    def without_east(member: str, request: Request, parcel: Parcel) -> Parcel:
        if isinstance(request, RosterNotice) and member != "east":
            offers = [o for o in request.offers if KeyOffer.from_bytes(o).member != "east"]
            return pack(RosterNotice(run=request.run, offers=tuple(offers)), None)
        return parcel

    direct.transport.tamper_request = without_east
    with pytest.raises(RefusedError, match="not those of all its members"):
        direct.run()


def test_a_run_cannot_be_set_up_twice_even_after_a_restart(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    direct.run()
    # the same installations, started anew: nothing in memory, the same folders
    direct.transport.members = {
        address: Node(node._settings) for address, node in direct.nodes.items()
    }
    with pytest.raises(RefusedError, match="joined that run already"):
        direct.run()
