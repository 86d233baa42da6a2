"""Signed ledgers of small runs, as an honest coordinator and honest members write them.

A `Script` is one run: it keeps what the next entry follows from, and signs with real keys. Whatever
a test changes is signed as changed, so that an entry is refused for what is wrong with it and
nothing else. `Nodes` are the members' own ledgers, written by real budgets. `bundle_of` puts it all
together, with states that the coordinator signed and members cosigned. `changed` and `without` are
what an insider can do who holds the coordinator's key and disk: write it all anew, and sign it.
"""

import copy
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from privacy.budget import Budget
from privacy.budget_record import BudgetTerms
from privacy.identity import Identity
from privacy.ledger import Entry, LedgerHead, next_entry
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.bundle import Bundle, Growth, Key, Log, write_bundle
from privacy.ledger.checkpoint import Checkpoint, cosign, sign_checkpoint, with_cosignatures
from privacy.ledger.entry import EVALUATIONS, STATISTICS, UPDATE
from privacy.ledger.grammar import CONSENT_DOMAIN, ROTATION_DOMAIN
from privacy.ledger.head import HEAD_DOMAIN, head_message
from privacy.ledger.keys import cosigner_key, log_key, log_origin
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.merkle import consistency_proof, leaf_hash, root_of
from privacy.ledger.store import LedgerStore, append
from privacy.manifest import SIGNING_DOMAIN, Manifest, Protection
from privacy.plan import PrivacyPlan, update_values, vector_length
from privacy.receipt import Receipt
from privacy.release import ReleaseToken
from privacy.sum_context import (
    ACCEPTED_DOMAIN,
    SURVIVORS_DOMAIN,
    SumContext,
    extend_history,
    first_history,
    names_digest,
    survivors_message,
)

Line: TypeAlias = tuple[str, dict[str, object]]
Tokens: TypeAlias = dict[tuple[str, str, str, int], ReleaseToken]  # member, run, step, round
NAMES = ("bank", "broker", "insurer", "maker", "mill")
COORDINATOR: Literal["coordinator"] = "coordinator"
LAUNCHER = "launcher"
DATASET, UNIT = "loans", "borrower"
NO_MODEL = "00" * 32
NO_POLICY = "quorum none\n"
WATCH, TEST, PERSONAL = EVALUATIONS
COSIGNED_S = 1_700_000_000
NOISE = PrivacyPlan(
    noise="distributed",
    mechanism="gaussian",
    unit=UNIT,
    parts="apart",
    rate=0.01,
    rows_per_unit=1,
    clip=1.0,
    steps=1,
    watches=2,
    update_share=1.2,
    statistics_share=20.0,
    statistics_clip=1.0,
    watch_share=30.0,
    test_share=20.0,
    evaluation_clip=1.0,
    colluders=1,
    delta=1e-5,
    grid=2.0**-10,
)
"""A plan for runs whose releases have a bound, so that a node may cap them."""


@cache
def key_of(member: str) -> Identity:
    """The identity of a member, the coordinator or the launcher; the same in every run."""
    return Identity.create(lambda _: bytes.fromhex(digest("key", member)))


def digest(*words: object) -> str:
    """Some hash."""
    return hashlib.sha256(repr(words).encode()).hexdigest()


ORIGIN = log_origin(COORDINATOR, key_of(COORDINATOR).public)


# --- members' own ledgers ---


class Heads:
    """What members say of ledgers that are not at hand: another size with every release."""

    def __init__(self) -> None:
        self.told: Counter[tuple[str, str]] = Counter()

    def reserve(
        self, member: str, run: str, step: str, number: int, receipt: Receipt
    ) -> LedgerHead:
        """A release, as if it were reserved."""
        del receipt
        self.told[member, run] += 1
        # two runs of one member never end at one size
        leaves = int(digest(run)[:8], 16) * 1000 + self.told[member, run]
        return LedgerHead(leaves, digest("node", member, run, step, number))

    def commit(self, member: str, run: str, step: str, number: int) -> None:
        """It was accepted."""


