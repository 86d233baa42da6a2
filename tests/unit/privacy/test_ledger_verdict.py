"""What holds and what does not: form, order, tree, signed states and the grammar of runs.

Witnesses (step 7) are in test_verdict_witnesses.py, nodes' ledgers (8 and 9) in
test_verdict_nodes.py.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.ledgers import (
    COORDINATOR,
    LAUNCHER,
    NAMES,
    NO_MODEL,
    NOISE,
    ORIGIN,
    PERSONAL,
    TEST,
    WATCH,
    Heads,
    Line,
    Nodes,
    Script,
    begun,
    bundle_of,
    chained,
    coordinator_log,
    data_of,
    digest,
    head_of,
    key_of,
    ledger_of,
    log_of,
    rebuilt,
    rotation,
    signed_state,
    small_run,
    taken_over,
    whole_run,
)

from privacy.errors import NotVerifiedError
from privacy.ledger import Entry, LedgerHead
from privacy.ledger.bundle import Bundle, Growth, Key, Log
from privacy.ledger.checkpoint import Checkpoint
from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.ledger.grammar import ROTATION_DOMAIN, Reading, follow
from privacy.ledger.head import HEAD_DOMAIN, head_message
from privacy.ledger.keys import log_key
from privacy.ledger.merkle import leaf_hash, root_of
from privacy.ledger.note import Note, NoteSignature
from privacy.receipt import Receipt
from privacy.sum_context import ACCEPTED_DOMAIN, SURVIVORS_DOMAIN
from privacy.verify import STEPS, Verdict, verify_bundle, verify_data

ROOT = Path(__file__).parents[3]
ALL_BUT_ONE = NAMES[:4]
OTHER = digest("other")
FORGED = "ab" * 64


def verify(*scripts: Script) -> Verdict:
    return verify_bundle(bundle_of(ledger_of(*scripts)))


def verify_lines(lines: Iterable[Line]) -> Verdict:
    return verify_bundle(bundle_of(chained([begun(), *lines])))


def other_receipt(**changes: Any) -> dict[str, object]:  # noqa: ANN401 - any field of a receipt
    """The receipt that is due for the update of round 1, but for some fields."""
    return {**ready().due_receipt(UPDATE, 1).to_json(), **changes}


def fresh() -> Script:
    return Script().gather()


def ready() -> Script:
    return Script().begin()


def asked(*missing: str) -> Script:
    """A run whose members were asked for their consent, but for these."""
    return Script().start().declare().consent([name for name in NAMES if name not in missing])


def grouped(size: int = 6, minimum: int = 2) -> Script:
    names = [f"member {index}" for index in range(size)]
    return Script("r", names, group_size=3, minimum=minimum)


# --- what holds ---


def test_a_ledger_without_runs_holds() -> None:
    entries = ledger_of()
    verdict = verify_bundle(bundle_of(entries), heads={ORIGIN: [head_of([]), head_of(entries)]})
    assert replace(verdict, steps=()) == Verdict(
        leaves=1,
        root=head_of(entries).root,
        runs=0,
        rounds=0,
        releases=0,
        opened=0,
        signatures=0,
        cosigned={},
        unfinished=(),
        nodes=(),
        missing=(),
        set_back=(),
        launchers=(),
        privacy=(),
        steps=(),
    )


def test_a_whole_run_is_counted() -> None:
    entries = ledger_of(whole_run(), Script("s").start())
    verdict = verify_bundle(bundle_of(entries))
    cosigned = {f"{name}/{key_of(name).public.hex()[:16]}": 1_700_000_000 for name in NAMES}
    assert replace(verdict, privacy=(), steps=()) == Verdict(
        leaves=len(entries),
        root=head_of(entries).root,
        runs=2,
        rounds=2,
        releases=8,
        opened=8,
        # two launchers, five consents, and five for each reservation, sum and acceptance
        signatures=2 + 5 + 3 * 8 * 5,
        cosigned=cosigned,
        unfinished=("s",),
        nodes=(),
        missing=NAMES,
        set_back=(),
        launchers=(key_of(LAUNCHER).public.hex(),),
        privacy=(),
        steps=(),
    )
    # without noise there is no bound
    assert {(one.cohort, one.epsilon) for one in verdict.privacy} == {
        ("training", None),
        ("test", None),
    }
    assert len(verdict.steps) == len(STEPS)


def test_what_it_costs_is_computed_from_the_receipts_of_all_that_was_reserved() -> None:
    script = Script(privacy=NOISE).begin().train()
    opened = verify(script).privacy
    assert {(one.cohort, one.releases) for one in opened} == {("training", 3)}
    dangling = verify(script.copy().reserve(UPDATE, 2)).privacy
    assert {(one.cohort, one.releases) for one in dangling} == {("training", 4)}
    assert 0 < _epsilon(opened) < _epsilon(dangling) < 8
    # only whose vector came has spent it
    few = verify(script.copy().reserve(UPDATE, 2, arrived=NAMES[1:])).privacy
    assert (few[0].member, few[0].releases) == (NAMES[1], 4)


def _epsilon(costs: Sequence[Any]) -> float:
    (cost,) = costs
    assert isinstance(cost.epsilon, float)
    return cost.epsilon


def test_runs_may_follow_each_other_or_be_interleaved() -> None:
    first, second = whole_run("p").lines, whole_run("q").lines
    third = Script("s").begin().train().evaluate(WATCH).stop().lines
    mixed = [line for lines in zip(first, second, strict=True) for line in lines]
    for lines in ([*first, *second, *third], [*mixed[:7], *third, *mixed[7:]]):
        verdict = verify_lines(lines)
        assert (verdict.runs, verdict.rounds, verdict.releases) == (3, 5, 20)
        assert verdict.unfinished == ()


LENGTH = len(whole_run().lines)


@pytest.mark.parametrize("length", range(1, LENGTH - 1))
def test_a_run_may_be_stopped_or_killed_at_any_entry(length: int) -> None:
    script = whole_run()
    del script.lines[length:]
    reserved = sum(kind == "sum.reserved" for kind, _ in script.lines)
    opened = sum(kind == "sum.opened" for kind, _ in script.lines)
    killed = verify(script)
    assert killed.unfinished == (() if script.lines[-1][0] == "run.finished" else ("r",))
    assert (killed.releases, killed.opened) == (reserved, opened)
    if script.lines[-1][0] != "run.finished":
        ended = verify(script.stop())
        assert ended.unfinished == ()
        assert (ended.releases, ended.opened) == (reserved, opened)


def test_a_run_without_validations_or_with_many_stages_holds() -> None:
    plain = Script().gather().statistics(5).train().train().finish()
    assert verify(plain).rounds == 2
    untrained = ready().evaluate(WATCH).evaluate(TEST).finish()
    assert (verify(untrained).rounds, verify(untrained).releases) == (0, 4)


def test_a_run_may_be_declined_and_say_nothing_of_rules() -> None:
    verify(Script().start().decline("bank").stop())
    verify(Script().start().consent(NAMES[1:]).decline("bank").stop())
    verify(Script().start().declare().consent().agree_on_keys().statistics(1).finish().register())
    # in any order, before the members' keys
    verify(Script().start().consent().check_rules().declare().agree_on_keys())


def test_who_started_runs_is_said() -> None:
    other = Script("s")
    other.start(
        launcher=key_of("bank").public.hex(),
        signature=key_of("bank").sign("manifest", other.manifest.to_bytes()).hex(),
    )
    keys = {key_of(name).public.hex() for name in (LAUNCHER, "bank")}
    assert verify(Script("r").start(), other, Script("t").start()).launchers == tuple(sorted(keys))


def test_a_round_that_validation_undoes_is_on_record() -> None:
    script = ready().train()
    before = script.model
    script.evaluate(WATCH).train()
    script.release(WATCH, 2).accept(model=before, kept=False)
    script.train().evaluate(WATCH).evaluate(TEST).finish()
    assert verify(script).rounds == 3
    assert script.model != before


def test_members_may_be_missing_from_any_sum() -> None:
    rest = NAMES[1:]
    script = fresh().release(STATISTICS, 0, members=rest).accept(signers=rest)
    script.release(STATISTICS, 1, members=rest).accept(signers=rest).agree_on_model()
    script.train(members=rest).train().evaluate(WATCH).evaluate(TEST, members=rest)
    script.evaluate(PERSONAL, members=rest)
    assert verify(script.finish()).releases == 7


def test_a_member_may_be_lost_between_its_vector_and_the_sum() -> None:
    """What it sent is on record as spent, and not in the sum."""
    script = ready().reserve(UPDATE, 1).open(members=ALL_BUT_ONE).accept().commit()
    verdict = verify(script.finish())
    assert (verdict.releases, verdict.opened) == (3, 3)
    (cost,) = verdict.privacy
    assert (cost.member, cost.releases) == ("bank", 3)


def test_what_was_reserved_may_never_be_opened() -> None:
    for dangling in (ready().reserve(UPDATE, 1), ready().reserve(UPDATE, 1, arrived=NAMES[:1])):
        verdict = verify(dangling.stop())
        assert (verdict.releases, verdict.opened) == (3, 2)


def test_as_few_signatures_as_more_than_two_thirds_are_enough() -> None:
    for names in (NAMES[:2], NAMES[:3], NAMES, [f"m{index:02}" for index in range(12)]):
        needed = 2 * len(names) // 3 + 1
        script = Script("r", names).gather()
        before = verify(script).signatures
        script.release(STATISTICS, 0, signers=names[:needed]).accept(signers=names[-needed:])
        assert verify(script).signatures == before + len(names) + 2 * needed
        script = Script("r", names).gather()
        script.release(STATISTICS, 0, signers=names[: needed - 1])
        with pytest.raises(
            NotVerifiedError, match=f"{needed - 1} members signed and .*, {needed},"
        ):
            verify(script)


def test_in_a_large_cohort_two_thirds_of_those_who_stay_are_enough() -> None:
    names = [f"m{index:02}" for index in range(33)]
    script = Script("r", names).gather()
    before = verify(script).signatures
    script.release(STATISTICS, 0, members=names[:30], signers=names[:21]).accept()
    assert verify(script).signatures == before + 30 + 21 + 33
    script = Script("r", names).gather()
    with pytest.raises(NotVerifiedError, match="20 members signed and more than two thirds, 21"):
        verify(script.release(STATISTICS, 0, members=names[:30], signers=names[:20]))


def both(script: Script, number: int, groups: Iterable[Sequence[str]]) -> Script:
    """One round's update in groups: all are reserved before the first is opened."""
    groups = list(groups)
    for group in groups:
        script.reserve(UPDATE, number, asked=group)
    for _ in groups:
        script.open()
    return script


