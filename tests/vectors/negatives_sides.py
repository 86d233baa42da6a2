"""Forgeries of what ties both sides together: heads that nodes sign with their vectors, states of
the coordinator's ledger that nodes cosigned, and in whose ledger a run is on record."""

from collections.abc import Callable
from typing import Any

from vectors.builder import (
    COORDINATOR,
    DATASET,
    NO_MODEL,
    TEST,
    Book,
    State,
    World,
    digest,
    head_told,
    identity,
    public,
)
from vectors.forging import HOSTILE, A, B, C, D, add, flipped, forgery
from vectors.negatives_nodes import second_ledger
from vectors.positives import TWO

from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.ledger.head import HEAD_DOMAIN
from privacy.sum_context import SURVIVORS_DOMAIN

Reserved = dict[str, Any]
ANOTHER = "tacit/another"


# -- heads, signed by nodes --


def _head(
    change: Callable[[dict[str, Any], Reserved], object], member: str = D, step: str = UPDATE
) -> Callable[[World], None]:
    def put(world: World) -> None:
        body = world.main.find("sum.reserved", step=step).body
        change(body["nodes"][member], body)

    return put


def _signed(signer: str, domain: str, message: bytes) -> dict[str, str]:
    return {"signature": identity(signer).sign(domain, message).hex()}


for _name, _about, _change in (
    (
        "forged",
        "The coordinator signed a node's head.",
        lambda head, body: head.update(_signed(COORDINATOR, HEAD_DOMAIN, head_told(body, head))),
    ),
    (
        "of-another-member",
        "A node's head is signed by another member.",
        lambda head, body: head.update(_signed(C, HEAD_DOMAIN, head_told(body, head))),
    ),
    (
        "flipped",
        "One bit of the signature under a node's head is wrong.",
        lambda head, _: head.update(signature=flipped(head["signature"])),
    ),
    (
        "zero",
        "The signature under a node's head is all zeros.",
        lambda head, _: head.update(signature="00" * 64),
    ),
    (
        "in-another-domain",
        "What a node signed as its vote is shown as its head.",
        lambda head, body: head.update(_signed(D, SURVIVORS_DOMAIN, head_told(body, head))),
    ),
    (
        "of-another-context",
        "A node signed the same head for another sum.",
        lambda head, body: head.update(
            _signed(D, HEAD_DOMAIN, head_told({**body, "context": digest("another sum")}, head))
        ),
    ),
    (
        "without-context",
        "A node signed its head for no sum at all.",
        lambda head, body: head.update(
            _signed(D, HEAD_DOMAIN, head_told({**body, "context": ""}, head))
        ),
    ),
    (
        "of-another-size",
        "The coordinator put another size on record than the one that a node signed.",
        lambda head, _: head.update(leaves=head["leaves"] - 1),
    ),
    (
        "of-another-root",
        "The coordinator put another root on record than the one that a node signed.",
        lambda head, _: head.update(root=digest("made up")),
    ),
    (
        "with-sizes-turned-around",
        "A node signed its head with the size's bytes in the other order.",
        lambda head, body: head.update(
            _signed(
                D,
                HEAD_DOMAIN,
                head_told({**body}, {**head, "leaves": head["leaves"] << 56}),
            )
        ),
    ),
):
    add(6, "full", "settled", f"head-{_name}", _about, _head(_change))


@forgery(6, "full", "settled")
def head_of_a_voter_forged(world: World) -> None:
    """The head of a member that signed the sum, too, is signed by the coordinator."""

    def change(head: dict[str, Any], body: Reserved) -> None:
        head.update(_signed(COORDINATOR, HEAD_DOMAIN, head_told(body, head)))

    _head(change, member=A, step=TEST)(world)


@forgery(6, "full", "settled")
def head_of_the_sum_before(world: World) -> None:
    """The head that a node signed with its vector of round 1 is shown for round 2 again."""
    first, second = (world.main.find("sum.reserved", n, step=UPDATE).body for n in (0, 1))
    second["nodes"][D] = first["nodes"][D]


@forgery(6, "unfinished", "settled")
def head_of_an_unopened_sum_forged(world: World) -> None:
    """A vector is said to have come, of a sum that was never opened, from a node that took its
    release back; the coordinator signed that."""
    body = world.main.find("sum.reserved", 2).body
    body["nodes"][D] = head = {"leaves": 9, "root": digest("made up")}
    head |= _signed(COORDINATOR, HEAD_DOMAIN, head_told(body, head))


