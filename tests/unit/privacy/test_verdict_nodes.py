"""Steps 8 and 9: members' own ledgers, and what the coordinator's says of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

import pytest
from support.ledgers import (
    COORDINATOR,
    DATASET,
    NAMES,
    NOISE,
    UNIT,
    WATCH,
    Line,
    Nodes,
    Script,
    begun,
    bundle_of,
    chained,
    head_of,
    key_of,
    ledger_of,
    log_of,
    node_log,
    rotation,
    whole_run,
)

from privacy.budget import Budget
from privacy.budget_record import BudgetTerms
from privacy.errors import NotVerifiedError
from privacy.ledger import LedgerHead, parse_leaf
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.bundle import Bundle, Log
from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.ledger.keys import log_origin
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.store import append
from privacy.ledger.store import head_of as head_of_store
from privacy.receipt import Receipt
from privacy.release import ABORT_DOMAIN, abort_message
from privacy.verify import NodeFound, Verdict, verify_bundle

MEMBERS = NAMES[:3]
BANK = key_of("bank")


def ready(nodes: Nodes, run: str = "r") -> Script:
    return Script(run, MEMBERS, nodes=nodes).begin()


def verify(script: Script, nodes: Nodes, *, live: bool = False) -> Verdict:
    return verify_bundle(bundle_of(ledger_of(script), nodes), live=live)


def refused(script: Script, nodes: Nodes, sentence: str, *, of: str = "bank") -> None:
    for live in (False, True):
        with pytest.raises(NotVerifiedError, match=rf"^step \d \(.*\), ledger of {of}: {sentence}"):
            verify(script, nodes, live=live)


# --- what holds ---


def test_both_sides_say_the_same() -> None:
    nodes = Nodes(MEMBERS)
    verdict = verify(ready(nodes).train().evaluate(WATCH).finish(), nodes)
    # its beginning, its terms, and a reserve and a commit for each of four releases
    assert verdict.nodes == tuple(
        NodeFound(
            owner=name,
            leaves=2 + 2 * 4,
            releases=4,
            pending=0,
            compared=4,
            witnessed=0,
            elsewhere=0,
            terms=1,
            clocks_s=0,
        )
        for name in MEMBERS
    )
    assert verdict.missing == ()


def test_what_was_sent_and_not_opened_is_compared_as_well() -> None:
    nodes = Nodes(MEMBERS)
    script = ready(nodes).train().reserve(UPDATE, 2).stop()
    (first, *_) = verify(script, nodes).nodes
    assert (first.releases, first.pending, first.compared) == (4, 1, 4)


def test_a_node_may_have_reserved_more_than_the_coordinator_ever_heard_of() -> None:
    """Its vector never arrived, or it took it back."""
    nodes = Nodes(MEMBERS)
    script = ready(nodes)
    receipt = script.due_receipt(UPDATE, 1)
    nodes.reserve("bank", "r", UPDATE, 1, receipt)
    nodes.reserve("broker", "r", UPDATE, 1, receipt)
    nodes.abort("broker", "r", UPDATE, 1)
    bank, broker, _ = verify(script.stop(), nodes).nodes
    assert (bank.releases, bank.pending, bank.compared) == (3, 1, 2)
    assert (broker.releases, broker.pending, broker.compared) == (2, 0, 2)


def test_a_member_whose_ledger_is_not_there_is_named() -> None:
    nodes = Nodes(MEMBERS)
    entries = ledger_of(ready(nodes).train().finish())
    for gone in ((), ("bank",), ("broker", "insurer"), MEMBERS):
        verdict = verify_bundle(bundle_of(entries, nodes.logs(without=gone)))
        assert verdict.missing == tuple(sorted(gone))
        assert sum(node.compared for node in verdict.nodes) == 3 * (3 - len(gone))
    # one that sent nothing is not missed
    alone = ready(Nodes(MEMBERS))
    alone.reserve(UPDATE, 1, arrived=MEMBERS[:1])
    silent = Script("s", ("bank", "spare"), nodes=Nodes(("bank", "spare"))).gather()
    assert verify_bundle(bundle_of(ledger_of(alone, silent))).missing == MEMBERS


def test_two_runs_of_one_coordinator_at_once() -> None:
    nodes = Nodes(MEMBERS)
    first, second = Script("p", MEMBERS, nodes=nodes), Script("q", MEMBERS, nodes=nodes)
    lines: list[Line] = []
    moves: tuple[Callable[[Script], object], ...] = (
        lambda one: one.gather(),
        lambda one: one.reserve(STATISTICS, 0),
        lambda one: one.open(),
        lambda one: one.accept(),
        lambda one: one.agree_on_model(),
        lambda one: one.reserve(UPDATE, 1),
        lambda one: one.open(),
        lambda one: one.accept(),
        lambda one: one.commit(),
        lambda one: one.reserve(WATCH, 1),
        lambda one: one.open(),
        lambda one: one.accept(),
        lambda one: one.finish(),
    )
    for move in moves:
        for one in (first, second):
            before = len(one.lines)
            move(one)
            lines += one.lines[before:]
    verdict = verify_bundle(bundle_of(chained([begun(), *lines]), nodes))
    assert (verdict.runs, verdict.rounds, verdict.opened) == (2, 2, 6)
    assert {(node.releases, node.compared) for node in verdict.nodes} == {(6, 6)}


def test_a_member_may_be_in_some_runs_and_not_in_others() -> None:
    nodes = Nodes(NAMES)
    scripts = [
        Script("p", NAMES[:3], nodes=nodes).begin().train().finish(),
        Script("q", NAMES[2:], nodes=nodes).begin().train().finish(),
    ]
    verdict = verify_bundle(bundle_of(ledger_of(*scripts), nodes))
    assert [node.compared for node in verdict.nodes] == [3, 3, 6, 3, 3]


def test_a_run_with_noise_under_caps_holds() -> None:
    nodes = Nodes(epsilon=8.0, solo_epsilon=100.0, period_days=30.0)
    verdict = verify_bundle(bundle_of(ledger_of(whole_run(nodes=nodes, privacy=NOISE)), nodes))
    assert {node.compared for node in verdict.nodes} == {8}


# --- step 9: what the coordinator's ledger says of a node's ---


def ledger_with(nodes: Nodes, leaves: Sequence[bytes]) -> list[Log]:
    """All nodes' ledgers, the bank's with these leaves, which its key signed."""
    return [node_log("bank", leaves), *nodes.logs(without=("bank",))]


def test_a_nodes_ledger_older_than_it_said_itself_is_found() -> None:
    nodes = Nodes(MEMBERS)
    entries = ledger_of(ready(nodes).train().finish())
    leaves = nodes.leaves("bank")
    for size in range(2, len(leaves)):
        shown = bundle_of(entries, ledger_with(nodes, leaves[:size]))
        if size == len(leaves) - 1:
            verify_bundle(shown)  # the note that a release was accepted is in no head
            continue
        with pytest.raises(NotVerifiedError, match=rf"^step 9 .*bank: entry {size}: it was cut"):
            verify_bundle(shown)


def test_a_nodes_ledger_that_was_rewritten_is_found() -> None:
    nodes = Nodes(MEMBERS)
    script = ready(nodes).train().finish()
    leaves = nodes.leaves("bank")
    for place in range(1, len(leaves)):
        shown = bundle_of(ledger_of(script), ledger_with(nodes, later_at(leaves, place)))
        if place == len(leaves) - 1:
            verify_bundle(shown)
            continue
        with pytest.raises(NotVerifiedError, match=r"^step 9 .*bank: entry \d+: .*was rewritten"):
            verify_bundle(shown)


def later_at(leaves: Sequence[bytes], place: int) -> list[bytes]:
    """The leaves with the times from one place on a little later."""
    entries = [parse_leaf(leaf) for leaf in leaves]
    return [replace(one, time_ms=one.time_ms + (one.index >= place)).leaf() for one in entries]


def test_a_ledger_begun_anew_is_found() -> None:
    """The bank removes its ledger, and the budget is whole again."""
    nodes, fresh = Nodes(MEMBERS), Nodes(MEMBERS)
    script = ready(nodes).train().finish()
    logs = [*fresh.logs(without=MEMBERS[1:]), *nodes.logs(without=("bank",))]
    with pytest.raises(
        NotVerifiedError,
        match=r"^step 9 .*bank: entry 2: it was cut off.*; if it was exported before that, get",
    ):
        verify_bundle(bundle_of(ledger_of(script), logs))


class Telling(Nodes):
    """Nodes of which the bank does something else than it should."""

    def __init__(self, instead: Callable[[Nodes, str, str, int, Receipt], LedgerHead]) -> None:
        super().__init__(MEMBERS)
        self.instead = instead

    def reserve(
        self, member: str, run: str, step: str, number: int, receipt: Receipt
    ) -> LedgerHead:
        if member == "bank" and step == UPDATE:
            return self.instead(self, run, step, number, receipt)
        return super().reserve(member, run, step, number, receipt)

    def plainly(self, run: str, step: str, number: int, receipt: Receipt) -> LedgerHead:
        return super().reserve("bank", run, step, number, receipt)

    def commit(self, member: str, run: str, step: str, number: int) -> None:
        if member != "bank" or step != UPDATE:
            super().commit(member, run, step, number)


def telling(instead: Callable[[Telling, str, str, int, Receipt], LedgerHead]) -> Telling:
    return Telling(instead)  # type: ignore[arg-type]  # only a `Telling` calls it


def test_a_release_that_was_not_reserved_is_found() -> None:
    nodes = telling(lambda nodes, *_: head_of_store(nodes.stores["bank"]))
    script = ready(nodes).train()
    refused(script, nodes, "the update of round 1 of run r was sent, and not reserved here before")
    nodes = telling(Telling.plainly)
    verify(ready(nodes).train(), nodes)


def test_a_release_that_was_reserved_after_its_head_was_told_is_found() -> None:
    def late(nodes: Telling, run: str, step: str, number: int, receipt: Receipt) -> LedgerHead:
        head = head_of_store(nodes.stores["bank"])
        nodes.plainly(run, step, number, receipt)
        return head

    nodes = telling(late)
    refused(ready(nodes).train(), nodes, "the update of round 1 .*not reserved here before")
    nodes = telling(Telling.plainly)
    verify(ready(nodes).train(), nodes)


@pytest.mark.parametrize(
    "change",
    [
        {"values": 1},
        {"purpose": "run r, update of round 2"},
        {"kind": "evaluation"},
        {"mechanism": "gaussian", "share": 9.0, "clip": 1.0},
    ],
)
def test_a_release_that_costs_something_else_here_is_found(change: Mapping[str, object]) -> None:
    def cheaply(nodes: Telling, run: str, step: str, number: int, receipt: Receipt) -> LedgerHead:
        return nodes.plainly(run, step, number, replace(receipt, **change))  # type: ignore[arg-type]

    nodes = telling(cheaply)
    refused(
        ready(nodes).train(), nodes, r"entry \d+: the update of round 1 .* costs something else"
    )


def test_a_release_that_was_sent_and_taken_back_is_found() -> None:
    nodes = telling(Telling.plainly)
    script = ready(nodes).reserve(UPDATE, 1)
    nodes.abort("bank", "r", UPDATE, 1)
    refused(script, nodes, "the update of round 1 of run r was sent, and taken back here")
    refused(script.open().accept().commit(), nodes, "the update of round 1 .*taken back here")


def test_a_release_of_another_data_set_is_found() -> None:
    nodes = Nodes(MEMBERS)
    script = Script("r", MEMBERS, nodes=nodes).start().declare(dataset="claims")
    script.consent().agree_on_keys()
    verify(script, nodes)
    refused(script.statistics(1), nodes, "the statistics .* is of another data set")


def test_a_ledger_of_one_name_with_the_key_of_another_is_found() -> None:
    nodes = Nodes(MEMBERS)
    store = MemoryLedger()
    begin_ledger(store, BANK, owner="teller", role="node", time_ms=0)
    terms = replace(terms_of(), member="teller")
    nodes.stores["bank"] = store
    nodes.budgets["bank"] = Budget(store, terms, now_ms=lambda: nodes.now_ms)
    script = ready(nodes)
    log = log_of(
        list(store.leaves()),
        owner="teller",
        role="node",
        origin=log_origin("teller", BANK.public),
        keys=[(0, BANK)],
        states={store.size(): ()},
    )
    with pytest.raises(
        NotVerifiedError, match=r"^step 9 .*ledger of teller: .*key is that of bank"
    ):
        verify_bundle(bundle_of(ledger_of(script), [log, *nodes.logs(without=("bank",))]))


def terms_of(member: str = "bank") -> BudgetTerms:
    return BudgetTerms(
        member=member,
        dataset=DATASET,
        unit=UNIT,
        epsilon=None,
        delta=1e-5,
        order=16,
        colluders=1,
        period_days=None,
        solo_epsilon=None,
    )


# --- step 9: what a node's ledger says of the coordinator's ---


def test_what_a_node_accepted_and_the_coordinator_does_not_have_is_found() -> None:
    """The coordinator opened a sum, and left it out of its ledger."""
    nodes = Nodes(MEMBERS)
    script = ready(nodes)
    shown = script.copy()
    script.train()
    for unfinished in (shown, shown.copy().stop(), shown.copy().finish()):
        refused(unfinished, nodes, r"entry \d+: update of round 1 of run r was accepted here, and")
    verify(script, nodes)
    # that it was on record as reserved is not enough
    (reserved,) = (
        one
        for one in script.lines
        if one[0] == "sum.reserved" and "model" in one[1] and one[1]["step"] == UPDATE
    )
    shown.lines.append(reserved)
    refused(shown, nodes, r"entry \d+: update of round 1 of run r was accepted here, and")


def test_a_sum_that_was_opened_and_not_accepted_by_enough_accuses_nobody() -> None:
    """A node notes that it accepted before it says so; and then the coordinator breaks down."""
    nodes = Nodes(MEMBERS)
    script = ready(nodes).release(UPDATE, 1)
    nodes.commit("bank", "r", UPDATE, 1)
    verify(script, nodes)
    assert verify(script.stop(), nodes).nodes[0].pending == 0


def test_a_run_that_only_a_node_knows_is_found() -> None:
    nodes = Nodes(MEMBERS)
    script = ready(nodes).finish()
    receipt = script.due_receipt(UPDATE, 1)
    nodes.reserve("bank", "ghost", UPDATE, 1, receipt)
    verify(script, nodes)  # perhaps nothing came of it
    nodes.commit("bank", "ghost", UPDATE, 1)
    refused(script, nodes, r"entry \d+: update of round 1 of run ghost was accepted here, and")
    # a bundle without the coordinator's ledger says nothing of that
    verify_bundle(replace(bundle_of(ledger_of(script)), logs=tuple(nodes.logs())))


def test_a_sum_that_its_node_was_no_member_of_is_found() -> None:
    nodes = Nodes(NAMES)
    script = Script("r", MEMBERS, nodes=nodes).begin().train()
    nodes.reserve("mill", "r", UPDATE, 1, script.due_receipt(UPDATE, 1))
    verify(script, nodes)
    nodes.commit("mill", "r", UPDATE, 1)
    refused(script, nodes, r"entry \d+: update of round 1 of run r was accepted here", of="mill")


def test_what_a_run_for_organisations_cost_single_units_is_on_the_nodes_side_alone() -> None:
    nodes = Nodes(MEMBERS)
    script = ready(nodes)
    exact = script.due_receipt(UPDATE, 1)
    for member in MEMBERS:
        nodes.reserve(member, "r (units)", UPDATE, 1, exact)
    verdict = verify(script.train().finish(), nodes)
    assert {(node.releases, node.pending, node.compared) for node in verdict.nodes} == {(4, 1, 3)}


def test_runs_of_another_coordinator_are_counted_and_not_compared() -> None:
    nodes, script = joined_elsewhere("theirs", early=True)
    bank, broker, _ = verify(script, nodes).nodes
    assert (bank.releases, bank.compared, bank.elsewhere) == (4, 2, 2)
    assert (broker.releases, broker.compared, broker.elsewhere) == (2, 2, 0)
    # it had joined that run when it reserved; who writes so afterwards is not believed
    nodes, script = joined_elsewhere("theirs", early=False)
    refused(script, nodes, r"entry \d+: update of round 1 of run theirs was accepted here, and")


def joined_elsewhere(run: str, *, early: bool) -> tuple[Nodes, Script]:
    """A finished run, and the bank's releases of another one, under another coordinator's name."""
    nodes = Nodes(MEMBERS)
    script = ready(nodes)
    receipt = script.due_receipt(UPDATE, 1)
    if early:
        nodes.join("bank", run, origin="tacit/another/0123456789abcdef")
    for name in (run, f"{run} (units)"):
        nodes.reserve("bank", name, UPDATE, 1, receipt)
        nodes.commit("bank", name, UPDATE, 1)
    if not early:
        nodes.join("bank", run, origin="tacit/another/0123456789abcdef")
    return nodes, script.finish()


def test_a_release_that_is_on_record_here_was_not_joined_elsewhere() -> None:
    nodes = Nodes(MEMBERS)
    nodes.join("bank", "r", origin="tacit/another/0123456789abcdef")
    refused(ready(nodes), nodes, "the statistics .* was joined under another coordinator's name")


def test_a_run_that_was_joined_here_is_looked_for_here() -> None:
    nodes = Nodes(MEMBERS)
    script = ready(nodes).train().finish()
    nodes.reserve("bank", "ghost", UPDATE, 1, script.due_receipt(UPDATE, 1))
    nodes.commit("bank", "ghost", UPDATE, 1)
    nodes.join("bank", "ghost")
    nodes.join("bank", "r")
    refused(script, nodes, r"entry \d+: update of round 1 of run ghost was accepted here, and")


# --- step 9: states that a node cosigned are in its own ledger ---


def test_states_that_a_node_cosigned_are_found() -> None:
    nodes = Nodes(MEMBERS)
    script = ready(nodes).train().finish()
    entries = ledger_of(script)
    sizes = (1, 7, len(entries))
    for size in sizes:
        nodes.cosign("bank", head_of(entries, size))
    bank, broker, _ = verify(script, nodes).nodes
    assert (bank.witnessed, broker.witnessed) == (3, 0)
    for wrong, why in (
        (LedgerHead(7 + 1, head_of(entries, 7).root), "another ledger"),
        (
            LedgerHead(len(entries) + 1, head_of(entries).root),
            r"\d+ .*, or exported before: get it",
        ),
        (LedgerHead(0, head_of(entries).root), "another ledger"),
    ):
        other = Nodes(MEMBERS)
        script = ready(other).train().finish()
        other.cosign("broker", wrong)
        refused(script, other, rf"entry \d+: it cosigned {why}", of="broker")
        # alone, it has nothing to be held against
        verify_bundle(replace(bundle_of(entries), logs=tuple(other.logs())))


def test_states_of_other_ledgers_are_not_looked_for_here() -> None:
    nodes = Nodes(MEMBERS)
    script = ready(nodes).finish()
    body = {"origin": "tacit/another/0123456789abcdef", "leaves": 10**6, "root": "a" * 64}
    append(nodes.stores["bank"], "ledger.cosigned", body, time_ms=0)
    assert verify(script, nodes).nodes[0].witnessed == 0


# --- step 9: names and clocks ---


def test_nobody_else_goes_by_a_members_name_in_runs_about_its_rows() -> None:
    """The coordinator starts a run with a made-up bank, which says what it likes of its ledger."""
    nodes = Nodes(MEMBERS)
    honest = ready(nodes, "p").train().finish()
    made_up = Script("q", MEMBERS)
    directory = dict(made_up.manifest.directory) | {"bank": key_of("made up").public.hex()}
    made_up.manifest = replace(made_up.manifest, directory=directory)

    def bundle(dataset: str) -> Bundle:
        forged = made_up.copy().start().declare(dataset=dataset)
        return bundle_of(
            ledger_of(honest, forged), nodes, states={len(ledger_of(honest, forged)): MEMBERS}
        )

    with pytest.raises(NotVerifiedError, match=r"^step 9 .*bank: run q names bank with a key that"):
        verify_bundle(bundle(DATASET))
    # another contract's node of that member has an identity of its own
    verify_bundle(bundle("claims"))


def test_how_far_clocks_differ_is_said() -> None:
    for ahead_ms in (0, 999, 90_000, 10**9):
        nodes = Nodes(MEMBERS)
        nodes.now_ms = ahead_ms
        found = verify(ready(nodes).train(), nodes).nodes
        assert {abs(node.clocks_s - ahead_ms // 1000) <= 1 for node in found} == {True}


def test_how_often_terms_were_changed_is_said() -> None:
    nodes = Nodes(MEMBERS)
    for epsilon in (8.0, 16.0, 8.0):
        nodes.set_terms(replace(terms_of(), epsilon=epsilon))
    nodes.set_terms(replace(terms_of(), epsilon=8.0))  # the same as before
    script = Script("r", MEMBERS, nodes=nodes, privacy=NOISE).begin()
    assert [node.terms for node in verify(script, nodes).nodes] == [4, 1, 1]


# --- step 8 ---


def own_lines(*acts: Line, key: str = "bank", owner: str = "bank") -> list[Line]:
    """A node's ledger from its beginning."""
    public = key_of(key).public
    first: Line = (
        "ledger.begun",
        {
            "origin": log_origin(owner, public),
            "key": public.hex(),
            "owner": owner,
            "role": "node",
        },
    )
    return [first, *acts]


