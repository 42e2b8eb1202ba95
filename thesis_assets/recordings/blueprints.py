"""Layouts of the recordings: which views, beside what, on which timeline. One that a person wants to open.

Does not belong here: what is in a recording; a blueprint lays out the tracks it is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rerun.blueprint as rrb

from thesis_assets.layout import POSE_TASKS, epoch_name
from thesis_assets.recordings.recording import FRAME, STEP
from thesis_assets.recordings.tracks import (
    BodyTrack,
    CameraTrack,
    DepthTrack,
    GaussianTrack,
    ImageTrack,
    MaskTrack,
    MeshTrack,
    ScalarTrack,
    TextTrack,
    Track,
)
from thesis_assets.recordings.world_tracks import Viewpoint, body_viewpoint, camera_viewpoint

_FRAMES_PER_SECOND = 20.0
_STEPS_PLAY_SECONDS = 10.0
"""A tuning run's recording plays from its first to its last step in this time."""
_BACKGROUND = (32, 34, 38)
_MAX_LEGEND = 4
"""A legend of more lines would cover a small plot; a curve under the pointer names itself."""
_ROWS_A_COLUMN = 4
"""A cell of the grid is about three pictures wide, so that 8 cameras still fit above the curves."""
_MAX_PEOPLE = 16
"""SMPL copies of so many people are kept out of the 3D view; they lie exactly on their SMPL-X ones."""


def input_data_blueprint(tracks: Sequence[Track]) -> Any:
    """Cameras and people in 3D, beside a grid of the camera pictures; depth and novel-view debug pictures on tabs behind."""
    splits = [split for split in ("test", "train") if _below(tracks, f"/input_data/{split}/")]
    worlds = [_world_view(tracks, split) for split in splits]
    pictures = [_camera_grid(tracks, split) for split in splits]
    depths = [_picture(track.entity) for track in tracks if isinstance(track, DepthTrack)]
    debug = [
        _picture(track.entity) for track in _below(tracks, "/input_data/train/misc/") if isinstance(track, ImageTrack)
    ]
    tabs = [grid for grid in pictures if grid is not None]
    tabs += [rrb.Grid(*views, name=name) for name, views in (("depth", depths), ("novel views", debug)) if views]
    sides: list[Any] = [rrb.Vertical(*worlds, name="3D")] if worlds else []
    sides += [rrb.Tabs(*tabs, name="cameras")] if tabs else []
    return _blueprint(rrb.Horizontal(*sides, column_shares=[3, 4][: len(sides)]), FRAME, _FRAMES_PER_SECOND)


def evaluation_blueprint(epoch: int, tracks: Sequence[Track], calibrations: Sequence[Path] = ()) -> Any:
    """A tab a task: prediction, truth and difference with their curves below; pose in 3D; each with its page.

    Args:
        calibrations: of the scene's cameras: bodies are looked at from their side.
    """
    root = f"/evaluation/{epoch_name(epoch)}"
    tabs = []
    nvs = _below(tracks, f"{root}/nvs/")
    if nvs:
        tabs += [_nvs_tab(nvs, f"{root}/nvs"), *_nvs_inputs_tab(nvs, f"{root}/nvs")]
    for task in POSE_TASKS:
        if found := _below(tracks, f"{root}/{task}/"):
            tabs.append(_pose_tab(found, f"{root}/{task}", task, calibrations))
    return _blueprint(rrb.Tabs(*tabs), FRAME, _FRAMES_PER_SECOND)


def triplets_blueprint(root: str, titles: Mapping[str, str], last_step: int) -> Any:
    """A row of pictures a sample (render, refined, target, reference), over steps; PSNR and what it gained below.

    Args:
        titles: entity of each sample to what a person calls it.
    """
    samples = [
        rrb.Horizontal(
            _picture(f"{entity}/render", name=f"render {title}"),
            *(_picture(f"{entity}/{part}", name=part) for part in ("refined", "target", "reference")),
            name=title,
        )
        for entity, title in titles.items()
    ]
    psnr = [f"{entity}/psnr/{part}" for entity in titles for part in ("render", "refined")]
    below_them = rrb.Horizontal(
        _curves(root, psnr, "PSNR (dB) over steps: refined bold, render thin", legend=False),
        _curves(root, [f"{entity}/psnr/gain" for entity in titles], "gain over the render (dB)", legend=True),
    )
    grid = rrb.Grid(*samples, grid_columns=1 if len(samples) < 3 else 2, name="test samples")
    layout = rrb.Vertical(grid, below_them, row_shares=[2.6, 1.0])
    return _blueprint(layout, STEP, max(1.0, last_step / _STEPS_PLAY_SECONDS))