@forgery(6, "rotated", "settled")
def head_signed_by_the_key_before(world: World) -> None:
    """After its key changed, a node's head is signed by the key that it gave up."""
    body = world.main.find("sum.reserved", run="run-2").body
    body["nodes"][A].update(_signed(A, HEAD_DOMAIN, head_told(body, body["nodes"][A])))


@forgery(6, "grouped", "settled")
def head_of_the_other_group(world: World) -> None:
    """A node's head is signed for the sum of the other group of the same round."""
    first, second = (world.main.find("sum.reserved", n, step=UPDATE).body for n in (0, 1))
    head = second["nodes"][D]
    head.update(_signed(D, HEAD_DOMAIN, head_told(first, head)))


@forgery(9, "set_back", "script")
def set_back_and_here(world: World) -> None:
    """A node began its ledger anew between two releases, signed both at one size, and hands the
    first ledger out."""
    fresh = World().begin(TWO).terms().start("run-1", members=TWO)
    fresh.terms(epsilon=None, solo_epsilon=None)
    fresh.release("run-1", STATISTICS, 0).model("run-1").train("run-1", 1, witnesses=TWO).end()
    first = fresh.copy().settle().main.find("sum.reserved").body["nodes"][A]
    again = {**first, "root": digest("begun anew"), "signature": None}
    fresh.main.find("sum.reserved", 1).body["nodes"][A] = again
    world.__dict__.update(fresh.__dict__)


@forgery(9, "full", "script")
def same_head_with_two_sums(world: World) -> None:
    """A node signed the head of its first release with its second vector, too: by then it had not
    reserved that one."""
    first = world.copy().settle().main.find("sum.reserved").body["nodes"][D]
    line = world.main.find("sum.reserved", step=UPDATE)
    line.body["nodes"][D] = {**first, "signature": None}


# -- states of the coordinator's ledger that nodes cosigned --


@forgery(9, "full", "settled")
def cut_off_before_a_cosigned_state(world: World) -> None:
    """The coordinator cut the end of its ledger off, and all witnesses cosigned that, the regulator
    too; the nodes' own ledgers have the later state that they cosigned."""
    world.main.drop(world.main.lines[-1])


@forgery(9, "full", "settled")
def rewritten_after_it_was_cosigned(world: World) -> None:
    """The coordinator rewrote its last entry, and all witnesses cosigned that as well."""
    world.main.lines[-1].body["file"] = digest("another file")


@forgery(9, "full", "settled")
def last_entry_swapped_after_it_was_cosigned(world: World) -> None:
    """The coordinator put another entry in place of its last one, so that the size is the same."""
    world.main.drop(world.main.lines[-1])
    world.main.after(world.main.lines[-1], "writer.began", {"writer": "host-b"})
    world.main.lines[-1].epoch = 2


@forgery(9, "full", "script")
def cosigned_another_root(world: World) -> None:
    """A node cosigned another ledger of the coordinator's origin, of the same size."""
    world.nodes[D].find("ledger.cosigned", -1).body["root"] = digest("split view")


@forgery(9, "full", "script")
def cosigned_another_early_root(world: World) -> None:
    """A node cosigned another ledger early, and later ones that are here."""
    world.nodes[D].find("ledger.cosigned").body["root"] = digest("split view")


@forgery(9, "full", "script")
def cosigned_more_than_there_is(world: World) -> None:
    """A node cosigned a state of more entries than the coordinator's ledger has."""
    line = world.nodes[D].find("ledger.cosigned", -1)
    line.body.update(leaves=2**53 - 1, root=digest("to come"))


@forgery(9, "full", "script")
def cosigned_nothing_as_something(world: World) -> None:
    """A node cosigned a state of no entries under a root that is none."""
    line = world.nodes[D].find("ledger.cosigned")
    line.body.update(leaves=0, root=NO_MODEL)


@forgery(9, "never_followed", "script")
def cosigned_another_root_and_followed_nothing(world: World) -> None:
    """A node that never said that it follows the ledger cosigned another one."""
    world.nodes[A].find("ledger.cosigned").body["root"] = digest("split view")


