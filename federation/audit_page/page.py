"""The page as an application: every address, and what it shows. Nothing is written anywhere."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from federation.audit_page import chart
from federation.audit_page.access import Access
from federation.audit_page.account import ABORTED, Account, PartFigures, Reserved
from federation.audit_page.alert import Alert, alerts_of
from federation.audit_page.guard import App, Guard
from federation.audit_page.ledger_index import LedgerIndex
from federation.audit_page.paging import ROWS, Paged, page_of
from federation.audit_page.refusal import Refusal
from federation.audit_page.run import Release, RunCost, RunView
from federation.audit_page.sheet import LANG, Sheet, prepare
from federation.audit_page.shown_entry import leaf_at, proof_of, show
from federation.audit_page.verification import Verification, Verifier
from federation.audit_page.view import AuditView
from federation.audit_page.words import LANGUAGES, WORDS, Language, language_of
from federation.evidence import Evidence
from federation.listing import Line, listing
from privacy.errors import NotVerifiedError
from privacy.ledger.entry import KINDS, Entry, parse_leaf
from privacy.ledger.merkle import leaf_hash

WAIT_S: Final = 10.0
"""How long a POST waits for a verification before it shows that one runs."""
_WAITING_MAX: Final = 4
_LATEST: Final = 10
_READ: Final = ["GET", "HEAD"]
_NUMBER = re.compile("0|[1-9][0-9]{0,14}")
_UNSAFE = re.compile("[^A-Za-z0-9._-]+")
_Export: TypeAlias = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class _Row:
    """An entry in a list; its `entry` is None where it cannot be read."""

    index: int
    entry: Entry | None
    leaf: str


def make_app(
    evidence: Evidence,
    *,
    verify: Callable[[], Verification],
    export: _Export,
    now_ms: Callable[[], int],
    access: Access,
    language: Language | None = None,
) -> FastAPI:
    """Return the page over all ledgers at hand, after reading them once.

    Args:
        evidence: The ledgers; what is appended to them later is shown, too.
        verify: Verifies them; runs in a thread of its own, one at a time.
        export: Yields the bytes of a bundle of them.
        now_ms: Milliseconds since 1970 UTC.
        access: What every request must bring.
        language: Of whoever does not ask for another; None asks their browser.

    Raises:
        InputError: a ledger cannot be read.
        NotVerifiedError: a ledger's file is broken.
    """
    site = _Site(evidence, verify=verify, export=export, now_ms=now_ms, language=language)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    for path, endpoint in site.pages().items():
        app.add_api_route(
            path, endpoint, methods=_READ, response_model=None, include_in_schema=False
        )
    app.add_api_route(
        "/verify", site.start_verify, methods=["POST"], response_model=None, include_in_schema=False
    )
    app.add_exception_handler(HTTPException, site.on_http_exception)
    app.add_middleware(Guard, access=access, refuse=site.refuse)
    return app


class _Site:
    """One endpoint for each address; a lock lets one request at a time read the view."""

    def __init__(
        self,
        evidence: Evidence,
        *,
        verify: Callable[[], Verification],
        export: _Export,
        now_ms: Callable[[], int],
        language: Language | None,
    ) -> None:
        self._evidence = evidence
        self._export = export
        self._now_ms = now_ms
        self._language = language
        self._view = AuditView()
        self._mutex = threading.Lock()
        self._verifier = Verifier(verify, now_ms=now_ms)
        self._waiting = threading.BoundedSemaphore(_WAITING_MAX)
        self._size_then = 0
        self._view.follow(evidence)
        self._alerts()
        prepare()

    def pages(self) -> Mapping[str, Callable[..., Response]]:
        """Address -> what answers it."""
        return {
            "/": self.overview,
            "/runs": self.runs,
            "/runs/{run:path}": self.run,
            "/members": self.members,
            "/members/{name:path}": self.member,
            "/budgets": self.budgets,
            "/budgets/{number}": self.budget,
            "/refusals": self.refusals,
            "/alerts": self.alerts,
            "/entries": self.entries,
            "/entries/{slug}/{index}": self.entry,
            "/entries/{slug}/{index}/proof": self.entry_proof,
            "/entries/{slug}/{index}/leaf": self.entry_leaf,
            "/verify": self.verify,
            "/export": self.export,
            "/style.css": self.style,
            "/icon.svg": self.icon,
        }

    # -- pages --

    def overview(self, request: Request) -> Response:
        """Alerts first, then totals, the newest checkpoint, budgets and the latest runs."""
        with self._following() as view:
            coordinator = view.coordinator
            totals = [
                ("is.ledgers", len(view.ledgers)),
                ("is.entries", view.size),
                ("is.runs", len(view.runs)),
                ("is.rounds", sum(run.rounds for run in view.runs.values())),
                ("is.releases", sum(len(run.releases) for run in view.runs.values())),
                ("is.members", len(view.members)),
                ("nav.refusals", len(view.refusals)),
            ]
            return self._page(
                request,
                "overview",
                totals=totals,
                coordinator=coordinator,
                absent=_absent(view, coordinator),
                budgets=self._budget_rows(view.accounts[:ROWS]),
                runs=self._run_rows(list(view.runs.values())[: -_LATEST - 1 : -1]),
            )

    def runs(self, request: Request) -> Response:
        """All runs, the latest first."""
        with self._following() as view:
            paged = _paged(request, list(view.runs.values())[::-1])
            return self._page(request, "runs", paged=paged, rows=self._run_rows(paged.rows))

    def run(self, request: Request, run: str) -> Response:
        """One run."""
        with self._following() as view:
            found = view.runs.get(run)
            if found is None:
                raise HTTPException(404)
            paged = _paged(request, found.releases[::-1])
            dangling = {one.reserved for one in found.dangling(self._now_ms())}
            return self._page(
                request,
                "run",
                here="runs",
                run=found,
                costs=found.costs(view.receipts),
                parties=sorted(found.parties.values(), key=lambda one: one.name),
                paged=paged,
                rows=[(one, _state(one, dangling), _missing(one)) for one in paged.rows],
            )

    def members(self, request: Request) -> Response:
        """Who takes part, by the acts on record, and all members of runs."""
        with self._following() as view:
            people = _participants(view, self._now_ms())
            members = sorted(view.members.values(), key=lambda one: one.name)
            # one pager for both lists
            paged = _paged(request, range(max(len(people), len(members))))
            window = slice(max(0, paged.first - 1), paged.last)
            return self._page(
                request,
                "members",
                paged=paged,
                membership=view.membership,
                people=people[window],
                members=members[window],
                known=view.members,
                ledgers=view.ledgers,
            )

    def member(self, request: Request, name: str) -> Response:
        """One member."""
        with self._following() as view:
            found = view.members.get(name)
            if found is None:
                raise HTTPException(404)
            paged = _paged(request, [view.runs[run] for run in found.runs][::-1])
            refusals = _latest(one for one in view.refusals if one.member == name)[:ROWS]
            return self._page(
                request,
                "member",
                here="members",
                member=found,
                ledgers=view.ledgers,
                budgets=self._budget_rows(
                    [one for one in view.accounts if one.ledger in found.ledgers]
                ),
                refusals=self._refusal_rows(refusals),
                paged=paged,
                rows=self._run_rows(paged.rows),
            )

    def budgets(self, request: Request) -> Response:
        """All budgets."""
        with self._following() as view:
            paged = _paged(request, view.accounts)
            return self._page(request, "budgets", paged=paged, rows=self._budget_rows(paged.rows))

    def budget(self, request: Request, number: str) -> Response:
        """One budget over time."""
        place = _number(number, 404) - 1
        with self._following() as view:
            if not 0 <= place < len(view.accounts):
                raise HTTPException(404)
            account = view.accounts[place]
            stand = self._budget_rows([account])
            paged = _paged(request, range(len(account) - 1, -1, -1))
            parts = [figures.part for _, _, figures in stand if figures is not None]
            return self._page(
                request,
                "budget",
                here="budgets",
                account=account,
                owner=view.ledgers[account.ledger].owner,
                stand=stand,
                charts=[chart.chart_of(account, part) for part in parts],
                width=chart.WIDTH,
                height=chart.HEIGHT,
                left=chart.LEFT,
                right=chart.RIGHT,
                top=chart.TOP,
                shares=account.shares()[: -ROWS - 1 : -1],
                paged=paged,
                rows=_reservations(account, paged.rows),
            )

    def refusals(self, request: Request) -> Response:
        """Everybody's no."""
        with self._following() as view:
            paged = _paged(request, _latest(view.refusals))
            return self._page(request, "refusals", paged=paged, rows=self._refusal_rows(paged.rows))

    def alerts(self, request: Request) -> Response:
        """What to look at."""
        with self._following():
            return self._page(request, "alerts", paged=_paged(request, self._alerts()))

    def entries(self, request: Request) -> Response:
        """A ledger's entries, some or all."""
        query = request.query_params
        with self._following() as view:
            slug = query.get("ledger") or next(iter(view.ledgers), "")
            ledger = view.ledgers.get(slug)
            kind, run = query.get("kind", ""), query.get("run", "")
            if ledger is None:
                raise HTTPException(404)
            if kind and kind not in KINDS:
                raise HTTPException(400)
            paged = _paged(request, ledger.places(kind=kind, run=run))
            return self._page(
                request,
                "entries",
                ledgers=view.ledgers,
                ledger=ledger,
                kind=kind,
                run=run,
                paged=paged,
                rows=_rows(ledger, paged.rows),
            )

    def entry(self, request: Request, slug: str, index: str) -> Response:
        """One entry with its proof."""
        with self._following() as view:
            ledger, place = _ledger(view, slug), _number(index, 404)
            try:
                shown = show(ledger, place)
            except LookupError:
                raise HTTPException(404) from None
            told = "" if shown.entry is None else str(shown.entry.body.get("run", ""))
            return self._page(
                request,
                "entry",
                here="entries",
                ledger=ledger,
                shown=shown,
                run=told if told in view.runs else "",
                list_page=place // ROWS + 1,
            )

    def entry_proof(self, slug: str, index: str) -> Response:
        """One entry's proof as a file."""
        with self._following() as view:
            ledger, place = _ledger(view, slug), _number(index, 404)
            try:
                data = proof_of(ledger, place)
            except LookupError:
                raise HTTPException(404) from None
        return _file(data, f"{slug}-{place}.tlog-proof", "text/plain; charset=utf-8")

    def entry_leaf(self, slug: str, index: str) -> Response:
        """One entry's bytes, as they are hashed."""
        with self._following() as view:
            ledger, place = _ledger(view, slug), _number(index, 404)
            try:
                data = leaf_at(ledger, place)
            except LookupError:
                raise HTTPException(404) from None
        return _file(data, f"{slug}-{place}.json", "application/octet-stream")

    def verify(self, request: Request) -> Response:
        """The last verification, and a button for the next."""
        with self._following():
            return self._page(request, "verify")

    def start_verify(self, request: Request) -> Response:
        """Verify, wait a while for the result, and show it."""
        if self._verifier.start():
            self._size_then = self._view.size
        # not all threads may wait, or no page would be made meanwhile
        if self._waiting.acquire(blocking=False):
            try:
                self._verifier.wait(WAIT_S)
            finally:
                self._waiting.release()
        asked = request.query_params.get(LANG, "")
        return RedirectResponse(
            f"/verify?{LANG}={asked}" if asked in LANGUAGES else "/verify", status_code=303
        )

    def export(self, request: Request) -> Response:
        """All evidence as one file."""
        chunks = self._export() if request.method == "GET" else iter(())
        # what cannot be exported says so before the first byte
        first = next(chunks, b"")
        name = _UNSAFE.sub("-", self._evidence.federation).strip("-.")[:64] or "federation"
        return StreamingResponse(
            chain([first], chunks),
            media_type="application/octet-stream",
            headers={"content-disposition": f'attachment; filename="{name}-evidence.jsonl"'},
        )

    def style(self) -> Response:
        """How it looks."""
        return Response(_STYLE, media_type="text/css; charset=utf-8")

    def icon(self) -> Response:
        """What a browser shows beside the title."""
        return Response(_ICON, media_type="image/svg+xml")

    # -- what cannot be shown --

    def refuse(self, status: int, sentence: str, scope: Mapping[str, Any]) -> App:
        """Return the page that says why there is no other; a sentence is a key or words."""
        sheet = self._sheet(Request(dict(scope)))
        text = sheet.say(sentence) if sentence in WORDS["en"] else sentence
        body = sheet.render("error.html", status=status, sentence=text)
        headers = {
            401: {"www-authenticate": 'Basic realm="tacit", charset="UTF-8"'},
            405: {"allow": "GET, HEAD"},
        }
        return HTMLResponse(body, status_code=status, headers=headers.get(status))

    def on_http_exception(self, request: Request, error: Exception) -> Response:
        """Answer what an endpoint refused."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        known = f"error.{status}"
        sentence = known if known in WORDS["en"] else "error.500"
        page = self.refuse(status, sentence, request.scope)
        return page if isinstance(page, Response) else Response(status_code=status)

    # -- what pages have in common --

    def _following(self) -> "_Following":
        return _Following(self._mutex, self._view, self._evidence)

    def _sheet(self, request: Request) -> Sheet:
        query = dict(request.query_params)
        asked = query.pop(LANG, "")
        return Sheet(
            language_of(asked, request.headers.get("accept-language", ""), self._language),
            asked=asked in LANGUAGES,
            path=request.scope["path"],
            raw_path=request.scope.get("raw_path", b"/").decode("latin-1"),
            query=query,
        )

    def _page(self, request: Request, name: str, *, here: str = "", **facts: object) -> Response:
        alerts = self._alerts()
        sheet = self._sheet(request)
        body = sheet.render(
            f"{name}.html",
            federation=self._view.federation,
            here=here or name,
            now_ms=self._now_ms(),
            alerts=alerts,
            alert_count=len(alerts),
            verifier=self._verifier,
            grown=max(0, self._view.size - self._size_then),
            **facts,
        )
        return HTMLResponse(body)

    def _alerts(self) -> list[Alert]:
        result = self._verifier.result
        failed = []
        if result is not None and not result.holds:
            why = {"why": result.failure or "?"}
            failed.append(Alert("critical", "verify_failed", why, "/verify", {}))
        return failed + alerts_of(self._view, now_ms=self._now_ms())

    def _run_rows(self, runs: Sequence[RunView]) -> list[tuple[RunView, tuple[RunCost, ...]]]:
        return [(run, run.costs(self._view.receipts)) for run in runs]

    def _budget_rows(
        self, accounts: Sequence[Account]
    ) -> list[tuple[str, Account, PartFigures | None]]:
        rows: list[tuple[str, Account, PartFigures | None]] = []
        for account in accounts:
            owner = self._view.ledgers[account.ledger].owner
            rows += [(owner, account, part) for part in account.figures(self._now_ms()) or (None,)]
        return rows

    def _refusal_rows(self, refusals: Sequence[Refusal]) -> list[tuple[Refusal, str]]:
        return [(one, self._view.run_of(one)) for one in refusals]


class _Following:
    """Holds the view for one request, on the ledgers' current state."""

    def __init__(self, mutex: threading.Lock, view: AuditView, evidence: Evidence) -> None:
        self._mutex = mutex
        self._view = view
        self._evidence = evidence

    def __enter__(self) -> AuditView:
        self._mutex.acquire()
        try:
            self._view.follow(self._evidence)
        except BaseException:
            self._mutex.release()
            raise
        return self._view

    def __exit__(self, *_: object) -> None:
        self._mutex.release()


