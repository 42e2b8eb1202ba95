"""Layouts of the recordings: which views, beside what, on which timeline. One that a person wants to open.

Does not belong here: what is in a recording; a blueprint lays out the tracks it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rerun.blueprint as rrb

from thesis_assets.evaluation.qualitative.recording import FRAME, STEP
from thesis_assets.evaluation.qualitative.tracks import (
    BodyTrack,
    CameraTrack,
    DepthTrack,
    ImageTrack,
    MaskTrack,
    MeshTrack,
    ScalarTrack,
    TextTrack,
    Track,
)
from thesis_assets.layout import POSE_TASKS, epoch_name

FRAMES_PER_SECOND = 20.0
STEPS_PLAY_SECONDS = 10.0
"""A tuning run's recording plays from its first to its last step in this time."""
BACKGROUND = (32, 34, 38)
_MAX_PEOPLE = 16
"""SMPL copies of so many people are kept out of the 3D view; they lie exactly on their SMPL-X ones."""


def input_data_blueprint(tracks: Sequence[Track]) -> Any:
    """Cameras and people in 3D, beside a grid of the camera pictures; depth and novel-view debug pictures on tabs behind."""
    splits = [split for split in ("test", "train") if _below(tracks, f"/input_data/{split}/")]
    worlds = [_world_view(tracks, split) for split in splits]
    pictures = [_camera_grid(tracks, split) for split in splits]
    depths = [_picture(track.entity, [track.entity]) for track in tracks if isinstance(track, DepthTrack)]
    debug = [
        _picture(track.entity, [track.entity])
        for track in _below(tracks, "/input_data/train/misc/")
        if _is_image(track)
    ]
    tabs = [grid for grid in pictures if grid is not None]
    tabs += [rrb.Grid(*views, name=name) for name, views in (("depth", depths), ("novel views", debug)) if views]
    sides: list[Any] = [rrb.Vertical(*worlds, name="3D")] if worlds else []
    sides += [rrb.Tabs(*tabs, name="cameras")] if tabs else []
    return _blueprint(rrb.Horizontal(*sides, column_shares=[3, 4][: len(sides)]), FRAME, FRAMES_PER_SECOND)


def evaluation_blueprint(epoch: int, tracks: Sequence[Track]) -> Any:
    """A tab a task: predictions beside truth with their curves below; pose in 3D; each with its page."""
    root = f"/evaluation/{epoch_name(epoch)}"
    tabs = []
    nvs = _below(tracks, f"{root}/nvs/")
    if nvs:
        tabs += [_nvs_tab(nvs, f"{root}/nvs"), *_nvs_inputs_tab(nvs, f"{root}/nvs")]
    for task in POSE_TASKS:
        if found := _below(tracks, f"{root}/{task}/"):
            tabs.append(_pose_tab(found, f"{root}/{task}", task))
    return _blueprint(rrb.Tabs(*tabs), FRAME, FRAMES_PER_SECOND)


def triplets_blueprint(root: str, titles: Mapping[str, str], last_step: int) -> Any:
    """A row a sample (render, refined, target, reference), PSNR over steps below.

    Args:
        titles: entity of each sample to what a person calls it.
    """
    rows = [
        rrb.Horizontal(
            _picture(f"{entity}/render", name=f"render: {title}"),
            *(_picture(f"{entity}/{part}", name=part) for part in ("refined", "target", "reference")),
            name=title,
        )
        for entity, title in titles.items()
    ]
    curves = rrb.TimeSeriesView(
        origin=root, contents=[f"{entity}/psnr/**" for entity in titles], name="PSNR (dB) over steps"
    )
    layout = rrb.Vertical(*rows, curves, row_shares=[1.0] * len(rows) + [1.2])
    return _blueprint(layout, STEP, max(1.0, last_step / STEPS_PLAY_SECONDS))


def _blueprint(layout: Any, timeline: str, frames_per_second: float) -> Any:
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


def _world_view(tracks: Sequence[Track], split: str) -> Any:
    """Cameras with their pictures, and people. Depth and masks stay out: they would hide the pictures."""
    root = f"/input_data/{split}"
    entities = [
        track.entity
        for track in _below(tracks, f"{root}/cameras/")
        if isinstance(track, CameraTrack) or _is_image(track)
    ]
    contents = [*entities, f"{root}/people/**"]
    if any(isinstance(track, BodyTrack) and track.suffix for track in tracks):
        contents += [f"- {root}/people/person_{person}/smpl" for person in range(_MAX_PEOPLE)]
    return rrb.Spatial3DView(origin=root, contents=contents, name=f"{split}: cameras and people", background=BACKGROUND)


def _camera_grid(tracks: Sequence[Track], split: str) -> Any | None:
    """A picture with its mask over it, a camera."""
    views = []
    present = {track.entity for track in tracks}
    for track in _below(tracks, f"/input_data/{split}/cameras/"):
        if _is_image(track):
            camera = track.entity.rpartition("/")[0]
            contents = [entity for entity in (track.entity, f"{camera}/mask") if entity in present]
            views.append(_picture(camera, contents, name=f"{split} {camera.rpartition('/')[2]}"))
    return rrb.Grid(*views, name=f"{split} cameras") if views else None


