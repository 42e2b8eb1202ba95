"""What the guard before the web server lets through and what it refuses, request by request; no server is needed."""

import asyncio
from typing import Any

import pytest

from thesis_assets.cli.services import LOOPBACK, Guard, refuse
from thesis_assets.errors import ThesisAssetsError

HERE = {"host": "127.0.0.1:3000"}
JSON = {"content-type": "application/json"}
OWN_PAGE = HERE | {"origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-origin"}
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
NAMES = (*LOOPBACK, "login.cluster")


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        pytest.param("GET", "/", HERE, id="a program"),
        pytest.param("GET", "/runs", HERE | {"sec-fetch-site": "none"}, id="an address that a person typed"),
        pytest.param("GET", "/runs/1", HERE | LINK, id="a link on a page of the reports"),
        pytest.param("GET", "/_next/a.js", HERE | {"sec-fetch-site": "same-origin"}, id="a script of the UI"),
        pytest.param("GET", "/graphql", HERE, id="the page to try queries on"),
        pytest.param("GET", "/assets?query=a", HERE, id="a search in the UI"),
        pytest.param("POST", "/graphql", OWN_PAGE | JSON, id="a query of the UI"),
        pytest.param("POST", "/graphql", HERE | JSON, id="a query of a program"),
        pytest.param("POST", "/graphql", HERE | {"content-type": "application/json; charset=utf-8"}, id="charset"),
        pytest.param("WEBSOCKET", "/graphql", OWN_PAGE, id="a subscription of the UI"),
        pytest.param("WEBSOCKET", "/graphql", HERE, id="a subscription of a program"),
        *(
            pytest.param("POST", "/graphql", JSON | {"host": host, "origin": f"{scheme}://{host}"}, id=host)
            for scheme, host in (
                ("http", "localhost:8000"),
                ("http", "[::1]:3000"),
                ("http", "LOCALHOST"),
                ("https", "login.cluster:3443"),
            )
        ),
    ],
)
def test_the_servers_own_pages_and_programs_pass(method: str, path: str, headers: dict[str, str]) -> None:
    path, _, query = path.partition("?")
    refuse(method, path, query, headers, NAMES)


@pytest.mark.parametrize(
    ("method", "path", "headers", "why"),
    [
        pytest.param("GET", "/", {}, "Host", id="no name"),
        pytest.param("GET", "/", {"host": "evil.example:3000"}, "Host", id="DNS rebinding"),
        pytest.param("GET", "/", {"host": "127.0.0.1.evil.example"}, "Host", id="a name that begins like ours"),
        pytest.param("GET", "/", {"host": "evil@[::1"}, "Host", id="no host at all"),
        pytest.param("GET", "/", {"host": "127.0.0.1:3000@evil.example"}, "Host", id="a user's name"),
        pytest.param("POST", "/graphql", HERE | JSON | {"origin": "https://evil.example"}, "Origin", id="another site"),
        pytest.param(
            "POST", "/graphql", HERE | JSON | {"origin": "http://127.0.0.1:8888"}, "Origin", id="another port"
        ),
        pytest.param(
            "POST", "/graphql", HERE | JSON | {"origin": "http://localhost:3000"}, "Origin", id="another name"
        ),
        pytest.param("POST", "/graphql", HERE | JSON | {"origin": "null"}, "Origin", id="a page from a file"),
        pytest.param("GET", "/", HERE | {"origin": "https://evil.example"}, "Origin", id="reads too"),
        pytest.param("OPTIONS", "/graphql", HERE | {"origin": "https://evil.example"}, "Origin", id="may I?"),
        pytest.param("WEBSOCKET", "/graphql", HERE | {"origin": "https://evil.example"}, "Origin", id="a websocket"),
        pytest.param("POST", "/graphql", HERE | JSON | {"sec-fetch-site": "cross-site"}, "Sec-Fetch-Site", id="post"),
        pytest.param("POST", "/graphql", HERE | JSON | LINK, "Sec-Fetch-Site", id="a form that opens a page"),
        pytest.param("GET", "/", HERE | {"sec-fetch-site": "same-site"}, "Sec-Fetch-Site", id="a server beside"),
        pytest.param("GET", "/", HERE | LINK | {"sec-fetch-dest": "iframe"}, "Sec-Fetch-Site", id="a frame"),
        *(
            pytest.param("POST", path, HERE | {"content-type": kind}, "Content-Type", id=f"{kind} {path}")
            for path in ("/graphql", "/report_asset_materialization/nvs", "/report_asset_check/nvs")
            for kind in ("", "text/plain", "text/plain; a=application/json", "application/x-www-form-urlencoded")
        ),
        pytest.param("POST", "/report_asset_observation/nvs", HERE, "Content-Type", id="no type at all"),
        pytest.param("GET", "/graphql?query=mutation{a}", HERE, "query", id="an image's address"),
        pytest.param("GET", "/graphql?a=1&%71uery=%6dutation{a}", HERE, "query", id="escaped letters"),
        pytest.param("HEAD", "/graphql?query=", HERE, "query", id="head"),
    ],
)
def test_what_a_foreign_page_can_send_is_refused_with_the_reason(
    method: str, path: str, headers: dict[str, str], why: str
) -> None:
    path, _, query = path.partition("?")
    with pytest.raises(ThesisAssetsError) as refused:
        refuse(method, path, query, headers, NAMES)
    assert refused.value.key == why
    assert refused.value.remedy
    assert refused.value.wanted


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_what_is_refused_does_not_reach_dagster(kind: str) -> None:
    sent: list[dict[str, Any]] = []

    async def dagster(*_: object) -> None:
        pytest.fail("it was let through")

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": f"{kind}.request"}

    scope = {"type": kind, "path": "/graphql", "query_string": b"", "headers": [(b"host", b"evil.example")]}
    asyncio.run(Guard(dagster, [])(scope | ({"method": "GET"} if kind == "http" else {}), receive, send))

    if kind == "http":
        assert sent[0]["status"] == 403
        assert b"THESIS_UI_URL" in sent[1]["body"]
    else:
        assert [message["type"] for message in sent] == ["websocket.close"]  # before it was accepted: a 403
