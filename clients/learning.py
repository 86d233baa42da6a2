"""What a session's common model is stepped by, and what this member adds to the next sum.

Nobody hands a model to a node: it makes the first one of the opened statistics, and each next one
of the opened sums, as every other member does.
"""

import math
import threading
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from clients import common_model
from clients.common_model import CommonModel
from clients.examples import Examples
from clients.learner import WATCH_ROWS, split_validation
from clients.model import architecture_digest, from_vector, to_vector
from clients.private_training import clipped_gradients, private_rows, train_privately
from clients.protect import weight_of, weighted_change
from clients.session import PERSONAL, TEST, WATCH, Session, Step
from clients.train import fine_tune, local_seed, train
from privacy.errors import ProtocolError, RefusedError
from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.messages import InitialModel
from privacy.plan import ORGANISATION, PrivacyPlan, deviation, is_distributed
from privacy.randomness import Entropy
from privacy.tally import metrics

Floats = NDArray[np.float64]
# torch has one random state for all threads: what seeds it and draws from it is not disturbed
_RANDOM = threading.Lock()


def follow(
    session: Session,
    step: Step,
    sums: list[tuple[Floats, int]],
    *,
    exact: bool,
    write: Callable[[Mapping[str, object]], None],
) -> bool:
    """Take what a step's sums say; return whether the common model was kept.

    Args:
        session: The run.
        step: Whose sums they are.
        sums: Each with how many members it is over.
        exact: Whether exact sums may lie on this member's disk as they are.
        write: Writes down what was opened, before anything follows from it.
    """
    record = {"step": step.name, "round": step.round, "members": [n for _, n in sums]}
    common, kept = session.common, True
    if step.name == UPDATE:
        common = _stepped(session, step, sums)
    elif step.name != STATISTICS:
        work, plan = session.learner, session.manifest.privacy
        total, members = sums[0]
        noise = 0.0 if plan is None else deviation(plan, step.name) * math.sqrt(members)
        # what else the final test was asked for lies behind it
        total, rest = np.split(total, [work.evaluation_length])
        found = work.read_evaluation(total, noise)
        if step.name == WATCH:
            common, kept = common_model.after_watch(
                session.model, work.loss_of(found), session.spec
            )
        record |= {"metrics": found, "kept": kept}
        leans = work.read_importance(rest, fewest=session.minimum) if rest.size else None
        if leans is not None:
            record |= {"importance": leans.to_json()}
        if step.name != WATCH and exact:
            # a model's card computes intervals from it, and anybody the metrics again
            record |= {"sum": total.tolist(), "noise": noise}
    write(record)
    session.common = common
    if step.name == STATISTICS:
        session.released.append(sums[0][0])
        session.tallied = None
    elif step.name == UPDATE:
        session.round = step.round
    else:
        session.accepted.add((step.name, step.round))
    return kept


def _stepped(session: Session, step: Step, sums: list[tuple[Floats, int]]) -> CommonModel:
    spec, plan = session.spec, session.manifest.privacy
    if plan is not None and is_distributed(plan):
        mean = sums[0][0] / _expected_units(session, plan)
        return common_model.after_round(
            session.model, mean, spec, scheduled=True, hold=session.learner.hold
        )
    mean = common_model.mean_change(sums, spec, step.layout, len(step.cohorts))
    return common_model.after_round(session.model, mean, spec, hold=session.learner.hold)


def _expected_units(session: Session, plan: PrivacyPlan) -> float:
    """Units in a step, by the federation's noisy count: of all members, or of one."""
    members = len(session.agreed.roster.members)
    units = float(members)
    if plan.unit != ORGANISATION:
        units = max(session.learner.overview(session.released).units, float(members))
    return plan.rate * (units if is_distributed(plan) else units / members)


def start_model(session: Session) -> None:
    """Make the initial model, once: the statistics and the run's seed fix it for all."""
    if session.common is not None:
        return
    if len(session.released) != session.learner.stages:
        raise ProtocolError("The model is asked for after the statistics.")
    make_examples(session)
    session.common = common_model.start(to_vector(session.learner.network))


