import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.ledgers import (
    NAMES,
    NO_MODEL,
    PERSONAL,
    TEST,
    WATCH,
    Line,
    Script,
    chained,
    data_of,
    digest,
    key_of,
    ledger_of,
    small_run,
    whole_run,
)

from privacy.errors import NotVerifiedError
from privacy.ledger import EMPTY_ROOT, LedgerHead
from privacy.ledger.entry import STATISTICS, UPDATE
from privacy.sum_context import ACCEPTED_DOMAIN, SURVIVORS_DOMAIN
from privacy.verify import Verdict, verify_ledger

ROOT = Path(__file__).parents[3]
ALL_BUT_ONE = NAMES[:4]
OTHER = digest("other")


def verify(script: Script) -> Verdict:
    return verify_ledger(ledger_of(script))


def other_receipt(**changes: Any) -> dict[str, object]:  # noqa: ANN401 - any field of a receipt
    """The receipt that is due for the update of round 1, but for some fields."""
    return {**ready().due_receipt(UPDATE, 1).to_json(), **changes}


def fresh() -> Script:
    return Script().start().agree_on_keys()


def ready() -> Script:
    return Script().begin()


def grouped(size: int = 6, minimum: int = 2) -> Script:
    names = [f"member {index}" for index in range(size)]
    return Script("r", names, group_size=3, minimum=minimum)


# --- what holds ---


def test_the_empty_ledger_holds() -> None:
    verdict = verify_ledger(b"", heads=[LedgerHead(0, EMPTY_ROOT)])
    assert verdict == Verdict(0, EMPTY_ROOT, 0, 0, 0, 0, (), (), ())


def test_a_whole_run_is_counted() -> None:
    first, second = whole_run(), Script("s").start()
    entries = chained([*first.lines, *second.lines])
    verdict = verify_ledger(data_of(entries))
    assert replace(verdict, privacy=()) == Verdict(
        leaves=31,
        root=entries[-1].digest,
        runs=2,
        rounds=2,
        receipts=8,
        signatures=2 * 8 * 5,
        unfinished=("s",),
        without_receipt=(),
        privacy=(),
    )
    # without noise there is no bound
    assert {(one.cohort, one.epsilon) for one in verdict.privacy} == {
        ("training", None),
        ("test", None),
    }


def test_runs_may_follow_each_other_or_be_interleaved() -> None:
    first, second = whole_run("p").lines, whole_run("q").lines
    third = Script("s").begin().train().evaluate(WATCH).stop().lines
    mixed = [line for lines in zip(first, second, strict=True) for line in lines]
    for lines in ([*first, *second, *third], [*mixed[:7], *third, *mixed[7:]]):
        verdict = verify_ledger(data_of(chained(lines)))
        assert (verdict.runs, verdict.rounds, verdict.receipts) == (3, 5, 20)
        assert verdict.unfinished == verdict.without_receipt == ()


LENGTH = len(whole_run().lines)


@pytest.mark.parametrize("length", range(1, LENGTH))
def test_a_run_may_be_stopped_or_killed_at_any_entry(length: int) -> None:
    script = whole_run()
    del script.lines[length:]
    waiting = ("r",) if script.lines[-1][0] == "sum.opened" else ()
    killed = verify(script)
    assert (killed.unfinished, killed.without_receipt) == (("r",), waiting)
    ended = verify(script.stop())
    assert (ended.unfinished, ended.without_receipt) == ((), waiting)
    assert ended.receipts == sum(kind == "receipt" for kind, _ in script.lines)


def test_a_run_without_validations_or_with_many_stages_holds() -> None:
    plain = Script().start().agree_on_keys().statistics(5).train().train().finish()
    assert verify(plain).rounds == 2
    untrained = ready().evaluate(WATCH).evaluate(TEST).finish()
    assert (verify(untrained).rounds, verify(untrained).receipts) == (0, 4)


def test_a_round_that_validation_undoes_is_on_record() -> None:
    script = ready().train()
    before = script.model
    script.evaluate(WATCH).train()
    script.release(WATCH, 2).accept(model=before, kept=False)
    script.train().evaluate(WATCH).evaluate(TEST).finish()
    assert verify(script).rounds == 3
    assert script.model != before


