"""A finished run's folder, and rows where the card's holder has some, read into a card's facts.

Nothing is taken on trust that can be computed again: metrics from the opened sum, the digest of
the weights from the weights, who signed the manifest from the signature.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from clients.contract import Column, DataContract
from clients.judgement import judged
from clients.session import TEST
from clients.targets import target_unit
from federation.home import Home, read_json
from federation.importance_shown import ImportanceFacts
from federation.kept_model import KeptModel, folds_of, read_kept_model, require_fold
from federation.ledger_place import open_store
from federation.model_card.evaluation import from_metrics, from_sum
from federation.model_card.facts import (
    CardFacts,
    ColumnFacts,
    DataFacts,
    EmpiricalBound,
    EvaluationFacts,
    LineageFacts,
    PrivacyFacts,
    ProtectionFacts,
    Shape,
    ShapeFacts,
    SignatureFacts,
    Source,
    StabilityFacts,
)
from federation.model_card.limits import limits_of
from federation.model_card.result import Privacy, Result, read_result
from federation.participant import load_participant
from federation.record import OpenedSum, read_opened
from federation.review_places import own_member, place_of
from privacy.canonical import framed
from privacy.errors import InputError, NotVerifiedError, ProtocolError
from privacy.identity import Identity, verify_signature
from privacy.ledger.store import entries_of
from privacy.manifest import SIGNING_DOMAIN
from privacy.tally import metrics

if TYPE_CHECKING:
    from clients.additive import AdditiveModel
    from clients.learner import Learner

_NETWORK: Final = "launch.json"
_POINTS: Final = 65
_LEVELS: Final = 200
_CLOSE: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows that the card's holder has.

    Attributes:
        root: Where the contract's paths begin.
        group: A column that makes groups; None: members do.
    """

    root: Path
    group: str | None


def gather(
    home: Home, folder: Path, *, fold: int | None, rows: Rows | None, now: datetime
) -> tuple[CardFacts, Identity]:
    """Read all that a card says, and the identity that may say it: the run's launcher's.

    Args:
        home: Where the run lies.
        folder: The run's.
        fold: Which model of a run with folds, from 1; None: the first, or the only one.
        rows: To look at stability; None without.
        now: With a time zone.

    Raises:
        TacitError: The run has no model here, is not of one piece, or rows cannot be read.
    """
    require_fold(folder, fold)
    folds = folds_of(folder)
    chosen = None if folds == 0 else fold or 1
    kept = read_kept_model(folder, fold=chosen)
    result = read_result(folder)
    learner = kept.learner()
    network = (folder / _NETWORK).exists()
    identity, signed = _signed(home, folder, kept, chosen, network=network)
    opened = _opened(home, kept, result.rounds)
    explained = _shapes(kept, learner)
    contract, manifest = kept.contract, kept.manifest
    purposes = contract.governance and contract.governance.purposes
    facts = CardFacts(
        format=1,
        run=folder.name,
        fold=chosen,
        folds=folds,
        made=now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        title=result.title,
        task=kept.spec.task,
        kind="additive" if explained.none is None else kept.spec.model.kind,
        members=result.members,
        rounds=result.rounds,
        weights=int(kept.weights.size),
        data=_data(contract, kept),
        evaluation=_evaluation(kept, learner, opened, _reported(result, chosen)),
        stability=None if rows is None else _stability(home, kept, learner, rows, chosen),
        importance=_importance(kept, learner, result, chosen),
        shapes=explained,
        privacy=_privacy(result.privacy),
        protection=ProtectionFacts(
            sum=manifest.protection,
            suite=manifest.suite,
            minimum_cohort=manifest.minimum_cohort,
            robust=result.robust,
        ),
        limits=limits_of(
            kept.spec.task,
            noise=manifest.privacy is not None,
            drawn=contract.split is not None,
            purposes=bool(purposes),
            network=network,
            explained=explained.none is None,
        ),
        lineage=_lineage(home, kept, result, opened, network=network),
        signed=signed,
    )
    return facts, identity


def _signed(
    home: Home, folder: Path, kept: KeptModel, fold: int | None, *, network: bool
) -> tuple[Identity, SignatureFacts]:
    """The launcher, and that it signed the manifest.

    Raises:
        NotVerifiedError: It did not.
    """
    if network:
        place = load_participant(home)
        identity, name = place.identity(), place.name
        # the key of that day, which may have been rotated since
        then = read_json(folder / _NETWORK).get("members", {}).get(name)
        keys = [identity.public.hex(), *([str(then)] if then else [])]
    else:
        identity, name = Identity.load(home.launcher), "launcher"
        keys = [identity.public.hex()]
    path = folder / ("manifest.sig" if fold is None else f"manifest.{fold}.sig")
    try:
        signature = path.read_bytes()
    except OSError as failure:
        raise InputError(f"{path}: cannot be read ({failure.strerror}).") from None
    key = _signer(keys, kept.manifest.to_bytes(), signature)
    if key is None:
        raise NotVerifiedError(
            f"{folder.name}: its manifest is not signed by this home's launcher; make the card "
            "where the run was launched."
        )
    second = bool(kept.manifest.coordinator_settings.get("countersigned", False))
    return identity, SignatureFacts(name=name, key=key, countersigned=second)


