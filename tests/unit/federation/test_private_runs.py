"""Runs with noise over real nodes and the real coordinator: what leaves, and what it costs."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import tables
from support.direct import Direct, assemble

import privacy.mechanism
from clients.learner import Learner
from clients.ledger_files import LEDGER
from clients.policy import BudgetPolicy, NodePolicy, refusals
from clients.private_training import clipped_gradients, private_rows
from clients.session import Session, Step
from clients.spec import parse_node_spec
from federation.config import load_project, with_wish
from federation.spending import account, costs
from privacy.errors import CohortError, InputError, ProtocolError, RefusedError
from privacy.ledger.entry import UPDATE, Entry
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import entries_of
from privacy.manifest import Protection
from privacy.messages import Parcel, Refused, Request, Sealed, TrainRequest, unpack_reply
from privacy.noise import gaussian
from privacy.plan import planned_receipts
from privacy.randomness import system_bytes

DISTRIBUTED: dict[str, Any] = {"noise": "distributed", "epsilon": 8.0, "rate": 0.25}
LOCAL: dict[str, Any] = {"noise": "local", "epsilon": 8.0, "rate": 0.25, "steps": 5}
ROUNDS = 4


def config_of(noise: dict[str, Any], **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any key
    training: dict[str, Any] = {"rounds": ROUNDS}
    server: dict[str, Any] = {"kind": "fedavgm", "learning_rate": 1.0}
    if noise["noise"] == "local":
        training |= {"optimiser": "sgd", "learning_rate": 0.5}
        server = {}
    return {
        "privacy": noise,
        "training": training,
        "server": server,
        "validation_share": 0.0,
        **changes,
    }


def federation(
    root: Path,
    noise: dict[str, Any],
    *,
    kind: str = "binary",
    policy: NodePolicy | None = None,
    rows: int = 1500,
    **changes: Any,  # noqa: ANN401 - any key of a config
) -> Direct:
    where = tables.write(
        root,
        kind,
        rows=tables.table(kind, rows=rows),
        contract_changes={
            "label": {"kind": "count", "column": "label", "exposure": "exposure", "cap": 4.0}
            | {"exposure_cap": 1.0}
        }
        if kind == "count"
        else None,
        config_changes=config_of(noise, **changes),
    )
    return assemble(where.config, root, policy=policy)


@pytest.mark.parametrize("kind", ["binary", "count", "value"])
@pytest.mark.parametrize("noise", [DISTRIBUTED, LOCAL])
def test_a_run_with_noise_ends_in_one_model_and_its_ledger_holds(
    tmp_path: Path, kind: str, noise: dict[str, Any]
) -> None:
    direct = federation(tmp_path, noise, kind=kind)
    found = direct.run().metrics
    assert len(set(direct.models().values())) == 1
    verdict = direct.verdict()
    assert (verdict.rounds, verdict.releases) == (ROUNDS, 1 + ROUNDS + 1)
    assert all(one.epsilon is not None and one.solo_epsilon is not None for one in verdict.privacy)
    headline = {"binary": "auc", "count": "deviance_x100", "value": "rmse"}[kind]
    assert found[f"{headline}_noise"] > 0


@pytest.mark.parametrize("noise", [DISTRIBUTED, LOCAL])
def test_with_little_noise_it_learns(tmp_path: Path, noise: dict[str, Any]) -> None:
    quiet = {**noise, "epsilon": 200.0}
    direct = federation(tmp_path, quiet, rows=3000, training={"rounds": 15} | _steps(noise))
    assert direct.run().metrics["auc"] > 0.8


def _steps(noise: dict[str, Any]) -> dict[str, Any]:
    return {"optimiser": "sgd", "learning_rate": 0.5} if noise["noise"] == "local" else {}


def test_the_strict_sampler_and_whole_organisations_run_too(tmp_path: Path) -> None:
    strict = federation(tmp_path / "strict", {**DISTRIBUTED, "sampler": "discrete"})
    strict.run()
    plan = strict.manifest.privacy
    assert plan is not None
    assert plan.mechanism == "discrete_gaussian"
    verdict = strict.verdict()
    # by the accountant that a regulator has, the wish is kept but for what rounding adds
    assert max(one.epsilon or math.inf for one in verdict.privacy) < 8.0 * 1.05
    whole = {"noise": "distributed", "multiplier": 1.0, "unit": "organisation", "rate": 1.0}
    run = federation(tmp_path / "whole", whole)
    run.run()
    assert {one.unit for one in run.verdict().privacy} == {"organisation"}


def test_what_was_planned_is_what_was_released(tmp_path: Path) -> None:
    direct = federation(tmp_path, DISTRIBUTED, watch_every=2)
    direct.run()
    entries = direct.notes.entries
    released = [body["receipt"] for kind, body in entries if kind == "sum.reserved"]
    planned = planned_receipts(
        direct.manifest.privacy,
        run="test-run",
        unit="customer",
        protection="masked",
        fewest=3,
        stages=1,
        rounds=ROUNDS,
    )
    plain = {"values", "purpose"}

    def facts(receipt: dict[str, Any]) -> str:
        return json.dumps({k: v for k, v in receipt.items() if k not in plain}, sort_keys=True)

    assert sorted(map(facts, released)) == sorted(facts(one.to_json()) for one in planned)
    # and that is what was wished for, by the accountant that found the noise
    plan = direct.manifest.privacy
    assert plan is not None
    worst = costs(planned, colluders=plan.colluders, delta=plan.delta)[0]
    assert 7.9 < worst.epsilon <= 8.0


def test_every_wish_is_kept(tmp_path: Path) -> None:
    for name, wish in (("solo", {"solo_epsilon": 6.0}), ("given", {"multiplier": 1.5})):
        noise = {"noise": "distributed", "rate": 0.25, **wish}
        direct = federation(tmp_path / name, noise)
        plan = direct.manifest.privacy
        assert plan is not None
        paid = planned_receipts(
            plan, run="r", unit="customer", protection="masked", fewest=3, stages=1, rounds=ROUNDS
        )
        found = account(plan, {"north": paid}, unit="customer", note="")
        if name == "solo":
            assert 5.9 < found["solo_epsilon"] <= 6.0
            assert found["epsilon"] < found["solo_epsilon"]
        else:
            assert found["multiplier"] == pytest.approx(1.5)


def noise_in_statistics(direct: Direct) -> np.ndarray:
    """The opened statistics less the members' true ones, in units of the noise that is due."""
    opened = direct.run().statistics[0]
    plan = direct.manifest.privacy
    assert plan is not None
    exact = np.zeros_like(opened)
    for node in direct.nodes.values():
        rows = node._settings.rows(None)
        spec = parse_node_spec(dict(direct.manifest.node_settings))
        work = Learner(direct.project.contract, spec, "cpu", plan=plan)
        exact += work.tally_statistics(work.scaled(rows.train), [])
    due = plan.statistics_share * plan.statistics_clip * math.sqrt(len(direct.nodes))
    return np.asarray((opened - exact) / due)


