"""Baselines of an embedded run: each member alone, and all rows pooled, side by side on all cores.

Only a launch on one machine, which holds every member's rows anyway, can do this. It is for
comparison and never part of a federation.
"""

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from federation.engine import worker
from federation.engine.pool import end
from privacy.errors import RefusedError

if TYPE_CHECKING:
    from clients.contract import DataContract
    from clients.judgement import Judgement
    from clients.members import MemberRows

Floats = NDArray[np.float64]
POOLED = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineTask:
    """What a worker trains.

    Attributes:
        contract: The contract's file.
        data_root: Where its paths begin.
        settings: The node half of a manifest.
        average_last: As in the run.
        device: As in the run.
        member: Whose rows; `POOLED` for all.
        judgements: Member -> what its gate made of its devices, so that a baseline is of the rows
            that the run uses, weighed as there; workers read no ledger and write to none.
    """

    contract: Path
    data_root: Path
    settings: Mapping[str, Any]
    average_last: int
    device: str
    member: str
    judgements: Mapping[str, "Judgement"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Baselines:
    """Tallies by member, each on the member's own test rows.

    Attributes:
        alone: Of the model that the member trained alone; a member that cannot is missing.
        pooled: Of the one model trained on all rows.
        reasons: Member -> why it cannot train alone.
    """

    alone: Mapping[str, Floats]
    pooled: Mapping[str, Floats]
    reasons: Mapping[str, str]


def train_baselines(
    task: BaselineTask, members: Sequence[str], told: Callable[[], None]
) -> Baselines:
    """Train all baselines.

    Args:
        task: For `POOLED`; the others differ by their member.
        members: Who is in the run.
        told: Called whenever one is done.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["federation.engine.preload"])
    count = os.cpu_count() or 1
    alone: dict[str, Floats] = {}
    pooled: dict[str, Floats] = {}
    reasons: dict[str, str] = {}
    alive, ours = multiprocessing.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        count, mp_context=context, initializer=worker.start, initargs=({}, 1, alive)
    )
    try:
        # the longest first
        waiting = {pool.submit(_train, task): POOLED}
        for member in members:
            waiting[pool.submit(_train, replace(task, member=member))] = member
        for future in as_completed(waiting):
            member = waiting[future]
            try:
                tallies = future.result()
            except RefusedError as reason:
                reasons[member or "pooled"] = str(reason)
            else:
                (alone if member else pooled).update(tallies)
            told()
    except BrokenProcessPool:
        raise RefusedError(
            "A baseline's process ended by itself, perhaps for want of memory; "
            "launch without --baselines."
        ) from None
    finally:
        end(pool)
        ours.close()
    return Baselines(alone, pooled, reasons)


def _train(task: BaselineTask) -> dict[str, Floats]:
    from clients.baseline import train_alone
    from clients.contract import load_contract
    from clients.spec import parse_node_spec

    contract = load_contract(task.contract)
    spec = parse_node_spec(dict(task.settings))
    rows = _rows(task.contract, task.data_root, spec.fold)
    names = [task.member] if task.member else list(rows)
    chosen = [usable for name in names if (usable := _usable(task, contract, rows[name]))]
    if not chosen:
        raise RefusedError(
            "No training rows are left: all devices wait for a review, were rejected, or are not "
            "trusted."
        )
    return train_alone(contract, spec, chosen, average_last=task.average_last, device=task.device)


def _usable(
    task: BaselineTask, contract: "DataContract", rows: "MemberRows"
) -> "MemberRows | None":
    """A member's rows as its node uses them; None where it could not have joined."""
    judgement = task.judgements.get(rows.member)
    usable = rows if judgement is None else judgement.usable(rows, contract)
    return None if usable.train.empty else usable


@lru_cache(maxsize=1)
def _rows(contract: Path, data_root: Path, fold: int | None) -> dict[str, "MemberRows"]:
    from clients.contract import load_contract
    from clients.members import read_members

    return read_members(load_contract(contract), data_root, fold=fold)