def _world_view(tracks: Sequence[Track], split: str) -> Any:
    """Cameras with their pictures, and people. Depth and masks stay out: they would hide the pictures."""
    root = f"/input_data/{split}"
    cameras = [
        track.entity for track in _below(tracks, f"{root}/cameras/") if isinstance(track, CameraTrack | ImageTrack)
    ]
    gaussians = [track.entity for track in _below(tracks, f"{root}/") if isinstance(track, GaussianTrack)]
    contents = [*cameras, *gaussians, f"{root}/people/**"]
    if any(isinstance(track, BodyTrack) and track.suffix for track in tracks):
        contents += [f"- {root}/people/person_{person}/smpl" for person in range(_MAX_PEOPLE)]
    return _world(root, contents, f"{split}: cameras and people", camera_viewpoint(_below(tracks, f"{root}/")))


def _camera_grid(tracks: Sequence[Track], split: str) -> Any | None:
    """A picture with its mask over it, a camera."""
    views = []
    present = {track.entity for track in tracks}
    for track in _below(tracks, f"/input_data/{split}/cameras/"):
        if isinstance(track, ImageTrack):
            camera = track.entity.rpartition("/")[0]
            contents = [entity for entity in (track.entity, f"{camera}/mask") if entity in present]
            views.append(_picture(camera, contents, name=f"{split} {camera.rpartition('/')[2]}"))
    return rrb.Grid(*views, name=f"{split} cameras") if views else None


def _nvs_tab(tracks: Sequence[Track], root: str) -> Any:
    present = {track.entity for track in tracks}
    rows = []
    for camera in _cameras_in_order(tracks, root):
        views = [
            _picture(f"{root}/{place}/{camera}", name=f"{camera} {name}")
            for place, name in (
                ("pred", "prediction"),
                ("gt_inputs", "ground truth"),
                ("metrics/difference", "difference"),
            )
            if f"{root}/{place}/{camera}" in present
        ]
        rows.append(rrb.Horizontal(*views, name=camera))
    plots = []
    for metric in dict.fromkeys(entity.split("/")[-2] for entity in _scalar_entities(tracks)):
        shown = [entity for entity in _scalar_entities(tracks) if entity.split("/")[-2] == metric]
        plots.append(_curves(f"{root}/metrics/{metric}", shown, metric))
    grid = rrb.Grid(
        *rows, grid_columns=max(1, math.ceil(len(rows) / _ROWS_A_COLUMN)), name="prediction, ground truth, difference"
    )
    parts: list[Any] = [grid] if rows else []
    parts += [rrb.Horizontal(*plots, name="metrics")] if plots else []
    shares = [3.0, 1.0] if len(parts) == 2 else [1.0]
    return _with_page(rrb.Vertical(*parts, row_shares=shares), tracks, "nvs")


def _nvs_inputs_tab(tracks: Sequence[Track], root: str) -> list[Any]:
    """The unrefined renders, their masks (switched off at first) and cameras."""
    renders = [
        track.entity for track in tracks if isinstance(track, ImageTrack) and track.entity.startswith(f"{root}/inputs/")
    ]
    if not renders:
        return []
    masks = {track.entity for track in tracks if isinstance(track, MaskTrack)}
    views = []
    for render in renders:
        camera = render.rpartition("/")[0]
        over = [mask for mask in (f"{camera}/mask",) if mask in masks]
        views.append(_picture(camera, [render], name=f"{camera.rpartition('/')[2]} render", hidden=over))
    cameras = [track.entity for track in tracks if isinstance(track, CameraTrack)]
    cameras_view = _world(f"{root}/inputs", [*cameras, *renders], "cameras", camera_viewpoint(tracks))
    return [rrb.Horizontal(rrb.Grid(*views), cameras_view, column_shares=[3, 2], name="nvs inputs")]


