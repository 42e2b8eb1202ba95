"""Debian's chromium, driven by playwright: pages from files that must not reach for a network, and pages of a server on loopback.

Screenshots of what a person would see go to `test_artifacts/screenshots/` of the checkout, to be looked at.
"""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from thesis_assets_tests.services.required import absent

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SCREENSHOTS = Path(__file__).parents[2] / "test_artifacts" / "screenshots"
WITHIN_THE_FILE = ("file:", "data:", "blob:", "about:")


def require_browser() -> None:
    """Skip the test (or fail it, where `THESIS_ASSETS_REQUIRE_SERVICES` is 1) where there is no chromium or no playwright."""
    if shutil.which("chromium") is None:
        pytest.skip(absent("chromium", "it is not on the path"))
    pytest.importorskip("playwright", reason="playwright is not installed; it is in the extra `dev`")


@contextlib.contextmanager
def chromium(*flags: str) -> Iterator["Browser"]:
    """A headless browser, with more flags than the usual; every page of it is closed with it."""
    require_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*FLAGS, *flags])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page, and what it did that a person does not see: requests beyond its file, errors, messages of the console."""

    page: "Page"
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def screenshot(self, name: str, *, full_page: bool = True) -> Path:
        """Keep what is seen now as `<name>.png`."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path, full_page=full_page)
        return path


@contextlib.contextmanager
def opened(
    browser: "Browser",
    address: str | Path,
    *,
    size: tuple[int, int] = (1280, 900),
    colours: Literal["light", "dark"] = "light",
) -> Iterator[Watched]:
    """A page that may load nothing but itself: on leaving, a request beyond the file, or an error, fails the test.

    Args:
        address: a file, or an address; an address of a server may load from that server.
    """
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=colours)
    watched = Watched(context.new_page())
    target = address.as_uri() if isinstance(address, Path) else address
    allowed = WITHIN_THE_FILE if isinstance(address, Path) else (*WITHIN_THE_FILE, origin(target))

    def note(request: "Request") -> None:
        if not request.url.startswith(allowed):
            watched.requests.append(request.url)

    watched.page.on("request", note)
    watched.page.on("pageerror", lambda error: watched.errors.append(str(error)))
    watched.page.on("console", lambda line: watched.errors.append(line.text) if line.type == "error" else None)
    try:
        watched.page.goto(target, wait_until="domcontentloaded")
        yield watched
        assert watched.requests == []
        assert watched.errors == []
    finally:
        context.close()


def origin(address: str) -> str:
    """`http://127.0.0.1:3000/a/b` -> `http://127.0.0.1:3000`."""
    return "/".join(address.split("/")[:3])
