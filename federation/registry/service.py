"""What the registry answers, over the ledgers at hand; `guard` asks who may before.

Nothing is trusted here: whoever is told a state, a proof or an entry can check it against what a
log signed and witnesses cosigned. What cannot be answered is refused with one sentence.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import grpc

from federation.evidence import Evidence, LedgerView
from federation.proto import registry_pb2 as wire
from federation.proto.registry_pb2_grpc import RegistryServicer
from federation.registry.access import Method, Scope, may_see, scope_of
from federation.registry.guard import auth_of
from federation.registry.log_key import first_key
from federation.registry.peer import Peer, peer_of
from federation.registry.refusal import denied, invalid, missing
from privacy.budget import BudgetStatement, CohortStatement, Spending, read_statements
from privacy.errors import NotVerifiedError, TacitError
from privacy.ledger.bundle import Bundle, write_bundle
from privacy.ledger.checkpoint import parse_checkpoint_text, verify_cosignature, with_cosignatures
from privacy.ledger.note import NoteSignature, VerifierKey, parse_note
from privacy.ledger.store import LedgerStore, prove_consistency, prove_inclusion

CHUNK_BYTES: Final = 64 << 10
CLOCK_S: Final = 300
"""How far a witness's clock may be ahead."""
_LOG = logging.getLogger(__name__)


class RegistryService(RegistryServicer):
    """The service; safe for any number of threads."""

    def __init__(
        self,
        evidence: Callable[[], Evidence],
        *,
        bundle: Callable[[], Bundle],
        witnesses: Mapping[str, VerifierKey],
        now_ms: Callable[[], int],
    ) -> None:
        """Answer from `evidence`.

        Args:
            evidence: Returns the ledgers at hand; it is asked with each call.
            bundle: Makes the file for auditors.
            witnesses: Name of a caller -> its key, of type `COSIGNATURE_V1`; asked with each
                cosignature.
            now_ms: Milliseconds since 1970 UTC.
        """
        self._evidence = evidence
        self._bundle = bundle
        self._witnesses = witnesses
        self._now_ms = now_ms

    def Ledgers(  # noqa: N802 - the wire's name
        self, request: wire.LedgersRequest, context: grpc.ServicerContext
    ) -> wire.LedgersReply:
        """List all ledgers that the caller may see."""
        del request
        evidence = self._evidence()
        caller = _Caller(context, Method.LEDGERS)
        return wire.LedgersReply(
            federation=evidence.federation,
            ledgers=[_ledger(view) for view in evidence.views if caller.sees(view)],
        )

    def Checkpoint(  # noqa: N802
        self, request: wire.CheckpointRequest, context: grpc.ServicerContext
    ) -> wire.CheckpointReply:
        """Return the newest signed state of a ledger."""
        view = self._view(request.origin, _Caller(context, Method.CHECKPOINT))
        kept = view.store.checkpoints()
        if not kept:
            raise missing("that ledger has no signed checkpoint yet; ask after the next run")
        return wire.CheckpointReply(note=kept[-1][1])

    def Entries(  # noqa: N802
        self, request: wire.EntriesRequest, context: grpc.ServicerContext
    ) -> Iterator[wire.EntriesReply]:
        """Stream entries, as many leaves at once as 64 KiB hold, and at least one."""
        view = self._view(request.origin, _Caller(context, Method.ENTRIES))
        start, stop = request.start, request.start + request.count
        if not request.count:
            raise invalid("ask for at least one entry")
        _require_size(view.store, stop)
        batch: list[bytes] = []
        size, at = 0, start
        for leaf in view.store.leaves(start, stop):
            if batch and size + len(leaf) > CHUNK_BYTES:
                yield wire.EntriesReply(start=at, leaves=batch)
                at += len(batch)
                batch, size = [], 0
            batch.append(leaf)
            size += len(leaf)
        if at + len(batch) != stop:
            raise NotVerifiedError(f"entries of {view.store.place} are missing")
        yield wire.EntriesReply(start=at, leaves=batch)

    def Inclusion(  # noqa: N802
        self, request: wire.InclusionRequest, context: grpc.ServicerContext
    ) -> wire.ProofReply:
        """Prove that an entry is among the first so many."""
        view = self._view(request.origin, _Caller(context, Method.INCLUSION))
        if request.index >= request.size:
            raise invalid("an index is below its size")
        _require_size(view.store, request.size)
        return wire.ProofReply(hashes=prove_inclusion(view.store, request.index, request.size))

    def Consistency(  # noqa: N802
        self, request: wire.ConsistencyRequest, context: grpc.ServicerContext
    ) -> wire.ProofReply:
        """Prove that a ledger only grew."""
        view = self._view(request.origin, _Caller(context, Method.CONSISTENCY))
        if request.old > request.new:
            raise invalid("a ledger does not shrink; the old size is at most the new one")
        _require_size(view.store, request.new)
        return wire.ProofReply(hashes=prove_consistency(view.store, request.old, request.new))

    def Cosign(  # noqa: N802
        self, request: wire.CosignRequest, context: grpc.ServicerContext
    ) -> wire.CheckpointReply:
        """Keep a witness's cosignature with the checkpoint that it is over."""
        caller = _Caller(context, Method.COSIGN)
        view = self._view(request.origin, caller)
        key = self._witnesses.get(caller.peer.name)
        if key is None:
            raise denied("you are registered as no witness here; send the operator your key")
        try:
            signature = NoteSignature.from_line(request.line)
        except NotVerifiedError:
            raise invalid("that is no line of a signature (C2SP signed-note)") from None
        note = dict(view.store.checkpoints()).get(request.size)
        if note is None:
            raise missing("no checkpoint of that size is kept; ask for the newest")
        text = parse_note(note).text
        checkpoint = parse_checkpoint_text(text)
        if (checkpoint.origin, checkpoint.size) != (view.origin, request.size):
            raise NotVerifiedError(f"{view.store.place} keeps a checkpoint of another log")
        try:
            time_s = verify_cosignature(text, key, signature)
        except NotVerifiedError:
            raise invalid(
                "that is no cosignature of the kept checkpoint by your registered key"
            ) from None
        if time_s > self._now_ms() // 1000 + CLOCK_S:
            raise invalid("the cosignature is from the future; set the witness's clock")
        whole = with_cosignatures(note, [signature])
        if whole == note:  # said again: nothing to write, which would cost every writer a turn
            return wire.CheckpointReply(note=note)
        # others may have cosigned it, or signed it anew, since it was read: the store joins all
        kept = view.store.keep_checkpoint(request.size, whole)
        _LOG.info("cosigned %s at %d by %s", view.origin, request.size, caller.peer.uri)
        return wire.CheckpointReply(note=kept)

    def Budgets(  # noqa: N802
        self, request: wire.BudgetsRequest, context: grpc.ServicerContext
    ) -> wire.BudgetsReply:
        """Say where the budgets stand that the caller may see; all from receipts, now."""
        del request
        caller = _Caller(context, Method.BUDGETS)
        reply = wire.BudgetsReply(time_ms=self._now_ms())
        for view in self._evidence().nodes:
            if not caller.sees(view):
                continue
            try:
                statements = read_statements(view.store, now_ms=reply.time_ms, tightest=False)
            except TacitError:
                _LOG.exception("the budgets of %s cannot be read", view.origin)
                reply.unreadable.append(view.owner)
                continue
            for statement in statements:
                reply.budgets.extend(
                    _budget(view, statement, cohort) for cohort in statement.cohorts
                )
        return reply

    def Bundle(  # noqa: N802
        self, request: wire.BundleRequest, context: grpc.ServicerContext
    ) -> Iterator[wire.BundleReply]:
        """Stream the file for auditors."""
        del request
        if _Caller(context, Method.BUNDLE).scope is not Scope.ALL:
            raise denied("a bundle holds everything, and you may not see all of it")
        with tempfile.TemporaryFile() as file:
            write_bundle(self._bundle(), file)
            file.seek(0)
            while chunk := file.read(CHUNK_BYTES):
                yield wire.BundleReply(chunk=chunk)

    def _view(self, origin: str, caller: "_Caller") -> LedgerView:
        for view in self._evidence().views:
            if view.origin == origin:
                if not caller.sees(view):
                    raise denied("that ledger is another member's; you may not ask this of it")
                return view
        raise missing("no ledger has that origin here; see which there are")