SELDOM = 1e-12


def two_sided(found: np.ndarray) -> float:
    """How likely so many or so few squares are; chi-square by Wilson and Hilferty's cube root.

    A sum of 68 squares is skewed: five of its deviations above its mean it is once in 50,000 times.
    The draws are the system's own. What is `SELDOM` by this lies above 2.76 or below 0.21 times its
    mean: by Chernoff's bound, exp(-34 (x - 1 - log x)), that is so less than once in 5e10 times.
    """
    spread = 2 / (9 * found.size)
    normal = (float(np.mean(np.square(found))) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return math.erfc(abs(normal) / math.sqrt(2))


def test_the_opened_statistics_have_the_noise_that_the_receipt_says(tmp_path: Path) -> None:
    found = noise_in_statistics(federation(tmp_path, DISTRIBUTED))
    assert found.size == 68
    assert two_sided(found) > SELDOM


def test_the_twin_without_noise_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tenth(count: int, deviation: float, entropy: Callable[[int], bytes]) -> np.ndarray:
        return gaussian(count, deviation / 10, entropy)

    monkeypatch.setattr(privacy.mechanism, "gaussian", tenth)
    found = noise_in_statistics(federation(tmp_path, DISTRIBUTED))
    assert two_sided(found) < SELDOM


# -- the node's own budget -------------------------------------------------------------------


def own_entries(root: Path, member: str) -> list[Entry]:
    """A member's own ledger, as it is on its disk."""
    return list(entries_of(SqliteLedger(root / "nodes" / member / LEDGER).leaves()))


def capped(epsilon: float) -> NodePolicy:
    return NodePolicy(budgets=(BudgetPolicy(epsilon=epsilon),))


def test_a_node_refuses_what_its_cap_does_not_hold_whatever_the_launcher_says(
    tmp_path: Path,
) -> None:
    with pytest.raises(RefusedError, match=r"north refused: .*cap is epsilon 2 .*would .*fit"):
        federation(tmp_path, DISTRIBUTED, policy=capped(2.0)).run()
    assert not list((tmp_path / "nodes").glob("*/runs"))


def test_a_node_with_a_cap_takes_no_part_without_noise(tmp_path: Path) -> None:
    where = tables.write(tmp_path)
    with pytest.raises(RefusedError, match="this release has no noise"):
        assemble(where.config, tmp_path, policy=capped(100.0)).run()


def test_runs_add_up_in_one_budget_until_it_is_spent(tmp_path: Path) -> None:
    def run(index: int) -> None:
        # each time with nodes that were started anew
        first.again(f"run-{index}", restarted=True).run()

    first = federation(tmp_path, DISTRIBUTED, policy=capped(25.0))
    run(0)
    run(1)
    with pytest.raises(RefusedError, match="is spent"):
        run(2)


def test_a_release_is_on_disk_before_it_leaves_and_a_crash_counts(tmp_path: Path) -> None:
    direct = federation(tmp_path, DISTRIBUTED)
    seen: list[tuple[str, int]] = []

    def look(member: str, request: Request, parcel: Parcel) -> Parcel:
        if isinstance(unpack_reply(parcel)[0], Sealed):
            last = own_entries(tmp_path, member)[-1]
            assert last.kind == "budget.reserved"
            if isinstance(request, TrainRequest):
                assert (last.body["step"], last.body["round"]) == (UPDATE, request.round)
                seen.append((member, request.round))
                if request.round == 3:
                    raise KeyboardInterrupt  # all is lost but what is on disk
        return parcel

    direct.transport.tamper_reply = look
    with pytest.raises(KeyboardInterrupt):
        direct.run()
    member, _ = seen[-1]
    kinds = [entry.kind for entry in own_entries(tmp_path, member)]
    assert kinds.count("budget.reserved") == 4  # statistics and three rounds
    assert kinds.count("budget.committed") == 3


def test_nothing_is_told_where_the_budget_cannot_be_written(tmp_path: Path) -> None:
    direct = federation(tmp_path, DISTRIBUTED)
    north = next(node for node in direct.nodes.values() if node.member == "north")
    refused: list[str] = []

    def read_only(member: str, request: Request, parcel: Parcel) -> Parcel:
        if isinstance(request, TrainRequest) and member == "north":
            connection = north._ledger._connection
            assert connection is not None
            connection.execute("PRAGMA query_only = ON")
        return parcel

    def heard(member: str, request: Request, parcel: Parcel) -> Parcel:
        reply, payload = unpack_reply(parcel)
        if isinstance(request, TrainRequest) and member == "north":
            assert isinstance(reply, Refused)
            assert payload == b""
            refused.append(reply.reason)
        return parcel

    direct.transport.tamper_request = read_only
    direct.transport.tamper_reply = heard
    with pytest.raises(CohortError, match="north"):
        direct.run()
    (reason,) = refused
    assert "nothing may leave before it is written" in reason
    assert not any(
        entry.kind == "budget.reserved" and entry.body["step"] == UPDATE
        for entry in own_entries(tmp_path, "north")
    )


# -- what a node holds against the launcher --------------------------------------------------


def changed_plan(direct: Direct, **changes: Any) -> Direct:  # noqa: ANN401 - any field of a plan
    plan = direct.manifest.privacy
    assert plan is not None
    direct.manifest = replace(direct.manifest, privacy=replace(plan, **changes))
    return direct


def test_a_plan_for_less_than_the_nodes_own_sensitivity_is_refused(tmp_path: Path) -> None:
    for name in ("statistics_clip", "evaluation_clip"):
        direct = changed_plan(federation(tmp_path / name, DISTRIBUTED), **{name: 0.5})
        with pytest.raises(RefusedError, match=r"sensitivity of 0\.5"):
            direct.run()


def test_noise_for_another_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="noise is for 'row'"):
        changed_plan(federation(tmp_path, DISTRIBUTED), unit="row").run()


