"""The grammar of a run in the ledger: which entry may follow, and what members signed.

run.started   keys.agreed
statistics    (sum.opened receipt)  sum.accepted                   stage by stage
model.agreed
a round       (sum.opened receipt)+ sum.accepted  round.committed  one pair for each group
evaluations   (sum.opened receipt)  sum.accepted                   after any round
run.finished  or, anywhere, run.stopped
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from privacy.errors import NotVerifiedError, ProtocolError
from privacy.identity import verify_signature
from privacy.ledger.entry import EVALUATIONS, ROWS, STATISTICS, UPDATE, Entry
from privacy.manifest import Manifest
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

# With one member the sum is that member's vector.
_SMALLEST_SUM = 2
# Above, masks are shared with neighbours alone; see `privacy.secure_sum.graph`.
_COMPLETE_UP_TO = 32
_NO_MODEL = "00" * 32
_WATCH, *_ = EVALUATIONS
_Members = frozenset[str]


@dataclass
class Run:
    """How far a run has come while its entries are read.

    Attributes:
        manifest: Its digest, which is the run's id in every context.
        keys: Member -> public key.
        minimum: Fewest members of a sum.
        group_size: Fewest members who are asked for an update's sum; 0 for all.
        protection: Of every sum.
        agreed: The manifest, which says what every receipt must be.
        roster: Digest, after the keys were agreed.
        fingerprint: Of the group key.
        history: Over all accepted sums.
        model: Of the members, as they accepted it last.
        before: The model that the round under way started from.
        stages: Statistics that were accepted.
        committed: Rounds so far.
        updated: Whether the update of the next round was accepted.
        ended: Whether it finished or was stopped.
        step: Name and round of the step under way.
        opened: Its sums: context, survivors, aggregate.
        asked: Who was asked for them.
        pending: The entry that waits for its receipt.
        done: Steps that were accepted.
        rows: What rows sums were about -> over whom they were.
        groups: Who was ever asked together for an update.
        values: Weights of the network.
        receipts: Receipts so far.
        spent: Each release's members and receipt.
        signatures: Signatures that were checked.
    """

    manifest: str
    keys: Mapping[str, bytes]
    minimum: int
    group_size: int
    protection: object
    agreed: Manifest
    roster: str = ""
    fingerprint: str = ""
    history: bytes = b""
    model: str = _NO_MODEL
    before: str = _NO_MODEL
    stages: int = 0
    committed: int = 0
    updated: bool = False
    ended: bool = False
    step: tuple[str, int] | None = None
    opened: list[tuple[bytes, tuple[str, ...], bytes]] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    pending: Entry | None = None
    done: set[tuple[str, int]] = field(default_factory=set)
    rows: dict[str, _Members] = field(default_factory=dict)
    groups: set[_Members] = field(default_factory=set)
    values: int = 0
    receipts: int = 0
    spent: list[tuple[_Members, Receipt]] = field(default_factory=list)
    signatures: int = 0


def follow(runs: dict[str, Run], entry: Entry) -> None:
    """Take one entry further.

    Raises:
        NotVerifiedError: it may not come here, or a signature in it does not hold.
    """
    _require(not entry.kind.startswith("budget."), f"{entry.kind} is for a node's own ledger")
    name, body = str(entry.body["run"]), dict(entry.body)
    if entry.kind == "run.started":
        _require(name not in runs, f"run {name} was started before")
        keys = {member: bytes.fromhex(key) for member, key in body["members"].items()}  # type: ignore[attr-defined]
        _require(len(set(keys.values())) == len(keys), "two members have one key")
        manifest = _require_manifest(body)
        runs[name] = Run(
            manifest=str(body["manifest"]),
            keys=keys,
            minimum=max(_number(body["minimum"]), _SMALLEST_SUM),
            group_size=_number(body["group_size"]),
            protection=body["protection"],
            agreed=manifest,
        )
        return
    _require(name in runs, f"run {name} was never started")
    run = runs[name]
    _require(not run.ended, f"run {name} had ended")
    if entry.kind == "run.stopped":
        run.ended = True
        return
    if entry.kind == "keys.agreed":
        _agree_on_keys(run, body)
        return
    _require(run.roster != "", "the members' keys were not agreed on before")
    steps = {
        "model.agreed": _agree_on_model,
        "sum.opened": lambda run, _: _open(run, entry),
        "receipt": _receive,
        "sum.accepted": _accept,
        "round.committed": _commit,
        "run.finished": _finish,
    }
    steps[entry.kind](run, body)


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


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _agree_on_keys(run: Run, body: Mapping[str, Any]) -> None:
    _require(run.roster == "", "keys are agreed on once")
    run.roster, run.fingerprint = body["roster"], body["fingerprint"]
    run.history = first_history(bytes.fromhex(run.roster), bytes.fromhex(run.fingerprint))


def _agree_on_model(run: Run, body: Mapping[str, Any]) -> None:
    settled = run.stages > 0 and run.step is None
    _require(settled and run.model == _NO_MODEL, "the initial model is agreed on out of place")
    run.model, run.values = body["model"], body["values"]


def _open(run: Run, entry: Entry) -> None:
    body: dict[str, Any] = dict(entry.body)
    step, number = body["step"], body["round"]
    members, asked = tuple(body["members"]), tuple(body["asked"])
    _require(run.pending is None, "the sum before it has no receipt")
    _require(run.step in {None, (step, number)}, "the step before it was not accepted")
    _require((step, number) not in run.done, f"step {step} of round {number} was opened before")
    _require(
        number == _due(run, step),
        f"step {step} of round {number} is out of place when {run.committed} rounds were committed",
    )
    _require(
        list(members) == sorted(set(members)) and list(asked) == sorted(set(asked)),
        "the sum's members are not in order",
    )
    plan = run.agreed.privacy
    _require(
        step != _WATCH
        or plan is None
        or sum(name == _WATCH for name, _ in run.done) < plan.watches,
        "there are more validations than the run's privacy plan has",
    )
    _require(set(members) <= set(asked), "the sum has members who were not asked")
    _require(set(asked) <= set(run.keys), "the sum asks members that the run has not")
    if step == UPDATE and run.group_size:
        _require(len(asked) >= run.group_size, "a group is smaller than the run's groups")
        _require(not run.asked.intersection(asked), "a member is asked for two sums of one step")
        # Groups that change would show single members as differences.
        for group in run.groups:
            _require(
                group == set(asked) or group.isdisjoint(asked), "a group is not what it was before"
            )
        run.groups.add(frozenset(asked))
    else:
        _require(set(asked) == set(run.keys), "the sum does not ask all members")
        _require(not run.opened, "the step has two sums")
    _require(len(members) >= run.minimum, "the sum has fewer members than the run's minimum")
    _require(
        body["model"] == {STATISTICS: _NO_MODEL, UPDATE: run.model}.get(step, body["model"]),
        "the sum starts from another model than its members held",
    )
    _no_difference(run, body, frozenset(members))
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
    needed = _more_than_two_thirds(len(asked if len(asked) <= _COMPLETE_UP_TO else members))
    message = survivors_message(context, members)
    _signed(
        run,
        body["signatures"],
        set(members),
        domain=SURVIVORS_DOMAIN,
        message=message,
        needed=needed,
    )
    run.step = (step, number)
    run.opened.append((context, members, bytes.fromhex(body["aggregate"])))
    run.asked.update(asked)
    run.pending = entry


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


def _receive(run: Run, body: Mapping[str, Any]) -> None:
    opened = None if run.pending is None else run.pending.body
    _require(
        opened is not None and (body["step"], body["round"]) == (opened["step"], opened["round"]),
        "the receipt belongs to no sum that waits for one",
    )
    members = [] if opened is None else opened["members"]
    _require(body["members"] == members, "the receipt has other members than its sum")
    _require(body["protection"] == run.protection, "the receipt has another protection")
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
    run.spent.append((frozenset(body["members"]), expected))
    run.pending = None
    run.receipts += 1


def _accept(run: Run, body: Mapping[str, Any]) -> None:
    step, number = body["step"], body["round"]
    _require(run.pending is None, "a sum that was opened has no receipt")
    _require(run.step == (step, number), "it accepts no sum that was opened just before")
    _require(body["kept"] or step == _WATCH, "a round is undone by a validation, by nothing else")
    if step == STATISTICS or (step != UPDATE and body["kept"]):
        _require(body["model"] == run.model, "members hold another model than before")
    history = extend_history(
        run.history, run.opened, model=bytes.fromhex(body["model"]), kept=body["kept"]
    )
    needed = _more_than_two_thirds(len(run.keys))
    _signed(
        run,
        body["signatures"],
        set(run.keys),
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
    run.step = None
    run.opened.clear()
    run.asked.clear()


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
    _require(run.pending is None, "a sum that was opened has no receipt")
    _require(run.step is None, "a sum that was opened was not accepted")
    _require(not run.updated, f"round {run.committed + 1} was summed and not committed")
    _require(body["rounds"] == run.committed, "the run ends with another round")
    _require(body["model"] == run.model, "the run ends with another model than members accepted")
    run.ended = True


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
        try:
            verify_signature(run.keys[member], domain, message, bytes.fromhex(signature))
        except ProtocolError:
            raise NotVerifiedError(f"the signature of {member} does not hold") from None
        run.signatures += 1
    _require(
        len(signatures) >= needed,
        f"{len(signatures)} members signed and more than two thirds, {needed}, are needed",
    )


def _more_than_two_thirds(count: int) -> int:
    return 2 * count // 3 + 1
