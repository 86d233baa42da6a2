"""Forgeries of step 6: runs that do not keep the protocol, though all is signed."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vectors import positives
from vectors.builder import (
    COORDINATOR,
    NO_MODEL,
    PERSONAL,
    PLAN,
    TEST,
    WATCH,
    Line,
    World,
    digest,
    identity,
    public,
    without,
)
from vectors.forging import HOSTILE, A, B, C, D, add, flipped, forgery, heads_told
from vectors.negatives_form import with_body
from vectors.positives import FOUR

from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.ledger.grammar import CONSENT_DOMAIN
from privacy.manifest import SIGNING_DOMAIN
from privacy.sum_context import ACCEPTED_DOMAIN, SURVIVORS_DOMAIN, survivors_message


@forgery(6, "full", "script")
def consent_missing(world: World) -> None:
    """A member never agreed to take part, and its rows are in every sum."""
    world.main.drop(world.main.find("run.consented", member=D))


@forgery(6, "full", "settled")
def consent_forged(world: World) -> None:
    """A member's consent is signed by the coordinator."""
    line = world.main.find("run.consented", member=D)
    told = world.manifests["run-1"].digest()
    line.body["signature"] = identity(COORDINATOR).sign(CONSENT_DOMAIN, told).hex()


@forgery(6, "full", "settled")
def consent_to_another_run(world: World) -> None:
    """A member's consent is to another manifest."""
    line = world.main.find("run.consented", member=D)
    line.body["signature"] = identity(D).sign(CONSENT_DOMAIN, bytes(32)).hex()


@forgery(6, "full", "settled")
def consent_in_another_domain(world: World) -> None:
    """What a member signed as something else is shown as its consent."""
    line = world.main.find("run.consented", member=D)
    told = world.manifests["run-1"].digest()
    line.body["signature"] = identity(D).sign(ACCEPTED_DOMAIN, told).hex()


@forgery(6, "full", "script")
def consent_of_a_stranger(world: World) -> None:
    """Somebody who is no member consents, with a signature that holds."""
    told = world.manifests["run-1"].digest()
    signature = identity(HOSTILE).sign(CONSENT_DOMAIN, told).hex()
    body = {"run": "run-1", "member": HOSTILE, "signature": signature}
    world.main.after(world.main.find("run.consented"), "run.consented", body)


@forgery(6, "full", "script")
def consents_swapped(world: World) -> None:
    """Two members' consents are shown under each other's names."""
    told = world.manifests["run-1"].digest()
    for member, other in ((A, B), (B, A)):
        line = world.main.find("run.consented", member=member)
        line.body["signature"] = identity(other).sign(CONSENT_DOMAIN, told).hex()


@forgery(6, "full", "script")
def consent_after_the_keys(world: World) -> None:
    """A member consents after the keys were agreed on."""
    line = world.main.find("run.consented", member=D)
    world.main.drop(line)
    world.main.put(world.main.place(world.main.find("keys.agreed")) + 1, line)
    line.time_ms = world.main.find("keys.agreed").time_ms


@forgery(6, "full", "script")
def stranger_consents_after_the_keys(world: World) -> None:
    """Somebody who is no member consents after the keys were agreed on."""
    told = world.manifests["run-1"].digest()
    signature = identity(HOSTILE).sign(CONSENT_DOMAIN, told).hex()
    body = {"run": "run-1", "member": HOSTILE, "signature": signature}
    world.main.after(world.main.find("keys.agreed"), "run.consented", body)


@forgery(6, "full", "script")
def declined_after_the_keys(world: World) -> None:
    """A member declines after the keys were agreed on."""
    body = {"run": "run-1", "member": A, "reason": "after all"}
    world.main.after(world.main.find("keys.agreed"), "run.declined", body)


@forgery(6, "full", "script")
def rules_after_the_keys(world: World) -> None:
    """The rules were checked after the keys were agreed on."""
    line = world.main.find("rules.checked")
    world.main.drop(line)
    world.main.after(world.main.find("keys.agreed"), line.kind, line.body)


