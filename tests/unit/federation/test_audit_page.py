"""The regulator's page: what it shows, to whom, and what it never does."""

import asyncio
import base64
import hashlib
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from string import Formatter
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from support.evidence import (
    BEGUN_MS,
    COORDINATOR,
    DAY_MS,
    MEMBERS,
    MINUTE_MS,
    PLAN,
    WATCH,
    Story,
    digest,
    public_of,
    sound,
)
from support.membership import Acts

from federation.audit_page.access import Access, access_for, is_loopback, read_token
from federation.audit_page.alert import Alert, alerts_of
from federation.audit_page.chart import RIGHT, WIDTH, chart_of
from federation.audit_page.guard import HEADERS
from federation.audit_page.page import make_app
from federation.audit_page.paging import ROWS
from federation.audit_page.server import Certificate, config_of, listen
from federation.audit_page.verification import Verification
from federation.audit_page.view import AuditView
from federation.audit_page.words import LANGUAGES, WORDS, language_of
from federation.evidence import Evidence, bundled_evidence
from federation.fingerprint import fingerprint
from privacy.accounting.event import event_of, merged, solo_event_of
from privacy.accounting.rdp import epsilon
from privacy.budget import read_statements
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.ledger.bundle import read_bundle, write_bundle
from privacy.ledger.entry import KINDS, UPDATE, parse_leaf
from privacy.ledger.memory import MemoryLedger
from privacy.ledger.merkle import leaf_hash, verify_inclusion
from privacy.ledger.proof import parse_proof, verify_proof
from privacy.ledger.store import LedgerStore

RUN = "2026-11-credit-a1b2"
TOKEN = "correct-horse-battery-staple"  # noqa: S105 - of nothing
PAGES = (
    "/",
    "/runs",
    f"/runs/{RUN}",
    "/members",
    f"/members/{MEMBERS[0]}",
    "/budgets",
    "/budgets/1",
    "/refusals",
    "/alerts",
    "/entries",
    "/entries?ledger=node-1",
    f"/entries?ledger=coordinator&kind=sum.opened&run={RUN}",
    "/entries/coordinator/0",
    "/entries/coordinator/2",
    "/entries/node-1/1",
    "/verify",
)
DOWNLOADS = (
    "/entries/coordinator/2/proof",
    "/entries/coordinator/2/leaf",
    "/export",
    "/style.css",
    "/icon.svg",
)
HOLDS = Verification(
    holds=True,
    steps=(("tree", "all entries have their hashes"), ("privacy", "recomputed")),
    failure=None,
    at_ms=BEGUN_MS,
    seconds=0.25,
)


# -- asking --


def app_of(
    story: Story,
    *,
    evidence: Evidence | None = None,
    verify: Callable[[], Verification] = lambda: HOLDS,
    export: Callable[[], Iterator[bytes]] = lambda: iter([b"one\n", b"two\n"]),
    access: Access | None = None,
) -> FastAPI:
    return make_app(
        evidence or story.evidence(),
        verify=verify,
        export=export,
        now_ms=lambda: story.now_ms,
        access=access or Access(),
    )


def ask(
    app: FastAPI,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    host: str = "localhost:8787",
) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, headers={"host": host, **(headers or {})})

    return asyncio.run(send())


def with_query(path: str, query: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}{query}"


@pytest.fixture(scope="module")
def quiet() -> tuple[Story, FastAPI]:
    story = sound()
    return story, app_of(story)


@pytest.fixture(scope="module")
def eventful() -> tuple[Story, FastAPI]:
    """A federation with one of everything."""
    story = Story(cap=0.6, solo_cap=None)
    story.whole_run(RUN, 12)
    story.start("2026-11-refused", declined={MEMBERS[3]: "its budget holds 0.1 and this takes 0.4"})
    story.release("2026-11-refused", "statistics", 0)
    story.round("2026-11-refused", 1, kept=False)
    story.release("2026-11-refused", UPDATE, 2, opened=False)
    story.stop("2026-11-refused", "too few members answered")
    story.start("2026-11-open")
    for number in range(1, 5):
        story.round("2026-11-open", number, without=MEMBERS[1:2])
    story.take_back(MEMBERS[0], "2026-11-open", 9)
    story.checkpoint(MEMBERS[:2])
    return story, app_of(story)


