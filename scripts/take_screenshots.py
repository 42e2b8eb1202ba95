"""Take the pictures of docs/ui_tour.md from the demo's own history, in Debian's chromium.

Run it after `make demo`: `make screenshots`. It starts the web server alone, read-only, on a free port of loopback.
"""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from thesis_assets.cli.console import prepare_dagster_home
from thesis_assets.settings import Settings
from thesis_assets.storage import write_bytes

if TYPE_CHECKING:
    from playwright.sync_api import Page

IMAGES = Path(__file__).parents[1] / "docs" / "images"
CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
SIZE = (1440, 900)
COLOURS = 128
"""Of each picture: a user interface has few, and a file of 256 is twice as large."""
START_S = 180
RUN = "demo%7Ctiny_a"
SCENE = "demo%7Cstudio_pair03_dance"


RELATIVE_PATHS = """(prefix) => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    while (texts.nextNode()) texts.currentNode.nodeValue = texts.currentNode.nodeValue.replaceAll(prefix, '')
}"""


@contextmanager
def web_server() -> Iterator[str]:
    """The address of a read-only server over this data home."""
    settings = Settings()
    home = prepare_dagster_home(settings)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = home / "screenshots.log"
    command = [sys.executable, "-m", "thesis_assets.cli.main", "serve", "--port", str(port), "--read-only"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"{address}/server_info", timeout=5).read()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the web server did not start: see {log}") from error
                time.sleep(1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def visit(page: "Page", address: str, text: str) -> None:
    """Open a page, and wait until it shows a text and nothing loads any more."""
    page.goto(address, wait_until="domcontentloaded")
    page.get_by_text(text, exact=True).filter(visible=True).first.wait_for()
    settle(page)


def settle(page: "Page") -> None:
    """Wait until nothing loads, and what moves has come to rest."""
    page.wait_for_timeout(1500)
    page.get_by_text("Loading", exact=False).first.wait_for(state="hidden")
    page.wait_for_timeout(1500)


def keep(page: "Page", name: str) -> None:
    """Write what is seen as docs/images/ui_<name>.png, in few colours, without this machine's folders."""
    page.evaluate(RELATIVE_PATHS, str(Settings().data_home.parent) + "/")
    with Image.open(BytesIO(page.screenshot())) as image:
        small = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    content = BytesIO()
    small.save(content, format="PNG", optimize=True)
    write_bytes(IMAGES / f"ui_{name}.png", content.getvalue())
    print(f"docs/images/ui_{name}.png: {len(content.getvalue()) // 1024} KB")


def show_picture(page: "Page", key: str) -> None:
    """Open the picture of one entry of a materialization's metadata."""
    page.get_by_role("row").filter(has_text=key).get_by_text("Show Markdown").first.click()
    page.locator("img[src^='data:image']").first.wait_for()
    settle(page)


def tour(page: "Page", address: str) -> None:
    """Every picture of the tour, in its order."""
    visit(page, address, "evaluate")
    keep(page, "overview")
    visit(page, f"{address}/asset-groups", "Global asset lineage")
    settle(page)
    keep(page, "lineage")
    visit(page, f"{address}/assets/scene_samples?view=partitions&partition={SCENE}", "samples per second")
    show_picture(page, "target")
    keep(page, "contact_sheet")
    visit(page, f"{address}/assets/tuned_checkpoint?view=partitions&partition={RUN}", "run directory")
    keep(page, "tuned_checkpoint")
    visit(page, f"{address}/assets/nvs?view=partitions&partition={RUN}", "results")
    keep(page, "nvs")
    visit(page, f"{address}/assets/nvs?view=overview", "Plots")
    page.get_by_text("Plots", exact=True).first.click()
    page.locator("canvas").first.wait_for()
    settle(page)
    keep(page, "plots")
    visit(page, f"{address}/assets/sample_set?view=checks", "Latest execution")
    keep(page, "checks")
    visit(page, Settings().reports.checks.as_uri(), "sample_set")
    keep(page, "check_page")


def main() -> None:
    """Take all of them.

    Raises:
        SystemExit: there is no browser, or no demo.
    """
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        raise SystemExit("there is no chromium: scripts/install_system_packages.sh installs it")
    if not Settings().reports.checks.is_file():
        raise SystemExit("there is nothing to show yet: `make demo` first")
    with web_server() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport={"width": SIZE[0], "height": SIZE[1]})
        page = context.new_page()
        page.set_default_timeout(60_000)
        tour(page, address)
        browser.close()


if __name__ == "__main__":
    main()
