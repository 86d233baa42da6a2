"""The grammar of a coordinator's ledger: which entry may follow, and what members signed.

ledger.begun  first of all; writer.began whenever another writer takes over
federation.begun and member.*, anywhere; see `privacy.membership`
run.started   data.declared rules.checked run.countersigned (run.consented | run.declined)+
              keys.agreed                                             by those who consented
statistics    sum.reserved  sum.opened  sum.accepted                   stage by stage
model.agreed
a round       sum.reserved+ sum.opened+ sum.accepted  round.committed  one for each group
evaluations   sum.reserved  sum.opened  sum.accepted                   after any round
run.finished  model.registered, or, anywhere, run.stopped

A sum that is reserved and not opened is spent all the same. Where a federation was begun in the
ledger, its participants alone start runs and are members of them; a ledger without one is of a
home that keeps all its nodes, and says itself who they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from privacy.errors import NotVerifiedError, ProtocolError
from privacy.identity import verify_signature
from privacy.ledger.entry import EVALUATIONS, KINDS, ROWS, STATISTICS, UPDATE, Entry
from privacy.ledger.head import HEAD_DOMAIN, LedgerHead, head_message
from privacy.manifest import COUNTERSIGN_DOMAIN, SIGNING_DOMAIN, Manifest
from privacy.membership import Membership, Roll, is_act
from privacy.plan import update_values, vector_length
from privacy.receipt import Receipt
from privacy.sum_context import (
    ACCEPTED_DOMAIN,
    SURVIVORS_DOMAIN,
    SumContext,
    extend_history,
    first_history,
    names_digest,
    survivors_message,
)

CONSENT_DOMAIN: Final = "consent"
"""In it a member signs the digest of a run's manifest: it takes part."""
ROTATION_DOMAIN: Final = "key-rotation"
"""In it a ledger's key signs the next one, 32 bytes."""
# With one member the sum is that member's vector.
_SMALLEST_SUM = 2
# Above, masks are shared with neighbours alone; see `privacy.secure_sum.graph`.
_COMPLETE_UP_TO = 32
_NO_MODEL = "00" * 32
_WATCH, *_ = EVALUATIONS
_Members = frozenset[str]


@dataclass(frozen=True, slots=True)
class Reserved:
    """A sum that is on record and not opened yet.

    Attributes:
        index: The entry.
        act: Step and round.
        asked: Who was asked.
        nodes: Whose vectors arrived.
    """

    index: int
    act: tuple[str, int]
    asked: tuple[str, ...]
    nodes: _Members


@dataclass(frozen=True, slots=True)
class Anchor:
    """A node's own ledger as it was with a vector that the node sent, signed by the node.

    Attributes:
        index: The coordinator's entry.
        member: The node.
        head: Its ledger's.
        act: Run, step and round of the sum, which that ledger must have reserved by then.
        receipt: What the sum costs.
        time_ms: When the coordinator put it on record.
    """

    index: int
    member: str
    head: LedgerHead
    act: tuple[str, str, int]
    receipt: Receipt
    time_ms: int