def test_an_organisations_noise_does_not_pass_a_cap_for_its_units(tmp_path: Path) -> None:
    whole = {"noise": "distributed", "multiplier": 5.0, "unit": "organisation", "rate": 1.0}
    with pytest.raises(RefusedError, match="caps what is told of a customer"):
        federation(tmp_path, whole, policy=capped(100.0)).run()


def test_a_unit_on_both_sides_of_a_split_is_refused(tmp_path: Path) -> None:
    rows = tables.table("binary", rows=1200)
    rows["id"] = rows["id"] // 3
    rows["member"] = [tables.MEMBERS[i % 3] for i in rows["id"]]
    where = tables.write(
        tmp_path,
        rows=rows,
        contract_changes={"split": {"kind": "uniform", "seed": 1, "test_share": 0.3}},
        config_changes=config_of(DISTRIBUTED),
    )
    with pytest.raises(RefusedError, match="kind: units"):
        assemble(where.config, tmp_path).run()


def test_no_validation_beyond_the_plan_is_answered(tmp_path: Path) -> None:
    direct = federation(tmp_path, DISTRIBUTED)  # its plan has none
    settings = {**direct.manifest.coordinator_settings, "watch_every": 1}
    direct.manifest = replace(direct.manifest, coordinator_settings=settings)
    direct.run()
    assert any("there is no further one" in sentence for sentence in direct.notes.sentences)
    assert direct.verdict().releases == 1 + ROUNDS + 1