@forgery(9, "empty", "script")
def begun_anew_after_it_was_cosigned(world: World) -> None:
    """The coordinator began its ledger anew, under the same name and key, and lost a run that was
    stopped before anything was summed."""
    fresh = World().begin(TWO).start("run-1", members=TWO).stop("run-1").state(TWO).settle()
    del fresh.main.lines[1:]
    fresh.main.states = [State(1)]
    world.__dict__.update(fresh.end().__dict__)


@forgery(3, "full", "script")
def cosigned_two_states_of_one_size(world: World) -> None:
    """A node cosigned two ledgers of the same size under one name."""
    book = world.nodes[A]
    told = world.copy().settle().nodes[A].find("ledger.cosigned", -1).body
    book.after(book.lines[-1], "ledger.cosigned", {**told, "root": digest("split view")})


@forgery(3, "full", "script")
def followed_under_two_keys(world: World) -> None:
    """A node follows one ledger under two keys."""
    line = world.nodes[A].find("ledger.followed")
    world.nodes[A].after(line, line.kind, {**line.body, "key": public(HOSTILE)})


@forgery(9, "rekeyed", "script")
def shown_another_key(world: World) -> None:
    """A node was shown that the coordinator's ledger has a key that it never had."""
    world.nodes[A].find("ledger.rekeyed").body["key"] = public(HOSTILE)


@forgery(9, "rekeyed", "script")
def shown_a_key_at_another_size(world: World) -> None:
    """A node was shown a key of the coordinator's from an entry on at which it did not change."""
    world.nodes[B].find("ledger.rekeyed").body["leaves"] -= 1


@forgery(9, "rekeyed", "script")
def shown_the_first_key_as_a_new_one(world: World) -> None:
    """A node was shown the coordinator's first key as one that had come about."""
    first = {"key": public(world.main.keys[0]), "leaves": 0}
    world.nodes[A].find("ledger.rekeyed").body.update(first)


@forgery(9, "full", "script")
def shown_a_key_that_never_changed(world: World) -> None:
    """A node was shown a change of the coordinator's key, and there is none."""
    told = {"origin": world.main.origin, "key": public(HOSTILE), "leaves": 9}
    world.nodes[A].after(world.nodes[A].lines[-1], "ledger.rekeyed", told)


@forgery(3, "rekeyed", "script")
def shown_two_keys_at_one_size(world: World) -> None:
    """A node was shown two keys of the coordinator's ledger from one entry on."""
    line = world.nodes[A].find("ledger.rekeyed")
    world.nodes[A].after(line, line.kind, {**line.body, "key": public(HOSTILE)})


@forgery(3, "full", "script")
def declared_twice(world: World) -> None:
    """Two data sets are declared for one run, the second one for whoever reads only the last."""
    line = world.main.find("data.declared")
    world.main.after(line, line.kind, {**line.body, "dataset": "loans"})


# -- names, and runs of another coordinator --


def _impostor(world: World, *, releases: bool) -> None:
    """A run in which somebody else goes by the first node's name; its own ledger is not here."""
    for book in world.books:
        book.states.clear()
    impostor = world.join("impostor", HOSTILE)
    impostor.owner = A
    begun = {"origin": impostor.origin, "key": public(HOSTILE), "owner": A, "role": "node"}
    world.add(impostor, "ledger.begun", begun)
    directory = {A: public(HOSTILE), B: public(B)}
    world.start("run-2", members=TWO, directory=directory)
    if releases:
        world.release("run-2", STATISTICS, 0)
        world.main.states.append(State(len(world.main.lines), ((A, HOSTILE), (B, B))))
    world.stop("run-2").state(TWO).end().settle()
    del world.nodes["impostor"]


@forgery(9, "plain", "script")
def another_key_under_a_members_name(world: World) -> None:
    """In a second run about its data set somebody else goes by a member's name, and is summed with
    the other member, whose rows the difference shows."""
    _impostor(world, releases=True)


@forgery(9, "plain", "script")
def another_key_under_a_members_name_without_a_sum(world: World) -> None:
    """The same in a run that was stopped before anything was summed."""
    _impostor(world, releases=False)