def _signer(keys: Sequence[str], message: bytes, signature: bytes) -> str | None:
    for key in keys:
        try:
            verify_signature(bytes.fromhex(key), SIGNING_DOMAIN, message, signature)
        except (ProtocolError, ValueError):
            continue
        return key
    return None


def _opened(home: Home, kept: KeptModel, rounds: int) -> OpenedSum | None:
    """The run's test sum, where a member's node on this machine kept it."""
    run = kept.manifest.run
    folders = [home.own_node / "runs" / run]
    folders += [
        home.node(kept.contract.name, member) / "runs" / run for member in kept.manifest.members
    ]
    for one in folders:
        found = read_opened(one / "sums.jsonl", step=TEST, round_index=rounds)
        if found is not None:
            return found
    return None


def _reported(result: Result, fold: int | None) -> Mapping[str, float]:
    """The metrics of one model.

    Raises:
        InputError: The result has none of that fold.
    """
    if fold is None:
        return result.metrics
    if fold > len(result.folds):
        raise InputError(f"--fold {fold}: the run's result has no such fold; choose another.")
    return result.folds[fold - 1]


def _evaluation(
    kept: KeptModel, learner: "Learner", opened: OpenedSum | None, reported: Mapping[str, float]
) -> EvaluationFacts:
    private = kept.manifest.privacy is not None
    groups = learner.groups
    if opened is None:
        return from_metrics(learner.kind, reported, groups=groups, private=private)
    total = np.asarray(opened.total, dtype=np.float64)
    broken = NotVerifiedError(
        f"{kept.run}: the opened test sum and the result are not of one run; fetch them again."
    )
    if total.size != learner.evaluation_length:
        raise broken
    again = learner.read_evaluation(total, opened.noise)
    if set(again) != set(reported) or not all(
        math.isclose(again[name], reported[name], rel_tol=_CLOSE, abs_tol=_CLOSE) for name in again
    ):
        raise broken
    if private:

        def read(part: np.ndarray[Any, np.dtype[np.float64]]) -> Mapping[str, float]:
            return learner.read_evaluation(part, opened.noise)

    else:
        unit = target_unit(kept.contract)

        def read(part: np.ndarray[Any, np.dtype[np.float64]]) -> Mapping[str, float]:
            return metrics(learner.kind, part, (), target_unit=unit)

    return from_sum(learner.kind, opened, read, groups=groups, private=private)


def _importance(
    kept: KeptModel, learner: "Learner", result: Result, fold: int | None
) -> ImportanceFacts | None:
    """What the run's result says of it.

    Raises:
        NotVerifiedError: It speaks of other inputs than the model has.
    """
    if fold is None:
        found = result.importance
    else:
        found = result.importance_folds[fold - 1] if fold <= len(result.importance_folds) else None
    if found is not None and {one.input for one in found.inputs} != set(learner.importance_inputs):
        raise NotVerifiedError(
            f"{kept.run}: the result and the model are not of one run; fetch them again."
        )
    return found


def _stability(
    home: Home, kept: KeptModel, learner: "Learner", rows: Rows, fold: int | None
) -> StabilityFacts:
    from clients.members import read_members
    from federation.model_card.stability import stability

    contract = kept.contract
    members = read_members(
        contract,
        rows.root,
        fold=None if fold is None else fold - 1,
        sole_member=own_member(home, contract) if contract.members is None else None,
    )
    if contract.is_gated:
        # of the rows that a run uses; a card puts no look on record
        looks = {name: place_of(home, contract, name).looks(contract) for name in members}
        members = {
            name: judged(one, contract, looks[name])[0].usable(one, contract)
            for name, one in members.items()
        }
    return stability(
        members,
        kept.contract,
        learner,
        kept.released,
        without=kept.spec.features.without,
        group=rows.group,
    )


def _data(contract: DataContract, kept: KeptModel) -> DataFacts:
    governance = contract.governance
    until = governance.kept_until if governance else None
    return DataFacts(
        name=contract.name,
        title=contract.title,
        digest=contract.digest,
        unit=contract.unit,
        label=contract.label.kind,
        split=contract.split.kind if contract.split else None,
        purposes=governance.purposes if governance else None,
        kept_until=until.isoformat() if until else None,
        place=governance.place if governance else None,
        columns=tuple(_column(one, kept.spec.features.without) for one in contract.columns),
    )


