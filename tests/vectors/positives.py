"""Bundles that hold, as scripts; each function makes one, unsettled."""

from collections.abc import Callable
from typing import Any

from vectors.builder import (
    BY,
    DATASET,
    FOUNDER,
    LAUNCHER,
    NAMES,
    PERSONAL,
    PLAN,
    REGULATOR,
    TEST,
    WATCH,
    Book,
    Line,
    State,
    World,
    digest,
    identity,
    public,
    without,
)

from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.ledger.keys import cosigner_key, log_key
from privacy.ledger.trust import two_thirds

FOUR = (*NAMES, "delta-finance")
TWO = NAMES[:2]


def policy_of(world: World, members: tuple[str, ...], *also: str) -> str:
    """More than two thirds of the members, and each of `also`."""
    main = world.main
    log = log_key(main.origin, identity(main.keys[0]).public)
    names = (*members, *also)
    keys = {name: cosigner_key(name, identity(name).public) for name in names}
    return two_thirds([log], keys, also=also).to_text()


def full() -> World:
    """A finished run of four members with noise under caps; a regulator cosigned, as the policy
    asks. One member's vector came each time, and its signature never."""
    world = World().begin(FOUR).terms()
    world.policy = policy_of(world, FOUR, REGULATOR)
    world.start("run-1", members=FOUR, privacy=PLAN, minimum_cohort=3)
    signers = FOUR[:3]
    world.release("run-1", STATISTICS, 0, signers=signers, witnesses=FOUR).model("run-1")
    world.train("run-1", 1, signers=signers).release("run-1", WATCH, 1, signers=signers)
    world.train("run-1", 2, signers=signers)
    world.release("run-1", TEST, 2, signers=signers, witnesses=FOUR[:3]).finish("run-1", 2)
    return world.state((*FOUR, REGULATOR)).end()


def plain(keys: str = "") -> World:
    """A finished run of two members without noise and caps."""
    world = World().begin(TWO, keys=keys).terms(epsilon=None, solo_epsilon=None)
    world.start("run-1", members=TWO)
    world.release("run-1", STATISTICS, 0).model("run-1")
    world.train("run-1", 1).release("run-1", WATCH, 1).train("run-1", 2)
    world.release("run-1", TEST, 2)
    world.release("run-1", PERSONAL, 2, witnesses=TWO).finish("run-1", 2)
    return world.end()


def stopped() -> World:
    """The coordinator's ledger alone: one sum, and the run was stopped."""
    world = World().begin(TWO).start("run-1", members=TWO, privacy=PLAN)
    world.release("run-1", STATISTICS, 0, witnesses=TWO).stop("run-1")
    return _alone(world.end())


def _alone(world: World) -> World:
    """Without the nodes' ledgers: what they said of them is settled before they go."""
    world.settle().nodes.clear()
    return world


def unfinished() -> World:
    """A run under way: the update of round 2 is reserved and not opened, and one member took its
    part back, as nothing of it had left."""
    world = World().begin(FOUR).terms().start("run-1", members=FOUR, privacy=PLAN)
    world.release("run-1", STATISTICS, 0, witnesses=FOUR).model("run-1")
    world.train("run-1", 1, witnesses=FOUR)
    world.release("run-1", UPDATE, 2, aborting=FOUR[3:], opened=False)
    return world.end()


def broken_down() -> World:
    """A coordinator that broke down: members accepted a sum, and it did not write that any more."""
    world = World().begin(NAMES).terms().start("run-1", privacy=PLAN)
    world.release("run-1", STATISTICS, 0, witnesses=NAMES)
    accepted = world.main.lines.pop()
    assert accepted.kind == "sum.accepted"
    return world.end()


def rotated() -> World:
    """Keys of the coordinator and of a node change, another writer takes over, and the next run is
    under the new keys; the policy knows the first key."""
    world = World().begin(NAMES).terms()
    world.policy = policy_of(world, NAMES)
    world.start("run-1", privacy=PLAN).release("run-1", STATISTICS, 0, witnesses=NAMES)
    world.stop("run-1").rotate(world.main, "coordinator 2")
    world.epoch = 2
    world.add(world.main, "writer.began", {"writer": "host-b"})
    world.rotate(world.nodes[NAMES[0]], "amber-bank 2")
    world.start("run-2", privacy=PLAN)
    world.release("run-2", STATISTICS, 0, witnesses=NAMES)
    world.state().end()
    # the policy's witnesses have their first keys; two of three are more than its group needs
    world.policy = world.policy.replace("group two+thirds 3", "group two+thirds 2")
    return world


