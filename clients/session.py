"""One run at one node: what was agreed, which sums were accepted, and which one is under way.

Everything here is computed by the node from what it was sent and checked; nothing is taken on the
coordinator's word. A restart goes on from what was kept (`clients.session_file`), or forgets the
session, and with it every key: the run is not joined again, so no sum is ever sealed or answered
for twice.
"""

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clients.common_model import CommonModel
from clients.examples import Examples
from clients.kept_session import Keeper
from clients.learner import Learner
from clients.members import MemberRows
from clients.private_training import PrivateRows
from clients.session_file import SessionFile
from clients.spec import NodeSpec
from privacy import fixed_point
from privacy.budget import Budget
from privacy.errors import CohortError, ProtocolError
from privacy.fixed_point import FixedPoint
from privacy.ledger.entry import EVALUATIONS, ROWS, STATISTICS, UPDATE
from privacy.ledger.head import LedgerHead
from privacy.manifest import Manifest
from privacy.mechanism import gradient_layout, sum_layout
from privacy.messages import Joined, RecordedSum, Reply, Request, pack, vector_digest
from privacy.plan import is_distributed, update_values, vector_length
from privacy.receipt import Receipt
from privacy.secure_sum.cohort import Cohort
from privacy.secure_sum.group_key import GroupKey
from privacy.secure_sum.keys import ExchangeKey, Roster
from privacy.secure_sum.schemes import Scheme
from privacy.secure_sum.sealer import Sealer
from privacy.sum_context import SumContext
from privacy.tally import TALLY_CLIP

Floats = NDArray[np.float64]
WATCH, TEST, PERSONAL = EVALUATIONS
NO_MODEL = bytes(32)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the members agreed on before the first sum.

    Attributes:
        roster: All members, with their keys.
        everyone: The cohort of all.
        groups: The cohorts of updates; one of all, unless the run sums in groups.
        scheme: How sums are protected.
        key: What the members share.
        sealer: This node's half of the sums.
    """

    roster: Roster
    everyone: Cohort
    groups: tuple[Cohort, ...]
    scheme: Scheme
    key: GroupKey
    sealer: Sealer


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the run, of which one sum, or one for each group, is opened.

    Attributes:
        name: As in the ledger.
        round: As in the ledger.
        layout: How vectors are written.
        values: Numbers that mean something.
        length: Numbers of a vector; more, where noise fills it up.
        model: Hash of the model that vectors are made from.
        cohorts: Who is asked, sum by sum.
        contexts: Of each sum.
        rows: What it counts, as in `ROWS`; None where no other step counts the same.
    """

    name: str
    round: int
    layout: FixedPoint
    values: int
    length: int
    model: bytes
    cohorts: tuple[Cohort, ...]
    contexts: tuple[SumContext, ...]
    rows: str | None

    def of(self, member: str) -> int:
        """Which of the sums `member` is asked for."""
        return next(i for i, cohort in enumerate(self.cohorts) if member in cohort.members)