class Page(HTMLParser):
    """What a screen reader and a content policy would mind."""

    VOID = frozenset({"meta", "link", "br", "input", "line", "rect", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self.inside: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        self.counts[tag] += 1
        self.attributes.append((tag, told))
        self.inside.append((self.open[-1] if self.open else "", tag))
        if "id" in told:
            self.ids.append(told["id"])
        if tag == "a":
            self.links.append(told["href"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def require_accessible(page: Page) -> None:
    assert page.counts["h1"] == page.counts["main"] == page.inside.count(("head", "title")) == 1
    assert page.counts["header"] == page.counts["footer"] == 1
    assert page.links[0] == "#main"
    assert len(set(page.ids)) == len(page.ids)
    assert page.counts["caption"] == page.counts["table"]
    assert all("scope" in told for tag, told in page.attributes if tag == "th")
    named = [told["for"] for tag, told in page.attributes if tag == "label"]
    fields = [
        told
        for tag, told in page.attributes
        if tag in {"input", "select"} and told.get("type") != "hidden"
    ]
    assert [told["id"] for told in fields] == named
    for tag, told in page.attributes:
        if tag == "svg":
            drawing = told.get("role") == "img"
            assert drawing or told.get("aria-hidden") == "true"
            if drawing:
                assert set(told["aria-labelledby"].split()) <= set(page.ids)
        if tag == "nav":
            assert told["aria-label"]
    drawings = [told for tag, told in page.attributes if told.get("role") == "img"]
    assert page.inside.count(("svg", "title")) == page.inside.count(("svg", "desc"))
    assert page.inside.count(("svg", "desc")) == len(drawings)


def require_harmless(answer: httpx.Response) -> None:
    """Nothing that runs, nothing inline, nothing from elsewhere, all headers."""
    assert {name: answer.headers[name] for name in HEADERS} == dict(HEADERS)
    assert "set-cookie" not in answer.headers
    if not answer.headers["content-type"].startswith("text/html"):
        return
    text = answer.text.lower()
    assert "<script" not in text
    assert "traceback" not in text
    page = Page(answer.text)
    for _, told in page.attributes:
        assert "style" not in told
        assert not any(name.startswith("on") for name in told)
        for name in ("href", "src", "action"):
            target = told.get(name, "/")
            assert target.startswith(("/", "#"))
            assert not target.startswith("//")


# -- what it shows --


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("which", ["quiet", "eventful"])
def test_every_page_in_both_languages(
    which: str, path: str, language: str, request: pytest.FixtureRequest
) -> None:
    _, app = request.getfixturevalue(which)
    answer = ask(app, with_query(path, f"lang={language}"))
    assert answer.status_code == 200
    require_harmless(answer)
    page = Page(answer.text)
    require_accessible(page)
    assert page.attributes[0] == ("html", {"lang": {"en": "en", "zh": "zh-Hans"}[language]})
    kept = [link for link in page.links if link.startswith("/")]
    other = [link for link in kept if f"lang={language}" not in link]
    assert len(other) == 1  # the way to the other language
    assert re.search("[\u4e00-\u9fff]", answer.text.replace("中文", "")) is None or language == "zh"


@pytest.mark.parametrize("path", DOWNLOADS)
def test_downloads_have_all_headers(quiet: tuple[Story, FastAPI], path: str) -> None:
    answer = ask(quiet[1], path)
    assert answer.status_code == 200
    require_harmless(answer)


def test_the_browser_chooses_the_language(quiet: tuple[Story, FastAPI]) -> None:
    for accepted, first in [("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("de,en;q=0.5,zh;q=0.4", "en")]:
        answer = ask(quiet[1], "/", headers={"accept-language": accepted})
        assert WORDS[language_of("", accepted, None)]["nav.runs"] in answer.text
        assert language_of("", accepted, None) == first
        assert all("lang=" not in link for link in Page(answer.text).links[3:])
    assert language_of("en", "zh", None) == "en"
    assert language_of("", "zh", "en") == "en"
    assert language_of("fr", ";;q=x,,zh;q=0.9,en;q=9.9.9", None) == "zh"


def test_every_link_leads_somewhere(eventful: tuple[Story, FastAPI]) -> None:
    _, app = eventful
    seen: set[str] = set()
    waiting = ["/?lang=en"]
    while waiting:
        link = waiting.pop()
        # single entries are alike
        if link in seen or (re.search(r"/entries/[^/]+/\d{2,}", link) and len(seen) > 400):
            continue
        seen.add(link)
        answer = ask(app, link)
        assert answer.status_code == 200, link
        if answer.headers["content-type"].startswith("text/html") and len(seen) < 400:
            found = [one for one in Page(answer.text).links if not one.startswith("#")]
            waiting += [urljoin(link, one) for one in found]
    assert len(seen) > 100


def test_a_run_says_what_it_cost(quiet: tuple[Story, FastAPI]) -> None:
    story, _ = quiet
    view = AuditView()
    view.follow(story.evidence())
    cost, test = view.runs[RUN].costs(view.receipts)
    assert (cost.part, test.part, test.releases) == ("training", "test", 1)
    manifest = story.manifests[RUN]
    steps = [("statistics", 0), *((UPDATE, n) for n in (1, 2, 3)), (WATCH, 3)]
    receipts = [manifest.receipt(step, number, 500) for step, number in steps]
    coordinator = merged(event_of(one, colluders=PLAN.colluders) for one in receipts)
    solo = merged(solo_event_of(one) for one in receipts)
    assert cost.epsilon == epsilon(coordinator, PLAN.delta)[0]
    assert cost.solo == epsilon(solo, PLAN.delta)[0]
    assert cost.epsilon < cost.solo
    assert (cost.releases, cost.delta, cost.colluders) == (5, PLAN.delta, 1)


def test_a_run_without_noise_has_no_bound() -> None:
    story = Story(cap=None)
    story.whole_run(RUN, 1, plan=None)
    story.checkpoint()
    view = AuditView()
    view.follow(story.evidence())
    assert all(cost.epsilon == math.inf for cost in view.runs[RUN].costs(view.receipts))
    for path in (f"/runs/{RUN}", "/budgets/1", "/"):
        answer = ask(app_of(story), path)
        assert "without bound" in answer.text
        assert "inf" not in re.sub(r"<[^>]+>", " ", answer.text).split()


@pytest.mark.parametrize(
    ("cap", "solo_cap", "period_days"),
    [(4.0, None, None), (None, None, 365.0), (4.0, 9.0, 365.0), (4.0, None, 0.01)],
)
def test_budgets_stand_where_nodes_say(
    cap: float | None, solo_cap: float | None, period_days: float | None
) -> None:
    story = Story(cap=cap, solo_cap=solo_cap, period_days=period_days, tick_ms=5000)
    story.whole_run(RUN, 12)
    story.start("again")
    story.round("again", 1)
    story.take_back(MEMBERS[0], "again", 2)
    view = AuditView()
    view.follow(story.evidence())
    for account in view.accounts:
        owner = view.ledgers[account.ledger].owner
        (said,) = read_statements(story.stores[owner], now_ms=story.now_ms, tightest=False)
        found = {one.part: one for one in account.figures(story.now_ms)}
        for cohort in said.cohorts:
            if cohort.cohort not in found:
                assert cohort.releases == 0
                continue
            part = found[cohort.cohort]
            assert part.releases == cohort.releases
            assert part.runs == cohort.runs
            assert part.coordinator.spent == cohort.coordinator.spent
            assert part.solo.spent == cohort.solo.spent
            last = account.places(cohort.cohort)[-1]
            now_ms = account.reserved(last).time_ms
            then = next(one for one in account.figures(now_ms) if one.part == cohort.cohort)
            for against in ("coordinator", "solo"):
                (after,) = account.course(cohort.cohort, against, [last])
                assert after == pytest.approx(then.figure(against).spent, rel=1e-9)


def test_a_budget_over_time_only_grows_without_a_period() -> None:
    story = Story(cap=None, period_days=None)
    story.whole_run(RUN, 30)
    view = AuditView()
    view.follow(story.evidence())
    account = view.accounts[0]
    places = account.places("training")
    course = list(account.course("training", "coordinator", places))
    assert course == sorted(course)
    assert len(set(course)) > 20
    part = list(account.course("training", "coordinator", places[7:19]))
    assert part == course[7:19]


def test_a_drawing_has_lines_only_where_there_is_a_bound() -> None:
    never, later = Story(cap=None), Story(cap=None)
    never.whole_run(RUN, 2, plan=None)
    later.whole_run(RUN, 2)
    later.whole_run("exact", 2, plan=None)
    found = []
    for story in (never, later):
        view = AuditView()
        view.follow(story.evidence())
        drawing = chart_of(view.accounts[0], "training")
        found.append(drawing.lines[0].path)
        assert drawing.drawn == (story is later)
        text = ask(app_of(story), "/budgets/1").text
        assert ('class="chart"' in text) == (story is later)
        assert "nothing bounds it since" in text
    assert found[0] == ""
    end = float(found[1].rpartition("H")[2])
    assert end < WIDTH - RIGHT
    story = sound()
    view = AuditView()
    view.follow(story.evidence())
    assert chart_of(view.accounts[0], "training").lines[0].path.endswith(f"H{WIDTH - RIGHT}")


def test_lists_are_paged() -> None:
    story = Story()
    story.whole_run(RUN, 2 * ROWS)
    app = app_of(story)
    for path in (f"/runs/{RUN}", "/entries?ledger=coordinator", "/budgets/1"):
        first = ask(app, path)
        rows = first.text.count('<th scope="row"')
        assert ROWS <= rows < 2 * ROWS
        links = [one for one in Page(first.text).links if "page=" in one]
        assert links
        last = ask(app, links[-1])
        assert last.status_code == 200
        assert last.text.count('<th scope="row"') != rows or "page=2" in links[-1]
        assert ask(app, with_query(path, "page=100000")).status_code == 404
        assert ask(app, with_query(path, "page=0")).status_code == 404
        assert ask(app, with_query(path, "page=two")).status_code == 400
        assert ask(app, with_query(path, "page=-1")).status_code == 400


def test_entries_are_filtered(quiet: tuple[Story, FastAPI]) -> None:
    story, app = quiet
    leaves = list(story.stores[COORDINATOR].leaves())
    wanted = [
        str(entry.index)
        for entry in map(parse_leaf, leaves)
        if entry.kind == "sum.opened" and entry.body["run"] == RUN
    ]
    answer = ask(app, f"/entries?ledger=coordinator&kind=sum.opened&run={RUN}")
    shown = re.findall(r'class="number" href="/entries/coordinator/(\d+)', answer.text)
    assert shown == wanted
    assert ask(app, "/entries?kind=sum.guessed").status_code == 400
    assert ask(app, "/entries?ledger=node-99").status_code == 404
    assert "None on record" in ask(app, "/entries?run=nothing").text


# -- proofs --


def test_a_downloaded_proof_holds_offline(quiet: tuple[Story, FastAPI]) -> None:
    story, app = quiet
    for index in (0, 5, story.stores[COORDINATOR].size() - 1):
        leaf = ask(app, f"/entries/coordinator/{index}/leaf").content
        data = ask(app, f"/entries/coordinator/{index}/proof").content
        checkpoint = verify_proof(parse_proof(data), leaf, story.log_key())
        assert checkpoint.size == story.trees[COORDINATOR].size
        with pytest.raises(NotVerifiedError):
            verify_proof(parse_proof(data), leaf + b" ", story.log_key())


def test_a_shown_proof_leads_to_the_shown_root(quiet: tuple[Story, FastAPI]) -> None:
    story, app = quiet
    tree = story.trees[COORDINATOR]
    for index in (0, 1, tree.size // 2, tree.size - 1):
        text = ask(app, f"/entries/coordinator/{index}").text
        hashes = re.findall(r'<code class="long">([0-9a-f]{64})</code>', text)
        leaf, root, *path = hashes
        assert leaf == leaf_hash(next(iter(story.stores[COORDINATOR].leaves(index)))).hex()
        assert root == tree.root().hex()
        siblings = [bytes.fromhex(one) for one in path[::2]]
        verify_inclusion(bytes.fromhex(leaf), index, tree.size, siblings, bytes.fromhex(root))
        assert "in there, unchanged" in text


def test_what_no_checkpoint_covers_is_said_to_be_unsigned() -> None:
    story = sound()
    story.start("later")
    index = story.stores[COORDINATOR].size() - 1
    app = app_of(story)
    assert "nobody signed it" in ask(app, f"/entries/coordinator/{index}").text
    assert ask(app, f"/entries/coordinator/{index}/proof").status_code == 404
    assert ask(app, f"/entries/coordinator/{index}/leaf").status_code == 200


# -- alerts --


def causes(story: Story, *, evidence: Evidence | None = None, later_ms: int = 0) -> Counter[str]:
    view = AuditView()
    view.follow(evidence or story.evidence())
    return Counter(alert.cause for alert in alerts_of(view, now_ms=story.now_ms + later_ms))


def open_run(rounds: int = 1, **how: object) -> Story:
    story = Story(**how)  # type: ignore[arg-type]
    story.start(RUN)
    for number in range(1, rounds + 1):
        story.round(RUN, number)
    return story


def test_nothing_is_alerted_where_all_is_well() -> None:
    assert causes(sound()) == Counter()
    assert causes(sound(), later_ms=400 * DAY_MS) == Counter()
    story = open_run()
    story.checkpoint()
    assert causes(story) == Counter()


@pytest.mark.parametrize(("cap", "found"), [(0.6, "cap_near_coordinator"), (0.8, "")])
def test_a_cap_that_is_near(cap: float, found: str) -> None:
    story = Story(cap=cap)
    story.whole_run(RUN, 3)
    story.checkpoint()
    assert set(causes(story)) == ({found} if found else set())


def test_a_cap_that_was_passed_and_one_against_all_others() -> None:
    story = Story(cap=0.5, solo_cap=1.3)
    story.whole_run(RUN, 12)
    story.checkpoint()
    assert set(causes(story)) == {"cap_passed_coordinator", "cap_near_solo"}


def test_a_release_without_noise_under_a_cap() -> None:
    story = Story()
    story.whole_run(RUN, 1, plan=None)
    story.checkpoint()
    assert causes(story) == {"cap_unbounded": 8}  # of both cohorts, at each member


@pytest.mark.parametrize("then", ["stopped", "passed", "old"])
def test_a_reservation_that_nobody_opened(then: str) -> None:
    story = open_run()
    story.release(RUN, UPDATE, 2, opened=False)
    if then == "passed":
        story.round(RUN, 3)
    if then == "stopped":
        story.stop(RUN)
    story.checkpoint()
    later_ms = 2 * 60 * MINUTE_MS if then == "old" else 0
    assert causes(story, later_ms=later_ms) == {"reserve_dangling": 1, "node_dangling": 4}
    if then == "old":
        assert causes(story) == Counter()


def test_a_node_that_reserved_and_said_no_more() -> None:
    story = open_run()
    story.release(RUN, UPDATE, 2, settled=False)
    story.round(RUN, 3)
    story.checkpoint()
    assert causes(story) == {"node_dangling": 4}


def test_what_was_taken_back_is_not_spent_and_needs_a_signature() -> None:
    signed, unsigned = open_run(), open_run()
    for story in (signed, unsigned):
        story.take_back(MEMBERS[0], RUN, 9, signed=story is signed)
        story.round(RUN, 2)
        story.checkpoint()
    assert causes(signed) == Counter()
    assert causes(unsigned) == {"abort_unsigned": 1, "node_dangling": 1}
    figures = []
    for story in (signed, unsigned):
        view = AuditView()
        view.follow(story.evidence())
        figures.append(view.accounts[0].figures(story.now_ms)[0].releases)
    assert figures == [2, 3]


@pytest.mark.parametrize(("missed", "found"), [(3, {"node_silent": 1}), (2, {})])
def test_a_node_that_misses_updates(missed: int, found: dict[str, int]) -> None:
    story = open_run(2)
    for number in range(3, 3 + missed):
        story.round(RUN, number, without=MEMBERS[1:2])
    story.checkpoint()
    assert causes(story) == found
    story.round(RUN, 9)
    story.checkpoint()
    assert causes(story) == Counter()


def test_a_node_that_is_not_heard_of_while_its_run_goes_on() -> None:
    story = open_run()
    story.now_ms += 20 * MINUTE_MS
    story.round(RUN, 2, without=MEMBERS[2:3])
    story.checkpoint()
    assert causes(story) == {"node_silent": 1}


def test_a_run_that_is_not_heard_of() -> None:
    story = open_run()
    story.checkpoint()
    assert causes(story, later_ms=2 * DAY_MS) == {"run_silent": 1}


def test_a_state_that_nobody_cosigned() -> None:
    story = Story()
    story.whole_run(RUN, 1)
    assert causes(story) == {"checkpoint_none": 1}
    story.checkpoint(())
    assert causes(story) == {"checkpoint_alone": 1}
    story.checkpoint(MEMBERS[:1])
    assert causes(story) == Counter()
    story.start("more")
    story.stop("more")
    assert causes(story) == Counter()
    assert causes(story, later_ms=2 * DAY_MS) == {"checkpoint_old": 1}
    story.checkpoint(())
    assert causes(story) == Counter()


def changed(ledger: LedgerStore, index: int, old: bytes, new: bytes) -> MemoryLedger:
    leaves = list(ledger.leaves())
    assert old in leaves[index]
    leaves[index] = leaves[index].replace(old, new, 1)
    copy = MemoryLedger(leaves)
    for size, note in ledger.checkpoints():
        copy.keep_checkpoint(size, note)
    return copy


def evidence_with(story: Story, name: str, store: LedgerStore) -> Evidence:
    evidence = story.evidence()
    assert evidence.coordinator is not None
    if name == COORDINATOR:
        return replace(evidence, coordinator=replace(evidence.coordinator, store=store))
    nodes = [replace(one, store=store) if one.owner == name else one for one in evidence.nodes]
    return replace(evidence, nodes=tuple(nodes))


def test_a_changed_entry_does_not_match_the_checkpoint() -> None:
    story = sound()
    store = changed(story.stores[COORDINATOR], 3, b"amber-bank", b"amber-bonk")
    found = causes(story, evidence=evidence_with(story, COORDINATOR, store))
    assert set(found) == {"checkpoint_wrong"}


def test_an_entry_that_cannot_be_read_is_counted_and_the_rest_is_shown() -> None:
    story = sound()
    store = changed(story.stores[COORDINATOR], 3, b'"format":4', b'"format":9')
    evidence = evidence_with(story, COORDINATOR, store)
    assert set(causes(story, evidence=evidence)) == {"checkpoint_wrong", "entry_broken"}
    app = app_of(story, evidence=evidence)
    for path in ("/", "/entries", "/entries/coordinator/3", f"/runs/{RUN}", "/alerts"):
        answer = ask(app, path)
        assert answer.status_code == 200
        require_harmless(answer)
    assert "cannot be read" in ask(app, "/entries/coordinator/3").text


def test_signatures_under_a_checkpoint_that_do_not_hold() -> None:
    story = sound()
    note = story.checkpoint().decode()
    size = story.stores[COORDINATOR].size()

    def with_line(number: int) -> Counter[str]:
        lines = note.split("\n")
        head, _, tail = lines[number].rpartition(" ")
        raw = bytearray(base64.b64decode(tail))
        raw[-1] ^= 1
        lines[number] = f"{head} {base64.b64encode(raw).decode()}"
        show("\n".join(lines).encode())
        return causes(story)

    def show(other: bytes) -> None:
        story.stores[COORDINATOR].drop_checkpoint(size)
        story.stores[COORDINATOR].keep_checkpoint(size, other)

    app = app_of(story)
    assert "4 others cosigned it" in ask(app, "/entries/coordinator/3").text
    assert with_line(6) == {"cosignature_wrong": 1}
    assert "3 others cosigned it" in ask(app, "/entries/coordinator/3").text
    assert with_line(4) == {"checkpoint_unsigned": 1}
    assert "nobody signed it" in ask(app, "/entries/coordinator/3").text
    show(b"no note\n")
    found = causes(story)
    assert set(found) == {"checkpoint_broken", "checkpoint_alone"}
    assert ask(app_of(story), "/").status_code == 200


def test_a_nodes_ledger_that_is_shorter_or_another_than_it_said() -> None:
    story = sound()
    name = MEMBERS[0]
    leaves = list(story.stores[name].leaves())
    short = evidence_with(story, name, MemoryLedger(leaves[:-3]))
    assert set(causes(story, evidence=short)) == {"node_short", "node_dangling"}
    other = changed(story.stores[name], 1, b'"colluders":1', b'"colluders":2')
    assert causes(story, evidence=evidence_with(story, name, other)) == {"node_other": 1}


def test_a_ledger_that_becomes_shorter_while_it_is_watched() -> None:
    story = sound()
    view = AuditView()
    view.follow(story.evidence())
    leaves = list(story.stores[COORDINATOR].leaves())
    view.follow(evidence_with(story, COORDINATOR, MemoryLedger(leaves[:-5])))
    alerts = alerts_of(view, now_ms=story.now_ms)
    assert "ledger_cut" in {one.cause for one in alerts}


def test_every_alert_has_its_words_and_a_place() -> None:
    story, app = eventful_story()
    view = AuditView()
    view.follow(story.evidence())
    alerts = alerts_of(view, now_ms=story.now_ms)
    assert len({one.cause for one in alerts}) > 3
    assert [one.severity for one in alerts] == sorted(one.severity for one in alerts)
    text = ask(app, "/alerts").text
    assert text.count("<tbody>") == 1
    for alert in alerts:
        assert ask(app, alert.path).status_code == 200
        for language in LANGUAGES:
            assert _places(WORDS[language][f"alert.{alert.cause}"]) == set(alert.facts)


def eventful_story() -> tuple[Story, FastAPI]:
    story = Story(cap=0.6)
    story.whole_run(RUN, 12)
    story.start("open")
    story.release("open", UPDATE, 1, opened=False)
    for number in range(2, 6):
        story.round("open", number, without=MEMBERS[1:2])
    story.take_back(MEMBERS[0], "open", 9, signed=False)
    return story, app_of(story)


# -- who takes part --


def joined(story: Story, *, after: str = "") -> Acts:
    """A federation in the story's ledger: one is revoked, one waits, two are invited."""
    acts = Acts()
    acts.now_ms = story.now_ms
    acts.settled().admit("ember", "insurer", by=["amber", "birch"])
    acts.revoke("ember").candidate("fable <b>", "manufacturer").approve("fable <b>", ["amber"])
    acts.invite("gone", "bank", expires_ms=acts.now_ms + 10_000)
    acts.invite("harbour", "bank", expires_ms=acts.now_ms + DAY_MS)
    with story.stores[COORDINATOR].turn() as turn:
        for entry in acts.entries:
            turn.append(entry.kind, dict(entry.body), time_ms=entry.time_ms)
        if after:
            turn.append("member.revoked", acts.revoked(after, "amber"), time_ms=acts.now_ms)
    story.now_ms = acts.now_ms + 20_000
    return acts


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_members_page_shows_who_takes_part(language: str) -> None:
    story = sound()
    acts = joined(story)
    answer = ask(app_of(story), f"/members?lang={language}")
    require_harmless(answer)
    require_accessible(Page(answer.text))
    words = WORDS["zh" if language == "zh" else "en"]
    texts = [re.sub(r"<[^>]+>", " ", row) for row in answer.text.split("<tr>")]
    people = ("olive", "amber", "ember", "fable", "gone", "harbour", "regula")
    rows = {text.split()[0]: text for text in texts if text.split()[0] in people}
    states = {
        "olive": "active",
        "amber": "active",
        "regula": "active",
        "fable": "waiting",
        "harbour": "invited",
        "gone": "expired",
        "ember": "revoked",
    }
    assert rows.keys() == states.keys()
    for name, state in states.items():
        assert words[f"participant.{state}"] in rows[name], name
    assert words["role.regulator"] in rows["regula"]
    assert words["value.of"].format(count=1, total=2) in rows["fable"]
    for name in ("birch", "cedar"):
        assert name in rows["regula"]
    for name, one in acts.membership.participants.items():
        assert fingerprint(one.key) in rows.get(name, fingerprint(one.key))
    assert fingerprint(acts.membership.founder_key) in answer.text
    assert f"<bdi>{acts.membership.federation}</bdi>" in answer.text
    assert story.federation not in answer.text
    assert "<b>" not in answer.text
    # a member of runs has a page, and whoever is in none has not
    assert "/members/regula" not in answer.text


def test_an_act_that_does_not_hold_changes_nobody_and_is_an_alert() -> None:
    story = sound()
    joined(story, after="birch")  # signed by a bank, which may not
    assert causes(story)["entry_broken"] == 1
    view = AuditView()
    view.follow(story.evidence())
    assert view.membership is not None
    assert not view.membership.participants["birch"].revoked


def test_a_federation_that_nobody_began_has_no_list_of_it(quiet: tuple[Story, FastAPI]) -> None:
    assert WORDS["en"]["participants.caption"] not in ask(quiet[1], "/members?lang=en").text


def test_many_participants_are_paged_with_the_members_of_runs() -> None:
    story = sound()
    acts = Acts()
    acts.now_ms = story.now_ms
    acts.begin()
    for number in range(ROWS + 1):
        acts.invite(f"member {number:03}", "bank")
    with story.stores[COORDINATOR].turn() as turn:
        for entry in acts.entries:
            turn.append(entry.kind, dict(entry.body), time_ms=entry.time_ms)
    app = app_of(story)
    first, second = ask(app, "/members"), ask(app, "/members?page=2")
    assert f'href="/members/{MEMBERS[0]}"' in first.text
    assert f'href="/members/{MEMBERS[0]}"' not in second.text
    assert "member 000" in first.text
    assert "member 100" not in first.text
    assert "member 100" in second.text
    assert ask(app, "/members?page=3").status_code == 404


# -- following --


def snapshot(view: AuditView) -> object:
    return (
        view.membership,
        view.acts,
        view.runs,
        {name: replace(member) for name, member in view.members.items()},
        sorted(map(repr, view.refusals)),
        view.manifests,
        {
            slug: (one.kinds, one.runs, one.keys, one.broken, one.newest, one.cosigned)
            for slug, one in view.ledgers.items()
        },
        [
            (account.terms, [account.reserved(place) for place in range(len(account))])
            for account in view.accounts
        ],
        {slug: (sorted(one.pending), one.latest) for slug, one in view.nodes.items()},
    )


def test_following_step_by_step_comes_to_the_same_as_reading_anew() -> None:
    story = Story(cap=0.6)
    view = AuditView()
    acts: list[Callable[[], object]] = [
        lambda: joined(story),
        lambda: story.whole_run(RUN, 2),
        story.checkpoint,
        lambda: story.start("open", declined={MEMBERS[2]: "not now"}),
        lambda: story.release("open", UPDATE, 1, opened=False),
        lambda: story.take_back(MEMBERS[0], "open", 9),
        lambda: story.terms(MEMBERS[1], epsilon=None),
        lambda: story.round("open", 2, without=MEMBERS[1:2]),
        lambda: story.checkpoint(MEMBERS[:1]),
        lambda: story.stop("open"),
    ]
    for act in acts:
        act()
        view.follow(story.evidence())
        fresh = AuditView()
        fresh.follow(story.evidence())
        assert snapshot(view) == snapshot(fresh)
        now_ms = story.now_ms
        assert alerts_of(view, now_ms=now_ms) == alerts_of(fresh, now_ms=now_ms)
        for one, other in zip(view.accounts, fresh.accounts, strict=True):
            assert one.figures(now_ms) == other.figures(now_ms)
        for run in view.runs:
            costs = view.runs[run].costs(view.receipts)
            assert costs == fresh.runs[run].costs(fresh.receipts)


def test_a_budget_that_is_looked_at_after_every_entry() -> None:
    story = Story()
    story.start(RUN)
    story.round(RUN, 1)
    story.take_back(MEMBERS[0], RUN, 2)
    story.round(RUN, 3)
    leaves = list(story.stores[MEMBERS[0]].leaves())
    view = AuditView()
    for count in range(1, len(leaves) + 1):
        evidence = evidence_with(story, MEMBERS[0], MemoryLedger(leaves[:count]))
        view.follow(evidence)
        fresh = AuditView()
        fresh.follow(evidence)
        found, anew = (
            {account.ledger: account.figures(story.now_ms) for account in one.accounts}
            for one in (view, fresh)
        )
        assert found == anew
    assert view.accounts[-1].ledger == "node-1"
    assert view.accounts[-1].figures(story.now_ms)[0].releases == 2


def test_only_new_leaves_are_read() -> None:
    story = sound()
    asked: list[tuple[int, int | None]] = []

    class Watched(MemoryLedger):
        def leaves(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
            asked.append((start, stop))
            return super().leaves(start, stop)

    store = Watched(story.stores[COORDINATOR].leaves())
    evidence = evidence_with(story, COORDINATOR, store)
    view = AuditView()
    view.follow(evidence)
    size = store.size()
    assert asked == [(0, size)]
    view.follow(evidence)
    assert asked == [(0, size)]
    with store.turn() as turn:
        turn.append("writer.began", {"writer": "w"}, time_ms=story.now_ms)
    view.follow(evidence)
    assert asked == [(0, size), (size, size + 1)]


def test_what_is_appended_later_is_shown() -> None:
    story = sound()
    app = app_of(story)
    assert ask(app, "/runs/later").status_code == 404
    story.start("later")
    assert ask(app, "/runs/later").status_code == 200


def test_a_bundle_is_shown_as_well_as_a_home() -> None:
    story = sound()
    file = BytesIO()
    write_bundle(story.bundle(), file)
    evidence = bundled_evidence(read_bundle(file.getvalue()))
    app = app_of(story, evidence=evidence)
    for path in PAGES:
        assert ask(app, path).status_code == 200
    assert causes(story, evidence=evidence) == Counter()
    nodes = replace(evidence, coordinator=None)
    app = app_of(story, evidence=nodes)
    assert "not at hand" in ask(app, "/").text
    assert ask(app, "/budgets/2").status_code == 200
    assert ask(app, "/entries").status_code == 200


# -- hostile words --

HOSTILE = (
    "<script>alert(1)</script>",
    '"onfocus="alert(1)" x="',
    'ריבית בע"מ',
    "x" * 450,
    "a/b?c#d%2Fe&lang=fr",
    "银行 一号 {member}",
)


def test_hostile_words_stay_words() -> None:
    story = Story(HOSTILE[:5], federation="<b>north</b> {page}")
    run = "../<img src=x>?%00#&lang=zh"
    story.start(run, declined={HOSTILE[0]: "<script>alert(2)</script> " + "y" * 480})
    story.release(run, "statistics", 0)
    for number in (1, 2, 3, 4):
        story.round(run, number, without=HOSTILE[1:2])
    story.stop(run, "{why} <svg onload=alert(3)>")
    story.checkpoint(HOSTILE[1:3])
    app = app_of(story)
    seen: set[str] = set()
    waiting = ["/", "/runs", "/members", "/budgets", "/refusals", "/alerts", "/verify"]
    while waiting and len(seen) < 150:
        link = waiting.pop(0)
        if link in seen:
            continue
        seen.add(link)
        answer = ask(app, link)
        assert answer.status_code == 200, link
        require_harmless(answer)
        if answer.headers["content-type"].startswith("text/html"):
            assert "<img" not in answer.text
            waiting += [one for one in Page(answer.text).links if not one.startswith("#")]
    text = ask(app, "/members").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<bdi" in text


def test_what_turns_the_line_around_is_written_as_its_number() -> None:
    story = sound()
    entry = next(
        parse_leaf(leaf) for leaf in story.stores[COORDINATOR].leaves() if b"run.started" in leaf
    )
    document = str(entry.body["document"]).replace("default", "de\u202efault\u0000")
    story.now_ms += 1
    body = {**entry.body, "run": "turned", "document": document}
    story.add(COORDINATOR, "run.started", **body)
    index = story.stores[COORDINATOR].size() - 1
    text = ask(app_of(story), f"/entries/coordinator/{index}").text
    assert "\u202e" not in text
    assert "\\u202e" in text


# -- what is refused --


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/runs/nothing",
        "/members/nobody",
        "/budgets/0",
        "/budgets/99",
        "/budgets/one",
        "/entries/coordinator/99999999",
        "/entries/coordinator/-1",
        "/entries/coordinator/01",
        "/entries/nobody/0",
        "/entries/coordinator/x/proof",
        "/docs",
        "/openapi.json",
        "/redoc",
        "/style.css/",
        "/../etc/passwd",
        "/templates/base.html",
    ],
)
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_not_there(quiet: tuple[Story, FastAPI], path: str, language: str) -> None:
    answer = ask(quiet[1], f"{path}?lang={language}")
    assert answer.status_code == 404
    require_harmless(answer)
    assert WORDS[language]["error.404"] in answer.text  # type: ignore[index]


@pytest.mark.parametrize("path", ["/", "/runs", "/verify", "/export", "/style.css", "/nothing"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FETCH"])
def test_only_reading_and_verifying(quiet: tuple[Story, FastAPI], method: str, path: str) -> None:
    answer = ask(quiet[1], path, method=method)
    assert answer.status_code == (303 if (method, path) == ("POST", "/verify") else 405)
    assert answer.status_code == 303 or answer.headers["allow"] == "GET, HEAD"
    assert {name: answer.headers[name] for name in HEADERS} == dict(HEADERS)


def test_head_is_answered(quiet: tuple[Story, FastAPI]) -> None:
    for path in (*PAGES, *DOWNLOADS):
        assert ask(quiet[1], path, method="HEAD").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8787", 200),
        ("127.0.0.1:8787", 200),
        ("[::1]:8787", 200),
        ("evil.example", 400),
        ("evil.example:8787", 400),
        ("localhost.evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("10.0.0.7:8787", 400),
        ("localhost:8787@evil.example", 400),
        ("", 400),
    ],
)
def test_the_host_must_be_this_one(quiet: tuple[Story, FastAPI], host: str, status: int) -> None:
    answer = ask(quiet[1], "/", host=host)
    assert answer.status_code == status
    require_harmless(answer)
    assert status == 200 or quiet[0].federation not in answer.text


def test_one_host_and_no_more(quiet: tuple[Story, FastAPI]) -> None:
    app = quiet[1]
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"host", b"localhost")],
        "http_version": "1.1",
        "scheme": "http",
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 400


# -- tokens --


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (basic(TOKEN), 200),
        (f"Bearer {TOKEN}x", 401),
        ("Bearer ", 401),
        (basic(""), 401),
        ("Basic !!!", 401),
        (f"Digest {TOKEN}", 401),
        (TOKEN, 401),
    ],
)
def test_a_token_where_there_is_one(authorization: str | None, status: int) -> None:
    story = sound()
    access = access_for("0.0.0.0", token=TOKEN, certificates=False)  # noqa: S104
    app = app_of(story, access=access)
    headers = {} if authorization is None else {"authorization": authorization}
    for path in ("/", "/style.css", "/export", "/nothing"):
        answer = ask(app, path, headers=headers, host="10.0.0.7:8787")
        assert answer.status_code == (404 if (status, path) == (200, "/nothing") else status)
        require_harmless(answer)
        if status == 401:
            assert answer.headers["www-authenticate"].startswith("Basic realm=")
            assert story.federation not in answer.text
    assert ask(app, f"/?token={TOKEN}", host="10.0.0.7").status_code == 401
    assert TOKEN not in repr(access)


def test_who_listens_elsewhere_asks_who_comes() -> None:
    for host in ("0.0.0.0", "::", "10.0.0.7", "audit.example"):  # noqa: S104
        assert not is_loopback(host)
        with pytest.raises(RefusedError, match="give --token-file"):
            access_for(host, token=None, certificates=False)
        access_for(host, token=TOKEN, certificates=False)
        access_for(host, token=None, certificates=True)
    for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9"):
        assert access_for(host, token=None, certificates=False).local


def test_names_that_are_answered_elsewhere() -> None:
    wild = access_for("0.0.0.0", names=["Audit.Example"], token=TOKEN, certificates=False)  # noqa: S104
    assert wild.admits_host("audit.example:443")
    assert wild.admits_host("192.0.2.7")
    assert not wild.admits_host("evil.example")
    named = access_for("audit.example", token=TOKEN, certificates=False)
    assert named.admits_host("audit.example")
    assert not named.admits_host("192.0.2.7")


def test_a_token_is_kept_from_others_and_long_enough(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    assert read_token(path) == TOKEN
    path.chmod(0o640)
    with pytest.raises(InputError, match="chmod 600"):
        read_token(path)
    path.chmod(0o600)
    for text in ("short", "two words that are long enough", "", "ключ" * 8):
        path.write_text(text)
        with pytest.raises(InputError):
            read_token(path)
    with pytest.raises(InputError):
        read_token(tmp_path / "none")


# -- verifying and exporting --


def test_a_verification_says_what_it_checked() -> None:
    story = sound()
    app = app_of(story)
    assert "Not verified yet" in ask(app, "/verify").text
    answer = ask(app, "/verify?lang=en", method="POST")
    assert (answer.status_code, answer.headers["location"]) == (303, "/verify?lang=en")
    text = ask(app, answer.headers["location"]).text
    for words in (WORDS["en"]["verify.holds"], "all entries have their hashes", 'role="status"'):
        assert words in text
    assert 'aria-live="polite"' in text
    assert WORDS["zh"]["verify.holds"] in ask(app, "/?lang=zh").text
    story.start("later")
    assert "entries were added since" in ask(app, "/verify").text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NotVerifiedError("step 2 (tree): <b>entry</b> 7 has another hash"), "another hash"),
        (ZeroDivisionError("secret"), "the verifier itself failed (ZeroDivisionError)"),
    ],
)
def test_a_verification_that_fails_is_an_alert(error: Exception, said: str) -> None:
    def verify() -> Verification:
        raise error

    app = app_of(sound(), verify=verify)
    ask(app, "/verify", method="POST")
    for path in ("/verify", "/", "/alerts"):
        answer = ask(app, path)
        require_harmless(answer)
        assert said in answer.text
        assert "secret" not in answer.text
    assert WORDS["en"]["verify.fails"] in ask(app, "/").text


def test_one_verification_at_a_time_and_pages_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.audit_page.page.WAIT_S", 0.05)
    go, calls = threading.Event(), Counter[str]()

    def verify() -> Verification:
        calls["verify"] += 1
        assert go.wait(120)
        return HOLDS

    app = app_of(sound(), verify=verify)
    for _ in range(3):
        assert ask(app, "/verify", method="POST").status_code == 303
    for path in PAGES:
        assert ask(app, path).status_code == 200
    assert "A verification runs since" in ask(app, "/verify").text
    assert calls["verify"] == 1
    monkeypatch.setattr("federation.audit_page.page.WAIT_S", 120)
    go.set()
    ask(app, "/verify", method="POST")
    assert WORDS["en"]["verify.holds"] in ask(app, "/verify").text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        ({"sec-fetch-site": "same-origin", "origin": "null"}, 303),
        ({"origin": "http://localhost:8787"}, 303),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:8080"}, 403),
    ],
)
def test_no_other_site_starts_a_verification(
    quiet: tuple[Story, FastAPI], headers: dict[str, str], status: int
) -> None:
    assert ask(quiet[1], "/verify", method="POST", headers=headers).status_code == status