def own_log(*acts: Line) -> Log:
    return node_log("bank", [entry.leaf() for entry in chained(own_lines(*acts))])


def alone(*logs: Log) -> Bundle:
    return replace(bundle_of(ledger_of()), logs=logs)


TERMS: Line = ("budget.terms", {**asdict(terms_of()), "solo_order": 16})
ABOUT: dict[str, object] = {"run": "r", "step": UPDATE, "round": 1, "dataset": DATASET}
RESERVED: Line = (
    "budget.reserved",
    {**ABOUT, "receipt": Script("r", MEMBERS).due_receipt(UPDATE, 1).to_json()},
)
COMMITTED: Line = ("budget.committed", ABOUT)
WORD = abort_message("r", UPDATE, 1, dataset=DATASET)


def aborted(signer: str = "bank", *, domain: str = ABORT_DOMAIN, word: bytes = WORD) -> Line:
    signature = key_of(signer).sign(domain, word).hex()
    return "budget.aborted", {**ABOUT, "reason": "nothing left", "signature": signature}


def with_terms(**changes: object) -> Line:
    return "budget.terms", {**TERMS[1], **changes}


@pytest.mark.parametrize(
    ("sentence", "acts"),
    [
        ("entry 1 is no entry of a node's ledger", [("writer.began", {"writer": "x"})]),
        ("entry 1 is no entry of a node's ledger", Script().start().lines),
        ("entry 1 reserves before any terms", [RESERVED]),
        ("entry 2 reserves before any terms", [with_terms(unit="window"), RESERVED]),
        ("entry 2 reserves before any terms", [with_terms(dataset="claims"), RESERVED]),
        ("entry 2 is about another member", [TERMS, with_terms(member="teller")]),
        ("entry 2 changes the filter's order", [TERMS, with_terms(order=4)]),
        ("entry 2 changes the filter's order", [TERMS, with_terms(solo_order=4)]),
        ("entry 1 holds no terms", [with_terms(epsilon=0.0)]),
        ("entry 1 holds no terms", [with_terms(delta=1.0)]),
        ("entry 1 holds no terms", [with_terms(order=1)]),
        ("entry 1 holds no terms", [with_terms(solo_order=513)]),
        ("entry 1 holds no terms", [with_terms(period_days=0.0)]),
        ("it holds the budget of teller", [with_terms(member="teller")]),
        ("entry 2 settles what was never reserved", [TERMS, COMMITTED]),
        ("entry 2 settles what was never reserved", [TERMS, aborted()]),
        ("entry 4 settles what was settled before", [TERMS, RESERVED, COMMITTED, aborted()]),
        ("entry 4 settles what was settled before", [TERMS, RESERVED, aborted(), COMMITTED]),
        ("entry 3 takes a release back without", [TERMS, RESERVED, aborted("broker")]),
        ("entry 3 takes a release back without", [TERMS, RESERVED, aborted(COORDINATOR)]),
        ("entry 3 takes a release back without", [TERMS, RESERVED, aborted(domain="manifest")]),
        ("entry 3 takes a release back without", [TERMS, RESERVED, aborted(word=b"")]),
    ],
)
def test_a_nodes_ledger_that_no_budget_wrote_is_found(sentence: str, acts: Sequence[Line]) -> None:
    with pytest.raises(NotVerifiedError, match=rf"^step 8 \(nodes' ledgers\), .*bank: {sentence}"):
        verify_bundle(alone(own_log(*acts)))
    if not sentence.startswith("it holds"):
        at = int(sentence.split()[1])
        verify_bundle(alone(own_log(*acts[: at - 1])))