def test_updates_may_be_summed_in_groups() -> None:
    script = grouped().begin()
    names = script.names
    for _ in range(2):
        both(script, script.committed + 1, (names[::2], names[1::2]))
        script.accept().commit().evaluate(WATCH)
    assert verify(script.finish()).releases == 2 + 4 + 2
    # A group that lost too many has no sum, and the others go on.
    script = grouped().begin().release(UPDATE, 1, asked=names[::2]).accept().commit().finish()
    assert verify(script).rounds == 1
    # It is spent all the same where it was reserved.
    script = grouped().begin().reserve(UPDATE, 1, asked=names[::2])
    script.reserve(UPDATE, 1, asked=names[1::2]).open(which=1).accept().commit().finish()
    assert (verify(script).releases, verify(script).opened) == (4, 3)


# --- what does not ---


def forged(signatures: object, member: str) -> dict[str, str]:
    assert isinstance(signatures, dict)
    good: str = signatures[member]
    return {**signatures, member: good[:-2] + f"{int(good[-2:], 16) ^ 1:02x}"}


def with_last(script: Script, change: Callable[[dict[str, Any]], dict[str, object]]) -> Script:
    """The script with its last entry's fields changed, and nothing signed anew."""
    kind, body = script.lines.pop()
    script.lines.append((kind, {**body, **change(body)}))
    return script


def twice_one_key() -> dict[str, str]:
    keys = {member: key_of(member).public.hex() for member in NAMES}
    return {**keys, "mill": keys["bank"]}


def of_manifest(**changes: object) -> Script:
    """A run under another manifest, with everything said as that says."""
    script = Script()
    script.manifest = replace(script.manifest, **changes)  # type: ignore[arg-type]
    return script.start()


def other_document(**changes: object) -> Script:
    """All that is said is what the members' manifest says, and the document is another."""
    manifest = replace(Script().manifest, **changes)  # type: ignore[arg-type]
    return Script().start(document=manifest.to_bytes().decode(), manifest=manifest.digest().hex())


def regrouped(*groups: Sequence[int]) -> Script:
    """Two groups of four in the first round; in the second one these, of which the last is new."""
    script = grouped(8, minimum=3).begin()
    names = script.names
    both(script, 1, (names[:4], names[4:]))
    script.accept().commit()
    for group in groups:
        script.reserve(UPDATE, 2, asked=[names[place] for place in group])
    return script


def heads_with(**others: dict[str, object]) -> Callable[[dict[str, Any]], dict[str, object]]:
    return lambda body: {"nodes": {**body["nodes"], **others}}


