"""`thesis-assets scene init` and `scene check`: a capture of another format as a scene, and what a scene lacks for which task."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thesis_assets.cli.console import (
    CHECK_FAILED,
    JsonOption,
    load_platform,
    print_json,
    progress_line,
)
from thesis_assets.cli.scene_gaussians import gaussians_findings, gaussians_notes
from thesis_assets.cli.scene_reports import group_notes, print_check, report_init

if TYPE_CHECKING:
    from thesis_assets.scenes.listing import SceneRoots

scene_app = typer.Typer(no_args_is_help=True)


@scene_app.callback()
def scene() -> None:
    """Bring a capture into the layout that the platform reads; look at what a scene lacks."""


@scene_app.command("init")
def init(
    name: Annotated[str, typer.Option("--name", help="The scene's name: <dataset>_<rest>, such as garden_bench.")],
    nerfstudio: Annotated[
        Path | None, typer.Option("--nerfstudio", help="A transforms.json, or the folder that holds it.", exists=True)
    ] = None,
    colmap: Annotated[
        Path | None,
        typer.Option("--colmap", help="A sparse model (binary or text), or a project with sparse/0.", exists=True),
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
    as_json: JsonOption = False,
) -> None:
    """Make a scene from a nerfstudio listing or a COLMAP sparse model. A scene that is there is never written over.

    Cameras keep the capture's world and unit of length. Images are JPEG files of the scene: JPEG is linked, the rest is
    converted at quality 95. `misc/import_record.json` of the scene says which image is which camera and frame.
    """
    from thesis_assets.scenes.importers import capture as arrangements
    from thesis_assets.scenes.importers.colmap import read_colmap
    from thesis_assets.scenes.importers.nerfstudio import read_nerfstudio
    from thesis_assets.scenes.importers.writing import refuse_existing, write_scene

    if (nerfstudio is None) == (colmap is None):
        raise typer.BadParameter("name one source: --nerfstudio <transforms.json> or --colmap <sparse model>")
    if one_frame and frames_from is not None:
        raise typer.BadParameter("--one-frame and --frames-from exclude each other")
    try:
        pattern = arrangements.compile_pattern(frames_from) if frames_from is not None else None
    except ValueError as error:
        raise typer.BadParameter(f"--frames-from: {error}") from error
    platform = load_platform()
    tree = platform.roots.tree(name)
    refuse_existing(tree, None, gaussians)
    capture = read_nerfstudio(nerfstudio, images=images) if nerfstudio else read_colmap(_given(colmap), images=images)
    arrangement = arrangements.frames_from(capture, pattern) if pattern else arrangements.one_frame(capture)
    source = arrangement.camera_called(source_camera) if source_camera is not None else None
    notes = [*capture.notes, *gaussians_notes(gaussians, arrangement), *group_notes(name)]
    if dry_run:
        report_init(name, capture, arrangement, notes, None, platform.roots, as_json)
        return
    imported = write_scene(
        platform.roots,
        name,
        capture,
        arrangement,
        source_camera=source,
        gaussians=gaussians,
        link_mode="copy" if copy else "auto",
        on_progress=progress_line,
    )
    report_init(name, capture, arrangement, notes, imported, platform.roots, as_json)


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
    as_json: JsonOption = False,
) -> None:
    """Say what a scene lacks for which task, and what is broken.

    Exit code 3: a file is broken, or something is missing for a task of `--for`.
    """
    from thesis_assets.scenes.catalog import PURPOSES
    from thesis_assets.scenes.scene import open_scene
    from thesis_assets.scenes.scene_check import check_scene

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
    failed = broken or bool(report.lacking(asked))
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


def scene_at(roots: "SceneRoots", folder: str) -> "tuple[SceneRoots, str]":
    """The roots and the name of a scene given by its name, or by its folder, which may lie outside the ground-truth root."""
    from thesis_assets.scenes.catalog import list_scenes

    if folder in list_scenes(roots):
        return roots, folder
    path = Path(os.path.abspath(folder))  # noqa: PTH100 - `resolve` would take the name of what a link leads to
    if path.parent in (roots.canonical_gt, roots.preprocessing) or not path.is_dir():
        return roots, path.name
    return dataclasses.replace(roots, canonical_gt=path.parent), path.name


def _given(path: Path | None) -> Path:
    assert path is not None  # one of the two sources is, by the check on top of `init`
    return path
