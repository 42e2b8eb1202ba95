"""Pictures of recordings, made in a viewer without a screen, kept beside them: each page, the first one at several times.

Does not belong here: how a viewer is driven (`headless_viewer`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thesis_assets import storage
from thesis_assets.errors import InvalidFile, ThesisAssetsError
from thesis_assets.evaluation.qualitative.headless_viewer import TOP_BAR, HeadlessViewer, headless_viewer
from thesis_assets.evaluation.qualitative.recording import EPOCH, FRAME, STEP, recording_facts, sdk_version
from thesis_assets.images.codecs import encode_png, read_rgb
from thesis_assets.images.contact_sheet import contact_sheet
from thesis_assets.layout import EvaluationTree
from thesis_assets.provenance import Older, Place, Unit, Wanted, begin, take_over
from thesis_assets.schemas.recordings import PreviewPicture, PreviewRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW = (960, 600)
"""Small: without a GPU each pixel of a 3D view is drawn by a core."""
RECORD = "previews.json"
STEP_NAME, PREVIEWS_VERSION = "recording_previews", "1"
_SHEET_PICTURES, _SHEET_HEIGHT = 6, 300


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
    return storage.read_json(folder / RECORD, PreviewRecord)


def previews_unit(recording: Path, folder: Path) -> Unit:
    """The pictures of a recording in a folder, made from it: one of another program by its bytes."""
    made, files = {}, {}
    try:
        made["recording"] = recording_facts(recording).data_version
    except InvalidFile:
        files["recording"] = recording
    wanted = Wanted(STEP_NAME, PREVIEWS_VERSION, files=files, made=made)
    place = Place(folder, folder / "made_from.json")
    return Unit(f"pictures of {recording.name}", place, wanted, lambda: _older(folder, made.get("recording")))


def _older(folder: Path, data_version: str | None) -> Older | None:
    """Pictures of a version without records, if they are of the recording that is there."""
    try:
        shown = storage.read_json_value(folder / RECORD)["input_digest"]
    except (InvalidFile, KeyError, TypeError):
        return None
    return Older(list(folder.iterdir())) if shown == data_version else None


def preview_files(recording: Path) -> list[Path]:
    """The current pictures of a recording, in the order they were taken; none where they are not current."""
    record = current_previews(recording)
    folder = EvaluationTree.recording_previews(recording)
    return [folder / picture.file for picture in record.pictures] if record else []


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
                (folder / file).write_bytes(without_bar(viewer.picture()))
                pictures.append(PreviewPicture(file=file, page=page.name, timeline=timeline, position=position))
            faults += [f"{page.name}: {fault}" for fault in viewer.faults()]
        faults += [line for line in viewer.complaints() if line not in before]
        record = PreviewRecord(rerun_sdk=sdk_version(), pictures=pictures, faults=list(dict.fromkeys(faults)))
        storage.write_json(folder / RECORD, record)
        begin(previews_unit(recording, folder)).finish(folder.iterdir())
    return record


def without_bar(png: bytes) -> bytes:
    """The picture without the empty bar that the viewer leaves at its top."""
    from PIL import Image

    with Image.open(io.BytesIO(png), formats=("PNG",)) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    return encode_png(np.ascontiguousarray(pixels[TOP_BAR:]))


def _positions(viewer: HeadlessViewer) -> tuple[str, list[int]]:
    """The main timeline, and its first, middle and last position."""
    timelines = viewer.timelines()
    timeline = next((name for name in (FRAME, STEP, EPOCH, *timelines) if name in timelines), None)
    if timeline is None:
        raise ThesisAssetsError("the viewer shows a recording without a timeline")
    first, last = timelines[timeline]
    return timeline, sorted({first, (first + last) // 2, last})