def _pose_tab(tracks: Sequence[Track], root: str, task: str, calibrations: Sequence[Path]) -> Any:
    worlds = []
    for alignment, extra in (("world_aligned", [f"{root}/inputs/**"]), ("root_aligned", [])):
        meshes = [track for track in tracks if isinstance(track, MeshTrack) and f"/{alignment}/" in track.entity]
        if meshes:
            contents = [f"{root}/pred/{alignment}/**", f"{root}/gt_inputs/{alignment}/**", *extra]
            title = f"{alignment.replace('_', ' ')}: prediction orange, ground truth green"
            worlds.append(_world(root, contents, title, body_viewpoint(meshes, calibrations)))
    if not worlds and any(isinstance(track, BodyTrack) for track in tracks):
        worlds.append(_world(root, [f"{root}/inputs/**"], "joints", None))
    # Millimetres and shares have different scales, so they have a plot each.
    millimetres = [entity for entity in _scalar_entities(tracks) if entity.endswith("_mm")]
    shares = [entity for entity in _scalar_entities(tracks) if not entity.endswith("_mm")]
    plots = [
        _curves(root, shown, title, legend=True)
        for title, shown in (("millimetres", millimetres), ("share", shares))
        if shown
    ]
    parts: list[Any] = [rrb.Horizontal(*worlds)] if worlds else []
    parts += [rrb.Horizontal(*plots, column_shares=[2, 1][: len(plots)])] if plots else []
    return _with_page(rrb.Vertical(*parts, row_shares=[2.0, 1.0][: len(parts)]), tracks, task)


def _cameras_in_order(tracks: Sequence[Track], root: str) -> list[str]:
    """`cam_4`, `cam_16`, ... of the compared images, by number."""
    sides = (f"{root}/pred/", f"{root}/gt_inputs/")
    names = {track.entity.rpartition("/")[2] for track in tracks if track.entity.startswith(sides)}
    return sorted(names, key=lambda name: int(name.removeprefix("cam_")))


# --- the single views that layouts are made of -----------------------------------------------------------------------


def _blueprint(layout: Any, timeline: str, frames_per_second: float) -> Any:
    """A layout that plays and loops over one timeline, with the panels beside it folded away."""
    return rrb.Blueprint(
        layout,
        rrb.TimePanel(
            state="collapsed", timeline=timeline, fps=frames_per_second, play_state="playing", loop_mode="all"
        ),
        rrb.SelectionPanel(state="collapsed"),
        rrb.BlueprintPanel(state="collapsed"),
        auto_layout=False,
        auto_views=False,
    )


def _picture(origin: str, contents: Sequence[str] = (), *, name: str | None = None, hidden: Sequence[str] = ()) -> Any:
    """A 2D view of an image and what lies over it; `hidden` layers are there, switched off."""
    title = name or origin.removeprefix("/input_data/train/misc/nv_generation/").removeprefix("/input_data/")
    switched_off: Any = {entity: rrb.EntityBehavior(visible=False) for entity in hidden}
    return rrb.Spatial2DView(
        origin=origin, contents=[*(contents or [origin]), *hidden], name=title, overrides=switched_off
    )


def _world(origin: str, contents: Sequence[str], name: str, viewpoint: Viewpoint | None) -> Any:
    """A 3D view, looked at from `viewpoint`, else from where the viewer likes."""
    eye = None
    if viewpoint is not None:
        eye = rrb.EyeControls3D(
            kind=rrb.Eye3DKind.Orbital,
            position=viewpoint.position,
            look_target=viewpoint.target,
            eye_up=viewpoint.up,
        )
    return rrb.Spatial3DView(
        origin=origin, contents=list(contents), name=name, background=_BACKGROUND, eye_controls=eye
    )


def _curves(origin: str, contents: Sequence[str], name: str, *, legend: bool | None = None) -> Any:
    """A plot over the timeline. The legend stands where few curves are, or as said."""
    shown = len(contents) <= _MAX_LEGEND if legend is None else legend
    return rrb.TimeSeriesView(
        origin=origin, contents=list(contents), name=name, plot_legend=rrb.PlotLegend(visible=shown)
    )


def _with_page(layout: Any, tracks: Sequence[Track], name: str) -> Any:
    """The layout with the protocol's page at its right."""
    pages = [
        rrb.TextDocumentView(origin=track.entity, name="protocol") for track in tracks if isinstance(track, TextTrack)
    ]
    return rrb.Horizontal(layout, *pages, column_shares=[4, 1][: 1 + len(pages)], name=name)


def _below(tracks: Sequence[Track], prefix: str) -> list[Track]:
    """The tracks whose entity starts with `prefix`."""
    return [track for track in tracks if track.entity.startswith(prefix)]


def _scalar_entities(tracks: Sequence[Track]) -> list[str]:
    """The entities of all curves."""
    return [track.entity for track in tracks if isinstance(track, ScalarTrack)]