def _column(column: Column, without: Sequence[str]) -> ColumnFacts:
    use: str = column.role
    if column.is_input:
        use = "unused" if column.name in without else "input"
    levels = column.hash_levels or (len(column.levels) if column.levels is not None else None)
    source: Source = "declared" if column.declared else "unstated"
    if column.indicator is not None:
        source = "indicator"
    return ColumnFacts(
        name=column.name,
        data_class=column.data_class,
        unit=column.unit,
        use=use,
        source=source,
        indicator=column.indicator,
        low=column.range[0] if column.range else None,
        high=column.range[1] if column.range else None,
        levels=levels,
        note=column.note,
    )


def _shapes(kept: KeptModel, learner: "Learner") -> ShapeFacts:
    from clients.additive import is_additive

    if not is_additive(kept.spec):
        none = "windows" if kept.spec.features.window is not None else "hidden"
        return ShapeFacts(base=None, reference=None, shapes=(), none=none)
    model = learner.additive(kept.released)
    curves = sorted(model.curves, key=lambda one: -one.weight)
    return ShapeFacts(
        base=model.base,
        reference=model.reference,
        shapes=tuple(_shape(model, one.column) for one in curves),
        none=None,
    )


def _shape(model: "AdditiveModel", column: Column) -> Shape:
    from clients.additive import grid_values

    curve = model.curve(column.name)
    if column.type == "category":
        amounts = model.amount(curve, np.arange(len(column.categories)))
        # of a vocabulary without end, the levels that say most
        most = np.sort(np.argsort(-np.abs(amounts), kind="stable")[:_LEVELS])
        return Shape(
            column=column.name,
            unit=column.unit,
            weight=curve.weight,
            levels=tuple(column.categories[place] for place in most),
            of=len(column.categories),
            at=(),
            amounts=tuple(amounts[most].tolist()),
            missing=None,
        )
    grid = grid_values(column)
    inside = grid[np.unique(np.linspace(0, grid.size - 1, _POINTS - 2).round().astype(int))]
    grid = np.concatenate([[column.bounds[0]], inside, [column.bounds[1]]])
    return Shape(
        column=column.name,
        unit=None if column.unit == "1" else column.unit,
        weight=curve.weight,
        levels=(),
        of=0,
        at=tuple(grid.tolist()),
        amounts=tuple(model.amount(curve, grid).tolist()),
        missing=float(model.amount(curve, np.array([np.nan]))[0]),
    )


def _privacy(told: Privacy) -> PrivacyFacts:
    """What was proven and what was measured.

    Raises:
        RefusedError: What was measured contradicts the proof; nobody may use such a model.
    """
    empirical = None
    if told.audit is not None:
        told.audit.finding().require()
        audit = told.audit.model_dump()
        empirical = EmpiricalBound(**{name: audit[name] for name in EmpiricalBound.model_fields})
    return PrivacyFacts(**told.model_dump(exclude={"audit"}), empirical=empirical)


def _lineage(
    home: Home,
    kept: KeptModel,
    result: Result,
    opened: OpenedSum | None,
    *,
    network: bool,
) -> LineageFacts:
    manifest = kept.manifest
    statistics = framed(*(np.asarray(one, dtype="<f8").tobytes() for one in kept.released))
    evaluation = None
    if opened is not None:
        evaluation = hashlib.sha256(np.asarray(opened.total, dtype="<f8").tobytes()).hexdigest()
    return LineageFacts(
        model=kept.digest,
        manifest=manifest.digest().hex(),
        contract=kept.contract.digest,
        statistics=hashlib.sha256(statistics).hexdigest(),
        evaluation=evaluation,
        rules=None if result.rules is None else result.rules.digest,
        ledger_origin=manifest.ledger["origin"],
        ledger_key=manifest.ledger["key"],
        leaves=result.ledger.leaves,
        root=result.ledger.root,
        entry=None if network else _entry(home, kept),
    )


def _entry(home: Home, kept: KeptModel) -> int | None:
    """The entry of this machine's ledger that registered the model; None where there is no ledger.

    Raises:
        NotVerifiedError: It registered another.
    """
    if isinstance(home.ledger_place, Path) and not home.ledger_place.exists():
        return None
    for entry in entries_of(open_store(home.ledger_place).leaves()):
        if entry.kind == "model.registered" and entry.body["run"] == kept.manifest.run:
            if entry.body["file"] != kept.file:
                raise NotVerifiedError(
                    f"{kept.run}: the ledger registered another model than lies here; fetch it "
                    "again."
                )
            return int(entry.index)
    return None