@dataclass
class Run:
    """How far a run has come while its entries are read.

    Attributes:
        manifest: Its digest, which is the run's id in every context.
        keys: Everybody whom the manifest names -> public key.
        members: Of these, who consented, once the keys were agreed: over them are all sums.
        minimum: Fewest members of a sum.
        group_size: Fewest members who are asked for an update's sum; 0 for all.
        protection: Of every sum.
        agreed: The manifest, which says what every receipt must be.
        launcher: Who signed the manifest, 64 hexadecimal digits.
        launched_by: The participant whose key that was; empty where no federation was begun.
        dataset: The contract's name, as it was declared; empty before.
        consented: Who agreed to take part.
        roster: Digest, after the keys were agreed.
        fingerprint: Of the group key.
        history: Over all accepted sums.
        model: Of the members, as they accepted it last.
        before: The model that the round under way started from.
        stages: Statistics that were accepted.
        committed: Rounds so far.
        updated: Whether the update of the next round was accepted.
        ended: How it ended: "finished" or "stopped"; empty while it goes on.
        step: Name and round of the step under way.
        opened: Its sums: context, survivors, aggregate.
        asked: Who was asked for them.
        reserved: Context -> sums that were reserved and not opened.
        due: The last entry whose release members had to see on record.
        done: Steps that were accepted.
        watches: Of these, validations.
        rows: What rows sums were about -> over whom they were.
        groups: Who was ever asked together for an update.
        values: Weights of the network.
        releases: Sums on record.
        sums: Sums that were opened.
        spent: Each reserved release's members and receipt.
        signatures: Signatures that were checked.
    """

    manifest: str
    keys: Mapping[str, bytes]
    minimum: int
    group_size: int
    protection: object
    agreed: Manifest
    launcher: str
    launched_by: str = ""
    members: Mapping[str, bytes] = field(default_factory=dict)
    dataset: str = ""
    consented: set[str] = field(default_factory=set)
    roster: str = ""
    fingerprint: str = ""
    history: bytes = b""
    model: str = _NO_MODEL
    before: str = _NO_MODEL
    stages: int = 0
    committed: int = 0
    updated: bool = False
    ended: str = ""
    step: tuple[str, int] | None = None
    opened: list[tuple[bytes, tuple[str, ...], bytes]] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    reserved: dict[str, Reserved] = field(default_factory=dict)
    due: int = -1
    done: set[tuple[str, int]] = field(default_factory=set)
    watches: int = 0
    rows: dict[str, _Members] = field(default_factory=dict)
    groups: set[_Members] = field(default_factory=set)
    values: int = 0
    releases: int = 0
    sums: int = 0
    spent: list[tuple[_Members, Receipt]] = field(default_factory=list)
    signatures: int = 0


@dataclass
class Reading:
    """A coordinator's ledger while it is read.

    Attributes:
        origin: Its name in checkpoints.
        keys: Its keys, each with the number of entries from which on it signs.
        epoch: The writer's turn.
        roll: Who takes part in the federation, act by act.
        runs: In the order of their start.
        told: A member's public key -> its own ledger's heads, in order, with all that it sent.
        set_back: Members whose own ledgers ended at one size with two releases: each release is an
            entry there, so they were set back.
    """

    origin: str = ""
    keys: list[tuple[int, bytes]] = field(default_factory=list)
    epoch: int = 1
    roll: Roll = field(default_factory=Roll)
    runs: dict[str, Run] = field(default_factory=dict)
    told: dict[bytes, list[Anchor]] = field(default_factory=dict)
    set_back: set[str] = field(default_factory=set)
    sizes: set[tuple[bytes, int]] = field(default_factory=set)

    @property
    def membership(self) -> Membership | None:
        """Who takes part in the federation; None before one was begun."""
        return self.roll.membership


def follow(reading: Reading, entry: Entry) -> None:
    """Take one entry further.

    Raises:
        NotVerifiedError: it may not come here, or a signature in it does not hold.
    """
    kind, body = entry.kind, dict(entry.body)
    _require(KINDS[kind].owner != "node", f"{kind} is for a node's own ledger")
    _require((entry.index == 0) == (kind == "ledger.begun"), "a ledger begins with ledger.begun")
    _require(
        (entry.epoch != reading.epoch) == (kind == "writer.began"),
        "another writer says that it took over, and nobody else does",
    )
    reading.epoch = entry.epoch
    if "run" not in body:
        _administer(reading, entry, body)
        return
    name = str(body["run"])
    if kind == "run.started":
        _start(reading, body)
        return
    _require(name in reading.runs, f"run {name} was never started")
    run = reading.runs[name]
    if kind == "model.registered":
        _register(run, body)
        return
    _require(not run.ended, f"run {name} had ended")
    if kind == "run.stopped":
        run.ended = "stopped"
        return
    if kind in _BEFORE_KEYS:
        _require(run.roster == "", f"{kind} comes before the members' keys")
        _BEFORE_KEYS[kind](run, body)
        return
    if kind == "run.countersigned":
        _require(run.roster == "", f"{kind} comes before the members' keys")
        _countersign(reading, run, body)
        return
    _require(run.roster != "", "the members' keys were not agreed on before")
    if kind == "sum.reserved":
        _reserve(reading, run, entry, body)
    elif kind == "sum.opened":
        _open(run, body)
    else:
        steps = {
            "model.agreed": _agree_on_model,
            "sum.accepted": _accept,
            "round.committed": _commit,
            "run.finished": _finish,
        }
        steps[kind](run, body)


