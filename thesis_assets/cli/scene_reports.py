"""What `thesis-assets scene init` and `scene check` say: an import and a check as text or JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from thesis_assets.cli.console import print_json, print_table
from thesis_assets.errors import InvalidExperiment

if TYPE_CHECKING:
    from thesis_assets.scenes.catalog import SceneSummary
    from thesis_assets.scenes.importers.capture import Arrangement, Capture
    from thesis_assets.scenes.importers.writing import ImportedScene
    from thesis_assets.scenes.listing import SceneRoots
    from thesis_assets.scenes.scene_check import Finding

_ORIGINS = {
    "hard_link": "hard-linked (JPEG): the scene and the original are one file",
    "reflink": "copied with shared extents (JPEG)",
    "copy": "copied (JPEG)",
    "jpeg_q95": "converted to JPEG, quality 95",
}
_MASKS_FOR = "only `apply_mask` and mask coverage need them"


def report_init(
    name: str,
    capture: "Capture",
    arrangement: "Arrangement",
    notes: Sequence[str],
    imported: "ImportedScene | None",
    roots: "SceneRoots",
    as_json: bool,
) -> None:
    """What an import made; `imported` None: what it would make."""
    from thesis_assets.scenes.catalog import describe_scene

    summary = describe_scene(roots, name) if imported is not None else None
    if as_json:
        print_json(_init_value(name, capture, arrangement, notes, imported, summary))
        return
    n_images, n_frames = len(arrangement.placed), len(arrangement.frames)
    done = "would be made from" if imported is None else "made from"
    print(
        f"{name}: {done} {capture.source}: {_counted(len(arrangement.camera_names), 'camera')}, "
        f"{_counted(n_frames, 'frame')}, {_counted(n_images, 'image')}"
    )
    shown = list(arrangement.camera_names.items())[:6]
    more = len(arrangement.camera_names) - len(shown)
    rows = [(str(cam_id), camera_name) for cam_id, camera_name in shown] + ([("...", f"{more} more")] if more else [])
    print_table("Cameras", ("id", "in the capture"), rows)
    for note in notes:
        print(f"note: {note}")
    if imported is None or summary is None:
        print("nothing is written (--dry-run)")
        return
    for origin, count in imported.origins.items():
        print(f"images: {count} {_ORIGINS[origin]}")
    print(f"masks: {imported.n_masks} of {n_images} images" + ("" if imported.n_masks else f" ({_MASKS_FOR})"))
    print(f"written: {imported.tree.ground_truth.base}")
    print(f"which image is which: {imported.tree.ground_truth.import_record}")
    _print_tasks(summary)
    print(f"next: `thesis-assets scene check {name}`")


def _init_value(
    name: str,
    capture: "Capture",
    arrangement: "Arrangement",
    notes: Sequence[str],
    imported: "ImportedScene | None",
    summary: "SceneSummary | None",
) -> dict[str, Any]:
    return {
        "scene": name,
        "dry_run": imported is None,
        "source": str(capture.source),
        "cameras": {str(cam_id): camera_name for cam_id, camera_name in arrangement.camera_names.items()},
        "n_frames": len(arrangement.frames),
        "n_images": len(arrangement.placed),
        "directory": str(imported.tree.ground_truth.base) if imported else None,
        "images": dict(imported.origins) if imported else None,
        "n_masks": imported.n_masks if imported else None,
        "registry": str(imported.registry) if imported and imported.registry else None,
        "gaussians": str(imported.gaussians) if imported and imported.gaussians else None,
        "missing": dict(summary.missing) if summary else None,
        "notes": list(notes),
    }


def print_check(roots: "SceneRoots", summary: "SceneSummary", findings: "Sequence[Finding]") -> None:
    """What a scene has, what it lacks for which task, and what of it is broken."""
    print(f"{summary.name} in {roots.canonical_gt}")
    if summary.problem is not None:
        print(f"cannot be read: {summary.problem}")
        return
    cameras = ", ".join(str(cam_id) for cam_id in summary.cameras[:12]) + (", ..." if len(summary.cameras) > 12 else "")
    print(
        f"{_counted(summary.n_frames, 'frame')}, {_counted(len(summary.cameras), 'camera')} ({cameras}), source camera {summary.source_camera}"
    )
    print(f"has: {', '.join(summary.modalities) or 'nothing'}")
    _print_tasks(summary)
    if "ground_truth/seg" not in summary.modalities:
        print(f"no masks (seg/img_seg_mask): {_MASKS_FOR}")
    for each in findings:
        more = f"{each.count:,} files, the first: " if each.count > 1 else ""
        print(f"{each.severity}: {each.place}: {more}{each.message}")
    for line in (*summary.gaps, *summary.warnings, *group_notes(summary.name)):
        print(f"note: {line}")
    print(f"state: {summary.completeness.reason}")


def _print_tasks(summary: "SceneSummary") -> None:
    for purpose, reasons in summary.missing.items():
        print(f"{purpose}: " + ("missing " + "; ".join(reasons) if reasons else "enough"))


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def group_notes(name: str) -> list[str]:
    """What an experiment has to say on a dataset without a group rule, before its export says it."""
    from thesis_assets.scenes.matching import group_id

    try:
        group_id(name, {})
    except InvalidExperiment as error:
        return [f"{error.problem}; {error.remedy}"]
    return []
