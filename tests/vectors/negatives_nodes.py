"""Forgeries of steps 8 and 9: nodes' own ledgers, and what both sides say."""

from collections.abc import Callable

from vectors.builder import (
    COORDINATOR,
    DATASET,
    PERSONAL,
    TEST,
    Book,
    Line,
    State,
    World,
    digest,
    identity,
    public,
)
from vectors.forging import HOSTILE, A, B, C, D, add, flipped, forgery, heads_told
from vectors.positives import TWO

from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.ledger.grammar import CONSENT_DOMAIN
from privacy.ledger.merkle import leaf_hash, root_of
from privacy.release import ABORT_DOMAIN, abort_message


def _terms(owner: str, **changes: object) -> Callable[[World], None]:
    return lambda world: world.nodes[owner].find("budget.terms").body.update(changes)


add(
    8,
    "full",
    "script",
    "over-the-cap",
    "A node reserved more than its own cap holds.",
    _terms(A, epsilon=1.225),
)
add(
    8,
    "full",
    "script",
    "over-the-solo-cap",
    "A node reserved more than its cap against all others together holds.",
    _terms(A, solo_epsilon=1.27, solo_order=8),
)
add(
    8,
    "full",
    "script",
    "cap-below-its-order",
    "A node reserved where its order holds no release.",
    _terms(A, epsilon=0.5, order=8),
)
add(
    8,
    "plain",
    "script",
    "no-noise-under-a-cap",
    "A node released without noise under a cap.",
    _terms(A, epsilon=8.0),
)
add(
    8,
    "full",
    "script",
    "terms-of-another-member",
    "A node's ledger holds another member's budget.",
    _terms(A, member=B),
)
for _name, _about, _changes in (
    ("delta-zero", "delta is 0", {"delta": 0.0}),
    ("delta-one", "delta is 1", {"delta": 1}),
    ("order-one", "the order is 1", {"order": 1}),
    ("order-513", "the order is 513", {"order": 513}),
    ("solo-order-zero", "the order against all others is 0", {"solo_order": 0}),
    ("cap-zero", "the cap is 0", {"epsilon": 0.0}),
    ("period-zero", "the period is 0", {"period_days": 0}),
    (
        "period-without-end",
        "the period has more milliseconds than a float holds",
        {"period_days": 1e305},
    ),
):
    add(
        8,
        "full",
        "script",
        f"terms-{_name}",
        f"A node's terms say that {_about}.",
        _terms(A, **_changes),
    )


@forgery(8, "discrete", "script")
def over_the_cap_of_a_period(world: World) -> None:
    """The second run came a day earlier, so that both count against the period's cap."""
    for book in world.books:
        for line in book.lines:
            if line.time_ms > world.now_ms - 3 * 86_400_000:
                line.time_ms -= 2 * 86_400_000


@forgery(8, "discrete", "script")
def period_left_out(world: World) -> None:
    """The same releases without a period: both runs count for ever, and the cap does not hold."""
    world.nodes[A].find("budget.terms").body["period_days"] = None


@forgery(8, "full", "script")
def terms_lowered_and_ignored(world: World) -> None:
    """A node lowered its cap below what was spent, and reserved all the same."""
    book = world.nodes[A]
    line = book.find("budget.reserved", 3)
    terms = {**book.find("budget.terms").body, "epsilon": 1.2}
    book.put(book.place(line), Line("budget.terms", terms, line.time_ms))


@forgery(8, "full", "script")
def order_changed(world: World) -> None:
    """The filter's order was changed after releases were seen, which voids its proof."""
    book = world.nodes[A]
    line = book.find("budget.reserved", 2)
    terms = {**book.find("budget.terms").body, "order": 16}
    book.put(book.place(line), Line("budget.terms", terms, line.time_ms))


@forgery(8, "full", "script")
def solo_order_changed(world: World) -> None:
    """The other filter's order was changed."""
    book = world.nodes[A]
    line = book.find("budget.reserved", 2)
    terms = {**book.find("budget.terms").body, "solo_order": 8}
    book.put(book.place(line), Line("budget.terms", terms, line.time_ms))


@forgery(8, "full", "script")
def reserved_before_terms(world: World) -> None:
    """A node reserved before it had any terms."""
    world.nodes[A].drop(world.nodes[A].find("budget.terms"))


@forgery(8, "full", "script")
def reserved_from_another_data_set(world: World) -> None:
    """A node reserved from a data set for which it has no terms."""
    world.nodes[A].find("budget.reserved").body["dataset"] = "loans"


