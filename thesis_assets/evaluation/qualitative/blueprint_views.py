"""The single views that layouts are made of: a picture, a world, curves, a page; and how a layout plays.

Does not belong here: which views stand beside each other (`blueprints`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import rerun.blueprint as rrb

from thesis_assets.evaluation.qualitative.tracks import ImageTrack, ScalarTrack, TextTrack, Track
from thesis_assets.evaluation.qualitative.viewpoints import Viewpoint

BACKGROUND = (32, 34, 38)
MAX_LEGEND = 4
"""A legend of more lines would cover a small plot; a curve under the pointer names itself."""


def blueprint(layout: Any, timeline: str, frames_per_second: float) -> Any:
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


def picture(origin: str, contents: Sequence[str] = (), *, name: str | None = None, hidden: Sequence[str] = ()) -> Any:
    """A 2D view of an image and what lies over it; `hidden` layers are there, switched off."""
    title = name or origin.removeprefix("/input_data/train/misc/nv_generation/").removeprefix("/input_data/")
    switched_off: Any = {entity: rrb.EntityBehavior(visible=False) for entity in hidden}
    return rrb.Spatial2DView(
        origin=origin, contents=[*(contents or [origin]), *hidden], name=title, overrides=switched_off
    )


def world(origin: str, contents: Sequence[str], name: str, viewpoint: Viewpoint | None) -> Any:
    """A 3D view, looked at from `viewpoint`, else from where the viewer likes."""
    eye = None
    if viewpoint is not None:
        eye = rrb.EyeControls3D(
            kind=rrb.Eye3DKind.Orbital,
            position=viewpoint.position,
            look_target=viewpoint.target,
            eye_up=viewpoint.up,
        )
    return rrb.Spatial3DView(origin=origin, contents=list(contents), name=name, background=BACKGROUND, eye_controls=eye)


def curves(origin: str, contents: Sequence[str], name: str, *, legend: bool | None = None) -> Any:
    """A plot over the timeline. The legend stands where few curves are, or as said."""
    shown = len(contents) <= MAX_LEGEND if legend is None else legend
    return rrb.TimeSeriesView(
        origin=origin, contents=list(contents), name=name, plot_legend=rrb.PlotLegend(visible=shown)
    )


def with_page(layout: Any, tracks: Sequence[Track], name: str) -> Any:
    """The layout with the protocol's page at its right."""
    pages = [
        rrb.TextDocumentView(origin=track.entity, name="protocol") for track in tracks if isinstance(track, TextTrack)
    ]
    return rrb.Horizontal(layout, *pages, column_shares=[4, 1][: 1 + len(pages)], name=name)


def columns_for(n_rows: int) -> int:
    """Columns of a grid whose cells are about three pictures wide, so that 8 cameras still fit above the curves."""
    return max(1, math.ceil(n_rows / 4))


def below(tracks: Sequence[Track], prefix: str) -> list[Track]:
    """The tracks whose entity starts with `prefix`."""
    return [track for track in tracks if track.entity.startswith(prefix)]


def is_image(track: Track) -> bool:
    """Whether it is a track of photographs or renders."""
    return isinstance(track, ImageTrack)


def scalar_entities(tracks: Sequence[Track]) -> list[str]:
    """The entities of all curves."""
    return [track.entity for track in tracks if isinstance(track, ScalarTrack)]
