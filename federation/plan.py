"""A run, said before it runs: size, time, privacy, and who would refuse."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from federation.compliance import (
    Rule,
    findings_facts,
    plan_findings,
    refused,
    rules_digest,
)
from federation.config import Project
from federation.gate_here import judgements_here
from federation.home import Home
from federation.node_policy import over_budget, read_policy
from federation.noise_spec import CNN_WARNING, warnings
from federation.report import size
from federation.spending import account, sentences
from privacy import fixed_point
from privacy.errors import CohortError, DataError
from privacy.fixed_point import FixedPoint
from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.manifest import Manifest
from privacy.mechanism import sum_layout
from privacy.plan import PrivacyPlan, planned_receipts, update_values, vector_length
from privacy.randomness import system_bytes
from privacy.secure_sum.carrier import Wrap
from privacy.secure_sum.schemes import scheme_of
from privacy.secure_sum.tag import tag_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clients.contract import DataContract
    from clients.examples import Examples
    from clients.learner import Learner
    from clients.members import MemberRows
    from clients.spec import NodeSpec

    Floats = NDArray[np.float64]

NOBODY_LEFT = (
    "No training rows are left: all devices wait for a review, were rejected, or are not trusted; "
    "see tacit data review list."
)


def plan_privacy(project: Project) -> dict[str, Any]:
    """What a run's noise would be and what it would cost a unit; reads no row.

    Returns:
        The `privacy` part of what `tacit run plan --json` prints.

    Raises:
        InputError: No noise keeps what the config wishes.
    """
    return _privacy(project, project.privacy_plan())


def _privacy(project: Project, noise: PrivacyPlan | None) -> dict[str, Any]:
    config = project.config
    receipts = planned_receipts(
        noise,
        run="plan",
        unit=project.contract.unit,
        protection=config.protection.sum,
        fewest=config.minimum_cohort,
        stages=config.features.stages,
        rounds=config.training.rounds,
    )
    paid = {"each member": receipts * len(project.folds)}
    note = scheme_of(config.protection.sum).sentence
    found = account(noise, paid, unit=project.contract.unit, note=note)
    if noise is not None and len(project.folds) > 1:
        one = account(noise, {"each": receipts}, unit=project.contract.unit, note=note)
        found["folds"] = [one["epsilon"]] * len(project.folds)
    found.pop("per_node")
    found["warnings"] = list(warnings(config.privacy, members=0))
    if noise is not None and config.model.kind == "cnn":
        found["warnings"].append(CNN_WARNING)
    return found


def plan_run(
    project: Project,
    data_root: Path,
    home: Home,
    *,
    seed: int,
    rules: tuple[Rule, ...],
    at: datetime,
    own: str | None = None,
) -> dict[str, Any]:
    """Work out what a run would cost, and what rules it breaks.

    The network's size depends on the summed statistics (which columns have gaps, where quantiles
    lie), so the members' rows are read and one round of the largest member is timed, here. Rows
    are counted as a run would use them: without those of devices that its gate leaves out.

    Args:
        project: The run.
        data_root: Where the rows are.
        home: Whose nodes' policies and budgets count.
        seed: The run's.
        rules: What is demanded of it besides.
        at: Now.
        own: This machine's name in a federation, if it is in one. Where it has one member's rows
            alone, as many others as the run needs at least are taken for granted, and what is said
            of a refusal is its own node's.

    Returns:
        What `tacit run plan --json` prints.

    Raises:
        TacitError: The data do not keep the contract, or nothing could be learnt from them.
    """
    import torch

    from clients.class_floor import class_refusals, keeping_refusals
    from clients.learner import Learner
    from clients.policy import refusals
    from clients.spec import parse_node_spec

    torch.set_num_threads(1)
    config, contract = project.config, project.contract
    fold = project.folds[0]
    rows, left_out = _usable_rows(contract, home, data_root, fold)
    settings = config.node_settings(seed=seed, fold=fold)
    spec = parse_node_spec(settings)
    noise = project.privacy_plan()
    work = Learner(contract, spec, "cpu", plan=noise)
    able = [one for one in rows.values() if not one.train.empty]
    if not able:
        raise DataError(f"{contract.name}: {NOBODY_LEFT}")
    released = _statistics(work, able)
    statistics_values = sum(one.size for one in released)
    work.start(released)
    largest = max(able, key=lambda one: len(one.train))
    examples = work.training_examples(work.scaled(largest.train), released)
    seconds = _second_time_s(_one_round(work, examples, spec, noise))
    assumed = config.minimum_cohort - 1 if own is not None and len(rows) == 1 else 0
    members = sorted([*rows, *(f"another {number}" for number in range(1, assumed + 1))])
    parties = max(len(members), 2)
    scheme = scheme_of(config.protection.sum)
    layout = _layout(project, parties, noise)
    wrap = scheme.create(parties).wrap
    sent_values = vector_length(noise, UPDATE, update_values(noise, work.length))
    up = _sent_bytes(wrap, layout, sent_values)
    groups = max(1, len(members) // config.group_size) if config.group_size else 1
    manifest = Manifest(
        run="plan",
        name=config.name,
        task=config.task,
        unit=contract.unit,
        contract=contract.digest,
        directory=dict.fromkeys(members, "00" * 32),
        minimum_cohort=config.minimum_cohort,
        protection=config.protection.sum,
        group_size=config.group_size,
        privacy=noise,
        ledger={"origin": "tacit/coordinator/planned", "key": "00" * 32},
        node_settings=settings,
        coordinator_settings=config.coordinator_settings(),
    )
    planned = manifest.planned_receipts(stages=work.stages, rounds=config.training.rounds)
    planned *= len(project.folds)
    reasons: dict[str, list[str]] = {}
    for member, one in rows.items():
        folder, whose = home.node(contract.name, member), member
        if own is not None and assumed:
            folder, whose = home.own_node, own
        policy = read_policy(home.root, folder)
        reasons[member] = [
            *refusals(manifest, policy, contract),
            *class_refusals(manifest, spec, policy, contract, own_machine=not assumed),
            *keeping_refusals(contract, at.date()),
            *over_budget(policy, folder, planned, member=whose, contract=contract, plan=noise),
            *_too_few(work, one, spec, released),
        ]
    watches = -(-config.training.rounds // config.watch_every) if config.watch_every else 0
    evaluations = watches + 1 + (config.personal is not None)
    tally_values = work.evaluation_length
    wide = fixed_point.wide(parties) if noise is None else sum_layout(noise, STATISTICS, parties)
    others = [released_one.size for released_one in released] + [tally_values] * evaluations
    others[-1] += work.importance_length
    other_bytes = len(project.folds) * sum(
        _sent_bytes(wrap, wide, vector_length(noise, STATISTICS, count)) for count in others
    )
    rounds = config.training.rounds * len(project.folds)
    findings = plan_findings(project, rules, at=at)
    return {
        "name": config.name,
        "task": config.task,
        "contract": contract.name,
        "members": {
            member: {
                "training_rows": len(one.train),
                "test_rows": len(one.test),
                "left_out_rows": left_out[member],
                "would_refuse": reasons[member],
            }
            for member, one in rows.items()
        },
        "assumed_members": assumed,
        "rounds": config.training.rounds,
        "folds": len(project.folds),
        "protection": config.protection.sum,
        "packing": f"{layout.fields} numbers of {layout.field_bits} bits",
        "minimum_cohort": config.minimum_cohort,
        "model_values": work.length,
        "statistics_values": statistics_values,
        "explain": list(work.importance_inputs),
        "bytes_per_round": {"up_per_member": up, "down_per_member": up * groups},
        "bytes_total": {
            "up_per_member": up * rounds + other_bytes,
            "down_per_member": up * groups * rounds + other_bytes,
        },
        "seconds_per_round_largest_member": round(seconds, 3),
        "seconds_training_largest_member": round(seconds * rounds, 1),
        "robust": config.protection.robust,
        "groups": groups,
        "privacy": _privacy(project, noise),
        "rules": {"digest": rules_digest(rules), "findings": findings_facts(findings)},
        "feasible": not any(reasons.values())
        and len(members) >= config.minimum_cohort
        and not refused(findings),
    }


def _usable_rows(
    contract: "DataContract", home: Home, data_root: Path, fold: int | None
) -> tuple[dict[str, "MemberRows"], dict[str, int]]:
    """Member -> its rows as a run would use them, and how many its gate leaves out."""
    from clients.members import read_members

    whole = read_members(contract, data_root, fold=fold)
    judgements = judgements_here(home, contract, whole)
    rows = {
        member: judgements[member].usable(one, contract) if member in judgements else one
        for member, one in whole.items()
    }
    counts = {
        member: len(one.train) + len(one.test) - len(rows[member].train) - len(rows[member].test)
        for member, one in whole.items()
    }
    return rows, counts


def _statistics(work: "Learner", members: "Sequence[MemberRows]") -> "list[Floats]":
    """The opened statistics of all stages."""
    import numpy as np

    released: list[Floats] = []
    for _ in range(work.stages):
        tallies = [work.tally_statistics(work.scaled(one.train), released) for one in members]
        released.append(np.sum(np.stack(tallies), axis=0))
    return released


def _too_few(
    work: "Learner", one: "MemberRows", spec: "NodeSpec", released: "Sequence[Floats]"
) -> list[str]:
    """Why a member's rows are too few to train on; empty where they are not."""
    from clients.learner import split_validation

    if one.train.empty:
        return [NOBODY_LEFT]
    own = split_validation(work.scaled(one.train), spec)[0]
    few = len(work.training_examples(own, released)) == 0
    return ["It has no training example."] if few else []