def _beside(world: World, step: str, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """One more sum of four members: what reserves it, and what opens it."""
    about = {"run": "run-1", "step": step, "round": number}
    receipt = world.manifests["run-1"].receipt(step, number, 64).to_json()
    computed = dict.fromkeys(("model", "context", "protection"))
    told = {"asked": list(FOUR), "schema": digest("s"), "nodes": heads_told(*FOUR)}
    reserved = {**about, **computed, **told}
    opened = {**about, "context": None, "members": list(FOUR), "aggregate": digest("sum")}
    opened |= {"payload_bytes": 576, "signatures": dict.fromkeys(FOUR)}
    return {**reserved, "receipt": receipt}, opened


@forgery(6, "full", "script")
def opened_beside_another_step(world: World) -> None:
    """Two steps are reserved, and while the first one is not accepted the second one is opened."""
    reserved, opened = _beside(world, TEST, 0)
    world.main.after(world.main.find("sum.reserved", step=UPDATE), "sum.reserved", reserved)
    world.main.after(world.main.find("sum.opened", step=UPDATE), "sum.opened", opened)


@forgery(6, "full", "script")
def statistics_opened_after_the_model(world: World) -> None:
    """Statistics that were reserved before the model was agreed on are opened after it."""
    reserved, opened = _beside(world, STATISTICS, 1)
    line = world.main.find("model.agreed")
    world.main.after(line, "sum.opened", opened)
    world.main.put(world.main.place(line), Line("sum.reserved", reserved, line.time_ms))


@forgery(6, "full", "script")
def step_summed_again_after_it_was_accepted(world: World) -> None:
    """A test that was accepted is summed once more, under another schema."""
    reserved = world.main.find("sum.reserved", step=TEST)
    again = {**reserved.body, "schema": digest("second"), "context": None}
    again["nodes"] = heads_told(*FOUR)
    world.main.after(world.main.find("sum.accepted", step=TEST), "sum.reserved", again)


@forgery(6, "full", "script")
def declined_by_a_stranger(world: World) -> None:
    """Somebody who is no member declines."""
    body = {"run": "run-1", "member": HOSTILE, "reason": "no"}
    world.main.after(world.main.find("run.consented"), "run.declined", body)


@forgery(6, "full", "settled")
def launcher_forged(world: World) -> None:
    """The launcher's signature is by another key than the one that is named."""
    line = world.main.find("run.started")
    text = line.body["document"].encode()
    line.body["signature"] = identity(HOSTILE).sign(SIGNING_DOMAIN, text).hex()


def _started(name: str, value: object) -> Callable[[World], None]:
    return lambda world: world.main.find("run.started").body.update({name: value})


for _name, _value in (
    ("name", "another name"),
    ("task", "claims"),
    ("members", {A: public(A), B: public(B), C: public(C), D: public(HOSTILE)}),
    ("minimum", 2),
    ("group_size", 2),
    ("protection", "sealed"),
    ("manifest", digest("another manifest")),
):
    add(
        6,
        "full",
        "settled",
        f"manifest-says-another-{_name.replace('_', '-')}",
        f"The entry that starts the run says another {_name} than the manifest that was signed.",
        _started(_name, _value),
    )


def _document(change: Callable[[str], str]) -> Callable[[World], None]:
    """Rewrite the manifest's text, with the hash and the launcher's signature that belong to it."""

    def put(world: World) -> None:
        text = change(world.manifests["run-1"].to_bytes().decode())
        told = hashlib.sha256(b"tacit/manifest/v1\0" + text.encode()).hexdigest()
        signature = identity("launcher").sign(SIGNING_DOMAIN, text.encode()).hex()
        world.main.find("run.started").body.update(
            document=text, manifest=told, signature=signature
        )

    return put


def _replace(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text, (old, text)
        return text.replace(old, new, 1)

    return change


for _name, _about, _before, _after in (
    ("not-canonical", "has a space that the canonical form has not", '"format":4', '"format": 4'),
    ("of-format-3", "is of an older format", '"format":4', '"format":3'),
    ("with-unknown-suite", "names no suite that there is", '"task":', '"suite":"none","task":'),
    ("with-unknown-key", "has a key that none has", '"format":4', '"extra":1,"format":4'),
    ("minimum-zero", "asks for no member at all", '"minimum_cohort":3', '"minimum_cohort":0'),
    ("minimum-true", "has a flag for the minimum", '"minimum_cohort":3', '"minimum_cohort":true'),
    ("delta-one", "promises nothing with certainty", '"delta":1e-05', '"delta":1.0'),
    ("rate-above-one", "samples more than everybody", '"rate":0.05', '"rate":1.5'),
    (
        "mechanism-is-a-list",
        "has a list for the mechanism",
        '"mechanism":"gaussian"',
        '"mechanism":[]',
    ),
    (
        "mechanism-none",
        "has a plan without a mechanism",
        '"mechanism":"gaussian"',
        '"mechanism":"none"',
    ),
    ("grid-no-power", "has a grid that is no power of two", '"grid":0.0009765625', '"grid":0.001'),
    ("steps-two", "adds distributed noise once to two steps", '"steps":1', '"steps":2'),
    (
        "organisation-sampled",
        "samples organisations",
        '"unit":"borrower","update_share"',
        '"unit":"organisation","update_share"',
    ),
    (
        "ledger-key-capitals",
        "names the ledger's key in capitals",
        '"ledger":{"key":"',
        '"ledger":{"key":"A',
    ),
):
    add(
        6,
        "full",
        "script",
        f"manifest-{_name}",
        f"The manifest, signed and hashed as it is, {_about}.",
        _document(_replace(_before, _after)),
    )


def _agreed(**changes: Any) -> Callable[[World], None]:  # noqa: ANN401 - any field
    def put(world: World) -> None:
        world.manifests["run-1"] = replace(world.manifests["run-1"], **changes)

    return put


add(
    6,
    "full",
    "script",
    "manifest-of-another-ledger",
    "All signed a manifest whose run is to be recorded in another ledger.",
    _agreed(ledger={"origin": "tacit/another", "key": public(COORDINATOR)}),
)
add(
    6,
    "full",
    "script",
    "manifest-of-another-ledgers-key",
    "All signed a manifest that names another key of the ledger.",
    _agreed(ledger={"origin": positives.full().main.origin, "key": public(HOSTILE)}),
)
add(
    6,
    "full",
    "script",
    "members-with-one-key",
    "Two members have one key, and count as two.",
    _agreed(directory={A: public(A), B: public(B), C: public(C), D: public(C)}),
)
add(
    6,
    "rotated",
    "script",
    "manifest-of-the-key-before",
    "A run that started after the ledger's key changed names the key before.",
    lambda world: world.manifests.__setitem__(
        "run-2",
        replace(
            world.manifests["run-2"],
            ledger={"origin": world.main.origin, "key": public(COORDINATOR)},
        ),
    ),
)


@forgery(6, "full", "script")
def run_never_started(world: World) -> None:
    """A run is stopped that never started."""
    body = {"run": "ghost", "reason": "by hand"}
    world.manifests["ghost"] = world.manifests["run-1"]
    world.main.after(world.main.find("run.started"), "run.stopped", body)


@forgery(6, "stopped", "settled")
def sum_after_the_stop(world: World) -> None:
    """A stopped run goes on: its sum is accepted after its end."""
    line = world.main.find("sum.accepted")
    world.main.drop(line)
    line.time_ms = world.main.lines[-1].time_ms
    world.main.lines.append(line)
    world.main.states[-1].size = len(world.main.lines)


@forgery(6, "full", "script")
def sum_after_the_end(world: World) -> None:
    """After the run has finished, one more sum is reserved, opened and accepted."""
    world.main.states.pop()
    for book in world.nodes.values():
        book.states.clear()
    world.release("run-1", PERSONAL, 2, witnesses=FOUR).end()


@forgery(6, "stopped", "settled")
def registered_after_a_stop(world: World) -> None:
    """A model of a run that was stopped is registered."""
    body = {"run": "run-1", "model": NO_MODEL, "file": digest("f"), "card": digest("c")}
    world.main.after(world.main.lines[-1], "model.registered", body)
    world.main.states[-1].size = len(world.main.lines)


@forgery(6, "full", "settled")
def registered_another_model(world: World) -> None:
    """Another model is registered than members accepted."""
    world.main.find("model.registered").body["model"] = digest("another model")


@forgery(6, "full", "settled")
def declared_another_contract(world: World) -> None:
    """The data that are declared keep another contract than the manifest's."""
    world.main.find("data.declared").body["contract"] = digest("another contract")


@forgery(6, "full", "settled")
def declared_another_unit(world: World) -> None:
    """The data that are declared are about another unit."""
    world.main.find("data.declared").body["unit"] = "device"


@forgery(6, "full", "script")
def declared_never(world: World) -> None:
    """Nobody said what data the run is about."""
    world.main.drop(world.main.find("data.declared"))


@forgery(6, "full", "script")
def declared_after_the_keys(world: World) -> None:
    """The data are declared after the keys were agreed on."""
    line = world.main.find("data.declared")
    world.main.drop(line)
    world.main.after(world.main.find("keys.agreed"), line.kind, line.body)


@forgery(6, "full", "script")
def sum_before_the_keys(world: World) -> None:
    """The run's first sum stands before the keys were agreed on."""
    line = world.main.find("keys.agreed")
    world.settle()
    world.main.drop(line)
    world.main.after(world.main.find("sum.reserved"), line.kind, line.body)


@forgery(6, "full", "script")
def model_before_statistics(world: World) -> None:
    """The initial model is agreed on before any statistics were accepted."""
    line = world.main.find("model.agreed")
    world.main.drop(line)
    world.main.after(world.main.find("keys.agreed"), line.kind, line.body)


def _renumber(world: World, step: str, old: int, new: int) -> None:
    for book in world.books:
        for line in book.lines:
            if (line.body.get("step"), line.body.get("round")) == (step, old):
                line.body["round"] = new


@forgery(6, "full", "script")
def round_left_out(world: World) -> None:
    """The second round says that it is the third, and all signed that."""
    _renumber(world, UPDATE, 2, 3)


@forgery(6, "full", "script")
def statistics_from_one(world: World) -> None:
    """The first stage of statistics says that it is the second."""
    _renumber(world, STATISTICS, 0, 1)


@forgery(6, "full", "script")
def test_of_a_round_to_come(world: World) -> None:
    """The test is of a round that was not trained."""
    _renumber(world, TEST, 2, 3)


@forgery(6, "full", "script")
def update_before_the_model(world: World) -> None:
    """A first update is summed before there is a model."""
    line = world.main.find("model.agreed")
    world.main.drop(line)
    world.main.after(world.main.find("sum.accepted", step=UPDATE), line.kind, line.body)


@forgery(6, "full", "script")
def statistics_after_the_model(world: World) -> None:
    """More statistics are summed after the model was agreed on."""
    for book in world.books:
        for line in book.lines:
            if line.body.get("step") == WATCH:
                line.body["step"] = STATISTICS


def _pinned(world: World) -> None:
    """Keep the receipts as they honestly are, whatever the manifest will say."""
    honest = world.copy().settle()
    for book, same in zip(world.books, honest.books, strict=True):
        for line, settled in zip(book.lines, same.lines, strict=True):
            if "receipt" in line.body:
                line.body["receipt"] = settled.body["receipt"]


@forgery(6, "full", "script")
def unit_that_no_receipt_holds(world: World) -> None:
    """The plan that all signed protects a unit whose name no receipt can hold."""
    _pinned(world)
    plan = without(PLAN, unit="b" * 65)
    world.manifests["run-1"] = replace(world.manifests["run-1"], privacy=plan)


@forgery(6, "full", "script")
def run_that_no_receipt_holds(world: World) -> None:
    """The run's name is so long that no receipt can say what it was for."""
    _pinned(world)
    name = "r" * 500
    world.manifests[name] = replace(world.manifests["run-1"], run=name)
    for book in world.books:
        for line in book.lines:
            if "run" in line.body:
                line.body["run"] = name


@forgery(6, "full", "settled")
def finished_without_acceptance(world: World) -> None:
    """The run finishes after a sum that was opened and not accepted."""
    world.main.drop(world.main.find("sum.accepted", step=TEST))


@forgery(6, "full", "script")
def a_member_not_asked(world: World) -> None:
    """A sum asks all members but one, so that a difference with another sum shows that one."""
    line = world.main.find("sum.reserved", step=TEST)
    line.body["asked"] = [A, B, C]
    line.body["nodes"].pop(D)
    world.main.find("sum.opened", step=TEST).body["members"] = [A, B, C]


@forgery(6, "full", "script")
def asked_out_of_order(world: World) -> None:
    """Members are asked in another order than the one that has one digest."""
    world.main.find("sum.reserved").body["asked"].reverse()


@forgery(6, "full", "script")
def asked_a_stranger(world: World) -> None:
    """A sum asks somebody who is no member."""
    world.main.find("sum.reserved").body["asked"].append(HOSTILE)


@forgery(6, "full", "script")
def answered_by_a_stranger(world: World) -> None:
    """A vector came from somebody who was not asked."""
    world.main.find("sum.reserved").body["nodes"] |= heads_told(HOSTILE)


@forgery(6, "full", "script")
def update_from_another_model(world: World) -> None:
    """An update starts from another model than members accepted before."""
    world.main.find("sum.reserved", 1, step=UPDATE).body["model"] = digest("another model")


@forgery(6, "full", "script")
def statistics_of_a_model(world: World) -> None:
    """Statistics are summed under a model, where there is none."""
    world.main.find("sum.reserved", step=STATISTICS).body["model"] = digest("another model")


@forgery(6, "full", "script")
def sum_protected_less(world: World) -> None:
    """One sum is clear where the run's sums are masked."""
    world.main.find("sum.reserved", step=TEST).body["protection"] = "clear"


@forgery(6, "full", "settled")
def context_made_up(world: World) -> None:
    """A sum's context is a hash of something else; its opening names the same."""
    for kind in ("sum.reserved", "sum.opened"):
        world.main.find(kind, step=TEST).body["context"] = digest("made up")


@forgery(6, "full", "settled")
def schema_changed_after_signing(world: World) -> None:
    """How vectors are written was changed after members signed."""
    world.main.find("sum.reserved", step=UPDATE).body["schema"] = digest("wider")


@forgery(6, "full", "settled")
def context_of_the_round_before(world: World) -> None:
    """Round 2 is opened by what members signed for round 1."""
    first, second = (world.main.find("sum.opened", n, step=UPDATE) for n in (0, 1))
    second.body.update({n: first.body[n] for n in ("members", "signatures", "aggregate")})


@forgery(6, "full", "settled")
def rosters_digest_changed(world: World) -> None:
    """The roster that keys were agreed on over is another than the one members signed under."""
    world.main.find("keys.agreed").body["roster"] = digest("another roster")


_CHEAPER: tuple[tuple[str, str, Any], ...] = (
    ("share", UPDATE, 4.8),
    ("rate", UPDATE, 0.01),
    ("shares", UPDATE, 4),
    ("clip", UPDATE, 0.5),
    ("values", UPDATE, 64),
    ("cohort", UPDATE, "test"),
    ("unit", UPDATE, "device"),
    ("purpose", UPDATE, "run run-9, update of round 1"),
    ("share", STATISTICS, 40.0),
    ("shares", TEST, 4),
    ("kind", TEST, "statistics"),
    ("cohort", WATCH, "test"),
)


def _cheaper(step: str, name: str, value: object) -> Callable[[World], None]:
    def change(world: World) -> None:
        settled = world.copy().settle()
        receipt = {**settled.main.find("sum.reserved", step=step).body["receipt"], name: value}
        world.main.find("sum.reserved", step=step).body["receipt"] = receipt
        for book in world.nodes.values():
            book.find("budget.reserved", step=step).body["receipt"] = receipt
            if name == "unit":
                terms = book.find("budget.terms")
                book.after(terms, terms.kind, {**terms.body, "unit": value})

    return change


for _name, _step, _value in _CHEAPER:
    add(
        6,
        "full",
        "script",
        f"under-counted-{_name}-of-{_step.replace(' ', '-')}",
        f"All sides record another {_name} of a {_step} than the manifest makes it, and sign it.",
        _cheaper(_step, _name, _value),
    )


@forgery(6, "local", "script")
def under_counted_steps(world: World) -> None:
    """A round of three local steps is recorded as one step, by all sides."""
    _cheaper(UPDATE, "steps", 1)(world)


@forgery(6, "local", "script")
def under_counted_shares_where_vectors_are_read(world: World) -> None:
    """Vectors that the coordinator may read are recorded as covered by two members' noise."""
    _cheaper(STATISTICS, "shares", 2)(world)


@forgery(6, "plain", "script")
def noise_made_up(world: World) -> None:
    """A run without noise records one of its sums as noised."""
    settled = world.copy().settle()
    told = {"mechanism": "gaussian", "share": 1.0, "clip": 1.0}
    receipt = {**settled.main.find("sum.reserved", step=UPDATE).body["receipt"], **told}
    for book in world.books:
        kind = "sum.reserved" if book is world.main else "budget.reserved"
        book.find(kind, step=UPDATE).body["receipt"] = receipt


@forgery(6, "discrete", "script")
def under_counted_grid(world: World) -> None:
    """A coarser grid is recorded as a finer one, by all sides."""
    _cheaper(UPDATE, "grid", 2.0**-20)(world)


@forgery(6, "discrete", "script")
def under_counted_cohort(world: World) -> None:
    """Rows that are training rows of one run and test rows of another are counted once."""
    _cheaper(UPDATE, "cohort", "training")(world)


@forgery(6, "full", "script")
def one_validation_too_many(world: World) -> None:
    """There are more validations than the plan that was agreed on has."""
    plan = without(PLAN, watches=0)
    world.manifests["run-1"] = replace(world.manifests["run-1"], privacy=plan)


@forgery(6, "full", "settled")
def opened_without_reserve(world: World) -> None:
    """A sum was opened that was not on record before."""
    world.main.drop(world.main.find("sum.reserved", step=TEST))


@forgery(6, "full", "settled")
def reserved_after_it_was_opened(world: World) -> None:
    """A sum was put on record after it had been opened."""
    reserved = world.main.find("sum.reserved", step=TEST)
    opened = world.main.find("sum.opened", step=TEST)
    reserved.body, opened.body = opened.body, reserved.body
    reserved.kind, opened.kind = opened.kind, reserved.kind


@forgery(6, "full", "settled")
def opened_as_another_step(world: World) -> None:
    """What was reserved as a validation is opened as a test."""
    world.main.find("sum.opened", step=WATCH).body["step"] = TEST


@forgery(6, "full", "script")
def survivors_out_of_order(world: World) -> None:
    """The members of a sum are not in order."""
    world.main.find("sum.opened").body["members"].reverse()


@forgery(6, "full", "script")
def survivor_whose_vector_did_not_come(world: World) -> None:
    """A member is in a sum, and votes for it, without its own ledger's head on record."""
    world.main.find("sum.reserved", step=UPDATE).body["nodes"].pop(C)


@forgery(6, "full", "script")
def survivor_who_was_not_asked(world: World) -> None:
    """A stranger is among the members of a sum."""
    world.main.find("sum.opened", step=UPDATE).body["members"].append(HOSTILE)


@forgery(6, "full", "script")
def fewer_than_the_minimum(world: World) -> None:
    """A sum is over two members where three are agreed on; a third signed, too."""
    world.manifests["run-1"] = replace(world.manifests["run-1"], minimum_cohort=4)
    for line in world.main.lines:
        if line.kind == "sum.opened":
            line.body["members"] = [A, B, C]


@forgery(6, "local", "script")
def sum_over_one_member(world: World) -> None:
    """A sum is over one member alone, as the manifest allowed, and so is that member's vector."""
    line = world.main.find("sum.opened", step=UPDATE)
    line.body["members"] = [A]
    line.body["signatures"] = {A: None}


def _votes(
    change: Callable[[dict[str, Any], World, bytes], object], step: str = UPDATE
) -> Callable[[World], None]:
    def put(world: World) -> None:
        line = world.main.find("sum.opened", step=step)
        context = bytes.fromhex(line.body["context"])
        change(line.body["signatures"], world, survivors_message(context, line.body["members"]))

    return put


def _sign(member: str, domain: str, message: bytes) -> str:
    return identity(member).sign(domain, message).hex()


for _name, _about, _votes_change in (
    (
        "votes-of-two-of-four",
        "Two of four members signed who is in a sum; three are needed.",
        lambda votes, _, __: votes.pop(C),
    ),
    (
        "vote-forged",
        "One member's vote is by another key.",
        lambda votes, _, message: votes.update({C: _sign(HOSTILE, SURVIVORS_DOMAIN, message)}),
    ),
    (
        "vote-flipped",
        "One bit of a member's vote is wrong.",
        lambda votes, _, __: votes.update({C: flipped(votes[C])}),
    ),
    (
        "vote-zero",
        "A member's vote is all zeros.",
        lambda votes, _, __: votes.update({C: "00" * 64}),
    ),
    (
        "vote-in-another-domain",
        "What a member signed as accepted is shown as its vote.",
        lambda votes, _, message: votes.update({C: _sign(C, ACCEPTED_DOMAIN, message)}),
    ),
    (
        "vote-under-another-name",
        "One member's vote is shown as another's.",
        lambda votes, _, __: votes.update({C: votes[B]}),
    ),
    (
        "vote-of-a-stranger",
        "Somebody who is not in the sum votes, with a signature that holds.",
        lambda votes, _, message: votes.update(
            {HOSTILE: _sign(HOSTILE, SURVIVORS_DOMAIN, message)}
        ),
    ),
    (
        "vote-for-other-members",
        "A member voted for a sum over other members.",
        lambda votes, world, _: votes.update(
            {
                C: _sign(
                    C,
                    SURVIVORS_DOMAIN,
                    survivors_message(
                        bytes.fromhex(world.main.find("sum.opened", step=UPDATE).body["context"]),
                        [A, B, C],
                    ),
                )
            }
        ),
    ),
    (
        "vote-for-another-context",
        "A member voted for another sum of the same members.",
        lambda votes, _, __: votes.update(
            {C: _sign(C, SURVIVORS_DOMAIN, survivors_message(bytes(32), list(FOUR)))}
        ),
    ),
):
    add(6, "full", "settled", _name, _about, _votes(_votes_change))


@forgery(6, "full", "script")
def vote_of_a_member_not_in_the_sum(world: World) -> None:
    """A member votes for a sum that it is not in."""
    line = world.main.find("sum.opened", step=UPDATE)
    line.body["members"] = [A, B, C]
    line.body["signatures"] = dict.fromkeys(FOUR)


@forgery(6, "full", "script")
def members_of_a_sum_swapped(world: World) -> None:
    """After the vote one member was put into the sum in place of another; who voted signs again,
    and the one that was put in does not."""
    line = world.main.find("sum.opened", step=UPDATE)
    line.body["members"] = [B, C, D]
    line.body["signatures"] = dict.fromkeys((A, B, C))


@forgery(6, "stopped", "script")
def difference_of_two_sums(world: World) -> None:
    """Two sums about the same rows are over different members: the difference is one's own."""
    fresh = World().begin(FOUR).start("run-1", members=FOUR, privacy=PLAN)
    fresh.release("run-1", STATISTICS, 0)
    fresh.release("run-1", STATISTICS, 1, survivors=FOUR[:3], witnesses=FOUR).end().settle()
    fresh.nodes.clear()
    world.__dict__.update(fresh.__dict__)


@forgery(6, "full", "script")
def two_sums_of_one_step(world: World) -> None:
    """A step is summed twice under two schemas, and both are opened."""
    reserved = world.main.find("sum.reserved", step=TEST)
    opened = world.main.find("sum.opened", step=TEST)
    again = {**reserved.body, "schema": digest("second"), "context": None}
    again["nodes"] = heads_told(*FOUR)
    world.main.after(opened, "sum.opened", json.loads(json.dumps(opened.body)))
    world.main.after(opened, "sum.reserved", again)


@forgery(6, "wide", "script")
def votes_of_twenty_of_thirty(world: World) -> None:
    """Among more than 32 members, 20 of the 30 who are in a sum signed it; 21 are needed."""
    world.__dict__.update(positives.wide(20).__dict__)


@forgery(6, "grouped", "script")
def member_in_two_groups(world: World) -> None:
    """A member is asked in both groups of one round, which shows it as a difference."""
    for line in world.main.lines:
        if line.kind == "sum.reserved" and line.body["asked"] == [C, D]:
            line.body["asked"] = [B, C, D]
            line.body["nodes"] = {**heads_told(B), C: None, D: None}


@forgery(6, "grouped", "script")
def group_smaller_than_agreed(world: World) -> None:
    """A group is smaller than the members agreed to."""
    world.manifests["run-1"] = replace(world.manifests["run-1"], group_size=3)


@forgery(6, "grouped", "script")
def group_summed_twice(world: World) -> None:
    """One group's updates of a round are summed twice under two schemas."""
    reserved = world.main.find("sum.reserved", step=UPDATE)
    opened = world.main.find("sum.opened", step=UPDATE)
    again = {**reserved.body, "schema": digest("second"), "context": None}
    again["nodes"] = heads_told(A, B)
    world.main.after(opened, "sum.opened", json.loads(json.dumps(opened.body)))
    world.main.after(opened, "sum.reserved", again)


@forgery(6, "grouped", "script")
def groups_changed(world: World) -> None:
    """In the second round the groups are others, so that differences show single members."""
    for line in world.main.lines:
        if line.body.get("round") == 2 and line.kind in {"sum.reserved", "sum.opened"}:
            name = "asked" if line.kind == "sum.reserved" else "members"
            swap = {A: A, B: C, C: B, D: D}
            line.body[name] = sorted(swap[one] for one in line.body[name])
            table = "nodes" if line.kind == "sum.reserved" else "signatures"
            line.body[table] = dict.fromkeys(line.body[name])


@forgery(6, "full", "settled")
def accepted_without_an_opened_sum(world: World) -> None:
    """A sum is accepted that was never opened."""
    world.main.drop(world.main.find("sum.opened", step=TEST))


@forgery(6, "full", "settled")
def step_not_accepted(world: World) -> None:
    """A sum was opened and never accepted, and the run went on."""
    world.main.drop(world.main.find("sum.accepted", step=WATCH))


@forgery(6, "full", "settled")
def aggregate_changed_after_acceptance(world: World) -> None:
    """The sum on record is another one than members were shown."""
    world.main.find("sum.opened", step=UPDATE).body["aggregate"] = digest("another sum")


@forgery(6, "full", "settled")
def model_changed_after_acceptance(world: World) -> None:
    """The model on record is another one than members hold."""
    world.main.find("sum.accepted", step=UPDATE).body["model"] = digest("another model")


@forgery(6, "full", "settled")
def validation_dropped_from_history(world: World) -> None:
    """A whole validation was taken out, tree and states were made anew; what members signed after
    it does not follow."""
    for kind in ("sum.reserved", "sum.opened", "sum.accepted"):
        world.main.drop(world.main.find(kind, step=WATCH))


@forgery(6, "full", "settled")
def round_dropped_from_history(world: World) -> None:
    """A whole round was taken out, and the next one was numbered in its place."""
    for kind in ("sum.reserved", "sum.opened", "sum.accepted"):
        world.main.drop(world.main.find(kind, step=UPDATE, round=1))
    world.main.drop(world.main.find("round.committed", round=1))


def _acceptance(
    change: Callable[[dict[str, Any]], object], step: str = UPDATE
) -> Callable[[World], None]:
    def put(world: World) -> None:
        change(world.main.find("sum.accepted", step=step).body["signatures"])

    return put


add(
    6,
    "full",
    "settled",
    "accepted-by-two-of-four",
    "Two of four members accepted a sum.",
    _acceptance(lambda votes: (votes.pop(A), votes.pop(B))),
)
add(
    6,
    "full",
    "settled",
    "acceptance-forged",
    "One member's acceptance is another's.",
    _acceptance(lambda votes: votes.update({A: votes[B]})),
)
add(
    6,
    "full",
    "settled",
    "acceptance-of-the-round-before",
    "A member's acceptance is the one of the round before.",
    lambda world: (
        world.main.find("sum.accepted", 1, step=UPDATE)
        .body["signatures"]
        .update({A: world.main.find("sum.accepted", 0, step=UPDATE).body["signatures"][A]})
    ),
)
add(
    6,
    "full",
    "settled",
    "acceptance-of-a-stranger",
    "Somebody who is no member accepts a sum.",
    _acceptance(lambda votes: votes.update({HOSTILE: votes[A]})),
)


@forgery(6, "full", "script")
def update_undone(world: World) -> None:
    """An update says that it was undone, and all signed that; only a validation undoes a round."""
    world.main.find("sum.accepted", step=UPDATE).body["kept"] = False


@forgery(6, "full", "script")
def test_changes_the_model(world: World) -> None:
    """After a test members hold another model, and all signed that."""
    world.main.find("sum.accepted", step=TEST).body["model"] = digest("another model")


@forgery(6, "full", "script")
def statistics_change_the_model(world: World) -> None:
    """After statistics members hold a model that they did not agree on."""
    world.main.find("sum.accepted", step=STATISTICS).body["model"] = digest("another model")


for _name, _about, _kind, _fields in (
    (
        "round-starts-elsewhere",
        "A round starts from another model than the one before ended with.",
        "round.committed",
        {"model_before": digest("x")},
    ),
    (
        "round-ends-elsewhere",
        "A round ends with another model than members accepted.",
        "round.committed",
        {"model_after": digest("x")},
    ),
    (
        "round-numbered-higher",
        "The first round says that it is the third.",
        "round.committed",
        {"round": 3},
    ),
    (
        "run-ends-with-fewer-rounds",
        "The run says that it had one round.",
        "run.finished",
        {"rounds": 1},
    ),
    (
        "run-ends-with-another-model",
        "The run ends with another model than members accepted.",
        "run.finished",
        {"model": digest("x")},
    ),
):
    add(
        6,
        "full",
        "settled",
        _name,
        _about,
        with_body(_kind, **_fields),
    )


@forgery(6, "full", "settled")
def round_without_an_update(world: World) -> None:
    """A round is committed for which nothing was summed."""
    body = {"run": "run-1", "round": 1, "model_before": digest("x"), "model_after": digest("y")}
    world.main.after(world.main.find("model.agreed"), "round.committed", {**body, "round": 1})
    world.main.drop(world.main.find("round.committed", 1))


@forgery(6, "full", "settled")
def finished_without_a_commit(world: World) -> None:
    """The run finishes after a round that was summed and not committed."""
    world.main.drop(world.main.find("round.committed", round=2))
    for kind in ("sum.reserved", "sum.opened", "sum.accepted"):
        world.main.drop(world.main.find(kind, step=TEST))


@forgery(6, "full", "script")
def epoch_without_a_writer(world: World) -> None:
    """From one entry on another writer writes, and nobody said that it took over."""
    for line in world.main.lines[20:]:
        line.epoch = 2


@forgery(6, "full", "script")
def writer_in_the_same_epoch(world: World) -> None:
    """Another writer says that it took over, in the turn of the one before."""
    world.main.after(world.main.find("keys.agreed"), "writer.began", {"writer": "host-b"})


@forgery(6, "empty", "script")
def first_epoch_is_the_second(world: World) -> None:
    """The ledger begins with its second writer."""
    world.main.lines[0].epoch = 2


@forgery(6, "full", "script")
def nodes_kind_at_the_coordinator(world: World) -> None:
    """The coordinator's ledger holds an entry that belongs into a node's."""
    body = {"run": "run-1", "manifest": digest("m"), "origin": world.main.origin}
    world.main.after(world.main.find("run.started"), "run.joined", body)


@forgery(6, "full", "script")
def coordinator_follows_itself(world: World) -> None:
    """The coordinator's ledger says that it follows a ledger, as only nodes do."""
    body = {"origin": world.main.origin, "key": public(COORDINATOR)}
    world.main.after(world.main.find("run.started"), "ledger.followed", body)


@forgery(6, "full", "script")
def coordinator_cosigns_itself(world: World) -> None:
    """The coordinator's ledger says that it cosigned a state, as only nodes do."""
    body = {"origin": world.main.origin, "leaves": 0, "root": digest("root")}
    world.main.after(world.main.find("run.started"), "ledger.cosigned", body)