def test_below_the_fewest_nothing_is_opened(tmp_path: Path) -> None:
    direct = federation(tmp_path, DISTRIBUTED)

    def away(member: str, request: Request, answered: bool) -> bool:
        del answered
        return member == "west" and isinstance(request, TrainRequest) and request.round == 2

    direct.transport.away = away
    with pytest.raises(CohortError):
        direct.run()
    opened = [
        body
        for kind, body in direct.notes.entries
        if kind == "sum.opened" and body["step"] == UPDATE
    ]
    assert [body["round"] for body in opened] == [1]


# -- configs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"privacy": {"noise": "distributed"}}, "one of epsilon"),
        ({"privacy": {"epsilon": 1.0, "multiplier": 1.0}}, "one of epsilon"),
        ({"privacy": {"noise": "none", "epsilon": 1.0}}, "no other key"),
        ({"privacy": {**DISTRIBUTED, "steps": 4}}, "one step a round"),
        ({"privacy": {**DISTRIBUTED, "epsilon": 0.0}}, "epsilon"),
        ({"privacy": {**DISTRIBUTED, "epsilon": math.inf}}, "epsilon"),
        ({"privacy": {**DISTRIBUTED, "rate": 0}}, "rate"),
        ({"privacy": {**DISTRIBUTED, "unit": "organisation"}}, "set it to 1"),
        ({"privacy": {**LOCAL, "sampler": "discrete"}}, "distributed"),
        ({"model": {"hidden": [8], "dropout": 0.1}}, "model.dropout"),
        ({"training": {"rounds": 4, "input_noise": 0.1}}, "training.input_noise"),
        ({"training": {"rounds": 4, "local_epochs": 3}}, "training.local_epochs"),
        ({"training": {"rounds": 4, "learning_rate": 0.1}}, "server.learning_rate"),
        ({"personal": {"epochs": 1}, "validation_share": 0.1}, "personal"),
        ({"protection": {"robust": "groups"}}, "robust"),
        ({"protection": {"rollback": 0.1}}, "watch_every"),
    ],
)
def test_a_config_that_would_not_mean_what_it_says_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    where = tables.write(tmp_path, config_changes=config_of(DISTRIBUTED) | changes)
    with pytest.raises(InputError, match=said):
        load_project(where.config)


