"""The scenes: made from a capture of another format, drawn for the demo, listed, and checked for what they lack for which task."""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thesis_assets.cli import options
from thesis_assets.cli.console import (
    CHECK_FAILED,
    FAILED,
    human_bytes,
    load_platform,
    print_json,
    print_table,
    progress_line,
)
from thesis_assets.errors import InvalidExperiment, ThesisAssetsError, reason_of

if TYPE_CHECKING:
    from thesis_assets.scenes.catalog import Finding, SceneSummary
    from thesis_assets.scenes.importers.capture import Arrangement, Capture
    from thesis_assets.scenes.importers.hi4d_actions import Hi4DAction, Hi4DImport, Hi4DOutcome
    from thesis_assets.scenes.importers.writing import ImportedScene
    from thesis_assets.scenes.listing import SceneRoots
    from thesis_assets.scenes.scene import Scene


scene_app = typer.Typer(no_args_is_help=True)
_ORIGINS = {
    "hard_link": "hard-linked (JPEG): the scene and the original are one file",
    "reflink": "copied with shared extents (JPEG)",
    "copy": "copied (JPEG)",
    "jpeg_q95": "converted to JPEG, quality 95",
    "undistorted_q95": "undistorted, JPEG of quality 95",
}
_MASKS_FOR = "only `apply_mask` and mask coverage need them"


