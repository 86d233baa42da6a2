"""A node's half of a run: a request in, a sealed vector, a signature or a refusal out.

The node checks everything that protects it, with its own numbers, and fails closed: the launcher's
signature, its own policy, every member's key, the order of steps, who a sum is over and who signed
that, what comes back as a sum. It never takes a model from anybody: it steps its own copy of the
common model with the sums, and goes on only with members who did the same.
"""

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients import common_model
from clients.common_model import CommonModel
from clients.contract import DataContract
from clients.examples import Examples
from clients.learner import WATCH_ROWS, Learner, split_validation
from clients.ledger_files import EARLIER, LEDGER
from clients.ledger_watch import LedgerWatch, StaleError, require_cosigned, require_on_record
from clients.members import MemberRows
from clients.model import architecture_digest, from_vector, to_vector
from clients.model_file import model_bytes
from clients.policy import NodePolicy, budget_terms, check_manifest
from clients.private_training import clipped_gradients, private_rows, train_privately
from clients.protect import weight_of, weighted_change
from clients.rows_digest import rows_digest
from clients.session import PERSONAL, WATCH, Session, Setup, Step
from clients.spec import NodeSpec, parse_node_spec, require_trainable
from clients.train import fine_tune, local_seed, train
from privacy.budget import Budget
from privacy.budget_record import BudgetTerms
from privacy.errors import CohortError, InputError, NotVerifiedError, ProtocolError, RefusedError
from privacy.identity import Identity, verify_signature
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.entry import STATISTICS, UPDATE, key_of
from privacy.ledger.grammar import CONSENT_DOMAIN
from privacy.ledger.head import HEAD_DOMAIN, head_message
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import append
from privacy.manifest import SIGNING_DOMAIN, Manifest
from privacy.mechanism import noised
from privacy.messages import (
    Accepted,
    Asked,
    Cosigned,
    EvaluateRequest,
    FinishNotice,
    InitialModel,
    InitialModelRequest,
    Invite,
    Joined,
    KeyHeld,
    KeyMade,
    KeyNotice,
    Ready,
    RecordedSum,
    Released,
    ReleaseRequest,
    Reply,
    Request,
    Revealed,
    RevealRequest,
    RosterNotice,
    Sealed,
    SealedKey,
    SignedState,
    StateNotice,
    StatisticsRequest,
    SumNotice,
    SumPart,
    SurvivorsNotice,
    TrainRequest,
    Voted,
    pack,
    vector_digest,
)
from privacy.plan import ORGANISATION, PrivacyPlan, deviation, is_distributed, noise_at_sealing
from privacy.randomness import Entropy, system_bytes
from privacy.release import ReleaseToken
from privacy.secure_sum import Vote
from privacy.secure_sum.cohort import SMALLEST_GROUPED, Cohort, groups_of
from privacy.secure_sum.group_key import (
    Envelope,
    GroupKey,
    make_group_key,
    maker_of,
    open_group_key,
)
from privacy.secure_sum.keys import KeyOffer, Roster, admit, offer_key
from privacy.secure_sum.schemes import scheme_of
from privacy.secure_sum.sealer import Sealer, require_votes
from privacy.secure_sum.tag import append_tag, check_tag, tag_key, tag_words
from privacy.sum_context import (
    ACCEPTED_DOMAIN,
    extend_history,
    first_history,
    payload_digest,
)
from privacy.tally import metrics

Floats = NDArray[np.float64]
UNITS = " (units)"
"""After a run's name: what it tells of single units, where it protects whole organisations."""
_REASON_CHARACTERS_MAX = 400


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