def grouped() -> World:
    """Updates are summed in two groups of two, and one group's sum of round 2 is never opened."""
    world = World().begin(FOUR).terms(epsilon=None, solo_epsilon=None)
    world.start("run-1", members=FOUR, group_size=2)
    world.release("run-1", STATISTICS, 0).model("run-1")
    for number in (1, 2):
        world.release("run-1", UPDATE, number, asked=FOUR[:2], accepted=False, witnesses=FOUR)
        world.release("run-1", UPDATE, number, asked=FOUR[2:], opened=number == 1, accepted=False)
        if number == 1:
            world.state()
        world.accept("run-1", UPDATE, number).commit("run-1", number)
    return world.end()


def discrete() -> World:
    """Two runs with discrete noise; caps count the last day alone."""
    plan = without(PLAN, mechanism="discrete_gaussian", parts="together", colluders=0)
    world = (
        World()
        .begin(TWO)
        .terms(epsilon=2.0, solo_epsilon=3.5, order=24, solo_order=16, period_days=1.0, colluders=0)
    )
    for run in ("run-1", "run-2"):
        world.start(run, members=TWO, privacy=plan, minimum_cohort=2)
        world.release(run, STATISTICS, 0).model(run)
        world.train(run, 1, witnesses=TWO).finish(run, 1)
        world.now_ms += 2 * 86_400_000
    return world.end()


def local() -> World:
    """Each member's own noise; the coordinator may read vectors; a validation undoes a round."""
    plan = without(PLAN, noise="local", steps=3, update_share=2.0, delta=1e-6)
    world = World().begin(TWO).terms(solo_epsilon=None)
    world.start("run-1", members=TWO, privacy=plan, protection="ckks", minimum_cohort=1)
    world.release("run-1", STATISTICS, 0).model("run-1").train("run-1", 1)
    world.release("run-1", WATCH, 1, kept=False, witnesses=TWO).finish("run-1", 1)
    return world.end()


def node_alone() -> World:
    """One node's own ledger."""
    world = plain()
    world.settle().coordinator = None
    del world.nodes[TWO[1]]
    world.policy = "quorum none\n"
    return world


def empty() -> World:
    """Nothing happened yet; a state of no entries is signed, too."""
    world = World().begin(TWO)
    world.main.states.append(State(0))
    return world.end()


def named() -> World:
    """Members whose names are no names of keys: spaces, a plus sign, slashes, other scripts."""
    names = ("50% bank/Ost", "bank + son", "北京 银行")
    world = World().begin(names).terms().start("Lauf 1: Ä/B", members=names, privacy=PLAN)
    world.release("Lauf 1: Ä/B", STATISTICS, 0, witnesses=names).stop("Lauf 1: Ä/B")
    return world.end()


def wide(signers: int = 21) -> World:
    """More members than 32: two thirds of those who are in a sum sign it, not of all."""
    names = tuple(f"member-{number:02}" for number in range(33))
    world = World().begin(names).start("run-1", members=names)
    world.release(
        "run-1",
        STATISTICS,
        0,
        arrived=names[:31],
        survivors=names[:30],
        signers=names[:signers],
        accepted=False,
        witnesses=names[:23],
    )
    return _alone(world.end())


def set_back() -> World:
    """A node signed two releases at one size of its own ledger, which is not here: it was set
    back. That is told, and nobody else's bundle fails for it."""
    world = World().begin(NAMES).terms().start("run-1", privacy=PLAN)
    world.release("run-1", STATISTICS, 0).model("run-1")
    world.train("run-1", 1, witnesses=NAMES).end()
    first = world.copy().settle().main.find("sum.reserved").body["nodes"][NAMES[0]]
    again = {**first, "root": digest("begun anew"), "signature": None}
    world.main.find("sum.reserved", 1).body["nodes"][NAMES[0]] = again
    world.settle()
    del world.nodes[NAMES[0]]
    return world


