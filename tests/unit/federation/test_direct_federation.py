"""Whole runs over real nodes and the real coordinator, without an engine."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support import tables
from support.direct import Direct, assemble

from clients.node import Node
from clients.policy import NodePolicy
from privacy.errors import CohortError, RefusedError
from privacy.identity import verify_signature
from privacy.ledger.grammar import CONSENT_DOMAIN
from privacy.ledger.store import entries_of
from privacy.manifest import PROTECTIONS, Manifest, Protection
from privacy.messages import (
    EvaluateRequest,
    InitialModel,
    InitialModelRequest,
    Parcel,
    Request,
    RevealRequest,
    Sealed,
    SumNotice,
    SurvivorsNotice,
    TrainRequest,
    pack,
    unpack_reply,
)

CHANCE_AUC = 0.7
ANY = NodePolicy(sums=PROTECTIONS)
FIVE = ("ash", "birch", "cedar", "elm", "fir")


def five(root: Path, **changes: object) -> Direct:
    """A federation of five members, of which one may be away."""
    rows = tables.table("binary")
    rows["member"] = [FIVE[i % 5] for i in range(len(rows))]
    where = tables.write(root, "binary", rows=rows, config_changes=changes)
    return assemble(where.config, root, policy=ANY)


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


def test_every_protection_gives_the_model_of_clear_up_to_quantisation(tmp_path: Path) -> None:
    models: dict[Protection, np.ndarray] = {}
    for protection in PROTECTIONS:
        where = tables.write(
            tmp_path / protection, "binary", config_changes={"protection": {"sum": protection}}
        )
        direct = assemble(where.config, tmp_path / protection, policy=ANY)
        models[protection] = direct.run().model
        assert direct.verdict().rounds == 3
    for protection in PROTECTIONS:
        difference = np.abs(models[protection] - models["clear"]).max()
        # three rounds, three members: each rounding is below a step of 2^-14, and training on
        # slightly different models moves them apart a little further
        assert difference < 2e-3, protection
    # the twin: another seed is another model by far more than that
    other = tables.write(tmp_path / "other", "binary")
    again = assemble(other.config, tmp_path / "other", seed=1).run().model
    assert np.abs(models["masked"] - again).max() > 0.05


def test_all_members_hold_one_model_that_the_coordinator_never_had(tmp_path: Path) -> None:
    direct = five(tmp_path)
    outcome = direct.run()
    assert len(set(direct.models().values())) == 1
    assert len(direct.models()) == 5
    weights = outcome.model.tobytes()
    for _, _, reply in direct.transport.seen:
        assert weights[:64] not in reply.payload
    assert isinstance(outcome.result.model, bytes)


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


# -- members that are away -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "answered"),
    [
        (TrainRequest, False),  # before its upload
        (TrainRequest, True),  # its upload is lost
        (SurvivorsNotice, False),
        (RevealRequest, True),
        (SumNotice, False),
        (SumNotice, True),
    ],
)
@pytest.mark.parametrize("protection", ["masked", "sealed"])
def test_a_run_goes_on_without_a_member_and_takes_it_back(
    tmp_path: Path, kind: type, *, answered: bool, protection: str
) -> None:
    direct = five(tmp_path, protection={"sum": protection})
    seen: Counter[type] = Counter()

    def away(member: str, request: Request, after: bool) -> bool:
        if member != "cedar" or not isinstance(request, kind) or after != answered:
            return False
        seen[kind] += 1
        # the second round's, whatever came before it: statistics and the first round's sums
        return seen[kind] == (2 if kind is TrainRequest else 4)

    direct.transport.away = away
    outcome = direct.run()
    assert outcome.metrics["auc"] > CHANCE_AUC
    assert len(set(direct.models().values())) == 1
    assert "cedar" in direct.models()
    verdict = direct.verdict()
    assert (verdict.rounds, verdict.unfinished) == (3, ())
    members = {
        body["round"]: body["members"]
        for name, body in direct.notes.entries
        if name == "sum.opened" and body["step"] == "update"
    }
    assert members[1] == members[3] == list(FIVE)
    uploaded = kind not in {TrainRequest, SurvivorsNotice}
    assert ("cedar" in str(members[2])) or not uploaded


def test_a_member_that_stays_away_is_left_out_to_the_end(tmp_path: Path) -> None:
    direct = five(tmp_path)
    direct.transport.away = lambda member, request, _: (
        member == "elm" and isinstance(request, TrainRequest | EvaluateRequest | SumNotice)
    )
    # it takes part in the statistics, whose sum it is never shown
    outcome = direct.run()
    assert outcome.result.absences["elm"] > 0
    assert set(direct.models()) == set(FIVE) - {"elm"}
    assert direct.verdict().rounds == 3
    assert outcome.metrics["auc"] > CHANCE_AUC


def test_with_two_of_five_away_nothing_is_opened(tmp_path: Path) -> None:
    direct = five(tmp_path)
    direct.transport.away = lambda member, request, _: (
        member in {"elm", "fir"} and isinstance(request, TrainRequest)
    )
    with pytest.raises(CohortError, match="more than a third"):
        direct.run()
    steps = [body["step"] for name, body in direct.notes.entries if name == "sum.opened"]
    assert steps == ["statistics"]


def test_validation_stops_where_its_difference_would_show_one_member(tmp_path: Path) -> None:
    direct = five(tmp_path)
    rounds: list[int] = []

    def away(member: str, request: Request, after: bool) -> bool:
        del after
        if isinstance(request, TrainRequest):
            rounds.append(request.round)
        return member == "fir" and bool(rounds) and rounds[-1] >= 2

    direct.transport.away = away
    direct.run()
    watched = [
        body["round"]
        for name, body in direct.notes.entries
        if name == "sum.opened" and body["step"] == "evaluate watch"
    ]
    assert watched == [1]
    assert direct.notes.rounds == [(1, True), (2, False), (3, False)]
    assert any("would show fir alone" in sentence for sentence in direct.notes.sentences)


def test_a_lost_reply_is_given_again_in_the_same_words(tmp_path: Path) -> None:
    direct = five(tmp_path)
    node = direct.nodes[100]
    replies: list[tuple[object, bytes]] = []

    def twice(member: str, request: Request, parcel: Parcel) -> Parcel:
        if member == node.member and isinstance(request, TrainRequest):
            replies.append(unpack_reply(parcel))
            replies.append(node.handle(request))
        return parcel

    direct.transport.tamper_reply = twice
    direct.run()
    assert len(replies) == 6
    for first, second in zip(replies[::2], replies[1::2], strict=True):
        assert first == second


# -- groups, rollback --------------------------------------------------------------------------


def test_groups_are_summed_apart_and_joined_by_their_median(tmp_path: Path) -> None:
    rows = tables.table("binary", rows=1500)
    names = [f"member-{i:02}" for i in range(12)]
    rows["member"] = [names[i % 12] for i in range(len(rows))]
    where = tables.write(
        tmp_path, "binary", rows=rows, config_changes={"protection": {"robust": "groups"}}
    )
    direct = assemble(where.config, tmp_path)
    outcome = direct.run()
    assert outcome.metrics["auc"] > CHANCE_AUC
    first = [
        body["members"]
        for name, body in direct.notes.entries
        if name == "sum.opened" and body["step"] == "update" and body["round"] == 1
    ]
    assert all(len(group) == 3 for group in first)
    assert len(first) == 4
    assert sorted(name for group in first for name in group) == names
    assert direct.verdict().rounds == 3


def test_groups_need_twelve_members(tmp_path: Path) -> None:
    direct = five(tmp_path, protection={"robust": "groups"})
    with pytest.raises(RefusedError, match="need 12 members"):
        direct.run()


def test_a_round_that_makes_the_model_worse_is_undone_by_all(tmp_path: Path) -> None:
    direct = five(
        tmp_path,
        protection={"rollback": 0.05},
        training={"rounds": 4, "batch_rows": 32, "learning_rate": 0.02},
    )
    spoilt = _spoil(direct, "birch", 3)
    outcome = direct.run()
    assert spoilt == [3]
    assert outcome.result.undone == 1
    kept = {
        (body["step"], body["round"]): body["kept"]
        for name, body in direct.notes.entries
        if name == "sum.accepted"
    }
    assert [kept[("evaluate watch", i)] for i in (1, 2, 3, 4)] == [True, True, False, True]
    assert direct.verdict().rounds == 4
    assert outcome.metrics["auc"] > CHANCE_AUC
    # the twin: without the rule the spoilt round stays
    twin = five(tmp_path / "twin", training={"rounds": 4, "batch_rows": 32, "learning_rate": 0.02})
    _spoil(twin, "birch", 3)
    assert twin.run().metrics["auc"] < outcome.metrics["auc"]


def _spoil(direct: Direct, member: str, round_index: int) -> list[int]:
    """Make one member send the opposite of what it learnt, as large as it may, in one round."""
    spoilt: list[int] = []
    node = next(n for n in direct.nodes.values() if n.member == member)
    honest = Node._trained

    def trained(session: object, index: int) -> np.ndarray:
        values = honest(node, session, index)  # type: ignore[arg-type]
        if index == round_index:
            spoilt.append(index)
            clip = direct.project.config.update.clip
            values[:-1] = -np.sign(values[:-1]) * clip
            values[-1] = clip
        return values

    node._trained = trained  # type: ignore[method-assign,assignment]
    return spoilt


# -- what a node refuses -----------------------------------------------------------------------


def test_a_node_below_its_cohort_refuses(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path, policy=NodePolicy(minimum_cohort=4))
    with pytest.raises(RefusedError, match="insists on at least 4"):
        direct.run()


@pytest.mark.parametrize("protection", ["clear", "ckks"])
def test_weaker_sums_are_refused_above_l1(tmp_path: Path, protection: str) -> None:
    where = tables.write(tmp_path, "binary", config_changes={"protection": {"sum": protection}})
    with pytest.raises(RefusedError, match=f"'{protection}' sums"):
        assemble(where.config, tmp_path).run()


def test_a_manifest_for_another_contract_is_refused(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    body = json.loads(direct.manifest.to_bytes())
    body["contract"] = "00" * 32
    from privacy.canonical import canonical_json

    direct.manifest = Manifest.from_bytes(canonical_json(body))
    with pytest.raises(RefusedError, match="another data contract"):
        direct.run()


def test_a_missing_node_is_named_before_anything_is_summed(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    del direct.nodes[100]
    with pytest.raises(CohortError, match="did not answer"):
        direct.run()


def test_a_member_that_starts_elsewhere_is_found(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)

    def elsewhere(member: str, request: Request, parcel: Parcel) -> Parcel:
        reply, _ = unpack_reply(parcel)
        if member == "west" and isinstance(reply, InitialModel):
            assert isinstance(request, InitialModelRequest)
            other = InitialModel(
                member=member,
                architecture=reply.architecture,
                digest=bytes(32),
                length=reply.length,
            )
            return pack(other)
        return parcel

    direct.transport.tamper_reply = elsewhere
    with pytest.raises(RefusedError, match="do not start from one model"):
        direct.run()


def test_every_release_is_on_record_with_its_cost_before_a_member_helps_to_open_it(
    tmp_path: Path,
) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    asked: list[str] = []

    def on_disk(member: str, request: Request, parcel: Parcel) -> Parcel:
        if isinstance(request, SurvivorsNotice):
            (body,) = (
                body
                for kind, body in direct.notes.entries
                if kind == "sum.reserved" and body["context"] == request.context.hex()
            )
            expected = direct.manifest.receipt(
                body["step"], body["round"], body["receipt"]["values"]
            )
            assert body["receipt"] == expected.to_json()
            # and each member's own ledger had it before its vector left
            own = entries_of(direct.nodes[100]._ledger.leaves())
            reserved = [one.body for one in own if one.kind == "budget.reserved"]
            assert (body["step"], body["round"]) == (reserved[-1]["step"], reserved[-1]["round"])
            asked.append(member)
        return parcel

    direct.transport.tamper_request = on_disk
    direct.run()
    sums = 1 + 3 + 3 + 1  # statistics, rounds and their validations, the test
    assert len(asked) == sums * len(tables.MEMBERS)
    entries = [(kind, body.get("context")) for kind, body in direct.notes.entries]
    kinds = [kind for kind, _ in entries]
    assert kinds[:2] == ["ledger.begun", "run.started"]
    assert kinds[-1] == "run.finished"
    opened = [i for i, kind in enumerate(kinds) if kind == "sum.opened"]
    assert len(opened) == sums
    assert all(entries[i - 1] == ("sum.reserved", entries[i][1]) for i in opened)
    assert all(kinds[i + 1] == "sum.accepted" for i in opened)
    uploads = [r for _, r, _ in direct.transport.seen if isinstance(r, TrainRequest)]
    assert len(uploads) == 3 * len(tables.MEMBERS)
    verdict = direct.verdict()
    assert (verdict.releases, verdict.opened) == (sums, sums)
    assert {node.compared for node in verdict.nodes} == {sums}


def test_every_member_consents_on_record_before_its_keys_are_agreed(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    direct.run()
    entries = direct.notes.entries
    kinds = [kind for kind, _ in entries]
    agreed = kinds.index("keys.agreed")
    consents = [body for kind, body in entries[:agreed] if kind == "run.consented"]
    assert [body["member"] for body in consents] == sorted(tables.MEMBERS)
    keys = direct.manifest.directory_keys()
    for body in consents:
        signature = bytes.fromhex(body["signature"])
        verify_signature(keys[body["member"]], CONSENT_DOMAIN, direct.manifest.digest(), signature)


def test_runs_follow_each_other_in_one_ledger_also_after_nodes_restart(tmp_path: Path) -> None:
    direct = five(tmp_path)
    direct.run()
    for place, restarted in ((1, False), (2, True)):
        direct = direct.again(f"run-{place}", restarted=restarted)
        direct.run()
        assert direct.notes.sentences == []
    assert direct.witness() == 5
    verdict = direct.verdict()
    assert verdict.runs == 3
    assert len(verdict.cosigned) == 5
    # one state a run is kept, and the one that all were shown at the end is the last run's
    assert len(direct.notes.recorder.store.checkpoints()) == 3


def test_what_leaves_a_node_never_repeats_and_looks_like_noise(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    direct.run()
    sealed = [
        p.payload
        for _, r, p in direct.transport.seen
        if isinstance(unpack_reply(p)[0], Sealed) and isinstance(r, TrainRequest)
    ]
    assert len(set(sealed)) == len(sealed)
    bits = np.unpackbits(np.frombuffer(b"".join(sealed), dtype=np.uint8))
    assert abs(bits.mean() - 0.5) < 0.02


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


def test_a_budget_of_an_earlier_version_is_not_passed_over(tmp_path: Path) -> None:
    where = tables.write(tmp_path, "binary")
    direct = assemble(where.config, tmp_path)
    folder = tmp_path / "nodes" / "north"
    folder.mkdir(parents=True)
    (folder / "budget.jsonl").write_text("{}\n")
    with pytest.raises(RefusedError, match=r"a budget of an earlier version in budget\.jsonl"):
        direct.run()
    assert not (folder / "ledger.db").exists()