def _administer(reading: Reading, entry: Entry, body: Mapping[str, Any]) -> None:
    if entry.kind == "ledger.begun":
        _require(body["role"] == "coordinator", "this is a node's own ledger")
        reading.origin = body["origin"]
        reading.keys.append((0, bytes.fromhex(body["key"])))
    elif entry.kind == "key.rotated":
        reading.keys.append(rotated(entry, reading.keys[-1][1]))
    elif is_act(entry.kind):
        reading.roll.take(entry)


def rotated(entry: Entry, before: bytes) -> tuple[int, bytes]:
    """Return the number of entries from which on a new key signs, and that key.

    Raises:
        NotVerifiedError: the key before did not sign it.
    """
    key = bytes.fromhex(str(entry.body["key"]))
    try:
        verify_signature(before, ROTATION_DOMAIN, key, bytes.fromhex(str(entry.body["signature"])))
    except ProtocolError:
        raise NotVerifiedError("the ledger's key before did not sign the new one") from None
    return entry.index + 1, key


def _start(reading: Reading, body: Mapping[str, Any]) -> None:
    name = body["run"]
    _require(name not in reading.runs, f"run {name} was started before")
    keys = {member: bytes.fromhex(key) for member, key in body["members"].items()}
    _require(len(set(keys.values())) == len(keys), "two members have one key")
    manifest = _require_manifest(body)
    _require(
        manifest.log_facts == {"origin": reading.origin, "key": reading.keys[-1][1].hex()},
        "the run's manifest names another ledger than this",
    )
    try:
        verify_signature(
            bytes.fromhex(body["launcher"]),
            SIGNING_DOMAIN,
            manifest.to_bytes(),
            bytes.fromhex(body["signature"]),
        )
    except ProtocolError:
        raise NotVerifiedError("the launcher did not sign the run's manifest") from None
    launched_by = ""
    membership = reading.membership
    if membership is not None:
        launched_by = _require_participants(membership, keys, body["launcher"])
    _require(
        membership is None or membership.suite == manifest.suite,
        "the run uses another suite than the federation's founder signed",
    )
    seen = "" if membership is None else membership.digest_at(manifest.acts)
    _require(
        manifest.membership in {"", seen},
        "the launcher saw other acts of membership than were in this ledger when the run started",
    )
    reading.runs[name] = Run(
        manifest=str(body["manifest"]),
        keys=keys,
        minimum=max(manifest.minimum_cohort, _SMALLEST_SUM),
        group_size=manifest.group_size,
        protection=body["protection"],
        agreed=manifest,
        launcher=str(body["launcher"]),
        launched_by=launched_by,
        signatures=1,
    )


def _require_participants(membership: Membership, keys: Mapping[str, bytes], launcher: str) -> str:
    """Require that all of a new run take part in the federation now; return who launched it."""
    members = membership.members()
    strangers = ", ".join(sorted(name for name, key in keys.items() if members.get(name) != key))
    _require(
        not strangers,
        f"{strangers} took no part in the federation with that key when the run started",
    )
    launched_by = membership.may_launch(bytes.fromhex(launcher))
    _require(launched_by != "", "whoever launched the run was no bank, insurer or operator then")
    return launched_by


def _declare(run: Run, body: Mapping[str, Any]) -> None:
    _require(body["contract"] == run.agreed.contract, "the run is about another data contract")
    _require(body["unit"] == run.agreed.unit, "the run protects another unit")
    run.dataset = body["dataset"]


