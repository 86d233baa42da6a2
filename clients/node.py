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
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients import admission, learning, one_sum, run_keys
from clients.class_floor import has_noise, keeping_refusals, place_refusals
from clients.contract import DataContract
from clients.durable_file import append_whole, make_folder, write_whole
from clients.installation import Installation
from clients.kept_session import KeptSession, put_back, read_kept
from clients.learner import Learner
from clients.ledger_files import LEDGER
from clients.ledger_watch import StaleError
from clients.members import MemberRows
from clients.model_file import MODEL_KIND, model_bytes
from clients.node_books import REASON_CHARACTERS_MAX, NodeBooks, now_ms
from clients.node_settings import NodeSettings
from clients.policy import highest_class
from clients.rows_digest import rows_digest
from clients.run_past import run_past
from clients.session import Session, Step, asked_digest
from clients.session_file import (
    Pointer,
    SessionFile,
    kept_file,
    kept_runs,
    leave_run,
    sweep,
    sweep_run,
)
from clients.signing_keys import SigningKeys
from clients.spec import parse_node_spec
from clients.usable_rows import read_usable
from clients.vault import Vault
from clients.vault_folder import folder_vault
from privacy.errors import (
    InputError,
    NotVerifiedError,
    OwnFileError,
    ProtocolError,
    RefusedError,
    TacitError,
    said_to_others,
)
from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.ledger.grammar import CONSENT_DOMAIN
from privacy.ledger.head import HEAD_DOMAIN, head_message
from privacy.ledger.sqlite import SqliteLedger
from privacy.manifest import COUNTERSIGN_DOMAIN, Manifest
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
    KeyNotice,
    PairNotice,
    PairRequest,
    Pending,
    Ready,
    ReleaseRequest,
    Reply,
    Request,
    RevealRequest,
    RosterNotice,
    Sealed,
    StateNotice,
    StatisticsRequest,
    StopNotice,
    SumNotice,
    SurvivorsNotice,
    TrainRequest,
    Voted,
    pack,
    vector_digest,
)
from privacy.plan import noise_at_sealing
from privacy.randomness import Entropy, system_bytes
from privacy.release import ReleaseToken
from privacy.secure_sum.group_key import (
    resume_group_key,
)
from privacy.secure_sum.keys import ExchangeKey, KeyOffer, admit, offer_key
from privacy.secure_sum.schemes import scheme_of
from privacy.secure_sum.tag import append_tag, tag_key
from privacy.suites import require_here, suite_of
from privacy.sum_context import (
    ACCEPTED_DOMAIN,
    extend_history,
    payload_digest,
)

Floats = NDArray[np.float64]
_TELLING = (
    StatisticsRequest
    | TrainRequest
    | EvaluateRequest
    | SurvivorsNotice
    | ReleaseRequest
    | RevealRequest
)
"""Whoever answers these tells something of its rows, or helps to open it."""
UNITS = " (units)"
"""After a run's name: what it tells of single units, where it protects whole organisations.

No run's own name ends so (`RUN_NAME`)."""