@scene_app.command("init")
def init(
    scene: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="As --name; of Hi4D the action: fight15, pair15/fight15.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The scene's name: <dataset>_<rest>, such as garden_bench.")
    ] = None,
    nerfstudio: Annotated[
        Path | None, typer.Option("--nerfstudio", help="A transforms.json, or the folder that holds it.", exists=True)
    ] = None,
    colmap: Annotated[
        Path | None,
        typer.Option("--colmap", help="A sparse model (binary or text), or a project with sparse/0.", exists=True),
    ] = None,
    hi4d: Annotated[
        Path | None,
        typer.Option(
            "--hi4d", help="A folder of Hi4D as it is distributed, or of one action.", exists=True, file_okay=False
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Of Hi4D: every action.")] = False,
    pairs: Annotated[str | None, typer.Option("--pairs", help="Of Hi4D: the actions of these pairs, as 15,16.")] = None,
    without: Annotated[
        str | None, typer.Option("--without", help="Of Hi4D: leave out seg, smpl or frames (comma separated).")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images", help="The folder that the listing's image paths start from.", exists=True, file_okay=False
        ),
    ] = None,
    one_frame: Annotated[
        bool, typer.Option("--one-frame", help="Every image is a camera of its own, frame 000000 (the default).")
    ] = False,
    frames_from: Annotated[
        str | None,
        typer.Option(
            "--frames-from",
            help=r"Regular expression over an image's path with groups `cam` and `frame`, "
            r"such as 'cam(?P<cam>\d+)/(?P<frame>\d+)'.",
        ),
    ] = None,
    source_camera: Annotated[
        str | None,
        typer.Option("--source-camera", help="The camera of the monocular video: its id, or its name in the capture."),
    ] = None,
    gaussians: Annotated[
        Path | None,
        typer.Option(
            "--gaussians", help="A 3DGS PLY in the capture's world, for all frames.", exists=True, dir_okay=False
        ),
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy JPEG files and Gaussians instead of linking them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything; write nothing.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Make scenes from nerfstudio, COLMAP or Hi4D. A scene that is there is never written over.

    Cameras keep the capture's world and unit of length. Images are JPEG files of the scene: JPEG is linked, the rest is
    converted at quality 95. `misc/import_record.json` of the scene says which image is which camera and frame.
    Several actions of Hi4D are imported side by side; one that is refused stops no other, and is named at the end (exit code 1).
    """
    from thesis_assets.scenes.importers import capture as arrangements
    from thesis_assets.scenes.importers.colmap import read_colmap
    from thesis_assets.scenes.importers.nerfstudio import read_nerfstudio
    from thesis_assets.scenes.importers.writing import check_capture, refuse_existing, write_scene

    readers = [(nerfstudio, read_nerfstudio), (colmap, read_colmap)]
    named = [(path, read) for path, read in readers if path is not None]
    listing, read = named[0] if named else (None, read_nerfstudio)
    wanted = scene or name
    if len(named) + (hi4d is not None) != 1:
        sources = "--nerfstudio <transforms.json>, --colmap <sparse model> or --hi4d <folder>"
        raise typer.BadParameter(f"name one source: {sources}")
    if name not in (None, wanted):
        raise typer.BadParameter(f"two names: {scene} and --name {name}")
    of_hi4d = {"--all": everything, "--pairs": pairs, "--without": without}
    of_listings = {"--images": images, "--one-frame": one_frame, "--frames-from": frames_from, "--gaussians": gaussians}
    if idle := [option for option, value in (of_hi4d if listing else of_listings).items() if value]:
        raise typer.BadParameter(f"{', '.join(idle)}: not with {'a listing' if listing else '--hi4d'}")
    if hi4d is not None:
        chosen = _chosen_of_hi4d(hi4d, wanted, pairs, everything=everything)
        init_hi4d(chosen, source_camera, _parts(without), copy=copy, dry_run=dry_run, as_json=as_json)
        return
    if listing is None or wanted is None:
        raise typer.BadParameter("a scene of a listing needs a name: --name <dataset>_<rest>")
    if one_frame and frames_from is not None:
        raise typer.BadParameter("--one-frame and --frames-from exclude each other")
    try:
        pattern = arrangements.compile_pattern(frames_from) if frames_from is not None else None
    except ValueError as error:
        raise typer.BadParameter(f"--frames-from: {error}") from error
    platform = load_platform()
    tree = platform.roots.tree(wanted)
    refuse_existing(tree, None, gaussians)
    capture = read(listing, images=images)
    arrangement = arrangements.frames_from(capture, pattern) if pattern else arrangements.one_frame(capture)
    source = arrangement.camera_called(source_camera) if source_camera is not None else None
    notes = [*capture.notes, *gaussians_notes(gaussians, arrangement), *group_notes(wanted)]
    imported = None
    if dry_run:
        check_capture(capture, arrangement, progress_line)
    else:
        imported = write_scene(
            platform.roots,
            wanted,
            capture,
            arrangement,
            source_camera=source,
            gaussians=gaussians,
            link_mode="copy" if copy else "auto",
            on_progress=progress_line,
        )
    report_init(wanted, capture, arrangement, notes, imported, platform.roots, as_json)


@scene_app.command("check")
def check(
    folder: Annotated[str, typer.Argument(help="A scene's folder, or the name of one below the ground-truth root.")],
    purposes: Annotated[
        list[str] | None,
        typer.Option("--for", help="export, nvs, pose_smplx or pose_smpl (repeatable); default: export."),
    ] = None,
    source_camera: Annotated[
        int | None, typer.Option("--source-camera", help="As the experiment names it; default: the registry's.")
    ] = None,
    renders: Annotated[
        str | None,
        typer.Option("--renders", help="gaussians, precomputed or command; default: either of the first two."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Say what a scene lacks for which task, and what is broken.

    Exit code 3: a file is broken, or something is missing for a task of `--for`.
    """
    from thesis_assets.scenes.catalog import PURPOSES, check_scene
    from thesis_assets.scenes.scene import open_scene

    asked = [purpose for purpose in PURPOSES if purpose in (purposes or ["export"])]
    if unknown := sorted({*(purposes or [])} - {*PURPOSES}):
        raise typer.BadParameter(f"--for {', '.join(unknown)}: choose from {', '.join(PURPOSES)}")
    if renders not in (None, "gaussians", "precomputed", "command"):
        raise typer.BadParameter("--renders: choose from gaussians, precomputed, command")
    platform = load_platform()
    roots, name = scene_at(platform.roots, folder)
    report = check_scene(
        roots,
        name,
        source_camera=source_camera,
        render_source=renders,
        quiet_s=platform.settings.quiet_seconds,
        on_progress=progress_line,
    )
    findings = list(report.findings)
    if report.summary.problem is None:
        findings += gaussians_findings(open_scene(roots, name))
    broken = report.broken or any(finding.severity == "error" for finding in findings)
    failed = broken or any(report.summary.missing.get(purpose) for purpose in asked)
    if as_json:
        print_json(
            {
                "scene": name,
                "passed": not failed,
                "asked_for": asked,
                "enough_for": {purpose: report.summary.enough_for(purpose) for purpose in PURPOSES},
                "findings": [dataclasses.asdict(finding) for finding in findings],
                "notes": group_notes(name),
                "summary": dataclasses.asdict(report.summary),
            }
        )
    else:
        print_check(roots, report.summary, findings)
    if failed:
        raise typer.Exit(CHECK_FAILED)


@scene_app.command("look")
def look(
    folder: Annotated[str, typer.Argument(help="A scene's folder, or the name of one below the ground-truth root.")],
    max_frames: Annotated[
        int, typer.Option("--max-frames", min=0, help="The first so many frames of each camera; 0 = all.")
    ] = 0,
    lossless: Annotated[bool, typer.Option("--lossless", help="PNG files go in as they are.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Record a scene before any run.

    Is this the right scene, world and person? Cameras with their images, masks and depth, the estimated and the true people, and the Gaussians, in one world.
    """
    from thesis_assets.recordings.scene_look import look_at_scene
    from thesis_assets.recordings.tracks import ExportOptions
    from thesis_assets.scenes.scene import open_scene

    platform = load_platform()
    roots, name = scene_at(platform.roots, folder)
    path = platform.settings.reports.scene_look(name)
    found = look_at_scene(open_scene(roots, name), path, ExportOptions(max_frames, lossless), progress_line)
    if as_json:
        print_json({"scene": name, "path": str(found.path), "bytes": found.n_bytes, "absent": list(found.absent)})
        return
    for line in found.absent:
        print(f"note: {line}")
    print(f"{name}: {found.path} ({human_bytes(found.n_bytes)})")
    print(f"next: `thesis-assets rerun open {found.path}`, or with --web where there is no screen")


def scene_at(roots: "SceneRoots", folder: str) -> "tuple[SceneRoots, str]":
    """The roots and the name of a scene given by its name, or by its folder, which may lie outside the ground-truth root."""
    from thesis_assets.scenes.catalog import list_scenes

    if folder in list_scenes(roots):
        return roots, folder
    path = Path(os.path.abspath(folder))  # noqa: PTH100 - `resolve` would take the name of what a link leads to
    if path.parent in (roots.canonical_gt, roots.preprocessing) or not path.is_dir():
        return roots, path.name
    return dataclasses.replace(roots, canonical_gt=path.parent), path.name


# --- `scene init --hi4d`: many scenes, side by side ------------------------------------------------------------------


def _chosen_of_hi4d(root: Path, name: str | None, pairs: str | None, *, everything: bool) -> "list[Hi4DAction]":
    from thesis_assets.scenes.importers.hi4d_actions import choose_actions, find_actions

    numbers = [word.strip().removeprefix("pair") for word in pairs.split(",")] if pairs is not None else []
    if not all(number.isascii() and number.isdigit() and len(number) <= 9 for number in numbers):
        raise typer.BadParameter(f"--pairs {pairs}: write numbers, comma separated, such as 15,16")
    if name is not None and (numbers or everything):
        raise typer.BadParameter("a name and --all or --pairs exclude each other")
    return choose_actions(find_actions(root), root, name=name, pairs=numbers, everything=everything)


def _parts(without: str | None) -> tuple[str, ...]:
    from thesis_assets.scenes.importers.hi4d import OPTIONAL_PARTS

    parts = sorted({word.strip() for word in without.split(",")}) if without is not None else []
    if unknown := [part for part in parts if part not in OPTIONAL_PARTS]:
        raise typer.BadParameter(f"--without {', '.join(unknown)}: choose from {', '.join(OPTIONAL_PARTS)}")
    return tuple(parts)


def init_hi4d(
    actions: "Sequence[Hi4DAction]",
    source_camera: str | None,
    without: tuple[str, ...],
    *,
    copy: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import actions; the only one's error is raised, of several each is told at the end."""
    from thesis_assets.launch.mapping import map_items
    from thesis_assets.scenes.importers.hi4d_actions import Hi4DImport, import_action

    platform = load_platform()
    jobs = [
        Hi4DImport(platform.roots, action, source_camera, without, "copy" if copy else "auto", dry_run)
        for action in actions
    ]
    n_done = 0

    def on_done(job: "Hi4DImport", outcome: "Hi4DOutcome | Exception") -> None:
        nonlocal n_done
        n_done += 1
        word = "refused" if isinstance(outcome, Exception) else outcome.state
        progress_line(f"{job.action.scene_name}: {word} ({n_done} of {len(jobs)})")

    outcomes = map_items(import_action, jobs, workers=platform.workers, on_done=on_done, on_line=progress_line)
    if len(outcomes) == 1 and isinstance(outcomes[0], Exception):
        raise outcomes[0]
    report_hi4d(jobs, outcomes, platform.roots, as_json)
    if any(isinstance(outcome, Exception) for outcome in outcomes):
        raise typer.Exit(FAILED)


def report_hi4d(
    jobs: "Sequence[Hi4DImport]", outcomes: "Sequence[Hi4DOutcome | Exception]", roots: "SceneRoots", as_json: bool
) -> None:
    """What became of each action, those that are refused last."""
    from thesis_assets.scenes.catalog import describe_scene

    pairs = list(zip(jobs, outcomes, strict=True))
    refused = [(job.action, reason_of(each)) for job, each in pairs if isinstance(each, Exception)]
    done = [each for each in outcomes if not isinstance(each, Exception)]
    there = {each.action.scene_name for each in done if each.state != "would be made"}
    summaries = {name: describe_scene(roots, name) for name in sorted(there)}
    values: list[dict[str, Any]] = []
    for each in done:
        name, summary = each.action.scene_name, summaries.get(each.action.scene_name)
        values.append(
            {
                "scene": name,
                "source": str(each.action.folder),
                "state": each.state,
                "cameras": list(each.cameras),
                "source_camera": summary.source_camera if summary else each.source_camera,
                "n_frames": each.n_frames,
                "n_images": each.n_images,
                "directory": str(roots.tree(name).ground_truth.base) if summary else None,
                "images": dict(each.imported.origins) if each.imported else None,
                "n_masks": each.imported.n_masks if each.imported else None,
                "missing": dict(summary.missing) if summary else None,
                "notes": list(each.notes),
            }
        )
    if as_json:
        failed = [{"scene": action.scene_name, "source": str(action.folder), "reason": why} for action, why in refused]
        print_json({"scenes": values, "refused": failed})
        return
    for value in values:
        print_hi4d_scene(value)
    for action, why in refused:
        print(f"refused: {action.folder}: {why}")
    counts = Counter([each.state for each in done] + ["refused"] * len(refused))
    print(f"{_counted(len(jobs), 'action')}: {', '.join(f'{count} {state}' for state, count in counts.items())}")
    if any(value["state"] == "would be made" for value in values):
        print("nothing is written; without --dry-run it is")
    elif values:
        print(
            f"next: `thesis-assets scene check {values[0]['scene']}`"
            if len(values) == 1
            else "next: `thesis-assets scenes`"
        )


def print_hi4d_scene(value: dict[str, Any]) -> None:
    """One action that is imported, or would be, as `report_hi4d` has it in JSON."""
    source = "none, name one by --source-camera" if value["source_camera"] is None else value["source_camera"]
    made = "there already, whole, left alone:" if value["state"] == "there already" else f"{value['state']} from"
    print(
        f"{value['scene']}: {made} {value['source']}: {_counted(len(value['cameras']), 'camera')}, "
        f"{_counted(value['n_frames'], 'frame')}, {_counted(value['n_images'], 'image')}, source camera {source}"
    )
    for note in value["notes"]:
        print(f"  note: {note}")
    for origin, count in (value["images"] or {}).items():
        print(f"  images: {count} {_ORIGINS[origin]}")
    if value["images"]:
        print(f"  written: {value['directory']}")


# --- what `scene init` and `scene check` say -------------------------------------------------------------------------


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
        print_json(
            {
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
        )
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


# --- Gaussians that are given or there: readable, and in the world of the cameras ------------------------------------


def gaussians_notes(gaussians: Path | None, arrangement: "Arrangement") -> list[str]:
    """Refuses a file that is no 3DGS PLY; notes Gaussians that the cameras do not see."""
    from thesis_assets.rendering.gaussians import read_ply
    from thesis_assets.scenes.camera import Camera

    if gaussians is None:
        return []
    views = [(each.cam_id, each.photograph) for each in arrangement.placed]
    cameras = [Camera(cam_id, view.intrinsics, view.extrinsics, view.height, view.width) for cam_id, view in views]
    return _unseen(read_ply(gaussians).means, cameras)


def gaussians_findings(scene: "Scene") -> "list[Finding]":
    """The Gaussians of the first frame: readable, and in the cameras' world."""
    from thesis_assets.rendering.gaussians import read_ply
    from thesis_assets.scenes.catalog import Finding

    frames = scene.frames()
    path = scene.gaussians_path(frames[0]) if frames else None
    if path is None:
        return []
    try:
        means = read_ply(path).means
    except ThesisAssetsError as error:
        return [Finding("error", "gaussians", 1, " ".join(str(error).split()))]
    cameras = []
    for cam_id in scene.camera_ids():
        if frames[0] in scene.camera_files(cam_id).paths and scene.image_files(cam_id).paths:
            try:
                cameras.append(scene.camera(cam_id, frames[0]))
            except ThesisAssetsError as error:
                progress_line(f"camera {cam_id} is left out of the look at the Gaussians: {error.problem}")
    return [Finding("warning", "gaussians", 1, note) for note in _unseen(means, cameras)] if cameras else []


def _unseen(means: Any, cameras: Sequence[Any]) -> list[str]:
    from thesis_assets.scenes.camera import MIN_SHARE_IN_VIEW, share_in_view

    share = share_in_view(means, cameras)
    if share >= MIN_SHARE_IN_VIEW:
        return []
    return [
        f"the cameras see {share:.1%} of the Gaussians: these seem to be of another world. nerfstudio turns, centres and scales "
        "the world when it trains; train with `--orientation-method none --center-method none --auto-scale-poses False`"
    ]


# --- `demo-scenes` and `scenes` --------------------------------------------------------------------------------------


def demo_scenes(as_json: options.AsJson = False) -> None:
    """Make the demo scenes.

    A synthetic studio with moving pairs of people, and one pair of real stereo photographs. Scenes that are there already, whole, are left alone.
    """
    from thesis_assets.demo.motorcycle import make_motorcycle
    from thesis_assets.demo.studio import make_studio

    platform = load_platform()
    names = [*make_studio(platform.roots, platform.echo), *make_motorcycle(platform.roots)]
    if as_json:
        print_json({"scenes": names, "canonical_gt": str(platform.roots.canonical_gt)})
    else:
        print(f"{len(names)} demo scenes below {platform.roots.canonical_gt}: {', '.join(names)}")


def list_scenes_command(as_json: options.AsJson = False) -> None:
    """List the scenes on disk, and what each lacks for which task."""
    from thesis_assets.scenes.catalog import describe_scene, list_scenes, missing_text

    platform = load_platform()
    summaries = [describe_scene(platform.roots, name) for name in list_scenes(platform.roots)]
    if as_json:
        print_json([dataclasses.asdict(summary) for summary in summaries])
        return
    if not summaries:
        print(
            f"no scene below {platform.roots.canonical_gt} (THESIS_CANONICAL_GT_ROOT_DIR); "
            "`thesis-assets scene init` makes one from a capture, `thesis-assets demo-scenes` draws some"
        )
        return
    rows = [
        (each.name, each.n_frames, len(each.cameras), ", ".join(each.modalities), missing_text(each))
        for each in summaries
    ]
    print_table(
        f"Scenes below {platform.roots.canonical_gt}", ("scene", "frames", "cameras", "modalities", "missing"), rows
    )
    print(
        "next: `thesis-assets scene check <scene>` says where what is missing is looked for, and what of the rest is broken"
    )