def _second_time_s(work: Callable[[], object]) -> float:
    """How long it takes once all is warm."""
    work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _one_round(
    work: "Learner", examples: "Examples", spec: "NodeSpec", noise: PrivacyPlan | None
) -> Callable[[], object]:
    """What a member does in one round of training."""
    from clients.private_training import clipped_gradients, private_rows
    from clients.train import train

    if noise is None:
        return lambda: train(
            work.network, examples, work.target, spec.training, round_index=1, seed=0
        )
    laid = private_rows(work.network, examples, work.target, noise)

    def steps() -> None:
        for _ in range(noise.steps):
            clipped_gradients(work.network, laid, work.target, noise, system_bytes)

    return steps


def _layout(project: Project, members: int, noise: PrivacyPlan | None) -> FixedPoint:
    try:
        return project.layout(members, noise)
    except CohortError:
        # the plan says who would refuse; what they would have sent is near enough
        update = project.config.update
        return fixed_point.packed(members, update.clip, update.precision)


def _sent_bytes(wrap: Wrap, layout: FixedPoint, values: int) -> int:
    """Payload of a vector: a carrier's true size shows when it closes zeros."""
    import numpy as np

    zeros = np.zeros(layout.words(values) + tag_words(layout), dtype=np.uint64)
    return len(wrap.close(wrap.prepare(zeros, bits=layout.word_bits)))