@dataclass(kw_only=True)
class Session:
    """See the module.

    Attributes:
        manifest: What was agreed.
        run: Its digest.
        invited: `asked_digest` of the invitation that this node agreed to.
        launcher: Public key of who started it.
        joined: What it answered.
        minimum: The fewest members of its sums, by the manifest and this node's own terms.
        spec: The node's part of it.
        key: This run's exchange key.
        rows: The member's rows.
        rows_read: Their hash for this run, as the node's own ledger has it (`clients.rows_digest`).
        learner: The network and its features.
        budget: What its releases are charged to, before they leave.
        units_budget: The same of the contract's unit, where the run protects organisations.
        roster: After the members' keys were shown.
        pair_keys: Neighbour -> what the two sent each other, where the suite needs it.
        setup: After the group key was opened.
        released: The opened statistics, stage by stage.
        tallied: This member's own tally of the stage that comes next.
        common: The common model, after the statistics.
        architecture: Of the network.
        training: Examples, after the statistics.
        watching: The same, of validation units.
        test: The same, of test rows.
        private: The training examples, laid out unit by unit for a run with noise.
        round: Rounds whose sum was accepted.
        sealed: Steps that this node sealed a vector for, with their round: each once, whatever
            became of the sum and of the history meanwhile. Two sums of one vector over different
            members would show the others.
        reserved: Those of them whose cost the node's own ledger has.
        accepted: Evaluations whose sum was accepted, with their round.
        history: Over all accepted sums.
        confirmed: Whether enough members were seen to hold the same history.
        voted: Sum -> the survivors that this node signed last; it accepts no others as its members.
        tried: Step and round -> hash of the one notice of its sums that this node tries to open.
        signed: Rows of a step -> sums about them -> the survivors that this node signed.
        step: The step under way.
        heard_ms: When it was asked something last, milliseconds since 1970 UTC.
        gone: Why it was left while something was asked; empty where it was not.
        head: This node's own ledger, as it was told with the vector of that step.
        records: Sum -> its record in the coordinator's ledger, as this node cosigned it.
        answered: `asked_digest` of each request of what is under way -> what was answered, for a
            reply that was lost.
        lock: Held while a request is answered.
        file: Where it is kept; None where a restart forgets it.
        keeper: What of it is kept.
        own: This member's own metrics, which stay here.
    """

    manifest: Manifest
    run: bytes
    invited: bytes
    launcher: bytes
    joined: Joined
    minimum: int
    spec: NodeSpec
    key: ExchangeKey
    rows: MemberRows
    rows_read: bytes
    learner: Learner
    budget: Budget
    units_budget: Budget | None = None
    roster: Roster | None = None
    pair_keys: dict[str, bytes] = field(default_factory=dict, repr=False)
    setup: Setup | None = None
    released: list[Floats] = field(default_factory=list)
    tallied: Floats | None = None
    common: CommonModel | None = None
    architecture: bytes = b""
    training: Examples | None = None
    watching: Examples | None = None
    test: Examples | None = None
    private: PrivateRows | None = None
    round: int = 0
    sealed: set[tuple[str, int]] = field(default_factory=set)
    reserved: set[tuple[str, int]] = field(default_factory=set)
    accepted: set[tuple[str, int]] = field(default_factory=set)
    history: bytes = b""
    confirmed: bool = True
    voted: dict[bytes, frozenset[str]] = field(default_factory=dict)
    tried: dict[tuple[str, int], bytes] = field(default_factory=dict)
    signed: dict[str, dict[bytes, set[frozenset[str]]]] = field(default_factory=dict)
    step: Step | None = None
    head: LedgerHead | None = None
    records: dict[bytes, RecordedSum] = field(default_factory=dict)
    answered: dict[bytes, tuple[Reply, bytes]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    heard_ms: int = 0
    gone: str = ""
    file: SessionFile | None = None
    keeper: Keeper = field(default_factory=Keeper)
    own: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def agreed(self) -> Setup:
        """The setup.

        Raises:
            ProtocolError: The members' keys are not agreed on yet.
        """
        if self.setup is None:
            raise ProtocolError("The members' keys are not agreed on yet.")
        return self.setup

    @property
    def model(self) -> CommonModel:
        """The common model.

        Raises:
            ProtocolError: There is none yet.
        """
        if self.common is None:
            raise ProtocolError("The model is used before it was agreed on.")
        return self.common

    @property
    def model_digest(self) -> bytes:
        """Hash of the common model; zeros before there is one."""
        return NO_MODEL if self.common is None else vector_digest(self.common.current)

    @property
    def settled(self) -> set[tuple[str, int]]:
        """Steps whose sums this node accepted, with their round."""
        statistics = {(STATISTICS, stage) for stage in range(len(self.released))}
        return statistics | {(UPDATE, at) for at in range(1, self.round + 1)} | self.accepted

    def require_here(self) -> None:
        """Return if this node has not left the run while it was at work for it.

        Raises:
            ProtocolError: It has; nothing is told of it.
        """
        if self.gone:
            raise ProtocolError(f"This node has left the run {self.manifest.run}: {self.gone}.")

    def left_to_spend(self) -> list[Receipt]:
        """The receipts of the whole run, without those of steps that this node sealed."""
        planned = self.manifest.planned_receipts(
            stages=self.learner.stages, rounds=self.spec.training.rounds
        )
        gone = {self.manifest.receipt(name, at, 1).purpose for name, at in self.sealed}
        return [receipt for receipt in planned if receipt.purpose not in gone]

    def next_tally(self) -> Floats:
        """This member's statistics for the stage that comes next."""
        if self.tallied is None:
            self.tallied = self.learner.tally_statistics(self.rows.train, self.released)
        return self.tallied

    def plan(self, name: str, round_index: int) -> Step:
        """Return the step, if it may come now.

        Raises:
            ProtocolError: It is unknown, out of order, repeated, or beyond what was agreed.
        """
        if name == STATISTICS:
            return self._plan_statistics(round_index)
        if name == UPDATE:
            return self._plan_update(round_index)
        if name in EVALUATIONS:
            return self._plan_evaluation(name, round_index)
        raise ProtocolError("Only statistics, updates and evaluations are summed.")

    def _plan_statistics(self, stage: int) -> Step:
        if stage != len(self.released) or stage >= self.learner.stages:
            raise ProtocolError("The statistics are asked for out of order.")
        return self._step(
            STATISTICS,
            stage,
            layout=self._sum_layout(STATISTICS, fixed_point.wide(self._members)),
            values=self.next_tally().size,
            model=NO_MODEL,
            cohorts=(self.agreed.everyone,),
        )

    def _plan_update(self, round_index: int) -> Step:
        if round_index != self.round + 1 or round_index > self.spec.training.rounds:
            raise ProtocolError("Rounds are trained one after the other, as many as agreed.")
        model, groups = self.model, self.agreed.groups
        most = max(len(group.members) for group in groups)
        plan, update, scheme = self.manifest.privacy, self.spec.update, self.agreed.scheme
        if plan is not None and is_distributed(plan):
            layout = gradient_layout(plan, most, scheme)
        else:
            layout = scheme.update_layout(most, update.clip, update.precision)
        return self._step(
            UPDATE,
            round_index,
            layout=layout,
            values=update_values(plan, model.current.size),
            model=vector_digest(model.current),
            cohorts=groups,
        )

    def _plan_evaluation(self, name: str, round_index: int) -> Step:
        # one evaluation a round and part, and test rows only for the final model: every further
        # model that may be asked about would tell more about the rows
        if round_index != self.round or round_index == 0 or (name, round_index) in self.accepted:
            raise ProtocolError("A model is evaluated once, after the round that made it.")
        if name != WATCH and round_index != self.spec.training.rounds:
            raise ProtocolError("Test rows are asked about the final model alone.")
        plan = self.manifest.privacy
        watched = sum(step == WATCH and at != round_index for step, at in self.sealed)
        if plan is not None and name == WATCH and watched >= plan.watches:
            raise ProtocolError(
                f"The run's privacy plan has {plan.watches} validations; there is no further one."
            )
        if name == PERSONAL and self.spec.personal is None:
            raise ProtocolError("The run's manifest has no personalisation.")
        if name == WATCH and self.accepted.intersection(
            {(TEST, self.round), (PERSONAL, self.round)}
        ):
            raise ProtocolError("The final model is settled; nothing is watched after its test.")
        return self._step(
            name,
            round_index,
            layout=self._sum_layout(name, fixed_point.wide(self._members, clip=TALLY_CLIP)),
            values=self.learner.evaluation_length
            + (self.learner.importance_length if name == TEST else 0),
            model=vector_digest(self.model.average),
            cohorts=(self.agreed.everyone,),
        )

    def _step(
        self,
        name: str,
        round_index: int,
        *,
        layout: FixedPoint,
        values: int,
        model: bytes,
        cohorts: tuple[Cohort, ...],
    ) -> Step:
        length = vector_length(self.manifest.privacy, name, values)
        contexts = tuple(
            SumContext(
                run=self.run,
                step=name,
                round=round_index,
                schema=layout.schema(length),
                model=model,
                history=self.history,
                roster=self.agreed.roster.digest,
                cohort=cohort.digest,
                keys=self.agreed.key.fingerprint,
            )
            for cohort in cohorts
        )
        return Step(
            name=name,
            round=round_index,
            layout=layout,
            values=values,
            length=length,
            model=model,
            cohorts=cohorts,
            contexts=contexts,
            rows=ROWS.get(name),
        )

    def _sum_layout(self, step: str, plain: FixedPoint) -> FixedPoint:
        plan = self.manifest.privacy
        return plain if plan is None else sum_layout(plan, step, self._members)

    @property
    def _members(self) -> int:
        return len(self.agreed.roster.members)

    def require_no_difference(
        self, step: Step, cohort: Cohort, context: bytes, survivors: Sequence[str]
    ) -> None:
        """Return if no two sums about the same rows are over different members.

        Pairwise distance is not enough: several sums, each far from the others, can add up to one
        member. So all sums about the same rows are over one set.

        Raises:
            CohortError: They would not be: a few members would stand in the difference, as good
                as alone.
        """
        here = frozenset(survivors)
        for earlier, sets in self.signed.get(_rows(step, cohort), {}).items():
            for other in sets:
                if earlier != context and other != here:
                    few = ", ".join(sorted(other ^ here))
                    raise CohortError(
                        f"With another sum about the same rows, this one would show {few} alone; "
                        "it is not opened without the same members."
                    )

    def require_signed_here(self, context: bytes, survivors: Sequence[str]) -> None:
        """Return if a sum that is shown can be the one that this node signed.

        A set that was signed can shrink without this node, and never grow.

        Raises:
            ProtocolError: It is over others: another set of the same sum may have been opened.
        """
        if not frozenset(survivors) <= self.voted.get(context, frozenset(survivors)):
            raise ProtocolError(
                "The sum that is shown is over other members than this node signed last."
            )

    def require_one_try(self, step: Step, shown: bytes) -> None:
        """Return if no other payload was shown as this step's sums.

        Raises:
            ProtocolError: One was. Who may try one ciphertext after the other, and sees each time
                whether it holds, learns the key of the encryption bit by bit.
        """
        if self.tried.setdefault((step.name, step.round), shown) != shown:
            raise ProtocolError(
                "Other sums were shown as this step's before; none are tried again."
            )

    def note_signed(
        self, step: Step, cohort: Cohort, context: bytes, survivors: Sequence[str]
    ) -> None:
        """Remember whom this node signed a sum over: it may be opened, whatever is said of it."""
        self.voted[context] = frozenset(survivors)
        if step.rows is not None:
            sums = self.signed.setdefault(_rows(step, cohort), {})
            sums.setdefault(context, set()).add(frozenset(survivors))

    def note_opened(
        self, step: Step, cohort: Cohort, context: bytes, survivors: Sequence[str]
    ) -> None:
        """Remember over whom a sum was opened; no other set of the same sum can be."""
        if step.rows is not None:
            self.signed.setdefault(_rows(step, cohort), {})[context] = {frozenset(survivors)}


def asked_digest(request: Request, payload: bytes = b"") -> bytes:
    """32 bytes that differ for any two requests with their payloads."""
    message = pack(request).message
    found = hashlib.sha256(len(message).to_bytes(8, "big") + message)
    found.update(payload)
    return found.digest()


def _rows(step: Step, cohort: Cohort) -> str:
    return f"{step.rows} of {cohort.digest.hex()}"