@pytest.mark.parametrize("gone", [1])
def test_members_may_be_missing_from_any_sum(gone: int) -> None:
    rest = NAMES[gone:]
    script = fresh().release(STATISTICS, 0, members=rest).accept(signers=rest)
    script.release(STATISTICS, 1, members=rest).accept(signers=rest).agree_on_model()
    script.train(members=rest).train().evaluate(WATCH).evaluate(TEST, members=rest)
    script.evaluate(PERSONAL, members=rest)
    assert verify(script.finish()).receipts == 7


def test_as_few_signatures_as_more_than_two_thirds_are_enough() -> None:
    for names in (NAMES[:2], NAMES[:3], NAMES, [f"m{index:02}" for index in range(12)]):
        needed = 2 * len(names) // 3 + 1
        script = Script("r", names).start().agree_on_keys()
        script.release(STATISTICS, 0, signers=names[:needed]).accept(signers=names[-needed:])
        assert verify(script).signatures == 2 * needed
        script = Script("r", names).start().agree_on_keys()
        script.open(STATISTICS, 0, signers=names[: needed - 1])
        with pytest.raises(
            NotVerifiedError, match=f"{needed - 1} members signed and .*, {needed},"
        ):
            verify(script)


def test_in_a_large_cohort_two_thirds_of_those_who_stay_are_enough() -> None:
    names = [f"m{index:02}" for index in range(33)]
    script = Script("r", names).start().agree_on_keys()
    script.release(STATISTICS, 0, members=names[:30], signers=names[:21]).accept()
    assert verify(script).signatures == 21 + 33
    script = Script("r", names).start().agree_on_keys()
    with pytest.raises(NotVerifiedError, match="20 members signed and more than two thirds, 21"):
        verify(script.open(STATISTICS, 0, members=names[:30], signers=names[:20]))


def test_updates_may_be_summed_in_groups() -> None:
    script = grouped().begin()
    names = script.names
    for _ in range(2):
        number = script.committed + 1
        script.release(UPDATE, number, asked=names[::2]).release(UPDATE, number, asked=names[1::2])
        script.accept().commit().evaluate(WATCH)
    assert verify(script.finish()).receipts == 2 + 4 + 2
    # A group that lost too many has no sum, and the others go on.
    script = grouped().begin().release(UPDATE, 1, asked=names[::2]).accept().commit().finish()
    assert verify(script).rounds == 1


# --- what does not ---


def forged(signatures: object, member: str) -> dict[str, str]:
    assert isinstance(signatures, dict)
    good: str = signatures[member]
    return {**signatures, member: good[:-2] + f"{int(good[-2:], 16) ^ 1:02x}"}


def with_last(script: Script, change: Callable[[dict[str, object]], dict[str, object]]) -> Script:
    """The script with its last entry's fields changed, and nothing signed anew."""
    kind, body = script.lines.pop()
    script.lines.append((kind, {**body, **change(body)}))
    return script


def twice_one_key() -> dict[str, str]:
    keys = {member: key_of(member).public.hex() for member in NAMES}
    return {**keys, "mill": keys["bank"]}


def other_document(**changes: object) -> Script:
    """All that is said is what the members' manifest says, and the document is another."""
    manifest = replace(Script().manifest, **changes)  # type: ignore[arg-type]
    return Script().start(document=manifest.to_bytes().decode(), manifest=manifest.digest().hex())


