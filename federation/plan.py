"""A run, said before it runs: size, time, privacy, and who would refuse."""

import time
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from federation.config import Project
from federation.report import size
from privacy import fixed_point
from privacy.errors import CohortError
from privacy.fixed_point import FixedPoint
from privacy.manifest import Manifest
from privacy.secure_sum.carrier import Wrap
from privacy.secure_sum.schemes import scheme_of
from privacy.secure_sum.tag import tag_words


def plan_run(project: Project, data_root: Path, *, seed: int) -> dict[str, Any]:
    """Work out what a run would cost.

    The network's size depends on the summed statistics (which columns have gaps, where quantiles
    lie), so the members' rows are read and one round of the largest member is timed, here.

    Returns:
        What `tacit run plan --json` prints.

    Raises:
        TacitError: The data do not keep the contract, or nothing could be learnt from them.
    """
    import numpy as np
    import torch

    from clients.learner import Learner, split_validation
    from clients.members import read_members
    from clients.policy import NodePolicy, refusals
    from clients.spec import parse_node_spec
    from clients.targets import tally_kind
    from clients.train import train
    from privacy.tally import tally_length

    torch.set_num_threads(1)
    config, contract = project.config, project.contract
    fold = project.folds[0]
    rows = read_members(contract, data_root, fold=fold)
    settings = config.node_settings(seed=seed, fold=fold)
    spec = parse_node_spec(settings)
    work = Learner(contract, spec, "cpu")
    released: list[np.ndarray] = []
    statistics_values = 0
    for _ in range(work.stages):
        tallies = [work.tally_statistics(work.scaled(one.train), released) for one in rows.values()]
        released.append(np.sum(np.stack(tallies), axis=0))
        statistics_values += released[-1].size
    work.start(released)
    largest = max(rows.values(), key=lambda one: len(one.train))
    examples = work.training_examples(work.scaled(largest.train), released)
    train(work.network, examples, work.target, spec.training, round_index=1, seed=0)
    started = time.perf_counter()
    train(work.network, examples, work.target, spec.training, round_index=1, seed=0)
    seconds = time.perf_counter() - started
    members = sorted(rows)
    parties = max(len(members), 2)
    scheme = scheme_of(config.protection.sum)
    layout = _layout(project, parties)
    wrap = scheme.create(parties).wrap
    up = _sent_bytes(wrap, layout, work.length + 1)
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
        node_settings=settings,
        coordinator_settings=config.coordinator_settings(),
    )
    shared = refusals(manifest, NodePolicy(), contract)
    reasons: dict[str, list[str]] = {}
    for member, one in rows.items():
        own = split_validation(work.scaled(one.train), spec)[0]
        too_few = len(work.training_examples(own, released)) == 0
        reasons[member] = [*shared, *(["It has no training example."] if too_few else [])]
    watches = -(-config.training.rounds // config.watch_every)
    evaluations = watches + 1 + (config.personal is not None)
    tally_values = tally_length(tally_kind(contract), contract.groups)
    wide = fixed_point.wide(parties)
    others = [released_one.size for released_one in released] + [tally_values] * evaluations
    other_bytes = len(project.folds) * sum(_sent_bytes(wrap, wide, count) for count in others)
    rounds = config.training.rounds * len(project.folds)
    return {
        "name": config.name,
        "task": config.task,
        "contract": contract.name,
        "members": {
            member: {
                "training_rows": len(one.train),
                "test_rows": len(one.test),
                "would_refuse": reasons[member],
            }
            for member, one in rows.items()
        },
        "rounds": config.training.rounds,
        "folds": len(project.folds),
        "protection": config.protection.sum,
        "packing": f"{layout.fields} numbers of {layout.field_bits} bits",
        "minimum_cohort": config.minimum_cohort,
        "model_values": work.length,
        "statistics_values": statistics_values,
        "bytes_per_round": {"up_per_member": up, "down_per_member": up * groups},
        "bytes_total": {
            "up_per_member": up * rounds + other_bytes,
            "down_per_member": up * groups * rounds + other_bytes,
        },
        "seconds_per_round_largest_member": round(seconds, 3),
        "seconds_training_largest_member": round(seconds * rounds, 1),
        "robust": config.protection.robust,
        "groups": groups,
        "privacy": {
            "unit": contract.unit,
            "epsilon": None,
            "note": f"{scheme.sentence} No noise is added, so the model itself has no "
            "differential privacy.",
        },
        "feasible": not any(reasons.values()) and len(members) >= config.minimum_cohort,
    }


def _layout(project: Project, members: int) -> FixedPoint:
    try:
        return project.layout(members)
    except CohortError:
        # the plan says who would refuse; what they would have sent is near enough
        update = project.config.update
        return fixed_point.packed(members, update.clip, update.precision)


def _sent_bytes(wrap: Wrap, layout: FixedPoint, values: int) -> int:
    """Payload of a vector: a carrier's true size shows when it closes zeros."""
    import numpy as np

    zeros = np.zeros(layout.words(values) + tag_words(layout), dtype=np.uint64)
    return len(wrap.close(wrap.prepare(zeros, bits=layout.word_bits)))


def plan_table(plan: dict[str, Any]) -> RenderableType:
    """For people."""
    table = Table(title=f"{plan['name']}: {plan['task']} on {plan['contract']}")
    table.add_column("member")
    table.add_column("training rows (own)", justify="right")
    table.add_column("test rows (own)", justify="right")
    table.add_column("would refuse")
    for member, facts in plan["members"].items():
        table.add_row(
            member,
            f"{facts['training_rows']:,}",
            f"{facts['test_rows']:,}",
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
    facts.add_row(
        "privacy", f"unit: {plan['privacy']['unit']}; epsilon: none. {plan['privacy']['note']}"
    )
    facts.add_row(
        "sums",
        f"{plan['protection']}, opened over at least {plan['minimum_cohort']} members"
        + (f", updates in {plan['groups']} groups" if plan["robust"] == "groups" else ""),
    )
    verdict = "It can run." if plan["feasible"] else "It would be refused."
    return Group(table, facts, Text(verdict, style="bold"))
