"""Whether a recording can be loaded: `rerun rrd verify`; what it holds, read back without a viewer; whether its layout shows that.

Does not belong here: what it should hold (`contract`), how a layout looks.
"""

from __future__ import annotations

import importlib.util
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thesis_assets.errors import InvalidFile, ThesisAssetsError, pip_install
from thesis_assets.recordings.recording import footer_problem
from thesis_assets.schemas.checks import CheckOutcome

_VERIFY_SECONDS = 600.0
PROPERTIES = "/__properties"
_CONTROL_COLUMNS = frozenset({"rerun.controls.RowId", "frame", "epoch", "step", "log_time", "log_tick"})


@dataclass
class EntityContent:
    """What one entity of a recording holds.

    Attributes:
        static: components that hold for all times, as `Archetype:field`.
        rows: component to the timeline positions that have it: (timeline, position).
        row_count: component to its number of rows; more than positions where one stands twice.
        timelines: of its temporal rows.
    """

    static: set[str] = field(default_factory=set)
    rows: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    row_count: dict[str, int] = field(default_factory=dict)
    timelines: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class RecordedView:
    """A view of the layout: its class, its origin, and the rules that say which entities it shows."""

    kind: str
    origin: str
    rules: tuple[str, ...]


@dataclass(frozen=True)
class RecordingContent:
    """A recording read back."""

    application_id: str
    recording_id: str
    entities: dict[str, EntityContent]
    properties: dict[str, Any]
    views: tuple[RecordedView, ...]


def verify_recording(path: Path) -> CheckOutcome:
    """Run the SDK's own verification over one .rrd. Passed where it loads without error, footer included."""
    if not path.is_file():
        return CheckOutcome.of([f"{path}: the recording is missing"], message=f"{path.name} is not there")
    # `CI` keeps the tool's usage statistics off.
    finished = subprocess.run(
        [str(rerun_binary()), "rrd", "verify", str(path)],
        capture_output=True,
        text=True,
        timeout=_VERIFY_SECONDS,
        check=False,
        env={"CI": "1"},
    )
    said = [line.strip() for line in (finished.stdout + finished.stderr).splitlines() if line.strip()]
    offenders = [f"{path.name}: {line}" for line in said[:5] or ["no message"]] if finished.returncode else []
    # The program passes over a file that is no recording at all ("0 files verified"), and a footer cut by one byte.
    if not offenders and not any(line.startswith("1 file verified") for line in said):
        offenders = [f"{path.name}: no recording in the file"]
    elif not offenders and (problem := footer_problem(path)):
        offenders = [f"{path.name}: {problem}"]
    return CheckOutcome.of(
        offenders,
        message=f"{path.name} {'cannot be loaded' if offenders else 'loads without error'}",
        counts={"bytes": path.stat().st_size, "exit_code": finished.returncode},
    )


def rerun_binary() -> Path:
    """The SDK's own program. Not `python -m rerun_cli`: that one ends with 0 whatever the program said.

    Raises:
        ThesisAssetsError: it is not installed.
    """
    package = importlib.util.find_spec("rerun_cli")
    if package is not None and package.origin is not None:
        binary = Path(package.origin).with_name("rerun")
        if binary.is_file():
            return binary
    raise ThesisAssetsError(
        "Rerun's program is not installed", wanted="`rerun` of the package rerun-sdk", remedy=pip_install("rerun-sdk")
    )


def read_recording(path: Path) -> RecordingContent:
    """Entities, timelines, rows, static flags, properties and blueprint of an .rrd; one chunk in memory at a time.

    Raises:
        InvalidFile: missing, truncated, or not exactly one recording.
    """
    from rerun.chunk import RrdReader

    if not path.is_file():
        raise InvalidFile("the recording is missing", file=path, remedy="export it again")
    try:
        if (problem := footer_problem(path)) is not None:
            raise InvalidFile("the recording is cut short", file=path, found=problem, remedy="export it again")
        reader = RrdReader(path)
        recordings = reader.recordings()
        if len(recordings) != 1:
            raise InvalidFile("not one recording in the file", file=path, found=len(recordings), wanted=1)
        entities: dict[str, EntityContent] = {}
        properties: dict[str, Any] = {}
        for chunk in reader.stream(store=recordings[0]):
            if chunk.entity_path.startswith(PROPERTIES):
                _add_properties(properties, chunk)
            else:
                _add_chunk(entities.setdefault(chunk.entity_path, EntityContent()), chunk)
        views = _views(reader)
    except RuntimeError as error:
        raise InvalidFile("the recording cannot be read", file=path, found=str(error)[:300]) from error
    return RecordingContent(recordings[0].application_id, recordings[0].recording_id, entities, properties, views)