def test_an_export_is_the_bundle_and_nothing_else() -> None:
    story = sound()
    file = BytesIO()
    write_bundle(story.bundle(), file)
    data = file.getvalue()
    calls = Counter[str]()

    def export() -> Iterator[bytes]:
        calls["export"] += 1
        return (data[at : at + 4096] for at in range(0, len(data), 4096))

    app = app_of(story, export=export)
    assert ask(app, "/export", method="HEAD").status_code == 200
    assert calls["export"] == 0
    answer = ask(app, "/export")
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(data).digest()
    disposition = answer.headers["content-disposition"]
    assert disposition == 'attachment; filename="north-harbour-evidence.jsonl"'


def test_an_export_that_cannot_be_made_says_why() -> None:
    def export() -> Iterator[bytes]:
        raise InputError("the coordinator's identity is missing; restore it")

    answer = ask(app_of(sound(), export=export), "/export")
    assert answer.status_code == 503
    assert "identity is missing" in answer.text
    require_harmless(answer)


def test_a_ledger_that_cannot_be_read_any_more_says_why() -> None:
    class Broken(MemoryLedger):
        broken = False

        def size(self) -> int:
            if self.broken:
                raise InputError("the ledger <x> cannot be read; check its disk")
            return super().size()

    story = sound()
    store = Broken(story.stores[COORDINATOR].leaves())
    app = app_of(story, evidence=evidence_with(story, COORDINATOR, store))
    store.broken = True
    answer = ask(app, "/")
    assert answer.status_code == 503
    assert "the ledger &lt;x&gt; cannot be read" in answer.text
    store.broken = False
    assert ask(app, "/").status_code == 200


