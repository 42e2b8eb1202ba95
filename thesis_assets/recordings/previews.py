"""Pictures of recordings, made in a Rerun viewer without a screen, kept beside them: each page, the first one at several times."""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.images.codecs import encode_png, read_rgb
from thesis_assets.images.contact_sheet import contact_sheet
from thesis_assets.layout import EvaluationTree
from thesis_assets.provenance import CODE_VERSIONS, Older, Place, Unit, Wanted, begin, take_over
from thesis_assets.recordings.recording import EPOCH, FRAME, STEP, recording_facts, sdk_version
from thesis_assets.recordings.verification import rerun_binary
from thesis_assets.schemas.recordings import PreviewPicture, PreviewRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW = (960, 600)
"""Small: without a GPU each pixel of a 3D view is drawn by a core."""
_RECORD = "previews.json"
STEP_NAME = "recording_previews"
_SHEET_PICTURES, _SHEET_HEIGHT = 6, 300

_TOP_BAR = 36
"""Height in pixels of what the hidden bar leaves."""
START_SECONDS = 60.0
_SETTLE_SECONDS = 20.0
"""Pictures are decoded and meshes uploaded in the background: one waits until two pictures in a row are the same."""
ANSWER_SECONDS = 60.0
"""The client gives up after 15, and waits for ever where the viewer takes a question and stands still: then it is killed."""
_LOOK_AGAIN_SECONDS = 0.15
_END_SECONDS = 5.0
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "VK_ICD_FILENAMES", "VK_DRIVER_FILES", "XDG_DATA_DIRS", "XDG_RUNTIME_DIR")


