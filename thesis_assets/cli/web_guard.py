"""What stands before Dagster's web server: it refuses what a page of another origin could have made a browser send.

Dagster's own server has no login and no such guard. It answers to any name (a foreign page reaches it by DNS rebinding), executes
a mutation that stands in an address (an `<img>` is enough) or comes as a form, and looks at no Origin.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from thesis_assets.errors import ThesisAssetsError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
QUERIES = ("application/json", "application/graphql")
"""Content types that a page of another origin can only send after asking, and the answer is no."""


class Guard:
    """An ASGI application before another: foreign requests are answered with 403 and the reason, websockets with 403.

    Args:
        app: Dagster's application.
        names: hosts under which the server is reached, besides loopback's.
    """

    def __init__(self, app: "ASGIApp", names: Collection[str]) -> None:
        self._app = app
        self._names = frozenset({*LOOPBACK, *names})

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        from starlette.datastructures import Headers
        from starlette.responses import PlainTextResponse

        if scope["type"] in ("http", "websocket"):
            method = scope.get("method", "WEBSOCKET")
            try:
                refuse(
                    method, scope["path"], scope["query_string"].decode("latin-1"), Headers(scope=scope), self._names
                )
            except ThesisAssetsError as refused:
                if scope["type"] == "websocket":
                    await send({"type": "websocket.close", "code": 1008})
                else:
                    await PlainTextResponse(f"refused: {refused}\n", status_code=403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def refuse(method: str, path: str, query: str, headers: Mapping[str, str], names: Collection[str]) -> None:
    """Pass what a program, or a page of this very server, may ask.

    Args:
        method: of HTTP, or `WEBSOCKET`.
        headers: by lower-case names.
        names: hosts under which the server is reached.

    Raises:
        ThesisAssetsError: the request could come from a foreign page.
    """
    host = headers.get("host", "").lower()
    if _name(host) not in names:
        raise ThesisAssetsError(
            "this server does not answer to this name",
            key="Host",
            found=host,
            wanted=f"{', '.join(sorted(names))}, on any port",
            remedy="where the name is yours: set THESIS_UI_URL=https://<name>, in .env, and start the server again",
        )
    origin = headers.get("origin")
    if origin is not None and origin.lower().partition("://")[2] != host:
        raise ThesisAssetsError(
            "a page of another origin may not use this server",
            key="Origin",
            found=origin,
            wanted=f"the server's own pages: http(s)://{host}",
            remedy="open the UI itself; behind a proxy, pass on the browser's own Host (nginx: proxy_set_header Host $http_host)",
        )
    # Ports do not count here: another server of this machine is `same-site`. Browsers leave the header out where they do not trust
    # the address; then the Origin has to do.
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not _follows_a_link(method, headers):
        raise ThesisAssetsError(
            "another site may link to this server's pages, but neither show them in itself nor send anything",
            key="Sec-Fetch-Site",
            found=headers["sec-fetch-site"],
            wanted="same-origin",
            remedy="open the address in a tab of its own",
        )
    content = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method not in ("GET", "HEAD", "WEBSOCKET") and content not in QUERIES:
        raise ThesisAssetsError(
            "what changes something is sent as JSON, never as a form",
            key="Content-Type",
            found=content or "none",
            wanted=" or ".join(QUERIES),
            remedy="curl -H 'Content-Type: application/json' --data '{...}'",
        )
    if method in ("GET", "HEAD") and path == "/graphql" and "query" in parse_qs(query, keep_blank_values=True):
        raise ThesisAssetsError(
            "a query does not stand in the address, where it could change something",
            key="query",
            found=method,
            wanted="POST",
            remedy="curl -H 'Content-Type: application/json' --data '{\"query\": ...}'",
        )


def _name(host: str) -> str | None:
    """`[::1]:3000` -> `::1`; None where it is no host."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _follows_a_link(method: str, headers: Mapping[str, str]) -> bool:
    """A whole page, in a tab; not a frame of another page, in which a person can be made to click."""
    page = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    return method in ("GET", "HEAD") and page
