"""Whether a node takes part: never, later, or now; the same question may come many times."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from support.asked import asked

from clients.consent import FULL, GRANTED_S, PERSON, Consent, Consents, Decided
from clients.frozen import parse_yaml
from clients.policy import NodePolicy
from privacy.errors import RefusedError
from privacy.manifest import Manifest

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)  # a Monday
ROLES = {"Bank A": "bank", "Bank B": "bank", "Insurer": "insurer"}


@dataclass
class Book:
    """People's decisions, and what they are shown."""

    said: dict[str, Decided] = field(default_factory=dict)
    shown: dict[str, tuple[str, str]] = field(default_factory=dict)
    is_full: bool = False

    def decided(self, manifest: Manifest) -> Decided | None:
        return self.said.get(manifest.digest().hex())

    def wait(
        self, manifest: Manifest, launcher: str, *, on: Literal["person", "time"], why: str
    ) -> bool:
        del launcher
        if not self.is_full:
            self.shown[manifest.digest().hex()] = on, why
        return not self.is_full

    def settled(self, manifest: Manifest) -> None:
        self.shown.pop(manifest.digest().hex(), None)


@dataclass
class World:
    """What a consent looks at."""

    policy: NodePolicy
    book: Book = field(default_factory=Book)
    now: datetime = NOW
    running: set[str] = field(default_factory=set)
    idle: set[str] = field(default_factory=set)
    short: str = ""

    @property
    def consents(self) -> Consents:
        if not hasattr(self, "_made"):
            self._made = Consents(
                policy=lambda: self.policy,
                role_of=ROLES.get,
                decisions=self.book,
                running=lambda: frozenset(self.running),
                busy=lambda: frozenset(self.running - self.idle),
                room=lambda _: self.short,
                now=lambda: self.now,
            )
        return self._made

    def ask(self, launcher: str = "Bank A", **other: object) -> Consent:
        return self.consents(asked(**other), launcher)


def world(text: str = "{}") -> World:
    return World(parse_yaml(NodePolicy, text, "policy.yaml"))


def names(count: int) -> Iterable[str]:
    return (f"run-{n}" for n in range(count))


def test_the_usual_terms_say_yes_at_once() -> None:
    assert world().ask() is Consent.GIVEN
    assert world().ask("Insurer") is Consent.GIVEN


@pytest.mark.parametrize(
    ("text", "launcher", "sentence"),
    [
        ("{}", "Mallory", "Mallory may start no runs in this federation"),
        ("initiators: {roles: [insurer]}", "Bank A", "lets no bank start runs"),
        ("initiators: {roles: []}", "Bank A", "lets no bank start runs"),
        ("initiators: {names: [Bank B]}", "Bank A", "does not name Bank A among those"),
        ("hours: {days: []}", "Bank A", "lets no run start at present"),
        ("resources: {runs: 0}", "Bank A", "lets no run start at present"),
    ],
)
def test_what_is_refused_for_good(text: str, launcher: str, sentence: str) -> None:
    here = world(text)
    with pytest.raises(RefusedError) as refusal:
        here.ask(launcher)
    assert sentence in str(refusal.value)
    assert not here.book.shown


def test_a_named_initiator_must_have_an_allowed_role_too() -> None:
    here = world("initiators: {roles: [insurer], names: [Bank A]}")
    with pytest.raises(RefusedError, match="lets no bank"):
        here.ask()


def test_a_person_is_asked_and_the_answer_holds_for_these_words_alone() -> None:
    here = world("decide: by_hand")
    assert here.ask() is Consent.WAITING
    digest = asked().digest().hex()
    assert here.book.shown == {digest: ("person", PERSON)}
    assert here.consents.reason(asked()) == PERSON
    here.book.said[digest] = Decided(approved=True, reason="")
    assert here.ask() is Consent.GIVEN
    assert not here.book.shown
    assert here.consents.reason(asked()) == ""
    # one round more, and it is another manifest
    assert here.ask(minimum_cohort=4) is Consent.WAITING


def test_a_person_refuses_with_a_reason() -> None:
    here = world("decide: by_hand")
    here.ask()
    here.book.said[asked().digest().hex()] = Decided(approved=False, reason="not this quarter")
    with pytest.raises(RefusedError) as refusal:
        here.ask()
    assert str(refusal.value) == "A person at this node refused this run: not this quarter"
    assert not here.book.shown


def test_a_refusal_by_hand_holds_where_the_node_decides_by_itself_now() -> None:
    here = world("decide: automatic")
    here.book.said[asked().digest().hex()] = Decided(approved=False, reason="")
    with pytest.raises(RefusedError, match="refused this run"):
        here.ask()


