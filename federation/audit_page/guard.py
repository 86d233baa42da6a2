"""What every request passes and every answer carries, whatever the page behind it does."""

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, TypeAlias

from federation.audit_page.access import Access
from privacy.errors import TacitError

HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "vary": "Accept-Language, Authorization",
}
VERIFY: Final = "/verify"
_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
App: TypeAlias = Callable[[_Message, _Receive, _Send], Awaitable[None]]
# (status, sentence's key or a sentence, scope) -> an application that answers with the page
Refuse: TypeAlias = Callable[[int, str, Mapping[str, Any]], App]
_log = logging.getLogger(__name__)


class Guard:
    """An ASGI middleware.

    A request goes on only if its Host is the page's own, it holds the token where there is one, its
    method is GET or HEAD, or POST to `VERIFY`, and no other site's page sent it. Every answer, also
    to what went wrong, has `HEADERS`.
    """

    def __init__(self, app: App, *, access: Access, refuse: Refuse) -> None:
        self._app = app
        self._access = access
        self._refuse = refuse

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        begun = False

        async def send_with_headers(message: _Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                kept = [
                    (name, value)
                    for name, value in message["headers"]
                    if name.decode("latin-1") not in HEADERS
                ]
                message["headers"] = [
                    *kept,
                    *((name.encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        app = self._refusal(scope) or self._app
        try:
            await app(scope, receive, send_with_headers)
        except TacitError as error:
            if begun:
                raise
            await self._refuse(503, str(error), scope)(scope, receive, send_with_headers)
        except Exception:
            _log.exception("a page could not be made")
            if begun:
                raise
            await self._refuse(500, "error.500", scope)(scope, receive, send_with_headers)

    def _refusal(self, scope: _Message) -> App | None:
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value.decode("latin-1"))
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or not self._access.admits_host(hosts[0]):
            return self._refuse(400, "error.host", scope)
        if not self._access.admits(headers.get(b"authorization", [""])[0]):
            return self._refuse(401, "error.401", scope)
        method, path = scope["method"], scope["path"]
        if method not in {"GET", "HEAD"} and (method, path) != ("POST", VERIFY):
            return self._refuse(405, "error.405", scope)
        if method == "POST" and _is_foreign(headers, hosts[0]):
            return self._refuse(403, "error.403", scope)
        return None


def _is_foreign(headers: Mapping[bytes, list[str]], host: str) -> bool:
    """Whether a page of another site sent the form."""
    site = headers.get(b"sec-fetch-site", [])
    if site:
        return site[0] not in {"same-origin", "none"}
    # without it: browsers say `null` where the page's own policy is to send no referrer
    origin = headers.get(b"origin", ["null"])[0]
    return origin != "null" and origin.partition("://")[2] != host