def privacy_lines(privacy: dict[str, Any]) -> list[str]:
    """The privacy of a plan for people: what is promised, and the noise that keeps it."""
    lines = sentences(privacy)
    if privacy["noise"] != "none":
        lines.insert(
            1,
            f"{privacy['noise']} noise: {privacy['multiplier']:.3f} times the clip of "
            f"{privacy['clip']:g} in each step, unknown to them; each {privacy['unit']} is in a "
            f"step with probability {privacy['rate']:g}",
        )
    return [*lines, *privacy["warnings"]]


def plan_table(plan: dict[str, Any]) -> RenderableType:
    """For people."""
    table = Table(title=f"{plan['name']}: {plan['task']} on {plan['contract']}")
    table.add_column("member")
    table.add_column("training rows (own)", justify="right")
    table.add_column("test rows (own)", justify="right")
    gated = any(facts["left_out_rows"] for facts in plan["members"].values())
    if gated:
        table.add_column("left out by the gate", justify="right")
    table.add_column("would refuse")
    for member, facts in plan["members"].items():
        table.add_row(
            member,
            f"{facts['training_rows']:,}",
            f"{facts['test_rows']:,}",
            *([f"{facts['left_out_rows']:,}"] if gated else []),
            " ".join(facts["would_refuse"]) or "no",
        )
    facts = Table.grid(padding=(0, 2))
    up, down = plan["bytes_per_round"]["up_per_member"], plan["bytes_per_round"]["down_per_member"]
    facts.add_row(
        "rounds", f"{plan['rounds']}" + (f" x {plan['folds']} folds" * (plan["folds"] > 1))
    )
    facts.add_row("model", f"{plan['model_values']:,} numbers")
    facts.add_row(
        "a member sends", f"{size(up)} a round ({plan['packing']} a word), receives {size(down)}"
    )
    facts.add_row("in all it sends", size(plan["bytes_total"]["up_per_member"]))
    facts.add_row(
        "a round takes",
        f"{plan['seconds_per_round_largest_member']:.2f} s of training at the largest member "
        "(measured here)",
    )
    facts.add_row("privacy", "\n".join(privacy_lines(plan["privacy"])))
    if plan["explain"]:
        facts.add_row(
            "explained",
            f"the final test also sums, over the members' test rows, how far each of "
            f"{len(plan['explain'])} inputs moves a score; each node is asked for that",
        )
    facts.add_row(
        "sums",
        f"{plan['protection']}, opened over at least {plan['minimum_cohort']} members"
        + (f", updates in {plan['groups']} groups" if plan["robust"] == "groups" else ""),
    )
    for one in plan["rules"]["findings"]:
        word = "refused" if one["severity"] == "refuse" else "warning"
        facts.add_row(f"rule {one['rule']}", f"{word}: {one['says']} {one['mend']}")
    if plan["assumed_members"]:
        others = f"{plan['assumed_members']} other member{'s'[: plan['assumed_members'] != 1]}"
        facts.add_row(
            "others",
            f"only these rows are here; {others} are taken for granted, and their nodes are asked "
            "when it is launched",
        )
    verdict = "It can run." if plan["feasible"] else "It would be refused."
    return Group(table, facts, Text(verdict, style="bold"))