def test_an_approval_does_not_open_the_hours() -> None:
    here = world("{decide: by_hand, hours: {from: 20:00, until: 22:00}}")
    assert here.ask() is Consent.WAITING
    digest = asked().digest().hex()
    assert here.book.shown[digest][0] == "person"  # asked now, so that it can be ready by then
    here.book.said[digest] = Decided(approved=True, reason="")
    assert here.ask() is Consent.WAITING
    on, why = here.book.shown[digest]
    assert on == "time"
    assert why == (
        "It is outside of this node's hours; it may start from Mon 2026-03-02 20:00 UTC."
    )
    here.now = NOW.replace(hour=20)
    assert here.ask() is Consent.GIVEN


def test_where_too_many_wait_a_run_waits_and_is_not_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = world("decide: by_hand")
    here.book.is_full = True
    assert here.ask() is Consent.WAITING
    assert here.consents.reason(asked()) == FULL
    here.book.is_full = False
    assert here.ask() is Consent.WAITING
    assert here.consents.reason(asked()) == PERSON
    # however many ask, only so much is remembered of them
    monkeypatch.setattr("clients.consent.REASONS_MAX", 2)
    for name in names(5):
        here.ask(run=name)
    assert len(here.consents._reasons) == 2
    assert here.consents.reason(asked(run="run-4")) == PERSON


def test_an_initiator_is_refused_even_after_an_approval() -> None:
    here = world("decide: by_hand")
    here.ask()
    here.book.said[asked().digest().hex()] = Decided(approved=True, reason="")
    here.policy = parse_yaml(NodePolicy, "initiators: {names: [Bank B]}", "policy.yaml")
    with pytest.raises(RefusedError, match="does not name Bank A"):
        here.ask()


def test_further_runs_wait_for_a_place() -> None:
    here = world("resources: {runs: 2}")
    assert [here.ask(run=name) for name in names(3)] == [
        Consent.GIVEN,
        Consent.GIVEN,
        Consent.WAITING,
    ]
    assert "takes part in 2 runs at once at most" in here.consents.reason(asked(run="run-2"))
    # asked again, those that have a place keep it
    assert here.ask(run="run-0") is Consent.GIVEN
    here.running = {asked(run=f"run-{n}").digest().hex() for n in (0, 1)}
    here.now += timedelta(seconds=2 * GRANTED_S)
    assert here.ask(run="run-2") is Consent.WAITING
    here.running.pop()
    assert here.ask(run="run-2") is Consent.GIVEN


def test_a_run_that_was_given_up_elsewhere_takes_no_place() -> None:
    here = world("resources: {runs: 1}")
    here.running = {"ab" * 32}
    assert here.ask() is Consent.WAITING
    here.idle = set(here.running)
    assert here.ask() is Consent.GIVEN


def test_a_place_that_nobody_takes_falls_back() -> None:
    here = world("resources: {runs: 1}")
    assert here.ask(run="a") is Consent.GIVEN
    assert here.ask(run="b") is Consent.WAITING
    here.now += timedelta(seconds=GRANTED_S)
    assert here.ask(run="b") is Consent.GIVEN


def test_a_clock_that_was_set_back_frees_no_run_for_ever() -> None:
    here = world("resources: {runs: 1}")
    assert here.ask(run="a") is Consent.GIVEN
    here.now -= timedelta(days=1)
    assert here.ask(run="b") is Consent.GIVEN


def test_a_run_that_is_under_way_is_agreed_to_again_at_any_hour() -> None:
    here = world("{decide: by_hand, hours: {from: 20:00, until: 22:00}, resources: {runs: 1}}")
    here.book.said[asked().digest().hex()] = Decided(approved=True, reason="")
    here.running = {asked().digest().hex()}
    assert here.ask() is Consent.GIVEN


def test_a_machine_that_is_full_makes_runs_wait() -> None:
    here = world()
    here.short = "This node's disk has too little room; the run waits until there is more."
    assert here.ask() is Consent.WAITING
    assert here.consents.reason(asked()) == here.short
    here.short = ""
    assert here.ask() is Consent.GIVEN


def test_terms_are_asked_for_with_each_question() -> None:
    here = world("decide: by_hand")
    assert here.ask() is Consent.WAITING
    here.policy = NodePolicy()
    assert here.ask() is Consent.GIVEN
    assert not here.book.shown


@pytest.mark.parametrize(
    ("text", "works"),
    [
        ("{}", True),
        ("hours: {from: 20:00, until: 22:00}", True),
        ("hours: {from: 20:00, until: 22:00, pause_outside: true}", False),
        ("hours: {from: 08:00, until: 22:00, pause_outside: true}", True),
    ],
)
def test_runs_under_way_pause_only_where_the_terms_say_so(text: str, works: bool) -> None:
    assert world(text).consents.may_work() is works