HEAD: dict[str, object] = {"leaves": 7, "root": OTHER, "signature": FORGED}
KEYS = Script().manifest.directory
DOCUMENT = Script().manifest.to_bytes().decode()
# Field of the entry -> what it says though the manifest says otherwise.
SAID: dict[str, tuple[object, ...]] = {
    "name": ("demo2", "Demo"),
    "task": ("failure",),
    "members": (
        {**KEYS, "mill": OTHER},
        {**KEYS, "spy": OTHER},
        {member: key for member, key in KEYS.items() if member != "mill"},
        {**KEYS, "bank": KEYS["mill"], "mill": KEYS["bank"]},
    ),
    "minimum": (0, 1, 3),
    "group_size": (1, 3),
    "protection": ("clear", "sealed"),
}
# Field of the manifest -> the field of the entry that says something else then.
WRITTEN: dict[str, tuple[object, str]] = {
    "run": ("s", "run"),
    "name": ("demo2", "name"),
    "task": ("failure", "task"),
    "directory": ({**KEYS, "mill": OTHER}, "members"),
    "minimum_cohort": (3, "minimum"),
    "group_size": (3, "group_size"),
    "protection": ("clear", "protection"),
}
LEDGER = dict(Script().manifest.ledger)
MANIFESTS: list[tuple[str, Callable[[], Script]]] = [
    *(
        (
            f"the manifest says something else of the run's {name}",
            lambda n=name, v=value: Script().start(**{n: v}),
        )
        for name, values in SAID.items()
        for value in values
    ),
    *(
        (
            f"the manifest says something else of the run's {said}",
            lambda f=field, v=value: other_document(**{f: v}),
        )
        for field, (value, said) in WRITTEN.items()
    ),
    ("another hash", lambda: Script().start(manifest=OTHER)),
    # of what nothing else in the entry speaks
    *(
        (
            "another hash",
            lambda f=field, v=value: Script().start(
                document=replace(Script().manifest, **{f: v}).to_bytes().decode()
            ),
        )
        for field, value in (
            ("unit", "policyholder"),
            ("contract", OTHER),
            ("node_settings", {}),
            ("coordinator_settings", {}),
        )
    ),
    *(
        ("document is no manifest", lambda t=text: Script().start(document=t))
        for text in (
            "{}",
            "manifest",
            "\ufeff" + DOCUMENT,
            DOCUMENT + " ",
            DOCUMENT + "\n",
            DOCUMENT[:-1],
            DOCUMENT.replace('"format":4', '"format":1'),
            DOCUMENT.replace('"format":4', '"format":3'),
            DOCUMENT.replace('"format":4', '"format":true'),
            DOCUMENT.replace('"minimum_cohort":2', '"minimum_cohort":0'),
            DOCUMENT.replace('"unit":"borrower"', '"unit":1'),
            DOCUMENT.replace('"unit":', '"units":'),
            DOCUMENT.replace('"ledger":', '"ledgers":'),
            DOCUMENT.replace(ORIGIN, "a name with spaces"),
            DOCUMENT.replace("masked", "none"),
            "[" * 100_000,
            '{"a":' * 40_000,
            "9" * 100_000,
        )
    ),
    # whose ledger it is to be on, and who started it
    *(
        ("names another ledger than this", lambda v=value: of_manifest(ledger=v))
        for value in (
            {**LEDGER, "key": OTHER},
            {**LEDGER, "key": key_of("second key").public.hex()},
            {**LEDGER, "origin": f"{ORIGIN}x"},
            {**LEDGER, "origin": "tacit/other/0123456789abcdef"},
        )
    ),
    ("launcher did not sign", lambda: Script().start(signature=FORGED)),
    ("launcher did not sign", lambda: Script().start(launcher=key_of("bank").public.hex())),
    ("launcher did not sign", lambda: Script().start(launcher=OTHER)),
    (
        "launcher did not sign",
        lambda: Script().start(
            signature=key_of(LAUNCHER).sign("consent", Script().manifest.to_bytes()).hex()
        ),
    ),
    (
        "launcher did not sign",
        lambda: Script().start(
            signature=key_of(LAUNCHER).sign("manifest", Script("s").manifest.to_bytes()).hex()
        ),
    ),
]
CONSENTS: list[tuple[str, Callable[[], Script]]] = [
    ("1 members consented .* asks for 2", lambda: asked(*NAMES[1:]).agree_on_keys()),
    ("0 members consented .* asks for 2", lambda: Script().start().declare().agree_on_keys()),
    (
        "1 members consented .* asks for 2",
        lambda: asked(*NAMES[1:]).decline("mill").agree_on_keys(),
    ),
    (
        "asks members that did not consent",
        lambda: asked("mill").agree_on_keys().reserve(STATISTICS, 0),
    ),
    ("data set was not declared", lambda: Script().start().consent().agree_on_keys()),
    ("data set was not declared", lambda: Script().start().consent().check_rules().agree_on_keys()),
    ("spy is no member of the run", lambda: Script().start().consent(["spy"])),
    ("spy is no member of the run", lambda: Script().start().decline("spy")),
    ("signature of bank does not hold", lambda: Script().start().consent(["bank"], domain="x")),
    (
        "signature of bank does not hold",
        lambda: Script().start().consent(["bank"], domain=ACCEPTED_DOMAIN),
    ),
    (
        "signature of bank does not hold",
        lambda: Script().start().consent(["bank"], signature=FORGED),
    ),
    ("signature of bank does not hold", lambda: Script().start().consent(["mill"], member="bank")),
    ("before the members' keys", lambda: asked().agree_on_keys().decline("bank")),
    ("before the members' keys", lambda: asked().agree_on_keys().check_rules()),
    ("another data contract", lambda: Script().start().declare(contract=OTHER)),
    ("protects another unit", lambda: Script().start().declare(unit="policyholder")),
]
GRAMMAR: list[tuple[str, Callable[[], Script]]] = [
    # the run itself
    ("run r was never started", lambda: Script().stop()),
    ("run r was never started", lambda: Script().register()),
    ("two members have one key", lambda: Script().start(members=twice_one_key())),
    *MANIFESTS,
    *CONSENTS,
    ("had ended", lambda: whole_run().stop()),
    ("had ended", lambda: whole_run().reserve(UPDATE, 3)),
    ("had ended", lambda: ready().stop().finish()),
    ("had ended", lambda: fresh().reserve(STATISTICS, 0).stop().open()),
    ("had ended", lambda: Script().start().stop().consent(["bank"])),
    # the register
    ("after its run has finished", lambda: ready().train().register()),
    ("after its run has finished", lambda: ready().train().stop().register()),
    ("another model is registered", lambda: ready().train().finish().register(model=OTHER)),
    # keys and the initial model
    ("keys were not agreed on before", lambda: asked().reserve(STATISTICS, 0)),
    ("keys were not agreed on before", lambda: asked().agree_on_model()),
    ("keys were not agreed on before", lambda: Script().start().finish()),
    ("initial model is agreed on out of place", lambda: fresh().agree_on_model()),
    (
        "initial model is agreed on out of place",
        lambda: fresh().release(STATISTICS, 0).agree_on_model(),
    ),
    # which sum is due
    ("out of place", lambda: fresh().reserve(STATISTICS, 1)),
    ("out of place", lambda: fresh().release(STATISTICS, 0).accept().reserve(STATISTICS, 2)),
    ("out of place", lambda: ready().reserve(STATISTICS, 2)),
    ("out of place", lambda: fresh().reserve(UPDATE, 1)),
    ("out of place", lambda: fresh().reserve(WATCH, 0)),
    ("out of place", lambda: fresh().release(STATISTICS, 0).accept().reserve(UPDATE, 1)),
    ("out of place", lambda: ready().reserve(UPDATE, 2)),
    ("out of place", lambda: ready().reserve(UPDATE, 0)),
    ("out of place", lambda: ready().reserve(WATCH, 1)),
    ("out of place", lambda: ready().train().train().reserve(WATCH, 1)),
    ("out of place", lambda: ready().release(UPDATE, 1).accept().reserve(WATCH, 0)),
    ("out of place", lambda: ready().release(UPDATE, 1).accept().reserve(UPDATE, 2)),
    (
        "out of place",
        lambda: (
            fresh().release(STATISTICS, 0).accept().reserve(STATISTICS, 1).agree_on_model().open()
        ),
    ),
    ("was opened before", lambda: ready().release(UPDATE, 1).accept().reserve(UPDATE, 1)),
    ("was opened before", lambda: ready().train().evaluate(TEST).reserve(TEST, 1)),
    (
        "step before it was not accepted",
        lambda: fresh().release(STATISTICS, 0).reserve(STATISTICS, 1),
    ),
    ("step before it was not accepted", lambda: ready().release(WATCH, 0).reserve(UPDATE, 1)),
    ("step before it was not accepted", lambda: ready().release(WATCH, 0).reserve(TEST, 0)),
    (
        "step before it was not accepted",
        lambda: ready().reserve(WATCH, 0).reserve(TEST, 0).open().open(),
    ),
    # nothing is opened that is not on record
    ("was not reserved before it was opened", lambda: unreserved(ready(), UPDATE, 1)),
    ("was not reserved before it was opened", lambda: unreserved(fresh(), STATISTICS, 0)),
    (
        "was not reserved before it was opened",
        lambda: ready().reserve(UPDATE, 1).open(context=OTHER),
    ),
    (
        "was not reserved before it was opened",  # for this round, and not for the next
        lambda: unreserved(ready().reserve(UPDATE, 1).open().accept().commit(), UPDATE, 2),
    ),
    (
        "was not reserved before it was opened",  # what was not opened with its step never will be
        lambda: late(ready().reserve(WATCH, 0).reserve(TEST, 0)),
    ),
    ("reserved as another step's", lambda: ready().reserve(WATCH, 0).open(step=TEST)),
    ("reserved as another step's", lambda: ready().reserve(UPDATE, 1).open(round=2)),
    # who is asked, and who is in it
    ("not in order", lambda: ready().reserve(UPDATE, 1, asked=NAMES[::-1])),
    ("not in order", lambda: ready().reserve(UPDATE, 1).open(members=NAMES[::-1])),
    (
        "asks members that did not consent",
        lambda: ready().reserve(UPDATE, 1, asked=(*NAMES, "spy")),
    ),
    (
        "members who were not asked",
        lambda: (
            grouped()
            .begin()
            .reserve(UPDATE, 1, asked=[f"member {i}" for i in range(3)])
            .open(members=[f"member {i}" for i in range(4)])
        ),
    ),
    (
        "members who were not asked",
        lambda: ready().reserve(UPDATE, 1).open(members=(*NAMES, "spy")),
    ),
    (
        "answered that was not asked",
        lambda: with_last(ready().reserve(UPDATE, 1), heads_with(spy=HEAD)),
    ),
    (
        "members whose vectors did not come",
        lambda: ready().reserve(UPDATE, 1, arrived=ALL_BUT_ONE).open(members=NAMES),
    ),
    ("does not ask all members", lambda: ready().reserve(UPDATE, 1, asked=ALL_BUT_ONE)),
    ("does not ask all members", lambda: fresh().reserve(STATISTICS, 0, asked=ALL_BUT_ONE)),
    (
        "fewer members than the run's minimum",
        lambda: Script(minimum=5).begin().reserve(UPDATE, 1, arrived=ALL_BUT_ONE).open(),
    ),
    (
        "fewer members than the run's minimum",
        lambda: Script(minimum=1).begin().reserve(UPDATE, 1, arrived=NAMES[:1]).open(),
    ),
    # one sum of a step, or one for each group
    (
        "the step has two sums",
        lambda: ready().reserve(UPDATE, 1).reserve(UPDATE, 1, schema=OTHER).open().open(),
    ),
    (
        "the step has two sums",
        lambda: ready().reserve(WATCH, 0).reserve(WATCH, 0, schema=OTHER).open().open(),
    ),
    (
        "asked for two sums of one step",
        lambda: (
            grouped()
            .begin()
            .reserve(UPDATE, 1, asked=[f"member {index}" for index in range(3)])
            .reserve(UPDATE, 1, asked=[f"member {index}" for index in range(3)], schema=OTHER)
            .open()
            .open()
        ),
    ),
    # what it is
    ("another protection than its run", lambda: ready().reserve(UPDATE, 1, protection="clear")),
    ("another protection than its run", lambda: ready().reserve(UPDATE, 1, protection="sealed")),
    # from which model
    ("another model than its members held", lambda: ready().reserve(UPDATE, 1, model=OTHER)),
    ("another model than its members held", lambda: ready().reserve(UPDATE, 1, model=NO_MODEL)),
    ("another model than its members held", lambda: fresh().reserve(STATISTICS, 0, model=OTHER)),
    # sums about the same rows
    (
        "shows a few members alone",
        lambda: ready().evaluate(WATCH).train().release(WATCH, 1, members=ALL_BUT_ONE),
    ),
    (
        "shows a few members alone",
        lambda: ready().evaluate(TEST, members=ALL_BUT_ONE).train().release(TEST, 1),
    ),
    (
        "shows a few members alone",
        lambda: ready().evaluate(TEST).release(PERSONAL, 0, members=ALL_BUT_ONE),
    ),
    (
        "shows a few members alone",
        lambda: fresh().release(STATISTICS, 0).accept().release(STATISTICS, 1, members=NAMES[1:]),
    ),
    (
        "shows a few members alone",  # as many as before, and others
        lambda: (
            ready().evaluate(TEST, members=NAMES[1:]).train().release(TEST, 1, members=ALL_BUT_ONE)
        ),
    ),
    # and the more so where the members are not fewer
    (
        "shows a few members alone",
        lambda: (
            fresh()
            .release(STATISTICS, 0, members=ALL_BUT_ONE)
            .accept()
            .release(STATISTICS, 1, members=NAMES)
        ),
    ),
    # what it costs
    *(
        (
            "receipt is not what the run's manifest says",
            lambda c=changes: ready().reserve(UPDATE, 1, receipt=other_receipt(**c)),
        )
        for changes in (
            {"unit": "window"},
            {"purpose": "no reason"},
            {"cohort": "test"},
            {"kind": "evaluation"},
            {"shares": 2},
            {"clip": 1.0},
            {"mechanism": "gaussian", "share": 1.0, "clip": 1.0},
        )
    ),
    (
        "another number of values than the model has",
        lambda: ready().reserve(UPDATE, 1, receipt=other_receipt(values=1)),
    ),
    (
        "receipt is not what the run's manifest says",  # another round's
        lambda: ready().reserve(UPDATE, 1, receipt=ready().due_receipt(UPDATE, 2).to_json()),
    ),
    *(
        (
            "receipt is not what the run's manifest says",
            lambda c=changes: noisy().reserve(
                UPDATE, 1, receipt={**noisy().due_receipt(UPDATE, 1).to_json(), **c}
            ),
        )
        for changes in (
            {"share": 1.3},
            {"shares": 3},
            {"rate": 0.001},
            {"clip": 0.5},
            {"mechanism": "none", "share": 0.0},
        )
    ),
    (
        "more validations than the run's privacy plan",
        lambda: noisy().train().evaluate(WATCH).train().evaluate(WATCH).train().reserve(WATCH, 3),
    ),
    # the node's own ledger, as it said itself
    *(
        ("signature of bank does not hold", lambda h=head: told_by_bank(**h))
        for head in (
            {"leaves": 7},
            {"root": OTHER},
            {"signature": FORGED},
            {"signer": "mill"},
            {"signer": COORDINATOR},
            {"domain": "manifest"},
            {"domain": SURVIVORS_DOMAIN},
            {"context": bytes.fromhex(OTHER)},
        )
    ),
    # acceptance
    ("accepts no sum that was opened", lambda: unopened(ready(), TEST, 0)),
    ("accepts no sum that was opened", lambda: unopened(ready().reserve(UPDATE, 1), UPDATE, 1)),
    ("accepts no sum that was opened", lambda: ready().release(UPDATE, 1).accept(step=WATCH)),
    ("accepts no sum that was opened", lambda: ready().release(UPDATE, 1).accept(round=2)),
    ("undone by a validation", lambda: ready().release(UPDATE, 1).accept(kept=False)),
    ("undone by a validation", lambda: ready().release(TEST, 0).accept(kept=False)),
    ("undone by a validation", lambda: fresh().release(STATISTICS, 0).accept(kept=False)),
    ("another model than before", lambda: ready().release(TEST, 0).accept(model=OTHER)),
    ("another model than before", lambda: ready().release(WATCH, 0).accept(model=OTHER)),
    ("another model than before", lambda: fresh().release(STATISTICS, 0).accept(model=OTHER)),
    # rounds
    ("round 2 follows on round 0", lambda: ready().release(UPDATE, 1).accept().commit(round=2)),
    ("no sum of updates that was accepted", lambda: ready().commit()),
    ("no sum of updates that was accepted", lambda: ready().reserve(UPDATE, 1).commit()),
    ("no sum of updates that was accepted", lambda: ready().release(UPDATE, 1).commit()),
    ("no sum of updates that was accepted", lambda: ready().train().evaluate(WATCH).commit()),
    (
        "starts from another model",
        lambda: ready().release(UPDATE, 1).accept().commit(model_before=OTHER),
    ),
    (
        "members accepted another model",
        lambda: ready().release(UPDATE, 1).accept().commit(model_after=OTHER),
    ),
    # the end
    ("was opened was not accepted", lambda: ready().release(TEST, 0).finish()),
    ("was summed and not committed", lambda: ready().release(UPDATE, 1).accept().finish()),
    ("ends with another round", lambda: ready().train().finish(rounds=2)),
    ("ends with another model", lambda: ready().train().finish(model=OTHER)),
    # groups
    (
        "smaller than the run's groups",
        lambda: grouped().begin().reserve(UPDATE, 1, asked=["member 1"]),
    ),
    ("a group is not what it was before", lambda: regrouped(range(3))),
    ("a group is not what it was before", lambda: regrouped(range(5))),
    ("a group is not what it was before", lambda: regrouped(range(2, 6))),
    ("a group is not what it was before", lambda: regrouped((0, 1, 2, 7))),
    ("a group is not what it was before", lambda: regrouped(range(8))),
    ("a group is not what it was before", lambda: regrouped(range(4), range(5, 8))),
    (
        "a group is not what it was before",  # within one round as well
        lambda: (
            grouped(7)
            .begin()
            .release(UPDATE, 1, asked=[f"member {index}" for index in range(4)])
            .reserve(UPDATE, 1, asked=[f"member {index}" for index in range(3, 7)])
        ),
    ),
    (
        "does not ask all members",
        lambda: (
            grouped().begin().reserve(WATCH, 0, asked=[f"member {index}" for index in range(3)])
        ),
    ),
    (
        "fewer members than the run's minimum",
        lambda: (
            grouped(minimum=3)
            .begin()
            .reserve(
                UPDATE,
                1,
                asked=[f"member {index}" for index in range(4)],
                arrived=["member 0", "member 1"],
            )
            .open()
        ),
    ),
]


