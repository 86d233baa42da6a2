"""A node's half of a run: a request in, a sealed vector or a refusal out.

The node checks everything that protects it, with its own numbers, and fails closed: the launcher's
signature, its own policy, every member's key, the order of steps, the shape of what it is sent.
What leaves it are sums' parts under masks and, once, the initial model that its seed fixes for all.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clients.contract import DataContract
from clients.examples import Examples
from clients.learner import WATCH_ROWS, Learner, split_validation
from clients.members import MemberRows
from clients.model import architecture_digest, from_vector, to_vector
from clients.policy import NodePolicy, check_manifest
from clients.protect import weight_of, weighted_change
from clients.spec import NodeSpec, parse_node_spec
from clients.train import fine_tune, local_seed, train
from privacy import fixed_point
from privacy.errors import ProtocolError, RefusedError
from privacy.fixed_point import FixedPoint
from privacy.identity import Identity, verify_signature
from privacy.manifest import SIGNING_DOMAIN, Manifest
from privacy.messages import (
    EvaluateRequest,
    FinishNotice,
    InitialModel,
    InitialModelRequest,
    Invite,
    Joined,
    Ready,
    Reply,
    Request,
    RosterNotice,
    Sealed,
    StatisticsRequest,
    TrainRequest,
    Vector,
    vector_digest,
)
from privacy.randomness import Entropy, system_bytes
from privacy.secure_sum import Sealer, SumContext
from privacy.secure_sum.clear import ClearSealer
from privacy.secure_sum.keys import ExchangeKey, KeyOffer, Roster, admit, offer_key
from privacy.secure_sum.masked import MaskedSealer
from privacy.tally import TALLY_CLIP, metrics

Part = Literal["watch", "test", "personal"]


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """What an installation knows of itself.

    Attributes:
        member: The name under which it is in the federation.
        identity: Its long-lived signing key, which never leaves it.
        launcher: Public key of who may start runs here, pinned.
        known: Member -> public key of everybody whom this node was told of at enrolment, itself
            included. A run with anybody else in it is refused: members that a launcher made up
            would add vectors that it knows, and the rest of the sum would be one member's.
        contract: The contract that its rows keep.
        rows: Reads its rows; the argument is the fold that is kept for testing.
        policy: Its terms.
        home: Its own folder.
        device: `auto`, `cpu` or `cuda`.
        tells_data_errors: Whether a refusal says what is wrong with the rows (counts, line
            numbers, file names); only for a coordinator on the same machine.
    """

    member: str
    identity: Identity
    launcher: bytes
    known: Mapping[str, bytes]
    contract: DataContract
    rows: Callable[[int | None], MemberRows]
    policy: NodePolicy
    home: Path
    device: str = "auto"
    tells_data_errors: bool = False


@dataclass(kw_only=True)
class _Session:
    """One run at this node."""

    manifest: Manifest
    run: bytes
    spec: NodeSpec
    key: ExchangeKey
    rows: MemberRows
    learner: Learner
    roster: Roster | None = None
    sealer: Sealer | None = None
    tallied: list[int] = field(default_factory=list)
    released: list[NDArray[np.float64]] = field(default_factory=list)
    training: Examples | None = None
    watching: Examples | None = None
    test: Examples | None = None
    initial: bytes = b""
    round: int = 0
    evaluated: set[tuple[str, int]] = field(default_factory=set)
    own: dict[str, dict[str, float]] = field(default_factory=dict)


class Node:
    """One installation; see the module."""

    def __init__(self, settings: NodeSettings, *, entropy: Entropy = system_bytes) -> None:
        self._settings = settings
        self._entropy = entropy
        self._sessions: dict[bytes, _Session] = {}

    @property
    def member(self) -> str:
        """The node's name in the federation."""
        return self._settings.member

    @property
    def tells_data_errors(self) -> bool:
        """See `NodeSettings`."""
        return self._settings.tells_data_errors

    def handle(  # noqa: PLR0911 - one return a kind of request
        self, request: Request, vector: Vector | None
    ) -> tuple[Reply, Vector | None]:
        """Answer one request of the coordinator.

        Raises:
            RefusedError: The node will not; one sentence, without a value of any row.
        """
        if isinstance(request, Invite):
            return self._join(request), None
        session = self._session(request.run)
        if isinstance(request, RosterNotice):
            return self._accept_roster(session, request), None
        if isinstance(request, StatisticsRequest):
            return self._statistics(session, request, vector)
        if isinstance(request, InitialModelRequest):
            return self._initial_model(session, request, vector)
        if isinstance(request, TrainRequest):
            return self._train(session, request, vector)
        if isinstance(request, EvaluateRequest):
            return self._evaluate(session, request, vector)
        return self._finish(session, request, vector), None

    def _session(self, run: bytes) -> _Session:
        session = self._sessions.get(run)
        if session is None:
            raise ProtocolError("This node has not joined that run; it must be invited first.")
        return session

    def _join(self, request: Invite) -> Joined:
        settings = self._settings
        # (1) the launcher that this node trusts signed these very bytes
        verify_signature(settings.launcher, SIGNING_DOMAIN, request.manifest, request.signature)
        manifest = Manifest.from_bytes(request.manifest)
        # (2) it names this node with its own key, and nobody whom this node does not know
        directory = manifest.directory_keys()
        if directory.get(settings.member) != settings.identity.public:
            raise RefusedError("The run's member list does not hold this node with its own key.")
        for member, public in directory.items():
            if settings.known.get(member) != public:
                raise RefusedError(
                    f"The run names {member} with a key that this node was not told of at its "
                    "enrolment; enrol that member first."
                )
        # (3) it asks for nothing below this node's terms
        check_manifest(manifest, settings.policy, settings.contract)
        spec = parse_node_spec(dict(manifest.node_settings))
        run = manifest.digest()
        # (4) it is new here, also after a restart: one run, one set of keys, one sum a step
        self._remember(run)
        key, offer = offer_key(
            settings.identity,
            settings.member,
            run=run,
            directory=directory,
            entropy=self._entropy,
        )
        work = Learner(settings.contract, spec, settings.device)
        rows = settings.rows(spec.fold)
        self._sessions[run] = _Session(
            manifest=manifest,
            run=run,
            spec=spec,
            key=key,
            rows=MemberRows(rows.member, work.scaled(rows.train), work.scaled(rows.test)),
            learner=work,
        )
        return Joined(member=settings.member, offer=offer.to_bytes())

    def _remember(self, run: bytes) -> None:
        folder = self._settings.home / "joined"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / run.hex()).open("xb") as file:
                os.fsync(file.fileno())
        except FileExistsError:
            raise ProtocolError(
                "This node has joined that run already; launch a new one."
            ) from None
        except OSError:
            raise RefusedError(
                "This node cannot write its own folder, and so joins no run."
            ) from None

    def _accept_roster(self, session: _Session, request: RosterNotice) -> Ready:
        if session.roster is not None:
            raise ProtocolError("The members' keys of a run are agreed on once.")
        manifest = session.manifest
        roster = admit(
            [KeyOffer.from_bytes(offer) for offer in request.offers],
            run=session.run,
            directory=manifest.directory_keys(),
            minimum=max(manifest.minimum_cohort, self._settings.policy.minimum_cohort),
        )
        if roster.members != manifest.members:
            raise ProtocolError("The run's keys are not those of all its members.")
        session.roster = roster
        session.sealer = (
            MaskedSealer(self.member, self._settings.identity, session.key, roster)
            if manifest.protection == "masked"
            else ClearSealer(self.member, self._settings.identity, roster)
        )
        return Ready(member=self.member)

    def _statistics(
        self, session: _Session, request: StatisticsRequest, vector: Vector | None
    ) -> tuple[Reply, Vector]:
        # each stage is asked for once, in order, and follows on the opened sum of the one before
        if request.stage != len(session.tallied) or request.stage >= session.learner.stages:
            raise ProtocolError("The statistics are asked for out of order.")
        if request.stage > 0:
            session.released.append(_released(vector, session.tallied[-1]))
        values = session.learner.tally_statistics(session.rows.train, session.released)
        session.tallied.append(values.size)
        encoding = fixed_point.wide(len(_roster(session).members))
        return self._seal(
            session,
            values,
            encoding,
            step="statistics",
            round_index=request.stage,
            model=_digest_or_zero(vector),
        )

    def _initial_model(
        self, session: _Session, request: InitialModelRequest, vector: Vector | None
    ) -> tuple[Reply, Vector | None]:
        if len(session.tallied) != session.learner.stages or session.training is not None:
            raise ProtocolError("The model is asked for once, after the statistics.")
        session.released.append(_released(vector, session.tallied[-1]))
        work = session.learner
        work.start(session.released)
        training, watching = split_validation(session.rows.train, session.spec)
        session.training = work.training_examples(training, session.released)
        if len(session.training) == 0:
            raise RefusedError("This member has no training examples; its rows are too few.")
        if session.spec.validation_share > 0:
            # a small member may have no validation unit; then it adds nothing to the tally
            session.watching = work.watch_examples(watching, session.released)
        else:
            count = min(WATCH_ROWS, len(session.training))
            session.watching = session.training.take(np.arange(count))
        session.test = work.test_examples(session.rows.test, session.released)
        model = to_vector(work.network)
        session.initial = vector_digest(model)
        reply = InitialModel(
            member=self.member,
            architecture=architecture_digest(work.network),
            digest=session.initial,
            length=model.size,
        )
        return reply, model if request.send else None

    def _train(
        self, session: _Session, request: TrainRequest, vector: Vector | None
    ) -> tuple[Reply, Vector]:
        if request.round != session.round + 1 or request.round > session.spec.training.rounds:
            raise ProtocolError("Rounds are trained one after the other, as many as agreed.")
        model = _model(session, vector)
        if request.round == 1 and vector_digest(model) != session.initial:
            raise ProtocolError("The first round starts from the agreed initial model.")
        training = _examples(session.training)
        work = session.learner
        from_vector(work.network, model)
        train(
            work.network,
            training,
            work.target,
            session.spec.training,
            round_index=request.round,
            seed=local_seed(session.spec.seed, self.member, request.round),
        )
        overview = work.overview(session.released)
        units = int(np.unique(training.unit).size)
        weight = weight_of(len(training), units, overview, session.spec.update)
        change = weighted_change(model, to_vector(work.network), weight, session.spec.update)
        encoding = fixed_point.narrow(len(_roster(session).members), clip=session.spec.update.clip)
        session.round = request.round
        return self._seal(
            session,
            change,
            encoding,
            step="update",
            round_index=request.round,
            model=vector_digest(model),
        )

    def _evaluate(
        self, session: _Session, request: EvaluateRequest, vector: Vector | None
    ) -> tuple[Reply, Vector]:
        # one evaluation a round and part, and test rows only for the final model: every further
        # model that may be asked about would tell more about the rows
        asked = (request.part, request.round)
        final = request.round == session.spec.training.rounds
        if request.round != session.round or asked in session.evaluated:
            raise ProtocolError("A model is evaluated once, after the round that made it.")
        if request.part != "watch" and not final:
            raise ProtocolError("Test rows are asked about the final model alone.")
        session.evaluated.add(asked)
        model = _model(session, vector)
        work = session.learner
        from_vector(work.network, model)
        if request.part == "watch":
            examples = _examples(session.watching)
        elif request.part == "test":
            examples = _examples(session.test)
        elif request.part == "personal":
            examples = _examples(session.test)
            self._personalise(session)
        else:
            raise ProtocolError("Only the parts watch, test and personal are evaluated.")
        values = work.tally(examples)
        if request.part != "watch":
            session.own[request.part] = metrics(
                work.kind, values, work.groups, target_unit=work.target_unit
            )
        encoding = fixed_point.wide(len(_roster(session).members), clip=TALLY_CLIP)
        return self._seal(
            session,
            values,
            encoding,
            step=f"evaluate {request.part}",
            round_index=request.round,
            model=vector_digest(model),
        )

    def _personalise(self, session: _Session) -> None:
        """Fine-tune in place, and undo it where the member's own validation does not gain."""
        personal = session.spec.personal
        if personal is None:
            raise ProtocolError("The run's manifest has no personalisation.")
        work = session.learner
        watching = _examples(session.watching)
        before = to_vector(work.network)
        general = work.loss(watching)
        fine_tune(
            work.network,
            _examples(session.training),
            work.target,
            personal,
            batch_rows=session.spec.training.batch_rows,
            seed=local_seed(session.spec.seed, self.member, 0),
        )
        if not work.loss(watching) < general:
            from_vector(work.network, before)

    def _finish(self, session: _Session, request: FinishNotice, vector: Vector | None) -> Ready:
        del request
        if session.round != session.spec.training.rounds:
            raise ProtocolError("The run is finished before its last round.")
        model = _model(session, vector)
        report = {
            "run": session.manifest.run,
            "member": self.member,
            "model": vector_digest(model).hex(),
            "training_rows": len(_examples(session.training)),
            "test_rows": len(_examples(session.test)),
            "own_metrics": session.own,
        }
        folder = self._settings.home / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{session.manifest.run}.part"
        part.write_text(json.dumps(report, indent=1), encoding="utf-8")
        part.replace(folder / f"{session.manifest.run}.json")
        del self._sessions[session.run]
        return Ready(member=self.member)

    def _seal(
        self,
        session: _Session,
        values: NDArray[np.float64],
        encoding: FixedPoint,
        *,
        step: str,
        round_index: int,
        model: bytes,
    ) -> tuple[Reply, Vector]:
        if not np.isfinite(values).all() or np.abs(values).max() > encoding.clip:
            raise RefusedError(
                f"The {step} of this member do not fit the agreed number range; "
                "check its rows with: tacit data check."
            )
        context = SumContext(
            run=session.run,
            step=step,
            round=round_index,
            schema=encoding.schema(values.size),
            model=model,
            roster=_roster(session).digest,
        )
        if session.sealer is None:
            raise ProtocolError("The members' keys are not agreed on yet.")
        sealed = session.sealer.seal(encoding.encode(values, self._entropy), context=context)
        reply = Sealed(
            member=self.member,
            header=sealed.header(),
            length=values.size,
        )
        return reply, np.frombuffer(sealed.payload, dtype="<u8")


def _released(vector: Vector | None, length: int) -> NDArray[np.float64]:
    if (
        vector is None
        or vector.dtype != np.float64
        or vector.shape != (length,)
        or not np.isfinite(vector).all()
    ):
        raise ProtocolError("The released statistics have another shape, or are not finite.")
    return np.asarray(vector, dtype=np.float64)


def _model(session: _Session, vector: Vector | None) -> NDArray[np.float32]:
    expected = session.learner.length
    if (
        vector is None
        or vector.dtype != np.float32
        or vector.shape != (expected,)
        or not np.isfinite(vector).all()
    ):
        raise ProtocolError("The model that was sent has another shape, or is not finite.")
    return np.asarray(vector, dtype=np.float32)


def _digest_or_zero(vector: Vector | None) -> bytes:
    return bytes(32) if vector is None else vector_digest(vector)


def _examples(examples: Examples | None) -> Examples:
    if examples is None:
        raise ProtocolError("The model is used before it was agreed on.")
    return examples


def _roster(session: _Session) -> Roster:
    if session.roster is None:
        raise ProtocolError("The members' keys are not agreed on yet.")
    return session.roster