def _add_chunk(content: EntityContent, chunk: Any) -> None:
    batch = chunk.to_record_batch()
    components = [name for name in batch.schema.names if name not in _CONTROL_COLUMNS]
    if chunk.is_static:
        content.static.update(components)
        return
    content.timelines.update(chunk.timeline_names)
    times = {timeline: batch.column(timeline).cast("int64").to_pylist() for timeline in chunk.timeline_names}
    for component in components:
        valid = batch.column(component).is_valid().to_pylist()
        content.row_count[component] = content.row_count.get(component, 0) + sum(valid)
        positions = content.rows.setdefault(component, set())
        for timeline, values in times.items():
            positions.update((timeline, value) for value, there in zip(values, valid, strict=True) if there)


def _add_properties(properties: dict[str, Any], chunk: Any) -> None:
    group = chunk.entity_path.removeprefix(PROPERTIES).strip("/")
    for name, values in chunk.to_record_batch().to_pydict().items():
        if name not in _CONTROL_COLUMNS or name == group:
            first = values[0] if values else None
            properties[f"{group}.{name}" if group else name] = first[0] if isinstance(first, list) and first else first


def _views(reader: Any) -> tuple[RecordedView, ...]:
    kinds: dict[str, tuple[str, str]] = {}
    queries: dict[str, tuple[str, ...]] = {}
    chunks = [chunk for blueprint in reader.blueprints() for chunk in reader.stream(store=blueprint)]
    for chunk in chunks:
        columns = chunk.to_record_batch().to_pydict()
        if "ViewBlueprint:class_identifier" in columns:
            origins = columns["ViewBlueprint:space_origin"]
            for kind, origin in zip(columns["ViewBlueprint:class_identifier"], origins, strict=True):
                if kind:
                    kinds[chunk.entity_path] = (kind[0], origin[0] if origin else "/")
        elif "ViewContents:query" in columns:
            view = chunk.entity_path.rpartition("/")[0]
            queries[view] = tuple(rule for rules in columns["ViewContents:query"] for rule in rules)
    return tuple(RecordedView(*kinds[view], queries.get(view, ("$origin/**",))) for view in sorted(kinds))


# --- the layout against what is recorded -----------------------------------------------------------------------------

_SHOWN_IN = {
    "EncodedImage:blob": ("2D",),
    "SegmentationImage:buffer": ("2D",),
    "EncodedDepthImage:blob": ("2D",),
    "Mesh3D:vertex_positions": ("3D",),
    "Points3D:positions": ("3D",),
    "Pinhole:resolution": ("3D",),
    "Scalars:scalars": ("TimeSeries",),
    "TextDocument:text": ("TextDocument",),
}
"""Component to the classes of view that can show it."""


def layout_offenders(content: RecordingContent) -> list[str]:
    """Differences between what is recorded and what the layout shows, in both directions; a line each."""
    if not content.views:
        return ["no blueprint"]
    offenders = []
    for entity, found in content.entities.items():
        for component in sorted((found.static | set(found.rows)) & set(_SHOWN_IN)):
            kinds = _SHOWN_IN[component]
            if not _kept_out(entity) and not any(view.kind in kinds and shows(view, entity) for view in content.views):
                offenders.append(f"{entity} {component}: in no view of the layout")
    offenders += [
        f"a view of class {view.kind} at {view.origin} shows nothing"
        for view in content.views
        if not any(shows(view, entity) for entity in content.entities)
    ]
    return offenders


def shows(view: RecordedView, entity: str) -> bool:
    """Whether a view's rules take an entity in; the most precise rule that fits decides, as in the viewer."""
    decided: tuple[tuple[int, bool], bool] = ((-1, False), False)
    for rule in view.rules:
        taken = not rule.startswith("-")
        path = rule.lstrip("+- ").replace("$origin", view.origin)
        stem = path.removesuffix("/**")
        fits = entity == stem or (path != stem and entity.startswith(stem.rstrip("/") + "/"))
        if fits and (precision := (len(stem), path == stem)) >= decided[0]:
            decided = (precision, taken)
    return decided[1]


def _kept_out(entity: str) -> bool:
    """Overall numbers stand on the page; SMPL copies would lie exactly in their SMPL-X people."""
    return "/metrics/overall/" in entity or (entity.endswith("/smpl") and "/people/" in entity)