def test_noise_that_is_none_is_refused(tmp_path: Path) -> None:
    where = tables.write(tmp_path, config_changes=config_of({**DISTRIBUTED}))
    project = with_wish(load_project(where.config), epsilon=None, multiplier=1e-300)
    with pytest.raises(InputError, match=r"privacy.multiplier: so little noise .* raise it"):
        project.privacy_plan()


def test_more_colluders_than_members_cannot_be_planned(tmp_path: Path) -> None:
    where = tables.write(tmp_path, config_changes=config_of({**DISTRIBUTED, "colluders": 3}))
    with pytest.raises(InputError, match=r"privacy\.colluders"):
        load_project(where.config).privacy_plan()


def test_a_wish_that_no_noise_can_keep_is_said_to_be_one(tmp_path: Path) -> None:
    where = tables.write(tmp_path, config_changes=config_of({**DISTRIBUTED, "epsilon": 1e-6}))
    with pytest.raises((InputError, RefusedError, ProtocolError)):
        load_project(where.config).privacy_plan()


@pytest.mark.parametrize("protection", ["clear", "ckks"])
def test_where_single_vectors_can_be_read_every_share_is_enough_by_itself(
    tmp_path: Path, protection: Protection
) -> None:
    policy = NodePolicy(sums=("masked", "sealed", "ckks", "clear"))
    masked = federation(tmp_path / "masked", DISTRIBUTED).manifest.privacy
    direct = federation(
        tmp_path / "open", DISTRIBUTED, policy=policy, protection={"sum": protection}
    )
    plan = direct.manifest.privacy
    assert plan is not None
    assert masked is not None
    assert plan.update_share == pytest.approx(masked.update_share * math.sqrt(2), rel=1e-3)
    direct.run()
    for one in direct.verdict().privacy:
        assert one.epsilon == one.solo_epsilon


def test_noise_with_groups_is_refused_by_nodes_too(tmp_path: Path) -> None:
    direct = federation(tmp_path, DISTRIBUTED)
    direct.manifest = replace(direct.manifest, group_size=3)
    with pytest.raises(RefusedError, match="sums all members together"):
        direct.run()


def test_a_validation_of_training_rows_is_of_all_of_them(tmp_path: Path) -> None:
    """A window over the rows would hold other units' rows once one is gone."""
    direct = federation(tmp_path, DISTRIBUTED, watch_every=ROUNDS)
    node = next(iter(direct.nodes.values()))
    plain: Callable[..., np.ndarray] = node._covered
    whole: list[bool] = []

    def covered(session: Session, step: Step, values: np.ndarray) -> np.ndarray:
        if step.name == "evaluate watch":
            whole.append(session.watching is session.training)
        return plain(session, step, values)

    node._covered = covered  # type: ignore[method-assign]
    direct.run()
    assert whole == [True]