def test_a_node_that_reserved_more_than_its_cap_holds_is_found() -> None:
    """See test_cap.py for what that is."""
    capped = with_terms(epsilon=1.0, order=16)
    with pytest.raises(
        NotVerifiedError, match=r"^step 8 .*bank: entry 2 reserves more than the cap of epsilon 1 "
    ):
        verify_bundle(alone(own_log(capped, RESERVED)))
    verify_bundle(alone(own_log(TERMS, RESERVED)))
    verify_bundle(alone(own_log(TERMS, RESERVED, capped)))


def test_an_act_of_a_node_that_stands_twice_is_found() -> None:
    for act in (RESERVED, COMMITTED, aborted()):
        before = [TERMS] if act is RESERVED else [TERMS, RESERVED]
        with pytest.raises(NotVerifiedError, match=r"^step 3 .*says again"):
            verify_bundle(alone(own_log(*before, act, act)))
    # terms come and go, in the same words
    verify_bundle(alone(own_log(TERMS, with_terms(epsilon=8.0), TERMS)))


def test_a_node_whose_key_changed_takes_back_with_the_new_one() -> None:
    change = rotation("bank", "second key")

    def log(*acts: Line) -> Log:
        leaves = [entry.leaf() for entry in chained(own_lines(TERMS, RESERVED, change, *acts))]
        return log_of(
            leaves,
            owner="bank",
            role="node",
            origin=log_origin("bank", BANK.public),
            keys=[(0, BANK), (4, key_of("second key"))],
            states={3: (), len(leaves): ()},
        )

    assert verify_bundle(alone(log(aborted("second key")))).nodes[0].releases == 0
    with pytest.raises(NotVerifiedError, match=r"^step 8 .*without the node's own signature"):
        verify_bundle(alone(log(aborted())))