class Node:
    """One installation; see the module."""

    def __init__(self, settings: NodeSettings, *, entropy: Entropy = system_bytes) -> None:
        self._settings = settings
        self._entropy = entropy
        self._sessions: dict[bytes, Session] = {}
        self._budgets: dict[str, Budget] = {}
        self._ledger = SqliteLedger(settings.home / LEDGER)
        self._watch: LedgerWatch | None = None
        # a vote and an answer that passed each other would be about two sets of survivors
        self._lock = threading.Lock()
        self._log = logging.getLogger(f"tacit.node.{settings.member}")

    @property
    def member(self) -> str:
        """The node's name in the federation."""
        return self._settings.member

    @property
    def tells_data_errors(self) -> bool:
        """See `NodeSettings`."""
        return self._settings.tells_data_errors

    def handle(self, request: Request, payload: bytes = b"") -> tuple[Reply, bytes]:
        """Answer one request of the coordinator; a repeated one with the same words as before.

        Raises:
            RefusedError: The node will not; one sentence, without a value of any row.
        """
        if isinstance(request, Invite):
            _require_bare(payload)
            return self._join(request), b""
        if isinstance(request, StateNotice):
            _require_bare(payload)
            return self._witness(request), b""
        with self._lock:
            return self._once(self._session(request.run), request, payload)

    def _once(self, session: Session, request: Request, payload: bytes) -> tuple[Reply, bytes]:
        if session.last is not None and session.last[:2] == (request, payload):
            return session.last[2:]
        reply, answer = self._answer(session, request, payload)
        session.last = (request, payload, reply, answer)
        return reply, answer

    def _answer(self, session: Session, request: Request, payload: bytes) -> tuple[Reply, bytes]:
        if isinstance(request, SumNotice):
            return self._accept(session, request, payload), b""
        _require_bare(payload)
        if isinstance(request, Asked):
            self._confirm(session, request.accepted)
        if isinstance(request, StatisticsRequest | TrainRequest | EvaluateRequest):
            return self._contribute(session, request)
        return self._answer_plainly(session, request), b""

    def _answer_plainly(self, session: Session, request: Request) -> Reply:
        answers: dict[type, Callable[..., Reply]] = {
            RosterNotice: self._accept_roster,
            KeyNotice: self._accept_key,
            InitialModelRequest: lambda session, _: self._initial_model(session),
            SurvivorsNotice: self._vote,
            ReleaseRequest: self._release,
            RevealRequest: self._reveal,
            FinishNotice: lambda session, _: self._finish(session),
        }
        answer = answers.get(type(request))
        if answer is None:
            raise ProtocolError("That is nothing to ask a node for.")
        return answer(session, request)

    def _session(self, run: bytes) -> Session:
        session = self._sessions.get(run)
        if session is None:
            raise ProtocolError("This node has not joined that run; it must be invited first.")
        return session

    # -- before the first sum ----------------------------------------------------------------

    def _join(self, request: Invite) -> Joined:
        settings = self._settings
        # (1) the launcher that this node trusts signed these very bytes
        verify_signature(settings.launcher, SIGNING_DOMAIN, request.manifest, request.signature)
        manifest = Manifest.from_bytes(request.manifest)
        self._open_books()
        try:
            return self._agree(manifest)
        except RefusedError as refusal:
            self._note_refusal(manifest, refusal)
            raise

    def _agree(self, manifest: Manifest) -> Joined:
        settings = self._settings
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
        if manifest.group_size and len(directory) < SMALLEST_GROUPED:
            raise RefusedError(
                f"Sums in groups need {SMALLEST_GROUPED} members and this run has "
                f"{len(directory)}; set protection.robust: none."
            )
        spec = parse_node_spec(dict(manifest.node_settings))
        run = manifest.digest()
        # (4) its noise covers what this node's rows could show, and the budget holds all of it
        work = Learner(settings.contract, spec, settings.device, plan=manifest.privacy)
        if manifest.privacy is not None:
            _require_covered(work, spec, manifest.privacy)
        if manifest.run.endswith(UNITS):
            raise RefusedError(f"A run's name may not end with {UNITS!r}; choose another.")
        budget = self._budget(manifest)
        planned = manifest.planned_receipts(stages=work.stages, rounds=spec.training.rounds)
        budget.check(planned)
        # (5) its releases will be on record in the ledger that this node follows
        self._books().trust(manifest.log, allowed=settings.policy.ledgers)
        rows = settings.rows(spec.fold)
        digest = rows_digest(rows, run=run, home=settings.home, entropy=self._entropy)
        # (6) it is new here, also after a restart: one run, one set of keys, one answer a sum
        self._remember(manifest, run)
        key, offer = offer_key(
            settings.identity,
            settings.member,
            run=run,
            directory=directory,
            entropy=self._entropy,
        )
        if manifest.privacy is not None and manifest.privacy.parts == "apart":
            _require_apart(settings.contract, rows)
        self._note_rows(manifest, digest)
        budget.promise(manifest.run, planned)
        self._sessions[run] = Session(
            manifest=manifest,
            run=run,
            spec=spec,
            key=key,
            rows=MemberRows(rows.member, work.scaled(rows.train), work.scaled(rows.test)),
            learner=work,
            budget=budget,
            units_budget=self._units_budget(manifest),
        )
        return Joined(
            member=settings.member,
            offer=offer.to_bytes(),
            consent=settings.identity.sign(CONSENT_DOMAIN, run),
        )

    def _open_books(self) -> None:
        """Begin this node's own ledger, and its memory of the coordinator's, where they are new."""
        settings = self._settings
        if self._watch is not None:
            return
        if (settings.home / EARLIER).exists() and not (settings.home / LEDGER).exists():
            raise RefusedError(
                f"This node has a budget of an earlier version in {EARLIER}, which would not count "
                "any more; where it need not, move it away."
            )
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
            begin_ledger(
                self._ledger, settings.identity, owner=self.member, role="node", time_ms=_now_ms()
            )
        except (OSError, InputError):
            raise RefusedError("This node cannot write its own folder.") from None
        self._watch = LedgerWatch(
            self._ledger, member=self.member, identity=settings.identity, now_ms=_now_ms
        )

    def _books(self) -> LedgerWatch:
        if self._watch is None:
            raise ProtocolError("This node has joined no run yet.")
        return self._watch

    def _note_refusal(self, manifest: Manifest, refusal: RefusedError) -> None:
        """Keep the first reason why a run was refused; a disk that is full hides no refusal."""
        words = "".join(c if c.isprintable() else " " for c in str(refusal)).split()
        reason = " ".join(words)[:_REASON_CHARACTERS_MAX]
        body = {"manifest": manifest.digest().hex(), "reason": reason}
        with suppress(InputError, RefusedError):
            append(self._ledger, "run.refused", body, time_ms=_now_ms())

    def _note_rows(self, manifest: Manifest, digest: bytes) -> None:
        """Bind the run to the rows that it is about, by a hash that tells nothing of them."""
        body = {
            "run": manifest.run,
            "contract": manifest.contract,
            "rows": digest.hex(),
        }
        append(self._ledger, "rows.read", body, time_ms=_now_ms())

    def _budget(self, manifest: Manifest) -> Budget:
        """What was spent of this data, for whom the run protects.

        Raises:
            RefusedError: The run protects whole organisations where this node's policy caps what
                is told of the contract's unit: how much of that it costs is not known.
        """
        settings = self._settings
        own = settings.contract.unit
        unit = own if manifest.privacy is None else manifest.privacy.unit

        def terms(name: str) -> BudgetTerms:
            return budget_terms(
                settings.policy, member=self.member, dataset=settings.contract.name, unit=name
            )

        capped = terms(own).epsilon is not None or terms(own).solo_epsilon is not None
        if unit != own and capped:
            raise RefusedError(
                f"This node caps what is told of a {own}, and the run protects an {unit}; "
                "set privacy.unit: contract."
            )
        if unit not in self._budgets:
            self._budgets[unit] = Budget(self._ledger, terms(unit), now_ms=_now_ms)
        return self._budgets[unit]

    def _units_budget(self, manifest: Manifest) -> Budget | None:
        """The budget of the contract's unit, where the run protects whole organisations."""
        plan = manifest.privacy
        if plan is None or plan.unit == self._settings.contract.unit:
            return None
        return self._budget(replace(manifest, privacy=None))

    def _remember(self, manifest: Manifest, run: bytes) -> None:
        body = {
            "run": manifest.run,
            "manifest": run.hex(),
            "origin": manifest.ledger["origin"],
        }
        try:
            with self._ledger.turn() as turn:
                key = key_of("run.joined", body)
                if key is not None and turn.find(key) is not None:
                    raise ProtocolError("This node has joined that run already; launch a new one.")
                turn.append("run.joined", body, time_ms=_now_ms())
        except InputError:
            raise RefusedError(
                "This node cannot write its own folder, and so joins no run."
            ) from None

    def _accept_roster(self, session: Session, request: RosterNotice) -> Ready | KeyMade:
        if session.roster is not None:
            raise ProtocolError("The members' keys of a run are agreed on once.")
        manifest = session.manifest
        roster = admit(
            [KeyOffer.from_bytes(offer) for offer in request.offers],
            run=session.run,
            directory=manifest.directory_keys(),
            minimum=self._minimum(session),
        )
        if roster.members != manifest.members:
            raise ProtocolError("The run's keys are not those of all its members.")
        session.roster = roster
        if maker_of(roster) != self.member:
            return Ready(member=self.member)
        key, envelopes = make_group_key(
            self.member,
            self._settings.identity,
            roster,
            scheme_of(manifest.protection),
            self._entropy,
        )
        self._set_up(session, roster, key)
        return KeyMade(
            member=self.member,
            fingerprint=key.fingerprint,
            public=key.carrier.public,
            carrier=next(iter(envelopes.values())).carrier,
            keys={
                member: SealedKey(envelope.secret, envelope.signature)
                for member, envelope in envelopes.items()
            },
        )

    def _accept_key(self, session: Session, request: KeyNotice) -> KeyHeld:
        roster = session.roster
        if roster is None or session.setup is not None:
            raise ProtocolError("A run's group key is opened once, after the members' keys.")
        envelope = Envelope(
            request.fingerprint,
            request.public,
            request.carrier,
            request.secret,
            request.signature,
        )
        scheme = scheme_of(session.manifest.protection)
        key = open_group_key(self.member, session.key, roster, scheme, envelope)
        self._set_up(session, roster, key)
        return KeyHeld(member=self.member, fingerprint=key.fingerprint)

    def _set_up(self, session: Session, roster: Roster, key: GroupKey) -> None:
        scheme = scheme_of(session.manifest.protection)
        minimum = self._minimum(session)
        sealer = Sealer(
            self.member,
            self._settings.identity,
            session.key,
            roster,
            scheme=scheme.name,
            wrap=key.carrier.wrap,
            masked=scheme.masked,
            entropy=self._entropy,
        )
        session.setup = Setup(
            roster=roster,
            everyone=Cohort(roster, roster.members, minimum),
            groups=tuple(
                Cohort(roster, members, minimum)
                for members in groups_of(roster, session.manifest.group_size)
            ),
            scheme=scheme,
            key=key,
            sealer=sealer,
        )
        session.history = first_history(roster.digest, key.fingerprint)

    def _minimum(self, session: Session) -> int:
        return max(session.manifest.minimum_cohort, self._settings.policy.minimum_cohort)

    # -- one sum -----------------------------------------------------------------------------

    def _confirm(self, session: Session, accepted: Mapping[str, bytes]) -> None:
        """Go on only with those who hold the same sums.

        More than two thirds of those who hold this member's shares must: up to 32 members, of all.
        """
        if session.confirmed:
            return
        everyone = session.agreed.everyone
        for member, signature in accepted.items():
            if member not in everyone.members:
                raise ProtocolError(f"{member} is no member of this run, and accepts nothing.")
            try:
                verify_signature(
                    everyone.roster.directory[member], ACCEPTED_DOMAIN, session.history, signature
                )
            except ProtocolError:
                raise ProtocolError(
                    f"{member} did not accept the sums that this node was shown; the coordinator "
                    "may have shown two. Compare the members' logs, and launch again."
                ) from None
        agreeing = len(set(accepted).intersection(everyone.holders(self.member)))
        needed = everyone.threshold(self.member)
        if agreeing < needed:
            raise CohortError(
                f"{agreeing} members accepted the same sums and {needed} are needed to go on."
            )
        session.confirmed = True

    def _contribute(
        self, session: Session, request: StatisticsRequest | TrainRequest | EvaluateRequest
    ) -> tuple[Sealed, bytes]:
        if isinstance(request, StatisticsRequest):
            step = session.plan(STATISTICS, request.stage)
        elif isinstance(request, TrainRequest):
            self._start_model(session)
            step = session.plan(UPDATE, request.round)
        else:
            step = session.plan(f"evaluate {request.part}", request.round)
        if (step.name, step.round) in session.sealed:
            raise ProtocolError("This sum was already sealed; it is not made again.")
        session.sealed.add((step.name, step.round))
        if step.name == STATISTICS:
            values = session.next_tally()
        elif step.name == UPDATE:
            values = self._trained(session, step.round)
        else:
            values = self._evaluated(session, step)
        values = self._covered(session, step, values)
        return self._seal(session, step, values, self._reserve(session, step))

    def _covered(self, session: Session, step: Step, values: Floats) -> Floats:
        """Add what the plan asks."""
        plan = session.manifest.privacy
        if plan is None or not noise_at_sealing(plan, step.name):
            return values
        return noised(
            values, plan=plan, step=step.name, limit=step.layout.clip, entropy=self._entropy
        )

    def _reserve(self, session: Session, step: Step) -> ReleaseToken:
        """Write down what a release costs; without the token that this returns nothing leaves."""
        receipt = session.manifest.receipt(step.name, step.round, step.length)
        run = session.manifest.run
        if session.units_budget is not None:
            # what it tells of single units is not bounded, and a later cap has to know
            plain = replace(session.manifest, privacy=None)
            exact = plain.receipt(step.name, step.round, step.length)
            session.units_budget.reserve(f"{run}{UNITS}", step.name, step.round, exact)
        return session.budget.reserve(run, step.name, step.round, receipt)

    def _seal(
        self, session: Session, step: Step, values: Floats, token: ReleaseToken
    ) -> tuple[Sealed, bytes]:
        if not np.isfinite(values).all() or np.abs(values).max() > step.layout.clip:
            # it depends on the rows, so the refusal tells of them: what was reserved stays spent
            raise RefusedError(
                f"The {step.name} of this member do not fit the agreed number range; "
                "check its rows with: tacit data check."
            )
        setup, mine = session.agreed, step.of(self.member)
        context = step.contexts[mine]
        words = append_tag(
            step.layout.encode(values, self._entropy),
            layout=step.layout,
            key=tag_key(setup.key.tag_secret, context.digest()),
        )
        try:
            sealed = setup.sealer.seal(
                words, bits=step.layout.word_bits, context=context, cohort=step.cohorts[mine]
            )
        except ProtocolError as fault:
            reason = f"It was not sealed: {fault}"[:_REASON_CHARACTERS_MAX]
            session.budget.abort(token, reason=reason, sign=self._settings.identity.sign)
            raise
        session.step = step
        session.head = token.use()
        reply = Sealed(
            member=self.member,
            header=sealed.header(),
            schema=context.schema,
            model=context.model,
            length=values.size,
            leaves=session.head.leaves,
            root=bytes.fromhex(session.head.root),
            signature=self._settings.identity.sign(
                HEAD_DOMAIN, head_message(context.digest(), session.head)
            ),
            witnessed=self._books().seen(session.manifest.ledger["origin"]),
        )
        return reply, sealed.payload

    def _under_way(self, session: Session, context: bytes) -> tuple[Step, Cohort]:
        step = session.step
        if step is not None:
            mine = step.of(self.member)
            if step.contexts[mine].digest() == context:
                return step, step.cohorts[mine]
        raise ProtocolError("That sum is not under way here; nothing is told of another.")

    def _vote(self, session: Session, request: SurvivorsNotice) -> Voted:
        step, cohort = self._under_way(session, request.context)
        cohort.require_survivors(request.survivors)
        session.require_no_difference(step, cohort, request.context, request.survivors)
        self._require_on_record(session, step, request)
        vote = session.agreed.sealer.vote(request.context, request.survivors)
        cosignature = self._cosign(request.record.state)
        session.records[request.context] = request.record
        # from here on the sum may be opened, whatever the coordinator says became of it
        session.note_signed(step, cohort, request.context, request.survivors)
        return Voted(member=self.member, signature=vote.signature, cosignature=cosignature)

    def _require_on_record(self, session: Session, step: Step, request: SurvivorsNotice) -> None:
        manifest, mine, head = session.manifest, step.of(self.member), session.head
        if head is None:
            raise ProtocolError("That sum is not under way here; nothing is told of another.")
        receipt = manifest.receipt(step.name, step.round, step.length)
        expected = {
            "run": manifest.run,
            "step": step.name,
            "round": step.round,
            "asked": list(step.cohorts[mine].members),
            "schema": step.contexts[mine].schema.hex(),
            "model": step.contexts[mine].model.hex(),
            "context": request.context.hex(),
            "protection": manifest.protection,
            "receipt": receipt.to_json(),
            "nodes": {
                "leaves": head.leaves,
                "root": head.root,
                "signature": self._settings.identity.sign(
                    HEAD_DOMAIN, head_message(request.context, head)
                ).hex(),
            },
        }
        require_on_record(
            request.record,
            manifest.log,
            expected,
            member=self.member,
            survivors=request.survivors,
        )

    def _witness(self, request: StateNotice) -> Cosigned:
        """Cosign the ledger outside of runs: it is only ever the one that this node follows."""
        watch = self._books()
        try:
            cosignature: bytes | None = watch.cosign(request.state, time_s=int(time.time()))
        except StaleError:
            cosignature = None
        except NotVerifiedError as fault:
            self._log.warning("the coordinator's ledger was not cosigned: %s", fault)
            raise
        return Cosigned(
            member=self.member, witnessed=watch.seen(request.origin), cosignature=cosignature
        )

    def _cosign(self, state: SignedState) -> bytes:
        try:
            return self._books().cosign(state, time_s=int(time.time()))
        except NotVerifiedError as fault:
            self._log.warning("the coordinator's ledger was not cosigned: %s", fault)
            raise ProtocolError(
                f"The coordinator's ledger does not follow on what this node cosigned: {fault}."
            ) from None

    def _record_of(self, session: Session, context: bytes) -> RecordedSum:
        """A sum's record, as this node cosigned it with its vote."""
        record = session.records.get(context)
        if record is None:
            raise ProtocolError("This node has not seen that sum in the coordinator's ledger.")
        return record

    def _release(self, session: Session, request: ReleaseRequest) -> Released:
        self._under_way(session, request.context)
        self._record_of(session, request.context)
        release = session.agreed.sealer.release(
            request.context, request.survivors, _votes(request.votes)
        )
        return Released(member=self.member, seeds=dict(release.seeds), signature=release.signature)

    def _reveal(self, session: Session, request: RevealRequest) -> Revealed:
        self._under_way(session, request.context)
        require_cosigned(
            self._record_of(session, request.context),
            session.manifest.log,
            request.cosignatures,
            session.agreed.everyone,
            member=self.member,
        )
        answer = session.agreed.sealer.reveal(
            request.context,
            request.survivors,
            _votes(request.votes),
            request.boxes,
        )
        return Revealed(member=self.member, shares=dict(answer.shares), signature=answer.signature)

    def _accept(self, session: Session, notice: SumNotice, payload: bytes) -> Accepted:
        """Check a step's sums, and take what follows from them. Nothing changes before it holds."""
        if notice.step == UPDATE:
            self._start_model(session)
        step = session.plan(notice.step, notice.round)
        if len(notice.parts) != len(step.cohorts):
            raise ProtocolError("A step's sums are shown all at once, one for each group.")
        if sum(part.length for part in notice.parts) != len(payload):
            raise ProtocolError("The sums' payload has another length than was announced.")
        shown = _pieces(notice, step, payload)
        aggregates = [payload_digest(piece) for *_, piece in shown]
        for part, cohort, digest, _ in shown:
            self._require_signed(session, step, part, cohort, digest)
        # the notice tells the pieces' lengths, so this binds the whole payload
        session.require_one_try(step, payload_digest(pack(notice).message + b"".join(aggregates)))
        try:
            sums = self._opened(session, step, shown)
            kept = self._follow(session, step, sums)
        except ProtocolError:
            # no other payload is tried as this step's, so the run is over at this node
            self._leave(session)
            raise
        for part, cohort, digest, _ in shown:
            session.note_opened(step, cohort, digest, part.survivors)
        if session.step is not None and not any(self.member in p.survivors for p in notice.parts):
            self._log.info("the %s of round %d came late; it stays unread", step.name, step.round)
        session.history = extend_history(
            session.history,
            [
                (digest, part.survivors, aggregate)
                for (part, _, digest, _), aggregate in zip(shown, aggregates, strict=True)
            ],
            model=session.model_digest,
            kept=kept,
        )
        session.confirmed, session.step, session.head = False, None, None
        session.records.clear()
        if (step.name, step.round) in session.sealed:
            session.budget.commit(session.manifest.run, step.name, step.round)
        return Accepted(
            member=self.member,
            history=session.history,
            model=session.model_digest,
            kept=kept,
            signature=self._settings.identity.sign(ACCEPTED_DOMAIN, session.history),
        )

    def _require_signed(
        self, session: Session, step: Step, part: SumPart, cohort: Cohort, context: bytes
    ) -> None:
        cohort.require_survivors(part.survivors)
        session.require_signed_here(context, part.survivors)
        session.require_no_difference(step, cohort, context, part.survivors)
        require_votes(
            _votes(part.votes),
            member=self.member if self.member in cohort.members else cohort.members[0],
            context=context,
            survivors=part.survivors,
            cohort=cohort,
        )

    def _opened(
        self, session: Session, step: Step, shown: list[tuple[SumPart, Cohort, bytes, bytes]]
    ) -> list[tuple[Floats, int]]:
        """Open a step's signed sums.

        A sum that does not hold ends the run at this node; in groups, where one wrong member would
        end it, that group is given up, by all alike.
        """
        setup, layout = session.agreed, step.layout
        count = layout.words(step.length) + tag_words(layout)
        sums: list[tuple[Floats, int]] = []
        for part, _, context, piece in shown:
            members = len(part.survivors)
            try:
                words = setup.sealer.open(piece, count=count, bits=layout.word_bits)
                key = tag_key(setup.key.tag_secret, context)
                body = check_tag(words, layout=layout, key=key, parties=members)
                found = layout.decode_sum(body, step.length, members)
                # what was filled up with noise says nothing
                sums.append((found[: step.values], members))
            except ProtocolError as fault:
                if len(step.cohorts) == 1:
                    raise
                self._log.info("a group of round %d is given up: %s", step.round, fault)
        return sums

    # -- learning ----------------------------------------------------------------------------

    def _follow(self, session: Session, step: Step, sums: list[tuple[Floats, int]]) -> bool:
        """Take what a step's sums say; return whether the common model was kept."""
        record = {"step": step.name, "round": step.round, "members": [n for _, n in sums]}
        common, kept = session.common, True
        if step.name == UPDATE:
            common = self._stepped(session, step, sums)
        elif step.name != STATISTICS:
            work, plan = session.learner, session.manifest.privacy
            total, members = sums[0]
            noise = 0.0 if plan is None else deviation(plan, step.name) * math.sqrt(members)
            found = work.read_evaluation(total, noise)
            if step.name == WATCH:
                common, kept = common_model.after_watch(
                    session.model, work.loss_of(found), session.spec
                )
            record |= {"metrics": found, "kept": kept}
        self._write_down(session, record)
        session.common = common
        if step.name == STATISTICS:
            session.released.append(sums[0][0])
            session.tallied = None
        elif step.name == UPDATE:
            session.round = step.round
        else:
            session.accepted.add((step.name, step.round))
        return kept

    def _stepped(self, session: Session, step: Step, sums: list[tuple[Floats, int]]) -> CommonModel:
        spec, plan = session.spec, session.manifest.privacy
        if plan is not None and is_distributed(plan):
            mean = sums[0][0] / self._expected_units(session, plan)
            return common_model.after_round(session.model, mean, spec, scheduled=True)
        mean = common_model.mean_change(sums, spec, step.layout, len(step.cohorts))
        return common_model.after_round(session.model, mean, spec)

    def _expected_units(self, session: Session, plan: PrivacyPlan) -> float:
        """Units in a step, by the federation's noisy count: of all members, or of one."""
        members = len(session.agreed.roster.members)
        units = float(members)
        if plan.unit != ORGANISATION:
            units = max(session.learner.overview(session.released).units, float(members))
        return plan.rate * (units if is_distributed(plan) else units / members)

    def _write_down(self, session: Session, record: Mapping[str, object]) -> None:
        """Keep what was opened, for this member's own people; it is in no other's hands."""
        try:
            with (self._folder(session) / "sums.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError:
            raise RefusedError(
                "This node cannot write down what was opened; make room in its folder."
            ) from None

    def _folder(self, session: Session) -> Path:
        folder = self._settings.home / "runs" / session.manifest.run
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _start_model(self, session: Session) -> None:
        """Make the initial model, once: the statistics and the run's seed fix it for all."""
        if session.common is not None:
            return
        if len(session.released) != session.learner.stages:
            raise ProtocolError("The model is asked for after the statistics.")
        work = session.learner
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
        session.common = common_model.start(to_vector(work.network))

    def _initial_model(self, session: Session) -> InitialModel:
        if session.round > 0:
            raise ProtocolError("The initial model is asked for before the first round.")
        self._start_model(session)
        return InitialModel(
            member=self.member,
            architecture=session.architecture,
            digest=session.model_digest,
            length=session.model.current.size,
        )

    def _trained(self, session: Session, round_index: int) -> Floats:
        training, model = _examples(session.training), session.model.current
        work, spec = session.learner, session.spec
        from_vector(work.network, model)
        plan = session.manifest.privacy
        if plan is not None:
            return self._trained_privately(session, plan, round_index)
        train(
            work.network,
            training,
            work.target,
            spec.training,
            round_index=round_index,
            seed=local_seed(spec.seed, self.member, round_index),
        )
        overview = work.overview(session.released)
        units = int(np.unique(training.unit).size)
        weight = weight_of(len(training), units, overview, spec.update)
        return weighted_change(model, to_vector(work.network), weight, spec.update)

    def _trained_privately(self, session: Session, plan: PrivacyPlan, round_index: int) -> Floats:
        work, spec = session.learner, session.spec
        if session.private is None:
            session.private = private_rows(
                work.network, _examples(session.training), work.target, plan
            )
        if is_distributed(plan):
            # downhill, as a change of the model is
            return -clipped_gradients(
                work.network, session.private, work.target, plan, self._entropy
            )
        train_privately(
            work.network,
            session.private,
            work.target,
            plan,
            spec.training,
            round_index=round_index,
            expected_units=self._expected_units(session, plan),
            entropy=self._entropy,
        )
        # all alike: a weight by rows would be one more thing told
        return weighted_change(session.model.current, to_vector(work.network), 1.0, spec.update)

    def _evaluated(self, session: Session, step: Step) -> Floats:
        work = session.learner
        from_vector(work.network, session.model.average)
        if step.name == WATCH:
            return work.evaluation(_examples(session.watching))
        if step.name == PERSONAL:
            self._personalise(session)
        test = _examples(session.test)
        session.own[step.name.removeprefix("evaluate ")] = metrics(
            work.kind, work.tally(test), work.groups, target_unit=work.target_unit
        )
        return work.evaluation(test)

    def _personalise(self, session: Session) -> None:
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

    def _finish(self, session: Session) -> Ready:
        if session.round != session.spec.training.rounds:
            raise ProtocolError("The run is finished before its last round.")
        model, folder = session.model.average, self._folder(session)
        report = {
            "run": session.manifest.run,
            "member": self.member,
            "model": vector_digest(model).hex(),
            "rounds_undone": session.model.undone,
            "training_rows": len(_examples(session.training)),
            "test_rows": len(_examples(session.test)),
            "own_metrics": session.own,
        }
        written = model_bytes(model, session.released, session.manifest, session.architecture)
        try:
            _write(folder / "model.safetensors", written)
            _write(folder / "report.json", json.dumps(report, indent=1).encode())
        except OSError:
            raise RefusedError(
                "This node cannot write the model; make room in its folder."
            ) from None
        self._leave(session)
        return Ready(member=self.member)

    def _leave(self, session: Session) -> None:
        """Nothing more of this run is told; what it did not spend is free for others."""
        session.budget.forget(session.manifest.run)
        del self._sessions[session.run]


def _pieces(
    notice: SumNotice, step: Step, payload: bytes
) -> list[tuple[SumPart, Cohort, bytes, bytes]]:
    """A step's sums as they were shown, without those of groups that were given up."""
    shown: list[tuple[SumPart, Cohort, bytes, bytes]] = []
    start = 0
    for part, cohort, context in zip(notice.parts, step.cohorts, step.contexts, strict=True):
        piece = payload[start : start + part.length]
        start += part.length
        if part.survivors or part.votes or piece or len(step.cohorts) == 1:
            shown.append((part, cohort, context.digest(), piece))
    return shown


def _require_apart(contract: DataContract, rows: MemberRows) -> None:
    """Return if no unit has rows of both parts, where one table is split.

    Files that a contract calls test rows are about other units, also where their ids are alike.

    Raises:
        RefusedError: One has: what training and testing tell of it adds up, and is counted apart.
    """
    by_files = all(source.part != "all" for source in contract.sources)
    if (by_files and not contract.by_role("part")) or "__unit" not in rows.train:
        return
    if not set(rows.train["__unit"]).isdisjoint(rows.test["__unit"]):
        raise RefusedError(
            f"A {contract.unit} has training and test rows, so its privacy cannot be counted in "
            "parts; set the contract's split to kind: units."
        )


def _require_covered(work: Learner, spec: NodeSpec, plan: PrivacyPlan) -> None:
    """Return if the plan's noise is for as much as one unit of this node's rows can change.

    Raises:
        RefusedError: It is for less, or a setting breaks the bound.
    """
    require_trainable(spec)
    for name, told, own in (
        ("statistics", plan.statistics_clip, work.statistics_sensitivity),
        ("evaluation", plan.evaluation_clip, work.evaluation_sensitivity),
    ):
        if told < own:
            raise RefusedError(
                f"The plan's noise on {name} is for a sensitivity of {told:g}, and here it is "
                f"{own:g}; plan again with this version of tacit."
            )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)


def _votes(signatures: Mapping[str, bytes]) -> list[Vote]:
    return [Vote(member, signature) for member, signature in signatures.items()]


def _require_bare(payload: bytes) -> None:
    if payload:
        raise ProtocolError("A payload came with a request that has none.")


def _examples(examples: Examples | None) -> Examples:
    if examples is None:
        raise ProtocolError("The model is used before it was agreed on.")
    return examples