def make_examples(session: Session) -> None:
    """Make the network, and what it is trained and tested on, of the opened statistics."""
    work = session.learner
    with _RANDOM:
        work.start(session.released)
    training, watching = split_validation(session.rows.train, session.spec)
    session.training = work.training_examples(training, session.released)
    if len(session.training) == 0 and session.manifest.privacy is None:
        # with noise, not even whether there is a unit is told
        raise RefusedError("This member has no training examples; its rows are too few.")
    if session.spec.validation_share > 0:
        # a small member may have no validation unit; then it adds nothing to the tally
        session.watching = work.watch_examples(watching, session.released)
    elif session.manifest.privacy is not None:
        # a window over the rows would hold others once a unit is gone
        session.watching = session.training
    else:
        count = min(WATCH_ROWS, len(session.training))
        session.watching = session.training.take(np.arange(count))
    session.test = work.test_examples(session.rows.test, session.released)
    session.architecture = architecture_digest(work.network)


def initial_model(session: Session, member: str) -> InitialModel:
    """What this node starts from, as a hash.

    Raises:
        ProtocolError: A round was summed already, or the statistics were not.
    """
    if session.round > 0:
        raise ProtocolError("The initial model is asked for before the first round.")
    start_model(session)
    return InitialModel(
        member=member,
        architecture=session.architecture,
        digest=session.model_digest,
        length=session.model.current.size,
    )


def trained(session: Session, member: str, round_index: int, entropy: Entropy) -> Floats:
    """This member's weighted change of the common model in a round, before noise at sealing."""
    training, model = examples_of(session.training), session.model.current
    work, spec = session.learner, session.spec
    from_vector(work.network, model)
    plan = session.manifest.privacy
    if plan is not None:
        return _trained_privately(session, plan, round_index, entropy)
    with _RANDOM:
        train(
            work.network,
            training,
            work.target,
            spec.training,
            round_index=round_index,
            seed=local_seed(spec.seed, member, round_index),
        )
    overview = work.overview(session.released)
    units = int(np.unique(training.unit).size)
    weight = weight_of(len(training), units, overview, spec.update)
    return weighted_change(model, to_vector(work.network), weight, spec.update)


def _trained_privately(
    session: Session, plan: PrivacyPlan, round_index: int, entropy: Entropy
) -> Floats:
    work, spec = session.learner, session.spec
    if session.private is None:
        with _RANDOM:
            session.private = private_rows(
                work.network, examples_of(session.training), work.target, plan
            )
    if is_distributed(plan):
        # downhill, as a change of the model is
        return -clipped_gradients(work.network, session.private, work.target, plan, entropy)
    train_privately(
        work.network,
        session.private,
        work.target,
        plan,
        spec.training,
        round_index=round_index,
        expected_units=_expected_units(session, plan),
        entropy=entropy,
    )
    # all alike: a weight by rows would be one more thing told
    return weighted_change(session.model.current, to_vector(work.network), 1.0, spec.update)


def evaluated(session: Session, member: str, step: Step) -> Floats:
    """This member's tally of the common model; its own metrics stay in the session."""
    work = session.learner
    from_vector(work.network, session.model.average)
    if step.name == WATCH:
        return work.evaluation(examples_of(session.watching))
    if step.name == PERSONAL:
        _personalise(session, member)
    test = examples_of(session.test)
    session.own[step.name.removeprefix("evaluate ")] = metrics(
        work.kind, work.tally(test), work.groups, target_unit=work.target_unit
    )
    values = work.evaluation(test)
    if step.name == TEST and session.spec.explain:
        # of the common model; this member's own is kept nowhere, not even here
        leans = work.importance(session.rows.test, session.released)
        values = np.concatenate([values, leans])
    return values


def _personalise(session: Session, member: str) -> None:
    """Fine-tune in place, and undo it where the member's own validation does not gain."""
    personal = session.spec.personal
    if personal is None:
        raise ProtocolError("The run's manifest has no personalisation.")
    work = session.learner
    watching = examples_of(session.watching)
    before = to_vector(work.network)
    general = work.loss(watching)
    with _RANDOM:
        fine_tune(
            work.network,
            examples_of(session.training),
            work.target,
            personal,
            batch_rows=session.spec.training.batch_rows,
            seed=local_seed(session.spec.seed, member, 0),
        )
    work.hold_network()
    if not work.loss(watching) < general:
        from_vector(work.network, before)


def examples_of(examples: Examples | None) -> Examples:
    """The examples.

    Raises:
        ProtocolError: There are none yet.
    """
    if examples is None:
        raise ProtocolError("The model is used before it was agreed on.")
    return examples