class Nodes:
    """The members' own ledgers, each under a budget; any number of runs may share them.

    They are in memory, but for `stores`. `now_ms` is every node's clock; `tokens` are what was
    reserved.
    """

    def __init__(
        self,
        names: Sequence[str] = NAMES,
        *,
        epsilon: float | None = None,
        period_days: float | None = None,
        solo_epsilon: float | None = None,
        order: int = 16,
        colluders: int = 1,
        unit: str = UNIT,
        stores: Mapping[str, LedgerStore] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.now_ms = 0
        self.stores: dict[str, LedgerStore] = {
            name: MemoryLedger(place=f"the ledger of {name}") for name in names
        }
        self.stores |= {} if stores is None else stores
        self.tokens: Tokens = {}
        self.budgets: dict[str, Budget] = {}
        for name, store in self.stores.items():
            begin_ledger(store, key_of(name), owner=name, role="node", time_ms=0)
            terms = BudgetTerms(
                member=name,
                dataset=DATASET,
                unit=unit,
                epsilon=epsilon,
                delta=1e-5,
                order=order,
                colluders=colluders,
                period_days=period_days,
                solo_epsilon=solo_epsilon,
            )
            self.set_terms(terms)

    def set_terms(self, terms: BudgetTerms) -> None:
        """From now on this member's policy says this."""
        store = self.stores[terms.member]
        self.budgets[terms.member] = Budget(store, terms, now_ms=lambda: self.now_ms)

    def reserve(
        self, member: str, run: str, step: str, number: int, receipt: Receipt
    ) -> LedgerHead:
        """A release on a node's record; return what the node says of its ledger."""
        self.now_ms += 1
        token = self.budgets[member].reserve(run, step, number, receipt)
        self.tokens[member, run, step, number] = token
        return token.head

    def commit(self, member: str, run: str, step: str, number: int) -> None:
        """The node knows that it was accepted."""
        self.now_ms += 1
        self.budgets[member].commit(run, step, number)

    def abort(self, member: str, run: str, step: str, number: int) -> None:
        """The node takes back what it reserved, as nothing of it left."""
        self.now_ms += 1
        token = self.tokens[member, run, step, number]
        self.budgets[member].abort(token, reason="nothing left", sign=key_of(member).sign)

    def cosign(self, member: str, head: LedgerHead) -> None:
        """The node notes that it cosigned the coordinator's ledger in this state."""
        about = {"origin": ORIGIN}
        key = {"key": key_of(COORDINATOR).public.hex()}
        store = self.stores[member]
        append(store, "ledger.followed", {**about, **key}, time_ms=self.now_ms)
        state = {"leaves": head.leaves, "root": head.root}
        append(store, "ledger.cosigned", {**about, **state}, time_ms=self.now_ms)

    def join(self, member: str, run: str, *, origin: str = ORIGIN) -> None:
        """The node notes that it takes part in a run of that coordinator."""
        body = {"run": run, "manifest": digest("manifest", run), "origin": origin}
        append(self.stores[member], "run.joined", body, time_ms=self.now_ms)

    def leaves(self, member: str) -> list[bytes]:
        """One ledger as it is."""
        return list(self.stores[member].leaves())

    def logs(self, *, signed: bool = True, without: Iterable[str] = ()) -> list[Log]:
        """All of them as they are, each with one state that its own key signed."""
        left_out = set(without)
        return [
            node_log(name, self.leaves(name), signed=signed)
            for name in self.names
            if name not in left_out
        ]


# --- one run ---


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A sum that was reserved and not opened."""

    context: bytes
    step: str
    number: int
    asked: tuple[str, ...]
    arrived: tuple[str, ...]


def manifest_of(
    run: str,
    names: Sequence[str],
    *,
    minimum: int = 2,
    group_size: int = 0,
    protection: Protection = "masked",
    privacy: PrivacyPlan | None = None,
    ledger_key: Identity | None = None,
) -> Manifest:
    """What the members of a run agreed on."""
    key = key_of(COORDINATOR) if ledger_key is None else ledger_key
    return Manifest(
        run=run,
        name="demo",
        task="credit",
        unit=UNIT,
        contract=digest("contract"),
        directory={member: key_of(member).public.hex() for member in names},
        minimum_cohort=minimum,
        protection=protection,
        group_size=group_size,
        privacy=privacy,
        ledger={"origin": ORIGIN, "key": key.public.hex()},
        node_settings={"training": {"rounds": 2}},
        coordinator_settings={"deadline_s": 60},
    )


def started(manifest: Manifest, launcher: Identity | None = None) -> dict[str, object]:
    """What `run.started` says of a manifest, but for the run; its launcher signs it."""
    launcher = key_of(LAUNCHER) if launcher is None else launcher
    return {
        "name": manifest.name,
        "task": manifest.task,
        "members": dict(manifest.directory),
        "minimum": manifest.minimum_cohort,
        "group_size": manifest.group_size,
        "manifest": manifest.digest().hex(),
        "document": manifest.to_bytes().decode(),
        "signature": launcher.sign(SIGNING_DOMAIN, manifest.to_bytes()).hex(),
        "launcher": launcher.public.hex(),
        "protection": manifest.protection,
    }


def told(member: str, context: bytes, head: LedgerHead) -> dict[str, object]:
    """What a member says of its own ledger with its vector for a sum, signed."""
    signature = key_of(member).sign(HEAD_DOMAIN, head_message(context, head))
    return {"leaves": head.leaves, "root": head.root, "signature": signature.hex()}


class Script:
    """One run, entry by entry; `lines` is what was written so far.

    Args:
        run: Its name.
        names: Its members.
        minimum: Fewest members of a sum.
        group_size: Fewest members of a group; 0 for sums over all.
        protection: Of its sums.
        privacy: Its noise.
        nodes: The members' own ledgers; without them, members say something of others.
        values: Weights of its network.
        ledger_key: The key of the coordinator's ledger that its manifest names.
    """

    def __init__(
        self,
        run: str = "r",
        names: Sequence[str] = NAMES,
        *,
        minimum: int = 2,
        group_size: int = 0,
        protection: Protection = "masked",
        privacy: PrivacyPlan | None = None,
        nodes: "Nodes | Heads | None" = None,
        values: int = 10,
        ledger_key: Identity | None = None,
    ) -> None:
        self.run = run
        self.names = tuple(names)
        self.manifest = manifest_of(
            run,
            names,
            minimum=minimum,
            group_size=group_size,
            protection=protection,
            privacy=privacy,
            ledger_key=ledger_key,
        )
        self.nodes: Nodes | Heads = Heads() if nodes is None else nodes
        self.values = values
        self.lines: list[Line] = []
        self.roster, self.keys = digest(run, "roster"), digest(run, "keys")
        self.history = first_history(bytes.fromhex(self.roster), bytes.fromhex(self.keys))
        self.model = self.before = NO_MODEL
        self.committed = 0
        self.step: tuple[str, int] = ("", 0)
        self.pending: list[Pending] = []
        self.sums: list[tuple[bytes, tuple[str, ...], bytes]] = []

    def copy(self) -> "Script":
        """What is written to the copy is not written here; real nodes are the same ones."""
        shared = {id(self.nodes): self.nodes} if isinstance(self.nodes, Nodes) else {}
        return copy.deepcopy(self, shared)

    def add(self, kind: str, changes: dict[str, Any], **body: object) -> "Script":
        """Write an entry of this run."""
        self.lines.append((kind, {"run": self.run, **body, **changes}))
        return self

    def _signed(self, domain: str, message: bytes, signers: Iterable[str]) -> dict[str, str]:
        return {member: key_of(member).sign(domain, message).hex() for member in signers}

    # -- the entries --

    def start(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        return self.add("run.started", changes, **started(self.manifest))

    def declare(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        return self.add(
            "data.declared",
            changes,
            contract=self.manifest.contract,
            dataset=DATASET,
            unit=self.manifest.unit,
            classes={"L1": 2, "L3": 4},
            retention_days=180,
        )

    def check_rules(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        return self.add("rules.checked", changes, rules=digest("rules"), warnings=[])

    def consent(
        self,
        members: Sequence[str] | None = None,
        *,
        domain: str = CONSENT_DOMAIN,
        **changes: Any,  # noqa: ANN401 - any field of an entry
    ) -> "Script":
        """Each of these members takes part; all, unless some are given."""
        told = self.manifest.digest()
        for member in self.names if members is None else members:
            signature = key_of(member).sign(domain, told).hex()
            self.add("run.consented", changes, member=member, signature=signature)
        return self

    def decline(self, member: str, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        return self.add("run.declined", changes, member=member, reason="no budget left")

    def agree_on_keys(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        return self.add(
            "keys.agreed", changes, roster=self.roster, fingerprint=self.keys, public_bytes=0
        )

    def agree_on_model(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        self.model = str(changes.get("model", digest(self.run, "model", 0)))
        return self.add(
            "model.agreed",
            changes,
            architecture=digest("mlp"),
            model=self.model,
            values=self.values,
        )

    def reserve(
        self,
        step: str,
        number: int,
        *,
        asked: Sequence[str] | None = None,
        arrived: Sequence[str] | None = None,
        of: dict[str, Any] | None = None,
        **changes: Any,  # noqa: ANN401 - any field of an entry
    ) -> "Script":
        """What a sum costs, on the nodes' record and on the coordinator's.

        Args:
            step: What is summed.
            number: Its round.
            asked: All members, unless given.
            arrived: Whose vectors came; of all who are asked, unless given.
            of: Fields of the context that is signed, and named, instead of those that are due.
            changes: Fields of the entry instead of those that are due.
        """
        asked = self.names if asked is None else tuple(asked)
        arrived = asked if arrived is None else tuple(arrived)
        model = changes.get("model", NO_MODEL if step == STATISTICS else self.model)
        schema = str(changes.get("schema", digest("schema", step)))
        due: dict[str, Any] = {
            "run": self.manifest.digest(),
            "step": step,
            "round": number,
            "schema": bytes.fromhex(schema),
            "model": bytes.fromhex(model),
            "history": self.history,
            "roster": bytes.fromhex(self.roster),
            "cohort": names_digest(asked),
            "keys": bytes.fromhex(self.keys),
        }
        context = SumContext(**{**due, **(of or {})}).digest()
        receipt = self.due_receipt(step, number)
        heads = {
            member: self.nodes.reserve(member, self.run, step, number, receipt)
            for member in arrived
        }
        self.pending.append(
            Pending(context=context, step=step, number=number, asked=asked, arrived=arrived)
        )
        return self.add(
            "sum.reserved",
            changes,
            step=step,
            round=number,
            asked=list(asked),
            schema=schema,
            model=model,
            context=context.hex(),
            protection=self.manifest.protection,
            receipt=receipt.to_json(),
            nodes={member: told(member, context, head) for member, head in heads.items()},
        )

    def open(
        self,
        *,
        which: int = 0,
        of: Pending | None = None,
        members: Sequence[str] | None = None,
        signers: Sequence[str] | None = None,
        domain: str = SURVIVORS_DOMAIN,
        **changes: Any,  # noqa: ANN401 - any field of an entry
    ) -> "Script":
        """A sum that was reserved is opened.

        Args:
            which: Of those that are reserved and not opened.
            of: Another one, which was opened before or never reserved.
            members: Whose vectors are in it; all that arrived, unless given.
            signers: Who signs that; all whose vectors are in it, unless given.
            domain: What they sign it as.
            changes: Fields of the entry instead of those that are due.
        """
        one = self.pending.pop(which) if of is None else of
        members = one.arrived if members is None else tuple(members)
        aggregate = digest(self.run, one.step, one.number, members)
        signers = members if signers is None else signers
        signatures = self._signed(domain, survivors_message(one.context, members), signers)
        self.step = (one.step, one.number)
        self.sums.append((one.context, tuple(members), bytes.fromhex(aggregate)))
        return self.add(
            "sum.opened",
            changes,
            step=one.step,
            round=one.number,
            context=one.context.hex(),
            members=list(members),
            aggregate=aggregate,
            payload_bytes=96,
            signatures=signatures,
        )

    def due_receipt(self, step: str, number: int, values: int | None = None) -> Receipt:
        """What the manifest says of such a release."""
        plan = self.manifest.privacy
        length = update_values(plan, self.values) if step == UPDATE else self.values
        values = vector_length(plan, step, length) if values is None else values
        return self.manifest.receipt(step or UPDATE, number, values)

    def accept(
        self,
        *,
        signers: Sequence[str] | None = None,
        domain: str = ACCEPTED_DOMAIN,
        history: bytes | None = None,
        **changes: Any,  # noqa: ANN401 - any field of an entry
    ) -> "Script":
        """All members accept the step under way, and sign the history that follows."""
        step, number = self.step
        model = self.model
        if step == UPDATE:
            self.before = self.model
            model = digest(self.run, "model", number, len(self.lines))
        model = str(changes.get("model", model))
        kept = bool(changes.get("kept", True))
        self.history = history or extend_history(
            self.history, self.sums, model=bytes.fromhex(model), kept=kept
        )
        for member in {member for _, members, _ in self.sums for member in members}:
            if isinstance(self.nodes, Nodes) and member in self.nodes.names:
                self.nodes.commit(member, self.run, step, number)
        signers = self.names if signers is None else signers
        self.model = model
        self.sums = []
        self.pending = []
        return self.add(
            "sum.accepted",
            changes,
            step=step,
            round=number,
            model=model,
            kept=kept,
            signatures=self._signed(domain, self.history, signers),
        )

    def commit(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        self.committed += 1
        return self.add(
            "round.committed",
            changes,
            round=self.committed,
            model_before=self.before,
            model_after=self.model,
        )

    def finish(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        return self.add("run.finished", changes, rounds=self.committed, model=self.model)

    def register(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        return self.add(
            "model.registered",
            changes,
            model=self.model,
            file=digest(self.run, "file"),
            card=digest(self.run, "card"),
        )

    def stop(self, **changes: Any) -> "Script":  # noqa: ANN401 - any field of an entry
        return self.add("run.stopped", changes, reason="by hand")

    # -- what belongs together --

    def gather(self) -> "Script":
        """All that comes before the first sum."""
        return self.start().declare().check_rules().consent().agree_on_keys()

    def release(
        self,
        step: str,
        number: int,
        *,
        asked: Sequence[str] | None = None,
        members: Sequence[str] | None = None,
        **how: Any,  # noqa: ANN401 - see `open`
    ) -> "Script":
        """A sum that is reserved and opened at once, over those whose vectors came."""
        self.reserve(step, number, asked=asked, arrived=members)
        return self.open(which=-1, **how)

    def statistics(self, stages: int = 2) -> "Script":
        """All that comes before the initial model, and that model."""
        for stage in range(stages):
            self.release(STATISTICS, stage).accept()
        return self.agree_on_model()

    def begin(self) -> "Script":
        """All that comes before the first round."""
        return self.gather().statistics()

    def train(self, **how: Any) -> "Script":  # noqa: ANN401 - see `release`
        """One more round."""
        return self.release(UPDATE, self.committed + 1, **how).accept().commit()

    def evaluate(self, step: str, **how: Any) -> "Script":  # noqa: ANN401 - see `release`
        """An evaluation after the last round."""
        return self.release(step, self.committed, **how).accept()


def whole_run(run: str = "r", names: Sequence[str] = NAMES, **how: Any) -> Script:  # noqa: ANN401 - see `Script`
    """Two rounds, each with a validation, tests at the end, and the model in the register."""
    script = Script(run, names, **how).begin().train().evaluate(WATCH)
    script.train().evaluate(WATCH).evaluate(TEST).evaluate(PERSONAL)
    return script.finish().register()


def small_run(run: str = "r", names: Sequence[str] = NAMES[:3], **how: Any) -> Script:  # noqa: ANN401 - see `Script`
    """One round and no evaluation."""
    return Script(run, names, **how).gather().statistics(1).train().finish()


# --- the coordinator's ledger ---


def begun(**changes: Any) -> Line:  # noqa: ANN401 - any field of an entry
    """The first entry of the coordinator's ledger."""
    body: dict[str, object] = {
        "origin": ORIGIN,
        "key": key_of(COORDINATOR).public.hex(),
        "owner": COORDINATOR,
        "role": "coordinator",
    }
    return "ledger.begun", {**body, **changes}


def rotation(old: str, new: str) -> Line:
    """The key named `old` hands over to the one named `new`; see `key_of`."""
    public = key_of(new).public
    signature = key_of(old).sign(ROTATION_DOMAIN, public)
    return "key.rotated", {"key": public.hex(), "signature": signature.hex()}


def taken_over(writer: str) -> Line:
    """Another coordinator writes from here on."""
    return "writer.began", {"writer": writer}


def chained(lines: Iterable[Line], *, ticks_ms: int = 1, begun_ms: int = 0) -> list[Entry]:
    """The entries that hold these lines, `ticks_ms` apart; a new writer is a new epoch."""
    entries: list[Entry] = []
    epoch = 1
    for index, (kind, body) in enumerate(lines):
        last = entries[-1] if entries else None
        epoch += kind == "writer.began"
        time_ms = begun_ms + ticks_ms * index
        entries.append(next_entry(last, kind, body, time_ms=time_ms, epoch=epoch))
    return entries


def ledger_of(*scripts: Script, ticks_ms: int = 1, begun_ms: int = 0) -> list[Entry]:
    """A ledger of these runs, one after another."""
    lines = [begun(), *(line for script in scripts for line in script.lines)]
    return chained(lines, ticks_ms=ticks_ms, begun_ms=begun_ms)


def rebuilt(entries: Iterable[Entry]) -> list[Entry]:
    """These entries, each at the place where it stands now, with its time and epoch."""
    anew: list[Entry] = []
    for entry in entries:
        last = anew[-1] if anew else None
        anew.append(
            next_entry(last, entry.kind, entry.body, time_ms=entry.time_ms, epoch=entry.epoch)
        )
    return anew


def changed(entries: Sequence[Entry], place: int, **changes: object) -> list[Entry]:
    """The whole ledger written anew after a change of one entry's fields."""
    anew = list(entries)
    anew[place] = replace(anew[place], body={**anew[place].body, **changes})
    return rebuilt(anew)


def without(entries: Sequence[Entry], place: int) -> list[Entry]:
    """The whole ledger written anew without one entry."""
    return rebuilt([*entries[:place], *entries[place + 1 :]])


# --- bundles ---


def head_of(entries: Sequence[Entry], size: int | None = None) -> LedgerHead:
    """What somebody remembers who saw the ledger at that size."""
    hashes = [leaf_hash(entry.leaf()) for entry in entries[:size]]
    return LedgerHead(len(hashes), root_of(hashes).hex())


def members_of(entries: Iterable[Entry]) -> list[str]:
    """All members of all runs."""
    names: dict[str, None] = {}
    for entry in entries:
        members = entry.body.get("members")
        if entry.kind == "run.started" and isinstance(members, Mapping):
            names.update(dict.fromkeys(members))
    return list(names)


def signed_state(checkpoint: Checkpoint, signer: Identity, cosigners: Iterable[str] = ()) -> bytes:
    """A state as a note, signed by a ledger's key and cosigned by these members."""
    key = log_key(checkpoint.origin, signer.public)
    note = sign_checkpoint(checkpoint, key=key, sign=signer.sign_note)
    lines = [
        cosign(
            checkpoint,
            key=cosigner_key(member, key_of(member).public),
            sign=key_of(member).sign_note,
            time_s=COSIGNED_S,
        )
        for member in cosigners
    ]
    return with_cosignatures(note, lines)


def log_of(
    leaves: Sequence[bytes],
    *,
    owner: str = COORDINATOR,
    role: str = "coordinator",
    origin: str = ORIGIN,
    keys: Sequence[tuple[int, Identity]],
    states: Mapping[int, Iterable[str]],
) -> Log:
    """A ledger in a bundle.

    Args:
        leaves: Its entries.
        owner: Whose.
        role: What it is a ledger of.
        origin: Its name.
        keys: Each with the number of entries from which on it signs.
        states: Size of a signed state -> members that cosign it.
    """
    ledger = MemoryLedger(leaves)
    hashes = [leaf_hash(leaf) for leaf in leaves]
    sizes = sorted(states)
    notes = []
    for size in sizes:
        signer = [key for since, key in keys if since <= size][-1]
        state = Checkpoint(origin, size, root_of(hashes[:size]))
        notes.append(signed_state(state, signer, states[size]))
    return Log(
        origin=origin,
        owner=owner,
        role=role,
        keys=tuple(Key(since, key.public.hex()) for since, key in keys),
        checkpoints=tuple(notes),
        proofs=tuple(
            Growth(old, new, consistency_proof(ledger.node, old, new))
            for old, new in pairwise(sizes)
        ),
        leaves=list(leaves),
    )


def node_log(member: str, leaves: Sequence[bytes], *, signed: bool = True) -> Log:
    """A node's own ledger in a bundle, in the state that its key signed last."""
    return log_of(
        leaves,
        owner=member,
        role="node",
        origin=log_origin(member, key_of(member).public),
        keys=[(0, key_of(member))],
        states={len(leaves): ()} if signed else {},
    )


def coordinator_log(
    entries: Sequence[Entry], states: Mapping[int, Iterable[str]] | None = None
) -> Log:
    """The coordinator's ledger in a bundle; all members cosign its one state, unless some do."""
    if states is None:
        states = {len(entries): members_of(entries)}
    return log_of([entry.leaf() for entry in entries], keys=_keys(entries), states=states)


def bundle_of(
    entries: Sequence[Entry],
    nodes: Nodes | Iterable[Log] = (),
    *,
    states: Mapping[int, Iterable[str]] | None = None,
    policy: str = NO_POLICY,
) -> Bundle:
    """What an auditor is given.

    Args:
        entries: The coordinator's ledger.
        nodes: The members' own ledgers.
        states: Size of a signed state -> members that cosign it; by default one state of all
            entries, which all members of all runs cosign.
        policy: The bundle's own.
    """
    logs = nodes.logs() if isinstance(nodes, Nodes) else list(nodes)
    return Bundle(
        federation="test",
        made_ms=1_700_000_000_000,
        policy=policy,
        logs=(coordinator_log(entries, states), *logs),
    )


def data_of(bundle: Bundle) -> bytes:
    """The bundle as a file."""
    file = BytesIO()
    write_bundle(bundle, file)
    return file.getvalue()


def _keys(entries: Iterable[Entry]) -> list[tuple[int, Identity]]:
    """The keys that an insider who writes these entries signs with: as the entries say."""
    known = {key_of(name).public.hex(): key_of(name) for name in _KEYS}
    keys = [(0, key_of(COORDINATOR))]
    keys += [
        (entry.index + 1, known[str(entry.body["key"])])
        for entry in entries
        if entry.kind == "key.rotated"
    ]
    return keys


_KEYS = (COORDINATOR, "second key", "third key")