def test_what_goes_wrong_inside_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> list[Alert]:
        raise KeyError("a secret")

    app = app_of(sound())
    monkeypatch.setattr("federation.audit_page.page.alerts_of", broken)
    answer = ask(app, "/")
    assert answer.status_code == 500
    require_harmless(answer)
    assert "secret" not in answer.text
    assert "secret" in caplog.text


# -- words, colours and how it listens --


def _places(words: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(words) if name}


def test_both_languages_have_the_same_words() -> None:
    assert WORDS["en"].keys() == WORDS["zh"].keys()
    for key, words in WORDS["en"].items():
        assert words.strip() == words != ""
        assert WORDS["zh"][key]
        assert _places(words) == _places(WORDS["zh"][key]), key
        assert "<" not in words + WORDS["zh"][key]
    assert {f"kind.{kind}" for kind in KINDS} < WORDS["en"].keys()


def test_every_word_of_the_templates_exists_and_no_other() -> None:
    folder = files("federation.audit_page").joinpath("templates")
    texts = [one.read_text(encoding="utf-8") for one in folder.iterdir()]
    texts += [
        files("federation.audit_page").joinpath(name).read_text(encoding="utf-8")
        for name in ("page.py", "guard.py", "sheet.py", "alert.py")
    ]
    text = "\n".join(texts)
    literal = set(re.findall(r'"([a-z_]+\.[a-z_]+)"', text))
    begun = set(re.findall(r'"([a-z_]+\.)"', text))
    words = WORDS["en"].keys()
    known = {key.split(".")[0] for key in words}
    used = {key for key in literal if key.split(".")[0] in known and not key.endswith(".html")}
    assert used - {key for key in used if key in KINDS} <= words
    assert begun <= {key.split(".")[0] + "." for key in words}
    unused = []
    for key in words:
        covered = key in literal or any(key.startswith(prefix) for prefix in begun)
        if not covered and not key.startswith(("error.", "alert.")):
            unused.append(key)
    assert unused == []