def noisy() -> Script:
    return Script(privacy=NOISE).begin()


def unreserved(script: Script, step: str, number: int) -> Script:
    """The script with a sum opened that was never reserved."""
    pending = script.copy().reserve(step, number).pending[-1]
    return script.open(of=pending)


def unopened(script: Script, step: str, number: int) -> Script:
    """The script with an acceptance of what was reserved only."""
    script.step = (step, number)
    return script.accept()


def late(script: Script) -> Script:
    """Of two that were reserved, one is opened and accepted, and then the other is opened."""
    other = script.pending[1]
    return script.open().accept().open(of=other)


def told_by_bank(
    signer: str = "bank",
    domain: str = HEAD_DOMAIN,
    context: bytes | None = None,
    **changes: object,
) -> Script:
    """A reservation with what the bank says of its ledger signed in another way, or changed."""
    script = ready().reserve(UPDATE, 1)
    pending = script.pending[-1]
    head = LedgerHead(9, digest("a root"))
    message = head_message(pending.context if context is None else context, head)
    signature = key_of(signer).sign(domain, message).hex()
    told = {"leaves": head.leaves, "root": head.root, "signature": signature}
    return with_last(script, heads_with(bank={**told, **changes}))


def test_what_the_bank_really_signed_holds() -> None:
    """The twin of the refusals that `told_by_bank` makes."""
    assert verify(told_by_bank()).releases == 3