def regrouped(*groups: Sequence[int]) -> Script:
    """Two groups of four in the first round; in the second one these, of which the last is open."""
    script = grouped(8, minimum=3).begin()
    names = script.names
    for half in (names[:4], names[4:]):
        script.release(UPDATE, 1, asked=half)
    script.accept().commit()
    for group in groups[:-1]:
        script.release(UPDATE, 2, asked=[names[place] for place in group])
    return script.open(UPDATE, 2, asked=[names[place] for place in groups[-1]])


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
            DOCUMENT.replace('"format":3', '"format":1'),
            DOCUMENT.replace('"format":3', '"format":true'),
            DOCUMENT.replace('"minimum_cohort":2', '"minimum_cohort":0'),
            DOCUMENT.replace('"unit":"borrower"', '"unit":1'),
            DOCUMENT.replace('"unit":', '"units":'),
            DOCUMENT.replace("masked", "none"),
            "[" * 100_000,
            '{"a":' * 40_000,
            "9" * 100_000,
        )
    ),
]
GRAMMAR: list[tuple[str, Callable[[], Script]]] = [
    # the run itself
    ("run r was never started", lambda: Script().stop()),
    ("run r was started before", lambda: whole_run().start()),
    ("run r was started before", lambda: ready().stop().start()),
    ("two members have one key", lambda: Script().start(members=twice_one_key())),
    *MANIFESTS,
    ("had ended", lambda: whole_run().stop()),
    ("had ended", lambda: whole_run().open(UPDATE, 3)),
    ("had ended", lambda: Script().start().stop().stop()),
    ("had ended", lambda: fresh().open(STATISTICS, 0).stop().receipt()),
    # keys and the initial model
    ("keys were not agreed on before", lambda: Script().start().open(STATISTICS, 0)),
    ("keys were not agreed on before", lambda: Script().start().agree_on_model()),
    ("keys were not agreed on before", lambda: Script().start().finish()),
    ("keys are agreed on once", lambda: fresh().agree_on_keys()),
    ("keys are agreed on once", lambda: ready().agree_on_keys()),
    ("initial model is agreed on out of place", lambda: fresh().agree_on_model()),
    ("initial model is agreed on out of place", lambda: ready().agree_on_model()),
    (
        "initial model is agreed on out of place",
        lambda: fresh().release(STATISTICS, 0).agree_on_model(),
    ),
    # which sum is due
    ("out of place", lambda: fresh().open(STATISTICS, 1)),
    ("out of place", lambda: fresh().release(STATISTICS, 0).accept().open(STATISTICS, 2)),
    ("out of place", lambda: ready().open(STATISTICS, 2)),
    ("out of place", lambda: fresh().open(UPDATE, 1)),
    ("out of place", lambda: fresh().open(WATCH, 0)),
    ("out of place", lambda: fresh().release(STATISTICS, 0).accept().open(UPDATE, 1)),
    ("out of place", lambda: ready().open(UPDATE, 2)),
    ("out of place", lambda: ready().open(UPDATE, 0)),
    ("out of place", lambda: ready().open(WATCH, 1)),
    ("out of place", lambda: ready().train().train().open(WATCH, 1)),
    ("out of place", lambda: ready().release(UPDATE, 1).accept().open(WATCH, 0)),
    ("out of place", lambda: ready().release(UPDATE, 1).accept().open(UPDATE, 2)),
    ("was opened before", lambda: ready().release(UPDATE, 1).accept().open(UPDATE, 1)),
    ("was opened before", lambda: ready().train().evaluate(TEST).open(TEST, 1)),
    ("sum before it has no receipt", lambda: ready().open(UPDATE, 1).open(UPDATE, 1)),
    ("sum before it has no receipt", lambda: ready().open(WATCH, 0).open(TEST, 0)),
    ("step before it was not accepted", lambda: fresh().release(STATISTICS, 0).open(STATISTICS, 1)),
    ("step before it was not accepted", lambda: ready().release(WATCH, 0).open(UPDATE, 1)),
    # who is asked, and who is in it
    ("not in order", lambda: ready().open(UPDATE, 1, members=NAMES[::-1])),
    ("not in order", lambda: ready().open(UPDATE, 1, asked=NAMES[::-1], members=NAMES)),
    (
        "members who were not asked",
        lambda: ready().open(UPDATE, 1, asked=ALL_BUT_ONE, members=NAMES),
    ),
    ("members that the run has not", lambda: ready().open(UPDATE, 1, asked=(*NAMES, "spy"))),
    ("does not ask all members", lambda: ready().open(UPDATE, 1, asked=ALL_BUT_ONE)),
    ("does not ask all members", lambda: fresh().open(STATISTICS, 0, asked=ALL_BUT_ONE)),
    ("the step has two sums", lambda: ready().release(UPDATE, 1).open(UPDATE, 1)),
    ("the step has two sums", lambda: ready().release(WATCH, 0).open(WATCH, 0)),
    (
        "fewer members than the run's minimum",
        lambda: Script(minimum=5).begin().open(UPDATE, 1, members=ALL_BUT_ONE),
    ),
    (
        "fewer members than the run's minimum",
        lambda: Script(minimum=1).begin().open(UPDATE, 1, members=NAMES[:1]),
    ),
    # from which model
    ("another model than its members held", lambda: ready().open(UPDATE, 1, model=OTHER)),
    ("another model than its members held", lambda: ready().open(UPDATE, 1, model=NO_MODEL)),
    ("another model than its members held", lambda: fresh().open(STATISTICS, 0, model=OTHER)),
    # sums about the same rows
    (
        "shows a few members alone",
        lambda: ready().evaluate(WATCH).train().open(WATCH, 1, members=ALL_BUT_ONE),
    ),
    (
        "shows a few members alone",
        lambda: ready().evaluate(TEST, members=ALL_BUT_ONE).train().open(TEST, 1),
    ),
    (
        "shows a few members alone",
        lambda: ready().evaluate(TEST).open(PERSONAL, 0, members=ALL_BUT_ONE),
    ),
    (
        "shows a few members alone",
        lambda: fresh().release(STATISTICS, 0).accept().open(STATISTICS, 1, members=NAMES[1:]),
    ),
    (
        "shows a few members alone",
        lambda: ready().evaluate(PERSONAL).open(TEST, 0, members=ALL_BUT_ONE),
    ),
    (
        "shows a few members alone",  # as many as before, and others
        lambda: (
            ready().evaluate(TEST, members=NAMES[1:]).train().open(TEST, 1, members=ALL_BUT_ONE)
        ),
    ),
    # and the more so where the members are not fewer
    (
        "shows a few members alone",
        lambda: (
            fresh()
            .release(STATISTICS, 0, members=ALL_BUT_ONE)
            .accept()
            .open(STATISTICS, 1, members=NAMES)
        ),
    ),
    # receipts
    ("belongs to no sum", lambda: fresh().receipt(step=STATISTICS, round=0)),
    ("belongs to no sum", lambda: ready().release(UPDATE, 1).receipt()),
    ("belongs to no sum", lambda: ready().open(UPDATE, 1).receipt(step=TEST)),
    ("belongs to no sum", lambda: ready().open(UPDATE, 1).receipt(round=2)),
    (
        "receipt has other members",
        lambda: ready().open(UPDATE, 1).receipt(members=list(ALL_BUT_ONE)),
    ),
    (
        "receipt has other members",
        lambda: ready().open(UPDATE, 1, members=ALL_BUT_ONE).receipt(members=list(NAMES)),
    ),
    ("receipt has another protection", lambda: ready().open(UPDATE, 1).receipt(protection="clear")),
    (
        "receipt is not what the run's manifest says",
        lambda: ready().open(UPDATE, 1).receipt(receipt=other_receipt(unit="window")),
    ),
    (
        "receipt is not what the run's manifest says",
        lambda: ready().open(UPDATE, 1).receipt(receipt=other_receipt(purpose="no reason")),
    ),
    (
        "another number of values than the model has",
        lambda: ready().open(UPDATE, 1).receipt(receipt=other_receipt(values=1)),
    ),
    # acceptance
    ("was opened has no receipt", lambda: ready().open(UPDATE, 1).accept()),
    ("accepts no sum that was opened", lambda: ready().accept()),
    ("accepts no sum that was opened", lambda: ready().release(UPDATE, 1).accept(step=WATCH)),
    ("accepts no sum that was opened", lambda: ready().release(UPDATE, 1).accept(round=2)),
    ("accepts no sum that was opened", lambda: ready().train().accept()),
    ("undone by a validation", lambda: ready().release(UPDATE, 1).accept(kept=False)),
    ("undone by a validation", lambda: ready().release(TEST, 0).accept(kept=False)),
    ("undone by a validation", lambda: fresh().release(STATISTICS, 0).accept(kept=False)),
    ("another model than before", lambda: ready().release(TEST, 0).accept(model=OTHER)),
    ("another model than before", lambda: ready().release(WATCH, 0).accept(model=OTHER)),
    ("another model than before", lambda: fresh().release(STATISTICS, 0).accept(model=OTHER)),
    # rounds
    ("round 2 follows on round 0", lambda: ready().release(UPDATE, 1).accept().commit(round=2)),
    ("round 1 follows on round 1", lambda: ready().train().commit(round=1)),
    ("no sum of updates that was accepted", lambda: ready().commit()),
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
    ("was opened has no receipt", lambda: ready().open(TEST, 0).finish()),
    ("was opened was not accepted", lambda: ready().release(TEST, 0).finish()),
    ("was summed and not committed", lambda: ready().release(UPDATE, 1).accept().finish()),
    ("ends with another round", lambda: ready().train().finish(rounds=2)),
    ("ends with another model", lambda: ready().train().finish(model=OTHER)),
    # groups
    (
        "smaller than the run's groups",
        lambda: grouped().begin().open(UPDATE, 1, asked=["member 1"]),
    ),
    (
        "asked for two sums of one step",
        lambda: (
            grouped(7)
            .begin()
            .release(UPDATE, 1, asked=[f"member {index}" for index in range(4)])
            .open(UPDATE, 1, asked=[f"member {index}" for index in range(3, 7)])
        ),
    ),
    ("a group is not what it was before", lambda: regrouped(range(3))),
    ("a group is not what it was before", lambda: regrouped(range(5))),
    ("a group is not what it was before", lambda: regrouped(range(2, 6))),
    ("a group is not what it was before", lambda: regrouped((0, 1, 2, 7))),
    ("a group is not what it was before", lambda: regrouped(range(8))),
    ("a group is not what it was before", lambda: regrouped(range(4), range(5, 8))),
    (
        "does not ask all members",
        lambda: grouped().begin().open(WATCH, 0, asked=[f"member {index}" for index in range(3)]),
    ),
    (
        "fewer members than the run's minimum",
        lambda: (
            grouped(minimum=3)
            .begin()
            .open(
                UPDATE,
                1,
                asked=[f"member {index}" for index in range(4)],
                members=["member 0", "member 1"],
            )
        ),
    ),
]

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
    ("context is not that of its place", lambda of=of: ready().open(UPDATE, 1, of=dict([of])))  # type: ignore[misc]
    for of in CONTEXTS.items()
]