def make_previews(
    recordings: Sequence[Path],
    *,
    window: tuple[int, int] = WINDOW,
    force: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> dict[Path, PreviewRecord]:
    """Make the pictures of recordings that have none, or older ones, in one viewer; give the records of all.

    Args:
        force: also of those whose pictures are current.

    Raises:
        NoGraphics: nothing can be drawn here.
        InvalidFile: a recording is missing.
    """
    records: dict[Path, PreviewRecord] = {}
    stale = []
    for path in recordings:
        if not path.is_file():
            raise InvalidFile("the recording is missing", file=path, remedy="export it first")
        take_over(previews_unit(path, EvaluationTree.recording_previews(path)))
        current = None if force else current_previews(path)
        if current is None:
            stale.append(path)
        else:
            records[path] = current
    if stale:
        with headless_viewer(window) as viewer:
            for number, path in enumerate(stale, start=1):
                records[path] = _preview(viewer, path)
                if on_progress is not None:
                    on_progress(f"previews of {path.name}: {len(records[path].pictures)}, {number} of {len(stale)}")
    return {path: records[path] for path in recordings}


def current_previews(recording: Path) -> PreviewRecord | None:
    """The record of a recording's pictures where they are there and show what it is made from now; else None."""
    folder = EvaluationTree.recording_previews(recording)
    if not previews_unit(recording, folder).look().is_made:
        return None
    return storage.read_json(folder / _RECORD, PreviewRecord)


def previews_unit(recording: Path, folder: Path) -> Unit:
    """The pictures of a recording in a folder, made from it: one of another program by its bytes."""
    made, files = {}, {}
    try:
        made["recording"] = recording_facts(recording).data_version
    except InvalidFile:
        files["recording"] = recording
    wanted = Wanted(STEP_NAME, CODE_VERSIONS[STEP_NAME], files=files, made=made)
    place = Place(folder, folder / "made_from.json")
    return Unit(f"pictures of {recording.name}", place, wanted, lambda: _older(folder, made.get("recording")))


def _older(folder: Path, data_version: str | None) -> Older | None:
    """Pictures of a version without records, if they are of the recording that is there."""
    try:
        shown = storage.read_json_value(folder / _RECORD)["input_digest"]
    except (InvalidFile, KeyError, TypeError):
        return None
    return Older(list(folder.iterdir())) if shown == data_version else None


def main_pictures(record: PreviewRecord) -> list[PreviewPicture]:
    """One picture a page: of the first page that of the middle of its times."""
    by_page: dict[str, list[PreviewPicture]] = {}
    for picture in record.pictures:
        by_page.setdefault(picture.page, []).append(picture)
    return [pictures[len(pictures) // 2] for pictures in by_page.values()]


def preview_sheet(recordings: Sequence[Path]) -> bytes | None:
    """A sheet (JPEG) with a picture of each page of recordings, small enough for a page of the UI; None without pictures."""
    shown: list[NDArray[np.uint8]] = []
    for recording in recordings:
        record = current_previews(recording)
        if record is not None:
            folder = EvaluationTree.recording_previews(recording)
            shown += [read_rgb(folder / picture.file) for picture in main_pictures(record)]
    if not shown:
        return None
    chosen = shown[:_SHEET_PICTURES]
    rows = [chosen[start : start + 2] for start in range(0, len(chosen), 2)]
    return contact_sheet(rows, cell_height=_SHEET_HEIGHT)


def _preview(viewer: HeadlessViewer, recording: Path) -> PreviewRecord:
    """Take all pictures of one recording and publish their folder by one rename."""
    before = set(viewer.complaints())
    viewer.open(recording)
    timeline, positions = _positions(viewer)
    pictures, faults = [], []
    with storage.atomic_directory(EvaluationTree.recording_previews(recording)) as folder:
        for page in viewer.pages():
            viewer.turn_to(page)
            for position in positions if not page.container else positions[len(positions) // 2 :][:1]:
                viewer.set_time(timeline, position)
                file = f"{page.name}_{position:06d}.png"
                (folder / file).write_bytes(_without_bar(viewer.picture()))
                pictures.append(PreviewPicture(file=file, page=page.name, timeline=timeline, position=position))
            faults += [f"{page.name}: {fault}" for fault in viewer.faults()]
        faults += [line for line in viewer.complaints() if line not in before]
        record = PreviewRecord(rerun_sdk=sdk_version(), pictures=pictures, faults=list(dict.fromkeys(faults)))
        storage.write_json(folder / _RECORD, record)
        begin(previews_unit(recording, folder)).finish(folder.iterdir())
    return record


def _without_bar(png: bytes) -> bytes:
    """The picture without the empty bar that the viewer leaves at its top."""
    from PIL import Image

    with Image.open(io.BytesIO(png), formats=("PNG",)) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    return encode_png(np.ascontiguousarray(pixels[_TOP_BAR:]))


def _positions(viewer: HeadlessViewer) -> tuple[str, list[int]]:
    """The main timeline, and its first, middle and last position."""
    timelines = viewer.timelines()
    timeline = next((name for name in (FRAME, STEP, EPOCH, *timelines) if name in timelines), None)
    if timeline is None:
        raise ThesisAssetsError("the viewer shows a recording without a timeline")
    first, last = timelines[timeline]
    return timeline, sorted({first, (first + last) // 2, last})


# --- a viewer without a screen: opens recordings, turns to a page and a time, takes pictures -------------------------


class NoGraphics(ThesisAssetsError):
    """The viewer ends by itself: mostly there is no Vulkan (or Metal, DirectX) driver, not even one in software."""


@dataclass(frozen=True)
class Page:
    """One choice among a layout's tabs.

    Attributes:
        name: of the tab, as a file may be called.
        container, tab: paths in the blueprint; empty = the layout as it opens.
    """

    name: str
    container: str = ""
    tab: str = ""


class HeadlessViewer:
    """A running viewer. Made by `headless_viewer`. Whatever goes wrong in it, its methods raise errors of ours.

    Raises (every method):
        NoGraphics: the viewer ended. Without a driver it can answer at first and end a moment later.
        ThesisAssetsError: it runs, and refuses or does not answer.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self._process, self._log = process, log
        self._client: Any = None
        self._client = self._connected(f"rerun+http://127.0.0.1:{port}/proxy")

    def _connected(self, address: str) -> Any:
        """A client of the viewer, once it has drawn: without a driver it can answer, and end with the first picture."""
        from rerun.experimental import ViewerClient

        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                client = self._asked(ViewerClient.connect, address)
                self._asked(client.take_screenshot)
            except NoGraphics:
                raise
            except ThesisAssetsError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_AGAIN_SECONDS)
            else:
                return client

    def _asked(self, question: Callable[..., Any], *arguments: object, **options: object) -> Any:
        """What the viewer answers; the client's own exceptions end here."""
        clock = threading.Timer(ANSWER_SECONDS, self._process.kill)
        clock.start()
        try:
            return question(*arguments, **options)
        except Exception as error:
            if self._has_ended(_END_SECONDS if self._client and isinstance(error, ConnectionError) else 0):
                raise _ended(self._log) from error
            raise ThesisAssetsError(
                "the headless viewer does not answer as it should", found=f"{type(error).__name__}: {error}"[:300]
            ) from error
        finally:
            clock.cancel()

    def _has_ended(self, within_seconds: float) -> bool:
        """A broken connection is seen a moment before the process that broke it has ended."""
        try:
            self._process.wait(within_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def open(self, recording: Path) -> None:
        """Open a recording, show it, hide the viewer's own bar, and stop playing."""
        opened = self._asked(self._client.open, str(recording.resolve()))
        deadline = time.monotonic() + START_SECONDS
        while self._state().loading and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)
        if not opened.store_ids:
            raise ThesisAssetsError("the viewer does not open the recording", file=recording, found=opened.loading)
        self._change_blueprint(_hide_bar)
        self._asked(self._client.set_time, play_state="paused")

    def pages(self) -> list[Page]:
        """The layout as it opens, then every tab that is hidden then, in their order."""
        blueprint = self._blueprint()
        found = [(path, parts["ContainerBlueprint"]) for path, parts in blueprint.items() if _kind(parts) == "Tabs"]
        named = {
            path: parts["ContainerBlueprint"].get("display_name", "")
            for path, parts in blueprint.items()
            if _kind(parts)
        }
        first = next((_active(container) for _, container in found), "")
        pages = [Page(_slug(named.get(first) or self._title(first, blueprint) or "overview"))]
        for path, container in found:
            for tab in _children(container):
                if tab != _active(container):
                    title = named.get(tab) or self._title(tab, blueprint)
                    pages.append(Page(_slug(title), path, tab))
        return pages

    def turn_to(self, page: Page) -> None:
        """Show a tab."""
        if page.container:

            def choose(blueprint: dict[str, Any]) -> None:
                blueprint[page.container]["ContainerBlueprint"]["active_tab"] = page.tab

            self._change_blueprint(choose)

    def timelines(self) -> dict[str, tuple[int, int]]:
        """Timeline of the recording on screen to its first and last position."""
        state = self._state()
        shown = [one.timelines for one in state.recordings if one.store_id == state.active_recording]
        return {
            line.name: (int(line.start), int(line.end)) for line in chain.from_iterable(shown) if line.start is not None
        }

    def set_time(self, timeline: str, position: int) -> None:
        """Move the time cursor of the recording on screen."""
        self._asked(self._client.set_time, timeline, sequence=position, play_state="paused")

    def picture(self, view_id: str | None = None) -> bytes:
        """A PNG of the window, or of one view, once it no longer changes.

        Raises:
            ThesisAssetsError: the viewer gives none, twice.
        """
        deadline = time.monotonic() + _SETTLE_SECONDS
        before = self._taken(view_id)
        while time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)
            now = self._taken(view_id)
            if now == before:
                return now
            before = now
        return before

    def views(self) -> list[Any]:
        """The views of the recording on screen: name, class, origin, visible, reports."""
        return list(self._state().views)

    def faults(self) -> list[str]:
        """What the views on screen report as wrong, a line each."""
        return [
            f"{view.name}: {report.severity.lower()}: {report.summary}"
            for view in self.views()
            for report in view.reports
        ]

    def complaints(self) -> list[str]:
        """Warnings and errors of the viewer's log, but those about drawing in software."""
        return [
            f"{entry.target}: {entry.message}"
            for entry in self._asked(self._client.get_logs)
            if entry.level in ("WARN", "ERROR") and "oftware rasterizer" not in entry.message
        ]

    def _taken(self, view_id: str | None) -> bytes:
        try:
            return bytes(self._asked(self._client.take_screenshot, view_id))
        except NoGraphics:
            raise
        except ThesisAssetsError:  # a slow first frame in software runs into the viewer's own 15 seconds
            return bytes(self._asked(self._client.take_screenshot, view_id))

    def _state(self) -> Any:
        return self._asked(self._client.get_state)

    def _blueprint(self) -> dict[str, Any]:
        return dict(self._asked(self._client.get_blueprint, of="recording").blueprint)

    def _change_blueprint(self, change: Any) -> None:
        blueprint = self._blueprint()
        change(blueprint)
        self._asked(self._client.set_blueprint, blueprint, of="recording")

    @staticmethod
    def _title(tab: str, blueprint: dict[str, Any]) -> str:
        return str(blueprint.get(tab, {}).get("ViewBlueprint", {}).get("display_name", ""))


@contextlib.contextmanager
def headless_viewer(window: tuple[int, int]) -> Iterator[HeadlessViewer]:
    """Start a viewer on a free port of this machine alone; end it with the block.

    Its home is a temporary folder: neither a person's theme nor an earlier layout shapes the pictures.

    Raises:
        NoGraphics: it cannot draw here; the message has its reason.
        ThesisAssetsError: there is no viewer, or it does not answer in time.
    """
    with tempfile.TemporaryDirectory(prefix="rerun-") as home:
        log = Path(home) / "viewer.log"
        port = _free_port()
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        command = [str(rerun_binary()), "--headless", "--bind", "127.0.0.1", "--port", str(port)]
        command += ["--window-size", f"{window[0]}x{window[1]}", "--hide-welcome-screen", "--threads", "2"]
        with log.open("wb") as output:
            process = _started(command, output, {**environment, "CI": "1", "HOME": home, "NO_COLOR": "1"})
            try:
                yield HeadlessViewer(process, log, port)
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _started(command: list[str], output: IO[bytes], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=environment["HOME"], env=environment
        )
    except OSError as error:
        raise ThesisAssetsError("the viewer does not start", file=Path(command[0]), found=str(error)) from error


def _ended(log: Path) -> NoGraphics:
    said = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(encoding="utf-8", errors="replace")).strip().splitlines()
    last_words = [line for line in said if "panicked" in line] or said[-1:] or ["it said nothing"]
    cannot_draw = re.search(r"adapter|graphics|render context|vulkan|wgpu", last_words[0], re.IGNORECASE)
    return NoGraphics(
        "the viewer finds nothing to draw with" if cannot_draw else "the viewer ended while it was asked to draw",
        found=last_words[0][:300],
        wanted="a Vulkan driver, at least one in software",
        remedy="on Debian and Ubuntu: apt-get install mesa-vulkan-drivers",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _hide_bar(blueprint: dict[str, Any]) -> None:
    blueprint["/top_panel"] = {"PanelBlueprint": {"state": "Hidden"}}


def _kind(parts: dict[str, Any]) -> str:
    return str(parts.get("ContainerBlueprint", {}).get("container_kind", ""))


def _children(container: dict[str, Any]) -> list[str]:
    contents = container.get("contents", [])
    return [_path(child) for child in ([contents] if isinstance(contents, str) else contents)]


def _active(container: dict[str, Any]) -> str:
    children = _children(container)
    return _path(container["active_tab"]) if container.get("active_tab") else (children or [""])[0]


def _path(entity: str) -> str:
    """The viewer writes `/container/<id>`, or `container/<id>` for what it arranged itself."""
    return "/" + entity.lstrip("/")


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_") or "page"