def _nvs_tab(tracks: Sequence[Track], root: str) -> Any:
    cameras = _cameras_in_order(tracks, root)
    rows = []
    for camera in cameras:
        sides = [f"{root}/{side}/{camera}" for side in ("pred", "gt_inputs")]
        views = [
            _picture(entity, name=f"{camera} {name}")
            for entity, name in zip(sides, ("prediction", "ground truth"), strict=True)
            if any(track.entity == entity for track in tracks)
        ]
        rows.append(rrb.Horizontal(*views, name=camera))
    curves = [
        rrb.TimeSeriesView(origin=f"{root}/metrics/{metric}", name=metric)
        for metric in _in_order(track.entity.split("/")[-2] for track in tracks if isinstance(track, ScalarTrack))
    ]
    pictures: list[Any] = [rrb.Vertical(*rows, name="prediction and ground truth")] if rows else []
    below: list[Any] = [rrb.Horizontal(*curves, name="metrics")] if curves else []
    shares = [3.0] * len(pictures) + [1.0] * len(below)
    return _with_page(rrb.Vertical(*pictures, *below, row_shares=shares), tracks, "nvs")


def _nvs_inputs_tab(tracks: Sequence[Track], root: str) -> list[Any]:
    """The unrefined renders, their masks and cameras."""
    renders = [track.entity for track in tracks if _is_image(track) and track.entity.startswith(f"{root}/inputs/")]
    if not renders:
        return []
    masks = {track.entity for track in tracks if isinstance(track, MaskTrack)}
    views = []
    for render in renders:
        camera = render.rpartition("/")[0]
        contents = [render, *(mask for mask in (f"{camera}/mask",) if mask in masks)]
        views.append(_picture(camera, contents, name=f"{camera.rpartition('/')[2]} render"))
    cameras = [track.entity for track in tracks if isinstance(track, CameraTrack)]
    world = rrb.Spatial3DView(
        origin=f"{root}/inputs", contents=[*cameras, *renders], name="cameras", background=BACKGROUND
    )
    return [rrb.Horizontal(rrb.Grid(*views), world, column_shares=[2, 1], name="nvs inputs")]


def _pose_tab(tracks: Sequence[Track], root: str, task: str) -> Any:
    worlds = []
    for alignment, extra in (("world_aligned", [f"{root}/inputs/**"]), ("root_aligned", [])):
        if any(isinstance(track, MeshTrack) and f"/{alignment}/" in track.entity for track in tracks):
            contents = [f"{root}/pred/{alignment}/**", f"{root}/gt_inputs/{alignment}/**", *extra]
            title = f"{alignment.replace('_', ' ')}: prediction orange, ground truth green"
            worlds.append(rrb.Spatial3DView(origin=root, contents=contents, name=title, background=BACKGROUND))
    if not worlds and any(isinstance(track, BodyTrack) for track in tracks):
        worlds.append(rrb.Spatial3DView(origin=root, contents=[f"{root}/inputs/**"], name="joints"))
    curves = [
        rrb.TimeSeriesView(origin=root, contents=names, name=title) for title, names in _pose_curves(tracks) if names
    ]
    parts: list[Any] = [rrb.Horizontal(*worlds)] if worlds else []
    parts += [rrb.Horizontal(*curves)] if curves else []
    return _with_page(rrb.Vertical(*parts, row_shares=[2.0, 1.0][: len(parts)]), tracks, task)


def _pose_curves(tracks: Sequence[Track]) -> list[tuple[str, list[str]]]:
    """Millimetres and shares have different scales, so they have a plot each."""
    curves = [track.entity for track in tracks if isinstance(track, ScalarTrack)]
    millimetres = [entity for entity in curves if entity.endswith("_mm")]
    return [("millimetres", millimetres), ("share", [entity for entity in curves if entity not in millimetres])]


def _with_page(layout: Any, tracks: Sequence[Track], name: str) -> Any:
    pages = [
        rrb.TextDocumentView(origin=track.entity, name="protocol") for track in tracks if isinstance(track, TextTrack)
    ]
    return rrb.Horizontal(layout, *pages, column_shares=[4, 1][: 1 + len(pages)], name=name)


def _picture(origin: str, contents: list[str] | None = None, *, name: str | None = None) -> Any:
    title = name or origin.removeprefix("/input_data/train/misc/nv_generation/").removeprefix("/input_data/")
    return rrb.Spatial2DView(origin=origin, contents=contents or [origin], name=title)


def _below(tracks: Sequence[Track], prefix: str) -> list[Track]:
    return [track for track in tracks if track.entity.startswith(prefix)]


def _is_image(track: Track) -> bool:
    return isinstance(track, ImageTrack)


def _cameras_in_order(tracks: Sequence[Track], root: str) -> list[str]:
    """`cam_4`, `cam_16`, ... of the compared images, by number."""
    sides = (f"{root}/pred/", f"{root}/gt_inputs/")
    names = {track.entity.rpartition("/")[2] for track in tracks if track.entity.startswith(sides)}
    return sorted(names, key=lambda name: int(name.removeprefix("cam_")))


def _in_order(names: Any) -> list[str]:
    return list(dict.fromkeys(names))
