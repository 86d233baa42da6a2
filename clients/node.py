"""A node's half of a run: a request in, a sealed vector, a signature or a refusal out.

The node checks everything that protects it, with its own numbers, and fails closed: the launcher's
signature, its own policy, every member's key, the order of steps, who a sum is over and who signed
that, what comes back as a sum. It never takes a model from anybody: it steps its own copy of the
common model with the sums, and goes on only with members who did the same. Where it keeps its runs
on disk, a restart changes none of that: `clients.session_file` says why.
"""

import hashlib
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients import common_model
from clients.class_floor import keeping_refusals, place_refusals, require_class_floor
from clients.common_model import CommonModel
from clients.consent import Consent
from clients.contract import DataContract
from clients.durable_file import append_whole, make_folder, write_whole
from clients.examples import Examples
from clients.kept_session import KeptSession, put_back, read_kept
from clients.learner import WATCH_ROWS, Learner, split_validation
from clients.ledger_files import EARLIER, LEDGER
from clients.ledger_watch import LedgerWatch, StaleError, require_cosigned, require_on_record
from clients.members import MemberRows
from clients.model import architecture_digest, from_vector, to_vector
from clients.model_file import MODEL_KIND, model_bytes
from clients.node_settings import NodeSettings, Reasoning
from clients.policy import budget_terms, check_manifest, highest_class
from clients.private_training import clipped_gradients, private_rows, train_privately
from clients.protect import weight_of, weighted_change
from clients.rows_digest import rows_digest
from clients.run_past import run_past
from clients.session import PERSONAL, TEST, WATCH, Session, Setup, Step, asked_digest
from clients.session_file import (
    RUN_NAME,
    Pointer,
    SessionFile,
    kept_file,
    kept_runs,
    leave_run,
    sweep,
    sweep_run,
)
from clients.signing_keys import SigningKeys
from clients.spec import NodeSpec, parse_node_spec, require_trainable
from clients.train import fine_tune, local_seed, train
from clients.usable_rows import read_usable
from clients.vault import Vault
from clients.vault_folder import folder_vault
from privacy.budget import Budget
from privacy.budget_record import BudgetTerms
from privacy.errors import (
    CohortError,
    InputError,
    NotVerifiedError,
    ProtocolError,
    RefusedError,
    TacitError,
)
from privacy.identity import verify_signature
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.entry import STATISTICS, UPDATE, key_of
from privacy.ledger.grammar import CONSENT_DOMAIN
from privacy.ledger.head import HEAD_DOMAIN, head_message
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.store import Turn, append
from privacy.manifest import COUNTERSIGN_DOMAIN, SIGNING_DOMAIN, Manifest
from privacy.mechanism import noised
from privacy.messages import (
    SEALED_BEFORE,
    Accepted,
    Asked,
    Cosigned,
    Countersigned,
    CountersignRequest,
    EvaluateRequest,
    FinishNotice,
    InitialModel,
    InitialModelRequest,
    Invite,
    Joined,
    KeyHeld,
    KeyMade,
    KeyNotice,
    PairNotice,
    PairRequest,
    PairsMade,
    Pending,
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
    StopNotice,
    SumNotice,
    SumPart,
    SurvivorsNotice,
    TrainRequest,
    Voted,
    pack,
    vector_digest,
)
from privacy.one_line import in_one_line
from privacy.plan import ORGANISATION, PrivacyPlan, deviation, is_distributed, noise_at_sealing
from privacy.randomness import Entropy, system_bytes
from privacy.receipt import Receipt
from privacy.release import ReleaseToken
from privacy.secure_sum import Vote
from privacy.secure_sum.cohort import SMALLEST_GROUPED, Cohort, groups_of
from privacy.secure_sum.graph import require_holding
from privacy.secure_sum.group_key import (
    Envelope,
    GroupKey,
    make_group_key,
    maker_of,
    open_group_key,
    resume_group_key,
)
from privacy.secure_sum.keys import ExchangeKey, KeyOffer, Roster, admit, offer_key
from privacy.secure_sum.pair_keys import (
    PairEnvelope,
    neighbours_of,
    open_pairs,
    pairs_due,
    seal_pairs,
)
from privacy.secure_sum.schemes import scheme_of
from privacy.secure_sum.sealer import Sealer, require_votes
from privacy.secure_sum.tag import append_tag, check_tag, tag_key, tag_words
from privacy.suites import require_here, suite_of
from privacy.sum_context import (
    ACCEPTED_DOMAIN,
    extend_history,
    first_history,
    payload_digest,
)
from privacy.tally import metrics

Floats = NDArray[np.float64]
UNITS = " (units)"
"""After a run's name: what it tells of single units, where it protects whole organisations.

No run's own name ends so (`RUN_NAME`)."""
_REASON_CHARACTERS_MAX = 400
# torch has one random state for all threads: what seeds it and draws from it is not disturbed
_RANDOM = threading.Lock()