SPY = (*ALL_BUT_ONE, "spy")
SIGNATURES: list[tuple[str, Callable[[], Script]]] = [
    ("3 members signed .* 4, are needed", lambda: ready().open(UPDATE, 1, signers=NAMES[:3])),
    (
        "3 members signed .* 4, are needed",
        lambda: ready().release(UPDATE, 1).accept(signers=NAMES[:3]),
    ),
    ("spy signed, and is not one", lambda: ready().open(UPDATE, 1, signers=SPY)),
    ("spy signed, and is not one", lambda: ready().release(UPDATE, 1).accept(signers=SPY)),
    (
        "mill signed, and is not one",  # its vector is not in the sum
        lambda: ready().open(UPDATE, 1, members=ALL_BUT_ONE, signers=NAMES),
    ),
    (
        "signature of mill does not hold",
        lambda: with_last(
            ready().open(UPDATE, 1), lambda body: {"signatures": forged(body["signatures"], "mill")}
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
        lambda: ready().open(UPDATE, 1, domain=ACCEPTED_DOMAIN),
    ),
    (
        "signature of bank does not hold",
        lambda: ready().release(UPDATE, 1).accept(domain=SURVIVORS_DOMAIN),
    ),
    (  # fewer are named than signed
        "signature of .* does not hold",
        lambda: with_last(
            ready().open(UPDATE, 1),
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
        lambda: _other_aggregate(ready().open(UPDATE, 1)).receipt().accept(),
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
    at = len(script.lines) - 1
    with pytest.raises(
        NotVerifiedError, match=rf"^steps 5 and 6 \(runs\), entry {at}: .*{sentence}"
    ):
        verify(script)
    script.lines.pop()
    verify(script)  # it is the last entry that breaks it


def test_evaluations_may_start_from_models_of_their_own() -> None:
    """A personal model is nobody else's; its hash is what the member says it is."""
    assert verify(ready().evaluate(PERSONAL, model=OTHER)).receipts == 3


@pytest.mark.parametrize("minimum", [2, 3, 6])
@pytest.mark.parametrize("left_out", [1, 2, 3])
def test_sums_about_the_same_rows_are_over_the_same_members(minimum: int, left_out: int) -> None:
    """However many differ: two differences of many may themselves differ by one."""
    names = [f"m{index:02}" for index in range(12)]
    rest = names[left_out:]

    def script() -> Script:
        return Script("r", names, minimum=minimum)

    begun = script().start().agree_on_keys().release(STATISTICS, 0, members=rest).accept()
    watched = script().begin().evaluate(WATCH).train()
    tested = script().begin().evaluate(TEST, members=rest)
    verify(begun.copy().open(STATISTICS, 1, members=rest))
    verify(watched.copy().open(WATCH, 1))
    verify(tested.copy().evaluate(PERSONAL, members=rest).train().open(TEST, 1, members=rest))
    for refused in (
        begun.open(STATISTICS, 1),
        watched.open(WATCH, 1, members=rest),
        tested.copy().open(PERSONAL, 0),
        tested.open(PERSONAL, 0, members=names[:-left_out]),
    ):
        with pytest.raises(NotVerifiedError, match="few members alone"):
            verify(refused)


def test_sums_about_other_rows_may_be_over_others() -> None:
    script = fresh().release(STATISTICS, 0, members=NAMES[1:]).accept().agree_on_model()
    script.evaluate(WATCH, members=ALL_BUT_ONE).evaluate(TEST)
    assert verify(script.train(members=NAMES[1:])).receipts == 4


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
    script.release(UPDATE, 1, asked=names[:4]).release(UPDATE, 1, asked=names[4:])
    script.accept().commit().release(WATCH, 1).accept(model=model, kept=False)
    again = script.copy()
    verify(again.open(UPDATE, 2, asked=names[:4], members=names[:3]))
    script.open(UPDATE, 2, asked=names[:3])
    with pytest.raises(NotVerifiedError, match="a group is not what it was before"):
        verify(script)


def test_a_group_may_be_left_out_of_a_round_and_come_back() -> None:
    script = grouped(9, minimum=3).begin()
    names = script.names
    for groups in ((names[:3], names[3:6]), (names[6:],), (names[3:6], names[6:], names[:3])):
        for group in groups:
            script.release(UPDATE, script.committed + 1, asked=group)
        script.accept().commit()
    assert verify(script.finish()).receipts == 2 + 6


def test_a_name_may_not_be_given_to_two_runs_but_a_member_may_take_part_in_two() -> None:
    assert verify_ledger(ledger_of(small_run("p"), small_run("q"))).runs == 2
    with pytest.raises(NotVerifiedError, match="started before"):
        verify_ledger(ledger_of(small_run("p"), small_run("p")))


def test_entries_of_one_run_do_not_count_for_another() -> None:
    sum_of_r = fresh().open(STATISTICS, 0).lines[-1]
    second = Script("s").start().agree_on_keys()
    moved: Line = (sum_of_r[0], {**sum_of_r[1], "run": "s"})
    with pytest.raises(NotVerifiedError, match="context is not that of its place"):
        verify_ledger(data_of(chained([*fresh().lines, *second.lines, moved])))


# --- the steps ---


@pytest.mark.parametrize(
    ("change", "step"),
    [
        (lambda data: data[:-1], "step 1"),
        (lambda data: data + b"{", "step 1"),
        (lambda data: b"\n" + data, "steps 2 and 3 .*entry 0"),
        (lambda data: data.replace(b'"body":', b'"body": ', 1), "steps 2 and 3 .*entry 0"),
        (lambda data: data.replace(b"\n", b"\r\n"), "steps 2 and 3 .*entry 0"),
        (lambda data: data.replace(b"receipt", b"receipz"), "steps 2 and 3 .*entry 3"),
        (lambda data: data.replace(b'"values":10', b'"values":11'), "steps 2 and 3 .*entry 3"),
        (lambda data: data[data.index(b"\n") + 1 :], "step 4 .*entry 0"),
        (lambda data: data + data[: data.index(b"\n") + 1], "step 4 .*entry 11"),
    ],
)
def test_the_step_that_fails_is_named(change: Callable[[bytes], bytes], step: str) -> None:
    data = ledger_of(small_run())
    verify_ledger(data)
    with pytest.raises(NotVerifiedError, match=f"^{step}"):
        verify_ledger(change(data))


def test_heads_must_be_found_at_their_size() -> None:
    entries = chained(small_run().lines)
    data, size = data_of(entries), len(entries)
    heads = [LedgerHead(entry.index + 1, entry.digest) for entry in entries]
    verify_ledger(data, heads=heads)
    for head in (
        LedgerHead(size + 1, entries[-1].digest),
        LedgerHead(size, entries[0].digest),
        LedgerHead(0, entries[0].digest),
        LedgerHead(-1, entries[-2].digest),
    ):
        with pytest.raises(NotVerifiedError, match="step 7"):
            verify_ledger(data, heads=[*heads, head])


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