@forgery(8, "full", "script")
def terms_of_another_unit(world: World) -> None:
    """A node's terms are about devices, and what it released is about borrowers."""
    _terms(A, unit="device")(world)


@forgery(8, "full", "script")
def committed_what_was_never_reserved(world: World) -> None:
    """A node notes that a release was accepted that it never reserved."""
    book = world.nodes[A]
    body = {**book.find("budget.committed").body, "step": PERSONAL}
    book.after(book.lines[-1], "budget.committed", body)


@forgery(8, "full", "script")
def committed_before_it_was_reserved(world: World) -> None:
    """A node noted that a release was accepted before it reserved it."""
    book = world.nodes[A]
    reserved, committed = book.find("budget.reserved"), book.find("budget.committed")
    reserved.kind, committed.kind = committed.kind, reserved.kind
    reserved.body, committed.body = committed.body, reserved.body


@forgery(8, "full", "script")
def committed_from_another_data_set(world: World) -> None:
    """A node notes a release as accepted under another data set."""
    world.nodes[A].find("budget.committed").body["dataset"] = "loans"


def take_back(book: Book, line: Line, signer: str) -> None:
    body = {name: line.body[name] for name in ("run", "step", "round", "dataset")}
    message = abort_message(body["run"], body["step"], body["round"], dataset=body["dataset"])
    signature = identity(signer).sign(ABORT_DOMAIN, message).hex()
    last = book.lines[-1]
    book.after(last, "budget.aborted", {**body, "reason": "not sent", "signature": signature})


@forgery(8, "full", "script")
def aborted_after_it_was_committed(world: World) -> None:
    """A node took back what it had noted as accepted."""
    book = world.nodes[A]
    take_back(book, book.find("budget.reserved"), A)


@forgery(8, "unfinished", "script")
def aborted_twice_under_two_names(world: World) -> None:
    """A node takes back a release that it had taken back, and commits it."""
    book = world.nodes[D]
    line = book.find("budget.aborted")
    body = {name: line.body[name] for name in ("run", "step", "round", "dataset")}
    book.after(line, "budget.committed", body)


@forgery(8, "unfinished", "script")
def aborted_by_the_coordinator(world: World) -> None:
    """A node's release is taken back by the coordinator's signature."""
    line = world.nodes[D].find("budget.aborted")
    message = abort_message("run-1", UPDATE, 2, dataset=DATASET)
    line.body["signature"] = identity(COORDINATOR).sign(ABORT_DOMAIN, message).hex()


@forgery(8, "unfinished", "settled")
def abort_flipped(world: World) -> None:
    """One bit of the signature under what was taken back is wrong."""
    body = world.nodes[D].find("budget.aborted").body
    body["signature"] = flipped(body["signature"])


@forgery(8, "unfinished", "settled")
def abort_of_another_round(world: World) -> None:
    """What the node signed as not sent was another round."""
    message = abort_message("run-1", UPDATE, 1, dataset=DATASET)
    body = world.nodes[D].find("budget.aborted").body
    body["signature"] = identity(D).sign(ABORT_DOMAIN, message).hex()


@forgery(8, "unfinished", "settled")
def abort_in_another_domain(world: World) -> None:
    """What the node signed as consent is shown as its word that nothing left."""
    message = abort_message("run-1", UPDATE, 2, dataset=DATASET)
    body = world.nodes[D].find("budget.aborted").body
    body["signature"] = identity(D).sign(CONSENT_DOMAIN, message).hex()


@forgery(8, "rotated", "script")
def aborted_by_the_key_before(world: World) -> None:
    """A release is taken back by a key that the node gave up."""
    book = world.nodes[A]
    extra = {"run": "run-9", "step": UPDATE, "round": 1, "dataset": DATASET}
    receipt = world.copy().settle().nodes[A].find("budget.reserved").body["receipt"]
    line = book.after(book.lines[-1], "budget.reserved", {**extra, "receipt": receipt})
    take_back(book, line, A)


@forgery(8, "full", "script")
def coordinators_kind_at_a_node(world: World) -> None:
    """A node's ledger holds an entry that belongs into the coordinator's."""
    book = world.nodes[A]
    body = {"run": "run-1", "reason": "by hand"}
    book.after(book.lines[-1], "run.stopped", body)