def _paged(request: Request, rows: Sequence[Any]) -> Paged[Any]:
    try:
        return page_of(rows, _number(request.query_params.get("page", "1"), 400))
    except LookupError:
        raise HTTPException(404) from None


def _number(text: str, status: int) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise HTTPException(status)
    return int(text)


def _ledger(view: AuditView, slug: str) -> LedgerIndex:
    ledger = view.ledgers.get(slug)
    if ledger is None:
        raise HTTPException(404)
    return ledger


def _rows(ledger: LedgerIndex, places: Sequence[int]) -> list[_Row]:
    if isinstance(places, range) and places:
        leaves = list(ledger.view.store.leaves(places[0], places[-1] + 1))
    else:
        leaves = [leaf_at(ledger, place) for place in places]
    return [_row(place, leaf) for place, leaf in zip(places, leaves, strict=False)]


def _row(index: int, leaf: bytes) -> _Row:
    try:
        entry: Entry | None = parse_leaf(leaf)
    except NotVerifiedError:
        entry = None
    return _Row(index, entry, leaf_hash(leaf).hex())


def _absent(view: AuditView, coordinator: LedgerIndex | None) -> list[str]:
    """Members who have not cosigned the newest checkpoint, where anybody has."""
    if coordinator is None or coordinator.leading is None:
        return []
    there = {one.member for one in coordinator.leading.cosigners if one.verified}
    return [name for name in sorted(view.members) if name not in there][:_LATEST]


