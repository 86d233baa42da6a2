"""One run's learning at one member: features, network and tally behind one set of verbs.

A node uses it with the federation's statistics; a baseline uses it with a member's own. What is
learnt differs by the rows and sums it is given, by nothing else.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clients.additive import AdditiveModel, additive_model, is_additive
from clients.attributed import AttributedModel, attributed_model
from clients.contract import Count, DataContract
from clients.examples import Examples
from clients.features import features_of
from clients.importance import Importance, read_tally
from clients.importance_tally import tally_rows, tally_windows
from clients.model import Network, build, from_vector, start_at_the_base_rate, to_vector
from clients.monotone import require_held
from clients.monotone_hold import Hold, hold_of
from clients.scoring.network import Design, read_network
from clients.spec import ModelSpec, NodeSpec
from clients.statistics import Overview
from clients.table_features import TableFeatures
from clients.targets import label_cap, tally_kind, target_unit
from clients.train import Target, choose_device, score, target_of
from clients.window_features import WindowFeatures
from clients.window_model import Against, WindowModel
from clients.window_reasons import AGE
from privacy.errors import RefusedError
from privacy.plan import ORGANISATION, PrivacyPlan
from privacy.private_tally import (
    private_length,
    private_metrics,
    private_sensitivity,
    private_tally,
)
from privacy.tally import HEADLINE, TallyKind, metrics, tally, tally_length

Floats = NDArray[np.float64]
WATCH_ROWS = 4096  # rows that stand for a validation part where a run has none


class Learner:
    """See the module. `start` must come before anything that needs the network.

    Raises:
        RefusedError: The contract calls columns monotone that this model could not hold.
    """

    def __init__(
        self,
        contract: DataContract,
        spec: NodeSpec,
        device: str,
        *,
        plan: PrivacyPlan | None = None,
    ) -> None:
        require_held(contract, spec)
        self._contract = contract
        self._spec = spec
        self._device = choose_device(device)
        self._plan = plan
        private: Literal["none", "unit", "organisation"] = "none"
        if plan is not None:
            private = "organisation" if plan.unit == ORGANISATION else "unit"
        self._features = features_of(contract, spec, private=private)
        self._network: Network | None = None
        self._target: Target | None = None
        self._hold = Hold(curves=())

    @property
    def stages(self) -> int:
        """How many sums of statistics are needed before the network."""
        return self._features.stages

    @property
    def kind(self) -> TallyKind:
        """The metric family of the label."""
        return tally_kind(self._contract)

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that are reported singly."""
        return self._contract.groups

    @property
    def target_unit(self) -> float:
        """See `clients.targets.target_unit`."""
        return target_unit(self._contract)

    @property
    def network(self) -> Network:
        """The network, after `start`."""
        if self._network is None:
            raise RuntimeError("the learner was not started")
        return self._network

    @property
    def target(self) -> Target:
        """How labels are scaled, after `start`."""
        if self._target is None:
            raise RuntimeError("the learner was not started")
        return self._target

    def additive(self, released: Sequence[Floats]) -> AdditiveModel:
        """The network, taken apart into one curve for each column, after `start`.

        Raises:
            RefusedError: It is no sum of curves.
        """
        if isinstance(self._features, WindowFeatures):
            raise RefusedError(
                "This model reads windows of readings; it is no sum of curves, and has no exact "
                "factors."
            )
        return additive_model(
            self._contract,
            self._spec,
            self._features,
            released,
            network=self.network,
            target=self.target,
        )

    def explained(
        self, released: Sequence[Floats], *, against: Against = "members"
    ) -> AdditiveModel | AttributedModel | WindowModel:
        """The network as its scores are explained, after `start`: exactly where that can be.

        Args:
            released: The opened statistics.
            against: What readings of windows are measured against.
        """
        if isinstance(self._features, TableFeatures) and is_additive(self._spec):
            return self.additive(released)
        return self._attributed(released, against=against)

    def _attributed(
        self, released: Sequence[Floats], *, against: Against = "members"
    ) -> AttributedModel | WindowModel:
        features = self._features
        design = design_of(self._spec.model)
        network = read_network(self.vector(), design, features.shape(released))
        if isinstance(features, TableFeatures):
            return attributed_model(
                self._contract, features, released, network=network, target=self.target
            )
        return WindowModel(
            contract=self._contract,
            features=features,
            released=tuple(released),
            network=network,
            target=self.target,
            against=against,
        )

    @property
    def statistics_sensitivity(self) -> float:
        """L2 norm by which one unit can move a member's statistics, in a run with noise."""
        return self._features.sensitivity

    @property
    def evaluation_sensitivity(self) -> float:
        """The same of an evaluation."""
        return private_sensitivity(self.kind)

    @property
    def evaluation_length(self) -> int:
        """Numbers of an evaluation's sum."""
        if self._plan is not None:
            return private_length(self.kind)
        return tally_length(self.kind, self.groups)

    @property
    def importance_inputs(self) -> tuple[str, ...]:
        """What the run says the importance of, in the order of the tally; none unless asked."""
        features = self._features
        if not self._spec.explain:
            return ()
        if isinstance(features, WindowFeatures):
            age = (AGE,) if "age" in features.window.statistics else ()
            return (*(column.name for column in features.sensors), *age)
        read = {column.name for column in (*features.numbers, *features.categories)}
        return tuple(one.name for one in self._contract.columns if one.name in read)

    @property
    def importance_length(self) -> int:
        """Numbers that the final test's vector has besides those of the evaluation."""
        return 2 + len(self.importance_inputs) if self._spec.explain else 0

    def importance(self, rows: pd.DataFrame, released: Sequence[Floats]) -> Floats:
        """What this member adds to the sum that says what the model leans on.

        A model whose amounts do not add up at this member has no importance there: then it is
        zeros, as of a member without rows, and the test itself goes on.

        Args:
            rows: The test rows.
            released: The opened statistics.

        Returns:
            Shape (`importance_length`,).
        """
        model = self._attributed(released)
        try:
            if isinstance(model, WindowModel):
                return tally_windows(model, model.features.test_windows(rows, released))
            return tally_rows(model, self.test_examples(rows, released))
        except RefusedError:
            return np.zeros(self.importance_length)

    def read_importance(self, total: Floats, *, fewest: int) -> Importance | None:
        """Read the opened sum; see `clients.importance.read_tally`.

        Args:
            total: Shape (`importance_length`,).
            fewest: Members that an opened sum needs.
        """
        scale = self.target.own_scale[0]
        return read_tally(self.importance_inputs, total, scale=scale, fewest=fewest)

    @property
    def length(self) -> int:
        """Weights of the network."""
        return sum(p.numel() for p in self.network.parameters())

    def scaled(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows with their label in target units."""
        unit = self.target_unit
        return rows if unit == 1.0 else rows.assign(__y=rows["__y"] / unit)

    def tally_statistics(self, rows: pd.DataFrame, released: Sequence[Floats]) -> Floats:
        """The member's tally for the next stage."""
        return self._features.tally(rows, released)

    def overview(self, released: Sequence[Floats]) -> Overview:
        """Totals over all whose statistics were summed."""
        return self._features.overview(released)

    def start(self, released: Sequence[Floats]) -> None:
        """Make the initial network from the sums and the run's seed.

        Raises:
            RefusedError: There is nothing to learn: no rows, or one class only.
        """
        overview = self.overview(released)
        if self._plan is None:  # noisy totals could refuse by chance
            self._require_something_to_learn(overview)
        cap = label_cap(self._contract)
        self._target = target_of(self.kind, cap, overview, self._spec.training)
        network = build(self._spec.model, self._features.shape(released), seed=self._spec.seed)
        start_at_the_base_rate(network, self.kind, overview)
        self._network = network.to(self._device)
        if not isinstance(self._features, WindowFeatures):
            self._hold = hold_of(self._contract, self._spec, self._features, released, network)
        self.hold_network()

    @property
    def hold(self) -> Hold:
        """What brings a model back to what the contract calls monotone, after `start`."""
        return self._hold

    def hold_network(self) -> None:
        """The same for the network itself, where it was trained outside of the server's step."""
        if self._hold.curves:
            held = self._hold(self.vector().astype(np.float64))
            from_vector(self.network, held.astype(np.float32))

    def _require_something_to_learn(self, overview: Overview) -> None:
        if overview.rows < 1:
            raise RefusedError("No member has a training example; check the contract's members.")
        positives = overview.target
        if self.kind == "binary" and not 0.5 < positives < overview.rows - 0.5:  # noqa: PLR2004
            raise RefusedError(
                "All training labels of the federation are of one class; nothing can be learnt. "
                "Check the contract's label."
            )
        if self.kind == "count" and positives <= 0:
            raise RefusedError("All training counts of the federation are 0; check the label.")

    def training_examples(self, rows: pd.DataFrame, released: Sequence[Floats]) -> Examples:
        """Examples to train on."""
        if isinstance(self._features, WindowFeatures):
            return self._features.training_examples(rows, released)
        return self._features.examples(rows, released)

    def test_examples(self, rows: pd.DataFrame, released: Sequence[Floats]) -> Examples:
        """Examples to evaluate on."""
        if isinstance(self._features, WindowFeatures):
            return self._features.test_examples(rows, released)
        return self._features.examples(rows, released)

    def watch_examples(self, rows: pd.DataFrame, released: Sequence[Floats]) -> Examples:
        """Examples of validation units: for remaining life from their whole lives, thinned out.

        A unit that ran to its end would else be asked about at its end alone.
        """
        if isinstance(self._features, WindowFeatures):
            return self._features.watch_examples(rows, released)
        return self._features.examples(rows, released)

    def tally(self, examples: Examples, *, exact: bool = False) -> Floats:
        """Tally the network's scores.

        Args:
            examples: Rows to score.
            exact: The tally is not going through fixed point, and may be added to tallies of
                learners with other statistics.
        """
        spread = self.target.scale if self.kind == "value" and not exact else 1.0
        return tally(
            self.kind,
            score=score(self.network, examples, self.target),
            target=examples.target,
            target_raw=examples.target_raw,
            exposure=examples.exposure,
            group=examples.group,
            groups=self.groups,
            cap=self.target.scale,
            exponent=round(math.log2(spread)),
        )

    def evaluation(self, examples: Examples) -> Floats:
        """What this member adds to an evaluation's sum; in a run with noise before the noise."""
        if self._plan is None:
            return self.tally(examples)
        return private_tally(
            self.kind,
            score=score(self.network, examples, self.target),
            target=examples.target,
            target_raw=examples.target_raw,
            exposure=examples.exposure,
            unit=examples.unit,
            cap=self._evaluation_cap,
            whole=self._plan.unit == ORGANISATION,
        )

    def read_evaluation(self, total: Floats, noise: float) -> dict[str, float]:
        """Metrics of an opened evaluation.

        Args:
            total: The sum.
            noise: Standard deviation of the noise in each of its numbers, 0 for none.
        """
        if self._plan is None:
            return metrics(self.kind, total, self.groups, target_unit=self.target_unit)
        return private_metrics(
            self.kind, total, noise, cap=self._evaluation_cap, target_unit=self.target_unit
        )

    @property
    def _evaluation_cap(self) -> float:
        """What errors or counts of a run with noise are held to; see `private_tally`."""
        label = self._contract.label
        return float(label.cap or 1.0) if isinstance(label, Count) else self.target.scale

    def loss(self, examples: Examples) -> float:
        """The headline metric as something to lower."""
        return self.loss_of(metrics(self.kind, self.tally(examples), self.groups))

    def loss_of(self, values: Mapping[str, float]) -> float:
        """The headline among metrics as something to lower; not a number where it is missing."""
        name, higher_is_better = HEADLINE[self.kind]
        value = values.get(name, float("nan"))
        return -value if higher_is_better else value

    def vector(self) -> NDArray[np.float32]:
        """The network's weights."""
        return to_vector(self.network)


def split_validation(rows: pd.DataFrame, spec: NodeSpec) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and validation rows; a unit is wholly in one of them."""
    if spec.validation_share == 0:
        return rows, rows.iloc[:0]
    key = rows["__unit"] if "__unit" in rows else rows["__row"]
    unique = key.astype(str).unique()
    aside: Mapping[str, bool] = {
        unit: _position(f"{spec.seed}|validation|{unit}") < spec.validation_share for unit in unique
    }
    mask = key.astype(str).map(aside).to_numpy(dtype=bool)
    return rows[~mask], rows[mask]


def _position(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56


def design_of(spec: ModelSpec) -> Design:
    """What `clients.scoring.network` has to know of a network, without pydantic."""
    return Design(
        kind=spec.kind,
        hidden=spec.hidden,
        activation=spec.activation,
        embedding=spec.embedding,
        one_hot_up_to=spec.one_hot_up_to,
        linear=spec.linear,
    )