def second_ledger(world: World, owner: str, key: str) -> Book:
    """One more ledger of a node."""
    book = Book(owner, "node", [key])
    book.origin += "/second"
    body = {"origin": book.origin, "key": public(key), "owner": owner, "role": "node"}
    book.lines.append(Line("ledger.begun", body, world.now_ms))
    terms = {**world.nodes[A].find("budget.terms").body, "member": owner}
    book.lines.append(Line("budget.terms", terms, world.now_ms))
    book.states.append(State(len(book.lines)))
    world.nodes[owner + " again"] = book
    return book


@forgery(8, "full", "script")
def two_ledgers_with_one_key(world: World) -> None:
    """A node keeps two ledgers under one key, each within its cap; the emptier one comes last."""
    second_ledger(world, A, A)


@forgery(8, "full", "script")
def one_key_under_two_names(world: World) -> None:
    """Two members' ledgers are signed by one key."""
    second_ledger(world, HOSTILE, A)


@forgery(8, "full", "script")
def two_budgets_of_one_owner(world: World) -> None:
    """A node keeps two budgets of the same units in two ledgers under two keys."""
    second_ledger(world, A, "amber-bank 2")


@forgery(8, "rotated", "script")
def key_before_used_for_another_ledger(world: World) -> None:
    """A second ledger of a node begins with the key to which its first one changed."""
    second_ledger(world, HOSTILE, "amber-bank 2")


@forgery(9, "full", "settled")
def nodes_ledger_rolled_back(world: World) -> None:
    """A node put an older copy of its ledger in place, and signed it; its last release is gone."""
    book = world.nodes[A]
    del book.lines[-4:]
    book.states[-1].size = len(book.lines)


@forgery(9, "full", "settled")
def nodes_ledger_begun_anew(world: World) -> None:
    """A node began its ledger anew under the same key."""
    book = world.nodes[A]
    del book.lines[2:]
    book.states[-1].size = len(book.lines)


@forgery(9, "full", "settled")
def node_reserved_less(world: World) -> None:
    """A node rewrote one of its reservations to cost less, and signed the tree anew."""
    line = world.nodes[A].find("budget.reserved", 1)
    line.body["receipt"] = {**line.body["receipt"], "share": 9.9}


@forgery(9, "full", "script")
def node_reserved_less_from_the_beginning(world: World) -> None:
    """A node told the true head of a ledger in which it had reserved less than it released."""
    receipt = world.copy().settle().nodes[A].find("budget.reserved", step=UPDATE).body["receipt"]
    line = world.nodes[A].find("budget.reserved", step=UPDATE)
    line.body["receipt"] = {**receipt, "share": 9.9}


@forgery(9, "full", "script")
def non_signer_reserved_less(world: World) -> None:
    """A member whose vector came and who signed no sum had reserved less than it released."""
    receipt = world.copy().settle().nodes[D].find("budget.reserved", step=UPDATE).body["receipt"]
    line = world.nodes[D].find("budget.reserved", step=UPDATE)
    line.body["receipt"] = {**receipt, "share": 9.9}


@forgery(9, "full", "settled")
def non_signers_ledger_rewritten(world: World) -> None:
    """A member who signed no sum rewrote its own ledger after its vectors had left."""
    world.nodes[D].find("rows.read").body["rows"] = digest("other rows")


@forgery(9, "full", "script")
def sent_without_a_reservation(world: World) -> None:
    """A node sent a vector that it never reserved, and told the true head of its ledger."""
    book = world.nodes[A]
    book.drop(book.find("budget.reserved", step=TEST))
    book.drop(book.find("budget.committed", step=TEST))


@forgery(9, "full", "script")
def reserved_after_it_was_sent(world: World) -> None:
    """A node reserved a release after it had sent it."""
    settled = world.copy().settle()
    book = settled.nodes[A]
    line = book.find("budget.reserved", step=TEST)
    size = book.place(line)
    root = root_of([leaf_hash(leaf) for leaf in book.leaves()[:size]]).hex()
    told = {"leaves": size, "root": root, "signature": None}
    world.main.find("sum.reserved", step=TEST).body["nodes"][A] = told


@forgery(9, "full", "script")
def head_of_another_ledger(world: World) -> None:
    """A node that signed no sum signed another head with its vector than its ledger ever had."""
    world.main.find("sum.reserved", step=UPDATE).body["nodes"] |= heads_told(D, first=7)


@forgery(9, "full", "script")
def head_of_nothing(world: World) -> None:
    """A node that signed no sum signed with its vector that it has an empty ledger."""
    told = {"leaves": 0, "root": root_of([]).hex(), "signature": None}
    world.main.find("sum.reserved", step=UPDATE).body["nodes"][D] = told