class _Caller:
    """Who calls, and of which ledgers it may ask."""

    def __init__(self, context: grpc.ServicerContext, method: Method) -> None:
        self.peer: Peer = peer_of(auth_of(context))
        self.scope: Scope = scope_of(self.peer.role, method)

    def sees(self, view: LedgerView) -> bool:
        return may_see(self.scope, view, role=self.peer.role, name=self.peer.name)


def _require_size(store: LedgerStore, size: int) -> None:
    if size > store.size():
        raise missing("the ledger has not so many entries")


def _ledger(view: LedgerView) -> wire.Ledger:
    key = first_key(view)
    return wire.Ledger(
        origin=view.origin,
        owner=view.owner,
        role=view.role,
        size=view.store.size(),
        key="" if key is None else key.to_text(),
    )


def _budget(view: LedgerView, statement: BudgetStatement, cohort: CohortStatement) -> wire.Budget:
    terms = statement.terms
    return wire.Budget(
        member=view.owner,
        dataset=terms.dataset,
        unit=terms.unit,
        cohort=cohort.cohort,
        delta=terms.delta,
        period_days=terms.period_days,
        releases=cohort.releases,
        runs=cohort.runs,
        coordinator=_spending(cohort.coordinator),
        solo=_spending(cohort.solo),
        colluders=terms.colluders,
    )


def _spending(spending: Spending) -> wire.Spending:
    return wire.Spending(
        order=spending.order,
        spent=spending.spent,
        pending=spending.pending,
        cap=spending.cap,
        left=spending.left,
    )