class Stuck(Heads):
    """Members of which the bank's ledger is put back before each update."""

    def reserve(
        self, member: str, run: str, step: str, number: int, receipt: Receipt
    ) -> LedgerHead:
        head = super().reserve(member, run, step, number, receipt)
        return LedgerHead(5, head.root) if member == "bank" and step == UPDATE else head


def test_a_member_whose_ledger_was_set_back_is_named() -> None:
    """It signed two releases at one size, and each of them is an entry there."""
    assert verify(Script(nodes=Stuck()).begin().train()).set_back == ()
    found = verify(Script(nodes=Stuck()).begin().train().train())
    assert found.set_back == ("bank",)
    apart = verify(*(Script(run, nodes=Stuck()).begin().train() for run in "pq"))
    assert apart.set_back == ("bank",)
    # though the first of them was never opened
    dangling = Script("p", nodes=Stuck()).begin().reserve(UPDATE, 1).stop()
    assert verify(dangling, Script("q", nodes=Stuck()).begin().train()).set_back == ("bank",)


# A context binds a sum to everything before it, so each of these is another sum's.
CONTEXTS: dict[str, object] = {
    "run": bytes.fromhex(OTHER),
    "step": TEST,
    "round": 2,
    "schema": bytes.fromhex(OTHER),
    "model": bytes.fromhex(OTHER),
    "history": bytes.fromhex(OTHER),
    "roster": bytes.fromhex(OTHER),
    "cohort": bytes.fromhex(OTHER),
    "keys": bytes.fromhex(OTHER),
}
GRAMMAR += [
    (
        "context is not that of its place",
        lambda of=of: ready().reserve(UPDATE, 1, of=dict([of])),  # type: ignore[misc]
    )
    for of in CONTEXTS.items()
]

SPY = (*ALL_BUT_ONE, "spy")
SIGNATURES: list[tuple[str, Callable[[], Script]]] = [
    ("3 members signed .* 4, are needed", lambda: ready().release(UPDATE, 1, signers=NAMES[:3])),
    (
        "3 members signed .* 4, are needed",
        lambda: ready().release(UPDATE, 1).accept(signers=NAMES[:3]),
    ),
    ("spy signed, and is not one", lambda: ready().release(UPDATE, 1, signers=SPY)),
    ("spy signed, and is not one", lambda: ready().release(UPDATE, 1).accept(signers=SPY)),
    (
        "mill signed, and is not one",  # its vector is not in the sum
        lambda: ready().release(UPDATE, 1, members=ALL_BUT_ONE, signers=NAMES),
    ),
    (
        "signature of mill does not hold",
        lambda: with_last(
            ready().release(UPDATE, 1),
            lambda body: {"signatures": forged(body["signatures"], "mill")},
        ),
    ),
    (
        "signature of bank does not hold",
        lambda: with_last(
            ready().release(UPDATE, 1).accept(),
            lambda body: {"signatures": forged(body["signatures"], "bank")},
        ),
    ),
    (  # signed as one thing, shown as another
        "signature of bank does not hold",
        lambda: ready().release(UPDATE, 1, domain=ACCEPTED_DOMAIN),
    ),
    (
        "signature of bank does not hold",
        lambda: ready().release(UPDATE, 1).accept(domain=SURVIVORS_DOMAIN),
    ),
    (  # fewer are named than signed
        "signature of .* does not hold",
        lambda: with_last(
            ready().release(UPDATE, 1),
            lambda body: {
                "members": list(ALL_BUT_ONE),
                "signatures": {m: s for m, s in _items(body["signatures"]) if m != "mill"},
            },
        ),
    ),
    (  # another history than the sums of this ledger make
        "signature of bank does not hold",
        lambda: ready().release(UPDATE, 1).accept(history=bytes(32)),
    ),
    (  # the sum that was shown to members was another
        "signature of bank does not hold",
        lambda: _other_aggregate(ready().release(UPDATE, 1)).accept(),
    ),
    (  # members came to another model than is written
        "signature of bank does not hold",
        lambda: with_last(ready().release(UPDATE, 1).accept(), lambda _: {"model": OTHER}),
    ),
    (  # and it was undone
        "signature of bank does not hold",
        lambda: with_last(ready().release(WATCH, 0).accept(), lambda _: {"kept": False}),
    ),
]


def _items(signatures: object) -> list[tuple[str, str]]:
    assert isinstance(signatures, dict)
    return list(signatures.items())


def _other_aggregate(script: Script) -> Script:
    return with_last(script, lambda _: {"aggregate": OTHER})


def _names(case: object) -> str:
    return str(case) if isinstance(case, str) else ""


@pytest.mark.parametrize(("sentence", "make"), [*GRAMMAR, *SIGNATURES], ids=_names)
def test_a_run_against_the_grammar_is_refused_at_its_entry(
    sentence: str, make: Callable[[], Script]
) -> None:
    script = make()
    at = len(script.lines)  # the ledger's own beginning comes before
    refused = rf"^step 6 \(runs\), ledger of coordinator, entry {at}: .*{sentence}"
    with pytest.raises(NotVerifiedError, match=refused):
        verify(script)
    script.lines.pop()
    verify(script)  # it is the last entry that breaks it