class Node:
    """One installation; see the module."""

    def __init__(self, settings: NodeSettings, *, entropy: Entropy = system_bytes) -> None:
        self._settings = settings
        self._entropy = entropy
        self._sessions: dict[bytes, Session] = {}
        self._finished: set[bytes] = set()
        self._budgets: dict[str, tuple[BudgetTerms, Budget]] = {}
        self._ledger = SqliteLedger(settings.home / LEDGER)
        self._watch: LedgerWatch | None = None
        # of what all runs share; taken last, and never while another is waited for
        self._lock = threading.RLock()
        # one run is joined at a time, so that each sees what the others were promised
        self._joining = threading.RLock()
        self._log = logging.getLogger(f"tacit.node.{settings.member}")
        self._signing = SigningKeys(settings.home, settings.identity, self._ledger, entropy)

    @property
    def member(self) -> str:
        """The node's name in the federation."""
        return self._settings.member

    @property
    def contract(self) -> DataContract:
        """The contract that its rows keep."""
        return self._settings.contract

    @property
    def public(self) -> bytes:
        """The public key of its identity."""
        return self._settings.identity.public

    @property
    def home(self) -> Path:
        """Its own folder."""
        return self._settings.home

    @property
    def tells_data_errors(self) -> bool:
        """See `NodeSettings`."""
        return self._settings.tells_data_errors

    @property
    def runs(self) -> Mapping[str, str]:
        """Digest (hex) -> name of every run that this node is in now."""
        with self._lock:
            return {run.hex(): one.manifest.run for run, one in self._sessions.items()}

    def handle(self, request: Request, payload: bytes = b"") -> tuple[Reply, bytes]:
        """Answer one request of the coordinator; a repeated one with the same words as before.

        Runs are answered side by side, each in order.

        Raises:
            RefusedError: The node will not; one sentence, without a value of any row.
        """
        if isinstance(request, Invite | CountersignRequest):
            _require_bare(payload)
            with self._joining:
                if isinstance(request, Invite):
                    return self._join(request), b""
                return self._countersign(request), b""
        if isinstance(request, StateNotice):
            _require_bare(payload)
            return self._witness(request), b""
        if isinstance(request, StopNotice):
            _require_bare(payload)
            return self._stop(request.run), b""
        if isinstance(request, FinishNotice) and self._has_finished(request.run):
            return Ready(member=self.member), b""
        while True:
            session = self._session(request.run)
            # a vote and an answer that passed each other would be about two sets of survivors
            with session.lock:
                if self._sessions.get(request.run) is session:
                    session.heard_ms = _now_ms()
                    return self._once(session, request, payload)

    def _once(self, session: Session, request: Request, payload: bytes) -> tuple[Reply, bytes]:
        """Answer a request; one that was answered in the step under way with the same words."""
        asked = asked_digest(request, payload)
        before = session.answered.get(asked)
        if before is not None:
            return before
        try:
            reply, answer = self._answer(session, request, payload)
        except TacitError:
            raise
        except BaseException:
            # it stopped half-way: where runs are kept, it goes on from what is on disk
            self._forget(session)
            raise
        session.require_here()
        if session.run not in self._sessions:
            return reply, answer
        if isinstance(reply, Cosigned):
            return reply, answer  # what is remembered changes with other runs, too
        if isinstance(request, SumNotice | StatisticsRequest | TrainRequest | EvaluateRequest):
            session.answered.clear()  # another step, or what follows on it, is under way
        session.answered[asked] = (reply, answer)
        self._keep(session)
        if isinstance(request, SumNotice) and (request.step, request.round) in session.reserved:
            session.budget.commit(session.manifest.run, request.step, request.round)
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
            PairRequest: lambda session, _: self._make_pairs(session),
            PairNotice: self._accept_pairs,
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
        session = self._sessions.get(run) or self._resumed(run)
        if session is None:
            kept = self._kept(run)
            if kept is not None and kept[0].left:
                raise ProtocolError(f"This node has left the run {kept[0].run}: {kept[0].left}.")
            raise ProtocolError("This node has not joined that run; it must be invited first.")
        return session

    def _kept(self, run: bytes) -> tuple[Pointer, SessionFile] | None:
        """What is on disk of a run; None where it is nothing of this node's contract."""
        kept = (
            kept_file(self.home, self._ledger, run, self._vault())
            if self._settings.sessions
            else None
        )
        return kept if kept is not None and kept[0].contract == self.contract.digest else None

    def _stop(self, run: bytes) -> Ready:
        """Leave a run that was stopped for good: its keys are deleted, and nothing is told of it.

        It asks for less than silence would: a run that was left is never joined again.
        """
        with self._joining:
            session = self._sessions.get(run)
            if session is None:
                self._clear(run)
                return Ready(member=self.member)
        with session.lock:
            if self._sessions.get(run) is session:
                self._log.info("run %s was stopped", session.manifest.run)
                self._leave(session)
        return Ready(member=self.member)

    def _clear(self, run: bytes, why: str = "") -> str:
        """Remove what is on disk of a run that is under way and not in memory; its name.

        What is damaged, or cannot be read, has keys too.
        """
        name, ours = "", self._settings.sessions
        with suppress(TacitError):
            kept = self._kept(run)
            ours = kept is not None and bool(kept[0].state)
            name = "" if kept is None else kept[0].run
        if not ours:
            sweep_run(self.home, self._ledger, run)
            return ""
        leave_run(self.home, self._ledger, run, why)
        return name

    def leave(self, run: bytes, why: str) -> str:
        """Leave a run now, whatever is under way of it; its keys are deleted.

        Args:
            run: The digest of its manifest.
            why: For whoever asks about it later, without a full stop.

        Returns:
            Its name; empty where this node is in no such run, or does not know its name any more.
        """
        with self._joining:
            session = self._sessions.get(run)
            if session is None:
                name = self._clear(run, why)
            else:
                # what is being answered now is told to nobody
                name, session.gone = session.manifest.run, why
                self._leave(session, why=why)
        if name:
            self._log.warning("run %s is left: %s", name, why)
        return name

    def forget(self, before_ms: int) -> tuple[str, ...]:
        """Leave runs that nobody asked anything of since then; their names.

        Args:
            before_ms: Milliseconds since 1970 UTC.
        """
        names: list[str] = []
        for run in kept_runs(self._ledger) if self._settings.sessions else ():
            with suppress(TacitError):
                kept, session = self._kept(run), self._sessions.get(run)
                if kept is None or not kept[0].state or (session and session.lock.locked()):
                    continue
                heard_ms = max(kept[0].heard_ms, session.heard_ms if session else 0)
                if heard_ms < before_ms:
                    names.append(self.leave(run, "nothing was heard of it for a long time"))
        return tuple(name for name in names if name)

    # -- restarts ----------------------------------------------------------------------------

    def knows(self, run: bytes) -> bool:
        """Whether requests of that run are this node's to answer."""
        if run in self._sessions or run in self._finished:
            return True
        try:
            return self._kept(run) is not None
        except NotVerifiedError:
            return True  # it says so where it is asked

    def restore(self) -> tuple[str, ...]:
        """Go on with the runs that were under way when this node was stopped; their names.

        A run that cannot be gone on with is told in the log. Without this, each is gone on with
        when the first request of it comes, and its budget is free for others until then.
        """
        names: list[str] = []
        if self._settings.sessions:
            sweep(self.home, self._ledger)
        for run in kept_runs(self._ledger) if self._settings.sessions else ():
            try:
                session = self._resumed(run)
            except TacitError as fault:
                self._log.warning("a run is not gone on with: %s", fault)
                continue
            except Exception:  # noqa: BLE001 - what there is of it stays, and the others go on
                self._log.exception("a run is not gone on with")
                continue
            if session is not None:
                names.append(session.manifest.run)
        return tuple(names)

    def _has_finished(self, run: bytes) -> bool:
        if run in self._finished:
            return True
        kept = self._kept(run)
        return kept is not None and not kept[0].state and not kept[0].left

    def _keep(self, session: Session) -> None:
        """Have a session on disk, before anything is told that follows from it."""
        if session.file is None:
            return
        session.require_here()
        try:
            session.file.save(*session.keeper.keep(session))
        except BaseException:
            self._forget(session)
            raise

    def _forget(self, session: Session) -> None:
        """Hold a session no more; where it is kept on disk, the next request goes on from there."""
        if session.file is not None:
            with self._lock:
                self._sessions.pop(session.run, None)

    def _resumed(self, run: bytes) -> Session | None:
        """Go on with a run from what is on disk; None where nothing of it is this node's.

        Raises:
            RefusedError: It cannot be gone on with: for now, or, where what is on disk is not what
                it has to be, for ever.
        """
        if not self._settings.sessions:
            return None
        with self._joining:
            found = self._kept(run)
            if run in self._sessions or found is None:
                return self._sessions.get(run)
            pointer, file = found
            if not pointer.state:
                file.sweep()  # what a stop left of it
                return None
            try:
                session = self._taken_up(run, file)
            except (NotVerifiedError, ProtocolError, ValueError, KeyError) as fault:
                if not file.abandon():
                    raise RefusedError(
                        f"This node cannot go on with the run {file.name} yet: another process "
                        "went on with it."
                    ) from None
                self._log.warning("run %s is left: %s", file.name, fault)
                raise ProtocolError(
                    f"This node was restarted and has left the run {file.name}: {_clause(fault)}."
                ) from None
            except InputError as fault:
                raise RefusedError(
                    f"This node was restarted and cannot go on with the run {file.name} yet: "
                    f"{_clause(fault)}."
                ) from None
            if session is not None:
                with self._lock:
                    self._sessions[run] = session
            return session

    def _taken_up(self, run: bytes, file: SessionFile) -> Session | None:
        """Make a session of what is on disk, and compare it with all that the node knows else."""
        settings = self._settings
        kept = read_kept(file.load())
        manifest = Manifest.from_bytes(kept.manifest)
        if (kept.member, manifest.digest(), manifest.run) != (self.member, run, file.name):
            raise NotVerifiedError("what this node kept is of another run")
        self._open_books()
        past = run_past(self._ledger.leaves(), manifest.run)
        if run.hex() not in past.joined:
            file.abandon()  # it stopped before it had joined, and nobody was told
            return None
        spec = parse_node_spec(dict(manifest.node_settings))
        work = Learner(settings.contract, spec, settings.device, plan=manifest.privacy)
        for reason in (
            *keeping_refusals(settings.contract, _today()),
            *place_refusals(settings.terms(), settings.contract),
        ):
            raise NotVerifiedError(_clause(RefusedError(reason)))
        rows = read_usable(settings, self._ledger, spec.fold, self._entropy)
        digest = rows_digest(rows, run=run, home=settings.home, entropy=self._entropy)
        if digest != kept.rows or past.rows not in {"", digest.hex()}:
            raise NotVerifiedError("its rows are not those that the run began with")
        self._note_rows(manifest, digest)
        session = Session(
            manifest=manifest,
            run=run,
            invited=kept.invited,
            launcher=kept.launcher,
            joined=kept.joined,
            minimum=max(kept.minimum, settings.terms().minimum_cohort),
            spec=spec,
            key=ExchangeKey.resumed(kept.key, require_here(manifest.suite)),
            rows=MemberRows(rows.member, work.scaled(rows.train), work.scaled(rows.test)),
            rows_read=digest,
            learner=work,
            budget=self._budget(manifest),
            units_budget=self._units_budget(manifest),
            file=file,
        )
        self._put_back(session, kept, file)
        past.require_known(sealed=session.sealed, settled=session.settled, under_way=kept.step)
        session.reserved = set(past.reserved - past.aborted)
        for name, at in sorted(past.pending & session.settled):
            session.budget.commit(manifest.run, name, at)
        session.budget.promise(manifest.run, session.left_to_spend())
        return session

    def _put_back(self, session: Session, kept: KeptSession, file: SessionFile) -> None:
        """Give a session what was kept of it, and check that it comes to the same step."""
        manifest = session.manifest
        put_back(kept, session, file.part)
        if kept.offers:
            session.roster = admit(
                [KeyOffer.from_bytes(offer) for offer in kept.offers],
                run=session.run,
                directory=manifest.directory_keys(),
                minimum=session.minimum,
                suite=suite_of(manifest.suite),
            )
            self._require_safe(session, session.roster, session.minimum)
        if kept.group is not None and session.roster is not None:
            key = resume_group_key(
                session.roster,
                scheme_of(manifest.protection),
                tag_secret=kept.group.tag_secret,
                carrier=file.part(kept.group.carrier) if kept.group.carrier else b"",
                fingerprint=kept.group.fingerprint,
            )
            self._set_up(session, session.roster, key)
        session.history = kept.history
        if session.common is not None:
            self._make_examples(session)
            if session.architecture != kept.architecture:
                raise NotVerifiedError("another version of tacit makes another network of it")
        if kept.step is not None:
            step = session.plan(*kept.step)
            session.step = step
            context = step.contexts[step.of(self.member)].digest()
            if kept.pending is None or kept.pending.context != context:
                raise NotVerifiedError("another version of tacit writes its vectors otherwise")
            session.agreed.sealer.resume(kept.pending, step.cohorts[step.of(self.member)])

    # -- before the first sum ----------------------------------------------------------------

    def _join(self, request: Invite) -> Joined | Pending:
        run, asked = Manifest.from_bytes(request.manifest).digest(), asked_digest(request)
        session = self._sessions.get(run) or self._resumed(run)
        if session is not None and session.invited == asked:
            return session.joined  # the same words once more; nothing new is agreed to
        # (1) a launcher that this node trusts signed these very bytes
        launcher, key, manifest = self._signed(request)
        self._open_books()
        try:
            # (2) so did a member that has nothing to gain from being fooled
            self._require_countersigned(request, manifest, key)
            return self._agree(manifest, launcher, key, asked)
        except RefusedError as refusal:
            self._note_refusal(manifest, refusal)
            raise

    def _countersign(self, request: CountersignRequest) -> Countersigned | Pending:
        """Sign another member's run, if this node would join it."""
        settings = self._settings
        launcher, key, manifest = self._signed(request)
        # whoever asks everybody asks the launcher's own node too, which refuses nothing by that
        self._require_second(key)
        self._open_books()
        try:
            self._examined(manifest)
            if not self._consented(manifest, launcher):
                return self._pending(manifest)
        except RefusedError as refusal:
            self._note_refusal(manifest, refusal)
            raise
        signature = settings.identity.sign(COUNTERSIGN_DOMAIN, manifest.digest())
        return Countersigned(member=self.member, signature=signature)

    def _require_second(self, launcher: bytes) -> None:
        if launcher == self._settings.identity.public:
            raise RefusedError("A run is countersigned by another member than its launcher.")
        if not self._settings.terms().countersigns:
            raise RefusedError("This node's policy countersigns no runs; ask another member.")

    def _signed(self, request: Invite | CountersignRequest) -> tuple[str, bytes, Manifest]:
        """Who started a run, by name and key, and the run."""
        manifest = Manifest.from_bytes(request.manifest)
        if self._settings.seen is not None:
            # whoever joined a moment ago is known once the acts are looked at that it saw
            self._settings.seen(manifest.acts)
        launcher, key = self._settings.initiator(request.launcher)
        verify_signature(key, SIGNING_DOMAIN, request.manifest, request.signature)
        return launcher, key, manifest

    def _require_countersigned(self, request: Invite, manifest: Manifest, launcher: bytes) -> None:
        if not request.countersigner and not request.countersignature:
            if self._settings.countersigned:
                raise RefusedError(
                    "The run is signed by its launcher alone; let a second member sign it too."
                )
            return
        key = self._settings.members().get(request.countersigner)
        if key is None:
            raise RefusedError("The run is countersigned by nobody whom this node knows.")
        if self._settings.strangers({request.countersigner}):
            raise RefusedError(
                f"The run is countersigned by {request.countersigner}, whom this node's policy "
                "does not recognise; let another member sign it."
            )
        if key == launcher:
            raise RefusedError("A run is countersigned by another member than its launcher.")
        verify_signature(key, COUNTERSIGN_DOMAIN, manifest.digest(), request.countersignature)

    def _consented(self, manifest: Manifest, launcher: str) -> bool:
        """Whether who decides here says yes; it may not have decided yet."""
        consent = self._settings.consent
        return consent is None or consent(manifest, launcher) is Consent.GIVEN

    def _pending(self, manifest: Manifest) -> Pending:
        consent: object = self._settings.consent
        told = consent.reason(manifest) if isinstance(consent, Reasoning) else ""
        return Pending(member=self.member, reason=told or "This node has not decided yet.")

    def _examined(self, manifest: Manifest) -> tuple[NodeSpec, Learner, Budget, list[Receipt]]:
        """Hold a run against all that this node checks by itself; nothing of it is remembered.

        Returns:
            The node's part of it, what learns, what it is charged to, and what it plans to spend.
        """
        settings, policy = self._settings, self._settings.terms()
        if not RUN_NAME.fullmatch(manifest.run):
            raise RefusedError(
                "A run's name has up to 128 letters, digits and .-_ and begins with one of the "
                "first two; choose another."
            )
        self._require_free_name(manifest.run, manifest.digest(), self._ledger.leaves())
        # (3) it names this node with its own key, and nobody whom this node does not know
        self._require_same_membership(manifest)
        directory, known = manifest.directory_keys(), settings.members()
        if directory.get(settings.member) != settings.identity.public:
            raise RefusedError("The run's member list does not hold this node with its own key.")
        for member, public in directory.items():
            if known.get(member) != public:
                raise RefusedError(
                    f"The run names {member} with a key that this node was not told of at its "
                    "enrolment; enrol that member first."
                )
        self._require_recognised(directory)
        # (4) it asks for nothing below this node's terms
        check_manifest(manifest, policy, settings.contract)
        self._require_suite(manifest)
        _require_groups(manifest, len(directory))
        spec = parse_node_spec(dict(manifest.node_settings))
        require_class_floor(
            manifest,
            spec,
            policy,
            settings.contract,
            today=_today(),
            own_machine=settings.own_machine,
        )
        # (5) its noise covers what this node's rows could show, and the budget holds all of it
        work = Learner(settings.contract, spec, settings.device, plan=manifest.privacy)
        if manifest.privacy is not None:
            _require_covered(work, spec, manifest.privacy)
        budget = self._budget(manifest)
        planned = manifest.planned_receipts(stages=work.stages, rounds=spec.training.rounds)
        budget.check(planned)
        # (6) its releases will be on record in the ledger that this node follows
        self._books().check(manifest.log, allowed=policy.ledgers)
        return spec, work, budget, planned

    def _agree(
        self, manifest: Manifest, launcher: str, launcher_key: bytes, asked: bytes
    ) -> Joined | Pending:
        settings, run = self._settings, manifest.digest()
        spec, work, budget, planned = self._examined(manifest)
        # (7) who decides here says yes; until then nothing is remembered, and nothing spent
        if not self._consented(manifest, launcher):
            return self._pending(manifest)
        self._books().trust(manifest.log, allowed=settings.terms().ledgers)
        rows = read_usable(settings, self._ledger, spec.fold, self._entropy)
        digest = rows_digest(rows, run=run, home=settings.home, entropy=self._entropy)
        # (8) it is new here, also after a restart: one run, one set of keys, one answer a sum
        self._require_new(manifest, run)
        key, offer = offer_key(
            self._signing.voice(manifest.suite),
            settings.member,
            run=run,
            directory=manifest.directory_keys(),
            entropy=self._entropy,
            suite=suite_of(manifest.suite),
        )
        if manifest.privacy is not None and manifest.privacy.parts == "apart":
            _require_apart(settings.contract, rows)
        joined = Joined(
            member=settings.member,
            offer=offer.to_bytes(),
            consent=settings.identity.sign(CONSENT_DOMAIN, run),
        )
        session = Session(
            manifest=manifest,
            run=run,
            invited=asked,
            launcher=launcher_key,
            joined=joined,
            minimum=max(manifest.minimum_cohort, settings.terms().minimum_cohort),
            spec=spec,
            key=key,
            rows=MemberRows(rows.member, work.scaled(rows.train), work.scaled(rows.test)),
            rows_read=digest,
            learner=work,
            budget=budget,
            units_budget=self._units_budget(manifest),
            file=self._file(manifest, run),
        )
        # what stops here has joined nothing, and is forgotten
        try:
            self._keep(session)
        except TacitError:
            if session.file is not None:
                session.file.sweep()  # its keys; not those of another process over this folder
            raise
        try:
            self._remember(manifest, run)
            self._note_rows(manifest, digest)
        except TacitError:
            if session.file is not None:
                session.file.leave()
            raise
        budget.promise(manifest.run, planned)
        with self._lock:
            self._sessions[run] = session
        return joined

    def _file(self, manifest: Manifest, run: bytes) -> SessionFile | None:
        if not self._settings.sessions:
            return None
        return SessionFile(
            home=self.home,
            ledger=self._ledger,
            run=run,
            name=manifest.run,
            contract=manifest.contract,
            vault=self._vault(),
        )

    def _vault(self) -> Vault | None:
        return folder_vault(self.home, highest_class(self.contract), self._entropy)

    def _model_vault(self, session: Session) -> Vault | None:
        """What seals what came of a run: it is exact, and of confidential columns; else None."""
        return None if session.manifest.privacy is not None else self._vault()

    def _require_new(self, manifest: Manifest, run: bytes) -> None:
        try:
            with self._ledger.turn(durable=False) as turn:
                self._require_not_joined(turn, self._joining_act(manifest, run))
        except InputError:
            raise RefusedError(
                "This node cannot use its own folder, and so joins no run."
            ) from None

    def _joining_act(self, manifest: Manifest, run: bytes) -> dict[str, str]:
        return {
            "run": manifest.run,
            "manifest": run.hex(),
            "origin": manifest.ledger["origin"],
        }

    def _require_not_joined(self, turn: Turn, body: Mapping[str, object]) -> None:
        key = key_of("run.joined", body)
        if key is not None and turn.find(key) is not None:
            raise ProtocolError("This node has joined that run already; launch a new one.")

    def _require_free_name(self, run: str, digest: bytes, leaves: Iterable[bytes]) -> None:
        """Return if no other run of that name was joined: its model would be written over."""
        if run_past(leaves, run).joined - {digest.hex()}:
            raise RefusedError(
                f"This node joined another run {run} before; launch this one under another name."
            )

    def _open_books(self) -> None:
        """Begin this node's own ledger, and its memory of the coordinator's, where they are new."""
        settings = self._settings
        with self._lock:
            if self._watch is not None:
                return
            if (settings.home / EARLIER).exists() and not (settings.home / LEDGER).exists():
                raise RefusedError(
                    f"This node has a budget of an earlier version in {EARLIER}, which would not "
                    "count any more; where it need not, move it away."
                )
            try:
                settings.home.mkdir(parents=True, exist_ok=True)
                begin_ledger(
                    self._ledger,
                    settings.identity,
                    owner=self.member,
                    role="node",
                    time_ms=_now_ms(),
                )
            except (OSError, InputError):
                raise RefusedError("This node cannot write its own folder.") from None
            self._watch = LedgerWatch(
                self._ledger, member=self.member, identity=settings.identity, now_ms=_now_ms
            )

    def _books(self) -> LedgerWatch:
        settings = self._settings
        if self._watch is None and settings.sessions and (settings.home / LEDGER).exists():
            self._open_books()  # a restart forgets nothing then
        if self._watch is None:
            raise ProtocolError("This node has joined no run yet.")
        return self._watch

    def _note_refusal(self, manifest: Manifest, refusal: RefusedError) -> None:
        """Keep the first reason why a run was refused; a disk that is full hides no refusal."""
        words = in_one_line(str(refusal)).split()
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
        """What was spent of this data, for whom the run protects, under the terms as they are.

        Raises:
            RefusedError: The run protects whole organisations where this node's policy caps what
                is told of the contract's unit: how much of that it costs is not known.
        """
        settings, policy = self._settings, self._settings.terms()
        own = settings.contract.unit
        unit = own if manifest.privacy is None else manifest.privacy.unit

        def terms(name: str) -> BudgetTerms:
            return budget_terms(
                policy, member=self.member, dataset=settings.contract.name, unit=name
            )

        capped = terms(own).epsilon is not None or terms(own).solo_epsilon is not None
        if unit != own and capped:
            raise RefusedError(
                f"This node caps what is told of a {own}, and the run protects an {unit}; "
                "set privacy.unit: contract."
            )
        with self._lock:
            held = self._budgets.get(unit)
            if held is None or held[0] != terms(unit):
                made = Budget(self._ledger, terms(unit), now_ms=_now_ms)
                self._budgets[unit] = held = terms(unit), made
                # runs under way go on under the new terms
                for session in self._sessions.values():
                    plan = session.manifest.privacy
                    if (own if plan is None else plan.unit) == unit:
                        session.budget = made
                        made.promise(session.manifest.run, session.left_to_spend())
            return held[1]

    def _units_budget(self, manifest: Manifest) -> Budget | None:
        """The budget of the contract's unit, where the run protects whole organisations."""
        plan = manifest.privacy
        if plan is None or plan.unit == self._settings.contract.unit:
            return None
        return self._budget(replace(manifest, privacy=None))

    def _remember(self, manifest: Manifest, run: bytes) -> None:
        body = self._joining_act(manifest, run)
        try:
            with self._ledger.turn() as turn:
                self._require_not_joined(turn, body)
                self._require_free_name(manifest.run, run, turn.leaves(0))
                turn.append("run.joined", body, time_ms=_now_ms())
        except InputError:
            raise RefusedError(
                "This node cannot write its own folder, and so joins no run."
            ) from None

    def _accept_roster(self, session: Session, request: RosterNotice) -> Ready | KeyMade:
        if session.roster is not None:
            raise ProtocolError("The members' keys of a run are agreed on once.")
        manifest = session.manifest
        minimum = max(session.minimum, self._settings.terms().minimum_cohort)
        roster = admit(
            [KeyOffer.from_bytes(offer) for offer in request.offers],
            run=session.run,
            directory=manifest.directory_keys(),
            minimum=minimum,
            suite=suite_of(manifest.suite),
        )
        self._require_safe(session, roster, minimum)
        self._require_still_members(session, roster, minimum)
        with self._lock:
            self._signing.require_known(roster)
        session.roster, session.minimum = roster, minimum
        if maker_of(roster) != self.member:
            return Ready(member=self.member)
        key, envelopes = make_group_key(
            self.member,
            self._signing.voice(manifest.suite),
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

    def _require_still_members(self, session: Session, roster: Roster, minimum: int) -> None:
        """Look once more at whom the run is with, before anything of this node's rows is told.

        Raises:
            RefusedError: Somebody was revoked or has another key since this node joined, or too few
                of them are recognised.
        """
        settings = self._settings
        settings.initiator(session.launcher)
        known = settings.members()
        for member in roster.members:
            if known.get(member) != roster.directory[member]:
                raise RefusedError(
                    f"{member} takes part in the federation no more, or with another key; launch "
                    "the run again."
                )
        groups = groups_of(roster, session.manifest.group_size)
        for members in (roster.members, *(one for one in groups if self.member in one)):
            if not settings.strangers(members):
                continue
            self._require_recognised(members)
            cohort = Cohort(roster, members, minimum)
            strangers = settings.strangers(cohort.holders(self.member))
            if len(strangers) >= cohort.threshold(self.member):
                raise RefusedError(
                    f"{len(strangers)} members whom this node's policy does not recognise could "
                    "open a sum among themselves; launch the run with fewer of them."
                )

    def _require_recognised(self, members: Collection[str]) -> None:
        settings = self._settings
        least = settings.terms().minimum_cohort
        strangers = settings.strangers(members)
        found = len(members) - len(strangers)
        if strangers and found < least:
            raise RefusedError(
                f"This node's policy recognises {found} of the run's {len(members)} members, and "
                f"wants at least {least}; launch it with more of those."
            )

    def _require_same_membership(self, manifest: Manifest) -> None:
        """Return if the launcher saw the acts of membership that this node sees.

        Raises:
            RefusedError: It does not say, or saw others: somebody shows two federations.
        """
        seen = self._settings.seen
        if seen is None:
            return
        if not manifest.membership:
            raise RefusedError(
                "The run does not say which acts of membership its launcher saw; update tacit at "
                "the launcher, and launch it again."
            )
        if seen(manifest.acts) != manifest.membership:
            raise RefusedError(
                "The launcher of this run sees another membership of the federation than this "
                "node; compare tacit federation members on both machines."
            )

    def _require_suite(self, manifest: Manifest) -> None:
        """Return if the run uses the federation's algorithms, and this machine has them.

        Raises:
            RefusedError: It uses others, weaker perhaps, or they are not here.
        """
        suite = self._settings.suite
        if suite is not None and suite() != manifest.suite:
            raise RefusedError(
                f"The run uses the suite {manifest.suite} and the federation's founder signed "
                f"{suite()}; launch it with that."
            )
        require_here(manifest.suite)

    def _require_safe(self, session: Session, roster: Roster, minimum: int) -> None:
        """Return if those who agreed, perhaps not all who were asked, are enough to hide among.

        Raises:
            CohortError: They are too few for what the run promises.
            ProtocolError: This node is not among them, or with another key than it offered.
        """
        manifest, members = session.manifest, len(roster.members)
        if self.member not in roster.members or (
            roster.exchange_of(self.member) != session.key.public
        ):
            raise ProtocolError("The run's keys do not hold the one that this node offered.")
        if members < _fewest_members(manifest):
            raise CohortError(
                f"The run's manifest asks for {_fewest_members(manifest)} members at least, and "
                f"{members} are shown; launch it again."
            )
        _require_groups(manifest, members)
        if manifest.privacy is not None:
            most = max(manifest.privacy.colluders, self._settings.terms().colluders)
            require_holding(members, minimum, most)

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

    def _make_pairs(self, session: Session) -> PairsMade:
        setup, peers = session.agreed, self._pair_peers(session)
        if session.pair_keys:
            raise ProtocolError("The secrets of a run's pairs are made once.")
        voice = self._signing.voice(session.manifest.suite)
        secrets, envelopes = seal_pairs(self.member, voice, setup.roster, peers, self._entropy)
        session.pair_keys.update(secrets)
        return PairsMade(
            member=self.member,
            keys={peer: SealedKey(one.secret, one.signature) for peer, one in envelopes.items()},
        )

    def _accept_pairs(self, session: Session, request: PairNotice) -> Ready:
        setup, peers = session.agreed, self._pair_peers(session)
        made = {peer for peer in peers if self.member < peer}
        if session.sealed or set(session.pair_keys) != made:
            raise ProtocolError("The secrets of a run's pairs are opened once, after its own.")
        envelopes = {
            peer: PairEnvelope(one.secret, one.signature) for peer, one in request.keys.items()
        }
        opened = open_pairs(self.member, session.key, setup.roster, peers, envelopes)
        session.pair_keys.update(opened)
        # nothing was sealed yet: without them it would have been refused
        self._set_up(session, setup.roster, setup.key)
        return Ready(member=self.member)

    def _pair_peers(self, session: Session) -> frozenset[str]:
        setup = session.agreed
        if not pairs_due(setup.roster, masked=setup.scheme.masked):
            raise ProtocolError("This run's pairs of members send each other no secrets.")
        return neighbours_of(self.member, (setup.everyone, *setup.groups))

    def _set_up(self, session: Session, roster: Roster, key: GroupKey) -> None:
        scheme = scheme_of(session.manifest.protection)
        minimum = session.minimum
        sealer = Sealer(
            self.member,
            self._signing.voice(session.manifest.suite),
            session.key,
            roster,
            scheme=scheme.name,
            wrap=key.carrier.wrap,
            masked=scheme.masked,
            entropy=self._entropy,
            shared=key.tag_secret,
            pair_keys=session.pair_keys,
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
                everyone.roster.require_signed(member, ACCEPTED_DOMAIN, session.history, signature)
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
            raise ProtocolError(SEALED_BEFORE)
        with self._lock:  # what is left to spend of all runs is read there
            session.sealed.add((step.name, step.round))
        if step.name == STATISTICS:
            values = session.next_tally()
        elif step.name == UPDATE:
            values = self._trained(session, step.round)
        else:
            values = self._evaluated(session, step)
        values = self._covered(session, step, values)
        # that it is sealed here is on disk before it costs anything, and so before it can leave
        self._keep(session)
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
        # under the terms as they are now, not as they were when the run began
        session.budget = self._budget(session.manifest)
        session.units_budget = self._units_budget(session.manifest)
        if session.units_budget is not None:
            # what it tells of single units is not bounded, and a later cap has to know
            plain = replace(session.manifest, privacy=None)
            exact = plain.receipt(step.name, step.round, step.length)
            session.units_budget.reserve(f"{run}{UNITS}", step.name, step.round, exact)
        token = session.budget.reserve(run, step.name, step.round, receipt)
        session.reserved.add((step.name, step.round))
        return token

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
            session.reserved.discard((step.name, step.round))
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
            signature=self._signing.voice(session.manifest.suite).sign(
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

    def _vote(self, session: Session, request: SurvivorsNotice) -> Voted | Cosigned:
        step, cohort = self._under_way(session, request.context)
        cohort.require_survivors(request.survivors)
        self._require_recognised(request.survivors)
        session.require_no_difference(step, cohort, request.context, request.survivors)
        self._require_on_record(session, step, request)
        session.agreed.sealer.require_vote(request.context, request.survivors)
        try:
            cosignature = self._cosign(request.record.state)
        except StaleError as fault:
            # it may have cosigned for another run meanwhile; from there it is to be shown
            return Cosigned(member=self.member, witnessed=fault.size, cosignature=None)
        session.records[request.context] = request.record
        # from here on the sum may be opened, whatever the coordinator says became of it
        session.note_signed(step, cohort, request.context, request.survivors)
        vote = session.agreed.sealer.vote(request.context, request.survivors)
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
        if request.rotations and not self._follows(request.origin):
            # whoever follows nothing need not be shown how that changed
            return Cosigned(member=self.member, witnessed=0, cosignature=None)
        watch = self._books()
        try:
            cosignature: bytes | None = watch.cosign(
                request.state, time_s=int(time.time()), rotations=request.rotations
            )
        except StaleError:
            cosignature = None
        except NotVerifiedError as fault:
            self._log.warning("the coordinator's ledger was not cosigned: %s", fault)
            raise
        return Cosigned(
            member=self.member, witnessed=watch.seen(request.origin), cosignature=cosignature
        )

    def _follows(self, origin: str) -> bool:
        if self._watch is None and (self._settings.home / LEDGER).exists():
            self._open_books()
        return self._watch is not None and self._watch.follows(origin)

    def _cosign(self, state: SignedState) -> bytes:
        """Cosign the ledger of a run.

        Raises:
            StaleError: The proof begins at another size than this node remembers.
            ProtocolError: It does not follow on what this node remembers.
        """
        try:
            return self._books().cosign(state, time_s=int(time.time()), again=True)
        except StaleError:
            raise
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
        self._keep(session)
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
        return Accepted(
            member=self.member,
            history=session.history,
            model=session.model_digest,
            kept=kept,
            signature=self._signing.voice(session.manifest.suite).sign(
                ACCEPTED_DOMAIN, session.history
            ),
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
            if step.name != WATCH and self._model_vault(session) is None:
                # a model's card computes intervals from it, and anybody the metrics again
                record |= {"sum": total.tolist(), "noise": noise}
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
            return common_model.after_round(
                session.model, mean, spec, scheduled=True, hold=session.learner.hold
            )
        mean = common_model.mean_change(sums, spec, step.layout, len(step.cohorts))
        return common_model.after_round(session.model, mean, spec, hold=session.learner.hold)

    def _expected_units(self, session: Session, plan: PrivacyPlan) -> float:
        """Units in a step, by the federation's noisy count: of all members, or of one."""
        members = len(session.agreed.roster.members)
        units = float(members)
        if plan.unit != ORGANISATION:
            units = max(session.learner.overview(session.released).units, float(members))
        return plan.rate * (units if is_distributed(plan) else units / members)

    def _write_down(self, session: Session, record: Mapping[str, object]) -> None:
        """Keep what was opened, for this member's own people; it is in no other's hands."""
        line, path = json.dumps(record) + "\n", self._folder(session) / "sums.jsonl"
        try:
            # a node that stopped after this line and before it was kept has it already
            if session.file is None or not path.exists() or line not in path.read_text("utf-8"):
                append_whole(path, line.encode())
        except OSError:
            raise RefusedError(
                "This node cannot write down what was opened; make room in its folder."
            ) from None

    def _folder(self, session: Session) -> Path:
        folder = self._settings.home / "runs" / session.manifest.run
        make_folder(folder)
        return folder

    def _start_model(self, session: Session) -> None:
        """Make the initial model, once: the statistics and the run's seed fix it for all."""
        if session.common is not None:
            return
        if len(session.released) != session.learner.stages:
            raise ProtocolError("The model is asked for after the statistics.")
        self._make_examples(session)
        session.common = common_model.start(to_vector(session.learner.network))

    def _make_examples(self, session: Session) -> None:
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
        with _RANDOM:
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
            with _RANDOM:
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
        values = work.evaluation(test)
        if step.name == TEST and session.spec.explain:
            # of the common model; this member's own is kept nowhere, not even here
            leans = work.importance(session.rows.test, session.released)
            values = np.concatenate([values, leans])
        return values

    def _personalise(self, session: Session) -> None:
        """Fine-tune in place, and undo it where the member's own validation does not gain."""
        personal = session.spec.personal
        if personal is None:
            raise ProtocolError("The run's manifest has no personalisation.")
        work = session.learner
        watching = _examples(session.watching)
        before = to_vector(work.network)
        general = work.loss(watching)
        with _RANDOM:
            fine_tune(
                work.network,
                _examples(session.training),
                work.target,
                personal,
                batch_rows=session.spec.training.batch_rows,
                seed=local_seed(session.spec.seed, self.member, 0),
            )
        work.hold_network()
        if not work.loss(watching) < general:
            from_vector(work.network, before)

    def _finish(self, session: Session) -> Ready:
        if session.round != session.spec.training.rounds:
            raise ProtocolError("The run is finished before its last round.")
        model, folder = session.model.average, self._folder(session)
        written = model_bytes(model, session.released, session.manifest, session.architecture)
        report = {
            "run": session.manifest.run,
            "member": self.member,
            "model": vector_digest(model).hex(),
            # of the model as it is: who registers it needs no key of the vault
            "file": hashlib.sha256(written).hexdigest(),
            "rounds_undone": session.model.undone,
            "training_rows": len(_examples(session.training)),
            "test_rows": len(_examples(session.test)),
            "own_metrics": session.own,
        }
        try:
            vault = self._model_vault(session)
            if vault is not None:
                written = vault.seal(MODEL_KIND, session.manifest.run, written)
            write_whole(folder / "model.safetensors", written)
            write_whole(folder / "report.json", json.dumps(report, indent=1).encode())
        except OSError:
            raise RefusedError(
                "This node cannot write the model; make room in its folder."
            ) from None
        except InputError as failure:
            raise RefusedError(f"This node cannot keep the model: {failure}") from None
        self._finished.add(session.run)
        self._leave(session, finished=True)
        return Ready(member=self.member)

    def _leave(self, session: Session, *, finished: bool = False, why: str = "") -> None:
        """Nothing more of this run is told; what it did not spend is free for others."""
        if session.file is not None:
            if finished:
                session.file.finish()
            else:
                session.file.leave(why)
        session.budget.forget(session.manifest.run)
        with self._lock:
            self._sessions.pop(session.run, None)


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


def _require_groups(manifest: Manifest, members: int) -> None:
    """Return if so many members make enough groups, where sums are in groups.

    Raises:
        RefusedError: They do not.
    """
    if manifest.group_size and members < SMALLEST_GROUPED:
        raise RefusedError(
            f"Sums in groups need {SMALLEST_GROUPED} members and this run has {members}; "
            "set protection.robust: none."
        )


def _fewest_members(manifest: Manifest) -> int:
    """How many have to take part, as the launcher signed it; all of them where nothing is said."""
    least = manifest.coordinator_settings.get("min_members")
    return least if type(least) is int else len(manifest.directory)


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


def _today() -> date:
    return datetime.now(UTC).date()


def _clause(fault: Exception) -> str:
    return str(fault).rstrip(".")


def _votes(signatures: Mapping[str, bytes]) -> list[Vote]:
    return [Vote(member, signature) for member, signature in signatures.items()]


def _require_bare(payload: bytes) -> None:
    if payload:
        raise ProtocolError("A payload came with a request that has none.")


def _examples(examples: Examples | None) -> Examples:
    if examples is None:
        raise ProtocolError("The model is used before it was agreed on.")
    return examples