def test_colours_can_be_read() -> None:
    style = files("federation.audit_page").joinpath("style.css").read_text(encoding="utf-8")
    found = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    light = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", found[0]))
    dark = {**light, **dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", found[1]))}
    papers = ("page", "paper", "band")
    pairs = [(ink, paper) for ink in ("ink", "quiet", "link") for paper in papers]
    pairs += [(tone, f"{tone}-back") for tone in ("good", "warn", "bad")]
    pairs += [("ink", f"{tone}-back") for tone in ("good", "warn", "bad")]
    pairs += [("link", f"{tone}-back") for tone in ("warn", "bad")]
    pairs += [("on-accent", "accent"), ("paper", "link")]
    for colours in (light, dark):
        for ink, paper in pairs:
            assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
        for line in ("line-one", "line-two"):
            assert contrast(colours[line], colours["paper"]) >= 3
    assert contrast("#777777", "#888888") < 4.5
    assert "url(" not in style
    assert "@import" not in style


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_how_it_listens(quiet: tuple[Story, FastAPI], tmp_path: Path) -> None:
    config = config_of(quiet[1], None)
    assert not config.server_header
    assert not config.proxy_headers
    assert not config.access_log
    assert config.lifespan == "off"
    assert config.limit_concurrency is not None
    assert config.h11_max_incomplete_event_size is not None
    assert config.timeout_keep_alive <= 10
    with listen("127.0.0.1", 0) as listening, pytest.raises(InputError, match="another --port"):
        listen("127.0.0.1", listening.getsockname()[1])
    nothing = Certificate(tmp_path / "none.pem", tmp_path / "none.key", None)
    with pytest.raises(InputError, match="PEM"):
        nothing.names()


def test_links_do_not_leave_this_page(eventful: tuple[Story, FastAPI]) -> None:
    text = ask(eventful[1], "/").text
    for link in Page(text).links:
        assert urlsplit(link).netloc == ""
    assert public_of(MEMBERS[0]).hex() not in ask(eventful[1], "/verify").text
    assert digest("contract") not in text