def _countersign(reading: Reading, run: Run, body: Mapping[str, Any]) -> None:
    """Take a second signature under the manifest: by a member of the run, or of the federation."""
    member = body["member"]
    others = {} if reading.membership is None else reading.membership.members()
    key = run.keys.get(member) or others.get(member)
    if key is None:
        raise NotVerifiedError(f"{member} signed too, and is no member of the run or federation")
    # Whoever has had two keys is one all the same.
    _require(
        key.hex() != run.launcher and member != run.launched_by,
        "the launcher signed its own manifest twice, and another member has to",
    )
    try:
        verify_signature(
            key, COUNTERSIGN_DOMAIN, bytes.fromhex(run.manifest), bytes.fromhex(body["signature"])
        )
    except ProtocolError:
        raise NotVerifiedError(f"the second signature, by {member}, does not hold") from None
    run.signatures += 1


def _consent(run: Run, body: Mapping[str, Any]) -> None:
    member = body["member"]
    _require(member in run.keys, f"{member} is no member of the run")
    _require_signature(run, member, CONSENT_DOMAIN, bytes.fromhex(run.manifest), body["signature"])
    run.consented.add(member)


def _decline(run: Run, body: Mapping[str, Any]) -> None:
    _require(body["member"] in run.keys, f"{body['member']} is no member of the run")


def _register(run: Run, body: Mapping[str, Any]) -> None:
    _require(run.ended == "finished", "a model is registered after its run has finished")
    _require(body["model"] == run.model, "another model is registered than members accepted")


def _require_manifest(body: Mapping[str, Any]) -> Manifest:
    """What is said of the run is what its manifest says, whose hash is in every context."""
    try:
        manifest = Manifest.from_bytes(body["document"].encode("utf-8"))
    except (ProtocolError, UnicodeEncodeError):
        raise NotVerifiedError("the run's document is no manifest") from None
    _require(manifest.digest().hex() == body["manifest"], "the manifest has another hash")
    said = {
        "run": manifest.run,
        "name": manifest.name,
        "task": manifest.task,
        "members": dict(manifest.directory),
        "minimum": manifest.minimum_cohort,
        "group_size": manifest.group_size,
        "protection": manifest.protection,
    }
    for name, value in said.items():
        _require(body[name] == value, f"the manifest says something else of the run's {name}")
    return manifest


