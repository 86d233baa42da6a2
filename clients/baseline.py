"""What a member would get without the federation: the same learning on its own rows alone.

The network, the epochs and the training rows are the federation's, and so is the learning rate
unless the run config gives baselines their own; statistics come from the rows themselves. Given
all members' rows it is the pooled model, which in life nobody could train.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.contract import DataContract
from clients.learner import Learner, split_validation
from clients.members import MemberRows
from clients.model import from_vector
from clients.spec import NodeSpec
from clients.train import local_seed, train
from privacy.errors import RefusedError

Floats = NDArray[np.float64]


def train_alone(
    contract: DataContract,
    spec: NodeSpec,
    members: Sequence[MemberRows],
    *,
    average_last: int,
    device: str,
) -> dict[str, Floats]:
    """Train one model on the given members' rows together, as long as the federation would.

    Returns:
        Each member's tally of that model on its own test rows.

    Raises:
        RefusedError: The rows cannot train anything, for example for want of a second class.
    """
    work = Learner(contract, spec, device)
    # a unit's name may be used by several members; a window must not run from one to the other
    own = [(one.member, work.scaled(one.train)) for one in members]
    rows = _joined(own)
    training = _joined([(member, split_validation(table, spec)[0]) for member, table in own])
    released: list[Floats] = []
    for _ in range(work.stages):
        released.append(work.tally_statistics(rows, released))
    work.start(released)
    examples = work.training_examples(training, released)
    if len(examples) == 0:
        raise RefusedError("There are no training examples; the rows are too few.")
    name = "+".join(one.member for one in members)
    history: list[NDArray[np.float32]] = []
    for index in range(1, spec.training.rounds + 1):
        train(
            work.network,
            examples,
            work.target,
            spec.training,
            round_index=index,
            seed=local_seed(spec.seed, name, index),
        )
        work.hold_network()
        history = [*history, work.vector()][-average_last:]
    mean = np.mean(np.stack(history).astype(np.float64), axis=0)
    from_vector(work.network, mean.astype(np.float32))
    return {
        one.member: work.tally(work.test_examples(work.scaled(one.test), released), exact=True)
        for one in members
    }


def _joined(parts: Sequence[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    marked = [
        rows.assign(__unit=member + "|" + rows["__unit"].astype(str)) for member, rows in parts
    ]
    return pd.concat(marked, ignore_index=True)