# An act that has a name stands in a ledger once, wherever that is.
TWICE: list[Callable[[], Script]] = [
    lambda: whole_run().start(),
    lambda: ready().stop().start(),
    lambda: Script().start().stop().stop(),
    lambda: fresh().agree_on_keys(),
    lambda: ready().agree_on_keys(),
    lambda: fresh().declare(),
    lambda: fresh().check_rules(),
    lambda: asked().consent(["bank"]),
    lambda: Script().start().decline("bank").decline("bank"),
    lambda: ready().agree_on_model(),
    lambda: twice_opened(ready().reserve(UPDATE, 1)),
    lambda: twice_reserved(ready().reserve(UPDATE, 1)),
    lambda: twice_reserved(ready().train()),
    lambda: unopened(ready().train(), UPDATE, 1),
    lambda: ready().train().commit(round=1),
    lambda: whole_run().register(),
    lambda: ready().finish().finish(),
]


def twice_opened(script: Script) -> Script:
    pending = script.pending[-1]
    return script.open().open(of=pending)


def twice_reserved(script: Script) -> Script:
    """The last reservation again, in the same words."""
    script.lines.append(next(line for line in script.lines[::-1] if line[0] == "sum.reserved"))
    return script


@pytest.mark.parametrize("make", TWICE)
def test_an_act_that_stands_twice_is_refused_at_its_entry(make: Callable[[], Script]) -> None:
    script = make()
    at = len(script.lines)
    with pytest.raises(NotVerifiedError, match=rf"^step 3 \(order\).*: entry {at} says again"):
        verify(script)
    script.lines.pop()
    verify(script)


def test_a_sum_may_be_reserved_again_after_a_step_was_undone() -> None:
    """Its context is another then: what was accepted before is in it."""
    script = ready().train()
    model = script.model
    script.release(WATCH, 1).accept(model=model, kept=False)
    assert verify(script.train().evaluate(WATCH)).releases == 6


def test_evaluations_may_start_from_models_of_their_own() -> None:
    """A personal model is nobody else's; its hash is what the member says it is."""
    assert verify(ready().evaluate(PERSONAL, members=NAMES)).releases == 3
    script = ready().reserve(PERSONAL, 0, model=OTHER).open().accept()
    assert verify(script).releases == 3


@pytest.mark.parametrize("minimum", [2, 3, 6])
@pytest.mark.parametrize("left_out", [1, 2, 3])
def test_sums_about_the_same_rows_are_over_the_same_members(minimum: int, left_out: int) -> None:
    """However many differ: two differences of many may themselves differ by one."""
    names = [f"m{index:02}" for index in range(12)]
    rest = names[left_out:]

    def script() -> Script:
        return Script("r", names, minimum=minimum)

    first = script().gather().release(STATISTICS, 0, members=rest).accept()
    watched = script().begin().evaluate(WATCH).train()
    tested = script().begin().evaluate(TEST, members=rest)
    verify(first.copy().release(STATISTICS, 1, members=rest))
    verify(watched.copy().release(WATCH, 1))
    verify(tested.copy().evaluate(PERSONAL, members=rest).train().release(TEST, 1, members=rest))
    for refused in (
        first.release(STATISTICS, 1),
        watched.release(WATCH, 1, members=rest),
        tested.copy().release(PERSONAL, 0),
        tested.release(PERSONAL, 0, members=names[:-left_out]),
    ):
        with pytest.raises(NotVerifiedError, match="few members alone"):
            verify(refused)


def test_sums_about_other_rows_may_be_over_others() -> None:
    script = fresh().release(STATISTICS, 0, members=NAMES[1:]).accept().agree_on_model()
    script.evaluate(WATCH, members=ALL_BUT_ONE).evaluate(TEST)
    assert verify(script.train(members=NAMES[1:])).releases == 4


def test_updates_may_be_over_others_each_time() -> None:
    script = ready().train().train(members=ALL_BUT_ONE)
    assert verify(script).rounds == 2
    # Also after a round that validation undid: who trains draws other batches in another round.
    script = ready()
    model = script.model
    script.train().release(WATCH, 1).accept(model=model, kept=False)
    assert verify(script.train(members=NAMES[1:])).rounds == 2


def test_groups_that_change_while_the_model_stays_are_refused() -> None:
    script = grouped(8, minimum=3).begin()
    names, model = script.names, script.model
    both(script, 1, (names[:4], names[4:]))
    script.accept().commit().release(WATCH, 1).accept(model=model, kept=False)
    again = script.copy()
    verify(again.reserve(UPDATE, 2, asked=names[:4], arrived=names[:3]).open())
    script.reserve(UPDATE, 2, asked=names[:3])
    with pytest.raises(NotVerifiedError, match="a group is not what it was before"):
        verify(script)


def test_a_group_may_be_left_out_of_a_round_and_come_back() -> None:
    script = grouped(9, minimum=3).begin()
    names = script.names
    for groups in ((names[:3], names[3:6]), (names[6:],), (names[3:6], names[6:], names[:3])):
        both(script, script.committed + 1, groups)
        script.accept().commit()
    assert verify(script.finish()).releases == 2 + 6


def test_a_name_may_not_be_given_to_two_runs_but_a_member_may_take_part_in_two() -> None:
    assert verify(small_run("p"), small_run("q")).runs == 2
    with pytest.raises(NotVerifiedError, match="says again"):
        verify(small_run("p"), small_run("p"))


def test_entries_of_one_run_do_not_count_for_another() -> None:
    second = Script("s").gather()
    reserved, opened = fresh().release(STATISTICS, 0).lines[-2:]
    for line, sentence in (
        (reserved, "context is not that of its place"),
        (opened, "was not reserved before"),
    ):
        moved: Line = (line[0], {**line[1], "run": "s"})
        with pytest.raises(NotVerifiedError, match=sentence):
            verify_lines([*fresh().lines, *second.lines, moved])


class Nameless(Script):
    """A run whose receipts say nothing of its name."""

    def due_receipt(self, step: str, number: int, values: int | None = None) -> Receipt:
        return Script().due_receipt(step, number, values)


def test_a_manifest_of_which_no_receipt_can_be_made_is_refused() -> None:
    """Each of its numbers and names is well-formed by itself."""
    script = Nameless("r" * 500).gather()
    verify(script)
    with pytest.raises(NotVerifiedError, match=f"step 6 .*entry {len(script.lines) + 1}: "):
        verify(script.reserve(STATISTICS, 0))


def test_the_grammar_holds_by_itself_what_earlier_steps_hold_as_well() -> None:
    entries = ledger_of(small_run())
    reading = Reading()
    for entry in entries:
        follow(reading, entry)
    assert reading.runs["r"].ended == "finished"
    role = replace(entries[0], body={**entries[0].body, "role": "node"})
    with pytest.raises(NotVerifiedError, match="a node's own ledger"):
        follow(Reading(), role)
    for begins in (replace(entries[1], index=0), replace(entries[0], index=1)):
        with pytest.raises(NotVerifiedError, match=r"begins with ledger\.begun"):
            follow(Reading(), begins)
    with pytest.raises(NotVerifiedError, match="run r was started before"):
        follow(reading, replace(entries[1], index=len(entries)))


# --- writers and keys ---


def test_another_writer_may_take_over_at_any_entry() -> None:
    lines = [begun(), *small_run().lines]
    for place in range(1, len(lines)):
        anew = [*lines[:place], taken_over("second"), *lines[place:]]
        assert verify_bundle(bundle_of(chained(anew))).rounds == 1
    # and take over again
    twice = [*lines[:4], taken_over("second"), taken_over("first"), *lines[4:]]
    verify_bundle(bundle_of(chained(twice)))


