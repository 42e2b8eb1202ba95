"""Whether a recording's layout shows what is in it: every picture, body, curve and page in a view, every view with something.

Does not belong here: whether what is in it is right (`contract`), how a layout looks.
"""

from __future__ import annotations

from thesis_assets.evaluation.qualitative.verification import RecordedView, RecordingContent

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