def _participants(view: AuditView, now_ms: int) -> list[Line]:
    return [] if view.membership is None else listing(view.membership, view.acts, now_ms=now_ms)


def _latest(refusals: Iterable[Refusal]) -> list[Refusal]:
    return sorted(refusals, key=lambda one: -one.time_ms)


def _state(release: Release, dangling: set[int]) -> str:
    if release.opened < 0:
        return "dangling" if release.reserved in dangling else "waiting"
    if release.kept is None:
        return "opened"
    return "kept" if release.kept else "undone"


def _missing(release: Release) -> str:
    return ", ".join(sorted(set(release.asked) - set(release.members)))


def _reservations(
    account: Account, places: Sequence[int]
) -> list[tuple[Reserved, list[tuple[float, float]]]]:
    """Reservations with the epsilon after each, for each part that they are about."""
    ascending = sorted(places)
    after: dict[tuple[str, str], dict[int, float]] = {}
    listed = [account.reserved(place) for place in ascending]
    for part in {part for one in listed for part in one.parts}:
        mine = [one.place for one in listed if part in one.parts]
        for against in ("coordinator", "solo"):
            course = account.course(part, against, mine)
            after[part, against] = dict(zip(mine, course, strict=True))
    return [
        (
            one,
            []
            if one.state == ABORTED
            else [
                (after[part, "coordinator"][one.place], after[part, "solo"][one.place])
                for part in one.parts
            ],
        )
        for one in reversed(listed)
    ]


def _file(data: bytes, name: str, media_type: str) -> Response:
    return Response(
        data,
        media_type=media_type,
        headers={"content-disposition": f'attachment; filename="{quote(name)}"'},
    )


_STYLE: Final = files("federation.audit_page").joinpath("style.css").read_bytes()
_ICON: Final = files("federation.audit_page").joinpath("icon.svg").read_bytes()