@forgery(9, "unfinished", "script")
def taken_back_after_it_was_sent(world: World) -> None:
    """A node took back a release whose vector had come, of a sum that was never opened."""
    book = world.nodes[A]
    take_back(book, book.find("budget.reserved", 2), A)


@forgery(9, "broken_down", "script")
def taken_back_after_it_was_opened(world: World) -> None:
    """A node took back a release of a sum that was opened."""
    book = world.nodes[A]
    book.drop(book.find("budget.committed"))
    take_back(book, book.find("budget.reserved"), A)


@forgery(9, "unfinished", "script")
def accepted_a_sum_that_was_never_opened(world: World) -> None:
    """A node knows a sum as accepted that the coordinator says was never opened."""
    book = world.nodes[A]
    line = book.find("budget.reserved", 2)
    body = {name: line.body[name] for name in ("run", "step", "round", "dataset")}
    book.after(book.lines[-1], "budget.committed", body)


@forgery(9, "full", "script")
def accepted_a_run_that_is_not_on_record(world: World) -> None:
    """A node released in a run that the coordinator's ledger does not have."""
    book = world.nodes[A]
    receipt = world.copy().settle().nodes[A].find("budget.reserved").body["receipt"]
    body = {"run": "run-9", "step": STATISTICS, "round": 0, "dataset": DATASET}
    line = book.after(book.lines[-1], "budget.reserved", {**body, "receipt": receipt})
    book.after(line, "budget.committed", body)


def _unwitnessed(world: World) -> None:
    """Settle what happened, with nodes that did not note the last state that they cosigned."""
    for book in world.nodes.values():
        book.drop(book.find("ledger.cosigned", -1))
    world.settle()


@forgery(9, "discrete", "script")
def run_left_out_by_the_coordinator(world: World) -> None:
    """The coordinator left the second run out as a whole; tree, states and cosignatures fit."""
    _unwitnessed(world)
    for line in [line for line in world.main.lines if line.body.get("run") == "run-2"]:
        world.main.drop(line)
    world.main.states = [*world.main.states[:1], State(len(world.main.lines))]


@forgery(9, "plain", "script")
def end_of_a_run_left_out_by_the_coordinator(world: World) -> None:
    """The coordinator cut its ledger before the last sum, and all members cosigned that."""
    _unwitnessed(world)
    lines = world.main.lines
    del lines[world.main.place(world.main.find("sum.reserved", step=PERSONAL)) :]
    world.main.states = [State(len(lines), tuple((name, name) for name in TWO))]


@forgery(9, "full", "script")
def accepted_in_a_run_of_others(world: World) -> None:
    """Somebody who is no member of a run has a sum of it as accepted in its own ledger."""
    book = second_ledger(world, HOSTILE, HOSTILE)
    line = world.copy().settle().nodes[A].find("budget.reserved")
    body = {name: line.body[name] for name in ("run", "step", "round", "dataset")}
    book.after(book.lines[-1], "budget.reserved", {**body, "receipt": line.body["receipt"]})
    book.after(book.lines[-1], "budget.committed", body)


@forgery(9, "full", "script")
def ledger_under_another_name(world: World) -> None:
    """A member's ledger, with its key and its releases, is handed out as another institution's."""
    book = world.nodes[A]
    book.owner = HOSTILE
    book.lines[0].body["owner"] = HOSTILE
    book.find("budget.terms").body["member"] = HOSTILE
    for line in [line for line in book.lines if line.kind == "budget.committed"]:
        book.drop(line)


@forgery(9, "rotated", "settled")
def releases_under_the_new_key_hidden(world: World) -> None:
    """After its key changed, a node keeps what it released under the new key out of its ledger."""
    book = world.nodes[A]
    for kind in ("budget.committed", "budget.reserved"):
        book.drop(book.find(kind, run="run-2"))


@forgery(9, "full", "script")
def another_data_set_than_declared(world: World) -> None:
    """A node counts a run's releases against another data set than the one that was declared."""
    book = world.nodes[A]
    terms = book.find("budget.terms")
    book.after(terms, terms.kind, {**terms.body, "dataset": "leases 2"})
    for kind in ("budget.reserved", "budget.committed"):
        book.find(kind, step=TEST).body["dataset"] = "leases 2"


@forgery(9, "grouped", "script")
def unopened_group_hidden_by_a_node(world: World) -> None:
    """A member of a group whose sum was not opened has no reservation for it."""
    book = world.nodes[C]
    for kind in ("budget.committed", "budget.reserved"):
        book.drop(book.find(kind, step=UPDATE, round=2))