def elsewhere() -> World:
    """A node takes part in another coordinator's runs, too: one of them has the name of a run that
    is on record here and was stopped. It also told of single units, and raised its caps twice."""
    world = World().begin(TWO).terms(epsilon=None, solo_epsilon=None)
    world.start("run-1", members=TWO).release("run-1", STATISTICS, 0, witnesses=TWO)
    world.start("run-2", members=TWO).stop("run-1").stop("run-2")
    book = world.nodes[TWO[0]]
    followed = {"origin": "tacit/another", "key": public("another coordinator")}
    world.add(book, "ledger.followed", followed)
    units = {"run": "run-1 (units)", "step": STATISTICS, "round": 0, "dataset": DATASET}
    _exact(world, units)
    for run in ("run-2", "run-3"):
        joined = {"run": run, "manifest": digest(run), "origin": "tacit/another"}
        world.add(book, "run.joined", joined)
        for name in (run, f"{run} (units)"):
            _exact(world, {**units, "run": name})
    told = {"origin": "tacit/another", "leaves": 77, "root": digest("another ledger")}
    world.add(book, "ledger.cosigned", told)
    return world.terms(TWO[0], epsilon=None).terms(TWO[0], epsilon=None).end()


def _exact(world: World, act: dict[str, object]) -> None:
    """A release without noise that the first node reserved, and knows to have been accepted."""
    book = world.nodes[TWO[0]]
    receipt = world.manifests["run-1"].receipt(STATISTICS, 0, 9).to_json()
    world.add(book, "budget.reserved", {**act, "receipt": receipt})
    world.add(book, "budget.committed", act)


def never_followed() -> World:
    """Two nodes' ledgers have what they cosigned, and not that they follow; a third one's says so
    after it cosigned; nothing is wrong with what they say."""
    world = World().begin(NAMES).terms().start("run-1", privacy=PLAN)
    world.release("run-1", STATISTICS, 0, witnesses=NAMES).end()
    for name in NAMES:
        world.nodes[name].drop(world.nodes[name].find("ledger.followed"))
    book, told = world.nodes[NAMES[2]], world.nodes[NAMES[2]].find("ledger.cosigned")
    followed = {"origin": world.main.origin, "key": public(world.main.keys[0])}
    book.put(book.place(told) + 1, Line("ledger.followed", followed, told.time_ms))
    return world


def two_data_sets() -> World:
    """One name is two members: one key in runs about leases, another in a run about loans, where
    its clock is a day and an hour behind. The leases' contract was edited between two runs of two
    launchers, and what both told adds up."""
    world = World().begin(TWO).terms(epsilon=None, solo_epsilon=None)
    for number, run in enumerate(("run-1", "run-2")):
        world.start(run, members=TWO, privacy=PLAN, contract=digest("contract", number))
        world.main.find("run.started", run=run).body["launcher"] = public(f"launcher {number}")
        world.release(run, STATISTICS, 0, witnesses=TWO).stop(run)
    second = world.join(f"{TWO[0]} again")
    second.owner = TWO[0]
    begun = {"origin": second.origin, "key": public(second.keys[0])}
    world.add(second, "ledger.begun", {**begun, "owner": TWO[0], "role": "node"})
    world.terms(f"{TWO[0]} again", dataset="loans").terms(TWO[1], dataset="loans")
    directory = {TWO[0]: public(second.keys[0]), TWO[1]: public(TWO[1])}
    about: dict[str, Any] = {"directory": directory, "contract": digest("loans")}
    world.start("run-3", members=TWO, privacy=PLAN, dataset="loans", **about)
    world.release("run-3", STATISTICS, 0).model("run-3").train("run-3", 1)
    world.main.states.append(
        State(len(world.main.lines), ((TWO[0], second.keys[0]), (TWO[1], TWO[1])))
    )
    for line in second.lines:
        line.time_ms -= 90_000_000
    return world.end()


def namesakes() -> World:
    """The coordinator's ledger alone: two runs about one data set, under the same names and other
    keys. They are other members, and what they told does not add up."""
    world = World().begin(TWO).start("run-1", members=TWO, privacy=PLAN)
    world.release("run-1", STATISTICS, 0, witnesses=TWO).stop("run-1")
    for name in TWO:
        world.join(f"{name} again").owner = name
    directory = {name: public(f"{name} again") for name in TWO}
    world.start("run-2", members=TWO, privacy=PLAN, directory=directory)
    world.release("run-2", STATISTICS, 0)
    cosigners = tuple((name, f"{name} again") for name in TWO)
    world.main.states.append(State(len(world.main.lines), cosigners))
    return _alone(world.stop("run-2").end())