@forgery(9, "two_data_sets", "script")
def namesake_about_the_same_data_set(world: World) -> None:
    """One name is two members, and the run about loans was declared as one about leases; the one
    whose leases they are was never asked."""
    world.main.find("data.declared", run="run-3").body["dataset"] = DATASET
    second = world.nodes[f"{A} again"]
    world.settle()
    for name in [name for name, book in world.nodes.items() if book is second or name == B]:
        del world.nodes[name]


def _elsewhere(book: Book, run: str, place: int) -> None:
    """Let a node say that it joined a run of that name under another coordinator."""
    body = {"run": run, "manifest": digest("elsewhere"), "origin": ANOTHER}
    line = book.lines[place - 1]
    book.after(line, "run.joined", body)


@forgery(9, "full", "script")
def claimed_by_a_run_of_another_coordinator(world: World) -> None:
    """A node says that it joined the run under another coordinator, and signed heads for sums of
    this one's."""
    world.nodes[A].find("run.joined").body["origin"] = ANOTHER


@forgery(9, "unfinished", "script")
def unopened_sum_claimed_elsewhere(world: World) -> None:
    """A node joined another coordinator's run of the same name before its last release, which is on
    record here and was never opened."""
    book = world.nodes[A]
    _elsewhere(book, "run-1", book.place(book.find("budget.reserved", 2)))


@forgery(9, "discrete", "script")
def left_out_and_joined_elsewhere_later(world: World) -> None:
    """The coordinator left a run out; after it a node joined a run of the same name elsewhere, by
    which what it had released here would not be compared any more."""
    for book in world.nodes.values():
        book.drop(book.find("ledger.cosigned", -1))
        _elsewhere(book, "run-2", len(book.lines))
    world.settle()
    for line in [line for line in world.main.lines if line.body.get("run") == "run-2"]:
        world.main.drop(line)
    world.main.states = [*world.main.states[:1], State(len(world.main.lines))]


@forgery(9, "elsewhere", "script")
def not_on_record_here_nor_joined_elsewhere(world: World) -> None:
    """A node released in a run that it joined under this coordinator, which has no such run."""
    world.nodes[A].find("run.joined", run="run-3").body["origin"] = world.main.origin


@forgery(9, "elsewhere", "script")
def never_joined(world: World) -> None:
    """A node released in a run of which it does not say that it joined it anywhere."""
    world.nodes[A].drop(world.nodes[A].find("run.joined", run="run-3"))


@forgery(9, "elsewhere", "script")
def units_of_a_run_that_is_not_here(world: World) -> None:
    """A node told of single units in a run that is not on record here, and joined no other."""
    for line in world.nodes[A].lines:
        if line.body.get("run") == "run-1 (units)":
            line.body["run"] = "run-4 (units)"


@forgery(9, "elsewhere", "script")
def joined_elsewhere_after_it_released(world: World) -> None:
    """A node joined another coordinator's run after it had released in one of that name."""
    book = world.nodes[A]
    line = book.find("run.joined", run="run-3")
    book.drop(line)
    book.after(book.lines[-1], line.kind, line.body)


@forgery(8, "elsewhere", "script")
def over_the_cap_with_what_is_elsewhere(world: World) -> None:
    """What a node released under another coordinator counts against its caps all the same."""
    settled = world.copy().settle().nodes[A]
    receipt = {
        **settled.find("budget.reserved").body["receipt"],
        "mechanism": "gaussian",
        "share": 4.0,
        "clip": 1.0,
    }
    fresh = World().begin(TWO).terms(epsilon=2.2, solo_epsilon=None, order=16)
    book = fresh.nodes[A]
    for number in range(12):
        act = {"run": "run-9", "step": STATISTICS, "round": number, "dataset": DATASET}
        fresh.add(book, "budget.reserved", {**act, "receipt": receipt})
    joined = {"run": "run-9", "manifest": digest("run-9"), "origin": ANOTHER}
    terms = book.find("budget.terms")
    book.after(terms, "run.joined", joined)
    world.__dict__.update(fresh.end().__dict__)


@forgery(9, "full", "script")
def second_ledger_under_another_key_of_a_members_name(world: World) -> None:
    """A member keeps a second ledger of the same name for the data set that a run declares, under
    a key that is not in the run, and hands out that one alone."""
    book = second_ledger(world, A, HOSTILE)
    world.settle()
    for name in [name for name, one in world.nodes.items() if one is not book]:
        del world.nodes[name]