def test_nobody_takes_over_silently_and_nobody_says_so_who_does_not() -> None:
    entries = chained([begun(), taken_over("second"), *small_run().lines])
    verify_bundle(bundle_of(entries))
    silent = rebuilt([*entries[:5], *(replace(one, epoch=one.epoch + 1) for one in entries[5:])])
    with pytest.raises(NotVerifiedError, match=r"step 6 .*entry 5: another writer says"):
        verify_bundle(bundle_of(silent))
    early = rebuilt([replace(entries[0], epoch=2), *entries[2:]])
    with pytest.raises(NotVerifiedError, match=r"step 6 .*entry 0: another writer says"):
        verify_bundle(bundle_of(early))
    unsaid = rebuilt(replace(one, epoch=1) for one in entries)
    with pytest.raises(NotVerifiedError, match=r"step 6 .*entry 1: another writer says"):
        verify_bundle(bundle_of(unsaid))


def test_a_writer_whose_turn_was_over_does_not_go_on() -> None:
    entries = chained([begun(), *small_run().lines, taken_over("second")])
    late = replace(entries[-1], index=len(entries), epoch=1, kind="run.stopped")
    late = replace(late, body={"run": "r", "reason": "by hand"})
    with pytest.raises(NotVerifiedError, match=r"step 3 .* whose turn was over"):
        verify_bundle(bundle_of([*entries, late]))


ROTATED = [begun(), *small_run("p").lines, rotation(COORDINATOR, "second key")]


def test_after_the_key_changed_the_new_one_signs_and_runs_name_it() -> None:
    again = Script("q", NAMES[:3], ledger_key=key_of("second key")).gather().statistics(1)
    entries = chained([*ROTATED, *again.train().finish().lines])
    change = len(ROTATED)  # the first state with the change in it is the new key's
    states = {change - 1: NAMES[:3], change: (), len(entries): NAMES[:3]}
    assert verify_bundle(bundle_of(entries, states=states)).runs == 2
    third = chained([*ROTATED, rotation("second key", "third key")])
    verify_bundle(bundle_of(third, states=dict.fromkeys(range(change - 1, len(third) + 1), NAMES)))
    old = Script("q", NAMES[:3])
    with pytest.raises(NotVerifiedError, match=r"step 6 .* names another ledger than this"):
        verify_bundle(bundle_of(chained([*ROTATED, *old.start().lines])))


def with_notes(entries: Sequence[Entry], signers: Mapping[int, str]) -> Bundle:
    """A bundle whose states are signed by the keys of these names."""
    bundle = bundle_of(entries, states=dict.fromkeys(signers, NAMES[:3]))
    notes = tuple(
        signed_state(state_of(entries, size), key_of(name), NAMES[:3])
        for size, name in signers.items()
    )
    return replace(bundle, logs=(replace(bundle.logs[0], checkpoints=notes),))


def state_of(entries: Sequence[Entry], size: int) -> Checkpoint:
    return Checkpoint(ORIGIN, size, root_of(leaf_hash(one.leaf()) for one in entries[:size]))


def test_the_old_key_does_not_sign_later_states_nor_the_new_one_earlier_ones() -> None:
    entries = chained(ROTATED)
    change, size = len(ROTATED) - 1, len(ROTATED)
    verify_bundle(with_notes(entries, {change: COORDINATOR, size: "second key"}))
    for signers in (
        {change: COORDINATOR, size: COORDINATOR},
        {change: "second key", size: "second key"},
        {change: COORDINATOR, size: "third key"},
    ):
        with pytest.raises(NotVerifiedError, match=r"step 5 .*has not signed this checkpoint"):
            verify_bundle(with_notes(entries, signers))


def test_a_new_key_needs_the_signature_of_the_one_before() -> None:
    key = key_of("second key").public
    by_itself = key_of("second key").sign(ROTATION_DOMAIN, key)
    for_another = key_of(COORDINATOR).sign(ROTATION_DOMAIN, key_of("third key").public)
    as_another = key_of(COORDINATOR).sign("manifest", key)
    for signature in (by_itself, for_another, as_another, bytes(64)):
        body: dict[str, object] = {"key": key.hex(), "signature": signature.hex()}
        with pytest.raises(NotVerifiedError, match=r"step 5 .*did not sign the new one"):
            verify_bundle(bundle_of(chained([begun(), ("key.rotated", body)])))
    # the third is signed by the second, not by the first
    skipped = [begun(), rotation(COORDINATOR, "second key"), rotation(COORDINATOR, "third key")]
    with pytest.raises(NotVerifiedError, match=r"step 5 .*did not sign the new one"):
        verify_bundle(bundle_of(chained(skipped)))


# --- the steps ---

ENTRIES = ledger_of(small_run())
SIZE = len(ENTRIES)
BUNDLE = bundle_of(ENTRIES, states={5: (), SIZE - 4: (), SIZE: NAMES[:3]})
LOG = BUNDLE.logs[0]


def with_log(**changes: object) -> Bundle:
    return replace(BUNDLE, logs=(replace(LOG, **changes),))  # type: ignore[arg-type]


def with_leaf(place: int, leaf: bytes) -> Bundle:
    leaves = list(LOG.leaves)
    leaves[place] = leaf
    return with_log(leaves=leaves)


def replaced(place: int, old: bytes, new: bytes) -> Bundle:
    leaf = LOG.leaves[place]
    assert leaf.count(old) == 1
    return with_leaf(place, leaf.replace(old, new))


def signed(leaves: Sequence[bytes]) -> Bundle:
    """These leaves as whoever holds the key signs them."""
    log = log_of(leaves, keys=[(0, key_of(COORDINATOR))], states={len(leaves): NAMES[:3]})
    return replace(BUNDLE, logs=(log,))


def swapped_proof() -> Bundle:
    first, second = LOG.proofs
    return with_log(proofs=(replace(first, hashes=second.hashes), second))