def _require(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as the sentence it is
    if not holds:
        raise NotVerifiedError(otherwise)


def _agree_on_keys(run: Run, body: Mapping[str, Any]) -> None:
    _require(run.dataset != "", "the run's data set was not declared before")
    fewest = run.agreed.minimum_cohort
    _require(
        len(run.consented) >= fewest,
        f"{len(run.consented)} members consented to the run, and its manifest asks for {fewest}",
    )
    # That somebody declined is the coordinator's word; a consent is the member's own.
    run.members = {name: run.keys[name] for name in sorted(run.consented)}
    run.roster, run.fingerprint = body["roster"], body["fingerprint"]
    run.history = first_history(bytes.fromhex(run.roster), bytes.fromhex(run.fingerprint))


def _agree_on_model(run: Run, body: Mapping[str, Any]) -> None:
    settled = run.stages > 0 and run.step is None
    _require(settled and run.model == _NO_MODEL, "the initial model is agreed on out of place")
    run.model, run.values = body["model"], body["values"]


def _reserve(reading: Reading, run: Run, entry: Entry, body: Mapping[str, Any]) -> None:
    step, number = body["step"], body["round"]
    asked, nodes = tuple(body["asked"]), body["nodes"]
    _require(run.step in {None, (step, number)}, "the step before it was not accepted")
    _require((step, number) not in run.done, f"step {step} of round {number} was opened before")
    _require(
        number == _due(run, step),
        f"step {step} of round {number} is out of place when {run.committed} rounds were committed",
    )
    plan = run.agreed.privacy
    _require(
        step != _WATCH or plan is None or run.watches < plan.watches,
        "there are more validations than the run's privacy plan has",
    )
    _require(list(asked) == sorted(set(asked)), "the members who are asked are not in order")
    _require(set(asked) <= set(run.members), "the sum asks members that did not consent to it")
    _require(set(nodes) <= set(asked), "a node answered that was not asked")
    if step == UPDATE and run.group_size:
        _require(len(asked) >= run.group_size, "a group is smaller than the run's groups")
        # Groups that change would show single members as differences.
        for group in run.groups:
            _require(
                group == set(asked) or group.isdisjoint(asked), "a group is not what it was before"
            )
        run.groups.add(frozenset(asked))
    else:
        _require(set(asked) == set(run.members), "the sum does not ask all members")
    _require(
        body["model"] == {STATISTICS: _NO_MODEL, UPDATE: run.model}.get(step, body["model"]),
        "the sum starts from another model than its members held",
    )
    _require(body["protection"] == run.protection, "the sum has another protection than its run")
    context = SumContext(
        run=bytes.fromhex(run.manifest),
        step=step,
        round=number,
        schema=bytes.fromhex(body["schema"]),
        model=bytes.fromhex(body["model"]),
        history=run.history,
        roster=bytes.fromhex(run.roster),
        cohort=names_digest(asked),
        keys=bytes.fromhex(run.fingerprint),
    ).digest()
    _require(body["context"] == context.hex(), "the sum's context is not that of its place")
    receipt = _require_receipt(run, body)
    run.reserved[body["context"]] = Reserved(
        index=entry.index,
        act=(step, number),
        asked=asked,
        nodes=frozenset(nodes),
    )
    for member, said in nodes.items():
        head = LedgerHead(said["leaves"], said["root"])
        message = head_message(context, head)
        _require_signature(run, member, HEAD_DOMAIN, message, said["signature"])
        act = (run.agreed.run, step, number)
        anchor = Anchor(entry.index, member, head, act, receipt, entry.time_ms)
        key = run.keys[member]
        reading.told.setdefault(key, []).append(anchor)
        if (key, head.leaves) in reading.sizes:
            reading.set_back.add(member)
        reading.sizes.add((key, head.leaves))
    # Whoever sent its vector has spent it, whether or not it was opened.
    run.spent.append((frozenset(nodes), receipt))
    run.releases += 1


def _require_receipt(run: Run, body: Mapping[str, Any]) -> Receipt:
    """What a release costs is what the manifest makes it, and nothing else."""
    values = body["receipt"].get("values")
    if body["step"] == UPDATE:
        plan = run.agreed.privacy
        due = vector_length(plan, UPDATE, update_values(plan, run.values))
        _require(values == due, "the receipt is of another number of values than the model has")
    expected = run.agreed.receipt(body["step"], body["round"], values)
    _require(
        body["receipt"] == expected.to_json(),
        "the receipt is not what the run's manifest says of such a release",
    )
    return expected


def _open(run: Run, body: Mapping[str, Any]) -> None:
    step, number = body["step"], body["round"]
    members = tuple(body["members"])
    _require(body["context"] in run.reserved, "the sum was not reserved before it was opened")
    reserved = run.reserved.pop(body["context"])
    asked = reserved.asked
    _require(reserved.act == (step, number), "the sum was reserved as another step's")
    _require(number == _due(run, step), "the sum is out of place")
    _require(run.step in {None, (step, number)}, "the step before it was not accepted")
    _require(list(members) == sorted(set(members)), "the sum's members are not in order")
    _require(set(members) <= set(asked), "the sum has members who were not asked")
    _require(set(members) <= set(reserved.nodes), "the sum has members whose vectors did not come")
    if step == UPDATE and run.group_size:
        _require(not run.asked.intersection(asked), "a member is asked for two sums of one step")
    else:
        _require(not run.opened, "the step has two sums")
    _require(len(members) >= run.minimum, "the sum has fewer members than the run's minimum")
    _no_difference(run, body, frozenset(members))
    context = bytes.fromhex(body["context"])
    needed = _more_than_two_thirds(len(asked if len(asked) <= _COMPLETE_UP_TO else members))
    _signed(
        run,
        body["signatures"],
        set(members),
        domain=SURVIVORS_DOMAIN,
        message=survivors_message(context, members),
        needed=needed,
    )
    run.step = (step, number)
    run.opened.append((context, members, bytes.fromhex(body["aggregate"])))
    run.asked.update(asked)
    run.due = max(run.due, reserved.index)
    run.sums += 1


def _no_difference(run: Run, body: Mapping[str, Any], members: _Members) -> None:
    # Sums about the same rows over different members would show some of them as differences.
    rows = ROWS.get(body["step"])
    _require(
        rows is None or run.rows.setdefault(rows, members) == members,
        "with an earlier sum about the same rows it shows a few members alone",
    )


def _due(run: Run, step: object) -> int | None:
    """Return the round that a sum of `step` may have now; None if it may not be opened."""
    if step == STATISTICS:
        return run.stages if run.model == _NO_MODEL else None
    if run.model == _NO_MODEL or run.updated:
        return None
    return run.committed + 1 if step == UPDATE else run.committed


def _accept(run: Run, body: Mapping[str, Any]) -> None:
    step, number = body["step"], body["round"]
    _require(run.step == (step, number), "it accepts no sum that was opened just before")
    _require(body["kept"] or step == _WATCH, "a round is undone by a validation, by nothing else")
    if step == STATISTICS or (step != UPDATE and body["kept"]):
        _require(body["model"] == run.model, "members hold another model than before")
    history = extend_history(
        run.history, run.opened, model=bytes.fromhex(body["model"]), kept=body["kept"]
    )
    needed = _more_than_two_thirds(len(run.members))
    _signed(
        run,
        body["signatures"],
        set(run.members),
        domain=ACCEPTED_DOMAIN,
        message=history,
        needed=needed,
    )
    if step == STATISTICS:
        run.stages += 1
    elif step == UPDATE:
        run.updated = True
        run.before = run.model
    run.history, run.model = history, body["model"]
    run.done.add((step, number))
    run.watches += step == _WATCH
    run.step = None
    run.opened.clear()
    run.asked.clear()
    # what was reserved for this step and not opened never will be
    run.reserved.clear()


def _commit(run: Run, body: Mapping[str, Any]) -> None:
    number = body["round"]
    _require(number == run.committed + 1, f"round {number} follows on round {run.committed}")
    _require(run.updated, f"round {number} has no sum of updates that was accepted")
    _require(
        body["model_before"] == run.before,
        f"round {number} starts from another model than the round before ended with",
    )
    _require(body["model_after"] == run.model, "members accepted another model")
    run.committed += 1
    run.updated = False


def _finish(run: Run, body: Mapping[str, Any]) -> None:
    _require(run.step is None, "a sum that was opened was not accepted")
    _require(not run.updated, f"round {run.committed + 1} was summed and not committed")
    _require(body["rounds"] == run.committed, "the run ends with another round")
    _require(body["model"] == run.model, "the run ends with another model than members accepted")
    run.ended = "finished"


def _signed(
    run: Run,
    signatures: Mapping[str, str],
    allowed: set[str],
    *,
    domain: str,
    message: bytes,
    needed: int,
) -> None:
    for member, signature in signatures.items():
        _require(member in allowed, f"{member} signed, and is not one of those who may")
        _require_signature(run, member, domain, message, signature)
    _require(
        len(signatures) >= needed,
        f"{len(signatures)} members signed and more than two thirds, {needed}, are needed",
    )


def _more_than_two_thirds(count: int) -> int:
    return 2 * count // 3 + 1


def _require_signature(run: Run, member: str, domain: str, message: bytes, signature: str) -> None:
    try:
        verify_signature(run.keys[member], domain, message, bytes.fromhex(signature))
    except ProtocolError:
        raise NotVerifiedError(f"the signature of {member} does not hold") from None
    run.signatures += 1


_BEFORE_KEYS = {
    "data.declared": _declare,
    "rules.checked": lambda _, __: None,
    "run.consented": _consent,
    "run.declined": _decline,
    "keys.agreed": _agree_on_keys,
}