def test_two_ledgers_of_one_key_or_of_one_budget_are_found() -> None:
    first = own_log(TERMS, RESERVED)
    other_name = own_lines(with_terms(member="teller"), owner="teller")
    same_key = log_of(
        [entry.leaf() for entry in chained(other_name)],
        owner="teller",
        role="node",
        origin=log_origin("teller", BANK.public),
        keys=[(0, BANK)],
        states={2: ()},
    )
    verify_bundle(alone(first))
    verify_bundle(alone(same_key))
    with pytest.raises(NotVerifiedError, match=r"^step 8 .*another ledger here has the same key"):
        verify_bundle(alone(first, same_key))
    other_key = key_of("second key")

    def second(*acts: Line) -> Log:
        return log_of(
            [entry.leaf() for entry in chained(own_lines(*acts, key="second key"))],
            owner="bank",
            role="node",
            origin=log_origin("bank", other_key.public),
            keys=[(0, other_key)],
            states={1 + len(acts): ()},
        )

    with pytest.raises(NotVerifiedError, match=r"^step 8 .*has a budget of the same units"):
        verify_bundle(alone(first, second(TERMS)))
    verify_bundle(alone(first, second(with_terms(dataset="claims"))))
    verify_bundle(alone(first, second(with_terms(unit="organisation"))))


def test_live_a_nodes_ledger_needs_no_signed_state() -> None:
    nodes = Nodes(MEMBERS)
    entries = ledger_of(ready(nodes).train())
    bundle = bundle_of(entries, nodes.logs(signed=False))
    assert verify_bundle(bundle, live=True).nodes[0].compared == 3
    with pytest.raises(NotVerifiedError, match=r"^step 5 .*ledger of bank: no state of it"):
        verify_bundle(bundle)
    # and it is held to all else
    leaves = later_at(nodes.leaves("bank"), 2)
    log = node_log("bank", leaves, signed=False)
    with pytest.raises(NotVerifiedError, match=r"^step 9 .*rewritten"):
        verify_bundle(bundle_of(entries, [log]), live=True)
