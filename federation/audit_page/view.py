"""All that the page shows, folded from ledgers entry by entry.

Nothing is verified here: entries that can be read are shown as they stand, others are counted as
broken. What is kept of an entry are a few numbers; single entries are read from their store.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from federation.audit_page.account import ABORTED, COMMITTED, Account
from federation.audit_page.checkpoint import CheckpointView, is_cosigned, look_at
from federation.audit_page.ledger_index import LedgerIndex
from federation.audit_page.member import MemberView, Said
from federation.audit_page.receipts import Receipts
from federation.audit_page.refusal import Refusal
from federation.audit_page.run import DANGLING_MS, DELTA, Release, RunView
from federation.evidence import Evidence, LedgerView
from privacy.budget_record import TERMS_FIELDS, BudgetTerms
from privacy.errors import NotVerifiedError, TacitError
from privacy.identity import verify_signature
from privacy.ledger.entry import KINDS, Entry, parse_leaf
from privacy.manifest import Manifest
from privacy.membership import Membership, after
from privacy.release import ABORT_DOMAIN, abort_message

COORDINATOR: Final = "coordinator"
_ACTS: Final = tuple(kind for kind in KINDS if kind.startswith(("federation.", "member.")))
_Body: TypeAlias = Mapping[str, Any]
_Key: TypeAlias = tuple[str, str, int]
_Fold: TypeAlias = Callable[[LedgerIndex, Entry], None]


class NodeState:
    """What the fold of a node's ledger still needs.

    Attributes:
        accounts: (data set, unit) -> budget.
        pending: Run, step and round -> budget and place of what was neither committed nor aborted.
        latest: Run -> step and round that it reserved last.
        unsigned: Entries that take a release back without the node's own signature.
    """

    def __init__(self) -> None:
        self.accounts: dict[tuple[str, str], Account] = {}
        self.pending: dict[_Key, tuple[Account, int]] = {}
        self.latest: dict[str, tuple[str, int]] = {}
        self.unsigned: list[int] = []


class AuditView:
    """What ledgers say, followed as they grow; not for several threads at a time.

    Attributes:
        federation: Its name, as the acts have it; where there are none, that of the evidence.
        ledgers: Slug -> ledger; the coordinator's first.
        runs: Id -> run, the first first.
        members: Name -> member, in order of their first mention.
        accounts: Budgets; number n is at place n - 1.
        refusals: The first of each ledger first.
        receipts: All of them.
        manifests: Hash of a manifest -> run.
        nodes: Slug -> state of a node's ledger.
        membership: Who takes part, by the acts on record; None where no federation was begun.
        acts: Those acts, in order. Their signatures are checked, as one that does not hold changes
            nothing; it is counted as broken.
    """

    def __init__(self) -> None:
        self.federation = ""
        self.membership: Membership | None = None
        self.acts: list[Entry] = []
        self.ledgers: dict[str, LedgerIndex] = {}
        self.runs: dict[str, RunView] = {}
        self.members: dict[str, MemberView] = {}
        self.accounts: list[Account] = []
        self.refusals: list[Refusal] = []
        self.receipts = Receipts()
        self.manifests: dict[str, str] = {}
        self.nodes: dict[str, NodeState] = {}
        self._slugs: dict[tuple[str, str, str, str], str] = {}
        self._publics: dict[bytes, str] = {}
        self._checked: dict[str, tuple[object, ...]] = {}
        self._of_coordinator: Mapping[str, _Fold] = {
            "ledger.begun": self._begin,
            "key.rotated": self._begin,
            "rules.checked": self._check_rules,
            "data.declared": self._declare,
            "run.started": self._start,
            "run.consented": self._consent,
            "run.declined": self._decline,
            "keys.agreed": self._touch,
            "model.agreed": self._agree_on_model,
            "sum.reserved": self._reserve,
            "sum.opened": self._open,
            "sum.accepted": self._accept,
            "round.committed": self._commit,
            "run.finished": self._finish,
            "run.stopped": self._stop,
            "model.registered": self._touch,
            **dict.fromkeys(_ACTS, self._act),
        }
        self._of_node: Mapping[str, _Fold] = {
            "ledger.begun": self._begin,
            "key.rotated": self._begin,
            "run.refused": self._node_refuse,
            "budget.terms": self._terms,
            "budget.reserved": self._spend,
            "budget.committed": self._settle,
            "budget.aborted": self._abort,
        }

    @property
    def coordinator(self) -> LedgerIndex | None:
        """The coordinator's ledger, where it is at hand."""
        return self.ledgers.get(COORDINATOR)

    @property
    def size(self) -> int:
        """Entries of all ledgers."""
        return sum(ledger.size for ledger in self.ledgers.values())

    def follow(self, evidence: Evidence) -> None:
        """Take what was appended since the last call.

        Raises:
            InputError: a ledger cannot be read.
            NotVerifiedError: a ledger's file is broken.
        """
        self.federation = evidence.federation
        views = [] if evidence.coordinator is None else [evidence.coordinator]
        for view in (*views, *evidence.nodes):
            ledger = self._ledger(view)
            size = view.store.size()
            ledger.cut = max(0, ledger.size - size)
            if size > ledger.size:
                for leaf in view.store.leaves(ledger.size, size):
                    self._take(ledger, leaf)
        if self.membership is not None:
            self.federation = self.membership.federation
        for ledger in self.ledgers.values():
            self._look_at_checkpoint(ledger)

    def run_of(self, refusal: Refusal) -> str:
        """Return the run that a refusal is about, where any ledger at hand names it."""
        return refusal.run or self.manifests.get(refusal.manifest, "")

    def dangling(self, slug: str, now_ms: int) -> list[tuple[Account, int]]:
        """Return a node's reservations that were neither committed nor taken back in time."""
        state = self.nodes[slug]
        found = []
        for (run, step, round_number), (account, place) in state.pending.items():
            ended = run in self.runs and self.runs[run].ended_ms is not None
            passed = state.latest[run] != (step, round_number)
            if ended or passed or now_ms - account.reserved(place).time_ms > DANGLING_MS:
                found.append((account, place))
        return found

    def _ledger(self, view: LedgerView) -> LedgerIndex:
        about = (view.role, view.owner, view.dataset, view.origin)
        slug = self._slugs.get(about)
        if slug is None:
            slug = COORDINATOR if view.role == COORDINATOR else f"node-{len(self.nodes) + 1}"
            self._slugs[about] = slug
            self.ledgers[slug] = LedgerIndex(slug, view)
            if view.role != COORDINATOR:
                self.nodes[slug] = NodeState()
                self._member(view.owner).ledgers.append(slug)
        ledger = self.ledgers[slug]
        ledger.view = view
        return ledger

    def _take(self, ledger: LedgerIndex, leaf: bytes) -> None:
        try:
            entry = parse_leaf(leaf)
            if entry.index != ledger.size:
                raise NotVerifiedError("it is out of place")
            folds = self._of_coordinator if ledger.slug == COORDINATOR else self._of_node
            fold = folds.get(entry.kind)
            if fold is not None:
                fold(ledger, entry)
        except (TacitError, ValueError) as error:
            ledger.note_broken(str(error))
            return
        ledger.note(entry)

    def _look_at_checkpoint(self, ledger: LedgerIndex) -> None:
        kept = ledger.view.store.checkpoints()
        if not kept:
            return
        cosigned = next((one for one in reversed(kept) if is_cosigned(one[1])), None)
        seen = (kept[-1], cosigned, len(self._publics), len(ledger.keys))
        if self._checked.get(ledger.slug) == seen:
            return
        self._checked[ledger.slug] = seen
        ledger.newest = self._checkpoint(ledger, *kept[-1])
        ledger.cosigned = None if cosigned is None else self._checkpoint(ledger, *cosigned)

    def _checkpoint(self, ledger: LedgerIndex, size: int, note: bytes) -> CheckpointView:
        return look_at(ledger.view, note, size=size, keys=ledger.keys, members=self._publics)

    def _member(self, name: str) -> MemberView:
        member = self.members.get(name)
        if member is None:
            member = self.members[name] = MemberView(name)
        return member

    def _run(self, entry: Entry) -> RunView:
        name = str(entry.body["run"])
        run = self.runs.get(name)
        if run is None:
            run = self.runs[name] = RunView(name, started_ms=entry.time_ms)
        run.last_ms = entry.time_ms
        return run

    def _heard(self, run: RunView, members: Sequence[str], time_ms: int) -> None:
        for name in members:
            self._member(name).heard(time_ms)
            party = run.parties.get(name)
            if party is not None:
                party.last_ms = time_ms

    def _refuse(self, ledger: LedgerIndex, entry: Entry, member: str) -> None:
        body: _Body = entry.body
        self.refusals.append(
            Refusal(
                time_ms=entry.time_ms,
                ledger=ledger.slug,
                entry=entry.index,
                kind=entry.kind,
                run=body.get("run", ""),
                manifest=body.get("manifest", ""),
                member=member,
                reason=body["reason"],
            )
        )

    # -- of any ledger --

    def _begin(self, ledger: LedgerIndex, entry: Entry) -> None:
        public = bytes.fromhex(str(entry.body["key"]))
        ledger.keys.append((entry.index, public))
        if ledger.slug != COORDINATOR:
            self._publics[public] = ledger.owner
            self._member(ledger.owner).keys[public.hex()] = None

    # -- of the coordinator's --

    def _act(self, _: LedgerIndex, entry: Entry) -> None:
        self.membership = after(self.membership, entry)
        self.acts.append(entry)

    def _touch(self, _: LedgerIndex, entry: Entry) -> None:
        self._run(entry)

    def _check_rules(self, _: LedgerIndex, entry: Entry) -> None:
        body: _Body = entry.body
        self._run(entry).warnings = tuple(body["warnings"])

    def _declare(self, _: LedgerIndex, entry: Entry) -> None:
        run, body = self._run(entry), dict[str, Any](entry.body)
        run.dataset, run.unit = body["dataset"], body["unit"]
        run.classes = ", ".join(
            f"{name}: {count}" for name, count in sorted(body["classes"].items())
        )
        run.retention_days = body["retention_days"]

    def _start(self, _: LedgerIndex, entry: Entry) -> None:
        run, body = self._run(entry), dict[str, Any](entry.body)
        run.name, run.task, run.protection = body["name"], body["task"], body["protection"]
        run.manifest, run.minimum = body["manifest"], body["minimum"]
        run.state, run.started, run.started_ms = "running", entry.index, entry.time_ms
        self.manifests[run.manifest] = run.run
        for name, key in body["members"].items():
            run.party(name).key = key
            member = self._member(name)
            member.runs[run.run] = None
            member.keys[key] = None
            self._publics[bytes.fromhex(key)] = name
        try:
            plan = Manifest.from_bytes(body["document"].encode()).privacy
        except (TacitError, UnicodeEncodeError):
            return
        run.noisy = plan is not None
        run.colluders = 0 if plan is None else plan.colluders
        run.delta = DELTA if plan is None else plan.delta

    def _consent(self, _: LedgerIndex, entry: Entry) -> None:
        run, name = self._run(entry), str(entry.body["member"])
        party = run.party(name)
        party.consent, party.last_ms = "consented", entry.time_ms
        self._member(name).heard(entry.time_ms)

    def _decline(self, ledger: LedgerIndex, entry: Entry) -> None:
        run, name = self._run(entry), str(entry.body["member"])
        party = run.party(name)
        party.consent, party.last_ms = "declined", entry.time_ms
        party.reason = str(entry.body["reason"])
        member = self._member(name)
        member.heard(entry.time_ms)
        member.runs[run.run] = None
        self._refuse(ledger, entry, name)

    def _agree_on_model(self, _: LedgerIndex, entry: Entry) -> None:
        run, body = self._run(entry), dict[str, Any](entry.body)
        run.values, run.model = body["values"], body["model"]

    def _reserve(self, _: LedgerIndex, entry: Entry) -> None:
        run, body = self._run(entry), dict[str, Any](entry.body)
        release = Release(
            step=sys.intern(body["step"]),
            round_number=body["round"],
            time_ms=entry.time_ms,
            reserved=entry.index,
            asked=run.together(body["asked"]),
        )
        run.reserve(body["context"], release, self.receipts.number(body["receipt"]))
        for name, head in body["nodes"].items():
            self._member(name).said = Said(entry.index, head["leaves"], head["root"])

    def _open(self, _: LedgerIndex, entry: Entry) -> None:
        run, body = self._run(entry), dict[str, Any](entry.body)
        release = run.pending.pop(body["context"], None)
        if release is None:
            raise NotVerifiedError("it opens a sum that was never reserved")
        release.opened = entry.index
        release.members = run.together(body["members"])
        release.aggregate = body["aggregate"]
        release.payload_bytes = body["payload_bytes"]
        for name in release.members:
            run.party(name).sums += 1
        self._heard(run, release.members, entry.time_ms)

    def _accept(self, _: LedgerIndex, entry: Entry) -> None:
        run, body = self._run(entry), dict[str, Any](entry.body)
        run.accept(body["step"], body["round"], index=entry.index, kept=body["kept"])
        if body["kept"]:
            run.model = body["model"]
        self._heard(run, list(body["signatures"]), entry.time_ms)

    def _commit(self, _: LedgerIndex, entry: Entry) -> None:
        self._run(entry).rounds += 1

    def _finish(self, _: LedgerIndex, entry: Entry) -> None:
        run = self._run(entry)
        run.state, run.ended_ms, run.model = "finished", entry.time_ms, str(entry.body["model"])

    def _stop(self, ledger: LedgerIndex, entry: Entry) -> None:
        run = self._run(entry)
        run.state, run.ended_ms, run.reason = "stopped", entry.time_ms, str(entry.body["reason"])
        self._refuse(ledger, entry, "")

    # -- of a node's --

    def _node_refuse(self, ledger: LedgerIndex, entry: Entry) -> None:
        self._refuse(ledger, entry, ledger.owner)

    def _terms(self, ledger: LedgerIndex, entry: Entry) -> None:
        body, state = dict[str, Any](entry.body), self.nodes[ledger.slug]
        terms = BudgetTerms(**{name: body[name] for name in TERMS_FIELDS})
        about = (terms.dataset, terms.unit)
        account = state.accounts.get(about)
        if account is None:
            number = len(self.accounts) + 1
            account = Account(number, ledger.slug, terms, body["solo_order"], self.receipts)
            state.accounts[about] = account
            self.accounts.append(account)
        elif (account.terms.order, account.solo_order) != (terms.order, body["solo_order"]):
            raise NotVerifiedError("it changes the order of a budget's filter, which is fixed")
        account.agree(terms, entry=entry.index, time_ms=entry.time_ms)

    def _spend(self, ledger: LedgerIndex, entry: Entry) -> None:
        body, state = dict[str, Any](entry.body), self.nodes[ledger.slug]
        account = state.accounts.get((body["dataset"], body["receipt"]["unit"]))
        if account is None:
            raise NotVerifiedError("it reserves of a budget without terms")
        step = sys.intern(body["step"])
        key = (body["run"], step, body["round"])
        place = account.reserve(
            *key,
            receipt=self.receipts.number(body["receipt"]),
            entry=entry.index,
            time_ms=entry.time_ms,
        )
        state.pending[key] = (account, place)
        state.latest[body["run"]] = (step, body["round"])
        self._member(ledger.owner).heard(entry.time_ms)

    def _settle(self, ledger: LedgerIndex, entry: Entry) -> None:
        account, place = self._pending(ledger, entry)
        account.settle(place, COMMITTED)
        del self.nodes[ledger.slug].pending[_key(entry.body)]

    def _abort(self, ledger: LedgerIndex, entry: Entry) -> None:
        body = dict[str, Any](entry.body)
        account, place = self._pending(ledger, entry)
        key = _key(body)
        try:
            if not ledger.keys:
                raise NotVerifiedError("the ledger names no key")
            verify_signature(
                ledger.keys[-1][1],
                ABORT_DOMAIN,
                abort_message(*key, dataset=body["dataset"]),
                bytes.fromhex(body["signature"]),
            )
        except TacitError:
            # so it counts as spent
            self.nodes[ledger.slug].unsigned.append(entry.index)
        else:
            account.settle(place, ABORTED)
            del self.nodes[ledger.slug].pending[key]
        self._refuse(ledger, entry, ledger.owner)

    def _pending(self, ledger: LedgerIndex, entry: Entry) -> tuple[Account, int]:
        found = self.nodes[ledger.slug].pending.get(_key(entry.body))
        if found is None:
            raise NotVerifiedError("it settles what was not reserved, or was settled before")
        return found


def _key(body: _Body) -> _Key:
    return body["run"], body["step"], body["round"]