def federated() -> World:
    """A federation: participants are approved, renewed, revoked and let in again; a run goes on
    without the member that declined, after another one signed its manifest, too."""
    a, b, c, d = FOUR
    e = "echo-rental"
    world = World().begin(FOUR).terms().federate()
    world.admit(a, "bank", FOUNDER).admit(b, "bank", FOUNDER, a)
    world.admit(LAUNCHER, "insurer", a, b).admit(REGULATOR, "regulator", b, LAUNCHER)
    for name in (c, d, e):
        world.admit(name, "manufacturer", FOUNDER, a)
    renewed = {"name": c, "key": public(c), "new": public(c), "tls": digest("tls", "second")}
    world.act("member.renewed", **renewed)
    world.certify(c, tls=digest("tls", "second"), number=2)
    # whom it invited and approved has to be invited and approved anew
    world.invite("fir-leasing", "bank").request("fir-leasing", "bank").approve("fir-leasing", e)
    world.revoke(e).revoke("fir-leasing", by="fir-leasing")
    world.invite(e, "bank", key="echo again").request(e, "bank", key="echo again")
    world.approve(e, b, c, key="echo again").certify(e, key="echo again")
    world.start(
        "run-1", members=FOUR, declining=(d,), countersigned=b, privacy=PLAN, minimum_cohort=3
    )
    three = FOUR[:3]
    world.release("run-1", STATISTICS, 0).model("run-1")
    world.train("run-1", 1).release("run-1", TEST, 1, witnesses=three).finish("run-1", 1)
    # d's key is of yesterday; the next run has its new one, and the bank that signs has no rows
    world.rotate(world.nodes[d], "delta 2")
    world.act("member.renewed", name=d, key=public(d), new=public("delta 2"), tls=digest("tls", d))
    world.certify(d, key="delta 2", tls=digest("tls", d), number=2).revoke(b, by=b)
    # its launcher has not seen yet that the bank left
    world.start("run-2", members=(c, d), countersigned=e, privacy=PLAN, seen=world.acts - 1)
    second = world.main.find("run.countersigned", run="run-2")
    second.body["signature"] = BY + "echo again"
    world.release("run-2", STATISTICS, 0, witnesses=(c, d)).stop("run-2")
    return world.end()


def rekeyed() -> World:
    """The coordinator's key changes twice, and nodes say in their own ledgers what they were shown
    of it: one both times, one of the second time alone, one nothing; one was shown another
    coordinator's, too."""
    world = World().begin(NAMES).terms()
    a, b, _ = (world.nodes[name] for name in NAMES)
    world.start("run-1", privacy=PLAN).release("run-1", STATISTICS, 0, witnesses=NAMES)
    world.stop("run-1").rotate(world.main, "coordinator 2")
    _shown(world, a)
    world.start("run-2", privacy=PLAN).release("run-2", STATISTICS, 0, witnesses=NAMES)
    world.stop("run-2").rotate(world.main, "coordinator 3")
    _shown(world, a)
    _shown(world, b)
    other = {"origin": "tacit/another", "key": public("another coordinator"), "leaves": 9}
    world.add(a, "ledger.rekeyed", other)
    world.start("run-3", privacy=PLAN).release("run-3", STATISTICS, 0, witnesses=NAMES)
    return world.stop("run-3").end()


def _shown(world: World, book: Book) -> None:
    """A node was shown the coordinator's newest key."""
    told = {"origin": world.main.origin, "key": public(world.main.keys[-1])}
    world.add(book, "ledger.rekeyed", {**told, "leaves": len(world.main.lines)})


POSITIVES: dict[str, Callable[[], World]] = {
    one.__name__: one
    for one in (
        full,
        plain,
        stopped,
        unfinished,
        broken_down,
        rotated,
        grouped,
        discrete,
        local,
        node_alone,
        empty,
        named,
        wide,
        set_back,
        elsewhere,
        never_followed,
        two_data_sets,
        namesakes,
        federated,
        rekeyed,
    )
}