def test_the_greatest_of_each_figure_is_reported_whichever_cohort_it_is_of(
    tmp_path: Path,
) -> None:
    direct = federation(tmp_path, DISTRIBUTED)
    plan = direct.manifest.privacy
    assert plan is not None
    paid = planned_receipts(
        plan, run="r", unit="customer", protection="masked", fewest=3, stages=1, rounds=ROUNDS
    )
    found = account(plan, {"north": paid}, unit="customer", note="")
    for name in ("epsilon", "solo_epsilon", "rdp_epsilon", "solo_rdp_epsilon"):
        assert found[name] == max(one[name] for one in found["cohorts"].values())
    assert found["per_node"]["north"]["solo_epsilon"] == found["solo_epsilon"]


def test_parts_are_counted_together_where_a_launcher_says_otherwise(tmp_path: Path) -> None:
    where = tables.write(
        tmp_path,
        rows=tables.table("binary", rows=1500),
        contract_changes={"split": {"kind": "folds", "seed": 1, "folds": 3}},
        config_changes=config_of(DISTRIBUTED),
    )
    folds = load_project(where.config)
    planned = folds.privacy_plan()
    assert planned is not None
    assert planned.parts == "together"
    manifest = federation(tmp_path / "other", DISTRIBUTED).manifest
    assert manifest.privacy is not None
    assert manifest.privacy.parts == "apart"
    reasons = refusals(manifest, NodePolicy(), folds.contract)
    assert any("the contract's folds exchange them" in reason for reason in reasons)


def test_an_organisation_is_in_both_parts_and_its_units_are_charged_without_bound(
    tmp_path: Path,
) -> None:
    whole = {"noise": "distributed", "multiplier": 5.0, "unit": "organisation", "rate": 1.0}
    direct = federation(tmp_path, whole)
    direct.run()
    receipts = [
        dict(entry.body)["receipt"]
        for entry in own_entries(tmp_path, "north")
        if entry.kind == "budget.reserved"
    ]
    assert {(one["unit"], one["mechanism"]) for one in receipts} == {  # type: ignore[index]
        ("organisation", "gaussian"),
        ("customer", "none"),
    }
    assert {one["cohort"] for one in receipts if one["unit"] == "organisation"} == {"all"}  # type: ignore[index]


def test_more_colluders_than_the_protocol_holds_against_are_refused(tmp_path: Path) -> None:
    rows = tables.table("binary", rows=1500)
    rows["member"] = [f"m{i % 10}" for i in range(len(rows))]
    noise = {**DISTRIBUTED, "colluders": 5}
    where = tables.write(tmp_path, rows=rows, config_changes=config_of(noise, minimum_cohort=8))
    with pytest.raises(RefusedError, match="Against 5 colluders among 10 members"):
        assemble(where.config, tmp_path).run()
    project = load_project(where.config)
    with pytest.raises(CohortError, match="lower the colluders to 3"):
        project.layout(10, project.privacy_plan())


def test_a_model_that_was_steered_far_away_gets_no_gradient(tmp_path: Path) -> None:
    direct = federation(tmp_path, DISTRIBUTED)
    direct.run()
    node = next(iter(direct.nodes.values()))
    rows = node._settings.rows(None)
    spec = parse_node_spec(dict(direct.manifest.node_settings))
    plan = direct.manifest.privacy
    assert plan is not None
    work = Learner(direct.project.contract, spec, "cpu", plan=plan)
    released = [np.array([900.0, 400.0, 400.0, 900.0] + [10.0] * 64)]
    work.start(released)
    examples = work.training_examples(work.scaled(rows.train), released)
    laid = private_rows(work.network, examples, work.target, plan)
    assert np.any(clipped_gradients(work.network, laid, work.target, plan, system_bytes))
    with torch.no_grad():
        work.network.head.weight.fill_(101.0)
    assert not np.any(clipped_gradients(work.network, laid, work.target, plan, system_bytes))