A_HASH = bytes.fromhex(OTHER)
NODE_LOG = replace(LOG, role="node", origin="tacit/x/0", owner="x")
WRONG: list[tuple[str, Callable[[], Bundle]]] = [
    # 1
    (r"step 1 \(form\): there is no ledger", lambda: replace(BUNDLE, logs=())),
    (r"step 1 \(form\): one coordinator's", lambda: replace(BUNDLE, logs=(NODE_LOG, LOG))),
    (r"step 1 \(form\): one coordinator's", lambda: replace(BUNDLE, logs=(LOG, LOG))),
    (r"step 1 \(form\): one coordinator's", lambda: with_log(role="regulator")),
    (
        r"step 1 \(form\): a ledger is in it twice",
        lambda: replace(BUNDLE, logs=(LOG, NODE_LOG, NODE_LOG)),
    ),
    (
        r"step 1 \(form\): a ledger is in it twice",
        lambda: replace(BUNDLE, logs=(LOG, replace(NODE_LOG, origin=LOG.origin))),
    ),
    # 2
    (r"step 2 \(entries\), .*: entry 3: .*not canonical", lambda: with_leaf(3, b"")),
    (r"step 2 .*entry 0: .*not canonical", lambda: replaced(0, b'"body":', b'"body": ')),
    (r"step 2 .*entry 1: the kind", lambda: replaced(1, b"run.started", b"run.startet")),
    (r"step 2 .*entry 2: .*has the fields", lambda: replaced(2, b"retention_days", b"retention")),
    (
        r"step 2 .*entry 2: .*wrong value in",
        lambda: replaced(2, b'"retention_days":180', b'"retention_days":-18'),
    ),
    (r"step 2 .*entry 2: .*format", lambda: replaced(2, b'"format":4', b'"format":3')),
    (r"step 2 .*entry 4: .*too long", lambda: with_leaf(4, b" " * (1 << 20) + b"  ")),
    # 3
    (r"step 3 \(order\), .*: entry 0 is missing", lambda: with_log(leaves=LOG.leaves[1:])),
    (r"step 3 .*: entry 6 is missing", lambda: with_log(leaves=_without(6))),
    (r"step 3 .*: entry 6 is missing", lambda: with_log(leaves=_swapped(6))),
    (r"step 3 .*: entry 7 is earlier", lambda: replaced(7, b'"time_ms":7', b'"time_ms":5')),
    (
        rf"step 3 .*: entry {SIZE} is missing",
        lambda: with_log(leaves=[*LOG.leaves, LOG.leaves[0]]),
    ),
    # 4
    (r"step 4 \(tree\), .*another root", lambda: replaced(2, b'"L1":2', b'"L1":3')),
    (rf"step 4 .*entry {SIZE - 1}: .*cut off", lambda: with_log(leaves=LOG.leaves[:-1])),
    (r"step 4 .*not in order", lambda: with_log(checkpoints=LOG.checkpoints[::-1])),
    (
        r"step 4 .*not in order",
        lambda: with_log(checkpoints=(*LOG.checkpoints, LOG.checkpoints[-1])),
    ),
    (r"step 4 .*not one proof of growth", lambda: with_log(proofs=LOG.proofs[:1])),
    (r"step 4 .*not one proof of growth", lambda: with_log(proofs=())),
    (r"step 4 .*not one proof of growth", lambda: with_log(proofs=LOG.proofs[::-1])),
    (
        r"step 4 .*not one proof of growth",
        lambda: with_log(proofs=(*LOG.proofs, Growth(SIZE, SIZE, ()))),
    ),
    (r"step 4 .*nothing shows", swapped_proof),
    (
        r"step 4 .*nothing shows",
        lambda: with_log(
            proofs=(
                replace(LOG.proofs[0], hashes=(A_HASH, *LOG.proofs[0].hashes[1:])),
                LOG.proofs[1],
            )
        ),
    ),
    (
        r"step 4 .*nothing shows",
        lambda: with_log(
            proofs=(replace(LOG.proofs[0], hashes=(*LOG.proofs[0].hashes, A_HASH)), LOG.proofs[1])
        ),
    ),
    (r"step 4 .*no signed note", lambda: with_log(checkpoints=(b"",))),
    (r"step 4 .*no checkpoint", lambda: with_log(checkpoints=(_not_a_checkpoint(),))),
    # 5
    (
        r"step 5 \(signed states\), .*no state of it is signed",
        lambda: with_log(checkpoints=(), proofs=()),
    ),
    (
        rf"step 5 .*entry {SIZE - 4}: no signed state has it",
        lambda: with_log(checkpoints=LOG.checkpoints[:2], proofs=LOG.proofs[:1]),
    ),
    (r"step 5 .*key history", lambda: with_log(keys=())),
    (r"step 5 .*key history", lambda: with_log(keys=(Key(0, OTHER),))),
    (r"step 5 .*key history", lambda: with_log(keys=(Key(1, LOG.keys[0].public),))),
    (r"step 5 .*key history", lambda: with_log(keys=(*LOG.keys, Key(5, OTHER)))),
    (r"step 5 .*begins with another origin", lambda: with_log(origin="tacit/x/0")),
    (r"step 5 .*begins with another owner", lambda: with_log(owner="x")),
    (r"step 5 .*begins with another role", lambda: with_log(role="node")),
    (
        r"step 5 .*entry 0: a ledger begins with ledger.begun",
        lambda: signed([one.leaf() for one in chained(small_run().lines)]),
    ),
    (r"step 5 .*entry 0: a ledger begins", lambda: signed([])),
    (r"step 5 .*has not signed this checkpoint", lambda: with_note("bank")),
    (r"step 5 .*of another ledger", lambda: with_note(COORDINATOR, text_of="tacit/x/0")),
    (r"step 5 .*has not signed this checkpoint", lambda: with_note(COORDINATOR, by="tacit/x/0")),
    (
        r"step 5 .*no key can have the name",
        lambda: replace(
            BUNDLE, logs=(coordinator_named("two words", [begun(origin="two words")]),)
        ),
    ),
    (
        r"step 5 .*begins with another role",
        lambda: replace(BUNDLE, logs=(coordinator_named(ORIGIN, [begun(role="node")]),)),
    ),
    # 6
    (
        r"step 6 \(runs\), .*entry 1: rows.read is for a node's own ledger",
        lambda: bundle_of(
            chained([begun(), ("rows.read", {"run": "r", "contract": OTHER, "rows": OTHER})])
        ),
    ),
]


def _without(place: int) -> list[bytes]:
    return [*LOG.leaves[:place], *LOG.leaves[place + 1 :]]


def _swapped(place: int) -> list[bytes]:
    leaves = list(LOG.leaves)
    leaves[place], leaves[place + 1] = leaves[place + 1], leaves[place]
    return leaves


def _not_a_checkpoint() -> bytes:
    return LOG.checkpoints[-1].replace(b"\n\n", b"\nan extension\n\n", 1)


def coordinator_named(origin: str, lines: Sequence[Line]) -> Log:
    """A ledger that is signed under a usual name, whatever it says of its own."""
    return replace(coordinator_log(chained(lines)), origin=origin)


def with_note(signer: str, *, text_of: str = ORIGIN, by: str = ORIGIN) -> Bundle:
    """The whole ledger with one state: of which ledger it says it is, and in whose name signed."""
    text = replace(state_of(ENTRIES, SIZE), origin=text_of).text()
    key = log_key(by, key_of(signer).public)
    line = NoteSignature(key.name, key.key_id, key_of(signer).sign_note(text.encode()))
    return with_log(checkpoints=(Note(text, (line,)).to_bytes(),), proofs=())


@pytest.mark.parametrize(("sentence", "make"), WRONG, ids=_names)
def test_the_step_that_fails_is_named(sentence: str, make: Callable[[], Bundle]) -> None:
    verify_bundle(BUNDLE)
    bundle = make()
    with pytest.raises(NotVerifiedError, match=f"^{sentence}"):
        verify_bundle(bundle)
    # a file that says the same is refused for the same
    with pytest.raises(NotVerifiedError, match=r"^step \d"):
        verify_data(data_of(bundle))


def test_a_role_that_is_none_is_caught_whatever_it_says() -> None:
    log = replace(LOG, role="node")
    with pytest.raises(NotVerifiedError, match=r"step 5 .*another role"):
        verify_bundle(replace(BUNDLE, logs=(log,)))


def test_a_bundle_and_its_file_have_the_same_verdict() -> None:
    nodes = Nodes()
    bundle = bundle_of(ledger_of(whole_run(nodes=nodes)), nodes)
    assert verify_data(data_of(bundle)) == verify_bundle(bundle)


def test_live_ledgers_may_be_ahead_of_their_signed_states() -> None:
    unsigned = bundle_of(ledger_of(Script().start()), states={})
    late = bundle_of(ENTRIES, states={SIZE - 1: NAMES[:3]})
    for bundle in (unsigned, late):
        verify_bundle(bundle, live=True)
        with pytest.raises(NotVerifiedError, match=r"step 5 .*no (signed )?state"):
            verify_bundle(bundle)


def test_what_is_live_is_held_to_all_else() -> None:
    for sentence, make in WRONG:
        if re.search("no state of it is signed|no signed state has it", sentence):
            continue
        with pytest.raises(NotVerifiedError, match=f"^{sentence}"):
            verify_bundle(make(), live=True)


def test_a_regulator_needs_the_standard_library_and_cryptography_alone() -> None:
    script = (
        "import sys, privacy.verify\n"
        "own = {'privacy', 'cryptography', '_openssl', '_cffi_backend', 'cffi', '__main__'}\n"
        "seen = {name.split('.')[0] for name in sys.modules}\n"
        "foreign = seen - set(sys.stdlib_module_names) - own - before\n"
        "sys.exit(', '.join(sorted(foreign)) or 0)"
    )
    # What an interpreter has loaded by itself, hooks of an environment among it, is not ours.
    before = "import sys\nbefore = {name.split('.')[0] for name in sys.modules}\n"
    done = subprocess.run(
        [sys.executable, "-c", before + script], cwd=ROOT, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