class Node:
    """One installation; see the module."""

    def __init__(self, settings: NodeSettings, *, entropy: Entropy = system_bytes) -> None:
        self._settings = settings
        self._entropy = entropy
        self._sessions: dict[bytes, Session] = {}
        self._finished: set[bytes] = set()
        self._ledger = SqliteLedger(settings.home / LEDGER)
        # of what all runs share; taken last, and never while another is waited for
        self._lock = threading.RLock()
        # one run is joined at a time, so that each sees what the others were promised
        self._joining = threading.RLock()
        self._log = logging.getLogger(f"tacit.node.{settings.member}")
        self._signing = SigningKeys(settings.home, settings.identity, self._ledger, entropy)
        self._books = NodeBooks(
            settings,
            self._ledger,
            lock=self._lock,
            sessions=self._sessions.values,
            log=self._log,
        )
        self._here = Installation(
            settings=settings, signing=self._signing, entropy=entropy, lock=self._lock
        )

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
            return self._books.witness(request), b""
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
                    session.heard_ms = now_ms()
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
        if not isinstance(reply, InitialModel):  # the same in whatever words it is asked for
            session.answered[asked] = (reply, answer)
        self._keep(session)
        if isinstance(request, SumNotice) and (request.step, request.round) in session.reserved:
            session.budget.commit(session.manifest.run, request.step, request.round)
        return reply, answer

    def _answer(self, session: Session, request: Request, payload: bytes) -> tuple[Reply, bytes]:
        if isinstance(request, SumNotice):
            return self._accept(session, request, payload), b""
        _require_bare(payload)
        if isinstance(request, _TELLING):
            self._require_launcher(session)
        if isinstance(request, Asked):
            one_sum.confirm(session, self.member, request.accepted)
        if isinstance(request, StatisticsRequest | TrainRequest | EvaluateRequest):
            return self._contribute(session, request)
        return self._answer_plainly(session, request), b""

    def _answer_plainly(self, session: Session, request: Request) -> Reply:
        answers: dict[type, Callable[..., Reply]] = {
            RosterNotice: partial(run_keys.accept_roster, self._here),
            KeyNotice: partial(run_keys.accept_key, self._here),
            PairRequest: lambda session, _: run_keys.make_pairs(self._here, session),
            PairNotice: partial(run_keys.accept_pairs, self._here),
            InitialModelRequest: lambda session, _: learning.initial_model(session, self.member),
            SurvivorsNotice: self._vote,
            ReleaseRequest: lambda session, asked: one_sum.release(session, self.member, asked),
            RevealRequest: lambda session, asked: one_sum.reveal(session, self.member, asked),
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
                    f"This node was restarted and has left the run {file.name}: "
                    f"{_clause_for_others(fault)}."
                ) from None
            except InputError as fault:
                self._log.warning("run %s is not gone on with yet: %s", file.name, fault)
                raise RefusedError(
                    f"This node was restarted and cannot go on with the run {file.name} yet: "
                    f"{_clause_for_others(fault)}."
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
        self._books.open()
        past = run_past(self._ledger.leaves(), manifest.run)
        if run.hex() not in past.joined:
            file.abandon()  # it stopped before it had joined, and nobody was told
            return None
        spec = parse_node_spec(dict(manifest.node_settings))
        work = Learner(settings.contract, spec, settings.device, plan=manifest.privacy)
        for reason in (
            *keeping_refusals(settings.contract, admission.today()),
            *place_refusals(settings.terms(), settings.contract),
        ):
            raise NotVerifiedError(_clause(RefusedError(reason)))
        rows = read_usable(settings, self._ledger, spec.fold, self._entropy)
        digest = rows_digest(rows, run=run, home=settings.home, entropy=self._entropy)
        if digest != kept.rows or past.rows not in {"", digest.hex()}:
            raise NotVerifiedError("its rows are not those that the run began with")
        self._books.note_rows(manifest, digest)
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
            budget=self._books.budget(manifest),
            units_budget=self._books.units_budget(manifest),
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
            admission.require_safe(self._settings, session, session.roster, session.minimum)
        if kept.group is not None and session.roster is not None:
            key = resume_group_key(
                session.roster,
                scheme_of(manifest.protection),
                tag_secret=kept.group.tag_secret,
                carrier=file.part(kept.group.carrier) if kept.group.carrier else b"",
                fingerprint=kept.group.fingerprint,
            )
            run_keys.set_up(self._here, session, session.roster, key)
        session.history = kept.history
        if session.common is not None:
            learning.make_examples(session)
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
        launcher, key, manifest = admission.signed(self._settings, request)
        self._books.open()
        try:
            # (2) so did a member that has nothing to gain from being fooled
            admission.require_countersigned(self._settings, request, manifest, key)
            return self._agree(manifest, launcher, key, asked)
        except RefusedError as refusal:
            self._books.note_refusal(manifest, refusal)
            raise

    def _countersign(self, request: CountersignRequest) -> Countersigned | Pending:
        """Sign another member's run, if this node would join it."""
        settings = self._settings
        launcher, key, manifest = admission.signed(settings, request)
        # whoever asks everybody asks the launcher's own node too, which refuses nothing by that
        admission.require_second(settings, key)
        self._books.open()
        try:
            admission.examined(settings, self._books, manifest)
            if not admission.consented(settings, manifest, launcher):
                return admission.pending(settings, manifest)
        except RefusedError as refusal:
            self._books.note_refusal(manifest, refusal)
            raise
        signature = settings.identity.sign(COUNTERSIGN_DOMAIN, manifest.digest())
        return Countersigned(member=self.member, signature=signature)

    def _agree(
        self, manifest: Manifest, launcher: str, launcher_key: bytes, asked: bytes
    ) -> Joined | Pending:
        settings, run = self._settings, manifest.digest()
        spec, work, budget, planned = admission.examined(settings, self._books, manifest)
        # (7) who decides here says yes; until then nothing is remembered, and nothing spent
        if not admission.consented(settings, manifest, launcher):
            return admission.pending(settings, manifest)
        self._books.watch().trust(manifest.log, allowed=settings.terms().ledgers)
        rows = read_usable(settings, self._ledger, spec.fold, self._entropy)
        digest = rows_digest(rows, run=run, home=settings.home, entropy=self._entropy)
        # (8) it is new here, also after a restart: one run, one set of keys, one answer a sum
        self._books.require_new(manifest, run)
        key, offer = offer_key(
            self._signing.voice(manifest.suite),
            settings.member,
            run=run,
            directory=manifest.directory_keys(),
            entropy=self._entropy,
            suite=suite_of(manifest.suite),
        )
        if manifest.privacy is not None and manifest.privacy.parts == "apart":
            admission.require_apart(settings.contract, rows)
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
            units_budget=self._books.units_budget(manifest),
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
            self._books.remember(manifest, run)
            self._books.note_rows(manifest, digest)
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
        """What seals what came of a run without noise worth the name, of confidential columns."""
        terms = self._settings.terms()
        return None if has_noise(session.manifest, session.spec, terms) else self._vault()

    # -- one sum -----------------------------------------------------------------------------

    def _contribute(
        self, session: Session, request: StatisticsRequest | TrainRequest | EvaluateRequest
    ) -> tuple[Sealed, bytes]:
        if isinstance(request, StatisticsRequest):
            step = session.plan(STATISTICS, request.stage)
        elif isinstance(request, TrainRequest):
            learning.start_model(session)
            step = session.plan(UPDATE, request.round)
        else:
            step = session.plan(f"evaluate {request.part}", request.round)
        if (step.name, step.round) in session.sealed:
            raise ProtocolError(SEALED_BEFORE)
        # before it is noted as sealed: what could not be sealed for want of them may come again
        cohort = step.cohorts[step.of(self.member)]
        admission.require_enough_left(self._settings, cohort)
        session.agreed.sealer.require_pairs(cohort)
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

    def _trained(self, session: Session, round_index: int) -> Floats:
        return learning.trained(session, self.member, round_index, self._entropy)

    def _evaluated(self, session: Session, step: Step) -> Floats:
        return learning.evaluated(session, self.member, step)

    def _opened(
        self, session: Session, step: Step, shown: list[one_sum.Shown]
    ) -> list[tuple[Floats, int]]:
        return one_sum.opened(session, step, shown, self._log)

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
        session.budget = self._books.budget(session.manifest)
        session.units_budget = self._books.units_budget(session.manifest)
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
            reason = f"It was not sealed: {fault}"[:REASON_CHARACTERS_MAX]
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
            witnessed=self._books.watch().seen(session.manifest.ledger["origin"]),
        )
        return reply, sealed.payload

    def _vote(self, session: Session, request: SurvivorsNotice) -> Voted | Cosigned:
        step, cohort = one_sum.under_way(session, self.member, request.context)
        cohort.require_survivors(request.survivors)
        admission.require_recognised(self._settings, request.survivors)
        admission.require_none_left(self._settings, cohort.roster, request.survivors)
        session.require_no_difference(step, cohort, request.context, request.survivors)
        one_sum.require_shown(session, self.member, self._settings.identity, step, request)
        session.agreed.sealer.require_vote(request.context, request.survivors)
        try:
            cosignature = self._books.cosign(request.record.state)
        except StaleError as fault:
            # it may have cosigned for another run meanwhile; from there it is to be shown
            return Cosigned(member=self.member, witnessed=fault.size, cosignature=None)
        session.records[request.context] = request.record
        # from here on the sum may be opened, whatever the coordinator says became of it
        session.note_signed(step, cohort, request.context, request.survivors)
        vote = session.agreed.sealer.vote(request.context, request.survivors)
        return Voted(member=self.member, signature=vote.signature, cosignature=cosignature)

    def _accept(self, session: Session, notice: SumNotice, payload: bytes) -> Accepted:
        """Check a step's sums, and take what follows from them. Nothing changes before it holds."""
        if notice.step == UPDATE:
            learning.start_model(session)
        step = session.plan(notice.step, notice.round)
        if len(notice.parts) != len(step.cohorts):
            raise ProtocolError("A step's sums are shown all at once, one for each group.")
        if sum(part.length for part in notice.parts) != len(payload):
            raise ProtocolError("The sums' payload has another length than was announced.")
        shown = one_sum.pieces(notice, step, payload)
        aggregates = [payload_digest(piece) for *_, piece in shown]
        for one in shown:
            one_sum.require_signed(session, self.member, step, one)
        # the notice tells the pieces' lengths, so this binds the whole payload
        session.require_one_try(step, payload_digest(pack(notice).message + b"".join(aggregates)))
        self._keep(session)
        try:
            sums = self._opened(session, step, shown)
            kept = learning.follow(
                session,
                step,
                sums,
                exact=self._model_vault(session) is None,
                write=partial(self._write_down, session),
            )
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

    def _require_launcher(self, session: Session) -> None:
        """Return if who launched a run takes part still; otherwise the run is over at this node.

        What was opened by then is accepted, and the model written: that tells nothing of rows.

        Raises:
            ProtocolError: The launcher was revoked; this node has left the run.
        """
        if self._settings.gone({"launcher": session.launcher}):
            session.gone = "whoever launched it takes part in the federation no more"
            self._log.warning("run %s is left: %s", session.manifest.run, session.gone)
            self._leave(session, why=session.gone)
        session.require_here()

    # -- learning ----------------------------------------------------------------------------

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
            "training_rows": len(learning.examples_of(session.training)),
            "test_rows": len(learning.examples_of(session.test)),
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
            raise OwnFileError(f"This node cannot keep the model: {failure}") from None
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


def _clause(fault: Exception) -> str:
    return str(fault).rstrip(".")


def _clause_for_others(fault: Exception) -> str:
    return said_to_others(fault).rstrip(".")


def _require_bare(payload: bytes) -> None:
    if payload:
        raise ProtocolError("A payload came with a request that has none.")
